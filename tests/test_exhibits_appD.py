"""Exhibits of Appendix D: Tables 6 and 7, distances, spheres and the linear case."""

import numpy as np
import pandas as pd
import pytest
from frames import ATTRS, BOXES, PAPER, ROBUST, TABLE_6, TABLE_7, frame, is_empty, measured, tables

from lib.report.sections import appD1, appD2


def of_measurement(exhibit: str, metric: str, values: dict[str, float], dataset: str = "mnist") -> pd.DataFrame:
    """Measurements as `results.select` gives those of an exhibit."""
    rows = measured(metric, values)
    rows["dataset"] = dataset
    rows.attrs = {**ATTRS, "exhibit": exhibit, "command": f"python -m lib run {exhibit}"}
    return rows


def test_table_6_is_truncated_as_the_papers():
    volumes = {"binarize": -1361.78, "original": -1297.26, "smooth-3": -1265.31, "smooth-5": -1233.9}
    sets = {"mnist": of_measurement("volumes-mnist", "log2_perturbable_volume", volumes)}
    table = appD1.perturbable_volume_table(sets, TABLE_6).text.set_index("variant")
    assert list(table.loc["original"]) == ["MNIST", "-1297", "-1297.26", "-1297", "-1361.8 to -577.8"]
    assert list(table.loc["smooth 2", ["paper", "ours", "truncated"]]) == ["", "–", "–"]
    assert table.loc["smooth 5", "truncated"] == "-1233"
    text = appD1.perturbable_volume_summary(sets, TABLE_6)
    assert (
        "MNIST (scale laptop): **3 of 4** values agree with the paper's to the last digit; the largest difference is 1 bit."
        in text
    )
    nothing = {"cifar10": of_measurement("volumes-cifar10", "log2_perturbable_volume", {})}
    assert (
        appD1.perturbable_volume_summary(nothing, TABLE_6)
        == "CIFAR10: not computed yet; compute it with `python -m lib run volumes-cifar10`."
    )


def test_table_7_has_both_attacks_and_their_difference():
    sets = {"mnist": frame(*BOXES), "cifar10": frame(exhibit="table-7-cifar10")}
    table = appD1.unboxed_table(sets, TABLE_7).text.set_index("variant")
    assert list(table.loc["MNIST, original"]) == ["95.1", "94.0 (-1.1)", "95.1", "93.5 (-1.6)", "+0.0", "-0.5"]
    assert list(table.loc["MNIST, binarized"]) == ["98.1", "97.0 (-1.1)", "96.1", "–", "-2.0", "–"]
    assert sum(table.index.str.startswith("CIFAR10, ")) == 6
    text = appD1.unboxed_summary(sets, TABLE_7)
    assert "MNIST (scale laptop, 1 variant): leaving the cube changes robust accuracy by **-0.5** (original)" in text
    assert "CIFAR10: not computed yet" in text


def test_a_variant_that_the_paper_lacks_has_no_number_of_the_paper():
    ours = frame(("posterize-4", "pgd", "robust_accuracy", 90.0, 0), ("posterize-4", "pgd", "robust_accuracy_unboxed", 89.0, 0))
    assert appD1.unboxed_summary({"mnist": ours}, TABLE_7).endswith("changes robust accuracy by **-1.0** (posterize 4).")


def test_rank_correlation_has_an_interval_that_says_how_little_few_pairs_tell():
    x = pd.Series({name: float(i) for i, name in enumerate("abcdefgh")})
    assert appD2.rank_correlation(x, x**3)[:3] == (1.0, 1.0, 1.0)
    rho, low, high, n = appD2.rank_correlation(x, pd.Series(dict(zip("abcdefgh", (1, 2, 4, 3, 6, 5, 8, 7), strict=True))))
    assert rho == pytest.approx(1 - 6 * 6 / (8 * 63))
    assert low < rho < high <= 1
    assert n == 8
    assert appD2.rank_correlation(x, x) == appD2.rank_correlation(x, x)
    correlation = appD2.rank_correlation(x, x[:3])
    assert np.isnan(correlation[0])
    assert correlation[3] == 3


DISTANCES = {"binarize": 8.64, "original": 7.31, "smooth-2": 7.35, "smooth-3": 7.08}


def test_distance_and_robustness_are_shown_together():
    distances = of_measurement("figure-5-mnist", "inter_class_distance", DISTANCES)
    ours = frame(*((name, *ROBUST, value, 0) for name, value in zip(DISTANCES, (98.0, 93.0, 91.0, 88.0), strict=True)))
    sets = {"mnist": (distances, ours, PAPER)}
    text = appD2.distance_correlation_summary(sets)
    assert text.startswith("MNIST: with the paper's robust accuracies **ρ = +0.80 [")
    assert "with ours ρ = +0.80" in text
    (ax,) = appD2.distance_scatter(sets).axes
    hollow = next(line for line in ax.lines if line.get_label().startswith("the paper"))
    assert next(zip(*hollow.get_data(), strict=True)) == (8.64, 98.1)
    points = {point for line in ax.lines for point in zip(*line.get_data(), strict=True)}
    assert {(7.31, 93.0), (7.08, 88.0)} <= points
    assert {text.get_text() for text in ax.texts} == {"original", "binarized", "s2", "s3"}
    near = of_measurement("figure-5-mnist", "inter_class_distance", {**DISTANCES, "smooth-2": 7.32})
    paper = PAPER.assign(value=PAPER["value"].where(PAPER["transform"] != "smooth-2", 95.1))
    (crowded,) = appD2.distance_scatter({"mnist": (near, frame(), paper)}).axes
    assert {text.get_text() for text in crowded.texts} == {"original", "binarized", "s3"}  # no room for s2
    assert "ours: not computed yet" in [line.get_label() for line in crowded.containers]
    (bars,) = appD2.distance_bars([distances, of_measurement("distances-fashion", "inter_class_distance", {})]).axes
    assert [bar.get_height() for bar in bars.patches][:4] == list(DISTANCES.values())
    empty = of_measurement("figure-5-mnist", "inter_class_distance", {})
    assert appD2.distance_correlation_summary({"mnist": (empty, frame(), PAPER)}).startswith("MNIST: not computed yet; ")
    assert is_empty(appD2.distance_bars([empty]))
    assert is_empty(appD2.distance_scatter({"mnist": (empty, frame(), PAPER)}))


def test_linf_distances_are_told_by_their_ends():
    parts = {"linf_distance_smallest": 0.7, "linf_distance_percentile_1": 0.95, "linf_distance_median": 1.0}
    rows = [of_measurement("linf-mnist", metric, {"original": value}) for metric, value in parts.items()]
    rows.append(of_measurement("linf-mnist", "linf_distance_share_above_0.9", {"original": 0.998}))
    found = pd.concat(rows)
    found.attrs = rows[0].attrs
    table = appD2.linf_table([found]).text.set_index("variant")
    assert list(table.loc["original"]) == ["MNIST", "0.700", "0.950", "1.000", "99.8%", "10000"]
    assert list(table.loc["binarized"]) == ["MNIST", *["–"] * 5]
    assert (
        "MNIST (scale laptop): the share of pairs with a distance above .9 is 99.8% on original (median 1.000)."
        in appD2.linf_summary([found])
    )
    almost_all = found.assign(value=found["value"].where(found["metric"] != "linf_distance_share_above_0.9", 0.99997))
    almost_all.attrs = found.attrs
    assert "is >99.9% on original" in appD2.linf_summary([almost_all])
    nothing = of_measurement("linf-mnist", "linf_distance_smallest", {})
    assert appD2.linf_summary([nothing]) == "MNIST: not computed yet; compute it with `python -m lib run linf-mnist`."


# Three units separate the larger gap, clean and robust; the smaller takes eight, and robustly more than there are.
SPHERES = tables(
    *[
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
    exhibit="figure-6",
)


def test_facets_stand_beside_the_units_that_sufficed():
    table = appD2.facets_table(SPHERES, 2).text.set_index("gap")
    # A triangle's corners are twice as far out as its sides; a pentagon's 1.24 times; radii (1 + gap - eps)/(1 + eps).
    assert list(table.loc["1"]) == ["2.00", "3", "3", "1.73", "4", "3"]
    assert list(table.loc["0.4"]) == ["1.40", "5", "8", "1.18", "6", ">8"]
    assert set(appD2.facets_table(tables(exhibit="figure-6"), 8).text.iloc[0]) == {"–"}
    text = appD2.spheres_summary(SPHERES)
    assert "has 3 units for clean points and 3 units under attack, at a gap of 1" in text
    assert "8 units for clean points and more than 8 units under attack, at a gap of 0.4" in text
    assert "**20.0 points** below the clean accuracy of standard training (width 3, gap 0.4, 2 dimensions)" in text


def test_spheres_figure_moves_the_gap_by_what_the_adversary_takes():
    axes = appD2.spheres_figure(SPHERES).axes
    above, below = ([list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2] for ax in axes)
    assert above == [[0.4, 1.0]] * 4
    assert below[0] == pytest.approx([0.4, 1.0])
    assert below[1] == pytest.approx([1.3 / 1.1 - 1, 1.9 / 1.1 - 1])
    assert is_empty(appD2.spheres_figure(tables(exhibit="figure-6")))


def test_boundary_figure_has_a_panel_a_network():
    case = {"gap": 0.4, "width": 3, "training": "pgd", "eps": 0.1, "n": 1000, "clean_accuracy": 0.9, "robust_accuracy": 0.7}
    rows = [{"panel": panel, **case, "angle": angle, "radius": 1.2} for panel in (0, 1) for angle in (0.0, 2.0, 4.0)]
    axes = appD2.boundary_figure(tables(*rows, exhibit="figure-6-boundaries")).axes
    assert len(axes) == 2
    assert axes[0].get_xlabel() == "clean 90.0% · robust 70.0%"
    drawn = axes[0].lines[-1]
    assert np.hypot(*drawn.get_data()) == pytest.approx([1.2] * 4)  # closed
    assert is_empty(appD2.boundary_figure(tables(exhibit="figure-6-boundaries")))


def test_the_linear_case_is_told_in_shares_of_the_largest_margin():
    rows = [
        {"eps": eps, "margin": margin, "largest_margin": 0.5, "d": 10, "n": 200} for eps, margin in ((0.0, 0.3), (0.45, 0.49))
    ]
    found = tables(*rows, exhibit="linear-margin")
    assert appD2.linear_margin_summary(found) == (
        "Standard training reaches 60% of the largest possible margin (that of a support vector machine). Adversarial training "
        "with ε at 90% of that margin reaches **98%** (200 points, 10 dimensions)."
    )
    (ax,) = appD2.linear_margin_figure(found).axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx([0.6, 0.98])
    assert (
        appD2.linear_margin_summary(tables(exhibit="linear-margin"))
        == "Not computed yet; compute it with `python -m lib run linear-margin`."
    )
