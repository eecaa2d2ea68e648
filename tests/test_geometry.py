"""Perturbable volume and distances against brute force and the paper."""

import math

import numpy as np
import pytest
import torch

from lib import data, geometry, transforms
from lib.store import results


@pytest.mark.parametrize("eps", [0.3, 8 / 255, 0.5])
def test_volume_of_corner_and_centre(eps):
    d = 2 * 5 * 3
    corner, centre = torch.ones(1, 2, 5, 3), torch.full((1, 2, 5, 3), 0.5)
    volumes = geometry.log2_perturbable_volume(torch.cat([corner, 1 - corner, centre]), eps)
    expected = [d * math.log2(eps), d * math.log2(eps), d * math.log2(2 * eps)]
    assert volumes.tolist() == pytest.approx(expected, abs=1e-9)


def test_volume_is_the_product_of_the_sides():
    x = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for eps in (0.1, 0.3, 0.9):
        for image, volume in zip(x, geometry.log2_perturbable_volume(x, eps).tolist(), strict=True):
            sides = [min(value + eps, 1) - max(value - eps, 0) for value in image.flatten().tolist()]
            assert 2**volume == pytest.approx(math.prod(sides), rel=1e-12)


def test_volume_is_the_share_of_perturbations_within_the_cube():
    x, eps = torch.tensor([[0.05, 0.9]]), 0.2
    delta = (torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1) * eps
    inside = ((x + delta >= 0) & (x + delta <= 1)).all(1).double().mean().item()
    assert 2 ** geometry.log2_perturbable_volume(x, eps).item() == pytest.approx(inside * (2 * eps) ** 2, rel=0.01)


def test_volume_is_summed_in_float64_and_does_not_depend_on_slices():
    x = torch.rand(2500, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    volumes = geometry.log2_perturbable_volume(x, 0.3)
    assert (volumes.dtype, volumes.shape) == (torch.float64, (2500,))
    assert torch.equal(volumes[2300:], geometry.log2_perturbable_volume(x[2300:], 0.3))
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


@pytest.mark.usefixtures("real_data")
def test_table_6_of_mnist_is_the_papers_to_the_last_digit():
    """Truncated toward zero: -1361, -1297, -1265, -1234."""
    printed = results.published("table-6").query("dataset == 'mnist'").set_index("transform")["value"]
    assert len(printed) == 4
    for transform, value in printed.items():
        x, _, _ = data.transformed("mnist", "test", transform, size=10000)
        assert math.trunc(geometry.log2_perturbable_volume(x, 0.3).mean().item()) == value, transform


def test_linf_distances_are_the_definition():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(12, 2, 3, 2, generator=generator, dtype=torch.float64), torch.tensor([3, 1, 3, 0, 1, 0, 0, 3, 1, 0, 3, 3])
    expected = [(x[i] - x[j]).abs().max().item() for i in range(12) for j in range(i) if y[i] != y[j]]
    distances = geometry.linf_distances(x, y).tolist()
    assert sorted(distances) == pytest.approx(sorted(expected), rel=1e-12)


def test_linf_distances_need_two_classes():
    with pytest.raises(ValueError, match="at least two classes, given 1"):
        geometry.linf_distances(torch.rand(5, 1, 2, 2), torch.ones(5, dtype=torch.long))


# --- spheres ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "sides"), [(2.0, 3), (math.sqrt(2), 4), (1 / math.cos(math.pi / 5), 5), (1.1, 8), (100, 3)]
)
def test_sides_of_a_polygon_between_circles(distance, sides):
    assert geometry.polygon_sides(distance) == sides
    # So many fit, and one fewer does not.
    assert 1 / math.cos(math.pi / sides) <= distance * (1 + 1e-9)
    assert sides == 3 or 1 / math.cos(math.pi / (sides - 1)) > distance


def test_the_two_halves_of_theorem_d1_agree_with_4_to_the_n_and_not_with_4n():
    for n in range(1, 200):
        assert geometry.facets_needed(n, 2.0) <= 4**n
    assert geometry.facets_needed(100, 2.0) > 4 * 100
    assert geometry.facets_needed(8, 1.0) == pytest.approx(math.exp(4))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_known_polytopes_have_the_facets_that_are_needed(n):
    """The cube lies at distance √n and has 2n facets, the cross-polytope at the same distance and has 2ⁿ."""
    assert geometry.facets_needed(n, math.sqrt(n)) <= min(2 * n, 2**n)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.facets_needed(3, 0.9), "a distance from the ball is ≥ 1, given 0.9"),
        (lambda: geometry.facets_needed(3, math.nan), "given nan"),
        (lambda: geometry.polygon_sides(1.0), "no polygon lies between circles whose radii have the ratio 1.0"),
    ],
)
def test_no_polytope_there(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_left_between_the_spheres():
    assert geometry.ratio_of_radii(0.5) == 1.5
    assert geometry.ratio_of_radii(0.5, 0.1) == pytest.approx(1.4 / 1.1)
    assert geometry.ratio_of_radii(0.5, 0.25) == 1.0


def square(scale: float) -> geometry.SphereNetworks:
    """The network scale - max(x, 0) - max(-x, 0) - max(y, 0) - max(-y, 0): positive within the square |x| + |y| < scale."""
    inwards = torch.tensor([[[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]])
    return geometry.SphereNetworks(inwards, torch.zeros(1, 1, 4), -torch.ones(1, 4, 1), torch.full((1, 1, 1), scale))


def test_a_boundary_that_is_known():
    radii = geometry.boundary(square(1.2), 8, farthest=3.0)[0]
    step = 3.0 / 399
    expected = [1.2, 1.2 / math.sqrt(2)] * 4
    assert radii.tolist() == pytest.approx(expected, abs=step)
    beyond = geometry.boundary(square(5.0), 8, farthest=3.0)[0]
    assert beyond.tolist() == [3.0] * 8


def test_separation_of_a_network_that_is_known():
    """|x| + |y| < 1.5 holds the unit circle with .06 to spare, and of the circle of radius 2 nothing nearer than .5/√2 ... ."""
    gaps = torch.tensor([1.0])
    clean, robust = geometry.separation(square(1.5), gaps, 0.05, points=2000, seed=0)
    assert (clean.item(), robust.item()) == (1.0, 1.0)  # √2 + .05·√2 < 1.5 < 2 - .05·√2
    clean, robust = geometry.separation(square(1.5), gaps, 0.2, points=20000, seed=0)
    assert clean.item() == 1.0
    # Of the inner circle the points with |x| + |y| + .2·√2 < 1.5 hold, of the outer all: 2 - .2·√2 > 1.5.
    within = 2 * math.acos((1.5 - 0.2 * math.sqrt(2)) / math.sqrt(2)) / (math.pi / 2)
    assert robust.item() == pytest.approx((1 - within + 1) / 2, abs=0.02)


def test_points_lie_on_their_spheres_and_pushed_ones_near_them():
    gaps = torch.tensor([0.3, 1.0])
    x, sign = geometry._on_spheres(2, 100, gaps, 5, torch.Generator().manual_seed(0))
    radii = x.norm(dim=-1)
    assert torch.allclose(radii[:, sign > 0], torch.ones(2, 50))
    assert torch.allclose(radii[:, sign < 0], (1 + gaps)[:, None].expand(2, 50))
    networks = geometry._initial(2, 5, 7, torch.Generator().manual_seed(1))
    eps = torch.tensor([0.0, 0.2])
    moved = (geometry._pgd_l2(networks, x, sign, eps, 10) - x).norm(dim=-1)
    assert torch.equal(moved[0], torch.zeros(100))
    assert moved[1].max() <= 0.2 + 1e-6
    assert moved[1].median() > 0.15


def test_training_between_spheres_finds_what_there_is_and_an_adversary_costs_width():
    keywords = {"steps": 150, "batch_size": 128, "starts": 2, "seed": 0}
    gaps, eps = torch.tensor([0.5, 0.5]), torch.tensor([0.0, 0.15])
    shares = {}
    for width in (3, 16):
        networks = geometry.train_between_spheres(2, gaps, eps, width, **keywords)
        shares[width] = [share.tolist() for share in geometry.separation(networks, gaps, 0.15, points=1000, seed=1)]
    (clean, _), (_, robust) = shares[16]
    assert clean > 0.99
    assert robust > 0.9
    assert shares[3][0][0] > 0.85  # three units nearly separate the points
    assert shares[3][1][1] < robust - 0.1  # and not what an adversary makes of them
    assert shares[16][1][1] >= shares[16][1][0]  # adversarial training is the more robust


def test_training_between_spheres_is_decided_by_its_seed_and_keeps_the_best_start():
    keywords = {"steps": 40, "batch_size": 64}
    gaps, eps = torch.tensor([1.0]), torch.tensor([0.0])
    before = torch.random.get_rng_state()
    one, again, other = (geometry.train_between_spheres(2, gaps, eps, 4, starts=3, seed=seed, **keywords) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.inwards, again.inwards)
    assert not torch.equal(one.inwards, other.inwards)
    assert one.inwards.shape == (1, 2, 4)


def test_blobs_are_separable_by_the_first_axis_alone():
    x, sign = geometry.blobs(60, 4, seed=0)
    assert (sign * x[:, 0]).min() >= 0.5
    assert (sign[:, None] * x[:, 1:]).min() < 0
    assert geometry.largest_margin(x, sign) >= 0.5
    assert torch.equal(x, geometry.blobs(60, 4, seed=0)[0])


def test_the_largest_margin_of_two_points_is_half_their_distance_and_an_adversary_leads_there():
    x = torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert geometry.largest_margin(x, sign) == pytest.approx(2.5, rel=1e-6)
    assert geometry.linear_margin(x, sign, 2.0, steps=200) == pytest.approx(2.5, rel=0.05)


def test_a_linear_adversary_widens_the_margin_up_to_the_largest():
    x, sign = geometry.blobs(100, 6, seed=0)
    largest = geometry.largest_margin(x, sign)
    standard, adversarial = (geometry.linear_margin(x, sign, eps, steps=600) for eps in (0.0, 0.8 * largest))
    assert 0 < standard < adversarial < largest * (1 + 1e-9)
