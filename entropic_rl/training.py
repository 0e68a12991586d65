"""The only interaction loop: a generator that trains R runs together and reports once per interval.

It knows no concrete agent or environment: whatever acts, observes and updates can be trained on whatever steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from entropic_rl.episodes import Episodes
from entropic_rl.exploration import ExplorationMeter, censored
from entropic_rl.policies import ActorCritic
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch, Transition

__all__ = ["Agent", "Record", "rows", "train"]


class Agent(Protocol):
    """What the loop asks of an agent of R runs."""

    steps_per_update: int
    """Env steps per environment between updates."""

    policy: ActorCritic
    """What is evaluated and saved."""

    def act(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions ``[R, E, *event]`` for raw observations ``[R, E, D]``, of those that ``mask [R, E, A]`` allows."""

    def observe(self, transition: Transition) -> None:
        """Take in what the environments answered to the last actions."""

    def update(self, progress: float) -> dict[str, Tensor]:
        """Learn; ``progress`` is the fraction of env steps done. Returns metrics ``[R]``."""

    def inspect(self) -> dict[str, Tensor]:
        """Metrics ``[R]`` that are only worth their time when a record is written."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where training stands after an update.

    Attributes:
        global_step: env steps of each run so far.
        rows: one mapping per run from metric name to number.
        last: whether this is the end.
    """

    global_step: int
    rows: list[dict[str, float]]
    last: bool


def train(
    agent: Agent,
    envs: EnvBatch,
    *,
    total_timesteps: int,
    seeds: Sequence[int],
    log_interval: int = 1,
    meter: ExplorationMeter | None = None,
    on_update: Callable[[int], None] | None = None,
) -> Iterator[Record]:
    """Train until every run has done ``total_timesteps`` env steps (rounded up to whole rollouts).

    Args:
        agent: R runs' learner.
        envs: R x E environments.
        total_timesteps: env steps per run, over its E environments.
        seeds: one per run, for the episodes' starts.
        log_interval: updates between records; the last update is always reported.
        meter: counts what is visited and done, if given.
        on_update: told the env steps of each run before every update, if given.

    Yields:
        A :class:`Record` per interval. Device numbers are read only then.
    """
    obs = envs.reset(Stream(seeds, "environment").seeds(envs.n_envs))
    if meter is not None:
        meter.begin(obs)
    elapsed, resumed = 0.0, time.perf_counter()  # what the caller does between records is not training time
    global_step = n_updates = 0
    while global_step < total_timesteps:
        for _ in range(agent.steps_per_update):
            action = agent.act(obs, envs.mask)
            transition = envs.step(action)
            agent.observe(transition)
            if meter is not None:
                meter.observe(action, transition)
            obs = transition.next_obs
        global_step += agent.steps_per_update * envs.n_envs
        if on_update is not None:
            on_update(global_step)
        metrics = agent.update(global_step / total_timesteps)
        n_updates += 1
        last = global_step >= total_timesteps
        if last or n_updates % log_interval == 0:
            metrics = metrics | agent.inspect() | ({} if meter is None else meter.read())
            metrics["explore/first_success"] = censored(envs.episodes.first_success)
            elapsed += time.perf_counter() - resumed
            common = {
                "global_step": float(global_step),
                "time/time_elapsed": elapsed,
                "time/fps": global_step / elapsed,
                "train/n_updates": float(n_updates),
            }
            yield Record(global_step, rows(metrics, envs.episodes, common), last)
            resumed = time.perf_counter()


def rows(metrics: dict[str, Tensor], episodes: Episodes, common: dict[str, float]) -> list[dict[str, float]]:
    """Metrics ``[R]`` and episode statistics as one mapping per run."""
    table = torch.stack(list(metrics.values())).to(torch.float64).cpu()  # one transfer
    n_finished = episodes.n_finished.tolist()
    found = []
    for run, (returns, lengths) in enumerate(episodes.recent()):
        row = dict(common)
        if returns:
            row["rollout/ep_rew_mean"] = sum(returns) / len(returns)
            row["rollout/ep_len_mean"] = sum(lengths) / len(lengths)
        row["rollout/n_episodes"] = float(n_finished[run])
        values = zip(metrics, table[:, run].tolist(), strict=True)
        row |= {name: x for name, x in values if not (math.isnan(x) and name.startswith("explore/first_"))}  # censored
        found.append(row)
    return found
