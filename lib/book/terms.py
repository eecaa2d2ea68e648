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

from lib.book.paper_numbers import ancestors

# Places where a link disturbs, or leads to itself.
_UNLINKED = (
    nodes.reference, nodes.title, nodes.table, nodes.literal_block, nodes.citation, nodes.raw, nodes.math, nodes.math_block,
    addnodes.glossary, addnodes.desc,
)  # fmt: skip


def in_words(term: str) -> str:
    """A term as it is read in a text: `robustness_wrt_predictions` is "robustness w.r.t. predictions"."""
    return term.replace("_wrt_", " w.r.t. ").replace("_", " ")


def pieces(text: str, terms: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """The text in pieces, each with the term that it names, or None. `terms`: from what is read to the term, not empty."""
    pattern = "|".join(re.escape(words) for words in sorted(terms, key=len, reverse=True))
    return [(piece, terms.get(piece.lower())) for piece in re.split(rf"\b({pattern})\b", text, flags=re.IGNORECASE) if piece]


def _link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    targets = {name: term_target for (kind, name), term_target in app.env.get_domain("std").objects.items() if kind == "term"}
    names = {in_words(name): name for name in targets if " " in in_words(name)}
    if not names:
        return
    linked = set()
    for node in list(doctree.findall(lambda node: isinstance(node, (nodes.Text, nodes.literal)))):
        parents = list(ancestors(node))
        if any(isinstance(parent, (*_UNLINKED, nodes.literal)) for parent in parents):
            continue
        section = next((parent for parent in parents if isinstance(parent, nodes.section)), None)
        new_nodes = []
        for text, term in [(node.astext(), node.astext())] if isinstance(node, nodes.literal) else pieces(node.astext(), names):
            new_node = node.deepcopy() if isinstance(node, nodes.literal) else nodes.Text(text)
            if term in targets and (section, term) not in linked:
                linked.add((section, term))
                words = new_node if isinstance(node, nodes.literal) else nodes.inline("", text)
                new_node = make_refnode(app.builder, docname, *targets[term], words)
                new_node["classes"].append("term")
            new_nodes.append(new_node)
        node.parent.replace(node, new_nodes)


def setup(app: Sphinx) -> None:
    """Connect it to Sphinx: once all text of a page is there."""
    app.connect("doctree-resolved", _link)
