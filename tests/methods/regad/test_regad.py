"""RegAD as a method: supports, privileges, what is refused, independence of threads, going on after an interruption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Dataset, Prediction, Sample
from ltbench.datasets import dagm
from ltbench.datasets.arrays import ArrayImages
from ltbench.datasets.index import load_listing
from ltbench.errors import ContractError, NotApplicableError, SpecError
from ltbench.method import NoProgress, Runtime
from ltbench.runs.planning import check_applicable, plan, why_not_applicable
from ltbench.splits.files import find_split
from ltbench.tables.published import published_numbers
from methods.regad.method import RegAD

T = TypeVar("T")
CHECK: dict[str, Any] = resolve(RegAD, presets(RegAD)["check"].parameters) | {"weights": "random"}
NAMES = ["a", "b", "a", "b", "b"]


def _images(names: list[str], seed: int, side: int = 64) -> ArrayImages:
    rng = np.random.RandomState(seed)
    return ArrayImages(rng.randint(90, 160, (len(names), side, side, 3)).astype(np.uint8), names)


def _predict(threads: int, **values: Any) -> Prediction:
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return RegAD(**(CHECK | values)).fit(_images(NAMES, 0), Runtime(seed=3)).predict(_images(["a", "b"], 1))
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("training", ["unified", "leave_one_out"])
def test_threads_do_not_change_a_bit(training: str) -> None:
    one, two, three = (_predict(threads, training=training) for threads in (1, 2, 3))
    assert np.array_equal(one.maps, two.maps) and np.array_equal(one.maps, three.maps)
    assert np.array_equal(one.scores, one.maps.max(axis=(1, 2))), "an image scores by the maximum of its map"


class _Stops(NoProgress):
    """Stops after some steps, as a lost machine does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def track(self, items: Iterable[T], phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
        for item in items:
            if self.steps == 0:
                raise KeyboardInterrupt
            self.steps -= 1
            yield item


@pytest.mark.parametrize("steps", [1, 3])
def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path, steps: int) -> None:
    """Two networks of two steps each: it stops inside the first and inside the second."""
    values = CHECK | {"training": "leave_one_out", "epochs": 2, "freeze_backbone": False}
    train, test = _images(NAMES, 0), _images(["a", "b"], 1)
    whole = RegAD(**values).fit(train, Runtime(seed=3)).predict(test)
    runtime = Runtime(seed=3, checkpoints=tmp_path, checkpoint_minutes=0)
    with pytest.raises(KeyboardInterrupt):
        RegAD(**values).fit(train, replace(runtime, progress=_Stops(steps)))
    assert np.array_equal(RegAD(**values).fit(train, runtime).predict(test).maps, whole.maps)


def test_a_category_with_one_image_is_named_before_training() -> None:
    with pytest.raises(SpecError, match=r"at least 2 training images a category.*b \(1\)"):
        RegAD(**CHECK).fit(_images(["a", "b", "a"], 0), Runtime(progress=_Stops(0)))


def test_a_split_with_one_image_of_a_category_is_refused_before_anything_is_read() -> None:
    split = find_split("mvtec_step200", lambda name: load_listing(name, None))
    with pytest.raises(NotApplicableError, match=r"RegAD needs at least 2 training images a category; .* has 1 of "):
        check_applicable(plan("regad", split), split)


def test_not_applicable_where_the_paper_prints_no_value() -> None:
    """LTAD's tables 3 to 5: N/A stands exactly on the splits with a category of one image.

    DAGM has none: its tail ends at 1000 / 500 = 2 images. Its files are counted as they are published.
    """
    cells = [
        cell for cell in published_numbers().of("ltad") if cell.method == "RegAD" and cell.table in ("3", "4", "5")
    ]
    printed = {cell.split: cell.value is not None for cell in cells}
    assert len(printed) == 16 and sum(not known for known in printed.values()) == 4
    smallest = {}
    for name, known in printed.items():
        split = find_split(name, lambda own: _dagm() if own == "dagm" else load_listing(own, None))
        smallest[name] = min(sum(count.values()) for count in split.counts.values())
        assert (why_not_applicable(RegAD.info, split) is None) == known, name
    assert smallest["dagm_exp500"] == smallest["dagm_step500"] == 2


def _dagm() -> Dataset:
    """Return DAGM by its published counts: the organisers' list of files is part of its images."""
    samples = [
        [
            Sample(f"{category}/{part}/{number:04}.PNG", category, "good" if number >= count[part] else "defect")
            for category, count in dagm.DEFECTIVE_COUNTS.items()
            for number in range(dagm.IMAGE_COUNTS[category])
            if part == "Test" or number >= count[part]
        ]
        for part in dagm.PARTS
    ]
    return Dataset("dagm", dagm.CATEGORIES, tuple(samples[0]), tuple(samples[1]))


def test_one_support_is_enough_and_there_are_never_more_than_images() -> None:
    """K is at most the number of a category's images; distances of one support's 22 versions are finite."""
    for supports, expected in ((1, {"a": 1, "b": 1}), (8, {"a": 2, "b": 3})):
        method = RegAD(**(CHECK | {"supports": supports})).fit(_images(NAMES, 0), Runtime(seed=1))
        assert {name: len(own) for name, own in method.supports_.items()} == expected
        found = method.predict(_images(["a", "b"], 1))
        assert np.isfinite(found.maps).all() and (found.maps > 0).all()


def test_supports_are_of_their_category_follow_the_seed_and_are_noted() -> None:
    train, drawn = _images(NAMES * 4, 0), []
    for seed in (0, 1, 2, 0):
        runtime = Runtime(seed=seed)
        method = RegAD(**(CHECK | {"supports": 2, "epochs": 0})).fit(train, runtime)
        noted = runtime.notes["supports"]
        for name, own in noted.items():
            assert len(set(own)) == 2 and {train.categories[index] for index in own} == {name}
            assert all(
                np.array_equal(train[index], image) for index, image in zip(own, method.supports_[name], strict=True)
            )
        drawn.append(str(noted))
    assert drawn[0] == drawn[3] and len(set(drawn)) == 3


def test_the_target_category_is_left_out_of_its_network() -> None:
    """Its images may change as they like, the supports excepted: the network stays the same."""
    values = CHECK | {"training": "leave_one_out", "freeze_backbone": False}
    names = ["a", "b", "c"] * 3
    first, second = _images(names, 0), _images(names, 0)
    second.images[[place for place, name in enumerate(names) if name == "a"]] //= 2
    one, other = (RegAD(**values).fit(images, Runtime(seed=3)).networks_ for images in (first, second))
    same = {
        name: all(map(torch.equal, network.state_dict().values(), other[name].state_dict().values()))
        for name, network in one.items()
    }
    assert same == {"a": True, "b": False, "c": False}


def test_a_frozen_trunk_stays_and_untrained_transformers_change_nothing() -> None:
    trained = RegAD(**CHECK).fit(_images(NAMES, 0), Runtime(seed=3)).networks_[""]
    untouched = RegAD(**(CHECK | {"epochs": 0})).fit(_images(NAMES, 0), Runtime(seed=3)).networks_[""]
    before, after = untouched.stages.state_dict(), trained.stages.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    name = "transformers.0.fc.2.bias"
    assert not torch.equal(untouched.state_dict()[name], trained.state_dict()[name])
    shown = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x = shown
    with torch.no_grad():
        maps, _ = untouched.eval().registered(shown)
        for stage, level in zip(untouched.stages, maps, strict=True):
            x = stage(x)
            assert torch.allclose(x, level, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": "leave_one_out", "names": ["a", "a"]}, "other categories than a"),
        ({"rate": "epoch_cosine", "epochs": 1}, "at least 2 epochs under rate=epoch_cosine"),
        ({"side": 72}, "multiples of 16"),
        ({"backbone": "vgg11"}, "a ResNet or an EfficientNet"),
    ],
)
def test_what_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    names, side = values.pop("names", NAMES), values.pop("side", 64)
    with pytest.raises(SpecError, match=message):
        RegAD(**(CHECK | values)).fit(_images(names, 0, side), Runtime())


def test_privileges() -> None:
    method = RegAD(**CHECK).fit(_images(NAMES, 0), Runtime())
    with pytest.raises(SpecError, match="got 'c'"):
        method.predict(_images(["c"], 1))
    with pytest.raises(SpecError, match="as in training"):
        method.predict(_images(["a"], 1, 96))
    untold = ArrayImages(_images(["a"], 1).images, None)
    with pytest.raises(ContractError):
        method.predict(untold)


def test_it_is_saved_with_every_network(tmp_path: Path) -> None:
    values = CHECK | {"training": "leave_one_out"}
    method = RegAD(**values).fit(_images(NAMES, 0), Runtime())
    method.save(tmp_path)
    test = _images(["a", "b"], 1)
    assert np.array_equal(RegAD.load(tmp_path).predict(test).maps, method.predict(test).maps)


def test_presets_and_parameters() -> None:
    for split in ("mvtec_step100", "visa_exp200", "dagm_exp50"):
        preset = choose_preset(RegAD, None, split)
        assert (preset.name, preset.protocol) == ("paper", "ltad")
    assert resolve(RegAD, presets(RegAD)["paper"].parameters) == resolve(RegAD)
    assert RegAD().trainable_parameters((224, 224)) == 7_687_209 - 512
