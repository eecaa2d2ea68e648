"""The notebooks: their form, and papermill runs at scale `smoke`."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lib import grid, results

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_notebook_is_valid_and_holds_no_output(notebook):
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in _code(notebook))


def test_cells_are_few_and_short_and_define_nothing(notebook):
    cells = _code(notebook)
    assert 8 <= len(cells) <= 15
    for cell in cells:
        assert 1 <= len(cell.source.splitlines()) <= 8, cell.source
        defined = [
            node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda))
        ]
        assert not defined, cell.source


def test_one_cell_of_literal_parameters_each_with_a_comment(notebook):
    (cell,) = (cell for cell in _code(notebook) if "parameters" in cell.metadata.get("tags", []))
    names = []
    for line, node in zip(cell.source.splitlines(), ast.parse(cell.source).body, strict=True):
        assert isinstance(node, ast.Assign)
        assert isinstance(node.value, ast.Constant)
        assert "#" in line
        names.append(node.targets[0].id)
    assert {"scale", "seeds", "device"} <= set(names)


def test_every_shown_exhibit_is_on_the_page(notebook):
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for cell in _code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "show":
                name = node.args[0].value
                assert (
                    f"{{glue:figure}} {name}\n" in source
                    or f"{{glue:md}} {name}\n" in source
                    or f"{{glue:md}}`{name}`" in source
                )


def _papermill(tmp_path, *arguments, page="sec3", **environment):
    target = tmp_path / "executed.ipynb"
    command = [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / f"{page}.ipynb"), str(target), *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done, target


def _shown(target) -> set[str]:
    """The names of the exhibits that an executed notebook shows."""
    return {
        output.metadata["scrapbook"]["name"]
        for cell in _code(nbformat.read(target, as_version=4))
        for output in cell.outputs
        if "scrapbook" in output.get("metadata", {})
    }


def test_papermill_simulates_section_2_at_smoke(tmp_path):
    done, target = _papermill(tmp_path, "-p", "scale", "smoke", page="sec2")
    assert done.returncode == 0, done.stderr
    outputs = json.dumps(nbformat.read(target, as_version=4), ensure_ascii=False)
    assert "scale smoke" in outputs
    assert "Not computed yet" not in outputs
    assert {"splits", "example-1", "theorem-2.1", "example-2", "distances", "distance-seen", "stamp"} <= _shown(target)
    measured = Path(os.environ["RESULTS_DIR"]) / "smoke" / "measured"
    found = {str(path.relative_to(measured)) for path in measured.rglob("*.json")}
    assert found == {
        "example_1_simulation/cube/original.json",
        "half_space_simulation/ball/original.json",
        "half_space_simulation/cube/original.json",
        *(f"pairwise_distances/{space}/original.json" for space in ("ball", "cube")),
        *(f"pairwise_distances/{name}/{how}.json" for name in ("mnist", "cifar10") for how in ("original", "binarize")),
    }


# With the store that tests share, they train what no other has trained; Section 2 and Appendix B begin from an empty store.
@pytest.mark.usefixtures("smoke_store")
@pytest.mark.parametrize(("variant", "shown", "absent"), [("smooth", "table-2", "table-3"), ("saturate", "table-3", "table-2")])
def test_papermill_trains_and_draws_at_smoke(tmp_path, variant, shown, absent):
    done, target = _papermill(tmp_path, "-p", "variant", variant, "-p", "scale", "smoke")
    assert done.returncode == 0, done.stderr
    outputs = json.dumps(nbformat.read(target, as_version=4))
    assert "image/svg+xml" in outputs
    assert "scale smoke" in outputs
    shown_names = _shown(target)
    assert shown in shown_names
    assert absent not in shown_names
    listed = grid.runs(shown, "smoke")
    assert len(listed) > 1
    assert [run.key for run in listed if results.missing(run, shown)] == []


def test_papermill_certifies_at_smoke(tmp_path):
    """Appendix B: the LP-robust models of MNIST and CIFAR10 and the exact certificate, all trained and certified."""
    done, target = _papermill(tmp_path, "-p", "scale", "smoke", page="appB")
    assert done.returncode == 0, done.stderr
    shown = {
        output.metadata["scrapbook"]["name"]: "".join(output.data.get("text/markdown", output.data.get("text/plain", "")))
        for cell in _code(nbformat.read(target, as_version=4))
        for output in cell.outputs
        if "scrapbook" in output.get("metadata", {})
    }
    for name in ("section-2.2", "section-2.2-cifar10", "exact-certificate"):
        assert "2 of 2" in shown[f"{name}-badge"] or "1 of 1" in shown[f"{name}-badge"]
        assert "ours" in shown[name] or "ramp" in shown[name]
    for name in ("section-2.2-seen", "exact-certificate-seen"):
        assert "Not computed yet" not in shown[name]
        assert "scale smoke" in shown[name]
    names = {path.name for path in (Path(os.environ["RESULTS_DIR"]) / "smoke").rglob("*.json")}
    assert names == {"training.json", "clean.json", "ramp.json", "certified.json"}


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["-p", "variant", "smoth"], {}, "unknown variant 'smoth'; allowed: all, smooth, saturate"),
        (["-p", "scale", "huge"], {}, "unknown scale 'huge'; allowed: auto, paper, laptop, smoke"),
        (["-p", "seeds", "0"], {}, "seeds must be 'all' or a number ≥ 1, given 0"),
        (["-p", "device", "tpu"], {}, "unknown device 'tpu'; allowed: auto, cpu, cuda, cuda:N"),
        (["-p", "varaint", "smooth"], {}, "unknown parameter 'varaint'; allowed: device, scale, seeds, variant"),
        (["-p", "scale", "laptop"], {"DATA_DIR": "/nowhere"}, "DATA_DIR=/nowhere is not a folder"),
    ],
)
def test_papermill_refuses_wrong_parameters(tmp_path, arguments, environment, message):
    done, _ = _papermill(tmp_path, *arguments, **environment)
    assert done.returncode != 0
    assert message in done.stderr


def test_section_2_has_no_variant(tmp_path):
    done, _ = _papermill(tmp_path, "-p", "variant", "cube", page="sec2")
    assert done.returncode != 0
    assert "unknown parameter 'variant'; allowed: device, scale, seeds" in done.stderr
