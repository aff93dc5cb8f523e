"""Checkpoints of a training: one safetensors file a phase, whose header holds the rest as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ltbench.atomic import TEMPORARY, whole
from ltbench.checksums import array_checksum, check_header, header_of, saving
from ltbench.errors import DataError
from ltbench.system import writing

_FACTS = "facts"
_REMEDY = "Free room and give the same command again: it goes on from the last checkpoint, if there is one."


@dataclass
class Position:
    """Where a training is: the next step of an epoch, the seconds and the losses so far."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)


def write_checkpoint(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all; it takes the place of the one before.

    Args:
        file: where to; its folder is made.
        tensors: by name.
        facts: plain JSON values.

    Raises:
        FullDiskError, DataError: it cannot be written; the one before stays.
    """
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    header = header_of(_checksums(contiguous), {_FACTS: json.dumps(facts, allow_nan=False)})
    with writing(file, _REMEDY), whole(file) as temporary:
        for pattern in (TEMPORARY, ".tmp??????"):  # the second is what safetensors fills and renames
            for stale in file.parent.glob(pattern):  # what a killed process left; the run's lock is ours
                stale.unlink()
        with saving(temporary):
            save_file(contiguous, temporary, metadata=header)
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # after a power cut, too, a checkpoint is the old one or the new one


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and facts that `write_checkpoint` wrote, or None if there is no such file.

    Raises:
        DataError: a file that is no checkpoint, or a damaged one; one of before checksums is taken as it is.
    """
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            header = dict(stored.metadata() or {})
            names = stored.keys()
            tensors = {name: stored.get_tensor(name) for name in names}
        check_header(header, _checksums(tensors))
        facts: dict[str, Any] = json.loads(header[_FACTS])
        return tensors, facts
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"Expected a checkpoint in {file}, got {error}. Remove the file to train anew.") from error


def _checksums(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the checksum of each tensor; its bytes are read on the CPU, whatever its type."""
    return {
        name: array_checksum(tensor.cpu().reshape(-1).view(torch.uint8).numpy(), str(tensor.dtype), tensor.shape)
        for name, tensor in tensors.items()
    }
