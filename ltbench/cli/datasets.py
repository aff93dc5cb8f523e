"""`ltbench datasets`: what is known of each dataset, getting one, and whether a folder is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ltbench.cli.command import App
from ltbench.cli.options import AsJson, DataRoot

app = App()


@app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the datasets with licence, citation, source and layout; get one; verify a folder; describe one of your own.

    Examples:
      ltbench datasets

      ltbench datasets get visa --root ~/data

      ltbench datasets verify mvtec --data-root ~/data

      ltbench datasets describe ~/parts --out ~/parts/ltbench.yaml
    """
    if context.invoked_subcommand:
        return
    from ltbench.console.datasets import print_datasets
    from ltbench.datasets.index import SOURCES

    print_datasets(SOURCES.values(), as_json)


@app.command("verify")
def verify(
    name: Annotated[str, typer.Argument(help="Dataset name, or the name of a folder of your own.")],
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


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="Dataset name.")],
    root: Annotated[
        Path,
        typer.Option("--root", "--data-root", envvar="LTBENCH_DATA", help="Folder that holds the datasets."),
    ] = Path("data"),
    accepted: Annotated[bool, typer.Option("--accept-licence", help="Agree to the licence of the images.")] = False,
    mirror: Annotated[
        list[str] | None, typer.Option(help="An address of the archive to try first; repeat for more.")
    ] = None,
    own: Annotated[
        list[Path] | None, typer.Option("--from", help="The archive, got by hand; repeat where there are several.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep-archive", help="Keep the archive beside the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a dataset, unpack it into ROOT/NAME and verify it; exit with 1 if a file is missing or unreadable.

    What is interrupted goes on with the same command. The archive's sha256 is checked whatever address gives it; the
    archive is removed once it is unpacked.

    Examples:
      ltbench datasets get visa --root ~/data --accept-licence

      ltbench datasets get mvtec --root ~/data --from ~/Downloads/mvtec_anomaly_detection.tar.xz
    """
    from ltbench.console.datasets import agree, print_got
    from ltbench.console.downloads import DownloadMeter
    from ltbench.datasets.archives import get as archives

    source, offer = archives.offer_of(name)
    if offer.archives and archives.present(name, root) is None:
        agree(source, offer, accepted=accepted, may_ask=not as_json)
    with DownloadMeter(quiet=as_json) as meter:
        got = archives.get(name, root, meter, mirrors=mirror or (), own=own or (), keep=keep)
    print_got(name, got, as_json)
    raise typer.Exit(0 if got.verification.ok else 1)


@app.command("describe")
def describe(
    folder: Annotated[Path, typer.Argument(help="A folder of images of your own.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the description: FOLDER/ltbench.yaml, or any file to be passed as --folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at a folder, print the layout that it has, how many images of each kind, and what fits nowhere.

    Folders called good, ok, normal or bad, ko, NG, abnormal and the like say what images show; train and test,
    ground_truth or masks, and a csv with the columns path,label,mask,category are understood too. What --out writes,
    `make-splits --folder` and `run --data-root` go by. Exit with 1 if something is still missing.

    Examples:
      ltbench datasets describe ~/parts

      ltbench datasets describe ~/parts --out ~/parts/ltbench.yaml

      ltbench datasets describe /read/only/parts --out parts.yaml
    """
    from ltbench.atomic import write_output
    from ltbench.console.datasets import print_sight
    from ltbench.datasets.looking import look, yaml_of

    sight = look(folder)
    if out is not None:
        write_output(out, yaml_of(sight, out).encode())
    raise typer.Exit(0 if print_sight(sight, out, as_json) else 1)
