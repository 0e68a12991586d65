"""``compare``: a grid of settings x seeds, its continuation, and its report; free of torch."""

from __future__ import annotations

import itertools
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.cell import settings_class
from entropic_rl.compare.engines import read_options
from entropic_rl.compare.execute import Means, Refused, execute, pending
from entropic_rl.compare.grid import FILE, Plan, make_plan, read_plan
from entropic_rl.config import RunConfig, field_docs, load_yaml
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.flags import Parser, add_settings, given
from entropic_rl.interruption import EXIT_CODE, Stopped, raising_on_signals
from entropic_rl.resolve import add_common_flags, check_device, check_environment, preset_for, show_config
from entropic_rl.run_directory import check_run_directory, locked

__all__ = ["compare"]

_DESCRIPTION = "Compare exploration across entropy coefficients, or any other settings: every setting with every seed."
_USAGE = """%(prog)s AGENT [AGENT ...] --env ID --ent-coef X X ... --seeds N --out DIR [settings]
       %(prog)s resume DIR     train what is missing or failed, and report
       %(prog)s add DIR ...    more seeds or values, without training again what is there
       %(prog)s summary DIR    the report again, from what is there"""
_EPILOG = """agents: ppo, a2c, sac, discrete-sac, soft-q; sb3:PPO, sb3:SAC ... for Stable-Baselines3's; MODULE:CLASS for
your own; several lie side by side.
A setting with several values is swept: --ent-coef 0 0.01 --gamma 0.9 0.99 makes four groups of runs.

example: %(prog)s ppo --env CartPole-v1 --ent-coef 0 0.01 0.1 --seeds 4 --out DIR   (%(prog)s ppo --help lists all)"""


def compare(prog: str, arguments: Sequence[str]) -> int:
    """Train a grid of settings x seeds and lay the results side by side; or go on with one."""
    if arguments and arguments[0] in _VERBS:
        return _VERBS[arguments[0]](f"{prog} {arguments[0]}", arguments[1:])
    agents, rest = _split_agents(arguments)
    if not agents:
        if {"-h", "--help"} & {*rest}:
            _general_parser(prog).parse(["--help"])
        raise ConfigError(
            f"AGENT is missing: expected one or more of {', '.join(AGENT_CONFIGS)}, sb3:ALGORITHM, MODULE:CLASS"
        )
    args = _agents_parser(prog, agents).parse(rest)
    plan = _plan(agents, args)
    first_run, first_config = next(iter(plan.bases.values()))
    if args.show_config:
        swept = {field: list(values) for field, values in plan.sweep.items() if field != "agent"}
        return show_config(agents[0], first_run, first_config, swept)
    if args.emit_wandb_sweep is not None:
        from entropic_rl.compare.wandb_sweep import write_sweep

        write_sweep(plan, args.emit_wandb_sweep)
        return 0
    _check_means(args)
    if args.out is None:
        raise ConfigError("--out is missing: give a new or empty directory, where everything goes")
    if (args.out / FILE).exists():
        raise RunDirectoryError(f"{args.out} holds a comparison already: {prog} resume {args.out} goes on with it")
    check_run_directory(args.out)
    _check(plan, args)
    _check_landscape(plan, args)
    if len(plan.seeds) < 2:
        print(f"{prog}: warning: one seed shows no spread; give --seeds 4 or more", file=sys.stderr)
    if args.progress and any(preset_for(agent, args.preset, env) for agent, env in plan.bases):
        print("starting from presets; --preset none for the plain defaults", file=sys.stderr)
    return _begin(prog, plan, args)


def resume(prog: str, arguments: Sequence[str]) -> int:
    """Go on with a comparison that was stopped, or in which runs failed."""
    parser = Parser(
        prog=prog, description="Train what a comparison lacks - runs not begun, interrupted, failed - and report."
    )
    _add_directory(parser)
    _add_means(parser)
    args = parser.parse(arguments)
    _check_means(args)
    plan = read_plan(args.out)
    if args.progress:
        print(f"{len(pending(plan, args.out))} of {len(plan.cells(args.out))} runs are missing", file=sys.stderr)
    return _train_and_report(prog, plan, args)


def add(prog: str, arguments: Sequence[str]) -> int:
    """Extend a comparison by seeds or by values of what it sweeps."""
    parser = Parser(
        prog=prog,
        description="Extend a comparison by seeds, or by values of what it sweeps (--ent-coef 0.3 1); what is there is "
        "not trained again.",
    )
    _add_directory(parser)
    parser.add_argument("--add-seeds", type=int, default=0, metavar="N", help="further seeds for every group")
    _add_means(parser)
    args, further = parser.parse_known_args(arguments)
    _check_means(args)
    read_plan(args.out)  # whether there is one
    sweep = _further_values(parser, further)
    if args.add_seeds < 0 or (args.add_seeds == 0 and not sweep):
        raise ConfigError("expected --add-seeds N with N >= 1, or further values such as --ent-coef 0.3; got neither")
    with locked(args.out):
        plan = read_plan(args.out).extended(sweep, args.add_seeds)
        _check(plan, args)
        plan.write(args.out)
    return _train_and_report(prog, plan, args)


def summary(prog: str, arguments: Sequence[str]) -> int:
    """Write and print the report of whatever has finished."""
    parser = Parser(prog=prog, description="Write the report of a comparison again and print its table.")
    _add_directory(parser)
    _add_analysis(parser)
    args = parser.parse(arguments)
    plan = read_plan(args.out)
    if args.threshold is not None:
        plan = replace(plan, threshold=args.threshold)
    if args.baseline is not None:
        plan = replace(plan, baseline=args.baseline).checked()
    _check_landscape(plan, args)
    _report(plan, args.out, landscape=args.landscape)
    return 0


_VERBS: dict[str, Callable[[str, Sequence[str]], int]] = {"resume": resume, "add": add, "summary": summary}


def _begin(prog: str, plan: Plan, args: Namespace) -> int:
    """Train a new comparison; if nothing could be, for a reason the user can mend, nothing is left."""
    existed = args.out.exists()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        plan.write(args.out)
    except OSError as error:
        raise RunDirectoryError(f"--out: cannot make {args.out}: {error.strerror}; choose another") from None
    try:
        return _train_and_report(prog, plan, args)
    except Refused:
        for path in args.out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            args.out.rmdir()
        raise


def _train_and_report(prog: str, plan: Plan, args: Namespace) -> int:
    kept = f"{prog.split(' ', maxsplit=1)[0]}: what finished is kept; go on with: resume {args.out}"
    try:
        with locked(args.out), raising_on_signals():
            options = read_options(args.engine, args.engine_option)
            means = Means(args.parallel, args.workers, args.progress, args.engine, options)
            # What draws the report is loaded while runs train.
            Thread(target=import_module, args=("entropic_rl.compare.report",), daemon=True).start()
            n_failed = execute(plan, args.out, means)
    except Stopped:
        print(f"{kept}; what was training goes on where it was", file=sys.stderr)
        return EXIT_CODE
    except KeyboardInterrupt:
        print(kept, file=sys.stderr)
        raise
    _report(plan, args.out, track=True, landscape=getattr(args, "landscape", False))
    return 1 if n_failed else 0


def _report(plan: Plan, out: Path, *, track: bool = False, landscape: bool = False) -> None:
    from entropic_rl.compare.report import print_report, read_report, track_report, write_report

    report = read_report(plan, out, landscape=landscape)
    write_report(report, out)
    print_report(report, out)
    if track:
        track_report(report, out)


def _split_agents(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Agents come first, or after ``--agent``."""
    agents = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    rest = list(arguments[len(agents) :])
    while "--agent" in rest:
        at = rest.index("--agent")
        named = list(itertools.takewhile(lambda word: not word.startswith("-"), rest[at + 1 :]))
        if not named:
            raise ConfigError("--agent: expected at least one agent, got none")
        agents += named
        del rest[at : at + 1 + len(named)]
    for agent in agents:
        settings_class(agent)  # refuses what is none
        if agents.count(agent) > 1:
            raise ConfigError(f"AGENT: expected different agents, got {agent} more than once")
    return agents, rest


def _general_parser(prog: str) -> Parser:
    from argparse import RawDescriptionHelpFormatter

    return Parser(
        prog=prog, usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG, formatter_class=RawDescriptionHelpFormatter
    )


def _agents_parser(prog: str, agents: Sequence[str]) -> Parser:
    """A parser of the flags that any of the agents has."""
    parser = Parser(prog=f"{prog} {' '.join(agents)}", description=_DESCRIPTION)
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="runs of each group: --seed, +1, ... [4]")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything goes; new or empty")
    parser.add_argument("--together", action="store_true", help="swept settings change together, first values with "
                        "first values, instead of in every combination")  # fmt: skip
    _add_analysis(parser)
    _add_means(parser)
    parser.add_argument("--emit-wandb-sweep", type=Path, metavar="FILE",
                        help="write the same grid as a Weights & Biases sweep, and stop")  # fmt: skip
    add_common_flags(parser)
    add_settings(parser, RunConfig, "run", several=True)
    known: set[str] = set()
    for agent in agents:
        cls = settings_class(agent)
        add_settings(parser, cls, f"{agent} hyper-parameters", skip=known, several=True)
        known |= {*field_docs(cls)}
    return parser


def _add_directory(parser: Parser) -> None:
    parser.add_argument("out", type=Path, metavar="DIR", help="the --out of the comparison")


def _add_means(parser: Parser) -> None:
    group = parser.add_argument_group("how it is trained")
    group.add_argument("--parallel", choices=("auto", "batch", "process"), default="auto",
                       help="batch: runs of one structure as one batch; process: a process per run; auto: batches "
                       "dealt out to the cores of a CPU, one batch on a GPU [auto]")  # fmt: skip
    group.add_argument("--workers", type=int, metavar="N",
                       help="processes at a time [one per core; on a GPU one; with ray as many as fit]")  # fmt: skip
    group.add_argument("--engine", default="local", metavar="NAME",
                       help="where: local, processes of this machine; ray; submitit, for Slurm [local]")  # fmt: skip
    group.add_argument("--engine-option", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="what the engine has to know; docs/scaling.md lists all")  # fmt: skip
    if "--no-progress" not in parser._option_string_actions and parser.prog.split()[-1] in _VERBS:
        group.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")


def _check_means(args: Namespace) -> None:
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers: expected at least 1, got {args.workers}")
    read_options(args.engine, args.engine_option)


def _add_analysis(parser: Parser) -> None:
    group = parser.add_argument_group("how it is read")
    group.add_argument("--threshold", type=float, metavar="X", help="return that counts as learned [the env's own]")
    group.add_argument("--baseline", metavar="GROUP",
                       help="group the others are compared with [coefficient 0, or the first]")  # fmt: skip
    group.add_argument("--landscape", action="store_true",
                       help="draw the objective around the policies, on environments that are batched")  # fmt: skip


def _plan(agents: Sequence[str], args: Namespace) -> Plan:
    """What the flags and the file ask for."""
    classes = [RunConfig, *map(settings_class, agents)]
    known = {name: text for cls in classes for name, text in field_docs(cls).items()}
    chosen = load_yaml(args.config, known) if args.config else {}
    for cls in classes:
        chosen |= given(args, cls)
    return make_plan(
        agents,
        chosen,
        n_seeds=args.seeds,
        preset_choice=args.preset,
        together=args.together,
        threshold=args.threshold,
        baseline=args.baseline,
    )


def _check(plan: Plan, args: Namespace) -> None:
    """Refuse before anything is written what would fail in every worker."""
    if plan.bases:
        for run, config in plan.bases.values():
            check_environment(run, config)
            if args.engine == "local":
                check_device(run.device)


def _check_landscape(plan: Plan, args: Namespace) -> None:
    if args.landscape:
        from entropic_rl.compare.landscape import check_landscape

        check_landscape(plan)


def _further_values(parser: Parser, words: Sequence[str]) -> dict[str, Any]:
    """``--ent-coef 0.3 1 --gamma .9`` as lists by setting."""
    sweep: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            field = flag.removeprefix("--").replace("-", "_")
            sweep[field] = [value] if value else []
        elif not sweep:
            parser.error(f"unknown argument {word!r}")
        else:
            sweep[field].append(word)
    for field, values in sweep.items():
        if not values:
            raise ConfigError(f"--{field.replace('_', '-')}: expected at least one value, got none")
    return sweep
