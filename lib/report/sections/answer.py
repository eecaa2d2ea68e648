"""The answers on the first screen: whether the paper's finding holds here, by how much, and what is new."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.report import claims
from lib.report.claims.evidence import COMPARABLE, SATURATION
from lib.report.exhibit import exhibit, measurements, outcomes, published, runs
from lib.report.plot import STYLE
from lib.report.sections.autoattack import both_attacks, draw_autoattack
from lib.report.sections.overview import verdicts_of
from lib.report.sections.sec3 import SETS, draw_accuracies, footprint_table
from lib.report.values import BOXED, at_our_width, extent, over_seeds, width_of
from lib.report.words import counted, set_name, to_compute, transform_label

_CLEAN = ("standard", "clean_accuracy")


# Up to level 16 the clean accuracy of CIFAR10 stays, as the paper says; its finding does not speak of the others (Section 3.3).
_ABOVE_16 = SATURATION[SATURATION.index("saturate-16") + 1 :]


def reproduces(clean_range: float, our_range: float, paper_range: float) -> str:
    """The finding in a phrase, from three ranges over the same variants, in points: of clean accuracy (standard training), and
    of robust accuracy, ours and the paper's.

    The effect reproduces where robust accuracy moves by more than 3 points more than clean accuracy, which moves by 3 at most;
    its size does where the two ranges of robust accuracy are within 3 points.
    """
    same_size = abs(our_range - paper_range) <= COMPARABLE
    if our_range - clean_range <= COMPARABLE:
        return "the effect does not reproduce"
    if clean_range <= COMPARABLE:
        return f"the effect reproduces, {'in size too' if same_size else 'but not in size'}"
    size = "as much as" if same_size else "less than" if our_range < paper_range else "more than"
    return f"robust accuracy moves, {size} in the paper, and clean accuracy moves too"


def answer(ours: pd.DataFrame, widths: pd.DataFrame) -> str:
    """Whether the finding reproduces on a data set: its ranges over the variants, ours beside the paper's of our width.

    `widths`: the paper's Table 4 or 5. Of CIFAR10's levels those up to 16 count.
    """
    clean, robust = (over_seeds(ours, *quantity)["mean"].dropna() for quantity in (_CLEAN, BOXED))
    theirs = at_our_width(ours, widths, BOXED).dropna()
    shared = [name for name in theirs.index if name in robust.index and name in clean.index and name not in _ABOVE_16]
    if len(shared) < 2:
        return f"Not computed yet: fewer than two variants are recorded; {to_compute(ours)}"
    our_range, paper_range, clean_range = (extent(values[shared]) for values in (robust, theirs, clean))
    their_clean = at_our_width(ours, widths, _CLEAN).reindex(shared)
    clean_note = f" (theirs: {extent(their_clean):.1f})" if their_clean.notna().all() else ""
    verdict = reproduces(clean_range, our_range, paper_range)
    variants = f"{len(shared)} variants"
    if {*_ABOVE_16} & {*robust.index}:
        variants += f" up to {transform_label(shared[-1])}"
    mean_gap, scale = (robust - theirs)[shared].mean(), ours.attrs["scale"]
    seeds = counted(ours.loc[ours["training"] == "pgd", "seed"].nunique(), "seed")
    training_note = ", shorter training than the paper's" if scale == "laptop" else ""
    return (
        f"**{set_name(ours['dataset'].iloc[0])}: {verdict}.** Over {variants} robust accuracy "
        f"moves by **{our_range:.1f} points** (the paper's networks of the same width: {paper_range:.1f}), and the clean "
        f"accuracy of standard training by {clean_range:.1f}{clean_note}. On average our robust accuracy is "
        f"{abs(mean_gap):.1f} points {'below' if mean_gap < 0 else 'above'} theirs. (Scale {scale}: w = {width_of(ours):g}, "
        f"{seeds}{training_note}.)"
    )


def attack_answer(image_outcomes: pd.DataFrame) -> str:
    """How a stronger attack changes the range over the variants. `image_outcomes`: outcomes of `autoattack-mnist`."""
    robust = both_attacks(image_outcomes)
    if len(robust) < 2:
        return f"Not computed yet: fewer than two variants are under both attacks; {to_compute(image_outcomes)}"
    hardest = (robust["reference"] - robust["autoattack"]).idxmax()
    before, after = robust.loc[hardest, ["reference", "autoattack"]]
    variant, images = transform_label(hardest), int(robust.loc[hardest, "n"])
    weak, strong = (extent(robust[attack]) for attack in ("reference", "autoattack"))
    change = "larger" if strong > weak else "no larger"
    return (
        f"**New: a stronger attack makes the effect on MNIST {change}.** Over {len(robust)} variants robust accuracy moves by "
        f"**{strong:.1f} points** under AutoAttack and by {weak:.1f} under the paper's attack. On {variant} AutoAttack leaves "
        f"{after:.1f}% where the paper's attack leaves {before:.1f}%. (The same {images} test images, one seed, scale "
        f"{image_outcomes.attrs['scale']}.)"
    )


def filter_answer(
    volumes: pd.DataFrame, distances: pd.DataFrame, paper_volumes: pd.DataFrame, paper_distances: pd.DataFrame
) -> str:
    """Which smoothing filter made the paper's data, and how many of its numbers can tell."""
    nearer = footprint_table(volumes, distances, paper_volumes, paper_distances)["nearer"]
    column, square = nearer.count("column"), nearer.count("square")
    if not column + square:
        return f"Not computed yet; {to_compute(volumes)}"
    return (
        "**New: the smoothing filter of the paper's data.** The paper gives only a kernel size, which is usually read "
        f"as the side of a square. {column + square} of its volumes and distances can tell a square of pixels from a column, "
        f"and {'all of them are' if not square else counted(column, 'is', 'are')} nearer to a column. (Scale "
        f"{volumes.attrs['scale']}.)"
    )


def claims_answer(verdicts: pd.DataFrame) -> str:
    """How many claims hold, fail and are undecided on our records, and what the paper's numbers say of those that fail."""
    counts = verdicts["verdict"].value_counts()
    reason_counts = verdicts.loc[verdicts["verdict"] == claims.FAILS, "reason"].value_counts(sort=False)
    reasons = "; ".join(f"{reason} ({count} of {reason_counts.sum()})" for reason, count in reason_counts.items())
    return (
        f"Of the {len(verdicts)} claims of the paper that the book checks, "
        f"{counted(counts.get(claims.HOLDS, 0), 'holds', 'hold')} on our records, "
        f"{counted(counts.get(claims.FAILS, 0), 'fails', 'fail')}, "
        f"{counted(counts.get(claims.UNDECIDED, 0), 'is', 'are')} undecided (their intervals allow both), "
        f"{counted(counts.get(claims.CERTAIN, 0), 'is', 'are')} certain by proof or definition, and "
        f"{counted(counts.get(claims.NOT_COMPUTED, 0), 'is', 'are')} not computed."
    ) + (f" Of the failures: {reasons}." if reasons else "")


def claim_figure(
    sets: Mapping[str, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]], strong: Mapping[str, pd.DataFrame]
) -> Figure:
    """Figure 2 in brief, a panel a data set: clean accuracy of standard training, and robust accuracy of PGD training.

    `sets`: from a data set's name to (ours, the paper's Table 2 or 3, its Table 4 or 5), drawn by `draw_accuracies`. `strong`:
    outcomes of AutoAttack by data set; what it leaves of our networks is a series of its own, with 95% intervals of the images.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, len(sets), sharey=True))
        handles = {}
        for ax, (name, tables) in zip(axes, sets.items(), strict=True):
            transforms = draw_accuracies(ax, *tables, (_CLEAN, BOXED), joined=True)
            if name in strong:
                draw_autoattack(ax, transforms, strong[name], "the same, AutoAttack")
            handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
            ax.set_xticks(range(len(transforms)), map(transform_label, transforms), rotation=60, ha="right", fontsize=8)
            ax.set(title=name, ylim=(0, 101))
        axes[0].set_ylabel("test images (%)")
        figure.legend(handles.values(), handles, fontsize=8, ncols=3, loc="outside upper center", frameon=False)
    return figure


exhibit("answer-mnist", answer, runs("table-2"), published("table-4"))
exhibit("answer-cifar10", answer, runs("table-3"), published("table-5"))
exhibit("answer-attack", attack_answer, outcomes("autoattack-mnist"))
exhibit(
    "answer-filter", filter_answer, measurements("footprint-volumes"), measurements("footprint-distances"),
    published("table-6"), published("table-1"),
)  # fmt: skip
exhibit("answer-claims", claims_answer, verdicts_of(""))
exhibit("claim", claim_figure, SETS, {"MNIST": outcomes("autoattack-mnist"), "CIFAR10": outcomes("autoattack-cifar10")})
