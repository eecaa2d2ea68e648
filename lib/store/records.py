"""Reads and writes records: one JSON file each, `RESULTS_DIR/<scale>/<key>/<evaluation>.json`, written whole or not at all."""

import base64
import datetime
import hashlib
import json
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from lib.base import files
from lib.store import plans, schema
from lib.store.grid import Item, Measurement

ROOT = files.ROOT
log = logging.getLogger(__name__)


class RecordError(RuntimeError):
    """A record is not what it should be."""


def folder() -> Path:
    """Where the records lie: `RESULTS_DIR`, relative to the repository, or `results/`."""
    return ROOT / Path(os.environ.get("RESULTS_DIR") or "results").expanduser()


def path(item: Item, name: str) -> Path:
    """The file of the record `name` of a run, or of a measurement."""
    return folder() / place(item.scale, item.key, name)


def place(scale: str, key: str, name: str) -> str:
    """Where a record lies in the folder of records; a measurement has but one, "measured", which has its key for a name."""
    return f"{scale}/{key}.json" if key.startswith("measured/") else f"{scale}/{key}/{name}.json"


def git(*command: str) -> str | None:
    """What git says of the repository whose top level this one's is; None where git or such a repository is not there."""
    # GIT_DIR and similar variables, or a repository around this folder, would give another repository's commit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def answer(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *words], env=environment, capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = answer("rev-parse", "--show-toplevel")
    return answer(*command) if top and Path(top).resolve() == ROOT else None


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


def write_benchmark(file: Path, rows: list[dict], device: torch.device, **about: object) -> None:
    """Write the record of a benchmark that was measured on `device`, and what else it says `about` it."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = {"rows": rows, **about, "device": device_name(device), "date": date, **provenance()}
    files.write_whole(file, f"{json.dumps(record, indent=1)}\n".encode())


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

    Atomic: in every case the file is the earlier record or the whole new one. OSError where it cannot be written,
    ValueError where `read` would refuse it.
    """
    target = path(item, name)
    record = {
        "key": item.key,
        "scale": item.scale,
        "evaluation": name,
        "numerics": plans.of(item).numerics,
        "settings": plans.of(item).settings_of(name),
        **content,
        "seconds": round(seconds, 2),
        "device": device_name(device),
        "source": source,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **provenance(),
    }
    text = json.dumps(record, indent=1, allow_nan=False)
    _checked(schema.parsed(text), item, name)
    with _to_be_written(f"the record {target}"):
        files.write_whole(target, f"{text}\n".encode())
    return target


@contextmanager
def _to_be_written(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write {what}: {error.strerror}; nothing recorded before is lost") from None


@contextmanager
def alone(item: Item) -> Iterator[None]:
    """No other process that writes to this store is in such a block of `item`'s. OSError where there can be no lock."""
    name = hashlib.sha256(f"{item.scale}/{item.key}".encode()).hexdigest()[:32]
    lock = folder() / ".locks" / name / "lock"
    with _to_be_written(f"records to {folder()}"):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    with files.locked(lock):
        yield


def prepare(item: Item) -> None:
    """Make sure, before hours of work, that the records of `item` can be written, and clear what a killed process left.

    OSError where they cannot. To be called by the only process that computes `item`.
    """
    measured = isinstance(item, Measurement)  # its folder also holds other measurements; a run has a folder of its own
    target = path(item, "measured" if measured else "training").parent
    with _to_be_written(f"records to {target}"):
        target.mkdir(parents=True, exist_ok=True)
        for part in target.glob(f".{path(item, 'measured').name}.*" if measured else ".*.json.*"):
            part.unlink()
        with tempfile.TemporaryFile(dir=target):
            pass


@lru_cache(maxsize=2048)
def _parsed(file: Path, version: tuple[int, ...], item: Item, name: str) -> dict:
    """What stands in the record `file`, checked. A page asks for each record a dozen times, `version` says which it is."""
    return _checked(schema.parsed(file.read_text(encoding="utf-8")), item, name)


def _checked(record: dict, item: Item, name: str) -> dict:
    """The record, if it is one of `item` as the grid and the schema know it. ValueError, of one line, if it is not."""
    schema.check(record)
    if (record["key"], record["scale"], record["evaluation"]) != (item.key, item.scale, name):
        raise ValueError(f"it is the record {record['evaluation']} of {record['scale']}: {record['key']}")
    if name in ("training", "measured") or record["settings"] != plans.of(item).settings_of(name):
        return record
    expected = plans.metrics(name).values()
    if eps := record["settings"]["evaluation"].get("eps"):
        expected = [f"{metric}_{budget:g}" for metric in expected for budget in eps]
    for split, metrics in record["metrics"].items():
        if metrics.keys() != set(expected):
            raise ValueError(f"the metrics of {split} must be {', '.join(expected)}, given {', '.join(metrics)}")
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
    plan = plans.of(item)
    same_code = record["numerics"] == plan.numerics
    return same_code and record["settings"] == plan.settings_of(name) and _is_of_these_weights(record, item, name)


def _is_of_these_weights(record: dict, item: Item, name: str) -> bool:
    """Whether an evaluation is of the weights that the training's record names; records without a digest are believed.

    A run whose weights are gone is trained again for a later evaluation, and on another device its weights are others.
    """
    if name in ("training", "measured"):
        return True
    try:
        digest = read(item, "training").get("weights")
    except FileNotFoundError:
        return True
    return digest is None or record.get("weights") == digest


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
    return [name for name in plans.of(item).records(shown_by) if status(item, name) in ("missing", "stale")]


def pack(outcome: torch.Tensor) -> str:
    """A vector of booleans as base64 text, eight to the byte."""
    return base64.b64encode(np.packbits(outcome.numpy())).decode()


def unpack(text: str, size: int) -> torch.Tensor:
    """The `size` booleans of what `pack` made. ValueError for any other text."""
    return torch.from_numpy(schema.unpacked(text, size, "a record's outcomes"))


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
