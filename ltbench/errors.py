"""The errors that ltbench raises on purpose.

The command line prints an `LtbenchError` in one line and exits with 2; any other exception is a defect of
ltbench or of a plugin and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MANY = 100
"""So many names are no longer listed in a message."""

LONG = 200
"""Letters of a wrong name that a message shows and that are compared."""


class LtbenchError(Exception):
    """A mistake that the user can mend. The message reads `Expected <what>, got <what>. <What to do>.`."""


class DataError(LtbenchError):
    """Something on disk is missing, unreadable or not what it claims to be (image, mask, csv, split file)."""


class FullDiskError(LtbenchError):
    """No room on a disk. It is no fault of a run: once there is room, the same command goes on."""


class AbsentError(DataError):
    """A dataset that is not on this machine, as far as the data root tells."""


class UnknownNameError(LtbenchError):
    """A name that nothing is registered under; the message offers the nearest name, else the list."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        article = "an" if kind[0] in "aeio" else "a"
        super().__init__(f"Expected the name of {article} {kind}, got {cut(name)!r}. {suggest(name, self.known)}")


class SpecError(LtbenchError):
    """A run, split or hyper-parameter that is specified in a way that cannot be run."""


class NotApplicableError(SpecError):
    """A method that cannot train on a split; the message is the reason."""


class BusyError(LtbenchError):
    """A run that another process is doing."""


class ContractError(LtbenchError):
    """A method that does not keep the contract (a score that is NaN, a map of another shape, float64)."""


def cut(text: str) -> str:
    """Return a text as a message shows it: of a very long one the beginning."""
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `Did you mean 'x'?` when a known name is near, else `Known: a, b, c.`; of very many the five nearest."""
    names = sorted(known)
    if len(names) > MANY:
        nearest = ", ".join(map(repr, difflib.get_close_matches(name[:LONG], names, n=5, cutoff=0.0)))
        return f"The nearest of {len(names)} are {nearest}."
    near = difflib.get_close_matches(name[:LONG], names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "None is known."
