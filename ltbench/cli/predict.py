"""`ltbench predict`: score images that belong to no split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import DEFAULT_RESULTS, AsJson, Results


def predict(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders that are searched for them.")],
    run: Annotated[
        str, typer.Option("--run", "-r", help="Folder of a run or of its model, or first digits of its hash.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for scores.csv and maps.")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Write anomaly maps, and pictures of them, into --out.")] = False,
    threshold: Annotated[
        str | None, typer.Option(metavar="RULE", help="false_alarms=1%, f1_max or a number; see below.")
    ] = None,
    category: Annotated[str | None, typer.Option("--category", "-c", help="What all these images show.")] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Score any images with the method that a run fitted and kept (`ltbench run --save-model`).

    Images are resized and scored as the run's protocol says. Files that are no images are named and passed over.
    Without --out the scores are printed as csv.

    A threshold decides which images are defective. `false_alarms=1%` goes by training images that were kept aside
    (`ltbench run --calibrate 10%`): at most that share of good images like those is called defective. `f1_max` is the
    best on the run's test images, whose labels it has seen, and so flatters. With --category the images of that
    category count alone.

    Examples:
      ltbench run -m patchcore -s parts_full --data-root . --calibrate 10% --save-model

      ltbench predict --run 0123abcd new/ --threshold false_alarms=5% --out checked/

      ltbench predict --run model/ part.png --json
    """
    from ltbench.apply.images import find_images
    from ltbench.apply.scoring import Scorer
    from ltbench.apply.thresholds import threshold_of
    from ltbench.console.predict import print_applied
    from ltbench.errors import SpecError
    from ltbench.runs.models import find_model
    from ltbench.runs.progress import ConsoleProgress

    if maps and out is None:
        raise SpecError("Expected a folder for the maps, got none. Pass --out FOLDER beside --maps.")
    model = find_model(run, results)
    rule = threshold_of(model, threshold, category) if threshold is not None else None
    found, odd = find_images(images)
    scorer = Scorer(model, model.load(), category, rule, out if maps else None, ConsoleProgress(quiet=as_json))
    applied = scorer.apply(found)
    applied.odd[:0] = odd
    print_applied(applied, scorer, out, as_json)
