"""What an earlier ltbench left on disk stays valid: records, run hashes, shared features, checkpoints.

`golden/rooms` was written by commit 6901674, before the modules moved into rooms and methods into families: runs on the
dataset `parts` of `conftest.py` (`runs`), UniAD stopped after its second checkpoint (`checkpoints`), phase 1 of LTAD as
runs share it (`features`), and the name of every file that these runs left in a feature store (`store.txt`).
It is not written anew: a number that moves is a failure, and what changes a run's identity has to say so here.
torch computed it with AVX2. On a processor where it takes other instructions, last digits differ.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ltbench.blocks.features.store import DiskFeatureStore
from ltbench.blocks.training import loop
from ltbench.blocks.training.checkpoints import write_checkpoint
from ltbench.datasets.index import load_dataset
from ltbench.records.record import RunRecord, read_record
from ltbench.runs.harness import Harness
from ltbench.runs.planning import Plan, plan
from ltbench.runs.progress import ConsoleProgress
from ltbench.runs.runner import Outcome, run
from ltbench.splits.files import find_split

PROCESSOR = "AVX2"
SAME_PROCESSOR = torch.backends.cpu.get_cpu_capability() == PROCESSOR
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "rooms"
RUNS = sorted(path.name for path in (GOLDEN / "runs").iterdir())


@pytest.fixture(autouse=True)
def _processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name features as on the processor of the golden files: the name is tested, and stored ones are found."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: PROCESSOR)


def _assert_same_scores(one: RunRecord, other: RunRecord) -> None:
    """Compare scores: to the last digit on one kind of processor, else to three."""
    assert one.scores.keys() == other.scores.keys()
    for category, scores in one.scores.items():
        values = [score["score"] for score in other.scores[category]]
        expected = values if SAME_PROCESSOR else pytest.approx(values, rel=1e-3)
        assert [score["score"] for score in scores] == expected
        assert [score["path"] for score in scores] == [score["path"] for score in other.scores[category]]
    for name, metrics in other.metrics.items():
        assert one.metrics[name] == pytest.approx(metrics, rel=0 if SAME_PROCESSOR else 1e-3)


def _planned(record: RunRecord, parts: Path) -> Plan:
    split = find_split("parts_full", lambda name: load_dataset(name, parts))
    preset = record.preset if record.preset != "defaults" else None
    spec = record.spec
    return plan(
        spec.method, split, preset=preset, parameters=spec.parameters, protocol=spec.protocol.name, seed=spec.seed
    )


def _run(planned: Plan, parts: Path, results: Path) -> Outcome:
    dataset = load_dataset("parts", parts)
    split = find_split("parts_full", lambda _: dataset)
    harness = Harness(
        results, device="cpu", feature_store=DiskFeatureStore(results / "store"), progress=ConsoleProgress(quiet=True)
    )
    return run(planned, split, dataset, harness)


def _files(store: Path) -> set[str]:
    return {path.relative_to(store).as_posix() for path in store.rglob("*.safetensors")}


@pytest.mark.parametrize("name", RUNS)
def test_a_record_is_found_as_it_is(name: str, parts: Path) -> None:
    record = read_record(GOLDEN / "runs" / name)
    assert record.spec.hash == name
    assert _planned(record, parts).spec == record.spec


def test_runs_are_found_and_not_repeated(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    for name in RUNS:
        assert _run(_planned(read_record(GOLDEN / "runs" / name), parts), parts, tmp_path).reused
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("method", ["patchcore", "ltad"])
def test_features_lie_under_the_same_names_and_give_the_same_scores(method: str, parts: Path, tmp_path: Path) -> None:
    before = _of(method)
    outcome = _run(_planned(before, parts), parts, tmp_path)
    made = _files(tmp_path / "store")
    assert made and made <= set((GOLDEN / "store.txt").read_text(encoding="ascii").split())
    _assert_same_scores(outcome.record, before)


def test_the_first_phase_of_ltad_is_taken_from_a_store_of_before(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "features", tmp_path / "store")
    before = _of("ltad")
    outcome = _run(_planned(before, parts), parts, tmp_path)
    assert "synthesis" not in outcome.record.seconds, "phase 1 was trained anew"
    _assert_same_scores(outcome.record, before)


def test_a_training_goes_on_from_a_checkpoint_of_before(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = next(record for record in _all("uniad") if record.preset == "check")
    shutil.copytree(GOLDEN / "checkpoints", tmp_path / "checkpoints")
    written: list[Path] = []

    def counted(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        written.append(file)
        write_checkpoint(file, tensors, facts)

    monkeypatch.setattr(loop, "write_checkpoint", counted)
    outcome = _run(_planned(before, parts), parts, tmp_path)
    assert len(written) == before.spec.parameters["epochs"] - 2, "two of the epochs were done before"
    _assert_same_scores(outcome.record, before)


def _all(method: str) -> list[RunRecord]:
    return [record for name in RUNS if (record := read_record(GOLDEN / "runs" / name)).spec.method == method]


def _of(method: str) -> RunRecord:
    return _all(method)[0]
