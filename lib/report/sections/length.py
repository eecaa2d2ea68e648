"""Appendix B.1: how long to train at scale laptop, and what a longer training changes."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.report.exhibit import exhibit, published, runs
from lib.report.plot import STYLE, error_bars, looks_of, not_yet
from lib.report.table import NOT_IN_PAPER, Column, Strong, Table
from lib.report.values import (
    ACCURACIES,
    BOXED,
    QUANTITIES,
    at_our_width,
    our_column,
    our_number,
    over_seeds,
    paper_column,
    paper_values,
    row_estimate,
    square_variant,
    transforms_of,
    width_of,
)
from lib.report.words import budget_label, counted, from_to, listed, to_compute, transform_label
from lib.store import grid, plans
from lib.store.intervals import Estimate

_STANDARD_CLEAN, _CLEAN, _ = ACCURACIES
_BY_WIDTH = ["transform", "widen_factor"]


def _trainings(ours: pd.DataFrame, training: str | None = None) -> dict[tuple[str, str], dict]:
    """By scale and recipe, the settings of the exhibit's runs, of one kind of training if given; those of few steps first."""
    scale = ours.attrs["scale"]
    runs_of_it = [run for run in grid.runs(ours.attrs["exhibit"], scale) if training in (None, run.training)]
    trainings = {(scale, run.recipe): plans.of(run).settings for run in runs_of_it}
    return dict(sorted(trainings.items(), key=lambda item: item[1]["training"]["steps"]))


def _chosen(ours: pd.DataFrame, training: str = "pgd") -> str:
    """The recipe that all variants of the exhibit's data set have in this kind of training at its scale."""
    return grid.usual_recipes(ours.attrs["scale"])[grid.exhibit(ours.attrs["exhibit"])["dataset"], training]


def is_papers_own(scale: str, recipe: str) -> bool:
    """Whether a training is the paper's own. The other settings of its scale do not count."""
    return recipe == "published" or scale == "paper"


def _length(settings: dict) -> str:
    training = settings["training"]
    epochs = training["steps"] * training["batch_size"] / settings["data"]["train_size"]
    return f"{training['steps']:,} ({epochs:.3g} epochs)"


def _attack(settings: dict) -> str:
    attack = settings["attack"]
    return f"{attack['num_steps']} steps of {budget_label(attack['step_size'])}"


def tuning_table(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> Table:
    """Lengths of training that were compared on the original sets, and what came of them on test images, in percent.

    `sets`: from a data set's name to (ours, the paper's Table 4 or 5), of which the column of our width is shown. The row in
    bold is the setting that all variants are trained with.
    """
    columns = [Column("data set"), Column("steps"), Column("attack in training")]
    columns += [
        paper_column("clean: paper"),
        our_column("clean: ours"),
        paper_column("robust: paper"),
        our_column("robust: ours"),
    ]
    rows = []
    for name, (ours, paper) in sets.items():
        for (_, recipe), settings in _trainings(ours).items():
            length = _length(settings)
            row = [name, Strong(length) if recipe == _chosen(ours) else length, _attack(settings)]
            width = settings["model"]["widen_factor"]
            for quantity in (_CLEAN, BOXED):
                theirs = paper_values(paper, *quantity, by=_BY_WIDTH).get(("original", width), np.nan)
                estimates = over_seeds(ours, *quantity, by=["transform", "recipe"])
                row += [theirs, our_number(estimates, ("original", recipe), theirs)]
            rows.append(row)
    return Table(columns, rows)


def standard_tuning_table(ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Lengths of standard training on an original set, and the clean accuracy on test images, in percent.

    `paper`: its Table 4 or 5, of which the number of our width is shown. In bold the length that all variants are trained with.
    """
    theirs = at_our_width(ours, paper, _STANDARD_CLEAN).get("original", np.nan)
    estimates = over_seeds(ours, *_STANDARD_CLEAN, by=["transform", "recipe"])
    rows = []
    for (_, recipe), settings in _trainings(ours).items():
        length = _length(settings)
        number = our_number(estimates, ("original", recipe), theirs)
        rows.append([Strong(length) if recipe == _chosen(ours, "standard") else length, theirs, number])
    return Table([Column("steps"), paper_column("clean: paper"), our_column("clean: ours")], rows)


def tuning_summary(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], quantity: tuple[str, str] = BOXED) -> str:
    """How far the chosen training is from the paper in a quantity, and what longer and shorter trainings give."""
    sentences, metric = [], quantity[1].replace("_", " ")
    for name, (ours, paper) in sets.items():
        trainings = {recipe: settings for (_, recipe), settings in _trainings(ours).items()}
        usual = _chosen(ours, quantity[0])
        width = trainings[usual]["model"]["widen_factor"]
        theirs = paper_values(paper, *quantity, by=_BY_WIDTH).get(("original", width), np.nan)
        means = over_seeds(ours, *quantity, by=["transform", "recipe"])["mean"].dropna()
        if ("original", usual) not in means.index:
            sentences.append(f"{name}: not computed yet; {to_compute(ours)}")
            continue
        chosen = means["original", usual]
        paper_note = f", {chosen - theirs:+z.1f} points from the paper at this width" if np.isfinite(theirs) else ""
        others = [
            f"{means['original', recipe]:.1f}% with {settings['training']['steps']:,}"
            for recipe, settings in trainings.items()
            if recipe != usual and ("original", recipe) in means.index
        ]
        others = f"; {listed(others)}" if others else ""
        steps = trainings[usual]["training"]["steps"]
        sentences.append(
            f"{name} (scale {ours.attrs['scale']}): {metric} **{chosen:.1f}%** with {steps:,} steps{paper_note}{others}."
        )
    return " ".join(sentences)


def standard_tuning_summary(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """`tuning_summary` of standard training on CIFAR10."""
    return tuning_summary({"CIFAR10, standard training": (ours, paper)}, _STANDARD_CLEAN)


def robust_by_length(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Robust accuracies on test images by (scale, recipe, transform), as `over_seeds` gives them, with `steps`.

    Few steps first, but the paper's own training last. `frames` may share runs. `attrs`: `settings` by (scale, recipe).
    """
    settings = {key: each for ours in frames for key, each in _trainings(ours).items()}
    rows = pd.concat([ours[list(frames[0].columns)] for ours in frames])
    rows = rows.drop_duplicates(["scale", "transform", "recipe", "seed", "training", "split", "metric", "widen_factor"])
    rows.attrs = frames[0].attrs
    estimates = over_seeds(rows, *BOXED, by=["scale", "recipe", "transform"])
    order = sorted(settings, key=lambda key: (is_papers_own(*key), settings[key]["training"]["steps"]))
    names = list(estimates.index.unique("transform"))
    estimates = estimates.reindex([index for key in order for name in names if (index := (*key, name)) in estimates.index])
    estimates["steps"] = [settings[scale, recipe]["training"]["steps"] for scale, recipe, _ in estimates.index]
    estimates.attrs = {"settings": {key: settings[key] for key in order}}
    return estimates


def length_table(ours: pd.DataFrame, at_paper_settings: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Robust accuracy by length of training, and the gap between original and smoothed images, in percent and points.

    `ours`: trained longer and longer; `at_paper_settings`: trained as in the paper, with both footprints; `paper`: Table 4.
    """
    estimates = robust_by_length([ours, at_paper_settings])
    smoothed = [name for name in transforms_of(at_paper_settings, ours) if name != "original"]
    columns = [Column("training"), *(Column(transform_label(name), ".1f") for name in ("original", *smoothed))]
    columns += [Column(f"gap to {transform_label(name)}", ".1f") for name in smoothed]
    rows = []
    for key, settings in estimates.attrs["settings"].items():
        steps = f"{_length(settings)}, attacks of {_attack(settings)}"
        accuracies = [our_number(estimates, (*key, name)) for name in ("original", *smoothed)]
        gaps = [_gap(estimates, key, name) for name in smoothed]
        rows.append((f"the paper's own: {steps}" if is_papers_own(*key) else steps, *accuracies, *gaps))
    width = next(iter(estimates.attrs["settings"].values()))["model"]["widen_factor"]
    theirs = paper_values(paper, *BOXED, by=_BY_WIDTH)
    numbers = [theirs.get((name, width), np.nan) for name in ("original", *smoothed)]
    numbers += [_printed_gap(theirs, width, name) for name in smoothed]
    last = [value if np.isfinite(value) else NOT_IN_PAPER for value in numbers]
    return Table(columns, [*rows, (f"the paper's numbers, w={width:g}", *last)])


def _gap(estimates: pd.DataFrame, key: tuple[str, str], name: str) -> float:
    means = estimates["mean"]
    return means.get((*key, "original"), np.nan) - means.get((*key, name), np.nan)


def _printed_gap(paper: pd.Series, width: float, name: str) -> float:
    return paper.get(("original", width), np.nan) - paper.get((name, width), np.nan)


def _estimated_gap(estimates: pd.DataFrame, key: tuple[str, str], name: str) -> Estimate:
    original, smoothed = (row_estimate(estimates.loc[(*key, transform)]) for transform in ("original", name))
    return original - smoothed


def _gap_verdict(short: Estimate, long: Estimate) -> str:
    """How the gap changes from a short to a long training, and whether the change is beyond the intervals."""
    if (long - short).rises:
        return "The gap grows beyond the intervals: with this recipe longer training widens it."
    at_longest = f"At the longest training the gap is {long} points; its interval {'excludes' if long.rises else 'contains'} 0."
    if not (long - short).falls:
        return f"This change is not beyond the intervals. {at_longest}"
    return f"So with this recipe longer training narrows the gap. {at_longest}"


def length_summary(ours: pd.DataFrame, at_paper_settings: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How the gap between original and smoothed images moves with the length of training, and what the paper's own gives."""
    estimates = robust_by_length([ours, at_paper_settings])
    settings = estimates.attrs["settings"]
    smoothed = next(name for name in transforms_of(ours) if name != "original")
    gaps = {key: gap for key in settings if np.isfinite(gap := _gap(estimates, key, smoothed))}
    longer = [key for key in gaps if not is_papers_own(*key)]
    if len(longer) < 2:
        return f"Not computed yet: at least two lengths are needed; {to_compute(ours)}"
    first, last = longer[0], longer[-1]
    short, long = (_estimated_gap(estimates, key, smoothed) for key in (first, last))
    width = settings[first]["model"]["widen_factor"]
    paper_accuracies = paper_values(paper, *BOXED, by=_BY_WIDTH)
    sentences = [
        f"Scale {ours.attrs['scale']}, w={width:g}: from {settings[first]['training']['steps']:,} to "
        f"{settings[last]['training']['steps']:,} steps the gap between original and {transform_label(smoothed)} goes **from "
        f"{gaps[first]:.1f} to {gaps[last]:.1f} points**, a change of {long - short}. The paper's gap is "
        f"{_printed_gap(paper_accuracies, width, smoothed):.1f}. {_gap_verdict(short, long)}"
    ]
    values = {name: [estimates.loc[(*key, name), "mean"] for key in longer] for name in ("original", smoothed)}
    last_gain = {name: means[-1] - means[-2] for name, means in values.items()}
    sentences.append(
        f"The longest training still gains {last_gain[smoothed]:+z.1f} points on {transform_label(smoothed)} and "
        f"{last_gain['original']:+z.1f} on the original over the one before, so these lengths do not tell where the gap ends."
        if last_gain[smoothed] - last_gain["original"] >= 1
        else f"The longest training gains {last_gain[smoothed]:+z.1f} points on {transform_label(smoothed)} over the one "
        "before."
    )
    paper_key = next((key for key in settings if is_papers_own(*key)), None)
    if paper_key in gaps:
        sentences.append(f"At the paper's own settings, another recipe, the gap is {gaps[paper_key]:.1f}.")
    footprints = {
        name: value
        for name in (smoothed, square_variant(smoothed))
        if paper_key and np.isfinite(value := estimates["mean"].get((*paper_key, name), np.nan))
    }
    value = paper_accuracies.get((smoothed, width), np.nan)
    if len(footprints) == 2 and np.isfinite(value):
        column, square = footprints.values()
        nearer = "column" if abs(column - value) < abs(square - value) else "square"
        sentences.append(
            f"At these settings the filter gives {column:.1f}% as a column and {square:.1f}% as a square. The paper prints "
            f"{value:.1f}%: the {nearer} is nearer."
        )
    return " ".join(sentences)


def length_figure(ours: pd.DataFrame, at_paper_settings: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Robust accuracy of original and of smoothed images over the steps of training; dashed, the paper's at this width.

    `ours`: trained longer and longer, joined by a line. `at_paper_settings`: trained as in the paper, which differs in
    more than the number of steps. `paper`: Table 4. The bars are those of Figure 2.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        estimates = robust_by_length([ours, at_paper_settings])
        estimates = estimates[estimates["seeds"] > 0]
        if estimates.empty:
            return not_yet(figure, ours)
        ax = figure.subplots()
        width = next(iter(estimates.attrs["settings"].values()))["model"]["widen_factor"]
        paper_accuracies = paper_values(paper, *BOXED, by=["transform", "widen_factor"])
        looks = looks_of(transforms_of(at_paper_settings, ours))
        for name, look in looks.items():
            rows = estimates[estimates.index.get_level_values("transform") == name]
            is_papers = np.array([is_papers_own(scale, recipe) for scale, recipe, _ in rows.index], dtype=bool)
            for part, line in ((rows[~is_papers], "-"), (rows[is_papers], "none")):
                if len(part):
                    spans = error_bars(part)
                    ax.errorbar(part["steps"], part["mean"], yerr=spans, linewidth=1.6, capsize=2, linestyle=line, **look)
            if (name, width) in paper_accuracies.index:
                ax.axhline(paper_accuracies[name, width], linestyle="--", color=look["color"], linewidth=1.2, alpha=0.9)
        steps = sorted(set(estimates["steps"]))
        ax.set_xscale("log")
        ax.set_xticks(steps, [f"{each:,}" for each in steps], fontsize=8)
        ax.minorticks_off()
        ax.set_xlabel("steps of PGD training")
        ax.set_ylabel("robust accuracy (%)")
        handles = [Line2D([], [], label=transform_label(name), **look) for name, look in looks.items()]
        handles.append(Line2D([], [], linestyle="--", color="grey", label="the paper, at its own steps"))
        figure.legend(handles=handles, fontsize=8, ncols=4, loc="outside upper center", frameon=False)
    return figure


def _by_recipe(ours: pd.DataFrame, paper: pd.DataFrame) -> list[tuple[str, dict[str, int], pd.DataFrame, pd.Series]]:
    """Of each of the three accuracies its heading, the steps by recipe of its training, few first, ours by (transform, recipe),
    and the paper's column of our width."""
    quantities = []
    for each in ACCURACIES:
        steps = {recipe: settings["training"]["steps"] for (_, recipe), settings in _trainings(ours, each[0]).items()}
        estimates = over_seeds(ours, *each, by=["transform", "recipe"])
        quantities.append((QUANTITIES[each][1], steps, estimates, at_our_width(ours, paper, each)))
    return quantities


def levels_table(ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """The accuracies of variants by length of training, in percent, beside the paper's column of the same width.

    `ours`: networks of one width, standard and PGD training by several recipes each; `paper`: Table 5.
    """
    quantities, columns = _by_recipe(ours, paper), [Column("variant")]
    for heading, steps, _, _ in quantities:
        columns += [paper_column(f"{heading}: paper"), *(our_column(f"{heading}: {each:,} steps") for each in steps.values())]
    rows = []
    for transform in transforms_of(ours):
        row: list[object] = [transform_label(transform)]
        for _, steps, estimates, theirs in quantities:
            printed = theirs.get(transform, np.nan)
            row += [printed, *(our_number(estimates, (transform, recipe), printed) for recipe in steps)]
        rows.append(row)
    return Table(columns, rows)


def levels_summary(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How far ours are from the paper's column, and what the longest training gains over the shortest, of the numbers that
    both lengths have."""
    means, lengths = {}, {}
    for (training, _), (heading, steps, estimates, theirs) in zip(ACCURACIES, _by_recipe(ours, paper), strict=True):
        shortest, *_, longest = steps
        by_recipe = estimates["mean"].unstack("recipe").reindex(columns=[shortest, longest])
        means[heading] = by_recipe.set_axis(["short", "long"], axis="columns").assign(paper=theirs)
        lengths[training] = f"{steps[shortest]:,} and {steps[longest]:,} in {'PGD' if training == 'pgd' else training} training"
    both = pd.concat(means, names=["quantity"]).dropna(subset=["short", "long"])
    if both.empty:
        return f"Not computed yet: the longer training; {to_compute(ours)}"
    sentences = [
        f"Scale {ours.attrs['scale']}, w={width_of(ours):g}, {counted(len(both), 'number')} of "
        f"{counted(both.index.unique('transform').size, 'variant')}, with the fewest and with the most steps: "
        f"{'; '.join(lengths.values())}."
    ]
    if both["paper"].notna().any():
        gaps = [(both[name] - both["paper"]).dropna() for name in ("short", "long")]
        sizes, below = ([f"{gap.abs().mean():.1f}" for gap in gaps], [(gap < 0).sum() for gap in gaps])
        sentences.append(
            f"The mean size of Δ is **{sizes[0]} points and {sizes[1]}**; ours is below the paper's in {below[0]} and in "
            f"{below[1]} of {len(gaps[0])}."
        )
    gains = (both["long"] - both["short"]).groupby("quantity", sort=False)
    changes = [f"{heading} {from_to(gain)}" for heading, gain in gains]
    sentences.append(f"The longest training changes the accuracies by, in points: {', '.join(changes)}.")
    return " ".join(sentences)


_TUNING = {"MNIST": (runs("tuning-mnist"), published("table-4")), "CIFAR10": (runs("tuning-cifar10"), published("table-5"))}
_STANDARD_TUNING = runs("tuning-cifar10-standard"), published("table-5")
_LENGTHS = runs("under-training"), runs("published-settings"), published("table-4")
exhibit("tuning", tuning_table, _TUNING)
exhibit("tuning-seen", tuning_summary, _TUNING)
exhibit("standard-tuning", standard_tuning_table, *_STANDARD_TUNING)
exhibit("standard-tuning-seen", standard_tuning_summary, *_STANDARD_TUNING)
exhibit("length", length_table, *_LENGTHS)
exhibit("length-figure", length_figure, *_LENGTHS)
exhibit("length-seen", length_summary, *_LENGTHS)
exhibit("levels-by-length", levels_table, runs("under-training-cifar10"), published("table-5"))
exhibit("levels-by-length-seen", levels_summary, runs("under-training-cifar10"), published("table-5"))
