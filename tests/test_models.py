"""Networks: their size, their shape, and the standardisation inside."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import models
from lib.base import layers
from lib.fast import wide


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def lenet5_parameters(a: int, b: int, c: int) -> int:
    """Two 5×5 convolutions, a fully connected layer on 7×7 pixels, and the logits; each with biases."""
    return (25 * a + a) + (25 * a * b + b) + (49 * b * c + c) + (10 * c + 10)


def wide_resnet28_parameters(k: float) -> int:
    """3×3 convolutions without biases, two numbers a channel for each batch norm, 1×1 shortcuts between stages."""
    stem, (a, b, c) = 16, (int(16 * k), int(32 * k), int(64 * k))
    total = 9 * 3 * stem
    for before, width in ((stem, a), (a, b), (b, c)):
        total += (2 * before + 9 * before * width) + (2 * width + 9 * width * width)
        total += before * width if before != width or width != a else 0
        total += 3 * 2 * (2 * width + 9 * width * width)
    return total + 2 * c + (10 * c + 10)


@pytest.mark.parametrize(
    ("widen_factor", "widths"),
    [
        (1 / 32, (1, 2, 32)),
        (0.125, (4, 8, 128)),
        (0.25, (8, 16, 256)),
        (0.3, (9, 19, 307)),
        (1.0, (32, 64, 1024)),
        (4.0, (128, 256, 4096)),
    ],
)
def test_lenet5_size(widen_factor, widths):
    with torch.device("meta"):
        assert parameters(models.lenet5(widen_factor)) == lenet5_parameters(*widths)


def test_lenet5_of_the_paper():
    assert parameters(models.lenet5()) == 3_274_634  # 832 + 51,264 + 3,212,288 + 10,250


@pytest.mark.parametrize("widen_factor", [1 / 16, 0.125, 0.25, 1.0, 2.0, 4.0, 10.0])
def test_wide_resnet28_size(widen_factor):
    with torch.device("meta"):
        assert parameters(models.wide_resnet28(widen_factor)) == wide_resnet28_parameters(widen_factor)


def test_wide_resnet28_10_has_the_36_5_million_of_the_literature():
    with torch.device("meta"):  # Zagoruyko and Komodakis (2016), Table 4: 36.5M
        assert parameters(models.wide_resnet28(10.0)) == 36_479_194


def test_wide_resnet28_is_28_deep_and_4_wide():
    with torch.device("meta"):
        model = models.wide_resnet28()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 28
    assert [c.out_channels for c in convolutions if c.kernel_size == (1, 1)] == [64, 128, 256]
    assert [c.stride for c in convolutions if c.kernel_size == (3, 3)].count((2, 2)) == 2


@pytest.mark.parametrize(
    ("model", "shape", "classes"),
    [
        (lambda: models.lenet5(0.125), (3, 1, 28, 28), 10),
        (lambda: models.lenet5(0.125, in_channels=3, classes=7, image_size=32), (2, 3, 32, 32), 7),
        (lambda: models.wide_resnet28(0.125), (3, 3, 32, 32), 10),
        (lambda: models.wide_resnet28(0.125, in_channels=1, classes=4), (2, 1, 28, 28), 4),
    ],
)
def test_logits_have_a_value_a_class(model, shape, classes):
    logits = model()(torch.rand(shape))
    assert logits.shape == (shape[0], classes)
    assert logits.isfinite().all()


def test_lenet5_is_the_papers_order_of_layers():
    """Convolution, ReLU, pooling, twice; 1024 units, ReLU, logits (Appendix B.1)."""
    torch.manual_seed(0)
    model, x = models.lenet5(0.25).double(), torch.rand(4, 1, 28, 28, dtype=torch.float64)
    weights = list(model.parameters())
    out = x
    for kernel, bias in (weights[0:2], weights[2:4]):
        out = F.max_pool2d(F.conv2d(out, kernel, bias, padding=2).relu(), 2)
    out = F.linear(F.linear(out.flatten(1), *weights[4:6]).relu(), *weights[6:8])
    assert torch.allclose(model(x), out, atol=1e-12)


@pytest.mark.parametrize("parameters_too", [True, False], ids=["training", "attack"])
@pytest.mark.parametrize(
    ("kernel", "block", "channels", "size", "bias"),
    [(5, 4, 1, (28, 28), True), (3, 2, 3, (32, 32), False), (5, 2, 2, (8, 12), True), (3, 4, 3, (8, 4), True)],
)
def test_the_gradient_in_blocks_is_the_convolutions(kernel, block, channels, size, bias, parameters_too):
    torch.manual_seed(0)
    fast = layers.PixelConv2d(channels, 6, kernel, bias=bias, block=block).double()
    plain = nn.Conv2d(channels, 6, kernel, padding=kernel // 2, bias=bias).double()
    plain.load_state_dict(fast.state_dict())
    x = torch.rand(3, channels, *size, dtype=torch.float64)
    towards = torch.rand(3, 6, *size, dtype=torch.float64)
    gradients = []
    for layer in (fast, plain):
        layer.requires_grad_(parameters_too)
        image = x.clone().requires_grad_()
        out = layer(image)
        assert torch.allclose(out, plain(x), atol=1e-12)
        gradients.append(torch.autograd.grad(out, [image, *(p for p in layer.parameters() if parameters_too)], towards))
    for gradient, expected in zip(*gradients, strict=True):
        assert torch.allclose(gradient, expected, atol=1e-12)


def test_the_global_seed_decides_the_initial_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in models.lenet5(0.125).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_standardisation_is_tensorflows():
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    x[3] = 0.5 + (x[3] - 0.5) * 1e-3  # its standard deviation lies below the floor of 1/√N
    standardised_images = models.PerImageStandardization()(x).numpy()
    for image, standardised in zip(x.numpy(), standardised_images, strict=True):
        expected = (image - image.mean()) / max(image.std(), 1 / math.sqrt(image.size))
        np.testing.assert_allclose(standardised, expected, atol=1e-12)
    assert standardised_images[3].std() < 0.5 < standardised_images[2].std()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_image_has_finite_logits_and_gradients(value):
    x = torch.full((2, 3, 32, 32), value, requires_grad=True)
    model = models.wide_resnet28(0.125).eval()
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), x)
    assert logits.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("factor", "offset"), [(0.5, 0.25), (0.3, 0.0), (0.9, 0.1)])
def test_wide_resnet28_does_not_see_brightness_and_contrast(factor, offset):
    torch.manual_seed(0)
    model, x = models.wide_resnet28(0.125).double().eval(), torch.rand(4, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(model(factor * x + offset), model(x), atol=1e-9)
    assert not torch.allclose(model(x**2), model(x), atol=1e-3)


def test_lenet5_sees_raw_pixels():
    torch.manual_seed(0)
    model, x = models.lenet5(0.125), torch.rand(4, 1, 28, 28)
    assert not torch.allclose(model(x / 2), model(x), atol=1e-3)


@pytest.mark.parametrize("name", ["lenet5", "wide_resnet28", "small_convnet"])
def test_build_finds_a_network_by_its_name(name):
    assert parameters(models.build(name, 0.25)) == parameters(getattr(models, name)(0.25))


def test_build_refuses_another_name():
    with pytest.raises(ValueError, match="unknown model 'resnet50'; allowed: lenet5, wide_resnet28"):
        models.build("resnet50", 1.0)


@pytest.mark.parametrize(
    ("build", "narrowest"), [(models.lenet5, "0.03125"), (models.wide_resnet28, "0.0625")], ids=["lenet5", "wide_resnet28"]
)
@pytest.mark.parametrize("widen_factor", [0.0, -1.0, 0.03, math.nan, math.inf])
def test_a_width_that_leaves_a_layer_empty(build, narrowest, widen_factor):
    with pytest.raises(ValueError, match=f"widen_factor must be .*{narrowest}.* given {widen_factor}"):
        build(widen_factor)


@pytest.mark.parametrize(("channels", "size", "kernel", "block"), [(1, 28, 5, 4), (3, 32, 3, 2), (2, 12, 3, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_a_pixel_convolution_are_the_convolutions(channels, size, kernel, block, bias):
    torch.manual_seed(0)
    fast = layers.PixelConv2d(channels, 6, kernel, bias=bias, block=block).double()
    plain = nn.Conv2d(channels, 6, kernel, padding=kernel // 2, bias=bias).double()
    plain.load_state_dict(fast.state_dict())
    x = torch.rand(2, channels, size, size, dtype=torch.double)
    gradients = []
    for layer in (fast, plain):
        image = x.clone().requires_grad_(True)
        out = layer(image)
        gradients.append(torch.autograd.grad(out.sin().sum(), [image, *layer.parameters()]))
        assert torch.equal(out, plain(x))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [4, 8, 12, 16, 32, 64])
@pytest.mark.parametrize(("channels_in", "size", "kernel", "block"), [(1, 28, 5, 4), (3, 32, 3, 2)])
def test_a_pixel_convolution_s_gradient_in_bfloat16_is_that_in_float32(channels, channels_in, size, kernel, block):
    """oneDNN gives another one with 8 and 12 channels where the processor has AMX."""
    torch.manual_seed(0)
    layer = layers.PixelConv2d(channels_in, channels, kernel, block=block)
    x, upstream = torch.rand(4, channels_in, size, size), torch.randn(4, channels, size, size)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        image = x.to(dtype).requires_grad_(True)
        gradients.append(torch.autograd.grad(layer.to(dtype)(image), image, upstream.to(dtype))[0].float())
    exact, low = gradients
    assert (low - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("widen_factor", [0.125, 0.25, 0.5, 1])
@pytest.mark.parametrize(("build", "shape"), [(models.lenet5, (1, 28, 28)), (models.wide_resnet28, (3, 32, 32))])
def test_a_network_s_gradient_in_bfloat16_has_the_signs_of_that_in_float32(build, shape, widen_factor):
    torch.manual_seed(0)
    network = build(widen_factor).eval()
    x, y, signs = torch.rand(10, *shape), torch.arange(10), []
    for dtype in (torch.float32, torch.bfloat16):
        image = x.to(dtype).requires_grad_(True)
        loss = F.cross_entropy(network.to(dtype)(image).float(), y)
        signs.append(torch.autograd.grad(loss, image)[0].sign())
    assert (signs[0] == signs[1]).float().mean() > 0.9


def test_a_processor_that_computes_another_gradient_is_noticed(monkeypatch):
    shape, size = torch.Size([8, 1, 5, 5]), torch.Size([28, 28])
    layers._is_right.cache_clear()
    assert layers._is_right(shape, 4, torch.float32, size)
    pixel_kernel = layers._pixel_kernel
    monkeypatch.setattr(layers, "_pixel_kernel", lambda weight, block: pixel_kernel(weight, block) * 1.1)
    layers._is_right.cache_clear()
    assert not layers._is_right(shape, 4, torch.float32, size)
    layer = layers.PixelConv2d(1, 8, 5, block=4)
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    assert "PixelGradient" not in type(layer(image).grad_fn).__name__
    layers._is_right.cache_clear()


def _lived_in(model: nn.Module) -> nn.Module:
    """`model` with batch-norm statistics and scales as after training, both signs and far from 1."""
    generator = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.2, 3, generator=generator)
            layer.weight.data.normal_(generator=generator)
            layer.bias.data.normal_(generator=generator)
    return model.eval()


def test_the_specialized_network_is_the_same_function():
    """Logits and gradient to the image; in float64, where the order of sums leaves nothing to tell apart."""
    model = _lived_in(models.wide_resnet28(0.25)).double()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    outputs = []
    with torch.no_grad():
        special = wide.specialized(model)
    for network in (model, special):
        image = x.clone().requires_grad_()
        logits = network(image)
        outputs.append((logits.detach(), torch.autograd.grad(F.cross_entropy(logits, torch.arange(4)), image)[0]))
    for ours, theirs in zip(*outputs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("sizes", [(32, 16, 32)])
def test_the_specialized_network_takes_images_of_another_size(sizes):
    model = _lived_in(models.wide_resnet28(0.125))
    special = wide.specialized(model)
    for size in sizes:
        x = torch.rand(2, 3, size, size)
        torch.testing.assert_close(special(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.2, 0.01])
def test_the_gradient_of_standardisation(scale):
    """Against autograd's of the formula; at scale .01 the deviation is below its floor."""
    x = 0.5 + scale * (torch.rand(3, 3, 8, 8, dtype=torch.float64) - 0.5)
    weights = torch.rand_like(x)
    gradients = []
    for function in (
        models.PerImageStandardization(),
        lambda z: (z - z.mean((1, 2, 3), True)) / z.std((1, 2, 3), correction=0, keepdim=True).clamp(min=192**-0.5),
    ):
        image = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad((function(image) * weights).sum(), image)[0])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


# --- the ramp ---------------------------------------------------------------------------------------------------------


def test_the_ramp_is_the_clipped_line():
    x = torch.linspace(-0.5, 1.5, 2001, dtype=torch.float64).view(1, 1, 1, -1)
    for slope in (1.0, 4.0, 10.0):
        assert torch.allclose(models.Ramp(slope)(x), (slope * (x - 0.5) + 0.5).clamp(0, 1), atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ramp_undoes_what_eps_does_to_a_binarized_image_exactly(dtype):
    x = torch.randint(2, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(dtype)
    noise = torch.empty_like(x).uniform_(-0.44, 0.44, generator=torch.Generator().manual_seed(1))
    assert torch.equal(models.Ramp(10.0)(x + noise), x)  # in the box and out of it
    assert not torch.equal(models.Ramp(10.0)(x + 1.04 * noise), x)


def test_the_ramp_never_falls():
    x = torch.linspace(0.44, 0.56, 100_001).view(1, 1, 1, -1)
    assert (models.Ramp(10.0)(x).diff() >= 0).all()


def test_gradients_pass_the_ramp_straight_through_only_where_asked():
    x = torch.tensor([0.0, 0.3, 0.5, 0.7, 1.0]).view(1, 1, 1, -1)
    weights = torch.arange(1.0, 6.0).view(1, 1, 1, -1)
    for straight_through, expected in ((False, [0, 0, 30, 0, 0]), (True, [1, 2, 3, 4, 5])):
        ramp = models.Ramp(10.0, straight_through=straight_through)
        images = x.clone().requires_grad_(True)
        out = ramp(images)
        assert torch.equal(out, models.Ramp(10.0)(x))
        (out * weights).sum().backward()
        assert torch.equal(images.grad, torch.tensor(expected, dtype=x.dtype).view_as(x))


@pytest.mark.parametrize("slope", [0.0, -1.0, math.nan, math.inf])
def test_a_ramp_that_does_not_rise(slope):
    with pytest.raises(ValueError, match="slope must be > 0 and finite, given"):
        models.Ramp(slope)


@pytest.mark.parametrize(("channels", "stride"), [((2, 4), 2), ((4, 8), 2), ((16, 2), 1)])
def test_a_shortcut_is_a_strided_convolution(channels, stride):
    """Values and both gradients against the framework's strided one, in the default layout, where its own gradient holds."""
    x, weight = torch.rand(3, channels[0], 8, 8), torch.rand(channels[1], channels[0], 1, 1)
    shortcut = layers.Shortcut(*channels, stride).to(memory_format=torch.channels_last)
    shortcut.weight.data.copy_(weight)
    inputs = [(x.clone(memory_format=torch.channels_last).requires_grad_(), shortcut.weight)]
    inputs.append((x.clone().requires_grad_(), weight.requires_grad_()))
    outputs = [shortcut(inputs[0][0]), F.conv2d(*inputs[1], stride=stride)]
    outputs_and_gradients = [
        [out, *torch.autograd.grad(out.square().sum(), of)] for out, of in zip(outputs, inputs, strict=True)
    ]
    for ours, theirs in zip(*outputs_and_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
