"""RegAD (Huang et al., ECCV 2022, arXiv 2207.07361) as its code computes it; README.md says what is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ltbench.blocks.device import Arrays
from ltbench.blocks.each_image import each_image, gathered, readers
from ltbench.blocks.features.settings import Backbone, SmoothingSigma, Weights
from ltbench.blocks.maps import upsample_and_smooth
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.switches import reproducible
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.rates import EpochCosine
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .augmentation import versions
from .episodes import Indices, by_category, chunks, draw_supports
from .estimate import estimated
from .gaussians import PlaceGaussians
from .net import Registration, colours_of
from .transformers import Mode

UNIFIED = ""
"""What stands for a category where one network serves all."""

Images = NDArray[np.uint8]
Map = NDArray[np.float32]

GROUP = 11
"""Augmented supports that go through the network at once; part of the definition of a result's last digits."""


@dataclass
class RegAD:
    """Registered features of a few augmented supports of a category give a Gaussian a place; distance is the score."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "regad", "RegAD", paper="arXiv:2207.07361", uses_categories=True, min_images=2
    )

    backbone: Backbone = "resnet18.tv_in1k"
    weights: Weights = "pretrained"
    normalise: Annotated[bool, Field(description="subtract the mean and divide by the deviation of the weights")] = (
        False
    )
    freeze_backbone: Annotated[bool, Field(description="train the transformers and the heads alone")] = False
    transform: Annotated[Mode, Field(description="what the spatial transformers may do")] = "rotation_scale"
    training: Annotated[
        Literal["leave_one_out", "unified"],
        Field(description="a network a category from all others, or one from all"),
    ] = "leave_one_out"
    supports: Annotated[int, Field(ge=1, description="images of a category that say what is normal, at most (K)")] = 2
    batch_size: Annotated[int, Field(ge=1, description="queries of a step, of one category")] = 32
    epochs: Annotated[int, Field(ge=0, description="passes over the queries; 0 leaves the networks as they begin")] = 50
    updates: Annotated[int, Field(ge=0, description="steps in place of whole epochs; 0 for these"), Probe(1)] = 0
    rate: Annotated[
        Literal["epoch_cosine", "constant"],
        Field(description="of learning; a cosine's last epoch has 0"),
        Probe("epoch_cosine", {"epochs": 2}),
    ] = "epoch_cosine"
    learning_rate: Annotated[float, Field(gt=0, description="of SGD, at first")] = 1e-4
    momentum: Annotated[float, Field(ge=0, lt=1, description="of SGD")] = 0.9
    ridge: Annotated[float, Field(gt=0, description="added to the diagonal of each covariance")] = 0.01
    smoothing_sigma: SmoothingSigma = 4.0

    networks_: dict[str, Registration] = field(init=False, repr=False)
    supports_: dict[str, Images] = field(init=False, repr=False)
    size_: tuple[int, int] = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Draw the supports of each category, then train the networks to register images of the others.

        Raises:
            SpecError: a category with one image, no other category to train on, images that are not square, or a
                cosine over a single epoch, which would learn nothing.
        """
        places = by_category(train.categories)
        targets = list(places) if self.training == "leave_one_out" else [UNIFIED]
        batches = {target: chunks(places, self.batch_size, target or None) for target in targets}
        self._check_rate(min(len(own) for own in batches.values()))
        self._lend(runtime.device, train.size)
        self._draw_supports(train, places, runtime)
        loaded: dict[int, Images] = {}
        for number, target in enumerate(targets):
            network = self._network(runtime.seed, self.weights).to(self._device)
            self.networks_[target] = network
            if self.epochs or self.updates:
                phase = "train" if target == UNIFIED else f"train_{number}"
                self._train(network, train, batches[target], places, loaded, runtime, phase)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score places by their Mahalanobis distance from the category's Gaussian, an image by its map's maximum."""
        if images.size != self.size_:
            raise SpecError(f"Expected images of {self.size_} pixels as in training, got {images.size}. Fit it anew.")
        names = images.categories
        for category in names:
            if category not in self.supports_:
                raise SpecError(
                    f"Expected a category of the training images, got {category!r}. It has no supports: train on it."
                )
        own = {name: [place for place, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
        results = chain.from_iterable(self._scored(images, name, places) for name, places in own.items())
        return gathered(results, len(images), images.size, chain.from_iterable(own.values()))

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the networks and the supports of each category."""
        arrays: dict[str, NDArray[np.generic]] = {"size": np.array(self.size_)}
        for number, network in enumerate(self.networks_.values()):
            arrays |= {f"network.{number}.{key}": own.cpu().numpy() for key, own in network.state_dict().items()}
        arrays |= {f"supports.{number}": own for number, own in enumerate(self.supports_.values())}
        names = packed({"networks": list(self.networks_), "supports": list(self.supports_)})
        save_state(folder, self, arrays | {"names": names})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        height, width = state.pop("size").tolist()
        method._lend("cpu", (height, width))
        names = unpacked(state.pop("names"))
        method.supports_ = {name: state.pop(f"supports.{number}") for number, name in enumerate(names["supports"])}
        for number, name in enumerate(names["networks"]):
            network, prefix = method._network(seed=0), f"network.{number}."
            own = {key.removeprefix(prefix): torch.tensor(a) for key, a in state.items() if key.startswith(prefix)}
            network.load_state_dict(own)
            method.networks_[name] = network
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what training and the Gaussians of a category will take; nothing of it lies in files."""
        network = Registration(self.backbone, images.size, self.transform, frozen=self.freeze_backbone, seed=0)
        network.to("meta").for_training()
        apart = self.training == "leave_one_out"
        return estimated(network, self.backbone, self.supports, self.batch_size, images, group=GROUP, apart=apart)

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters of one network for images of this size, its heads included."""
        network = Registration(self.backbone, size, self.transform, frozen=self.freeze_backbone, seed=0)
        return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)

    def _check_rate(self, steps: int) -> None:
        """Raise unless a cosine by epochs has an epoch in which it learns."""
        epochs = -(-self.updates // steps) if self.updates else self.epochs
        if self.rate == "epoch_cosine" and epochs == 1:
            raise SpecError(
                "Expected at least 2 epochs under rate=epoch_cosine, whose last has rate 0, got 1. Give more, or "
                "rate=constant."
            )

    def _lend(self, device: str, size: tuple[int, int]) -> None:
        if size[0] != size[1]:
            raise SpecError(f"Expected square images, which quarter turns keep, got {size}. Take another protocol.")
        self._device, self.size_ = torch.device(device), size
        self.networks_, self.supports_ = {}, {}
        if self.normalise:
            self._mean, self._std = (colour.to(self._device) for colour in colours_of(self.backbone))

    def _network(self, seed: int, weights: str = "random") -> Registration:
        frozen = self.freeze_backbone
        return Registration(self.backbone, self.size_, self.transform, frozen=frozen, seed=seed, weights=weights)

    def _network_of(self, category: str) -> Registration:
        network = self.networks_[UNIFIED if self.training == "unified" else category]
        network.eval()
        return network

    def _draw_supports(self, train: ImageSet, places: dict[str, Indices], runtime: Runtime) -> None:
        """Draw at most `supports` images of each category, and note which."""
        drawn = {}
        for number, (name, own) in enumerate(places.items()):
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([runtime.seed, 0x5E6, number])))
            drawn[name] = rng.choice(own, min(self.supports, len(own)), replace=False)
            self.supports_[name] = np.stack([train[index] for index in drawn[name].tolist()])
        runtime.notes["supports"] = {name: own.tolist() for name, own in drawn.items()}

    def _train(
        self,
        network: Registration,
        train: ImageSet,
        batches: list[Indices],
        places: dict[str, Indices],
        loaded: dict[int, Images],
        runtime: Runtime,
        phase: str,
    ) -> None:
        learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.SGD(learnt, self.learning_rate, momentum=self.momentum)
        categories = train.categories

        def image(index: int) -> Images:
            return loaded[index] if index in loaded else loaded.setdefault(index, train[index])

        def loss(shard: Shard) -> Tensor:
            network.for_training()
            (number,) = shard.indices
            queries = batches[number]
            own = places[categories[queries[0]]]
            drawn = draw_supports(queries, own, self.supports, shard.draws)
            shown = [
                self._tensor(np.stack([image(index) for index in part.ravel().tolist()])) for part in (queries, drawn)
            ]
            return network.loss(shown[0], shown[1].view(*drawn.shape, *shown[1].shape[1:]))

        learner = Learner("regad", network, loss, optimiser, shards="one")
        rate = EpochCosine() if self.rate == "epoch_cosine" else None
        schedule = Schedule(self.epochs, 1, steps=self.updates, rate=rate)
        told = self if phase == "train" else None
        training.train([learner], len(batches), schedule, runtime, phase=phase, method=told)

    def _tensor(self, images: Images) -> Tensor:
        return self._normalised(torch.tensor(images, device=self._device).permute(0, 3, 1, 2) / 255)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels - self._mean) / self._std if self.normalise else pixels

    def _gaussians(self, category: str) -> PlaceGaussians:
        """Return the Gaussians of a category's augmented supports."""
        network = self._network_of(category)
        pixels = torch.tensor(self.supports_[category], device=self._device).permute(0, 3, 1, 2) / 255

        def sampled(group: Tensor) -> Tensor:
            with reproducible(self._device), torch.inference_mode():
                return self._features(network, group)

        with reproducible(self._device), torch.inference_mode():
            shown = torch.cat(list(versions(pixels)))
        tasks = (partial(sampled, group) for group in torch.split(shown, GROUP))  # all of one size
        samples = torch.cat(list(in_order(tasks, torch.get_num_threads() if self._device.type == "cpu" else 1)))
        with reproducible(self._device), torch.inference_mode():
            return PlaceGaussians.fit(samples, self.ridge)

    def _features(self, network: Registration, pixels: Tensor) -> Tensor:
        """Return the features (B, P, C) of images (B, 3, H, W) in [0, 1], places row by row."""
        return network.features(self._normalised(pixels)).flatten(2).transpose(1, 2).contiguous()

    def _scored(self, images: ImageSet, category: str, places: list[int]) -> Iterator[tuple[float, Map]]:
        """Yield the score and the map of a category's images."""
        gaussians, network = self._gaussians(category), self._network_of(category)

        def distances(rows: list[Tensor]) -> list[Tensor]:
            return [gaussians.distances(self._features(network, (rows[0].permute(0, 3, 1, 2) / 255).contiguous()))]

        def finish(made: Arrays) -> tuple[float, Map]:
            grid = made[0].reshape(self.size_[0] // 4, self.size_[1] // 4)
            found = upsample_and_smooth(grid, self.size_, self.smoothing_sigma)
            return found.max(), found

        return each_image(readers(images, places=places), repeat(distances), finish, self._device)


METHOD: type[Method] = RegAD
