"""Section 4: the gamma variants, for which the paper prints no numbers, and the six accuracies of Figure 3b."""

import math
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.report.exhibit import exhibit, published, runs
from lib.report.plot import STYLE, error_bars
from lib.report.sections.sec3 import jpeg_note, robustness_figure
from lib.report.table import Column, Number, Table
from lib.report.values import ACCURACIES, QUANTITIES, extent, our_number, over_seeds, paper_column, paper_values, transforms_of
from lib.report.words import counted, to_compute, transform_label


def variants_table(ours: pd.DataFrame) -> Table:
    """The four quantities of variants for which the paper prints no numbers, in percent on test images.

    In brackets the 95% interval, of images and trainings.
    """
    columns = [Column(heading, ".1f", interval=True) for _, heading, _ in QUANTITIES.values()]
    frames = [over_seeds(ours, *quantity) for quantity in QUANTITIES]
    rows = [
        (transform_label(name), *(_without_seeds(our_number(estimates, name)) for estimates in frames))
        for name in transforms_of(ours)
    ]
    return Table([Column("variant"), *columns], rows)


def _without_seeds(number: Number) -> Number:
    """The interval holds what several seeds say."""
    return replace(number, half=math.nan)


def variants_summary(ours: pd.DataFrame) -> str:
    """One sentence: how far each accuracy moves over variants for which the paper prints no numbers."""
    by_quantity = {}
    variants = transforms_of(ours)
    for quantity in ACCURACIES:
        means = over_seeds(ours, *quantity)["mean"].reindex(variants).dropna()
        if len(means) < 2:
            label = QUANTITIES[quantity][0]
            computed = counted(len(means), "is", "are")
            return f"Not computed yet: {label} needs two variants, {computed} computed; {to_compute(ours)}"
        by_quantity[quantity] = means
    clean, pgd_clean, robust = by_quantity.values()
    ranges = [extent(means) for means in (clean, pgd_clean, robust)]
    return (
        f"Over {len(robust)} of {len(variants)} variants (scale {ours.attrs['scale']}) the clean accuracy of standard training "
        f"moves by **{ranges[0]:.1f} points**, that of PGD training by **{ranges[1]:.1f}**, and robust accuracy by "
        f"**{ranges[2]:.1f}**, from {robust.min():.1f}% ({transform_label(robust.idxmin())}) to {robust.max():.1f}% "
        f"({transform_label(robust.idxmax())})."
    )


def fashion_name(transform: str) -> str:
    """A variant of Fashion-MNIST as the paper calls it."""
    return {"original": "fashion-MNIST", "edges": "edge-fashion-MNIST"}.get(
        transform, f"fashion-MNIST, {transform_label(transform)}"
    )


def fashion_table(ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """The six numbers of Figure 3b, in percent on test images: the paper's, ours with its interval, and Δ, their difference.

    In brackets the 95% interval, of images and trainings.
    """
    columns = [
        Column("data set"),
        Column("quantity"),
        paper_column("paper"),
        Column("ours", ".1f", interval=True),
        Column("Δ", "+.1f"),
    ]
    rows = []
    for transform in transforms_of(paper, ours):
        for quantity in ACCURACIES:
            theirs = paper_values(paper, *quantity).get(transform, np.nan)
            number = _without_seeds(our_number(over_seeds(ours, *quantity), transform, theirs))
            rows.append((fashion_name(transform), QUANTITIES[quantity][0], theirs, number, number.difference))
    return Table(columns, rows)


def fashion_summary(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How much PGD training and the attack lower accuracy on fashion-MNIST and on its edges, beside the paper's numbers."""
    sentences = []
    for transform in transforms_of(paper, ours):
        name = fashion_name(transform)
        our_accuracies = [over_seeds(ours, *quantity)["mean"].get(transform, np.nan) for quantity in ACCURACIES]
        paper_accuracies = [paper_values(paper, *quantity).get(transform, np.nan) for quantity in ACCURACIES]
        if not np.isfinite(our_accuracies).all():
            statuses = ours[ours["value"].isna() & (ours["transform"] == transform)]["status"]
            why = f" (some are {', '.join(sorted(set(statuses)))})" if len(statuses) else ""
            return f"Not computed yet: {name} lacks some of its three accuracies{why}; {to_compute(ours)}"
        clean_note, robust_note = (
            f" (the paper: {paper_accuracies[i] - paper_accuracies[i + 1]:.1f})" if np.isfinite(paper_accuracies).all() else ""
            for i in (0, 1)
        )
        sentences.append(
            f"On {name}, PGD training costs **{our_accuracies[0] - our_accuracies[1]:.1f} points** of clean "
            f"accuracy{clean_note}; robust accuracy is another **{our_accuracies[1] - our_accuracies[2]:.1f}** "
            f"lower{robust_note}."
        )
    return f"At scale {ours.attrs['scale']}: {' '.join(sentences)}"


def fashion_figure(ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Figure 3b: three accuracies of fashion-MNIST and of its edges; bars ours with its interval, dashed lines the paper.

    The error bars are 95% intervals, of images and trainings.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        ax = figure.subplots()
        variants, quantities, width = transforms_of(paper, ours), ACCURACIES, 0.26
        for i, quantity in enumerate(quantities):
            label, _, colour = QUANTITIES[quantity]
            places = [group + (i - 1) * width for group in range(len(variants))]
            estimates = over_seeds(ours, *quantity).reindex(variants)
            ax.bar(places, estimates["mean"], width * 0.9, color=colour, label=label)
            ax.errorbar(places, estimates["mean"], yerr=error_bars(estimates), fmt="none", color="black", capsize=2)
            theirs = paper_values(paper, *quantity).reindex(variants)
            ends = [place - width / 2 for place in places], [place + width / 2 for place in places]
            ax.hlines(theirs, *ends, linestyles="dashed", colors="black", linewidth=1.2)
        ax.plot([], [], "--", color="black", linewidth=1.2, label="the paper")
        ax.set_xticks(range(len(variants)), map(fashion_name, variants))
        ax.set(ylabel="test images (%)", ylim=(0, 101))
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


exhibit("figure-3a", robustness_figure, runs("figure-3a"), xlabel="CIFAR10 under a gamma mapping")
exhibit("figure-3a-table", variants_table, runs("figure-3a"))
exhibit("figure-3a-seen", variants_summary, runs("figure-3a"))
exhibit("figure-3a-jpeg", jpeg_note, runs("figure-3a"))
exhibit("figure-3b", fashion_figure, runs("figure-3b"), published("figure-3b"))
exhibit("figure-3b-table", fashion_table, runs("figure-3b"), published("figure-3b"))
exhibit("figure-3b-seen", fashion_summary, runs("figure-3b"), published("figure-3b"))
