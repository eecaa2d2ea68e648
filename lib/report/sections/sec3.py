"""Section 3: accuracies by variant beside the paper's Tables 2 and 3, and which filter made its data."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.report.exhibit import exhibit, lucky, measurements, published, runs
from lib.report.plot import STYLE, draw_estimates, not_yet
from lib.report.table import MISSING, NOT_IN_PAPER, Column, Number, Table
from lib.report.values import (
    BOXED,
    QUANTITIES,
    at_our_width,
    both_footprints,
    extent,
    measured_numbers,
    our_column,
    our_number,
    over_seeds,
    paper_column,
    paper_values,
    square_variant,
    transforms_of,
    width_of,
)
from lib.report.words import counted, from_to, listed, set_name, to_compute, transform_label
from lib.store import grid


def robustness_summary(ours: pd.DataFrame, paper: pd.DataFrame, widths: pd.DataFrame) -> str:
    """The paper's claim in numbers: the range of robust accuracy over the variants, and the range of clean accuracy.

    `paper`: its Table 2 or 3; `widths`: Table 4 or 5, of which the column of our width is compared.
    """
    quantities = (("standard", "clean_accuracy"), BOXED)
    clean, robust = (over_seeds(ours, *quantity)["mean"].dropna() for quantity in quantities)
    if len(robust) < 2:
        return f"Not computed yet: two variants are needed, {counted(len(robust), 'is', 'are')} computed; {to_compute(ours)}"
    theirs = paper_values(paper, *BOXED).reindex(robust.index).dropna()
    variants = listed(map(transform_label, robust.index)) if len(robust) == 2 else f"the {len(robust)} variants computed"
    text = (
        f"Over {variants} (scale {ours.attrs['scale']}), robust accuracy goes from {robust.min():.1f}% "
        f"({transform_label(robust.idxmin())}) to {robust.max():.1f}% ({transform_label(robust.idxmax())}), a range of "
        f"**{extent(robust):.1f} points**. "
    )
    narrow = at_our_width(ours, widths, BOXED).reindex(robust.index).dropna()
    if len(narrow) == len(robust):
        text += (
            f"Over the same variants the range of the paper's networks of the same width (w={width_of(ours):g}) is "
            f"{extent(narrow):.1f}, that of the wider networks in its table {extent(theirs):.1f}."
        )
    else:
        text += f"The paper's range over the same variants is {extent(theirs):.1f}."
    if len(clean) < 2:
        return f"{text} The clean accuracy of standard training is not computed yet; {to_compute(ours)}"
    over = "" if set(clean.index) == set(robust.index) else f", over {len(clean)} variants,"
    return f"{text} The clean accuracy of standard training moves{over} by **{extent(clean):.1f} points**."


def jpeg_note(ours: pd.DataFrame) -> str:
    """Which CIFAR10 images the records use, in one or two sentences."""
    if ours.empty:
        return f"Not computed yet; {to_compute(ours)}"
    if (ours["dataset"] == "cifar10-jpeg").any():
        return (
            "These CIFAR10 images are JPEG re-encodings, of quality 75 and with colour at half the resolution (4:2:0). This "
            "alone may lower clean accuracy."
        )
    return "These are CIFAR10's images as they were published."


def lucky_summary(sets: Mapping[str, pd.DataFrame]) -> str:
    """How many images count as robust that are wrong without the attack, and the robust accuracy without such images.

    `sets`: from a data set's name to what `results.lucky` gives of it.
    """
    sentences = []
    for shares in sets.values():
        if shares.empty:
            sentences.append(f"Not computed yet; {to_compute(shares)}")
            continue
        means = shares.groupby("transform", sort=False)[["both", "lucky"]].mean()
        accuracies = ", ".join(f"{transform_label(name)} {value:.1f}" for name, value in means["both"].items())
        name, largest = set_name(shares["dataset"].iloc[0]), means["lucky"].max()
        at_most = (
            f"On {name} such images make up at most **{largest:.2f} points** ({transform_label(means['lucky'].idxmax())})."
        )
        sentences.append(
            f"{at_most if largest else f'{name} has no such image.'} If only images count that are right before and after the "
            f"attack, robust accuracy in percent is: {accuracies}."
        )
    return " ".join(sentences)


def robustness_table(ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Tables 2 and 3: accuracies in percent on test images, the paper's beside ours, and Δ, ours minus the paper's.

    One row a variant, in the paper's order; those that it lacks come last, with "n/a" in its place.

    Over several seeds ours is the mean ± half the range. "–" marks what is
    not computed at this scale, "stale" what has to be computed again, "failed" a training that found no classifier.
    """
    columns = [Column("variant")]
    for _, heading, _ in QUANTITIES.values():
        columns += [paper_column(f"{heading}: paper"), our_column(f"{heading}: ours")]
    by_quantity = {quantity: (over_seeds(ours, *quantity), paper_values(paper, *quantity)) for quantity in QUANTITIES}
    rows = []
    for transform in transforms_of(paper, ours):
        row = [transform_label(transform)]
        for estimates, theirs in by_quantity.values():
            value = theirs.get(transform, np.nan)
            row += [value, our_number(estimates, transform, value)]
        rows.append(row)
    return Table(columns, rows)


def footprint_table(
    volumes: pd.DataFrame, distances: pd.DataFrame, paper_volumes: pd.DataFrame, paper_distances: pd.DataFrame
) -> Table:
    """Which smoothing filter made the paper's data: what Tables 1 and 6 print, beside a column and a square filter.

    Perturbable volumes are means of log2 over test images, in bits, which the paper prints without decimals, truncated
    toward zero. Distances are ratios to the original's inter-class distance: the scale factors of Table 1.
    """
    theirs = paper_volumes[paper_volumes["dataset"] == "mnist"].set_index("transform")["value"]
    numbers = measured_numbers(volumes, "log2_perturbable_volume")
    rows = _footprint_rows("log2 perturbable volume", numbers, theirs, (".0f", ".2f"))
    factors = paper_distances[paper_distances["metric"] == "scale_factor"].set_index("transform")["value"]
    numbers = measured_numbers(distances, "inter_class_distance")
    ratios = {name: _ratio(number, numbers["original"]) for name, number in numbers.items() if "original" in numbers}
    factors = factors[factors.index.str.startswith("rescale-to-")].rename(lambda name: name.removeprefix("rescale-to-"))
    rows += _footprint_rows("inter-class distance over the original's", ratios, factors, (".3f", ".4f"))
    columns = [Column("quantity"), Column("paper", ".1f", absent=NOT_IN_PAPER)]
    columns += [Column("column s×1", ".1f"), Column("square s×s", ".1f"), Column("nearer", absent=MISSING)]
    return Table(columns, rows)


def _ratio(number: Number, base: Number) -> Number:
    return Number(number.value / base.value, records=number.records)


def _footprint_rows(label: str, ours: Mapping[str, Number], theirs: pd.Series, forms: tuple[str, str]) -> list[tuple]:
    """A row a size of the filter that is printed or measured; the volumes of sizes that the paper does not print come last."""
    sizes = dict.fromkeys(
        int(name.rpartition("-")[2]) for name in [*theirs.index, *ours] if re.fullmatch(r"smooth(-square)?-\d+", name)
    )
    rows = []
    for size in sizes:
        paper = theirs.get(f"smooth-{size}", np.nan)
        both = [ours.get(f"smooth-{footprint}{size}", Number()) for footprint in ("", "square-")]
        numbers = (Number(paper, form=forms[0]), *(replace(number, form=forms[1]) for number in both))
        rows.append((f"{label}, smooth {size}", *numbers, _nearer(paper, *(number.value for number in both))))
    return rows


def footprint_robustness_table(ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Robust accuracy of PGD training on both footprints, with intervals, beside the paper's Table 4 at the same width."""
    width, accuracies = _footprints(ours, paper)
    estimates = over_seeds(ours, *BOXED)
    columns = [Column("variant"), paper_column(f"paper, w={width:g}")]
    columns += [our_column(heading, delta=False, interval=True) for heading in ("column s×1", "square s×s")]
    rows = [
        (transform_label(name), theirs, *(our_number(estimates, each) for each in (name, square_variant(name))))
        for name, theirs, *_ in accuracies.itertuples()
    ]
    return Table(columns, rows)


def footprints_summary(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How far robust accuracies on the two footprints are from each other and from the paper's Table 4 at the same width."""
    width, accuracies = _footprints(ours, paper)
    complete = accuracies.dropna()
    if complete.empty:
        return f"Not computed yet: no size of the filter is trained with both footprints; {to_compute(ours)}"
    sizes = ", ".join(name.removeprefix("smooth-") for name in complete.index)
    column, square = ((complete[kind] - complete["paper"]).abs().mean() for kind in ("column", "square"))
    return (
        f"We trained with both filters (scale {ours.attrs['scale']}, w={width:g}, sizes {sizes}). With the square, robust "
        f"accuracy differs from that with the column by {from_to(complete['square'] - complete['column'])} points. The mean "
        f"distance from the paper's numbers at this width is {column:.1f} points with the column and {square:.1f} with the "
        f"square. One training of each cannot tell the two filters apart: see the intervals. The volumes and distances above "
        f"can, since they need no training."
    )


def _footprints(ours: pd.DataFrame, paper: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """Our width, and robust accuracies on both footprints beside the paper's at that width."""
    names = dict.fromkeys(run.transform for run in grid.runs(ours.attrs["exhibit"], ours.attrs["scale"]))
    return width_of(ours), both_footprints(names, over_seeds(ours, *BOXED)["mean"], at_our_width(ours, paper, BOXED))


def _nearer(paper: float, column: float, square: float) -> str:
    if not np.isfinite([paper, column, square]).all():
        return MISSING
    return "column" if abs(column - paper) < abs(square - paper) else "square"


def sensitivity_table(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]) -> Table:
    """The paper's claim in one table: how far each quantity moves over the variants that are computed, in points.

    `sets`: from a data set's name to (ours, the paper's Table 2 or 3, its Table 4 or 5). The range is taken over the same
    variants on both sides; a range needs at least two of them. Variants that the paper lacks are named with their numbers.
    """
    headings = ("paper, all variants", "paper, variants computed", "paper, our width", "ours")
    columns = [Column("data set"), Column("quantity"), *(Column(heading, ".1f") for heading in headings), Column("variants")]
    rows = []
    for name, (ours, paper, widths) in sets.items():
        for quantity, (label, _, _) in QUANTITIES.items():
            means = over_seeds(ours, *quantity)
            means = means.loc[means["seeds"] > 0, "mean"]
            theirs = paper_values(paper, *quantity)
            shared = [variant for variant in theirs.index if variant in means.index]
            extra = [variant for variant in means.index if variant not in theirs.index]
            narrow = at_our_width(ours, widths, quantity).reindex(shared).dropna()
            ranges = [extent(theirs[shared]), extent(narrow) if len(narrow) == len(shared) else np.nan, extent(means[shared])]
            ranges = ranges if len(shared) > 1 else [np.nan] * 3
            variants = ", ".join(map(transform_label, shared)) or MISSING
            if extra:
                variants += f"; not in the paper: {', '.join(f'{transform_label(each)} {means[each]:.1f}%' for each in extra)}"
            rows.append((name, label, extent(theirs), *ranges, variants))
    return Table(columns, rows)


def draw_accuracies(
    ax: Axes, ours: pd.DataFrame, paper: pd.DataFrame | None, widths: pd.DataFrame | None,
    quantities: Iterable[tuple[str, str]] = QUANTITIES, *, joined: bool = False,
) -> list[str]:  # fmt: skip
    """Accuracies over the variants, which are returned: solid ours with its interval, dotted and dashed the paper's.

    Dotted is the paper's Table 2 or 3, `paper`; dashed are the networks of our width in its Table 4 or 5, `widths`, joined over
    variants that it lacks. The variants stand in the order of the paper's table, or, where it prints no numbers, of the grid.
    The error bars are 95% intervals, of images and trainings. `joined`: our line does not break where nothing is computed.
    """
    transforms = transforms_of(ours) if paper is None else transforms_of(paper, ours)
    for quantity in quantities:
        label, _, colour = QUANTITIES[quantity]
        if paper is not None:
            theirs = paper_values(paper, *quantity).reindex(transforms)
            ax.plot(range(len(transforms)), theirs, ":", color=colour, linewidth=1.2, alpha=0.6)
        if widths is not None:
            narrow = at_our_width(ours, widths, quantity).reindex(transforms).dropna()
            ax.plot([transforms.index(name) for name in narrow.index], narrow, "--", color=colour, linewidth=1.4)
        # Robustness w.r.t. predictions often lies on robust accuracy: hollow squares leave the circles visible.
        hollow = quantity[1] == "robustness_wrt_predictions"
        draw_estimates(
            ax, transforms, over_seeds(ours, *quantity), joined=joined, fmt="s-" if hollow else "o-", color=colour,
            markersize=6 if hollow else 4, label=label, markerfacecolor="none" if hollow else colour,
        )  # fmt: skip
    for table, style, label in ((widths, "--", "the paper, our width"), (paper, ":", "the paper, wider")):
        if table is not None:
            ax.plot([], [], style, color="grey", label=label)
    return transforms


def robustness_figure(
    ours: pd.DataFrame, paper: pd.DataFrame | None = None, widths: pd.DataFrame | None = None, *, xlabel: str
) -> Figure:
    """Figures 2 and 3a: the four quantities over the variants, as `draw_accuracies` draws them."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        if paper is None and not ours["value"].notna().any():
            return not_yet(figure, ours)
        ax = figure.subplots()
        transforms = draw_accuracies(ax, ours, paper, widths)
        ax.set_xticks(range(len(transforms)), [transform_label(name) for name in transforms], rotation=40, ha="right")
        ax.set(xlabel=xlabel, ylabel="test images (%)")
        ax.set_ylim(top=101)
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


_MNIST = (runs("table-2"), published("table-2"), published("table-4"))
_CIFAR10 = (runs("table-3"), published("table-3"), published("table-5"))
SETS = {"MNIST": _MNIST, "CIFAR10": _CIFAR10}
_PRINTED = published("table-6"), published("table-1")
exhibit("footprints", footprint_table, measurements("footprint-volumes"), measurements("footprint-distances"), *_PRINTED)
exhibit("footprints-robust", footprint_robustness_table, runs("footprints"), published("table-4"))
exhibit("footprints-seen", footprints_summary, runs("footprints"), published("table-4"))
exhibit("figure-2a", robustness_figure, *_MNIST, xlabel="MNIST variant")
exhibit("figure-2b", robustness_figure, *_CIFAR10, xlabel="CIFAR10 variant")
exhibit("table-2", robustness_table, *_MNIST[:2])
exhibit("table-3", robustness_table, *_CIFAR10[:2])
exhibit("table-2-seen", robustness_summary, *_MNIST)
exhibit("table-3-seen", robustness_summary, *_CIFAR10)
exhibit("table-3-jpeg", jpeg_note, runs("table-3"))
exhibit("sensitivity", sensitivity_table, SETS)
exhibit("lucky", lucky_summary, {"MNIST": lucky("table-2"), "CIFAR10": lucky("table-3")})
