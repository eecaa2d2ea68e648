"""The set-up: one list of dependencies, pinned, and a structure whose imports only go down."""

import json
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
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        calls = [line for line in said.splitlines() if "pip install" in line]
        assert len(calls) == 3
        assert all("--no-deps" in call and ("--require-hashes" in call or "--no-index" in call) for call in calls), calls
    what_builds = subprocess.run(
        next(line for line in said.splitlines() if line.startswith("awk")).partition(">")[0],
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.findall(r"^(\S+)==", what_builds, re.MULTILINE) == ["setuptools", "wheel"]
    assert not what_builds.rstrip().endswith("\\")


def test_imports_only_go_down():
    linter = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


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
