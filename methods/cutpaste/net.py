"""CutPaste's network: a trunk, whose pooled features are kept, and a head that is thrown away after training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ltbench.blocks.features import weights as sources
from ltbench.blocks.features.backbones import PRETRAINED, RANDOM
from ltbench.blocks.networks.timm_alone import timm
from ltbench.errors import SpecError, UnknownNameError

HIDDEN, LAST = 512, 128
"""Widths of the head: its hidden layers, and the one before the classes (Runinho/pytorch-cutpaste, `projection.py`)."""


class Classifier(nn.Module):
    """A trunk with global average pooling, and a head of linear layers with batch normalisation and ReLU.

    Args:
        trunk: gives a list with one feature map, (B, C, h, w).
        channels: C.
        widths: of the head's layers.
        classes: how many kinds of images are told apart.
    """

    def __init__(self, trunk: nn.Module, channels: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        layers: list[nn.Module] = []
        before = channels
        for width in widths:
            layers += [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU()]
            before = width
        self.head = nn.Sequential(*layers)
        self.out = nn.Linear(before, classes)

    def embed(self, images: Tensor) -> Tensor:
        """Return the pooled features (B, C) of normalised images (B, 3, H, W)."""
        level: Tensor = self.trunk(images)[0]
        return level.mean(dim=(2, 3))

    def classify(self, embeddings: Tensor) -> Tensor:
        """Return logits (B, classes) of pooled features (B, C)."""
        return cast(Tensor, self.out(self.head(embeddings)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised images (B, 3, H, W)."""
        return self.classify(self.embed(images))


def head_widths(depth: int) -> tuple[int, ...]:
    """Return the widths of a head of `depth` hidden layers: 512 each, then 128."""
    return (HIDDEN,) * depth + (LAST,)


def classifier(backbone: str, widths: Sequence[int], classes: int, seed: int) -> Classifier:
    """Return a network of random weights, as torch and timm draw them.

    Args:
        backbone: timm's name; its deepest feature level is pooled. ResNets start as torchvision's do.
        widths: of the head's layers.
        classes: how many kinds of images are told apart.
        seed: of the weights.

    Raises:
        UnknownNameError: timm has no such network.
        SpecError: a network without feature levels.
    """
    architecture = backbone.partition(".")[0]
    if not timm.is_model(architecture):
        raise UnknownNameError("timm network", backbone, timm.list_models())
    options: dict[str, Any] = (
        {"zero_init_last": False} if architecture.startswith("resnet") else {}
    )  # torchvision's default
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            trunk: Any = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=(-1,), **options)
        except (RuntimeError, AttributeError) as error:
            raise SpecError(
                f"Expected a timm network with feature levels, got {backbone} ({error}). Choose a convolutional one."
            ) from error
        return Classifier(trunk, trunk.feature_info.channels()[-1], widths, classes)


def load_trunk(network: Classifier, backbone: str, weights: str) -> None:
    """Load pretrained weights into a trunk; random ones stay.

    Raises:
        DataError: weights that cannot be had or do not fit.
    """
    if weights == RANDOM:
        return
    state = sources.pretrained_state(backbone) if weights == PRETRAINED else sources.read_state(Path(weights))
    sources.load_into(network.trunk, state, source=f"{backbone} weights={weights}")


def colours_of(network: Classifier) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (3, 1, 1), on the scale of 0 to 1, that the trunk's weights expect."""
    config = cast(dict[str, Sequence[float]], network.trunk.pretrained_cfg)
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    return mean, std
