"""Figures: they show the records' numbers, cover nothing, look the same twice, and refuse what cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

from ltbench.core import Split, TrainImages
from ltbench.errors import SpecError, UnknownNameError
from ltbench.figures.categories import draw_categories
from ltbench.figures.curves import draw_curves, mean_precision_recall, mean_roc
from ltbench.figures.learning import draw_learning
from ltbench.figures.profiles import draw_profiles
from ltbench.figures.series import names_of, series_of
from ltbench.figures.style import COLOURS, as_bytes, looks, save, stacked_panels
from ltbench.figures.trends import draw_imbalance, draw_noise
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord
from ltbench.tables.published import published_numbers

MakeRecord = Callable[..., RunRecord]
HOSTILE = MethodInfo("evil", r"A_b & <script>$\alpha$ {x}^2")


def _record(make: MakeRecord, split: str = "parts_step4", sizes: Sequence[int] = (40, 10, 2), **more: Any) -> RunRecord:
    names = ("bolt", "gear", "nut")
    profile, noise = [*split.split("_"), "noisy00"][1:3]
    shift = more.pop("shift", 0.0)
    record = make(more.pop("method", "m"), split, **more)
    values = {name: 0.9 - 0.1 * place - shift for place, name in enumerate(names)}
    groups = {"high": values["bolt"], "low": (values["gear"] + values["nut"]) / 2, "avg": sum(values.values()) / 3}
    rng = np.random.RandomState(record.spec.seed)
    scores = {
        name: [
            {
                "path": f"{name}/{kind}{k}.png",
                "defect_type": kind,
                "score": float(rng.randint(6) + 2 * (kind != "good")),
            }
            for kind in ("good", "cut")
            for k in range(7)
        ]
        for name in names
    }
    return replace(
        record,
        recipe={"profile": profile, "noise_percent": int(noise.removeprefix("noisy")) if "noisy" in noise else 0},
        high=("bolt",),
        low=("gear", "nut"),
        counts={name: {"normal": size, "contaminant": 0} for name, size in zip(names, sizes, strict=True)},
        metrics={"image_auroc": values | groups},
        scores=scores,
    )


def _lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return label -> x and y of each line, rounded to what is drawn."""
    return {
        str(line.get_label()): (
            np.asarray(line.get_xdata()).tolist(),
            np.round(np.asarray(line.get_ydata(), float), 6).tolist(),
        )
        for line in axes.get_lines()
    }


def _caption(figure: Figure) -> str:
    (legend,) = figure.legends
    return " ".join(legend.get_title().get_text().split())


def _covers_no_data(figure: Figure) -> bool:
    figure.draw_without_rendering()  # places everything; a bare canvas would not
    legends = [own.get_window_extent() for own in figure.legends]
    return not any(legend.overlaps(axes.get_window_extent()) for legend in legends for axes in figure.axes)


def test_categories_are_sorted_by_size(make_record: MakeRecord) -> None:
    figure = draw_categories(
        [_record(make_record, sizes=(2, 40, 10)), _record(make_record, method="b", sizes=(2, 40, 10))]
    )
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["gear (40)", "nut (10)", "bolt (2)"]
    assert _lines(axes)["M"][1] == pytest.approx([80, 70, 90])
    assert axes.get_ylabel() == "Image AUROC (%)"
    assert _covers_no_data(figure)


def test_another_tail_in_each_seed_is_drawn_by_rank(make_record: MakeRecord) -> None:
    records = [_record(make_record), _record(make_record, split="parts_step4_seed1", sizes=(2, 10, 40))]
    (axes,) = draw_categories(records).axes
    assert _lines(axes)["M"][1] == pytest.approx([(90 + 70) / 2, 80, (70 + 90) / 2])
    assert axes.get_xlabel().startswith("rank")


def test_imbalance_is_nominal_and_full_belongs_to_every_profile(make_record: MakeRecord) -> None:
    records = [
        _record(make_record, "parts_full", (40, 40, 20)),
        _record(make_record, "parts_step4", (40, 10, 10), shift=0.1),
        _record(make_record, "parts_exp20", (40, 9, 2), shift=0.2),
    ]
    figure = draw_imbalance(records)
    high, low, _ = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["High", "Low", "Avg"]
    assert _lines(high) == {
        "M, exp": ([1, 20], [90, 70]),
        "M, step": ([1, 4], [90, 80]),
    }
    assert _lines(low)["M, step"][1] == pytest.approx([75, 65])
    assert _covers_no_data(figure)
    assert (
        "Realised imbalance, largest / smallest category in normal images: parts_exp20 20, parts_full 2, parts_step4 4."
    ) in _caption(figure)


FLAGS = {
    "imbalance": ["_reversed", "_noisy10", "_noisy10_softpatch", "_noisy10_disjoint", "_noisy05", "_official"],
    "noise": ["_reversed", "_softpatch", "_disjoint", "_softpatch_disjoint"],
}


@pytest.mark.parametrize("flag", FLAGS["imbalance"])
def test_runs_of_one_imbalance_do_not_overwrite_one_another(make_record: MakeRecord, flag: str) -> None:
    """Reversed runs, and those of another share or rule of contaminants, took each other's places on one line."""
    plain = [_record(make_record, f"parts_exp{beta}") for beta in (20, 50)]
    other = [_record(make_record, f"parts_exp{beta}{flag}", (2, 10, 80), shift=0.3) for beta in (20, 50)]
    for records in ([*plain, *other], [*other, *plain]):
        lines = _lines(draw_imbalance(records).axes[0])
        assert len(lines) == 2
        assert lines.pop("M, exp") == ([20, 50], [90, 90])
        assert list(lines.values()) == [([20, 50], [60, 60])]


def test_draws_datasets_and_protocols_have_lines_of_their_own(make_record: MakeRecord) -> None:
    plain = [_record(make_record, f"parts_k{shots}", (40, 40, shots)) for shots in (2, 4)]
    authors = [_record(make_record, f"parts_k{shots}_authors", (40, 40, shots), shift=0.1) for shots in (2, 4)]
    lists = [_record(make_record, f"parts_k{shots}_noisy10_official1", (40, 40, shots), shift=0.2) for shots in (2, 4)]
    names = {"M, k", "M, k, authors' draw", "M, k, 10 % contaminants, authors' lists"}
    assert set(_lines(draw_imbalance([*plain, *authors, *lists]).axes[0])) == names
    two = [*plain, *(_record(make_record, f"visa_k{shots}", (40, 40, shots), shift=0.3) for shots in (2, 4))]
    assert _lines(draw_imbalance(two).axes[0]) == {
        "M, k, parts": ([10, 20], [90, 90]),
        "M, k, VisA": ([10, 20], [60, 60]),
    }
    other = [_record(make_record, f"parts_k{k}", (40, 40, k), shift=0.4, protocol=PROTOCOLS["rlr"]) for k in (2, 4)]
    protocols = {"M, protocol common, k": ([10, 20], [90, 90]), "M, protocol rlr, k": ([10, 20], [50, 50])}
    assert _lines(draw_imbalance([*plain, *other]).axes[0]) == protocols


@pytest.mark.parametrize("flag", FLAGS["noise"])
def test_rules_of_contaminants_have_lines_of_their_own(make_record: MakeRecord, flag: str) -> None:
    order = flag == "_reversed"
    noisy = [f"parts_step4{flag}_noisy{p}" if order else f"parts_step4_noisy{p}{flag}" for p in (10, 20)]
    records = [_record(make_record, split) for split in ("parts_step4", "parts_step4_noisy10", "parts_step4_noisy20")]
    lines = _lines(draw_noise([*records, *(_record(make_record, split, shift=0.3) for split in noisy)]).axes[0])
    assert lines.pop("M, step4") == ([0, 10, 20], [90, 90, 90])
    expected = ([10, 20], [60, 60]) if order else ([0, 10, 20], [90, 60, 60])
    assert list(lines.values()) == [expected], "the split without contaminants belongs to each rule"


def test_two_values_at_one_place_are_refused(make_record: MakeRecord) -> None:
    records = [_record(make_record, split) for split in ("parts_full", "parts_exp1", "parts_exp20")]
    with pytest.raises(
        SpecError, match=r"one value at 1 of the line 'M, exp' on parts, got those of parts_exp1 and parts_full"
    ):
        draw_imbalance(records)
    printed = published_numbers().of("tailedcore")
    with pytest.raises(SpecError, match="tailedcore-1 and tailedcore-logs"):
        draw_noise([_record(make_record)], published=printed)
    twice = [_record(make_record), _record(make_record, split_sha256="1" * 64, seed=1)]
    with pytest.raises(SpecError, match="lists named parts_step4 whose images differ"):
        draw_categories(twice)


def test_a_trend_tells_what_it_leaves_out(make_record: MakeRecord) -> None:
    records = [_record(make_record, f"parts_exp{beta}") for beta in (20, 50)]
    records += [_record(make_record, "parts_exp50", seed=1, shift=0.4), _record(make_record, "parts_step4")]
    figure = draw_imbalance(records)
    assert _lines(figure.axes[0]) == {"M, exp": ([20, 50], [90, 90])}
    text = _caption(figure)
    assert "M, exp: without 1 run of seeds that not all points have" in text
    assert "Not drawn, of one point: M, step." in text


def test_figures_average_seeds_within_lists(make_record: MakeRecord) -> None:
    records = [
        _record(make_record, "parts_step4_seed1"),
        *(_record(make_record, "parts_step4_seed2", seed=seed, shift=0.2) for seed in range(3)),
    ]
    (own,) = series_of(records)
    assert own.mean("image_auroc", "high") == pytest.approx(80), "not 75, the mean of four runs"
    (axes,) = draw_categories(records).axes
    assert _lines(axes)["M"][1] == pytest.approx([80, 70, 60])
    assert own.weights == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_noise_compares_the_same_seeds(make_record: MakeRecord) -> None:
    records = [
        _record(make_record, "parts_k4_seed1"),
        replace(_record(make_record, "parts_k4_noisy10_seed1", shift=0.1), split_seed=0),
        replace(_record(make_record, "parts_k4_noisy10_seed2", shift=0.5), split_seed=2),
    ]
    high, _, _ = draw_noise(records).axes
    assert _lines(high) == {"M, k4": ([0, 10], [90, 80])}


def test_published_lines_are_hollow(make_record: MakeRecord) -> None:
    printed = published_numbers().of("tailedcore", "logs")
    figure = draw_noise([_record(make_record, "mvtec_k4"), _record(make_record, "mvtec_k4_noisy10")], published=printed)
    lines = _lines(figure.axes[2])
    assert lines["PatchCore, k4, published"][0] == [0, 5, 10, 40]
    assert not any("VisA" in name for name in lines), "of one point each; they stood among those of MVTec AD"
    assert lines["PatchCore, k4, published"][1] == [94.91, 89.24, 83.67, 62.17]
    table = published_numbers().of("ltad", "4")
    assert _lines(draw_imbalance([_record(make_record)], published=table).axes[2])["LTAD, exp, published"] == (
        [100, 200, 500],
        [80.00, 80.21, 78.53],
    )


def _learning(make: MakeRecord, points: dict[int, float], **more: Any) -> RunRecord:
    curve = [
        {"epoch": epoch, "metrics": {"image_auroc": {"high": value, "low": value / 2, "avg": value * 3 / 4}}}
        for epoch, value in points.items()
    ]
    return replace(_record(make, **more), notes={"learning_curve": curve})


def test_learning_curves_are_means_over_the_seeds_of_an_epoch(make_record: MakeRecord) -> None:
    figure = draw_learning(
        [
            _learning(make_record, {2: 0.5, 4: 0.8, 5: 0.9}, seed=0),
            _learning(make_record, {2: 0.7, 5: 1.0}, seed=1),
            _record(make_record, method="without"),
        ]
    )
    high, low, avg = map(_lines, figure.axes)
    assert high == {"M": ([2, 5], [60, 95])}
    assert low == {"M": ([2, 5], [30, 47.5])}
    assert avg == {"M": ([2, 5], [45, 71.25])}
    assert _covers_no_data(figure)


def test_a_learning_curve_of_another_metric(make_record: MakeRecord) -> None:
    record = _learning(make_record, {2: 0.5})
    with pytest.raises(SpecError, match="learning curves of pixel_auroc"):
        draw_learning([record], "pixel_auroc")
    with pytest.raises(SpecError, match="got none"):
        draw_learning([_record(make_record)])


def test_profiles_show_every_image() -> None:
    train = {"a": TrainImages(("a/1", "a/2", "a/3"), ("a/4",)), "b": TrainImages(("b/1",))}
    split = Split("x_step3", "x", {}, 0, ("a",), ("b",), train, {"a": ("a/9",), "b": ("b/9",)})
    figure = draw_profiles([split, split])
    heights = [patch.get_height() for patch in figure.axes[0].patches[:4]]  # type: ignore[attr-defined]
    assert heights == [3, 1, 1, 0]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a", "b"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["majority", "minority", "contaminants"]
    assert _covers_no_data(figure)


scored = st.lists(
    st.tuples(st.lists(st.integers(0, 8), min_size=1, max_size=8), st.lists(st.integers(0, 8), min_size=1, max_size=8)),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(scored)
def test_areas_of_mean_curves_are_the_mean_metrics(pairs: list[tuple[list[int], list[int]]]) -> None:
    arrays = [(np.array(good, float), np.array(bad, float)) for good, bad in pairs]
    labels = [np.r_[np.zeros(len(good)), np.ones(len(bad))] for good, bad in arrays]
    joined = [np.concatenate(pair) for pair in arrays]
    x, y = mean_roc(arrays)
    expected = np.mean([roc_auc_score(own, scores) for own, scores in zip(labels, joined, strict=True)])
    assert np.trapezoid(y, x) == pytest.approx(expected)
    assert np.all(np.diff(x) >= 0) and np.all(np.diff(y) >= -1e-12) and y[-1] == pytest.approx(1)
    recall, precision = mean_precision_recall(arrays)
    expected = np.mean([average_precision_score(own, scores) for own, scores in zip(labels, joined, strict=True)])
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(expected)


def test_curves_tell_their_areas(make_record: MakeRecord) -> None:
    figure = draw_curves([_record(make_record), _record(make_record, method="b", seed=3)])
    assert len(figure.legends[0].get_texts()) == 2
    assert (
        "AUROC" in figure.legends[0].get_texts()[0].get_text() and "AP" in figure.legends[0].get_texts()[0].get_text()
    )
    assert _covers_no_data(figure)
    with pytest.raises(SpecError, match="good and anomalous"):
        draw_curves([replace(_record(make_record), scores={})])


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_the_same_figure_is_the_same_bytes(suffix: str, make_record: MakeRecord, tmp_path: Path) -> None:
    records = [_record(make_record, method="evil", info=HOSTILE), _record(make_record)]
    first, second = (as_bytes(draw_categories(records), suffix) for _ in range(2))
    assert first == second
    save(draw_categories(records), tmp_path / "new" / f"x{suffix}")
    assert (tmp_path / "new" / f"x{suffix}").read_bytes() == first
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"x{suffix}"]


def test_user_settings_change_nothing(make_record: MakeRecord) -> None:
    import matplotlib

    plain = as_bytes(draw_categories([_record(make_record)]), ".png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": False}):
        assert as_bytes(draw_categories([_record(make_record)]), ".png") == plain


def test_lines_stay_distinct() -> None:
    look = looks([f"m{number}" for number in range(30)])
    assert len({(own.color, str(own.linestyle)) for own in look.values()}) == 30
    assert len(set(COLOURS)) == len(COLOURS)


def test_a_figure_grows_with_its_legend(make_record: MakeRecord) -> None:
    few, many = (draw_curves([_record(make_record, method=f"m{k}") for k in range(count)]) for count in (3, 40))
    long = draw_curves([_record(make_record, method=f"m{k} " + "a long name " * 12) for k in range(3)])
    for figure in (few, many, long):
        assert _covers_no_data(figure)
        (legend,) = figure.legends
        extent = legend.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.x1, "no label is cut off"
        assert figure.axes[0].get_window_extent().height > 150
    assert many.get_figheight() > few.get_figheight()


def test_stacked_panels_stand_below_one_another_and_are_the_same_lines(make_record: MakeRecord) -> None:
    records = [_record(make_record, f"parts_{profile}") for profile in ("full", "step4")]
    for draw in (draw_imbalance, draw_curves):
        figure = draw(records)
        with stacked_panels():
            stacked = draw(records)
        assert len(figure.axes) == len(stacked.axes) > 1
        for flat, tall in zip(figure.axes, stacked.axes, strict=True):
            lines = [[own.get_xydata() for own in axes.get_lines()] for axes in (flat, tall)]
            assert all(np.array_equal(*both) for both in zip(*lines, strict=True))
        tops = [axes.get_position().y1 for axes in stacked.axes]
        assert tops == sorted(tops, reverse=True) and len({axes.get_position().x0 for axes in stacked.axes}) == 1
        assert stacked.get_figwidth() < figure.get_figwidth()
        assert all(axes.get_ylabel() for axes in stacked.axes)
        drawn = as_bytes(stacked, ".svg")  # which lays it out
        assert drawn and all(axes.xaxis.label.get_window_extent().x0 >= 0 for axes in stacked.axes)
        width = stacked.get_figwidth() * stacked.dpi
        assert all(axes.xaxis.label.get_window_extent().x1 <= width for axes in stacked.axes)
    assert draw_imbalance(records).get_figwidth() > 9, "only within the block"


def test_series_are_named_by_what_differs(make_record: MakeRecord) -> None:
    one = [_record(make_record), _record(make_record, method="b")]
    assert names_of(series_of(one)) == ["B", "M"]
    assert names_of(series_of([_record(make_record), _record(make_record, split="parts_full")])) == [
        "parts_full",
        "parts_step4",
    ]


def test_what_cannot_be_drawn_is_refused(make_record: MakeRecord, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="two or more points"):
        draw_noise([_record(make_record)])
    with pytest.raises(SpecError, match="ltbench run"):
        draw_categories([])
    with pytest.raises(UnknownNameError, match="image_auroc"):
        draw_categories([_record(make_record)], "image_aurok")
    with pytest.raises(SpecError, match="by category"):
        draw_categories([_record(make_record)], "pixel_ap")
    with pytest.raises(SpecError, match=r"\.pdf"):
        save(draw_categories([_record(make_record)]), tmp_path / "x.bmp")
    with pytest.raises(SpecError, match="--split"):
        draw_profiles([])
