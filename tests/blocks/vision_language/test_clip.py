"""CLIP's towers against open_clip's and transformers' with the same weights, and what lies between their layers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.vision_language import LAST, Views, clip_weights, load_reader, readings, text_vectors, window_places
from ltbench.blocks.vision_language.clip_network import Attention, Clip, ClipShape, TowerShape
from ltbench.blocks.vision_language.clip_weights import (
    CLIPS,
    TINY_SHAPE,
    build,
    converted,
    load_clip,
    random_state,
    tiny_clip,
    tokenizer,
)
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import DataError, SpecError
from ltbench.method import Runtime

SHAPE = ClipShape(TowerShape(2, 128, 2), TowerShape(2, 64, 1), 64, 16, 32, quick_gelu=True)
B16, L14 = "ViT-B-16-plus-240/laion400m_e31", "ViT-L-14-336-quickgelu/openai"


def image(seed: int, side: int = 64) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def in_transformers(shape: ClipShape) -> CLIPModel:
    activation = "quick_gelu" if shape.quick_gelu else "gelu"
    vision = {
        "hidden_size": shape.vision.width,
        "intermediate_size": 4 * shape.vision.width,
        "num_hidden_layers": shape.vision.layers,
        "num_attention_heads": shape.vision.heads,
        "image_size": shape.side,
        "patch_size": shape.patch,
        "hidden_act": activation,
    }
    text = {
        "hidden_size": shape.text.width,
        "intermediate_size": 4 * shape.text.width,
        "num_hidden_layers": shape.text.layers,
        "num_attention_heads": shape.text.heads,
        "hidden_act": activation,
        "vocab_size": shape.vocabulary,
        "eos_token_id": 49407,
    }
    with torch.random.fork_rng(devices=[]):
        model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=shape.dim))
    cast(Any, model).eval()
    return model


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_same_numbers_as_open_clip_and_transformers(quick_gelu: bool) -> None:
    open_clip = pytest.importorskip("open_clip")
    shape = ClipShape(SHAPE.vision, SHAPE.text, 64, 16, 32, quick_gelu=quick_gelu)
    third = in_transformers(shape)
    state = converted(cast(Any, third).state_dict())
    network = build(shape, state, "transformers").eval()
    vision = {"image_size": 64, "layers": 2, "width": 128, "patch_size": 16, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    with torch.random.fork_rng(devices=[]):
        other = open_clip.model.CLIP(32, vision, text, quick_gelu=quick_gelu).eval()
    other.load_state_dict(network.state_dict(), strict=False)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ids = open_clip.tokenize(["a photo of a metal_nut.", "a damaged screw"])
    ends = ids.argmax(dim=1)
    with torch.inference_mode():
        code = network.visual.code(network.visual.states(network.visual.embed(pixels))[-1])
        words = network.text(network.token_embedding(ids), ends)
        assert torch.allclose(code, other.encode_image(pixels), atol=1e-5)
        assert torch.allclose(words, other.encode_text(ids), atol=1e-5)
        seen = cast(Any, third).get_image_features(pixel_values=pixels)
        read = cast(Any, third).get_text_features(input_ids=ids)
        assert torch.allclose(code, _plain(seen), atol=1e-5)
        assert torch.allclose(words, _plain(read), atol=1e-5)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in other.parameters())


def _plain(found: Any) -> Tensor:
    return cast(Tensor, found if isinstance(found, Tensor) else found.pooler_output)


@pytest.mark.parametrize(
    ("name", "vision", "whole"), [(B16, 116_640_384 + 573_440, 208_377_345), (L14, 303_507_456 + 786_432, 427_944_193)]
)
def test_parameters_of_the_published_models(name: str, vision: int, whole: int) -> None:
    with torch.device("meta"):
        network = Clip(CLIPS[name].shape)
    assert sum(p.numel() for p in network.visual.parameters()) == vision
    assert sum(p.numel() for p in network.parameters()) == whole


def test_tokens_of_a_folders_name() -> None:
    pytest.importorskip("open_clip")
    assert tokenizer()("metal_nut") == [4044, 318, 6491]


def test_attention_is_torchs() -> None:
    own = Attention(32, 4)
    with torch.random.fork_rng(devices=[]):
        theirs = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    own.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(own(x), theirs(x, x, x, need_weights=False)[0], atol=1e-6)
        equal = x[:, :1].expand(-1, 5, -1)
        values = torch.nn.functional.linear(equal, own.in_proj_weight[64:], own.in_proj_bias[64:])
        assert torch.allclose(own.value_value(equal), own.out_proj(values), atol=1e-6), "equal tokens: their values"
        order = torch.tensor([3, 1, 0, 4, 2])
        assert torch.allclose(own.value_value(x[:, order]), own.value_value(x)[:, order], atol=1e-6)


def test_windows_see_their_own_pixels_alone() -> None:
    reader, seen = tiny_clip(), image(0)
    views = Views((2, 3, 4), (LAST,))
    before = reader.read(seen, views)
    assert np.allclose(before.windows[4][0], before.code, atol=1e-5), "a window of all patches is the image"
    changed = seen.copy()
    changed[16:32, 32:48] ^= 255  # patch 6 of 4 x 4
    after = reader.read(changed, views)
    for side in (2, 3):
        inside = (window_places((4, 4), side) == 6).any(axis=1)
        moved = np.abs(after.windows[side] - before.windows[side]).max(axis=1) > 1e-6
        assert (moved == inside).all()
    assert (np.abs(after.tokens[LAST] - before.tokens[LAST]).max(axis=1) > 1e-6).all(), "patches see the whole image"


def test_a_batch_of_windows_is_the_windows_one_by_one() -> None:
    tower = build(SHAPE, random_state(SHAPE, 0), "random").visual
    with torch.inference_mode():
        embedded = tower.embed(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
        places = torch.tensor(window_places((4, 4), 2))
        single = torch.cat([tower.windows(embedded[:1], place[None]) for place in places], dim=1)
        assert torch.allclose(tower.windows(embedded, places)[:1], single, atol=1e-5)


def test_the_second_stream_leaves_the_first_alone() -> None:
    tower = build(SHAPE, random_state(SHAPE, 0), "random").visual
    with torch.inference_mode():
        states = tower.states(tower.embed(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))))
        kept = [state.clone() for state in states]
        first, second = tower.local(states, 2)
        assert all(torch.equal(state, before) for state, before in zip(states, kept, strict=True))
        blocks = tower.transformer.blocks
        added = [block.attn.value_value(block.ln_1(state)) for block, state in zip(blocks, states[:-1], strict=True)]
        assert torch.equal(first, states[0] + added[0])
        assert torch.allclose(second - first, added[1], atol=1e-6)
        assert not torch.equal(first, second)


def test_positions_on_another_grid() -> None:
    tower = build(SHAPE, random_state(SHAPE, 0), "random").visual
    assert tower.positions((4, 4)) is tower.positional_embedding
    assert tower.positions((6, 5)).shape == (31, 128)
    assert torch.equal(tower.positions((6, 5))[0], tower.positional_embedding[0])


def test_deep_tokens_take_the_place_of_states() -> None:
    text = tiny_clip().text
    words = [text.words("x x x x x object")]
    deep = list(torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0)))
    plain, replaced = text.encode(words), text.encode(words, deep)
    assert not torch.allclose(plain, replaced)
    assert not torch.allclose(replaced, text.encode(words, [deep[0], deep[0]]))
    leaf = deep[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(text.encode(words, [leaf, deep[1]]).sum(), leaf)
    assert gradient.abs().sum() > 0


def test_text_vectors_are_kept_by_their_prompts(tmp_path: Path) -> None:
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))
    reader = tiny_clip()
    texts = ["a nut", "a bolt", "a nut"]
    found = text_vectors(reader, texts, runtime)
    assert torch.equal(found[0], found[2])
    cast(Any, reader).text._tokenize = None  # whatever reads a text now fails
    assert torch.equal(text_vectors(reader, texts, runtime), found)
    with pytest.raises(TypeError):
        text_vectors(reader, ["a ring"], runtime)


def test_readings_are_kept_by_what_was_asked(tmp_path: Path) -> None:
    runtime, images = Runtime(feature_store=DiskFeatureStore(tmp_path)), ArrayImages(np.stack([image(0), image(1)]))
    reader = tiny_clip()
    views = Views((2,), (LAST,))
    found = list(readings(reader, images, views, 80, runtime))
    assert found[0].grid == (5, 5)
    again = list(readings(reader, images, views, 80, runtime))
    assert all(np.array_equal(a.windows[2], b.windows[2]) for a, b in zip(found, again, strict=True))
    other = next(readings(reader, images, Views((3,)), 80, runtime))
    assert set(other.windows) == {3}


@pytest.mark.parametrize("name", ["packaged-lite0", "tiny"])
def test_networks_of_maps_have_windows_and_places(name: str) -> None:
    reader = load_reader(name, runtime=Runtime())
    found = reader.read(image(0, 128), Views((2, 4), (LAST,), local=(LAST,)))
    assert found.grid == reader.grid((128, 128)) == (4, 4)
    assert np.allclose(found.windows[4][0], found.code, atol=1e-5)
    assert np.allclose(found.local[LAST].mean(axis=0), found.code, atol=1e-5)
    assert reader.text.encode_texts(["a nut"]).shape == (1, len(found.code))
    deep = [torch.linspace(-1, 1, 2 * reader.text.width).view(2, -1)] if reader.text.depth > 1 else []
    words = [reader.text.words("a nut of steel")]
    assert torch.allclose(reader.text.encode(words)[0], reader.text.encode_texts(["a nut of steel"])[0], atol=1e-5)
    if deep:
        assert not torch.allclose(reader.text.encode(words, deep), reader.text.encode(words))
    with pytest.raises(SpecError, match="block -1 of this model"):
        reader.read(image(0, 128), Views(tokens=(3,)))


@pytest.mark.parametrize(("name", "blocks"), [("tiny", (2, 3, 5)), ("tiny-clip", (1, 3))])
def test_tokens_of_a_batch_are_those_of_each_image(name: str, blocks: tuple[int, ...]) -> None:
    asked = (*blocks, LAST)
    reader = load_reader(name, blocks=blocks, runtime=Runtime())
    seen = np.stack([image(0, 128), image(1, 128)])
    with torch.no_grad():
        together = reader.tokens(torch.from_numpy(seen), asked)
    for place, own in enumerate(seen):
        alone = reader.read(own, Views(tokens=asked))
        for block, tokens in zip(asked, together, strict=True):
            assert np.allclose(alone.tokens[block], tokens[place].numpy(), atol=1e-4)
            height, width = reader.grid((128, 128), block)
            assert len(alone.tokens[block]) == height * width
    assert reader.grid((128, 128)) == reader.grid((128, 128), LAST)
    with pytest.raises(SpecError, match=r"Expected (the block|blocks)"):
        reader.grid((128, 128), 99)


def test_names_that_mislead_are_refused() -> None:
    with pytest.raises(SpecError, match="fetches the weights of laion400m_e31"):
        load_reader("ViT-B-16-plus-240/laion400m_e32", runtime=Runtime())
    with pytest.raises(SpecError, match="exact GELU"):
        load_reader("ViT-L-14-336/openai", runtime=Runtime())


def test_a_files_hash_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open_clip")
    shape = ClipShape(SHAPE.vision, SHAPE.text, 64, 16, 32, quick_gelu=False, vocabulary=49408)
    file = tmp_path / "clip.safetensors"
    save_file(random_state(shape, 0), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for tag, starts in (("", {}), ("laion400m_e31", {digest[:8]: "laion400m_e31"})):
        monkeypatch.setitem(CLIPS, B16, clip_weights.ClipModel(shape, "owner/name", "laion400m_e31", starts))
        facts = load_clip(B16, str(file)).facts()
        assert (facts["file_sha256"], facts["tag"]) == (digest, tag)
    monkeypatch.setitem(
        CLIPS, B16, clip_weights.ClipModel(shape, "o/n", "laion400m_e31", {digest[:8]: "laion400m_e32"})
    )
    with pytest.raises(DataError, match="whose hash is that of laion400m_e32"):
        load_clip(B16, str(file))
    assert load_clip("ViT-B-16-plus-240/laion400m_e32", str(file)).facts()["tag"] == "laion400m_e32"
    misnamed = tmp_path / "vit-00000000.pt"
    torch.save(random_state(shape, 0), misnamed)
    with pytest.raises(DataError, match="Expected a file of the hash 00000000"):
        load_clip(B16, str(misnamed))
    monkeypatch.setitem(CLIPS, B16, clip_weights.ClipModel(TINY_SHAPE, "owner/name", "laion400m_e31", {}))
    with pytest.raises(DataError, match=r"without .* that fit"):
        load_clip(B16, str(file))
