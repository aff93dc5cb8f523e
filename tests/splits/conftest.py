"""Datasets without images: the published listings, and small ones made to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ltbench.core import Dataset, Sample
from ltbench.datasets import visa
from ltbench.datasets.index import load_listing
from tests.shared import SHARED

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED


@pytest.fixture(scope="session")
def mvtec_listing() -> Dataset:
    return load_listing("mvtec", None)


@pytest.fixture(scope="session")
def visa_listing(shared: Path) -> Dataset:
    return visa.read_listing(shared / "splits" / "visa_1cls.csv")


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """Return a function that lists a dataset from category -> (train, good test, defective test) counts."""

    def make(counts: Mapping[str, tuple[int, int, int]], name: str = "parts") -> Dataset:
        train, test = [], []
        for category, (normal, good, defective) in counts.items():
            train += [Sample(f"{category}/train/good/{n:04}.png", category) for n in range(normal)]
            test += [Sample(f"{category}/test/good/{n:04}.png", category) for n in range(good)]
            test += [Sample(f"{category}/test/crack/{n:04}.png", category, "crack") for n in range(defective)]
        return Dataset(name, tuple(counts), tuple(train), tuple(test))

    return make
