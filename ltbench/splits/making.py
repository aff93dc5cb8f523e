"""What `ltbench make-splits` is asked for, and the splits that answer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ltbench.core import Dataset, Split
from ltbench.datasets.description import shipped
from ltbench.datasets.folder import index_own, own_description
from ltbench.datasets.index import SOURCES
from ltbench.errors import AbsentError, DataError, SpecError, UnknownNameError
from ltbench.splits.author_lists import DATASETS, import_lists
from ltbench.splits.catalogue import NOISE_PERCENT, catalogue
from ltbench.splits.checking import check_split
from ltbench.splits.files import Load, Say, committed_split
from ltbench.splits.generate import make_split
from ltbench.splits.groups import GROUP_RULES, GroupRule
from ltbench.splits.importers import TAILEDCORE_URL, import_list, import_official
from ltbench.splits.published_lists import import_published
from ltbench.splits.readings import READINGS, Reading
from ltbench.splits.recipe import NOISE_RULES, NoiseRule, Profile, Recipe, check_name, parse_name

OFFICIAL = ("tailedcore", "ltad", "realiad")
"""Whose published lists can be imported: those of papers, and those that come with a dataset of that name."""


@dataclass(frozen=True)
class SplitRequest:
    """The options of `ltbench make-splits`.

    Args:
        names: splits by name.
        dataset: the papers' splits of this dataset, or the dataset of published lists.
        every: all of the papers' splits.
        folder: a folder of your own to split, or its description.
        name: name of the dataset in that folder, or of the split that is made from a list.
        profile: how the training images decline.
        noise: contaminants in percent.
        noise_rule: how many contaminants each category gets.
        reading: what becomes of contaminants in the test set.
        reversed_order: reverse the class order.
        seed: seed of the choice of images.
        official: whose published lists to import, or None.
        source: URL or folder of the published lists; None for where TailedCore's lie.
        from_list: a list of images to make a split of.
        groups: which categories of an imported list are high and which low.
        listing: the order of the categories in the authors' draw, or nothing for the usual draw or the sorted order.
    """

    names: tuple[str, ...] = ()
    dataset: str | None = None
    every: bool = False
    folder: Path | None = None
    name: str | None = None
    profile: str = "full"
    noise: float = 0.0
    noise_rule: str = "tailedcore"
    reading: Reading = READINGS[0]
    reversed_order: bool = False
    seed: int = 0
    official: str | None = None
    source: str | None = None
    from_list: Path | None = None
    listing: tuple[str, ...] = ()
    groups: str = "auto"

    def recipes(self) -> list[Recipe]:
        """Return the recipes of the splits that are asked for by name.

        Raises:
            SpecError: none is.
        """
        recipes = [parse_name(name) for name in self.names]
        recipes += catalogue() if self.every else catalogue(self.dataset) if self.dataset else []
        if not recipes:
            raise SpecError("Expected splits to make, got none. Give names, --dataset D, --all or --folder PATH.")
        return recipes

    def splits(self, load: Load, say: Say = lambda text: None) -> Iterator[Split]:
        """Make or import the splits, and check each as a run on it would.

        Where a dataset is absent, a split that the suite ships is taken as it is.

        Args:
            load: gives a dataset by name.
            say: is told of splits that are shipped ones, and of those that `every` leaves out.

        Raises:
            SpecError: options that do not go together, or nothing to make.
            AbsentError: a split that is asked for needs a dataset that is absent.
            DataError: a mask does not fit its image.
        """
        self._check_options()
        for split, dataset in self._made(load, say):
            if dataset is not None:
                check_split(split, dataset)
            yield split

    def _made(self, load: Load, say: Say) -> Iterator[tuple[Split, Dataset | None]]:
        """Yield each split with the dataset, or listing, that it is made of; one that is shipped has none."""
        listing = self.listing or None
        if self.official is not None:
            yield from ((split, load(split.dataset)) for split in self._official(load))
        elif self.from_list is not None:
            dataset = self._listed_dataset(load)
            yield self._listed(self.from_list, dataset), dataset
        elif self.folder is not None:
            dataset = self._own_dataset(self.folder)
            yield make_split(dataset, self._own_recipe(dataset.name), listing), dataset
        else:
            yield from self._named(load, say)

    def _named(self, load: Load, say: Say) -> Iterator[tuple[Split, Dataset | None]]:
        """Yield the splits that are asked for by name."""
        shipped: list[str] = []
        wanted: dict[str, list[str]] = {}
        errors: dict[str, AbsentError] = {}
        for recipe in self.recipes():
            try:
                dataset = load(recipe.dataset)
            except AbsentError as error:
                if not self.listing and (split := committed_split(recipe.name)) is not None:
                    shipped.append(split.name)
                    yield split, None
                elif self.every:
                    wanted.setdefault(recipe.dataset, []).append(recipe.name)
                    errors[recipe.dataset] = error
                else:
                    raise
                continue
            yield make_split(dataset, recipe, self.listing or None), dataset
        if shipped:
            say(f"as the suite ships them, since their images are absent: {_some(shipped)}")
        for name, names in wanted.items():
            say(f"left out: {_some(names)}. {errors[name]}")

    def _check_options(self) -> None:
        """Raise `SpecError` where an option would be passed over: those of a named split are in its name."""
        used = {
            "--profile": self.profile != "full",
            "--noise": self.noise != 0,
            "--noise-rule": self.noise_rule != NOISE_RULES[0],
            "--reversed": self.reversed_order,
            "--seed": self.seed != 0,
            "--disjoint": self.reading == "disjoint" and self.official is None and self.from_list is None,
            "--self-excluded": self.reading == "selfexcluded" and self.official is None and self.from_list is None,
        }
        if self.groups not in GROUP_RULES:
            raise SpecError(f"Expected --groups {', '.join(GROUP_RULES)}, got {self.groups!r}. Choose one of them.")
        if self.groups != "auto" and self.from_list is None and self.official is None:
            raise SpecError("Expected --groups beside an imported list, got none. Add --official or --from-list.")
        idle = [option for option, is_used in used.items() if is_used]
        if idle and (self.folder is None or self.official is not None or self.from_list is not None):
            raise SpecError(
                f"Expected {', '.join(idle)} beside --folder alone, got it elsewhere. Write it into the split's name: "
                "mvtec_k4_noisy10_softpatch_disjoint_seed3."
            )

    def _official(self, load: Load) -> Iterator[Split]:
        if self.official not in OFFICIAL:
            raise UnknownNameError("paper with published lists", str(self.official), OFFICIAL)
        if self.official == "ltad":
            yield from self._of_ltad(load)
            return
        if self.official in SOURCES:
            if self.dataset not in (None, self.official) or self.source is not None or self.reading != READINGS[0]:
                raise SpecError(
                    f"Expected --official {self.official} alone, got more. Its lists lie in its folder, and their test "
                    "images never train. Leave --dataset, --source, --disjoint and --self-excluded out."
                )
            groups = cast(GroupRule, self.groups)
            yield from import_published(load(self.official), shipped(self.official), groups)
            return
        if self.groups == "halves":
            raise SpecError("Expected TailedCore's own groups, got --groups halves. Leave it out, or use --from-list.")
        if self.dataset:
            datasets = [load(self.dataset)]
        else:
            try:
                datasets = [load(name) for name in sorted(NOISE_PERCENT)]
            except DataError as error:
                raise DataError(f"{error} Without VisA, MVTec AD's alone need no images: --dataset mvtec.") from error
        for dataset in datasets:
            yield from import_official(dataset, self.source or TAILEDCORE_URL, reading=self.reading)

    def _of_ltad(self, load: Load) -> Iterator[Split]:
        """Yield LTAD's splits of the dataset, or of every dataset of which there are lists in the folder."""
        folder = Path(self.source or "")
        if self.source is None or not folder.is_dir() or self.reading != READINGS[0]:
            raise SpecError(
                "Expected --source FOLDER with LTAD's lists and no --disjoint or --self-excluded, got others. Unpack "
                "zenodo.org/records/10854201 there."
            )
        names = (self.dataset,) if self.dataset else DATASETS
        named = [name for name in names if self.dataset or any(name in str(p).lower() for p in folder.rglob("*"))]
        if not named:
            raise SpecError(f"Expected files of {', '.join(DATASETS)} in {folder}, got none. Add --dataset.")
        for name in named:
            yield from import_lists(load(name), folder, groups=cast(GroupRule, self.groups))

    def _listed_dataset(self, load: Load) -> Dataset:
        if self.name is None or (self.folder is None) == (self.dataset is None):
            raise SpecError(
                "Expected --name and either --folder or --dataset beside --from-list, got others. For example: "
                "--from-list list.csv --folder ~/parts --name parts_mine."
            )
        return index_own(self.folder) if self.folder else load(str(self.dataset))

    def _listed(self, file: Path, dataset: Dataset) -> Split:
        return import_list(file, dataset, str(self.name), reading=self.reading, groups=cast(GroupRule, self.groups))

    def _own_dataset(self, folder: Path) -> Dataset:
        """Return the dataset of a folder.

        Raises:
            SpecError: its name is that of a built-in dataset, which a run would look for elsewhere.
        """
        name = self.name or own_description(folder)[1].name
        check_name(name, "dataset (--name)")
        if name in SOURCES:
            raise SpecError(
                f"Expected a name of your own for {folder}, got {name!r}, a built-in dataset. Add --name with another, "
                f"or make its splits from their names: {name}_{self.profile}."
            )
        return index_own(folder, name)

    def _own_recipe(self, dataset: str) -> Recipe:
        if 0 < self.noise < 1:
            raise SpecError(f"Expected --noise in percent, got {self.noise:g}. Write {100 * self.noise:g}.")
        return Recipe(
            dataset,
            Profile.parse(self.profile),
            noise_percent=self.noise,
            noise_rule=cast(NoiseRule, self.noise_rule),
            reading=self.reading,
            reversed_order=self.reversed_order,
            seed=self.seed,
            draw="authors" if self.listing else "sha256",
        )


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)})"
