"""Appendix D: volumes, boxes and distances variant by variant, spheres, and the linear case."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr

from lib import geometry
from lib.exhibits.cells import (
    BOXED,
    UNBOXED,
    accuracy,
    from_to,
    listed,
    measured_values,
    our_number,
    out_of_the_box,
    over_seeds,
    paper_eps,
    paper_values,
    printed,
    set_name,
    to_compute,
    transform_label,
)
from lib.exhibits.table import NOT_IN_PAPER, Column, Table


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
        printed = theirs.set_index("transform")["value"]
        values = measured_values(measured, "log2_perturbable_volume")
        label = set_name(measured["dataset"].iloc[0] if len(measured) else name)
        eps = paper_eps(name)
        pixels = 3 * 32 * 32 if name == "cifar10" else 28 * 28
        possible = pixels * np.log2(eps), pixels * np.log2(2 * eps)
        for transform in listed(measured, theirs):
            value = values.get(transform, np.nan)
            theirs_here = printed.get(transform, np.nan)
            rows.append((label, transform_label(transform), theirs_here, value, np.trunc(value), possible))
    return Table(columns, rows)


def perturbable_volume_seen(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> str:
    """How many of Table 6's values ours give when truncated as the paper's are, and by how much the others miss."""
    said = []
    for name, measured in sets.items():
        printed = paper[paper["dataset"] == name].set_index("transform")["value"]
        both = pd.DataFrame({"theirs": printed, "ours": measured_values(measured, "log2_perturbable_volume")}).dropna()
        if both.empty:
            if len(printed):
                said.append(f"{set_name(name)}: not computed yet; {to_compute(measured)}")
            continue
        same = int((np.trunc(both["ours"]) == both["theirs"]).sum())
        most = (np.trunc(both["ours"]) - both["theirs"]).abs().max()
        rest = "" if same == len(both) else f"; the largest difference is {most:.0f} bits"
        said.append(
            f"{set_name(measured['dataset'].iloc[0])} (scale {measured.attrs['scale']}): **{same} of {len(both)}** values are "
            f"the paper's to the last digit{rest}."
        )
    return " ".join(said)


def unboxed_table(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> Table:
    """Table 7: robust accuracy under PGD within the unit cube and under PGD that may leave it, in percent of test images.

    `sets`: from the paper's name of a data set to ours. The change is that from within to without, on either side.
    """
    columns = [
        Column("variant"), printed("within: paper"), accuracy("within: ours"), printed("without: paper"),
        accuracy("without: ours"), Column("change: paper", "+.1f", absent=NOT_IN_PAPER), Column("change: ours", "+.1f"),
    ]  # fmt: skip
    rows = []
    for name, ours in sets.items():
        theirs = paper[paper["dataset"] == name]
        boxed, unboxed = (paper_values(theirs, *quantity) for quantity in (BOXED, UNBOXED))
        mine = [over_seeds(ours, *quantity) for quantity in (BOXED, UNBOXED)]
        label = set_name(ours["dataset"].iloc[0] if len(ours) else name)
        for transform in listed(theirs, ours):
            within, without = (values.get(transform, np.nan) for values in (boxed, unboxed))
            ours_within, ours_without = (
                our_number(found, transform, value) for found, value in zip(mine, (within, without), strict=True)
            )
            rows.append(
                (
                    f"{label}, {transform_label(transform)}", within, ours_within, without, ours_without, without - within,
                    ours_without.value - ours_within.value,
                )
            )  # fmt: skip
    return Table(columns, rows)


def unboxed_seen(sets: Mapping[str, pd.DataFrame], paper: pd.DataFrame) -> str:
    """By how much robust accuracy moves when the attack may leave the cube, ours and the paper's over the same variants."""
    said = []
    for name, ours in sets.items():
        change = out_of_the_box(over_seeds(ours, *BOXED)["mean"], over_seeds(ours, *UNBOXED)["mean"])
        if change.empty:
            said.append(f"{set_name(name)}: not computed yet; {to_compute(ours)}")
            continue
        rows = paper[paper["dataset"] == name]
        theirs = out_of_the_box(paper_values(rows, *BOXED), paper_values(rows, *UNBOXED))[change.index]
        of = f"{len(change)} variant{'s' * (len(change) > 1)}"
        span = f"**{change.min():+.1f}** ({transform_label(change.idxmin())})"
        if len(change) > 1:
            span += f" to **{change.max():+.1f} points** ({transform_label(change.idxmax())})"
        said.append(
            f"{set_name(ours['dataset'].iloc[0])} (scale {ours.attrs['scale']}, {of}): "
            f"outside the cube the attack moves robust accuracy by {span}; in the paper, over the same, by {from_to(theirs)}."
        )
    return " ".join(said)


def rank_correlation(x: pd.Series, y: pd.Series, *, resamples: int = 10_000) -> tuple[float, float, float, int]:
    """(ρ, low, high, n): Spearman's rank correlation over the n indices that both have, with a 95% bootstrap interval.

    The interval is the percentile one, over resamples of the pairs; those in which either side is constant tell nothing and
    are left out. With so few pairs it is rough. NaN for fewer than four pairs.
    """
    both = pd.DataFrame({"x": x, "y": y}).dropna()
    if len(both) < 4:
        return np.nan, np.nan, np.nan, len(both)
    generator = np.random.default_rng(0)
    chosen = generator.integers(len(both), size=(resamples, len(both)))
    ranks = [rankdata(both[column].to_numpy()[chosen], axis=1) for column in ("x", "y")]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    sizes = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    found = (centred[0] * centred[1]).sum(1)[sizes > 0] / sizes[sizes > 0]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(spearmanr(both["x"], both["y"]).statistic), float(low), float(high), len(both)


def correlation_label(x: pd.Series, y: pd.Series) -> str:
    """`rank_correlation` in words."""
    rho, low, high, n = rank_correlation(x, y)
    if not n:
        return "not computed yet"
    if not np.isfinite(rho):
        return f"{n} variant{'s' * (n != 1)}, too few for a rank correlation"
    return f"ρ = {rho:+.2f} [{low:+.2f}, {high:+.2f}] over {n} variants"


def distance_correlation_seen(sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]) -> str:
    """Spearman's correlation of inter-class distance and robust accuracy, with our accuracies and with the paper's.

    `sets`: from the paper's name of a data set to (measured distances, ours, the paper's). The distances are always ours.
    """
    said = []
    for name, (distances, ours, paper) in sets.items():
        measured = measured_values(distances, "inter_class_distance")
        if measured.dropna().empty:
            said.append(f"{set_name(name)}: not computed yet; {to_compute(distances)}")
            continue
        theirs = correlation_label(measured, paper_values(paper, "pgd", "robust_accuracy"))
        mine = correlation_label(measured, over_seeds(ours, "pgd", "robust_accuracy")["mean"])
        label = set_name(distances["dataset"].iloc[0])
        said.append(f"{label}: with the paper's robust accuracies **{theirs}**; with ours {mine}.")
    return " ".join(said)


def linf_table(sets: Sequence[pd.DataFrame]) -> Table:
    """Appendix D.2.1: ℓ∞ distances of all pairs of test images of different classes: how near to 1 they are."""
    quantities = {
        "linf_distance_smallest": Column("smallest", ".3f"),
        "linf_distance_percentile_1": Column("1% are below", ".3f"),
        "linf_distance_median": Column("median", ".3f"),
        "linf_distance_share_above_0.9": Column("share above .9", ".1%"),
    }
    rows = []
    for measured in sets:
        label = set_name(measured["dataset"].iloc[0] if len(measured) else grid.exhibit(measured.attrs["exhibit"])["dataset"])
        images = measured.groupby("transform")["n"].first()
        for transform in listed(measured):
            found = [measured_values(measured, metric).get(transform, np.nan) for metric in quantities]
            rows.append((label, transform_label(transform), *found, images.get(transform, np.nan)))
    return Table([Column("data set"), Column("variant"), *quantities.values(), Column("images", "g")], rows)


def linf_seen(sets: Sequence[pd.DataFrame]) -> str:
    """How close to 1 the ℓ∞ distances are, set by set: the variant with the fewest above .9 and the one with the most."""
    said = []
    for measured in sets:
        shares = 100 * measured_values(measured, "linf_distance_share_above_0.9").dropna()
        if shares.empty:
            name = set_name(grid.exhibit(measured.attrs["exhibit"])["dataset"])
            said.append(f"{name}: not computed yet; {to_compute(measured)}")
            continue
        middle = measured_values(measured, "linf_distance_median")
        ends = [
            f"{shares[name]:.1f}% of the pairs are farther apart than .9 on {transform_label(name)} (median {middle[name]:.3f})"
            for name in dict.fromkeys((shares.idxmin(), shares.idxmax()))
        ]
        said.append(f"{set_name(measured['dataset'].iloc[0])} (scale {measured.attrs['scale']}): {' and '.join(ends)}.")
    return " ".join(said)


SEPARATED = 0.99  # of the points: what counts as separating two spheres


def facets_table(rows: pd.DataFrame, dimension: int) -> Table:
    """Theorem D.1 beside the networks: how many facets a polytope needs between the spheres, and how many units sufficed.

    `rows`: as `results.tables("figure-6")` gives them. For the data as they are, and for what an ℓ2 budget of eps leaves of the
    gap. In two dimensions the fewest sides are known exactly; else e^(n/(2d²)) is a lower bound. ">64":
    none of the widths tried, which go up to 64.
    """
    kinds = {"clean": ("standard", "clean_accuracy"), "robust": ("pgd", "robust_accuracy")}
    columns = [Column("gap", "g")]
    for label in kinds:
        columns.append(Column(f"{label}: radii 1 to", ".2f"))
        columns.append(Column(f"{label}: sides needed", "d") if dimension == 2 else Column(f"{label}: facets, at least", ".1f"))
        columns.append(Column(f"{label}: units that sufficed", "d"))
    shown = []
    here = rows[rows["d"] == dimension] if len(rows) else rows
    for gap, at in here.groupby("gap") if len(here) else ():
        row = [gap]
        for label, (trained, metric) in kinds.items():
            ratio = geometry.ratio_of_radii(gap, at["eps"].iloc[0] if label == "robust" else 0.0)
            enough = at[(at["training"] == trained) & (at[metric] >= SEPARATED)]["width"]
            needed = geometry.polygon_sides(ratio) if dimension == 2 else geometry.facets_needed(dimension, ratio)
            row += [ratio, needed, int(enough.min()) if len(enough) else f">{at['width'].max()}"]
        shown.append(row)
    return Table(columns, shown)


def spheres_seen(rows: pd.DataFrame) -> str:
    """What the networks between spheres show: the narrowest that separate, clean and robust, at either end of the gaps."""
    if rows.empty:
        return f"Not computed yet; {to_compute(rows)}"
    said = []
    for dimension, here in rows.groupby("d"):
        ends = []
        for gap in (here["gap"].max(), here["gap"].min()):
            at = here[here["gap"] == gap]
            widths = [
                at[(at["training"] == trained) & (at[metric] >= SEPARATED)]["width"].min()
                for trained, metric in (("standard", "clean_accuracy"), ("pgd", "robust_accuracy"))
            ]
            clean, robust = (f"{width:.0f} units" if np.isfinite(width) else "no width tried" for width in widths)
            ends.append(f"at a gap of {gap:g} clean points are separated by {clean}, robustly by {robust}")
        said.append(f"In {dimension} dimensions, {'; '.join(ends)}.")
    both = rows.pivot_table(index=["d", "width", "gap"], columns="training", values=["clean_accuracy", "robust_accuracy"])
    gained = 100 * (both["robust_accuracy", "pgd"] - both["robust_accuracy", "standard"])
    lost = 100 * (both["clean_accuracy", "standard"] - both["robust_accuracy", "pgd"])
    where = dict(zip(("d", "width", "gap"), lost.idxmax(), strict=True))
    return (
        f"{' '.join(said)} Adversarial training changes robust accuracy by {gained.min():+.1f} to {gained.max():+.1f} points; "
        f"the robust accuracy it reaches stays below the clean accuracy of standard training by at most **{lost.max():.1f} "
        f"points** (width {where['width']}, gap {where['gap']:g}, {where['d']} dimensions)."
    )


def linear_margin_seen(rows: pd.DataFrame) -> str:
    """How much of the largest margin a linear classifier reaches by standard training, and by adversarial training."""
    if rows.empty:
        return f"Not computed yet; {to_compute(rows)}"
    reached, budgets = (100 * rows[name] / rows["largest_margin"] for name in ("margin", "eps"))
    best = reached.idxmax()
    return (
        f"Standard training reaches {reached[budgets.idxmin()]:.0f}% of the largest margin there is (a support vector "
        f"machine's), adversarial training with ε at {budgets[best]:.0f}% of it **{reached[best]:.0f}%** "
        f"({rows['n'].iloc[0]} points, {rows['d'].iloc[0]} dimensions)."
    )
