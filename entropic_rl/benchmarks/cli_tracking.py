"""Command line of the measurement of what tracking costs."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parser."""
    tracking = choices.add_parser("tracking", help="what --track adds to a whole training, by what the server does")
    tracking.add_argument("--cases", nargs="+", metavar="NAME", help="disabled, offline, or what a server does [all]")
    tracking.add_argument("--total-timesteps", type=int, default=60_000, metavar="N", help="of each training [60000]")
    tracking.add_argument("--rounds", type=int, default=3, metavar="N", help="trainings of each, in turn [3]")


def _tracking(args: Namespace) -> int:
    from entropic_rl.benchmarks.tracking import CASES, table

    cases = args.cases or list(CASES)
    unknown = [case for case in cases if case not in CASES]
    if unknown:
        raise ConfigError(f"--cases: expected some of {', '.join(CASES)}, got {unknown[0]!r}")
    if min(args.rounds, args.total_timesteps) < 1:
        raise ConfigError("--rounds and --total-timesteps: expected at least 1")
    print(
        "| Weights & Biases | seconds, median | added, rounds | CPU of the training itself | rows | warnings | exit |"
    )
    print("|" + " --- |" * 7)
    print(table(cases, args.total_timesteps, args.rounds))
    return 0


MEASUREMENTS = {"tracking": _tracking}
