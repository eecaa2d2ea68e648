"""The set-up: one list of dependencies, pinned, and a structure whose imports only go down."""

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
        f"""#!{sys.executable}
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
