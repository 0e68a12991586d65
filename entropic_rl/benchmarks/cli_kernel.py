"""Command line of the measurement of the compiled update."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from entropic_rl.allocation import keep_freed_memory
from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parser."""
    kernel = choices.add_parser("kernel", help="ms per minibatch update and rollout of PPO: by torch, and compiled")
    kernel.add_argument("--runs", nargs="+", type=int, default=[1, 8, 32], metavar="N", help="of a batch [1 8 32]")
    kernel.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="of both [1 2]")
    kernel.add_argument("--rounds", type=int, default=7, metavar="N", help="iterations of each, in turn [7]")
    kernel.add_argument("--compilation", action="store_true", help="time making and loading machine code, too")


def _kernel(args: Namespace) -> int:
    if min(*args.runs, *args.threads, args.rounds) < 1:
        raise ConfigError("--runs, --threads and --rounds: expected at least 1")
    import torch

    from entropic_rl.benchmarks.kernel import compilation, kernel_row

    keep_freed_memory()
    for threads in args.threads:
        torch.set_num_threads(threads)
        print(f"{threads} thread{'s' if threads > 1 else ''}\n")
        print("| runs | update, torch, ms | compiled | times as fast | rollout, torch, ms | compiled | times as fast |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for n_runs in args.runs:
            print(kernel_row(n_runs, args.rounds), flush=True)
        print()
    if args.compilation:
        print(compilation())
    return 0


MEASUREMENTS = {"kernel": _kernel}
