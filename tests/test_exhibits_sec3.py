"""Exhibits of Section 3: Figure 2, Tables 2 and 3, the filters' footprints and the ranges."""

import numpy as np
import pandas as pd
from frames import PAPER, ROBUST, TABLE_4, frame, measured

from lib.report.sections import answer, sec3
from lib.store import results


def test_figure_draws_the_paper_dashed_and_ours_solid_at_the_values():
    ours = frame(("original", *ROBUST, 94.0, 0), ("binarize", *ROBUST, 97.0, 0))
    (ax,) = sec3.robustness_figure(ours, PAPER, TABLE_4, xlabel="variant").axes
    dotted, dashed = (
        [line for line in ax.lines if line.get_linestyle() == style and len(line.get_xdata())] for style in (":", "--")
    )
    assert len(dotted) == 4
    assert list(dotted[2].get_ydata())[:2] == [98.1, 95.1]
    assert list(dashed[2].get_ydata())[:2] == [96.5, 89.9]  # Table 4 at our width, which has no robustness w.r.t. predictions
    assert len(dashed) == 3
    drawn = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 9]
    values = np.array(drawn[2].get_ydata(), float)
    assert list(values[:2]) == [97.0, 94.0]
    assert np.isnan(values[2:]).all()


def test_sensitivity_takes_both_ranges_over_the_same_variants():
    ours = frame(("original", *ROBUST, 90.0, 0), ("binarize", *ROBUST, 97.5, 0))
    table = sec3.sensitivity_table({"MNIST": (ours, PAPER, TABLE_4)}).text
    row = table[table["quantity"].str.startswith("robust accuracy")].iloc[0]
    assert (row["ours"], row["paper, variants computed"], row["paper, all variants"]) == ("7.5", "3.0", "15.0")
    assert row["paper, our width"] == "6.6"  # Table 4: 89.9 and 96.5
    assert table.iloc[0]["ours"] == "–"


def test_seen_speaks_only_of_what_is_computed():
    clean = ("standard", "clean_accuracy")
    assert sec3.robustness_summary(frame(), PAPER, TABLE_4).startswith("Not computed yet")
    ours = frame(
        ("original", *ROBUST, 90.0, 0),
        ("binarize", *ROBUST, 97.5, 0),
        ("original", *clean, 99.0, 0),
        ("binarize", *clean, 98.6, 0),
    )
    text = sec3.robustness_summary(ours, PAPER, TABLE_4)
    assert "7.5 points" in text
    assert "0.4 points" in text
    assert "networks of the same width (w=0.25) is 6.6, that of the wider networks in its table 3.0." in text
    assert "not computed yet" not in text


def test_seen_without_the_papers_numbers_of_our_width_takes_its_own_table():
    ours = frame(("original", *ROBUST, 90.0, 0), ("binarize", *ROBUST, 97.5, 0)).assign(widen_factor=0.3)
    ours.attrs = frame().attrs
    assert "a range of **7.5 points**. The paper's range over the same variants is 3.0." in sec3.robustness_summary(
        ours, PAPER, TABLE_4
    )


def test_seen_says_which_half_of_the_claim_is_lacking():
    rows = [("original", *ROBUST, 90.0, 0), ("binarize", *ROBUST, 97.5, 0), ("original", "standard", "clean_accuracy", 99.0, 0)]
    assert "a range of **7.5 points**" in sec3.robustness_summary(frame(*rows), PAPER, TABLE_4)
    assert "The clean accuracy of standard training is not computed yet;" in sec3.robustness_summary(
        frame(*rows), PAPER, TABLE_4
    )
    rows += [(name, "standard", "clean_accuracy", value, 0) for name, value in (("smooth-2", 98.9), ("smooth-3", 98.5))]
    assert "moves, over 3 variants, by **0.5 points**" in sec3.robustness_summary(frame(*rows), PAPER, TABLE_4)


def test_footprints_name_the_nearer_filter():
    distances = measured("inter_class_distance", {"original": 10.0, "smooth-3": 9.7, "smooth-square-3": 9.1})
    volumes = measured("log2_perturbable_volume", {"smooth-3": -1250.0, "smooth-square-3": -1266.0})
    table = sec3.footprint_table(volumes, distances, results.published("table-6"), results.published("table-1")).text
    assert list(table["nearer"]) == ["square", "–", "column", "–", "–"]


def test_both_footprints_stand_beside_the_papers_numbers_at_the_same_width():
    ours = frame(("smooth-5", *ROBUST, 77.0, 0), ("smooth-square-5", *ROBUST, 78.2, 0), ("smooth-8", *ROBUST, 76.0, 0))
    ours.attrs = {**ours.attrs, "exhibit": "footprints"}
    table = sec3.footprint_robustness_table(ours, TABLE_4).text.set_index("variant")
    assert list(table.loc["smooth 5"]) == ["77.1", "77.0 [76.2, 77.8]", "78.2 [77.4, 79.0]"]
    assert list(table.loc["smooth 8"]) == ["73.2", "76.0 [75.2, 76.8]", "–"]
    said = sec3.footprints_summary(ours, TABLE_4)
    assert "(scale laptop, w=0.25, sizes 5). With the square, robust accuracy differs" in said
    assert "differs from that with the column by +1.2 points." in said
    assert "is 0.1 points with the column and 1.1 with the square. One training of each cannot tell" in said
    nothing = frame()
    nothing.attrs = ours.attrs
    assert sec3.footprints_summary(nothing, TABLE_4).startswith("Not computed yet: no size of the filter")
    assert set(sec3.footprint_robustness_table(nothing, TABLE_4).text["square s×s"]) == {"–"}


def test_cifar10_says_what_its_images_are():
    jpeg = frame(("original", *ROBUST, 28.0, 0)).assign(dataset="cifar10-jpeg")
    assert "quality 75" in sec3.jpeg_note(jpeg)
    assert sec3.jpeg_note(jpeg.assign(dataset="cifar10")) == "These are CIFAR10's images as they were published."
    assert sec3.jpeg_note(frame()).startswith("Not computed yet")


def test_lucky_images_are_counted_apart():
    rows = [
        ("mnist", "original", 0, 90.0, 89.9, 0.1),
        ("mnist", "original", 1, 92.0, 91.7, 0.3),
        ("mnist", "smooth-3", 0, 80, 80, 0),
    ]
    found = pd.DataFrame(rows, columns=["dataset", "transform", "seed", "robust_accuracy", "both", "lucky"])
    said = sec3.lucky_summary({"MNIST": found})
    assert said.startswith("On MNIST such images make up at most **0.20 points** (original).")
    assert said.endswith("robust accuracy in percent is: original 90.8, smooth 3 80.0.")
    nothing = found[:0]
    nothing.attrs = frame().attrs
    assert sec3.lucky_summary({"MNIST": nothing}).startswith("Not computed yet")


def test_a_transform_that_the_paper_lacks_is_shown():
    ours = frame(("smooth-3", *ROBUST, 90.0, 0), ("smooth-9", *ROBUST, 80.0, 0))
    table = sec3.robustness_table(ours, PAPER).text.set_index("variant")
    assert list(table.index)[-1] == "smooth 9"
    assert table.loc["smooth 9", "robust: paper"] == "n/a"
    assert table.loc["smooth 9", "robust: ours (Δ)"] == "80.0"
    assert "**10.0 points**" in sec3.robustness_summary(ours, PAPER, TABLE_4)
    (ax,) = sec3.robustness_figure(ours, PAPER, xlabel="x").axes
    assert [label.get_text() for label in ax.get_xticklabels()][-1] == "smooth 9"
    (ax,) = answer.claim_figure({"MNIST": (ours, PAPER, TABLE_4)}, {}).axes
    assert [label.get_text() for label in ax.get_xticklabels()][-1] == "smooth 9"
