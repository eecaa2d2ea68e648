"""The errata, one test an entry, named as its label; written with numpy and scipy alone, beside the checks of the page.

Each test holds both sides: what the paper says fails, and what the page says instead holds.
"""

import math
import re
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, ndimage, optimize
from scipy.stats import kstest, norm

from lib import data, transforms

ROOT = Path(__file__).resolve().parents[1]
ROOT_2PI = math.sqrt(2 * math.pi)


def _rng() -> np.random.Generator:
    return np.random.default_rng(20190506)


def _published(exhibit: str, **fixed) -> pd.DataFrame:
    """The paper's numbers of one exhibit, read from the file itself."""
    frame = pd.read_csv(ROOT / "results" / "published.csv").query("exhibit == @exhibit")
    for column, value in fixed.items():
        frame = frame[frame[column] == value]
    assert len(frame)
    return frame


def _diagonal_error(d: int, eps: Fraction) -> float:
    """The robust error of the diagonal split, equation (eq-a-diagonal) of Appendix A, in exact arithmetic."""

    def irwin_hall(t):
        return sum((-1) ** k * math.comb(d, k) * (t - k) ** d for k in range(math.floor(t) + 1)) / math.factorial(d)

    return float(irwin_hall(Fraction(d, 2) + d * eps) - irwin_hall(Fraction(d, 2) - d * eps))


def test_every_entry_has_a_test_and_every_test_an_entry():
    text = (ROOT / "book" / "errata.md").read_text()
    labels = {label.replace("-", "_") for label in re.findall(r"^\(erratum-([\w-]+)\)=$", text, re.M)}
    named = set(re.findall(r"test_errata\.py::test_(\w+)`", text))
    tests = {name.removeprefix("test_") for name in vars(sys.modules[__name__]) if name.startswith("test_")}
    assert len(labels) > 20
    assert labels == named == {name for name in tests if not name.startswith(("every_", "appendix_"))}


def test_every_erratum_of_appendix_a_is_on_the_page():
    labels = re.findall(r"\{ref\}`erratum <(erratum-[\w-]+)>`", (ROOT / "book" / "appA.md").read_text())
    text = (ROOT / "book" / "errata.md").read_text()
    assert len(labels) >= 13
    assert all(f"({label})=" in text for label in labels)


# Theory


def test_hyperplane():
    eps = 0.1
    measured = {
        plane: integrate.quad(lambda t, plane=plane: abs(t - plane) < eps, 0, 1, points=[0.1, 0.4, 0.6])[0]
        for plane in (0, 0.5)
    }
    assert measured[0] == pytest.approx(eps, abs=1e-9)
    assert measured[0.5] == pytest.approx(2 * eps, abs=1e-9)


def test_measure():
    d, eps, n = 100, 0.2, 5000
    x = _rng().random((n, d))
    first = x[:, 0] > 0.5
    moved = np.where(first[:, None], x / 4 + 3 / 4, x / 4)
    assert ((moved.sum(1) > d / 2) == first).all()  # the halves go to the halves
    # The attack itself, at its full strength: every coordinate moved towards the other label.
    attacked = moved + np.where(first[:, None], -eps, eps)
    assert ((attacked.sum(1) > d / 2) == first).all()
    assert 1 - 1 / (4 * d * eps**2) > 0.9  # what the paper claims of it


@pytest.mark.parametrize("half", [0, 1])
def test_appendix_map_of_the_plane_preserves_the_measure(half):
    """Equation (eq-a-map): its Jacobian is 1, halves go to halves, and a uniform sample stays uniform."""

    def mapped(x1, x2):
        s = np.sqrt(2 * np.minimum(x1, 1 - x1))  # of the point itself, or of its reflection
        return np.where(x1 <= 0.5, [s * x2, s * (1 - x2)], [1 - s * (1 - x2), 1 - s * x2])

    x1, x2 = _rng().random((2, 20_000))
    x1 = x1 / 2 + half / 2
    inner = (abs(x1 - 0.5) < 0.49) & (abs(x1 - 0.5) > 0.01)  # away from the edge and the seam
    u, w, h = x1[inner], x2[inner], 1e-6
    (a, c), (b, e) = ((mapped(u + dx, w + dy) - mapped(u - dx, w - dy)) / (2 * h) for dx, dy in ((h, 0), (0, h)))
    assert np.allclose(abs(a * e - b * c), 1, atol=1e-4)
    z = mapped(x1, x2)
    assert ((z.sum(0) > 1) == (half == 1)).all()
    assert ((z > 0) & (z < 1)).all()
    # Given the half, a coordinate of a uniform point has the density 2(1 - z), or 2z.
    law = (lambda t: t**2) if half else (lambda t: 1 - (1 - t) ** 2)
    assert all(kstest(coordinate, law).pvalue > 0.001 for coordinate in z)


def test_variance():
    assert integrate.quad(lambda u: (u - 0.5) ** 2, 0, 1)[0] == pytest.approx(1 / 12)
    for d in (5, 20, 60):
        for eps in (Fraction(1, 20), Fraction(1, 10), Fraction(1, 5), Fraction(2, 5)):
            exact, e = _diagonal_error(d, eps), float(eps)
            assert exact >= 1 - 1 / (12 * d * e**2) > 1 - 1 / (4 * d * e**2)
            assert exact >= 1 - 2 * math.exp(-6 * d * e**2)
    # The exact value is what a simulation finds.
    hit = (abs(_rng().random((100_000, 5)).sum(1) - 2.5) < 5 * 0.1).mean()
    assert hit == pytest.approx(_diagonal_error(5, Fraction(1, 10)), abs=4 * math.sqrt(0.25 / 100_000))


@pytest.mark.parametrize("d", [2, 20, 200])
def test_root(d):
    s = _rng().random((20_000, d)).sum(1) - d / 2
    right = np.mean(s**2) / d
    assert np.mean((s / math.sqrt(d)) ** 2) == pytest.approx(right)
    assert np.mean((s / d) ** 2) == pytest.approx(right / d)
    assert right == pytest.approx(1 / 12, rel=0.05)


def _to_the_cut_hyperplane(x: np.ndarray) -> tuple[float, float]:
    """The ℓ∞ and ℓ2 distances of x to {z ∈ [0,1]^d : Σz = d/2}: a linear programme, and clipped shifts."""
    d = len(x)
    sides = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])  # |z - x| ≤ r
    solution = optimize.linprog(
        np.r_[np.zeros(d), 1],
        A_ub=sides,
        b_ub=np.r_[x, -x],
        A_eq=[np.r_[np.ones(d), 0]],
        b_eq=[d / 2],
        bounds=[(0, 1)] * d + [(0, None)],
    )
    shift = optimize.brentq(lambda t: np.clip(x + t, 0, 1).sum() - d / 2, -2, 2)
    return solution.fun, float(np.linalg.norm(np.clip(x + shift, 0, 1) - x))


def test_slab():
    x, d = np.array([1.0, 0, 0]), 3
    in_max, in_2 = _to_the_cut_hyperplane(x)
    assert in_max == pytest.approx(1 / 4)
    assert in_2 == pytest.approx(math.sqrt(2) / 4)
    assert in_2 / math.sqrt(d) < 0.21 < in_max  # at ε = .21 the point is in one neighbourhood and not in the other
    x = np.array([0.6, 0.5, 0.2])  # away from the corners they agree
    in_max, in_2 = _to_the_cut_hyperplane(x)
    assert in_max == pytest.approx(in_2 / math.sqrt(d)) == pytest.approx(abs(x.sum() - d / 2) / d)


def test_appendix_boxed_adversary():
    """Equation (eq-a-boxed): the variance, the margin of the last step, and the bounds below a simulation."""
    for eps in np.linspace(0.01, 1, 100):
        a = 1 - eps
        v = a**3 * (4 - 3 * a) / 12
        mean, square = (
            integrate.quad(lambda u, eps=eps, power=power: min(u + eps, 1) ** power, 0, 1, points=[a])[0] for power in (1, 2)
        )
        assert square - mean**2 == pytest.approx(v, abs=1e-9)
        assert mean - 0.5 == pytest.approx(eps * (1 - eps / 2), abs=1e-9)
        assert 8 * v < (1 - eps / 2) ** 2
    x = _rng().random((20_000, 30))
    for eps in (0.05, 0.1, 0.2):
        v = (1 - eps) ** 3 * (1 + 3 * eps) / 12
        label = x.sum(1) > 15
        up, down = np.minimum(x + eps, 1).sum(1) > 15, np.maximum(x - eps, 0).sum(1) > 15
        boxed = np.where(label, ~down, up).mean()
        bound = 1 - 2 * v / (v + 30 * eps**2 * (1 - eps / 2) ** 2)
        assert boxed + 4 * math.sqrt(0.25 / len(x)) > bound > 1 - 1 / (4 * 30 * eps**2)
        assert boxed <= (abs(x.sum(1) - 15) < 30 * eps).mean()  # out of the box one gets at least as far
        assert boxed == pytest.approx(1 - 2 * (np.minimum(x + eps, 1).sum(1) <= 15).mean(), abs=0.02)


def test_inverse():
    p = np.array([0.5, 0.3, 0.1, 1e-3, 1e-6, 1e-9])
    h = 1e-3 * p
    slopes = (norm.ppf(p + h) - norm.ppf(p - h)) / (2 * h)
    assert slopes[0] == pytest.approx(ROOT_2PI, rel=1e-5)
    assert (np.diff(slopes) > 0).all()  # the least slope is in the middle
    assert slopes[-1] > 1e7


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.15])
def test_parenthesis(eps):
    half_cube = (_rng().random(200_000) < 0.5 + eps).mean()  # P(A_ε) for A = {x1 ≤ 1/2}
    slack = 4 * math.sqrt(0.25 / 200_000)
    printed = norm.cdf(norm.ppf(0.5 + ROOT_2PI * eps))
    assert printed == pytest.approx(0.5 + ROOT_2PI * eps)
    assert printed > half_cube + slack
    assert norm.cdf(norm.ppf(0.5) + ROOT_2PI * eps) < half_cube + slack


def test_minus():
    x = np.linspace(0, 6, 601)
    assert (1 - np.exp(x**2 / 2) <= 0).all()
    assert (norm.sf(x) <= np.exp(-(x**2) / 2) / 2).all()
    assert (norm.sf(x) <= np.exp(-(x**2) / 2)).all()


def test_modulus():
    def delta(eps):
        return 1 - np.sqrt(1 - eps**2 / 4)

    eps = np.linspace(0.01, 2, 200)
    assert (delta(eps) >= eps**2 / 8).all()
    assert delta(0.01) < (1 / 8 + 1e-5) * 0.01**2  # so no larger constant
    assert (2 - math.sqrt(3)) / 3 < 1 / 8
    assert (np.exp(-2 * 3072 * delta(eps)) < np.exp(-2 * 3072 * (2 - math.sqrt(3)) / 3 * eps**2))[eps < 0.5].all()
    # The modulus is that of the Euclidean norm: the midpoint of two unit vectors at distance ε.
    for angle in (0.1, 1.0, 3.0):
        u, w = np.array([1, 0]), np.array([math.cos(angle), math.sin(angle)])
        assert 1 - np.linalg.norm((u + w) / 2) == pytest.approx(delta(np.linalg.norm(u - w)))


@pytest.mark.parametrize("d", [1, 2, 3, 30])
def test_appendix_bound_for_the_ball_holds_for_caps(d):
    """Equation (eq-a-ball) against {x1 ≤ c}, whose measures are integrals over one coordinate."""

    def measure(c):
        total = integrate.quad(lambda t: (1 - t * t) ** ((d - 1) / 2), -1, 1)[0]
        return integrate.quad(lambda t: (1 - t * t) ** ((d - 1) / 2), -1, min(c, 1))[0] / total

    for c in (-0.3, 0.0, 0.2):
        for eps in (0.1, 0.5, 1.0, 1.9):
            first = 1 - (1 - eps**2 / 4) ** d / measure(c)
            assert measure(c + eps) >= first >= 1 - math.exp(-d * eps**2 / 4) / measure(c)


def test_example_2():
    cube = 1 - 10 * norm.sf(norm.ppf(0.9) + ROOT_2PI * 0.5)
    ball = 1 - 10 * (1 - 0.09**2 / 4) ** 3072 / 0.9
    assert f"{100 * cube:.2f} {100 * ball:.2f}" == "94.38 97.81"
    printed = _published("example-2").set_index("metric")["value"]
    assert sorted(printed) == [94, 97] == [math.floor(100 * cube), math.floor(100 * ball)]
    assert 10 * math.exp(-math.pi * 0.5**2) > 1
    assert 1 - 10 * math.exp(-2 * 3072 * (2 - math.sqrt(3)) / 3 * 0.09**2) / 0.9 < 0.88
    assert 0.97 < 1 - 10 * math.exp(-2 * 3072 / 8 * 0.09**2) / 0.9 < ball


def test_uniform():
    for eps in (0.01, 0.05, 0.1):
        least = 2 * norm.cdf(ROOT_2PI * eps) - 1
        assert 0.98 * 2 * eps < least < 2 * eps  # the axis split has 2ε, and no split has much less
    x = _rng().random((100_000, 2))
    assert (abs(x[:, 0] - 0.5) < 0.05).mean() == pytest.approx(0.1, abs=0.005)  # 90% robust, and never wrong


def test_limit():
    eps = Fraction(1, 10)
    errors = [_diagonal_error(d, eps) for d in (10, 50, 100)]
    assert errors == sorted(errors)
    assert errors[0] > 0.5  # the constant classifier's, whose prediction no attack changes
    assert errors[-1] > 0.999


def test_facets():
    contradiction = [n for n in range(1, 200) if math.exp(n / 8) > 4 * n]
    assert contradiction == list(range(41, 200))
    assert all(math.exp(n / 8) <= 3**n <= 4**n for n in range(1, 200))
    rng = _rng()
    for n in (2, 3, 4):
        # The construction of the proof: pairs of unit vectors, any two at distance ≥ 1, until there is no room.
        kept = np.empty((0, n))
        candidates = rng.normal(size=(20_000, n))
        candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
        for v in candidates:
            if not len(kept) or (kept @ v).max() <= 0.5:  # distance ≥ 1
                kept = np.concatenate([kept, [v, -v]])
        assert len(kept) <= 3**n
        # In every direction the polytope ends between 1 and 2.
        reach = 1 / (candidates @ kept.T).max(1)
        assert reach.min() >= 1 - 1e-12
        assert reach.max() < 2


@pytest.mark.parametrize("n", [2, 3, 10, 50])
@pytest.mark.parametrize("t", [0.0, 0.3, 0.7, 0.72, 0.95])
def test_appendix_caps_are_small(n, t):
    def weight(angle):
        return math.sin(angle) ** (n - 2)

    cap = integrate.quad(weight, 0, math.acos(t))[0] / integrate.quad(weight, 0, math.pi)[0]
    assert cap <= math.exp(-n * t * t / 2)


def test_programme():
    x = _rng().random((40_000, 10))
    label = x[:, 0] > 0.5
    moved = np.where((label == (x.sum(1) > 5))[:, None], x, 1 - x)
    assert ((moved.sum(1) > 5) == label).all()  # T carries one split to the other
    assert min(kstest(column, "uniform").pvalue for column in moved.T) > 1e-3  # P(x) is what it was
    assert abs(np.cov(moved.T) - np.eye(10) / 12).max() < 5e-3
    before, after = (label[abs(points[:, 0] - 0.25) < 0.05].mean() for points in (x, moved))
    assert before == 0
    assert 0.3 < after < 0.5  # P(y | x) is another


def test_support():
    x = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    for name in ("binarize", "saturate-inf"):
        assert set(transforms.parse(name)(x).unique().tolist()) <= {0.0, 1.0}
    # In the paper's own numbers the volume is that of corners, -784 and -3072 times log2(1/ε), which it prints truncated.
    bits = _published("table-6").set_index(["dataset", "transform"])["value"]
    assert bits["mnist", "binarize"] == math.trunc(784 * math.log2(0.3))
    assert bits["cifar10", "saturate-inf"] == math.trunc(3072 * math.log2(8 / 255))


def test_unit():
    d, ball = 3072, 0.09
    share = 1 - 10 * (1 - ball**2 / 4) ** d / 0.9
    cube = optimize.brentq(lambda eps: 1 - 10 * norm.cdf(norm.ppf(0.1) - ROOT_2PI * eps) - share, 0.01, 2)
    assert cube > ball  # as the paper has it
    rng = _rng()
    points = rng.standard_normal((2, 2000, d))
    points *= rng.random((2, 2000, 1)) ** (1 / d) / np.linalg.norm(points, axis=2, keepdims=True)
    in_the_ball = np.linalg.norm(points[0] - points[1], axis=1).mean()
    in_the_cube = np.linalg.norm(rng.random((2000, d)) - rng.random((2000, d)), axis=1).mean()
    assert (in_the_cube, in_the_ball) == (pytest.approx(22.6, abs=0.05), pytest.approx(1.41, abs=0.01))
    # A class of a tenth of the mass, far out along one direction: as many of its points are near its boundary at a third of the
    # ball's budget, which is the same share of the mean distance in both spaces.
    of_class = (1 - share) / 10
    along_x = rng.standard_normal((200_000, 2)) / d**0.5  # of a coordinate in the ball, nearly
    needed_in_ball = np.diff(np.quantile(along_x, [0.9, 1 - of_class]))[0]
    needed_in_cube = (norm.isf(of_class) - norm.isf(0.1)) / 12**0.5  # of a sum over √d in the cube, nearly
    assert needed_in_ball == pytest.approx(ball / 3, rel=0.08)
    assert needed_in_ball / in_the_ball == pytest.approx(needed_in_cube / in_the_cube, rel=0.03)


# Experiments


def test_footprint(real_data):
    x = data.load("mnist", "test").images[:, 0].numpy() / np.float64(255)
    printed = _published("table-6", dataset="mnist").set_index("transform")["value"]

    def bits(size, axes):
        blurred = ndimage.uniform_filter(x, size=[1, *(size if axis in axes else 1 for axis in (1, 2))], mode="mirror")
        z = np.maximum(x, blurred)
        return np.log2(np.minimum(z + 0.3, 1) - np.maximum(z - 0.3, 0)).sum((1, 2)).mean()

    for size in (3, 5):
        assert math.trunc(bits(size, axes=(1,))) == printed[f"smooth-{size}"]
        assert abs(bits(size, axes=(1, 2)) - printed[f"smooth-{size}"]) > 20


def test_steps():
    start = _rng().uniform(-0.3, 0.3, 100_000)
    assert (0.3 - start > 40 * 0.01).mean() == pytest.approx(1 / 3, abs=0.01)
    assert (0.3 - np.maximum(start, 0) < 40 * 0.01).all()  # a black pixel, in the box
    assert 10 * 2 / 255 > 2 * 8 / 255


def _table_3() -> pd.DataFrame:
    return _published("table-3").pivot(index="transform", columns=["training", "metric"], values="value")


def test_level_16():
    table = _table_3()["pgd"]
    pair = ["clean_accuracy", "robust_accuracy"]
    assert table.loc["original", pair].tolist() == [85.4, 43.2]
    assert table.loc["saturate-16", pair].tolist() == [79.9, 79.4]
    assert [level for level in table.index if table.loc[level, pair].tolist() == [80.0, 79.7]] == [
        "saturate-256",
        "saturate-inf",
    ]


def test_level_1():
    fall = (_table_3().loc["original"] - _table_3().loc["saturate-1"]).round(1)
    assert fall["pgd", "clean_accuracy"] == 7.9
    assert fall["pgd", "robust_accuracy"] == 10.2
    assert fall["standard", "clean_accuracy"] == 1.2


def test_level_64():
    cell = ["transform", "training", "metric"]
    table_3 = _published("table-3").set_index(cell)["value"]
    table_5 = _published("table-5", widen_factor=4, split="test").set_index(cell)["value"]
    both = table_3.index.intersection(table_5.index)
    assert len(both) == 42
    differing = [key for key in both if table_3[key] != table_5[key]]
    assert differing == [("saturate-64", "pgd", "robust_accuracy")]
    assert (table_3[differing[0]], table_5[differing[0]]) == (79.3, 79.4)


def test_volume():
    bits = _published("table-6", dataset="cifar10").set_index("transform")["value"]
    assert bits["original"] - bits["saturate-inf"] == 2988 == -12354 + 15342


def test_width_mnist():
    table = _published("table-4", training="pgd", metric="robust_accuracy")
    table = table.pivot(index=["split", "transform"], columns="widen_factor", values="value")
    test, train = table.loc["test"], table.loc["train"]
    growth = (test[[2, 4]].max(axis=1) - test[1]).round(1)
    assert growth[growth > 0.4].to_dict() == {"smooth-7": 2.4, "smooth-8": 3.8}
    assert test.loc["smooth-7", [1, 2, 4]].tolist() == [85.4, 86.7, 87.8]
    assert test.loc["smooth-8", 4] < test.loc["smooth-8", 2]
    falling = train.index[(train[2] < train[1]) | (train[4] < train[2])]
    assert list(falling) == ["smooth-8"]
    assert train.loc["smooth-8", [2, 4]].tolist() == [90.5, 88.7]


def test_width_cifar10():
    table = _published("table-5", training="pgd", metric="robust_accuracy", split="test")
    table = table.pivot(index="transform", columns="widen_factor", values="value")
    change = (table[4] - table[1]).round(1)
    level = change.index.to_series().replace("original", "saturate-2").str.removeprefix("saturate-").astype(float)
    assert (change[level <= 3].max(), change[level <= 3].min()) == (-0.8, -2.9)
    assert (change[level >= 4].min(), change[level >= 4].max()) == (3.2, 3.9)


def test_boundary():
    table = _published("table-7").pivot(index=["dataset", "transform"], columns="metric", values="value")
    change = (table["robust_accuracy_unboxed"] - table["robust_accuracy"]).round(1)
    assert change.pop(("mnist", "binarize")) == -2.0
    assert (change.min(), change.max()) == (-0.3, 0.3)


def test_distance(real_jpeg):
    medians = {}
    for name in ("mnist", "cifar10-jpeg"):
        x, y, _ = data.transformed(name, "test", "original", size=300)
        flat = x.flatten(1).numpy()
        distance = np.stack([abs(flat - row).max(1) for row in flat])
        distance[y[:, None] == y] = 2
        medians[name] = np.median(distance.min(1))
    assert medians["mnist"] > 0.97
    assert 0.45 < medians["cifar10-jpeg"] < 0.65


def test_abstract():
    clean = _published("table-3", training="standard").set_index("transform")["value"]
    assert (clean.min(), clean.max()) == (80.3, 95.2)
    levels = ["saturate-1", "saturate-1.5", "saturate-1.75", "original", "saturate-2.25", "saturate-2.5", "saturate-3"]
    low = clean[[*levels, "saturate-4", "saturate-8", "saturate-16"]]
    assert round(low.max() - low.min(), 1) == 2.3 < 3
    assert clean["saturate-64"] == 89.6
    robust = _published("table-3", training="pgd", metric="robust_accuracy").set_index("transform")["value"]
    assert (robust["saturate-1"], robust["saturate-16"]) == (33.0, 79.4)
    mnist = _published("table-2", training="standard")["value"]
    assert (mnist.min(), mnist.max()) == (98.5, 99.3)


def test_inside():
    cell = ["dataset", "transform"]
    table_7 = _published("table-7", metric="robust_accuracy").set_index(cell)["value"]
    same = {"training": "pgd", "metric": "robust_accuracy", "split": "test"}
    trained = pd.concat([_published(name, **same).set_index(cell)["value"] for name in ("table-2", "table-3")])
    assert len(table_7) == 12
    assert (table_7 == trained[table_7.index]).all()


def test_footnote():
    assert set(_published("table-6")["metric"]) == {"log2_perturbable_volume"}
    assert "log2_perturbable_volume" not in set(_published("table-7")["metric"])


def test_binarized():
    row = _published("table-4", transform="binarize", training="standard")
    row = row.pivot(index="widen_factor", columns="split", values="value")
    assert row.loc[1].to_dict() == {"train": 99.6, "test": 98.5}
    others = row.drop(index=[0.125, 1])
    assert set(others["train"]) == {100.0}
    assert (others["test"].min(), others["test"].max()) == (99.0, 99.4)
    table_2 = _published("table-2", training="standard").set_index("transform")["value"]
    assert table_2.idxmin() == "binarize"
    assert table_2.min() == 98.5


def test_blanks():
    row = ["transform", "training", "split", "metric"]
    numbers = _published("table-4").groupby(row).size()
    short = numbers[numbers != 6]
    assert short.to_dict() == {(name, "standard", "test", "clean_accuracy"): 5 for name in ("binarize", "smooth-6")}
