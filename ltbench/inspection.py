"""`ltbench inspect`: a run's diagnostics in words and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ltbench.errors import DataError, SpecError
from ltbench.records import RECORD, RunRecord, read_record


def find_run(run: str, results: Path) -> RunRecord:
    """Return the record of a run, given as its folder or as the first digits of its hash.

    Raises:
        DataError: there is no such run, or its record cannot be read.
        SpecError: several runs begin with these digits.
    """
    if (Path(run) / RECORD).is_file():
        return read_record(Path(run))
    folders = sorted(path.parent for path in (results / "runs").glob(f"*/{RECORD}") if path.parent.name.startswith(run))
    if len(folders) > 1:
        raise SpecError(f"Expected one run, got {len(folders)} that begin with {run!r}. Give more digits.")
    if not folders:
        raise DataError(f"Expected a run {run!r} in {results / 'runs'}, got none. Pass its folder, or --results.")
    return read_record(folders[0])


def diagnostics_of(record: RunRecord) -> dict[str, Any]:
    """Return a record's diagnostics.

    Raises:
        SpecError: its method noted nothing about its training images.
    """
    diagnostics: dict[str, Any] = record.notes.get("diagnostics", {})
    if not diagnostics:
        raise SpecError(
            f"Expected diagnostics in run {record.spec.hash}, got none: {record.method.title} notes nothing about its "
            "training images. TailedCore does."
        )
    return diagnostics


def draw(record: RunRecord, file: Path) -> None:
    """Draw the predicted against the true category sizes, and what each memory keeps, into a PNG or PDF.

    Raises:
        SpecError: there is nothing to draw.
    """
    from matplotlib.figure import Figure

    diagnostics = diagnostics_of(record)
    panels = [name for name in ("sizes", "memories") if name in diagnostics]
    figure = Figure(figsize=(5.2 * len(panels), 4.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        {"sizes": _draw_sizes, "memories": _draw_memories}[panel](axes, diagnostics[panel])
    figure.suptitle(f"{record.method.title} on {record.spec.split}")
    figure.savefig(file, dpi=160)


def _draw_sizes(axes: Any, sizes: dict[str, Any]) -> None:
    largest = 1.25 * max(max(size["true"], size["predicted_max"]) for size in sizes.values())
    axes.plot([1, largest], [1, largest], color="0.7", linewidth=1, zorder=0)
    for category, size in sizes.items():
        middle = size["predicted_median"]
        spread = [[middle - size["predicted_min"]], [size["predicted_max"] - middle]]
        axes.errorbar(size["true"], middle, yerr=spread, fmt="o", markersize=4, capsize=2, linewidth=0.8)
        axes.annotate(category, (size["true"], middle), xytext=(5, 3), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", yscale="log", xlim=(0.8, largest), ylim=(0.8, largest))
    axes.set(xlabel="true category size", ylabel="predicted size: median, minimum to maximum")


def _draw_memories(axes: Any, memories: dict[str, Any]) -> None:
    roles = ("head", "tail", "contaminant")
    width = 0.8 / len(memories)
    for number, (name, memory) in enumerate(sorted(memories.items())):
        heights = [memory[role]["patches_per_image"] or 0 for role in roles]
        places = [place + (number - (len(memories) - 1) / 2) * width for place in range(len(roles))]
        bars = axes.bar(places, heights, width, label=f"{name} memory")
        axes.bar_label(bars, [f"{height:.1f}" for height in heights], fontsize=7)
    axes.set_xticks(range(len(roles)), [f"{role} images" for role in roles])
    axes.set_ylabel("patches kept an image")
    axes.legend(frameon=False)
