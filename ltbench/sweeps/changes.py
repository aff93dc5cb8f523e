"""What `--methods`, `--splits` and `--seeds` make of a grid: others in place of its own, or, after a `+`, more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ltbench.contract.registry import method_names
from ltbench.errors import SpecError
from ltbench.splits.files import committed_names
from ltbench.sweeps.grid import Grid, Request, requests, validate_grid
from ltbench.sweeps.patterns import expand
from ltbench.sweeps.seeds import LARGEST_SWEEP

OPTIONS = "the options"


def changed(grid: Grid, methods: str = "", splits: str = "", seeds: str = "") -> list[Request]:
    """Return the combinations of a grid with other methods, splits and seeds.

    What the grid has keeps the presets, hyper-parameters and protocol that it has there. A method that it lacks runs on
    all of its splits, with what the grid sets for all of its parts; a split that it lacks is run by all of its methods.

    Args:
        grid: the grid.
        methods: names or patterns, separated by commas, in place of the grid's; "+a,b" is beside them; "" leaves it.
        splits: the same of splits, files included.
        seeds: "0-4", or "+1-2".

    Raises:
        LtbenchError: text that is no such list, a pattern that matches nothing, or a grid that cannot be read.
    """
    found = _with_methods(requests(grid), grid, methods)
    found = _with_splits(found, splits, are_methods_named=bool(methods) and not _adds(methods))
    return _with_seeds(found, seeds)


def _with_methods(found: Sequence[Request], grid: Grid, text: str) -> list[Request]:
    wanted = validate_grid({"methods": text.removeprefix("+")}, OPTIONS).methods
    if not _are_named(wanted, text, "methods"):
        return list(found)
    own = list(dict.fromkeys(request.method for request in found))
    kept, new = _sorted_out(wanted, own, method_names(), "method")
    everywhere = {"methods": new, "splits": list(dict.fromkeys(request.split for request in found)), "parts": []}
    added = requests(grid.model_copy(update=everywhere)) if new else []
    return [request for request in found if _adds(text) or request.method in kept] + added


def _with_splits(found: Sequence[Request], text: str, *, are_methods_named: bool) -> list[Request]:
    wanted = validate_grid({"splits": text.removeprefix("+")}, OPTIONS).splits
    if not _are_named(wanted, text, "splits"):
        return list(found)
    own = list(dict.fromkeys(request.split for request in found))
    kept, new = _sorted_out(wanted, own, committed_names(), "split")
    chosen = [request for request in found if _adds(text) or request.split in kept]
    settings = _distinct(replace(request, split="") for request in found)
    if are_methods_named:  # each of them runs on what is asked for, where the grid has it on other splits alone
        idle = {request.method for request in settings} - {request.method for request in chosen}
        chosen += [replace(own, split=split) for split in kept for own in settings if own.method in idle]
    _count(len(chosen) + len(new) * len(settings))
    return chosen + [replace(own, split=split) for split in new for own in settings]


def _with_seeds(found: Sequence[Request], text: str) -> list[Request]:
    if not text:
        return list(found)
    wanted = validate_grid({"seeds": text.removeprefix("+")}, OPTIONS).seeds
    _count(len(found) * len(wanted))
    if _adds(text):
        return _distinct([*found, *(replace(request, seed=seed) for seed in wanted for request in found)])
    return _distinct(replace(request, seed=seed) for request in found for seed in wanted)


def _count(runs: int) -> None:
    """Raise `SpecError` if there are more than a sweep may have."""
    if runs > LARGEST_SWEEP:
        raise SpecError(f"Expected a sweep of at most {LARGEST_SWEEP:,} runs, got {runs:,}. Mend --splits or --seeds.")


def _adds(text: str) -> bool:
    return text.startswith("+")


def _are_named(names: Sequence[str], text: str, what: str) -> bool:
    """Return whether an option names anything; text without a name is an error."""
    if text and not names:
        raise SpecError(f"Expected names in --{what}, got {text!r}. Write --{what} a,b or --{what} +a,b.")
    return bool(names)


def _sorted_out(
    wanted: Sequence[str], own: Sequence[str], known: Sequence[str], kind: str
) -> tuple[list[str], list[str]]:
    """Return which of a grid's names are wanted, and which others; a pattern that matches its own stands for these.

    Raises:
        UnknownNameError: a pattern that matches nothing.
    """
    names: list[str] = []
    for name in wanted:
        names += [each for each in own if fnmatchcase(each, name)] or expand([name], known, kind)
    return [name for name in own if name in names], [name for name in dict.fromkeys(names) if name not in own]


def _distinct(found: Iterable[Request]) -> list[Request]:
    return list({repr(request): request for request in found}.values())
