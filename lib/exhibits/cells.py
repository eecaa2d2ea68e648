"""What every table is made of: names as a reader reads them, values by transform, cells; and the words around exhibits."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns

from lib import grid
from lib.intervals import interval

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
MISSING = "–"
NOT_IN_PAPER = "n/a"


def transform_label(name: str) -> str:
    """A transform's name as a reader reads it: `smooth-square-3` → "smooth 3 (square)", `saturate-inf` → "saturate ∞"."""
    words = {"binarize": "binarized", "original": "original", "edges": "edges"}
    if found := re.fullmatch(r"smooth-square-(\d+)", name):
        return f"smooth {found[1]} (square)"
    if found := re.fullmatch(r"(?:(.+)\+)?rescale-to-(.+)", name):
        return f"{transform_label(found[1] or 'original')}, scaled to {transform_label(found[2])}"
    return words.get(name, name.replace("-inf", "-∞").replace("-", " "))


_SETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR10", "cifar10-jpeg": "CIFAR10 (JPEG)"}


def set_name(dataset: str) -> str:
    """A data set's name as a reader reads it."""
    return _SETS[dataset]


def budget_label(eps: float) -> str:
    """A budget as the paper writes it: 8/255, 0.3."""
    whole = round(255 * eps)
    return f"{whole}/255" if abs(255 * eps - whole) < 1e-9 and len(f"{eps:g}") > 5 else f"{eps:g}"


def paper_eps(dataset: str) -> float:
    """The paper's budget on a data set."""
    return grid.settings(grid.Measurement("log2_perturbable_volume", dataset, "original", "paper"))["eps"]


def over_seeds(
    ours: pd.DataFrame, training: str, metric: str, split: str = "test", by: str | list[str] = "transform"
) -> pd.DataFrame:
    """Values, their mean, lowest and highest over seeds, n and status, by transform: `failed` or `stale` where no value is.

    `by`: the columns to tell runs apart by, where more than the transform varies.
    """
    rows = ours[(ours["training"] == training) & (ours["metric"] == metric) & (ours["split"] == split)]
    grouped = rows.groupby(by)
    return pd.DataFrame(
        {
            "values": grouped["value"].agg(lambda values: values.dropna().tolist()),
            "mean": grouped["value"].mean(),
            "low": grouped["value"].min(),
            "high": grouped["value"].max(),
            "seeds": grouped["value"].count(),
            "n": grouped["n"].first(),
            "status": grouped["status"].min(),  # failed < recorded < stale; read where there is no value
        }
    )


def paper_values(
    paper: pd.DataFrame, training: str, metric: str, split: str = "test", by: str | list[str] = "transform"
) -> pd.Series:
    """The paper's values of one quantity, by transform, or by several columns; on test images where nothing else is said."""
    rows = paper[(paper["training"] == training) & (paper["metric"] == metric) & (paper["split"] == split)]
    return rows.set_index(by)["value"]


def listed(paper: pd.DataFrame, ours: pd.DataFrame) -> list[str]:
    """The transforms of both: the paper's in its order, then those of ours that it lacks."""
    return list(dict.fromkeys([*paper["transform"], *ours["transform"]]))


def measured_values(measured: pd.DataFrame, metric: str) -> pd.Series:
    """What was measured of each transform; NaN where the measurement is stale."""
    return measured[measured["metric"] == metric].set_index("transform")["value"]


def share_intervals(rows: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    """Wilson's 95% intervals, in percent, of the counts in `column` out of `n`."""
    return [interval(100 * count / n, int(n)) for count, n in zip(rows[column], rows["n"], strict=True)]


def span(row: pd.Series) -> tuple[float, float]:
    """The ends of the error bar of a row of `over_seeds`: the range over several seeds, else Wilson's interval."""
    return (row["low"], row["high"]) if row["seeds"] > 1 else interval(row["mean"], int(row["n"]))


def extent(values: pd.Series) -> float:
    """How far values lie apart: the largest minus the smallest."""
    return values.max() - values.min()


def out_of_the_box(boxed: pd.Series, unboxed: pd.Series) -> pd.Series:
    """What leaving the box changes, by transform, where both are there."""
    return (unboxed - boxed).dropna()


def cell(found: pd.DataFrame, key: str | tuple, shown: Callable[[pd.Series], str]) -> str:
    """`shown` of the row of `over_seeds` at `key`; its status where it has no value, "–" where there is no row."""
    if key not in found.index:
        return MISSING
    row = found.loc[key]
    return shown(row) if row["seeds"] else row["status"]


def our_cell(found: pd.DataFrame, key: str | tuple, theirs: float = np.nan, digits: int = 1) -> str:
    """Ours at `key` of `over_seeds`: the mean, ± half the range over several seeds, and in brackets Δ, ours minus theirs."""

    def shown(row: pd.Series) -> str:
        spread = f" ± {(row['high'] - row['low']) / 2:.{digits}f}" if row["seeds"] > 1 else ""
        difference = f" ({row['mean'] - theirs:+.{digits}f})" if np.isfinite(theirs) else ""
        return f"{row['mean']:.{digits}f}{spread}{difference}"

    return cell(found, key, shown)


def paper_cell(value: float) -> str:
    """The paper's percentage or points, as it prints them; "n/a" where it prints none."""
    return f"{value:.1f}" if np.isfinite(value) else NOT_IN_PAPER


def number(value: float, pattern: str) -> str:
    """`value` by the pattern; "–" where there is none."""
    return pattern.format(value) if np.isfinite(value) else MISSING


def percent(value: float) -> str:
    """A probability in percent, never rounded up to 100; "≤0" for a lower bound that says nothing."""
    if value <= 0:
        return "≤0"
    return f"{100 * value:.2f}" if value <= 0.9999 else ">99.99"


def from_to(changes: pd.Series) -> str:
    """The least and the largest of some changes, in points; one where they are written alike."""
    ends = dict.fromkeys(f"{value:+.1f}" for value in (changes.min(), changes.max()))
    return " to ".join(ends)


def to_compute(ours: pd.DataFrame) -> str:
    """How to compute what is missing, the end of a sentence."""
    return f"compute it with `{ours.attrs['command']}`."


def badge(ours: pd.DataFrame) -> str:
    """What an exhibit's numbers are: scale, data source, model, seeds, device and how much of it is computed.

    Without any record it says so, and names the command that computes them.
    """
    of = f"{ours.attrs['complete']} of {ours.attrs['expected']}"
    if ours.empty:
        return f"not computed yet; compute it with: `{ours.attrs['command']}`"
    parts = [f"scale {ours.attrs['scale']}", *sorted(set(ours["source"]))]
    if ours["model"].any():
        parts += [f"{model} w={width:g}" for model, width in sorted(set(zip(ours["model"], ours["widen_factor"], strict=True)))]
        parts += [f"recipe {recipe}" for recipe in sorted(set(ours["recipe"])) if recipe != "default"]
        seeds = sorted(set(ours["seed"]))
        parts += [f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}", f"{of} runs computed"]
    else:
        parts.append(f"{of} computed")
    parts += sorted(set(ours["device"]))
    parts += [f"some records are {state}" for state in ("stale", "failed") if (ours["status"] == state).any()]
    return " · ".join(parts)


def stamp(frames: Sequence[pd.DataFrame]) -> str:
    """The line at the end of a page: scale, data, device, commit and date of the records behind it."""
    rows = pd.concat([frame[["scale", "source", "device", "commit", "date"]] for frame in frames])
    if rows.empty:
        return "No record is behind this page yet."
    commits = ", ".join(f"`{commit}`" for commit in sorted(set(rows["commit"])))
    dates = sorted({date[:10] for date in rows["date"]})
    scales, sources, devices = ("; ".join(sorted(set(rows[name]))) for name in ("scale", "source", "device"))
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"Records behind this page: scale {scales}. Data: {sources}. Device: {devices}. Commit {commits}. Computed {days}."


def downloads(name: str, tables: pd.DataFrame | Mapping[str, pd.DataFrame], ours: pd.DataFrame) -> str:
    """Links to `name`.csv, what the table shows, and `name`-records.csv, the records behind it, one row a number.

    The links hold the files themselves: they work without a network, a server or JavaScript.
    """
    if not isinstance(tables, pd.DataFrame):
        tables = pd.concat(dict(tables), names=["quantity"]).reset_index("quantity")
    return (
        f"Download: {_csv(f'{name}.csv', tables)} (the table) · "
        f"{_csv(f'{name}-records.csv', ours)} (the records behind it, one row a number)"
    )


def _csv(file: str, rows: pd.DataFrame) -> str:
    content = base64.b64encode(rows.to_csv(index=False).encode()).decode()
    return f'<a download="{file}" href="data:text/csv;charset=utf-8;base64,{content}">{file}</a>'
