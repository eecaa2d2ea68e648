"""Annotations are checked in every module, but where a test asks that they are not."""

import importlib.util
import pkgutil
from pathlib import Path

import checked
import jaxtyping
import pytest
import torch

import lib
from lib import attacks, report
from lib.store import grid


def test_every_module_is_checked_and_its_shapes_too_where_it_names_some():
    specs = {module.name: importlib.util.find_spec(module.name) for module in pkgutil.walk_packages(lib.__path__, "lib.")}
    hooks = {name: type(spec.loader).__module__.partition(".")[0] for name, spec in specs.items()}
    assert {hooks["lib.attacks"], hooks["lib.store.grid"]} == {*hooks.values()} == {"jaxtyping", "beartype"}
    with_shapes = {name for name, spec in specs.items() if "from jaxtyping import" in Path(spec.origin).read_text("utf-8")}
    assert {"lib.attacks", "lib.report.sections.pictures"} < with_shapes
    assert {hooks[name] for name in with_shapes} == {"jaxtyping"}


WRONG = {
    "a shape": (lambda: attacks.margin_loss(torch.rand(3), torch.tensor([0, 1, 2])), jaxtyping.TypeCheckError),
    "an argument of the store": (lambda: grid.runs("table-2", 3), checked.WrongTypeWarning),
    "an argument of a page": (lambda: report.page().make(3), checked.WrongTypeWarning),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_fails(name):
    call, error = WRONG[name]
    with pytest.raises(error):
        call()


def test_errors_of_lib_itself_where_nothing_is_checked(unchecked):
    with pytest.raises(ValueError, match="unknown scale 3"):
        grid.runs("table-2", 3)
