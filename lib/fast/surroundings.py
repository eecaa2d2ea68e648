"""Prepares a model for an attack and restores it afterwards: modes, gradients, devices and random states."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lib.base import checks

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]

_FREEZING = threading.Lock()
_FROZEN: dict[int, list] = {}  # by id: how many blocks hold it, the module or parameter, its value before


def _hold(part: nn.Module | nn.Parameter, name: str) -> None:
    """Set `training` or `requires_grad` to False until as many calls of `_release`."""
    with _FREEZING:
        entry = _FROZEN.setdefault(id(part), [0, part, getattr(part, name)])
        entry[0] += 1
        setattr(part, name, False)


def _release(part: nn.Module | nn.Parameter, name: str) -> None:
    with _FREEZING:
        entry = _FROZEN[id(part)]
        entry[0] -= 1
        if not entry[0]:
            setattr(part, name, entry[2])
            del _FROZEN[id(part)]


@contextmanager
def frozen(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Eval mode and no parameter gradients inside the block; every module and parameter as before after it.

    Blocks of several threads may overlap: the last one to end restores. Of a callable that is not a module itself, the
    modules that it calls inside the block are in eval mode, and their parameters without gradients.
    """
    module = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    frozen_parts = []
    if isinstance(module, nn.Module):
        frozen_parts += [(part, "training") for part in module.modules()]
        frozen_parts += [(parameter, "requires_grad") for parameter in module.parameters()]
    for part, name in frozen_parts:
        _hold(part, name)
    with ExitStack() as stack:
        if not isinstance(model, nn.Module):
            stack.callback(_evaluating(frozen_parts).remove)
        try:
            yield
        finally:
            for part, name in frozen_parts:
                _release(part, name)


def _evaluating(frozen_parts: list[tuple[nn.Module | nn.Parameter, str]]) -> RemovableHandle:
    """A hook that puts each module into eval mode when this thread calls it, and notes it in `frozen_parts`."""
    thread = threading.get_ident()

    def evaluate(module: nn.Module, _) -> None:
        if threading.get_ident() != thread:
            return
        parts = [(module, "training")] if module.training else []
        # AdverTorch would leave gradients in the parameters.
        parts += [(parameter, "requires_grad") for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        frozen_parts.extend(parts)
        for part, name in parts:
            _hold(part, name)

    return nn.modules.module.register_module_forward_pre_hook(evaluate)


def detached(x: Tensor) -> Tensor:
    """x without its history; a copy where it was made in inference mode, since autograd takes no such tensor."""
    return x.detach().clone() if x.is_inference() else x.detach()


@contextmanager
def gradient_context(x: Tensor) -> Iterator[None]:
    """Gradients on, no autocast and x's device as the default inside the block; the caller's settings do not count there."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(x.device.type, enabled=False))
        if torch.get_default_device() != x.device:
            stack.enter_context(x.device)
        yield


_CLASSES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # how many logits a model gave


def classes_of(model: Callable[[Tensor], Tensor], x: Images, y: Labels | None = None) -> int:
    """The number of classes of a frozen model, from its logits; computed again only where a label is larger."""
    classes = _CLASSES.get(model, 0) if isinstance(model, nn.Module) else 0
    if classes and (y is None or not len(y) or int(y.max()) < classes):
        return classes
    with torch.no_grad():
        logits = model(x[:1])
    checks.logits(logits, 1)
    if isinstance(model, nn.Module):
        _CLASSES[model] = logits.shape[1]
    return logits.shape[1]


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """numpy's global random state begins at `seed` inside the block and is as before after it."""
    state = np.random.get_state()  # noqa: NPY002 - the one that the toolbox draws from
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global random states, the CPU's and `device`'s, begin at `seed` inside the block and are as before after it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # `torch.manual_seed` takes 20 times as long
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
