"""Arrays on disk with a checksum each: what is read is what was written, or an error.

One safetensors file, whose header holds under `checksums` a CRC-32 of each array's type, shape and bytes, and one of
each other entry of the header. Every array is made contiguous before it is written: safetensors writes a strided numpy
array as the bytes at its start (`findings/safetensors_strided_numpy.sh`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltbench.system import told_by_safetensors

HEADER = "checksums"
"""The entry of a safetensors header that holds the checksums."""

NO_TEXTS: Mapping[str, str] = {}


def text_checksum(text: str) -> str:
    """Return the CRC-32 of a text."""
    return f"{zlib.crc32(text.encode()):08x}"


def array_checksum(data: NDArray[Any], kind: str, shape: Iterable[int]) -> str:
    """Return the CRC-32 of an array: of its type, its shape and its bytes.

    Args:
        data: contiguous.
        kind: the name of the type.
        shape: the shape.
    """
    named = zlib.crc32(f"{kind} {list(shape)}".encode())
    return f"{zlib.crc32(data.reshape(-1).view(np.uint8).data, named):08x}"


def header_of(arrays: Mapping[str, str], texts: Mapping[str, str] = NO_TEXTS) -> dict[str, str]:
    """Return a safetensors header: texts, and the checksums of arrays and texts.

    Args:
        arrays: array -> its checksum.
        texts: entry -> text.
    """
    sums = {"arrays": dict(arrays), "texts": {name: text_checksum(text) for name, text in texts.items()}}
    return {**texts, HEADER: json.dumps(sums)}


def check_header(header: Mapping[str, str], arrays: Mapping[str, str]) -> None:
    """Raise `ValueError` if arrays or header are not what was written; a file of before checksums passes.

    Args:
        header: as it was read.
        arrays: array -> the checksum of what was read.
    """
    if HEADER not in header:
        return
    sums = json.loads(header[HEADER])
    texts = {name: text_checksum(text) for name, text in header.items() if name != HEADER}
    for found, stored in ((dict(arrays), sums["arrays"]), (texts, sums["texts"])):
        damaged = sorted(name for name in {*found, *stored} if found.get(name) != stored.get(name))
        if damaged:
            raise ValueError(f"a checksum that differs, of {', '.join(damaged[:3])}")


@contextmanager
def saving(target: Path) -> Iterator[None]:
    """Let safetensors write a file inside the block as `open` would: of the usual mode, and refused by an `OSError`.

    It lets the owner alone read it, and raises an error of its own: `findings/safetensors_private_files.sh` and
    `findings/safetensors_replaces_links.sh` show it.
    """
    with told_by_safetensors(target):
        target.touch()
        mode = target.stat().st_mode
        yield
        target.chmod(mode)


def write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, str] = NO_TEXTS) -> None:
    """Write arrays and texts into a safetensors file, with checksums; any strides will do.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with saving(file):
        save_file(whole, file, metadata=header_of(_checksums(whole), texts))


def read_arrays(file: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays and texts that `write_arrays`, or safetensors alone, wrote.

    Raises:
        ValueError: a checksum differs.
        OSError: it cannot be read.
        SafetensorError: it is no safetensors file.
    """
    from safetensors import safe_open

    with safe_open(file, framework="np") as stored:
        header = dict(stored.metadata() or {})
        names = stored.keys()
        arrays: dict[str, NDArray[Any]] = {name: stored.get_tensor(name) for name in names}
    check_header(header, _checksums(arrays))
    return arrays, {name: text for name, text in header.items() if name != HEADER}


def _checksums(arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    return {name: array_checksum(array, array.dtype.name, array.shape) for name, array in arrays.items()}
