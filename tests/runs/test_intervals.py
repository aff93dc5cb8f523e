"""Intervals of a run's metrics: of categories and of means over them, the same each time, and what has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltbench.metrics.intervals import delong_variance, normal_interval
from ltbench.metrics.ranking import ranking_metrics
from ltbench.records.record import RunRecord, write_record
from ltbench.runs.intervals import image_intervals
from tests.conftest import Run

MakeRecord = Callable[..., RunRecord]


def _scored(make_record: MakeRecord, *, categories: tuple[str, ...] = ("bolt", "nut")) -> RunRecord:
    rng = np.random.default_rng(1)
    scores: dict[str, list[dict[str, Any]]] = {}
    metrics: dict[str, dict[str, float]] = {"image_auroc": {}, "image_ap": {}, "image_f1_max": {}, "pixel_auroc": {}}
    for name in categories:
        labels = np.repeat([False, True], [20, 15])
        values = rng.normal(labels * 1.0)
        kinds = ["cut" if label else "good" for label in labels]
        scores[name] = [
            {"path": f"{name}/{kind}{k}.png", "defect_type": kind, "score": float(value)}
            for k, (kind, value) in enumerate(zip(kinds, values, strict=True))
        ]
        found = ranking_metrics(values, labels)
        for metric, value in zip(list(metrics)[:3], found, strict=True):
            metrics[metric][name] = value
        metrics["pixel_auroc"][name] = 0.9
    for own in metrics.values():
        own |= {"high": own["bolt"], "low": own[categories[-1]], "avg": sum(own.values()) / len(own)}
    return replace(
        make_record(split="parts_step4"),
        high=("bolt",),
        low=categories[1:],
        counts={name: {"normal": 3, "contaminant": 0} for name in categories},
        metrics=metrics,
        scores=scores,
    )


def test_every_image_metric_has_an_interval_in_every_group(make_record: MakeRecord) -> None:
    record = _scored(make_record)
    found = image_intervals(record)
    assert set(found) == {"image_auroc", "image_ap", "image_f1_max"}, "a record keeps no pixels"
    for metric, groups in found.items():
        assert set(groups) == {"bolt", "nut", "high", "low", "avg"}
        for group, own in groups.items():
            assert own.value == record.metrics[metric][group]
            assert own.bootstrap.low < own.value < own.bootstrap.high
            assert (own.delong is not None) == (metric == "image_auroc")
    assert found == image_intervals(record), "the same record gives the same numbers"
    assert found["image_auroc"]["high"] == found["image_auroc"]["bolt"]


def test_a_mean_over_categories_is_more_certain_than_one(make_record: MakeRecord) -> None:
    """Categories are drawn independently: the variance of a mean is the sum of theirs over the square of the count."""
    record = _scored(make_record)
    found = image_intervals(record)["image_auroc"]
    variances = [
        delong_variance([e["score"] for e in own], [e["defect_type"] != "good" for e in own])
        for own in record.scores.values()
    ]
    assert found["avg"].delong == pytest.approx(normal_interval(found["avg"].value, sum(variances) / 4))
    width = {name: own.bootstrap.high - own.bootstrap.low for name, own in found.items()}
    assert width["avg"] < min(width["bolt"], width["nut"])


def test_a_category_draws_alike_whatever_the_others_are(make_record: MakeRecord) -> None:
    record = _scored(make_record)
    alone = replace(record, scores={"nut": record.scores["nut"]}, high=(), low=("nut",))
    assert image_intervals(alone)["image_auroc"]["nut"] == image_intervals(record)["image_auroc"]["nut"]


def test_runs_show_prints_intervals(make_record: MakeRecord, ltbench: Run, tmp_path: Path) -> None:
    record = _scored(make_record)
    folder = tmp_path / "results" / "runs" / record.spec.hash
    folder.mkdir(parents=True)
    write_record(folder, record)
    code, out, err = ltbench("runs", "show", record.spec.hash, "--interval")
    assert code == 0, err
    assert "95 %" in out and "DeLong" in out and "not of pixels" in out
    code, out, err = ltbench("runs", "show", record.spec.hash, "--interval", "--json")
    told = json.loads(out)["intervals"]["image_auroc"]["avg"]
    expected = image_intervals(record)["image_auroc"]["avg"]
    assert told == {"value": expected.value, "bootstrap": [*expected.bootstrap], "delong": [*(expected.delong or ())]}
    code, out, err = ltbench("runs", "show", record.spec.hash, "--json")
    assert "intervals" not in json.loads(out)
