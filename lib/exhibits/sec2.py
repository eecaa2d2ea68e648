"""Section 2: Examples 1 and 2, Theorem 2.1, and pairwise distances of images beside those of uniform points."""

import math

import numpy as np
import pandas as pd
from scipy.stats import wasserstein_distance

from lib import theory
from lib.exhibits.cells import (
    budget_label,
    paper_values,
    percent,
    printed,
    set_name,
    share_intervals,
    to_compute,
    transform_label,
)
from lib.exhibits.table import Column, Number, Table
from lib.intervals import interval


def example_1_table(rows: pd.DataFrame) -> Table:
    """Example 1 in percent of all points: exact values, bounds, and the simulation ± half of Wilson's 95% interval.

    `rows`: as `results.tables("example-1")` gives them; of its dimensions some are shown.
    """
    columns = [
        Column("ε", write=budget_label, left=False), Column("d", "d"), Column("axis: 2ε", ".2f"),
        _simulation("axis, simulated"),
        *(Column(heading, ".2f", write=percent) for heading in ("paper's bound", "sharper bound", "normal limit")),
        Column("diagonal, exact", ".2f", write=percent), _simulation("diagonal, simulated"), _simulation("within the cube"),
    ]  # fmt: skip
    shown = []
    rows = rows[rows["d"].isin((2, 10, 100, 784, 3072))].sort_values(["eps", "d"]) if len(rows) else rows
    for _, row in rows.iterrows():
        d, eps = int(row["d"]), row["eps"]
        exact = (
            theory.diagonal_bound(d, eps), theory.diagonal_bound_sharp(d, eps), theory.diagonal_robust_error_normal(d, eps),
            theory.diagonal_robust_error(d, eps),
        )  # fmt: skip
        axis, diagonal, within = (_simulated(row, column) for column in ("axis", "diagonal", "diagonal_in_cube"))
        shown.append((eps, d, 100 * theory.axis_robust_error(eps), axis, *exact, diagonal, within))
    return Table(columns, shown)


def _simulation(heading: str) -> Column:
    return Column(heading, ".2f", write=lambda cell: f"{cell.value:.2f}\u00a0±\u00a0{(cell.high - cell.low) / 2:.2f}")


def _simulated(row: pd.Series, column: str) -> Number:
    percent = 100 * row[column] / row["n"]
    return Number(percent, *interval(percent, int(row["n"])))


def example_1_seen(rows: pd.DataFrame) -> str:
    """What the simulation says of Example 1: Bayes error, agreement with the exact values, and the largest dimension."""
    if rows.empty:
        return f"Not computed yet; {to_compute(rows)}"
    exact = [100 * theory.diagonal_robust_error(int(d), eps) for d, eps in zip(rows["d"], rows["eps"], strict=True)]
    exact += [100 * theory.axis_robust_error(eps) for eps in rows["eps"]]
    intervals = share_intervals(rows, "diagonal") + share_intervals(rows, "axis")
    held = sum(low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in zip(exact, intervals, strict=True))
    last = rows[rows["d"] == rows["d"].max()].sort_values("eps").iloc[0]
    drawn, budgets = rows.drop_duplicates("d"), rows["eps"].nunique()  # the points of a dimension serve for every ε
    again = f", each attacked with {budgets} budgets," if budgets > 1 else ""
    return (
        f"Moved by T, {drawn['bayes'].sum()} of {drawn['n'].sum():,} simulated points{again} lie on the wrong side: the Bayes "
        f"error stays 0. Of the {len(exact)} simulated robust errors, {held} have the exact value inside their 95% interval. "
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
        return f"Not computed yet; {to_compute(rows)}"
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


def example_2_table(paper: pd.DataFrame) -> Table:
    """Example 2: the share of points that is misclassified or fooled, at least, from each form of Theorem 2.1, in percent.

    `paper`: `results.published("example-2")`.
    """
    theirs = {name.split("-")[1]: value for name, value in zip(paper["dataset"], paper["value"], strict=True)}
    cube, ball = theory.EXAMPLE_2["cube"], theory.EXAMPLE_2["ball"]
    best = theory.ball_vulnerable_fraction(**ball, form="last", constant=theory.BEST_CONSTANT)
    rows = []
    for space, setting, fraction, sharpest in (
        ("cube", f"cube, any d, ε = {cube['eps']:g}", theory.cube_vulnerable_fraction, None),
        ("ball", f"ball, d = {ball['d']}, ε = {ball['eps']:g}", theory.ball_vulnerable_fraction, best),
    ):
        forms = {form: fraction(**theory.EXAMPLE_2[space], form=form) for form in theory.FORMS}
        rows.append((setting, theirs[space], forms["first"], forms["middle"], forms["last"], sharpest))
    headings = ("first inequality", "middle form", "last inequality", "last, with C = 1/8")
    shares = [Column(heading, ".2f", write=percent) for heading in headings]
    return Table([Column("ten classes, ℓ2"), Column("paper: at least", ".0f"), *shares], rows)


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
        return f"Not computed yet; {to_compute(uniform)}"
    ratio = means["cube"] / means["ball"]
    exchanged = {
        "cube": (ball * ratio, theory.cube_vulnerable_fraction(ball * ratio)),
        "ball": (cube / ratio, theory.ball_vulnerable_fraction(cube / ratio, d)),
    }
    said = (
        f"{f'{percent(value)}%' if value > 0 else 'nothing'} for the {space}, at ε = {eps:.3g}"
        for space, (eps, value) in exchanged.items()
    )
    return (
        f"With d = {d} (scale {uniform.attrs['scale']}), two points are {means['cube']:.2f} apart in the cube and "
        f"{means['ball']:.3f} in the ball, on average. So ε = {cube:g} in the cube is **{100 * cube / means['cube']:.1f}%** of "
        f"a typical distance, and ε = {ball:g} in the ball **{100 * ball / means['ball']:.1f}%**. Exchange these shares, and "
        f"the first inequalities guarantee {' and '.join(said)}."
    )


def distance_table(uniform: pd.DataFrame, images: pd.DataFrame) -> Table:
    """Pairwise distances: mean, spread, and how far from the cube's and the ball's of the same dimension.

    First the uniform spaces, then the images. The last four columns are `distances_apart`.
    """
    apart = ("to the cube, / √d", "to the ball, / √d", "to the cube, shape", "to the ball, shape")
    columns = [
        Column("points"), Column("d", "d"), Column("mean distance", ".2f"), Column("mean / √d", ".3f"), Column("spread", ".1%"),
        *(Column(heading, ".3f", absent="") for heading in apart),
    ]  # fmt: skip
    rows = []
    for (space, d), group in uniform.groupby(["dataset", "d"], sort=False) if len(uniform) else ():
        mean, deviation = distance_moments(group)
        rows.append((set_label(space, "original", d), int(d), mean, mean / np.sqrt(d), deviation / mean, *[np.nan] * 4))
    for _, row in distances_apart(uniform, images).iterrows():
        label, d = set_label(row["dataset"], row["transform"], int(row["d"])), int(row["d"])
        apart = [row[name] for name in ("cube", "ball", "cube_shape", "ball_shape")]
        rows.append((label, d, row["mean"], row["mean"] / np.sqrt(d), row["spread"], *apart))
    return Table(columns, rows)


def distance_seen(uniform: pd.DataFrame, images: pd.DataFrame) -> str:
    """The answer to the question that closes Section 2: is CIFAR10 nearer to the ball than to the cube?"""
    apart = distances_apart(uniform, images)
    apart = apart[apart["dataset"].str.startswith("cifar10") & (apart["transform"] == "original") & apart["cube"].notna()]
    if apart.empty:
        return f"Not computed yet; compute it with `{images.attrs['command']}` and `{uniform.attrs['command']}`."
    row = apart.iloc[0]
    name, spreads = set_label(row["dataset"], "original", int(row["d"])), distance_spreads(uniform, int(row["d"]))
    readings = {
        "over √d": (row["cube"], row["ball"]),
        "each over its own mean": (row["cube_shape"], row["ball_shape"]),
    }
    verdicts = {unit: nearer(*both) for unit, both in readings.items()}
    said = "; ".join(
        f"{unit}, {cube:.3f} from the cube's and {ball:.3f} from the ball's: "
        f"**{f'nearer to the {verdicts[unit]}' if verdicts[unit] else 'about as far from both'}**"
        for unit, (cube, ball) in readings.items()
    )
    return (
        f"The distances within {name} lie, {said}. Their spread is "
        f"**{100 * row['spread']:.1f}%** of their mean; that of uniform points of the cube and the ball in as many dimensions "
        f"{100 * spreads['cube']:.1f}% and {100 * spreads['ball']:.1f}%. "
        + (
            "So on one reading at least it is closer to the ball."
            if "ball" in verdicts.values()
            else "So the distances give no reason to call it closer to the ball."
        )
    )


def nearer(cube: float, ball: float) -> str:
    """Which of two distances is the smaller, that to the "cube" or that to the "ball"; "" where they are within 5%."""
    if math.isclose(cube, ball, rel_tol=0.05):
        return ""
    return "ball" if ball < cube else "cube"


# The paper's variant that has the same pixels.
_IN_THE_PAPER = {
    ("mnist", "original"): ("table-2", "original"),
    ("mnist", "binarize"): ("table-2", "binarize"),
    ("cifar10", "original"): ("table-3", "original"),
    ("cifar10", "binarize"): ("table-3", "saturate-inf"),
}


def distance_and_robustness_table(images: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Mean distance and spread beside the paper's robust accuracy, in the order of the mean distance over √d.

    `paper`: `results.published()`; binarized CIFAR10 is its saturation level ∞. "n/a": the paper has no such variant.
    """
    rows = []
    for _, row in distances_apart(images.iloc[:0], images).iterrows():
        dataset = "cifar10" if row["dataset"].startswith("cifar10") else row["dataset"]
        table, variant = _IN_THE_PAPER.get((dataset, row["transform"]), ("", ""))
        robust = paper_values(paper[paper["exhibit"] == table], "pgd", "robust_accuracy").get(variant, np.nan)
        label = set_label(row["dataset"], row["transform"], int(row["d"]))
        rows.append((label, row["mean"] / np.sqrt(row["d"]), row["spread"], robust))
    columns = [Column("points"), Column("mean / √d", ".3f"), Column("spread", ".1%"), printed("paper's robust accuracy")]
    return Table(columns, sorted(rows, key=lambda row: row[1]))
