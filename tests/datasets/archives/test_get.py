from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from ltbench.datasets import visa
from ltbench.datasets.archives import get as getting
from ltbench.datasets.archives.facts import Offer, offers
from ltbench.datasets.archives.get import get
from ltbench.datasets.index import SOURCES
from ltbench.errors import BusyError, DataError, FullDiskError, UnknownNameError
from tests.conftest import Run
from tests.datasets.archives.conftest import Page, Server, Told, describe

Offered = Callable[..., Offer]


@pytest.fixture
def archive(visa_release: Path) -> bytes:
    """A tar of a small VisA, below a folder as some archives have it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(visa_release, "release/VisA")
    return stream.getvalue()


@pytest.fixture
def offered(archive: bytes, server: Server, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Return a function that lets VisA lie at paths of the server; the first that is good is `/visa.tar`."""
    server.pages["/visa.tar"] = Page(archive)

    def offer(*paths: str) -> Offer:
        described = describe(archive, *map(server.url, paths), file="visa.tar")
        found = Offer(page="https://page.example/visa", archives=[described])
        monkeypatch.setattr(getting, "offers", lambda: {"visa": found})
        return found

    return offer


def test_every_offer_is_of_a_dataset_and_every_dataset_has_one() -> None:
    assert {name for name in SOURCES if name != "shapes"} <= set(offers())
    for name, offer in offers().items():
        assert offer.archives or offer.by_hand, name


def test_a_dataset_arrives_in_its_folder_and_nothing_is_left_beside(
    offered: Offered, told: Told, tmp_path: Path
) -> None:
    offered("/visa.tar")
    root = tmp_path / "new" / "data"
    got = get("visa", root, told)
    assert got.root == root / "visa"
    assert got.verification.missing == ()
    assert [entry.name for entry in root.iterdir()] == ["visa"]
    assert SOURCES["visa"].index(root / "visa").categories == visa.CATEGORIES
    assert [title for title, *_ in told.tasks] == ["visa.tar", "unpack visa.tar"]


def test_a_dataset_that_is_there_is_verified_alone(
    offered: Offered, server: Server, told: Told, visa_release: Path
) -> None:
    offered("/visa.tar")
    got = get("visa", visa_release.parent, told)
    assert (got.root, got.fetched, server.asked) == (visa_release, (), [])


def test_something_else_in_its_place_is_left_alone(offered: Offered, told: Told, tmp_path: Path) -> None:
    offered("/visa.tar")
    (tmp_path / "data/visa").mkdir(parents=True)
    (tmp_path / "data/visa/notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"Expected VisA or nothing in .*visa, got something else"):
        get("visa", tmp_path / "data", told)
    (tmp_path / "data/visa/notes.txt").unlink()
    assert get("visa", tmp_path / "data", told).root == tmp_path / "data/visa"


def test_a_dead_link_names_the_page_and_what_to_do_with_what_is_got_there(
    offered: Offered, archive: bytes, told: Told, tmp_path: Path
) -> None:
    offered("/gone.tar")
    root = tmp_path / "data"
    with pytest.raises(DataError, match=r"404.*https://page.example/visa.*get visa --root .* --from visa.tar"):
        get("visa", root, told)
    assert not root.exists(), "nothing is left"
    (own := tmp_path / "visa.tar").write_bytes(archive)
    assert get("visa", root, told, own=[own]).root == root / "visa"
    assert own.exists()


def test_an_archive_of_ones_own_is_told_by_its_hash(offered: Offered, told: Told, tmp_path: Path) -> None:
    offered("/visa.tar")
    (tmp_path / "other.tar").write_bytes(b"other")
    with pytest.raises(DataError, match=r"Expected visa.tar \(sha256 .*other.tar, got other bytes"):
        get("visa", tmp_path / "data", told, own=[tmp_path / "other.tar"])
    with pytest.raises(DataError, match=r"at .*absent.tar, got no such file. Mend --from"):
        get("visa", tmp_path / "data", told, own=[tmp_path / "absent.tar"])


def test_a_mirror_is_tried_first(offered: Offered, server: Server, told: Told, archive: bytes, tmp_path: Path) -> None:
    offered("/gone.tar")
    got = get("visa", tmp_path / "data", told, mirrors=[server.url("/visa.tar")], keep=True)
    assert [one.url for one in got.fetched] == [server.url("/visa.tar")]
    assert (tmp_path / "data/visa.tar").read_bytes() == archive


def test_an_interrupted_call_leaves_only_the_beginning_of_the_archive(
    offered: Offered, server: Server, told: Told, archive: bytes, tmp_path: Path
) -> None:
    offered("/visa.tar")
    server.pages["/visa.tar"].drops = [200_000, 0, 0, 0, 0]
    with pytest.raises(DataError):
        get("visa", tmp_path / "data", told)
    left = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.name != "lock"]
    assert [path.name for path in left] == ["visa.tar.part"]
    assert archive.startswith(left[0].read_bytes())
    assert get("visa", tmp_path / "data", told).verification.missing == ()
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["visa"]


def test_an_archive_that_cannot_be_unpacked_leaves_no_folder(
    server: Server, told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for content, message in ((b"no archive", "Expected the archive"), (_tar_of("../out"), "Expected a path relative")):
        server.pages["/a"] = Page(content)
        found = Offer(page="https://page.example", archives=[describe(content, server.url("/a"), file="visa.tar")])
        monkeypatch.setattr(getting, "offers", lambda found=found: {"visa": found})
        with pytest.raises(DataError, match=message):
            get("visa", tmp_path / "data", told)
        assert not (tmp_path / "data/visa").exists()
        assert not list((tmp_path / "data").rglob("tree"))


def _tar_of(name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def test_a_disk_that_is_too_small_is_no_reason_to_go_to_the_page(
    offered: Offered, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered("/visa.tar")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(FullDiskError, match=r"GB free in .*Free some, or choose another --root.$"):
        get("visa", tmp_path / "data", told)
    assert not (tmp_path / "data").exists()


def test_two_at_once_are_refused(offered: Offered, told: Told, tmp_path: Path) -> None:
    offered("/visa.tar")
    (work := tmp_path / "data/.visa.download").mkdir(parents=True)
    with FileLock(work / "lock"), pytest.raises(BusyError, match="another process"):
        get("visa", tmp_path / "data", told)


def test_a_folder_that_cannot_be_written_to_is_one_error(offered: Offered, told: Told, tmp_path: Path) -> None:
    offered("/visa.tar")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r"Expected to write to .*file.*Mend that, or name another --root"):
        get("visa", tmp_path / "file" / "data", told)


def test_what_is_had_by_hand_only_names_its_page(told: Told, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DAGM 2007.*zenodo.org.*belongs into .*dagm; then call `ltbench datasets ver"):
        get("dagm", tmp_path, told)
    with pytest.raises(DataError, match="built in"):
        get("shapes", tmp_path, told)
    with pytest.raises(UnknownNameError, match="Did you mean 'mvtec'"):
        get("mvtecc", tmp_path, told)


def test_the_licence_is_shown_and_must_be_agreed_to(ltbench: Run, offered: Offered, server: Server) -> None:
    offered("/visa.tar")
    code, out, err = ltbench("datasets", "get", "visa", "--json")
    assert (code, out) == (2, "")
    assert "VisA: CC BY 4.0" in err
    assert "2207.14315" in err
    assert "--accept-licence" in err
    assert not server.asked
    assert not Path("data").exists()


def test_the_command_prints_one_object_or_lines(ltbench: Run, offered: Offered) -> None:
    offered("/gone.tar", "/visa.tar")
    code, out, err = ltbench("datasets", "get", "visa", "--accept-licence", "--json")
    printed = json.loads(out)
    assert code == 1, "a small imitation has other counts than published"
    assert (printed["dataset"], printed["root"], printed["missing"]) == ("visa", "data/visa", [])
    assert printed["archives"][0]["url"].endswith("/visa.tar")
    assert printed["miscounted"]
    assert len(err.splitlines()) == 2, "the licence, and no progress"
    code, out, err = ltbench("datasets", "get", "visa")
    assert code == 1
    assert out.startswith("visa was there already")
    assert err == "", "what is there was agreed to"
