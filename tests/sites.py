"""Small sites that Sphinx builds, to see what one extension of the book does to a page."""

from pathlib import Path

from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace


def built(folder: Path, extension: str, **pages: str) -> dict[str, BeautifulSoup]:
    """The pages, Markdown by name with `index` among them, as HTML; a warning is an error."""
    source = folder / "source"
    source.mkdir()
    (source / "conf.py").write_text(f'extensions = ["myst_parser", "{extension}"]\n')
    for name, text in pages.items():
        (source / f"{name}.md").write_text(text)
    with docutils_namespace():
        Sphinx(source, source, folder / "html", folder / "trees", "html", status=None, warningiserror=True).build()
    return {name: BeautifulSoup((folder / "html" / f"{name}.html").read_text(), "html.parser") for name in pages}
