"""The test set, and what a method scores on it: the first place where labels and masks are seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltbench.atomic import write_whole
from ltbench.core import Dataset, Metrics, Prediction, Protocol, Sample, Split, sha256_of
from ltbench.cores import in_order, usable_cores
from ltbench.datasets.images import DiskImages
from ltbench.datasets.masks import read_mask
from ltbench.errors import ContractError, DataError
from ltbench.method import ImageSet, LeavesOut, Method, MethodInfo
from ltbench.metrics.groups import aggregate, evaluate_category, image_scores
from ltbench.records.maps import write_maps
from ltbench.records.record import REMEDY
from ltbench.runs.progress import ConsoleProgress
from ltbench.system import writing

CURVE = "learning_curve"
"""The note, the phase and the file of a learning curve."""

Predict = Callable[[str, list[str]], Prediction]
"""Gives the prediction of a category's images, by their paths."""

LIMITS = (0.01, 0.999)
"""Quantiles of a category's maps that are drawn as the coldest and the hottest colour."""

Measured = Callable[[str], AbstractContextManager[Any]]
"""Measures the phase it is given while its context lasts."""


@dataclass(frozen=True)
class Findings:
    """What a method scored: metrics, why some are missing, and the score of every test image by category.

    `limits` are the quantiles `LIMITS` of a category's maps, by category, from every eighth row and column.
    """

    metrics: Metrics
    missing: Mapping[str, Mapping[str, str]]
    scores: Mapping[str, list[dict[str, Any]]]
    limits: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Examination:
    """The test set of a split, ready to be scored.

    Args:
        split: which images test.
        dataset: where they are.
        protocol: how images become numbers.
        categories_visible: whether the method may be told the categories.
        progress: shows the stages.
        left_out: on a self-excluded split, test image -> positions of the training images that are left out for it.
    """

    split: Split
    dataset: Dataset
    protocol: Protocol
    categories_visible: bool
    progress: ConsoleProgress
    left_out: Mapping[str, tuple[int, ...]] | None = None

    def findings(self, method: Method, measured: Measured, maps: Path | None = None) -> Findings:
        """Score a method category by category.

        Args:
            method: a fitted method.
            measured: measures the phases "predict" and "evaluate".
            maps: folder where the anomaly maps go, or None.

        Raises:
            ContractError: the method returned something else than the contract says.
        """

        def predict(category: str, paths: list[str]) -> Prediction:
            images = DiskImages(self.dataset, paths, self.protocol, categories_visible=self.categories_visible)
            left_out = None if self.left_out is None else [self.left_out.get(path, ()) for path in paths]
            return _predict(method, images, category, left_out)

        return self.findings_of(predict, measured, maps)

    def findings_of(self, predict: Predict, measured: Measured, maps: Path | None = None) -> Findings:
        """Evaluate predictions category by category, so that the maps of one need not be kept for the next.

        Args:
            predict: gives the prediction of a category's test images, in order.
            measured: measures the phases "predict" and "evaluate".
            maps: folder where the anomaly maps go, or None.
        """
        values: dict[str, dict[str, float]] = {}
        reasons: dict[str, dict[str, str]] = {}
        scores: dict[str, list[dict[str, Any]]] = {}
        limits: dict[str, tuple[float, float]] = {}
        for number, category in enumerate(sorted(self.split.test), start=1):
            paths = shuffled(self.split.test[category])
            with self.progress.stage(f"predict {category} {number}/{len(self.split.test)}"), measured("predict"):
                prediction = predict(category, paths)
            with measured("evaluate"):
                values[category], reasons[category] = self._evaluate(prediction, paths)
            ranked = image_scores(prediction.scores, _maps(prediction), self.protocol)
            scores[category] = [
                {"path": path, "defect_type": self.dataset.by_path[path].defect_type, "score": float(score)}
                for path, score in zip(paths, ranked, strict=True)
            ]
            if prediction.has_maps:
                low, high = np.quantile(prediction.maps[:, ::8, ::8], LIMITS)
                limits[category] = (float(low), float(high))
            if maps is not None and prediction.has_maps:
                write_maps(maps, category, prediction.maps)
        metrics, missing = aggregate(values, reasons, self.split.high, self.split.low)
        return Findings(metrics, missing, scores, limits)

    def scores_of(self, method: Method, paths: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
        """Return the image scores of any images of the dataset, by category, ordered by path; nothing is evaluated.

        Args:
            method: a fitted method.
            paths: category -> images.
        """
        found = {}
        for category, own in sorted(paths.items()):
            images = DiskImages(self.dataset, sorted(own), self.protocol, categories_visible=self.categories_visible)
            with self.progress.stage(f"calibrate {category}"):
                prediction = _predict(method, images, category)
            ranked = image_scores(prediction.scores, _maps(prediction), self.protocol)
            found[category] = [float(score) for score in ranked]
        return found

    def _evaluate(self, prediction: Prediction, paths: list[str]) -> tuple[dict[str, float], dict[str, str]]:
        samples = [self.dataset.by_path[path] for path in paths]
        labels = np.array([sample.is_anomalous for sample in samples])
        masks = read_masks(self.dataset, samples, self.protocol) if prediction.has_maps else None
        return evaluate_category(prediction.scores, labels, _maps(prediction), masks, self.protocol)


class LearningCurve:
    """Scores a method every so many epochs. Nothing is chosen by it: the last epoch is what is reported.

    The points are kept in a file beside the checkpoints, so that an interruption loses none.

    Args:
        every: epochs from one point to the next.
        examination: the test set.
        folder: of the checkpoints.
    """

    def __init__(self, every: int, examination: Examination, folder: Path) -> None:
        self.every, self._examination, self._file = every, examination, folder / f"{CURVE}.json"
        self._points: dict[int, Metrics] = {}
        if self._file.exists():
            try:
                stored = json.loads(self._file.read_text(encoding="utf-8"))
                if isinstance(stored, dict):  # of before checksums: the points alone
                    if stored["checksum"] != sha256_of(stored["points"]):
                        raise ValueError("a checksum that differs")
                    stored = stored["points"]
                self._points = {point["epoch"]: point["metrics"] for point in stored}
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise DataError(
                    f"Expected a learning curve in {self._file}, got {error}. Remove {folder} to train anew."
                ) from error

    @property
    def points(self) -> list[dict[str, Any]]:
        """The epoch, counted from 1, and the metrics of each point, in order."""
        return [{"epoch": epoch, "metrics": self._points[epoch]} for epoch in sorted(self._points)]

    def __call__(self, epoch: int, method: Method) -> None:
        """Add a point if it is time for one.

        Args:
            epoch: epochs done.
            method: can predict, and goes on training afterwards.
        """
        if epoch % self.every:
            return
        progress = self._examination.progress
        self._points[epoch] = self._examination.findings(method, lambda _: progress.timed(CURVE)).metrics
        content = {"points": self.points, "checksum": sha256_of(self.points)}
        with writing(self._file, REMEDY):
            write_whole(self._file, json.dumps(content, allow_nan=False).encode())


def training_order(split: Split) -> list[str]:
    """Return the paths of a split's training images in the order in which a method sees them."""
    return shuffled(path for images in split.train.values() for path in (*images.normal, *images.contaminant))


def shuffled(paths: Iterable[str]) -> list[str]:
    """Return paths in an order that tells nothing: by the sha256 of the path.

    Sorted paths would put contaminants, whose folder is `test`, beside one another and categories in blocks.
    """
    return sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())


def read_masks(dataset: Dataset, samples: Sequence[Sample], protocol: Protocol) -> NDArray[np.bool_] | None:
    """Return the defect pixels of samples of one category, (N, H, W), or None if the category has no masks."""
    if all(sample.mask is None for sample in samples):
        return None
    tasks = (partial(read_mask, dataset, sample, protocol) for sample in samples)
    return np.stack(list(in_order(tasks, usable_cores())))


def _maps(prediction: Prediction) -> NDArray[np.float32] | None:
    return prediction.maps if prediction.has_maps else None


def _predict(
    method: Method, images: ImageSet, category: str, left_out: Sequence[Sequence[int]] | None = None
) -> Prediction:
    try:
        if left_out is None:
            prediction = method.predict(images)
        elif isinstance(method, LeavesOut):
            prediction = method.predict_without(images, left_out)
        else:
            raise ContractError("it does not offer predict_without")
        info: MethodInfo = getattr(method, "run_info", method.info)
        prediction.check(len(images), images.size, has_maps=info.has_maps)
    except ContractError as error:
        raise ContractError(f"{method.info.name}, predicting {category}: {error}") from error
    return prediction
