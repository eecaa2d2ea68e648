"""What the book asks of Sphinx besides its pages: the records and the code behind each exhibit, where it is published, its PDF.

`_config.yml` names this module as an extension. Which function drew an exhibit, and from which records, is read from the
page's own cells: `exhibits.show(name, …)` and what its argument was made of.
"""

import ast
import json
import re
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlparse

import pandas as pd
from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

from lib import exhibits, grid, results

ROOT = Path(__file__).resolve().parents[1]
RECORDS = "records"  # the folder of the CSV files in the built book
# Of `lib.experiments` and `lib.results`: what reads the records of an exhibit that is named.
_READERS = ("collect", "collect_histograms", "collect_tables", "select", "histograms", "tables", "outcomes", "benchmark")


@dataclass(frozen=True)
class Origin:
    """What a value of a page was made of.

    `functions` of `lib.exhibits`; exhibits of the grid whose `records` were read; `named`: exhibits that are named and not yet
    read; `everything`: all records, against which the claims are checked.
    """

    functions: frozenset[str] = frozenset()
    records: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    everything: bool = False

    def __or__(self, other: "Origin") -> "Origin":
        return Origin(
            self.functions | other.functions,
            self.records | other.records,
            self.named | other.named,
            self.everything or other.everything,
        )


def cells(page: Path) -> list[str]:
    """The code cells of a page, a notebook or MyST Markdown, in their order."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    found = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\A(:[^\n]*\n)+", "", cell) for cell in found]


def prose(page: Path) -> str:
    """The Markdown of a page."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def origins(page: Path) -> dict[str, Origin]:
    """The origin of everything that a page shows, by the name it is shown under."""
    variables: dict[str, Origin] = {}
    shown: dict[str, Origin] = {}
    for cell in cells(page):
        for node in _statements(ast.parse(cell)):
            if isinstance(node, ast.Assign):
                _bind(node.targets[0], node.value, variables)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node.value) == "exhibits.show":
                name, exhibit = node.value.args
                shown[name.value] = _origin(exhibit, variables)
    return shown


def _statements(block: ast.AST) -> Iterator[ast.stmt]:
    for node in block.body:
        yield from _statements(node) if isinstance(node, ast.If) else [node]


def _bind(target: ast.expr, value: ast.expr, variables: dict[str, Origin]) -> None:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, its in zip(target.elts, value.elts, strict=True):
            _bind(one, its, variables)
        return
    found = _origin(value, variables)
    variables.update({node.id: found for node in ast.walk(target) if isinstance(node, ast.Name)})


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _origin(node: ast.AST, variables: dict[str, Origin]) -> Origin:
    if isinstance(node, ast.Name):
        return variables.get(node.id, Origin())
    if isinstance(node, (ast.Constant, ast.JoinedStr)):
        return Origin(named=_named(node))
    variables = dict(variables)
    for loop in getattr(node, "generators", []):
        _bind(loop.target, loop.iter, variables)
    found = Origin()
    for child in ast.iter_child_nodes(node):
        found |= _origin(child, variables)
    if not isinstance(node, ast.Call):
        return found
    module, _, name = _called(node).rpartition(".")
    if (module, name) == ("claims", "recorded"):
        return Origin(everything=True)
    if module == "exhibits":
        return Origin(found.functions | {name}, found.records, everything=found.everything)
    if module in ("experiments", "results") and name in _READERS:
        return Origin(found.functions, found.records | found.named)
    return found


def _named(node: ast.Constant | ast.JoinedStr) -> frozenset[str]:
    """The exhibits and benchmarks that a string names; one with gaps names all that fit."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    pattern = "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[a-z0-9_]+" for part in parts)
    return frozenset(name for name in [*grid.exhibits(), *results.benchmarks()] if re.fullmatch(pattern, name))


def labels(page: Path) -> dict[str, str]:
    """From the label of each figure and table of a page to the name under which its content is shown."""
    text = prose(page)
    found = {label: name for name, label in re.findall(r"\{glue:figure\} (\S+)\n:name: (\S+)", text)}
    for block in re.findall(r"^(`{4,})\{table\}[^\n]*\n(.*?)^\1$", text, re.MULTILINE | re.DOTALL):
        label, name = re.search(r"^:name: (\S+)$", block[1], re.MULTILINE), re.search(r"\{glue:md\} (\S+)", block[1])
        if label and name:
            found[label[1]] = name[1]
    return found


def table_of(name: str) -> pd.DataFrame:
    """The records that an exhibit shows, tidy: one row a number, or, of histograms and simulations, one a bin or a case."""
    if name in results.benchmarks():
        return results.benchmark(name)
    if grid.exhibit(name).get("quantity") == "pixel_histogram":
        return results.histograms(name)
    rows = results.select(name)
    return results.tables(name) if rows.empty and "quantity" in grid.exhibit(name) else rows


def write_records(folder: Path) -> None:
    """Write `NAME.csv` of every exhibit and benchmark, and records.zip: those, all records at all scales, the paper's numbers.

    The same records give the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {f"{name}.csv": table_of(name) for name in [*grid.exhibits(), *results.benchmarks()]}
    for name, table in tables.items():
        (folder / name).write_text(table.to_csv(index=False), encoding="utf-8")
    every = pd.concat([found for scale in grid.SCALES if len(found := results.load(scale))] or [results.frame([])])
    tables |= {"all.csv": every, "published.csv": results.published()}
    with zipfile.ZipFile(folder / "records.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, table in tables.items():
            archive.writestr(zipfile.ZipInfo(f"records/{name}", (1980, 1, 1, 0, 0, 0)), table.to_csv(index=False))


@cache
def _lines() -> dict[str, tuple[str, int]]:
    """Where each function of `lib.exhibits` stands: its module and its first line."""
    found = {}
    for file in sorted((ROOT / "lib" / "exhibits").glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found[node.name] = (f"code/exhibits/{file.stem}", node.lineno)
    return found


def _code_pages(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """The code of the exhibits as pages of the book, at the very commit the book was built from."""
    for name in sorted({page for page, _ in _lines().values()}):
        file = f"lib/exhibits/{Path(name).name}.py"
        formatter = HtmlFormatter(linespans="line", wrapcode=True)
        code = highlight((ROOT / file).read_text(encoding="utf-8"), PythonLexer(), formatter)
        body = f'<section><h1>{file}</h1><div class="highlight-python">{code}</div></section>'
        yield name, {"parents": [], "title": file, "body": body, "meta": {}, "metatags": ""}, "page.html"


def _links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Below each figure and table: its records as CSV, and the code that drew it."""
    page = Path(app.env.doc2path(docname))
    named, made = labels(page), origins(page)
    here = app.builder.get_target_uri(docname)
    for node in list(doctree.findall(lambda node: isinstance(node, (nodes.figure, nodes.table)))):
        for image in node.findall(nodes.image) if isinstance(node, nodes.figure) else ():
            image.replace_self(nodes.container("", image.deepcopy(), classes=["figure-box"]))  # it scrolls on a phone
        label = next((name for name in node["names"] if name in named), None)
        if label is None:
            continue
        origin = made[named[label]]
        files = [f"{name}.csv" for name in sorted(origin.records)]
        files += ["records.zip"] if origin.everything else []
        links = [f'<a href="{relative_uri(here, f"{RECORDS}/{file}")}" download>{file}</a>' for file in files]
        code = []
        for name in sorted(origin.functions):
            where, line = _lines()[name]
            target = app.builder.get_target_uri(where)
            code.append(f'<a href="{relative_uri(here, target)}#line-{line}"><code>{name}</code></a>')
        parts = [f"Records: {', '.join(links)}"] if links else []
        parts.append(f"Code: {', '.join(code)}")
        node.parent.insert(
            node.parent.index(node) + 1,
            nodes.raw("", f'<p class="origin">{" · ".join(parts)}</p>', format="html"),
        )


def repository(remote: str) -> str | None:
    """The web page of the repository that a git remote names, where it is GitHub's or GitLab's; None elsewhere.

    `git@github.com:someone/book.git` and `https://github.com/someone/book` both give the latter.
    """
    found = re.fullmatch(r"(?:https://|ssh://)?(?:[^@/]+@)?(github\.com|gitlab\.com)[:/](.+?)(?:\.git)?/?", remote.strip())
    return f"https://{found[1]}/{found[2]}" if found else None


def site(page: str | None) -> str:
    """Where the pages of a repository on GitHub or GitLab are published; nothing where it has no such place."""
    if page is None:
        return ""
    owner, _, name = urlparse(page).path.strip("/").partition("/")
    return f"https://{owner}.{urlparse(page).hostname.removesuffix('.com')}.io/{name}/"


def _git(*command: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _configure(app: Sphinx, config) -> None:
    """What depends on where the book is built: its commit, and the repository that it was cloned from.

    A clone without a remote on GitHub or GitLab has no button that leads there.
    """
    page = repository(_git("config", "--get", "remote.origin.url"))
    commit, date = results.provenance()["commit"], _git("show", "-s", "--format=%cs")
    built = f"Built from commit <code>{commit}</code>{f' of {date}' if date else ''}."
    options = config.html_theme_options
    options["extra_footer"] = f'<p class="built">{built}</p>'
    options["repository_url"] = page or ""
    for button in ("use_repository_button", "use_issues_button", "use_source_button"):
        options[button] = page is not None
    if page is None:
        options["launch_buttons"] = {}
    else:
        options["repository_branch"] = _git("rev-parse", "HEAD")  # the text and the notebooks that this book was built from
    config.html_baseurl = config.ogp_site_url = site(page)
    prefix = config.notfound_urls_prefix = urlparse(site(page)).path or "/"
    config.notfound_context = {
        "title": "Page not found",
        "body": f'<h1>Page not found</h1><p>No page has this address. <a href="{prefix}index.html">The first page</a></p>',
    }


def mended(buttons: list[dict], pagename: str) -> list[dict]:
    """The theme's buttons, as they lead to the repository.

    Notebooks lie at its top; the book's folder only links to them, and a host of repositories does not follow the link. What is
    written in Markdown has no launch button: elsewhere it is no notebook.
    """
    kept = []
    for button in buttons:
        if button.get("label") == "launch-buttons" and not pagename.startswith("notebooks/"):
            continue
        button = dict(button)
        if "url" in button:
            button["url"] = button["url"].replace("/book/notebooks/", "/notebooks/")
        if "buttons" in button:
            button["buttons"] = mended(button["buttons"], pagename)
        kept.append(button)
    return kept


def _buttons(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    if "header_buttons" in context:
        context["header_buttons"] = mended(context["header_buttons"], pagename)


def _finish(app: Sphinx, error: Exception | None) -> None:
    """What stands in the built book besides its pages: the records, and the picture that a link to it is shown with."""
    if error is None and app.builder.format == "html":
        write_records(Path(app.outdir) / RECORDS)
        card = exhibits.robustness_figure(results.select("table-3"), results.published("table-3"), xlabel="CIFAR10 variant")
        card.savefig(Path(app.outdir) / "_static" / "card.png", dpi=160, facecolor="white")


def setup(app: Sphinx) -> dict:
    """The extension, for Sphinx."""
    app.connect("config-inited", _configure)
    app.connect("html-collect-pages", _code_pages)
    app.connect("doctree-resolved", _links)
    app.connect("html-page-context", _buttons, priority=900)
    app.connect("build-finished", _finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
