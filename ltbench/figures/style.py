"""How every figure looks, and how it is written: the same figure is the same bytes."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullFormatter

from ltbench.atomic import write_output
from ltbench.errors import SpecError
from ltbench.foreign import visible

Name = TypeVar("Name", bound=Hashable)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D1F")
"""Distinguishable with every kind of colour blindness; source: Okabe and Ito, Color Universal Design (2008). The last
is ours, in place of their yellow, which is too light for lines on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
LETTERS_AN_INCH = 13
"""About so many letters of a legend are as long as an inch; a line's sample takes the room of six."""

LEGEND_ROWS, ROW_INCHES = 4, 0.19
"""Rows of a legend that a figure has room for, and the height of each one more."""

CAPTION_LETTERS_AN_INCH, CAPTION_INCHES = 17, 0.14
"""Letters of a caption that are as long as an inch, and the height of a line of it."""

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)))

_STYLE: Mapping[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.hashsalt": "ltbench",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType, which publishers accept
    "text.parse_math": False,  # a title with a dollar sign is text
    "axes.formatter.use_mathtext": False,
}
_FORMATS = {
    ".pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": "ltbench"},
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": "ltbench"},
}
"""Suffix -> what the file says of itself; no dates, so that the same figure is the same bytes."""


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker and dashes of one line."""

    color: str
    marker: str
    linestyle: Any = "-"

    def options(self) -> dict[str, Any]:
        """Return matplotlib's keyword arguments."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}


def looks(names: Sequence[Name]) -> dict[Name, Look]:
    """Return a look for each name: colours first, then the same colours dashed."""
    return {
        name: Look(
            COLOURS[place % len(COLOURS)],
            MARKERS[place % len(MARKERS)],
            DASHES[place // len(COLOURS) % len(DASHES)],
        )
        for place, name in enumerate(dict.fromkeys(names))
    }


_IS_STACKED: ContextVar[bool] = ContextVar("panels stand below one another", default=False)


@contextmanager
def stacked_panels() -> Iterator[None]:
    """Draw the panels of figures below one another, as narrow screens need them."""
    token = _IS_STACKED.set(True)
    try:
        yield
    finally:
        _IS_STACKED.reset(token)


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in ltbench's style, whatever the user's matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def panels(count: int, width: float = 3.2, height: float = 3.0, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, or below one another in `stacked_panels`; call it inside `drawing`."""
    rows, columns = (count, 1) if _IS_STACKED.get() else (1, count)
    figure = Figure(figsize=(width * columns + 0.6, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def label_panels(axes: Sequence[Axes], x: str, y: str) -> None:
    """Label panels that share their axes: once if they are side by side, each y axis if they are stacked."""
    if not _IS_STACKED.get():
        axes[len(axes) // 2].set_xlabel(x)
        axes[0].set_ylabel(y)
        return
    figure = axes[0].get_figure(root=True)
    assert figure is not None  # of panels
    axes[-1].set_xlabel(textwrap.fill(x, int(figure.get_figwidth() * LETTERS_AN_INCH)))
    for panel in axes:
        panel.set_ylabel(y)


def plain_log(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axes: Axes, columns: int = 4, caption: str = "") -> None:
    """Put one legend below all panels, where it covers no data, and above it a caption in small letters."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        letters = int(figure.get_figwidth() * LETTERS_AN_INCH)
        labels = [textwrap.fill(label, letters - 6) for label in labels]
        columns = max(1, min(columns, letters // (max(map(len, labels)) + 6), len(labels)))
        told = textwrap.wrap(caption, int(figure.get_figwidth() * CAPTION_LETTERS_AN_INCH))
        rows = math.ceil(sum(1 + label.count("\n") for label in labels) / columns)
        higher = ROW_INCHES * max(0, rows - LEGEND_ROWS) + CAPTION_INCHES * len(told)
        figure.set_figheight(figure.get_figheight() + higher)  # so that the panels keep their size
        figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, title="\n".join(told) or None, title_fontsize=7
        )


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PDF, PNG or SVG, whole or not at all.

    Raises:
        SpecError: another suffix.
        DataError: the file cannot be written.
    """
    if file.suffix not in _FORMATS:
        raise SpecError(f"Expected a .pdf, .png or .svg file, got {file.name!r}. Change --out.")
    write_output(file, as_bytes(figure, file.suffix))


def as_bytes(figure: Figure, suffix: str) -> bytes:
    """Return a figure in the format of a suffix."""
    buffer = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_text("\n".join(map(_drawable, text.get_text().split("\n"))))
    with drawing():
        figure.savefig(buffer, format=suffix[1:], dpi=200, metadata=_FORMATS[suffix])
    return buffer.getvalue()


def _drawable(line: str) -> str:
    """Return a line that the font has: of other characters the code point."""
    return "".join(
        character if ord(character) in _characters() else f"[U+{ord(character):04X}]" for character in visible(line)
    )


@cache
def _characters() -> frozenset[int]:
    """Return the characters of matplotlib's own font."""
    return frozenset(get_font(findfont("DejaVu Sans", fallback_to_default=False)).get_charmap())
