"""ALIGN through transformers: EfficientNet-B7 and BERT with a 640-dimensional space in common.

Jia et al., arXiv 2102.05918, in the open re-implementation kakaobrain/align-base. Images go through the blocks one by
one: LTAD's layers {3, 10, 17, 37} are blocks counted from 0, the last ones at strides 2, 4, 8 and 16.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AlignConfig, AlignModel, AutoTokenizer
from transformers.utils import logging

from ltbench.blocks.features.backbones import Backbone
from ltbench.blocks.features.weights import hub_folder, lacking, state_sha256
from ltbench.blocks.vision_language.model import Code, Stage, VisionLanguage
from ltbench.blocks.vision_language.text import TextEncoder, Tokenize
from ltbench.errors import DataError, SpecError

Scale = tuple[tuple[float, float, float], tuple[float, float, float]]
"""What is subtracted from each colour channel, and what it is divided by, on the scale of 0 to 1."""

FILES = ("*.json", "*.txt", "*.safetensors", "*.bin")
"""What is downloaded of a repository on the hub."""

REQUIRED = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    ("vocab.txt", "tokenizer.json"),
)
"""Of each, one file at least is there in a folder that is complete."""

TINY_VOCABULARY = 512


class AlignLevels(nn.Module):
    """ALIGN's image branch as a feature network: the maps of some blocks, and the pooled code as a (D, 1, 1) map."""

    def __init__(self, vision: Any, layers: Sequence[int], scale: Scale) -> None:
        super().__init__()
        if not layers or list(layers) != sorted(set(layers)) or not 0 <= layers[0] <= layers[-1] < len(_blocks(vision)):
            raise SpecError(
                f"Expected ascending blocks from 0 to {len(_blocks(vision)) - 1}, got {list(layers)}. "
                "Give for instance -p layers=[3,10,17,37]."
            )
        self.vision = vision
        self.layers = tuple(layers)
        self.pretrained_cfg = {"mean": scale[0], "std": scale[1]}
        channels = [_channels(block) for block in _blocks(vision)]
        wanted = [*(channels[layer] for layer in layers), channels[-1]]
        self.feature_info = SimpleNamespace(channels=lambda: wanted)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of the layers and the code, of normalised pixels (B, 3, H, W)."""
        state: Tensor = self.vision.embeddings(pixels)
        levels = []
        for index, block in enumerate(_blocks(self.vision)):
            state = block(state)
            if index in self.layers:
                levels.append(state)
        return [*levels, state.mean(dim=(2, 3), keepdim=True)]


def align(
    name: str,
    model: AlignModel,
    tokenize: Tokenize,
    marks: tuple[int, int],
    layers: Sequence[int] | None,
    scale: Scale,
    device: str = "cpu",
    *,
    last: bool = False,
) -> VisionLanguage:
    """Make an image-text model of transformers' ALIGN.

    Args:
        name: what it is called.
        model: with weights.
        tokenize: gives the ids of a text's pieces.
        marks: ids of [CLS] and [SEP].
        layers: blocks of the image branch, from 0, ascending; None for the last.
        scale: how pixels are normalised.
        device: "cpu", "cuda" or "cuda:N".
        last: whether the last is taken besides.
    """
    branches = cast(Any, model)
    digest = state_sha256(branches.vision_model.state_dict())
    count = len(_blocks(branches.vision_model))
    if layers is None:
        layers = (count - 1,)
    elif last and count - 1 not in layers:
        layers = (*layers, count - 1)
    network = AlignLevels(branches.vision_model, layers, scale)
    # The code's place among the layers is behind the last block.
    spots = (*layers, count)
    images = Backbone(f"align, transformers {transformers.__version__}", spots, network, digest, device)
    projection = branches.text_projection.to(device).requires_grad_(requires_grad=False)

    def head(states: Tensor, mask: Tensor) -> Tensor:
        return cast(Tensor, projection(states[:, 0]))

    bert = branches.text_model.to(device)
    text = TextEncoder(bert, tokenize, marks, head, projection.out_features, dict(projection.state_dict()))
    stages = stages_of(branches.vision_model)
    return VisionLanguage(name, tuple(layers), images, _code, text, stages, last=len(layers) - 1, cells_of=_cells)


def load_align(
    name: str, layers: Sequence[int] | None, scale: Scale, device: str = "cpu", *, last: bool = False
) -> VisionLanguage:
    """Load ALIGN from a folder that transformers wrote, or from the hub by the name of its repository.

    Raises:
        DataError: no such folder, no hub, or files that are no ALIGN; the message says what to do.
    """
    folder = Path(name) if Path(name).is_dir() else hub_folder(name, FILES, REQUIRED)
    try:
        if files := lacking(folder, REQUIRED):
            raise ValueError(f"no {files}")
        if (kind := json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")) != "align":
            raise ValueError(f"a model of type {kind!r}")
        with torch.random.fork_rng(devices=[]), _no_bars():
            model, loaded = cast(
                tuple[AlignModel, dict[str, Any]],
                AlignModel.from_pretrained(
                    folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
                ),
            )
        if keys := sorted({*loaded["missing_keys"], *(found[0] for found in loaded["mismatched_keys"])}):
            raise ValueError(f"no weights that fit {keys[0]} and {len(keys) - 1} others")
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if len(tokenizer) > (pieces := cast(Any, model.config).text_config.vocab_size):
            raise ValueError(f"a tokenizer of {len(tokenizer)} pieces for {pieces}")
    except Exception as error:  # transformers raises errors of any kind for files that are something else
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"Expected ALIGN's configuration, weights and tokenizer in {folder}, got {reason}. "
            "Give a folder written by save_pretrained of transformers' AlignModel and by that of its tokenizer."
        ) from error

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    marks = (int(tokenizer.cls_token_id), int(tokenizer.sep_token_id))
    return align(name, model, tokenize, marks, layers, scale, device, last=last)


def tiny_align(
    layers: Sequence[int] | None, scale: Scale, device: str = "cpu", seed: int = 0, *, last: bool = False
) -> VisionLanguage:
    """Make a minimal ALIGN with random weights, for tests: 8 blocks, the last at strides 2, 4, 8 and 16 are 0, 1, 2, 4.

    Its words are numbered by their checksum.
    """
    with torch.random.fork_rng(devices=[]):
        model = AlignModel(tiny_config())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                fan_in = max(1, parameter[0].numel())
                parameter.normal_(0, (2 / fan_in) ** 0.5, generator=generator)

    def tokenize(text: str) -> list[int]:
        return [2 + zlib.crc32(word.encode()) % (TINY_VOCABULARY - 2) for word in text.split()]

    return align("tiny", model, tokenize, (0, 1), layers, scale, device, last=last)


def tiny_config() -> AlignConfig:
    """Return the configuration of `tiny_align`."""
    channels = [8, 8, 8, 16, 16, 24, 32]
    vision = {
        "width_coefficient": 1.0,
        "depth_coefficient": 0.3,
        "in_channels": [32, *channels[:-1]],
        "out_channels": channels,
        "expand_ratios": [1, 2, 2, 2, 2, 2, 2],
    }
    text = {
        "vocab_size": TINY_VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
    }
    return AlignConfig(text_config=text, vision_config=vision, projection_dim=channels[-1])


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars of its own inside the block."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _blocks(vision: Any) -> Any:
    return vision.encoder.blocks


def stages_of(vision: Any) -> tuple[Stage, ...]:
    """Return the stages of transformers' `AlignVisionModel`, in order."""
    config, blocks, end, stages = vision.config, _blocks(vision), 0, []
    for count, kernel, stride in zip(config.num_block_repeats, config.kernel_sizes, config.strides, strict=True):
        repeats = math.ceil(config.depth_coefficient * count)
        end += repeats
        stages.append(Stage(_channels(blocks[end - 1]), repeats, kernel, stride))
    return tuple(stages)


def _channels(block: Any) -> int:
    return int(block.projection.project_conv.out_channels)


def _cells(level: Tensor) -> Tensor:
    return level


def _code(level: NDArray[np.float32]) -> Code:
    return level.reshape(-1)
