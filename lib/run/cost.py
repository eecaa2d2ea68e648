"""Estimates the cost of a run: counts operations, launches and memory traffic of the network, and the time on a GPU.

One multiply-add counts as two operations. Counted are the matrix products and convolutions; the rest is below a percent.
"""

import heapq
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib import attacks, models
from lib.store import plans
from lib.store.grid import Item, Run

if TYPE_CHECKING:
    import pandas as pd
    from torch.utils.flop_counter import FlopCounterMode

# What a plan takes a GPU to reach, where nothing was measured: guesses, for a card such as an H100. Operations a second in
# float32; bytes a second to and from its memory; seconds that one kernel of a replayed graph takes at least; seconds that the
# processor needs to start drawing a run's batch and start, which are in no graph.
ASSUMED, MEMORY, LAUNCH, DRAW = 1e13, 1.5e12, 2.5e-6, 5e-5
EVALUATED = 500  # images of an evaluation's batch
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


def network(run: Run) -> dict:
    """The arguments of `per_image`."""
    settings = dict(plans.of(run).settings["model"])
    return {"model": settings.pop("name"), **settings}


def _example(model: str, widen_factor: float, device: str = "cpu", **shape: int):
    """The network with initial weights, a random image and a label."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        network = models.build(model, widen_factor, **shape).eval()
        return network, torch.rand(1, *image_shape(model, **shape)), torch.zeros(1, dtype=torch.long)


def _counter() -> "FlopCounterMode":
    from torch.utils.flop_counter import FlopCounterMode  # its import takes long, and most pages count no operations

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
    from convex_adversarial import robust_loss  # only certificates need it

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
    return _training_flops(item) + _evaluation_flops(item) if isinstance(item, Run) else 0.0


def _training_flops(run: Run) -> float:
    image, settings = per_image(**network(run)), plans.of(run).settings
    step = image.training_step
    if "attack" in settings:
        step += settings["attack"]["num_steps"] * image.image_step
    if "certificate" in settings:
        certificate = settings["certificate"]
        boxed = certificate["bounds"] is not None
        step = bounds_per_image(**network(run), eps=certificate["eps"], boxed=boxed, proj=certificate["proj"], training=True)
    return float(settings["training"]["steps"] * settings["training"]["batch_size"] * step)


def _evaluation_flops(run: Run) -> float:
    image, total = per_image(**network(run)), 0
    plan = plans.of(run)
    for name in plan.evaluations():
        resolved = plan.evaluation(name).settings
        threat = resolved.get("threat_model", {"num_steps": 0})
        # The clean prediction and the attacked one; the second attack, on misclassified images alone, is not counted, nor
        # what an early stop saves.
        steps = threat["num_steps"] * threat.get("restarts", 1) * len(resolved.get("eps", [0]))
        each = 2 * image.forward + steps * image.image_step
        for metric in resolved.get("certificate", []):
            boxed = metric != "certified_error_unboxed"
            each += bounds_per_image(**network(run), eps=threat["eps"], boxed=boxed, proj=None, training=False)
        if "ramp" in resolved:
            # PGD three times, one single step, and two Square attacks with three predictions a query; none stops early.
            each = 3 * each + image.image_step + 6 * resolved["ramp"]["queries"] * image.forward
        each *= len(resolved.get("changes", [0]))  # one attack for each of the networks
        if "autoattack" in resolved:
            steps, queries = _autoattack_steps(**resolved["autoattack"])
            each = steps * image.image_step + queries * image.forward
        if "square" in resolved:
            each = 3 * resolved["square"]["queries"] * image.forward  # three predictions a query, as above
        total += sum(resolved["sizes"].values()) * each
    return float(total)


def _autoattack_steps(*, eps: float, iterations: int, targets: int, queries: int) -> tuple[int, int]:
    """Image-steps and queries that AutoAttack spends on an image that withstands it.

    APGD once, APGD and FAB for each target; FAB asks for a prediction at each step besides.
    """
    return iterations * (1 + 2 * targets), iterations * targets + queries


@dataclass(frozen=True)
class Step:
    """What a step asks of a GPU besides operations: kernels, bytes that a batch of any size moves, and bytes an image."""

    launches: int
    fixed: float
    image: float

    def seconds(self, operations: float, images: int, *, members: int = 1, speed: float = ASSUMED) -> float:
        """A step of so many `images` each of `members` networks, `operations` an image: the slowest of the three ceilings."""
        moved = members * (self.fixed + images * self.image)
        return max(self.launches * LAUNCH, members * images * operations / speed, moved / MEMORY)


class _Kernels(TorchDispatchMode):
    """Counts the framework's operations that are no mere views, and the bytes that they read and write."""

    launches, moved = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if not function.is_view and function.namespace == "aten":
            self.launches += 1
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.moved += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


@cache
def steps(model: str, widen_factor: float, **shape: int) -> tuple[Step, Step]:
    """(a step of the attack, a step of training on what it gives), counted on the network's shapes."""
    network, image, label = _example(model, widen_factor, device="meta", **shape)
    one = torch.zeros((), device="meta")

    def attack(images: int, number: int) -> None:
        x, y = image.expand(images, *image.shape[1:]).clone(), label.expand(images).clone()
        with attacks.frozen(network):
            attacks.steps(network, x, y, x, eps=one, step_size=one, num_steps=number, bounds=(0.0, 1.0))

    def train(images: int, number: int) -> None:
        if number:
            x, y = image.expand(images, *image.shape[1:]).clone(), label.expand(images).clone()
            torch.autograd.grad(F.cross_entropy(network.train()(x), y), list(network.parameters()))

    by_kind = []
    for function in (attack, train):
        counts = {}
        for images in (1, 2):
            with _Kernels() as with_step:
                function(images, 1)
            with _Kernels() as without:
                function(images, 0)
            counts[images] = with_step.launches - without.launches, with_step.moved - without.moved
        image_bytes = counts[2][1] - counts[1][1]
        by_kind.append(Step(counts[1][0], counts[1][1] - image_bytes, image_bytes))
    return by_kind[0], by_kind[1]


@cache
def numbers(model: str, widen_factor: float, **shape: int) -> tuple[int, int]:
    """(weights of a network, numbers that a training step keeps of an image until its gradient is known)."""
    network, image, _ = _example(model, widen_factor, device="meta", **shape)

    def kept(images: int) -> int:
        sizes: list[int] = []
        pack, unpack = (lambda tensor: sizes.append(tensor.numel()) or tensor), (lambda tensor: tensor)
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            network.train()(image.expand(images, *image.shape[1:]).clone())
        return sum(sizes)

    weights = sum(parameter.numel() for parameter in network.parameters())
    return weights, kept(2) - kept(1)  # of one more image: the weights are stored once


def makespan(costs: Iterable[float], workers: int) -> float:
    """How long jobs take that so many workers begin one after another, the longest first. 0 for no job."""
    free_at = [0.0] * workers
    for each in sorted(costs, reverse=True):
        heapq.heapreplace(free_at, free_at[0] + each)
    return max(free_at)


def training_seconds(run: Run, *, members: int = 1, speed: float = ASSUMED) -> float:
    """How long a GPU trains so many such runs together: an estimate, from the ceilings above."""
    settings, image = plans.of(run).settings, per_image(**network(run))
    if "certificate" in settings:
        return members * _training_flops(run) / speed
    attack, train = steps(**network(run))
    batch = settings["training"]["batch_size"]
    each = train.seconds(image.training_step, batch, members=members, speed=speed)
    if "attack" in settings:
        each += settings["attack"]["num_steps"] * attack.seconds(image.image_step, batch, members=members, speed=speed)
    # The processor draws the next batches while the device computes.
    return settings["training"]["steps"] * max(each, members * DRAW)


def fused_gain(run: Run, *, members: int, speed: float = ASSUMED) -> float:
    """How many times as fast the training of so many such runs would be, were all steps of an attack one kernel: an estimate.

    Of a kernel that nothing but its operations limits, at the same `speed`. What it would save is launches and traffic.
    """
    settings, image = plans.of(run).settings, per_image(**network(run))
    batch, num_steps = settings["training"]["batch_size"], settings["attack"]["num_steps"]
    fused = max(LAUNCH, members * batch * num_steps * image.image_step / speed)
    rest = steps(**network(run))[1].seconds(image.training_step, batch, members=members, speed=speed)
    each = training_seconds(run, members=members, speed=speed) / settings["training"]["steps"]
    return each / max(fused + rest, members * DRAW)


def evaluation_seconds(run: Run, *, speed: float = ASSUMED) -> float:
    """How long a GPU evaluates a run, as if all of it were steps of the attack in batches of `EVALUATED`: an estimate."""
    image = per_image(**network(run)).image_step
    batches = _evaluation_flops(run) / image / EVALUATED
    return batches * steps(**network(run))[0].seconds(image, EVALUATED, speed=speed)


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
    attacks.pgd(network, x, y, **attack)  # the first call compiles or captures; that time does not count
    steps, began = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - began < seconds:
        attacks.pgd(network, x, y, **attack)  # looks at its result, so the device has finished
        steps += attack["num_steps"]
    return steps * batch_size * per_image(model, widen_factor, **shape).image_step / (time.perf_counter() - began)


def table(exhibits: Mapping[str, Iterable[Item]], device: torch.device, speed: float | None = None) -> "pd.DataFrame":
    """Runs, operations and hours of each exhibit and of all of them, with attacks in float32 and in bfloat16.

    `speed` in operations a second; None measures each network's on `device`. A run that two exhibits share is counted
    with the first.
    """
    import pandas as pd  # only tables need it, and its import is a tenth of the command line's start

    measured = cache(throughput)
    counted: set[str] = set()
    rows = []
    for name, items in exhibits.items():
        runs = [item for item in items if isinstance(item, Run) and item.key not in counted]
        counted |= {item.key for item in runs}
        row = {"exhibit": name, "runs": len(runs), "operations": sum(flops(run) for run in runs)}
        for precision in attacks.PRECISIONS:
            hours = (
                flops(run) / (speed or measured(precision=precision, device=device, **network(run))) / 3600 for run in runs
            )
            row[f"hours, {precision}"] = sum(hours)
        rows.append(row)
    costs = pd.DataFrame(rows)
    costs.loc[len(costs)] = {"exhibit": "all", **costs.drop(columns="exhibit").sum()}
    return costs


def shares_a_gpu(run: Run) -> bool:
    """Whether several such runs should share a GPU; exact bounds, which need the memory, never do."""
    exact = plans.of(run).settings.get("certificate", {"proj": 1})["proj"] is None
    return not exact and per_image(**network(run)).forward < SMALL
