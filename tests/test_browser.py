"""The page in a real Chromium: sorted, hovered, printed, on a phone, without scripts, and read by axe-core.

``uv run --group browser pytest -m browser -n 0``. Needs Chromium and its driver (Debian: ``apt install chromium
chromium-driver``; others by SND_CHROMIUM and SND_CHROMEDRIVER) and npm, which fetches axe-core.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import Done
from test_reports import BASE, HIT, LATE, MISS, write_run

from sndcli.defenses.parse import DefenseSpec
from sndcli.runs import points
from sndcli.runs.points import Points

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser
Snd = Callable[..., Done]
CHROMIUM = os.environ.get("SND_CHROMIUM", "/usr/bin/chromium")
DRIVER = os.environ.get("SND_CHROMEDRIVER", "/usr/bin/chromedriver")
PHONE, DESK = (360, 740), (1200, 900)
SERIOUS = {"serious", "critical"}


@dataclass
class Browser:
    """A Chromium with its size, its colours, and whether it runs scripts."""

    chrome: Chrome
    page: Path

    def open(self, size: tuple[int, int] = DESK, dark: bool = False, scripts: bool = True) -> Browser:
        self.told()
        self.cdp("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.cdp("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1,
                 mobile=size == PHONE)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.chrome.get(self.page.as_uri())
        return self

    def cdp(self, command: str, **parameters: object) -> Any:
        return self.chrome.execute_cdp_cmd(command, parameters)

    def js(self, script: str, *arguments: object) -> Any:
        return self.chrome.execute_script(f"return {script}", *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.chrome.find_elements("css selector", selector))

    def until(self, script: str, *arguments: object) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.chrome, 60).until(lambda _: self.js(script, *arguments))

    def live(self) -> None:
        """Every figure scrolled to and drawn."""
        for figure in self.all("figure.curves"):
            self.js("arguments[0].scrollIntoView()", figure)
            self.until(
                "[...arguments[0].querySelectorAll('.canvas')].every((each) => each.querySelector('svg'))", figure
            )
        assert len(self.all("figure.live")) == len(self.all("figure.curves"))

    def log(self, kind: str) -> list[dict[str, str]]:
        return [dict(entry) for entry in self.chrome.get_log(kind)]

    def told(self) -> list[str]:
        """Lines of the console since the last call."""
        return [entry["message"] for entry in self.log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of several attacks, a defense, two bounds, a gate that fails, and pictures on both sides of ε."""
    from typer.testing import CliRunner

    from sndcli.cli.app import app

    folder = tmp_path_factory.mktemp("page")
    none = replace(BASE, defense=DefenseSpec("none"))
    for k, (attack, base) in enumerate((a, b) for a in ("hsja", "hsja-na", "ba", "simba-dct") for b in (BASE, none)):
        config = replace(base, attack=attack)
        path = write_run(folder, [MISS] + [HIT] * (8 + k) + [LATE] * (10 - k) + [MISS], config, p_adv=0.9)
        if attack == "hsja":
            _write_points(points.path_of(path), config.run_id, 20)
    linf = replace(BASE, attack="square", norm="linf", eps=8 / 255)
    write_run(folder, [[(60, 0.03)]] * 7 + [[(500, 0.031)]] * 5 + [[]], linf)
    made = folder / "page.html"
    gate = ["--fail-if", "success_noisy@1000 > 0.5"]
    done = CliRunner().invoke(app, ["report", str(folder), "--html", str(made), *gate, "-q"])
    assert done.exit_code == 1, done.output
    return made


def _write_points(path: Path, run_id: str, n: int) -> None:
    """Clean images and points a little beside them."""
    draws = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (n, 3, 32, 32), generator=draws, dtype=torch.uint8)
    submitted = (clean / 255 + 0.02 * torch.randn((n, 3, 32, 32), generator=draws)).clamp(0, 1)
    zero = torch.zeros(n, dtype=torch.int64)
    some = torch.arange(n) < 18  # an image that was never found wrong has no point
    names = tuple(map(str, range(10)))
    points.write(path, Points(torch.arange(n), zero, zero.clone(), clean, submitted, some, zero + 1, names, run_id))


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(DRIVER))
    chrome.set_page_load_timeout(120)
    chrome.set_script_timeout(300)
    yield Browser(chrome, page)
    chrome.quit()


def test_a_table_is_sorted_by_a_click(browser: Browser) -> None:
    browser.open()
    lines = "[...body.rows].filter((row) => !row.matches('.group'))"
    figures = f"{lines}.map((row) => Number(row.cells[arguments[0]].dataset.value))"
    order = f"[...document.querySelector('table.sortable').tBodies].map((body) => {figures})"
    heads = [head.text.split(" ↕")[0] for head in browser.all("table.sortable:first-of-type thead th")]
    column = heads.index("seen %")
    button = browser.all("table.sortable thead th")[column].find_element("css selector", "button")
    before = browser.js(order, column)
    assert len(before) == 2  # report points
    assert any(part != sorted(part) for part in before)
    button.click()
    assert browser.js(order, column) == [sorted(part, reverse=True) for part in before]
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    button.send_keys("\ue007")  # Enter
    assert browser.js(order, column) == [sorted(part) for part in before]
    first = "document.querySelector('table.sortable').tBodies[0].rows[0].matches('.group')"
    assert browser.js(first)


def test_charts_fill_their_place_and_say_where_the_bound_is(browser: Browser) -> None:
    browser.open()
    browser.live()
    inside = "each.querySelector('.background').getBoundingClientRect().width"
    found = browser.js(f"[...document.querySelectorAll('.canvas')].map((each) => [each.clientWidth, {inside}])")
    assert len(found) == 10  # seen, noisy, distance, and seen and noisy along ε, of two bounds
    assert all(filled > 0.75 * room for room, filled in found)
    told = [text.text for text in browser.all(".canvas text")]
    assert {"ε = 1", "ε = 8/255"} <= {*told}


@pytest.mark.parametrize("dark", [False, True])
def test_a_curve_answers_to_the_pointer(browser: Browser, dark: bool) -> None:
    from selenium.webdriver import ActionChains

    browser.open(dark=dark)
    browser.live()
    (canvas, *_) = browser.all("figure.live .canvas")
    point = canvas.find_elements("css selector", ".mark-symbol path")[-20]
    browser.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(browser.chrome).move_to_element(point).perform()
    browser.until("document.querySelector('#vg-tooltip-element.visible') !== null")
    (tooltip,) = browser.all("#vg-tooltip-element")
    assert "paid queries an image" in tooltip.text
    assert "[" in tooltip.text
    assert "undefined" not in tooltip.text
    assert any(name in tooltip.text for name in ("hsja", "ba", "simba-dct"))
    colours = browser.js("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    brightness = [sum(int(part) for part in colour[4:-1].split(",")) for colour in colours]
    assert (brightness[0] < brightness[1]) == dark


def test_a_config_is_opened(browser: Browser) -> None:
    browser.open()
    details = browser.all("main > details")[-1]
    assert "run" not in [cell.text for cell in details.find_elements("css selector", "th")]
    details.find_element("css selector", "summary").click()
    facts = {cell.text for cell in details.find_elements("css selector", "th")}
    assert {"id", "attack", "budget", "defense"} <= facts


def test_no_fault_is_told_and_nothing_is_asked_for(browser: Browser) -> None:
    browser.requests()
    browser.open()
    browser.live()
    assert not browser.told()
    assert all(url.startswith(("file:", "data:")) for url in browser.requests())
    fetched = "fetch('https://example.org/').then(() => 'went', () => 'refused')"
    assert browser.js(f"await {fetched}") == "refused"
    assert any("Content Security Policy" in line for line in browser.told())  # refused by the page, not by the network


@pytest.mark.parametrize("scripts", [True, False])
def test_a_phone_need_not_be_pushed_sideways(browser: Browser, scripts: bool) -> None:
    browser.open(PHONE, scripts=scripts)
    if scripts:
        browser.live()
    root = browser.cdp("Page.getLayoutMetrics")["cssContentSize"]
    assert root["width"] <= PHONE[0]


def test_without_scripts_all_figures_stand(browser: Browser) -> None:
    browser.open(scripts=False)
    assert browser.all("th button") == []
    assert len(browser.all("figure.curves .picture svg")) == 6
    assert all(each.is_displayed() for each in browser.all("figure.curves .picture svg"))
    assert not any(each.is_displayed() for each in browser.all(".charts"))
    text = browser.chrome.find_element("css selector", "main").text
    assert "Failed" in text
    assert "success_noisy@1000 > 0.5" in text
    assert text.count("Outside ε.") == 2  # the first image of each of them
    assert len(browser.all("figure.pictures")) == 6  # three of each run that has them


def test_print_shows_configs_and_pictures(browser: Browser, tmp_path: Path) -> None:
    browser.open()
    browser.live()
    pdf = tmp_path / "page.pdf"
    pdf.write_bytes(base64.b64decode(browser.cdp("Page.printToPDF", printBackground=False)["data"]))
    reader = shutil.which("pdftotext")
    if reader is None:
        pytest.skip("pdftotext (poppler-utils) reads what was printed")
    text = subprocess.run([reader, "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    assert text.count("model_digest") == 9  # of each run
    assert "median L2 distance" in text
    assert "Headline figures" in text
    browser.cdp("Emulation.setEmulatedMedia", media="print")
    assert all(each.is_displayed() for each in browser.all("figure.curves .picture svg"))
    assert not any(each.is_displayed() for each in browser.all(".charts, .legend"))


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, as npm has it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm fetches axe-core")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run([npm, "pack", "axe-core@4", "--silent"], cwd=folder, check=True, capture_output=True, timeout=300)
    (packed,) = folder.glob("axe-core-*.tgz")
    with tarfile.open(packed) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


@pytest.mark.parametrize(("size", "dark"), [(DESK, False), (DESK, True), (PHONE, False)])
def test_axe_finds_no_serious_fault(browser: Browser, axe: str, size: tuple[int, int], dark: bool) -> None:
    browser.open(size, dark)
    browser.live()
    browser.chrome.execute_script(f"{axe}; document.querySelectorAll('details').forEach((each) => each.open = true)")
    found = browser.chrome.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then("
        "(r) => done(r.violations.map((v) => [v.impact, v.id, v.nodes.map((n) => n.html.slice(0, 200)).slice(0, 3)])))"
    )
    assert not [fault for fault in found if fault[0] in SERIOUS], found
