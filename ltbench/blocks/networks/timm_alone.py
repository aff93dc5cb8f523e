"""timm, imported without torch's compiler, which takes a second to import and which nothing here asks for.

torchvision, which timm imports, wants one function of it, and timm marks one method as not to be compiled. Both turn to
the compiler when they are called. Whoever wants timm writes `from ltbench.blocks.networks.timm_alone import timm`; what
is imported before or after may bring the compiler, and nothing but the time changes.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

_ASKED = "torch._dynamo.utils"


class _Later(ModuleType):
    """Stands for a module with one function; for whoever asks for anything else it makes way for the module itself."""

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)

        def call(*given: Any, **named: Any) -> Any:
            return getattr(self._itself(), function)(*given, **named)

        setattr(self, function, call)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `inspect` asks every module for its file
            raise AttributeError(name)
        return getattr(self._itself(), name)

    def _itself(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Import packages inside the block without torch's compiler, if it is not there yet."""
    if _ASKED in sys.modules:
        yield
        return
    later, disable = _Later(_ASKED, "is_compile_supported"), torch.compiler.disable
    sys.modules[_ASKED], torch.compiler.disable = later, _disabled_later(disable)
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_ASKED) is later:
            del sys.modules[_ASKED]


def _disabled_later(disable: Callable[..., Any]) -> Callable[..., Any]:
    """Return `torch.compiler.disable` as a decorator that does its work when the function is first called."""

    def decorate(function: Any = None, *given: Any, **named: Any) -> Any:
        if function is None:
            return lambda found: decorate(found, *given, **named)

        @functools.cache
        def disabled() -> Any:
            return disable(function, *given, **named)

        @functools.wraps(function)
        def call(*values: Any, **options: Any) -> Any:
            return disabled()(*values, **options)

        return call

    return decorate


with _without_compiler():
    import timm

__all__ = ["timm"]
