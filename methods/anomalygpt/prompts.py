"""AnomalyGPT's prompts: states of an object in two templates of a photo, 14 normal and 10 abnormal sentences."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

NORMAL = (
    "{}",
    *(f"{state} {{}}" for state in ("flawless", "perfect", "unblemished")),
    *(f"{{}} without {fault}" for fault in ("flaw", "defect", "damage")),
)
"""What is said of a normal object."""

ABNORMAL = (
    *(f"{state} {{}}" for state in ("damaged", "broken")),
    *(f"{{}} with {fault}" for fault in ("flaw", "defect", "damage")),
)
"""What is said of an abnormal one."""

TEMPLATES = ("a photo of a {}.", "a photo of the {}.")


def sentences(category: str) -> tuple[list[str], list[str]]:
    """Return the normal and the abnormal sentences of a category, whose name is read with spaces for "_"."""
    name = category.replace("_", " ")
    normal, abnormal = (
        [template.format(state.format(name)) for state in states for template in TEMPLATES]
        for states in (NORMAL, ABNORMAL)
    )
    return normal, abnormal


def ensemble(vectors: Tensor) -> Tensor:
    """Return the mean of sentences' vectors (..., n, D), of length 1: (..., D)."""
    return F.normalize(vectors.mean(dim=-2), dim=-1)
