"""Command line of the measurements of studies."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    studies = choices.add_parser("studies", help="6 learning rates x seeds on digits, as one batch and one by one")
    studies.add_argument("--seeds", type=int, default=10, metavar="N", help="[10]")
    studies.add_argument("--epochs", type=int, default=5, metavar="N", help="[5]")
    studies.add_argument("--rounds", type=int, default=3, metavar="N", help="of both in turn [3]")
    studies.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="of torch [1 2]")


def _studies(args: Namespace) -> int:
    from entropic_rl.allocation import keep_freed_memory
    from entropic_rl.benchmarks.studies import SHAPES, digits, speed_row

    if min(args.seeds, args.epochs, args.rounds, *args.threads) < 1:
        raise ConfigError("--seeds, --epochs, --rounds and --threads: expected at least 1")
    keep_freed_memory()
    problem = digits(args.seeds)
    print("| hidden units | minibatch | threads | trainings | one batch, s | one by one, s | ratio (rounds) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for threads in args.threads:
        for shape in SHAPES:
            row = speed_row(problem, shape, n_epochs=args.epochs, rounds=args.rounds, threads=threads)
            print(row, flush=True)
    return 0


MEASUREMENTS = {"studies": _studies}
