"""Command line of the measurements of active learning."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    active = choices.add_parser("active-learning", help="query strategies beside chance and published figures")
    active.add_argument("--cases", nargs="+", metavar="NAME", help="breast_cancer, digits, networks, spreading [all]")
    active.add_argument("--seeds", type=int, metavar="N", help="paired curves of each [30, 20, 10]")


def _active_learning(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.active import CASES, case_table, spreading_table

    torch.set_num_threads(1)
    names = args.cases or [*CASES, "spreading"]
    unknown = [name for name in names if name not in (*CASES, "spreading")]
    if unknown:
        raise ConfigError(f"--cases: expected {', '.join([*CASES, 'spreading'])}, got {unknown[0]}")
    if args.seeds is not None and args.seeds < 2:
        raise ConfigError(f"--seeds: expected at least 2, got {args.seeds}")
    for name in names:
        print(f"{name}\n\n{spreading_table() if name == 'spreading' else case_table(name, args.seeds)}\n", flush=True)
    return 0


MEASUREMENTS = {"active-learning": _active_learning}
