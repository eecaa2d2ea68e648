"""How long to train: the tuning of scale laptop, and whether gaps between variants come of short training (Appendix B.1)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib import grid
from lib.exhibits.cells import (
    NOT_IN_PAPER,
    budget_label,
    number,
    our_cell,
    over_seeds,
    paper_values,
    to_compute,
    transform_label,
)

ROBUST = ("pgd", "robust_accuracy")
_CLEAN = ("pgd", "clean_accuracy")
OWN = "published"  # the recipe that is the paper's
_BY_WIDTH = ["transform", "widen_factor"]


def _trainings(ours: pd.DataFrame) -> dict[str, dict]:
    """By recipe, the settings of the exhibit's runs, those of few steps first."""
    runs = grid.runs(ours.attrs["exhibit"], ours.attrs["scale"])
    found = {run.recipe: grid.settings(run) for run in runs}
    return dict(sorted(found.items(), key=lambda each: each[1]["training"]["steps"]))


def variants(ours: pd.DataFrame) -> list[str]:
    """The transforms of the exhibit, in the grid's order."""
    return list(dict.fromkeys(run.transform for run in grid.runs(ours.attrs["exhibit"], ours.attrs["scale"])))


def _length(settings: dict) -> str:
    training = settings["training"]
    epochs = training["steps"] * training["batch_size"] / settings["data"]["train_size"]
    return f"{training['steps']:,} ({epochs:.3g} epochs)"


def _attack(settings: dict) -> str:
    attack = settings["attack"]
    return f"{attack['num_steps']} steps of {budget_label(attack['step_size'])}"


def tuning_table(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """Lengths of training that were compared on the original sets, and what came of them on test images, in percent.

    `sets`: from a data set's name to (ours, the paper's Table 4 or 5), of which the column of our width is shown. The row in
    bold is the setting that all variants are trained with.
    """
    rows = []
    for name, (ours, paper) in sets.items():
        for recipe, settings in _trainings(ours).items():
            bold = "**" if recipe == "default" else ""
            row = {
                "data set": name,
                "steps": f"{bold}{_length(settings)}{bold}",
                "attack in training": _attack(settings),
            }
            width = settings["model"]["widen_factor"]
            for heading, quantity in (("clean", _CLEAN), ("robust", ROBUST)):
                theirs = paper_values(paper, *quantity, by=_BY_WIDTH).get(("original", width), np.nan)
                mine = over_seeds(ours, *quantity, by=["transform", "recipe"])
                row[f"{heading}: paper"] = f"{theirs:.1f}" if np.isfinite(theirs) else NOT_IN_PAPER
                row[f"{heading}: ours (Δ)"] = our_cell(mine, ("original", recipe), theirs)
            rows.append(row)
    return pd.DataFrame(rows)


def tuning_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> str:
    """How far the training that was chosen is from the paper, and which way more of it would go."""
    said = []
    for name, (ours, paper) in sets.items():
        trainings = _trainings(ours)
        width = trainings["default"]["model"]["widen_factor"]
        theirs = paper_values(paper, *ROBUST, by=_BY_WIDTH).get(("original", width), np.nan)
        mine = over_seeds(ours, *ROBUST, by=["transform", "recipe"])["mean"].dropna()
        if ("original", "default") not in mine.index:
            said.append(f"{name}: not computed yet; {to_compute(ours)}.")
            continue
        chosen = mine["original", "default"]
        beside = (
            f"{chosen - theirs:+.1f} points from the paper at this width" if np.isfinite(theirs) else "no number in the paper"
        )
        others = [
            f"{mine['original', recipe]:.1f}% with {settings['training']['steps']:,}"
            for recipe, settings in trainings.items()
            if recipe != "default" and ("original", recipe) in mine.index
        ]
        others = f"; {' and '.join(others)}" if others else ""
        steps = trainings["default"]["training"]["steps"]
        said.append(
            f"{name} (scale {ours.attrs['scale']}): robust accuracy **{chosen:.1f}%** with {steps:,} steps, {beside}{others}."
        )
    return " ".join(said)


def robust_by_length(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Robust accuracies on test images by (recipe, transform), as `over_seeds` gives them, with `steps`; few steps first.

    `frames` may share runs. The recipe that is the paper's own counts as longest, whatever its steps.
    """
    settings = {recipe: each for ours in frames for recipe, each in _trainings(ours).items()}
    rows = pd.concat([ours[list(frames[0].columns)] for ours in frames])
    rows = rows.drop_duplicates(["scale", "transform", "recipe", "seed", "training", "split", "metric", "widen_factor"])
    found = over_seeds(rows, *ROBUST, by=["recipe", "transform"])
    order = sorted(settings, key=lambda recipe: (recipe == OWN, settings[recipe]["training"]["steps"]))
    wanted = pd.MultiIndex.from_product([order, found.index.unique("transform")], names=["recipe", "transform"])
    found = found.reindex([key for key in wanted if key in found.index])
    found["steps"] = [settings[recipe]["training"]["steps"] for recipe, _ in found.index]
    found.attrs = {"settings": {recipe: settings[recipe] for recipe in order}}
    return found


def length_table(ours: pd.DataFrame, own: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy by length of training, and the gap between original and smoothed images, in percent and points.

    `ours`: trained longer and longer; `own`: at the paper's own settings, with both footprints; `paper`: Table 4.
    """
    found = robust_by_length([ours, own])
    hard = list(
        dict.fromkeys(
            run.transform for run in grid.runs(own.attrs["exhibit"], own.attrs["scale"]) if run.transform != "original"
        )
    )
    rows = []
    for recipe, settings in found.attrs["settings"].items():
        steps = f"{_length(settings)}, attacks of {_attack(settings)}"
        row = {"training": f"the paper's own: {steps}" if recipe == OWN else steps}
        row |= {transform_label(name): our_cell(found, (recipe, name)) for name in ("original", *hard)}
        for name in hard:
            row[f"gap to {transform_label(name)}"] = number(_gap(found, recipe, name), "{:.1f}")
        rows.append(row)
    width = next(iter(found.attrs["settings"].values()))["model"]["widen_factor"]
    printed = paper_values(paper, *ROBUST, by=_BY_WIDTH)
    row = {"training": f"the paper's numbers, w={width:g}"}
    for name in ("original", *hard):
        value = printed.get((name, width), np.nan)
        row[transform_label(name)] = f"{value:.1f}" if np.isfinite(value) else NOT_IN_PAPER
    for name in hard:
        gap = printed.get(("original", width), np.nan) - printed.get((name, width), np.nan)
        row[f"gap to {transform_label(name)}"] = f"{gap:.1f}" if np.isfinite(gap) else NOT_IN_PAPER
    return pd.DataFrame([*rows, row])


def _gap(found: pd.DataFrame, recipe: str, name: str) -> float:
    means = found["mean"]
    return means.get((recipe, "original"), np.nan) - means.get((recipe, name), np.nan)


def length_seen(ours: pd.DataFrame, own: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How the gap between original and smoothed images moves with the length of training, and what the paper's own gives."""
    found = robust_by_length([ours, own])
    settings = found.attrs["settings"]
    hard = next(name for name in variants(ours) if name != "original")
    gaps = {recipe: gap for recipe in settings if np.isfinite(gap := _gap(found, recipe, hard))}
    longer = [recipe for recipe in gaps if recipe != OWN]
    if len(longer) < 2:
        return f"Not computed yet: two lengths at least are needed; {to_compute(ours)}."
    first, last = longer[0], longer[-1]
    width = settings[first]["model"]["widen_factor"]
    printed = paper_values(paper, *ROBUST, by=_BY_WIDTH)
    theirs = printed.get(("original", width), np.nan) - printed.get((hard, width), np.nan)
    moved = gaps[last] - gaps[first]
    verdict = "shrinks" if moved < -0.05 else "grows" if moved > 0.05 else "stays"
    said = [
        f"Scale {ours.attrs['scale']}, w={width:g}: from {settings[first]['training']['steps']:,} to "
        f"{settings[last]['training']['steps']:,} steps the gap between original and {transform_label(hard)} **{verdict}, from "
        f"{gaps[first]:.1f} to {gaps[last]:.1f} points**; the paper's is {theirs:.1f}."
    ]
    if OWN in gaps:
        said.append(f"At the paper's own settings it is {gaps[OWN]:.1f}.")
    footprints = {
        name: found["mean"][OWN, name]
        for name in (hard, hard.replace("smooth-", "smooth-square-"))
        if np.isfinite(found["mean"].get((OWN, name), np.nan))
    }
    value = printed.get((hard, width), np.nan)
    if len(footprints) == 2 and np.isfinite(value):
        column, square = footprints.values()
        nearer = "column" if abs(column - value) < abs(square - value) else "square"
        said.append(
            f"There the two footprints of the filter give {column:.1f}% (column) and {square:.1f}% (square), and the paper "
            f"prints {value:.1f}%: the {nearer} is nearer."
        )
    return " ".join(said)
