"""What Stable-Baselines3's agents meet and do, told to the same meters as ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import Tensor

from entropic_rl.episodes import Episodes
from entropic_rl.exploration import ExplorationMeter
from entropic_rl.spaces import ActionSpec, ObservationSpec
from entropic_rl.vector import Transition

__all__ = ["Watch"]


class Watch(VecEnvWrapper):  # type: ignore[misc]  # SB3 publishes no types
    """A ``VecEnv`` that passes everything on as it is, and lets a meter and an episode counter see it.

    It belongs under ``VecNormalize``: what it sees is raw. SB3's environments begin the next episode in the step that
    ends one, so the meter sees what :class:`~entropic_rl.vector.EnvBatch` shows it in SAME_STEP mode.

    Args:
        envs: the ``VecEnv``.
        meter: told of every step, if given.
        observation: how to flatten observations.
        action: how the meter takes actions.
        success_return: return from which an episode counts as a success; None if none does.

    Attributes:
        episodes: statistics of finished episodes.
    """

    def __init__(
        self,
        envs: Any,
        meter: ExplorationMeter | None,
        *,
        observation: ObservationSpec,
        action: ActionSpec,
        success_return: float | None,
    ) -> None:
        super().__init__(envs)
        self.episodes = Episodes(1, envs.num_envs, success_return=success_return)
        self._meter, self._observation, self._action = meter, observation, action

    def reset(self) -> Any:
        """Begin new episodes."""
        obs = self.venv.reset()
        self.begin(obs)
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Act, with ``[E, ...]``."""
        self._taken = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        """Observations, rewards, ends and infos of that step."""
        obs, rewards, dones, infos = self.venv.step_wait()
        self.see(self._taken, obs, rewards, dones, infos)
        return obs, rewards, dones, infos

    def begin(self, obs: Any) -> None:
        """Take in the first observations of new episodes."""
        self.episodes.restart()
        if self._meter is not None:
            self._meter.begin(self._numbers(obs))

    def see(
        self, actions: np.ndarray, obs: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]
    ) -> None:
        """Take in a step, if it was not made here: actions as the meter takes them, and the raw answer to them."""
        reward, ended = torch.tensor(rewards).unsqueeze(0), torch.tensor(dones).unsqueeze(0)
        any_ended = bool(dones.any())
        self.episodes.add(reward, ended if any_ended else None, None)
        if self._meter is not None:
            truncated = torch.tensor([[bool(info.get("TimeLimit.truncated")) for info in infos]])
            next_obs = self._numbers(obs)
            final_obs = self._final(next_obs, dones, infos) if any_ended else None
            transition = Transition(next_obs, reward, ended & ~truncated, ended & truncated, final_obs, None)
            taken = np.array(actions).reshape(1, self.num_envs, *self._action.event_shape)
            self._meter.observe(torch.from_numpy(taken), transition)

    def _numbers(self, obs: Any) -> Tensor:
        """Observations ``[1, E, D]``."""
        return torch.tensor(self._observation.flatten(obs), dtype=torch.float32).unsqueeze(0)

    def _final(self, next_obs: Tensor, dones: np.ndarray, infos: list[dict[str, Any]]) -> Tensor:
        """``next_obs`` with what the ended episodes ended in, where they did."""
        final = next_obs.clone()
        for i in np.flatnonzero(dones):
            last = infos[i]["terminal_observation"]
            batch = (
                {key: value[None] for key, value in last.items()} if isinstance(last, dict) else np.asarray(last)[None]
            )
            final[:, i] = self._numbers(batch)[:, 0]
        return final
