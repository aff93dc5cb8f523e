"""Where the archives of datasets lie: `archives.yaml`, validated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ltbench.plain_yaml import parse_yaml

_FILE = Path(__file__).with_name("archives.yaml")

_Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Archive(_Strict):
    """One file to fetch.

    Args:
        file: its name.
        sha256: of its bytes, in hexadecimal digits.
        urls: where it lies, in the order in which they are tried.
        size: its bytes, where published.
    """

    file: Annotated[str, Field(pattern=r"^\w[\w.-]*\.(zip|tar|tar\.gz|tgz|tar\.xz)$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    urls: Annotated[list[_Url], Field(min_length=1)]
    size: Annotated[int | None, Field(alias="bytes", gt=0)] = None


class Offer(_Strict):
    """How a dataset is to be had.

    Args:
        page: where a person gets it.
        terms: the text of its licence, where that is public.
        archives: what to fetch; unpacked side by side, they are the dataset.
        by_hand: what to do on the page, where nothing can be fetched.
    """

    page: _Url
    terms: _Url | None = None
    archives: list[Archive] = []
    by_hand: str = ""

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if bool(self.archives) == bool(self.by_hand):
            raise ValueError("either archives or by_hand")
        return self


@cache
def offers() -> Mapping[str, Offer]:
    """Return how each dataset is to be had, by name.

    Raises:
        ValidationError: `archives.yaml` is not as described here.
    """
    return TypeAdapter(dict[str, Offer]).validate_python(parse_yaml(_FILE.read_text(encoding="utf-8")))
