"""Which samples train and which test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ltbench.core.identity import sha256_of
from ltbench.errors import DataError

GROUPS = ("high", "low", "avg")
"""The groups of categories beside the categories themselves; no category may be called like one."""


def imbalance_of(counts: Mapping[str, Mapping[str, int]]) -> float:
    """Return the realised imbalance: normal training images of the largest category over those of the smallest.

    Args:
        counts: category -> number of normal and contaminant training images.
    """
    normal = [count["normal"] for count in counts.values()]
    return max(normal) / min(normal)


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
        if taken := sorted(set(GROUPS) & set(self.train)):
            raise DataError(
                f"Expected categories of other names than the groups {', '.join(GROUPS)}, got {taken[0]!r} in "
                f"{self.dataset}. Rename its folder."
            )
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
