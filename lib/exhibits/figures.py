"""Figures: tidy frames in, a `Figure` out. Colour tells the quantity, throughout the book; ours is solid, the paper dashed."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.exhibits.tables import PALETTE, QUANTITIES, badge, interval, over_seeds, paper_values, transform_label

_STYLE = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "exhibits",  # the same figure gives the same file
}


def robustness_figure(ours: pd.DataFrame, paper: pd.DataFrame, *, xlabel: str) -> Figure:
    """Figure 2: the four quantities over the variants; solid ours with its interval, dashed the paper.

    The bars are the range over seeds where there are several, else Wilson's 95% interval over the test images.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        ax = figure.subplots()
        transforms = list(paper["transform"].unique())
        place = {transform: i for i, transform in enumerate(transforms)}
        # Robustness w.r.t. predictions often lies on robust accuracy: hollow squares leave the circles visible.
        markers = dict(zip(QUANTITIES, ("o", "o", "o", "s"), strict=True))
        for quantity, (label, _, colour) in QUANTITIES.items():
            theirs = paper_values(paper, *quantity).reindex(transforms)
            ax.plot(range(len(transforms)), theirs, "--", color=colour, linewidth=1.2, alpha=0.9)
            mine = over_seeds(ours, *quantity)
            mine = mine[mine["seeds"] > 0].reindex(transforms)
            spans = [_span(row) for _, row in mine.iterrows()]
            ax.errorbar(
                [place[name] for name in mine.index], mine["mean"], yerr=np.transpose(spans), fmt=f"{markers[quantity]}-",
                color=colour, markersize=6 if markers[quantity] == "s" else 4, linewidth=1.6, capsize=2, label=label,
                markerfacecolor="none" if markers[quantity] == "s" else colour,
            )  # fmt: skip
        ax.plot([], [], "--", color="grey", label="the paper")
        ax.set_xticks(range(len(transforms)), [transform_label(name) for name in transforms], rotation=40, ha="right")
        ax.set(xlabel=xlabel, ylabel="test images (%)")
        ax.set_ylim(top=101)
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        _footer(figure, ours)
    return figure


def _span(row: pd.Series) -> tuple[float, float]:
    """The lengths of the error bar below and above the mean."""
    if not row["seeds"] > 0:
        return (np.nan, np.nan)
    low, high = (row["low"], row["high"]) if row["seeds"] > 1 else interval(row["mean"], int(row["n"]))
    return (row["mean"] - low, high - row["mean"])


def _footer(figure: Figure, ours: pd.DataFrame) -> None:
    figure.supxlabel(_wrapped(badge(ours).replace("`", "")), fontsize=7, color="dimgrey")


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
            figure.text(0.5, 0.5, _wrapped(badge(histograms).replace("`", ""), 70), ha="center", va="center")
            return figure
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


def picture_plate(pictures: Mapping[str, Float[np.ndarray, "n h w c"]], source: str) -> Figure:
    """Figure 1, c and d: the same images under each transform, one column a transform, one row an image.

    `pictures`: from a transform's name to its images with values in [0, 1]; `source`: where they come from, printed below.
    """
    with mpl.rc_context(_STYLE | {"axes.grid": False}):
        rows = len(next(iter(pictures.values())))
        figure = Figure(figsize=(7.2, 7.2 / len(pictures) * rows + 0.5), layout="constrained")
        axes = figure.subplots(rows, len(pictures), squeeze=False)
        for column, (name, images) in zip(axes.T, pictures.items(), strict=True):
            column[0].set_title(transform_label(name), fontsize=8)
            for ax, image in zip(column, images, strict=True):
                _picture(ax, image)
        figure.supxlabel(source, fontsize=7, color="dimgrey")
    return figure


def _picture(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()


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
        figure.supxlabel(_wrapped(" · ".join(about)), fontsize=7, color="dimgrey")
    return figure
