"""The paper's own settings on the narrowest network, on made-up records."""

import numpy as np
import pandas as pd
import pytest
from frames import frame

from lib.report.sections import own_settings
from lib.store import results
from lib.store.intervals import ANY, Spread

ROBUST = ("pgd", "robust_accuracy")
PAPER = results.published("table-4")


def of(scale: str, **values: float) -> pd.DataFrame:
    rows = frame(*((name.replace("_", "-"), *ROBUST, value, 0) for name, value in values.items()))
    attrs = {**rows.attrs, "scale": scale, "exhibit": "paper-settings-mnist"}
    rows = rows.assign(widen_factor=0.125, scale=scale)
    rows.attrs = attrs
    return rows


OURS = of("paper", original=88.1, smooth_5=65.2, smooth_square_5=60.2)
SHORT = of("laptop", original=86.0, smooth_5=60.0)
MARKED = pd.DataFrame({"verdict": ["met", "missed", "not computed"]})


def with_clean(ours: pd.DataFrame, *values: float) -> pd.DataFrame:
    """With the clean accuracy of standard training on each of the variants."""
    names = list(ours["transform"])
    clean = frame(*((name, "standard", "clean_accuracy", value, 0) for name, value in zip(names, values, strict=True)))
    both = pd.concat([ours, clean.assign(widen_factor=0.125, scale="paper")])
    both.attrs = ours.attrs
    return both


def test_the_papers_column_of_our_width_stands_beside_ours_and_the_shorter_training():
    table = own_settings.own_settings_table(OURS, SHORT, PAPER).text.set_index("variant")
    row = table.loc["original"]
    assert row["robust: paper"] == "87.1"
    assert row["robust: ours, its settings (Δ)"].startswith("88.1")
    assert "+1.0" in row["robust: ours, its settings (Δ)"]
    assert row["robust: ours, scale laptop"] == "86.0"
    assert table.loc["smooth 8", "robust: ours, its settings (Δ)"] == "–"
    assert row["clean, standard: ours, its settings (Δ)"] == "–"


def test_what_is_seen_of_them():
    said = own_settings.own_settings_summary(OURS, SHORT, PAPER)
    assert "is **1.0 points** from the paper's on average, over 2 of its 9 variants" in said
    assert (
        "falls by 26.0 points with our short training, by **22.9** with the paper's settings, and by 20.9 in the paper" in said
    )
    assert "66.2 is nearer to our **smooth 5**: 65.2 with a column filter, 60.2 with a square one" in said


def test_the_variants_that_differ_much_are_named():
    assert "differ by more than" not in own_settings.own_settings_summary(OURS, SHORT, PAPER)
    far = of("paper", original=88.1, smooth_6=79.4, smooth_8=55.9)
    said = own_settings.own_settings_summary(far, SHORT, PAPER)
    assert (
        "2 variants differ by more than 3 points: smooth 6 (79.4%, the paper 59.3%); smooth 8 (55.9%, the paper 71.7%)." in said
    )


def test_the_papers_column_is_read_for_rises():
    said = own_settings.paper_column_summary(OURS, PAPER)
    assert "rises from smooth 6 (59.3%) to smooth 7 (62.8%) and from smooth 7 (62.8%) to smooth 8 (71.7%)" in said
    falling = PAPER.assign(value=PAPER["value"].where(~PAPER["transform"].isin(["smooth-7", "smooth-8"]), 50.0))
    assert own_settings.paper_column_summary(OURS, falling).startswith("The paper's column of this width falls")


def test_the_first_screen_says_how_near_the_papers_settings_come():
    sentence = own_settings.own_settings_answer(with_clean(OURS, 99.0, 98.0, 98.0), PAPER, MARKED)
    assert sentence.startswith("**MNIST, the paper's own settings: the effect reproduces, in size too.**")
    assert "as many steps as the paper's on 2 of its 9 variants, once on each." in sentence
    assert "moves by **22.9 points** (theirs: 20.9), and is 1.0 points from theirs on average." in sentence
    assert "Of 2 marks set before these trainings 1 is met." in sentence
    moved = own_settings.own_settings_answer(with_clean(OURS, 99.0, 90.0, 98.0), PAPER, MARKED)
    assert "robust accuracy moves, as much as in the paper, and clean accuracy moves too.**" in moved
    far = with_clean(of("paper", original=88.1, smooth_8=55.9), 99.0, 98.0)
    assert "the effect reproduces, but not in size.**" in own_settings.own_settings_answer(far, PAPER, MARKED)
    none_met = own_settings.own_settings_answer(far, PAPER, MARKED[1:])
    assert "Of 1 mark set before these trainings none is met." in none_met
    assert "Not computed yet; " in own_settings.own_settings_answer(OURS[:0], PAPER, MARKED)
    assert "Not computed yet; " in own_settings.own_settings_answer(OURS, PAPER, MARKED)  # no standard training


def test_short_training_is_compared_where_both_are():
    """Smooth 8 is not trained shortly: its distance of 15.8 counts in the first mean alone."""
    far = of("paper", original=88.1, smooth_8=55.9)
    said = own_settings.own_settings_summary(far, SHORT, PAPER)
    assert "is **8.4 points** from the paper's on average" in said
    assert "1 variant differs by more than 3 points: smooth 8 (55.9%, the paper 71.7%)." in said
    assert "On the 1 variant that our short training has too, its mean distance from the paper is 1.1 points, and 1.0" in said
    assert "short training" not in own_settings.own_settings_summary(far, SHORT[:0], PAPER)


def test_differences_beyond_the_spread_of_trainings_are_named():
    """The pooled deviation at 88% is 1.0 points here; a difference of two trainings has √2 of it."""
    spreads = {(ANY, "pgd", "robust_accuracy", "test"): Spread(1 / np.sqrt(88 * 12), 18)}
    far = of("paper", original=88.1, smooth_8=55.9)
    far.attrs["spreads"] = spreads
    said = own_settings.own_settings_summary(far, SHORT, PAPER)
    assert "On smooth 8 the difference is more than 3 standard deviations" in said
    near = of("paper", original=88.1, smooth_8=70.0)
    near.attrs["spreads"] = spreads
    assert "standard deviations" not in own_settings.own_settings_summary(near, SHORT, PAPER)


def test_without_a_record_it_says_what_computes_them():
    assert own_settings.own_settings_summary(OURS[:0], SHORT, PAPER).startswith("Not computed yet")


def attacked(**held: tuple[int, int]) -> pd.DataFrame:
    """Outcomes of ten images: by variant, how many withstand the paper's attack and AutoAttack."""
    rows = [
        {
            "transform": name.replace("_", "-"), "seed": 0, "metric": f"robust_accuracy_{attack}", "image": image,
            "held": image < count, "scale": "paper", "key": name,
        }
        for name, counts in held.items()
        for attack, count in zip(("reference", "autoattack"), counts, strict=True)
        for image in range(10)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs = {**OURS.attrs, "exhibit": "autoattack-narrow"}
    return table


def test_autoattack_on_the_same_networks():
    sentence = own_settings.own_settings_attacked(attacked(original=(9, 8), smooth_5=(7, 5)))
    assert (
        "these 2 networks by up to **20.0 points** more than the paper's attack: on smooth 5 from 70.0% to 50.0%." in sentence
    )
    assert "So the paper's attack overstates robustness here as well. Their range is 20.0 points" in sentence
    assert "under the paper's attack and 30.0 under AutoAttack. (The same 10 test images, scale paper.)" in sentence
    one = own_settings.own_settings_attacked(attacked(smooth_5=(7, 7)))
    assert "robust accuracy of this network by up to **0.0 points**" in one
    assert "range" not in one
    assert "the two attacks agree here" in one
    nothing = attacked(smooth_5=(7, 5))[:0]
    nothing.attrs = OURS.attrs
    assert own_settings.own_settings_attacked(nothing).startswith("Not computed yet under AutoAttack; ")


@pytest.mark.parametrize(
    ("weak", "strong", "weak_rises", "strong_rises"),
    [
        ((7, 8, 6), (5, 4, 3), "from smooth 5 (70.0%) to smooth 6 (80.0%)", ""),
        ((8, 7, 6), (5, 4, 3), "", ""),
        ((7, 8, 6), (3, 4, 5), "from smooth 5 (70.0%) to smooth 6 (80.0%)",
         "from smooth 5 (30.0%) to smooth 6 (40.0%) and from smooth 6 (40.0%) to smooth 8 (50.0%)"),
        ((8, 7, 6), (3, 4, 4), "", "from smooth 5 (30.0%) to smooth 6 (40.0%)"),
    ],
)  # fmt: skip
def test_where_robust_accuracy_rises_with_the_filter(weak, strong, weak_rises, strong_rises):
    held = dict(zip(("smooth_5", "smooth_6", "smooth_8"), zip(weak, strong, strict=True), strict=True))
    sentence = own_settings.own_settings_attacked(attacked(original=(9, 8), **held))
    for attack, rises in (("the paper's attack", weak_rises), ("AutoAttack", strong_rises)):
        said = f"robust accuracy rises {rises}" if rises else "no larger filter raises it by more than 3 points"
        assert f"Under {attack} {said}." in sentence
    del held["smooth_6"]
    assert "filter" not in own_settings.own_settings_attacked(attacked(original=(9, 8), **held))


def test_what_differs_by_3_points_does_not_rise():
    accuracies = pd.Series({"smooth-6": 45.0, "original": 80.0, "smooth-7": 48.0, "smooth-8": 51.1, "smooth-square-8": 90.0})
    assert own_settings._rises(accuracies) == [("smooth-7", "smooth-8")]


def test_the_figure_has_a_line_for_each_training_and_attack():
    figure = own_settings.own_settings_figure(OURS, SHORT, PAPER, attacked(original=(9, 8), smooth_5=(7, 5)))
    (ax,) = figure.axes
    drawn = {text.get_text() for text in ax.get_legend().get_texts()}
    assert drawn == {
        "the paper, this width", "ours, the paper's settings", "ours, scale laptop",
        "ours, the paper's settings, under AutoAttack",
    }  # fmt: skip
    assert [label.get_text() for label in ax.get_xticklabels()][:3] == ["binarized", "original", "smooth 2"]
    places = {tuple(line.get_xdata()): list(line.get_ydata()) for line in ax.lines if len(line.get_xdata()) == 2}
    assert places[(1, 5)]  # original and smooth 5 at their places among the nine
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    assert {88.1, 65.2, 86.0, 60.0, 80.0, 50.0} <= {*drawn.round(1)}
    alone = own_settings.own_settings_figure(OURS[:0], SHORT[:0], PAPER, attacked(original=(9, 8))[:0].assign(metric=""))
    assert [text.get_text() for text in alone.axes[0].get_legend().get_texts()] == ["the paper, this width"]
