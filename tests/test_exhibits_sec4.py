"""Exhibits of Section 4: variants without the paper's numbers, and Figure 3b."""

import numpy as np
from frames import CLEAN, ROBUST, TRAINED, frame, is_empty

from lib.report.sections import sec3, sec4
from lib.store import intervals, results

GAMMAS = ["gamma-0.6", "gamma-0.8", "original", "gamma-1.2", "gamma-1.4"]
THREE = GAMMAS[::2]
FASHION_PAPER = results.published("figure-3b")
SIX = (
    ("original", *CLEAN, 90.0, 0),
    ("original", *TRAINED, 80.0, 0),
    ("original", *ROBUST, 60.0, 0),
    ("edges", *CLEAN, 88.0, 0),
    ("edges", *TRAINED, 87.0, 0),
    ("edges", *ROBUST, 86.5, 0),
)


def gammas(*rows):
    return frame(*rows, exhibit="figure-3a")


def clothes(*rows):
    return frame(*rows, exhibit="figure-3b")


def test_a_figure_without_the_papers_numbers_is_ours_alone():
    ours = gammas(("gamma-0.6", *ROBUST, 38.0, 0), ("gamma-1.4", *ROBUST, 46.0, 0))
    (ax,) = sec3.robustness_figure(ours, None, xlabel="gamma").axes
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "gamma 0.6",
        "gamma 0.8",
        "original",
        "gamma 1.2",
        "gamma 1.4",
    ]
    assert not [line for line in ax.lines if line.get_linestyle() == "--"]
    assert "the paper" not in [text.get_text() for text in ax.get_legend().get_texts()]
    drawn = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 5]
    values = np.array(drawn[2].get_ydata(), float)
    assert (values[0], values[4]) == (38.0, 46.0)
    assert np.isnan(values[1])  # the line breaks where nothing is computed


def test_a_figure_without_any_number_says_how_to_compute_them():
    assert is_empty(sec3.robustness_figure(gammas(), None, xlabel="gamma"))


def test_variants_without_the_papers_numbers_have_intervals():
    seeds = (("original", *ROBUST, 43.0, 0), ("original", *ROBUST, 45.0, 1))
    ours = gammas(("gamma-0.6", *ROBUST, 38.0, 0), *seeds, ("original", *CLEAN, None, 0))
    table = sec4.variants_table(ours).text.set_index("variant")
    low, high = intervals.interval(38.0, 10000)
    assert table.loc["gamma 0.6", "robust"] == f"38.0 [{low:.1f}, {high:.1f}]"
    assert table.loc["original", "robust"] == "44.0 [43.0, 45.0]"
    assert table.loc["original", "clean, standard"] == "stale"
    assert table.loc["gamma 1.4", "robust"] == "–"


def test_what_is_seen_of_variants_is_their_ranges():
    assert sec4.variants_summary(gammas()).startswith("Not computed yet: clean accuracy, standard training needs two variants")
    rows = [(name, *CLEAN, value, 0) for name, value in zip(THREE, (94.5, 95.0, 94.0), strict=True)]
    rows += [(name, *TRAINED, value, 0) for name, value in zip(THREE, (81.0, 85.0, 83.0), strict=True)]
    assert "Not computed yet: robust accuracy" in sec4.variants_summary(gammas(*rows))
    rows += [("gamma-0.6", *ROBUST, 38.0, 0), ("gamma-1.4", *ROBUST, 46.5, 0)]
    text = sec4.variants_summary(gammas(*rows))
    for part in ("2 of 5", "scale laptop", "**1.0 points**", "**4.0**", "**8.5**", "38.0% (gamma 0.6)", "46.5% (gamma 1.4)"):
        assert part in text


def test_fashion_table_has_the_six_numbers():
    table = sec4.fashion_table(clothes(*SIX), FASHION_PAPER).text
    assert list(table["paper"]) == ["92.7", "81.2", "65.3", "88.3", "87.2", "86.6"]
    assert list(table["Δ"]) == ["-2.7", "-1.2", "-5.3", "-0.3", "-0.2", "-0.1"]
    assert all(cell.startswith(f"{row[3]:.1f} [") for cell, row in zip(table["ours"], SIX, strict=True))
    empty = sec4.fashion_table(clothes(SIX[0]), FASHION_PAPER).text
    assert list(empty["ours"][1:]) == list(empty["Δ"][1:]) == ["–"] * 5
    assert sec4.fashion_table(clothes(("edges", *ROBUST, None, 0)), FASHION_PAPER).text["ours"].iloc[-1] == "stale"


def test_fashion_figure_draws_bars_and_the_paper_dashed():
    (ax,) = sec4.fashion_figure(clothes(*SIX), FASHION_PAPER).axes
    assert sorted(bar.get_height() for bar in ax.patches) == sorted(row[3] for row in SIX)
    lines = [collection for collection in ax.collections if collection.get_linestyle() and len(collection.get_segments()) == 2]
    dashed = {segment[0][1] for collection in lines for segment in collection.get_segments() if segment[0][1] == segment[1][1]}
    assert dashed == {92.7, 81.2, 65.3, 88.3, 87.2, 86.6}
    (ax,) = sec4.fashion_figure(clothes(), FASHION_PAPER).axes
    assert all(np.isnan(bar.get_height()) for bar in ax.patches)


def test_what_is_seen_of_fashion_is_cost_and_gap():
    text = sec4.fashion_summary(clothes(*SIX), FASHION_PAPER)
    assert "On fashion-MNIST, PGD training costs **10.0 points** of clean accuracy (the paper: 11.5)" in text
    assert "another **0.5** lower (the paper: 0.6)" in text
    assert sec4.fashion_summary(clothes(*SIX[:5]), FASHION_PAPER).startswith("Not computed yet: edge-fashion-MNIST lacks")
    stale = clothes(*SIX[:5], ("edges", *ROBUST, None, 0))
    assert "accuracies (some are stale); compute it with `" in sec4.fashion_summary(stale, FASHION_PAPER)
