"""The stand-in of wheels: it knows a temple from a flower, and its parts are what they are taken for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.vision_language import (
    LAST,
    ImageFeatures,
    Views,
    VisionLanguage,
    load_reader,
    load_vision_language,
    packaged,
)
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import DataError, SpecError
from ltbench.method import Runtime

LITE0 = "tf_efficientnet_lite0"
BLOCKS = (0, 2, 4, 10)
THINGS = ["temple", "flower", "screw", "cat", "car", "bottle", "computer screen", "dog"]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(feature_store=DiskFeatureStore(tmp_path_factory.mktemp("features")))


@pytest.fixture(scope="module")
def model(runtime: Runtime) -> Iterator[VisionLanguage]:
    yield load_vision_language("packaged-lite0", BLOCKS, runtime=runtime)


def photograph(name: str) -> NDArray[np.uint8]:
    return np.array(Image.fromarray(load_sample_image(name)).resize((224, 224)))


def features(model: VisionLanguage, image: NDArray[np.uint8], runtime: Runtime) -> ImageFeatures:
    return next(model.extract(ArrayImages(image[None]), runtime))


@pytest.mark.parametrize(("photo", "thing"), [("china.jpg", "temple"), ("flower.jpg", "flower")])
def test_it_names_photographs(model: VisionLanguage, runtime: Runtime, photo: str, thing: str) -> None:
    code = torch.from_numpy(features(model, photograph(photo), runtime).code)
    texts = model.text.encode_texts([f"a photo of a {name}." for name in THINGS])
    assert THINGS[torch.cosine_similarity(code[None], texts).argmax()] == thing


def test_maps_are_the_backbones(model: VisionLanguage, runtime: Runtime) -> None:
    image = photograph("china.jpg")
    found = features(model, image, runtime)
    for level, expected in zip(found.maps, load_backbone(LITE0, (0, 1, 2, 3))(image), strict=True):
        np.testing.assert_array_equal(level, expected)
    assert model.channels == (16, 24, 40, 112)
    assert found.code.shape == (model.code_dim,) == (384,)


def test_the_map_from_codes_to_texts_is_kept_bit_for_bit(model: VisionLanguage, runtime: Runtime) -> None:
    again = load_vision_language("packaged-lite0", BLOCKS, runtime=runtime)
    image = photograph("flower.jpg")
    np.testing.assert_array_equal(features(again, image, runtime).code, features(model, image, Runtime()).code)
    assert again.facts() == model.facts()


def test_the_map_solves_the_ridge_regression() -> None:
    """On a classifier of three classes: the gradient of |W A - C|^2 + 10 |A|^2, both centred, is 0 at A."""
    text = packaged._text(packaged._mini(), packaged._tokenizer())
    classifier = torch.randn(3, 1280, generator=torch.Generator().manual_seed(0))
    bridge = packaged._solved(classifier, text)
    captions = text.encode_texts(
        ["a photo of a tench.", "a photo of a goldfish.", "a photo of a great white shark."]
    ).double()
    np.testing.assert_allclose(bridge.centre, captions.mean(dim=0).numpy(), atol=1e-6)
    W, C = (rows - rows.mean(dim=0) for rows in (classifier.double(), captions))
    A = torch.from_numpy(bridge.matrix).double()
    assert (W.T @ (W @ A - C) + 10 * A).abs().max() < 1e-3


def test_texts_are_minilms_of_length_one_less_the_mean(model: VisionLanguage) -> None:
    text = packaged._text(packaged._mini(), packaged._tokenizer())
    vector = text.encode_texts(["a broken screw"])
    assert vector.norm() == pytest.approx(1, abs=1e-5)
    shifts = text.encode_texts(["a cat", "a dog"]) - model.text.encode_texts(["a cat", "a dog"])
    torch.testing.assert_close(shifts[0], shifts[1])


def test_gradients_reach_the_words(model: VisionLanguage) -> None:
    words = model.text.words("object object").requires_grad_()
    torch.autograd.backward(model.text.encode([words]).square().sum())
    assert words.grad is not None
    assert words.grad.abs().sum() > 0


def test_blocks_that_are_not_the_last_of_their_stride() -> None:
    with pytest.raises(SpecError, match=r"out of \[0, 2, 4, 10\], got \[3, 10\]"):
        load_vision_language("packaged-lite0", (3, 10), runtime=Runtime())


def test_other_pixels() -> None:
    with pytest.raises(SpecError, match="symmetric"):
        load_vision_language("packaged-lite0", BLOCKS, "imagenet", runtime=Runtime())


def test_no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "WHEEL", "no_such_wheel")
    with pytest.raises(DataError, match="ltbench\\[offline\\]"):
        packaged._folder()


def test_the_note(runtime: Runtime, model: VisionLanguage, tmp_path: Path) -> None:
    note = runtime.notes["foundation_model"]
    assert note["name"] == "packaged-lite0"
    assert note["layers"] == list(BLOCKS)
    assert len(note["image_weights_sha256"]) == len(note["text_weights_sha256"]) == 64


def test_a_reader_gives_the_maps_of_its_blocks(runtime: Runtime) -> None:
    blocks = (3, 5, 11, LAST)
    reader, image = load_reader("packaged-lite0", blocks=blocks, runtime=runtime), photograph("china.jpg")
    found = reader.read(image, Views(tokens=blocks))
    with torch.no_grad():
        together = reader.tokens(torch.from_numpy(image[None]), blocks)
    for block, tokens, expected in zip(blocks, together, load_backbone(LITE0, (1, 2, 3, 4))(image), strict=True):
        rows = expected.reshape(len(expected), -1).T
        np.testing.assert_array_equal(found.tokens[block], rows)
        np.testing.assert_allclose(tokens[0].numpy(), rows, atol=1e-4)
        assert reader.grid((224, 224), block) == expected.shape[1:]
    with pytest.raises(SpecError, match=r"one of \[3, 5, 11\], got 4"):
        reader.read(image, Views(tokens=(4,)))
