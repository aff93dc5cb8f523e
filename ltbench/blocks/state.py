"""A method's hyper-parameters and learnt arrays on disk: `parameters.json` and `state.safetensors`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from ltbench.atomic import whole
from ltbench.checksums import read_arrays, text_checksum, write_arrays
from ltbench.errors import DataError

M = TypeVar("M")

PARAMETERS = "parameters.json"
STATE = "state.safetensors"


def save_state(folder: Path, method: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a method's hyper-parameters (its dataclass fields) and learnt arrays to a folder, each whole or not at all.

    Raises:
        OSError: the folder cannot be written to.
    """
    parameters = {field.name: getattr(method, field.name) for field in dataclasses.fields(method) if field.init}
    text = json.dumps(parameters, indent=1) + "\n"
    with whole(folder / STATE) as state, whole(folder / PARAMETERS) as named:
        write_arrays(state, arrays, {PARAMETERS: text_checksum(text)})
        named.write_text(text, encoding="utf-8")


def load_state(method: type[M], folder: Path) -> tuple[M, dict[str, NDArray[Any]]]:
    """Return the method with its hyper-parameters, and the learnt arrays, that `save_state` wrote.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        text = (folder / PARAMETERS).read_text(encoding="utf-8")
        arrays, header = read_arrays(folder / STATE)
        if header.get(PARAMETERS, text_checksum(text)) != text_checksum(text):
            raise ValueError(f"{PARAMETERS} with a checksum that differs")
        parameters = json.loads(text)
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()}
        return method(**values), arrays
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise DataError(f"Expected a saved {method.__name__} in {folder}, got {error}. Save it again.") from error


def packed(names: Sequence[str] | Mapping[str, Sequence[str]]) -> NDArray[np.uint8]:
    """Return names, or lists of names by what they are of, as the bytes of their JSON: an array beside the others."""
    return np.frombuffer(json.dumps(names).encode(), np.uint8)


def unpacked(array: NDArray[np.uint8]) -> Any:
    """Return what `packed` was given; a tuple comes back as a list."""
    return json.loads(array.tobytes())
