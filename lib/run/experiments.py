"""Gives a page the records of an exhibit, computes the missing ones first if the page names a scale; checks parameters.

experiments.compute("table-2", "smoke")
"""

import ast
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch

from lib import data, transforms
from lib.run import devices, processes
from lib.store import grid, records


def compute(exhibit: str, scale: str, *, seeds: int | str = "all", device: str = "auto") -> None:
    """Compute what the exhibit shows at `scale` and is not recorded yet; `auto` reads what there is, and computes nothing.

    Skips long runs (the grid's `stretch`); start them with `python -m lib run`.
    """
    if scale != "auto":
        items = grid.runs(exhibit, scale, seeds=seeds, stretches=False)
        # A run that lacks only what another exhibit takes of it stays as it is: its weights may be gone.
        processes.complete([item for item in items if records.missing(item, exhibit)], device)


def pictures(
    *datasets: str, names: Iterable[str], count: int = 2, of: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], str]:
    """The test image of most contrast in each of the last `count` classes, under each transform, and where they come from.

    They are drawn from the first of `datasets` that is available. `of`: the sources of the numbers that the pictures stand
    beside; a set that is one of them goes before the others, and where none is available the words say that the pictures are of
    other data. They also say so of a built-in set in the place of the first of `datasets`. Each transform gives `count×H×W×C`,
    values in [0, 1].
    """
    names_at_hand = data.at_hand(*datasets)
    sets = (data.load(name, "test") for name in names_at_hand) if of else ()
    loaded = next((each for each in sets if each.source in of), None) or data.load(names_at_hand[0], "test")
    origin, stands_in = f"pictures: {loaded.source}", not data.DATASETS[names_at_hand[0]].label
    if of and loaded.source not in of:
        origin += "; not of the data that the numbers are of, which is not available"
    elif not of and stands_in and (wanted := data.DATASETS[datasets[0]].label):
        origin += f"; not {wanted}, which is not available"
    x = loaded.batch()
    contrast = x.flatten(1).std(1)
    classes = loaded.labels.unique()[-count:]
    shown = x[[int(torch.where(loaded.labels == label, contrast, -1).argmax()) for label in classes]]
    return {name: transforms.parse(name)(shown).permute(0, 2, 3, 1).numpy() for name in names}, origin


def _injected(namespace: Mapping[str, object]) -> set[str]:
    """The names that papermill's cell assigns; the notebook's cells so far are IPython's `In`."""
    names = set()
    for cell in namespace.get("In", []):
        if cell.startswith("# Parameters\n"):
            statements = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
            names |= {target.id for node in statements for target in node.targets if isinstance(target, ast.Name)}
    return names


def check_names(namespace: Mapping[str, object], known: Collection[str]) -> None:
    """ValueError, listing those that are `known`, for a parameter of another name in a notebook's globals."""
    for name in sorted(_injected(namespace) - {*known}):
        raise ValueError(f"unknown parameter {name!r}; allowed: {', '.join(sorted(known))}")


def check_parameters(namespace: Mapping[str, object], **allowed: Iterable[str]) -> None:
    """Refuse a notebook's parameters that are wrong or misspelt, before anything is computed.

    `namespace`: the notebook's globals; `allowed`: the values of its own parameters, `variant=("all", …)`. Every
    notebook has `scale`, `seeds` and `device` besides. papermill only warns of a parameter it does not know; here it
    is an error. What the reader or the notebook itself has named is no parameter.

    Raises ValueError that says what was given and what is allowed.
    """
    allowed = {**allowed, "scale": ("auto", *grid.SCALES)}
    check_names(namespace, {*allowed, "seeds", "device"})
    for name, values in allowed.items():
        if namespace[name] not in tuple(values):
            raise ValueError(f"unknown {name} {namespace[name]!r}; allowed: {', '.join(values)}")
    seeds = namespace["seeds"]
    if seeds != "all" and (isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1):
        raise ValueError(f"seeds must be 'all' or a number ≥ 1, given {seeds!r}")
    devices.device(str(namespace["device"]))
