"""Whether what a run left is whole and says what its scores and maps say: checksums, and the metrics once more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.blocks.training.checkpoints import read_checkpoint
from ltbench.core import GOOD, Dataset
from ltbench.errors import DataError, LtbenchError
from ltbench.metrics.groups import aggregate, evaluate_category, evaluate_images, image_scores
from ltbench.metrics.registry import Level, metrics_of
from ltbench.records.integrity import CHECKSUMS, damaged_parts
from ltbench.records.maps import read_maps
from ltbench.records.record import MAPS, RECORD, RunRecord, checkpoints_folder
from ltbench.runs.examination import read_masks

TOLERANCE = 1e-9
"""How far a metric may lie from the stored one: another library's last digits."""

Find = Callable[[str], Dataset]
"""Returns a dataset by its name."""

Values = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class RunVerification:
    """What was found of one run.

    Args:
        run: its name.
        checked: the parts that were checked.
        faults: what is damaged or differs.
        unchecked: what was not checked, and why.
    """

    run: str
    checked: tuple[str, ...]
    faults: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that was checked differs."""
        return not self.faults


def runs_on_disk(results: Path) -> list[str]:
    """Return the runs that left a folder or checkpoints, sorted."""
    folders = (*(results / "runs").glob("[!.]*"), *(results / "checkpoints").glob("[!.]*"))
    return sorted({folder.name for folder in folders if folder.is_dir()})


def verify_run(results: Path, run: str, find: Find | None) -> RunVerification:
    """Check the record, the maps and the checkpoints of a run.

    Args:
        results: the results folder.
        run: the run's name.
        find: gives datasets, or None where there are no images: pixel metrics are not checked then.
    """
    check = _Check(results / "runs" / run, find)
    if check.folder.is_dir():
        check.record()
    check.checkpoints(checkpoints_folder(results, run))
    return RunVerification(run, tuple(check.checked), tuple(check.faults), tuple(check.unchecked))


class _Check:
    def __init__(self, folder: Path, find: Find | None) -> None:
        self.folder, self.find = folder, find
        self.checked: list[str] = []
        self.faults: list[str] = []
        self.unchecked: list[str] = []

    def record(self) -> None:
        """Check the record, its image metrics and, where there are any, its maps."""
        try:
            values: dict[str, Any] = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            if CHECKSUMS not in values:
                self.unchecked.append("record (not checksummed: of an older ltbench)")
            elif parts := damaged_parts(values):
                named = " and ".join("scores" if part == "scores" else "record" for part in parts)
                self.faults.append(f"the checksum of the {named} differs")
            record = RunRecord.from_json({name: value for name, value in values.items() if name != CHECKSUMS})
            self.checked.append("record")
            self._image_metrics(record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, LtbenchError) as error:
            self.faults.append(f"{RECORD} cannot be read: {error}")
            return
        if not record.method.has_maps:
            self._no_maps(record)
        elif (self.folder / MAPS).is_dir():
            self._maps(record)

    def checkpoints(self, folder: Path) -> None:
        """Check the checkpoints of a training that was interrupted."""
        for file in sorted(folder.glob("[!.]*.safetensors")):
            try:
                read_checkpoint(file)
                self.checked.append(f"checkpoint {file.stem}")
            except DataError as error:
                self.faults.append(str(error))

    def _image_metrics(self, record: RunRecord) -> None:
        values: dict[str, dict[str, float]] = {}
        reasons: dict[str, dict[str, str]] = {}
        for category, entries in record.scores.items():
            scores = np.array([entry["score"] for entry in entries])
            labels = np.array([entry["defect_type"] != GOOD for entry in entries])
            values[category], reasons[category] = evaluate_images(scores, labels, record.spec.protocol)
        self._compare(record, values, reasons, _ids("image", record), "scores")
        self.checked.append("image metrics")

    def _no_maps(self, record: RunRecord) -> None:
        """Note pixel metrics and maps of a method that gives none."""
        self.faults += [
            f"{metric}: values in the record, and {record.method.title} gives no maps"
            for metric in _ids("pixel", record)
            if record.metrics.get(metric)
        ]
        if (self.folder / MAPS).is_dir():
            self.faults.append(f"maps beside the record, and {record.method.title} gives none")
        self.checked.append("no pixel metrics, as the method gives no maps")

    def _maps(self, record: RunRecord) -> None:
        """Check the maps, and the pixel metrics that they give where there are masks."""
        dataset = self._dataset(record)
        values: dict[str, dict[str, float]] = {}
        reasons: dict[str, dict[str, str]] = {}
        for category, entries in record.scores.items():
            try:
                maps = read_maps(self.folder / MAPS, category, len(entries))
                scores = np.array([entry["score"] for entry in entries])
                if not np.array_equal(image_scores(scores, maps, record.spec.protocol), scores):
                    self.faults.append(f"scores of {category}: other ones follow from the saved maps")
                if dataset is not None:
                    samples = [dataset.by_path[entry["path"]] for entry in entries]
                    labels = np.array([sample.is_anomalous for sample in samples])
                    masks = read_masks(dataset, samples, record.spec.protocol)
                    found = evaluate_category(scores, labels, maps, masks, record.spec.protocol)
                    values[category], reasons[category] = found
            except KeyError as error:
                self.unchecked.append(f"pixel metrics of {category} (the dataset lacks {error})")
            except LtbenchError as error:
                self.faults.append(str(error))
        self.checked.append("maps")
        if dataset is not None and len(values) == len(record.scores):
            self._compare(record, values, reasons, _ids("pixel", record), "saved maps")
            self.checked.append("pixel metrics")
        elif dataset is not None:
            self.unchecked.append("pixel metrics (the maps of some categories are not whole)")

    def _dataset(self, record: RunRecord) -> Dataset | None:
        if self.find is None:
            self.unchecked.append("pixel metrics (masks are needed: pass --data-root)")
            return None
        try:
            return self.find(record.dataset)
        except LtbenchError as error:
            self.unchecked.append(f"pixel metrics ({error})")
            return None

    def _compare(
        self, record: RunRecord, values: Values, reasons: Mapping[str, Any], metrics: tuple[str, ...], source: str
    ) -> None:
        """Note every metric that is not the one that scores or maps give, categories and groups alike."""
        found = aggregate(values, reasons, record.high, record.low).values
        for metric in metrics:
            stored, true = record.metrics.get(metric, {}), found.get(metric, {})
            for group in dict.fromkeys((*true, *stored)):
                one, other = stored.get(group), true.get(group)
                if one is None or other is None:
                    same = one is other
                else:
                    same = math.isclose(one, other, rel_tol=0, abs_tol=TOLERANCE)
                if not same:
                    self.faults.append(
                        f"{metric} of {group}: {_text(one)} in the record, {_text(other)} by the {source}"
                    )


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.6f}"


def _ids(level: Level, record: RunRecord) -> tuple[str, ...]:
    """Return the ids of the metrics of a level that a record has; older records lack later metrics."""
    protocol, known = record.spec.protocol, {*record.metrics, *record.missing}
    own = [metric.id(protocol.aupro_limit) for metric in metrics_of(protocol) if metric.level == level]
    return tuple(name for name in own if name in known)
