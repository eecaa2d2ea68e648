"""Section 3: accuracies by variant beside the paper's Tables 2 and 3, and which filter made its data."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.exhibits.cells import (
    BOXED,
    MISSING,
    QUANTITIES,
    extent,
    number,
    our_cell,
    over_seeds,
    paper_values,
    to_compute,
    transform_label,
)


def seen(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """What the records show of the paper's claim: how far robust accuracy moves, and how little clean accuracy does."""
    quantities = (("standard", "clean_accuracy"), BOXED)
    clean, robust = (over_seeds(ours, *quantity)["mean"].dropna() for quantity in quantities)
    if len(robust) < 2:
        return f"Not computed yet: at least two variants are needed, {len(robust)} are there; {to_compute(ours)}"
    theirs = paper_values(paper, *BOXED)[robust.index]
    which = " and ".join(map(transform_label, robust.index)) if len(robust) == 2 else f"the {len(robust)} variants computed"
    said = (
        f"Over {which} (scale {ours.attrs['scale']}), robust accuracy runs from {robust.min():.1f}% "
        f"({transform_label(robust.idxmin())}) to {robust.max():.1f}% ({transform_label(robust.idxmax())}), a range of "
        f"**{extent(robust):.1f} points**; the paper's, over the same variants, is {extent(theirs):.1f}."
    )
    if len(clean) < 2:
        return f"{said} The clean accuracy of standard training is not computed yet; {to_compute(ours)}"
    over = "" if set(clean.index) == set(robust.index) else f", over {len(clean)} variants,"
    return f"{said} The clean accuracy of standard training moves{over} by **{extent(clean):.1f} points**."


def robustness_table(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Tables 2 and 3: accuracies in percent on test images, the paper's beside ours, and Δ, ours minus the paper's.

    One row a variant, in the paper's order. Over several seeds ours is the mean ± half the range. "–" marks what is
    not computed at this scale, "stale" what has to be computed again, "failed" a training that found no classifier.
    """
    found = {quantity: over_seeds(ours, *quantity) for quantity in QUANTITIES}
    rows = []
    for transform in paper["transform"].unique():
        row = {"variant": transform_label(transform)}
        for quantity, (_, heading, _) in QUANTITIES.items():
            theirs = paper_values(paper, *quantity)[transform]
            mine = found[quantity]
            row[f"{heading}: paper"] = f"{theirs:.1f}"
            row[f"{heading}: ours (Δ)"] = our_cell(mine, transform, theirs)
        rows.append(row)
    return pd.DataFrame(rows)


def footprint_table(
    volumes: pd.DataFrame, distances: pd.DataFrame, paper_volumes: pd.DataFrame, paper_distances: pd.DataFrame
) -> pd.DataFrame:
    """Which smoothing filter made the paper's data: what Tables 1 and 6 print, beside a column and a square filter.

    Perturbable volumes are means of log2 over test images, in bits, which the paper prints without decimals, truncated
    toward zero. Distances are ratios to the original's inter-class distance: the scale factors of Table 1.
    """
    rows = []
    theirs = paper_volumes[paper_volumes["dataset"] == "mnist"].set_index("transform")["value"]
    mine = volumes.set_index("transform")["value"]
    for size in (3, 5):
        column, square = (mine.get(f"smooth-{footprint}{size}", np.nan) for footprint in ("", "square-"))
        rows.append((f"log2 perturbable volume, smooth {size}", theirs[f"smooth-{size}"], column, square, "{:.0f}", "{:.2f}"))
    factors = paper_distances[paper_distances["metric"] == "scale_factor"].set_index("transform")["value"]
    mine = distances.set_index("transform")["value"]
    mine = mine / mine.get("original", np.nan)
    for size in (3, 4, 5):
        column, square = (mine.get(f"smooth-{footprint}{size}", np.nan) for footprint in ("", "square-"))
        label = f"inter-class distance over the original's, smooth {size}"
        rows.append((label, factors[f"rescale-to-smooth-{size}"], column, square, "{:.3f}", "{:.4f}"))
    shown = [
        {
            "quantity": label,
            "paper": printed.format(paper),
            "column s×1": number(column, computed),
            "square s×s": number(square, computed),
            "nearer": _nearer(paper, column, square),
        }
        for label, paper, column, square, printed, computed in rows
    ]
    return pd.DataFrame(shown)


def footprint_robustness_table(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy of PGD training on both footprints, beside the paper's Table 2: which one is nearer."""
    mine = over_seeds(ours, "pgd", "robust_accuracy")
    theirs = paper_values(paper, "pgd", "robust_accuracy")
    rows = []
    for name in theirs.index.intersection([f"smooth-{size}" for size in (3, 5, 8)]):
        square = name.replace("smooth-", "smooth-square-")
        values = [mine["mean"].get(variant, np.nan) for variant in (name, square)]
        rows.append(
            {
                "variant": transform_label(name),
                "robust accuracy: paper": f"{theirs[name]:.1f}",
                "column s×1 (Δ)": our_cell(mine, name, theirs[name]),
                "square s×s (Δ)": our_cell(mine, square, theirs[name]),
                "nearer": _nearer(theirs[name], *values),
            }
        )
    return pd.DataFrame(rows)


def _nearer(paper: float, column: float, square: float) -> str:
    if not np.isfinite([column, square]).all():
        return MISSING
    return "column" if abs(column - paper) < abs(square - paper) else "square"


def sensitivity_table(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """The paper's claim in one table: how far each quantity moves over the variants that are computed, in points.

    `sets`: from a data set's name to (ours, the paper's). The range is taken over the same variants on both sides; a
    range needs at least two of them.
    """
    rows = []
    for name, (ours, paper) in sets.items():
        for quantity, (label, _, _) in QUANTITIES.items():
            mine = over_seeds(ours, *quantity)
            mine = mine.loc[mine["seeds"] > 0, "mean"]
            theirs = paper_values(paper, *quantity)
            shared = [variant for variant in theirs.index if variant in mine.index]
            enough = len(shared) > 1
            rows.append(
                {
                    "data set": name,
                    "quantity": label,
                    "paper, all variants": f"{extent(theirs):.1f}",
                    "paper, variants computed": f"{extent(theirs[shared]):.1f}" if enough else MISSING,
                    "ours": f"{extent(mine[shared]):.1f}" if enough else MISSING,
                    "variants": ", ".join(map(transform_label, shared)) or MISSING,
                }
            )
    return pd.DataFrame(rows)
