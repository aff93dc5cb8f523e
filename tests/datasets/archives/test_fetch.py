from __future__ import annotations

import os
from pathlib import Path

import pytest

from ltbench.datasets.archives.facts import Archive
from ltbench.datasets.archives.fetch import FIRST_PATIENCE, PATIENCE, fetch, need_room
from ltbench.errors import DataError, FullDiskError
from tests.datasets.archives.conftest import Page, Server, Told, describe

CONTENT = os.urandom(3_000_000)


def _get(archive: Archive, folder: Path, told: Told) -> Path:
    return fetch(archive, folder, told, lambda missing, whole: None).file


def test_a_file_arrives_whole_and_is_not_asked_for_again(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/a"] = Page(CONTENT)
    archive = describe(CONTENT, server.url("/a"))
    first = fetch(archive, tmp_path, told, lambda missing, whole: None)
    assert first.file.read_bytes() == CONTENT
    assert first.url == server.url("/a")
    assert told.tasks == [["data.zip", 0, len(CONTENT), len(CONTENT)]]
    assert fetch(archive, tmp_path, told, lambda missing, whole: None).url is None
    assert len(server.asked) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.zip"]


def test_a_connection_that_drops_is_gone_on_with(
    server: Server, told: Told, tmp_path: Path, pauses: list[float]
) -> None:
    server.pages["/a"] = Page(CONTENT, drops=[1_200_000, 700_000, 0, 0, 5])
    assert _get(describe(CONTENT, server.url("/a")), tmp_path, told).read_bytes() == CONTENT
    starts = [int(wanted[6:-1]) if wanted else 0 for _, wanted in server.asked]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] == 1_900_005
    assert pauses == [0, 0, 1, 3, 0], "longer after each connection that brings nothing"


def test_an_interrupted_call_is_gone_on_with(server: Server, told: Told, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:1_000_000])
    server.pages["/a"] = Page(CONTENT)
    assert _get(describe(CONTENT, server.url("/a")), tmp_path, told).read_bytes() == CONTENT
    assert server.asked == [("/a", "bytes=1000000-")]
    assert told.tasks == [["data.zip", 1_000_000, len(CONTENT), 2_000_000]]


def test_a_part_that_is_whole_is_not_fetched_again(server: Server, told: Told, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    server.pages["/a"] = Page(CONTENT)
    assert _get(describe(CONTENT, server.url("/a")), tmp_path, told).read_bytes() == CONTENT
    assert not told.tasks


def test_a_server_without_ranges_begins_anew(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/a"] = Page(CONTENT, drops=[1_000_000], has_ranges=False)
    assert _get(describe(CONTENT, server.url("/a")), tmp_path, told).read_bytes() == CONTENT
    assert [task[1] for task in told.tasks] == [0, 0]


@pytest.mark.parametrize("other", [b"x" * 1_000_000, b"x" * (len(CONTENT) + 5)])
def test_what_was_there_before_and_is_of_another_file_is_fetched_again(
    server: Server, told: Told, tmp_path: Path, other: bytes
) -> None:
    (tmp_path / "data.zip.part").write_bytes(other)
    server.pages["/a"] = Page(CONTENT)
    assert _get(describe(CONTENT, server.url("/a")), tmp_path, told).read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_the_next_address_is_asked(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/wrong"] = Page(CONTENT[::-1])
    server.pages["/right"] = Page(CONTENT)
    got = fetch(describe(CONTENT, server.url("/wrong"), server.url("/right")), tmp_path, told, lambda *_: None)
    assert got.url == server.url("/right")
    assert got.file.read_bytes() == CONTENT
    assert "/wrong: other bytes than its sha256 says" in told.lines[1]


def test_a_moved_address_is_followed(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/old"] = Page(status=301, headers={"Location": "/new"})
    server.pages["/new"] = Page(CONTENT, drops=[1_000_000])
    assert _get(describe(CONTENT, server.url("/old")), tmp_path, told).read_bytes() == CONTENT


def test_a_server_that_names_the_files_compression_as_its_own_gives_the_file(
    server: Server, told: Told, tmp_path: Path
) -> None:
    server.pages["/a"] = Page(CONTENT, headers={"Content-Encoding": "x-gzip", "Content-Type": "application/x-tar"})
    assert _get(describe(CONTENT, server.url("/a")), tmp_path, told).read_bytes() == CONTENT


def test_an_address_that_moves_in_a_circle_is_given_up(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/old"] = Page(status=302, headers={"Location": "/old"})
    with pytest.raises(DataError, match=r"/old: Exceeded 30 redirects"):
        _get(describe(CONTENT, server.url("/old")), tmp_path, told)


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(status=404), "404 Not Found"),
        (Page(status=403), "403 Forbidden"),
        (Page(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}), "a web page in place of the file"),
    ],
)
def test_a_dead_address_is_named_with_its_reason(
    server: Server, told: Told, tmp_path: Path, page: Page, reason: str
) -> None:
    server.pages["/gone"] = page
    with pytest.raises(DataError, match=rf"Expected data.zip \(sha256 .*got none. http.*/gone: .*{reason}"):
        _get(describe(CONTENT, server.url("/gone")), tmp_path, told)


def test_a_server_that_is_busy_is_asked_again_and_then_given_up(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/busy"] = Page(status=503)
    with pytest.raises(DataError, match="503 Service Unavailable"):
        _get(describe(CONTENT, server.url("/busy")), tmp_path, told)
    assert len(server.asked) == FIRST_PATIENCE


def test_a_machine_that_does_not_answer_is_named(server: Server, told: Told, tmp_path: Path) -> None:
    url = server.url("/a")
    server.server_close()
    with pytest.raises(DataError, match=r"/a: .*refused") as caught:
        _get(describe(CONTENT, url), tmp_path, told)
    assert "HTTPConnection" not in str(caught.value)


def test_what_came_before_an_address_failed_serves_the_next_call(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/a"] = Page(CONTENT, drops=[1_000_000] + [0] * PATIENCE)
    archive = describe(CONTENT, server.url("/a"))
    with pytest.raises(DataError, match=r"ended|broken|Incomplete"):
        _get(archive, tmp_path, told)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.zip.part"]
    assert _get(archive, tmp_path, told).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a", "bytes=1000000-")


def test_the_disk_is_looked_at_before_the_first_byte(server: Server, told: Told, tmp_path: Path) -> None:
    server.pages["/a"] = Page(CONTENT)

    def room(missing: int, whole: int) -> None:
        need_room(tmp_path, missing * 10**12, "the archive")

    with pytest.raises(FullDiskError, match=r"GB free in .* for the archive, got .* GB. Free some"):
        fetch(describe(CONTENT, server.url("/a")), tmp_path, told, room)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FullDiskError, match="GB free"):
        fetch(describe(CONTENT, server.url("/b"), size=len(CONTENT)), tmp_path, told, room)
    assert ("/b", None) not in server.asked, "where the size is known, nothing is asked"


def test_a_full_disk_is_one_error(server: Server, told: Told, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "data.zip.part").symlink_to("/dev/full")
    server.pages["/a"] = Page(CONTENT)
    with pytest.raises(FullDiskError, match=r"Expected to write .*data.zip.part, got No space left"):
        _get(describe(CONTENT, server.url("/a")), tmp_path, told)
