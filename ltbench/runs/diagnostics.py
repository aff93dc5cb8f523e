"""What a method noted about its training images, joined with what the split knows of them.

A method notes by position and knows no labels; the runner joins when the method is done. These notes are understood:

- `tails`: `indices` of the training images it took to be of rare categories, and `kappa`, the category size that it
  estimated for each training image (TailSampler, GroupSampler);
- `memories`: for each memory bank, `by_image`, how many of its patches come from each training image;
- `supports`: for each category, which training images say what is normal in it (RegAD).
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ltbench.core import Split

ROLES = ("head", "tail", "contaminant")
"""What a training image is: of a majority or minority category, or a defect hidden among them."""


def diagnose(notes: Mapping[str, Any], order: Sequence[str], split: Split) -> dict[str, Any]:
    """Return how right a method was about its training images, as plain JSON values.

    Args:
        notes: what the method noted.
        order: paths of the training images, in the order in which the method saw them.
        split: which of them are what.
    """
    categories, roles = _truth(split)
    found: dict[str, Any] = {}
    if "tails" in notes:
        predicted = {order[index] for index in notes["tails"]["indices"]}
        found["tails"] = _tails(predicted, {path for path in order if categories[path] in split.low})
        found["sizes"] = _sizes(dict(zip(order, notes["tails"]["kappa"], strict=True)), categories)
    if "memories" in notes:
        found["memories"] = {
            name: _memory(dict(zip(order, memory["by_image"], strict=True)), roles)
            for name, memory in notes["memories"].items()
        }
    if "supports" in notes:
        found["supports"] = {
            category: [{"path": order[index], "role": roles[order[index]]} for index in indices]
            for category, indices in notes["supports"].items()
        }
    return found


def _truth(split: Split) -> tuple[dict[str, str], dict[str, str]]:
    """Return the category and the role of each training image."""
    categories: dict[str, str] = {}
    roles: dict[str, str] = {}
    for category, images in split.train.items():
        normal_role = "head" if category in split.high else "tail"
        categories |= dict.fromkeys((*images.normal, *images.contaminant), category)
        roles |= dict.fromkeys(images.normal, normal_role) | dict.fromkeys(images.contaminant, "contaminant")
    return categories, roles


def _tails(predicted: set[str], true: set[str]) -> dict[str, Any]:
    both = len(predicted & true)
    return {
        "predicted": len(predicted),
        "true": len(true),
        "recall": both / len(true) if true else None,
        "precision": both / len(predicted) if predicted else None,
    }


def _sizes(kappa: Mapping[str, float], categories: Mapping[str, str]) -> dict[str, Any]:
    """Return for each category its true size and the sizes estimated for its images."""
    estimates: dict[str, list[float]] = defaultdict(list)
    for path, size in kappa.items():
        estimates[categories[path]].append(size)
    return {
        category: {
            "true": len(sizes),
            "predicted_median": statistics.median(sizes),
            "predicted_min": min(sizes),
            "predicted_max": max(sizes),
        }
        for category, sizes in sorted(estimates.items())
    }


def _memory(patches: Mapping[str, int], roles: Mapping[str, str]) -> dict[str, Any]:
    """Return for each role how many images there are, and how many patches of them a memory keeps, in all and each."""
    images = Counter(roles.values())
    kept = Counter(dict.fromkeys(ROLES, 0))
    for path, count in patches.items():
        kept[roles[path]] += count
    total = sum(kept.values())
    return {
        role: {
            "images": images[role],
            "patches": kept[role],
            "share": kept[role] / total if total else None,
            "patches_per_image": kept[role] / images[role] if images[role] else None,
        }
        for role in ROLES
    }
