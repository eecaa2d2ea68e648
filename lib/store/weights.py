"""Keeps the final weights of narrow networks beside the records, so that anyone can attack our models again.

model = weights.load(grid.Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop"))
"""

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from lib import models
from lib.base import checkpoints
from lib.store import plans, records
from lib.store.grid import Run


def path(run: Run) -> Path:
    """The file of the kept weights of `run`: `RESULTS_DIR/weights/<scale>/<key>.safetensors`."""
    return records.folder() / "weights" / run.scale / f"{run.key}.safetensors"


def digest(model: nn.Module) -> str:
    """12 hexadecimal digits that distinguish these weights from others, bit for bit, on every device."""
    sha256 = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        sha256.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()[:12]


def keep(run: Run, model: nn.Module) -> bool:
    """Keep the weights, if they are of a run whose weights are kept and not kept already. Returns whether they were written.

    They are kept bit for bit. Half precision would do for predictions, not for attacks: it rounds weights below 3e-8 to 0, and
    of some networks those are all that most pixels' gradients have.
    """
    if not plans.of(run).keeps_weights:
        return False
    weights = digest(model)
    if _is_kept(run, weights):
        return False
    checkpoints.save_tensors(path(run), model.state_dict(), {"key": run.key, "scale": run.scale, "weights": weights})
    return True


def _tiny(weights: torch.Tensor) -> torch.Tensor:
    """Those that half precision rounds to 0: at most 2**-25 in size."""
    return (weights.half() == 0) & (weights != 0)


# What `changed` can do to each tensor of weights.
CHANGES = {
    "as_trained": lambda w: w,
    "half": lambda w: w.half().float(),
    "tiny_zero": lambda w: torch.where(_tiny(w), torch.zeros_like(w), w),
    "half_but_tiny": lambda w: torch.where(_tiny(w), w, w.half().float()),
    "tiny_shrunk": lambda w: torch.where(_tiny(w), w * 1e-6, w),
    "tiny_flipped": lambda w: torch.where(_tiny(w), -w, w),
}


def changed(model: nn.Module, change: str) -> nn.Module:
    """A copy of a float32 `model` with its weights changed: one of `CHANGES`. ValueError, naming them, for another.

    `half`: rounded to half precision. The others part what that does: its small numbers have no room below 6e-8, so `tiny_zero`
    sets to 0 what it would and leaves all else, `half_but_tiny` is the other way about, `tiny_shrunk` and `tiny_flipped` take a
    millionth of the tiny ones and turn their signs.
    """
    if change not in CHANGES:
        raise ValueError(f"unknown change {change!r}; allowed: {', '.join(CHANGES)}")
    changed = copy.deepcopy(model)
    values = {name: CHANGES[change](w) if w.is_floating_point() else w for name, w in changed.state_dict().items()}
    changed.load_state_dict(values)
    return changed


def _is_kept(run: Run, weights: str) -> bool:
    try:
        tensors, about = checkpoints.load_tensors(path(run), "cpu")
    except checkpoints.CheckpointError:
        return False
    return about.get("weights") == weights and not _is_rounded(tensors)


def _is_rounded(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether they are of the first edition, which kept half precision."""
    return any(value.dtype == torch.float16 for value in tensors.values())


def is_rounded(run: Run) -> bool:
    """Whether the kept weights of `run` were rounded to half precision; FileNotFoundError where none are kept."""
    return _is_rounded(_read(run)[0])


def _read(run: Run) -> tuple[dict[str, torch.Tensor], dict]:
    file = path(run)
    if not file.exists():
        raise FileNotFoundError(f"no weights of {run} are kept ({file} is missing); python -m lib run trains it")
    try:
        return checkpoints.load_tensors(file, "cpu")
    except checkpoints.CheckpointError as error:
        raise records.RecordError(str(error)) from None


def load(run: Run) -> nn.Module:
    """The trained network of `run`, in evaluation mode, float32.

    Weights that were kept in half precision (`is_rounded`) are those of training to that rounding. FileNotFoundError where no
    weights of it are kept; RecordError where they are not those that the record is of, or not this network's.
    """
    tensors, about = _read(run)
    if about.get("weights") != records.read(run, "training").get("weights"):
        raise records.RecordError(f"{path(run)} is of another training than the record of {run}; delete it, or restore both")
    with torch.random.fork_rng(devices=[]):
        model = models.build(**plans.of(run).network)
    if what := _unlike(tensors, model.state_dict()):
        raise records.RecordError(f"{path(run)} does not hold the weights of {run} ({what}); delete it, or restore it")
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in tensors.items()})
    if not _is_rounded(tensors) and digest(model) != about["weights"]:
        raise records.RecordError(f"{path(run)} is damaged: its weights are not those that it names; restore it, or delete it")
    return model.eval()


def _unlike(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> str | None:
    """What tells the tensors of a file from those of the network, in words; None where nothing does."""
    for name in sorted({*tensors, *expected}):
        if name not in tensors or name not in expected:
            return f"it lacks {name}" if name in expected else f"{name} is unknown"
        stored, own = tensors[name], expected[name]
        allowed = (torch.float16, torch.float32) if own.is_floating_point() else (own.dtype,)
        if stored.shape != own.shape or stored.dtype not in allowed:
            return f"{name} is {stored.dtype} of shape {tuple(stored.shape)}"
        if not stored.isfinite().all():
            return f"{name} is not finite"
    return None
