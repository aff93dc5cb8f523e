"""Every command with hostile values: it ends with 0, 1 or 2, without a traceback, and leaves nothing half-written.

The commands and their options are read from the command line itself, so that a new one is tried too. The sample is
drawn with a fixed seed. `LTBENCH_HOSTILE_CALLS=200 LTBENCH_HOSTILE_SEED=7 pytest tests/test_hostile_calls.py` looks
further.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import traceback
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from ltbench.cli import main
from ltbench.cli.app import app
from ltbench.records.failures import Failure, write_failure
from ltbench.records.record import RunRecord, new_folder, run_folder, write_record
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name

STEERING = "\x1b[31m\u202e\x07\n\udcff</script>{{x}}$x$"

CALLS = int(os.environ.get("LTBENCH_HOSTILE_CALLS", "7"))
"""Calls of each command."""

SEED = int(os.environ.get("LTBENCH_HOSTILE_SEED", "0"))

TEXTS = (
    *("", " ", "x", "-", "--", "=", "[", "*", "?", "%s%n", "'", "null", "~", "\n", "\x07", "\x1b[31mred", "\u202egnp"),
    *("\udcff", "漢字", "é" * 300, "x" * 70_000, "../..", "a/b", "a.json", "*/*.json", "a,b,,c", "k=v", "=v", "k="),
    *("nan", "inf", "-inf", "1e999", "-1", "0", "1.5", "9" * 24, "0-99999999", "5-1", "2001-13-45", "1" * 5000),
    *(
        "{a: 1, a: 2}",
        "&a [*a]",
        "[" * 3000,
        "!!python/object/apply:os.system [id]",
        "a: b: c",
        "cpu",
        "cuda:9",
        "cuda:x",
    ),
    *("mean_image", "parts_full", "parts_step2_noisy10", "parts", "image_auroc", "common", "offline", "bolt", "avg"),
    *("parts_k99999999999", "parts_exp1e9", "parts_step2_seed99999999999", "20GB", "-5GB", "1e400GB", "cuda:x"),
)
KEYS = (
    *("smoothing_sigma=", "smoothing_sigma=nan", "smoothing_sigma=[1]", "smoothing_sigma=1e999", "\udcff=1"),
    *("smoothing_sigma={a: 1, a: 2}", "smoothing_sigma=2001-13-45", "smoothing_sigma=&a [*a]", "smoothing_sigma=\x1b"),
    *("smoothing_sigma=" + "[" * 3000, "smoothing_sigma=" + "1" * 5000, "weights=/dev/zero"),
    *("command=\x1b", "command=1", "command=[1]"),
)
PATHS = (
    *("text.txt", "text.safetensors", "empty.json", "deep.json", "deep.yaml", "twice.yaml", "seeds.yaml", "latin.csv"),
    *("folder.json", "folder.csv", "folder.svg", "loop", "loop/a.svg", "bytes\udcff", "bytes\udcff/a.svg", "full.svg"),
    *("full.csv", "text.txt/child", "text.txt/child.csv", "absent", "absent.json", "absent.yaml", "x" * 300 + ".svg"),
    *("y" * 5000 + ".json", "a/" * 3000 + "a.csv", "\x1b[31m.svg", "\u202e.csv", "/dev/null", "/dev/zero"),
    *("/dev/full/x.svg", "/proc/self/mem", "/proc/nothing/x.csv", "results", "results/runs", "made/deep/er.svg"),
)
COMMANDS: dict[str, list[str]] = {
    "datasets verify": ["parts", "--data-root", "{data}"],
    "datasets get": ["visa", "--accept-licence", "--from", "text.txt"],
    "methods show": ["mean_image"],
    "make-splits": ["--folder", "{data}/parts", "--name", "parts", "--out", "made"],
    "run": ["-m", "mean_image", "-s", "parts_full", "--data-root", "{data}"],
    "plan": ["-m", "mean_image", "-s", "parts_full", "--data-root", "{data}"],
    "sweep": ["-m", "mean_image", "-s", "parts_full", "--data-root", "{data}", "--executor", "print"],
    "runs show": ["{run}"],
    "runs diff": ["{run}", "{run}"],
    "runs rm": ["{run}", "--yes"],
    "runs export": ["--out", "out.csv"],
    "runs unlock": ["{run}"],
    "figure profiles": ["-s", "parts_full", "--data-root", "{data}", "--out", "out.svg"],
    "figure categories": ["--out", "out.svg"],
    "figure imbalance": ["--out", "out.svg"],
    "figure noise": ["--out", "out.svg"],
    "figure learning": ["--out", "out.svg"],
    "figure curves": ["--out", "out.svg"],
    "figure ranks": ["--out", "out.svg"],
    "figure tailsampler": ["--run", "{run}", "--out", "out.svg"],
    "heatmaps": ["--run", "{run}", "--data-root", "{data}", "--out", "maps"],
    "report": ["--out", "site", "--no-heatmaps"],
    "inspect": ["--run", "{run}"],
    "evaluate": ["-s", "parts_full", "-m", "x", "--predictions", "results", "--data-root", "{data}"],
    "check": ["no_such_method"],
}
"""What makes a command do something; hostile values are added, and come last where an option counts once."""

NOT_TRIED = ("--help", "--install-completion", "--show-completion", "--version")


@pytest.fixture(scope="module")
def world(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, and with files that are not what their names say."""
    folder = tmp_path_factory.mktemp("world")
    results = folder / "results"
    harness = Harness(results, save_maps=True)
    for sigma in (1, 2):
        done = run_by_name("mean_image", "parts_full", parts, harness, parameters={"smoothing_sigma": sigma})
    with new_folder(run_folder(results, (hostile := _hostile_record(done.record)).spec)) as run:
        write_record(run, hostile)
    spec = {"method": STEERING, "split": "parts_full"}
    write_failure(results, Failure("f" * 16, spec, f"a {STEERING} reason"))
    (results / "runs" / ("d" * 16)).mkdir()
    (results / "runs" / ("d" * 16) / "record.json").write_text("{")
    for file in (f"runs/{'c' * 16}/record.json", f"failures/{'b' * 16}.json", "sweeps/deep.json"):
        (results / file).parent.mkdir(parents=True, exist_ok=True)
        (results / file).write_text("[" * 100_000)
    (folder / "text.txt").write_text("this is text, no tensor, no zip, no split\n" * 9)
    (folder / "text.safetensors").write_text("this is text, no tensor\n" * 9)
    (folder / "empty.json").touch()
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "deep.yaml").write_text("[" * 5_000)
    (folder / "twice.yaml").write_text("methods: a\nmethods: b\nsplits: c\n")
    (folder / "seeds.yaml").write_text("methods: mean_image\nsplits: parts_full\nseeds: 0-99999\n")
    (folder / "latin.csv").write_bytes(b"role,path\ntrain,\xff\xfe\n")
    (folder / "folder.json").mkdir()
    (folder / "folder.csv").mkdir()
    (folder / "folder.svg").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "bytes\udcff").mkdir()
    (folder / "full.svg").symlink_to("/dev/full")
    (folder / "full.csv").symlink_to("/dev/full")
    return folder


def _hostile_record(record: RunRecord) -> RunRecord:
    """Return a record with names and titles that no method of ours has."""
    return replace(
        record,
        spec=replace(record.spec, method="evil", split=f"parts_full{STEERING}", parameters={STEERING: STEERING}),
        method=replace(record.method, name="evil", title=f"=1+1[{STEERING}", paper=STEERING),
        preset=STEERING,
        missing={"pixel_auroc": {"avg": STEERING}},
        environment={STEERING: STEERING},
    )


def _commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command below one, with its name."""
    below = getattr(command, "commands", {})
    if not below or command.invoke_without_command:
        yield name, command
    for own, inner in below.items():
        yield from _commands(inner, f"{name} {own}".strip())


ALL = dict(_commands(typer.main.get_command(app)))


def test_every_command_is_tried() -> None:
    assert len(ALL) > 25
    assert set(COMMANDS) <= set(ALL), "what has a base here is there"


def _hostile(rng: random.Random, parameter: Any) -> list[str]:
    """Return hostile arguments for an option or argument."""
    option = [max(parameter.opts, key=len)] if parameter.param_type_name == "option" else []
    if getattr(parameter, "is_flag", False):
        return option
    pools = [TEXTS, PATHS]
    if option and option[0] in ("--parameter", "--option"):
        pools = [KEYS, TEXTS]
    if option and option[0] == "--executor":
        pools = [("print", *TEXTS)]
    return [*option, rng.choice(rng.choice(pools))]


def _arguments(rng: random.Random, name: str, world: Path, data: Path, run: str) -> list[str]:
    command = ALL[name]
    tried = [own for own in command.params if max(own.opts, key=len) not in NOT_TRIED]
    base = [text.format(data=data, run=run) for text in COMMANDS.get(name, [])]
    if base and not base[0].startswith("-") and rng.random() < 0.4:
        base[0] = rng.choice((*TEXTS, *PATHS))
    chosen = rng.sample(tried, min(len(tried), rng.choice((1, 1, 2, 3))))
    positional = [own for own in chosen if own.param_type_name == "argument"]
    options = [own for own in chosen if own.param_type_name == "option"]
    given = [text for own in options for text in _hostile(rng, own)]
    if not base:
        given += [text for own in positional for text in _hostile(rng, own)]
    return [*name.split(), *base, *given]


@pytest.mark.parametrize("name", list(ALL))
def test_hostile_calls(name: str, world: Path, parts: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    rng = random.Random(f"{SEED} {name}")
    run = sorted(path.name for path in (world / "results" / "runs").iterdir() if path.name[:2] not in ("cc", "dd"))[0]
    for number in range(CALLS):
        here = tmp_path / str(number) / "a" / "b"
        here.parent.mkdir(parents=True)
        shutil.copytree(world, here, symlinks=True, copy_function=partial(os.link, follow_symlinks=False))
        monkeypatch.chdir(here)
        arguments = _arguments(rng, name, world, parts, run)
        shown = [text if len(text) < 100 else f"{text[:40]}...({len(text)})" for text in arguments]
        code, out, err = _call(arguments, capsys, monkeypatch)
        assert code in (0, 1, 2), (shown, code, out[-2000:], err[-4000:])
        assert "Traceback" not in err, (shown, err)
        assert all(map(_is_shown, (out + err).splitlines())), (shown, out, err)
        assert len(err) < 30_000, (shown, err[:3000])
        if "--json" in arguments and out:
            json.loads(out)
        assert _half_written(here, world) == [], shown
        shutil.rmtree(tmp_path / str(number))


def _call(arguments: list[str], capsys: Any, monkeypatch: Any) -> tuple[object, str, str]:
    """Return exit code, standard output and standard error of a call; a traceback is a code of its own."""
    monkeypatch.setattr(sys, "argv", ["ltbench", *arguments])
    code: object = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:  # noqa: BLE001 - what a user would see as a traceback
        code = traceback.format_exc()[-3000:]
    out, err = capsys.readouterr()
    return code, out, err


def _is_shown(line: str) -> bool:
    return all(c.isprintable() or unicodedata.category(c) == "Zs" for c in line)


def _half_written(here: Path, world: Path) -> list[str]:
    """Return the files that a call left and that are temporary, empty, or no JSON where their name says so."""
    before = {str(path.relative_to(world)) for path in world.rglob("*")}
    found = []
    for path in here.rglob("*"):
        if (name := str(path.relative_to(here))) in before or path.is_dir():
            continue
        if re.match(r"\.[0-9a-f]{32}|.*\.(tmp|partial)$", path.name) or path.stat().st_size == 0:
            found.append(name)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".svg" and not path.read_text().rstrip().endswith("</svg>"):
            found.append(name)
    return found
