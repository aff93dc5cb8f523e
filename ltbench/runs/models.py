"""Fitted methods on disk: `<run>/model`, what `Method.save` wrote beside `model.json`, which says what it is.

The folder needs nothing else of the run and can be copied to another machine. It serves there with the same ltbench,
method and weights alone: other ones would give other scores than those that its thresholds are of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ltbench.atomic import write_whole
from ltbench.contract.parameters import hyper_parameters
from ltbench.contract.registry import method_class
from ltbench.core import GOOD, Protocol, sha256_of
from ltbench.errors import DataError, LtbenchError, SpecError
from ltbench.method import Method, MethodInfo
from ltbench.records.inspection import find_folder
from ltbench.records.record import RunRecord
from ltbench.runs.provenance import differences, provenance

MODEL = "model"
"""The folder of a run's fitted method, beside its record."""
MANIFEST = "model.json"
CALIBRATION = "calibration"
"""The note of a record that holds the scores of the training images that were kept aside."""
_CHECKSUM = "checksum"

Limits = Mapping[str, tuple[float, float]]
"""Category -> the values of its maps that are drawn as the coldest and the hottest colour."""


@dataclass(frozen=True)
class SavedModel:
    """What a saved method says of itself.

    Args:
        run: the run that fitted it.
        split: what it was fitted on.
        method: what the method declares.
        protocol: how images are resized and cropped, and how a map becomes a score.
        provenance: package, version, source and weights that it was fitted with.
        calibration: category -> scores of the training images that were kept aside.
        tested: category -> "good" and "defective" -> scores of the test images.
        limits: category -> the values of its maps that pictures begin and end at.
        folder: where it lies.
    """

    run: str
    split: str
    method: MethodInfo
    protocol: Protocol
    provenance: Mapping[str, Any]
    calibration: Mapping[str, list[float]]
    tested: Mapping[str, Mapping[str, list[float]]]
    limits: Limits
    folder: Path

    @property
    def categories(self) -> list[str]:
        """The categories that it was fitted on and tested with, sorted."""
        return sorted(self.tested)

    def load(self) -> Method:
        """Return the fitted method.

        Raises:
            SpecError: it was fitted with another version, other code or other weights than there are now.
            DataError: a file is missing or damaged.
        """
        cls = method_class(self.method.name)
        method = cls.load(self.folder)
        now = provenance(cls, {one.name: getattr(method, one.name) for one in hyper_parameters(cls)}, {})
        if changed := differences(self.provenance, now, self.method.name):
            raise SpecError(
                f"Expected what the model in {self.folder} was fitted with, got another: {changed} since. "
                f"Fit it anew with `ltbench run -m {self.method.name} -s {self.split} --save-model`, or install what "
                "it needs."
            )
        return method


def write_manifest(folder: Path, record: RunRecord, limits: Limits) -> None:
    """Write what a saved method is, beside it.

    Args:
        folder: where `Method.save` wrote.
        record: of the run that fitted it.
        limits: of its maps.
    """
    tested = {
        category: {
            "good": [entry["score"] for entry in entries if entry["defect_type"] == GOOD],
            "defective": [entry["score"] for entry in entries if entry["defect_type"] != GOOD],
        }
        for category, entries in record.scores.items()
    }
    content = {
        "run": record.spec.hash,
        "split": record.spec.split,
        "method": asdict(record.method),
        "protocol": asdict(record.spec.protocol),
        "provenance": dict(record.provenance or {}),
        "calibration": record.notes.get(CALIBRATION, {}).get("scores", {}),
        "tested": tested,
        "limits": {category: list(own) for category, own in limits.items()},
    }
    text = json.dumps({**content, _CHECKSUM: sha256_of(content)}, indent=1, allow_nan=False)
    write_whole(folder / MANIFEST, (text + "\n").encode("ascii"))


def find_model(run: str, results: Path) -> SavedModel:
    """Return the saved method of a run, given as the model's folder, the run's, or the first digits of its hash.

    Raises:
        DataError: there is no such run, or what it saved cannot be read.
        SpecError: the run saved none.
    """
    if (Path(run) / MANIFEST).is_file():
        return _read(Path(run))
    folder = find_folder(run, results)
    if not (folder / MODEL / MANIFEST).is_file():
        raise SpecError(
            f"Expected a saved model in {folder}, got none. Repeat the command of that run with --save-model."
        )
    return _read(folder / MODEL)


def _read(folder: Path) -> SavedModel:
    file = folder / MANIFEST
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content.pop(_CHECKSUM) != sha256_of(content):
            raise ValueError("a checksum that differs: it was edited")
        content["method"] = MethodInfo(**content["method"])
        content["protocol"] = Protocol(**content["protocol"])
        content["limits"] = {name: (float(low), float(high)) for name, (low, high) in content["limits"].items()}
        return SavedModel(**content, folder=folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LtbenchError, RecursionError) as error:
        raise DataError(f"Expected a saved model in {file}, got {error}. Save it again with --save-model.") from error
