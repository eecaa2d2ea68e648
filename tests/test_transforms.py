"""Transforms against scipy, scikit-image, their formulas and the paper's Table 6."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import scipy.ndimage
import torch
from skimage.feature import canny

from lib import data, geometry, transforms
from lib.store import grid

NAMES = (
    "original", "binarize", "smooth-2", "smooth-3", "smooth-square-4", "saturate-1", "saturate-8", "saturate-inf",
    "gamma-0.6", "gamma-1.4", "rescale-0.5", "edges", "binarize+rescale-0.821",
)  # fmt: skip


@pytest.fixture
def images() -> torch.Tensor:
    """Random images of an odd shape, the corners of the range among their values."""
    x = torch.rand(3, 2, 13, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, 0, 0, :3] = torch.tensor([0.0, 0.5, 1.0])
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", range(1, 10))
@pytest.mark.parametrize(
    ("footprint", "shape", "mode"), [("column", lambda s: (s, 1), "mirror"), ("square", lambda s: (s, s), "constant")]
)
def test_smooth_is_scipys_filter_and_the_maximum(images, size, footprint, shape, mode, dtype):
    smoothed = transforms.smooth(images.to(dtype), size, footprint)
    for plane, smoothed_plane in zip(images.flatten(0, 1).numpy(), smoothed.flatten(0, 1).numpy(), strict=True):
        average = scipy.ndimage.uniform_filter(plane, size=shape(size), mode=mode, cval=0.0)
        np.testing.assert_allclose(smoothed_plane, np.maximum(plane, average), atol=1e-6 if dtype == torch.float32 else 1e-12)


def test_smooth_takes_the_column_by_default(images):
    assert torch.equal(transforms.smooth(images, 3), transforms.smooth(images, 3, "column"))
    assert not torch.equal(transforms.smooth(images, 3), transforms.smooth(images, 3, "square"))


@pytest.mark.parametrize("level", [0.5, 1.0, 1.75, 2.0, 4.0, 16.0, 512.0])
def test_saturate_is_its_formula(images, level):
    centred = 2 * images.numpy() - 1
    expected = np.sign(centred) * np.abs(centred) ** (2 / level) / 2 + 0.5
    np.testing.assert_allclose(transforms.saturate(images, level).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.6, 1.4])
def test_gamma_is_its_formula(images, gamma):
    np.testing.assert_allclose(transforms.adjust_gamma(images, gamma).numpy(), images.numpy() ** gamma, atol=1e-12)


def test_rescale_moves_towards_the_centre(images):
    scaled = transforms.rescale(images, 0.25)
    assert torch.allclose(scaled - 0.5, (images - 0.5) / 4, atol=1e-15)
    assert torch.equal(transforms.rescale(images, 0.0), torch.full_like(images, 0.5))


def test_binarize_rounds_one_half_upwards():
    x = torch.tensor([0.0, 0.25, 0.4999, 0.5, 0.75, 1.0]).view(1, 1, 2, 3)
    assert transforms.binarize(x).flatten().tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "identity",
    [
        partial(transforms.smooth, size=1),
        partial(transforms.smooth, size=1, footprint="square"),
        partial(transforms.saturate, level=2.0),
        partial(transforms.adjust_gamma, gamma=1.0),
        partial(transforms.rescale, factor=1.0),
        transforms.parse("original"),
    ],
    ids=["smooth", "smooth-square", "saturate", "gamma", "rescale", "original"],
)
def test_identity_values(images, identity):
    assert torch.allclose(identity(images), images, atol=1e-15)


def test_saturation_without_end_is_binarization(images):
    away = images[images != 0.5].view(1, 1, 1, -1)  # sign(0) = 0 leaves one half where it is
    assert torch.equal(transforms.saturate(away, math.inf), transforms.binarize(away))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_range_are_kept(images, name, dtype):
    x = images.to(dtype)
    before = x.clone()
    result = transforms.parse(name)(x)
    assert (result.shape, result.dtype) == (x.shape, dtype)
    assert ((result >= 0) & (result <= 1)).all()
    assert torch.equal(x, before), "the input was changed in place"
    assert torch.allclose(result[1:2], transforms.parse(name)(x[1:2])), "an image depends on its batch"


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_stays_empty(name):
    assert transforms.parse(name)(torch.zeros(0, 3, 16, 16)).shape == (0, 3, 16, 16)


@pytest.mark.parametrize("name", ["binarize", "saturate-1", "saturate-8", "gamma-0.6", "gamma-1.4", "rescale-0.5"])
def test_pixelwise_transforms_keep_the_order_of_values(name):
    ramp = torch.linspace(0, 1, 1001).view(1, 1, 1, -1)
    result = transforms.parse(name)(ramp).flatten()
    assert (result.diff() >= 0).all()
    assert result[-1] > result[0]


def test_levels_act_in_the_direction_their_names_say(images):
    def from_centre(x):
        return (x - 0.5).abs()

    for lower, higher in [(1.0, 2.0), (2.0, 8.0), (8.0, math.inf)]:
        low, high = (from_centre(transforms.saturate(images, level)) for level in (lower, higher))
        assert (high >= low - 1e-15).all()
        assert high.mean() > low.mean()
    assert (transforms.smooth(images, 3) >= images).all()
    assert (transforms.adjust_gamma(images, 0.6) >= images).all()
    assert (transforms.adjust_gamma(images, 1.4) <= images).all()


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_edges_are_cannys(sigma):
    x = data.load("grey-patches", "test").batch()[::100]
    edge_maps = transforms.edges(x, sigma)
    assert 0 < edge_maps.mean() < 1
    for image, edges in zip(x, edge_maps, strict=True):
        np.testing.assert_array_equal(edges[0].numpy(), canny(image[0].double().numpy(), sigma=sigma))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("original", lambda x: x),
        ("binarize", transforms.binarize),
        ("smooth-5", lambda x: transforms.smooth(x, 5)),
        ("smooth-square-5", lambda x: transforms.smooth(x, 5, "square")),
        ("saturate-8", lambda x: transforms.saturate(x, 8.0)),
        ("saturate-1.75", lambda x: transforms.saturate(x, 1.75)),
        ("saturate-.5", lambda x: transforms.saturate(x, 0.5)),
        ("saturate-inf", lambda x: transforms.saturate(x, math.inf)),
        ("gamma-0.6", lambda x: transforms.adjust_gamma(x, 0.6)),
        ("rescale-0.97", lambda x: transforms.rescale(x, 0.97)),
        ("edges", transforms.edges),
        ("binarize+rescale-0.5", lambda x: transforms.binarize(x) / 2 + 0.25),
        ("rescale-0.5+binarize", transforms.binarize),
        ("saturate-4+smooth-3", lambda x: transforms.smooth(transforms.saturate(x, 4.0), 3)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parse(images, name, expected):
    assert torch.allclose(transforms.parse(name)(images), expected(images))


def test_parse_rescales_by_the_factor_that_was_solved_for(images):
    assert torch.equal(transforms.parse("rescale-to-smooth-3", factor=0.97)(images), transforms.rescale(images, 0.97))
    both = transforms.parse("binarize+rescale-to-smooth-3", factor=0.821)(images)
    assert torch.equal(both, transforms.rescale(transforms.binarize(images), 0.821))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("rescale-to-smooth-3", "smooth-3"),
        ("binarize+rescale-to-smooth-square-5", "smooth-square-5"),
        ("rescale-0.97", None),
        ("original", None),
    ],
)
def test_rescale_target(name, target):
    assert transforms.rescale_target(name) == target


class Refused(NamedTuple):
    name: str
    message: str


@pytest.mark.parametrize(
    "case",
    [
        Refused("blur-3", r"unknown transform 'blur-3'; allowed: original, binarize, smooth-SIZE.*saturate-LEVEL"),
        Refused("", "unknown transform ''"),
        Refused("smooth", "unknown transform 'smooth'"),
        Refused("smooth-2.5", "unknown transform 'smooth-2.5'"),
        Refused("smooth--3", "unknown transform"),
        Refused("smooth-0", r"transform 'smooth-0': the filter's size.* must be .* ≥ 1, given 0"),
        Refused("smooth-square-99999", "too large"),
        Refused("saturate-0", r"transform 'saturate-0': the saturation level must be > 0"),
        Refused("saturate-nan", "unknown transform"),
        Refused("gamma-0", r"gamma must be > 0"),
        Refused("gamma-inf", "unknown transform"),
        Refused("rescale-1.5", r"the scale factor must lie in \[0, 1\], given 1.5"),
        Refused("original+", r"unknown transform 'original\+'"),
        Refused("rescale-to-blur-3", "unknown transform 'blur-3'"),
        Refused("rescale-to-smooth-3", "needs its scale factor"),
        Refused("rescale-to-smooth-3+binarize", "rescale-to-TRANSFORM must be the last step"),
        Refused("saturate-8\n", "unknown transform"),
    ],
    ids=lambda case: repr(case.name),
)
def test_parse_refuses(case):
    with pytest.raises(ValueError, match=case.message):
        transforms.parse(case.name)


X = torch.full((1, 1, 8, 6), 0.5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transforms.smooth(X, 0), r"in pixels, must be a whole number ≥ 1, given 0"),
        (lambda: transforms.smooth(X, -3), r"given -3"),
        (lambda: transforms.smooth(X, 2.5), r"given 2.5"),
        (lambda: transforms.smooth(X, float("inf")), r"in pixels, must be a whole number ≥ 1, given inf"),
        (lambda: transforms.smooth(X, float("nan")), r"in pixels, must be a whole number ≥ 1, given nan"),
        (lambda: transforms.smooth(X, 16), r"size 16 is too large for images of 8×6"),
        (lambda: transforms.smooth(X, 12, "square"), r"size 12 is too large"),
        (lambda: transforms.smooth(X, 3, "round"), r"column, square, given 'round'"),
        (lambda: transforms.saturate(X, 0), r"level must be > 0 .*given 0"),
        (lambda: transforms.saturate(X, -1), r"given -1"),
        (lambda: transforms.saturate(X, math.nan), r"given nan"),
        (lambda: transforms.adjust_gamma(X, 0), r"gamma must be > 0 and finite, given 0"),
        (lambda: transforms.adjust_gamma(X, math.inf), r"given inf"),
        (lambda: transforms.rescale(X, 1.01), r"must lie in \[0, 1\], given 1.01"),
        (lambda: transforms.rescale(X, -0.1), r"given -0.1"),
        (lambda: transforms.edges(X, 0), r"sigma must be > 0 pixels, given 0"),
    ],
)
def test_levels_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["original", "binarize", "smooth-3", "saturate-8", "gamma-0.6", "rescale-0.5", "edges"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X + 0.51, r"must lie in \[0, 1\], given values from 1.01"),
        (X - 1, r"must lie in \[0, 1\], given values from -0.5"),
        (X * math.nan, "images must be numbers, given images with NaN"),
        (X[0], r"float tensor N×C×H×W, given torch.float32 of shape \(1, 8, 6\)"),
        ((X * 255).to(torch.uint8), r"float tensor N×C×H×W, given torch.uint8"),
    ],
    ids=["above", "below", "nan", "three-dimensional", "uint8"],
)
def test_images_out_of_range_or_shape(name, bad, message):
    with pytest.raises(ValueError, match=message):
        transforms.parse(name)(bad)


class Volume(NamedTuple):
    """Mean log2 perturbable volume of a test set: Table 6 (truncated there), and what facts.md recomputed."""

    dataset: str
    transform: str
    eps: float
    bits: float
    within: float = 0.006


@pytest.mark.parametrize(
    "case",
    [
        Volume("mnist", "original", 0.3, -1297.26),
        Volume("mnist", "binarize", 0.3, -1361.78),
        Volume("mnist", "smooth-3", 0.3, -1265.31),
        Volume("mnist", "smooth-5", 0.3, -1234.90),
        Volume("mnist", "smooth-square-3", 0.3, -1239.5, 0.06),
        Volume("mnist", "smooth-square-5", 0.3, -1188.1, 0.06),
        Volume("cifar10-jpeg", "original", 8 / 255, -12360.87),
        Volume("cifar10-jpeg", "saturate-4", 8 / 255, -12400.22),
        Volume("cifar10-jpeg", "saturate-8", 8 / 255, -12480.41),
        Volume("cifar10-jpeg", "saturate-16", 8 / 255, -12655.55),
        Volume("cifar10-jpeg", "saturate-64", 8 / 255, -13608.84),
        Volume("cifar10-jpeg", "saturate-256", 8 / 255, -14742.54),
        Volume("cifar10-jpeg", "saturate-512", 8 / 255, -15025.27),
        Volume("cifar10-jpeg", "saturate-inf", 8 / 255, -15342.65),
    ],
    ids=lambda case: f"{case.dataset}-{case.transform}",
)
def test_fingerprint_on_real_data(request, case):
    request.getfixturevalue("real_jpeg" if case.dataset == "cifar10-jpeg" else "real_data")
    x, _, _ = data.transformed(case.dataset, "test", case.transform, size=10000)
    assert geometry.log2_perturbable_volume(x, case.eps).mean().item() == pytest.approx(case.bits, abs=case.within)


def test_every_transform_of_the_grid_is_known():
    for scale in grid.SCALES:
        for item in grid.all_runs(scale):
            transforms.parse(item.transform, factor=1.0)
