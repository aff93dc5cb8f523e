"""Splits that were written, and differences from their recipes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ltbench.console.output import say
from ltbench.core import Split, imbalance_of
from ltbench.splits.noise import shortfalls


def print_split(path: Path, split: Split) -> None:
    """Print where a split was written and what it holds."""
    counts = split.counts.values()
    normal, contaminant = (sum(count[role] for count in counts) for role in ("normal", "contaminant"))
    sizes = [count["normal"] for count in counts]
    text = f"{path}: {normal} normal, {contaminant} contaminants; {len(split.high)} high, {len(split.low)} low"
    text += f"; imbalance {imbalance_of(split.counts):.3g} ({max(sizes)} to {min(sizes)})"
    say("; ".join([text, *shortfalls(split)]))


def print_differences(differences: Sequence[str]) -> bool:
    """Print in what split files differ from their recipes; return whether in nothing."""
    for difference in differences:
        say(difference)
    if not differences:
        say("every file is what its recipe gives")
    return not differences
