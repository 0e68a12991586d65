"""Any Gymnasium environment brought back to where it was: its episode is begun again in the same way, and played again.

Copies and pickles of environments are not exact (MuJoCo and Atari differ silently, Box2D refuses); the same start and
the same actions are, wherever an environment draws from its own ``np_random`` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers.utils import RunningMeanStd

__all__ = ["EpisodeTape"]


class EpisodeTape(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps how the current episode began, and its actions; assign ``tape`` to play one again.

    It goes around all other wrappers, whose state of an episode is played again, too; what they have learned over
    episodes (running means, counts) is kept as it was before the current one. The Box2D world of BipedalWalker, which
    uses one from episode to episode, is replaced before each, as LunarLander replaces its own: what earlier episodes
    left in it would not come back (https://github.com/Farama-Foundation/Gymnasium/issues/728).
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._start: dict[str, Any] = {"seed": None, "options": None, "random": None, "memory": {}}
        self._actions, self._n_actions = np.empty(0), 0
        self._obs: Any = None
        self._reward: Any = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        state = None if seed is not None else self.unwrapped.np_random.bit_generator.state
        self._start = {"seed": seed, "options": options, "random": state, "memory": _memory(self.env)}
        self._n_actions, self._reward = 0, 0.0
        _renew_world(self.unwrapped)
        self._obs, info = super().reset(seed=seed, options=options)
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        self._remember(np.asarray(action))
        self._obs, self._reward, terminated, truncated, info = super().step(action)
        return self._obs, self._reward, terminated, truncated, info

    @property
    def tape(self) -> dict[str, Any]:
        """How the episode began, its actions ``[T, ...]``, and a hash of the observation and reward it has come to."""
        seen = _digest((self._obs, self._reward))
        return {**self._start, "actions": self._actions[: self._n_actions].copy(), "seen": seen}

    @tape.setter
    def tape(self, tape: dict[str, Any]) -> None:
        if tape["random"] is not None:
            self.unwrapped.np_random.bit_generator.state = tape["random"]
        self._actions = tape["actions"].copy()  # of its kind, also where there are none yet
        _remind(self.env, tape["memory"])
        self.reset(seed=tape["seed"], options=tape["options"])
        for action in tape["actions"]:
            self.step(action[()])
        self._start = {name: tape[name] for name in self._start}

    def _remember(self, action: np.ndarray) -> None:
        """Room is doubled when it is used up."""
        if self._actions.shape[1:] != action.shape or self._actions.dtype != action.dtype:
            self._actions = np.empty((0, *action.shape), action.dtype)
        if self._n_actions == len(self._actions):
            self._actions = np.concatenate(
                [self._actions, np.empty((64 + self._n_actions, *action.shape), action.dtype)]
            )
        self._actions[self._n_actions] = action
        self._n_actions += 1


def _digest(obs: Any) -> str:
    """Of an observation of any space."""
    parts = obs.values() if isinstance(obs, dict) else obs if isinstance(obs, tuple) else None
    if parts is not None:
        return hashlib.sha256("".join(map(_digest, parts)).encode()).hexdigest()
    return hashlib.sha256(np.asarray(obs).tobytes()).hexdigest()


def _layers(env: Any) -> Iterator[tuple[str, Any, bool]]:
    """Wrappers and the environment in them: a number, the object, whether it is a wrapper."""
    number = 0
    while isinstance(env, gym.Wrapper):
        yield str(number), env, True
        env, number = env.env, number + 1
    yield str(number), env, False


def _memory(env: Any) -> dict[str, dict[str, Any]]:
    """Numbers that each layer holds."""
    found: dict[str, dict[str, Any]] = {}
    for number, layer, is_wrapper in _layers(env):
        found[number] = kept = {}
        for name, value in vars(layer).items():
            if type(value) in (bool, int, float):
                kept[name] = value
            elif is_wrapper and isinstance(value, np.ndarray) and value.dtype != object:
                kept[name] = value.copy()
            elif is_wrapper and isinstance(value, RunningMeanStd):
                kept[name] = {"mean": value.mean.copy(), "var": value.var.copy(), "count": value.count}
    return found


def _remind(env: Any, memory: dict[str, dict[str, Any]]) -> None:
    for number, layer, _ in _layers(env):
        for name, value in memory[number].items():
            if isinstance(value, dict):
                vars(getattr(layer, name)).update(value)
            else:
                setattr(layer, name, value)


def _renew_world(env: Any) -> None:
    if type(env).__qualname__ == "BipedalWalker":
        env._destroy()  # bodies belong to the world that they were made in
        env.world = type(env.world)()
