"""An image-text model by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ltbench.blocks.device import check_device
from ltbench.blocks.features.backbones import RANDOM
from ltbench.blocks.vision_language.align import Scale, load_align, tiny_align
from ltbench.blocks.vision_language.clip_weights import CLIPS, MISLEADING, load_clip, tiny_clip
from ltbench.blocks.vision_language.clip_weights import TINY as TINY_CLIP
from ltbench.blocks.vision_language.maps import map_reader
from ltbench.blocks.vision_language.model import VisionLanguage
from ltbench.blocks.vision_language.packaged import load_packaged
from ltbench.blocks.vision_language.reading import LAST, Reader
from ltbench.errors import SpecError
from ltbench.method import Runtime

Pixels = Literal["symmetric", "imagenet"]
"""How pixels are normalised: to [-1, 1] as for ALIGN, or by ImageNet's mean and deviation as in UniAD's loader."""

SCALES: dict[Pixels, Scale] = {
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

PACKAGED = {f"packaged-{size}": f"tf_efficientnet_{size}" for size in ("lite0", "lite1", "lite2")}
TINY = "tiny"

MODELS = (*PACKAGED, TINY)
"""Names with a meaning of their own; any other is a folder or a repository on the hub."""


def load_vision_language(
    name: str, layers: Sequence[int] | None, pixels: Pixels = "symmetric", *, runtime: Runtime, last: bool = False
) -> VisionLanguage:
    """Load a frozen image-text model; `runtime.notes["foundation_model"]` then says which it is.

    Args:
        name: a repository on the hub ("kakaobrain/align-base") or a folder that holds an ALIGN, as transformers writes
            it; "packaged-lite0", "packaged-lite1" or "packaged-lite2" for the stand-in; "tiny" for tests.
        layers: the image blocks whose maps are taken, counted from 0, ascending; None where no maps are wanted.
        pixels: how pixels are normalised.
        runtime: device, seed of the random weights of "tiny", and feature store.
        last: whether the last block's map is taken besides, for a reader.

    Raises:
        SpecError: layers that the model does not have, pixels that it cannot take, or a device that is not there.
        DataError: weights that cannot be had; the message says what to do.
    """
    check_device(runtime.device)
    if name in PACKAGED:
        if pixels != "symmetric":
            raise SpecError(
                f"Expected pixels=symmetric with model={name}, got {pixels}. EfficientNet-Lite wants [-1, 1]."
            )
        model = load_packaged(PACKAGED[name], layers, runtime)
    elif name == TINY:
        model = tiny_align(layers, SCALES[pixels], runtime.device, runtime.seed, last=last)
    else:
        model = load_align(name, layers, SCALES[pixels], runtime.device, last=last)
    runtime.notes["foundation_model"] = model.facts() | {"name": name, **_batches(model.images.batch)}
    return model


def load_reader(name: str, weights: str = "", blocks: Sequence[int] = (LAST,), *, runtime: Runtime) -> Reader:
    """Load a frozen image-text model as a `Reader`; `runtime.notes["foundation_model"]` then says which it is.

    Args:
        name: a CLIP ("ViT-B-16-plus-240/laion400m_e31", "ViT-L-14-336-quickgelu/openai", ...), "imagebind-huge",
            "tiny-clip" for tests, or what `load_vision_language` takes: an ALIGN, the stand-in, "tiny".
        weights: a CLIP's file or folder, or "random"; "" for the hub's.
        blocks: those that will be asked for, from 1, and `LAST`: a network of maps gives no others.
        runtime: device, seed of random weights, and feature store.

    Raises:
        SpecError: a name that says something else than what it gives, weights for a model that takes none, or a device
            that is not there.
        DataError: weights that cannot be had; the message says what to do.
    """
    check_device(runtime.device)
    if weights and name not in (*CLIPS, *MISLEADING) and (name, weights) != (TINY_CLIP, RANDOM):
        raise SpecError(f"Expected weights for a CLIP ({', '.join(CLIPS)}), got {name}. Leave weights empty.")
    reader: Reader
    if name in (*CLIPS, *MISLEADING):
        reader = load_clip(name, weights, runtime.device, runtime.seed)
    elif name == TINY_CLIP:
        reader = tiny_clip(weights, runtime.device, runtime.seed)
    else:
        layers = sorted(block - 1 for block in blocks if block != LAST) or None
        reader = map_reader(load_vision_language(name, layers, runtime=runtime, last=True), runtime.device)
    runtime.notes["foundation_model"] = reader.facts() | {"name": name, **_batches(reader.batch)}
    return reader


def _batches(batch: int) -> dict[str, int]:
    """Return what a record says of batches."""
    return {"batch": batch} if batch else {}
