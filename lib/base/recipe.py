"""Turns the settings of a training into its learning rate, optimizer, augmentation and attack at each step."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "n c h w"]

OPTIMIZERS = ("adam", "sgd")
AUGMENTATIONS = ("none", "crop-flip")


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
        rates = [(int(start), rate) for start, rate in schedule.items() if step >= int(start)]
        return max(rates)[1] if rates else lr
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


def optimizer_of(
    name: str, model: nn.Module, lr: float, weight_decay: float, momentum: float, *, captured: bool = False
) -> torch.optim.Optimizer:
    """The optimizer called `name`, of the model's weights; ValueError, listing the names, for any other.

    `captured`: for a graph, so the rate is a tensor, whose value may change, and the whole update one kernel.
    """
    options = {"lr": lr, "weight_decay": weight_decay}
    if captured:
        options |= {"lr": torch.tensor(lr, device=next(model.parameters()).device), "fused": True}
    if name == "adam":  # its weight decay is coupled, as PyTorch code of 2019 had it
        return torch.optim.Adam(model.parameters(), capturable=captured, **options)
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=momentum, **options)
    raise ValueError(f"unknown optimizer {name!r}; allowed: {', '.join(OPTIMIZERS)}")


def adversary(attack: dict, step: int, steps: int) -> dict:
    """The keyword arguments of `pgd` at `step`: eps and step size grow from 0 over the first `warmup` share of the steps."""
    keywords = {name: value for name, value in attack.items() if name not in ("norm", "warmup")}
    share = min(1.0, step / (attack["warmup"] * steps)) if attack.get("warmup") else 1.0
    return {**keywords, "eps": attack["eps"] * share, "step_size": attack["step_size"] * share}
