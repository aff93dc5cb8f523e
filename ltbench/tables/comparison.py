"""The comparison table of all runs: rows of methods, columns of splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ltbench.errors import SpecError, UnknownNameError
from ltbench.tables.captions import lower_caption, ranking_caption
from ltbench.tables.cells import METRIC_TITLES, USUAL, Cell, Column, Marks, Precision, Table
from ltbench.tables.groups import counted, group_meaning, group_title, parse_groups
from ltbench.tables.lists import spread_caption, with_notes
from ltbench.tables.measurements import NOT_RUN, Line, Measurement, Reasons, base_name, cell_of
from ltbench.tables.quantities import QUANTITIES, RUN, check_quantities, printed_with
from ltbench.tables.ranking import ranked_column
from ltbench.tables.variants import assigned, overrides


def check_metrics(metrics: Sequence[str]) -> None:
    """Raise unless there is a metric and each has a title.

    Raises:
        UnknownNameError: an unknown metric; the nearest name is offered.
        SpecError: there is none.
    """
    for metric in metrics:
        if metric not in METRIC_TITLES:
            raise UnknownNameError("metric", metric, METRIC_TITLES)
    if not metrics:
        raise SpecError(f"Expected metrics, got none. Known: {', '.join(METRIC_TITLES)}.")


def make_table(
    measurements: Sequence[Measurement],
    *,
    splits: Sequence[str] = (),
    metrics: Sequence[str] = ("image_auroc", "pixel_auroc"),
    group: str = "avg",
    significance: bool = False,
    reasons: Reasons | None = None,
    precision: Precision = USUAL,
) -> Table:
    """Return a comparison table: rows are methods with their hyper-parameters, columns are splits.

    Runs that differ only in seeds, of the method or of the split, share a cell; `ltbench.tables.lists` says how.

    Args:
        measurements: what to tabulate.
        splits: only these splits, named with or without a seed; all if empty.
        metrics: metric ids, and names of resources, which have one column a split.
        group: groups of categories, separated by commas: "avg", "high", "low", or "all" for these three; ranges of
            training images ("1-5", as `parse_groups` has them) for which the measurements were made.
        significance: whether the best of a column are all that a paired test cannot tell apart.
        reasons: why runs are missing, beyond that they were not run.
        precision: how exactly numbers are printed; what prints alike shares a rank.

    Raises:
        UnknownNameError: an unknown metric, or a split without runs.
        SpecError: there is nothing to tabulate, or no such group.
    """
    check_quantities(metrics)
    groups = parse_groups(group)
    if not measurements:
        raise SpecError(
            "Expected finished runs, got none that fit. Make one with `ltbench run`, or pass --results; "
            "`ltbench table --paper ltad-3` shows what a paper printed."
        )
    bases = _bases(measurements, splits)
    columns = tuple(column for base in bases for column in _columns(base, metrics, groups))
    lines = lines_of([found for found in measurements if found.base in bases])
    usual, marks = usual_protocol(lines), Marks()
    titles = [_titled(line, usual, marks) for line in lines]
    by_column = _cells(lines, columns, significance, reasons or {}, precision)
    rows = zip(titles, zip(*with_notes(by_column, marks), strict=True), strict=True)
    spread = spread_caption([cell for cells in by_column for cell in cells], precision.has_std)
    caption = f"{_measured(metrics, groups)}, protocol {usual}{spread}. {ranking_caption(significance, metrics)}"
    return Table(columns, tuple(rows), tuple(marks.notes), f"{caption}{lower_caption(metrics)}.")


def _columns(base: str, metrics: Sequence[str], groups: Sequence[str]) -> Iterator[Column]:
    """Yield the columns of a split: one a metric and group, one a resource; headings of one value are left out."""
    has_metrics = not all(QUANTITIES[metric].is_resource for metric in metrics)
    for metric in metrics:
        for group in (RUN,) if QUANTITIES[metric].is_resource else groups:
            titles = [base, *[QUANTITIES[metric].title] * (len(metrics) > 1)]
            if len(groups) > 1 and has_metrics:
                titles.append("" if group == RUN else group_title(group))
            yield Column(base, metric, group, tuple(titles))


def _measured(metrics: Sequence[str], groups: Sequence[str]) -> str:
    """Return what the numbers are: of what, in which unit, over which categories."""
    if all(QUANTITIES[metric].is_resource for metric in metrics):
        return ", ".join(QUANTITIES[metric].title for metric in metrics)
    what = f"{QUANTITIES[metrics[0]].title}, percent" if len(metrics) == 1 else "Percent"
    if len(groups) == 1:
        return f"{what}, {group_meaning(groups[0])}"
    ranges = [f"{group_title(own)} is the {group_meaning(own)}" for own in counted(groups)]
    return ", ".join([what, *ranges])


def _bases(measurements: Sequence[Measurement], splits: Sequence[str]) -> list[str]:
    present = sorted({found.base for found in measurements}, key=natural)
    if not splits:
        return present
    wanted = list(dict.fromkeys(base_name(split) for split in splits))
    for base in wanted:
        if base not in present:
            raise UnknownNameError("split with finished runs", base, present)
    return wanted


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts the numbers in names as numbers: k4 before k10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def lines_of(measurements: Sequence[Measurement]) -> list[Line]:
    """Return the runs by method, hyper-parameters and protocol, titled so that each line has another title.

    Lines of the commonest protocol come first, then by title.
    """
    lines: dict[tuple[str, str, str], Line] = {}
    for found in measurements:
        line = lines.setdefault(found.variant, Line(found.method.title, found))
        line.by_base[found.base].append(found)
    ordered = [lines[key] for key in sorted(lines)]
    usual = usual_protocol(ordered)
    titles = [_variant_title(line, ordered) for line in ordered]
    for line, title in zip(ordered, titles, strict=True):
        line.title = title
    return sorted(ordered, key=lambda line: (line.first.protocol_name != usual, line.title))


def usual_protocol(lines: Sequence[Line]) -> str:
    """Return the name of the protocol that most lines have."""
    protocols = [line.first.protocol_name for line in lines]
    return max(sorted(set(protocols)), key=protocols.count)


def _titled(line: Line, usual: str, marks: Marks) -> str:
    own = [found for runs in line.by_base.values() for found in runs]
    odd = [f"protocol {line.first.protocol_name}"] if line.first.protocol_name != usual else []
    return marked_title(line.title, [*line.first.privileges, *odd, *cropped_of(own)], marks)


def marked_title(title: str, notes: Sequence[str], marks: Marks) -> str:
    """Return a row's title with the marks of its notes; empty ones have none."""
    return title + ",".join(filter(None, map(marks.mark, notes)))


def cropped_of(measurements: Iterable[Measurement]) -> list[str]:
    """Return the footnotes on defects that protocols cut off, each once."""
    return sorted({found.cropped for found in measurements if found.cropped})


def _variant_title(line: Line, lines: Sequence[Line]) -> str:
    """Return a method's title with what tells it from its other lines.

    That is what it sets beside its preset, after the preset's name if there are several; and where this is not known,
    or does not tell all lines apart, every hyper-parameter in which they differ.
    """
    family = [other.first for other in lines if other.first.method.title == line.first.method.title]
    own = line.first
    count = len({found.parameters_text for found in family})
    if count == 1:
        return line.title
    has_presets = len({found.preset for found in family}) > 1
    parts = {found.parameters_text: _beside_preset(found, has_presets) for found in family}
    if None not in parts.values() and len(set(parts.values())) == count:
        added = parts[own.parameters_text]
        return f"{line.title} ({added})" if added else line.title
    differing = {
        name for other in family for name in own.parameters if other.parameters.get(name) != own.parameters[name]
    }
    told = assigned({name: own.parameters[name] for name in differing})
    return f"{line.title} ({', '.join(told)})" if told else line.title


def _beside_preset(found: Measurement, has_presets: bool) -> str | None:
    """Return the hyper-parameters that a run sets beside its preset, as text, or None where the preset is not known."""
    changed = overrides(found.method.name, found.preset, found.parameters)
    return None if changed is None else ", ".join([found.preset] * has_presets + assigned(changed))


def _cells(
    lines: Sequence[Line], columns: Sequence[Column], significance: bool, reasons: Reasons, precision: Precision
) -> list[list[Cell]]:
    by_column = []
    for column in columns:
        runs = [line.by_base.get(column.split, []) for line in lines]
        why = [reasons.get((line.first.method.name, column.split), NOT_RUN) for line in lines]
        cells = [cell_of(own, column.metric, column.group, text) for own, text in zip(runs, why, strict=True)]
        by_column.append(ranked_column(printed_with(precision, cells, column.metric), runs, column, significance))
    return by_column
