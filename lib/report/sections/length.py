"""Appendix B.1: how long to train at scale laptop, and whether short training exaggerates the gaps between variants."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.report.exhibit import exhibit, published, runs
from lib.report.plot import STYLE, error_bar, looks_of, not_yet
from lib.report.table import NOT_IN_PAPER, Column, Strong, Table
from lib.report.values import BOXED, accuracy, listed, our_number, over_seeds, paper_values, printed, row_estimate
from lib.report.words import budget_label, to_compute, transform_label
from lib.store import grid, plans
from lib.store.intervals import Estimate

_CLEAN = ("pgd", "clean_accuracy")
_BY_WIDTH = ["transform", "widen_factor"]


def _trainings(ours: pd.DataFrame) -> dict[tuple[str, str], dict]:
    """By scale and recipe, the settings of the exhibit's runs, those of few steps first."""
    scale = ours.attrs["scale"]
    found = {(scale, run.recipe): plans.of(run).settings for run in grid.runs(ours.attrs["exhibit"], scale)}
    return dict(sorted(found.items(), key=lambda each: each[1]["training"]["steps"]))


def is_own(scale: str, recipe: str) -> bool:
    """Whether a training is the paper's own, whatever the other settings of its scale."""
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
    columns += [printed("clean: paper"), accuracy("clean: ours"), printed("robust: paper"), accuracy("robust: ours")]
    rows = []
    for name, (ours, paper) in sets.items():
        for (_, recipe), settings in _trainings(ours).items():
            length = _length(settings)
            row = [name, Strong(length) if recipe == "default" else length, _attack(settings)]
            width = settings["model"]["widen_factor"]
            for quantity in (_CLEAN, BOXED):
                theirs = paper_values(paper, *quantity, by=_BY_WIDTH).get(("original", width), np.nan)
                mine = over_seeds(ours, *quantity, by=["transform", "recipe"])
                row += [theirs, our_number(mine, ("original", recipe), theirs)]
            rows.append(row)
    return Table(columns, rows)


def tuning_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> str:
    """How far the chosen training is from the paper, and what longer and shorter trainings give."""
    said = []
    for name, (ours, paper) in sets.items():
        trainings = {recipe: settings for (_, recipe), settings in _trainings(ours).items()}
        width = trainings["default"]["model"]["widen_factor"]
        theirs = paper_values(paper, *BOXED, by=_BY_WIDTH).get(("original", width), np.nan)
        mine = over_seeds(ours, *BOXED, by=["transform", "recipe"])["mean"].dropna()
        if ("original", "default") not in mine.index:
            said.append(f"{name}: not computed yet; {to_compute(ours)}")
            continue
        chosen = mine["original", "default"]
        beside = f", {chosen - theirs:+z.1f} points from the paper at this width" if np.isfinite(theirs) else ""
        others = [
            f"{mine['original', recipe]:.1f}% with {settings['training']['steps']:,}"
            for recipe, settings in trainings.items()
            if recipe != "default" and ("original", recipe) in mine.index
        ]
        others = f"; {' and '.join(others)}" if others else ""
        steps = trainings["default"]["training"]["steps"]
        said.append(
            f"{name} (scale {ours.attrs['scale']}): robust accuracy **{chosen:.1f}%** with {steps:,} steps{beside}{others}."
        )
    return " ".join(said)


def robust_by_length(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Robust accuracies on test images by (scale, recipe, transform), as `over_seeds` gives them, with `steps`.

    Few steps first, but the paper's own training last. `frames` may share runs. `attrs`: `settings` by (scale, recipe).
    """
    settings = {key: each for ours in frames for key, each in _trainings(ours).items()}
    rows = pd.concat([ours[list(frames[0].columns)] for ours in frames])
    rows = rows.drop_duplicates(["scale", "transform", "recipe", "seed", "training", "split", "metric", "widen_factor"])
    rows.attrs = frames[0].attrs
    found = over_seeds(rows, *BOXED, by=["scale", "recipe", "transform"])
    order = sorted(settings, key=lambda key: (is_own(*key), settings[key]["training"]["steps"]))
    names = list(found.index.unique("transform"))
    found = found.reindex([index for key in order for name in names if (index := (*key, name)) in found.index])
    found["steps"] = [settings[scale, recipe]["training"]["steps"] for scale, recipe, _ in found.index]
    found.attrs = {"settings": {key: settings[key] for key in order}}
    return found


def length_table(ours: pd.DataFrame, own: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Robust accuracy by length of training, and the gap between original and smoothed images, in percent and points.

    `ours`: trained longer and longer; `own`: at the paper's own settings, with both footprints; `paper`: Table 4.
    """
    found = robust_by_length([ours, own])
    hard = [name for name in listed(own, ours) if name != "original"]
    columns = [Column("training"), *(Column(transform_label(name), ".1f") for name in ("original", *hard))]
    columns += [Column(f"gap to {transform_label(name)}", ".1f") for name in hard]
    rows = []
    for key, settings in found.attrs["settings"].items():
        steps = f"{_length(settings)}, attacks of {_attack(settings)}"
        accuracies = [our_number(found, (*key, name)) for name in ("original", *hard)]
        gaps = [_gap(found, key, name) for name in hard]
        rows.append((f"the paper's own: {steps}" if is_own(*key) else steps, *accuracies, *gaps))
    width = next(iter(found.attrs["settings"].values()))["model"]["widen_factor"]
    theirs = paper_values(paper, *BOXED, by=_BY_WIDTH)
    numbers = [theirs.get((name, width), np.nan) for name in ("original", *hard)]
    numbers += [_printed_gap(theirs, width, name) for name in hard]
    last = [value if np.isfinite(value) else NOT_IN_PAPER for value in numbers]
    return Table(columns, [*rows, (f"the paper's numbers, w={width:g}", *last)])


def _gap(found: pd.DataFrame, key: tuple[str, str], name: str) -> float:
    means = found["mean"]
    return means.get((*key, "original"), np.nan) - means.get((*key, name), np.nan)


def _printed_gap(printed: pd.Series, width: float, name: str) -> float:
    return printed.get(("original", width), np.nan) - printed.get((name, width), np.nan)


def _estimated_gap(found: pd.DataFrame, key: tuple[str, str], name: str) -> Estimate:
    original, hard = (row_estimate(found.loc[(*key, each)]) for each in ("original", name))
    return original - hard


def _told(short: Estimate, long: Estimate) -> str:
    """How the gap changes from a short to a long training, and whether the change is beyond the intervals."""
    if (long - short).rises:
        return "The gap grows beyond the intervals: short training understates it."
    left = f"At the longest training the gap is {long} points, which is{'' if long.rises else ' not'} beyond its interval."
    if not (long - short).falls:
        return f"This change is not beyond the intervals. {left}"
    return f"So short training exaggerates the gap. {left}"


def length_seen(ours: pd.DataFrame, own: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How the gap between original and smoothed images moves with the length of training, and what the paper's own gives."""
    found = robust_by_length([ours, own])
    settings = found.attrs["settings"]
    hard = next(name for name in listed(ours) if name != "original")
    gaps = {key: gap for key in settings if np.isfinite(gap := _gap(found, key, hard))}
    longer = [key for key in gaps if not is_own(*key)]
    if len(longer) < 2:
        return f"Not computed yet: at least two lengths are needed; {to_compute(ours)}"
    first, last = longer[0], longer[-1]
    short, long = (_estimated_gap(found, key, hard) for key in (first, last))
    width = settings[first]["model"]["widen_factor"]
    printed = paper_values(paper, *BOXED, by=_BY_WIDTH)
    said = [
        f"Scale {ours.attrs['scale']}, w={width:g}: from {settings[first]['training']['steps']:,} to "
        f"{settings[last]['training']['steps']:,} steps the gap between original and {transform_label(hard)} goes **from "
        f"{gaps[first]:.1f} to {gaps[last]:.1f} points**, a change of {long - short}. The paper's gap is "
        f"{_printed_gap(printed, width, hard):.1f}. {_told(short, long)}"
    ]
    values = {name: [found.loc[(*key, name), "mean"] for key in longer] for name in ("original", hard)}
    last_gain = {name: listed[-1] - listed[-2] for name, listed in values.items()}
    said.append(
        f"The longest training still gains {last_gain[hard]:+z.1f} points on {transform_label(hard)} and "
        f"{last_gain['original']:+z.1f} on the original over the one before, so these lengths do not tell where the gap ends."
        if last_gain[hard] - last_gain["original"] >= 1
        else f"The longest training gains {last_gain[hard]:+z.1f} points on {transform_label(hard)} over the one before."
    )
    own_key = next((key for key in settings if is_own(*key)), None)
    if own_key in gaps:
        said.append(f"At the paper's own settings the gap is {gaps[own_key]:.1f}.")
    footprints = {
        name: value
        for name in (hard, hard.replace("smooth-", "smooth-square-"))
        if own_key and np.isfinite(value := found["mean"].get((*own_key, name), np.nan))
    }
    value = printed.get((hard, width), np.nan)
    if len(footprints) == 2 and np.isfinite(value):
        column, square = footprints.values()
        nearer = "column" if abs(column - value) < abs(square - value) else "square"
        said.append(
            f"At these settings the filter gives {column:.1f}% as a column and {square:.1f}% as a square. The paper prints "
            f"{value:.1f}%: the {nearer} is nearer."
        )
    return " ".join(said)


def length_figure(ours: pd.DataFrame, own: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    """Robust accuracy of original and of smoothed images over the steps of training; dashed, the paper's at this width.

    `ours`: trained longer and longer, joined by a line; `own`: at the paper's own settings, which differ in more than steps.
    `paper`: Table 4. The bars are those of Figure 2.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        found = robust_by_length([ours, own])
        found = found[found["seeds"] > 0]
        if found.empty:
            return not_yet(figure, ours)
        ax = figure.subplots()
        width = next(iter(found.attrs["settings"].values()))["model"]["widen_factor"]
        printed = paper_values(paper, *BOXED, by=["transform", "widen_factor"])
        looks = looks_of(listed(own, ours))
        for name, look in looks.items():
            rows = found[found.index.get_level_values("transform") == name]
            apart = np.array([is_own(scale, recipe) for scale, recipe, _ in rows.index], dtype=bool)
            for part, line in ((rows[~apart], "-"), (rows[apart], "none")):
                if len(part):
                    spans = np.transpose([error_bar(point) for _, point in part.iterrows()])
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
    return figure


_TUNING = {"MNIST": (runs("tuning-mnist"), published("table-4")), "CIFAR10": (runs("tuning-cifar10"), published("table-5"))}
_LENGTHS = runs("under-training"), runs("published-settings"), published("table-4")
exhibit("tuning", tuning_table, _TUNING)
exhibit("tuning-seen", tuning_seen, _TUNING)
exhibit("length", length_table, *_LENGTHS)
exhibit("length-figure", length_figure, *_LENGTHS)
exhibit("length-seen", length_seen, *_LENGTHS)
