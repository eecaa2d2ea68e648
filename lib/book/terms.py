"""The names of the glossary lead to it: where a section first uses one, it is a link, and hovering it shows what it means.

A name of several words, such as `clean_accuracy`, is found in the text as well, as "clean accuracy". One of a single word, such
as `level`, often means something else there, and is found in code alone.
"""

import re
from collections.abc import Mapping

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

from lib.book.paper_numbers import above

# Where a link would be in the way, or lead to where it stands.
_KEPT = (
    nodes.reference, nodes.title, nodes.table, nodes.literal_block, nodes.citation, nodes.raw, nodes.math, nodes.math_block,
    addnodes.glossary, addnodes.desc,
)  # fmt: skip


def spoken(term: str) -> str:
    """A term as it is read in a text: `robustness_wrt_predictions` is "robustness w.r.t. predictions"."""
    return term.replace("_wrt_", " w.r.t. ").replace("_", " ")


def pieces(text: str, terms: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """The text in pieces, each with the term that it names, or None. `terms`: from what is read to the term, not empty."""
    named = "|".join(re.escape(words) for words in sorted(terms, key=len, reverse=True))
    return [(piece, terms.get(piece.lower())) for piece in re.split(rf"\b({named})\b", text, flags=re.IGNORECASE) if piece]


def _link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    places = {name: at for (kind, name), at in app.env.get_domain("std").objects.items() if kind == "term"}
    read = {spoken(name): name for name in places if " " in spoken(name)}
    if not read:
        return
    linked = set()
    for node in list(doctree.findall(lambda node: isinstance(node, (nodes.Text, nodes.literal)))):
        around = list(above(node))
        if any(isinstance(each, (*_KEPT, nodes.literal)) for each in around):
            continue
        section = next((each for each in around if isinstance(each, nodes.section)), None)
        made = []
        for text, term in [(node.astext(), node.astext())] if isinstance(node, nodes.literal) else pieces(node.astext(), read):
            shown = node.deepcopy() if isinstance(node, nodes.literal) else nodes.Text(text)
            if term in places and (section, term) not in linked:
                linked.add((section, term))
                words = shown if isinstance(node, nodes.literal) else nodes.inline("", text)
                shown = make_refnode(app.builder, docname, *places[term], words)
                shown["classes"].append("term")
            made.append(shown)
        node.parent.replace(node, made)


def setup(app: Sphinx) -> None:
    """Connect it to Sphinx: once all text of a page is there."""
    app.connect("doctree-resolved", _link)
