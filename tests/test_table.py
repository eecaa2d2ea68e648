"""Tables: how a column writes its values, and that no table drops a variant that the paper lacks."""

import io

import matplotlib as mpl
import pandas as pd
import pytest
from frames import CLEAN, PAPER, ROBUST, TABLE_1, TABLE_4, TABLE_6, TABLE_7, TRAINED, UNBOXED, along, frame, measured

from lib.report.sections import appB, appD1, appD2, length, sec3, sec4, sec5, speed, strength
from lib.report.table import Column, Number, Strong, Table, as_csv
from lib.store import results

NAN = float("nan")


@pytest.mark.parametrize(
    ("column", "cell", "text"),
    [
        (Column("a", ".1f"), 12.34, "12.3"),
        (Column("a", ".1f"), -0.04, "0.0"),
        (Column("a", "+.1f"), -0.04, "+0.0"),
        (Column("a", ".1f", delta=True), Number(95.0, 94.0, 96.0, 1.0, 95.04), "95.0 ± 1.0 (+0.0)"),
        (Column("a", ".1f"), NAN, "–"),
        (Column("a", ".1f", absent="n/a"), NAN, "n/a"),
        (Column("a", ".1f"), Number(status="stale"), "stale"),
        (Column("a", ".1f"), Number(status="failed"), "**failed**"),
        (Column("a", ".1f"), Number(95.0, 94.0, 96.0, 1.0, 96.5), "95.0 ± 1.0"),
        (Column("a", ".1f", delta=True), Number(95.0, 94.0, 96.0, 1.0, 96.5), "95.0 ± 1.0 (-1.5)"),
        (Column("a", ".1f", delta=True), Number(95.0), "95.0"),
        (Column("a", ".1f", interval=True), Number(95.0, 94.04, 96.0), "95.0 [94.0, 96.0]"),
        (Column("a", ".1f"), Number(0.97, form=".3f"), "0.970"),
        (Column("a", ","), 1234, "1,234"),
        (Column("a", ".1f", "%"), 5.0, "5.0%"),
        (Column("a"), "words", "words"),
        (Column("a", ".1f"), None, ""),
        (Column("a"), Strong("bold"), "**bold**"),
        (Column("a", write=lambda both: "/".join(both)), ("1", "2"), "1/2"),
    ],
)
def test_a_column_writes_its_values(column, cell, text):
    assert column.text(cell) == text


def test_words_stand_to_the_left_and_numbers_to_the_right_whatever_they_read():
    table = Table([Column("variant"), Column("ours", ".1f", delta=True)], [("smooth 3", Number(status="stale")), ("12", 1.0)])
    assert table.markdown().splitlines()[:2] == ["| variant   |   ours (Δ) |", "|:----------|-----------:|"]
    assert table["variant"] == ["smooth 3", "12"]
    with pytest.raises(ValueError, match="a row needs 2 cells, given 1"):
        Table(table.columns, [("alone",)])


def test_a_table_without_rows_says_so():
    assert Table([Column("a"), Column("b", "d")], []).text.to_numpy().tolist() == [["–", "–"]]


def test_a_csv_file_holds_the_values():
    ours = frame(("original", *ROBUST, 94.04, 0), ("original", *ROBUST, 96.04, 1), ("binarize", *ROBUST, None, 0))
    read = pd.read_csv(io.StringIO(as_csv(sec3.robustness_table(ours, PAPER).values()))).set_index("variant")
    assert read.loc["original", "robust: ours"] == pytest.approx(95.04)
    assert read.loc["original", "robust: ours, half"] == pytest.approx(1.0)
    assert read.loc["original", "robust: ours, low"] < 95.04 < read.loc["original", "robust: ours, high"]
    assert read.loc["original", "robust: paper"] == 95.1
    assert read.loc["binarized", "robust: ours, status"] == "stale"


NEW = "posterize-4"  # the paper has no such transform


def rows(*quantities) -> tuple:
    """A number of each quantity, of a variant that the paper has and of one that it lacks."""
    return tuple((name, *quantity, value, 0) for quantity in quantities for name, value in (("original", 90.0), (NEW, 77.7)))


def pair(metric: str) -> pd.DataFrame:
    return measured(metric, {"original": 7.3, NEW: 77.7})


def of(exhibit: str, *quantities) -> pd.DataFrame:
    return frame(*rows(*quantities), exhibit=exhibit)


def with_attrs(shown: pd.DataFrame, exhibit: str) -> pd.DataFrame:
    shown.attrs = {**shown.attrs, "exhibit": exhibit}
    return shown


STRENGTH = pd.DataFrame(
    [
        {"transform": name, "seed": 0, "metric": f"robust_accuracy_{attack}", "image": 0, "held": True, "record": None}
        for name in ("original", NEW)
        for attack in ("reference", "fgsm")
    ]
)
STRENGTH.attrs = {**frame().attrs, "exhibit": "strength-mnist"}
CURVE = frame(*rows(("pgd", "robust_accuracy_eps_0.3")), exhibit="curve-mnist")
WORST = ("pgd", "robust_accuracy_worst_case")
CERTIFIED = ("lp", "certified_error")
TABLES = {
    "tables 2 and 3": lambda: sec3.robustness_table(frame(*rows(ROBUST)), PAPER),
    "tables 4 and 5": lambda: sec5.capacity_tables(
        along("widen_factor", ("original", *ROBUST, 90.0, "test", 0.25), (NEW, *ROBUST, 77.7, "test", 0.25)), TABLE_4
    )["robust"],
    "table 1": lambda: sec5.equal_distance_table(pair("inter_class_distance"), of("table-1", ROBUST), TABLE_1),
    "table 6": lambda: appD1.perturbable_volume_table({"mnist": pair("log2_perturbable_volume")}, TABLE_6),
    "table 7": lambda: appD1.unboxed_table({"mnist": of("table-7-mnist", ROBUST, UNBOXED)}, TABLE_7),
    "figure 3a": lambda: sec4.variants_table(of("figure-3a", ROBUST)),
    "figure 3b": lambda: sec4.fashion_table(of("figure-3b", ROBUST), results.published("figure-3b")),
    "linf": lambda: appD2.linf_table([with_attrs(pair("linf_distance_median"), "linf-mnist")]),
    "ranges": lambda: sec3.sensitivity_table({"MNIST": (frame(*rows(ROBUST)), PAPER, TABLE_4)}),
    "strength": lambda: strength.strength_table(STRENGTH),
    "masking": lambda: strength.masking_table(STRENGTH, CURVE),
    "curve": lambda: strength.curve_table(CURVE),
    "worst case": lambda: speed.worst_case_table({"MNIST": of("worst-case-mnist", ROBUST, WORST)}),
    "precision": lambda: speed.precision_table(frame(*rows(ROBUST))),
    "certified": lambda: appB.certified_table(of("section-2.2", CERTIFIED), results.published("section-2.2")),
    "ramp": lambda: appB.ramp_table(of("exact-certificate", ("standard", "robust_accuracy_ramp_pgd"))),
    "length": lambda: length.length_table(of("under-training", ROBUST), of("published-settings", ROBUST), TABLE_4),
    "levels": lambda: length.levels_table(of("under-training-cifar10", ROBUST), results.published("table-5")),
}


@pytest.mark.parametrize("name", TABLES)
def test_no_table_drops_a_variant_that_the_paper_lacks(name):
    table = TABLES[name]()
    assert "posterize 4" in table.text.to_csv()


FIGURES = {
    "figures 2 and 3a": lambda: sec3.robustness_figure(frame(*rows(ROBUST)), PAPER, xlabel="x"),
    "without the paper": lambda: sec3.robustness_figure(of("figure-3a", ROBUST), None, xlabel="x"),
    "figure 3b": lambda: sec4.fashion_figure(of("figure-3b", CLEAN, TRAINED, ROBUST), results.published("figure-3b")),
    "figure 4": lambda: sec5.growth_figure(
        along(
            "widen_factor", *(("original", *ROBUST, 90.0, "test", w) for w in (0.25, 0.5)), (NEW, *ROBUST, 77.7, "test", 0.25)
        ),
        TABLE_4,
        axis="widen_factor",
        xlabel="w",
    ),
    "figure 5": lambda: appD2.distance_bars([with_attrs(pair("inter_class_distance"), "figure-5-mnist")]),
    "boxes": lambda: sec5.volume_figure(
        pair("log2_perturbable_volume"), of("table-7-mnist", ROBUST), TABLE_6, TABLE_7, dataset="mnist"
    ),
    "curve": lambda: strength.curve_figure(CURVE),
    "length": lambda: length.length_figure(of("under-training", ROBUST), of("published-settings", ROBUST), TABLE_4),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_drops_a_variant_that_the_paper_lacks(name):
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        FIGURES[name]().savefig(file, format="svg")
    assert "posterize 4" in file.getvalue()


def test_a_level_of_a_known_transform_is_no_exception():
    ours = frame(("saturate-32", *ROBUST, 60.0, 0), exhibit="table-3")
    table = sec3.robustness_table(ours, results.published("table-3")).text.set_index("variant")
    assert list(table.loc["saturate 32", ["robust: paper", "robust: ours (Δ)"]]) == ["n/a", "60.0"]
