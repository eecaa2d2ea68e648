"""Perturbable volume and distances against brute force and the paper."""

import math

import numpy as np
import pytest
import torch

from lib import data, geometry, transforms


@pytest.mark.parametrize("eps", [0.3, 8 / 255, 0.5])
def test_volume_of_corner_and_centre(eps):
    d = 2 * 5 * 3
    corner, centre = torch.ones(1, 2, 5, 3), torch.full((1, 2, 5, 3), 0.5)
    found = geometry.log2_perturbable_volume(torch.cat([corner, 1 - corner, centre]), eps)
    expected = [d * math.log2(eps), d * math.log2(eps), d * math.log2(2 * eps)]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_volume_is_the_product_of_the_sides():
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for eps in (0.1, 0.3, 0.9):
        for image, found in zip(x, geometry.log2_perturbable_volume(x, eps).tolist(), strict=True):
            sides = [min(value + eps, 1) - max(value - eps, 0) for value in image.flatten().tolist()]
            assert 2**found == pytest.approx(math.prod(sides), rel=1e-12)


def test_volume_is_the_share_of_perturbations_within_the_cube():
    x, eps = torch.tensor([[0.05, 0.9]]), 0.2
    delta = (torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1) * eps
    inside = ((x + delta >= 0) & (x + delta <= 1)).all(1).double().mean().item()
    assert 2 ** geometry.log2_perturbable_volume(x, eps).item() == pytest.approx(inside * (2 * eps) ** 2, rel=0.01)


def test_volume_is_summed_in_float64_and_does_not_depend_on_slices():
    x = torch.rand(2500, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = geometry.log2_perturbable_volume(x, 0.3)
    assert (found.dtype, found.shape) == (torch.float64, (2500,))
    assert torch.equal(found[2300:], geometry.log2_perturbable_volume(x[2300:], 0.3))
    assert geometry.log2_perturbable_volume(x[:0], 0.3).shape == (0,)


@pytest.mark.parametrize("eps", [0.0, -0.3, math.nan])
def test_volume_refuses_an_empty_ball(eps):
    with pytest.raises(ValueError, match=f"eps must be > 0 for a volume, given {eps}"):
        geometry.log2_perturbable_volume(torch.zeros(1, 1, 2, 2), eps)


def naive_distance(x: np.ndarray, y: np.ndarray, nearest: float, smallest: float) -> float:
    """Appendix D.2.1 as it reads, point by point."""
    classes = []
    for label in np.unique(y):
        means = []
        for point in x[y == label]:
            distances = sorted(math.sqrt(((point - other) ** 2).sum()) for other in x[y != label])
            means.append(np.mean(distances[: max(1, int(nearest * len(distances)))]))
        classes.append(np.mean(sorted(means)[: max(1, int(smallest * len(means)))]))
    return float(np.mean(classes))


@pytest.mark.parametrize(("nearest", "smallest"), [(0.1, 0.1), (0.5, 1.0), (1.0, 0.2), (0.001, 0.001)])
def test_distance_is_the_definition(nearest, smallest):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(90, 1, 4, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (90,), generator=generator)  # classes of different sizes
    expected = naive_distance(x.flatten(1).numpy(), y.numpy(), nearest, smallest)
    assert geometry.inter_class_distance(x, y, nearest, smallest) == pytest.approx(expected, rel=1e-9)
    assert geometry.inter_class_distance(x.float(), y, nearest, smallest) == pytest.approx(expected, rel=1e-4)


def test_distance_scales_with_the_images(digits):
    x, y = digits
    original = geometry.inter_class_distance(x, y)
    for factor in (0.25, 0.821):
        scaled = geometry.inter_class_distance(transforms.rescale(x, factor), y)
        assert scaled == pytest.approx(factor * original, rel=1e-4)


def test_distance_needs_two_classes():
    with pytest.raises(ValueError, match="at least two classes, given 1"):
        geometry.inter_class_distance(torch.rand(5, 1, 2, 2), torch.ones(5, dtype=torch.long))


def test_pairwise_distances_are_the_definition():
    x = torch.rand(7, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = x.flatten(1).tolist()
    expected = [math.dist(points[i], points[j]) for i in range(7) for j in range(i + 1, 7)]
    assert geometry.pairwise_distances(x).tolist() == pytest.approx(expected, rel=1e-12)
    assert geometry.pairwise_distances(x.float()).tolist() == pytest.approx(expected, rel=1e-5)


def test_pairwise_distances_need_two_points():
    with pytest.raises(ValueError, match="at least two points, given 1"):
        geometry.pairwise_distances(torch.rand(1, 1, 2, 2))


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(("transform", "expected"), [("original", 7.308), ("binarize", 8.636)])
def test_distance_of_real_mnist(transform, expected):
    x, y, _ = data.transformed("mnist", "test", transform, size=10000)
    assert geometry.inter_class_distance(x, y) == pytest.approx(expected, abs=0.0006)
