"""`ltbench methods` and `ltbench check`: what there is to run, and whether it keeps the contract."""

from __future__ import annotations

from typing import Annotated

import typer

from ltbench.cli.command import App
from ltbench.cli.options import AsJson, MethodName

app = App()


@app.callback(invoke_without_command=True)
def list_methods(context: typer.Context, as_json: AsJson = False) -> None:
    """List the methods with paper, privileges and presets, or show one.

    Examples:
      ltbench methods

      ltbench methods show patchcore --preset offline
    """
    if context.invoked_subcommand:
        return
    from ltbench.console.methods import print_methods

    print_methods(as_json)


@app.command("show")
def show(
    name: MethodName,
    preset: Annotated[str | None, typer.Option(help="Show the values of this preset.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Count the trainable parameters too: a few seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a method's paper, privileges, hyper-parameters with types and defaults, and presets.

    Examples:
      ltbench methods show patchcore --json

      ltbench methods show uniad --count
    """
    from ltbench.console.methods import print_method

    print_method(name, preset, as_json, count=count)


def check(
    name: MethodName,
    as_json: AsJson = False,
) -> None:
    """Check that a method keeps the contract; exit with 1 if it does not.

    Examples:
      ltbench check my_method
    """
    from ltbench.console.methods import print_checks
    from ltbench.contract.checks import check_method

    passed = print_checks(check_method(name), as_json)
    raise typer.Exit(0 if passed else 1)
