"""A process killed at any moment loses at most what came after its last checkpoint, and nothing of the result."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib import grid

ROOT = Path(__file__).resolve().parents[1]
# A checkpoint at nearly every step: most kills fall into a write.
DRIVER = """
import sys, torch
from lib import experiments, grid, training
torch.set_num_threads(1)
training.CHECKPOINT_SECONDS = 0.02
print("ready", flush=True)
experiments.complete([grid.Run.parse(sys.argv[1], "smoke")], "cpu")
"""
KEYS = [
    "mnist/original/lenet5-w0.125/pgd/n4000/default/seed0",
    "cifar10/saturate-16/wide_resnet28-w0.125/pgd/n2000/default/seed0",
]


@contextmanager
def _process(key: str, folder: Path) -> Iterator[subprocess.Popen]:
    """A process that computes the run, ready to begin; it has ended when the block does."""
    own = {**os.environ, "RESULTS_DIR": str(folder / "results"), "CHECKPOINT_DIR": str(folder / "checkpoints")}
    command = [sys.executable, "-c", DRIVER, key]
    with subprocess.Popen(command, cwd=ROOT, env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process


def _result(key: str, folder: Path) -> dict:
    """What must not depend on interruptions: the curve, the metrics, every outcome, and the weights' bytes."""
    records = folder / "results" / "smoke" / key
    training = json.loads((records / "training.json").read_text())
    pgd = json.loads((records / "pgd.json").read_text())
    (weights,) = (folder / "checkpoints" / "smoke" / key).glob("*/weights.safetensors")
    kept = {name: pgd[name] for name in ("metrics", "outcomes", "settings")}
    return {"curve": training["curve"], **kept, "weights": weights.read_bytes()}


def _killed_and_resumed(key: str, folder: Path, kills: int) -> None:
    whole = folder / "whole"
    with _process(key, whole) as process:
        began = time.monotonic()
        assert process.wait() == 0
        duration = time.monotonic() - began

    moments = random.Random(0)
    interrupted = folder / "interrupted"
    done = 0
    while done < kills:
        with _process(key, interrupted) as process:
            time.sleep(moments.uniform(0, 0.9 * duration / min(kills, 4)))
            done += process.poll() is None
            process.send_signal(signal.SIGKILL)
        parts = [path for path in interrupted.rglob("*.json") if not path.name.startswith(".")]
        for path in parts:  # whatever is there under its own name is whole
            json.loads(path.read_text())
        if (interrupted / "results" / "smoke" / key / "pgd.json").exists() and done < kills:
            # Finished before it could be killed often enough: once more from the start, same outcome.
            assert _result(key, interrupted) == _result(key, whole)
            interrupted = folder / f"interrupted-{done}"
    with _process(key, interrupted) as process:
        assert process.wait() == 0
    assert _result(key, interrupted) == _result(key, whole)
    names = {path.name for path in interrupted.rglob("*") if path.is_file()}
    assert names == {"training.json", "pgd.json", "weights.safetensors", "lock"}


def test_killed_three_times(tmp_path):
    _killed_and_resumed(KEYS[0], tmp_path, kills=3)


@pytest.mark.long
@pytest.mark.parametrize("key", KEYS)
def test_killed_twenty_times(tmp_path, key):
    assert grid.Run.parse(key, "smoke").training == "pgd"
    _killed_and_resumed(key, tmp_path, kills=20)
