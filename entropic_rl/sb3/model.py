"""Stable-Baselines3's environments and models from this toolkit's settings: the one place that translates them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from entropic_rl.config import RunConfig
from entropic_rl.environments import make_env
from entropic_rl.errors import ConfigError, EnvError
from entropic_rl.sb3.settings import check_sb3_settings
from entropic_rl.schedules import Schedule
from entropic_rl.spaces import is_pixels

__all__ = [
    "ACTIVATIONS",
    "action_units",
    "constructor_options",
    "has_start",
    "make_sb3_envs",
    "make_sb3_model",
    "normalized",
    "one_line",
]

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}

# Settings that are no parameters of SB3's constructors: of the policy, of VecNormalize, or without a counterpart.
_NOT_PASSED = {
    "net_arch", "activation", "log_std_init", "normalize_obs", "normalize_reward", "share_features", "squash_output",
    "ent_coef_unit", "entropy", "entropy_in",
    "features", "features_dim", "recurrent", "recurrent_size", "sequence_length",
}  # fmt: skip


def make_sb3_envs(run: RunConfig, n: int, *, seed: int) -> Any:
    """``n`` copies of Gymnasium's single environment as SB3's ``DummyVecEnv``; Box actions in [-1, 1], as ours are.

    Raises:
        EnvError: the environment cannot be made, or numbers its actions or observations from another number than 0.
    """
    make = partial(make_env, run.env, run.env_kwargs, wrappers=run.env_wrappers)
    envs = make_vec_env(make, n, seed=seed, wrapper_class=_rescaled)
    for space in (envs.observation_space, envs.action_space):
        if has_start(space):
            envs.close()
            raise EnvError(f"env {run.env!r}: Stable-Baselines3 takes no space that does not start at 0, got {space}")
    return envs


def normalized(envs: Any, config: Any) -> Any:
    """The environments with observations and rewards normalised as the settings say."""
    if not (config.normalize_obs or config.normalize_reward):
        return envs
    try:
        return VecNormalize(
            envs, norm_obs=config.normalize_obs, norm_reward=config.normalize_reward, gamma=config.gamma
        )
    except ValueError as error:
        raise ConfigError(f"normalize_obs: {one_line(error)}; leave it off") from None


def make_sb3_model(agent: str, config: Any, envs: Any, *, seed: int, device: torch.device | str = "cpu") -> Any:
    """A stock model of Stable-Baselines3 with our settings.

    Args:
        agent: ``sb3:PPO`` and so on.
        config: its settings.
        envs: what it learns from.
        seed: of the model and of the environments, in [0, 2^32).
        device: where its networks are.

    Raises:
        ConfigError: it has no counterpart of a setting, or cannot take this environment.
    """
    check_sb3_settings(agent, config)
    if is_pixels(envs.observation_space) and getattr(config, "features", "flat") != "flat":
        raise ConfigError(f"{agent} sees images as vectors here; give --features flat, to all that are compared")
    options = constructor_options(config)
    policy = "MultiInputPolicy" if isinstance(envs.observation_space, spaces.Dict) else "MlpPolicy"
    try:
        return getattr(stable_baselines3, agent.removeprefix("sb3:"))(
            policy, envs, seed=seed, device=device, policy_kwargs=_policy_kwargs(config), **options
        )
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(f"{agent} cannot be made: {one_line(error)}") from error


def constructor_options(config: Any) -> dict[str, Any]:
    """The settings that an algorithm's constructor takes by name; schedules as functions of what remains."""
    passed = [field.name for field in dataclasses.fields(config) if field.name not in _NOT_PASSED]
    return {name: _counterpart(name, getattr(config, name)) for name in passed}


def _policy_kwargs(config: Any) -> dict[str, Any]:
    """What SB3's policies take instead of its algorithms."""
    if not hasattr(config, "activation"):
        return {"net_arch": list(config.net_arch)} if config.net_arch else {}
    widths = list(config.net_arch)
    return {
        "net_arch": {"pi": widths, "vf": widths},
        "activation_fn": ACTIVATIONS[config.activation],
        "log_std_init": config.log_std_init,
    }


def _counterpart(name: str, value: Any) -> Any:
    """Schedules as SB3 has them: functions of the progress that remains. All else is the same."""
    if name not in ("learning_rate", "clip_range"):
        return value
    schedule = Schedule.parse(value)
    return schedule.start if schedule.kind == "constant" else partial(_remaining, schedule.at)


def _remaining(at: Callable[[float], float], remaining: float) -> float:
    return at(1.0 - remaining)


def _rescaled(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Box actions in units where the bounds are -1 and 1, as our agents take them."""
    space = env.action_space
    if isinstance(space, spaces.Box) and space.is_bounded():
        return gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    return env


def action_units(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half-range ``[D]`` of Box actions: theirs = centre + half * ours; 0 and 1 without two bounds."""
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        return np.where(bounded, (low + high) / 2.0, 0.0), np.where(bounded, (high - low) / 2.0, 1.0)


def has_start(space: spaces.Space[Any]) -> bool:
    """Whether its numbers begin elsewhere than at 0, which Stable-Baselines3 does not take."""
    if isinstance(space, spaces.Dict):
        return any(map(has_start, space.values()))
    return isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and bool(np.any(space.start))


def one_line(error: Exception) -> str:
    """The text of an error of others, for the end of one of ours."""
    return " ".join(str(error).split()).rstrip(".")
