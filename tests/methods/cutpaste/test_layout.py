"""CutPaste in LTAD's table 3: its row has no pixel values, and the table says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ltbench.contract.parameters import plain, resolve
from ltbench.metrics.groups import NO_MAPS
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord
from ltbench.render.markdown import markdown
from ltbench.tables.layouts import layout_named
from ltbench.tables.measurements import measure
from ltbench.tables.paper import fill, table_of
from ltbench.tables.published import published_numbers
from methods.cutpaste.method import CutPaste


def test_a_dash_with_its_reason(make_record: Callable[..., RunRecord]) -> None:
    made = make_record(
        "cutpaste",
        values={"image_auroc": 0.75},
        info=CutPaste().run_info,
        missing={"pixel_auroc": NO_MAPS},
        parameters=plain(resolve(CutPaste)),
        protocol=PROTOCOLS["common"],
    )
    layout = layout_named("ltad-3")
    measured = measure([replace(made, preset="paper")], list(layout.metrics))
    table = table_of(fill(layout, measured, published_numbers()), name="ltad-3")
    ((_, cells),) = [row for row in table.rows if row[0].startswith("Cut&Paste")]
    by_column = dict(zip([(own.split, own.metric) for own in table.columns], cells, strict=True))
    image, pixel = by_column["mvtec_step100", "image_auroc"], by_column["mvtec_step100", "pixel_auroc"]
    assert (image.mean, image.published) == (75.0, 76.57)
    assert (pixel.mean, pixel.reason, pixel.published_text) == (None, NO_MAPS, "N/A")
    text = markdown(table)
    assert f"No value ({NO_MAPS}): Cut&amp;Paste\\* in step100 Seg." in text
    assert "gives image scores only" in text, "why the paper prints none"
