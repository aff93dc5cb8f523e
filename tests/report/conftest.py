"""A report of runs of every kind, and a browser that cannot reach the network without being noticed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ltbench.contract.parameters import plain, resolve
from ltbench.contract.registry import method_class, presets
from ltbench.method import MethodInfo
from ltbench.protocols import PROTOCOLS
from ltbench.records.record import RunRecord, new_folder, run_folder, write_record
from ltbench.report.page import make_page, write_page
from ltbench.runs.harness import Harness
from ltbench.runs.runner import run_by_name

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

MakeRecord = Callable[..., RunRecord]
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture
def records(make_record: MakeRecord) -> list[RunRecord]:
    """Records on two datasets, with several seeds, a hostile title, a paper's setting, and missing numbers."""
    cls = method_class("patchcore")
    values = plain(resolve(cls, presets(cls)["tailedcore"].parameters))
    published = make_record(
        "patchcore", "mvtec_k4_noisy10_seed1", {"image_auroc": 0.9219, "pixel_auroc": 0.5},
        info=MethodInfo("patchcore", "PatchCore", "2106.08265"), parameters=values, protocol=PROTOCOLS["tailedcore"],
    )  # fmt: skip
    return [
        replace(published, preset="tailedcore"),
        make_record(
            "evil", "parts_step4", {"image_auroc": 0.7}, info=MethodInfo("evil", HOSTILE, uses_categories=True)
        ),
        make_record("plain", "parts_step4", {"image_auroc": 0.9}, missing={"pixel_auroc": "no masks"}),
        make_record("plain", "parts_step4", {"image_auroc": 0.8}, missing={"pixel_auroc": "no masks"}, seed=1),
        make_record("plain", "parts_step10", {"image_auroc": 0.75}),
        make_record("other", "parts_step10", {"image_auroc": 0.65}),
    ]


@pytest.fixture
def page(records: list[RunRecord], tmp_path: Path) -> Path:
    """The file of a report without heat maps."""
    return write_page(make_page(records, tmp_path, title="A & <b>"), tmp_path / "site")


@pytest.fixture(scope="session")
def mapped_page(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a report of real runs with maps."""
    results = tmp_path_factory.mktemp("results")
    runs = [
        run_by_name(
            "mean_image", "parts_step4", parts, Harness(results, save_maps=True), parameters={"smoothing_sigma": s}
        )
        for s in (2, 4)
    ]
    records = [outcome.record for outcome in runs]
    return write_page(make_page(records, results, data_root=parts), results / "site")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium that logs its console and every request."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    pytest.importorskip("selenium", reason="needs selenium")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def show(chromium: Chrome) -> Iterator[Callable[..., Chrome]]:
    """Return a function that opens a page at a width; afterwards no error and no request may have been seen."""

    def shown(file: Path, width: int = 1280, scheme: str = "light") -> Chrome:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        chromium.get(file.as_uri())
        return chromium

    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        _log(chromium, kind)
    yield shown
    errors = [entry for entry in _log(chromium, "browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not errors, errors
    sent = [url for url in map(_requested, _log(chromium, "performance")) if url]
    assert all(url.startswith(("file:", "data:", "about:")) for url in sent), sent
    assert any(url.startswith("file:") for url in sent), "the log sees requests"


def _log(browser: Chrome, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


def _requested(entry: dict[str, Any]) -> str:
    message = json.loads(entry["message"])["message"]
    return str(message["params"]["request"]["url"]) if message["method"] == "Network.requestWillBeSent" else ""


def write_records(results: Path, records: list[RunRecord]) -> None:
    """Write records where `ltbench report` looks for them."""
    for record in records:
        with new_folder(run_folder(results, record.spec)) as folder:
            write_record(folder, record)
