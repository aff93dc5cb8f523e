"""The training of the prompts on annotated images, kept in the feature store for all runs that share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.features.tokens import stack_on_disk
from ltbench.blocks.training.estimate import kept_bytes
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.blocks.vision_language import LAST, Reader, Views, readings
from ltbench.blocks.vision_language.estimate import text_reader
from ltbench.blocks.vision_language.shapes import ModelShape
from ltbench.core import sha256_of
from ltbench.errors import DataError
from ltbench.method import AnnotatedImageSet, Method, Runtime

from .losses import image_loss, map_loss, probabilities, upsampled
from .prompts import Prompts

PHASE = "prompts"

ENDING = 8
"""More tokens than a prompt has beside its learnt words."""

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How prompts are trained.

    Args:
        temperature: tau of every softmax.
        map_weight: factor of the maps' losses.
        schedule: how long, in which steps.
        learning_rate: of Adam.
    """

    temperature: float
    map_weight: float
    schedule: Schedule
    learning_rate: float


@dataclass(frozen=True)
class Annotated:
    """What prompts are trained on: the frozen image branch's answers, with labels and masks.

    Args:
        codes: (N, D).
        patches: (N, h * w, D) of each block that is used.
        grid: (height, width) in patches.
        labels: (N,), 1 for a defect.
        masks: (N, H, W), packed along the last axis.
        size: (H, W).
    """

    codes: NDArray[np.float32]
    patches: tuple[NDArray[np.float32], ...]
    grid: tuple[int, int]
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8]
    size: tuple[int, int]

    @classmethod
    def read(cls, images: AnnotatedImageSet, reader: Reader, views: Views, side: int, runtime: Runtime) -> Annotated:
        """Read every image once.

        Raises:
            DataError: images that are all good, or all defective.
        """
        labels = np.array(images.labels, np.int64)
        if len(set(labels.tolist())) < 2:
            raise DataError(f"Expected good and defective images in {images.dataset}, got one kind. Choose another.")
        rows = (
            (reading.code, *(reading.local[block] for block in views.local))
            for reading in readings(reader, images, views, side, runtime)
        )
        codes, *patches = stack_on_disk(rows, len(images), runtime.checkpoints)
        masks = np.stack([np.packbits(images.mask(index), axis=-1) for index in range(len(images))])
        grid = reader.grid((side, side) if side else images.size)
        return cls(codes, tuple(patches), grid, labels, masks, images.size)

    def masks_of(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the masks of some images, (B, H, W), 1 on a defect."""
        return torch.from_numpy(np.unpackbits(self.masks[indices], axis=-1, count=self.size[1])).float()


def loss_of(prompts: Prompts, reader: Reader, data: Annotated, recipe: Recipe, shard: Shard) -> Tensor:
    """Return the loss of a batch: the images' cross-entropy, and the maps' losses of each block times their factor."""
    device = reader.device
    texts = prompts.vectors(reader.text)
    labels = torch.tensor(data.labels[shard.indices], device=device)
    masks = data.masks_of(shard.indices).to(device)
    total = image_loss(torch.tensor(data.codes[shard.indices], device=device), texts, labels, recipe.temperature)
    for patches in data.patches:
        vectors = torch.tensor(patches[shard.indices], device=device)
        maps = upsampled(probabilities(vectors, texts, recipe.temperature), data.grid, data.size)
        total = total + recipe.map_weight * map_loss(maps, masks)
    return total


def step_bytes(shape: ModelShape, views: Views, recipe: Recipe, words: int, given: Grid, size: Grid) -> int:
    """Return the bytes of a training step: what is kept of the prompts, of the images' patches and of their maps.

    Args:
        shape: of the model.
        views: what is asked about an image.
        recipe: how prompts are trained.
        words: learnt words of a prompt.
        given: (height, width) in pixels that the model is given.
        size: of the images and masks.
    """
    read, batch = text_reader(shape), recipe.schedule.batch_size
    own = shape.block(LAST, given)

    def forward() -> list[Tensor]:
        texts, codes = read(2, words + ENDING), torch.empty(batch, shape.dim)
        losses = [image_loss(codes, texts, torch.empty(batch, dtype=torch.long), recipe.temperature)]
        for _ in views.local:
            vectors = torch.empty(batch, own.places, shape.dim)
            found = probabilities(vectors, texts, recipe.temperature)
            losses.append(map_loss(upsampled(found, (own.height, own.length), size), torch.empty(batch, *size)))
        return losses

    return kept_bytes(forward)


def identity(
    settings: dict[str, Any], images: AnnotatedImageSet, reader: Reader, views: Views, runtime: Runtime
) -> str:
    """Return the name of trained prompts: a hash of everything that they depend on."""
    return sha256_of(
        {
            "prompts": 1,
            "model": reader.identity(),
            "views": repr(views),
            "settings": settings,
            "images": list(zip(images.fingerprints, images.annotation_keys, strict=True)),
            "seed": runtime.seed,
            "device": runtime.device,
        }
    )[:32]


def train_prompts(
    prompts: Prompts, reader: Reader, data: Annotated, recipe: Recipe, runtime: Runtime, method: Method
) -> list[float]:
    """Train prompts and return the mean loss of each epoch."""
    optimiser = torch.optim.Adam(prompts.parameters(), recipe.learning_rate, betas=(0.5, 0.999))

    def loss(shard: Shard) -> Tensor:
        return loss_of(prompts, reader, data, recipe, shard)

    # One shard a batch: the prompts go through the text branch once a step, whatever the batch.
    learner = Learner(PHASE, prompts, loss, optimiser, shards="one")
    train([learner], len(data.labels), recipe.schedule, runtime, phase=PHASE, method=method)
    losses: list[float] = runtime.notes["losses"][PHASE][PHASE]
    return losses
