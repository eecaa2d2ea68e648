"""The notebooks: their form, and papermill runs at scale `smoke`."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.display import Markdown

from lib import report
from lib.report import claims
from lib.report.sections import overview
from lib.store import grid, records

ROOT = Path(__file__).resolve().parents[1]
YOURS = ROOT / "notebooks" / "yours.ipynb"  # of the reader's own data: it shows no exhibit of the grid
NOTEBOOKS = sorted({*(ROOT / "notebooks").glob("*.ipynb")} - {YOURS})


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", [*NOTEBOOKS, YOURS], ids=lambda path: path.stem)
def test_notebook_is_valid_and_holds_no_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in _code(notebook))


@pytest.mark.parametrize("path", [*NOTEBOOKS, YOURS], ids=lambda path: path.stem)
def test_cells_are_few_and_short_and_define_nothing(path):
    cells = [cell for cell in _code(nbformat.read(path, as_version=4)) if "install" not in cell.metadata.get("tags", [])]
    assert 8 <= sum("solution" not in cell.metadata.get("tags", []) for cell in cells) <= 15
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


def _smoothed_digits_are_the_least_robust(shown: str) -> None:
    robust = [float(value) for value in re.findall(r"robust ([\d.]+)%", shown)]
    assert len(robust) == 3
    assert robust == sorted(robust, reverse=True)


def _the_formula_is_below_pgd_and_the_margin_finds_what_large_weights_hide(shown: str) -> None:
    exact, cross_entropy, margin, _, _, hidden, scaled_margin = (
        float(value) for value in re.findall(r": ([\d.]+)%", shown)[-7:]
    )
    assert exact <= margin <= cross_entropy < scaled_margin < hidden


SHOWN = {
    "sec3": _smoothed_digits_are_the_least_robust,
    "strength": _the_formula_is_below_pgd_and_the_margin_finds_what_large_weights_hide,
}


@pytest.mark.parametrize("page", ["sec2", "sec3", "sec4", "sec5", "strength"])
def test_each_exercise_has_a_hidden_solution_that_shows_what_the_page_says(page, capsys):
    cells = nbformat.read(ROOT / "notebooks" / f"{page}.ipynb", as_version=4).cells
    exercises = [i for i, cell in enumerate(cells) if ":class: exercise" in cell.source]
    assert len(exercises) in (2, 3)
    namespace = {}
    for number, i in enumerate(exercises, 1):
        assert f"Exercise {number}: " in cells[i].source
        assert {"hide-cell", "solution"} <= {*cells[i + 1].metadata.tags}
        assert cells[i + 1].metadata.mystnb.code_prompt_show.startswith(f"Show solution {number}")
    for cell in cells:
        if "solution" in cell.metadata.get("tags", []):
            exec(cell.source, namespace)
    if page in SHOWN:
        SHOWN[page](capsys.readouterr().out)


@pytest.mark.parametrize("path", [*NOTEBOOKS, YOURS], ids=lambda path: path.stem)
def test_each_page_begins_with_its_objectives_and_the_cell_that_installs(path):
    cells = nbformat.read(path, as_version=4).cells
    shared = nbformat.read(YOURS, as_version=4).cells[2].source
    assert ":class: objectives\n\n- " in cells[1].source
    assert cells[2].source == shared
    assert {*cells[2].metadata.tags} == {"install", "remove-cell"}


@pytest.mark.parametrize("page", ["appA", "reproduce", "errata", "speed"])
def test_each_page_of_prose_begins_with_its_objectives(page):
    text = (ROOT / "book" / f"{page}.md").read_text(encoding="utf-8")
    assert re.search(r"^# .*\n\n```\{admonition\} On this page you\n:class: objectives\n\n- ", text, re.MULTILINE)


def test_the_first_cell_installs_lib_only_where_it_is_absent(monkeypatch):
    cell, commands = nbformat.read(YOURS, as_version=4).cells[2].source, []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    monkeypatch.setattr(sys, "path", [*sys.path])
    exec(cell, {})
    assert commands == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="this notebook needs lib: clone its repository"):
        exec(re.sub(r'REPOSITORY = ".*?"', 'REPOSITORY = ""', cell), {})
    exec(re.sub(r'REPOSITORY = ".*?"', 'REPOSITORY = "https://example.org/book"', cell), {})
    clone, install = commands
    assert clone[:2] == ["git", "clone"]
    assert clone[-2:] == ["https://example.org/book", "book"]
    assert install[:4] == [sys.executable, "-m", "pip", "install"]
    assert sys.path[0] == "book"


def test_make_colab_writes_the_address_and_refuses_others(tmp_path):
    (tmp_path / "notebooks").mkdir()
    shutil.copy(YOURS, tmp_path / "notebooks")
    make = ["make", "-f", ROOT / "Makefile", "colab"]
    done = subprocess.run([*make, "URL=git@example.org:book"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "URL must begin with https://, given 'git@example.org:book'" in done.stderr
    for address in ("https://example.org/a", "https://example.org/b"):
        subprocess.run([*make, f"URL={address}"], cwd=tmp_path, capture_output=True, check=True)
        notebook = nbformat.read(tmp_path / "notebooks" / "yours.ipynb", as_version=4)
        assert f'REPOSITORY = "{address}"' in notebook.cells[2].source


def test_every_shown_exhibit_is_on_the_page(notebook):
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for name in _named(notebook):
        assert any(
            f"{form}\n" in source or f"{form}`" in source
            for form in (f"{{exhibit}} {name}", f"{{glue:md}} {name}", f"{{glue:md}}`{name}")
        ), name


def test_every_directive_shows_what_the_page_has_made(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert {*re.findall(r"\{exhibit\} (\S+)", cell.source)} <= _named(notebook)


def _papermill(tmp_path, *arguments, page="sec3", demonstrated=True, **environment):
    source, target = ROOT / "notebooks" / f"{page}.ipynb", tmp_path / "executed.ipynb"
    if not demonstrated:
        whole, source = nbformat.read(source, as_version=4), tmp_path / "without-demonstrations.ipynb"
        nbformat.write(_without_demonstrations(whole), source)
    command = [sys.executable, "-m", "papermill", str(source), str(target), *arguments]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done, target


def _without_demonstrations(notebook):
    """The notebook without the cells of code that show how something is done, solutions of exercises among them."""
    kept = [
        cell
        for cell in notebook.cells
        if cell.cell_type != "code" or "page" in cell.source or {"install", "parameters"} & {*cell.metadata.get("tags", [])}
    ]
    assert len(kept) < len(notebook.cells)
    return nbformat.from_dict({**notebook, "cells": kept})


def _shown(target) -> set[str]:
    """The names of the exhibits that a notebook shows; what it only keeps, such as an image for phones, is left out."""
    return {
        output.metadata["scrapbook"]["name"]
        for cell in _code(nbformat.read(target, as_version=4))
        for output in cell.outputs
        if "scrapbook" in output.get("metadata", {}) and not output.metadata["scrapbook"]["mime_prefix"]
    }


def test_papermill_simulates_section_2_at_smoke(tmp_path):
    done, target = _papermill(tmp_path, "-p", "scale", "smoke", page="sec2")
    assert done.returncode == 0, done.stderr
    outputs = json.dumps(nbformat.read(target, as_version=4), ensure_ascii=False)
    assert "scale smoke" in outputs
    assert "Not computed yet" not in outputs
    assert {"splits", "example-1", "theorem-2.1", "example-2", "distances", "distance-seen", "stamp"} <= _shown(target)
    measured = Path(os.environ["RESULTS_DIR"]) / "smoke" / "measured"
    written = {str(path.relative_to(measured)) for path in measured.rglob("*.json")}
    assert written == {
        "example_1_simulation/cube/original.json",
        "half_space_simulation/ball/original.json",
        "half_space_simulation/cube/original.json",
        *(f"pairwise_distances/{space}/original.json" for space in ("ball", "cube")),
        *(f"pairwise_distances/{name}/{how}.json" for name in ("mnist", "cifar10") for how in ("original", "binarize")),
    }


# With the store that tests share, they train what no other has trained; Section 2 and Appendix B begin from an empty store.
@pytest.mark.usefixtures("smoke_store")
@pytest.mark.parametrize(
    ("page", "variant", "shown", "absent"),
    [
        ("sec3", "smooth", {"table-2"}, {"table-3"}),
        ("sec3", "saturate", {"table-3"}, {"table-2"}),
        ("sec4", "all", {"figure-3a", "figure-3b"}, set()),
        ("sec5", "all", {"table-1", "table-7-mnist", "figure-4-capacity-mnist", "figure-4-samples-cifar10"}, set()),
        ("appD", "all", {"figure-5-mnist-robust", "figure-6", "linear-margin"}, set()),
        ("strength", "mnist", {"strength-mnist", "curve-mnist"}, {"strength-cifar10"}),
    ],
)
def test_papermill_trains_and_draws_at_smoke(tmp_path, page, variant, shown, absent):
    demonstrated = (page, variant) != ("sec3", "saturate")  # the same page's other variant demonstrates the same
    done, target = _papermill(tmp_path, "-p", "variant", variant, "-p", "scale", "smoke", page=page, demonstrated=demonstrated)
    assert done.returncode == 0, done.stderr
    outputs = json.dumps(nbformat.read(target, as_version=4))
    assert "Records behind this page: scale smoke." in outputs
    assert page == "sec3" or "ot computed yet; compute" not in outputs
    names = _shown(target)
    assert {"stamp", f"claims-{page.removeprefix('sec').removeprefix('app')}"} <= names
    assert not absent & names
    for exhibit in shown:
        assert [item.key for item in grid.runs(exhibit, "smoke") if records.missing(item, exhibit)] == []
    if variant == "all":
        assert names == _declared(nbformat.read(ROOT / "notebooks" / f"{page}.ipynb", as_version=4))


def _calls(notebook) -> list[ast.Call]:
    return [node for cell in _code(notebook) for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]


def _named(notebook) -> set[str]:
    """The names of the exhibits in the source of a notebook, and the stamp."""
    calls = [call for call in _calls(notebook) if ast.unparse(call.func) == "page.show"]
    return {argument.value for call in calls for argument in call.args} | {"stamp"}


def _declared(notebook) -> set[str]:
    """All that a notebook hands to its page: the exhibits that it names, the badges of tables, and the stamp."""
    named = _named(notebook)
    return named | {f"{name}-badge" for name in named - {"stamp"} if report.EXHIBITS[name].badged()}


def test_every_claim_is_on_a_page():
    shown = {name for path in NOTEBOOKS for name in _named(nbformat.read(path, as_version=4))}
    sections = [section for name, sections in overview.JUDGED.items() if f"claims-{name}" in shown for section in sections]
    assert {name for section in sections if section for name in claims.names(section)} == {*claims.names()}


def test_papermill_certifies_at_smoke(tmp_path):
    """Appendix B: how long to train; the LP-robust models and the exact certificate, all trained and certified."""
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
    for name in ("section-2.2-seen", "exact-certificate-seen", "tuning-seen", "length-seen"):
        assert "not computed yet" not in shown[name].lower()
        assert "scale smoke" in shown[name].lower()
    names = {path.name for path in (Path(os.environ["RESULTS_DIR"]) / "smoke").rglob("*.json")}
    kinds = ("training", "clean", "ramp", "certified", "pgd", "pgd-unboxed", "pgd-worst-case")
    assert names == {f"{kind}.json" for kind in kinds}


@pytest.fixture
def glued(monkeypatch) -> dict[str, object]:
    """What notebooks that are executed in this process hand to their page, by name."""
    glued_texts = {}

    def glue(name: str, content: object, display: bool = True) -> None:
        if display:  # else it is an image for phones
            glued_texts[name] = content

    monkeypatch.setattr("myst_nb.glue", glue)
    monkeypatch.setattr("matplotlib_inline.backend_inline.set_matplotlib_formats", lambda *_: None)
    return glued_texts


def _execute(notebook, cells: int | None = None, **parameters) -> None:
    """Run the first cells of a notebook, all by default, with `parameters` as papermill gives them, in a cell after its own.

    All but the solutions of exercises, which read no record and run in a test of their own.
    """
    namespace = {}
    for cell in _code(notebook)[:cells]:
        if "solution" in cell.metadata.get("tags", []):
            continue
        exec(cell.source, namespace)
        if "parameters" in cell.metadata.get("tags", []):
            given = "".join(f"{name} = {value!r}\n" for name, value in parameters.items())
            exec(given, namespace)
            namespace["In"] = [cell.source, f"# Parameters\n{given}"]


def test_without_a_record_every_place_says_so(notebook, glued):
    _execute(notebook)
    assert set(glued) == _declared(notebook)
    texts = {name: text.data for name, text in glued.items() if isinstance(text, Markdown)}
    assert texts["stamp"] == "This page has no records yet."
    for name, text in texts.items():
        if name.endswith("-badge"):
            lacking = ("not computed yet; compute it with: `python -m lib run ", "Ours: no record is behind these verdicts.")
            assert text.startswith(lacking), name
        if name.endswith("-seen") and not name.startswith("claims-"):  # claims are counted instead
            assert "ot computed yet" in text, name
        assert "nan" not in text, name


def test_appendix_c_never_trains(glued):
    _execute(nbformat.read(ROOT / "notebooks" / "appC.ipynb", as_version=4), scale="smoke")
    shown = ("table-2", "table-3", "table-4-robust", "table-5-robust")
    missing = "not computed yet; compute it with: `python -m lib run {} --scale {}`"
    wanted = [missing.format(name, "laptop") for name in ("table-2", "table-3", "table-4", "table-5")]
    wanted[2] += "\n\n" + missing.format("paper-settings-mnist", "paper")  # Table 4 has a column of it
    assert [glued[f"{name}-badge"].data for name in shown] == wanted
    assert not Path(os.environ["RESULTS_DIR"]).exists()


def test_an_unknown_variant_stops_at_the_first_cell(notebook):
    (parameters,) = (cell.source for cell in _code(notebook) if "parameters" in cell.metadata.get("tags", []))
    if "variant" not in parameters:
        pytest.skip("has no variant")
    with pytest.raises(ValueError, match="unknown variant 'smoth'; allowed: all, "):
        _execute(notebook, 3, variant="smoth")


@pytest.mark.parametrize(
    ("page", "parameters", "message"),
    [
        ("sec3", {"variant": "smoth"}, "unknown variant 'smoth'; allowed: all, smooth, saturate"),
        ("sec3", {"scale": "huge"}, "unknown scale 'huge'; allowed: auto, paper, laptop, smoke"),
        ("sec3", {"seeds": 0}, "seeds must be 'all' or a number ≥ 1, given 0"),
        ("sec3", {"device": "tpu"}, "unknown device 'tpu'; allowed: auto, cpu, cuda, cuda:N"),
        ("sec5", {"variant": "size"}, "unknown variant 'size'; allowed: all, volume, distance, capacity, samples"),
        ("sec2", {"variant": "cube"}, "unknown parameter 'variant'; allowed: device, scale, seeds"),
    ],
)
def test_a_wrong_parameter_stops_at_the_first_cell(page, parameters, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _execute(nbformat.read(ROOT / "notebooks" / f"{page}.ipynb", as_version=4), 3, **parameters)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["-p", "varaint", "smooth"], {}, "unknown parameter 'varaint'; allowed: device, scale, seeds, variant"),
        (["-p", "scale", "laptop"], {"DATA_DIR": "/nowhere"}, "DATA_DIR=/nowhere is not a folder"),
    ],
)
def test_papermill_refuses_wrong_parameters(tmp_path, arguments, environment, message):
    done, _ = _papermill(tmp_path, *arguments, **environment)
    assert done.returncode != 0
    assert message in done.stderr


def test_yours_without_a_record_says_so():
    namespace = {}
    for cell in _code(nbformat.read(YOURS, as_version=4)):
        exec(cell.source, namespace)
    assert namespace["study"] is None
    assert "Not computed yet" in namespace["sensitivity"].page.judged(None).data


def test_a_misspelt_parameter_does_not_show_another_study():
    message = "unknown parameter 'foldr'; allowed: changes, device, eps, folder, minutes, seeds"
    with pytest.raises(ValueError, match=f"^{message}$"):
        _execute(nbformat.read(YOURS, as_version=4), 3, foldr="/nowhere")


def test_papermill_examines_a_folder(tmp_path):
    from PIL import Image

    for label, shade in (("dark", 20), ("light", 230)):
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(20):
            Image.new("L", (8, 8), shade + i).save(tmp_path / "set" / label / f"{i}.png")
    done, target = _papermill(
        tmp_path, "-p", "folder", str(tmp_path / "set"), "-p", "changes", "[gamma-0.6]", "-p", "minutes", "2", page="yours"
    )
    assert done.returncode == 0, done.stderr
    outputs = json.dumps(nbformat.read(target, as_version=4))
    assert "obust accuracy moves by" in outputs
    assert "after gamma-0.6" in outputs
    assert (tmp_path / "sensitivity-set" / "report.html").is_file()
