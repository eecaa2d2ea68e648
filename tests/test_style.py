"""The prose is plain English: no word of the list below, no sentence that is too long or turned around."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
THIN = (
    "transforms", "data", "models", "attacks", "training", "recipe", "evaluation", "certified", "theory", "geometry", "__main__"
)  # fmt: skip
PROSE = sorted(
    [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
)
LONGEST = 40  # words of a sentence; aim at 25

# What a reader stumbles over, and what to write in its place.
WORDS = {
    r"alas|hitherto|thereof|wherein|whereof|whence|thence|hereby|henceforth|whilst|amongst|albeit": "a common word",
    r"utili[sz]e[sd]?|leverag(?:e[sd]?|ing)": "use",
    r"in order to": "to",
    r"prior to": "before",
    r"(?:obviously|clearly|simply put|of course|needless to say|it is easy to see|trivially)": "nothing: say why",
    r"it is (?:worth noting|important to note) that": "nothing: say it",
    r"by name alone": "only when you name it",
    r"is to be (?:seen|found|had|compared|expected)": "the active form: can be, is, we compare",
    r"all the same": "still, nevertheless",
    r"none the less|nought|in the midst of|save for|lest": "a common word",
    r"the latter|the former": "the thing itself",
    r"w\.r\.t\.(?! predictions)": "with respect to",
    r"(?<=[.:;] )So it is\b|(?<=[.:;] )Nor (?:is|does|do|are|has|can)\b|(?<=[.:;] )Not so\b": "subject, verb, object",
    r"(?<=[.:;] )Hardly\b|(?<=[.:;] )Of (?:these|those|them) \w+ (?:is|are|has|have)\b": "subject, verb, object",
}


def prose(text: str) -> str:
    """The sentences of Markdown or of a docstring: without code, formulas, tables, directives, links and headings' signs."""
    text = re.sub(r"\A---\n.*?^---$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(
        r"^(?P<fence>`{3,}|\$\$)(?!\{(?:admonition|exhibit|prf)).*?^(?P=fence)$", "\n\n", text, flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"<!--.*?-->|<[^>]+>", " ", text, flags=re.DOTALL)
    text = re.sub(r"^(?:`{3,}.*|\$\$.*|:(?!alt: )\w+:.*|\|.*|\(.*\)=|@.*|bibtex.*)$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\{[\w:-]+\}`[^`]*`|`[^`]*`|\$[^$]*\$", "x", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[*_#>]", "", text)


def sentences(text: str) -> list[str]:
    """One string a sentence; a paragraph, an item of a list and a heading end one too."""
    parts = re.split(r"\n\s*\n|\n\s*(?:-|\d+\.) |(?<=[.!?:;])\s+(?=[A-Z{x]|\d)", prose(text))
    return [" ".join(part.split()) for part in parts if part.strip()]


def faults(text: str) -> list[str]:
    """What is wrong with the prose of a text, one line a fault."""
    flat = " ".join(prose(text).split())
    found = [
        f"{match[0]!r}: write {better}"
        for words, better in WORDS.items()
        for match in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", flat, re.IGNORECASE if words.islower() else 0)
    ]
    long = [sentence for sentence in sentences(text) if len(sentence.split()) > LONGEST]
    return found + [f"{len(sentence.split())} words, at most {LONGEST}: {sentence[:80]} …" for sentence in long]


def _text(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.stem)
def test_the_prose_is_plain(path):
    assert faults(_text(path)) == []


@pytest.mark.parametrize("module", THIN)
def test_docstrings_are_plain(module):
    tree = ast.parse((ROOT / "lib" / f"{module}.py").read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = {
        getattr(node, "name", module): faults(ast.get_docstring(node) or "")
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    }
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("We utilise PGD.", "'utilise': write use"),
        ("Longer runs are computed by name alone.", "'by name alone': write only when you name it"),
        ("It is fast. Nor is it slow.", "'Nor is': write subject, verb, object"),
        ("Two ways. The latter is better.", "'The latter': write the thing itself"),
        ("word " * 41 + ".", "words, at most 40"),
        ("```{admonition} The paper\n:class: paper\nObviously so.\n```", "'Obviously': write nothing: say why"),
    ],
)
def test_a_bad_sentence_is_found(text, fault):
    assert any(fault in found for found in faults(text))


@pytest.mark.parametrize(
    "text",
    [
        "We use PGD. The attack takes 40 steps.",
        "`utilise` and $whence$ are no prose.",
        "```python\nutilise = 1\n```",
        "| the former | the latter |",
        "- " + "word " * 30 + "\n- " + "word " * 30,
    ],
)
def test_a_good_text_has_no_fault(text):
    assert faults(text) == []
