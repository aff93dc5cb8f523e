"""The contract as a list of small checks: what every method must keep, whoever wrote it.

`ltbench check NAME` runs them, and so does `tests/test_methods_contract.py` for every method of the suite. Each check
takes a `Subject` and raises `ContractError` with the reason when the method breaks it.
"""

from __future__ import annotations

import copy
import inspect
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ltbench.contract.demands import require, require_equal
from ltbench.contract.parameters import HyperParameter, hyper_parameters, resolve
from ltbench.contract.recognition import check_copies_score_alike, check_keys_tell_nothing, check_leaves_out
from ltbench.contract.registry import method_class, presets
from ltbench.contract.subject import SIDE, Lending, Subject, select
from ltbench.core import Prediction
from ltbench.errors import ContractError, LtbenchError
from ltbench.method import EstimatesMemory, ImageCounts, Method

DEVICE_BATCH = 32
"""Images that go together on the device that an estimate is asked about."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of one check: `reason` is "" when it passed."""

    check: str
    reason: str

    @property
    def passed(self) -> bool:
        """Whether the method keeps this part of the contract."""
        return not self.reason


def check_default_constructible(subject: Subject) -> None:
    """A method can be made without arguments, and its fields are valid hyper-parameters."""
    subject.method()
    for parameter in hyper_parameters(subject.method):
        parameter.validate(_plain(parameter.default))


def check_documented(subject: Subject) -> None:
    """The class, its title and every hyper-parameter say what they are."""
    text = inspect.cleandoc(subject.method.__doc__ or "")
    generated = f"{subject.method.__name__}("  # what @dataclass writes where there is none
    require(text and not text.startswith(generated), "the class has no docstring")
    require(subject.method.info.title.strip(), "info.title is empty")
    for parameter in hyper_parameters(subject.method):
        documented = parameter.description or f"{parameter.name}:" in text
        require(documented, f"hyper-parameter {parameter.name!r} has no description in the docstring")


def check_presets_resolve(subject: Subject) -> None:
    """Every preset sets fields to valid values, and one runs offline."""
    for preset in subject.known.values():
        resolve(subject.method, preset.parameters)
    require(not subject.known or "offline" in subject.known, "presets.yaml has no preset named 'offline'")


def check_fit_returns_self(subject: Subject) -> None:
    """`fit` returns the method itself and leaves its hyper-parameters alone."""
    method = subject.method(**subject.parameters)
    before = copy.deepcopy(_values(method))
    require(method.fit(subject.train, subject.runtime()) is method, "fit returned something else than self")
    require(_values(method) == before, f"fit changed hyper-parameters from {before} to {_values(method)}")


def check_fewest_images(subject: Subject) -> None:
    """`fit` and `predict` work after as few training images of each of two categories as `info.min_images` declares."""
    few = select(subject.train, list(range(2 * subject.method.info.min_images)))
    try:
        subject.method(**subject.parameters).fit(few, subject.runtime()).predict(subject.good)
    except (LtbenchError, ValueError, IndexError, ArithmeticError) as error:
        raise ContractError(f"{len(few)} training images are too few: {error}") from error


def check_prediction(subject: Subject) -> None:
    """`predict` gives one finite float32 score and map of the image size for each image, and no map if it has none."""
    has_maps = subject.method.info.has_maps
    subject.expected.check(len(subject.defective), subject.defective.size, has_maps=has_maps)


def check_same_seed_same_maps(subject: Subject) -> None:
    """The same seed gives the same scores and maps, to the last bit."""
    require_equal(subject.fitted().predict(subject.defective), subject.expected, "a second fit with the same seed")


def check_global_rng_untouched(subject: Subject) -> None:
    """Global random generators of Python, numpy and torch are neither drawn from nor seeded."""
    _advance_rngs()
    before = _rng_states()
    subject.fitted().predict(subject.good)
    after = _rng_states()
    for library, state in before.items():
        require(after[library] == state, f"{library}'s global generator was used")


def check_inputs_unmodified(subject: Subject) -> None:
    """Neither `fit` nor `predict` writes into the images it is given."""
    train, test = (Lending(images) for images in (subject.train, subject.defective))
    subject.method(**subject.parameters).fit(train, subject.runtime()).predict(test)
    require(not train.modified(), "fit changed a training image")
    require(not test.modified(), "predict changed a test image")


def check_order_and_batch(subject: Subject) -> None:
    """The score of an image does not depend on the others, unless the method is declared transductive."""
    if subject.method.info.is_transductive:
        return
    images = subject.mixed
    expected = subject.reference.predict(images)
    order = [2, 0, 3, 1]
    shuffled = subject.reference.predict(select(images, order))
    require_equal(shuffled, Prediction(expected.scores[order], expected.maps[order]), "another order of the images")
    single = [subject.reference.predict(select(images, [i])) for i in range(len(images))]
    alone = Prediction(np.concatenate([p.scores for p in single]), np.concatenate([p.maps for p in single]))
    require_equal(alone, expected, "predicting one image at a time")


def check_higher_is_more_anomalous(subject: Subject) -> None:
    """A planted square raises the image score, and the map, if there is one, most where it lies."""
    good = subject.reference.predict(subject.good)
    raised = subject.expected.scores > good.scores
    require(raised.all(), f"planted squares raised {raised.sum()} of {len(raised)} image scores")
    if not subject.method.info.has_maps:
        return
    inside = subject.expected.maps[:, 24:40, 24:40].mean()
    outside = subject.expected.maps[:, :12, :12].mean()
    require(inside > outside, f"the mean map is {inside:.4g} on the planted square and {outside:.4g} far from it")


def check_save_load(subject: Subject) -> None:
    """A saved method, loaded, predicts the same; its files are safetensors and JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject.reference.save(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        require(files, "save wrote nothing")
        odd = sorted(path.name for path in files if path.suffix not in {".safetensors", ".json"})
        require(not odd, f"save wrote {odd}, expected .safetensors and .json only")
        loaded = subject.method.load(folder)
        require(_values(loaded) == _values(subject.reference), "load changed hyper-parameters")
        require_equal(loaded.predict(subject.defective), subject.expected, "save and load")


def check_every_hyper_parameter_matters(subject: Subject) -> None:
    """Each hyper-parameter, set to another value, changes a prediction."""
    for parameter in hyper_parameters(subject.method):
        given, value = _other(parameter, subject.parameters[parameter.name])
        before = subject.fitted(**given).predict(subject.defective) if given else subject.expected
        after = subject.fitted(**(given | {parameter.name: value})).predict(subject.defective)
        same = np.array_equal(before.maps, after.maps) and np.array_equal(before.scores, after.scores)
        require(
            not same,
            f"{parameter.name}={value!r} predicts the same as {(subject.parameters | given)[parameter.name]!r}; "
            "if it only matters beside others, annotate it with Probe(value, given={...})",
        )


def check_memory_estimate(subject: Subject) -> None:
    """An estimate of memory, where a method offers one, is positive in every phase, and grows with the images.

    What it says of a device, if anything, grows with the images that go together there as well.
    """
    method = subject.method(**subject.parameters)
    if not isinstance(method, EstimatesMemory):
        return
    few, many = (ImageCounts((SIDE, SIDE), (count, count), (count, count)) for count in (4, 40_000))
    for streamed in (False, True):
        estimates = [method.memory_estimate(images, streamed=streamed) for images in (few, many)]
        for estimate in estimates:
            odd = [phase for phase, size in estimate.phases.items() if size <= 0]
            require(estimate.phases and not odd, f"the estimate has {f'no bytes for {odd}' if odd else 'no phases'}")
            require(estimate.disk >= 0, f"the estimate has {estimate.disk} bytes of temporary files")
        least, most = (max(estimate.phases.values()) for estimate in estimates)
        require(least < most, f"the estimate is {least} bytes for 8 images and {most} for 80,000")
    _check_device_estimate(method, few, many)


def _check_device_estimate(method: EstimatesMemory, few: ImageCounts, many: ImageCounts) -> None:
    on_cpu = method.memory_estimate(few, streamed=False).device
    require(not on_cpu, f"the estimate has {dict(on_cpu)} on a device of a run that has none")
    asked = (replace(few, batch=1), replace(few, batch=DEVICE_BATCH), replace(many, batch=DEVICE_BATCH))
    found = [method.memory_estimate(images, streamed=False).device for images in asked]
    if not any(found):
        return
    odd = [phase for device in found for phase, size in device.items() if not isinstance(size, int) or size <= 0]
    require(all(found) and not odd, f"on a device the estimate has {f'no bytes for {odd}' if odd else 'no phases'}")
    peaks = [max(device.values()) for device in found]
    require(
        peaks == sorted(peaks),
        f"on a device the estimate is {peaks[0]} bytes for 8 images one by one, {peaks[1]} for {DEVICE_BATCH} of them "
        f"at a time, and {peaks[2]} for 80,000",
    )


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_default_constructible,
    check_documented,
    check_presets_resolve,
    check_fit_returns_self,
    check_fewest_images,
    check_prediction,
    check_same_seed_same_maps,
    check_global_rng_untouched,
    check_inputs_unmodified,
    check_order_and_batch,
    check_higher_is_more_anomalous,
    check_save_load,
    check_every_hyper_parameter_matters,
    check_memory_estimate,
    check_keys_tell_nothing,
    check_copies_score_alike,
    check_leaves_out,
)


def check_method(name: str) -> Iterator[CheckResult]:
    """Run every check on a method of the registry, in order, and yield each result."""
    method = method_class(name)
    subject = Subject(method, presets(method))
    return (run_check(check, subject) for check in CHECKS)


def run_check(check: Callable[[Subject], None], subject: Subject) -> CheckResult:
    """Run one check; a broken contract is a reason, any other exception is a defect and passes through."""
    name = check.__name__.removeprefix("check_")
    try:
        check(subject)
    except LtbenchError as error:
        return CheckResult(name, str(error))
    return CheckResult(name, "")


def _advance_rngs() -> None:
    """Draw from each global generator: a method that seeds it in `fit` left it in the very state that it seeds."""
    import torch

    random.random()
    np.random.random_sample()
    torch.rand(1)


def _rng_states() -> dict[str, str]:
    import torch

    return {
        "Python": repr(random.getstate()),
        "numpy": repr([np.asarray(part).tolist() for part in np.random.get_state()]),
        "torch": repr(torch.get_rng_state().tolist()),
    }


def _values(method: Method) -> dict[str, Any]:
    return {parameter.name: getattr(method, parameter.name) for parameter in hyper_parameters(type(method))}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _other(parameter: HyperParameter, value: Any) -> tuple[dict[str, Any], Any]:
    """Return other hyper-parameters to set, and another value to try."""
    if parameter.probe is not None:
        return dict(parameter.probe.given), parameter.probe.value
    if isinstance(value, bool):
        return {}, not value
    if parameter.choices:
        return {}, next(choice for choice in parameter.choices if choice != value)
    if isinstance(value, int):
        return {}, value + 1
    if isinstance(value, float):
        return {}, value / 2 if value else 1.0
    raise ContractError(
        f"Expected a way to vary {parameter.name!r} ({value!r}), got none. Annotate it with Probe(other value)."
    )
