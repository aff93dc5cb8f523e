"""UniAD beside the authors' module on real images."""

from __future__ import annotations

import numpy as np
import pytest

from ltbench.blocks.features.tokens import TokenExtractor, aligned, pooled
from ltbench.datasets.folder import index_tree
from ltbench.datasets.images import DiskImages
from ltbench.method import Runtime
from ltbench.protocols import protocol_named
from tests.methods.reference import BALANCED, ONE_LIST, Reference, assert_near, needs_shared
from tests.shared import SHARED

pytestmark = needs_shared

CLEAN, NOISY = "industrial7_k4_clean_ref0", "industrial7_k4_noisy10_ref0"


@pytest.mark.parametrize(
    ("layers", "tokens", "sums"),
    [
        ((0, 1, 2, 3), lambda maps: aligned(maps, (14, 14)), [(-8280.71, 141283.25)]),
        ((2, 3), pooled, [(-6569.49, 91541.93), (-3911.03, 53879.19)]),
    ],
    ids=["uniad", "rlr"],
)
def test_features_of_an_image(layers: tuple[int, ...], tokens: object, sums: list[tuple[float, float]]) -> None:
    """The sums of the values and of their magnitudes, for screw/test/good/000.jpg."""
    dataset = index_tree(SHARED / "data" / "industrial8", "industrial8")
    images = DiskImages(dataset, ["screw/test/good/000.jpg"], protocol_named("ltad"))
    extractor = TokenExtractor(
        "tf_efficientnet_lite0",
        layers,
        "pretrained",
        tokens=tokens,  # type: ignore[arg-type]
        recipe="test",
        runtime=Runtime(),
    )
    levels = next(iter(extractor.extract(images)))
    for level, (total, magnitude) in zip(levels, sums, strict=True):
        assert level.sum(dtype=np.float64) == pytest.approx(total, rel=1e-3)
        assert np.abs(level).sum(dtype=np.float64) == pytest.approx(magnitude, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ONE_LIST))
def test_scores(reference: Reference, name: str) -> None:
    assert_near(reference.scores("uniad", name), name, "uniad")


@pytest.mark.slow
def test_the_tail_pays_for_four_images_and_noise_costs_little(reference: Reference) -> None:
    balanced, clean, noisy = (reference.scores("uniad", name) for name in (BALANCED, CLEAN, NOISY))
    assert balanced["tail"] - clean["tail"] > 5
    assert abs(balanced["head"] - clean["head"]) < 2
    assert clean["all"] - noisy["all"] < 1.8, "0.8 in the reference, whose seeds differ by less than 1"
