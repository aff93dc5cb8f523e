"""Plans and states: what is done, runs, failed, waits, cannot be; and how long it takes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ltbench.console.sweeps import duration
from ltbench.contract.registry import method_class
from ltbench.executors.cells import Cell, Settings
from ltbench.records.record import RECORD
from ltbench.runs.claims import FOLDER as CLAIMS
from ltbench.runs.claims import try_claim
from ltbench.sweeps.grid import Request
from ltbench.sweeps.plan import PlannedCell, make_plan
from ltbench.sweeps.request import share_of
from ltbench.sweeps.status import Status
from ltbench.sweeps.sweep import FOLDER, read_manifests, write_manifest
from ltbench.sweeps.timings import Timings
from tests.conftest import MakeRecord
from tests.sweeps.conftest import Home


def _json(home: Home, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(home.run(*arguments, "--json")[1])
    return found


def test_a_plan_tells_each_state_and_the_time(home: Home) -> None:
    grid = ("-m", "counted,needy", "-s", "parts_full,parts_step2", "--seeds", "0-1")
    plan = _json(home, "plan", *grid)
    assert plan["counts"]["waiting"] == 6
    assert plan["counts"]["not applicable"] == 2
    (reason,) = {cell["reason"] for cell in plan["cells"] if cell["state"] == "not applicable"}
    assert reason == "Needy needs at least 5 training images a category; parts_step2 has 4 of nut"
    assert plan["estimate"] == {"to_run": 6, "seconds": None, "unknown": 6}
    assert not home.results.exists(), "a plan writes nothing"
    assert home.run("sweep", "-m", "counted", "-s", "parts_full")[0] == 0
    plan = _json(home, "plan", *grid, "--workers", 2)
    assert plan["counts"]["done"] == 1
    assert plan["estimate"]["unknown"] == 2
    seconds = sum(cell["seconds"] for cell in plan["cells"] if cell["state"] == "waiting" and cell["seconds"])
    assert plan["estimate"]["seconds"] == pytest.approx(seconds / 2)
    assert "not applicable" in home.run("plan", *grid)[1]


def test_data_that_is_not_there_blocks_its_cells_alone(home: Home) -> None:
    grid = ("-m", "counted", "-s", "parts_full,mvtec_step100,dagm_exp100")
    plan = _json(home, "plan", *grid)
    states = {Path(cell["split"]).stem: (cell["state"], cell["reason"]) for cell in plan["cells"]}
    assert states["parts_full"] == ("waiting", "")
    assert all(states[name][0] == "blocked" for name in ("mvtec_step100", "dagm_exp100"))
    assert "MVTec AD" in states["mvtec_step100"][1]
    code, _, err = home.run("sweep", *grid)
    assert code == 1
    assert "1 done, 2 blocked" in err


def test_a_run_that_does_not_fit_in_memory_is_told_before_it_starts(parts: Path, tmp_path: Path) -> None:
    def plan(limit: str | None) -> PlannedCell:
        settings = Settings(tmp_path, parts, memory_limit=limit)
        (planned,) = make_plan([Request("patchcore", "parts_full", "offline")], settings).cells
        return planned

    assert plan(None).state == "waiting"
    assert plan(share_of("1TB", 4)).state == "waiting"
    refused = plan(share_of("800MB", 2))
    assert refused.state == "blocked"
    assert "Pass --memory-limit" in refused.reason
    assert share_of("8GB", 4) == "2000000000"
    assert share_of(None, 4) is None


def test_features_are_shared_by_backbone_data_and_geometry(parts: Path, tmp_path: Path) -> None:
    def features(method: str, split: str = "parts_full", cache: str = "1GB", **options: Any) -> tuple[str, ...]:
        settings = Settings(tmp_path, parts, cache_size=cache)
        (planned,) = make_plan([Request(method, split, "offline", **options)], settings).cells
        return planned.cell.shares

    shared = features("patchcore")
    assert shared
    assert shared == features("softpatch", "parts_step2", seed=4, parameters={"coreset_ratio": 0.5})
    assert shared != features("patchcore", protocol="ltad")
    assert shared != features("patchcore", parameters={"layers": [2]})
    assert features("mean_image") == features("patchcore", cache="0") == ()


def test_a_method_may_declare_training_that_runs_share(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_class("mean_image"), "shared_training", ("smoothing_sigma",), raising=False)

    def shares(split: str = "parts_full", seed: int = 0, **parameters: Any) -> tuple[str, ...]:
        request = Request("mean_image", split, parameters=parameters, seed=seed)
        (planned,) = make_plan([request], Settings(tmp_path, parts)).cells
        return planned.cell.shares

    assert len(shares()) == 1
    assert shares() == shares(smoothing_sigma=4.0)
    others = [shares(smoothing_sigma=5.0), shares("parts_step2"), shares(seed=1)]
    assert len({shares(), *others}) == 4


def test_ltad_and_its_variants_wait_for_their_first_phase(parts: Path, tmp_path: Path) -> None:
    def shares(method: str, **parameters: Any) -> set[str]:
        request = Request(method, "parts_full", "check", parameters)
        (planned,) = make_plan([request], Settings(tmp_path, parts)).cells
        return set(planned.cell.shares)

    assert len(shares("ltad") & shares("ltad_labelfree") & shares("ltad", epochs=9)) == 2, "features and training"
    assert len(shares("ltad") & shares("ltad", kl_weight=2.0)) == 1


def test_estimates_scale_with_the_images(make_record: MakeRecord) -> None:
    timings = Timings()
    assert timings.estimate("m", "defaults", "common", 3, 1) is None
    timings.add(make_record())  # 3 training images and 1 test image; fitted in 1 s
    assert timings.estimate("m", "defaults", "common", 6, 1) == pytest.approx(2)
    assert timings.estimate("m", "other", "common", 6, 1) is None


def test_status_follows_claims_records_and_failures(tmp_path: Path, make_record: MakeRecord) -> None:
    cells = [Cell(f"{number:016x}", "m", "parts_full", seed=number, seconds=100.0) for number in range(3)]
    write_manifest(tmp_path, cells)
    write_manifest(tmp_path, cells[:2])
    assert {cell.run for cell in read_manifests(tmp_path)} == {cell.run for cell in cells}
    assert [cell.state for cell in Status(tmp_path).cells()] == ["waiting"] * 3
    told = {"method": "m", "split": "s", "seed": 1, "since": time.time() - 40}
    told["position"] = {"title": "fit: features", "done": 3, "total": 12, "since": time.time() - 30}
    mine, stranger = (try_claim(tmp_path, run, lambda: told) for run in (cells[1].run, "feed"))
    assert mine is not None
    assert stranger is not None
    status = Status(tmp_path)
    found = {cell.run: cell for cell in status.cells()}
    running = found[cells[1].run]
    assert running.state == "running"
    assert str(os.getpid()) in running.reason
    assert running.position is not None
    assert (running.position.done, running.position.total) == (3, 12)
    assert running.elapsed == pytest.approx(40, abs=5)
    assert running.left == pytest.approx(60, abs=5)
    assert found["feed"].title == "m on s, seed 1"
    mine.release()
    stranger.release()
    assert {cell.run: cell.state for cell in status.cells()} == dict.fromkeys((c.run for c in cells), "waiting")
    assert (tmp_path / CLAIMS).is_dir()


def test_status_tells_a_damaged_record(home: Home) -> None:
    assert home.run("sweep", "-m", "counted", "-s", "parts_full")[0] == 0
    assert _json(home, "status")["counts"] == {"done": 1}
    (path,) = (home.results / "runs").glob(f"*/{RECORD}")
    path.write_text(path.read_text()[:500])
    (cell,) = _json(home, "status")["cells"]
    assert cell["state"] == "waiting"
    assert str(path) in cell["reason"]
    assert "damaged" in home.run("status")[1]


def test_status_watches_until_the_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_NAP", "100")
    sweep = home.start("sweep", "-m", "counted", "-s", "parts_full", "--seeds", "0-1")
    while "fit: naps" not in (seen := home.run("status")[1]):
        assert sweep.poll() is None
    assert "running" in seen
    watch = home.start("status", "--watch")
    with pytest.raises(subprocess.TimeoutExpired):
        watch.wait(timeout=3)
    (home.folder / "awake").touch()
    out, _ = watch.communicate(timeout=60)
    assert watch.returncode == 0
    assert "2 done" in out
    assert sweep.communicate(timeout=60) is not None
    assert sweep.returncode == 0


def test_a_folder_without_a_sweep(home: Home) -> None:
    code, out, _ = home.run("status")
    assert code == 0
    assert "no sweep" in out
    (home.results / FOLDER).mkdir(parents=True)
    (home.results / FOLDER / "x.json").write_text("{")
    assert home.run("status")[0] == 0


@pytest.mark.parametrize(("seconds", "text"), [(0.44, "0.4 s"), (42, "42 s"), (700, "12 min"), (12000, "3 h 20 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
