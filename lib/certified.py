"""The LP-robust model and exact certificates (Wong and Kolter, 2018; Section 2.2 and Appendix B.2), by convex-adversarial.

A certificate is a lower bound on the margin between an image's label and every other class, over all images within eps.
Training may estimate the bounds with random projections. A certificate never does, since an estimate is not a bound.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib import attacks, models
from lib.evaluation import batches

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]
Loss = Callable[[nn.Module, Tensor, Tensor, float, torch.Generator], tuple[Tensor, Tensor]]

LAYERS = (nn.Conv2d, nn.Linear, nn.ReLU, nn.Flatten)
# A bound is computed in float32: it certifies an image only where it exceeds 0 by more than rounding can move it.
ROUNDING = 1e-4
PIXELS = 50 * 784  # of a batch whose exact bounds are computed at once: about 2 GB


def check_network(model: nn.Module) -> None:
    """Raise ValueError, which names the layer, for a network whose bounds would be wrong or unknown."""
    if not isinstance(model, nn.Sequential) or len(model) == 0 or not isinstance(model[-1], nn.Linear):
        raise ValueError(f"the certifier takes an nn.Sequential that ends in a Linear layer, given {type(model).__name__}")
    for i, layer in enumerate(model):
        if not isinstance(layer, LAYERS):
            allowed = ", ".join(kind.__name__ for kind in LAYERS)
            raise ValueError(f"the certifier does not know layer {i}, {type(layer).__name__}; allowed: {allowed}")
        # convex-adversarial reads only stride and padding of a convolution, and takes Flatten to keep the batch.
        if isinstance(layer, nn.Conv2d) and (
            layer.dilation != (1, 1) or layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str)
        ):
            raise ValueError(f"the certifier takes convolutions in one group, undilated, zero-padded by numbers, given {layer}")
        if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1):
            raise ValueError(f"the certifier takes Flatten(1, -1) only, given {layer}")


def _check(model: nn.Module, x: Tensor, y: Tensor, eps: float, bounds: Sequence[float] | None) -> None:
    check_network(model)
    if not 0 <= eps <= 1:
        raise ValueError(f"eps must be from 0 to 1, given {eps!r}")
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(f"at least one image, and one label for each, are needed; given {len(x)} images and {len(y)} labels")
    if bounds is not None and not bounds[0] < bounds[1]:
        raise ValueError(f"bounds must be (low, high) with low < high, or None, given {bounds!r}")
    if bounds is not None and not bool(((x >= bounds[0]) & (x <= bounds[1])).all()):
        raise ValueError(f"images must lie in [{bounds[0]:g}, {bounds[1]:g}], given values from {x.min():g} to {x.max():g}")


def _margins(model, x, y, eps, bounds, proj) -> Tensor:
    """Lower bounds on logit y - logit j for each class j, `N×classes`; 0 at y. With `proj` they are estimates."""
    box = {} if bounds is None else {"bounded_input": True, "input_l": bounds[0], "input_u": bounds[1]}
    projection = {} if proj is None else {"proj": proj, "norm_type": "l1_median"}
    from convex_adversarial import DualNetwork  # training without certificates needs no such library

    dual = DualNetwork(model, x.contiguous(), eps, **box, **projection)
    identity = torch.eye(model[-1].out_features, dtype=x.dtype, device=x.device)
    return dual(identity[y].unsqueeze(1) - identity)


def training_loss(
    *, eps: float, first_eps: float, warmup: float, proj: int | None, bounds: Sequence[float] | None = (0.0, 1.0)
) -> Loss:
    """The robust loss, for `training.train`: the cross entropy of the worst logits that the bounds allow.

    eps grows linearly from `first_eps` over the first `warmup` share of the steps (Appendix B.2). `proj` random
    projections estimate the bounds, None computes them. `bounds`: the images' box, or None for none.
    Gives (mean loss, whether each image is certified by these bounds, or estimates). ValueError for a setting out of range.
    """
    if not 0 <= first_eps <= eps <= 1:
        raise ValueError(f"first_eps and eps must be 0 ≤ first_eps ≤ eps ≤ 1, given {first_eps!r} and {eps!r}")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup must be from 0 to 1, given {warmup!r}")
    if proj is not None and proj < 1:
        raise ValueError(f"proj must be ≥ 1, or None for exact bounds, given {proj!r}")

    def loss(model, x, y, share, generator):
        """`share` of the steps is done; `generator` decides the projections."""
        current_eps = first_eps + (eps - first_eps) * (min(1.0, share / warmup) if warmup else 1.0)
        _check(model, x, y, current_eps, bounds)
        # convex-adversarial draws from the global state.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            torch.manual_seed(seed)
            worst = -_margins(model, x, y, current_eps, bounds, proj)
        return F.cross_entropy(worst, y), worst.detach().argmax(1) == y

    return loss


def margins(
    model: nn.Module,
    x: Images,
    y: Labels,
    *,
    eps: float,
    bounds: Sequence[float] | None = (0.0, 1.0),
    description: str = "certifying",
) -> Float[Tensor, " n"]:
    """Exact lower bound on each image's margin, logit y minus the largest other, within `eps` and the box; on the CPU.

    - `model`: an `nn.Sequential` of `LAYERS`. `x`: images within `bounds`; `eps`: the ℓ∞ budget, in pixel units.
    - `bounds`: (low, high), or None for images that may leave the box, as in Wong and Kolter's first experiments.

    ValueError for a layer that the certifier does not know, images outside `bounds`, or eps outside [0, 1].
    """
    _check(model, x, y, eps, bounds)
    size = max(1, PIXELS // x[0].numel())
    batch_bounds = []
    with torch.no_grad():
        for images, labels, *_ in batches(x, y, size, description):
            lower = _margins(model, images, labels, eps, bounds, None)
            lower[torch.arange(len(labels)), labels] = math.inf
            batch_bounds.append(lower.amin(1).cpu())
    return torch.cat(batch_bounds)


def certified(lower: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Whether each image's class is certain, by its margin's lower bound; a bound that is not a number certifies nothing."""
    return lower > ROUNDING


def certified_by_ramp(
    model: nn.Module, x: Images, y: Labels, *, eps: float, slope: float, batch_size: int = 500
) -> Bool[Tensor, " n"]:
    """Whether each image's class is certain within `eps`, in the box or out of it, for `models.Ramped(model, slope)`.

    The ramp is monotone in each pixel, so it maps the interval [x - eps, x + eps] onto that between the images of its two
    ends. If they agree on every pixel, `model` sees the same image for the whole ball, so its class is certain. This holds
    for any `model` and every binarized image: there the certified error, the robust error and the clean error are equal. If eps
    takes a pixel onto the ramp's steep part, the image is not certified, but may be robust. Returns one boolean an image, on
    the CPU.

    ValueError unless 0 ≤ eps < 1/2 and slope > 1/(1 - 2 eps), with which a ramp undoes what eps does to 0 and 1.
    """
    if not 0 <= eps < 0.5:
        raise ValueError(f"a ramp at 1/2 undoes perturbations of 0 ≤ eps < 1/2, given eps={eps!r}")
    if not slope > 1 / (1 - 2 * eps):
        raise ValueError(f"for eps={eps:g} the ramp's slope must be > 1/(1 - 2 eps) = {1 / (1 - 2 * eps):g}, given {slope!r}")
    ramp = models.Ramp(slope)
    certificates = []
    with torch.no_grad(), attacks.frozen(model):
        for images, labels, *_ in batches(x, y, batch_size):
            # One more ulp at either end than eps: no image within eps, however it is rounded, lies outside.
            low, high = ((images.double() + change).to(x.dtype) for change in (-eps, eps))
            lowest, highest = ramp(low.nextafter(low - 1)), ramp(high.nextafter(high + 1))
            constant = (lowest == highest).flatten(1).all(1)
            certificates.append(constant & (model(lowest).argmax(1) == labels))
    return torch.cat(certificates).cpu()
