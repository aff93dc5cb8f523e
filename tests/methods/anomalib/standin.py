"""A small stand-in for anomalib and lightning: the part of both that `methods/anomalib` asks for, with four models.

It is written from what anomalib 2.7.0 does: Engine takes settings, lets the model's `trainer_arguments` override them,
and adds a callback that writes checkpoints unless there is one. Its own normalisation, which must be switched off,
would halve every score. A tiny network stands in for the backbones of timm.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import timm
import timm.models.vision_transformer
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, Resize

VIT: Any = timm.models.vision_transformer
ENGINES: list[Engine] = []
"""Every Engine that was made, for tests to look at."""


class LearningType(Enum):
    ONE_CLASS = "one_class"
    ZERO_SHOT = "zero_shot"


@dataclass
class ImageItem:
    image: Tensor
    gt_label: Tensor | None = None
    gt_mask: Tensor | None = None


@dataclass
class ImageBatch:
    image: Tensor
    gt_label: Tensor | None = None
    pred_score: Tensor | None = None
    anomaly_map: Tensor | None = None

    @classmethod
    def collate(cls, items: list[ImageItem]) -> ImageBatch:
        labels = [item.gt_label for item in items if item.gt_label is not None]
        return cls(torch.stack([item.image for item in items]), torch.stack(labels) if labels else None)


class Callback:
    def __getattr__(self, hook: str) -> Any:
        if hook.startswith("on_"):
            return lambda *arguments, **settings: None
        raise AttributeError(hook)


class ModelCheckpoint(Callback):
    def __init__(self, folder: Path | None = None, save_top_k: int = 1) -> None:
        self.folder, self.save_top_k = folder, save_top_k

    def on_train_end(self, trainer: Any, model: Any) -> None:
        if self.save_top_k:
            raise AssertionError("a checkpoint would have been written")


class LightningDataModule:
    pass


class LightningEnvironment:
    pass


class PreProcessor(nn.Module):
    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.transform = transform


class AnomalibModule(nn.Module):
    trainer: Any = None
    learning_type: ClassVar = LearningType.ONE_CLASS
    trainer_arguments: ClassVar[dict[str, Any]] = {}

    def __init__(self, pre_processor: Any, post_processor: Any, evaluator: Any, visualizer: Any) -> None:
        super().__init__()
        self.pre_processor, self.post_processor = pre_processor, post_processor
        assert not evaluator, "metrics would be computed"
        assert not visualizer, "pictures would be drawn"

    @property
    def name(self) -> str:
        return type(self).__name__

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> PreProcessor:
        return PreProcessor(Compose([Resize(image_size or (256, 256)), Normalize([0.5] * 3, [0.25] * 3)]))

    def prepared(self, batch: ImageBatch) -> Tensor:
        transformed: Tensor = self.pre_processor.transform(batch.image)
        return transformed


class Backbone(nn.Module):
    """What `timm.create_model(features_only=True)` gives, in small: a level is half as large as the one before."""

    def __init__(self, out_indices: list[int]) -> None:
        super().__init__()
        sides = [(3, 8), *[(8, 8)] * max(out_indices)]
        self.levels = nn.ModuleList(nn.Conv2d(*sizes, 3, stride=2, padding=1) for sizes in sides)
        self.out_indices = out_indices

    def forward(self, pixels: Tensor) -> list[Tensor]:
        found = [pixels]
        for level in self.levels:
            found.append(level(found[-1]).relu())
        return [found[1 + index] for index in self.out_indices]


def create_model(model_name: str, pretrained: bool = False, *, features_only: bool, out_indices: list[int]) -> Backbone:
    """Stand in for timm's function of this name; nothing is downloaded."""
    assert features_only
    assert not pretrained, f"{model_name} would be downloaded"
    return Backbone(out_indices)


class Patchcore(AnomalibModule):
    """A mean and a deviation of features at each place, in one pass that it prescribes."""

    trainer_arguments: ClassVar[dict[str, Any]] = {"max_epochs": 1, "devices": 1}

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: Any = ("layer1",),
        pre_trained: bool = True,
        coreset_sampling_ratio: float = 0.1,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        names = {"layer1": 1, "layer2": 2, "blocks.1": 1, "blocks.2": 2, "blocks.4": 3}
        indices = [names[layer] for layer in layers]
        self.features = timm.create_model(backbone, pretrained=pre_trained, features_only=True, out_indices=indices)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.zeros(()))
        self.seen: list[Tensor] = []

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        self.mean, self.deviation = torch.empty_like(state_dict["mean"]), torch.empty_like(state_dict["deviation"])
        return super().load_state_dict(state_dict, strict, assign)

    def embed(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            levels = self.features.eval()(pixels)
        return torch.cat([interpolate(level, levels[0].shape[-2:]) for level in levels], 1)

    def training_step(self, batch: ImageBatch) -> Tensor:
        self.seen.append(self.embed(self.prepared(batch)))
        return torch.zeros((), requires_grad=True)

    def end(self) -> None:
        rows = torch.cat(self.seen)
        self.mean, self.deviation = rows.mean(0), rows.std(0, unbiased=False) + 0.05
        self.seen = []

    def predict_step(self, batch: ImageBatch) -> ImageBatch:
        grid = ((self.embed(self.prepared(batch)) - self.mean) / self.deviation).square().mean(1)
        batch.anomaly_map = interpolate(grid[:, None], batch.image.shape[-2:])[:, 0]
        batch.pred_score = batch.anomaly_map.amax((1, 2))
        return batch


class Padim(Patchcore):
    """Features of the coarser level, and the whole image in its crop."""

    def __init__(self, backbone: str = "resnet18", layers: Any = ("layer2",), pre_trained: bool = True, **parts: Any):
        super().__init__(backbone, layers, pre_trained, **parts)

    @classmethod
    def configure_pre_processor(
        cls, image_size: tuple[int, int] | None = None, crop_size: int | None = None
    ) -> PreProcessor:
        size, crop = image_size or (256, 256), crop_size or 224
        if crop > min(size):
            raise ValueError("a crop that is larger than the image")
        return PreProcessor(Compose([Resize(size), CenterCrop(crop), Normalize([0.25] * 3, [0.5] * 3)]))


class Stfpm(AnomalibModule):
    """A trained convolution that rebuilds the image from its surroundings."""

    def __init__(self, backbone: str = "resnet18", layers: Any = ("layer1",), **parts: Any) -> None:
        super().__init__(**parts)
        self.student = nn.Conv2d(3, 3, 5, padding=2)
        self.rounds = 0

    def loss(self, pixels: Tensor) -> Tensor:
        rebuilt: Tensor = self.student(avg_pool2d(pixels, 3, 1, 1))
        return (rebuilt - pixels).square().mean(1)

    def training_step(self, batch: ImageBatch) -> Tensor:
        assert batch.gt_label is not None
        assert not batch.gt_label.any()
        return self.loss(self.prepared(batch)).mean()

    def end(self) -> None:
        pass

    def predict_step(self, batch: ImageBatch) -> ImageBatch:
        with torch.no_grad():
            batch.anomaly_map = avg_pool2d(self.loss(self.prepared(batch))[:, None], 5, 1, 2)
        batch.pred_score = batch.anomaly_map.amax((1, 2, 3))
        return batch


class Ganomaly(Stfpm):
    """Scores alone."""

    def predict_step(self, batch: ImageBatch) -> ImageBatch:
        batch = super().predict_step(batch)
        batch.anomaly_map = None
        return batch


class Forgetful(Stfpm):
    """Keeps a part of what it learnt beside its parameters."""

    def end(self) -> None:
        self.rounds += 1

    def predict_step(self, batch: ImageBatch) -> ImageBatch:
        batch = super().predict_step(batch)
        assert batch.pred_score is not None
        batch.pred_score = batch.pred_score + self.rounds
        return batch


class Positions(Stfpm):
    """Replaces a function of timm for the whole process, as anomalib's extractor of vision transformers does."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        VIT.resample_abs_pos_embed = lambda *arguments, **keywords: None


class ZeroShot(Stfpm):
    """Is not trained, which ltbench does not know by its name."""

    learning_type: ClassVar = LearningType.ZERO_SHOT


class Engine:
    def __init__(self, callbacks: list[Any], logger: bool, default_root_dir: str, **settings: Any) -> None:
        assert not logger
        self.folder, self.settings, self.callbacks = Path(default_root_dir), settings, callbacks
        assert settings["plugins"], "Slurm would be looked for"
        ENGINES.append(self)

    def _told(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)

    def fit(self, model: Any, datamodule: Any) -> None:
        settings = self.settings | model.trainer_arguments
        if not any(isinstance(callback, ModelCheckpoint) for callback in self.callbacks):
            self.callbacks.append(ModelCheckpoint(self.folder))
        epochs, steps = (settings.get(key, -1) for key in ("max_epochs", "max_steps"))
        loader = datamodule.train_dataloader()
        trainer = types.SimpleNamespace(num_training_batches=len(loader), max_epochs=epochs, max_steps=steps)
        model.trainer = trainer
        self.validated = 0
        optimiser = torch.optim.SGD(model.parameters(), 0.05)
        self._told("on_train_start", trainer, model)
        done = epoch = 0
        while (epochs < 0 or epoch < epochs) and (steps < 0 or done < steps):
            for batch in loader:
                optimiser.zero_grad()
                model.train().training_step(batch).backward()
                optimiser.step()
                done += 1
                self._told("on_train_batch_end", trainer, model, None, batch, done)
                if done == steps:
                    break
            epoch += 1
            self.validated = len(list(datamodule.val_dataloader())) if settings["limit_val_batches"] else 0
        model.end()
        self._told("on_train_end", trainer, model)
        self.steps, self.epochs = done, epoch

    def predict(self, model: Any, datamodule: Any, return_predictions: bool) -> list[ImageBatch]:
        assert return_predictions
        model.trainer = types.SimpleNamespace()
        found = [model.eval().predict_step(batch) for batch in datamodule.predict_dataloader()]
        if model.post_processor:
            for batch in found:
                batch.pred_score = batch.pred_score / 2
        return found


MODELS = (Patchcore, Padim, Stfpm, Ganomaly, Forgetful, Positions, ZeroShot)


def install(monkeypatch: Any) -> None:
    """Let `import anomalib` and `import lightning` give the stand-ins until the test ends."""
    image = _module("anomalib.models.image", **{model.__name__: model for model in MODELS})
    image.__all__ = [*(model.__name__ for model in MODELS), "CFM"]  # type: ignore[attr-defined]
    modules = [
        _module("anomalib", LearningType=LearningType),
        _module("anomalib.callbacks", ModelCheckpoint=ModelCheckpoint),
        _module("anomalib.data", ImageBatch=ImageBatch, ImageItem=ImageItem),
        _module("anomalib.engine", Engine=Engine),
        _module("anomalib.models", AnomalibModule=AnomalibModule, image=image),
        image,
        _module("anomalib.pre_processing", PreProcessor=PreProcessor),
        _module("lightning"),
        _module("lightning.pytorch", Callback=Callback, LightningDataModule=LightningDataModule),
        _module("lightning.pytorch.plugins"),
        _module("lightning.pytorch.plugins.environments", LightningEnvironment=LightningEnvironment),
    ]
    monkeypatch.setattr(timm, "create_model", create_model)
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
        parent, _, name = module.__name__.rpartition(".")
        if parent:
            setattr(sys.modules[parent], name, module)


def _module(name: str, **contents: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
    module.__path__ = []
    module.__dict__.update(contents)
    return module
