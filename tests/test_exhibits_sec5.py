"""Exhibits of Section 5 and Appendix C: equal distances, volumes and boxes, capacity and samples."""

import numpy as np
import pandas as pd
import pytest
from frames import BOXES, CLEAN, ROBUST, TABLE_1, TABLE_4, TABLE_6, TABLE_7, UNBOXED, along, frame, measured

from lib.report.sections import sec5


@pytest.mark.parametrize(
    ("points", "cell"),
    [
        ([], "–"),
        ([("original", *ROBUST, 94.0, "test", 0.25)], "94.0"),
        ([("original", *ROBUST, 94.0, "test", 0.25), ("original", *ROBUST, 96.0, "test", 0.25)], "95.0 ± 1.0"),
        ([("original", *ROBUST, None, "test", 0.25)], "stale"),
        ([("original", *ROBUST, 94.0, "train", 0.25)], "–"),
        ([("original", *ROBUST, 94.0, "test", 0.5)], "–"),
    ],
    ids=["missing", "one seed", "two seeds", "stale", "the other split", "another width"],
)
def test_cells_of_tables_4_and_5(points, cell):
    tables = sec5.capacity_tables(along("widen_factor", *points), TABLE_4)
    assert list(tables) == ["clean, standard", "clean, PGD", "robust"]
    table = tables["robust"].text.set_index(["images", "variant"])
    assert table.loc[("test", "original"), "w=.25 ours"] == cell
    assert table.loc[("test", "original"), "w=.25 paper"] == "89.9"
    assert table.loc[("training", "original"), "w=.25 paper"] == "90.8"
    assert len(table) == 2 * 9


def test_a_blank_of_our_copy_and_a_width_the_paper_has_not():
    ours = along("widen_factor", ("original", *CLEAN, 94.0, "test", 0.0625))
    table = sec5.capacity_tables(ours, TABLE_4)["clean, standard"].text.set_index(["images", "variant"])
    assert table.loc[("test", "binarized"), "w=.125 paper"] == "n/a"
    assert table.loc[("training", "binarized"), "w=.125 paper"] == "99.9"
    assert list(table.loc[("test", "original"), ["w=.0625 paper", "w=.0625 ours"]]) == ["n/a", "94.0"]
    assert list(table.columns)[:4] == ["w=.0625 paper", "w=.0625 ours", "w=.125 paper", "w=.125 ours"]


def test_table_4_has_a_column_of_its_own_for_another_scale():
    """Nothing is averaged over scales; without a record of the other one there is no such column."""
    ours = along("widen_factor", ("original", *ROBUST, 90.0, "test", 0.125), ("original", *ROBUST, 94.0, "test", 0.25))
    own = along("widen_factor", ("original", *ROBUST, 82.0, "test", 0.125))
    own.attrs = {**own.attrs, "scale": "paper", "exhibit": "paper-settings-mnist"}
    assert ours.attrs["scale"] != "paper"
    table = sec5.capacity_tables(ours, TABLE_4, own)["robust"].text.set_index(["images", "variant"])
    wanted = ["w=.125 paper", "w=.125 ours", "w=.125 ours, scale paper", "w=.25 paper", "w=.25 ours"]
    assert list(table.columns)[:5] == wanted
    assert list(table.loc[("test", "original"), wanted]) == ["87.1", "90.0", "82.0", "89.9", "94.0"]
    nothing = own.assign(value=float("nan"))
    assert not [name for name in sec5.capacity_tables(ours, TABLE_4, nothing)["robust"].text if "scale" in name]


def test_table_1_has_a_row_a_set_with_the_solved_factor():
    distances = pd.concat(
        [
            measured("inter_class_distance", {"smooth-3": 7.085, "rescale-to-smooth-3": 7.085}),
            measured("scale_factor", {"rescale-to-smooth-3": 0.96945}),
        ]
    )
    ours = frame(("smooth-3", *ROBUST, 80.0, 0), ("rescale-to-smooth-3", *ROBUST, 90.0, 0), exhibit="table-1")
    table = sec5.equal_distance_table(distances, ours, TABLE_1).text
    assert len(table) == 9
    smoothed, original, binarized = (list(table.iloc[i, 1:]) for i in range(3))
    assert smoothed == ["7.12", "7.08", "", "", "91.3", "80.0 (-11.3)"]
    assert original == ["7.12", "7.08", "0.970", "0.969", "94.6", "90.0 (-4.6)"]
    assert binarized == ["7.12", "–", "0.821", "–", "98.6", "–"]


SAME_DISTANCE = [
    ("smooth-3", *ROBUST, 80.0, 0),
    ("rescale-to-smooth-3", *ROBUST, 90.0, 0),
    ("binarize+rescale-to-smooth-3", *ROBUST, 97.0, 0),
]


def test_distance_seen_needs_all_sets_of_a_distance():
    distances = measured("inter_class_distance", {"smooth-3": 7.085})
    text = sec5.equal_distance_summary(distances, frame(*SAME_DISTANCE, exhibit="table-1"), TABLE_1)
    assert "smooth 3 (7.08)" in text
    assert "**17.0 points**" in text
    assert "(in the paper, with a wider network, 7.3)" in text
    assert "smooth 4" not in text
    assert sec5.equal_distance_summary(distances, frame(*SAME_DISTANCE[:2]), TABLE_1).startswith("Not computed yet")


def test_distance_figure_draws_the_three_families():
    distances = measured("inter_class_distance", {"smooth-3": 7.085, "rescale-to-smooth-3": 7.085})
    (ax,) = sec5.equal_distance_figure(distances, frame(*SAME_DISTANCE, exhibit="table-1"), TABLE_1).axes
    dashed = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in dashed] == [[91.3, 90.3, 89.6], [94.6, 95.5, 94.9], [98.6, 98.6, 98.5]]
    assert list(dashed[0].get_xdata()) == [7.12, 7.01, 6.85]
    solid = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    assert [line.get_ydata()[0] for line in solid] == [80.0, 90.0, 97.0]


def test_volume_figure_puts_volumes_across_and_both_attacks_up():
    volumes = measured("log2_perturbable_volume", {"original": -1297.26, "binarize": -1361.78})
    (ax,) = sec5.volume_figure(volumes, frame(*BOXES), TABLE_6, TABLE_7, dataset="mnist").axes
    whole = 784 * np.log2(0.6)
    dashed = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert [len(line.get_xdata()) for line in dashed] == [4, 4]  # Table 6 has four of Table 7's six variants
    assert dashed[0].get_xdata() == pytest.approx(whole - np.array([-1234, -1265, -1297, -1361]))
    assert list(dashed[1].get_ydata()) == [89.9, 91.5, 95.1, 96.1]
    points = {(x, y) for line in ax.lines if line.get_linestyle() == "None" for x, y in zip(*line.get_data(), strict=True)}
    expected = {(whole + 1297.26, 94.0), (whole + 1297.26, 93.5), (whole + 1361.78, 97.0)}
    assert {(round(x, 6), y) for x, y in points} >= {(round(x, 6), y) for x, y in expected}


def test_volume_seen_compares_the_attacks_on_the_same_variants():
    volumes = measured("log2_perturbable_volume", {"original": -1297.26, "binarize": -1361.78})
    both = frame(*BOXES, ("binarize", *UNBOXED, 97.2, 0))
    text = sec5.volume_summary({"mnist": (volumes, both), "cifar10": (volumes, frame())}, TABLE_7)
    assert "**-0.5 to +0.2 points** over 2 variants, whose perturbable volumes differ by up to 65 bits" in text
    assert "in the paper, over the same variants, by -2.0 to +0.0" in text
    assert "CIFAR10: not computed yet" in text
    one = sec5.volume_summary({"mnist": (volumes, frame(*BOXES))}, TABLE_7)
    assert "by **-0.5 points** over 1 variant; in the paper, over the same variants, by +0.0." in one
    posterized = frame(("posterize-4", *ROBUST, 90.0, 0), ("posterize-4", *UNBOXED, 89.0, 0))
    assert sec5.volume_summary({"mnist": (volumes, posterized)}, TABLE_7).endswith("by **-1.0 points** over 1 variant.")


CAPACITY = [
    ("original", *ROBUST, 80.0, "test", 0.125),
    ("original", *ROBUST, 90.0, "test", 0.5),
    ("original", *ROBUST, 81.0, "train", 0.125),
    ("original", *ROBUST, 93.0, "train", 0.5),
    ("smooth-5", *ROBUST, 60.0, "test", 0.125),
    ("smooth-5", *ROBUST, 85.0, "test", 0.5),
    ("original", *CLEAN, 98.0, "test", 0.125),
    ("original", *CLEAN, 98.5, "test", 0.5),
]


def test_growth_figure_has_training_above_test_and_the_paper_dashed():
    axes = sec5.growth_figure(along("widen_factor", *CAPACITY), TABLE_4, axis="widen_factor", xlabel="width").axes
    assert len(axes) == 6
    test_robust = axes[5]
    dashed = [line for line in test_robust.lines if line.get_linestyle() == "--"]
    assert len(dashed) == 4
    assert list(dashed[1].get_ydata()) == [87.1, 89.9, 95.2, 95.1, 94.8, 94.9]
    solid = [line for line in test_robust.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in solid] == [
        ([0.125, 0.5], [80.0, 90.0]),
        ([0.125, 0.5], [60.0, 85.0]),
    ]
    trained = [line for line in axes[2].lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    assert [list(line.get_ydata()) for line in trained] == [[81.0, 93.0]]
    assert [label.get_text() for label in test_robust.get_xticklabels()] == [".125", ".25", ".5", "1", "2", "4"]


def test_growth_figure_names_what_it_draws():
    ours = along("train_size", *(("original", *ROBUST, value, "test", size) for value, size in ((80.0, 1000), (90.0, 60000))))
    (legend,) = sec5.growth_figure(ours, None, axis="train_size", xlabel="images").legends
    assert [text.get_text() for text in legend.get_texts()] == ["original"]
    (legend,) = sec5.growth_figure(along("widen_factor", *CAPACITY), TABLE_4, axis="widen_factor", xlabel="width").legends
    assert [text.get_text() for text in legend.get_texts()] == ["binarized", "original", "smooth 3", "smooth 5", "the paper"]


def test_growth_figure_without_numbers_says_how_to_compute_them():
    figure = sec5.growth_figure(along("train_size"), None, axis="train_size", xlabel="images")
    (ax,) = figure.axes
    assert "not computed yet" in ax.texts[0].get_text()


def test_growth_seen_takes_both_ends_from_what_is_computed():
    text = sec5.growth_summary({"MNIST": (along("widen_factor", *CAPACITY), TABLE_4)}, "widen_factor")
    assert "from widen factor 0.125 to 0.5" in text
    assert "**+10.0 (original) to +25.0 points (smooth 5)**" in text
    assert "(in the paper, over the same variants, by +8.1 (original) to +18.9 points (smooth 5))" in text
    assert "standard training by +0.5 points (original)" in text
    assert "from 1.0 to 3.0 points" in text


def test_growth_seen_of_training_set_sizes():
    points = [("original", *ROBUST, value, "test", size) for size, value in ((1000, 70.0), (9000, None), (60000, 90.0))]
    ours = along("train_size", *points).astype({"train_size": "Int64"})
    text = sec5.growth_summary({"MNIST": (ours, None), "CIFAR10": (along("train_size", *points[:1]), None)}, "train_size")
    assert "from train size 1,000 to 60,000" in text
    assert "**+20.0 points (original)**" in text
    assert "CIFAR10: not computed yet, at least two values are needed" in text


def test_passes_seen_counts_steps_of_the_grid():
    text = sec5.passes_summary({"MNIST": along("train_size")})
    assert text == (
        "MNIST (scale laptop): every run takes 1,876 steps of 128 images, that is 240 times through 1,000, 27 times through "
        "9,000, 4 times through 60,000 training images."
    )
