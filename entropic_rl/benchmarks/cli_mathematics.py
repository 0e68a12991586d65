"""Command line of the measurements of formulas and classifiers: entropies, errors of calibration, honesty, speed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    entropy = choices.add_parser("entropy", help="accuracy of float32 entropies against 50-digit arithmetic")
    entropy.add_argument("--rows", type=int, default=3000, metavar="N", help="random rows [3000]")
    chain = choices.add_parser("chain-rule", help="derivatives of random networks beside differences and autograd")
    chain.add_argument("--networks", type=int, default=50, metavar="N", help="of each activation [50]")
    chain.add_argument("--picture", type=Path, metavar="FILE", help="SVG of the worked example")
    chain.add_argument("--notebook", type=Path, metavar="FILE", help="run its cells and store what they print")
    flow = choices.add_parser("gradient-flow", help="planted faults, false alarms, cost of looking; one thread")
    flow.add_argument("--seeds", type=int, default=10, metavar="N", help="networks of each kind [10]")
    flow.add_argument("--steps", type=int, default=500, metavar="N", help="gradient steps of healthy networks [500]")
    flow.add_argument("--rounds", type=int, default=21, metavar="N", help="timings with and without looking [21]")
    flow.add_argument(
        "--pictures", type=Path, metavar="DIR", help="write gradient_flow_deep.svg and gradient_parts.svg"
    )
    metrics = choices.add_parser("calibration-metrics", help="what errors of calibration read where the truth is known")
    metrics.add_argument("--gaps", nargs="+", type=float, default=[0.0, 2.0, 5.0], metavar="POINTS",
                         help="confidence less accuracy, in points [0 2 5]")  # fmt: skip
    metrics.add_argument("--rows", nargs="+", type=int, default=[360, 899], metavar="N", help="of each model [360 899]")
    metrics.add_argument("--trials", type=int, default=500, metavar="N", help="models of each kind [500]")
    metrics.add_argument("--resamples", type=int, default=200, metavar="N", help="of each interval and floor [200]")
    honesty = choices.add_parser("classifiers", help="calibration of classifiers by coefficient and read-out")
    honesty.add_argument("--cases", nargs="+", metavar="NAME", help="[all]")
    honesty.add_argument("--seeds", type=int, default=10, metavar="N", help="paired trainings of each [10]")
    fits = choices.add_parser("fits", help="80 trainings of classifiers as one batch and one after another; one thread")
    fits.add_argument("--runs", type=int, default=80, metavar="N", help="[80]")
    fits.add_argument("--epochs", type=int, default=5, metavar="N", help="[5]")
    fits.add_argument("--rounds", type=int, default=5, metavar="N", help="[5]")
    scores = choices.add_parser("acquisition", help="ms to score a pool of unlabelled rows; one thread")
    scores.add_argument("--rows", type=int, default=100_000, metavar="N", help="[100000]")
    scores.add_argument("--members", type=int, default=20, metavar="N", help="of BALD [20]")
    scores.add_argument("--classes", type=int, default=10, metavar="N", help="[10]")
    scores.add_argument("--rounds", type=int, default=15, metavar="N", help="[15]")
    sessions = choices.add_parser("labelling", help="sessions of labelling digits: accuracy by labels, and the wait")
    sessions.add_argument("--models", nargs="+", metavar="NAME", help="[all]")
    sessions.add_argument("--seeds", type=int, default=5, metavar="N", help="splits and first rows [5]")
    sessions.add_argument("--labels", type=int, default=200, metavar="N", help="of each session [200]")
    sessions.add_argument("--batch", type=int, default=20, metavar="N", help="rows per round [20]")
    sessions.add_argument("--picture", type=Path, metavar="FILE", help="SVG of the first model's first session")


def _entropy(args: Namespace) -> int:
    from entropic_rl.benchmarks.entropy_accuracy import accuracy_table, worst_errors

    print(accuracy_table())
    found = worst_errors(args.rows)
    print(f"\nlargest relative error over {found['rows']} random rows (negative values):")
    for name, error in found["worst"].items():
        print(f"  {name:22} {error:.1e}  ({found['negative'][name]} negative)")
    return 0


def _chain_rule(args: Namespace) -> int:
    from entropic_rl.benchmarks.chain_rule import ACTIVATIONS, chain_rule_row, draw
    from entropic_rl.benchmarks.notebooks import executed, read, write

    if args.networks < 1:
        raise ConfigError(f"--networks: expected at least 1, got {args.networks}")
    print("| activation | weights traced | largest error of a factor | of a product, to autograd | of the total "
          "| extrapolated |\n| --- | --- | --- | --- | --- | --- |")  # fmt: skip
    for name in ACTIVATIONS:
        print(chain_rule_row(name, args.networks), flush=True)
    if args.picture is not None:
        draw(args.picture)
    if args.notebook is not None:
        write(args.notebook, executed(read(args.notebook)))
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


def _classifiers(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.classifiers import CASES, honesty_table

    cases = args.cases or list(CASES)
    unknown = [name for name in cases if name not in CASES]
    if unknown:
        raise ConfigError(f"--cases: expected some of {', '.join(map(repr, CASES))}, got {unknown[0]!r}")
    if args.seeds < 2:
        raise ConfigError(f"--seeds: expected at least 2, got {args.seeds}")
    torch.set_num_threads(1)
    for name in cases:
        print(f"{name}:\n\n{honesty_table(name, args.seeds)}\n", flush=True)
    return 0


def _fits(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.classifiers import speed_row

    if min(args.runs, args.epochs, args.rounds) < 1:
        raise ConfigError("--runs, --epochs and --rounds: expected at least 1")
    torch.set_num_threads(1)
    print("| hidden units | minibatch | trainings | one batch, s per epoch | one after another | torch's own layers "
          "| ratio (rounds) | to torch's |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for width, batch_size in ((64, 32), (128, 64)):
        row = speed_row(width, batch_size, args.runs, n_epochs=args.epochs, rounds=args.rounds)
        print(row, flush=True)
    return 0


def _acquisition(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.acquisition import SCORES, acquisition_row

    if min(args.rows, args.rounds) < 1 or min(args.members, args.classes) < 2:
        raise ConfigError("--rows and --rounds: expected at least 1, --members and --classes: at least 2")
    torch.set_num_threads(1)
    print("| score | log-probabilities | ms |\n| --- | --- | --- |")
    for name in SCORES:
        row = acquisition_row(name, args.rows, members=args.members, classes=args.classes, rounds=args.rounds)
        print(row, flush=True)
    return 0


def _labelling(args: Namespace) -> int:
    import torch

    from entropic_rl.active.config import MODELS
    from entropic_rl.benchmarks.labelling import draw, labelling_row, play

    models = args.models or list(MODELS)
    unknown = [name for name in models if name not in MODELS]
    if unknown:
        raise ConfigError(f"--models: expected some of {', '.join(MODELS)}, got {unknown[0]!r}")
    if min(args.seeds, args.batch) < 1 or args.labels < max(10, args.batch) or args.labels > 1200:
        raise ConfigError("--seeds and --batch: expected at least 1, --labels: from 10 to 1200, and at least a batch")
    torch.set_num_threads(1)
    rounds = -(-args.labels // args.batch)
    at = [args.batch * n for n in sorted({max(rounds // 5, 1), max(rounds // 2, 1), rounds})]
    heads = " | ".join(f"accuracy at {n} labels, %" for n in at)
    print(f"| model | {heads} | confidence less accuracy | accuracy out of fold, % | s per round (longest) |")
    print(f"|{' --- |' * (len(at) + 4)}")
    for i, name in enumerate(models):
        sessions = [play(name, seed, n_labels=args.labels, batch=args.batch) for seed in range(args.seeds)]
        print(labelling_row(name, sessions, at), flush=True)
        if args.picture is not None and i == 0:
            draw(args.picture, name, sessions[0])
    return 0


def _gradient_flow(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.architectures import HEALTHY
    from entropic_rl.benchmarks.gradient_flow import (
        FAULTS,
        architecture_row,
        cost_row,
        draw_deep,
        draw_parts,
        fault_row,
    )

    if args.seeds < 1 or args.rounds < 1 or args.steps < 10:
        raise ConfigError("--seeds and --rounds: expected at least 1, --steps: at least 10")
    torch.set_num_threads(1)
    print("| planted | to be named | named | cause of the first |\n| --- | --- | --- | --- |")
    for name in FAULTS:
        print(fault_row(name, args.seeds), flush=True)
    print("\n| healthy network | alarms, of layers | task + entropy less the whole | test accuracy, % [range] |")
    print("| --- | --- | --- | --- |")
    for name in HEALTHY:
        print(architecture_row(name, args.seeds, args.steps), flush=True)
    print("\n| network | time that looking takes, median | range | same bits |\n| --- | --- | --- | --- |")
    for name in HEALTHY:
        print(cost_row(name, args.rounds), flush=True)
    if args.pictures is not None:
        draw_deep(args.pictures / "gradient_flow_deep.svg", n_steps=args.steps)
        draw_parts(args.pictures / "gradient_parts.svg", n_steps=args.steps)
    return 0


MEASUREMENTS = {
    "acquisition": _acquisition,
    "calibration-metrics": _calibration_metrics,
    "chain-rule": _chain_rule,
    "classifiers": _classifiers,
    "entropy": _entropy,
    "fits": _fits,
    "gradient-flow": _gradient_flow,
    "labelling": _labelling,
}
