"""Functions compiled to machine code with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R], fastmath: frozenset[str] = frozenset()) -> Callable[P, R]:
    """Compile a function with numba to run without the interpreter lock, keeping the machine code on disk.

    It is kept beside the module or, where that folder is read-only, in the user's cache (`NUMBA_CACHE_DIR` names
    another folder). Where neither can be written each process compiles anew: seconds slower, the same results.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath)}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
