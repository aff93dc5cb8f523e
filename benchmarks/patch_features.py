"""Patch features for the benchmarks: of real images by EfficientNet-Lite0 if there are any, else random ones."""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from ltbench.blocks.features.backbones import Backbone, load_backbone
from ltbench.blocks.memory_bank.coreset import random_projection

CROP = 224


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="dataset in MVTec layout whose training images give the features; without it they are random",
    )
    parser.add_argument("--columns", type=int, default=128, help="columns after the random projection (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side; medians are shown (%(default)s)")


def patch_features(images: Path | None, count: int, side: int, columns: int) -> tuple[NDArray[np.float32], str]:
    """Return patches (count images, side * side, columns) and what they are of.

    Levels of stride 8 and 16, 3x3 average pooled and brought to a grid of side x side: 152 columns, which are then
    projected at random. They are kept in the system's temporary folder.
    """
    rng = np.random.RandomState(0)
    if images is None:
        return rng.standard_normal((count, side * side, columns)).astype(np.float32), "random normal features"
    files = training_images(images)
    if len(files) < count:
        raise SystemExit(f"Expected {count} images below {images}/*/train/good, got {len(files)}. Ask for fewer rows.")
    files = [files[i] for i in np.linspace(0, len(files) - 1, count).astype(int)]
    key = hashlib.sha256("\n".join([str(images), str(side), *map(str, files)]).encode()).hexdigest()[:16]
    cached = Path(tempfile.gettempdir()) / f"ltbench-patches-{key}.npy"
    if not cached.exists():
        _write(cached, files, side)
    patches = np.load(cached, mmap_mode="r", allow_pickle=False)
    projection = random_projection(patches.shape[2], columns, rng)
    projected = np.stack([image if projection is None else image @ projection for image in patches])
    return projected, f"EfficientNet-Lite0 features of {count} images of {images.name}, {side}x{side} patches"


def training_images(images: Path) -> list[Path]:
    return sorted(images.glob("*/train/good/*"))


def _write(file: Path, images: list[Path], side: int) -> None:
    backbone = load_backbone("tf_efficientnet_lite0", (2, 3))
    with ThreadPoolExecutor(backbone.workers) as pool:
        patches = np.stack(list(pool.map(lambda image: _patches(backbone, image, side), images)))
    handle, name = tempfile.mkstemp(suffix=".npy", dir=file.parent)
    with os.fdopen(handle, "wb") as stream:
        np.save(stream, patches)
    Path(name).replace(file)


def _patches(backbone: Backbone, file: Path, side: int) -> NDArray[np.float32]:
    image = np.asarray(Image.open(file).convert("RGB"))
    top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
    levels = []
    for level in backbone(image[top : top + CROP, left : left + CROP]):
        pooled = functional.avg_pool2d(torch.from_numpy(level)[None], 3, stride=1, padding=1)
        if pooled.shape[-1] > side:
            pooled = functional.adaptive_avg_pool2d(pooled, side)
        elif pooled.shape[-1] < side:
            pooled = functional.interpolate(pooled, size=(side, side), mode="bilinear", align_corners=False)
        levels.append(pooled)
    joined: NDArray[np.float32] = torch.cat(levels, dim=1)[0].flatten(1).T.contiguous().numpy()
    return joined
