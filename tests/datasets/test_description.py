from __future__ import annotations

from pathlib import Path

import pytest

from ltbench.datasets.description import described, read_description, shipped
from ltbench.datasets.index import SOURCES
from ltbench.errors import DataError, LtbenchError

PLAIN = 'train: "{category}/train/{stem}"\ntest: "{category}/test/{defect}/{stem}"\n'


def test_words_and_patterns_may_be_one_or_many() -> None:
    found = described(PLAIN + "good: ok\n", "here")
    assert (found.good, [p.text for p in found.train]) == (("ok",), ["{category}/train/{stem}"])
    assert found == described(PLAIN.replace("good: ok", "good: [ok]") + "good: [ok]\n", "here")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (PLAIN + "mask: x\n", "Did you mean 'masks'"),
        (PLAIN + "good: a\ngood: b\n", "'good' is given twice"),
        (PLAIN.splitlines()[0], "needs `train` and `test`"),
        (PLAIN + "listed: {file: a.csv}", "not both"),
        ('train: "{category}/train/{stem}"\ntest: "{category}/test/{stem}"', r"needs \{defect\}"),
        ('images: "{defect}/*"', r"needs \{stem\}"),
        (PLAIN + 'masks: "{category}/test/{defect}/{stem}"', "cannot stand for images and masks"),
        (PLAIN + 'masks: "{part}/{stem}"', "that the images' patterns lack"),
        (PLAIN + "is_good_by_mask: true", "needs `masks`"),
        (PLAIN + "ignored: ../x", "In here: .*'..'"),
        ("listed: {file: ../a.csv}", "'..'"),
        ("listed: {file: a.csv, below: /x}", "relative .*'/x'"),
        ("listed: {file: a.csv, published: {b: {file: [b.csv, ../b.csv], noise_percent: 1}}}", "'../b.csv'"),
        ("listed: {file: a.csv}\nbases: [images, ../out]", "'../out'"),
        ("listed: {file: a.csv}\nbases: /abs", "relative .*'/abs'"),
        (PLAIN + "categories: [bolt, ../nut]", "'../nut'"),
        (PLAIN + "folders: /abs", "relative .*'/abs'"),
        (PLAIN + "aliases: ../a", "'../a'"),
        (PLAIN + "hold_out: 1", "hold_out: .*less than 1"),
        (PLAIN + "counts: {a: {train: 1}}", "categories"),
        ("- a\n- b\n", "keys and values"),
        ("a: [", "YAML"),
        ("a: !!python/object/apply:os.system [ls]", "YAML"),
    ],
)
def test_a_description_that_cannot_be_says_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(LtbenchError, match=told):
        described(text, "here")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml"):
        read_description(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bytes\.yaml"):
        read_description(tmp_path / "bytes.yaml")


def test_one_that_is_like_another_has_what_it_does_not_say() -> None:
    one, all_views = shipped("realiad_sv"), shipped("realiad")
    assert (one.categories, one.licence) == (all_views.categories, all_views.licence)
    assert (one.name, one.title) == ("realiad_sv", "Real-IAD, single view")


def test_counts_fit_their_totals() -> None:
    for name in SOURCES:
        if name in ("visa", "dagm", "shapes"):
            continue
        found = shipped(name)
        assert bool(found.counts or found.totals) == bool(found.counted)
        assert found.totals.get("train", 0) + found.totals.get("test", 0) in (0, found.totals.get("images", 0)) or (
            name == "btad"  # whose training images are not said
        )
