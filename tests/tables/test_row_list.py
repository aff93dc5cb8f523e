"""`docs/rows.md`, how the papers' rows are filled: `python tests/tables/test_row_list.py` writes it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from tabulate import tabulate

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, method_class, presets
from ltbench.tables.layouts import Layout, LayoutRow, layout_named
from ltbench.tables.measurements import PRIVILEGES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rows.md"
LAYOUTS = (
    "ltad-3",
    "tailedcore-1",
    "tailedcore-logs",
    "patchcore-readme",
    "softpatch-readme",
    "uniad-abstract",
    "hvqtrans-main",
    "dinomaly-abstract",
    "dinomaly-readme",
    "ader-300-epochs",
    "ltoad-main",
)

HEAD = """# Who fills which row

How each row of the papers' main tables, and of what they print for whole training sets, is filled: by which method of
this folder, with which preset and settings, and what its runs are told beyond the training images. Made from
`results/published/layouts.yaml` and what methods declare (`tests/tables/test_row_list.py`).
"""


def settings_of(layout: Layout, row: LayoutRow) -> tuple[str, dict[str, Any]]:
    """Return the preset of a row on the first split, and the hyper-parameters that the row sets besides."""
    assert row.method is not None
    cls = method_class(row.method)
    chosen = choose_preset(cls, None, layout.columns[0].split).name
    if not any(fnmatchcase(chosen, pattern) for pattern in row.presets):
        chosen = next(name for pattern in row.presets for name in presets(cls) if fnmatchcase(name, pattern))
    own = resolve(cls, presets(cls)[chosen].parameters)
    set_by_row = {name: value for name, value in row.parameters.items() if own[name] != value}
    return chosen, set_by_row | row.beside


def line(layout: Layout, row: LayoutRow) -> list[str]:
    """Return the cells of a row: published name, method, preset, privileges, and what it needs or lacks."""
    if row.method is None:
        return [row.published, "none: the paper's numbers alone", "", "", ""]
    cls = method_class(row.method)
    preset, changed = settings_of(layout, row)
    method = cls(**resolve(cls, presets(cls)[preset].parameters, changed))
    info = getattr(method, "run_info", cls.info)
    told = [text for name, text in PRIVILEGES.items() if getattr(info, name)]
    lacks = [f"`{name}`, a file or folder of yours" for name in row.paths]
    lacks += ["no maps: image metrics alone"] * (not info.has_maps)
    lacks += [row.note] * bool(row.note)
    lacks += [f"N/A where a category has fewer than {info.min_images} images"] * (info.min_images > 1)
    given = [f"`{preset}`", *(f"`{name}={value}`" for name, value in changed.items())]
    return [row.published, f"`{row.method}`", ", ".join(given), ", ".join(told) or "none", ", ".join(lacks)]


def text() -> str:
    """Return the page."""
    parts = [HEAD]
    for name in LAYOUTS:
        layout = layout_named(name)
        rows = [line(layout, row) for row in layout.rows]
        table = tabulate(rows, ["row", "method", "preset", "privileges", "needs or lacks"], tablefmt="github")
        parts.append(f"## {layout.title}\n\n`ltbench table --paper {name}`\n\n{table}\n")
    return "\n".join(parts)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == text(), "run python tests/tables/test_row_list.py"


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_row_that_has_a_method_can_run(name: str) -> None:
    layout = layout_named(name)
    for row in layout.rows:
        if row.method is not None:
            preset, _ = settings_of(layout, row)
            assert any(fnmatchcase(preset, pattern) for pattern in row.presets)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
