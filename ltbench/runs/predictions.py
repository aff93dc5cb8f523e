"""Predictions that were made elsewhere: a folder of anomaly maps, and a csv file of image scores.

A map lies under its image's path with another suffix (`bottle/test/crack/000.tiff`), as in the tree that MVTec's own
evaluation code reads.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltbench.core import Dataset, Prediction, Protocol, Split, sha256_of
from ltbench.datasets.decode import SIXTEEN_BIT, decode, size_of
from ltbench.datasets.digests import digests_of
from ltbench.datasets.images import center_crop, resize
from ltbench.errors import DataError

SUFFIXES = (".tiff", ".tif", ".npy", ".npz", ".png")
SCORES = "scores.csv"
COLUMNS = ("path", "score")
SHOWN = 3
"""How many files a message names."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Anomaly maps and image scores of a split's test images.

    Args:
        folder: where they lie.
        maps: image path -> file of its map; none where image scores alone were handed in.
        scores: image path -> score, or None where each map's maximum is the score.
        odd: files of the folder that belong to no test image.
        sha256: of all files that count.
    """

    folder: Path
    maps: Mapping[str, Path]
    scores: Mapping[str, float] | None
    odd: tuple[str, ...]
    sha256: str

    def of(self, dataset: Dataset, paths: Sequence[str], protocol: Protocol) -> Prediction:
        """Return the prediction of images as the protocol has them.

        Raises:
            DataError: a map cannot be read, is not finite, or does not fit its image.
        """
        if not self.maps:
            assert self.scores is not None
            return Prediction(np.array([self.scores[path] for path in paths], np.float32))
        maps, highest = np.zeros((len(paths), *protocol.size), np.float32), np.zeros(len(paths), np.float32)
        for place, path in enumerate(paths):
            own = read_map(self.maps[path])
            highest[place] = own.max()
            maps[place] = fitted(own, size_of(dataset.file(path)), protocol, self.maps[path])
        scores = highest if self.scores is None else np.array([self.scores[path] for path in paths], np.float32)
        return Prediction(scores, maps)


def find_predictions(folder: Path, split: Split, scores: Path | None = None) -> Predictions:
    """Return the predictions in a folder, one for every test image of a split; no map is read.

    Args:
        folder: of the maps.
        split: whose test images they are of.
        scores: csv file with the columns `path` and `score`; by default `scores.csv` in the folder, if there is one.

    Raises:
        DataError: no folder, or an image without a prediction or with two.
    """
    if not folder.is_dir():
        raise DataError(f"Expected a folder of predictions, got {folder}, which is none. Mend --predictions.")
    paths = [path for own in split.test.values() for path in own]
    by_stem: dict[str, list[Path]] = {}
    for found in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
        by_stem.setdefault(found.relative_to(folder).with_suffix("").as_posix(), []).append(found)
    stems = {path: str(PurePosixPath(path).with_suffix("")) for path in paths}
    if double := [files for stem in stems.values() if len(files := by_stem.get(stem, [])) > 1]:
        raise DataError(f"Expected one map an image, got {' and '.join(map(str, double[0]))}. Remove all but one.")
    maps = {path: by_stem[stem][0] for path, stem in stems.items() if stem in by_stem}
    file = scores or (folder / SCORES if (folder / SCORES).is_file() else None)
    read = None if file is None else _read_scores(file, paths)
    if (maps or read is None) and len(maps) < len(paths):
        lacking = [path for path in paths if path not in maps]
        raise DataError(
            f"Expected a map in {folder} for each of the {len(paths)} test images of {split.name}, got none of "
            f"{_named(lacking)}. Name a map like its image, with one of the suffixes {', '.join(SUFFIXES)}."
        )
    odd = sorted(
        own.relative_to(folder).as_posix() for stem in by_stem.keys() - set(stems.values()) for own in by_stem[stem]
    )
    return Predictions(folder, maps, read, tuple(odd), _digest(maps, read))


def read_map(file: Path) -> Map:
    """Return an anomaly map, (H, W): a float or 16-bit TIFF, a .npy or .npz file of one array, or a 16-bit PNG.

    Raises:
        DataError: it cannot be read, is no map, or is not finite.
    """
    try:
        found = _read_map(file)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"Expected an anomaly map in {file}, got {error}. Write it anew.") from error
    squeezed = found[0] if found.ndim == 3 and found.shape[0] == 1 else found
    if squeezed.ndim != 2 or not squeezed.size or squeezed.dtype.kind not in "fiu":
        raise DataError(
            f"Expected one value a pixel in {file}, got shape {found.shape} of {found.dtype}. Write numbers, (H, W)."
        )
    with np.errstate(over="ignore"):
        values = squeezed.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"Expected finite values in {file}, got NaN, infinity or beyond float32. Write it anew.")
    return values


def _read_map(file: Path) -> NDArray[np.generic]:
    if file.suffix.lower() in (".npy", ".npz"):
        try:
            return _read_array(file)
        except (OSError, ValueError):
            raise
        except Exception as error:  # numpy raises what zipfile, zlib and its parser of headers raise
            raise ValueError(f"a damaged file ({type(error).__name__}: {error})") from error
    image = decode(file)
    if image.mode not in ("F", *SIXTEEN_BIT):
        raise ValueError(f"mode {image.mode} instead of floats or 16-bit grey")
    return np.asarray(image)


def _read_array(file: Path) -> NDArray[np.generic]:
    """Return the array of a .npy file, or the only one of a .npz file."""
    with file.open("rb") as content:  # numpy leaves a file open in which it finds no archive
        stored = np.load(content, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return stored
        if len(stored.files) != 1:
            raise ValueError(f"{len(stored.files)} arrays")
        return np.asarray(stored[stored.files[0]])


def fitted(own: Map, size: tuple[int, int], protocol: Protocol, file: Path) -> Map:
    """Return a map at the size of the protocol's images.

    One that has that size is taken as it is. Any other is of the whole image, and is resized (bilinearly, with
    antialiasing, as Pillow does) and cropped as the image is. It has the image's aspect; where the protocol stretches
    images to squares it may also be a square.

    Args:
        own: (H, W).
        size: (width, height) of the image on disk.
        protocol: how images are resized and cropped.
        file: of the map, for the message.

    Raises:
        DataError: another aspect, or a size that leaves open whether the map is cropped.
    """
    height, width = own.shape
    if (height, width) == protocol.size:
        if protocol.crops and size == (width, height):
            raise DataError(
                f"Expected to know whether {file} is of the whole image or of what protocol {protocol.name} keeps of "
                f"it, got {width} x {height} pixels, which both have. Hand in maps of the whole image at another size."
            )
        return own
    same = abs(width * size[1] - height * size[0]) <= max(*size, width, height)
    if not same and not (width == height and protocol.resize_mode == "exact"):
        raise DataError(
            f"Expected a map with the aspect of its image ({size[0]} x {size[1]}) or of {protocol.size[1]} x "
            f"{protocol.size[0]} pixels, got {width} x {height} in {file}. Do not crop maps, or pass the --protocol "
            "that they were made for."
        )
    return np.asarray(center_crop(resize(Image.fromarray(own), protocol, Image.Resampling.BILINEAR), protocol))


def _read_scores(file: Path, paths: Sequence[str]) -> dict[str, float]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as content:
            rows = list(csv.DictReader(content))
        found: dict[str, float] = {}
        for number, row in enumerate(rows, start=2):
            path = (row["path"] or "").replace("\\", "/")
            if path in found:
                raise ValueError(f"{path!r} twice, at last in line {number}")
            found[path] = float(row["score"])
            if not np.isfinite(np.float32(found[path])):
                raise ValueError(f"{row['score']!r} in line {number}, which is not finite")
    except KeyError as error:
        raise DataError(f"Expected the columns path and score in {file}, got no {error}. Name them so.") from error
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"Expected image scores in {file}, got {error}. Write it anew.") from error
    if lacking := [path for path in paths if path not in found]:
        raise DataError(
            f"Expected a score in {file} for each of the {len(paths)} test images, got none of {_named(lacking)}. "
            "Write paths relative to the dataset, with forward slashes."
        )
    return {path: found[path] for path in paths}


def _digest(maps: Mapping[str, Path], scores: Mapping[str, float] | None) -> str:
    digests = digests_of([file.resolve() for file in maps.values()])
    files = {path: digests[file.resolve()] for path, file in maps.items()}
    return sha256_of({"maps": files, "scores": None if scores is None else dict(scores)})


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
