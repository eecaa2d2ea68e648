"""What every table is made of: names as a reader reads them, values by transform, cells; and the words around exhibits."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns

from lib import grid, schema
from lib.exhibits.table import NOT_IN_PAPER, Column, Number, Table, as_csv
from lib.intervals import Estimate, estimate, interval, spread_of
from lib.store import grid, schema

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


def transform_label(name: str) -> str:
    """A transform's name as a reader reads it: `smooth-square-3` → "smooth 3 (square)", `saturate-inf` → "saturate ∞"."""
    words = {"binarize": "binarized", "original": "original", "edges": "edges"}
    if found := re.fullmatch(r"smooth-square-(\d+)", name):
        return f"smooth {found[1]} (square)"
    if found := re.fullmatch(r"(?:(.+)\+)?rescale-to-(.+)", name):
        return f"{transform_label(found[1] or 'original')}, scaled to {transform_label(found[2])}"
    return words.get(name, name.replace("-inf", "-∞").replace("-", " "))


def set_name(dataset: str) -> str:
    """A data set's name as a reader reads it."""
    return grid.SET_NAMES[dataset]


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
    """Values, their mean, lowest and highest over seeds, n, status and spread of trainings, by transform.

    The status is read where no value is: `failed` or `stale`.

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
            # How far trainings of this quantity lie apart, where that is known.
            "spread": [spread_of(ours.attrs.get("spreads", {}), training, metric, split)] * grouped.ngroups,
        }
    )


def paper_values(
    paper: pd.DataFrame, training: str, metric: str, split: str = "test", by: str | list[str] = "transform"
) -> pd.Series:
    """The paper's values of one quantity, by transform, or by several columns; on test images where nothing else is said."""
    rows = paper[(paper["training"] == training) & (paper["metric"] == metric) & (paper["split"] == split)]
    return rows.set_index(by)["value"]


def listed(*frames: pd.DataFrame) -> list[str]:
    """The transforms of all: those of the first in its order, then what each of the others has besides.

    Of ours these are the transforms that its exhibit declares, whether recorded or not, and those that are recorded.
    """
    names: list[str] = []
    for frame in frames:
        names += _declared(frame.attrs["exhibit"]) if "exhibit" in frame.attrs else []
        names += list(frame["transform"])
    return list(dict.fromkeys(names))


def _declared(exhibit: str) -> list[str]:
    names = grid.exhibit(exhibit)["transform"]
    return [names] if isinstance(names, str) else names


def measured_values(measured: pd.DataFrame, metric: str) -> pd.Series:
    """What was measured of each transform; NaN where the measurement is stale."""
    return measured[measured["metric"] == metric].set_index("transform")["value"]


def share_intervals(rows: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    """Wilson's 95% intervals, in percent, of the counts in `column` out of `n`."""
    return [interval(100 * count / n, int(n)) for count, n in zip(rows[column], rows["n"], strict=True)]


def row_estimate(row: pd.Series) -> Estimate:
    """A row of `over_seeds` as a number with its 95% interval, of images and trainings."""
    return estimate(row["values"], int(row["n"]), row["spread"])


def span(row: pd.Series) -> tuple[float, float]:
    """The ends of the error bar of a row of `over_seeds`: its 95% interval, of images and trainings."""
    found = row_estimate(row)
    return found.low, found.high


def extent(values: pd.Series) -> float:
    """How far values lie apart: the largest minus the smallest."""
    return values.max() - values.min()


def out_of_the_box(boxed: pd.Series, unboxed: pd.Series) -> pd.Series:
    """What leaving the box changes, by transform, where both are there."""
    return (unboxed - boxed).dropna()


def percent(value: float) -> str:
    """A probability in percent, never rounded up to 100; "≤0" for a lower bound that says nothing."""
    if value <= 0:
        return "≤0"
    return f"{100 * value:.2f}" if value <= 0.9999 else ">99.99"


def from_to(changes: pd.Series) -> str:
    """The least and the largest of some changes, in points; one where they are written alike."""
    ends = dict.fromkeys(f"{value:+.1f}" for value in (changes.min(), changes.max()))
    return " to ".join(ends)


def words(text: object) -> str:
    """The text of a record as Markdown that shows it as it stands, in one line.

    Whatever Markdown or HTML could take for more than a letter is written as its numeric entity.
    """
    line = schema.one_line(" ".join(str(text).split()))
    shown = re.sub(r"[^\w\s.,:;/()@+%='×∞±·–—-]|_", lambda found: f"&#{ord(found[0])};", line)
    return shown if shown[:1].isalnum() or not line[:1] or shown[0] == "&" else f"&#{ord(shown[0])};{shown[1:]}"


def code(text: object) -> str:
    """As `words`, in the type of code where it is a plain name, such as a commit."""
    return f"`{text}`" if re.fullmatch(r"[\w.+-]+", str(text)) else words(text)


def plain(markdown: str) -> str:
    """What a reader reads of `badge` and `words`: for figures, where there is no Markdown, and no formula either."""
    return html.unescape(markdown.replace("`", ""))


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
    parts = [f"scale {ours.attrs['scale']}", *map(words, sorted(set(ours["source"])))]
    if ours["model"].any():
        parts += [f"{model} w={width:g}" for model, width in sorted(set(zip(ours["model"], ours["widen_factor"], strict=True)))]
        parts += [f"recipe {recipe}" for recipe in sorted(set(ours["recipe"])) if recipe != "default"]
        seeds = sorted(set(ours["seed"]))
        parts += [f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}", f"{of} runs computed"]
    else:
        parts.append(f"{of} computed")
    parts += map(words, sorted(set(ours["device"])))
    parts += [f"some records are {state}" for state in ("stale", "failed") if (ours["status"] == state).any()]
    if "commit" in ours and any(map(_is_dirty, ours["commit"])):
        parts.append("some records are of code with uncommitted changes")
    return " · ".join(parts)


def _is_dirty(commit: object) -> bool:
    return str(commit).endswith("-dirty")  # of a cell without a record the commit is missing


def stamp(frames: Sequence[pd.DataFrame]) -> str:
    """The line at the end of a page: scale, data, device, commit and date of the records behind it."""
    rows = pd.concat([frame[["scale", "source", "device", "commit", "date"]] for frame in frames])
    if rows.empty:
        return "No record is behind this page yet."
    commits = ", ".join(map(code, sorted(set(rows["commit"]))))
    dates = sorted({words(date[:10]) for date in rows["date"]})
    scales, sources, devices = ("; ".join(map(words, sorted(set(rows[name])))) for name in ("scale", "source", "device"))
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    dirty = (
        " -dirty: of that commit's code with changes that were not committed." if any(map(_is_dirty, rows["commit"])) else ""
    )
    said = f"Records behind this page: scale {scales}. Data: {sources}. Device: {devices}. Commit {commits}."
    return f"{said}{dirty} Computed {days}."


def downloads(name: str, tables: Table | Mapping[str, Table], ours: pd.DataFrame) -> str:
    """Links to `name`.csv, the values that the table shows, and `name`-records.csv, the records behind it, one row a number.

    The links hold the files themselves: they work without a network, a server or JavaScript.
    """
    if isinstance(tables, Table):
        values = tables.values()
    else:
        each = {heading: table.values() for heading, table in tables.items()}
        values = pd.concat(each, names=["quantity"]).reset_index("quantity")
    return (
        f"Download: {_csv(f'{name}.csv', values)} (the table) · "
        f"{_csv(f'{name}-records.csv', ours)} (the records behind it, one row a number)"
    )


def _csv(file: str, rows: pd.DataFrame) -> str:
    content = base64.b64encode(as_csv(rows).encode()).decode()
    return f'<a download="{file}" href="data:text/csv;charset=utf-8;base64,{content}">{file}</a>'


def our_number(found: pd.DataFrame, key: str | tuple, theirs: float = np.nan) -> Number:
    """Ours at `key` of `over_seeds`, with its 95% interval, half the range over several seeds, and `theirs` beside it."""
    if key not in found.index:
        return Number()
    row = found.loc[key]
    if not row["seeds"]:
        return Number(status=row["status"])
    about = row_estimate(row)
    half = (row["high"] - row["low"]) / 2 if row["seeds"] > 1 else np.nan
    return Number(float(row["mean"]), about.low, about.high, half, float(theirs))


def accuracy(heading: str, **how) -> Column:
    """A column of ours: a percentage, and Δ in brackets."""
    return Column(heading, ".1f", **{"delta": True, **how})


def printed(heading: str) -> Column:
    """A column of the paper's percentages or points, as it prints them; "n/a" where it prints none."""
    return Column(heading, ".1f", absent=NOT_IN_PAPER)
