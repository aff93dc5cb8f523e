"""CLIP's models by name, and where their weights come from: the hub, or a file of open_clip, OpenAI or transformers.

ImageBind-Huge has CLIP's two towers; its file is on no hub. Other names are open_clip's of a model and its tag of
weights. Two of open_clip's pairs do not say what they give, and are refused with the reason: see `MISLEADING`.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltbench.blocks.features.backbones import RANDOM
from ltbench.blocks.features.weights import State, hub_folder, plain_content, read_state
from ltbench.blocks.vision_language.clip import ClipReader, Tokenize, clip_reader
from ltbench.blocks.vision_language.clip_network import Clip, ClipShape, TowerShape
from ltbench.blocks.vision_language.imagebind import MARK, from_imagebind
from ltbench.errors import DataError, SpecError


@dataclass(frozen=True, slots=True)
class ClipModel:
    """A model with weights that are published.

    Args:
        shape: what it is made of.
        repository: on the hub, with open_clip's files; "" if it is on none.
        tag: of the weights.
        file_sha256: sha256, or its beginning, of the file that was first published -> the tag of what it holds.
    """

    shape: ClipShape
    repository: str
    tag: str
    file_sha256: Mapping[str, str]


_B16_PLUS = ClipShape(TowerShape(12, 896, 14), TowerShape(12, 640, 10), side=240, patch=16, dim=640, quick_gelu=False)
_L14_336 = ClipShape(TowerShape(24, 1024, 16), TowerShape(12, 768, 12), side=336, patch=14, dim=768, quick_gelu=True)
_H14 = ClipShape(TowerShape(32, 1280, 16), TowerShape(24, 1024, 16), side=224, patch=14, dim=1024, quick_gelu=False)
_OPENAI_L14_336 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"

CLIPS: dict[str, ClipModel] = {
    "ViT-B-16-plus-240/laion400m_e31": ClipModel(
        _B16_PLUS,
        "timm/vit_base_patch16_plus_clip_240.laion400m_e31",
        "laion400m_e31",
        {"8fb26589": "laion400m_e31", "699c4b84": "laion400m_e32"},
    ),
    "ViT-L-14-336-quickgelu/openai": ClipModel(
        _L14_336, "timm/vit_large_patch14_clip_336.openai", "openai", {_OPENAI_L14_336: "openai"}
    ),
    "ViT-H-14/laion2b_s32b_b79k": ClipModel(_H14, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "laion2b_s32b_b79k", {}),
    "imagebind-huge": ClipModel(replace(_H14, norm_eps=1e-6), "", "", {}),
}
"""The models by name. Hashes are those in the names of open_clip's and OpenAI's published files; the others have none.

ImageBind kept the weights of ViT-H-14's two towers, it is said, with another constant in its layer norms.
"""

NO_HUB = (
    "Expected a file of {name}'s weights, got none, and no hub has them. Download "
    "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth (CC BY-NC-SA 4.0) and give it: -p weights=FILE; or "
    "use model=ViT-H-14/laion2b_s32b_b79k of open_clip, another model, or a preset with packaged weights (offline)."
)
"""What to do without a file of ImageBind."""

MISLEADING = {
    "ViT-B-16-plus-240/laion400m_e32": (
        "open_clip fetches the weights of laion400m_e31 under this tag. "
        "Use ViT-B-16-plus-240/laion400m_e31, or give a file of e32 with it: -p weights=FILE."
    ),
    "ViT-L-14-336/openai": (
        "open_clip builds it with the exact GELU, and OpenAI trained the weights with another. "
        "Use ViT-L-14-336-quickgelu/openai."
    ),
}
"""Names of open_clip that give something else than they say (open_clip 3.3.0; findings/)."""

MARKS = (49406, 49407)
"""Ids of the marks of a text's beginning and end in CLIP's vocabulary."""

TINY = "tiny-clip"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")
"""Files with weights in a folder, the one to take first."""

TINY_SHAPE = ClipShape(
    TowerShape(3, 32, 2), TowerShape(3, 16, 2), side=64, patch=16, dim=24, quick_gelu=True, context=48, vocabulary=512
)


def load_clip(name: str, weights: str = "", device: str = "cpu", seed: int = 0) -> ClipReader:
    """Load a CLIP by its name.

    Args:
        name: a key of `CLIPS`.
        weights: a file, or a folder with one of `FILES`; "" takes the hub's, "random" draws some, for timing. OpenAI's
            TorchScript archive is opened only if its hash is the published one.
        device: "cpu", "cuda" or "cuda:N".
        seed: seed of random weights.

    Raises:
        SpecError: a name of `MISLEADING`.
        DataError: weights that cannot be had, are another tag's, or do not fit.
    """
    check_weights(name, weights)
    if name in MISLEADING and not (weights and name.endswith("e32")):
        raise SpecError(f"Expected the name of a CLIP with its weights, got {name}: {MISLEADING[name]}")
    known = CLIPS[name.replace("laion400m_e32", "laion400m_e31")]
    tokenize = tokenizer()
    if weights == RANDOM:
        network = build(known.shape, random_state(known.shape, 1 + seed), name)
        return clip_reader(name, network, tokenize, MARKS, device)
    file = Path(weights) if weights else hub_folder(known.repository, FILES[:2], [FILES[:2]])
    if file.is_dir():
        file = next((file / known_file for known_file in FILES if (file / known_file).is_file()), file / FILES[0])
    digest, tag = _tag_of(file, known, name.partition("/")[2])
    network = build(known.shape, converted(_state_of(file, known, digest)), source=f"{name} weights={file}")
    origin = {"file_sha256": digest, "tag": tag, "file": file.name}
    return clip_reader(name, network, tokenize, MARKS, device, origin)


def check_weights(name: str, weights: str) -> None:
    """Raise `DataError` where a model's weights must be a file and are none; nothing is read.

    Args:
        name: a key of `CLIPS`, or any other name, of which nothing is said here.
        weights: as for `load_clip`.
    """
    if not weights and name in CLIPS and not CLIPS[name].repository:
        raise DataError(NO_HUB.format(name=name))
    if name in CLIPS and weights not in ("", RANDOM) and not Path(weights).exists():
        raise DataError(f"Expected a file of {name}'s weights, got {weights}, which is not there. Check the path.")


def build(shape: ClipShape, state: Mapping[str, Tensor], source: str) -> Clip:
    """Return a network with these weights, in float32.

    Raises:
        DataError: weights that are missing or have another shape.
    """
    with torch.device("meta"):
        network = Clip(shape)
    wanted = network.state_dict()
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if wrong:
        raise DataError(
            f"Expected the weights of this CLIP, got {source} without {len(wrong)} that fit ({wrong[0]}, ...). "
            "Give the file of the same model."
        )
    network.load_state_dict({key: state[key].float().contiguous() for key in wanted}, assign=True)
    return network


def random_state(shape: ClipShape, seed: int) -> State:
    """Return random weights, drawn from a generator of their own: Gaussian, layer norms near the identity."""
    with torch.device("meta"):
        wanted = Clip(shape).state_dict()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in wanted.items():
        drawn = torch.randn(value.shape, generator=generator)
        fan_in = value[0].numel() if value.ndim > 1 else 100
        state[key] = drawn * fan_in**-0.5 + float(value.ndim == 1 and ".ln_" in f".{key}" and key.endswith("weight"))
    return state


def tiny_clip(weights: str = "", device: str = "cpu", seed: int = 0) -> ClipReader:
    """Make a minimal CLIP for tests, whose words are numbered by their checksum.

    Args:
        weights: "" for weights that are always the same, "random" for such as the seed draws.
        device: "cpu", "cuda" or "cuda:N".
        seed: seed of random weights.
    """
    state = random_state(TINY_SHAPE, 1 + seed if weights == RANDOM else 0)

    def tokenize(text: str) -> list[int]:
        words = re.findall(r"[a-z0-9_]+|[^\sa-z0-9_]", text.lower())
        return [2 + zlib.crc32(word.encode()) % (TINY_SHAPE.vocabulary - 2) for word in words]

    return clip_reader(TINY, build(TINY_SHAPE, state, TINY), tokenize, (0, 1), device)


def tokenizer() -> Tokenize:
    """Return CLIP's byte-pair tokenizer, which comes with open_clip.

    Raises:
        DataError: open_clip is not installed.
    """
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise DataError(
            f"Expected open_clip for CLIP's tokenizer, got {error}. Run pip install 'ltbench[clip]'."
        ) from error
    encode: Tokenize = SimpleTokenizer().encode
    return encode


def converted(state: Mapping[str, Any]) -> State:
    """Return weights under CLIP's own names: out of a training's checkpoint, of transformers or of ImageBind."""
    inner = state.get("state_dict", state)
    found = {key.removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    if MARK in found:
        return from_imagebind(found)
    return _from_transformers(found) if "visual_projection.weight" in found else found


_RENAMED = (
    (r"^vision_model\.", "visual."),
    (r"^text_model\.", ""),
    (r"embeddings\.class_embedding", "class_embedding"),
    (r"embeddings\.patch_embedding", "conv1"),
    (r"embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"embeddings\.token_embedding", "token_embedding"),
    (r"pre_layrnorm", "ln_pre"),
    (r"post_layernorm", "ln_post"),
    (r"final_layer_norm", "ln_final"),
    (r"encoder\.layers", "transformer.resblocks"),
    (r"layer_norm([12])", r"ln_\1"),
    (r"self_attn", "attn"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
)
"""From transformers' names to CLIP's own: regular expressions and what takes their place."""


def _from_transformers(state: Mapping[str, Tensor]) -> State:
    """Rename transformers' CLIPModel; its three projections of queries, keys and values are one, theirs transposed."""
    found: State = {}
    for key, value in state.items():
        for pattern, replacement in _RENAMED:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    for key in [key for key in found if ".attn.q_proj." in key]:
        parts = [found.pop(key.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        found[key.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    found["visual.proj"] = found.pop("visual_projection.weight").T
    found["text_projection"] = found.pop("text_projection.weight").T
    return found


def _tag_of(file: Path, known: ClipModel, wanted: str) -> tuple[str, str]:
    """Return the file's sha256 and the tag it proves, or "" where it is no published file's.

    Raises:
        DataError: the hash, or the name, is of other weights.
    """
    if not file.is_file():
        raise DataError(f"Expected a file of weights, got {file}, which is none. Give open_clip's or OpenAI's file.")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    tag = next((tag for start, tag in known.file_sha256.items() if digest.startswith(start)), "")
    if tag and tag != wanted:
        raise DataError(f"Expected the weights {wanted}, got {file}, whose hash is that of {tag}. Name {tag}.")
    claimed = re.search(r"-([0-9a-f]{8})\.pt$", file.name)
    if not tag and claimed and not digest.startswith(claimed[1]):
        raise DataError(
            f"Expected a file of the hash {claimed[1]}..., got {digest[:8]}... in {file}. Download it anew."
        )
    return digest, tag


def _state_of(file: Path, known: ClipModel, digest: str) -> Mapping[str, Any]:
    if file.suffix == ".safetensors":
        return read_state(file)
    try:
        content = plain_content(file)
    except ValueError as error:
        if digest in known.file_sha256:  # OpenAI's own archive of code and weights, to the last bit
            return dict(torch.jit.load(str(file), map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
        raise DataError(
            f"Expected plain weights in {file}, got something else ({error}). Give open_clip's .safetensors or .bin."
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"Expected a dictionary of weights in {file}, got something else. Give open_clip's file.")
    return content
