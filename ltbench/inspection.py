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
    """Draw a line a category, the largest on top: its true size, and the sizes predicted for its images."""
    ordered = sorted(sizes.items(), key=lambda item: (item[1]["true"], item[0]))
    for place, (_, size) in enumerate(ordered):
        axes.plot([size["predicted_min"], size["predicted_max"]], [place, place], color="tab:blue", linewidth=1.2)
    places = range(len(ordered))
    axes.plot([size["predicted_median"] for _, size in ordered], places, "o", label="predicted: median and range")
    axes.plot([size["true"] for _, size in ordered], places, "|", color="black", markersize=14, label="true")
    axes.set_yticks(places, [category for category, _ in ordered])
    axes.set(xscale="log", xlabel="images in the category")
    axes.legend(frameon=False, loc="lower right")


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
    axes.margins(y=0.12)
