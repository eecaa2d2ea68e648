"""Writes and reads checkpoints of a training. A file is written whole or not at all, and its digest shows later changes."""

import glob
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

from lib.base import files

Curve = dict[str, list[int | float]]  # step, loss, accuracy


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read."""


def slot_names(algorithm: torch.optim.Optimizer) -> tuple[str, ...]:
    """The names of the tensors that the optimizer keeps for each weight."""
    if isinstance(algorithm, torch.optim.Adam):
        return ("step", "exp_avg", "exp_avg_sq")
    return ("momentum_buffer",) if algorithm.defaults["momentum"] else ()


def slots_of(algorithm: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """The optimizer's state by parameter, zeros where there was no gradient yet: its first step does the same with them."""
    weights, state, names = algorithm.param_groups[0]["params"], algorithm.state_dict()["state"], slot_names(algorithm)
    return {
        index: state.get(index) or {name: torch.zeros(()) if name == "step" else torch.zeros_like(weight) for name in names}
        for index, weight in enumerate(weights)
    }


def load_slots(algorithm: torch.optim.Optimizer, slots: dict[int, dict[str, Tensor]]) -> None:
    """Give the optimizer copies of a state, each laid out in memory as its parameter is."""
    weights = algorithm.param_groups[0]["params"]
    copies = {
        index: {name: torch.empty_like(weights[index]).copy_(value) if value.ndim else value for name, value in tensors.items()}
        for index, tensors in slots.items()
    }
    algorithm.load_state_dict({"state": copies, "param_groups": algorithm.state_dict()["param_groups"]})


def save(path: Path, model: nn.Module, algorithm: torch.optim.Optimizer, loop: dict[str, Tensor], metadata: dict) -> None:
    """Write a training's checkpoint: network, optimizer, `loop` (generator, order, sums), `metadata`; none with a NaN."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, slots in slots_of(algorithm).items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
    # A training that diverges is recorded as failed by its own loss; its last checkpoint stays valid.
    if not _not_finite(tensors | loop):
        save_tensors(path, tensors | loop, metadata)


def _not_finite(tensors: dict[str, Tensor]) -> list[str]:
    return [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]


def _check_checkpoint(tensors: dict[str, Tensor], metadata: dict, model: nn.Module, algorithm, images: int, steps: int) -> None:
    """KeyError or ValueError, of one line, unless this is a whole checkpoint of `model` before the last of its steps."""
    if bad_names := _not_finite(tensors):
        raise ValueError(f"{bad_names[0]} is not finite")
    slots = slot_names(algorithm)
    expected = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, (_, parameter) in enumerate(model.named_parameters()):
        expected |= {f"optimizer.{index}.{slot}": torch.zeros(()) if slot == "step" else parameter for slot in slots}
    for name, value in expected.items():
        if (tensors[name].shape, tensors[name].dtype) != (value.shape, value.dtype):
            raise ValueError(f"{name} is {tensors[name].dtype} of shape {tuple(tensors[name].shape)}")
    if unknown := sorted(tensors.keys() - expected.keys() - {"generator", "order", "sums"}):
        raise ValueError(f"{unknown[0]} is unknown")
    if not 1 <= metadata["step"] <= steps:
        raise ValueError(f"step {metadata['step']} of {steps}")
    if not torch.equal(tensors["order"].sort().values, torch.arange(images)):
        raise ValueError(f"the order of its batches is not one of {images} images")
    if tensors["sums"].shape != (2,) or len({len(metadata["curve"][name]) for name in ("step", "loss", "accuracy")}) != 1:
        raise ValueError("its training curve is incomplete")


def resume(path, model, algorithm, generator, images: int, steps: int) -> tuple[int, float, Tensor, Tensor, Curve]:
    """Load a checkpoint into network, optimizer and generator: (step, seconds, order, sums, curve); else CheckpointError."""
    tensors, metadata = load_tensors(path, "cpu")
    device = next(model.parameters()).device
    try:
        _check_checkpoint(tensors, metadata, model, algorithm, images, steps)
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = value
        load_slots(algorithm, slots)
        generator.set_state(tensors["generator"])
        return metadata["step"], metadata["seconds"], tensors["order"].to(device), tensors["sums"].to(device), metadata["curve"]
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a checkpoint of this training ({reason}); delete it to start again") from None


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Write tensors and a JSON-able `metadata` as safetensors, atomically: the file is the old one or the whole new one.

    The file has a digest of both, so that `load_tensors` notices later changes. Temporary files of killed processes are
    removed, so only one process may write `path` at a time.
    """
    # Copies, since the format refuses tensors that share memory, as tied weights do.
    tensors = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    # One entry: the format writes several in any order, and the same weights are to give the same file.
    entries = {"signed": f"{_digest(tensors, json.dumps(metadata))} {json.dumps(metadata)}"}
    try:
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
            leftover.unlink(missing_ok=True)
        files.write_whole(path, serialized(tensors, entries))
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}; what was recorded before is kept") from None


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_tensors(path: Path, device: torch.device | str) -> tuple[dict[str, Tensor], dict]:
    """Read what `save_tensors` wrote. CheckpointError for a file that is no checkpoint, is truncated or was changed.

    Earlier versions wrote the digest beside the metadata, or none; a file without a digest is not checked.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors, entries = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        if entries.keys() not in ({"signed"}, {"about", "digest"}, {"about"}):
            raise ValueError("it was not written here")
        if "signed" in entries:
            digest, _, text = entries["signed"].partition(" ")
        else:
            digest, text = entries.get("digest"), entries["about"]
        if digest is not None and digest != _digest(tensors, text):
            raise ValueError("it was changed after it was written: its digest differs")
        return {name: value.to(device) for name, value in tensors.items()}, json.loads(text)
    except (OSError, SafetensorError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint ({error}); delete it to start again") from None
