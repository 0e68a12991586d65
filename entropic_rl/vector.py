"""R x E sub-environments as tensors, whatever their autoreset mode.

The rest of the toolkit sees one kind of transition: where an episode ends, ``final_obs`` is the observation it ended
in and ``next_obs`` the first of the next episode. The one trace a mode leaves is ``valid``: in NEXT_STEP mode the step
after an end ignores the action and only resets, and that row is False.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from entropic_rl.errors import EnvError
from entropic_rl.spaces import ActionSpec, ObservationSpec

__all__ = ["EnvBatch", "Transition"]


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of R x E sub-environments.

    Attributes:
        next_obs: ``[R, E, D]``, what to act on next.
        reward: ``[R, E]``.
        terminated: ``[R, E]`` boolean, the task ended.
        truncated: ``[R, E]`` boolean, the clock ended.
        final_obs: ``[R, E, D]``, right only where an episode ended; None if none did.
        valid: ``[R, E]`` boolean, False where nothing was done but a reset; None if all are True.
        next_valid: the same of the step to come, known already; None if all are True.
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor | None
    valid: Tensor | None
    next_valid: Tensor | None = None


class EnvBatch:
    """A Gymnasium ``VectorEnv`` of R x E copies (run-major), stepped with tensors, episodes counted.

    Args:
        env: the vector env; its ``metadata["autoreset_mode"]`` decides how ends are read.
        n_runs: R, which must divide ``env.num_envs``.
        observation: how to flatten observations.
        action: how to give actions.
        device: where tensors go.
        dtype: of observations and rewards.

    Attributes:
        episode_returns: per run, the undiscounted returns of the last 100 finished episodes.
        episode_lengths: per run, their lengths in steps.
        n_episodes: per run, how many finished.

    Raises:
        EnvError: the autoreset mode is missing or unknown.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        n_runs: int,
        *,
        observation: ObservationSpec,
        action: ActionSpec,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        window: int = 100,
    ) -> None:
        mode: Any = env.metadata.get("autoreset_mode")
        try:
            self.mode = AutoresetMode(mode)
        except ValueError:
            raise EnvError(
                f"the vector env's metadata['autoreset_mode'] must be one of Gymnasium's AutoresetMode, got {mode!r}"
            ) from None
        self.env = env
        self.n_runs, self.n_envs = n_runs, env.num_envs // n_runs
        self._observation, self._action = observation, action
        self._device, self._dtype = device, dtype
        self._just_ended = np.zeros(env.num_envs, bool)
        self._return = np.zeros(env.num_envs)
        self._length = np.zeros(env.num_envs, np.int64)
        self.episode_returns: list[deque[float]] = [deque(maxlen=window) for _ in range(n_runs)]
        self.episode_lengths: list[deque[int]] = [deque(maxlen=window) for _ in range(n_runs)]
        self.n_episodes = np.zeros(n_runs, np.int64)

    def reset(self, seeds: Sequence[Sequence[int]]) -> Tensor:
        """Begin new episodes, sub-env e of run r from ``seeds[r][e]``; first observations ``[R, E, D]``."""
        flat: Any = [seed for run in seeds for seed in run]  # vector envs take a list, though their type says int
        obs, _ = self.env.reset(seed=flat)
        self._just_ended[:] = False
        self._return[:] = 0.0
        self._length[:] = 0
        return self._tensor(self._observation.flatten(obs))

    def step(self, action: Tensor) -> Transition:
        """Act with ``[R, E, *event]``."""
        flat = action.reshape(-1, *action.shape[2:]).cpu().numpy()
        obs, reward, terminated, truncated, info = self.env.step(self._action.to_env(flat))
        ended = np.logical_or(terminated, truncated)
        any_ended = bool(ended.any())
        valid = None
        if self.mode is AutoresetMode.NEXT_STEP and self._just_ended.any():
            valid = ~self._just_ended
        self._count(reward, ended if any_ended else None, valid)
        next_obs = self._observation.flatten(obs)
        final_obs = None
        if any_ended:
            next_obs, final_obs = self._split_at_ends(next_obs, ended, info)
        self._just_ended = ended
        return Transition(
            next_obs=self._tensor(next_obs),
            reward=self._tensor(reward),
            terminated=self._flag(terminated),
            truncated=self._flag(truncated),
            final_obs=None if final_obs is None else self._tensor(final_obs),
            valid=None if valid is None else self._flag(valid),
            next_valid=self._flag(~ended) if any_ended and self.mode is AutoresetMode.NEXT_STEP else None,
        )

    def close(self) -> None:
        """Close the sub-environments."""
        self.env.close()

    def _split_at_ends(self, obs: np.ndarray, ended: np.ndarray, info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """What to act on next, and what the ended episodes ended in (right only where ``ended``)."""
        if self.mode is AutoresetMode.NEXT_STEP:
            return obs, obs.copy()  # the env may reuse its buffers
        if self.mode is AutoresetMode.SAME_STEP:
            final = obs.copy()
            final[ended] = self._flatten_rows(info["final_obs"], np.flatnonzero(ended))
            return obs, final
        final = obs.copy()  # the env may reuse its buffers
        reset_obs, _ = self.env.reset(options={"reset_mask": ended})
        return self._observation.flatten(reset_obs), final

    def _flatten_rows(self, batch: Any, indices: np.ndarray) -> np.ndarray:
        """Rows of ``info["final_obs"]``: an object array of single observations, or a batch like the observations."""
        if isinstance(batch, np.ndarray) and batch.dtype == object:
            return np.concatenate([self._observation.flatten(_with_batch_axis(batch[i])) for i in indices])
        return self._observation.flatten(batch)[indices]

    def _count(self, reward: np.ndarray, ended: np.ndarray | None, valid: np.ndarray | None) -> None:
        self._return += reward if valid is None else reward * valid
        self._length += 1 if valid is None else valid
        if ended is None:
            return
        for index in np.flatnonzero(ended):
            run = index // self.n_envs
            self.episode_returns[run].append(float(self._return[index]))
            self.episode_lengths[run].append(int(self._length[index]))
            self.n_episodes[run] += 1
        self._return[ended] = 0.0
        self._length[ended] = 0

    def _tensor(self, array: np.ndarray) -> Tensor:
        tensor = torch.as_tensor(array, dtype=self._dtype, device=self._device)
        return tensor.view(self.n_runs, self.n_envs, *array.shape[1:])

    def _flag(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=self._device).view(self.n_runs, self.n_envs)


def _with_batch_axis(obs: Any) -> Any:
    """A single observation as a batch of one, through dicts and tuples."""
    if isinstance(obs, dict):
        return {key: _with_batch_axis(value) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_with_batch_axis(value) for value in obs)
    return np.asarray(obs)[None]
