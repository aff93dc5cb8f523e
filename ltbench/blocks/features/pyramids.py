"""timm's networks as feature pyramids: how they are built, and what shapes they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from ltbench.blocks.networks.timm_alone import timm
from ltbench.errors import SpecError, UnknownNameError

_NOT_CUT = (timm.models.efficientnet.EfficientNetFeatures, timm.models.mobilenetv3.MobileNetV3Features)
"""Kinds of feature networks that timm leaves whole behind the deepest level."""

_VITS = ["vision_transformer"]
"""Module of timm's whose networks take images of other sides than they learnt on, if they are told so."""


@dataclass(frozen=True, slots=True)
class MapShapes:
    """What a backbone makes of an image of one size.

    Args:
        maps: (C, h, w) of each layer's map.
        parameter_count: numbers in the weights.
        largest: numbers in the largest output of a module.
    """

    maps: tuple[tuple[int, int, int], ...]
    parameter_count: int
    largest: int


@cache
def map_shapes(name: str, layers: tuple[int, ...], size: tuple[int, int]) -> MapShapes:
    """Return the shapes of a backbone's maps for images of `size`; nothing is computed, no weights are needed.

    Raises:
        UnknownNameError, SpecError: as `load_backbone`.
    """
    largest = 0

    def note(module: nn.Module, given: object, made: object) -> None:
        nonlocal largest
        largest = max(largest, made.numel() if isinstance(made, Tensor) else 0)

    with torch.device("meta"), torch.inference_mode():
        network = feature_network(name, layers, seed=0).eval()
        for module in network.modules():
            module.register_forward_hook(note)
        maps = [(level.shape[1], level.shape[2], level.shape[3]) for level in network(torch.empty(1, 3, *size))]
    return MapShapes(tuple(maps), sum(parameter.numel() for parameter in network.parameters()), largest)


def channels_of(name: str, layers: Sequence[int]) -> tuple[int, ...]:
    """Return the channels of each feature level of a timm network; no weights are needed."""
    return facts_of(feature_network(name, tuple(layers), seed=0))[2]


def architecture_of(name: str, layers: tuple[int, ...]) -> str:
    """Return timm's name without the tag of the weights.

    Raises:
        UnknownNameError: timm has no such network.
        SpecError: layers that do not ascend from 0 on.
    """
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise UnknownNameError("timm network", name, timm.list_models())
    if not layers or any(layer < 0 for layer in layers) or list(layers) != sorted(set(layers)):
        raise SpecError(f"Expected ascending layer indices, got {list(layers)}. Give for instance -p layers=[2,3].")
    return architecture


def feature_network(name: str, layers: tuple[int, ...], seed: int) -> nn.Module:
    """Return timm's `features_only` network with random weights, without what lies behind the deepest level.

    Args:
        name: timm's name.
        layers: indices into its feature levels, ascending.
        seed: of the weights.

    Raises:
        UnknownNameError, SpecError: as `load_backbone`.
    """
    is_vit = timm.models.is_model_in_modules(architecture_of(name, layers), _VITS)
    sizes: dict[str, Any] = {"dynamic_img_size": True} if is_vit else {}
    # Only the CPU's generator is drawn from: the weights are made there.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network: nn.Module = timm.create_model(name, features_only=True, out_indices=layers, **sizes)
        except (IndexError, AssertionError, RuntimeError) as error:
            raise SpecError(
                f"Expected a timm network with feature levels {list(layers)}, got {name} ({error}). "
                "Choose other layers, another backbone or another tag."
            ) from error
    return _cut(network)


def _cut(network: Any) -> nn.Module:
    """Drop what lies behind the deepest level; timm does so itself for all but two kinds of networks."""
    if isinstance(network, _NOT_CUT):
        deepest = max(level["stage"] for level in network.feature_info.get_dicts())
        network.blocks = network.blocks[:deepest]
    return cast(nn.Module, network)


def facts_of(network: Any) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """Return what timm says of a feature network: the mean and deviation it expects, and the channels of its levels."""
    config = network.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"]), tuple(network.feature_info.channels())
