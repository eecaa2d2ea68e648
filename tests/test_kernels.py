"""The fused passes: the same numbers as the framework's operations one by one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.fast import kernels

FACTORS = torch.rand(4), torch.rand(4)
DTYPES = [torch.bfloat16, torch.float32, torch.float64]


def _images(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-7), (torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("size", [(8, 8), (3, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("adds", [True, False])
def test_sum_affine_and_relu(adds, size, dtype, tolerance):
    """Values and gradients against autograd's of the formula in float64, on numbers whose signs no rounding changes."""
    x, other = ((4 * _images(2, 4, *size, dtype=dtype, seed=seed)).round() / 4 for seed in (0, 1))
    scale = torch.tensor([0.5, 1.0, 2.0, -1.0], dtype=dtype).view(1, 4, 1, 1)
    shift = torch.tensor([1, -3, 5, 7], dtype=dtype).view(1, 4, 1, 1) / 16
    weights = [_images(2, 4, *size, dtype=dtype, seed=seed) for seed in (4, 5)]
    repeated = [v.flatten().repeat(16) for v in (scale, shift)]

    def formula(x, other):
        total = x + other if adds else x
        return total, F.relu(total * scale.to(x.dtype) + shift.to(x.dtype))

    outputs = []
    for function, kind in (
        (formula, torch.float64),
        (lambda x, other: kernels.add_affine_relu(x, other if adds else None, *repeated), dtype),
    ):
        leaves = [x.to(kind).requires_grad_(), other.to(kind).requires_grad_()]
        total, out = function(*leaves)
        loss = (total * weights[0].to(kind)).sum() + (out * weights[1].to(kind)).sum()
        outputs.append([total, out, *torch.autograd.grad(loss, leaves[: 1 + adds])])
    for theirs, ours in zip(*outputs, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rounding_and_nan_as_the_framework(dtype):
    """x · 1 + y: all of bfloat16's roundings, ties and overflows among them, agree with the framework's addition."""
    x, y = (_images(64, 16, 8, 8, dtype=dtype, seed=seed) for seed in (0, 1))
    x[0, 0], y[0, 0] = torch.finfo(dtype).max, torch.finfo(dtype).max
    x[1, 0] = torch.nan
    ones, zeros = torch.ones(16, dtype=dtype), torch.zeros(16, dtype=dtype)
    total, out = kernels.add_affine_relu(x, y, ones, zeros)
    torch.testing.assert_close(total, x + y, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(out, F.relu(x + y), rtol=0, atol=0, equal_nan=True)


def test_the_sum_alone_or_the_activation_alone_may_be_used():
    x = _images(2, 4, 4, 4, dtype=torch.float32).requires_grad_()
    other = _images(2, 4, 4, 4, dtype=torch.float32, seed=1)
    ones, zeros = torch.ones(64), torch.zeros(64)
    total, out = kernels.add_affine_relu(x, other, ones, zeros)
    assert torch.equal(torch.autograd.grad(total.sum(), x, retain_graph=True)[0], torch.ones_like(x))
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], (total > 0).float())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 32, 6, 8), (2, 5, 2, 2), (1, 1, 4, 4)], ids=str)
def test_pooling_and_relu_bit_for_bit(shape, dtype):
    """Values and gradients; among them ties, windows without a positive number, both zeros, infinities and NaN."""
    x = (2 * _images(*shape, dtype=dtype)).round() / 2
    x[0, 0, :2, :2] = torch.tensor([[-1.0, -torch.inf], [-2.0, -0.0]], dtype=dtype)
    if shape[2] > 2:
        x[0, 0, 2:4, :2] = torch.tensor([[1.0, torch.nan], [3.0, torch.inf]], dtype=dtype)
        x[0, 0, 2:4, 2:4] = torch.tensor([[2.0, 1.0], [2.0, 2.0]], dtype=dtype)
    weights = _images(*shape[:2], shape[2] // 2, shape[3] // 2, dtype=dtype, seed=1)
    outputs = []
    for function in (lambda x: F.relu(F.max_pool2d(x, 2)), kernels.pool_relu):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        outputs.append((out, *torch.autograd.grad(out, leaf, weights)))
    for theirs, ours in zip(*outputs, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.pool_relu(torch.rand(1, 4, 3, 4)), "even height and width, given 3×4"),
        (lambda: kernels.pool_relu(torch.rand(1, 4, 4, 4).half()), "pool_relu takes bfloat16, float32, float64 on cpu"),
        (lambda: kernels.add_affine_relu(torch.rand(1, 4, 4, 4, device="meta"), None, *FACTORS), "on cpu.*meta"),
        (lambda: kernels.add_affine_relu(torch.rand(1, 4, 4, 4), torch.rand(1, 4, 4, 4).double(), *FACTORS), "other.*float64"),
        (lambda: kernels.add_affine_relu(torch.rand(1, 4, 4, 4), torch.rand(1, 4, 2, 2), *FACTORS), r"other.*\(1, 4, 2, 2\)"),
        (lambda: kernels.add_affine_relu(torch.rand(1, 4, 4, 4), None, FACTORS[0].double(), FACTORS[1]), "scale.*float64"),
        (lambda: kernels.add_affine_relu(torch.rand(1, 4, 4, 4), None, torch.rand(6), torch.rand(6)), "4 channels.*given 6"),
        (lambda: kernels.add_affine_relu(torch.rand(1, 4, 4, 4).half(), None, torch.rand(4), torch.rand(4)), "float16"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
