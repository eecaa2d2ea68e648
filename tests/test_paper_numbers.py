"""The paper's tables and figures are told from ours wherever the book names one by number."""

import pytest
from sites import built

from lib.book import paper_numbers


@pytest.mark.parametrize(
    ("text", "shown", "labels"),
    [
        ("Table 2: MNIST", "Table 2 [paper]: MNIST", ["tab-2"]),
        ("(the paper's Table 2)", "(Table 2 [paper])", ["tab-2"]),
        ("of its Table 6 and", "of Table 6 [paper] and", ["tab-6"]),
        (
            "Tables 2, 3, 4 and 5. Here",
            "Tables 2, 3, 4 and 5 [paper]. Here",
            ["tab-2", "tab-3", "tab-c4-robust", "tab-c5-robust"],
        ),
        ("Figure 4 of the paper is", "Figure 4 [paper] is", ["fig-4a"]),
        ("Tables 4 and 5\nof the paper", "Tables 4 and 5 [paper]", ["tab-c4-robust", "tab-c5-robust"]),
        ("Table 7 [paper] has", "Table 7 [paper] has", ["tab-7"]),
        ("Figures 1a and 1b", "Figures 1a and 1b [paper]", ["fig-1a", "fig-1b"]),
        ("Table 2 and 3 points", "Table 2 [paper] and 3 points", ["tab-2"]),
        ("(Table 7).", "(Table 7 [paper]).", ["tab-7"]),
        ("Section 2, Table rows", "Section 2, Table rows", []),
    ],
)
def test_a_number_in_a_text_is_the_paper_s(text, shown, labels):
    parts = list(paper_numbers.parts(text))
    assert "".join(piece for piece, _ in parts) == shown
    assert [target for _, target in parts if target] == labels


def test_in_a_page_the_number_is_a_link_where_the_book_has_the_exhibit(tmp_path):
    index = (
        "(tab-2)=\n# Numbers\n\nRead the paper's Table 2, **its Table 1** and `Table 3`; [Table 7](other.md) stays.\n\n"
        "```{toctree}\nother\n```\n"
    )
    other = "# Other\n\nTables 2 and 3 of the paper.\n"
    pages = built(tmp_path, "lib.book.paper_numbers", index=index, other=other).values()
    texts = [" ".join(page.find(role="main").get_text().split()) for page in pages]
    assert "Read Table 2 [paper], Table 1 [paper] and Table 3; Table 7 stays." in texts[0]
    assert "Tables 2 and 3 [paper]." in texts[1]
    links = [[a["href"] for a in page.select("a.internal") if a.text in ("Table 2", "Tables 2", "Table 1")] for page in pages]
    assert links == [["#tab-2"], ["index.html#tab-2"]]
