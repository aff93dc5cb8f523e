"""CLIP's two transformers (Radford et al., arXiv 2103.00020), open to what detectors do between their layers.

Parameters have the names of OpenAI's and open_clip's checkpoints. Beside the usual forward pass the image tower reads
windows of patches, and adds a stream of value-value attention (AnomalyCLIP, arXiv 2310.18961, section 3.3); the text
tower reads word vectors, and lets learnt tokens take the place of hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ltbench.blocks.networks.linear import linear


@dataclass(frozen=True, slots=True)
class TowerShape:
    """A transformer.

    Args:
        layers: number of blocks.
        width: values of a token.
        heads: of each attention.
    """

    layers: int
    width: int
    heads: int


@dataclass(frozen=True, slots=True)
class ClipShape:
    """What a CLIP is made of.

    Args:
        vision: the image tower.
        text: the text tower.
        side: side in pixels of the images that its positions were trained on.
        patch: side of a patch in pixels.
        dim: length of codes and of texts' vectors.
        quick_gelu: whether the activation is x * sigmoid(1.702 x), OpenAI's, and not the exact GELU.
        context: longest text in tokens, with its marks.
        vocabulary: number of tokens.
        norm_eps: what layer norms add to a variance.
    """

    vision: TowerShape
    text: TowerShape
    side: int
    patch: int
    dim: int
    quick_gelu: bool
    context: int = 77
    vocabulary: int = 49408
    norm_eps: float = 1e-5


class Attention(nn.Module):
    """Multi-head attention of tokens (B, L, width) to one another; the parameters are torch's MultiheadAttention's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Return the attended tokens; with `causal` none sees a later one."""
        queries, keys, values = (
            self._split(part) for part in linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        )
        return self._joined(F.scaled_dot_product_attention(queries, keys, values, is_causal=causal))

    def first(self, x: Tensor) -> Tensor:
        """Return the first token alone, (B, 1, width), attended to all."""
        width = x.shape[-1]
        query = self._split(linear(x[:, :1], self.in_proj_weight[:width], self.in_proj_bias[:width]))
        both = linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:])
        keys, values = (self._split(part) for part in both.chunk(2, dim=-1))
        return self._joined(F.scaled_dot_product_attention(query, keys, values))

    def value_value(self, x: Tensor) -> Tensor:
        """Return out_proj(softmax(V V' / sqrt(width of a head)) V), V being the values of tokens (B, L, width)."""
        width = x.shape[-1]
        values = self._split(linear(x, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :]))
        return self._joined(F.scaled_dot_product_attention(values, values, values))

    def _split(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        return tokens.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

    def _joined(self, heads: Tensor) -> Tensor:
        return linear(heads.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)


class Perceptron(nn.Module):
    """Two linear layers, four times as wide between; QuickGELU is the activation that OpenAI trained CLIP with."""

    def __init__(self, width: int, *, quick_gelu: bool) -> None:
        super().__init__()
        self.quick_gelu = quick_gelu
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (..., width)."""
        wide = linear(x, self.c_fc.weight, self.c_fc.bias, gelu=not self.quick_gelu)
        if self.quick_gelu:
            wide = wide * torch.sigmoid(1.702 * wide)
        return linear(wide, self.c_proj.weight, self.c_proj.bias)


class Block(nn.Module):
    """A residual block: attention, then two linear layers, each behind a layer norm."""

    def __init__(self, width: int, heads: int, *, quick_gelu: bool, norm_eps: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, norm_eps)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, norm_eps)
        self.mlp = Perceptron(width, quick_gelu=quick_gelu)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Return the tokens (B, L, width) behind the block."""
        x = x + self.attn(self.ln_1(x), causal=causal)
        behind: Tensor = x + self.mlp(self.ln_2(x))
        return behind

    def first(self, x: Tensor) -> Tensor:
        """Return the first token alone behind the block, (B, 1, width)."""
        first = x[:, :1] + self.attn.first(self.ln_1(x))
        behind: Tensor = first + self.mlp(self.ln_2(first))
        return behind


class Transformer(nn.Module):
    """Blocks one after the other."""

    def __init__(self, tower: TowerShape, shape: ClipShape) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(tower.width, tower.heads, quick_gelu=shape.quick_gelu, norm_eps=shape.norm_eps)
            for _ in range(tower.layers)
        )

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in order."""
        return [block for block in self.resblocks if isinstance(block, Block)]


class VisionTower(nn.Module):
    """The image tower: patches and a class token."""

    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        width = shape.vision.width
        self.patch = shape.patch
        self.conv1 = nn.Conv2d(3, width, shape.patch, stride=shape.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((shape.side // shape.patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width, shape.norm_eps)
        self.transformer = Transformer(shape.vision, shape)
        self.ln_post = nn.LayerNorm(width, shape.norm_eps)
        self.proj = nn.Parameter(torch.empty(width, shape.dim))

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the class token and the patches with their positions, (B, 1 + h * w, width): what ln_pre is given."""
        patches = self.conv1(pixels)
        tokens = patches.flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(tokens), 1, -1)
        return torch.cat([first, tokens], dim=1) + self.positions((patches.shape[2], patches.shape[3]))

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positions (1 + h * w, width) on a grid: as trained, or resized bilinearly, edges on edges."""
        side = round((len(self.positional_embedding) - 1) ** 0.5)
        if grid == (side, side):
            return self.positional_embedding
        first, rest = self.positional_embedding[:1], self.positional_embedding[1:]
        square = rest.T.reshape(1, -1, side, side)
        resized = F.interpolate(square, size=grid, mode="bilinear", align_corners=False)
        return torch.cat([first, resized[0].flatten(1).T])

    def states(self, tokens: Tensor) -> list[Tensor]:
        """Return the tokens before the first block and behind each, of what `embed` returned."""
        found = [self.ln_pre(tokens)]
        for block in self.transformer.blocks:
            found.append(block(found[-1]))
        return found

    def code(self, tokens: Tensor, *, normalised: bool = True) -> Tensor:
        """Return the codes (B, dim) of the last block's tokens; AnomalyCLIP's code leaves out `ln_post`."""
        first = tokens[:, 0]
        return (self.ln_post(first) if normalised else first) @ self.proj

    def windows(self, embedded: Tensor, places: Tensor) -> Tensor:
        """Return the codes of windows, (B, n, dim): the class token read with the patches of the window alone.

        WinCLIP, arXiv 2303.14814, section 4.2. All windows of an image go through the tower in one batch, of whose last
        block the class tokens alone are computed.

        Args:
            embedded: of `embed`, (B, 1 + h * w, width).
            places: (n, cells): the patches of each window, counted from 0.
        """
        first = places.new_zeros(len(places), 1)
        tokens = self.ln_pre(embedded)[:, torch.cat([first, places + 1], dim=1)].flatten(0, 1)
        *blocks, last = self.transformer.blocks
        for block in blocks:
            tokens = block(tokens)
        return self.code(last.first(tokens)).view(len(embedded), len(places), -1)

    def local(self, states: Sequence[Tensor], blocks: int) -> list[Tensor]:
        """Return the second stream behind each of the last `blocks` blocks, (B, 1 + h * w, width).

        It starts as the tokens before these blocks, and each adds its value-value attention of the usual stream,
        which it leaves alone: y_l = x_s + sum over j from s + 1 to l of VV_j(ln_1(x_{j-1})).

        Args:
            states: of `states`.
            blocks: how many blocks have it.
        """
        start = len(states) - 1 - blocks
        stream, found = states[start], []
        for state, block in zip(states[start:-1], self.transformer.blocks[start:], strict=True):
            stream = stream + block.attn.value_value(block.ln_1(state))
            found.append(stream)
        return found

    def aligned(self, tokens: Tensor) -> Tensor:
        """Return patches of some block in the space of texts, (B, h * w, dim)."""
        found: Tensor = self.ln_post(tokens[:, 1:]) @ self.proj
        return found


class Clip(nn.Module):
    """Both towers. The text tower lies at the top level, as in OpenAI's checkpoints."""

    def __init__(self, shape: ClipShape) -> None:
        super().__init__()
        self.shape = shape
        self.visual = VisionTower(shape)
        self.transformer = Transformer(shape.text, shape)
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.text.width)
        self.positional_embedding = nn.Parameter(torch.empty(shape.context, shape.text.width))
        self.ln_final = nn.LayerNorm(shape.text.width, shape.norm_eps)
        self.text_projection = nn.Parameter(torch.empty(shape.text.width, shape.dim))
        self.logit_scale = nn.Parameter(torch.empty(()))

    def text(self, words: Tensor, ends: Tensor, deep: Sequence[Tensor] = ()) -> Tensor:
        """Return the vectors (B, dim) of texts given as word vectors, their marks among them.

        Args:
            words: (B, L, width), before positions.
            ends: (B,): where each text's end mark stands.
            deep: before block i + 1, counted from 0, the i-th of these, (n, width), takes the place of the tokens from
                the second on, whatever block i made of them.
        """
        x = words + self.positional_embedding[: words.shape[1]]
        for index, block in enumerate(self.transformer.blocks):
            if 0 < index <= len(deep):
                own = deep[index - 1].expand(len(x), -1, -1)
                x = torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)
            x = block(x, causal=True)
        ended = self.ln_final(x)[torch.arange(len(x), device=x.device), ends]
        vectors: Tensor = ended @ self.text_projection
        return vectors
