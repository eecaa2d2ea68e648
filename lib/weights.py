"""The final weights of narrow networks, kept beside the records in half precision, so that a doubter can attack our models.

model = weights.load(grid.Run.parse("mnist/original/lenet5-w0.25/pgd/n60000/default/seed0", "laptop"))
"""

import hashlib
from pathlib import Path

import torch
from torch import nn

from lib import grid, models, results, training
from lib.grid import Run


def path(run: Run) -> Path:
    """The file of the kept weights of `run`: `RESULTS_DIR/weights/<scale>/<key>.safetensors`."""
    return results.folder() / "weights" / run.scale / f"{run.key}.safetensors"


def digest(model: nn.Module) -> str:
    """12 hexadecimal digits that tell these weights from others, bit for bit, on whatever device they lie."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def keep(run: Run, model: nn.Module) -> bool:
    """Keep the weights, if they are of a run whose weights are kept and not kept already. Returns whether they were written.

    Numbers are rounded to half precision; the counts of batch normalisation, which no output depends on, are left as they are.
    """
    if not grid.keeps_weights(run):
        return False
    weights = digest(model)
    if _is_kept(run, weights):
        return False
    halves = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    training.save_tensors(path(run), halves, {"key": run.key, "scale": run.scale, "weights": weights})
    return True


def _is_kept(run: Run, weights: str) -> bool:
    try:
        return training.load_tensors(path(run), "cpu")[1].get("weights") == weights
    except training.CheckpointError:
        return False


def load(run: Run) -> nn.Module:
    """The trained network of `run`, in evaluation mode, float32, its weights rounded to half precision.

    Its accuracies differ from the recorded ones by that rounding. FileNotFoundError where no weights of it are kept;
    RecordError where they are not those that the record is of, or not this network's.
    """
    file = path(run)
    if not file.exists():
        raise FileNotFoundError(f"no weights of {run} are kept ({file} is missing); python -m lib run trains it")
    try:
        tensors, about = training.load_tensors(file, "cpu")
    except training.CheckpointError as error:
        raise results.RecordError(str(error)) from None
    if about.get("weights") != results.read(run, "training").get("weights"):
        raise results.RecordError(f"{file} is of another training than the record of {run}; delete it, or restore both")
    with torch.random.fork_rng(devices=[]):
        model = models.build(**grid.settings(run)["model"])
    if what := _unlike(tensors, model.state_dict()):
        raise results.RecordError(f"{file} does not hold the weights of {run} ({what}); delete it, or restore it")
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in tensors.items()})
    return model.eval()


def _unlike(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> str | None:
    """What tells the tensors of a file from those of the network, in words; None where nothing does."""
    for name in sorted({*tensors, *expected}):
        if name not in tensors or name not in expected:
            return f"it lacks {name}" if name in expected else f"{name} is unknown"
        found, own = tensors[name], expected[name]
        allowed = (torch.float16, torch.float32) if own.is_floating_point() else (own.dtype,)
        if found.shape != own.shape or found.dtype not in allowed:
            return f"{name} is {found.dtype} of shape {tuple(found.shape)}"
        if not found.isfinite().all():
            return f"{name} is not finite"
    return None
