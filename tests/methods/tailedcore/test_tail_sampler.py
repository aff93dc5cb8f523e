"""TailSampler: the authors' program's results, exactness of the similarities, and what must not change a result.

The goldens in ../shared were obtained by running the authors' released program (float32 similarities of one matrix
product). Where kappa may differ for a few images, a similarity lies within float32 rounding of a threshold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltbench.blocks.tails.cosine import CosineBlocks, half_angle
from ltbench.errors import ContractError, SpecError
from methods.tailedcore import TailSampler, tail_sampler
from methods.tailedcore.tail_sampler import cap_size, class_sizes, elbow_size, trimmed_threshold
from tests.shared import SHARED

ROOT = Path(__file__).resolve().parents[3]
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared")

FLOAT32_NOISE = 5e-7  # of a float32 product of unit rows, d up to 256
MANY_PAIRS = ("C", "C1", "D")  # cases with so many pairs that some lie within rounding of a threshold

Floats = NDArray[np.floating[Any]]


def load_json(*parts: str) -> Any:
    path = SHARED.joinpath(*parts)
    return json.loads(path.read_text()) if path.exists() else {}


def blobs(sizes: list[int], d: int, sigma: float, seed: int, kind: str) -> Floats:
    random = np.random.RandomState(seed)
    centres = np.eye(len(sizes), d) if kind == "eye" else random.randn(len(sizes), d) / np.sqrt(d)
    return np.concatenate([c + sigma * random.randn(s, d) for c, s in zip(centres, sizes, strict=True)])


def blobs2(sizes: list[int], d: int, sig: float, seed: int, offset: float) -> Floats:
    random = np.random.RandomState(seed)
    centres = random.randn(len(sizes), d) / np.sqrt(d) + offset
    spreads = sig * (0.5 + random.rand(len(sizes)))
    return np.concatenate([c + w * random.randn(s, d) for c, w, s in zip(centres, spreads, sizes, strict=True)])


def golden_embeddings(case: dict[str, Any]) -> NDArray[np.float32]:
    if case["recipe"] == "blobs2":
        X = blobs2(**case["params"])
    else:
        X = blobs(**case["params"], kind=case["recipe"].split()[1])
    assert X.sum() == pytest.approx(case["X_sum"], rel=1e-6)
    return X.astype(np.float32)


def similarities(E: Floats, block_bytes: int = 2**30) -> NDArray[np.float32]:
    return np.concatenate([S.copy() for _, S in CosineBlocks(E, block_bytes)])


def unequal(a: NDArray[Any], b: list[float]) -> float:
    return float(np.mean(a != np.array(b)))


def assert_same(a: TailSampler, b: TailSampler) -> None:
    for name in ("thresholds_", "neighbour_counts_", "kappa_", "class_sizes_", "tail_indices_"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.elbow_size_, a.cap_size_, a.max_tail_size_) == (b.elbow_size_, b.cap_size_, b.max_tail_size_)


# --- the authors' program


@needs_shared
@pytest.mark.parametrize("name", load_json("specs", "golden_tailsampler.json"))
def test_golden_of_the_released_program(name: str) -> None:
    case = load_json("specs", "golden_tailsampler.json")[name]
    E = golden_embeddings(case)
    sampler = TailSampler().fit(E)
    noisy = name in MANY_PAIRS
    assert unequal(sampler.kappa_, case["kappa"]) <= (0.03 if noisy else 0)
    assert sampler.kappa_.sum() == pytest.approx(sum(case["kappa"]), rel=5e-4 if noisy else 0)
    assert sampler.class_sizes_.tolist() == case["eta"]
    assert (sampler.elbow_size_, sampler.cap_size_) == (case["elbow"], case["cap"])
    assert sampler.max_tail_size_ == case["max_K"]
    assert sampler.tail_indices_.tolist() == case["tail"]
    # The goldens' thresholds have six digits; a self-similarity of 0.9999999 moves one to the next multiple of 1/n.
    assert np.abs(sampler.thresholds_ - case["theta"]).max() <= 1 / len(E) + 1e-6


@needs_shared
@pytest.mark.parametrize("name", load_json("specs", "golden_tailsampler.json"))
def test_neighbourhoods_differ_from_the_goldens_only_by_pairs_at_the_threshold(name: str) -> None:
    case = load_json("specs", "golden_tailsampler.json")[name]
    E = golden_embeddings(case)
    sampler = TailSampler().fit(E)
    differences = np.abs(sampler.neighbour_counts_ - np.array(case["N"]))
    at_threshold = np.abs(similarities(E) - sampler.thresholds_[:, None]) <= FLOAT32_NOISE
    assert (differences <= at_threshold.sum(axis=1)).all()
    assert name in MANY_PAIRS or not differences.any()
    assert np.count_nonzero(differences) <= 4


class Float32Product:
    """Similarities as the authors' program computes them, from one float32 matrix product of torch."""

    def __init__(self, E: NDArray[np.float32], block_bytes: int) -> None:
        X = torch.nn.functional.normalize(torch.from_numpy(E), dim=-1)
        self.S = (X @ X.T).clamp(-1, 1).fill_diagonal_(1).numpy()

    def __len__(self) -> int:
        return len(self.S)

    def __iter__(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        yield slice(0, len(self.S)), self.S


@needs_shared
@pytest.mark.parametrize("name", load_json("specs", "golden_tailsampler.json"))
def test_golden_exactly_where_float32_products_round_as_the_authors_did(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = load_json("specs", "golden_tailsampler.json")[name]
    E = golden_embeddings(case)
    monkeypatch.setattr(tail_sampler, "CosineBlocks", Float32Product)
    reverse, forward = TailSampler().fit(E), TailSampler(vote_direction="forward").fit(E)
    if reverse.neighbour_counts_.tolist() != case["N"]:
        pytest.skip("torch's float32 product rounds differently on this processor")
    assert reverse.kappa_.tolist() == case["kappa"]
    assert reverse.class_sizes_.tolist() == case["eta"]
    assert reverse.tail_indices_.tolist() == case["tail"]
    assert forward.kappa_.tolist() == case["kappa_forward"]
    assert forward.class_sizes_.tolist() == case["eta_forward"]
    assert forward.tail_indices_.tolist() == case["tail_forward"]


@needs_shared
@pytest.mark.parametrize("name", load_json("specs", "golden_tailsampler.json"))
def test_golden_of_the_papers_vote(name: str) -> None:
    case = load_json("specs", "golden_tailsampler.json")[name]
    sampler = TailSampler(vote_direction="forward").fit(golden_embeddings(case))
    noisy = name in MANY_PAIRS
    assert unequal(sampler.kappa_, case["kappa_forward"]) <= (0.035 if noisy else 0)
    assert sampler.max_tail_size_ == case["max_K_forward"]
    assert sampler.tail_indices_.tolist() == case["tail_forward"]
    assert len(sampler.class_sizes_) == len(case["eta_forward"])
    # Of 1,777 images, C's largest category (a merger of two) comes out as 657, against 656 in float32.
    assert np.abs(sampler.class_sizes_ - np.array(case["eta_forward"])).max() <= (1 if noisy else 0)


@needs_shared
@pytest.mark.parametrize("name", load_json("specs", "golden_tailsampler.json"))
def test_golden_without_trimming(name: str) -> None:
    case = load_json("specs", "golden_tailsampler.json")[name]
    sampler = TailSampler(threshold="half_min").fit(golden_embeddings(case))
    assert sampler.kappa_.tolist() == case["kappa_half_min"]


@needs_shared
@pytest.mark.parametrize("split", load_json("splits", "oracle_tail_golden.json") or [], ids=lambda s: str(s["name"]))
def test_oracle_on_the_published_splits(split: dict[str, Any]) -> None:
    sizes = {s["name"]: s for s in load_json("splits", "oracle_tail_golden.json")}[split["name"]]["eta"]
    sampler = TailSampler().fit_sizes(np.repeat(sizes, sizes))
    assert sampler.class_sizes_.tolist() == split["eta"]
    assert (sampler.elbow_size_, sampler.cap_size_) == (split["elbow"], split["pct15"])
    assert sampler.max_tail_size_ == split["max_K"]
    assert len(sampler.tail_indices_) == split["n_pred_tail_images"]
    assert sum(size <= sampler.max_tail_size_ for size in sizes) == split["n_pred_tail_classes"]


@needs_shared
@pytest.mark.parametrize("name", ["industrial7_ref1", "industrial8_ref0", "industrial8_ref2"])
def test_embeddings_of_real_images(name: str) -> None:
    with np.load(SHARED / "reference" / f"tailsampler_{name}.npz", allow_pickle=False) as golden:
        sampler = TailSampler().fit(golden["E"])
        np.testing.assert_array_equal(sampler.kappa_, golden["kappa"])
        np.testing.assert_array_equal(sampler.class_sizes_, golden["eta"])
        np.testing.assert_array_equal(sampler.tail_indices_, golden["tail"])
        assert np.abs(sampler.thresholds_ - golden["theta"]).max() <= 1 / len(golden["E"])
        assert (sampler.elbow_size_, sampler.cap_size_) == (golden["elbow"], golden["cap"])
        assert sampler.max_tail_size_ == golden["max_K"]


# --- by hand


def test_two_directions() -> None:
    sampler = TailSampler().fit(np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 2))
    assert (sampler.thresholds_ == 1).all()
    assert sampler.kappa_.tolist() == [4, 4, 4, 4, 2, 2]
    assert sampler.class_sizes_.tolist() == [4, 2]
    assert (sampler.elbow_size_, sampler.cap_size_, sampler.max_tail_size_) == (4, 2, 2)
    assert sampler.tail_indices_.tolist() == [4, 5]


def test_three_directions() -> None:
    sampler = TailSampler().fit(np.repeat(np.eye(3), [7, 2, 1], axis=0))
    assert sampler.kappa_.tolist() == [7] * 7 + [2, 2, 1]
    assert sampler.class_sizes_.tolist() == [7, 2, 1]
    assert (sampler.elbow_size_, sampler.cap_size_, sampler.max_tail_size_) == (2, 1, 1)
    assert sampler.tail_indices_.tolist() == [9]


def test_directions_in_a_plane() -> None:
    degrees = np.deg2rad([0, 2, 4, 6, 90, 92, 45.5])
    sampler = TailSampler().fit(np.stack([np.cos(degrees), np.sin(degrees)], axis=1))
    np.testing.assert_allclose(sampler.thresholds_[:5], [6 / 7] * 4 + [1], atol=1e-6)
    assert sampler.neighbour_counts_.sum() == 19
    assert sampler.kappa_.tolist() == [4, 4, 4, 4, 1, 1, 1]
    assert sampler.class_sizes_.tolist() == [4, 1, 1, 1]
    assert (sampler.elbow_size_, sampler.cap_size_, sampler.max_tail_size_) == (1, 1, 1)
    assert sampler.tail_indices_.tolist() == [4, 5, 6]


def test_two_orthogonal_embeddings_are_two_tails() -> None:
    sampler = TailSampler().fit(np.eye(2))
    assert sampler.kappa_.tolist() == [1, 1]
    assert sampler.class_sizes_.tolist() == [1, 1]
    assert sampler.max_tail_size_ == 1
    assert sampler.tail_indices_.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("row", "theta"),
    [
        ([1, 0.9, 0.85, 0.8, 0.2, 0.1, 0.1, 0.05, 0, 0.3], 0.8),
        ([1, 0.5, 0.4, 0.3], 1.0),
        ([1, 0.99, 0.98, 0.97, 0.1, 0.1], 5 / 6),
        ([1, -0.2, -0.1, 0.95], 1.0),  # truncated towards zero: the least is 0, not -1/4
        ([1, 1, 1], 1.0),  # empty region
    ],
)
def test_threshold(row: list[float], theta: float) -> None:
    assert trimmed_threshold(np.array(row, np.float32), 0.85, quantize=True) == pytest.approx(theta, abs=1e-6)


@pytest.mark.parametrize(("length", "kept"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 5), (20, 17)])
def test_threshold_keeps_the_floor_of_p_times_the_region(length: int, kept: int) -> None:
    region = np.linspace(1, 0.9, length)
    row = np.concatenate([region, [0.0]]).astype(np.float32)
    assert trimmed_threshold(row, 0.85, quantize=False) == np.float32(region[kept - 1])


def test_threshold_of_nothing_kept_is_the_farthest_of_the_region() -> None:
    row = np.array([1, 0.9, 0.8, 0], np.float32)
    assert trimmed_threshold(row, 0.3, quantize=False) == np.float32(0.8)


@pytest.mark.parametrize(("cosine", "half"), [(1, 1), (0, np.cos(np.pi / 4)), (-1, 0), (-0.5, 0.5)])
def test_half_angle(cosine: float, half: float) -> None:
    assert half_angle(np.float32(cosine)) == pytest.approx(half, abs=1e-7)


@pytest.mark.parametrize(
    ("kappa", "sizes", "elbow", "cap", "max_size", "tails"),
    [
        ([4] * 8 + [1] * 3 + [40] * 40, [40, 4, 4, 1, 1, 1], 4, 4, 4, 11),
        ([1] * 4, [1, 1, 1, 1], 1, 1, 1, 4),
        ([5] * 5, [5], 5, 5, 5, 5),
        ([3] * 7, [4, 3], 4, 3, 3, 7),
        ([2.4, 2.6, 2.5] + [10] * 9, [10, 2], 10, 2, 2, 0),
        ([1, 2, 2, 3, 3, 3] + [50] * 50, [50, 3, 2, 1], 3, 3, 3, 6),
        ([4] * 36 + [240] * 240 + [430] * 430 + [66] * 66, [430, 240, 66] + [4] * 9, 4, 66, 4, 36),
        ([3, 3], [2], 2, 2, 2, 0),  # the first window is already too long: one category of all
        ([0.2, -3], [1, 1], 1, 1, 1, 2),  # sizes below 1 count as 1
    ],
)
def test_tails_of_given_sizes(
    kappa: list[float], sizes: list[int], elbow: int, cap: int, max_size: int, tails: int
) -> None:
    sampler = TailSampler().fit_sizes(kappa)
    assert sampler.class_sizes_.tolist() == sizes
    assert (sampler.elbow_size_, sampler.cap_size_, sampler.max_tail_size_) == (elbow, cap, max_size)
    assert len(sampler.tail_indices_) == tails


@pytest.mark.parametrize(
    ("sizes", "elbow", "cap", "max_size"),
    [
        ([264, 160, 100, 65, 43, 29, 20, 14, 10, 7, 5, 5, 5, 5, 5], 43, 29, 29),
        ([430, 352, 253, 246, 241, 66] + [4] * 9, 4, 66, 4),
        ([430, 352, 253, 246, 241, 66] + [1] * 9, 1, 66, 1),
        ([100, 90, 80, 4, 4, 4], 4, 4, 4),
        ([10, 10, 10], 10, 10, 10),
        ([50, 5], 50, 5, 5),
        ([7], 7, 7, 7),
        (list(range(9, 0, -1)), 9, 3, 3),
        ([900, 486, 276, 163, 100, 64, 42, 28, 19, 13, 9, 7], 163, 100, 100),
    ],
)
def test_elbow_and_cap(sizes: list[int], elbow: int, cap: int, max_size: int) -> None:
    eta = np.array(sizes, np.int64)
    assert (elbow_size(eta), cap_size(eta, 0.15)) == (elbow, cap)
    assert min(elbow, cap) == max_size


def test_fit_sizes_forgets_the_neighbourhoods_of_an_earlier_fit() -> None:
    sampler = TailSampler().fit(np.eye(3)).fit_sizes([2, 2])
    assert not hasattr(sampler, "thresholds_")
    assert sampler.kappa_.tolist() == [2, 2]


# --- hyper-parameters


def test_quantisation_lets_trimmed_members_in_again() -> None:
    E = blobs([40, 30, 20, 4, 4, 1], 32, 0.02, 0, "eye").astype(np.float32)
    assert TailSampler().fit(E).kappa_.sum() == 2933
    assert TailSampler(quantize=False).fit(E).kappa_.sum() == 2475


def test_thresholds_that_are_not_adaptive() -> None:
    E = blobs([30, 8, 2], 16, 0.1, 0, "rand")
    S = similarities(E)
    assert set(TailSampler(threshold="indep").fit(E).thresholds_) == {half_angle(np.float32(0))}
    assert set(TailSampler(threshold="symmin", block_mib=0.001).fit(E).thresholds_) == {half_angle(S.min())}


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("vote", ["mode", "mean"])
def test_votes_against_the_definition(direction: Any, vote: Any) -> None:
    E = blobs([40, 20, 5], 8, 0.3, 3, "rand")
    sampler = TailSampler(vote_direction=direction, vote=vote).fit(E)
    member = similarities(E) >= sampler.thresholds_[:, None]
    assert (member != member.T).any()
    for j, kappa in enumerate(sampler.kappa_):
        voters = member[:, j] if direction == "reverse" else member[j]
        votes = sorted(int(member[i].sum()) for i in np.flatnonzero(voters))
        assert kappa == (max(votes, key=votes.count) if vote == "mode" else np.mean(votes))


def test_cap_of_one_is_no_cap() -> None:
    kappa = np.repeat([264, 160, 100, 65, 43, 29], [264, 160, 100, 65, 43, 29])
    sampler = TailSampler(cap=1.0).fit_sizes(kappa)
    assert sampler.cap_size_ == 264
    assert sampler.max_tail_size_ == sampler.elbow_size_


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"p": 0.0}, "Expected p in"),
        ({"p": float("nan")}, "Expected p in"),
        ({"cap": 1.5}, "Expected cap in"),
        ({"block_mib": 0}, "Expected block_mib above"),
        ({"vote_direction": "backward"}, "Expected vote_direction among"),
        ({"threshold": "trim"}, "Expected threshold among"),
        ({"vote": "median"}, "Expected vote among"),
    ],
)
def test_hyper_parameters_out_of_range(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TailSampler(**setting)


# --- input


@pytest.mark.parametrize(
    ("E", "message"),
    [
        (np.float32(1), r"shape \(n, d\)"),
        (np.ones(5), r"shape \(n, d\)"),
        (np.ones((2, 2, 2)), r"shape \(n, d\)"),
        (np.ones((3, 0)), r"shape \(n, d\)"),
        (np.ones((0, 4)), "at least 2 embeddings, got 0"),
        (np.ones((1, 4)), "at least 2 embeddings, got 1"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), "NaN or infinity in row 1"),
        (np.array([[np.inf, 2.0], [3.0, 1.0]]), "NaN or infinity in row 0"),
        (np.ones((2, 2), bool), "real numbers"),
        (np.ones((2, 2), complex), "real numbers"),
        (np.array([["a"], ["b"]]), "real numbers"),
    ],
)
def test_embeddings_that_are_none(E: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        TailSampler().fit(E)


@pytest.mark.parametrize("kappa", [[], [[1.0]], [1.0, np.nan], 3.0])
def test_sizes_that_are_none(kappa: Any) -> None:
    with pytest.raises(ContractError, match=r"finite sizes of shape \(n,\)"):
        TailSampler().fit_sizes(kappa)


def test_input_stays_as_it_is() -> None:
    E = blobs([10, 3], 8, 0.1, 0, "rand")
    before = E.copy()
    TailSampler().fit(E)
    np.testing.assert_array_equal(E, before)


@pytest.mark.parametrize("value", [1.0, 0.1, -3.7e-5])
@pytest.mark.parametrize("d", [1, 7, 2048])
def test_identical_embeddings_are_one_category(value: float, d: int) -> None:
    sampler = TailSampler().fit(np.full((5, d), value, np.float32))
    assert sampler.thresholds_.tolist() == [1] * 5
    assert sampler.kappa_.tolist() == [5] * 5
    assert sampler.class_sizes_.tolist() == [5]
    assert sampler.tail_indices_.tolist() == [0, 1, 2, 3, 4]


def test_a_zero_embedding_is_a_category_of_its_own() -> None:
    sampler = TailSampler().fit(np.array([[1.0, 0.0]] * 6 + [[0.0, 0.0]] * 2))
    assert sampler.kappa_.tolist() == [6] * 6 + [1, 1]
    assert sampler.class_sizes_.tolist() == [6, 1, 1]
    assert sampler.tail_indices_.tolist() == [6, 7]
    assert TailSampler().fit(np.zeros((3, 4))).kappa_.tolist() == [1, 1, 1]


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_very_long_and_very_short_embeddings(scale: float) -> None:
    E = blobs([10, 3, 1], 8, 0.05, 0, "eye")
    np.testing.assert_array_equal(TailSampler().fit(E * scale).kappa_, TailSampler().fit(E).kappa_)


def test_opposite_embeddings() -> None:
    E = np.array([[1.0, 1.0], [-1.0, -1.0]])
    assert similarities(E).tolist() == [[1, -1], [-1, 1]]
    assert TailSampler().fit(E).kappa_.tolist() == [1, 1]


# --- similarities


def test_similarities_are_cosines_to_float32_precision() -> None:
    E = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    X = E.astype(np.longdouble)
    X /= np.sqrt((X * X).sum(axis=1, keepdims=True))
    error = np.abs(similarities(E) - X @ X.T)
    assert error.max() <= 2.0**-25 + 2.0**-26 * 1.5  # half a float32 step below 1, and the fixed point


def test_similarities_are_symmetric_with_a_unit_diagonal() -> None:
    S = similarities(np.random.default_rng(1).standard_normal((50, 5)))
    np.testing.assert_array_equal(S, S.T)
    assert (np.diag(S) == 1).all()
    assert np.abs(S).max() <= 1


@pytest.mark.parametrize("rows", [1, 2, 37, 511, 512, 800, 1023, 1024, 1399])
def test_similarities_do_not_depend_on_the_block(rows: int) -> None:
    E = np.random.default_rng(2).standard_normal((1400, 24)).astype(np.float32)
    np.testing.assert_array_equal(similarities(E, 4 * len(E) * rows), similarities(E))


def test_similarities_do_not_depend_on_memory_layout() -> None:
    E = np.random.default_rng(3).standard_normal((600, 200)).astype(np.float32)
    np.testing.assert_array_equal(similarities(np.asfortranarray(E)), similarities(E))
    np.testing.assert_array_equal(similarities(np.repeat(E, 2, axis=1)[:, ::2]), similarities(E))


def test_similarities_do_not_depend_on_threads() -> None:
    script = """
import hashlib
import numpy as np
from ltbench.blocks.tails.cosine import CosineBlocks, half_angle
E = np.random.default_rng(3).standard_normal((1100, 300)).astype(np.float32)
print(hashlib.sha256(b"".join(S.tobytes() for _, S in CosineBlocks(E, 2**30))).hexdigest())
"""
    digests = set()
    for threads in ("1", "2"):
        variables = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), threads)
        run = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | variables, cwd=ROOT, capture_output=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1


# --- what must not change a result


@pytest.mark.parametrize("block_mib", [0.001, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("direction", ["reverse", "forward"])
def test_block_size_does_not_change_the_result(block_mib: float, direction: Any) -> None:
    E = blobs2([264, 160, 100, 65, 43, 29, 20, 14, 10, 7, 5], 64, 0.02, 3, 0.05).astype(np.float32)
    whole = TailSampler(vote_direction=direction).fit(E)
    assert_same(TailSampler(vote_direction=direction, block_mib=block_mib).fit(E), whole)


categories = st.tuples(
    st.lists(st.integers(1, 12), min_size=2, max_size=6),
    st.integers(0, 2**31 - 1),
    st.sampled_from([0.0, 0.02, 0.1, 0.5]),
)


@settings(deadline=None, max_examples=60)
@given(categories, st.sampled_from(["reverse", "forward"]), st.booleans())
def test_permuted_images_give_permuted_sizes(
    recipe: tuple[list[int], int, float], direction: Any, quantize: bool
) -> None:
    sizes, seed, sigma = recipe
    E = blobs(sizes, 8, sigma, seed, "rand").astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(E))
    sampler = TailSampler(vote_direction=direction, quantize=quantize)
    a = sampler.fit(E)
    kappa, thresholds, eta, tails = a.kappa_, a.thresholds_, a.class_sizes_, set(a.tail_indices_.tolist())
    b = sampler.fit(E[order])
    np.testing.assert_array_equal(b.kappa_, kappa[order])
    np.testing.assert_array_equal(b.thresholds_, thresholds[order])
    np.testing.assert_array_equal(b.class_sizes_, eta)
    assert {int(order[i]) for i in b.tail_indices_} == tails


@settings(deadline=None, max_examples=60)
@given(categories)
def test_a_power_of_two_times_an_embedding_changes_nothing(recipe: tuple[list[int], int, float]) -> None:
    sizes, seed, sigma = recipe
    E = blobs(sizes, 8, sigma, seed, "rand").astype(np.float32)
    scale = 2.0 ** np.random.default_rng(seed).integers(-20, 20, (len(E), 1))
    assert_same(TailSampler().fit(E * scale), TailSampler().fit(E))


@settings(deadline=None, max_examples=60)
@given(categories)
def test_any_scale_moves_similarities_by_rounding_only(recipe: tuple[list[int], int, float]) -> None:
    sizes, seed, sigma = recipe
    E = blobs(sizes, 8, sigma, seed, "rand")
    scale = np.random.default_rng(seed).uniform(0.01, 100, (len(E), 1))
    assert np.abs(similarities(E * scale) - similarities(E)).max() <= 2.0**-22


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 1))
def test_duplicates_have_their_multiplicity_as_size(sizes: list[int]) -> None:
    directions = np.linalg.qr(np.random.default_rng(sum(sizes)).standard_normal((16, 16)))[0]
    sampler = TailSampler().fit(np.repeat(directions[: len(sizes)], sizes, axis=0))
    assert sampler.kappa_.tolist() == np.repeat(sizes, sizes).tolist()
    assert sampler.class_sizes_.tolist() == sorted(sizes, reverse=True)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=200))
def test_sizes_add_up_and_hold_a_tail(kappa: list[int]) -> None:
    sampler = TailSampler().fit_sizes(kappa)
    eta = sampler.class_sizes_
    assert eta.sum() == len(kappa)
    assert (np.diff(eta) <= 0).all()
    assert sampler.max_tail_size_ in eta
    if min(kappa) <= len(kappa):  # a mode of neighbourhood sizes never exceeds n
        assert eta.min() >= min(kappa)
        assert len(sampler.tail_indices_)


def test_class_sizes_round_half_to_even() -> None:
    assert class_sizes([2.5, 2.5, 3.5, 3.5]).tolist() == [4]  # 2, 2, 4, 4: a window of two, then two left over
    assert class_sizes([1.5, 1.5]).tolist() == [2]


# --- memory


def test_memory_is_bounded_by_the_block() -> None:
    E = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
    tracemalloc.start()
    TailSampler(block_mib=1.0).fit(E)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20 < len(E) ** 2  # less than a quarter of the float32 similarities of all pairs


@pytest.mark.slow
def test_a_hundred_thousand_embeddings() -> None:
    """In a process of its own, since the peak is that of a process (about 3 minutes on 2 cores)."""
    script = ROOT / "benchmarks" / "tail_sampler.py"
    command = [sys.executable, str(script), "--size", "100000x64", "--repeats", "1", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = json.loads(run.stdout)
    assert row["peak_mib"] < 1024  # the matrix of all pairs has 38,147 MiB
    assert row["recall"] == 1.0
