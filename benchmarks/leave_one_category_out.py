"""Choose among the settings of a method without the category that they are judged by.

    python benchmarks/leave_one_category_out.py results --method groupcore --splits 'parts_k4*'

Reads finished runs. For each category, the setting is taken whose mean score over all other categories and all splits
is the highest, and the category scores what that setting gives it. The mean of these is what a setting chosen on other
data would give; it stands below the settings' own means.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from ltbench.records.record import RunRecord, read_records

Cells = dict[tuple[str, str], float]
"""(split, category) -> score."""


def settings(records: list[RunRecord], metric: str) -> dict[str, Cells]:
    """Return the scores of each setting, named by the hyper-parameters that differ among the records."""
    names = sorted({name for record in records for name in record.spec.parameters})
    varied = [name for name in names if len({json.dumps(record.spec.parameters.get(name)) for record in records}) > 1]
    found: dict[str, Cells] = defaultdict(dict)
    for record in records:
        label = ", ".join(f"{name}={record.spec.parameters.get(name)}" for name in varied) or "as it is"
        categories = set(record.metrics[metric]) - {"high", "low", "avg"}
        found[label] |= {(record.spec.split, name): record.metrics[metric][name] for name in categories}
    return found


def chosen_without(found: dict[str, Cells], category: str) -> str:
    """Return the setting with the highest mean over all cells but those of a category."""

    def mean(label: str) -> float:
        return float(np.mean([score for (_, name), score in found[label].items() if name != category]))

    return max(sorted(found), key=mean)


def main() -> None:
    """Print each setting's mean, then what the choice gives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--method", required=True)
    parser.add_argument("--splits", default="*", help="pattern")
    parser.add_argument("--metric", default="image_auroc")
    arguments = parser.parse_args()
    records = [
        record
        for record in read_records(arguments.results)[0]
        if record.spec.method == arguments.method and fnmatch(record.spec.split, arguments.splits)
    ]
    found = settings(records, arguments.metric)
    common = set.intersection(*(set(cells) for cells in found.values())) if found else set()
    if not common:
        raise SystemExit(f"Expected runs of {arguments.method} on the same splits in {arguments.results}, got none.")
    found = {label: {cell: cells[cell] for cell in common} for label, cells in found.items()}
    rows: list[list[Any]] = [[label, 100 * np.mean(list(cells.values()))] for label, cells in sorted(found.items())]
    categories = sorted({name for _, name in common})
    choices = {name: chosen_without(found, name) for name in categories}
    held_out = [score for name in categories for (_, other), score in found[choices[name]].items() if other == name]
    rows.append(["chosen without the category", 100 * np.mean(held_out)])
    print(
        tabulate(rows, ["setting", f"{arguments.metric} over {len(common)} cells"], floatfmt=".2f", tablefmt="github")
    )
    print("\n" + "\n".join(f"- without {name}: {choice}" for name, choice in choices.items()))


if __name__ == "__main__":
    main()
