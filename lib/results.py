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
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib import grid, locks
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
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write(item: Item, name: str, content: dict, *, seconds: float, device: torch.device, source: str) -> Path:
    """Write the record `name` of `item`: `content` (`metrics`, `outcomes`, …) with settings and provenance beside it.

    Atomic: whatever happens, the file is the earlier record or the whole new one. OSError where it cannot be written.
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
        for part in target.glob(f".{path(item, 'measured').name}.*" if measured else ".*.json.*"):
            part.unlink()
        with tempfile.TemporaryFile(dir=target):
            pass
    except OSError as error:
        raise OSError(f"cannot write records to {target}: {error.strerror}; nothing recorded before is lost") from None


@lru_cache(maxsize=2048)
def _parsed(file: Path, version: tuple[int, ...]) -> dict:
    """What stands in the record `file`, checked. A page asks for each record a dozen times, `version` says which it is."""
    record = json.loads(file.read_text(encoding="utf-8"))
    for field in ("key", "scale", "evaluation", "numerics", "settings", "seconds", "device", "source", "date", "commit"):
        record[field]
    for split, metrics in record["metrics"].items():
        for value in metrics.values():
            float(value), int(record["sizes"][split])
    return record


def read(item: Item, name: str) -> dict:
    """The record `name` of `item`, to be looked at and not changed.

    FileNotFoundError where there is none, RecordError where it is not whole.
    """
    file = path(item, name)
    try:
        about = file.stat()
        record = _parsed(file, (about.st_ino, about.st_size, about.st_mtime_ns))  # a file replaced is another
        if (record["key"], record["scale"], record["evaluation"]) != (item.key, item.scale, name):
            raise ValueError(f"it is the record {record['evaluation']} of {record['scale']}: {record['key']}")
    except FileNotFoundError:
        raise
    except NotADirectoryError:
        blocking = next(parent for parent in file.parents if parent.is_file())
        raise RecordError(f"{blocking} is a file where a folder of records should be; move it, or set RESULTS_DIR") from None
    except OSError as error:
        raise RecordError(f"cannot read the record {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise RecordError(
            f"{file} is not a valid record ({what}); restore it, or delete it to have it computed again"
        ) from None
    return record


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
            record = json.loads(file.read_text(encoding="utf-8"))
            for field in ("key", "scale", "evaluation", "seconds", "device"):
                record[field]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise RecordError(f"{file} is not a valid record ({error}); restore it, or delete it") from None
        yield record


def load(scale: str) -> pd.DataFrame:
    """Everything recorded at `scale` that the grid asks for, as `frame` gives it; for every CIFAR10 set there is."""
    grid.check_scale(scale)
    items = {item.key: item for name in grid.CIFAR10_SETS for item in grid.all_runs(scale, cifar10=name, stretches=True)}
    return frame(list(items.values()))


def choose(exhibit: str, scale: str = "auto", *, seeds: int | str = "all") -> list[Item]:
    """What the exhibit shows: its runs at `scale`, or, for `auto`, at the highest complete scale, else the most complete one.

    `auto` looks at every CIFAR10 set as well, and never mixes two. ValueError for an unknown exhibit or scale.
    """
    if scale != "auto":
        return grid.runs(exhibit, scale, seeds=seeds)
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
    out of: `exhibit`, `scale`, `expected` and `complete` (numbers of runs), and `command`, which computes what is missing.
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


def tables(exhibit: str, scale: str = "auto") -> pd.DataFrame:
    """The tables that the exhibit's measurements left, one below the other, with the columns of `histograms` about them.

    The other columns are the measurement's own; stale tables are left out.
    """
    rows = [{**base, **row} for base, record in _measured(exhibit, scale) for row in record["table"]]
    return _with_attrs(rows, [], exhibit, scale)


_ABOUT = ("dataset", "transform", "model", "source", "device", "commit", "date", "scale", "status")


def _measured(exhibit: str, scale: str) -> Iterator[tuple[dict, dict]]:
    """(what a row says of it, the record) of each measurement that is recorded."""
    for item in choose(exhibit, scale):
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


def benchmarks() -> list[str]:
    """The names of the committed benchmarks."""
    return sorted(file.stem for file in (ROOT / "results" / "benchmarks").glob("*.json"))


def benchmark(name: str) -> pd.DataFrame:
    """The committed record of a benchmark, `results/benchmarks/<name>.json`: one row a (case, batch, engine).

    `attrs`: `device`, `date` and `commit`. FileNotFoundError where it was never measured.
    """
    record = json.loads((ROOT / "results" / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))
    found = pd.DataFrame(record["rows"])
    found.attrs = {field: record[field] for field in ("device", "date", "commit")}
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
