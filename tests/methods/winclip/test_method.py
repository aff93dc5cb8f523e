"""WinCLIP as a whole: what it is told, what it looks at, and what its numbers depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ltbench.contract.registry import presets
from ltbench.contract.subject import Subject, select
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, SpecError
from ltbench.method import ImageCounts, Runtime
from methods.winclip.estimate import MAKING, memory_bytes
from methods.winclip.method import WinCLIP


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(WinCLIP, presets(WinCLIP))


def fitted(subject: Subject, train: Any = None, seed: int = 0, **values: Any) -> WinCLIP:
    return WinCLIP(**(subject.parameters | values)).fit(train or subject.train, Runtime(seed=seed))


class Unseen(ArrayImages):
    """Images that must not be looked at."""

    def __getitem__(self, index: int, /) -> Any:
        raise AssertionError("a training image was read")

    @property
    def categories(self) -> Any:
        raise AssertionError("the categories of training images were read")


def test_zero_shot_uses_no_training_image(subject: Subject) -> None:
    expected = fitted(subject, shots=0).predict(subject.defective)
    for train in (Unseen(subject.train.images), Unseen(subject.train.images[:2])):
        found = fitted(subject, train, shots=0).predict(subject.defective)
        assert np.array_equal(found.maps, expected.maps)
        assert np.array_equal(found.scores, expected.scores)


def test_the_name_object_needs_no_category(subject: Subject) -> None:
    blind = ArrayImages(subject.defective.images)
    assert not WinCLIP(names="object").run_info.uses_categories
    assert WinCLIP(names="object", shots=1).run_info.uses_categories, "references are a category's"
    assert WinCLIP().run_info.uses_categories
    assert fitted(subject, shots=0, names="object").predict(blind).scores.shape == (4,)
    with pytest.raises(ContractError):
        fitted(subject, shots=0).predict(blind)


def test_an_image_that_is_its_own_reference(subject: Subject) -> None:
    alone = select(subject.train, [0])
    method = fitted(subject, alone, shots=1)
    zero = fitted(subject, shots=0).predict(alone)
    found = method.predict(alone)
    assert np.allclose(found.scores, zero.scores / 2, atol=1e-6)
    assert np.allclose(found.maps, zero.maps, atol=1e-6)


def test_references_are_drawn_by_category_and_seed(subject: Subject) -> None:
    method = fitted(subject, shots=2, replacement=False)
    assert set(method.memories_) == {"grid", "stripes"}
    assert method.memories_["grid"]["patches"].shape[0] == 2 * 16
    few = fitted(subject, select(subject.train, [0, 1]), shots=4, replacement=False)
    assert few.memories_["grid"]["patches"].shape[0] == 16, "no more than there are"
    with pytest.raises(SpecError, match="a category with references, got 'stripes'"):
        fitted(subject, select(subject.train, [0, 2]), shots=1).predict(subject.good)


@pytest.mark.parametrize("values", [{}, {"model": "tiny", "side": 128}])
def test_the_estimate_counts_what_is_kept_of_references(subject: Subject, values: dict[str, Any]) -> None:
    method = fitted(subject, shots=3, **values)
    kept = sum(array.nbytes for memory in method.memories_.values() for array in memory.values())
    size = (method.side, method.side) if method.side else subject.train.size
    making, scoring = memory_bytes(method.model, method.windows, size, method.shots, categories=2)
    assert making == kept // 2 * (2 + MAKING)
    assert scoring > kept
    counts = ImageCounts(subject.train.size, (4, 8), (2, 3))
    zero = fitted(subject, shots=0, **values).memory_estimate(counts, streamed=False).phases
    few = method.memory_estimate(counts, streamed=False).phases
    (name,) = zero
    assert few[name] == zero[name] + scoring
    assert few.keys() - zero.keys() == {"3 references of 2 categories"}


def test_names(subject: Subject) -> None:
    images = ArrayImages(subject.good.images[:1], ["metal_nut"])
    found = [
        fitted(subject, shots=0, names=names).predict(images).scores[0] for names in ("folder", "spaced", "object")
    ]
    assert len(set(found)) == 3


@pytest.mark.slow
def test_the_papers_size_reads_an_image() -> None:
    """One image of 240 pixels through ViT-B/16+ with random weights: the code, 365 windows, the patches, a text."""
    pytest.importorskip("open_clip")
    method = WinCLIP(weights="random", shots=1)
    method._lend(Runtime())
    image = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    found = method._model.read(image, method._views)
    assert (found.grid, found.code.shape, found.tokens[-1].shape) == ((15, 15), (640,), (225, 896))
    assert [found.windows[side].shape for side in (2, 3)] == [(196, 640), (169, 640)]
    assert method._model.text.encode_texts(["a photo of a bottle."]).shape == (1, 640)
