"""The book's Sphinx extension: links from each exhibit to its records and code, and the buttons of the published book.

`_config.yml` names this package as an extension.
"""

import re
import zipfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
import yaml
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.application import Sphinx

from lib import report
from lib.base import files
from lib.book import paper_numbers, record, terms
from lib.book.directive import RECORDS, ExhibitDirective
from lib.report.table import as_csv
from lib.store import grid, records, results

ROOT = files.ROOT


def table_of(name: str) -> pd.DataFrame:
    """The records that an exhibit shows, tidy: one row a number, or, of histograms and simulations, one a bin or a case."""
    if name in results.benchmarks():
        return results.benchmark(name)
    if grid.exhibit(name).get("quantity") == "pixel_histogram":
        return results.histograms(name)
    rows = results.select(name)
    return results.tables(name) if rows.empty and "quantity" in grid.exhibit(name) else rows


def write_records(folder: Path) -> None:
    """Write `NAME.csv` of every exhibit and benchmark, the records themselves, and records.zip: all of it, a table of all
    records at all scales, and the paper's numbers.

    The same records give the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {f"{name}.csv": as_csv(table_of(name)).encode() for name in [*grid.exhibits(), *results.benchmarks()]}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    all_rows = pd.concat([rows for scale in grid.SCALES if len(rows := results.load(scale))] or [results.frame([])])
    contents |= {"all.csv": as_csv(all_rows).encode(), "published.csv": as_csv(results.published()).encode()}
    for name, file in record.files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        contents[name] = file.read_bytes()
        (folder / name).write_bytes(contents[name])
    with zipfile.ZipFile(folder / "records.zip", "w") as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(f"records/{name}", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def _code_pages(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """The code of the exhibits and of their numbers as pages of the book, at the very commit the book was built from."""
    for module in sorted({exhibit.make.__module__ for exhibit in report.EXHIBITS.values()} | {*record.MODULES}):
        file = f"{module.replace('.', '/')}.py"
        formatter = HtmlFormatter(linespans="line", wrapcode=True)
        code = highlight((ROOT / file).read_text(encoding="utf-8"), PythonLexer(), formatter)
        body = f'<section><h1>{file}</h1><div class="source">{code}</div></section>'
        yield record.code_page(module), _context(file, body), "page.html"


def _context(title: str, body: str) -> dict:
    return {"parents": [], "title": escape(title), "body": body, "meta": {}, "metatags": ""}


def _record_pages(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """The pages that numbers lead to. They are in no table of contents, and not in the index of the search."""
    for page, title, body in record.pages(app.config.html_theme_options.get("repository_url")):
        yield page, _context(title, body), "page.html"


def _lead_to_records(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let the numbers of a page's tables lead to the pages of their records."""
    for raw in list(doctree.findall(nodes.raw)):
        if raw.get("format") == "html" and 'class="record"' in raw.astext():
            raw.replace_self(nodes.raw("", record.link_records(raw.astext(), docname), format="html"))


def _boxes(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put each figure's image into a box that scrolls on a phone."""
    for figure in doctree.findall(nodes.figure):
        for image in list(figure.findall(nodes.image)):
            image.replace_self(nodes.container("", image.deepcopy(), classes=["figure-box"]))


def _glue(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Keep a formula and the comma, full stop or closing bracket behind it on one line: a browser would break between them."""
    for formula in list(doctree.findall(nodes.math)):
        parent, position = formula.parent, formula.parent.index(formula)
        after = parent[position + 1] if position + 1 < len(parent) else None
        mark = re.match(r"""[-,.;:!?)\]'"’”]+""", after) if isinstance(after, nodes.Text) else None
        if mark:
            parent[position : position + 2] = [
                nodes.inline("", "", formula, nodes.Text(mark[0]), classes=["glued"]),
                nodes.Text(after[mark.end() :]),
            ]


def add_reading_time(doctree: nodes.document) -> None:
    """Say below a page's title how long its paragraphs take to read, at 200 words a minute. Tables are looked up, not read."""

    def words(part: nodes.Node) -> int:
        return sum(len(paragraph.astext().split()) for paragraph in part.findall(nodes.paragraph))

    title = next(doctree.findall(nodes.title))
    minutes = max(1, round((words(doctree) - sum(map(words, doctree.findall(nodes.table)))) / 200))
    sentence = f'<p class="reading-time">About {minutes} minute{"s" * (minutes > 1)} to read</p>'
    line = nodes.raw("", sentence, format="html")  # raw HTML stays out of the page's summary
    title.parent.insert(title.parent.index(title) + 1, line)


def _reading_time(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if docname not in ("api", "references"):  # nobody reads a list of names from beginning to end
        add_reading_time(doctree)


def doi(citation: Path) -> str:
    """The line of the footer that names the DOI of this edition; nothing where the CITATION.cff at `citation` has no `doi`."""
    number = yaml.safe_load(citation.read_text(encoding="utf-8")).get("doi")
    return f'<p class="doi">Cite this edition: <a href="https://doi.org/{number}">doi:{number}</a></p>' if number else ""


def repository(remote: str) -> str | None:
    """The web page of the repository that a git remote names, where it is GitHub's or GitLab's; None elsewhere.

    `git@github.com:someone/book.git` and `https://github.com/someone/book` both give the latter.
    """
    match = re.fullmatch(r"(?:https://|ssh://)?(?:[^@/]+@)?(github\.com|gitlab\.com)[:/](.+?)(?:\.git)?/?", remote.strip())
    return f"https://{match[1]}/{match[2]}" if match else None


def site(page: str | None) -> str:
    """Where the pages of a repository on GitHub or GitLab are published; nothing where it has no such place."""
    if page is None:
        return ""
    owner, _, name = urlparse(page).path.strip("/").partition("/")
    return f"https://{owner}.{urlparse(page).hostname.removesuffix('.com')}.io/{name}/"


def _git(*command: str) -> str:
    return records.git(*command) or ""


def _configure(app: Sphinx, config) -> None:
    """What depends on where the book is built: its commit, and the repository that it was cloned from.

    A clone without a remote on GitHub or GitLab has no button that leads there.
    """
    # Jupyter Book puts every script on every page; these are for previews alone, whose extension loads them, in their order.
    config.html_js_files = [file for file in config.html_js_files if not file.startswith("vendor/")]
    page = repository(_git("config", "--get", "remote.origin.url"))
    commit, date = records.provenance()["commit"], _git("show", "-s", "--format=%cs")
    stamp = f"Built from commit <code>{commit}</code>{f' of {date}' if date else ''}."
    options = config.html_theme_options
    options["extra_footer"] = f'<p class="built">{stamp}</p>{doi(ROOT / "CITATION.cff")}'
    config.html_context["default_mode"] = "auto"  # an empty one would be an error in the console
    options["navbar_persistent"] = []  # one search field, above the table of contents
    options["repository_url"] = page or ""
    for button in ("use_repository_button", "use_issues_button", "use_source_button"):
        options[button] = page is not None
    if page is None:
        options["launch_buttons"] = {}
    else:
        if 'REPOSITORY = \\"\\"' in (ROOT / "notebooks" / "sec3.ipynb").read_text(encoding="utf-8"):
            options["launch_buttons"].pop("colab_url", None)  # a notebook there could not install lib: see `make colab`
        options["repository_branch"] = _git("rev-parse", "HEAD")  # the text and the notebooks that this book was built from
    config.html_baseurl = config.ogp_site_url = site(page)
    prefix = config.notfound_urls_prefix = urlparse(site(page)).path or "/"
    config.notfound_context = {
        "title": "Page not found",
        "body": f'<h1>Page not found</h1><p>No page has this address. <a href="{prefix}index.html">The first page</a></p>',
    }


def page_buttons(buttons: list[dict], pagename: str) -> list[dict]:
    """The theme's buttons, as they lead to the repository.

    Notebooks lie at its top; the book's folder only links to them, and a host of repositories does not follow the link. What is
    written in Markdown has no launch button: elsewhere it is no notebook.
    """
    adjusted = []
    for button in buttons:
        if button.get("label") == "launch-buttons" and not pagename.startswith("notebooks/"):
            continue
        button = dict(button)
        if "url" in button:
            button["url"] = button["url"].replace("/book/notebooks/", "/notebooks/")
        if "buttons" in button:
            button["buttons"] = page_buttons(button["buttons"], pagename)
        adjusted.append(button)
    return adjusted


def _adjust_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    if "header_buttons" in context:
        context["header_buttons"] = page_buttons(context["header_buttons"], pagename)
    if "body" in context:  # its children are entries of a bibliography, not of a list
        context["body"] = context["body"].replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    # Jupyter Book loads Thebe, which runs cells on a server, on every page, and twice; the second time is an error.
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context.get(kind, []) if "thebe" not in _content(file).lower()]


def _content(file) -> str:
    """A file's name, or what a script without a file says."""
    return f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {}).get('body', '')}"


def _finish(app: Sphinx, error: Exception | None) -> None:
    """What stands in the built book besides its pages: the records, and the picture that a link to it is shown with."""
    if error is None and app.builder.format == "html":
        write_records(Path(app.outdir) / RECORDS)
        report.page().make("figure-2b").savefig(Path(app.outdir) / "_static" / "card.png", dpi=160, facecolor="white")


def setup(app: Sphinx) -> dict:
    """The extension, for Sphinx."""
    app.connect("config-inited", _configure)
    app.connect("html-collect-pages", _code_pages)
    app.connect("html-collect-pages", _record_pages)
    app.add_directive("exhibit", ExhibitDirective)
    app.connect("doctree-resolved", _boxes)
    app.connect("doctree-resolved", _glue)
    app.connect("doctree-resolved", _lead_to_records)
    app.connect("doctree-resolved", _reading_time)
    paper_numbers.setup(app)
    terms.setup(app)
    app.connect("html-page-context", _adjust_page, priority=900)
    app.connect("build-finished", _finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
