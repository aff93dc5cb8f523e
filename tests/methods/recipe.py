"""Weights that parity files describe instead of holding them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def recipe_weights(names_and_shapes: Sequence[tuple[str, Sequence[int]]]) -> dict[str, Tensor]:
    """Return the tensors of a recipe: number i is made of the normal numbers of numpy's RandomState(1000 + i).

    RegAD's last layers of a transformer, `fc.2`, start near the identity.
    """
    found = {}
    for number, (name, shape) in enumerate(names_and_shapes):
        z = np.random.RandomState(1000 + number).standard_normal(tuple(shape))
        found[name] = torch.tensor(_scaled(name, z), dtype=torch.float32)
    return found


def _scaled(name: str, z: Any) -> Any:
    if name.endswith("running_mean"):
        return 0.1 * z
    if name.endswith("running_var"):
        return np.exp(0.1 * z)
    if name.endswith("fc.2.weight"):
        return 0.0008 * z
    if name.endswith("fc.2.bias"):
        return np.array([0, 1, 1]) + 0.02 * z
    if z.ndim == 1:
        return 1 + 0.1 * z if name.endswith("weight") else 0.05 * z
    return z * np.sqrt(2 / np.prod(z.shape[1:]))
