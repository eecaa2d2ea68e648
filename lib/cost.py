"""What a run costs: floating-point operations counted on the network itself, over a throughput given or measured.

One multiply-add counts as two operations. Counted are the matrix products and convolutions; the rest is below a percent.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from lib import attacks, grid, models
from lib.grid import Item, Run


@dataclass(frozen=True)
class Flops:
    """Operations of one image going through a network."""

    forward: int
    training_step: int  # forward and the gradient to the weights

    @property
    def image_step(self) -> int:
        """Forward and the gradient to the image, a step of the attack: each layer's products once more."""
        return 2 * self.forward


def image_shape(model: str) -> tuple[int, int, int]:
    """Channels, height and width of the images that the network called `model` takes; of MNIST's, where it takes several."""
    return (3, 32, 32) if model == "wide_resnet28" else (1, 28, 28)


@cache
def per_image(model: str, widen_factor: float) -> Flops:
    """The operations of one image through the network."""
    with torch.random.fork_rng(devices=[]):
        network = models.build(model, widen_factor).eval()
    image, label = torch.rand(1, *image_shape(model)), torch.zeros(1, dtype=torch.long)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(image)
    with FlopCounterMode(display=False) as training:
        F.cross_entropy(network(image), label).backward()
    return Flops(forward.get_total_flops(), training.get_total_flops())


def flops(item: Item) -> float:
    """The operations of a run: its training, and the evaluations that the grid asks for. A measurement costs none."""
    if not isinstance(item, Run):
        return 0.0
    image = per_image(item.model, item.widen_factor)
    settings = grid.settings(item)
    crafting = settings["attack"]["num_steps"] * image.image_step if "attack" in settings else 0
    total = settings["training"]["steps"] * settings["training"]["batch_size"] * (crafting + image.training_step)
    for name in grid.evaluations(item):
        resolved = grid.evaluation_settings(item, name)
        threat = resolved.get("threat_model", {"num_steps": 0})
        # The clean prediction and the attacked one; the second attack, on misclassified images alone, is not counted, nor
        # what an early stop saves.
        steps = threat["num_steps"] * threat.get("restarts", 1)
        total += sum(resolved["sizes"].values()) * (2 * image.forward + steps * image.image_step)
    return float(total)


def throughput(
    model: str, widen_factor: float, precision: str, where: torch.device, *, batch_size: int = 128, seconds: float = 1.0
) -> float:
    """Operations a second that `attacks.pgd` reaches on this machine with the network, measured over `seconds`."""
    with torch.random.fork_rng(devices=[]):
        network = models.build(model, widen_factor).to(where)
        x = torch.rand(batch_size, *image_shape(model)).to(where)
    y = torch.zeros(batch_size, dtype=torch.long, device=where)
    attack = {"eps": 0.1, "step_size": 0.01, "num_steps": 4, "precision": precision}
    attacks.pgd(network, x[:8], y[:8], **attack)  # warm-up
    steps, began = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - began < seconds:
        attacks.pgd(network, x, y, **attack)  # looks at its result, so the device has finished
        steps += attack["num_steps"]
    return steps * batch_size * per_image(model, widen_factor).image_step / (time.perf_counter() - began)


def table(exhibits: Mapping[str, Iterable[Item]], where: torch.device, speed: float | None = None) -> pd.DataFrame:
    """Runs, operations and hours of each exhibit and of all of them, with attacks in float32 and in bfloat16.

    `speed` in operations a second; None measures each network's on `where`. A run that two exhibits share is counted
    with the first.
    """
    measured = cache(throughput)
    counted: set[str] = set()
    rows = []
    for name, items in exhibits.items():
        runs = [item for item in items if isinstance(item, Run) and item.key not in counted]
        counted |= {item.key for item in runs}
        row = {"exhibit": name, "runs": len(runs), "operations": sum(flops(run) for run in runs)}
        for precision in attacks.PRECISIONS:
            hours = (flops(run) / (speed or measured(run.model, run.widen_factor, precision, where)) / 3600 for run in runs)
            row[f"hours, {precision}"] = sum(hours)
        rows.append(row)
    found = pd.DataFrame(rows)
    found.loc[len(found)] = {"exhibit": "all", **found.drop(columns="exhibit").sum()}
    return found
