"""This toolkit's training and those of Stable-Baselines3 and SBX, with the same settings, told to a clock."""

from __future__ import annotations

import inspect
import math
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from entropic_rl.benchmarks.peers.clock import Clock
from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.benchmarks.worker import of_sb3
from entropic_rl.config import RunConfig

__all__ = ["train_ours", "train_sb3", "train_sbx"]


def train_ours(job: Job, clock: Clock) -> tuple[int, list[float]]:
    """Train the runs as one batch, through the code that ``scripts/train.py`` calls."""
    from entropic_rl.agents import agent_class
    from entropic_rl.cell import Cell
    from entropic_rl.runs import train_cells

    with tempfile.TemporaryDirectory() as folder:
        cells = [
            Cell(job.agent, replace(job.run, seed=seed), config, Path(folder) / str(i))
            for i, (seed, config) in enumerate(zip(job.seeds, job.configs, strict=True))
        ]
        report = _Report(clock, getattr(job.config, "learning_starts", 0))
        summaries = train_cells(agent_class(job.agent), cells, report)
    returns = [summary.get("rollout/ep_rew_mean", math.nan) for summary in summaries]
    return int(summaries[0]["global_step"]), returns


class _Report:
    """Whoever wants to know how training goes: the clock."""

    def __init__(self, clock: Clock, learning_starts: int) -> None:
        self._clock, self._learning_starts = clock, learning_starts

    def update(self, global_step: int, rows: Sequence[dict[str, float]]) -> None:
        if global_step > self._learning_starts:
            self._clock.learning(global_step)

    def note(self, text: str) -> None:
        if text == "evaluating":  # only at the end
            self._clock.stop()


def train_sb3(job: Job, clock: Clock) -> tuple[int, list[float]]:
    """Train one run of Stable-Baselines3's agent."""
    from entropic_rl.sb3.model import make_sb3_envs, make_sb3_model, normalized

    warnings.filterwarnings("ignore", module="stable_baselines3")
    run, config = job.run, of_sb3(job.agent, job.config)
    env = normalized(make_sb3_envs(run, run.n_envs, seed=run.seed), config)
    return _learn(make_sb3_model(f"sb3:{job.agent.upper()}", config, env, seed=run.seed), run, clock)


def train_sbx(job: Job, clock: Clock) -> tuple[int, list[float]]:
    """Train one run of SBX's agent, whose settings are Stable-Baselines3's; activations are its own, the same here."""
    warnings.filterwarnings("ignore")  # its dependencies warn of each other
    import sbx

    from entropic_rl.sb3.model import constructor_options, make_sb3_envs

    run, config, algorithm = job.run, of_sb3(job.agent, job.config), getattr(sbx, job.agent.upper())
    taken = inspect.signature(algorithm).parameters  # all that matter here
    options = {name: value for name, value in constructor_options(config).items() if name in taken}
    envs = make_sb3_envs(run, run.n_envs, seed=run.seed)
    policy_kwargs = {"net_arch": list(job.config.net_arch)}
    return _learn(algorithm("MlpPolicy", envs, seed=run.seed, policy_kwargs=policy_kwargs, **options), run, clock)


def _learn(model: Any, run: RunConfig, clock: Clock) -> tuple[int, list[float]]:
    """Train a model of Stable-Baselines3's form."""
    from stable_baselines3.common.callbacks import BaseCallback

    class _Watch(BaseCallback):  # type: ignore[misc] # untyped for us
        def _on_rollout_start(self) -> None:
            if self.model._n_updates > 0:  # what came before was learned from
                clock.learning(self.num_timesteps)

        def _on_step(self) -> bool:
            return True

    model.learn(run.total_timesteps, callback=_Watch())
    clock.stop()
    returns = [episode["r"] for episode in model.ep_info_buffer]  # 100 at most
    return model.num_timesteps, [float(np.mean(returns)) if returns else math.nan]
