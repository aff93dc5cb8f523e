"""The training loop: schedule, gradients, random numbers, interruption by a kill, and errors that say where."""

from __future__ import annotations

import io
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from ltbench.blocks.training.checkpoints import read_checkpoint, write_checkpoint
from ltbench.blocks.training.learner import Learner, Schedule, Shard
from ltbench.blocks.training.loop import train
from ltbench.blocks.training.rates import Cosine
from ltbench.errors import DataError, LtbenchError
from ltbench.method import Method, Runtime
from ltbench.runs.progress import ConsoleProgress
from tests.blocks.training.training_run import BATCH, COUNT, EPOCHS, STEPS, learner, trained

SCRIPT = Path(__file__).with_name("training_run.py")


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_learning_rate_drops_as_in_uniads_code() -> None:
    schedule = Schedule(1000, 8, lr_step=800)
    assert [schedule.lr_factor(10 * epoch, 80) for epoch in (0, 800, 801, 999)] == [1, 1, 0.1, 0.1]
    assert Schedule(10, 8, lr_step=2, lr_gamma=0.5).lr_factor(5 * 10 + 9, 80) == 0.25
    assert Schedule(10, 8).lr_factor(99, 80) == 1


def test_a_training_on_a_cpu_takes_no_notice_of_half_precision() -> None:
    targets = torch.from_numpy(np.random.RandomState(0).normal(size=(4, 64, 256)).astype(np.float32))

    def weights() -> Tensor:
        network = nn.Linear(256, 256, bias=False)
        nn.init.eye_(network.weight)

        def loss(shard: Shard) -> Tensor:
            wanted = targets[torch.from_numpy(shard.indices)]
            return F.mse_loss(network(wanted.cos()), wanted)

        train(
            [Learner("square", network, loss, torch.optim.SGD(network.parameters(), 0.1))], 4, Schedule(2, 4), Runtime()
        )
        return network.weight.detach()

    expected = weights()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # bfloat16, where the processor has it
    try:
        assert torch.equal(weights(), expected)
    finally:
        torch.set_float32_matmul_precision(before)


class _Line(nn.Module):
    """y = w x, to be checked by hand."""

    def __init__(self, w: float = 1.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w]))
        self.unused = nn.Parameter(torch.tensor([5.0]))


def _line(targets: list[float], lr: float, clip_norm: float = 0.0, seen: list[list[int]] | None = None) -> Learner:
    """Return a learner of w with the mean squared distance to targets as its loss."""
    network = _Line()
    values = torch.tensor(targets)

    def loss(shard: Shard) -> Tensor:
        if seen is not None:
            seen.append(shard.indices.tolist())
        return (network.w - values[torch.from_numpy(shard.indices)]).square().mean()

    return Learner("line", network, loss, torch.optim.SGD(network.parameters(), lr), clip_norm)


def test_a_step_takes_the_gradient_of_the_whole_batch() -> None:
    """Five images are shards of 2, 2 and 1: each weighs by its images."""
    targets = [0.0, 1.0, 2.0, 3.0, 10.0]
    made, notes = _line(targets, 0.1), dict[str, dict[str, dict[str, list[float]]]]()
    train([made], 5, Schedule(1, 5), Runtime(notes=notes))
    mean_gradient = np.mean([2 * (1 - target) for target in targets])
    state = made.network.state_dict()
    assert state["w"].item() == pytest.approx(1 - 0.1 * mean_gradient, rel=1e-6)
    assert state["unused"].item() == 5, "what has no gradient stays"
    assert notes["losses"]["train"]["line"] == [pytest.approx(np.mean([(1 - target) ** 2 for target in targets]))]


def test_a_batch_in_one_shard_is_seen_whole() -> None:
    seen: list[list[int]] = []
    made = replace(_line([0.0, 1.0, 2.0, 3.0, 10.0], 0.1, seen=seen), shards="one")
    train([made], 5, Schedule(1, 3), Runtime())
    assert [len(batch) for batch in seen] == [3, 2]


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Let torch have this many threads during a test."""
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(usual)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
def test_coupled_shards_see_one_another_in_order(threads: int) -> None:
    """Seven images are four shards: each sees the values of all, and takes its turn behind those before it."""
    network = _Line()
    gathered: list[list[float]] = []
    turns: list[int] = []

    def loss(shard: Shard) -> Tensor:
        if shard.number == 0:
            time.sleep(0.05)  # the others come first, and wait
        with shard.turn():
            turns.append(shard.number)
        found = shard.gather(network.w * torch.from_numpy(shard.indices))
        again = shard.gather(torch.tensor([float(shard.number)]))
        assert not found.requires_grad and again.tolist() == [0, 1, 2, 3]
        gathered.append(found.tolist())
        return network.w.square().mean()

    made = Learner("line", network, loss, torch.optim.SGD(network.parameters(), 0.0), shards="coupled")
    notes: dict[str, Any] = {}
    train([made], 7, Schedule(2, 7), Runtime(notes=notes))
    assert turns == [0, 1, 2, 3] * 2
    for epoch in (gathered[:4], gathered[4:]):
        assert all(sorted(values) == list(range(7)) and values == epoch[0] for values in epoch)


def test_a_failing_shard_lets_the_others_go() -> None:
    network = _Line()

    def loss(shard: Shard) -> Tensor:
        if shard.number == 2:
            raise ValueError("the third shard")
        shard.gather(torch.zeros(1))
        return network.w.mean()

    made = Learner("line", network, loss, torch.optim.SGD(network.parameters(), 0.1), shards="coupled")
    with pytest.raises(ValueError, match="the third shard"):
        train([made], 8, Schedule(1, 8), Runtime())


def test_a_training_by_steps_drops_what_fills_no_step() -> None:
    """Ten images in steps of 4 are two steps an epoch; five steps are two epochs and a half."""
    seen: list[list[int]] = []
    ended: list[int] = []
    notes: dict[str, Any] = {}
    made = replace(_line([1.0] * 10, 0.0, seen=seen), shards="one")
    schedule = Schedule(0, 4, steps=5, drop_last=True)
    runtime = Runtime(notes=notes, after_epoch=lambda epoch, method: ended.append(epoch))
    train([made], 10, schedule, runtime, method=cast(Method, object()))
    assert [len(batch) for batch in seen] == [4] * 5 and ended == [1, 2, 3]
    assert len(set(seen[0] + seen[1])) == 8 and len(notes["losses"]["train"]["line"]) == 3
    assert Schedule(3, 16, drop_last=True).epoch_steps(5) == 1, "a short epoch is one step"


def test_an_interrupted_training_by_steps_goes_on(tmp_path: Path) -> None:
    """Two steps of a third epoch are left; the rate goes on where it was, and another rate is another training."""
    schedule = Schedule(0, 2, steps=8, rate=Cosine(warmup=2, final=0.1))
    whole = _line([3.0, 1.0, 2.0, 5.0, 1.0], 0.05)
    train([whole], 5, schedule, Runtime())
    stopped = _line([3.0, 1.0, 2.0, 5.0, 1.0], 0.05)

    def stop(epoch: int, method: Method) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runtime = Runtime(checkpoints=tmp_path, after_epoch=stop)
        train([stopped], 5, schedule, runtime, method=cast(Method, object()))
    with pytest.raises(DataError, match="another schedule"):
        train([_line([0.0] * 5, 0.05)], 5, replace(schedule, rate=Cosine(2)), Runtime(checkpoints=tmp_path))
    resumed = _line([3.0, 1.0, 2.0, 5.0, 1.0], 0.05)
    train([resumed], 5, schedule, Runtime(checkpoints=tmp_path))
    assert _equal(whole.network.state_dict(), resumed.network.state_dict())


def test_the_gradient_is_clipped() -> None:
    made = _line([100.0, 100.0], 1.0, clip_norm=0.25)
    train([made], 2, Schedule(1, 2), Runtime())
    assert made.network.state_dict()["w"].item() == pytest.approx(1.25, abs=1e-5)


def test_an_epoch_takes_every_image_once_in_an_order_of_its_own() -> None:
    seen: list[list[int]] = []
    train([_line([0.0] * 7, 0.0, seen=seen)], 7, Schedule(2, 4), Runtime(seed=3))
    flat = [index for indices in seen for index in sorted(indices)]
    assert sorted(flat[:7]) == sorted(flat[7:]) == list(range(7))
    again: list[list[int]] = []
    train([_line([0.0] * 7, 0.0, seen=again)], 7, Schedule(2, 4), Runtime(seed=3))
    assert sorted(map(sorted, seen)) == sorted(map(sorted, again))
    assert [sorted(indices) for indices in seen[:4]] != [sorted(indices) for indices in seen[4:]]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        weights = trained(Runtime(seed=5))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(usual)
    assert _equal(weights, _reference())


def _reference() -> dict[str, Tensor]:
    return trained(Runtime(seed=5))


def test_another_seed_gives_other_weights_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    assert not _equal(trained(Runtime(seed=6)), _reference())
    assert torch.equal(before, torch.get_rng_state())


class _StopError(Exception):
    pass


class _Interrupted(ConsoleProgress):
    """Raises after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__(quiet=True)
        self.left = steps

    def tell(self, text: str) -> None:
        """Count a step."""
        self.left -= 1
        if self.left < 0:
            raise _StopError


@pytest.mark.parametrize("steps", range(STEPS))
def test_every_step_can_be_the_last_before_an_interruption(tmp_path: Path, steps: int) -> None:
    wanted: dict[str, list[float]] = {}
    train([learner()], COUNT, Schedule(EPOCHS, BATCH, lr_step=1), Runtime(notes=wanted))
    plain, made, again = learner(), learner(), learner()
    train([plain], COUNT, Schedule(EPOCHS, BATCH, lr_step=1), Runtime())
    options = {"checkpoints": tmp_path, "checkpoint_minutes": 0.0}
    with pytest.raises(_StopError):
        train([made], COUNT, Schedule(EPOCHS, BATCH, lr_step=1), Runtime(progress=_Interrupted(steps), **options))  # type: ignore[arg-type]
    notes: dict[str, list[float]] = {}
    train([again], COUNT, Schedule(EPOCHS, BATCH, lr_step=1), Runtime(notes=notes, **options))  # type: ignore[arg-type]
    assert _equal(again.tensors(), plain.tensors())
    assert notes == wanted


def test_a_finished_phase_is_not_trained_again(tmp_path: Path) -> None:
    schedule, runtime = Schedule(2, 4), Runtime(checkpoints=tmp_path)
    first, second = learner(), learner(seed=9)
    train([first], COUNT, schedule, runtime, phase="one")
    train([second], COUNT, schedule, Runtime(checkpoints=tmp_path, progress=_Interrupted(0)), phase="one")
    assert _equal(second.tensors(), first.tensors())
    other = learner()
    train([other], COUNT, schedule, runtime, phase="two")
    assert not _equal(other.tensors(), first.tensors()), "phases draw different numbers"
    assert sorted(runtime.notes["losses"]) == ["one", "two"]


def test_kill_at_any_moment_and_run_again(tmp_path: Path) -> None:
    """Processes are killed (-9) at random moments, and started again, until one ends: the weights are the same bits."""
    rng = random.Random(0)
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    root = str(Path(__file__).resolve().parents[2])
    env = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "2"}
    file = tmp_path / "checkpoints" / "train.safetensors"
    kills = 0
    while kills < 4:
        before = file.stat().st_mtime_ns if file.exists() else None
        process = subprocess.Popen(command, env=env)
        while process.poll() is None and (not file.exists() or file.stat().st_mtime_ns == before):
            time.sleep(0.002)  # at least one new checkpoint, so that it gets on
        time.sleep(rng.uniform(0, 0.08))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 2, "killed at least twice on the way"
    subprocess.run(command, env=env, check=True)
    assert _equal(load_file(tmp_path / "result.safetensors"), trained(Runtime()))


def test_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "train.safetensors"
    for name in (f".{'0' * 32}.123", ".tmpQr0AWK"):  # ours, and the one that safetensors fills and renames
        (tmp_path / name).write_bytes(b"half")
    write_checkpoint(file, {"x": torch.ones(2)}, {"epoch": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["train.safetensors"]
    found = read_checkpoint(file)
    assert found is not None
    assert found[1] == {"epoch": 1}
    assert read_checkpoint(tmp_path / "none.safetensors") is None


def test_a_wrong_checkpoint_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    runtime = Runtime(checkpoints=tmp_path)
    train([_line([0.0] * 4, 0.1)], 4, Schedule(1, 2), runtime)
    with pytest.raises(DataError, match=r"another number of images.*Remove the file"):
        train([_line([0.0] * 6, 0.1)], 6, Schedule(1, 2), runtime)
    (tmp_path / "train.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="Remove the file"):
        train([_line([0.0] * 4, 0.1)], 4, Schedule(1, 2), runtime)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_says_where(bad: float) -> None:
    with pytest.raises(LtbenchError, match=r"got (nan|inf) in train of line, epoch 1 of 3, step 1 of 1"):
        train([_line([bad, 0.0], 0.1)], 2, Schedule(3, 2), Runtime())


class _Cliff(torch.autograd.Function):
    """Passes its input, and gives a gradient of nought over nought."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * float("nan")


@pytest.mark.parametrize("clip_norm", [0.0, 0.1])
def test_a_gradient_that_is_not_finite_leaves_the_last_weights(tmp_path: Path, clip_norm: float) -> None:
    network = nn.Linear(1, 1)
    steps = iter([False, True])

    def loss(shard: Shard) -> torch.Tensor:
        made: torch.Tensor = network(torch.ones(1, 1)).square().sum()
        return cast(torch.Tensor, _Cliff.apply(made)) if next(steps) else made

    learner = Learner("cliff", network, loss, torch.optim.Adam(network.parameters(), 0.1), clip_norm)
    with pytest.raises(LtbenchError, match=r"Expected a finite gradient, got nan in train of cliff, epoch 2 of 2"):
        train([learner], 2, Schedule(2, 2), Runtime(checkpoints=tmp_path))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters())


def test_seconds_are_counted_over_an_interruption(tmp_path: Path) -> None:
    schedule = Schedule(2, COUNT)
    with pytest.raises(_StopError):
        train([learner(pause=0.05)], COUNT, schedule, Runtime(progress=_Interrupted(1), checkpoints=tmp_path))
    progress = ConsoleProgress(quiet=True)
    train([learner()], COUNT, schedule, Runtime(progress=progress, checkpoints=tmp_path))
    assert progress.seconds["train"] > 0.05 * COUNT / 2 / (os.cpu_count() or 1)


@pytest.mark.parametrize(("other", "what"), [({"seed": 1}, "seed"), ({"epochs": 4}, "schedule")])
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, other: dict[str, int], what: str) -> None:
    train([learner()], COUNT, Schedule(1, BATCH), Runtime(checkpoints=tmp_path))
    runtime = Runtime(seed=other.get("seed", 0), checkpoints=tmp_path)
    with pytest.raises(DataError, match=f"another {what}"):
        train([learner()], COUNT, Schedule(other.get("epochs", 1), BATCH), runtime)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="limits of file sizes are Unix's")
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit of a file's size stands for the disk's."""
    file = tmp_path / "train.safetensors"
    write_checkpoint(file, {"weight": torch.zeros(2)}, {"step": 1})
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
    try:
        with pytest.raises(LtbenchError, match="Free room"):
            write_checkpoint(file, {"weight": torch.zeros(2000)}, {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, handler)
    found = read_checkpoint(file)
    assert found is not None
    assert found[1] == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_half_precision_trains_and_keeps_float32_weights() -> None:
    full, half = learner(), learner()
    notes: list[dict[str, dict[str, dict[str, list[float]]]]] = [{}, {}]
    train([full], COUNT, Schedule(2, BATCH), Runtime(notes=notes[0]))
    train([half], COUNT, Schedule(2, BATCH, precision="bfloat16"), Runtime(notes=notes[1]))
    assert all(tensor.dtype == torch.float32 for tensor in half.tensors().values())
    assert not _equal(full.tensors(), half.tensors())
    losses = [note["losses"]["train"]["only"][-1] for note in notes]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_after_each_epoch_the_method_is_shown() -> None:
    seen: list[int] = []

    class _Method:
        pass

    method: Method = _Method()  # type: ignore[assignment]

    def note(epoch: int, shown: Method) -> None:
        assert shown is method
        seen.append(epoch)

    train([learner()], COUNT, Schedule(2, BATCH), Runtime(after_epoch=note), method=method)
    train([learner()], COUNT, Schedule(2, BATCH), Runtime(after_epoch=note))
    assert seen == [1, 2]


def test_progress_says_epoch_and_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltbench.runs.progress.PLAIN_SECONDS", 0)
    out = io.StringIO()
    shown = ConsoleProgress(Console(file=out, width=200))
    train([learner()], COUNT, Schedule(2, BATCH), Runtime(progress=shown))
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("train: 5/6, ")
    assert "s left; epoch 2/2, loss " in last
    assert shown.seconds["train"] > 0
