"""How good a policy is: whole episodes on environments of their own, raw returns, frozen normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from entropic_rl.policies import ActorCritic, draw_noise
from entropic_rl.spaces import ObservationSpec
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch

__all__ = ["Evaluation", "evaluate"]


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
    max_sub_envs: int = 256,
) -> list[Evaluation]:
    """Evaluate R policies at once on ``episodes`` episodes each, the same starts and noise for all of them.

    Every environment contributes a fixed number of episodes, so that short episodes are not counted more often than
    long ones.

    Args:
        policy: networks of R runs; their observation statistics stay as they are.
        make_envs: builds a vector env of n copies.
        observation: how to flatten observations.
        episodes: per run.
        deterministic: take the mode of the policy instead of a sample.
        seed: of the episodes' starts and of the sampling noise.
        max_sub_envs: how many environments may be open at once, over all runs.
    """
    n_runs = len(policy.params.values)
    n_envs = _divisor(episodes, max(1, max_sub_envs // n_runs))
    quota = episodes // n_envs
    values = policy.params.values
    envs = EnvBatch(
        make_envs(n_runs * n_envs),
        n_runs,
        observation=observation,
        action=policy.action,
        device=values.device,
        dtype=values.dtype,
        window=0,
    )
    noise_stream = Stream([seed], "evaluation action", device=values.device)
    starts = Stream([seed], "evaluation environment").seeds(n_envs)[0]
    finished: list[list[tuple[float, int]]] = [[] for _ in range(n_runs * n_envs)]
    envs.on_episode = lambda index, episode_return, length: finished[index].append((episode_return, length))
    try:
        obs = envs.reset([starts] * n_runs)
        while min(map(len, finished)) < quota:
            with torch.no_grad():
                distribution = policy.distribution(policy.normalize(obs))
                if deterministic:
                    action = distribution.mode()
                else:
                    noise = draw_noise(policy.action, noise_stream, n_envs).to(obs.dtype)
                    action = distribution.sample(noise)
            obs = envs.step(action).next_obs
    finally:
        envs.close()
    evaluations = []
    for run in range(n_runs):
        rows = [row for env in finished[run * n_envs : (run + 1) * n_envs] for row in env[:quota]]
        returns, lengths = zip(*rows, strict=True)
        evaluations.append(Evaluation(returns, lengths))
    return evaluations


def _divisor(n: int, most: int) -> int:
    """The largest divisor of ``n`` that is at most ``most``."""
    return max(d for d in range(1, min(n, most) + 1) if n % d == 0)


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
