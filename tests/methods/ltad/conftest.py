"""The smallest LTAD and the images of the contract checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ltbench.contract.registry import presets
from ltbench.contract.subject import Subject
from ltbench.datasets.arrays import ArrayImages
from ltbench.method import Runtime
from methods.ltad.method import LTAD
from methods.ltad.method_labelfree import LTADLabelFree

Fit = Callable[..., LTAD]
FitLabelFree = Callable[..., LTADLabelFree]


@pytest.fixture(scope="session")
def subject() -> Subject:
    return Subject(LTAD, presets(LTAD))


@pytest.fixture(scope="session")
def fit(subject: Subject) -> Fit:
    """Return a function that trains the method of the preset `check` with other hyper-parameters."""
    trained: dict[str, LTAD] = {}  # without a runtime of their own, tests share what they train alike

    def fitted(runtime: Runtime | None = None, **values: Any) -> LTAD:
        key = repr(sorted(values.items()))
        if runtime is not None or key not in trained:
            method = LTAD(**(subject.parameters | values)).fit(subject.train, runtime or Runtime())
            if runtime is not None:
                return method
            trained[key] = method
        return trained[key]

    return fitted


@pytest.fixture(scope="session")
def fit_labelfree(subject: Subject) -> FitLabelFree:
    """Return the same for the method that guesses categories."""

    def fitted(**values: Any) -> LTADLabelFree:
        return LTADLabelFree(**(subject.parameters | values)).fit(subject.train, Runtime())

    return fitted


def nameless(images: ArrayImages) -> ArrayImages:
    """Return the same images without their categories."""
    return ArrayImages(images.images)
