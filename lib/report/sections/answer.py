"""The answers on the first screen: whether the paper's finding holds here, by how much, and what is new."""

import pandas as pd

from lib.report import claims
from lib.report.claims.evidence import COMPARABLE
from lib.report.exhibit import exhibit, measurements, outcomes, published, runs
from lib.report.sections.autoattack import both_attacks
from lib.report.sections.overview import verdicts_of
from lib.report.sections.sec3 import footprint_table
from lib.report.values import BOXED, at_our_width, extent, over_seeds
from lib.report.words import counted, set_name, to_compute, transform_label

_CLEAN = ("standard", "clean_accuracy")


def answer(ours: pd.DataFrame, widths: pd.DataFrame) -> str:
    """Whether the finding reproduces on a data set: two ranges over its variants, ours beside the paper's of our width.

    `widths`: the paper's Table 4 or 5. The effect reproduces where robust accuracy moves by more than 3 points beyond what the
    clean accuracy of standard training does; its size does where the two ranges of robust accuracy are within 3 points.
    """
    clean, robust = (over_seeds(ours, *quantity)["mean"].dropna() for quantity in (_CLEAN, BOXED))
    theirs = at_our_width(ours, widths, BOXED).dropna()
    both = [name for name in theirs.index if name in robust.index and name in clean.index]
    if len(both) < 2:
        return f"Not computed yet: fewer than two variants are recorded; {to_compute(ours)}"
    own, paper, still = (extent(values[both]) for values in (robust, theirs, clean))
    if own - still <= COMPARABLE:
        verdict = "the effect does not reproduce"
    else:
        verdict = f"the effect reproduces, {'in size too' if abs(own - paper) <= COMPARABLE else 'but not in size'}"
    apart, scale = (robust - theirs)[both].mean(), ours.attrs["scale"]
    shorter = ", which trains for a shorter time than the paper" if scale == "laptop" else ""
    return (
        f"**{set_name(ours['dataset'].iloc[0])}: {verdict}.** Over {len(both)} variants of the same images robust accuracy "
        f"moves by **{own:.1f} points**. The paper's networks of the same width move by {paper:.1f}. The clean accuracy of "
        f"standard training moves by {still:.1f}. On average our robust accuracy is {abs(apart):.1f} points "
        f"{'below' if apart < 0 else 'above'} theirs. (Scale {scale}{shorter}.)"
    )


def beyond(found: pd.DataFrame) -> str:
    """How a stronger attack changes the range over the variants. `found`: outcomes of `autoattack-mnist`."""
    robust = both_attacks(found)
    if len(robust) < 2:
        return f"Not computed yet: fewer than two variants are under both attacks; {to_compute(found)}"
    hardest = (robust["reference"] - robust["autoattack"]).idxmax()
    before, after = robust.loc[hardest, ["reference", "autoattack"]]
    variant, images = transform_label(hardest), int(robust.loc[hardest, "n"])
    weak, strong = (extent(robust[attack]) for attack in ("reference", "autoattack"))
    change = "larger" if strong > weak else "no larger"
    return (
        f"**New: a stronger attack makes the effect {change}.** On {variant}, robust accuracy is {before:.1f}% under the "
        f"paper's attack and {after:.1f}% under AutoAttack, on the same {images} test images. Over the {len(robust)} MNIST "
        f"variants with both attacks, the range of robust accuracy is {weak:.1f} points under the paper's attack and "
        f"**{strong:.1f}** under AutoAttack. (Scale {found.attrs['scale']}.)"
    )


def filter_found(
    volumes: pd.DataFrame, distances: pd.DataFrame, paper_volumes: pd.DataFrame, paper_distances: pd.DataFrame
) -> str:
    """Which smoothing filter made the paper's data, and how many of its numbers can tell."""
    nearer = footprint_table(volumes, distances, paper_volumes, paper_distances)["nearer"]
    column, square = nearer.count("column"), nearer.count("square")
    if not column + square:
        return f"Not computed yet; {to_compute(volumes)}"
    return (
        f"**New: the smoothing filter of the paper's data.** The paper's text says that the filter is a square of pixels. "
        f"{column + square} of its volumes and distances can tell the two apart, and {counted(column, 'is', 'are')} nearer to "
        f"a column of pixels. (Scale {volumes.attrs['scale']}.)"
    )


def claims_sorted(verdicts: pd.DataFrame) -> str:
    """How many claims hold and fail on our records, and the likely reasons for the failures."""
    counts = verdicts["verdict"].value_counts()
    failing = verdicts.loc[verdicts["verdict"] == claims.FAILS, "reason"].value_counts(sort=False)
    reasons = "; ".join(f"{reason} ({count} of {failing.sum()})" for reason, count in failing.items())
    return (
        f"Of the {len(verdicts)} claims of the paper that the book checks, "
        f"{counted(counts.get(claims.HOLDS, 0), 'holds', 'hold')} on our records, "
        f"{counted(counts.get(claims.FAILS, 0), 'fails', 'fail')}, "
        f"{counted(counts.get(claims.CERTAIN, 0), 'is', 'are')} certain by proof or definition, and "
        f"{counted(counts.get(claims.NOT_COMPUTED, 0), 'is', 'are')} not computed."
    ) + (f" The reasons for the failures: {reasons}." if reasons else "")


exhibit("answer-mnist", answer, runs("table-2"), published("table-4"))
exhibit("answer-cifar10", answer, runs("table-3"), published("table-5"))
exhibit("answer-attack", beyond, outcomes("autoattack-mnist"))
exhibit(
    "answer-filter", filter_found, measurements("footprint-volumes"), measurements("footprint-distances"),
    published("table-6"), published("table-1"),
)  # fmt: skip
exhibit("answer-claims", claims_sorted, verdicts_of(""))
