"""RLR (He et al., ECCV 2024, arXiv 2403.11561), as hlr7999/RLR computes it; README.md says what is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from ltbench.blocks.features.pyramids import channels_of
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, Weights
from ltbench.blocks.features.tokens import (
    TokenExtractor,
    grid_of,
    pooled,
    predict_images,
    root_mean_square,
    unpooled,
)
from ltbench.blocks.maps import smooth, upsample
from ltbench.blocks.memory_bank.estimate import maps_bytes, network_bytes
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.state import load_state, save_state
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.estimate import Training, device_phases, phases
from ltbench.blocks.training.jitter import jitter
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.settings import BatchSize, Epochs, JitterScale, LrGamma, LrStep, TrainingPrecision
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .net import ReferenceNetwork, corrupted_tokens, differences, window_of


@dataclass
class RLR:
    """Transformers rebuild each feature level from a learnt reference; a token scores by what it lost on the way."""

    info: ClassVar[MethodInfo] = MethodInfo("rlr", "RLR", paper="arXiv:2403.11561")

    backbone: Backbone = "tf_efficientnet_b6.aa_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Annotated[Layers, Field(description="feature levels"), Probe((1, 3))] = (2, 3)
    pool: Annotated[bool, Field(description="average features over 3x3 places")] = True
    normalise: Annotated[bool, Field(description="divide each level by its RMS over the training images")] = False
    base_width: Annotated[
        int, Field(ge=4, description="channels inside at level 1; twice as many a level further"), Probe(32)
    ] = 128
    depth: Annotated[int, Field(ge=1, description="layers of a level's transformer")] = 4
    heads: Annotated[int, Field(ge=1, description="heads of each attention"), Probe(4)] = 8
    windows: Annotated[
        tuple[int, ...], Field(description="sides of the local windows; none: by the grid"), Probe((3, 3))
    ] = ()
    lca_weight: Annotated[float, Field(ge=0, description="factor of local attention to the reference")] = 2.0
    mlka_weight: Annotated[float, Field(ge=0, description="factor of attention beyond the window")] = 1.0
    jitter_scale: JitterScale = 4.0
    jitter_probability: Annotated[float, Field(ge=0, le=1, description="share of an image's tokens corrupted")] = 1.0
    corruption: Annotated[Literal["jitter", "zeros"], Field(description="noise, or zeros in its place")] = "jitter"
    epochs: Epochs = 200
    batch_size: BatchSize = 4
    learning_rate: Annotated[float, Field(gt=0, description="of Adam, at first")] = 1e-4
    lr_step: Annotated[LrStep, Probe(1)] = 0
    lr_gamma: Annotated[LrGamma, Probe(0.5, {"lr_step": 1})] = 0.1
    precision: TrainingPrecision = "float32"
    smoothing_sigma: Annotated[float, Field(ge=0, description="Gaussian before the maximum, in pixels")] = 4.0

    networks_: nn.ModuleList = field(init=False, repr=False)
    scales_: tuple[float, ...] = field(init=False, repr=False)
    grids_: tuple[Grid, ...] = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train a transformer for each level on the tokens of all training images."""
        self._lend(runtime)
        self.grids_ = self._grids(train.size)
        levels = self._extractor.on_disk(train)
        self.scales_ = tuple(root_mean_square(level) if self.normalise else 1.0 for level in levels)
        channels = [level.shape[2] for level in levels]
        self.networks_ = self._networks(channels, self.grids_, runtime.seed).to(runtime.device)
        learners = [
            Learner(
                f"level{layer}",
                network,
                partial(self._loss, network, level, scale),
                torch.optim.Adam(network.parameters(), self.learning_rate, fused=True),
            )
            for layer, network, level, scale in zip(self.layers, self.networks_, levels, self.scales_, strict=True)
        ]
        schedule = Schedule(self.epochs, self.batch_size, self.lr_step, self.lr_gamma, self.precision)
        training.train(learners, len(train), schedule, runtime, method=self)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score tokens by what they lost, levels averaged, and an image by the maximum of its smoothed map."""
        if (grids := self._grids(images.size)) != self.grids_:
            raise SpecError(f"Expected images of {self.grids_} tokens as in training, got {grids}. Fit it anew.")
        return predict_images(self._extractor, images, self._differences, partial(self._score, images.size))

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the networks, the features' scales and the seed."""
        arrays = {f"network.{name}": tensor.cpu().numpy() for name, tensor in self.networks_.state_dict().items()}
        facts = {"scales": self.scales_, "grids": self.grids_, "seed": self.seed_}
        save_state(folder, self, arrays | {name: np.array(value) for name, value in facts.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()))
        method.scales_ = tuple(state.pop("scales").tolist())
        method.grids_ = tuple(tuple(grid) for grid in state.pop("grids").tolist())
        weights = {name.removeprefix("network."): torch.tensor(array) for name, array in state.items()}
        channels = [weights[f"{number}.reference"].shape[2] for number in range(len(method.grids_))]
        method.networks_ = method._networks(channels, method.grids_, seed=0)
        method.networks_.load_state_dict(weights)
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, training and scoring will take; large arrays lie in files in any case."""
        grids, levels = self._grids(images.size), channels_of(self.backbone, self.layers)
        networks = self._networks(levels, grids, seed=0).to("meta")

        def forward(number: int, count: int) -> list[Tensor]:
            height, width = grids[number]
            return [networks[number](torch.empty(count, height * width, levels[number]))]

        forwards = [partial(forward, number) for number in range(len(networks))]
        trained = Training(list(networks), forwards, self.batch_size)
        features = network_bytes(self.backbone, self.layers, images.size)
        room = maps_room(self.backbone, self.layers, images.size)
        found = phases(features, trained.step(), maps_bytes(images), images, self.batch_size)
        return MemoryEstimate(found, device=device_phases(trained, images, room))

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters for images of this size; the references grow with it."""
        networks = self._networks(channels_of(self.backbone, self.layers), self._grids(size), seed=0)
        return sum(parameter.numel() for parameter in networks.parameters())

    def _lend(self, runtime: Runtime) -> None:
        self.seed_, self._device = runtime.seed, runtime.device
        self._extractor = TokenExtractor(
            self.backbone,
            self.layers,
            self.weights,
            tokens=pooled if self.pool else unpooled,
            recipe="each level averaged over 3x3, zeros outside counted" if self.pool else "each level",
            runtime=runtime,
            precision=self.backbone_precision,
        )

    def _grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
        return tuple(grid_of(size, 2 ** (layer + 1)) for layer in self.layers)

    def _networks(self, channels: Sequence[int], grids: Sequence[Grid], seed: int) -> nn.ModuleList:
        if self.windows and len(self.windows) != len(self.layers):
            raise SpecError(f"Expected windows for levels {self.layers}, got {self.windows}. Give one a level.")
        windows = self.windows or tuple(window_of(grid) for grid in grids)
        generator = torch.Generator().manual_seed(seed)
        return nn.ModuleList(
            ReferenceNetwork(
                count,
                grid,
                width=int(self.base_width * 2.0 ** (layer - 1)),
                depth=self.depth,
                heads=self.heads,
                window=window,
                weights=(self.lca_weight, self.mlka_weight),
                generator=generator,
            )
            for layer, count, grid, window in zip(self.layers, channels, grids, windows, strict=True)
        )

    def _loss(self, network: nn.Module, level: NDArray[np.float32], scale: float, shard: Shard) -> Tensor:
        """Return the mean difference between clean tokens and those rebuilt from corrupted ones."""
        clean = torch.tensor(level[shard.indices], device=self._device) / scale
        images, tokens, _ = clean.shape
        if self.corruption == "jitter":
            noisy, kept = jitter(clean, self.jitter_scale, shard.draws), int((1 - self.jitter_probability) * tokens)
        else:
            noisy, kept = clean * 0, tokens - int(self.jitter_probability * tokens)
        corrupted = corrupted_tokens((images, tokens), kept, shard.draws)
        rebuilt: Tensor = network(torch.where(corrupted > 0, noisy, clean))
        return differences(rebuilt.float(), clean).mean()

    def _differences(self, levels: list[Tensor]) -> list[Tensor]:
        """Return what each level's tokens lost, (B, h, w)."""
        found = []
        for network, scale, grid, tokens in zip(self.networks_, self.scales_, self.grids_, levels, strict=True):
            clean = tokens / scale
            found.append(differences(network(clean), clean).view(-1, *grid))
        return found

    def _score(self, size: tuple[int, int], grids: list[NDArray[np.float32]]) -> tuple[float, NDArray[np.float32]]:
        """Return an image's score and map (H, W): the levels' differences, resized corner on corner, averaged."""
        maps = [upsample(found, size, align_corners=True) for found in grids]
        anomaly_map: NDArray[np.float32] = np.stack(maps).mean(axis=0)
        return float(smooth(anomaly_map, self.smoothing_sigma).max()), anomaly_map


METHOD: type[Method] = RLR
