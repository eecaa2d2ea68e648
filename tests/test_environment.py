"""The set-up: one list of dependencies, pinned, and a structure whose imports only go down."""

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
    assert sorted(pip) == sorted([*_project()["dependencies"], "--editable=."])


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
