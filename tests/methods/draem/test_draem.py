"""DRAEM's invariants: networks, losses, synthetic defects, textures, resuming and independence of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import DataError, SpecError
from ltbench.method import Runtime
from ltbench.runs.provenance import provenance
from methods.draem import losses, perlin
from methods.draem.method import DRAEM
from methods.draem.net import Draem, Reconstructive, image_score
from methods.draem.operations import OPERATIONS, altered
from methods.draem.synthesis import Synthesis, pasted
from methods.draem.textures import Pictures, Procedural
from tests.methods.trained import noise_images, predicted

CHECK: dict[str, Any] = resolve(DRAEM, presets(DRAEM)["check"].parameters) | {"iterations": 3}


def _predict(threads: int, **values: Any) -> Prediction:
    return predicted(DRAEM, CHECK | values, threads)


def test_parameters_of_the_paper() -> None:
    assert DRAEM().trainable_parameters((256, 256)) == 97_422_725
    with torch.device("meta"):
        network = Draem(128, 64)
    counts = [
        sum(weight.numel() for weight in part.parameters()) for part in (network.reconstructive, network.discriminative)
    ]
    assert counts == [69_048_579, 28_374_146]
    encoders = [
        sum(weight.numel() for weight in part.down.parameters())
        for part in (network.reconstructive, network.discriminative)
    ]
    assert encoders == [37_622_400, 14_134_272]


def test_shapes_of_the_paper() -> None:
    with torch.device("meta"):
        network, images = Draem(128, 64), torch.empty(2, 3, 256, 256)
        rebuilt, logits = network(images)
        assert network.reconstructive.encode(images).shape == (2, 1024, 16, 16)
    assert (rebuilt.shape, logits.shape) == ((2, 3, 256, 256), (2, 2, 256, 256))


def test_initial_weights() -> None:
    network = Draem(8, 8)
    network.draw_weights(0)
    deepest = network.reconstructive.get_submodule("down.4.0").get_parameter("weight")
    assert deepest.std().item() == pytest.approx(0.02, rel=0.03)
    norms = torch.cat([module.weight for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)])
    assert norms.mean().item() == pytest.approx(1, abs=0.005)
    assert norms.std().item() == pytest.approx(0.02, rel=0.1)
    again = Draem(8, 8)
    again.draw_weights(0)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), again.parameters(), strict=True))


def test_everything_passes_through_the_code() -> None:
    network = Reconstructive(2).eval()
    images = torch.rand(2, 3, 64, 64)
    codes: list[torch.Tensor] = []

    def emptied(module: torch.nn.Module, given: object, made: torch.Tensor) -> torch.Tensor:
        codes.append(made)
        return made * 0

    network.down[4].register_forward_hook(emptied)
    with torch.no_grad():
        first, second = network(images)
    assert codes[0].shape == (2, 16, 4, 4)
    assert torch.equal(first, second), "with the code gone, nothing of the image is left"


def test_ssim_of_an_image_with_itself_and_of_flat_ones() -> None:
    images = torch.rand(2, 3, 32, 32)
    assert losses.ssim(images, images, 1.0).item() == pytest.approx(1, abs=1e-6)
    dark, bright = torch.full((1, 1, 64, 64), 0.2).double(), torch.full((1, 1, 64, 64), 0.6).double()
    middle = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    found = losses.ssim(dark, bright, 1.0).item()
    assert found == pytest.approx(middle, abs=0.1), "zeros outside change the rim"
    assert found != pytest.approx(middle, abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "wanted"), [(0, 1, 1), (-0.4, 1, 1), (-0.6, 1, 2), (0, 129, 255), (-1, 129, 256)]
)
def test_the_inferred_range(low: float, high: float, wanted: float) -> None:
    assert losses.dynamic_range(torch.tensor([low, high]), "inferred") == wanted
    assert losses.dynamic_range(torch.tensor([low, high]), "one") == 1


def test_noise_is_zero_on_the_lattice() -> None:
    noise = perlin.drawn_noise(64, (2, 3), np.random.default_rng(0))
    assert noise.shape == (64, 64)
    assert not noise[::16, ::8].any()
    assert 0.3 < np.abs(noise).max() < 1
    for powers in ((0, 0), (0, 5)):
        assert np.abs(perlin.drawn_noise(50, powers, np.random.default_rng(1))).max() < 1, "50 is divided by none"


def test_masks_are_as_large_as_the_authors() -> None:
    masks = [perlin.drawn_mask(256, 0.5, np.random.default_rng(seed)) for seed in range(400)]
    areas = np.array([mask.mean() for mask in masks])
    assert areas.mean() == pytest.approx(0.049, abs=0.005)
    assert np.median(areas) == pytest.approx(0.046, abs=0.004)
    assert (areas == 0).mean() == pytest.approx(0.043, abs=0.025)


def test_turned_means_clockwise() -> None:
    plane = np.zeros((65, 65), np.float32)
    plane[0, 32] = 1
    assert perlin.turned(plane, 90)[32, 64] == pytest.approx(1, abs=1e-5), "the top goes to the right"


def test_pasting() -> None:
    rng = np.random.default_rng(0)
    image, texture = rng.random((2, 8, 8, 3), dtype=np.float32)
    mask = rng.random((8, 8)) > 0.5
    assert np.array_equal(pasted(image, texture, mask, 0.0)[mask], texture[mask])
    assert np.array_equal(pasted(image, texture, mask, 0.7)[~mask], image[~mask])
    assert np.allclose(pasted(image, texture, mask, 0.3)[mask], 0.7 * texture[mask] + 0.3 * image[mask])
    assert np.array_equal(pasted(image, texture, mask & False, 0.5), image)


def _synthesis(**changed: Any) -> Synthesis:
    images = noise_images(5, 0).images
    values = {
        "places": np.arange(5),
        "textures": Procedural(64),
        "defect_probability": 0.5,
        "rotation_probability": 0.3,
        "rotation": 90.0,
    }
    return Synthesis(images, **(values | {"max_transparency": 0.8, "mask_threshold": 0.5} | changed))  # type: ignore[arg-type]


def test_about_48_of_100_items_have_a_defect() -> None:
    synthesis = _synthesis()
    items = [synthesis.draw(0, np.random.default_rng(seed)) for seed in range(1200)]
    defective = np.array([item.mask.any() for item in items])
    assert defective.mean() == pytest.approx(0.48, abs=0.045)
    for item in items:
        assert set(np.unique(item.mask)) <= {0.0, 1.0}
        assert np.array_equal(item.altered[item.mask == 0], item.clean[item.mask == 0])
        assert item.altered.dtype == np.float32 and item.altered.min() >= 0 and item.altered.max() <= 1
    turned = np.mean([(item.clean == 0).any() for item in items])
    assert turned == pytest.approx(0.3, abs=0.04), "corners are black"


def test_images_are_drawn_with_replacement() -> None:
    synthesis = _synthesis(rotation_probability=0.0)
    drawn = [synthesis.draw(0, np.random.default_rng(seed)).clean for seed in range(200)]
    wanted = synthesis.images.astype(np.float32) / np.float32(255)
    places = [next(place for place, image in enumerate(wanted) if np.array_equal(image, item)) for item in drawn]
    assert min(np.bincount(places, minlength=5)) > 20


def test_no_training_image_is_pasted_on_itself() -> None:
    flat = np.repeat(np.arange(4, dtype=np.uint8), 3 * 16).reshape(4, 4, 4, 3)
    source = Pictures(flat, own=True)
    rng = np.random.default_rng(0)
    seen: list[int] = []

    class _Noted:
        def __getitem__(self, place: int) -> Any:
            seen.append(place)
            return flat[place]

        def __len__(self) -> int:
            return 4

    object.__setattr__(source, "pixels", _Noted())
    for _ in range(100):
        source.draw(2, rng)
    assert set(seen) == {0, 1, 3}


def test_textures_are_drawn_from_the_generator_alone() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    before = pixels.copy()
    one, other = (altered(pixels, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one, other)
    assert np.array_equal(pixels, before)
    for operation in OPERATIONS:
        found = operation(pixels, np.random.default_rng(1))
        assert found.shape == pixels.shape and found.dtype == np.uint8
    textures = [Procedural(64).draw(0, np.random.default_rng(seed)) for seed in range(20)]
    assert min(np.ptp(texture) for texture in textures) > 20
    assert len({texture.tobytes() for texture in textures}) == 20


def test_the_score_is_the_largest_mean_of_a_box() -> None:
    flat = torch.full((1, 64, 64), 0.5)
    assert image_score(flat, 21).item() == pytest.approx(0.5, abs=1e-6)
    spike = torch.zeros(1, 64, 64)
    spike[0, 30, 30] = 0.9
    assert image_score(spike, 21).item() == pytest.approx(0.9 / 441, rel=1e-5)
    corner = torch.nn.functional.avg_pool2d(flat[:, None], 21, stride=1, padding=10)[0, 0, 0, 0]
    assert corner.item() == pytest.approx(0.5 * 0.2744, abs=1e-4)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    one, other = _predict(1), _predict(threads)
    assert np.array_equal(one.maps, other.maps)
    assert np.array_equal(one.scores, other.scores)


def test_maps_are_probabilities_of_the_images_size() -> None:
    found = DRAEM(**CHECK).fit(noise_images(3, 0, 80), Runtime()).predict(noise_images(2, 1, 80))
    assert found.maps.shape == (2, 80, 80)
    assert found.maps.min() >= 0 and found.maps.max() <= 1


def test_networks_of_a_category_see_its_images_alone(tmp_path: Path) -> None:
    values = CHECK | {"per_category": True}
    names = ["nut", "bolt", "bolt", "nut", "nut"]
    images, others = noise_images(5, 0).images, noise_images(5, 9).images
    mixed = np.where((np.array(names) == "bolt")[:, None, None, None], images, others)
    tested = ArrayImages(noise_images(3, 1).images, ["bolt", "nut", "bolt"])
    found, after = (
        DRAEM(**values).fit(ArrayImages(train, names), Runtime(seed=2)).predict(tested).maps
        for train in (images, mixed)
    )
    assert np.array_equal(found[[0, 2]], after[[0, 2]]) and not np.array_equal(found[1], after[1])
    method = DRAEM(**values).fit(ArrayImages(images, names), Runtime(seed=2))
    method.save(tmp_path)
    assert np.array_equal(DRAEM.load(tmp_path).predict(tested).maps, found)
    assert DRAEM(per_category=True).run_info.uses_categories and not DRAEM().run_info.uses_categories
    with pytest.raises(SpecError, match="a category of the training images, got 'screw'"):
        method.predict(ArrayImages(tested.images[:1], ["screw"]))


def test_the_loss_falls() -> None:
    runtime = Runtime()
    DRAEM(**(CHECK | {"iterations": 24, "learning_rate": 0.002})).fit(noise_images(8, 0), runtime)
    of_epochs = runtime.notes["losses"]["train"]["draem"]
    assert of_epochs[-1] < of_epochs[0]


def _pictures(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.RandomState(0)
    for number in range(count):
        Image.fromarray(rng.randint(0, 256, (40, 50, 3)).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_folder_of_textures_is_read_used_and_named_by_its_digest(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "textures" / "bands")
    Image.new("L", (30, 30), 99).save(folder / "grey.jpg")
    values = CHECK | {"textures": str(folder.parent)}
    runtime = Runtime()
    found = DRAEM(**values).fit(noise_images(4, 0), runtime).predict(noise_images(1, 1))
    note = runtime.notes["textures"]
    assert (note["source"], note["pictures"], note["external_data"]) == (str(folder.parent), 4, True)
    assert note["sha256"] == provenance(DRAEM, values, {})["weights"]["textures"], "as the record's provenance"
    assert not np.array_equal(
        found.maps, DRAEM(**CHECK).fit(noise_images(4, 0), Runtime()).predict(noise_images(1, 1)).maps
    )
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / "0.png")
    again = Runtime()
    DRAEM(**values).fit(noise_images(4, 0), again)
    assert again.notes["textures"]["sha256"] != note["sha256"]


@pytest.mark.parametrize("source", ["procedural", "train"])
def test_the_record_says_where_textures_come_from(source: str) -> None:
    runtime = Runtime()
    DRAEM(**(CHECK | {"textures": source})).fit(noise_images(3, 0), runtime)
    assert runtime.notes["textures"] == {"source": source, "external_data": False}


@pytest.mark.parametrize(
    ("textures", "error", "text"),
    [
        ("", SpecError, "Expected a source of textures, got none.*Describable Textures Dataset.*-p textures="),
        ("dtd", SpecError, "got 'dtd'. Write ./dtd for a folder"),
        ("/no/such/folder", DataError, "got '/no/such/folder', which is none.*-p textures="),
    ],
)
def test_no_source_of_textures(textures: str, error: type[Exception], text: str) -> None:
    method = DRAEM(**(CHECK | {"textures": textures}))
    with pytest.raises(error, match=text):
        method.check_inputs()
    with pytest.raises(error, match=text):
        method.fit(noise_images(3, 0), Runtime())


def test_a_folder_without_pictures_and_a_picture_that_is_none(tmp_path: Path) -> None:
    method = DRAEM(**(CHECK | {"textures": str(tmp_path)}))
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"got a folder without any.*-p textures="):
        method.check_inputs()
    (tmp_path / "1.png").write_bytes(b"no picture either")
    with pytest.raises(DataError, match=r"1\.png, got a file that cannot be read.*Copy it anew or take it out"):
        method.check_inputs()


def test_a_picture_cut_short_is_told_before_training(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "textures")
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    runtime = Runtime()
    with pytest.raises(DataError, match=r"1\.png, got a file that cannot be read.*Copy it anew"):
        DRAEM(**(CHECK | {"textures": str(folder)})).fit(noise_images(3, 0), runtime)
    assert "losses" not in runtime.notes


def test_other_bad_settings() -> None:
    with pytest.raises(SpecError, match="Expected two training images"):
        DRAEM(**(CHECK | {"textures": "train"})).fit(noise_images(1, 0), Runtime())
    with pytest.raises(SpecError, match="odd pool_side, got 20"):
        DRAEM(**(CHECK | {"pool_side": 20})).check_inputs()
    with pytest.raises(SpecError, match="'side'"):
        resolve(DRAEM, {"side": 100})


def test_presets_follow_the_split() -> None:
    for split in ("mvtec_step100", "visa_exp200", "dagm_exp50"):
        preset = choose_preset(DRAEM, None, split)
        assert (preset.name, preset.protocol) == ("paper", "common")
    assert resolve(DRAEM, presets(DRAEM)["paper"].parameters) == resolve(DRAEM)
