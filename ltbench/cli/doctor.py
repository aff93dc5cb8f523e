"""`ltbench doctor`: is this machine fit for use?"""

from __future__ import annotations

import typer

from ltbench.cli.options import DEFAULT_RESULTS, AsJson, DataRoot, Results


def doctor(data_root: DataRoot = None, results: Results = DEFAULT_RESULTS, as_json: AsJson = False) -> None:
    """Look at Python, devices, FAISS, weights, datasets and write access; say what to do about each problem.

    Examples:
      ltbench doctor --data-root ~/data
    """
    from ltbench.console.doctor import print_findings
    from ltbench.doctor import diagnose

    healthy = print_findings(diagnose(data_root, results), as_json)
    raise typer.Exit(0 if healthy else 1)
