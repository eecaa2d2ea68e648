"""The prose is plain English: no words of the list below, no long sentences, no inversions.

The tests read the pages' Markdown, the claims and marks, docstrings, and the strings from which the code makes tables,
sentences, help and error messages.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from lib.report import claims
from lib.report.claims.marks import MARKS

ROOT = Path(__file__).resolve().parents[1]
THIN = (
    "transforms", "data", "models", "attacks", "training", "base/recipe", "evaluation", "certified", "theory", "geometry",
    "__main__",
)  # fmt: skip
PROSE = sorted(
    [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
)
CODE = [path for path in sorted((ROOT / "lib").rglob("*.py")) if path.name != "pdf.py"]  # a style sheet is no prose
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
    r"(?:Not computed|Given|Missing|Drawn) (?:is|are)\b|(?<=[.:;] )Between [^.:;]+ (?:is|are) x": "subject, verb, object",
    r"[Ww]hat is \w+ is\b|[Ii]t is (?:on|in|at|by|for|from|with) [^.:;]{1,60}? that\b": "a plain sentence",
    r"that (?:is|are) (?-i:none)|nothing for it": "what it is, or what to do",
    r"not an? \w+:": "a whole sentence",
    r"(?:it|they|points?|numbers?|accurac(?:y|ies)|x) lies? (?:below|above|within|apart|off|x)": "is, are",
    r"what (?:becomes|became) of": "how it changes",
    r"stays? put|one and the same|borne out|bears? out|all in all|taken apart|to begin with": "a plain verb",
    r"at hand": "available",
    r"\btells? of\b|(?:is|are|be) told (?:by|apart|from|in)|\btold from\b": "names, shows, distinguishes",
    r"without a word|for want of|by eye|knows no|is too little|goes to show|is to blame": "the plain cause",
    r"must be as many|fail(?:s|ed)? too": "what is allowed; the whole sentence",
    r"that (?:fell|stood)": "robust, misclassified",
    r"were (?:it|each|they|all)\b[^.:;]* (?:trained|computed|made)": "if",
    r"(?<![.,])1 (?:lie|agree|differ|hold|fail|numbers|claims|marks|variants|seeds|units|bits)": "a word that agrees with 1",
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
    wordings = [
        f"{match[0]!r}: write {better}"
        for words, better in WORDS.items()
        for match in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", flat, re.IGNORECASE if words.islower() else 0)
    ]
    long = [sentence for sentence in sentences(text) if len(sentence.split()) > LONGEST]
    return wordings + [f"{len(sentence.split())} words, at most {LONGEST}: {sentence[:80]} …" for sentence in long]


def texts_of_code(code: str) -> list[str]:
    """The texts that a module says: its strings of four words or more but docstrings, with `x` where a value goes."""
    tree = ast.parse(code)
    nodes = list(ast.walk(tree))
    within = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node}
    silent = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = []
    for node in nodes:
        if id(node) in within or id(node) in silent:
            continue
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return [text for text in texts if len(text.split()) >= 4]


def _docstrings(path: Path) -> dict[str, str]:
    """By name, the docstrings of a module and of its functions and classes."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    return {getattr(node, "name", "module"): ast.get_docstring(node) or "" for node in nodes}


def _text(path: Path) -> str:
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.stem)
def test_the_prose_is_plain(path):
    assert faults(_text(path)) == []


@pytest.mark.parametrize("module", THIN)
def test_docstrings_are_plain(module):
    faults_by_name = {name: faults(text) for name, text in _docstrings(ROOT / "lib" / f"{module}.py").items()}
    assert {name: wrong for name, wrong in faults_by_name.items() if wrong} == {}


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT / "lib")))
def test_what_the_code_says_is_plain(path):
    """Columns, notes and sentences of the pages, help and error messages, and the docstrings' first lines."""
    public = {name: text for name, text in _docstrings(path).items() if not name.startswith("_")}
    first = [
        text.partition("\n")[0] for name, text in public.items() if name == "module" or path.parent.name in ("lib", "report")
    ]
    assert [fault for text in [*texts_of_code(path.read_text(encoding="utf-8")), *first] for fault in faults(text)] == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT / "lib")))
def test_a_module_says_what_it_is_for(path):
    """Its docstring begins with what it is or does, not with a clause such as "What is computed"."""
    assert re.match(r"(?!(?:What|How|Where|Whether|Which|Why|Does)\b)[A-Z`]", _docstrings(path)["module"])


@pytest.mark.parametrize("path", sorted((ROOT / "lib").rglob("*.jinja")), ids=lambda path: path.name)
def test_templates_are_plain(path):
    text = re.sub(r"\{[%{].*?[%}]\}", "x", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL)
    assert faults(re.sub(r"</?(?:p|li|td|th|h\d|tr|div|section)[^>]*>", "\n\n", text)) == []


@pytest.mark.parametrize("text", [*(claim.sentence for claim in claims.CLAIMS.values()), *(mark.mark for mark in MARKS)])
def test_claims_and_marks_are_plain(text):
    assert faults(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("We utilise PGD.", "'utilise': write use"),
        ("Longer runs are computed by name alone.", "'by name alone': write only when you name it"),
        ("It is fast. Nor is it slow.", "'Nor is': write subject, verb, object"),
        ("Two ways. The latter is better.", "'The latter': write the thing itself"),
        ("word " * 41 + ".", "words, at most 40"),
        ("```{admonition} The paper\n:class: paper\nObviously so.\n```", "'Obviously': write nothing: say why"),
        ("23 numbers agree, 1 lie below the paper's.", "'1 lie': write a word that agrees with 1"),
        ("A Lipschitz constant that is none.", "'that is none': write what it is, or what to do"),
        ("In the end what is lost is lost to the attack.", "'what is lost is': write a plain sentence"),
        ("It is on the smoothed variants that more steps help.", "a plain sentence"),
        ("Done. Between them are x points.", "'Between them are x': write subject, verb, object"),
        ("images and labels must be as many, given 3 and 4", "what is allowed; the whole sentence"),
        ("a process ended without a word", "the plain cause"),
        ("3 stand that fell, 1 fall that stood", "robust, misclassified"),
        ("All in all: the paper's own numbers fail too.", "'All in all': write a plain verb"),
    ],
)
def test_a_bad_sentence_is_found(text, fault):
    assert any(fault in message for message in faults(text))


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


def test_the_texts_of_code_are_found():
    code = '"""A docstring of four words."""\nraise ValueError(f"eps must be positive, given {eps!r}, " "in points")\nx = "a b"'
    assert texts_of_code(code) == ["eps must be positive, given x, in points"]
