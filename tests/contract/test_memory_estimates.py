"""An estimate of memory may be offered; one that cannot be right is caught, each in its way."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ltbench.contract.checks import check_memory_estimate, run_check
from ltbench.contract.subject import Subject
from ltbench.method import ImageCounts, MemoryEstimate, Method
from tests.contract.test_checks import Sound


class Estimated(Sound):
    """Says what memory its maps take."""

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        return MemoryEstimate({"mean": 100, "maps": 4 * max(images.test) * images.size[0] * images.size[1]})


class TakesNothing(Estimated):
    """Has a phase of no bytes."""

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        found = super().memory_estimate(images, streamed=streamed)
        return MemoryEstimate({**found.phases, "mean": 0})


class TakesTheSame(Estimated):
    """Takes as much whatever the images, once arrays lie in files."""

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        return MemoryEstimate({"maps": 2**40}) if streamed else super().memory_estimate(images, streamed=False)


class NamesNoPhase(Estimated):
    """Has no phases."""

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        return MemoryEstimate({})


class OnDevice(Estimated):
    """Says what it takes on a device, too."""

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        found = super().memory_estimate(images, streamed=streamed)
        return MemoryEstimate(found.phases, device=self.on_device(images))

    def on_device(self, images: ImageCounts) -> Mapping[str, int]:
        return {"maps": 100 * images.batch, "mean": sum(images.train)} if images.batch else {}


class TakesNothingOnDevice(OnDevice):
    """Has a phase of no bytes there."""

    def on_device(self, images: ImageCounts) -> Mapping[str, int]:
        return {**super().on_device(images), "mean": 0} if images.batch else {}


class TakesPartsOfBytes(OnDevice):
    """Has a phase of no whole number of bytes there."""

    def on_device(self, images: ImageCounts) -> Mapping[str, int]:
        return {"maps": 1.5 * images.batch} if images.batch else {}  # type: ignore[dict-item]


class TakesLessOfMore(OnDevice):
    """Takes the less the more images there are."""

    def on_device(self, images: ImageCounts) -> Mapping[str, int]:
        return {"maps": 10**9 // sum(images.train)} if images.batch else {}


class TakesLessTogether(OnDevice):
    """Takes the less the more images go together."""

    def on_device(self, images: ImageCounts) -> Mapping[str, int]:
        return {"maps": 1000 // images.batch} if images.batch else {}


class NamesNoPhaseOfMany(OnDevice):
    """Says something of few images there, and nothing of many."""

    def on_device(self, images: ImageCounts) -> Mapping[str, int]:
        return super().on_device(images) if sum(images.train) < 100 else {}


class DeviceOfNone(OnDevice):
    """Takes something on a device where there is none."""

    def on_device(self, images: ImageCounts) -> Mapping[str, int]:
        return {"maps": 100 + 100 * images.batch}


BROKEN: list[type[Method]] = [
    TakesNothing,
    TakesTheSame,
    NamesNoPhase,
    TakesNothingOnDevice,
    TakesPartsOfBytes,
    TakesLessOfMore,
    TakesLessTogether,
    NamesNoPhaseOfMany,
    DeviceOfNone,
]


@pytest.mark.parametrize("method", [Sound, Estimated, OnDevice])
def test_an_estimate_of_memory_may_be_offered(method: type[Method]) -> None:
    assert run_check(check_memory_estimate, Subject(method)).reason == ""


@pytest.mark.parametrize("method", BROKEN)
def test_a_broken_estimate_is_caught(method: type[Method]) -> None:
    assert run_check(check_memory_estimate, Subject(method)).reason != ""
