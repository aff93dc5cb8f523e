"""What all commands share: no option is empty, usage errors only show, and standard output is for results alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ltbench.errors import SpecError
from ltbench.foreign import visible

F = TypeVar("F", bound=Callable[..., Any])

_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""click's, which newer versions of typer carry inside."""


class Command(TyperCommand):
    """A command that refuses empty values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; an empty value of an option is an error."""
        with _visible_errors():
            _refuse_empty(self, ctx, args)
            return super().parse_args(ctx, args)


class Group(TyperGroup):
    """Commands below one name, with options of its own that are not empty."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments before the command's name; an empty value of an option is an error."""
        with _visible_errors():
            _refuse_empty(self, ctx, args)
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of a name."""
        with _visible_errors():
            return super().resolve_command(ctx, args)


class App(typer.Typer):
    """A `typer.Typer` whose commands are of this module, and run with standard output kept for what they print."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, rich_markup_mode="rich", **options)

    def command(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        """Add a function as a command."""
        add = super().command(name, cls=Command, **options)

        def added(function: F) -> F:
            add(_keeping_stdout(function))
            return function

        return added

    def callback(self, **options: Any) -> Callable[[F], F]:
        """Add a function that is called before, or without, a command."""
        add = super().callback(**options)

        def added(function: F) -> F:
            add(_keeping_stdout(function))
            return function

        return added


def _keeping_stdout(function: F) -> F:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        from ltbench.console.output import keeping_stdout

        with keeping_stdout():
            return function(*arguments, **options)

    return call  # type: ignore[return-value]


def _refuse_empty(command: Any, ctx: Any, args: list[str]) -> None:
    """Raise `SpecError` for an option or argument whose value is an empty text: often a variable that is not set."""
    if ctx.resilient_parsing:
        return
    given = command.make_parser(ctx).parse_args(args=list(args))[0]
    for parameter in command.params:
        value = given.get(parameter.name)
        texts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(text, str) and not text.strip() for text in texts):
            name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.name
            raise SpecError(f"Expected a value for {name}, got an empty text. Give one, or leave it out.")


@contextmanager
def _visible_errors() -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        error.message = visible(error.message)  # type: ignore[attr-defined]
        raise
