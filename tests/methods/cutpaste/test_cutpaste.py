"""CutPaste as a method: batches, privileges, presets, independence of threads, and going on after an interruption."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.learner import Shard
from ltbench.blocks.training.rates import LaggedCosine
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import SpecError
from ltbench.method import Method, NoProgress, Runtime
from methods.cutpaste.method import CutPaste, Variant

T = TypeVar("T")
CHECK: dict[str, Any] = resolve(CutPaste, presets(CutPaste)["check"].parameters) | {"weights": "random", "updates": 3}


def _images(count: int, seed: int, categories: list[str] | None = None) -> ArrayImages:
    rng = np.random.RandomState(seed)
    return ArrayImages(rng.randint(90, 160, (count, 64, 64, 3)).astype(np.uint8), categories)


def _predict(threads: int, **values: Any) -> Prediction:
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return CutPaste(**(CHECK | values)).fit(_images(5, 0), Runtime(seed=3)).predict(_images(3, 1))
    finally:
        torch.set_num_threads(usual)


def test_threads_do_not_change_a_bit() -> None:
    one, two, three = (_predict(threads) for threads in (1, 2, 3))
    assert np.array_equal(one.scores, two.scores) and np.array_equal(one.scores, three.scores)
    assert not one.has_maps


class _Stops(NoProgress):
    """Stops after some steps, as a lost machine does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def track(self, items: Iterable[T], phase: str, total: int | None = None, done: int = 0) -> Iterator[T]:
        for number, item in enumerate(items):
            if number == self.steps:
                raise KeyboardInterrupt
            yield item


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Running means of the batch norms and the momentum come from the checkpoint, inside the frozen steps and after."""
    train, test = _images(5, 0), _images(3, 1)
    values = CHECK | {"updates": 6, "weights": "random"}
    whole = CutPaste(**values).fit(train, Runtime(seed=3)).predict(test)
    for steps in (1, 3):
        runtime = Runtime(seed=3, checkpoints=tmp_path / str(steps), checkpoint_minutes=0)
        with pytest.raises(KeyboardInterrupt):
            CutPaste(**values).fit(train, replace(runtime, progress=_Stops(steps)))
        method = CutPaste(**values).fit(train, runtime)
        assert np.array_equal(method.predict(test).scores, whole.scores)


@pytest.mark.parametrize(("variant", "classes"), [("3way", 3), ("cutpaste", 2), ("scar", 2), ("union", 2)])
def test_a_batch_has_every_image_in_each_class(variant: Variant, classes: int) -> None:
    method = CutPaste(**(CHECK | {"variant": variant, "jitter": 0.0}))
    images = [np.random.RandomState(k).randint(0, 256, (64, 64, 3)).astype(np.uint8) for k in range(4)]
    samples = [method.altered(image, Draws(k)) for k, image in enumerate(images)]
    assert [len(own) for own in samples] == [classes] * 4
    assert all(np.array_equal(own[0], image) for own, image in zip(samples, images, strict=True))
    changed = [[int((own[0] != other).any(axis=2).sum()) for other in own[1:]] for own in samples]
    assert all(0 < count < 0.2 * 64 * 64 for own in changed for count in own)
    seen: list[tuple[int, list[int]]] = []
    method.fit(_images(4, 0), Runtime())

    def spy(given: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append((len(given), labels.tolist()))
        return given.sum()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "cross_entropy", spy)
        method._loss(images, Shard(np.array([0, 1, 6]), Draws(0), Draws(1)))
    labels = [label for label in range(classes) for _ in range(3)]
    assert seen == [(3 * classes, labels)], "index 6 of a repeated list of 4 images is image 2"


@pytest.mark.parametrize(("variant", "classes"), [("3way", 3), ("scar", 2)])
def test_chance(variant: Variant, classes: int) -> None:
    method = CutPaste(**(CHECK | {"variant": variant})).fit(_images(4, 0), Runtime())
    with torch.no_grad():
        method.network_.out.weight.zero_(), method.network_.out.bias.zero_()
    images = [_images(1, k)[0] for k in range(3)]
    loss = method._loss(images, Shard(np.arange(3), Draws(0), Draws(1)))
    assert loss.item() == pytest.approx(math.log(classes), abs=1e-6)


def test_a_union_takes_both_kinds() -> None:
    method = CutPaste(variant="union", jitter=0.0)
    image = _images(1, 0, None)[0]
    large = [int((method.altered(image, Draws(seed))[1] != image).any(axis=2).sum()) > 75 for seed in range(60)]
    assert 15 < sum(large) < 45, "patches cover at least 2 % of the image, scars at this side at most 26 pixels"


def test_a_pretrained_trunk_stays_at_first() -> None:
    """Its weights do; the running means of its batch norms follow the images from the first step on."""
    values = CHECK | {"weights": "pretrained", "frozen_updates": 2}
    states = []
    for updates in (1, 2, 3):
        network = CutPaste(**(values | {"updates": updates})).fit(_images(4, 0), Runtime()).network_
        states.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
    first, second, third = states
    weights = [name for name, _ in network.trunk.named_parameters(prefix="trunk")]
    assert all(torch.equal(first[name], second[name]) for name in weights)
    assert not all(torch.equal(second[name], third[name]) for name in weights)
    assert not torch.equal(first["out.weight"], second["out.weight"])
    assert not torch.equal(first["trunk.bn1.running_mean"], second["trunk.bn1.running_mean"])


def test_learning_rates() -> None:
    assert LaggedCosine().factor(0, 5, 10) == LaggedCosine().factor(1, 5, 10) == 1
    assert LaggedCosine().factor(6, 5, 10) == pytest.approx(0.5)


def test_categories_are_asked_for_by_one_density_alone(tmp_path: Path) -> None:
    assert not CutPaste().run_info.uses_categories
    assert CutPaste(density="per_category").run_info.uses_categories
    names = ["a", "b", "a", "b", "b"]
    values = CHECK | {"density": "per_category"}
    method = CutPaste(**values).fit(_images(5, 0, names), Runtime(seed=3))
    asked = method.predict(_images(2, 1, ["a", "b"])).scores
    assert (asked != method.predict(_images(2, 1, ["b", "a"])).scores).all()
    with pytest.raises(SpecError, match="got 'c'"):
        method.predict(_images(1, 1, ["c"]))
    method.save(tmp_path)
    assert np.array_equal(CutPaste.load(tmp_path).predict(_images(2, 1, ["a", "b"])).scores, asked)
    alone = CutPaste(**values).fit(_images(5, 0, ["a"] * 5), Runtime(seed=3)).predict(_images(2, 1, ["a"] * 2))
    everything = CutPaste(**CHECK).fit(_images(5, 0), Runtime(seed=3)).predict(_images(2, 1))
    assert np.array_equal(alone.scores, everything.scores), "one category is all of them"


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_training_images(count: int) -> None:
    scores = CutPaste(**CHECK).fit(_images(count, 0), Runtime()).predict(_images(4, 1)).scores
    assert np.isfinite(scores).all() and len(set(scores.tolist())) == 4


def test_a_curve_sees_the_density_of_its_epoch() -> None:
    """After each epoch the method can predict, and looking changes nothing."""
    seen: list[np.ndarray] = []

    def look(epoch: int, method: Method) -> None:
        seen.append(method.predict(_images(2, 1)).scores)

    values = CHECK | {"updates": 6, "epoch_images": 5}
    watched = CutPaste(**values).fit(_images(5, 0), Runtime(seed=3, after_epoch=look)).predict(_images(2, 1)).scores
    plain = CutPaste(**values).fit(_images(5, 0), Runtime(seed=3)).predict(_images(2, 1)).scores
    assert len(seen) == 3 and np.array_equal(watched, plain) and np.array_equal(seen[-1], plain)
    assert not np.array_equal(seen[0], seen[1])


def test_presets_and_parameters() -> None:
    for split in ("mvtec_step100", "visa_exp200", "dagm_exp50"):
        assert choose_preset(CutPaste, None, split).name == "paper"
    assert resolve(CutPaste, presets(CutPaste)["paper"].parameters) == resolve(CutPaste)
    assert CutPaste().trainable_parameters((256, 256)) == 11_506_499
    assert CutPaste(variant="scar").trainable_parameters((256, 256)) == 11_506_370
