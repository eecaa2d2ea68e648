"""`lib.book`: what stands behind each exhibit, where the book's buttons lead, its records as CSV, and the one document."""

import os
import re
import zipfile
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document
from IPython.display import HTML
from matplotlib.figure import Figure
from PIL import Image

from lib import book, report
from lib.book import directive, pdf, picture
from lib.report.table import Table
from lib.store import grid, results

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.md")])


def prose(page: Path) -> str:
    """The Markdown of a page."""
    if page.suffix != ".ipynb":
        return page.read_text(encoding="utf-8")
    cells = nbformat.read(page, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def _blocks() -> list:
    """The Python of the page "How to reproduce" that needs no data set which has to be downloaded."""
    blocks = re.findall(r"```python\n(.*?)```", prose(ROOT / "book" / "reproduce.md"), re.DOTALL)
    return [pytest.param(code, id=str(i)) for i, code in enumerate(blocks) if 'data.transformed("mnist",' not in code]


@pytest.mark.parametrize("code", _blocks())
def test_the_python_of_how_to_reproduce_runs_as_written(code, committed_records, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if "processes.complete" in code:
        monkeypatch.setenv("RESULTS_DIR", str(Path(os.environ["CHECKPOINT_DIR"]).parent / "results"))
    exec(code, {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", report.EXHIBITS)
def test_an_exhibit_reads_what_there_is(name):
    exhibit = report.EXHIBITS[name]
    assert {*exhibit.records()} <= {*grid.exhibits(), *results.benchmarks()}
    assert exhibit.kind in (Table, Figure, HTML, str)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_directive_names_an_exhibit_and_refers_to_it_by_a_label_of_its_own(page):
    labels = []
    for name, label in re.findall(r"^```\{exhibit\} (\S+)\n:name: (\S+)$", prose(page), re.MULTILINE):
        assert name in report.EXHIBITS
        assert report.EXHIBITS[name].kind is not str, f"{name} is a sentence: {{glue:md}} shows it"
        labels.append(label)
    assert len(labels) == len(set(labels)) == prose(page).count("{exhibit} ")


def test_figures_have_their_words_where_authors_look_for_them():
    for page in PAGES:
        for name, body in re.findall(r"^```\{exhibit\} (\S+)\n(.*?)^```$", prose(page), re.MULTILINE | re.DOTALL):
            assert (":alt: " in body) == (report.EXHIBITS[name].kind is Figure), name


def test_exhibits_of_section_3_have_their_records():
    assert report.EXHIBITS["table-2"].records() == ["table-2"]
    assert report.EXHIBITS["figure-2b"].records() == ["table-3"]
    assert report.EXHIBITS["slider-saturate"].records() == ["slider-saturate", "table-3"]
    assert report.EXHIBITS["sensitivity"].records() == ["table-2", "table-3"]
    assert report.EXHIBITS["speed-table"].records() == ["pgd-cpu"]
    assert report.EXHIBITS["splits"].records() == []
    assert report.EXHIBITS["claims-3"].everything()
    assert not report.EXHIBITS["table-2"].everything()


def test_the_code_of_an_exhibit_is_where_its_function_begins():
    where, line = directive.code_of(report.EXHIBITS["table-2"])
    assert where == "code/sec3"
    file = ROOT / "lib" / "report" / "sections" / "sec3.py"
    assert file.read_text().splitlines()[line - 1].startswith("def robustness_table(")


@pytest.mark.parametrize(
    ("remote", "address", "site"),
    [
        ("git@github.com:someone/book.git", "https://github.com/someone/book", "https://someone.github.io/book/"),
        ("https://github.com/someone/book", "https://github.com/someone/book", "https://someone.github.io/book/"),
        ("https://token@github.com/someone/book.git/", "https://github.com/someone/book", "https://someone.github.io/book/"),
        ("ssh://git@gitlab.com/group/sub/book.git", "https://gitlab.com/group/sub/book", "https://group.gitlab.io/sub/book/"),
        ("/srv/git/book.git", None, ""),
        ("https://example.org/book.git", None, ""),
        ("https://github.com.example.org/a/b", None, ""),
        ("", None, ""),
    ],
)
def test_where_the_buttons_lead(remote, address, site):
    assert book.repository(remote) == address
    assert book.site(address) == site


def test_the_footer_names_the_doi_once_there_is_one(tmp_path):
    assert book.doi(ROOT / "CITATION.cff") == ""
    (tmp_path / "CITATION.cff").write_text("title: A\ndoi: 10.5281/zenodo.1\n")
    assert 'href="https://doi.org/10.5281/zenodo.1"' in book.doi(tmp_path / "CITATION.cff")


def test_the_reading_time_stands_below_the_title():
    section = nodes.section(
        "", nodes.title("", "A page"), nodes.paragraph("", "word " * 590), nodes.literal_block("", "x " * 9000)
    )
    row = nodes.row("", nodes.entry("", nodes.paragraph("", "word " * 5000)))
    section += nodes.table("", nodes.tgroup("", nodes.tbody("", row), cols=1))
    document = new_document("page")
    document += section
    book.add_reading_time(document)
    assert section[1].astext() == '<p class="reading-time">About 3 minutes to read</p>'


def test_no_page_loads_comments_until_they_are_configured():
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["html"]["comments"] == {"hypothesis": False, "utterances": False}


def test_notebooks_are_launched_and_read_at_the_top_of_the_repository():
    hub = "https://mybinder.org/v2/gh/someone/book/abc?urlpath=lab/tree/book/notebooks/sec3.ipynb"
    source = "https://github.com/someone/book/blob/abc/book/notebooks/sec3.ipynb?plain=1"
    buttons = [
        {"label": "launch-buttons", "type": "group", "buttons": [{"type": "link", "url": hub}]},
        {"type": "group", "buttons": [{"type": "link", "url": source}, {"type": "javascript"}]},
    ]
    launch, sources = book.page_buttons(buttons, "notebooks/sec3")
    assert launch["buttons"][0]["url"] == "https://mybinder.org/v2/gh/someone/book/abc?urlpath=lab/tree/notebooks/sec3.ipynb"
    assert sources["buttons"][0]["url"] == "https://github.com/someone/book/blob/abc/notebooks/sec3.ipynb?plain=1"
    assert (ROOT / "notebooks" / "sec3.ipynb").is_file()
    assert book.page_buttons(buttons, "errata") == [sources]


def test_records_as_csv(tmp_path, monkeypatch):
    monkeypatch.delenv("RESULTS_DIR")
    book.write_records(tmp_path)
    files = {file.name for file in tmp_path.iterdir() if file.is_file()}
    assert files == {"records.zip", *(f"{name}.csv" for name in [*grid.exhibits(), *results.benchmarks()])}
    written = pd.read_csv(tmp_path / "table-2.csv", dtype={"recipe": str})
    ours = results.select("table-2")
    assert written["value"].tolist() == pytest.approx(ours["value"].tolist(), nan_ok=True)
    assert {"transform", "left", "right", "count"} <= set(pd.read_csv(tmp_path / "figure-1a.csv").columns)
    assert {"d", "axis", "diagonal"} <= set(pd.read_csv(tmp_path / "example-1.csv").columns)
    with zipfile.ZipFile(tmp_path / "records.zip") as archive:
        names, kept = ([name for name in archive.namelist() if name.endswith(kind)] for kind in (".csv", ".json"))
        assert len(kept) > 500
        for name in kept:  # the records themselves
            own = name.removeprefix("records/")
            assert archive.read(name) == (ROOT / "results" / own).read_bytes() == (tmp_path / own).read_bytes()
        assert {Path(name).name for name in names} == files - {"records.zip"} | {"all.csv", "published.csv"}
        every = pd.read_csv(archive.open("records/all.csv"), dtype={"recipe": str})
        of = every["scale"] + "/" + every["key"] + ("/" + every["evaluation"]).where(every["evaluation"] != "measured", "")
        assert {f"records/{name}.json" for name in of} <= {*kept}
        assert len(every) == sum(len(results.load(scale)) for scale in grid.SCALES) > 0
        assert len(pd.read_csv(archive.open("records/published.csv"))) == len(results.published())
    first = (tmp_path / "records.zip").read_bytes()
    book.write_records(tmp_path)
    assert (tmp_path / "records.zip").read_bytes() == first


def test_records_of_an_empty_store_are_tables_without_rows(tmp_path):
    book.write_records(tmp_path)
    assert pd.read_csv(tmp_path / "table-2.csv").columns.tolist() == list(results.COLUMNS)
    with zipfile.ZipFile(tmp_path / "records.zip") as archive:
        assert len(pd.read_csv(archive.open("records/all.csv"))) == 0


def small_book(folder: Path) -> Path:
    (folder / "notebooks").mkdir()
    nav = '<nav class="bd-links"><a class="internal" href="#">Home</a><a class="internal" href="notebooks/a.html">A</a></nav>'
    head = '<html><head><title> The book </title><link rel="stylesheet" href="_static/book.css?v=1"></head>'
    (folder / "index.html").write_text(
        f'{head}<body>{nav}<article class="bd-article"><h1 id="top">Home<a class="headerlink" href="#top">#</a></h1>'
        '<a href="notebooks/a.html#x">a</a><a href="#top">up</a><a href="records/t.csv">csv</a>'
        '<a href="https://example.org/">out</a></article></body></html>'
    )
    (folder / "notebooks" / "a.html").write_text(
        '<article class="bd-article"><h1>A</h1><p id="x">x</p><img src="../_images/p.svg" alt="p">'
        '<h2>B</h2><div class="cell" id="folded"><details class="hide">code</details></div><div class="cell">shown</div>'
        '<a href="../index.html">home</a><p class="origin">Records</p></article>'
    )
    return folder


def test_the_one_document_holds_every_page_and_its_links_stay_in_it(tmp_path):
    html = small_book(tmp_path)
    soup = BeautifulSoup(pdf.document(html), "html.parser")
    ids = [element["id"] for element in soup.find_all(id=True)]
    assert ids == ["index", "index--top", "notebooks-a", "notebooks-a--x"]
    links = [link["href"] for link in soup.select("article a")]
    assert links == ["#notebooks-a--x", "#index--top", "https://example.org/", "#index"]
    assert [link["href"] for link in soup.select("nav a")] == ["#index", "#notebooks-a"]
    assert soup.img["src"] == (html / "_images" / "p.svg").resolve().as_uri()
    assert soup.link["href"] == (html / "_static" / "book.css").resolve().as_uri()
    assert "Records" not in soup.text
    assert [cell.text for cell in soup.select("h2 + div.cell")] == ["shown"]  # of the folded one nothing is left
    assert "csv" in soup.text


def test_no_document_without_a_book(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a built book"):
        pdf.document(tmp_path)


def test_no_pdf_without_chromium(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no Chromium on the path; looked for chromium, chromium-browser"):
        pdf.write(small_book(tmp_path), tmp_path / "book.pdf")


def test_citation_file_cites_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    cited = citation["preferred-citation"]
    assert [author["family-names"] for author in cited["authors"]] == ["Ding", "Lui", "Jin", "Wang", "Huang"]
    assert cited["year"] == 2019


def test_the_picture_is_taken_of_a_built_book_by_chromium(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"the picture's file must end with \.png, given first\.svg"):
        picture.write(tmp_path, Path("first.svg"))
    with pytest.raises(FileNotFoundError, match="is not a built book"):
        picture.write(tmp_path, tmp_path / "first.png")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no Chromium on the path; looked for chromium, chromium-browser"):
        picture.write(small_book(tmp_path), tmp_path / "first.png")


def test_the_readme_shows_the_book_s_first_page_in_both_themes():
    shown = BeautifulSoup((ROOT / "README.md").read_text(), "html.parser").picture
    files = [shown.source["srcset"], shown.img["src"]]
    assert files == ["book/first-page-dark.png", "book/first-page.png"]
    assert len(shown.img["alt"]) > 20
    brightness = []
    for file in files:
        assert (ROOT / file).stat().st_size < 300_000
        with Image.open(ROOT / file) as image:
            assert image.size == picture.SIZE
            brightness.append(image.convert("L").resize((1, 1)).getpixel((0, 0)))
    assert brightness[0] < 100 < 200 < brightness[1]
