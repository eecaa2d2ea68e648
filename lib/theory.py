"""The formulas of Section 2 and of Appendices A.1 and A.2, and their simulation.

Example 1 is about ℓ∞ budgets, ‖δ‖∞ < eps; Theorem 2.1 and Example 2 are about ℓ2. Points are uniform on the unit cube
[0, 1]^d or on the Euclidean unit ball B^d. A lower bound that comes out below 0 is returned as it is: it says nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaincinv, ndtr, ndtri

SPACES = ("cube", "ball")
DIRECTIONS = ("axis", "diagonal")  # of a half-space's normal
# The steps of a chain of inequalities, from the strongest bound to the weakest.
FORMS = ("first", "middle", "last")
PAPER_CONSTANT = (2 - math.sqrt(3)) / 3  # C of δ(ε) ≥ C·ε² in (2) and Appendix A.2
BEST_CONSTANT = 1 / 8  # the largest C for which that holds: δ(ε)/ε² falls to it as ε → 0

_CHUNK = 2**22  # coordinates that a simulation holds at a time


def _check_dimension(d: int) -> None:
    if not isinstance(d, (int, np.integer)) or d < 1:
        raise ValueError(f"d must be a whole number ≥ 1, given {d!r}")


def _check_budget(eps: float, *, positive: bool = False) -> None:
    """Example 1's range: no point of the cube is farther than 1/2 from either boundary, in ℓ∞."""
    if not 0 <= eps <= 0.5 or (positive and eps == 0):
        raise ValueError(f"eps must be from {'above ' * positive}0 to 1/2 in Example 1, given {eps!r}")


def _check_name(kind: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ValueError(f"unknown {kind} {given!r}; allowed: {', '.join(allowed)}")


def _check_mass(mass: float) -> None:
    if not 0.5 <= mass <= 1:
        raise ValueError(f"P(A) must be from 1/2 to 1, as Theorem 2.1 asks, given {mass!r}")


# --- Example 1: two ways to split the cube, ℓ∞ --------------------------------------------------------------------------


def axis_label(x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """y = 1 where xᵀe₁ > 1/2 (Example 1). The boundary is {x₁ = 1/2}."""
    return x[:, 0] > 0.5


def diagonal_label(x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """y = 1 where xᵀ1 > d/2 (Example 1 after T, and Proposition A.1)."""
    return x.sum(1) > x.shape[1] / 2


def axis_robust_error(eps: float) -> float:
    """RR* = 2ε, the axis split's robust error (Example 1): `P(|x₁ - 1/2| < ε)`. ValueError for eps outside [0, 1/2]."""
    _check_budget(eps)
    return 2.0 * eps


def irwin_hall_cdf(t: float, d: int) -> float:
    """P(x₁ + … + x_d ≤ t) for independent xᵢ uniform on [0, 1].

    By the recursion n·Fₙ(t) = t·Fₙ₋₁(t) + (n - t)·Fₙ₋₁(t - 1), all of whose terms are ≥ 0: right to the last digits at any
    d. The textbook's alternating sum Σₖ (-1)ᵏ C(d, k) (t - k)₊ᵈ / d! loses every digit to cancellation from d ≈ 25 on.
    ValueError for d < 1.
    """
    _check_dimension(d)
    points = t - np.arange(d + 1)
    values = (points >= 0).astype(float)  # F₀ at t, t - 1, …
    for n in range(1, d + 1):
        # The weight is clipped, for Fₙ is 0 left of 0 and 1 right of n.
        weight = np.clip(points[: d + 1 - n] / n, 0, 1)
        values = weight * values[:-1] + (1 - weight) * values[1:]
    return float(values[0])


def diagonal_robust_error(d: int, eps: float) -> float:
    """RR* of the diagonal split, exactly: `P(|xᵀ1 - d/2| < dε) = 1 - 2·P(xᵀ1 ≤ d/2 - dε)`, by symmetry (Example 1).

    The worst perturbation, ±ε·1, moves xᵀ1 by dε; as in the paper it may leave the cube. ValueError for d < 1 or eps outside
    [0, 1/2].
    """
    _check_budget(eps)
    return 1 - 2 * irwin_hall_cdf(d / 2 - d * eps, d)


def diagonal_robust_error_normal(d: int, eps: float) -> float:
    """The normal limit of `diagonal_robust_error`, 2·Φ(ε·√(12d)) - 1: xᵀ1 has mean d/2 and variance d/12.

    An approximation, too large by a few points for d of a few units. ValueError as there.
    """
    _check_dimension(d)
    _check_budget(eps)
    return float(1 - 2 * ndtr(-eps * math.sqrt(12 * d)))


def diagonal_bound(d: int, eps: float, variance: float = 1 / 4) -> float:
    """RR* ≥ 1 - 1/(4dε²) (Example 1, Proposition A.1), by Chebyshev with V[xᵢ] ≤ 1/4, or another `variance` of a coordinate.

    ValueError for d < 1 or eps outside (0, 1/2].
    """
    _check_dimension(d)
    _check_budget(eps, positive=True)
    return 1 - 1 / (1 / variance * d * eps**2)


def diagonal_bound_sharp(d: int, eps: float) -> float:
    """RR* ≥ 1 - 1/(12dε²): the same argument with the variance that U[0, 1] has, 1/12. ValueError as `diagonal_bound`."""
    return diagonal_bound(d, eps, 1 / 12)


def diagonal_bound_in_cube(d: int, eps: float) -> float:
    """RR* ≥ 1 - 2v/(v + dε²(1 - ε/2)²) for an adversary who may not leave the cube; v = V[min(xᵢ + ε, 1)] = a³(4 - 3a)/12,
    a = 1 - ε. By the one-sided Chebyshev inequality; not in the paper, which lets the adversary leave (Appendix A.1).

    ValueError as `diagonal_bound`.
    """
    _check_dimension(d)
    _check_budget(eps, positive=True)
    variance = (1 - eps) ** 3 * (1 + 3 * eps) / 12
    return 1 - 2 * variance / (variance + d * (eps * (1 - eps / 2)) ** 2)


def turn(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """T of Example 1, in any dimension: x where both splits agree on it, else the opposite point 1 - x.

    x → 1 - x takes {x₁ < 1/2 and xᵀ1 > d/2} to {x₁ > 1/2 and xᵀ1 < d/2} and back. So T is made of two isometries onto
    disjoint pieces. It is injective, preserves measure and is its own inverse. It turns the label of the axis split into that
    of the diagonal split. All this holds outside the null set of points on either boundary, along which it tears.
    """
    return np.where((axis_label(x) == diagonal_label(x))[:, None], x, 1 - x)


def _chord(s: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Where u₁ + u₂ = s enters and leaves the unit square, as values of u₁."""
    return np.maximum(s - 1, 0), np.minimum(s, 1)


def _check_square(x: np.ndarray) -> None:
    if x.shape[1] != 2:
        raise ValueError(f"slide is a map of the square, d = 2; given d = {x.shape[1]}")


def slide(x: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """T of Example 1 without a tear, for d = 2: the line x₁ = c goes to the chord u₁ + u₂ = F₂⁻¹(c).

    F₂ is the distribution function of u₁ + u₂, so x₁ becomes a conditional quantile, and x₂ the place along the chord:
    a Knothe–Rosenblatt map. With s = F₂⁻¹(x₁), ds/dx₁ is one over the chord's length in u₁ and du₁/dx₂ is that length:
    the determinant is 1. A homeomorphism of the open square; the edges x₁ = 0 and x₁ = 1 shrink to corners. ValueError for
    another d.
    """
    _check_square(x)
    s = np.where(x[:, 0] <= 0.5, np.sqrt(2 * x[:, 0]), 2 - np.sqrt(2 * (1 - x[:, 0])))
    low, high = _chord(s)
    first = low + x[:, 1] * (high - low)
    return np.stack([first, s - first], 1)


def slide_back(u: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """The inverse of `slide` on the open square; ValueError as there."""
    _check_square(u)
    s = u.sum(1)
    low, high = _chord(s)
    first = np.where(s <= 1, s**2 / 2, 1 - (2 - s) ** 2 / 2)
    return np.stack([first, (u[:, 0] - low) / (high - low)], 1)


# --- Theorem 2.1 and Example 2: concentration of measure, ℓ2 ------------------------------------------------------------


EXAMPLE_2 = {"cube": {"eps": 0.5}, "ball": {"eps": 0.09, "d": 3 * 32 * 32}}  # the paper's budgets; any d in the cube


def _check_radius(eps: float, largest: float = math.inf) -> None:
    if not (0 < eps <= largest and math.isfinite(eps)):
        upper = f" and at most {largest:g}, the ball's diameter" if math.isfinite(largest) else " and finite"
        raise ValueError(f"eps must be > 0{upper}, given {eps!r}")


def cube_concentration(eps: float, mass: float = 0.5, *, form: str = "first") -> float:
    """Lower bound on P(A_ε), the ℓ2 ε-neighbourhood of A ⊂ [0, 1]^d with P(A) = `mass`, in any dimension (Theorem 2.1, (1)).

    first    Φ(√(2π)·ε + Φ⁻¹(P(A)))
    middle   Φ(√(2π)·ε)               Appendix A.2, which prints Φ(Φ⁻¹(√(2π)·ε))
    last     1 - exp(-π·ε²)

    Raises ValueError for eps ≤ 0, `mass` outside [1/2, 1] or an unknown form.
    """
    _check_radius(eps)
    _check_mass(mass)
    _check_name("form", form, FORMS)
    if form == "last":
        return -math.expm1(-math.pi * eps**2)
    return float(ndtr(math.sqrt(2 * math.pi) * eps + (ndtri(mass) if form == "first" else 0.0)))


def modulus_of_convexity(eps: float) -> float:
    """δ_ℓ2(ε) = 1 - √(1 - ε²/4) (Theorem 2.1): how deep below the unit sphere the middle of a chord of length ε lies.

    ValueError for eps outside (0, 2].
    """
    _check_radius(eps, 2)
    return 1 - math.sqrt(1 - eps**2 / 4)


def ball_concentration(
    eps: float, d: int, mass: float = 0.5, *, form: str = "first", constant: float = PAPER_CONSTANT
) -> float:
    """Lower bound on P(B_ε), the ℓ2 ε-neighbourhood of B in the unit d-ball with P(B) = `mass` (Theorem 2.1, (2)).

    first    1 - (1 - δ(ε))^(2d) / P(B)
    middle   1 - exp(-2d·δ(ε)) / P(B)     Appendix A.2
    last     1 - exp(-2d·C·ε²) / P(B)     C = `constant`, at most 1/8

    Raises ValueError for eps outside (0, 2], d < 1, `mass` outside [1/2, 1], an unknown form or a C for which δ(ε) ≥ C·ε²
    fails.
    """
    _check_radius(eps, 2)
    _check_dimension(d)
    _check_mass(mass)
    _check_name("form", form, FORMS)
    if not 0 < constant <= BEST_CONSTANT:
        raise ValueError(f"C must be > 0 and at most 1/8, where δ(ε) ≥ C·ε² holds, given {constant!r}")
    if form == "first":
        outside = (1 - modulus_of_convexity(eps)) ** (2 * d)
    else:
        outside = math.exp(-2 * d * (modulus_of_convexity(eps) if form == "middle" else constant * eps**2))
    return 1 - outside / mass


def _vulnerable_fraction(bound: Callable[..., float], classes: int, **arguments: float | str) -> float:
    """Each class has mass 1/k; what is farther than ε from its complement A is at most 1 - P(A_ε), once a class."""
    if classes < 2:
        raise ValueError(f"Example 2 needs at least 2 classes, given {classes!r}")
    return 1 - classes * (1 - bound(mass=1 - 1 / classes, **arguments))


def cube_vulnerable_fraction(eps: float, *, classes: int = 10, form: str = "first") -> float:
    """Share of the cube, in any dimension, that an ℓ2 attack within eps fools or that is misclassified, at least (Example 2).

    x is uniform, the `classes` have equal mass, the classifier is perfect. Theorem 2.1 is applied to the complement of each
    class, of mass 1 - 1/classes. ValueError as `cube_concentration`, and for fewer than 2 classes.
    """
    return _vulnerable_fraction(cube_concentration, classes, eps=eps, form=form)


def ball_vulnerable_fraction(
    eps: float, d: int, *, classes: int = 10, form: str = "first", constant: float = PAPER_CONSTANT
) -> float:
    """As `cube_vulnerable_fraction`, for the unit d-ball (Example 2). ValueError as `ball_concentration`."""
    return _vulnerable_fraction(ball_concentration, classes, eps=eps, d=d, form=form, constant=constant)


# --- simulation ---------------------------------------------------------------------------------------------------------


def sample(space: str, n: int, d: int, generator: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """n points, uniform on the unit `cube` or the Euclidean unit `ball`. ValueError for another space or d < 1."""
    _check_name("space", space, SPACES)
    _check_dimension(d)
    if space == "cube":
        return generator.random((n, d))
    x = generator.standard_normal((n, d))
    return x * (generator.random((n, 1)) ** (1 / d) / np.linalg.norm(x, axis=1, keepdims=True))


def _samples(space: str, n: int, d: int, generator: np.random.Generator) -> Iterable[Float[np.ndarray, "_ d"]]:
    """n points in parts that fit in memory."""
    size = max(1, _CHUNK // d)
    for i in range(0, n, size):
        yield sample(space, min(size, n - i), d, generator)


def simulate_example_1(d: int, eps: Iterable[float], samples: int, generator: np.random.Generator) -> list[dict]:
    """Example 1 as it reads: draw x, label it by the axis split, move it by T (`turn`), attack both sides.

    One row an eps, with d, eps, n = `samples`, and out of n: `axis`, x fooled by its worst perturbation; `diagonal`, T(x)
    likewise; `diagonal_in_cube`, where the perturbed point must stay in the cube; `bayes`, T(x) on the wrong side of the
    diagonal split before any attack (Bayes error). ValueError for d < 1 or an eps outside [0, 1/2].
    """
    _check_dimension(d)
    rows = [{"d": d, "eps": e, "n": samples, "axis": 0, "diagonal": 0, "diagonal_in_cube": 0, "bayes": 0} for e in eps]
    for row in rows:
        _check_budget(row["eps"])
    for x in _samples("cube", samples, d, generator):
        y = axis_label(x)
        u = turn(x)
        wrong = int((diagonal_label(u) != y).sum())
        # Both classifiers rise in each coordinate, so that no perturbation does more than moving all of them one way.
        direction = np.where(y, -1.0, 1.0)[:, None]
        for row in rows:
            row["axis"] += int((axis_label(x + row["eps"] * direction) != y).sum())
            attacked = u + row["eps"] * direction
            row["diagonal"] += int((diagonal_label(attacked) != y).sum())
            row["diagonal_in_cube"] += int((diagonal_label(attacked.clip(0, 1)) != y).sum())
            row["bayes"] += wrong
    return rows


def half_space(space: str, direction: str, d: int, mass: float) -> tuple[Float[np.ndarray, " d"], float]:
    """(unit normal a, threshold b) of the half-space {aᵀx ≤ b} that holds the share `mass` of the space.

    The normal points along the first `axis` or the `diagonal`; in the ball all directions are one. ValueError for another
    direction or space, d < 1 or `mass` outside [1/2, 1].
    """
    _check_name("space", space, SPACES)
    _check_dimension(d)
    _check_mass(mass)
    _check_name("direction", direction, DIRECTIONS)
    normal = np.eye(d)[0] if direction == "axis" else np.full(d, 1 / math.sqrt(d))
    if space == "ball":  # (1 + x₁)/2 has a beta distribution
        return normal, float(2 * betaincinv((d + 1) / 2, (d + 1) / 2, mass) - 1)
    if direction == "axis":
        return normal, mass
    total = d
    if mass < 1:
        from scipy.optimize import brentq  # its import takes long, and few need a root

        total = brentq(lambda t: irwin_hall_cdf(t, d) - mass, d / 2 - 1e-9 * d, d, xtol=1e-12)
    return normal, float(total / math.sqrt(d))


def half_space_distance(
    space: str, x: Float[np.ndarray, "n d"], normal: Float[np.ndarray, " d"], threshold: float
) -> Float[np.ndarray, " n"]:
    """ℓ2 distance of points of the space to {z in the space: `normal`ᵀz ≤ `threshold`}, a set that holds the centre.

    Not the distance to the hyperplane: in the cube the nearest point of the plane may lie outside. `normal` has length 1 and
    entries ≥ 0. ValueError for another space.
    """
    _check_name("space", space, SPACES)
    if space == "ball":  # the way straight down to the plane stays inside the ball, since the plane is not below the centre
        return np.maximum(x @ normal - threshold, 0)
    # The nearest point is max(x - λ·normal, 0) for the smallest λ ≥ 0 that brings it into the half-space: what is left to go
    # is convex and piecewise linear in λ, so Newton's method from 0 never overshoots and ends after finitely many steps.
    steps = np.zeros((len(x), 1))
    for _ in range(x.shape[1] + 1):
        nearest = np.maximum(x - steps * normal, 0)
        excess = nearest @ normal - threshold
        if (excess <= 1e-12).all():
            break
        slope = (nearest > 0) @ normal**2
        steps += np.divide(excess, slope, out=np.zeros_like(excess), where=excess > 0)[:, None]
    return np.linalg.norm(x - nearest, axis=1)


def simulate_half_space(
    space: str, direction: str, d: int, mass: float, eps: Iterable[float], samples: int, generator: np.random.Generator
) -> list[dict]:
    """P(A_ε) of Theorem 2.1 for A the half-space of `half_space`, by counting points whose ℓ2 distance to A is below eps.

    One row an eps, with direction, d, mass, eps, n = `samples` and `inside`, out of n. ValueError as `half_space`, and for
    eps ≤ 0.
    """
    normal, threshold = half_space(space, direction, d, mass)
    rows = [{"direction": direction, "d": d, "mass": mass, "eps": e, "n": samples, "inside": 0} for e in eps]
    for row in rows:
        _check_radius(row["eps"])
    for x in _samples(space, samples, d, generator):
        distance = half_space_distance(space, x, normal, threshold)
        for row in rows:
            row["inside"] += int((distance < row["eps"]).sum())
    return rows
