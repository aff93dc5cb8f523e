"""A dataset's layout as data: where its images and masks lie, how they are named, and what is known of it.

The built-in descriptions are the YAML files of `ltbench/datasets/descriptions/`; a folder of your own has one in its
`ltbench.yaml`, or in any file that names the folder. `docs/own-data.md` explains every key.
"""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ltbench.core import check_relative
from ltbench.datasets.patterns import Pattern, shown
from ltbench.errors import DataError, LtbenchError, UnknownNameError
from ltbench.plain_yaml import parse_yaml

FILE_NAME = "ltbench.yaml"
"""The description that a dataset's folder carries itself."""

SHIPPED = files("ltbench.datasets") / "descriptions"
"""The folder of the built-in descriptions."""


def _listed(value: object) -> object:
    """Return one value as a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def _patterns(value: object) -> object:
    return (
        tuple(Pattern(text) if isinstance(text, str) else text for text in value) if isinstance(value, list) else value
    )


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(lambda value: _patterns(_listed(value)))]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _below(value: object) -> object:
    """Return one path, or several, that stay below the root."""
    for text in value if isinstance(value, tuple) else (value,):
        if text not in ("", "."):
            check_relative(str(text))
    return value


Paths = Annotated[Words, AfterValidator(_below)]


class PublishedList(_Strict):
    """A split that the publishers of a dataset give, in the format of its listing.

    Args:
        file: where it lies below the root, `{category}` allowed; of several places the first that is there.
        noise_percent: defects among the training images, as its publishers count them.
    """

    file: Paths
    noise_percent: int


class Listing(_Strict):
    """A file that lists the images: csv with a header, or JSON with the rows of each part under `train` and `test`.

    Args:
        file: where it lies below the root, `{category}` allowed; of several places the first that is there.
        path, label, mask, category, part: the columns. `part` says `train` or `test`; without it, good images are held
            out for the test.
        below: the folder that its paths are relative to, `{category}` allowed.
        published: name -> a further split that comes with the dataset.
    """

    file: Paths
    path: str = "path"
    label: str = "label"
    mask: str = "mask"
    category: str = "category"
    part: str = "split"
    below: Annotated[str, AfterValidator(_below)] = ""
    published: dict[str, PublishedList] = {}


class Description(_Strict):
    """What a dataset is, and where its files lie.

    Args:
        name: "btad".
        title: as printed: "BTAD".
        licence: under which terms the images may be used.
        citation: one line, with DOI or arXiv number.
        homepage: where to get the images.
        notes: what a user should know of the partition, one sentence or two.
        aliases: folders, relative to a data root, where the images usually lie.
        folder: the dataset's root, where the description lies elsewhere; relative to the description.
        folders: what a root holds that tells it from others, where these are no categories.
        bases: the images lie in the first of these folders that is there, and are named by their paths below it.
        categories: every category in class order; by default those that the tree has, sorted by name.
        category: the name of the one category of a layout without `{category}`; by default the dataset's.
        train: where good training images lie.
        test: where test images lie; `{defect}` is the folder that says what they show.
        images: where images lie that nobody has parted into training and test.
        listed: the file that lists the images instead.
        masks: where masks lie, the best first; a pattern that ends in `*` is a folder of masks an image, merged.
        ignored: images, or folders with all that is below, that are no part of the dataset.
        good: values of `{defect}`, or of a list's labels, that mean a good image.
        is_good_by_mask: whether an empty mask, and nothing else, says that an image is good.
        hold_out: share of the good `images` of a category that test.
        is_numbered: whether files are called 000.png upwards in every folder, so that the counts are a listing.
        counts: category -> images of each folder: `train`, and each defect type of test, `good` among them.
        totals: counts of the dataset as a whole: `images`, `train`, `test`, `defective`.
        counted: where the counts come from.
    """

    name: str = ""
    title: str = ""
    licence: str = "yours"
    citation: str = "yours"
    homepage: str = "your own images"
    notes: str = ""
    aliases: Paths = ()
    folder: Path | None = None
    folders: Paths = ()
    bases: Paths = ()
    categories: Paths = ()
    category: str = ""
    train: Patterns = ()
    test: Patterns = ()
    images: Patterns = ()
    listed: Listing | None = None
    masks: Patterns = ()
    ignored: Patterns = ()
    good: Words = ("good",)
    is_good_by_mask: bool = False
    hold_out: float = Field(0.2, gt=0, lt=1)
    is_numbered: bool = False
    counts: dict[str, dict[str, int]] = {}
    totals: dict[str, int] = {}
    counted: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Description:
        if not (self.listed or self.images or (self.train and self.test)):
            raise ValueError("it needs `train` and `test`, or `images`, or `listed`")
        if self.listed and self.patterns:
            raise ValueError("it needs either patterns or `listed`, not both")
        labelled = () if self.is_good_by_mask else (*self.test, *self.images)
        for pattern in self.patterns:
            if pattern.is_folder:
                raise ValueError(f"{pattern.text} needs {{stem}} in its last part")
        if bare := [pattern.text for pattern in labelled if "defect" not in pattern.fields]:
            raise ValueError(f"{bare[0]} needs {{defect}}, the folder that tells good from defective images")
        if self.is_good_by_mask and not self.masks:
            raise ValueError("`is_good_by_mask` needs `masks`")
        for mask in self.masks:
            if self.patterns and not any(mask.fields <= pattern.fields for pattern in self.patterns):
                raise ValueError(f"{mask.text} has names in braces that the images' patterns lack")
            if mask.text in {pattern.text for pattern in self.patterns}:
                raise ValueError(f"{mask.text} cannot stand for images and masks")
        if self.counts and set(self.counts) != set(self.categories):
            raise ValueError("`counts` need the categories of `categories`")
        return self

    @property
    def one_category(self) -> str:
        """The name of the category of a layout without `{category}`."""
        return self.category or (self.categories[0] if len(self.categories) == 1 else self.name)

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """Where images lie."""
        return (*self.train, *self.test, *self.images)

    @cached_property
    def layout(self) -> str:
        """The tree as a user reads it, one kind of file a line."""
        kinds = {"train": self.train, "test": self.test, "images": self.images, "masks": self.masks}
        lines = [f"{kind + ':':8}{pattern}" for kind, patterns in kinds.items() for pattern in patterns]
        if self.listed is not None:
            listed = self.listed
            columns = ", ".join(filter(None, (listed.path, listed.label, listed.mask, listed.category)))
            lines += [f"{'list:':8}{shown(file)} ({columns})" for file in listed.file]
            lines += [f"{'images:':8}{shown('/'.join(filter(None, (b, listed.below))))}" for b in self.bases]
        if self.good != ("good",) and not self.is_good_by_mask:
            lines.append(f"{'good:':8}{', '.join(self.good)}")
        return "\n".join([*lines, *([self.notes] if self.notes else [])])


def described(text: str, source: str) -> Description:
    """Return the description in a YAML text.

    Args:
        text: the YAML.
        source: its file, for messages.

    Raises:
        DataError: it is no YAML, or a key is unknown, missing, given twice or of the wrong type.
    """
    return _validated(_mapping(text, source), source)


def read_description(file: Path) -> Description:
    """Return the description in a file.

    Raises:
        DataError: the file cannot be read, or is none.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Expected a description of a dataset in {file}, got: {error}. Mend the path.") from error
    return described(text, str(file))


def shipped(name: str) -> Description:
    """Return a built-in description; one that is `like` another takes from it what it does not say itself."""
    content = _shipped(name)
    if "like" in content:
        content = _shipped(content.pop("like")) | content
    return _validated(content, name)


def _shipped(name: str) -> dict[str, Any]:
    return _mapping((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise DataError(f"Expected YAML in {source}, got: {' '.join(str(error).split())}. Mend it.") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise DataError(f"Expected keys and values in {source}, got {type(content).__name__}. Write train: ...")
    return content


def _validated(content: dict[str, Any], source: str) -> Description:
    try:
        return Description.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UnknownNameError(f"key of the description {source}", where, Description.model_fields) from None
        told = f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
        raise DataError(f"Expected a description of a dataset in {source}, got {told}. Mend it.") from None
    except LtbenchError as error:
        raise DataError(f"In {source}: {error}") from None
