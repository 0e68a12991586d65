"""Command line of the plan of many runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parser."""
    cost = choices.add_parser("cost", help="what many runs would take, from a comparison that has finished")
    cost.add_argument("directory", type=Path, metavar="DIR", help="its --out")
    cost.add_argument("--runs", type=int, default=1_000_000, metavar="N", help="how many [1000000]")


def _cost(args: Namespace) -> int:
    if args.runs < 1:
        raise ConfigError(f"--runs: expected at least 1, got {args.runs}")
    from entropic_rl.benchmarks.cost import cost_table

    print(cost_table(args.directory, args.runs))
    return 0


MEASUREMENTS = {"cost": _cost}
