"""`ltbench heatmaps`: anomaly maps over test images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import DEFAULT_RESULTS, DataRoot, Results


def heatmaps(
    run: Annotated[
        list[str], typer.Option("--run", "-r", help="Folder of a run or first digits of its hash; repeat for more.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .pdf or .png file, or a folder for one a category.")],
    category: Annotated[list[str] | None, typer.Option("--category", "-c", help="Only this; repeat for more.")] = None,
    worst: Annotated[
        int | None, typer.Option(min=1, help="The N worst misses and N worst false alarms of the first run.")
    ] = None,
    data_root: DataRoot = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw test images with the outline of the defect and the anomaly map of each run side by side.

    Without --worst, one image of each defect type. With it, a miss is an anomalous image whose score lies below the
    threshold of its category's largest F1, a false alarm a good one at or above it. Runs need saved maps.

    Examples:
      ltbench run -m patchcore -s shapes_step20 --preset offline --save-maps

      ltbench heatmaps --run 0123abcd --run 4567cdef --category bolt --out bolt.pdf

      ltbench heatmaps --run 0123abcd --worst 5 --out worst/
    """
    from ltbench.console.output import say
    from ltbench.datasets.index import load_dataset
    from ltbench.figures.examples import SavedMaps, one_of_each_defect
    from ltbench.figures.examples import worst as worst_of
    from ltbench.figures.heatmaps import draw_heatmaps
    from ltbench.figures.style import save
    from ltbench.records.inspection import find_folder

    runs = [SavedMaps(find_folder(name, results)) for name in run]
    first = runs[0].record
    dataset = load_dataset(first.dataset, data_root)
    found = worst_of(first, worst, category or ()) if worst else one_of_each_defect(first, category or ())
    if out.suffix:
        save(draw_heatmaps(found, dataset, runs), out)
        say(out)
        return
    for name in dict.fromkeys(example.category for example in found):
        file = out / f"{name}.png"
        save(draw_heatmaps([example for example in found if example.category == name], dataset, runs), file)
        say(file)
