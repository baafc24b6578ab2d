"""The page in a real browser: drawn, quiet, alone on its own, at two widths and in two themes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from made_layers import costs, with_layers
from made_outputs import with_outputs

from edgekit.records import ClassScore, Collapse, ColumnScore, Fidelity
from edgekit.reports import read_reports, render
from edgekit.reports.sensitivity_text import sensitivity_html

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# Of each report.
CHARTS = {"fashion": 3, "hostile": 3, "many": 3, "devices": 4, "failed": 3, "outputs": 11}
CHARTS["layers"] = 4
pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no browser here: install chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def reports(fashion, hostile, many, ladder, with_source):
    """Reports, by name."""
    both = replace(fashion, rows=fashion.rows + ladder(device="pi@raspberrypi").rows)
    failed = with_findings(with_source(fashion))
    found = {"fashion": fashion, "hostile": hostile, "many": many, "devices": both}
    found["outputs"] = with_outputs(fashion)
    found["layers"] = with_layers(fashion)
    return {**found, "failed": failed}


@pytest.fixture(scope="module")
def address(reports, tmp_path_factory):
    """File addresses of pages, by name."""
    folder = tmp_path_factory.mktemp("pages")
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(render(report, "html"), encoding="utf-8")
    (folder / "sensitivity.html").write_text(sensitivity_html(costs()), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in (*reports, "sensitivity")}


def with_findings(report):
    """An alert, collapses, outputs compared, and a matrix of twenty classes, all unfolded."""
    labels = [f"the class of number {i}" for i in range(20)]
    score = replace(
        report.rows[1].score,
        confusion=tuple(tuple(100 * (r == c) + 7 for c in range(20)) for r in range(20)),
        per_class=tuple(ClassScore(label=n, n=240, recall=0.4, precision=0.4) for n in labels),
        per_column=tuple(ColumnScore(label=n, value=0.5, ci95=(0.4, 0.6)) for n in labels[:8]),
    )
    lost = Collapse(kind="class", where="class 'fault'", detail="recall 97 % became 0 %")
    output = "a/very/long/path/of/an/output/StatefulPartitionedCall:1"
    near = Fidelity(output=output, n=512, sqnr_db=31.0, correlation=0.99, levels=2)
    rows = [replace(row, score=score) for row in report.rows]
    rows[-1] = replace(rows[-1], collapses=(lost,) * 3, fidelity=(near,))
    return replace(report, rows=tuple(rows), alerts=("The source is no better than guessing.",))


def test_samples_are_seen_at_every_width(browser, address):
    for width, across in ((1280, 4), (400, 2)):
        visit(browser, address["outputs"], width=width)
        tops, wide, loaded = browser.execute_script("""
            const views = [...document.querySelectorAll(".examples .card.wide")][0]
                .querySelectorAll(".view");
            const boxes = [...views].map(view => view.querySelector("svg").getBoundingClientRect());
            const pictures = [...document.querySelectorAll(".examples image")];
            return Promise.all(pictures.map(picture => {
                const copy = new Image();
                copy.src = picture.getAttribute("href");
                return copy.decode().then(() => copy.naturalWidth);
            })).then(widths => [boxes.map(box => box.top), Math.max(...boxes.map(b => b.right)),
                                widths]);
        """)
        assert tops.count(tops[0]) == across
        assert wide <= width
        assert all(loaded)


@pytest.mark.parametrize("width", [1280, 768, 400])
@pytest.mark.parametrize("name", ["layers", "sensitivity"])
def test_names_of_layers_are_broken_behind_separators_only(browser, address, name, width):
    visit(browser, address[name], width=width)
    lines, wide = browser.execute_script("""
        document.querySelectorAll("details").forEach(one => { one.open = true; });
        const parts = [...document.querySelectorAll(".names tbody th")].flatMap(
            cell => [...cell.childNodes].filter(node => node.nodeType === Node.TEXT_NODE));
        return [parts.map(part => {
            const range = document.createRange();
            range.selectNodeContents(part);
            return new Set([...range.getClientRects()].map(box => box.top)).size;
        }), document.documentElement.scrollWidth];
    """)
    assert len(lines) > 20
    assert set(lines) == {1}
    assert wide <= width


def visit(browser, url, *, width, scheme="light"):
    browser.get_log("browser")
    browser.get_log("performance")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get(url)
    browser.set_script_timeout(30)
    # Answers when every chart is drawn by the script, and the browser has laid it out.
    browser.execute_async_script("""
        const done = arguments[0];
        const look = () => document.querySelector("[data-chart]:not([data-drawn])")
            ? setTimeout(look, 50) : requestAnimationFrame(() => setTimeout(done, 50));
        look();
    """)


def requests(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", [*CHARTS])
def test_the_page_is_drawn_quiet_and_alone(browser, address, name, width, scheme):
    visit(browser, address[name], width=width, scheme=scheme)
    assert browser.get_log("browser") == []
    assert {url for url in requests(browser) if not url.startswith("data:")} == {address[name]}
    wide, charts, marks, background = browser.execute_script("""
        return [document.documentElement.scrollWidth,
                document.querySelectorAll("[data-drawn] svg").length,
                [...document.querySelectorAll("[data-drawn]")].map(
                    box => box.querySelectorAll("svg :is(.mark-symbol, .mark-rect) path").length),
                getComputedStyle(document.body).backgroundColor]
    """)
    assert wide <= width
    assert charts == CHARTS[name]
    assert all(count >= 4 for count in marks)
    dark = sum(map(int, background[4:-1].split(","))) < 3 * 128
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("name", ["fashion-mnist", "bccd", "turbofan", "fashion-mnist-small"])
def test_the_table_of_variants_fits_a_window_of_1000_pixels(browser, repository, tmp_path, name):
    page = tmp_path / "page.html"
    report = read_reports([repository / "quantized" / name / "report.json"])
    page.write_text(render(report, "html"), encoding="utf-8")

    for width in (1280, 1000):
        visit(browser, page.as_uri(), width=width)
        visible, needed, orphans = browser.execute_script("""
            const box = document.querySelector(".variants");
            const units = [...box.querySelectorAll("td small")].filter(
                one => /\\d (MB|kB|ms|%|M)$/.test(one.textContent));
            return [box.clientWidth, box.scrollWidth, units.length];
        """)
        assert needed <= visible
        assert orphans == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_what_was_lost_can_be_read_at_every_width(browser, address, width, scheme):
    visit(browser, address["failed"], width=width, scheme=scheme)
    wide, cut, pale = browser.execute_script("""
        for (const part of document.querySelectorAll("main details")) part.open = true;
        const boxes = [...document.querySelectorAll("main *")];
        // What is wider than the page must scroll by itself.
        const cut = boxes.filter(box => box.getBoundingClientRect().right > innerWidth + 1
            && !box.closest(".scroll, .chart")).map(box => box.outerHTML.slice(0, 80));
        const light = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
            const part = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
            return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
        };
        const ground = box => {
            for (let at = box; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if (colour.startsWith("rgb(")) return colour;
            }
        };
        const pale = [...document.querySelectorAll(
            ".alert *, .lost *, .chosen *, summary, .note, .variants td, .variants small"
        )].filter(box => {
            const pair = [light(getComputedStyle(box).color), light(ground(box))].sort();
            return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05) < 4.5;
        }).map(box => box.outerHTML.slice(0, 80));
        return [document.documentElement.scrollWidth, cut, pale];
    """)
    assert wide <= width
    assert cut == []
    assert pale == []


def test_charts_take_the_themes_colours(browser, address):
    inks = []
    for scheme in ("light", "dark"):
        visit(browser, address["fashion"], width=1280, scheme=scheme)
        inks.append(
            browser.execute_script("""
                const texts = [...document.querySelectorAll("[data-drawn] svg text")];
                const label = texts.find(text => text.textContent === "dynamic");
                return getComputedStyle(label).fill;
            """)
        )
    assert inks == ["rgb(29, 39, 51)", "rgb(230, 235, 240)"]


def test_hovering_tells_the_figures(browser, address):
    from selenium.webdriver import ActionChains

    visit(browser, address["fashion"], width=1280)
    points = browser.find_elements("css selector", "[data-chart='chart-1'] .mark-symbol path")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", points[0])
    ActionChains(browser).move_to_element(points[0]).perform()
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed()
    assert "95 % interval" in tip.text
    assert "10,000" in tip.text


def test_charts_follow_the_width_of_the_window(browser, address):
    visit(browser, address["fashion"], width=1280)
    before = browser.execute_script("return document.querySelector('[data-drawn] svg').clientWidth")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": True},
    )
    after = browser.execute_async_script("""
        const done = arguments[0], svg = document.querySelector("[data-drawn] svg");
        setTimeout(() => done(Number(svg.getAttribute("width"))), 500);
    """)
    assert before > 700
    assert after < 400
