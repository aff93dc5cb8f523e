"""From a dataset and a recipe to a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ltbench.core import Dataset, Split, TrainImages
from ltbench.errors import DataError, SpecError
from ltbench.splits.authors import select_as_authors
from ltbench.splits.recipe import Recipe
from ltbench.splits.selection import select


def make_split(dataset: Dataset, recipe: Recipe, listing: Sequence[str] | None = None) -> Split:
    """Make the split that a recipe describes: the same on every machine, whatever the order of the dataset's samples.

    Args:
        dataset: its published partition; only paths are read, so a listing without images will do.
        recipe: how the split is made; `parse_name` gives it from a name.
        listing: the order of the categories in the authors' draw, by default sorted by name. Another order makes a
            split whose name ends in `_listed`, with the order in its recipe.

    Raises:
        SpecError: the recipe is of another dataset, or cannot be followed with this one.
        DataError: a category has no training or no test images.
    """
    if dataset.name != recipe.dataset:
        raise SpecError(
            f"Expected dataset {recipe.dataset!r} for split {recipe.name!r}, got {dataset.name!r}. Load it."
        )
    _check_categories(dataset)
    name, payload = recipe.name, recipe.payload()
    if listing is not None:
        _check_listing(dataset, recipe, listing)
        if list(listing) != sorted(listing):
            name, payload = f"{name}_listed", payload | {"listing": list(listing)}
    if recipe.draw == "authors":
        selection = select_as_authors(dataset, recipe, listing or sorted(dataset.categories))
    else:
        selection = select(dataset, recipe)
    if selection.capped:
        payload["capped"] = {category: dict(counts) for category, counts in selection.capped.items()}
    high, low, train = selection.high, selection.low, selection.train
    test = published_test(dataset, dataset.categories)
    if recipe.reading == "disjoint":
        test = less_contaminants(dataset, test, train)
    return Split(name, dataset.name, payload, recipe.seed, high, low, train, test)


def published_test(dataset: Dataset, categories: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return category -> paths of its published test images, sorted."""
    return {category: tuple(sample.path for sample in dataset.test_of(category)) for category in categories}


def less_contaminants(
    dataset: Dataset, test: Mapping[str, tuple[str, ...]], train: Mapping[str, TrainImages]
) -> dict[str, tuple[str, ...]]:
    """Return the test images that do not train as contaminants: a `disjoint` test set.

    Raises:
        SpecError: a category has contaminants, and no defective test image would be left.
    """
    left: dict[str, tuple[str, ...]] = {}
    for category, paths in test.items():
        taken = set(train[category].contaminant)
        left[category] = tuple(path for path in paths if path not in taken)
        if taken and not any(dataset.by_path[path].is_anomalous for path in left[category]):
            raise SpecError(
                f"Expected defective test images of category {category!r} beside its {len(taken)} contaminants, got "
                "none. Lower the noise, or leave 'disjoint' out."
            )
    return left


def _check_categories(dataset: Dataset) -> None:
    if not dataset.categories:
        raise DataError(f"Expected categories in dataset {dataset.name!r}, got none. Check its folder.")
    for category in dataset.categories:
        for part, samples in (("training", dataset.train_of(category)), ("test", dataset.test_of(category))):
            if not samples:
                raise DataError(
                    f"Expected {part} images of category {category!r} in dataset {dataset.name!r}, got none. "
                    "Add some, or move the category out of the dataset."
                )


def _check_listing(dataset: Dataset, recipe: Recipe, listing: Sequence[str]) -> None:
    if recipe.draw != "authors":
        raise SpecError(
            f"Expected no listing for split {recipe.name!r}, got one. Only the authors' draw depends on it."
        )
    if sorted(listing) != sorted(dataset.categories):
        raise SpecError(f"Expected a listing of {list(dataset.categories)}, got {list(listing)}. Name each once.")
