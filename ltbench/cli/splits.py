"""`ltbench make-splits`: split files from names, folders and lists."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltbench.cli.options import DataRoot, complete_splits

if TYPE_CHECKING:
    from ltbench.core import Dataset


def make_splits(
    names: Annotated[list[str] | None, typer.Argument(help="Split names.", autocompletion=complete_splits)] = None,
    dataset: Annotated[str | None, typer.Option(help="All of the papers' splits of this dataset.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of the papers' splits.")] = False,
    data_root: DataRoot = None,
    folder: Annotated[Path | None, typer.Option(help="A folder of your own to split, or its description.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of that dataset, or of the split of --from-list.")] = None,
    profile: Annotated[str, typer.Option(help="full, exp<beta>, step<beta>, pareto or k<K>.")] = "full",
    noise: Annotated[float, typer.Option(help="Contaminants in percent of the head's images.")] = 0.0,
    noise_rule: Annotated[str, typer.Option(help="tailedcore, softpatch or open-iad.")] = "tailedcore",
    disjoint: Annotated[bool, typer.Option("--disjoint", help="Take contaminants out of the test set.")] = False,
    self_excluded: Annotated[
        bool, typer.Option("--self-excluded", help="Tell methods to score contaminants without what they have of them.")
    ] = False,
    reversed_order: Annotated[bool, typer.Option("--reversed", help="Reverse the class order.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the choice of images.")] = 0,
    official: Annotated[str | None, typer.Option(help="Import published lists: tailedcore, ltad, realiad.")] = None,
    source: Annotated[str | None, typer.Option(help="URL or folder of the published lists.")] = None,
    from_list: Annotated[Path | None, typer.Option(help="Import a list: csv `role,path`, or a path a line.")] = None,
    groups: Annotated[
        str, typer.Option(help="High and Low of an imported list: halves, tail20, or auto (as its authors have it).")
    ] = "auto",
    listing: Annotated[
        str | None, typer.Option(help="Order of the categories in the authors' draw (`_authors`), with commas.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("splits"),
    check: Annotated[bool, typer.Option("--check", help="Re-derive files; exit with 1 on any difference.")] = False,
) -> None:
    """Write split files, from their names, from a folder of your own, or from lists.

    Examples:
      ltbench make-splits mvtec_step100 mvtec_exp200_noisy10_seed3

      ltbench make-splits mvtec_k4_noisy10_softpatch_disjoint mvtec_pareto_authors_noisy10_seed101

      ltbench make-splits mvtec_k4_noisy10_seed1 mvtec_k4_noisy10_disjoint_seed1 mvtec_k4_noisy10_selfexcluded_seed1

      ltbench make-splits --folder ~/parts --name parts --profile step20 --noise 10 --noise-rule open-iad

      ltbench make-splits --official tailedcore --source ~/TailedCore/manifest --data-root ~/data

      ltbench make-splits --official ltad --source ~/ltad_lists --data-root ~/data

      ltbench make-splits --all --check --data-root ~/data
    """
    from ltbench.console.output import tell
    from ltbench.console.splits import print_differences, print_split
    from ltbench.datasets.index import load_listing
    from ltbench.splits.files import check_splits, write_split
    from ltbench.splits.making import SplitRequest
    from ltbench.splits.readings import reading_asked

    reading = reading_asked(disjoint=disjoint, self_excluded=self_excluded)
    request = SplitRequest(
        tuple(names or ()), dataset, every, folder, name, profile, noise, noise_rule, reading, reversed_order, seed,
        official, source, from_list, tuple(filter(None, (listing or "").replace(" ", "").split(","))), groups,
    )  # fmt: skip

    @cache
    def load(dataset_name: str) -> Dataset:
        return load_listing(dataset_name, data_root)

    if check:
        same = print_differences(check_splits(out, load, [recipe.name for recipe in request.recipes()], tell))
        raise typer.Exit(0 if same else 1)
    for split in request.splits(load, tell):
        print_split(write_split(split, out), split)
