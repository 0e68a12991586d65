"""Any Gymnasium environment brought back to where it was: its episode is begun again in the same way, and played again.

Copies and pickles of environments are not exact (MuJoCo and Atari differ silently, Box2D refuses); the same start and
the same actions are, wherever an environment draws from its own ``np_random`` alone.
"""

from __future__ import annotations

import hashlib
from typing import Any

import gymnasium as gym
import numpy as np

__all__ = ["EpisodeTape"]


class EpisodeTape(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps how the current episode began, and its actions; assign ``tape`` to play one again.

    It goes around all other wrappers, whose state of an episode is played again, too. The Box2D world of
    BipedalWalker, which uses one from episode to episode, is replaced before each, as LunarLander replaces its own:
    what earlier episodes left in it would not come back (https://github.com/Farama-Foundation/Gymnasium/issues/728).
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._start: dict[str, Any] = {"seed": None, "options": None, "random": None}
        self._actions, self._n_actions = np.empty(0), 0
        self._obs: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        state = None if seed is not None else self.unwrapped.np_random.bit_generator.state
        self._start, self._n_actions = {"seed": seed, "options": options, "random": state}, 0
        _renew_world(self.unwrapped)
        self._obs, info = super().reset(seed=seed, options=options)
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act."""
        self._remember(np.asarray(action))
        self._obs, reward, terminated, truncated, info = super().step(action)
        return self._obs, reward, terminated, truncated, info

    @property
    def tape(self) -> dict[str, Any]:
        """How the episode began, its actions ``[T, ...]``, and a hash of the observation that it has come to."""
        return {**self._start, "actions": self._actions[: self._n_actions].copy(), "seen": _digest(self._obs)}

    @tape.setter
    def tape(self, tape: dict[str, Any]) -> None:
        if tape["random"] is not None:
            self.unwrapped.np_random.bit_generator.state = tape["random"]
        self.reset(seed=tape["seed"], options=tape["options"])
        for action in tape["actions"]:
            self.step(action[()])

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


def _renew_world(env: Any) -> None:
    if type(env).__qualname__ == "BipedalWalker":
        env._destroy()  # bodies belong to the world that they were made in
        env.world = type(env.world)()
