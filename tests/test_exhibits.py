"""Figures and tables: frames in, exhibits out."""

import numpy as np
import pandas as pd
import pytest

from lib import exhibits, results

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
