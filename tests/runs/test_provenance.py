"""A finished run is found only while its images, masks, weights and code are what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ltbench.errors import SpecError
from ltbench.runs import provenance
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name

MASK = "bolt/ground_truth/spot/000_mask.png"


@pytest.mark.parametrize("path", ["bolt/test/good/000.png", "nut/train/good/001.png", MASK])
def test_a_changed_file_is_told_and_force_repeats(parts: Path, tmp_path: Path, path: str) -> None:
    shutil.copytree(parts / "parts", tmp_path / "parts")
    harness = Harness(tmp_path / "results")
    run_by_name("mean_image", "parts_full", tmp_path, harness)
    assert run_by_name("mean_image", "parts_full", tmp_path, harness).reused
    with (tmp_path / "parts" / path).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SpecError, match=f"1 images or masks changed, {path} first since. --force"):
        run_by_name("mean_image", "parts_full", tmp_path, harness)
    harness.force = True
    assert not run_by_name("mean_image", "parts_full", tmp_path, harness).reused


def test_changed_code_is_told(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_by_name("mean_image", "parts_full", parts, Harness(tmp_path))
    monkeypatch.setattr(provenance, "source_digest", lambda _: "other")
    with pytest.raises(SpecError, match="the method's code changed"):
        run_by_name("mean_image", "parts_full", parts, Harness(tmp_path))
