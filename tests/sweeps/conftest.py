"""Methods of a package of its own, which worker processes find as they would a user's; and `ltbench` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLUGIN = '''
"""Methods for tests of sweeps."""
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from ltbench.method import MethodInfo
from methods.mean_image.method import MeanImage

HOME = Path(os.environ["SWEEP_HOME"])

def _note(name, seed):
    with open(HOME / "executions", "a") as file:
        file.write(f"{name} {seed}\\n")

def _nap(seconds):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (HOME / "awake").exists():
        time.sleep(min(left, 0.2))

@dataclass
class Counted(MeanImage):
    """Notes each time that it is fitted, and naps until the file `awake` is there."""
    info: ClassVar[MethodInfo] = MethodInfo("counted", "Counted")
    def fit(self, train, runtime):
        _note("counted", runtime.seed)
        for _ in runtime.progress.track(range(10), "naps"):
            _nap(float(os.environ.get("SWEEP_NAP", "0")) / 10)
        return super().fit(train, runtime)

@dataclass
class Fails(MeanImage):
    """Fails while the file `broken` is there."""
    info: ClassVar[MethodInfo] = MethodInfo("fails", "Fails")
    def fit(self, train, runtime):
        _note("fails", runtime.seed)
        if (HOME / "broken").exists():
            raise ZeroDivisionError("the file is there")
        return super().fit(train, runtime)

@dataclass
class Dies(MeanImage):
    """Kills its process while the file `broken` is there."""
    info: ClassVar[MethodInfo] = MethodInfo("dies", "Dies")
    def fit(self, train, runtime):
        _note("dies", runtime.seed)
        if (HOME / "broken").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(train, runtime)

@dataclass
class Needy(MeanImage):
    """Needs five training images a category."""
    info: ClassVar[MethodInfo] = MethodInfo("needy", "Needy", min_images=5)
'''


class Home:
    """A folder with methods for tests and a results folder, and the processes that work on it."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.results = folder, data, folder / "results"

    @property
    def executions(self) -> list[str]:
        """One line for each time that a method was fitted."""
        path = self.folder / "executions"
        return path.read_text().splitlines() if path.exists() else []

    def start(self, *arguments: object, results: Path | None = None) -> subprocess.Popen[str]:
        """Start `ltbench`."""
        command = [sys.executable, "-m", "ltbench.cli", *map(str, arguments), "--results", str(results or self.results)]
        command += ["--device", "cpu"] if arguments[0] in ("sweep", "run") else []  # "auto" would import torch
        return subprocess.Popen(
            command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def run(self, *arguments: object, results: Path | None = None) -> tuple[int, str, str]:
        """Run `ltbench` to its end: exit code, standard output and error."""
        process = self.start(*arguments, results=results)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err


@pytest.fixture
def home(tmp_path: Path, parts: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A folder with the methods `counted`, `fails`, `dies` and `needy`, and the dataset `parts`."""
    plugin = tmp_path / "plugin"
    package = plugin / "sweep_methods"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN)
    for name in ("counted", "fails", "dies", "needy"):
        (package / f"{name}.py").write_text(f"from sweep_methods import {name.title()} as METHOD\n")
    metadata = plugin / "sweep_methods-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sweep-methods\nVersion: 1.0\n")
    entries = "".join(f"{name} = sweep_methods.{name}\n" for name in ("counted", "fails", "dies", "needy"))
    (metadata / "entry_points.txt").write_text(f"[ltbench.methods]\n{entries}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(plugin)]))
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    monkeypatch.setenv("LTBENCH_DATA", str(parts))
    return Home(tmp_path, parts)
