"""Import large packages in less time."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType


def import_large(name: str) -> ModuleType:
    """Import a module, without looking for garbage meanwhile, which takes a fifth of the time that torch and timm take.

    What was imported lives as long as the process: the collector is told to pass over it from then on.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.collect()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
