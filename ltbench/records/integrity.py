"""The checksums inside a record: one of its scores, one of all else, so that tables need not read the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltbench.core import sha256_of
from ltbench.errors import DataError

CHECKSUMS = "checksums"
"""The key of a record's file that holds them; records of before have none."""

_SCORES = "scores"
_REST = "rest"


def checksums_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums of a record's values; of the scores only where they are at hand as a dict."""
    found = {_REST: sha256_of({name: value for name, value in values.items() if name not in (_SCORES, CHECKSUMS)})}
    if isinstance(values.get(_SCORES), dict):
        found[_SCORES] = sha256_of(values[_SCORES])
    return found


def damaged_parts(values: Mapping[str, Any]) -> list[str]:
    """Return the parts of a record, "rest" or "scores", that are not what was written; none if it has no checksums."""
    if CHECKSUMS not in values:
        return []
    stored = values[CHECKSUMS]
    return [part for part, found in checksums_of(values).items() if stored.get(part) != found]


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's values without their checksums.

    Raises:
        DataError: a checksum differs.
    """
    if parts := damaged_parts(values):
        named = " and ".join("scores" if part == _SCORES else "record" for part in parts)
        raise DataError(
            f"Expected the {named} as the run wrote it, got a checksum that differs: the file was edited or is "
            "damaged. Repeat the run with --force; `ltbench runs verify` says what differs."
        )
    return {name: value for name, value in values.items() if name != CHECKSUMS}
