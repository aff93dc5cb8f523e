"""Every method in miniature: on the contract checks' images, with settings whose numbers mean something and are few."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ltbench.contract.registry import method_class, method_names, presets
from ltbench.contract.subject import Subject
from ltbench.core import Prediction

NAMES = tuple(name for name in method_names() if name != "anomalib")

BANKS = ("groupcore", "padim", "patchcore", "softpatch", "tailedcore", "tailedcore_oracle")
UNTRAINED = (*BANKS, "winclip")
"""What is learnt depends on no random numbers that a device draws, so that a device finds what the CPU does."""

SMALLER = {"backbone": "test_resnet", "weights": "random", "layers": (1, 2)}
OWN: dict[str, dict[str, Any]] = {
    "anomalyclip": {"epochs": 1},
    "draem": {"iterations": 2},
    **dict.fromkeys(BANKS, SMALLER),
    "padim": SMALLER | {"dimensions": 20},
}
"""Hyper-parameters other than those of the contract checks, whose numbers mean something."""


def subject_of(name: str) -> Subject:
    cls = method_class(name)
    return Subject(cls, presets(cls))


def predicted(subject: Subject, device: str) -> Prediction:
    method = subject.method(**subject.parameters | OWN.get(subject.method.info.name, {}))
    return method.fit(subject.train, replace(subject.runtime(), device=device)).predict(subject.mixed)
