"""CONTRIBUTING's examples: the lines that a diff adds are run, and do what is said of them."""

import re
from pathlib import Path

import pytest
import torch

from lib import report, transforms
from lib.report import claims
from lib.report.claims import sec3_4
from lib.report.sections import sec3
from lib.sensitivity import changes
from lib.store import records

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def added(file: str) -> str:
    """The lines that CONTRIBUTING's diffs add to a file."""
    (part,) = re.findall(rf"^(?:\+\+\+ b/|# ){re.escape(file)}\n(.*?)(?=^--- a/|^# |^```$)", TEXT, re.MULTILINE | re.DOTALL)
    return "\n".join(line[1:] for line in part.splitlines() if line.startswith("+"))


@pytest.fixture(autouse=True)
def committed(monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(records.ROOT / "results"))


def test_a_transform_is_a_function_and_a_line(monkeypatch):
    function, line = added("lib/transforms.py").split("\n\n\n")
    namespace = dict(vars(transforms))
    exec(function, namespace)
    monkeypatch.setattr(transforms, "FORMS", (*transforms.FORMS, *eval(f"({line})", namespace)))
    ramp = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    assert transforms.parse("posterize-4")(ramp).unique().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert changes.parse("posterize-4").does == "each pixel at the nearest of 4 values"
    assert changes.descriptions(1)["posterize-4"].endswith("; other levels: posterize-LEVELS")


def test_an_exhibit_is_a_function_a_declaration_and_a_name_on_its_page(monkeypatch):
    monkeypatch.setattr(report.exhibit, "EXHIBITS", report.EXHIBITS.copy())
    exec(added("lib/report/sections/sec3.py"), dict(vars(sec3)))
    declared = report.exhibit.EXHIBITS["cost"]
    assert declared.badged()
    assert declared.records() == ["table-2"]
    table = report.page().make("cost")
    assert len(table.rows) == 9
    assert table["paper"][1] == pytest.approx(99.3 - 99.2)
    assert "{exhibit} cost\n:name: tab-cost\n" in added("notebooks/sec3.ipynb")


def test_a_claim_is_a_sentence_and_a_check(monkeypatch):
    monkeypatch.setattr(claims.judging, "CLAIMS", claims.CLAIMS.copy())
    monkeypatch.setattr(claims, "CLAIMS", claims.judging.CLAIMS)
    exec(added("lib/report/claims/sec3_4.py"), dict(vars(sec3_4)))
    verdict = claims.check("3.3-binarized-mnist-is-the-most-robust", claims.published())
    assert (verdict.verdict, verdict.section) == ("holds", "3.3")
    assert "98.1 against 95.1" in verdict.evidence
