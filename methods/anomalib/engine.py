"""anomalib's Engine on images in memory: a fit that writes nothing, raw predictions, nothing left changed after it."""

from __future__ import annotations

import logging
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import timm.models.vision_transformer
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import ImageBatch, ImageItem
from anomalib.engine import Engine
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.plugins.environments import LightningEnvironment
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from ltbench.blocks.switches import fixed_algorithms, full_float32
from ltbench.cores import in_order, usable_cores
from ltbench.errors import SpecError
from ltbench.method import ImageSet, Progress, Runtime

Image = NDArray[np.uint8]

TIMM_VIT: Any = timm.models.vision_transformer

LOGGERS = ("anomalib", "lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric")


@dataclass(frozen=True, slots=True)
class Training:
    """How long and on what a model trains.

    Args:
        epochs: passes over the training images; 0 for what the model prescribes.
        steps: most steps of the optimiser; 0 for no bound.
        batch_size: images of a step.
        validation: share of the images that is not trained on and shown as validation; 0 for no validation.
    """

    epochs: int
    steps: int
    batch_size: int
    validation: float


class Pixels(Protocol):
    """Images (H, W, 3) by index: an `ImageSet`, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Image: ...


class Images(torch.utils.data.Dataset[Any]):
    """Images as anomalib wants them: float32 in [0, 1]; in training all are called good, contaminants too."""

    def __init__(self, images: Pixels, *, is_training: bool) -> None:
        self._images, self._is_training = images, is_training

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Any:
        image = self._images[index]
        told: dict[str, Any] = {}
        if self._is_training:
            told = {"gt_label": torch.tensor(data=False), "gt_mask": torch.zeros(image.shape[:2], dtype=torch.bool)}
        return ImageItem(image=torch.tensor(image).permute(2, 0, 1) / 255, **told)


class InMemory(LightningDataModule):  # type: ignore[misc]
    """A data module over arrays. `name` and `category` are what Engine and models ask of it; they tell nothing."""

    name = "images"
    category = "object"

    def __init__(self, batch_size: int = 1, **parts: Images) -> None:
        super().__init__()
        self.train_batch_size, self.eval_batch_size, self._parts = batch_size, 1, parts

    def train_dataloader(self) -> Any:
        """Return batches in a drawn order, the last one as small as it comes, as anomalib's own data modules do."""
        return self._loader("train", self.train_batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        """Return what is kept out of the training, one by one."""
        return self._loader("validation", self.eval_batch_size)

    def predict_dataloader(self) -> Any:
        """Return the images to score one by one, so that no score depends on another image."""
        return self._loader("predict", self.eval_batch_size)

    def _loader(self, part: str, batch_size: int, *, shuffle: bool = False) -> Any:
        images = self._parts.get(part, Images([], is_training=False))
        return DataLoader(images, batch_size=batch_size, shuffle=shuffle, collate_fn=ImageBatch.collate)


class Shown(Callback):  # type: ignore[misc]
    """Shows a training's steps in the run's progress."""

    def __init__(self, progress: Progress, phase: str) -> None:
        self._progress, self._phase = progress, phase
        self._steps: Iterator[int] = iter(())

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, with the number of batches that are to come."""
        total = trainer.num_training_batches * max(trainer.max_epochs or 0, 1)
        total = min(total, trainer.max_steps) if trainer.max_steps > 0 else total
        self._steps = iter(self._progress.track(range(total), self._phase, total))
        next(self._steps, None)

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Go on by one."""
        next(self._steps, None)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End, even if the model did so before."""
        for _ in self._steps:
            pass


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed what anomalib draws from inside the block, and put back all that it changes in the process.

    These are the generators of Python, numpy and torch, loggers, filters of warnings, and how timm's vision
    transformers resize their positions, which anomalib replaces for every network of the process.
    """
    states = random.getstate(), np.random.get_state()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    positions = TIMM_VIT.resample_abs_pos_embed
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(full_float32())
        stack.enter_context(fixed_algorithms())
        warnings.simplefilter("ignore")
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            for name in LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            TIMM_VIT.resample_abs_pos_embed = positions
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            random.setstate(states[0])
            np.random.set_state(states[1])


def fit(model: Any, train: ImageSet, training: Training, runtime: Runtime) -> None:
    """Fit a model of `models.build` on images, which are held in memory; to be called in `isolated`.

    Raises:
        SpecError: no end of the training, too few images to keep some out, another device than the model can be put on,
            or what the model refuses.
    """
    check_length(model, training)
    check_device(model, runtime.device)
    images = list(in_order((partial(train.__getitem__, i) for i in range(len(train))), usable_cores()))
    kept_out = int(np.ceil(training.validation * len(images)))
    order = np.random.RandomState(runtime.seed).permutation(len(images)) if kept_out else np.arange(len(images))
    if kept_out >= len(images):
        raise SpecError(f"Expected images to train on, got {len(images)} in all. Set validation=0.")
    parts = {"validation": sorted(order[:kept_out]), "train": sorted(order[kept_out:])}
    data = InMemory(
        training.batch_size,
        **{part: Images([images[i] for i in own], is_training=True) for part, own in parts.items()},
    )
    settings: dict[str, Any] = {"max_epochs": training.epochs or -1, "max_steps": training.steps or -1}
    settings |= {"limit_val_batches": 1.0 if kept_out else 0, "callbacks": [Shown(runtime.progress, "training")]}
    with runtime.progress.timed("training"), _engine(model, runtime.device, settings) as engine, _refusals(model):
        engine.fit(model, datamodule=data)
    model.trainer = None  # it holds the images
    _settle(model)


def predict(model: Any, images: Pixels, device: str) -> list[tuple[float, NDArray[np.float32] | None]]:
    """Return the score of each image and its map (h, w), or None where the model gives none.

    Raises:
        SpecError: no score.
    """
    if not len(images):
        return []
    data = InMemory(predict=Images(images, is_training=False))
    with _engine(model, device, {}) as engine, _refusals(model):
        batches = engine.predict(model, datamodule=data, return_predictions=True)
    model.trainer = None
    found = []
    for batch in batches:
        if batch.pred_score is None:
            raise SpecError(f"Expected image scores of {model.name}, got none. Choose another model.")
        map_ = None if batch.anomaly_map is None else batch.anomaly_map.float().cpu().numpy()
        found.append((float(batch.pred_score), None if map_ is None else map_.reshape(map_.shape[-2:])))
    return found


def _settle(model: Any) -> None:
    """Lay parameters and buffers out as they will lie when they are read from a file: products then round alike."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.contiguous())
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.contiguous()


@contextmanager
def _refusals(model: Any) -> Iterator[None]:
    """Say of which model it is what it raises: settings or images that it does not take, or a failed download."""
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        raise SpecError(
            f"Expected {model.name} of anomalib to take these settings and images, got {type(error).__name__}: "
            f"{error}. Mend -p, or give it what it could not download."
        ) from error


def check_length(model: Any, training: Training) -> None:
    """Raise SpecError unless it is clear when the training ends, and the model does not prescribe another end."""
    fixed = {key: model.trainer_arguments[key] for key in ("max_epochs", "max_steps") if key in model.trainer_arguments}
    for key, asked in (("max_epochs", training.epochs), ("max_steps", training.steps)):
        if asked and key in fixed and fixed[key] != asked:
            name = key.removeprefix("max_")
            raise SpecError(f"Expected {name}={fixed[key]}, which {model.name} prescribes, got {asked}. Leave it out.")
    if not (training.epochs or training.steps or fixed):
        raise SpecError(f"Expected an end of the training of {model.name}, got none. Set -p epochs=100 or -p steps=...")


def check_device(model: Any, device: str) -> None:
    """Raise SpecError for a GPU other than the first where the model tells Engine to take one, which is the first."""
    if (torch.device(device).index or 0) and "devices" in model.trainer_arguments:
        raise SpecError(
            f"Expected cuda or cpu for {model.name}, which takes the first GPU in any case, got {device}. "
            "Choose the GPU by CUDA_VISIBLE_DEVICES."
        )


@contextmanager
def _engine(model: Any, device: str, settings: dict[str, Any]) -> Iterator[Any]:
    """Give an Engine whose folder is temporary and that writes no checkpoint, log or bar and looks for no Slurm."""
    TIMM_VIT.resample_abs_pos_embed = model.positions_of_timm
    place = torch.device(device)
    callbacks = [*settings.pop("callbacks", []), ModelCheckpoint(save_top_k=0)]
    with tempfile.TemporaryDirectory(prefix="ltbench-anomalib-") as folder:
        yield Engine(
            callbacks=callbacks,
            logger=False,
            default_root_dir=folder,
            accelerator="cpu" if place.type == "cpu" else "gpu",
            devices=1 if place.type == "cpu" else [place.index or 0],
            plugins=[LightningEnvironment()],
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )
