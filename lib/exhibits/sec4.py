"""Section 4: variants that the paper prints no numbers of, and the six accuracies of Figure 3b."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.exhibits.cells import (
    ACCURACIES,
    MISSING,
    QUANTITIES,
    cell,
    extent,
    over_seeds,
    paper_values,
    span,
    to_compute,
    transform_label,
)


def variants_table(ours: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """The four quantities of variants that the paper prints no numbers of, in percent on test images.

    In brackets the 95% interval, of images and trainings.
    """
    rows = []
    for variant in variants:
        row = {"variant": transform_label(variant)}
        for quantity, (_, heading, _) in QUANTITIES.items():
            row[heading] = _cell_with_span(over_seeds(ours, *quantity), variant)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell_with_span(found: pd.DataFrame, transform: str) -> str:
    def shown(row: pd.Series) -> str:
        low, high = span(row)
        return f"{row['mean']:.1f} [{low:.1f}, {high:.1f}]"

    return cell(found, transform, shown)


def seen_variants(ours: pd.DataFrame, variants: Sequence[str]) -> str:
    """One sentence: how far each accuracy moves over variants that the paper prints no numbers of."""
    moved = {}
    for quantity in ACCURACIES:
        found = over_seeds(ours, *quantity)["mean"].reindex(list(variants)).dropna()
        if len(found) < 2:
            label = QUANTITIES[quantity][0]
            return f"Not computed yet: {label} needs at least two variants, {len(found)} are there; {to_compute(ours)}"
        moved[quantity] = found
    clean, trained, robust = moved.values()
    ranges = [extent(found) for found in (clean, trained, robust)]
    return (
        f"Over {len(robust)} of {len(variants)} variants (scale {ours.attrs['scale']}) the clean accuracy of standard training "
        f"moves by **{ranges[0]:.1f} points**, that of PGD training by **{ranges[1]:.1f}**, and robust accuracy by "
        f"**{ranges[2]:.1f}**, from {robust.min():.1f}% ({transform_label(robust.idxmin())}) to {robust.max():.1f}% "
        f"({transform_label(robust.idxmax())})."
    )


FASHION = {"original": "fashion-MNIST", "edges": "edge-fashion-MNIST"}


def fashion_table(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """The six numbers of Figure 3b, in percent on test images: the paper's, ours with its interval, and Δ, their difference.

    In brackets the 95% interval, of images and trainings.
    """
    rows = []
    for transform, name in FASHION.items():
        for quantity in ACCURACIES:
            theirs = paper_values(paper, *quantity)[transform]
            mine = over_seeds(ours, *quantity)
            there = transform in mine.index and mine.loc[transform, "seeds"] > 0
            rows.append(
                {
                    "data set": name,
                    "quantity": QUANTITIES[quantity][0],
                    "paper": f"{theirs:.1f}",
                    "ours": _cell_with_span(mine, transform),
                    "Δ": f"{mine.loc[transform, 'mean'] - theirs:+.1f}" if there else MISSING,
                }
            )
    return pd.DataFrame(rows)


def seen_fashion(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """What PGD training costs and what the attack takes, of fashion-MNIST and of its edges, beside the paper's numbers."""
    said = []
    for transform, name in FASHION.items():
        mine = [over_seeds(ours, *quantity)["mean"].get(transform, np.nan) for quantity in ACCURACIES]
        theirs = [paper_values(paper, *quantity)[transform] for quantity in ACCURACIES]
        if not np.isfinite(mine).all():
            bad = ours[ours["value"].isna() & (ours["transform"] == transform)]["status"]
            why = f" (some are {', '.join(sorted(set(bad)))})" if len(bad) else ""
            return f"Not computed yet: {name} lacks some of its three accuracies{why}; {to_compute(ours)}"
        said.append(
            f"On {name}, PGD training costs **{mine[0] - mine[1]:.1f} points** of clean accuracy (the paper: "
            f"{theirs[0] - theirs[1]:.1f}), and the attack takes another **{mine[1] - mine[2]:.1f}** (the paper: "
            f"{theirs[1] - theirs[2]:.1f})."
        )
    return f"At scale {ours.attrs['scale']}: {' '.join(said)}"
