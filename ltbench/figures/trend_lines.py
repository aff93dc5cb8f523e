"""Which line of a trend a run or a published number belongs to, and where on the axis; nothing is overwritten."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ltbench.errors import SpecError
from ltbench.figures.series import Series
from ltbench.records.record import RunRecord
from ltbench.splits.readings import reading_in_words
from ltbench.splits.recipe import NOISE_RULES, Recipe
from ltbench.tables.cells import GROUP_TITLES
from ltbench.tables.published import Published
from ltbench.tables.settings import contaminants_of, dataset_title, recipe_of, source_of

Axis = Literal["imbalance", "noise"]
NOMINAL = ("exp", "step")
"""Profiles whose imbalance is asked for by a number, which is where they stand on the axis."""
Line = tuple[str, str]
"""A line's data set, and all else that its points share, in words."""
Place = dict[str, float]
"""Group -> percent."""


@dataclass
class Trends:
    """Lines of points, and what each point is of.

    Args:
        points: line -> x -> group -> percent.
        origins: (line, x) -> the split, or the published table.
        notes: (line, what a caption has to say of points that are missing or not comparable).
    """

    points: dict[Line, dict[float, Place]] = field(default_factory=lambda: defaultdict(dict))
    origins: dict[tuple[Line, float], str] = field(default_factory=dict)
    notes: list[tuple[Line, str]] = field(default_factory=list)

    def add(self, line: Line, x: float, group: str, value: float, origin: str) -> None:
        """Add a number, which may be printed twice.

        Raises:
            SpecError: the line has another value there.
        """
        known = self.points[line].setdefault(x, {})
        before = self.origins.setdefault((line, x), origin)
        if known.setdefault(group, value) != value:
            raise _clash(line, x, before, origin)

    def take(self, line: Line, x: float, origin: str) -> None:
        """Take a place on a line for a split.

        Raises:
            SpecError: another split has it.
        """
        before = self.origins.setdefault((line, x), origin)
        if before != origin:
            raise _clash(line, x, before, origin)

    def drawn(self) -> dict[Line, dict[float, Place]]:
        """Return the lines of two points or more, by name."""
        return {line: self.points[line] for line in sorted(self.points) if len(self.points[line]) > 1}

    def single(self) -> list[Line]:
        """Return the lines of one point, which are not drawn."""
        return [line for line in sorted(self.points) if len(self.points[line]) == 1]


def _clash(line: Line, x: float, before: str, origin: str) -> SpecError:
    return SpecError(
        f"Expected one value at {x:g} of the line {line[1]!r} on {line[0]}, got those of {before} and {origin}. Choose "
        "one of them with --split, --method, --dataset or --published."
    )


def measured_trends(series: Sequence[Series], axis: Axis, metric: str) -> Trends:
    """Return the lines of runs, over the seeds that all points of a line have, if there is such a seed.

    Another seed of a k or pareto split has another tail, which would show as a bend of the line.

    Args:
        series: the runs.
        axis: what the line is drawn against.
        metric: metric id.

    Raises:
        SpecError: two series of one line have the same place on the axis.
    """
    trends = Trends()
    for line, members in _members(series, axis).items():
        common = set.intersection(*({_seeds(record) for record in own.records} for own, _ in members))
        kept = [_of_seeds(own, common) for own, _ in members]
        lost = sum(len(own.records) - len(fair.records) for (own, _), fair in zip(members, kept, strict=True))
        if lost:
            trends.notes.append((line, f"without {lost} run{'s' * (lost > 1)} of seeds that not all points have"))
        elif not common:
            trends.notes.append((line, "not of the same seeds at each point"))
        for fair, (_, x) in zip(kept, members, strict=True):
            trends.take(line, x, fair.base)
            values = {group: fair.mean(metric, group) for group in GROUP_TITLES}
            if all(value is None for value in values.values()):
                trends.notes.append((line, f"no value of {fair.base}"))
            for group, value in values.items():
                if value is not None:
                    trends.add(line, x, group, value, fair.base)
    return trends


def printed_trends(cells: Iterable[Published], axis: Axis, metric: str) -> Trends:
    """Return the lines of published numbers whose splits have a place on the axis.

    Raises:
        SpecError: two different numbers of one line have the same place.
    """
    trends = Trends()
    for cell in cells:
        recipe = recipe_of(cell.split)
        if cell.metric != metric or cell.value is None or recipe is None or cell.group not in GROUP_TITLES:
            continue
        if axis == "imbalance" and recipe.profile.kind not in NOMINAL:
            continue
        x = float(recipe.profile.imbalance if axis == "imbalance" else recipe.noise_percent)
        line = (dataset_title(cell.dataset), _joined(cell.method, *_rest(cell.split, axis)))
        trends.add(line, x, cell.group, cell.value, f"{cell.paper}-{cell.table}")
    return trends


def realised(series: Iterable[Series]) -> str:
    """Return the imbalance that the splits with a nominal one have, in words."""
    found = {}
    for own in series:
        recipe = recipe_of(own.base)
        if recipe is not None and recipe.profile.kind in ("full", *NOMINAL):
            found[own.base] = f"{own.base} {own.imbalance:.3g}"
    return ", ".join(found[base] for base in sorted(found, key=_natural))


def _members(series: Sequence[Series], axis: Axis) -> dict[Line, list[tuple[Series, float]]]:
    """Return line -> its series, each with its place; a split that every line begins with is in each of them."""
    lines: dict[Line, list[tuple[Series, float]]] = defaultdict(list)
    own_rest = [_rest(own.base, axis) for own in series]
    for own, rest in zip(series, own_rest, strict=True):
        rests = [rest]
        if _is_shared(own, axis):
            alike = [other for other, of in zip(own_rest, series, strict=True) if _begins(own, of, axis)]
            rests = sorted(set(alike)) or rests
        for chosen in rests:
            line = (dataset_title(own.first.dataset), _joined(own.method, *chosen))
            lines[line].append((own, _place(own, axis, chosen)))
    return lines


def _is_shared(series: Series, axis: Axis) -> bool:
    """Return whether a split is the beginning of lines: all images of an imbalance, no contaminants of a noise."""
    recipe = recipe_of(series.base)
    return recipe is not None and (recipe.profile.kind == "full" if axis == "imbalance" else not recipe.noise_percent)


def _begins(first: Series, other: Series, axis: Axis) -> bool:
    """Return whether another series goes on where a shared one begins."""
    one, two = recipe_of(first.base), recipe_of(other.base)
    if one is None or two is None or _is_shared(other, axis) or first.first.dataset != other.first.dataset:
        return False
    if first.method != other.method:
        return False
    if axis == "imbalance":
        return contaminants_of(one) == contaminants_of(two)
    same = (one.profile, one.reversed_order, one.draw) == (two.profile, two.reversed_order, two.draw)
    return same and source_of(first.base) == source_of(other.base)


def _place(series: Series, axis: Axis, rest: tuple[str, ...]) -> float:
    """Return where a series stands: at the nominal imbalance of exp and step, whose 1 is all images; else counted."""
    recipe = recipe_of(series.base)
    if axis == "noise":
        return _percent(series, recipe)
    if recipe is not None and recipe.profile.kind in NOMINAL:
        return float(recipe.profile.imbalance)
    if recipe is not None and recipe.profile.kind == "full" and rest[0] in NOMINAL:
        return 1.0
    return series.imbalance


def _percent(series: Series, recipe: Recipe | None) -> float:
    return float(recipe.noise_percent if recipe else series.first.recipe.get("noise_percent", 0))


def _rest(split: str, axis: Axis) -> tuple[str, ...]:
    """Return all that a split's name says beside its place on the axis: kind or profile, order, noise, and draw."""
    recipe = recipe_of(split)
    if recipe is None:
        return (re.sub(r"\d+(\.\d+)?", "*", split),)
    kind = str(recipe.profile.kind if axis == "imbalance" else recipe.profile)
    order = "reversed" if recipe.reversed_order else ""
    draw = "authors' draw" if recipe.draw == "authors" else ""
    return (kind, order, _noise(recipe, axis), draw, source_of(split))


def _noise(recipe: Recipe, axis: Axis) -> str:
    if not recipe.noise_percent:
        return ""
    if axis == "imbalance":
        return contaminants_of(recipe)
    return _joined(recipe.noise_rule if recipe.noise_rule != NOISE_RULES[0] else "", reading_in_words(recipe.reading))


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _of_seeds(series: Series, common: set[tuple[int, int]]) -> Series:
    kept = tuple(record for record in series.records if not common or _seeds(record) in common)
    return replace(series, records=kept)


def _seeds(record: RunRecord) -> tuple[int, int]:
    return (record.split_seed, record.spec.seed)


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
