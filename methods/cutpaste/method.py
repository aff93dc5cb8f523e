"""CutPaste (Li et al., CVPR 2021, arXiv 2104.04015); the authors released no code, README.md says what is open."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from ltbench.blocks.each_image import each_image, readers
from ltbench.blocks.features.settings import Backbone, Weights
from ltbench.blocks.pixels import resized
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.estimate import Training, device_phases, phases
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.rates import LaggedCosine
from ltbench.blocks.training.settings import BatchSize
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .density import Density, Estimator, fit_density, normalised
from .images import Patch, Scar, jittered, with_patch, with_scar
from .net import Classifier, classifier, colours_of, head_widths, load_trunk

Variant = Literal["3way", "cutpaste", "scar", "union"]


@dataclass
class CutPaste:
    """A network tells images from ones with a pasted piece; an image scores by how unusual its features are."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "cutpaste", "CutPaste", paper="arXiv:2104.04015", uses_categories=True, has_maps=False
    )

    backbone: Backbone = "resnet18.tv_in1k"
    weights: Weights = "random"
    side: Annotated[int, Field(ge=32, le=4096, description="pixels of the network's input"), Probe(48)] = 256
    variant: Annotated[Variant, Field(description="which altered images are told from the others")] = "3way"
    jitter: Annotated[float, Field(ge=0, le=0.5, description="strength of the colour jitter of images and pieces")] = (
        0.1
    )
    scar_overhang: Annotated[bool, Field(description="upright strips may hang over the lower edge")] = False
    head_depth: Annotated[int, Field(ge=0, description="hidden layers of 512 in the head")] = 1
    updates: Annotated[int, Field(ge=0, description="steps of the training; 0 leaves the network as it begins")] = (
        65_536
    )
    batch_size: Annotated[BatchSize, Field(description="images of a step; each gives 2 samples, or 3 in 3way")] = 32
    epoch_images: Annotated[
        int, Field(ge=1, description="images of an epoch, the training images repeated"), Probe(16)
    ] = 3000
    learning_rate: Annotated[float, Field(gt=0, description="of SGD, at first")] = 0.03
    momentum: Annotated[float, Field(ge=0, lt=1, description="of SGD")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, description="of SGD"), Probe(0.5)] = 3e-5
    frozen_updates: Annotated[
        int, Field(ge=0, description="steps in which a pretrained trunk stays as it is"), Probe(1)
    ] = 20
    density: Annotated[
        Literal["global", "per_category"], Field(description="of all training images, or one a category")
    ] = "global"
    estimator: Annotated[
        Estimator, Field(description="Gaussian with or without shrinkage, or kernels"), Probe("kde")
    ] = "ledoit_wolf"
    shrinkage_floor: Annotated[
        float, Field(gt=0, le=1, description="least shrinkage of no more images than dimensions"), Probe(0.9)
    ] = 0.1

    network_: Classifier = field(init=False, repr=False)
    embeddings_: NDArray[np.float32] = field(init=False, repr=False)
    categories_: tuple[str, ...] = field(init=False, repr=False)

    @property
    def run_info(self) -> MethodInfo:
        """What a run asks for: with one density for all, no categories."""
        return replace(self.info, uses_categories=self.density == "per_category")

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train the classifier on altered images, then embed the training images as they are."""
        self.categories_ = tuple(train.categories) if self.density == "per_category" else ("",) * len(train)
        self._lend(runtime.device, self._network(runtime.seed))
        load_trunk(self.network_, self.backbone, self.weights)
        self.network_.to(runtime.device)
        optimiser = torch.optim.SGD(
            self.network_.parameters(), self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )
        images = self._resized(train)
        learner = Learner("cutpaste", self.network_, partial(self._loss, images), optimiser, shards="one")
        schedule = Schedule(1, self.batch_size, steps=self.updates, drop_last=True, rate=LaggedCosine())
        told = runtime
        if (after := runtime.after_epoch) is not None:

            def evaluated(epoch: int, method: Method) -> None:
                self._embed_training(train)
                after(epoch, method)

            told = replace(runtime, after_epoch=evaluated)
        if self.updates:
            training.train([learner], max(self.epoch_images, len(train)), schedule, told, method=self)
        self._embed_training(train)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score images by how unusual their embeddings are."""
        asked = tuple(images.categories) if self.density == "per_category" else ("",) * len(images)
        for category in asked:
            if category not in self._densities:
                raise SpecError(
                    f"Expected a category of the training images, got {category!r}. Take density=global, or train it."
                )
        rows = normalised(self._embeddings(images))
        scores = [self._densities[category].score(row) for category, row in zip(asked, rows, strict=True)]
        return Prediction(np.array(scores, np.float32))

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the network and the training images' embeddings and categories."""
        arrays = {f"network.{name}": tensor.cpu().numpy() for name, tensor in self.network_.state_dict().items()}
        save_state(folder, self, arrays | {"embeddings": self.embeddings_, "categories": packed(self.categories_)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method.categories_ = tuple(unpacked(state.pop("categories")))
        method.embeddings_ = state.pop("embeddings")
        method._lend("cpu", method._network(seed=0))
        weights = {name.removeprefix("network."): torch.tensor(array) for name, array in state.items()}
        method.network_.load_state_dict(weights)
        method._fit_densities()
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, training and scoring will take; large arrays lie in files in any case."""
        with torch.device("meta"):
            network = self._network(seed=0).train()
        samples = 3 if self.variant == "3way" else 2

        def forward(count: int) -> list[Tensor]:
            return [network(torch.empty(samples * count, 3, self.side, self.side))]

        def score(count: int) -> Tensor:
            with torch.no_grad():
                return network.embed(torch.empty(count, 3, self.side, self.side))

        trained = Training([network], [forward], self.batch_size, "one", "sgd")
        held = 3 * sum(images.train) * self.side**2  # the images at the network's side
        found = phases(held, trained.step(), 0, images, self.batch_size)
        return MemoryEstimate(found, device=device_phases(trained, images, score=score))

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters, the head's included, which is thrown away."""
        return sum(parameter.numel() for parameter in self._network(seed=0).parameters())

    def _lend(self, device: str, network: Classifier) -> None:
        self.network_, self._device = network, torch.device(device)
        self._mean, self._std = (colour.to(device) for colour in colours_of(network))

    def _network(self, seed: int) -> Classifier:
        return classifier(self.backbone, head_widths(self.head_depth), 3 if self.variant == "3way" else 2, seed)

    def _resized(self, images: ImageSet) -> list[NDArray[np.uint8]]:
        """Return images at the network's side; they stay in memory, as each is altered anew in every epoch."""
        return [resized(image, self.side) for image in images]

    def _normalised(self, images: Tensor) -> Tensor:
        """Return images (B, S, S, 3) as the network sees them, (B, 3, S, S)."""
        return (images.permute(0, 3, 1, 2) / 255 - self._mean) / self._std

    def altered(self, image: NDArray[np.uint8], draws: Draws) -> list[NDArray[np.uint8]]:
        """Return the samples of one image (H, W, 3), one a class, the unaltered one first."""

        def jitter(piece: Image.Image) -> Image.Image:
            return jittered(piece, self.jitter, draws)

        usual = np.asarray(jitter(Image.fromarray(image)))
        kinds = ["cutpaste", "scar"] if self.variant == "3way" else [self.variant]
        if self.variant == "union":
            kinds = ["cutpaste" if draws.uniform() < 0.5 else "scar"]
        samples = [usual]
        for kind in kinds:
            if kind == "cutpaste":
                samples.append(with_patch(usual, Patch.draw(draws), jitter))
            else:
                scar = Scar.draw(draws, min(usual.shape[:2]))
                samples.append(with_scar(usual, scar, jitter, overhang=self.scar_overhang))
        return samples

    def _loss(self, images: list[NDArray[np.uint8]], shard: Shard) -> Tensor:
        """Return the mean cross-entropy over all samples of a batch: n of each class, in blocks."""
        self.network_.train()
        samples = [self.altered(images[index % len(images)], shard.draws) for index in shard.indices]
        blocks = [image for block in zip(*samples, strict=True) for image in block]
        labels = torch.arange(len(samples[0]), device=self._device).repeat_interleave(len(samples))
        frozen = self.weights != "random" and shard.step < self.frozen_updates
        with torch.set_grad_enabled(not frozen):
            embeddings = self.network_.embed(self._normalised(torch.tensor(np.stack(blocks), device=self._device)))
        return F.cross_entropy(self.network_.classify(embeddings), labels)

    def _embed_training(self, train: ImageSet) -> None:
        self.embeddings_ = self._embeddings(train)
        self._fit_densities()

    def _fit_densities(self) -> None:
        places = np.array(self.categories_)
        self._densities: dict[str, Density] = {
            category: fit_density(self.embeddings_[places == category], self.estimator, self.shrinkage_floor)
            for category in dict.fromkeys(self.categories_)
        }

    def _embeddings(self, images: ImageSet) -> NDArray[np.float32]:
        """Return the pooled features of images (N, C), each of its image alone."""
        self.network_.eval()

        def embed(rows: list[Tensor]) -> list[Tensor]:
            return [self.network_.embed(self._normalised(rows[0]))]

        rows = readers(images, partial(resized, side=self.side))
        return np.stack([embedding for (embedding,) in each_image(rows, repeat(embed), tuple, self._device)])


METHOD: type[Method] = CutPaste
