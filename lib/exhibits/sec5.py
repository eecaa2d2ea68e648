"""Section 5 and Appendix C: equal distances, volumes and boxes, capacity and the number of training images."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.exhibits.cells import (
    ACCURACIES,
    BOXED,
    QUANTITIES,
    UNBOXED,
    accuracy,
    extent,
    from_to,
    listed,
    measured_values,
    our_number,
    out_of_the_box,
    over_seeds,
    paper_values,
    printed,
    to_compute,
    transform_label,
)
from lib.exhibits.table import NOT_IN_PAPER, Column, Table


def capacity_tables(ours: pd.DataFrame, paper: pd.DataFrame) -> dict[str, Table]:
    """Tables 4 and 5: accuracies in percent by widen factor, the paper's beside ours; one table a quantity, by its heading.

    Variants on training images come first, then the same on test images; two columns a width. Over several seeds ours is the
    mean ± half the range. "–" marks what is not computed at this scale, "n/a" what the paper or our copy of it has not.
    """
    widths = sorted({*paper["widen_factor"], *ours["widen_factor"]})
    columns = [Column("variant"), Column("images")]
    for width in widths:
        heading = f"w={f'{width:g}'.removeprefix('0')}"
        columns += [printed(f"{heading} paper"), Column(f"{heading} ours", ".1f")]
    by = ["transform", "widen_factor"]
    tables = {}
    for quantity in ACCURACIES:
        rows = []
        for split, images in (("train", "training"), ("test", "test")):
            mine, theirs = over_seeds(ours, *quantity, split, by), paper_values(paper, *quantity, split, by)
            for transform in listed(paper, ours):
                row = [transform_label(transform), images]
                for key in ((transform, width) for width in widths):
                    row += [theirs.get(key, np.nan), our_number(mine, key)]
                rows.append(row)
        tables[QUANTITIES[quantity][1]] = Table(columns, rows)
    return tables


def equal_distance_table(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Table 1: sets of equal inter-class distance, the factors that make them equal, and the robust accuracy on each.

    `distances`: measured distances and solved factors. A smoothed set has no factor. "–" marks what is not computed.
    """
    measured, factors = (measured_values(distances, metric) for metric in ("inter_class_distance", "scale_factor"))
    theirs = {name: rows.set_index("transform")["value"] for name, rows in paper.groupby("metric")}
    robust = over_seeds(ours, "pgd", "robust_accuracy")
    columns = [
        Column("set"), Column("distance: paper", ".2f", absent=NOT_IN_PAPER), Column("distance: ours", ".2f"),
        Column("factor: paper", ".3f", absent=NOT_IN_PAPER), Column("factor: ours", ".3f"), printed("robust: paper"),
        accuracy("robust: ours"),
    ]  # fmt: skip
    rows = []
    for transform in listed(paper, ours):
        target = transform.rpartition("rescale-to-")[2]
        found = (theirs["scale_factor"].get(transform, np.nan), factors.get(transform, np.nan))
        distance = (theirs["inter_class_distance"].get(target, np.nan), measured.get(transform, np.nan))
        value = theirs["robust_accuracy"].get(transform, np.nan)
        scaled = found if transform != target else (None, None)
        rows.append((transform_label(transform), *distance, *scaled, value, our_number(robust, transform, value)))
    return Table(columns, rows)


def equal_distance_seen(distances: pd.DataFrame, ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """One sentence a target of Table 1 on what the records show: how far robust accuracies at one distance lie apart."""
    robust = over_seeds(ours, "pgd", "robust_accuracy")
    robust = robust.loc[robust["seeds"] > 0, "mean"]
    theirs, reached = paper_values(paper, "pgd", "robust_accuracy"), measured_values(distances, "inter_class_distance")
    said = []
    for target in (name for name in listed(paper, ours) if "rescale-to-" not in name):
        sets = [target, f"rescale-to-{target}", f"binarize+rescale-to-{target}"]
        if not all(name in robust.index for name in sets):
            continue
        mine = robust[sets]
        each = ", ".join(f"{mine[name]:.1f}% ({transform_label(name)})" for name in sets)
        printed = f", in the paper {extent(theirs[sets]):.1f}" if {*sets} <= {*theirs.index} else ""
        at = f" ({reached[target]:.2f})" if np.isfinite(reached.get(target, np.nan)) else ""
        said.append(
            f"At the inter-class distance of {transform_label(target)}{at}, robust accuracy is {each}: **{extent(mine):.1f} "
            f"points** between sets of one distance{printed}."
        )
    if not said:
        return f"Not computed yet: a target needs all three of its sets; {to_compute(ours)}"
    return f"Scale {ours.attrs['scale']}. " + " ".join(said)


def volume_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], paper: pd.DataFrame) -> str:
    """What the records show of Section 5.1: how little leaving the box changes, for all that the volumes differ.

    `sets`: from the paper's name of a data set, as in Table 7 (`paper`), to (measured volumes, ours).
    """
    said = []
    for name, (volumes, ours) in sets.items():
        change = out_of_the_box(over_seeds(ours, *BOXED)["mean"], over_seeds(ours, *UNBOXED)["mean"])
        if change.empty:
            said.append(f"{name.upper()}: not computed yet; {to_compute(ours)}")
            continue
        rows = paper[paper["dataset"] == name]
        theirs = out_of_the_box(paper_values(rows, *BOXED), paper_values(rows, *UNBOXED))[change.index]
        bits = extent(measured_values(volumes, "log2_perturbable_volume").reindex(change.index))
        apart = f", whose perturbable volumes differ by up to {bits:.0f} bits" if bits > 0 else ""
        over = f"over {len(change)} variant{'s' * (len(change) > 1)}{apart}"
        said.append(
            f"{name.upper()} (scale {ours.attrs['scale']}): letting the attack leave the box changes robust accuracy by "
            f"**{from_to(change)} points** {over}; in the paper, over the same, by {from_to(theirs)}."
        )
    return " ".join(said)


def growth_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame | None]], axis: str) -> str:
    """What the records show of Section 5.3: how robust accuracy moves from the least to the most of `axis` that is computed.

    `sets`: from a data set's name to (ours, the paper's or None where it prints no number); `axis`: `widen_factor` or
    `train_size`. The paper's moves are over the same variants and the same ends.
    """
    said = []
    for name, (ours, paper) in sets.items():
        robust, trained, clean = (
            _ends(over_seeds(ours, *quantity, split, ["transform", axis])["mean"])
            for quantity, split in ((BOXED, "test"), (BOXED, "train"), (("standard", "clean_accuracy"), "test"))
        )
        if robust.empty:
            said.append(f"{name}: not computed yet, two values at least are needed; {to_compute(ours)}")
            continue
        gap = (trained - robust).mean()
        low, high = (f"{value:,g}" for value in robust.attrs["ends"])
        theirs = ""
        if paper is not None:
            printed = _ends(paper_values(paper, *BOXED, by=["transform", axis]), robust.attrs["ends"]).reindex(robust.index)
            theirs = f" (the paper's, over the same, by {_moves(printed)})" if len(printed.dropna()) else ""
        steady = f", the clean accuracy of standard training by {_moves(clean)}" if len(clean) else ""
        said.append(
            f"{name} (scale {ours.attrs['scale']}), from {axis.replace('_', ' ')} {low} to {high}: robust accuracy on test "
            f"images moves by **{_moves(robust)}**{theirs}{steady}. The gap between training and test images goes, on average "
            f"over the variants, from {gap['first']:.1f} to {gap['last']:.1f} points of robust accuracy."
        )
    return " ".join(said)


def passes_seen(sets: Mapping[str, pd.DataFrame]) -> str:
    """How often training goes through each training set of Section 5.3, by data set: the runs of all sizes take the same steps.

    Short training hardly sees a large set, which then cannot show what more images would give.
    """
    said = []
    for name, ours in sets.items():
        runs = grid.runs(ours.attrs["exhibit"], ours.attrs["scale"])
        training = grid.settings(runs[0])["training"]
        seen = training["steps"] * training["batch_size"]
        each = [f"{seen / size:,.0f} times through {size:,}" for size in sorted({run.train_size for run in runs})]
        said.append(
            f"{name} (scale {ours.attrs['scale']}): every run takes {training['steps']:,} steps of {training['batch_size']} "
            f"images, that is {', '.join(each)} training images."
        )
    return " ".join(said)


def _ends(values: pd.Series, ends: tuple[float, float] | None = None) -> pd.DataFrame:
    """The first and last value of each transform along the second level of the index, where both are there.

    `ends`, by default the least and the largest value of that level with a number, are kept in `attrs`.
    """
    values = values.dropna()
    along = values.index.get_level_values(1)
    low, high = ends or ((float(along.min()), float(along.max())) if len(along) else (np.nan, np.nan))
    wide = values.unstack().reindex(columns=[low, high]) if low < high else pd.DataFrame(columns=[low, high], dtype=float)
    wide.columns = ["first", "last"]
    wide = wide.dropna()
    wide.attrs["ends"] = (low, high)
    return wide


def _moves(ends: pd.DataFrame) -> str:
    """The least and the largest move between two ends, with the variants' names."""
    moves = (ends["last"] - ends["first"]).dropna()
    least, most = moves.idxmin(), moves.idxmax()
    if f"{moves[least]:+.1f}" == f"{moves[most]:+.1f}":
        return f"{moves[most]:+.1f} points ({' and '.join(map(transform_label, moves.index))})"
    return f"{moves[least]:+.1f} ({transform_label(least)}) to {moves[most]:+.1f} points ({transform_label(most)})"
