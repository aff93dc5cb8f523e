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
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AlignConfig, AlignModel
from turns import median_seconds, print_table

from ltbench.blocks.features.tokens import aligned
from ltbench.blocks.vision_language import VisionLanguage
from ltbench.blocks.vision_language.align import align
from ltbench.blocks.vision_language.loading import SCALES
from ltbench.contract.registry import presets
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.ltad.data import TrainingFeatures, training_features
from methods.ltad.first_phase import FirstPhase
from methods.ltad.method import LTAD
from methods.ltad.names import text_vectors
from methods.ltad.phases import Synthesis, Texts

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


class LiveVectors:
    """The vectors of a prompt before categories' names, which the text branch makes whenever they are asked for."""

    def __init__(self, model: VisionLanguage, names: Sequence[Tensor], prompts: Sequence[str]) -> None:
        self._model, self._names, self._prompts = model, names, prompts

    def __getitem__(self, categories: NDArray[np.int64]) -> Tensor:
        """Return the vectors of some categories, (B, D); each category is read once."""
        present, places = np.unique(categories, return_inverse=True)
        with torch.no_grad():
            vectors = text_vectors(self._model.text, [self._names[category] for category in present], self._prompts)
        return vectors[places]


def epoch_of(method: LTAD, features: TrainingFeatures, synthesis: Synthesis, *, live_texts: bool) -> None:
    """Train a new detector for one epoch, as the method does."""
    method.detector_ = method._detector(Runtime())
    method.texts_ = method._texts()
    if live_texts:
        prompts = ([""], method.normal_prompts, method.abnormal_prompts)
        vectors = [cast(Tensor, LiveVectors(method._model, method.names_, prompt)) for prompt in prompts]
        method.texts_ = Texts(*vectors)
    method._train_detector(features, synthesis, Runtime())


def method_of(name: str) -> LTAD:
    """Return LTAD over an image-text model, with one epoch of phase 2."""
    if name != "align":
        values = {**presets(LTAD)["offline"].parameters, "model": name, "balance": "none", "epochs": 1}
        method = LTAD(**values)
        method._lend(Runtime())
        return method
    method = LTAD(epochs=1)
    network = AlignModel(AlignConfig())
    ids = {"": [], "a": [1037], "a broken": [1037, 3714], "object": [4874], "object object": [4874, 4874]}
    method.__dict__["_model"] = align(name, network, ids.__getitem__, (101, 102), method.layers, SCALES["symmetric"])
    return method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="align", help="align, packaged-lite0 or tiny")
    parser.add_argument("--images", type=int, default=32, help="training images")
    parser.add_argument("--rounds", type=int, default=3, help="times that each side is timed")
    options = parser.parse_args()
    torch.manual_seed(0)
    method = method_of(options.model)
    pixels = np.random.default_rng(0).integers(0, 256, (options.images, 224, 224, 3), dtype=np.uint8)
    categories = np.arange(options.images) % CATEGORIES
    method.grid_ = GRID
    model = method._model  # loaded before the clock starts
    start = time.perf_counter()
    cached = training_features(
        model,
        ArrayImages(pixels),
        GRID,
        categories,
        with_maps=method.decoder_output == "layers",
        scaled=True,
        runtime=Runtime(),
    )
    extraction = time.perf_counter() - start
    live = LiveFeatures(**{f.name: getattr(cached, f.name) for f in fields(cached)}, model=model, images=pixels)
    names = tuple(f"part {index}" for index in range(CATEGORIES))
    synthesis = FirstPhase(method, model, cached, names).untrained(Runtime())
    method.names_ = [name.detach() for name in synthesis.names.vectors]
    sides = {
        "cached features and texts": partial(epoch_of, method, cached, synthesis, live_texts=False),
        "both models live": partial(epoch_of, method, live, synthesis, live_texts=True),
    }
    seconds = median_seconds(sides, options.rounds)
    first = seconds["cached features and texts"]
    print(f"{options.model}, {options.images} images, {torch.get_num_threads()} threads")
    print(f"features of all images, once: {extraction:.1f} s\n")
    print_table("an epoch of phase 2", "times cached", seconds, lambda own: own / first)


if __name__ == "__main__":
    main()
