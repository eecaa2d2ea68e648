"""Every annotation of lib is checked at run time. Import this before lib: what is imported already stays unchecked.

jaxtyping checks shapes too, for which it binds the arguments of each call. Tables are made of very many short calls, so
packages whose annotations name no shapes are checked by beartype alone.
"""

import pkgutil
from pathlib import Path

import jaxtyping
from beartype import BeartypeConf
from beartype.claw import beartype_packages


class WrongTypeWarning(UserWarning):
    """A value is not of the type that its annotation names. pytest makes an error of it, as of every warning."""


_WITHOUT_SHAPES = ("lib.book", "lib.report", "lib.store")
_OTHERS = {f"lib.{module.name}" for module in pkgutil.iter_modules([str(Path(__file__).parents[1] / "lib")])}

beartype_packages(
    _WITHOUT_SHAPES, conf=BeartypeConf(is_pep484_tower=True, claw_is_pep526=False, violation_type=WrongTypeWarning)
)
jaxtyping.install_import_hook(
    [*sorted(_OTHERS.difference(_WITHOUT_SHAPES)), "lib.report.sections.pictures"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)
