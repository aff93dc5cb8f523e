"""Tables in another order, turned, and in parts: the same cells, and the notes that they carry."""

from __future__ import annotations

import pytest

from ltbench.errors import SpecError
from ltbench.tables.arrangement import numbered, part_of, parts_by, sorted_by, turned
from ltbench.tables.cells import Cell, Column, Grid, Table


def _table() -> Table:
    """Two splits x (two groups of a metric, and seconds), three methods."""
    columns = tuple(
        Column(split, metric, group, (split, title, head))
        for split in ("x", "y")
        for metric, title, group, head in (
            ("image_auroc", "Image AUROC", "high", "High"),
            ("image_auroc", "Image AUROC", "low", "Low"),
            ("fit_seconds", "Fit (s)", "run", ""),
        )
    )
    values = {"B": (70, 60, 5, 50, 40, 9), "a*": (None, 80, 7, 30, 20, 8), "C*,**": (90, 10, 6, 50, 0, 7)}
    rows = tuple(
        (title, tuple(Cell(None if value is None else float(value)) for value in own)) for title, own in values.items()
    )
    first = (rows[0][0], (Cell(70.0, mark="a"), *rows[0][1][1:-1], Cell(9.0, mark="b")))
    notes = (("*", "told"), ("**", "odd"), ("a", "of x"), ("b", "of y"))
    return Table(columns, (first, *rows[1:]), notes, "Caption.", name="t")


def _titles(table: Table) -> list[str]:
    return [title for title, _ in table.rows]


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ("method", ["a*", "B", "C*,**"]),
        ("image_auroc", ["C*,**", "B", "a*"]),  # the first column that fits; what has no number is last
        ("low", ["a*", "B", "C*,**"]),
        ("y,high", ["B", "C*,**", "a*"]),  # alike rows keep their order
        ("fit_seconds", ["B", "C*,**", "a*"]),  # the lowest first
        ("y fit_seconds", ["C*,**", "a*", "B"]),
    ],
)
def test_rows_are_sorted_by_what_is_named(wanted: str, order: list[str]) -> None:
    table = sorted_by(_table(), wanted)
    assert _titles(table) == order
    assert dict(table.rows) == dict(_table().rows)


@pytest.mark.parametrize("wanted", ["", ",", "z", "x,image_ap", "method,x"])
def test_a_column_that_is_not_there_is_refused(wanted: str) -> None:
    with pytest.raises(SpecError, match=r"Name some of: x, image_auroc, high, low, fit_seconds, run, y\."):
        sorted_by(_table(), wanted)


def test_turning_twice_changes_nothing() -> None:
    table = _table()
    assert turned(turned(table)) == table
    grid = Grid.of(turned(table))
    assert [title for title, _ in grid.lines] == ["x", "y"]
    assert grid.heads[0] == ("B", "Image AUROC", "High") and len(grid.heads) == 9


def test_parts_hold_every_cell_once_and_their_own_notes() -> None:
    table = _table()
    split, metric = parts_by(table, "split"), parts_by(table, "metric")
    assert [subject for subject, _ in split] == ["x", "y"]
    assert [subject for subject, _ in metric] == ["Image AUROC", "Fit (s)"]
    for parts in (split, metric):
        cells = [cell for _, own in parts for _, row in own.rows for cell in row]
        assert len(cells) == 18
    assert [column.titles for column in split[0][1].columns] == [
        ("Image AUROC", "High"), ("Image AUROC", "Low"), ("Fit (s)", ""),
    ]  # fmt: skip
    assert [column.titles for column in metric[1][1].columns] == [("x",), ("y",)]
    assert [mark for mark, _ in split[0][1].notes] == ["*", "**", "a"]
    assert [mark for mark, _ in split[1][1].notes] == ["*", "**", "b"]
    assert parts_by(table, None) == [("", table)]


def test_parts_say_which_they_are() -> None:
    parts = numbered(parts_by(_table(), "metric"))
    assert [own.caption for own in parts] == ["Caption. Part 1 of 2: Image AUROC.", "Caption. Part 2 of 2: Fit (s)."]
    assert [own.name for own in parts] == ["t-1", "t-2"]
    assert numbered([("x", _table())]) == [_table()]


def test_a_part_of_the_rows_keeps_their_marks() -> None:
    assert [mark for mark, _ in part_of(_table(), [1], [1]).notes] == ["*"]
    assert part_of(_table(), [1], [0]).notes == ()


def test_splits_that_are_rows_keep_their_names() -> None:
    for _, own in parts_by(turned(_table()), "split"):
        assert [title for title, _ in Grid.of(own).lines] in (["x"], ["y"])
