"""Projected gradient descent under an ℓ∞ budget: our engine, and AdverTorch's own as the reference it is checked against.

The two take the same steps: AdverTorch's `LinfPGDAttack` returns the last iterate, without restarts, of
δ ← clip_box(clip_ε(δ + step_size · sign ∇ₓ loss)), with the cross entropy summed over the batch.
"""

import copy
import importlib
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lib import checks

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
ENGINES = ("lib", "advertorch")


def margin_loss(logits: Float[Tensor, "n classes"], y: Labels) -> Float[Tensor, ""]:
    """The largest logit of a wrong class less that of the label, summed over the batch (Carlini and Wagner, 2017).

    Unlike the cross entropy its gradient does not vanish where the model is sure of itself.
    """
    label = F.one_hot(y, logits.shape[1]).bool()
    return (logits.masked_fill(label, -math.inf).amax(1) - logits[label]).sum()


LOSSES = {"cross_entropy": partial(F.cross_entropy, reduction="sum"), "margin": margin_loss}


@dataclass(frozen=True)
class ThreatModel:
    """What an adversary may do and how hard it tries (Section 3.2)."""

    eps: float  # the ℓ∞ budget, in pixel units
    step_size: float  # in pixel units
    num_steps: int
    norm: str = "linf"
    random_start: bool = True  # δ₀ ~ U(-eps, eps), clipped to the box
    bounds: Sequence[float] | None = (0.0, 1.0)  # the box; None: no box
    early_stop: bool = False  # the worst case over the iterates, not the last one
    restarts: int = 1  # with early_stop: from so many starts
    loss: str = "cross_entropy"  # what the attack increases
    momentum: float = 0.0  # of the gradients, the share that is kept from step to step

    def __post_init__(self) -> None:
        _check_budget(self.eps, self.step_size, self.num_steps, self.bounds)
        _check_restarts(self.restarts, self.early_stop)
        _check_ascent(self.loss, self.momentum, self.early_stop)
        if self.norm != "linf":
            raise ValueError(f"unknown norm {self.norm!r}; allowed: linf")

    def attack(self) -> dict:
        """The keyword arguments of `pgd`."""
        settings = asdict(self)
        del settings["norm"]
        return settings


def _check_budget(eps: float, step_size: float, num_steps: int, bounds: Sequence[float] | None) -> None:
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be ≥ 0 and finite, given {eps!r}")
    if not 0 <= step_size < math.inf:
        raise ValueError(f"step_size must be ≥ 0 and finite, given {step_size!r}")
    checks.whole("num_steps", num_steps, 0)
    if bounds is None:
        return
    if not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, or None, given {bounds!r}")
    if eps > bounds[1] - bounds[0]:
        hint = f"; in these units {eps:g} of 255 levels are {eps:g}/255" if tuple(bounds) == (0, 1) else ""
        raise ValueError(f"eps must be at most {bounds[1] - bounds[0]:g}, the width of the bounds, given {eps:g}{hint}")


def _check_restarts(restarts: int, early_stop: bool) -> None:
    checks.whole("restarts", restarts, 1)
    if restarts > 1 and not early_stop:
        raise ValueError(f"restarts={restarts} needs early_stop=True: the last iterate of one start is the paper's attack")


def _check_ascent(loss: str, momentum: float, early_stop: bool, engine: str = "lib") -> None:
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; allowed: {', '.join(LOSSES)}")
    if not 0 <= momentum < math.inf:
        raise ValueError(f"momentum must be ≥ 0 and finite, given {momentum!r}")
    if (loss != "cross_entropy" or momentum) and (early_stop or engine != "lib"):
        raise ValueError(f"loss={loss!r}, momentum={momentum:g} needs early_stop=False and engine='lib'")


_FREEZING = threading.Lock()
_HELD: dict[int, list] = {}  # by id: how many blocks hold a module or parameter, the thing itself, and how it was before


def _hold(thing: nn.Module | nn.Parameter, name: str) -> None:
    """Set `training` or `requires_grad` to False until as many calls of `_release`."""
    with _FREEZING:
        entry = _HELD.setdefault(id(thing), [0, thing, getattr(thing, name)])
        entry[0] += 1
        setattr(thing, name, False)


def _release(thing: nn.Module | nn.Parameter, name: str) -> None:
    with _FREEZING:
        entry = _HELD[id(thing)]
        entry[0] -= 1
        if not entry[0]:
            setattr(thing, name, entry[2])
            del _HELD[id(thing)]


@contextmanager
def frozen(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Eval mode and no parameter gradients inside the block; every module and parameter as before after it.

    Blocks of several threads may overlap: the last one to end restores. Of a callable that is not a module itself, the
    modules that it calls inside the block are in eval mode, and their parameters without gradients.
    """
    module = model if isinstance(model, nn.Module) else getattr(model, "__self__", None)
    held = []
    if isinstance(module, nn.Module):
        held += [(part, "training") for part in module.modules()]
        held += [(parameter, "requires_grad") for parameter in module.parameters()]
    for thing, name in held:
        _hold(thing, name)
    with ExitStack() as stack:
        if not isinstance(model, nn.Module):
            stack.callback(_evaluating(held).remove)
        try:
            yield
        finally:
            for thing, name in held:
                _release(thing, name)


def _evaluating(held: list[tuple[nn.Module | nn.Parameter, str]]) -> RemovableHandle:
    """A hook that puts each module into eval mode when this thread calls it, and notes it in `held`."""
    thread = threading.get_ident()

    def evaluate(module: nn.Module, _) -> None:
        if threading.get_ident() != thread:
            return
        parts = [(module, "training")] if module.training else []
        # AdverTorch would leave gradients in the parameters.
        parts += [(own, "requires_grad") for own in module.parameters(recurse=False) if own.requires_grad]
        held.extend(parts)
        for thing, name in parts:
            _hold(thing, name)

    return nn.modules.module.register_module_forward_pre_hook(evaluate)


def _usable(x: Tensor) -> Tensor:
    """x without its history; a copy where it was made in inference mode, since autograd takes no such tensor."""
    return x.detach().clone() if x.is_inference() else x.detach()


@contextmanager
def _settled(x: Tensor) -> Iterator[None]:
    """Gradients on, no autocast and x's device as the default inside the block, whatever the caller has set."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(x.device.type, enabled=False))
        if torch.get_default_device() != x.device:
            stack.enter_context(x.device)
        yield


_CLASSES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # how many logits a model gave


def classes_of(model: Callable[[Tensor], Tensor], x: Images, y: Labels | None = None) -> int:
    """The number of classes of a model that is frozen, told from its logits; asked for again only where a label is beyond."""
    known = _CLASSES.get(model, 0) if isinstance(model, nn.Module) else 0
    if known and (y is None or not len(y) or int(y.max()) < known):
        return known
    with torch.no_grad():
        logits = model(x[:1])
    if logits.ndim != 2:
        raise ValueError(f"the model must give logits N×classes, given shape {tuple(logits.shape)} for one image")
    if isinstance(model, nn.Module):
        _CLASSES[model] = logits.shape[1]
    return logits.shape[1]


def _ball(x: Tensor, eps: float, bounds: Sequence[float] | None) -> tuple[Tensor, Tensor]:
    """The lowest and the highest image within the budget and the box.

    x ± eps, rounded to x's type, can end up farther from x than eps; such a bound moves inwards by one ulp.
    """
    wide = x.double()
    lower, upper = (wide - eps).to(x.dtype), (wide + eps).to(x.dtype)
    lower = torch.where(wide - lower.double() > eps, lower.nextafter(x), lower)
    upper = torch.where(upper.double() - wide > eps, upper.nextafter(x), upper)
    if bounds is not None:
        lower, upper = lower.clamp_(min=bounds[0]), upper.clamp_(max=bounds[1])
    return lower, upper


def random_delta(x: Images, eps: float, generator: torch.Generator | None = None) -> Images:
    """δ₀ ~ U(-eps, eps), pixel by pixel."""
    return torch.empty_like(x).uniform_(-eps, eps, generator=generator)


def pgd(
    model: Callable[[Tensor], Tensor],
    x: Images,
    y: Labels | None = None,
    *,
    eps: float,
    step_size: float,
    num_steps: int,
    bounds: Sequence[float] | None = (0.0, 1.0),
    random_start: bool = True,
    start: Images | None = None,
    generator: torch.Generator | None = None,
    precision: str = "float32",
    engine: str = "lib",
    early_stop: bool = False,
    restarts: int = 1,
    loss: str = "cross_entropy",
    momentum: float = 0.0,
) -> Images:
    """Adversarial images by untargeted PGD (Madry et al., 2017): the last iterate, of x's shape and type.

    - `model`: images `N×C×H×W` to logits. It is attacked in eval mode; its modes, parameters, gradients and
      batch-norm statistics are as before afterwards.
    - `x`: images within `bounds`. `y`: labels; None attacks the model's own prediction (robustness w.r.t. predictions).
    - `eps`, `step_size`: ℓ∞ budget and step, in pixel units. With our engine max|result - x| ≤ eps and the bounds hold exactly.
    - `bounds`: (low, high), or None for an attack that may leave the box (Table 7).
    - `random_start`: begin at δ₀ ~ U(-eps, eps), drawn from `generator` (on x's device); `start` gives δ₀ itself.
    - `precision`: `float32` computes in x's own type; `bfloat16` takes the gradients from a bfloat16 copy of the model.
    - `engine`: `lib`, or `advertorch` for the steps of AdverTorch's LinfPGDAttack itself, as it is: it keeps eps up to the
      rounding of x + δ, and does not look at its loss.
    - `early_stop`: not the paper's attack but a stronger and cheaper one. Every iterate counts: an image keeps the first
      one that the model misclassifies and leaves the batch. `restarts` begins anew, from a random start, with those left.
    - `loss`, `momentum`: not the paper's attack either. `margin` increases `margin_loss`. With a momentum μ the step follows
      g ← μ·g + ∇/‖∇‖₁, image by image (Dong et al., 2018); μ = 0 follows the gradient.

    Raises ValueError for a setting out of range or images outside `bounds`, and, our engine, FloatingPointError for a
    non-finite loss, naming the images of the batch it came from.
    """
    _check_budget(eps, step_size, num_steps, bounds)
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; allowed: {', '.join(ENGINES)}")
    checks.images(x, bounds)
    _check_restarts(restarts, early_stop)
    if early_stop and engine != "lib":
        raise ValueError(f"early_stop needs engine='lib', given {engine!r}")
    _check_ascent(loss, momentum, early_stop, engine)
    if restarts > 1 and not random_start:
        raise ValueError(f"restarts={restarts} needs random_start=True: every start would be the same")
    if start is not None and start.shape != x.shape:
        raise ValueError(f"start must have the images' shape {tuple(x.shape)}, given {tuple(start.shape)}")

    if y is not None:
        checks.labels(y, x)
    num_steps, restarts = int(num_steps), int(restarts)
    with _settled(x), frozen(model):
        x = _usable(x).contiguous(memory_format=torch.channels_last)
        if start is None:
            start = random_delta(x, eps, generator) if random_start else torch.zeros_like(x)
        start = _usable(start)
        if y is not None:
            y = _usable(y)
            checks.labels(y, x, classes_of(model, x, y) if len(x) else None)
        if y is None:
            with torch.no_grad():
                y = model(x).argmax(1)
        program = _program(model, x) if engine == "lib" and precision == "float32" else None
        if loss != "cross_entropy" or momentum:
            attacked = program or _in_precision(_specialized(model, x), precision)[0]
            return _ascent(attacked, x, y, start, eps, step_size, num_steps, bounds, LOSSES[loss], momentum)
        if program and not early_stop:
            return _compiled(program, model, x, y, start, eps, step_size, num_steps, bounds)
        if engine == "lib" and not early_stop and _captures(model, x):
            return _captured_step(model, x, precision).run(x, y, start, eps, step_size, num_steps, bounds)
        attacked = program or _in_precision(model if engine == "advertorch" else _specialized(model, x), precision)[0]
        if early_stop:
            starts = (start if i == 0 else random_delta(x, eps, generator) for i in range(restarts))
            return _worst_case(attacked, model, x, y, starts, eps, step_size, num_steps, bounds)
        if engine == "advertorch":
            return _advertorch(attacked, x, y, start, eps, step_size, num_steps, bounds)
        return _pgd(attacked, x, y, start, eps, step_size, num_steps, bounds)


def _in_precision(model: Callable, precision: str) -> tuple[Callable, nn.Module | None]:
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


def _program(model: Callable, x: Tensor):
    """The compiled form of a network that has one, for images such as x; else None."""
    if x.is_cuda or not isinstance(model, nn.Module):
        return None
    from lib.fast import program  # its compiler takes a while to import, and only an attack needs it

    return program.of(model, x)


def engine_of(model: Callable, x: Images) -> str:
    """What takes the steps of `pgd` on a model for images such as x: `compiled`, `captured` (a CUDA graph) or `framework`."""
    if _captures(model, x):
        return "captured"
    with frozen(model):
        return "compiled" if _program(model, x.contiguous(memory_format=torch.channels_last)) else "framework"


def _specialized(model: Callable, x: Tensor) -> Callable:
    """The model for its present weights, where it has such a form; on a GPU the captured graph follows weights that change."""
    if x.is_cuda or not isinstance(model, nn.Module):
        return model
    from lib.fast import program

    return program.specialized(model, x)


@dataclass
class _State:
    """What one step of the attack reads and changes in place."""

    adversarial: Tensor
    y: Tensor
    lower: Tensor
    upper: Tensor
    step_size: Tensor
    finite: Tensor  # whether every loss so far was; looked at once, at the end: a look waits for the device

    @staticmethod
    def begin(x, y, start, eps, step_size, bounds) -> "_State":
        lower, upper = _ball(x, eps, bounds)
        # Clipping x + δ to the intersection of ball and box is clipping δ to the ball and then x + δ to the box.
        adversarial = (x + start).clamp_(lower, upper)
        step = torch.tensor(step_size, dtype=x.dtype, device=x.device)
        return _State(adversarial, y.clone(), lower, upper, step, torch.ones((), dtype=torch.bool, device=x.device))

    def copy_(self, other: "_State") -> None:
        for name, value in vars(other).items():
            getattr(self, name).copy_(value)

    def advance(self, model: Callable[[Tensor], Tensor]) -> None:
        """One step of the attack."""
        adversarial = self.adversarial.detach().requires_grad_(True)
        loss = F.cross_entropy(model(adversarial), self.y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        # A gradient of NaN can come with a finite loss; its sign would leave the pixel where it is.
        self.finite.logical_and_(loss.detach().isfinite()).logical_and_(gradient.sum().isfinite())
        self.adversarial.addcmul_(gradient.sign(), self.step_size).clamp_(self.lower, self.upper)


def _pgd(model, x, y, start, eps, step_size, num_steps, bounds) -> Tensor:
    state = _State.begin(x, y, start, eps, step_size, bounds)
    for _ in range(num_steps):
        state.advance(model)
    if not state.finite:
        _raise_non_finite(model, x, y)
    return state.adversarial


def _compiled(program, model, x, y, start, eps, step_size, num_steps, bounds) -> Tensor:
    """`_pgd` in one compiled call."""
    lower, upper = _ball(x, eps, bounds)
    adversarial = (x + start).clamp_(lower, upper)
    if not program.attack(adversarial, y, lower, upper, step_size, int(num_steps)):
        _raise_non_finite(model, x, y)
    return adversarial


def _ascent(model, x, y, start, eps, step_size, num_steps, bounds, loss, momentum) -> Tensor:
    """`_pgd` with a loss of one's choice and momentum."""
    state = _State.begin(x, y, start, eps, step_size, bounds)
    direction = torch.zeros_like(x)
    for _ in range(num_steps):
        adversarial = state.adversarial.detach().requires_grad_(True)
        value = loss(model(adversarial), y)
        (gradient,) = torch.autograd.grad(value, adversarial)
        state.finite.logical_and_(value.detach().isfinite()).logical_and_(gradient.sum().isfinite())
        if momentum:
            size = gradient.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
            gradient = direction.mul_(momentum).add_(gradient / size)
        state.adversarial.addcmul_(gradient.sign(), state.step_size).clamp_(state.lower, state.upper)
    if not state.finite:
        _raise_non_finite(model, x, y)
    return state.adversarial


def _captures(model: Callable, x: Tensor) -> bool:
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

    def __init__(self, model: nn.Module, x: Tensor, precision: str) -> None:
        self.model = model
        self.attacked, self.fast = _in_precision(model, precision)
        self.state = _State.begin(
            x, torch.zeros(len(x), dtype=torch.long, device=x.device), torch.zeros_like(x), 0.0, 0.0, None
        )
        self.advance = _capture(lambda: self.state.advance(self.attacked))

    def run(self, x, y, start, eps, step_size, num_steps, bounds) -> Tensor:
        if self.fast is not None:
            with torch.no_grad():
                for mine, theirs in zip(_tensors(self.fast), _tensors(self.model), strict=True):
                    mine.copy_(theirs)
        self.state.copy_(_State.begin(x, y, start, eps, step_size, bounds))
        for _ in range(num_steps):
            self.advance()
        if not self.state.finite:
            _raise_non_finite(self.attacked, x, y)
        return self.state.adversarial.clone()


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


_CAPTURED: OrderedDict[tuple, _CapturedStep] = OrderedDict()  # the latest few; each holds its model and its graph's memory


def _captured_step(model: nn.Module, x: Tensor, precision: str) -> _CapturedStep:
    # A weight that has moved, to another device or by assignment, is not the one that was captured.
    key = (id(model), tuple(t.data_ptr() for t in _tensors(model)), x.shape, x.dtype, x.device, precision)
    if key not in _CAPTURED:
        _CAPTURED[key] = _CapturedStep(model, x, precision)
        while len(_CAPTURED) > 4:
            _CAPTURED.popitem(last=False)
    _CAPTURED.move_to_end(key)
    return _CAPTURED[key]


def _worst_case(attacked, model, x, y, starts, eps, step_size, num_steps, bounds) -> Tensor:
    """For each image the first iterate, over all starts, that `model` misclassifies; else the last one of the last start.

    `attacked` gives the gradients and may be a copy of `model` in lower precision: its word is checked with `model`.
    """
    result = x.clone()
    left = torch.arange(len(x), device=x.device)
    for start in starts:
        if not len(left):
            break
        lower, upper = _ball(x[left], eps, bounds)
        adversarial = (x[left] + start[left]).clamp_(lower, upper)
        for step in range(num_steps + 1):
            adversarial.requires_grad_(True)
            logits = attacked(adversarial)
            loss = F.cross_entropy(logits, y[left], reduction="sum")
            if not loss.isfinite():
                _raise_non_finite(attacked, x[left], y[left])
            suspects = logits.argmax(1) != y[left]
            if attacked is not model and suspects.any():
                with torch.no_grad():
                    suspects[suspects.clone()] = model(adversarial[suspects]).argmax(1) != y[left][suspects]
            gradient = torch.autograd.grad(loss, adversarial)[0] if step < num_steps else None
            if gradient is not None and not gradient.sum().isfinite():
                _raise_non_finite(attacked, x[left], y[left])
            adversarial = adversarial.detach()
            result[left] = adversarial
            keep = ~suspects
            left, lower, upper = left[keep], lower[keep], upper[keep]
            if gradient is None or not len(left):
                break
            adversarial = adversarial[keep].add_(gradient[keep].sign(), alpha=step_size).clamp_(lower, upper)
    return result


def _raise_non_finite(model, x, y) -> None:
    with torch.no_grad():
        losses = F.cross_entropy(model(x), y, reduction="none")
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    where = f"images {bad[:8]} of the batch, before any step" if bad else "the batch, or its gradient, during the attack"
    raise FloatingPointError(f"non-finite loss on a batch of {len(x)} images: {where}")


def import_advertorch():
    """The module `advertorch.attacks`, importable on torch ≥ 1.9 too.

    AdverTorch 0.2.3 imports `zero_gradients` from `torch.autograd.gradcheck`, which torch removed. The module has to be
    fetched by name, since the attribute `torch.autograd.gradcheck` is a function.
    """
    gradcheck = importlib.import_module("torch.autograd.gradcheck")
    if not hasattr(gradcheck, "zero_gradients"):

        def zero_gradients(x: Tensor) -> None:
            if x.grad is not None:
                x.grad.detach_().zero_()

        gradcheck.zero_gradients = zero_gradients
    return importlib.import_module("advertorch.attacks")


def _advertorch(model, x, y, start, eps, step_size, num_steps, bounds) -> Tensor:
    attacks = import_advertorch()
    iterative = importlib.import_module("advertorch.attacks.iterative_projected_gradient")
    low, high = bounds if bounds is not None else (-math.inf, math.inf)
    attack = attacks.LinfPGDAttack(
        model, nn.CrossEntropyLoss(reduction="sum"), float(eps), num_steps, float(step_size), clip_min=low, clip_max=high
    )
    # What LinfPGDAttack.perturb does after drawing δ₀; it draws from the global random state, we from the generator.
    delta = (x + start.clamp(-eps, eps)).clamp(low, high) - x
    return iterative.perturb_iterative(
        x,
        y,
        attack.predict,
        attack.nb_iter,
        attack.eps,
        attack.eps_iter,
        attack.loss_fn,
        delta_init=delta,
        clip_min=low,
        clip_max=high,
    ).detach()


def square(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    eps: float,
    queries: int,
    bounds: Sequence[float] | None = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Images:
    """Adversarial images by the Square attack (Andriushchenko et al., 2020), the Adversarial Robustness Toolbox's.

    It asks for logits only and sees no gradient: changes of random squares by ±eps, kept where they lower the margin.

    - `model`: images to logits; attacked in eval mode, and as before afterwards. `x`: images within `bounds`; `y`: labels.
    - `queries`: proposals, at most, for each image; one that is misclassified gets no more.
    - `generator`, on x's device, decides the proposals; the global random states are left as they are.

    The result lies within `bounds`, and within `eps` of x but for rounding. ValueError for a setting out of range or
    images outside `bounds`.
    """
    if bounds is None:
        raise ValueError("the Square attack needs bounds, (low, high), given None")
    _check_budget(eps, 0.0, 0, bounds)
    checks.whole("queries", queries, 1)
    checks.images(x, bounds)
    checks.labels(y, x)
    logging.getLogger("art").setLevel(logging.WARNING)  # it would tell of its folder, and of the layers it has counted
    # An import of seconds, which nothing else here needs.
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import PyTorchClassifier

    seed = int(torch.randint(2**32, (), generator=generator, device=x.device))
    with _settled(x), frozen(model), _numpy_seeded(seed), torch.random.fork_rng(devices=[]):
        classes = classes_of(model, x, y)
        checks.labels(y, x, classes)
        classifier = PyTorchClassifier(
            model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=tuple(bounds),
            device_type="gpu" if x.is_cuda else "cpu",
        )  # fmt: skip
        attack = SquareAttack(classifier, eps=float(eps), max_iter=int(queries), batch_size=len(x), verbose=False)
        found = attack.generate(x.cpu().numpy(), y.cpu().numpy())
    return torch.from_numpy(found).to(x)


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """numpy's global random state begins at `seed` inside the block and is as before after it."""
    state = np.random.get_state()  # noqa: NPY002 - the one that the toolbox draws from
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def autoattack(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    eps: float,
    seed: int,
    iterations: int = 100,
    targets: int = 9,
    queries: int = 5000,
) -> Images:
    """Adversarial images by AutoAttack's standard version (Croce and Hein, 2020), its authors' own code (pyautoattack).

    Four attacks, each on the images that withstood those before: APGD on the cross entropy, APGD on the difference of
    logits ratio and FAB, both for each of the `targets` likeliest wrong classes, with `iterations` steps, and Square,
    which sees logits only and asks for `queries` of them.

    - `model`: images in [0, 1] to logits; attacked in eval mode, as before afterwards. `x`: images in [0, 1]. `y`: labels.
    - `eps`: ℓ∞ budget in pixel units, kept up to the rounding of x ± eps. `seed`: decides the starts and squares; the
      global random state is as before afterwards.
    - At most as many `targets` as there are wrong classes; there must be at least 4 classes.
    - The defaults are the standard version's; anything less is not AutoAttack, and is for trying the code out.

    An image that no attack changes is returned as it was. Raises ValueError for a setting out of range or images outside
    [0, 1].
    """
    values = (("iterations", iterations), ("targets", targets), ("queries", queries))
    iterations, targets, queries = (checks.whole(name, value, 1) for name, value in values)
    _check_budget(eps, 0.0, 0, (0.0, 1.0))
    checks.images(x)
    checks.labels(y, x)
    from pyautoattack import AutoAttack

    x = _usable(x).contiguous()  # its code views images as vectors, which another memory layout forbids
    devices = [x.device] if x.is_cuda else []
    with _settled(x), frozen(model), torch.random.fork_rng(devices):
        classes = classes_of(model, x, y)
        checks.labels(y, x, classes)
        if classes < 4:
            raise ValueError(f"AutoAttack's difference of logits ratio needs at least 4 classes, given {classes}")
        targets = min(targets, classes - 1)
        attack = AutoAttack(_program(model, x) or _specialized(model, x), eps=float(eps), seed=seed, device=x.device)
        for part in (attack.apgd, attack.apgd_targeted, attack.fab):
            part.n_iter = iterations
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
        attack.square.n_queries = queries
        found, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    return found
