"""AnomalyGPT as a whole: decoder, memory, what it is told, what it trains, and that it goes on where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.training.draws import Draws
from ltbench.blocks.training.learner import Shard
from ltbench.blocks.vision_language import load_reader
from ltbench.blocks.vision_language.clip_network import Clip
from ltbench.blocks.vision_language.clip_weights import CLIPS
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.contract.subject import Subject, select
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, DataError, SpecError
from ltbench.method import Runtime
from methods.anomalygpt.data import Clean, loss_of
from methods.anomalygpt.decoder import Decoder, abnormal_logits, decoded_map, layer_loss, remembered_map
from methods.anomalygpt.method import AnomalyGPT
from methods.anomalygpt.synthesis import Example

SCRIPT = Path(__file__).with_name("anomalygpt_run.py")
GRIDS, SIZE = [(4, 4)] * 3, (64, 64)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(AnomalyGPT, presets(AnomalyGPT))


def fitted(subject: Subject, train: Any = None, runtime: Runtime | None = None, **values: Any) -> AnomalyGPT:
    few = subject.parameters | {"iterations": 2} | values
    return AnomalyGPT(**few).fit(train or subject.train, runtime or Runtime())


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(random(*shape, seed=seed), dim=-1)


def test_trained_values_of_the_paper() -> None:
    decoder = Decoder([1280] * 4, 1024, seed=0)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 5_246_976
    first, again, other = (Decoder([20], 8, seed=seed).state_dict()["layers.0.weight"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(again, other)


def test_maps_of_a_decoder() -> None:
    decoded, texts = [random(1, 16, 24, seed=seed) for seed in range(3)], unit(1, 2, 24, seed=9)
    found = decoded_map(decoded, texts, GRIDS, SIZE)
    assert found.shape == (1, *SIZE)
    assert found.min() > 0
    assert found.max() < 1
    assert torch.allclose(decoded_map(decoded, texts.flip(1), GRIDS, SIZE), 1 - found, atol=1e-6)
    same = texts[:, :1].expand(-1, 2, -1)
    assert torch.equal(decoded_map(decoded, same, GRIDS, SIZE), torch.full((1, *SIZE), 0.5))
    assert torch.allclose(decoded_map([7 * own for own in decoded], texts, GRIDS, SIZE), found, atol=1e-5)
    cosines = torch.nn.functional.normalize(decoded[0], dim=-1) @ texts[0].T
    corners = (100 * cosines).softmax(dim=-1)[0, [0, 3, 12, 15], 1]
    one = torch.sigmoid(abnormal_logits(decoded[0], texts, (4, 4), SIZE))[0]
    assert torch.allclose(one[[0, 0, 63, 63], [0, 63, 0, 63]], corners, atol=1e-5)


def test_maps_of_a_memory() -> None:
    tokens = [random(1, 16, 20, seed=seed) for seed in range(3)]
    memory = [unit(40, 20, seed=seed + 10) for seed in range(3)]
    found = remembered_map(tokens, memory, GRIDS, SIZE)
    assert found.min() >= 0
    assert found.max() <= 2
    own = [torch.nn.functional.normalize(token[0], dim=-1) for token in tokens]
    assert remembered_map(tokens, own, GRIDS, SIZE).abs().max() < 1e-6
    opposite = remembered_map(tokens, [-token[:1] for token in own], GRIDS, SIZE)
    assert opposite.max() <= 2 + 1e-6
    larger = remembered_map(tokens, [torch.cat(both) for both in zip(memory, own, strict=True)], GRIDS, SIZE)
    assert (larger <= found + 1e-6).all()
    assert torch.equal(remembered_map(tokens, [kept.flip(0) for kept in memory], GRIDS, SIZE), found)


def test_only_the_decoder_is_trained(subject: Subject) -> None:
    method = fitted(subject)
    assert method.decoder_ is not None
    network: Clip = method._model.network  # type: ignore[attr-defined]
    assert method._model.facts() == load_reader("tiny-clip", runtime=Runtime()).facts()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    start = Decoder([32] * 3, 24, seed=0).state_dict()
    assert all(not torch.equal(start[key], value) for key, value in method.decoder_.state_dict().items())


def test_clean_images_are_trained_on_with_an_empty_mask(subject: Subject) -> None:
    reader, texts = load_reader("tiny-clip", runtime=Runtime()), unit(12, 2, 24)
    data = Clean.read(subject.train, reader, (1, 3), 64, texts, Runtime())
    assert np.array_equal(data.pixels, subject.train.images)
    decoder, mask = Decoder([32, 32], 24, seed=0), np.zeros((64, 64), np.bool_)
    mask[20:40, 20:40] = True
    indices = np.array([3, 5])
    shard = Shard(indices, Draws(0), Draws(0), prepared=[Example(subject.defective[place], mask) for place in (0, 1)])
    found = loss_of(decoder, reader, data, (1.0, 2.0), shard)
    seen = torch.from_numpy(np.concatenate([subject.train.images[indices], subject.defective.images[:2]]))
    masks = torch.from_numpy(np.stack([np.zeros_like(mask)] * 2 + [mask] * 2)).float()
    wanted = torch.zeros(())
    with torch.no_grad():
        for layer, tokens, scale in zip(decoder.layers, reader.tokens(seen, (1, 3)), (1.0, 2.0), strict=True):
            logits = abnormal_logits(layer(tokens / scale), texts[indices].repeat(2, 1, 1), (4, 4), (64, 64))
            wanted = wanted + layer_loss(logits, masks)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_an_images_score_is_the_maximum_of_its_map(subject: Subject) -> None:
    for method in (fitted(subject), fitted(subject, shots=1)):
        found = method.predict(subject.defective)
        assert np.array_equal(found.scores, found.maps.max(axis=(1, 2)))


def test_an_image_in_the_memory_is_normal(subject: Subject) -> None:
    alone = select(subject.train, [0])
    assert fitted(subject, alone, shots=1).predict(alone).scores[0] < 1e-5
    assert fitted(subject, shots=20).memories_["grid"][0].shape == (6 * 16, 32), "no more than there are"
    with pytest.raises(SpecError, match="a category with normal images, got 'stripes'"):
        fitted(subject, alone, shots=1).predict(subject.good)


def test_what_a_run_is_told(subject: Subject) -> None:
    blind = ArrayImages(subject.train.images)
    assert AnomalyGPT().run_info.uses_categories
    assert AnomalyGPT(prompt_class="object", shots=1).run_info.uses_categories, "normal images are a category's"
    trained = AnomalyGPT(prompt_class="object").run_info
    assert (trained.uses_categories, trained.uses_training_categories) == (False, True)
    free = AnomalyGPT(prompt_class="object", simulation="visa").run_info
    assert (free.uses_categories, free.uses_training_categories) == (False, False)
    for values in ({}, {"prompt_class": "object"}, {"shots": 1}):
        with pytest.raises(ContractError):
            fitted(subject, blind, **values)
    method = fitted(subject, blind, prompt_class="object", simulation="visa")
    found = method.predict(ArrayImages(subject.defective.images))
    renamed = ArrayImages(subject.defective.images, ["anything"] * 4)
    assert np.array_equal(method.predict(renamed).maps, found.maps)


def test_names_in_test(subject: Subject) -> None:
    images = ArrayImages(subject.defective.images[:1].repeat(3, axis=0), ["pcb1", "pcb2", "pcb"])
    same, described = (fitted(subject, test_names=names).predict(images).maps for names in ("same", "described"))
    assert not np.array_equal(same[0], same[1])
    assert np.array_equal(described[0], described[1])
    assert np.array_equal(described[0], same[2])


def test_names_in_test_are_the_authors_where_a_split_asks_for_it() -> None:
    described = {name: own for name, own in presets(AnomalyGPT).items() if "test_names" in own.parameters}
    assert described
    for name, own in described.items():
        assert own.splits, f"{name} would rename folders of any dataset"


def test_texts_and_clean_patches_are_read_once(subject: Subject, tmp_path: Path, monkeypatch: Any) -> None:
    runtime = Runtime(feature_store=DiskFeatureStore(tmp_path))
    found = fitted(subject, runtime=runtime).predict(subject.defective)
    from ltbench.blocks.vision_language.clip import ClipReader, ClipText

    def never(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(ClipText, "encode_texts", never)
    monkeypatch.setattr(ClipReader, "read", never)
    assert np.array_equal(fitted(subject, runtime=runtime).predict(subject.defective).maps, found.maps)


def test_a_file_of_imagebind_is_asked_for_when_a_run_is_planned() -> None:
    with pytest.raises(DataError, match=r"got none, and no hub has them. Download .*-p weights=FILE"):
        AnomalyGPT().check_inputs()
    with pytest.raises(DataError, match="got /no/such/file, which is not there"):
        AnomalyGPT(weights="/no/such/file").check_inputs()
    with pytest.raises(DataError, match="no hub has them"):
        AnomalyGPT().fit(ArrayImages(np.zeros((2, 224, 224, 3), np.uint8), ["a", "b"]), Runtime())
    AnomalyGPT(model="ViT-H-14/laion2b_s32b_b79k").check_inputs()
    AnomalyGPT(model="packaged-lite0").check_inputs()
    with pytest.raises(SpecError, match="different blocks"):
        AnomalyGPT(blocks=(1, 1)).fit(ArrayImages(np.zeros((1, 64, 64, 3), np.uint8)), Runtime())


@pytest.mark.parametrize(
    ("split", "preset"), [("mvtec_exp100", "paper"), ("visa_step500", "paper"), ("dagm_exp100", "paper_dagm")]
)
def test_presets_of_splits(split: str, preset: str) -> None:
    chosen = choose_preset(AnomalyGPT, None, split)
    assert chosen.name == preset
    values = resolve(AnomalyGPT, chosen.parameters)
    assert (values["model"], values["shots"], values["prompt_class"]) == ("imagebind-huge", 0, "name")


def test_a_network_of_maps_has_a_grid_for_each_block(subject: Subject) -> None:
    found = fitted(subject, model="tiny", blocks=(2, 3, 5, -1), token_scale="rms")
    assert found.decoder_ is not None
    widths = [own.shape[1] for own in found.decoder_.state_dict().values() if own.ndim == 2]
    assert widths == [8, 8, 16, 32]
    assert len(set(found.scales_)) == 4
    assert min(found.scales_) > 0
    assert [found._model.grid((64, 64), block)[0] for block in found.blocks] == [16, 8, 4, 2]
    assert found.predict(subject.good).maps.shape == (4, 64, 64)


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """A process is killed (-9) on its way; what the next one predicts is what an undisturbed one does."""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3]), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    file = tmp_path / "checkpoints" / "train.safetensors"
    process = subprocess.Popen(command, env=env)
    while process.poll() is None and not file.exists():
        time.sleep(0.002)
    assert process.poll() is None, "killed on the way"
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, env=env, check=True)
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import anomalygpt_run  # type: ignore[import-not-found]

        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        wanted: Prediction = anomalygpt_run.predicted(Runtime(seed=1))
    finally:
        torch.set_num_threads(usual)
        sys.path.remove(str(SCRIPT.parent))
    assert np.array_equal(np.load(tmp_path / "maps.npy"), wanted.maps), "killed, and on another number of threads"


@pytest.mark.slow
def test_the_papers_size_reads_images_and_trains_its_decoder() -> None:
    """ImageBind-Huge with random weights: a text, a forward pass of two images, and gradients of the decoder."""
    pytest.importorskip("open_clip")
    reader = load_reader("imagebind-huge", "random", runtime=Runtime())
    network: Clip = reader.network  # type: ignore[attr-defined]
    vision = sum(parameter.numel() for parameter in network.visual.parameters())
    assert vision == pytest.approx(632.1e6, abs=0.05e6)
    assert sum(p.numel() for p in network.parameters()) - vision == pytest.approx(354.0e6, abs=0.05e6)
    assert CLIPS["imagebind-huge"].shape.norm_eps == 1e-6
    images = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = reader.tokens(images, (8, 16, 24, 32))
        texts = torch.nn.functional.normalize(reader.text.encode_texts(["a photo of a nut.", "a broken nut"]), dim=-1)
    assert [own.shape for own in tokens] == [(2, 256, 1280)] * 4
    decoder = Decoder([1280] * 4, 1024, seed=0)
    maps = decoded_map(decoder(tokens), texts[None].expand(2, -1, -1), [(16, 16)] * 4, (224, 224))
    gradients = torch.autograd.grad(maps.sum(), list(decoder.parameters()))
    assert maps.shape == (2, 224, 224)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
