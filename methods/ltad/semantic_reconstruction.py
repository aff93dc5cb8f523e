"""LTAD as a method: two trainings, and a score that adds a patch's error and the probability that it is abnormal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import tee
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltbench.blocks.device import Arrays
from ltbench.blocks.each_image import Network, at_hand, each_image, gathered
from ltbench.blocks.features.tokens import grid_of
from ltbench.blocks.maps import upsample
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.networks.attention import Grid
from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.blocks.switches import reproducible
from ltbench.blocks.training.estimate import device_phases, phases
from ltbench.blocks.training.learner import Learner, Schedule
from ltbench.blocks.training.loop import train
from ltbench.blocks.vision_language import VisionLanguage, load_vision_language
from ltbench.core import Prediction
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
"""Gives the category of a test image, as an index, of its place and its scaled code (D,), which lies on the CPU."""


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
        self.mean_codes_ = features.mean_codes(len(self.categories_))
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
        patches, categories = tee(self._patches_and_categories(images))
        results = each_image(
            at_hand((own,) for own, _ in patches),
            self._networks(self._total, (category for _, category in categories)),
            partial(self._map_and_score, images.size),
            torch.device(self._runtime.device),
        )
        return gathered(results, len(images), images.size)

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters, the trained modules, the texts' vectors and the names."""
        arrays = {f"detector/{key}": value.cpu().numpy() for key, value in self.detector_.state_dict().items()}
        arrays |= {f"texts/{key}": getattr(self.texts_, key).cpu().numpy() for key in ("name", "normal", "abnormal")}
        arrays |= {f"names/{index}": name.cpu().numpy() for index, name in enumerate(self.names_)}
        arrays["mean_codes"] = self.mean_codes_.numpy()
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
        with torch.no_grad(), reproducible(torch.device(self._runtime.device)):
            return Texts(made([""]), made(self.normal_prompts), made(self.abnormal_prompts))

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what features, both trainings and scoring will take; the training's features lie in files anyway."""
        found = estimated(self, images.size, len(images.train))
        step = found.made + found.detection.step()
        trained = phases(found.reading, step, maps_bytes(images), images, self.batch_size)
        on_device = device_phases(found.detection, images, found.room, beside=found.made)
        if found.synthesis is not None:
            name = f"synthesis in steps of {self.batch_size:,} images"
            trained[name] = found.reading + found.synthesis.step()
            if images.batch:  # the detector is there, too, when maps are made for it
                on_device[name] = found.room.of(0) + found.detection.held() + found.synthesis.device_step()
        return MemoryEstimate(trained, device=on_device)

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
        results = each_image(
            at_hand((patches,) for patches in features.patches),
            self._networks(self._parts, features.categories.tolist()),
            lambda made: np.stack(made).astype(np.float64),
            torch.device(self._runtime.device),
        )
        parts = np.array(list(results))
        errors, posteriors = parts[:, 0].std(), parts[:, 1].std()
        self.factor_ = float(errors / posteriors) if posteriors > 0 else 1.0

    def _patches_and_categories(self, images: ImageSet) -> Iterator[tuple[NDArray[np.float32], int]]:
        """Yield the patches of each image, and the index of the category it is scored as; -1 where it is none."""
        assign = self.assigner(images) if self.semantic else None
        extractor = PatchExtractor(self._model, self.grid_, runtime=self._runtime)
        for index, (patches, code) in enumerate(extractor.extract(images)):
            scaled = torch.tensor(code) / self.scales_[1]
            yield patches, -1 if assign is None else self._named(assign(index, scaled))

    def _networks(
        self, made: Callable[[int, list[Tensor]], list[Tensor]], categories: Iterable[int]
    ) -> Iterator[Network]:
        """Yield what looks at images of each of some categories, the same for all of one."""
        networks = {category: partial(made, category) for category in (-1, *range(len(self.categories_)))}
        return (networks[category] for category in categories)

    def _total(self, category: int, patches: list[Tensor]) -> list[Tensor]:
        """Return the scores of patches of one category, (B, h, w)."""
        errors, posteriors = self._parts(category, patches)
        return [(errors + self.semantic_weight * self.factor_ * posteriors).view(-1, *self.grid_)]

    def _parts(self, category: int, patches: list[Tensor]) -> list[Tensor]:
        """Return the errors and the posteriors of patches of one category, (B, N); zeros of a module that is not."""
        scaled = patches[0] / self.scales_[0]
        errors = posteriors = scaled.new_zeros(scaled.shape[:2])
        if self.detector_.reconstruction is not None:
            errors = self.detector_.errors(scaled, mean=self.reduction == "mean")
            errors = errors.sqrt() if self.error == "root" else errors
        if self.detector_.projections is not None:
            texts = self.detector_.prompts(self.texts_, [category] * len(scaled))
            posteriors = self.detector_.logits(scaled, *texts, self.temperature).sigmoid()
        return [errors, posteriors]

    def _map_and_score(self, size: tuple[int, int], made: Arrays) -> tuple[float, NDArray[np.float32]]:
        anomaly_map = upsample(made[0], size, align_corners=True)
        return image_score(anomaly_map, self.image_score), anomaly_map

    def _named(self, category: int) -> int:
        """Return whose name a category goes by: its own, or with `shuffle_names` another's, drawn once a run."""
        if not self.shuffle_names:
            return category
        cycle = np.random.default_rng(self.seed_).permutation(len(self.categories_))
        place = int(np.flatnonzero(cycle == category)[0])
        return int(cycle[(place + 1) % len(cycle)])
