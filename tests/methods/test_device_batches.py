"""Trained methods on a device that takes batches, which the CPU stands in for: what shares a batch changes no bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ltbench.blocks import device
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import method_class, presets
from ltbench.core import Prediction
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Method, Runtime

BATCH = 4
TOLERANCE = 1e-4
"""Of a CPU's products in a batch beside those of one image, relative to the largest value."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "draem": ("draem", {}),
    "draem of a category": ("draem", {"per_category": True, "iterations": 3}),
    "mkd": ("mkd", {}),
    "mkd, guided": ("mkd", {"localisation": "guided", "map_norm": "per_image"}),
    "mkd, noisy copies": ("mkd", {"localisation": "smooth_grad", "noise_draws": 12}),
    "cutpaste": ("cutpaste", {"density": "per_category"}),
    "regad": ("regad", {"training": "leave_one_out", "epochs": 2}),
    "hvqtrans": ("hvqtrans", {}),
    "hvqtrans, categories guessed": ("hvqtrans", {"categories": "nearest"}),
    "ltad": ("ltad", {}),
    "ltad, categories guessed": ("ltad_labelfree", {}),
    "anomalygpt": ("anomalygpt", {}),
    "anomalygpt, references": ("anomalygpt", {"shots": 2}),
}
"""A method and what differs from its preset `check`."""

SENT = {
    "mkd, noisy copies": 0,
    **dict.fromkeys(("hvqtrans", "ltad"), 6),
    "anomalygpt": 4 * 3,
    "anomalygpt, references": 3 * 6,
}
"""How many arrays of a batch are sent, where there are not three: noisy copies of one image go together, the categories
change four times, or a batch has several."""

Fitted = tuple[Method, Prediction]

NAMES = ("a", "b", "b", "a", "b", "a", "a", "a", "a", "a")
SIDE = 128
"""Of the images, which some networks see smaller. Their tokens are so many that all lie alike in a CPU's products."""


def images(seed: int, places: Sequence[int] = range(len(NAMES))) -> ArrayImages:
    """Return images of noise, of several brightnesses, with their categories."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 256, (len(NAMES), SIDE, SIDE, 3)) * rng.uniform(0.2, 1, (len(NAMES), 1, 1, 1))
    return ArrayImages(drawn.astype(np.uint8)[list(places)], [NAMES[place] for place in places])


def fit(case: str) -> Method:
    name, values = CASES[case]
    cls = method_class(name)
    made: Any = cls(**resolve(cls, {**presets(cls)["check"].parameters, **values}))
    method: Method = made.fit(images(0), Runtime(seed=3))
    return method


@cache
def alone(case: str) -> Fitted:
    method = fit(case)
    return method, method.predict(images(1))


@pytest.fixture
def fitted(case: str) -> Fitted:
    """Return a method that was fitted on a CPU, and what it predicts there, image by image."""
    return alone(case)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the length of each batch from now on; methods are fitted before, if at all."""
    lengths: list[int] = []

    def upload(array: NDArray[np.generic], where: torch.device) -> torch.Tensor:
        lengths.append(len(array))
        return torch.from_numpy(array)

    monkeypatch.setattr(device, "BATCHED", ("cpu",))
    monkeypatch.setenv(device.VARIABLE, str(BATCH))
    monkeypatch.setattr(device, "upload", upload)
    return lengths


def near(found: Prediction, wanted: Prediction) -> None:
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=TOLERANCE)
    np.testing.assert_allclose(found.maps, wanted.maps, rtol=0, atol=TOLERANCE * wanted.maps.max(initial=0))


def same(found: Prediction, wanted: Prediction, places: Sequence[int]) -> None:
    np.testing.assert_array_equal(found.scores, wanted.scores[list(places)])
    np.testing.assert_array_equal(found.maps, wanted.maps[list(places)])


@pytest.mark.parametrize("case", CASES)
def test_batches_give_what_one_image_after_the_other_does(case: str, fitted: Fitted, sent: list[int]) -> None:
    method, wanted = fitted
    near(method.predict(images(1)), wanted)
    assert set(sent) <= {BATCH}
    if not case.endswith("guessed"):
        assert len(sent) == SENT.get(case, 3), "10 images, or 7 of one category and 3 of the other"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("places", [range(9, -1, -1), (5,), (1, 8), (0, 3, 5, 6, 7, 8, 9, 4)], ids=len)
def test_no_bit_depends_on_the_order_or_on_what_fills_a_batch(
    case: str, places: Sequence[int], fitted: Fitted, sent: list[int]
) -> None:
    method, _ = fitted
    same(method.predict(images(1, places)), method.predict(images(1)), places)
    assert set(sent) == ({BATCH} if SENT.get(case, 1) else set())


@pytest.mark.parametrize("case", CASES)
def test_what_is_fitted_in_batches_predicts_nearly_the_same(case: str, fitted: Fitted, sent: list[int]) -> None:
    near(fit(case).predict(images(1)), fitted[1])
