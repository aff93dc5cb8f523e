"""ImageBind's weights under CLIP's names: the stem in time, the heads, and what its own structure computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ltbench.blocks.features.weights import State
from ltbench.blocks.vision_language import clip_weights, load_reader
from ltbench.blocks.vision_language.clip_network import Clip, ClipShape, TowerShape
from ltbench.blocks.vision_language.clip_weights import CLIPS, build, converted, load_clip
from ltbench.errors import DataError
from ltbench.method import Runtime

SHAPE = ClipShape(
    TowerShape(2, 32, 2), TowerShape(2, 16, 2), 28, 14, 24, quick_gelu=False, context=20, vocabulary=50, norm_eps=1e-6
)


def checkpoint(shape: ClipShape) -> State:
    """Return random weights under ImageBind's names, with some of another modality."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*size: int) -> Tensor:
        return 0.3 * torch.randn(*size, generator=generator)

    vision, text = shape.vision.width, shape.text.width
    state = {
        "modality_preprocessors.vision.cls_token": drawn(1, 1, vision),
        "modality_preprocessors.vision.pos_embedding_helper.pos_embed": drawn(
            1, (shape.side // shape.patch) ** 2 + 1, vision
        ),
        "modality_preprocessors.vision.rgbt_stem.proj.1.weight": drawn(vision, 3, 2, shape.patch, shape.patch),
        "modality_trunks.vision.pre_transformer_layer.0.weight": 1 + drawn(vision),
        "modality_trunks.vision.pre_transformer_layer.0.bias": drawn(vision),
        "modality_heads.vision.0.weight": 1 + drawn(vision),
        "modality_heads.vision.0.bias": drawn(vision),
        "modality_heads.vision.2.weight": drawn(shape.dim, vision),
        "modality_preprocessors.text.token_embedding.weight": drawn(shape.vocabulary, text),
        "modality_preprocessors.text.pos_embed": drawn(1, shape.context, text),
        "modality_preprocessors.text.mask": drawn(shape.context, shape.context),
        "modality_heads.text.proj.0.weight": 1 + drawn(text),
        "modality_heads.text.proj.0.bias": drawn(text),
        "modality_heads.text.proj.1.weight": drawn(shape.dim, text),
        "modality_postprocessors.text.1.log_logit_scale": drawn(1)[0],
        "modality_heads.audio.2.weight": drawn(3, 3),
        "modality_trunks.audio.blocks.0.norm_1.weight": drawn(3),
    }
    for tower, width in (("vision", vision), ("text", text)):
        for block in range(2):
            prefix = f"modality_trunks.{tower}.blocks.{block}"
            for name, size in (
                ("attn.in_proj_weight", (3 * width, width)),
                ("attn.in_proj_bias", (3 * width,)),
                ("attn.out_proj.weight", (width, width)),
                ("attn.out_proj.bias", (width,)),
                ("norm_1.weight", (width,)),
                ("norm_1.bias", (width,)),
                ("mlp.fc1.weight", (4 * width, width)),
                ("mlp.fc1.bias", (4 * width,)),
                ("mlp.fc2.weight", (width, 4 * width)),
                ("mlp.fc2.bias", (width,)),
                ("norm_2.weight", (width,)),
                ("norm_2.bias", (width,)),
            ):
                state[f"{prefix}.{name}"] = drawn(*size)
    return state


def block_of(state: State, prefix: str, x: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Return tokens (L, 1, width) behind a block, as ImageBind's structure has it: torch's attention, pre-norm."""
    own = {key.removeprefix(f"{prefix}."): value for key, value in state.items() if key.startswith(f"{prefix}.")}
    attention = torch.nn.MultiheadAttention(x.shape[2], heads)
    attention.load_state_dict({key.removeprefix("attn."): v for key, v in own.items() if key.startswith("attn.")})

    def norm(values: Tensor, name: str) -> Tensor:
        return F.layer_norm(values, values.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"], 1e-6)

    seen = norm(x, "norm_1")
    x = x + attention(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
    hidden = F.gelu(F.linear(norm(x, "norm_2"), own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
    return x + F.linear(hidden, own["mlp.fc2.weight"], own["mlp.fc2.bias"])


def test_images_go_through_the_stem_twice_in_time() -> None:
    state = checkpoint(SHAPE)
    network = build(SHAPE, converted(state), "test").eval()
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        video = pixels[:, :, None].repeat(1, 1, 2, 1, 1)
        kernel = state["modality_preprocessors.vision.rgbt_stem.proj.1.weight"]
        patches = F.conv3d(video, kernel, stride=(2, 14, 14)).flatten(2).transpose(1, 2)
        first = state["modality_preprocessors.vision.cls_token"]
        positions = state["modality_preprocessors.vision.pos_embedding_helper.pos_embed"]
        x = torch.cat([first, patches], dim=1) + positions
        prefix = "modality_trunks.vision"
        weight, bias = (state[f"{prefix}.pre_transformer_layer.0.{kind}"] for kind in ("weight", "bias"))
        x = F.layer_norm(x, (32,), weight, bias, 1e-6).transpose(0, 1)
        states = network.visual.states(network.visual.embed(pixels))
        for block in range(2):
            x = block_of(state, f"{prefix}.blocks.{block}", x, 2, None)
            assert torch.allclose(states[block + 1], x.transpose(0, 1), atol=1e-4)
        head = [state[f"modality_heads.vision.{name}"] for name in ("0.weight", "0.bias", "2.weight")]
        code = F.layer_norm(x[0], (32,), head[0], head[1], 1e-6) @ head[2].T
        assert torch.allclose(network.visual.code(states[-1]), code, atol=1e-4)


def test_texts_are_read_to_their_end() -> None:
    state = checkpoint(SHAPE)
    network = build(SHAPE, converted(state), "test").eval()
    ids = torch.tensor([[3, 7, 9, 49, 0, 0]])  # the highest id ends a text
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        words = F.embedding(ids, state["modality_preprocessors.text.token_embedding.weight"])
        x = (words + state["modality_preprocessors.text.pos_embed"][:, :6]).transpose(0, 1)
        mask = torch.full((6, 6), float("-inf")).triu(1)
        for block in range(2):
            x = block_of(state, f"modality_trunks.text.blocks.{block}", x, 2, mask)
        head = [state[f"modality_heads.text.proj.{name}"] for name in ("0.weight", "0.bias", "1.weight")]
        vector = F.layer_norm(x[3], (16,), head[0], head[1], 1e-6) @ head[2].T
        assert torch.allclose(network.text(words, torch.tensor([3])), vector, atol=1e-4)


def test_a_file_is_loaded_and_another_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open_clip")
    monkeypatch.setitem(CLIPS, "imagebind-huge", clip_weights.ClipModel(SHAPE, "", "", {}))
    file = tmp_path / "imagebind_huge.pth"
    torch.save(checkpoint(SHAPE), file)
    facts = load_clip("imagebind-huge", str(file)).facts()
    assert (facts["name"], facts["file"], len(facts["file_sha256"])) == ("imagebind-huge", file.name, 64)
    torch.save({"modality_preprocessors.vision.cls_token": torch.zeros(1, 1, 32)}, file)
    with pytest.raises(DataError, match=r"without .* that fit .*Give the file of the same model"):
        load_clip("imagebind-huge", str(file))
    with pytest.raises(DataError, match="no hub has them"):
        load_reader("imagebind-huge", runtime=Runtime())


def test_parameters_of_the_published_towers() -> None:
    with torch.device("meta"):
        network = Clip(CLIPS["imagebind-huge"].shape)
    vision = sum(parameter.numel() for parameter in network.visual.parameters())
    text = sum(parameter.numel() for parameter in network.parameters()) - vision
    assert (vision, text) == (632_076_800, 354_032_641)
    assert all(norm.eps == 1e-6 for norm in network.modules() if isinstance(norm, torch.nn.LayerNorm))
