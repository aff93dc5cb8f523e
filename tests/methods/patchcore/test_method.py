"""PatchCore: its golden selection, its score, and the numbers of an independent implementation on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ltbench.blocks.memory_bank.bank import choose_coreset
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.projection import project
from ltbench.blocks.memory_bank.rows import in_memory
from ltbench.contract.registry import choose_preset, presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Runtime
from methods.patchcore.method import PatchCore

OFFLINE = {"backbone": "tf_efficientnet_lite0", "embedding": "pooled", "coreset": "exact"}


def _images(count: int, seed: int) -> ArrayImages:
    rng = np.random.RandomState(seed)
    return ArrayImages(rng.randint(90, 160, (count, 64, 64, 3)).astype(np.uint8))


def _choose(points: np.ndarray, sampling: str, seed: int = 0) -> list[int]:
    rng = np.random.RandomState(seed)
    chosen = choose_coreset(points, 0.1, sampling, projection_dim=128, starting_points=10, rng=rng)  # type: ignore[arg-type]
    return [int(index) for index in chosen]


def test_the_authors_picks() -> None:
    """The released samplers' picks on 60 points of 128 dimensions, where no projection is drawn."""
    rng = np.random.RandomState(2)
    points = rng.randn(60, 128).astype(np.float32)
    points[10] *= 4
    points[33] *= 3
    assert _choose(points, "exact") == [44, 10, 33, 50, 23, 17]
    assert _choose(points, "approximate") == [10, 33, 23, 56, 45, 17]
    assert _choose(points, "none") == list(range(60))


def test_the_projection_has_the_distribution_of_a_linear_layer() -> None:
    unit = np.eye(1024, dtype=np.float32)
    weights = in_memory(project(unit, 128, np.random.RandomState(0)))
    assert weights.shape == (1024, 128)
    assert 0.999 / 32 < np.abs(weights).max() <= 1 / 32
    assert project(weights, 128, np.random.RandomState(0)) is weights, "nothing is drawn for 128 dimensions"


def test_the_projection_does_not_depend_on_the_number_of_rows() -> None:
    patches = np.random.RandomState(0).randn(40_000, 16).astype(np.float32)
    whole = project(patches, 8, np.random.RandomState(1))
    assert np.array_equal(whole[:16384], in_memory(project(patches[:16384], 8, np.random.RandomState(1))))


def test_a_training_image_scores_zero_when_everything_is_kept() -> None:
    train = _images(3, 0)
    method = PatchCore(backbone="tf_efficientnet_lite0", embedding="pooled", coreset="none").fit(train, Runtime())
    prediction = method.predict(train)
    assert prediction.scores.max() == 0
    assert prediction.maps.max() == 0
    assert method.predict(_images(2, 9)).scores.min() > 0


def test_the_mean_over_neighbours_is_no_less_than_the_nearest() -> None:
    train, test = _images(4, 0), _images(2, 5)
    settings = {**OFFLINE, "coreset": "none"}
    one = PatchCore(**settings).fit(train, Runtime()).predict(test)  # type: ignore[arg-type]
    three = PatchCore(**settings, neighbours=3).fit(train, Runtime()).predict(test)  # type: ignore[arg-type]
    assert (three.scores > one.scores).all()


def test_the_bank_holds_a_tenth_of_the_patches() -> None:
    method = PatchCore(**OFFLINE).fit(_images(10, 0), Runtime())  # type: ignore[arg-type]
    assert len(method.memory_) == 10 * 16 // 10


def test_another_seed_gives_another_bank() -> None:
    train, test = _images(10, 0), _images(2, 5)
    first, second = (PatchCore(**OFFLINE).fit(train, Runtime(seed=seed)).predict(test) for seed in (0, 1))  # type: ignore[arg-type]
    assert not np.array_equal(first.maps, second.maps)


def test_no_images_is_an_error() -> None:
    empty = ArrayImages(np.empty((0, 64, 64, 3), np.uint8))
    with pytest.raises(SpecError, match="none"):
        PatchCore(**OFFLINE).fit(empty, Runtime())  # type: ignore[arg-type]


def test_presets_follow_the_split() -> None:
    assert choose_preset(PatchCore, None, "mvtec_k4_noisy10_seed1").name == "tailedcore"
    assert choose_preset(PatchCore, None, "visa_pareto_noisy05_seed1").name == "tailedcore"
    assert choose_preset(PatchCore, None, "mvtec_step100").name == "paper"
    assert choose_preset(PatchCore, None, "parts_step20").name == "defaults"
    assert set(presets(PatchCore)) == {"tailedcore", "paper", "offline"}


def test_a_saved_bank_is_safetensors(tmp_path: Path) -> None:
    method = PatchCore(**OFFLINE).fit(_images(5, 0), Runtime(seed=7))  # type: ignore[arg-type]
    method.save(tmp_path)
    loaded = PatchCore.load(tmp_path)
    assert loaded.seed_ == 7
    assert loaded.layers == (2, 3)
    assert isinstance(loaded.memory_, NearestNeighbours)
