"""Work in batches on a device that wants them: how many images go together, and how arrays come and go.

On such a device every batch has one shape, the last one padded, so that what is computed for an image does not depend
on which images share its batch. Arrays travel through pinned memory and nothing waits for them until they are needed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from math import prod
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.switches import Precision, reproducible
from ltbench.errors import SpecError

T = TypeVar("T")

BATCHED: tuple[str, ...] = ("cuda",)
"""Kinds of devices that take images in batches. A CPU takes one after the other; tests add it here."""

BATCH = 32
"""Images that go together, unless `VARIABLE` says otherwise."""

LOOK_AHEAD = 4
"""Batches' worth of images that need no batch, being done already, after which one goes with what it has."""

VARIABLE = "LTBENCH_DEVICE_BATCH"

Arrays = tuple[NDArray[np.float32], ...]

Waiting = Callable[[], Arrays]
"""Waits for arrays on their way from a device and returns them; any number of times, from any thread."""


def check_device(device: str, precision: Precision = "float32") -> None:
    """Raise SpecError if there is no such device, or it cannot compute in a precision."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = device
    if kind not in ("cpu", *BATCHED):
        raise SpecError(f"Expected the device cpu, cuda or cuda:N, got {device!r}. Choose one of them.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise SpecError(f"Expected a CUDA device for {device!r}, got none that torch can use. Choose the device cpu.")
    if kind == "cpu" and precision == "tf32":
        raise SpecError("Expected a CUDA device for TF32, got the CPU. Choose --precision bf16, or float32 (default).")


def batch_of(device: torch.device) -> int:
    """Return how many images a device takes together, or 0 where it takes one after the other.

    Raises:
        SpecError: the variable LTBENCH_DEVICE_BATCH is no whole number from 1.
    """
    if device.type not in BATCHED:
        return 0
    text = os.environ.get(VARIABLE, str(BATCH))
    if not text.isdecimal() or not int(text):
        raise SpecError(f"Expected a number of images from 1 in {VARIABLE}, got {text!r}. Set it to {BATCH}.")
    return int(text)


def upload(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array on a device; CUDA copies it by and by, before what is asked of it afterwards."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def download(tensors: Sequence[Tensor]) -> Waiting:
    """Send float32 tensors to the host in one copy, in which the rows of each image lie together.

    Args:
        tensors: (B, ...) each, on one device.

    Returns:
        What waits for the copy and returns the arrays, of the tensors' shapes; each `array[image]` is contiguous.
    """
    count, sizes = len(tensors[0]), [prod(tensor.shape[1:]) for tensor in tensors]
    rows = torch.cat([tensor.reshape(count, -1).float() for tensor in tensors], dim=1)
    event: torch.cuda.Event | None = None
    if rows.is_cuda:
        host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        host.copy_(rows, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(rows.device))
    else:
        host = rows.cpu()
    shapes = [tuple(tensor.shape) for tensor in tensors]
    guard = threading.Lock()

    def wait() -> Arrays:
        nonlocal event
        with guard:
            if event is not None:
                event.synchronize()
                event = None
        parts = np.split(host.numpy(), np.cumsum(sizes)[:-1], axis=1)
        # A part is a window of each row: it is given its shape by strides, without a copy.
        return tuple(_shaped(part, shape) for part, shape in zip(parts, shapes, strict=True))

    return wait


def through(
    rows: Iterable[tuple[NDArray[np.generic], ...]],
    network: Callable[[list[Tensor]], Sequence[Tensor]],
    device: torch.device,
    *,
    gradients: bool = False,
) -> Iterator[Waiting]:
    """Send arrays through a network, in batches of one shape, the last one padded with zeros.

    Args:
        rows: the arrays of one image after the other; those at one place have one shape and type.
        network: makes arrays (B, ...) of those at each place, (B, ...), on the device and of each image by itself; it
            is called without gradients.
        device: one that takes batches.
        gradients: whether the network leaves inference mode and takes gradients of its own.

    Yields:
        For each image what waits for its arrays and returns them; any thread may call it.
    """
    iterator, batch = iter(rows), batch_of(device)
    while group := tuple(islice(iterator, batch)):
        sent = []
        for arrays in zip(*group, strict=True):
            padded = np.zeros((batch, *arrays[0].shape), arrays[0].dtype)
            np.stack(arrays, out=padded[: len(arrays)])
            sent.append(upload(padded, device))
        with torch.inference_mode(), reproducible(device, gradients=gradients):
            waiting = download(network(sent))
        yield from (partial(_of, waiting, place) for place in range(len(group)))


def groups(
    waits: Generator[Callable[[], T], None, None], size: int, is_work: Callable[[T], bool]
) -> Iterator[tuple[list[T], Exception | None]]:
    """Yield what is waited for in groups, in order, and the error that ended them, if any.

    Args:
        waits: give each item, or wait for it.
        size: how much work a group has. One ends earlier, with what it has, behind `LOOK_AHEAD * size` items.
        is_work: whether an item is work for the device, and not done already.
    """
    group: list[T] = []
    with closing(waits) as waiting:
        for wait in waiting:
            try:
                group.append(wait())
            except Exception as error:  # noqa: BLE001 - whoever takes the group raises it where it belongs
                yield group, error
                return
            if sum(map(is_work, group)) == size or len(group) == LOOK_AHEAD * size:
                yield group, None
                group = []
    if group:
        yield group, None


def _of(waiting: Waiting, place: int) -> Arrays:
    """Wait for a batch, and return the arrays of one of its images."""
    return tuple(array[place] for array in waiting())


def _shaped(part: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return rows (B, n) that lie apart from one another in the shape (B, ...)."""
    inner = np.cumprod((1, *shape[:0:-1]))[:-1][::-1] * part.itemsize
    strides = (part.strides[0], *(int(step) for step in inner))
    return np.lib.stride_tricks.as_strided(part, shape, strides)
