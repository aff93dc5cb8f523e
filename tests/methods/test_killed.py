"""A process is killed (-9) on its way; what the training that goes on predicts is what an undisturbed one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.methods.killed import killed_on_the_way, predicted


@pytest.mark.parametrize(
    ("name", "values", "file"),
    [
        ("cutpaste", {"weights": "random", "updates": 12}, "train.safetensors"),
        ("draem", {"iterations": 12}, "train.safetensors"),
        ("mkd", {"weights": "random", "iterations": 30}, "train.safetensors"),
        ("regad", {"weights": "random", "epochs": 12}, "train.safetensors"),
        ("regad", {"weights": "random", "epochs": 12, "training": "leave_one_out"}, "train_1.safetensors"),
    ],
)
def test_kill_and_go_on(name: str, values: dict[str, Any], file: str, tmp_path: Path) -> None:
    killed_on_the_way(name, values, tmp_path, file)
    assert (tmp_path / file).is_file()
    found, wanted = predicted(name, values, tmp_path), predicted(name, values, None)
    assert np.array_equal(found.scores, wanted.scores)
    assert found.has_maps == wanted.has_maps
    if wanted.has_maps:
        assert np.array_equal(found.maps, wanted.maps)
