"""SoftPatch: what it keeps and how it scores, against plain loops on real features."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor

from ltbench.blocks.memory_bank.bank import PatchEmbedder
from ltbench.blocks.memory_bank.rows import in_memory
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.softpatch.method import SoftPatch

OFFLINE = presets(SoftPatch)["offline"].parameters
POSITIONS = 16

Patches = NDArray[np.float32]


def make(**values: Any) -> SoftPatch:
    return SoftPatch(**resolve(SoftPatch, {**OFFLINE, **values}))


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    """Twenty images of stripes in noise, 64 x 64; the first has a bright square."""
    rng = np.random.RandomState(0)
    stripes = 110 + 40 * np.sin(np.arange(64) / 3)[None, None, :, None]
    pixels = stripes + rng.normal(0, 12, (20, 64, 64, 3))
    pixels[0, 16:48, 16:48] = 250
    return ArrayImages(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def patches(images: ArrayImages) -> Patches:
    embedder = PatchEmbedder("tf_efficientnet_lite0", (2, 3), "pretrained", "pooled", 1024, runtime=Runtime())
    return in_memory(embedder.matrix(images))


def projected(patches: Patches, rng: np.random.RandomState) -> NDArray[np.float64]:
    """An untrained linear layer without bias."""
    limit = 1 / np.sqrt(patches.shape[1])
    weight = rng.uniform(-limit, limit, (patches.shape[1], 128)).astype(np.float32)
    return (patches @ weight).astype(np.float64)


def lof(patches: Patches, rng: np.random.RandomState, k: int) -> NDArray[np.float64]:
    """scikit-learn's factors at each position."""
    points = projected(patches, rng).reshape(-1, POSITIONS, 128)
    models = [LocalOutlierFactor(n_neighbors=k).fit(points[:, position]) for position in range(POSITIONS)]
    return np.stack([-model.negative_outlier_factor_ for model in models], axis=1).ravel()


def farthest(points: NDArray[np.float64], nearest: NDArray[np.float64], first: int) -> Iterator[int]:
    """Pick the farthest point again and again; `nearest` are squared distances, 0 at points that are not wanted."""
    pick = first
    while True:
        yield pick
        nearest = np.minimum(nearest, ((points - points[pick]) ** 2).sum(axis=1))
        pick = int(nearest.argmax())


def take(picks: Iterator[int], ratio: str, n: int) -> list[int]:
    return [next(picks) for _ in range(int(Fraction(ratio) * n))]


def assert_memory(method: SoftPatch, patches: Patches, kept: list[int], weights: NDArray[np.float64]) -> None:
    assert np.array_equal(method.memory_.arrays()["memory"], patches[kept])
    np.testing.assert_allclose(method.patch_weights_, weights[kept], rtol=1e-4)


def test_removal_keeps_a_coreset_of_the_rows_below_the_quantile(images: ArrayImages, patches: Patches) -> None:
    rng = np.random.RandomState(11)
    weights = lof(patches, rng, k=6)
    rows = np.flatnonzero(weights < np.quantile(weights, 0.85))
    points = projected(patches, rng)[rows]
    picks = take(farthest(points, np.full(len(rows), np.inf), rng.randint(len(rows))), "0.1", len(rows))
    assert_memory(make().fit(images, Runtime(seed=11)), patches, rows[picks].tolist(), weights)
    assert len(picks) == 27


def test_weighted_sampling_picks_a_tenth_of_all_rows(images: ArrayImages, patches: Patches) -> None:
    rng = np.random.RandomState(11)
    weights = lof(patches, rng, k=5)
    wanted = weights <= np.quantile(weights, 0.85)
    points = projected(patches, rng)
    starts = rng.choice(len(points), 128, replace=False)
    anchors = np.mean([np.sqrt(((points - points[start]) ** 2).sum(axis=1)) for start in starts], axis=0)
    picks = take(farthest(points, np.where(wanted, anchors**2, 0), int(anchors.argmax())), "0.1", len(points))
    assert wanted[picks[1:]].all()
    assert_memory(make(filtering="weighted", lof_k=5).fit(images, Runtime(seed=11)), patches, picks, weights)
    assert len(picks) == 32


def test_what_is_removed_is_the_defect(images: ArrayImages, patches: Patches) -> None:
    defect = {tuple(patch) for patch in patches[:POSITIONS]}
    runtime = Runtime()
    kept = make(coreset_ratio=1.0).fit(images, runtime).memory_.arrays()["memory"]
    noted = runtime.notes["memories"]["clean"]
    assert noted["patches"] == sum(noted["by_image"]) == len(kept)
    assert noted["by_image"][0] == 0
    assert len(noted["by_image"]) == len(images)
    assert len(kept) == 272
    assert not any(tuple(patch) in defect for patch in kept)
    without = make(coreset_ratio=1.0, outlier_share=0.0).fit(images, Runtime()).memory_.arrays()["memory"]
    assert len(without) == 319, "without a share only the largest weight is not below the quantile"


def test_a_score_is_the_squared_distance_times_the_weight_of_the_nearest_row(
    images: ArrayImages, patches: Patches
) -> None:
    method = make().fit(images, Runtime())
    memory = method.memory_.arrays()["memory"].astype(np.float64)
    squares = ((patches[:, None].astype(np.float64) - memory) ** 2).sum(axis=2)
    soft = squares.min(axis=1) * method.patch_weights_[squares.argmin(axis=1)]
    highest = soft.reshape(-1, POSITIONS).max(axis=1)
    prediction = method.predict(images)
    np.testing.assert_allclose(prediction.scores, highest, rtol=1e-4)
    assert prediction.scores.argmax() == 0
    hard = make(soft_weight=False).fit(images, Runtime()).predict(images)
    np.testing.assert_allclose(hard.scores, squares.min(axis=1).reshape(-1, POSITIONS).max(axis=1), rtol=1e-4)


def test_presets_are_chosen_by_split() -> None:
    chosen = {
        "mvtec_k4_noisy10_seed1": "paper_mvtec_step",
        "mvtec_k1_noisy10_official2": "paper_mvtec_step",
        "mvtec_pareto_noisy10": "paper_mvtec_pareto",
        "visa_k4_noisy05": "paper_visa",
        "visa_pareto_noisy05_seed3": "paper_visa",
        "mvtec_step100_noisy10": "official",
    }
    for split, name in chosen.items():
        preset = choose_preset(SoftPatch, None, split)
        assert preset.name == name
        assert preset.protocol == "tailedcore"


def test_the_presets_of_the_tables_are_the_defaults() -> None:
    known = presets(SoftPatch)
    for name in ("paper_mvtec_step", "paper_mvtec_pareto", "paper_visa"):
        assert resolve(SoftPatch, known[name].parameters) == resolve(SoftPatch)


def test_a_saved_method_keeps_its_weights(images: ArrayImages, tmp_path: Path) -> None:
    method = make().fit(images, Runtime())
    method.save(tmp_path)
    assert np.array_equal(SoftPatch.load(tmp_path).patch_weights_, method.patch_weights_)
