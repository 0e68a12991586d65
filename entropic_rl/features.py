"""What networks compute from observations before their hidden layers: convolutions of images, attention over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from entropic_rl.attention import Transformer
from entropic_rl.conv_layers import default_features, default_layers, patch_numbers
from entropic_rl.convolution import CNN
from entropic_rl.errors import ConfigError
from entropic_rl.networks import ParameterRows
from entropic_rl.spaces import FeatureKind, ObservationSpec, check_features, image_size, is_channels_first
from entropic_rl.streams import Stream

__all__ = ["Features", "make_features"]

_HEADS, _LAYERS = 4, 2  # of attention
_BLOCK = 2**24  # numbers in the patches of the images that are looked at together where no gradient is wanted


class Features(Protocol):
    """A network from what an agent sees to features."""

    @property
    def n_outputs(self) -> int:
        """F, numbers that come out."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""

    def __call__(self, params: ParameterRows, x: Tensor) -> Tensor:
        """``[R, B, D] -> [R, B, F]``."""

    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """Initial parameters, each run's from its own stream."""


def make_features(
    kind: FeatureKind, observation: ObservationSpec, n_outputs: int | None = None, *, name: str = "features"
) -> Features | None:
    """The network for a kind of features; None where observations go into the hidden layers as they are.

    Args:
        kind: ``auto`` is ``cnn`` for images and ``flat`` for all else.
        observation: what comes in.
        n_outputs: F; by default 512 for large images, 128 for small ones, 32 for attention. Flat ones keep their
            number.
        name: of the parameters.

    Raises:
        ConfigError: the observations are of the wrong kind.
    """
    check_features(kind, observation)
    image, frames = observation.image, observation.frames
    if kind == "attention":
        width = n_outputs or 32
        if width % _HEADS:
            raise ConfigError(f"features_dim: expected a multiple of the {_HEADS} heads of attention, got {width}")
        return Attention(Transformer(name, observation.size // frames, width, _HEADS, _LAYERS, frames))
    if image is not None and kind != "flat":
        return Images.of(name, image, frames, n_outputs)
    return Flat(observation.size) if frames > 1 else None


@dataclass(frozen=True, slots=True)
class Flat:
    """Several observations as one vector, zero where there are none yet."""

    n_outputs: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """No parameters."""
        return {}

    def __call__(self, params: ParameterRows, x: Tensor) -> Tensor:
        """``[R, B, D] -> [R, B, D]``."""
        return x.masked_fill(x.isnan(), 0.0)

    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Images:
    """Convolutions over the latest K images, whose channels lie side by side.

    Attributes:
        image: shape of one image as the environment has it.
        frames: K.
        cnn: the convolutions.
    """

    image: tuple[int, ...]
    frames: int
    cnn: CNN

    @classmethod
    def of(cls, name: str, image: tuple[int, ...], frames: int, n_outputs: int | None) -> Images:
        """The usual convolutions for images of a shape.

        Raises:
            ConfigError: the images are too small.
        """
        height, width, channels = image_size(image)
        stacked = (frames * channels, height, width)
        try:
            layers = default_layers(stacked)
        except ValueError as error:
            raise ConfigError(f"{error}: use --features flat") from None
        return cls(image, frames, CNN(name, stacked, layers, n_outputs or default_features(stacked)))

    @property
    def n_outputs(self) -> int:
        """F."""
        return self.cnn.n_outputs

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""
        return self.cnn.shapes()

    def __call__(self, params: ParameterRows, x: Tensor) -> Tensor:
        """``[R, B, D] -> [R, B, F]``."""
        x = x.unflatten(
            -1, (self.frames, *self.image)
        )  # [R, B, K, height, width, channels], or channels first, or none
        if len(self.image) == 2:
            x = x.movedim(2, -1)
        elif is_channels_first(self.image):
            x = x.flatten(2, 3).movedim(2, -1)
        else:
            x = x.movedim(2, -2).flatten(-2)
        if torch.is_grad_enabled():
            return self.cnn(params, x)
        size = max(1, _BLOCK // (len(x) * patch_numbers(self.cnn.image, self.cnn.layers)))
        return torch.cat([self.cnn(params, block) for block in x.split(size, 1)], 1)

    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """That of the convolutions."""
        self.cnn.initialise(params, stream)


@dataclass(frozen=True, slots=True)
class Attention:
    """The newest observation, and beside it what a transformer makes of the latest K, as far as there are any.

    The way past the transformer lets an agent learn at once what needs no memory; without it, layers of normalisation
    stand between small differences of observations and the policy. Source: Parisotto et al. (2020), section 3.2,
    https://arxiv.org/abs/1910.06764 (an identity map from observation to policy at the beginning).
    """

    transformer: Transformer

    @property
    def n_outputs(self) -> int:
        """F."""
        return self.transformer.n_inputs + self.transformer.n_outputs

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter shapes of one run, by name."""
        return self.transformer.shapes()

    def __call__(self, params: ParameterRows, x: Tensor) -> Tensor:
        """``[R, B, D] -> [R, B, F]``."""
        x = x.unflatten(-1, (self.transformer.context, -1))
        return torch.cat([x[..., -1, :], self.transformer(params, x, ~x[..., 0].isnan())], -1)

    def initialise(self, params: ParameterRows, stream: Stream) -> None:
        """That of the transformer."""
        self.transformer.initialise(params, stream)
