"""Training what a comparison still lacks, and keeping account of it; free of torch."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from entropic_rl.cell import Cell
from entropic_rl.compare.engines import Engine, opened
from entropic_rl.compare.grid import Plan
from entropic_rl.compare.jobs import Job, Parallel, make_jobs
from entropic_rl.compare.memory import available_memory, estimate_batch, n_cores
from entropic_rl.compare.pool import Ended, run_jobs
from entropic_rl.compare.unfinished import forget, noted, unfinished
from entropic_rl.environments import import_gym_packages, make_env
from entropic_rl.errors import UserError
from entropic_rl.progress import GridProgress
from entropic_rl.run_directory import FAILED, OFFENDING, read_json, write_json
from entropic_rl.spaces import action_spec, observation_spec

__all__ = ["FAILED", "SESSIONS", "Means", "Refused", "execute", "pending"]

SESSIONS = "sessions.jsonl"
_SHARE = 0.8  # of the free memory that is used


class Refused(UserError):  # noqa: N818 - what happened, not that it is an error, matters to whoever catches it
    """Nothing could be trained for a reason the user can mend: there is nothing to keep."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a comparison may use.

    Attributes:
        parallel: how cells are spread over processes.
        n_workers: processes at a time; None for one per core, and one where there is a GPU to share.
        progress: whether to show how it goes.
        engine: where jobs are trained, one of ``engines.ENGINES``.
        options: all options of that engine.
    """

    parallel: Parallel = "auto"
    n_workers: int | None = None
    progress: bool = True
    engine: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)


def pending(plan: Plan, out: Path) -> list[Cell]:
    """Cells of the plan that have not finished."""
    return [cell for cell in plan.cells(out) if not (cell.directory / "summary.json").exists()]


def execute(plan: Plan, out: Path, means: Means) -> int:
    """Train every cell that has not finished; returns how many failed.

    Finished cells stay as they are, what was stopped or killed goes on from its checkpoint, a failed one keeps
    ``failed.json`` with the reason until it is tried again.

    Raises:
        Stopped: a signal asked for it.
        Refused: nothing could be trained, not even for a while, for a reason the user can mend.
        UserError: nothing finished, for other reasons.
    """
    group = out.absolute().name
    cells = [_in_group(cell, group) for cell in pending(plan, out)]
    if not cells:
        return 0
    with ExitStack() as stack:
        try:
            engine = stack.enter_context(opened(means.engine, means.options, out))
        except UserError as error:
            raise Refused(str(error)) from None
        return _execute(plan, out, means, cells, engine)


def _execute(plan: Plan, out: Path, means: Means, cells: list[Cell], engine: Engine | None) -> int:
    """Train the cells that have not finished; returns how many failed."""
    group, started = out.absolute().name, time.perf_counter()
    try:
        n_workers, memory = _capacity(cells, means) if engine is None else engine.capacity(means.n_workers)
        begun = _begun(plan, out, group, anew=means.parallel != "auto")
        together = {cell.directory for job in begun for cell in job.cells}
        fresh = [cell for cell in cells if cell.directory not in together]
        jobs = make_jobs(fresh, _estimate, parallel=means.parallel, n_workers=n_workers, memory=memory)
    except UserError as error:
        raise Refused(str(error)) from None
    for cell in fresh:
        shutil.rmtree(cell.directory, ignore_errors=True)
    for directory in together:
        for old in (FAILED, OFFENDING):
            (directory / old).unlink(missing_ok=True)
    jobs = [*begun, *(noted(job, out) for job in jobs)]
    cells = [cell for job in jobs for cell in job.cells]
    groups = [plan.group(cell) for cell in cells]
    agents = "+".join(dict.fromkeys(cell.agent for cell in cells))
    envs = ", ".join(dict.fromkeys(cell.run.env for cell in cells))
    number = {cell.directory: i for i, cell in enumerate(cells)}
    totals = [cell.run.total_timesteps for cell in cells]
    header = ", ".join(plan.varying)
    with GridProgress(groups, totals, f"{agents} {envs} x {len(cells)} runs", header, enabled=means.progress) as shown:

        def tell(job: Job, event: Mapping[str, Any]) -> None:
            runs = [number[cell.directory] for cell in job.cells]
            if "rows" in event:
                shown.update(runs[: len(event["rows"])], event["rows"])
            else:
                shown.note(runs, event["note"])

        train = run_jobs if engine is None else engine.run_jobs
        ended = train(jobs, n_workers, job_type="train", tell=tell)
    for job, end in zip(jobs, ended, strict=True):
        if end.error is None:
            forget(job)
    failures = _note_failures(jobs, ended)
    _write_session(out, jobs, ended, n_workers, engine=means.engine, seconds=time.perf_counter() - started)
    n_failed = sum(map(len, failures.values()))
    if n_failed == len(plan.cells(out)):
        if any(_has_begun(job) for job in jobs):
            raise UserError(f"{'; '.join(failures)}; what is recorded is kept; go on with: resume {out}")
        kind = Refused if all(end.users for end in ended) else UserError
        raise kind("; ".join(failures))
    for reason, names in failures.items():
        first = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
        print(f"{len(names)} runs failed ({first}): {reason}", file=sys.stderr)
    return n_failed


def _has_begun(job: Job) -> bool:
    """Whether there is a record or a checkpoint of any of its cells."""
    records = [cell.directory / "metrics.jsonl" for cell in job.cells]
    kept = job.checkpoints is not None and any(job.checkpoints.glob("*/manifest.json"))
    return kept or any(path.exists() and path.stat().st_size > 0 for path in records)


def _begun(plan: Plan, out: Path, group: str, *, anew: bool) -> list[Job]:
    """Jobs to go on with; none if everything is to be dealt out ``anew``."""
    begun = unfinished(plan.cells(out), out)
    if anew:
        for job in begun:
            forget(job)
        return []
    settled = [replace(job, cells=tuple(_in_group(cell, group) for cell in job.cells)) for job in begun]
    return [replace(job, memory=_estimate(job.cells)) for job in settled]


def _in_group(cell: Cell, group: str) -> Cell:
    """The cell with the comparison's group in Weights & Biases, if it has none of its own."""
    return replace(cell, run=replace(cell.run, wandb_group=cell.run.wandb_group or group))


def _capacity(cells: Sequence[Cell], means: Means) -> tuple[int, int]:
    """Processes of this machine at a time, and bytes for all of them."""
    memory = int(_SHARE * available_memory())
    return means.n_workers or _default_workers(cells, means.parallel, memory), memory


def _default_workers(cells: Sequence[Cell], parallel: Parallel, memory: int) -> int:
    """One process per core, if a run fits into the memory of each; one where there is a GPU to share."""
    if parallel == "batch" or _on_gpu(cells[0].run.device):
        return 1
    return max(1, min(n_cores(), memory // max(_estimate([cell]) for cell in _one_of_each(cells))))


def _one_of_each(cells: Sequence[Cell]) -> list[Cell]:
    """A cell of every group: runs that differ by their seed take the same memory."""
    return list({replace(cell.run, seed=0).__repr__() + repr(cell.config): cell for cell in cells}.values())


def _note_failures(jobs: Sequence[Job], ended: Sequence[Ended]) -> dict[str, list[str]]:
    """Write down which cells did not finish, and why; returns their names by reason."""
    failures: dict[str, list[str]] = {}
    for job, end in zip(jobs, ended, strict=True):
        for cell in job.cells:
            if not (cell.directory / "summary.json").exists():
                said = cell.directory / FAILED  # by the training itself
                error = read_json(said)["error"] if said.exists() else end.error or "it left no summary"
                cell.directory.mkdir(parents=True, exist_ok=True)
                write_json(cell.directory / FAILED, {"error": error})
                failures.setdefault(error, []).append(cell.directory.name)
    return failures


def _write_session(
    out: Path, jobs: Sequence[Job], ended: Sequence[Ended], n_workers: int, *, engine: str, seconds: float
) -> None:
    """One line of what was trained and what it took."""
    peaks = [end.peak for end in ended]
    cells = [cell for job in jobs for cell in job.cells]
    session = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds)),
        "seconds": seconds,
        "n_cells": len(cells),
        "env_steps": sum(cell.run.total_timesteps for cell in cells),
        "engine": engine,
        "n_workers": n_workers,
        "batches": [len(job.cells) for job in jobs],
        "memory_estimate": _together([job.memory for job in jobs], n_workers),
        "memory_peak": None if None in peaks else _together([peak or 0 for peak in peaks], n_workers),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
    with (out / SESSIONS).open("a") as file:
        file.write(json.dumps(session) + "\n")


def _together(memory: Sequence[int], n_workers: int) -> int:
    """The most that as many processes as run at a time hold together."""
    return sum(sorted(memory, reverse=True)[:n_workers])


def _estimate(cells: Sequence[Cell]) -> int:
    run, config = cells[0].run, cells[0].config
    import_gym_packages(run.gym_packages)
    env = make_env(run.env, run.env_kwargs, wrappers=run.env_wrappers)
    try:
        action = action_spec(env.action_space, squash_output=getattr(config, "squash_output", False))
        return estimate_batch(cells, observation_spec(env.observation_space).stacked(run.frame_stack), action)
    finally:
        env.close()


def _on_gpu(device: str) -> bool:
    if device == "auto":
        import torch

        return torch.cuda.is_available()
    return device.startswith("cuda")
