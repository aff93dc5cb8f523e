"""Splits that were written, and differences from their recipes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltbench.console.output import say
from ltbench.core import Split
from ltbench.splits.noise import shortfalls


def print_split(path: Path, split: Split) -> None:
    """Print where a split was written and what it holds."""
    counts = split.counts.values()
    normal, contaminant = (sum(count[role] for count in counts) for role in ("normal", "contaminant"))
    text = f"{path}: {normal} normal, {contaminant} contaminants; {len(split.high)} high, {len(split.low)} low"
    say("; ".join([text, *shortfalls(split)]))


def print_differences(differences: Sequence[str]) -> bool:
    """Print in what split files differ from their recipes; return whether in nothing."""
    for difference in differences:
        say(difference)
    if not differences:
        say("every file is what its recipe gives")
    return not differences
