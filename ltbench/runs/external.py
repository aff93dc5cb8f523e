"""Enter predictions that were made elsewhere as an ordinary record, marked as external."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ltbench import __version__
from ltbench.core import Dataset, RunSpec, Split, sha256_of
from ltbench.errors import SpecError, UnknownNameError
from ltbench.method import MethodInfo
from ltbench.protocols import DEFAULT_PROTOCOL, protocol_named
from ltbench.records.record import RECORD, RunRecord, new_folder, read_record, run_folder, write_record
from ltbench.runs.claims import Claim, claimed
from ltbench.runs.environment import peak_memory
from ltbench.runs.examination import Examination
from ltbench.runs.harness import Harness
from ltbench.runs.planning import prospects
from ltbench.runs.predictions import Predictions, find_predictions
from ltbench.runs.provenance import Digests, keep_digests, refuse_stale, split_digests
from ltbench.runs.recording import record_of
from ltbench.runs.runner import Outcome
from ltbench.splits.checking import check_split
from ltbench.splits.readings import is_self_excluded

TOLD = {
    "categories": "uses_categories",
    "training_categories": "uses_training_categories",
    "annotated_data": "uses_annotated_data",
    "test_images_jointly": "is_transductive",
    "trained_test_images": "recognises_training_images",
}
"""What `--told` takes, and the privilege that it declares."""

EXTERNAL = "external"
"""The preset of external records, and what their methods' names begin with."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What is said of predictions, by whoever hands them in.

    Args:
        title: the method's name as tables print it ("LTOAD").
        paper: arXiv id or DOI, or None.
        told: which privileges the method had, out of `TOLD`.
        seed: which of several trainings this was.

    Raises:
        SpecError: an empty title.
        UnknownNameError: a privilege that there is none of.
    """

    title: str
    paper: str | None = None
    told: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not re.search(r"\w", self.title):
            raise SpecError(f"Expected a name of the method, got {self.title!r}. Pass --method NAME.")
        for name in self.told:
            if name not in TOLD:
                raise UnknownNameError("privilege", name, TOLD)

    def info(self, *, has_maps: bool) -> MethodInfo:
        """Return what the method declares; its name is made of the title's letters and digits."""
        plain = re.sub(r"[^a-z0-9]+", "_", self.title.lower()).strip("_") or sha256_of(self.title)[:8]
        flags = {TOLD[name]: True for name in self.told}
        return MethodInfo(f"{EXTERNAL}_{plain}", self.title, self.paper, has_maps=has_maps, is_external=True, **flags)


def evaluate(
    submission: Submission,
    folder: Path,
    split: Split,
    dataset: Dataset,
    harness: Harness,
    protocol: str | None = None,
    scores: Path | None = None,
) -> Outcome:
    """Score predictions and keep a record, or find the record of the same predictions.

    Args:
        submission: what is said of them.
        folder: of the maps (`ltbench.runs.predictions`).
        split: what the method trained on, and was tested with.
        dataset: the images and masks.
        harness: where records are kept.
        protocol: name, or None for `common`.
        scores: csv file of image scores.

    Raises:
        DataError: predictions that are missing, cannot be read or do not fit; nothing is written.
        SpecError: a self-excluded split, or a record of other predictions has that name.
    """
    chosen = protocol_named(protocol or DEFAULT_PROTOCOL)
    if is_self_excluded(split):
        raise SpecError(
            f"Expected a split whose test images are scored by all that a method has learnt, got {split.name}, where "
            "the suite tells the method what to leave out. Hand in predictions for the overlap or the disjoint split."
        )
    check_split(split, dataset)
    predictions = find_predictions(folder, split, scores)
    info = submission.info(has_maps=bool(predictions.maps))
    if not predictions.maps and chosen.image_score != "method":
        raise SpecError(
            f"Expected maps, from which protocol {chosen.name} takes image scores, got scores alone. Pass --protocol."
        )
    spec = RunSpec(info.name, {}, split.name, split.sha256, chosen, submission.seed)
    for sentence in _told(predictions, split):
        harness.progress.say(sentence)
    digests = split_digests(split, dataset)
    with claimed(harness.results, spec.hash, wait=harness.wait, say=harness.progress.say) as claim:
        record = _finished(spec, info, _origin(predictions, digests), harness, digests, split)
        if record is not None:
            return Outcome(record, run_folder(harness.results, spec), reused=True)
        return _enter(spec, info, predictions, split, dataset, harness, digests, claim)


def _finished(
    spec: RunSpec, info: MethodInfo, origin: Mapping[str, Any], harness: Harness, digests: Digests, split: Split
) -> RunRecord | None:
    """Return the record of the same predictions, or None; raise `SpecError` if it is of others or says otherwise."""
    folder = run_folder(harness.results, spec)
    if harness.force or not (folder / RECORD).is_file():
        return None
    record = read_record(folder)
    before = record.provenance or {}
    if before.get("weights") != origin["weights"]:
        raise SpecError(
            f"Expected the predictions that {info.title} on {split.name} was scored by, got others. --force replaces "
            "them; another method needs a name of its own, another training a --seed."
        )
    refuse_stale(harness.results, record, origin, digests, split)
    if record.method != info:
        raise SpecError(
            f"Expected what was said of {info.title} when it was scored, got another --told or --paper. Say the same, "
            "or pass --force."
        )
    return record


def _enter(
    spec: RunSpec,
    info: MethodInfo,
    predictions: Predictions,
    split: Split,
    dataset: Dataset,
    harness: Harness,
    digests: Digests,
    claim: Claim,
) -> Outcome:
    ahead, progress = prospects(split, dataset, spec.protocol), harness.progress
    for sentence in ahead.told:
        progress.say(sentence)
    progress.seconds.clear()
    memory: dict[str, float] = {}

    def measured(phase: str) -> AbstractContextManager[Any]:
        return peak_memory(memory, phase)

    examination = Examination(split, dataset, spec.protocol, info.uses_categories, progress)
    with progress.timed("evaluate"):
        found = examination.findings_of(lambda _, paths: predictions.of(dataset, paths, spec.protocol), measured)
    source = "csv" if predictions.scores is not None else "maximum of each map"
    notes = {"image_scores": source, **ahead.notes}
    record = record_of(
        spec, info, EXTERNAL, split, found, seconds=progress.seconds, memory=memory, device="cpu", notes=notes
    )
    record = replace(record, provenance=_origin(predictions, digests))
    target = run_folder(harness.results, spec)
    with new_folder(target) as temporary:
        write_record(temporary, record)
        keep_digests(harness.results, digests)
        claim.check()
    return Outcome(record, target, reused=False)


def _origin(predictions: Predictions, digests: Digests) -> dict[str, Any]:
    """Return the provenance of an external record: its files take the place of weights and code."""
    return {
        "images": sha256_of(dict(digests)),
        "files": len(digests),
        "weights": {"predictions": predictions.sha256},
        "package": "ltbench",
        "version": __version__,
        "source": "",
    }


def _told(predictions: Predictions, split: Split) -> Iterable[str]:
    if predictions.odd:
        yield (
            f"{len(predictions.odd)} files of {predictions.folder} belong to no test image of {split.name} and are "
            f"left out: {', '.join(predictions.odd[:3])}{' ...' if len(predictions.odd) > 3 else ''}"
        )
    if predictions.scores is None:
        yield "no csv of image scores: each image's score is the maximum of its map"
