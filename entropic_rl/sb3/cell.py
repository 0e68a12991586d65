"""A training by Stable-Baselines3 as a cell of a comparison: the same record as ours, from the same meters.

The agent is stock, in Gymnasium's single environments; ``env_backend`` says in which it is evaluated, as ours are.
Sub-environment i of SB3 has the seed of the model + i. So that neighbouring seeds of a comparison share no episodes,
the model's seed is not the run's but drawn from it.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import stable_baselines3
import torch
from safetensors.torch import save
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from entropic_rl.cell import Cell
from entropic_rl.devices import load_device
from entropic_rl.environments import import_gym_packages, make_env
from entropic_rl.exploration import ExplorationMeter, censored
from entropic_rl.optimality import find_rules, measure_optimality
from entropic_rl.recording import (
    evaluation_row,
    finish,
    log_interval,
    make_meter,
    open_recorder,
    save_tables,
    settle,
)
from entropic_rl.runs import Report
from entropic_rl.sb3.model import make_sb3_envs, make_sb3_model, normalized
from entropic_rl.sb3.policy import evaluate_sb3, exploration_metrics, tabular_sb3_policy
from entropic_rl.sb3.settings import check_sb3_settings
from entropic_rl.sb3.watch import Watch
from entropic_rl.spaces import ActionSpec, action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.tracking import Recorder
from entropic_rl.training import rows

__all__ = ["train_sb3_cell"]

_OUR_NAMES = {"train/policy_loss": "train/policy_gradient_loss"}
_SAID_OTHERWISE = {"train/entropy_loss", "train/n_updates"}


def train_sb3_cell(cell: Cell, report: Report | None = None, *, job_type: str = "train") -> dict[str, Any]:
    """Train one cell of Stable-Baselines3's agent, write its run directory, and return its summary.

    Rows have the names that ours have, as far as SB3 tells such a thing, and its own ``train/...`` besides;
    ``train/n_updates`` counts rollouts that were learned from (on-policy) or gradient steps (off-policy). Episodes'
    returns are raw. TD3 and DDPG are stock, too: without action noise they explore until ``learning_starts`` only.

    Args:
        cell: its agent is ``sb3:PPO`` and so on.
        report: told of every row, if given.
        job_type: of the run in Weights & Biases.

    Raises:
        ConfigError: SB3 has no counterpart of a setting, or cannot take this environment.
        EnvError: the environment cannot be made or has an unsupported space.
    """
    check_sb3_settings(cell.agent, cell.config)
    import_gym_packages(cell.run.gym_packages)
    cell = settle(cell)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="stable_baselines3")
        [[seed]] = Stream([cell.run.seed], "environment").seeds(1)
        envs = make_sb3_envs(cell.run, cell.run.n_envs, seed=seed)
        try:
            return _train(cell, envs, seed, report, job_type)
        finally:
            envs.close()


def _train(cell: Cell, envs: Any, seed: int, report: Report | None, job_type: str) -> dict[str, Any]:
    run, config = cell.run, cell.config
    env = make_env(run.env, run.env_kwargs, wrappers=run.env_wrappers)  # for the actions' own units
    env.close()
    observation, action = observation_spec(env.observation_space), action_spec(env.action_space)
    meter = make_meter(run, envs.observation_space, envs.metadata, action=action)
    watch = Watch(envs, meter, observation=observation, action=action, success_return=run.success_return)
    model = make_sb3_model(cell.agent, config, normalized(watch, config), seed=seed, device=load_device(run.device))
    model.set_logger(Logger(None, []))  # nothing is printed, and every value stays where it can be read
    recorder = open_recorder(cell, job_type, {"stable-baselines3": stable_baselines3.__version__})
    rules = None if run.env_wrappers else find_rules(envs)  # wrappers make another problem of it
    record = _Rows(cell, watch, meter, action=action, rules=rules, recorder=recorder, report=report)
    try:
        model.learn(run.total_timesteps, callback=record, log_interval=None)
        save_tables([cell], meter, [record.tables])
        _save_policy(model, cell.directory)
        [summary] = finish([(cell, recorder, record.latest)], action.max_entropy)
        return summary
    except KeyboardInterrupt:  # what was learned so far is kept
        _save_policy(model, cell.directory)
        recorder.close(exit_code=1)
        raise
    except BaseException:
        recorder.close(exit_code=1)
        raise


class _Rows(BaseCallback):  # type: ignore[misc]  # SB3 publishes no types
    """Writes a row of the record after every few updates and at the end, as :func:`entropic_rl.training.train` has it.

    SB3 calls back between collecting and learning, and again before it collects: that is after an update.
    """

    def __init__(
        self,
        cell: Cell,
        watch: Watch,
        meter: ExplorationMeter | None,
        *,
        action: ActionSpec,
        rules: Any,
        recorder: Recorder,
        report: Report | None,
    ) -> None:
        super().__init__()
        run, config = cell.run, cell.config
        self._cell, self._watch, self._meter = cell, watch, meter
        self._action, self._rules, self._recorder, self._report = action, rules, recorder, report
        # Off-policy agents may have n_steps, too, but with them it is no length of a rollout.
        n_steps = config.train_freq if hasattr(config, "train_freq") else config.n_steps
        self._interval = log_interval(run, n_steps * run.n_envs)
        self._n_rollouts, self._elapsed = 0, 0.0
        self._next_evaluation = run.eval_freq or math.inf
        self._explored: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.tables: dict[str, np.ndarray] = {}

    def _on_training_start(self) -> None:
        self._resumed = time.perf_counter()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._n_rollouts += 1
        last = self.model.num_timesteps >= self._cell.run.total_timesteps
        if last or self._n_rollouts % self._interval == 0:
            self._explored = exploration_metrics(self.model, self._cell.config)

    def _on_rollout_start(self) -> None:
        if self._n_rollouts and self._n_rollouts % self._interval == 0:
            self._record(last=False)

    def _on_training_end(self) -> None:
        self._record(last=True)

    def _record(self, *, last: bool) -> None:
        """A row, an evaluation if it is time, and word to whoever watches."""
        row = self._row()
        if last or row["global_step"] >= self._next_evaluation:
            self._next_evaluation += self._cell.run.eval_freq
            if self._report is not None:
                self._report.note("evaluating")
            row |= self._examined(row)
        self._recorder.log(row)
        if self._report is not None:
            self._report.update(int(row["global_step"]), [row])
        self.latest, self._resumed = row, time.perf_counter()

    def _examined(self, row: Mapping[str, float]) -> dict[str, float]:
        """Both evaluations, and on small finite environments the distance from the exact optimum."""
        run, model = self._cell.run, self.model
        mode, sample = (evaluate_sb3(model, run, self._action, deterministic=flag) for flag in (True, False))
        found = evaluation_row(mode, sample)
        if self._rules is not None and isinstance(model, OnPolicyAlgorithm):
            own, temperature = tabular_sb3_policy(model, self._rules), row["train/effective_temperature"]
            [exact] = measure_optimality(own, self._rules.mdp, [temperature], [self._cell.config.gamma])
            found |= exact.metrics
            self.tables = exact.tables
        return found

    def _row(self) -> dict[str, float]:
        said = {name: float(value) for name, value in self.model.logger.name_to_value.items()}
        on_policy = isinstance(self.model, OnPolicyAlgorithm)
        numbers = {_OUR_NAMES.get(name, name): value for name, value in said.items() if name not in _SAID_OTHERWISE}
        if "train/entropy_loss" in said:
            numbers["train/entropy"] = -said["train/entropy_loss"]
        metrics = {
            name: torch.tensor([value], dtype=torch.float64) for name, value in (numbers | self._explored).items()
        }
        metrics |= {} if self._meter is None else self._meter.read()
        metrics["explore/first_success"] = censored(self._watch.episodes.first_success)
        self._elapsed += time.perf_counter() - self._resumed
        global_step = self.model.num_timesteps
        common = {
            "global_step": float(global_step),
            "time/time_elapsed": self._elapsed,
            "time/fps": global_step / self._elapsed,
            "train/n_updates": float(self._n_rollouts if on_policy else self.model._n_updates),
        }
        [row] = rows(metrics, self._watch.episodes, common)
        return row


def _save_policy(model: Any, directory: Path) -> None:
    """``policy.safetensors`` with the policy's ``state_dict``, and the statistics that observations need before it."""
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in model.policy.state_dict().items()}
    _write(directory / "policy.safetensors", tensors)
    normalizer = model.get_vec_normalize_env()
    if normalizer is None or not normalizer.norm_obs:
        return
    found = normalizer.obs_rms if isinstance(normalizer.obs_rms, dict) else {"obs": normalizer.obs_rms}
    statistics = {f"{key}.{part}": getattr(rms, part) for key, rms in found.items() for part in ("mean", "var")}
    _write(directory / "normalization.safetensors", {name: torch.tensor(x) for name, x in statistics.items()})


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(save(tensors))
    os.replace(temporary, path)
