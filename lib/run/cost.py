"""What a run costs: floating-point operations counted on the network itself, over a throughput given or measured.

One multiply-add counts as two operations. Counted are the matrix products and convolutions; the rest is below a percent.
"""

import heapq
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd
import torch
import torch.nn.functional as F
from convex_adversarial import robust_loss

from lib import attacks, models
from lib.store import grid
from lib.store.grid import Item, Run

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

# Operations a second that a run is taken to reach on a GPU where a plan is wanted and nothing was measured: a guess.
ASSUMED = 1e13
# A network of fewer operations an image than this leaves a large GPU mostly idle at the paper's batches: also a guess.
SMALL = 10**8


@dataclass(frozen=True)
class Flops:
    """Operations of one image going through a network."""

    forward: int
    training_step: int  # forward and the gradient to the weights

    @property
    def image_step(self) -> int:
        """Forward and the gradient to the image, a step of the attack: each layer's products once more."""
        return 2 * self.forward


def image_shape(model: str, *, in_channels: int = 1, image_size: int = 28) -> tuple[int, int, int]:
    """Channels, height and width of the images that the network called `model` takes; as given, where it takes several."""
    return (3, 32, 32) if model == "wide_resnet28" else (in_channels, image_size, image_size)


def _network(run: Run) -> dict:
    """The arguments of `per_image`."""
    settings = dict(grid.settings(run)["model"])
    return {"model": settings.pop("name"), **settings}


def _example(model: str, widen_factor: float, device: str = "cpu", **shape: int):
    """The network with initial weights, a random image and a label."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        network = models.build(model, widen_factor, **shape).eval()
        return network, torch.rand(1, *image_shape(model, **shape)), torch.zeros(1, dtype=torch.long)


def _counter() -> "FlopCounterMode":
    from torch.utils.flop_counter import FlopCounterMode  # it imports half a compiler, and most pages count nothing

    return FlopCounterMode(display=False)


@cache
def per_image(model: str, widen_factor: float, **shape: int) -> Flops:
    """The operations of one image through the network."""
    network, image, label = _example(model, widen_factor, device="meta", **shape)  # shapes are enough: nothing is computed
    with _counter() as forward, torch.no_grad():
        network(image)
    with _counter() as training:
        F.cross_entropy(network(image), label).backward()
    return Flops(forward.get_total_flops(), training.get_total_flops())


@cache
def bounds_per_image(
    model: str, widen_factor: float, *, eps: float, boxed: bool, proj: int | None, training: bool, **shape: int
) -> int:
    """The operations of one image's margins' lower bounds, with `training` also of their gradient to the weights.

    Exact bounds (`proj` None) cost in proportion to the ReLUs that eps leaves undecided, which depends on weights and image:
    this is an estimate, from initial weights and a random image. Signs and sums, not counted, are a large part besides.
    """
    network, image, label = _example(model, widen_factor, **shape)
    kind = {} if proj is None else {"proj": proj, "norm_type": "l1_median"}
    network.requires_grad_(training)
    with _counter() as counter, torch.random.fork_rng(devices=[]):
        loss, _ = robust_loss(network, eps, image, label, bounded_input=boxed, **kind)
        if training:
            loss.backward()
    return counter.get_total_flops()


def flops(item: Item) -> float:
    """The operations of a run: its training, and the evaluations that the grid asks for. A measurement costs none."""
    if not isinstance(item, Run):
        return 0.0
    network = _network(item)
    image = per_image(**network)
    settings = grid.settings(item)
    step = image.training_step
    if "attack" in settings:
        step += settings["attack"]["num_steps"] * image.image_step
    if "certificate" in settings:
        certificate = settings["certificate"]
        boxed = certificate["bounds"] is not None
        step = bounds_per_image(**network, eps=certificate["eps"], boxed=boxed, proj=certificate["proj"], training=True)
    total = settings["training"]["steps"] * settings["training"]["batch_size"] * step
    for name in grid.evaluations(item):
        resolved = grid.evaluation_settings(item, name)
        threat = resolved.get("threat_model", {"num_steps": 0})
        # The clean prediction and the attacked one; the second attack, on misclassified images alone, is not counted, nor
        # what an early stop saves.
        steps = threat["num_steps"] * threat.get("restarts", 1) * len(resolved.get("eps", [0]))
        each = 2 * image.forward + steps * image.image_step
        for metric in resolved.get("certificate", []):
            boxed = metric != "certified_error_unboxed"
            each += bounds_per_image(**network, eps=threat["eps"], boxed=boxed, proj=None, training=False)
        if "ramp" in resolved:
            # PGD three times, one step of it, and two Square attacks with three predictions a query; none that stops early.
            each = 3 * each + image.image_step + 6 * resolved["ramp"]["queries"] * image.forward
        if "autoattack" in resolved:
            steps, queries = _autoattack_steps(**resolved["autoattack"])
            each = steps * image.image_step + queries * image.forward
        total += sum(resolved["sizes"].values()) * each
    return float(total)


def _autoattack_steps(*, eps: float, iterations: int, targets: int, queries: int) -> tuple[int, int]:
    """Image-steps and queries that AutoAttack spends on an image that withstands it.

    APGD once, APGD and FAB for each target; FAB asks for a prediction at each step besides.
    """
    return iterations * (1 + 2 * targets), iterations * targets + queries


def throughput(
    model: str,
    widen_factor: float,
    precision: str,
    device: torch.device,
    *,
    batch_size: int = 128,
    seconds: float = 1.0,
    **shape: int,
) -> float:
    """Operations a second that `attacks.pgd` reaches on this machine with the network, measured over `seconds`."""
    with torch.random.fork_rng(devices=[]):
        network = models.build(model, widen_factor, **shape).to(device)
        x = torch.rand(batch_size, *image_shape(model, **shape)).to(device)
    y = torch.zeros(batch_size, dtype=torch.long, device=device)
    attack = {"eps": 0.1, "step_size": 0.01, "num_steps": 4, "precision": precision}
    attacks.pgd(network, x[:8], y[:8], **attack)  # warm-up
    steps, began = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - began < seconds:
        attacks.pgd(network, x, y, **attack)  # looks at its result, so the device has finished
        steps += attack["num_steps"]
    return steps * batch_size * per_image(model, widen_factor, **shape).image_step / (time.perf_counter() - began)


def table(exhibits: Mapping[str, Iterable[Item]], device: torch.device, speed: float | None = None) -> pd.DataFrame:
    """Runs, operations and hours of each exhibit and of all of them, with attacks in float32 and in bfloat16.

    `speed` in operations a second; None measures each network's on `device`. A run that two exhibits share is counted
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
            hours = (
                flops(run) / (speed or measured(precision=precision, device=device, **_network(run))) / 3600 for run in runs
            )
            row[f"hours, {precision}"] = sum(hours)
        rows.append(row)
    found = pd.DataFrame(rows)
    found.loc[len(found)] = {"exhibit": "all", **found.drop(columns="exhibit").sum()}
    return found


def shares_a_gpu(run: Run) -> bool:
    """Whether several such runs should share a GPU; exact bounds, which need the memory, never do."""
    exact = grid.settings(run).get("certificate", {"proj": 1})["proj"] is None
    return not exact and per_image(**_network(run)).forward < SMALL


def schedule(items: Iterable[Item], gpus: Iterable[int], speed: float = ASSUMED) -> pd.DataFrame:
    """What it takes to compute `items` on so many GPUs of `speed` operations a second each, simulated: one row a number.

    Each run has a GPU for itself, and a free GPU takes the longest run that is left. `wall_hours` until the last one ends,
    `gpu_hours` of work, `busy`: the share of the GPUs' time that is work, `critical_hours` and `critical`: the longest run,
    below whose time no number of GPUs gets; `attrs` has `speed`. Measurements, pages and the book, minutes on a processor,
    are left out. ValueError for speed ≤ 0 or fewer than one GPU.
    """
    if not speed > 0:
        raise ValueError(f"speed must be > 0, given {speed:g}")
    hours = {str(item): flops(item) / speed / 3600 for item in items if isinstance(item, Run)}
    longest = max(hours, key=hours.get)
    rows = []
    for n in gpus:
        if n < 1:
            raise ValueError(f"gpus must be ≥ 1, given {n}")
        free_at = [0.0] * n
        for each in sorted(hours.values(), reverse=True):
            heapq.heapreplace(free_at, free_at[0] + each)
        work, wall = sum(hours.values()), max(free_at)
        row = {"gpus": n, "runs": len(hours), "gpu_hours": work, "wall_hours": wall, "busy": work / n / wall}
        rows.append({**row, "critical_hours": hours[longest], "critical": longest})
    found = pd.DataFrame(rows)
    found.attrs = {"speed": speed}
    return found
