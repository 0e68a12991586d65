"""Gymnasium spaces seen by an agent: observations become flat vectors, action spaces become policy heads.

No torch here, so that an unsupported space is reported before anything heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard

import numpy as np
from gymnasium import spaces

from entropic_rl.errors import ConfigError, EnvError

__all__ = [
    "ActionSpec",
    "FeatureKind",
    "ObservationSpec",
    "action_spec",
    "check_features",
    "image_size",
    "is_channels_first",
    "is_pixels",
    "observation_spec",
]

FeatureKind = Literal["auto", "flat", "cnn", "attention"]
HeadKind = Literal["categorical", "multi-discrete", "bernoulli", "gaussian", "tanh-gaussian"]
Flatten = Callable[[Any], np.ndarray]


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """What an agent sees of an env: flat vectors.

    Attributes:
        flatten: a batch of the env's observations -> ``[N, size / frames]`` numbers.
        size: D, numbers an agent sees at once.
        frames: how many observations these are, the latest ones, oldest first.
        image: shape of one observation if it is an image, (height, width), (height, width, channels) or (channels,
            height, width); None if it is not.
    """

    size: int
    flatten: Flatten = field(repr=False)
    frames: int = 1
    image: tuple[int, ...] | None = None

    @classmethod
    def vector(cls, size: int) -> ObservationSpec:
        """Of observations that are vectors of ``size`` numbers."""
        return cls(size, lambda obs: np.asarray(obs).reshape(-1, size))

    def stacked(self, frames: int) -> ObservationSpec:
        """The same with the ``frames`` latest observations side by side."""
        return replace(self, size=self.size // self.frames * frames, frames=frames)


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """A policy head and the way from its actions to the env's.

    Attributes:
        kind: which distribution the head is.
        n_outputs: network outputs it needs.
        nvec: choices per component (multi-discrete only).
        event_shape: shape of one action as the agent stores it.
        to_env: actions ``[N, *event_shape]`` as NumPy -> what ``VectorEnv.step`` takes.
        bounded: which dimensions of a Box have bounds on both sides.
    """

    kind: HeadKind
    n_outputs: int
    nvec: tuple[int, ...]
    event_shape: tuple[int, ...]
    to_env: Flatten = field(repr=False)
    bounded: tuple[bool, ...] = ()

    @property
    def max_entropy(self) -> float | None:
        """Nats of the uniform policy; None for continuous actions, whose entropy has no such ceiling."""
        if self.is_continuous:
            return None
        if self.kind == "bernoulli":
            return self.n_outputs * math.log(2.0)
        return sum(math.log(n) for n in self.nvec or (self.n_outputs,))

    @property
    def is_continuous(self) -> bool:
        """Whether actions are real numbers, in units where the env's bounds are -1 and 1."""
        return self.kind in ("gaussian", "tanh-gaussian")


def observation_spec(space: spaces.Space[Any]) -> ObservationSpec:
    """Flatten Box, Discrete (one-hot), MultiDiscrete (one-hots), MultiBinary, and Dict or Tuple of these.

    Bytes from 0 to 255 are taken for pixels and scaled to [0, 1].
    Dict entries follow in the space's own (sorted) order.

    Raises:
        EnvError: for any other space.
    """
    if is_pixels(space):
        pixels = math.prod(space.shape)
        image = tuple(space.shape) if len(space.shape) in (2, 3) else None
        return ObservationSpec(pixels, lambda obs: np.asarray(obs, np.float32).reshape(-1, pixels) / 255.0, image=image)
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return ObservationSpec.vector(math.prod(space.shape))
    if isinstance(space, spaces.Discrete):
        return _one_hot_spec(np.array([space.n]), np.array([space.start]))
    if isinstance(space, spaces.MultiDiscrete):
        return _one_hot_spec(space.nvec.reshape(-1), space.start.reshape(-1))
    if isinstance(space, spaces.Dict | spaces.Tuple):
        items = space.items() if isinstance(space, spaces.Dict) else enumerate(space)
        parts = [(key, observation_spec(subspace)) for key, subspace in items]
        return ObservationSpec(
            sum(part.size for _, part in parts),
            lambda obs: np.concatenate([part.flatten(obs[key]) for key, part in parts], -1),
        )
    raise EnvError(
        f"unsupported observation space {space}: expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or "
        "Tuple of these; --env-wrappers MODULE:CLASS gives such, for MiniGrid's envs minigrid.wrappers:ImgObsWrapper"
    )


def check_features(kind: FeatureKind, observation: ObservationSpec) -> None:
    """Refuse features that cannot be computed of what an agent sees.

    Raises:
        ConfigError: saying which can.
    """
    if kind == "cnn" and observation.image is None:
        raise ConfigError(f"features: cnn needs images, got {observation.size} numbers; use --features flat")
    if kind == "attention" and observation.image is not None:
        raise ConfigError("features: attention needs vectors, got images; use --features cnn, or flat")
    if kind == "attention" and observation.frames == 1:
        raise ConfigError("features: attention looks at several observations; give, say, --frame-stack 8")


def is_pixels(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    """Whether a space holds bytes from 0 to 255, which an agent sees as numbers from 0 to 1."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and bool((space.high == 255).all())


def is_channels_first(image: tuple[int, ...]) -> bool:
    """Whether the first side of three is the shortest: how Stable-Baselines3, too, tells channels from pixels."""
    return len(image) == 3 and image[0] < min(image[1:])


def image_size(image: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of an image, whatever their order."""
    if len(image) == 2:
        return image[0], image[1], 1
    a, b, c = image
    return (b, c, a) if is_channels_first(image) else (a, b, c)


def action_spec(space: spaces.Space[Any], *, squash_output: bool = False) -> ActionSpec:
    """The policy head for an action space.

    Box actions are handled in units where the bounds are -1 and 1 (unbounded dimensions keep their own units), so that
    a coefficient or a target entropy means the same in every env; ``squash_output`` picks the tanh-Gaussian.

    Raises:
        EnvError: for a space no head can take.
    """
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return ActionSpec("categorical", int(space.n), (), (), lambda action: action + start)
    if isinstance(space, spaces.MultiDiscrete):
        nvec, shape, offset = tuple(int(n) for n in space.nvec.reshape(-1)), space.shape, space.start
        return ActionSpec(
            "multi-discrete",
            sum(nvec),
            nvec,
            (len(nvec),),
            lambda action: action.reshape(-1, *shape) + offset,
        )
    if isinstance(space, spaces.MultiBinary):
        size, shape = math.prod(space.shape), space.shape
        return ActionSpec("bernoulli", size, (), (size,), lambda action: action.reshape(-1, *shape).astype(np.int8))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return _box_action_spec(space, squash_output)
    raise EnvError(
        f"unsupported action space {space}: expected Discrete, MultiDiscrete, MultiBinary or a Box of floats; "
        "wrap the env with gymnasium.wrappers.TransformAction"
    )


def _one_hot_spec(nvec: np.ndarray, start: np.ndarray) -> ObservationSpec:
    size = int(nvec.sum())
    offsets = np.concatenate([[0], np.cumsum(nvec)[:-1]]) - start

    def flatten(obs: Any) -> np.ndarray:
        index = np.asarray(obs).reshape(-1, len(nvec)) + offsets
        out = np.zeros((len(index), size), np.float32)
        np.put_along_axis(out, index.astype(np.int64), 1.0, axis=1)
        return out

    return ObservationSpec(size, flatten)


def _box_action_spec(space: spaces.Box, squash_output: bool) -> ActionSpec:
    size, shape = math.prod(space.shape), space.shape
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    if squash_output and not bounded.all():
        raise EnvError(f"squash_output needs an action space with finite bounds, got {space}; leave it off")
    with np.errstate(invalid="ignore"):
        centre = np.where(bounded, (low + high) / 2.0, 0.0)
        half = np.where(bounded, (high - low) / 2.0, 1.0)

    def to_env(action: np.ndarray) -> np.ndarray:
        action = action.astype(np.float64)  # rounded once, at the end: the same on every path
        unit = np.tanh(action) if squash_output else np.where(bounded, np.clip(action, -1.0, 1.0), action)
        scaled = np.clip(centre + half * unit, low, high)
        return scaled.astype(space.dtype).reshape(-1, *shape)

    return ActionSpec(
        "tanh-gaussian" if squash_output else "gaussian", size, (), (size,), to_env, tuple(bounded.tolist())
    )
