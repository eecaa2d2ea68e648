"""Figures and tables: frames in, exhibits out."""

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
    figure = draw()
    assert not figure.axes
    assert "python -m lib run example-1" in "".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_sentences_of_section_2_without_records_say_how_to_compute_them():
    for text in (
        exhibits.example_1_seen(tables()),
        exhibits.concentration_seen(tables()),
        exhibits.distance_seen(tables(), tables()),
        exhibits.example_2_seen(tables()),
    ):
        assert text.startswith("Not computed yet. `python -m lib run example-1`")
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
