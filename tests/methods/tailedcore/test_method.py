"""TailedCore: what its memories hold, what it notes, and how it differs from the oracle and from SoftPatch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from ltbench.blocks.features.augmentation import AugmentedImages
from ltbench.blocks.features.extractor import FeatureExtractor
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.memory_bank.bank import PatchEmbedder
from ltbench.blocks.memory_bank.coreset import coreset_size, draw_start, greedy_coreset
from ltbench.blocks.memory_bank.denoising import denoised_coreset, inliers, patch_weights
from ltbench.blocks.memory_bank.projection import project
from ltbench.blocks.memory_bank.rows import in_memory
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.errors import ContractError, SpecError
from ltbench.method import Runtime
from methods.softpatch.method import SoftPatch
from methods.tailedcore import TailSampler
from methods.tailedcore.method import TailedCore
from methods.tailedcore.method_oracle import TailedCoreOracle
from methods.tailedcore.two_memories import TwoMemories

HEADS, TAILS = 30, 3
CONTAMINANTS = [4, 17]
TAIL_INDICES = [8, 20, 32]
POSITIONS = 16
SEED = 7

Patches = NDArray[np.float32]
M = TypeVar("M", bound=TwoMemories)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(seed=SEED, feature_store=DiskFeatureStore(tmp_path_factory.mktemp("features")))


@pytest.fixture(scope="module")
def train() -> ArrayImages:
    """Thirty images of stripes, two of them with a bright spot, and three of checks among them, 64 x 64."""
    rng = np.random.RandomState(0)
    y, x = np.mgrid[:64, :64]
    stripes = 110 + 40 * np.sin(x / 3)[..., None] * np.ones(3)
    checks = 140 + 60 * (np.sign(np.sin(x / 5)) * np.sign(np.sin(y / 5)))[..., None] * np.array([1.0, 0.2, -0.6])
    images = np.stack([checks if index in TAIL_INDICES else stripes for index in range(HEADS + TAILS)])
    images += rng.normal(0, 8, images.shape)
    images[CONTAMINANTS, 20:28, 20:28] = 250
    categories = ["checks" if index in TAIL_INDICES else "stripes" for index in range(HEADS + TAILS)]
    return ArrayImages(images.clip(0, 255).astype(np.uint8), categories)


@pytest.fixture(scope="module")
def patches(train: ArrayImages, runtime: Runtime) -> Patches:
    return in_memory(embedder(runtime).matrix(train)).reshape(len(train), POSITIONS, -1)


@pytest.fixture(scope="module")
def whole(train: ArrayImages, runtime: Runtime) -> TailedCore:
    """TailedCore that keeps all patches it does not take for outliers."""
    return make(TailedCore, coreset_ratio=1.0).fit(train, fresh(runtime))


def embedder(runtime: Runtime) -> PatchEmbedder:
    return PatchEmbedder("tf_efficientnet_lite0", (2, 3), "pretrained", "pooled", 1024, runtime=fresh(runtime))


def fresh(runtime: Runtime) -> Runtime:
    """Return the runtime with a feature store of its own session and no notes."""
    return Runtime(seed=SEED, feature_store=runtime.feature_store)


def make(method: type[M], **values: Any) -> M:
    return method(**resolve(method, presets(method)["offline"].parameters, values))


def memory(method: TwoMemories) -> Patches:
    rows: Patches = method.memory_.arrays()["memory"]
    return rows


def held(method: TwoMemories, rows: Patches) -> NDArray[np.bool_]:
    """Return which rows are, bit for bit, in a method's memory."""
    known = {row.tobytes() for row in memory(method)}
    return np.array([row.tobytes() in known for row in rows])


def test_all_patches_of_tail_images_and_their_views_are_kept(
    whole: TailedCore, train: ArrayImages, runtime: Runtime
) -> None:
    views = in_memory(embedder(runtime).matrix(AugmentedImages(train, TAIL_INDICES, "rotflip")))
    assert len(views) == TAILS * 8 * POSITIONS
    assert held(whole, views).all()


def test_noise_is_not_kept(whole: TailedCore, patches: Patches) -> None:
    spot = 5  # pixels 16 to 32: row 1, column 1 of the grid of 4 x 4
    assert not held(whole, patches[CONTAMINANTS, spot]).any()
    sound = [index for index in range(HEADS + TAILS) if index not in CONTAMINANTS + TAIL_INDICES]
    assert held(whole, patches[sound, spot]).all()


def test_without_the_tail_memory_tails_are_lost(train: ArrayImages, patches: Patches, runtime: Runtime) -> None:
    clean = make(TailedCore, coreset_ratio=1.0, memories="clean").fit(train, fresh(runtime))
    assert held(clean, patches[TAIL_INDICES].reshape(-1, patches.shape[2])).mean() < 0.2
    assert len(memory(clean)) == int(0.85 * (HEADS + TAILS) * POSITIONS)


def test_without_the_clean_memory_only_tails_are_kept(train: ArrayImages, patches: Patches, runtime: Runtime) -> None:
    tail = make(TailedCore, coreset_ratio=1.0, memories="tail", augmentation="none").fit(train, fresh(runtime))
    expected = patches[TAIL_INDICES].reshape(-1, patches.shape[2])
    np.testing.assert_array_equal(memory(tail), expected)


def test_the_memory_is_what_the_parts_give_in_the_documented_order_of_draws(
    train: ArrayImages, patches: Patches, runtime: Runtime
) -> None:
    method = make(TailedCore, augmentation="rot30flip", weight_dim=32, projection_dim=64).fit(train, fresh(runtime))
    rng = np.random.RandomState(SEED)
    rows = patches.reshape(-1, patches.shape[2])
    keep = inliers(patch_weights(rows, POSITIONS, rng=rng, lof_k=6, projection_dim=32), 0.15)
    clean = rows[denoised_coreset(rows, keep, 0.1, projection_dim=64, rng=rng)]
    views = embedder(runtime).matrix(AugmentedImages(train, TAIL_INDICES, "rot30flip"))
    projected = in_memory(project(views, 64, rng))
    picks = greedy_coreset(projected, coreset_size(0.1, len(views)), start=draw_start(len(views), rng))
    np.testing.assert_array_equal(memory(method), np.concatenate([views[np.sort(picks)], clean]))


def test_a_feature_store_changes_nothing(whole: TailedCore, train: ArrayImages) -> None:
    without = make(TailedCore, coreset_ratio=1.0).fit(train, Runtime(seed=SEED))
    np.testing.assert_array_equal(memory(without), memory(whole))


def test_notes_say_what_was_found(train: ArrayImages, runtime: Runtime) -> None:
    own = fresh(runtime)
    method = make(TailedCore).fit(train, own)
    level = FeatureExtractor("tf_efficientnet_lite0", (4,), runtime=fresh(runtime))
    sampler = TailSampler().fit(np.stack([maps[0].mean(axis=(1, 2)) for maps in level.extract(train)]))
    notes = json.loads(json.dumps(own.notes))
    assert notes["tails"] == {
        "indices": TAIL_INDICES,
        "max_tail_size": 3,
        "elbow_size": 30,  # of two categories the chord has no bend
        "cap_size": 3,
        "class_sizes": [30, 3],
        "kappa": sampler.kappa_.tolist(),
    }
    kept = notes["memories"]
    assert set(kept) == {"tail", "clean"}
    assert sum(bank["patches"] for bank in kept.values()) == len(memory(method))
    assert kept["tail"]["patches"] == int(0.1 * TAILS * 8 * POSITIONS)
    assert kept["clean"]["patches"] == int(0.1 * int(0.85 * (HEADS + TAILS) * POSITIONS))
    for bank in kept.values():
        assert len(bank["by_image"]) == len(train)
        assert sum(bank["by_image"]) == bank["patches"]
    assert [index for index, count in enumerate(kept["tail"]["by_image"]) if count] == TAIL_INDICES
    assert notes["backbone"]["layers"] == [2, 3]


def test_notes_count_the_patches_of_each_image(whole: TailedCore, train: ArrayImages, runtime: Runtime) -> None:
    own = fresh(runtime)
    make(TailedCore, coreset_ratio=1.0).fit(train, own)
    rows = own.notes["memories"]["clean"]["by_image"]
    clean = memory(whole)[-sum(rows) :]
    known = {row.tobytes() for row in clean}
    patches = in_memory(embedder(runtime).matrix(train)).reshape(len(train), POSITIONS, -1)
    assert rows == [sum(patch.tobytes() in known for patch in image) for image in patches]
    assert own.notes["memories"]["tail"]["by_image"] == [
        8 * POSITIONS if index in TAIL_INDICES else 0 for index in range(len(train))
    ]


def test_one_memory_alone_is_softpatch_without_weights(train: ArrayImages, runtime: Runtime) -> None:
    ours = make(TailedCore, memories="clean").fit(train, fresh(runtime))
    values = {**presets(SoftPatch)["offline"].parameters, "soft_weight": False}
    theirs = SoftPatch(**resolve(SoftPatch, values)).fit(train, fresh(runtime))
    for found, expected in zip(_arrays(ours, train), _arrays(theirs, train), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_test_image_scores_by_its_nearest_patch(
    whole: TailedCore, train: ArrayImages, patches: Patches, runtime: Runtime
) -> None:
    scores = whole.predict(train).scores
    distances = ((patches[CONTAMINANTS[0]][:, None] - memory(whole)) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(scores[CONTAMINANTS[0]], distances.max(), rtol=1e-5)
    np.testing.assert_array_equal(scores[TAIL_INDICES], 0)  # they are in the memory themselves


def test_a_saved_method_predicts_the_same(whole: TailedCore, train: ArrayImages, tmp_path: Path) -> None:
    whole.save(tmp_path)
    loaded = TailedCore.load(tmp_path)
    assert (loaded.seed_, len(loaded.memory_)) == (SEED, len(whole.memory_))
    np.testing.assert_array_equal(loaded.predict(train).maps, whole.predict(train).maps)


def test_the_oracle_holds_the_true_tails(train: ArrayImages, runtime: Runtime, whole: TailedCore) -> None:
    own = fresh(runtime)
    oracle = make(TailedCoreOracle, coreset_ratio=1.0).fit(train, own)
    np.testing.assert_array_equal(memory(oracle), memory(whole))  # here TailSampler finds them all
    assert own.notes["tails"] == {
        "indices": TAIL_INDICES,
        "max_tail_size": 19,
        "class_sizes": [30, 3],
        "kappa": [3 if index in TAIL_INDICES else 30 for index in range(len(train))],
    }


def test_only_the_oracle_is_told_categories(train: ArrayImages, runtime: Runtime) -> None:
    assert TailedCoreOracle.info.uses_categories
    assert not TailedCore.info.uses_categories
    blind = ArrayImages(train.images)
    make(TailedCore).fit(blind, fresh(runtime))
    with pytest.raises(ContractError, match="categories"):
        make(TailedCoreOracle).fit(blind, fresh(runtime))


def test_without_tails_there_is_the_clean_memory_alone(train: ArrayImages, runtime: Runtime) -> None:
    own = fresh(runtime)
    oracle = make(TailedCoreOracle, max_tail_size=2).fit(train, own)
    clean = make(TailedCore, memories="clean").fit(train, fresh(runtime))
    np.testing.assert_array_equal(memory(oracle), memory(clean))
    assert set(own.notes["memories"]) == {"clean"}
    with pytest.raises(SpecError, match="Expected tail images"):
        make(TailedCoreOracle, max_tail_size=2, memories="tail").fit(train, fresh(runtime))


@pytest.mark.parametrize(
    ("split", "preset", "augmentation"),
    [
        ("mvtec_k4_noisy10_seed1", "paper_mvtec_step", "rot15flip"),
        ("mvtec_k1_noisy10_official3", "paper_mvtec_step", "rot15flip"),
        ("mvtec_pareto_noisy10_seed5", "paper_mvtec_pareto", "rot30flip"),
        ("visa_k4_noisy05_seed1", "paper_visa", "rotflip"),
        ("visa_pareto_noisy05_official2", "paper_visa", "rotflip"),
    ],
)
@pytest.mark.parametrize("method", [TailedCore, TailedCoreOracle])
def test_each_benchmark_has_its_preset(
    method: type[TwoMemories], split: str, preset: str, augmentation: Sequence[str]
) -> None:
    chosen = choose_preset(method, None, split)
    assert (chosen.name, chosen.protocol) == (preset, "tailedcore")
    values = resolve(method, chosen.parameters)
    assert values["augmentation"] == augmentation
    published = {
        "backbone": "wide_resnet50_2.tv_in1k",
        "weights": "pretrained",
        "backbone_precision": "float32",
        "layers": (2, 3),
        "embedding": "official",
        "embed_dim": 1024,
        "memories": "both",
        "lof_k": 6,
        "weight_dim": 128,
        "outlier_share": 0.15,
        "coreset_ratio": 0.1,
        "projection_dim": 128,
        "patch_precision": "float32",
        "smoothing_sigma": 4.0,
    }
    sampler = {"sampler_layer": 4, "p": 0.85, "vote_direction": "reverse", "quantize": True, "cap": 0.15}
    sampler |= {"threshold": "trim_min", "vote": "mode"}
    own = sampler if method is TailedCore else {"max_tail_size": 19}
    assert values == {**published, **own, "augmentation": augmentation}


def test_both_methods_have_the_same_presets() -> None:
    assert presets(TailedCore) == presets(TailedCoreOracle)


def _arrays(method: TailedCore | SoftPatch, images: ArrayImages) -> tuple[Patches, Patches]:
    prediction = method.predict(images)
    return prediction.scores, prediction.maps
