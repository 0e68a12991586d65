"""What every training leaves behind, whoever trained: the record's header, its rhythm, its end."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from entropic_rl.cell import Cell
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.environments import choose_backend, reward_threshold
from entropic_rl.evaluation import Evaluation, summary
from entropic_rl.exploration import Cells, ExplorationMeter, cells_of, load_cells
from entropic_rl.run_directory import read_metrics
from entropic_rl.spaces import ActionSpec
from entropic_rl.tracking import Recorder, versions

__all__ = ["evaluation_row", "finish", "log_interval", "make_meter", "open_recorder", "save_tables", "settle"]


def settle(cell: Cell) -> Cell:
    """The cell with what ``auto`` and the environment's own threshold come to."""
    run = cell.run
    settled: dict[str, Any] = {}
    if run.env_backend == "auto":
        settled["env_backend"] = choose_backend(run.env, run.env_kwargs, wrappers=run.env_wrappers)
    if run.success_return is None:
        settled["success_return"] = reward_threshold(run.env)
    return replace(cell, run=replace(run, **settled))


def make_meter(
    run: RunConfig,
    space: spaces.Space[Any],
    metadata: Mapping[str, Any],
    *,
    n_runs: int = 1,
    action: ActionSpec,
    device: torch.device | str = "cpu",
) -> ExplorationMeter | None:
    """The meter that ``--coverage`` asks for; None if it is off.

    Args:
        run: what is trained on.
        space: of single observations.
        metadata: of the environment: ``n_states`` and ``layout``, if it is finite.
        n_runs: R.
        action: how the agent's actions are stored.
        device: where the counting is done.
    """
    if run.coverage == "off":
        return None
    counted: Cells | None
    if run.coverage == "auto":
        counted = cells_of(space, metadata.get("n_states"), metadata.get("layout"))
    else:
        counted = load_cells(run.coverage)
    return ExplorationMeter(counted, n_runs, run.n_envs, action=action, frames=run.frame_stack, device=device)


def log_interval(run: RunConfig, steps_per_update: int) -> int:
    """Updates between records: about 250 in all at most, and one per evaluation at least."""
    if run.log_interval:
        return run.log_interval
    interval = math.ceil(run.total_timesteps / steps_per_update / 250)
    return min(interval, max(1, run.eval_freq // steps_per_update)) if run.eval_freq else interval


def open_recorder(
    cell: Cell, job_type: str, packages: Mapping[str, str] | None = None, *, resume: bool = False
) -> Recorder:
    """A recorder that has written ``config.json``; ``packages`` are further versions that the result depends on."""
    config = {
        "agent": cell.agent,
        **jsonable(cell.run),
        **jsonable(cell.config),
        "versions": {**versions(), **(packages or {})},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return Recorder(cell.directory, config, cell.run, job_type=job_type, resume=resume)


def evaluation_row(mode: Evaluation, sample: Evaluation) -> dict[str, float]:
    """The deterministic and the stochastic evaluation of a run, for a record."""
    gap = {"eval/stochastic_gap": mode.mean - sample.mean}
    return summary("eval/", mode) | summary("eval/stochastic_", sample) | gap


def save_tables(
    cells: Sequence[Cell], meter: ExplorationMeter | None, further: Sequence[Mapping[str, np.ndarray]] = ()
) -> None:
    """Arrays of each run as ``exploration.npz`` in its directory; nothing if there are none.

    ``visits``, ``first_visit``: how often and when first it met each state; ``layout``: which state lies where in a
    picture, if there is one; and what ``further`` holds for the run.
    """
    met: dict[str, np.ndarray] = {}
    if meter is not None and meter.cells is not None:
        met = {"visits": meter.visits.cpu().numpy(), "first_visit": meter.first_visit.cpu().numpy()}
    for i, cell in enumerate(cells):
        tables = (dict(further[i]) if further else {}) | {name: rows[i] for name, rows in met.items()}
        if meter is not None and meter.cells is not None and meter.cells.layout is not None:
            tables["layout"] = meter.cells.layout
        if tables:
            np.savez_compressed(cell.directory / "exploration.npz", allow_pickle=False, **tables)


def finish(
    ended: Sequence[tuple[Cell, Recorder, Mapping[str, float]]], max_entropy: float | None
) -> list[dict[str, Any]]:
    """Draw the figures of runs and write their summaries: each is its last row and what it was made with.

    Args:
        ended: what was trained, its recorder, which is closed afterwards, and its last row, of each run.
        max_entropy: nats of the uniform policy; None for continuous actions.
    """
    from entropic_rl.plots import RunFigures

    figures = RunFigures(max_entropy)
    found = []
    for cell, recorder, row in ended:
        run, ent_coef = cell.run, getattr(cell.config, "ent_coef", None)  # not every agent of others has one
        coefficient = "" if ent_coef is None else f", ent_coef {ent_coef}"
        title = f"{run.env}{coefficient}, seed {run.seed}"
        figures.draw(read_metrics(cell.directory), cell.directory, title=title)
        result = {
            **row,
            "global_step": int(row["global_step"]),
            "env": run.env,
            "seed": run.seed,
            "ent_coef": ent_coef,
            "success_return": run.success_return,
            "eval/episodes": run.eval_episodes,
            "explore/max_entropy": max_entropy,
        }
        recorder.finish(result)
        found.append(result)
    return found
