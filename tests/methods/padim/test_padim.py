"""PaDiM on real features, against the definition, and on the reference lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import mahalanobis
from torch.nn import functional

from ltbench.blocks.features.extractor import FeatureExtractor, Maps
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Runtime
from methods.padim.method import PaDiM, _aligned
from tests.methods.reference import Reference, needs_shared


def make(**values: Any) -> PaDiM:
    return PaDiM(**resolve(PaDiM, {**presets(PaDiM)["offline"].parameters, **values}))


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    """Ten images of stripes in noise, 64 x 64; the last has a bright square."""
    rng = np.random.RandomState(0)
    pixels = 110 + 40 * np.sin(np.arange(64) / 3)[None, None, :, None] + rng.normal(0, 12, (10, 64, 64, 3))
    pixels[9, 20:40, 36:56] = 250
    return ArrayImages(pixels.clip(0, 255).astype(np.uint8))


def by_replication(maps: Maps) -> NDArray[np.float32]:
    """All channels on the first grid, (C, h, w): each coarse cell copied to the fine cells that it covers."""
    height, width = maps[0].shape[1:]
    fine = []
    for level in maps:
        rows = np.arange(height) * level.shape[1] // height
        columns = np.arange(width) * level.shape[2] // width
        fine.append(level[:, rows[:, None], columns])
    return np.concatenate(fine)


def test_maps_and_scores_are_those_of_the_definition(images: ArrayImages) -> None:
    train, test = ArrayImages(images.images[:8]), ArrayImages(images.images[8:])
    chosen = np.sort(np.random.RandomState(7).choice(24 + 40 + 112, 100, replace=False))
    extractor = FeatureExtractor("tf_efficientnet_lite0", (1, 2, 3), runtime=Runtime())
    good, other = (
        np.stack([by_replication(maps)[chosen].astype(np.float64) for maps in extractor.extract(part)])
        for part in (train, test)
    )
    grids = np.empty((2, 16, 16))
    for y, x in np.ndindex(16, 16):
        inverse = np.linalg.inv(np.cov(good[:, :, y, x], rowvar=False) + 0.01 * np.eye(100))
        for image in range(2):
            grids[image, y, x] = mahalanobis(other[image, :, y, x], good[:, :, y, x].mean(axis=0), inverse)
    resized = functional.interpolate(torch.tensor(grids)[None], size=64, mode="bilinear", align_corners=False)[
        0
    ].numpy()
    maps = np.stack([gaussian_filter(grid, sigma=4) for grid in resized])
    prediction = make().fit(train, Runtime(seed=7)).predict(test)
    np.testing.assert_allclose(prediction.maps, maps, rtol=1e-4)
    np.testing.assert_allclose(prediction.scores, maps.max(axis=(1, 2)), rtol=1e-4)
    assert prediction.scores[1] > prediction.scores[0]
    y, x = np.unravel_index(prediction.maps[1].argmax(), (64, 64))
    assert 16 <= y <= 44
    assert 32 <= x <= 60


def test_channels_are_drawn_by_the_seed(images: ArrayImages) -> None:
    one, same, other = (make().fit(images, Runtime(seed=seed)).channels_ for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(set(one.tolist())) == 100
    assert np.array_equal(make(dimensions=176).fit(images, Runtime()).channels_, np.arange(176))


def test_more_channels_than_there_are_is_refused(images: ArrayImages) -> None:
    with pytest.raises(SpecError, match="at most 176 dimensions"):
        make(dimensions=177).fit(images, Runtime())


def test_grids_that_do_not_divide_are_refused() -> None:
    maps = (np.zeros((2, 9, 9), np.float32), np.zeros((3, 5, 5), np.float32))
    with pytest.raises(SpecError, match="divide 9x9, got 5x5"):
        _aligned(maps, [np.arange(2), np.arange(3)])


def test_presets_are_chosen_by_split() -> None:
    assert choose_preset(PaDiM, None, "mvtec_k4_noisy10_seed1").name == "paper_mvtec_step"
    assert choose_preset(PaDiM, None, "mvtec_pareto_noisy10_official1").name == "paper_mvtec_pareto"
    assert choose_preset(PaDiM, None, "mvtec_full").name == "paper_mvtec"
    assert choose_preset(PaDiM, None, "visa_pareto_noisy05").name == "paper_visa"
    assert {preset.protocol for preset in presets(PaDiM).values()} == {"tailedcore"}
    known = presets(PaDiM)
    assert resolve(PaDiM, known["paper_visa"].parameters) == resolve(PaDiM)


@needs_shared
@pytest.mark.slow
def test_scores_on_a_reference_list(reference: Reference) -> None:
    """Regression values, measured with this code: the reference has none for PaDiM."""
    found = reference.scores("padim", "industrial7_k4_noisy10_ref0")
    expected = {"head": 76.4, "tail": 80.3, "all": 78.6, "pixel_all": 83.4}
    assert found == pytest.approx(expected, abs=1.0)
