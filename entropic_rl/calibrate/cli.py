"""Command line of ``calibrate``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from entropic_rl.calibrate.config import CalibrationConfig
from entropic_rl.classifier_flags import (
    add_comparison_flags,
    add_tracking_flags,
    built,
    check_comparison,
    chosen_settings,
    coefficients,
    is_to_run,
    tracking_of,
)
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.flags import Parser, add_settings
from entropic_rl.resumable import ask
from entropic_rl.supervised.config import FitConfig

if TYPE_CHECKING:
    from entropic_rl.parts import Parts

__all__ = ["calibrate"]

_ENT_COEFS = ("0", "0.05", "0.1", "0.3", "1")
_NOT_OURS = {"device"}  # comparisons train on the CPU


def calibrate(prog: str, arguments: Sequence[str]) -> int:
    """Train classifiers over entropy coefficients and seeds, and report how honest each is."""
    asked = ask("calibrate", prog, arguments, _parser(prog).parse)
    args = asked.args
    chosen = chosen_settings(args, (CalibrationConfig, FitConfig), left_out=_NOT_OURS)
    listed = coefficients(args, chosen, _ENT_COEFS)
    config: CalibrationConfig = built(CalibrationConfig, chosen)
    coefs = [built(FitConfig, {**chosen, "ent_coef": coef}).ent_coef for coef in listed]
    check_comparison(args, coefs)
    fit: FitConfig = built(FitConfig, {**chosen, "ent_coef": coefs[0]})
    shown = {name: value for name, value in jsonable(fit).items() if name not in _NOT_OURS}
    settings = jsonable(config) | shown | {"ent_coef": coefs}
    tracking = tracking_of(args, config.data)
    if not is_to_run(prog, args, settings, is_resumed=asked.is_resumed):
        return 0
    run = partial(_run, asked.command, args, config, fit, settings=settings, tracking=tracking)
    return asked.work(settings, run)


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Classifiers over entropy coefficients and seeds, trained as one batch: accuracy, likelihood and "
        "calibration of three read-outs, with intervals, pictures and a page.",
        epilog=f"example: {prog} --data digits --ent-coef 0 0.05 0.1 0.3 1 --seeds 10 --out DIR   "
        f"or: {prog} --data my.csv --target label --ent-coef 0 0.5 --seeds 10 --out DIR",
    )
    add_comparison_flags(parser, ent_coefs=_ENT_COEFS, seeds=10, seeds_are="splits, first weights and minibatches")
    add_settings(parser, CalibrationConfig, "data and read-outs")
    add_settings(parser, FitConfig, "training", skip=("ent_coef", *_NOT_OURS))
    add_tracking_flags(parser)
    return parser


def _run(
    command: Sequence[str],
    args: argparse.Namespace,
    config: CalibrationConfig,
    fit: FitConfig,
    parts: Parts,
    *,
    settings: dict[str, Any],
    tracking: RunConfig,
) -> None:
    import torch

    from entropic_rl.allocation import keep_freed_memory
    from entropic_rl.calibrate.analysis import analyse, verdict
    from entropic_rl.calibrate.experiment import datasets_of, n_batches, shares_of, train
    from entropic_rl.calibrate.measures import measure
    from entropic_rl.calibrate.report import group_table, pictures, print_report, write_report
    from entropic_rl.progress import EpochProgress
    from entropic_rl.tracking import track_comparison

    keep_freed_memory()
    torch.set_num_threads(args.num_threads)
    began = time.perf_counter()
    datasets = datasets_of(config, range(args.seeds))
    shares = [share for seed, dataset in datasets.items() for share in shares_of(config, dataset, seed)]
    summary = datasets[0].summary()
    coefs = settings["ent_coef"]
    n_runs = len(coefs) * len(shares)
    if args.progress:
        print(f"{summary}; {n_runs} trainings", file=sys.stderr)
    with EpochProgress(fit.n_epochs * n_batches(n_runs), config.data, enabled=args.progress) as bar:
        answers = train(config, fit, coefs, datasets, shares, on_epoch=bar.update, parts=parts)
    records = measure(answers, datasets, config.n_bins)
    results = analyse(records)
    session = {
        "command": list(command),
        "seconds": parts.seconds_before + time.perf_counter() - began,
        "n_runs": n_runs,
        "n_epochs": fit.n_epochs,
        "num_threads": args.num_threads,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    drawings = pictures(results, answers, datasets, config)
    write_report(
        args.out, config, settings, results, records=records, drawings=drawings, summary=summary, session=session
    )
    if tracking.track:
        table = group_table(results)
        track_comparison(
            args.out,
            tracking,
            settings | {"seeds": args.seeds},
            tables={"groups": (table.header, [row.cells for row in table.rows])},
            figures={picture.name: picture.svg for picture in drawings},
            summary={"verdict": " ".join(verdict(results)),
                     **{f"nll/{g.name}": g.measures["nll"].value for g in results.groups}},
        )  # fmt: skip
    print_report(results, config, session, args.out)
