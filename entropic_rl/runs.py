"""From settings to run directories: R cells trained as one batch, recorded, evaluated, drawn; one run is R = 1."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.checkpoint import save_policy
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.environments import choose_backend, make_vector_env, reward_threshold
from entropic_rl.errors import ConfigError
from entropic_rl.evaluation import Evaluation, evaluate, summary
from entropic_rl.exploration import Cells, ExplorationMeter, cells_of, load_cells
from entropic_rl.policies import ActorCritic
from entropic_rl.progress import ProgressReport
from entropic_rl.run_directory import read_metrics
from entropic_rl.spaces import ActionSpec, ObservationSpec, action_spec, observation_spec
from entropic_rl.tracking import Recorder, versions
from entropic_rl.training import Agent, train
from entropic_rl.vector import EnvBatch

__all__ = ["Cell", "load_device", "train_cells"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a batch: its settings and where its record goes."""

    run: RunConfig
    config: Any
    directory: Path


def train_cells(
    agent_name: str, agent_class: Any, cells: Sequence[Cell], *, progress: bool = True, job_type: str = "train"
) -> list[dict[str, Any]]:
    """Train all cells together, write each one's run directory, and return their summaries.

    The cells may differ in seed and in the agent's batchable fields; everything else must agree.

    Raises:
        ConfigError: the cells differ in a structural field.
        EnvError: the environment cannot be made or has an unsupported space.
    """
    _check_batchable(agent_class, cells)
    settled = _settled(cells[0].run)
    cells = [replace(cell, run=replace(cell.run, **settled)) for cell in cells]
    run, seeds = cells[0].run, [cell.run.seed for cell in cells]
    device = load_device(run.device)
    make_envs = partial(make_vector_env, run.env, kwargs=run.env_kwargs, backend=run.env_backend, device=device)
    envs, meter, agent = _set_up(agent_class, cells, make_envs, device)
    examine = partial(
        _examine,
        agent.policy,
        partial(make_envs, autoreset_mode=AutoresetMode.DISABLED),
        observation_spec(envs.env.single_observation_space),
        run,
    )
    log_interval = _log_interval(run, agent.n_steps * run.n_envs)
    recorders = [_recorder(agent_name, cell, job_type) for cell in cells]
    next_evaluation = run.eval_freq or math.inf
    label = f"{agent_name} {run.env}" + (f" x {len(cells)} runs" if len(cells) > 1 else "")
    try:
        with ProgressReport(run.total_timesteps, label, enabled=progress) as report:
            for record in train(
                agent, envs, total_timesteps=run.total_timesteps, seeds=seeds, log_interval=log_interval, meter=meter
            ):
                if record.last or record.global_step >= next_evaluation:
                    next_evaluation += run.eval_freq
                    report.note("evaluating")
                    for row, evaluations in zip(record.rows, examine(), strict=True):
                        row.update(evaluations)
                for recorder, row in zip(recorders, record.rows, strict=True):
                    recorder.log(row)
                report.update(record.global_step, record.rows)
        if meter is not None:
            _save_visits(meter, cells)
        return [
            _finish(agent.policy, i, cell, recorder, row)
            for i, (cell, recorder, row) in enumerate(zip(cells, recorders, record.rows, strict=True))
        ]
    except KeyboardInterrupt:  # what was learned so far is kept
        for i, (cell, recorder) in enumerate(zip(cells, recorders, strict=True)):
            save_policy(agent.policy, i, cell.directory)
            recorder.close(exit_code=1)
        raise
    except BaseException:
        for recorder in recorders:
            recorder.close(exit_code=1)
        raise
    finally:
        envs.close()


def load_device(name: str) -> torch.device:
    """The device behind ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: it is not available here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    if not available[device.type]:
        raise ConfigError(f"--device {name} is not available here (torch {torch.__version__}); use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: expected an index below {torch.cuda.device_count()}; use --device cuda")
    return device


def _settled(run: RunConfig) -> dict[str, Any]:
    """What ``auto`` and the environment's own threshold come to."""
    settled: dict[str, Any] = {}
    if run.env_backend == "auto":
        settled["env_backend"] = choose_backend(run.env, run.env_kwargs)
    if run.success_return is None:
        settled["success_return"] = reward_threshold(run.env)
    return settled


def _set_up(
    agent_class: Any, cells: Sequence[Cell], make_envs: Any, device: torch.device
) -> tuple[EnvBatch, ExplorationMeter | None, Agent]:
    """Environments, meter and agent of the cells; if one cannot be made, nothing is left open."""
    run, config = cells[0].run, cells[0].config
    vector_env = make_envs(len(cells) * run.n_envs)
    try:
        observation = observation_spec(vector_env.single_observation_space)
        action = action_spec(vector_env.single_action_space, squash_output=config.squash_output)
        envs = EnvBatch(
            vector_env,
            len(cells),
            observation=observation,
            action=action,
            device=device,
            success_return=run.success_return,
        )
        agent = agent_class(
            [cell.config for cell in cells],
            [cell.run.seed for cell in cells],
            obs_size=observation.size,
            action=action,
            n_envs=run.n_envs,
            device=device,
        )
        return envs, _meter(run, envs, action, device), agent
    except BaseException:
        vector_env.close()
        raise


def _meter(run: RunConfig, envs: EnvBatch, action: ActionSpec, device: torch.device) -> ExplorationMeter | None:
    if run.coverage == "off":
        return None
    counted: Cells | None
    if run.coverage == "auto":
        counted = cells_of(envs.env.single_observation_space, envs.env.metadata.get("n_states"))
    else:
        counted = load_cells(run.coverage)
    return ExplorationMeter(counted, envs.n_runs, envs.n_envs, action=action, device=device)


def _log_interval(run: RunConfig, steps_per_update: int) -> int:
    """Updates between records: about 500 in all, and at least one per evaluation."""
    if run.log_interval:
        return run.log_interval
    interval = math.ceil(run.total_timesteps / steps_per_update / 500)
    return min(interval, max(1, run.eval_freq // steps_per_update)) if run.eval_freq else interval


def _check_batchable(agent_class: Any, cells: Sequence[Cell]) -> None:
    free = {*agent_class.BATCHABLE}
    for field in fields(cells[0].config):
        values = {getattr(cell.config, field.name) for cell in cells}
        if len(values) > 1 and field.name not in free:
            raise ConfigError(f"{field.name} differs between runs of one batch: {sorted(map(str, values))}")


def _recorder(agent_name: str, cell: Cell, job_type: str) -> Recorder:
    config = {
        "agent": agent_name,
        **jsonable(cell.run),
        **jsonable(cell.config),
        "versions": versions(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return Recorder(cell.directory, config, cell.run, job_type=job_type)


def _examine(
    policy: ActorCritic, make_envs: Any, observation: ObservationSpec, run: RunConfig
) -> list[dict[str, float]]:
    """Deterministic and stochastic evaluation of every run."""

    def of(deterministic: bool) -> list[Evaluation]:
        return evaluate(
            policy,
            make_envs,
            observation,
            episodes=run.eval_episodes,
            deterministic=deterministic,
            seed=run.eval_seed,
            max_steps=run.eval_max_steps,
        )

    return [
        summary("eval/", mode) | summary("eval/stochastic_", sample)
        for mode, sample in zip(of(True), of(False), strict=True)
    ]


def _save_visits(meter: ExplorationMeter, cells: Sequence[Cell]) -> None:
    """How often and when first each run met each state, as ``exploration.npz`` in its directory."""
    for cell, visits, first_visit in zip(cells, meter.visits.cpu(), meter.first_visit.cpu(), strict=True):
        np.savez_compressed(cell.directory / "exploration.npz", visits=visits.numpy(), first_visit=first_visit.numpy())


def _finish(policy: ActorCritic, index: int, cell: Cell, recorder: Recorder, row: dict[str, float]) -> dict[str, Any]:
    from entropic_rl.plots import plot_run

    save_policy(policy, index, cell.directory)
    plot_run(
        read_metrics(cell.directory),
        cell.directory,
        title=f"{cell.run.env}, ent_coef {cell.config.ent_coef}, seed {cell.run.seed}",
        max_entropy=policy.action.max_entropy,
    )
    result = {
        **row,
        "global_step": int(row["global_step"]),
        "env": cell.run.env,
        "seed": cell.run.seed,
        "ent_coef": cell.config.ent_coef,
        "success_return": cell.run.success_return,
        "eval/episodes": cell.run.eval_episodes,
        "explore/max_entropy": policy.action.max_entropy,
    }
    recorder.finish(result)
    return result
