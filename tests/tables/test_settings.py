"""What a split's name says of its runs."""

from __future__ import annotations

from ltbench.tables.settings import contaminants_of, recipe_of


def test_images_that_were_kept_aside_change_neither_profile_nor_noise() -> None:
    whole, left = recipe_of("mvtec_k4_noisy10_seed1"), recipe_of("mvtec_k4_noisy10_seed1_heldout10")
    assert whole is not None
    assert left == whole
    assert contaminants_of(left) == "10 % contaminants"
