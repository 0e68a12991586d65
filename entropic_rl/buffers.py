"""Where transitions wait for their update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from entropic_rl.spaces import ActionSpec, ObservationSpec
from entropic_rl.vector import Transition

__all__ = ["Batch", "Replay", "Rollout"]

_LARGE = 2**22  # bytes of a run's observations: more are not kept beside a minibatch that broke it


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
        mask: ``[T + 1, R, E, A]`` boolean, the actions that were allowed; None if none was ever forbidden.
        starts: ``[T + 1, R, E]`` boolean, observations that begin an episode.
        state: ``[R, E, n_state]`` of the policy's memory before the first row; None if it has none.
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
        self.action = _zeros((*lead, *action.event_shape), action_dtype, device)
        self.reward = _zeros(lead, dtype, device)
        self.terminated = _zeros(lead, torch.bool, device)
        self.truncated = _zeros(lead, torch.bool, device)
        self.valid = torch.ones_like(self.terminated)
        self.mask: Tensor | None = None
        self.starts = torch.ones(n_steps + 1, n_runs, n_envs, device=device, dtype=torch.bool)
        self.state: Tensor | None = None
        self.clear()

    def clear(self) -> None:
        """Begin anew; the next step goes to row 0."""
        self.starts[0] = self.starts[-1]
        self.position = 0
        self.all_valid = True
        self.cut_obs: list[tuple[int, Tensor, Tensor]] = []

    def seen(self) -> dict[str, Tensor]:
        """What environments gave: ``obs [R, T + 1, E, D]``, unless they are large, ``reward [R, T, E]``; not copies."""
        seen = {"obs": self.obs.transpose(0, 1), "reward": self.reward.transpose(0, 1)}
        return seen if self.obs[:, 0].nbytes <= _LARGE else {"reward": seen["reward"]}

    def set_mask(self, t: int, mask: Tensor | None) -> None:
        """Remember which actions ``mask [R, E, A]`` allows at ``obs[t]``; None allows all."""
        if mask is not None and self.mask is None:
            self.mask = mask.new_ones(len(self.obs), *mask.shape)
        if self.mask is not None:
            self.mask[t] = True if mask is None else mask

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
        self.starts[t + 1] = False if transition.starts is None else transition.starts
        if final_obs is not None:
            self.cut_obs.append((t, transition.terminated | transition.truncated, final_obs))
        self.position = t + 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Transitions drawn from a :class:`Replay`, ``[R, B, ...]``.

    Attributes:
        obs: ``[R, B, D]``.
        action: ``[R, B, *event]``.
        reward: ``[R, B]``, of up to n steps, discounted and added up.
        next_obs: ``[R, B, D]``, n steps later, or where the episode ended before.
        terminated: ``[R, B]`` boolean, whether the task ended there.
        discount: ``[R, B]``, gamma to the number of steps in between.
        valid: ``[R, B]`` boolean, False where nothing was done but a reset; None if all are True.
        mask: ``[R, B, A]`` boolean, actions allowed at ``obs``; None if all always are.
        next_mask: the same of ``next_obs``.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    discount: Tensor
    valid: Tensor | None
    mask: Tensor | None
    next_mask: Tensor | None


class Replay:
    """The latest transitions of R x E environments, each run's in a block of its own: ``[R, rows, E, ...]``.

    Args:
        capacity: transitions of each run.
        n_runs: R.
        n_envs: E.
        observation: what the agent sees, D numbers; images are kept as bytes.
        action: the policy head.
        device: where the transitions lie.
        dtype: of observations and rewards.

    Attributes:
        n_added: steps of each environment ever added.
    """

    def __init__(
        self,
        capacity: int,
        n_runs: int,
        n_envs: int,
        observation: ObservationSpec,
        action: ActionSpec,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._rows = max(1, capacity // n_envs)
        lead = (n_runs, self._rows, n_envs)
        action_dtype = dtype if action.is_continuous else torch.int64
        self._dtype, self._bytes = dtype, observation.image is not None
        obs_dtype = torch.uint8 if self._bytes else dtype
        self.obs = _zeros((*lead, observation.size), obs_dtype, device)
        self.next_obs = _zeros((*lead, observation.size), obs_dtype, device)
        self.action = _zeros((*lead, *action.event_shape), action_dtype, device)
        self.reward = _zeros(lead, dtype, device)
        self.terminated = _zeros(lead, torch.bool, device)
        self.truncated = _zeros(lead, torch.bool, device)
        self.valid: Tensor | None = None
        self.mask: Tensor | None = None
        self.next_mask: Tensor | None = None
        self._run = torch.arange(n_runs, device=device).unsqueeze(1)
        self.n_added = 0

    def __len__(self) -> int:
        """Transitions of each run."""
        return min(self.n_added, self._rows) * self.reward.shape[2]

    def add(self, obs: Tensor, action: Tensor, mask: Tensor | None, transition: Transition) -> None:
        """Store what followed ``obs [R, E, D]`` under ``action [R, E, *event]``."""
        row = self.n_added % self._rows
        self.obs[:, row], self.action[:, row], self.reward[:, row] = self._stored(obs), action, transition.reward
        self.terminated[:, row], self.truncated[:, row] = transition.terminated, transition.truncated
        next_obs = transition.next_obs
        if transition.final_obs is not None:
            ended = (transition.terminated | transition.truncated).unsqueeze(-1)
            next_obs = torch.where(ended, transition.final_obs, next_obs)
        self.next_obs[:, row] = self._stored(next_obs)
        if transition.valid is not None and self.valid is None:
            self.valid = torch.ones_like(self.terminated)
        if self.valid is not None:
            self.valid[:, row] = True if transition.valid is None else transition.valid
        if mask is not None:
            self._add_masks(row, mask, transition)
        self.n_added += 1

    def latest(self, n: int) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """The last n (or fewer) observations of each run, ``[R, N, D]``, what was done, ``mask`` and ``valid``."""
        rows = min(-(-n // self.reward.shape[2]), self.n_added, self._rows)
        index = (self.n_added - 1 - torch.arange(rows, device=self.reward.device)) % self._rows
        mask, valid = (None if x is None else x[:, index].flatten(1, 2) for x in (self.mask, self.valid))
        return self._shown(self.obs[:, index]).flatten(1, 2), self.action[:, index].flatten(1, 2), mask, valid

    def sample(self, uniform: Tensor, *, n_steps: int, gamma: Tensor) -> Batch:
        """Draw transitions with replacement.

        Args:
            uniform: ``[R, B]`` in (0, 1): which ones.
            n_steps: how many steps ahead ``next_obs`` lies, unless the episode or the record ends before.
            gamma: ``[R]``, discount per step.
        """
        n_envs = self.reward.shape[2]
        index = (uniform * len(self)).long()
        first = self.n_added - min(self.n_added, self._rows)  # the oldest step that is still here
        step, env = first + index.div(n_envs, rounding_mode="floor"), index % n_envs
        at = end = (self._run, step % self._rows, env)
        reward, discount = self.reward[at], gamma.unsqueeze(1).expand_as(env)
        if n_steps > 1:
            reward, last, discount = self._look_ahead(step, env, n_steps, reward, discount)
            end = (self._run, last % self._rows, env)
        return Batch(
            obs=self._shown(self.obs[at]),
            action=self.action[at],
            reward=reward,
            next_obs=self._shown(self.next_obs[end]),
            terminated=self.terminated[end],
            discount=discount,
            valid=None if self.valid is None else self.valid[at],
            mask=None if self.mask is None else self.mask[at],
            next_mask=None if self.next_mask is None else self.next_mask[end],
        )

    def _stored(self, obs: Tensor) -> Tensor:
        return (obs * 255.0).round().to(torch.uint8) if self._bytes else obs

    def _shown(self, stored: Tensor) -> Tensor:
        return stored.to(self._dtype) / 255.0 if self._bytes else stored

    def _look_ahead(
        self, step: Tensor, env: Tensor, n_steps: int, reward: Tensor, gamma: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rewards from ``step`` on added up, the last step that was counted, and gamma to their number."""
        last, discount = step, gamma
        going_on = torch.ones_like(env, dtype=torch.bool)
        for k in range(1, n_steps):
            row = last % self._rows
            ended = self.terminated[self._run, row, env] | self.truncated[self._run, row, env]
            going_on = going_on & ~ended & (step + k < self.n_added)
            further = self.reward[self._run, (step + k) % self._rows, env]
            reward = torch.where(going_on, reward + discount * further, reward)
            discount = torch.where(going_on, discount * gamma, discount)
            last = torch.where(going_on, step + k, last)
        return reward, last, discount

    def _add_masks(self, row: int, mask: Tensor, transition: Transition) -> None:
        if self.mask is None or self.next_mask is None:
            self.mask = mask.new_ones(*self.reward.shape, mask.shape[-1])
            self.next_mask = torch.ones_like(self.mask)
        self.mask[:, row] = mask
        following = torch.ones_like(mask) if transition.next_mask is None else transition.next_mask
        if transition.final_obs is not None:
            ended = (transition.terminated | transition.truncated).unsqueeze(-1)
            final = torch.ones_like(mask) if transition.final_mask is None else transition.final_mask
            following = torch.where(ended, final | ~final.any(-1, keepdim=True), following)
        self.next_mask[:, row] = following


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros whose memory costs nothing before it is written to, which torch's own are not; what a snapshot takes of
    them is the same in every process.
    """
    if torch.device(device).type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
