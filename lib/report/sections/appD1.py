"""Appendix D.1: perturbable volumes, and attacks that may leave the unit cube, for each variant."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.report.exhibit import exhibit, measurements, published, runs
from lib.report.table import NOT_IN_PAPER, Column, Number, Table
from lib.report.values import (
    BOXED,
    UNBOXED,
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
)
from lib.report.words import counted, in_the_paper, set_name, to_compute, transform_label


def perturbable_volume_table(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> Table:
    """Table 6: mean log2 perturbable volume of test images, in bits, with the range that is possible.

    `sets`: from the paper's name of a data set, or `fashion_mnist`, to what was measured of its variants. The paper's values
    are whole bits, truncated toward zero: of ours, "truncated" is what it would have printed. The range is that of d pixels:
    d·log2(eps) in a corner of the cube to d·log2(2·eps) where no face is near.
    """
    columns = [
        Column("data set"), Column("variant"), Column("paper", ".0f", absent=""), Column("ours", ".2f"),
        Column("truncated", ".0f"), Column("possible", write=lambda ends: f"{ends[0]:.1f} to {ends[1]:.1f}", left=False),
    ]  # fmt: skip
    rows = []
    for name, measured in sets.items():
        theirs = paper[paper["dataset"] == name]
        paper_volumes = theirs.set_index("transform")["value"]
        values = measured_numbers(measured, "log2_perturbable_volume")
        label = set_name(measured["dataset"].iloc[0] if len(measured) else name)
        eps = paper_eps(name)
        pixels = 3 * 32 * 32 if name == "cifar10" else 28 * 28
        possible = pixels * np.log2(eps), pixels * np.log2(2 * eps)
        for transform in transforms_of(measured, theirs):
            value = values.get(transform, Number())
            paper_volume = paper_volumes.get(transform, np.nan)
            rows.append((label, transform_label(transform), paper_volume, value, np.trunc(value.value), possible))
    return Table(columns, rows)


def perturbable_volume_summary(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> str:
    """How many of Table 6's values ours give when truncated as the paper's are, and by how much the others miss."""
    sentences = []
    for name, measured in sets.items():
        paper_volumes = paper[paper["dataset"] == name].set_index("transform")["value"]
        both = pd.DataFrame({"theirs": paper_volumes, "ours": measured_values(measured, "log2_perturbable_volume")}).dropna()
        if both.empty:
            if len(paper_volumes):
                sentences.append(f"{set_name(name)}: not computed yet; {to_compute(measured)}")
            continue
        agreeing = int((np.trunc(both["ours"]) == both["theirs"]).sum())
        largest = (np.trunc(both["ours"]) - both["theirs"]).abs().max()
        rest = "" if agreeing == len(both) else f"; the largest difference is {counted(round(largest), 'bit')}"
        sentences.append(
            f"{set_name(measured['dataset'].iloc[0])} (scale {measured.attrs['scale']}): **{agreeing} of {len(both)}** values "
            f"agree with the paper's to the last digit{rest}."
        )
    return " ".join(sentences)


def unboxed_table(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> Table:
    """Table 7: robust accuracy under PGD within the unit cube and under PGD that may leave it, in percent of test images.

    `sets`: from the paper's name of a data set to ours. The change is that from within to without, on either side.
    """
    columns = [
        Column("variant"), paper_column("in the cube: paper"), our_column("in the cube: ours"),
        paper_column("out of the cube: paper"), our_column("out of the cube: ours"),
        Column("change: paper", "+.1f", absent=NOT_IN_PAPER), Column("change: ours", "+.1f"),
    ]  # fmt: skip
    rows = []
    for name, ours in sets.items():
        theirs = paper[paper["dataset"] == name]
        boxed, unboxed = (paper_values(theirs, *quantity) for quantity in (BOXED, UNBOXED))
        our_estimates = [over_seeds(ours, *quantity) for quantity in (BOXED, UNBOXED)]
        label = set_name(ours["dataset"].iloc[0] if len(ours) else name)
        for transform in transforms_of(theirs, ours):
            within, without = (values.get(transform, np.nan) for values in (boxed, unboxed))
            ours_within, ours_without = (
                our_number(estimates, transform, value)
                for estimates, value in zip(our_estimates, (within, without), strict=True)
            )
            rows.append(
                (
                    f"{label}, {transform_label(transform)}", within, ours_within, without, ours_without, without - within,
                    ours_without.value - ours_within.value,
                )
            )  # fmt: skip
    return Table(columns, rows)


def unboxed_summary(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> str:
    """By how much robust accuracy moves when the attack may leave the cube, ours and the paper's over the same variants."""
    sentences = []
    for name, ours in sets.items():
        change, theirs = unboxed_changes(ours, paper[paper["dataset"] == name])
        if change.empty:
            sentences.append(f"{set_name(name)}: not computed yet; {to_compute(ours)}")
            continue
        variants = counted(len(change), "variant")
        span = f"**{change.min():+z.1f}** ({transform_label(change.idxmin())})"
        if len(change) > 1:
            span += f" to **{change.max():+z.1f} points** ({transform_label(change.idxmax())})"
        sentences.append(
            f"{set_name(ours['dataset'].iloc[0])} (scale {ours.attrs['scale']}, {variants}): "
            f"leaving the cube changes robust accuracy by {span}{in_the_paper(theirs)}."
        )
    return " ".join(sentences)


_VOLUMES = {"mnist": "volumes-mnist", "cifar10": "volumes-cifar10", "fashion_mnist": "volumes-fashion"}
_MEASURED = {name: measurements(each) for name, each in _VOLUMES.items()}
_BOXES = {name: runs(f"table-7-{name}") for name in ("mnist", "cifar10")}
exhibit("table-6", perturbable_volume_table, _MEASURED, published("table-6"))
exhibit("table-6-seen", perturbable_volume_summary, _MEASURED, published("table-6"))
exhibit("table-7", unboxed_table, _BOXES, published("table-7"))
exhibit("table-7-seen", unboxed_summary, _BOXES, published("table-7"))
