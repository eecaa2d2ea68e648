"""Figures and tables: frames in, exhibits out."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest

from lib import exhibits, grid, results

ATTRS = {"exhibit": "table-2", "scale": "laptop", "expected": 54, "complete": 1, "command": "python -m lib run table-2"}


def frame(*rows) -> pd.DataFrame:
    """Rows (transform, training, metric, value, seed) as `results.frame` gives them; None is stale."""
    columns = {
        "scale": "laptop",
        "dataset": "mnist",
        "model": "lenet5",
        "widen_factor": 0.25,
        "train_size": 60000,
        "recipe": "default",
        "evaluation": "pgd",
        "split": "test",
        "n": 10000,
        "source": "MNIST",
        "device": "a processor",
        "commit": "abc",
        "date": "2026-01-02T",
    }
    listed = [
        {
            **columns,
            "transform": t,
            "training": g,
            "metric": m,
            "value": np.nan if v is None else v,
            "seed": s,
            "status": "stale" if v is None else "recorded",
        }
        for t, g, m, v, s in rows
    ]
    found = pd.DataFrame(listed, columns=list(results.COLUMNS))
    found.attrs = ATTRS
    return found


PAPER = results.published("table-2")
ROBUST = ("pgd", "robust_accuracy")


@pytest.mark.parametrize(
    ("rows", "cell"),
    [
        ([], "–"),
        ([("original", *ROBUST, 94.0, 0)], "94.0 (-1.1)"),
        ([("original", *ROBUST, 94.0, 0), ("original", *ROBUST, 96.0, 1)], "95.0 ± 1.0 (-0.1)"),
        ([("original", *ROBUST, None, 0)], "stale"),
        ([("smooth-2", *ROBUST, 94.0, 0)], "–"),
    ],
    ids=["missing", "one seed", "two seeds", "stale", "another variant"],
)
def test_table_cells(rows, cell):
    table = exhibits.robustness_table(frame(*rows), PAPER).set_index("variant")
    assert table.loc["original", "robust: ours (Δ)"] == cell
    assert table.loc["original", "robust: paper"] == "95.1"
    assert list(table.index) == ["binarized", "original"] + [f"smooth {size}" for size in range(2, 9)]


def test_figure_draws_the_paper_dashed_and_ours_solid_at_the_values():
    ours = frame(("original", *ROBUST, 94.0, 0), ("binarize", *ROBUST, 97.0, 0))
    (ax,) = exhibits.robustness_figure(ours, PAPER, xlabel="variant").axes
    dashed = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 9]
    assert len(dashed) == 4
    assert list(dashed[2].get_ydata())[:2] == [98.1, 95.1]
    drawn = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 9]
    values = np.array(drawn[2].get_ydata(), float)
    assert list(values[:2]) == [97.0, 94.0]
    assert np.isnan(values[2:]).all()


def test_figure_without_records_says_how_to_compute_them():
    figure = exhibits.robustness_figure(frame(), PAPER, xlabel="variant")
    assert "not computed yet" in figure.get_supxlabel()
    assert "python -m lib run table-2" in figure.get_supxlabel()


def test_badge_tells_scale_source_model_seeds_and_share():
    ours = frame(("original", *ROBUST, 94.0, 0), ("original", *ROBUST, 95.0, 1), ("binarize", *ROBUST, None, 0))
    text = exhibits.badge(ours)
    for part in ("scale laptop", "MNIST", "lenet5 w=0.25", "seeds 0, 1", "1 of 54", "a processor", "stale"):
        assert part in text


def test_interval_is_wilsons():
    # Newcombe (1998), Table I: 81 of 263 gives .2553 to .3662.
    low, high = exhibits.interval(100 * 81 / 263, 263)
    assert low == pytest.approx(25.53, abs=0.01)
    assert high == pytest.approx(36.62, abs=0.01)


def test_sensitivity_takes_both_ranges_over_the_same_variants():
    ours = frame(("original", *ROBUST, 90.0, 0), ("binarize", *ROBUST, 97.5, 0))
    table = exhibits.sensitivity_table({"MNIST": (ours, PAPER)})
    row = table[table["quantity"].str.startswith("robust accuracy")].iloc[0]
    assert (row["ours"], row["paper, variants computed"], row["paper, all variants"]) == ("7.5", "3.0", "15.0")
    assert table.iloc[0]["ours"] == "–"


def test_seen_speaks_only_of_what_is_computed():
    clean = ("standard", "clean_accuracy")
    assert exhibits.seen(frame(), PAPER).startswith("Not computed yet")
    ours = frame(
        ("original", *ROBUST, 90.0, 0),
        ("binarize", *ROBUST, 97.5, 0),
        ("original", *clean, 99.0, 0),
        ("binarize", *clean, 98.6, 0),
    )
    text = exhibits.seen(ours, PAPER)
    assert "7.5 points" in text
    assert "0.4 points" in text
    assert "is 3.0" in text


def test_footprints_name_the_nearer_filter():
    rows = [("original", 10.0), ("smooth-3", 9.7), ("smooth-square-3", 9.1)]
    measured = pd.DataFrame(rows, columns=["transform", "value"])
    volumes = pd.DataFrame([("smooth-3", -1250.0), ("smooth-square-3", -1266.0)], columns=["transform", "value"])
    table = exhibits.footprint_table(volumes, measured, results.published("table-6"), results.published("table-1"))
    assert list(table["nearer"]) == ["square", "–", "column", "–", "–"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("binarize", "binarized"),
        ("smooth-3", "smooth 3"),
        ("smooth-square-3", "smooth 3 (square)"),
        ("saturate-inf", "saturate ∞"),
        ("gamma-0.6", "gamma 0.6"),
        ("rescale-to-smooth-3", "original, scaled to smooth 3"),
        ("binarize+rescale-to-smooth-3", "binarized, scaled to smooth 3"),
    ],
)
def test_transform_labels(name, label):
    assert exhibits.transform_label(name) == label


def test_histogram_keeps_counts_and_logarithmic_axis():
    bins = pd.DataFrame(
        {
            "transform": "original",
            "left": [0, 0.5],
            "right": [0.5, 1.0],
            "count": [7, 3],
            "model": "",
            "source": "MNIST",
            "device": "d",
            "commit": "c",
            "date": "2026",
            "scale": "laptop",
            "status": "recorded",
        }
    )
    bins.attrs = ATTRS
    (ax,) = exhibits.histogram_figure(bins).axes
    assert ax.get_yscale() == "log"
    assert list(ax.patches[0].get_data().values) == [7, 3]


def test_plate_shows_every_picture():
    plate = {name: np.full((2, 4, 4, 3), 0.5) for name in ("original", "saturate-4")}
    figure = exhibits.picture_plate(plate, "a source")
    assert sum(len(ax.images) for ax in figure.axes) == 4
    assert figure.get_supxlabel() == "a source"


# --- the worst case, and the precision of the training attack -----------------------------------------------------------

WORST = ("pgd", "robust_accuracy_worst_case")
NO_RECORDS = frame()


def test_the_worst_case_stands_beside_the_papers_attack():
    ours = frame(
        ("original", *ROBUST, 94.0, 0), ("original", *ROBUST, 95.0, 1), ("original", *WORST, 92.5, 0),
        ("smooth-5", *ROBUST, 80.0, 0), ("binarize", *ROBUST, 97.0, 0), ("binarize", *WORST, None, 0),
    )  # fmt: skip
    table = exhibits.worst_case_table({"MNIST": ours, "CIFAR10": NO_RECORDS}).set_index(["data set", "variant"])
    columns = ["robust: last iterate", "robust: worst case (Δ)"]
    assert table.loc[("MNIST", "original"), columns].tolist() == ["94.5", "92.5 (-1.5)"]  # over seed 0, which has both
    assert table.loc[("MNIST", "smooth 5"), columns].tolist() == ["80.0", "–"]
    assert table.loc[("MNIST", "binarized"), columns].tolist() == ["97.0", "stale"]
    assert table.loc[("CIFAR10", "–")].tolist() == ["–"] * 4
    assert table.loc[("MNIST", "original"), "w.r.t. pred.: worst case (Δ)"] == "–"


def test_no_other_exhibit_takes_the_worst_case_for_the_papers_attack():
    plain = frame(("original", *ROBUST, 94.0, 0))
    both = frame(("original", *ROBUST, 94.0, 0), ("original", *WORST, 50.0, 0))
    alone = frame(("original", *WORST, 50.0, 0))
    assert exhibits.robustness_table(both, PAPER).equals(exhibits.robustness_table(plain, PAPER))
    assert exhibits.robustness_table(alone, PAPER).equals(exhibits.robustness_table(frame(), PAPER))
    for exhibit in (exhibits.robustness_figure(both, PAPER, xlabel=""), exhibits.robustness_figure(alone, PAPER, xlabel="")):
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in exhibit.axes[0].lines])
        assert 50.0 not in drawn
    assert exhibits.sensitivity_table({"MNIST": (both, PAPER)}).equals(exhibits.sensitivity_table({"MNIST": (plain, PAPER)}))


@pytest.mark.parametrize(
    ("worst", "order"), [((96.0, 90.0, 75.0), "stays"), ((80.0, 90.0, 75.0), "changes")], ids=["same order", "another order"]
)
def test_what_is_seen_of_the_worst_case(worst, order):
    names = ("binarize", "original", "smooth-5")
    last = [(name, *ROBUST, value, 0) for name, value in zip(names, (97.0, 94.0, 80.0), strict=True)]
    found = [(name, *WORST, value, 0) for name, value in zip(names, worst, strict=True)]
    text = exhibits.worst_case_seen({"MNIST": frame(*last, *found), "CIFAR10": NO_RECORDS})
    lost = [a - b for a, b in zip((97.0, 94.0, 80.0), worst, strict=True)]
    assert f"{min(lost):.1f} points on" in text
    assert f"**{max(lost):.1f} points** on" in text
    assert f"the order of the variants {order}" in text
    assert "CIFAR10: not computed yet; compute it with `python -m lib run" in text
    single = exhibits.worst_case_seen({"MNIST": frame(last[1], found[1])})
    assert single == "MNIST (scale laptop): the stronger attack takes **4.0 points** on original."


def trained(*rows) -> pd.DataFrame:
    """Rows (transform, recipe, seed, robust accuracy); None is stale."""
    found = frame(*((transform, *ROBUST, value, seed) for transform, _, seed, value in rows))
    found["recipe"] = [recipe for _, recipe, _, _ in rows]
    return found


LOW, FULL = "short-bfloat16", "short"


def test_an_interval_of_a_mean_is_students():
    # By hand: mean 2, s.d. 1, three values: 2 ± 4.3027 / sqrt(3).
    mean, low, high = exhibits.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (low, high) == (pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5), pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-5))
    assert exhibits.mean_interval([5.0, 5.0]) == (5.0, 5.0, 5.0)
    for values in ([], [1.0]):
        with pytest.raises(ValueError, match=f"an interval needs at least two values, given {len(values)}"):
            exhibits.mean_interval(values)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        _, low, high = exhibits.mean_interval(list(generator.normal(0.3, 2.0, 5)))
        held += low <= 0.3 <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_precisions_are_compared_within_a_seed():
    """Seeds differ by points and precisions by .1: unpaired, the interval would be many times as wide."""
    values, other = {0: 85.0, 1: 88.0, 2: 91.0}, {0: 85.0, 1: 88.1, 2: 91.2}
    ours = trained(
        *(("original", FULL, seed, value) for seed, value in values.items()),
        *(("original", LOW, seed, value) for seed, value in other.items()),
        ("original", LOW, 3, 10.0),  # has no counterpart
    )
    row = exhibits.precision_table(ours).set_index("quantity").loc["robust accuracy"]
    assert row["seeds"] == "3"
    assert (row["float32: mean (s.d.)"], row["bfloat16: mean (s.d.)"]) == ("88.00 (3.00)", "88.10 (3.10)")
    assert (row["difference"], row["95% interval"]) == ("+0.10", "-0.15 to +0.35")
    seeds = exhibits.precision_seeds_table(ours)
    assert seeds.to_numpy().tolist()[1:] == [
        ["original", "1", "88.00", "88.10", "+0.10"],
        ["original", "2", "91.00", "91.20", "+0.20"],
        ["original", "3", "–", "10.00", "–"],
    ]


def test_what_is_seen_of_the_precision():
    rows = [("original", FULL, seed, 88.0) for seed in range(3)]
    same = [("original", LOW, seed, 88.0 + change) for seed, change in enumerate((-0.1, 0.1, 0.2))]
    other = [("original", LOW, seed, 86.0 + change) for seed, change in enumerate((-0.1, 0.1, 0.2))]
    text = exhibits.precision_seen(trained(*rows, *same))
    assert "+0.07 points on original (95% interval -0.31 to +0.45, 3 seeds)" in text
    assert "on average" not in text  # one variant is its own average
    assert "**Every interval holds 0**" in text
    assert "in 2 of 3 pairs (two-sided sign test, if pairs were independent: p = 1)" in text
    text = exhibits.precision_seen(trained(*rows, *other))
    assert "-1.93 points on original" in text
    assert "The interval leaves out 0 on original: there the precision **did change the result**" in text
    assert "in 0 of 3 pairs (two-sided sign test, if pairs were independent: p = 0.25)" in text
    for few in (NO_RECORDS, trained(*rows), trained(*rows, same[0])):
        assert exhibits.precision_seen(few).startswith("Not computed yet: at least two seeds are needed in both precisions")


def test_variants_are_averaged_within_a_seed():
    """Over the variants of a seed the differences are 1, 2 and 3: three values, however many variants there are."""
    changes = {"original": (0.0, 2.0, 4.0), "smooth-5": (2.0, 2.0, 2.0)}
    rows = [(name, FULL, seed, 80.0) for name in changes for seed in range(4)]
    rows += [(name, LOW, seed, 80.0 + change) for name, each in changes.items() for seed, change in enumerate(each)]
    rows.append(("original", LOW, 3, 90.0))  # its other variant is missing
    table = exhibits.precision_table(trained(*rows)).set_index(["variant", "quantity"])
    average = table.loc[("all, averaged", "robust accuracy")]
    half = 4.302653 / 3**0.5
    assert (average["seeds"], average["difference"]) == ("3", "+2.00")
    assert average["95% interval"] == f"{2 - half:+.2f} to {2 + half:+.2f}"
    assert table.loc[("original", "robust accuracy"), "seeds"] == "4"
    text = exhibits.precision_seen(trained(*rows))
    assert f"+2.00 points on average (95% interval {2 - half:+.2f} to {2 + half:+.2f}, 3 seeds)" in text


def test_what_has_no_value_is_told_and_not_counted():
    ours = trained(
        ("original", FULL, 0, 88.0), ("original", FULL, 1, None), ("original", LOW, 0, 88.5), ("original", LOW, 1, 87.0)
    )  # fmt: skip
    row = exhibits.precision_table(ours).set_index("quantity").loc["robust accuracy"]
    assert row["seeds"] == "1 (1 stale)"
    assert (row["difference"], row["95% interval"]) == ("–", "–")
    assert exhibits.precision_seeds_table(ours).to_numpy().tolist()[1] == ["original", "1", "stale", "87.00", "–"]
    for empty in (exhibits.precision_table(NO_RECORDS), exhibits.precision_seeds_table(NO_RECORDS)):
        assert set(empty.iloc[:, 2:].to_numpy().ravel()) <= {"–", "0"}


# --- Section 2 --------------------------------------------------------------------------------------------------------

ABOUT = {
    "model": "",
    "source": "simulated",
    "device": "d",
    "commit": "c",
    "date": "2026",
    "scale": "laptop",
    "status": "recorded",
}


def tables(*rows: dict) -> pd.DataFrame:
    """Rows as `results.tables` gives them."""
    found = pd.DataFrame([{"dataset": "cube", "transform": "original", **ABOUT, **row} for row in rows] or None)
    found = found if rows else pd.DataFrame(columns=["dataset", "transform", *ABOUT])
    found.attrs = {**ATTRS, "exhibit": "example-1", "command": "python -m lib run example-1"}
    return found


def example_1(d=2, eps=0.1, axis=200, diagonal=360, diagonal_in_cube=350, bayes=0, n=1000) -> dict:
    return locals()


def half_space(inside=900, eps=0.2, mass=0.5, d=2, direction="axis", dataset="cube", n=1000) -> dict:
    return locals()


def spike(at: float, d: int, dataset: str, transform="original", width=0.0) -> list[dict]:
    """Distances that are all alike, or, with a width, fall half below and half above."""
    about = {"d": d, "dataset": dataset, "transform": transform, "count": 5}
    return [{**about, "left": place - 0.01, "right": place + 0.01} for place in (at - width, at + width)]


EMPTY_FIGURES = [
    lambda: exhibits.example_1_figure(tables()),
    lambda: exhibits.concentration_figure(tables()),
    lambda: exhibits.distance_figure(tables(), tables()),
]


@pytest.mark.parametrize("draw", EMPTY_FIGURES)
def test_figures_of_section_2_without_records_say_how_to_compute_them(draw):
    (ax,) = draw().axes
    assert ax.texts[0].get_text() == "not computed yet; compute it with:\npython -m lib run example-1"
    assert not ax.lines


def test_sentences_of_section_2_without_records_say_how_to_compute_them():
    for text in (
        exhibits.example_1_seen(tables()),
        exhibits.concentration_seen(tables()),
        exhibits.distance_seen(tables(), tables()),
        exhibits.example_2_seen(tables()),
    ):
        assert text.startswith("Not computed yet; compute it with `python -m lib run example-1`")
    for table in (exhibits.example_1_table(tables()), exhibits.distance_table(tables(), tables())):
        assert set(table.to_numpy().flatten()) == {exhibits.MISSING}


def test_the_splits_are_drawn_with_the_share_that_is_fooled():
    figure = exhibits.split_figure(0.1, pixels=200)
    assert [ax.get_xlabel() for ax in figure.axes] == [f"fooled within ε = 0.1: {share}%" for share in (20, 36, 36)]
    for ax, share in zip(figure.axes, (0.2, 0.36, 0.36), strict=True):
        (image,) = ax.images
        plain = exhibits.split_figure(0.0, pixels=200).axes[figure.axes.index(ax)].images[0].get_array()
        darkened = (np.asarray(image.get_array()) < np.asarray(plain) - 1e-9).any(-1)
        assert darkened.mean() == pytest.approx(share, abs=0.01)
    left, turned, slid = (np.asarray(ax.images[0].get_array()) for ax in figure.axes)
    label = left[..., 0] > left[..., 2]  # the label's colour: orange is redder than blue
    assert label[:, :100].sum() == 0
    assert label[:, 100:].all()
    across = np.add.outer(np.arange(200), np.arange(200))
    for picture in (turned, slid):
        carried = picture[..., 0] > picture[..., 2]
        assert carried[across > 199].all()
        assert not carried[across < 199].any()


def test_example_1_is_drawn_at_its_values():
    rows = tables(example_1(), example_1(d=1, diagonal=200), example_1(eps=0.3, axis=600, diagonal=840))
    first, second = exhibits.example_1_figure(rows).axes
    assert (first.get_title(), second.get_title()) == ("ε = 0.1", "ε = 0.3")
    lines = {line.get_label(): line for line in first.lines}
    exact, bound = lines["diagonal split, exact"], lines["the paper's bound, 1 - 1/(4dε²)"]
    assert dict(zip(exact.get_xdata(), exact.get_ydata(), strict=True)) == pytest.approx({1: 20, 2: 36})
    assert dict(zip(bound.get_xdata(), bound.get_ydata(), strict=True)) == pytest.approx({1: -2400, 2: -1150})
    assert (exact.get_linestyle(), bound.get_linestyle()) == ("-", "--")
    marks = {container.get_label(): container.lines[0] for container in first.containers}
    assert marks["diagonal split, simulated"].get_ydata().tolist() == [20, 36]
    assert marks["axis split, simulated"].get_ydata().tolist() == [20, 20]
    assert marks["the same, attacked within the cube"].get_ydata().tolist() == [35, 35]


@pytest.mark.parametrize(
    ("row", "column", "cell"),
    [
        (example_1(), "axis: 2ε", "20.00"),
        (example_1(), "axis, simulated", "20.00\u00a0±\u00a02.48"),
        (example_1(), "paper's bound", "≤0"),
        (example_1(d=100), "paper's bound", "75.00"),
        (example_1(d=100), "sharper bound", "91.67"),
        (example_1(), "diagonal, exact", "36.00"),
        (example_1(d=100, eps=0.15), "diagonal, exact", ">99.99"),
        (example_1(), "normal limit", "37.58"),
        (example_1(), "within the cube", "35.00\u00a0±\u00a02.95"),
        (example_1(eps=8 / 255), "ε", "8/255"),
    ],
)
def test_cells_of_example_1(row, column, cell):
    assert exhibits.example_1_table(tables(row)).loc[0, column] == cell


def test_example_1_seen_counts():
    text = exhibits.example_1_seen(tables(example_1(), example_1(d=10, bayes=3, diagonal=500)))
    assert "3 of 2,000 simulated points" in text
    assert "Of the 4 simulated robust errors, 3 have the exact value" in text  # 500 of 1000, where 72% is right
    assert "At d = 10 and ε = 0.1, of the same points 20.0% are fooled before T and **50.0%** after it; 35.0%" in text


def test_half_spaces_are_drawn_beside_the_bounds():
    rows = tables(half_space(), half_space(direction="diagonal", inside=950), half_space(dataset="ball", d=784, eps=0.1))
    cube, ball = exhibits.concentration_figure(rows).axes
    assert (cube.get_title(), ball.get_title()) == ("cube, P(A) = 0.5", "ball, P(A) = 0.5")
    lines = {line.get_label(): line for line in cube.lines}
    assert lines["first inequality, any d"].get_ydata()[-1] == pytest.approx(69.193, abs=0.001)  # Φ(.2·√(2π))
    assert lines["last inequality, any d"].get_ydata()[-1] == pytest.approx(11.808, abs=0.001)  # 1 - e^(-.04π)
    marks = {container.get_label(): container.lines[0].get_ydata().tolist() for container in cube.containers}
    assert marks == {"half-space along the axis": [90], "half-space along the diagonal": [95]}
    assert "first inequality, d = 784" in {line.get_label() for line in ball.lines}


def test_a_half_space_below_its_bound_is_told():
    text = exhibits.concentration_seen(tables(half_space(), half_space(inside=600)))
    assert text.startswith(
        "Of 2 simulated half-spaces, 1 lie on or above the first bound, 1 of them with their whole 95% interval; the sample"
    )
    assert "In the cube the smallest margin is -9.193 points (d = 2, along the axis, P(A) = 0.5, ε = 0.2)." in text
    assert "In the ball" not in text


def test_example_2_stands_beside_the_paper():
    table = exhibits.example_2_table(results.published("example-2"))
    assert table.to_numpy().tolist() == [
        ["cube, any d, ε = 0.5", "94", "94.38", "≤0", "≤0", ""],
        ["ball, d = 3072, ε = 0.09", "97", "97.81", "97.80", "86.96", "97.79"],
    ]


def test_example_2_in_one_unit():
    uniform = tables(*spike(20.0, 3072, "cube"), *spike(1.5, 3072, "ball"), *spike(10.0, 784, "cube"))
    text = exhibits.example_2_seen(uniform)
    assert "20.00 apart in the cube and 1.500 in the ball" in text
    assert "**2.5%** of a typical distance, and ε = 0.09 in the ball **6.0%**" in text
    assert "guarantee >99.99% for the cube, at ε = 1.2 and nothing for the ball, at ε = 0.0375." in text


def test_distances_apart_are_the_shift_and_the_shape():
    uniform = tables(*spike(10.0, 100, "cube"), *spike(2.0, 100, "ball"), *spike(2.0, 400, "ball"))
    images = tables(*spike(7.0, 100, "cifar10", width=0.7))
    (row,) = exhibits.distances_apart(uniform, images).to_dict("records")
    assert (row["mean"], row["spread"]) == pytest.approx((7.0, 0.1))
    assert (row["cube"], row["ball"]) == pytest.approx((0.3, 0.5))
    assert (row["cube_shape"], row["ball_shape"]) == pytest.approx((0.1, 0.1))
    text = exhibits.distance_seen(uniform, images)
    assert "over √d, 0.300 from the cube's and 0.500 from the ball's: **nearer to the cube**" in text
    assert "0.100 from the cube's and 0.100 from the ball's: **about as far from both**" in text
    assert text.endswith("So the distances give no reason to call it closer to the ball.")
    near_the_ball = exhibits.distance_seen(uniform, tables(*spike(2.5, 100, "cifar10-jpeg")))
    assert "CIFAR10 (JPEG)" in near_the_ball
    assert "**nearer to the ball**" in near_the_ball
    assert near_the_ball.endswith("So on one reading at least it is closer to the ball.")


def test_distances_to_a_space_that_is_not_computed_are_blank():
    table = exhibits.distance_table(tables(*spike(10.0, 400, "cube")), tables(*spike(5.0, 100, "mnist", "binarize")))
    assert table["points"].tolist() == ["cube, d = 400", "MNIST, binarized"]
    assert table.iloc[1].tolist() == ["MNIST, binarized", "100", "5.00", "0.500", "0.0%", "", "", "", ""]


def test_distances_stand_beside_the_papers_robustness():
    images = tables(*spike(7.0, 100, "mnist", width=0.7), *spike(6.0, 100, "cifar10-jpeg", "binarize"))
    table = exhibits.distance_and_robustness_table(images, results.published())
    assert table.to_numpy().tolist() == [
        ["CIFAR10 (JPEG), binarized", "0.600", "0.0%", "79.7"],
        ["MNIST", "0.700", "10.0%", "95.1"],
    ]


def test_distances_are_drawn_in_both_units():
    left, right = exhibits.distance_figure(tables(*spike(10.0, 100, "cube")), tables(*spike(7.0, 100, "mnist", width=0.7))).axes
    edges = [patch.get_data().edges for ax in (left, right) for patch in ax.patches]
    assert [(low, high) for low, *_, high in edges] == [
        pytest.approx(pair) for pair in ((0.999, 1.001), (0.629, 0.771), (0.999, 1.001), (6.29 / 7, 7.71 / 7))
    ]


def test_certified_models_stand_beside_the_papers():
    paper = results.published("section-2.2")
    ours = frame(("binarize", "lp", "certified_error", 13.9, 0), ("binarize", "lp", "clean_accuracy", 87.7, 0))
    table = exhibits.certified_table(ours, paper).set_index("variant")
    columns = ["clean accuracy: paper", "clean accuracy: ours (Δ)", "certified error: paper", "certified error: ours (Δ)"]
    assert table.loc["binarized", columns].tolist() == ["97.65", "87.7 (-10.0)", "3.00", "13.9 (+10.9)"]
    assert table.loc["original", columns].tolist() == ["–", "–", "37.70", "–"]


@pytest.mark.parametrize(("eps", "label"), [(8 / 255, "8/255"), (0.1, "0.1"), (0.3, "0.3"), (0.5, "0.5"), (0.09, "0.09")])
def test_budget_labels(eps, label):
    assert exhibits.budget_label(eps) == label


# --- Appendix B -------------------------------------------------------------------------------------------------------


def test_settings_are_the_grids_at_every_scale():
    table = exhibits.settings_table("table-3", "pgd").set_index("setting")
    assert list(table.columns) == list(grid.SCALES)
    # The paper's, as Appendix B.1 and Section 3.2 print them.
    paper = table["paper"]
    assert paper["network"] == "WRN-28, w=4"
    assert paper["steps"].startswith("80,000 ")
    assert paper["batch size"] == "128"
    assert paper["optimizer"] == "SGD, momentum 0.9"
    assert paper["learning rate"] == "0.1; 0.01 from step 40,000; 0.001 from step 60,000"
    assert paper["weight decay"] == "0.0002"
    assert paper["attack in training"] == "ε=8/255, 10 steps of 2/255, random start, within [0, 1], float32"
    assert paper["its budget grows"] == "not"
    for scale in ("laptop", "smoke"):
        (run, *_) = (run for run in grid.runs("table-3", scale) if run.training == "pgd")
        settings = grid.settings(run)
        assert table.loc["steps", scale].startswith(f"{settings['training']['steps']:,} (")
        assert table.loc["learning rate", scale] == f"one-cycle, up to {settings['training']['lr']:g}"
        assert f"{settings['attack']['num_steps']} steps of " in table.loc["attack in training", scale]
        assert f"first {settings['attack']['warmup']:.0%} of" in table.loc["its budget grows", scale]


def test_settings_of_the_lp_robust_model():
    table = exhibits.settings_table("section-2.2", "lp").set_index("setting")
    paper = table["paper"]  # Appendix B.2
    assert paper["steps"] == "120,000 (100 epochs)"
    assert paper["batch size"] == "50"
    assert paper["learning rate"] == "0.001, constant"
    assert paper["it grows"] == "from 0.01 over the first 50% of the steps"
    assert paper["bounds in training"] == "exact"
    assert all("exact bounds" in cell for cell in table.loc["evaluation `certified`"])
    assert "random projections" in table.loc["bounds in training", "laptop"]
    assert list(exhibits.settings_table("section-2.2-cifar10", "lp").columns) == ["setting", "paper", "smoke"]


@pytest.mark.parametrize(("arguments", "error"), [(("table-9", "pgd"), ValueError), (("section-2.2", "pgd"), KeyError)])
def test_settings_of_what_there_is_not(arguments, error):
    with pytest.raises(error):
        exhibits.settings_table(*arguments)


def test_networks_layer_by_layer():
    table = exhibits.network_table([("lenet5", 1.0), ("small_convnet", 1.0)])
    totals = table[table["layer"] == "all layers"].set_index("network")["parameters"]
    assert dict(totals) == {"LeNet5, w=1": "3,274,634", "ConvNet, w=1": "166,406"}
    convolutions = table[table["layer"].str.startswith("convolution")]
    assert list(convolutions["output"]) == ["32 × 28 × 28", "64 × 14 × 14", "16 × 14 × 14", "32 × 7 × 7"]
    for _, rows in table.groupby("network"):
        counts = [int(cell.replace(",", "")) for cell in rows["parameters"] if cell]
        assert sum(counts[:-1]) == counts[-1]


def of_exhibit(name: str, training: str, **values: tuple[float | None, float | None]) -> pd.DataFrame:
    """Values of each metric, binarized and original; None is not computed."""
    rows = [
        (transform, training, metric, value, 0)
        for metric, pair in values.items()
        for transform, value in zip(("binarize", "original"), pair, strict=True)
        if value is not None
    ]
    found = frame(*rows)
    found.attrs = {**ATTRS, "exhibit": name, "command": f"python -m lib run {name}"}
    return found


LP = {
    "clean_accuracy": (88.0, 64.0),
    "robust_accuracy": (86.5, 50.0),
    "certified_error": (14.0, 63.7),
    "certified_error_unboxed": (14.5, 65.0),
}
RAMP = {
    "clean_accuracy_ramp": (99.0, 98.9),
    "certified_error_ramp": (1.0, 100.0),
    "robust_accuracy_ramp_pgd": (99.0, 90.0),
    "robust_accuracy_ramp_bpda": (99.0, 40.0),
    "robust_accuracy_ramp_square": (99.0, 80.0),
    "robust_accuracy_bare_pgd": (0.5, 0.25),
    "robust_accuracy_bare_square": (3.0, 2.0),
    "moved_by_pgd_ramp": (0.0, 100.0),
}


def test_certified_table_shows_both_sides_beside_the_papers():
    published = results.published("section-2.2")
    table = exhibits.certified_table(of_exhibit("section-2.2", "lp", **LP), published).set_index("variant")
    assert dict(table.loc["binarized"]) == {
        "clean accuracy: paper": "97.65",
        "clean accuracy: ours (Δ)": "88.0 (-9.7)",
        "certified error: paper": "3.00",
        "certified error: ours (Δ)": "14.0 (+11.0)",
        "certified error, no box: ours": "14.5",
        "PGD error: ours": "13.5",
    }
    assert table.loc["original", "clean accuracy: paper"] == "–"
    assert table.loc["original", "clean accuracy: ours (Δ)"] == "64.0"
    nothing = exhibits.certified_table(of_exhibit("section-2.2-cifar10", "lp"), published)
    assert nothing.drop(columns="variant").eq("–").all(axis=None)  # the paper's numbers are MNIST's


def test_certified_seen_tells_contrast_and_gap():
    text = exhibits.certified_seen(of_exhibit("section-2.2", "lp", **LP), results.published("section-2.2"))
    for part in ("13.5% (PGD)", "**14.0%**", "**63.7%**", "**49.7 points**", "the paper's 34.7", "0.5 points", "13.7 original"):
        assert part in text
    one = of_exhibit("section-2.2", "lp", certified_error=(14.0, None), robust_accuracy=(86.5, None))
    assert "Not computed yet" in exhibits.certified_seen(one, results.published("section-2.2"))


def test_ramp_table_shows_errors():
    table = exhibits.ramp_table(of_exhibit("exact-certificate", "standard", **RAMP)).set_index("variant")
    assert list(table.loc["binarized"]) == ["99.50", "97.00", "1.00", "1.00", "1.00", "1.00", "1.00", "0.0"]
    assert list(table.loc["original"]) == ["99.75", "98.00", "1.10", "10.00", "60.00", "20.00", "100.00", "100.0"]
    empty = exhibits.ramp_table(of_exhibit("exact-certificate", "standard"))
    assert empty.drop(columns="variant").eq("–").all(axis=None)


def test_ramp_seen_tells_what_hidden_gradients_hide():
    published = results.published("section-2.2")
    text = exhibits.ramp_seen(of_exhibit("exact-certificate", "standard", **RAMP), published)
    for part in (
        "**1.00%**",
        "clean error 1.00%",
        "gives 3.00%",
        "99.5% error",
        "97.0%",
        "PGD finds 10.0%",
        "**60.0%**",
        "**20.0%**",
    ):
        assert part in text
    assert "Not computed yet" in exhibits.ramp_seen(of_exhibit("exact-certificate", "standard"), published)


def test_ramp_figure_is_flat_wherever_eps_leads():
    (ax,) = exhibits.ramp_figure(0.3, 10.0).axes
    x, y = (np.asarray(values) for values in ax.lines[0].get_data())
    assert (y[np.abs(x) <= 0.3] == 0).all()
    assert (y[np.abs(x - 1) <= 0.3] == 1).all()
    assert 0.4 < y[np.argmin(np.abs(x - 0.5))] < 0.6


# --- Section 4 --------------------------------------------------------------------------------------------------------

GAMMAS = ["gamma-0.6", "original", "gamma-1.4"]
CLEAN, TRAINED = ("standard", "clean_accuracy"), ("pgd", "clean_accuracy")
FASHION_PAPER = results.published("figure-3b")
SIX = (
    ("original", *CLEAN, 90.0, 0),
    ("original", *TRAINED, 80.0, 0),
    ("original", *ROBUST, 60.0, 0),
    ("edges", *CLEAN, 88.0, 0),
    ("edges", *TRAINED, 87.0, 0),
    ("edges", *ROBUST, 86.5, 0),
)


def test_a_figure_without_the_papers_numbers_is_ours_alone():
    ours = frame(("gamma-0.6", *ROBUST, 38.0, 0), ("gamma-1.4", *ROBUST, 46.0, 0))
    (ax,) = exhibits.robustness_figure(ours, None, xlabel="gamma", variants=GAMMAS).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["gamma 0.6", "original", "gamma 1.4"]
    assert not [line for line in ax.lines if line.get_linestyle() == "--"]
    assert "the paper" not in [text.get_text() for text in ax.get_legend().get_texts()]
    drawn = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    values = np.array(drawn[2].get_ydata(), float)
    assert (values[0], values[2]) == (38.0, 46.0)
    assert np.isnan(values[1])


def test_a_figure_without_any_number_says_how_to_compute_them():
    assert is_empty(exhibits.robustness_figure(frame(), None, xlabel="gamma", variants=GAMMAS))


def test_variants_without_the_papers_numbers_have_intervals():
    seeds = (("original", *ROBUST, 43.0, 0), ("original", *ROBUST, 45.0, 1))
    ours = frame(("gamma-0.6", *ROBUST, 38.0, 0), *seeds, ("original", *CLEAN, None, 0))
    table = exhibits.variants_table(ours, GAMMAS).set_index("variant")
    low, high = exhibits.interval(38.0, 10000)
    assert table.loc["gamma 0.6", "robust"] == f"38.0 [{low:.1f}, {high:.1f}]"
    assert table.loc["original", "robust"] == "44.0 [43.0, 45.0]"
    assert table.loc["original", "clean, standard"] == "stale"
    assert table.loc["gamma 1.4", "robust"] == "–"


def test_what_is_seen_of_variants_is_their_ranges():
    assert exhibits.seen_variants(frame(), GAMMAS).startswith(
        "Not computed yet: clean accuracy, standard training needs at least"
    )
    rows = [(name, *CLEAN, value, 0) for name, value in zip(GAMMAS, (94.5, 95.0, 94.0), strict=True)]
    rows += [(name, *TRAINED, value, 0) for name, value in zip(GAMMAS, (81.0, 85.0, 83.0), strict=True)]
    assert "Not computed yet: robust accuracy" in exhibits.seen_variants(frame(*rows), GAMMAS)
    rows += [("gamma-0.6", *ROBUST, 38.0, 0), ("gamma-1.4", *ROBUST, 46.5, 0)]
    text = exhibits.seen_variants(frame(*rows), GAMMAS)
    for part in ("2 of 3", "scale laptop", "**1.0 points**", "**4.0**", "**8.5**", "38.0% (gamma 0.6)", "46.5% (gamma 1.4)"):
        assert part in text


def test_fashion_table_has_the_six_numbers():
    table = exhibits.fashion_table(frame(*SIX), FASHION_PAPER)
    assert list(table["paper"]) == ["92.7", "81.2", "65.3", "88.3", "87.2", "86.6"]
    assert list(table["Δ"]) == ["-2.7", "-1.2", "-5.3", "-0.3", "-0.2", "-0.1"]
    assert all(cell.startswith(f"{row[3]:.1f} [") for cell, row in zip(table["ours"], SIX, strict=True))
    empty = exhibits.fashion_table(frame(SIX[0]), FASHION_PAPER)
    assert list(empty["ours"][1:]) == list(empty["Δ"][1:]) == ["–"] * 5
    assert exhibits.fashion_table(frame(("edges", *ROBUST, None, 0)), FASHION_PAPER)["ours"].iloc[-1] == "stale"


def test_fashion_figure_draws_bars_and_the_paper_dashed():
    (ax,) = exhibits.fashion_figure(frame(*SIX), FASHION_PAPER).axes
    assert sorted(bar.get_height() for bar in ax.patches) == sorted(row[3] for row in SIX)
    lines = [found for found in ax.collections if found.get_linestyle() and len(found.get_segments()) == 2]
    dashed = {segment[0][1] for found in lines for segment in found.get_segments() if segment[0][1] == segment[1][1]}
    assert dashed == {92.7, 81.2, 65.3, 88.3, 87.2, 86.6}
    figure = exhibits.fashion_figure(frame(), FASHION_PAPER)
    assert "not computed yet" in figure.get_supxlabel()


def test_what_is_seen_of_fashion_is_cost_and_gap():
    text = exhibits.seen_fashion(frame(*SIX), FASHION_PAPER)
    assert "On fashion-MNIST, PGD training costs **10.0 points** of clean accuracy (the paper: 11.5)" in text
    assert "another **0.5** (the paper: 0.6)" in text
    assert exhibits.seen_fashion(frame(*SIX[:5]), FASHION_PAPER).startswith("Not computed yet: edge-fashion-MNIST lacks")
    stale = frame(*SIX[:5], ("edges", *ROBUST, None, 0))
    assert "accuracies (some are stale); compute it with `" in exhibits.seen_fashion(stale, FASHION_PAPER)


def test_a_lying_plate_has_a_row_a_transform():
    plate = {name: np.full((5, 4, 4, 1), 0.5) for name in ("original", "edges")}
    figure = exhibits.picture_plate(plate, "a source", lying=True)
    assert sum(len(ax.images) for ax in figure.axes) == 10
    assert [ax.get_title(loc="left") for ax in figure.axes[::5]] == ["original", "edges"]
    assert figure.get_figwidth() > figure.get_figheight()


def verdicts(*rows) -> pd.DataFrame:
    """Rows (claim, verdict, the paper's verdict) as `claims.verdicts` gives them."""
    return pd.DataFrame(
        [
            {"claim": c, "section": "3.3", "sentence": f"{c} is so.", "verdict": v, "evidence": f"ours of {c}",
             "paper_verdict": p, "paper_evidence": f"theirs of {c}"}
            for c, v, p in rows
        ]
    )  # fmt: skip


def test_claims_stand_with_both_verdicts_and_their_evidence():
    table = exhibits.claims_table(verdicts(("a", "holds", "fails"), ("b", "not computed", "holds")))
    assert exhibits.claims_table(verdicts(("c", "holds", "not computed"))).iloc[0, 1] == "no number: theirs of c"
    assert list(table["ours"]) == ["**holds**: ours of a", "not computed: ours of b"]
    assert list(table["the paper's own numbers"]) == ["**fails**: theirs of a", "**holds**: theirs of b"]
    assert list(table["claim"]) == ["a is so. `a`", "b is so. `b`"]
    assert not any("|" in text for text in [*table.columns, *table.to_numpy().ravel()])


def test_claims_are_counted_and_the_failing_named():
    text = exhibits.claims_seen(verdicts(("a", "holds", "fails"), ("b", "fails", "holds"), ("c", "not computed", "holds")))
    assert text == (
        "Of 3 claims, our records say **holds: 1, fails: 1 (`b`)**, not computed: 1. The paper's own printed numbers say "
        "holds: 2, fails: 1 (`a`), no number to tell: 0."
    )


# --- Section 5 and Appendix C -----------------------------------------------------------------------------------------

TABLE_1, TABLE_4, TABLE_6, TABLE_7 = (results.published(f"table-{number}") for number in (1, 4, 6, 7))
UNBOXED = ("pgd", "robust_accuracy_unboxed")


def along(axis, *points) -> pd.DataFrame:
    """As `frame`, from points (transform, training, metric, value, split, value of the axis), with one seed."""
    found = frame(*((*point[:4], 0) for point in points))
    found["split"] = [point[4] for point in points]
    found[axis] = [point[5] for point in points]
    found.attrs = {**ATTRS, "exhibit": "figure-4-capacity-mnist" if axis == "widen_factor" else "figure-4-samples-mnist"}
    return found


def measured(metric, values) -> pd.DataFrame:
    """Measurements of the test images of transforms."""
    found = frame(*((name, "", metric, value, 0) for name, value in values.items()))
    found["model"] = ""
    return found


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
    tables = exhibits.capacity_tables(along("widen_factor", *points), TABLE_4)
    assert list(tables) == ["clean, standard", "clean, PGD", "robust"]
    table = tables["robust"].set_index(["images", "variant"])
    assert table.loc[("test", "original"), "w=.25 ours"] == cell
    assert table.loc[("test", "original"), "w=.25 paper"] == "89.9"
    assert table.loc[("training", "original"), "w=.25 paper"] == "90.8"
    assert len(table) == 2 * 9


def test_a_blank_of_our_copy_and_a_width_the_paper_has_not():
    ours = along("widen_factor", ("original", *CLEAN, 94.0, "test", 0.0625))
    table = exhibits.capacity_tables(ours, TABLE_4)["clean, standard"].set_index(["images", "variant"])
    assert table.loc[("test", "binarized"), "w=.125 paper"] == "n/a"
    assert table.loc[("training", "binarized"), "w=.125 paper"] == "99.9"
    assert list(table.loc[("test", "original"), ["w=.0625 paper", "w=.0625 ours"]]) == ["n/a", "94.0"]
    assert list(table.columns)[:4] == ["w=.0625 paper", "w=.0625 ours", "w=.125 paper", "w=.125 ours"]


def test_downloads_hold_the_table_and_the_records():
    ours = along("widen_factor", ("original", *ROBUST, 94.0, "test", 0.25))
    tables = exhibits.capacity_tables(ours, TABLE_4)
    text = exhibits.downloads("table-4", tables, ours)
    found = re.findall(r'download="([^"]+)" href="data:text/csv;charset=utf-8;base64,([^"]+)"', text)
    names, files = zip(*found, strict=True)
    assert names == ("table-4.csv", "table-4-records.csv")
    table, records = (pd.read_csv(io.BytesIO(base64.b64decode(file)), keep_default_na=False) for file in files)
    assert len(table) == 3 * 18
    assert list(table.columns[:3]) == ["quantity", "variant", "images"]
    assert list(records.columns) == list(results.COLUMNS)
    assert list(records["value"]) == [94.0]
    assert "table-2.csv" in exhibits.downloads("table-2", tables["robust"], ours)


def test_table_1_has_a_row_a_set_with_the_solved_factor():
    distances = pd.concat(
        [
            measured("inter_class_distance", {"smooth-3": 7.085, "rescale-to-smooth-3": 7.085}),
            measured("scale_factor", {"rescale-to-smooth-3": 0.96945}),
        ]
    )
    ours = frame(("smooth-3", *ROBUST, 80.0, 0), ("rescale-to-smooth-3", *ROBUST, 90.0, 0))
    table = exhibits.equal_distance_table(distances, ours, TABLE_1)
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
    text = exhibits.equal_distance_seen(distances, frame(*SAME_DISTANCE), TABLE_1)
    assert "smooth 3 (7.08)" in text
    assert "**17.0 points**" in text
    assert "in the paper 7.3" in text
    assert "smooth 4" not in text
    assert exhibits.equal_distance_seen(distances, frame(*SAME_DISTANCE[:2]), TABLE_1).startswith("Not computed yet")


def test_distance_figure_draws_the_three_families():
    distances = measured("inter_class_distance", {"smooth-3": 7.085, "rescale-to-smooth-3": 7.085})
    (ax,) = exhibits.equal_distance_figure(distances, frame(*SAME_DISTANCE), TABLE_1).axes
    dashed = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in dashed] == [[91.3, 90.3, 89.6], [94.6, 95.5, 94.9], [98.6, 98.6, 98.5]]
    assert list(dashed[0].get_xdata()) == [7.12, 7.01, 6.85]
    solid = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    assert [line.get_ydata()[0] for line in solid] == [80.0, 90.0, 97.0]


BOXES = [("original", *ROBUST, 94.0, 0), ("original", *UNBOXED, 93.5, 0), ("binarize", *ROBUST, 97.0, 0)]


def test_volume_figure_puts_volumes_across_and_both_attacks_up():
    volumes = measured("log2_perturbable_volume", {"original": -1297.26, "binarize": -1361.78})
    (ax,) = exhibits.volume_figure(volumes, frame(*BOXES), TABLE_6, TABLE_7, dataset="mnist").axes
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
    text = exhibits.volume_seen({"mnist": (volumes, both), "cifar10": (volumes, frame())}, TABLE_7)
    assert "**-0.5 to +0.2 points** over 2 variants, whose perturbable volumes differ by up to 65 bits" in text
    assert "in the paper, over the same, by -2.0 to +0.0" in text
    assert "CIFAR10: not computed yet" in text
    one = exhibits.volume_seen({"mnist": (volumes, frame(*BOXES))}, TABLE_7)
    assert "by **-0.5 points** over 1 variant; in the paper, over the same, by +0.0." in one


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
    axes = exhibits.growth_figure(along("widen_factor", *CAPACITY), TABLE_4, axis="widen_factor", xlabel="width").axes
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


def test_growth_figure_without_numbers_says_how_to_compute_them():
    figure = exhibits.growth_figure(along("train_size"), None, axis="train_size", xlabel="images")
    (ax,) = figure.axes
    assert "not computed yet" in ax.texts[0].get_text()


def test_growth_seen_takes_both_ends_from_what_is_computed():
    text = exhibits.growth_seen({"MNIST": (along("widen_factor", *CAPACITY), TABLE_4)}, "widen_factor")
    assert "from widen factor 0.125 to 0.5" in text
    assert "**+10.0 (original) to +25.0 points (smooth 5)**" in text
    assert "(the paper's, over the same, by +8.1 (original) to +18.9 points (smooth 5))" in text
    assert "standard training by +0.5 points (original)" in text
    assert "from 1.0 to 3.0 points" in text


def test_growth_seen_of_training_set_sizes():
    points = [("original", *ROBUST, value, "test", size) for size, value in ((1000, 70.0), (9000, None), (60000, 90.0))]
    ours = along("train_size", *points).astype({"train_size": "Int64"})
    text = exhibits.growth_seen({"MNIST": (ours, None), "CIFAR10": (along("train_size", *points[:1]), None)}, "train_size")
    assert "from train size 1,000 to 60,000" in text
    assert "**+20.0 points (original)**" in text
    assert "CIFAR10: not computed yet, two values at least are needed" in text


def test_badge_names_a_recipe_other_than_the_default():
    ours = frame(("original", *ROBUST, 94.0, 0))
    assert "recipe" not in exhibits.badge(ours)
    ours["recipe"] = "weight-decay-.002"
    assert "recipe weight-decay-.002" in exhibits.badge(ours)


# --- the strength of the attack ---------------------------------------------------------------------------------------


def held(**attacks: str) -> pd.DataFrame:
    """Outcomes on the original, one letter an image: h where it held; as `results.outcomes` gives them."""
    rows = [
        {"transform": "original", "seed": 0, "metric": f"robust_accuracy_{name}", "image": image, "held": letter == "h"}
        for name, letters in attacks.items()
        for image, letter in enumerate(letters)
    ]
    found = pd.DataFrame(rows, columns=["transform", "seed", "metric", "image", "held"])
    found.attrs = {**ATTRS, "exhibit": "strength-mnist"}
    return found


def is_empty(figure) -> bool:
    """Whether a figure says no more than how to compute it."""
    (ax,) = figure.axes
    (text,) = ax.texts
    return not ax.lines and text.get_text().startswith("not computed yet; compute it with:\npython -m lib run ")


def curve(transform="original", **values: float) -> pd.DataFrame:
    """Robust accuracy against eps, eps written as e_0_3 for .3."""
    named = {name.removeprefix("e_").replace("_", "."): value for name, value in values.items()}
    found = frame(*((transform, "pgd", f"robust_accuracy_eps_{eps}", value, 0) for eps, value in named.items()))
    found.attrs = {**ATTRS, "exhibit": "curve-mnist", "command": "python -m lib run curve-mnist"}
    return found


def test_the_suite_is_compared_image_by_image():
    outcomes = held(reference="hhhhhh..", fgsm="hhhhhhh.", autoattack="hhhh.h..", margin="hhhhh.h.")
    table = exhibits.strength_table(outcomes).set_index("attack")["original"]
    assert table["**the paper's PGD**"] == "75.0"
    assert table["FGSM: one step of ε"] == "87.5 (+12.5)"
    assert table["AutoAttack"] == "62.5 (-12.5)"
    assert table["BIM: PGD from the image itself"] == "–"
    assert table["all of them together"] == "50.0 (-25.0)"  # images 4 and 5 each withstand one of the two
    text = exhibits.strength_seen(outcomes)
    for part in (
        "On 8 test images (scale laptop)",
        "**25.0 points**",
        "original 75.0% to 50.0%",
        "(the strongest alone: AutoAttack)",
    ):
        assert part in text
    assert exhibits.strength_seen(held(reference="h.")) == "Not computed yet; compute it with `python -m lib run table-2`."
    assert exhibits.strength_table(held())["original"].eq("–").all()


@pytest.mark.parametrize(
    ("weaker", "stronger", "verdict"),
    [
        ("hhhhhhhhhh", "hhhhh.....", "holds (100.0 → 50.0)"),
        ("hhhhh.....", "hhhhh.....", "holds (50.0 → 50.0)"),
        ("hhhhh.....", "hhhhhhhhh.", "holds, within chance (50.0 → 90.0)"),  # 4 images: p = 1/16
        ("hhhhh.....", "hhhhhhhhhh", "**fails** (50.0 → 100.0)"),  # 5 images: p = 1/32
    ],
    ids=["stronger", "as strong", "weaker by chance", "weaker"],
)
def test_a_stronger_attack_that_does_less_fails_the_check(weaker, stronger, verdict):
    table = exhibits.masking_table(held(fgsm=weaker, reference=stronger), curve()).set_index("check")["original"]
    assert table["one step does less than many"] == verdict
    assert table["AutoAttack does no less than the paper's"] == "–"


@pytest.mark.parametrize(
    ("values", "verdicts"),
    [
        ({"e_0": 99.0, "e_0_3": 90.0, "e_0_5": 10.0, "e_1": 0.0}, ("holds", "holds (10.0)", "holds (0.0)")),
        ({"e_0": 99.0, "e_0_3": 99.5, "e_0_5": 10.1}, ("holds (but for +0.5 points)", "**fails** (10.1)", "–")),
        ({"e_0": 90.0, "e_0_3": 92.0, "e_1": 0.1}, ("**fails** (but for +2.0 points)", "–", "**fails** (0.1)")),
        ({}, ("–", "–", "–")),
    ],
    ids=["all hold", "grey fails", "the end fails", "nothing"],
)
def test_a_curve_that_stays_up_fails_the_check(values, verdicts):
    table = exhibits.masking_table(held(), curve(**values))
    assert tuple(table["original"].iloc[-3:]) == verdicts
    text = exhibits.masking_seen(table)
    failing = sum("fails" in verdict for verdict in verdicts)
    computed = sum(verdict != "–" for verdict in verdicts)
    assert text.startswith(
        f"**{computed - failing} of {computed} checks hold**" if computed else "Not computed yet; compute it with `python"
    )
    assert ("those that fail" in text) == bool(failing)


def test_curve_table_has_the_budgets_around_the_papers():
    table = exhibits.curve_table(curve(e_0=99.0, e_0_15=97.0, e_0_3=90.0, e_0_4=60.0, e_0_45=40.0)).set_index("variant")
    assert list(table.columns) == ["ε = 0 (clean)", "ε = 0.15", "ε = 0.3", "ε = 0.45", "half fall at ε ="]
    assert list(table.loc["original"]) == ["99.0", "97.0", "90.0", "40.0", "0.425"]
    assert list(table.loc["smooth 8"]) == ["–"] * 5


@pytest.mark.parametrize(
    ("means", "half"),
    [
        ({0.0: 90.0, 0.2: 70.0, 0.4: 30.0}, 0.3),
        ({0.0: 40.0, 0.2: 20.0}, 0.0),
        ({0.0: 90.0, 0.2: 50.0}, 0.2),
        ({0.0: 90.0}, None),
    ],
    ids=["between", "from the start", "at a point", "never"],
)
def test_where_half_of_the_images_fall(means, half):
    found = exhibits.half_eps(pd.Series(means))
    assert found == pytest.approx(half) if half is not None else np.isnan(found)


def test_curves_of_two_variants_are_compared_at_every_budget():
    both = pd.concat([curve(e_0=99.0, e_0_3=90.0, e_0_4=50.0), curve("smooth-8", e_0=98.0, e_0_3=70.0, e_0_4=60.0)])
    both.attrs = curve().attrs
    text = exhibits.curve_seen(both)
    for part in (
        "2 variants",
        "10000 test images: a 95% interval of at most ±1 points",
        "1.0 points at ε = 0",
        "20.0 at the paper's ε = 0.3",
        "**20.0**",
        "at least -1.00",
        "ε = 0.4",
    ):
        assert part in text
    (ax,) = exhibits.curve_figure(both).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines if not line.get_label().startswith("_")}
    assert drawn == {"original": [99.0, 90.0, 50.0], "smooth 8": [98.0, 70.0, 60.0]}
    assert exhibits.curve_seen(curve(e_0=99.0)).startswith("Not computed yet: at least two variants are needed, 1 are there;")
    empty = exhibits.curve_figure(curve())
    assert is_empty(empty)


# --- Appendix D -------------------------------------------------------------------------------------------------------


def of_measurement(exhibit: str, metric: str, values: dict[str, float], dataset: str = "mnist") -> pd.DataFrame:
    """Measurements as `results.select` gives those of an exhibit."""
    found = measured(metric, values)
    found["dataset"] = dataset
    found.attrs = {**ATTRS, "exhibit": exhibit, "command": f"python -m lib run {exhibit}"}
    return found


def test_table_6_is_truncated_as_the_papers():
    volumes = {"binarize": -1361.78, "original": -1297.26, "smooth-3": -1265.31, "smooth-5": -1233.9}
    sets = {"mnist": of_measurement("volumes-mnist", "log2_perturbable_volume", volumes)}
    table = exhibits.perturbable_volume_table(sets, TABLE_6).set_index("variant")
    assert list(table.loc["original"]) == ["MNIST", "-1297", "-1297.26", "-1297", "-1361.8 to -577.8"]
    assert list(table.loc["smooth 2", ["paper", "ours", "truncated"]]) == ["", "–", "–"]
    assert table.loc["smooth 5", "truncated"] == "-1233"
    text = exhibits.perturbable_volume_seen(sets, TABLE_6)
    assert (
        "MNIST (scale laptop): **3 of 4** values are the paper's to the last digit; the largest difference is 1 bits." in text
    )
    nothing = {"cifar10": of_measurement("volumes-cifar10", "log2_perturbable_volume", {})}
    assert (
        exhibits.perturbable_volume_seen(nothing, TABLE_6)
        == "CIFAR10: not computed yet; compute it with `python -m lib run volumes-cifar10`."
    )


def test_table_7_has_both_attacks_and_their_difference():
    sets = {"mnist": frame(*BOXES), "cifar10": frame()}
    table = exhibits.unboxed_table(sets, TABLE_7).set_index("variant")
    assert list(table.loc["MNIST, original"]) == ["95.1", "94.0 (-1.1)", "95.1", "93.5 (-1.6)", "+0.0", "-0.5"]
    assert list(table.loc["MNIST, binarized"]) == ["98.1", "97.0 (-1.1)", "96.1", "–", "-2.0", "–"]
    assert sum(table.index.str.startswith("CIFAR10, ")) == 6
    text = exhibits.unboxed_seen(sets, TABLE_7)
    assert "MNIST (scale laptop, 1 variant): outside the cube the attack moves robust accuracy by **-0.5** (original)" in text
    assert "CIFAR10: not computed yet" in text


def test_rank_correlation_has_an_interval_that_says_how_little_few_pairs_tell():
    x = pd.Series({name: float(i) for i, name in enumerate("abcdefgh")})
    assert exhibits.rank_correlation(x, x**3)[:3] == (1.0, 1.0, 1.0)
    rho, low, high, n = exhibits.rank_correlation(x, pd.Series(dict(zip("abcdefgh", (1, 2, 4, 3, 6, 5, 8, 7), strict=True))))
    assert rho == pytest.approx(1 - 6 * 6 / (8 * 63))
    assert low < rho < high <= 1
    assert n == 8
    assert exhibits.rank_correlation(x, x) == exhibits.rank_correlation(x, x)
    found = exhibits.rank_correlation(x, x[:3])
    assert np.isnan(found[0])
    assert found[3] == 3


DISTANCES = {"binarize": 8.64, "original": 7.31, "smooth-2": 7.35, "smooth-3": 7.08}


def test_distance_and_robustness_are_shown_together():
    distances = of_measurement("figure-5-mnist", "inter_class_distance", DISTANCES)
    ours = frame(*((name, *ROBUST, value, 0) for name, value in zip(DISTANCES, (98.0, 93.0, 91.0, 88.0), strict=True)))
    sets = {"mnist": (distances, ours, PAPER)}
    text = exhibits.distance_correlation_seen(sets)
    assert text.startswith("MNIST: with the paper's robust accuracies **ρ = +0.80 [")
    assert "with ours ρ = +0.80" in text
    (ax,) = exhibits.distance_scatter(sets).axes
    hollow = next(line for line in ax.lines if line.get_label().startswith("the paper"))
    assert next(zip(*hollow.get_data(), strict=True)) == (8.64, 98.1)
    points = {point for line in ax.lines for point in zip(*line.get_data(), strict=True)}
    assert {(7.31, 93.0), (7.08, 88.0)} <= points
    assert {text.get_text() for text in ax.texts} == {"original", "binarized", "s2", "s3"}
    near = of_measurement("figure-5-mnist", "inter_class_distance", {**DISTANCES, "smooth-2": 7.32})
    paper = PAPER.assign(value=PAPER["value"].where(PAPER["transform"] != "smooth-2", 95.1))
    (crowded,) = exhibits.distance_scatter({"mnist": (near, frame(), paper)}).axes
    assert {text.get_text() for text in crowded.texts} == {"original", "binarized", "s3"}  # no room for s2
    assert "ours: not computed yet" in [line.get_label() for line in crowded.containers]
    (bars,) = exhibits.distance_bars([distances, of_measurement("distances-fashion", "inter_class_distance", {})]).axes
    assert [bar.get_height() for bar in bars.patches][:4] == list(DISTANCES.values())
    empty = of_measurement("figure-5-mnist", "inter_class_distance", {})
    assert exhibits.distance_correlation_seen({"mnist": (empty, frame(), PAPER)}).startswith("MNIST: not computed yet; ")
    assert is_empty(exhibits.distance_bars([empty]))
    assert is_empty(exhibits.distance_scatter({"mnist": (empty, frame(), PAPER)}))


def test_linf_distances_are_told_by_their_ends():
    parts = {"linf_distance_smallest": 0.7, "linf_distance_percentile_1": 0.95, "linf_distance_median": 1.0}
    rows = [of_measurement("linf-mnist", metric, {"original": value}) for metric, value in parts.items()]
    rows.append(of_measurement("linf-mnist", "linf_distance_share_above_0.9", {"original": 0.998}))
    found = pd.concat(rows)
    found.attrs = rows[0].attrs
    table = exhibits.linf_table([found]).set_index("variant")
    assert list(table.loc["original"]) == ["MNIST", "0.700", "0.950", "1.000", "99.8%", "10000"]
    assert list(table.loc["binarized"]) == ["MNIST", *["–"] * 5]
    assert (
        "MNIST (scale laptop): 99.8% of the pairs are farther apart than .9 on original (median 1.000)."
        in exhibits.linf_seen([found])
    )
    nothing = of_measurement("linf-mnist", "linf_distance_smallest", {})
    assert exhibits.linf_seen([nothing]) == "MNIST: not computed yet; compute it with `python -m lib run linf-mnist`."


def of_table(exhibit: str, rows: list[dict]) -> pd.DataFrame:
    """A table as `results.tables` gives it."""
    about = {"dataset": "spheres", "transform": "original", "model": "", "source": "simulated", "device": "a processor",
             "commit": "abc", "date": "2026-01-02T", "scale": "laptop", "status": "recorded"}  # fmt: skip
    found = pd.DataFrame([{**about, **row} for row in rows], columns=None if rows else list(about))
    found.attrs = {**ATTRS, "exhibit": exhibit, "expected": 1, "command": f"python -m lib run {exhibit}"}
    return found


# Three units separate the larger gap, clean and robust; the smaller takes eight, and robustly more than there are.
SPHERES = of_table(
    "figure-6",
    [
        {
            "d": 2,
            "width": w,
            "gap": gap,
            "training": how,
            "eps": 0.1,
            "n": 1000,
            "clean_accuracy": clean,
            "robust_accuracy": robust,
        }
        for w, gap, how, clean, robust in (
            (3, 1.0, "standard", 1.0, 0.97),
            (3, 1.0, "pgd", 1.0, 0.995),
            (3, 0.4, "standard", 0.9, 0.6),
            (3, 0.4, "pgd", 0.88, 0.7),
            (8, 1.0, "standard", 1.0, 0.98),
            (8, 1.0, "pgd", 1.0, 1.0),
            (8, 0.4, "standard", 1.0, 0.8),
            (8, 0.4, "pgd", 0.99, 0.95),
        )
    ],
)


def test_facets_stand_beside_the_units_that_sufficed():
    table = exhibits.facets_table(SPHERES, 2).set_index("gap")
    # A triangle's corners are twice as far out as its sides; a pentagon's 1.24 times; radii (1 + gap - eps)/(1 + eps).
    assert list(table.loc["1"]) == ["2.00", "3", "3", "1.73", "4", "3"]
    assert list(table.loc["0.4"]) == ["1.40", "5", "8", "1.18", "6", ">8"]
    assert "units that sufficed" in exhibits.facets_table(of_table("figure-6", []), 8)
    text = exhibits.spheres_seen(SPHERES)
    assert "at a gap of 1 clean points are separated by 3 units, robustly by 3 units" in text
    assert "at a gap of 0.4 clean points are separated by 8 units, robustly by no width tried" in text
    assert "**20.0 points** (width 3, gap 0.4, 2 dimensions)" in text


def test_spheres_figure_moves_the_gap_by_what_the_adversary_takes():
    axes = exhibits.spheres_figure(SPHERES).axes
    above, below = ([list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2] for ax in axes)
    assert above == [[0.4, 1.0]] * 4
    assert below[0] == pytest.approx([0.4, 1.0])
    assert below[1] == pytest.approx([1.3 / 1.1 - 1, 1.9 / 1.1 - 1])
    assert is_empty(exhibits.spheres_figure(of_table("figure-6", [])))


def test_boundary_figure_has_a_panel_a_network():
    case = {"gap": 0.4, "width": 3, "training": "pgd", "eps": 0.1, "n": 1000, "clean_accuracy": 0.9, "robust_accuracy": 0.7}
    rows = [{"panel": panel, **case, "angle": angle, "radius": 1.2} for panel in (0, 1) for angle in (0.0, 2.0, 4.0)]
    axes = exhibits.boundary_figure(of_table("figure-6-boundaries", rows)).axes
    assert len(axes) == 2
    assert axes[0].get_xlabel() == "clean 90.0% · robust 70.0%"
    drawn = axes[0].lines[-1]
    assert np.hypot(*drawn.get_data()) == pytest.approx([1.2] * 4)  # closed
    assert is_empty(exhibits.boundary_figure(of_table("figure-6-boundaries", [])))


def test_the_linear_case_is_told_in_shares_of_the_largest_margin():
    rows = [
        {"eps": eps, "margin": margin, "largest_margin": 0.5, "d": 10, "n": 200} for eps, margin in ((0.0, 0.3), (0.45, 0.49))
    ]
    found = of_table("linear-margin", rows)
    assert exhibits.linear_margin_seen(found) == (
        "Standard training reaches 60% of the largest margin there is (a support vector machine's), adversarial training with "
        "ε at 90% of it **98%** (200 points, 10 dimensions)."
    )
    (ax,) = exhibits.linear_margin_figure(found).axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx([0.6, 0.98])
    assert (
        exhibits.linear_margin_seen(of_table("linear-margin", []))
        == "Not computed yet; compute it with `python -m lib run linear-margin`."
    )


def test_the_schedule_says_what_it_assumes():
    row = {"runs": 73, "gpu_hours": 1950.4, "critical_hours": 110.84, "critical": "paper: cifar10/original/w4/seed0"}
    rows = pd.DataFrame(
        [
            {"gpus": 1, "wall_hours": 1950.4, "busy": 1.0, **row},
            {"gpus": 64, "wall_hours": 110.84, "busy": 0.275, **row},
        ]
    )
    rows.attrs = {"speed": 1e12}
    table = exhibits.schedule_table(rows)
    assert table.iloc[0].tolist() == ["1", "73", "1,950", "1,950.4", "100%", "110.8"]
    assert table.iloc[1].tolist() == ["64", "73", "1,950", "110.8", "28%", "110.8"]
    said = exhibits.schedule_seen(rows)
    assert "1·10¹² operations a second and GPU, which is assumed, not measured" in said
    assert "`cifar10/original/w4/seed0`, with 110.8 hours" in said
    assert "about 18 GPUs" in said  # 1950.4 / 110.84 = 17.6
