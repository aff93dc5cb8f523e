"""GroupCore on real images: the tails it finds, and the numbers of its README."""

from __future__ import annotations

import pytest

from ltbench.core import Split
from ltbench.records.record import read_records
from ltbench.runs.examination import shuffled
from tests.methods.reference import LISTS, Reference, Scores

pytestmark = pytest.mark.slow

MEASURED: dict[str, Scores] = {
    "industrial7_k4_noisy10": {"head": 85.0, "tail": 82.6, "all": 83.6, "pixel_all": 89.2},
    "industrial7_k4_clean": {"head": 91.3, "tail": 82.2, "all": 86.1, "pixel_all": 91.0},
    "industrial8_k4_noisy10": {"head": 75.4, "tail": 80.1, "all": 78.3, "pixel_all": 86.3},
    "industrial8_k4_clean": {"head": 82.0, "tail": 80.3, "all": 81.0, "pixel_all": 88.3},
}
"""Image AUROC by group and pixel AUROC, percent, seed 0, means of three lists."""

NEAR = 0.3
"""Another processor rounds features otherwise, and a coreset then picks otherwise."""


@pytest.mark.parametrize("kind", list(MEASURED))
def test_numbers_of_the_readme(reference: Reference, kind: str) -> None:
    found = reference.means("groupcore", kind)
    assert found == pytest.approx(MEASURED[kind], abs=NEAR)


@pytest.mark.parametrize("kind", list(MEASURED))
def test_finds_every_tail_image_and_no_other(reference: Reference, kind: str) -> None:
    for number in range(LISTS):
        split, tails, _ = _told(reference, f"{kind}_ref{number}")
        assert tails == {path for category in split.low for path in split.train[category].normal}


@pytest.mark.parametrize(("kind", "share"), [("industrial7_k4_noisy10", 0.55), ("industrial8_k4_noisy10", 0.45)])
def test_about_half_of_the_contaminants_are_odd(reference: Reference, kind: str, share: float) -> None:
    """By chance it would be 15 %. In a category on which the method is below chance it is no more."""
    for number in range(LISTS):
        split, _, odd = _told(reference, f"{kind}_ref{number}")
        contaminants = {path for images in split.train.values() for path in images.contaminant}
        assert len(odd & contaminants) >= share * len(contaminants)


def _told(reference: Reference, list_name: str) -> tuple[Split, set[str], set[str]]:
    """Return a list, and the paths of the images that GroupCore took to be tail, and to be odd."""
    reference.scores("groupcore", list_name)
    split = reference.split(list_name)
    seen = shuffled([path for images in split.train.values() for path in (*images.normal, *images.contaminant)])
    records, _ = read_records(reference.folder / "results")
    notes = next(r.notes for r in records if (r.spec.method, r.spec.split) == ("groupcore", list_name))
    return split, {seen[at] for at in notes["tails"]["indices"]}, {seen[at] for at in notes["odd_images"]}
