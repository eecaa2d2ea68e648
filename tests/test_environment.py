"""The set-up: one list of dependencies, pinned, and a structure whose imports only go down."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_yml_equals_pyproject():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    conda = [entry.replace("pytorch", "torch") for entry in listed if isinstance(entry, str) and "torch" in entry]
    assert len(conda) == 2  # conda takes the build for processors where there is no GPU; pip has one build for all
    assert sorted([*pip, *conda]) == sorted([*_project()["dependencies"], "--editable=."])


def test_constraints_pin_every_dependency_within_its_range():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {name.lower().replace("_", "-"): pinned for name, pinned in pins.items()}
    project = _project()
    extras = [text for name in ("test", "workflow") for text in project["optional-dependencies"][name]]
    for text in project["dependencies"] + extras:
        requirement = Requirement(text)
        if requirement.name == project["name"]:  # one extra that includes another
            continue
        assert requirement.name in pins
        assert requirement.specifier.contains(pins[requirement.name], prereleases=True), text


def _hashed() -> list[str]:
    """Each requirement of hashes.txt with its hashes, as one line."""
    return (ROOT / "hashes.txt").read_text().replace("\\\n", "").splitlines()


def test_hashes_are_of_all_that_is_pinned():
    """`make hashes` writes them anew."""
    pinned = {line.lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    assert {line.split()[0].lower().replace("_", "-") for line in _hashed()} == pinned
    for line in _hashed():
        assert re.fullmatch(r"\S+==\S+( +--hash=sha256:[0-9a-f]{64})+ *", line), line


def test_with_hashes_nothing_else_is_installed(tmp_path):
    """Every call of pip either asks for a hash of each file, or may look nowhere but here."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "hashes.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for goal in (".venv/.ready", ".venv/.ready-test", ".venv/.ready-workflow"):
        command = ["make", "--dry-run", goal, "HASHED=1", f"PYTHON={sys.executable}"]
        printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        calls = [line for line in printed.splitlines() if "pip install" in line]
        assert len(calls) == 3
        assert all("--no-deps" in call and ("--require-hashes" in call or "--no-index" in call) for call in calls), calls
    what_builds = subprocess.run(
        next(line for line in printed.splitlines() if line.startswith("awk")).partition(">")[0],
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.findall(r"^(\S+)==", what_builds, re.MULTILINE) == ["setuptools", "wheel"]
    assert not what_builds.rstrip().endswith("\\")


def test_make_keeps_compiled_modules(tmp_path):
    """Some environments forbid it; each of the hundreds of processes of a test run would compile torch anew."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text() + "\nshow:\n\t@env\n")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(["make", "show"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "PYTHONUNBUFFERED=1" in done.stdout.splitlines()
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout


def test_imports_only_go_down():
    linter = Path(sys.executable).with_name("lint-imports")
    linted = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def test_book_links_are_the_top_level_files():
    for name in ("_config.yml", "_toc.yml", "notebooks"):
        assert (ROOT / "book" / name).resolve() == ROOT / name


def test_lib_without_its_repository_says_so(tmp_path):
    """As installed by `pip install .`: the records, the notebooks and the book are not there."""
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", "import lib"], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "install it with pip install --editable ." in done.stderr.splitlines()[-1]


def _make(folder: Path, version: str, python: str = "python") -> subprocess.CompletedProcess:
    """`make .venv/.ready` with an interpreter that says it is of `version`, and makes environments of it."""
    fake = folder / python
    fake.write_text(
        # Of both languages: a path with spaces cannot stand behind #!.
        f"""#!/bin/sh
"exec" {json.dumps(sys.executable)} "$0" "$@"
import os, pathlib, shutil, sys
major, minor = {version!r}.split(".")
if sys.argv[1] == "-c":
    class Info(tuple):
        major, minor = int({version!r}.split(".")[0]), int({version!r}.split(".")[1])
    sys.version_info, sys.version = Info((int(major), int(minor), 0)), {version!r} + ".0 (fake)"
    exec(sys.argv[2])
else:
    bin = pathlib.Path(sys.argv[3]) / "bin"
    bin.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, bin / "python")
    (bin / "pip").write_text("#!/bin/sh\\n")
    (bin / "pip").chmod(0o755)
"""
    )
    fake.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    command = ["make", ".venv/.ready", f"PYTHON=./{python}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_an_older_python_is_one_line(tmp_path):
    done = _make(tmp_path, "3.10")
    assert done.returncode != 0
    assert "error: Python 3.11 or newer is needed, ./python is 3.10.0" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_another_python_starts_the_environment_anew(tmp_path):
    assert _make(tmp_path, "3.11").returncode == 0
    (tmp_path / ".venv" / "of-3.11").touch()
    assert _make(tmp_path, "3.11").returncode == 0
    assert (tmp_path / ".venv" / "of-3.11").exists()
    done = _make(tmp_path, "3.12", "python3.12")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".venv" / "of-3.11").exists()


def _make_gpu(folder: Path, there: bool, tests: str = "") -> subprocess.CompletedProcess:
    """`make gpu` in a set-up that is finished, with a python and a pip that say how they were called."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    bin = folder / ".venv" / "bin"
    bin.mkdir(parents=True)
    (bin / "pip").write_text('#!/bin/sh\necho pip "$@"\n')
    ours = 'case "$1" in -c) exec python3 "$@";; -m) echo tests "$@"; ' + (tests or "true") + ';; *) echo "$@";; esac'
    (bin / "python").write_text(f"#!/bin/sh\n{ours}\n")
    (folder / "torch.py").write_text(f"class cuda:\n    is_available = staticmethod(lambda: {there})\n")
    for tool in ("pip", "python"):
        (bin / tool).chmod(0o755)
    for ready in (".ready", ".ready-test"):
        (folder / ".venv" / ready).touch()
    own = {**os.environ, "PYTHONPATH": str(folder), "MAKEFLAGS": "", "MAKELEVEL": "0"}  # `make test` has its own
    return subprocess.run(["make", "gpu"], cwd=folder, env=own, capture_output=True, text=True)


def test_make_gpu_without_one_is_one_line(tmp_path):
    done = _make_gpu(tmp_path, there=False)
    assert done.returncode != 0
    assert done.stdout == ""
    error, make = done.stderr.splitlines()  # the second is make's own
    assert error == "error: make gpu needs a GPU that torch can use, found none"
    assert make.startswith("make: ")


def test_make_gpu_tests_then_measures_each_within_a_time(tmp_path):
    done = _make_gpu(tmp_path, there=True)
    assert done.returncode == 0, done.stderr
    tests, bench = (re.search(pattern, done.stdout, re.MULTILINE) for pattern in (r"^tests .*", r"^benchmarks/pgd.py .*"))
    assert tests.end() < bench.start()
    seconds = int(re.search(r"timeout (\d+) .*test_cuda.py", done.stdout)[1])
    assert seconds / 60 + float(re.search(r"--minutes (\d+)", bench[0])[1]) < 10


def test_make_gpu_measures_nothing_after_tests_that_failed(tmp_path):
    done = _make_gpu(tmp_path, there=True, tests="exit 1")
    assert done.returncode != 0
    assert "--device cuda --minutes" not in re.sub(r"(?m)^timeout .*", "", done.stdout)


WITHOUT = (
    "advertorch", "art", "convex_adversarial", "matplotlib", "mlxtend", "numba", "pandas", "pyautoattack", "scipy.optimize",
    "scipy.stats", "skimage", "sklearn", "torchvision", "triton",
)  # fmt: skip


def test_a_gpu_trains_without_what_others_need(tmp_path):
    """Certificates, built-in sets, other libraries' attacks, a processor's compiler, tables, statistical tests: the command
    line starts, and real MNIST is read and trained on, without their packages. As on a GPU, but for the graph itself.
    """
    script = tmp_path / "train.py"
    script.write_text(
        f"""
import sys
sys.modules.update(dict.fromkeys({WITHOUT}))
import hashlib, struct
from pathlib import Path
import torch
from lib import __main__, data, models, training
from lib.fast import forms
from lib.run import processes

raw = Path({str(tmp_path)!r}) / "MNIST" / "raw"
raw.mkdir(parents=True)
pixels = torch.randint(256, (60, 28, 28), dtype=torch.uint8)
for part in ("train", "t10k"):
    images = struct.pack(">iiii", 2051, 60, 28, 28) + pixels.numpy().tobytes()
    for name, content in (("images-idx3", images), ("labels-idx1", struct.pack(">ii", 2049, 60) + bytes(range(10)) * 6)):
        (raw / f"{{part}}-{{name}}-ubyte").write_bytes(content)
        data._MD5["MNIST"][f"{{part}}-{{name}}-ubyte"] = hashlib.md5(content).hexdigest()
x, y, _ = data.transformed("mnist", "train", "smooth-3", size=60)
assert torch.equal(data.load("mnist", "train").images[:, 0], pixels)
assert data.load("mnist", "train").labels.tolist() == list(range(10)) * 6
forms.captures = lambda model, x: True
forms._graph_of = lambda function, device: (function(), function)[1]
training.NO_BETTER_THAN_CHANCE = 0
members = [training.Member(models.lenet5(1 / 32), x, y, seed) for seed in (0, 1)]
attack = {{"eps": 0.1, "step_size": 0.1, "num_steps": 1}}
done = training.train_together(
    members, optimizer="adam", lr=0.01, schedule="constant", weight_decay=0, steps=2, batch_size=20, attack=attack
)
assert all(result.curve["step"] == [1, 2] for result in done)
assert not [name for name in {WITHOUT} if sys.modules[name]]
"""
    )
    own = {**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
