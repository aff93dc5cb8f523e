"""What the authors set by category: how anomalies are simulated, and what a category is called in test.

Source: the authors' code (CASIA-IVA-Lab/AnomalyGPT), data sets of MVTec AD and VisA and the scripts that test on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Simulation:
    """How anomalies of a category are simulated.

    Args:
        rows: least and largest half-height of a cut-out, as shares of the image's side.
        columns: least and largest half-width, likewise.
        slope: of the logistic function that makes a label of a difference, per grey level.
        middle: grey levels at which the label is one half.
        background: (brightness, difference): what lies farther from the brightness is the object; None where the whole
            image is.
        resizing: smallest and largest factor of a cut-out.
    """

    rows: Bounds = (0.03, 0.4)
    columns: Bounds = (0.03, 0.4)
    slope: float = 1 / 12
    middle: float = 24
    background: tuple[float, float] | None = None
    resizing: Bounds = (0.7, 1.3)


VISA = Simulation(resizing=(0.5, 2.0))
"""Every category of VisA, and here any that the authors do not name."""

_BRIGHT, _DARK = (200.0, 60.0), (20.0, 20.0)
_TEXTURE = Simulation(slope=1 / 3, middle=7, resizing=(0.5, 2.0))

SIMULATIONS = {
    "bottle": Simulation(background=_BRIGHT),
    "cable": Simulation((0.05, 0.4), (0.05, 0.4)),
    "capsule": Simulation((0.03, 0.15), slope=1 / 2, middle=4, background=_BRIGHT),
    "hazelnut": Simulation((0.03, 0.35), (0.03, 0.35), background=_DARK),
    "metal_nut": Simulation(slope=1 / 3, middle=7, background=_DARK),
    "pill": Simulation((0.03, 0.2), slope=1 / 3, middle=7, background=_DARK),
    "screw": Simulation((0.03, 0.12), (0.03, 0.12), slope=1, middle=3, background=_BRIGHT),
    "toothbrush": Simulation(columns=(0.03, 0.2), slope=1 / 6, middle=15, background=_DARK),
    "transistor": Simulation(slope=1 / 6, middle=15),
    "zipper": Simulation(columns=(0.03, 0.2), slope=1 / 6, middle=15, background=_BRIGHT),
    "carpet": _TEXTURE,
    "grid": _TEXTURE,
    "leather": _TEXTURE,
    "tile": _TEXTURE,
    "wood": replace(_TEXTURE, slope=1 / 6, middle=15),
}
"""The categories of MVTec AD."""

_VISA_NAMES = {
    "candle": "candle",
    "capsules": "capsule",
    "cashew": "cashew",
    "chewinggum": "object",  # its description has a typing error, so that no name is found in it
    "fryum": "fryum",
    "macaroni1": "macaroni",
    "macaroni2": "macaroni",
    "pcb1": "pcb",
    "pcb2": "pcb",
    "pcb3": "pcb",
    "pcb4": "pcb",
    "pipe_fryum": "fryum",
}


def described(category: str) -> str:
    """Return the name that the authors' test scripts find in their description of a category; "object" if none."""
    return category if category in SIMULATIONS else _VISA_NAMES.get(category, "object")
