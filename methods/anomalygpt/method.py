"""AnomalyGPT (Gu et al., AAAI 2024, arXiv 2308.15366) as far as scores need it: no language model answers.

Its decoder and its memory of a few normal images are the authors'; README.md says what is left out, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ltbench.blocks.each_image import Network, Row, at_hand, each_image, gathered
from ltbench.blocks.references import references
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.blocks.training import loop as training
from ltbench.blocks.training.learner import Learner, Schedule
from ltbench.blocks.training.rates import WarmupDecay
from ltbench.blocks.training.settings import BatchSize, TrainingPrecision
from ltbench.blocks.vision_language import Reader, Views, check_weights, load_reader, readings, text_vectors
from ltbench.core import Prediction
from ltbench.errors import SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

from .categories import SIMULATIONS, VISA, described
from .data import Clean, loss_of
from .decoder import Decoder, Grid, decoded_map, remembered_map
from .estimate import estimated
from .prompts import ensemble, sentences
from .synthesis import Synthesis

FEW = {"iterations": 2}
"""So many steps show what a hyper-parameter changes."""


@dataclass
class AnomalyGPT:
    """Patches against prompts, by a linear decoder trained on simulated anomalies; or against a few normal images."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "anomalygpt", "AnomalyGPT (decoder only)", paper="arXiv:2308.15366", uses_categories=True
    )

    model: Annotated[
        str,
        Field(description="imagebind-huge, a CLIP of open_clip with its weights, ALIGN, packaged-lite0 to -lite2"),
        Probe("tiny", FEW | {"side": 128, "blocks": (-1,)}),
    ] = "imagebind-huge"
    weights: Annotated[
        str,
        Field(description="file of the model's weights, random, or empty for the hub's; ImageBind is on none"),
        Probe("random", FEW),
    ] = ""
    blocks: Annotated[
        tuple[int, ...], Field(min_length=1, description="blocks whose patches make maps, from 1"), Probe((2, 3), FEW)
    ] = (8, 16, 24, 32)
    side: Annotated[int, Field(ge=16, description="pixels of the side that the model is given"), Probe(80, FEW)] = 224
    prompt_class: Annotated[
        Literal["name", "object"],
        Field(description="what prompts call an object: its category, or 'object' whatever it is"),
        Probe("object", FEW),
    ] = "name"
    test_names: Annotated[
        Literal["same", "described"],
        Field(description="names in test: those of training, or what the authors' descriptions hold (macaroni, pcb)"),
        Probe("described", FEW),
    ] = "same"
    simulation: Annotated[
        Literal["category", "visa"],
        Field(description="how anomalies are simulated: by the table of categories, or as for VisA whatever it is"),
        Probe("visa", {"iterations": 12, "mask_threshold": 0.6}),
    ] = "category"
    mask_threshold: Annotated[
        float,
        Field(gt=0, lt=1, description="of the soft label, above which a pixel is anomalous"),
        Probe(0.9, {"iterations": 12}),
    ] = 0.3
    shots: Annotated[
        int,
        Field(ge=0, description="normal images of each category to compare with; the decoder then is left out"),
        Probe(1),
    ] = 0
    token_scale: Annotated[
        Literal["none", "rms"],
        Field(description="what patches are divided by: nothing, or their block's root mean square in training"),
        Probe("rms", FEW),
    ] = "none"
    epochs: Annotated[
        int, Field(ge=1, description="passes over the training images, without iterations"), Probe(2, {"iterations": 0})
    ] = 50
    iterations: Annotated[int, Field(ge=0, description="steps, whatever the epochs; 0 for whole epochs"), Probe(2)] = 0
    batch_size: Annotated[BatchSize, Probe(2, FEW)] = 8
    learning_rate: Annotated[float, Field(gt=0, description="of AdamW, the highest"), Probe(0.002, FEW)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0, description="of AdamW"), Probe(0.1, FEW)] = 1e-3
    warmup: Annotated[
        float, Field(ge=0, le=1, description="share of the training in which the learning rate rises"), Probe(0.5)
    ] = 0.1
    warmup_shape: Annotated[
        Literal["log", "linear"], Field(description="how it rises; log is DeepSpeed's default"), Probe("log")
    ] = "log"
    clip_norm: Annotated[
        float, Field(ge=0, description="largest norm of the gradient; 0 for no limit"), Probe(0.01, FEW)
    ] = 1.0
    precision: Annotated[TrainingPrecision, Probe("bfloat16", FEW)] = "float32"

    decoder_: Decoder | None = field(init=False, repr=False)
    scales_: tuple[float, ...] = field(init=False, repr=False)
    memories_: dict[str, list[Tensor]] = field(init=False, repr=False)
    texts_: dict[str, Tensor] = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    @property
    def run_info(self) -> MethodInfo:
        """What a run asks for: less, where prompts name no category and there is no memory."""
        if self.prompt_class == "name" or self.shots:
            return self.info
        trains_by = self.simulation == "category"
        return replace(self.info, uses_categories=False, uses_training_categories=trains_by)

    def check_inputs(self) -> None:
        """Raise an error, with what to do, where weights have to be a file and are none."""
        check_weights(self.model, self.weights)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train the decoder on the training images and altered copies of them; or read the references, with `shots`.

        Raises:
            SpecError: the same block twice.
            DataError: weights that cannot be had; the message says what to do.
        """
        if len(set(self.blocks)) < len(self.blocks):
            raise SpecError(f"Expected different blocks, got {list(self.blocks)}. Name each once.")
        self._lend(runtime)
        self.decoder_, self.scales_, self.memories_, self.texts_ = None, (), {}, {}
        if self.shots:
            drawn = references(train, self.shots, self.seed_, replacement=False)
            self.memories_ = {category: self._memory(own) for category, own in drawn.items()}
        else:
            self._train(train, runtime)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score pixels by their map, unsmoothed, and an image by its maximum.

        Raises:
            SpecError: with `shots`, a category that no training image has.
        """
        categories = list(images.categories) if self.run_info.uses_categories else ["object"] * len(images)
        if self.shots and (unknown := sorted(set(categories) - set(self.memories_))):
            raise SpecError(f"Expected a category with normal images, got {unknown[0]!r}. Set shots=0, or add some.")
        if not self.shots:
            named = described if self.test_names == "described" else str
            categories = [named(category) for category in categories]
            self._read(categories)
        networks = self._networks(categories, images.size)
        results = each_image(
            at_hand(self._rows(images, categories)),
            (networks[category] for category in categories),
            lambda made: (float(made[0].max()), made[0]),
            torch.device(self._model.device),
        )
        return gathered(results, len(images), images.size)

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what reading, training and scoring will take; training images' patches lie in files in any case."""
        return estimated(self.model, self.blocks, self.side, self.shots, self.batch_size, images)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the decoder or the memories, and the prompts' vectors."""
        arrays: dict[str, NDArray[Any]] = {"seed": np.array([self.seed_]), "scales": np.array(self.scales_)}
        if self.decoder_ is not None:
            arrays |= {f"decoder/{key}": value.cpu().numpy() for key, value in self.decoder_.state_dict().items()}
        for index, memory in enumerate(self.memories_.values()):
            arrays |= {f"memory/{index}/{place}": own.cpu().numpy() for place, own in enumerate(memory)}
        arrays |= {f"texts/{index}": own.numpy() for index, own in enumerate(self.texts_.values())}
        named = packed({"memories": list(self.memories_), "texts": list(self.texts_)})
        save_state(folder, self, arrays | {"categories": named})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        method._lend(Runtime(seed=state["seed"].item()))
        method.scales_ = tuple(state["scales"].tolist())
        weights = {key.removeprefix("decoder/"): torch.tensor(v) for key, v in state.items() if key[:8] == "decoder/"}
        method.decoder_ = None
        if weights:
            kernels = [value for value in weights.values() if value.ndim == 2]
            method.decoder_ = Decoder([kernel.shape[1] for kernel in kernels], len(kernels[0]), seed=0)
            method.decoder_.load_state_dict(weights)
        named = unpacked(state["categories"])
        method.texts_ = {name: torch.tensor(state[f"texts/{index}"]) for index, name in enumerate(named["texts"])}
        method.memories_ = {
            name: [torch.tensor(state[f"memory/{index}/{place}"]) for place in range(len(method.blocks))]
            for index, name in enumerate(named["memories"])
        }
        return method

    def _lend(self, runtime: Runtime) -> None:
        self.seed_, self._runtime = runtime.seed, runtime
        self.__dict__.pop("_model", None)

    @cached_property
    def _model(self) -> Reader:
        return load_reader(self.model, self.weights, self.blocks, runtime=self._runtime)

    def _train(self, train: ImageSet, runtime: Runtime) -> None:
        told = self.run_info.uses_categories or self.run_info.uses_training_categories
        categories = list(train.categories) if told else ["object"] * len(train)
        named = categories if self.prompt_class == "name" else ["object"] * len(train)
        self._read(named)
        texts = torch.stack([self.texts_[name] for name in named])
        data = Clean.read(train, self._model, self.blocks, self.side, texts, runtime)
        self.scales_ = data.scales if self.token_scale == "rms" else (1.0,) * len(self.blocks)
        simulations = [SIMULATIONS.get(name, VISA) if self.simulation == "category" else VISA for name in categories]
        synthesis = Synthesis(data.pixels, simulations, self.mask_threshold)
        widths = [own.shape[2] for own in data.tokens]
        decoder = self.decoder_ = Decoder(widths, texts.shape[2], self.seed_).to(runtime.device)
        optimiser = torch.optim.AdamW(
            decoder.parameters(), self.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=self.weight_decay
        )
        loss = partial(loss_of, decoder, self._model, data, self.scales_)
        learner = Learner("decoder", decoder, loss, optimiser, self.clip_norm, prepare=synthesis.draw)
        schedule = Schedule(
            self.epochs,
            self.batch_size,
            precision=self.precision,
            steps=self.iterations,
            rate=WarmupDecay(self.warmup, self.warmup_shape),
        )
        training.train([learner], len(train), schedule, runtime, method=self)

    def _read(self, categories: Sequence[str]) -> None:
        """Work out the normal and the abnormal prompt, (2, D), of the categories that have none yet."""
        for category in sorted(set(categories) - set(self.texts_)):
            vectors = [text_vectors(self._model, own, self._runtime) for own in sentences(category)]
            with torch_on_one_thread():
                self.texts_[category] = torch.stack([ensemble(F.normalize(own, dim=-1)) for own in vectors])

    def _memory(self, images: ImageSet) -> list[Tensor]:
        """Return the patches of a few images, of length 1: (m, width) of each block."""
        found = list(readings(self._model, images, Views(tokens=self.blocks), self.side, self._runtime))
        with torch_on_one_thread():
            return [
                F.normalize(torch.from_numpy(np.concatenate([reading.tokens[block] for reading in found])), dim=-1)
                for block in self.blocks
            ]

    def _rows(self, images: ImageSet, categories: Sequence[str]) -> Iterator[Row]:
        """Yield the patches of each block of each image and, for the decoder, the texts of its category."""
        found = readings(self._model, images, Views(tokens=self.blocks), self.side, self._runtime)
        for category, reading in zip(categories, found, strict=True):
            texts = () if self.decoder_ is None else (self.texts_[category].numpy(),)
            yield *(reading.tokens[block] for block in self.blocks), *texts

    def _networks(self, categories: Sequence[str], size: Grid) -> dict[str, Network]:
        """Return what makes maps (B, H, W) of rows of each category; the decoder is one for all."""
        grids = [self._model.grid((self.side, self.side), block) for block in self.blocks]
        if (decoder := self.decoder_) is not None:

            def decoded(arrays: list[Tensor]) -> list[Tensor]:
                *tokens, texts = arrays
                scaled = [own / scale for own, scale in zip(tokens, self.scales_, strict=True)]
                return [decoded_map(decoder(scaled), texts, grids, size)]

            return dict.fromkeys(categories, decoded)

        def remembered(memory: list[Tensor], tokens: list[Tensor]) -> list[Tensor]:
            return [remembered_map(tokens, memory, grids, size)]

        device = self._model.device
        return {
            category: partial(remembered, [own.to(device) for own in self.memories_[category]])
            for category in set(categories)
        }


METHOD: type[Method] = AnomalyGPT
