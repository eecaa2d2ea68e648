"""The geometry of a data set in the unit cube: perturbable volume (Appendix D.1), inter-class and pairwise distances (D.2.1).

Also the networks and the linear classifiers that separate two classes at a given distance: spheres and blobs (D.2.2).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lib.base import checks


def log2_perturbable_volume(x: Float[Tensor, "n ..."], eps: float) -> Float[Tensor, " n"]:
    """log2 of Vol(x, eps) = ∏ᵢ (min{xᵢ + eps, 1} - max{xᵢ - eps, 0}), in bits, one value an image (Appendix D.1).

    `x` lies in [0, 1]. Between d·log2(eps), in a corner of the cube, and d·log2(2·eps), away from all its faces.
    Computed in float64: a float32 sum over 3072 pixels would lose the second decimal. Raises ValueError for eps ≤ 0.
    """
    if not eps > 0:
        raise ValueError(f"eps must be > 0 for a volume, given {eps!r}")
    checks.images(x, shape="N×…")
    # Images are taken in slices, so that the float64 copies stay small.
    return torch.cat(
        [
            ((part + eps).clamp(max=1) - (part - eps).clamp(min=0)).log2().flatten(1).sum(1)
            for part in (x[i : i + 1000].double() for i in range(0, max(len(x), 1), 1000))
        ]
    )


def inter_class_distance(x: Float[Tensor, "n ..."], y: Int[Tensor, " n"], nearest: float = 0.1, smallest: float = 0.1) -> float:
    """The mean over classes of d(D_c, D_¬c), in ℓ2 (Appendix D.2.1).

    For each image of class c, the mean distance to its nearest images of the other classes, `nearest` (a share in
    (0, 1]) of them; then the mean of the `smallest` share of these values over the class. The paper says "10% nearest
    neighbours in D_¬c"; here the share is taken of the other classes' images. Shares are rounded down, to at least 1.

    Raises ValueError with fewer than two classes.
    """
    classes, flat, distances = _classes(x, y), x.flatten(1), []
    for label in classes:
        inside, outside = flat[y == label], flat[y != label]
        k = max(1, int(nearest * len(outside)))
        means = torch.cat([torch.cdist(rows, outside).topk(k, largest=False).values.mean(1) for rows in inside.split(256)])
        distances.append(means.topk(max(1, int(smallest * len(means))), largest=False).values.mean())
    return float(torch.stack(distances).mean())


def _classes(x: Tensor, y: Tensor) -> Tensor:
    checks.images(x, None, shape="N×…")
    checks.labels(y, x)
    classes = y.unique()
    if len(classes) < 2:
        raise ValueError(f"a distance between classes needs at least two classes, given {len(classes)}")
    return classes


def pairwise_distances(x: Float[Tensor, "n ..."]) -> Float[Tensor, " pairs"]:
    """The ℓ2 distances of all n·(n - 1)/2 pairs, in the order of `torch.pdist` (Section 2.2). ValueError for fewer than two."""
    checks.images(x, None, shape="N×…")
    if len(x) < 2:
        raise ValueError(f"a distance needs at least two points, given {len(x)}")
    return torch.pdist(x.flatten(1))


def linf_distances(x: Float[Tensor, "n ..."], y: Int[Tensor, " n"]) -> Float[Tensor, " pairs"]:
    """The ℓ∞ distances, the largest difference of a pixel, of all pairs of images of different classes (Appendix D.2.1).

    Raises ValueError with fewer than two classes.
    """
    classes, flat = _classes(x, y), x.flatten(1)
    # Each pair once: of the class with the smaller label to those with larger ones.
    return torch.cat([torch.cdist(flat[y == label], flat[y > label], p=math.inf).flatten() for label in classes[:-1]])


def facets_needed(dimension: int, distance: float) -> float:
    """The least number of facets of a symmetric polytope in ℝⁿ at distance d from the ball, e^(n/(2d²)) (Theorem D.1).

    `distance` d is the ratio of the radii of two balls around 0 between which the polytope lies. ValueError for d < 1.
    At d = 2 some polytope has 4ⁿ. The theorem prints 4n; Ball (1997, Lecture 2), whom it cites, has 4ⁿ.
    """
    if not distance >= 1:
        raise ValueError(f"a distance from the ball is ≥ 1, given {distance!r}")
    return math.exp(dimension / (2 * distance**2))


def polygon_sides(distance: float) -> int:
    """The fewest sides of a polygon between two circles around 0 whose radii have the ratio `distance`.

    A regular polygon of m sides around the unit circle has its corners at radius 1/cos(π/m), and none of m sides has them
    nearer. ValueError for a distance ≤ 1, where no polygon fits.
    """
    if not distance > 1:
        raise ValueError(f"no polygon lies between circles whose radii have the ratio {distance!r}; it must be > 1")
    # Where the ratio is exactly a polygon's, rounding must not add a side.
    return max(3, math.ceil(math.pi / math.acos(1 / distance) - 1e-9))


def ratio_of_radii(gap: float, eps: float = 0.0) -> float:
    """Outer over inner radius of the gap between spheres of radius 1 and 1 + gap after eps moved both towards each other.

    (1 + gap - eps)/(1 + eps). At or below 1 nothing is left, and no classifier is robust.
    """
    return (1 + gap - eps) / (1 + eps)


@dataclass(frozen=True)
class SphereNetworks:
    """Networks with one hidden layer of ReLUs, `k` of them side by side, each for two concentric spheres of its own.

    A positive output says inner sphere. All have as many units; a unit is one hyperplane at which the output bends.
    """

    inwards: Float[Tensor, "k n width"]
    bias: Float[Tensor, "k 1 width"]
    outwards: Float[Tensor, "k width 1"]
    threshold: Float[Tensor, "k 1 1"]

    def __call__(self, x: Float[Tensor, "k points n"]) -> Float[Tensor, "k points"]:
        """The outputs, each network's for its own points."""
        return (torch.baddbmm(self.bias, x, self.inwards).relu() @ self.outwards + self.threshold).squeeze(-1)

    def pick(self, indices: Int[Tensor, " some"]) -> "SphereNetworks":
        """Some of them, in the order of `indices`."""
        return SphereNetworks(*(value[indices] for value in vars(self).values()))


def _initial(k: int, dimension: int, width: int, generator: torch.Generator) -> SphereNetworks:
    """Hyperplanes in random directions, at distances up to 1 from the origin, facing outwards."""
    inwards = torch.randn(k, dimension, width, generator=generator)
    inwards = inwards / inwards.norm(dim=1, keepdim=True)
    bias = -torch.rand(k, 1, width, generator=generator)
    outwards = -torch.rand(k, width, 1, generator=generator)
    values = [inwards, bias, outwards, torch.full((k, 1, 1), 0.1)]
    return SphereNetworks(*(value.requires_grad_(True) for value in values))


def _on_spheres(k: int, points: int, gaps: Tensor, dimension: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(points, signs): half of them uniform on the unit sphere, sign 1, half on the sphere of radius 1 + gap, sign -1."""
    x = torch.randn(k, points, dimension, generator=generator)
    x = x / x.norm(dim=-1, keepdim=True)
    sign = torch.ones(points)
    sign[points // 2 :] = -1
    return x * torch.where(sign > 0, 1.0, 1 + gaps[:, None])[..., None], sign


def _pgd_l2(networks: SphereNetworks, x: Tensor, sign: Tensor, eps: Float[Tensor, " k"], steps: int) -> Tensor:
    """PGD in ℓ2: `steps` normalised steps of 2.5·eps/steps against the sign, within eps of x; each network has its own eps."""
    budget = eps[:, None, None]
    constants = SphereNetworks(*(value.detach() for value in vars(networks).values()))
    delta = torch.zeros_like(x)
    for _ in range(steps):
        points = (x + delta).requires_grad_(True)
        (gradient,) = torch.autograd.grad((sign * constants(points)).sum(), points)
        delta = delta - 2.5 * budget / steps * F.normalize(gradient, dim=-1)
        norm = delta.norm(dim=-1, keepdim=True)
        delta = delta * (budget / norm.clamp(min=torch.finfo(x.dtype).tiny)).clamp(max=1)
    return x + delta


def train_between_spheres(
    dimension: int,
    gaps: Float[Tensor, " k"],
    eps: Float[Tensor, " k"],
    width: int,
    *,
    steps: int,
    batch_size: int,
    starts: int,
    seed: int,
) -> SphereNetworks:
    """k networks of `width` units, the i-th trained to tell the unit sphere from that of radius 1 + gaps[i] (D.2.2).

    eps[i] = 0 is standard training; else adversarial training against ℓ2 perturbations of that size, which grow from 0 over
    the first 30% of the steps. Points are drawn anew in each of the `steps`. Each network is the best of
    `starts` initialisations, by the loss at the end: the question is what such a network can do, not what one start finds.
    """
    generator = torch.Generator().manual_seed(seed)
    k, all_gaps = len(gaps), gaps.repeat_interleave(starts)
    all_eps = eps.repeat_interleave(starts)
    networks = _initial(k * starts, dimension, width, generator)
    optimizer = torch.optim.Adam(vars(networks).values())
    running_losses = torch.zeros(k * starts)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 + math.cos(math.pi * step / steps)) / 2
        x, sign = _on_spheres(k * starts, batch_size, all_gaps, dimension, generator)
        if bool((all_eps > 0).any()):
            x = _pgd_l2(networks, x, sign, all_eps * min(1.0, step / (0.3 * steps)), steps=5)
        losses = F.softplus(-sign * networks(x)).mean(1)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
        running_losses = 0.95 * running_losses + 0.05 * losses.detach()
    best = running_losses.view(k, starts).argmin(1) + starts * torch.arange(k)
    return SphereNetworks(*(value.detach() for value in vars(networks).values())).pick(best)


def separation(
    networks: SphereNetworks, gaps: Float[Tensor, " k"], eps: float, *, points: int, seed: int
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """(accuracy, robust accuracy), shares of `points` new points of both spheres, for each network.

    Robust: right where the point is, straight towards the other sphere by eps, and at each end of a PGD of 20 steps.
    """
    generator = torch.Generator().manual_seed(seed)
    dimension = networks.inwards.shape[1]
    x, sign = _on_spheres(len(gaps), points, gaps, dimension, generator)
    moved = (x + sign[:, None] * eps * F.normalize(x, dim=-1), _pgd_l2(networks, x, sign, torch.full_like(gaps, eps), 20))
    correct, *correct_moved = (sign * networks(inputs) > 0 for inputs in (x, *moved))
    robust = correct & correct_moved[0] & correct_moved[1]
    return correct.double().mean(1).float(), robust.double().mean(1).float()


def boundary(networks: SphereNetworks, angles: int, farthest: float) -> Float[Tensor, "k angles"]:
    """In two dimensions, the distance from the origin at which each network's output turns negative, along so many rays.

    `farthest` where it does not turn up to there.
    """
    angle = torch.arange(angles) * (2 * math.pi / angles)
    radii = torch.linspace(0, farthest, 400)
    rays = torch.stack([angle.cos(), angle.sin()], 1)
    points = (rays[:, None] * radii[:, None]).view(1, -1, 2).expand(len(networks.inwards), -1, -1)
    outside = networks(points).view(-1, angles, len(radii)) <= 0
    first = outside.float().argmax(-1)
    return torch.where(outside.any(-1), radii[first], farthest)


def blobs(points: int, dimension: int, seed: int) -> tuple[Float[Tensor, "points n"], Float[Tensor, " points"]]:
    """(points, signs) of two classes that a hyperplane separates; float64.

    Along the first axis the classes are at least 1/2 away from 0, on either side. Along the others they overlap, with spreads
    from .2 to 3 and means ±.8, which mislead a classifier that follows the means.
    """
    generator = torch.Generator().manual_seed(seed)
    sign = torch.ones(points, dtype=torch.float64)
    sign[points // 2 :] = -1
    along = 0.5 + torch.empty(points, dtype=torch.float64).exponential_(2.0, generator=generator)
    spread = torch.linspace(0.2, 3, dimension - 1, dtype=torch.float64)
    across = torch.randn(points, dimension - 1, generator=generator, dtype=torch.float64) * spread + 0.8 * sign[:, None]
    return torch.cat([(sign * along)[:, None], across], 1), sign


def linear_margin(x: Float[Tensor, "points n"], sign: Float[Tensor, " points"], eps: float, *, steps: int) -> float:
    """The margin of a linear classifier after training: the least signed distance of a point from its hyperplane.

    Adversarial training against ℓ2 perturbations of size eps with the logistic loss, whose worst case is in closed form:
    log(1 + exp(eps·‖w‖₂ - sign·(w·x + b))); eps = 0 is standard training (Appendix D.2.2; Xu et al., 2009). Full batches, Adam.
    """
    w = (sign[:, None] * x).mean(0).requires_grad_(True)
    b = torch.zeros(1, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([w, b])
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps)) / 2
        loss = F.softplus(eps * w.norm() - sign * (x @ w + b)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((sign * (x @ w + b)).min() / w.norm())


def largest_margin(x: Float[Tensor, "points n"], sign: Float[Tensor, " points"]) -> float:
    """The largest margin of any linear classifier on separable points: that of a support vector machine."""
    from sklearn.svm import SVC  # a slow import, for this alone

    machine = SVC(kernel="linear", C=1e8, tol=1e-8).fit(x.numpy(), sign.numpy())
    return float(1 / np.linalg.norm(machine.coef_))
