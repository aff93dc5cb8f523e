"""The critical-difference diagram shows the ranks, joins what is not told apart, and covers no name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure

from ltbench.errors import SpecError, UnknownNameError
from ltbench.figures.ranks import draw_ranks, ranking_of
from ltbench.figures.style import as_bytes
from ltbench.records.record import RunRecord

MakeRecord = Callable[..., RunRecord]
NAMES = (
    "patchcore",
    "softpatch",
    "tailedcore",
    "ltad",
    "uniad",
    "a rather long name of a method, semantic=false",
    "rlr",
)


def _records(make: MakeRecord, names: Sequence[str] = NAMES, splits: int = 12) -> list[RunRecord]:
    return [
        make(name, f"parts_k{4 + split}", {"image_auroc": 0.9 - 0.1 * place + 0.13 * ((split + place) % 3)})
        for place, name in enumerate(names)
        for split in range(splits)
    ]


def _texts(figure: Figure) -> list[str]:
    return [" ".join(text.get_text().split("\n")) for text in figure.axes[0].texts]


def test_ranks_are_those_of_the_runs(make_record: MakeRecord) -> None:
    records = _records(make_record)
    ranking = ranking_of(records, "image_auroc", "avg")
    assert len(ranking.splits) == 12 and ranking.is_told_apart
    texts = _texts(draw_ranks(records))
    for name, mean in ranking.ranks.items():
        assert f"{name}  {mean:.2f}" in texts or f"{mean:.2f}  {name}" in texts
    assert [text for text in texts if text.isdigit()] == [str(place) for place in range(1, 8)]
    assert f"critical difference {ranking.critical_difference:.2f}" in texts


def test_bars_join_the_cliques(make_record: MakeRecord) -> None:
    records = _records(make_record)
    ranking = ranking_of(records, "image_auroc", "avg")
    bars = [line for line in draw_ranks(records).axes[0].get_lines() if line.get_linewidth() == 3]
    ends = [np.asarray(line.get_xdata(), float).tolist() for line in bars]
    expected = [[ranking.ranks[names[0]] - 0.03, ranking.ranks[names[-1]] + 0.03] for names in ranking.cliques]
    assert ends == [pytest.approx(own) for own in expected]


@pytest.mark.parametrize("count", [3, 4, 7])
def test_nothing_is_covered_or_cut_off(make_record: MakeRecord, count: int) -> None:
    figure = draw_ranks(_records(make_record, NAMES[:count]))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    whole = figure.bbox
    assert all(box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 for box in boxes)
    once, again = (as_bytes(draw_ranks(_records(make_record, NAMES[:count])), ".svg") for _ in range(2))
    assert once == again


def test_the_caption_says_what_the_test_says(make_record: MakeRecord) -> None:
    told = draw_ranks(_records(make_record)).get_supxlabel()
    assert "over 12 splits" in told and "Friedman's test: p = " in told and "Bars join" in " ".join(told.split())
    lacking = draw_ranks(_records(make_record)[:-1]).get_supxlabel()
    assert "Left out: parts_k15 (no Rlr)" in " ".join(lacking.split())
    alike = draw_ranks(_records(make_record, NAMES[:3], 2)).get_supxlabel()
    assert "does not tell the methods apart" in " ".join(alike.split())


def test_what_cannot_be_ranked_is_told(make_record: MakeRecord) -> None:
    with pytest.raises(SpecError, match="3 methods or more"):
        draw_ranks(_records(make_record, NAMES[:2]))
    with pytest.raises(SpecError, match="got none"):
        draw_ranks([])
    with pytest.raises(UnknownNameError, match="image_auroc"):
        draw_ranks(_records(make_record), "image_aurocc")
