"""The scorecard: each number of the paper beside ours, how many of them agree, and how long the records took to compute.

Each exhibit counts at one scale, the one that `results.select` chooses, as everywhere in the book.
"""

import numpy as np
import pandas as pd

from lib import theory
from lib.report import claims
from lib.report.claims.evidence import COMPARABLE, NOT_COMPUTED, is_declared
from lib.report.claims.marks import MET, MISSED, SHOWN
from lib.report.words import counted, listed
from lib.store import grid, plans, records, results
from lib.store.intervals import Spread, estimate, spread_of

# The blocks of the grid that compute an exhibit's numbers, each of one length of training, the first perhaps of several widths;
# of the others below no block does.
_BLOCKS = {
    "table-1": ("table-1", "table-1-distances"),
    "table-2": ("table-2",),
    "table-3": ("table-3",),
    "table-4": ("table-4",),
    "table-5": ("table-5", "table-3"),
    "table-6": ("volumes-mnist", "volumes-cifar10"),
    "table-7": ("table-7-mnist", "table-7-cifar10"),
    "figure-3b": ("figure-3b",),
    "section-2.2": ("section-2.2",),
}
_WIDER = {"mnist": "table-2", **dict.fromkeys(grid.CIFAR10_SETS, "table-3")}  # by data set, the table of wider networks
_FORMULA = "example-2"  # Theorem 2.1, evaluated
_QUOTED = "footnote-1"  # others' numbers, which the paper quotes for comparison
_TRUNCATED = "log2_perturbable_volume"  # Table 6 drops the decimals; everything else is rounded

AGREES, DIFFERS = "agrees", "differs"
STATES = (AGREES, DIFFERS, "stale", "failed", "missing", "not in the grid", "quoted")


# Our side of a printed number.
OURS = (
    "ours", "low", "high", "difference", "difference_low", "difference_high", "close", "our_dataset", "our_width", "recipe",
    "scale", "seeds", "n", "source", "state", "records",
)  # fmt: skip


def numbers(scale: str = "auto") -> pd.DataFrame:
    """The paper's 733 numbers, one row each, with ours.

    The columns of `results.published`, `value` among them, and of ours: `ours` (mean over seeds), `low` and `high` (95%
    interval, of images and trainings: `intervals.estimate`), `difference` (ours minus the paper's) with its interval
    `difference_low` and `difference_high`, in which the paper's number has the spread of one training as well, `close` (that
    interval lies within 3 points of 0), `our_dataset`, `our_width`, `recipe` (of several of that width that of the longest
    training), `scale`, `seeds` (how many), `n` (images), `source`, `records` (as `results.record_of` names them), and

    `state`: `agrees` where the interval of the difference holds 0, or, of what is measured without chance, where ours is the
    paper's as printed; else `differs`; `stale`, `failed` or `missing`, to be computed; `not in the grid`, where that scale
    leaves a variant or a width out; `quoted`, others' numbers, which the paper did not measure.
    """
    printed = results.published()
    blocks = dict.fromkeys(name for names in _BLOCKS.values() for name in names)
    ours = {name: _Computed(results.select(name, scale)) for name in blocks if is_declared(name, scale)}
    rows = [_ours(row, [ours[name] for name in _BLOCKS.get(row.exhibit, ()) if name in ours]) for row in printed.itertuples()]
    return pd.concat([printed, pd.DataFrame(rows).reindex(columns=list(OURS))], axis=1)


def distinct(printed: pd.DataFrame) -> pd.DataFrame:
    """Of the paper's numbers those that are not printed again in an earlier exhibit: 649 of 733."""
    return printed.drop_duplicates([name for name in results.published().columns if name not in ("exhibit", "value")])


def like_with_like(scale: str = "auto") -> pd.DataFrame:
    """The accuracies that can be compared like with like: our network has the paper's width and is trained on all images for
    the length of its scale (`results.of_usual_length`). One row a distinct printed number and scale.

    The columns of `results.published`, and `ours`, `low`, `high`, `difference`, `difference_low`, `difference_high`, `close`,
    `our_dataset`, `seeds`, `n`, `scale` and `state`, as `numbers` has them. `auto`: scales paper and laptop, each by itself.
    """
    printed = distinct(results.published())
    printed = printed[printed["training"].isin(["standard", "pgd"]) & printed["widen_factor"].notna()]
    columns = [
        *results.published().columns,
        *(name for name in OURS if name not in ("our_width", "recipe", "source", "records")),
    ]
    rows = []
    for name in ("paper", "laptop") if scale == "auto" else (scale,):
        records = results.load(name)
        records = records[results.of_usual_length(records, name) & records["value"].notna()]
        records = records[records["train_size"] == records.groupby("dataset")["train_size"].transform("max")]
        by = ["transform", "model", "widen_factor", "training", "split", "metric"]
        for dataset, theirs in printed.groupby("dataset", sort=False):
            # Of the two CIFAR10 sets the one with more of the numbers; with as many of both, the exact one.
            candidates = [
                _like(theirs, records[records["dataset"] == our_dataset], by, results.spreads(name))
                for our_dataset in _sets(dataset)
            ]
            rows += max(candidates, key=len)
    return pd.DataFrame(rows, columns=columns)


def _like(printed: pd.DataFrame, records: pd.DataFrame, by: list[str], spreads: dict) -> list[dict]:
    groups = dict(list(records.groupby(by)))
    rows = []
    for row in printed.itertuples(index=False):
        group = groups.get(tuple(getattr(row, name) for name in by))
        if group is not None:
            spread = spread_of(spreads, row.model, row.training, row.metric, row.split)
            rows.append({**row._asdict(), **_accuracy(row, group, spread), "seeds": group["seed"].nunique()})
    return rows


class _Computed:
    """The records of one block, and what it computes, by what a printed number is of."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.scale = frame.attrs["scale"]
        self.spreads = frame.attrs.get("spreads", {})
        items = grid.runs(frame.attrs["exhibit"], self.scale)
        runs = [item for item in items if isinstance(item, grid.Run)]
        self.widths = {item.widen_factor for item in runs}
        self.lengths = {run.training: (plans.of(run).settings["training"]["steps"], run.recipe) for run in reversed(runs)}
        self._planned = {(item.dataset, item.transform, item.training): set() for item in runs}
        for item in runs:
            self._planned[item.dataset, item.transform, item.training].add(item.widen_factor)
        self._planned |= {(item.dataset, item.transform, ""): {np.nan} for item in items if item not in runs}
        by = ["dataset", "transform", "training", "split", "metric"]
        self._rows = {key: rows for key, rows in frame.groupby(by, sort=False) if len(frame)}

    def length(self, row) -> tuple[int, str]:
        """How long the networks of the printed number `row` are trained here: the steps and the recipe."""
        return self.lengths.get(row.training, (0, ""))

    def rows(self, row, *, same_width: bool) -> pd.DataFrame | None:
        """The records of the printed number `row`; None without any."""
        for dataset in _sets(row.dataset):
            rows = self._rows.get((dataset, row.transform, row.training, row.split, row.metric))
            if rows is not None and same_width:
                rows = rows[rows["widen_factor"] == row.widen_factor]
            if rows is not None and len(rows):
                return rows
        return None

    def plans(self, row, *, same_width: bool) -> bool:
        """Whether the block, at this scale, computes that number."""
        planned = [self._planned.get((name, row.transform, row.training), set()) for name in _sets(row.dataset)]
        if same_width:
            return any(row.widen_factor in widths for widths in planned)
        return any(planned)


def _sets(dataset: str) -> tuple[str, ...]:
    """The data sets that may stand on our side of the paper's."""
    return grid.CIFAR10_SETS if dataset == "cifar10" else (dataset,)


def _ours(row, blocks: list[_Computed]) -> dict:
    """Our side of one number."""
    if row.exhibit == _FORMULA:
        space = row.dataset.split("-")[1]
        share = {"cube": theory.cube_vulnerable_fraction, "ball": theory.ball_vulnerable_fraction}[space]
        value = 100 * share(**theory.EXAMPLE_2[space], form="first")
        state = AGREES if value >= row.value else DIFFERS  # "at least"
        return {"ours": value, "difference": value - row.value, "state": state, "our_dataset": row.dataset}
    if row.exhibit == _QUOTED:
        return {"state": "quoted"}
    # An exhibit of one width is compared at the width that the scale has; one that is about widths, like with like. It shows
    # one scale; of two trainings there the longer one.
    same_width = any(len(block.widths) > 1 for block in blocks[:1])
    blocks = [block for block in blocks if block.scale == blocks[0].scale]
    for block in sorted(blocks, key=lambda block: -block.length(row)[0]):
        rows = block.rows(row, same_width=same_width)
        if rows is not None:
            return {**_compared(row, rows, block.spreads), "recipe": block.length(row)[1]}
    planning = [block.scale for block in blocks if block.plans(row, same_width=same_width)]
    return {"state": "missing", "scale": planning[0]} if planning else {"state": "not in the grid"}


def _compared(row, rows: pd.DataFrame, spreads: dict) -> dict:
    first = rows.iloc[0]
    origin = {"our_dataset": first["dataset"], "our_width": first["widen_factor"], "scale": first["scale"]}
    origin["records"] = tuple(results.records_of(rows))
    valued = rows[rows["value"].notna()]
    if valued.empty:
        return {**origin, "state": min(rows["status"])}  # failed < stale
    if row.training:
        accuracy = _accuracy(row, valued, spread_of(spreads, row.model, row.training, row.metric, row.split))
        return {**origin, **accuracy, "seeds": valued["seed"].nunique(), "source": first["source"]}
    # Quantities of the data alone: they have no random error.
    ours, decimals = valued["value"].mean(), _decimals(row.value) if row.metric != _TRUNCATED else 0
    as_printed = np.trunc(ours) if row.metric == _TRUNCATED else np.round(ours, decimals)
    state = AGREES if np.isclose(as_printed, row.value, rtol=0, atol=1e-9) else DIFFERS
    measured = {"ours": ours, "seeds": valued["seed"].nunique(), "n": int(valued["n"].min()), "source": first["source"]}
    return {**origin, **measured, "difference": ours - row.value, "state": state}


def _accuracy(row, rows: pd.DataFrame, spread: Spread | None) -> dict:
    """Our side of an accuracy that the paper prints, of one training on 10,000 images, by our records of it."""
    n = int(rows["n"].min())
    ours = estimate(rows["value"], n, spread)
    gap = ours - estimate([row.value], 10_000, spread)
    return {
        "our_dataset": rows["dataset"].iloc[0],
        "scale": rows["scale"].iloc[0],
        "ours": ours.value,
        "low": ours.low,
        "high": ours.high,
        "n": n,
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "close": gap.within(COMPARABLE),
        "state": DIFFERS if gap.rises or gap.falls else AGREES,
    }


def _decimals(value: float) -> int:
    text = np.format_float_positional(value, trim="-")
    # Table 1's factors are printed with three decimals and its distances with two; a last digit 0 is not kept in a number.
    return 3 if value < 1 else max(2, len(text.partition(".")[2]))


def totals(compared: pd.DataFrame) -> pd.DataFrame:
    """By exhibit, and `all`: how many numbers the paper prints, how many are computed here, and how these compare.

    `compared`: as `numbers` gives it. Columns `scale`, `numbers`, `computed`, each of `STATES`, and of the accuracies that are
    computed `close`, `mean_difference` and `mean_absolute_difference`, in points.
    """
    rows = []
    for exhibit, part in [*compared.groupby("exhibit", sort=False), ("all", compared)]:
        accuracies = part[part["training"] != ""]
        scales = sorted(set(part.loc[part["ours"].notna(), "scale"].dropna()), key=grid.SCALES.index)
        counts = part["state"].value_counts()
        rows.append(
            {
                "exhibit": exhibit,
                "scale": ", ".join(scales),
                "numbers": len(part),
                "computed": int(part["ours"].notna().sum()),
                **{state: int(counts.get(state, 0)) for state in STATES},
                **_differences(accuracies),
            }
        )
    return pd.DataFrame(rows)


def _differences(part: pd.DataFrame) -> dict:
    gaps = part["difference"].dropna()
    close = int((part["close"] == True).sum())  # noqa: E712 - NaN where nothing is computed
    return {"close": close, "mean_difference": gaps.mean(), "mean_absolute_difference": gaps.abs().mean()}


def like_totals(like: pd.DataFrame) -> pd.DataFrame:
    """The totals of `like_with_like`, by scale and data set: of all numbers and of robust accuracy on test images.

    Columns `scale`, `dataset` (ours), `of`, `numbers`, `agrees`, `close`, `below` (ours below the paper's,
    also within the intervals), `mean_difference` and `mean_absolute_difference`, in points.
    """
    rows = []
    for (scale, dataset), part in like.groupby(["scale", "our_dataset"], sort=False):
        robust = part[(part["metric"] == "robust_accuracy") & (part["split"] == "test")]
        for kind, subset in (("all", part), ("robust accuracy on test images", robust)):
            counts = {
                "numbers": len(subset),
                "agrees": int((subset["state"] == AGREES).sum()),
                "below": int((subset["difference"] < 0).sum()),
            }
            rows.append({"scale": scale, "dataset": dataset, "of": kind, **counts, **_differences(subset)})
    columns = ["scale", "dataset", "of", "numbers", "agrees", "close", "below", "mean_difference", "mean_absolute_difference"]
    return pd.DataFrame(rows, columns=columns)


def ranges(like: pd.DataFrame) -> pd.DataFrame:
    """How far robust accuracy on test images runs over the variants, in points, ours and the paper's, of the same width and
    variants: one row a scale and data set, of the width with the most variants (two at least).

    `like`: as `like_with_like` gives it. Columns `scale`, `dataset` (ours), `widen_factor`, `variants` (how many), `ours`,
    `paper`, and `headline`: the paper's over the same variants in Table 2 or 3, whose networks are wider; NaN for another set.
    """
    robust = like[(like["metric"] == "robust_accuracy") & (like["split"] == "test")]
    rows = []
    for (scale, dataset), part in robust.groupby(["scale", "our_dataset"], sort=False):
        width = part["widen_factor"].value_counts(sort=True).index[0]
        part = part[part["widen_factor"] == width]
        if len(part) > 1:
            printed = results.published().query("training == 'pgd' and metric == 'robust_accuracy'")
            in_table = printed["exhibit"] == _WIDER.get(dataset)
            printed = printed[in_table & printed["transform"].isin(part["transform"])]["value"]
            spans = {name: values.max() - values.min() for name, values in (("ours", part["ours"]), ("paper", part["value"]))}
            setting = {"scale": scale, "dataset": dataset, "widen_factor": width, "variants": len(part)}
            rows.append({**setting, **spans, "headline": printed.max() - printed.min()})
    return pd.DataFrame(rows, columns=["scale", "dataset", "widen_factor", "variants", "ours", "paper", "headline"])


_TRAINING = {"paper": "the paper's own training", "laptop": "shorter training and fewer steps of the attack in it"}


def like_summary(like: pd.DataFrame) -> str:
    """The accuracies that can be compared at the same width, in a few sentences."""
    if like.empty:
        return "No accuracy can be compared with the paper's at the same width yet."
    lines = [
        "These numbers are compared like with like, as far as a scale allows: our networks are as wide as the paper's and are "
        "trained on all images. A number *agrees* if the 95% interval of the difference, of images and trainings, holds 0.\n"
    ]
    by_set, spans = like_totals(like), ranges(like).set_index(["scale", "dataset"])
    for scale, part in by_set.groupby("scale", sort=False):
        all_numbers = part[part["of"] == "all"]
        lines.append(
            f"\nAt scale {scale}, with {_TRAINING.get(scale, 'training of its own')}, "
            f"{counted(all_numbers['numbers'].sum(), 'number')} can be compared.\n"
        )
        for row, robust in zip(all_numbers.itertuples(), part[part["of"] != "all"].itertuples(), strict=True):
            line = (
                f"- {grid.SET_NAMES[row.dataset]}: {counted(row.numbers, 'number')}, with a mean absolute difference from the "
                f"paper of {row.mean_absolute_difference:.2f} points. {counted(row.agrees, 'number agrees', 'numbers agree')} "
                f"with the paper within the intervals; {counted(row.close, 'differs', 'differ')} by at most {COMPARABLE:g} "
                f"points even at the ends of the intervals; {counted(row.below, 'is', 'are')} below the paper's. Robust "
                f"accuracy on test images: {robust.agrees} of {counted(robust.numbers, 'number')} "
                f"{'agrees' if robust.agrees == 1 else 'agree'}; the "
                f"mean absolute difference is {robust.mean_absolute_difference:.2f} points."
            )
            if (scale, row.dataset) in spans.index:
                span = spans.loc[(scale, row.dataset)]
                line += (
                    f" Over {span.variants:.0f} variants (w = {span.widen_factor:g}) robust accuracy has a range of "
                    f"{span.ours:.1f} points; for the paper's networks of that width the range is {span.paper:.1f}"
                    f"{'' if np.isnan(span.headline) else f', for its wider ones {span.headline:.1f}'}."
                )
            lines.append(line)
    return "\n".join(lines).strip()


def summary(like: pd.DataFrame, compared: pd.DataFrame, marked: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """The state of the reproduction in a few sentences: `like_with_like`, `numbers`, `marks`, and the verdicts of `claims`."""
    counts = compared["state"].value_counts()
    scales = compared.loc[compared["ours"].notna(), "scale"].value_counts()
    by_scale = ", ".join(f"{scales[name]} at scale {name}" for name in grid.SCALES if name in scales)
    mark_counts, claim_counts = marked["verdict"].value_counts(), verdicts["verdict"].value_counts()
    marks_note = listed(
        f"{counted(mark_counts[verdict], 'is', 'are')} {verdict}"
        for verdict in (MET, MISSED, NOT_COMPUTED)
        if verdict in mark_counts
    )
    return (
        f"{like_summary(like)}\n\n"
        f"In all, the paper prints {len(compared)} numbers, {len(distinct(compared))} of them distinct. If each exhibit counts "
        f"at one scale, {counted(compared['ours'].notna().sum(), 'is', 'are')} computed here "
        f"({by_scale or 'none by training'}), many on a narrower network than the paper's. Of these, "
        f"{counted(counts.get(AGREES, 0), 'agrees', 'agree')} with the paper "
        f"within the intervals and {counted(counts.get(DIFFERS, 0), 'differs', 'differ')}. "
        f"Of {len(marked) - mark_counts.get(SHOWN, 0)} marks, {marks_note}. "
        f"Of {len(verdicts)} claims, {counted(claim_counts.get(claims.HOLDS, 0), 'holds', 'hold')}, "
        f"{counted(claim_counts.get(claims.FAILS, 0), 'fails', 'fail')}, "
        f"{counted(claim_counts.get(claims.UNDECIDED, 0), 'is', 'are')} undecided, since their intervals allow both, "
        f"{counted(claim_counts.get(claims.CERTAIN, 0), 'is', 'are')} certain by proof or definition and "
        f"{counted(claim_counts.get(claims.NOT_COMPUTED, 0), 'is', 'are')} not computed."
    )


def compute_spent() -> pd.DataFrame:
    """Hours that all records in the results folder took, by scale, device and kind of record."""
    rows = []
    for scale in grid.SCALES:
        for record in records.every(scale):
            kind = {"training": "training", "measured": "measurement"}.get(record["evaluation"], "evaluation")
            rows.append({"scale": scale, "device": record["device"], "kind": kind, "hours": record["seconds"] / 3600})
    hours = pd.DataFrame(rows, columns=["scale", "device", "kind", "hours"])
    grouped = hours.groupby(["scale", "device", "kind"], sort=False)["hours"]
    return grouped.agg(records="size", hours="sum").reset_index()
