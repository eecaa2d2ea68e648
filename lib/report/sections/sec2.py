"""Section 2: Example 1, Theorem 2.1 and Example 2, exact and simulated."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib import theory
from lib.report.exhibit import exhibit, published, tables
from lib.report.plot import STYLE, not_yet, share_bars
from lib.report.table import Column, Number, Table
from lib.report.values import PALETTE, share_intervals
from lib.report.words import budget_label, counted, percent, to_compute
from lib.store.intervals import interval


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
    table_rows = []
    rows = rows[rows["d"].isin((2, 10, 100, 784, 3072))].sort_values(["eps", "d"]) if len(rows) else rows
    for _, row in rows.iterrows():
        d, eps = int(row["d"]), row["eps"]
        exact = (
            theory.diagonal_bound(d, eps), theory.diagonal_bound_sharp(d, eps), theory.diagonal_robust_error_normal(d, eps),
            theory.diagonal_robust_error(d, eps),
        )  # fmt: skip
        axis, diagonal, within = (_simulated(row, column) for column in ("axis", "diagonal", "diagonal_in_cube"))
        table_rows.append((eps, d, 100 * theory.axis_robust_error(eps), axis, *exact, diagonal, within))
    return Table(columns, table_rows)


def _simulation(heading: str) -> Column:
    return Column(heading, ".2f", write=lambda cell: f"{cell.value:.2f}\u00a0±\u00a0{(cell.high - cell.low) / 2:.2f}")


def _simulated(row: pd.Series, column: str) -> Number:
    percent = 100 * row[column] / row["n"]
    return Number(percent, *interval(percent, int(row["n"])))


def example_1_summary(rows: pd.DataFrame) -> str:
    """The simulation of Example 1 in a few sentences: Bayes error, agreement with the exact values, the largest dimension."""
    if rows.empty:
        return f"Not computed yet; {to_compute(rows)}"
    exact = [100 * theory.diagonal_robust_error(int(d), eps) for d, eps in zip(rows["d"], rows["eps"], strict=True)]
    exact += [100 * theory.axis_robust_error(eps) for eps in rows["eps"]]
    intervals = share_intervals(rows, "diagonal") + share_intervals(rows, "axis")
    covered = sum(low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in zip(exact, intervals, strict=True))
    last = rows[rows["d"] == rows["d"].max()].sort_values("eps").iloc[0]
    drawn, budgets = rows.drop_duplicates("d"), rows["eps"].nunique()  # the points of a dimension serve for every ε
    again = f" Each point is attacked with {budgets} budgets." if budgets > 1 else ""
    wrong = drawn["bayes"].sum()
    return (
        f"After the map T, {wrong} of {drawn['n'].sum():,} simulated points {'is' if wrong == 1 else 'are'} on the wrong side "
        f"of the boundary: the Bayes error stays 0.{again} The 95% interval contains the exact value for {covered} of the "
        f"{len(exact)} simulated robust errors. At d = {last['d']} and ε = {budget_label(last['eps'])}, the attack fools "
        f"{100 * last['axis'] / last['n']:.1f}% of the points before T and **{100 * last['diagonal'] / last['n']:.1f}%** of "
        f"the same points after it, or {100 * last['diagonal_in_cube'] / last['n']:.1f}% if it may not leave the cube."
    )


def half_space_bound(row: pd.Series) -> float:
    """The first lower bound of Theorem 2.1 for one simulated half-space, a row of `results.tables("theorem-2.1")`."""
    if row["dataset"] == "cube":
        return theory.cube_concentration(row["eps"], row["mass"])
    return theory.ball_concentration(row["eps"], int(row["d"]), row["mass"])


def concentration_summary(rows: pd.DataFrame) -> str:
    """What the simulated half-spaces show about Theorem 2.1: how many are above the first bound, and where it is tightest."""
    if rows.empty:
        return f"Not computed yet; {to_compute(rows)}"
    bounds = np.array([half_space_bound(row) for _, row in rows.iterrows()])
    shares = (rows["inside"] / rows["n"]).to_numpy()
    lows = np.array([low for low, _ in share_intervals(rows, "inside")]) / 100
    # Where all points are inside, the simulation cannot tell how many more would be.
    resolved = shares < 1
    gaps = pd.Series(shares - bounds, index=rows.index)[resolved]
    text = (
        f"Of {len(rows)} simulated half-spaces, {counted((shares >= bounds).sum(), 'is', 'are')} on or above the first bound, "
        f"{(lows > bounds).sum()} of them with the whole 95% interval"
        f"{'' if (lows > bounds).all() else '; for the others the sample is too small to tell'}."
    )
    for space in theory.SPACES:
        of_space = gaps[rows.loc[gaps.index, "dataset"] == space]
        if len(of_space):
            row = rows.loc[of_space.idxmin()]
            text += (
                f" In the {space} the smallest margin is {100 * of_space.min():.3f} points "
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


_MAPS = {
    "split along an axis": lambda points: points,
    "after turning": theory.turn,  # its own inverse
    "after sliding": theory.slide_back,
}


def split_figure(eps: float, *, squares: int = 10, pixels: int = 400) -> Figure:
    """Example 1 in two dimensions: the axis split, and what two measure-preserving maps T make of it.

    The colour is the label. T moves the chequered pattern (`squares` fields each way) and keeps the area of every field.
    The darker points are those that an ℓ∞ budget of `eps` moves over the boundary; their share is printed below.
    """
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        middle = (np.arange(pixels) + 0.5) / pixels
        points = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
        for ax, (title, inverse) in zip(figure.subplots(1, len(_MAPS)), _MAPS.items(), strict=True):
            axis = title == next(iter(_MAPS))
            before = inverse(points)
            # Lighter downwards, so that the picture shows where a map turns the square.
            shade = 0.35 + 0.45 * before[:, 1] + 0.2 * ((before * squares).astype(int).sum(1) % 2)
            label = theory.axis_label(before)
            slack = np.abs(points[:, 0] - 0.5) if axis else np.abs(points.sum(1) / 2 - 0.5)
            colours = np.where(label[:, None], PALETTE[1], PALETTE[0])
            colours = 1 - (1 - colours) * shade[:, None]
            colours = np.where((slack < eps)[:, None], colours * 0.55, colours)
            picture = colours.reshape(pixels, pixels, 3)
            ax.imshow(picture, origin="lower", extent=(0, 1, 0, 1), interpolation="nearest")
            share = theory.axis_robust_error(eps) if axis else theory.diagonal_robust_error(2, eps)
            ax.set(title=title, xlabel=f"fooled within ε = {eps:g}: {100 * share:.0f}%", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            ax.plot(*((0.5, 0.5), (0, 1)) if axis else ((0, 1), (1, 0)), color="black", linewidth=1)
    return figure


_DIAGONAL_CURVES = (
    ("diagonal split, exact", theory.diagonal_robust_error, PALETTE[3], "-"),
    ("its normal limit", theory.diagonal_robust_error_normal, "black", ":"),
    ("sharper bound, 1 - 1/(12dε²)", theory.diagonal_bound_sharp, PALETTE[2], "-"),
    ("the paper's bound, 1 - 1/(4dε²)", theory.diagonal_bound, PALETTE[2], "--"),
)


def example_1_figure(rows: pd.DataFrame) -> Figure:
    """Example 1 over d, one panel an ε: exact robust errors, the bounds, and the simulation with Wilson's 95% intervals.

    `rows`: as `results.tables("example-1")` gives them.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        if rows.empty:
            return not_yet(figure, rows)
        budgets = sorted(rows["eps"].unique())
        axes = np.atleast_1d(figure.subplots(1, len(budgets), sharey=True))
        dimensions = np.unique(np.geomspace(1, rows["d"].max(), 40).round().astype(int)).tolist()
        for ax, eps in zip(axes, budgets, strict=True):
            ax.axhline(100 * theory.axis_robust_error(eps), color=PALETTE[0], label="axis split: 2ε", linewidth=1.4)
            for label, value, colour, style in _DIAGONAL_CURVES:
                values = [100 * value(d, eps) for d in dimensions]
                ax.plot(dimensions, values, style, color=colour, label=label, linewidth=1.4)
            of_budget = rows[rows["eps"] == eps].sort_values("d")
            share_bars(ax, of_budget, "axis", "d", color=PALETTE[0], marker="o", label="axis split, simulated")
            share_bars(ax, of_budget, "diagonal", "d", color=PALETTE[3], marker="o", label="diagonal split, simulated")
            share_bars(
                ax, of_budget, "diagonal_in_cube", "d", color=PALETTE[3], marker="s", markersize=6, markerfacecolor="none",
                label="the same, attacked within the cube",
            )  # fmt: skip
            ax.set(xscale="log", xlabel="dimension d", title=f"ε = {budget_label(eps)}", ylim=(-3, 103))
        axes[0].set_ylabel("points that are fooled (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=8, ncols=3, loc="outside upper center", frameon=False)
    return figure


def concentration_figure(rows: pd.DataFrame) -> Figure:
    """Theorem 2.1: both lower bounds on P(A_ε), dashed as the paper's, and half-spaces A, simulated, one marker a dimension.

    `rows`: as `results.tables("theorem-2.1")` gives them. One row of panels a space, one column a value of P(A).
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.4), layout="constrained")
        if rows.empty:
            return not_yet(figure, rows)
        masses = sorted(rows["mass"].unique())
        spaces = [space for space in theory.SPACES if (rows["dataset"] == space).any()]
        grid = figure.subplots(len(spaces), len(masses), squeeze=False)
        for axes, space in zip(grid, spaces, strict=True):
            for ax, mass in zip(axes, masses, strict=True):
                half_spaces = rows[(rows["dataset"] == space) & (rows["mass"] == mass)]
                _bounds(ax, half_spaces, space, mass)
                groups = half_spaces.groupby("direction" if space == "cube" else "d", sort=False)
                for (name, group), marker, colour in zip(groups, "os", (PALETTE[0], PALETTE[2]), strict=False):
                    label = f"half-space along the {name}" if space == "cube" else f"half-ball, d = {name}"
                    share_bars(ax, group, "inside", "eps", color=colour, marker=marker, label=label, linestyle="none")
                ax.set(title=f"{space}, P(A) = {mass:g}", xlabel="ε, in ℓ2", ylim=(100 * mass - 8 * (1 - mass) * 5, 101))
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "frameon": False}
            for ax in axes:
                ax.legend(fontsize=8, ncols=2, columnspacing=1, **below)
            axes[0].set_ylabel("$P(A_\\epsilon)$ (%)")
    return figure


def _bounds(ax: Axes, rows: pd.DataFrame, space: str, mass: float) -> None:
    """The first and the last bound of a chain over the budgets of `rows`; the ball's for each dimension."""
    budgets = np.linspace(rows["eps"].min() / 10, rows["eps"].max(), 100)
    for form, style, name in (("first", "--", "first inequality"), ("last", "-.", "last inequality")):
        if space == "cube":
            values = [theory.cube_concentration(eps, mass, form=form) for eps in budgets]
            ax.plot(budgets, np.multiply(values, 100), style, color=PALETTE[3], label=f"{name}, any d", linewidth=1.3)
            continue
        for d, colour in zip(sorted(rows["d"].unique().tolist()), (PALETTE[0], PALETTE[2]), strict=False):
            values = [theory.ball_concentration(eps, d, mass, form=form) for eps in budgets]
            ax.plot(budgets, np.multiply(values, 100), style, color=colour, label=f"{name}, d = {d}", linewidth=1.3)


exhibit("splits", split_figure, eps=0.1)
exhibit("example-1", example_1_figure, tables("example-1"))
exhibit("example-1-table", example_1_table, tables("example-1"))
exhibit("example-1-seen", example_1_summary, tables("example-1"))
exhibit("theorem-2.1", concentration_figure, tables("theorem-2.1"))
exhibit("theorem-2.1-seen", concentration_summary, tables("theorem-2.1"))
exhibit("example-2", example_2_table, published("example-2"))
