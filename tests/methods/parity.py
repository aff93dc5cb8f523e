"""Weights, inputs and outputs of the authors' modules, where ../shared has them."""

from __future__ import annotations

import re

from safetensors.torch import load_file
from torch import Tensor

from tests.shared import SHARED

FOLDER = SHARED / "reference" / "parity"

OUTPUT, STEP = 1e-4, 1e-3
"""How near outputs should come, before and after a step of the optimiser."""


def parity(name: str, kind: str) -> dict[str, Tensor]:
    """Return the file `<name>.<kind>.safetensors`: kind is "weights", "tensors" or "final"."""
    file = f"{name}.safetensors" if kind == "final" else f"{name}.{kind}.safetensors"
    return load_file(FOLDER / file)


def renamed(weights: dict[str, Tensor], *rules: tuple[str, str]) -> dict[str, Tensor]:
    """Return weights under other names: each rule is a regular expression and what takes its place."""
    result = {}
    for name, tensor in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


UNIAD_NAMES = (
    (r"^pos_embed\.row_embed\.weight", "position.rows"),
    (r"^pos_embed\.col_embed\.weight", "position.columns"),
    (r"^(input|output)_proj", r"\1"),
    (r"^transformer\.decoder\.norm", "norm"),
    (r"^transformer\.(encoder|decoder)\.layers", r"\1"),
    (r"(encoder\.\d+)\.self_attn", r"\1.attention"),
    (r"(decoder\.\d+)\.self_attn", r"\1.memory_attention"),
    (r"(decoder\.\d+)\.multihead_attn", r"\1.output_attention"),
    (r"learned_embed\.weight", "queries"),
    (r"(linear[12])", r"ffn.\1"),
)
"""From the authors' names in UniAD to those of `blocks.reconstruction`."""
