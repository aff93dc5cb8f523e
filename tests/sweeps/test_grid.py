"""Grids: every combination once, in order; wrong keys, names and values are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, method_class, method_names
from ltbench.errors import DataError, LtbenchError, SpecError, UnknownNameError
from ltbench.splits.recipe import is_recipe_name, parse_name
from ltbench.sweeps.grid import (
    Request,
    choose,
    grid_names,
    parse_values,
    read_grid,
    requests,
    validate_grid,
)
from ltbench.sweeps.request import SweepRequest
from ltbench.sweeps.seeds import parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [3]), ("0-2", [0, 1, 2]), ("0-1,7", [0, 1, 7]), (4, [4]), ([1, "3-4"], [1, 3, 4])],
)
def test_seeds(text: object, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0-99999999", ["0-19999", 5], list(range(100_000))])
def test_seeds_are_counted_before_they_are_made(text: object) -> None:
    with pytest.raises(ValueError, match=r"at most 20,000 seeds, got (100,000,000|20,001|100,000)\."):
        parse_seeds(text)


def test_a_sweep_is_counted_before_it_is_made() -> None:
    grid: dict[str, object] = {"methods": "mean_image,patchcore", "splits": "mvtec_*", "seeds": "0-999"}
    grid |= {"parameters": {"smoothing_sigma": list(range(1000))}}
    with pytest.raises(
        SpecError, match=r"at most 20,000 runs, got [\d,]+, the last .*2 methods and presets x .* 1000 seeds"
    ):
        requests(validate_grid(grid, "the test"))


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1.5", True, str(2**32), "9" * 50])
def test_seeds_that_are_none(text: object) -> None:
    with pytest.raises(ValueError, match="0-4"):
        parse_seeds(text)


def test_values_of_hyper_parameters() -> None:
    assert parse_values(["a=0.1,0.01", "b=[2, 3],[3]", "c=x", "d='a,b'", "e=null,true"]) == {
        "a": [0.1, 0.01],
        "b": [[2, 3], [3]],
        "c": ["x"],
        "d": ["a,b"],
        "e": [None, True],
    }
    with pytest.raises(SpecError, match="key=value"):
        parse_values(["a"])


def _requests(**content: Any) -> list[Request]:
    return requests(validate_grid(content, "test"))


def test_a_grid_is_a_product() -> None:
    found = _requests(
        methods="mean_image,patchcore",
        splits=["parts_full", "parts_step2"],
        seeds="0-1",
        presets="offline",
        parameters={"smoothing_sigma": [2, 4]},
    )
    assert len(found) == len(set(map(repr, found))) == 16
    assert found[0] == Request("mean_image", "parts_full", "offline", {"smoothing_sigma": 2}, None, 0)
    assert found[-1] == Request("patchcore", "parts_step2", "offline", {"smoothing_sigma": 4}, None, 1)


def test_patterns_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _requests(methods="p*core", splits="mvtec_step*00")
    assert [request.split for request in found] == ["mvtec_step100", "mvtec_step200"]
    assert {request.method for request in found} == {"patchcore"}
    offline = _requests(methods="patchcore", splits="parts_full", presets="off*")
    assert [request.preset for request in offline] == ["offline"]
    (tmp_path / "lists").mkdir()
    for name in ("b", "a"):
        (tmp_path / "lists" / f"{name}.json").touch()
    monkeypatch.chdir(tmp_path)
    files = [str(tmp_path / "lists" / f"{name}.json") for name in ("a", "b")]
    assert [request.split for request in _requests(methods="patchcore", splits="lists/*.json")] == files
    assert [request.split for request in _requests(methods="patchcore", splits="lists/a.json")] == files[:1]


def test_parts_inherit_and_overlap_once() -> None:
    found = _requests(
        splits="parts_full",
        seeds="0-1",
        parameters={"smoothing_sigma": 2},
        parts=[
            {"methods": "mean_image"},
            {"methods": "mean_image", "parameters": {"smoothing_sigma": [2, 3]}},
            {"methods": "patchcore", "seeds": 7, "presets": "offline"},
        ],
    )
    assert [(r.method, r.seed, r.parameters["smoothing_sigma"]) for r in found] == [
        ("mean_image", 0, 2), ("mean_image", 1, 2), ("mean_image", 0, 3), ("mean_image", 1, 3), ("patchcore", 7, 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"method": "patchcore"}, UnknownNameError, "Did you mean 'methods'"),
        ({"parts": [{"split": "x"}]}, UnknownNameError, "Did you mean 'splits'"),
        ({"methods": "patchcore"}, SpecError, "--splits"),
        ({"splits": "parts_full"}, SpecError, "--methods"),
        ({"methods": "patchcore", "splits": "nothing_*"}, UnknownNameError, "pattern"),
        ({"methods": "z*", "splits": "parts_full"}, UnknownNameError, "pattern"),
        ({"methods": 3, "splits": "parts_full"}, SpecError, "methods"),
        ({"methods": "patchcore", "splits": "parts_full", "seeds": "x"}, SpecError, "0-4"),
        ({"parts": 3}, SpecError, "parts"),
    ],
)
def test_what_a_grid_cannot_be(content: dict[str, Any], error: type[LtbenchError], message: str) -> None:
    with pytest.raises(error, match=message):
        _requests(**content)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("methods: [mean_image]\nsplits: parts_full\nseeds: 0-2\nexecutor: print\n")
    assert len(requests(read_grid(str(path)))) == 3
    path.write_text("methods: [")
    with pytest.raises(SpecError, match=r"grid\.yaml"):
        read_grid(str(path))
    path.write_text("- methods")
    with pytest.raises(SpecError, match="keys and values"):
        read_grid(str(path))
    with pytest.raises(DataError, match=r"absent\.yaml"):
        read_grid(str(tmp_path / "absent.yaml"))
    with pytest.raises(UnknownNameError, match="Did you mean 'demo'"):
        read_grid("demoo")


def test_options_choose_from_a_grid() -> None:
    found = _requests(methods="mean_image,patchcore", splits="mvtec_step100,mvtec_exp100", seeds="0-2")
    chosen = choose(found, ["patch*"], ["*step*"], [1, 2])
    assert [(r.method, r.split, r.seed) for r in chosen] == [("patchcore", "mvtec_step100", s) for s in (1, 2)]
    with pytest.raises(SpecError, match="none that fit"):
        choose(found, ["softpatch"], [], [])
    assert len(SweepRequest(config="demo", methods="mean_image").requests()) == 3
    assert len(SweepRequest(config="demo", splits="shapes_exp50").requests()) == 4
    assert len(SweepRequest(config="demo").requests()) == 2 * 3 + 4
    with pytest.raises(SpecError, match="--config"):
        SweepRequest(config="demo", presets="offline").requests()


def test_the_options_of_executors_are_merged(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        "methods: mean_image\nsplits: parts_full\nexecutor: slurm\n"
        "options: {partition: cpu, methods: {mean_image: {time: 1h, memory: 2GB}}}\n"
    )
    request = SweepRequest(config=str(path))
    made = request.executor(None, 3, ["gpus=1", "methods.mean_image.time=2h"])
    values = made.model_dump()  # type: ignore[attr-defined]
    assert (values["partition"], values["gpus"], values["workers"]) == ("cpu", 1, 3)
    assert values["methods"]["mean_image"]["time"] == "2h"
    assert values["methods"]["mean_image"]["memory"] == "2GB"
    assert request.executor("local", None, []).model_dump() == {"workers": None}  # type: ignore[attr-defined]


def test_grids_ship() -> None:
    assert {"demo", "ltad-main", "ltad-reversed", "ltad-ablations", "tailedcore-main"} <= set(grid_names())


@pytest.mark.parametrize("name", grid_names())
def test_every_name_in_a_shipped_grid_resolves(name: str) -> None:
    grid = read_grid(name)
    assert grid.description
    for request in requests(grid):
        assert is_recipe_name(request.split) or "_official" in request.split
        method = method_class(request.method)
        chosen = choose_preset(method, request.preset, request.split)
        resolve(method, chosen.parameters, request.parameters)


def test_the_papers_tables_are_whole() -> None:
    main = {(r.split, r.seed) for r in requests(read_grid("tailedcore-main"))}
    assert {parse_name(split).dataset for split, _ in main} == {"mvtec", "visa"}
    assert set(method_names()) >= {r.method for r in requests(read_grid("tailedcore-main"))}
