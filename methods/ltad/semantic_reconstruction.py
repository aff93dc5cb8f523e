"""LTAD as a method: two trainings, and a score that adds a patch's error and the probability that it is abnormal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.features.tokens import grid_of
from ltbench.blocks.maps import upsample
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.threads import torch_on_one_thread
from ltbench.blocks.training.estimate import phases
from ltbench.blocks.training.learner import Learner, Schedule
from ltbench.blocks.training.loop import train
from ltbench.blocks.vision_language import VisionLanguage, load_vision_language
from ltbench.core import Prediction
from ltbench.cores import in_order
from ltbench.errors import ContractError, SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, MethodInfo, Runtime

from .data import PatchExtractor, TrainingFeatures, training_features
from .estimate import estimated
from .first_phase import DEPENDS_ON, FirstPhase
from .hyper_parameters import HyperParameters
from .names import text_vectors
from .phases import Detector, DetectorTask, Synthesis, Texts, detector_of
from .scores import image_score

Assign = Callable[[int, Tensor], int]
"""Gives the category of a test image, as an index, of its place and its scaled code (D,)."""


@dataclass
class SemanticReconstruction(HyperParameters, ABC):
    """A method with LTAD's two modules; a subclass adds `info` and says which category a test image has."""

    info: ClassVar[MethodInfo]

    categories_: tuple[str, ...] = field(init=False, repr=False)
    detector_: Detector = field(init=False, repr=False)
    texts_: Texts = field(init=False, repr=False)
    mean_codes_: Tensor = field(init=False, repr=False)
    names_: list[Tensor] = field(init=False, repr=False)
    grid_: Grid = field(init=False, repr=False)
    scales_: tuple[float, float] = field(init=False, repr=False)
    factor_: float = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    @property
    def run_info(self) -> MethodInfo:
        """What the method is with these hyper-parameters: without its semantic module it asks for less."""
        if self.semantic:
            return self.info
        trained = (self.needs_first_phase and self.conditioned) or self.p_real_rule == "by_count"
        return replace(self.info, uses_categories=False, uses_training_categories=trained)

    @property
    def shared_training(self) -> tuple[str, ...]:
        """The hyper-parameters of the part of the training that runs share through the feature store."""
        return ("model", "layers", "pixels", *DEPENDS_ON) if self.needs_first_phase else ()

    @abstractmethod
    def assigner(self, images: ImageSet) -> Assign:
        """Return what says which category each of these test images is scored as."""

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Train both phases; phase 1 comes from the feature store if a run with the same phase 1 left it there.

        Raises:
            SpecError: neither a reconstruction nor a semantic module.
        """
        if not (self.reconstruct or self.semantic):
            raise SpecError("Expected a module to score with, got reconstruct=false and semantic=false. Set one true.")
        self._lend(runtime)
        told = self.run_info.uses_categories or self.run_info.uses_training_categories
        given = list(train.categories) if told else ["object"] * len(train)
        self.categories_ = tuple(sorted(set(given)))
        indices = np.array([self.categories_.index(category) for category in given], np.int64)
        self.grid_ = grid_of(train.size, self.stride)
        features = training_features(
            self._model,
            train,
            self.grid_,
            indices,
            with_maps=self.needs_first_phase and self.decoder_output == "layers",
            scaled=self.scaling == "rms",
            runtime=runtime,
        )
        self.scales_ = features.scales
        self.mean_codes_ = features.mean_codes(len(self.categories_)).to(runtime.device)
        first = FirstPhase(self, self._model, features, self.categories_)
        synthesis = first.trained(train.fingerprints if runtime.feature_store else None, runtime)
        self.names_ = [name.detach() for name in synthesis.names.vectors]
        self.texts_ = self._texts()
        self.detector_ = self._detector(runtime)
        self._train_detector(features, synthesis, runtime)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score patches by |rebuilt - patch|^2 + lambda * P(abnormal | patch, category) (equation 5), without noise.

        The grid is resized bilinearly, corners on corners; `image_score` says how an image is scored by its map.
        """
        if grid_of(images.size, self.stride) != self.grid_:
            raise ContractError(f"Expected images of {self.grid_} patches as in training, got {images.size} pixels.")
        scores = np.empty(len(images), np.float32)
        maps = np.empty((len(images), *images.size), np.float32)
        for index, patches in enumerate(in_order(self._tasks(images), self._model.images.workers)):
            maps[index] = upsample(patches, images.size, align_corners=True)
            scores[index] = image_score(maps[index], self.image_score)
        return Prediction(scores, maps)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the trained modules, the texts' vectors and the names."""
        arrays = {f"detector/{key}": value.cpu().numpy() for key, value in self.detector_.state_dict().items()}
        arrays |= {f"texts/{key}": getattr(self.texts_, key).cpu().numpy() for key in ("name", "normal", "abnormal")}
        arrays |= {f"names/{index}": name.cpu().numpy() for index, name in enumerate(self.names_)}
        arrays["mean_codes"] = self.mean_codes_.cpu().numpy()
        arrays["categories"] = packed(self.categories_)
        arrays["grid"] = np.array(self.grid_)
        arrays["numbers"] = np.array([*self.scales_, self.factor_])
        arrays["seed"] = np.array([self.seed_])
        save_state(folder, self, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        method, state = load_state(cls, folder)
        runtime = Runtime(seed=state["seed"].item())
        method._lend(runtime)
        method.categories_ = tuple(unpacked(state["categories"]))
        method.grid_ = (int(state["grid"][0]), int(state["grid"][1]))
        *scales, method.factor_ = state["numbers"].tolist()
        method.scales_ = (scales[0], scales[1])
        method.mean_codes_ = torch.from_numpy(state["mean_codes"])
        method.names_ = [torch.from_numpy(state[f"names/{index}"]) for index in range(len(method.categories_))]
        method.texts_ = Texts(*(torch.from_numpy(state[f"texts/{key}"]) for key in ("name", "normal", "abnormal")))
        method.detector_ = method._detector(runtime)
        prefix = "detector/"
        method.detector_.load_state_dict(
            {key.removeprefix(prefix): torch.from_numpy(v) for key, v in state.items() if key.startswith(prefix)}
        )
        return method

    def _lend(self, runtime: Runtime) -> None:
        self.seed_ = runtime.seed
        self._runtime = runtime
        self.__dict__.pop("_model", None)

    @cached_property
    def _model(self) -> VisionLanguage:
        return load_vision_language(self.model, self.layers, self.pixels, runtime=self._runtime)

    def _texts(self) -> Texts:
        """Return the texts' vectors, after which no text goes through BERT any more."""
        made = partial(
            text_vectors, self._model.text, self.names_, encoded=self.encode_text, normalised=self.normalise_text
        )
        with torch.no_grad(), torch_on_one_thread():
            return Texts(made([""]), made(self.normal_prompts), made(self.abnormal_prompts))

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, both trainings and scoring will take; the training's features lie in files anyway."""
        found = estimated(self, images.size, len(images.train))
        trained = phases(found.reading, found.detection, maps_bytes(images), images, self.batch_size)
        if not self.needs_first_phase:
            return MemoryEstimate(trained)
        name = f"synthesis in steps of {self.batch_size:,} images"
        return MemoryEstimate(trained | {name: found.reading + found.synthesis})

    def _detector(self, runtime: Runtime) -> Detector:
        model, categories = self._model, len(self.categories_)
        detector = detector_of(self, model.channels, model.code_dim, self.grid_, categories, runtime.seed)
        return detector.to(runtime.device)

    def _train_detector(self, features: TrainingFeatures, synthesis: Synthesis, runtime: Runtime) -> None:
        """Train phase 2. The networks of phase 1 are only used, and their gradients never asked for."""
        counts = np.bincount(features.categories)
        task = DetectorTask(
            self.detector_,
            features,
            self.texts_,
            synthesis.synthesiser,
            (counts / counts.max()).tolist() if self.p_real_rule == "by_count" else [self.p_real] * len(counts),
            self.jitter_scale,
            self.reduction == "mean",
            self.temperature,
        )
        parts = [self.detector_] if self.clip_rule == "joint" else list(self.detector_.children())
        groups = [{"params": list(part.parameters())} for part in parts]
        optimiser = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay)
        learner = Learner("detector", self.detector_, task.loss, optimiser, self.clip_norm)
        schedule = Schedule(self.epochs, self.batch_size, self.lr_step, precision=self.precision)

        def after_epoch(epoch: int, method: Any) -> None:
            self._balance(features)
            cast(Callable[[int, Any], None], runtime.after_epoch)(epoch, method)

        watched = runtime if runtime.after_epoch is None else replace(runtime, after_epoch=after_epoch)
        train([learner], len(features.categories), schedule, watched, phase="detection", method=self)
        self._balance(features)
        if self.balance == "train":
            runtime.notes["semantic_factor"] = self.factor_

    def _balance(self, features: TrainingFeatures) -> None:
        """Set the factor under which semantic scores vary over training patches as errors do (standard deviations)."""
        self.factor_ = 1.0
        if self.balance == "none" or not (self.reconstruct and self.semantic):
            return
        every = range(len(features.categories))
        tasks = (partial(self._parts_of, features, index) for index in every)
        parts = np.array(list(in_order(tasks, self._model.images.workers)))
        errors, posteriors = parts[:, 0].std(), parts[:, 1].std()
        self.factor_ = float(errors / posteriors) if posteriors > 0 else 1.0

    def _parts_of(self, features: TrainingFeatures, index: int) -> NDArray[np.float64]:
        with torch.inference_mode(), torch_on_one_thread():
            patches = features.patches_of(np.array([index])).to(self._runtime.device)
            parts = self._parts(patches, int(features.categories[index]))
        return np.stack([part[0].double().cpu().numpy() for part in parts])

    def _tasks(self, images: ImageSet) -> Iterator[Callable[[], NDArray[np.float32]]]:
        assign = self.assigner(images) if self.semantic else None
        extractor = PatchExtractor(self._model, self.grid_, runtime=self._runtime)
        for index, (patches, code) in enumerate(extractor.extract(images)):
            yield partial(self._scored, index, patches, code, assign)

    def _scored(
        self, index: int, patches: NDArray[np.float32], code: NDArray[np.float32], assign: Assign | None
    ) -> NDArray[np.float32]:
        """Return the scores of one image's patches, (h, w)."""
        device = self._runtime.device
        with torch.inference_mode(), torch_on_one_thread():
            category = -1
            if assign is not None:
                category = self._named(assign(index, torch.tensor(code, device=device) / self.scales_[1]))
            scaled = torch.tensor(patches, device=device)[None] / self.scales_[0]
            errors, posteriors = self._parts(scaled, category)
            total = errors + self.semantic_weight * self.factor_ * posteriors
        return total[0].cpu().numpy().reshape(self.grid_)

    def _parts(self, patches: Tensor, category: int) -> tuple[Tensor, Tensor]:
        """Return the errors and the posteriors of one image's patches, (1, N) each; zeros of a module that is not."""
        errors = posteriors = patches.new_zeros(patches.shape[:2])
        if self.detector_.reconstruction is not None:
            errors = self.detector_.errors(patches, mean=self.reduction == "mean")
            errors = errors.sqrt() if self.error == "root" else errors
        if self.detector_.projections is not None:
            texts = self.detector_.prompts(self.texts_, [category])
            posteriors = self.detector_.logits(patches, *texts, self.temperature).sigmoid()
        return errors, posteriors

    def _named(self, category: int) -> int:
        """Return whose name a category goes by: its own, or with `shuffle_names` another's, drawn once a run."""
        if not self.shuffle_names:
            return category
        cycle = np.random.default_rng(self.seed_).permutation(len(self.categories_))
        place = int(np.flatnonzero(cycle == category)[0])
        return int(cycle[(place + 1) % len(cycle)])
