"""Time on a CUDA device what a run is made of, beside the CPU or the one-by-one path, in one Markdown table.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cuda:1 --precision tf32
    python benchmarks/gpu.py --device cpu --rehearse

Weights are random and images drawn: neither changes the time. The one-by-one path is that of ltbench before it had
batches: an image is sent, computed and fetched before the next. Peak memory is torch's, in that row. It is meant to
take less than 8 minutes on an H200. `--rehearse` goes through all of it in miniature, on a CPU that takes batches, to
see that it works; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import faiss
import numpy as np
import torch
from gpu_table import Side, Table
from numpy.typing import NDArray
from PIL import Image

from ltbench.blocks import device as blocks
from ltbench.blocks.features.backbones import Backbone, load_backbone
from ltbench.blocks.features.extractor import FeatureExtractor, Load
from ltbench.blocks.features.transformers import load_transformer
from ltbench.blocks.memory_bank.coreset import greedy_coreset
from ltbench.blocks.memory_bank.device_search import DeviceRows
from ltbench.blocks.switches import Precision, reproducible
from ltbench.contract.parameters import resolve
from ltbench.contract.registry import method_class, presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.datasets.images import FileImages
from ltbench.method import Runtime
from ltbench.protocols import protocol_named


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each row does.

    Args:
        networks: what is shown, timm's name, layers, and how it is loaded.
        side: of the images, in pixels.
        images: that features are computed of.
        single: of them, those for the one-by-one path.
        files: PNG files of 1024 x 1024 to decode.
        search: queries, rows and columns.
        coreset: points, columns and picks; on the CPU alone.
        train: training images of the whole run.
        test: test images of the whole run.
        run: hyper-parameters of TailedCore.
        preset: of the trained methods.
    """

    networks: tuple[tuple[str, str, tuple[int, ...], Load], ...]
    side: int
    images: int
    single: int
    files: int
    search: tuple[int, int, int]
    coreset: tuple[int, int, int]
    train: int
    test: int
    run: dict[str, Any]
    preset: dict[str, str]


FULL = Sizes(
    networks=(
        ("WideResNet50-2", "wide_resnet50_2", (2, 3), load_backbone),
        ("EfficientNet-b4", "tf_efficientnet_b4", (1, 2, 3, 4), load_backbone),
        ("ViT-B/14", "vit_base_patch14_dinov2", (2, 5, 8, 11), load_transformer),
    ),
    side=224,
    images=1024,
    single=64,
    files=64,
    search=(50_000, 20_000, 1024),
    coreset=(200_000, 128, 2_000),
    train=1000,
    test=1725,
    run={"backbone": "wide_resnet50_2", "weights": "random", "augmentation": "rotflip", "coreset_ratio": 0.01},
    preset={"uniad": "paper", "ltad": "offline"},
)
"""The training images are about as many as mvtec_k4 has, the test images are MVTec AD's."""

TINY = Sizes(
    networks=(
        ("tiny ResNet", "test_resnet", (1, 2), load_backbone),
        ("tiny ViT", "test_vit", (1, 3), load_transformer),
    ),
    side=64,
    images=40,
    single=4,
    files=4,
    search=(5_000, 2_000, 64),
    coreset=(2_000, 16, 50),
    train=12,
    test=8,
    run={"backbone": "test_resnet", "layers": (1, 2), "weights": "random", "embed_dim": 32, "coreset_ratio": 0.1},
    preset={"uniad": "check", "ltad": "check"},
)


def main() -> None:
    """Time everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=("float32", "tf32", "bf16"), help="only this one of the backbones")
    parser.add_argument("--rehearse", action="store_true", help="in miniature, on a CPU that takes batches")
    options = parser.parse_args()
    start, sizes = time.perf_counter(), TINY if options.rehearse else FULL
    precisions: tuple[Precision, ...] = (options.precision,) if options.precision else ("float32", "tf32", "bf16")
    with ExitStack() as stack:
        if options.rehearse:
            stack.enter_context(mock.patch.object(blocks, "BATCHED", ("cpu",)))
            precisions = ("float32", "bf16")
        table = Table(options.device)
        for name, network, layers, load in sizes.networks:
            features(table, name, (network, layers, load), precisions, sizes, options.device)
        decoding(table, sizes, options.device)
        search(table, sizes, options.device)
        coreset(table, sizes)
        for method, batch in (("uniad", 64), ("ltad", 16)):
            step(table, method, batch, sizes, options.device)
        whole_run(table, sizes, options.device)
        print(f"\n{_machine(options.device)}\n\n{table.text()}\n\n{time.perf_counter() - start:.0f} seconds in all.")


def features(
    table: Table,
    name: str,
    network: tuple[str, tuple[int, ...], Load],
    precisions: Sequence[Precision],
    sizes: Sizes,
    device: str,
) -> None:
    """Time a backbone in each precision beside the one-by-one path, and look at whether batches change a bit."""
    images = drawn(sizes.images, sizes.side)
    for precision in precisions:
        runtime = Runtime(device=device)
        extractor = FeatureExtractor(
            network[0], network[1], "random", runtime=runtime, load=network[2], precision=precision
        )

        def batches(extractor: FeatureExtractor = extractor) -> None:
            for _ in extractor.extract(images):
                pass

        single = partial(one_by_one, extractor.backbone, images.images[: sizes.single])
        old = Side("one by one", sizes.single, single)
        is_full = precision == precisions[0]
        table.add(f"{name}, {precision}", "images", len(images), batches, old if is_full else None)
        table.note(f"{name}, {precision}: batch order and padding", invariance(extractor, images.images[:70]))


def one_by_one(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    """Send, compute and fetch one image after the other, as was done before there were batches."""
    mean, std = (torch.tensor(v, device=backbone.device).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    for image in images:
        with torch.inference_mode(), reproducible(backbone.device):
            pixels = torch.tensor(image, device=backbone.device).permute(2, 0, 1)
            normalised = ((pixels / 255 - mean) / std)[None].contiguous(memory_format=torch.channels_last)
            for level in backbone.network(normalised):
                level[0].cpu().contiguous().numpy()


def invariance(extractor: FeatureExtractor, images: NDArray[np.uint8]) -> str:
    """Return whether features are the same, bit for bit, in another order and in a padded batch."""
    whole = list(extractor.extract(ArrayImages(images)))
    turned = list(extractor.extract(ArrayImages(images[::-1])))[::-1]
    padded = list(extractor.extract(ArrayImages(images[-3:])))
    pairs = [*zip(whole, turned, strict=True), *zip(whole[-3:], padded, strict=True)]
    worst = max(float(np.abs(a - b).max()) for one, two in pairs for a, b in zip(one, two, strict=True))
    return "equal to the last bit" if worst == 0 else f"DIFFER by up to {worst:.3g}"


def decoding(table: Table, sizes: Sizes, device: str) -> None:
    """Time files through the first network: what is bound by decoding."""
    _, network, layers, load = sizes.networks[0]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.png") for number in range(sizes.files)]
        for file, pixels in zip(files, drawn(sizes.files, 1024), strict=True):
            Image.fromarray(pixels).save(file)
        images = FileImages(files, protocol_named("common"))
        extractor = FeatureExtractor(network, layers, "random", runtime=Runtime(device=device), load=load)

        def batched() -> None:
            for _ in extractor.extract(images):
                pass

        def decoded() -> None:
            for index in range(len(images)):
                images[index]

        old = Side("decoded alone, one thread", len(files), decoded)
        table.add("features of PNG files of 1024 x 1024", "images", len(files), batched, old)


def search(table: Table, sizes: Sizes, device: str) -> None:
    """Time the exact search beside a bare FAISS on the CPU."""
    queries, rows, columns = sizes.search
    rng = np.random.default_rng(0)
    memory, asked = (np.abs(rng.normal(size=(n, columns))).astype(np.float32) for n in (rows, queries))
    there, sent = DeviceRows(memory, device), torch.tensor(asked, device=device)
    here = faiss.IndexFlatL2(columns)
    here.add(memory)
    old = Side("FAISS on the CPU", queries, lambda: here.search(asked, 1))
    table.add(f"1-NN in {rows:,} x {columns:,}", "queries", queries, lambda: there.search(sent, 1), old)


def coreset(table: Table, sizes: Sizes) -> None:
    """Time the coreset, which is chosen on the CPU."""
    count, columns, picks = sizes.coreset
    points = np.random.default_rng(0).normal(size=(count, columns)).astype(np.float32)
    name = f"{picks:,} of {count:,} x {columns}, on the CPU"
    table.add(f"coreset: {name}", "", 1, lambda: greedy_coreset(points, picks, start=0))


def step(table: Table, name: str, batch: int, sizes: Sizes, device: str) -> None:
    """Time a training step: what three more epochs take beside what one does."""
    cls: Any = method_class(name)
    kept = resolve(cls, presets(cls)[sizes.preset[name]].parameters)
    values = kept | ({} if "weights" not in kept else {"weights": "random"})
    images = drawn(2 * batch, sizes.side).images
    known = ArrayImages(images, ["ab"[index % 2] for index in range(len(images))])

    def fit(epochs: int) -> float:
        given = {key: epochs if key in ("epochs", "synthesis_epochs") else value for key, value in values.items()}
        start = time.perf_counter()
        cls(**given).fit(known, Runtime(device=device))
        return time.perf_counter() - start

    fit(1)
    seconds = (fit(4) - fit(1)) / 3 / -(-len(images) // values["batch_size"])
    table.note(f"a step of {name} ({sizes.preset[name]}), all its phases", f"{1000 * seconds:.1f} ms")


def whole_run(table: Table, sizes: Sizes, device: str) -> None:
    """Time TailedCore from images in memory to maps."""
    cls: Any = method_class("tailedcore")
    values = resolve(cls, sizes.run)
    train, test = drawn(sizes.train, sizes.side), drawn(sizes.test, sizes.side, seed=1)
    start = time.perf_counter()
    method = cls(**values).fit(train, Runtime(device=device))
    fitted = time.perf_counter()
    method.predict(test)
    done = time.perf_counter()
    text = f"fit {fitted - start:.1f} s, predict {done - fitted:.1f} s"
    table.note(f"TailedCore, {sizes.train:,} and {sizes.test:,} drawn images", text)


def drawn(count: int, side: int, seed: int = 0) -> ArrayImages:
    """Return images of coarse coloured noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, side // 8, side // 8, 3), dtype=np.uint8)
    return ArrayImages(coarse.repeat(8, axis=1).repeat(8, axis=2))


def _machine(device: str) -> str:
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else "a CPU that stands in (a rehearsal)"
    return f"{where}, {os.cpu_count()} processors, torch {torch.__version__}, batches of {blocks.BATCH}."


if __name__ == "__main__":
    main()
