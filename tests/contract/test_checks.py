"""Each contract check passes a sound method and catches one that is broken in exactly that way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pytest
import torch
from pydantic import Field

from ltbench.contract.checks import CHECKS, check_every_hyper_parameter_matters, run_check
from ltbench.contract.registry import Preset
from ltbench.contract.subject import Subject
from ltbench.core import Prediction
from ltbench.errors import LtbenchError
from ltbench.method import ImageSet, Method, MethodInfo, Probe, Runtime


@dataclass
class Sound:
    """Distance to the mean colour, scaled and shifted.

    Args:
        scale: factor of the map.
    """

    info: ClassVar[MethodInfo] = MethodInfo("sound", "Sound")

    scale: Annotated[float, Field(gt=0)] = 1.0
    shift: Annotated[float, Field(description="added to the map")] = 0.0
    mode: Annotated[str, Field(description="how a pixel is compared"), Probe("abs")] = "square"

    mean_: Any = field(init=False, repr=False)

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        self.mean_ = np.mean([image.mean(axis=(0, 1)) for image in train], axis=0)
        return self

    def predict(self, images: ImageSet) -> Prediction:
        compare: Callable[[Any], Any] = np.square if self.mode == "square" else np.abs
        maps = np.stack([compare(image - self.mean_).mean(axis=2) for image in images])
        maps = (maps * self.scale + self.shift).astype(np.float32)
        return Prediction(maps.max(axis=(1, 2)), maps)

    def save(self, folder: Path) -> None:
        state = {"scale": self.scale, "shift": self.shift, "mode": self.mode, "mean": self.mean_.tolist()}
        (folder / "method.json").write_text(json.dumps(state))

    @classmethod
    def load(cls, folder: Path) -> Self:
        state = json.loads((folder / "method.json").read_text())
        method = cls(scale=state["scale"], shift=state["shift"], mode=state["mode"])
        method.mean_ = np.array(state["mean"])
        return method


@dataclass
class NeedsArgument(Sound):
    """Cannot be made without arguments."""

    scale: Annotated[float, Field(gt=0, description="x")] = -1.0


@dataclass
class Undocumented(Sound):
    """Says nothing of its hyper-parameter."""

    extra: float = 2.0

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        return Prediction(found.scores * np.float32(self.extra), found.maps * np.float32(self.extra))


@dataclass
class ReturnsNothing(Sound):
    """Returns another object from fit.

    Args:
        scale: factor.
    """

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        return type(self)(self.scale, self.shift, self.mode)._learn(train, runtime)

    def _learn(self, train: ImageSet, runtime: Runtime) -> Self:
        return super().fit(train, runtime)


@dataclass
class ChangesHyperParameter(Sound):
    """Stores what it learnt in a hyper-parameter.

    Args:
        scale: factor.
    """

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        super().fit(train, runtime)
        self.scale = 1.0 + float(self.mean_.mean())
        return self


@dataclass
class NeedsFour(Sound):
    """Needs four training images without saying so.

    Args:
        scale: factor.
    """

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        if len(train) < 4:
            raise ValueError("four images make a covariance")
        return super().fit(train, runtime)


@dataclass
class Float64(Sound):
    """Returns float64 maps.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        return Prediction(found.scores, found.maps.astype(np.float64))


@dataclass
class NotFinite(Sound):
    """Returns NaN.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        return Prediction(found.scores * np.float32("nan"), found.maps)


@dataclass
class SmallMaps(Sound):
    """Returns maps at half the size.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        return Prediction(found.scores, np.ascontiguousarray(found.maps[:, ::2, ::2]))


@dataclass
class Unseeded(Sound):
    """Draws without a seed.

    Args:
        scale: factor.
    """

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        super().fit(train, runtime)
        self.mean_ = self.mean_ + np.random.default_rng().random()
        return self


@dataclass
class SeedsNumpy(Sound):
    """Seeds numpy's global generator.

    Args:
        scale: factor.
    """

    def fit(self, train: ImageSet, runtime: Runtime) -> Self:
        np.random.seed(runtime.seed)
        return super().fit(train, runtime)


@dataclass
class DrawsPython(Sound):
    """Draws from Python's global generator.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        random.random()
        return super().predict(images)


@dataclass
class DrawsTorch(Sound):
    """Draws from torch's global generator.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        torch.rand(1)
        return super().predict(images)


@dataclass
class WritesIntoImages(Sound):
    """Normalises images in place.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        images[0][:] = 0
        return found


@dataclass
class NormalisesOverBatch(Sound):
    """Divides by the largest score of the batch.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        top = found.scores.max()
        return Prediction(found.scores / top, found.maps / top)


@dataclass
class Inverted(Sound):
    """Gives good images the higher score.

    Args:
        scale: factor.
    """

    def predict(self, images: ImageSet) -> Prediction:
        found = super().predict(images)
        return Prediction(-found.scores, -found.maps)


@dataclass
class ForgetsOnSave(Sound):
    """Loses what it learnt.

    Args:
        scale: factor.
    """

    @classmethod
    def load(cls, folder: Path) -> Self:
        method = super().load(folder)
        method.mean_ = np.zeros(3)
        return method


@dataclass
class Pickles(Sound):
    """Writes a file that can run code when it is read.

    Args:
        scale: factor.
    """

    def save(self, folder: Path) -> None:
        super().save(folder)
        (folder / "state.pkl").write_bytes(b"")


@dataclass
class DeadFlag(Sound):
    """Has a flag that nobody reads.

    Args:
        scale: factor.
        soft: does nothing.
    """

    soft: bool = True


BROKEN: list[tuple[type[Method], str]] = [
    (NeedsArgument, "default_constructible"),
    (Undocumented, "documented"),
    (ReturnsNothing, "fit_returns_self"),
    (ChangesHyperParameter, "fit_returns_self"),
    (NeedsFour, "fewest_images"),
    (Float64, "prediction"),
    (NotFinite, "prediction"),
    (SmallMaps, "prediction"),
    (Unseeded, "same_seed_same_maps"),
    (SeedsNumpy, "global_rng_untouched"),
    (DrawsPython, "global_rng_untouched"),
    (DrawsTorch, "global_rng_untouched"),
    (WritesIntoImages, "inputs_unmodified"),
    (NormalisesOverBatch, "order_and_batch"),
    (Inverted, "higher_is_more_anomalous"),
    (ForgetsOnSave, "save_load"),
    (Pickles, "save_load"),
    (DeadFlag, "every_hyper_parameter_matters"),
]


def _result(name: str, subject: Subject) -> str:
    check = next(check for check in CHECKS if check.__name__ == f"check_{name}")
    return run_check(check, subject).reason


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_method_passes(check: Callable[[Subject], None]) -> None:
    assert run_check(check, Subject(Sound)).reason == ""


@pytest.mark.parametrize(("method", "check"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_method_is_caught(method: type[Method], check: str) -> None:
    assert _result(check, Subject(method)) != ""


def test_seeding_a_global_generator_is_caught_after_a_fit_that_left_the_same_state() -> None:
    subject = Subject(SeedsNumpy)
    subject.reference  # noqa: B018 - as the checks before this one do
    assert "numpy" in _result("global_rng_untouched", subject)


def test_every_check_is_proved() -> None:
    elsewhere = {"keys_tell_nothing", "copies_score_alike", "leaves_out", "memory_estimate"}  # in other files
    proved = {check for _, check in BROKEN} | {"presets_resolve"} | elsewhere
    assert proved == {check.__name__.removeprefix("check_") for check in CHECKS}


def test_a_preset_that_sets_no_field_is_caught() -> None:
    unknown = {"offline": Preset("offline", parameters={"scael": 2.0})}
    assert "Did you mean 'scale'" in _result("presets_resolve", Subject(Sound, unknown))


def test_a_method_without_an_offline_preset_is_caught() -> None:
    assert "offline" in _result("presets_resolve", Subject(Sound, {"paper": Preset("paper")}))


def test_a_method_may_declare_that_it_needs_more_images() -> None:
    @dataclass
    class SaysSo(NeedsFour):
        """Says so."""

        info: ClassVar[MethodInfo] = MethodInfo("says_so", "Says so", min_images=2)

    assert _result("fewest_images", Subject(SaysSo)) == ""


def test_a_transductive_method_may_depend_on_the_batch() -> None:
    @dataclass
    class Declared(NormalisesOverBatch):
        """Declares what it does."""

        info: ClassVar[MethodInfo] = MethodInfo("declared", "Declared", is_transductive=True)

    assert _result("order_and_batch", Subject(Declared)) == ""


@dataclass
class ScoresAlone(Sound):
    """Scores images by the mean of the map that it does not give.

    Args:
        scale: factor.
    """

    info: ClassVar[MethodInfo] = MethodInfo("scores_alone", "Scores alone", has_maps=False)

    def predict(self, images: ImageSet) -> Prediction:
        return Prediction(super().predict(images).maps.mean(axis=(1, 2)))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_method_without_maps_that_declares_it_passes(check: Callable[[Subject], None]) -> None:
    assert run_check(check, Subject(ScoresAlone)).reason == ""


def test_a_method_must_declare_whether_it_gives_maps() -> None:
    @dataclass
    class Undeclared(ScoresAlone):
        """Gives no maps."""

        info: ClassVar[MethodInfo] = MethodInfo("undeclared", "Undeclared")

    @dataclass
    class Mapped(Sound):
        """Gives maps."""

        info: ClassVar[MethodInfo] = MethodInfo("mapped", "Mapped", has_maps=False)

    assert "declare has_maps=False" in _result("prediction", Subject(Undeclared))
    assert "Declare has_maps=True" in _result("prediction", Subject(Mapped))


def test_a_method_that_reads_categories_without_saying_so_is_caught() -> None:
    @dataclass
    class Peeks(Sound):
        """Looks at categories."""

        def fit(self, train: ImageSet, runtime: Runtime) -> Self:
            assert train.categories
            return super().fit(train, runtime)

    assert "uses_categories" in _result("fit_returns_self", Subject(Peeks))


def test_a_method_that_uses_annotated_images_without_saying_so_is_caught() -> None:
    @dataclass
    class Taught(Sound):
        """Looks at another dataset's defects."""

        def fit(self, train: ImageSet, runtime: Runtime) -> Self:
            assert any(runtime.annotated.labels)
            return super().fit(train, runtime)

    @dataclass
    class SaysSo(Taught):
        """Says so."""

        info: ClassVar[MethodInfo] = MethodInfo("says_so", "Says so", uses_annotated_data=True)

    assert "uses_annotated_data" in _result("fit_returns_self", Subject(Taught))
    assert _result("fit_returns_self", Subject(SaysSo)) == ""


def test_a_defect_of_the_method_keeps_its_traceback() -> None:
    @dataclass
    class Defective(Sound):
        """Divides by zero."""

        def fit(self, train: ImageSet, runtime: Runtime) -> Self:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _result("fit_returns_self", Subject(Defective))


def test_a_hyper_parameter_without_an_alternative_asks_for_a_probe() -> None:
    @dataclass
    class Text(Sound):
        """Has a text.

        Args:
            text: something.
        """

        text: str = "a"

    with pytest.raises(LtbenchError, match="Probe"):
        check_every_hyper_parameter_matters(Subject(Text))
