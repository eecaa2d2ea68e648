"""The grid of all trainings and measurements, as data: expands the exhibits that `experiments.yml` declares to their items.

grid.runs("table-2", scale="laptop")    # the models an exhibit needs; `plans` resolves the settings of each
"""

import os
from dataclasses import fields
from functools import cache
from itertools import product

from lib import data
from lib.store.items import (
    SCALES,
    Item,
    Measurement,
    Run,
    check_scale,
    dataset_settings,
    one_of,
    parse,
    spaces,
    spec,
)

__all__ = ["SCALES", "Item", "Measurement", "Run", "check_scale", "parse", "spaces"]  # of an item, and asked of the grid


_NOT_AXES = {"title", "where", "scales", "evaluations", "also", "stretch"}  # the other keys of an exhibit's block
_AXES = [field.name for field in fields(Run) if field.name != "scale"]
# The data sets that may stand for a `cifar10` block, in the order in which `auto` prefers them.
CIFAR10_SETS = ("cifar10", "cifar10-jpeg")
# The exhibit that trains the network of Sections 3 and 4: its width, its number of images and its length of training.
REFERENCE = {"mnist": "table-2", "cifar10": "table-3", "fashion_mnist": "figure-3b"}
SET_NAMES = {name: known.label for name, known in data.DATASETS.items() if known.label}  # as a reader reads them


def exhibits() -> list[str]:
    """The names of the exhibits, in the order of `experiments.yml`."""
    return list(spec()["exhibits"])


def exhibit(name: str) -> dict:
    """The block of the exhibit `name`; ValueError, listing the names, for any other."""
    one_of("exhibit", name, exhibits())
    return spec()["exhibits"][name]


def cifar10_set() -> str:
    """The data set that stands for `cifar10`: the environment variable CIFAR10, or `cifar10` itself."""
    name = os.environ.get("CIFAR10") or "cifar10"
    if name not in CIFAR10_SETS:
        raise ValueError(f"CIFAR10={name} is not a data set; allowed: {', '.join(CIFAR10_SETS)}")
    return name


def block(name: str, scale: str) -> dict:
    """The block of the exhibit `name`, what `scale` overrides laid over it. ValueError where it is not computed at `scale`."""
    declared = exhibit(name)
    check_scale(scale)
    if scale not in declared["scales"]:
        raise ValueError(f"{name} is not computed at scale {scale!r}; allowed: {', '.join(declared['scales'])}")
    return {**declared, **declared["scales"][scale]}


def _axes(name: str, scale: str, cifar10: str | None) -> dict[str, list]:
    declared = block(name, scale)
    if cifar10 is not None:
        one_of("CIFAR10 set", cifar10, CIFAR10_SETS)
    axes = {key: value if isinstance(value, list) else [value] for key, value in declared.items() if key not in _NOT_AXES}
    for axis in (*axes, *declared.get("stretch", {})):
        one_of(f"axis of {name}", axis, ("quantity", *_AXES))
    for training in (each for recipe in axes.get("recipe", []) if isinstance(recipe, dict) for each in recipe):
        one_of(f"training of {name}", training, axes["training"])
    # The built-in set has no JPEG twin: scale smoke keeps the name cifar10.
    stand_in = "cifar10" if scale == "smoke" else cifar10 or cifar10_set()
    axes["dataset"] = [stand_in if dataset == "cifar10" else dataset for dataset in axes["dataset"]]
    return axes


def runs(name: str, scale: str, *, seeds: int | str = "all", cifar10: str | None = None, stretches: bool = True) -> list[Item]:
    """What the exhibit `name` needs at `scale`: its runs, and those of the exhibits that it shows `also`; or its measurements.

    `seeds`: how many of the seeds, at most as many as the block declares, or "all". `cifar10`: the data set for
    `cifar10` blocks; by default `cifar10_set()`. `stretches`: with the runs that take so much longer than the others of the
    scale that they are computed by name alone. Raises ValueError for an unknown name, scale or number of seeds.
    """
    axes, beyond = _axes(name, scale, cifar10), block(name, scale).get("stretch", {})
    if "quantity" in axes:
        return [Measurement(*values, scale=scale) for values in product(axes["quantity"], axes["dataset"], axes["transform"])]
    axes.setdefault("recipe", ["default"])
    axes.setdefault("train_size", ["all"])
    if seeds != "all":
        if not isinstance(seeds, int) or not 1 <= seeds <= len(axes["seed"]):
            raise ValueError(f"seeds must be 'all' or from 1 to {len(axes['seed'])} for {name} at {scale}, given {seeds!r}")
        axes["seed"] = axes["seed"][:seeds]
    expanded = []
    for values in product(*(axes[axis] for axis in _AXES)):
        chosen = dict(zip(_AXES, values, strict=True))
        chosen["widen_factor"] = float(chosen["widen_factor"])
        if chosen["train_size"] == "all":
            chosen["train_size"] = dataset_settings(chosen["dataset"], scale)["train_size"]
        if isinstance(chosen["recipe"], dict):
            if chosen["training"] not in chosen["recipe"]:
                continue
            chosen["recipe"] = chosen["recipe"][chosen["training"]]
        if stretches or not beyond or any(chosen[axis] not in values for axis, values in beyond.items()):
            expanded.append(Run(**chosen, scale=scale))
    for other in block(name, scale).get("also", []):
        listed = runs(other, scale, cifar10=cifar10, stretches=stretches)
        allowed = sorted({run.seed for run in listed})[: None if seeds == "all" else seeds]
        expanded += [run for run in listed if run.seed in allowed and run not in expanded]
    return expanded


@cache
def usual_recipes(scale: str) -> dict[tuple[str, str], str]:
    """By data set and training, the recipe at that scale of the networks of Sections 3 and 4: that of Table 2, Table 3 or
    Figure 3b."""
    of_each_set = (runs(name, scale, cifar10=cifar10) for name in REFERENCE.values() for cifar10 in CIFAR10_SETS)
    return {(run.dataset, run.training): run.recipe for listed in of_each_set for run in listed}


def all_runs(scale: str, *, cifar10: str | None = None, stretches: bool = False) -> list[Item]:
    """Every run and measurement of every exhibit at `scale`, each once, in the order of the exhibits.

    `stretches`: with those that every exhibit leaves to be computed by name.
    """
    check_scale(scale)
    by_key: dict[str, Item] = {}
    for name in exhibits():
        if scale in exhibit(name)["scales"]:
            for item in runs(name, scale, cifar10=cifar10, stretches=stretches):
                by_key.setdefault(item.key, item)
    return list(by_key.values())


def every(scale: str) -> list[Item]:
    """`all_runs` of every CIFAR10 set there is, with the stretches; each item once."""
    return list(dict.fromkeys(item for name in CIFAR10_SETS for item in all_runs(scale, cifar10=name, stretches=True)))


def exhibits_of(item: Item) -> list[str]:
    """The exhibits that show `item`."""
    stand_in = item.dataset if item.dataset in CIFAR10_SETS else CIFAR10_SETS[0]
    return list(_shown_by(item.scale, stand_in).get(item, []))


@cache
def _shown_by(scale: str, cifar10: str) -> dict[Item, list[str]]:
    """By item, the exhibits that show it: to expand every exhibit for each item would take seconds."""
    exhibits_by_item: dict[Item, list[str]] = {}
    for name in exhibits():
        if scale in exhibit(name)["scales"]:
            for item in runs(name, scale, cifar10=cifar10):
                exhibits_by_item.setdefault(item, []).append(name)
    return exhibits_by_item
