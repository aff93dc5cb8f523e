"""The versions of a run record's layout, and how a record of an older one is brought up to date.

Whoever adds, renames or removes a field of `RunRecord` (or of what it holds: `RunSpec`, `Protocol`, `MethodInfo`):
1. raise SCHEMA_VERSION by one;
2. add to UPGRADES, under the old version, a function that turns a record of it into one of the next. It may give a new
   field the value that old runs had, never a guess: what old runs did not note is None, {} or [];
3. copy a record of the old version into tests/golden/records/, where tests/records/test_schema.py reads every file.

An upgrade must leave what `RunSpec.hash` is made of alone: the hash names the run and its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ltbench.errors import DataError

SCHEMA_VERSION = 4

Values = dict[str, Any]


def _with_maps(values: Values) -> Values:
    """Version 2 notes whether the method gives maps; before it, every method did."""
    return values | {"method": {"has_maps": True} | values["method"]}


def _run_here(values: Values) -> Values:
    """Version 3 notes whether predictions were made elsewhere; before it, none were."""
    return values | {"method": {"is_external": False} | values["method"]}


def _recognises_none(values: Values) -> Values:
    """Version 4 notes whether the method recognises training images; before it, none that is here did."""
    return values | {"method": {"recognises_training_images": False} | values["method"]}


UPGRADES: Mapping[int, Callable[[Values], Values]] = {1: _with_maps, 2: _run_here, 3: _recognises_none}
"""Version -> what turns a record of it into one of the next version."""


def upgraded(
    values: Mapping[str, Any],
    upgrades: Mapping[int, Callable[[Values], Values]] = UPGRADES,
    version: int = SCHEMA_VERSION,
) -> Values:
    """Return a record's values in the layout of `version`, the present one.

    Args:
        values: the record as it was written.
        upgrades: version -> what turns a record of it into one of the next.
        version: the wanted version.

    Raises:
        DataError: the record is of a newer version, of none, or of one that nothing upgrades.
    """
    found = values.get("schema_version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise DataError(f"Expected a schema version, got {found!r}. Repeat the run.")
    if found > version:
        raise DataError(f"Expected schema version {version} or older, got {found}. Update ltbench.")
    current = dict(values)
    for step in range(found, version):
        if step not in upgrades:
            raise DataError(f"Expected a record that can be upgraded, got schema version {step}. Repeat the run.")
        current = upgrades[step](current) | {"schema_version": step + 1}
    return current
