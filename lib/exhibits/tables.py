"""Tables, and the words around exhibits: badges, stamps and what we see. Tidy frames in, a frame of text out."""

import base64
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from scipy.stats import binomtest, rankdata, spearmanr, t, wasserstein_distance

from lib import cost, geometry, grid, models, theory
from lib.results import interval

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


def _to_compute(ours: pd.DataFrame) -> str:
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
    span = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"Records behind this page: scale {scales}. Data: {sources}. Device: {devices}. Commit {commits}. Computed {span}."


def seen(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """One sentence on what the records show of the paper's claim: the movement of clean against robust accuracy."""
    clean, robust = (over_seeds(ours, *quantity) for quantity in (("standard", "clean_accuracy"), ("pgd", "robust_accuracy")))
    both = [name for name in paper["transform"].unique() if name in clean.index and name in robust.index]
    both = [name for name in both if clean.loc[name, "seeds"] > 0 and robust.loc[name, "seeds"] > 0]
    if len(both) < 2:
        return f"Not computed yet: at least two variants are needed, {len(both)} are there; {_to_compute(ours)}"
    steady, moved = clean.loc[both, "mean"], robust.loc[both, "mean"]
    theirs = paper_values(paper, "pgd", "robust_accuracy")[both]
    return (
        f"Over {' and '.join(map(transform_label, both)) if len(both) == 2 else f'the {len(both)} variants computed'} "
        f"(scale {ours.attrs['scale']}), robust accuracy runs from {moved.min():.1f}% ({transform_label(moved.idxmin())}) to "
        f"{moved.max():.1f}% ({transform_label(moved.idxmax())}), a range of **{moved.max() - moved.min():.1f} points**; the "
        f"paper's, over the same variants, is {theirs.max() - theirs.min():.1f}. The clean accuracy of standard training moves "
        f"by **{steady.max() - steady.min():.1f} points**."
    )


def over_seeds(
    ours: pd.DataFrame, training: str, metric: str, split: str = "test", by: str | list[str] = "transform"
) -> pd.DataFrame:
    """Mean, lowest and highest value over seeds, n and status, by transform: `failed` or `stale` where no value is.

    `by`: the columns to tell runs apart by, where more than the transform varies.
    """
    rows = ours[(ours["training"] == training) & (ours["metric"] == metric) & (ours["split"] == split)]
    grouped = rows.groupby(by)
    return pd.DataFrame(
        {
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


def robustness_table(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Tables 2 and 3: accuracies in percent on test images, the paper's beside ours, and Δ, ours minus the paper's.

    One row a variant, in the paper's order. Over several seeds ours is the mean ± half the range. "–" marks what is
    not computed at this scale, "stale" what has to be computed again, "failed" a training that found no classifier.
    """
    found = {quantity: over_seeds(ours, *quantity) for quantity in QUANTITIES}
    rows = []
    for transform in paper["transform"].unique():
        row = {"variant": transform_label(transform)}
        for quantity, (_, heading, _) in QUANTITIES.items():
            theirs = paper_values(paper, *quantity)[transform]
            mine = found[quantity]
            row[f"{heading}: paper"] = f"{theirs:.1f}"
            row[f"{heading}: ours (Δ)"] = _our_cell(mine, transform, theirs)
        rows.append(row)
    return pd.DataFrame(rows)


def _our_cell(found: pd.DataFrame, key: str | tuple[str, float], theirs: float = np.nan, digits: int = 1) -> str:
    if key not in found.index:
        return MISSING
    row = found.loc[key]
    if row["seeds"] == 0:
        return row["status"]
    spread = f" ± {(row['high'] - row['low']) / 2:.{digits}f}" if row["seeds"] > 1 else ""
    difference = f" ({row['mean'] - theirs:+.{digits}f})" if np.isfinite(theirs) else ""
    return f"{row['mean']:.{digits}f}{spread}{difference}"


def footprint_table(
    volumes: pd.DataFrame, distances: pd.DataFrame, paper_volumes: pd.DataFrame, paper_distances: pd.DataFrame
) -> pd.DataFrame:
    """Which smoothing filter made the paper's data: what Tables 1 and 6 print, beside a column and a square filter.

    Perturbable volumes are means of log2 over test images, in bits, which the paper prints without decimals, truncated
    toward zero. Distances are ratios to the original's inter-class distance: the scale factors of Table 1.
    """
    rows = []
    theirs = paper_volumes[paper_volumes["dataset"] == "mnist"].set_index("transform")["value"]
    mine = volumes.set_index("transform")["value"]
    for size in (3, 5):
        column, square = (mine.get(f"smooth-{footprint}{size}", np.nan) for footprint in ("", "square-"))
        rows.append((f"log2 perturbable volume, smooth {size}", theirs[f"smooth-{size}"], column, square, "{:.0f}", "{:.2f}"))
    factors = paper_distances[paper_distances["metric"] == "scale_factor"].set_index("transform")["value"]
    mine = distances.set_index("transform")["value"]
    mine = mine / mine.get("original", np.nan)
    for size in (3, 4, 5):
        column, square = (mine.get(f"smooth-{footprint}{size}", np.nan) for footprint in ("", "square-"))
        label = f"inter-class distance over the original's, smooth {size}"
        rows.append((label, factors[f"rescale-to-smooth-{size}"], column, square, "{:.3f}", "{:.4f}"))
    shown = [
        {
            "quantity": label,
            "paper": printed.format(paper),
            "column s×1": _number(column, computed),
            "square s×s": _number(square, computed),
            "nearer": _nearer(paper, column, square),
        }
        for label, paper, column, square, printed, computed in rows
    ]
    return pd.DataFrame(shown)


def footprint_robustness_table(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy of PGD training on both footprints, beside the paper's Table 2: which one is nearer."""
    mine = over_seeds(ours, "pgd", "robust_accuracy")
    theirs = paper_values(paper, "pgd", "robust_accuracy")
    rows = []
    for name in theirs.index.intersection([f"smooth-{size}" for size in (3, 5, 8)]):
        square = name.replace("smooth-", "smooth-square-")
        values = [mine["mean"].get(variant, np.nan) for variant in (name, square)]
        rows.append(
            {
                "variant": transform_label(name),
                "robust accuracy: paper": f"{theirs[name]:.1f}",
                "column s×1 (Δ)": _our_cell(mine, name, theirs[name]),
                "square s×s (Δ)": _our_cell(mine, square, theirs[name]),
                "nearer": _nearer(theirs[name], *values),
            }
        )
    return pd.DataFrame(rows)


def _number(value: float, pattern: str) -> str:
    return pattern.format(value) if np.isfinite(value) else MISSING


def _nearer(paper: float, column: float, square: float) -> str:
    if not np.isfinite([column, square]).all():
        return MISSING
    return "column" if abs(column - paper) < abs(square - paper) else "square"


def sensitivity_table(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """The paper's claim in one table: how far each quantity moves over the variants that are computed, in points.

    `sets`: from a data set's name to (ours, the paper's). The range is taken over the same variants on both sides; a
    range needs at least two of them.
    """
    rows = []
    for name, (ours, paper) in sets.items():
        for quantity, (label, _, _) in QUANTITIES.items():
            mine = over_seeds(ours, *quantity)
            mine = mine.loc[mine["seeds"] > 0, "mean"]
            theirs = paper_values(paper, *quantity)
            shared = [variant for variant in theirs.index if variant in mine.index]
            enough = len(shared) > 1
            rows.append(
                {
                    "data set": name,
                    "quantity": label,
                    "paper, all variants": f"{theirs.max() - theirs.min():.1f}",
                    "paper, variants computed": f"{theirs[shared].max() - theirs[shared].min():.1f}" if enough else MISSING,
                    "ours": f"{mine[shared].max() - mine[shared].min():.1f}" if enough else MISSING,
                    "variants": ", ".join(map(transform_label, shared)) or MISSING,
                }
            )
    return pd.DataFrame(rows)


def worst_case_table(sets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The attack of Section 3.2 beside a stronger one, on the same models: test images, in percent, means over seeds.

    In the worst case an image counts as robust only if no iterate of several longer attacks is misclassified. `sets`: from a
    data set's name to ours. Δ is taken over the seeds that have both.
    """
    rows = []
    for name, ours in sets.items():
        for transform in ours["transform"].unique() if len(ours) else [MISSING]:
            row = {"data set": name, "variant": transform_label(transform)}
            for metric, heading in (("robust_accuracy", "robust"), ("robustness_wrt_predictions", "w.r.t. pred.")):
                last, worst = (over_seeds(ours, "pgd", each) for each in (metric, f"{metric}_worst_case"))
                pairs = _pairs(*_by_attack(ours, metric)).query("transform == @transform")
                change = f" ({(pairs['other'] - pairs['one']).mean():+.1f})" if len(pairs) else ""
                row[f"{heading}: last iterate"] = _mean_cell(last, transform)
                row[f"{heading}: worst case (Δ)"] = _mean_cell(worst, transform) + change
            rows.append(row)
    return pd.DataFrame(rows)


def worst_case_seen(sets: Mapping[str, pd.DataFrame]) -> str:
    """How much robust accuracy the stronger attack takes, and whether the variants keep their order, one sentence a set."""
    said = []
    for name, ours in sets.items():
        pairs = _pairs(*_by_attack(ours, "robust_accuracy")).groupby("transform", sort=False)[["one", "other"]].mean()
        if pairs.empty:
            said.append(f"{name}: not computed yet; {_to_compute(ours)}")
            continue
        lost = (pairs["one"] - pairs["other"]).rename(transform_label).sort_values()
        most = f"**{lost.iloc[-1]:.1f} points** on {lost.index[-1]}"
        if len(lost) > 1:
            order = "stays" if pairs["one"].rank().equals(pairs["other"].rank()) else "changes"
            most = f"{lost.iloc[0]:.1f} points on {lost.index[0]} to {most}; the order of the variants {order}"
        said.append(f"{name} (scale {ours.attrs['scale']}): the stronger attack takes {most}.")
    return " ".join(said)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): the mean of independent values and Student's 95% confidence interval.

    ValueError for fewer than two values, which do not tell how far others lie.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, given {len(values)}")
    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


ALL_VARIANTS = "all, averaged"


def precision_table(ours: pd.DataFrame) -> pd.DataFrame:
    """Training with bfloat16 attacks beside training with float32 ones, evaluated alike: test images, in percent.

    A seed trains both from the same initial weights, with the same batches and starts, so the differences, bfloat16 minus
    float32, are paired. Seeds that have both count; the failed and stale ones are told in brackets. The last rows average
    the variants of a seed first, so that its differences count once.
    """
    metrics = {metric: label for (training, metric), (label, _, _) in QUANTITIES.items() if training == "pgd"}
    variants = list(ours["transform"].unique())
    rows = []
    for transform in [*variants, ALL_VARIANTS] if len(variants) > 1 else variants or [MISSING]:
        for metric, label in metrics.items():
            both = _by_precision(ours, metric)
            pairs, told = _averaged(_pairs(*both)), ""
            if transform != ALL_VARIANTS:
                both = [rows[rows["transform"] == transform] for rows in both]
                without = pd.concat(both)["status"].loc[lambda status: status != "recorded"].value_counts()
                pairs, told = _pairs(*both), "".join(f" ({count} {status})" for status, count in without.items())
            row = {"variant": transform_label(transform), "quantity": label.split(",")[0], "seeds": f"{len(pairs)}{told}"}
            for side, heading in (("one", "float32"), ("other", "bfloat16")):
                spread = f" ({pairs[side].std():.2f})" if len(pairs) > 1 else ""
                row[f"{heading}: mean (s.d.)"] = f"{pairs[side].mean():.2f}{spread}" if len(pairs) else MISSING
            row["difference"] = row["95% interval"] = MISSING
            if len(pairs) > 1:
                mean, low, high = mean_interval(list(pairs["other"] - pairs["one"]))
                row["difference"], row["95% interval"] = f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}"
            rows.append(row)
    return pd.DataFrame(rows)


def precision_seeds_table(ours: pd.DataFrame) -> pd.DataFrame:
    """The robust accuracies behind `precision_table`, one row a variant and seed."""
    full, low = (rows.set_index(["transform", "seed"]) for rows in _by_precision(ours, "robust_accuracy"))
    rows = []
    for place in full.index.union(low.index, sort=False):
        values = [found["value"].get(place, np.nan) for found in (full, low)]
        cells = [
            f"{value:.2f}" if np.isfinite(value) else found["status"].get(place, MISSING)
            for value, found in zip(values, (full, low), strict=True)
        ]
        rows.append((transform_label(place[0]), str(place[1]), *cells, _number(values[1] - values[0], "{:+.2f}")))
    return pd.DataFrame(rows or [(MISSING,) * 5], columns=["variant", "seed", "float32", "bfloat16", "difference"])


def precision_seen(ours: pd.DataFrame) -> str:
    """What the paired differences of robust accuracy say, variant by variant and over all of them."""
    pairs = _pairs(*_by_precision(ours, "robust_accuracy"))
    said, moved = [], []
    for transform, rows in [*pairs.groupby("transform", sort=False), (ALL_VARIANTS, _averaged(pairs))]:
        if len(rows) > 1:
            mean, low, high = mean_interval(list(rows["other"] - rows["one"]))
            where = "on average" if transform == ALL_VARIANTS else f"on {transform_label(transform)}"
            said.append(f"{mean:+.2f} points {where} (95% interval {low:+.2f} to {high:+.2f}, {len(rows)} seeds)")
            moved += [] if low <= 0 <= high else [where]
    if not said:
        return f"Not computed yet: at least two seeds are needed in both precisions; {_to_compute(ours)}"
    verdict = f"The interval leaves out 0 {' and '.join(moved)}: there the precision **did change the result**."
    if not moved:
        verdict = "**Every interval holds 0**; how large an effect could be, their ends say."
    changes, ahead = ", by ".join(said), int((pairs["other"] > pairs["one"]).sum())
    return (
        f"At scale {ours.attrs['scale']}, bfloat16 attacks in training moved robust accuracy by {changes}. {verdict} The model "
        f"trained with bfloat16 attacks is the more robust one in {ahead} of {len(pairs)} pairs (two-sided sign test, if "
        f"pairs were independent: p = {binomtest(ahead, len(pairs)).pvalue:.2g})."
    )


def _by_attack(ours: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of PGD training on test images: under the paper's attack, and in the worst case over stronger ones."""
    rows = ours[(ours["training"] == "pgd") & (ours["split"] == "test")]
    return rows[rows["metric"] == metric], rows[rows["metric"] == f"{metric}_worst_case"]


def _by_precision(ours: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of PGD training on test images: with float32 attacks, and with bfloat16 ones, as the recipe's name says."""
    rows = ours[(ours["training"] == "pgd") & (ours["metric"] == metric) & (ours["split"] == "test")]
    low = rows["recipe"].str.endswith("bfloat16")
    return rows[~low], rows[low]


def _pairs(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The values of the variants and seeds that have both: columns `transform`, `seed`, `one` and `other`."""
    columns = ["transform", "seed", "value"]
    return one[columns].merge(other[columns], on=columns[:2]).dropna().set_axis([*columns[:2], "one", "other"], axis=1)


def _averaged(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs of each seed that has all variants, averaged over them; none where there is only one variant."""
    variants = pairs["transform"].nunique()
    whole = pairs.groupby("seed").filter(lambda rows: len(rows) == variants > 1)
    return whole.groupby("seed")[["one", "other"]].mean()


def _mean_cell(found: pd.DataFrame, transform: str) -> str:
    if transform not in found.index:
        return MISSING
    row = found.loc[transform]
    return f"{row['mean']:.1f}" if row["seeds"] else row["status"]


_SETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR10", "cifar10-jpeg": "CIFAR10 (JPEG)"}


def set_name(dataset: str) -> str:
    """A data set's name as a reader reads it."""
    return _SETS[dataset]


def measured_values(measured: pd.DataFrame, metric: str) -> pd.Series:
    """What was measured of each transform; NaN where the measurement is stale."""
    return measured[measured["metric"] == metric].set_index("transform")["value"]


def paper_eps(dataset: str) -> float:
    """The paper's budget on a data set."""
    return grid.settings(grid.Measurement("log2_perturbable_volume", dataset, "original", "paper"))["eps"]


def perturbable_volume_table(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> pd.DataFrame:
    """Table 6: mean log2 perturbable volume of test images, in bits, with the range that is possible.

    `sets`: from the paper's name of a data set, or `fashion_mnist`, to what was measured of its variants. The paper's values
    are whole bits, truncated toward zero: of ours, "truncated" is what it would have printed. The range is that of d pixels:
    d·log2(eps) in a corner of the cube to d·log2(2·eps) where no face is near.
    """
    rows = []
    for name, measured in sets.items():
        block = grid.exhibit(measured.attrs["exhibit"])
        printed = paper[paper["dataset"] == name].set_index("transform")["value"]
        values = measured_values(measured, "log2_perturbable_volume")
        label = set_name(measured["dataset"].iloc[0] if len(measured) else name)
        eps = paper_eps(name)
        pixels = 3 * 32 * 32 if name == "cifar10" else 28 * 28
        for transform in dict.fromkeys([*block["transform"], *printed.index]):
            value = values.get(transform, np.nan)
            rows.append(
                {
                    "data set": label,
                    "variant": transform_label(transform),
                    "paper": f"{printed[transform]:.0f}" if transform in printed else "",
                    "ours": _number(value, "{:.2f}"),
                    "truncated": _number(np.trunc(value), "{:.0f}"),
                    "possible": f"{pixels * np.log2(eps):.1f} to {pixels * np.log2(2 * eps):.1f}",
                }
            )
    return pd.DataFrame(rows)


def perturbable_volume_seen(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> str:
    """How many of Table 6's values ours give when truncated as the paper's are, and by how much the others miss."""
    said = []
    for name, measured in sets.items():
        printed = paper[paper["dataset"] == name].set_index("transform")["value"]
        both = pd.DataFrame({"theirs": printed, "ours": measured_values(measured, "log2_perturbable_volume")}).dropna()
        if both.empty:
            if len(printed):
                said.append(f"{set_name(name)}: not computed yet; {_to_compute(measured)}")
            continue
        same = int((np.trunc(both["ours"]) == both["theirs"]).sum())
        most = (np.trunc(both["ours"]) - both["theirs"]).abs().max()
        rest = "" if same == len(both) else f"; the largest difference is {most:.0f} bits"
        said.append(
            f"{set_name(measured['dataset'].iloc[0])} (scale {measured.attrs['scale']}): **{same} of {len(both)}** values are "
            f"the paper's to the last digit{rest}."
        )
    return " ".join(said)


def unboxed_table(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> pd.DataFrame:
    """Table 7: robust accuracy under PGD within the unit cube and under PGD that may leave it, in percent of test images.

    `sets`: from the paper's name of a data set to ours. The change is that from within to without, on either side.
    """
    rows = []
    for name, ours in sets.items():
        theirs = paper[paper["dataset"] == name]
        boxed, unboxed = (paper_values(theirs, "pgd", f"robust_accuracy{suffix}") for suffix in ("", "_unboxed"))
        mine = [over_seeds(ours, "pgd", f"robust_accuracy{suffix}") for suffix in ("", "_unboxed")]
        label = set_name(ours["dataset"].iloc[0] if len(ours) else name)
        for transform in theirs["transform"].unique():
            change = mine[1]["mean"].get(transform, np.nan) - mine[0]["mean"].get(transform, np.nan)
            rows.append(
                {
                    "variant": f"{label}, {transform_label(transform)}",
                    "within: paper": f"{boxed[transform]:.1f}",
                    "within: ours (Δ)": _our_cell(mine[0], transform, boxed[transform]),
                    "without: paper": f"{unboxed[transform]:.1f}",
                    "without: ours (Δ)": _our_cell(mine[1], transform, unboxed[transform]),
                    "change: paper": f"{unboxed[transform] - boxed[transform]:+.1f}",
                    "change: ours": _number(change, "{:+.1f}"),
                }
            )
    return pd.DataFrame(rows)


def unboxed_seen(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> str:
    """By how much robust accuracy moves when the attack may leave the cube, ours and the paper's over the same variants."""
    said = []
    for name, ours in sets.items():
        mine = [over_seeds(ours, "pgd", f"robust_accuracy{suffix}")["mean"] for suffix in ("", "_unboxed")]
        change = (mine[1] - mine[0]).dropna()
        if change.empty:
            said.append(f"{set_name(name)}: not computed yet; {_to_compute(ours)}")
            continue
        rows = paper[paper["dataset"] == name]
        printed = [paper_values(rows, "pgd", f"robust_accuracy{suffix}") for suffix in ("", "_unboxed")]
        theirs = (printed[1] - printed[0])[change.index]
        of = f"{len(change)} variant{'s' * (len(change) > 1)}"
        span = f"**{change.min():+.1f}** ({transform_label(change.idxmin())})"
        if len(change) > 1:
            span += f" to **{change.max():+.1f} points** ({transform_label(change.idxmax())})"
        said.append(
            f"{set_name(ours['dataset'].iloc[0])} (scale {ours.attrs['scale']}, {of}): "
            f"outside the cube the attack moves robust accuracy by {span}; in the paper, over the same, by {_from_to(theirs)}."
        )
    return " ".join(said)


def rank_correlation(x: pd.Series, y: pd.Series, *, resamples: int = 10_000) -> tuple[float, float, float, int]:
    """(ρ, low, high, n): Spearman's rank correlation over the n indices that both have, with a 95% bootstrap interval.

    The interval is the percentile one, over resamples of the pairs; those in which either side is constant tell nothing and
    are left out. With so few pairs it is rough. NaN for fewer than four pairs.
    """
    both = pd.DataFrame({"x": x, "y": y}).dropna()
    if len(both) < 4:
        return np.nan, np.nan, np.nan, len(both)
    generator = np.random.default_rng(0)
    chosen = generator.integers(len(both), size=(resamples, len(both)))
    ranks = [rankdata(both[column].to_numpy()[chosen], axis=1) for column in ("x", "y")]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    sizes = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    found = (centred[0] * centred[1]).sum(1)[sizes > 0] / sizes[sizes > 0]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(spearmanr(both["x"], both["y"]).statistic), float(low), float(high), len(both)


def correlation_label(x: pd.Series, y: pd.Series) -> str:
    """`rank_correlation` in words."""
    rho, low, high, n = rank_correlation(x, y)
    if not n:
        return "not computed yet"
    if not np.isfinite(rho):
        return f"{n} variant{'s' * (n != 1)}, too few for a rank correlation"
    return f"ρ = {rho:+.2f} [{low:+.2f}, {high:+.2f}] over {n} variants"


def distance_correlation_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]) -> str:
    """Spearman's correlation of inter-class distance and robust accuracy, with our accuracies and with the paper's.

    `sets`: from the paper's name of a data set to (measured distances, ours, the paper's). The distances are always ours.
    """
    said = []
    for name, (distances, ours, paper) in sets.items():
        measured = measured_values(distances, "inter_class_distance")
        if measured.dropna().empty:
            said.append(f"{set_name(name)}: not computed yet; {_to_compute(distances)}")
            continue
        theirs = correlation_label(measured, paper_values(paper, "pgd", "robust_accuracy"))
        mine = correlation_label(measured, over_seeds(ours, "pgd", "robust_accuracy")["mean"])
        label = set_name(distances["dataset"].iloc[0])
        said.append(f"{label}: with the paper's robust accuracies **{theirs}**; with ours {mine}.")
    return " ".join(said)


def linf_table(sets: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Appendix D.2.1: ℓ∞ distances of all pairs of test images of different classes: how near to 1 they are."""
    headings = {
        "linf_distance_smallest": "smallest",
        "linf_distance_percentile_1": "1% are below",
        "linf_distance_median": "median",
        "linf_distance_share_above_0.9": "share above .9",
    }
    rows = []
    for measured in sets:
        block = grid.exhibit(measured.attrs["exhibit"])
        label = set_name(measured["dataset"].iloc[0] if len(measured) else block["dataset"])
        for transform in block["transform"]:
            row = {"data set": label, "variant": transform_label(transform)}
            for metric, heading in headings.items():
                value = measured_values(measured, metric).get(transform, np.nan)
                row[heading] = _number(100 * value, "{:.1f}%") if "share" in metric else _number(value, "{:.3f}")
            images = measured.loc[measured["transform"] == transform, "n"]
            rows.append({**row, "images": f"{images.iloc[0]}" if len(images) else MISSING})
    return pd.DataFrame(rows)


def linf_seen(sets: Sequence[pd.DataFrame]) -> str:
    """How close to 1 the ℓ∞ distances are, set by set: the variant with the fewest above .9 and the one with the most."""
    said = []
    for measured in sets:
        shares = 100 * measured_values(measured, "linf_distance_share_above_0.9").dropna()
        if shares.empty:
            name = set_name(grid.exhibit(measured.attrs["exhibit"])["dataset"])
            said.append(f"{name}: not computed yet; {_to_compute(measured)}")
            continue
        middle = measured_values(measured, "linf_distance_median")
        ends = [
            f"{shares[name]:.1f}% of the pairs are farther apart than .9 on {transform_label(name)} (median {middle[name]:.3f})"
            for name in dict.fromkeys((shares.idxmin(), shares.idxmax()))
        ]
        said.append(f"{set_name(measured['dataset'].iloc[0])} (scale {measured.attrs['scale']}): {' and '.join(ends)}.")
    return " ".join(said)


SEPARATED = 0.99  # of the points: what counts as separating two spheres


def facets_table(rows: pd.DataFrame, dimension: int) -> pd.DataFrame:
    """Theorem D.1 beside the networks: how many facets a polytope needs between the spheres, and how many units sufficed.

    `rows`: as `results.tables("figure-6")` gives them. For the data as they are, and for what an ℓ2 budget of eps leaves of the
    gap. In two dimensions the fewest sides are known exactly; else e^(n/(2d²)) is a lower bound. ">64":
    none of the widths tried, which go up to 64.
    """
    shown = []
    here = rows[rows["d"] == dimension] if len(rows) else rows
    for gap, at in here.groupby("gap") if len(here) else ():
        row = {"gap": f"{gap:g}"}
        for label, eps, trained, metric in (
            ("clean", 0.0, "standard", "clean_accuracy"),
            ("robust", at["eps"].iloc[0], "pgd", "robust_accuracy"),
        ):
            ratio = geometry.ratio_of_radii(gap, eps)
            enough = at[(at["training"] == trained) & (at[metric] >= SEPARATED)]["width"]
            row[f"{label}: radii 1 to"] = f"{ratio:.2f}"
            if dimension == 2:
                row[f"{label}: sides needed"] = str(geometry.polygon_sides(ratio))
            else:
                row[f"{label}: facets, at least"] = f"{geometry.facets_needed(dimension, ratio):.1f}"
            row[f"{label}: units that sufficed"] = str(enough.min()) if len(enough) else f">{at['width'].max()}"
        shown.append(row)
    return pd.DataFrame(shown or [dict.fromkeys(("gap", "needed", "units that sufficed"), MISSING)])


def spheres_seen(rows: pd.DataFrame) -> str:
    """What the networks between spheres show: the narrowest that separate, clean and robust, at either end of the gaps."""
    if rows.empty:
        return f"Not computed yet; {_to_compute(rows)}"
    said = []
    for dimension, here in rows.groupby("d"):
        ends = []
        for gap in (here["gap"].max(), here["gap"].min()):
            at = here[here["gap"] == gap]
            widths = [
                at[(at["training"] == trained) & (at[metric] >= SEPARATED)]["width"].min()
                for trained, metric in (("standard", "clean_accuracy"), ("pgd", "robust_accuracy"))
            ]
            clean, robust = (f"{width:.0f} units" if np.isfinite(width) else "no width tried" for width in widths)
            ends.append(f"at a gap of {gap:g} clean points are separated by {clean}, robustly by {robust}")
        said.append(f"In {dimension} dimensions, {'; '.join(ends)}.")
    both = rows.pivot_table(index=["d", "width", "gap"], columns="training", values=["clean_accuracy", "robust_accuracy"])
    gained = 100 * (both["robust_accuracy", "pgd"] - both["robust_accuracy", "standard"])
    lost = 100 * (both["clean_accuracy", "standard"] - both["robust_accuracy", "pgd"])
    where = dict(zip(("d", "width", "gap"), lost.idxmax(), strict=True))
    return (
        f"{' '.join(said)} Adversarial training changes robust accuracy by {gained.min():+.1f} to {gained.max():+.1f} points; "
        f"the robust accuracy it reaches stays below the clean accuracy of standard training by at most **{lost.max():.1f} "
        f"points** (width {where['width']}, gap {where['gap']:g}, {where['d']} dimensions)."
    )


def linear_margin_seen(rows: pd.DataFrame) -> str:
    """How much of the largest margin a linear classifier reaches by standard training, and by adversarial training."""
    if rows.empty:
        return f"Not computed yet; {_to_compute(rows)}"
    reached, budgets = (100 * rows[name] / rows["largest_margin"] for name in ("margin", "eps"))
    best = reached.idxmax()
    return (
        f"Standard training reaches {reached[budgets.idxmin()]:.0f}% of the largest margin there is (a support vector "
        f"machine's), adversarial training with ε at {budgets[best]:.0f}% of it **{reached[best]:.0f}%** "
        f"({rows['n'].iloc[0]} points, {rows['d'].iloc[0]} dimensions)."
    )


# The attacks of the suite, by their metric's suffix, from the weakest in kind to the strongest.
ATTACKS = {
    "transfer": "transfer: the paper's PGD, on the standardly trained twin",
    "fgsm": "FGSM: one step of ε",
    "reference": "**the paper's PGD**",
    "bim": "BIM: PGD from the image itself",
    "momentum": "PGD with momentum",
    "margin": "PGD on the margin (CW loss)",
    "100_steps": "PGD, 100 steps",
    "1000_steps": "PGD, 1000 steps",
    "restarts": "PGD, 100 steps, 10 starts, every iterate counts",
    "autoattack": "AutoAttack",
}


def _held(outcomes: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By transform: one row an image (of a seed), one column an attack, whether it held."""
    if outcomes.empty:
        return {}
    rows = outcomes.assign(metric=outcomes["metric"].str.removeprefix("robust_accuracy_"))
    rows = rows[rows["metric"].isin(ATTACKS)]
    return {
        transform: group.pivot(index=["seed", "image"], columns="metric", values="held")
        for transform, group in rows.groupby("transform", sort=False)
    }


def strength_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy in percent under each attack of the suite, and in brackets its difference from the paper's attack.

    `outcomes`: as `results.outcomes` gives them; all attacks are on the same images. The last row is the worst case: an image
    counts only if it withstands every attack there is a record of.
    """
    held = _held(outcomes)
    transforms = grid.exhibit(outcomes.attrs["exhibit"])["transform"]
    together = "all of them together"
    rows = []
    for attack, label in [*ATTACKS.items(), ("", together)]:
        row = {"attack": label}
        for transform in transforms:
            found = held.get(transform, pd.DataFrame())
            if found.empty or (attack and attack not in found):
                row[transform_label(transform)] = MISSING
                continue
            mean = 100 * (found[attack] if attack else found.all(axis=1)).mean()
            apart = (
                f" ({mean - 100 * found['reference'].mean():+.1f})" if "reference" in found and attack != "reference" else ""
            )
            row[transform_label(transform)] = f"{mean:.1f}{apart}"
        rows.append(row)
    return pd.DataFrame(rows)


def strength_seen(outcomes: pd.DataFrame) -> str:
    """What the suite takes off the paper's robust accuracy, at most, and whether the order of the variants stays."""
    held = {name: found for name, found in _held(outcomes).items() if "reference" in found and len(found.columns) > 1}
    if not held:
        return f"Not computed yet; {_to_compute(outcomes)}"
    reference = pd.Series({name: 100 * found["reference"].mean() for name, found in held.items()})
    worst = pd.Series({name: 100 * found.all(axis=1).mean() for name, found in held.items()})
    single = {name: 100 * found.drop(columns="reference").mean() for name, found in held.items()}
    strongest = {name: ATTACKS[means.idxmin()].split(":")[0] for name, means in single.items()}
    said = "; ".join(
        f"{transform_label(name)} {reference[name]:.1f}% to {worst[name]:.1f}% (the strongest alone: {strongest[name]})"
        for name in held
    )
    sizes = " and ".join(map(str, sorted({len(found) for found in held.values()})))
    off = reference - worst
    span = f"{off.min():.1f} to {off.max():.1f}" if len(off) > 1 else f"{off.iloc[0]:.1f}"
    kept = list(reference.sort_values().index) == list(worst.sort_values().index)
    order = f" The order of the {len(held)} variants **{'stays' if kept else 'changes'}**." if len(held) > 1 else ""
    return (
        f"On {sizes} test images (scale {outcomes.attrs['scale']}), all attacks together take **{span} points** off what the "
        f"paper's attack leaves: {said}.{order}"
    )


def eps_curve(ours: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy against eps: rows `transform`, `seed`, `eps`, `value`, `n`."""
    rows = ours[ours["metric"].str.startswith("robust_accuracy_eps_") & (ours["split"] == "test")]
    rows = rows.assign(eps=rows["metric"].str.removeprefix("robust_accuracy_eps_").astype(float))
    return rows[["dataset", "transform", "seed", "eps", "value", "n"]].dropna(subset="value")


def _fallen(weaker: pd.Series, stronger: pd.Series) -> str:
    """Whether an attack that should be the stronger one leaves no more images: both outcomes on the same images.

    An excess of images counts against it only if chance would not explain it: an exact one-sided sign test at 5%.
    """
    more, fewer = int((stronger & ~weaker).sum()), int((weaker & ~stronger).sum())
    if more <= fewer:
        return "holds"
    chance = binomtest(more, more + fewer, alternative="greater").pvalue
    return "holds, within chance" if chance > 0.05 else "**fails**"


def masking_table(outcomes: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """The checks for gradient masking (Athalye et al., 2018; Carlini et al., 2019), one column a variant of the suite.

    `outcomes` of the suite, `curve` the frame of robust accuracy against eps. "–" marks what is not computed.
    """
    held, against = _held(outcomes), eps_curve(curve)
    pairs = {
        "one step does less than many": ("fgsm", "reference"),
        "a transferred attack does less than one on the model itself": ("transfer", "reference"),
        "100 steps do no less than the paper's": ("reference", "100_steps"),
        "1000 steps do no less than 100": ("100_steps", "1000_steps"),
        "AutoAttack does no less than the paper's": ("reference", "autoattack"),
    }
    rows = []
    for label, (weaker, stronger) in pairs.items():
        row = {"check": label}
        for transform in grid.exhibit(outcomes.attrs["exhibit"])["transform"]:
            found = held.get(transform, pd.DataFrame())
            cell = MISSING
            if weaker in found and stronger in found:
                left = " → ".join(f"{100 * found[attack].mean():.1f}" for attack in (weaker, stronger))
                cell = f"{_fallen(found[weaker], found[stronger])} ({left})"
            row[transform_label(transform)] = cell
        rows.append(row)
    growing, grey, ending = ({"check": label} for label in (
        "a larger ε leaves no more images", "at ε = ½, where all images can be made grey, at most chance is left",
        "at ε = 1 nothing is left",
    ))  # fmt: skip
    for transform in grid.exhibit(outcomes.attrs["exhibit"])["transform"]:
        means = against[against["transform"] == transform].groupby("eps")["value"].mean()
        variant = transform_label(transform)
        if means.empty:
            growing[variant] = grey[variant] = ending[variant] = MISSING
            continue
        rise = means.diff().max()
        # A point in a hundred is what an attack from a random start may differ by.
        growing[variant] = "holds" if rise <= 0 else f"{'holds' if rise <= 1 else '**fails**'} (but for +{rise:.1f} points)"
        for row, eps, allowed in ((grey, 0.5, 100 / 10), (ending, 1.0, 0.0)):
            value = means.get(eps, np.nan)
            row[variant] = f"{'holds' if value <= allowed else '**fails**'} ({value:.1f})" if np.isfinite(value) else MISSING
    table = pd.DataFrame([*rows, growing, grey, ending])
    table.attrs["command"] = outcomes.attrs["command"]
    return table


def masking_seen(table: pd.DataFrame) -> str:
    """How many of the checks of a `masking_table` hold, and which fail."""
    cells = table.set_index("check").stack()
    told = cells[cells != MISSING]
    failed = told[told.str.startswith("**fails**")]
    if told.empty:
        return f"Not computed yet; {_to_compute(table)}"
    listed = "; ".join(f"{check} ({variant})" for check, variant in failed.index)
    return f"**{len(told) - len(failed)} of {len(told)} checks hold**" + (f"; those that fail: {listed}." if listed else ".")


def curve_table(ours: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy in percent at some budgets, and the budget at which half of the images fall, by variant."""
    curve = eps_curve(ours)
    block = grid.exhibit(ours.attrs["exhibit"])
    dataset = block["dataset"]
    rows = []
    for transform in block["transform"]:
        means = curve[curve["transform"] == transform].groupby("eps")["value"].mean()
        row = {"variant": transform_label(transform)}
        for share in (0, 0.5, 1, 1.5):
            eps = share * paper_eps(dataset)
            near = means[np.isclose(means.index, eps, rtol=1e-4, atol=1e-9)]
            label = f"ε = {eps_label(eps, dataset)}{'' if eps else ' (clean)'}"
            row[label] = f"{near.iloc[0]:.1f}" if len(near) else MISSING
        half = half_eps(means)
        row["half fall at ε ="] = (eps_label(half, dataset) if np.isfinite(half) else "beyond") if len(means) else MISSING
        rows.append(row)
    return pd.DataFrame(rows)


def eps_label(eps: float, dataset: str) -> str:
    """A budget as one writes it on a data set: 0.3 on MNIST, 8/255 on CIFAR10."""
    return f"{255 * eps:.3g}/255" if eps > 0 and paper_eps(dataset) < 0.05 else f"{eps:.3g}"


def half_eps(means: pd.Series) -> float:
    """The budget, interpolated, at which robust accuracy first falls to half of all images; NaN where it never does."""
    below = means.index[means <= 50]
    if not len(below):
        return np.nan
    last = means.index.get_loc(below[0])
    if last == 0:
        return float(below[0])
    (x0, y0), (x1, y1) = ((means.index[i], means.iloc[i]) for i in (last - 1, last))
    return float(x0 + (y0 - 50) / (y0 - y1) * (x1 - x0))


def curve_seen(ours: pd.DataFrame) -> str:
    """Over which budgets the variants lie apart, and whether their order is that at the paper's budget."""
    curve = eps_curve(ours)
    dataset = grid.exhibit(ours.attrs["exhibit"])["dataset"]
    eps = paper_eps(dataset)
    wide = curve.groupby(["eps", "transform"])["value"].mean().unstack()
    if wide.shape[1] < 2:
        return f"Not computed yet: at least two variants are needed, {wide.shape[1]} are there; {_to_compute(ours)}"
    wide = wide[wide.index <= 2 * eps]
    spread = wide.max(axis=1) - wide.min(axis=1)
    at = wide.index[np.abs(wide.index - eps).argmin()]
    apart = [budget for budget in wide.index[1:] if spread[budget] > 0 and spread[at] > 0]
    orders = pd.Series({budget: spearmanr(wide.loc[budget], wide.loc[at]).statistic for budget in apart}, dtype=float)
    kept = (
        f" The variants' order at other budgets has a rank correlation of at least {orders.min():+.2f} with that at the paper's"
        f" (least at ε = {eps_label(orders.idxmin(), dataset)})."
        if len(orders)
        else ""
    )
    images = int(curve["n"].min())
    low, high = interval(50, images)
    return (
        f"Over {wide.shape[1]} variants (scale {ours.attrs['scale']}, {images} test images: a 95% interval of at most "
        f"±{(high - low) / 2:.0f} points), robust accuracy spans {spread.iloc[0]:.1f} points at "
        f"ε = 0, {spread[at]:.1f} at the paper's ε = {eps_label(eps, dataset)}, and most, **{spread.max():.1f}**, at "
        f"ε = {eps_label(spread.idxmax(), dataset)}.{kept}"
    )


def speed_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Image-steps a second of each engine, median over rounds, and in brackets the ratio to AdverTorch in the same rounds."""
    shown = [
        {
            "network": row["case"].replace("-w", " w="),
            "batch": str(row["batch"]),
            "engine": row["engine"],
            "cell": f"{row['image_steps_per_second']:,.0f} (×{row['ratio_to_advertorch']:.1f})",
        }
        for _, row in rows.iterrows()
    ]
    wide = pd.DataFrame(shown).pivot(index=["network", "batch"], columns="engine", values="cell").reset_index()
    width = wide["network"].str.split("=").str[1].astype(float)
    order = sorted(range(len(wide)), key=lambda i: (wide["network"][i].split("=")[0], width[i], int(wide["batch"][i])))
    return wide.loc[order, ["network", "batch", *rows["engine"].unique()]].fillna(MISSING).reset_index(drop=True)


def speed_seen(rows: pd.DataFrame) -> str:
    """What the record of a benchmark says of LeNet5 at full width and of the narrowest residual network, batch by batch."""

    def listed(case: str, engine: str, column: str, form: str) -> str:
        found = rows[(rows["case"] == case) & (rows["engine"] == engine)].sort_values("batch")
        return " / ".join(form.format(value) for value in found[column])

    batches = " / ".join(str(batch) for batch in sorted(rows["batch"].unique()))
    plain, share = ("ratio_to_plain_loop", "{:.1f}"), ("share_of_ceiling", "{:.0%}")
    wide = {engine: listed("lenet5-w1", engine, *share) for engine in ("lib, float32", "lib, bfloat16")}
    return (
        f"LeNet5 at full width, batches of {batches}: in float32 {wide['lib, float32']} of the ceiling, in bfloat16 "
        f"{wide['lib, bfloat16']}. A small batch pays for reading the dense layer's weights, and for their copy in lower "
        f"precision, as much as a large one. WRN-28-0.25, which trains on batches of 128: in bfloat16 "
        f"{listed('wide_resnet28-w0.25', 'lib, bfloat16', *plain)} times the plain loop; most of the rest is its "
        f"convolutions of four channels, which leave a processor's vectors three quarters empty."
    )


def benchmark_stamp(rows: pd.DataFrame) -> str:
    """The line below a benchmark: machine, date, commit and number of rounds."""
    device, date, commit = (rows.attrs[name] for name in ("device", "date", "commit"))
    return f"Measured on {device}, {date[:10]}, commit `{commit}`; medians of {rows['rounds'].min()} rounds."


def agreement_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What each engine's attack reached from the same δ₀ on the largest batch, and the share of the matrix-product ceiling."""
    largest = rows[rows["batch"] == rows["batch"].max()]
    shown = [
        {
            "network": row["case"].replace("-w", " w="),
            "engine": row["engine"],
            "robust accuracy (%)": f"{100 * row['robust_accuracy']:.1f}",
            "largest perturbation": f"{row['max_delta']:.6f}",
            "share of ceiling (%)": f"{100 * row['share_of_ceiling']:.0f}",
        }
        for _, row in largest.iterrows()
    ]
    return pd.DataFrame(shown)


def budget_label(eps: float) -> str:
    """A budget as the paper writes it: 8/255, 0.3."""
    whole = round(255 * eps)
    return f"{whole}/255" if abs(255 * eps - whole) < 1e-9 and len(f"{eps:g}") > 5 else f"{eps:g}"


def share_intervals(rows: pd.DataFrame, column: str) -> list[tuple[float, float]]:
    """Wilson's 95% intervals, in percent, of the counts in `column` out of `n`."""
    return [interval(100 * count / n, int(n)) for count, n in zip(rows[column], rows["n"], strict=True)]


def _percent(value: float) -> str:
    """A probability in percent, never rounded up to 100; "≤0" for a lower bound that says nothing."""
    if value <= 0:
        return "≤0"
    return f"{100 * value:.2f}" if value <= 0.9999 else ">99.99"


_BLANK_EXAMPLE_1 = [dict.fromkeys(("ε", "d", "axis, simulated", "diagonal, simulated"), MISSING)]


def example_1_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Example 1 in percent of all points: exact values, bounds, and the simulation ± half of Wilson's 95% interval.

    `rows`: as `results.tables("example-1")` gives them; of its dimensions some are shown.
    """
    shown = []
    rows = rows[rows["d"].isin((2, 10, 100, 784, 3072))].sort_values(["eps", "d"]) if len(rows) else rows
    for _, row in rows.iterrows():
        d, eps = int(row["d"]), row["eps"]
        shown.append(
            {
                "ε": budget_label(eps),
                "d": str(d),
                "axis: 2ε": f"{100 * theory.axis_robust_error(eps):.2f}",
                "axis, simulated": _simulated(row, "axis"),
                "paper's bound": _percent(theory.diagonal_bound(d, eps)),
                "sharper bound": _percent(theory.diagonal_bound_sharp(d, eps)),
                "normal limit": _percent(theory.diagonal_robust_error_normal(d, eps)),
                "diagonal, exact": _percent(theory.diagonal_robust_error(d, eps)),
                "diagonal, simulated": _simulated(row, "diagonal"),
                "within the cube": _simulated(row, "diagonal_in_cube"),
            }
        )
    return pd.DataFrame(shown or _BLANK_EXAMPLE_1)


def _simulated(row: pd.Series, column: str) -> str:
    low, high = interval(100 * row[column] / row["n"], int(row["n"]))
    return f"{100 * row[column] / row['n']:.2f}\u00a0±\u00a0{(high - low) / 2:.2f}"


def example_1_seen(rows: pd.DataFrame) -> str:
    """What the simulation says of Example 1: Bayes error, agreement with the exact values, and the largest dimension."""
    if rows.empty:
        return f"Not computed yet; {_to_compute(rows)}"
    exact = [100 * theory.diagonal_robust_error(int(d), eps) for d, eps in zip(rows["d"], rows["eps"], strict=True)]
    exact += [100 * theory.axis_robust_error(eps) for eps in rows["eps"]]
    intervals = share_intervals(rows, "diagonal") + share_intervals(rows, "axis")
    held = sum(low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in zip(exact, intervals, strict=True))
    last = rows[rows["d"] == rows["d"].max()].sort_values("eps").iloc[0]
    return (
        f"Moved by T, {rows['bayes'].sum()} of {rows['n'].sum():,} simulated points lie on the wrong side: the Bayes error "
        f"stays 0. Of the {len(exact)} simulated robust errors, {held} have the exact value inside their 95% interval. "
        f"At d = {last['d']} and ε = {budget_label(last['eps'])}, of the same points {100 * last['axis'] / last['n']:.1f}% "
        f"are fooled before T and **{100 * last['diagonal'] / last['n']:.1f}%** after it; "
        f"{100 * last['diagonal_in_cube'] / last['n']:.1f}% where the attack may not leave the cube."
    )


def half_space_bound(row: pd.Series) -> float:
    """The first lower bound of Theorem 2.1 for one simulated half-space, a row of `results.tables("theorem-2.1")`."""
    if row["dataset"] == "cube":
        return theory.cube_concentration(row["eps"], row["mass"])
    return theory.ball_concentration(row["eps"], int(row["d"]), row["mass"])


def concentration_seen(rows: pd.DataFrame) -> str:
    """What the simulated half-spaces say of Theorem 2.1: how many lie above the first bound, and where it is tightest."""
    if rows.empty:
        return f"Not computed yet; {_to_compute(rows)}"
    bounds = np.array([half_space_bound(row) for _, row in rows.iterrows()])
    shares = (rows["inside"] / rows["n"]).to_numpy()
    lows = np.array([low for low, _ in share_intervals(rows, "inside")]) / 100
    # Where all points are inside, the simulation resolves nothing.
    told = shares < 1
    gaps = pd.Series(shares - bounds, index=rows.index)[told]
    text = (
        f"Of {len(rows)} simulated half-spaces, {(shares >= bounds).sum()} lie on or above the first bound, "
        f"{(lows > bounds).sum()} of them with their whole 95% interval"
        f"{'' if (lows > bounds).all() else '; the sample is too small to tell for the others'}."
    )
    for space in theory.SPACES:
        here = gaps[rows.loc[gaps.index, "dataset"] == space]
        if len(here):
            row = rows.loc[here.idxmin()]
            text += (
                f" In the {space} the smallest margin is {100 * here.min():.3f} points "
                f"(d = {row['d']}, along the {row['direction']}, P(A) = {row['mass']:g}, ε = {row['eps']:g})."
            )
    return text


def example_2_table(paper: pd.DataFrame) -> pd.DataFrame:
    """Example 2: the share of points that is misclassified or fooled, at least, from each form of Theorem 2.1, in percent.

    `paper`: `results.published("example-2")`.
    """
    theirs = {name.split("-")[1]: value for name, value in zip(paper["dataset"], paper["value"], strict=True)}
    cube, ball = theory.EXAMPLE_2["cube"], theory.EXAMPLE_2["ball"]
    rows = []
    for space, setting, fraction in (
        ("cube", f"cube, any d, ε = {cube['eps']:g}", theory.cube_vulnerable_fraction),
        ("ball", f"ball, d = {ball['d']}, ε = {ball['eps']:g}", theory.ball_vulnerable_fraction),
    ):
        forms = {form: _percent(fraction(**theory.EXAMPLE_2[space], form=form)) for form in theory.FORMS}
        best = {"form": "last", "constant": theory.BEST_CONSTANT}
        rows.append(
            {
                "ten classes, ℓ2": setting,
                "paper: at least": f"{theirs[space]:.0f}",
                "first inequality": forms["first"],
                "middle form": forms["middle"],
                "last inequality": forms["last"],
                "last, with C = 1/8": _percent(fraction(**ball, **best)) if space == "ball" else "",
            }
        )
    return pd.DataFrame(rows)


def set_label(dataset: str, transform: str, d: int) -> str:
    """A set of points as a reader reads it: "CIFAR10 (JPEG), binarized", "cube, d = 784"."""
    if dataset in theory.SPACES:
        return f"{dataset}, d = {d}"
    return set_name(dataset) if transform == "original" else f"{set_name(dataset)}, {transform_label(transform)}"


def distance_moments(bins: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation of a histogram of distances: columns `left`, `right` and `count`."""
    middle = (bins["left"] + bins["right"]) / 2
    mean = np.average(middle, weights=bins["count"])
    return float(mean), float(np.sqrt(np.average((middle - mean) ** 2, weights=bins["count"])))


def _apart(one: pd.DataFrame, other: pd.DataFrame, units: tuple[float, float]) -> float:
    """The earth mover's (Wasserstein-1) distance of two histograms, each in its unit."""
    middles = [(bins["left"] + bins["right"]) / 2 / unit for bins, unit in zip((one, other), units, strict=True)]
    return float(wasserstein_distance(*middles, one["count"], other["count"]))


def distances_apart(uniform: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """How far each set of distances is from the cube's and the ball's of the same d, by the earth mover's distance.

    One row a set of images, with `dataset`, `transform`, `d`, `mean`, `spread` (standard deviation over mean), and `cube`,
    `ball` with distances over √d, `cube_shape`, `ball_shape` with distances over their own mean. NaN where a space of that d
    is not computed.
    """
    spaces = dict(list(uniform.groupby(["dataset", "d"]))) if len(uniform) else {}
    rows = []
    for (dataset, transform, d), group in images.groupby(["dataset", "transform", "d"], sort=False) if len(images) else ():
        mean, deviation = distance_moments(group)
        row = {"dataset": dataset, "transform": transform, "d": d, "mean": mean, "spread": deviation / mean}
        for space in theory.SPACES:
            other = spaces.get((space, d))
            row[space] = np.nan if other is None else _apart(group, other, (np.sqrt(d), np.sqrt(d)))
            row[f"{space}_shape"] = np.nan if other is None else _apart(group, other, (mean, distance_moments(other)[0]))
        rows.append(row)
    columns = ["dataset", "transform", "d", "mean", "spread", "cube", "ball", "cube_shape", "ball_shape"]
    return pd.DataFrame(rows, columns=columns)


def distance_spreads(uniform: pd.DataFrame, d: int) -> dict[str, float]:
    """Standard deviation over mean of the distances in each space of dimension d."""
    moments = {space: distance_moments(group) for space, group in uniform[uniform["d"] == d].groupby("dataset")}
    return {space: deviation / mean for space, (mean, deviation) in moments.items()}


def example_2_seen(uniform: pd.DataFrame) -> str:
    """Example 2 in one unit, the mean distance of two points, for the d that the paper has in the ball.

    `uniform`: `results.tables("distances-uniform")`.
    """
    cube, ball = theory.EXAMPLE_2["cube"]["eps"], theory.EXAMPLE_2["ball"]["eps"]
    d = theory.EXAMPLE_2["ball"]["d"]
    here = uniform[uniform["d"] == d] if len(uniform) else uniform
    means = {space: distance_moments(group)[0] for space, group in here.groupby("dataset")}
    if means.keys() != set(theory.SPACES):
        return f"Not computed yet; {_to_compute(uniform)}"
    ratio = means["cube"] / means["ball"]
    exchanged = {
        "cube": (ball * ratio, theory.cube_vulnerable_fraction(ball * ratio)),
        "ball": (cube / ratio, theory.ball_vulnerable_fraction(cube / ratio, d)),
    }
    said = (
        f"{f'{_percent(value)}%' if value > 0 else 'nothing'} for the {space}, at ε = {eps:.3g}"
        for space, (eps, value) in exchanged.items()
    )
    return (
        f"With d = {d} (scale {uniform.attrs['scale']}), two points are {means['cube']:.2f} apart in the cube and "
        f"{means['ball']:.3f} in the ball, on average. So ε = {cube:g} in the cube is **{100 * cube / means['cube']:.1f}%** of "
        f"a typical distance, and ε = {ball:g} in the ball **{100 * ball / means['ball']:.1f}%**. Exchange these shares, and "
        f"the first inequalities guarantee {' and '.join(said)}."
    )


def distance_table(uniform: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Pairwise distances: mean, spread, and how far from the cube's and the ball's of the same dimension.

    First the uniform spaces, then the images. The last four columns are `distances_apart`.
    """
    shown = []
    for (space, d), group in uniform.groupby(["dataset", "d"], sort=False) if len(uniform) else ():
        mean, deviation = distance_moments(group)
        shown.append([set_label(space, "original", d), str(d), mean, deviation / mean, *[np.nan] * 4])
    for _, row in distances_apart(uniform, images).iterrows():
        label = set_label(row["dataset"], row["transform"], int(row["d"]))
        apart = [row[name] for name in ("cube", "ball", "cube_shape", "ball_shape")]
        shown.append([label, str(row["d"]), row["mean"], row["spread"], *apart])
    table = [
        {
            "points": label,
            "d": d,
            "mean distance": f"{mean:.2f}",
            "mean / √d": f"{mean / np.sqrt(int(d)):.3f}",
            "spread": f"{100 * spread:.1f}%",
            **dict(zip(("to the cube, / √d", "to the ball, / √d", "to the cube, shape", "to the ball, shape"),
                       (f"{value:.3f}" if np.isfinite(value) else "" for value in apart), strict=True)),
        }
        for label, d, mean, spread, *apart in shown
    ]  # fmt: skip
    return pd.DataFrame(table or [dict.fromkeys(("points", "d", "mean distance", "spread"), MISSING)])


def distance_seen(uniform: pd.DataFrame, images: pd.DataFrame) -> str:
    """The answer to the question that closes Section 2: is CIFAR10 nearer to the ball than to the cube?"""
    apart = distances_apart(uniform, images)
    apart = apart[apart["dataset"].str.startswith("cifar10") & (apart["transform"] == "original") & apart["cube"].notna()]
    if apart.empty:
        return f"Not computed yet; compute it with `{images.attrs['command']}` and `{uniform.attrs['command']}`."
    row = apart.iloc[0]
    name, spreads = set_label(row["dataset"], "original", int(row["d"])), distance_spreads(uniform, int(row["d"]))
    readings = []
    for unit, cube, ball in (
        ("over √d", row["cube"], row["ball"]),
        ("each over its own mean", row["cube_shape"], row["ball_shape"]),
    ):
        verdict = "about as far from both" if math.isclose(cube, ball, rel_tol=0.05) else None
        verdict = verdict or f"nearer to the {'ball' if ball < cube else 'cube'}"
        readings.append(f"{unit}, {cube:.3f} from the cube's and {ball:.3f} from the ball's: **{verdict}**")
    return (
        f"The distances within {name} lie, {'; '.join(readings)}. Their spread is "
        f"**{100 * row['spread']:.1f}%** of their mean; that of uniform points of the cube and the ball in as many dimensions "
        f"{100 * spreads['cube']:.1f}% and {100 * spreads['ball']:.1f}%. "
        + (
            "So the distances give no reason to call it closer to the ball."
            if not any("to the ball**" in reading for reading in readings)
            else "So on one reading at least it is closer to the ball."
        )
    )


# The paper's variant that has the same pixels.
_IN_THE_PAPER = {
    ("mnist", "original"): ("table-2", "original"),
    ("mnist", "binarize"): ("table-2", "binarize"),
    ("cifar10", "original"): ("table-3", "original"),
    ("cifar10", "binarize"): ("table-3", "saturate-inf"),
}


def distance_and_robustness_table(images: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Mean distance and spread beside the paper's robust accuracy, in the order of the mean distance over √d.

    `paper`: `results.published()`; binarized CIFAR10 is its saturation level ∞.
    """
    rows = []
    for _, row in distances_apart(images.iloc[:0], images).iterrows():
        table, variant = _IN_THE_PAPER["cifar10" if row["dataset"].startswith("cifar10") else row["dataset"], row["transform"]]
        robust = paper_values(paper[paper["exhibit"] == table], "pgd", "robust_accuracy")[variant]
        label, mean = set_label(row["dataset"], row["transform"], int(row["d"])), row["mean"] / np.sqrt(row["d"])
        rows.append((label, f"{mean:.3f}", f"{100 * row['spread']:.1f}%", f"{robust:.1f}"))
    columns = ["points", "mean / √d", "spread", "paper's robust accuracy"]
    return pd.DataFrame(sorted(rows, key=lambda row: float(row[1])) or [[MISSING] * 4], columns=columns)


# What the grid calls a thing, and what a reader does.
_WORDS = {
    "lenet5": "LeNet5", "wide_resnet28": "WRN-28", "small_convnet": "ConvNet", "adam": "Adam", "sgd": "SGD",
    "crop-flip": "padded by 4, cropped, flipped",
}  # fmt: skip


def settings_table(exhibit: str, training: str) -> pd.DataFrame:
    """Appendix B: how the exhibit's models of one kind of training are trained and evaluated, at each scale, from the grid.

    A row a setting, a column a scale. ValueError for an unknown exhibit, KeyError for a training that it has not.
    """
    columns = {}
    for scale in grid.SCALES:
        if scale in grid.exhibit(exhibit)["scales"]:
            runs = grid.runs(exhibit, scale)
            first = {run.training: run for run in reversed(runs)}[training]
            columns[scale] = {**_described(first, exhibit), "seeds": str(len({run.seed for run in runs}))}
    return pd.DataFrame(columns).rename_axis("setting").reset_index()


def _described(run: grid.Run, exhibit: str) -> dict[str, str]:
    """A run's settings in words, by what they set; of its evaluations those that the exhibit shows."""
    resolved = grid.settings(run)
    training = resolved["training"]
    epochs = training["steps"] * training["batch_size"] / run.train_size
    found = {
        "data set": resolved["data"]["source"],
        "network": f"{_WORDS[run.model]}, w={run.widen_factor:g}",
        "training images": f"{run.train_size:,}",
        "steps": f"{training['steps']:,} ({epochs:.3g} epochs)",
        "batch size": str(training["batch_size"]),
        "optimizer": _WORDS[training["optimizer"]] + (f", momentum {training['momentum']:g}" if "momentum" in training else ""),
        "learning rate": _schedule(training["lr"], training["schedule"]),
        "weight decay": f"{training['weight_decay']:g}",
        "augmentation": _WORDS.get(training["augment"], training["augment"]),
    }
    if "attack" in resolved:
        attack = resolved["attack"]
        found["attack in training"] = f"{_attack(attack)}, {attack['precision']}"
        found["its budget grows"] = _growth("0", attack)
    if "certificate" in resolved:
        certificate = resolved["certificate"]
        found["budget in training"] = f"ε={budget_label(certificate['eps'])}, {_box(certificate['bounds'])}"
        found["it grows"] = _growth(budget_label(certificate["first_eps"]), certificate)
        found["bounds in training"] = "exact" if certificate["proj"] is None else f"{certificate['proj']} random projections"
    for name in grid.evaluations(run, exhibit):
        found[f"evaluation `{name}`"] = _evaluation(grid.evaluation_settings(run, name))
    return found


def _evaluation(resolved: dict) -> str:
    parts = [_attack(resolved["threat_model"]) if "threat_model" in resolved else "no attack"]
    if "certificate" in resolved:
        parts.append("exact bounds")
    if "ramp" in resolved:
        parts += [f"ramp of slope {resolved['ramp']['slope']:g}", f"Square with {resolved['ramp']['queries']:,} queries"]
    return "; ".join([*parts, f"{resolved['sizes']['test']:,} test and {resolved['sizes']['train']:,} training images"])


def _schedule(lr: float, schedule: str | dict) -> str:
    if isinstance(schedule, dict):
        return "; ".join([f"{lr:g}", *(f"{rate:g} from step {int(step):,}" for step, rate in schedule.items())])
    return f"{lr:g}, constant" if schedule == "constant" else f"{schedule}, up to {lr:g}"


def _attack(attack: dict) -> str:
    start = "random start" if attack["random_start"] else "no random start"
    steps = f"{attack['num_steps']} steps of {budget_label(attack['step_size'])}"
    return f"ε={budget_label(attack['eps'])}, {steps}, {start}, {_box(attack['bounds'])}"


def _box(bounds: Sequence[float] | None) -> str:
    return "no box" if bounds is None else f"within [{bounds[0]:g}, {bounds[1]:g}]"


def _growth(first: str, settings: dict) -> str:
    return f"from {first} over the first {settings['warmup']:.0%} of the steps" if settings["warmup"] else "not"


def network_table(networks: Sequence[tuple[str, float]]) -> pd.DataFrame:
    """The layers of networks on images of MNIST, each (name, widen factor) and a sequence of layers: outputs and parameters."""
    rows = []
    for name, widen_factor in networks:
        label = f"{_WORDS[name]}, w={widen_factor:g}"
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = models.build(name, widen_factor).eval()
            x = torch.zeros(1, *cost.image_shape(name))
            for layer in model:
                x = layer(x)
                rows.append((label, _layer(layer), " × ".join(map(str, x.shape[1:])), _count(layer)))
        rows.append((label, "all layers", "", _count(model)))
    return pd.DataFrame(rows, columns=["network", "layer", "output", "parameters"])


def _count(module: torch.nn.Module) -> str:
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count:,}" if count else ""


def _layer(layer: torch.nn.Module) -> str:
    if isinstance(layer, torch.nn.Conv2d):
        return (
            f"convolution {layer.kernel_size[0]}×{layer.kernel_size[1]}, stride {layer.stride[0]}, padding {layer.padding[0]}"
        )
    if isinstance(layer, torch.nn.MaxPool2d):
        return f"max-pooling {layer.kernel_size}×{layer.kernel_size}"
    return {torch.nn.Linear: "fully connected", torch.nn.ReLU: "ReLU", torch.nn.Flatten: "flattened"}[type(layer)]


def certified_table(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Section 2.2: the LP-robust model, in percent on test images; the paper's numbers beside ours, Δ ours minus the paper's.

    One row a variant. The robust error lies between PGD error and certified error. "–" marks what the paper does not give, or
    what is not computed.
    """
    columns = {
        "clean accuracy": ("clean_accuracy", True),
        "certified error": ("certified_error", True),
        "certified error, no box": ("certified_error_unboxed", False),
        "PGD error": ("robust_accuracy", False),
    }
    block = grid.exhibit(ours.attrs["exhibit"])
    paper = paper[paper["dataset"] == block["dataset"]]
    rows = []
    for transform in block["transform"]:
        row = {"variant": transform_label(transform)}
        for heading, (metric, printed) in columns.items():
            mine, theirs = _as_errors(ours, "lp", metric), paper_values(paper, "lp", metric).get(transform, np.nan)
            if printed:
                row[f"{heading}: paper"] = _number(theirs, "{:.2f}")
            row[f"{heading}: ours{' (Δ)' if printed else ''}"] = _our_cell(mine, transform, theirs)
        rows.append(row)
    return pd.DataFrame(rows)


def _as_errors(ours: pd.DataFrame, training: str, metric: str) -> pd.DataFrame:
    """What `over_seeds` gives; of a robust accuracy the error."""
    found = over_seeds(ours, training, metric)
    if not metric.startswith("robust_accuracy"):
        return found
    return found.assign(mean=100 - found["mean"], low=100 - found["high"], high=100 - found["low"])


def certified_seen(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """Between which two numbers each robust error lies, by the records, and the contrast of Section 2.2."""
    found = {metric: _as_errors(ours, "lp", metric)["mean"].dropna() for metric in ("certified_error", "robust_accuracy")}
    certified, attacked = found.values()
    if not {"binarize", "original"} <= {*certified.index} & {*attacked.index}:
        return f"Not computed yet: both variants are needed; {_to_compute(ours)}"
    theirs = paper_values(paper, "lp", "certified_error")
    ours_apart, theirs_apart = (values["original"] - values["binarize"] for values in (certified, theirs))
    sides = " and ".join(
        f"between {attacked[name]:.1f}% (PGD) and **{certified[name]:.1f}%** (certified) {transform_label(name)}"
        for name in ("binarize", "original")
    )
    unknown = certified - attacked
    return (
        f"At scale {ours.attrs['scale']} the robust error lies {sides}. The certified errors are **{ours_apart:.1f} points** "
        f"apart, the paper's {theirs_apart:.1f}. Between PGD and certificate are {unknown['binarize']:.1f} points binarized, "
        f"{unknown['original']:.1f} original: error that no attack has found and that the bound does not exclude."
    )


# From the metric of an exact certificate to its heading.
_RAMP = {
    "robust_accuracy_bare_pgd": "no ramp: PGD",
    "robust_accuracy_bare_square": "no ramp: Square",
    "clean_accuracy_ramp": "ramp: clean",
    "robust_accuracy_ramp_pgd": "ramp: PGD",
    "robust_accuracy_ramp_bpda": "ramp: BPDA",
    "robust_accuracy_ramp_square": "ramp: Square",
    "certified_error_ramp": "ramp: certified",
}


def _ramp_errors(ours: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every error with a ramp and without, by metric, as `over_seeds` gives it."""
    found = {metric: _as_errors(ours, "standard", metric) for metric in _RAMP}
    clean = found["clean_accuracy_ramp"]
    found["clean_accuracy_ramp"] = clean.assign(mean=100 - clean["mean"], low=100 - clean["high"], high=100 - clean["low"])
    return found


def ramp_table(ours: pd.DataFrame) -> pd.DataFrame:
    """The exact certificate: errors in percent on test images, of a standardly trained classifier without a ramp and with one.

    One row a variant. The last column is the share of images of which PGD's first step changes a pixel.
    """
    errors = _ramp_errors(ours)
    moved = over_seeds(ours, "standard", "moved_by_pgd_ramp")
    rows = []
    for transform in ("binarize", "original"):
        cells = {heading: _our_cell(errors[metric], transform, digits=2) for metric, heading in _RAMP.items()}
        rows.append({"variant": transform_label(transform), **cells, "moved by PGD": _our_cell(moved, transform)})
    return pd.DataFrame(rows)


def ramp_seen(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """What the records show of the exact certificate, beside the paper's LP one."""
    errors = {metric: found["mean"].dropna() for metric, found in _ramp_errors(ours).items()}
    if not all({"binarize", "original"} <= set(values.index) for values in errors.values()):
        return f"Not computed yet: both variants are needed; {_to_compute(ours)}"
    binary, original = ({_RAMP[metric]: found[name] for metric, found in errors.items()} for name in ("binarize", "original"))
    theirs = paper_values(paper, "lp", "certified_error")["binarize"]
    return (
        f"Binarized, scale {ours.attrs['scale']}: behind the ramp the certified error is **{binary['ramp: certified']:.2f}%** "
        f"and the clean error {binary['ramp: clean']:.2f}%, for a classifier that met no adversary in training; the paper's LP "
        f"certificate gives {theirs:.2f}%. Without the ramp PGD brings these weights to {binary['no ramp: PGD']:.1f}% error "
        f"and Square to {binary['no ramp: Square']:.1f}%, so the attacks are not idle. Original: the ramp leaves "
        f"{original['ramp: certified']:.1f}% of the images without a certificate; there PGD finds {original['ramp: PGD']:.1f}% "
        f"error, BPDA **{original['ramp: BPDA']:.1f}%** and Square **{original['ramp: Square']:.1f}%**: what hides the "
        f"gradient stops only the attack that needs it."
    )


def span(row: pd.Series) -> tuple[float, float]:
    """The ends of the error bar of a row of `over_seeds`: the range over several seeds, else Wilson's interval."""
    return (row["low"], row["high"]) if row["seeds"] > 1 else interval(row["mean"], int(row["n"]))


def variants_table(ours: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """The four quantities of variants that the paper prints no numbers of, in percent on test images.

    In brackets the range over seeds where there are several, else the 95% interval over the test images.
    """
    rows = []
    for variant in variants:
        row = {"variant": transform_label(variant)}
        for quantity, (_, heading, _) in QUANTITIES.items():
            row[heading] = _cell_with_span(over_seeds(ours, *quantity), variant)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell_with_span(found: pd.DataFrame, transform: str) -> str:
    if transform not in found.index:
        return MISSING
    row = found.loc[transform]
    if row["seeds"] == 0:
        return row["status"]
    low, high = span(row)
    return f"{row['mean']:.1f} [{low:.1f}, {high:.1f}]"


def seen_variants(ours: pd.DataFrame, variants: Sequence[str]) -> str:
    """One sentence: how far each accuracy moves over variants that the paper prints no numbers of."""
    moved = {}
    for quantity in list(QUANTITIES)[:3]:
        found = over_seeds(ours, *quantity)["mean"].reindex(list(variants)).dropna()
        if len(found) < 2:
            label = QUANTITIES[quantity][0]
            return f"Not computed yet: {label} needs at least two variants, {len(found)} are there; {_to_compute(ours)}"
        moved[quantity] = found
    clean, trained, robust = moved.values()
    ranges = [found.max() - found.min() for found in (clean, trained, robust)]
    return (
        f"Over {len(robust)} of {len(variants)} variants (scale {ours.attrs['scale']}) the clean accuracy of standard training "
        f"moves by **{ranges[0]:.1f} points**, that of PGD training by **{ranges[1]:.1f}**, and robust accuracy by "
        f"**{ranges[2]:.1f}**, from {robust.min():.1f}% ({transform_label(robust.idxmin())}) to {robust.max():.1f}% "
        f"({transform_label(robust.idxmax())})."
    )


FASHION = {"original": "fashion-MNIST", "edges": "edge-fashion-MNIST"}


def fashion_table(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """The six numbers of Figure 3b, in percent on test images: the paper's, ours with its interval, and Δ, their difference.

    In brackets the range over seeds where there are several, else the 95% interval over the test images.
    """
    rows = []
    for transform, name in FASHION.items():
        for quantity in list(QUANTITIES)[:3]:
            theirs = paper_values(paper, *quantity)[transform]
            mine = over_seeds(ours, *quantity)
            there = transform in mine.index and mine.loc[transform, "seeds"] > 0
            rows.append(
                {
                    "data set": name,
                    "quantity": QUANTITIES[quantity][0],
                    "paper": f"{theirs:.1f}",
                    "ours": _cell_with_span(mine, transform),
                    "Δ": f"{mine.loc[transform, 'mean'] - theirs:+.1f}" if there else MISSING,
                }
            )
    return pd.DataFrame(rows)


def seen_fashion(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """What PGD training costs and what the attack takes, of fashion-MNIST and of its edges, beside the paper's numbers."""
    said = []
    for transform, name in FASHION.items():
        mine = [over_seeds(ours, *quantity)["mean"].get(transform, np.nan) for quantity in list(QUANTITIES)[:3]]
        theirs = [paper_values(paper, *quantity)[transform] for quantity in list(QUANTITIES)[:3]]
        if not np.isfinite(mine).all():
            bad = ours[ours["value"].isna() & (ours["transform"] == transform)]["status"]
            why = f" (some are {', '.join(sorted(set(bad)))})" if len(bad) else ""
            return f"Not computed yet: {name} lacks some of its three accuracies{why}; {_to_compute(ours)}"
        said.append(
            f"On {name}, PGD training costs **{mine[0] - mine[1]:.1f} points** of clean accuracy (the paper: "
            f"{theirs[0] - theirs[1]:.1f}), and the attack takes another **{mine[1] - mine[2]:.1f}** (the paper: "
            f"{theirs[1] - theirs[2]:.1f})."
        )
    return f"At scale {ours.attrs['scale']}: {' '.join(said)}"


def claims_table(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Each claim in our words, with its name, and the verdicts on the paper's own numbers and on ours with their evidence.

    `verdicts`: as `claims.verdicts` gives it.
    """
    shown = [
        {
            "claim": f"{row['sentence']} `{row['claim']}`",
            "the paper's own numbers": _verdict(
                row["paper_verdict"].replace("not computed", "no number"), row["paper_evidence"]
            ),
            "ours": _verdict(row["verdict"], row["evidence"]),
        }
        for _, row in verdicts.iterrows()
    ]
    return pd.DataFrame(shown, columns=["claim", "the paper's own numbers", "ours"])


def _verdict(verdict: str, evidence: str) -> str:
    word = f"**{verdict}**" if verdict in ("holds", "fails") else verdict
    return f"{word}: {evidence}"


def claims_seen(verdicts: pd.DataFrame) -> str:
    """How many claims hold, fail and are not computed, on our records and on the paper's own numbers."""
    ours, theirs = (verdicts[name].value_counts() for name in ("verdict", "paper_verdict"))
    failing = ", ".join(f"`{name}`" for name in verdicts.loc[verdicts["verdict"] == "fails", "claim"])
    slips = ", ".join(f"`{name}`" for name in verdicts.loc[verdicts["paper_verdict"] == "fails", "claim"])
    counted = [
        f"holds: {found.get('holds', 0)}, fails: {found.get('fails', 0)}{f' ({failing})' if failing else ''}"
        for found, failing in ((ours, failing), (theirs, slips))
    ]
    absent = [found.get("not computed", 0) for found in (ours, theirs)]
    return (
        f"Of {len(verdicts)} claims, our records say **{counted[0]}**, not computed: {absent[0]}. The paper's own printed "
        f"numbers say {counted[1]}, no number to tell: {absent[1]}."
    )


def capacity_tables(ours: pd.DataFrame, paper: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables 4 and 5: accuracies in percent by widen factor, the paper's beside ours; one table a quantity, by its heading.

    Variants on training images come first, then the same on test images; two columns a width. Over several seeds ours is the
    mean ± half the range. "–" marks what is not computed at this scale, "n/a" what the paper or our copy of it has not.
    """
    widths = sorted({*paper["widen_factor"], *ours["widen_factor"]})
    by = ["transform", "widen_factor"]
    tables = {}
    for quantity in ACCURACIES:
        rows = []
        for split, images in (("train", "training"), ("test", "test")):
            mine, theirs = over_seeds(ours, *quantity, split, by), paper_values(paper, *quantity, split, by)
            for transform in paper["transform"].unique():
                row = {"variant": transform_label(transform), "images": images}
                for width in widths:
                    heading = f"w={f'{width:g}'.removeprefix('0')}"
                    printed = theirs.get((transform, width), np.nan)
                    row[f"{heading} paper"] = f"{printed:.1f}" if np.isfinite(printed) else NOT_IN_PAPER
                    row[f"{heading} ours"] = _our_cell(mine, (transform, width))
                rows.append(row)
        tables[QUANTITIES[quantity][1]] = pd.DataFrame(rows)
    return tables


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


def equal_distance_table(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Table 1: sets of equal inter-class distance, the factors that make them equal, and the robust accuracy on each.

    `distances`: measured distances and solved factors. A smoothed set has no factor. "–" marks what is not computed.
    """
    measured, factors = (measured_values(distances, metric) for metric in ("inter_class_distance", "scale_factor"))
    printed = paper.pivot(index="transform", columns="metric", values="value")
    robust = over_seeds(ours, "pgd", "robust_accuracy")
    rows = []
    for transform in paper["transform"].unique():
        target = transform.rpartition("rescale-to-")[2]
        scaled = transform != target
        theirs = printed.loc[transform]
        rows.append(
            {
                "set": transform_label(transform),
                "distance: paper": f"{printed.loc[target, 'inter_class_distance']:.2f}",
                "distance: ours": _number(measured.get(transform, np.nan), "{:.2f}"),
                "factor: paper": f"{theirs['scale_factor']:.3f}" if scaled else "",
                "factor: ours": _number(factors.get(transform, np.nan), "{:.3f}") if scaled else "",
                "robust: paper": f"{theirs['robust_accuracy']:.1f}",
                "robust: ours (Δ)": _our_cell(robust, transform, theirs["robust_accuracy"]),
            }
        )
    return pd.DataFrame(rows)


def equal_distance_seen(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """One sentence a target of Table 1 on what the records show: how far robust accuracies at one distance lie apart."""
    robust = over_seeds(ours, "pgd", "robust_accuracy")
    robust = robust.loc[robust["seeds"] > 0, "mean"]
    theirs, reached = paper_values(paper, "pgd", "robust_accuracy"), measured_values(distances, "inter_class_distance")
    said = []
    for target in (name for name in paper["transform"].unique() if "rescale-to-" not in name):
        sets = [target, f"rescale-to-{target}", f"binarize+rescale-to-{target}"]
        if not all(name in robust.index for name in sets):
            continue
        mine = robust[sets]
        listed = ", ".join(f"{mine[name]:.1f}% ({transform_label(name)})" for name in sets)
        at = f" ({reached[target]:.2f})" if np.isfinite(reached.get(target, np.nan)) else ""
        said.append(
            f"At the inter-class distance of {transform_label(target)}{at}, robust accuracy is {listed}: **{_width(mine):.1f} "
            f"points** between sets of one distance, in the paper {_width(theirs[sets]):.1f}."
        )
    if not said:
        return f"Not computed yet: a target needs all three of its sets; {_to_compute(ours)}"
    return f"Scale {ours.attrs['scale']}. " + " ".join(said)


def _width(values: pd.Series) -> float:
    return values.max() - values.min()


def volume_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], paper: pd.DataFrame) -> str:
    """What the records show of Section 5.1: how little leaving the box changes, for all that the volumes differ.

    `sets`: from the paper's name of a data set, as in Table 7 (`paper`), to (measured volumes, ours).
    """
    said = []
    for name, (volumes, ours) in sets.items():
        change = _out_of_the_box(over_seeds(ours, *BOXED)["mean"], over_seeds(ours, *UNBOXED)["mean"])
        if change.empty:
            said.append(f"{name.upper()}: not computed yet; {_to_compute(ours)}")
            continue
        rows = paper[paper["dataset"] == name]
        theirs = _out_of_the_box(paper_values(rows, *BOXED), paper_values(rows, *UNBOXED))[change.index]
        bits = _width(measured_values(volumes, "log2_perturbable_volume").reindex(change.index))
        apart = f", whose perturbable volumes differ by up to {bits:.0f} bits" if bits > 0 else ""
        over = f"over {len(change)} variant{'s' * (len(change) > 1)}{apart}"
        said.append(
            f"{name.upper()} (scale {ours.attrs['scale']}): letting the attack leave the box changes robust accuracy by "
            f"**{_from_to(change)} points** {over}; in the paper, over the same, by {_from_to(theirs)}."
        )
    return " ".join(said)


def _from_to(changes: pd.Series) -> str:
    ends = dict.fromkeys(f"{value:+.1f}" for value in (changes.min(), changes.max()))
    return " to ".join(ends)


def _out_of_the_box(boxed: pd.Series, unboxed: pd.Series) -> pd.Series:
    return (unboxed - boxed).dropna()


def growth_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame | None]], axis: str) -> str:
    """What the records show of Section 5.3: how robust accuracy moves from the least to the most of `axis` that is computed.

    `sets`: from a data set's name to (ours, the paper's or None where it prints no number); `axis`: `widen_factor` or
    `train_size`. The paper's moves are over the same variants and the same ends.
    """
    said = []
    for name, (ours, paper) in sets.items():
        robust, trained, clean = (
            _ends(over_seeds(ours, *quantity, split, ["transform", axis])["mean"])
            for quantity, split in ((BOXED, "test"), (BOXED, "train"), (("standard", "clean_accuracy"), "test"))
        )
        if robust.empty:
            said.append(f"{name}: not computed yet, two values at least are needed; {_to_compute(ours)}")
            continue
        gap = (trained - robust).mean()
        low, high = (f"{value:,g}" for value in robust.attrs["ends"])
        theirs = ""
        if paper is not None:
            printed = _ends(paper_values(paper, *BOXED, by=["transform", axis]), robust.attrs["ends"]).reindex(robust.index)
            theirs = f" (the paper's, over the same, by {_moves(printed)})" if len(printed.dropna()) else ""
        steady = f", the clean accuracy of standard training by {_moves(clean)}" if len(clean) else ""
        said.append(
            f"{name} (scale {ours.attrs['scale']}), from {axis.replace('_', ' ')} {low} to {high}: robust accuracy on test "
            f"images moves by **{_moves(robust)}**{theirs}{steady}. The gap between training and test images goes, on average "
            f"over the variants, from {gap['first']:.1f} to {gap['last']:.1f} points of robust accuracy."
        )
    return " ".join(said)


def _ends(values: pd.Series, ends: tuple[float, float] | None = None) -> pd.DataFrame:
    """The first and last value of each transform along the second level of the index, where both are there.

    `ends`, by default the least and the largest value of that level with a number, are kept in `attrs`.
    """
    values = values.dropna()
    along = values.index.get_level_values(1)
    low, high = ends or ((float(along.min()), float(along.max())) if len(along) else (np.nan, np.nan))
    wide = values.unstack().reindex(columns=[low, high]) if low < high else pd.DataFrame(columns=[low, high], dtype=float)
    wide.columns = ["first", "last"]
    wide = wide.dropna()
    wide.attrs["ends"] = (low, high)
    return wide


def _moves(ends: pd.DataFrame) -> str:
    """The least and the largest move between two ends, with the variants' names."""
    moves = (ends["last"] - ends["first"]).dropna()
    least, most = moves.idxmin(), moves.idxmax()
    if f"{moves[least]:+.1f}" == f"{moves[most]:+.1f}":
        return f"{moves[most]:+.1f} points ({' and '.join(map(transform_label, moves.index))})"
    return f"{moves[least]:+.1f} ({transform_label(least)}) to {moves[most]:+.1f} points ({transform_label(most)})"


def schedule_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The simulated schedule of a grid, one row a number of GPUs: `rows` as `cost.schedule` gives them."""
    return pd.DataFrame(
        {
            "GPUs": [str(row["gpus"]) for _, row in rows.iterrows()],
            "runs": [str(row["runs"]) for _, row in rows.iterrows()],
            "GPU-hours": [f"{row['gpu_hours']:,.0f}" for _, row in rows.iterrows()],
            "wall time, hours": [f"{row['wall_hours']:,.1f}" for _, row in rows.iterrows()],
            "GPUs busy": [f"{row['busy']:.0%}" for _, row in rows.iterrows()],
            "longest run, hours": [f"{row['critical_hours']:,.1f}" for _, row in rows.iterrows()],
        }
    )


def schedule_seen(rows: pd.DataFrame) -> str:
    """The assumption behind a simulated schedule, its critical path, and from how many GPUs on more of them are of no use."""
    first, speed = rows.iloc[0], rows.attrs["speed"]
    enough = math.ceil(first["gpu_hours"] / first["critical_hours"])
    return (
        f"Simulated from operations counted on the networks, at {speed / 1e12:g}·10¹² operations a second and GPU, which is "
        f"assumed, not measured: at twice that, half the hours. Runs do not depend on one another, so the critical path is the "
        f"longest of them, `{first['critical'].partition(': ')[2]}`, with {first['critical_hours']:,.1f} hours; more than "
        f"about {enough} GPUs cannot shorten it. The pages and the book, minutes on a processor, come after."
    )
