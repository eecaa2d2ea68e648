"""The book builds from the records, with warnings as errors, and shows what is there and what is not."""

import base64
import importlib
import inspect
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import BOOK_OPTIONS

from lib.store import results

ROOT = Path(__file__).resolve().parents[1]
THIN = ("transforms", "data", "models", "attacks", "training", "evaluation", "certified", "theory", "geometry")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.images, self.links, self.ids, self.scripts = [], [], set(), []
        self.downloads, self.sortable = {}, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        if tag == "img":
            self.images.append(attrs)
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "a" and "download" in attrs and attrs["href"].startswith("data:"):
            self.downloads[attrs["download"]] = attrs["href"]
        if tag == "script" and attrs.get("src"):
            self.scripts.append(attrs["src"])
        if tag == "table":
            self.sortable += "sortable" in (attrs.get("class") or "").split()


def _pages(html):
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def test_every_page_of_the_toc_is_built(html):
    listed = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
    assert len(listed) >= 5
    for name in listed:
        assert (html / f"{name}.html").is_file()


def test_make_book_builds_it_alike():
    assert f"jupyter-book build book {' '.join(BOOK_OPTIONS)}\n" in (ROOT / "Makefile").read_text()


def _beside_listings(html, page) -> str:
    """The page's markup; of a page that lists source of `lib`, which may speak of anything, without the listing."""
    text = page.read_text()
    if page.is_relative_to(html / "code") or page.is_relative_to(html / "_modules" / "lib"):
        text, listings = re.subn(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)
        assert listings, page.name
    return text


def test_no_page_holds_a_traceback_or_a_broken_value(html):
    for page in _pages(html):
        text = re.sub(r"<[^>]+>", " ", _beside_listings(html, page))
        assert not re.search(r"Traceback|\bnan\b|<NA>|\bNone\b%|[-−]0\.0+(?!\d)", text), page.name


def test_no_directive_stands_in_the_open(html):
    """A fence whose first line is no directive, for a back-tick in it say, is shown as text, without a warning."""
    for page in _pages(html):
        text = _beside_listings(html, page)
        assert not re.search(r"`{3,}|\{(table|figure|exhibit|math|glue:\w+|admonition|numref|ref|doc|eq)\}", text), page.name


def test_no_line_can_begin_with_the_comma_behind_a_formula(html):
    behind_formulas = re.compile(r'(<span class="glued">)?<span class="math [^>]*>[^<]*</span>([,.;:)])')
    formulas = [formulas for page in _pages(html) for formulas in behind_formulas.findall(page.read_text())]
    assert len(formulas) > 100
    assert [mark for glue, mark in formulas if not glue] == []


def test_every_exhibit_leads_to_its_code_and_records(html):
    for source in sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]):
        page = html / ("notebooks" if source.suffix == ".ipynb" else "") / f"{source.stem}.html"
        text = source.read_text(encoding="utf-8")
        assert page.read_text().count('<p class="origin">') == text.count("```{exhibit} "), source.name


@pytest.mark.parametrize("module", THIN)
def test_the_api_page_has_every_public_function_with_its_source(html, module):
    imported = importlib.import_module(f"lib.{module}")
    names = [
        name
        for name, value in vars(imported).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == imported.__name__
        and value.__doc__
    ]
    assert names
    text = (html / "api.html").read_text()
    for name in names:
        assert f'id="lib.{module}.{name}"' in text, name
        assert f'href="_modules/lib/{module}.html#{name}"' in text, name
    assert "system-message" not in text


def test_every_figure_has_alternative_text(html):
    figures = [image for page in _pages(html) for image in _Page(page.read_text()).images if "_images" in image.get("src", "")]
    assert len(figures) >= 6
    assert all(len(image.get("alt") or "") > 20 for image in figures)


def test_internal_links_resolve(html):
    pages = {page: _Page(page.read_text()) for page in _pages(html)}
    for page, parsed in pages.items():
        for link in parsed.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            file, _, anchor = link.partition("#")
            # The page for lost readers is served from any address, so its links begin at the site's root.
            beside = html if file.startswith("/") and page.name == "404.html" else page.parent
            target = (beside / file.removeprefix("/")).resolve() if file else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target in pages:
                assert anchor in pages[target].ids, f"{page.name}: {link}"


def test_numbers_shown_are_the_records(html, monkeypatch):
    """Robust accuracies, wherever one is recorded; what is stale or missing is said to be."""
    monkeypatch.delenv("RESULTS_DIR", raising=False)
    count = 0
    pages = {"table-2": "notebooks/sec3", "table-3": "notebooks/sec3", "section-2.2": "notebooks/appB", "precision": "speed"}
    for exhibit, page in pages.items():
        text = (html / f"{page}.html").read_text()
        ours = results.select(exhibit)
        metric = "certified_error" if exhibit == "section-2.2" else "robust_accuracy"
        rows = ours[(ours["metric"] == metric) & (ours["split"] == "test") & (ours["status"] == "recorded")]
        # A page shows one number for a cell, the mean over its seeds.
        values = rows.groupby(["dataset", "transform", "model", "training", "recipe", "evaluation"])["value"].mean()
        for value in values:
            assert f"{value:.1f}" in text, exhibit
        count += len(values)
        stale = (ours["status"] == "stale").any()
        assert not stale or "some records are stale" in text or "not computed yet" in text
        assert ours.attrs["complete"] == ours.attrs["expected"] or "not computed yet" in text
    assert count


def test_simulated_numbers_shown_are_the_records(html, monkeypatch):
    monkeypatch.delenv("RESULTS_DIR", raising=False)
    text = (html / "notebooks" / "sec2.html").read_text()
    rows = results.tables("example-1")
    shown = rows[rows["d"].isin((2, 10, 100))]
    assert len(shown)
    for _, row in shown.iterrows():
        for column in ("axis", "diagonal", "diagonal_in_cube"):
            assert f"{100 * row[column] / row['n']:.2f}\u00a0±" in text
    assert "94.38" in text
    assert "97.81" in text


def test_downloads_are_the_records(html, monkeypatch):
    monkeypatch.delenv("RESULTS_DIR", raising=False)
    links = _Page((html / "notebooks" / "appC.html").read_text()).downloads
    assert {f"table-{number}{kind}.csv" for number in (2, 3, 4, 5) for kind in ("", "-records")} == links.keys()
    for number in (2, 3, 4, 5):
        content = base64.b64decode(links[f"table-{number}-records.csv"].partition("base64,")[2])
        downloaded = pd.read_csv(io.BytesIO(content), dtype={"recipe": str})
        ours = results.select(f"table-{number}")
        assert list(downloaded.columns) == list(ours.columns)
        assert downloaded["value"].tolist() == pytest.approx(ours["value"].tolist(), nan_ok=True)


def test_tables_of_appendix_c_can_be_sorted(html):
    page = _Page((html / "notebooks" / "appC.html").read_text())
    assert page.sortable == 2 + 2 * 3
    assert any("tables.js" in source for source in page.scripts)


@pytest.mark.parametrize(
    ("clicks", "column", "expected"),
    [
        (1, 1, "70.1 70.1 (-1.0) 98.5 – n/a"),
        (2, 1, "98.5 70.1 70.1 (-1.0) – n/a"),
        (3, 1, "98.5 – 70.1 n/a 70.1 (-1.0)"),
        (1, 0, "smooth 2 smooth 3 smooth 10 smooth 11 smooth 20"),
        (2, 0, "smooth 20 smooth 11 smooth 10 smooth 3 smooth 2"),
    ],
)
def test_a_click_on_a_heading_sorts(tmp_path, clicks, column, expected):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    rows = [("smooth 10", "98.5"), ("smooth 2", "–"), ("smooth 3", "70.1"), ("smooth 20", "n/a"), ("smooth 11", "70.1 (-1.0)")]
    body = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    page = tmp_path / "page.html"
    page.write_text(
        f"<meta charset='utf-8'><script src='{(ROOT / 'book' / '_static' / 'tables.js').as_uri()}'></script>"
        f"<table class='sortable'><thead><tr><th>variant</th><th>robust</th></tr></thead><tbody>{body}</tbody></table>"
        f"<script>addEventListener('DOMContentLoaded', () => {{ for (let i = 0; i < {clicks}; i++) "
        f"document.querySelectorAll('th button')[{column}].click(); }})</script>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    dom = subprocess.run([browser, *options, page.as_uri()], capture_output=True, text=True, timeout=120).stdout
    cells = re.findall(r"<td>(.*?)</td>", dom)
    assert " ".join(cells[column::2]) == expected
    states = re.findall(r'aria-sort="(\w+)"', dom)
    assert states[column] == {1: "ascending", 2: "descending", 3: "none"}[clicks]


def test_no_page_names_a_table_of_the_paper_bare(html):
    """The paper's tables are told from ours wherever a page names one by number."""
    named = 0
    for page in sorted(html.rglob("*.html")):
        article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").find("article")
        if article is None or page.parent.name == "code":
            continue
        for other in article.select("pre, code, script, style, svg, a.reference span.std-numref, .caption-number, .citation"):
            other.decompose()
        text = re.sub(r"\s+", " ", article.get_text())
        for mention in re.finditer(r"\b(Table|Figure)s? \d[^.;]{0,40}", text):
            assert "[paper]" in mention[0], (page.name, mention[0])
            named += 1
    assert named > 50
