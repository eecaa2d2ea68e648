"""The names of the glossary are links where a section first uses them."""

import pytest
from sites import built

from lib.book import terms

TERMS = {"clean accuracy": "clean_accuracy", "accuracy of all": "accuracy_of_all", "robustness w.r.t. predictions": "wrt"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Its clean accuracy falls", ["clean_accuracy"]),
        ("Clean accuracy, clean accuracy", ["clean_accuracy", "clean_accuracy"]),
        ("unclean accuracy and clean accuracy2", []),
        ("the robustness w.r.t. predictions.", ["wrt"]),
    ],
)
def test_a_name_is_found_as_it_is_read(text, named):
    pieces = terms.pieces(text, TERMS)
    assert "".join(piece for piece, _ in pieces) == text
    assert [term for _, term in pieces if term] == named


def test_a_term_is_spoken_without_underscores():
    assert terms.in_words("robustness_wrt_predictions") == "robustness w.r.t. predictions"
    assert terms.in_words("inter-class distance") == "inter-class distance"


def test_each_section_links_a_name_once_and_the_glossary_nothing(tmp_path):
    index = (
        "# Clean accuracy\n\nClean accuracy, **clean accuracy** and `eps`; the level, [clean accuracy](other.md), `level`.\n\n"
        "## Again\n\nIts clean accuracy. `clean_accuracy = 1`\n\n| clean accuracy |\n|---|\n| `eps` |\n\n"
        "```{glossary}\nclean_accuracy\n  As clean accuracy.\n\neps\nlevel\n  A number\n```\n\n```{toctree}\nother\n```\n"
    )
    pages = built(tmp_path, "lib.book.terms", index=index, other="# Other\n\nAn `eps`.\n")
    links = {name: [(a.get_text(), a["href"]) for a in page.select("a.term")] for name, page in pages.items()}
    accuracy = "#term-clean_accuracy"
    assert links["index"] == [
        ("Clean accuracy", accuracy), ("eps", "#term-eps"), ("level", "#term-level"), ("clean accuracy", accuracy),
    ]  # fmt: skip
    assert links["other"] == [("eps", "index.html#term-eps")]
