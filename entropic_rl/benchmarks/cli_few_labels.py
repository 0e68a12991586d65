"""Command line of the measurements of few labels: rows without any, classes of a few examples."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    labels = choices.add_parser("few-labels", help="what rows without labels add on the digits, beside scikit-learn's")
    labels.add_argument("--labels", nargs="+", type=int, default=[20, 40, 80, 160], metavar="N",
                        help="rows with labels [20 40 80 160]")  # fmt: skip
    labels.add_argument("--seeds", type=int, default=10, metavar="N", help="paired splits of the data [10]")
    labels.add_argument("--picture", type=Path, metavar="FILE", help="draw the accuracies there, as SVG or PNG")
    shots = choices.add_parser("few-shot", help="digits held out, 5 at a time, from a few examples of each")
    shots.add_argument("--shots", nargs="+", type=int, default=[1, 5], metavar="K", help="examples of each digit [1 5]")
    shots.add_argument("--splits", type=int, default=20, metavar="N", help="of digits into taught and held out [20]")
    shots.add_argument("--tasks", type=int, default=50, metavar="N", help="of each split [50]")
    shots.add_argument("--rows", choices=("first", "second"), default="second",
                       help="half of the data with the tasks; settings were chosen on the first [second]")  # fmt: skip
    shots.add_argument("--picture", type=Path, metavar="FILE", help="draw the differences there, as SVG or PNG")


def _few_labels(args: Namespace) -> int:
    import numpy as np
    import torch

    from entropic_rl.benchmarks.few_labels import METHODS, accuracies, comparison_rows
    from entropic_rl.compare.statistics import bootstrap, mean
    from entropic_rl.plots import plot_estimate_curves

    if args.seeds < 2:
        raise ConfigError(f"--seeds: expected at least 2, got {args.seeds}")
    if not all(10 <= n <= 1000 for n in args.labels):
        raise ConfigError(f"--labels: expected 10 to 1000 of the 1,257 rows, got {args.labels}")
    torch.set_num_threads(1)
    print("| labels | method | accuracy, % | above supervised, points | better in | p |\n" + "| --- " * 6 + "|")
    curves: dict[str, list[Any]] = {name: [] for name in METHODS}
    for n_labels in args.labels:
        found = accuracies(n_labels, args.seeds, list(METHODS))
        print("\n".join(comparison_rows(n_labels, found)), flush=True)
        for name, scores in found.items():
            curves[name].append(bootstrap(100.0 * scores, mean, np.random.default_rng(0)))
    if args.picture is not None:
        drawn = {name: curves[name] for name in METHODS if name != "LabelSpreading, radial"}
        plot_estimate_curves(args.picture, args.labels, drawn, xlabel="rows with labels", ylabel="accuracy (%)")
    return 0


def _few_shot(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.few_shot import BASELINE, METHODS, above, comparison_row, setting
    from entropic_rl.plots import plot_estimates

    if args.splits < 2 or min(args.tasks, *args.shots) < 1:
        raise ConfigError("--splits: expected at least 2, --tasks and --shots: at least 1")
    torch.set_num_threads(1)
    panels: dict[str, dict[str, Any]] = {}
    for n_shot in args.shots:
        case = setting(n_shot, args.splits, args.tasks, half=args.rows)
        print(f"5-way {n_shot}-shot:\n\n| method | accuracy, % | above {BASELINE}, points | better in | p |")
        print("| --- " * 5 + "|")
        own = panels[f"5-way {n_shot}-shot"] = {}
        baseline = METHODS[BASELINE](case)
        for name, method in METHODS.items():
            scores = method(case)
            if name != BASELINE:
                own[name] = above(scores, baseline)
            print(comparison_row(name, scores, baseline), flush=True)
        print()
    if args.picture is not None:
        plot_estimates(args.picture, panels, xlabel=f"points above the {BASELINE}")
    return 0


MEASUREMENTS = {"few-labels": _few_labels, "few-shot": _few_shot}
