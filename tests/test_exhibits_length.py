"""Exhibits on the length of training."""

import numpy as np
import pandas as pd
import pytest
from frames import ATTRS, ROBUST, TABLE_4, frame

from lib.report.sections import length
from lib.store import grid, results
from lib.store.intervals import ANY, Spread, interval


def trained(exhibit: str, *points) -> pd.DataFrame:
    """Robust accuracies (recipe, transform, value) of the exhibit at scale laptop, one seed."""
    rows = frame(*((transform, *ROBUST, value, 0) for _, transform, value in points))
    rows["recipe"] = [recipe for recipe, _, _ in points]
    rows["widen_factor"] = grid.runs(exhibit, "laptop")[0].widen_factor
    rows.attrs = {**ATTRS, "exhibit": exhibit}
    return rows


LONGER = trained(
    "under-training",
    *(("default", "original", 85.0), ("default", "smooth-5", 60.0), ("twice", "original", 86.0), ("twice", "smooth-5", 63.0)),
    *(("four-times", "original", 87.0), ("four-times", "smooth-5", 65.5)),
)
OWN = trained(
    "published-settings",
    ("published", "original", 87.5),
    ("published", "smooth-5", 66.5),
    ("published", "smooth-square-5", 50.0),
)
NOTHING = {name: trained(name) for name in ("under-training", "published-settings")}


def test_the_gap_by_length_of_training():
    table = length.length_table(LONGER, OWN, TABLE_4).text
    assert table["training"].tolist() == [
        "5,628 (12 epochs), attacks of 10 steps of 0.06",
        "11,256 (24 epochs), attacks of 10 steps of 0.06",
        "22,512 (48 epochs), attacks of 10 steps of 0.06",
        "the paper's own: 100,000 (83.3 epochs), attacks of 40 steps of 0.01",
        "the paper's numbers, w=0.125",
    ]
    assert table["original"].tolist() == ["85.0", "86.0", "87.0", "87.5", "87.1"]
    assert table["smooth 5"].tolist() == ["60.0", "63.0", "65.5", "66.5", "66.2"]
    assert table["gap to smooth 5"].tolist() == ["25.0", "23.0", "21.5", "21.0", "20.9"]
    assert table["gap to smooth 5 (square)"].tolist() == ["–", "–", "–", "37.5", "n/a"]


def test_what_is_said_of_the_gap():
    said = length.length_summary(LONGER, OWN, TABLE_4)
    assert "from 5,628 to 22,512 steps the gap between original and smooth 5 goes **from 25.0 to 21.5 points**" in said
    assert "a change of -3.5 [-5.1, -1.9]. The paper's gap is 20.9." in said
    assert "narrows the gap. At the longest training the gap is +21.5 [+20.4, +22.6] points; its interval excludes" in said
    assert "The longest training still gains +2.5 points on smooth 5 and +1.0 on the original" in said
    assert "At the paper's own settings, another recipe, the gap is 21.0." in said
    assert "66.5% as a column and 50.0% as a square. The paper prints 66.2%: the column is nearer" in said
    assert "own settings" not in length.length_summary(LONGER, NOTHING["published-settings"], TABLE_4)


@pytest.mark.parametrize(
    ("longest", "told"),
    [
        ((86.0, 58.0), "The gap grows beyond the intervals: with this recipe longer training widens it."),
        ((86.0, 61.0), "This change is not beyond the intervals. At the longest training the gap is +25.0"),
        ((86.0, 60.6), "This change is not beyond the intervals."),
        ((87.0, 86.8), "points; its interval contains 0."),
        ((87.0, 84.0), "So with this recipe longer training narrows the gap. At the longest training the gap is +3.0"),
        (
            (86.0, 70.0),
            "+1.0 on the original over the one before, so these lengths do not tell where the gap ends.",
        ),
        ((87.0, 60.5), "The longest training gains +0.5 points on smooth 5 over the one before."),
    ],
)
def test_what_a_gap_comes_of(longest, told):
    ours = trained(
        "under-training",
        *(("default", "original", 85.0), ("default", "smooth-5", 60.0)),
        *(("twice", "original", longest[0]), ("twice", "smooth-5", longest[1])),
    )
    assert told in length.length_summary(ours, NOTHING["published-settings"], TABLE_4)


def test_one_training_s_chance_is_in_the_gap_s_interval():
    """A gap that closes beyond what the images leave to chance, and not beyond what trainings do."""
    rows = (
        ("default", "original", 85.0),
        ("default", "smooth-5", 60.0),
        ("twice", "original", 86.0),
        ("twice", "smooth-5", 64.0),
    )
    ours = trained("under-training", *rows)
    said = length.length_summary(ours, NOTHING["published-settings"], TABLE_4)
    assert "So with this recipe longer training narrows the gap." in said
    ours.attrs = {**ours.attrs, "spreads": {(ANY, "pgd", "robust_accuracy", "test"): Spread(0.05, 18)}}
    assert "This change is not beyond the intervals." in length.length_summary(ours, NOTHING["published-settings"], TABLE_4)


def test_one_length_is_no_comparison():
    ours = trained("under-training", ("default", "original", 85.0), ("default", "smooth-5", 60.0), ("twice", "original", 86.0))
    assert length.length_summary(ours, OWN, TABLE_4).startswith("Not computed yet: at least two lengths are needed")


def test_runs_that_two_exhibits_share_count_once():
    own = trained("published-settings", ("default", "original", 85.0))
    robust = length.robust_by_length([LONGER, own])
    assert robust.loc[("laptop", "default", "original"), "seeds"] == 1


def test_the_papers_scale_is_its_own_training():
    """Its recipe has the name of laptop's, and is not taken for it."""
    own = trained("published-settings")
    own.attrs = {**own.attrs, "scale": "paper"}
    table = length.length_table(LONGER, own, TABLE_4).text
    assert [row.partition(" (")[0] for row in table["training"]] == [
        *("5,628", "11,256", "22,512", "the paper's own: 100,000", "the paper's numbers, w=0.125")
    ]
    assert table["original"].tolist() == ["85.0", "86.0", "87.0", "–", "87.1"]


def test_the_figure_draws_both_variants_and_the_paper():
    (ax,) = length.length_figure(LONGER, OWN, TABLE_4).axes
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert sorted(line.get_ydata()[0] for line in dashed) == [66.2, 87.1]
    solid = [line.get_ydata() for line in ax.lines if line.get_linestyle() == "-" and len(line.get_ydata()) == 3]
    assert [list(values) for values in solid] == [[85.0, 86.0, 87.0], [60.0, 63.0, 65.5]]


def test_the_figures_bars_are_the_intervals():
    (ax,) = length.length_figure(LONGER, OWN, TABLE_4).axes
    bars = [segment[:, 1].tolist() for container in ax.containers for segment in container.lines[2][0].get_segments()]
    values = [85.0, 86.0, 87.0, 87.5, 60.0, 63.0, 65.5, 66.5, 50.0]
    assert np.allclose(bars, [interval(value, 10_000) for value in values])


def test_a_figure_without_records_says_so():
    figure = length.length_figure(*NOTHING.values(), TABLE_4)
    assert (
        "not computed" in " ".join(text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))).lower()
    )


SHORT = trained("tuning-mnist", ("short", "original", 80.0), ("default", "original", 90.5), ("twice", "original", 94.0))
COLOUR = trained("tuning-cifar10", ("third", "original", 25.0))


def test_the_tuning_is_beside_the_papers_column():
    table = length.tuning_table({"MNIST": (SHORT, TABLE_4), "CIFAR10": (COLOUR, results.published("table-5"))}).text
    assert table["data set"].tolist() == ["MNIST"] * 3 + ["CIFAR10"] * 3
    assert [steps for steps in table["steps"] if "**" in steps] == ["**5,628 (12 epochs)**", "**10,530 (27 epochs)**"]
    assert table["attack in training"].tolist()[:2] == ["5 steps of 0.12", "10 steps of 0.06"]
    assert set(table["robust: paper"][:3]) == {"89.9"}
    assert table["robust: ours (Δ)"].tolist() == ["80.0 (-9.9)", "90.5 (+0.6)", "94.0 (+4.1)", "25.0 (-10.0)", "–", "–"]


def test_what_is_said_of_the_tuning():
    said = length.tuning_summary({"MNIST": (SHORT, TABLE_4), "CIFAR10": (COLOUR, results.published("table-5"))})
    assert (
        "**90.5%** with 5,628 steps, +0.6 points from the paper at this width; 80.0% with 1,407 and 94.0% with 11,256" in said
    )
    assert "CIFAR10: not computed yet" in said
    assert ".." not in said


def test_standard_training_is_beside_the_papers_column_too():
    ours = levels(
        ("default", "original", "standard", "clean_accuracy", 70.4),
        ("thrice", "original", "standard", "clean_accuracy", 80.4),
    )
    ours.attrs["exhibit"] = "tuning-cifar10-standard"
    table = length.standard_tuning_table(ours, results.published("table-5")).text
    assert [steps.split()[0] for steps in table["steps"]] == ["1,170", "3,510", "10,530", "**31,590"]
    assert set(table["clean: paper"]) == {"84.4"}
    assert table["clean: ours (Δ)"].tolist() == ["–", "70.4 (-14.0)", "80.4 (-4.0)", "–"]
    summary = length.standard_tuning_summary
    assert summary(ours, results.published("table-5")).startswith("CIFAR10, standard training: not computed yet")
    ours["recipe"] = ours["recipe"].replace("default", "nine-times")
    expected = "clean accuracy **70.4%** with 31,590 steps, -14.0 points from the paper at this width; 80.4% with 10,530."
    assert summary(ours, results.published("table-5")).endswith(expected)


def test_a_paper_without_that_width_is_not_compared():
    paper = TABLE_4.assign(widen_factor=np.where(TABLE_4["widen_factor"] == 0.25, 16.0, TABLE_4["widen_factor"]))
    table = length.tuning_table({"MNIST": (SHORT, paper)}).text
    assert table["robust: ours (Δ)"].tolist()[0] == "80.0"
    assert "from the paper" not in length.tuning_summary({"MNIST": (SHORT, paper)})


def levels(*points) -> pd.DataFrame:
    """Accuracies (recipe, transform, training, metric, value) of the levels at scale laptop."""
    rows = frame(*((*point[1:], 0) for point in points))
    rows["recipe"], rows["widen_factor"] = [point[0] for point in points], 0.25
    rows.attrs = {**ATTRS, "exhibit": "under-training-cifar10"}
    return rows


LEVELS = levels(
    ("default", "original", "standard", "clean_accuracy", 74.4),
    ("default", "original", "pgd", "robust_accuracy", 25.0),
    ("default", "saturate-16", "pgd", "robust_accuracy", 57.0),
    ("default", "saturate-inf", "pgd", "robust_accuracy", 60.0),
    ("thrice", "original", "standard", "clean_accuracy", 79.4),
    ("nine-times", "original", "standard", "clean_accuracy", 82.4),
    ("thrice", "original", "pgd", "robust_accuracy", 32.0),
    ("thrice", "saturate-16", "pgd", "robust_accuracy", 66.0),
)


def test_levels_by_length_are_beside_the_papers_column_of_that_width():
    table = length.levels_table(LEVELS, results.published("table-5")).text.set_index("variant")
    assert table.loc["original", "robust: paper"] == "35.0"
    assert table.loc["original", "robust: 3,510 steps (Δ)"] == "25.0 (-10.0)"
    assert table.loc["original", "robust: 10,530 steps (Δ)"] == "32.0 (-3.0)"
    assert table.loc["saturate ∞", "robust: 10,530 steps (Δ)"] == "–"
    assert table.loc["original", "clean, standard: 10,530 steps (Δ)"] == "79.4 (-5.0)"
    assert table.loc["original", "clean, standard: 31,590 steps (Δ)"] == "82.4 (-2.0)"
    assert not [name for name in table if "31,590" in name and "standard" not in name]


def test_what_is_said_of_levels_compares_the_numbers_that_both_lengths_have():
    said = length.levels_summary(LEVELS, results.published("table-5"))
    lengths = "3,510 and 31,590 in standard training; 3,510 and 10,530 in PGD training"
    assert f"w=0.25, 3 numbers of 2 variants, with the fewest and with the most steps: {lengths}." in said
    assert "The mean size of Δ is **9.3 points and 2.0**; ours is below the paper's in 3 and in 2 of 3." in said
    assert "in points: clean, standard +8.0, robust +7.0 to +9.0." in said


def test_levels_of_one_length_are_not_compared():
    alone = LEVELS[LEVELS["recipe"] == "default"]
    alone.attrs = LEVELS.attrs
    assert length.levels_summary(alone, results.published("table-5")).startswith("Not computed yet: the longer training; ")


def test_levels_of_a_width_that_the_paper_has_not_are_compared_with_each_other_alone():
    narrow = LEVELS.assign(widen_factor=0.125)
    narrow.attrs = LEVELS.attrs
    said = length.levels_summary(narrow, results.published("table-5"))
    assert "size of Δ" not in said
    assert "robust +7.0 to +9.0" in said
