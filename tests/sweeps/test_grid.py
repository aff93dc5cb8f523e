"""Grids: every combination once, in order; wrong keys, names and values are told."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ltbench.contract.parameters import resolve
from ltbench.contract.registry import choose_preset, method_class, method_names
from ltbench.errors import DataError, LtbenchError, SpecError, UnknownNameError
from ltbench.splits.recipe import is_recipe_name, parse_name
from ltbench.sweeps.changes import changed
from ltbench.sweeps.grid import (
    Request,
    grid_names,
    parse_values,
    read_grid,
    requests,
    validate_grid,
)
from ltbench.sweeps.request import SweepRequest
from ltbench.sweeps.seeds import parse_seeds
from ltbench.tables.layouts import layouts
from ltbench.tables.measurements import base_name
from ltbench.tables.paper import wanted_cells


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
    with pytest.raises(SpecError, match="-p a=VALUE,VALUE"):
        parse_values(["a=1", "b=2", "a=3"])


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


def test_a_bracket_of_digits_is_every_name_with_or_without_a_file() -> None:
    found = _requests(methods="patchcore", splits="mvtec_k4_noisy40_seed[1-3],mvtec_k[14]_seed[2]")
    assert [request.split for request in found] == [
        *(f"mvtec_k4_noisy40_seed{seed}" for seed in (1, 2, 3)), "mvtec_k1_seed2", "mvtec_k4_seed2",
    ]  # fmt: skip
    committed = _requests(methods="patchcore", splits="mvtec_k4*_seed[1-3]")
    assert [request.split for request in committed] == [f"mvtec_k4_noisy10_seed{seed}" for seed in (1, 2, 3)]


GRID = {
    "presets": "offline",
    "parts": [
        {"methods": "mean_image", "splits": "parts_full,parts_step2", "seeds": "0-1"},
        {"methods": "patchcore", "splits": "parts_exp2", "parameters": {"coreset_ratio": 0.5}},
    ],
}


def _changed(**options: str) -> list[tuple[str, str, int]]:
    found = changed(validate_grid(GRID, "test"), **options)
    assert all(request.preset == "offline" for request in found)
    assert all((request.parameters == {"coreset_ratio": 0.5}) == (request.method == "patchcore") for request in found)
    return [(request.method, request.split, request.seed) for request in found]


MEAN = [("mean_image", f"parts_{split}", seed) for split in ("full", "step2") for seed in (0, 1)]
CORE = [("patchcore", "parts_exp2", 0)]
PADIM = [("padim", f"parts_{split}", 0) for split in ("full", "step2", "exp2")]
K4 = [("mean_image", "parts_k4", 0), ("mean_image", "parts_k4", 1), ("patchcore", "parts_k4", 0)]


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        ({}, MEAN + CORE),
        ({"methods": "patch*"}, CORE),
        ({"splits": "*step*", "seeds": "1"}, [("mean_image", "parts_step2", 1)]),
        ({"methods": "padim"}, PADIM),
        ({"methods": "+padim"}, MEAN + CORE + PADIM),
        ({"splits": "parts_k4"}, K4),
        ({"splits": "+parts_k4"}, MEAN + CORE + K4),
        ({"methods": "patchcore", "seeds": "7-8"}, [("patchcore", "parts_exp2", seed) for seed in (7, 8)]),
        ({"methods": "patchcore", "seeds": "+0-1"}, [("patchcore", "parts_exp2", seed) for seed in (0, 1)]),
        ({"methods": "patchcore", "splits": "parts_full"}, [("patchcore", "parts_full", 0)]),
        (
            {"methods": "mean_image,patchcore", "splits": "parts_exp2", "seeds": "0"},
            [*CORE, ("mean_image", "parts_exp2", 0)],
        ),
        (
            {"methods": "padim", "splits": "parts_exp2,parts_k[14]", "seeds": "3"},
            [("padim", f"parts_{split}", 3) for split in ("exp2", "k1", "k4")],
        ),
    ],
)
def test_options_replace_what_a_grid_has_or_add_to_it(
    options: dict[str, str], cells: list[tuple[str, str, int]]
) -> None:
    found = _changed(**options)
    assert found == cells
    assert len(set(found)) == len(found)


def test_options_beside_a_grid_that_are_none() -> None:
    for options in ({"methods": "z*"}, {"splits": "nothing_*"}):
        with pytest.raises(UnknownNameError, match="pattern"):
            _changed(**options)
    for option in ("methods", "splits"):
        with pytest.raises(SpecError, match=f"--{option}"):
            _changed(**{option: "+"})
    with pytest.raises(SpecError, match="20,000 runs, got 50,000"):
        _changed(seeds="0-9999")
    with pytest.raises(SpecError, match="20,000 splits, got 1,000,000"):
        _changed(splits="parts_k" + "[0-9]" * 6)
    for text in ("+", "x", "+x"):
        with pytest.raises(SpecError, match="0-4"):
            _changed(seeds=text)


def test_options_change_a_grid_that_ships() -> None:
    assert len(SweepRequest(config="demo", methods="mean_image").requests()) == 3
    assert len(SweepRequest(config="demo", splits="shapes_exp50").requests()) == 4
    assert len(SweepRequest(config="demo").requests()) == 2 * 3 + 4
    added = SweepRequest(config="demo", methods="+padim", splits="+shapes_k4", seeds="0-2").requests()
    assert len(added) == 3 * ((2 * 3 + 4) + 4 + 7)
    assert {request.preset for request in added} == {"offline"}
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
    with pytest.raises(SpecError, match=r"gpus once, got it twice\. Leave one -x gpus="):
        request.executor(None, None, ["gpus=1", "gpus=2"])
    with pytest.raises(SpecError, match=r"Expected -x key=value.*-x memory=4GB"):
        request.executor(None, None, ["gpus"])
    assert request.executor("local", None, []).model_dump() == {"workers": None}  # type: ignore[attr-defined]


def test_grids_ship() -> None:
    assert set(grid_names()) == {
        "calibration", "card", "demo", "ltad-ablations", "ltad-dagm50", "ltad-figure2", "ltad-main", "ltad-reversed",
        "ltad-spread", "own", "tailedcore-main", "tailedcore-noise", "tailedcore-official", "today",
    }  # fmt: skip


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


def test_the_card_is_eight_methods_clean_and_noisy() -> None:
    found = requests(read_grid("card"))
    assert len(found) == 8 * 3 * 2
    recipes = [parse_name(request.split) for request in found]
    assert {(str(recipe.profile), recipe.noise_percent) for recipe in recipes} == {
        (profile, noise) for profile in ("step100", "exp100", "k4") for noise in (0, 10)
    }


def test_the_noise_grid_is_every_share_of_the_logs() -> None:
    found = requests(read_grid("tailedcore-noise"))
    recipes = {(str(r.profile), r.noise_percent, r.seed) for r in (parse_name(request.split) for request in found)}
    assert recipes == set(product(("pareto", "k4", "k1"), (0, 5, 10, 40), range(1, 6)))
    assert len(found) == 60 * 4


def test_ltads_numbers_have_lists_and_seeds_to_spread_over() -> None:
    found = requests(read_grid("ltad-spread"))
    of_one = {(r.split, r.seed) for r in found if (r.method, r.preset) == ("ltad", None)}
    assert of_one == set(product(parts_of("mvtec", ("exp100", "exp200", "step100", "step200")), range(3)))


def parts_of(dataset: str, profiles: tuple[str, ...]) -> list[str]:
    """Return the names of three lists of each profile."""
    return [f"{dataset}_{profile}{seed}" for profile in profiles for seed in ("", "_seed1", "_seed2")]


@pytest.mark.parametrize("name", ["calibration", "tailedcore-official", "tailedcore-noise", "ltad-main"])
def test_what_a_grid_runs_stands_beside_published_numbers(name: str) -> None:
    """Each run is the setting of a row, on a split of a column, of some layout; RLR's numbers are not known."""
    wanted = set().union(*(wanted_cells(layout) for layout in layouts().values()))
    for request in requests(read_grid(name)):
        if request.method not in ("rlr", "ltad_labelfree"):  # the latter is ltbench's own
            assert (request.method, base_name(request.split)) in wanted, request
