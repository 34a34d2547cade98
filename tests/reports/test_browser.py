"""The page in a real browser: it opens from a file without a complaint, and its switches work by mouse and keyboard."""

import html
import json
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
]  # fmt: skip


def browse(path, tmp_path, *flags):
    """Chromium's output for a page, after checking that the page's console stayed silent."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, path.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert "CONSOLE" not in answer.stderr, answer.stderr
    return answer.stdout


def ask(demo_page, tmp_path, script, *flags):
    """What a script finds on the page. The policy that forbids foreign scripts is taken out for it."""
    assert demo_page.count("http-equiv") == 1
    text = re.sub(r'<meta http-equiv="[^>]*>', "", demo_page)
    tail = f"<script>document.body.innerHTML = '<pre>' + JSON.stringify((() => {{{script}}})()) + '</pre>';</script>"
    path = tmp_path / "asked.html"
    path.write_text(text.replace("</body>", f"{tail}</body>"), encoding="utf-8")
    found = re.search(r"<pre>(.*?)</pre>", browse(path, tmp_path, "--dump-dom", *flags), flags=re.S)
    assert found
    return json.loads(html.unescape(found[1]))


def test_it_opens_from_a_file(demo_page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(demo_page, encoding="utf-8")
    dom = browse(path, tmp_path, "--dump-dom", "--virtual-time-budget=2000")
    assert '<html lang="en" class="script">' in dom
    assert dom.count("aria-sort=") > 8


def test_choices_show_one_metric_and_protocol(demo_page, tmp_path):
    script = """
      const rows = () => [...document.querySelectorAll('.overview tbody tr')].filter((r) => !r.hidden)
        .map((r) => r.dataset.metric + ' ' + r.dataset.protocol);
      const panels = () => [...document.querySelectorAll('.figures .group')].filter((g) => !g.hidden)
        .map((g) => (g.dataset.metric || '*') + ' ' + (g.dataset.protocol || '*'));
      const [table, figures] = document.querySelectorAll('.choices');
      const press = (bar, value) => bar.querySelector(`[data-value="${value}"]`).click();
      const found = [rows(), panels()];
      press(table, 'ari'); press(table, 'refit'); press(figures, 'ari'); press(figures, 'refit');
      found.push(rows(), panels(), [...table.querySelectorAll('[aria-pressed=true]')].map((b) => b.textContent));
      return found;
    """
    rows, panels, rows_after, panels_after, pressed = ask(demo_page, tmp_path, script)
    assert rows == ["acc frozen"] * 3 + ["acc refit"] * 3
    assert {"acc frozen", "acc *", "* frozen"} == set(panels)
    assert rows_after == ["ari refit"] * 3
    assert {"ari refit", "ari *", "* refit"} == set(panels_after)
    assert pressed == ["ARI", "refit"]


def test_tables_sort_by_their_headings(demo_page, tmp_path):
    script = """
      const table = document.querySelector('.overview');
      const heads = [...table.tHead.rows[0].cells];
      const at = heads.findIndex((h) => h.textContent.startsWith('Clean'));
      const values = () => [...table.tBodies[0].rows].map((r) => parseFloat(r.cells[at].dataset.value));
      const sorted = (list, sign) => list.every((v, i) => !i || sign * (v - list[i - 1]) >= 0);
      const button = heads[at].querySelector('button');
      button.focus();
      const reachable = document.activeElement === button && button.tabIndex === 0;
      button.click();
      const found = [reachable, heads[at].ariaSort, sorted(values(), -1)];
      button.click();
      found.push(heads[at].ariaSort, sorted(values(), 1));
      heads[0].querySelector('button').click();
      found.push(heads[at].ariaSort, heads[0].ariaSort, table.tBodies[0].rows[0].cells[0].dataset.value);
      return found;
    """
    assert ask(demo_page, tmp_path, script) == [
        True, "descending", True, "ascending", True, "none", "ascending", "concurl",
    ]  # fmt: skip


def test_dark_follows_the_system_and_the_button(demo_page, tmp_path):
    script = """
      const paper = () => getComputedStyle(document.body).backgroundColor;
      const button = document.getElementById('theme');
      const found = [paper(), button.textContent];
      button.click();
      return [...found, paper(), button.textContent];
    """
    light, dark = "rgb(254, 254, 254)", "rgb(20, 24, 29)"
    assert ask(demo_page, tmp_path, script) == [light, "Dark", dark, "Light"]
    system = "--blink-settings=preferredColorScheme=0"
    assert ask(demo_page, tmp_path, script, system) == [dark, "Light", light, "Dark"]


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_screen(demo_page, tmp_path, width):
    # A window cannot be as narrow as a telephone, a frame can.
    tail = "<script>parent.postMessage([document.documentElement.scrollWidth, innerWidth], '*')</script></body>"
    inner, outer = tmp_path / "inner.html", tmp_path / "outer.html"
    inner.write_text(re.sub(r'<meta http-equiv="[^>]*>', "", demo_page).replace("</body>", tail), encoding="utf-8")
    outer.write_text(
        "<script>onmessage = (e) => { document.body.innerHTML = `<pre>${e.data}</pre>`; }</script>"
        f'<body><iframe src="inner.html" style="border: 0; width: {width}px; height: 900px"></iframe></body>'
    )
    dom = browse(outer, tmp_path, "--dump-dom", "--virtual-time-budget=5000", "--window-size=1400,1000")
    assert f"<pre>{width},{width}</pre>" in dom


def test_text_has_contrast(demo_page, tmp_path):
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
    assert ask(demo_page, tmp_path, script) == []


def test_it_prints(demo_page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(demo_page, encoding="utf-8")
    browse(path, tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
