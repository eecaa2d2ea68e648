"""Marks the paper's tables and figures, whose numbers differ from the book's: "Table 2" becomes a link "Table 2 [paper]".

A table or figure of ours is only ever named by a reference, which Sphinx numbers. So a number that stands in the text is the
paper's. The link leads to where this book reproduces it.
"""

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

_MARK = " [paper]"
_NUMBER = r"\d[a-d]?(?![\w%]|\.\d)"
_MENTION = re.compile(
    rf"(?:\b(?:[Tt]he paper(?:'|’)s|[Ii]ts)\s+)?\b"
    rf"(?:(?P<one>Table|Figure)\s(?P<number>{_NUMBER})"
    rf"|(?P<many>Tables|Figures)\s(?P<numbers>{_NUMBER}(?:(?:, | and | to ){_NUMBER})*))"
    rf"(?:\s\[paper\])?(?:\s+of\s+the\s+paper\b)?"
)
# Labels of the exhibits that reproduce what the paper shows under one number, where the number alone does not tell them.
_LABELS = {
    "Table 4": "tab-c4-robust", "Table 5": "tab-c5-robust", "Figure 1": "fig-1a", "Figure 2": "fig-2a",
    "Figure 3": "fig-3a", "Figure 4": "fig-4a", "Figure 5": "fig-5-bars",
}  # fmt: skip


def label(kind: str, number: str) -> str:
    """The label of the exhibit that reproduces the paper's `kind`, Table or Figure, of that number."""
    return _LABELS.get(f"{kind} {number}", f"{'tab' if kind == 'Table' else 'fig'}-{number}")


def parts(text: str) -> Iterator[tuple[str, str | None]]:
    """The text in pieces, each with the label of what it leads to, or None: the paper's numbers are marked as the paper's.

    "the paper's Tables 2 and 3" becomes "Tables 2 and 3 [paper]", with a link at either number.
    """
    end = 0
    for mention in _MENTION.finditer(text):
        yield text[end : mention.start()], None
        noun = mention["one"] or mention["many"]
        kind, numbers = noun.rstrip("s"), re.split(r"(\d[a-d]?)", mention["number"] or mention["numbers"])
        words = [f"{noun} {numbers[1]}", *numbers[2:]]
        for i, word in enumerate(words[:-1]):
            yield word, label(kind, numbers[i + 1]) if i % 2 == 0 else None
        yield _MARK, None
        end = mention.end()
    yield text[end:], None


def marked(text: str) -> str:
    """The text with its numbers of the paper's tables and figures marked, without links."""
    return "".join(piece for piece, _ in parts(text))


def _mark(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    labels = app.env.get_domain("std").anonlabels
    unmarked = (nodes.reference, nodes.literal, nodes.literal_block, nodes.citation, nodes.raw, nodes.math, nodes.math_block)
    for text in list(doctree.findall(nodes.Text)):
        if not _MENTION.search(text) or any(isinstance(parent, unmarked) for parent in ancestors(text)):
            continue
        new_nodes = []
        for piece, target in parts(text):
            if not piece:
                continue
            node = nodes.Text(piece)
            if target in labels:
                page, anchor = labels[target]
                node = make_refnode(app.builder, docname, page, anchor, nodes.inline("", piece), None)
            new_nodes.append(node)
        text.parent.replace(text, new_nodes)


def ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    """The nodes that a node stands in, innermost first."""
    while (node := node.parent) is not None:
        yield node


def setup(app: Sphinx) -> None:
    """Connect it to Sphinx: once all text of a page is there."""
    app.connect("doctree-resolved", _mark)
