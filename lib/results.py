"""Numbers on disk, tidy frames in memory: our records and the paper's numbers.

A record is one JSON file, `RESULTS_DIR/<scale>/<key>/<evaluation>.json` (default `results/`), written once it is whole.
In frames accuracies are in percent, as in the paper's tables.
"""

import base64
import datetime
import hashlib
import json
import logging
import os
import platform
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import grid, intervals, locks, schema
from lib.grid import Item, Measurement, Run

ROOT = Path(__file__).resolve().parents[1]
# Also with the suffix of an evaluation.
IN_PERCENT = ("clean_accuracy", "robust_accuracy", "robustness_wrt_predictions", "certified_error", "moved_by_pgd")
log = logging.getLogger(__name__)
COLUMNS = (
    "scale", "dataset", "transform", "model", "widen_factor", "training", "train_size", "recipe", "seed",
    "evaluation", "split", "metric", "value", "n", "status", "source", "device", "commit", "date",
)  # fmt: skip


class RecordError(RuntimeError):
    """A record is not what it should be."""


def folder() -> Path:
    """Where the records lie: `RESULTS_DIR`, relative to the repository, or `results/`."""
    return ROOT / Path(os.environ.get("RESULTS_DIR") or "results").expanduser()


def path(item: Item, name: str) -> Path:
    """The file of the record `name` of a run, or of a measurement."""
    if isinstance(item, Measurement):
        return folder() / item.scale / f"{item.key}.json"
    return folder() / item.scale / item.key / f"{name}.json"


def git(*command: str) -> str | None:
    """What git says of the repository whose top level this one's is; None where git or such a repository is not there."""
    # GIT_DIR and its kin would lead to another repository, as would one that this folder lies in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def said(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *words], env=environment, capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = said("rev-parse", "--show-toplevel")
    return said(*command) if top and Path(top).resolve() == ROOT else None


@cache
def provenance() -> dict:
    """Commit and versions of the code that computes now; the commit is `unknown`, with a warning, where git cannot tell."""
    commit = git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        log.warning("the commit is recorded as unknown: %s is not a git repository, or there is no git", ROOT)
    # The code and the versions it runs with; records of earlier runs, not committed yet, change nothing.
    changed = git("status", "--porcelain", "--", "lib", "benchmarks", "constraints.txt")
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {
        "commit": commit + "-dirty" * bool(changed) if commit else "unknown",
        "versions": {"python": platform.python_version(), **packages},
    }


def device_name(device: torch.device) -> str:
    """The device in words: the GPU's name, or the processor's and the number of threads."""
    if device.type == "cuda":
        return schema.words(torch.cuda.get_device_name(device))
    return f"{schema.words(_processor())}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write(item: Item, name: str, content: dict, *, seconds: float, device: torch.device, source: str) -> Path:
    """Write the record `name` of `item`: `content` (`metrics`, `outcomes`, …) with settings and provenance beside it.

    Atomic: whatever happens, the file is the earlier record or the whole new one. OSError where it cannot be written,
    ValueError where `read` would refuse it.
    """
    target = path(item, name)
    record = {
        "key": item.key,
        "scale": item.scale,
        "evaluation": name,
        "numerics": grid.numerics(item),
        "settings": grid.record_settings(item, name),
        **content,
        "seconds": round(seconds, 2),
        "device": device_name(device),
        "source": source,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **provenance(),
    }
    _checked(schema.parsed(json.dumps(record, allow_nan=False)), item, name)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"cannot write the record {target}: {error.strerror}; nothing recorded before is lost") from None
        raise
    return target


@contextmanager
def alone(item: Item) -> Iterator[None]:
    """No other process that writes to this store is in such a block of `item`'s. OSError where there can be no lock."""
    name = hashlib.sha256(f"{item.scale}/{item.key}".encode()).hexdigest()[:32]
    place = folder() / ".locks" / name
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise OSError(f"cannot write records to {folder()}: {error.strerror}; nothing recorded before is lost") from None
    with locks.alone(place / "lock"):
        yield


def prepare(item: Item) -> None:
    """Make sure, before hours of work, that the records of `item` can be written, and clear what a killed process left.

    OSError where they cannot. To be called by the only process that computes `item`.
    """
    measured = isinstance(item, Measurement)  # whose folder is that of others, too
    target = path(item, "measured" if measured else "training").parent
    try:
        target.mkdir(parents=True, exist_ok=True)
        # The folder of a run is its own; that of a measurement it shares with others.
        for part in target.glob(f".{path(item, 'measured').name}.*" if measured else ".*.json.*"):
            part.unlink()
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise OSError(f"cannot write records to {target}: {error.strerror}; nothing recorded before is lost") from None


@lru_cache(maxsize=2048)
def _parsed(file: Path, version: tuple[int, ...], item: Item, name: str) -> dict:
    """What stands in the record `file`, checked. A page asks for each record a dozen times, `version` says which it is."""
    return _checked(schema.parsed(file.read_text(encoding="utf-8")), item, name)


def _checked(record: dict, item: Item, name: str) -> dict:
    """The record, if it is one of `item` as the grid and the schema know it. ValueError, of one line, if it is not."""
    schema.check(record)
    if (record["key"], record["scale"], record["evaluation"]) != (item.key, item.scale, name):
        raise ValueError(f"it is the record {record['evaluation']} of {record['scale']}: {record['key']}")
    if name in ("training", "measured") or record["settings"] != _plain(grid.record_settings(item, name)):
        return record
    asked = grid.metrics(name).values()
    if eps := record["settings"]["evaluation"].get("eps"):
        asked = [f"{metric}_{budget:g}" for metric in asked for budget in eps]
    for split, metrics in record["metrics"].items():
        if metrics.keys() != set(asked):
            raise ValueError(f"the metrics of {split} must be {', '.join(asked)}, given {', '.join(metrics)}")
    return record


def read(item: Item, name: str) -> dict:
    """The record `name` of `item`, to be looked at and not changed.

    FileNotFoundError where there is none, RecordError where it is not whole.
    """
    file = path(item, name)
    try:
        about = file.stat()
        return _parsed(file, (about.st_ino, about.st_size, about.st_mtime_ns), item, name)  # a file replaced is another
    except FileNotFoundError:
        raise
    except NotADirectoryError:
        blocking = next(parent for parent in file.parents if parent.is_file())
        raise RecordError(f"{blocking} is a file where a folder of records should be; move it, or set RESULTS_DIR") from None
    except OSError as error:
        raise RecordError(f"cannot read the record {file}: {error.strerror}") from None
    except ValueError as error:
        raise RecordError(
            f"{file} is not a valid record ({schema.one_line(error)}); restore it, or delete it to have it computed again"
        ) from None


def _is_current(record: dict, item: Item, name: str) -> bool:
    same_settings = record["settings"] == _plain(grid.record_settings(item, name))
    return record["numerics"] == grid.numerics(item) and same_settings and _is_of_these_weights(record, item, name)


def _is_of_these_weights(record: dict, item: Item, name: str) -> bool:
    """Whether an evaluation is of the weights that the training's record tells of; records without a digest are believed.

    A run whose weights are gone is trained again for a later evaluation, and on another device its weights are others.
    """
    if name in ("training", "measured"):
        return True
    try:
        digest = read(item, "training").get("weights")
    except FileNotFoundError:
        return True
    return digest is None or record.get("weights") == digest


def _plain(settings: dict) -> dict:
    return json.loads(json.dumps(settings))


def status(item: Item, name: str) -> str:
    """`recorded`, `missing`, `stale` or `failed`.

    Stale: its settings or its revision of the numerics differ from the grid's, or it is of other weights than those of the
    training's record. An evaluation of a training that failed has failed too.
    """
    if name not in ("training", "measured") and status(item, "training") == "failed":
        return "failed"
    try:
        record = read(item, name)
    except FileNotFoundError:
        return "missing"
    if not _is_current(record, item, name):
        return "stale"
    return "failed" if "failed" in record else "recorded"


def missing(item: Item, shown_by: str | None = None) -> list[str]:
    """The records of `item` that are missing or stale, or those among them that one exhibit shows.

    A failed run lacks nothing: run again, it would fail again.
    """
    return [name for name in grid.records(item, shown_by) if status(item, name) in ("missing", "stale")]


def pack(outcome: torch.Tensor) -> str:
    """A vector of booleans as base64 text, eight to the byte."""
    return base64.b64encode(np.packbits(outcome.numpy())).decode()


def unpack(text: str, size: int) -> torch.Tensor:
    """The first `size` booleans of what `pack` made."""
    return torch.from_numpy(np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=size).astype(bool))


def _rows(item: Item, name: str, shown_by: str | None) -> list[dict]:
    try:
        record = read(item, name)
    except FileNotFoundError:
        return []
    state = status(item, name)
    run = isinstance(item, Run)
    base = {
        "scale": item.scale,
        "dataset": item.dataset,
        "transform": item.transform,
        "model": item.model if run else "",
        "widen_factor": item.widen_factor if run else np.nan,
        "training": item.training if run else "",
        "train_size": item.train_size if run else pd.NA,
        "recipe": item.recipe if run else "",
        "seed": item.seed if run else pd.NA,
        "evaluation": name,
        "status": state,
        **{field: record[field] for field in ("source", "device", "commit", "date")},
    }
    if state == "failed":
        if name != "training":
            return []  # taken of earlier weights
        # A failed training has no accuracy, and the exhibits say so in the place of each.
        metrics = {metric for evaluation in grid.evaluations(item, shown_by) for metric in grid.metrics(evaluation).values()}
        return [{**base, "split": "test", "metric": metric, "value": np.nan, "n": 0} for metric in sorted(metrics)]
    rows = []
    for split, metrics in record.get("metrics", {}).items():
        for metric, value in metrics.items():
            # A stale value is never shown: its row says only that there is one.
            shown = value * (100 if metric.startswith(IN_PERCENT) else 1) if state == "recorded" else np.nan
            rows.append({**base, "split": split, "metric": metric, "value": shown, "n": record["sizes"][split]})
    return rows


def frame(items: list[Item], shown_by: str | None = None) -> pd.DataFrame:
    """The records of `items`, tidy: one row a (run, split, metric), with the columns `COLUMNS`; accuracies in percent.

    `shown_by` an exhibit: without the evaluations that others ask for. Rows of a stale record have status `stale`, those of a
    failed run `failed`; neither has a value. RecordError for a record that is not whole.
    """
    rows = [row for item in items for name in grid.records(item, shown_by) for row in _rows(item, name, shown_by)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"train_size": "Int64", "seed": "Int64", "value": "float64"})


def every(scale: str) -> Iterator[dict]:
    """All records that lie in the folder of a scale, current or not, of the grid or of an earlier one.

    RecordError for a file that is not a record.
    """
    for file in sorted((folder() / scale).rglob("*.json")):
        try:
            record = schema.parsed(file.read_text(encoding="utf-8"))
            schema.check(record)
            own = "" if record["evaluation"] == "measured" else f"/{record['evaluation']}"
            if file != folder() / record["scale"] / f"{record['key']}{own}.json":
                raise ValueError(f"it is the record {record['evaluation']} of {record['scale']}: {record['key']}")
        except (ValueError, OSError) as error:
            what = f"{file} is not a valid record ({error}); restore it, or delete it"
            raise RecordError(schema.one_line(what)) from None
        yield record


def load(scale: str) -> pd.DataFrame:
    """Everything recorded at `scale` that the grid asks for, as `frame` gives it; for every CIFAR10 set there is."""
    grid.check_scale(scale)
    items = {item.key: item for name in grid.CIFAR10_SETS for item in grid.all_runs(scale, cifar10=name, stretches=True)}
    return frame(list(items.values()))


def spreads(scale: str) -> intervals.Spreads:
    """How far trainings of `scale` lie apart that differ in their seed alone, by quantity: `intervals.pooled`.

    Pooled over the runs of the grid that several seeds are recorded of. Of a scale without any, `paper`, those of `laptop`
    stand in: the same networks and data, trained for less long. `smoke` has its own or none.
    """
    own = _spreads(scale, _states(scale))
    return own or (_spreads("laptop", _states("laptop")) if scale == "paper" else {})


@cache
def _of_several_seeds(scale: str) -> list[Run]:
    groups: dict[Run, list[Run]] = {}
    for cifar10 in grid.CIFAR10_SETS:
        for item in grid.all_runs(scale, cifar10=cifar10, stretches=True):
            if isinstance(item, Run) and item.recipe == "default":
                groups.setdefault(replace(item, seed=0), []).append(item)
    return list(dict.fromkeys(run for group in groups.values() if len(group) > 1 for run in group))


def _states(scale: str) -> tuple:
    """Which records of the runs of several seeds there are, and when each was written."""
    states = []
    for run in _of_several_seeds(scale):
        for name in grid.records(run):
            with suppress(OSError):
                file = path(run, name)
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
    # The first of equals: the highest scale, the exact set.
    return max(candidates.values(), key=lambda items: _completeness(items, exhibit))


def _first_seeds(items: list[Item], seeds: int | str) -> list[Item]:
    if seeds == "all" or isinstance(items[0], Measurement):
        return items
    allowed = sorted({item.seed for item in items})[:seeds]
    return [item for item in items if item.seed in allowed]


def _completeness(items: list[Item], exhibit: str) -> float:
    needed = [(item, name) for item in items for name in grid.records(item, exhibit)]
    return sum(status(item, name) == "recorded" for item, name in needed) / len(needed)


def select(exhibit: str, scale: str = "auto", *, seeds: int | str = "all") -> pd.DataFrame:
    """The records that the exhibit shows, as `frame` gives them, one scale and one CIFAR10 set only.

    Evaluations that other exhibits take of the same runs are left out, and not missed. `attrs` says what the records are
    out of: `exhibit`, `scale`, `expected` and `complete` (numbers of runs), `command`, which computes what is missing, and
    `spreads`, how far trainings lie apart.
    """
    items = choose(exhibit, scale, seeds=seeds)
    ours = frame(items, exhibit)
    complete = sum(not missing(item, exhibit) for item in items)
    declared = grid.exhibit(exhibit)["scales"]
    first = "laptop" if "laptop" in declared else next(iter(declared))  # the scale to begin with
    ours.attrs = {
        "exhibit": exhibit,
        "scale": items[0].scale,
        "expected": len(items),
        "complete": complete,
        "command": f"python -m lib run {exhibit} --scale {items[0].scale if complete else first}",
        "spreads": spreads(items[0].scale),
    }
    return ours


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


_ABOUT = ("dataset", "transform", "model", "source", "device", "commit", "date", "scale", "status")


def _measured(exhibit: str, scale: str, cifar10: str | None = None) -> Iterator[tuple[dict, dict]]:
    """(what a row says of it, the record) of each measurement that is recorded."""
    for item in choose(exhibit, scale, cifar10=cifar10):
        if status(item, "measured") == "recorded":
            record = read(item, "measured")
            about = {field: record[field] for field in ("source", "device", "commit", "date", "scale")}
            yield {"dataset": item.dataset, "transform": item.transform, "model": "", **about, "status": "recorded"}, record


def _with_attrs(rows: list[dict], own: list[str], exhibit: str, scale: str) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=None if rows else [*_ABOUT, *own])
    found.attrs = select(exhibit, scale).attrs
    return found


def outcomes(exhibit: str, scale: str = "auto", *, seeds: int | str = "all") -> pd.DataFrame:
    """What became of each image under the attacks of the exhibit that are against the label alone: one row an image.

    Columns `transform`, `seed`, `metric`, `image` (its place among the images attacked, the same for every attack of one
    size) and `held`: still classified as its label. Stale and failed records are left out. `attrs` as `select` has them.
    """
    rows = []
    for item in choose(exhibit, scale, seeds=seeds):
        for name in grid.evaluations(item, exhibit):
            if "against" not in grid.evaluation_settings(item, name) or status(item, name) != "recorded":
                continue
            record = read(item, name)
            size = record["sizes"]["test"]
            about = {"transform": item.transform, "seed": item.seed, "image": range(size)}
            rows += [
                pd.DataFrame({**about, "metric": metric, "held": unpack(packed, size).numpy()})
                for metric, packed in record["outcomes"]["test"].items()
            ]
    columns = ["transform", "seed", "metric", "image", "held"]
    found = pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)
    found.attrs = select(exhibit, scale, seeds=seeds).attrs
    return found


def lucky(exhibit: str, scale: str = "auto", *, seeds: int | str = "all") -> pd.DataFrame:
    """Robust accuracy under the paper's attack by both conventions: one row a PGD-trained model, test images, in percent.

    Columns `dataset`, `transform`, `seed`, `robust_accuracy` (right after the attack, which is what is recorded), `both` (right
    before and after it) and `lucky`, the difference: wrong before, and right once attacked. `attrs` as `select` has them.
    """
    rows = []
    for item in choose(exhibit, scale, seeds=seeds):
        if isinstance(item, Run) and "pgd" in grid.records(item, exhibit) and status(item, "pgd") == "recorded":
            record = read(item, "pgd")
            packed, size = record.get("outcomes", {}).get("test", {}), record["sizes"]["test"]
            if {"clean_accuracy", "robust_accuracy"} <= packed.keys():
                clean, robust = (unpack(packed[name], size) for name in ("clean_accuracy", "robust_accuracy"))
                shares = [100 * bits.double().mean().item() for bits in (robust, robust & clean, robust & ~clean)]
                rows.append([item.dataset, item.transform, item.seed, *shares])
    found = pd.DataFrame(rows, columns=["dataset", "transform", "seed", "robust_accuracy", "both", "lucky"])
    found.attrs = select(exhibit, scale, seeds=seeds).attrs
    return found


def benchmarks() -> list[str]:
    """The names of the committed benchmarks. RecordError for a file whose name is none: lower-case letters, digits, hyphens."""
    names = sorted(file.stem for file in (ROOT / "results" / "benchmarks").glob("*.json"))
    for name in names:
        if not re.fullmatch("[a-z0-9-]+", name):
            raise RecordError(f"results/benchmarks/{schema.one_line(name)}.json is no benchmark's name; rename or delete it")
    return names


def benchmark(name: str) -> pd.DataFrame:
    """The committed record of a benchmark, `results/benchmarks/<name>.json`: one row a (case, batch, engine).

    `attrs`: `device`, `date`, `commit` and, where an earlier commit's engine was measured as well, `before`. FileNotFoundError
    where it was never measured, RecordError where it is damaged.
    """
    file = ROOT / "results" / "benchmarks" / f"{name}.json"
    try:
        record = schema.parsed(file.read_text(encoding="utf-8"))
        schema.check_benchmark(record)
    except ValueError as error:
        raise RecordError(f"{file} is not a valid benchmark ({schema.one_line(error)}); restore it, or delete it") from None
    found = pd.DataFrame(record["rows"])
    found.attrs = {field: record.get(field) for field in ("device", "date", "commit", "before")}
    return found


@cache
def _published() -> pd.DataFrame:
    return pd.read_csv(ROOT / "results" / "published.csv", keep_default_na=False, na_values={"widen_factor": "", "value": ""})


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
