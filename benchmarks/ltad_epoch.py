"""Time an epoch of LTAD's phase 2 from cached features and cached text vectors beside one that runs the models live.

    python benchmarks/ltad_epoch.py
    python benchmarks/ltad_epoch.py --model packaged-lite0 --images 64

Both sides are the method's own training step; the live side gets its patches and codes from the image branch and the
prompts' vectors from the text branch, each time it needs them. "align" is ALIGN in its full size, at the paper's
settings, with random weights; the other models are those of `-p model=`, with the preset `offline`. Images are drawn.
Sides take turns, and seconds are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AlignConfig, AlignModel

from ltbench.blocks.learner import Learner, Schedule, Shard
from ltbench.blocks.reconstruction import Reconstruction
from ltbench.blocks.semantic_reconstruction.data import TrainingFeatures, training_features
from ltbench.blocks.semantic_reconstruction.first_phase import FirstPhase
from ltbench.blocks.semantic_reconstruction.names import text_vectors
from ltbench.blocks.semantic_reconstruction.phases import Detector, DetectorTask, Synthesis, Texts
from ltbench.blocks.semantic_reconstruction.semantics import SemanticProjections
from ltbench.blocks.tokens import aligned
from ltbench.blocks.training import train
from ltbench.blocks.vision_language import VisionLanguage, load_vision_language
from ltbench.blocks.vision_language.align import align
from ltbench.blocks.vision_language.loading import SCALES
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from ltbench.registry import presets
from methods.ltad.method import LTAD

GRID, CATEGORIES = (14, 14), 4


@dataclass(frozen=True)
class LiveFeatures(TrainingFeatures):
    """Features that the image branch makes whenever they are asked for."""

    model: VisionLanguage
    images: NDArray[np.uint8]

    def patches_of(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the patches of some images, (B, h * w, C)."""
        maps = [self.model.images(self.images[index])[:-1] for index in indices]
        return torch.tensor(np.stack([aligned(each, self.grid)[0] for each in maps])) / self.scales[0]

    def codes_of(self, indices: NDArray[np.int64]) -> Tensor:
        """Return the codes of some images, (B, D)."""
        codes = [self.model.code_of(self.model.images(self.images[index])[-1]) for index in indices]
        return torch.tensor(np.stack(codes)) / self.scales[1]


def texts_of(settings: LTAD, model: VisionLanguage, synthesis: Synthesis, categories: Sequence[int]) -> Texts:
    """Return the prompts' vectors of some categories; the rows of the others are zero."""
    names = [synthesis.names.vectors[category].detach() for category in categories]
    texts = Texts(*(torch.zeros(CATEGORIES, model.code_dim) for _ in range(3)))
    prompts = ([""], settings.normal_prompts, settings.abnormal_prompts)
    with torch.no_grad():
        for vectors, prompt in zip((texts.name, texts.normal, texts.abnormal), prompts, strict=True):
            vectors[list(categories)] = text_vectors(model.text, names, prompt)
    return texts


def detector_of(settings: LTAD, model: VisionLanguage) -> Detector:
    """Return the networks of phase 2."""
    reconstruction = Reconstruction(
        sum(model.channels),
        GRID,
        width=settings.width,
        layers=settings.depth,
        heads=settings.heads,
        ffn_width=settings.ffn_width,
        dropout=settings.dropout,
    )
    return Detector(reconstruction, SemanticProjections(model.channels, model.code_dim))


def epoch_of(
    settings: LTAD, task: DetectorTask, count: int, live_texts: Callable[[Sequence[int]], Texts] | None
) -> Callable[[], None]:
    """Return what trains one epoch, with the prompts' vectors worked out anew for each shard or once."""

    def loss(shard: Shard) -> Tensor:
        if live_texts is None:
            return task.loss(shard)
        present = sorted(set(task.features.categories[shard.indices].tolist()))
        return replace(task, texts=live_texts(present)).loss(shard)

    optimiser = torch.optim.AdamW(task.detector.parameters(), lr=settings.learning_rate)
    learner = Learner("detector", task.detector, loss, optimiser, settings.clip_norm)
    return lambda: train([learner], count, Schedule(1, settings.batch_size), Runtime())


def settings_and_model(name: str) -> tuple[LTAD, VisionLanguage]:
    """Return LTAD's hyper-parameters for an image-text model, and the model."""
    if name != "align":
        settings = LTAD(**{**presets(LTAD)["offline"].parameters, "model": name})
        return settings, load_vision_language(name, settings.layers, runtime=Runtime())
    settings = LTAD()
    network = AlignModel(AlignConfig())
    tokenize = {"": [], "a": [1037], "a broken": [1037, 3714], "object": [4874], "object object": [4874, 4874]}
    return settings, align(name, network, tokenize.__getitem__, (101, 102), settings.layers, SCALES["symmetric"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="align", help="align, packaged-lite0 or tiny")
    parser.add_argument("--images", type=int, default=32, help="training images")
    parser.add_argument("--rounds", type=int, default=3, help="times that each side is timed")
    options = parser.parse_args()
    torch.manual_seed(0)
    settings, model = settings_and_model(options.model)
    pixels = np.random.default_rng(0).integers(0, 256, (options.images, 224, 224, 3), dtype=np.uint8)
    categories = np.arange(options.images) % CATEGORIES
    images = ArrayImages(pixels, [f"part {index}" for index in categories])
    start = time.perf_counter()
    cached = training_features(
        model, images, GRID, categories, with_maps=settings.decoder_output == "layers", scaled=True, runtime=Runtime()
    )
    extraction = time.perf_counter() - start
    live = LiveFeatures(**{f.name: getattr(cached, f.name) for f in fields(cached)}, model=model, images=pixels)
    names = tuple(f"part {index}" for index in range(CATEGORIES))
    synthesis = FirstPhase(settings, model, cached, names).untrained(Runtime())

    def task(features: TrainingFeatures) -> DetectorTask:
        detector, texts = detector_of(settings, model), texts_of(settings, model, synthesis, range(CATEGORIES))
        return DetectorTask(
            detector,
            features,
            texts,
            synthesis.synthesiser,
            [settings.p_real] * CATEGORIES,
            settings.jitter_scale,
            mean=settings.reduction == "mean",
            temperature=settings.temperature,
        )

    sides = {
        "cached features and texts": epoch_of(settings, task(cached), options.images, None),
        "both models live": epoch_of(
            settings, task(live), options.images, partial(texts_of, settings, model, synthesis)
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds + 1):
        for name, epoch in sides.items():
            start = time.perf_counter()
            epoch()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    first = statistics.median(seconds["cached features and texts"])
    print(f"{options.model}, {options.images} images, {torch.get_num_threads()} threads")
    print(f"features of all images, once: {extraction:.1f} s\n")
    print("| an epoch of phase 2 | seconds | times cached |\n|---|---:|---:|")
    for name, measured in seconds.items():
        print(f"| {name} | {statistics.median(measured):.1f} | {statistics.median(measured) / first:.2f} |")


if __name__ == "__main__":
    main()
