"""The nouns of ltbench as frozen dataclasses that check themselves.

`Sample` and `Dataset` say what lies on disk, `Split` which of it trains and tests, `Protocol` how an image becomes a
number, `Prediction` what a method returned, and `RunSpec` what was run. See docs/architecture.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ltbench.errors import ContractError, DataError, SpecError

GOOD = "good"
"""The defect type of an image without a defect (the MVTec AD convention)."""

Metrics = Mapping[str, Mapping[str, float]]
"""Metric id (`image_auroc`) -> group (a category, `high`, `low` or `avg`) -> value in [0, 1]."""


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN. What is hashed is this text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(value: object) -> str:
    """Return the hexadecimal sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def check_relative(path: str) -> None:
    """Raise `DataError` unless `path` is a relative POSIX path that stays below its root."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts or ":" in parts[0]:
        raise DataError(f"Expected a path relative to the dataset root, got {path!r}. Remove '..' and leading slashes.")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Args:
        path: where the image lies, relative to the dataset root, with forward slashes; its identity.
        category: the kind of object ("bottle").
        defect_type: "good" or the kind of defect ("crack").
        mask: the ground-truth mask, relative to the dataset root, or None where there is none.
    """

    path: str
    category: str
    defect_type: str = GOOD
    mask: str | None = None

    def __post_init__(self) -> None:
        check_relative(self.path)
        if self.mask is not None:
            check_relative(self.mask)

    @property
    def is_anomalous(self) -> bool:
        """Whether the image shows a defect."""
        return self.defect_type != GOOD


@dataclass(frozen=True)
class Dataset:
    """A dataset: its images with the published partition into train and test.

    Args:
        name: "mvtec", "visa", ... or the name given to a folder.
        categories: every category, in the dataset's published order (the order of long tails).
        train: the published training images, all of them good.
        test: the published test images.
        root: the folder on disk; None when only the listing is known (MVTec's splits need no images).
        files: sample path -> file relative to the root, where a release keeps an image under another name than the
            one that identifies it (VisA converted to the MVTec layout).
    """

    name: str
    categories: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    root: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.by_path) != len(self.train) + len(self.test):
            raise DataError(f"Expected every image of {self.name} once, got a path twice. Remove the duplicate.")
        unknown = {sample.category for sample in self.by_path.values()} - set(self.categories)
        if unknown:
            raise DataError(f"Expected images of {list(self.categories)}, got {sorted(unknown)}. List them.")
        if any(sample.is_anomalous for sample in self.train):
            raise DataError(f"Expected good images to train on, got a defective one in {self.name}. Move it to test.")

    @cached_property
    def by_path(self) -> Mapping[str, Sample]:
        """Every sample of both parts by its path."""
        return {sample.path: sample for sample in (*self.train, *self.test)}

    def train_of(self, category: str) -> tuple[Sample, ...]:
        """Return the training samples of one category, sorted by path."""
        return self._by_category[0].get(category, ())

    def test_of(self, category: str) -> tuple[Sample, ...]:
        """Return the test samples of one category, sorted by path."""
        return self._by_category[1].get(category, ())

    @cached_property
    def _by_category(self) -> tuple[Mapping[str, tuple[Sample, ...]], Mapping[str, tuple[Sample, ...]]]:
        return _grouped(self.train), _grouped(self.test)

    def file(self, path: str) -> Path:
        """Return the file on disk of a sample's image or mask.

        Raises:
            DataError: the dataset was listed without a folder, or the path would leave the folder.
        """
        if self.root is None:
            raise DataError(f"Expected the images of {self.name}, got their listing only. Pass --data-root DIR.")
        relative = self.files.get(path, path)
        check_relative(relative)
        return self.root / relative


def _grouped(samples: Iterable[Sample]) -> dict[str, tuple[Sample, ...]]:
    ordered = sorted(samples, key=lambda sample: (sample.category, sample.path))
    return {category: tuple(group) for category, group in groupby(ordered, key=lambda sample: sample.category)}


@dataclass(frozen=True, slots=True)
class TrainImages:
    """The training images of one category: paths of the good ones and of the defective ones hidden among them."""

    normal: tuple[str, ...]
    contaminant: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """Which samples train, which test, and how they were chosen. `sha256` is its identity.

    Args:
        name: "mvtec_step100_noisy10_seed3".
        dataset: the dataset's name.
        recipe: how it was made, as plain JSON values (profile, imbalance, noise, ...).
        seed: the seed of the choice of images.
        high: the majority categories (the head), in class order.
        low: the minority categories (the tail), in class order.
        train: category -> training images.
        test: category -> paths of the test images.
    """

    name: str
    dataset: str
    recipe: Mapping[str, Any]
    seed: int
    high: tuple[str, ...]
    low: tuple[str, ...]
    train: Mapping[str, TrainImages]
    test: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        for category, images in self.train.items():
            paths = (*images.normal, *images.contaminant)
            if len(set(paths)) != len(paths):
                raise DataError(
                    f"Expected each image once in {self.name}, got one of {category!r} twice. Make it anew."
                )
            if not images.normal:
                raise DataError(f"Expected training images of {category!r} in {self.name}, got none. Raise the counts.")
        if not self.train or set(self.train) != set(self.test):
            raise DataError(f"Expected the same categories in train and test of {self.name}. Make the split anew.")
        if set(self.high) | set(self.low) != set(self.train) or set(self.high) & set(self.low):
            raise DataError(f"Expected every category of {self.name} in high or low. Make the split anew.")

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category, the head first, in class order."""
        return self.high + self.low

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Category -> number of normal and contaminant training images."""
        return {
            category: {"normal": len(images.normal), "contaminant": len(images.contaminant)}
            for category, images in self.train.items()
        }

    def payload(self) -> dict[str, Any]:
        """Return what the split consists of, as plain JSON values; its `sha256` is the hash of this."""
        return {
            "name": self.name,
            "dataset": self.dataset,
            "recipe": dict(self.recipe),
            "seed": self.seed,
            "high": list(self.high),
            "low": list(self.low),
            "counts": self.counts,
            "train": {
                category: {"normal": list(images.normal), "contaminant": list(images.contaminant)}
                for category, images in self.train.items()
            },
            "test": {category: list(paths) for category, paths in self.test.items()},
        }

    @cached_property
    def sha256(self) -> str:
        """The identity of the split: the hash of all that it consists of."""
        return sha256_of(self.payload())


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that changes a number without being the method.

    Args:
        name: "common", "ltad", "tailedcore", "rlr".
        resize: side in pixels that the image is resized to.
        resize_mode: "exact" gives resize x resize (the aspect is not kept); "short_side" keeps the aspect.
        crop: side in pixels of the centre crop, or None for none.
        mask_interpolation: how a mask is resized.
        mask_rule: which resized mask values are defect pixels: "positive" (> 0) or "full" (exactly 1, the floor of a
            bilinear resize).
        image_score: "method" takes the method's own; "smoothed_map_max" the maximum of the map after a Gaussian.
        image_score_sigma: that Gaussian's standard deviation in pixels.
        interpolation: how an image is resized.
        aupro_limit: false-positive rate up to which AUPRO integrates.
        aupro_connectivity: neighbours that join two pixels to one region (4 or 8).
        averaging: over categories, always unweighted.
        epoch: which epoch of a trained method is reported, always the last.
    """

    name: str
    resize: int
    resize_mode: Literal["exact", "short_side"] = "exact"
    crop: int | None = None
    mask_interpolation: Literal["nearest", "bilinear"] = "nearest"
    mask_rule: Literal["positive", "full"] = "positive"
    image_score: Literal["method", "smoothed_map_max"] = "method"
    image_score_sigma: float = 4.0
    interpolation: Literal["bilinear"] = "bilinear"
    aupro_limit: float = 0.3
    aupro_connectivity: Literal[4, 8] = 8
    averaging: Literal["unweighted over categories"] = "unweighted over categories"
    epoch: Literal["last"] = "last"

    def __post_init__(self) -> None:
        if self.resize < 1 or (self.crop is not None and not 1 <= self.crop <= self.resize):
            raise SpecError(f"Expected 1 <= crop <= resize in protocol {self.name!r}, got {self.crop}, {self.resize}.")
        if self.resize_mode == "short_side" and self.crop is None:
            raise SpecError(f"Expected a crop in protocol {self.name!r}, since images keep their aspect. Set crop.")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image and every anomaly map, in pixels."""
        side = self.resize if self.crop is None else self.crop
        return (side, side)

    def payload(self) -> dict[str, Any]:
        """Return every setting as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a method says of N images.

    Args:
        scores: image scores, (N,) float32, finite, higher = more anomalous.
        maps: anomaly maps, (N, H, W) float32, finite, higher = more anomalous.

    Raises:
        ContractError: an array of another type or shape, or one that is not finite.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, array, ndim in (("scores", self.scores, 1), ("maps", self.maps, 3)):
            if not isinstance(array, np.ndarray) or array.dtype != np.float32:
                kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise ContractError(f"Expected float32 {name}, got {kind}. Return numpy arrays as float32.")
            if array.ndim != ndim:
                raise ContractError(f"Expected {ndim}-dimensional {name}, got shape {array.shape}. Reshape them.")
            if not np.isfinite(array).all():
                raise ContractError(f"Expected finite {name}, got NaN or infinity. Look for a division by zero.")
        if len(self.scores) != len(self.maps):
            raise ContractError(
                f"Expected as many scores as maps, got {len(self.scores)} and {len(self.maps)}. Return one an image."
            )

    def check(self, count: int, size: tuple[int, int]) -> None:
        """Raise `ContractError` unless there is one map of `size` (height, width) for each of `count` images."""
        if self.maps.shape != (count, *size):
            raise ContractError(
                f"Expected maps of shape {(count, *size)}, got {self.maps.shape}. Resize maps to the image size."
            )


@dataclass(frozen=True)
class RunSpec:
    """What is run: enough to run it again. `hash` names the run.

    Args:
        method: the method's registry name.
        parameters: every hyper-parameter, resolved, as plain JSON values.
        split: the split's name.
        split_sha256: the split's identity.
        protocol: how images become numbers.
        seed: the seed of the method.
    """

    method: str
    parameters: Mapping[str, Any]
    split: str
    split_sha256: str
    protocol: Protocol
    seed: int = 0

    def payload(self) -> dict[str, Any]:
        """Return the specification as plain JSON values."""
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "split": self.split,
            "split_sha256": self.split_sha256,
            "protocol": self.protocol.payload(),
            "seed": self.seed,
        }

    @cached_property
    def hash(self) -> str:
        """The name of the run: 16 hexadecimal digits of the sha256 of the specification."""
        return sha256_of(self.payload())[:16]
