"""The spatial mean of a level comes with the patches, and changes none of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ltbench.blocks.features.extractor import FeatureExtractor
from ltbench.blocks.memory_bank.bank import PatchEmbedder
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Runtime

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    return ArrayImages(np.random.RandomState(0).randint(0, 256, (3, 64, 64, 3)).astype(np.uint8))


def embedder(weights: str = "pretrained", **options: Any) -> PatchEmbedder:
    return PatchEmbedder(LITE0, (2, 3), weights, "pooled", 1024, runtime=Runtime(seed=4), **options)


@pytest.mark.parametrize(("weights", "mean_layer"), [("pretrained", 0), ("pretrained", 3), ("random", 4)])
def test_means_of_any_level(images: ArrayImages, weights: str, mean_layer: int) -> None:
    patches, (means,) = embedder(weights, mean_layers=(mean_layer,)).matrix_and_means(images)
    np.testing.assert_array_equal(patches, embedder(weights).matrix(images))
    level = FeatureExtractor(LITE0, (mean_layer,), weights, runtime=Runtime(seed=4))
    np.testing.assert_array_equal(means, [maps[0].mean(axis=(1, 2)) for maps in level.extract(images)])


def test_patches_are_embedded_alike_with_and_without(images: ArrayImages) -> None:
    several = [patches for patches, grid in embedder(mean_layers=(4,)).embed(images) if grid == (4, 4)]
    np.testing.assert_array_equal(np.concatenate(several), embedder().matrix(images))


def test_the_mean_is_of_the_last_layer_by_default(images: ArrayImages) -> None:
    patches, (means,) = embedder().matrix_and_means(images)
    assert means.shape == (3, 112)
    level = FeatureExtractor(LITE0, (3,), runtime=Runtime())
    np.testing.assert_array_equal(means, [maps[0].mean(axis=(1, 2)) for maps in level.extract(images)])
    assert patches.shape == (48, 152)


def test_no_images() -> None:
    with pytest.raises(SpecError, match="Expected training images"):
        embedder(mean_layers=(4,)).matrix_and_means(ArrayImages(np.empty((0, 64, 64, 3), np.uint8)))
