"""Bundles and merged results: what arrives is what was measured, and an edited digit is refused."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import zstandard

from ltbench.core import sha256_of
from ltbench.errors import DataError, SpecError
from ltbench.records.integrity import CHECKSUMS, checksums_of
from ltbench.records.record import RECORD, read_record
from ltbench.runs import bundles
from ltbench.runs.bundles import MANIFEST
from ltbench.runs.claims import try_claim
from ltbench.runs.exchange import import_bundle, merge_results, origin_of, write_bundle
from ltbench.runs.verification import runs_on_disk
from tests.conftest import Run

Contents = dict[str, bytes]


@pytest.fixture
def results(ltbench: Run, parts: Path) -> Path:
    """A results folder with two runs."""
    for seed in (0, 1):
        arguments = ("-m", "mean_image", "-s", "parts_full", "--seed", seed, "--data-root", parts)
        assert ltbench("run", *arguments, "--json")[0] == 0
    return Path("results")


def _read(bundle: Path) -> Contents:
    raw = zstandard.ZstdDecompressor().decompressobj().decompress(bundle.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]


def _write(bundle: Path, contents: Contents, *, resum: bool = True) -> None:
    """Write a bundle as somebody who knows its format would."""
    if resum:
        manifest = json.loads(contents[MANIFEST])
        manifest["files"] = {n: sha256_of(c.decode()) for n, c in contents.items() if n != MANIFEST}
        contents = {**contents, MANIFEST: json.dumps(manifest).encode()}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    bundle.write_bytes(zstandard.ZstdCompressor().compress(raw.getvalue()))


def test_a_bundle_arrives_whole(ltbench: Run, results: Path) -> None:
    code, out, err = ltbench("runs", "bundle", "--by", "A lab", "--dataset", "parts", "--out", "b.tar.zst", "--json")
    assert code == 0, err
    assert json.loads(out)["runs"] == runs_on_disk(results)
    code, out, _ = ltbench("runs", "import", "b.tar.zst", "--results", "theirs", "--json")
    assert code == 0
    assert json.loads(out)["added"] == runs_on_disk(results)
    for run in runs_on_disk(results):
        assert read_record(Path("theirs/runs") / run) == read_record(results / "runs" / run)
        origin = origin_of(Path("theirs"), run)
        assert origin is not None and origin.by == "A lab"
        assert origin_of(results, run) is None
    assert ltbench("runs", "verify", "--results", "theirs")[0] == 0
    code, out, _ = ltbench("runs", "import", "b.tar.zst", "--results", "theirs")
    assert (code, "0 runs added, 2 known already, measured by A lab" in out) == (0, True)


def _digit(record: dict[str, Any]) -> None:
    record["metrics"]["image_auroc"]["bolt"] = 0.123


def _score(record: dict[str, Any]) -> None:
    record["scores"]["bolt"][0]["score"] += 100.0


@pytest.mark.parametrize("change", [_digit, _score])
@pytest.mark.parametrize("checksums", [False, True], ids=["edited", "edited with checksums"])
def test_one_edited_digit_is_refused_and_nothing_is_written(
    results: Path, change: Callable[[dict[str, Any]], None], checksums: bool
) -> None:
    write_bundle(results, Path("b.tar.zst"), "A lab")
    contents = _read(Path("b.tar.zst"))
    name = next(name for name in contents if name.startswith("runs/"))
    record = json.loads(contents[name])
    change(record)
    if checksums:
        record[CHECKSUMS] = checksums_of(record)
    contents[name] = json.dumps(record).encode()
    _write(Path("c.tar.zst"), contents)
    with pytest.raises(DataError, match="edited or is damaged"):
        import_bundle(Path("c.tar.zst"), Path("theirs"))
    _write(Path("d.tar.zst"), contents, resum=False)
    with pytest.raises(DataError, match="other contents than it was packed with"):
        import_bundle(Path("d.tar.zst"), Path("theirs"))
    assert not Path("theirs").exists()


@pytest.mark.parametrize("name", ["runs/../../evil/record.json", "/runs/x", "runs/0123456789abcdef/maps.bin", "x.json"])
def test_entries_that_no_bundle_has_are_refused(results: Path, name: str) -> None:
    write_bundle(results, Path("b.tar.zst"), "A lab")
    _write(Path("c.tar.zst"), {**_read(Path("b.tar.zst")), name: b"{}"})
    with pytest.raises(DataError, match="which no bundle has"):
        import_bundle(Path("c.tar.zst"), Path("theirs"))
    assert not Path("theirs").exists()


def test_digests_that_are_not_those_of_their_name_are_refused(results: Path) -> None:
    write_bundle(results, Path("b.tar.zst"), "A lab")
    planted = f"digests/{'0' * 64}.json"
    _write(Path("c.tar.zst"), {**_read(Path("b.tar.zst")), planted: b"[1]"})
    with pytest.raises(DataError, match="not those of their name"):
        import_bundle(Path("c.tar.zst"), Path("theirs"))
    assert not Path("theirs").exists()
    (results / planted).write_text("[1]")
    merge_results(results, Path("merged"))
    assert not (Path("merged") / planted).exists()
    assert len(list(Path("merged/digests").iterdir())) == len(list(Path("results/digests").iterdir())) - 1


def test_a_bundle_beyond_what_memory_holds_is_refused(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(results, Path("b.tar.zst"), "A lab")
    monkeypatch.setattr(bundles, "LARGEST_BUNDLE", 1000)
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        import_bundle(Path("b.tar.zst"), Path("theirs"))


def test_a_run_that_another_process_does_is_waited_for(results: Path) -> None:
    run = runs_on_disk(results)[0]
    claim = try_claim(Path("theirs"), run)
    assert claim is not None
    (being_written := Path("theirs/runs") / f".{run}.x").mkdir(parents=True)

    def end() -> None:
        being_written.rename("kept")
        claim.release()

    timer = Timer(0.5, end)
    timer.start()
    assert run in merge_results(results, Path("theirs")).added
    timer.join()
    assert Path("kept").is_dir()


@pytest.mark.parametrize("content", [b"", b"no bundle", zstandard.ZstdCompressor().compress(b"no archive" * 100)])
def test_what_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.tar.zst").write_bytes(content)
    with pytest.raises(DataError, match="Expected a"):
        import_bundle(tmp_path / "b.tar.zst", tmp_path / "results")


def test_a_cut_bundle_is_refused(results: Path) -> None:
    write_bundle(results, Path("b.tar.zst"), "A lab")
    whole = Path("b.tar.zst").read_bytes()
    Path("c.tar.zst").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="Ask for it again"):
        import_bundle(Path("c.tar.zst"), Path("theirs"))


def test_other_numbers_stay_and_are_named(ltbench: Run, results: Path) -> None:
    write_bundle(results, Path("b.tar.zst"), "A lab")
    contents = _read(Path("b.tar.zst"))
    name = next(name for name in contents if name.startswith("runs/"))
    record = json.loads(contents[name])
    for own in record["scores"].values():  # a strictly increasing change leaves the metrics as they are
        for entry in own:
            entry["score"] *= 2
    record[CHECKSUMS] = checksums_of(record)
    _write(Path("c.tar.zst"), {**contents, name: json.dumps(record).encode()})
    before = read_record(results / "runs" / Path(name).parent.name)
    code, out, _ = ltbench("runs", "import", "c.tar.zst")
    assert code == 1
    assert f"run {before.spec.hash} is here with other numbers" in out
    assert read_record(results / "runs" / before.spec.hash) == before


def test_merging_results(ltbench: Run, results: Path, parts: Path) -> None:
    more = ("-m", "mean_image", "-s", "parts_step2", "--data-root", parts, "--results", "node2")
    assert ltbench("run", *more, "--save-maps", "--json")[0] == 0
    code, out, _ = ltbench("runs", "merge", "node2", "--json")
    (added,) = json.loads(out)["added"]
    assert code == 0
    assert (results / "runs" / added / "maps").is_dir()
    assert ltbench("runs", "merge", "node2", "--json")[0] == 0
    assert ltbench("runs", "verify", "--data-root", parts)[0] == 0


def test_what_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"\*\.tar\.zst"):
        write_bundle(results, Path("b.tar.gz"), "A lab")
    with pytest.raises(SpecError, match="--by"):
        write_bundle(results, Path("b.tar.zst"), "a\nb")
    with pytest.raises(SpecError, match="finished runs to bundle"):
        write_bundle(results, Path("b.tar.zst"), "A lab", ["visa"])
    with pytest.raises(SpecError, match="got the same"):
        merge_results(results, results.absolute())
    with pytest.raises(DataError, match="results folder with runs/"):
        merge_results(tmp_path / "nowhere", results)
    record = results / "runs" / runs_on_disk(results)[0] / RECORD
    record.write_text(record.read_text().replace('"preset": "', '"preset": "x', 1))
    with pytest.raises(DataError):
        write_bundle(results, Path("b.tar.zst"), "A lab")
    assert not Path("b.tar.zst").exists()
