"""The named protocols: how each paper turns images and masks into numbers.

Sources: the public code of UniAD (whose loader LTAD keeps), TailedCore and RLR.
"""

from __future__ import annotations

from dataclasses import replace

from ltbench.core import Protocol
from ltbench.errors import UnknownNameError

DEFAULT_PROTOCOL = "common"

POSITIVE_MASKS = "positive_masks"
"""What `+` adds to a protocol's name: every value of a mask above 0 is a defect."""

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
    """Return the protocol of that name; `common+positive_masks` is `common` with every value of a mask above 0.

    Raises:
        UnknownNameError: there is none.
    """
    base, plus, variant = name.partition("+")
    if base in PROTOCOLS and (not plus or variant == POSITIVE_MASKS):
        return replace(PROTOCOLS[base], name=name, mask_threshold="positive") if plus else PROTOCOLS[base]
    raise UnknownNameError("protocol", name, [*PROTOCOLS, *(f"{known}+{POSITIVE_MASKS}" for known in PROTOCOLS)])
