"""Which test images to look at, one of each defect or the worst misses and false alarms, and their saved maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ltbench.core import GOOD, Dataset
from ltbench.datasets.images import DiskImages
from ltbench.datasets.masks import read_mask
from ltbench.errors import SpecError, UnknownNameError
from ltbench.metrics.thresholds import f1_threshold
from ltbench.records.maps import read_maps
from ltbench.records.record import MAPS, RunRecord, read_record
from ltbench.runs.examination import LIMITS

Kind = Literal["defect", "miss", "false alarm"]


@dataclass(frozen=True, slots=True)
class Example:
    """One test image and why it is looked at.

    Args:
        category: the kind of object.
        path: which image.
        defect_type: "good" or the kind of defect.
        kind: "defect" for an example of its defect type, "miss" or "false alarm" of the first run.
        share: how bad a miss (share of the category's good images that score higher) or a false alarm (share of its
            anomalous images that score lower) is.
    """

    category: str
    path: str
    defect_type: str
    kind: Kind = "defect"
    share: float = 0.0

    @property
    def title(self) -> str:
        """What is said of it, without its path."""
        text = f"{self.category}, {self.defect_type}"
        if self.kind == "miss":
            return f"{text}: missed, {self.share:.0%} of the good images score higher"
        if self.kind == "false alarm":
            return f"{text}: false alarm, {self.share:.0%} of the anomalous images score lower"
        return text


class SavedMaps:
    """A run's anomaly maps on disk.

    Raises:
        SpecError: the run kept none; the message says how to make them.
    """

    def __init__(self, folder: Path) -> None:
        self.record: RunRecord = read_record(folder)
        self._folder = folder / MAPS
        if not self.record.method.has_maps:
            raise SpecError(
                f"Expected a run with anomaly maps, got {self.record.spec.hash}: {self.record.method.title} gives no "
                "maps. Leave it out."
            )
        if not self._folder.is_dir():
            spec = self.record.spec
            raise SpecError(
                f"Expected anomaly maps of run {spec.hash} in {self._folder}, got none. Repeat it with "
                f"`ltbench run -m {spec.method} -s {spec.split} --seed {spec.seed} --preset {self.record.preset} "
                "--save-maps --force`, and the -p options that it had."
            )

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        scores = self.record.scores
        return {str(entry["path"]): (name, place) for name, own in scores.items() for place, entry in enumerate(own)}

    def map_of(self, path: str) -> NDArray[np.float32] | None:
        """Return an image's map scaled so that 0 and 1 are the category's `LIMITS`, or None if it was not tested.

        Raises:
            DataError: the file of the category cannot be read, or holds other maps than the record says.
        """
        if path not in self._places:
            return None
        category, place = self._places[path]
        maps, low, high = self._category(category)
        return scaled_between(maps[place], low, high)

    def _category(self, category: str) -> tuple[NDArray[np.float32], float, float]:
        if self._loaded[0] != category:
            self._loaded = (category, self._read(category))
        return self._loaded[1]

    _loaded: tuple[str, tuple[NDArray[np.float32], float, float]] = ("", (np.zeros((0, 0, 0), np.float32), 0.0, 1.0))

    def _read(self, category: str) -> tuple[NDArray[np.float32], float, float]:
        maps = read_maps(self._folder, category, len(self.record.scores[category]))
        low, high = np.quantile(maps, LIMITS)
        return maps, float(low), float(high)


def scaled_between(own: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Return a map scaled so that 0 and 1 are `low` and `high`; what lies outside is cut."""
    scaled = (own - low) / max(high - low, float(np.finfo(np.float32).tiny))
    return np.asarray(np.clip(scaled, 0, 1), dtype=np.float32)


def one_of_each_defect(record: RunRecord, categories: Sequence[str] = ()) -> list[Example]:
    """Return the first test image of each defect type of the categories, all by default.

    Raises:
        UnknownNameError: a category without test images.
    """
    found: dict[tuple[str, str], str] = {}
    for category in _chosen(record, categories):
        for entry in sorted(record.scores[category], key=lambda entry: str(entry["path"])):
            if entry["defect_type"] != GOOD:
                found.setdefault((category, entry["defect_type"]), entry["path"])
    return [Example(category, path, defect) for (category, defect), path in sorted(found.items())]


def worst(record: RunRecord, count: int, categories: Sequence[str] = ()) -> list[Example]:
    """Return the worst misses and then the worst false alarms of a run, at most `count` of each.

    A category's threshold is the one of its largest F1: an anomalous image below it is a miss, a good one at or above
    it a false alarm. They are ordered by `Example.share`, which is comparable between categories as scores are not.

    Raises:
        UnknownNameError: a category without test images.
    """
    misses, alarms = [], []
    for category in _chosen(record, categories):
        entries = record.scores[category]
        scores = np.array([entry["score"] for entry in entries])
        is_anomalous = np.array([entry["defect_type"] != GOOD for entry in entries])
        if is_anomalous.all() or not is_anomalous.any():
            continue
        threshold = f1_threshold(scores, is_anomalous)
        for entry, score, anomalous in zip(entries, scores, is_anomalous, strict=True):
            if anomalous and score < threshold:
                share = float(np.mean(scores[~is_anomalous] > score))
                misses.append(Example(category, entry["path"], entry["defect_type"], "miss", share))
            elif not anomalous and score >= threshold:
                share = float(np.mean(scores[is_anomalous] < score))
                alarms.append(Example(category, entry["path"], entry["defect_type"], "false alarm", share))
    ordered = [sorted(own, key=lambda example: (-example.share, example.path))[:count] for own in (misses, alarms)]
    return [example for own in ordered for example in own]


def picture_of(dataset: Dataset, record: RunRecord, path: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Return a test image and its defect pixels as a run saw them; None for a category without masks.

    Raises:
        DataError: image or mask are missing or unreadable.
    """
    protocol, sample = record.spec.protocol, dataset.by_path.get(path)
    image = DiskImages(dataset, [path], protocol)[0]
    if sample is None or (sample.is_anomalous and sample.mask is None):
        return image, None
    return image, read_mask(dataset, sample, protocol)


def _chosen(record: RunRecord, categories: Sequence[str]) -> list[str]:
    for category in categories:
        if category not in record.scores:
            raise UnknownNameError(f"category of {record.dataset}", category, record.scores)
    return list(dict.fromkeys(categories)) or sorted(record.scores)
