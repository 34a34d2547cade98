"""The page in a real browser: it opens from a file without a complaint, and works by mouse, keyboard and on paper."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
AXE = os.environ.get("SHIFTBENCH_AXE", "")  # axe.min.js of the npm package axe-core
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip
LIGHT, DARK = "rgb(254, 254, 254)", "rgb(20, 24, 29)"


class Browser:
    """Chromium, driven through its DevTools protocol over a pipe: no driver and no port are needed."""

    def __init__(self, profile):
        (reads, self._write), (self._read, writes) = os.pipe(), os.pipe()
        # Chromium listens on descriptor 3 and answers on 4; out of their way first, then into their place.
        reads, writes = (fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in (reads, writes))
        self._process = subprocess.Popen(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"],
            preexec_fn=lambda: (os.dup2(reads, 3), os.dup2(writes, 4)),
            pass_fds=[3, 4],
            stderr=subprocess.DEVNULL,
        )
        os.close(writes)
        self._count, self._rest, self.events = 0, b"", []

    def send(self, method, session=None, **params):
        """The answer to a command; what happens meanwhile goes to ``events``."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self):
        while b"\0" not in self._rest:
            found = os.read(self._read, 1 << 20)
            assert found, "Chromium has gone"
            self._rest += found
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def wait_for(self, method, session):
        while not any(one.get("method") == method and one.get("sessionId") == session for one in self.events):
            self.events.append(self._receive())

    def close(self):
        self.send("Browser.close")
        self._process.wait(timeout=30)


class Tab:
    """One page, which the reader's mouse and keyboard reach."""

    def __init__(self, browser, path):
        self._browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(1280, 900)
        self.send("Page.navigate", url=path.as_uri())
        browser.wait_for("Page.loadEventFired", self.session)

    def send(self, method, **params):
        return self._browser.send(method, self.session, **params)

    def resize(self, width, height):
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def said(self, *methods):
        return [
            one["params"]
            for one in self._browser.events
            if one.get("sessionId") == self.session and one["method"] in methods
        ]

    def ask(self, script):
        """What a function body returns."""
        found = self.send(
            "Runtime.evaluate", expression=f"(async () => {{{script}}})()", returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector):
        """Press the mouse on an element."""
        x, y = self.ask(f"""
          const item = document.querySelector({json.dumps(selector)});
          item.scrollIntoView({{block: 'center', behavior: 'instant'}});
          const box = item.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        """)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, **more):
        """Press a key of the keyboard."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}
        text = {"Enter": "\r", " ": " "}.get(key)
        shared = {"key": key, "windowsVirtualKeyCode": codes[key], **more} | ({"text": text} if text else {})
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, **shared)

    def tab_to(self, selector):
        """Press the tab key until an element has the focus."""
        for _ in range(200):
            if self.ask(f"return document.activeElement === document.querySelector({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise AssertionError(f"{selector} cannot be reached by keyboard")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def path(everything_page, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(everything_page, encoding="utf-8")
    return path


@pytest.fixture
def tab(browser, path):
    return Tab(browser, path)


SHOWN = "[...document.querySelectorAll('#overview-1 tbody tr')].filter((row) => !row.hidden)"
CLEAN = "#overview-1 th:nth-child({})"


def clean_head(tab):
    place = tab.ask(
        "return [...document.querySelectorAll('#overview-1 thead th')].findIndex((h) => h.innerText.startsWith('Clean'))"
    )
    return place, f"#overview-1 thead th:nth-child({place + 1})"


def values(tab, place):
    return tab.ask(f"return {SHOWN}.map((row) => parseFloat(row.cells[{place}].dataset.value))")


def test_it_opens_from_a_file(tab, path):
    assert tab.ask("return document.documentElement.className") == "script"
    asked = [one["request"]["url"] for one in tab.said("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert not tab.said("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


def test_it_works_without_a_script(browser, path):
    tab = Tab(browser, path)
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.events.clear()
    tab.send("Page.reload")
    browser.wait_for("Page.loadEventFired", tab.session)
    assert tab.ask("return document.querySelectorAll('[hidden]').length") >= 3  # what needs a script
    assert tab.ask("return [...document.querySelectorAll('#overview-1 tbody tr, .group')].every((e) => e.offsetHeight)")


def test_choices_by_mouse(tab):
    rows = f"return [...new Set({SHOWN}.map((r) => [r.dataset.metric, r.dataset.protocol, r.dataset.clusterer].join(' ')))]"
    panels = """return [...new Set([...document.querySelectorAll('#figures-1 .group')].filter((g) => g.offsetHeight)
      .map((g) => (g.dataset.metric || '*') + ' ' + (g.dataset.protocol || '*')))].sort()"""
    assert tab.ask(rows) == ["acc frozen kmeans", "acc refit kmeans"]
    assert tab.ask(panels) == ["* *", "* frozen", "acc *", "acc frozen"]
    for value in ("ari", "refit", "gmm"):
        tab.click(f'[data-scope="overview-1"] [data-value="{value}"]')
    for value in ("ari", "refit"):
        tab.click(f'[data-scope="figures-1"] [data-value="{value}"]')
    assert tab.ask(rows) == ["ari refit gmm"]
    assert tab.ask(panels) == ["* *", "* refit", "ari *", "ari refit"]
    pressed = "return [...document.querySelectorAll('[data-scope=\"overview-1\"] [aria-pressed=true]')].map((b) => b.textContent)"
    assert tab.ask(pressed) == ["refit", "ARI", "gmm"]


def test_choices_and_search_by_keyboard(tab):
    tab.tab_to('[data-scope="overview-1"] [data-value="refit"]')
    tab.press(" ")
    assert tab.ask(f"return {SHOWN}.every((row) => row.dataset.protocol === 'refit')")
    tab.tab_to('[data-scope="overview-1"] select')
    tab.press("ArrowDown")
    assert set(tab.ask(f"return {SHOWN}.map((row) => row.dataset.shift)")) == {"outdoors"}
    tab.tab_to('[data-scope="overview-1"] [data-search]')
    tab.send("Input.insertText", text="Method-3")
    assert tab.ask(f"return {SHOWN}.map((row) => row.cells[0].dataset.value)") == ["method-3"]
    assert tab.ask("return document.querySelector('[data-scope=\"overview-1\"] output').textContent") == "1 of 168 rows"


def test_sorting_by_mouse(tab):
    place, head = clean_head(tab)
    for order, sign in (("descending", -1), ("ascending", 1), ("descending", -1)):
        tab.click(f"{head} button")
        assert tab.ask(f"return document.querySelector('{head}').ariaSort") == order
        found = values(tab, place)
        assert found == sorted(found, key=lambda value: sign * value)
    tab.click("#overview-1 thead th:first-child button")
    assert (
        tab.ask("return [...document.querySelectorAll('#overview-1 [aria-sort]')].map((h) => h.ariaSort)").count("none")
        > 8
    )
    names = tab.ask(f"return {SHOWN}.map((row) => row.cells[0].dataset.value)")
    assert names == sorted(names)


def test_sorting_by_keyboard(tab):
    place, head = clean_head(tab)
    tab.tab_to(f"{head} button")
    tab.press("Enter")
    found = values(tab, place)
    assert found == sorted(found, reverse=True)
    tab.press(" ")
    assert values(tab, place) == sorted(found)
    assert tab.ask(f"return document.querySelector('{head}').ariaSort") == "ascending"


def test_dark_follows_the_system_and_the_button(tab):
    paper = "return [getComputedStyle(document.body).backgroundColor, document.getElementById('theme').textContent]"
    for system, first, second in (
        ("light", [LIGHT, "Dark"], [DARK, "Light"]),
        ("dark", [DARK, "Light"], [LIGHT, "Dark"]),
    ):
        tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": system}])
        tab.ask("delete document.documentElement.dataset.theme")
        assert tab.ask(paper) == first
        tab.click("#theme")
        assert tab.ask(paper) == second


@pytest.mark.parametrize("width", [400, 768, 1280])
def test_nothing_is_wider_than_the_screen(tab, width):
    tab.resize(width, 900)
    assert tab.ask("return [document.documentElement.scrollWidth, innerWidth]") == [width, width]


def test_text_has_contrast(tab):
    """WCAG AA: 4.5 to 1 for every text of the page and of its figures, in both themes."""
    script = """
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
    """
    assert tab.ask(script) == []


@pytest.mark.skipif(not AXE, reason="no axe-core here (npm pack axe-core; name its axe.min.js in SHIFTBENCH_AXE)")
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_axe_finds_nothing_serious(tab, width, theme):
    tab.resize(width, 900)
    tab.ask(f"document.documentElement.dataset.theme = '{theme}'")
    tab.send("Runtime.evaluate", expression=Path(AXE).read_text(encoding="utf-8"))
    found = tab.ask("""
      const { violations } = await axe.run(document, { resultTypes: ['violations'] });
      return violations.map((v) => [v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200)]);
    """)
    assert [one for one in found if one[0] in ("serious", "critical")] == []


def test_it_prints(tab):
    pdf = base64.b64decode(tab.send("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") > 3 or pdf.count(b"/Type /Page") > 3
