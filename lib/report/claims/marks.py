"""Marks: what we expected each exhibit to show, and the day on which we wrote this down."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib.report.claims.evidence import NOT_COMPUTED, AbsentError, Finding, finding_of, is_declared
from lib.report.claims.judging import range_of
from lib.report.values import both_footprints
from lib.store import grid, results
from lib.store.intervals import Estimate, of_records

# When the first marks entered the history. No record that stands today is older, but eight of the trainings that they judge had
# been recorded in an earlier form, longer or with earlier numerics, and these accuracies were known: `KNOWN`.
FIRST = datetime.fromisoformat("2026-11-22T20:25:58+00:00")
KNOWN = {
    (dataset, transform, training)
    for dataset, transforms in (("mnist", ("original", "binarize")), ("cifar10-jpeg", ("original", "saturate-16")))
    for transform in transforms
    for training in ("standard", "pgd")
}
# Those for the paper's own settings on narrow networks, and for a longer training on CIFAR10; no such run had begun.
SECOND = datetime.fromisoformat("2026-11-28T06:30:00+00:00")


@dataclass(frozen=True)
class Mark:
    """One line of the list: what an exhibit should show, a function that says what it shows and whether that meets it, and when
    the mark was set.
    """

    exhibit: str
    mark: str
    judge: Callable[["ExhibitRecords"], Finding]
    since: datetime = FIRST


class ExhibitRecords:
    """The records of the exhibits at one scale, as estimates."""

    def __init__(self, scale: str) -> None:
        self._scale, self._frames = scale, {}
        self.scales: set[str] = set()
        self.trained: dict[grid.Run, str] = {}  # the trainings read, and when each was recorded

    def _frame(self, block: str) -> pd.DataFrame:
        if block not in self._frames:
            if not is_declared(block, self._scale):
                raise AbsentError(f"{block} is not computed at scale {self._scale}")
            self._frames[block] = results.select(block, self._scale)
        return self._frames[block]

    def estimates(
        self, block: str, training: str, metric: str, only: Iterable[str] | None = None, *, at: tuple[str, float] | None = None
    ) -> dict[str, Estimate]:
        """By transform, of every variant of the block, or of those named; AbsentError unless all are computed.

        `at`: a scale and a width of the block, whatever the page's scale shows of it.
        """
        if at is None:
            frame = self._frame(block)
            runs, spreads = grid.runs(block, frame.attrs["scale"]), frame.attrs.get("spreads", {})
        else:
            scale, width = at
            if self._scale not in ("auto", scale):
                raise AbsentError(f"needs scale {scale}")
            runs, spreads = [run for run in grid.runs(block, scale) if run.widen_factor == width], results.spreads(scale)
            frame = results.frame(runs, block)
        rows = frame[(frame["training"] == training) & (frame["metric"] == metric) & (frame["split"] == "test")]
        rows = rows[rows["value"].notna()]
        variants = dict.fromkeys(only or (run.transform for run in runs if run.training == training))
        missing = [name for name in variants if name not in set(rows["transform"])]
        if missing:
            message = f"{len(missing)} of {len(variants)} variants of {block} lack {metric} ({training} training)"
            raise AbsentError(message if at is None else f"{message} at w = {at[1]:g}, scale {at[0]}")
        return self._read(rows, variants, spreads)

    def _read(self, rows: pd.DataFrame, variants: Iterable[str], spreads: dict) -> dict[str, Estimate]:
        self.scales |= set(rows["scale"])
        by_variant = {name: rows[rows["transform"] == name] for name in variants}
        if "date" in rows:
            names = [field.name for field in fields(grid.Run)]
            for row in pd.concat(by_variant.values()).to_dict("records"):
                self.trained[grid.Run(**{name: row[name] for name in names})] = row["date"]
        return {
            name: of_records(part["value"], part["n"], spreads, *part.iloc[0][["model", "training", "metric", "split"]])
            for name, part in by_variant.items()
        }

    def width(self, block: str) -> float:
        """The narrowest of the block's networks at its scale."""
        return min(item.widen_factor for item in grid.runs(block, self._frame(block).attrs["scale"]))


def _printed(exhibit: str, training: str, metric: str, width: float) -> tuple[pd.Series, float]:
    """The paper's column of the nearest width, by transform, and that width."""
    rows = results.published(exhibit)
    rows = rows[(rows["training"] == training) & (rows["metric"] == metric) & (rows["split"] == "test")]
    nearest = min(rows["widen_factor"].unique(), key=lambda w: abs(np.log(w / width)))
    rows = rows[rows["widen_factor"] == nearest].dropna(subset=["value"])
    return rows.set_index("transform")["value"], nearest


_Pair = tuple[pd.Series, pd.Series, float]  # robust accuracies by variant, ours and the paper's, and the width of the paper's


def _beside_the_paper(records: ExhibitRecords, block: str, exhibit: str) -> _Pair:
    """With the paper's column of the nearest width, on the variants that both have."""
    estimates = records.estimates(block, "pgd", "robust_accuracy")
    return _pair(estimates, *_printed(exhibit, "pgd", "robust_accuracy", records.width(block)))


def _own_settings(records: ExhibitRecords) -> _Pair:
    """Table 4's narrowest column, ours at the paper's own settings."""
    estimates = records.estimates("table-4", "pgd", "robust_accuracy", at=("paper", 0.125))
    return _pair(estimates, *_printed("table-4", "pgd", "robust_accuracy", 0.125))


def _pair(estimates: dict[str, Estimate], paper: pd.Series, width: float) -> _Pair:
    both = [name for name in estimates if name in paper.index]
    return pd.Series({name: estimates[name].value for name in both}, dtype=float), paper[both], width


def _rank(pair: _Pair, least: float) -> Finding:
    ours, paper, width = pair
    if ours.nunique() < 2:
        return Finding(False, f"the same on all {len(ours)} variants")
    rho = float(spearmanr(ours, paper).statistic)
    return Finding(rho >= least, f"ρ = {rho:.3f} over {len(ours)} variants, with the paper's column of w = {width:g}")


def _distance_to_the_paper(pair: _Pair, most: float) -> Finding:
    ours, paper, width = pair
    mean = float((ours - paper).abs().mean())
    return Finding(mean <= most, f"{mean:.2f} points over {len(ours)} variants, from the paper's column of w = {width:g}")


def _clean_spread(records: ExhibitRecords) -> Finding:
    gap, evidence = range_of(records.estimates("table-2", "standard", "clean_accuracy"))
    return Finding(gap.value <= 1.5, f"{gap.value:.2f} points, {evidence}")


def _clean_minus_robust(records: ExhibitRecords, block: str, transform: str) -> Estimate:
    metrics = "clean_accuracy", "robust_accuracy"
    clean, robust = (records.estimates(block, "pgd", metric, [transform])[transform] for metric in metrics)
    return clean.of_one_training() - robust.of_one_training()


def _binarized(records: ExhibitRecords) -> Finding:
    gap = _clean_minus_robust(records, "table-2", "binarize")
    return Finding(gap.value <= 3, f"{gap} points")


def _rises(records: ExhibitRecords) -> Finding:
    estimates = records.estimates("table-3", "pgd", "robust_accuracy", ["saturate-1", "saturate-16"])
    gap = estimates["saturate-16"] - estimates["saturate-1"]
    return Finding(gap.rises, f"{gap} points from level 1 to 16")


def _gamma(records: ExhibitRecords) -> Finding:
    ranges, orders = [], []
    for training, metric in (("pgd", "robust_accuracy"), ("standard", "clean_accuracy")):
        estimates = records.estimates("figure-3a", training, metric)
        ascending = sorted(estimates.values(), key=lambda estimate: estimate.value)
        ranges.append(ascending[-1] - ascending[0])
        gammas = [1.0 if name == "original" else float(name.removeprefix("gamma-")) for name in estimates]
        values = [estimate.value for estimate in estimates.values()]
        orders.append(float(spearmanr(gammas, values).statistic) if len(set(values)) > 1 else 0.0)
    robust, clean = ranges
    evidence = f"robust {robust} points (ρ with gamma {orders[0]:+z.1f}), clean {clean} (ρ {orders[1]:+z.1f})"
    return Finding(robust.low > clean.high, evidence)


def _edges(records: ExhibitRecords) -> Finding:
    edges, plain = (_clean_minus_robust(records, "figure-3b", name) for name in ("edges", "original"))
    return Finding(edges.value <= 4 and plain.value >= 10, f"edges {edges}, the photographs {plain} points")


def _equal_distance(records: ExhibitRecords) -> Finding:
    estimates = records.estimates("table-1", "pgd", "robust_accuracy")
    evidence, ordered = [], True
    for target in (name for name in estimates if "rescale-to-" not in name):
        values = [estimates[name].value for name in (target, f"rescale-to-{target}", f"binarize+rescale-to-{target}")]
        ordered &= values[0] < values[1] < values[2]
        evidence.append(f"{target}: " + " < ".join(f"{value:.1f}" for value in values))
    return Finding(ordered, "; ".join(evidence))


def _out_of_the_box(records: ExhibitRecords) -> Finding:
    gaps = {}
    for block in ("table-7-mnist", "table-7-cifar10"):
        boxed, unboxed = (records.estimates(block, "pgd", f"robust_accuracy{suffix}") for suffix in ("", "_unboxed"))
        gaps |= {f"{block.rpartition('-')[2]} {name}": unboxed[name].value - boxed[name].value for name in boxed}
    worst = max(gaps, key=lambda name: abs(gaps[name]))
    return Finding(abs(gaps[worst]) <= 3, f"at most {gaps[worst]:+z.2f} points ({worst}), over {len(gaps)} sets")


def _footprints(records: ExhibitRecords) -> Finding:
    estimates = records.estimates("footprints", "pgd", "robust_accuracy")
    paper, width = _printed("table-4", "pgd", "robust_accuracy", records.width("footprints"))
    both = both_footprints(estimates, {name: estimate.value for name, estimate in estimates.items()}, paper)
    gaps = {kind: (both[kind] - both["paper"]).abs().mean() for kind in ("column", "square")}
    evidence = "; ".join(f"{kind}: {gap:.2f} points from the paper" for kind, gap in gaps.items())
    sizes = ", ".join(name.removeprefix("smooth-") for name in both.index)
    return Finding(None, f"{evidence} (mean over sizes {sizes}; Table 4, w = {width:g})")


def _own_gap(records: ExhibitRecords) -> Finding:
    ours, paper = (accuracies["original"] - accuracies["smooth-5"] for accuracies in _own_settings(records)[:2])
    return Finding(bool(abs(ours - paper) <= 3), f"{ours:.1f} points, the paper's {paper:.1f}")


def _cifar10_distance(records: ExhibitRecords) -> Finding:
    gaps = []
    for training, metric in (("standard", "clean_accuracy"), ("pgd", "clean_accuracy"), ("pgd", "robust_accuracy")):
        estimates, (paper, width) = (
            records.estimates("table-3", training, metric),
            _printed("table-5", training, metric, records.width("table-3")),
        )
        gaps += [estimates[name].value - paper[name] for name in estimates if name in paper.index]
    mean = float(np.mean(np.abs(gaps)))
    return Finding(mean <= 5, f"{mean:.2f} points over {len(gaps)} numbers, from the paper's column of w = {width:g}")


MARKS = (
    Mark("Table 2", "robust accuracy over the 9 variants: Spearman's ρ ≥ .9 with the paper's column of the same width",
         lambda records: _rank(_beside_the_paper(records, "table-2", "table-4"), 0.9)),
    Mark("Table 2", "robust accuracy: mean absolute difference from the paper's column of the same width ≤ 5 points",
         lambda records: _distance_to_the_paper(_beside_the_paper(records, "table-2", "table-4"), 5.0)),
    Mark("Table 2", "clean accuracy of standard training: spread over variants ≤ 1.5 points", _clean_spread),
    Mark("Table 2", "binarized MNIST, PGD training: clean minus robust accuracy ≤ 3 points", _binarized),
    Mark("Table 3", "robust accuracy over levels: Spearman's ρ ≥ .95 with the paper's column of the nearest width",
         lambda records: _rank(_beside_the_paper(records, "table-3", "table-5"), 0.95)),
    Mark("Table 3", "three accuracies: mean absolute difference from the paper's column of the nearest width ≤ 5 points",
         _cifar10_distance, SECOND),
    Mark("Table 3", "robust accuracy rises from level 1 to 16, beyond the intervals", _rises),
    Mark("Figure 3a", "the range of robust accuracy over gamma exceeds that of clean accuracy, beyond the intervals", _gamma),
    Mark("Figure 3b", "clean minus robust accuracy: edges ≤ 4 points, Fashion-MNIST itself ≥ 10 points", _edges),
    Mark("Table 1", "robust accuracy at equal distance: smoothed < original < binarized, in all three rows", _equal_distance),
    Mark("Table 7", "robust accuracy if the attack may leave the box: within 3 points of that within the box", _out_of_the_box),
    Mark("Tables 2 and 4", "which footprint of the filter is nearer to the paper's numbers", _footprints),
    Mark("Table 4", "the paper's own settings, w = .125, robust accuracy: mean absolute difference from its column ≤ 2 points",
         lambda records: _distance_to_the_paper(_own_settings(records), 2.0), SECOND),
    Mark("Table 4", "the paper's own settings, w = .125, robust accuracy: Spearman's ρ ≥ .95 with its column over 9 variants",
         lambda records: _rank(_own_settings(records), 0.95), SECOND),
    Mark("Table 4", "the paper's own settings, w = .125: gap between original and smooth-5 within 3 points of the paper's",
         _own_gap, SECOND),
)  # fmt: skip

MET, MISSED, SHOWN = "met", "missed", "shown"


def marks(scale: str = "auto", exhibits: Iterable[str] = ()) -> pd.DataFrame:
    """The marks, one row each: `exhibit`, `mark`, `evidence`, `verdict` (`met`, `missed`, `shown`, `not computed`), `scale`,
    `since` (the day it was set), `trainings` (how many it judges) and `before` (how many of them had a record when it was set).

    `exhibits`: only theirs, named as the marks do ("Table 2"); ValueError for one that has none.

    A mark that an honest run misses is a result, and stands. `shown`: a question without a mark.
    """
    chosen, marked_exhibits = tuple(exhibits), {mark.exhibit for mark in MARKS}
    if unknown := [name for name in chosen if name not in marked_exhibits]:
        raise ValueError(f"no mark is set for {', '.join(unknown)}; allowed: {', '.join(sorted(marked_exhibits))}")
    rows = []
    for mark in (mark for mark in MARKS if not chosen or mark.exhibit in chosen):
        records = ExhibitRecords(scale)
        finding = finding_of(mark.judge, records)
        verdict = NOT_COMPUTED if finding.absent else SHOWN if finding.holds is None else MET if finding.holds else MISSED
        scales = ", ".join(sorted(records.scales, key=grid.SCALES.index)) if verdict != NOT_COMPUTED else ""
        trained = records.trained if verdict != NOT_COMPUTED else {}
        # A text that is not a date is later than everything; the schema refuses it.
        dates = pd.to_datetime(pd.Series([*trained.values()], dtype=str), format="ISO8601", errors="coerce", utc=True)
        before = sum(date < mark.since or _was_known(run) for run, date in zip(trained, dates, strict=True))
        setting = {"since": f"{mark.since:%Y-%m-%d}", "trainings": len(trained), "before": before}
        rows.append(
            {
                "exhibit": mark.exhibit,
                "mark": mark.mark,
                "evidence": finding.evidence,
                "verdict": verdict,
                "scale": scales,
                **setting,
            }
        )
    return pd.DataFrame(rows)


def _was_known(run: grid.Run) -> bool:
    first = (run.scale, run.recipe, run.seed) == ("laptop", "default", 0)
    return first and (run.dataset, run.transform, run.training) in KNOWN
