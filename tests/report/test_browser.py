"""The report in a browser: it sorts and filters, works from the keyboard, fits a phone, and asks for nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Show = Callable[..., "Chrome"]

CSS = "css selector"


def _column(browser: Chrome, place: int) -> list[str]:
    """Return the texts of a column of the leaderboard as shown; 0 is the method without what stands below it."""
    script = """return [...document.querySelectorAll('#board tbody tr:not(.set)')].map(
        (row) => row.children[arguments[0]].firstChild.textContent)"""
    return [str(text) for text in browser.execute_script(script, place)]


def _choose(browser: Chrome, name: str, value: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("name", name)).select_by_value(value)


def _heads(browser: Chrome) -> dict[str, str | None]:
    heads = browser.find_elements(CSS, "#board thead th[aria-sort]")
    return {head.text.rstrip(" ↕↑↓"): head.get_attribute("aria-sort") for head in heads}


def _status(browser: Chrome) -> str:
    return browser.find_element("id", "status").text


def test_headings_sort_both_ways(show: Show, page: Path) -> None:
    browser = show(page)
    assert _heads(browser)["Avg"] == "descending"
    values = [float(text.split()[0]) for text in _column(browser, 3)]
    assert values == [92.19, 85.0, 70.0, 75.0, 65.0], "the best of each training set first"
    browser.find_element(CSS, "#board thead button[data-key='image_auroc avg']").click()
    assert _heads(browser) | {"Avg": "ascending"} == _heads(browser)
    assert [float(text.split()[0]) for text in _column(browser, 3)] == [92.19, 70.0, 85.0, 65.0, 75.0]
    browser.find_element(CSS, "#board thead button[data-key=method]").click()
    assert _column(browser, 0)[3:] == ["Other", "Plain"]
    assert _heads(browser)["Method"] == "ascending" and _heads(browser)["Avg"] == "none"
    assert "in each leaderboard sorted by method, lowest first" in _status(browser)


def test_rows_stand_below_their_training_set(show: Show, page: Path) -> None:
    browser = show(page)
    heads = [head.text.split("\n") for head in browser.find_elements(CSS, "#board .set th")]
    assert heads == [
        ["mvtec_k4_noisy10, protocol tailedcore", "MVTec AD, 1 category, imbalance 1, 10 % contaminants"],
        ["parts_step4, protocol common", "parts, 1 category, imbalance 1, no contaminants"],
        ["parts_step10, protocol common", "parts, 1 category, imbalance 1, no contaminants"],
    ]
    rows = browser.execute_script("return [...document.querySelectorAll('#board tbody')].map((own) => own.rows.length)")
    assert rows == [2, 3, 3]
    spanned = browser.execute_script("return document.querySelector('#board .set th').colSpan")
    assert spanned == len(browser.find_elements(CSS, "#board thead th"))
    _choose(browser, "method", "Plain")
    assert len(browser.find_elements(CSS, "#board .set")) == 2, "a training set without rows is not shown"


def test_the_sorted_column_comes_first_on_a_narrow_screen(show: Show, page: Path) -> None:
    browser = show(page, 390)
    assert list(_heads(browser)) == ["Method", "Avg", "High", "Low", "Lists x seeds"]
    assert [float(text.split()[0]) for text in _column(browser, 1)] == [92.19, 85.0, 70.0, 75.0, 65.0]
    browser.find_element(CSS, "#board thead button[data-key='image_auroc low']").click()
    assert list(_heads(browser))[:2] == ["Method", "Low"]
    assert browser.execute_script("return document.querySelector('#board').parentElement.scrollLeft") == 0
    assert list(_heads(show(page))) == ["Method", "High", "Low", "Avg", "Lists x seeds"]


def test_empty_cells_are_last_either_way(show: Show, page: Path) -> None:
    browser = show(page)
    _choose(browser, "metric", "pixel_auroc")
    assert _column(browser, 3)[0] == "50.00"
    browser.find_element(CSS, "#board thead button[data-key='pixel_auroc avg']").click()
    assert _column(browser, 3) == ["50.00", "–", "–", "–", "–"]
    missing = browser.find_element(CSS, "#board .missing[title='no masks']")
    assert missing.get_attribute("aria-label") == "no value: no masks"


def test_filters_narrow_and_tell(show: Show, page: Path) -> None:
    browser = show(page)
    assert _status(browser).startswith("5 of 5 rows")
    _choose(browser, "dataset", "parts")
    assert len(_column(browser, 0)) == 4
    options = browser.find_elements(CSS, "select[name=split] option")
    assert [option.text for option in options] == ["all", "parts_step4", "parts_step10"]
    _choose(browser, "split", "parts_step10")
    assert _column(browser, 0) == ["Plain", "Other"]
    _choose(browser, "dataset", "mvtec")
    assert _column(browser, 0) == ["PatchCore"], "a training set of another dataset is let go"
    _choose(browser, "dataset", "")
    _choose(browser, "method", "Plain")
    assert _status(browser).startswith("2 of 5 rows")
    _choose(browser, "group", "low")
    assert list(_heads(browser)) == ["Method", "Image AUROC Low", "Lists x seeds"]
    _choose(browser, "metric", "")
    assert list(_heads(browser))[1:3] == ["Image AUROC Low", "Pixel AUROC Low"]


def test_a_number_tells_where_it_comes_from(show: Show, page: Path) -> None:
    browser = show(page)
    button = browser.find_element(CSS, "#board tbody tr:nth-child(2) td:nth-child(4) button")
    button.click()
    dialog = browser.find_element("id", "detail")
    assert dialog.is_displayed()
    assert browser.switch_to.active_element.get_attribute("id") == "detail-title"
    for text in (
        "83.83 %",
        "+8.36",
        "project page",
        "inconsistent",
        "mvtec_k4_noisy10_seed1",
        "2106.08265",
        '"torch": "0"',
    ):
        assert text in dialog.text, text
    assert browser.find_elements(CSS, "#detail pre")[0].text.startswith("{")
    browser.find_element("id", "close").click()
    assert not dialog.is_displayed()


def test_categories_are_one_click_away(show: Show, page: Path) -> None:
    browser = show(page)
    browser.find_element(CSS, "#board .more").click()
    rows = browser.find_elements(CSS, "#detail tbody tr")
    assert [row.text.split()[:4] for row in rows] == [["bolt", "3", "High", "50.00"]]
    rows[0].find_element("tag name", "button").click()
    assert "bolt" in browser.find_element("id", "detail-title").text


def test_the_keyboard_suffices(show: Show, page: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    browser = show(page)
    browser.find_element(CSS, "#board thead button[data-key=method]").send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("data-key") == "method", "the focus stays on the heading"
    assert _heads(browser)["Method"] == "ascending"
    browser.find_element(CSS, "#board tbody button").send_keys(Keys.SPACE)
    assert browser.find_element("id", "detail").is_displayed()
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not browser.find_element("id", "detail").is_displayed()
    assert browser.switch_to.active_element.tag_name == "button", "the focus goes back to the number"
    ActionChains(browser).send_keys(Keys.TAB).perform()
    outline = "return getComputedStyle(document.activeElement).outlineWidth"
    assert browser.execute_script(outline) == "3px", "where the focus is can be seen"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_overflows(show: Show, page: Path, mapped_page: Path, width: int) -> None:
    for file in (page, mapped_page):
        browser = show(file, width)
        browser.execute_script("document.querySelectorAll('details').forEach((own) => { own.open = true; })")
        assert browser.execute_script("return innerWidth") == width
        assert (
            browser.execute_script("const own = document.documentElement; return own.scrollWidth - own.clientWidth")
            <= 0
        )
        browser.find_element(CSS, "#board .more").click()
        wide = browser.execute_script(
            "const own = document.getElementById('detail'); return own.scrollWidth - own.clientWidth"
        )
        assert wide <= 0
        assert browser.execute_script("return document.getElementById('detail').getBoundingClientRect().width") <= width
        browser.find_element("id", "close").click()


def test_dark_and_light(show: Show, page: Path) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    browser = show(page, scheme="dark")
    dark = browser.execute_script(background)
    browser.find_element("id", "theme").click()
    light = browser.execute_script(background)
    assert (dark, light) == ("rgb(20, 23, 27)", "rgb(255, 255, 255)")
    browser = show(page, scheme="light")
    assert browser.execute_script(background) == light
    browser.find_element("id", "theme").click()
    assert browser.execute_script(background) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(show: Show, page: Path, scheme: str) -> None:
    """Text against the background behind it: at least 4.5 to 1 (WCAG 2.2, criterion 1.4.3)."""
    browser = show(page, scheme=scheme)
    script = """
        const read = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const linear = (v) => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
        const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, share, k) => sum + share * linear(rgb[k]), 0);
        const behind = (own) => {
            for (; own; own = own.parentElement) {
                const colour = getComputedStyle(own).backgroundColor;
                if (colour !== "rgba(0, 0, 0, 0)") return colour;
            }
            return "rgb(255, 255, 255)";
        };
        const names = "p, th, td, a, button, select, label, caption, summary, figcaption";
        return [...document.querySelectorAll(names)].map((own) => {
            const [a, b] = [light(read(getComputedStyle(own).color)), light(read(behind(own)))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), own.outerHTML.slice(0, 80)];
        });"""
    found = browser.execute_script(script)
    assert len(found) > 50
    assert min(found)[0] >= 4.5, min(found)


def test_hostile_titles_do_nothing(show: Show, page: Path) -> None:
    browser = show(page)
    for button in browser.find_elements(CSS, "#board .more"):
        button.click()
        browser.find_element("id", "close").click()
    assert browser.title == "A & <b>"
    assert browser.find_elements("tag name", "img") == browser.find_elements(CSS, "#figures ~ details img")


def test_panels_stand_below_one_another_on_a_narrow_screen(show: Show, mapped_page: Path) -> None:
    script = """
        document.querySelectorAll('details').forEach((own) => { own.open = true; });
        const several = [...document.querySelectorAll('picture:has(source) img')];
        return Promise.all(several.map((own) => own.decode().then(() => own.naturalWidth / own.naturalHeight)));"""
    wide, narrow = (show(mapped_page, width).execute_script(script) for width in (1280, 390))
    assert len(wide) == len(narrow) >= 1
    assert min(wide) > 1 > max(narrow)


def test_pictures_are_shown(show: Show, mapped_page: Path) -> None:
    browser = show(mapped_page)
    browser.execute_script("document.querySelectorAll('details').forEach((own) => { own.open = true; })")
    loaded = browser.execute_script(
        "return Promise.all([...document.images].map((own) => own.decode().then(() => own.naturalWidth)))"
    )
    assert len(loaded) >= 8 and min(loaded) > 30
