"""Section 2's formulas against rational arithmetic, quadrature and counting; never against themselves."""

import math
from fractions import Fraction
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq, minimize
from scipy.stats import binom, kstest

from lib import theory

BUDGETS = (8 / 255, 0.1, 0.3)


def every(*axes) -> list[tuple]:
    """All combinations."""
    return list(product(*axes))


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([2019, *seed])


def agrees(count: int, n: int, probability: float) -> bool:
    """Whether `count` out of n is what a binomial of that probability gives, but for one time in a million."""
    return binom.cdf(count, n, probability) > 5e-7 and binom.sf(count - 1, n, probability) > 5e-7


def rational_irwin_hall(t: float, d: int) -> float:
    """The alternating sum of the textbook, without rounding."""
    t = Fraction(t)
    terms = ((-1) ** k * math.comb(d, k) * (t - k) ** d for k in range(d + 1) if k < t)
    return float(sum(terms) / math.factorial(d))


def inverted_irwin_hall(half_width: float, d: int) -> float:
    """P(|x₁ + … + x_d - d/2| < half_width), from the characteristic function (sin(t/2)/(t/2))^d."""
    # np.sinc(z) = sin(πz)/(πz)
    value, _ = quad(
        lambda t: half_width * np.sinc(half_width * t / math.pi) * np.sinc(t / (2 * math.pi)) ** d, 0, 60, limit=2000
    )
    return 2 / math.pi * value


def normal_cdf(z: float) -> float:
    return 0.5 + quad(lambda t: math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi), 0, z, epsabs=1e-13)[0]


def normal_quantile(p: float) -> float:
    return brentq(lambda z: normal_cdf(z) - p, -9, 9, xtol=1e-12)


# --- Example 1: robust errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.0, *BUDGETS, 0.5])
def test_axis_split(eps):
    x = rng(1).random((100_000, 3))
    way = np.array([eps, 0, 0])
    fooled = (theory.axis_label(x + way) != theory.axis_label(x - way)).sum()
    assert agrees(fooled, len(x), theory.axis_robust_error(eps))


@pytest.mark.parametrize("d", [1, 2, 3, 7, 20, 60])
def test_irwin_hall_is_the_textbooks_sum(d):
    for t in (-1.0, 0.0, 0.3, d / 5, d / 2 - 0.1, d / 2, 0.9 * d, d - 0.01, d + 0.0, d + 2.0):
        expected = 0.0 if t <= 0 else 1.0 if t >= d else rational_irwin_hall(t, d)
        assert theory.irwin_hall_cdf(t, d) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("d", "eps"), every([5, 10, 100, 784, 3072], [0.003, *BUDGETS]))
def test_diagonal_split_by_quadrature(d, eps):
    assert theory.diagonal_robust_error(d, eps) == pytest.approx(inverted_irwin_hall(d * eps, d), abs=1e-7)


@pytest.mark.parametrize("eps", [0.0, *BUDGETS, 0.5])
def test_diagonal_split_in_low_dimensions(eps):
    assert theory.diagonal_robust_error(1, eps) == pytest.approx(2 * eps)
    assert theory.diagonal_robust_error(2, eps) == pytest.approx(1 - (1 - 2 * eps) ** 2)  # the square less two triangles


@pytest.mark.parametrize(("d", "eps"), every([1, 10, 784], BUDGETS))
def test_normal_limit_is_the_normal_integral(d, eps):
    variance = d * quad(lambda u: (u - 0.5) ** 2, 0, 1)[0]
    expected = 2 * normal_cdf(d * eps / math.sqrt(variance)) - 1
    assert theory.diagonal_robust_error_normal(d, eps) == pytest.approx(expected, abs=1e-10)


def test_on_which_side_the_normal_limit_lies():
    """What Section 2 says of it: too large in low dimensions, for large budgets a little too small in higher ones, and within
    0.1 points of the exact value from 100 dimensions on.
    """
    for eps in (8 / 255, 0.1):
        for d in (1, 2, 3, 5, 10):
            assert theory.diagonal_robust_error_normal(d, eps) > theory.diagonal_robust_error(d, eps), (d, eps)
    over = {d: theory.diagonal_robust_error_normal(d, 0.3) - theory.diagonal_robust_error(d, 0.3) for d in (1, 2, 3, 5, 10)}
    assert min(over[1], over[2], over[3]) > 0
    assert -0.005 < min(over[5], over[10]) <= max(over[5], over[10]) < 0
    for eps in BUDGETS:
        for d in (100, 300, 784, 3072):
            assert abs(theory.diagonal_robust_error_normal(d, eps) - theory.diagonal_robust_error(d, eps)) < 0.001, (d, eps)


def test_normal_limit_is_a_limit():
    gaps = [
        max(abs(theory.diagonal_robust_error_normal(d, eps) - theory.diagonal_robust_error(d, eps)) for eps in BUDGETS)
        for d in (1, 10, 100, 1000)
    ]
    assert gaps[0] > 0.05
    assert all(later < earlier / 8 for earlier, later in pairwise(gaps))


@pytest.mark.parametrize(("d", "eps"), every([1, 2, 10, 100, 784, 3072], [*BUDGETS, 0.5]))
def test_bounds_are_chebyshevs(d, eps):
    variance = quad(lambda u: (u - 0.5) ** 2, 0, 1)[0]
    assert theory.diagonal_bound_sharp(d, eps) == pytest.approx(1 - d * variance / (d * eps) ** 2)
    # The paper's has the largest variance that [0, 1] allows, that of a fair coin.
    assert theory.diagonal_bound(d, eps) == pytest.approx(1 - d * np.var([0, 1]) / (d * eps) ** 2)
    assert theory.diagonal_bound(d, eps) < theory.diagonal_bound_sharp(d, eps) <= theory.diagonal_robust_error(d, eps)


def boxed_robust_error(d: int, eps: float) -> float:
    """The diagonal split's loss to an attack that stays in the cube: min(x + ε, 1) is 1, or else uniform on [ε, 1]."""
    total = sum(
        binom.pmf(k, d, eps) * (rational_irwin_hall((d / 2 - k - (d - k) * eps) / (1 - eps), d - k) if k < d else 0)
        for k in range(d + 1)
        if d / 2 - k - (d - k) * eps > 0
    )
    return 1 - 2 * total


@pytest.mark.parametrize(("d", "eps"), every([1, 3, 12, 40], BUDGETS))
def test_bound_within_the_cube(d, eps):
    mean = quad(lambda u: min(u + eps, 1), 0, 1, points=[1 - eps])[0]
    variance = quad(lambda u: (min(u + eps, 1) - mean) ** 2, 0, 1, points=[1 - eps])[0]
    bound = theory.diagonal_bound_in_cube(d, eps)
    # Cantelli: P(X ≤ E - t) ≤ σ²/(σ² + t²), twice
    assert bound == pytest.approx(1 - 2 * d * variance / (d * variance + (d * (mean - 0.5)) ** 2))
    assert theory.diagonal_bound(d, eps) <= bound <= boxed_robust_error(d, eps)


# --- Example 1: the maps ------------------------------------------------------------------------------------------------

MAPS = [(theory.turn, 2), (theory.turn, 3), (theory.turn, 784), (theory.slide, 2)]


@pytest.mark.parametrize(("move", "d"), MAPS)
def test_a_map_carries_the_labels_and_leaves_the_bayes_error_zero(move, d):
    x = rng(2, d).random((4000, d))
    u = move(x)
    assert ((u >= 0) & (u <= 1)).all()
    assert (theory.diagonal_label(u) == theory.axis_label(x)).all()
    assert 0.4 < theory.axis_label(x).mean() < 0.6


@pytest.mark.parametrize(("move", "d"), MAPS)
def test_a_map_preserves_measure(move, d):
    """Boxes, and sums of all coordinates, hold as many moved points as unmoved ones should lie there."""
    n = 40_000 if d < 10 else 5000
    u = move(rng(3, d).random((n, d)))
    for i in range(20):
        corners = np.sort(rng(4, i).random((2, 2)), axis=0)
        sides = corners[1] - corners[0]
        inside = ((u[:, :2] > corners[0]) & (u[:, :2] < corners[1])).all(1).sum()
        assert agrees(inside, n, sides.prod()), corners
    for t in np.linspace(0.45, 0.55, 5) * d:
        assert agrees((u.sum(1) <= t).sum(), n, 0.5 + np.sign(t - d / 2) * 0.5 * inverted_sum(abs(t - d / 2), d)), t


def inverted_sum(half_width: float, d: int) -> float:
    if d == 2:
        return 1 - (1 - half_width) ** 2
    return inverted_irwin_hall(half_width, d) if d > 3 else 2 * rational_irwin_hall(d / 2 + half_width, d) - 1


@pytest.mark.parametrize("d", [1, 2, 3, 784])
def test_turning_twice_changes_nothing(d):
    x = rng(5, d).random((4000, d))
    assert np.allclose(theory.turn(theory.turn(x)), x, rtol=0, atol=1e-15)
    moved = (theory.turn(x) != x).any(1).mean()
    assert moved == 0 if d == 1 else 0.1 < moved < 0.6


def test_turning_is_two_rigid_motions():
    x = rng(6).random((400, 5))
    u = theory.turn(x)
    stays = (u == x).all(1)
    for piece in (stays, ~stays):
        before, after = x[piece], u[piece]
        distances = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (before, after)]
        assert np.allclose(*distances)
    assert not set(map(tuple, u[stays].round(12))) & set(map(tuple, u[~stays].round(12)))


def test_sliding_has_an_inverse_and_determinant_one():
    x = rng(7).random((4000, 2)) * 0.98 + 0.01
    assert np.allclose(theory.slide_back(theory.slide(x)), x, atol=1e-9)
    assert np.allclose(theory.slide(theory.slide_back(x)), x, atol=1e-9)
    h = 1e-6
    kink = np.abs(x[:, 0] - 0.5) < 1e-3
    columns = [(theory.slide(x + h * e) - theory.slide(x - h * e)) / (2 * h) for e in np.eye(2)]
    determinant = np.linalg.det(np.stack(columns, -1))
    assert np.allclose(np.abs(determinant[~kink]), 1, atol=1e-6)


def test_sliding_does_not_tear():
    at = np.linspace(0, 1, 101)
    left, right = (theory.slide(np.stack([np.full(101, 0.5 + side), at], 1)) for side in (-1e-9, 1e-9))
    assert np.abs(left - right).max() < 1e-8


def test_sliding_sends_a_line_to_the_chord_with_as_much_below():
    for first in (0.05, 0.3, 0.5, 0.8, 0.99):
        sums = theory.slide(np.array([[first, second] for second in (0.0, 0.4, 1.0)])).sum(1)
        assert np.allclose(sums, sums[0])
        below = quad(lambda u, s=sums[0]: min(max(s - u, 0), 1), 0, 1, points=[min(sums[0], 1), max(sums[0] - 1, 0)])[0]
        assert below == pytest.approx(first)


# --- Theorem 2.1 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eps", "mass"), every([0.01, 0.2, 0.5, 1.0], [0.5, 0.75, 0.9, 0.99]))
def test_cube_bounds_by_quadrature(eps, mass):
    z = math.sqrt(2 * math.pi) * eps
    assert theory.cube_concentration(eps, mass) == pytest.approx(normal_cdf(z + normal_quantile(mass)), abs=1e-10)
    assert theory.cube_concentration(eps, mass, form="middle") == pytest.approx(normal_cdf(z), abs=1e-10)
    # 1 - e^{-πε²} is the mass within ε of the centre of a plane Gaussian of density e^{-πr²}.
    last = quad(lambda r: 2 * math.pi * r * math.exp(-math.pi * r**2), 0, eps)[0]
    assert theory.cube_concentration(eps, mass, form="last") == pytest.approx(last, abs=1e-10)


@pytest.mark.parametrize("eps", [0.001, 0.09, 0.5, 1.0, 1.9, 2.0])
def test_modulus_of_convexity_is_the_depth_of_a_chord(eps):
    """The infimum over pairs of unit vectors at least ε apart, over a fine set of angles."""
    angle = np.linspace(0, math.pi, 400_001)
    apart = 2 * np.sin(angle / 2)
    depth = 1 - np.cos(angle / 2)
    assert theory.modulus_of_convexity(eps) == pytest.approx(depth[apart >= eps - 1e-12].min(), abs=1e-5)


def test_constants_of_the_modulus():
    eps = np.linspace(0.01, 2, 500)
    modulus = np.array([theory.modulus_of_convexity(e) for e in eps])
    for constant in (theory.PAPER_CONSTANT, theory.BEST_CONSTANT):
        assert (modulus >= constant * eps**2).all()
    assert abs(theory.PAPER_CONSTANT - (2 - 3**0.5) / 3) < 1e-15
    assert theory.modulus_of_convexity(0.01) < 1.0001 * theory.BEST_CONSTANT * 0.01**2  # no larger constant


@pytest.mark.parametrize(("eps", "d", "mass"), every([0.02, 0.09, 1.0, 2.0], [1, 20, 3072], [0.5, 0.9]))
def test_ball_bounds_by_quadrature(eps, d, mass):
    depth = 1 - math.cos(math.asin(eps / 2))  # of a chord of length eps below the unit circle
    # (1 - δ)^(2d) is the share of a 2d-ball within 1 - δ; e^{-x} is one less an integral of itself.
    share = quad(lambda r: 2 * d * r ** (2 * d - 1), 0, 1 - depth)[0]
    assert theory.ball_concentration(eps, d, mass) == pytest.approx(1 - share / mass, abs=1e-8)
    for form, constant, exponent in (
        ("middle", theory.PAPER_CONSTANT, 2 * d * depth),
        ("last", theory.PAPER_CONSTANT, 2 * d * (2 - 3**0.5) / 3 * eps**2),
        ("last", theory.BEST_CONSTANT, d * eps**2 / 4),
    ):
        outside = 1 - quad(lambda t: math.exp(-t), 0, min(exponent, 60), limit=200)[0]
        bound = theory.ball_concentration(eps, d, mass, form=form, constant=constant)
        assert bound == pytest.approx(1 - outside / mass, abs=1e-8)


@pytest.mark.parametrize(("eps", "mass", "d"), every([0.001, 0.05, 0.3, 1.0, 2.0], [0.5, 0.7, 0.9, 1.0], [1, 50, 3072]))
def test_each_chain_descends(eps, mass, d):
    first, middle, last = (theory.cube_concentration(eps, mass, form=form) for form in theory.FORMS)
    assert first >= middle > last
    first, middle, last = (theory.ball_concentration(eps, d, mass, form=form) for form in theory.FORMS)
    best = theory.ball_concentration(eps, d, mass, form="last", constant=theory.BEST_CONSTANT)
    assert first >= middle >= best >= last


# --- Example 2 ----------------------------------------------------------------------------------------------------------


def test_example_2_has_the_papers_numbers_from_the_first_inequalities():
    cube, ball = theory.EXAMPLE_2["cube"], theory.EXAMPLE_2["ball"]
    outside = 1 - normal_cdf(math.sqrt(2 * math.pi) * 0.5 + normal_quantile(0.9))
    assert theory.cube_vulnerable_fraction(eps=0.5) == pytest.approx(1 - 10 * outside, abs=1e-9)
    assert round(100 * theory.cube_vulnerable_fraction(**cube), 2) == 94.38
    power = 1.0
    for _ in range(3072):  # (1 - δ)^(2d), a factor at a time
        power *= 1 - 0.09**2 / 4
    assert theory.ball_vulnerable_fraction(0.09, 3072) == pytest.approx(1 - 10 * power / 0.9, rel=1e-9)
    assert round(100 * theory.ball_vulnerable_fraction(**ball), 2) == 97.81


def test_example_2_from_the_weaker_forms():
    for form in ("middle", "last"):
        assert theory.cube_vulnerable_fraction(0.5, form=form) < 0
    last = theory.ball_vulnerable_fraction(0.09, 3072, form="last")
    assert last == pytest.approx(1 - 10 / 0.9 * math.exp(-2 * 3072 * 0.0893164 * 0.0081), abs=1e-5)
    assert last < 0.94 < 0.977 < theory.ball_vulnerable_fraction(0.09, 3072, form="last", constant=1 / 8)


@pytest.mark.parametrize(("space", "eps", "d"), [("cube", 0.5, 784), ("ball", 0.09, 3072)])
def test_example_2_holds_for_ten_slabs(space, eps, d):
    """Ten classes between parallel planes; only the outermost two have points that are far from all others."""
    direction = "diagonal" if space == "cube" else "axis"
    (row,) = theory.simulate_half_space(space, direction, d, 0.9, [eps], 4000, rng(8))
    vulnerable = 1 - 2 * (1 - row["inside"] / row["n"])
    guarantee = theory.cube_vulnerable_fraction(eps) if space == "cube" else theory.ball_vulnerable_fraction(eps, d)
    assert vulnerable > guarantee > 0.9


# --- simulation ---------------------------------------------------------------------------------------------------------


def test_samples_are_uniform():
    cube = theory.sample("cube", 20_000, 3, rng(9))
    assert all(kstest(cube[:, i], "uniform").pvalue > 1e-6 for i in range(3))
    for d in (1, 3, 50):
        ball = theory.sample("ball", 20_000, d, rng(10, d))
        assert kstest(np.linalg.norm(ball, axis=1) ** d, "uniform").pvalue > 1e-6
        assert np.abs(ball.mean(0)).max() < 6 / math.sqrt(20_000 * (d + 2))  # a coordinate has variance 1/(d + 2)
        covariance = np.cov(ball.T).reshape(d, d) * (d + 2)
        assert np.abs(covariance - np.eye(d)).max() < 0.08


@pytest.mark.parametrize("d", [1, 2, 12, 200])
def test_simulated_example_1(d):
    n = 200_000 if d <= 12 else 20_000
    rows = theory.simulate_example_1(d, BUDGETS, n, rng(11, d))
    assert [row["eps"] for row in rows] == list(BUDGETS)
    for row in rows:
        assert (row["d"], row["n"], row["bayes"]) == (d, n, 0)
        assert agrees(row["axis"], n, 2 * row["eps"])
        assert agrees(row["diagonal"], n, rational_diagonal(d, row["eps"]))
        assert row["diagonal_in_cube"] <= row["diagonal"]
        assert (row["diagonal_in_cube"] < row["diagonal"]) or d < 3 or row["diagonal"] == n
        if d <= 12:
            assert agrees(row["diagonal_in_cube"], n, boxed_robust_error(d, row["eps"]))
        else:
            assert row["diagonal_in_cube"] / n >= theory.diagonal_bound_in_cube(d, row["eps"])


def rational_diagonal(d: int, eps: float) -> float:
    return 1 - 2 * rational_irwin_hall(d / 2 - d * eps, d)


def test_a_simulation_is_repeated_by_its_seed_whatever_the_memory(monkeypatch):
    rows = theory.simulate_example_1(5, [0.1], 3000, rng(12))
    assert theory.simulate_example_1(5, [0.1], 3000, rng(12)) == rows
    assert theory.simulate_example_1(5, [0.1], 3000, rng(13)) != rows
    monkeypatch.setattr(theory, "_CHUNK", 5 * 1000)
    assert theory.simulate_example_1(5, [0.1], 3000, rng(12)) == rows  # in three parts


class HalfSpace(NamedTuple):
    space: str
    direction: str
    d: int
    mass: float


HALF_SPACES = [
    HalfSpace(space, direction, d, mass)
    for space, direction, d, mass in product(theory.SPACES, theory.DIRECTIONS, (1, 2, 30), (0.5, 0.9))
]


@pytest.mark.parametrize("case", HALF_SPACES, ids=str)
def test_a_half_space_holds_its_share(case):
    normal, threshold = theory.half_space(*case)
    assert np.linalg.norm(normal) == pytest.approx(1)
    x = theory.sample(case.space, 50_000, case.d, rng(14))
    assert agrees((x @ normal <= threshold).sum(), len(x), case.mass)


def test_a_half_space_may_be_everything():
    for space, direction in product(theory.SPACES, theory.DIRECTIONS):
        normal, threshold = theory.half_space(space, direction, 4, 1.0)
        assert (theory.sample(space, 1000, 4, rng(15)) @ normal <= threshold).all()


@pytest.mark.parametrize(("space", "seed"), every(theory.SPACES, range(6)))
def test_distance_to_a_half_space_by_minimisation(space, seed):
    """Against a general solver, from points among which some have the nearest point of the plane outside the cube."""
    d = 4
    normal = rng(16, seed).random(d) if space == "cube" else rng(16, seed).standard_normal(d)
    normal /= np.linalg.norm(normal)
    threshold = 0.1 if space == "ball" else 0.35 * normal.sum()
    x = theory.sample(space, 12, d, rng(17, seed))
    if space == "cube":
        x[:6, 0], x[:6, 1:] = 1, x[:6, 1:] ** 4  # near an edge
    distances = theory.half_space_distance(space, x, normal, threshold)
    inside = {"type": "ineq", "fun": lambda z: threshold - z @ normal}
    whole = {"type": "ineq", "fun": lambda z: 1 - z @ z}
    for point, distance in zip(x, distances, strict=True):
        solved = minimize(
            lambda z, point=point: ((z - point) ** 2).sum(), np.full(d, 0.0), method="SLSQP", options={"ftol": 1e-14},
            constraints=[inside, whole] if space == "ball" else [inside], bounds=[(0, 1)] * d if space == "cube" else None,
        )  # fmt: skip
        assert distance == pytest.approx(math.sqrt(solved.fun), abs=1e-5)


def test_the_cubes_faces_make_the_way_longer():
    x = np.array([[1.0, 0.01, 0.01, 0.01, 0.01]])
    normal, _ = theory.half_space("cube", "diagonal", 5, 0.5)
    threshold = 0.5 / math.sqrt(5)
    assert theory.half_space_distance("cube", x, normal, threshold)[0] > 1.05 * (x @ normal - threshold)[0]
    assert theory.half_space_distance("ball", x / 2, normal, 0.05)[0] == pytest.approx((x / 2 @ normal)[0] - 0.05)


@pytest.mark.parametrize(("d", "mass"), every([1, 2, 30], [0.5, 0.9]))
def test_simulated_half_spaces_of_known_neighbourhood(d, mass):
    n, eps = 20_000, [0.03, 0.2, 0.6]
    for row in theory.simulate_half_space("cube", "axis", d, mass, eps, n, rng(18)):
        assert agrees(row["inside"], n, min(mass + row["eps"], 1))
        assert {name: row[name] for name in ("direction", "d", "mass", "n")} == {
            "direction": "axis", "d": d, "mass": mass, "n": n,
        }  # fmt: skip
    density = quad(lambda t: (1 - t**2) ** ((d - 1) / 2), -1, 1)[0]
    share = lambda t: quad(lambda s: (1 - s**2) ** ((d - 1) / 2), -1, min(t, 1))[0] / density  # noqa: E731
    threshold = brentq(lambda t: share(t) - mass, -1, 1)
    for row in theory.simulate_half_space("ball", "axis", d, mass, eps, n, rng(19)):
        assert agrees(row["inside"], n, min(share(threshold + row["eps"]), 1))


@pytest.mark.parametrize("eps", [0.1, 0.3, 0.6])
def test_simulated_diagonal_half_square(eps):
    (row,) = theory.simulate_half_space("cube", "diagonal", 2, 0.5, [eps], 50_000, rng(20))
    assert agrees(row["inside"], row["n"], 1 - (1 - eps * math.sqrt(2)) ** 2 / 2)


@pytest.mark.parametrize(
    "case",
    [HalfSpace("cube", direction, d, mass) for direction, d, mass in product(theory.DIRECTIONS, (2, 30, 784), (0.5, 0.9))]
    + [HalfSpace("ball", "axis", d, mass) for d, mass in product((2, 784, 3072), (0.5, 0.9))],
    ids=str,
)
def test_half_spaces_lie_above_the_bounds(case):
    n = 2000
    for row in theory.simulate_half_space(*case, [0.01, 0.05, 0.1, 0.3, 0.6, 1.0], n, rng(21)):
        for form in theory.FORMS:
            if case.space == "cube":
                bound = theory.cube_concentration(row["eps"], case.mass, form=form)
            else:
                bound = theory.ball_concentration(row["eps"], case.d, case.mass, form=form)
            assert binom.cdf(row["inside"], n, min(max(bound, 0), 1)) > 1e-6, (row, form)


# --- errors -------------------------------------------------------------------------------------------------------------

BUDGET = r"eps must be from 0 to 1/2 in Example 1, given {}"
POSITIVE_BUDGET = r"eps must be from above 0 to 1/2 in Example 1, given {}"
DIMENSION = r"d must be a whole number ≥ 1, given {}"
MASS = r"P\(A\) must be from 1/2 to 1, as Theorem 2.1 asks, given {}"
FINITE = "eps must be > 0 and finite, given {}"
DIAMETER = "eps must be > 0 and at most 2, the ball's diameter, given {}"
FORM = "unknown form '{}'; allowed: first, middle, last"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "wrong", "message"),
    [
        *((theory.axis_robust_error, eps, BUDGET) for eps in (-0.1, 0.51, math.nan, math.inf)),
        *((lambda eps: theory.diagonal_robust_error(3, eps), eps, BUDGET) for eps in (-0.1, 0.6, math.nan)),
        *((lambda eps: theory.diagonal_robust_error_normal(3, eps), eps, BUDGET) for eps in (-0.1, 0.6)),
        *((lambda eps: theory.diagonal_bound(3, eps), eps, POSITIVE_BUDGET) for eps in (0.0, -0.1, 0.6, math.nan)),
        *((lambda eps: theory.diagonal_bound_sharp(3, eps), eps, POSITIVE_BUDGET) for eps in (0, 0.6)),
        *((lambda eps: theory.diagonal_bound_in_cube(3, eps), eps, POSITIVE_BUDGET) for eps in (0, 0.6)),
        *((lambda d: theory.irwin_hall_cdf(0.5, d), d, DIMENSION) for d in (0, -1, 1.5, math.nan)),
        *((lambda d: theory.diagonal_robust_error(d, 0.1), d, DIMENSION) for d in (0, 2.5)),
        *((lambda d: theory.diagonal_robust_error_normal(d, 0.1), d, DIMENSION) for d in (0, 2.5)),
        *((lambda d: theory.diagonal_bound(d, 0.1), d, DIMENSION) for d in (0, -3)),
        *((lambda d: theory.diagonal_bound_sharp(d, 0.1), d, DIMENSION) for d in (0, -3)),
        *((lambda d: theory.diagonal_bound_in_cube(d, 0.1), d, DIMENSION) for d in (0, -3)),
        *((theory.cube_concentration, eps, FINITE) for eps in (0, -0.1, math.nan, math.inf)),
        *((lambda mass: theory.cube_concentration(0.1, mass), mass, MASS) for mass in (0.4, 0.0, 1.1, -1, math.nan)),
        *((lambda mass: theory.ball_concentration(0.1, 3, mass), mass, MASS) for mass in (0.49, 1.5, math.nan)),
        *((lambda eps: theory.ball_concentration(eps, 3), eps, DIAMETER) for eps in (0, -0.1, 2.1, math.nan, math.inf)),
        *((theory.modulus_of_convexity, eps, DIAMETER) for eps in (0, 2.5)),
        (lambda d: theory.ball_concentration(0.1, d), 0, DIMENSION),
        (lambda form: theory.cube_concentration(0.1, form=form), "second", FORM),
        (lambda form: theory.ball_concentration(0.1, 3, form=form), "second", FORM),
        *(
            (lambda c: theory.ball_concentration(0.1, 3, constant=c), c, "C must be > 0 and at most 1/8, .*, given {}")
            for c in (0, -1, 0.126, math.nan)
        ),
        *((lambda k: theory.cube_vulnerable_fraction(0.5, classes=k), k, "at least 2 classes, given {}") for k in (1, 0)),
        (lambda k: theory.ball_vulnerable_fraction(0.5, 9, classes=k), 1, "at least 2 classes, given {}"),
        (lambda d: theory.ball_vulnerable_fraction(0.09, d), 0, DIMENSION),
        (lambda space: theory.sample(space, 2, 2, rng()), "torus", "unknown space '{}'; allowed: cube, ball"),
        (lambda space: theory.half_space(space, "axis", 2, 0.5), "torus", "unknown space '{}'; allowed: cube, ball"),
        (lambda to: theory.half_space("cube", to, 2, 0.5), "edge", "unknown direction '{}'; allowed: axis, diagonal"),
        (lambda mass: theory.half_space("cube", "axis", 2, mass), 0.3, MASS),
        (lambda d: theory.half_space("cube", "axis", d, 0.5), 0, DIMENSION),
        (lambda d: theory.sample("cube", 2, d, rng()), 0, DIMENSION),
        (lambda d: theory.simulate_example_1(d, [0.1], 5, rng()), 0, DIMENSION),
        (lambda eps: theory.simulate_example_1(2, [0.1, eps], 5, rng()), 0.7, BUDGET),
        (lambda eps: theory.simulate_half_space("cube", "axis", 2, 0.5, [eps], 5, rng()), 0.0, FINITE),
        (lambda d: theory.slide(np.zeros((4, d))), 3, "slide is a map of the square, d = 2; given d = {}"),
        (lambda d: theory.slide_back(np.zeros((4, d))), 1, "slide is a map of the square, d = 2; given d = {}"),
    ],
)
def test_what_is_refused(call, wrong, message):
    with pytest.raises(ValueError, match=message.format(wrong)):
        call(wrong)
