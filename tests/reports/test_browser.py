"""The page in a real browser: it opens from a file without a complaint, and works by mouse, keyboard and on paper."""

import os
import shutil
from pathlib import Path

import pytest

from shiftbench.reports import report

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright here (pip install playwright)")

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
AXE = os.environ.get("SHIFTBENCH_AXE", "")  # axe.min.js of the npm package axe-core
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")
DESK = {"width": 1280, "height": 900}
LIGHT, DARK = "rgb(254, 254, 254)", "rgb(20, 24, 29)"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def path(everything_page, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(everything_page, encoding="utf-8")
    return path


@pytest.fixture
def page(browser, path):
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.goto(path.as_uri())
    yield page
    context.close()


def tab_to(page, selector):
    """Press the tab key until an element has the focus."""
    for _ in range(200):
        if page.locator(selector).first.evaluate("(item) => document.activeElement === item"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached by keyboard")


SHOWN = "[...document.querySelectorAll('#overview-1 tbody tr')].filter((row) => !row.hidden)"


def clean_head(page):
    """The column of clean scores: its place, and the selector of its head."""
    heads = page.locator("#overview-1 thead th").all_inner_texts()
    place = next(i for i, text in enumerate(heads) if text.startswith("Clean"))
    return place, f"#overview-1 thead th:nth-child({place + 1})"


def values(page, place):
    return page.evaluate(f"{SHOWN}.map((row) => parseFloat(row.cells[{place}].dataset.value))")


def test_it_opens_from_a_file(browser, path):
    context = browser.new_context(viewport=DESK)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.className") == "script"
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert said == []
    context.close()


def test_it_works_without_a_script(browser, path):
    context = browser.new_context(viewport=DESK, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("[hidden]").count() >= 3  # what needs a script
    rows = page.locator("#overview-1 tbody tr, .group")
    assert rows.count() > 100
    assert all(item.is_visible() for item in rows.all())
    context.close()


def test_choices_by_mouse(page):
    rows = f"[...new Set({SHOWN}.map((r) => [r.dataset.metric, r.dataset.protocol, r.dataset.clusterer].join(' ')))]"
    panels = """[...new Set([...document.querySelectorAll('#figures-1 .group')].filter((g) => g.offsetHeight)
      .map((g) => (g.dataset.metric || '*') + ' ' + (g.dataset.protocol || '*')))].sort()"""
    assert page.evaluate(rows) == ["acc frozen kmeans", "acc refit kmeans"]
    assert page.evaluate(panels) == ["* *", "* frozen", "acc *", "acc frozen"]
    for value in ("ari", "refit", "gmm"):
        page.click(f'[data-scope="overview-1"] [data-value="{value}"]')
    for value in ("ari", "refit"):
        page.click(f'[data-scope="figures-1"] [data-value="{value}"]')
    assert page.evaluate(rows) == ["ari refit gmm"]
    assert page.evaluate(panels) == ["* *", "* refit", "ari *", "ari refit"]
    pressed = page.locator('[data-scope="overview-1"] [aria-pressed=true]')
    assert pressed.all_inner_texts() == ["refit", "ARI", "gmm"]


def test_choices_and_search_by_keyboard(page):
    tab_to(page, '[data-scope="overview-1"] [data-value="refit"]')
    page.keyboard.press(" ")
    assert page.evaluate(f"{SHOWN}.every((row) => row.dataset.protocol === 'refit')")
    tab_to(page, '[data-scope="overview-1"] select')
    page.keyboard.press("ArrowDown")
    assert set(page.evaluate(f"{SHOWN}.map((row) => row.dataset.shift)")) == {"outdoors"}
    tab_to(page, '[data-scope="overview-1"] [data-search]')
    page.keyboard.type("Method-3")
    assert page.evaluate(f"{SHOWN}.map((row) => row.cells[0].dataset.value)") == ["method-3"]
    assert page.locator('[data-scope="overview-1"] output').inner_text() == "1 of 168 rows"


def test_sorting_by_mouse(page):
    place, head = clean_head(page)
    for order, sign in (("descending", -1), ("ascending", 1), ("descending", -1)):
        page.click(f"{head} button")
        assert page.get_attribute(head, "aria-sort") == order
        found = values(page, place)
        assert found == sorted(found, key=lambda value: sign * value)
    page.click("#overview-1 thead th:first-child button")
    assert page.locator("#overview-1 [aria-sort=none]").count() > 8
    names = page.evaluate(f"{SHOWN}.map((row) => row.cells[0].dataset.value)")
    assert names == sorted(names)


def test_sorting_by_keyboard(page):
    place, head = clean_head(page)
    tab_to(page, f"{head} button")
    page.keyboard.press("Enter")
    found = values(page, place)
    assert found == sorted(found, reverse=True)
    page.keyboard.press(" ")
    assert values(page, place) == sorted(found)
    assert page.get_attribute(head, "aria-sort") == "ascending"


def test_dark_follows_the_system_and_the_button(page):
    paper = "[getComputedStyle(document.body).backgroundColor, document.getElementById('theme').textContent]"
    for system, first, second in (
        ("light", [LIGHT, "Dark"], [DARK, "Light"]),
        ("dark", [DARK, "Light"], [LIGHT, "Dark"]),
    ):
        page.emulate_media(color_scheme=system)
        page.evaluate("delete document.documentElement.dataset.theme")
        assert page.evaluate(paper) == first
        page.click("#theme")
        assert page.evaluate(paper) == second


@pytest.mark.parametrize("width", [400, 768, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width]


def test_long_names_break(browser, build):
    names = ["timm:vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "x" * 110]
    path = report(build(encoders=[(name, 0, level) for name, level in zip(names, (0.9, 0.8), strict=True)]))
    for width in (400, 1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.close()


def test_text_has_contrast(page):
    """WCAG AA: 4.5 to 1 for every text of the page and of its figures, in both themes."""
    script = """() => {
      const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
      const light = ([r, g, b]) => [r, g, b].map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const found = [];
      for (const theme of ['light', 'dark']) {
        document.documentElement.dataset.theme = theme;
        const paper = light(rgb(getComputedStyle(document.body).backgroundColor));
        const low = new Set();
        for (const item of document.querySelectorAll('p, td, th, small, dt, dd, h1, h2, a, button, figcaption, svg text')) {
          const style = getComputedStyle(item);
          const colour = item.tagName === 'text' ? style.fill : style.color;
          if (item.tagName === 'text' && ['rgb(255, 255, 255)', 'rgb(11, 4, 5)'].includes(colour)) continue; // in heat maps
          const ink = light(rgb(colour));
          const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
          if (ratio < 4.5) low.add(`${theme} ${item.tagName} ${colour} ${ratio.toFixed(2)} ${item.textContent.slice(0, 20)}`);
        }
        found.push(...low);
      }
      return found;
    }"""
    assert page.evaluate(script) == []


@pytest.mark.skipif(not AXE, reason="no axe-core here (npm install axe-core; name its axe.min.js in SHIFTBENCH_AXE)")
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_axe_finds_nothing_serious(page, width, theme):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("""async () => {
      const { violations } = await axe.run(document, { resultTypes: ['violations'] });
      return violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)]);
    }""")
    assert [one for one in found if one[0] in ("serious", "critical")] == []


def test_it_prints(page):
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") > 3
