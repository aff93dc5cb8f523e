"""The same command runs on every dataset's layout: from the tree to a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ltbench.datasets import dagm, visa
from ltbench.datasets.index import load_listing
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name
from tests.datasets.conftest import save_image, save_mask


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path / "results")


@pytest.mark.parametrize("layout", ["release", "converted"])
def test_visa(tmp_path: Path, visa_release: Path, convert: Callable[..., None], harness: Harness, layout: str) -> None:
    root = visa_release
    if layout == "converted":
        root = tmp_path / "converted" / "visa"
        convert(root)
        (root / "split_csv").mkdir()
        (root / "split_csv" / "1cls.csv").write_bytes((visa_release / "split_csv" / "1cls.csv").read_bytes())
    record = run_by_name("mean_image", "visa_step2", root, harness, protocol="ltad").record
    assert set(record.counts) == set(visa.CATEGORIES)
    assert set(record.metrics["pixel_auroc"]) == {*visa.CATEGORIES, "high", "low", "avg"}
    assert record.scores["candle"][0]["path"].startswith("candle/Data/Images/"), "one identity in both layouts"


@pytest.mark.parametrize("is_nested", [False, True])
def test_dagm(tmp_path: Path, dagm_maker: Callable[..., None], harness: Harness, is_nested: bool) -> None:
    dagm_maker(tmp_path / "dagm", is_nested=is_nested)
    record = run_by_name("mean_image", "dagm_step2_reversed_noisy50", tmp_path, harness).record
    assert record.high == tuple(reversed(dagm.CATEGORIES))[:5]
    assert record.counts["Class10"] == {"normal": 2, "contaminant": 1}
    assert record.counts["Class1"] == {"normal": 1, "contaminant": 0}
    assert record.metrics["pixel_aupro_30"]["avg"] <= 1


def test_ltad_on_dagm_in_reverse_order(tmp_path: Path, dagm_maker: Callable[..., None], harness: Harness) -> None:
    """LTAD's Figure 8, with the smallest networks."""
    dagm_maker(tmp_path / "dagm")
    found = [
        run_by_name("ltad", f"dagm_step2{order}", tmp_path, harness, preset="check").record
        for order in ("", "_reversed")
    ]
    assert [record.high for record in found] == [dagm.CATEGORIES[:5], tuple(reversed(dagm.CATEGORIES))[:5]]
    for record in found:
        assert record.method.uses_categories
        assert set(record.metrics["image_auroc"]) == {*dagm.CATEGORIES, "high", "low", "avg"}


@pytest.mark.slow
def test_mvtec_whole(tmp_path: Path, harness: Harness) -> None:
    """All 5,354 names of MVTec AD with tiny images: the committed split fits the tree, image by image."""
    root = tmp_path / "mvtec"
    dataset = load_listing("mvtec", None)
    for sample in dataset.by_path.values():
        save_image(root / sample.path, 90 if sample.is_anomalous else 120)
        if sample.mask:
            save_mask(root / sample.mask)
    record = run_by_name("mean_image", "mvtec_step100_noisy10", tmp_path, harness, protocol="ltad").record
    assert sum(count["normal"] for count in record.counts.values()) == 1723
    assert {len(scores) for scores in record.scores.values()} == {len(dataset.test_of(c)) for c in dataset.categories}
    assert len(record.high) == 7
