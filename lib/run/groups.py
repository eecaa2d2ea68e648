"""Decides which runs are trained together on a GPU, and estimates their memory and time.

groups.groups(grid.runs("table-4", "paper"), memory_there=80e9)
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from lib import data
from lib.run import cost
from lib.store import plans
from lib.store.grid import Item, Run

if TYPE_CHECKING:
    import pandas as pd

# The devices on which runs are grouped; on a processor a run alone is faster.
DEVICES = ("cuda",)
# The share of a card's free memory that is filled: estimates err, and libraries want some for themselves.
SHARE = 0.7


def shape(run: Run) -> str | None:
    """What runs that can be trained together have in common: all but data variant and seed. None for a run that goes alone.

    Alone goes what fills a card by itself, and what `training.train_together` does not take.
    """
    plan = plans.of(run)
    settings = plan.settings
    precision = settings.get("attack", {}).get("precision", "float32")
    if not cost.shares_a_gpu(run) or "certificate" in settings or precision != "float32":
        return None
    training = {name: value for name, value in settings["training"].items() if name != "seed"}
    about = [plan.network, training, settings.get("attack"), run.train_size, plan.numerics]
    return json.dumps(about, sort_keys=True)


def memory(run: Run) -> float:
    """Bytes that a run takes on a card while it is trained: an estimate, from shapes.

    Its images; weights, gradient and the optimizer's state, stacked and in the run's own network, and copies of them, some in
    float64, while a captured step is compared; what a training step keeps of a batch, and twice that for gradients and graph.
    """
    settings = plans.of(run).settings
    channels, size, _ = data.DATASETS[settings["data"]["source"]].shape
    weights, kept = cost.numbers(**cost.network(run))
    images = run.train_size * (channels * size * size + 2)
    return 4.0 * (images + 22 * weights + 3 * settings["training"]["batch_size"] * kept)


def free_memory(device: torch.device) -> float:
    """Bytes of the device's memory that groups may take."""
    if device.type != "cuda":
        return float("inf")
    return SHARE * torch.cuda.mem_get_info(device)[0]


def groups(items: Iterable[Item], memory_there: float, *, spread: bool = False) -> list[list[Item]]:
    """The items, cut into what is trained together: as many as the memory holds; in the order of the first of each.

    `spread`, where there are GPUs for several groups: no more than keep the training within twice the time of one run, by the
    assumptions of `cost`, since beyond that several groups are done sooner.
    """
    formed: list[list[Item]] = []
    latest: dict[str, list[Item]] = {}
    for item in items:
        key = shape(item) if isinstance(item, Run) else None
        group = latest.get(key, [])
        more = len(group) + 1
        full = key is None or not group or more * memory(item) > memory_there
        if full or (spread and cost.training_seconds(item, members=more) > 2.001 * cost.training_seconds(item)):
            formed.append(group := [])
            latest[key] = group
        group.append(item)
    return formed


def hours(group: list[Item], speed: float = cost.ASSUMED) -> float:
    """How long a GPU takes for runs that are trained together, by the assumptions of `cost`; measurements take none.

    A step of the training lasts as long as its launches, which are as many for a group as for a run, or as its operations, its
    memory traffic or the drawing of its batches, which are the group's; whichever is the longest. Evaluations follow one run
    after another.
    """
    runs = [item for item in group if isinstance(item, Run)]
    if not runs:
        return 0.0
    seconds = sum(cost.evaluation_seconds(run, speed=speed) for run in runs)
    return (cost.training_seconds(runs[0], members=len(runs), speed=speed) + seconds) / 3600


def schedule(items: Iterable[Item], gpus: Iterable[int], gigabytes: float = 80.0) -> "pd.DataFrame":
    """What it takes to compute `items` on so many GPUs of so much memory each, simulated: one row a number of GPUs.

    Each group of runs has a GPU for itself, and a free GPU takes the longest group that is left. `wall_hours` until the last
    one ends, `gpu_hours` of work, `alone_hours` were each run trained alone, `narrow_hours` and `narrow_alone_hours`: of LeNet5
    with w ≤ .25 in both, `busy`: the share of the GPUs' time that is work, `critical_hours` and `critical`: the longest group,
    named by its first run, below whose time no number of GPUs gets.
    Measurements, pages and the book, minutes on a processor, are left out. ValueError for fewer than one GPU.
    """
    import pandas as pd  # only tables need it, and its import takes long

    runs = [item for item in items if isinstance(item, Run)]
    listed = groups(runs, SHARE * gigabytes * 1e9, spread=True)
    took = {str(group[0]): hours(group) for group in listed}
    alone = {run: hours([run]) for run in runs}
    narrow = [group for group in listed if group[0].model == "lenet5" and group[0].widen_factor <= 0.25]
    longest = max(took, key=took.get)
    rows = []
    for n in gpus:
        if n < 1:
            raise ValueError(f"gpus must be ≥ 1, given {n}")
        work, wall = sum(took.values()), cost.makespan(took.values(), n)
        row = {
            "gpus": n,
            "runs": len(runs),
            "groups": len(listed),
            "gpu_hours": work,
            "wall_hours": wall,
            "busy": work / n / wall,
        }
        row |= {"alone_hours": sum(alone.values()), "critical_hours": took[longest], "critical": longest}
        row["narrow_hours"] = sum(took[str(group[0])] for group in narrow)
        rows.append({**row, "narrow_alone_hours": sum(alone[run] for group in narrow for run in group)})
    return pd.DataFrame(rows)
