"""The book builds from the records, with warnings as errors, and shows what is there and what is not."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lib import results

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["--all", "-W", "--keep-going", "-n"]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The folder of the built book. Built from the committed records, whatever the environment says.

    BOOK_DIR names a folder in which it stays; `BOOK_DIR=book` leaves it where `make book` does.
    """
    kept = os.environ.get("BOOK_DIR")
    target = ROOT / kept if kept else tmp_path_factory.mktemp("book")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ROOT / "book", "--path-output", target]
    own = {name: value for name, value in os.environ.items() if name not in ("RESULTS_DIR", "CHECKPOINT_DIR", "CIFAR10")}
    done = subprocess.run([*command, *OPTIONS], env=own, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    yield target / "_build" / "html"
    if not kept:
        shutil.rmtree(target)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.images, self.links, self.ids, self.scripts = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        if tag == "img":
            self.images.append(attrs)
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])


def _pages(html):
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def test_every_page_of_the_toc_is_built(html):
    listed = re.findall(r"(?:file|root): (\S+)", (ROOT / "_toc.yml").read_text())
    assert len(listed) >= 5
    for name in listed:
        assert (html / f"{name}.html").is_file()


def test_make_book_builds_it_alike():
    assert f"jupyter-book build book {' '.join(OPTIONS)}\n" in (ROOT / "Makefile").read_text()


def test_no_page_holds_a_traceback_or_a_broken_value(html):
    for page in _pages(html):
        text = re.sub(r"<[^>]+>", " ", page.read_text())
        assert not re.search(r"Traceback|\bnan\b|<NA>|\bNone\b%", text), page.name


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
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target in pages:
                assert anchor in pages[target].ids, f"{page.name}: {link}"


def test_numbers_shown_are_the_records(html, monkeypatch):
    monkeypatch.delenv("RESULTS_DIR", raising=False)
    text = (html / "notebooks" / "sec3.html").read_text()
    ours = results.frame(results.choose("table-3"))
    robust = ours[(ours["metric"] == "robust_accuracy") & (ours["split"] == "test")]
    recorded = robust.loc[robust["status"] == "recorded", "value"]
    assert len(recorded)
    for value in recorded:
        assert f"{value:.1f}" in text
    assert ("some records are stale" in text) == (ours["status"] == "stale").any()
    assert "not computed yet" in text or "14 of 14" in text


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
