"""Time the feature phase of a second method, which reads the store, beside that of the first, which fills it.

    python benchmarks/feature_store.py                       # the built-in images
    python benchmarks/feature_store.py --folder mvtec --images 200
    python benchmarks/feature_store.py --backbone wide_resnet50_2 --weights random --images 60

Each side makes its own extractor, as a run of its own does: loading the network, hashing the image files, and decoding
are part of the time. The sides take turns, each round with an empty store; seconds are medians. All read files that the
operating system has in memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ltbench.blocks.features.extractor import PHASE, FeatureExtractor, Maps
from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.core import Dataset
from ltbench.datasets.folder import index_own
from ltbench.datasets.images import DiskImages
from ltbench.datasets.index import load_dataset
from ltbench.method import FeatureStore, NoProgress, Runtime
from ltbench.protocols import protocol_named


class Stopwatch(NoProgress):
    """A `Progress` that adds up the seconds of each phase, as the runner's does."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the seconds inside the block to the phase."""
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


def feature_phase(
    dataset: Dataset, options: argparse.Namespace, store: FeatureStore | None
) -> tuple[float, list[Maps]]:
    """Return the seconds of a method's feature phase, and the features."""
    every = [sample.path for sample in (*dataset.train, *dataset.test)]
    paths = every[:: max(1, len(every) // options.images)][: options.images]
    images = DiskImages(dataset, paths, protocol_named(options.protocol))
    stopwatch = Stopwatch()
    runtime = Runtime(feature_store=store, progress=stopwatch)
    extractor = FeatureExtractor(options.backbone, options.layers, options.weights, runtime=runtime)
    features = list(extractor.extract(images))
    return stopwatch.seconds[PHASE], features


def compare(dataset: Dataset, options: argparse.Namespace) -> str:
    """Return a Markdown table of the sides."""
    seconds: dict[str, list[float]] = {
        "without a store": [],
        "first method, fills it": [],
        "second method, reads it": [],
    }
    results: list[list[Maps]] = []
    size = 0
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            store = DiskFeatureStore(Path(folder))
            results = []
            for taken, lent in zip(seconds.values(), (None, store, store), strict=True):
                phase, features = feature_phase(dataset, options, lent)
                taken.append(phase)
                results.append(features)
            size = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
    same = all(
        np.array_equal(level, other)
        for features in results[1:]
        for maps, others in zip(results[0], features, strict=True)
        for level, other in zip(maps, others, strict=True)
    )
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    alone = medians["without a store"]
    rows = [f"| {name} | {value:.2f} | {alone / value:.1f}x |" for name, value in medians.items()]
    count = len(results[0])
    return "\n".join(
        [
            f"{count} images, {options.backbone} ({options.weights}), layers {options.layers}, {options.protocol}, "
            f"{size / 1e6 / count:.2f} MB an image, {options.repeats} rounds; features bit-identical: {same}.",
            "",
            "| feature phase | seconds | speed-up |",
            "|---|---:|---:|",
            *rows,
        ]
    )


def main() -> None:
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="a dataset in MVTec's layout (default: the built-in shapes)")
    parser.add_argument("--images", type=int, default=200, help="how many images, at most")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="timm's name")
    parser.add_argument("--weights", default="pretrained", help="pretrained, random or a checkpoint")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3], help="feature levels")
    parser.add_argument("--protocol", default="tailedcore", help="geometry of the images")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    options = parser.parse_args()
    dataset = index_own(options.folder) if options.folder else load_dataset("shapes", None)
    print(compare(dataset, options))


if __name__ == "__main__":
    main()
