"""What the name of a split says of the runs on it: profile, contaminants, order and draw."""

from __future__ import annotations

import re

from ltbench.datasets.index import SOURCES
from ltbench.errors import LtbenchError
from ltbench.splits.held_out import without_suffix
from ltbench.splits.readings import reading_in_words
from ltbench.splits.recipe import NOISE_RULES, Recipe, parse_name, spelled


def recipe_of(split: str) -> Recipe | None:
    """Return the recipe that a split's name stands for, or None for the name of an imported list.

    The authors' lists, `_official<n>`, are named by the recipe that they follow; `_listed` is a recipe drawn from
    another listing. Images that were kept aside (`_heldout<percent>`) change neither profile nor noise.
    """
    try:
        return parse_name(re.sub(r"_official\d*(?=_|$)|_listed$", "", without_suffix(split)[0]))
    except LtbenchError:
        return None


def source_of(split: str) -> str:
    """Return who drew the images of a split, where it was not ltbench: "authors' lists", or ""."""
    if re.search(r"_official\d*(?=_|$)", split):
        return "authors' lists"
    return "authors' draw, another listing" if split.endswith("_listed") else ""


def contaminants_of(recipe: Recipe | None) -> str:
    """Return the noise of a split in words: "no contaminants", "10 % contaminants (softpatch, disjoint)"."""
    if recipe is None or not recipe.noise_percent:
        return "no contaminants"
    rule = recipe.noise_rule if recipe.noise_rule != NOISE_RULES[0] else ""
    how = [word for word in (rule, reading_in_words(recipe.reading)) if word]
    return f"{spelled(recipe.noise_percent)} % contaminants" + (f" ({', '.join(how)})" if how else "")


def dataset_title(name: str) -> str:
    """Return a dataset's name as printed; a folder's own name where it is no published one."""
    return SOURCES[name].title if name in SOURCES else name
