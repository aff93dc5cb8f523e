"""WinCLIP's arithmetic against worked values, and all of it against the public re-implementation's."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltbench.blocks.vision_language import LAST, Reading, window_places
from ltbench.blocks.vision_language.clip_network import ClipShape, TowerShape, VisionTower
from methods.winclip.prompts import TEMPLATES, prompts
from methods.winclip.scores import few_shot, harmonic, memorised, reference_scores, text_scores, unit, zero_shot
from tests.methods.parity import FOLDER, OUTPUT
from tests.methods.reference import needs_shared

SHAPE = ClipShape(TowerShape(2, 64, 2), TowerShape(1, 16, 1), side=80, patch=16, dim=32, quick_gelu=False)


def test_prompts() -> None:
    normal, anomalous = prompts("bottle")
    assert (len(TEMPLATES), len(normal), len(anomalous)) == (21, 147, 84)
    assert (len(set(normal)), len(set(anomalous))) == (140, 80)
    assert normal[0] == "a cropped photo of the bottle."
    assert "a photo of a damaged bottle for visual inspection." in anomalous


@needs_shared
def test_prompts_are_the_re_implementations() -> None:
    wanted = json.loads((FOLDER / "winclip" / "meta.json").read_text(encoding="utf-8"))["prompts of metal_nut"]
    hashes = [hashlib.sha256("\n".join(own).encode()).hexdigest() for own in prompts("metal_nut")]
    assert hashes == [
        wanted["sha256 of the normal ones joined by newlines"],
        wanted["sha256 of the abnormal ones"],
    ]


@pytest.mark.parametrize(("side", "count", "total", "corner"), [(2, 196, 784, 1), (3, 169, 1521, 1)])
def test_windows_of_the_papers_grid(side: int, count: int, total: int, corner: int) -> None:
    places = window_places((15, 15), side)
    covered = np.bincount(places.ravel(), minlength=225).reshape(15, 15)
    assert (len(places), covered.sum(), covered[0, 0], covered[7, 7]) == (count, total, corner, side**2)
    assert covered[0, 7] == side
    rows = [
        [15 * y + x for y in range(side) for x in range(side)],
        [224 - 15 * y - x for y in range(side) for x in range(side)],
    ]
    assert [sorted(places[0]), sorted(places[-1])] == [sorted(row) for row in rows]


def test_harmonic_mean_of_windows() -> None:
    found = harmonic(np.array([1, 0.75, 0.5, 0.25]), (3, 3), 2)
    wanted = [[1, 0.857143, 0.75], [0.666667, 0.48, 0.375], [0.5, 0.333333, 0.25]]
    assert np.allclose(found, wanted, atol=1e-6)
    assert np.allclose(harmonic(np.full(9, 0.3), (4, 4), 2), 0.3)
    touched = harmonic(np.array([0, 0.5, 0.5, 0.5]), (3, 3), 2)
    assert (touched[:2, :2] < 1e-10).all()
    assert touched[2, 2] == 0.5


def test_scales_are_joined_harmonically() -> None:
    texts = unit(np.array([[1.0, 0.0], [0.0, 1.0]]))
    tau = 1.0

    def code(score: float) -> list[float]:
        """Return a code of that score: cos b - cos a = log(p / (1 - p)), both on the circle."""
        angle = np.pi / 4 + np.arcsin(np.log(score / (1 - score)) / np.sqrt(2))
        return [np.cos(angle), np.sin(angle)]

    codes = {side: np.array([code(score)] * (4 - side) ** 2, np.float32) for side, score in ((2, 0.4), (3, 0.65))}
    reading = Reading((3, 3), np.array(code(0.25), np.float32), codes)
    image, grid = zero_shot(reading, texts, tau)
    assert image == pytest.approx(0.25, abs=1e-6)
    assert np.allclose(grid, 3 / (1 / 0.4 + 1 / 0.65 + 1 / 0.25), atol=1e-6)
    joined = 3 / (1 / 0.2 + 1 / 0.4 + 1 / 0.8)
    assert joined == pytest.approx(0.342857, abs=1e-6)
    same = unit(np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert np.allclose(zero_shot(reading, same, tau)[1], 0.5)
    swapped = zero_shot(reading, texts[::-1], tau)[0]
    assert swapped == pytest.approx(1 - image)


def test_temperature() -> None:
    """The re-implementation's 0.07 and CLIP's own 0.01 give other scores of cosines 0.25 and 0.26."""
    texts = np.array([[0.25, np.sqrt(1 - 0.25**2)], [0.26, np.sqrt(1 - 0.26**2)]])
    code = np.array([[1.0, 0.0]], np.float32)
    assert text_scores(code, texts, 0.07)[0] == pytest.approx(0.5357, abs=1e-4)
    assert text_scores(code, texts, 0.01)[0] == pytest.approx(0.7311, abs=1e-4)


def test_references() -> None:
    rng = np.random.default_rng(0)
    seen, other = rng.normal(size=(9, 8)).astype(np.float32), rng.normal(size=(9, 8)).astype(np.float32)
    memory = unit(seen)
    assert np.allclose(reference_scores(seen, memory), 0, atol=1e-12)
    found = reference_scores(other, memory)
    assert ((found >= 0) & (found <= 1)).all()
    more = unit(np.concatenate([seen, rng.normal(size=(5, 8))]))
    assert (reference_scores(other, more) <= found).all()
    assert np.array_equal(reference_scores(other, np.concatenate([memory, memory])), found)


@needs_shared
def test_the_re_implementations_numbers() -> None:
    weights = load_file(FOLDER / "winclip" / "weights.safetensors")
    tensors = load_file(FOLDER / "winclip" / "tensors.safetensors")
    tower = VisionTower(SHAPE).eval()
    tower.load_state_dict(weights)

    def read(pixels: torch.Tensor) -> Reading:
        with torch.inference_mode():
            embedded = tower.embed(pixels[None])
            tokens = tower.states(embedded)[-1]
            windows = {
                side: tower.windows(embedded, torch.tensor(window_places((5, 5), side)))[0].numpy() for side in (2, 3)
            }
            whole = tower.windows(embedded, torch.tensor(window_places((5, 5), 5)))[0, 0]
            code = tower.code(tokens)[0]
            assert torch.allclose(whole, code, atol=1e-6), "a window of all patches is the image"
            return Reading((5, 5), code.numpy(), windows, {LAST: tokens[0, 1:].numpy()})

    found = [read(pixels) for pixels in tensors["image"]]
    memory = {name: unit(array) for name, array in memorised([read(p) for p in tensors["references"]]).items()}
    texts = unit(tensors["text"].numpy())
    for index, reading in enumerate(found):

        def near(got: object, name: str, place: int = index) -> None:
            wanted = tensors[name][place].numpy().squeeze()
            assert np.allclose(np.asarray(got).squeeze(), wanted, atol=OUTPUT), name

        for side in (2, 3):
            name = f"{side}x{side}"
            assert np.array_equal(window_places((5, 5), side).T + 1, tensors[f"windows_{name}"].numpy())
            near(reading.windows[side], f"codes_{name}")
            scored = text_scores(reading.windows[side], texts, 0.07)
            near(scored, f"scores_{name}")
            near(harmonic(scored, (5, 5), side), f"map_{name}")
            near(reference_scores(reading.windows[side], memory[f"windows {side}"]), f"few_{name}")
        near(reading.code, "image_code")
        near(reading.tokens[LAST], "patch_tokens")
        near(reference_scores(reading.tokens[LAST], memory["patches"]), "few_patch")
        score, grid = zero_shot(reading, texts, 0.07)
        near(score, "score_image")
        near(grid, "zero_shot_map")
        differs = few_shot(reading, memory)
        near(differs, "few_shot_map")
        near(0.5 * (score + differs.max()), "few_shot_image_score")
