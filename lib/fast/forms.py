"""The form in which a network is attacked: compiled, captured as a CUDA graph, specialised, in lower precision."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence

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
    # With this memo deepcopy uses the cast tensors, and does not first copy them in full precision.
    cast = {id(t): t.to(dtype) if t.is_floating_point() else t.clone() for t in _tensors(model)}
    cast |= {id(p): nn.Parameter(cast[id(p)], requires_grad=False) for p in model.parameters()}
    low_precision = copy.deepcopy(model, cast)
    return lambda x: low_precision(x.to(dtype)).float(), low_precision


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def program_of(model: Callable, x: Tensor):
    """The compiled form of a network that has one, for images such as x; else None."""
    if x.is_cuda or not isinstance(model, nn.Module):
        return None
    from lib.fast import program  # its compiler takes a while to import, and only an attack needs it

    return program.of(model, x)


def training_step_of(model: nn.Module, x: Tensor):
    """The compiled training step of a network that has one, in train mode, for batches such as x; else None."""
    if x.is_cuda:
        return None
    from lib.fast import training_step  # as above

    return training_step.of(model, x)


def specialized(model: Callable, x: Tensor) -> Callable:
    """The model for its present weights, where it has such a form; on a GPU the captured graph follows weights that change."""
    if x.is_cuda or not isinstance(model, nn.Module):
        return model
    from lib.fast import program

    return program.specialized(model, x)


def captures(model: Callable, x: Tensor) -> bool:
    """Whether the attack is replayed from a captured graph: on a GPU, where launching small kernels is what costs."""
    return x.is_cuda and isinstance(model, nn.Module)


def capture(function: Callable[[], None], changed: Sequence[Tensor]) -> Callable[[], None]:
    """`function`, which changes these tensors in place and waits for nothing, as a CUDA graph: calling the result replays it.

    The first replay is compared with `function` itself, and everything put back as it was. RuntimeError where they differ.
    """
    device = changed[0].device
    before = [value.clone() for value in changed]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")  # it is captured, then compared
        replay = _graph_of(function, device)
        _restore(changed, before)
        function()
    expected = [value.clone() for value in changed]
    _restore(changed, before)
    replay()
    same = all(map(_agree, expected, changed))
    _restore(changed, before)
    if not same:
        raise RuntimeError(f"a captured CUDA graph gives other numbers than the network, on {device}; please report this")
    return replay


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether two results of the same kernels agree, except for 1% of the numbers: rounding may flip a few signs."""
    near = one.double().isclose(other.double(), rtol=1e-3, atol=1e-5, equal_nan=True)
    return bool((~near).double().mean() <= 0.01)


def _restore(changed: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for value, value_before in zip(changed, before, strict=True):
            value.copy_(value_before)


def _graph_of(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The graph of `function` on its own device, which need not be the current one."""
    with torch.cuda.device(device):
        side_stream = torch.cuda.Stream()  # torch's own stream for captures is on the device of the first capture
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):  # capturing wants the libraries' workspaces to be there
            for _ in range(2):
                function()
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side_stream):
            function()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay


class _CapturedStep:
    """One step of the attack on a model, captured for one shape of batch; the model's weights may change in place."""

    def __init__(self, model: nn.Module, state, precision: str) -> None:
        self.model = model
        self.attacked_model, self.low_precision = in_precision(model, precision)
        self.state = copy.copy(state)
        for name, value in vars(state).items():
            setattr(self.state, name, value.clone())
        changed = [self.state.adversarial, self.state.finite]
        self.advance = capture(lambda: self.state.advance(self.attacked_model), changed)

    def run(self, state, num_steps: int) -> None:
        """Take the steps; those of a smaller batch than the captured one without the graph."""
        if self.low_precision is not None:
            # Without batch normalisation's counts, which no attack reads: a list of two types would be copied one by one.
            copies, sources = ([t for t in _tensors(net) if t.is_floating_point()] for net in (self.low_precision, self.model))
            with torch.no_grad():
                torch._foreach_copy_(copies, sources)
        if state.adversarial.shape != self.state.adversarial.shape:
            for _ in range(num_steps):
                state.advance(self.attacked_model)
            return
        _copy(self.state, state)
        for _ in range(num_steps):
            self.advance()
        _copy(state, self.state)


def _copy(target, source) -> None:
    for name, value in vars(source).items():
        getattr(target, name).copy_(value)


_CAPTURED: OrderedDict[tuple, _CapturedStep] = OrderedDict()  # the latest two; each holds its model and its graph's memory


def captured(model: nn.Module, state, precision: str, num_steps: int) -> tuple[Callable, object]:
    """(what was attacked, `state`), so many steps on: one captured step of `state.advance`, replayed.

    A model has one graph, of its largest batch: the odd ones of an evaluation, smaller and of any size, go step by step.
    """
    x = state.adversarial
    # A weight that has moved, to another device or by assignment, is not the one that was captured.
    key = (id(model), tuple(t.data_ptr() for t in _tensors(model)), x.shape[1:], x.dtype, x.device, precision)
    step = _CAPTURED.pop(key, None)
    if step is None or len(step.state.adversarial) < len(x):
        step = _CapturedStep(model, state, precision)
    _CAPTURED[key] = step
    while len(_CAPTURED) > 2:
        _CAPTURED.popitem(last=False)
    step.run(state, num_steps)
    return step.attacked_model, state
