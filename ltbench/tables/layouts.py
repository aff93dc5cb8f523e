"""The layouts of published tables as data: `results/published/layouts.yaml`, which rows and columns each has."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ltbench.errors import DataError, UnknownNameError
from ltbench.places import PUBLISHED
from ltbench.plain_yaml import parse_yaml

FILE = PUBLISHED / "layouts.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class LayoutRow(_Strict):
    """A printed row.

    Args:
        published: the row's name in the published numbers, which is its title.
        method: the method in ltbench, or None if it has none.
        presets: patterns of the presets that are the paper's setting; runs of other presets have lines of their own.
        parameters: hyper-parameters that make the row, as its presets have them; its runs may set them themselves.
        beside: hyper-parameters that its runs set to other values than its presets have.
        paths: hyper-parameters that name a file or folder of the user's, wherever it lies.
        note: what sets every run of the method apart from what the paper ran; a footnote of its lines.
    """

    published: str
    method: str | None = None
    presets: list[str] = Field(default_factory=lambda: ["paper*"])
    parameters: dict[str, Any] = Field(default_factory=dict)
    beside: dict[str, Any] = Field(default_factory=dict)
    paths: list[str] = Field(default_factory=list)
    note: str = ""

    @property
    def required(self) -> dict[str, Any]:
        """The hyper-parameters that every run of the row has."""
        return self.parameters | self.beside


class LayoutColumn(_Strict):
    """What the columns of one split have in common, or of one variant of all rows.

    Args:
        title: as printed.
        split: the split without its seed.
        official: the same with the authors' own lists, which are preferred where they were run.
        suffix: what stands after the row's name in the published numbers.
        parameters: hyper-parameters that make the column.
    """

    title: str
    split: str
    official: str | None = None
    suffix: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Layout(_Strict):
    """A published table.

    Args:
        caption: what the table shows, in our own words.
        paper: whose published numbers it prints.
        table: which of its tables.
        protocol: the protocol of the paper.
        methods_across: whether methods are columns and splits are rows.
        columns: the splits, in order.
        metrics: metric -> heading.
        groups: group -> heading; an empty heading where there is one group.
        rows: the methods, in order.
    """

    caption: str
    paper: str
    table: str
    protocol: str
    methods_across: bool = False
    columns: list[LayoutColumn]
    metrics: dict[str, str]
    groups: dict[str, str]
    rows: list[LayoutRow]

    @property
    def title(self) -> str:
        """Which table of which paper it is: the caption's first sentence, "LTAD, Table 3"."""
        return self.caption.partition(". ")[0]


@cache
def layouts(file: Path = FILE) -> dict[str, Layout]:
    """Return every layout by name, in the file's order.

    Raises:
        DataError: the file is missing or holds something else.
    """
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"))
        return {str(name): Layout.model_validate(values) for name, values in content.items()}
    except OSError as error:
        raise DataError(f"Expected layouts in {file}, got {error.strerror}. Install ltbench anew.") from error
    except (yaml.YAMLError, ValidationError, AttributeError) as error:
        text = "; ".join(str(error).split("\n")[:3])
        raise DataError(f"Expected layouts in {file}, got {text}. Mend the file.") from error


def layout_named(name: str) -> Layout:
    """Return a layout.

    Raises:
        UnknownNameError: there is none of that name.
    """
    known = layouts()
    if name not in known:
        raise UnknownNameError("table layout", name, known)
    return known[name]
