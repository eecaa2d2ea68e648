"""Layers of the paper's networks in the form that a processor runs fastest."""

import copy
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Images = Float[Tensor, "n c h w"]


def _pixel_kernel(weight: Tensor, block: int) -> Tensor:
    """The kernel that takes a convolution's gradient to block×block pixels of the image at once."""
    channels_out, channels_in, k, _ = weight.shape
    width = k + block - 1
    flipped = weight.flip(2, 3).transpose(0, 1)
    kernel = weight.new_zeros(channels_in, block, block, channels_out, width, width)
    for dy in range(block):
        for dx in range(block):
            kernel[:, dy, dx, :, dy : dy + k, dx : dx + k] = flipped
    return kernel.view(-1, channels_out, width, width).contiguous(memory_format=torch.channels_last)


class _PixelGradient(torch.autograd.Function):
    """A convolution whose gradient to the image is computed for blocks of pixels at once.

    That gradient is a convolution with as few output channels as the image has, one or three: a processor's vectors run
    all but empty. Here each block×block pixels of the image become block² output channels of a strided convolution
    (its kernel, k + block - 1 wide, is the flipped one at each offset), and are laid out as pixels again. The sums are the
    same except for their order. For 1 channel and a 5×5 kernel, blocks of 4 take a quarter of the time.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, block: int, kernel: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, kernel)
        ctx.block, ctx.has_bias = block, bias is not None
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, kernel = ctx.saved_tensors
        padding = weight.shape[-1] // 2
        kernel = _pixel_kernel(weight, ctx.block) if kernel is None else kernel
        to_x = F.pixel_shuffle(F.conv2d(gradient, kernel, stride=ctx.block, padding=padding), ctx.block)
        needs = [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
        if not any(needs):
            return to_x, None, None, None, None
        sizes = [len(weight)] if ctx.has_bias else None
        _, to_weight, to_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, sizes, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, needs
        )
        return to_x, to_weight, to_bias, None, None


@cache
def _is_right(shape: torch.Size, block: int, dtype: torch.dtype, size: torch.Size) -> bool:
    """Whether this processor computes `_PixelGradient` for weights of this shape and images of this size as autograd does.

    oneDNN's strided convolutions in bfloat16 give another gradient with 8 and 12 channels where the processor has AMX (torch
    2.14): half of its numbers are 0, and an attack fools nobody.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = (1, shape[1], *size), shape, (1, shape[0], *size)
    numbers = [torch.randn(each, generator=generator) for each in sizes]

    def gradient(convolution: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        image, weight, upstream = (tensor.to(dtype).detach() for tensor in numbers)
        return torch.autograd.grad(convolution(image.requires_grad_(), weight), image, upstream)[0].float()

    with torch.enable_grad():
        exact = gradient(lambda image, weight: F.conv2d(image, weight, padding=shape[-1] // 2), torch.float32)
        ours = gradient(lambda image, weight: _PixelGradient.apply(image, weight, None, block, None), dtype)
    return bool((ours - exact).norm() < 0.05 * exact.norm())


class PixelConv2d(nn.Conv2d):
    """The first convolution of a network, stride 1 and same padding, with a fast gradient to the image on a processor."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True, block: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
        self.block = block
        self.register_buffer("kernel", None, persistent=False)

    def specialized(self) -> "PixelConv2d":
        """The same layer for the present weights, with the gradient's kernel computed once."""
        twin = copy.copy(self)  # shares the weights
        twin._buffers = {"kernel": _pixel_kernel(self.weight.detach(), self.block)}
        return twin

    def forward(self, x: Images) -> Tensor:
        """The convolution of images whose height and width are multiples of the block."""
        if x.requires_grad and x.device.type == "cpu" and _is_right(self.weight.shape, self.block, x.dtype, x.shape[2:]):
            return _PixelGradient.apply(x, self.weight, self.bias, self.block, self.kernel)
        return super().forward(x)


class _Standardize(torch.autograd.Function):
    """`standardize`, in as few passes over the images as it takes; autograd's own take eight times as long."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        n = x[0].numel()
        centred = x - x.mean(dim=(1, 2, 3), keepdim=True)
        norm = torch.linalg.vector_norm(centred, dim=(1, 2, 3), keepdim=True)  # std · √N
        scale = n**0.5 / norm.clamp(min=1.0)
        out = centred.mul_(scale)
        ctx.save_for_backward(out, scale, norm > 1.0)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        out, scale, varies = ctx.saved_tensors
        # At the floor the scale is a constant and only the mean moves with x.
        along = (gradient * out).mean(dim=(1, 2, 3), keepdim=True) * varies
        return torch.addcmul(gradient - gradient.mean(dim=(1, 2, 3), keepdim=True), out, along, value=-1).mul_(scale)


def standardize(x: Images) -> Images:
    """(x - mean) / max(std, 1/√N) over the N values of each image."""
    return _Standardize.apply(x)


class Shortcut(nn.Conv2d):
    """A 1×1 convolution, with a stride or without.

    The stride is taken before it: the same products. On processors with AVX2 and no AVX-512 the framework's own gradient of a
    strided one with fewer than 8 channels, channels last, writes beyond its memory (torch 2.14) and ends the process.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, 1, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of planes `n×c×h×w`, those of every `stride`-th pixel, `n×c'×h/stride×w/stride`."""
        down, across = self.stride
        return F.conv2d(x[:, :, ::down, ::across], self.weight, groups=self.groups)


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What batch normalisation in eval mode multiplies by, and what it adds, channel by channel."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
