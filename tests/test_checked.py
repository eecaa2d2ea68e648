"""Annotations are checked in every module, but where a test asks that they are not."""

import importlib.util
import pkgutil

import checked
import jaxtyping
import pytest
import torch

import lib
from lib import attacks, report
from lib.store import grid


def test_every_module_is_checked():
    names = [module.name for module in pkgutil.walk_packages(lib.__path__, "lib.")]
    assert {"lib.attacks", "lib.fast.kernels", "lib.store.grid", "lib.report.sections.pictures", "lib.book.pdf"} < {*names}
    loaders = {name: type(importlib.util.find_spec(name).loader).__module__ for name in names}
    shapes = {name for name, module in loaders.items() if module.startswith("jaxtyping.")}
    assert {name for name, module in loaders.items() if not module.startswith(("jaxtyping.", "beartype."))} == set()
    assert {"lib.attacks", "lib.fast.kernels", "lib.sensitivity.changes", "lib.report.sections.pictures"} < shapes
    assert shapes.isdisjoint({"lib.store.grid", "lib.report.table", "lib.book.pdf"})


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
