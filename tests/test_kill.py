"""A process killed at any moment loses at most what came after its last checkpoint, and nothing of the result.

Here are real processes, real signals, and disks that really refuse.
"""

import ctypes
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from killing import popen

from lib.store import grid, plans, records
from lib.store.grid import Measurement, Run

ROOT = Path(__file__).resolve().parents[1]
# A process that has computed a run to its end, in a folder named whole, and so has imported and compiled all that it takes:
# what it forks begins at once. A fork has none of its parent's threads, so no progress bar may start one.
WARM = """
import os, signal, sys, time
os.environ["TQDM_DISABLE"] = "1"
from pathlib import Path
import torch
from lib import evaluation, training
from lib.run import processes
from lib.store import grid
torch.set_num_threads(1)
training.CHECKPOINT_SECONDS, attack_steps = float(sys.argv[3]), int(sys.argv[5])
if steps := int(sys.argv[4]):
    grid.spec()["scales"]["smoke"]["models"]["lenet5"]["steps"] = steps
    training.NO_BETTER_THAN_CHANCE = 0.0
if attack_steps:
    grid.spec()["evaluations"]["pgd"]["attack"]["num_steps"] = attack_steps
run = grid.Run.parse(sys.argv[1], "smoke")

def complete(name):
    folder = Path(sys.argv[2], name)
    os.environ |= {"RESULTS_DIR": f"{folder}/results", "CHECKPOINT_DIR": f"{folder}/checkpoints"}
    processes.complete([run], "cpu")

def ended(child):
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

complete("whole")
print("ready", flush=True)
"""
# Each line of its input names a folder to compute the run in, and perhaps the seconds after which the child is killed.
ASKED = (
    WARM
    + """
for line in sys.stdin:
    name, *seconds = line.split()
    child = os.fork()
    if child == 0:
        complete(name)
        os._exit(0)
    if seconds:
        time.sleep(float(seconds[0]))
        os.kill(child, signal.SIGKILL)
    ended(child)
"""
)
KEYS = [
    "mnist/original/lenet5-w0.125/pgd/n4000/default/seed0",
    "cifar10/saturate-16/wide_resnet28-w0.125/pgd/n2000/default/seed0",
]


def _result(key: str, folder: Path) -> dict:
    """What must not depend on interruptions: the curve, the metrics, every outcome, and the weights' bytes."""
    records = folder / "results" / "smoke" / key
    training = json.loads((records / "training.json").read_text())
    pgd = json.loads((records / "pgd.json").read_text())
    (weights,) = (folder / "checkpoints" / "smoke" / key).glob("*/weights.safetensors")
    kept = {name: pgd[name] for name in ("metrics", "outcomes", "settings")}
    return {"curve": training["curve"], **kept, "weights": weights.read_bytes()}


def _killed_and_resumed(key: str, folder: Path, kills: int, steps: int = 0) -> None:
    # A checkpoint at nearly every step: most kills fall into a write.
    command = [sys.executable, "-c", ASKED, key, str(folder), "0.02", str(steps), "0"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with popen(command, cwd=ROOT, **pipes) as process:

        def said() -> str:
            return process.stdout.readline().strip() or pytest.fail(process.stderr.read()[-2000:])

        def status(asked: str) -> int:
            process.stdin.write(f"{asked}\n")
            process.stdin.flush()
            return int(said())

        def complete(name: str) -> None:
            assert status(name) == 0
            assert _result(key, folder / name) == _result(key, folder / "whole")

        assert said() == "ready"
        _killed_and_resumed_by(status, complete, key, folder, kills)


def _killed_and_resumed_by(status: Callable, complete: Callable, key: str, folder: Path, kills: int) -> None:
    began = time.monotonic()
    complete("again")
    duration = time.monotonic() - began

    moments = random.Random(0)
    interrupted = "interrupted"
    done = finished = 0
    while done < kills:
        ended = status(f"{interrupted} {moments.uniform(0, 0.9 * duration / min(kills, 4))}")
        assert ended in (0, -signal.SIGKILL)
        done += ended != 0
        parts = [path for path in (folder / interrupted).rglob("*.json") if not path.name.startswith(".")]
        for path in parts:  # whatever is there under its own name is whole
            json.loads(path.read_text())
        if (folder / interrupted / "results" / "smoke" / key / "pgd.json").exists() and done < kills:
            # Finished before it could be killed often enough: once more from the start, same outcome.
            assert _result(key, folder / interrupted) == _result(key, folder / "whole")
            finished += 1
            interrupted = f"interrupted-{finished}"
    complete(interrupted)
    names = {path.name for path in (folder / interrupted).rglob("*") if path.is_file()}
    assert names == {"training.json", "pgd.json", "weights.safetensors", "lock"}


def test_killed_three_times(tmp_path):
    _killed_and_resumed(KEYS[0], tmp_path, 3, 40)


@pytest.mark.long
@pytest.mark.parametrize("key", KEYS)
def test_killed_twenty_times(tmp_path, key):
    assert grid.Run.parse(key, "smoke").training == "pgd"
    _killed_and_resumed(key, tmp_path, 20)


# --- killed at a chosen moment ------------------------------------------------------------------------------------------

# A child for each moment, which kills itself there; the one after it goes on, and the last one reaches the end. A moment is a
# call and the file that it is about.
FORKS = (
    WARM
    + """
def armed(function, about):
    def call(*arguments, **keywords):
        if about(*arguments, **keywords):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return call

def arm(call, name):
    if call == "write":
        os.fsync = armed(os.fsync, lambda file: f".{name}." in os.readlink(f"/proc/self/fd/{file}"))
    elif call == "rename":
        Path.replace = armed(Path.replace, lambda part, target: Path(target).name == name)
    elif call == "evaluate":
        evaluation.evaluate = armed(evaluation.evaluate, lambda *_, description, **__: description.endswith(name))

for moment in sys.argv[6:]:
    child = os.fork()
    if child == 0:
        arm(*moment.split(":"))
        complete("killed")
        os._exit(0)
    ended(child)
"""
)
MOMENTS = [
    "write:training.safetensors",
    "rename:training.safetensors",
    "write:weights.safetensors",
    "rename:weights.safetensors",
    "write:training.json",
    "rename:training.json",
    "evaluate:pgd on test",
    "evaluate:pgd on train",
    "write:pgd.json",
    "rename:pgd.json",
]


def test_killed_while_writing_and_while_evaluating(tmp_path):
    command = [sys.executable, "-c", FORKS, KEYS[0], str(tmp_path), "0", "12", "3", *MOMENTS, "none:"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["ready", *["-9"] * len(MOMENTS), "0"], done.stderr[-2000:]
    assert _result(KEYS[0], tmp_path / "killed") == _result(KEYS[0], tmp_path / "whole")
    names = {path.name for path in (tmp_path / "killed").rglob("*") if path.is_file()}
    assert names == {"training.json", "pgd.json", "weights.safetensors", "lock"}


# --- locks, interrupts --------------------------------------------------------------------------------------------------

STANDARD = "mnist/original/lenet5-w0.125/standard/n4000/default/seed0"
LIB = [sys.executable, "-m", "lib", "run"]
SMOKE = ["--scale", "smoke", "--device", "cpu"]
STUCK = """
import sys
from lib import training
from lib.run import processes
from lib.store import grid

def train(*_, **__):
    print("training", flush=True)
    sys.stdin.read()

training.train_together = train
processes.complete([grid.Run.parse(sys.argv[1], "smoke")], "cpu")
"""


def test_a_dead_process_blocks_nobody():
    """One process has the run in hand, a second waits for it; the first is killed, and the second computes the run."""
    pipes = {"cwd": ROOT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with popen([sys.executable, "-c", STUCK, STANDARD], **pipes) as first:
        assert first.stdout.readline() == "training\n"
        with popen([*LIB, STANDARD, *SMOKE], **pipes) as second:
            begun = f"1 of 1: smoke: {STANDARD}\n"
            assert begun in iter(second.stderr.readline, "")  # a warning goes before it where there is no git
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(0.5)
            first.kill()
            message, _ = second.communicate()
            assert (second.returncode, message) == (0, "1 computed, the others were already recorded\n")
    assert records.missing(Run.parse(STANDARD, "smoke")) == []


@pytest.fixture
def interruptible():
    """Processes started here heed interrupts, even where pytest was started in the background and ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def _side_by_side(jobs: str) -> Iterator[tuple[subprocess.Popen, list[Run]]]:
    """A process that computes runs, the first of which is recorded, in a session of its own; and the runs.

    There are so many that it is at work for a while yet, even where whoever tests it has to wait for a processor.
    """
    listed = sorted(grid.runs("table-2", "smoke"), key=lambda run: run.training != "standard")  # the short ones first
    assert [run.training for run in listed] == ["standard"] * 4 + ["pgd"] * 4
    paths_of_runs = [[records.path(run, name) for name in plans.of(run).records()] for run in listed]
    command = [*LIB, *(run.key for run in listed), *SMOKE, "--jobs", jobs]
    with popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not any(all(path.exists() for path in paths) for paths in paths_of_runs):
            assert process.poll() is None
            time.sleep(0.01)
        yield process, listed


def _are_whole_and_not_all_there(runs: list[Run]) -> None:
    states = [records.missing(run) for run in runs]  # which reads every record there is
    assert [] in states
    assert any(states)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupted_from_the_keyboard(jobs):
    """Ctrl-C reaches every process of the terminal: all leave at once, with one line."""
    with _side_by_side(jobs) as (process, listed):
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()  # which waits for whoever still holds its standard error
    assert (process.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "interrupted; the records are kept, and training continues from its checkpoint"
    assert "Traceback" not in err
    _are_whole_and_not_all_there(listed)


# `run`, with an interrupt that arrives while Python frees an object, and then with work that goes on for long.
FREED = """
import os, signal, sys, time
sys.orig_argv = [sys.executable, "-m", "lib"]
from lib import __main__ as command
class Freed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10): pass
def complete(*_, **__):
    Freed()
    time.sleep(600)
command.processes.complete = complete
sys.argv = ["lib", "run", sys.argv[1], "--scale", "smoke"]
command.main()
"""


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_an_object_is_freed_is_not_lost():
    done = subprocess.run([sys.executable, "-c", FREED, STANDARD], cwd=ROOT, capture_output=True, text=True, timeout=120)
    message = "interrupted; the records are kept, and training continues from its checkpoint\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", message)


@pytest.mark.parametrize("killed_by", [signal.SIGTERM, signal.SIGKILL])
def test_runs_side_by_side_end_with_the_process_that_started_them(killed_by):
    """They get no signal themselves; on their own they would hold their locks and their cores for ever."""
    with _side_by_side("2") as (process, listed):
        process.send_signal(killed_by)
        _, err = process.communicate(timeout=60)  # which waits for whoever still holds its standard error
    assert process.returncode == -killed_by, err
    _are_whole_and_not_all_there(listed)


def test_a_killed_worker_is_one_line():
    with _side_by_side("2") as (process, listed):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [child for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]
        os.kill(int(workers[0]), signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, ""), err
    assert "Traceback" not in err
    assert re.search("error: a process that computed one of these .*: smoke: mnist/", err.splitlines()[-1])
    assert records.missing(listed[0]) == [] or any(records.missing(run) == [] for run in listed)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_during_the_imports_is_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("print('importing', flush=True)\nimport time\ntime.sleep(600)\n")
    own = {**os.environ, "PYTHONPATH": str(tmp_path)}  # it stands before the real one
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with popen([*LIB[:-1], "list"], cwd=ROOT, env=own, **pipes) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


# --- disks that refuse --------------------------------------------------------------------------------------------------

# No file may grow beyond so many bytes: the system refuses the write that would, as it does on a full disk. It says with which
# status the command ends; when it is told to, there is space again, and it gives the same command once more.
FULL = """
import resource, sys
from lib import __main__, training
from lib.store import records
records.provenance()
training.CHECKPOINT_SECONDS = 0.0
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
try:
    __main__.main()
except SystemExit as end:
    print(end.code, flush=True)
input()
print("once more", file=sys.stderr, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
__main__.main()
"""
VOLUME = Measurement("log2_perturbable_volume", "mnist", "original", "smoke")


@pytest.mark.parametrize(
    ("key", "limit", "message"),
    [
        (VOLUME.key, 100, "cannot write the record {results}/smoke/" + VOLUME.key + ".json: File too large; nothing recorded"),
        (STANDARD, 100, "cannot write {checkpoints}/smoke/.*/training.safetensors: .*File too large"),
    ],
    ids=["record", "checkpoint"],
)
def test_a_full_disk(tmp_path, key, limit, message):
    earlier = _earlier_record()
    command = [sys.executable, "-c", FULL, str(limit), "run", key, *SMOKE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with popen(command, cwd=ROOT, **pipes) as process:
        status = process.stdout.readline()
        left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
        out, err = process.communicate("\n")
    first, _, again = err.partition("once more\n")
    assert status == "1\n", first
    line = message.format(results=tmp_path / "results", checkpoints=tmp_path / "checkpoints")
    _is_one_line(subprocess.CompletedProcess(command, 1, "", first), line)
    assert left == earlier
    assert (process.returncode, out) == (0, "1 computed, the others were already recorded\n"), again
    assert records.missing(grid.parse(key, "smoke")) == []


@pytest.mark.parametrize("folder", ["results", "checkpoints"])
def test_a_folder_that_is_read_only(tmp_path, folder):
    earlier = _earlier_record()
    (tmp_path / "checkpoints").mkdir()
    kept = [path for path in (tmp_path / folder).rglob("*") if path.is_dir()] + [tmp_path / folder]
    for path in kept:
        path.chmod(0o555)
    done = subprocess.run(
        [*LIB, STANDARD, *SMOKE], cwd=ROOT, capture_output=True, text=True, preexec_fn=_without_roots_privilege()
    )
    for path in kept:
        path.chmod(0o755)
    what = {"results": "records", "checkpoints": "checkpoints"}[folder]
    place = {"results": "", "checkpoints": "/smoke/.*"}[folder]  # the lock of a record lies in the store's own folder
    _is_one_line(done, f"cannot write {what} to {tmp_path / folder}{place}: Permission denied")
    assert "training" not in done.stderr.replace("cannot", "")  # it is said before the work
    assert all(path.read_bytes() == content for path, content in earlier.items())


def _earlier_record() -> dict[Path, bytes]:
    """A record of another run, which must stay as it is."""
    other = Measurement("inter_class_distance", "mnist", "original", "smoke")
    path = records.path(other, "measured")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return {path: path.read_bytes()}


def _is_one_line(done: subprocess.CompletedProcess, message: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    with pytest.raises(ValueError, match=f"^error: {message}"):
        raise ValueError(line)


def _without_roots_privilege() -> Callable[[], None] | None:
    """To be called in the child: root writes wherever it likes, so it gives that up."""
    if os.geteuid() != 0:
        return None
    prctl, drop, override = ctypes.CDLL(None).prctl, 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE

    def give_up() -> None:
        if prctl(drop, override, 0, 0, 0) != 0:
            raise OSError("root cannot give up its privilege here")

    return give_up
