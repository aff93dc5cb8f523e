"""`ltbench datasets`: what is known of each dataset, and whether a folder is whole."""

from __future__ import annotations

from typing import Annotated

import typer

from ltbench.cli.options import AsJson, DataRoot

app = typer.Typer(rich_markup_mode="rich")


@app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the datasets with licence, citation, source and layout, or verify a folder.

    Examples:
      ltbench datasets

      ltbench datasets verify mvtec --data-root ~/data
    """
    if context.invoked_subcommand:
        return
    from ltbench.console.datasets import print_datasets
    from ltbench.datasets.index import SOURCES

    print_datasets(SOURCES.values(), as_json)


@app.command("verify")
def verify(
    name: Annotated[str, typer.Argument(help="Dataset name, or the name of a folder in MVTec layout.")],
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Compare a folder with the official listing; exit with 1 if a file is missing, extra or unreadable.

    A defect with an empty mask counts too; masks of many grey levels are listed.

    Examples:
      ltbench datasets verify mvtec --data-root ~/data
    """
    from ltbench.console.datasets import print_verification
    from ltbench.datasets.index import locate, verify_dataset

    root = locate(name, data_root)
    verification = verify_dataset(name, data_root)
    print_verification(name, root, verification, as_json)
    raise typer.Exit(0 if verification.ok else 1)
