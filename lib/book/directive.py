"""The directive that shows an exhibit on a page: its body is the caption.

```{exhibit} table-2
:name: tab-2

MNIST variants: test images, in percent.
```

A table, figure or piece of HTML is recognised by the kind that the exhibit declares. The badge and the links to the
records and to the code follow by themselves.
"""

import inspect
from html import escape

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from matplotlib.figure import Figure
from myst_nb.core.variables import RetrievalError
from myst_nb.ext.glue.utils import retrieve_glue_data
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

from lib import report
from lib.report.table import Table

RECORDS = "records"  # the folder of the CSV files in the built book


class ExhibitDirective(SphinxDirective):
    """`{exhibit} NAME` with `name`, the label to refer to, `alt`, what a figure shows in words, and `class`."""

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012 - as docutils declares it
        "name": directives.unchanged_required,
        "alt": directives.unchanged,
        "class": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """The nodes of the exhibit; an error of the build for an unknown one or one without a label."""
        name = self.arguments[0]
        if name not in report.EXHIBITS or "name" not in self.options:
            raise self.error(f"no exhibit is declared as {name!r}" if "name" in self.options else f"{name} needs a :name:")
        exhibit = report.EXHIBITS[name]
        options = [f":{option}: {value}" for option, value in self.options.items()]
        caption = list(self.content)
        if exhibit.kind is Table:
            # A caption may hold code and references; the first line of a fence of backticks may not hold any.
            lines = [f"~~~~~{{table}} {' '.join(caption)}", *options, "", *_glued(name), "~~~~~"]
        else:
            lines = [f"`````{{glue:figure}} {name}", *options, "", *caption, "`````"]
        if exhibit.badged():
            lines += ["", "`````{div} exhibit-badge", *_glued(f"{name}-badge"), "`````"]
        container = nodes.Element()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, container)
        position = next(i for i, node in enumerate(container.children) if isinstance(node, (nodes.table, nodes.figure)))
        if exhibit.kind is Figure:
            self._add_phone_image(container[position], name)
        return [*container.children[: position + 1], self._origin(exhibit), *container.children[position + 1 :]]

    def _add_phone_image(self, figure: nodes.figure, name: str) -> None:
        """Give a figure a second image for phones, where the notebook has one; `book.css` shows one of the two."""
        phone_name = f"{name}-phone"
        try:
            retrieve_glue_data(self.state.document, phone_name)
        except RetrievalError:
            return
        container = nodes.Element()
        lines = [f"`````{{glue:figure}} {phone_name}", f":alt: {self.options.get('alt', '')}", "`````"]
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, container)
        (wide,), (phone,) = figure.findall(nodes.image), container.findall(nodes.image)
        wide["classes"].append("wide")
        phone["classes"].append("phone")
        wide.parent.insert(wide.parent.index(wide) + 1, phone)

    def _origin(self, exhibit: report.Exhibit) -> nodes.raw:
        """The line below an exhibit: its records as CSV, and the code that made it."""
        page_uri = self.env.app.builder.get_target_uri(self.env.docname)
        files = [f"{name}.csv" for name in exhibit.records()] + ["records.zip"] * exhibit.everything()
        links = [f'<a href="{relative_uri(page_uri, f"{RECORDS}/{file}")}" download>{file}</a>' for file in files]
        page, line = code_of(exhibit)
        target = relative_uri(page_uri, self.env.app.builder.get_target_uri(page))
        parts = [f"Records: {', '.join(links)}"] if links else []
        parts.append(f'Code: <a href="{target}#line-{line}"><code>{escape(exhibit.make.__name__)}</code></a>')
        return nodes.raw("", f'<p class="origin">{" · ".join(parts)}</p>', format="html")


def _glued(name: str) -> list[str]:
    return [f"```{{glue:md}} {name}", ":format: myst", "```"]


def code_of(exhibit: report.Exhibit) -> tuple[str, int]:
    """The place of the function that makes an exhibit: the page of its module, and its first line."""
    module = exhibit.make.__module__.rpartition(".")[2]
    return f"code/{module}", inspect.unwrap(exhibit.make).__code__.co_firstlineno
