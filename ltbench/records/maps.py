"""A run's anomaly maps on disk: `maps/<category>.safetensors`, with a checksum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltbench.checksums import read_arrays, write_arrays
from ltbench.errors import DataError

_NAME = "maps"


def write_maps(folder: Path, category: str, maps: NDArray[np.float32]) -> None:
    """Write the maps of a category, (N, H, W), however they lie in memory."""
    write_arrays(folder / f"{category}.safetensors", {_NAME: maps})


def read_maps(folder: Path, category: str, count: int) -> NDArray[np.float32]:
    """Return the maps of a category, (N, H, W), in the order of the record's scores.

    Args:
        folder: of the run's maps.
        category: which.
        count: how many the record says that there are.

    Raises:
        DataError: the file is missing or damaged, or holds other maps.
    """
    from safetensors import SafetensorError

    file = folder / f"{category}.safetensors"
    try:
        maps = read_arrays(file)[0][_NAME]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"Expected anomaly maps in {file}, got {error}. Repeat the run with --force.") from error
    if maps.ndim != 3 or len(maps) != count:
        raise DataError(f"Expected {count} maps in {file}, got shape {maps.shape}. Repeat the run with --force.")
    return maps
