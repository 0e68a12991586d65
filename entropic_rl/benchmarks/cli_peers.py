"""Command line of the measurements beside other toolkits, and over sizes."""

from __future__ import annotations

from argparse import Namespace
from itertools import chain
from pathlib import Path
from typing import Any

from entropic_rl.benchmarks.peers.tasks import PEERS, TASKS, choose_peers
from entropic_rl.config import RunConfig, field_docs
from entropic_rl.errors import ConfigError
from entropic_rl.flags import add_settings, given

__all__ = ["MEASUREMENTS", "add"]

_SIZES = {
    "runs": [1, 4, 16, 64, 256, 1024],
    "widths": [32, 64, 128, 256, 512],
    "envs": [1, 2, 4, 8, 16, 32, 64],
}


def add(choices: Any) -> None:
    """Add the parsers."""
    peers = choices.add_parser("peers", help="this toolkit beside others on equal tasks, in turn: speed, memory, start")
    peers.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS), metavar="NAME",
                       help=f"of {', '.join(TASKS)} [all]")  # fmt: skip
    peers.add_argument("--peers", nargs="+", choices=tuple(PEERS), metavar="NAME",
                       help=f"of {', '.join(PEERS)}; ours is always there [all that are installed]")  # fmt: skip
    peers.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each [3]")
    peers.add_argument("--write", type=Path, metavar="FILE", help="page whose tables are replaced, docs/peers.md")
    _add_own(peers)
    scaling = choices.add_parser(
        "scaling", help="speed and memory of PPO over runs, network width, environments per run"
    )
    for axis, sizes in _SIZES.items():
        scaling.add_argument(f"--{axis}", nargs="*", type=int, default=sizes, metavar="N",
                             help=f"sizes; none leaves the table out [{' '.join(map(str, sizes))}]")  # fmt: skip
    scaling.add_argument("--batch", type=int, default=16, metavar="N", help="runs, where they do not vary [16]")
    scaling.add_argument("--rounds", type=int, default=3, metavar="N", help="trainings of each size [3]")
    _add_own(scaling)


def _add_own(parser: Any) -> None:
    """Flags of the few settings of runs that a measurement leaves open."""
    add_settings(parser, RunConfig, "run", skip=set(field_docs(RunConfig)) - {"kernel", "total_timesteps"})


def _peers(args: Namespace) -> int:
    if args.rounds < 1:
        raise ConfigError(f"--rounds: expected at least 1, got {args.rounds}")
    chosen, missing = choose_peers(args.peers)
    from entropic_rl.benchmarks.peers import report

    own = given(args, RunConfig)
    for name in args.tasks:
        TASKS[name].job(own, seed=0)  # checked before anything is measured
    if args.write:
        report.check_page(args.write)
    if missing:
        print(missing)
    text = report.measure(args.tasks, chosen, args.rounds, own)
    if args.write:
        report.write(args.write, text)
    return 0


def _scaling(args: Namespace) -> int:
    chosen = {axis: getattr(args, axis) for axis in _SIZES}
    if min([args.batch, args.rounds, *chain.from_iterable(chosen.values())]) < 1:
        raise ConfigError("--runs, --widths, --envs, --batch and --rounds: expected at least 1")
    from entropic_rl.benchmarks.peers.rounds import make_machine_code
    from entropic_rl.benchmarks.scaling import scaling_table

    print(f"{make_machine_code(given(args, RunConfig))}\n", flush=True)
    for axis, sizes in chosen.items():
        for line in scaling_table(axis, sizes, args.batch, args.rounds, given(args, RunConfig)) if sizes else ():
            print(line, flush=True)
        print()
    return 0


MEASUREMENTS = {"peers": _peers, "scaling": _scaling}
