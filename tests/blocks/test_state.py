"""Names beside a method's arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ltbench.blocks.state import load_state, packed, save_state, unpacked
from ltbench.contract.registry import method_class


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["", "metal_nut"], b'["", "metal_nut"]'),
        (("käse", "ß"), b'["k\\u00e4se", "\\u00df"]'),
        ({"memories": [], "texts": ["a"]}, b'{"memories": [], "texts": ["a"]}'),
    ],
)
def test_names_are_packed_as_in_methods_that_are_saved_already(
    names: list[str] | dict[str, list[str]], written: bytes, tmp_path: Path
) -> None:
    assert packed(names).tobytes() == written
    method = method_class("mean_image")
    save_state(tmp_path, method(), {"names": packed(names)})
    _, arrays = load_state(method, tmp_path)
    assert arrays["names"].dtype == np.uint8
    assert unpacked(arrays["names"]) == (names if isinstance(names, dict) else list(names))
