"""Convolutions of R runs at once: patches of images as the rows of batched matrix products.

Source: Chellapilla, Puri and Simard (2006), https://inria.hal.science/inria-00112631 (patches).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.conv_layers import ConvLayer, map_sizes
from entropic_rl.networks import ACTIVATIONS, ParameterRows, linear, orthogonal
from entropic_rl.streams import Stream

__all__ = ["CNN"]


@dataclass(frozen=True, slots=True)
class CNN:
    """Convolutions and one linear layer over images, ``activation`` after each of them.

    The weight of a convolution is ``[R, kernel * kernel * in, out]``, rows of the kernel outermost; the linear layer
    is ``[R, H * W * channels, n_outputs]`` over the last map. Names are ``{name}.{i}.weight`` and ``{name}.{i}.bias``.

    Attributes:
        image: channels, height and width of the images.
        n_outputs: number of features.

    Raises:
        ValueError: if the layers do not fit on the image.
    """

    name: str
    image: tuple[int, int, int]
    layers: tuple[ConvLayer, ...]
    n_outputs: int
    activation: str = "relu"

    def __post_init__(self) -> None:
        for i, (_, height, width) in enumerate(map_sizes(self.image, self.layers)):
            if min(height, width) < 1:
                kernel = self.layers[i - 1].kernel
                raise ValueError(
                    f"layer {i - 1} of {self.name} has a kernel of {kernel} x {kernel}, larger than what is left of "
                    f"an image of {self.image[1]} x {self.image[2]} pixels; take smaller kernels or fewer layers"
                )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""
        shapes: dict[str, tuple[int, ...]] = {}
        maps = map_sizes(self.image, self.layers)
        for i, (layer, (n_in, _, _)) in enumerate(zip(self.layers, maps, strict=False)):
            shapes[f"{self.name}.{i}.weight"] = (layer.kernel**2 * n_in, layer.channels)
            shapes[f"{self.name}.{i}.bias"] = (1, layer.channels)
        channels, height, width = maps[-1]
        shapes[f"{self.name}.{len(self.layers)}.weight"] = (height * width * channels, self.n_outputs)
        shapes[f"{self.name}.{len(self.layers)}.bias"] = (1, self.n_outputs)
        return shapes

    def __call__(self, params: ParameterRows, x: Tensor) -> Tensor:
        """Images ``x [R, B, H, W, C]`` of numbers in [0, 1] -> ``[R, B, n_outputs]``."""
        activate = ACTIVATIONS[self.activation]
        # Channels last: what the products give is what the next patches are made of.
        x = x.contiguous()
        for i, layer in enumerate(self.layers):
            x = params.saw(
                f"{self.name}.{i}", activate(_convolve(x, *self._parameters(params, i), layer)), self.activation
            )
        last = len(self.layers)
        x = activate(linear(x.flatten(2), *self._parameters(params, last)))
        return params.saw(f"{self.name}.{last}", x, self.activation)

    @torch.no_grad()
    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """Orthogonal weights of gain sqrt 2 and zero biases, each run from its own stream.

        Source: Saxe et al. (2014), https://arxiv.org/abs/1312.6120.
        """
        for i in range(len(self.layers) + 1):
            weight, bias = self._parameters(params, i)
            weight.copy_(orthogonal(stream, *weight.shape[1:]) * 2.0**0.5)
            bias.zero_()

    def _parameters(self, params: ParameterRows, i: int) -> tuple[Tensor, Tensor]:
        return params[f"{self.name}.{i}.weight"], params[f"{self.name}.{i}.bias"]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, layer: ConvLayer) -> Tensor:
    """``x [R, B, H, W, C]`` with ``weight [R, kernel * kernel * C, out]`` -> ``[R, B, H', W', out]``."""
    p = layer.padding
    x = F.pad(x, (0, 0, p, p, p, p)) if p else x
    patches = cast(Tensor, _Patches.apply(x, layer.kernel, layer.stride))  # type: ignore[no-untyped-call]
    return linear(patches.flatten(1, 3), weight, bias).unflatten(1, patches.shape[1:4])


class _Patches(torch.autograd.Function):
    """``[R, B, H, W, C] -> [R, B, H', W', kernel * kernel * C]``: what the kernel sees at each of its places.

    A gradient is added up pixel by pixel of the kernel, faster on CPU than what torch derives from two unfolds.
    """

    @staticmethod
    def forward(x: Tensor, kernel: int, stride: int) -> Tensor:
        windows = x.unfold(2, kernel, stride).unfold(3, kernel, stride)  # [R, B, H', W', C, kernel, kernel]
        return windows.movedim(4, -1).flatten(4)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
        x, ctx.kernel, ctx.stride = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0].new_zeros(ctx.shape)
        height, width = grads[0].shape[2:4]
        parts = grads[0].unflatten(-1, (ctx.kernel, ctx.kernel, -1))  # [R, B, H', W', kernel, kernel, C]
        for row in range(ctx.kernel):
            rows = slice(row, row + (height - 1) * ctx.stride + 1, ctx.stride)
            for column in range(ctx.kernel):
                columns = slice(column, column + (width - 1) * ctx.stride + 1, ctx.stride)
                grad[:, :, rows, columns] += parts[..., row, column, :]
        return grad, None, None
