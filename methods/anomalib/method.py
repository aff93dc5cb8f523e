"""The image models of anomalib, fitted and asked through its Engine; README.md says what is switched off."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, JsonValue

from ltbench.blocks.device_memory import FLOAT
from ltbench.blocks.maps import upsample
from ltbench.blocks.memory_bank.estimate import maps_bytes
from ltbench.blocks.state import load_state, save_state
from ltbench.core import Prediction
from ltbench.errors import DataError, SpecError
from ltbench.method import ImageCounts, ImageSet, MemoryEstimate, Method, MethodInfo, Probe, Runtime

if TYPE_CHECKING:
    from .engine import Pixels

_SHALLOW = {"model_args": {"backbone": "resnet18", "layers": ["layer1"]}}
_DEEPER = {"model_args": {"backbone": "resnet18", "layers": ["layer1", "layer2"]}}
_TRAINED = {"model": "Stfpm", "epochs": 1, **_SHALLOW}
_NO_MAPS = ("Dfkde", "Ganomaly")
_SIZE, _SEED = "image_size", "seed"


@dataclass
class Anomalib:
    """A model of anomalib: its network, losses and scores, on the images of the split and nothing else."""

    info: ClassVar[MethodInfo] = MethodInfo("anomalib", "anomalib")

    model: Annotated[
        str, Field(description="name of a class in anomalib.models: EfficientAd"), Probe("Padim", _DEEPER)
    ] = "Patchcore"
    model_args: Annotated[
        dict[str, JsonValue],
        Field(description="what its constructor takes beside its defaults: {layers: [layer2], num_neighbors: 1}"),
        Probe(_SHALLOW["model_args"]),
    ] = field(default_factory=dict)
    weights: Annotated[
        str,
        Field(description="of its backbones from timm: model for its own download, pretrained, random, a path"),
        Probe("pretrained", {"model_args": {"backbone": "tf_efficientnet_lite0", "layers": ["blocks.1"]}}),
    ] = "model"
    epochs: Annotated[
        int, Field(ge=0, description="passes over the images; 0 for what the model prescribes"), Probe(2, _TRAINED)
    ] = 0
    steps: Annotated[
        int,
        Field(ge=0, description="most steps of the optimiser; 0 for no such bound"),
        Probe(1, {**_TRAINED, "batch_size": 3}),
    ] = 0
    batch_size: Annotated[int, Field(ge=1, description="images of a step"), Probe(3, _TRAINED)] = 32
    validation: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the training images that is kept for the model's validation"),
        Probe(0.25),
    ] = 0.0

    network_: Any = field(init=False, repr=False)
    size_: tuple[int, int] = field(init=False, repr=False)
    seed_: int = field(init=False, repr=False)

    @property
    def run_info(self) -> MethodInfo:
        """Whether the model gives maps: few give scores alone."""
        is_likelihood = self.model == "Dfm" and self.model_args.get("score_type", "fre") != "fre"
        return replace(self.info, has_maps=self.model not in _NO_MAPS and not is_likelihood)

    def check_inputs(self) -> None:
        """Look for anomalib, the model and the names of its arguments; no model is built.

        Raises:
            DataError: anomalib is not installed.
            UnknownNameError: no such model, or no such argument of it.
            SpecError: a model that is known not to be trained (WinCLIP, VLM-AD, AnomalyVFM).
        """
        require_anomalib()
        from . import models

        models.check(self.model, self.model_args)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        """Fit the model by anomalib's Engine; nothing is written but in a temporary folder.

        Raises:
            DataError, UnknownNameError, SpecError: as `check_inputs`; weights that cannot be had; a model that turns
                out not to be trained, was given no end of its training, or refuses its arguments or the images.
        """
        self.check_inputs()
        from . import engine

        self.size_, self.seed_, self._device = train.size, runtime.seed, runtime.device
        plan = engine.Training(self.epochs, self.steps, self.batch_size, self.validation)
        with engine.isolated(self.seed_):
            self.network_ = self._built()
            engine.fit(self.network_, train, plan, runtime)
        runtime.notes["anomalib"] = {
            "model": self.model,
            "versions": {name: version(name) for name in ("anomalib", "lightning", "torch", "timm")},
            "threads": torch.get_num_threads(),
        }
        return self

    def predict(self, images: ImageSet) -> Prediction:
        """Score images one by one, raw: no normalisation, no threshold. Maps are brought to the images' size.

        Raises:
            SpecError: a model that gives no image score, or a map where none was declared.
        """
        return self._predicted(self.network_, images, images.size)

    def memory_estimate(self, images: ImageCounts, *, streamed: bool) -> MemoryEstimate:
        """Return what ltbench itself holds, which is the least: the network, its training and features come on top.

        These only anomalib knows, so the phases say that they are left out. Nothing lies in files.
        """
        pixels = images.size[0] * images.size[1]
        trained, scored = sum(images.train), max(images.test, default=0)
        rest = f"without what {self.model} itself takes"
        training = 3 * pixels * (trained + self.batch_size * FLOAT)
        scoring = 4 * pixels * scored * FLOAT + maps_bytes(images)  # Engine returns each image beside its map
        return MemoryEstimate(
            {f"{trained:,} training images, {rest}": training, f"maps of {scored:,} images, {rest}": scoring}
        )

    def save(self, folder: Path) -> None:
        """Write the hyper-parameters and the network's parameters and buffers, and prove that they are all it needs.

        Raises:
            SpecError: a model that keeps something else beside them, so that it would predict otherwise.
        """
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.network_.state_dict().items()}
        self._prove(arrays)
        save_state(folder, self, {**arrays, _SIZE: np.array(self.size_), _SEED: np.array([self.seed_])})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: it is damaged, or anomalib is not installed or of a version with other parameters.
        """
        require_anomalib()
        method, state = load_state(cls, folder)
        height, width = state.pop(_SIZE).tolist()
        method.size_, method.seed_, method._device = (height, width), state.pop(_SEED).item(), "cpu"
        try:
            method.network_ = method._restored(state)
        except RuntimeError as error:
            raise DataError(
                f"Expected the parameters of {method.model} of anomalib {version('anomalib')} in {folder}, got others "
                f"({error}). Install the version that it was saved with, or fit it again."
            ) from error
        return method

    def _built(self, weights: str | None = None) -> Any:
        from . import models

        return models.build(self.model, self.model_args, weights or self.weights, self.size_)

    def _restored(self, state: Mapping[str, NDArray[Any]]) -> Any:
        """Return a network with a state; its backbones begin at random, where timm gives them."""
        from . import engine

        with engine.isolated(self.seed_):
            network = self._built("model" if self.weights == "model" else "random")
            network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
        return network

    def _predicted(self, network: Any, images: Pixels, size: tuple[int, int]) -> Prediction:
        from . import engine

        with engine.isolated(self.seed_):
            found = engine.predict(network, images, self._device)
        scores = np.array([score for score, _ in found], np.float32)
        if not self.run_info.has_maps:
            return Prediction(scores)
        maps = np.empty((len(found), *size), np.float32)
        for index, (_, map_) in enumerate(found):
            if map_ is None:
                raise SpecError(f"Expected anomaly maps of {self.model}, got scores alone. Choose another model.")
            maps[index] = map_ if map_.shape == size else upsample(map_, size)
        return Prediction(scores, maps)

    def _prove(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Predict a drawn image by the network and by one that was built anew from its state."""
        drawn = [np.random.RandomState(0).randint(0, 256, (*self.size_, 3)).astype(np.uint8)]
        advice = "It can be run, but not with --save-model."
        try:
            again = self._predicted(self._restored(state), drawn, self.size_)
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            raise SpecError(f"Expected {self.model} to be all in its state, got {error}. {advice}") from error
        once = self._predicted(self.network_, drawn, self.size_)
        if not (np.array_equal(once.scores, again.scores) and np.array_equal(once.maps, again.maps)):
            raise SpecError(f"Expected {self.model} to predict the same when restored, got another map. {advice}")


def require_anomalib() -> None:
    """Import what stands on anomalib; raise `DataError` where that is not installed."""
    if find_spec("anomalib") is None or find_spec("lightning") is None:
        raise DataError(
            "Expected the package anomalib, got none. Run pip install 'ltbench[anomalib]', best in an environment of "
            "its own."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anomalib imports what itself and timm call deprecated
        from . import engine, models  # noqa: F401


METHOD: type[Method] = Anomalib
