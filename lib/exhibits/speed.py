"""What speed costs and gains: benchmarks, the precision of the training attack, the worst case, the schedule of a grid."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from lib.exhibits.cells import MISSING, QUANTITIES, cell, code, number, over_seeds, to_compute, transform_label, words


def speed_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Image-steps a second of each engine, median over rounds, and in brackets the ratio to AdverTorch in the same rounds."""
    shown = [
        {
            "network": words(row["case"]).replace("-w", " w="),
            "batch": str(row["batch"]),
            "engine": words(row["engine"]),
            "cell": f"{row['image_steps_per_second']:,.0f} (×{row['ratio_to_advertorch']:.1f})",
        }
        for _, row in rows.iterrows()
    ]
    wide = pd.DataFrame(shown).pivot(index=["network", "batch"], columns="engine", values="cell").reset_index()
    width = wide["network"].str.split("=").str[1].astype(float)
    order = sorted(range(len(wide)), key=lambda i: (wide["network"][i].split("=")[0], width[i], int(wide["batch"][i])))
    return wide.loc[order, ["network", "batch", *map(words, rows["engine"].unique())]].fillna(MISSING).reset_index(drop=True)


def speed_seen(rows: pd.DataFrame) -> str:
    """What the record of a benchmark says of narrow networks, at the batch they train with, and of wide ones."""

    def ratios(case: str, batch: int) -> str:
        (row,) = rows[(rows["case"] == case) & (rows["batch"] == batch) & (rows["engine"] == "lib, float32")].to_dict("records")
        before = f"×{row['ratio_to_before']:.1f} the engine before it, " if row.get("ratio_to_before") else ""
        name = case.replace("lenet5", "LeNet5").replace("wide_resnet28", "WRN-28").replace("-w", " w=")
        return f"{name}, batches of {batch}: {before}×{row['ratio_to_advertorch']:.1f} AdverTorch"

    narrow = [("lenet5-w0.125", 50), ("lenet5-w0.25", 50), ("wide_resnet28-w0.25", 128)]
    wide = [("lenet5-w1", 50), ("wide_resnet28-w1", 128)]
    return (
        f"In float32, the compiled attack on narrow networks: {'; '.join(ratios(*case) for case in narrow)}. "
        f"The framework on wide ones: {'; '.join(ratios(*case) for case in wide)}."
    )


def benchmark_stamp(rows: pd.DataFrame) -> str:
    """The line below a benchmark: machine, date, commit and number of rounds."""
    device, date, commit = (rows.attrs[name] for name in ("device", "date", "commit"))
    before = f"; *before*: the engine of commit {code(rows.attrs['before'])}" if rows.attrs.get("before") else ""
    rounds = rows["rounds"].min()
    return f"Measured on {words(device)}, {words(date[:10])}, commit {code(commit)}; medians of {rounds} rounds{before}."


def agreement_table(rows: pd.DataFrame) -> pd.DataFrame:
    """What each engine's attack reached from the same δ₀ on the largest batch, and the share of the matrix-product ceiling."""
    largest = rows[rows["batch"] == rows["batch"].max()]
    shown = [
        {
            "network": words(row["case"]).replace("-w", " w="),
            "engine": words(row["engine"]),
            "robust accuracy (%)": f"{100 * row['robust_accuracy']:.1f}",
            "largest perturbation": f"{row['max_delta']:.6f}",
            "share of ceiling (%)": f"{100 * row['share_of_ceiling']:.0f}",
        }
        for _, row in largest.iterrows()
    ]
    return pd.DataFrame(shown)


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
        rows.append((transform_label(place[0]), str(place[1]), *cells, number(values[1] - values[0], "{:+.2f}")))
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
        return f"Not computed yet: at least two seeds are needed in both precisions; {to_compute(ours)}"
    verdict = f"The interval leaves out 0 {' and '.join(moved)}: there the precision **did change the result**."
    if not moved:
        verdict = "**Every interval holds 0**; how large an effect could be, their ends say."
    changes, ahead = ", by ".join(said), int((pairs["other"] > pairs["one"]).sum())
    return (
        f"At scale {ours.attrs['scale']}, bfloat16 attacks in training moved robust accuracy by {changes}. {verdict} The model "
        f"trained with bfloat16 attacks is the more robust one in {ahead} of {len(pairs)} pairs (two-sided sign test, if "
        f"pairs were independent: p = {binomtest(ahead, len(pairs)).pvalue:.2g})."
    )


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
            said.append(f"{name}: not computed yet; {to_compute(ours)}")
            continue
        lost = (pairs["one"] - pairs["other"]).rename(transform_label).sort_values()
        most = f"**{lost.iloc[-1]:.1f} points** on {lost.index[-1]}"
        if len(lost) > 1:
            order = "stays" if pairs["one"].rank().equals(pairs["other"].rank()) else "changes"
            most = f"{lost.iloc[0]:.1f} points on {lost.index[0]} to {most}; the order of the variants {order}"
        said.append(f"{name} (scale {ours.attrs['scale']}): the stronger attack takes {most}.")
    return " ".join(said)


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
    return cell(found, transform, lambda row: f"{row['mean']:.1f}")


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
