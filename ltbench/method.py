"""The contract between the suite and a method: what a method is, what it may see and what it is lent.

A method is a dataclass with these members; there is nothing to inherit. `methods/README.md` has a 25-line example and
`ltbench check NAME` proves that a method keeps the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ltbench.core import Prediction
from ltbench.errors import ContractError
from ltbench.image_sets import AnnotatedImageSet as AnnotatedImageSet
from ltbench.image_sets import ImageSet as ImageSet

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """What tables and `ltbench methods` say of a method.

    Args:
        name: registry key: the family's folder, and "_<variant>" for `method_<variant>.py` in it.
        title: as printed in tables ("TailedCore").
        paper: arXiv id or DOI, or None.
        uses_categories: privilege: is told the category of each image, in training and in test.
        uses_training_categories: privilege: is told the category of each training image, but of no test image.
        is_transductive: privilege: scores test images jointly.
        uses_annotated_data: privilege: trains on the test images of another dataset, with their labels and masks. The
            hyper-parameter `auxiliary` names that dataset.
        recognises_training_images: privilege: scores a test image otherwise because it, or a copy of it, was trained
            on: it knows it by its key or its pixels, beyond what an ordinary distance to the training images tells.
            Where contaminants are tested, whoever recognises them knows that they are defective.
        min_images: fewest training images a category must have; on a split with less the method is not applicable.
        has_maps: whether it gives anomaly maps; without, a run has image metrics alone, and no protocol that takes an
            image's score from its map applies.
        is_external: its predictions were made elsewhere and handed in (`ltbench evaluate`); no method here declares it.
    """

    name: str
    title: str
    paper: str | None = None
    uses_categories: bool = False
    uses_training_categories: bool = False
    is_transductive: bool = False
    uses_annotated_data: bool = False
    recognises_training_images: bool = False
    min_images: int = 1
    has_maps: bool = True
    is_external: bool = False


class FeatureStore(Protocol):
    """Arrays on disk by feature space and image, shared by all runs; safe to call from several threads at once.

    `ltbench.blocks.features.store` has the implementation.
    """

    def get(self, space: str, key: str) -> Mapping[str, NDArray[np.float32]] | None:
        """Return the arrays stored under `space` and `key`, or None."""
        ...

    def put(self, space: str, key: str, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        """Store arrays under `space` and `key`, atomically."""
        ...


class Progress(Protocol):
    """Where a method tells how far it is."""

    def track(self, items: Iterable[T], phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
        """Yield the items, showing how many of `total` are done, `done` of them before, and the time left."""
        ...

    def tell(self, text: str) -> None:
        """Show a short text (the loss, say) beside the loop that is going on."""
        ...

    def timed(self, phase: str) -> AbstractContextManager[None]:
        """Add the seconds spent inside the block to `phase` in the run's record."""
        ...

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Add seconds to `phase` in the run's record that were spent before an interruption."""
        ...


class NoProgress:
    """A `Progress` that shows and measures nothing."""

    def track(self, items: Iterable[T], phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
        """Yield the items."""
        yield from items

    def tell(self, text: str) -> None:
        """Show nothing."""

    def timed(self, phase: str) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def add_seconds(self, phase: str, seconds: float) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the harness lends a method for one run.

    Args:
        seed: seed of everything random in the method; a method draws from generators of its own, never global ones.
        device: "cpu", "cuda" or "cuda:N", as torch names them.
        feature_store: backbone features on disk, or None to compute them anew.
        checkpoints: folder for a trained method's checkpoints, or None to write none.
        checkpoint_minutes: minutes between two checkpoints inside an epoch; there is one at its end in any case.
        after_epoch: called with the number of epochs done, from 1, and the method, which can predict; or None.
        progress: where to tell how far it is.
        scratch: folder for temporary files that stand in for a method's large arrays, or None to keep these in memory.
            Where they are kept does not change a result.
        memory_limit: bytes that the method may take beside what the process has already, or None. It was compared with
            the method's estimate; a method that finds it needs more than it estimated refuses to go on.
        notes: facts that go into the run's record as plain JSON values (weights' hash, diagnostics), by key.
        auxiliary: annotated images of another dataset, or None; a method asks `annotated` for them.
    """

    seed: int = 0
    device: str = "cpu"
    feature_store: FeatureStore | None = None
    checkpoints: Path | None = None
    checkpoint_minutes: float = 10.0
    after_epoch: Callable[[int, Method], None] | None = None
    progress: Progress = field(default_factory=NoProgress)
    scratch: Path | None = None
    memory_limit: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    auxiliary: AnnotatedImageSet | None = None

    @property
    def annotated(self) -> AnnotatedImageSet:
        """The annotated images of another dataset; raises `ContractError` unless the method declares them."""
        if self.auxiliary is None:
            raise ContractError(
                "Expected no use of annotated images, got one. Declare uses_annotated_data=True in MethodInfo."
            )
        return self.auxiliary


@dataclass(frozen=True, slots=True)
class AddedLater:
    """Marks a hyper-parameter that a method gained when records of it existed: its default leaves a run its name.

    It stands in the annotation, beside `Field`. At the default it is left out of the `RunSpec`, so that
    runs from before it are found and resumed; at any other value it is part of the run's hash like the others. The
    default must give what the method did before, and must never change.
    """


@dataclass(frozen=True, slots=True)
class Probe:
    """How the contract check "every hyper-parameter changes something" varies one: `Annotated[int, Probe(5)]`.

    Only needed where no other value can be guessed from the default, or where the hyper-parameter matters only beside
    others.

    Args:
        value: a value that must change the prediction.
        given: other hyper-parameters to set on both sides of the comparison.
    """

    value: Any
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """How many images a run has: what `memory_estimate` goes by.

    Args:
        size: (height, width) in pixels of every image.
        train: training images of each category.
        test: test images of each category.
        batch: images that go together on the run's device, which has memory of its own; 0 on a CPU.
    """

    size: tuple[int, int]
    train: tuple[int, ...]
    test: tuple[int, ...]
    batch: int = 0


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a method expects to take, beside what the process has before it.

    Args:
        phases: what is made when, in a few words ("coreset of 1,254,400 patches in 128 dimensions") -> peak bytes.
        disk: bytes of temporary files.
        device: the same as `phases` for a device with memory of its own, weights included; empty on a CPU, and where
            the method does not say.
    """

    phases: Mapping[str, int]
    disk: int = 0
    device: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class EstimatesMemory(Protocol):
    """What a method may offer beside the contract: how much memory it will take, before it sees an image.

    A class attribute `memory_savers`, a tuple of mappings hyper-parameter -> value, names settings that take less;
    those that fit are offered where the method as asked for does not.
    """

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return an upper estimate, without decoding an image or loading weights.

        With `images.batch` it may say in `MemoryEstimate.device`, too, what lies on the device.

        Args:
            images: how many there are.
            streamed: whether large arrays lie in files (`Runtime.scratch`).
        """
        ...


@runtime_checkable
class ChecksInputs(Protocol):
    """What a method may offer beside the contract: a look at the files that its hyper-parameters name.

    It takes place when a run is planned, before anything is computed.
    """

    def check_inputs(self) -> None:
        """Raise an `LtbenchError` with the remedy where something is missing or cannot serve; read little."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """What a method with a memory may offer beside the contract: to score images without what it has of some others.

    On a self-excluded split the suite tells it, for each test image, which training images are the same image. Without
    this a method is refused there. Training is not repeated: what is left out are entries of the memory alone, and what
    else the training images decided (which entries there are, their weights) stays.
    """

    def predict_without(self, images: ImageSet, left_out: Sequence[Sequence[int]]) -> Prediction:
        """Score images as `predict` does, each as if the memory had nothing of some training images.

        An image for which none is left out scores what `predict` says, to the last bit.

        Args:
            images: what to score.
            left_out: for each image the positions of training images, as `fit` saw them; mostly none.
        """
        ...


class Method(Protocol):
    """A detector. Hyper-parameters are dataclass fields with plain, typed defaults; learnt state ends in `_`.

    Beside this contract a method may offer `EstimatesMemory`, `ChecksInputs` and `LeavesOut`, and two attributes
    that depend on its hyper-parameters: `run_info`, the MethodInfo of a run that asks for fewer privileges than the
    class declares; and `shared_training`, the names of the hyper-parameters on which a part of its training depends
    that runs share through the feature store.
    """

    info: ClassVar[MethodInfo]

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Learn from the training images and return self; hyper-parameters stay as they are."""
        ...

    def predict(self, images: ImageSet) -> Prediction:
        """Score images: an image score and an anomaly map of `images.size` for each, in order.

        A method that declares `has_maps=False` gives scores alone.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write hyper-parameters and learnt state to an existing empty folder (safetensors and JSON, no pickle)."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the method that `save` wrote; it predicts the same, to the last digit."""
        ...
