"""Hyper-parameters: read from fields, validated, overridden in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import pytest
from pydantic import Field

from ltbench.contract.parameters import (
    completed,
    hyper_parameters,
    identifying,
    parse_assignments,
    plain,
    resolve,
)
from ltbench.errors import SpecError, UnknownNameError
from ltbench.method import AddedLater, Method, MethodInfo, Probe


@dataclass
class _Fields:
    info: ClassVar[MethodInfo] = MethodInfo("fields", "Fields")

    ratio: Annotated[float, Field(gt=0, le=1, description="share kept")] = 0.1
    layers: tuple[int, ...] = (2, 3)
    kind: Literal["exact", "approximate"] = "exact"
    soft: bool = True
    count: int = 3
    name: str = "x"
    scale: float = 1.0


FIELDS = cast("type[Method]", _Fields)


def test_fields_are_described() -> None:
    ratio, layers, kind, *_ = hyper_parameters(FIELDS)
    assert (ratio.name, ratio.type_name, ratio.default, ratio.description) == ("ratio", "float", 0.1, "share kept")
    assert layers.type_name == "tuple[int, ...]"
    assert kind.choices == ("exact", "approximate")
    assert kind.type_name == "'exact' | 'approximate'"


def test_later_settings_win_and_lists_become_tuples() -> None:
    values = resolve(FIELDS, {"ratio": 0.2, "count": 4}, {"ratio": 1, "layers": [1]})
    assert values == {
        "ratio": 1.0,
        "layers": (1,),
        "kind": "exact",
        "soft": True,
        "count": 4,
        "name": "x",
        "scale": 1.0,
    }
    assert plain(values)["layers"] == [1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ratio", 0), ("ratio", 1.5), ("ratio", "much"), ("layers", 2), ("kind", "other"), ("soft", 1), ("count", 2.5)],
)
def test_wrong_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(SpecError, match=f"'{name}'"):
        resolve(FIELDS, {name: value})


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), "inf", "nan"])
def test_a_number_is_finite(value: Any) -> None:
    with pytest.raises(SpecError, match="'scale'"):
        resolve(FIELDS, {"scale": value})


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'layers'"):
        resolve(FIELDS, {"layer": 1})


def test_assignments_are_yaml() -> None:
    parsed = parse_assignments(["ratio=1e-3", "layers=[1, 2]", "soft=false", "name=a=b"])
    assert parsed == {"ratio": "1e-3", "layers": [1, 2], "soft": False, "name": "a=b"}
    assert resolve(FIELDS, parsed)["ratio"] == 1e-3


@pytest.mark.parametrize("text", ["ratio", "=1", "x=[1"])
def test_wrong_assignments_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"key=value|YAML"):
        parse_assignments([text])


def test_a_class_without_fields_is_refused() -> None:
    class Bare:
        info = MethodInfo("bare", "Bare")

    with pytest.raises(SpecError, match="dataclass"):
        hyper_parameters(cast("type[Method]", Bare))


Ratio = Annotated[float, Field(gt=0, le=1, description="share kept"), Probe(0.3)]


@dataclass
class _Added:
    info: ClassVar[MethodInfo] = MethodInfo("added", "Added")

    plain: Ratio = 0.1
    own: Annotated[Ratio, Field(description="share each memory keeps"), Probe(0.5)] = 0.2


def test_what_a_method_adds_to_a_shared_type_wins_and_the_range_stays() -> None:
    added = cast("type[Method]", _Added)
    as_shared, own = hyper_parameters(added)
    assert (as_shared.description, as_shared.probe) == ("share kept", Probe(0.3))
    assert (own.description, own.probe, own.default) == ("share each memory keeps", Probe(0.5), 0.2)
    with pytest.raises(SpecError, match="'own'"):
        resolve(added, {"own": 1.5})


@dataclass
class _Grown(_Fields):
    rule: Annotated[Literal["mean", "max"], Field(description="new"), AddedLater()] = "mean"
    window: Annotated[tuple[int, ...], AddedLater] = (3, 3)


GROWN = cast("type[Method]", _Grown)


def test_what_was_added_later_is_left_out_of_a_run_at_its_default_alone() -> None:
    before = plain(resolve(FIELDS))
    assert plain(identifying(GROWN, resolve(GROWN))) == before
    assert identifying(GROWN, resolve(GROWN, {"rule": "mean", "window": [3, 3]})) == identifying(GROWN, resolve(GROWN))
    assert plain(identifying(GROWN, resolve(GROWN, {"rule": "max"}))) == before | {"rule": "max"}
    assert identifying(GROWN, resolve(GROWN, {"ratio": 0.1})).keys() >= {"ratio"}, "others stay at their default"


def test_what_a_run_leaves_out_counts_as_its_default() -> None:
    kept = plain(identifying(GROWN, resolve(GROWN, {"window": [5]})))
    assert completed(GROWN, kept) == plain(resolve(GROWN, {"window": [5]}))
