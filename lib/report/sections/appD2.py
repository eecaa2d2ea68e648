"""Appendix D.2: distances between classes for each variant, networks that separate spheres, and the linear case."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import rankdata, spearmanr

from lib import geometry
from lib.report.exhibit import exhibit, measurements, published, runs, tables
from lib.report.plot import STYLE, error_bars, not_yet, shades
from lib.report.table import Column, Number, Table
from lib.report.values import PALETTE, measured_numbers, measured_values, over_seeds, paper_values, transforms_of
from lib.report.words import counted, listed, set_name, to_compute, transform_label
from lib.store import grid


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
    correlations = (centred[0] * centred[1]).sum(1)[sizes > 0] / sizes[sizes > 0]
    low, high = np.quantile(correlations, (0.025, 0.975))
    return float(spearmanr(both["x"], both["y"]).statistic), float(low), float(high), len(both)


def correlation_label(x: pd.Series, y: pd.Series) -> str:
    """`rank_correlation` in words."""
    rho, low, high, n = rank_correlation(x, y)
    if not n:
        return "not computed yet"
    if not np.isfinite(rho):
        return f"{counted(n, 'variant')}, too few for a rank correlation"
    return f"ρ = {rho:+z.2f} [{low:+z.2f}, {high:+z.2f}] over {n} variants"


def distance_correlation_summary(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]) -> str:
    """Spearman's correlation of inter-class distance and robust accuracy, with our accuracies and with the paper's.

    `sets`: from the paper's name of a data set to (measured distances, ours, the paper's). The distances are always ours.
    """
    sentences = []
    for name, (distances, ours, paper) in sets.items():
        measured = measured_values(distances, "inter_class_distance")
        if measured.dropna().empty:
            sentences.append(f"{set_name(name)}: not computed yet; {to_compute(distances)}")
            continue
        with_the_paper = correlation_label(measured, paper_values(paper, "pgd", "robust_accuracy"))
        with_ours = correlation_label(measured, over_seeds(ours, "pgd", "robust_accuracy")["mean"])
        label = set_name(distances["dataset"].iloc[0])
        sentences.append(f"{label}: with the paper's robust accuracies **{with_the_paper}**; with ours {with_ours}.")
    return " ".join(sentences)


def linf_table(sets: Sequence[pd.DataFrame]) -> Table:
    """Appendix D.2.1: ℓ∞ distances of all pairs of test images of different classes: how near to 1 they are."""
    quantities = {
        "linf_distance_smallest": Column("smallest", ".3f"),
        "linf_distance_percentile_1": Column("1st percentile", ".3f"),
        "linf_distance_median": Column("median", ".3f"),
        "linf_distance_share_above_0.9": Column("share above .9", ".1%"),
    }
    rows = []
    for measured in sets:
        label = set_name(measured["dataset"].iloc[0] if len(measured) else grid.exhibit(measured.attrs["exhibit"])["dataset"])
        images = measured.groupby("transform")["n"].first()
        for transform in transforms_of(measured):
            numbers = [measured_numbers(measured, metric).get(transform, Number()) for metric in quantities]
            rows.append((label, transform_label(transform), *numbers, images.get(transform, np.nan)))
    return Table([Column("data set"), Column("variant"), *quantities.values(), Column("images", "g")], rows)


def _most(share: float) -> str:
    """A percentage with one decimal; of a share that is not whole, but would round to it, ">99.9%"."""
    return ">99.9%" if 99.95 <= share < 100 else f"{share:.1f}%"


def linf_summary(sets: Sequence[pd.DataFrame]) -> str:
    """How close to 1 the ℓ∞ distances are, set by set: the variant with the fewest above .9 and the one with the most."""
    sentences = []
    for measured in sets:
        shares = 100 * measured_values(measured, "linf_distance_share_above_0.9").dropna()
        if shares.empty:
            name = set_name(grid.exhibit(measured.attrs["exhibit"])["dataset"])
            sentences.append(f"{name}: not computed yet; {to_compute(measured)}")
            continue
        middle = measured_values(measured, "linf_distance_median")
        ends = [
            f"{_most(shares[name])} on {transform_label(name)} (median {middle[name]:.3f})"
            for name in dict.fromkeys((shares.idxmin(), shares.idxmax()))
        ]
        sentences.append(
            f"{set_name(measured['dataset'].iloc[0])} (scale {measured.attrs['scale']}): the share of pairs with a distance "
            f"above .9 is {listed(ends)}."
        )
    return " ".join(sentences)


SEPARATED = 0.99  # share of the points that a network must classify correctly to count as separating two spheres


_METRICS = {"clean": "clean_accuracy", "robust": "robust_accuracy"}


def facets_table(rows: pd.DataFrame, dimension: int) -> Table:
    """Theorem D.1 beside the networks: how many facets a polytope needs between the spheres, and how many units suffice.

    `rows`: as `results.tables("figure-6")` gives them. For the data as they are, and for what an ℓ2 budget of eps leaves of the
    gap. In two dimensions the fewest sides are known exactly; else e^(n/(2d²)) is a lower bound. ">64":
    none of the widths tried, which go up to 64.
    """
    columns = [Column("gap", "g")]
    for label in _METRICS:
        columns.append(Column(f"{label}: ratio of radii", ".2f"))
        columns.append(Column(f"{label}: sides needed", "d") if dimension == 2 else Column(f"{label}: facets, at least", ".1f"))
        columns.append(Column(f"{label}: fewest units that sufficed", "d"))
    table_rows = []
    of_dimension = rows[rows["d"] == dimension] if len(rows) else rows
    for gap, of_gap in of_dimension.groupby("gap") if len(of_dimension) else ():
        row = [gap]
        for label, metric in _METRICS.items():
            ratio = geometry.ratio_of_radii(gap, of_gap["eps"].iloc[0] if label == "robust" else 0.0)
            widths = of_gap[of_gap[metric] >= SEPARATED]["width"]  # after either training: what such a network can do
            units_needed = geometry.polygon_sides(ratio) if dimension == 2 else geometry.facets_needed(dimension, ratio)
            row += [ratio, units_needed, int(widths.min()) if len(widths) else f">{of_gap['width'].max()}"]
        table_rows.append(row)
    return Table(columns, table_rows)


def spheres_summary(rows: pd.DataFrame) -> str:
    """The narrowest network that separated two spheres, clean and robustly, at the largest and at the smallest gap."""
    if rows.empty:
        return f"Not computed yet; {to_compute(rows)}"
    sentences = []
    for dimension, of_dimension in rows.groupby("d"):
        ends = []
        for gap in (of_dimension["gap"].max(), of_dimension["gap"].min()):
            of_gap = of_dimension[of_dimension["gap"] == gap]
            widths = [of_gap[of_gap[metric] >= SEPARATED]["width"].min() for metric in _METRICS.values()]
            none_of_these = f"more than {of_dimension['width'].max()} units"
            clean, robust = (counted(round(width), "unit") if np.isfinite(width) else none_of_these for width in widths)
            ends.append(f"{clean} for clean points and {robust} under attack, at a gap of {gap:g}")
        sentences.append(
            f"In {dimension} dimensions the narrowest network tried that separates the spheres has {'; '.join(ends)}."
        )
    both = rows.pivot_table(index=["d", "width", "gap"], columns="training", values=["clean_accuracy", "robust_accuracy"])
    gains = 100 * (both["robust_accuracy", "pgd"] - both["robust_accuracy", "standard"])
    losses = 100 * (both["clean_accuracy", "standard"] - both["robust_accuracy", "pgd"])
    place = dict(zip(("d", "width", "gap"), losses.idxmax(), strict=True))
    return (
        f"{' '.join(sentences)} Adversarial training changes robust accuracy by {gains.min():+z.1f} to {gains.max():+z.1f} "
        f"points. Its robust accuracy is at most **{losses.max():.1f} points** below the clean accuracy of standard training "
        f"(width {place['width']}, gap {place['gap']:g}, {place['d']} dimensions)."
    )


def linear_margin_summary(rows: pd.DataFrame) -> str:
    """How much of the largest margin a linear classifier reaches by standard training, and by adversarial training."""
    if rows.empty:
        return f"Not computed yet; {to_compute(rows)}"
    shares, budgets = (100 * rows[name] / rows["largest_margin"] for name in ("margin", "eps"))
    best = shares.idxmax()
    return (
        f"Standard training reaches {shares[budgets.idxmin()]:.0f}% of the largest possible margin (that of a support vector "
        f"machine). Adversarial training with ε at {budgets[best]:.0f}% of that margin reaches **{shares[best]:.0f}%** "
        f"({rows['n'].iloc[0]} points, {rows['d'].iloc[0]} dimensions)."
    )


def distance_bars(sets: Sequence[pd.DataFrame]) -> Figure:
    """Figure 5, above: the inter-class distance of each variant's test images, one panel a data set."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        present = [rows for rows in sets if len(rows)]
        if not present:
            return not_yet(figure, sets[0])
        blocks = [transforms_of(rows) for rows in present]
        axes = np.atleast_1d(figure.subplots(1, len(present), width_ratios=[len(names) + 3 for names in blocks]))
        for ax, rows, names in zip(axes, present, blocks, strict=True):
            values = measured_values(rows, "inter_class_distance").reindex(names)
            ax.bar(range(len(names)), values, color=PALETTE[0], width=0.7)
            ax.set_xticks(range(len(names)), [transform_label(name) for name in names], rotation=60, ha="right", fontsize=8)
            ax.set_title(set_name(rows["dataset"].iloc[0]), fontsize=9)
            ax.set_ylim(0.9 * values.min(), 1.02 * values.max())
            ax.grid(axis="x", visible=False)
        axes[0].set_ylabel("inter-class distance (ℓ2)")
    return figure


def distance_scatter(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]) -> Figure:
    """Figure 5, below: inter-class distance against robust accuracy, one panel a data set; filled ours, hollow the paper.

    `sets`: from the paper's name of a data set to (measured distances, ours, the paper's). The distances are always ours; the
    bars are those of Figure 2. In the legend Spearman's rank correlation with its bootstrap interval.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        present = {name: frames for name, frames in sets.items() if len(frames[0])}
        if not present:
            return not_yet(figure, next(iter(sets.values()))[0])
        axes = np.atleast_1d(figure.subplots(1, len(present)))
        for ax, (distances, ours, paper) in zip(axes, present.values(), strict=True):
            measured = measured_values(distances, "inter_class_distance").dropna()
            theirs = paper_values(paper, "pgd", "robust_accuracy").reindex(measured.index)
            estimates = over_seeds(ours, "pgd", "robust_accuracy")
            estimates = estimates[estimates["seeds"] > 0]
            estimates = estimates[estimates.index.isin(measured.index)]
            ax.plot(
                measured, theirs, "o", markerfacecolor="none", color="grey",
                label=f"the paper: {correlation_label(measured, theirs)}",
            )  # fmt: skip
            for name in _points_with_room(measured, theirs):
                short_label = transform_label(name).replace("smooth ", "s").replace("saturate ", "")
                point = (measured[name], theirs[name])
                ax.annotate(short_label, point, (3, -8), textcoords="offset points", fontsize=8, color="dimgrey")
            ax.errorbar(
                measured[estimates.index], estimates["mean"], yerr=error_bars(estimates), fmt="o", color=PALETTE[3],
                markersize=4, capsize=2,
                label=f"ours: {correlation_label(measured, estimates['mean'])}",
            )  # fmt: skip
            ax.set(title=set_name(distances["dataset"].iloc[0]), xlabel="inter-class distance of test images (ℓ2)")
            ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.08), frameon=False)
        axes[0].set_ylabel("robust accuracy (% of test images)")
    return figure


def _points_with_room(x: pd.Series, y: pd.Series) -> list[str]:
    """Those of the points, `original` first, that lie at least 6% of the panel from every one before: room for their labels."""
    points = pd.DataFrame({"x": x, "y": y}).dropna()
    points = (points - points.min()) / (points.max() - points.min())
    chosen: list[str] = []
    for name in sorted(points.index, key=lambda name: name != "original"):
        if all(np.hypot(*(points.loc[name] - points.loc[other])) >= 0.06 for other in chosen):
            chosen.append(name)
    return chosen


_TRAININGS = {"standard": "standard training", "pgd": "adversarial training"}


def boundary_figure(rows: pd.DataFrame) -> Figure:
    """Figure 6, computed: two circles, what a budget of ε makes of them, and the boundary that a network draws, by panel.

    `rows`: as `results.tables("figure-6-boundaries")` gives them. Under each panel the points it gets right, of both circles.
    """
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        if rows.empty:
            return not_yet(figure, rows)
        panels = list(rows.groupby("panel"))
        turn = np.linspace(0, 2 * np.pi, 181)
        for ax, (_, boundary) in zip(figure.subplots(1, len(panels), sharex=True, sharey=True), panels, strict=True):
            setting = boundary.iloc[0]
            for radius, colour in ((1.0, PALETTE[0]), (1 + setting["gap"], PALETTE[1])):
                ax.plot(radius * np.cos(turn), radius * np.sin(turn), color=colour, linewidth=1.2)
                inner, outer = radius - setting["eps"], radius + setting["eps"]
                ring = [np.concatenate([outer * f(turn), inner * f(turn[::-1])]) for f in (np.cos, np.sin)]
                ax.fill(*ring, color=colour, alpha=0.25, linewidth=0)
            closed = pd.concat([boundary, boundary.iloc[:1]])
            ax.plot(closed["radius"] * np.cos(closed["angle"]), closed["radius"] * np.sin(closed["angle"]), "k", linewidth=1.4)
            ax.set_title(f"gap {setting['gap']:g}, {setting['width']} units,\n{_TRAININGS[setting['training']]}", fontsize=8)
            accuracies = " · ".join(f"{kind} {100 * setting[f'{kind}_accuracy']:.1f}%" for kind in ("clean", "robust"))
            ax.set_xlabel(accuracies, fontsize=8)
            ax.set(aspect="equal", xticks=[], yticks=[])
            for side in ax.spines.values():
                side.set_visible(False)
    return figure


def spheres_figure(rows: pd.DataFrame) -> Figure:
    """Appendix D.2.2 in numbers: what networks of each width get right as the gap between two spheres closes, by dimension.

    `rows`: as `results.tables("figure-6")` gives them. Solid: clean accuracy of standard training; dashed: robust accuracy of
    adversarial training. Above over the gap itself; below over the gap that is left once ε has moved both spheres, with the
    inner one's radius as the unit.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.0), layout="constrained")
        if rows.empty:
            return not_yet(figure, rows)
        dimensions = sorted(rows["d"].unique())
        grid_of_axes = figure.subplots(2, len(dimensions), squeeze=False, sharey=True, sharex=True)
        for column, dimension in zip(grid_of_axes.T, dimensions, strict=True):
            of_dimension = rows[rows["d"] == dimension]
            widths = sorted(of_dimension["width"].unique())
            for width, colour in zip(widths, shades(len(widths)), strict=True):
                for training, metric, style in (("standard", "clean_accuracy", "-"), ("pgd", "robust_accuracy", "--")):
                    of_width = of_dimension[
                        (of_dimension["width"] == width) & (of_dimension["training"] == training)
                    ].sort_values("gap")
                    eps = of_width["eps"] if training == "pgd" else 0 * of_width["eps"]
                    gaps_left = [
                        geometry.ratio_of_radii(gap, budget) - 1 for gap, budget in zip(of_width["gap"], eps, strict=True)
                    ]
                    for ax, x in zip(column, (of_width["gap"], gaps_left), strict=True):
                        ax.plot(x, 100 * of_width[metric], f"o{style}", color=colour, markersize=3, linewidth=1.3)
                column[0].plot([], [], color=colour, label=f"{width} units")
            column[0].set_title(f"{dimension} dimensions", pad=22)
            column[0].set_xlabel("gap between the spheres")
            column[1].set_xlabel("gap that is left")
            above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False, "columnspacing": 0.8}
            column[0].legend(fontsize=8, ncols=len(widths), handlelength=1, handletextpad=0.4, **above)
        for ax in grid_of_axes[:, 0]:
            ax.set_ylabel("points of both spheres (%)")
        styles = []
        for style, label in (("-", "clean accuracy, standard training"), ("--", "robust accuracy, adversarial training")):
            styles.append(Line2D([], [], linestyle=style, color="grey", label=label))
        figure.legend(handles=styles, fontsize=8, ncols=2, loc="outside upper center", frameon=False)
    return figure


def linear_margin_figure(rows: pd.DataFrame) -> Figure:
    """Appendix D.2.2, the linear case: the margin that training reaches, over its budget, as shares of the largest margin."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        if rows.empty:
            return not_yet(figure, rows)
        ax = figure.subplots()
        rows = rows.sort_values("eps")
        ax.plot(
            rows["eps"] / rows["largest_margin"], rows["margin"] / rows["largest_margin"], "o-", color=PALETTE[0], markersize=4
        )
        ax.axhline(1, color="grey", linewidth=0.8, linestyle="--", label="the largest margin (support vector machine)")
        ax.set(xlabel="budget ε of adversarial training / largest margin", ylabel="margin / largest margin")
        ax.legend(fontsize=8, loc="center right")
    return figure


_DISTANCES = {name: measurements(f"figure-5-{name}") for name in ("mnist", "cifar10")}
_ROBUST = {
    name: (_DISTANCES[name], runs(f"figure-5-{name}-robust"), published(table))
    for name, table in (("mnist", "table-2"), ("cifar10", "table-3"))
}
_LINF = [measurements("linf-mnist"), measurements("linf-cifar10")]
exhibit("figure-5-bars", distance_bars, [*_DISTANCES.values(), measurements("distances-fashion")])
exhibit("figure-5-scatter", distance_scatter, _ROBUST)
exhibit("figure-5-seen", distance_correlation_summary, _ROBUST)
exhibit("linf", linf_table, _LINF)
exhibit("linf-seen", linf_summary, _LINF)
exhibit("figure-6", boundary_figure, tables("figure-6-boundaries"))
exhibit("spheres", spheres_figure, tables("figure-6"))
exhibit("facets-2", facets_table, tables("figure-6"), 2)
exhibit("facets-8", facets_table, tables("figure-6"), 8)
exhibit("spheres-seen", spheres_summary, tables("figure-6"))
exhibit("linear", linear_margin_figure, tables("linear-margin"))
exhibit("linear-seen", linear_margin_summary, tables("linear-margin"))
