"""Large packages are imported without the garbage collector, which works again afterwards."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltbench.importing import import_large


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "a_large_module.py"
    sys.modules.pop("a_large_module", None)
    gc.unfreeze()


def test_a_module_is_imported_without_the_collector_and_is_old_then(module: Path) -> None:
    module.write_text("import gc\ncollects = gc.isenabled()\nkept = [[] for _ in range(1000)]\n")
    imported = import_large("a_large_module")
    assert imported.collects is False and gc.isenabled()
    assert len(gc.get_objects(generation=0)) < 1000
    old = set(map(id, gc.get_objects(generation=2)))
    assert all(id(one) in old for one in imported.kept)
    assert imported.kept in gc.get_referrers(imported.kept[0]), "seen by whoever looks for references"
    assert import_large("a_large_module") is imported


def test_what_was_frozen_before_stays_so(module: Path) -> None:
    module.write_text("")
    gc.freeze()
    frozen = gc.get_freeze_count()
    import_large("a_large_module")
    assert gc.get_freeze_count() == frozen


def test_a_failed_import_leaves_the_collector_on(module: Path) -> None:
    module.write_text("import no_such_package_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        import_large("a_large_module")
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off(module: Path) -> None:
    module.write_text("")
    gc.disable()
    try:
        import_large("a_large_module")
        assert not gc.isenabled()
    finally:
        gc.enable()
