"""Gives our records and the paper's numbers as tidy frames. Accuracies are in percent, as in the paper's tables."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from lib.store import grid, intervals, plans, records, schema
from lib.store.grid import Item, Measurement, Run
from lib.store.records import RecordError

# Also with the suffix of an evaluation.
IN_PERCENT = ("clean_accuracy", "robust_accuracy", "robustness_wrt_predictions", "certified_error", "moved_by_pgd")
COLUMNS = (
    "scale", "dataset", "transform", "model", "widen_factor", "training", "train_size", "recipe", "seed",
    "evaluation", "split", "metric", "value", "n", "status", "source", "device", "commit", "date", "key",
)  # fmt: skip
_ORIGIN = ("source", "device", "commit", "date")
_NO_RUN = {"model": "", "widen_factor": np.nan, "training": "", "train_size": pd.NA, "recipe": "", "seed": pd.NA}


class _Shared(dict):
    """A mapping of `attrs` that nobody changes: pandas copies all of `attrs`, however deep, with each of its operations."""

    def __deepcopy__(self, memo: dict) -> "_Shared":
        return self


def _rows(item: Item, name: str, shown_by: str | None) -> list[dict]:
    try:
        record = records.read(item, name)
    except FileNotFoundError:
        return []
    state = records.status(item, name)
    origin = {field: record[field] for field in _ORIGIN}
    base = {**_NO_RUN, **vars(item), "evaluation": name, "status": state, **origin, "key": item.key}
    if state == "failed":
        if name != "training":
            return []  # taken of earlier weights
        # A failed training has no accuracy; the exhibits say so in each place.
        evaluations = plans.of(item).evaluations(shown_by)
        metrics = {metric for evaluation in evaluations for metric in plans.metrics(evaluation).values()}
        return [{**base, "split": "test", "metric": metric, "value": np.nan, "n": 0} for metric in sorted(metrics)]
    rows = []
    for split, metrics in record.get("metrics", {}).items():
        for metric, value in metrics.items():
            # A stale value is never shown: its row says only that there is one.
            shown = value * (100 if metric.startswith(IN_PERCENT) else 1) if state == "recorded" else np.nan
            rows.append({**base, "split": split, "metric": metric, "value": shown, "n": record["sizes"][split]})
    return rows


def record_of(item: Item, name: str) -> str:
    """Where the record `name` of `item` lies in the folder of records: `laptop/mnist/…/seed0/pgd.json`."""
    return records.place(item.scale, item.key, name)


def records_of(rows: pd.DataFrame) -> list[str]:
    """As `record_of`, the records that rows of `frame` are of, each once; none of rows without a key."""
    rows = rows[rows["key"].notna() & rows["value"].notna()]
    columns = [rows[name] for name in ("scale", "key", "evaluation")] if len(rows) else []
    return [records.place(*row) for row in dict.fromkeys(zip(*columns, strict=True))]


def frame(items: list[Item], shown_by: str | None = None) -> pd.DataFrame:
    """The records of `items`, tidy: one row a (run, split, metric), with the columns `COLUMNS`; accuracies in percent.

    `shown_by` an exhibit: without the evaluations that others ask for. Rows of a stale record have status `stale`, those of a
    failed run `failed`; neither has a value. RecordError for a record that is not whole.
    """
    rows = [row for item in items for name in plans.of(item).records(shown_by) for row in _rows(item, name, shown_by)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"train_size": "Int64", "seed": "Int64", "value": "float64"})


def load(scale: str) -> pd.DataFrame:
    """Everything recorded at `scale` that the grid asks for, as `frame` gives it; for every CIFAR10 set there is."""
    return frame(grid.every(scale))


def of_usual_length(rows: pd.DataFrame, scale: str) -> pd.Series:
    """Of rows of `frame`, which are of a training as long as those of Sections 3 and 4 at `scale`: `grid.usual_recipes`."""
    usual, trainings = grid.usual_recipes(scale), zip(rows["dataset"], rows["training"], strict=True)
    return rows["recipe"] == pd.Series([usual.get(training) for training in trainings], index=rows.index, dtype=object)


def spreads(scale: str) -> intervals.Spreads:
    """How far trainings of `scale` differ whose seeds alone differ, by network and quantity: `intervals.pooled`.

    Pooled over the runs of the grid that several seeds are recorded of. Of a scale without any, `paper`, those of `laptop`
    stand in: the same networks and data, trained for less long. `smoke` has its own or none.
    """
    own = _spreads(scale, _states(scale))
    return own or (_spreads("laptop", _states("laptop")) if scale == "paper" else {})


@cache
def _of_several_seeds(scale: str) -> list[Run]:
    groups: dict[Run, list[Run]] = {}
    usual = grid.usual_recipes(scale)
    for item in grid.every(scale):
        if isinstance(item, Run) and item.recipe == usual.get((item.dataset, item.training)):
            groups.setdefault(replace(item, seed=0), []).append(item)
    return [run for group in groups.values() if len(group) > 1 for run in group]


def _states(scale: str) -> tuple:
    """Which records of the runs of several seeds there are, and when each was written."""
    states = []
    for run in _of_several_seeds(scale):
        for name in plans.of(run).records():
            with suppress(OSError):
                file = records.path(run, name)
                states.append((file, file.stat().st_mtime_ns))
    return tuple(states)


@lru_cache(maxsize=8)
def _spreads(scale: str, states: tuple) -> intervals.Spreads:
    return intervals.pooled(frame(_of_several_seeds(scale))) if states else {}


def choose(exhibit: str, scale: str = "auto", *, seeds: int | str = "all", cifar10: str | None = None) -> list[Item]:
    """What the exhibit shows: its runs at `scale`, or, for `auto`, at the highest complete scale, else the most complete one.

    `auto` looks at every CIFAR10 set as well, and never mixes two; a scale takes `cifar10`, by default `grid.cifar10_set()`.
    ValueError for an unknown exhibit or scale.
    """
    if scale != "auto":
        return grid.runs(exhibit, scale, seeds=seeds, cifar10=cifar10)
    if seeds != "all" and (not isinstance(seeds, int) or seeds < 1):
        raise ValueError(f"seeds must be 'all' or a number ≥ 1, given {seeds!r}")
    candidates = {}
    for name in grid.SCALES:
        if name in grid.exhibit(exhibit)["scales"]:
            for cifar10 in grid.CIFAR10_SETS:
                # A number of seeds beyond what a scale declares takes what that scale has.
                items = grid.runs(exhibit, name, cifar10=cifar10)
                candidates[tuple(i.key for i in items), name] = _first_seeds(items, seeds)
    # Of equals the first one counts: the highest scale, the exact set.
    return max(candidates.values(), key=lambda items: _completeness(items, exhibit))


def _first_seeds(items: list[Item], seeds: int | str) -> list[Item]:
    if seeds == "all" or isinstance(items[0], Measurement):
        return items
    allowed = sorted({item.seed for item in items})[:seeds]
    return [item for item in items if item.seed in allowed]


def _completeness(items: list[Item], exhibit: str) -> float:
    needed = [(item, name) for item in items for name in plans.of(item).records(exhibit)]
    return sum(records.status(item, name) == "recorded" for item, name in needed) / len(needed)


def select(exhibit: str, scale: str = "auto", *, seeds: int | str = "all") -> pd.DataFrame:
    """The records that the exhibit shows, as `frame` gives them, one scale and one CIFAR10 set only.

    Evaluations that other exhibits take of the same runs are left out, and not missed. `attrs` says what the records are
    out of: `exhibit`, `scale`, `expected` and `complete` (numbers of runs), `command`, which computes what is missing,
    `spreads`, how far trainings differ, and `more_seeds`, as the function of that name gives it.
    """
    items = choose(exhibit, scale, seeds=seeds)
    ours = frame(items, exhibit)
    complete = sum(not records.missing(item, exhibit) for item in items)
    declared = grid.exhibit(exhibit)["scales"]
    first = "laptop" if "laptop" in declared else next(iter(declared))  # the scale to begin with
    ours.attrs = {
        "exhibit": exhibit,
        "scale": items[0].scale,
        "expected": len(items),
        "complete": complete,
        "command": f"python -m lib run {exhibit} --scale {items[0].scale if complete else first}",
        "spreads": _Shared(spreads(items[0].scale)),
        "more_seeds": _Shared(more_seeds(items)),
    }
    return ours


def more_seeds(items: list[Item]) -> dict[tuple[int, str, float], list[str]]:
    """The transforms whose runs other exhibits show with more seeds, by how many are recorded, the first of these exhibits, and
    the width.

    An exhibit shows what it declares: the mean over three seeds in one table, and the first seed in another, are two numbers.
    """
    shown = [item for item in items if isinstance(item, Run)]
    twins = {replace(item, seed=0) for item in shown}
    by_twin: dict[Run, list[Run]] = {}
    for run in _of_several_seeds(shown[0].scale) if shown else ():
        if (twin := replace(run, seed=0)) in twins and records.status(run, "training") == "recorded":
            by_twin.setdefault(twin, []).append(run)
    transforms: dict[tuple[int, str, float], list[str]] = {}
    for twin, runs in by_twin.items():
        if beyond := [run for run in runs if run not in shown]:
            place = len(runs), grid.exhibits_of(beyond[0])[0], twin.widen_factor
            if twin.transform not in transforms.setdefault(place, []):
                transforms[place].append(twin.transform)
    return transforms


def histograms(exhibit: str, scale: str = "auto") -> pd.DataFrame:
    """The pixel histograms that the exhibit shows: one row a bin, with `transform`, `left`, `right` and `count`.

    The columns of provenance and the `attrs` are those of `select`; stale histograms are left out.
    """
    rows = []
    for base, record in _measured(exhibit, scale):
        edges, counts = record["histogram"]["edges"], record["histogram"]["counts"]
        bins = zip(edges, edges[1:], counts, strict=False)
        rows += [{**base, "left": left, "right": right, "count": count} for left, right, count in bins]
    return _with_attrs(rows, ["left", "right", "count"], exhibit, scale)


def tables(exhibit: str, scale: str = "auto", *, cifar10: str | None = None) -> pd.DataFrame:
    """The tables that the exhibit's measurements left, one below the other, with the columns of `histograms` about them.

    The other columns are the measurement's own; stale tables are left out. `cifar10` as in `choose`.
    """
    rows = [{**base, **row} for base, record in _measured(exhibit, scale, cifar10) for row in record["table"]]
    return _with_attrs(rows, [], exhibit, scale)


_ABOUT = ("dataset", "transform", "model", *_ORIGIN, "scale", "status", "key")


def _measured(exhibit: str, scale: str, cifar10: str | None = None) -> Iterator[tuple[dict, dict]]:
    """(what a row says of it, the record) of each measurement that is recorded."""
    for item in choose(exhibit, scale, cifar10=cifar10):
        if records.status(item, "measured") == "recorded":
            record = records.read(item, "measured")
            about = {field: record[field] for field in (*_ORIGIN, "scale")}
            about |= {"dataset": item.dataset, "transform": item.transform, "model": "", "status": "recorded", "key": item.key}
            yield about, record


def _with_attrs(rows: list[dict], own: list[str], exhibit: str, scale: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=None if rows else [*_ABOUT, *own])
    table.attrs = select(exhibit, scale).attrs
    return table


def outcomes(exhibit: str, scale: str = "auto", *, seeds: int | str = "all") -> pd.DataFrame:
    """What became of each image under the attacks of the exhibit that are against the label alone: one row an image.

    Columns `transform`, `seed`, `metric`, `image` (its place among the images attacked, the same for every attack of one
    size), `held`: still classified as its label, and `record`: as `record_of` names it. Stale and failed records are left
    out. `attrs` as `select` has them.
    """
    rows = []
    for item in choose(exhibit, scale, seeds=seeds):
        plan = plans.of(item)
        for name in plan.evaluations(exhibit):
            if "against" not in plan.evaluation(name).settings or records.status(item, name) != "recorded":
                continue
            record = records.read(item, name)
            size = record["sizes"]["test"]
            about = {"transform": item.transform, "seed": item.seed, "image": range(size), "record": record_of(item, name)}
            rows += [
                pd.DataFrame({**about, "metric": metric, "held": records.unpack(packed, size).numpy()})
                for metric, packed in record["outcomes"]["test"].items()
            ]
    columns = ["transform", "seed", "metric", "image", "held", "record"]
    images = pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)
    images.attrs = select(exhibit, scale, seeds=seeds).attrs
    return images


def lucky(exhibit: str, scale: str = "auto", *, seeds: int | str = "all") -> pd.DataFrame:
    """Robust accuracy under the paper's attack by both conventions: one row a PGD-trained model, test images, in percent.

    Columns `dataset`, `transform`, `seed`, `robust_accuracy` (right after the attack, which is what is recorded), `both` (right
    before and after it) and `lucky`, the difference: wrong before, and right once attacked. `attrs` as `select` has them.
    """
    rows = []
    for item in choose(exhibit, scale, seeds=seeds):
        if isinstance(item, Run) and "pgd" in plans.of(item).records(exhibit) and records.status(item, "pgd") == "recorded":
            record = records.read(item, "pgd")
            packed, size = record.get("outcomes", {}).get("test", {}), record["sizes"]["test"]
            if {"clean_accuracy", "robust_accuracy"} <= packed.keys():
                clean, robust = (records.unpack(packed[name], size) for name in ("clean_accuracy", "robust_accuracy"))
                shares = [100 * bits.double().mean().item() for bits in (robust, robust & clean, robust & ~clean)]
                rows.append([item.dataset, item.transform, item.seed, *shares])
    accuracies = pd.DataFrame(rows, columns=["dataset", "transform", "seed", "robust_accuracy", "both", "lucky"])
    accuracies.attrs = select(exhibit, scale, seeds=seeds).attrs
    return accuracies


def benchmarks() -> list[str]:
    """The names of the committed benchmarks. RecordError for a file whose name is none: lower-case letters, digits, hyphens."""
    names = sorted(file.stem for file in (records.ROOT / "results" / "benchmarks").glob("*.json"))
    for name in names:
        if not re.fullmatch("[a-z0-9-]+", name):
            raise RecordError(
                f"results/benchmarks/{schema.one_line(name)}.json: no benchmark has this name; rename or delete it"
            )
    return names


def benchmark(name: str) -> pd.DataFrame:
    """The committed record of a benchmark, `results/benchmarks/<name>.json`: one row a (case, batch, engine).

    `attrs`: `device`, `date`, `commit` and, where an earlier commit's engine was measured as well, `before`. FileNotFoundError
    where it was never measured, RecordError where it is damaged.
    """
    file = records.ROOT / "results" / "benchmarks" / f"{name}.json"
    try:
        record = schema.parsed(file.read_text(encoding="utf-8"))
        schema.check_benchmark(record)
    except ValueError as error:
        raise RecordError(f"{file} is not a valid benchmark ({schema.one_line(error)}); restore it, or delete it") from None
    timings = pd.DataFrame(record["rows"])
    timings.attrs = {field: record.get(field) for field in ("device", "date", "commit", "before")}
    return timings


@cache
def _published() -> pd.DataFrame:
    return pd.read_csv(
        records.ROOT / "results" / "published.csv", keep_default_na=False, na_values={"widen_factor": "", "value": ""}
    )


def published(exhibit: str | None = None) -> pd.DataFrame:
    """The paper's numbers of one exhibit, or all 733: accuracies in percent, as printed.

    ValueError, listing the exhibits, for an unknown one.
    """
    every = _published()
    if exhibit is None:
        return every.copy()
    known = every["exhibit"].unique()
    if exhibit not in known:
        raise ValueError(f"the paper has no numbers for {exhibit!r}; allowed: {', '.join(known)}")
    return every[every["exhibit"] == exhibit].reset_index(drop=True)
