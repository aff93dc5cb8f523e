"""Each image by itself: the same results alone and in batches, in order, with a batch of its own for each network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks import device
from ltbench.blocks.device import Arrays
from ltbench.blocks.each_image import each_image, gathered, readers
from ltbench.datasets.arrays import ArrayImages

CPU = torch.device("cpu")


def images(count: int) -> ArrayImages:
    return ArrayImages(np.random.default_rng(0).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8))


def finish(made: Arrays) -> tuple[float, NDArray[np.float32]]:
    assert torch.is_inference_mode_enabled() and torch.get_num_threads() == 1
    return float(made[0]), made[1]


@pytest.fixture(params=["alone", "in batches"])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many images go together."""
    if request.param == "alone":
        return 1
    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    monkeypatch.setenv(device.VARIABLE, "4")
    return 4


class Network:
    """Gives the mean and the first colour of images, times a factor, and notes the batches that it saw."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.seen: list[int] = []

    def __call__(self, rows: Sequence[Tensor]) -> list[Tensor]:
        assert torch.is_inference_mode_enabled() and torch.get_num_threads() == 1
        (pixels,) = rows
        self.seen.append(len(pixels))
        return [self.factor * pixels.float().mean(dim=(1, 2, 3)), self.factor * pixels[..., 0]]


def test_results_are_in_order(batch: int) -> None:
    network, some = Network(), images(9)
    found = gathered(each_image(readers(some), repeat(network), finish, CPU), 9, some.size)
    np.testing.assert_array_equal(found.maps, some.images[..., 0])
    np.testing.assert_allclose(found.scores, some.images.mean(axis=(1, 2, 3)), rtol=1e-6)
    assert network.seen == [batch] * (9 if batch == 1 else 3)


def test_networks_share_no_batch_and_images_go_back_to_their_places(batch: int) -> None:
    some, networks = images(9), [Network(1.0), Network(2.0)]
    places = [0, 2, 4, 6, 8, 1, 3, 5, 7]
    results = each_image(readers(some, places=places), (networks[place % 2] for place in places), finish, CPU)
    found = gathered(results, 9, some.size, places)
    np.testing.assert_array_equal(found.maps[::2], some.images[::2, ..., 0])
    np.testing.assert_array_equal(found.maps[1::2], 2.0 * some.images[1::2, ..., 0])
    assert [network.seen for network in networks] == ([[1] * 5, [1] * 4] if batch == 1 else [[4, 4], [4]])


def test_images_are_prepared(batch: int) -> None:
    some = images(3)
    rows = readers(some, partial(np.multiply, np.float32(0.5)))
    found = list(each_image(rows, repeat(Network()), finish, CPU))
    np.testing.assert_array_equal(found[2][1], some.images[2, ..., 0] / np.float32(2))


def test_an_image_that_cannot_be_read_is_an_error(batch: int) -> None:
    def broken() -> tuple[NDArray[np.uint8]]:
        raise OSError("image 5 is truncated")

    rows: list[Callable[[], tuple[NDArray[np.generic], ...]]] = [*readers(images(5)), broken, *readers(images(9))]
    with pytest.raises(OSError, match="image 5"):
        list(each_image(rows, repeat(Network()), finish, CPU))


def test_no_image_gives_no_result(batch: int) -> None:
    assert list(each_image([], repeat(Network()), finish, CPU)) == []
