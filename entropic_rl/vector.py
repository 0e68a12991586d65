"""R x E sub-environments as tensors, whatever their autoreset mode.

The rest of the toolkit sees one kind of transition: where an episode ends, ``final_obs`` is the observation it ended
in and ``next_obs`` the first of the next episode. The one trace a mode leaves is ``valid``: in NEXT_STEP mode the step
after an end ignores the action and only resets, and that row is False.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from entropic_rl.episodes import Episodes
from entropic_rl.errors import EnvError
from entropic_rl.frames import FrameStack
from entropic_rl.health import Evidence, NumberWatch
from entropic_rl.masks import MaskReader
from entropic_rl.spaces import ActionSpec, ObservationSpec, is_pixels

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
        next_mask: ``[R, E, A]`` boolean, which actions ``next_obs`` allows; None if the env forbids none.
        final_mask: the same of ``final_obs``, right only where an episode ended; None if that is not told.
        starts: ``[R, E]`` boolean, where ``next_obs`` begins an episode; None if it does nowhere.
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor | None
    valid: Tensor | None
    next_valid: Tensor | None = None
    next_mask: Tensor | None = None
    final_mask: Tensor | None = None
    starts: Tensor | None = None


class EnvBatch:
    """A Gymnasium ``VectorEnv`` of R x E copies (run-major), stepped with tensors, episodes counted.

    The env may speak NumPy or tensors; which of the two is seen from its first observation.

    Args:
        env: the vector env; its ``metadata["autoreset_mode"]`` decides how ends are read.
        n_runs: R, which must divide ``env.num_envs``.
        observation: how to flatten observations, and how many of them the agent sees at once.
        action: how to give actions.
        device: where tensors go.
        dtype: of observations and rewards.
        window: how many finished episodes are remembered.
        success_return: return from which an episode counts as a success; None if none does.

    Attributes:
        episodes: statistics of finished episodes.
        mask: ``[R, E, A]`` boolean, which actions are allowed now; None if the env forbids none.

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
        success_return: float | None = None,
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
        self._frames = FrameStack(observation)
        self._device, self._dtype = device, dtype
        self._just_ended: Tensor | None = None  # [R, E], None if no episode ended in the last step
        self._masks = MaskReader(env, action)
        self.mask: Tensor | None = None
        self._watch = NumberWatch(n_runs, self.n_envs)
        self.episodes = Episodes(n_runs, self.n_envs, window=window, success_return=success_return, device=device)

    def reset(self, seeds: Sequence[Sequence[int]]) -> Tensor:
        """Begin new episodes, sub-env e of run r from ``seeds[r][e]``; first observations ``[R, E, D]``."""
        flat: Any = [seed for run in seeds for seed in run]  # vector envs take a list, though their type says int
        obs, info = self.env.reset(seed=flat)
        self.mask = self._mask(self._masks.after_reset(info))
        speaks_tensors = isinstance(obs, Tensor)
        self._language: _Language = (
            _Tensors(self.env, self._action, obs.device) if speaks_tensors else _Arrays(self._observation, self._action)
        )
        self._just_ended = None
        self.episodes.restart()
        return self._frames.begin(self._numbers(self._watch.restart(flat, self._language.observation(obs))))

    @property
    def broken(self) -> dict[int, str]:
        """Runs whose environments gave numbers that are not finite, and where; from there on these give only 0."""
        return self._watch.broken

    @property
    def evidence(self) -> dict[int, Evidence]:
        """What came from their environments in that step, until somebody takes it."""
        return self._watch.kept

    def step(self, action: Tensor) -> Transition:
        """Act with ``[R, E, *event]``."""
        transition, reward = self.answer(action)
        ended = None if transition.final_obs is None else transition.terminated | transition.truncated
        self.episodes.add(reward, ended, transition.valid)
        return transition

    def answer(self, action: Tensor) -> tuple[Transition, Tensor]:
        """The same, with raw rewards ``[R, E]`` of the environments' own type; no episodes are counted."""
        flat_action = action.flatten(0, 1)
        if self._action.is_continuous:  # of a run whose parameters broke; it is its gradient that tells
            flat_action = flat_action.nan_to_num()
        obs, reward, terminated, truncated, info = self.env.step(self._language.action(flat_action))
        next_obs, any_ended = self._language.observation(obs), self._language.any_ended(terminated, truncated, info)
        final_obs = None
        ended_array = terminated | truncated if any_ended else None
        over = None if self.mode is AutoresetMode.SAME_STEP else ended_array
        masks, final_masks = self._masks.after_step(info, over), None
        if any_ended:
            final_masks = masks if self.mode is not AutoresetMode.SAME_STEP else self._masks.of_ended(info)
            next_obs, final_obs, masks = self._split_at_ends(next_obs, ended_array, info, masks)
        next_obs, reward, final_obs = self._watch(
            next_obs, reward, final_obs, action=flat_action, terminated=terminated, truncated=truncated
        )
        terminated, truncated = self._by_run(terminated), self._by_run(truncated)
        ended = terminated | truncated if any_ended else None
        valid, starts = None, ended
        if self.mode is AutoresetMode.NEXT_STEP:
            starts = self._just_ended
            valid = None if starts is None else ~starts
        self._just_ended = ended
        self.mask = self._mask(masks)
        final = None if final_obs is None else self._frames.peek(self._numbers(final_obs))
        transition = Transition(
            next_obs=self._frames.push(self._numbers(next_obs), starts),
            reward=self._numbers(reward),
            terminated=terminated,
            truncated=truncated,
            final_obs=final,
            valid=valid,
            next_valid=~ended if ended is not None and self.mode is AutoresetMode.NEXT_STEP else None,
            next_mask=self.mask,
            final_mask=self._mask(final_masks),
            starts=starts,
        )
        return transition, self._by_run(reward)

    def close(self) -> None:
        """Close the sub-environments."""
        self.env.close()

    def _split_at_ends(self, obs: Any, ended: Any, info: dict[str, Any], masks: Any) -> tuple[Any, Any, Any]:
        """What to act on next, what the ended episodes ended in (right only where ``ended``), and the next masks."""
        if self.mode is AutoresetMode.SAME_STEP:
            return obs, self._language.final_observation(obs, ended, info), masks
        final = self._language.copy(obs)  # the env may reuse its buffers
        if self.mode is AutoresetMode.NEXT_STEP:
            return obs, final, masks
        reset_obs, info = self.env.reset(options={"reset_mask": ended})
        return self._language.observation(reset_obs), final, self._masks.after_reset(info)

    def _mask(self, masks: Any) -> Tensor | None:
        """``[R, E, A]`` on the agent's device."""
        return None if masks is None else self._by_run(masks)

    def _numbers(self, flat: Any) -> Tensor:
        """:meth:`_by_run` in the agent's dtype."""
        return self._by_run(torch.as_tensor(flat, dtype=self._dtype, device=self._device))

    def _by_run(self, flat: Any) -> Tensor:
        """``[R * E, ...]`` of the env -> ``[R, E, ...]`` on the agent's device."""
        return torch.as_tensor(flat, device=self._device).unflatten(0, (self.n_runs, self.n_envs))


class _Language(Protocol):
    """How to speak with a vector env; everything is ``[R * E, ...]`` and of the env's own kind."""

    def observation(self, obs: Any) -> Any:
        """Flat observations ``[R * E, D]``."""

    def final_observation(self, obs: Any, ended: Any, info: dict[str, Any]) -> Any:
        """Flat observations with those that the ended episodes ended in, from a SAME_STEP env's ``info``."""

    def any_ended(self, terminated: Any, truncated: Any, info: dict[str, Any]) -> bool:
        """Whether an episode may have ended."""

    def action(self, action: Tensor) -> Any:
        """What ``VectorEnv.step`` takes for the agent's actions ``[R * E, *event]``."""

    def copy(self, obs: Any) -> Any:
        """A copy."""


class _Arrays:
    """NumPy arrays, and containers of them."""

    def __init__(self, observation: ObservationSpec, action: ActionSpec) -> None:
        self._observation, self._action = observation, action

    def observation(self, obs: Any) -> np.ndarray:
        return self._observation.flatten(obs)

    def final_observation(self, obs: np.ndarray, ended: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        final, batch = obs.copy(), info["final_obs"]
        if isinstance(batch, np.ndarray) and batch.dtype == object:  # single observations, only where something ended
            single = [self._observation.flatten(_with_batch_axis(batch[i])) for i in np.flatnonzero(ended)]
            final[ended] = np.concatenate(single)
        else:
            final[ended] = self._observation.flatten(batch)[ended]
        return final

    def any_ended(self, terminated: np.ndarray, truncated: np.ndarray, info: dict[str, Any]) -> bool:
        return bool(terminated.any() or truncated.any())

    def action(self, action: Tensor) -> np.ndarray:
        return self._action.to_env(action.cpu().numpy())

    def copy(self, obs: np.ndarray) -> np.ndarray:
        return obs.copy()


class _Tensors:
    """Tensors on the env's device: Box or Discrete observations, and Discrete or bounded Box actions."""

    def __init__(self, env: VectorEnv[Any, Any, Any], action: ActionSpec, device: torch.device) -> None:
        self._space, self._kind = env.single_observation_space, action.kind
        space = env.single_action_space
        served = isinstance(space, spaces.Discrete) or (isinstance(space, spaces.Box) and all(action.bounded))
        if not served or not isinstance(self._space, spaces.Discrete | spaces.Box):
            raise EnvError(
                "an env that speaks tensors needs Discrete or Box observations and Discrete or bounded Box actions, "
                f"got {self._space} and {space}; wrap it with gymnasium.wrappers.vector.ArrayConversion"
            )
        self._pixels = is_pixels(self._space)
        self._first_action = int(getattr(space, "start", 0))
        if isinstance(space, spaces.Box):
            bounds = (space.low.reshape(-1), space.high.reshape(-1))
            low, high = (torch.as_tensor(bound, dtype=torch.float64, device=device) for bound in bounds)
            self._centre, self._half, self._shape = (low + high) / 2, (high - low) / 2, space.shape

    def observation(self, obs: Tensor) -> Tensor:
        if isinstance(self._space, spaces.Discrete):
            return torch.nn.functional.one_hot(obs - int(self._space.start), int(self._space.n))
        if self._pixels:
            # By a tensor: CUDA multiplies by the reciprocal of a number, which gives other bits than NumPy's division.
            return obs.flatten(1).to(torch.float32) / torch.full((), 255.0, device=obs.device)
        return obs.flatten(1)

    def final_observation(self, obs: Tensor, ended: Tensor, info: dict[str, Any]) -> Tensor:
        return self.observation(info["final_obs"])

    def any_ended(self, terminated: Tensor, truncated: Tensor, info: dict[str, Any]) -> bool:
        return "final_obs" in info or bool((terminated | truncated).any())

    def action(self, action: Tensor) -> Tensor:
        if self._kind == "categorical":
            return action + self._first_action if self._first_action else action
        action = action.to(torch.float64)  # rounded once, at the end: the same on every path
        unit = action.tanh() if self._kind == "tanh-gaussian" else action.clamp(-1.0, 1.0)
        scaled = self._centre + self._half * unit
        return scaled.to(torch.float32).view(-1, *self._shape)

    def copy(self, obs: Tensor) -> Tensor:
        return obs.clone()


def _with_batch_axis(obs: Any) -> Any:
    """A single observation as a batch of one, through dicts and tuples."""
    if isinstance(obs, dict):
        return {key: _with_batch_axis(value) for key, value in obs.items()}
    if isinstance(obs, tuple):
        return tuple(_with_batch_axis(value) for value in obs)
    return np.asarray(obs)[None]
