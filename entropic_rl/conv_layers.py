"""Which convolutions look at images of a size; free of torch, for those who only count.

Source: Mnih et al. (2015), https://doi.org/10.1038/nature14236 (the large network).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ConvLayer", "default_features", "default_layers", "map_sizes", "patch_numbers"]


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """One convolution: square kernels, the same stride and zero padding in both directions."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0

    def side(self, n: int) -> int:
        """Places of the kernel along a side of n pixels; what is left over at the far end is not seen, as in torch."""
        return (n + 2 * self.padding - self.kernel) // self.stride + 1


_NATURE = (ConvLayer(32, 8, 4), ConvLayer(64, 4, 2), ConvLayer(64, 3, 1))
_NATURE_SIDE = 36  # pixels, from which the three fit
# Ours: the padding keeps the edge of every size in sight, which 3 x 3 windows at stride 2 miss on even sides.
_SMALL = (ConvLayer(32, 3), ConvLayer(64, 3, 2, 1), ConvLayer(64, 3, 2, 1))
_SMALL_SIDE = 3


def default_layers(image: tuple[int, int, int]) -> tuple[ConvLayer, ...]:
    """Layers for images ``(C, H, W)``: those of Mnih et al. (2015) where they fit, three of 3 x 3 kernels below.

    Raises:
        ValueError: if the image is smaller than 3 x 3.
    """
    _, height, width = image
    if min(height, width) >= _NATURE_SIDE:
        return _NATURE
    if min(height, width) >= _SMALL_SIDE:
        return _SMALL
    raise ValueError(
        f"convolutions need images of at least {_SMALL_SIDE} x {_SMALL_SIDE} pixels, got {height} x {width}; "
        "smaller ones are for linear layers"
    )


def default_features(image: tuple[int, int, int]) -> int:
    """How many numbers the layers' maps are made into: as many as Mnih et al. (2015) have for their layers."""
    return 512 if default_layers(image) is _NATURE else 128


def map_sizes(image: tuple[int, int, int], layers: Sequence[ConvLayer]) -> list[tuple[int, int, int]]:
    """Channels, height and width of the image and after each convolution."""
    sizes = [image]
    for layer in layers:
        _, height, width = sizes[-1]
        sizes.append((layer.channels, layer.side(height), layer.side(width)))
    return sizes


def patch_numbers(image: tuple[int, int, int], layers: Sequence[ConvLayer]) -> int:
    """Numbers in the patches of one image, over all layers: what an evaluation holds in memory beside its maps."""
    sizes = map_sizes(image, layers)
    return sum(
        layer.kernel**2 * n_in * height * width
        for layer, (n_in, _, _), (_, height, width) in zip(layers, sizes, sizes[1:], strict=False)
    )
