"""Score images with a saved method, chunk by chunk, and write what comes of it."""

from __future__ import annotations

import io
import itertools
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltbench.apply.images import Chunk, DecodedImages, Found, Odd, decoded, find_images
from ltbench.apply.thresholds import Threshold
from ltbench.atomic import write_output
from ltbench.errors import DataError, SpecError
from ltbench.method import Method
from ltbench.metrics.groups import image_scores
from ltbench.runs.models import SavedModel
from ltbench.runs.progress import ConsoleProgress

FIRST, CHUNK = 8, 32
"""Images of the first chunk, whose scores come early, and of the others; chunks change no score."""

MAPS, PICTURES = "maps", "pictures"
"""The folders that hold the maps, as 32-bit floats, and pictures of them over the images."""

Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    """An image and what a method says of it.

    Args:
        image: the file.
        score: higher = more anomalous.
        decision: "defective", "good", or None without a threshold.
    """

    image: Found
    score: float
    decision: str | None


@dataclass
class Applied:
    """What came of scoring images.

    Args:
        scored: one entry an image, in order.
        odd: files that were passed over.
        seconds: from the first image to the last.
        first_seconds: until the first scores were there.
    """

    scored: list[Scored] = field(default_factory=list)
    odd: list[Odd] = field(default_factory=list)
    seconds: float = 0.0
    first_seconds: float = 0.0


@dataclass(frozen=True)
class Scorer:
    """Scores images with a saved method.

    Args:
        model: what was saved.
        method: loaded from it.
        category: what the method is told of all images, if it asks for categories.
        threshold: decides, or None.
        out: folder for maps and pictures, or None to write none.
        progress: shows how far it is.
    """

    model: SavedModel
    method: Method
    category: str | None = None
    threshold: Threshold | None = None
    out: Path | None = None
    progress: ConsoleProgress = field(default_factory=lambda: ConsoleProgress(quiet=True))

    def __post_init__(self) -> None:
        info = self.model.method
        known = ", ".join(self.model.categories)
        if self.category is not None and self.category not in self.model.categories:
            raise SpecError(f"Expected one of the categories {known}, got {self.category!r}. Mend --category.")
        if info.uses_categories and self.category is None:
            raise SpecError(
                f"Expected the category of the images, which {info.title} asks for, got none. "
                f"Pass --category with one of {known}."
            )
        if self.out is not None and not info.has_maps:
            raise SpecError(
                f"Expected a method with anomaly maps, got {info.title}, which gives none. Leave --maps out."
            )

    def score(self, paths: Iterable[str | Path]) -> list[Scored]:
        """Return the scores of the images among files and below folders; a warning names files that are passed over.

        Raises:
            DataError: a path that is not there, or no image that can be read.
        """
        found, odd = find_images([Path(path) for path in paths])
        applied = self.apply(found)
        for one in (*odd, *applied.odd):
            warnings.warn(f"passed over {one.file}: {one.reason}", stacklevel=2)
        return applied.scored

    def apply(self, found: Sequence[Found]) -> Applied:
        """Score images in order; files that cannot be read are passed over.

        Raises:
            SpecError: two maps would have one name.
            DataError: no image can be read, or a map cannot be written.
            ContractError: the method returns something else than the contract says.
        """
        if self.out is not None:
            _check_names(found)
        applied, start = Applied(), time.perf_counter()
        for scored, odd in self._chunks(found):
            applied.first_seconds = applied.first_seconds or time.perf_counter() - start
            applied.scored += scored
            applied.odd += odd
        applied.seconds = time.perf_counter() - start
        if not applied.scored:
            raise DataError(f"Expected images that can be read, got none of {len(found)}. {applied.odd[0].reason}")
        return applied

    def _chunks(self, found: Sequence[Found]) -> Iterator[tuple[list[Scored], list[Odd]]]:
        is_joint = self.model.method.is_transductive
        sizes = itertools.repeat(len(found)) if is_joint else itertools.chain([FIRST], itertools.repeat(CHUNK))
        items = self._settled(decoded(found, self.model.protocol, sizes))
        yield from self.progress.track(items, "chunks of images", 1 + max(0, math.ceil((len(found) - FIRST) / CHUNK)))

    def _settled(self, chunks: Iterable[Chunk]) -> Iterator[tuple[list[Scored], list[Odd]]]:
        for good, resized, odd in chunks:
            yield (self._score(good, resized) if good else []), odd

    def _score(self, good: Sequence[Found], resized: Sequence[Image.Image]) -> list[Scored]:
        protocol, info = self.model.protocol, self.model.method
        told = [self.category] * len(good) if info.uses_categories and self.category is not None else None
        images = DecodedImages([one.file for one in good], protocol, resized, told)
        prediction = self.method.predict(images)
        prediction.check(len(images), images.size, has_maps=info.has_maps)
        maps = prediction.maps if prediction.has_maps else None
        scores = image_scores(prediction.scores, maps, protocol)
        if self.out is not None and maps is not None:
            for one, image, own in zip(good, images, maps, strict=True):
                self._write(self.out, one.name, image, own)
        decide = self.threshold.decide if self.threshold else lambda _: None
        return [Scored(one, float(score), decide(float(score))) for one, score in zip(good, scores, strict=True)]

    def _write(self, out: Path, name: str, image: NDArray[np.uint8], own: Map) -> None:
        """Write the map as 32-bit floats (TIFF), and over the image in colours from `limits` (PNG)."""
        from ltbench.figures.examples import scaled_between  # matplotlib, which scores do without
        from ltbench.figures.heatmaps import overlay

        limits = [own for category, own in self.model.limits.items() if self.category in (None, category)]
        low, high = min(one[0] for one in limits), max(one[1] for one in limits)
        scaled = scaled_between(own, low, high)
        pictures = ((MAPS, ".tiff", Image.fromarray(own)), (PICTURES, ".png", Image.fromarray(overlay(image, scaled))))
        for folder, suffix, picture in pictures:
            content = io.BytesIO()
            picture.save(content, "TIFF" if suffix == ".tiff" else "PNG")
            write_output((out / folder / name).with_suffix(suffix), content.getvalue())


def _check_names(found: Sequence[Found]) -> None:
    """Raise `SpecError` if two images would have one map."""
    names: dict[str, Found] = {}
    for one in found:
        other = names.setdefault(str(Path(one.name).with_suffix("")), one)
        if other is not one:
            raise SpecError(
                f"Expected images of different names for --maps, got {other.file} and {one.file}. Score them apart."
            )


def rows_of(applied: Applied, threshold: Threshold | None) -> list[dict[str, object]]:
    """Return what the csv file holds: path, score and, with a threshold, decision, threshold and rule."""
    rows: list[dict[str, object]] = []
    for one in applied.scored:
        row: dict[str, object] = {"path": str(one.image.file), "score": one.score}
        if threshold is not None:
            row |= {"decision": one.decision, "threshold": threshold.value, "rule": threshold.rule}
        rows.append(row)
    return rows
