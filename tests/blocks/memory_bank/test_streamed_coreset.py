"""A coreset chosen from a stream is the one chosen from the matrix."""

from __future__ import annotations

import numpy as np
import pytest

from ltbench.blocks.memory_bank.bank import PatchEmbedder, choose_coreset
from ltbench.blocks.memory_bank.streamed_coreset import streamed_coreset
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Runtime

COLUMNS = 152


@pytest.fixture(scope="module")
def embedder() -> PatchEmbedder:
    return PatchEmbedder("tf_efficientnet_lite0", (2, 3), "pretrained", "pooled", 1024, runtime=Runtime())


@pytest.fixture(scope="module")
def images() -> ArrayImages:
    return ArrayImages(np.random.RandomState(0).randint(0, 256, (9, 64, 64, 3)).astype(np.uint8))


@pytest.mark.parametrize("projection_dim", [8, COLUMNS])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0])
def test_it_is_that_of_the_matrix(
    embedder: PatchEmbedder, images: ArrayImages, ratio: float, projection_dim: int
) -> None:
    matrix = embedder.matrix(images)
    wanted = choose_coreset(
        matrix, ratio, "exact", projection_dim=projection_dim, starting_points=1, rng=np.random.RandomState(3)
    )
    rng = np.random.RandomState(3)
    rows, kept = streamed_coreset(embedder, images, ratio, projection_dim=projection_dim, rng=rng)
    np.testing.assert_array_equal(rows, np.sort(wanted))
    np.testing.assert_array_equal(kept, matrix[rows])
    assert len(rows) == max(1, int(ratio * len(matrix)))


def test_the_generator_moves_on_as_with_the_matrix(embedder: PatchEmbedder, images: ArrayImages) -> None:
    streaming, whole = np.random.RandomState(5), np.random.RandomState(5)
    streamed_coreset(embedder, images, 0.1, projection_dim=8, rng=streaming)
    choose_coreset(embedder.matrix(images), 0.1, "exact", projection_dim=8, starting_points=1, rng=whole)
    assert streaming.randint(2**31) == whole.randint(2**31)


def test_no_images(embedder: PatchEmbedder) -> None:
    with pytest.raises(SpecError, match="Expected images to choose patches from"):
        streamed_coreset(
            embedder,
            ArrayImages(np.empty((0, 64, 64, 3), np.uint8)),
            0.1,
            projection_dim=8,
            rng=np.random.RandomState(0),
        )
