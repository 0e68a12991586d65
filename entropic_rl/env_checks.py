"""A wrapper that makes one line of whatever an environment does wrong: which copy, which episode, which step.

Numbers that are not finite pass: :mod:`entropic_rl.vector` sees them, and stops only the run that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from entropic_rl.errors import EnvError, first_line

__all__ = ["CheckedEnv", "place"]

_NUMBERS = (float, int, np.number, np.bool_)


def place(index: int, seed: int | None, n_episodes: int, n_steps: int) -> str:
    """Where something happened: the copy, the episode and its seed, the step.

    Args:
        index: of the copy.
        seed: that the copy was reset with last; None if it is not known.
        n_episodes: begun since then, without the one with that seed.
        n_steps: of the episode; 0 is its reset.
    """
    begun = "unknown seed" if seed is None else f"seed {seed}"
    episode = begun if not n_episodes or seed is None else f"episode {n_episodes + 1} after {begun}"
    return f"environment {index}, {episode}, {f'step {n_steps}' if n_steps else 'reset'}"


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Raises an :class:`EnvError` where the environment raises, or answers something other than its spaces announce.

    Args:
        env: what is checked, other wrappers included.
        index: of the copy.
    """

    def __init__(self, env: gym.Env[Any, Any], index: int = 0) -> None:
        super().__init__(env)
        self._index, self._space = index, env.observation_space
        self._seed: int | None = None
        self._n_episodes = self._n_steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Raises:
            EnvError: that failed.
        """
        self._n_episodes = 0 if seed is not None else self._n_episodes + 1
        self._seed = self._seed if seed is None else seed
        self._n_steps = 0
        try:
            answer: Any = self.env.reset(seed=seed, options=options)
        except (Exception, SystemExit) as error:
            raise self._raised(error) from error
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise self._error(f"expected reset to return (obs, info), got {_shown(answer)}")
        self._check(*answer)
        return answer

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act.

        Raises:
            EnvError: that failed.
        """
        self._n_steps += 1
        try:
            answer: Any = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self._raised(error) from error
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise self._error(
                f"expected step to return (obs, reward, terminated, truncated, info), got {_shown(answer)}"
            )
        obs, reward, terminated, truncated, info = answer
        self._check(obs, info)
        if not isinstance(reward, _NUMBERS) and getattr(reward, "shape", None) != ():
            raise self._error(f"expected a number as reward, got {_shown(reward)}")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_ | int):
                raise self._error(f"expected True or False as {name}, got {_shown(flag)}")
        return answer

    def _check(self, obs: Any, info: Any) -> None:
        if (flaw := _flaw(self._space, obs)) is not None:
            raise self._error(f"expected {flaw}")
        if not isinstance(info, dict):
            raise self._error(f"expected a dict as info, got {_shown(info)}")

    def _raised(self, error: Exception | SystemExit) -> EnvError:
        return self._error(f"it raised {type(error).__name__}: {first_line(error)}")

    def _error(self, what: str) -> EnvError:
        where = place(self._index, self._seed, self._n_episodes, self._n_steps)
        return EnvError(f"{where}: {what}; mend the environment, or wrap it with --env-wrappers")


def _flaw(space: spaces.Space[Any], obs: Any) -> str | None:
    """What was expected of an observation, and what came; None if it has the structure of its space.

    The bounds of a Box are not looked at: many environments leave theirs.
    """
    if isinstance(space, spaces.Box):
        return _box_flaw(space, obs)
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, dict) or obs.keys() != space.spaces.keys():
            return f"an observation with the keys {[*space.spaces]}, got {_shown(obs)}"
        return _first_flaw((part, obs[key]) for key, part in space.items())
    if isinstance(space, spaces.Tuple) and isinstance(obs, tuple) and len(obs) == len(space.spaces):
        return _first_flaw(zip(space.spaces, obs, strict=True))
    return None if space.contains(obs) else f"an observation in {space}, got {_shown(obs)}"


def _first_flaw(pairs: Iterable[tuple[spaces.Space[Any], Any]]) -> str | None:
    return next((flaw for space, part in pairs if (flaw := _flaw(space, part)) is not None), None)


def _box_flaw(space: spaces.Box, obs: Any) -> str | None:
    if getattr(obs, "shape", None) != space.shape:
        return f"an observation of shape {space.shape}, got {_shown(obs)}"
    if obs.dtype != space.dtype and not np.can_cast(obs.dtype, space.dtype, "same_kind"):
        return f"an observation of {space.dtype}, got {obs.dtype}"
    return None


def _shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        return f"shape {value.shape}"
    if isinstance(value, tuple):
        return f"{len(value)} values"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]} ..."
