"""The named protocols: how each paper turns images and masks into numbers.

Sources: the public code of UniAD (whose loader LTAD keeps), TailedCore and RLR.
"""

from __future__ import annotations

from ltbench.core import Protocol
from ltbench.errors import UnknownNameError

DEFAULT_PROTOCOL = "common"

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
    """Return the protocol of that name, or raise `UnknownNameError`."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UnknownNameError("protocol", name, PROTOCOLS) from None
