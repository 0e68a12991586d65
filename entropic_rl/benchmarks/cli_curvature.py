"""Command line of the measurements of curvature, of the policy objective's landscape, and of suggested coefficients."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from entropic_rl.allocation import keep_freed_memory
from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    curvature = choices.add_parser("curvature", help="Hessians of a classifier of digits, by coefficient")
    curvature.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of each coefficient [5]")
    curvature.add_argument("--ent-coef", nargs="+", type=float, dest="ent_coefs", metavar="X",
                           default=[0.0, 0.01, 0.1, 0.3, 1.0], help="[0 0.01 0.1 0.3 1]")  # fmt: skip
    curvature.add_argument("--epochs", type=int, default=40, metavar="N", help="of each training [40]")
    curvature.add_argument("--picture", type=Path, metavar="FILE", help="SVG of the eigenvalues by coefficient")
    landscape = choices.add_parser("landscape", help="whether entropy smooths the exact policy objective")
    landscape.add_argument("--cases", nargs="+", metavar="NAME", help="[all]")
    landscape.add_argument("--seeds", type=int, default=16, metavar="N", help="policies of each, even [16]")
    landscape.add_argument("--directions", type=int, default=200, metavar="N", help="around each policy [200]")
    landscape.add_argument("--ent-coef", nargs="+", type=float, dest="ent_coefs", metavar="X",
                           default=[0.0, 0.01, 0.1, 1.0], help="[0 0.01 0.1 1]")  # fmt: skip
    landscape.add_argument("--picture", type=Path, metavar="FILE", help="SVG of a plane of the first case, and stop")
    suggest = choices.add_parser("suggest-ent-coef", help="suggested coefficients beside the best of a grid")
    suggest.add_argument("--cases", nargs="+", metavar="NAME", help="environments, or digits [all]")
    suggest.add_argument("--seeds", type=int, default=10, metavar="N", help="trainings of each coefficient [10]")
    suggest.add_argument(
        "--shares", nargs="+", type=float, default=[0.03, 0.1, 0.3], metavar="X", help="[0.03 0.1 0.3]"
    )


def _curvature(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.curvature import curvature_rows, draw_curvature, measure

    if args.seeds < 2 or args.epochs < 1:
        raise ConfigError("--seeds: expected at least 2, --epochs: at least 1")
    if args.picture is not None and sum(c > 0.0 for c in args.ent_coefs) < 2:
        raise ConfigError("--picture: expected two coefficients above 0 or more; give them by --ent-coef")
    torch.set_num_threads(1)
    found = measure(args.ent_coefs, args.seeds, epochs=args.epochs)
    print(
        "| network | ent_coef | largest eigenvalue | smallest | trace | norm of the gradient | error of the trace, % |"
    )
    print("|" + " --- |" * 7)
    print("\n".join(curvature_rows(found)))
    if args.picture is not None:
        draw_curvature(args.picture, found)
    return 0


def _landscape(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.landscape import CASES, draw_landscapes, landscape_rows

    cases = args.cases or list(CASES)
    unknown = [name for name in cases if name not in CASES]
    if unknown:
        raise ConfigError(f"--cases: expected some of {', '.join(map(repr, CASES))}, got {unknown[0]!r}")
    if args.seeds < 4 or args.seeds % 2 or args.directions < 1:
        raise ConfigError("--seeds: expected an even number from 4, --directions: at least 1")
    keep_freed_memory()
    torch.set_num_threads(1)
    if args.picture is not None:
        draw_landscapes(args.picture, cases[0], args.ent_coefs)
        return 0
    print("| environment | policies | ent_coef | both ways down, % | curved up, % | cosine of the gradient's turn "
          "| barrier, % |\n|" + " --- |" * 7)  # fmt: skip
    for case in cases:
        print("\n".join(landscape_rows(case, args.seeds, args.ent_coefs, n_directions=args.directions)), flush=True)
    return 0


def _suggest(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.suggest import CASES, NOISE, agent_rows, classifier_rows

    known = [*CASES, "digits"]
    cases = args.cases or known
    unknown = [name for name in cases if name not in known]
    if unknown:
        raise ConfigError(f"--cases: expected some of {', '.join(map(repr, known))}, got {unknown[0]!r}")
    if args.seeds < 2 or not all(0.0 < share < float("inf") for share in args.shares):
        raise ConfigError("--seeds: expected at least 2, --shares: numbers above 0")
    keep_freed_memory()
    torch.set_num_threads(1)
    print(
        "| case | share | suggested: median (all) | score there | the grid's best | score at 0 | the grid's worst "
        "| regret | rank |"
    )
    print("|" + " --- |" * 9)
    for case in cases:
        if case == "digits":
            for noise in NOISE:
                print("\n".join(classifier_rows(noise, args.seeds, args.shares)), flush=True)
        else:
            print("\n".join(agent_rows(case, args.seeds, args.shares)), flush=True)
    return 0


MEASUREMENTS = {"curvature": _curvature, "landscape": _landscape, "suggest-ent-coef": _suggest}
