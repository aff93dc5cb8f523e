"""Run a RunSpec: wrap the split's images, fit, predict category by category, evaluate, and leave a record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ltbench.blocks.features.store import scratch_folder
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, method_class
from ltbench.core import Dataset, Split
from ltbench.datasets.images import DiskImages
from ltbench.datasets.index import load_dataset, load_listing, locate
from ltbench.errors import AbsentError, DataError, FullDiskError
from ltbench.method import AnnotatedImageSet, Runtime
from ltbench.records.failures import Failure, clear_failure, write_failure
from ltbench.records.record import (
    MAPS,
    RECORD,
    RunRecord,
    checkpoints_folder,
    drop_barren,
    new_folder,
    read_record,
    run_folder,
    write_record,
)
from ltbench.runs.auxiliary import auxiliary_dataset, lent, run_digests
from ltbench.runs.claims import Claim, claimed
from ltbench.runs.devices import check_precision, device_faults
from ltbench.runs.diagnostics import diagnose
from ltbench.runs.environment import peak_memory
from ltbench.runs.examination import CURVE, Examination, LearningCurve, training_order
from ltbench.runs.harness import Harness
from ltbench.runs.lacking import absent_weights, all_that_lacks, works_now
from ltbench.runs.memory import MemoryPlan, image_counts, plan_memory
from ltbench.runs.models import CALIBRATION, MODEL, Limits, write_manifest
from ltbench.runs.planning import Plan, check_applicable, check_plan, plan
from ltbench.runs.progress import ConsoleProgress, Position
from ltbench.runs.provenance import keep_checkpoints, keep_digests, provenance, refuse_stale, with_new_weights
from ltbench.runs.recording import record_of
from ltbench.runs.self_matches import NOTE as SELF_EXCLUDED
from ltbench.runs.self_matches import Matches, counted, self_matches
from ltbench.splits.files import find_split
from ltbench.splits.held_out import PERCENT, held_out, hold_out
from ltbench.splits.noise import shortfalls
from ltbench.splits.readings import is_self_excluded
from ltbench.system import as_ours


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run: its record, its folder, and whether it was found rather than run."""

    record: RunRecord
    folder: Path
    reused: bool


def run_by_name(
    method: str,
    split: str,
    data_root: Path | None,
    harness: Harness,
    preset: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    seed: int = 0,
    calibrate: int = 0,
) -> Outcome:
    """Run a method on a split, each given by name, as `ltbench run` does.

    Args:
        method: registry name.
        split: name or file of a split.
        data_root: folder of the datasets.
        harness: where and how it runs.
        preset: preset name or None.
        parameters: hyper-parameters that override the preset.
        protocol: protocol name or None.
        seed: seed of the method.
        calibrate: percent of the training images that are kept aside for thresholds (`ltbench.splits.held_out`).

    Raises:
        AbsentError: the images are not on this machine; the message names what else is not, and what works now.
        LtbenchError: as `plan` and `run`.
    """
    overrides = parameters or {}
    cls = method_class(method)  # a wrong name is told before anything is read
    try:
        found = find_split(split, lambda name: load_listing(name, data_root))
        root = locate(found.dataset, data_root)
    except AbsentError as error:
        values = resolve(cls, choose_preset(cls, preset, split).parameters, overrides)
        raise all_that_lacks(error, cls, values, data_root) from error
    if calibrate:
        found = hold_out(found, calibrate)
    planned = plan(method, found, preset=preset, parameters=overrides, protocol=protocol, seed=seed)
    check_applicable(planned, found)
    for shortfall in shortfalls(found):
        harness.progress.say(shortfall)
    if not root.exists():
        harness.progress.say(f"drawing {found.dataset} into {root}, once (about half a minute)")
    try:
        return run(planned, found, load_dataset(found.dataset, data_root), replace(harness, data_root=data_root))
    except DataError as error:
        if absent_weights(planned.values) is None:
            raise
        raise DataError(" ".join((str(error), *works_now(cls)))) from error


def run(planned: Plan, split: Split, dataset: Dataset, harness: Harness) -> Outcome:
    """Run a plan, or find its finished record. A run that fails leaves a failure record.

    Raises:
        NotApplicableError: the method cannot train on the split.
        SpecError: it does not fit in the memory limit or on its device, or what the finished run was made of has
            changed since.
        DataError: the split names images that the dataset lacks, or one that cannot be read.
        ContractError: the method returned something else than the contract says.
        BusyError: another process is doing the run, and the harness does not wait.
        FullDiskError: there is no room; no failure is recorded, the same call goes on once there is.
        LtbenchError: the results folder cannot be written to, or the system refuses something else.
    """
    check_applicable(planned, split)
    check_precision(harness.device, planned.values)
    folder, spec = run_folder(harness.results, planned.spec), planned.spec
    if harness.save_maps and not planned.info.has_maps:
        harness.progress.say(f"{planned.info.title} gives no maps: there are none to keep (--save-maps)")
        harness = replace(harness, save_maps=False)
    if (record := _finished(folder, harness)) is not None:
        return _found(record, planned, split, dataset, harness)
    describe = _describe(planned, harness.progress)
    with claimed(harness.results, spec.hash, describe, wait=harness.wait, say=harness.progress.warn) as claim:
        if (record := _finished(folder, harness)) is not None:  # by another process, a moment ago
            return _found(record, planned, split, dataset, harness)
        try:
            with device_faults(harness.device, lambda: harness.progress.position.title):
                record = _record(planned, split, dataset, harness, claim)
        except Exception as error:
            claim.check()
            drop_barren(harness.results, spec.hash)
            ours = as_ours(error)
            if not isinstance(ours, FullDiskError):  # that is no fault of the run, and there is no room to say so
                with suppress(OSError):
                    write_failure(harness.results, Failure.of(spec.hash, spec.payload(), error))
            if ours is None or ours is error:
                raise
            raise ours from error
        clear_failure(harness.results, spec.hash)
    return Outcome(record, folder, reused=False)


def _found(record: RunRecord, planned: Plan, split: Split, dataset: Dataset, harness: Harness) -> Outcome:
    """Return a finished run, or raise `SpecError` if it is of other images, weights or code than there are now."""
    if record.provenance is not None:
        digests = run_digests(split, dataset, auxiliary_dataset(planned, harness.data_root))
        now = provenance(planned.method, planned.values, digests)
        refuse_stale(harness.results, record, now, digests, split)
    return Outcome(record, run_folder(harness.results, planned.spec), reused=True)


def _finished(folder: Path, harness: Harness) -> RunRecord | None:
    """Return the record of a finished run that serves, or None. One that cannot be read is reported and does not."""
    kept = {MAPS: harness.save_maps, MODEL: harness.save_model}
    lacking = any(wanted and not (folder / name).is_dir() for name, wanted in kept.items())
    if harness.force or lacking or not (folder / RECORD).is_file():
        return None
    try:
        record = read_record(folder)
    except DataError as error:
        harness.progress.say(f"repeating a run whose record is damaged: {error}")
        return None
    if harness.eval_every and CURVE not in record.notes:
        harness.progress.say("this run is finished and has no learning curve; --force repeats it with one")
    return record


def _describe(planned: Plan, progress: ConsoleProgress) -> Callable[[], dict[str, Any]]:
    """Return what the claim tells of a run while it goes on."""
    progress.position = Position()  # a process may do many runs
    spec, since = planned.spec, time.time()
    run = {"method": spec.method, "split": spec.split, "seed": spec.seed, "preset": planned.preset, "since": since}
    return lambda: {**run, "position": asdict(progress.position)}


def _record(planned: Plan, split: Split, dataset: Dataset, harness: Harness, claim: Claim) -> RunRecord:
    """Run a plan and put its record in place, unless another process took the run over meanwhile."""
    ahead = check_plan(planned, split, dataset)
    for sentence in ahead.told:
        harness.progress.say(sentence)
    auxiliary = auxiliary_dataset(planned, harness.data_root)
    digests = run_digests(split, dataset, auxiliary)
    annotated, note = lent(auxiliary, planned, digests)
    matches = self_matches(split, training_order(split), digests) if is_self_excluded(split) else None
    origin = provenance(planned.method, planned.values, digests)
    keep_checkpoints(checkpoints_folder(harness.results, planned.spec.hash), origin, harness.progress.say)
    memory = _plan_memory(planned, split, harness)
    with new_folder(run_folder(harness.results, planned.spec)) as temporary:
        kept = {MAPS: harness.save_maps, MODEL: harness.save_model}
        for name in (own for own, wanted in kept.items() if wanted):
            (temporary / name).mkdir()
        record, limits = _run(planned, split, dataset, harness, temporary, memory, annotated, matches)
        origin = with_new_weights(origin, planned.method, planned.values)
        record = replace(record, provenance=origin, notes={**record.notes, **ahead.notes, **note})
        claim.check()
        if harness.save_model:
            write_manifest(temporary / MODEL, record, limits)
        write_record(temporary, record)
        keep_digests(harness.results, digests)
    checkpoints = checkpoints_folder(harness.results, planned.spec.hash)  # kept until all is written
    shutil.rmtree(checkpoints, ignore_errors=True)
    return record


def _plan_memory(planned: Plan, split: Split, harness: Harness) -> MemoryPlan | None:
    """Return what the run will take, and say so."""
    method, limit = planned.method(**planned.values), harness.memory_limit
    counts = image_counts(split, planned.spec.protocol)
    memory = plan_memory(method, counts, limit, scratch_folder(), harness.device)
    if memory is not None:
        harness.progress.say(memory.text)
    elif limit is not None:
        harness.progress.say(f"{planned.method.info.title} does not say what memory it takes: it runs without a limit")
    return memory


def _run(
    planned: Plan,
    split: Split,
    dataset: Dataset,
    harness: Harness,
    folder: Path,
    bounds: MemoryPlan | None,
    annotated: AnnotatedImageSet | None,
    matches: Matches | None,
) -> tuple[RunRecord, Limits]:
    """Fit and score; return the record, and what pictures of the maps begin and end at."""
    spec, progress = planned.spec, harness.progress
    progress.seconds.clear()
    memory: dict[str, float] = {}
    info = planned.info
    examination = Examination(split, dataset, spec.protocol, info.uses_categories, progress, matches)
    checkpoints = checkpoints_folder(harness.results, spec.hash)
    curve = LearningCurve(harness.eval_every, examination, checkpoints) if harness.eval_every else None
    runtime = Runtime(
        spec.seed,
        harness.device,
        harness.feature_store,
        checkpoints=checkpoints,
        checkpoint_minutes=harness.checkpoint_minutes,
        after_epoch=curve,
        progress=progress,
        auxiliary=annotated,
    )
    if bounds is not None:
        scratch = scratch_folder() if bounds.streamed else None
        runtime = replace(runtime, scratch=scratch, memory_limit=bounds.allowance, notes={"memory": bounds.note})

    def measured(phase: str) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(progress.timed(phase))
        stack.enter_context(peak_memory(memory, phase))
        return stack

    order = training_order(split)
    told = info.uses_categories or info.uses_training_categories
    images = DiskImages(dataset, order, spec.protocol, categories_visible=told)
    with progress.stage("fit"), measured("fit"):
        method = planned.method(**planned.values).fit(images, runtime)
    if harness.save_model:
        method.save(folder / MODEL)
        size = sum(file.stat().st_size for file in (folder / MODEL).iterdir())
        progress.say(f"the fitted method takes {size / 2**20:,.1f} MiB")
    found = examination.findings(method, measured, folder / MAPS if harness.save_maps else None)
    notes = dict(runtime.notes)
    if aside := held_out(split):
        notes[CALIBRATION] = {"percent": split.recipe[PERCENT], "scores": examination.scores_of(method, aside)}
    if matches is not None:
        notes[SELF_EXCLUDED] = counted(split, matches)
    if curve is not None:
        notes[CURVE] = curve.points
    if diagnostics := diagnose(runtime.notes, order, split):
        notes["diagnostics"] = diagnostics
    record = record_of(
        spec, info, planned.preset, split, found,
        seconds=progress.seconds, memory=memory, device=harness.device, notes=notes,
    )  # fmt: skip
    return record, found.limits
