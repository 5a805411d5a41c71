"""The page in a real browser: nothing is asked of a network, nothing fails, filters work, a phone
shows it without scrolling sideways.
"""

import os
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        BROWSER is None and "CI" not in os.environ,
        reason=f"none of {', '.join(BROWSERS)} is installed",
    ),
]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desk-light", "phone-dark"])
def page(request, chromium, finished):
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    opened = context.new_page()
    opened.noise = []
    opened.on("console", lambda message: opened.noise.append(message.text))
    opened.on("pageerror", lambda error: opened.noise.append(str(error)))
    opened.on(
        "request",
        lambda asked: (
            opened.noise.append(asked.url) if not asked.url.startswith(("data:", "file:")) else None
        ),
    )
    opened.goto((finished.report / "index.html").as_uri())
    yield opened
    context.close()


def test_it_loads_whole_and_alone(page):
    broken = page.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => 0, () => i.alt)))"
        ".then(r => r.filter(x => x))"
    )
    assert (page.noise, broken) == ([], [])
    assert page.evaluate("document.images.length") > 50
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_text_stands_out_from_its_paper(page):
    """WCAG's contrast of 4.5 of every colour that text has, on the background it lies on."""
    worst = page.evaluate("""() => {
      const rgb = text => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b]
        .map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const paper = node => { for (; node; node = node.parentElement) {
        const c = rgb(getComputedStyle(node).backgroundColor);
        if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
      const nodes = [...document.querySelectorAll("body *")]
        .filter(n => [...n.childNodes].some(c => c.nodeType === 3 && c.data.trim()));
      return Math.min(...nodes.filter(n => !["SCRIPT", "STYLE"].includes(n.tagName)).map(n => {
        const [a, b] = [light(rgb(getComputedStyle(n).color)), light(paper(n))];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })); }""")
    assert worst >= 4.5


def test_filters_leave_what_fits(page):
    tiles = page.locator("#gallery .tile")
    assert tiles.count() == 24
    assert page.inner_text("#count") == "24 of 24 images"
    page.select_option("#filters [name=model]", "at")
    page.select_option("#filters [name=epsilon]", "0.05")
    left = page.locator("#gallery .tile:visible")
    assert left.count() == 4
    assert {left.nth(n).get_attribute("data-model") for n in range(4)} == {"at"}
    page.select_option("#filters [name=rank]", "reached")
    reached = page.locator("#gallery .tile:visible").count()
    page.select_option("#filters [name=rank]", "missed")
    assert page.locator("#gallery .tile:visible").count() == 4 - reached
    assert page.inner_text("#count") == f"{4 - reached} of 24 images"
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.getElementById('count').value === '24 of 24 images'")
    assert page.input_value("#filters [name=model]") == ""
    assert page.locator("#gallery .group:visible").count() == 2


def test_filters_are_reached_by_keyboard(page):
    page.locator("h3", has_text="All kept images").click()  # tabs go on from there
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#filters [name=model]") == "unsecured"
    assert page.locator("#gallery .tile:visible").count() == 8


def test_a_figure_gives_its_numbers(page, finished):
    with page.expect_download() as download:
        page.locator("figure a").first.click()
    assert download.value.suggested_filename == "figure-comparison.csv"
    assert (
        download.value.path().read_text()
        == (finished.report / "figures" / "comparison.csv").read_text()
    )


def test_everything_is_printed(page):
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf().startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == 0
