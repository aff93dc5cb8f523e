"""The report's figures and heat maps, as data URIs with a text for those who cannot see them."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from ltbench.datasets.index import load_dataset
from ltbench.errors import LtbenchError, SpecError
from ltbench.figures.categories import draw_categories
from ltbench.figures.curves import draw_curves
from ltbench.figures.diagnostics import draw_diagnostics
from ltbench.figures.examples import SavedMaps, one_of_each_defect, worst
from ltbench.figures.heatmaps import Picture, panels_of, told_of
from ltbench.figures.learning import draw_learning
from ltbench.figures.series import TooFewRunsError
from ltbench.figures.style import as_bytes, stacked_panels
from ltbench.figures.trends import draw_imbalance, draw_noise
from ltbench.records.record import MAPS, RunRecord, run_folder
from ltbench.tables.measurements import base_name

WORST = 3
"""Misses and false alarms in a gallery."""
QUALITY = 78
"""Of the galleries' WebP pictures."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as a data URI, what it shows, and the heading that it stands below.

    A figure of several panels has a second one for narrow screens, in which they stand below one another.
    """

    uri: str
    text: str
    heading: str = ""
    narrow: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Heat maps of one split: its title, and rows of panels with what each row is an example of."""

    title: str
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]


def figures(records: Sequence[RunRecord], problems: list[str]) -> Iterator[Shown]:
    """Yield every figure that the records suffice for, by dataset and split.

    Args:
        records: the runs.
        problems: gets a sentence for each figure that the runs would suffice for and that cannot be drawn.
    """
    draw_one = partial(_figure, problems)
    for dataset, own in _grouped(records, lambda record: record.dataset):
        yield from draw_one(partial(draw_imbalance, own), dataset, "Image AUROC against imbalance")
        yield from draw_one(partial(draw_noise, own), dataset, "Image AUROC against the share of contaminants")
        for base, runs in _grouped(own, lambda record: base_name(record.spec.split)):
            yield from draw_one(partial(draw_categories, runs), base, "Image AUROC by category, sorted by size")
            yield from draw_one(partial(draw_curves, runs), base, "ROC and precision-recall, mean of categories")
            yield from draw_one(partial(draw_learning, runs), base, "Image AUROC on the test set against epochs")
            for record in _with_sizes(runs):
                text = f"{record.method.title}: predicted and true category sizes"
                yield from draw_one(partial(draw_diagnostics, record), base, text)


def galleries(records: Sequence[RunRecord], results: Path, data_root: Path | None) -> tuple[list[Gallery], list[str]]:
    """Return heat maps of the splits whose runs kept maps, and a sentence for each that cannot be drawn.

    Of several seeds of a split the one with most runs is shown, and of a method's seeds the first.
    """
    shown, problems = [], []
    for split, folders in _mapped(records, results):
        try:
            shown.append(_gallery(split, [SavedMaps(folder) for folder in folders], data_root))
        except LtbenchError as error:
            problems.append(f"No heat maps of {split}: {error}")
    return shown, problems


def _figure(problems: list[str], draw: Callable[[], Figure], heading: str, text: str) -> Iterator[Shown]:
    try:
        figure = draw()
    except TooFewRunsError:  # too few points for a line, or no test images of both kinds
        return
    except SpecError as error:
        problems.append(f"No figure of {text}, {heading}: {error}")
        return
    narrow = ""
    if len(figure.axes) > 1:
        with stacked_panels():
            narrow = _svg(draw())
    yield Shown(_svg(figure), f"{text}, {heading}", heading, narrow)


def _svg(figure: Figure) -> str:
    return _uri(as_bytes(figure, ".svg"), "image/svg+xml")


def _grouped(records: Sequence[RunRecord], key: Callable[[RunRecord], str]) -> list[tuple[str, list[RunRecord]]]:
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return sorted(groups.items())


def _with_sizes(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the first run of each method that noted predicted sizes."""
    found: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda own: (own.spec.split, own.spec.seed, own.spec.hash)):
        if "sizes" in record.notes.get("diagnostics", {}):
            found.setdefault(record.method.title, record)
    return list(found.values())


def _mapped(records: Sequence[RunRecord], results: Path) -> list[tuple[str, list[Path]]]:
    by_base: dict[str, dict[tuple[str, str], dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    for record in sorted(records, key=lambda own: (own.spec.method, own.spec.seed, own.spec.hash)):
        folder = run_folder(results, record.spec)
        if (folder / MAPS).is_dir():
            variant = f"{record.spec.method} {sorted(record.spec.parameters.items())} {record.spec.protocol}"
            drawn = (record.spec.split, record.spec.split_sha256)  # lists of one name may be of other images
            by_base[base_name(record.spec.split)][drawn].setdefault(variant, folder)
    best = {base: max(sorted(lists), key=lambda own: len(lists[own])) for base, lists in by_base.items()}
    return [(drawn[0], list(by_base[base][drawn].values())) for base, drawn in sorted(best.items())]


def _gallery(split: str, runs: list[SavedMaps], data_root: Path | None) -> Gallery:
    first = runs[0].record
    dataset = load_dataset(first.dataset, data_root)
    one = {example.category: example for example in reversed(one_of_each_defect(first))}
    rows = []
    for example in [*sorted(one.values(), key=lambda own: own.category), *worst(first, WORST)]:
        panels = panels_of(example, dataset, runs)
        shown = tuple(
            Shown(_webp(picture), f"{title}: {example.title}", title)
            for title, picture in panels
            if picture is not None
        )
        of_run = f" ({first.method.title})" if example.kind != "defect" else ""
        rows.append((told_of(example, dataset, runs) + of_run, shown))
    return Gallery(split, tuple(rows))


def _webp(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", quality=QUALITY)
    return _uri(buffer.getvalue(), "image/webp")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
