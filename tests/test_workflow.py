"""The grid on an engine: nothing is lost when it is killed, nothing computed twice, and each job has a GPU of its own."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from killing import popen

from lib.run import cost, groups
from lib.store import grid, plans

ROOT = Path(__file__).resolve().parents[1]
STANDARD = "mnist/original/lenet5-w0.125/standard/n4000/default/seed0"
PGD = "mnist/original/lenet5-w0.125/pgd/n4000/default/seed0"
OTHER = "mnist/smooth-3/lenet5-w0.125/standard/n4000/default/seed0"
VOLUME = "measured/log2_perturbable_volume/mnist/original"


class Checkout:
    """A copy of the code in a folder of its own, with its own records, where Snakemake is called as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("lib", "workflow"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)  # by which `lib` knows its repository
        self.change("lib/store/experiments.yml", "steps: 120\n", "steps: 40\n")
        self.change("lib/store/experiments.yml", "pgd: {attack: {}}  # the paper's", "pgd: {attack: {num_steps: 2}}  #")
        self.change("lib/training.py", "NO_BETTER_THAN_CHANCE = ", "NO_BETTER_THAN_CHANCE = 0 * ")
        hidden = ("RESULTS_DIR", "CHECKPOINT_DIR", "PYTHONPATH")
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden}
        # The copy's own `lib`, whichever is installed.
        self.environment["PYTHONPATH"] = str(folder)

    def change(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} has changed, and this test with it"
        path.write_text(text.replace(old, new))

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", *arguments]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True, **pipes)

    def run(self, *arguments: str) -> tuple[int, str]:
        with self.start(*arguments) as process:
            log, _ = process.communicate()
        return process.returncode, log

    def records(self) -> dict[str, int]:
        """When each record was written: the time within it, and that of its file."""
        paths = (path for path in (self.folder / "results").rglob("*.json") if not path.name.startswith("."))
        return {
            str(path.relative_to(self.folder / "results" / "smoke")): (
                json.loads(path.read_text())["date"],
                path.stat().st_mtime_ns,
            )
            for path in paths
        }


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def only(*names: str) -> list[str]:
    return ["runs", "--config", "scale=smoke", "device=cpu", f"only={','.join(names)}"]


def records_of(*keys: str) -> set[str]:
    return {
        f"{key}.json" if key.startswith("measured/") else f"{key}/{name}.json"
        for key in keys
        for name in plans.of(grid.parse(key, "smoke")).records()
    }


def test_killed_continued_and_asked_again_for_what_is_stale(checkout):
    """Killed with -9 amid its runs, with one recorded; unlocked and called again, it computes the rest and nothing else."""
    asked = only(STANDARD, PGD, VOLUME)
    with checkout.start(*asked, "--cores", "2") as process:
        while not any(name.startswith("mnist") for name in checkout.records()):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    before = checkout.records()
    everything = records_of(STANDARD, PGD, VOLUME)
    assert 0 < len(before) < len(everything)

    assert checkout.run(*asked, "--unlock")[0] == 0
    status, log = checkout.run(*asked, "--rerun-incomplete")
    assert status == 0, log
    after = checkout.records()
    assert set(after) == everything
    assert before == {name: when for name, when in after.items() if name in before}

    # A record that is gone, or whose settings the grid no longer asks for, is computed again. A file that is older than others
    # is not, nor is the training repeated where an evaluation is gone.
    store = checkout.folder / "results" / "smoke"
    training = store / STANDARD / "training.json"
    os.utime(training, ns=(0, 0))
    (store / PGD / "pgd.json").unlink()
    checkout.change("lib/store/plans.py", '"measured": ', '"measured": 100 + ')
    status, log = checkout.run(*asked)
    assert status == 0, log
    assert "3 runs and measurements, 2 of them lack records" in log
    assert training.stat().st_mtime_ns == 0
    os.utime(training, ns=(0, after[f"{STANDARD}/training.json"][1]))
    again = checkout.records()
    for name in (f"{VOLUME}.json", f"{PGD}/pgd.json"):
        assert again.pop(name) > after.pop(name)
    assert again == after


def test_a_stale_record_of_tomorrow_is_computed_again(checkout):
    """Its file's time, which another clock may have set, has no say."""
    assert checkout.run(*only(VOLUME))[0] == 0
    record = checkout.folder / "results" / "smoke" / f"{VOLUME}.json"
    os.utime(record, (time.time() + 86400,) * 2)
    before = record.read_text()
    checkout.change("lib/store/plans.py", '"measured": ', '"measured": 100 + ')
    status, log = checkout.run(*only(VOLUME))
    assert status == 0, log
    assert record.read_text() != before


def test_a_job_ends_with_the_engine(tmp_path):
    ended = tmp_path / "ended"
    loop = "echo begun; while :; do sleep 0.1; done"
    trap = f"trap 'touch {shlex.quote(str(ended))}; exit 1' TERM"
    command = [sys.executable, ROOT / "workflow" / "end_with.py", "sh", "-c", f"{trap}; {loop}"]
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    with popen(["sleep", "3600"]) as engine:
        environment["ENGINE"] = f"{socket.gethostname()}:{engine.pid}"
        with popen(command, env=environment, stdout=subprocess.PIPE) as job:
            assert job.stdout.readline() == b"begun\n"
            with pytest.raises(subprocess.TimeoutExpired):
                job.wait(2)
            engine.kill()
            engine.wait()
            assert job.wait(20) == 143
    assert ended.exists()


@pytest.mark.parametrize("engine", ["", "elsewhere:1", "here"])
def test_a_jobs_status_is_its_own(engine):
    own = f"{socket.gethostname()}:{os.getpid()}" if engine == "here" else engine
    command = [sys.executable, ROOT / "workflow" / "end_with.py", "sh", "-c", "exit 7"]
    assert subprocess.run(command, env={**os.environ, "ENGINE": own}).returncode == 7


ALONE = [sys.executable, str(ROOT / "workflow" / "alone.py")]


def test_only_one_command_holds_the_lock_and_its_jobs_do_not(tmp_path):
    """Needs no program besides Python: macOS has no `flock`."""
    environment = {**os.environ, "PATH": ""}
    inner = f"import subprocess; print(subprocess.Popen([{shutil.which('sleep')!r}, '3600']).pid, flush=True); input()"
    command = [*ALONE, str(tmp_path / "lock"), sys.executable, "-c", inner]
    again = [*ALONE, str(tmp_path / "lock"), sys.executable, "-c", "raise SystemExit(7)"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with popen(command, **pipes) as first:
        job = int(first.stdout.readline())
        try:
            second = subprocess.run(again, capture_output=True, text=True, env=environment)
            assert (second.returncode, second.stderr) == (1, "error: another make reproduce is at work here\n")
            first.kill()
            first.wait()
            assert subprocess.run(again, env=environment).returncode == 7
        finally:
            os.kill(job, signal.SIGKILL)


def test_where_there_can_be_no_lock_nothing_runs(tmp_path):
    done = subprocess.run([*ALONE, str(tmp_path / "none" / "lock"), "true"], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"error: cannot lock .*/none/lock: No such file or directory\n", done.stderr)


def test_make_reproduce_asks_for_no_program_that_macos_lacks():
    listed = subprocess.run(["make", "-n", "reproduce", "PYTHON=true"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ".venv/bin/python workflow/alone.py .venv/.ready-workflow .venv/bin/snakemake" in listed.stdout
    assert "flock" not in listed.stdout


@pytest.mark.long
def test_only_the_engine_is_killed(checkout):
    """Its jobs end with it; whoever is started next goes on from their checkpoints."""
    with checkout.start(*only(PGD), "--cores", "1") as process:
        while not list((checkout.folder / "checkpoints").rglob("lock")):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        process.kill()
        assert checkout.run(*only(PGD), "--unlock")[0] == 0
        status, log = checkout.run(*only(PGD))
        assert status == 0, log
    assert set(checkout.records()) == records_of(PGD)
    curve = json.loads((checkout.folder / "results" / "smoke" / PGD / "training.json").read_text())["curve"]
    assert len(curve) == len({row["step"] for row in curve})


@pytest.mark.long
def test_a_failed_job_takes_no_record_along(checkout):
    """The evaluation fails; the training that went before is kept, and not repeated."""
    checkout.change(
        "lib/evaluation.py", "def evaluate(", "def evaluate(*_, **__):\n    raise ArithmeticError\n\n\ndef _evaluate("
    )
    status, log = checkout.run(*only(STANDARD))
    assert status != 0
    assert "ArithmeticError" in log or "error:" in log
    before = checkout.records()
    assert set(before) == {f"{STANDARD}/training.json"}
    checkout.change(
        "lib/evaluation.py", "def evaluate(*_, **__):\n    raise ArithmeticError\n\n\ndef _evaluate(", "def evaluate("
    )
    status, log = checkout.run(*only(STANDARD))
    assert status == 0, log
    after = checkout.records()
    assert set(after) == records_of(STANDARD)
    assert after[f"{STANDARD}/training.json"] == before[f"{STANDARD}/training.json"]
    status, log = checkout.run(*only(OTHER), "--workflow-profile", "none", "--cores", "1")
    assert status != 0
    assert "--keep-incomplete" in log


@pytest.mark.long
def test_a_training_that_fails_is_recorded_and_not_repeated(checkout):
    checkout.change(
        "lib/store/experiments.yml",
        "        lr: 0.004\n        schedule: one-cycle\n        steps: 40",
        "        lr: 1.0e+30\n        steps: 40",
    )
    status, log = checkout.run(*only(STANDARD))
    assert status == 0, log
    assert set(checkout.records()) == {f"{STANDARD}/training.json"}
    assert "0 of them lack records" in checkout.run(*only(STANDARD))[1]


@pytest.mark.parametrize("profile", ["default", "slurm", "kubernetes"])
def test_the_paper_grid_is_listed_with_its_cost(profile):
    """A dry run, as on a clean clone: every run of Table 2 by its key, with its operations, and their sum."""
    names = ["--config", "scale=paper", "only=table-2", "tflops=1"]
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--workflow-profile", f"workflow/profiles/{profile}"]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": "/grid/data"}
    done = subprocess.run([*command, *names], cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    log = done.stdout + done.stderr
    listed = grid.runs("table-2", "paper")
    jobs = groups.groups(listed, groups.SHARE * 80e9, spread=True)
    assert {len({run.training for run in job}) for job in jobs} == {1}
    assert len(jobs) < len(listed)
    for job in (job for job in jobs if len(job) > 1):
        keys, operations = ", ".join(run.key for run in job), sum(map(cost.flops, job))
        told = f"{operations:.2e} operations, {groups.hours(job, 1e12):.2f} GPU-hours (estimated)"
        assert f"{len(job)} runs together, {keys}: {told}" in log
    total, hours = sum(map(cost.flops, listed)), sum(groups.hours(job, 1e12) for job in jobs)
    assert (
        f"18 of them lack records: {total:.2e} operations, {hours:.1f} GPU-hours in {len(jobs)} groups of runs (estimated"
        in log
    )


def test_on_a_processor_each_run_is_a_job():
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--workflow-profile", "none", "--cores", "1"]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": "/grid/data"}
    config = ["--config", "scale=paper", "only=table-2", "device=cpu"]
    done = subprocess.run([*command, *config], cwd=ROOT, env=own, capture_output=True, text=True)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    assert "in 18 groups of runs" in log
    for run in grid.runs("table-2", "paper"):
        assert f"{run.key}: {cost.flops(run):.2e} operations" in log


def test_a_user_may_have_no_name(tmp_path):
    """As in a container that runs as any user; Snakemake asks for the name."""
    unknown = "import pwd\n\ndef unknown(uid):\n    raise KeyError(uid)\n\npwd.getpwuid = unknown\n"
    (tmp_path / "sitecustomize.py").write_text(unknown)
    named = ("LOGNAME", "USER", "LNAME", "USERNAME")
    own = {name: value for name, value in os.environ.items() if name not in named} | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock", "--workflow-profile", "none", "--cores", "1"]
    config = ["--config", "scale=smoke", f"only={VOLUME}"]
    done = subprocess.run([*command, *config], cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


WRONG_CONFIGS = {
    "sclae=smoke": "unknown config sclae; allowed: scale, only, device, threads, runs_per_gpu, gpu_gb, tflops",
    "tflops=0": "tflops must be > 0 and finite, given 0",
    "tflops=inf": "tflops must be > 0 and finite, given inf",
    "device=tpu": "unknown device 'tpu'; allowed: auto, cpu, cuda, cuda:N",
    "threads=0": "threads must be a whole number ≥ 1, given 0",
    "runs_per_gpu=0": "runs_per_gpu must be a whole number ≥ 1, given 0",
    "scale=huge": "unknown scale 'huge'",
    "only=mnist/../lenet5-w1/standard/n60000/default/seed0": "unknown transform '..'",
}
RIGHT_CONFIG = f"scale=smoke only={VOLUME}"
# One process that has imported Snakemake, and a fork of it for each configuration, whose output goes to a file of its own.
DRY_RUNS = """
import os, sys
from snakemake import cli
from lib.run import cost, groups
from lib.store import grid, plans, records
folder, *configs = sys.argv[1:]
for i, config in enumerate(configs):
    if os.fork() == 0:
        log = os.open(f"{folder}/{i}", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.argv = ["snakemake", "--dry-run", "--nolock", "--config", *config.split()]
        cli.main()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture(scope="module")
def dry_runs(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """By configuration, with which status a dry run ends, and what it says."""
    folder = tmp_path_factory.mktemp("dry-runs")
    own = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "CIFAR10")}
    own |= {"PYTHONPATH": str(ROOT), "RESULTS_DIR": str(folder / "results"), "CHECKPOINT_DIR": str(folder / "checkpoints")}
    configs = [*WRONG_CONFIGS, RIGHT_CONFIG]
    command = [sys.executable, "-c", DRY_RUNS, str(folder), *configs]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logs = [(folder / str(i)).read_text() for i in range(len(configs))]
    return dict(zip(configs, zip(map(int, done.stdout.split()), logs, strict=True), strict=True))


@pytest.mark.parametrize("config", WRONG_CONFIGS)
def test_a_config_that_is_wrong_is_refused(dry_runs, config):
    status, log = dry_runs[config]
    assert status == 1
    assert WRONG_CONFIGS[config] in log


def test_a_config_that_is_right_is_not(dry_runs):
    status, log = dry_runs[RIGHT_CONFIG]
    assert status == 0, log
    assert "1 runs and measurements, 1 of them lack records" in log


# --- GPUs of one machine ------------------------------------------------------------------------------------------------

ON_GPU = [sys.executable, str(ROOT / "workflow" / "on_gpu.py")]
TELL = ["sh", "-c", 'echo "${CUDA_VISIBLE_DEVICES-none}"; read line']  # which GPU it sees; then waits to be told to end


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A machine whose nvidia-smi knows two GPUs."""
    fake = tmp_path / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho GPU-aa\necho GPU-bb\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def job(share: int) -> subprocess.Popen:
    return subprocess.Popen([*ON_GPU, str(share), *TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def seen_by(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def end(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.communicate("\n")


def test_small_runs_spread_over_the_gpus_and_share_them(two_gpus):
    jobs = []
    for expected in ("GPU-aa", "GPU-bb", "GPU-aa", "GPU-bb"):
        jobs.append(job(2))
        assert seen_by(jobs[-1]) == expected
    fifth = job(2)
    with pytest.raises(subprocess.TimeoutExpired):
        fifth.wait(1.5)
    jobs[3].kill()  # whatever its end, its slot is free
    assert seen_by(fifth) == "GPU-bb"
    end(*jobs, fifth)


def test_a_large_run_has_a_gpu_for_itself(two_gpus):
    small = job(4)
    assert seen_by(small) == "GPU-aa"
    large = job(1)
    assert seen_by(large) == "GPU-bb"
    beside = job(4)
    assert seen_by(beside) == "GPU-aa"
    waiting = job(1)
    end(small)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1.5)
    end(beside)
    assert seen_by(waiting) == "GPU-aa"
    end(large, waiting)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "3"}, "3"),
        ({"CUDA_VISIBLE_DEVICES": "5,7"}, "5"),
        ({"CUDA_VISIBLE_DEVICES": ""}, ""),
        ({"SLURM_JOB_ID": "1"}, "none"),
        ({"SLURM_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "2,3"}, "2,3"),
        ({"PATH": "/usr/bin:/bin"}, "none"),
    ],
    ids=str,
)
def test_what_is_visible_is_what_there_is(two_gpus, monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    one = job(1)
    assert seen_by(one) == expected
    end(one)


@pytest.mark.parametrize("arguments", [[], ["2"], ["0", "true"], ["two", "true"]], ids=str)
def test_a_wrong_call_is_one_line(arguments):
    done = subprocess.run([*ON_GPU, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"error: usage: on_gpu.py RUNS_PER_GPU COMMAND .*\n", done.stderr)


def test_the_commands_status_is_its_own(two_gpus):
    assert subprocess.run([*ON_GPU, "1", "sh", "-c", "exit 7"]).returncode == 7


# --- workflows of GitHub ------------------------------------------------------------------------------------------------


def test_what_github_calls_is_there():
    """Each step of a workflow is a make target."""
    workflows = "\n".join(path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    called = set(re.findall(r"run: (?:sudo )?make ([a-z -]+)", workflows))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name for line in called for name in line.split()} <= targets
    assert {"test", "browser", "site", "slurm", "reproduce"} <= {name for line in called for name in line.split()}


WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
JOBS = {(name, job): content for name, workflow in WORKFLOWS.items() for job, content in workflow["jobs"].items()}
# What a job may do besides reading the repository.
MORE = {
    ("pages", "deploy"): {"pages": "write", "id-token": "write"},
    ("gpu", "propose"): {"contents": "write", "pull-requests": "write"},
}


def test_a_workflow_may_nothing_and_each_job_what_it_needs():
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {}
    for name, job in JOBS.items():
        assert job["permissions"] == MORE.get(name, {"contents": "read"}), name


def test_every_action_is_pinned_by_commit():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        used = re.findall(r"uses: (.*)", path.read_text())
        assert used
        for action in used:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+(\.\d+\.\d+)?", action), action


def test_workflows_install_by_hashes():
    for name, workflow in WORKFLOWS.items():
        assert workflow["env"]["HASHED"] == 1, name
    for job in JOBS.values():
        for step in job["steps"]:
            command = step.get("run", "")
            assert not re.search(r"\b(pip|uv|conda|npm)\b", command)
            assert "sudo make" not in command or "HASHED=1" in command  # sudo takes no environment along
            if "cache-dependency-path" in step.get("with", {}):
                assert step["with"]["cache-dependency-path"] == "hashes.txt"


def test_no_checkout_leaves_its_token_behind():
    steps = [step for job in JOBS.values() for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert len(steps) >= 6
    assert all(step["with"]["persist-credentials"] is False for step in steps)


def test_what_a_pull_request_controls_reaches_no_shell_and_no_machine_of_ours():
    for (name, _), job in JOBS.items():
        triggers = WORKFLOWS[name][True]  # YAML takes the word `on` for yes
        assert not {"pull_request_target", "workflow_run", "issue_comment", "issues"} & set(triggers)
        if "pull_request" in triggers:
            assert job["runs-on"] == "ubuntu-latest"
            assert "secrets." not in str(job)
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_records_of_a_job_of_days_come_home():
    """The job that computes keeps records outside of its checkout and cannot push; another pushes with its own token."""
    compute, propose = JOBS["gpu", "reproduce"], JOBS["gpu", "propose"]
    for name in ("RESULTS_DIR", "CHECKPOINT_DIR"):
        assert compute["env"][name].startswith("~/")
    assert "self-hosted" in compute["runs-on"]
    assert "make records" not in str(compute)
    assert "GH_TOKEN" not in str(compute)
    *_, collect, upload = compute["steps"]
    assert upload["if"] == collect["if"] == "${{ !cancelled() }}"  # of a job that ran out of time too
    assert (propose["needs"], propose["runs-on"], propose["if"]) == ("reproduce", "ubuntu-latest", "${{ !cancelled() }}")
    download = next(step for step in propose["steps"] if "download-artifact" in step.get("uses", ""))
    assert (download["with"]["name"], download["with"]["path"]) == (upload["with"]["name"], "results")
    assert [step["run"] for step in propose["steps"] if step.get("run") == "make records"]


def test_the_gpu_workflow_offers_what_can_be_committed():
    assert set(WORKFLOWS["gpu"][True]["workflow_dispatch"]["inputs"]["scale"]["options"]) == {"paper", "laptop"}


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository with the Makefile alone, where its commands find an environment that is set up."""
    if shutil.which("git") is None:
        pytest.skip("git is not on the path")
    for name in ("Makefile", ".gitignore", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "results").mkdir()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "-s", *arguments], cwd=folder, capture_output=True, text=True)


def test_records_of_scale_smoke_are_refused_in_one_line(clone):
    (clone / "results" / "smoke").mkdir()
    (clone / "results" / "smoke" / "a.json").write_text("{}")
    done = make(clone, "records", "SCALE=smoke")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "records of scale smoke are not committed: SCALE=laptop or SCALE=paper"
    branches = subprocess.run(["git", "-C", clone, "branch", "--list"], capture_output=True, text=True, check=True).stdout
    assert branches.split() == ["*", "main"]


def test_records_are_committed_to_a_branch(clone):
    (clone / "results" / "laptop").mkdir()
    (clone / "results" / "laptop" / "a.json").write_text("{}")
    done = make(clone, "records")
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["git", "-C", clone, "show", "--stat", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert "results/laptop/a.json" in listed


def test_a_site_holds_no_figure_of_an_earlier_book(clone):
    tool = clone / ".venv" / "bin" / "jupyter-book"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\nmkdir -p book/_build/html && touch book/_build/html/index.html\n")
    tool.chmod(0o755)
    (clone / ".venv" / ".ready").touch()
    old = clone / "book" / "_build" / "html" / "_images" / "old.svg"
    old.parent.mkdir(parents=True)
    old.touch()
    done = make(clone, "site", "PYTHON=false")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (clone / "site").rglob("*")) == [".nojekyll", "index.html"]
