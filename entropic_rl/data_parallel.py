"""One training in several processes that ``torchrun`` started: the first writes the record, the others help."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from entropic_rl.cell import Cell
from entropic_rl.errors import ConfigError, UserError
from entropic_rl.run_directory import CHECKPOINTS

if TYPE_CHECKING:
    from entropic_rl.ranks import Ranks

__all__ = ["follow", "is_joined", "joined", "on_device", "settle_for", "train_beside"]

_PATIENCE = timedelta(days=1)  # for a process that evaluates; one that has ended is noticed at once


def is_joined() -> bool:
    """Whether ``torchrun`` started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, as this one sees them."""
    import torch.distributed as dist

    from entropic_rl.ranks import Ranks

    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.group.WORLD, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def settle_for(cell: Cell, ranks: Ranks) -> Cell:
    """The cell as this process trains it.

    Raises:
        ConfigError: it cannot be divided between so many.
    """
    run = cell.run
    if run.n_envs % ranks.size:
        raise ConfigError(
            f"--n-envs: expected a multiple of the {ranks.size} processes of torchrun, got {run.n_envs}; each steps "
            "its share of them"
        )
    if run.diagnose:
        raise ConfigError("--diagnose watches whole gradient steps, of which torchrun's processes have parts; leave it")
    if run.kernel == "fused":
        raise ConfigError("--kernel fused takes whole steps, of which torchrun's processes have parts; leave it out")
    if run.cuda_graphs:
        raise ConfigError("--cuda-graphs records whole steps, in which torchrun's processes have to meet; leave it out")
    return replace(cell, run=replace(run, kernel="autograd", device=_device(run.device)))


def _device(name: str) -> str:
    """This process's own of the machine's GPUs."""
    import torch

    local, n_local = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if name == "cpu" or (name == "auto" and torch.cuda.device_count() < n_local):
        return "cpu"
    if name not in ("auto", "cuda", "cuda:0") or torch.cuda.device_count() < n_local:
        raise ConfigError(
            f"--device {name}: expected cuda, and a GPU for each of this machine's {n_local} processes, got "
            f"{torch.cuda.device_count()}; start fewer, or use --device cpu"
        )
    return f"cuda:{local}"


def on_device(ranks: Ranks, device: str) -> Ranks:
    """The same processes, exchanging numbers that lie on the device."""
    if device == "cpu":
        return ranks
    import torch
    import torch.distributed as dist

    from entropic_rl.ranks import Ranks

    torch.cuda.set_device(device)
    group = dist.new_group(backend="nccl", timeout=_PATIENCE, device_id=torch.device(device))
    return Ranks(group, ranks.number, ranks.size, device=device)


def train_beside(cell: Cell, ranks: Ranks, *, resume: bool) -> int:
    """What a process that is not the first does with the training that the first records."""
    import torch

    from entropic_rl.agents import agent_class
    from entropic_rl.allocation import keep_freed_memory
    from entropic_rl.interruption import EXIT_CODE, Stopped, stopping_on_signals

    keep_freed_memory()
    torch.set_num_threads(cell.run.num_threads)
    with stopping_on_signals(quiet=True) as stop:
        try:
            follow(agent_class(cell.agent), cell, ranks, resume=resume, should_stop=stop)
        except Stopped:
            return EXIT_CODE
    return 0


def follow(
    agent_class: Any,
    cell: Cell,
    ranks: Ranks,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> None:
    """Train beside the first process, which tells what there is to tell; checkpoints go beside its own.

    Raises:
        FollowerError: the training failed.
        Stopped: it was asked to.
    """
    from entropic_rl.checkpointing import Checkpointer
    from entropic_rl.interruption import Stopped
    from entropic_rl.ranks import FollowerError
    from entropic_rl.recording import log_interval, settle
    from entropic_rl.runs import fixed_settings, prepare
    from entropic_rl.training import Training

    cell = settle(cell)
    run = cell.run
    made = prepare(agent_class, [cell], ranks)
    agent, envs = made.agent, made.envs
    try:
        training = Training(
            agent,
            envs,
            total_timesteps=run.total_timesteps,
            seeds=[run.seed],
            log_interval=log_interval(run, agent.steps_per_update * run.n_envs),
            should_stop=ranks.stopping(should_stop),
        )
        checkpointer = Checkpointer(
            cell.directory / CHECKPOINTS / f"process-{ranks.number}",
            training,
            {},
            [],
            settings=[fixed_settings(cell, ranks)],
            every_updates=run.checkpoint_every,
            every_seconds=run.checkpoint_seconds,
            ranks=ranks,
        )
        training.between_updates = checkpointer.between_updates
        if resume:
            checkpointer.resume()
        for _ in training:
            pass
        checkpointer.save(kept=1)
    except Stopped:
        checkpointer.save()
        raise
    except UserError:
        raise FollowerError(2) from None
    finally:
        envs.close()
