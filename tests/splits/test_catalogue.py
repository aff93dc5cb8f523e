"""The committed files: every one follows from its name. `ltbench make-splits --all` rewrites them."""

from __future__ import annotations

import pytest

from ltbench.core import Dataset
from ltbench.errors import UnknownNameError
from ltbench.places import SPLITS
from ltbench.splits.catalogue import catalogue
from ltbench.splits.files import check_splits


def test_the_catalogue_holds_what_is_documented() -> None:
    names = {dataset: {recipe.name for recipe in catalogue(dataset)} for dataset in ("mvtec", "visa", "dagm")}
    assert {"mvtec_full", "mvtec_full_noisy10", "mvtec_exp200", "mvtec_step200_noisy10"} <= names["mvtec"]
    assert {"visa_exp500", "visa_exp500_noisy05", "visa_step100", "visa_k1_noisy05_seed5"} <= names["visa"]
    assert {"mvtec_pareto_noisy10_seed1", "mvtec_k4_noisy10_seed5"} <= names["mvtec"]
    assert {"dagm_full", "dagm_exp50", "dagm_step50", "dagm_exp500", "dagm_step200_reversed"} <= names["dagm"]
    assert (len(names["mvtec"]), len(names["visa"]), len(names["dagm"])) == (10 + 15, 14 + 15, 9 + 6)
    assert len(catalogue()) == 69
    with pytest.raises(UnknownNameError, match="'visa'"):
        catalogue("visaa")


def test_committed_mvtec_splits_follow_from_their_names(mvtec_listing: Dataset) -> None:
    names = [recipe.name for recipe in catalogue("mvtec")]
    assert check_splits(SPLITS, lambda _: mvtec_listing, names) == []


def test_committed_visa_splits_follow_from_their_names(visa_listing: Dataset) -> None:
    names = [recipe.name for recipe in catalogue("visa")]
    assert check_splits(SPLITS, lambda _: visa_listing, names) == []
