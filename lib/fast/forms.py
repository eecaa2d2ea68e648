"""The form in which a network is attacked: compiled, captured as a CUDA graph, specialised, in lower precision."""

import copy
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def in_precision(model: Callable, precision: str) -> tuple[Callable, nn.Module | None]:
    """The model to attack, and the copy in lower precision behind it if there is one.

    One cast copy an attack: autocast would cast every weight again at every step.
    """
    dtype = PRECISIONS[precision]
    if dtype is None:
        return model, None
    # Told beforehand what each tensor becomes, deepcopy copies none in full precision first.
    cast = {id(t): t.to(dtype) if t.is_floating_point() else t.clone() for t in _tensors(model)}
    cast |= {id(p): nn.Parameter(cast[id(p)], requires_grad=False) for p in model.parameters()}
    fast = copy.deepcopy(model, cast)
    return lambda x: fast(x.to(dtype)).float(), fast


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def program_of(model: Callable, x: Tensor):
    """The compiled form of a network that has one, for images such as x; else None."""
    if x.is_cuda or not isinstance(model, nn.Module):
        return None
    from lib.fast import program  # its compiler takes a while to import, and only an attack needs it

    return program.of(model, x)


def specialized(model: Callable, x: Tensor) -> Callable:
    """The model for its present weights, where it has such a form; on a GPU the captured graph follows weights that change."""
    if x.is_cuda or not isinstance(model, nn.Module):
        return model
    from lib.fast import program

    return program.specialized(model, x)


def captures(model: Callable, x: Tensor) -> bool:
    """Whether the attack is replayed from a captured graph: on a GPU, where launching small kernels is what costs."""
    return x.is_cuda and isinstance(model, nn.Module)


def _capture(function: Callable[[], None]) -> Callable[[], None]:
    """`function`, whose tensors stay where they are, as a CUDA graph: calling the result replays its kernels."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # capturing wants the libraries' workspaces to be there
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class _CapturedStep:
    """One step of the attack on a model, captured for one shape of batch; the model's weights may change in place."""

    def __init__(self, model: nn.Module, state, precision: str) -> None:
        self.model = model
        self.attacked, self.fast = in_precision(model, precision)
        self.state = copy.copy(state)
        for name, value in vars(state).items():
            setattr(self.state, name, value.clone())
        self.advance = _capture(lambda: self.state.advance(self.attacked))

    def run(self, state, num_steps: int) -> None:
        if self.fast is not None:
            with torch.no_grad():
                for mine, theirs in zip(_tensors(self.fast), _tensors(self.model), strict=True):
                    mine.copy_(theirs)
        _copy(self.state, state)
        for _ in range(num_steps):
            self.advance()
        _copy(state, self.state)


def _copy(to, state) -> None:
    for name, value in vars(state).items():
        getattr(to, name).copy_(value)


_CAPTURED: OrderedDict[tuple, _CapturedStep] = OrderedDict()  # the latest few; each holds its model and its graph's memory


def captured(model: nn.Module, state, precision: str, num_steps: int) -> tuple[Callable, object]:
    """(what was attacked, `state`), so many steps on: one captured step of `state.advance`, replayed."""
    x = state.adversarial
    # A weight that has moved, to another device or by assignment, is not the one that was captured.
    key = (id(model), tuple(t.data_ptr() for t in _tensors(model)), x.shape, x.dtype, x.device, precision)
    if key not in _CAPTURED:
        _CAPTURED[key] = _CapturedStep(model, state, precision)
        while len(_CAPTURED) > 4:
            _CAPTURED.popitem(last=False)
    _CAPTURED.move_to_end(key)
    _CAPTURED[key].run(state, num_steps)
    return _CAPTURED[key].attacked, state
