"""The page "Speed": benchmarks, the precision of the attack in training, a stronger attack, and the schedule of a grid."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binomtest, t

from lib.report.exhibit import Source, benchmark, exhibit, runs
from lib.report.plot import STYLE, wrapped
from lib.report.table import MISSING, Column, Number, Table
from lib.report.values import PALETTE, our_number, over_seeds, transforms_of
from lib.report.words import as_code, as_markdown, listed, to_compute, transform_label
from lib.run import cost, groups
from lib.store import grid, results


def speed_table(rows: pd.DataFrame) -> Table:
    """Image-steps a second of each engine, median over rounds, and in brackets the ratio to AdverTorch in the same rounds."""
    engines = list(rows["engine"].unique())
    speeds = {(row["case"], row["batch"], row["engine"]): row for _, row in rows.iterrows()}
    cases = sorted({(row["case"], row["batch"]) for _, row in rows.iterrows()}, key=lambda case: (*_network(case[0]), case[1]))
    columns = [Column("network"), Column("batch", "d"), *(Column(as_markdown(name), ",.0f", write=_speed) for name in engines)]
    broken = failed(rows).index
    table_rows = [
        (
            network_of(case), batch,
            *(
                "the attack fails" if (case, batch, name) in broken else speeds.get((case, batch, name), MISSING)
                for name in engines
            ),
        )
        for case, batch in cases
    ]  # fmt: skip
    return Table(columns, table_rows)


def _network(case: str) -> tuple[str, float]:
    """A case of the benchmark, `lenet5-w0.25`, as name and widen factor."""
    name, _, width = case.partition("-w")
    return name, float(width)


def short_name(case: str) -> str:
    """A case of a benchmark, `lenet5-w0.25`, in a sentence."""
    return case.replace("lenet5", "LeNet5").replace("wide_resnet28", "WRN-28").replace("-w", " w=")


def network_of(case: str) -> str:
    """A case of a benchmark, `lenet5-w0.25`, as a table names it."""
    name, width = _network(case)
    return as_markdown(f"{name} w={width:g}")


def _speed(row: pd.Series) -> str:
    return f"{row['image_steps_per_second']:,.0f} (×{row['ratio_to_advertorch']:.1f})"


def speed_summary(rows: pd.DataFrame) -> str:
    """The speed on narrow networks, at the batch size that they train with, and on wide networks, from a benchmark's record."""

    def ratios(case: str, batch: int) -> str:
        (row,) = rows[(rows["case"] == case) & (rows["batch"] == batch) & (rows["engine"] == "lib, float32")].to_dict("records")
        before = f"{row['ratio_to_before']:.1f} times the earlier engine, " if row.get("ratio_to_before") else ""
        return f"{short_name(case)}, batches of {batch}: {before}{row['ratio_to_advertorch']:.1f} times AdverTorch"

    narrow = [("lenet5-w0.125", 50), ("lenet5-w0.25", 50), ("wide_resnet28-w0.25", 128)]
    wide = [("lenet5-w1", 50), ("wide_resnet28-w1", 128)]
    return (
        f"Speed in float32. The compiled attack, on narrow networks: {'; '.join(ratios(*case) for case in narrow)}. "
        f"The framework, on wide networks: {'; '.join(ratios(*case) for case in wide)}."
    )


def benchmark_stamp(rows: pd.DataFrame) -> str:
    """The line below a benchmark of speed: machine, date, commit and number of rounds."""
    before = f"; *before*: the engine of commit {as_code(rows.attrs['before'])}" if rows.attrs.get("before") else ""
    return f"{measured_on(rows)}; medians of {rows['rounds'].min()} rounds{before}."


def measured_on(rows: pd.DataFrame) -> str:
    """Where a benchmark was measured: machine, date and commit, without a full stop."""
    device, date, commit = (rows.attrs[name] for name in ("device", "date", "commit"))
    return f"Measured on {as_markdown(device)}, {as_markdown(date[:10])}, commit {as_code(commit)}"


def _gpu() -> pd.DataFrame | None:
    """The record of `make gpu`; None where no card has been measured yet."""
    return results.benchmark("pgd-cuda") if "pgd-cuda" in results.benchmarks() else None


def gpu_table(rows: pd.DataFrame | None) -> Table:
    """`speed_table` and the share of the card's own ceiling, one row an engine; without a record no rows."""
    columns = [Column("network"), Column("batch", "d"), Column("engine"), Column("image-steps a second", ",.0f", write=_speed)]
    columns.append(Column("share of ceiling (%)", ".0f"))
    return Table(
        columns,
        [
            (network_of(row["case"]), row["batch"], as_markdown(row["engine"]), row, 100 * row["share_of_ceiling"])
            for _, row in ([] if rows is None else rows.iterrows())
        ],
    )


def gpu_summary(rows: pd.DataFrame | None) -> str:
    """One sentence that names the card of the benchmark, or says that no card has been measured."""
    if rows is None:
        return (
            "**No card has been measured yet.** On a machine with one, `make gpu` runs the tests that only a GPU can pass, "
            "then this benchmark, within ten minutes; it leaves `results/benchmarks/pgd-cuda.json`, which this page then shows."
        )
    return f"{benchmark_stamp(rows)} The ceiling is the speed of a product of two 8192×8192 matrices on the same card."


MARGIN = 10.0  # points


def failed(rows: pd.DataFrame) -> pd.Series:
    """By (case, batch, engine), robust accuracies over 10 points above AdverTorch's: of attacks that did not work."""
    accuracies = rows.set_index(["case", "batch", "engine"])["robust_accuracy"] * 100
    theirs = rows[rows["engine"] == "AdverTorch"].set_index(["case", "batch"])["robust_accuracy"] * 100
    return accuracies[[more > theirs.get(place[:2], np.inf) + MARGIN for place, more in accuracies.items()]]


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


def precision_table(ours: pd.DataFrame) -> Table:
    """Training with bfloat16 attacks beside training with float32 ones, evaluated alike: test images, in percent.

    A seed trains both from the same initial weights, with the same batches and starts, so the differences, bfloat16 minus
    float32, are paired. Seeds that have both count; the failed and stale ones are counted in brackets. The last rows average
    the variants of a seed first, so that its differences count once.
    """
    metrics = {metric: heading for (training, metric), heading in _UNDER_PGD.items() if training == "pgd"}
    columns = [Column("variant"), Column("quantity"), Column("seeds", left=False)]
    columns += [Column(f"{kind}: mean (s.d.)", ".2f", write=with_deviation) for kind in ("float32", "bfloat16")]
    columns += [Column("difference", "+.2f"), Column("95% interval", "+.2f", write=ends)]
    variants = transforms_of(ours) if len(ours) else []
    rows = []
    for transform in [*variants, ALL_VARIANTS] if len(variants) > 1 else variants or [MISSING]:
        for metric, label in metrics.items():
            both = _by_precision(ours, metric)
            pairs, note = _averaged(_pairs(*both)), ""
            if transform != ALL_VARIANTS:
                both = [rows[rows["transform"] == transform] for rows in both]
                statuses = pd.concat(both)["status"].loc[lambda status: status != "recorded"].value_counts()
                pairs, note = _pairs(*both), "".join(f" ({count} {status})" for status, count in statuses.items())
            sides = [(pairs[side].mean(), pairs[side].std()) for side in ("one", "other")]
            difference = Number()
            if len(pairs) > 1:
                difference = Number(*mean_interval(list(pairs["other"] - pairs["one"])))
            rows.append((transform_label(transform), label, f"{len(pairs)}{note}", *sides, difference, difference))
    return Table(columns, rows)


def verdict_of(significant: Sequence[str], cause: str) -> str:
    """What 95% intervals of differences say of their cause: `significant` names those that exclude 0."""
    if significant:
        return f"The interval {listed(significant)} excludes 0: there {cause} **did change the result**."
    return "**Every interval contains 0**; the ends of the intervals say how large an effect could be."


_UNDER_PGD = {
    ("pgd", "clean_accuracy"): "clean accuracy",
    ("pgd", "robust_accuracy"): "robust accuracy",
    ("pgd", "robustness_wrt_predictions"): "robustness w.r.t. predictions",
}


def with_deviation(mean_and_deviation: tuple[float, float]) -> str:
    """A mean with the standard deviation in brackets, where there is one."""
    mean, deviation = mean_and_deviation
    if not math.isfinite(mean):
        return MISSING
    return f"{mean:.2f} ({deviation:.2f})" if math.isfinite(deviation) else f"{mean:.2f}"


def ends(number: Number) -> str:
    """The ends of a number's 95% interval, with their signs."""
    return f"{number.low:+z.2f} to {number.high:+z.2f}" if number.exists else MISSING


def precision_seeds_table(ours: pd.DataFrame) -> Table:
    """The robust accuracies behind `precision_table`, one row a variant and seed."""
    full, low = (rows.set_index(["transform", "seed"]) for rows in _by_precision(ours, "robust_accuracy"))
    rows = []
    for place in full.index.union(low.index, sort=False):
        numbers = [
            Number(frame["value"].get(place, np.nan), status=frame["status"].get(place, "").removeprefix("recorded"))
            for frame in (full, low)
        ]
        rows.append((transform_label(place[0]), int(place[1]), *numbers, numbers[1].value - numbers[0].value))
    columns = [Column("variant"), Column("seed", "d"), Column("float32", ".2f"), Column("bfloat16", ".2f")]
    return Table([*columns, Column("difference", "+.2f")], rows)


def precision_summary(ours: pd.DataFrame) -> str:
    """The paired differences of robust accuracy in words, for each variant and averaged over them."""
    pairs = _pairs(*_by_precision(ours, "robust_accuracy"))
    phrases, significant = [], []
    for transform, rows in [*pairs.groupby("transform", sort=False), (ALL_VARIANTS, _averaged(pairs))]:
        if len(rows) > 1:
            mean, low, high = mean_interval(list(rows["other"] - rows["one"]))
            place = "on average" if transform == ALL_VARIANTS else f"on {transform_label(transform)}"
            phrases.append(f"{mean:+z.2f} points {place} (95% interval {low:+z.2f} to {high:+z.2f}, {len(rows)} seeds)")
            significant += [] if low <= 0 <= high else [place]
    if not phrases:
        return f"Not computed yet: at least two seeds are needed in both precisions; {to_compute(ours)}"
    verdict = verdict_of(significant, "the precision")
    changes, better = ", by ".join(phrases), int((pairs["other"] > pairs["one"]).sum())
    return (
        f"At scale {ours.attrs['scale']}, bfloat16 attacks in training moved robust accuracy by {changes}. {verdict} The model "
        f"trained with bfloat16 attacks is the more robust one in {better} of {len(pairs)} pairs (two-sided sign test, if "
        f"pairs were independent: p = {binomtest(better, len(pairs)).pvalue:.2g})."
    )


def worst_case_table(sets: Mapping[str, pd.DataFrame]) -> Table:
    """The attack of Section 3.2 beside a stronger one, on the same models: test images, in percent, means over seeds.

    In the worst case an image counts as robust only if no iterate of several longer attacks is misclassified. `sets`: from a
    data set's name to ours. Δ is taken over the seeds that have both.
    """
    columns, metrics = [Column("data set"), Column("variant")], {"robust_accuracy": "robust"}
    metrics["robustness_wrt_predictions"] = "w.r.t. pred."
    for heading in metrics.values():
        columns += [Column(f"{heading}: last iterate", ".1f"), Column(f"{heading}: worst case", ".1f", delta=True)]
    rows = []
    for name, ours in sets.items():
        for transform in transforms_of(ours):
            row: list[object] = [name, transform_label(transform)]
            for metric in metrics:
                last, worst = (_mean(over_seeds(ours, "pgd", each), transform) for each in (metric, f"{metric}_worst_case"))
                pairs = _pairs(*_by_attack(ours, metric)).query("transform == @transform")
                change = (pairs["other"] - pairs["one"]).mean()
                row += [last, replace(worst, paper=worst.value - change)]
            rows.append(row)
    return Table(columns, rows)


def _mean(estimates: pd.DataFrame, transform: str) -> Number:
    return replace(our_number(estimates, transform), half=math.nan)


def worst_case_summary(sets: Mapping[str, pd.DataFrame]) -> str:
    """How much the stronger attack lowers robust accuracy, and whether the variants keep their order, one sentence a set."""
    sentences = []
    for name, ours in sets.items():
        pairs = _pairs(*_by_attack(ours, "robust_accuracy")).groupby("transform", sort=False)[["one", "other"]].mean()
        if pairs.empty:
            sentences.append(f"{name}: not computed yet; {to_compute(ours)}")
            continue
        losses = (pairs["one"] - pairs["other"]).rename(transform_label).sort_values()
        range_text = f"**{losses.iloc[-1]:.1f} points** on {losses.index[-1]}"
        if len(losses) > 1:
            order = "stays" if pairs["one"].rank().equals(pairs["other"].rank()) else "changes"
            range_text = f"{losses.iloc[0]:.1f} points on {losses.index[0]} to {range_text}; the order of the variants {order}"
        sentences.append(f"{name} (scale {ours.attrs['scale']}): the stronger attack lowers robust accuracy by {range_text}.")
    return " ".join(sentences)


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
    complete = pairs.groupby("seed").filter(lambda rows: len(rows) == variants > 1)
    return complete.groupby("seed")[["one", "other"]].mean()


def schedule_table(rows: pd.DataFrame) -> Table:
    """The simulated schedule of a grid, one row a number of GPUs: `rows` as `groups.schedule` gives them."""
    columns = {
        "gpus": Column("GPUs", "d"), "runs": Column("runs", "d"), "groups": Column("groups", "d"),
        "gpu_hours": Column("GPU-hours", ",.0f"), "wall_hours": Column("wall time, hours", ",.1f"),
        "busy": Column("GPUs busy", ".0%"), "critical_hours": Column("longest group, hours", ",.1f"),
    }  # fmt: skip
    return Table(list(columns.values()), [[row[name] for name in columns] for row in rows.to_dict("records")])


def schedule_summary(rows: pd.DataFrame) -> str:
    """The assumptions of a simulated schedule, its critical path, and the number of GPUs beyond which more do not help."""
    first = rows.iloc[0]
    gpus = math.ceil(first["gpu_hours"] / first["critical_hours"])
    return (
        f"**All hours are estimates: no card has been timed yet.** Operations, launches and memory traffic are counted on the "
        f"networks; what a GPU reaches is assumed: {cost.ASSUMED / 1e12:g}·10¹² operations a second in float32, "
        f"{cost.MEMORY / 1e12:g}·10¹² bytes a second to and from its memory, and {cost.LAUNCH * 1e6:g} millionths of a second "
        f"a launch. A step takes as long as the slowest of the three, and no less than the processor needs to draw the runs' "
        f"batches, {cost.DRAW * 1e6:g} millionths of a second a run. A group is counted with as many launches as a single run, "
        f"so it saves time where networks are narrow; cuDNN may split a group's convolutions into more. If each run were "
        f"trained alone, the grid would take {first['alone_hours']:,.0f} GPU-hours instead of {first['gpu_hours']:,.0f}. "
        f"LeNet5 with w ≤ 0.25 would take {first['narrow_alone_hours']:.1f} instead of {first['narrow_hours']:.1f}. Nearly all "
        f"hours are those of wider networks, which compute for most of their time, alone or together. A group is split where "
        f"it would need more than 80 GB of memory (also an estimate) or more than twice the time of one of its runs. Groups do "
        f"not depend on one another, so the critical path is the longest group, that of "
        f"`{first['critical'].partition(': ')[2]}`, with {first['critical_hours']:,.1f} hours; more than about {gpus} GPUs "
        f"cannot shorten it. The pages and the book are built afterwards, in minutes on a processor."
    )


def speed_figure(rows: pd.DataFrame, batch: int = 128) -> Figure:
    """Speed relative to AdverTorch at one batch size, one group of bars a network."""
    with mpl.rc_context(STYLE):
        chosen = rows[rows["batch"] == batch]
        engines, cases = list(chosen["engine"].unique()), list(chosen["case"].unique())
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        ax = figure.subplots()
        width = 0.8 / len(engines)
        for i, engine in enumerate(engines):
            ratios = chosen[chosen["engine"] == engine].set_index("case")["ratio_to_advertorch"].reindex(cases)
            ax.bar(np.arange(len(cases)) + (i + 0.5) * width - 0.4, ratios, width, label=engine, color=PALETTE[i])
        ax.axhline(1, color="grey", linewidth=0.8)
        ax.set_xticks(range(len(cases)), [short_name(case).replace(" ", "\n") for case in cases])
        ax.set(ylabel="speed, AdverTorch = 1")
        ax.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        parts = [f"batch {batch}", rows.attrs["device"], rows.attrs["date"][:10], f"commit {rows.attrs['commit']}"]
        figure.supxlabel(wrapped(" · ".join(parts)), fontsize=8, color="dimgrey", parse_math=False)
    return figure


def fused_summary(run: grid.Run) -> str:
    """What one kernel for all steps of the attack is estimated to gain, and why there is none; `run`: any of LeNet5 by PGD."""

    def gains(width: float) -> str:
        one, ten = (cost.fused_gain(replace(run, widen_factor=width), members=members) for members in (1, 10))
        return f"{one:.1f} times as fast for a run alone and {ten:.1f} times for ten together at w={width:g}"

    return (
        f"One kernel, written for LeNet5, could take all steps of an attack in a single launch. **There is none here.** No "
        f"card was available to check and time it. By the counts and assumptions of the schedule on the page How to "
        f"reproduce it would make training at most {gains(0.125)}, and {gains(0.25)}. Training narrow networks together "
        f"comes nearly as close to the ceiling, without code for one network alone."
    )


_CPU, _WORST = benchmark("pgd-cpu"), {"MNIST": runs("worst-case-mnist"), "CIFAR10": runs("worst-case-cifar10")}
exhibit("speed-figure", speed_figure, _CPU)
exhibit("speed-table", speed_table, _CPU)
exhibit("speed-seen", speed_summary, _CPU)
exhibit("speed-stamp", benchmark_stamp, _CPU)
_GPU = Source(lambda page: _gpu(), has_badge=False)
exhibit("speed-gpu", gpu_table, _GPU)
exhibit("speed-gpu-seen", gpu_summary, _GPU)
_LENET5 = Source(lambda page: next(run for run in grid.runs("table-2", "paper") if run.training == "pgd"), has_badge=False)
exhibit("speed-fused-seen", fused_summary, _LENET5)
exhibit("precision", precision_table, runs("precision"))
exhibit("precision-seeds", precision_seeds_table, runs("precision"))
exhibit("precision-seen", precision_summary, runs("precision"))
exhibit("worst-case", worst_case_table, _WORST)
exhibit("worst-case-seen", worst_case_summary, _WORST)
_SCHEDULE = Source(lambda page: groups.schedule(grid.all_runs("paper"), gpus=(1, 8, 64)), has_badge=False)
exhibit("schedule", schedule_table, _SCHEDULE)
exhibit("schedule-seen", schedule_summary, _SCHEDULE)
