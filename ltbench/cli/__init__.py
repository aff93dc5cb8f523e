"""The command line: parse, one call, print. Heavy packages are imported inside the commands, never by `--help`."""

from ltbench.cli.app import main

__all__ = ["main"]
