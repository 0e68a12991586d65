"""Command line of the measurements of compiled code: the update, and the entropy operator."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from entropic_rl.allocation import keep_freed_memory
from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers."""
    kernel = choices.add_parser(
        "kernel", help="ms per update and rollout of PPO and gradient step of SAC: by torch, compiled"
    )
    kernel.add_argument("--runs", nargs="+", type=int, default=[1, 8, 32], metavar="N", help="of a batch [1 8 32]")
    kernel.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="of both [1 2]")
    kernel.add_argument("--rounds", type=int, default=7, metavar="N", help="iterations of each, in turn [7]")
    kernel.add_argument("--compilation", action="store_true", help="time making and loading machine code, too")
    operator = choices.add_parser(
        "entropy-operator", help="log-probability and entropy of logits, both ways, by six forms"
    )
    operator.add_argument("--classes", nargs="*", type=int, default=[1024, 8192, 32768, 131072], metavar="N",
                          help="of large logits [1024 8192 32768 131072]")  # fmt: skip
    operator.add_argument("--megabytes", type=int, default=64, metavar="N", help="of large logits [64]")
    operator.add_argument("--actions", nargs="*", type=int, default=[2, 6, 18], metavar="N", help="of small [2 6 18]")
    operator.add_argument("--batches", nargs="+", type=int, default=[64, 512, 4096], metavar="N",
                          help="rows of small ones [64 512 4096]")  # fmt: skip
    operator.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N", help="of all forms [1 2]")
    operator.add_argument("--rounds", type=int, default=15, metavar="N", help="of each, in turn [15]")
    operator.add_argument("--no-memory", action="store_true", help="leave memory out, which takes a process per form")


def _kernel(args: Namespace) -> int:
    if min(*args.runs, *args.threads, args.rounds) < 1:
        raise ConfigError("--runs, --threads and --rounds: expected at least 1")
    import torch

    from entropic_rl.benchmarks.kernel import compilation, floor, kernel_row, sac_row

    keep_freed_memory()
    for threads in args.threads:
        torch.set_num_threads(threads)
        print(f"{threads} thread{'s' if threads > 1 else ''}\n")
        print("| runs | update, torch, ms | compiled | times as fast | rollout, torch, ms | compiled | times as fast |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for n_runs in args.runs:
            print(kernel_row(n_runs, args.rounds), flush=True)
        print("\n| runs | SAC gradient step, torch, ms | compiled | times as fast |\n| --- | --- | --- | --- |")
        for n_runs in args.runs:
            print(sac_row(n_runs, args.rounds), flush=True)
        print(f"\n{floor(args.rounds)}\n")
    if args.compilation:
        print(compilation())
    return 0


def _entropy_operator(args: Namespace) -> int:
    if min(*args.classes, *args.actions, *args.batches, *args.threads, args.rounds, args.megabytes) < 1:
        raise ConfigError("every number: expected at least 1")
    import torch

    from entropic_rl.benchmarks.entropy_operator import LARGE, SMALL, error_row, has_compiler, memory_row, speed_row

    keep_freed_memory()
    large = [name for name in LARGE if has_compiler() or name != "torch.compile"]
    if not has_compiler():
        print("torch.compile is left out: there is no C++ compiler\n")
    shapes = [(max(args.megabytes * 2**18 // n, 1), n) for n in args.classes]
    for threads in args.threads:
        torch.set_num_threads(threads)
        print(f"{threads} thread{'s' if threads > 1 else ''}\n")
        for forms, found in (
            (list(SMALL), [(n, k) for k in args.actions for n in args.batches]),
            (large, shapes),
        ):
            if found:
                _head("logits", [f"{forms[0]}, us", *(f"{name}: times as long" for name in forms[1:])])
            for shape in found:
                print(speed_row(shape, forms, args.rounds), flush=True)
            print()
    print("Largest relative errors: log-probability / entropy / gradient\n")
    _head("classes", large)
    for n in (*args.actions, *args.classes):
        print(error_row(n, large), flush=True)
    if shapes and not args.no_memory:
        print("\nMemory beyond the inputs, in units of the gradient\n")
        _head("logits", large)
        for shape in shapes:
            print(memory_row(shape, large), flush=True)
    return 0


def _head(first: str, names: list[str]) -> None:
    print(f"| {first} | {' | '.join(names)} |\n{'| --- ' * (1 + len(names))}|")


MEASUREMENTS = {"kernel": _kernel, "entropy-operator": _entropy_operator}
