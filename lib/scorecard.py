"""How the reproduction fared: each number of the paper beside ours, the marks it should meet, and what it cost.

Of each exhibit one scale counts, the one that `results.select` chooses, as everywhere in the book.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib import claims, grid, results, theory
from lib.intervals import Estimate, estimate

# The blocks of the grid that compute an exhibit's numbers; of the others below no block does.
_BLOCKS = {
    "table-1": ("table-1", "table-1-distances"),
    "table-2": ("table-2",),
    "table-3": ("table-3",),
    "table-4": ("table-4",),
    "table-5": ("table-5",),
    "table-6": ("volumes-mnist", "volumes-cifar10"),
    "table-7": ("table-7-mnist", "table-7-cifar10"),
    "figure-3b": ("figure-3b",),
    "section-2.2": ("section-2.2",),
}
_FORMULA = "example-2"  # Theorem 2.1, evaluated
_QUOTED = "footnote-1"  # others' numbers, which the paper quotes for comparison
_TRUNCATED = "log2_perturbable_volume"  # Table 6 drops the decimals; everything else is rounded

AGREES, DIFFERS = "agrees", "differs"
STATES = (AGREES, DIFFERS, "stale", "failed", "missing", "not in the grid", "quoted")


# Our side of a printed number.
OURS = (
    "ours", "low", "high", "difference", "difference_low", "difference_high", "our_dataset", "our_width", "scale", "seeds", "n",
    "source", "state",
)  # fmt: skip


def numbers(scale: str = "auto") -> pd.DataFrame:
    """The paper's 733 numbers, one row each, with ours.

    The columns of `results.published`, `value` among them, and of ours: `ours` (mean over seeds), `low` and `high` (of an
    accuracy Wilson's 95% interval, widened to the range over seeds), `difference` (ours minus the paper's) with its interval
    `difference_low` and `difference_high`, `our_dataset`, `our_width`, `scale`, `seeds` (how many), `n` (images), `source`, and

    `state`: `agrees` where the interval of the difference holds 0, or, of what is measured without chance, where ours is the
    paper's as printed; else `differs`; `stale`, `failed` or `missing`, to be computed; `not in the grid`, where that scale
    leaves a variant or a width out; `quoted`, others' numbers, which the paper did not measure.
    """
    printed = results.published()
    blocks = dict.fromkeys(name for names in _BLOCKS.values() for name in names)
    ours = {name: _Computed(results.select(name, scale)) for name in blocks if _declared(name, scale)}
    rows = [_ours(row, [ours[name] for name in _BLOCKS.get(row.exhibit, ()) if name in ours]) for row in printed.itertuples()]
    return pd.concat([printed, pd.DataFrame(rows).reindex(columns=list(OURS))], axis=1)


def _declared(block: str, scale: str) -> bool:
    return scale == "auto" or scale in grid.exhibit(block)["scales"]


class _Computed:
    """The records of one block, and what it computes, by what a printed number is of."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.scale = frame.attrs["scale"]
        items = grid.runs(frame.attrs["exhibit"], self.scale)
        runs = [item for item in items if isinstance(item, grid.Run)]
        self.widths = {item.widen_factor for item in runs}
        self._planned = {(item.dataset, item.transform, item.training): set() for item in runs}
        for item in runs:
            self._planned[item.dataset, item.transform, item.training].add(item.widen_factor)
        self._planned |= {(item.dataset, item.transform, ""): {np.nan} for item in items if item not in runs}
        by = ["dataset", "transform", "training", "split", "metric"]
        self._rows = {key: rows for key, rows in frame.groupby(by, sort=False) if len(frame)}

    def rows(self, row) -> pd.DataFrame | None:
        """The records of the printed number `row`; None without any.

        An exhibit of one width is compared at the width that the scale has; one that is about widths, like with like.
        """
        for dataset in _sets(row.dataset):
            found = self._rows.get((dataset, row.transform, row.training, row.split, row.metric))
            if found is not None and len(self.widths) > 1:
                found = found[found["widen_factor"] == row.widen_factor]
            if found is not None and len(found):
                return found
        return None

    def plans(self, row) -> bool:
        """Whether the block, at this scale, computes that number."""
        planned = [self._planned.get((name, row.transform, row.training), set()) for name in _sets(row.dataset)]
        if len(self.widths) > 1:
            return any(row.widen_factor in widths for widths in planned)
        return any(planned)


def _sets(dataset: str) -> tuple[str, ...]:
    """The data sets that may stand on our side of the paper's."""
    return grid.CIFAR10_SETS if dataset == "cifar10" else (dataset,)


def _ours(row, computed: list[_Computed]) -> dict:
    """Our side of one number."""
    if row.exhibit == _FORMULA:
        space = row.dataset.split("-")[1]
        share = {"cube": theory.cube_vulnerable_fraction, "ball": theory.ball_vulnerable_fraction}[space]
        value = 100 * share(**theory.EXAMPLE_2[space], form="first")
        state = AGREES if value >= row.value else DIFFERS  # "at least"
        return {"ours": value, "difference": value - row.value, "state": state, "our_dataset": row.dataset}
    if row.exhibit == _QUOTED:
        return {"state": "quoted"}
    for block in computed:
        rows = block.rows(row)
        if rows is not None:
            return _compared(row, rows)
    planning = [block.scale for block in computed if block.plans(row)]
    return {"state": "missing", "scale": planning[0]} if planning else {"state": "not in the grid"}


def _compared(row, rows: pd.DataFrame) -> dict:
    first = rows.iloc[0]
    about = {"our_dataset": first["dataset"], "our_width": first["widen_factor"], "scale": first["scale"]}
    valued = rows[rows["value"].notna()]
    if valued.empty:
        return {**about, "state": min(rows["status"])}  # failed < stale
    about |= {
        "ours": valued["value"].mean(),
        "seeds": valued["seed"].nunique(),
        "n": int(valued["n"].min()),
        "source": first["source"],
    }
    if not row.training:  # of the data alone: no chance in it
        ours, decimals = about["ours"], _decimals(row.value) if row.metric != _TRUNCATED else 0
        as_printed = np.trunc(ours) if row.metric == _TRUNCATED else np.round(ours, decimals)
        state = AGREES if np.isclose(as_printed, row.value, rtol=0, atol=1e-9) else DIFFERS
        return {**about, "difference": ours - row.value, "state": state}
    ours = estimate(valued["value"], about["n"])
    gap = ours - estimate([row.value], 10_000)
    return {
        **about,
        "low": ours.low,
        "high": ours.high,
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "state": DIFFERS if gap.rises or gap.falls else AGREES,
    }


def _decimals(value: float) -> int:
    text = np.format_float_positional(value, trim="-")
    # Table 1's factors are printed with three decimals and its distances with two; a last digit 0 is not kept in a number.
    return 3 if value < 1 else max(2, len(text.partition(".")[2]))


def totals(found: pd.DataFrame) -> pd.DataFrame:
    """By exhibit, and `all`: how many numbers the paper prints, how many are computed here, and how these compare.

    `found`: as `numbers` gives it. Columns `scale`, `numbers`, `computed`, each of `STATES`, and of the accuracies that are
    computed `mean_difference` and `mean_absolute_difference`, in points.
    """
    rows = []
    for exhibit, part in [*found.groupby("exhibit", sort=False), ("all", found)]:
        trained = part[part["training"] != ""]
        gaps = trained["difference"].dropna()
        scales = sorted(set(part.loc[part["ours"].notna(), "scale"].dropna()), key=grid.SCALES.index)
        counts = part["state"].value_counts()
        rows.append(
            {
                "exhibit": exhibit,
                "scale": ", ".join(scales),
                "numbers": len(part),
                "computed": int(part["ours"].notna().sum()),
                **{state: int(counts.get(state, 0)) for state in STATES},
                "mean_difference": gaps.mean(),
                "mean_absolute_difference": gaps.abs().mean(),
            }
        )
    return pd.DataFrame(rows)


def summary(found: pd.DataFrame, marked: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """The state of the reproduction in one sentence each: `numbers`, `marks`, and the verdicts of `claims`."""
    counts = found["state"].value_counts()
    scales = found.loc[found["ours"].notna(), "scale"].value_counts()
    where = ", ".join(f"{scales[name]} at scale {name}" for name in grid.SCALES if name in scales)
    of_marks, of_claims = marked["verdict"].value_counts(), verdicts["verdict"].value_counts()
    return (
        f"Of the paper's {len(found)} numbers {found['ours'].notna().sum()} are computed ({where or 'none by training'}); "
        f"{counts.get(AGREES, 0)} of them agree within their intervals and {counts.get(DIFFERS, 0)} differ. "
        f"Of {len(marked) - of_marks.get(SHOWN, 0)} marks set beforehand {of_marks.get(MET, 0)} are met, "
        f"{of_marks.get(MISSED, 0)} missed and {of_marks.get(NOT_COMPUTED, 0)} not computed. "
        f"Of {len(verdicts)} claims {of_claims.get(claims.HOLDS, 0)} hold, {of_claims.get(claims.FAILS, 0)} fail and "
        f"{of_claims.get(claims.NOT_COMPUTED, 0)} are not computed."
    )


def compute_spent() -> pd.DataFrame:
    """Hours behind the records that lie in the results folder, of the grid or not, by scale, device and kind of record."""
    rows = []
    for scale in grid.SCALES:
        for record in results.every(scale):
            kind = {"training": "training", "measured": "measurement"}.get(record["evaluation"], "evaluation")
            rows.append({"scale": scale, "device": record["device"], "kind": kind, "hours": record["seconds"] / 3600})
    found = pd.DataFrame(rows, columns=["scale", "device", "kind", "hours"])
    grouped = found.groupby(["scale", "device", "kind"], sort=False)["hours"]
    return grouped.agg(records="size", hours="sum").reset_index()


# --- marks: what the records should show, set before they were computed ------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """One line of the list: what an exhibit should show, and a function that says what it shows and whether that meets it."""

    exhibit: str
    mark: str
    judge: Callable[["_Shown"], tuple[str, bool | None]]


class _LackingError(LookupError):
    """A number that a mark needs is not computed."""


class _Shown:
    """The records of the exhibits at one scale, as estimates."""

    def __init__(self, scale: str) -> None:
        self._scale, self._frames = scale, {}
        self.scales: set[str] = set()

    def _frame(self, block: str) -> pd.DataFrame:
        if block not in self._frames:
            if not _declared(block, self._scale):
                raise _LackingError(f"{block} is not of scale {self._scale}")
            self._frames[block] = results.select(block, self._scale)
        return self._frames[block]

    def estimates(self, block: str, training: str, metric: str, only: Iterable[str] | None = None) -> dict[str, Estimate]:
        """By transform, of every variant of the block, or of those named; LackingError unless all are computed."""
        frame = self._frame(block)
        rows = frame[(frame["training"] == training) & (frame["metric"] == metric) & (frame["split"] == "test")]
        rows = rows[rows["value"].notna()]
        items = grid.runs(block, frame.attrs["scale"])
        wanted = dict.fromkeys(only or (item.transform for item in items if item.training == training))
        lacking = [name for name in wanted if name not in set(rows["transform"])]
        if lacking:
            raise _LackingError(f"{len(lacking)} of {len(wanted)} variants of {block} lack {metric} ({training} training)")
        self.scales.add(frame.attrs["scale"])
        by_variant = {name: rows[rows["transform"] == name] for name in wanted}
        return {name: estimate(part["value"], int(part["n"].min())) for name, part in by_variant.items()}

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


def _beside_the_paper(shown: _Shown, block: str, exhibit: str) -> tuple[pd.Series, pd.Series, float]:
    """Robust accuracies, ours and the paper's of the nearest width, on the variants that both have."""
    ours = {name: found.value for name, found in shown.estimates(block, "pgd", "robust_accuracy").items()}
    paper, width = _printed(exhibit, "pgd", "robust_accuracy", shown.width(block))
    both = [name for name in ours if name in paper.index]
    return pd.Series(ours)[both], paper[both], width


def _rank(shown: _Shown, block: str, exhibit: str, least: float) -> tuple[str, bool]:
    ours, paper, width = _beside_the_paper(shown, block, exhibit)
    if ours.nunique() < 2:
        return f"the same on all {len(ours)} variants", False
    rho = float(spearmanr(ours, paper).statistic)
    return f"ρ = {rho:.3f} over {len(ours)} variants, with the paper's column of w = {width:g}", rho >= least


def _distance_to_the_paper(shown: _Shown, block: str, exhibit: str, most: float) -> tuple[str, bool]:
    ours, paper, width = _beside_the_paper(shown, block, exhibit)
    mean = float((ours - paper).abs().mean())
    return f"{mean:.2f} points over {len(ours)} variants, from the paper's column of w = {width:g}", mean <= most


def _spread(found: dict[str, Estimate]) -> tuple[float, str]:
    low, high = min(found, key=lambda name: found[name].value), max(found, key=lambda name: found[name].value)
    gap = found[high].value - found[low].value
    return gap, f"{gap:.2f} points, {found[low].value:.2f} ({low}) to {found[high].value:.2f} ({high})"


def _clean_spread(shown: _Shown) -> tuple[str, bool]:
    gap, said = _spread(shown.estimates("table-2", "standard", "clean_accuracy"))
    return said, gap <= 1.5


def _clean_minus_robust(shown: _Shown, block: str, transform: str) -> Estimate:
    metrics = "clean_accuracy", "robust_accuracy"
    clean, robust = (shown.estimates(block, "pgd", metric, [transform])[transform] for metric in metrics)
    return clean - robust


def _binarized(shown: _Shown) -> tuple[str, bool]:
    gap = _clean_minus_robust(shown, "table-2", "binarize")
    return f"{gap} points", gap.value <= 3


def _rises(shown: _Shown) -> tuple[str, bool]:
    found = shown.estimates("table-3", "pgd", "robust_accuracy", ["saturate-1", "saturate-16"])
    gap = found["saturate-16"] - found["saturate-1"]
    return f"{gap} points from level 1 to 16", gap.rises


def _gamma(shown: _Shown) -> tuple[str, bool]:
    ranges, orders = [], []
    for training, metric in (("pgd", "robust_accuracy"), ("standard", "clean_accuracy")):
        found = shown.estimates("figure-3a", training, metric)
        ends = sorted(found.values(), key=lambda each: each.value)
        ranges.append(ends[-1] - ends[0])
        gammas = [1.0 if name == "original" else float(name.removeprefix("gamma-")) for name in found]
        values = [each.value for each in found.values()]
        orders.append(float(spearmanr(gammas, values).statistic) if len(set(values)) > 1 else 0.0)
    robust, clean = ranges
    said = f"robust {robust} points (ρ with gamma {orders[0]:+.1f}), clean {clean} (ρ {orders[1]:+.1f})"
    meets = robust.low > clean.high
    if not meets and abs(orders[0]) >= 0.9 > abs(orders[1]):
        said += (
            "; a likely reason: robust accuracy goes with gamma step by step and the clean accuracy of standard training up "
            "and down, so that the latter's range is mostly the scatter from one training to the next"
        )
    return said, meets


def _edges(shown: _Shown) -> tuple[str, bool]:
    edges, plain = (_clean_minus_robust(shown, "figure-3b", name) for name in ("edges", "original"))
    return f"edges {edges}, the photographs {plain} points", edges.value <= 4 and plain.value >= 10


def _equal_distance(shown: _Shown) -> tuple[str, bool]:
    found = shown.estimates("table-1", "pgd", "robust_accuracy")
    said, ordered = [], True
    for target in (name for name in found if "rescale-to-" not in name):
        values = [found[name].value for name in (target, f"rescale-to-{target}", f"binarize+rescale-to-{target}")]
        ordered &= values[0] < values[1] < values[2]
        said.append(f"{target}: " + " < ".join(f"{value:.1f}" for value in values))
    return "; ".join(said), ordered


def _out_of_the_box(shown: _Shown) -> tuple[str, bool]:
    gaps = {}
    for block in ("table-7-mnist", "table-7-cifar10"):
        boxed, unboxed = (shown.estimates(block, "pgd", f"robust_accuracy{suffix}") for suffix in ("", "_unboxed"))
        gaps |= {f"{block.rpartition('-')[2]} {name}": unboxed[name].value - boxed[name].value for name in boxed}
    worst = max(gaps, key=lambda name: abs(gaps[name]))
    return f"at most {gaps[worst]:+.2f} points ({worst}), over {len(gaps)} sets", abs(gaps[worst]) <= 3


def _footprints(shown: _Shown) -> tuple[str, None]:
    found = shown.estimates("footprints", "pgd", "robust_accuracy")
    paper, width = _printed("table-4", "pgd", "robust_accuracy", shown.width("footprints"))
    sizes = [name.rpartition("-")[2] for name in found if "square" not in name]
    gaps = {
        kind: [abs(found[f"smooth-{prefix}{size}"].value - paper[f"smooth-{size}"]) for size in sizes]
        for kind, prefix in (("column", ""), ("square", "square-"))
    }
    said = "; ".join(f"{kind}: {np.mean(each):.2f} points from the paper" for kind, each in gaps.items())
    return f"{said} (mean over sizes {', '.join(sizes)}; Table 4, w = {width:g})", None


MARKS = (
    Mark("Table 2", "robust accuracy over the 9 variants: Spearman's ρ ≥ .9 with the paper's column of the same width",
         lambda shown: _rank(shown, "table-2", "table-4", 0.9)),
    Mark("Table 2", "robust accuracy: mean absolute difference from that column ≤ 5 points",
         lambda shown: _distance_to_the_paper(shown, "table-2", "table-4", 5.0)),
    Mark("Table 2", "clean accuracy of standard training: spread over variants ≤ 1.5 points", _clean_spread),
    Mark("Table 2", "binarized MNIST, PGD training: clean minus robust accuracy ≤ 3 points", _binarized),
    Mark("Table 3", "robust accuracy over levels: Spearman's ρ ≥ .95 with the paper's column of the nearest width",
         lambda shown: _rank(shown, "table-3", "table-5", 0.95)),
    Mark("Table 3", "robust accuracy rises from level 1 to 16 beyond its intervals", _rises),
    Mark("Figure 3a", "the range of robust accuracy over gamma exceeds that of clean accuracy, beyond the intervals", _gamma),
    Mark("Figure 3b", "clean minus robust accuracy: edges ≤ 4 points, Fashion-MNIST itself ≥ 10 points", _edges),
    Mark("Table 1", "robust accuracy at equal distance: smoothed < original < binarized, in all three rows", _equal_distance),
    Mark("Table 7", "an attack that may leave the box: within 3 points of one that may not", _out_of_the_box),
    Mark("Tables 2 and 4", "which footprint of the filter is nearer the paper's numbers", _footprints),
)  # fmt: skip

MET, MISSED, SHOWN, NOT_COMPUTED = "met", "missed", "shown", claims.NOT_COMPUTED


def marks(scale: str = "auto", exhibits: Iterable[str] = ()) -> pd.DataFrame:
    """The marks, one row each: `exhibit`, `mark`, `found`, `verdict` (`met`, `missed`, `shown`, `not computed`) and `scale`.

    `exhibits`: only theirs, named as the marks do ("Table 2"); ValueError for one that has none.

    They were set before the runs; a mark that an honest run misses is a result, and stands. `shown`: a question without a mark.
    """
    wanted, known = tuple(exhibits), {mark.exhibit for mark in MARKS}
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no mark is set for {', '.join(unknown)}; there are marks for {', '.join(sorted(known))}")
    rows = []
    for mark in (mark for mark in MARKS if not wanted or mark.exhibit in wanted):
        shown = _Shown(scale)
        try:
            found, meets = mark.judge(shown)
            verdict = SHOWN if meets is None else MET if meets else MISSED
        except _LackingError as lacking:
            found, verdict = str(lacking), NOT_COMPUTED
        used = ", ".join(sorted(shown.scales, key=grid.SCALES.index)) if verdict != NOT_COMPUTED else ""
        rows.append({"exhibit": mark.exhibit, "mark": mark.mark, "found": found, "verdict": verdict, "scale": used})
    return pd.DataFrame(rows)
