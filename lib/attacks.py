"""Projected gradient descent (PGD) under an ℓ∞ budget, with AdverTorch's PGD as the reference; AutoAttack and Square as well.

Our PGD and AdverTorch's `LinfPGDAttack` take the same steps: both return the last iterate, without restarts, of
δ ← clip_box(clip_ε(δ + step_size · sign ∇ₓ loss)), with the cross entropy summed over the batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lib.base import checks
from lib.fast import adapters, forms
from lib.fast.forms import PRECISIONS
from lib.fast.surroundings import classes_of, detached, frozen, gradient_context

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]
ENGINES = ("lib", "advertorch")


def margin_loss(logits: Float[Tensor, "n classes"], y: Labels) -> Float[Tensor, ""]:
    """The largest logit of a wrong class minus the logit of the label, summed over the batch (Carlini and Wagner, 2017).

    Its gradient does not vanish where the model is sure; that of the cross entropy does.
    """
    label = F.one_hot(y, logits.shape[1]).bool()
    return (logits.masked_fill(label, -math.inf).amax(1) - logits[label]).sum()


LOSSES = {"cross_entropy": partial(F.cross_entropy, reduction="sum"), "margin": margin_loss}


@dataclass(frozen=True)
class ThreatModel:
    """The settings of an attack: norm, budget, step, number of steps, start and box (Section 3.2)."""

    eps: float  #: the ℓ∞ budget, in pixel units
    step_size: float  #: in pixel units
    num_steps: int
    norm: str = "linf"
    random_start: bool = True  #: δ₀ ~ U(-eps, eps), clipped to the box
    bounds: Sequence[float] | None = (0.0, 1.0)  #: the box; None: no box
    early_stop: bool = False  #: the worst case over the iterates, not the last one
    restarts: int = 1  #: with early_stop: from so many starts
    loss: str = "cross_entropy"  #: what the attack increases
    momentum: float = 0.0  #: of the gradients, the share that is kept from step to step

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

    def scaled(self, eps: float) -> "ThreatModel":
        """With another budget and the step in proportion; without a budget, without steps."""
        return replace(self, eps=eps, step_size=self.step_size * eps / self.eps, num_steps=self.num_steps if eps else 0)


def _check_budget(eps: float, step_size: float, num_steps: int, bounds: Sequence[float] | None) -> None:
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps must be ≥ 0 and finite, given {eps!r}")
    if not 0 <= step_size < math.inf:
        raise ValueError(f"step_size must be ≥ 0 and finite, given {step_size!r}")
    checks.whole_number("num_steps", num_steps, 0)
    if bounds is None:
        return
    if not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, or None, given {bounds!r}")
    if eps > bounds[1] - bounds[0]:
        hint = f"; in these units {eps:g} of 255 levels are {eps:g}/255" if tuple(bounds) == (0, 1) else ""
        raise ValueError(f"eps must be at most {bounds[1] - bounds[0]:g}, the width of the bounds, given {eps:g}{hint}")


def _check_restarts(restarts: int, early_stop: bool) -> None:
    checks.whole_number("restarts", restarts, 1)
    if restarts > 1 and not early_stop:
        raise ValueError(f"restarts={restarts} needs early_stop=True: the last iterate of one start is the paper's attack")


def _check_ascent(loss: str, momentum: float, early_stop: bool, engine: str = "lib") -> None:
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; allowed: {', '.join(LOSSES)}")
    if not 0 <= momentum < math.inf:
        raise ValueError(f"momentum must be ≥ 0 and finite, given {momentum!r}")
    if (loss != "cross_entropy" or momentum) and (early_stop or engine != "lib"):
        raise ValueError(f"loss={loss!r}, momentum={momentum:g} needs early_stop=False and engine='lib'")


def _ball(x: Tensor, eps: float | Tensor, bounds: Sequence[float] | None) -> tuple[Tensor, Tensor]:
    """The lowest and the highest image within the budget and the box.

    x ± eps, rounded to x's type, can end up farther from x than eps; such a bound moves inwards by one ulp.
    """
    exact = x.double()
    lower, upper = (exact - eps).to(x.dtype), (exact + eps).to(x.dtype)
    lower = torch.where(exact - lower.double() > eps, lower.nextafter(x), lower)
    upper = torch.where(upper.double() - exact > eps, upper.nextafter(x), upper)
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

    - `model`: images `N×C×H×W` to logits. It is attacked in eval mode; afterwards its modes, parameters, gradients and
      batch-norm statistics are as before.
    - `x`: images within `bounds`. `y`: labels; None attacks the model's own prediction (robustness w.r.t. predictions).
    - `eps`, `step_size`: ℓ∞ budget and step, in pixel units. With our engine max|result - x| ≤ eps and the bounds hold exactly.
    - `bounds`: (low, high), or None for an attack that may leave the box (Table 7).
    - `random_start`: begin at δ₀ ~ U(-eps, eps), drawn from `generator` (on x's device); `start` gives δ₀ itself.
    - `precision`: `float32` computes in x's own type; `bfloat16` takes the gradients from a bfloat16 copy of the model.
    - `engine`: `lib`, or `advertorch` for the steps of AdverTorch's LinfPGDAttack itself, unchanged: it keeps eps up to the
      rounding of x + δ, and does not check its loss.
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
    with gradient_context(x), frozen(model):
        x = detached(x).contiguous(memory_format=torch.channels_last)
        if start is None:
            start = random_delta(x, eps, generator) if random_start else torch.zeros_like(x)
        start = detached(start)
        if y is not None:
            y = detached(y)
            checks.labels(y, x, classes_of(model, x, y) if len(x) else None)
        if y is None:
            with torch.no_grad():
                y = model(x).argmax(1)
        if engine == "advertorch":
            attacked_model, _ = forms.in_precision(model, precision)
            return adapters.advertorch(attacked_model, x, y, start, eps, step_size, num_steps, bounds)
        program = forms.program_of(model, x) if precision == "float32" else None
        captured = program is None and forms.captures(model, x) and not early_stop and loss == "cross_entropy" and not momentum
        if not captured:
            attacked_model = program or forms.in_precision(forms.specialized(model, x), precision)[0]
        if early_stop:
            starts = (start if i == 0 else random_delta(x, eps, generator) for i in range(restarts))
            return _worst_case(attacked_model, model, x, y, starts, eps, step_size, num_steps, bounds)
        state = _State.begin(x, y, start, eps, step_size, bounds)
        if captured:
            attacked_model, state = forms.captured(model, state, precision, num_steps)
        elif loss != "cross_entropy" or momentum:
            _ascend(attacked_model, state, num_steps, LOSSES[loss], momentum)
        elif program:
            state.finite &= program.attack(state.adversarial, y, state.lower, state.upper, step_size, num_steps)
        else:
            for _ in range(num_steps):
                state.advance(attacked_model)
        if not state.finite:
            _raise_non_finite(model if program else attacked_model, x, y)
        return state.adversarial


def steps(
    model: Callable, x: Images, y: Labels, start: Images, *, eps: Tensor, step_size: Tensor, num_steps: int, bounds
) -> tuple[Images, Float[Tensor, " n"]]:
    """(`pgd`'s adversarial images, the sum of each image's gradients), without a check and without waiting for the device.

    For a training step that is captured whole, on images and a frozen model that were checked before. `eps` and `step_size`
    are tensors of one number, so that they may change between two replays. A sum that is not finite shows an image whose
    loss or gradient was not.
    """
    state, total = _State.begin(x, y, start, eps, step_size, bounds), x.new_zeros(len(x))
    for _ in range(num_steps):
        adversarial = state.adversarial.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(LOSSES["cross_entropy"](model(adversarial), y), adversarial)
        total += gradient.sum(dim=(1, 2, 3))
        state.step(gradient)
    return state.adversarial, total


def engine_of(model: Callable, x: Images) -> str:
    """What takes the steps of `pgd` on a model for images such as x: `compiled`, `captured` (a CUDA graph) or `framework`."""
    if forms.captures(model, x):
        return "captured"
    with frozen(model):
        return "compiled" if forms.program_of(model, x.contiguous(memory_format=torch.channels_last)) else "framework"


@dataclass
class _State:
    """What one step of the attack reads and changes in place."""

    adversarial: Tensor
    y: Tensor
    lower: Tensor
    upper: Tensor
    step_size: Tensor
    finite: Tensor  # whether every loss so far was finite; read once, at the end, since reading waits for the device

    @staticmethod
    def begin(x, y, start, eps, step_size, bounds) -> "_State":
        lower, upper = _ball(x, eps, bounds)
        # Clipping x + δ to the intersection of ball and box is clipping δ to the ball and then x + δ to the box.
        adversarial = (x + start).clamp_(lower, upper)
        step = torch.as_tensor(step_size, dtype=x.dtype, device=x.device)
        return _State(adversarial, y.clone(), lower, upper, step, torch.ones((), dtype=torch.bool, device=x.device))

    def select(self, subset: Tensor) -> "_State":
        """The state of some of the images."""
        tensors = (value[subset] for value in (self.adversarial, self.y, self.lower, self.upper))
        return _State(*tensors, self.step_size, self.finite)

    def gradient(self, model: Callable, loss: Callable, *, wanted: bool = True) -> tuple[Tensor, Tensor | None]:
        """(logits, the gradient of the loss to the images, where it is `wanted`)."""
        adversarial = self.adversarial.detach().requires_grad_(True)
        logits = model(adversarial)
        value = loss(logits, self.y)
        self.finite.logical_and_(value.detach().isfinite())
        if not wanted:
            return logits, None
        (gradient,) = torch.autograd.grad(value, adversarial)
        # A gradient of NaN can come with a finite loss; its sign would leave the pixel where it is.
        self.finite.logical_and_(gradient.sum().isfinite())
        return logits, gradient

    def step(self, direction: Tensor) -> None:
        """The update of the attack."""
        self.adversarial.addcmul_(direction.sign(), self.step_size).clamp_(self.lower, self.upper)

    def advance(self, model: Callable) -> None:
        """One step of the paper's attack."""
        self.step(self.gradient(model, LOSSES["cross_entropy"])[1])


def _ascend(model, state: _State, num_steps: int, loss: Callable, momentum: float) -> None:
    """The steps of an attack on a `loss` of one's choice, with momentum or without."""
    velocity = torch.zeros_like(state.adversarial)
    for _ in range(num_steps):
        _, gradient = state.gradient(model, loss)
        if momentum:
            size = gradient.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
            gradient = velocity.mul_(momentum).add_(gradient / size)
        state.step(gradient)


def _worst_case(attacked_model, model, x, y, starts, eps, step_size, num_steps, bounds) -> Tensor:
    """For each image the first iterate, over all starts, that `model` misclassifies; else the last one of the last start.

    `attacked_model` gives the gradients. It may be a copy of `model` in lower precision, so `model` checks its errors.
    """
    result = x.clone()
    remaining = torch.arange(len(x), device=x.device)
    for start in starts:
        if not len(remaining):
            break
        state = _State.begin(x[remaining], y[remaining], start[remaining], eps, step_size, bounds)
        for step in range(num_steps + 1):
            logits, gradient = state.gradient(attacked_model, LOSSES["cross_entropy"], wanted=step < num_steps)
            if not state.finite:
                _raise_non_finite(attacked_model, x[remaining], y[remaining])
            wrong = logits.argmax(1) != state.y
            if attacked_model is not model and wrong.any():
                with torch.no_grad():
                    wrong[wrong.clone()] = model(state.adversarial[wrong]).argmax(1) != state.y[wrong]
            result[remaining] = state.adversarial
            remaining = remaining[~wrong]
            if gradient is None or not len(remaining):
                break
            state = state.select(~wrong)
            state.step(gradient[~wrong])
    return result


def _raise_non_finite(model, x, y) -> None:
    with torch.no_grad():
        losses = F.cross_entropy(model(x), y, reduction="none")
    indices = (~losses.isfinite()).nonzero().flatten().tolist()
    location = (
        f"images {indices[:8]} of the batch, before any step" if indices else "the batch, or its gradient, during the attack"
    )
    raise FloatingPointError(f"non-finite loss on a batch of {len(x)} images: {location}")


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

    It needs logits only, no gradient. It changes random squares by ±eps and keeps the changes that lower the margin.

    - `model`: images to logits; attacked in eval mode, and as before afterwards. `x`: images within `bounds`; `y`: labels.
    - `queries`: proposals, at most, for each image; one that is misclassified gets no more.
    - `generator`, on x's device, decides the proposals; the global random states are left as they are.

    The result lies within `bounds`, and within `eps` of x up to rounding. ValueError for a setting out of range or
    images outside `bounds`.
    """
    if bounds is None:
        raise ValueError("the Square attack needs bounds, (low, high), given None")
    _check_budget(eps, 0.0, 0, bounds)
    checks.whole_number("queries", queries, 1)
    checks.images(x, bounds)
    checks.labels(y, x)
    return adapters.square(model, x, y, eps=float(eps), queries=int(queries), bounds=bounds, generator=generator)


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
    iterations, targets, queries = (checks.whole_number(name, value, 1) for name, value in values)
    _check_budget(eps, 0.0, 0, (0.0, 1.0))
    checks.images(x)
    checks.labels(y, x)
    return adapters.autoattack(
        model, detached(x).contiguous(), y, eps=float(eps), seed=seed, iterations=iterations, targets=targets, queries=queries
    )  # its code views images as vectors, which another memory layout forbids
