"""What the numbers of a run are of: its images and masks, files of weights, and the method's code.

A record keeps one digest of all images and masks. The digest of each file lies beside the records, once for all runs on
the same files, and only words what has changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from ltbench import __version__
from ltbench.atomic import write_whole
from ltbench.core import Dataset, Split, canonical_json, sha256_of
from ltbench.datasets.digests import digests_of, split_files
from ltbench.errors import SpecError
from ltbench.method import Method
from ltbench.records.record import REMEDY, RunRecord
from ltbench.runs.environment import installed_version
from ltbench.system import writing

FOLDER = "digests"
"""Where below the results the digests of files lie, one file for each set of them."""

ORIGIN = "origin.json"
"""The file beside checkpoints that says what they were trained on."""

BACKBONE = "backbone"
"""The hyper-parameter that names a network of timm, beside `weights`."""

MODEL = "model"
"""The hyper-parameter that names an image-text model, perhaps beside `weights`."""

OWN = ("methods", "ltbench")

AUXILIARY = "auxiliary"
"""What the digests' paths of an annotated dataset begin with."""

Digests = Mapping[str, str]
"""Path in the dataset -> size and sha256 of the file."""


def split_digests(split: Split, dataset: Dataset, auxiliary: Dataset | None = None) -> Digests:
    """Return the digest of every image and mask of a run; what has not been touched since is not read again.

    Args:
        split: which images train and test.
        dataset: where they are.
        auxiliary: the annotated dataset that the method trains on besides, whose paths begin with "auxiliary/NAME/".
    """
    files = split_files(dataset, split)
    if auxiliary is not None:
        paths = [path for sample in auxiliary.test for path in (sample.path, sample.mask) if path is not None]
        files |= {f"{AUXILIARY}/{auxiliary.name}/{path}": auxiliary.file(path) for path in paths}
    found = digests_of(files.values())
    return {path: found[file] for path, file in files.items()}


def provenance(method: type[Method], values: Mapping[str, Any], digests: Digests) -> dict[str, Any]:
    """Return what a record keeps of where its numbers come from.

    Args:
        method: the method's class.
        values: its hyper-parameters; those that name a file or a folder are taken for weights, and `backbone` and
            `model` for names of pretrained ones.
        digests: of the images and masks.
    """
    package, version, source = _code_of(method)
    return {
        "images": sha256_of(dict(digests)),
        "files": len(digests),
        "weights": {name: text for name, value in values.items() if (text := _weights_of(value))} | _pretrained(values),
        "package": package,
        "version": version,
        "source": source,
    }


def keep_digests(results: Path, digests: Digests) -> None:
    """Write the digest of each file below a results folder, unless it is there; without room, changes get no words."""
    file = results / FOLDER / f"{sha256_of(dict(digests))}.json"
    if not file.exists():
        with suppress(OSError):
            write_whole(file, canonical_json(dict(digests)).encode("ascii"))


def what_changed(results: Path, record: RunRecord, now: Mapping[str, Any], digests: Digests, split: Split) -> str:
    """Return what changed since a run, in words; "" if nothing did, or if the record does not say.

    Args:
        results: where `keep_digests` wrote.
        record: of the run.
        now: `provenance` as it is now.
        digests: of the images and masks now.
        split: which of them train and test.
    """
    before = record.provenance
    if before is None:
        return ""
    images = ""
    if before["images"] != now["images"]:
        images = _images_changed(results / FOLDER / f"{before['images']}.json", digests, split)
    return "; ".join(part for part in (images, differences(before, now, record.spec.method)) if part)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], method: str) -> str:
    """Return in words how weights and code differ between two `provenance`s of a method; "" if they do not."""
    parts = []
    if changed := _weights_changed(before["weights"], now["weights"]):
        parts.append(f"the weights that {', '.join(changed)} names changed")
    if (before["package"], before["version"]) != (now["package"], now["version"]):
        parts.append(f"{before['package']} {before['version']} is {now['package']} {now['version']}")
    if before["source"] != now["source"]:
        parts.append(f"the code of {method} changed")
    return "; ".join(parts)


def refuse_stale(results: Path, record: RunRecord, now: Mapping[str, Any], digests: Digests, split: Split) -> None:
    """Raise `SpecError` if a finished run is of other images, weights or code than there are now."""
    if changed := what_changed(results, record, now, digests, split):
        raise SpecError(
            f"Expected what run {record.spec.hash} is of, got another: {changed} since this run. --force repeats it; "
            "another folder of the same name needs a name or --results of its own."
        )


def keep_checkpoints(folder: Path, now: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Let a training go on from checkpoints of the same images, weights and code alone; else it starts anew.

    Checkpoints of before this was written down are gone on from.
    """
    file = folder / ORIGIN
    if file.exists():
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            before = json.loads(file.read_text(encoding="utf-8"))
            if {**before, "weights": now["weights"]} == now and not _weights_changed(before["weights"], now["weights"]):
                return
        say("training anew: the checkpoints are of other images, weights or code")
        shutil.rmtree(folder)
    elif any(folder.glob("*.safetensors")):
        return
    with writing(file, REMEDY):
        write_whole(file, canonical_json(dict(now)).encode("ascii"))


def with_new_weights(origin: Mapping[str, Any], method: type[Method], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance of a run with the weights beside that it has downloaded."""
    return {**origin, "weights": {**provenance(method, values, {})["weights"], **origin["weights"]}}


def _weights_changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the hyper-parameters whose weights changed; pretrained ones that are not on this machine have not."""
    gone = {name: before.get(name) for name in (BACKBONE, MODEL)}
    return sorted(name for name, digest in before.items() if now.get(name, gone.get(name)) != digest)


def _images_changed(file: Path, digests: Digests, split: Split) -> str:
    """Return which images and masks changed, by part and category."""
    try:
        before: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "images or masks changed"
    changed = sorted(path for path in {*before, *digests} if before.get(path) != digests.get(path))
    part_of = {path: ("test images", category) for category, paths in split.test.items() for path in paths}
    for category, images in split.train.items():
        part_of |= dict.fromkeys((*images.normal, *images.contaminant), ("training images", category))
    counts = Counter(part_of.get(path, _other_part(path)) for path in changed)
    told = ", ".join(f"{count} {part} of {category}" for (part, category), count in sorted(counts.items()))
    return f"{told} changed, {changed[0]} first"


def _other_part(path: str) -> tuple[str, str]:
    first, second = path.split("/")[:2]
    return ("annotated images and masks", second) if first == AUXILIARY else ("masks", first)


def _weights_of(value: object) -> str:
    """Return the digest of the file or folder that a hyper-parameter names, or "" where it names none."""
    if not isinstance(value, str) or not value:
        return ""
    with suppress(OSError, ValueError):  # a text that is no path
        path = Path(value).resolve()
        if path.is_file():
            return digests_of([path])[path]
        if path.is_dir() and any(mark in value for mark in "/\\"):
            files = sorted(file for file in path.rglob("*") if file.is_file())
            found = digests_of(files)
            return sha256_of({file.relative_to(path).as_posix(): found[file] for file in files})
    return ""


def _pretrained(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the digest of what `backbone` and `model` name: files of a package, or in the hub's cache.

    Weights that are not there are left out: what reads them downloads them, or fails.
    """
    found = {BACKBONE: _backbone_files(values), MODEL: _model_files(values)}
    return {name: _digest_of(files) for name, files in found.items() if files}


def _backbone_files(values: Mapping[str, Any]) -> list[Path]:
    name, weights = values.get(BACKBONE), values.get("weights")
    if not isinstance(name, str) or not isinstance(weights, str):
        return []
    from ltbench.blocks.features.packaged_vit import named_file  # torch, which a method with a backbone has loaded

    file = named_file(name, weights)
    return [] if file is None else [file]


def _model_files(values: Mapping[str, Any]) -> list[Path]:
    name, weights = values.get(MODEL), values.get("weights", "")
    if not isinstance(name, str) or not isinstance(weights, str):
        return []
    from ltbench.blocks.vision_language.files import named_files  # transformers, which a method that reads has loaded

    return named_files(name, weights)


def _digest_of(files: Sequence[Path]) -> str:
    """Return the digest of a file, or of several with their names."""
    found = digests_of([file.resolve() for file in files])
    if len(files) == 1:
        return found[files[0].resolve()]
    return sha256_of({file.name: found[file.resolve()] for file in files})


def _code_of(method: type[Method]) -> tuple[str, str, str]:
    """Return the distribution of a method, its version, and the sha256 of the method's source."""
    module = method.__module__
    if module.split(".")[0] in OWN:
        return "ltbench", __version__, source_digest(method)
    names = _distributions().get(module.split(".")[0], [])
    package = names[0] if names else module.split(".")[0]
    return package, installed_version(package) or "", source_digest(method)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def source_digest(method: type[Method]) -> str:
    """Return the sha256 of the Python files of a method's package, or of its module where it is in none.

    Presets are left out: they are resolved into hyper-parameters, which name the run.
    """
    module = sys.modules[method.__module__]
    if module.__file__ is None:
        return ""
    own = Path(module.__file__)
    files = sorted(own.parent.rglob("*.py")) if module.__package__ and (own.parent / "__init__.py").exists() else [own]
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(own.parent).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
