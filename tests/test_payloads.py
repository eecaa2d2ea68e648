"""Text of a record is shown as it stands: it runs no code, opens no file and is no markup, even if the schema let it pass."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
import stored
import yaml
from bs4 import BeautifulSoup
from frames import ATTRS, frame
from matplotlib.figure import Figure
from payloads import payloads

from lib.book import record, write_records
from lib.report import exhibit, words
from lib.report.table import Column, Table, as_csv
from lib.store import grid, records, results, schema

ROOT = Path(__file__).resolve().parents[1]
PAYLOADS = payloads(Path("/nowhere/file"))
# What shows the text of records, by name. {text} is a text, {rows} has it in each of its fields.
SHOWN = {
    "badge": "words.badge(rows)",
    "stamp": "words.stamp([rows])",
    "benchmark": "speed.benchmark_stamp(measured)",
    "speed": "speed.speed_table(measured)",
    "agreement": "engines.agreement_table(measured)",
    "training-steps": "engines.steps_table(measured)",
    "hours": "overview.compute_table(pd.DataFrame([dict(scale='laptop', device=text, kind='training', records=1, hours=1.0)]))",
    "claims": "overview.claims_table(pd.DataFrame([dict(sentence='A.', claim='a', paper_verdict='holds', paper_evidence=text,"
    " verdict='fails', evidence=text, reason='', scale='laptop', n=(9,))]))",
    "claims-about": "overview.claims_about(pd.DataFrame([dict(scale='laptop', n=(9,), seeds_by_source={text: (0,)})]))",
    "downloads": "words.downloads('a', as_table(rows), rows)",
}
PAGE = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---
# Page

```{code-cell} ipython3
:tags: [remove-cell]
import sys
from pathlib import Path
import pandas as pd
sys.path[:0] = [TESTS, ROOT]
from frames import frame
from payloads import payloads
from lib import report
from lib.report import words
from lib.report.sections import engines, overview, speed
from test_payloads import as_table, of_benchmark, of_record
for kind, text in payloads(Path(TARGET)).items():
    rows, measured, kind = of_record(text), of_benchmark(text), kind.replace(" ", "-")
SHOW
```
"""


def of_record(text: str) -> pd.DataFrame:
    """Rows of a record with the text in each field that a record has words in."""
    rows = frame(("original", "pgd", "robust_accuracy", 90.0, 0))
    for field in ("source", "device", "commit", "date"):
        rows[field] = text
    return rows


def as_table(rows: pd.DataFrame) -> Table:
    return Table([Column(str(heading)) for heading in rows], rows.astype(object).to_numpy().tolist())


def of_benchmark(text: str) -> pd.DataFrame:
    numbers = {"batch": 50, "image_steps_per_second": 1.0, "ratio_to_advertorch": 1.0, "robust_accuracy": 0.5, "max_delta": 0.3}
    numbers |= {"seconds_a_step": 0.1, "ratio_to_framework": 1.0}
    rows = pd.DataFrame(
        [{"case": "lenet5-w1", "engine": text, "training": text, "share_of_ceiling": 0.5, "rounds": 7, **numbers}]
    )
    rows.attrs = dict.fromkeys(("device", "date", "commit"), text)
    return rows


@pytest.fixture(scope="module", params=["as it is", "with substitutions"])
def page(request, tmp_path_factory) -> tuple[BeautifulSoup, Path]:
    """A page that shows every payload in every way, built as the book is; and the file that a payload would leave.

    Once with the substitutions of MyST besides, which the book does without.
    """
    folder = tmp_path_factory.mktemp("payloads")
    target = folder / "left-by-a-payload"
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    if request.param == "with substitutions":
        config["parse"]["myst_enable_extensions"].append("substitution")
    for name in ("bibtex_bibfiles", "html", "repository", "launch_buttons"):
        config.pop(name)
    config["sphinx"] = {"config": {"nb_execution_raise_on_error": True, "nb_merge_streams": True}}
    (folder / "_config.yml").write_text(yaml.safe_dump(config))
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    shows = "\n".join(f'    report.show(f"{name}-{{kind}}", {call})' for name, call in SHOWN.items())
    text = PAGE.replace("SHOW", shows)
    for name, value in {"TESTS": ROOT / "tests", "ROOT": ROOT, "TARGET": target}.items():
        text = text.replace(name, repr(str(value)))
    for kind in PAYLOADS:
        for name in SHOWN:
            label = f"{name}-{kind.replace(' ', '-')}"
            text += f"\n`````{{div}} {label}\n```{{glue:md}} {label}\n:format: myst\n```\n`````\n"
            if name in ("badge", "stamp", "benchmark"):
                text += f"\nWithin a line {{glue:md}}`{label}`.\n"
    (folder / "index.md").write_text(text, encoding="utf-8")
    command = [Path(sys.executable).with_name("jupyter-book"), "build", folder, "--all", "-W", "--keep-going", "-n"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    html = (folder / "_build" / "html" / "index.html").read_text(encoding="utf-8")
    return BeautifulSoup(html, "html.parser").find("article"), target


def test_no_payload_runs_or_is_markup(page):
    article, target = page
    assert not target.exists()
    assert article.find_all(["img", "b", "iframe", "svg", "em", "s", "h2", "pre"]) == []
    assert not [script for script in article.find_all("script") if "alert" in script.get_text()]  # the theme has its own
    assert article.select(".math, .admonition, [onclick], [onerror]") == []
    for link in article.find_all("a"):
        assert link["href"].startswith(("#", "data:text/csv;"))
    hostname = Path("/etc/hostname").read_text() if Path("/etc/hostname").exists() else "none"
    assert hostname.strip() not in article.get_text().split()


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_payload_is_shown_as_it_stands(page, kind):
    article, target = page
    text = schema.one_line(" ".join(payloads(target)[kind].split()))
    for name in SHOWN:
        (block,) = article.select(f".{name}-{kind.replace(' ', '-')}")
        caption = " ".join(block.get_text().split())
        if name == "downloads":  # the text is within the files
            assert caption.startswith("Download: a.csv (the table) · a-records.csv")
            continue
        assert read(text) in read(caption), caption
        assert not block.find(lambda tag: tag.name not in ("div", "p", "code", "span", "table", "strong", *TABLE))


def read(text: str) -> str:
    """Without quotes, hyphens and backslashes, of which Sphinx's typography makes others."""
    return re.sub(r"""["'“”‘’„–—\\-]""", "", text)


TABLE = ("thead", "tbody", "tr", "th", "td", "colgroup", "col")


def test_the_book_has_no_substitutions():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert "substitution" not in config["parse"]["myst_enable_extensions"]
    assert "linkify" not in config["parse"]["myst_enable_extensions"]


@pytest.mark.parametrize("kind", PAYLOADS)
def test_words_are_one_line_that_reads_as_the_text(kind):
    text = PAYLOADS[kind]
    shown = words.as_markdown(text)
    assert "\n" not in shown
    assert unescape(shown) == schema.one_line(" ".join(text.split()))
    assert not re.search(r"[{}<>\[\]`$|*_~\\!\"^]", shown)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_cell_of_a_csv_file_is_a_formula(kind):
    """In the downloads of a page, and in a table whose heading is the payload."""
    rows = of_record(PAYLOADS[kind]).assign(**{PAYLOADS[kind]: PAYLOADS[kind]})
    (links,) = re.findall(r"base64,([A-Za-z0-9+/=]+)\">a-records.csv", words.downloads("a", as_table(rows), rows))
    for line in csv.reader(io.StringIO(base64.b64decode(links).decode())):
        for cell in line:
            assert not re.match(r"\s*[=@]", cell)
            assert not re.match(r"\s*[+-]", cell) or re.fullmatch(r"[-+][\d. ]+", cell)


def test_numbers_of_a_csv_file_are_left_alone():
    rows = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "value": [-1.5, 2.0], "change": ["+0.3", "-0.1 to +0.2"]})
    assert as_csv(rows) == "n,value,change\n1,-1.5,+0.3\n,2.0,-0.1 to +0.2\n"


@pytest.mark.parametrize("kind", PAYLOADS)
def test_the_page_of_a_record_shows_a_payload_as_it_stands(kind, monkeypatch):
    run = grid.Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop")
    for name in ("training", "pgd"):
        stored.write(run, name)
    text, read_record = PAYLOADS[kind], records.read
    fields = dict.fromkeys(("source", "device", "commit", "date", "engine"), text)
    monkeypatch.setattr(records, "read", lambda item, name: {**read_record(item, name), **fields, "versions": {"python": text}})
    monkeypatch.setattr(record, "items_by_page", lambda: {"record/laptop/page": [run]})
    ((_, _, html),) = record.pages("https://github.com/someone/book")
    page = BeautifulSoup(html, "html.parser")
    (device_line,) = {item.get_text() for item in page.find_all("li") if item.get_text().startswith("Device: ")}
    assert device_line == f"Device: {schema.one_line(text)}"
    assert {tag.name for tag in page.find_all(True)} <= {*TABLE, *RECORD}
    for link in page.find_all("a"):
        assert link["href"].startswith(("#", "../../records/laptop/", "../../code/"))
    for tag in page.find_all(True):
        assert {*tag.attrs} <= {"id", "class", "href", "tabindex"}


RECORD = ("section", "h1", "h2", "h3", "p", "code", "div", "table", "ul", "li", "a", "pre", "details", "summary")


@pytest.fixture
def everywhere(monkeypatch):
    """Every record and benchmark has a payload in each field of words, and the schema lets it pass."""
    text = "<b>{{ 7 }}</b>`x`[a](javascript:b)$\\frac{$=1"
    read = schema.parsed

    def parsed(content: str) -> dict:
        held = read(content)
        held |= {field: text for field in ("source", "device", "commit", "date") if field in held}
        for row in held.get("rows", ()):
            row |= {field: row[field] + text for field in ("engine", "transform", "key") if field in row}
        return held

    monkeypatch.setenv("RESULTS_DIR", str(ROOT / "results"))
    monkeypatch.setattr(schema, "parsed", parsed)
    for name in ("check", "check_benchmark"):
        monkeypatch.setattr(schema, name, lambda record: None)
    records._parsed.cache_clear()
    yield text
    records._parsed.cache_clear()


def cells(page: Path) -> list[str]:
    """The code cells of a page, a notebook or MyST Markdown, in their order."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    sources = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\A(:[^\n]*\n)+", "", cell) for cell in sources]


def exhibits_of(page: Path, monkeypatch) -> dict[str, str]:
    """What a page's cells show, as the text that is handed to it; figures as their SVG."""
    shown = {}
    monkeypatch.setattr(exhibit, "show", shown.__setitem__)
    namespace: dict = {}
    for cell in cells(page):
        exec(cell, namespace)
    return {name: _text(exhibit) for name, exhibit in shown.items()}


def _text(exhibit) -> str:
    if isinstance(exhibit, Table):
        return exhibit.markdown()
    if isinstance(exhibit, Figure):
        file = io.StringIO()
        exhibit.savefig(file, format="svg")  # a formula that is none would raise
        return re.sub("<!--.*?-->", "", file.getvalue(), flags=re.DOTALL)
    return exhibit if isinstance(exhibit, str) else exhibit.data


def check_page(page: str, everywhere: str, monkeypatch) -> None:
    shown = exhibits_of(ROOT / page, monkeypatch)
    count = 0
    for name, text in shown.items():
        count += "javascript:b" in text
        for raw in ("<b>", "`x`", "[a](javascript", *(("{{",) if "levels" not in text else ())):  # HTML has no {{
            assert raw not in text, name
    assert count


@pytest.mark.parametrize("page", ["book/index.md", "notebooks/appB.ipynb"])
def test_a_page_shows_records_escaped(everywhere, monkeypatch, page):
    check_page(page, everywhere, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("notebooks/*.ipynb")))
def test_every_page_shows_records_escaped(everywhere, monkeypatch, page):
    if page != "notebooks/yours.ipynb":  # of no record
        check_page(page, everywhere, monkeypatch)


def test_the_records_of_the_book_hold_no_formula(everywhere, monkeypatch, tmp_path):
    monkeypatch.setattr(schema, "parsed", lambda content, read=schema.parsed: {**read(content), "source": "=1+1"})
    write_records(tmp_path)
    written = {file.stem: file.read_text(encoding="utf-8") for file in tmp_path.glob("*.csv")}
    assert {*grid.exhibits(), *results.benchmarks()} == set(written)
    assert "'=1+1" in written["table-2"]
    for name, text in written.items():
        assert not re.search(r"(^|,)\"?=1", text, re.MULTILINE), name


def test_the_attributes_are_those_of_the_tests():
    assert ATTRS["exhibit"] in grid.exhibits()
