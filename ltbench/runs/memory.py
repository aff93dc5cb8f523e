"""What a run will take in memory, before it starts, and how it stays below a limit.

A method that offers `memory_estimate` says what it takes from counts alone. Where that is above the limit, its large
arrays go to temporary files (`Runtime.scratch`), with the same results; where that does not do either, the run is
refused. Nothing is ever left out to save memory.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltbench.core import Protocol, Split
from ltbench.errors import SpecError
from ltbench.method import EstimatesMemory, ImageCounts, MemoryEstimate, Method
from ltbench.runs.device_memory import check_room, counted_for
from ltbench.runs.environment import available_memory, resident_memory
from ltbench.runs.savers import as_options, changed, gib, largest, savers

RESERVE = 352 * 2**20
"""Bytes that a process takes beside a method's arrays once it works: libraries that come with the first network and the
first search, compilers, thread pools, decoders, and what its allocator keeps. (Seen with memory banks of 5,000 to 9,000
patches: up to 310 MiB.)"""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a run is expected to take.

    Args:
        base: bytes of the process beside the method's arrays.
        estimate: the method's.
        limit: bytes that the run may take, or None.
        streamed: whether large arrays lie in temporary files.
        device: of the run.
    """

    base: int
    estimate: MemoryEstimate
    limit: int | None = None
    streamed: bool = False
    device: str = "cpu"

    @property
    def peak(self) -> int:
        """Bytes of the process at its largest."""
        return self.base + max(self.estimate.phases.values())

    @property
    def driver(self) -> str:
        """The phase in which it is so large."""
        return largest(self.estimate.phases)

    @property
    def allowance(self) -> int | None:
        """Bytes that the method may take, or None."""
        return None if self.limit is None else self.limit - self.base

    @property
    def text(self) -> str:
        """One line for people."""
        line = f"peak memory estimated at {gib(self.peak)} ({self.driver})"
        if there := self.estimate.device:
            line += f", on {self.device} at {gib(max(there.values()))} ({largest(there)})"
        if self.streamed:
            return f"{line}, with {gib(self.estimate.disk)} in a temporary file to stay below {gib(self.limit or 0)}"
        free = available_memory()
        if self.limit is None and free is not None and self.peak - resident_memory() > free:
            safe = 0.9 * (resident_memory() + free)
            line += f"; {gib(free)} are free: --memory-limit {safe / 2**30:.1f}GiB keeps it below that"
        return line

    @property
    def note(self) -> dict[str, Any]:
        """What a run's record says of it."""
        there = self.estimate.device
        on_device = {
            "estimated_device_peak_mib": round(max(there.values()) / 2**20, 1),
            "device_phase": largest(there),
        } if there else {}  # fmt: skip
        return {
            "estimated_peak_mib": round(self.peak / 2**20, 1),
            "phase": self.driver,
            "limit_mib": None if self.limit is None else round(self.limit / 2**20, 1),
            "streamed": self.streamed,
            **on_device,
        }


def plan_memory(
    method: Method,
    images: ImageCounts,
    limit: int | None = None,
    scratch: Path | None = None,
    device: str = "cpu",
) -> MemoryPlan | None:
    """Return what a run will take, or None if the method does not say. No image is read.

    Args:
        method: with its hyper-parameters.
        images: of `image_counts`.
        limit: bytes that the process may take, or None.
        scratch: folder for temporary files; its disk must have room for them.
        device: of the run; what lies on one with memory of its own is compared with what is free there.

    Raises:
        SpecError: the run does not fit even with its large arrays in files, or not on its device. The message says what
            takes so much, and what would fit.
    """
    if not isinstance(method, EstimatesMemory):
        return None
    images = counted_for(device, images)
    base = resident_memory() + RESERVE
    plan = MemoryPlan(base, method.memory_estimate(images, streamed=False), limit, device=device)
    check_room(method, images, plan.estimate.device, device)
    if limit is None or plan.peak <= limit:
        return plan
    streamed = MemoryPlan(base, method.memory_estimate(images, streamed=True), limit, streamed=True, device=device)
    if streamed.peak > limit:
        raise SpecError(_refusal(method, images, streamed))
    if scratch is not None and streamed.estimate.disk > (free := _free_disk(scratch)):
        raise SpecError(
            f"Expected {gib(streamed.estimate.disk)} free for a temporary file in {scratch}, got {gib(free)}. Set "
            f"LTBENCH_CACHE to a folder on a larger disk, or pass --memory-limit {_size(plan.peak)} or more."
        )
    return streamed


def image_counts(split: Split, protocol: Protocol) -> ImageCounts:
    """Return how many images of which size a run on a split has."""
    train = tuple(sum(count.values()) for count in split.counts.values())
    return ImageCounts(protocol.size, train, tuple(len(paths) for paths in split.test.values()))


def _refusal(method: EstimatesMemory, images: ImageCounts, plan: MemoryPlan) -> str:
    saving = [
        as_options(setting)
        for setting in savers(method)
        if plan.base + max(changed(method, setting).memory_estimate(images, streamed=True).phases.values())
        <= (plan.limit or 0)
    ]
    other = f" Or change the result with {', or '.join(saving)}." if saving else ""
    return (
        f"Expected {sum(images.train):,} training images to fit in {gib(plan.limit or 0)} (--memory-limit), got an "
        f"estimate of {gib(plan.peak)} even with large arrays in files, {gib(plan.base)} of them for the process "
        f"itself; it is the {plan.driver} that takes most. Pass --memory-limit {_size(plan.peak)} or more.{other}"
    )


def _free_disk(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _size(size: int) -> str:
    """Return a size as an option takes it, rounded up."""
    return f"{math.ceil(10 * size / 2**30) / 10:g}GiB"
