"""The documentation site: it builds strictly, has a card a method, and asks the network for nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.pages import TABLES, card, relinked
from ltbench.contract.description import describe
from ltbench.contract.registry import method_names
from ltbench.core import Protocol
from ltbench.metrics.registry import metric_titles
from ltbench.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class _Loaded(HTMLParser):
    """What a browser loads with a page: scripts, styles, pictures, fonts; links that are followed by hand are none."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.addresses += [own for name, own in attrs if name in ("src", "href", "srcset") and own]


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = _Loaded(page.read_text(encoding="utf-8")).addresses
        assert loaded
        assert [own for own in loaded if re.match(r"(https?:)?//", own)] == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_card(site: Path, name: str) -> None:
    text, own = (site / "methods" / f"{name}.html").read_text(encoding="utf-8"), describe(name)
    assert own.info.title in text
    for parameter in own.parameters:
        assert f"<code>{parameter.name}</code>" in text, parameter.name
    for preset in own.presets:
        assert f"<code>{preset}</code>" in text, preset


def test_cards_say_what_a_method_is_told() -> None:
    assert "told the category of every image" in card("ltad")
    assert "[ltad](README.md)" in card("ltad_labelfree")
    assert "## What it does" in card("patchcore") and "## What it does" not in card("ltad_labelfree")


@pytest.mark.parametrize("name", method_names())
def test_cards_print_a_command_that_the_method_takes(name: str) -> None:
    """DRAEM and AnomalyGPT refuse their defaults where no textures or weights are named; their stand-ins need none."""
    command = f"`ltbench run --method {name} --split shapes_step20"
    assert f"{command}{' --preset offline' if 'offline' in describe(name).presets else ''}`" in card(name)


def test_cards_say_that_a_run_may_be_told_less() -> None:
    assert "| privilege, at most | told the category of every image |" in card("draem")


def test_the_search_knows_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    pages = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"metrics.html", "protocols.html", "findings.html", "methods/tailedcore.html"} <= pages


def test_every_metric_and_protocol_is_told_of(site: Path) -> None:
    metrics = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, title in metric_titles().items():
        assert f"| `{name}` | {title} |" in metrics
    protocols = (site / "protocols.html").read_text(encoding="utf-8")
    for name in [*PROTOCOLS, *Protocol("common", 256).payload()]:
        assert f"<code>{name}</code>" in protocols, name


def test_every_shipped_grid_and_finding_and_decision_has_its_place(site: Path) -> None:
    for folder, page in (("ltbench/sweeps/grids", "grids.html"), ("findings", "findings.html")):
        text = (site / page).read_text(encoding="utf-8")
        for file in (ROOT / folder).iterdir():
            assert file.stem in text or file.name in text, file.name
    decisions = (site / "adr" / "index.html").read_text(encoding="utf-8")
    for file in (ROOT / "docs" / "adr").glob("*.md"):
        assert f'href="{file.stem}.html"' in decisions


@pytest.mark.parametrize("name", TABLES)
def test_tables_stand_in_a_page(name: str) -> None:
    pages = [file.read_text(encoding="utf-8") for file in (ROOT / "docs").glob("*.md")]
    assert TABLES[name]().strip()
    assert name == "methods" or any(f"<!-- table: {name} -->" in text for text in pages)


def test_links_of_documents_lead_to_pages() -> None:
    text = (
        "[a](docs/own-data.md#masks) ![b](docs/report.webp) [c](methods/ltad/README.md) [d](setup.cfg) [e](https://x)"
    )
    assert relinked(text, "index.md") == (
        "[a](own-data.md#masks) ![b](report.webp) [c](methods/ltad.md) d (`setup.cfg`) [e](https://x)"
    )
    assert relinked("[f](../ltad/README.md)", "methods/ltad_labelfree.md") == "[f](ltad.md)"
