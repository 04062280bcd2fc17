"""The report's page, looked at with the eyes of a browser: headless Chromium where there is one."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from fabricated_reproduction import HOSTILE, HOSTILE_ATTRIBUTE, LAYERS, STAGES, fabricated

from vgg_jax.reproduction.page import write_report

LISTENER = """<script>
window.problems = [];
for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"])
  addEventListener(kind, event => problems.push(`${kind}: ${event.message || event.blockedURI || event.type}`), true);
console.error = console.warn = (...words) => problems.push(words.join(" "));
</script>"""
LOOK = """
const all = selector => [...document.querySelectorAll(selector)];
const shown = element => element.getClientRects().length > 0;
const column = (table, index) => all(`${table} tbody tr`).map(row => row.cells[index].innerText);
const choose = (kind, name) => document.querySelector(`[data-chooser=${kind}] button[value="${name}"]`).click();
const visible = () => ({
  tables: all("[aria-labelledby=table3] tbody tr").filter(shown).map(row => row.cells[0].innerText).sort(),
  fusion: all("[aria-labelledby=table6] tbody tr").filter(shown).length,
  curves: all(".pair[data-arch]").filter(shown).map(element => element.dataset.arch),
  scales: all(".figures figure").filter(shown).map(element => element.dataset.arch),
  depth: all(".single g[data-arch]").filter(shown).map(element => element.dataset.arch),
  seeds: [...new Set(all("g[data-seed]").filter(shown).map(element => element.dataset.seed))],
});
"""
DESKTOP = """
result.charts = all("svg").length;
result.owned = typeof window.owned;
result.pictures = all("svg image").length;
result.all = visible();
const head = all("[aria-labelledby=table3] th")[3], button = head.querySelector("button");
result.sorted = [1, 2, 3].map(() => {
  button.click(); return [head.getAttribute("aria-sort"), column("[aria-labelledby=table3]", 3)];
});
all("[aria-labelledby=table3] th")[0].querySelector("button").click();
all("[aria-labelledby=table6] th")[1].querySelector("button").click();
result.fusion = column("[aria-labelledby=table6]", 1);
result.by_name = column("[aria-labelledby=table3]", 0);
result.header_focus = (button.focus(), document.activeElement === button);
choose("arch", "D"); result.d = visible();
choose("arch", "A-LRN"); result.two = visible();
choose("arch", "D"); choose("arch", "A-LRN"); result.none = visible();
choose("arch", "D"); choose("arch", ""); choose("seed", "1"); result.seed = visible();
result.pressed = all("button[aria-pressed=true]").map(element => element.value);
"""
COLOURS = """
result.ground = getComputedStyle(document.documentElement).backgroundColor;
result.text = getComputedStyle(document.querySelector("svg .title")).fill;
result.width = [innerWidth, document.documentElement.scrollWidth];
const table = document.querySelector("table[aria-labelledby=table3]");
result.table_scrolls = table.parentElement.scrollWidth > table.parentElement.clientWidth;
result.readable = all("svg .label").map(element => element.getBoundingClientRect().height);
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(json.loads(json.dumps(fabricated())), folder)
    return folder


@pytest.fixture(scope="module")
def browse(report, tmp_path_factory):
    """A function that opens the page from disk in a headless browser and returns what a script finds there."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser: Debian's package chromium is not installed")
    page = (report / "report.html").read_text()

    def find(script, *flags, width=None):
        folder = tmp_path_factory.mktemp("browser")
        ending = f"<script>{{ const result = {{}}; {LOOK} {script} result.problems = problems;"
        ending += "result.loaded = performance.getEntriesByType('resource').map(entry => entry.name);"
        ending += (
            "const pre = document.createElement('pre'); pre.id = 'found'; pre.textContent = JSON.stringify(result);"
        )
        ending += "top.document.body.append(pre); }</script></body>"
        (folder / "page.html").write_text(page.replace("<head>", f"<head>{LISTENER}").replace("</body>", ending))
        frame = f'<!doctype html><body><iframe src="page.html" style="border: 0; width: {width}px"></iframe>'
        (folder / "frame.html").write_text(frame)  # because a window is at least 500 pixels wide
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
        command += ["--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}", *flags]
        command += [(folder / ("frame.html" if width else "page.html")).as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
        return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)[1]))

    return find


@pytest.fixture(scope="module")
def desktop(browse):
    return browse(DESKTOP, "--window-size=1200,900")


def test_the_page_opens_from_disk_without_errors_or_requests(desktop):
    assert desktop["problems"] == [] and desktop["loaded"] == []
    assert desktop["charts"] == 1 + 7 + 2 * 7 + 2 * 2 and desktop["pictures"] == 4


def test_names_are_text_and_never_run(desktop, report):
    assert desktop["owned"] == "undefined"
    for name in ("report.html", "report.md", "figures/photograph-1-1.svg"):
        text = (report / name).read_text()
        assert HOSTILE not in text and HOSTILE_ATTRIBUTE not in text, name


def test_a_column_sorts_by_click(desktop):
    texts = [f"{62 - LAYERS[a] / 3 - 2 * i:.1f}" for a, stages in STAGES.items() for i in range(len(stages))]
    texts[1] = "not run"
    numbers = sorted((t for t in texts if t != "not run"), key=float)
    expected = [("ascending", [*numbers, "not run"]), ("descending", [*numbers[::-1], "not run"]), ("none", texts)]
    assert [tuple(pair) for pair in desktop["sorted"]] == expected
    assert desktop["by_name"] == [arch for arch, stages in sorted(STAGES.items()) for _ in stages]
    assert desktop["fusion"] == ["44.2", "44.3", "not run"]  # numbers, not texts: as those 3 comes before 25
    assert desktop["header_focus"]  # so that Enter and the space bar sort too


def test_a_net_can_be_chosen(desktop):
    nets = list(LAYERS)
    rows = [arch for arch, stages in STAGES.items() for _ in stages]
    assert desktop["all"] == desktop["none"]
    assert desktop["all"]["curves"] == desktop["all"]["scales"] == nets and desktop["all"]["tables"] == sorted(rows)
    assert desktop["d"]["tables"] == ["D"] * 4 and desktop["d"]["depth"] == ["D"] * 4
    assert desktop["d"]["curves"] == desktop["d"]["scales"] == ["D"]
    assert desktop["d"]["fusion"] == 3  # two with D, and one of other people's
    assert desktop["two"]["curves"] == ["A-LRN", "D"] and desktop["two"]["tables"] == ["A-LRN", *["D"] * 4]
    assert desktop["two"]["fusion"] == 3


def test_a_seed_can_be_chosen(desktop):
    assert desktop["all"]["seeds"] == ["0", "1", "2"] and desktop["seed"]["seeds"] == ["1"]
    assert desktop["seed"]["curves"] == list(LAYERS) and desktop["pressed"] == ["", "1"]


def test_light_and_a_phones_width(browse):
    found = browse(COLOURS, "--blink-settings=preferredColorScheme=1", width=360)
    assert found["problems"] == [] and found["width"] == [360, 360]
    assert found["table_scrolls"]
    assert min(found["readable"]) > 9  # pixels, of the smallest line of text in a chart
    assert (found["ground"], found["text"]) == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")


def test_dark(browse):
    found = browse(COLOURS, "--window-size=1200,900", "--blink-settings=preferredColorScheme=0")
    assert (found["ground"], found["text"]) == ("rgb(20, 23, 27)", "rgb(228, 231, 235)")


class Addresses(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self):
        super().__init__()
        self.found, self.text = [], []

    def handle_starttag(self, tag, attributes):
        names = ("src", "href", "srcset", "data", "action", "xlink:href")
        self.found += [(tag, value) for name, value in attributes if name in names]

    def handle_data(self, data):
        self.text.append(data)


def parsed(page):
    parser = Addresses()
    parser.feed(page)
    return parser


def test_the_page_is_one_file(report):
    page = (report / "report.html").read_text()
    assert {tag for tag, _ in parsed(page).found} == {"image"}
    assert all(value.startswith("data:image/jpeg;base64,") for _, value in parsed(page).found)
    assert not re.search(r"url\(|@import|<link|<iframe", page)
    assert len(page.encode()) < 2**20
    assert sorted(file.name for file in report.iterdir()) == ["figures", "report.html", "report.md"]  # none temporary


def test_the_page_says_what_the_claims_gave(report):
    text = " ".join(" ".join(parsed((report / "report.html").read_text()).text).split())
    assert "✓ holds Local response normalisation does not help" in text
    assert "✗ does not hold Jitter in training beats a fixed scale, D." in text
    assert "– not run Two nets fused beat" in text
    assert "difference +0.42 ± 0.61; paper +0.1." in text and "difference −1.27 ± 0.73; paper +1.2." in text


@pytest.fixture
def bare(tmp_path):
    """The report of a reproduction that ran nothing."""
    empty = {name: [] for name in ("tables", "claims", "depth", "scales", "curves", "photographs")}
    setting = {**fabricated()["setting"], "commit": None, "seeds": []}
    write_report({**fabricated(), **empty, "setting": setting}, tmp_path)
    return tmp_path


def test_a_report_of_nothing(bare):
    page = (bare / "report.html").read_text()
    assert "No learning curves were recorded." in page and "No table was made." in page
    assert not re.search("<svg|The paper's claims|Where the net sees it|Error against depth", page)
    assert "figures/" not in (bare / "report.md").read_text()


def test_markdown_has_the_same_content(report):
    text = (report / "report.md").read_text()
    assert "| A-LRN | 37        | 37       | not run         | 29.7                   |" in text
    assert r"| other \| people's \*net\* " in text
    assert (
        "* ✗ **does not hold** (sec. 4.1): Jitter in training beats a fixed scale, D. difference −1.27 ± 0.73" in text
    )
    assert not re.search(r"(?<!\\)<", text)  # no markup
    shown = re.findall(r"!\[.*?\]\((figures/[^)]*)\)", text)
    assert sorted(shown) == sorted(f"figures/{file.name}" for file in (report / "figures").iterdir())
    for name in shown:
        root = ElementTree.parse(report / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("aria-label")
