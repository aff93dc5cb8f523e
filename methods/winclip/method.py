"""WinCLIP and WinCLIP+ (Jeong et al., CVPR 2023, arXiv 2303.14814): nothing is trained, and the category is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.maps import upsample
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.references import references
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.vision_language import LAST, Reader, Reading, Views, load_reader, readings, text_vectors
from ltbench.blocks.vision_language.estimate import reader_bytes, reader_room, reading_phases
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .estimate import memory_bytes
from .prompts import prompts
from .scores import Scores, few_shot, memorised, unit, zero_shot

_FEW = {"shots": 4}


@dataclass
class WinCLIP:
    """Windows and the whole image against prompts of normal and damaged objects; with `shots` references too."""

    info: ClassVar[MethodInfo] = MethodInfo("winclip", "WinCLIP", paper="arXiv:2303.14814", uses_categories=True)

    model: Annotated[
        str,
        Field(description="a CLIP of open_clip with its weights, ALIGN, packaged-lite0 to -lite2, or tiny-clip"),
        Probe("tiny", {"side": 128}),
    ] = "ViT-B-16-plus-240/laion400m_e31"
    weights: Annotated[
        str, Field(description="file or folder of a CLIP's weights, random, or empty for the hub's"), Probe("random")
    ] = ""
    side: Annotated[
        int, Field(ge=0, description="pixels of the side that the model is given; 0 for the protocol's"), Probe(80)
    ] = 240
    shots: Annotated[
        int, Field(ge=0, description="reference images of each category; 0 uses no training image"), Probe(0)
    ] = 0
    windows: Annotated[tuple[int, ...], Field(description="sides of the windows, in patches"), Probe((2,))] = (2, 3)
    temperature: Annotated[float, Field(gt=0, description="tau of the softmax over two texts")] = 0.07
    names: Annotated[
        Literal["folder", "spaced", "object"],
        Field(description="what prompts call an object: its folder, with spaces for _, or 'object' whatever it is"),
        Probe("object"),
    ] = "folder"
    normalised_patches: Annotated[
        bool,
        Field(description="whether references' patches are compared behind the last layer norm"),
        Probe(value=True, given=_FEW),
    ] = False
    replacement: Annotated[
        bool,
        Field(description="whether one image can be drawn twice as a reference"),
        Probe(value=False, given={"shots": 6}),
    ] = True

    prototypes_: dict[str, Scores] = field(init=False, repr=False)
    memories_: dict[str, dict[str, Scores]] = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    @property
    def run_info(self) -> MethodInfo:
        """What a run asks for: with the name "object" and no references, no category."""
        return self.info if self.names != "object" or self.shots else replace(self.info, uses_categories=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Read the references of each category; without `shots` no training image is looked at.

        Raises:
            SpecError: the same window twice.
        """
        if len(set(self.windows)) < len(self.windows):
            raise SpecError(f"Expected windows of different sides, got {list(self.windows)}. Name each once.")
        self._lend(runtime)
        self.prototypes_, self.memories_ = {}, {}
        if self.shots:
            drawn = references(train, self.shots, self.seed_, replacement=self.replacement)
            self.memories_ = {category: self._memory(own) for category, own in drawn.items()}
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score images one by one: maps are resized bilinearly, without smoothing.

        Raises:
            SpecError: with `shots`, a category that no training image has.
        """
        told = self.run_info.uses_categories
        categories = list(images.categories) if told else ["object"] * len(images)
        if self.shots and (unknown := sorted(set(categories) - set(self.memories_))):
            raise SpecError(
                f"Expected a category with references, got {unknown[0]!r}. Set shots=0, or add images of it."
            )
        for category in sorted(set(categories)):
            self._prototype(category)
        scores = np.empty(len(images), np.float32)
        maps = np.empty((len(images), *images.size), np.float32)
        tasks = self._tasks(images, categories)
        for index, (score, grid) in enumerate(in_order(tasks, self._model.workers)):
            scores[index], maps[index] = score, upsample(grid, images.size)
        return Prediction(scores, maps)

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what reading, references and scoring will take; references stay in memory in any case."""
        size = (self.side, self.side) if self.side else images.size
        model = reader_bytes(self.model, size, self._views)
        kept, scoring = memory_bytes(self.model, self.windows, size, self.shots, len(images.train))
        phases = {f"{self.model} and {max(images.test, default=0):,} maps": model + scoring + maps_bytes(images)}
        if self.shots:
            phases |= {f"{self.shots} references of {len(images.train):,} categories": model + kept}
        on_device = reading_phases(reader_room(self.model, size, self._views), images)
        return MemoryEstimate(phases, device=on_device)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the prototypes and the references' vectors."""
        arrays: dict[str, NDArray[Any]] = {
            f"prototype/{index}": array for index, array in enumerate(self.prototypes_.values())
        }
        for index, memory in enumerate(self.memories_.values()):
            arrays |= {f"memory/{index}/{name}": array for name, array in memory.items()}
        arrays["categories"] = packed({"prototypes": list(self.prototypes_), "memories": list(self.memories_)})
        save_state(folder, self, arrays | {"seed": np.array([self.seed_])})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state["seed"].item()))
        named = unpacked(state["categories"])
        method.prototypes_ = {name: state[f"prototype/{index}"] for index, name in enumerate(named["prototypes"])}
        method.memories_ = {
            name: {
                key.removeprefix(f"memory/{index}/"): array
                for key, array in state.items()
                if key.startswith(f"memory/{index}/")
            }
            for index, name in enumerate(named["memories"])
        }
        return method

    def _lend(self, runtime: Runtime) -> None:
        self.seed_, self._runtime = runtime.seed, runtime
        self.__dict__.pop("_model", None)

    @cached_property
    def _model(self) -> Reader:
        return load_reader(self.model, self.weights, runtime=self._runtime)

    @property
    def _views(self) -> Views:
        """What is asked about an image; without references no patches."""
        tokens = (LAST,) if self.shots else ()
        return Views(self.windows, tokens, normalised_tokens=self.normalised_patches and bool(self.shots))

    def _prototype(self, category: str) -> Scores:
        """Return the normal and the anomalous prototype (2, D): means of the prompts' vectors, then of length 1."""
        if category not in self.prototypes_:
            name = {"folder": category, "spaced": category.replace("_", " "), "object": "object"}[self.names]
            vectors = [text_vectors(self._model, list(own), self._runtime).double() for own in prompts(name)]
            self.prototypes_[category] = unit(np.stack([own.mean(dim=0).numpy() for own in vectors]))
        return self.prototypes_[category]

    def _memory(self, images: ImageSet) -> dict[str, Scores]:
        found = list(readings(self._model, images, self._views, self.side, self._runtime))
        return {name: unit(array) for name, array in memorised(found).items()}

    def _tasks(self, images: ImageSet, categories: list[str]) -> Iterator[Callable[[], tuple[float, Scores]]]:
        found = readings(self._model, images, self._views, self.side, self._runtime)
        for category, reading in zip(categories, found, strict=True):
            yield partial(self._scored, reading, self.prototypes_[category], self.memories_.get(category))

    def _scored(self, reading: Reading, texts: Scores, memory: Mapping[str, Scores] | None) -> tuple[float, Scores]:
        """Return the score of an image and its map (h, w)."""
        score, grid = zero_shot(reading, texts, self.temperature)
        if memory is None:
            return score, grid
        differs = few_shot(reading, memory)
        return 0.5 * (score + float(differs.max())), grid + differs


METHOD: type[Method] = WinCLIP
