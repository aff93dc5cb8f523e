"""ALIGN through transformers: the real one's shapes and sizes, and a small one's values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AlignConfig, AlignModel

from ltbench.blocks.feature_store import DiskFeatureStore
from ltbench.blocks.vision_language import Pixels, load_vision_language
from ltbench.blocks.vision_language.align import AlignLevels, tiny_config
from ltbench.blocks.vision_language.loading import SCALES
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import DataError, SpecError
from ltbench.method import Runtime

LAYERS = (0, 1, 2, 4)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "broken", "object", "bot", "##tle"]


def noise(count: int = 3, side: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def built(config: AlignConfig) -> AlignModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AlignModel(config)
    model.train(mode=False)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder as transformers writes it, with a small ALIGN and a tokenizer of ten words."""
    folder = tmp_path / "align"
    built(tiny_config()).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


@pytest.mark.slow
def test_the_real_one_has_the_shapes_that_the_paper_needs() -> None:
    """kakaobrain/align-base with random weights at 224 pixels."""
    model = built(AlignConfig())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts["vision_model"] == 62_143_440
    assert counts["text_projection"] == 768 * 640 + 640
    assert counts["text_model"] == 109_482_240
    levels = AlignLevels(model.vision_model, (3, 10, 17, 37), SCALES["symmetric"])
    assert levels.feature_info.channels() == [32, 48, 80, 224, 640]
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = levels(pixels)
        output = model.vision_model(pixel_values=pixels, output_hidden_states=True)
    assert [tuple(level.shape[1:]) for level in maps] == [
        (32, 112, 112),
        (48, 56, 56),
        (80, 28, 28),
        (224, 14, 14),
        (640, 1, 1),
    ]
    states = output.hidden_states
    assert len(states) == 56
    for index, level in zip((4, 11, 18, 38), maps, strict=False):
        assert torch.equal(states[index], level), "block 3 is what transformers counts as hidden state 4"
    assert [states[i].shape for i in (3, 10, 17, 37)] == [states[i].shape for i in (4, 11, 18, 38)]
    torch.testing.assert_close(maps[-1].flatten(1), output.pooler_output)


def test_levels_are_what_transformers_computes(saved: Path) -> None:
    model = AlignModel.from_pretrained(saved)
    ours = load_vision_language(str(saved), LAYERS, runtime=Runtime())
    images = noise()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        output = model.vision_model(pixel_values=pixels, output_hidden_states=True)
    for index, features in enumerate(ours.extract(ArrayImages(images), Runtime())):
        for layer, level in zip(LAYERS, features.maps, strict=True):
            expected = output.hidden_states[layer + 1][index]
            torch.testing.assert_close(torch.from_numpy(level), expected, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(torch.from_numpy(features.code), output.pooler_output[index], rtol=1e-4, atol=1e-9)
    assert ours.channels == (8, 8, 8, 16)
    assert ours.code_dim == 32


def test_a_text_by_its_words_is_the_text_by_its_ids(saved: Path) -> None:
    model, ours = AlignModel.from_pretrained(saved), load_vision_language(str(saved), LAYERS, runtime=Runtime())
    texts = ["object object", "a broken bottle"]
    by_words = ours.text.encode([ours.text.words(text) for text in texts])
    by_ids = ours.text.encode_texts(texts)
    assert (by_words - by_ids).abs().max() < 1e-5
    ids = torch.tensor([[2, 7, 7, 3]])
    with torch.inference_mode():
        states = model.text_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(by_ids[:1], model.text_projection(states[:, 0]))


def test_padding_changes_nothing(saved: Path) -> None:
    text = load_vision_language(str(saved), LAYERS, runtime=Runtime()).text
    short, long = text.words("bottle"), text.words("a broken object object bottle")
    torch.testing.assert_close(text.encode([short, long]), torch.cat([text.encode([short]), text.encode([long])]))


def test_gradients_pass_to_the_words_and_stop_there(saved: Path) -> None:
    text = load_vision_language(str(saved), LAYERS, runtime=Runtime()).text
    words = text.words("object object").requires_grad_()
    before = text.weights_sha256
    torch.autograd.backward(text.encode([words]).sum())
    assert isinstance(words.grad, Tensor)
    assert words.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in text._bert.parameters())
    assert text.weights_sha256 == before


def test_features_come_from_the_store_bit_for_bit(tmp_path: Path) -> None:
    images = ArrayImages(noise())
    stored = Runtime(feature_store=DiskFeatureStore(tmp_path))
    runs = []
    for runtime in (Runtime(), stored, stored):
        model = load_vision_language("tiny", LAYERS, runtime=runtime)
        runs.append(list(model.extract(images, runtime)))
    for plain, first, second in zip(*runs, strict=True):
        levels = [(*features.maps, features.code) for features in (plain, first, second)]
        for one, two, three in zip(*levels, strict=True):
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(one, three)


def test_what_names_a_space() -> None:
    pixels: tuple[Pixels, ...] = ("symmetric", "symmetric", "imagenet", "symmetric")
    spaces = {
        load_vision_language("tiny", (0, 1), scale, runtime=Runtime(seed=seed)).images.spaces[0]
        for scale, seed in zip(pixels, (0, 0, 0, 1), strict=True)
    }
    assert len(spaces) == 3


def test_the_global_generator_is_left_alone(saved: Path) -> None:
    state = torch.get_rng_state()
    load_vision_language("tiny", LAYERS, runtime=Runtime())
    load_vision_language(str(saved), LAYERS, runtime=Runtime())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layers", [(), (2, 1), (-1, 2), (0, 8)])
def test_layers_that_are_not_there(layers: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="ascending blocks from 0 to 7"):
        load_vision_language("tiny", layers, runtime=Runtime())


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="Expected ALIGN's configuration"):
        load_vision_language(str(tmp_path), LAYERS, runtime=Runtime())


def test_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="kakaobrain/align-base"):
        load_vision_language("kakaobrain/align-base", LAYERS, runtime=Runtime())


def test_neither_a_folder_nor_a_repository() -> None:
    with pytest.raises(DataError, match="no/such/folder"):
        load_vision_language("no/such/folder", LAYERS, runtime=Runtime())
