"""The scorecard's tables and its figure, and the claims' verdicts. Frames as `lib.scorecard` and `lib.claims` give them in."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.exhibits.cells import MISSING, QUANTITIES, number, set_name, transform_label, words
from lib.exhibits.figures import _STYLE, _footer

_EXHIBITS = {
    "section-2.2": "Section 2.2", "example-2": "Example 2", "footnote-1": "Footnote 1", "figure-3b": "Figure 3b",
}  # fmt: skip


def exhibit_label(name: str) -> str:
    """An exhibit's name as the paper has it: `table-2` → "Table 2"."""
    return _EXHIBITS.get(name, name.replace("-", " ").capitalize())


# With how many decimals, at least, the paper prints a quantity; an accuracy with one.
_DECIMALS = {
    "log2_perturbable_volume": 0,
    "vulnerable_percent_at_least": 0,
    "inter_class_distance": 2,
    "certified_error": 2,
    "scale_factor": 3,
}


def numbers_table(found: pd.DataFrame) -> pd.DataFrame:
    """Each of the paper's numbers and ours, in its unit: percent, bits, ℓ2 distance or a factor.

    `found`: as `scorecard.numbers` gives it. "–" marks what is not computed.
    """
    rows = []
    for row in found.itertuples():
        digits = 3 if row.metric == "scale_factor" else 0 if row.metric == "log2_perturbable_volume" else 2
        rows.append(
            {
                "of": exhibit_label(row.exhibit),
                "data": _set(row.dataset, row.our_dataset),
                "variant": transform_label(row.transform) if row.transform else "",
                "training": row.training,
                "w": _plain(row.widen_factor),
                "split": row.split,
                "quantity": row.metric.replace("_", " "),
                "paper": _printed(row.value, row.metric),
                "ours": number(row.ours, f"{{:.{digits}f}}"),
                "interval": f"{row.low:.1f} to {row.high:.1f}" if np.isfinite(row.low) else "",
                "Δ": number(row.difference, f"{{:+.{digits}f}}"),
                "state": row.state,
                "within 3": "yes" if row.close is True else "",
                "our w": _plain(row.our_width),
                "our recipe": row.recipe if isinstance(row.recipe, str) else "",
                "seeds": _plain(row.seeds) if row.training else "",
                "scale": row.scale if isinstance(row.scale, str) and np.isfinite(row.ours) else "",
            }
        )
    return pd.DataFrame(rows)


def _set(paper: str, ours: object) -> str:
    """The paper's data set, and ours where it is another."""
    name = set_name(paper) if paper in ("mnist", "fashion_mnist", "cifar10") else paper
    return f"{name}; ours {set_name(ours)}" if isinstance(ours, str) and ours != paper else name


def _printed(value: float, metric: str) -> str:
    """The paper's number as its tables have it: an accuracy of 99.0 keeps its zero."""
    least = _DECIMALS.get(metric, 1)
    return f"{value:.{max(least, len(_plain(value).partition('.')[2]))}f}"


def _plain(value: float) -> str:
    return f"{value:g}" if np.isfinite(value) else ""


def totals_table(totals: pd.DataFrame) -> pd.DataFrame:
    """By exhibit: how many numbers, how many computed, agreeing, differing and missing, and the differences in points."""
    rows = []
    for row in totals.to_dict("records"):
        rows.append(
            {
                "exhibit": "all" if row["exhibit"] == "all" else exhibit_label(row["exhibit"]),
                "scale": row["scale"],
                "numbers": str(row["numbers"]),
                "computed": str(row["computed"]),
                "agree": str(row["agrees"]),
                "differ": str(row["differs"]),
                "within 3 points": str(row["close"]),
                "stale or failed": str(row["stale"] + row["failed"]),
                "missing": str(row["missing"]),
                "not in the grid": str(row["not in the grid"]),
                "mean Δ": number(row["mean_difference"], "{:+.2f}"),
                "mean size of Δ": number(row["mean_absolute_difference"], "{:.2f}"),
            }
        )
    return pd.DataFrame(rows)


def like_table(totals: pd.DataFrame, ranges: pd.DataFrame) -> pd.DataFrame:
    """Like with like: how many numbers, how many agree, and the differences in points; below, how far robust accuracy ranges.

    `totals`, `ranges`: as `scorecard.like_totals` and `scorecard.ranges` give them.
    """
    rows = []
    for row in totals.itertuples():
        spans = ranges[(ranges["scale"] == row.scale) & (ranges["dataset"] == row.dataset)] if row.of != "all" else ranges[:0]
        span = spans.iloc[0] if len(spans) else None
        rows.append(
            {
                "data": set_name(row.dataset),
                "scale": row.scale,
                "of": row.of,
                "numbers": str(row.numbers),
                "agree": str(row.agrees),
                "within 3 points": str(row.close),
                "ours below": str(row.below),
                "mean Δ": number(row.mean_difference, "{:+.2f}"),
                "mean size of Δ": number(row.mean_absolute_difference, "{:.2f}"),
                "range: ours": "" if span is None else f"{span.ours:.1f} (w={span.widen_factor:g}, {span.variants} variants)",
                "range: paper": "" if span is None else f"{span.paper:.1f} (its wider network: {span.headline:.1f})",
            }
        )
    return pd.DataFrame(rows)


def marks_table(marks: pd.DataFrame) -> pd.DataFrame:
    """What the records should show, what they show, when that was written down, and how much was known by then."""
    shown = marks.rename(columns={"found": "what the records show", "since": "set on"})
    words = shown["verdict"].map(lambda word: f"**{word}**" if word in ("met", "missed") else word)
    known = [f"{row.before} of {row.trainings}" if row.trainings else "" for row in marks.itertuples()]
    shown = shown.assign(verdict=words, **{"known then": known})
    return shown[["exhibit", "mark", "what the records show", "verdict", "scale", "set on", "known then"]]


def marks_seen(marks: pd.DataFrame) -> str:
    """How many of some marks are met, and each one that is missed with what the records show instead."""
    of = marks["verdict"].value_counts()
    if set(of.index) == {"not computed"}:
        return f"Not computed yet: what the {len(marks)} marks ask for that are set for this section."
    lacking = f" ({of['not computed']} not computed)" if "not computed" in of else ""
    said = f"Of the marks that are set for this section **{of.get('met', 0)} of {len(marks)}** are met{lacking}."
    missed = marks[marks["verdict"] == "missed"]
    return " ".join([said, *(f"**Missed** ({row.exhibit}): {row.mark}. It shows: {row.found}." for row in missed.itertuples())])


def compute_table(spent: pd.DataFrame) -> pd.DataFrame:
    """Hours behind the committed records, by scale, device and kind."""
    if spent.empty:
        return pd.DataFrame([dict.fromkeys(spent.columns, MISSING)])
    hours = spent["hours"].map("{:.2f}".format)
    return spent.assign(device=spent["device"].map(words), records=spent["records"].map(str), hours=hours)


def agreement_figure(found: pd.DataFrame, frames: list[pd.DataFrame]) -> Figure:
    """Every accuracy that is computed, ours over the paper's; on the dashed line the two are equal.

    `frames`: records whose badges go below.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 5.2), layout="constrained")
        ax = figure.subplots()
        for quantity, (label, _, colour) in QUANTITIES.items():
            rows = found[(found["training"] == quantity[0]) & (found["metric"] == quantity[1]) & found["ours"].notna()]
            # An accuracy of Table 2 or 3 stands again in Table 4 or 5, at another width.
            for split, filled in (("test", colour), ("train", "none")):
                part = rows[rows["split"] == split]
                errors = [part["ours"] - part["low"], part["high"] - part["ours"]]
                ax.errorbar(
                    part["value"], part["ours"], yerr=errors, fmt="o", color=colour, markerfacecolor=filled, markersize=4,
                    linewidth=0.8, capsize=0, label=label if split == "test" else None,
                )  # fmt: skip
        low = found.loc[found["training"].isin(["standard", "pgd"]) & found["ours"].notna(), ["value", "ours"]].min().min()
        ends = [np.floor((low if np.isfinite(low) else 0) / 10) * 10, 101]
        ax.plot(ends, ends, "--", color="grey", linewidth=1, label="equal")
        ax.plot([], [], "o", color="grey", markerfacecolor="none", label="training images")
        ax.set(xlabel="the paper (%)", ylabel="ours (%)", xlim=ends, ylim=ends, aspect="equal")
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        _footer(figure, *frames)
    return figure


def claims_table(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Each claim in our words, with its name, and the verdicts on the paper's own numbers and on ours with their evidence.

    `verdicts`: as `claims.verdicts` gives it.
    """
    shown = [
        {
            "claim": f"{row['sentence']} `{row['claim']}`",
            "the paper's own numbers": _verdict(
                row["paper_verdict"].replace("not computed", "no number"), row["paper_evidence"]
            ),
            "ours": _verdict(row["verdict"], row["evidence"]) + (f" **Why**: {row['reason']}." if row["reason"] else ""),
        }
        for _, row in verdicts.iterrows()
    ]
    return pd.DataFrame(shown, columns=["claim", "the paper's own numbers", "ours"])


def _verdict(verdict: str, evidence: str) -> str:
    word = f"**{verdict}**" if verdict in ("holds", "fails") else verdict
    return f"{word}: {words(evidence)}"


def claims_seen(verdicts: pd.DataFrame) -> str:
    """How many claims hold, fail and are not computed, on our records and on the paper's own numbers; which fail, and why."""
    ours, theirs = (verdicts[name].value_counts() for name in ("verdict", "paper_verdict"))
    failing = verdicts[verdicts["verdict"] == "fails"]
    sorted_out = "".join(
        f" Fails, and {reason}: {', '.join(f'`{name}`' for name in part['claim'])}."
        for reason, part in failing.groupby("reason", sort=False)
    )
    slips = ", ".join(f"`{name}`" for name in verdicts.loc[verdicts["paper_verdict"] == "fails", "claim"])
    counted = [
        f"holds: {found.get('holds', 0)}, fails: {found.get('fails', 0)}{f' ({named})' if named else ''}"
        for found, named in ((ours, ""), (theirs, slips))
    ]
    absent = [found.get("not computed", 0) for found in (ours, theirs)]
    certain = f", certain by proof or definition: {ours['certain']}" if "certain" in ours else ""
    return (
        f"Of {len(verdicts)} claims, our records say **{counted[0]}**{certain}, not computed: {absent[0]}. The paper's own "
        f"printed numbers say {counted[1]}, no number to tell: {absent[1]}.{sorted_out}"
    )
