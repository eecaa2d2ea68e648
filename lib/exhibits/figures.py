"""Figures: tidy frames in, a `Figure` out. Ours is solid, the paper dashed.

Colour tells the quantity, throughout the book; where a panel shows one quantity, it tells the variant.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import linspace

from lib import geometry, models, theory
from lib.exhibits import length
from lib.exhibits.appD import correlation_label
from lib.exhibits.cells import (
    ACCURACIES,
    BOXED,
    PALETTE,
    QUANTITIES,
    UNBOXED,
    badge,
    budget_label,
    listed,
    measured_values,
    over_seeds,
    paper_eps,
    paper_values,
    plain,
    set_name,
    share_intervals,
    span,
    transform_label,
)
from lib.exhibits.sec2 import distance_moments, set_label
from lib.exhibits.sec4 import fashion_name
from lib.exhibits.strength import eps_curve
from lib.run import cost
from lib.store import grid

_STYLE = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "exhibits",  # the same figure gives the same file
}


def robustness_figure(ours: pd.DataFrame, paper: pd.DataFrame | None, *, xlabel: str) -> Figure:
    """Figures 2 and 3a: the four quantities over the variants; solid ours with its interval, dashed the paper.

    The variants stand in the order of the paper's table, or, where it prints no numbers (`paper` is None), of the grid. The
    error bars are 95% intervals, of images and trainings.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        if paper is None and not ours["value"].notna().any():
            return _empty(figure, ours)
        ax = figure.subplots()
        transforms = listed(ours) if paper is None else listed(paper, ours)
        # Robustness w.r.t. predictions often lies on robust accuracy: hollow squares leave the circles visible.
        markers = dict(zip(QUANTITIES, ("o", "o", "o", "s"), strict=True))
        for quantity, (label, _, colour) in QUANTITIES.items():
            if paper is not None:
                theirs = paper_values(paper, *quantity).reindex(transforms)
                ax.plot(range(len(transforms)), theirs, "--", color=colour, linewidth=1.2, alpha=0.9)
            mine = over_seeds(ours, *quantity)
            mine = mine[mine["seeds"] > 0].reindex(transforms)  # the line breaks where nothing is computed
            spans = [_bar(row) for _, row in mine.iterrows()]
            ax.errorbar(
                range(len(transforms)), mine["mean"], yerr=np.transpose(spans), fmt=f"{markers[quantity]}-",
                color=colour, markersize=6 if markers[quantity] == "s" else 4, linewidth=1.6, capsize=2, label=label,
                markerfacecolor="none" if markers[quantity] == "s" else colour,
            )  # fmt: skip
        if paper is not None:
            ax.plot([], [], "--", color="grey", label="the paper")
        ax.set_xticks(range(len(transforms)), [transform_label(name) for name in transforms], rotation=40, ha="right")
        ax.set(xlabel=xlabel, ylabel="test images (%)")
        ax.set_ylim(top=101)
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        _footer(figure, ours)
    return figure


def claim_figure(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Figure:
    """Figure 2 in brief: clean accuracy of standard training stays, robust accuracy of PGD training moves; a panel a data set.

    `sets`: from a data set's name to (ours, the paper's). Solid ours with its interval, dashed the paper; the bars are those of
    Figure 2.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(sets), sharey=True))
        for ax, (name, (ours, paper)) in zip(axes, sets.items(), strict=True):
            transforms = listed(paper, ours)
            for quantity in (("standard", "clean_accuracy"), BOXED):
                label, _, colour = QUANTITIES[quantity]
                theirs = paper_values(paper, *quantity).reindex(transforms)
                ax.plot(range(len(transforms)), theirs, "--", color=colour, linewidth=1.2, alpha=0.9)
                mine = over_seeds(ours, *quantity).reindex(transforms)  # the line breaks where nothing is computed
                spans = np.transpose([_bar(row) for _, row in mine.iterrows()])
                style = {"color": colour, "markersize": 4, "linewidth": 1.6, "capsize": 2, "label": label}
                ax.errorbar(range(len(transforms)), mine["mean"], yerr=spans, fmt="o-", **style)
            ax.set_xticks(range(len(transforms)), map(transform_label, transforms), rotation=60, ha="right", fontsize=8)
            ax.set(title=name, ylim=(0, 101))
        axes[0].set_ylabel("test images (%)")
        handles = [*axes[0].get_legend_handles_labels()[0], Line2D([], [], linestyle="--", color="grey", label="the paper")]
        figure.legend(handles=handles, fontsize=8, ncols=3, loc="outside upper center", frameon=False)
        _footer(figure, *(ours for ours, _ in sets.values()))
    return figure


def _bar(row: pd.Series) -> tuple[float, float]:
    """The lengths of the error bar below and above the mean."""
    if not row["seeds"] > 0:
        return (np.nan, np.nan)
    low, high = span(row)
    return (row["mean"] - low, high - row["mean"])


def _footer(figure: Figure, *frames: pd.DataFrame) -> None:
    said = dict.fromkeys(_wrapped(plain(badge(frame))) for frame in frames)
    figure.supxlabel("\n".join(said), fontsize=7, color="dimgrey", parse_math=False)


def _wrapped(text: str, width: int = 110) -> str:
    lines = [""]
    for part in text.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def histogram_figure(histograms: pd.DataFrame) -> Figure:
    """Figure 1, a and b: the pixel values of each variant's test images, counts on a logarithmic scale.

    `histograms`: as `results.histograms` gives it, with columns `transform`, `left`, `right` (pixel value) and `count`.
    """
    with mpl.rc_context(_STYLE):
        names = list(histograms["transform"].unique())
        figure = Figure(figsize=(7.2, 2.0), layout="constrained")
        if not names:
            return _empty(figure, histograms)
        axes = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
        for ax, name in zip(axes, names, strict=True):
            rows = histograms[histograms["transform"] == name]
            ax.stairs(rows["count"], [*rows["left"], rows["right"].iloc[-1]], fill=True, color=PALETTE[0])
            ax.set(yscale="log", title=transform_label(name), xticks=[0, 0.5, 1])
            ax.set_xticklabels(["0", ".5", "1"])
        axes[0].set_ylabel("pixels")
        axes[len(axes) // 2].set_xlabel("pixel value")
        _footer(figure, histograms)
    return figure


def ramp_figure(eps: float, slope: float) -> Figure:
    """The ramp of the exact certificate, drawn by the layer itself, and what a budget of `eps` makes of pixels of 0 and 1."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        ax = figure.subplots()
        for place, colour in ((0, PALETTE[0]), (1, PALETTE[3])):
            ax.axvspan(
                place - eps, place + eps, color=colour, alpha=0.25, label=f"a pixel of {place}, perturbed by up to {eps:g}"
            )
        x = linspace(-0.5, 1.5, 801).view(1, 1, 1, -1)
        ax.plot(x.flatten(), models.Ramp(slope)(x).flatten(), color="black", linewidth=1.6, label=f"the ramp, slope {slope:g}")
        ax.set(xlabel="pixel value", ylabel="what the classifier sees", xlim=(-0.5, 1.5), yticks=[0, 0.5, 1])
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return figure


def picture_plate(pictures: Mapping[str, Float[np.ndarray, "n h w c"]], source: str, *, lying: bool = False) -> Figure:
    """Figures 1 and 3, the images: the same ones under each transform, one column a transform, one row an image.

    `pictures`: from a transform's name to its images with values in [0, 1]; `source`: where they come from, printed below.
    `lying`: one row a transform instead, for many images under few transforms.
    """
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        if lying:
            return _lying_plate(pictures, source)
        rows = len(next(iter(pictures.values())))
        figure = Figure(figsize=(7.2, 7.2 / len(pictures) * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, len(pictures), squeeze=False)
        for column, (name, images) in zip(axes.T, pictures.items(), strict=True):
            column[0].set_title(transform_label(name), fontsize=8)
            for ax, image in zip(column, images, strict=True):
                _picture(ax, image)
        figure.supxlabel(source, fontsize=7, color="dimgrey", parse_math=False)
    return figure


def _lying_plate(pictures: Mapping[str, np.ndarray], source: str) -> Figure:
    columns = len(next(iter(pictures.values())))
    figure = Figure(figsize=(7.2, 7.2 / columns * len(pictures) + 0.7), layout="constrained")
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    for row, (name, images) in zip(axes, pictures.items(), strict=True):
        row[0].set_title(transform_label(name), fontsize=8, loc="left")
        for ax, image in zip(row, images, strict=True):
            _picture(ax, image)
    figure.supxlabel(source, fontsize=7, color="dimgrey", parse_math=False)
    return figure


def _picture(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()


def distance_bars(sets: Sequence[pd.DataFrame]) -> Figure:
    """Figure 5, above: the inter-class distance of each variant's test images, one panel a data set."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        present = [rows for rows in sets if len(rows)]
        if not present:
            return _empty(figure, sets[0])
        blocks = [listed(rows) for rows in present]
        axes = np.atleast_1d(figure.subplots(1, len(present), width_ratios=[len(names) + 3 for names in blocks]))
        for ax, rows, names in zip(axes, present, blocks, strict=True):
            values = measured_values(rows, "inter_class_distance").reindex(names)
            ax.bar(range(len(names)), values, color=PALETTE[0], width=0.7)
            ax.set_xticks(range(len(names)), [transform_label(name) for name in names], rotation=60, ha="right", fontsize=8)
            ax.set_title(set_name(rows["dataset"].iloc[0]), fontsize=9)
            ax.set_ylim(0.9 * values.min(), 1.02 * values.max())
            ax.grid(axis="x", visible=False)
        axes[0].set_ylabel("inter-class distance (ℓ2)")
        _footer(figure, *present)
    return figure


def distance_scatter(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]) -> Figure:
    """Figure 5, below: inter-class distance against robust accuracy, one panel a data set; filled ours, hollow the paper.

    `sets`: from the paper's name of a data set to (measured distances, ours, the paper's). The distances are always ours; the
    bars are those of Figure 2. In the legend Spearman's rank correlation with its bootstrap interval.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        present = {name: frames for name, frames in sets.items() if len(frames[0])}
        if not present:
            return _empty(figure, next(iter(sets.values()))[0])
        axes = np.atleast_1d(figure.subplots(1, len(present)))
        for ax, (distances, ours, paper) in zip(axes, present.values(), strict=True):
            measured = measured_values(distances, "inter_class_distance").dropna()
            theirs = paper_values(paper, "pgd", "robust_accuracy").reindex(measured.index)
            mine = over_seeds(ours, "pgd", "robust_accuracy")
            mine = mine[mine["seeds"] > 0]
            mine = mine[mine.index.isin(measured.index)]
            ax.plot(
                measured, theirs, "o", markerfacecolor="none", color="grey",
                label=f"the paper: {correlation_label(measured, theirs)}",
            )  # fmt: skip
            for name in _apart(measured, theirs):
                short = transform_label(name).replace("smooth ", "s").replace("saturate ", "")
                at = (measured[name], theirs[name])
                ax.annotate(short, at, (3, -8), textcoords="offset points", fontsize=6, color="dimgrey")
            spans = np.transpose([_bar(row) for _, row in mine.iterrows()]) if len(mine) else None
            ax.errorbar(
                measured[mine.index], mine["mean"], yerr=spans, fmt="o", color=PALETTE[3], markersize=4, capsize=2,
                label=f"ours: {correlation_label(measured, mine['mean'])}",
            )  # fmt: skip
            ax.set(title=set_name(distances["dataset"].iloc[0]), xlabel="inter-class distance of test images (ℓ2)")
            ax.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.08), frameon=False)
        axes[0].set_ylabel("robust accuracy (% of test images)")
        _footer(figure, *(ours for _, ours, _ in present.values()))
    return figure


def _apart(x: pd.Series, y: pd.Series) -> list[str]:
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
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        if rows.empty:
            return _empty(figure, rows)
        panels = list(rows.groupby("panel"))
        turn = np.linspace(0, 2 * np.pi, 181)
        for ax, (_, at) in zip(figure.subplots(1, len(panels), sharex=True, sharey=True), panels, strict=True):
            about = at.iloc[0]
            for radius, colour in ((1.0, PALETTE[0]), (1 + about["gap"], PALETTE[1])):
                ax.plot(radius * np.cos(turn), radius * np.sin(turn), color=colour, linewidth=1.2)
                inner, outer = radius - about["eps"], radius + about["eps"]
                ring = [np.concatenate([outer * f(turn), inner * f(turn[::-1])]) for f in (np.cos, np.sin)]
                ax.fill(*ring, color=colour, alpha=0.25, linewidth=0)
            closed = pd.concat([at, at.iloc[:1]])
            ax.plot(closed["radius"] * np.cos(closed["angle"]), closed["radius"] * np.sin(closed["angle"]), "k", linewidth=1.4)
            ax.set_title(f"gap {about['gap']:g}, {about['width']} units,\n{_TRAININGS[about['training']]}", fontsize=8)
            right = " · ".join(f"{kind} {100 * about[f'{kind}_accuracy']:.1f}%" for kind in ("clean", "robust"))
            ax.set_xlabel(right, fontsize=8)
            ax.set(aspect="equal", xticks=[], yticks=[])
            for side in ax.spines.values():
                side.set_visible(False)
        _footer(figure, rows)
    return figure


def spheres_figure(rows: pd.DataFrame) -> Figure:
    """Appendix D.2.2 in numbers: what networks of each width get right as the gap between two spheres closes, by dimension.

    `rows`: as `results.tables("figure-6")` gives them. Solid: clean accuracy of standard training; dashed: robust accuracy of
    adversarial training. Above over the gap itself; below over the gap that is left once ε has moved both spheres, with the
    inner one's radius as the unit.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 6.0), layout="constrained")
        if rows.empty:
            return _empty(figure, rows)
        dimensions = sorted(rows["d"].unique())
        grid_of_axes = figure.subplots(2, len(dimensions), squeeze=False, sharey=True, sharex=True)
        for column, dimension in zip(grid_of_axes.T, dimensions, strict=True):
            here = rows[rows["d"] == dimension]
            widths = sorted(here["width"].unique())
            for width, colour in zip(widths, sns.color_palette("viridis", len(widths)), strict=True):
                for trained, metric, style in (("standard", "clean_accuracy", "-"), ("pgd", "robust_accuracy", "--")):
                    at = here[(here["width"] == width) & (here["training"] == trained)].sort_values("gap")
                    eps = at["eps"] if trained == "pgd" else 0 * at["eps"]
                    left = [geometry.ratio_of_radii(gap, by) - 1 for gap, by in zip(at["gap"], eps, strict=True)]
                    for ax, x in zip(column, (at["gap"], left), strict=True):
                        ax.plot(x, 100 * at[metric], f"o{style}", color=colour, markersize=3, linewidth=1.3)
                column[0].plot([], [], color=colour, label=f"{width} units")
            column[0].set_title(f"{dimension} dimensions", pad=22)
            column[0].set_xlabel("gap between the spheres")
            column[1].set_xlabel("gap that is left")
            above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False, "columnspacing": 0.8}
            column[0].legend(fontsize=7, ncols=len(widths), handlelength=1, handletextpad=0.4, **above)
        for ax in grid_of_axes[:, 0]:
            ax.set_ylabel("points of both spheres (%)")
        styles = []
        for style, label in (("-", "clean accuracy, standard training"), ("--", "robust accuracy, adversarial training")):
            styles.append(Line2D([], [], linestyle=style, color="grey", label=label))
        figure.legend(handles=styles, fontsize=8, ncols=2, loc="outside upper center", frameon=False)
        _footer(figure, rows)
    return figure


def linear_margin_figure(rows: pd.DataFrame) -> Figure:
    """Appendix D.2.2, the linear case: the margin that training reaches, over its budget, as shares of the largest margin."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        if rows.empty:
            return _empty(figure, rows)
        ax = figure.subplots()
        at = rows.sort_values("eps")
        ax.plot(at["eps"] / at["largest_margin"], at["margin"] / at["largest_margin"], "o-", color=PALETTE[0], markersize=4)
        ax.axhline(1, color="grey", linewidth=0.8, linestyle="--", label="the largest margin (support vector machine)")
        ax.set(xlabel="budget ε of adversarial training / largest margin", ylabel="margin / largest margin")
        ax.legend(fontsize=8, loc="center right")
        _footer(figure, rows)
    return figure


def curve_figure(ours: pd.DataFrame) -> Figure:
    """Robust accuracy against ε, one line a variant, up to twice the paper's budget, which is marked."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        curve = eps_curve(ours)
        if curve.empty:
            return _empty(figure, ours)
        block = grid.exhibit(ours.attrs["exhibit"])
        eps = paper_eps(block["dataset"])
        unit = 1 if eps > 0.05 else 1 / 255
        ax = figure.subplots()
        for name, look in _looks(listed(ours)).items():
            at = curve[(curve["transform"] == name) & (curve["eps"] <= 2 * eps)]
            means = at.groupby("eps")["value"].mean()
            if len(means):
                ax.plot(means.index / unit, means, linewidth=1.4, label=transform_label(name), **look | {"markersize": 3.5})
        ax.axvline(eps / unit, color="grey", linewidth=0.8, linestyle=":")
        ax.annotate("the paper's ε", (eps / unit, 101), (3, 0), textcoords="offset points", fontsize=7, color="dimgrey")
        ax.set(xlabel="ε" if unit == 1 else "ε, in 1/255", ylabel="robust accuracy (% of test images)", ylim=(-2, 104))
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        _footer(figure, ours)
    return figure


def speed_figure(rows: pd.DataFrame, batch: int = 128) -> Figure:
    """Speed relative to AdverTorch at one batch size, one group of bars a network."""
    with mpl.rc_context(_STYLE):
        chosen = rows[rows["batch"] == batch]
        engines, cases = list(chosen["engine"].unique()), list(chosen["case"].unique())
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        ax = figure.subplots()
        width = 0.8 / len(engines)
        for i, engine in enumerate(engines):
            ratios = chosen[chosen["engine"] == engine].set_index("case")["ratio_to_advertorch"].reindex(cases)
            ax.bar(np.arange(len(cases)) + (i + 0.5) * width - 0.4, ratios, width, label=engine, color=PALETTE[i])
        ax.axhline(1, color="grey", linewidth=0.8)
        ax.set_xticks(range(len(cases)), [case.replace("-w", "\nw=") for case in cases])
        ax.set(ylabel="speed, AdverTorch = 1")
        ax.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        about = [f"batch {batch}", rows.attrs["device"], rows.attrs["date"][:10], f"commit {rows.attrs['commit']}"]
        figure.supxlabel(_wrapped(" · ".join(about)), fontsize=7, color="dimgrey", parse_math=False)
    return figure


_MAPS = {
    "split along an axis": lambda points: points,
    "the same, turned": theory.turn,  # its own inverse
    "the same, slid": theory.slide_back,
}
_SPACE_COLOURS = {"cube": "black", "ball": PALETTE[7]}
_SET_COLOURS = {
    ("mnist", "original"): PALETTE[0],
    ("mnist", "binarize"): PALETTE[9],
    ("cifar10", "original"): PALETTE[3],
    ("cifar10", "binarize"): PALETTE[1],
}


def split_figure(eps: float, *, squares: int = 10, pixels: int = 400) -> Figure:
    """Example 1 in two dimensions: the axis split, and what two measure-preserving maps T make of it.

    Colour tells the label; the chequered pattern, of `squares` each way, goes along with T: all its fields keep their area.
    Darkened: the points that an ℓ∞ budget of `eps` carries over the boundary, with their share.
    """
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        middle = (np.arange(pixels) + 0.5) / pixels
        points = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
        for ax, (title, back) in zip(figure.subplots(1, len(_MAPS)), _MAPS.items(), strict=True):
            axis = title == next(iter(_MAPS))
            before = back(points)
            # Lighter downwards, so that a field that was turned shows.
            shade = 0.35 + 0.45 * before[:, 1] + 0.2 * ((before * squares).astype(int).sum(1) % 2)
            label = theory.axis_label(before)
            slack = np.abs(points[:, 0] - 0.5) if axis else np.abs(points.sum(1) / 2 - 0.5)
            colours = np.where(label[:, None], PALETTE[1], PALETTE[0])
            colours = 1 - (1 - colours) * shade[:, None]
            colours = np.where((slack < eps)[:, None], colours * 0.55, colours)
            shown = colours.reshape(pixels, pixels, 3)
            ax.imshow(shown, origin="lower", extent=(0, 1, 0, 1), interpolation="nearest")
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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        if rows.empty:
            return _empty(figure, rows)
        budgets = sorted(rows["eps"].unique())
        axes = np.atleast_1d(figure.subplots(1, len(budgets), sharey=True))
        dimensions = np.unique(np.geomspace(1, rows["d"].max(), 40).round().astype(int)).tolist()
        for ax, eps in zip(axes, budgets, strict=True):
            ax.axhline(100 * theory.axis_robust_error(eps), color=PALETTE[0], label="axis split: 2ε", linewidth=1.4)
            for label, value, colour, style in _DIAGONAL_CURVES:
                values = [100 * value(d, eps) for d in dimensions]
                ax.plot(dimensions, values, style, color=colour, label=label, linewidth=1.4)
            here = rows[rows["eps"] == eps].sort_values("d")
            _counted(ax, here, "axis", "d", color=PALETTE[0], marker="o", label="axis split, simulated")
            _counted(ax, here, "diagonal", "d", color=PALETTE[3], marker="o", label="diagonal split, simulated")
            _counted(
                ax, here, "diagonal_in_cube", "d", color=PALETTE[3], marker="s", markersize=6, markerfacecolor="none",
                label="the same, attacked within the cube",
            )  # fmt: skip
            ax.set(xscale="log", xlabel="dimension d", title=f"ε = {budget_label(eps)}", ylim=(-3, 103))
        axes[0].set_ylabel("points that are fooled (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=8, ncols=3, loc="outside upper center", frameon=False)
        _footer(figure, rows)
    return figure


def concentration_figure(rows: pd.DataFrame) -> Figure:
    """Theorem 2.1: both lower bounds on P(A_ε), dashed as the paper's, and half-spaces A, simulated, one marker a dimension.

    `rows`: as `results.tables("theorem-2.1")` gives them. One row of panels a space, one column a value of P(A).
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 6.4), layout="constrained")
        if rows.empty:
            return _empty(figure, rows)
        masses = sorted(rows["mass"].unique())
        spaces = [space for space in theory.SPACES if (rows["dataset"] == space).any()]
        grid = figure.subplots(len(spaces), len(masses), squeeze=False)
        for axes, space in zip(grid, spaces, strict=True):
            for ax, mass in zip(axes, masses, strict=True):
                here = rows[(rows["dataset"] == space) & (rows["mass"] == mass)]
                _bounds(ax, here, space, mass)
                groups = here.groupby("direction" if space == "cube" else "d", sort=False)
                for (name, group), marker, colour in zip(groups, "os", (PALETTE[0], PALETTE[2]), strict=False):
                    label = f"half-space along the {name}" if space == "cube" else f"half-ball, d = {name}"
                    _counted(ax, group, "inside", "eps", color=colour, marker=marker, label=label, linestyle="none")
                ax.set(title=f"{space}, P(A) = {mass:g}", xlabel="ε, in ℓ2", ylim=(100 * mass - 8 * (1 - mass) * 5, 101))
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "frameon": False}
            for ax in axes:
                ax.legend(fontsize=7, ncols=2, columnspacing=1, **below)
            axes[0].set_ylabel("$P(A_\\epsilon)$ (%)")
        _footer(figure, rows)
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


def distance_figure(uniform: pd.DataFrame, images: pd.DataFrame) -> Figure:
    """Distributions of pairwise ℓ2 distances: over √d on the left, over their own mean on the right; peaks drawn alike.

    `uniform`, `images`: as `results.tables` gives the two exhibits of distances.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        if uniform.empty and images.empty:
            return _empty(figure, images)
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
        _footer(figure, images if len(images) else uniform)
    return figure


def _empty(figure: Figure, rows: pd.DataFrame) -> Figure:
    """A figure that says how to compute what is missing."""
    figure.set_size_inches(7.2, 1.0)
    ax = figure.subplots()  # a notebook shows no figure without axes
    ax.set_axis_off()
    ax.text(0.5, 0.5, f"not computed yet; compute it with:\n{rows.attrs['command']}", ha="center", va="center")
    return figure


def _counted(ax: Axes, rows: pd.DataFrame, column: str, x: str, **style) -> None:
    """Shares of `n` in percent with Wilson's 95% intervals."""
    shares = 100 * rows[column] / rows["n"]
    spans = [(share - low, high - share) for share, (low, high) in zip(shares, share_intervals(rows, column), strict=True)]
    spans = np.maximum(np.transpose(spans), 0)  # Wilson's interval may end a rounding error short of 0 or 100
    ax.errorbar(rows[x], shares, yerr=spans, **{"linestyle": "none", "capsize": 2, "markersize": 4, **style})


def fashion_figure(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Figure 3b: three accuracies of fashion-MNIST and of its edges; bars ours with its interval, dashed lines the paper.

    The error bars are 95% intervals, of images and trainings.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        ax = figure.subplots()
        variants, quantities, width = listed(paper, ours), list(QUANTITIES)[:3], 0.26
        for i, quantity in enumerate(quantities):
            label, _, colour = QUANTITIES[quantity]
            places = [group + (i - 1) * width for group in range(len(variants))]
            mine = over_seeds(ours, *quantity).reindex(variants)
            spans = [_bar(row) for _, row in mine.iterrows()]
            ax.bar(places, mine["mean"], width * 0.9, color=colour, label=label)
            ax.errorbar(places, mine["mean"], yerr=np.transpose(spans), fmt="none", color="black", capsize=2)
            theirs = paper_values(paper, *quantity).reindex(variants)
            ends = [place - width / 2 for place in places], [place + width / 2 for place in places]
            ax.hlines(theirs, *ends, linestyles="dashed", colors="black", linewidth=1.2)
        ax.plot([], [], "--", color="black", linewidth=1.2, label="the paper")
        ax.set_xticks(range(len(variants)), map(fashion_name, variants))
        ax.set(ylabel="test images (%)", ylim=(0, 101))
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        _footer(figure, ours)
    return figure


def _looks(variants: Sequence[str]) -> dict[str, dict]:
    """Colour and marker of each variant."""
    colours = sns.color_palette("viridis", len(variants))
    looks = zip(variants, colours, cycle("oD^vs<>ph"), strict=False)  # the markers have no end
    return {name: {"color": colour, "marker": marker, "markersize": 4.5} for name, colour, marker in looks}


def length_figure(ours: pd.DataFrame, own: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Robust accuracy of original and of smoothed images over the steps of training; dashed, the paper's at this width.

    `ours`: trained longer and longer, joined by a line; `own`: at the paper's own settings, which differ in more than steps.
    `paper`: Table 4. The bars are those of Figure 2.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        found = length.robust_by_length([ours, own])
        found = found[found["seeds"] > 0]
        if found.empty:
            return _empty(figure, ours)
        ax = figure.subplots()
        width = next(iter(found.attrs["settings"].values()))["model"]["widen_factor"]
        printed = paper_values(paper, *BOXED, by=["transform", "widen_factor"])
        looks = _looks(listed(own, ours))
        for name, look in looks.items():
            rows = found[found.index.get_level_values("transform") == name]
            apart = np.array([length.is_own(scale, recipe) for scale, recipe, _ in rows.index], dtype=bool)
            for part, line in ((rows[~apart], "-"), (rows[apart], "none")):
                if len(part):
                    spans = np.transpose([_bar(point) for _, point in part.iterrows()])
                    ax.errorbar(part["steps"], part["mean"], yerr=spans, linewidth=1.6, capsize=2, linestyle=line, **look)
            if (name, width) in printed.index:
                ax.axhline(printed[name, width], linestyle="--", color=look["color"], linewidth=1.2, alpha=0.9)
        steps = sorted(set(found["steps"]))
        ax.set_xscale("log")
        ax.set_xticks(steps, [f"{each:,}" for each in steps], fontsize=8)
        ax.minorticks_off()
        ax.set_xlabel("steps of PGD training")
        ax.set_ylabel("robust accuracy (%)")
        handles = [Line2D([], [], label=transform_label(name), **look) for name, look in looks.items()]
        handles.append(Line2D([], [], linestyle="--", color="grey", label="the paper, at its own steps"))
        figure.legend(handles=handles, fontsize=8, ncols=4, loc="outside upper center", frameon=False)
        _footer(figure, ours, own)
    return figure


def volume_figure(
    volumes: pd.DataFrame, ours: pd.DataFrame, paper_volumes: pd.DataFrame, paper: pd.DataFrame, *, dataset: str
) -> Figure:
    """Section 5.1: each variant's mean perturbable volume against the robust accuracy on it, attacked in the box or out of it.

    Across are the bits that the faces of the cube cut off the whole box, d·log2(2 eps). Filled is PGD within [0, 1], hollow PGD
    that may leave it; crosses are the paper's (Tables 6 and 7), joined by dashed lines. `dataset` is the paper's name of the
    set. A variant whose volume the paper does not print lies at our volume.
    """
    with mpl.rc_context(_STYLE):
        paper, paper_volumes = (rows[rows["dataset"] == dataset] for rows in (paper, paper_volumes))
        variants = listed(paper, ours)
        whole = math.prod(cost.image_shape(paper["model"].iloc[0])) * math.log2(2 * paper_eps(dataset))
        measured = whole - measured_values(volumes, "log2_perturbable_volume").dropna()
        printed = (whole - paper_volumes.set_index("transform")["value"]).reindex(variants).fillna(measured)
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        ax = figure.subplots()
        for quantity, sign, size in ((BOXED, "x", 5), (UNBOXED, "+", 6)):
            points = pd.DataFrame({"x": printed, "y": paper_values(paper, *quantity)}).dropna().sort_values("x")
            ax.plot(points["x"], points["y"], "--", marker=sign, color="grey", markersize=size, linewidth=1)
        for name, look in _looks(variants).items():
            # The hollow marker is the larger one: where both accuracies agree, it is a ring around the other.
            for quantity, changed in ((BOXED, {}), (UNBOXED, {"markersize": 8, "markerfacecolor": "none"})):
                mine = over_seeds(ours, *quantity)
                if name in mine.index and name in measured.index:
                    row = mine.loc[name]
                    spans = np.transpose([_bar(row)])
                    style = {**look, **changed, "linestyle": ""}
                    ax.errorbar([measured[name]], [row["mean"]], yerr=spans, capsize=2, **style)
            ax.plot([], [], linestyle="", label=transform_label(name), **look)
        for label, style in (
            ("PGD in the box", {"marker": "o", "color": "black", "linestyle": ""}),
            ("PGD out of the box", {"marker": "o", "color": "black", "linestyle": "", "markerfacecolor": "none"}),
            ("the paper, in the box", {"marker": "x", "color": "grey", "linestyle": "--"}),
            ("the paper, out of the box", {"marker": "+", "color": "grey", "linestyle": "--"}),
        ):
            ax.plot([], [], label=label, markersize=5, **style)
        cut = pd.concat([measured, printed]).dropna()
        if cut.max() > 10 * cut.min():
            ax.set_xscale("log")
        ax.set(xlabel="bits that the cube cuts off the box of perturbations", ylabel="robust accuracy (% of test images)")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        _footer(figure, ours, volumes)
    return figure


def equal_distance_figure(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Table 1 drawn: robust accuracy over the inter-class distance, for smoothed MNIST and the sets scaled to its distances."""
    with mpl.rc_context(_STYLE):
        targets = [name for name in listed(paper, ours) if "rescale-to-" not in name]
        families = {"smoothed": "", "original, scaled": "rescale-to-", "binarized, scaled": "binarize+rescale-to-"}
        measured = measured_values(distances, "inter_class_distance")
        printed = measured_values(paper, "inter_class_distance")
        mine, theirs = over_seeds(ours, *BOXED), paper_values(paper, *BOXED)
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        ax = figure.subplots()
        for (label, prefix), look in zip(families.items(), _looks(list(families)).values(), strict=True):
            names = [prefix + target for target in targets]
            ax.plot(printed.reindex(targets), theirs.reindex(names), "--", linewidth=1.2, alpha=0.9, color=look["color"])
            rows = mine.reindex(names)
            spans = np.transpose([_bar(row) for _, row in rows.iterrows()])
            ax.errorbar(measured.reindex(names), rows["mean"], yerr=spans, capsize=2, linewidth=1.6, label=label, **look)
        ax.plot([], [], "--", color="grey", label="the paper")
        ax.set(xlabel="inter-class distance of test images (ℓ2)", ylabel="robust accuracy (% of test images)")
        ax.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        _footer(figure, ours, distances)
    return figure


def growth_figure(ours: pd.DataFrame, paper: pd.DataFrame | None, *, axis: str, xlabel: str) -> Figure:
    """Figure 4: three accuracies over the network's width or the training set's size, training images above, test images below.

    `axis`: `widen_factor` or `train_size`; `paper` is Table 4 or 5, or None where the paper prints no number. Drawn are the
    variants of the exhibit's block in the grid. The bars are those of Figure 2.
    """
    with mpl.rc_context(_STYLE):
        variants = listed(ours)
        figure = Figure(figsize=(7.2, 5.0), layout="constrained")
        values = sorted({float(x) for x in ours[axis]} | (set(paper[axis]) if paper is not None else set()))
        if not values:
            return _empty(figure, ours)
        axes = figure.subplots(2, len(ACCURACIES), sharex=True, sharey="col")
        by = ["transform", axis]
        for row, split, images in zip(axes, ("train", "test"), ("training images (%)", "test images (%)"), strict=True):
            row[0].set_ylabel(images)
            for ax, quantity in zip(row, ACCURACIES, strict=True):
                for name, look in _looks(variants).items():
                    if paper is not None and (paper["transform"] == name).any():
                        theirs = paper_values(paper, *quantity, split, by).xs(name).sort_index()
                        ax.plot(theirs.index, theirs, "--", color=look["color"], linewidth=1.2, alpha=0.9)
                    mine = over_seeds(ours, *quantity, split, by)
                    mine = mine[mine["seeds"] > 0]
                    if name in mine.index:
                        mine = mine.loc[name].sort_index()
                        spans = np.transpose([_bar(point) for _, point in mine.iterrows()])
                        x = mine.index.to_numpy(dtype=float)
                        ax.errorbar(x, mine["mean"], yerr=spans, linewidth=1.6, capsize=2, label=transform_label(name), **look)
        for ax, quantity in zip(axes[0], ACCURACIES, strict=True):
            ax.set_title(QUANTITIES[quantity][0].replace(", ", ",\n"), fontsize=9)
        for ax in axes[1]:
            ax.set_xscale("log")
            ax.set_xticks(values, [_short(value) for value in values], fontsize=8)
            ax.minorticks_off()
        axes[1, 1].set_xlabel(xlabel)
        drawn = set(ours.dropna(subset="value")["transform"] if paper is None else variants)
        looks = {name: look for name, look in _looks(variants).items() if name in drawn}
        handles = [Line2D([], [], label=transform_label(name), **look) for name, look in looks.items()]
        if paper is not None:
            handles.append(Line2D([], [], linestyle="--", color="grey", label="the paper"))
        figure.legend(handles=handles, fontsize=8, ncols=5, loc="outside upper center", frameon=False)
        _footer(figure, ours)
    return figure


def _short(value: float) -> str:
    """.25, 4, 27k."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}".removeprefix("0")
