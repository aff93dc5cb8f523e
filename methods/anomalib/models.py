"""anomalib's classes of models: which there are, what they take, and one built for images of a size."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anomalib.models.image as catalogue
import timm
import timm.models.vision_transformer
from anomalib import LearningType
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import CenterCrop, Compose

from ltbench.blocks.features.packaged_vit import named_state
from ltbench.blocks.features.weights import RANDOM, load_into
from ltbench.errors import SpecError, UnknownNameError

MODELS_OWN = "model"
"""What `weights` is called where the model gets them as it does without ltbench."""

PARTS = ("pre_processor", "post_processor", "evaluator", "visualizer")
"""What every model's constructor takes and ltbench sets."""

_DEPTH = ("CFM",)
"""Models that take point clouds beside images."""

_UNTRAINED = ("AnomalyVFM", "VlmAd", "WinClip")
"""Models that learn from no training image."""


def model_names() -> list[str]:
    """Return the names of anomalib's image models, without those that are known not to be trained."""
    return sorted(name for name in catalogue.__all__ if name not in (*_DEPTH, *_UNTRAINED))


def check(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise an error unless there is such a model that takes such arguments.

    Raises:
        UnknownNameError: no such image model, or an argument that its constructor does not take.
        SpecError: a model that is known not to be trained.
    """
    if name in _UNTRAINED:
        raise _untrained(name)
    if name not in model_names():
        raise UnknownNameError("anomalib image model", name, model_names())
    known = [key for key in inspect.signature(getattr(catalogue, name)).parameters if key not in PARTS]
    for key in arguments:
        if key not in known:
            raise UnknownNameError(f"constructor argument of anomalib's {name}", key, known)


def build(name: str, arguments: Mapping[str, Any], weights: str, size: tuple[int, int]) -> Any:
    """Return a model for images of a size (height, width), without normalisation, thresholds, metrics and pictures.

    To be called in `engine.isolated`.

    Args:
        name: of its class.
        arguments: of its constructor.
        weights: of the backbones that it takes from timm with pretrained weights: "model" leaves that to timm,
            otherwise as `ltbench.blocks.features`.
        size: it is given the whole image: a crop that it would make is left out.

    Raises:
        SpecError: the model refuses its arguments or the size, or learns from no images.
        DataError: weights that cannot be had or do not fit.
    """
    cls = getattr(catalogue, name)
    try:
        with _backbones(weights) as filled:
            model = cls(**arguments, pre_processor=_whole(cls, size), **dict.fromkeys(PARTS[1:], False))
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, ImportError) as error:
        raise SpecError(
            f"Expected anomalib's {name} with {dict(arguments)} for {size[0]} x {size[1]} pixels, got "
            f"{type(error).__name__}: {error}. Mend -p model_args, or choose another protocol or weights."
        ) from error
    if weights != MODELS_OWN and not filled:
        raise SpecError(f"Expected a backbone of timm in {name}, got none. Leave weights={MODELS_OWN}.")
    if model.learning_type != LearningType.ONE_CLASS:
        raise _untrained(name)
    vit: Any = timm.models.vision_transformer
    model.positions_of_timm = vit.resample_abs_pos_embed  # as it is now: `engine` brings it back to this model
    return model


def _untrained(name: str) -> SpecError:
    return SpecError(f"Expected a model that is trained, got {name}, which is not. Choose another.")


def _whole(cls: type[AnomalibModule], size: tuple[int, int]) -> Any:
    """Return the model's own pre-processor for a size, without its crop."""
    asked = inspect.signature(cls.configure_pre_processor).parameters
    crops = {key: min(size) for key in asked if key == "crop_size"}  # its default may be larger than the image
    made = cls.configure_pre_processor(image_size=size, **crops)
    steps = made.transform.transforms if isinstance(made.transform, Compose) else [made.transform]
    kept = [step for step in steps if not isinstance(step, CenterCrop)]
    return made if len(kept) == len(steps) else PreProcessor(Compose(kept))


@contextmanager
def _backbones(weights: str) -> Iterator[list[str]]:
    """Let timm give the weights that are asked for wherever pretrained ones are; yields the names of the networks."""
    library: Any = timm
    original, filled = timm.create_model, []

    def create_model(model_name: str, pretrained: bool = False, **settings: Any) -> Any:
        network = original(model_name, pretrained=False, **settings)
        if pretrained:
            filled.append(model_name)
            if weights != RANDOM:
                load_into(network, named_state(model_name, weights), f"{model_name} weights={weights}")
        return network

    if weights != MODELS_OWN:
        library.create_model = create_model
    try:
        yield filled
    finally:
        library.create_model = original
