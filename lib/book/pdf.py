"""Joins the pages of the built book into one document, whose links stay within it, and prints that as a PDF."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, Tag
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, TextStringObject

from lib.book import chromium

# Parts that do not work on paper: buttons, folded code, links to files in the book's folder.
_SCREEN = ".headerlink, .origin, .copybtn, details.hide, .prev-next-footer, script"
_STYLE = """
@page { size: A4; margin: 18mm 16mm 20mm; @bottom-center { content: counter(page); font-size: 9pt; } }
html { font-size: 8.5pt; }
body { background: #fff; color: #000; }
main { max-width: none; margin: 0; }
article { break-before: page; padding: 0; }
nav.contents { break-before: page; }
nav.contents li { margin: 0.3rem 0; }
.title { padding-top: 30vh; text-align: center; }
figure, .admonition-title, .math { break-inside: avoid; }
figure img { max-height: 22cm; }
figure:has(.levels) { break-inside: auto; }
.levels-frames > li, .levels-chart { break-inside: avoid; }
h1, h2, h3, h4, caption { break-after: avoid; break-inside: avoid; }
tr, div.cell_input, pre { break-inside: avoid; }
tbody tr:nth-child(-n+2), tbody tr:nth-last-child(-n+2) { break-before: avoid; }
table.table:not(.claims):not(:has(tbody tr:nth-child(16))) { break-inside: avoid; }
p, li { orphans: 3; widows: 3; }
table.table { font-size: 7.5pt; width: 100%; }
table.table td, table.table th { padding: 0.15rem 0.3rem; }
.pst-scrollable-table-container, .highlight pre, .figure-box { overflow: visible !important; max-height: none !important; }
.pst-scrollable-table-container { container-type: normal; }
table.table caption { position: static; width: auto; }
table.filterable thead th { position: static; }
table.filterable:not(.claims) { font-size: 5.5pt; line-height: 1.2; }
table.filterable:not(.claims) :is(td, th) { padding: 0 0.15rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 8pt; }
p, li, td, code { overflow-wrap: break-word; }
mjx-container { font-size: 100% !important; }
"""


def _slug(page: str) -> str:
    return re.sub(r"\W+", "-", page)


def _pages(index: BeautifulSoup) -> list[str]:
    """The pages in the order of the table of contents, without `.html`; the first page first."""
    targets = [link["href"].partition("#")[0] for link in index.select("nav.bd-links a.internal[href]")]
    return list(dict.fromkeys(["index", *(href.removesuffix(".html") for href in targets if href.endswith(".html"))]))


def document(html: Path) -> str:
    """The whole book, built in the folder `html`, as one page of HTML, which refers to the folder's pictures and styles.

    FileNotFoundError where there is no book.
    """
    if not (html / "index.html").is_file():
        raise FileNotFoundError(f"{html} is not a built book (it has no index.html); build it with `make book`")
    index = _read(html, "index")
    pages = _pages(index)
    articles = [_article(html, page, pages) for page in pages]
    titles = [article.find("h1").get_text(" ", strip=True) for article in articles]
    contents = "".join(f'<li><a href="#{_slug(p)}">{title}</a></li>' for p, title in zip(pages, titles, strict=True))
    styles = "".join(str(_resolved(link, "href", html)) for link in index.select('link[rel="stylesheet"]'))
    mathjax_settings = next((str(script) for script in index.find_all("script") if "window.MathJax" in script.text), "")
    stamp = index.select_one("p.built")
    authors, title = index.select_one(".component-author"), index.title.text.rpartition("—")[2].strip()
    mathjax = (html / "_static" / "mathjax" / "tex-chtml.js").resolve().as_uri()
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>'
        f"{styles}<style>{_STYLE}</style>{mathjax_settings}<script src='{mathjax}'></script></head><body>"
        f'<div class="title"><p style="font-size:2rem">{title}</p>'
        f"<p>{authors.get_text(' ', strip=True).removeprefix('By ') if authors else ''}</p>{stamp or ''}</div>"
        f'<nav class="contents"><p style="font-size:1.5rem">Contents</p><ol>{contents}</ol></nav>'
        f'<main class="bd-content">{"".join(map(str, articles))}</main></body></html>'
    )


def _read(html: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((html / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def _article(html: Path, page: str, pages: Sequence[str]) -> Tag:
    """The content of a page: ids carry the page's name, links lead to where their target stands in the one document."""
    article = _read(html, page).select_one("article.bd-article")
    for part in article.select(_SCREEN):
        part.decompose()
    for cell in article.select("div.cell"):  # it is empty on paper, and would separate a heading from its text
        if not cell.get_text(strip=True) and not cell.find(["img", "svg"]):
            cell.decompose()
    for block in article.select(".levels") if page == "index" else ():  # Sections 3 and 4 hold them
        if section := block.find_parent("section"):
            section.decompose()
    for element in article.find_all(id=True):
        element["id"] = f"{_slug(page)}--{element['id']}"
    for image in article.find_all("img"):
        if not image["src"].startswith("data:"):
            _resolved(image, "src", (html / page).parent)
    for link in article.find_all("a", href=True):
        path, _, anchor = link["href"].partition("#")
        if re.match(r"[a-z]+:", link["href"]):
            continue
        target = os.path.relpath((html / page).parent / unquote(path), html).removesuffix(".html") if path else page
        if target in pages:
            link["href"] = f"#{_slug(target)}--{unquote(anchor)}" if anchor else f"#{_slug(target)}"
        else:
            link.unwrap()  # a file beside the pages, which the PDF does not hold
    article["id"] = _slug(page)
    return article


def _resolved(element: Tag, attribute: str, folder: Path) -> Tag:
    """`element` with the file that it names given in full."""
    file = (folder / unquote(element[attribute].partition("?")[0])).resolve()
    element[attribute] = file.as_uri()
    return element


def write(html: Path, file: Path) -> None:
    """Write the book built in the folder `html` as a PDF, with an outline, printed by the Chromium of this machine.

    FileNotFoundError where there is no book or no Chromium, OSError where it prints nothing.
    """
    text = document(html)
    with tempfile.TemporaryDirectory() as folder:
        page, pdf = Path(folder) / "book.html", Path(folder) / "book.pdf"
        page.write_text(text, encoding="utf-8")
        options = ["--no-pdf-header-footer", "--generate-pdf-document-outline", f"--print-to-pdf={pdf}"]
        # The time budget is virtual: formulas are set before it ends.
        messages = chromium.run(page.as_uri(), *options, "--virtual-time-budget=120000")
        if not pdf.is_file():
            raise OSError(f"Chromium printed nothing: {messages[-500:]}")
        file.parent.mkdir(parents=True, exist_ok=True)
        _with_headings(pdf, BeautifulSoup(text, "html.parser")).write(file)


def _with_headings(pdf: Path, soup: BeautifulSoup) -> PdfWriter:
    """The PDF with the headings as they are written: Chromium's outline repeats words where a heading is broken into lines."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of Chromium's count of objects, which is off
    writer = PdfWriter(clone_from=pdf)
    headings = [" ".join(heading.get_text().split()) for heading in soup.find_all(re.compile(r"h[1-6]"))]
    entries = list(_entries(writer.root_object["/Outlines"]))
    if len(entries) != len(headings):
        raise OSError(f"the outline has {len(entries)} entries, the book {len(headings)} headings")
    for entry, heading in zip(entries, headings, strict=True):
        entry[NameObject("/Title")] = TextStringObject(heading)
    writer.add_metadata({"/Title": soup.title.text, "/Creator": "make pdf"})
    return writer


def _entries(node: DictionaryObject) -> Iterator[DictionaryObject]:
    """The entries below a node of the outline, as a reader meets them."""
    entry = node.get("/First")
    while entry is not None:
        entry = entry.get_object()
        yield entry
        yield from _entries(entry)
        entry = entry.get("/Next")
