"""Text that comes from elsewhere (names of files, titles of methods, messages of libraries), as it may be shown."""

from __future__ import annotations

import unicodedata

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str) -> str:
    r"""Return text in one line that only shows: what would steer a terminal is an escape sequence (`\x1b`, `\u202e`).

    These are control characters, line breaks among them, the marks that turn the direction of writing or that are not
    seen, characters that no standard knows, and bytes of a file name that are no UTF-8.
    """
    return text if text.isprintable() else "".join(_shown(character) for character in text)


def inert(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula: one that could be has an apostrophe in front.

    Source: OWASP, CSV injection.
    """
    is_formula = text.lstrip(" ").startswith(_FORMULA)  # spreadsheets drop blanks in front
    return visible(f"'{text}" if is_formula else text)


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # a space, however wide
        return character
    return character.encode("unicode_escape").decode("ascii")
