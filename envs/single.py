"""One copy of an environment with Gymnasium's NumPy interface."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from entropic_rl.envs.dynamics import Dynamics
from entropic_rl.errors import EnvError
from entropic_rl.streams import Stream

__all__ = ["SingleEnv"]


class SingleEnv(gym.Env[Any, Any]):
    """One copy, the same episodes as the copy of a :class:`~entropic_rl.envs.batched.BatchedEnv` with the same seed.

    Args:
        rules: of the environment.
        render_mode: ``rgb_array``, ``ansi`` where the environment has it, or None.
        arguments: of the environment.

    Raises:
        EnvError: an argument is out of range.
    """

    def __init__(self, rules: type[Dynamics], *, render_mode: str | None = None, **arguments: Any) -> None:
        self.__doc__ = rules.__doc__
        self.metadata = {"render_modes": list(rules.render_modes), "render_fps": rules.render_fps}
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise EnvError(f"render_mode: expected one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode = render_mode
        self.dynamics = rules(**arguments)
        self.metadata |= {"n_states": self.dynamics.n_states, "layout": self.dynamics.layout}
        self.observation_space = self.dynamics.observation_space
        self.action_space = self.dynamics.action_space
        self.state: Tensor | None = None
        self._streams: tuple[Stream, Stream] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: the first of ``seed``, or the next one without a seed."""
        super().reset(seed=seed)
        if seed is not None or self._streams is None:
            own = int(self.np_random.integers(0, 2**63)) if seed is None else seed
            self._streams = Stream([own], "start"), Stream([own], "step")
        self.state = self.dynamics.start(self._draw(0, self.dynamics.n_start_draws))
        self._elapsed = 0
        return self._observation(self.state), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act.

        Raises:
            EnvError: not reset yet, or an action outside the action space.
        """
        if self.state is None:
            raise EnvError("step before reset: call reset(seed=...) first")
        checked = self._checked(action)
        u = self._draw(1, self.dynamics.n_step_draws)
        self.state, reward, terminated = self.dynamics.step(self.state, checked, u)
        self._elapsed += 1
        limit = self.dynamics.max_episode_steps
        truncated = limit is not None and self._elapsed >= limit
        return self._observation(self.state), float(reward), bool(terminated), truncated, {}

    def render(self) -> Any:
        """The present state as a picture or as text, by ``render_mode``."""
        if self.render_mode is None or self.state is None:
            return None
        state = self.state[:, 0]
        return self.dynamics.text(state) if self.render_mode == "ansi" else self.dynamics.picture(state)

    def _draw(self, which: int, n: int) -> Tensor:
        if n == 0 or self._streams is None:
            return torch.empty(0, 1, dtype=torch.float64)
        return self._streams[which].uniform(n).T

    def _observation(self, state: Tensor) -> Any:
        obs = self.dynamics.observe(state)[0]
        return np.int64(obs) if isinstance(self.observation_space, spaces.Discrete) else obs.numpy()

    def _checked(self, action: Any) -> Tensor:
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            array = np.asarray(action)
            if array.shape != () or array.dtype.kind not in "iu" or not 0 <= int(array) < space.n:
                raise EnvError(f"action: expected an integer from 0 to {int(space.n) - 1}, got {action!r}")
            return torch.tensor([int(array)])
        array = np.asarray(action)
        if array.shape != space.shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise EnvError(f"action: expected finite floating-point numbers of shape {space.shape}, got {action!r}")
        return torch.as_tensor(array, dtype=torch.float32).unsqueeze(0)
