"""The named protocols: how each paper turns images and masks into numbers.

Sources: the public code of UniAD (whose loader LTAD keeps), TailedCore and RLR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ltbench.core import Protocol
from ltbench.errors import UnknownNameError

DEFAULT_PROTOCOL = "common"

VARIANTS: dict[str, Callable[[Protocol], Protocol]] = {
    "positive_masks": lambda protocol: replace(protocol, mask_threshold="positive"),
    "depth12": lambda protocol: replace(protocol, image_depth=12),
}
"""What `+NAME` behind a protocol's name changes: how files on disk are read."""

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
        Protocol("rlr", resize=256, crop=256, image_score="smoothed_map_max", image_score_sigma=4.0),
    )
}


def protocol_named(name: str) -> Protocol:
    """Return the protocol of that name; `common+positive_masks+depth12` is `common` with these `VARIANTS`.

    Raises:
        UnknownNameError: there is none.
    """
    base, *variants = name.split("+")
    if base not in PROTOCOLS or not set(variants) <= set(VARIANTS) or len(set(variants)) < len(variants):
        known = [*PROTOCOLS, *(f"{protocol}+{variant}" for protocol in PROTOCOLS for variant in VARIANTS)]
        raise UnknownNameError("protocol", name, known)
    found = PROTOCOLS[base]
    for variant in variants:
        found = VARIANTS[variant](found)
    return replace(found, name=name)
