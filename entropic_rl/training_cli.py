"""``train``: one training, and going on with one that was stopped or killed; free of torch until it trains."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.allocation import keep_freed_memory
from entropic_rl.cell import Cell, read_cell, settings_class
from entropic_rl.config import RunConfig, build, jsonable
from entropic_rl.data_parallel import is_joined
from entropic_rl.environments import import_gym_packages
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.flags import Parser, add_settings
from entropic_rl.interruption import EXIT_CODE, Stopped, stopping_on_signals
from entropic_rl.resolve import add_common_flags, check_device, check_environment, resolve, say_preset, show_config
from entropic_rl.run_directory import (
    CHECKPOINTS,
    check_links,
    check_run_directory,
    file_name,
    locked,
    read_json,
    write_json,
)
from entropic_rl.user_modules import is_user_agent

if TYPE_CHECKING:
    from entropic_rl.ranks import Ranks

__all__ = ["train"]

_CHANGEABLE = ("total_timesteps", "checkpoint_every", "checkpoint_seconds")  # when a run is resumed


def train(prog: str, arguments: Sequence[str]) -> int:
    """Train one agent and leave a run directory, or go on with one."""
    if is_joined():
        return _train_together(prog, arguments)
    asked = _asked(prog, arguments)
    return asked if isinstance(asked, int) else _train(prog, *asked, resume=_is_resuming(arguments))


def _is_resuming(arguments: Sequence[str]) -> bool:
    return any(word.split("=", 1)[0] == "--resume" for word in arguments)


def _train_together(prog: str, arguments: Sequence[str]) -> int:
    """The same in processes that ``torchrun`` started; the first one reads and writes as if it were alone."""
    from entropic_rl.data_parallel import joined, on_device, settle_for, train_beside

    def checked(ranks: Ranks) -> tuple[Cell, bool] | int:
        asked = _asked(prog, arguments)
        return asked if isinstance(asked, int) else (settle_for(asked[0], ranks), asked[1])

    with joined() as ranks:
        found = ranks.agree(lambda: checked(ranks))
        if isinstance(found, int):
            return found
        cell, progress = found
        cell = replace(cell, directory=Path(ranks.texts(str(cell.directory))[0]))  # a name may hold the time
        placed = on_device(ranks, cell.run.device)
        resume = _is_resuming(arguments)
        if placed.is_first:
            return _train(prog, cell, progress, resume=resume, ranks=placed)
        return train_beside(cell, placed, resume=resume)


def _asked(prog: str, arguments: Sequence[str]) -> tuple[Cell, bool] | int:
    """The training that the command line asks for, and whether to show progress; or that there is none to do."""
    if _is_resuming(arguments):
        return _asked_to_resume(prog, arguments)
    arguments = _agent_first(arguments)
    parser = _agent_parser(prog, [*AGENT_CONFIGS, *(word for word in arguments[:1] if is_user_agent(word))])
    for name, sub in parser.subparsers.items():
        sub.add_argument("--run-dir", type=Path, help="where the record goes [runs/ENV__AGENT__SEED__TIME]")
        add_common_flags(sub)
        add_settings(sub, RunConfig, "run")
        add_settings(sub, settings_class(name), f"{name} hyper-parameters")
    args = parser.parse(arguments)
    run, config = resolve(args.agent, args)
    if args.show_config:
        return show_config(args.agent, run, config)
    directory = args.run_dir or _default_directory(args.agent, run)
    check_run_directory(directory)
    check_environment(run, config)
    check_device(run.device)
    say_preset(args, run)
    return Cell(args.agent, run, config, directory), args.progress


def _asked_to_resume(prog: str, arguments: Sequence[str]) -> tuple[Cell, bool]:
    """A run directory to go on with from its newest checkpoint, with the settings that it has."""
    parser = Parser(
        prog=prog,
        description="Go on with a training that was stopped or killed, from its newest checkpoint: the result has the "
        "same bits as if nothing had happened. All settings are those of the run; a finished run trains on with a "
        "larger --total-timesteps.",
    )
    parser.add_argument("--resume", type=Path, required=True, metavar="RUN_DIR", help="the run directory")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")
    add_settings(
        parser, RunConfig, "run, where other than before", skip=set(jsonable(RunConfig(env="-"))) - {*_CHANGEABLE}
    )
    try:
        args = parser.parse(arguments)
    except ConfigError as error:
        allowed = ", ".join("--" + name.replace("_", "-") for name in _CHANGEABLE)
        raise ConfigError(f"{error}; beside --resume RUN_DIR, whose settings count, only {allowed} may stand") from None
    cell = read_cell(args.resume)
    check_links(args.resume)
    changed = {name: getattr(args, name) for name in _CHANGEABLE if hasattr(args, name)}
    run = build(RunConfig, jsonable(cell.run) | changed)
    if run.total_timesteps < cell.run.total_timesteps:
        raise ConfigError(
            f"--total-timesteps: expected at least the run's {cell.run.total_timesteps}, got {run.total_timesteps}; a "
            "shorter training has other schedules: train anew"
        )
    import_gym_packages(run.gym_packages)
    finished = args.resume / "summary.json"
    if finished.exists():
        done = int(read_json(finished)["global_step"])
        if run.total_timesteps <= done:
            raise RunDirectoryError(
                f"{args.resume} has finished its {done:,} env steps: expected a run that has not, or a larger "
                "--total-timesteps"
            )
        if not (args.resume / CHECKPOINTS).is_dir():
            raise RunDirectoryError(
                f"{args.resume} has finished and holds no checkpoint to go on from: expected one; train anew with "
                f"--total-timesteps {run.total_timesteps}"
            )
    check_device(run.device)
    return replace(cell, run=run), args.progress


def _train(prog: str, cell: Cell, progress: bool, *, resume: bool = False, ranks: Ranks | None = None) -> int:
    import torch

    from entropic_rl.agents import agent_class
    from entropic_rl.progress import ProgressReport, print_summary
    from entropic_rl.ranks import ALONE
    from entropic_rl.runs import train_cells

    run, directory = cell.run, cell.directory
    keep_freed_memory()
    torch.set_num_threads(run.num_threads)
    with (
        locked(directory),
        stopping_on_signals() as stop,
        ProgressReport(run.total_timesteps, f"{cell.agent} {run.env}", enabled=progress) as report,
    ):
        if resume:
            _note_settings(cell)
        try:
            [summary] = train_cells(
                agent_class(cell.agent),
                [cell],
                report,
                checkpoints=directory / CHECKPOINTS,
                resume=resume,
                extendable=True,
                should_stop=stop,
                ranks=ranks or ALONE,
            )
        except Stopped:
            has_checkpoint = (directory / CHECKPOINTS).is_dir()
            on = (
                f"go on with: {prog} --resume {directory}" if has_checkpoint else "it wrote no checkpoint to go on from"
            )
            print(f"{prog}: stopped by {stop.signal}; {on}", file=sys.stderr)
            return EXIT_CODE
    print_summary(summary, directory)
    if run.diagnose:
        from entropic_rl.diagnosis import sentences

        print("gradient flow:", *sentences(directory), sep="\n  ")
    return 0


def _note_settings(cell: Cell) -> None:
    """``config.json`` says how long the training is to be now; a summary of before is none of the longer one."""
    path = cell.directory / "config.json"
    stored = read_json(path)
    settings = jsonable(cell.run)
    if any(stored.get(name) != settings[name] for name in _CHANGEABLE):
        write_json(path, stored | settings)
        (cell.directory / "summary.json").unlink(missing_ok=True)


def _agent_first(arguments: Sequence[str]) -> list[str]:
    """``--agent NAME``, wherever it stands, as the first word."""
    words = list(arguments)
    if "--agent" not in words[:-1]:
        return words
    at = words.index("--agent")
    return [words[at + 1], *words[:at], *words[at + 2 :]]


def _agent_parser(prog: str, agents: Sequence[str]) -> Parser:
    """A parser with one sub-parser per agent, so that ``VERB AGENT --help`` shows that agent's own flags."""
    description = "Train an actor-critic agent with an entropy term on a Gymnasium environment."
    parser = Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""example: {prog} ppo --env CartPole-v1 --ent-coef 0.01
{prog} ppo --help lists every setting; MODULE:CLASS is an agent of your own
{prog} --resume RUN_DIR goes on with a training that was stopped (Ctrl-C, SIGTERM, SIGUSR1: exit code 75) or killed""",
    )
    choices = parser.add_subparsers(dest="agent", required=True, metavar="AGENT", parser_class=Parser)
    parser.subparsers = {
        name: choices.add_parser(name, help=str(cls.__doc__), description=f"{description} {cls.__doc__}")
        for name, cls in ((agent, settings_class(agent)) for agent in agents)
    }
    return parser


def _default_directory(agent: str, run: RunConfig) -> Path:
    name = f"{run.env}__{agent.replace(':', '.')}__{run.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    return Path("runs") / file_name(name)
