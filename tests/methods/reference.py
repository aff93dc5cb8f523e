"""What methods score on the reference lists of industrial8, and what an independent implementation scores there.

The lists, the numbers and how near one should come are those of `reference/README.md` in ../shared: image AUROC and
pixel AUROC in percent, each a mean over the lists ref0 to ref2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.contract.registry import method_class, presets
from ltbench.core import Dataset, Split, TrainImages
from ltbench.datasets.folder import index_tree
from ltbench.runs.harness import Harness
from ltbench.runs.planning import plan
from ltbench.runs.runner import run
from ltbench.splits.importers import import_list
from ltbench.splits.readings import Reading, suffix_of
from tests.shared import SHARED

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")

LISTS = 3
"""Lists of each kind: ref0, ref1 and ref2."""

BALANCED = "industrial7_balanced"
"""Not a list, but all training images of its seven categories, with the head and tail that the lists have."""

Scores = dict[str, float]
"""Image AUROC of "head", "tail" and "all", and "pixel_all", in percent."""

EXPECTED: Mapping[str, Mapping[str, Scores]] = {
    "industrial7_k4_noisy10": {
        "patchcore": {"head": 70.1, "tail": 80.3, "all": 75.9, "pixel_all": 80.5},
        "softpatch": {"head": 86.9, "tail": 55.2, "all": 68.8, "pixel_all": 84.8},
        "tailedcore": {"head": 86.4, "tail": 81.9, "all": 83.8, "pixel_all": 88.7},
        "tailedcore with the true tails": {"head": 87.2, "tail": 81.5, "all": 83.9, "pixel_all": 89.0},
    },
    "industrial8_k4_noisy10": {
        "patchcore": {"head": 63.9, "tail": 78.6, "all": 73.1, "pixel_all": 78.5},
        "softpatch": {"head": 73.4, "tail": 58.5, "all": 64.1, "pixel_all": 80.1},
        "tailedcore": {"head": 72.7, "tail": 79.5, "all": 76.9, "pixel_all": 84.0},
        "tailedcore with the true tails": {"head": 72.9, "tail": 79.9, "all": 77.3, "pixel_all": 84.1},
    },
    "industrial7_k4_clean": {
        "patchcore": {"head": 91.2, "tail": 80.8, "all": 85.3},
        "softpatch": {"head": 89.1, "tail": 55.0, "all": 69.6},
        "tailedcore": {"head": 88.9, "tail": 82.3, "all": 85.1},
        "tailedcore with the true tails": {"head": 88.8, "tail": 81.6, "all": 84.7},
    },
}
"""Kind of list -> method -> the reference's means."""

ONE_LIST: Mapping[str, Mapping[str, Scores]] = {
    BALANCED: {
        "mean_image": {"head": 57.5, "tail": 63.1, "all": 60.7, "pixel_all": 36.3},
        "uniad": {"head": 88.0, "tail": 83.4, "all": 85.4, "pixel_all": 89.3},
        "rlr": {"head": 92.5, "tail": 80.2, "all": 85.4, "pixel_all": 91.8},
    },
    "industrial7_k4_clean_ref0": {
        "mean_image": {"head": 46.7, "tail": 66.1, "all": 57.8, "pixel_all": 36.9},
        "uniad": {"head": 88.6, "tail": 73.6, "all": 80.0, "pixel_all": 84.9},
        "rlr": {"head": 91.8, "tail": 78.5, "all": 84.2, "pixel_all": 90.3},
    },
    "industrial7_k4_noisy10_ref0": {
        "mean_image": {"head": 46.5, "tail": 66.0, "all": 57.7, "pixel_all": 36.6},
        "uniad": {"head": 88.4, "tail": 72.7, "all": 79.4, "pixel_all": 84.6},
        "rlr": {"head": 91.3, "tail": 77.5, "all": 83.4, "pixel_all": 90.0},
    },
}
"""List -> method -> the numbers of the authors' modules (seed 0), on protocol `ltad`."""

TOLERANCE: Mapping[str, Scores] = {
    "mean_image": {"head": 1.0, "tail": 1.0, "all": 1.0, "pixel_all": 1.0},
    "uniad": {"head": 2.0, "tail": 4.0, "all": 2.0, "pixel_all": 1.0},
    "rlr": {"head": 2.0, "tail": 4.0, "all": 2.0, "pixel_all": 1.0},
    "patchcore": {"head": 3.0, "tail": 2.5, "all": 1.5, "pixel_all": 1.5},
    "softpatch": {"head": 3.0, "tail": 5.0, "all": 3.5, "pixel_all": 3.5},
    "tailedcore": {"head": 3.0, "tail": 2.5, "all": 2.0, "pixel_all": 2.0},
}
"""How far from the reference a mean may be; for pixel AUROC it is taken to be what it is for "all"."""


@dataclass
class Reference:
    """Runs methods on the reference lists; runs and features are kept in a folder, so that tests share them.

    Args:
        folder: of results and features.
    """

    folder: Path

    def scores(
        self,
        method: str,
        list_name: str,
        *,
        preset: str = "offline",
        reading: Reading = "overlap",
        seed: int = 0,
        **values: Any,
    ) -> Scores:
        """Return what a method scores on one list.

        Args:
            method: registry name.
            list_name: "industrial7_k4_noisy10_ref0", the name of a csv file without its ending.
            preset: the method's preset.
            reading: what becomes of contaminants in the test set.
            seed: seed of the method.
            values: hyper-parameters that override the preset.
        """
        split = self.split(list_name, reading=reading)
        protocol = presets(method_class(method))[preset].protocol  # the reference's, which a folder does not take
        planned = plan(method, split, preset=preset, parameters=values, protocol=protocol, seed=seed)
        metrics = run(planned, split, self._dataset, self._harness).record.metrics
        image, pixel = metrics["image_auroc"], metrics["pixel_auroc"]
        found = {"head": image["high"], "tail": image["low"], "all": image["avg"], "pixel_all": pixel["avg"]}
        return {group: 100 * value for group, value in found.items()}

    def split(self, list_name: str, *, reading: Reading = "overlap") -> Split:
        """Return the split of a list, or of `BALANCED`."""
        dataset = self._dataset
        source = "industrial7_k4_clean_ref0" if list_name == BALANCED else list_name
        file = SHARED / "reference" / f"{source}.csv"
        split = import_list(file, dataset, list_name + suffix_of(reading), reading=reading)
        if list_name != BALANCED:
            return split
        train = {c: TrainImages(tuple(sample.path for sample in dataset.train_of(c))) for c in split.categories}
        return replace(split, train=train, recipe={"profile": "full"})

    def means(self, method: str, kind: str, **options: Any) -> Scores:
        """Return the means over the lists of a kind ("industrial7_k4_noisy10"); options are those of `scores`."""
        found = [self.scores(method, f"{kind}_ref{number}", **options) for number in range(LISTS)]
        return {group: float(np.mean([scores[group] for scores in found])) for group in found[0]}

    @cached_property
    def _dataset(self) -> Dataset:
        return index_tree(SHARED / "data" / "industrial8", "industrial8")

    @cached_property
    def _harness(self) -> Harness:
        return Harness(self.folder / "results", feature_store=DiskFeatureStore(self.folder / "features"))


def assert_near(found: Scores, kind: str, method: str, row: str | None = None, **tolerances: float) -> None:
    """Fail unless means are as near to the reference's as its authors ask for.

    Args:
        found: of `Reference.means`, or of `Reference.scores` for one list.
        kind: kind of list, or the list.
        method: whose tolerances count.
        row: the reference's row, where it is not named like the method.
        tolerances: by group, where they are not the method's.
    """
    expected = {**EXPECTED, **ONE_LIST}[kind][row or method]
    tolerance = {**TOLERANCE[method], **tolerances}
    far = {
        group: f"{found[group]:.2f} instead of {value} +- {tolerance[group]}"
        for group, value in expected.items()
        if abs(found[group] - value) > tolerance[group]
    }
    assert not far, f"{method} on {kind}: {far}"
