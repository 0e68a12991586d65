"""From settings to run directories: R cells trained as one batch, recorded, evaluated, drawn; one run is R = 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from entropic_rl.agents.config import action_head
from entropic_rl.cell import Cell
from entropic_rl.checkpointing import Checkpointer
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.cuda_graphs import CudaGraph, Iterations, check_capturable
from entropic_rl.devices import load_device
from entropic_rl.diagnosis import Diagnosis, Undiagnosed
from entropic_rl.environments import make_vector_env
from entropic_rl.episode_tape import EpisodeTape
from entropic_rl.errors import ConfigError
from entropic_rl.evidence import save_evidence
from entropic_rl.examining import Examiner
from entropic_rl.exploration import ExplorationMeter
from entropic_rl.health import Evidence
from entropic_rl.interruption import Stopped
from entropic_rl.kernels import Kernel, evaluated_by, note_compilation, threads_for, use_bf16, use_kernel
from entropic_rl.policies import ActorCritic
from entropic_rl.policy_files import save_policy
from entropic_rl.ranks import ALONE, Ranks
from entropic_rl.recording import finish, log_interval, make_meter, open_recorder, save_tables, settle
from entropic_rl.run_directory import FAILED, OFFENDING, write_json
from entropic_rl.shared_envs import share
from entropic_rl.spaces import ActionSpec, observation_spec
from entropic_rl.tracking import Recorder
from entropic_rl.training import Agent, Record, Training
from entropic_rl.vector import EnvBatch

__all__ = ["Report", "fixed_settings", "prepare", "train_cells"]


class Report(Protocol):
    """Whoever wants to know how training goes."""

    def update(self, global_step: int, rows: Sequence[dict[str, float]]) -> None:
        """The runs' metrics after so many env steps each."""

    def note(self, text: str) -> None:
        """What is going on while nothing moves."""


def train_cells(
    agent_class: Any,
    cells: Sequence[Cell],
    report: Report | None = None,
    *,
    job_type: str = "train",
    checkpoints: Path | None = None,
    resume: bool = False,
    extendable: bool = False,
    should_stop: Callable[[], bool] | None = None,
    ranks: Ranks = ALONE,
) -> list[dict[str, Any]]:
    """Train all cells together, write each one's run directory, and return their summaries.

    Args:
        agent_class: of all cells.
        cells: they may differ in seed and in the agent's batchable fields; everything else must agree.
        report: told of every row, if given.
        job_type: of the runs in Weights & Biases.
        checkpoints: folder of the states that a training can go on from; None writes none.
        resume: go on from the newest of them; from the beginning if there is none yet.
        extendable: write one at the end, too, from which a longer training could go on.
        should_stop: asked after every env step, if given.
        ranks: processes that learn the same, of which this is the first.

    Raises:
        ConfigError: the cells differ in a structural field.
        EnvError: the environment cannot be made or has an unsupported space.
        NumbersError: the numbers of no run are finite any more; where only some runs' are not, these end with
            ``failed.json``, and without a summary.
        RunDirectoryError: there is no room on the disk, or what is there is of another training.
        Stopped: it was asked to; a checkpoint and the policies of now are written.
    """
    _check_batchable(cells)
    cells = [settle(cell) for cell in cells]
    run, set_up = cells[0].run, prepare(agent_class, cells, ranks)
    agent, envs, policy = set_up.agent, set_up.envs, set_up.agent.policy
    cells = [replace(cell, run=replace(cell.run, kernel=set_up.kernel)) for cell in cells]
    with ExitStack() as stack:
        stack.callback(envs.close)
        examiner = Examiner(policy, cells, set_up.make_envs, envs, evaluated_by(set_up.kernel, policy))
        recorders = [open_recorder(cell, job_type, resume=resume) for cell in cells]
        for recorder in recorders:
            stack.callback(recorder.close, exit_code=1)  # nothing, where it has finished
        stack.enter_context(threads_for(set_up.kernel))
        training = _training(set_up, cells, ranks, should_stop)
        checkpointer = Checkpointer(
            checkpoints,
            training,
            {"examiner": examiner},
            recorders,
            settings=[fixed_settings(cell, ranks) for cell in cells],
            every_updates=run.checkpoint_every,
            every_seconds=run.checkpoint_seconds,
            ranks=ranks,
        )
        training.between_updates = checkpointer.between_updates
        try:
            if resume and (step := checkpointer.resume()) is not None and report is not None:
                report.note(f"resumed at {step:,} env steps")
            if set_up.kernel == "fused" and report is not None:
                note_compilation(agent, report.note)
            for broken in training.broken.items():  # before it was stopped
                _note_broken(cells, *broken)
            last = _follow(training, examiner, recorders, set_up.diagnosis, report)
            save_tables(cells, set_up.meter, examiner.tables())
            _save_policies(policy, cells)
            set_up.diagnosis.save()
            summaries = _summaries(training, cells, recorders, last, policy.action.max_entropy)
            if extendable:
                checkpointer.save(kept=1)
            return summaries
        except Stopped:
            checkpointer.save()
            _save_policies(policy, cells)
            raise
        except KeyboardInterrupt:  # what was learned so far is kept
            _save_policies(policy, cells)
            raise


def _training(set_up: SetUp, cells: Sequence[Cell], ranks: Ranks, should_stop: Callable[[], bool] | None) -> Training:
    """The training of the cells, which has not begun."""
    run, agent = cells[0].run, set_up.agent
    training = Training(
        agent,
        set_up.envs,
        total_timesteps=run.total_timesteps,
        seeds=[cell.run.seed for cell in cells],
        log_interval=log_interval(run, agent.steps_per_update * run.n_envs),
        meter=set_up.meter,
        on_update=set_up.diagnosis.at,
        should_stop=ranks.stopping(should_stop),
        on_broken=partial(_note_broken, cells),
        keep=partial(_keep, cells, agent.policy) if ranks.size == 1 else None,
    )
    if run.cuda_graphs:
        training.iterations = Iterations(agent, set_up.envs, CudaGraph(load_device(run.device)))
    return training


def _summaries(
    training: Training,
    cells: Sequence[Cell],
    recorders: Sequence[Recorder],
    last: Record,
    max_entropy: float | None,
) -> list[dict[str, Any]]:
    """Those of the runs that were not broken, which are ended."""
    ended = [run for i, run in enumerate(zip(cells, recorders, last.rows, strict=True)) if i not in training.broken]
    found = finish(ended, max_entropy)
    for cell, *_ in ended:
        for old in (FAILED, OFFENDING):  # of before it was mended and resumed
            (cell.directory / old).unlink(missing_ok=True)
    return found


def fixed_settings(cell: Cell, ranks: Ranks) -> dict[str, Any]:
    """Those that a training cannot go on with others of."""
    decisive = ("env", "env_kwargs", "env_wrappers", "env_backend", "n_envs", "seed", "frame_stack")
    divided = {} if ranks.size == 1 else {"processes": ranks.size}
    return {"agent": cell.agent, **{name: cell.value(name) for name in decisive}, **divided, **jsonable(cell.config)}


def _note_broken(cells: Sequence[Cell], run: int, why: str) -> None:
    """Why a run did not finish, in its directory."""
    write_json(cells[run].directory / FAILED, {"error": why})


def _keep(cells: Sequence[Cell], policy: ActorCritic, run: int, evidence: Evidence) -> bool:
    """What a run broke on, in its directory."""
    settings = {name: part for name, part in cells[run].to_json().items() if name != "directory"}
    return save_evidence(evidence, settings, policy, cells[run].directory)


def _follow(
    training: Training,
    examiner: Examiner,
    recorders: Sequence[Recorder],
    diagnosis: Diagnosis | Undiagnosed,
    report: Report | None,
) -> Record:
    """Train to the end, examining, recording and reporting on the way; the last record."""
    for record in training:
        if examiner.is_due(record):
            if report is not None:
                report.note("evaluating")
            for row, found in zip(record.rows, examiner(record.rows), strict=True):
                row.update(found)
        for i, (recorder, row) in enumerate(zip(recorders, record.rows, strict=True)):
            if i not in training.broken:
                recorder.log({**row, **diagnosis.row(i)})
        if report is not None:
            report.update(record.global_step, record.rows)
    return record


def _save_policies(policy: ActorCritic, cells: Sequence[Cell]) -> None:
    """Every run's in its directory."""
    for i, cell in enumerate(cells):
        save_policy(policy, i, cell.directory)


class SetUp(NamedTuple):
    """What makes environments of cells, these, meter, agent, its watcher, and what it computes by."""

    make_envs: Any
    envs: EnvBatch
    meter: ExplorationMeter | None
    agent: Agent
    diagnosis: Diagnosis | Undiagnosed
    kernel: Kernel


def prepare(agent_class: Any, cells: Sequence[Cell], ranks: Ranks = ALONE) -> SetUp:
    """What the cells are trained with.

    Raises:
        UserError: a part cannot be made, in any of the processes.
    """
    return ranks.agree(lambda: _set_up(agent_class, cells, ranks))


def _set_up(agent_class: Any, cells: Sequence[Cell], ranks: Ranks) -> SetUp:
    """The same of one process; if a part cannot be made, nothing is left open."""
    run, config = cells[0].run, cells[0].config
    device = load_device(run.device)
    make_envs = partial(
        make_vector_env,
        run.env,
        kwargs=run.env_kwargs,
        backend=run.env_backend,
        wrappers=run.env_wrappers,
        device=device,
        timeout=run.env_timeout,
    )
    wrap = None if run.env_backend == "batched" else EpisodeTape  # which keeps its state by itself
    vector_env = make_envs(len(cells) * run.n_envs // ranks.size, wrap=wrap)
    try:
        observation = observation_spec(vector_env.single_observation_space).stacked(run.frame_stack)
        action = action_head(config, vector_env.single_action_space)
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
            observation=observation,
            action=action,
            n_envs=run.n_envs,
            device=device,
        )
        envs = share(envs, agent, ranks, success_return=run.success_return)
        kernel = use_kernel(agent, envs, run)
        use_bf16(agent, run)
        if run.cuda_graphs:
            check_capturable(agent, envs, run, device)
        diagnosis = Diagnosis(agent, cells) if run.diagnose else Undiagnosed()
        return SetUp(make_envs, envs, _make_meter(run, envs, action, device), agent, diagnosis, kernel)
    except BaseException:
        vector_env.close()
        raise


def _make_meter(run: RunConfig, envs: EnvBatch, action: ActionSpec, device: torch.device) -> ExplorationMeter | None:
    space, metadata = envs.env.single_observation_space, envs.env.metadata
    return make_meter(run, space, metadata, n_runs=envs.n_runs, action=action, device=device)


def _check_batchable(cells: Sequence[Cell]) -> None:
    free = {*cells[0].config.BATCHABLE}
    for field in fields(cells[0].config):
        values = {getattr(cell.config, field.name) for cell in cells}
        if len(values) > 1 and field.name not in free:
            raise ConfigError(f"{field.name} differs between runs of one batch: {sorted(map(str, values))}")
