"""Where transitions wait for their update."""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.spaces import ActionSpec
from entropic_rl.vector import Transition

__all__ = ["Rollout"]


class Rollout:
    """T steps of R x E environments, filled in order and used once.

    Attributes:
        obs: ``[T + 1, R, E, D]`` normalised; the last row is what to act on after the rollout.
        action: ``[T, R, E, *event]``.
        reward: ``[T, R, E]``.
        terminated: ``[T, R, E]`` boolean.
        truncated: ``[T, R, E]`` boolean.
        valid: ``[T, R, E]`` boolean, False where an env only reset.
        all_valid: whether ``valid`` is True everywhere, known without asking the device.
        cut_obs: ``(t, ended [R, E], obs [R, E, D])`` for every step at which an episode was cut off.
    """

    def __init__(
        self,
        n_steps: int,
        n_runs: int,
        n_envs: int,
        obs_size: int,
        action: ActionSpec,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        lead = (n_steps, n_runs, n_envs)
        self.obs = torch.zeros(n_steps + 1, n_runs, n_envs, obs_size, device=device, dtype=dtype)
        action_dtype = dtype if action.is_continuous else torch.int64
        self.action = torch.zeros(*lead, *action.event_shape, device=device, dtype=action_dtype)
        self.reward = torch.zeros(lead, device=device, dtype=dtype)
        self.terminated = torch.zeros(lead, device=device, dtype=torch.bool)
        self.truncated = torch.zeros_like(self.terminated)
        self.valid = torch.ones_like(self.terminated)
        self.clear()

    def clear(self) -> None:
        """Begin anew; the next step goes to row 0."""
        self.position = 0
        self.all_valid = True
        self.cut_obs: list[tuple[int, Tensor, Tensor]] = []

    def add(self, action: Tensor, reward: Tensor, transition: Transition, final_obs: Tensor | None) -> None:
        """Store what followed ``obs[position]``.

        Args:
            action: ``[R, E, *event]``.
            reward: ``[R, E]``, normalised or not.
            transition: what the envs said.
            final_obs: ``[R, E, D]`` normalised, right where an episode ended.
        """
        t = self.position
        self.action[t] = action
        self.reward[t] = reward
        self.terminated[t] = transition.terminated
        self.truncated[t] = transition.truncated
        self.valid[t] = True if transition.valid is None else transition.valid
        self.all_valid = self.all_valid and transition.valid is None
        if final_obs is not None:
            self.cut_obs.append((t, transition.terminated | transition.truncated, final_obs))
        self.position = t + 1
