"""Whether a run fits on its device, before it starts: what `plan_memory` asks where that has memory of its own.

Batches do not shrink by themselves, because their shape is part of a result; a run that does not fit is refused with
what would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ltbench.errors import SpecError
from ltbench.method import EstimatesMemory, ImageCounts
from ltbench.runs.savers import as_options, changed, gib, largest, savers

BATCH_SIZE = "batch_size"
"""The hyper-parameter of trained methods that says how many images a step has."""


def counted_for(device: str, images: ImageCounts) -> ImageCounts:
    """Return images with how many of them go together on a device; nothing is asked of the device.

    Raises:
        SpecError: the variable LTBENCH_DEVICE_BATCH is no whole number from 1.
    """
    if not device.startswith("cuda"):
        return images
    import torch

    from ltbench.blocks.device import batch_of

    return replace(images, batch=batch_of(torch.device(device)))


def check_room(method: EstimatesMemory, images: ImageCounts, needed: Mapping[str, int], device: str) -> None:
    """Raise SpecError if a run does not fit on its device; the message says what would.

    Args:
        method: with its hyper-parameters.
        images: of `counted_for`.
        needed: `MemoryEstimate.device` of both.
        device: of the run. One that is not there is told where it is used.
    """
    if not needed:
        return
    import torch

    from ltbench.blocks.device_memory import free_bytes

    if not torch.cuda.is_available():
        return
    free = free_bytes(torch.device(device))
    if max(needed.values()) > free:
        raise SpecError(refusal(method, images, needed, device, free))


def refusal(method: EstimatesMemory, images: ImageCounts, needed: Mapping[str, int], device: str, free: int) -> str:
    """Return why a run does not fit in so many bytes of a device, and what does."""
    phase = largest(needed)
    batch = _fitting(method, images, free)
    first = f"Set {_variable(batch)}, or pass --device cpu." if batch else "Pass --device cpu."
    others = [offer for setting in savers(method) if (offer := _offer(method, setting, images, free))]
    if not batch:  # steps as large as that are what does not fit
        smaller = (_offer(method, setting, images, free) for setting in _smaller_steps(method))
        others += filter(None, [next(filter(None, smaller), "")])
    rest = f" Or change the result with {', or '.join(others)}." if others else ""
    return f"Expected {gib(needed[phase])} free on {device} for {phase}, got {gib(free)}. {first}{rest}"


def _fitting(method: EstimatesMemory, images: ImageCounts, free: int) -> int:
    """Return how many images may go together, halved until they fit; 0 if a single one does not."""

    def fits(batch: int) -> bool:
        found = method.memory_estimate(replace(images, batch=batch), streamed=False).device
        return max(found.values()) <= free

    batch = images.batch if fits(1) else 0
    while batch > 1 and not fits(batch):
        batch //= 2
    return batch


def _offer(method: EstimatesMemory, setting: Mapping[str, Any], images: ImageCounts, free: int) -> str:
    """Return hyper-parameters as options, with the batch that fits then; "" if none does."""
    batch = _fitting(changed(method, setting), images, free)
    if not batch:
        return ""
    return as_options(setting) + (f" and {_variable(batch)}" if batch < images.batch else "")


def _smaller_steps(method: EstimatesMemory) -> Iterator[Mapping[str, Any]]:
    """Yield steps of fewer images, halved again and again, of a method that is trained in steps."""
    size = getattr(method, BATCH_SIZE, 0) // 2
    while size:
        yield {BATCH_SIZE: size}
        size //= 2


def _variable(batch: int) -> str:
    from ltbench.blocks.device import VARIABLE

    return f"{VARIABLE}={batch}"
