"""From names to a run that is ready to start, and all that speaks against it before it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ltbench.contract.parameters import identifying, plain, resolve
from ltbench.contract.registry import choose_preset, method_class
from ltbench.core import Dataset, Protocol, RunSpec, Split
from ltbench.datasets.index import SOURCES
from ltbench.errors import NotApplicableError, SpecError
from ltbench.method import ChecksInputs, LeavesOut, Method, MethodInfo
from ltbench.protocols import DEFAULT_PROTOCOL, protocol_named
from ltbench.splits.checking import check_images, check_split, mask_notes, told_of_dark_images, told_of_masks
from ltbench.splits.readings import is_self_excluded


@dataclass(frozen=True)
class Plan:
    """A run that is ready to start.

    Args:
        spec: what is run.
        preset: where the hyper-parameters came from.
        method: the method's class.
        values: the hyper-parameters as its constructor takes them.
    """

    spec: RunSpec
    preset: str
    method: type[Method]
    values: Mapping[str, Any]

    @property
    def info(self) -> MethodInfo:
        """What the method declares, with these hyper-parameters if that depends on them."""
        info: MethodInfo = getattr(self.method(**self.values), "run_info", self.method.info)
        return info


def plan(
    method: str,
    split: Split,
    *,
    preset: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    protocol: str | None = None,
    seed: int = 0,
) -> Plan:
    """Resolve names to a run.

    Args:
        method: registry name.
        split: what trains and what tests.
        preset: name, or None for the paper's preset for this split if there is one, else the defaults.
        parameters: hyper-parameters that override the preset.
        protocol: name, or None for the preset's on a published or built-in dataset, else `common`: a crop made for the
            centred objects of a paper can cut off the defects of others.
        seed: seed of the method.

    Raises:
        UnknownNameError: an unknown method, preset, protocol or hyper-parameter.
        SpecError: a hyper-parameter of the wrong type or range.
    """
    cls = method_class(method)
    chosen = choose_preset(cls, preset, split.name)
    values = resolve(cls, chosen.parameters, parameters or {})
    of_preset = chosen.protocol if split.dataset in SOURCES else None  # a paper's geometry is for the paper's images
    chosen_protocol = protocol_named(protocol or of_preset or DEFAULT_PROTOCOL)
    spec = RunSpec(method, plain(identifying(cls, values)), split.name, split.sha256, chosen_protocol, seed)
    return Plan(spec, chosen.name, cls, values)


@dataclass(frozen=True, slots=True)
class Prospects:
    """What is known of a run before it starts, where nothing speaks against it.

    Args:
        notes: what its record notes of masks and images.
        told: what the user should know of them, with the remedy.
    """

    notes: Mapping[str, Any]
    told: tuple[str, ...]


def check_plan(planned: Plan, split: Split, dataset: Dataset) -> Prospects:
    """Check all that can speak against a run before it starts. What is read of images and masks is remembered.

    `plan`, `sweep` and `run` call it; `make-splits`, which has no method yet, calls its part `check_split`.

    Raises:
        NotApplicableError: the method cannot train on the split.
        LtbenchError: what the method needs beside the images is not there (`check_inputs`).
        DataError: the split names images that the dataset lacks or calls otherwise, a mask does not fit its image, or
            a test image or mask cannot be read.
    """
    check_applicable(planned, split)
    check_inputs(planned)
    check_split(split, dataset)
    return prospects(split, dataset, planned.spec.protocol)


def prospects(split: Split, dataset: Dataset, protocol: Protocol) -> Prospects:
    """Return what a protocol will make of the images and masks of a split.

    Raises:
        DataError: a test image or mask cannot be read.
    """
    dark = check_images(split, dataset, protocol)
    masks = mask_notes(split, dataset, protocol)
    told = (*told_of_masks(masks, dataset.name, protocol), *told_of_dark_images(dark, protocol))
    notes = {"masks": masks, "dark_images": dark}
    return Prospects({name: value for name, value in notes.items() if value}, told)


def auxiliary_of(planned: Plan) -> str | None:
    """Return the name of the annotated dataset that a plan trains on besides, or None.

    Raises:
        SpecError: its method uses one, and the hyper-parameter `auxiliary` names none.
    """
    if not planned.info.uses_annotated_data:
        return None
    name = planned.values.get("auxiliary")
    if not isinstance(name, str) or not name:
        raise SpecError(
            f"Expected an annotated dataset for {planned.info.title}, got none. Name another than the tested one: "
            "-p auxiliary=visa."
        )
    return name


def check_applicable(planned: Plan, split: Split) -> None:
    """Raise `NotApplicableError` with the reason where a method cannot take a split, or its protocol needs maps.

    Raises:
        SpecError: an annotated dataset is needed, and none is named.
    """
    protocol = planned.spec.protocol
    if not planned.info.has_maps and protocol.image_score != "method":
        raise NotApplicableError(
            f"{planned.info.title} gives no maps, and protocol {protocol.name} takes an image's score from its map"
        )
    if auxiliary_of(planned) == split.dataset:
        raise NotApplicableError(
            f"{planned.info.title} trains on the annotated test images of {split.dataset} here, and {split.name} tests "
            "on them; name another dataset (-p auxiliary=NAME)"
        )
    for reason in (why_not_applicable(planned.info, split), why_not_self_excluded(planned.method, split)):
        if reason is not None:
            raise NotApplicableError(reason)


def check_inputs(planned: Plan) -> None:
    """Raise the method's own `LtbenchError` where it offers `check_inputs` and lacks what its hyper-parameters name."""
    method = planned.method(**planned.values)
    if isinstance(method, ChecksInputs):
        method.check_inputs()


def why_not_applicable(info: MethodInfo, split: Split) -> str | None:
    """Return why a method cannot train on a split, or None if it can."""
    counts = {category: sum(count.values()) for category, count in split.counts.items()}
    fewest = min(counts, key=lambda category: counts[category])
    if counts[fewest] >= info.min_images:
        return None
    return (
        f"{info.title} needs at least {info.min_images} training images a category; "
        f"{split.name} has {counts[fewest]} of {fewest}"
    )


def why_not_self_excluded(method: type[Method], split: Split) -> str | None:
    """Return why a method cannot score a self-excluded split, or None if it can or the split is none."""
    if not is_self_excluded(split) or issubclass(method, LeavesOut):
        return None
    return (
        f"{method.info.title} cannot score an image without what it has of one training image (predict_without), which "
        f"{split.name} asks for; overlap and disjoint splits do not"
    )
