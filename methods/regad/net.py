"""RegAD's networks: a trunk of three stages with a spatial transformer behind each, an encoder and a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.features import weights as sources
from ltbench.blocks.features.backbones import PRETRAINED, RANDOM
from ltbench.blocks.networks.timm_alone import timm
from ltbench.errors import SpecError, UnknownNameError

from .transformers import Mode, SpatialTransformer, inverse, resampled

STRIDE = 16
"""Pixels of the coarsest stage."""


class Registration(nn.Module):
    """Features of registered images, and the siamese heads that train them.

    Args:
        backbone: timm's name, a ResNet or an EfficientNet; its first three stages (strides 4, 8 and 16) are taken.
        size: (height, width) of the images in pixels, multiples of 16.
        mode: what the transformers may do.
        frozen: the trunk stays as it is, its batch norms included; transformers and heads alone are trained.
        seed: of the random weights.
        weights: of the trunk: "random", "pretrained" or the path of a checkpoint.

    Raises:
        UnknownNameError: timm has no such network.
        SpecError: a network of another kind, or sides that are no multiples of 16.
        DataError: weights that cannot be had or do not fit.
    """

    def __init__(
        self, backbone: str, size: tuple[int, int], mode: Mode, *, frozen: bool, seed: int, weights: str = RANDOM
    ) -> None:
        super().__init__()
        if size[0] % STRIDE or size[1] % STRIDE:
            raise SpecError(f"Expected images of sides that are multiples of 16, got {size}. Take another protocol.")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            trunk = _trunk(backbone)
            _load(trunk, backbone, weights)
            self.stages, self.channels = _cut(trunk, backbone)
            self.transformers = nn.ModuleList(
                SpatialTransformer(channels, (size[0] // stride, size[1] // stride), mode)
                for channels, stride in zip(self.channels, (4, 8, 16), strict=True)
            )
            width = self.channels[-1]
            self.encoder = nn.Sequential(*_layer(width), *_layer(width), nn.Conv2d(width, width, 1, bias=False))
            self.predictor = nn.Sequential(*_layer(width), nn.Conv2d(width, width, 1, bias=False))
        self.frozen = frozen
        self.stages.requires_grad_(not frozen)

    def for_training(self) -> None:
        """Set all that is trained to training mode."""
        self.train()
        if self.frozen:
            self.stages.eval()

    def registered(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the maps behind each transformer, the finest first, and its matrices (B, 2, 3).

        Args:
            images: (B, 3, H, W).
        """
        x, maps, thetas = images, [], []
        for stage, transformer in zip(self.stages, self.transformers, strict=True):
            x, theta = transformer(stage(x))
            maps.append(x)
            thetas.append(theta)
        return maps, thetas

    def features(self, images: Tensor) -> Tensor:
        """Return the maps of all stages, moved back to where the image has them, (B, sum of C, H/4, W/4).

        Coarser maps are repeated to the size of the finest one.
        """
        maps, thetas = self.registered(images)
        back = [inverse(theta) for theta in thetas]
        moved = []
        for depth, level in enumerate(maps):
            for theta in back[depth::-1]:
                level = resampled(level, theta)
            moved.append(F.interpolate(level, maps[0].shape[2:], mode="nearest"))
        return torch.cat(moved, dim=1)

    def loss(self, queries: Tensor, supports: Tensor) -> Tensor:
        """Return how far queries and the means of their supports are from predicting one another, in [-1, 1].

        L = -cos(P(E(q)), sg E(s)) / 2 - cos(P(E(s)), sg E(q)) / 2, averaged over places and queries.

        Args:
            queries: (B, 3, H, W).
            supports: (B, K, 3, H, W), of the same category.
        """
        count, each = supports.shape[:2]
        query = self.registered(queries)[0][-1]
        support = self.registered(supports.flatten(0, 1))[0][-1]
        support = support.view(count, each, *support.shape[1:]).mean(dim=1)
        encoded = [cast(Tensor, self.encoder(side)) for side in (query, support)]
        predicted = [cast(Tensor, self.predictor(side)) for side in encoded]
        return -(similarity(predicted[0], encoded[1]) + similarity(predicted[1], encoded[0])) / 2


def similarity(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean over places of the cosine over channels of maps (B, C, h, w); the target has no gradient."""
    return F.cosine_similarity(predicted, target.detach(), dim=1).mean()


def _load(trunk: nn.Module, backbone: str, weights: str) -> None:
    """Load weights into a trunk; random ones stay."""
    if weights == RANDOM:
        return
    state = sources.pretrained_state(backbone) if weights == PRETRAINED else sources.read_state(Path(weights))
    sources.load_into(trunk, state, source=f"{backbone} weights={weights}")


def colours_of(backbone: str) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (3, 1, 1), on the scale of 0 to 1, that the backbone's weights expect."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        raise SpecError(f"Expected a backbone with known colours, got {backbone}. Take normalise=false.")
    return torch.tensor(config.mean).view(3, 1, 1), torch.tensor(config.std).view(3, 1, 1)


def _layer(width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()


def _trunk(backbone: str) -> nn.Module:
    architecture = backbone.partition(".")[0]
    if not timm.is_model(architecture):
        raise UnknownNameError("timm network", backbone, timm.list_models())
    options: dict[str, Any] = {"zero_init_last": False} if architecture.startswith("resnet") else {}
    network: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=0, **options)
    return network


def _cut(network: Any, backbone: str) -> tuple[nn.ModuleList, tuple[int, ...]]:
    """Return the first three stages of a network as modules, and their channels."""
    if hasattr(network, "layer1"):
        stem = [network.conv1, network.bn1, network.act1, network.maxpool]
        parts = [nn.Sequential(*stem, network.layer1), network.layer2, network.layer3]
        places = (1, 2, 3)
    elif hasattr(network, "blocks") and hasattr(network, "conv_stem"):
        stem = [network.conv_stem, network.bn1]
        parts = [nn.Sequential(*stem, *network.blocks[:2]), network.blocks[2], network.blocks[3:5]]
        places = (1, 2, 3)
    else:
        raise SpecError(f"Expected a ResNet or an EfficientNet of timm, got {backbone}. Choose one of them.")
    facts = network.feature_info
    info = facts if isinstance(facts, list) else facts.get_dicts()
    return nn.ModuleList(parts), tuple(info[place]["num_chs"] for place in places)
