"""DRAEM (Zavrtanik et al., ICCV 2021, arXiv 2108.07610), as VitjanZ/DRAEM computes it; README.md says what is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ltbench.blocks.device import check_device
from ltbench.blocks.each_image import each_image, gathered, readers
from ltbench.blocks.features.tokens import stack_on_disk
from ltbench.blocks.maps import at_size
from ltbench.blocks.pixels import resized
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.rates import Shares
from ltbench.blocks.training.settings import BatchSize
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.errors import SpecError
from ltbench.method import AddedLater, ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .estimate import estimated
from .losses import SsimRange, total_loss
from .net import Draem, scored
from .synthesis import Example, Synthesis
from .textures import PROCEDURAL, TRAIN, Pictures, Procedural, Textures, described, read_texture, texture_files

ALL = ""
"""What the network is called that is trained on all categories."""

FEW = {"iterations": 3}
"""So many steps show what a hyper-parameter changes."""


@dataclass
class DRAEM:
    """One network takes synthetic defects away, another sees image and result and marks them; trained from scratch."""

    info: ClassVar[MethodInfo] = MethodInfo("draem", "DRAEM", paper="arXiv:2108.07610", uses_categories=True)

    textures: Annotated[
        str,
        Field(description="a folder of pictures (DTD), or procedural, or train for other training images"),
        Probe(TRAIN, FEW),
    ] = ""
    side: Annotated[
        int, Field(ge=64, multiple_of=32, description="pixels of the networks' square input"), Probe(96, FEW)
    ] = 256
    reconstructive_width: Annotated[
        int, Field(ge=1, description="channels of the first network at full size"), Probe(3, FEW)
    ] = 128
    discriminative_width: Annotated[
        int, Field(ge=1, description="channels of the second network at full size"), Probe(3, FEW)
    ] = 64
    defect_probability: Annotated[
        float, Field(ge=0, le=1, description="share of items that get a defect"), Probe(0.0, FEW)
    ] = 0.5
    max_transparency: Annotated[
        float, Field(ge=0, lt=1, description="largest beta of a pasted texture"), Probe(0.1, FEW)
    ] = 0.8
    mask_threshold: Annotated[
        float, Field(gt=-1, lt=1, description="of the noise, above which a pixel is defective"), Probe(0.3, FEW)
    ] = 0.5
    rotation_probability: Annotated[
        float, Field(ge=0, le=1, description="share of images that are turned"), Probe(1.0, FEW)
    ] = 0.3
    rotation: Annotated[
        float, Field(ge=0, le=180, description="largest turn in degrees"), Probe(9.0, FEW | {"rotation_probability": 1})
    ] = 90.0
    ssim_range: Annotated[
        SsimRange,
        Field(description="L of SSIM: 1, or inferred from what was rebuilt, as the authors do"),
        Probe("inferred", FEW | {"reconstructive_width": 16}),
    ] = "one"
    epochs: Annotated[
        int, Field(ge=1, description="passes over the training images, without iterations"), Probe(2, {"iterations": 0})
    ] = 700
    iterations: Annotated[int, Field(ge=0, description="steps, whatever the epochs; 0 for whole epochs"), Probe(3)] = 0
    batch_size: Annotated[BatchSize, Probe(3, FEW)] = 8
    learning_rate: Annotated[float, Field(gt=0, description="of Adam, at first"), Probe(0.001, FEW)] = 1e-4
    lr_drops: Annotated[
        tuple[float, ...],
        Field(description="shares of the training after which the learning rate drops"),
        Probe((0.1,), FEW),
    ] = (0.8, 0.9)
    lr_gamma: Annotated[
        float, Field(gt=0, le=1, description="factor of a drop of the learning rate"), Probe(0.5, FEW)
    ] = 0.2
    pool_side: Annotated[
        int, Field(ge=1, description="pixels of the box whose largest mean scores; odd"), Probe(11, FEW)
    ] = 21
    per_category: Annotated[
        bool,
        Field(description="whether each category has networks of its own, as the authors have it"),
        Probe(value=True, given=FEW),
        AddedLater(),
    ] = False

    networks_: dict[str, Draem] = field(init=False, repr=False)

    @property
    def run_info(self) -> MethodInfo:
        """What a run asks for: categories only where each has networks of its own."""
        return replace(self.info, uses_categories=self.per_category)

    def check_inputs(self) -> None:
        """Raise an error, with what to do, where the source of textures or the box of the score cannot serve.

        Raises:
            SpecError: no source, or a box of an even side.
            DataError: no such folder, one without pictures, or a file that is no picture.
        """
        texture_files(self.textures)
        if self.pool_side % 2 == 0:
            raise SpecError(f"Expected an odd pool_side, got {self.pool_side}. Give {self.pool_side + 1}.")

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train both networks together, for all images or for each category. All is decoded once, before.

        Raises:
            SpecError: no source of textures; or a single image where they are training images.
            DataError: a folder of textures that is not there or is empty, or a texture that cannot be read.
        """
        self.check_inputs()
        check_device(runtime.device)
        images = self._stacked(train, runtime)
        textures = self._textures(images, runtime)
        self._device, self.networks_ = torch.device(runtime.device), {}
        for number, (name, places) in enumerate(self._groups(train).items()):
            self.networks_[name] = self._network()
            self.networks_[name].draw_weights(runtime.seed)
            phase = f"train_{number}" if self.per_category else "train"
            self._train(
                self.networks_[name].to(self._device), self._synthesis(images, places, textures), runtime, phase
            )
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score pixels by the probability of a defect, and an image by the largest mean of a box of pixels.

        Raises:
            SpecError: with `per_category`, a category that no training image has.
        """
        names = self._categories(images)
        networks = {
            name: partial(scored, self._network_of(name).eval(), self.pool_side) for name in dict.fromkeys(names)
        }
        places = sorted(range(len(names)), key=names.__getitem__)  # those of one network follow one another
        results = each_image(
            readers(images, partial(_pixels, self.side), places),
            (networks[names[place]] for place in places),
            lambda made: (float(made[0]), at_size(made[1], images.size)),
            self._device,
        )
        return gathered(results, len(images), images.size, places)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the networks and the categories that they are of."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for number, network in enumerate(self.networks_.values()):
            arrays |= {f"{number}.{name}": tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
        save_state(folder, self, arrays | {"names": packed(list(self.networks_))})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._device, method.networks_ = torch.device("cpu"), {}
        for number, category in enumerate(unpacked(state.pop("names"))):
            network, prefix = method._network(), f"{number}."
            own = {name.removeprefix(prefix): torch.tensor(a) for name, a in state.items() if name.startswith(prefix)}
            network.load_state_dict(own)
            method.networks_[category] = network
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, training and scoring will take; large arrays lie in files in any case."""
        with torch.device("meta"):
            network = self._network().train()
        return estimated(network, self.side, self.batch_size, images, per_category=self.per_category)

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters of a category's networks, the same for images of any size."""
        with torch.device("meta"):
            network = self._network()
        return sum(parameter.numel() for parameter in network.parameters())

    def _network(self) -> Draem:
        with torch.random.fork_rng(devices=[]):  # torch draws weights of its own, which are replaced
            return Draem(self.reconstructive_width, self.discriminative_width)

    def _stacked(self, train: ImageSet, runtime: Runtime) -> NDArray[np.uint8]:
        """Return the training images at the networks' size, (N, S, S, 3), in a file mapped into memory."""
        if self.textures == TRAIN and len(train) < 2:
            raise SpecError(
                f"Expected two training images to paste one on another, got {len(train)}. Use -p textures={PROCEDURAL}."
            )
        tracked = runtime.progress.track(train, "images", len(train))
        return stack_on_disk(((resized(image, self.side),) for image in tracked), len(train), runtime.checkpoints)[0]

    def _textures(self, images: NDArray[np.uint8], runtime: Runtime) -> Textures:
        """Return where textures come from, and note it; those of a folder are all decoded here."""
        files = texture_files(self.textures)
        runtime.notes["textures"] = described(self.textures, files)
        if self.textures == PROCEDURAL:
            return Procedural(self.side)
        if self.textures == TRAIN:
            return Pictures(images, own=True)
        tasks = (partial(read_texture, file, self.side) for file in files)
        decoded = in_order(tasks, torch.get_num_threads())
        rows: Iterator[tuple[NDArray[np.uint8]]] = (
            (pixels,) for pixels in runtime.progress.track(decoded, "textures", len(files))
        )
        return Pictures(stack_on_disk(rows, len(files), runtime.checkpoints)[0], own=False)

    def _categories(self, images: ImageSet) -> list[str]:
        """Return the category of each image, or "" where there is one network for all."""
        return list(images.categories) if self.per_category else [ALL] * len(images)

    def _groups(self, train: ImageSet) -> dict[str, NDArray[np.int64]]:
        """Return the places of the training images that each network is trained on."""
        named = np.array(self._categories(train))
        return {str(name): np.flatnonzero(named == name) for name in np.unique(named)}

    def _network_of(self, category: str) -> Draem:
        if category not in self.networks_:
            raise SpecError(
                f"Expected a category of the training images, got {category!r}. Train on it, or set per_category=false."
            )
        return self.networks_[category]

    def _synthesis(self, images: NDArray[np.uint8], places: NDArray[np.int64], textures: Textures) -> Synthesis:
        return Synthesis(
            images,
            places,
            textures,
            self.defect_probability,
            self.rotation_probability,
            self.rotation,
            self.max_transparency,
            self.mask_threshold,
        )

    def _train(self, network: Draem, synthesis: Synthesis, runtime: Runtime, phase: str) -> None:
        optimiser = torch.optim.Adam(network.parameters(), self.learning_rate, fused=True)
        loss = partial(self._loss, network)
        learner = Learner("draem", network, loss, optimiser, shards="one", prepare=synthesis.draw)
        rate = Shares(self.lr_drops, self.lr_gamma, whole_epochs=not self.iterations)
        schedule = Schedule(self.epochs, self.batch_size, steps=self.iterations, rate=rate)
        told = None if self.per_category else self
        training.train([learner], len(synthesis.places), schedule, runtime, phase=phase, method=told)

    def _loss(self, network: Draem, shard: Shard) -> Tensor:
        """Return the loss of a batch of prepared items."""
        items: list[Example] = list(shard.prepared)
        altered, clean = (_batch([item[place] for item in items], self._device) for place in (0, 1))
        mask = torch.from_numpy(np.stack([item.mask for item in items])).to(self._device)
        network.train()
        rebuilt, logits = network(altered)
        return total_loss(rebuilt, logits, clean, mask, self.ssim_range)


def _pixels(side: int, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an image at the networks' size, (S, S, 3) in [0, 1]."""
    return resized(image, side).astype(np.float32) / np.float32(255)


def _batch(images: list[NDArray[np.float32]], device: torch.device) -> Tensor:
    """Return images (S, S, 3) as one tensor (B, 3, S, S), colours last in memory, which takes a third less time."""
    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)


METHOD: type[Method] = DRAEM
