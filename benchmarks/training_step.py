"""Compares the compiled training step of narrow wide ResNets with the framework's: seconds a step, in one process.

    python benchmarks/training_step.py        # standard and PGD training as scale laptop has them

Every engine takes the same steps from the same initial weights, on the same batches, with the same optimizer. `compiled` is
what `training.train` takes. `channels last` is the framework's step as `training.train` takes it for all other networks.
`plain` is the framework's in the default memory layout. The attack of PGD training is the compiled one each time. Rounds are
interleaved. Medians and ratios are printed and written to a record, with the largest difference of the losses.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from lib import attacks, models
from lib.base.recipe import adversary
from lib.fast import training_step
from lib.run import devices
from lib.store import plans, records
from lib.store.grid import Run

ROOT = Path(__file__).resolve().parents[1]
STEPS = 5  # of an engine in a round
Step = Callable[[Tensor, Tensor], Tensor]  # of images and labels; the loss, the gradients left in the parameters


def compiled(model: nn.Module, x: Tensor) -> Step:
    """This book's."""
    step = training_step.of(model, x)
    if step is None:
        raise typer.BadParameter("this processor has no compiled training step; the comparison needs one with AVX2")
    return lambda images, labels: step(images, labels)[0]


def framework(model: nn.Module, memory_format: torch.memory_format) -> Step:
    """PyTorch's, with weights and images in a memory layout."""
    model.to(memory_format=memory_format)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(model(images.contiguous(memory_format=memory_format)), labels)
        model.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    return step


ENGINES: dict[str, Callable[[nn.Module, Tensor], Step]] = {
    "compiled": compiled,
    "channels last": lambda model, x: framework(model, torch.channels_last),
    "plain": lambda model, x: framework(model, torch.contiguous_format),
}


def measured(widen_factor: float, kind: str, batch_size: int, rounds: int) -> list[dict]:
    """A row for each engine: seconds a step, and the ratio to the framework's, channels last, in the same rounds."""
    settings = plans.of(Run("cifar10", "original", "wide_resnet28", widen_factor, kind, 50000, "default", 0, "laptop")).settings
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.rand(batch_size, 3, 32, 32, generator=generator), torch.randint(10, (batch_size,), generator=generator))
        for _ in range(STEPS)
    ]
    trainings = {}
    for name, engine in ENGINES.items():
        torch.manual_seed(0)
        model = models.build("wide_resnet28", widen_factor).train()
        trainings[name] = model, engine(model, batches[0][0]), torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    losses: dict[str, list[float]] = {name: [] for name in trainings}
    for number in range(rounds + 1):  # the first round warms up
        for name, (model, step, optimizer) in trainings.items():
            began = time.perf_counter()
            for x, y in batches:
                if "attack" in settings:
                    x = attacks.pgd(model, x, y, random_start=False, **_without_start(settings["attack"]))
                    model.train()
                losses[name].append(float(step(x, y)))
                optimizer.step()
            if number:
                seconds[name].append((time.perf_counter() - began) / STEPS)
    ratios = {name: [a / b for a, b in zip(seconds["channels last"], each, strict=True)] for name, each in seconds.items()}
    first = [losses[name][0] for name in trainings]
    return [
        {
            "case": f"wide_resnet28-w{widen_factor:g}", "batch": batch_size, "training": kind, "engine": name, "rounds": rounds,
            "seconds_a_step": statistics.median(seconds[name]), "ratio_to_framework": statistics.median(ratios[name]),
            "first_losses_apart": max(first) - min(first),
        }
        for name in trainings
    ]  # fmt: skip


def _without_start(attack: dict) -> dict:
    """The attack of a training once its budget has grown, from the image itself."""
    return {name: value for name, value in adversary(attack, 1, 1).items() if name != "random_start"}


def main(
    rounds: int = 15,
    batch_size: int = 128,
    widen_factor: Annotated[list[float] | None, typer.Option(help="May be repeated. Default: .125, .25 and .5.")] = None,
    output: Annotated[Path, typer.Option(help="The record.")] = ROOT / "results" / "benchmarks" / "training-step.json",
) -> None:
    """Time the steps, print a line for each engine, and write the record."""
    if rounds < 1:
        raise typer.BadParameter(f"rounds must be ≥ 1, given {rounds}")
    torch.set_num_threads(1)
    devices.device("cpu")
    rows = []
    for factor in widen_factor or [0.125, 0.25, 0.5]:
        for kind in ("standard", "pgd"):
            rows += measured(factor, kind, batch_size, rounds)
            for row in rows[-len(ENGINES) :]:
                typer.echo(
                    f"{row['case']}, {kind}: {row['engine']} {1000 * row['seconds_a_step']:.0f} ms a step, "
                    f"{row['ratio_to_framework']:.2f} times the framework's speed"
                )
    records.write_benchmark(output, rows, torch.device("cpu"))


if __name__ == "__main__":
    typer.run(main)
