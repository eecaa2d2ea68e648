"""The paper's own settings on the narrowest LeNet5: Table 4's first column, beside ours and beside shorter training."""

import math
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.report.claims.evidence import COMPARABLE
from lib.report.claims.marks import MET, MISSED
from lib.report.exhibit import exhibit, outcomes, published, runs
from lib.report.plot import STYLE, draw_estimates
from lib.report.sections.answer import reproduces
from lib.report.sections.autoattack import both_attacks, draw_autoattack
from lib.report.sections.overview import marks_of
from lib.report.table import Column, Number, Table
from lib.report.values import (
    BOXED,
    QUANTITIES,
    at_our_width,
    extent,
    our_column,
    our_number,
    over_seeds,
    paper_column,
    square_variant,
    transforms_of,
    width_of,
)
from lib.report.words import counted, listed, to_compute, transform_label

_ROBUST = QUANTITIES[BOXED][2]
_QUANTITIES = {"robust": BOXED, "clean, PGD": ("pgd", "clean_accuracy"), "clean, standard": ("standard", "clean_accuracy")}


def own_settings_table(ours: pd.DataFrame, short: pd.DataFrame, paper: pd.DataFrame) -> Table:
    """Accuracies in percent on test images: the paper's, ours with its settings, and ours of shorter training.

    `paper`: its Table 4, of which the column of our width counts. `short`: records of another scale, of any widths.
    """
    narrow, scale = short[short["widen_factor"] == width_of(ours)], short.attrs["scale"]
    columns = [Column("variant")]
    for heading in _QUANTITIES:
        columns += [
            paper_column(f"{heading}: paper"),
            our_column(f"{heading}: ours, its settings", interval=heading == "robust"),
        ]
        columns += [Column(f"{heading}: ours, scale {scale}", ".1f")]
    quantities = [
        (at_our_width(ours, paper, each), over_seeds(ours, *each), over_seeds(narrow, *each)) for each in _QUANTITIES.values()
    ]
    rows = []
    for name in transforms_of(paper, ours):
        row: list[object] = [transform_label(name)]
        for theirs, estimates, shorter in quantities:
            value = theirs.get(name, np.nan)
            row += [value, our_number(estimates, name, value), _value_only(our_number(shorter, name))]
        rows.append(row)
    return Table(columns, rows)


def _value_only(number: Number) -> Number:
    return Number(number.value, records=number.records)


def _shared(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy on the variants that both have, by transform: columns `ours` and `paper`, in the paper's order."""
    theirs = at_our_width(ours, paper, BOXED)
    return pd.DataFrame({"ours": over_seeds(ours, *BOXED)["mean"].reindex(theirs.index), "paper": theirs}).dropna()


def _of_all(shared: pd.DataFrame, theirs: pd.Series) -> str:
    """How many of the paper's variants ours are."""
    return f"{'all' if len(shared) == len(theirs) else f'{len(shared)} of'} its {len(theirs)} variants"


def _in_words(shared: pd.DataFrame) -> str:
    """The variants that differ by more than is comparable, and the two ranges; sentences, each with a space before it."""
    differences, text = shared["ours"] - shared["paper"], ""
    far = shared[differences.abs() > COMPARABLE]
    if len(far):
        named = "; ".join(
            f"{transform_label(name)} ({row['ours']:.1f}%, the paper {row['paper']:.1f}%)" for name, row in far.iterrows()
        )
        text = f" {counted(len(far), 'variant differs', 'variants differ')} by more than {COMPARABLE:g} points: {named}."
    if len(shared) > 1:
        ours, theirs = (
            f"{extent(shared[column]):.1f} points ({transform_label(shared[column].idxmin())} is the lowest)"
            for column in ("ours", "paper")
        )
        text += f" The range over these variants is {ours}; the paper's is {theirs}."
    return text


def _beyond_the_spread(ours: pd.DataFrame, shared: pd.DataFrame) -> str:
    """The variants of which ours is farther from the paper's than trainings differ, by the pooled spread; a sentence or "".

    More than 3 standard deviations of a difference of two trainings: chance alone gives that one number in 370.
    """
    spreads = over_seeds(ours, *BOXED)["spread"].reindex(shared.index)
    beyond = [
        transform_label(name)
        for name, row in shared.iterrows()
        if spreads[name] is not None
        and abs(row["ours"] - row["paper"]) > 3 * math.hypot(*map(spreads[name].deviation, row[["ours", "paper"]]))
    ]
    if not beyond:
        return ""
    return (
        f" On {listed(beyond)} the difference is more than 3 standard deviations of such a difference, by the spread of "
        f"trainings at scale laptop. So trainings of this width differ more than that, or a setting differs that the paper "
        f"does not give; the intervals here are too narrow."
    )


def _rises(accuracies: pd.Series) -> list[tuple[str, str]]:
    """The pairs of smoothing filters, each with the next larger one there is, between which an accuracy rises clearly."""
    smoothed = accuracies.reindex([f"smooth-{size}" for size in range(2, 9)]).dropna()
    return [(before, after) for before, after in pairwise(smoothed.index) if smoothed[after] > smoothed[before] + COMPARABLE]


def own_settings_summary(ours: pd.DataFrame, short: pd.DataFrame, paper: pd.DataFrame) -> str:
    """How far ours are from the paper's with its own settings, how large the gap to smooth 5 is, and which filter is nearer."""
    robust = over_seeds(ours, *BOXED)["mean"].dropna()
    if robust.empty:
        return f"Not computed yet; {to_compute(ours)}"
    theirs, shared, text = at_our_width(ours, paper, BOXED), _shared(ours, paper), ""
    if len(shared):
        text = (
            f"With the paper's own settings (scale {ours.attrs['scale']}) robust accuracy is "
            f"**{(shared['ours'] - shared['paper']).abs().mean():.1f} points** from the paper's on average, over "
            f"{_of_all(shared, theirs)}.{_in_words(shared)}{_beyond_the_spread(ours, shared)}"
        )
    shorter = over_seeds(short[short["widen_factor"] == width_of(ours)], *BOXED)["mean"].dropna()
    both = shared.assign(shorter=shorter.reindex(shared.index)).dropna()
    if len(both):
        distance, shorter_distance = ((both[column] - both["paper"]).abs().mean() for column in ("ours", "shorter"))
        text += (
            f" On the {counted(len(both), 'variant')} that our short training has too, its mean distance from the paper is "
            f"{shorter_distance:.1f} points, and {distance:.1f} with the paper's settings."
        )
    pair = ["original", "smooth-5"]
    if {*pair} <= {*shared.index} & {*shorter.index}:
        gaps = [f"{means['original'] - means['smooth-5']:.1f}" for means in (shorter, robust, theirs)]
        text += (
            f" From original to smooth 5 robust accuracy falls by {gaps[0]} points with our short training, by **{gaps[1]}** "
            f"with the paper's settings, and by {gaps[2]} in the paper."
        )
    other = square_variant("smooth-5")
    if {"smooth-5", other} <= {*robust.index} and "smooth-5" in theirs.index:
        distances = {name: abs(robust[name] - theirs["smooth-5"]) for name in ("smooth-5", other)}
        nearer = min(distances, key=distances.get)
        text += (
            f" For smooth 5 the paper's {theirs['smooth-5']:.1f} is nearer to our **{transform_label(nearer)}**: "
            f"{robust['smooth-5']:.1f} with a column filter, {robust[other]:.1f} with a square one (one training of each)."
        )
    return text.strip()


def paper_column_summary(ours: pd.DataFrame, paper: pd.DataFrame) -> str:
    """Where the paper's column of our width rises with the size of the smoothing filter, although larger filters blur more."""
    column = at_our_width(ours, paper, BOXED)
    rises = [
        f"from {transform_label(before)} ({column[before]:.1f}%) to {transform_label(after)} ({column[after]:.1f}%)"
        for before, after in _rises(column)
    ]
    if not rises:
        return "The paper's column of this width falls, or stays, with each larger smoothing filter."
    return (
        f"The paper's own column of this width rises {listed(rises)}, although a larger filter blurs more. Trainings of "
        f"this width may differ by as much, or the attack may be too weak: one training for each variant cannot tell."
    )


def own_settings_answer(ours: pd.DataFrame, paper: pd.DataFrame, marked: pd.DataFrame) -> str:
    """For the first screen: whether the effect reproduces with the paper's own settings, and how far the numbers are apart.

    `marked`: the marks of Table 4, as `claims.marks.marks` gives them; those of these settings.
    """
    shared, clean = _shared(ours, paper), over_seeds(ours, "standard", "clean_accuracy")["mean"].dropna()
    if len(shared) < 2 or not {*shared.index} <= {*clean.index}:
        return f"**MNIST, the paper's own settings.** Not computed yet; {to_compute(ours)}"
    our_range, paper_range = (extent(shared[column]) for column in ("ours", "paper"))
    met, judged = (marked["verdict"] == MET).sum(), (marked["verdict"].isin([MET, MISSED])).sum()
    some_met = counted(met, "is", "are") if met else "none is"
    marks_note = f" Of {counted(judged, 'mark')} set before these trainings {some_met} met." if judged else ""
    verdict = reproduces(extent(clean[shared.index]), our_range, paper_range)
    return (
        f"**MNIST, the paper's own settings: {verdict}.** The narrowest LeNet5 was trained for as many steps as the paper's on "
        f"{_of_all(shared, at_our_width(ours, paper, BOXED))}, once on each. Robust accuracy moves by **{our_range:.1f} "
        f"points** (theirs: {paper_range:.1f}), and is {(shared['ours'] - shared['paper']).abs().mean():.1f} points from "
        f"theirs on average.{marks_note} (Scale {ours.attrs['scale']}: w = {width_of(ours):g}.)"
    )


def own_settings_attacked(image_outcomes: pd.DataFrame) -> str:
    """How far AutoAttack lowers the robust accuracy of the narrowest networks, and its range under either attack."""
    robust = both_attacks(image_outcomes).dropna()
    if robust.empty:
        return f"Not computed yet under AutoAttack; {to_compute(image_outcomes)}"
    falls = robust["reference"] - robust["autoattack"]
    lowest = falls.idxmax()
    conclusion = (
        "the paper's attack overstates robustness here as well" if falls.max() > COMPARABLE else "the two attacks agree here"
    )
    networks = "this network" if len(robust) == 1 else f"these {len(robust)} networks"
    weak, strong = (extent(robust[attack]) for attack in ("reference", "autoattack"))
    more = f" Their range is {weak:.1f} points under the paper's attack and {strong:.1f} under AutoAttack."
    more = f"{more if len(robust) > 1 else ''}{_rises_in_words(robust)}"
    return (
        f"AutoAttack lowers the robust accuracy of {networks} by up to "
        f"**{falls.max():.1f} points** more than the paper's attack: on {transform_label(lowest)} from "
        f"{robust.loc[lowest, 'reference']:.1f}% to {robust.loc[lowest, 'autoattack']:.1f}%. So {conclusion}."
        f"{more} (The same {int(robust['n'].iloc[0]):,} test images, scale {image_outcomes.attrs['scale']}.)"
    )


def _rises_in_words(robust: pd.DataFrame) -> str:
    """Where robust accuracy rises with a larger smoothing filter, under each attack; nothing for fewer than three filters."""
    if robust.index.str.fullmatch(r"smooth-\d+").sum() < 3:
        return ""
    parts = []
    for attack, name in (("reference", "the paper's attack"), ("autoattack", "AutoAttack")):
        steps = listed(
            f"from {transform_label(before)} ({robust.loc[before, attack]:.1f}%) to {transform_label(after)} "
            f"({robust.loc[after, attack]:.1f}%)"
            for before, after in _rises(robust[attack])
        )
        rise = f"robust accuracy rises {steps}" if steps else f"no larger filter raises it by more than {COMPARABLE:g} points"
        parts.append(f" Under {name} {rise}.")
    return "".join(parts)


def own_settings_figure(ours: pd.DataFrame, short: pd.DataFrame, paper: pd.DataFrame, image_outcomes: pd.DataFrame) -> Figure:
    """Robust accuracy over the variants: the paper's column of our width, ours with its settings and of shorter training, and
    ours under AutoAttack. Error bars: 95% intervals, of images and trainings; of AutoAttack, of images alone.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        ax = figure.subplots()
        theirs = at_our_width(ours, paper, BOXED)
        names = list(theirs.index)
        ax.plot(range(len(names)), theirs, "--", color=_ROBUST, linewidth=1.4, label="the paper, this width")
        narrow = short[short["widen_factor"] == width_of(ours)]
        labels = {
            "ours, the paper's settings": (ours, "o-", _ROBUST),
            f"ours, scale {short.attrs['scale']}": (narrow, "D:", "grey"),
        }
        for label, (rows, style, colour) in labels.items():
            estimates = over_seeds(rows, *BOXED)
            if estimates["mean"].notna().any():
                draw_estimates(ax, names, estimates, joined=True, fmt=style, color=colour, markersize=4, label=label)
        draw_autoattack(ax, names, image_outcomes, "ours, the paper's settings, under AutoAttack", joined=True)
        ax.set_xticks(range(len(names)), [transform_label(name) for name in names], rotation=40, ha="right")
        ax.set(xlabel="MNIST variant", ylabel="robust accuracy (%)", ylim=(0, 101))
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


_READS = (runs("paper-settings-mnist"), runs("figure-4-capacity-mnist"), published("table-4"))
exhibit("own-settings", own_settings_table, *_READS)
exhibit("own-settings-seen", own_settings_summary, *_READS)
exhibit("own-settings-paper", paper_column_summary, _READS[0], _READS[2])
exhibit("answer-own", own_settings_answer, _READS[0], _READS[2], marks_of("Table 4"))
exhibit("own-settings-figure", own_settings_figure, *_READS, outcomes("autoattack-narrow", "paper"))
exhibit("own-settings-attacked", own_settings_attacked, outcomes("autoattack-narrow", "paper"))
