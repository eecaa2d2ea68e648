"""The command line. What goes wrong is one line and an exit status other than 0."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import stored

from lib import __main__, training
from lib.run import cost, material, processes
from lib.sensitivity import plan
from lib.store import grid, plans, records
from lib.store.grid import Run

ROOT = Path(__file__).resolve().parents[1]
RUN = Run("mnist", "original", "lenet5", 0.125, "standard", 4000, "default", 0, "smoke")
REAL = "mnist/original/lenet5-w0.25/standard/n60000/default/seed0"
JPEG = "cifar10-jpeg/original/wide_resnet28-w0.25/standard/n50000/default/seed0"


@pytest.fixture
def lib(monkeypatch, capsys):
    """`python -m lib …` without the seconds that a new process takes: (exit status, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["lib", *arguments])
        with pytest.raises(SystemExit) as left:
            __main__.main()
        return left.value.code or 0, *capsys.readouterr()

    return call


def of_each(key: str, state: str, first: int = 0) -> str:
    """What `status` says of a run's records, from the `first` on, all in one state."""
    return ", ".join(f"{name} {state}" for name in plans.of(grid.parse(key, "smoke")).records()[first:])


def test_an_error_as_a_process():
    command = [sys.executable, "-m", "lib", "status", "table-2", "--scale", "huge"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: unknown scale 'huge'; allowed: paper, laptop, smoke\n"


@pytest.mark.parametrize("scale", grid.SCALES)
def test_list(lib, scale):
    status, out, _ = lib("list", "--scale", scale)
    assert status == 0
    assert out.split() == [item.key for item in grid.all_runs(scale)]
    status, out, _ = lib("list", "footprints", "figure-1a", "footprints", "--scale", scale)
    assert out.split() == [item.key for name in ("footprints", "figure-1a") for item in grid.runs(name, scale)]
    assert lib("list", out.split()[0], "--scale", scale)[1].split() == out.split()[:1]


def statuses(called) -> tuple[list[str], dict[str, int]]:
    """The line of each run, and how many records are of which status."""
    status, out, _ = called
    assert status == 0
    *lines, last = out.splitlines()
    counts = (part.split() for part in last.removeprefix("smoke: ").split(", "))
    return lines, {name: int(count) for count, name in counts}


def test_run_and_status(lib, monkeypatch):
    stored.declare(monkeypatch, grid.spec()["scales"]["smoke"]["models"]["lenet5"], "steps", 60)
    key = RUN.key
    volume = "measured/log2_perturbable_volume/mnist/original"
    lines, total = statuses(lib("status", key, "--scale", "smoke"))
    assert lines == [f"{key}: {of_each(key, 'missing')}"]
    assert total == {"recorded": 0, "stale": 0, "failed": 0, "missing": len(plans.of(RUN).records())}
    status, out, _ = lib("run", key, volume, "--scale", "smoke", "--device", "cpu")
    assert (status, out) == (0, "2 computed, the others were already recorded\n")
    assert lib("run", key, volume, "--scale", "smoke")[1] == "0 computed, the others were already recorded\n"
    stored.revise(monkeypatch)
    evaluations = plans.of(RUN).evaluations()
    for name in evaluations:
        records.path(RUN, name).unlink()
    lines, total = statuses(lib("status", key, volume, "--scale", "smoke"))
    assert lines == [f"{key}: training stale, {of_each(key, 'missing', 1)}", f"{volume}: measured stale"]
    assert total == {"recorded": 0, "stale": 2, "failed": 0, "missing": len(evaluations)}


def test_an_exhibit_asks_for_what_it_shows_and_a_key_for_everything(lib, monkeypatch):
    stored.declare(monkeypatch, grid.spec()["scales"]["smoke"]["models"]["lenet5"], "steps", 60)
    monkeypatch.setattr(training, "NO_BETTER_THAN_CHANCE", 0.0)
    for name in ("pgd", "pgd-worst-case"):
        stored.declare(monkeypatch, grid.spec()["evaluations"][name]["attack"], "num_steps", 2)
    exhibit = {"widen_factor": 0.125, "transform": ["binarize"], "training": ["pgd"]}
    stored.declare(monkeypatch, grid.spec()["exhibits"]["table-2"]["scales"], "smoke", exhibit)
    key = replace(RUN, transform="binarize", training="pgd").key
    assert lib("run", key, "--scale", "smoke", "--device", "cpu")[1] == "1 computed, the others were already recorded\n"
    records.path(Run.parse(key, "smoke"), "pgd-worst-case").unlink()
    assert lib("run", "table-2", "--scale", "smoke")[1] == "0 computed, the others were already recorded\n"
    assert statuses(lib("status", "table-2", "--scale", "smoke"))[0] == [f"{key}: training recorded, pgd recorded"]
    for name in (key, "worst-case-mnist"):
        lines, _ = statuses(lib("status", "table-2", name, "--scale", "smoke"))
        assert lines == [f"{key}: training recorded, pgd recorded, pgd-worst-case missing"]
    assert lib("run", "worst-case-mnist", "--scale", "smoke")[1] == "1 computed, the others were already recorded\n"


def test_without_a_scale_the_totals_are_those_of_the_book(lib, monkeypatch, committed_records):
    status, out, _ = lib("status")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    totals = readme.partition("<!-- state -->\n")[2].partition("<!-- /state -->")[0]
    assert status == 0
    assert out.endswith(totals)
    *_, other, counts = out.removesuffix(totals).splitlines()
    assert counts.startswith("laptop: ")
    monkeypatch.setenv("CIFAR10", "cifar10-jpeg")
    again = lib("status")[1]
    assert again.endswith(totals)
    *lines, counts = again.removesuffix(totals).splitlines()
    recorded = sum(line.count(" recorded") for line in lines if "/" in line and "cifar10-jpeg" in line)
    assert other == f"cifar10-jpeg: {recorded} recorded, not counted below; set CIFAR10=cifar10-jpeg to list them"


def test_status_tells_of_stretches_and_misses_none(lib, monkeypatch):
    exhibit = {"widen_factor": 0.125, "transform": ["binarize"], "stretch": {"training": ["pgd"]}}
    stored.declare(monkeypatch, grid.spec()["exhibits"]["footprints"]["scales"], "smoke", exhibit)
    monkeypatch.setattr(grid, "exhibits", lambda: ["footprints"])
    monkeypatch.setattr("lib.__main__._summary", lambda scale: "totals")
    standard, pgd = grid.runs("footprints", "smoke")
    stored.write(pgd, "training")
    status, out, _ = lib("status", "--scale", "smoke")
    first, second, left, counts, totals = out.splitlines()
    assert (status, totals) == (0, "totals")
    assert first == f"{standard.key}: training missing, clean missing"
    assert second == f"{pgd.key}: training recorded, {of_each(pgd.key, 'missing', 1)}"
    assert left == f"{len(plans.of(pgd).records()) - 1} missing, not counted below: these runs start only when you name them"
    assert counts == "smoke: 1 recorded, 0 stale, 0 failed, 2 missing"


def test_status_of_a_failed_run(lib, monkeypatch):
    stored.declare(monkeypatch, grid.spec()["scales"]["smoke"]["models"]["lenet5"], "lr", 1e30)
    assert lib("run", RUN.key, "--scale", "smoke")[0] == 0
    lines, total = statuses(lib("status", RUN.key, "--scale", "smoke"))
    assert lines == [f"{RUN.key}: {of_each(RUN.key, 'failed')}"]
    assert total == {"recorded": 0, "stale": 0, "failed": len(plans.of(RUN).records()), "missing": 0}


def test_cost(lib):
    status, out, _ = lib("cost", "table-2", "--scale", "laptop", "--tflops", "1")
    assert status == 0
    assert "scale laptop, at 1·10¹² operations a second, as given" in out
    assert "table-2" in out


@pytest.mark.parametrize(
    ("exhibit", "scale", "tflops", "shown"), [("table-2", "laptop", 1, r"0\.36"), ("table-4", "paper", 0.05, r"13,000")]
)
def test_cost_shows_hours_with_two_digits(lib, exhibit, scale, tflops, shown):
    """They are estimates: more digits would say more than is known."""
    _, out, _ = lib("cost", exhibit, "--scale", scale, "--tflops", str(tflops))
    operations = sum(map(cost.flops, grid.runs(exhibit, scale, stretches=False)))
    assert float(shown.replace("\\", "").replace(",", "")) == pytest.approx(operations / tflops / 1e12 / 3600, rel=0.05)
    assert re.search(rf"^\| {exhibit} .* +{shown} \|$", out, re.MULTILINE), out


class Wrong(NamedTuple):
    arguments: str
    message: str
    environment: dict = {}  # noqa: RUF012


@pytest.mark.parametrize(
    "case",
    [
        Wrong("list --scale huge", "unknown scale 'huge'; allowed: paper, laptop, smoke"),
        Wrong("status --scale huge", "unknown scale 'huge'"),
        Wrong("run table-2 --scale auto", "unknown scale 'auto'"),
        Wrong("cost --scale huge --tflops 1", "'huge'"),
        Wrong("list table-9", "unknown exhibit 'table-9'; allowed: table-2, footprints, table-3"),
        Wrong("run table-9 --scale smoke", "unknown exhibit 'table-9'"),
        Wrong("run mnist/original --scale smoke", "'mnist/original' is not a run's key; a key is DATASET/"),
        Wrong(f"run {REAL} --scale smoke", "train_size must be from 1 to 4000 for mnist at smoke, given 60000"),
        Wrong(f"run {RUN.key.replace('lenet5', 'lenet6')} --scale smoke", "unknown model 'lenet6'"),
        Wrong(f"run {RUN.key.replace('w0.125', 'w0')} --scale smoke", "widen_factor must be"),
        Wrong(f"run {RUN.key.replace('original', 'blur-3')} --scale smoke", "unknown transform 'blur-3'; allowed: original"),
        Wrong(
            f"run {RUN.key.replace('original', 'smooth-0')} --scale smoke",
            "transform 'smooth-0': the filter's size, in pixels, must be",
        ),
        Wrong("run measured/beauty/mnist/original --scale smoke", "unknown quantity 'beauty'; allowed: pixel_histogram"),
        Wrong("run measured/pixel_histogram/mnist/blur-3 --scale smoke", "unknown transform 'blur-3'"),
        Wrong(f"run {RUN.key} --scale smoke --device tpu", "unknown device 'tpu'; allowed: auto, cpu, cuda, cuda:N"),
        Wrong(f"run {RUN.key} --scale smoke --device cuda:99", "device 'cuda:99' does not exist"),
        Wrong(f"run {RUN.key} --scale smoke --jobs 0", "jobs must be ≥ 1, given 0"),
        Wrong("cost table-2 --tflops inf", "--tflops must be > 0 and finite, given inf"),
        Wrong("cost table-2 --tflops nan", "--tflops must be > 0 and finite, given nan"),
        Wrong("cost table-2 --tflops 1 --device cpu:5", "unknown device 'cpu:5'; allowed: auto, cpu, cuda, cuda:N"),
        Wrong("cost table-2 --tflops 1 --device cuda:０", "unknown device 'cuda:０'"),
        Wrong(f"list {RUN.key.replace('original', 'posterize-4')} --scale smoke", "unknown transform 'posterize-4'"),
        Wrong(f"list {RUN.key.replace('original', 'smooth-３')} --scale smoke", "is not a run's key"),
        Wrong(f"list {RUN.key.replace('seed0', 'seed０')} --scale smoke", "is not a run's key"),
        Wrong("list measured/pixel_histogram/mnist/smooth-３ --scale smoke", "unknown transform"),
        Wrong("list table-2", "CIFAR10=../x is not a data set; allowed: cifar10, cifar10-jpeg", {"CIFAR10": "../x"}),
        Wrong("list table-2", "cannot write checkpoints to {tmp}/file: it is a file", {"CHECKPOINT_DIR": "{tmp}/file"}),
        Wrong("pdf {tmp} {tmp}/x.txt", r"the file must end with .pdf, given {tmp}/x.txt"),
        Wrong("pdf {tmp} {tmp}/x.pdf", "{tmp} is not a built book"),
        Wrong("cost table-2 --tflops 0", "--tflops must be > 0 and finite, given 0"),
        Wrong("list table-3", "CIFAR10=cifar100 is not a data set; allowed: cifar10, cifar10-jpeg", {"CIFAR10": "cifar100"}),
        Wrong(f"run {REAL}", "DATA_DIR=/nowhere is not a folder; give one in torchvision's layout", {"DATA_DIR": "/nowhere"}),
        Wrong(f"run {JPEG}", "neither .*cifar10-jpeg nor .*cifar10-jpeg.tar.gz exists", {"DATA_DIR": "{tmp}"}),
        Wrong(f"run {REAL}", r"MNIST is not in {tmp} and could not be downloaded \(.*\); set DATA_DIR", {"DATA_DIR": "{tmp}"}),
        Wrong(f"run {RUN.key} --scale smoke", "{tmp}/file is a file where a folder of", {"RESULTS_DIR": "{tmp}/file"}),
        Wrong("status table-2 --scale smoke", "{tmp}/file is a file where a folder of", {"RESULTS_DIR": "{tmp}/file"}),
        Wrong(f"run {RUN.key} --scale smoke", "cannot write checkpoints to {tmp}/file", {"CHECKPOINT_DIR": "{tmp}/file"}),
        Wrong("run measured/pixel_histogram/mnist/original --scale smoke", "{tmp}/file is a", {"RESULTS_DIR": "{tmp}/file"}),
    ],
    ids=lambda case: f"{case.arguments} {' '.join(case.environment)}".strip(),
)
def test_what_is_wrong_is_one_line(lib, monkeypatch, tmp_path, case):
    (tmp_path / "file").write_text("not a folder: root could write to a folder that is read-only")
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value.replace("{tmp}", str(tmp_path)))
    status, out, err = lib(*case.arguments.replace("{tmp}", str(tmp_path)).split())
    assert status == 1
    assert out == ""
    assert "Traceback" not in err
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert err.splitlines()[-1] == line
    with pytest.raises(ValueError, match=case.message.replace("{tmp}", str(tmp_path))):
        raise ValueError(line)
    assert (tmp_path / "file").read_text().startswith("not a folder")


@pytest.mark.parametrize("command", ["status", "run"])
def test_a_corrupt_record_is_one_line_and_stays(lib, command):
    path = records.path(RUN, "clean")
    path.parent.mkdir(parents=True)
    path.write_text('{"key": "mnist/orig')
    status, _, err = lib(command, RUN.key, "--scale", "smoke")
    assert status == 1
    assert err.splitlines()[-1].startswith(f"error: {path} is not a valid record (")
    assert err.splitlines()[-1].endswith("restore it, or delete it to have it computed again")
    assert path.read_text() == '{"key": "mnist/orig'


def test_a_corrupt_checkpoint_is_one_line(lib):
    folder = material.checkpoint_folder(RUN)
    folder.mkdir(parents=True)
    (folder / "training.safetensors").write_bytes(b"half of it")
    status, _, err = lib("run", RUN.key, "--scale", "smoke")
    assert status == 1
    assert err.splitlines()[-1].startswith(f"error: {folder / 'training.safetensors'} is not a readable checkpoint (")


def test_an_interrupt_says_that_nothing_is_lost(lib, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "complete_one", interrupted)
    status, _, err = lib("run", RUN.key, "--scale", "smoke")
    assert status == 130
    assert "Traceback" not in err
    assert "interrupted; the records are kept" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("paint",), "No such command 'paint'; allowed: list, run, check, status, "),
        (("list", "--sclae", "smoke"), "No such option: --sclae"),
        (("run", "--jobs", "many"), "Invalid value for '--jobs': "),
        (("picture",), "Missing argument "),
    ],
    ids=str,
)
def test_a_wrong_call_is_one_line(lib, arguments, said):
    status, out, err = lib(*arguments)
    assert (status, out) == (2, "")
    assert re.fullmatch(f"error: {re.escape(said)}[^\n]*\n", err)
    assert "allowed: " in err or re.search(rf"; see .* {arguments[0]} --help$", err)


def test_a_call_without_a_command_shows_the_help(lib):
    assert lib() == lib("--help")
    assert lib()[1].startswith("Usage: ")


def test_the_help_names_the_most_passes(lib):
    assert f"at most {plan.MOST_EPOCHS} passes" in " ".join(lib("sensitivity", "--help")[1].split())


COMMANDS = [registered.name or registered.callback.__name__ for registered in __main__.app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_of_its_own(lib, command):
    status, out, _ = lib(command, "--help")
    assert status == 0
    options, _, examples = out.partition("Examples:\n")
    assert examples
    for example in examples.splitlines():
        name, *arguments = example.strip().removeprefix("python -m lib ").split()
        assert name == command
        for argument in arguments:
            if argument.startswith("--"):
                assert argument in options
            elif argument.count("/") > 2:
                assert lib("list", argument)[1] == f"{argument}\n"


def test_status_says_where_it_looked(lib, monkeypatch, tmp_path):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    assert f"records are read from RESULTS_DIR={tmp_path}\n" in lib("status", RUN.key, "--scale", "smoke")[2]
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "resluts"))
    said = f"records are read from RESULTS_DIR={tmp_path / 'resluts'}, which does not exist\n"
    assert said in lib("status", RUN.key, "--scale", "smoke")[2]
    monkeypatch.delenv("RESULTS_DIR")
    assert "RESULTS_DIR" not in lib("status", RUN.key, "--scale", "smoke")[2]


def test_status_says_which_set_it_looked_for(lib, monkeypatch):
    first = lib("status", "table-3")[1].splitlines()[0]
    assert first == (
        "CIFAR10 means the data set cifar10 (CIFAR10 is not set in the environment); allowed: cifar10, cifar10-jpeg"
    )
    monkeypatch.setenv("CIFAR10", "cifar10-jpeg")
    assert lib("status", "table-3")[1].startswith("CIFAR10 means the data set cifar10-jpeg (CIFAR10=cifar10-jpeg); allowed")
    assert "CIFAR10" not in lib("status", "table-2")[1]


def test_help(lib):
    status, out, _ = lib("--help")
    assert status == 0
    for command in ("list", "run", "check", "status", "cost"):
        assert command in out


def test_runs_of_other_seeds_can_be_asked_for(lib):
    other = replace(RUN, seed=7)
    assert lib("list", other.key, "--scale", "smoke")[1] == f"{other.key}\n"
