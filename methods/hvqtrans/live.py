"""A backbone that runs in training mode, as the released trainer of HVQ-Trans runs its frozen one.

Weights stay as they are; batch normalisation takes the statistics of the batch and lets its running statistics drift
towards them, and whole residual branches of single images are dropped (drop-connect, Tan and Le, arXiv:1905.11946).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.features.room import maps_room
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.networks.timm_alone import timm
from ltbench.blocks.training.draws import Draws
from ltbench.errors import SpecError


class LiveBackbone:
    """Makes tokens of a batch with a backbone in training mode; between calls it is in evaluation mode.

    Args:
        backbone: whose network is used, and changed; nobody else may call it meanwhile.
        grid: (height, width) in tokens.
        momentum: share of a batch's statistics in the running ones.
        drop_connect: probability of dropping the last block's branch; in proportion to the number of the block, from 0.

    Raises:
        SpecError: a network without batch normalisation, or with `drop_connect` one without branches to drop.
    """

    def __init__(self, backbone: Backbone, grid: Grid, momentum: float, drop_connect: float) -> None:
        self.network, self._backbone, self._grid = backbone.network, backbone, grid
        normalisations = [module for module in self.network.modules() if isinstance(module, _BatchNorm)]
        if not normalisations:
            raise SpecError(f"Expected batch normalisation, got none in {backbone.name}. Set backbone_statistics=eval.")
        for module in normalisations:
            module.momentum = momentum  # timm's is 0.1 where TensorFlow's, for which the weights were made, is 0.01
        self._branches = [
            _replaced(self.network, name, probability) for name, probability in _branches(backbone, drop_connect)
        ]

    def tokens(self, images: Sequence[NDArray[np.uint8]], draws: Draws) -> Tensor:
        """Return the tokens of a batch of images of one size, (B, L, C), without gradients.

        The levels are resized bilinearly, corners on corners, and concatenated, as `tokens.aligned` does.

        Args:
            images: (H, W, 3) RGB.
            draws: which branches are dropped.
        """
        pixels = torch.from_numpy(np.stack(images)).to(self._backbone.device).permute(0, 3, 1, 2)
        mean, std = (
            torch.tensor(values, device=pixels.device).view(3, 1, 1)
            for values in (self._backbone.mean, self._backbone.std)
        )
        for branch in self._branches:
            branch.draws = draws
        self.network.train()
        try:
            with torch.no_grad():
                given = ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
                levels = [
                    F.interpolate(level, size=self._grid, mode="bilinear", align_corners=True)
                    for level in self.network(given)
                ]
                return torch.cat(levels, dim=1).flatten(2).transpose(1, 2).contiguous()
        finally:
            self.network.eval()


def live_bytes(backbone: str, layers: tuple[int, ...], size: tuple[int, int], batch_size: int) -> tuple[int, int]:
    """Return the bytes of a `LiveBackbone`'s network, as it is read and as it is used, and of a batch on its way.

    Args:
        backbone: timm's name.
        layers: indices into its feature levels, ascending.
        size: (height, width) of the images in pixels.
        batch_size: images that go through it at once.
    """
    room = maps_room(backbone, layers, size)
    return 2 * room.weights, batch_size * room.image


class DropConnect(nn.Module):
    """Drops the branch of an image with a probability, and divides those that stay by the rest of it."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.draws: Draws | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W); outside training as it is."""
        if not self.training or self.draws is None:
            return x
        kept = self.draws.bernoulli((len(x), 1, 1, 1), 1 - self.probability)
        return x * (kept.to(x.dtype) / (1 - self.probability))


def _branches(backbone: Backbone, drop_connect: float) -> list[tuple[str, float]]:
    """Return the name and the probability of each module that drops a branch, by timm's rule for the whole network.

    A block without a skip has such a module too, and does not call it.
    """
    if drop_connect == 0:
        return []
    advice = "Set drop_connect=0."
    with torch.device("meta"):
        try:
            whole: nn.Module = timm.create_model(
                backbone.name, features_only=True, out_indices=backbone.layers, drop_path_rate=drop_connect
            )
        except TypeError as error:
            raise SpecError(f"Expected a network that takes drop_path_rate, got {backbone.name}. {advice}") from error
    own = {name for name, _ in backbone.network.named_modules()}
    found = [
        (name, float(module.drop_prob))
        for name, module in whole.named_modules()
        if isinstance(module, timm.layers.drop.DropPath) and name.rpartition(".")[0] in own
    ]
    if not found:
        raise SpecError(f"Expected blocks with branches to drop, got none in {backbone.name}. {advice}")
    return found


def _replaced(network: nn.Module, name: str, probability: float) -> DropConnect:
    """Put a `DropConnect` in the place of a module, and return it."""
    parent, _, attribute = name.rpartition(".")
    branch = DropConnect(probability)
    setattr(network.get_submodule(parent), attribute, branch)
    return branch
