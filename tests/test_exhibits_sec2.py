"""Exhibits of Section 2: simulated points beside the bounds, and pairwise distances."""

import numpy as np
import pytest
from frames import tables

from lib.report.sections import sec2, sec2_distances
from lib.store import results


def example_1(d=2, eps=0.1, axis=200, diagonal=360, diagonal_in_cube=350, bayes=0, n=1000) -> dict:
    return locals()


def half_space(inside=900, eps=0.2, mass=0.5, d=2, direction="axis", dataset="cube", n=1000) -> dict:
    return locals()


def spike(at: float, d: int, dataset: str, transform="original", width=0.0) -> list[dict]:
    """Distances that are all alike, or, with a width, fall half below and half above."""
    about = {"d": d, "dataset": dataset, "transform": transform, "count": 5}
    return [{**about, "left": place - 0.01, "right": place + 0.01} for place in (at - width, at + width)]


EMPTY_FIGURES = [
    lambda: sec2.example_1_figure(tables()),
    lambda: sec2.concentration_figure(tables()),
    lambda: sec2_distances.distance_figure(tables(), tables()),
]


@pytest.mark.parametrize("draw", EMPTY_FIGURES)
def test_figures_of_section_2_without_records_say_how_to_compute_them(draw):
    (ax,) = draw().axes
    assert ax.texts[0].get_text() == "not computed yet; compute it with:\npython -m lib run example-1"
    assert not ax.lines


def test_sentences_of_section_2_without_records_say_how_to_compute_them():
    for text in (
        sec2.example_1_summary(tables()),
        sec2.concentration_summary(tables()),
        sec2_distances.distance_summary(tables(), tables()),
        sec2_distances.example_2_summary(tables()),
    ):
        assert text.startswith("Not computed yet; compute it with `python -m lib run example-1`")
    for table in (sec2.example_1_table(tables()).text, sec2_distances.distance_table(tables(), tables()).text):
        assert set(table.to_numpy().flatten()) == {"–"}


def test_the_splits_are_drawn_with_the_share_that_is_fooled():
    figure = sec2.split_figure(0.1, pixels=200)
    assert [ax.get_xlabel() for ax in figure.axes] == [f"fooled within ε = 0.1: {share}%" for share in (20, 36, 36)]
    for ax, share in zip(figure.axes, (0.2, 0.36, 0.36), strict=True):
        (image,) = ax.images
        plain = sec2.split_figure(0.0, pixels=200).axes[figure.axes.index(ax)].images[0].get_array()
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
    first, second = sec2.example_1_figure(rows).axes
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
    assert sec2.example_1_table(tables(row)).text.loc[0, column] == cell


def test_example_1_seen_counts():
    text = sec2.example_1_summary(tables(example_1(), example_1(d=10, bayes=3, diagonal=500)))
    assert "3 of 2,000 simulated points" in text
    assert "contains the exact value for 3 of the 4 simulated robust errors" in text  # 500 of 1000, where 72% is right
    assert (
        "At d = 10 and ε = 0.1, the attack fools 20.0% of the points before T and **50.0%** of the same points after it, or 35"
        in text
    )


def test_half_spaces_are_drawn_beside_the_bounds():
    rows = tables(half_space(), half_space(direction="diagonal", inside=950), half_space(dataset="ball", d=784, eps=0.1))
    cube, ball = sec2.concentration_figure(rows).axes
    assert (cube.get_title(), ball.get_title()) == ("cube, P(A) = 0.5", "ball, P(A) = 0.5")
    lines = {line.get_label(): line for line in cube.lines}
    assert lines["first inequality, any d"].get_ydata()[-1] == pytest.approx(69.193, abs=0.001)  # Φ(.2·√(2π))
    assert lines["last inequality, any d"].get_ydata()[-1] == pytest.approx(11.808, abs=0.001)  # 1 - e^(-.04π)
    marks = {container.get_label(): container.lines[0].get_ydata().tolist() for container in cube.containers}
    assert marks == {"half-space along the axis": [90], "half-space along the diagonal": [95]}
    assert "first inequality, d = 784" in {line.get_label() for line in ball.lines}


def test_a_half_space_below_its_bound_is_told():
    text = sec2.concentration_summary(tables(half_space(), half_space(inside=600)))
    assert text.startswith(
        "Of 2 simulated half-spaces, 1 is on or above the first bound, 1 of them with the whole 95% interval; for the others"
    )
    assert "In the cube the smallest margin is -9.193 points (d = 2, along the axis, P(A) = 0.5, ε = 0.2)." in text
    assert "In the ball" not in text


def test_example_2_stands_beside_the_paper():
    table = sec2.example_2_table(results.published("example-2")).text
    assert table.to_numpy().tolist() == [
        ["cube, any d, ε = 0.5", "94", "94.38", "≤0", "≤0", ""],
        ["ball, d = 3072, ε = 0.09", "97", "97.81", "97.80", "86.96", "97.79"],
    ]


def test_example_2_in_one_unit():
    uniform = tables(*spike(20.0, 3072, "cube"), *spike(1.5, 3072, "ball"), *spike(10.0, 784, "cube"))
    text = sec2_distances.example_2_summary(uniform)
    assert "20.00 apart in the cube and 1.500 in the ball" in text
    assert "**2.5%** of a typical distance, and ε = 0.09 in the ball **6.0%**" in text


def test_distances_apart_are_the_shift_and_the_shape():
    uniform = tables(*spike(10.0, 100, "cube"), *spike(2.0, 100, "ball"), *spike(2.0, 400, "ball"))
    images = tables(*spike(7.0, 100, "cifar10", width=0.7))
    (row,) = sec2_distances.distances_apart(uniform, images).to_dict("records")
    assert (row["mean"], row["spread"]) == pytest.approx((7.0, 0.1))
    assert (row["cube"], row["ball"]) == pytest.approx((0.3, 0.5))
    assert (row["cube_shape"], row["ball_shape"]) == pytest.approx((0.1, 0.1))
    text = sec2_distances.distance_summary(uniform, images)
    assert "over √d, 0.300 from the cube's and 0.500 from the ball's: **nearer to the cube**" in text
    assert "0.100 from the cube's and 0.100 from the ball's: **about as far from both**" in text
    assert text.endswith("closer to the ball.")
    assert "So the distances give no reason to call" in text
    near_the_ball = sec2_distances.distance_summary(uniform, tables(*spike(2.5, 100, "cifar10-jpeg")))
    assert "CIFAR10 (JPEG)" in near_the_ball
    assert "**nearer to the ball**" in near_the_ball
    assert near_the_ball.endswith("So by at least one of these two comparisons CIFAR10 (JPEG) is closer to the ball.")


def test_distances_to_a_space_that_is_not_computed_are_blank():
    table = sec2_distances.distance_table(tables(*spike(10.0, 400, "cube")), tables(*spike(5.0, 100, "mnist", "binarize"))).text
    assert table["points"].tolist() == ["cube, d = 400", "MNIST, binarized"]
    assert table.iloc[1].tolist() == ["MNIST, binarized", "100", "5.00", "0.500", "0.0%", "", "", "", ""]


def test_distances_stand_beside_the_papers_robustness():
    images = tables(*spike(7.0, 100, "mnist", width=0.7), *spike(6.0, 100, "cifar10-jpeg", "binarize"))
    table = sec2_distances.distance_and_robustness_table(images, results.published()).text
    assert table.to_numpy().tolist() == [
        ["CIFAR10 (JPEG), binarized", "0.600", "0.0%", "79.7", "99.2"],
        ["MNIST", "0.700", "10.0%", "95.1", "95.1"],
    ]


def test_distances_are_drawn_in_both_units():
    left, right = sec2_distances.distance_figure(
        tables(*spike(10.0, 100, "cube")), tables(*spike(7.0, 100, "mnist", width=0.7))
    ).axes
    edges = [patch.get_data().edges for ax in (left, right) for patch in ax.patches]
    assert [(low, high) for low, *_, high in edges] == [
        pytest.approx(pair) for pair in ((0.999, 1.001), (0.629, 0.771), (0.999, 1.001), (6.29 / 7, 7.71 / 7))
    ]
