"""An installed wheel does all that a clone does. `make test-wheel` builds it and installs it with all it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    "LTBENCH_TEST_WHEEL" not in os.environ, reason="builds and installs a wheel, for minutes: run `make test-wheel`"
)

Command = Callable[..., str]

LIST_ALL = """
import sys
from ltbench.contract.registry import method_class, method_names, presets
from ltbench.splits.catalogue import catalogue
from ltbench.splits.files import find_split

for name in method_names():
    assert "offline" in presets(method_class(name)), name
for recipe in catalogue("mvtec") + catalogue("visa"):
    assert find_split(recipe.name, lambda dataset: sys.exit(f"no file of {recipe.name}")).name == recipe.name
print(" ".join(method_names()), len(catalogue()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, built from the files that git knows."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    build = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(folder / "source")]
    subprocess.run(build, check=True, capture_output=True)
    (found,) = (folder / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def ltbench(wheel: Path, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A function that runs a command of the installed wheel in an empty folder and returns what it prints."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "environment", with_pip=True)
    programs = folder / "environment" / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", f"{wheel}[offline]"], check=True)
    (work := folder / "work").mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = kept | {"LTBENCH_DATA": str(parts), "LTBENCH_CACHE": str(folder / "cache")}

    def run(*arguments: str, program: str = "ltbench") -> str:
        command = [str(programs / program), *arguments]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return str(done.stdout)

    return run


def test_the_wheel_puts_one_package_into_site_packages(wheel: Path) -> None:
    with ZipFile(wheel) as content:
        tops = {name.split("/")[0] for name in content.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"ltbench"}


def test_the_wheel_has_every_file_that_the_suite_reads(wheel: Path) -> None:
    with ZipFile(wheel) as content:
        packed = set(content.namelist())
    wanted = {path for folder in ("methods", "splits", "results/published") for path in (ROOT / folder).rglob("*.*")}
    inside = {
        f"ltbench/shipped/{path.relative_to(ROOT).as_posix()}" for path in wanted if "__pycache__" not in path.parts
    }
    inside |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "ltbench").rglob("*.*") if "__pycache__" not in p.parts}
    assert inside - packed == {"ltbench/shipped/__init__.py"}, "which only a clone needs"


def test_every_method_and_split_is_there(ltbench: Command) -> None:
    printed = ltbench("-c", LIST_ALL, program="python")
    assert "ltad_labelfree" in printed and "tailedcore_oracle" in printed


def test_a_folder_called_methods_is_nobodys_but_its_owners(ltbench: Command, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").write_text("raise ImportError('not ours')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {LIST_ALL.strip()}"
    assert "patchcore" in ltbench("-c", code.replace("; import sys", "\nimport sys"), program="python")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "make-splits"),
        (["methods"], "tailedcore_oracle"),
        (["methods", "show", "ltad_labelfree"], "offline"),
        (["datasets"], "mvtec"),
        (["doctor"], "FAISS"),
        (["make-splits", "mvtec_step100", "--out", "made"], "mvtec_step100"),
        (["table", "--paper", "ltad-3", "--published", "below"], "LTAD"),
        (["table", "--paper", "tailedcore-1", "--format", "latex"], "TailedCore"),
        (["plan", "--config", "tailedcore-main", "--data-root", "."], "tailedcore"),
        (["plan", "--config", "ltad-main", "--data-root", "."], "ltad"),
        (["check", "mean_image"], "save load"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_commands_without_a_run(ltbench: Command, arguments: list[str], expected: str) -> None:
    assert expected in ltbench(*arguments)


def test_the_main_job(ltbench: Command) -> None:
    for method in ("mean_image", "patchcore"):
        ltbench("run", "--method", method, "--split", "parts_full", "--preset", "offline", "--save-maps")
    assert "PatchCore" in ltbench("table", "--dataset", "parts")
    ltbench("figure", "categories", "-s", "parts_full", "--out", "categories.pdf")
    ltbench("report", "--out", "site")
    ltbench("sweep", "--methods", "mean_image", "--splits", "parts_full", "--seeds", "0-1")
