"""The only interaction loop: it trains R runs together and reports once per interval.

It knows no concrete agent or environment: whatever acts, observes and updates can be trained on whatever steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from entropic_rl.buffers import Rollout
from entropic_rl.devices import answers_at_once
from entropic_rl.episodes import Episodes
from entropic_rl.errors import NumbersError
from entropic_rl.exploration import ExplorationMeter, censored
from entropic_rl.health import Evidence, broken_metrics
from entropic_rl.interruption import Stopped
from entropic_rl.policies import ActorCritic
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch, Transition

__all__ = ["Agent", "Iteration", "Record", "Training", "rows", "train"]


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


class Iteration(NamedTuple):
    """What became of a rollout and the update after it; good until the next one.

    Attributes:
        metrics: ``[R]`` each, of the update.
        steps: actions ``[R, E, *event]`` and what the environments answered, T times.
        obs: ``[R, E, D]``, what to act on next.
    """

    metrics: dict[str, Tensor]
    steps: list[tuple[Tensor, Transition]]
    obs: Tensor


class Training:
    """Training until every run has done ``total_timesteps`` env steps (rounded up to whole rollouts).

    Iterating gives a :class:`Record` per interval; device numbers are read only then. All that changes while it goes is
    in attributes of it and of what it is given, so that a snapshot taken between two env steps, put back into a
    training that was made in the same way, goes on exactly.

    Args:
        agent: R runs' learner.
        envs: R x E environments.
        total_timesteps: env steps per run, over its E environments.
        seeds: one per run, for the episodes' starts.
        log_interval: updates between records; the last update is always reported.
        meter: counts what is visited and done, if given.
        on_update: told the env steps of each run before every update, if given.
        should_stop: asked after every env step, or before every iteration that is made as a whole, if given.
        on_broken: told the number of a run, and why, once its numbers are not finite and it learns no more.
        keep: given what such a run broke on before, if that is known; says whether it is kept.

    Attributes:
        agent: the same.
        global_step: env steps of each run in whole rollouts.
        n_updates: updates so far.
        broken: runs whose numbers were not finite, and why; they learn no more.
        between_updates: called before each rollout but the first, if it is set.
        iterations: makes each rollout and its update as a whole, if it is set: from observations ``[R, E, D]`` on, and
            told the fraction of the env steps that is done at its end.

    Raises:
        Stopped: while iterating, because it should.
        NumbersError: while iterating, because no run is left whose numbers are finite.
    """

    NO_STATE = (
        "_total", "_interval", "_on_update", "between_updates", "_should_stop", "_on_broken", "_keep", "iterations",
    )  # fmt: skip

    def __init__(
        self,
        agent: Agent,
        envs: EnvBatch,
        *,
        total_timesteps: int,
        seeds: Sequence[int],
        log_interval: int = 1,
        meter: ExplorationMeter | None = None,
        on_update: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_broken: Callable[[int, str], None] | None = None,
        keep: Callable[[int, Evidence], bool] | None = None,
    ) -> None:
        self.agent, self._envs, self._meter = agent, envs, meter
        self._total, self._interval, self._on_update = total_timesteps, log_interval, on_update
        self._should_stop, self._on_broken, self._keep = should_stop, on_broken, keep
        self.broken: dict[int, str] = {}
        self.between_updates: Callable[[], None] | None = None
        self.iterations: Callable[[Tensor, float], Iteration] | None = None
        self._obs = envs.reset(Stream(seeds, "environment").seeds(envs.n_envs))
        if meter is not None:
            meter.begin(self._obs)
        self._elapsed = 0.0
        self.global_step = self.n_updates = 0
        self._n_collected = 0  # env steps of each environment since the last update

    @property
    def n_steps(self) -> int:
        """Env steps of each run so far, those of an unfinished rollout included."""
        return self.global_step + self._n_collected * self._envs.n_envs

    def __iter__(self) -> Iterator[Record]:
        while self.global_step < self._total:
            started = time.perf_counter()  # what the caller does between records is not training time
            try:
                metrics = self._update()
                last = self.global_step >= self._total
                is_due = last or self.n_updates % self._interval == 0
                if is_due:
                    metrics = metrics | self.agent.inspect() | ({} if self._meter is None else self._meter.read())
            finally:
                self._elapsed += time.perf_counter() - started
            if is_due:
                yield self._record(metrics, last)
            if not last and self.between_updates is not None:
                self.between_updates()

    def _update(self) -> dict[str, Tensor]:
        """The rest of a rollout, and what is learned from it."""
        if self.iterations is not None and self._n_collected == 0:
            metrics = self._iterate(self.iterations)
        else:
            self._collect()
            self._count_rollout()
            metrics = self.agent.update(self.global_step / self._total)
        self.n_updates += 1
        self._check_health(metrics)
        return metrics

    def _iterate(self, iterations: Callable[[Tensor, float], Iteration]) -> dict[str, Tensor]:
        """Both as a whole."""
        if self._should_stop is not None and self._should_stop():
            raise Stopped
        self._count_rollout()
        metrics, steps, self._obs = iterations(self._obs, self.global_step / self._total)
        if self._meter is not None:
            actions, answers = zip(*steps, strict=True)
            rewards, next_obs = (torch.stack([getattr(x, name) for x in answers]) for name in ("reward", "next_obs"))
            ends = [(t, x.starts, x.final_obs) for t, x in enumerate(answers) if x.final_obs is not None]
            self._meter.observe_all(torch.stack(actions), rewards, next_obs, ends)
        return metrics

    def _collect(self) -> None:
        """Fill the rollout."""
        while self._n_collected < self.agent.steps_per_update:
            roll = getattr(self.agent, "roll", None)
            if roll is None or self._n_collected > 0:
                self._step()
            else:
                self._roll(roll)
            if self._should_stop is not None and self._should_stop():
                raise Stopped

    def _count_rollout(self) -> None:
        """A rollout is full, or as good as."""
        self._n_collected = 0
        self.global_step += self.agent.steps_per_update * self._envs.n_envs
        if self._on_update is not None:
            self._on_update(self.global_step)
        if (health := getattr(self.agent, "health", None)) is not None:
            health.n_steps = 0

    def _roll(self, roll: Callable[[Tensor], Rollout]) -> None:
        """A whole rollout at once, by an agent that can."""
        rollout = roll(self._obs)
        if self._meter is not None:
            self._meter.observe_all(rollout.action, rollout.reward, rollout.obs[1:], rollout.cut_obs)
        self._obs, self._n_collected = rollout.obs[-1], self.agent.steps_per_update

    def _step(self) -> None:
        action = self.agent.act(self._obs, self._envs.mask)
        transition = self._envs.step(action)
        self.agent.observe(transition)
        if self._meter is not None:
            self._meter.observe(action, transition)
        self._obs = transition.next_obs
        self._n_collected += 1
        if self._envs.broken.keys() - self.broken.keys():
            for run, why in self._envs.broken.items():
                self._stop_run(run, why, self._envs.evidence.pop(run, None))

    def _check_health(self, metrics: dict[str, Tensor]) -> None:
        """Stop runs whose gradients were not finite in this update; a GPU is asked where a record is due anyway."""
        health = getattr(self.agent, "health", None)
        is_due = self.n_updates % self._interval == 0 or self.global_step >= self._total
        if health is None or not (answers_at_once(health.stopped.device) or is_due):
            return
        where = f"update {self.n_updates} at {self.global_step:,} env steps"
        advice = "lower --learning-rate, or scale rewards down"
        for run in health.stopped.nonzero().flatten().tolist():
            if run not in self.broken:
                what = f"expected a finite gradient, got one that is not{broken_metrics(metrics, run)}"
                self._stop_run(run, f"{where}: {what}; {advice}", getattr(health, "kept", {}).pop(run, None))
        if self.global_step >= self._total:  # of the last step no gradient tells any more
            sound = self.agent.policy.params.values.isfinite().all(1)
            for run in (~sound).nonzero().flatten().tolist():
                self._stop_run(run, f"{where}: expected finite parameters, got ones that are not; {advice}", None)

    def _stop_run(self, run: int, why: str, evidence: Evidence | None) -> None:
        """Let a run learn no more.

        Raises:
            NumbersError: it was the last one.
        """
        if run in self.broken:
            return
        if evidence is not None and self._keep is not None:
            where = {"global_step": self.n_steps, "update": self.n_updates, "why": why}
            if self._keep(run, replace(evidence, notes=where | evidence.notes)):
                why += "; evaluate.py --replay RUN_DIR shows which number was the first"
        self.broken[run] = why
        if (health := getattr(self.agent, "health", None)) is not None:
            health.stop(run)
        if self._on_broken is not None:
            self._on_broken(run, why)
        if len(self.broken) == self._envs.n_runs:
            raise NumbersError(why)

    def _record(self, metrics: dict[str, Tensor], last: bool) -> Record:
        metrics["explore/first_success"] = censored(self._envs.episodes.first_success)
        common = {
            "global_step": float(self.global_step),
            "time/time_elapsed": self._elapsed,
            "time/fps": self.global_step / self._elapsed,
            "train/n_updates": float(self.n_updates),
        }
        return Record(self.global_step, rows(metrics, self._envs.episodes, common), last)


def train(agent: Agent, envs: EnvBatch, **settings: Any) -> Iterator[Record]:
    """The records of a :class:`Training`."""
    return iter(Training(agent, envs, **settings))


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
