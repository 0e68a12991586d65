"""Command line of the measurements of robustness."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    attacks = choices.add_parser("attacks", help="what attacks must satisfy, counted on digits; one thread")
    attacks.add_argument("--seeds", type=int, default=5, metavar="N", help="networks [5]")
    beside = choices.add_parser("foolbox", help="PGD beside foolbox's with equal steps, on digits; one thread")
    beside.add_argument("--seeds", type=int, default=5, metavar="N", help="networks [5]")
    masking = choices.add_parser("masking", help="how often planted masks and plain networks are flagged; one thread")
    masking.add_argument("--trials", type=int, default=20, metavar="N", help="networks of each kind [20]")
    masking.add_argument("--eps", nargs="+", type=float, default=[0.0, 0.05, 0.1, 0.2], metavar="X",
                         help="radii in L-infinity [0 0.05 0.1 0.2]")  # fmt: skip
    withstanding = choices.add_parser("robustness", help="accuracy under attack by entropy coefficient; one thread")
    withstanding.add_argument("--cases", nargs="+", metavar="NAME", help="[all]")
    withstanding.add_argument("--seeds", type=int, default=10, metavar="N", help="paired trainings of each [10]")


def _attacks(args: Namespace) -> int:
    from entropic_rl.benchmarks.robustness import exactness_table

    _prepare(args.seeds, "--seeds")
    print(exactness_table(args.seeds))
    return 0


def _foolbox(args: Namespace) -> int:
    from entropic_rl.benchmarks.robustness import foolbox_table

    _prepare(args.seeds, "--seeds")
    print(foolbox_table(args.seeds))
    return 0


def _masking(args: Namespace) -> int:
    from entropic_rl.benchmarks.robustness import masking_table

    _prepare(args.trials, "--trials")
    print(masking_table(args.trials, args.eps))
    return 0


def _robustness(args: Namespace) -> int:
    from entropic_rl.benchmarks.robust_training import CASES, withstanding_table

    cases = args.cases or list(CASES)
    unknown = [name for name in cases if name not in CASES]
    if unknown:
        raise ConfigError(f"--cases: expected some of {', '.join(map(repr, CASES))}, got {unknown[0]!r}")
    _prepare(args.seeds, "--seeds")
    for name in cases:
        print(f"{name}:\n\n{withstanding_table(name, args.seeds)}\n", flush=True)
    return 0


def _prepare(count: int, name: str) -> None:
    """One thread, and something to do."""
    import torch

    if count < 1:
        raise ConfigError(f"{name}: expected at least 1, got {count}")
    torch.set_num_threads(1)


MEASUREMENTS = {"attacks": _attacks, "foolbox": _foolbox, "masking": _masking, "robustness": _robustness}
