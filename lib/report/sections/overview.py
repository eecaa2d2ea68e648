"""The tables and the figure of the scorecard, and the verdicts on the claims, with what they read from the records."""

from collections.abc import Callable, Mapping
from functools import cache

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.report import claims, scorecard
from lib.report.claims.evidence import NOT_COMPUTED
from lib.report.claims.marks import marks
from lib.report.exhibit import Page, Source, computed, exhibit, published, runs
from lib.report.plot import STYLE
from lib.report.sections.sec5 import capacity_table, capacity_tables
from lib.report.table import Column, Number, Strong, Table
from lib.report.values import QUANTITIES
from lib.report.words import as_markdown, counted, downloads, set_name, transform_label

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


def numbers_table(numbers: pd.DataFrame) -> Table:
    """Each of the paper's numbers and ours, in its unit: percent, bits, ℓ2 distance or a factor.

    `numbers`: as `scorecard.numbers` gives it. "–" marks what is not computed.
    """
    columns = [
        Column("exhibit"), Column("data"), Column("variant"), Column("training"), Column("w", "g", absent=""), Column("split"),
        Column("quantity"), Column("paper", ".1f"), Column("ours", ".2f"), Column("interval", ".1f", write=_ends),
        Column("Δ", "+.2f"), Column("state"), Column("within 3 points", left=False), Column("our w", "g", absent=""),
        Column("our recipe"), Column("seeds", "g", absent=""), Column("scale"),
    ]  # fmt: skip
    rows = []
    for row in numbers.itertuples():
        form = f".{_OURS_DECIMALS.get(row.metric, 2)}f"
        ours = Number(row.ours, row.low, row.high, form=form, records=row.records if isinstance(row.records, tuple) else ())
        rows.append(
            (
                exhibit_label(row.exhibit), _set(row.dataset, row.our_dataset),
                transform_label(row.transform) if row.transform else "", row.training, row.widen_factor, row.split,
                row.metric.replace("_", " "), Number(row.value, form=f".{_decimals(row.value, row.metric)}f"), ours, ours,
                Number(row.difference, form=f"+{form}"), row.state, "yes" if row.close is True else "", row.our_width,
                row.recipe if isinstance(row.recipe, str) else "", row.seeds if row.training else np.nan,
                row.scale if isinstance(row.scale, str) and np.isfinite(row.ours) else "",
            )
        )  # fmt: skip
    return Table(columns, rows)


# With how many decimals ours is shown, where not with two.
_OURS_DECIMALS = {"scale_factor": 3, "log2_perturbable_volume": 0}


def _ends(number: Number) -> str:
    return f"{number.low:.1f} to {number.high:.1f}" if np.isfinite(number.low) else ""


def _decimals(value: float, metric: str) -> int:
    """With how many decimals the paper's tables have a number: an accuracy of 99.0 keeps its zero."""
    return max(_DECIMALS.get(metric, 1), len(f"{value:g}".partition(".")[2]))


def _set(paper: str, ours: object) -> str:
    """The paper's data set, and ours where it is another."""
    name = set_name(paper) if paper in ("mnist", "fashion_mnist", "cifar10") else paper
    return f"{name}; ours {set_name(ours)}" if isinstance(ours, str) and ours != paper else name


def totals_table(totals: pd.DataFrame) -> Table:
    """By exhibit: how many numbers, how many computed, agreeing, differing and missing, and the differences in points.

    Quoted: others' numbers, which the paper did not measure.
    """
    headings = {
        "numbers": "numbers", "computed": "computed", "agree": "agrees", "differ": "differs", "within 3 points": "close",
        "stale or failed": "lacking", "missing": "missing", "not in the grid": "not in the grid", "quoted": "quoted",
    }  # fmt: skip
    totals = totals.assign(lacking=totals["stale"] + totals["failed"])
    columns = [Column("exhibit"), Column("scale"), *(Column(heading, "d") for heading in headings)]
    columns += [Column("mean Δ", "+.2f"), Column("mean absolute Δ", ".2f")]
    rows = [
        (
            "all" if row["exhibit"] == "all" else exhibit_label(row["exhibit"]), row["scale"],
            *(row[name] for name in headings.values()), row["mean_difference"], row["mean_absolute_difference"],
        )
        for row in totals.to_dict("records")
    ]  # fmt: skip
    return Table(columns, rows)


def _paper_range(span) -> str:
    wider = "" if np.isnan(span.headline) else f" (its wider network: {span.headline:.1f})"
    return f"{span.paper:.1f}{wider}"


def like_table(totals: pd.DataFrame, ranges: pd.DataFrame) -> Table:
    """Like with like: how many numbers, how many agree, and the differences in points; below, how far robust accuracy ranges.

    `totals`, `ranges`: as `scorecard.like_totals` and `scorecard.ranges` give them.
    """
    columns = [
        Column("data"), Column("scale"), Column("quantities"), Column("numbers", "d"), Column("agree", "d"),
        Column("within 3 points", "d"), Column("ours below", "d"), Column("mean Δ", "+.2f"), Column("mean absolute Δ", ".2f"),
        Column("range: ours", write=lambda span: f"{span.ours:.1f} (w={span.widen_factor:g}, {span.variants} variants)"),
        Column("range: paper", write=_paper_range),
    ]  # fmt: skip
    spans = {(row.scale, row.dataset): row for row in ranges.itertuples()}
    rows = []
    for row in totals.itertuples():
        span = spans.get((row.scale, row.dataset)) if row.of != "all" else None
        rows.append(
            (
                set_name(row.dataset), row.scale, row.of, row.numbers, row.agrees, row.close, row.below, row.mean_difference,
                row.mean_absolute_difference, span, span,
            )
        )  # fmt: skip
    return Table(columns, rows)


def marks_table(marks: pd.DataFrame) -> Table:
    """What we expected the records to show, what they show, when we wrote this down, and how much we knew by then."""
    columns = [
        Column("exhibit"), Column("mark"), Column("what the records show"), Column("verdict"), Column("scale"),
        Column("set on"), Column("known then", left=False),
    ]  # fmt: skip
    rows = []
    for row in marks.itertuples():
        verdict = Strong(row.verdict) if row.verdict == "missed" else row.verdict
        known_before = f"{row.before} of {row.trainings}" if row.trainings else ""
        rows.append((row.exhibit, row.mark, row.evidence, verdict, row.scale, row.since, known_before))
    return Table(columns, rows)


def marks_summary(marks: pd.DataFrame) -> str:
    """How many of some marks are met, and for each missed mark what the records show instead."""
    counts = marks["verdict"].value_counts()
    if set(counts.index) == {"not computed"}:
        return f"Not computed yet: the records for the {counted(len(marks), 'mark')} of this section."
    not_computed = f" ({counts['not computed']} not computed)" if "not computed" in counts else ""
    opening = (
        f"This section has {counted(len(marks), 'mark')}, of what its exhibits should show if the paper's findings hold; "
        f"**{counted(counts.get('met', 0), 'is', 'are')} met**{not_computed}."
    )
    missed = marks[marks["verdict"] == "missed"]
    misses = (f"**Missed** ({row.exhibit}): {row.mark}. The records show: {row.evidence}." for row in missed.itertuples())
    return " ".join([opening, *misses])


def compute_table(spent: pd.DataFrame) -> Table:
    """How many hours the committed records took, by scale, device and kind."""
    columns = [Column("scale"), Column("device"), Column("kind"), Column("records", "d"), Column("hours", ".2f")]
    rows = [(row.scale, as_markdown(row.device), row.kind, row.records, row.hours) for row in spent.itertuples()]
    return Table(columns, rows)


def agreement_figure(numbers: pd.DataFrame, frames: list[pd.DataFrame]) -> Figure:
    """Every accuracy that is computed, ours over the paper's; on the dashed line the two are equal.

    `frames`: records whose badges go below.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 5.2), layout="constrained")
        ax = figure.subplots()
        for quantity, (label, _, colour) in QUANTITIES.items():
            rows = numbers[(numbers["training"] == quantity[0]) & (numbers["metric"] == quantity[1]) & numbers["ours"].notna()]
            # Tables 4 and 5 have the accuracies of Tables 2 and 3 again, at other widths.
            for split, filled in (("test", colour), ("train", "none")):
                part = rows[rows["split"] == split]
                errors = [part["ours"] - part["low"], part["high"] - part["ours"]]
                ax.errorbar(
                    part["value"], part["ours"], yerr=errors, fmt="o", color=colour, markerfacecolor=filled, markersize=4,
                    linewidth=0.8, capsize=0, label=label if split == "test" else None,
                )  # fmt: skip
        low = (
            numbers.loc[numbers["training"].isin(["standard", "pgd"]) & numbers["ours"].notna(), ["value", "ours"]].min().min()
        )
        ends = [np.floor((low if np.isfinite(low) else 0) / 10) * 10, 101]
        ax.plot(ends, ends, "--", color="grey", linewidth=1, label="equal")
        ax.plot([], [], "o", color="grey", markerfacecolor="none", label="training images")
        ax.set(xlabel="the paper (%)", ylabel="ours (%)", xlim=ends, ylim=ends, aspect="equal")
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def claims_table(verdicts: pd.DataFrame) -> Table:
    """Each claim in our words, with its name, and the verdicts on the paper's own numbers and on ours with their evidence.

    `verdicts`: as `claims.verdicts` gives it. What all of ours rest on, `claims_about` says once, below the table.
    """
    usual = _usual(verdicts)
    columns = [
        Column("claim", write=lambda row: f"{row['sentence']} `{row['claim']}`"),
        Column("the paper's own numbers", write=_paper_judged),
        Column("ours", write=lambda row: _judged(row, usual)),
    ]
    return Table(columns, [(row,) * 3 for row in verdicts.to_dict("records")])


def _verdict(verdict: str, evidence: str) -> str:
    return f"{f'**{verdict}**' if verdict == claims.FAILS else verdict}: {as_markdown(evidence)}"


def _paper_judged(row: Mapping[str, object]) -> str:
    """The verdict on the paper's own numbers, and its evidence; what a check lacks there is nobody's to compute."""
    if row["paper_verdict"] == NOT_COMPUTED:
        return "the paper prints no numbers for this check"
    return _verdict(row["paper_verdict"], row["paper_evidence"])


def _judged(row: dict, usual: Mapping[str, object]) -> str:
    """Our verdict, its evidence, what it rests on where that is not as usual, and why a claim fails."""
    unusual = [text for name, text in _rests_on(row).items() if row[name] and row[name] != usual[name]]
    cell = _verdict(row["verdict"], row["evidence"]) + (f" ({as_markdown(', '.join(unusual))})" if unusual else "")
    return cell + (f". **Why**: {row['reason']}." if row["reason"] else "")


def _rests_on(row: Mapping[str, object]) -> dict[str, str]:
    return {"scale": f"scale {row['scale']}", "n": f"n = {', '.join(map(str, row['n'] or ()))}"}


def _usual(verdicts: pd.DataFrame) -> dict[str, object]:
    """The scale and the numbers of images that the most verdicts rest on."""
    tallies = {name: verdicts.loc[verdicts[name].map(bool), name].value_counts() for name in ("scale", "n")}
    return {name: counts.index[0] if len(counts) else None for name, counts in tallies.items()}


def claims_about(verdicts: pd.DataFrame) -> str:
    """The line below a table of claims: scale, number of images, data and seeds behind our verdicts."""
    usual = _usual(verdicts)
    if not usual["scale"]:
        return "Ours: no record is behind these verdicts."
    parts = []
    for name in sorted({source for by_source in verdicts["seeds_by_source"] for source in by_source}):
        seeds = sorted({seed for by_source in verdicts["seeds_by_source"] for seed in by_source.get(name, ())})
        parts.append(as_markdown(f"{name}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else name))
    common = [text for name, text in _rests_on(usual).items() if usual[name]]
    return " · ".join([f"Ours: {', '.join(common)} unless a cell says otherwise", *parts])


def claims_summary(verdicts: pd.DataFrame) -> str:
    """How many claims hold, fail and are undecided, on our records and on the paper's own numbers; which fail and why."""
    ours, theirs = (verdicts[name].value_counts() for name in ("verdict", "paper_verdict"))
    failing = verdicts[verdicts["verdict"] == claims.FAILS]
    failures = "".join(
        f" Fails ({reason}): {', '.join(f'`{name}`' for name in part['claim'])}."
        for reason, part in failing.groupby("reason", sort=False)
    )
    paper_failures = ", ".join(f"`{name}`" for name in verdicts.loc[verdicts["paper_verdict"] == claims.FAILS, "claim"])
    tallies = []
    for counts, names, absent in ((ours, "", "not computed"), (theirs, paper_failures, "no printed number")):
        failed = f"fails: {counts.get(claims.FAILS, 0)}{f' ({names})' if names else ''}"
        certain = f", certain by proof or definition: {counts[claims.CERTAIN]}" if claims.CERTAIN in counts else ""
        tallies.append(
            f"holds: {counts.get(claims.HOLDS, 0)}, {failed}, undecided: {counts.get(claims.UNDECIDED, 0)}{certain}, "
            f"{absent}: {counts.get(NOT_COMPUTED, 0)}"
        )
    return (
        f"Verdicts on {counted(len(verdicts), 'claim')}. On our records: {tallies[0]}. On the paper's own printed numbers: "
        f"{tallies[1]}.{failures}"
    )


_RECORDED = computed(lambda page: claims.recorded(page.scale))
_NUMBERS = computed(lambda page: scorecard.numbers(page.scale))
_LIKE = computed(lambda page: scorecard.like_with_like(page.scale))


@cache
def verdicts_of(*sections: str) -> Source:
    """The verdicts on the claims of some sections, `""` for all, from what is recorded at the page's scale."""
    return computed(lambda page: claims.verdicts(sections, page.value(_RECORDED)), badge_line=claims_about)


@cache
def marks_of(*exhibits: str) -> Source:
    """The marks of some exhibits, of all without any, and what is recorded at the page's scale says of them."""
    return computed(lambda page: marks(page.scale, exhibits))


# By page, the sections whose claims it judges, and the exhibits whose marks.
JUDGED = {
    "2": ("2",), "3": ("1", "3"), "4": ("4",), "5": ("5", "6"), "D": ("D",), "strength": ("3.2",), "scorecard": ("",),
}  # fmt: skip
_MARKED = {"3": ("Table 2", "Table 3"), "4": ("Figure 3a", "Figure 3b"), "5": ("Table 1", "Table 7")}
for _name, _sections in JUDGED.items():
    exhibit(f"claims-{_name}", claims_table, verdicts_of(*_sections))
    exhibit(f"claims-{_name}-seen", claims_summary, verdicts_of(*_sections))
for _name, _exhibits in _MARKED.items():
    exhibit(f"marks-{_name}-seen", marks_summary, marks_of(*_exhibits))
exhibit("scorecard-summary", scorecard.summary, _LIKE, _NUMBERS, marks_of(), verdicts_of(""))
_TOTALS = (computed(lambda page, make=make: make(page.value(_LIKE))) for make in (scorecard.like_totals, scorecard.ranges))
exhibit("scorecard-like", like_table, *_TOTALS)
exhibit("scorecard-marks", marks_table, marks_of())
exhibit("scorecard-figure", agreement_figure, _NUMBERS, [runs("table-2"), runs("table-3")])
exhibit("scorecard-totals", totals_table, computed(lambda page: scorecard.totals(page.value(_NUMBERS))))
exhibit("scorecard-numbers", numbers_table, _NUMBERS)
exhibit("scorecard-spent", compute_table, computed(lambda page: scorecard.compute_spent()))


# Downloads of tables that are declared elsewhere.
def _downloads(name: str, values: Callable[[Page], Table | Mapping[str, Table]], records: Source) -> None:
    exhibit(f"{name}-downloads", unchanged, computed(lambda page: downloads(name, values(page), page.value(records))))


def unchanged(text: str) -> str:
    """The text itself."""
    return text


# The sources of Tables 4 and 5. Table 4 also has a column of the paper's own settings.
_CAPACITY = {
    "table-4": (runs("table-4"), published("table-4"), runs("paper-settings-mnist")),
    "table-5": (runs("table-5"), published("table-5")),
}


def _capacity(name: str) -> Callable[[Page], Mapping[str, Table]]:
    return lambda page: capacity_tables(*page.value(_CAPACITY[name]))


for _name in ("table-2", "table-3"):
    _downloads(_name, lambda page, name=_name: page.make(name), runs(_name))
for _name, _read in _CAPACITY.items():
    for _part in ("clean, standard", "clean, PGD", "robust"):
        _table = f"{_name}-{_part.replace(', ', '-').lower()}"
        exhibit(_table, capacity_table, *_read, part=_part)
    _downloads(_name, _capacity(_name), runs(_name))
_downloads("scorecard", lambda page: page.make("scorecard-numbers"), _NUMBERS)
