"""Section 5 and Appendix C: equal distances, volumes and boxes, capacity and the number of training images."""

import math
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.report.exhibit import exhibit, measurements, published, runs
from lib.report.plot import STYLE, error_bar, error_bars, looks_of, not_yet
from lib.report.table import NOT_IN_PAPER, Column, Number, Table
from lib.report.values import (
    ACCURACIES,
    BOXED,
    QUANTITIES,
    UNBOXED,
    extent,
    measured_numbers,
    measured_values,
    our_column,
    our_number,
    over_seeds,
    paper_column,
    paper_eps,
    paper_values,
    transforms_of,
    unboxed_changes,
    width_of,
)
from lib.report.words import counted, from_to, in_the_paper, listed, to_compute, transform_label
from lib.run import cost
from lib.store import grid, plans


def capacity_tables(ours: pd.DataFrame, paper: pd.DataFrame, other_scale: pd.DataFrame | None = None) -> dict[str, Table]:
    """Tables 4 and 5: accuracies in percent by widen factor, the paper's beside ours; one table a quantity, by its heading.

    Variants on training images come first, then the same on test images; two columns a width. `other_scale`: records of another
    scale, of a single width, which gets a third column that names the scale. Over several seeds ours is the mean ± half the
    range. "–" marks what is not computed at a column's scale, "n/a" what the paper or our copy of it has not.
    """
    widths = sorted({*paper["widen_factor"], *ours["widen_factor"]})
    by_width = {}
    if other_scale is not None and other_scale.attrs["scale"] != ours.attrs["scale"] and other_scale["value"].notna().any():
        by_width = {width_of(other_scale): other_scale}
    columns = [Column("variant"), Column("images")]
    for width in widths:
        heading = f"w={f'{width:g}'.removeprefix('0')}"
        columns += [paper_column(f"{heading} paper"), Column(f"{heading} ours", ".1f")]
        if width in by_width:
            columns.append(Column(f"{heading} ours, scale {by_width[width].attrs['scale']}", ".1f"))
    by = ["transform", "widen_factor"]
    tables = {}
    for quantity in ACCURACIES:
        rows = []
        for split, images in (("train", "training"), ("test", "test")):
            estimates, theirs = over_seeds(ours, *quantity, split, by), paper_values(paper, *quantity, split, by)
            others = {width: over_seeds(frame, *quantity, split) for width, frame in by_width.items()}
            for transform in transforms_of(paper, ours):
                row = [transform_label(transform), images]
                for width in widths:
                    key = transform, width
                    row += [theirs.get(key, np.nan), our_number(estimates, key)]
                    row += [our_number(others[width], transform)] if width in others else []
                rows.append(row)
        tables[QUANTITIES[quantity][1]] = Table(columns, rows)
    return tables


def capacity_table(ours: pd.DataFrame, paper: pd.DataFrame, other_scale: pd.DataFrame | None = None, *, part: str) -> Table:
    """One of `capacity_tables`."""
    return capacity_tables(ours, paper, other_scale)[part]


def equal_distance_table(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Table 1: sets of equal inter-class distance, the factors that make them equal, and the robust accuracy on each.

    `distances`: measured distances and solved factors. A smoothed set has no factor. "–" marks what is not computed.
    """
    measured, factors = (measured_numbers(distances, metric) for metric in ("inter_class_distance", "scale_factor"))
    theirs = {name: rows.set_index("transform")["value"] for name, rows in paper.groupby("metric")}
    robust = over_seeds(ours, "pgd", "robust_accuracy")
    columns = [
        Column("set"), Column("distance: paper", ".2f", absent=NOT_IN_PAPER), Column("distance: ours", ".2f"),
        Column("factor: paper", ".3f", absent=NOT_IN_PAPER), Column("factor: ours", ".3f"), paper_column("robust: paper"),
        our_column("robust: ours"),
    ]  # fmt: skip
    rows = []
    for transform in transforms_of(paper, ours):
        target = transform.rpartition("rescale-to-")[2]
        factor = (theirs["scale_factor"].get(transform, np.nan), factors.get(transform, Number()))
        distance = (theirs["inter_class_distance"].get(target, np.nan), measured.get(transform, Number()))
        value = theirs["robust_accuracy"].get(transform, np.nan)
        scaled = factor if transform != target else (None, None)
        rows.append((transform_label(transform), *distance, *scaled, value, our_number(robust, transform, value)))
    return Table(columns, rows)


def equal_distance_summary(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """For each target of Table 1, how much robust accuracy differs between sets of the same inter-class distance."""
    robust = over_seeds(ours, "pgd", "robust_accuracy")
    robust = robust.loc[robust["seeds"] > 0, "mean"]
    theirs, measured = paper_values(paper, "pgd", "robust_accuracy"), measured_values(distances, "inter_class_distance")
    sentences = []
    for target in (name for name in transforms_of(paper, ours) if "rescale-to-" not in name):
        sets = [target, f"rescale-to-{target}", f"binarize+rescale-to-{target}"]
        if not all(name in robust.index for name in sets):
            continue
        means = robust[sets]
        accuracies = ", ".join(f"{means[name]:.1f}% ({transform_label(name)})" for name in sets)
        paper_note = f" (in the paper, with a wider network, {extent(theirs[sets]):.1f})" if {*sets} <= {*theirs.index} else ""
        distance_note = f" ({measured[target]:.2f})" if np.isfinite(measured.get(target, np.nan)) else ""
        sentences.append(
            f"At the inter-class distance of {transform_label(target)}{distance_note}, robust accuracy is {accuracies}. Sets "
            f"of the same distance differ by **{extent(means):.1f} points**{paper_note}."
        )
    if not sentences:
        return f"Not computed yet: a target needs all three of its sets; {to_compute(ours)}"
    return f"Scale {ours.attrs['scale']}. " + " ".join(sentences)


def volume_summary(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], paper: pd.DataFrame) -> str:
    """Section 5.1 in numbers: how much leaving the box changes robust accuracy, and how far the volumes differ.

    `sets`: from the paper's name of a data set, as in Table 7 (`paper`), to (measured volumes, ours).
    """
    sentences = []
    for name, (volumes, ours) in sets.items():
        change, theirs = unboxed_changes(ours, paper[paper["dataset"] == name])
        if change.empty:
            sentences.append(f"{name.upper()}: not computed yet; {to_compute(ours)}")
            continue
        bits = extent(measured_values(volumes, "log2_perturbable_volume").reindex(change.index))
        bits_note = f", whose perturbable volumes differ by up to {bits:.0f} bits" if bits > 0 else ""
        variants_note = f"over {counted(len(change), 'variant')}{bits_note}"
        sentences.append(
            f"{name.upper()} (scale {ours.attrs['scale']}): letting the attack leave the box changes robust accuracy by "
            f"**{from_to(change)} points** {variants_note}{in_the_paper(theirs)}."
        )
    return " ".join(sentences)


def growth_summary(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame | None]], axis: str) -> str:
    """Section 5.3 in numbers: how robust accuracy moves from the smallest to the largest computed value of `axis`.

    `sets`: from a data set's name to (ours, the paper's or None where it prints no number); `axis`: `widen_factor` or
    `train_size`. The paper's moves are over the same variants and the same ends.
    """
    sentences = []
    for name, (ours, paper) in sets.items():
        robust, training_robust, clean = (
            _ends(over_seeds(ours, *quantity, split, ["transform", axis])["mean"])
            for quantity, split in ((BOXED, "test"), (BOXED, "train"), (("standard", "clean_accuracy"), "test"))
        )
        if robust.empty:
            sentences.append(f"{name}: not computed yet, at least two values are needed; {to_compute(ours)}")
            continue
        gap = (training_robust - robust).mean()
        low, high = (f"{value:,g}" for value in robust.attrs["ends"])
        paper_note = ""
        if paper is not None:
            paper_ends = _ends(paper_values(paper, *BOXED, by=["transform", axis]), robust.attrs["ends"]).reindex(robust.index)
            paper_note = f" (in the paper, over the same variants, by {_moves(paper_ends)})" if len(paper_ends.dropna()) else ""
        clean_note = f", the clean accuracy of standard training by {_moves(clean)}" if len(clean) else ""
        sentences.append(
            f"{name} (scale {ours.attrs['scale']}), from {axis.replace('_', ' ')} {low} to {high}: robust accuracy on test "
            f"images moves by **{_moves(robust)}**{paper_note}{clean_note}. Averaged over the variants, the gap between robust "
            f"accuracy on training and on test images goes from {gap['first']:.1f} to {gap['last']:.1f} points."
        )
    return " ".join(sentences)


def passes_summary(sets: Mapping[str, pd.DataFrame]) -> str:
    """How often training goes through each training set of Section 5.3, by data set: the runs of all sizes take the same steps.

    A short training goes through a large set only a few times, so it cannot show what more images would give.
    """
    sentences = []
    for name, ours in sets.items():
        runs = grid.runs(ours.attrs["exhibit"], ours.attrs["scale"])
        training = plans.of(runs[0]).settings["training"]
        images = training["steps"] * training["batch_size"]
        passes = [f"{images / size:,.0f} times through {size:,}" for size in sorted({run.train_size for run in runs})]
        sentences.append(
            f"{name} (scale {ours.attrs['scale']}): every run takes {training['steps']:,} steps of {training['batch_size']} "
            f"images, that is {', '.join(passes)} training images."
        )
    return " ".join(sentences)


def _ends(values: pd.Series, ends: tuple[float, float] | None = None) -> pd.DataFrame:
    """The first and last value of each transform along the second level of the index, where both are there.

    `ends`, by default the least and the largest value of that level with a number, are kept in `attrs`.
    """
    values = values.dropna()
    places = values.index.get_level_values(1)
    low, high = ends or ((float(places.min()), float(places.max())) if len(places) else (np.nan, np.nan))
    wide = values.unstack().reindex(columns=[low, high]) if low < high else pd.DataFrame(columns=[low, high], dtype=float)
    wide.columns = ["first", "last"]
    wide = wide.dropna()
    wide.attrs["ends"] = (low, high)
    return wide


def _moves(ends: pd.DataFrame) -> str:
    """The least and the largest move between two ends, with the variants' names."""
    moves = (ends["last"] - ends["first"]).dropna()
    least, most = moves.idxmin(), moves.idxmax()
    if f"{moves[least]:+z.1f}" == f"{moves[most]:+z.1f}":
        return f"{moves[most]:+z.1f} points ({listed(map(transform_label, moves.index))})"
    return f"{moves[least]:+z.1f} ({transform_label(least)}) to {moves[most]:+z.1f} points ({transform_label(most)})"


def volume_figure(
    volumes: pd.DataFrame, ours: pd.DataFrame, paper_volumes: pd.DataFrame, paper: pd.DataFrame, *, dataset: str
) -> Figure:
    """Section 5.1: each variant's mean perturbable volume against the robust accuracy on it, attacked in the box or out of it.

    Across are the bits that the faces of the cube cut off the whole box, d·log2(2 eps). Filled is PGD within [0, 1], hollow PGD
    that may leave it; crosses are the paper's (Tables 6 and 7), joined by dashed lines. `dataset` is the paper's name of the
    set. A variant whose volume the paper does not print lies at our volume.
    """
    with mpl.rc_context(STYLE):
        paper, paper_volumes = (rows[rows["dataset"] == dataset] for rows in (paper, paper_volumes))
        variants = transforms_of(paper, ours)
        largest = math.prod(cost.image_shape(paper["model"].iloc[0])) * math.log2(2 * paper_eps(dataset))
        our_cuts = largest - measured_values(volumes, "log2_perturbable_volume").dropna()
        paper_cuts = (largest - paper_volumes.set_index("transform")["value"]).reindex(variants).fillna(our_cuts)
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        ax = figure.subplots()
        for quantity, sign, size in ((BOXED, "x", 5), (UNBOXED, "+", 6)):
            points = pd.DataFrame({"x": paper_cuts, "y": paper_values(paper, *quantity)}).dropna().sort_values("x")
            ax.plot(points["x"], points["y"], "--", marker=sign, color="grey", markersize=size, linewidth=1)
        for name, look in looks_of(variants).items():
            # The hollow marker is the larger one: where both accuracies agree, it is a ring around the other.
            for quantity, variation in ((BOXED, {}), (UNBOXED, {"markersize": 8, "markerfacecolor": "none"})):
                estimates = over_seeds(ours, *quantity)
                if name in estimates.index and name in our_cuts.index:
                    row = estimates.loc[name]
                    spans = np.transpose([error_bar(row)])
                    style = {**look, **variation, "linestyle": ""}
                    ax.errorbar([our_cuts[name]], [row["mean"]], yerr=spans, capsize=2, **style)
            ax.plot([], [], linestyle="", label=transform_label(name), **look)
        for label, style in (
            ("PGD in the box", {"marker": "o", "color": "black", "linestyle": ""}),
            ("PGD out of the box", {"marker": "o", "color": "black", "linestyle": "", "markerfacecolor": "none"}),
            ("the paper, in the box", {"marker": "x", "color": "grey", "linestyle": "--"}),
            ("the paper, out of the box", {"marker": "+", "color": "grey", "linestyle": "--"}),
        ):
            ax.plot([], [], label=label, markersize=5, **style)
        cuts = pd.concat([our_cuts, paper_cuts]).dropna()
        if cuts.max() > 10 * cuts.min():
            ax.set_xscale("log")
        ax.set(xlabel="bits that the cube cuts off the box of perturbations", ylabel="robust accuracy (% of test images)")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def equal_distance_figure(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Table 1 drawn: robust accuracy over the inter-class distance, for smoothed MNIST and the sets scaled to its distances."""
    with mpl.rc_context(STYLE):
        targets = [name for name in transforms_of(paper, ours) if "rescale-to-" not in name]
        families = {"smoothed": "", "original, scaled": "rescale-to-", "binarized, scaled": "binarize+rescale-to-"}
        measured = measured_values(distances, "inter_class_distance")
        paper_distances = measured_values(paper, "inter_class_distance")
        estimates, theirs = over_seeds(ours, *BOXED), paper_values(paper, *BOXED)
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        ax = figure.subplots()
        for (label, prefix), look in zip(families.items(), looks_of(list(families)).values(), strict=True):
            names = [prefix + target for target in targets]
            ax.plot(
                paper_distances.reindex(targets), theirs.reindex(names), "--", linewidth=1.2, alpha=0.9, color=look["color"]
            )
            rows = estimates.reindex(names)
            ax.errorbar(
                measured.reindex(names), rows["mean"], yerr=error_bars(rows), capsize=2, linewidth=1.6, label=label, **look
            )
        ax.plot([], [], "--", color="grey", label="the paper")
        ax.set(xlabel="inter-class distance of test images (ℓ2)", ylabel="robust accuracy (% of test images)")
        ax.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return figure


def growth_figure(ours: pd.DataFrame, paper: pd.DataFrame | None, *, axis: str, xlabel: str) -> Figure:
    """Figure 4: three accuracies over the network's width or the training set's size, training images above, test images below.

    `axis`: `widen_factor` or `train_size`; `paper` is Table 4 or 5, or None where the paper prints no number. Drawn are the
    variants of the exhibit's block in the grid. The bars are those of Figure 2.
    """
    with mpl.rc_context(STYLE):
        variants = transforms_of(ours)
        figure = Figure(figsize=(7.2, 5.0), layout="constrained")
        values = sorted({float(x) for x in ours[axis]} | (set(paper[axis]) if paper is not None else set()))
        if not values:
            return not_yet(figure, ours)
        axes = figure.subplots(2, len(ACCURACIES), sharex=True, sharey="col")
        by = ["transform", axis]
        for row, split, images in zip(axes, ("train", "test"), ("training images (%)", "test images (%)"), strict=True):
            row[0].set_ylabel(images)
            for ax, quantity in zip(row, ACCURACIES, strict=True):
                for name, look in looks_of(variants).items():
                    if paper is not None and (paper["transform"] == name).any():
                        theirs = paper_values(paper, *quantity, split, by).xs(name).sort_index()
                        ax.plot(theirs.index, theirs, "--", color=look["color"], linewidth=1.2, alpha=0.9)
                    estimates = over_seeds(ours, *quantity, split, by)
                    estimates = estimates[estimates["seeds"] > 0]
                    if name in estimates.index:
                        estimates = estimates.loc[name].sort_index()
                        spans = error_bars(estimates)
                        x = estimates.index.to_numpy(dtype=float)
                        ax.errorbar(
                            x, estimates["mean"], yerr=spans, linewidth=1.6, capsize=2, label=transform_label(name), **look
                        )
        for ax, quantity in zip(axes[0], ACCURACIES, strict=True):
            ax.set_title(QUANTITIES[quantity][0].replace(", ", ",\n"), fontsize=9)
        for ax in axes[1]:
            ax.set_xscale("log")
            ax.set_xticks(values, [_short(value) for value in values], fontsize=8)
            ax.minorticks_off()
        axes[1, 1].set_xlabel(xlabel)
        drawn = set(ours.dropna(subset="value")["transform"] if paper is None else variants)
        looks = {name: look for name, look in looks_of(variants).items() if name in drawn}
        handles = [Line2D([], [], label=transform_label(name), **look) for name, look in looks.items()]
        if paper is not None:
            handles.append(Line2D([], [], linestyle="--", color="grey", label="the paper"))
        figure.legend(handles=handles, fontsize=8, ncols=5, loc="outside upper center", frameon=False)
    return figure


def _short(value: float) -> str:
    """.25, 4, 27k."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}".removeprefix("0")


for _name, _label in {"mnist": "LeNet5", "cifar10": "WRN-28"}.items():
    _read = measurements(f"volumes-{_name}"), runs(f"table-7-{_name}"), published("table-6"), published("table-7")
    exhibit(f"volume-{_name}", volume_figure, *_read, dataset=_name)
    _capacity = runs(f"figure-4-capacity-{_name}"), published("table-4" if _name == "mnist" else "table-5")
    _options = {"axis": "widen_factor", "xlabel": f"widen factor of {_label}"}
    exhibit(f"figure-4-capacity-{_name}", growth_figure, *_capacity, **_options)
    _options = {"axis": "train_size", "xlabel": f"{_name.upper()} training images"}
    exhibit(f"figure-4-samples-{_name}", growth_figure, runs(f"figure-4-samples-{_name}"), None, **_options)
_BOXES = {name: (measurements(f"volumes-{name}"), runs(f"table-7-{name}")) for name in ("mnist", "cifar10")}
exhibit("volume-seen", volume_summary, _BOXES, published("table-7"))
_EQUAL = measurements("table-1-distances"), runs("table-1"), published("table-1")
exhibit("table-1", equal_distance_table, *_EQUAL)
exhibit("table-1-seen", equal_distance_summary, *_EQUAL)
exhibit("table-1-figure", equal_distance_figure, *_EQUAL)
_WIDTHS = {
    "MNIST": (runs("figure-4-capacity-mnist"), published("table-4")),
    "CIFAR10": (runs("figure-4-capacity-cifar10"), published("table-5")),
}
_SIZES = {"MNIST": runs("figure-4-samples-mnist"), "CIFAR10": runs("figure-4-samples-cifar10")}
exhibit("capacity-seen", growth_summary, _WIDTHS, axis="widen_factor")
exhibit("samples-seen", growth_summary, {name: (read, None) for name, read in _SIZES.items()}, axis="train_size")
exhibit("samples-passes", passes_summary, _SIZES)
