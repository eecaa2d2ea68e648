"""Tables, and the words around exhibits: badges, stamps and what we see. Tidy frames in, a frame of text out."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from scipy.stats import binomtest, t

PALETTE = sns.color_palette("colorblind")
# (training, metric): label, heading in tables, and colour of the four columns of Tables 2 and 3.
QUANTITIES = {
    ("standard", "clean_accuracy"): ("clean accuracy, standard training", "clean, standard", PALETTE[7]),
    ("pgd", "clean_accuracy"): ("clean accuracy, PGD training", "clean, PGD", PALETTE[0]),
    ("pgd", "robust_accuracy"): ("robust accuracy, PGD training", "robust", PALETTE[3]),
    ("pgd", "robustness_wrt_predictions"): ("robustness w.r.t. predictions, PGD training", "w.r.t. pred.", PALETTE[2]),
}
MISSING = "–"


def transform_label(name: str) -> str:
    """A transform's name as a reader reads it: `smooth-square-3` → "smooth 3 (square)", `saturate-inf` → "saturate ∞"."""
    words = {"binarize": "binarized", "original": "original", "edges": "edges"}
    if found := re.fullmatch(r"smooth-square-(\d+)", name):
        return f"smooth {found[1]} (square)"
    return words.get(name, name.replace("-inf", "-∞").replace("-", " "))


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
        return f"Not computed yet: at least two variants are needed, {len(both)} are there. `{ours.attrs['command']}`"
    steady, moved = clean.loc[both, "mean"], robust.loc[both, "mean"]
    theirs = paper_values(paper, "pgd", "robust_accuracy")[both]
    return (
        f"Over {' and '.join(map(transform_label, both)) if len(both) == 2 else f'the {len(both)} variants computed'} "
        f"(scale {ours.attrs['scale']}), robust accuracy runs from {moved.min():.1f}% ({transform_label(moved.idxmin())}) to "
        f"{moved.max():.1f}% ({transform_label(moved.idxmax())}), a range of **{moved.max() - moved.min():.1f} points**; the "
        f"paper's, over the same variants, is {theirs.max() - theirs.min():.1f}. The clean accuracy of standard training moves "
        f"by **{steady.max() - steady.min():.1f} points**."
    )


def interval(percent: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval, in percent, of an accuracy of `percent` on `n` examples."""
    found = binomtest(round(percent * n / 100), n).proportion_ci(method="wilson")
    return 100 * found.low, 100 * found.high


def over_seeds(ours: pd.DataFrame, training: str, metric: str, split: str = "test") -> pd.DataFrame:
    """Mean, lowest and highest value over seeds, n and status, by transform: `failed` or `stale` where no value is."""
    rows = ours[(ours["training"] == training) & (ours["metric"] == metric) & (ours["split"] == split)]
    grouped = rows.groupby("transform")
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


def paper_values(paper: pd.DataFrame, training: str, metric: str) -> pd.Series:
    """The paper's values of one quantity on test images, by transform."""
    rows = paper[(paper["training"] == training) & (paper["metric"] == metric) & (paper["split"] == "test")]
    return rows.set_index("transform")["value"]


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


def _our_cell(found: pd.DataFrame, transform: str, theirs: float) -> str:
    if transform not in found.index:
        return MISSING
    row = found.loc[transform]
    if row["seeds"] == 0:
        return row["status"]
    spread = f" ± {(row['high'] - row['low']) / 2:.1f}" if row["seeds"] > 1 else ""
    return f"{row['mean']:.1f}{spread} ({row['mean'] - theirs:+.1f})"


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
            said.append(f"{name}: not computed yet; compute it with `{ours.attrs['command']}`.")
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
        return f"Not computed yet: at least two seeds are needed in both precisions. `{ours.attrs['command']}`"
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
