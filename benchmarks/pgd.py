"""Compares `attacks.pgd` with other libraries' PGD: speed, and the robust accuracy that each reaches, in one process.

    make bench                       # installs the peers and runs this with its defaults
    make gpu                         # the same on a GPU, after its tests
    python benchmarks/pgd.py --before ../earlier   # beside the engine of another checkout as well
    python benchmarks/pgd.py --help

Every engine attacks the same trained weights, images and labels from the same δ₀ with the same eps, step and number of
steps. The peers get them as anyone would write the network down: stock layers in the default memory layout; the layout
and the gradient to the pixels are part of what is compared. The memory allocator is set alike for all: it is one
process. Rounds are interleaved (A B C … A B C …), after one warm-up each. In a round an engine attacks for a tenth of a
second, or once where that takes longer. Medians, spreads and ratios to AdverTorch are printed and written to a record,
with the matrix-product ceiling measured in the same rounds.
"""

import copy
import importlib
import logging
import math
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Annotated
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from lib import attacks, data, models, training
from lib.base import layers
from lib.fast import adapters
from lib.fast.vectors import FEATURES
from lib.run import cost, devices
from lib.store import records

ROOT = Path(__file__).resolve().parents[1]
BEFORE = "before"  # the engine of an earlier commit
LEAST = 0.1  # seconds that an engine attacks in a round: a narrow network's attack takes a hundredth of one
# Model, widen factor, data set, eps, step size, and the steps of a timed attack.
CASES = {
    "lenet5-w0.125": ("lenet5", 0.125, "mnist-5000", 0.3, 0.06, 10),
    "lenet5-w0.25": ("lenet5", 0.25, "mnist-5000", 0.3, 0.06, 10),
    "lenet5-w0.5": ("lenet5", 0.5, "mnist-5000", 0.3, 0.06, 10),
    "lenet5-w1": ("lenet5", 1.0, "mnist-5000", 0.3, 0.06, 10),
    "wide_resnet28-w0.25": ("wide_resnet28", 0.25, "colour-patches", 8 / 255, 2 / 255, 5),
    "wide_resnet28-w1": ("wide_resnet28", 1.0, "colour-patches", 8 / 255, 2 / 255, 5),
    "wide_resnet28-w4": ("wide_resnet28", 4.0, "colour-patches", 8 / 255, 2 / 255, 5),
}
Engine = Callable[[nn.Module, Tensor, Tensor, Tensor, dict], Tensor]


def lib_float32(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
    """This book's engine."""
    return attacks.pgd(model, x, y, start=delta, **attack)


def lib_bfloat16(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
    """This book's engine with gradients from a bfloat16 copy of the model."""
    return attacks.pgd(model, x, y, start=delta, precision="bfloat16", **attack)


def plain_loop(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
    """The loop as one writes it down first: the default memory layout, δ kept beside x."""
    eps, step_size = attack["eps"], attack["step_size"]
    delta = (x + delta).clamp(0, 1) - x
    for _ in range(attack["num_steps"]):
        delta.requires_grad_(True)
        loss = F.cross_entropy(model(x + delta), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + step_size * gradient.sign()).clamp(-eps, eps)
        delta = (x + delta).clamp(0, 1) - x
    return x + delta


def advertorch(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
    """The steps of AdverTorch's LinfPGDAttack, parameters frozen as its authors do."""
    adapters.import_advertorch()
    from advertorch.attacks.iterative_projected_gradient import perturb_iterative

    start = (x + delta).clamp(0, 1) - x
    with attacks.frozen(model):
        return perturb_iterative(
            x, y, model, attack["num_steps"], attack["eps"], attack["step_size"], nn.CrossEntropyLoss(reduction="sum"),
            delta_init=start, clip_min=0.0, clip_max=1.0,
        )  # fmt: skip


def torchattacks(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
    """torchattacks' PGD."""
    import torchattacks as peer

    method = peer.PGD(model, eps=attack["eps"], alpha=attack["step_size"], steps=attack["num_steps"])
    with mock.patch.object(torch.Tensor, "uniform_", lambda start, *_: start.copy_(delta)):  # its only draw is δ₀
        return method(x, y)


def foolbox(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
    """Foolbox's LinfPGD, its hook for the random start returning δ₀."""
    import eagerpy as ep
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD

    class FromDelta(LinfPGD):
        def get_random_start(self, x0: ep.Tensor, epsilon: float) -> ep.Tensor:
            return x0 + ep.astensor(delta)

    method = FromDelta(abs_stepsize=attack["step_size"], steps=attack["num_steps"])
    return method.run(PyTorchModel(model, bounds=(0, 1), device=x.device), x, y, epsilon=attack["eps"])


def art(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
    """ART's ProjectedGradientDescent for PyTorch. It takes and returns arrays, as its users have to."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    kind = "gpu" if x.is_cuda else "cpu"
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10, clip_values=(0.0, 1.0), device_type=kind
    )
    method = ProjectedGradientDescentPyTorch(
        classifier, eps=attack["eps"], eps_step=attack["step_size"], max_iter=attack["num_steps"], num_random_init=1,
        batch_size=len(x), verbose=False,
    )  # fmt: skip
    random_sphere = f"{ProjectedGradientDescentPyTorch.__module__}.random_sphere"
    with mock.patch(random_sphere, return_value=delta.flatten(1).cpu().numpy()):
        return torch.from_numpy(np.asarray(method.generate(x.cpu().numpy(), y.cpu().numpy()))).to(x)


def earlier(checkout: Path) -> Engine:
    """The engine of another checkout of this book, an earlier commit's, on its own form of the network.

    Its modules bear the same names as those of this one, and take their place while it runs.
    """
    their_modules: dict[str, ModuleType] = {}
    network: list[tuple[nn.Module, nn.Module]] = []  # ours, and theirs with its weights

    def with_their_modules(call: Callable):
        our_modules = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "lib"}
        sys.modules.update(their_modules)
        sys.path.insert(0, str(checkout))
        try:
            return call()
        finally:
            sys.path.remove(str(checkout))
            their_modules.update({name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "lib"})
            sys.modules.update(our_modules)

    def engine(model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, attack: dict) -> Tensor:
        def run() -> Tensor:
            their_attacks = importlib.import_module("lib.attacks")
            if not network or network[0][0] is not model:
                build = importlib.import_module("lib.models").build
                width = next(width for name, width, *_ in CASES.values() if _same_shapes(build(name, width), model))
                twin = build("lenet5" if isinstance(model, nn.Sequential) else "wide_resnet28", width).eval()
                twin.load_state_dict(model.state_dict())
                network[:] = [(model, twin)]
            return their_attacks.pgd(network[0][1], x, y, start=delta, **attack)

        return with_their_modules(run)

    return engine


def _same_shapes(one: nn.Module, other: nn.Module) -> bool:
    return [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]


ENGINES: dict[str, tuple[Engine, str | None]] = {
    "lib, float32": (lib_float32, None),
    "lib, bfloat16": (lib_bfloat16, None),
    "plain loop": (plain_loop, None),
    "AdverTorch": (advertorch, "advertorch"),
    "torchattacks": (torchattacks, "torchattacks"),
    "Foolbox": (foolbox, "foolbox"),
    "ART": (art, "adversarial-robustness-toolbox"),
}


def installed(package: str | None) -> str | None:
    """The version of `package`, "" for none needed, None where it is not installed."""
    if package is None:
        return ""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def trained(name: str, device: torch.device) -> tuple[nn.Module, data.ImageSet]:
    """A network trained briefly by PGD on a built-in set, so that robust accuracies are neither 0 nor 1."""
    model_name, width, source, eps, _, _ = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(model_name, width).to(device)
    images = data.load(source, "train")
    training.train(
        model, images.batch(device), images.labels.to(device), optimizer="adam", lr=0.002, schedule="one-cycle", weight_decay=0,
        steps=150, batch_size=64, seed=0, description=f"training {name}",
        attack={"eps": eps / 2, "step_size": eps / 3, "num_steps": 2, "warmup": 0.3},
    )  # fmt: skip
    return model, data.load(source, "test")


def stock(model: nn.Module) -> nn.Module:
    """The same network as anyone would write it down: stock layers, the default memory layout, in eval mode."""
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, (layers.PixelConv2d, layers.Shortcut)):
            ours = layer.state_dict()
            conv = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias="bias" in ours
            )
            conv.load_state_dict(ours)
            plain.set_submodule(name, conv.to(layer.weight.device))
    return plain.eval()


def ceiling(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a square matrix product, of a size that keeps the device busy: 1024² is too small for a GPU."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.rand(size, size, device=device) * scale for scale in (1, 2 / size))  # their products stay of one size
    a, b = a.to(dtype), b.to(dtype)
    (a @ b).sum().item()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.3:
        a = a @ b
        count += 1
        if count % 8 == 0:
            a.sum().item()
    a.sum().item()
    return 2 * size**3 * count / (time.perf_counter() - start)


def timed(attack: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float]:
    """(the adversarial images, attacks a second): as many attacks as last `LEAST` seconds, at least one."""
    count, start = 0, time.perf_counter()
    while True:
        adversarial = attack()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        count += 1
        if (seconds := time.perf_counter() - start) >= LEAST:
            return adversarial, count / seconds


def measure(
    name: str, batch: int, rounds: int, device: torch.device, trained_model: tuple, seconds: float = math.inf
) -> list[dict]:
    """One row an engine: image-steps a second in each round, and what the attack reached. Two rounds at least, in `seconds`."""
    deadline = time.monotonic() + seconds
    model_name, width, _, eps, step_size, num_steps = CASES[name]
    model, images = trained_model
    plain = stock(model)
    repeat = -(-batch // len(images))
    x = images.batch(device).repeat(repeat, 1, 1, 1)[:batch]
    y = images.labels.to(device).repeat(repeat)[:batch]
    delta = attacks.random_delta(x, eps, torch.Generator(device).manual_seed(0))
    attack = {"eps": eps, "step_size": step_size, "num_steps": num_steps}
    flops = cost.per_image(model_name, width).image_step

    rates: dict[str, list[float]] = {}
    outcomes = {}
    ceilings: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    engines = {label: engine for label, (engine, package) in ENGINES.items() if installed(package) is not None}
    if device.type == "cpu" and not {"avx512bf16", "amx-bf16"} & {name for name, present in FEATURES.items() if present}:
        engines.pop("lib, bfloat16")  # a processor without bfloat16 emulates it, some ten times as slow as float32
    for i in range(rounds + 1):
        if i > 2 and time.monotonic() > deadline:
            break
        for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            ceilings[precision].append(ceiling(dtype, device))
        for label, engine in engines.items():
            attacked = model if label.startswith(("lib", BEFORE)) else plain
            adversarial, rate = timed(partial(engine, attacked, x, y, delta, attack), device)
            if i == 0:
                with torch.no_grad(), attacks.frozen(model):
                    robust = (model(adversarial).argmax(1) == y).double().mean().item()
                outcomes[label] = {"robust_accuracy": robust, "max_delta": (adversarial - x).abs().max().item()}
            else:
                rates.setdefault(label, []).append(batch * num_steps * rate)
    rows = []
    for label, speeds in rates.items():
        low, _, high = statistics.quantiles(speeds, n=4)
        precision = "bfloat16" if "bfloat16" in label else "float32"
        rows.append(
            {
                "case": name, "batch": batch, "engine": label, "version": installed(ENGINES[label][1]), "num_steps": num_steps,
                "image_steps_per_second": statistics.median(speeds), "quartiles": [low, high], "rounds": len(speeds),
                "ratio_to_advertorch": statistics.median(a / b for a, b in zip(speeds, rates["AdverTorch"], strict=True)),
                "ratio_to_before": statistics.median(a / b for a, b in zip(speeds, rates.get(BEFORE, speeds), strict=True))
                if BEFORE in rates
                else None,
                "ratio_to_plain_loop": statistics.median(a / b for a, b in zip(speeds, rates["plain loop"], strict=True)),
                "share_of_ceiling": statistics.median(speeds) * flops / statistics.median(ceilings[precision][1:]),
                **outcomes[label],
            }
        )  # fmt: skip
        row = rows[-1]
        faster = f"×{row['ratio_to_before']:.2f} before  " if row["ratio_to_before"] else ""
        typer.echo(
            f"{name:20} {batch:5} {label:14} {row['image_steps_per_second']:9.0f}/s  "
            f"{faster}×{row['ratio_to_advertorch']:.2f} AdverTorch  ×{row['ratio_to_plain_loop']:.2f} plain  "
            f"{row['share_of_ceiling']:4.0%} of ceiling  robust {row['robust_accuracy']:.3f}  max|δ| {row['max_delta']:.6f}"
        )
    return rows


def main(
    case: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; may be repeated.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Images an attack; may be repeated. Default: 50, 128.")] = None,
    rounds: int = 7,
    minutes: Annotated[
        float, typer.Option(help="Fewer rounds, but two, where they would take longer; what begins after that is left out.")
    ] = 60.0,
    device: str = "auto",
    threads: Annotated[int, typer.Option(help="Of the processor; one is what a run has that shares the machine.")] = 1,
    before: Annotated[
        Path | None, typer.Option(help="A checkout of an earlier commit, whose engine is measured as well.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The record; default: results/benchmarks/pgd-cpu.json, -cpu-N-threads.json or -cuda.json."),
    ] = None,
) -> None:
    """Measure every engine that is installed on every case and batch size."""
    unknown = set(case or []) - set(CASES)
    if unknown or rounds < 2:
        raise typer.BadParameter(f"unknown case {', '.join(unknown)}" if unknown else f"rounds must be ≥ 2, given {rounds}")
    if threads < 1:
        raise typer.BadParameter(f"threads must be ≥ 1, given {threads}")
    commit = None
    if before is not None:
        if not (before / "lib" / "attacks.py").exists():
            raise typer.BadParameter(f"{before} is no checkout of this book: it has no lib/attacks.py")
        ENGINES[BEFORE] = (earlier(before.resolve()), None)
        git = ["git", "-C", str(before), "rev-parse", "--short=12", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    torch.set_num_threads(threads)
    logging.getLogger("art").setLevel(logging.ERROR)
    torch_device = devices.device(device)
    rows = []
    cases = case or [name for name in CASES if torch_device.type == "cuda" or not name.endswith("-w4")]
    sizes = batch or (50, 128)
    deadline, remaining = time.monotonic() + 60 * minutes, len(cases) * len(sizes)
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")  # the peers', about themselves
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for name in cases:
            trained_model = None
            for size in sizes:
                if rows and time.monotonic() > deadline:
                    typer.echo(f"{name:20} {size:5} left out: the {minutes:g} minutes are over")
                    continue
                trained_model = trained_model or trained(name, torch_device)
                rows += measure(name, size, rounds, torch_device, trained_model, (deadline - time.monotonic()) / remaining)
                remaining -= 1
    suffix = f"-{threads}-threads" if torch_device.type == "cpu" and threads > 1 else ""
    target = output or ROOT / "results" / "benchmarks" / f"pgd-{torch_device.type}{suffix}.json"
    records.write_benchmark(target, rows, torch_device, before=commit, platform=platform.platform())
    typer.echo(f"written to {target}")


if __name__ == "__main__":
    typer.run(main)
