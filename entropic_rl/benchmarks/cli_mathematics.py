"""Command line of the measurements of formulas: entropies, errors of calibration."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    entropy = choices.add_parser("entropy", help="accuracy of float32 entropies against 50-digit arithmetic")
    entropy.add_argument("--rows", type=int, default=3000, metavar="N", help="random rows [3000]")
    metrics = choices.add_parser("calibration-metrics", help="what errors of calibration read where the truth is known")
    metrics.add_argument("--gaps", nargs="+", type=float, default=[0.0, 2.0, 5.0], metavar="POINTS",
                         help="confidence less accuracy, in points [0 2 5]")  # fmt: skip
    metrics.add_argument("--rows", nargs="+", type=int, default=[360, 899], metavar="N", help="of each model [360 899]")
    metrics.add_argument("--trials", type=int, default=500, metavar="N", help="models of each kind [500]")
    metrics.add_argument("--resamples", type=int, default=200, metavar="N", help="of each interval and floor [200]")


def _entropy(args: Namespace) -> int:
    from entropic_rl.benchmarks.entropy_accuracy import accuracy_table, worst_errors

    print(accuracy_table())
    found = worst_errors(args.rows)
    print(f"\nlargest relative error over {found['rows']} random rows (negative values):")
    for name, error in found["worst"].items():
        print(f"  {name:22} {error:.1e}  ({found['negative'][name]} negative)")
    return 0


def _calibration_metrics(args: Namespace) -> int:
    from entropic_rl.benchmarks.calibration_metrics import metrics_table

    if min(*args.rows, args.resamples) < 1 or args.trials < 2:
        raise ConfigError("--rows and --resamples: expected at least 1, --trials: at least 2")
    if not all(0.0 <= gap <= 50.0 for gap in args.gaps):
        raise ConfigError(f"--gaps: expected points from 0 to 50, got {max(args.gaps, key=abs):g}")
    print("| truth | n | plain (its 95th percentile) | equal mass | smooth | debiased | intervals hold it | p < .05 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for n in args.rows:
        for gap in args.gaps:
            print(metrics_table(gap / 100.0, n, args.trials, args.resamples), flush=True)
    return 0


MEASUREMENTS = {"entropy": _entropy, "calibration-metrics": _calibration_metrics}
