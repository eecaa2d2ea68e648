"""Exhibits: the cells, labels and badges that all have, pictures and histograms."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import ATTRS, PAPER, ROBUST, TABLE_4, along, frame

from lib.report import EXHIBITS, values, words
from lib.report.sections import pictures, sec3, sec5
from lib.store import grid, intervals, results

ROOT = Path(__file__).resolve().parents[1]


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
    table = sec3.robustness_table(frame(*rows), PAPER).text.set_index("variant")
    assert table.loc["original", "robust: ours (Δ)"] == cell
    assert table.loc["original", "robust: paper"] == "95.1"
    assert list(table.index) == ["binarized", "original"] + [f"smooth {size}" for size in range(2, 9)]


def test_badge_tells_scale_source_model_seeds_and_share():
    ours = frame(("original", *ROBUST, 94.0, 0), ("original", *ROBUST, 95.0, 1), ("binarize", *ROBUST, None, 0))
    text = words.badge(ours)
    for part in ("scale laptop", "MNIST", "lenet5 w=0.25", "seeds 0, 1", "1 of 54", "a processor", "stale"):
        assert part in text


def test_the_badge_of_several_frames_says_once_what_they_share():
    first, second = frame(("original", *ROBUST, 94.0, 0)), frame(("original", *ROBUST, 94.0, 0))
    assert words.badge(first, second) == words.badge(first)
    second = second.assign(seed=1)
    second.attrs = first.attrs | {"expected": 9, "exhibit": "table-1"}
    shared, *rest = words.badge(first, second).split("\n\n")
    assert "scale laptop" in shared
    assert rest == [
        f"`{first.attrs['exhibit']}`: seed 0 · 1 of 54 runs are complete",
        "`table-1`: seed 1 · 1 of 9 runs are complete",
    ]
    nothing = first[:0]
    nothing.attrs = first.attrs | {"command": "python -m lib run table-1"}
    assert words.badge(first, nothing).split("\n\n")[1] == "not computed yet; compute it with: `python -m lib run table-1`"


@pytest.mark.parametrize(
    ("number", "words_for", "said"),
    [(1, ("variant",), "1 variant"), (2, ("variant",), "2 variants"), (1, ("is", "are"), "1 is"), (0, ("is", "are"), "0 are")],
)
def test_a_number_and_its_word_agree(number, words_for, said):
    assert words.counted(number, *words_for) == said


@pytest.mark.parametrize(("parts", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (iter("abc"), "a, b and c")])
def test_a_list_is_written_with_one_and(parts, said):
    assert words.listed(parts) == said


def test_code_that_was_not_committed_is_marked_where_it_is_shown():
    clean = frame(("original", *ROBUST, 94.0, 0))
    dirty = clean.assign(commit="abc-dirty")
    dirty.attrs = clean.attrs
    assert "uncommitted" not in words.badge(clean)
    assert words.badge(dirty).endswith(" · some records come from code with uncommitted changes")
    assert "-dirty" not in words.stamp([clean])
    assert "-dirty means that the code had changes that were not committed." in words.stamp([clean, dirty])


def test_badge_names_a_recipe_other_than_the_default():
    ours = frame(("original", *ROBUST, 94.0, 0))
    assert "recipe" not in words.badge(ours)
    ours["recipe"] = "weight-decay-.002"
    assert "recipe weight-decay-.002" in words.badge(ours)


def test_interval_is_wilsons():
    # Newcombe (1998), Table I: 81 of 263 gives .2553 to .3662.
    low, high = intervals.interval(100 * 81 / 263, 263)
    assert low == pytest.approx(25.53, abs=0.01)
    assert high == pytest.approx(36.62, abs=0.01)


@pytest.mark.parametrize(("absent", "status"), [(0, "failed"), (10_000, "stale")])
def test_a_seed_without_a_value_counts_neither_as_a_seed_nor_with_its_images(absent, status):
    rows = frame(*(("original", *ROBUST, value, seed) for seed, value in enumerate((None, 94.0, 92.0))))
    rows["n"], rows["status"] = [absent, 1000, 500], [status, "recorded", "recorded"]
    row = values.over_seeds(rows, *ROBUST).loc["original"]
    assert (row["seeds"], row["n"], row["mean"]) == (2, 500, 93.0)
    assert values.span(row) == pytest.approx(intervals.interval(93.0, 500))
    none = values.over_seeds(rows[:1], *ROBUST)
    assert values.our_number(none, "original").status == status


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
    assert words.transform_label(name) == label


@pytest.mark.parametrize(("eps", "label"), [(8 / 255, "8/255"), (0.1, "0.1"), (0.3, "0.3"), (0.5, "0.5"), (0.09, "0.09")])
def test_budget_labels(eps, label):
    assert words.budget_label(eps) == label


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
    (ax,) = pictures.histogram_figure(bins).axes
    assert ax.get_yscale() == "log"
    assert list(ax.patches[0].get_data().values) == [7, 3]


def test_plate_shows_every_picture():
    plate = {name: np.full((2, 4, 4, 3), 0.5) for name in ("original", "saturate-4")}
    figure = pictures.picture_plate((plate, "a source"))
    assert sum(len(ax.images) for ax in figure.axes) == 4
    assert figure.get_supxlabel() == "a source"


def test_a_plate_by_row_has_a_row_a_transform():
    plate = {name: np.full((5, 4, 4, 1), 0.5) for name in ("original", "edges")}
    figure = pictures.picture_plate((plate, "a source"), by_row=True)
    assert sum(len(ax.images) for ax in figure.axes) == 10
    assert [ax.get_title(loc="left") for ax in figure.axes[::5]] == ["original", "edges"]
    assert figure.get_figwidth() > figure.get_figheight()


def test_downloads_hold_the_table_and_the_records():
    ours = along("widen_factor", ("original", *ROBUST, 94.0, "test", 0.25))
    tables = sec5.capacity_tables(ours, TABLE_4)
    text = words.downloads("table-4", tables, ours)
    downloads = re.findall(r'download="([^"]+)" href="data:text/csv;charset=utf-8;base64,([^"]+)"', text)
    names, files = zip(*downloads, strict=True)
    assert names == ("table-4.csv", "table-4-records.csv")
    table, records = (pd.read_csv(io.BytesIO(base64.b64decode(file)), keep_default_na=False) for file in files)
    assert len(table) == 3 * 18
    assert list(table.columns[:3]) == ["quantity", "variant", "images"]
    assert list(records.columns) == list(results.COLUMNS)
    assert list(records["value"]) == [94.0]
    assert "table-2.csv" in words.downloads("table-2", tables["robust"], ours)


def test_every_exhibit_has_its_place():
    """What the grid computes is read by an exhibit, and every exhibit is named on a page."""
    assert {*grid.exhibits()} <= {name for each in EXHIBITS.values() for name in each.records()}
    pages = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"[\w.-]+", page.read_text(encoding="utf-8"))}
    assert {*EXHIBITS} <= named
