"""What tables keep of a record, and which records belong to one row."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ltbench.core import imbalance_of
from ltbench.method import MethodInfo
from ltbench.records.record import RunRecord
from ltbench.tables.cells import Cell
from ltbench.tables.groups import counts_in_words, members_of
from ltbench.tables.lists import ListKey, by_list, lists_of, mean_of_lists, spread_of_lists, why_not_pooled
from ltbench.tables.quantities import QUANTITIES, RESOURCES, RUN
from ltbench.tables.settings import contaminants_of, recipe_of

PRIVILEGES = {
    "uses_categories": "told the category of every image",
    "uses_training_categories": "told the category of every training image",
    "is_transductive": "scores test images jointly",
    "uses_annotated_data": "trained on annotated test images of another dataset",
    "recognises_training_images": "recognises training images among test images",
    "is_external": "external: predictions made elsewhere; what the method was told is its submitters' word",
}

Reasons = Mapping[tuple[str, str], str]
"""(method, split without seed) -> why there is no run: it failed, or the method is not applicable."""

NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run, as far as a table looks at it.

    Args:
        run: hash of the RunSpec.
        method: what the method says of itself.
        preset: the preset that the hyper-parameters were taken from.
        parameters: every hyper-parameter.
        protocol: how images became numbers, as text that two protocols share if they are one.
        protocol_name: its name.
        dataset: the dataset's name.
        split: the split's name.
        split_sha256: the split's identity.
        contaminants: the noise of its training images in words.
        imbalance: the largest over the smallest category, in normal training images.
        seed: the method's seed.
        members: group -> its categories.
        outcome: hash of the values of all its metrics, which runs share where nothing was drawn anew.
        values: metric -> group or category -> value in [0, 1], of the wanted metrics; resource -> `RUN` -> value.
        missing: metric -> group or category -> why there is no value.
        made_with: "ltbench", "torch", "device", "method" and "images" -> what the run was made with; images by split.
        cropped: what the protocol cuts off the test defects, as a footnote, or "".
    """

    run: str
    method: MethodInfo
    preset: str
    parameters: Mapping[str, Any]
    protocol: str
    protocol_name: str
    dataset: str
    split: str
    split_sha256: str
    contaminants: str
    imbalance: float
    seed: int
    outcome: int
    members: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Mapping[str, float]]
    missing: Mapping[str, Mapping[str, str]]
    made_with: Mapping[str, str] = field(default_factory=dict)
    cropped: str = ""

    @property
    def base(self) -> str:
        """The split's name without its seed."""
        return base_name(self.split)

    @property
    def variant(self) -> tuple[str, str, str]:
        """What the runs of one row share: method, hyper-parameters and protocol."""
        return (self.method.name, self.parameters_text, self.protocol)

    @property
    def parameters_text(self) -> str:
        """The hyper-parameters as text that equal ones share."""
        return repr(sorted(self.parameters.items()))

    @property
    def privileges(self) -> tuple[str, ...]:
        """What the method is told that others are not."""
        return tuple(text for name, text in PRIVILEGES.items() if getattr(self.method, name))


def measure(
    records: Iterable[RunRecord], metrics: Sequence[str], dataset: str | None = None, ranges: Sequence[str] = ()
) -> list[Measurement]:
    """Return what a table keeps of the records of a dataset, or of all; the rest of each can be forgotten at once.

    Equal contents are kept once, so that 10,000 records of a few methods take little memory.

    Args:
        records: the runs.
        metrics: metrics and resources.
        dataset: only runs on this one.
        ranges: groups of categories by training images ("1-5/") to take means over, beside High, Low and Avg.
    """
    shared: dict[str, Any] = {}

    def once(value: Any) -> Any:
        return shared.setdefault(repr(value), value)

    def kept(record: RunRecord) -> Measurement:
        spec = record.spec
        members = {"high": record.high, "low": record.low, "avg": record.high + record.low}
        members |= {own: members_of(own, record.counts) for own in ranges}
        values, missing = {}, {}
        for metric in metrics:
            values[metric], missing[metric] = _values(record, metric, {own: members[own] for own in ranges})
        return Measurement(
            run=spec.hash,
            method=once(record.method),
            preset=record.preset,
            parameters=once(dict(spec.parameters)),
            protocol=once(repr(spec.protocol)),
            protocol_name=spec.protocol.name,
            dataset=record.dataset,
            split=spec.split,
            split_sha256=spec.split_sha256,
            contaminants=once(_contaminants(record)),
            imbalance=imbalance_of(record.counts),
            seed=spec.seed,
            outcome=hash(tuple(tuple(groups.values()) for groups in record.metrics.values())),
            members=once(members),
            values=values,
            missing=once(missing),
            made_with=once(_made_with(record)),
            cropped=once(_cropped(record)),
        )

    return [kept(record) for record in records if dataset in (None, record.dataset)]


def _values(
    record: RunRecord, metric: str, ranges: Mapping[str, tuple[str, ...]]
) -> tuple[Mapping[str, float], Mapping[str, str]]:
    """Return the values of a metric or resource by group and category, and why there is none; with means over ranges.

    As in `metrics.groups.aggregate`, a mean is over the categories that have the metric.
    """
    if metric in RESOURCES:
        found = record.resources[metric]
        return ({}, {RUN: "not recorded"}) if found is None else ({RUN: found}, {})
    values, missing = dict(record.metrics.get(metric, {})), dict(record.missing.get(metric, {}))
    for own, categories in ranges.items():
        if present := [values[category] for category in categories if category in values]:
            values[own] = math.fsum(present) / len(present)
        elif categories:
            missing[own] = missing.get(categories[0], "not computed")
        else:
            missing[own] = f"no category of {record.spec.split} has {counts_in_words(own)}"
    return values, missing


def _made_with(record: RunRecord) -> dict[str, str]:
    """Return what a record says of its making; what it does not say is left out."""
    found = {name: str(record.environment[name]) for name in ("ltbench", "torch") if name in record.environment}
    if (device := record.environment.get("accelerator") or record.environment.get("device")) is not None:
        found["device"] = str(device)
    if record.provenance is not None:
        own = record.provenance
        found["method"] = f"{own['package']} {own['version']} {own['source']}"
        found["images"] = str(own["images"])
    return found


def pooled_of(runs: Iterable[Measurement]) -> str:
    """Return in which of what they were made with the runs of a cell differ, as a footnote, or ""."""
    seen: dict[str, set[str]] = defaultdict(set)
    images: dict[str, set[str]] = defaultdict(set)
    for found in runs:
        for name, text in found.made_with.items():
            (images[found.split_sha256] if name == "images" else seen[name]).add(text)
    names = [name for name, texts in seen.items() if len(texts) > 1]
    names += ["images"] if any(len(texts) > 1 for texts in images.values()) else []
    return f"pools runs of different {', '.join(names)}" if names else ""


def _cropped(record: RunRecord) -> str:
    notes = record.notes.get("masks", {}).values()
    empty, halved = (sum(note[kind] for note in notes) for kind in ("empty", "halved"))
    if not (empty or halved):
        return ""
    return (
        f"protocol {record.spec.protocol.name} leaves no pixel of {empty} test defects of {record.dataset}, "
        f"less than half of {halved}; they count as anomalous"
    )


def _contaminants(record: RunRecord) -> str:
    recipe = recipe_of(record.spec.split)
    if recipe is None and any(count["contaminant"] for count in record.counts.values()):
        return "contaminants"
    return contaminants_of(recipe)


def base_name(split: str) -> str:
    """Return the name of a split without its seed; published lists are one split in several draws, too."""
    return re.sub(r"_official\d+", "_official", re.sub(r"_seed\d+(_listed)?(_heldout\d+)?$", r"\1\2", split))


@dataclass
class Line:
    """The runs of one row of a table, by split without seed."""

    title: str
    first: Measurement
    by_base: dict[str, list[Measurement]] = field(default_factory=lambda: defaultdict(list))


def cell_of(measurements: Sequence[Measurement], metric: str, group: str, reason: str = NOT_RUN) -> Cell:
    """Return the mean of one row and column over lists and seeds, or a cell that says why there is none.

    Two lists of one name, or two runs of one seed on a list, are never pooled: the cell says which runs they are. Runs
    whose every metric is the same drew nothing, and have no deviation.
    """
    quantity = QUANTITIES[metric]
    if not measurements:
        return Cell(None, reason=reason)
    lists = by_list(measurements)
    bare = Cell(
        None,
        count=len(measurements),
        runs=tuple(sorted(found.run for found in measurements)),
        lists=lists_of(lists),
        pooled=pooled_of(measurements),
        digits=quantity.digits,
    )
    if why := why_not_pooled(lists):
        return replace(bare, reason=why)
    values: dict[ListKey, list[float]] = {}
    for key, runs in lists.items():
        for found in runs:
            value = found.values.get(metric, {}).get(group)
            if value is None:
                return replace(bare, reason=found.missing.get(metric, {}).get(group, "not computed"))
            values.setdefault(key, []).append(quantity.scale * value)
    is_drawn = quantity.is_resource or len({found.outcome for found in measurements}) > 1
    return replace(bare, mean=mean_of_lists(values), std=spread_of_lists(values) if is_drawn else None)
