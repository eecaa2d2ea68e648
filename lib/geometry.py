"""Where a data set lies in the unit cube: perturbable volume (Appendix D.1), inter-class (D.2.1) and pairwise distances."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def log2_perturbable_volume(x: Float[Tensor, "n ..."], eps: float) -> Float[Tensor, " n"]:
    """log2 of Vol(x, eps) = ∏ᵢ (min{xᵢ + eps, 1} - max{xᵢ - eps, 0}), in bits, one value an image (Appendix D.1).

    `x` lies in [0, 1]. Between d·log2(eps), in a corner of the cube, and d·log2(2·eps), away from all its faces.
    Computed in float64: a float32 sum over 3072 pixels would lose the second decimal. Raises ValueError for eps ≤ 0.
    """
    if not eps > 0:
        raise ValueError(f"eps must be > 0 for a volume, given {eps!r}")
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
    classes = y.unique()
    if len(classes) < 2:
        raise ValueError(f"an inter-class distance needs at least two classes, given {len(classes)}")
    flat = x.flatten(1)
    distances = []
    for label in classes:
        inside, outside = flat[y == label], flat[y != label]
        k = max(1, int(nearest * len(outside)))
        means = torch.cat([torch.cdist(rows, outside).topk(k, largest=False).values.mean(1) for rows in inside.split(256)])
        distances.append(means.topk(max(1, int(smallest * len(means))), largest=False).values.mean())
    return float(torch.stack(distances).mean())


def pairwise_distances(x: Float[Tensor, "n ..."]) -> Float[Tensor, " pairs"]:
    """The ℓ2 distances of all n·(n - 1)/2 pairs, in the order of `torch.pdist` (Section 2.2). ValueError for fewer than two."""
    if len(x) < 2:
        raise ValueError(f"a distance needs at least two points, given {len(x)}")
    return torch.pdist(x.flatten(1))
