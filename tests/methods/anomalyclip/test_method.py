"""AnomalyCLIP as a whole: what it trains on, what it does not look at, and what is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.vision_language import load_reader
from ltbench.blocks.vision_language.clip_network import Clip
from ltbench.blocks.vision_language.clip_weights import CLIPS
from ltbench.contract.parameters import hyper_parameters
from ltbench.contract.registry import presets
from ltbench.contract.subject import Subject
from ltbench.datasets.annotated import AnnotatedArrayImages
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, DataError, SpecError
from ltbench.method import Runtime
from methods.anomalyclip.method import AnomalyCLIP
from methods.anomalyclip.prompts import Prompts


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(AnomalyCLIP, presets(AnomalyCLIP))


class Unseen(ArrayImages):
    """Images that must not be looked at."""

    def __getitem__(self, index: int, /) -> Any:
        raise AssertionError("an image was read")


class UnseenAnnotated(AnnotatedArrayImages):
    """Annotated images that must not be looked at."""

    def __getitem__(self, index: int, /) -> Any:
        raise AssertionError("an annotated image was read")


class Text:
    """A text branch of CLIP ViT-L/14's width."""

    width, dim, depth, weights_sha256 = 768, 768, 12, ""


def test_trained_values_of_the_paper() -> None:
    prompts = Prompts(Text(), 12, 9, 4, seed=0)  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in prompts.parameters()) == 43_008
    assert len(prompts.deep) == 8
    assert len(Prompts(Text(), 12, 1, 4, seed=0).deep) == 0  # type: ignore[arg-type]
    assert prompts.normal.std().item() == pytest.approx(0.02, rel=0.05)
    with pytest.raises(SpecError, match="deep_depth of at most 12"):
        Prompts(Text(), 12, 13, 4, seed=0)  # type: ignore[arg-type]


def test_training_images_are_not_looked_at(subject: Subject) -> None:
    method = AnomalyCLIP(**subject.parameters).fit(Unseen(subject.train.images[:2]), subject.runtime())
    found = method.predict(subject.defective)
    assert np.array_equal(found.maps, subject.expected.maps)
    assert np.array_equal(found.scores, subject.expected.scores)


def test_only_the_prompts_are_trained(subject: Subject) -> None:
    method = subject.fitted()
    assert isinstance(method, AnomalyCLIP)
    fresh = load_reader("tiny-clip", runtime=Runtime())
    assert method._model.facts() == fresh.facts()
    start = method._untrained().state_dict()
    assert all(not torch.equal(start[key], value) for key, value in method.prompts_.state_dict().items())
    network: Clip = method._model.network  # type: ignore[attr-defined]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_prompts_are_kept_by_what_they_were_trained_on(subject: Subject, tmp_path: Path) -> None:
    store = DiskFeatureStore(tmp_path)
    lent = subject.runtime().auxiliary
    assert isinstance(lent, AnnotatedArrayImages)

    def fitted(annotated: AnnotatedArrayImages, **values: Any) -> AnomalyCLIP:
        runtime = Runtime(feature_store=store, auxiliary=annotated)
        return AnomalyCLIP(**(subject.parameters | values)).fit(subject.train, runtime)

    first = fitted(lent)
    again = UnseenAnnotated(lent.images, lent.masks, lent.dataset)
    assert torch.equal(fitted(again, sigma=1.0).texts_, first.texts_), "the Gaussian is not the training's"
    with pytest.raises(AssertionError, match="annotated image was read"):
        other = UnseenAnnotated(255 - lent.images, lent.masks, lent.dataset)
        fitted(other)
    moved = fitted(AnnotatedArrayImages(lent.images, np.roll(lent.masks, 8, axis=1), lent.dataset))
    assert not torch.equal(moved.texts_, first.texts_), "other masks, other prompts"
    assert not torch.equal(fitted(lent, epochs=3).texts_, first.texts_)


def test_what_cannot_train_prompts(subject: Subject) -> None:
    with pytest.raises(ContractError, match="uses_annotated_data"):
        AnomalyCLIP(**subject.parameters).fit(subject.train, Runtime())
    good = AnnotatedArrayImages(subject.good.images, np.zeros(subject.good.images.shape[:3], np.bool_), "good")
    with pytest.raises(DataError, match="one kind"):
        AnomalyCLIP(**subject.parameters).fit(subject.train, Runtime(auxiliary=good))


def test_shared_training_names_hyper_parameters() -> None:
    names = {parameter.name for parameter in hyper_parameters(AnomalyCLIP)}
    assert set(AnomalyCLIP().shared_training) == names - {"sigma"}


@pytest.mark.slow
def test_the_papers_size_reads_an_image_and_trains_its_prompts() -> None:
    """One forward pass of ViT-L/14 at 518 pixels with random weights, and gradients of the prompts."""
    pytest.importorskip("open_clip")
    name = "ViT-L-14-336-quickgelu/openai"
    method = AnomalyCLIP(model=name, weights="random")
    method._lend(Runtime())
    reader = method._model
    image = np.random.default_rng(0).integers(0, 256, (518, 518, 3), np.uint8)
    found = reader.read(image, method._views)
    assert (found.grid, found.code.shape, found.local[-1].shape) == ((37, 37), (768,), (1369, 768))
    prompts = method._untrained()
    texts = prompts.vectors(reader.text)
    gradients = torch.autograd.grad(texts.sum(), list(prompts.parameters()))
    assert texts.shape == (2, 768)
    assert sum(gradient.numel() for gradient in gradients) == 43_008
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert sum(p.numel() for p in reader.network.parameters()) == 427_944_193  # type: ignore[attr-defined]
    assert CLIPS[name].shape.quick_gelu
