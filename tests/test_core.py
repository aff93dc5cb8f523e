"""The nouns refuse what they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ltbench.core import Dataset, Prediction, Protocol, RunSpec, Sample, Split, TrainImages, canonical_json
from ltbench.errors import ContractError, DataError, SpecError, UnknownNameError
from ltbench.protocols import PROTOCOLS, protocol_named

SPLIT = Split(
    "d_full",
    "d",
    {"profile": "full"},
    0,
    ("a",),
    ("b",),
    {"a": TrainImages(("a/train/good/0.png",)), "b": TrainImages(("b/train/good/0.png",), ("b/test/x/0.png",))},
    {"a": ("a/test/good/0.png",), "b": ("b/test/x/0.png",)},
)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.png", "a/../../x.png", "a\\b.png", "C:/x.png", ""])
def test_paths_stay_below_the_root(path: str) -> None:
    with pytest.raises(DataError, match="relative"):
        Sample(path, "a")


def test_a_defect_type_makes_a_sample_anomalous() -> None:
    assert not Sample("a/test/good/0.png", "a").is_anomalous
    assert Sample("a/test/crack/0.png", "a", "crack").is_anomalous


@pytest.mark.parametrize("name", ["high", "low", "avg"])
def test_a_category_called_like_a_group_is_refused_when_the_split_is_made(name: str) -> None:
    images, tested = {name: TrainImages(("x/train/good/0.png",))}, {name: ("x/test/good/0.png",)}
    with pytest.raises(DataError, match=f"'{name}' in d. Rename its folder"):
        replace(SPLIT, train=images, test=tested, high=(name,), low=())


def test_a_dataset_lists_each_image_once() -> None:
    good = Sample("a/train/good/0.png", "a")
    with pytest.raises(DataError, match="once"):
        Dataset("d", ("a",), (good, good), ())
    with pytest.raises(DataError, match="defective"):
        Dataset("d", ("a",), (Sample("a/train/x/0.png", "a", "x"),), ())
    with pytest.raises(DataError, match="List them"):
        Dataset("d", ("b",), (good,), ())
    with pytest.raises(DataError, match="--data-root"):
        Dataset("d", ("a",), (good,), ()).file(good.path)


def test_the_identity_of_a_split_is_its_content() -> None:
    assert replace(SPLIT).sha256 == SPLIT.sha256
    assert replace(SPLIT, seed=1).sha256 != SPLIT.sha256
    assert SPLIT.counts == {"a": {"normal": 1, "contaminant": 0}, "b": {"normal": 1, "contaminant": 1}}
    assert SPLIT.categories == ("a", "b")


def test_a_split_is_whole() -> None:
    with pytest.raises(DataError, match="none"):
        replace(SPLIT, train={**SPLIT.train, "a": TrainImages(())})
    with pytest.raises(DataError, match="twice"):
        replace(SPLIT, train={**SPLIT.train, "a": TrainImages(("x.png", "x.png"))})
    with pytest.raises(DataError, match="high or low"):
        replace(SPLIT, low=("a",))
    with pytest.raises(DataError, match="same categories"):
        replace(SPLIT, test={"a": ()})


@pytest.mark.parametrize(
    ("scores", "maps", "what"),
    [
        (np.zeros(2), np.zeros((2, 4, 4), np.float32), "float32 scores"),
        (np.zeros(2, np.float32), np.zeros((2, 4, 4)), "float32 maps"),
        (np.zeros(2, np.float32), np.zeros((2, 16), np.float32), "3-dimensional"),
        (np.zeros(3, np.float32), np.zeros((2, 4, 4), np.float32), "as many"),
        (np.full(2, np.nan, np.float32), np.zeros((2, 4, 4), np.float32), "finite scores"),
        (np.zeros(2, np.float32), np.full((2, 4, 4), np.inf, np.float32), "finite maps"),
    ],
)
def test_a_prediction_is_finite_float32(scores: np.ndarray, maps: np.ndarray, what: str) -> None:
    with pytest.raises(ContractError, match=what):
        Prediction(scores, maps)


def test_a_prediction_fits_its_images() -> None:
    prediction = Prediction(np.zeros(2, np.float32), np.zeros((2, 4, 6), np.float32))
    prediction.check(2, (4, 6))
    with pytest.raises(ContractError, match=r"\(2, 6, 4\)"):
        prediction.check(2, (6, 4))


def test_the_hash_of_a_run_depends_on_all_that_changes_its_numbers() -> None:
    spec = RunSpec("m", {"a": 1, "b": [2, 3]}, "s", "0" * 64, PROTOCOLS["common"], 0)
    same = RunSpec("m", {"b": [2, 3], "a": 1}, "s", "0" * 64, PROTOCOLS["common"], 0)
    assert same.hash == spec.hash
    others = [
        replace(spec, method="n"),
        replace(spec, parameters={"a": 2, "b": [2, 3]}),
        replace(spec, split_sha256="1" * 64),
        replace(spec, protocol=PROTOCOLS["ltad"]),
        replace(spec, seed=1),
    ]
    assert len({spec.hash, *(other.hash for other in others)}) == 6


def test_canonical_json_is_one_text() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "ä"]}) == '{"a":[1.5,"\\u00e4"],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_protocols() -> None:
    assert PROTOCOLS["common"].size == (256, 256)
    assert PROTOCOLS["ltad"].size == (224, 224)
    assert PROTOCOLS["tailedcore"].size == (224, 224)
    assert PROTOCOLS["tailedcore"].mask_rule == "full"
    assert PROTOCOLS["rlr"].image_score == "smoothed_map_max"
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    with pytest.raises(UnknownNameError, match="Did you mean 'tailedcore'"):
        protocol_named("tailcore")
    with pytest.raises(SpecError, match="crop"):
        Protocol("x", resize=100, crop=200)
    with pytest.raises(SpecError, match="aspect"):
        Protocol("x", resize=100, resize_mode="short_side")
