"""`ltbench evaluate`: score predictions that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.options import DEFAULT_RESULTS, AsJson, DataRoot, Protocol, Results, Split


def evaluate(
    split: Split,
    predictions: Annotated[Path, typer.Option("--predictions", help="Folder of anomaly maps and scores.csv.")],
    method: Annotated[str, typer.Option("--method", "-m", metavar="TITLE", help='As tables print it: "LTOAD".')],
    scores: Annotated[
        Path | None, typer.Option(help="Csv of image scores; by default scores.csv in the folder.")
    ] = None,
    paper: Annotated[str | None, typer.Option(help="arXiv id or DOI.")] = None,
    told: Annotated[
        list[str] | None,
        typer.Option(
            help="categories, training_categories, annotated_data, test_images_jointly or trained_test_images (which "
            "test images trained); repeat for more."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which of several trainings this was.")] = 0,
    data_root: DataRoot = None,
    protocol: Protocol = None,
    results: Results = DEFAULT_RESULTS,
    force: Annotated[bool, typer.Option("--force", help="Replace the record of other predictions.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score the predictions of a method that is not in the suite, and keep an ordinary record, marked as external.

    A map lies under its image's path with the suffix .tiff, .npy, .npz or .png (16 bit), as MVTec's own evaluation code
    has it: bottle/test/crack/000.tiff. It has the size of the protocol's images, or is of the whole image at any size
    and is resized and cropped as the image is. scores.csv has the columns path and score; without it an image's score
    is its map's maximum. Say with --told what the method knew that others do not; tables print it.

    Examples:
      ltbench evaluate -s mvtec_step100 --predictions maps/ -m LTOAD --paper arXiv:2507.16946 --data-root ~/data

      ltbench evaluate -s parts_full --predictions maps/ -m "My net" --told categories --protocol tailedcore --json
    """
    from ltbench.console.runs import print_outcome
    from ltbench.datasets.index import load_dataset, load_listing
    from ltbench.runs.external import Submission
    from ltbench.runs.external import evaluate as evaluate_predictions
    from ltbench.runs.harness import Harness
    from ltbench.splits.files import find_split

    submission = Submission(method, paper, tuple(told or ()), seed)
    harness = Harness.of(results, "cpu", "0", force=force, save_maps=False, quiet=as_json)
    found = find_split(split, lambda name: load_listing(name, data_root))
    dataset = load_dataset(found.dataset, data_root)
    print_outcome(evaluate_predictions(submission, predictions, found, dataset, harness, protocol, scores), as_json)
