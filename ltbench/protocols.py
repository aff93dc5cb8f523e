"""The named protocols: how each paper turns images and masks into numbers.

Sources: the public code of UniAD (whose loader LTAD keeps), TailedCore, RLR, Dinomaly, AnomalyGPT, AnomalyCLIP and
its authors' WinCLIP.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ltbench.core import Protocol
from ltbench.errors import UnknownNameError

DEFAULT_PROTOCOL = "common"

VARIANTS: dict[str, tuple[str, Any]] = {
    "positive_masks": ("mask_threshold", "positive"),
    "half_masks": ("mask_threshold", "half"),
    "depth12": ("image_depth", 12),
    "defective_pixels": ("defective_pixels", True),
}
"""What `+NAME` behind a protocol's name sets: how files on disk are read, and a metric that is given besides."""

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("common", resize=256),
        Protocol("ltad", resize=224),
        Protocol(
            "tailedcore",
            resize=256,
            resize_mode="short_side",
            crop=224,
            mask_interpolation="bilinear",
            mask_rule="full",
        ),
        Protocol("dinomaly", resize=448, crop=392, mask_interpolation="bilinear", pixel_side=256),
        Protocol("rlr", resize=256, crop=256, image_score="smoothed_map_max", image_score_sigma=4.0),
        *(
            Protocol(name, side, interpolation="bicubic", mask_interpolation="bilinear", mask_rule="half")
            for name, side in (("winclip", 240), ("anomalyclip", 518))
        ),
        Protocol("anomalygpt", 224, interpolation="bicubic", mask_interpolation="bilinear", mask_rule="tenth"),
    )
}


def protocol_named(name: str) -> Protocol:
    """Return the protocol of that name; `common+positive_masks+depth12` is `common` with these `VARIANTS`.

    Raises:
        UnknownNameError: there is none, or two variants set the same.
    """
    base, *variants = name.split("+")
    settings = {VARIANTS[variant][0]: VARIANTS[variant][1] for variant in variants if variant in VARIANTS}
    if base not in PROTOCOLS or len(settings) < len(variants):
        known = [*PROTOCOLS, *(f"{protocol}+{variant}" for protocol in PROTOCOLS for variant in VARIANTS)]
        raise UnknownNameError("protocol", name, known)
    ordered = "+".join([base, *(variant for variant in VARIANTS if variant in variants)])  # one name, one run
    return replace(PROTOCOLS[base], name=ordered, **settings)
