"""How good a policy is: whole episodes on environments of their own, raw returns, frozen normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from entropic_rl.frames import FrameStack
from entropic_rl.masks import MaskReader
from entropic_rl.policies import ActorCritic, draw_noise
from entropic_rl.spaces import ActionSpec, ObservationSpec
from entropic_rl.streams import Stream, draw_words

__all__ = ["Evaluation", "evaluate", "play_episodes", "summary"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Undiscounted returns and lengths of the evaluated episodes of one run."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the return over episodes."""
        return float(np.std(self.returns))

    def interval(self, confidence: float = 0.95, n_resamples: int = 2000) -> tuple[float, float]:
        """Percentile-bootstrap interval of the mean return over episodes, from a fixed generator."""
        generator = np.random.default_rng(0)
        values = np.asarray(self.returns)
        means = values[generator.integers(0, len(values), (n_resamples, len(values)))].mean(1)
        low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


def evaluate(
    policy: ActorCritic,
    make_envs: Callable[[int], VectorEnv[Any, Any, Any]],
    observation: ObservationSpec,
    *,
    episodes: int,
    deterministic: bool = True,
    seed: int = 10_000,
    max_steps: int = 10_000,
    n_envs: int = 25,
    outputs: Callable[[Tensor], Tensor] | None = None,
    generate: Callable[[Tensor, Tensor, int, int, int], Tensor] = draw_words,
) -> list[Evaluation]:
    """Evaluate R policies at once on ``episodes`` episodes each.

    Episode k has a seed of its own, for its start, for what its environment draws and for the sampling noise of each
    of its steps: it is the same episode for every run, beside any other runs, whatever came before it. Every
    environment plays a fixed list of episodes, so that short ones are not counted more often than long ones.

    Args:
        policy: networks of R runs; their observation statistics stay as they are.
        make_envs: builds a vector env of n copies with autoreset disabled.
        observation: how to flatten observations.
        episodes: per run.
        deterministic: take the mode of the policy instead of a sample.
        seed: of all episodes.
        max_steps: episodes are cut off there, for environments without a time limit.
        n_envs: environments per run.
        outputs: what computes ``policy.outputs`` of a policy without memory; None for itself.
        generate: what makes the words of random streams.
    """
    n_runs = len(policy.params.values)
    player = _Player(policy, observation, deterministic=deterministic, outputs=outputs, generate=generate)
    return play_episodes(
        player,
        make_envs,
        policy.action,
        n_runs=n_runs,
        episodes=episodes,
        seed=seed,
        max_steps=max_steps,
        n_envs=n_envs,
    )


def play_episodes(
    act: Callable[[Any, Sequence[int], np.ndarray, np.ndarray | None], np.ndarray],
    make_envs: Callable[[int], VectorEnv[Any, Any, Any]],
    action: ActionSpec,
    *,
    n_runs: int = 1,
    episodes: int,
    seed: int,
    max_steps: int,
    n_envs: int = 25,
) -> list[Evaluation]:
    """The episodes of :func:`evaluate`, played by whatever acts, be it ours or not.

    Args:
        act: from a batch of the env's observations (run-major), the seed of the episode that each environment plays,
            the steps it has done in it and the mask of allowed actions, if there is one, to actions as the env takes
            them.
        make_envs: builds a vector env of n copies with autoreset disabled.
        action: the policy head, which tells how wide masks are.
        n_runs: R.
        episodes: per run.
        seed: of all episodes.
        max_steps: episodes are cut off there.
        n_envs: environments per run.
    """
    n_envs = min(n_envs, episodes)
    env = _Arrays(make_envs(n_runs * n_envs))
    seeds = Stream([seed], "evaluation episode").seeds(episodes)[0]
    episode = np.tile(np.arange(n_envs), n_runs)  # which episode each env plays
    length = np.zeros(len(episode), np.int64)
    earned = np.zeros(len(episode))
    results: list[dict[int, tuple[float, int]]] = [{} for _ in range(n_runs)]
    left = n_runs * episodes
    playing: Any = [seeds[k] for k in episode]  # vector envs take a list, though their type says int
    try:
        masks = MaskReader(env.inner, action)
        obs, info = env.reset(seed=playing)
        mask = masks.after_reset(info)
        while True:
            obs, reward, terminated, truncated, info = env.step(act(obs, playing, length, mask))
            mask = masks.after_step(info, terminated | truncated)
            earned += reward
            length += 1
            ended = terminated | truncated | (length >= max_steps)
            if not ended.any():
                continue
            for index in np.flatnonzero(ended):
                results[index // n_envs][int(episode[index])] = (float(earned[index]), int(length[index]))
            left -= int(np.count_nonzero(episode[ended] < episodes))  # beyond them others are waited for
            if left == 0:
                break
            episode[ended] += n_envs
            earned[ended], length[ended] = 0.0, 0
            playing = [seeds[k % episodes] for k in episode]
            obs, info = env.reset(seed=playing, options={"reset_mask": ended})
            mask = masks.after_reset(info)
    finally:
        env.close()
    return [Evaluation(*zip(*(result[k] for k in range(episodes)), strict=True)) for result in results]


class _Arrays:
    """A vector env whose answers are NumPy arrays, whether it speaks of tensors or not."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self.inner, self.close = env, env.close

    def reset(self, **options: Any) -> tuple[Any, Any]:
        obs, info = self.inner.reset(**options)
        return self._array(obs), info

    def step(self, action: Any) -> tuple[Any, ...]:
        *answers, info = self.inner.step(action)
        return *map(self._array, answers), info

    @staticmethod
    def _array(answer: Any) -> Any:
        return answer.cpu().numpy() if isinstance(answer, Tensor) else answer


class _Player:
    """Acts as :func:`play_episodes` asks for, remembering what a policy needs to from the start of each episode."""

    def __init__(
        self,
        policy: ActorCritic,
        observation: ObservationSpec,
        *,
        deterministic: bool,
        outputs: Callable[[Tensor], Tensor] | None,
        generate: Callable[[Tensor, Tensor, int, int, int], Tensor],
    ) -> None:
        self._policy, self._observation, self._deterministic = policy, observation, deterministic
        self._outputs, self._generate = outputs, generate
        self._frames = FrameStack(policy.observation)
        self._state: Tensor | None = None
        self._seeds: Sequence[int] = ()
        self._stream: Stream | None = None

    @torch.no_grad()
    def __call__(self, obs: Any, seeds: Sequence[int], steps: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        policy, values = self._policy, self._policy.params.values
        n_runs, n = len(values), len(steps)
        flat = torch.as_tensor(self._observation.flatten(obs), dtype=values.dtype, device=values.device)
        starts = torch.as_tensor(steps == 0, device=values.device).view(n_runs, -1)
        seen = flat.view(n_runs, n // n_runs, -1)
        if starts.all():
            seen, self._state = self._frames.begin(seen), policy.initial_state(n // n_runs)
        else:
            seen = self._frames.push(seen, starts)
        if self._state is not None:
            self._state = self._state.masked_fill(starts.unsqueeze(-1), 0.0)
        allowed = None if mask is None else torch.as_tensor(mask, device=values.device).view(n_runs, n // n_runs, -1)
        seen = policy.normalize(seen)
        if self._outputs is None:
            distribution, self._state = policy.step(seen, allowed, self._state)
        else:
            distribution = policy.head(self._outputs(seen), allowed)
        if self._deterministic:
            action = distribution.mode()
        else:
            noise = self._noise(seeds, steps)
            action = distribution.sample(noise.view(n_runs, n // n_runs, -1).to(values.dtype))
        if policy.action.is_continuous and n_runs > 1:  # one run's broken parameters are no end of the others
            action = action.nan_to_num()
        return policy.action.to_env(action.flatten(0, 1).cpu().numpy())

    def _noise(self, seeds: Sequence[int], step: np.ndarray) -> Tensor:
        """Noise for step ``step[i]`` of the episode with ``seeds[i]``, ``[n, n_outputs]``."""
        device = self._policy.params.values.device
        if self._stream is None or seeds is not self._seeds:  # another list where an episode has begun
            self._seeds, self._stream = seeds, Stream(seeds, "evaluation action", device=device)
            self._stream.generate = self._generate
        self._stream.position = torch.from_numpy(step.copy()).to(device)
        return draw_noise(self._policy.action, self._stream)


def summary(prefix: str, evaluation: Evaluation) -> dict[str, float]:
    """``{prefix}mean_reward`` and the like, for a record."""
    low, high = evaluation.interval()
    return {
        f"{prefix}mean_reward": evaluation.mean,
        f"{prefix}std_reward": evaluation.std,
        f"{prefix}mean_reward_low": low,
        f"{prefix}mean_reward_high": high,
        f"{prefix}mean_ep_length": math.fsum(evaluation.lengths) / len(evaluation.lengths),
    }
