"""How much memory LTAD's two trainings take, from the names of its models and its settings alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ltbench.blocks.device_memory import FLOAT, Room
from ltbench.blocks.features.tokens import grid_of
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.training.estimate import UNDRAWN, Training
from ltbench.blocks.vision_language import Views
from ltbench.blocks.vision_language.estimate import reader_bytes, reader_room, text_reader
from ltbench.blocks.vision_language.shapes import ModelShape, model_shape

from .decoders import Branch, Shape
from .first_phase import synthesiser_of
from .hyper_parameters import HyperParameters
from .phases import detector_of
from .semantics import semantic_loss
from .synthesis import Synthesiser, synthesis_loss

MARKS = 2
"""Tokens of a text beside its name: those of its beginning and end."""


class Parts(NamedTuple):
    """What LTAD takes.

    Args:
        reading: bytes of the frozen model, and of images in it.
        room: of it on a device.
        synthesis: phase 1; None where there is none.
        made: bytes of the networks of phase 1, which stay.
        detection: phase 2.
    """

    reading: int
    room: Room
    synthesis: Training | None
    made: int
    detection: Training


def estimated(settings: HyperParameters, size: tuple[int, int], categories: int) -> Parts:
    """Return what a training takes.

    Args:
        settings: the hyper-parameters.
        size: (height, width) in pixels of the images.
        categories: how many.
    """
    shape, grid = model_shape(settings.model), grid_of(size, settings.stride)
    maps = [shape.block(layer + 1, size) for layer in settings.layers]
    branch = Branch(
        shape.stages,
        [shape.stage_of(layer) for layer in settings.layers],
        [own.width for own in maps],
        [Shape(*own) for own in maps],
        grid,
    )
    with torch.device("meta"):
        synthesiser = synthesiser_of(settings, shape.dim, branch)
    made = FLOAT * sum(parameter.numel() for parameter in synthesiser.parameters())
    first = _synthesis(settings, shape, synthesiser, branch) if settings.needs_first_phase else None
    second = _detection(settings, shape, branch.channels, grid, categories)
    reading = reader_bytes(settings.model, size, Views())
    return Parts(reading, reader_room(settings.model, size, Views()), first, made, second)


def _synthesis(settings: HyperParameters, shape: ModelShape, synthesiser: Synthesiser, branch: Branch) -> Training:
    """Return phase 1: codes to maps, and names through the text branch."""
    read, inputs = text_reader(shape), (settings.latent_dim or shape.dim) + shape.dim * settings.conditioned
    targets = branch.shapes
    if settings.decoder_output == "tokens":
        targets = [Shape(channels, *branch.grid) for channels in branch.channels]

    def forward(count: int) -> list[Tensor]:
        maps = synthesiser.decoder(torch.empty(count, inputs))
        wanted = [torch.empty(count, *own) for own in targets]
        texts = [read(count, settings.name_length + MARKS)] if settings.learn_names and settings.conditioned else []
        return [*texts, synthesis_loss(maps, wanted, torch.zeros(count), settings.kl_weight)]

    return Training([synthesiser], [forward], settings.batch_size)


def _detection(
    settings: HyperParameters, shape: ModelShape, channels: Sequence[int], grid: Grid, categories: int
) -> Training:
    """Return phase 2: patches rebuilt, and compared with texts."""
    detector = detector_of(settings, channels, shape.dim, grid, categories, seed=0).to("meta")

    def forward(count: int) -> list[Tensor]:
        clean, noised = (torch.empty(count, grid[0] * grid[1], sum(channels)) for _ in range(2))
        kept = [clean, noised]
        if detector.reconstruction is not None:
            kept.append((detector.reconstruction(noised, UNDRAWN) - clean).square())
        if detector.projections is not None:
            texts = torch.empty(count, shape.dim), torch.empty(count, shape.dim)
            kept.append(semantic_loss(*(detector.logits(own, *texts, settings.temperature) for own in (clean, noised))))
        return kept

    return Training([detector], [forward], settings.batch_size)
