"""A server on the loopback that behaves as badly as it is told, and archives of a small VisA."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ltbench.datasets.archives.facts import Archive


@dataclass
class Page:
    """What a path of the server does.

    Args:
        content: what it serves.
        drops: after how many bytes it cuts a connection, one after another; then it is whole.
        status: another status than 200 or 206.
        has_ranges: whether it goes on in the middle.
        headers: further headers.
    """

    content: bytes = b""
    drops: list[int] = field(default_factory=list)
    status: int = 0
    has_ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """Serves `pages` and keeps in `asked` the path and the Range of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        page = self.server.pages.get(self.path, Page(status=404))
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and page.has_ranges else 0
        total = len(page.content)
        if page.status:
            self.send_response(page.status)
        elif wanted and page.has_ranges and start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            start = total
        elif wanted and page.has_ranges:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        stop = page.drops.pop(0) if page.drops and not page.status else total
        self.wfile.write(page.content[start : start + stop])
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on the loopback, without pages."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between connections; nothing is."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


class Told:
    """A `Meter` that keeps what it is told."""

    def __init__(self) -> None:
        self.tasks: list[list[object]] = []
        self.lines: list[str] = []

    def start(self, title: str, done: int, total: int | None) -> None:
        self.tasks.append([title, done, total, 0])

    def advance(self, count: int) -> None:
        self.tasks[-1][3] += count  # type: ignore[operator]

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def told() -> Told:
    """A meter that keeps what it is told."""
    return Told()


def describe(content: bytes, *urls: str, file: str = "data.zip", size: int | None = None) -> Archive:
    """Return the description of an archive of these bytes."""
    digest = hashlib.sha256(content).hexdigest()
    return Archive.model_validate({"file": file, "sha256": digest, "urls": list(urls), "bytes": size})
