"""One training loop. Standard and PGD training differ by the example the model is given: the image, or its attack.

`training.train(model, x, y, **settings["training"], attack=settings.get("attack"), checkpoint=path)`
"""

import glob
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from lib import attacks, checks

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]

OPTIMIZERS = ("adam", "sgd")
AUGMENTATIONS = ("none", "crop-flip")
Curve = dict[str, list[int | float]]  # step, loss, accuracy
CURVE_POINTS = 100
CHECKPOINT_SECONDS = 60.0
# A training whose last tenth does no better than this many times guessing has failed: it never left chance.
NO_BETTER_THAN_CHANCE = 1.2


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read."""


class TrainingFailedError(ArithmeticError):
    """The loss became non-finite, or the model never left chance: no result, but a curve to look at."""

    def __init__(self, reason: str, curve: Curve, seconds: float) -> None:
        super().__init__(reason)
        self.reason, self.curve, self.seconds = reason, curve, seconds


@dataclass(frozen=True)
class Training:
    """What is known of a training besides the weights."""

    curve: Curve  #: step, loss, accuracy
    seconds: float  #: over all the processes that took part


def learning_rate(step: int, *, lr: float, schedule: str | dict[str, float], steps: int) -> float:
    """The learning rate at `step`, counted from 0 to `steps` - 1.

    `schedule`: `constant`; `one-cycle`, a cosine from lr/25 up to lr over the first 30% of the steps and down to
    lr/250,000 (Smith and Topin, 2018, with torch's OneCycleLR's defaults); or a mapping from a step to the rate from there on.
    """
    if schedule == "constant":
        return lr
    if schedule == "one-cycle":
        peak = 0.3 * steps - 1
        if step <= peak:
            low, high, phase = lr / 25, lr, step / peak
        else:
            low, high, phase = lr, lr / 25 / 1e4, (step - peak) / (steps - 1 - peak)
        return high + (low - high) / 2 * (1 + math.cos(math.pi * phase))
    if isinstance(schedule, dict):
        passed = [(int(start), rate) for start, rate in schedule.items() if step >= int(start)]
        return max(passed)[1] if passed else lr
    raise ValueError(f"unknown schedule {schedule!r}; allowed: constant, one-cycle, or a mapping from steps to rates")


def augmented(x: Images, generator: torch.Generator) -> Images:
    """Each image reflect-padded by 4 pixels, cropped at random to its size, and mirrored with probability 1/2."""
    n, _, height, width = x.shape
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect")
    top, left = (torch.randint(9, (n, 1), generator=generator, device=x.device) for _ in range(2))
    mirror = torch.rand(n, 1, generator=generator, device=x.device) < 0.5
    rows = top + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    columns = left + torch.where(mirror, columns.flip(0), columns)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _optimizer(name: str, model: nn.Module, lr: float, weight_decay: float, momentum: float) -> torch.optim.Optimizer:
    if name == "adam":  # its weight decay is coupled, as PyTorch code of 2019 had it
        return torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay, momentum=momentum)
    raise ValueError(f"unknown optimizer {name!r}; allowed: {', '.join(OPTIMIZERS)}")


def adversary(attack: dict, step: int, steps: int) -> dict:
    """The keyword arguments of `pgd` at `step`: eps and step size grow from 0 over the first `warmup` share of the steps."""
    keywords = {name: value for name, value in attack.items() if name not in ("norm", "warmup")}
    share = min(1.0, step / (attack["warmup"] * steps)) if attack.get("warmup") else 1.0
    return {**keywords, "eps": attack["eps"] * share, "step_size": attack["step_size"] * share}


def train(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    optimizer: str,
    lr: float,
    schedule: str | dict[str, float],
    weight_decay: float,
    steps: int,
    batch_size: int,
    seed: int,
    momentum: float = 0.0,
    augment: str = "none",
    attack: dict | None = None,
    robust_loss: Callable | None = None,
    checkpoint: Path | None = None,
    every: float | None = None,
    description: str = "training",
) -> "Training":
    """Train `model` in place on images in [0, 1] and labels, all on the model's device.

    - `attack` None is standard training; else the settings of the attack crafted on each batch (`pgd`'s keywords, and
      `warmup`, the share of the steps over which eps grows from 0). PGD training sees adversarial images only; the
      attack is crafted in eval mode (Appendix B.1, Madry et al., 2017).
    - `robust_loss`, instead of the cross entropy: a function of (model, images, labels, share of the steps done,
      generator) that gives (mean loss, whether each image counts as correct). It excludes `attack`.
    - `steps` batches of `batch_size`, drawn without replacement within an epoch. The loss is the mean cross entropy.
    - `seed` decides batches, augmentation and the attacks' starts: same seed and device, same weights.
    - `checkpoint`: a file written every `every` seconds (by default `CHECKPOINT_SECONDS`). If the file
      exists, training continues from it, bit for bit.

    The curve has up to 100 points: `step`, `loss` and `accuracy` (of the training batches since the last point).
    Raises ValueError for unknown settings, CheckpointError for a file that cannot be read, and TrainingFailedError for a
    non-finite loss, naming the step, or a model that ends at chance.
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {augment!r}; allowed: {', '.join(AUGMENTATIONS)}")
    checks.images(x)
    checks.labels(y, x)
    steps = checks.whole("steps", steps, 1)
    if not 1 <= batch_size <= len(x):
        raise ValueError(f"batch_size must be from 1 to the {len(x)} images there are, given {batch_size}")
    if attack is not None and robust_loss is not None:
        raise ValueError("attack and robust_loss exclude each other, given both")
    with attacks.frozen(model):
        checks.labels(y, x, attacks.classes_of(model, x, y))
    every = CHECKPOINT_SECONDS if every is None else every
    algorithm = _optimizer(optimizer, model, lr, weight_decay, momentum)
    generator = torch.Generator(x.device).manual_seed(seed)
    curve: Curve = {"step": [], "loss": [], "accuracy": []}
    batches = len(x) // batch_size  # an epoch's; the rest of the images wait for the next shuffle
    order = None
    first, seconds = 0, 0.0
    # Sums since the last point of the curve, on the device: loss and number of correct predictions.
    sums = torch.zeros(2, dtype=torch.float64, device=x.device)
    if checkpoint is not None and checkpoint.exists():
        first, seconds, order, sums, curve = _resume(checkpoint, model, algorithm, generator, len(x), steps)
    points = {round((i + 1) * steps / CURVE_POINTS) for i in range(CURVE_POINTS)}

    bar = tqdm(total=steps, initial=first, desc=description, unit="step", mininterval=1.0, dynamic_ncols=True)
    saved = time.monotonic()
    began = saved - seconds
    try:
        for step in range(first, steps):
            if step % batches == 0:
                order = torch.randperm(len(x), generator=generator, device=x.device)
            chosen = order[step % batches * batch_size :][:batch_size]
            batch, labels = x[chosen], y[chosen]
            if augment == "crop-flip":
                batch = augmented(batch, generator)
            for group in algorithm.param_groups:
                group["lr"] = learning_rate(step, lr=lr, schedule=schedule, steps=steps)
            if attack is not None:
                try:
                    batch = attacks.pgd(model, batch, labels, generator=generator, **adversary(attack, step, steps))
                except FloatingPointError as error:
                    raise TrainingFailedError(f"step {step}: {error}", curve, time.monotonic() - began) from None
            model.train()
            batch = batch.contiguous(memory_format=torch.channels_last)
            if robust_loss is None:
                logits = model(batch)
                loss, correct = F.cross_entropy(logits, labels), logits.argmax(1) == labels
            else:
                loss, correct = robust_loss(model, batch, labels, step / steps, generator)
            algorithm.zero_grad(set_to_none=True)
            loss.backward()
            algorithm.step()
            sums += torch.stack([loss.detach(), correct.float().mean()])
            if step + 1 in points:
                since = step + 1 - (curve["step"][-1] if curve["step"] else 0)
                mean_loss, accuracy = (sums / since).tolist()
                if not math.isfinite(mean_loss):
                    reason = f"non-finite loss between steps {step + 1 - since} and {step}"
                    raise TrainingFailedError(reason, curve, time.monotonic() - began)
                for name, value in (("step", step + 1), ("loss", mean_loss), ("accuracy", accuracy)):
                    curve[name].append(value)
                sums.zero_()
                bar.set_postfix(loss=f"{mean_loss:.3f}", accuracy=f"{accuracy:.1%}", refresh=False)
            bar.update()
            if checkpoint is not None and time.monotonic() - saved > every:
                about = {"step": step + 1, "seconds": time.monotonic() - began, "curve": curve}
                _save(checkpoint, model, algorithm, {"generator": generator.get_state(), "order": order, "sums": sums}, about)
                saved = time.monotonic()
    finally:
        bar.close()
    model.eval()
    last = curve["accuracy"][-max(1, len(curve["accuracy"]) // 10) :]
    chance = y.bincount().max().item() / len(y)
    if sum(last) / len(last) < NO_BETTER_THAN_CHANCE * chance:
        reason = f"the model ends at chance: {sum(last) / len(last):.1%} on its training batches, {chance:.1%} by guessing"
        raise TrainingFailedError(reason, curve, time.monotonic() - began)
    return Training(curve, time.monotonic() - began)


def _save(path: Path, model: nn.Module, algorithm: torch.optim.Optimizer, loop: dict[str, Tensor], about: dict) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, slots in algorithm.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items() if value is not None}
    # A training that diverges is recorded as failed, of its own loss; the last checkpoint stays a good one.
    if not _not_finite(tensors | loop):
        save_tensors(path, tensors | loop, about)


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    return [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]


def _check_checkpoint(tensors: dict[str, Tensor], about: dict, model: nn.Module, algorithm, images: int, steps: int) -> None:
    """KeyError or ValueError, of one line, unless this is a whole checkpoint of `model` before the last of its steps."""
    if found := _not_finite(tensors):
        raise ValueError(f"{found[0]} is not finite")
    slots = ("step", "exp_avg", "exp_avg_sq") if isinstance(algorithm, torch.optim.Adam) else ("momentum_buffer",)
    if isinstance(algorithm, torch.optim.SGD) and not algorithm.defaults["momentum"]:
        slots = ()
    expected = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, (_, parameter) in enumerate(model.named_parameters()):
        expected |= {f"optimizer.{index}.{slot}": torch.zeros(()) if slot == "step" else parameter for slot in slots}
    for name, value in expected.items():
        if (tensors[name].shape, tensors[name].dtype) != (value.shape, value.dtype):
            raise ValueError(f"{name} is {tensors[name].dtype} of shape {tuple(tensors[name].shape)}")
    if unknown := sorted(tensors.keys() - expected.keys() - {"generator", "order", "sums"}):
        raise ValueError(f"{unknown[0]} is unknown")
    if not 1 <= about["step"] <= steps:
        raise ValueError(f"step {about['step']} of {steps}")
    if not torch.equal(tensors["order"].sort().values, torch.arange(images)):
        raise ValueError(f"the order of its batches is not one of {images} images")
    if tensors["sums"].shape != (2,) or len({len(about["curve"][name]) for name in ("step", "loss", "accuracy")}) != 1:
        raise ValueError("its curve is not whole")


def _resume(path, model, algorithm, generator, images: int, steps: int) -> tuple[int, float, Tensor, Tensor, dict]:
    tensors, about = load_tensors(path, "cpu")
    device = next(model.parameters()).device
    try:
        _check_checkpoint(tensors, about, model, algorithm, images, steps)
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = value
        algorithm.load_state_dict({"state": slots, "param_groups": algorithm.state_dict()["param_groups"]})
        generator.set_state(tensors["generator"])
        return about["step"], about["seconds"], tensors["order"].to(device), tensors["sums"].to(device), about["curve"]
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a checkpoint of this training ({reason}); delete it to start again") from None


def save_tensors(path: Path, tensors: dict[str, Tensor], about: dict) -> None:
    """Write tensors and a JSON-able `about` as safetensors, atomically: the file is the old one or the whole new one.

    With a digest of both, by which `load_tensors` knows a file that was altered. What a killed process left is removed: to be
    called by the only process that writes `path`.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One entry: the format writes several in any order, and the same weights are to give the same file.
    metadata = {"signed": f"{_digest(tensors, json.dumps(about))} {json.dumps(about)}"}
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
            left.unlink(missing_ok=True)
        save_file(tensors, part, metadata)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(f"cannot write {path}: {error}") from None


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    found = hashlib.sha256(about.encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def load_tensors(path: Path, device: torch.device | str) -> tuple[dict[str, Tensor], dict]:
    """What `save_tensors` wrote. CheckpointError for a file that is not one, is truncated or was altered.

    Earlier versions wrote the digest beside `about`, or none; a file without one is believed.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        if metadata.keys() not in ({"signed"}, {"about", "digest"}, {"about"}):
            raise ValueError("it was not written here")
        if "signed" in metadata:
            digest, _, about = metadata["signed"].partition(" ")
        else:
            digest, about = metadata.get("digest"), metadata["about"]
        if digest is not None and digest != _digest(tensors, about):
            raise ValueError("it was altered: its digest is another")
        return {name: value.to(device) for name, value in tensors.items()}, json.loads(about)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint ({error}); delete it to start again") from None
