"""AnomalyCLIP (Zhou et al., ICLR 2024, arXiv 2310.18961): zero-shot, by prompts learnt on another dataset's defects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ltbench.blocks.maps import upsample_and_smooth
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.state import load_state, save_state
from ltbench.blocks.switches import CPU, reproducible
from ltbench.blocks.training.learner import Schedule
from ltbench.blocks.training.settings import BatchSize, Epochs, TrainingPrecision
from ltbench.blocks.vision_language import LAST, Reader, Reading, Views, load_reader, readings
from ltbench.blocks.vision_language.estimate import reader_bytes, reader_room, reading_phases
from ltbench.blocks.vision_language.shapes import model_shape
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from . import training
from .losses import probabilities
from .prompts import Prompts

TRAINED_BY = (
    "side",
    "context_length",
    "deep_depth",
    "deep_length",
    "temperature",
    "map_weight",
    "epochs",
    "batch_size",
    "learning_rate",
    "precision",
)
"""The hyper-parameters that the prompts' training depends on, beside the model, its views and the annotated images."""

ANNOTATED = 2_162
"""Annotated images, of which the masks are held, one bit a pixel: VisA's, the more of the paper's two datasets."""


@dataclass
class AnomalyCLIP:
    """Patches and images of CLIP against a normal and an abnormal prompt that name no object."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "anomalyclip", "AnomalyCLIP", paper="arXiv:2310.18961", uses_annotated_data=True
    )

    auxiliary: Annotated[
        str,
        Field(description="the dataset whose annotated test images train the prompts; never the tested one"),
        Probe("others"),
    ] = "visa"
    model: Annotated[
        str,
        Field(description="a CLIP of open_clip with its weights, ALIGN, packaged-lite0 to -lite2, or tiny-clip"),
        Probe("tiny", {"side": 128, "blocks": (-1,), "deep_depth": 1}),
    ] = "ViT-L-14-336-quickgelu/openai"
    weights: Annotated[
        str, Field(description="file or folder of a CLIP's weights, random, or empty for the hub's"), Probe("random")
    ] = ""
    side: Annotated[
        int, Field(ge=0, description="pixels of the side that the model is given; 0 for the protocol's"), Probe(80)
    ] = 518
    value_blocks: Annotated[
        int, Field(ge=0, description="CLIP's last blocks with value-value attention; 0 takes the patches as they are")
    ] = 19
    blocks: Annotated[
        tuple[int, ...],
        Field(min_length=1, description="blocks whose patches make maps, from 1; -1 for the last"),
        Probe((2, -1)),
    ] = (LAST,)
    normalised_code: Annotated[
        bool, Field(description="whether the image's code goes through the last layer norm; the authors leave it out")
    ] = False
    context_length: Annotated[int, Field(ge=1, description="learnt words of each prompt")] = 12
    deep_depth: Annotated[
        int, Field(ge=1, description="last block before which learnt tokens replace states; 1 for none"), Probe(1)
    ] = 9
    deep_length: Annotated[int, Field(ge=1, description="learnt tokens before each of these blocks")] = 4
    temperature: Annotated[float, Field(gt=0, description="tau of every softmax over the two prompts")] = 0.07
    map_weight: Annotated[float, Field(ge=0, description="factor of the maps' losses beside the image's")] = 4.0
    epochs: Epochs = 15
    batch_size: BatchSize = 8
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 1e-3
    precision: Annotated[TrainingPrecision, Probe("bfloat16")] = "float32"
    sigma: Annotated[float, Field(ge=0, description="Gaussian over the map, in pixels")] = 4.0

    prompts_: Prompts = field(init=False, repr=False)
    texts_: torch.Tensor = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    @property
    def shared_training(self) -> tuple[str, ...]:
        """The hyper-parameters of the training, which runs share through the feature store: all but `sigma`."""
        return ("auxiliary", "model", "weights", "value_blocks", "blocks", "normalised_code", *TRAINED_BY)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Learn the prompts on the annotated images; the training images are not looked at.

        Prompts that a run with the same training left in the feature store are taken from there.

        Raises:
            DataError: annotated images of one kind only.
            SpecError: more deep tokens or blocks than the model has places for.
        """
        self._lend(runtime)
        self.prompts_ = self._untrained()
        images, store = runtime.annotated, runtime.feature_store
        settings = {name: getattr(self, name) for name in TRAINED_BY}
        name = "" if store is None else training.identity(settings, images, self._model, self._views, runtime)
        stored = None if store is None or runtime.after_epoch is not None else store.get(name, training.PHASE)
        if stored is not None:
            arrays = dict(stored)
            losses = [float(loss) for loss in arrays.pop("losses")]
            runtime.notes.setdefault("losses", {})[training.PHASE] = {training.PHASE: losses}
            self.prompts_.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
        else:
            losses = self._train(runtime)
            if store is not None:
                store.put(name, training.PHASE, self._state() | {"losses": np.array(losses, np.float32)})
        self._read_prompts()
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score an image by P(abnormal) of its code, and a pixel by that of its patch, smoothed."""
        scores = np.empty(len(images), np.float32)
        maps = np.empty((len(images), *images.size), np.float32)
        for index, (score, grid) in enumerate(in_order(self._tasks(images), self._model.workers)):
            scores[index] = score
            maps[index] = upsample_and_smooth(grid, images.size, self.sigma)
        return Prediction(scores, maps)

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what reading, training and scoring will take; annotated images' patches lie in files in any case."""
        height, width = images.size
        given = (self.side, self.side) if self.side else images.size
        reading = reader_bytes(self.model, given, self._views) + ANNOTATED * height * width // 8
        step = training.step_bytes(
            model_shape(self.model), self._views, self._recipe, self.context_length, given, images.size
        )
        training_phase = f"training of prompts in steps of {self.batch_size:,} images"
        maps = f"{self.model} and {max(images.test, default=0):,} maps"
        room = reader_room(self.model, given, self._views)
        on_device = reading_phases(room, images)
        if images.batch:  # gradients on their way back are no more than what was kept for them
            on_device |= {training_phase: room.of(0) + 2 * step}
        return MemoryEstimate({training_phase: reading + step, maps: reading + maps_bytes(images)}, device=on_device)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the prompts and their vectors."""
        arrays: dict[str, NDArray[Any]] = {f"prompts/{key}": array for key, array in self._state().items()}
        save_state(folder, self, arrays | {"texts": self.texts_.numpy(), "seed": np.array([self.seed_])})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state["seed"].item()))
        method.texts_ = torch.tensor(state["texts"])
        method.prompts_ = method._untrained()
        prefix = "prompts/"
        own = {key.removeprefix(prefix): torch.tensor(v) for key, v in state.items() if key.startswith(prefix)}
        method.prompts_.load_state_dict(own)
        return method

    def _lend(self, runtime: Runtime) -> None:
        self.seed_, self._runtime = runtime.seed, runtime
        self.__dict__.pop("_model", None)

    @cached_property
    def _model(self) -> Reader:
        return load_reader(self.model, self.weights, runtime=self._runtime)

    @property
    def _views(self) -> Views:
        return Views(local=self.blocks, value_blocks=self.value_blocks, normalised_code=self.normalised_code)

    @property
    def _recipe(self) -> training.Recipe:
        schedule = Schedule(self.epochs, self.batch_size, precision=self.precision)
        return training.Recipe(self.temperature, self.map_weight, schedule, self.learning_rate)

    def _untrained(self) -> Prompts:
        prompts = Prompts(self._model.text, self.context_length, self.deep_depth, self.deep_length, self.seed_)
        return prompts.to(self._runtime.device)

    def _state(self) -> dict[str, NDArray[np.float32]]:
        return {key: value.detach().cpu().numpy() for key, value in self.prompts_.state_dict().items()}

    def _train(self, runtime: Runtime) -> list[float]:
        data = training.Annotated.read(runtime.annotated, self._model, self._views, self.side, runtime)

        def after_epoch(epoch: int, method: Method) -> None:
            self._read_prompts()
            cast(Callable[[int, Method], None], runtime.after_epoch)(epoch, method)

        watched = runtime if runtime.after_epoch is None else replace(runtime, after_epoch=after_epoch)
        return training.train_prompts(self.prompts_, self._model, data, self._recipe, watched, self)

    def _read_prompts(self) -> None:
        """Work out the prompts' vectors, once; no text goes through the text branch any more."""
        with torch.no_grad(), reproducible(torch.device(self._model.device)):
            self.texts_ = self.prompts_.vectors(self._model.text).float().cpu()

    def _tasks(self, images: ImageSet) -> Iterator[Callable[[], tuple[float, NDArray[np.float64]]]]:
        for reading in readings(self._model, images, self._views, self.side, self._runtime):
            yield partial(self._scored, reading)

    def _scored(self, reading: Reading) -> tuple[float, NDArray[np.float64]]:
        """Return the score of an image and its map (h, w), the sum over blocks."""
        with torch.inference_mode(), reproducible(CPU):
            score = probabilities(torch.tensor(reading.code), self.texts_, self.temperature)[1].item()
            grids = [
                probabilities(torch.tensor(patches), self.texts_, self.temperature)[:, 1]
                for patches in reading.local.values()
            ]
            grid: NDArray[np.float64] = torch.stack(grids).double().sum(dim=0).view(reading.grid).numpy()
        return score, grid


METHOD: type[Method] = AnomalyCLIP
