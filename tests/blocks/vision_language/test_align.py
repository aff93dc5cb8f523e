"""ALIGN through transformers: the real one's shapes and sizes, and a small one's values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AlignConfig, AlignModel

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.vision_language import Pixels, load_vision_language
from ltbench.blocks.vision_language.align import AlignLevels, align, tiny_config
from ltbench.blocks.vision_language.loading import SCALES
from ltbench.blocks.vision_language.text import TextEncoder
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import DataError, SpecError
from ltbench.method import Runtime
from methods.ltad.data import to_patches
from methods.ltad.names import PseudoNames, starting_names

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


def text_of(model: AlignModel) -> TextEncoder:
    """Return the text branch, to which every word is the piece 7."""
    loaded = align("built", model, lambda text: [7] * len(text.split()), (1, 2), LAYERS, SCALES["symmetric"])
    return loaded.text


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
    patches = to_patches(maps[:-1], (14, 14))
    assert patches.shape == (1, 196, 384)
    names = PseudoNames(starting_names([str(c) for c in range(15)], text_of(model), "object", 2, 0))
    assert sum(parameter.numel() for parameter in names.parameters()) == 23_040
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


def test_a_folder_without_a_tokenizer(saved: Path) -> None:
    """transformers would make an empty one of it, to which all words are the same."""
    (saved / "vocab.txt").unlink()
    with pytest.raises(DataError, match=r"no vocab\.txt or tokenizer\.json"):
        load_vision_language(str(saved), LAYERS, runtime=Runtime())


def test_a_tokenizer_of_another_model(saved: Path) -> None:
    (saved / "vocab.txt").write_text("\n".join([*WORDS, *map(str, range(600))]) + "\n")
    with pytest.raises(DataError, match="a tokenizer of 610 pieces for 512"):
        load_vision_language(str(saved), LAYERS, runtime=Runtime())


def test_weights_that_lack_some_are_not_drawn_at_random(saved: Path) -> None:
    file = saved / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if "text_model.encoder" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"no weights that fit text_model\.encoder"):
        load_vision_language(str(saved), LAYERS, runtime=Runtime())


def test_weights_of_another_kind_of_model(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(DataError, match="a model of type 'bert'"):
        load_vision_language(str(saved), LAYERS, runtime=Runtime())


def test_half_precision_weights_are_read_as_float32(saved: Path) -> None:
    AlignModel.from_pretrained(saved, dtype=torch.float16).save_pretrained(saved)
    model = load_vision_language(str(saved), LAYERS, runtime=Runtime())
    (features,) = model.extract(ArrayImages(noise(1)), Runtime())
    assert np.isfinite(features.code).all()
    assert model.text.encode_texts(["a broken bottle"]).dtype == torch.float32


def test_a_cache_that_an_interrupted_download_left_is_not_taken(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--kakaobrain--align-base"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copy(saved / "config.json", snapshot)
    with pytest.raises(DataError, match="gave nothing"):
        load_vision_language("kakaobrain/align-base", LAYERS, runtime=Runtime())
    for path in saved.iterdir():
        shutil.copy(path, snapshot)
    assert load_vision_language("kakaobrain/align-base", LAYERS, runtime=Runtime()).name == "kakaobrain/align-base"


@pytest.mark.parametrize("name", ["tiny", "packaged-lite0", "folder"])
def test_a_device_that_is_not_there(saved: Path, name: str) -> None:
    with pytest.raises(SpecError, match="nonsense"):
        load_vision_language(str(saved) if name == "folder" else name, LAYERS, runtime=Runtime(device="nonsense"))


def test_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="kakaobrain/align-base"):
        load_vision_language("kakaobrain/align-base", LAYERS, runtime=Runtime())


def test_neither_a_folder_nor_a_repository() -> None:
    with pytest.raises(DataError, match="no/such/folder"):
        load_vision_language("no/such/folder", LAYERS, runtime=Runtime())
