"""Picks the numbers for tables, figures and sentences out of frames: our values and the paper's, by transform."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import seaborn as sns

from lib.report.table import NOT_IN_PAPER, Column, Number
from lib.store import grid, plans, results
from lib.store.intervals import Estimate, estimate, interval, spread_of

PALETTE = sns.color_palette("colorblind")
# (training, metric): label, heading in tables, and colour of the four columns of Tables 2 and 3.
QUANTITIES = {
    ("standard", "clean_accuracy"): ("clean accuracy, standard training", "clean, standard", PALETTE[7]),
    ("pgd", "clean_accuracy"): ("clean accuracy, PGD training", "clean, PGD", PALETTE[0]),
    ("pgd", "robust_accuracy"): ("robust accuracy, PGD training", "robust", PALETTE[3]),
    ("pgd", "robustness_wrt_predictions"): ("robustness w.r.t. predictions, PGD training", "w.r.t. pred.", PALETTE[2]),
}


# The three blocks of Tables 4 and 5, and the three columns of Figure 4.
ACCURACIES = list(QUANTITIES)[:3]


BOXED, UNBOXED = ("pgd", "robust_accuracy"), ("pgd", "robust_accuracy_unboxed")


def paper_eps(dataset: str) -> float:
    """The paper's budget on a data set."""
    return plans.of(grid.Measurement("log2_perturbable_volume", dataset, "original", "paper")).settings["eps"]


def over_seeds(
    ours: pd.DataFrame, training: str, metric: str, split: str = "test", by: str | list[str] = "transform"
) -> pd.DataFrame:
    """Values, their mean, lowest and highest over seeds, n, status, records and spread of trainings, by transform.

    `seeds` is the number of seeds that have a value, `n` the least number of images of these. The status is read where no
    value is: `failed` or `stale`.

    `by`: the columns to tell runs apart by, where more than the transform varies.
    """
    rows = ours[(ours["training"] == training) & (ours["metric"] == metric) & (ours["split"] == split)]
    rows = rows.assign(n=rows["n"].where(rows["value"].notna()))  # a failed training has n = 0
    grouped, spreads = rows.groupby(by), ours.attrs.get("spreads", {})
    return pd.DataFrame(
        {
            "values": grouped["value"].agg(lambda values: values.dropna().tolist()),
            "mean": grouped["value"].mean(),
            "low": grouped["value"].min(),
            "high": grouped["value"].max(),
            "seeds": grouped["value"].count(),
            "n": grouped["n"].min(),
            "status": grouped["status"].min(),  # failed < recorded < stale; read where there is no value
            "records": [tuple(results.records_of(group)) for _, group in grouped],
            # How far trainings of this quantity differ, where that is known.
            "spread": [spread_of(spreads, group["model"].iloc[0], training, metric, split) for _, group in grouped],
        }
    )


def paper_values(
    paper: pd.DataFrame, training: str, metric: str, split: str = "test", by: str | list[str] = "transform"
) -> pd.Series:
    """The paper's values of one quantity, by transform, or by several columns; on test images where nothing else is said."""
    rows = paper[(paper["training"] == training) & (paper["metric"] == metric) & (paper["split"] == split)]
    return rows.set_index(by)["value"]


def transforms_of(*frames: pd.DataFrame) -> list[str]:
    """The transforms of all: those of the first in its order, then what each of the others has besides.

    Of ours these are the transforms that its exhibit declares, whether recorded or not, and those that are recorded.
    """
    names: list[str] = []
    for frame in frames:
        names += _declared_transforms(frame.attrs["exhibit"]) if "exhibit" in frame.attrs else []
        names += list(frame["transform"])
    return list(dict.fromkeys(names))


def _declared_transforms(exhibit: str) -> list[str]:
    names = grid.exhibit(exhibit)["transform"]
    return [names] if isinstance(names, str) else names


def width_of(ours: pd.DataFrame) -> float:
    """The width of an exhibit of one width: that of its records, or, before there are any, that of the grid at its scale."""
    widths = {*ours["widen_factor"].dropna()}
    (width,) = widths or {run.widen_factor for run in grid.runs(ours.attrs["exhibit"], ours.attrs["scale"])}
    return width


def at_our_width(ours: pd.DataFrame, widths: pd.DataFrame, quantity: tuple[str, str]) -> pd.Series:
    """The paper's values by transform in its table of `widths` (4 or 5), of the width that ours has."""
    return paper_values(widths[widths["widen_factor"] == width_of(ours)], *quantity)


def measured_values(measured: pd.DataFrame, metric: str) -> pd.Series:
    """The measured value of each transform; NaN where the measurement is stale."""
    return measured[measured["metric"] == metric].set_index("transform")["value"]


def measured_numbers(measured: pd.DataFrame, metric: str) -> dict[str, Number]:
    """As `measured_values`, with the records that they are of."""
    rows = measured[(measured["metric"] == metric) & measured["value"].notna()]
    groups = rows.groupby("transform", sort=False)
    return {name: Number(float(group["value"].iloc[0]), records=tuple(results.records_of(group))) for name, group in groups}


def share_intervals(rows: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    """Wilson's 95% intervals, in percent, of the counts in `column` out of `n`."""
    return [interval(100 * count / n, int(n)) for count, n in zip(rows[column], rows["n"], strict=True)]


def row_estimate(row: pd.Series) -> Estimate:
    """A row of `over_seeds` as a number with its 95% interval, of images and trainings."""
    return estimate(row["values"], int(row["n"]), row["spread"])


def span(row: pd.Series) -> tuple[float, float]:
    """The ends of the error bar of a row of `over_seeds`: its 95% interval, of images and trainings."""
    with_interval = row_estimate(row)
    return with_interval.low, with_interval.high


def extent(values: pd.Series) -> float:
    """The range of values: the largest minus the smallest."""
    return values.max() - values.min()


def square_variant(name: str) -> str:
    """The variant of a square filter of the same size."""
    return name.replace("smooth-", "smooth-square-")


def both_footprints(names: Iterable[str], ours: Mapping | pd.Series, theirs: Mapping | pd.Series) -> pd.DataFrame:
    """By variant of a column filter: robust accuracies `paper`, `column` and `square`; NaN for what is not there."""
    rows = {
        name: [side.get(each, np.nan) for side, each in ((theirs, name), (ours, name), (ours, square_variant(name)))]
        for name in names
        if "square" not in name
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["paper", "column", "square"], dtype=float)


def unboxed_changes(ours: pd.DataFrame, paper: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The changes of robust accuracy when the attack may leave the box, by transform: ours, and the paper's on these variants.

    `paper`: its rows of the data set. It may lack some of our variants.
    """
    boxed, unboxed = (over_seeds(ours, *quantity)["mean"] for quantity in (BOXED, UNBOXED))
    change = (unboxed - boxed).dropna()
    theirs = paper_values(paper, *UNBOXED) - paper_values(paper, *BOXED)
    return change, theirs.reindex(change.index).dropna()


def our_number(estimates: pd.DataFrame, key: str | tuple, paper: float = np.nan) -> Number:
    """Ours at `key` of `over_seeds`, with its 95% interval, half the range over several seeds, and `paper` beside it."""
    if key not in estimates.index:
        return Number()
    row = estimates.loc[key]
    if not row["seeds"]:
        return Number(status=row["status"])
    with_interval = row_estimate(row)
    half_range = (row["high"] - row["low"]) / 2 if row["seeds"] > 1 else np.nan
    return Number(float(row["mean"]), with_interval.low, with_interval.high, half_range, float(paper), records=row["records"])


def our_column(heading: str, **options) -> Column:
    """A column of ours: a percentage, and Δ in brackets."""
    return Column(heading, ".1f", **{"delta": True, **options})


def paper_column(heading: str) -> Column:
    """A column of the paper's percentages or points, as it prints them; "n/a" where it prints none."""
    return Column(heading, ".1f", absent=NOT_IN_PAPER)
