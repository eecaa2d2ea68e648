"""Section 2: pairwise distances of images beside those of uniform points."""

from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import wasserstein_distance

from lib import theory
from lib.report.claims.judging import nearer
from lib.report.exhibit import exhibit, published, tables
from lib.report.plot import STYLE, not_yet
from lib.report.table import Column, Table
from lib.report.values import PALETTE, paper_column, paper_values
from lib.report.words import set_name, to_compute, transform_label


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


def _distance(first: pd.DataFrame, second: pd.DataFrame, units: tuple[float, float]) -> float:
    """The earth mover's (Wasserstein-1) distance of two histograms, each in its unit."""
    middles = [(bins["left"] + bins["right"]) / 2 / unit for bins, unit in zip((first, second), units, strict=True)]
    return float(wasserstein_distance(*middles, first["count"], second["count"]))


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
            points = spaces.get((space, d))
            row[space] = np.nan if points is None else _distance(group, points, (np.sqrt(d), np.sqrt(d)))
            row[f"{space}_shape"] = np.nan if points is None else _distance(group, points, (mean, distance_moments(points)[0]))
        rows.append(row)
    columns = ["dataset", "transform", "d", "mean", "spread", "cube", "ball", "cube_shape", "ball_shape"]
    return pd.DataFrame(rows, columns=columns)


def distance_spreads(uniform: pd.DataFrame, d: int) -> dict[str, float]:
    """Standard deviation over mean of the distances in each space of dimension d."""
    moments = {space: distance_moments(group) for space, group in uniform[uniform["d"] == d].groupby("dataset")}
    return {space: deviation / mean for space, (mean, deviation) in moments.items()}


def example_2_summary(uniform: pd.DataFrame) -> str:
    """Example 2 in one unit, the mean distance of two points, for the d that the paper has in the ball.

    `uniform`: `results.tables("distances-uniform")`.
    """
    cube, ball = theory.EXAMPLE_2["cube"]["eps"], theory.EXAMPLE_2["ball"]["eps"]
    d = theory.EXAMPLE_2["ball"]["d"]
    of_dimension = uniform[uniform["d"] == d] if len(uniform) else uniform
    means = {space: distance_moments(group)[0] for space, group in of_dimension.groupby("dataset")}
    if means.keys() != set(theory.SPACES):
        return f"Not computed yet; {to_compute(uniform)}"
    return (
        f"With d = {d} (scale {uniform.attrs['scale']}), two points are {means['cube']:.2f} apart in the cube and "
        f"{means['ball']:.3f} in the ball, on average. So ε = {cube:g} in the cube is **{100 * cube / means['cube']:.1f}%** of "
        f"a typical distance, and ε = {ball:g} in the ball **{100 * ball / means['ball']:.1f}%**."
    )


def distance_table(uniform: pd.DataFrame, images: pd.DataFrame) -> Table:
    """Pairwise distances: mean, spread, and how far from the cube's and the ball's of the same dimension.

    First the uniform spaces, then the images. The last four columns are `distances_apart`.
    """
    headings = ("to the cube, / √d", "to the ball, / √d", "to the cube, shape", "to the ball, shape")
    columns = [
        Column("points"), Column("d", "d"), Column("mean distance", ".2f"), Column("mean / √d", ".3f"), Column("spread", ".1%"),
        *(Column(heading, ".3f", absent="") for heading in headings),
    ]  # fmt: skip
    rows = []
    for (space, d), group in uniform.groupby(["dataset", "d"], sort=False) if len(uniform) else ():
        mean, deviation = distance_moments(group)
        rows.append((set_label(space, "original", d), int(d), mean, mean / np.sqrt(d), deviation / mean, *[np.nan] * 4))
    for _, row in distances_apart(uniform, images).iterrows():
        label, d = set_label(row["dataset"], row["transform"], int(row["d"])), int(row["d"])
        distances = [row[name] for name in ("cube", "ball", "cube_shape", "ball_shape")]
        rows.append((label, d, row["mean"], row["mean"] / np.sqrt(d), row["spread"], *distances))
    return Table(columns, rows)


def distance_summary(uniform: pd.DataFrame, images: pd.DataFrame) -> str:
    """The answer to the question at the end of Section 2: is CIFAR10 nearer to the ball than to the cube?"""
    distances = distances_apart(uniform, images)
    distances = distances[
        distances["dataset"].str.startswith("cifar10") & (distances["transform"] == "original") & distances["cube"].notna()
    ]
    if distances.empty:
        return f"Not computed yet; compute it with `{images.attrs['command']}` and `{uniform.attrs['command']}`."
    row = distances.iloc[0]
    name, spreads = set_label(row["dataset"], "original", int(row["d"])), distance_spreads(uniform, int(row["d"]))
    readings = {"over √d": (row["cube"], row["ball"]), "each over its own mean": (row["cube_shape"], row["ball_shape"])}
    verdicts = {unit: nearer(*both) for unit, both in readings.items()}
    comparisons = "; ".join(
        f"{unit}, {cube:.3f} from the cube's and {ball:.3f} from the ball's: "
        f"**{f'nearer to the {verdicts[unit]}' if verdicts[unit] else 'about as far from both'}**"
        for unit, (cube, ball) in readings.items()
    )
    return (
        f"How far the distances within {name} are from those of uniform points (earth mover's distance): {comparisons}. The "
        f"spread is **{100 * row['spread']:.1f}%** of the mean distance; for uniform points in as many dimensions it is "
        f"{100 * spreads['cube']:.1f}% (cube) and {100 * spreads['ball']:.1f}% (ball). "
        + (
            f"So by at least one of these two comparisons {name} is closer to the ball."
            if "ball" in verdicts.values()
            else f"So the distances give no reason to call {name} closer to the ball."
        )
    )


# The paper's variant that has the same pixels.
_IN_THE_PAPER = {
    ("mnist", "original"): ("table-2", "original"),
    ("mnist", "binarize"): ("table-2", "binarize"),
    ("cifar10", "original"): ("table-3", "original"),
    ("cifar10", "binarize"): ("table-3", "saturate-inf"),
}


def distance_and_robustness_table(images: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Mean distance and spread beside the paper's two robust quantities, in the order of the mean distance over √d.

    `paper`: `results.published()`; binarized CIFAR10 is its saturation level ∞. "n/a": the paper has no such variant.
    """
    headings = {
        "robust_accuracy": "paper's robust accuracy",
        "robustness_wrt_predictions": "paper's robustness w.r.t. predictions",
    }
    rows = []
    for _, row in distances_apart(images.iloc[:0], images).iterrows():
        dataset = "cifar10" if row["dataset"].startswith("cifar10") else row["dataset"]
        table, variant = _IN_THE_PAPER.get((dataset, row["transform"]), ("", ""))
        printed = paper[paper["exhibit"] == table]
        robust = [paper_values(printed, "pgd", metric).get(variant, np.nan) for metric in headings]
        label = set_label(row["dataset"], row["transform"], int(row["d"]))
        rows.append((label, row["mean"] / np.sqrt(row["d"]), row["spread"], *robust))
    columns = [Column("points"), Column("mean / √d", ".3f"), Column("spread", ".1%"), *map(paper_column, headings.values())]
    return Table(columns, sorted(rows, key=lambda row: row[1]))


_SPACE_COLOURS = {"cube": "black", "ball": PALETTE[7]}


_SET_COLOURS = {
    ("mnist", "original"): PALETTE[0],
    ("mnist", "binarize"): PALETTE[9],
    ("cifar10", "original"): PALETTE[3],
    ("cifar10", "binarize"): PALETTE[1],
}


def distance_figure(uniform: pd.DataFrame, images: pd.DataFrame) -> Figure:
    """Distributions of pairwise ℓ2 distances: over √d on the left, over their own mean on the right; peaks drawn alike.

    `uniform`, `images`: as `results.tables` gives the two exhibits of distances.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        if uniform.empty and images.empty:
            return not_yet(figure, images)
        axes = figure.subplots(1, 2, sharey=True)
        drawn = pd.concat([frame for frame in (uniform, images) if len(frame)])
        others = cycle(PALETTE[4:7])  # of sets that the paper does not speak of
        for (dataset, transform, d), group in drawn.groupby(["dataset", "transform", "d"], sort=False):
            if dataset in _SPACE_COLOURS:
                colour, style = _SPACE_COLOURS[dataset], "-" if d == drawn["d"].min() else "--"
            else:
                colour, style = (
                    _SET_COLOURS.get(("cifar10" if dataset.startswith("cifar10") else dataset, transform), next(others)),
                    "-",
                )
            label = set_label(dataset, transform, d)
            # Distances of binary images are roots of whole numbers: bins as fine as the record's would show their spacing.
            first = np.arange(0, len(group), 4)
            heights = np.add.reduceat(group["count"].to_numpy(), first)
            edges = np.append(group["left"].to_numpy()[first], group["right"].iloc[-1])
            for ax, unit in zip(axes, (np.sqrt(d), distance_moments(group)[0]), strict=True):
                ax.stairs(heights / heights.max(), edges / unit, color=colour, linestyle=style, label=label, linewidth=1.3)
        axes[0].set(xlabel="distance / √d", ylabel="pairs (peak = 1)")
        axes[1].set(xlabel="distance / mean distance", xlim=(0, 2))
        figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside upper center", frameon=False)
    return figure


_BOTH = tables("distances-uniform"), tables("distances-images")
exhibit("distances", distance_figure, *_BOTH)
exhibit("distance-table", distance_table, *_BOTH)
exhibit("distance-seen", distance_summary, *_BOTH)
exhibit("example-2-seen", example_2_summary, tables("distances-uniform"))
exhibit("distance-robustness", distance_and_robustness_table, tables("distances-images"), published())
