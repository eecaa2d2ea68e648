"""What the exhibits of a page were made of, read from its cells: `exhibits.show(name, …)` and what its argument was made of."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.store import grid, results

# Of `lib.run.experiments` and `lib.store.results`: what reads the records of an exhibit that is named.
_READERS = ("collect", "collect_histograms", "collect_tables", "select", "histograms", "tables", "outcomes", "benchmark")


@dataclass(frozen=True)
class Origin:
    """What a value of a page was made of.

    `functions` of `lib.exhibits`; exhibits of the grid whose `records` were read; `named`: exhibits that are named and not yet
    read; `everything`: all records, which the claims and the scorecard are read from.
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
    if (module, name) == ("claims", "recorded") or module == "scorecard":
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
