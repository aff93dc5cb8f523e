"""UniAD (You et al., NeurIPS 2022, arXiv 2206.03687), as zhiyuanyou/UniAD computes it; README.md says what is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ltbench.blocks.features.pyramids import channels_of
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.features.settings import Backbone, BackbonePrecision, Layers, Weights
from ltbench.blocks.features.tokens import TokenExtractor, aligned, grid_of, predict_images, root_mean_square
from ltbench.blocks.maps import upsample
from ltbench.blocks.memory_bank.estimate import maps_bytes, network_bytes
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.networks.reconstruction import Reconstruction
from ltbench.blocks.state import load_state, save_state
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.estimate import UNDRAWN, Training, device_phases, phases
from ltbench.blocks.training.jitter import jitter
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.settings import BatchSize, Epochs, JitterScale, LrGamma, LrStep, TrainingPrecision
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime


@dataclass
class UniAD:
    """A transformer rebuilds jittered features; a token scores by its distance from what was rebuilt."""

    info: ClassVar[MethodInfo] = MethodInfo("uniad", "UniAD", paper="arXiv:2206.03687")

    backbone: Backbone = "tf_efficientnet_b4.aa_in1k"
    weights: Weights = "pretrained"
    backbone_precision: BackbonePrecision = "float32"
    layers: Annotated[Layers, Field(description="feature levels")] = (0, 1, 2, 3)
    token_stride: Annotated[int, Field(ge=1, description="pixels of a token: 224 of 16 are 14x14"), Probe(16)] = 16
    normalise: Annotated[bool, Field(description="divide features by their RMS over the training images")] = False
    width: Annotated[int, Field(ge=2, description="channels inside the transformer"), Probe(32)] = 256
    depth: Annotated[int, Field(ge=1, description="layers of the encoder, and of the decoder")] = 4
    heads: Annotated[int, Field(ge=1, description="heads of each attention"), Probe(4)] = 8
    ffn_width: Annotated[int, Field(ge=1, description="channels inside the feed-forward blocks")] = 1024
    dropout: Annotated[float, Field(ge=0, lt=1, description="probability of dropout in training")] = 0.1
    mask_side: Annotated[int, Field(ge=1, description="side of the hidden neighbourhood, in tokens"), Probe(1)] = 7
    jitter_scale: JitterScale = 20.0
    jitter_probability: Annotated[float, Field(ge=0, le=1, description="probability of noise, one draw a step")] = 1.0
    epochs: Epochs = 1000
    batch_size: BatchSize = 8
    learning_rate: Annotated[float, Field(gt=0, description="of AdamW, at first")] = 1e-4
    weight_decay: Annotated[float, Field(ge=0, description="of AdamW"), Probe(0.5)] = 1e-4
    clip_norm: Annotated[float, Field(ge=0, description="largest norm of the gradient; 0: none"), Probe(1e-3)] = 0.1
    lr_step: LrStep = 800
    lr_gamma: LrGamma = 0.1
    precision: TrainingPrecision = "float32"
    image_score: Annotated[
        Literal["pooled_max", "mean", "std"], Field(description="of the map: MVTec's, CIFAR's, or its deviation")
    ] = "pooled_max"
    pool_side: Annotated[int, Field(ge=1, description="pixels of the mean whose maximum scores an image")] = 16

    network_: Reconstruction = field(init=False, repr=False)
    scale_: float = field(init=False, repr=False)
    grid_: Grid = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train the transformer on the tokens of all training images.

        Raises:
            SpecError: image sides that are no multiples of `token_stride`, or shorter than `pool_side`.
        """
        if self.image_score == "pooled_max" and self.pool_side > min(train.size):
            raise SpecError(f"Expected pool_side of at most {min(train.size)} pixels, got {self.pool_side}. Lower it.")
        self._lend(runtime, grid_of(train.size, self.token_stride))
        (tokens,) = self._extractor.on_disk(train)
        self.scale_ = root_mean_square(tokens) if self.normalise else 1.0
        self.network_ = self._network(tokens.shape[2], self.grid_, runtime.seed).to(runtime.device)
        optimiser = torch.optim.AdamW(
            self.network_.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        learner = Learner("uniad", self.network_, partial(self._loss, tokens), optimiser, self.clip_norm)
        schedule = Schedule(self.epochs, self.batch_size, self.lr_step, self.lr_gamma, self.precision)
        training.train([learner], len(tokens), schedule, runtime, method=self)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score tokens by their distance from what was rebuilt, and an image by the maximum of the averaged map."""
        if (grid := grid_of(images.size, self.token_stride)) != self.grid_:
            raise SpecError(f"Expected images of {self.grid_} tokens as in training, got {grid}. Fit it anew.")
        return predict_images(self._extractor, images, self._distances, partial(self._score, images.size))

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the network, the features' scale and the seed."""
        arrays = {f"network.{name}": tensor.cpu().numpy() for name, tensor in self.network_.state_dict().items()}
        facts = {"scale": self.scale_, "grid": self.grid_, "seed": self.seed_}
        save_state(folder, self, arrays | {name: np.array(value) for name, value in facts.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state.pop("seed").item()), tuple(state.pop("grid").tolist()))
        method.scale_ = state.pop("scale").item()
        weights = {name.removeprefix("network."): torch.tensor(array) for name, array in state.items()}
        method.network_ = method._network(weights["input.weight"].shape[1], method.grid_, seed=0)
        method.network_.load_state_dict(weights)
        return method

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, training and scoring will take; large arrays lie in files in any case."""
        grid, channels = grid_of(images.size, self.token_stride), sum(channels_of(self.backbone, self.layers))
        network = self._network(channels, grid, seed=0).to("meta")

        def forward(count: int) -> list[Tensor]:
            return [network(torch.empty(count, grid[0] * grid[1], channels), UNDRAWN)]

        trained = Training([network], [forward], self.batch_size)
        features = network_bytes(self.backbone, self.layers, images.size)
        room = maps_room(self.backbone, self.layers, images.size)
        found = phases(features, trained.step(), maps_bytes(images), images, self.batch_size)
        return MemoryEstimate(found, device=device_phases(trained, images, room))

    def trainable_parameters(self, size: tuple[int, int]) -> int:
        """Return the number of trained parameters for images of this size; queries and positions grow with it."""
        channels = sum(channels_of(self.backbone, self.layers))
        network = self._network(channels, grid_of(size, self.token_stride), seed=0)
        return sum(parameter.numel() for parameter in network.parameters())

    def _lend(self, runtime: Runtime, grid: Grid) -> None:
        self.seed_, self.grid_ = runtime.seed, grid
        self._device = runtime.device
        self._extractor = TokenExtractor(
            self.backbone,
            self.layers,
            self.weights,
            tokens=partial(aligned, grid=grid),
            recipe=f"levels {list(self.layers)} aligned corner on corner to {grid[0]}x{grid[1]}, concatenated",
            runtime=runtime,
            precision=self.backbone_precision,
        )

    def _network(self, channels: int, grid: Grid, seed: int) -> Reconstruction:
        return Reconstruction(
            channels,
            grid,
            width=self.width,
            layers=self.depth,
            heads=self.heads,
            ffn_width=self.ffn_width,
            dropout=self.dropout,
            mask_side=self.mask_side,
            seed=seed,
        )

    def _loss(self, tokens: NDArray[np.float32], shard: Shard) -> Tensor:
        """Return the mean squared difference between clean tokens and those rebuilt from jittered ones."""
        clean = torch.tensor(tokens[shard.indices], device=self._device) / self.scale_
        noisy = shard.step_draws.uniform() < self.jitter_probability
        seen = jitter(clean, self.jitter_scale, shard.draws) if noisy else clean
        rebuilt: Tensor = self.network_(seen, shard.draws)
        return (rebuilt.float() - clean).square().mean()

    def _distances(self, tokens: list[Tensor]) -> list[Tensor]:
        """Return the distances, (B, h, w), of clean tokens from those rebuilt."""
        clean = tokens[0] / self.scale_
        return [token_distances(self.network_(clean), clean, self.grid_)]

    def _score(self, size: tuple[int, int], grids: list[NDArray[np.float32]]) -> tuple[float, NDArray[np.float32]]:
        return score_grid(grids[0], size, self.image_score, self.pool_side)


def token_distances(rebuilt: Tensor, clean: Tensor, grid: Grid) -> Tensor:
    """Return the Euclidean distances, (B, h, w), of tokens (B, L, C) that lie on a grid."""
    return (rebuilt - clean).square().sum(dim=2).sqrt().view(-1, *grid)


def score_grid(
    distances: NDArray[np.float32], size: tuple[int, int], image_score: str, pool_side: int
) -> tuple[float, NDArray[np.float32]]:
    """Return an image's score and map (H, W): distances of tokens, resized bilinearly corner on corner.

    Args:
        distances: (h, w), of the tokens.
        size: (H, W) of the image.
        image_score: "pooled_max", "mean" or "std".
        pool_side: side of the square over which the map is averaged before its maximum is taken, in pixels.
    """
    anomaly_map = upsample(distances, size, align_corners=True)
    if image_score == "mean":
        return float(anomaly_map.mean()), anomaly_map
    if image_score == "std":
        return float(anomaly_map.std()), anomaly_map
    return F.avg_pool2d(torch.from_numpy(anomaly_map)[None], pool_side, stride=1).max().item(), anomaly_map


METHOD: type[Method] = UniAD
