"""The built book as its readers meet it, in Chromium: every page on a screen and on a phone, in the light and in the dark."""

import re
import shutil
import threading
from dataclasses import dataclass
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from lib import sensitivity

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[1]
LISTED = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
RECORD = "record/laptop/mnist/smooth-8/lenet5-w0.25/pgd/n60000/default"  # of three seeds, attacked in every way
MEASURED = "record/laptop/measured/inter_class_distance/mnist/original"
PAGES = [*LISTED, "search", "genindex", "code/sec3", "code/attacks", RECORD, MEASURED]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


THEMES, WIDTHS = ("light", "dark"), (1280, 390)


@dataclass
class Visit:
    """What one visit to a page in one theme found; of `overflow`, `cut` and `unfocused` at both widths, of `faults` at one."""

    asked: str
    theme: str
    errors: list[str]
    requests: list[str]
    overflow: list[str]
    cut: list[str]
    images: list[str]
    formulas: dict
    links: list[str]
    unfocused: list[str]
    faults: list[str]


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.skip("needs Chromium: chromium, chromium-browser or google-chrome on the path")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


# What sticks out of the page to the right, outermost first.
_OVERFLOW = """() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return [];
  const out = [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1);
  return [`${root.scrollWidth} > ${root.clientWidth}`, ...out.slice(0, 5).map((e) => e.outerHTML.slice(0, 120))];
}"""
# Formulas whose end is hidden, and that cannot be scrolled to it.
_CUT = """() => [...document.querySelectorAll("mjx-math")].filter((e) => {
  const right = e.getBoundingClientRect().right;
  for (let box = e.parentElement; box; box = box.parentElement) {
    const { overflowX } = getComputedStyle(box);
    if (["auto", "scroll"].includes(overflowX)) return false;
    if (overflowX !== "visible" && right > box.getBoundingClientRect().right + 1) return true;
  }
  return false;
}).map((e) => `${e.closest("p, li, td, dd")?.textContent.slice(0, 60)} … ${e.textContent.slice(0, 60)}`)"""
# Pictures without words, or that are not there.
_IMAGES = """() => [...document.querySelectorAll("img, svg[role=img]")].filter((e) => {
  if (e.closest("[aria-hidden=true]")) return false;
  const said = e.getAttribute("alt") ?? e.getAttribute("aria-label") ?? e.querySelector("title")?.textContent ?? "";
  return !said.trim() || (e.complete && e.naturalWidth === 0);
}).map((e) => e.outerHTML.slice(0, 160))"""
_FORMULAS = """async () => {
  await window.MathJax?.startup?.promise;
  const asked = [...document.querySelectorAll("span.math, div.math")];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const raw = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const verbatim = node.parentElement.closest("pre, code, script, style, mjx-container");
    if (!verbatim && /\\\\[()[\\]]|\\$\\$/.test(node.data)) raw.push(node.data);
  }
  return {
    asked: asked.length,
    unset: asked.filter((e) => !e.querySelector("mjx-container")).map((e) => e.textContent),
    wrong: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) => e.textContent),
    raw,
  };
}"""
# Each element that the tabulator key reaches, and whose look is the same with the focus and without it. The rows of a long
# table are alike, and a page is laid out anew for each element that is looked at: the first twenty stand for the others.
_UNFOCUSED = """() => {
  const look = (e) => {
    const of = (style) => [style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow, style.borderColor,
      style.backgroundColor, style.textDecorationLine, style.textDecorationThickness, style.color].join();
    return [e, e.parentElement, e.nextElementSibling ?? e].map((part) => of(getComputedStyle(part))).join();
  };
  document.activeElement.blur();
  const reached = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex]")].filter(
    (e) => e.tabIndex >= 0 && !e.disabled && !e.closest("tbody tr:nth-child(n+20)") &&
      e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getBoundingClientRect().width > 1
  );
  const before = reached.map(look);
  return reached.filter((e, i) => {
    e.focus({ preventScroll: true });
    const seen = document.activeElement !== e || look(e) !== before[i];
    e.blur();
    return !seen;
  }).map((e) => e.outerHTML.slice(0, 160));
}"""


def _visit(chromium, address: str, theme: str) -> Visit:
    context = chromium.new_context(color_scheme=theme, reduced_motion="reduce")
    page = context.new_page()
    errors, requests, overflow, cut, unfocused = [], [], [], [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    # Colours go by the theme, places by the width: axe looks at each once, last, because its page is cut short.
    widths = sorted(WIDTHS, key=lambda width: WIDTHS.index(width) == THEMES.index(theme))
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        if width == widths[0]:
            page.goto(address)
            formulas, images = page.evaluate(_FORMULAS), page.evaluate(_IMAGES)
            links = page.evaluate("[...document.querySelectorAll('a[href], link[href]')].map((e) => e.href)")
            shown = page.evaluate("document.documentElement.dataset.theme")
        page.wait_for_timeout(_SETTLED)
        overflow += [f"{width}: {violations}" for violations in page.evaluate(_OVERFLOW)]
        cut += [f"{width}: {violations}" for violations in page.evaluate(_CUT)]
        page.keyboard.press("Tab")  # from here on the browser knows that its reader uses a keyboard
        unfocused += [f"{width}: {violations}" for violations in page.evaluate(_UNFOCUSED)]
    page.evaluate(_SHORTEN)
    violations = Axe().run(page, context=_PARTS, options=_AXE).response["violations"]
    faults = [
        f"{width}: {fault['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for fault in violations
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    context.close()
    outside = [url for url in requests if urlparse(url).scheme not in ("file", "data", "blob")]
    return Visit(theme, shown, errors, outside, overflow, cut, images, formulas, links, unfocused, faults)


# What MathJax sets, listings of code and the rows of a long table are too many to be looked at each. Axe walks through what
# it is told to leave out as well, so most of that is taken away before: a page of 30,000 elements has 2,600 left.
_SHORTEN = """() => {
  for (const e of document.querySelectorAll("tbody tr:nth-child(n+20)")) e.remove();
  for (const e of document.querySelectorAll("mjx-container, .source")) e.replaceChildren("x");
}"""
_PARTS = {"exclude": [["mjx-container"], [".source"]]}
_SETTLED = 300  # milliseconds, after which the theme has looked again at what can be scrolled
_AXE = {"resultTypes": ["violations"], "preload": False}


@pytest.fixture(scope="module", params=[(name, theme) for name in PAGES for theme in THEMES], ids=lambda param: "-".join(param))
def visit(request, chromium, html) -> Visit:
    name, theme = request.param
    return _visit(chromium, (html / f"{name}.html").as_uri(), theme)


def test_theme_is_the_reader_s(visit):
    assert visit.theme == visit.asked


def test_nothing_goes_wrong_in_the_console(visit):
    assert visit.errors == []


def test_no_request_leaves_the_page(visit):
    assert visit.requests == []


def test_nothing_sticks_out(visit):
    assert visit.overflow == []
    assert visit.cut == []


def test_every_image_is_there_and_told_in_words(visit):
    assert visit.images == []


def test_every_formula_is_set(visit):
    assert visit.formulas["unset"] == []
    assert visit.formulas["wrong"] == []
    assert visit.formulas["raw"] == []


def test_the_keyboard_s_place_is_visible(visit):
    assert visit.unfocused == []


def test_axe_finds_no_serious_fault(visit):
    assert visit.faults == []


@pytest.mark.parametrize("theme", THEMES)
def test_the_report_on_a_folder_of_images(chromium, committed_records, tmp_path, theme):
    """One file that is mailed: it stands alone, is read on a phone, and in the dark."""
    page, _ = sensitivity.report.write(sensitivity.recorded("digits"), tmp_path, command="python -m lib sensitivity digits")
    report_visit = _visit(chromium, page.as_uri(), theme)
    assert (
        report_visit.errors
        + report_visit.requests
        + report_visit.overflow
        + report_visit.images
        + report_visit.unfocused
        + report_visit.faults
        == []
    )


@cache
def _anchors(page: Path) -> set[str]:
    """The ids in a page."""
    return set(re.findall(r'\bid="([^"]+)"', page.read_text()))


def _broken(links: list[str]) -> list[str]:
    broken = []
    for link in links:
        parts = urlparse(link)
        if parts.scheme != "file":
            continue
        target = Path(unquote(parts.path))
        fragment = unquote(parts.fragment)
        if not target.exists() or (fragment and target.suffix == ".html" and fragment not in _anchors(target)):
            broken.append(link)
    return broken


def test_links_and_downloads_resolve(visit):
    assert _broken(visit.links) == []


# A page without a fault, at whose end one is put; each is found, and nothing else is. Its theme is the reader's.
SOUND = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A page</title></head><body><main>'
    '<h1 id="top">A page</h1><p>With <a href="#top">a link</a>.</p>%s</main><script>document.documentElement.dataset.theme = '
    "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'</script></body></html>"
)
DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
FAULTS = {
    "a picture without words": (f'<img src="{DOT}">', {"images", "faults"}),
    "a picture that is not there": ('<img src="no.png" alt="A picture">', {"images", "errors"}),
    "a request to elsewhere": ('<img src="https://example.invalid/a.png" alt="A picture">', {"requests", "images", "errors"}),
    "a formula that is cut": (
        '<p style="width: 9px; overflow: hidden"><mjx-math style="white-space: nowrap">2 + 2 = 4</mjx-math></p>',
        {"cut"},
    ),
    "something too wide": ('<div style="width: 2000px">wide</div>', {"overflow"}),
    "an error in the console": ("<script>console.error('wrong')</script>", {"errors"}),
    "an exception": ("<script>throw new Error('wrong')</script>", {"errors"}),
    "a formula that is not set": (r'<p><span class="math">\(x\)</span></p>', {"unset", "raw"}),
    "a formula in the open": ("<p>$$x$$</p>", {"raw"}),
    "a focus that cannot be seen": ('<p><a href="#top" style="outline: none">A link</a></p>', {"unfocused"}),
    "pale print": ('<p style="color: #ccc; background: #fff">pale</p>', {"faults"}),
    "a field without a name": ("<input>", {"faults"}),
    "a link to nowhere": ('<p><a href="no.html">A link</a></p>', {"links"}),
    "a link to no place of the page": ('<p><a href="#no">A link</a></p>', {"links"}),
    "a theme of its own": (
        "<script>addEventListener('load', () => document.documentElement.dataset.theme = 'pink')</script>",
        {"theme"},
    ),
}


def _found(chromium, file: Path, fault: str) -> set[str]:
    """The names of the checks that a page with `fault` fails."""
    file.write_text(SOUND % fault)
    visit = _visit(chromium, file.as_uri(), "dark")
    lists = {name: getattr(visit, name) for name in ("errors", "requests", "overflow", "cut", "images", "unfocused", "faults")}
    lists |= {name: visit.formulas[name] for name in ("unset", "wrong", "raw")}
    lists["links"] = _broken(visit.links)
    return {name for name, entries in lists.items() if entries} | ({"theme"} if visit.theme != visit.asked else set())


def test_a_sound_page_passes(chromium, tmp_path):
    assert _found(chromium, tmp_path / "page.html", "") == set()


@pytest.mark.parametrize(("fault", "checks"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found(chromium, tmp_path, fault, checks):
    assert _found(chromium, tmp_path / "page.html", fault) == checks


def test_some_pages_hold_formulas_and_downloads(html):
    """What the tests above look for is there to be found."""
    text = (html / "notebooks" / "sec3.html").read_text()
    assert 'class="math' in text
    assert 'href="../records/table-3.csv" download' in text
    assert 'href="../code/sec3.html#line-' in text


def _open(chromium, html, name: str, **options) -> Page:
    page = chromium.new_context(viewport={"width": 1280, "height": 900}, **options).new_page()
    page.goto((html / f"{name}.html").as_uri())
    return page


SLIDERS = [("index", "smooth"), ("index", "saturate"), ("index", "gamma"), ("notebooks/sec3", "smooth")]
SLIDERS += [("notebooks/sec3", "saturate"), ("notebooks/sec4", "gamma")]


@pytest.mark.parametrize(("name", "slider"), SLIDERS)
def test_the_slider_moves_everything_together(chromium, html, name, slider):
    page = _open(chromium, html, name)
    block = page.locator(f"#levels-{slider}")
    control = block.get_by_role("slider")
    frames = block.locator("li")
    last = int(control.get_attribute("max"))
    assert frames.count() == last + 1 > 2

    def shown():
        (frame,) = (frames.nth(i) for i in range(last + 1) if frames.nth(i).is_visible())
        picture, histogram = frame.locator("img").get_attribute("src"), frame.locator("svg path").first.get_attribute("d")
        numbers, marker = frame.locator("tbody").inner_text(), block.locator(".levels-marker").get_attribute("x1")
        return (picture, histogram, marker), numbers, control.get_attribute("aria-valuetext")

    control.focus()
    page.keyboard.press("Home")
    states = [shown()]
    for _ in range(last):
        page.keyboard.press("ArrowRight")
        states.append(shown())
    assert all(len(set(parts)) == last + 1 for parts in zip(*(state[0] for state in states), strict=True))
    assert len({sentence for _, _, sentence in states}) == last + 1
    for _, numbers, sentence in states:
        assert {*re.findall(r"[\d.]+%", sentence)} <= {*re.findall(r"[\d.]+%", numbers)}
    page.context.close()


def test_the_slider_shows_the_paper_s_numbers(chromium, html):
    page = _open(chromium, html, "notebooks/sec3")
    sentences = [frame.inner_text() for frame in page.locator("#levels-saturate li:visible").all()]
    assert len(sentences) == 1
    assert "43.2%" in sentences[0]  # Table 3, robust accuracy on the original
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "variants"), [("gallery-table-2", 5), ("gallery-table-3", 0)])
def test_the_gallery_s_slider_moves_the_attack(chromium, html, name, variants, width):
    """MNIST's is always there where the book is built with it at hand; else the page says that it is not."""
    page = _open(chromium, html, "notebooks/sec3")
    page.set_viewport_size({"width": width, "height": 900})
    block = page.locator(f"#levels-{name}")
    if not block.count():
        assert page.get_by_text("whose images are not on this machine").count() >= 1
        page.context.close()
        return
    control = block.get_by_role("slider")
    control.focus()
    page.keyboard.press("Home")
    states = []
    for _ in range(5):
        frame = block.locator("li:visible")
        assert frame.count() == 1
        cards = frame.locator(".gallery-card")
        assert cards.count() >= max(variants, 1)
        assert all(picture.is_visible() for picture in frame.locator("img").all())
        assert cards.evaluate_all("cards => cards.filter((card) => card.scrollWidth > card.clientWidth + 1).length") == 0
        states.append((control.get_attribute("aria-valuetext"), frame.locator("img").first.get_attribute("src")))
        page.keyboard.press("ArrowRight")
    assert len({sentence for sentence, _ in states}) == len({picture for _, picture in states}) == 5
    page.context.close()


# By what a link of Section 3 leads to: such a link, and what its preview holds.
PREVIEWS = {
    "a citation": ("a.reference[href*='references.html#']", ".citation"),
    "an equation": ("a.reference[href='#equation-eq-saturate']", "mjx-container"),
    "a figure": ("a.reference[href='#fig-1a']", "figure img:visible"),
    "a table": ("a.reference[href='#tab-2']", "table"),
    "a term": ("a.term", "dd"),
}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_link_previews_what_it_leads_to(chromium, html, width, theme):
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page, requests = context.new_page(), []
    page.on("request", lambda request: requests.append(request.url))
    page.goto((html / "notebooks" / "sec3.html").as_uri())
    preview = page.locator(".tippy-box")
    for name, (where, shown) in PREVIEWS.items():
        link = page.locator(f"article {where}").first
        assert preview.count() == 0
        link.hover()
        preview.locator(shown).first.wait_for()
        box = preview.bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= width, name
        preview.hover()  # it stays where one goes to read it
        page.wait_for_timeout(_SETTLED)
        assert preview.count() == 1, name
        faults = Axe().run(page, context=".tippy-box", options=_AXE).response["violations"]
        assert [fault["id"] for fault in faults if fault["impact"] in ("serious", "critical")] == [], name
        page.keyboard.press("Escape")
        assert preview.count() == 0, name
        page.mouse.move(0, 0)
        link.focus()  # and by the keyboard
        preview.wait_for()
        page.keyboard.press("Escape")
        assert preview.count() == 0, name
    assert [url for url in requests if urlparse(url).scheme not in ("file", "data", "blob")] == []
    context.close()


def test_what_a_cell_shows_follows_the_dark_theme(chromium, html):
    page = _open(chromium, html, "notebooks/yours", color_scheme="dark")
    parts = page.locator(".cell_output .text_html:visible, .cell_output .text_html img:visible")
    grounds = parts.evaluate_all("parts => parts.map((part) => getComputedStyle(part).backgroundColor)")
    assert {*grounds} == {"rgba(0, 0, 0, 0)"}
    page.context.close()


@pytest.mark.parametrize("theme", THEMES)
def test_a_table_keeps_its_first_column_in_view_on_a_phone(chromium, html, theme):
    page = chromium.new_context(viewport={"width": 390, "height": 900}, color_scheme=theme).new_page()
    page.goto((html / "notebooks/appC.html").as_uri())
    table = page.locator(".pst-scrollable-table-container:has(table.table)").first
    table.scroll_into_view_if_needed()
    geometry = table.evaluate("""(box) => {
      box.scrollLeft = 150;
      const cell = box.querySelector("tbody td");
      const left = cell.getBoundingClientRect().left - box.getBoundingClientRect().left;
      return [box.scrollLeft, left, getComputedStyle(cell).backgroundColor];
    }""")
    assert geometry[0] > 100
    assert abs(geometry[1]) < 2
    assert geometry[2] != "rgba(0, 0, 0, 0)"  # what scrolls below it does not shine through
    page.context.close()


def test_without_javascript_every_level_and_figure_stands(chromium, html):
    page = _open(chromium, html, "notebooks/sec3", java_script_enabled=False)
    levels = page.locator("#levels-saturate li")
    assert levels.count() == 14
    assert all(level.is_visible() for level in levels.all())
    assert page.get_by_role("slider").count() == 0
    figures = page.locator(".figure-box > img:not(.phone)")
    assert figures.count() >= 6
    assert all(figure.is_visible() for figure in figures.all())
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("place", "figure"), [("index", "fig-claim"), ("notebooks/appB", "fig-own-settings")])
def test_a_figure_fits_a_phone(chromium, html, place, figure, width):
    """A phone shows its panels below one another, within its screen; a larger screen shows them side by side."""
    page = _open(chromium, html, place)
    page.set_viewport_size({"width": width, "height": 900})
    images = page.locator(f"#{figure} .figure-box > img")
    assert images.count() == 2
    shown = [image for image in images.all() if image.is_visible()]
    assert len(shown) == 1
    shown[0].scroll_into_view_if_needed()
    shown[0].evaluate("image => image.decode()")
    box = shown[0].bounding_box()
    assert (box["height"] > box["width"]) == (width == 390)
    assert box["x"] > 0
    assert box["x"] + box["width"] <= width
    page.context.close()


def test_numbers_of_ours_lead_to_their_records(chromium, html):
    page = _open(chromium, html, "notebooks/sec3")
    rows = page.locator("#tab-2 tbody tr")
    row = rows.filter(has_text=re.compile("^smooth 8"))
    links = row.locator("a.record")
    assert links.count() == 4  # the four quantities of ours
    shown = links.nth(2).inner_text()
    links.nth(2).click()
    assert page.url.endswith(f"{RECORD}.html")
    assert page.locator("article h1").inner_text().startswith("MNIST, smooth 8")
    mean = page.locator("#seeds + p + div tr", has=page.get_by_text("robust accuracy", exact=True)).first.locator("td")
    assert f"{float(mean.nth(2).inner_text().rstrip('%')):.1f}" == shown.split(" ")[0]
    mean.nth(4).get_by_role("link").first.click()
    assert page.url.endswith("#seed0-pgd")
    assert page.get_by_text("python -m lib check mnist/smooth-8/lenet5-w0.25/pgd/n60000/default/seed0 --scale laptop").count()
    page.context.close()


def test_every_number_s_record_has_a_page(html):
    """Each link to a record leads to a page of the book, and none to a file that only the repository has."""
    count = 0
    for page in [*html.glob("*.html"), *html.glob("notebooks/*.html")]:
        for target in re.findall(r'<a class="record" href="([^"]+)"', page.read_text(encoding="utf-8")):
            assert (page.parent / target.partition("#")[0]).is_file(), f"{page.name}: {target}"
            assert "record/" in target
            count += 1
    assert count > 500


def test_records_are_not_searched_nor_listed(html):
    assert "record/" not in (html / "searchindex.js").read_text(encoding="utf-8")
    contents = re.search(r'<nav class="bd-links.*?</nav>', (html / "index.html").read_text(encoding="utf-8"), re.DOTALL)[0]
    assert "record/" not in contents
    sizes = [page.stat().st_size for page in (html / "record").rglob("*.html")]
    assert len(sizes) > 200
    assert max(sizes) < 150_000


def test_search_finds_a_page(chromium, html):
    page = chromium.new_context().new_page()
    page.goto((html / "search.html").as_uri() + "?q=certificate")
    page.locator("#search-results li a").first.wait_for()
    assert page.locator("#search-results li a", has_text="Appendix B").count() or page.locator("#search-results li").count() > 1
    page.context.close()


def test_a_lost_reader_finds_the_book(chromium, html):
    """The page for addresses that are none, as a server gives it out; at any depth its links lead to the book."""

    class Handler(SimpleHTTPRequestHandler):
        def send_error(self, code, *_):
            self.send_response(code)
            self.end_headers()
            self.wfile.write((html / "404.html").read_bytes())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=html)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = chromium.new_context().new_page()
        missing = []
        page.on("response", lambda response: missing.append(response.url) if response.status == 404 else None)
        page.goto(f"http://127.0.0.1:{server.server_port}/no/such/page.html")
        assert [urlparse(url).path for url in missing] == ["/no/such/page.html"]
        page.get_by_role("link", name="The first page").click()
        assert urlparse(page.url).path == "/index.html"
        page.context.close()
        server.shutdown()
