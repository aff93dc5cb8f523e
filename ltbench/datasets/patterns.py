"""Where the files of a dataset lie: paths with `{category}`, `{defect}`, `{stem}` and further names in braces.

A pattern is a path below the dataset's root, folder by folder. A name in braces stands for any text within one folder's
name; `{item:kos[0-3]?}` for text that fits the wildcards after the colon, which are those of the shell: `*`, `?`, `[]`.
A pattern without an image's suffix takes every image format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from ltbench.core import check_relative
from ltbench.datasets.decode import IMAGE_SUFFIXES
from ltbench.errors import SpecError

_FIELD = re.compile(r"\{([a-z_]+)(?::([^{}/]+))?\}")
_CLASS = re.compile(r"\[[^\]/]+\]")
_WILDCARD = re.compile(rf"{_CLASS.pattern}|.", re.DOTALL)
_BELOW = "/(?s:.+)"
_SUFFIX = f"(?i:{'|'.join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES, reverse=True))})"


Fields = Mapping[str, str]
"""The names in braces -> what stands for them in a path."""


@dataclass(frozen=True)
class Pattern:
    """A path with names in braces.

    Args:
        text: "{category}/train/good/{stem}".

    Raises:
        SpecError: it leaves the root, or has an unclosed brace.
    """

    text: str

    def __post_init__(self) -> None:
        check_relative(_FIELD.sub("x", self.text))
        is_closed = not any(brace in _CLASS.sub("", _FIELD.sub("", self.text)) for brace in "{}")
        try:
            re.compile(_translated(self.text))
        except re.error:  # a range from high to low
            is_closed = False
        if not is_closed:
            raise SpecError(
                f"Expected a path such as {{category}}/train/good/{{stem}}, got {self.text!r}. Mend its brackets."
            )

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The folders' names and the file's name."""
        return tuple(self.text.split("/"))

    @cached_property
    def fields(self) -> frozenset[str]:
        """The names in braces."""
        return frozenset(field[1] for field in _FIELD.finditer(self.text))

    @property
    def is_folder(self) -> bool:
        """Whether it stands for all files of a folder, rather than for one file."""
        return "{stem" not in self.parts[-1]

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        suffix = PurePosixPath(self.parts[-1]).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            return re.compile(f"{_translated(self.text[: -len(suffix)])}(?i:{re.escape(suffix)})")
        return re.compile(_translated(self.text) + _SUFFIX)

    def match(self, path: str) -> Fields | None:
        """Return the texts of the names in braces, or None for a path that does not fit."""
        found = self._regex.fullmatch(path)
        return None if found is None else found.groupdict()

    def fill(self, fields: Fields) -> str:
        """Return the path with the names in braces replaced, for a message: `.png` where it leaves the suffix open."""
        path = _FIELD.sub(lambda field: fields.get(field[1], f"<{field[1]}>"), self.text)
        return path if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES or self.is_folder else f"{path}.png"

    @cached_property
    def area(self) -> tuple[str, ...]:
        """The folders that belong to the pattern as a whole: up to its first fixed name, short of `{defect}`."""
        for number, part in enumerate(self.parts[:-1]):
            if "{defect" in part or "{stem" in part:
                return self.parts[:number]
            if not _is_open(part):
                return self.parts[: number + 1]
        return self.parts[:-1]

    @cached_property
    def _within(self) -> re.Pattern[str]:
        return re.compile(_translated("/".join(self.area)) + _BELOW)

    def covers(self, path: str) -> bool:
        """Return whether a path lies in the pattern's area, whether or not it fits the pattern."""
        return bool(self.area) and self._within.fullmatch(path) is not None

    @cached_property
    def _up_to_category(self) -> re.Pattern[str] | None:
        number = next((n for n, part in enumerate(self.parts) if "{category" in part), None)
        return None if number is None else re.compile(_translated("/".join(self.parts[: number + 1])) + _BELOW)

    def category(self, path: str) -> str | None:
        """Return the category in whose folder a path lies, whether or not it fits the pattern as a whole."""
        if self._up_to_category is None or (found := self._up_to_category.fullmatch(path)) is None:
            return None
        return found["category"]

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(_translated(self.text) + f"({_BELOW})?")

    def holds(self, path: str) -> bool:
        """Return whether a path is what the pattern stands for, its suffix included, or lies below it."""
        return self._whole.fullmatch(path) is not None

    def __str__(self) -> str:
        return shown(self.text)


def escaped(name: str) -> str:
    """Return a folder's name as a pattern that stands for it alone, whatever marks are in it."""
    return re.sub(r"[*?\[{}]", lambda mark: f"[{mark[0]}]", name)


def shown(text: str) -> str:
    """Return a pattern as a user reads it: `<category>/train/good/<image>`."""
    return _FIELD.sub(lambda field: f"<{'image' if field[1] == 'stem' else field[2] or field[1]}>", text)


def _is_open(part: str) -> bool:
    return bool(_FIELD.search(part)) or any(mark in part for mark in "*?[")


def _translated(text: str) -> str:
    """Return the regular expression of a pattern without its suffix; a name that comes twice is the same text."""
    seen: set[str] = set()
    result, at = "", 0
    for field in _FIELD.finditer(text):
        result += _wild(text[at : field.start()])
        result += f"(?P={field[1]})" if field[1] in seen else f"(?P<{field[1]}>{_wild(field[2] or '?*')})"
        seen.add(field[1])
        at = field.end()
    return result + _wild(text[at:])


def _wild(text: str) -> str:
    """Return the regular expression of wildcards, none of which reaches beyond a folder's name."""
    return "".join(_one(mark) for mark in _WILDCARD.findall(text))


def _one(mark: str) -> str:
    if mark in ("*", "?"):
        return "[^/]*" if mark == "*" else "[^/]"
    if len(mark) < 4:  # a letter, or one in brackets
        return re.escape(mark[1] if len(mark) == 3 else mark)
    inner = re.sub(r"[\[\\^&~|]", r"\\\g<0>", mark[1:-1])
    return f"(?!/)[{'^' + inner[1:] if inner.startswith('!') else inner}]"
