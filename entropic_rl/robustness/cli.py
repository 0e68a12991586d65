"""Command line of ``robustness``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

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
from entropic_rl.robustness.config import AttackConfig, RobustnessConfig, Settings
from entropic_rl.supervised.config import FitConfig

if TYPE_CHECKING:
    from entropic_rl.parts import Parts

__all__ = ["robustness"]

_ENT_COEFS = ("0", "0.1", "0.5", "1")
# Networks are attacked as they end, in the type and on the device they train in.
_NOT_OURS = {"device", "dtype", "early_stopping", "n_epochs_no_change", "tol"}


def robustness(prog: str, arguments: Sequence[str]) -> int:
    """Train classifiers over entropy coefficients and seeds, attack them, and report what withstands."""
    asked = ask("robustness", prog, arguments, _parser(prog).parse)
    args = asked.args
    settings = _settings(args)
    tracking = tracking_of(args, settings.config.data)
    if not is_to_run(prog, args, settings.shown, is_resumed=asked.is_resumed):
        return 0
    return asked.work(settings.shown, partial(_run, asked.command, args, settings, tracking))


def _settings(args: argparse.Namespace) -> Settings:
    """File and flags together, checked."""
    chosen = chosen_settings(args, (RobustnessConfig, AttackConfig, FitConfig), left_out=_NOT_OURS)
    listed = coefficients(args, chosen, _ENT_COEFS)
    config, attack = built(RobustnessConfig, chosen), built(AttackConfig, chosen)
    coefs = [built(FitConfig, {**chosen, "ent_coef": coef}).ent_coef for coef in listed]
    check_comparison(args, coefs)
    fit = built(FitConfig, {**chosen, "ent_coef": coefs[0]})
    trained = {name: value for name, value in jsonable(fit).items() if name not in _NOT_OURS}
    shown = jsonable(config) | jsonable(attack) | trained | {"ent_coef": coefs}
    return Settings(config, attack, fit, coefs, args.seeds, shown)


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Classifiers over entropy coefficients and seeds, trained and attacked as one batch: accuracy over "
        "the radius by every attack, flags of masked gradients, corruptions, pictures and a page.",
        epilog=f"example: {prog} --data digits --ent-coef 0 0.1 0.5 1 --seeds 5 --norm linf --eps 0 0.05 0.1 0.2 0.3 "
        f"--out DIR   or, beside adversarial training: {prog} --data digits --adversarial 0.1 --out DIR",
    )
    add_comparison_flags(parser, ent_coefs=_ENT_COEFS, seeds=5, seeds_are="splits, first weights and minibatches")
    add_settings(parser, RobustnessConfig, "data, radii and corruptions")
    add_settings(parser, AttackConfig, "attacks")
    add_settings(parser, FitConfig, "training", skip=("ent_coef", *_NOT_OURS))
    add_tracking_flags(parser)
    return parser


def _run(
    command: Sequence[str], args: argparse.Namespace, settings: Settings, tracking: RunConfig, parts: Parts
) -> None:
    import torch

    from entropic_rl.allocation import keep_freed_memory
    from entropic_rl.progress import EpochProgress
    from entropic_rl.robustness.analysis import analyse, verdict
    from entropic_rl.robustness.experiment import attack, groups_of, sample, train
    from entropic_rl.robustness.report import group_table, pictures, print_report, write_report
    from entropic_rl.tracking import track_comparison

    keep_freed_memory()
    torch.set_num_threads(args.num_threads)
    config, fit = settings.config, settings.fit
    began = time.perf_counter()
    data = sample(config, args.seeds)
    groups = groups_of(settings.ent_coefs, config)
    n_runs = len(groups) * args.seeds
    _say(args, f"{data.summary}; {n_runs} trainings, {data.y.shape[1] - data.n_train} rows of each attacked")
    n_parts = 1 + bool(config.adversarial)
    with EpochProgress(fit.n_epochs * n_parts, config.data, enabled=args.progress) as bar:
        network = train(settings, groups, data, on_epoch=bar.update, parts=parts)
    training = parts.seconds_before + time.perf_counter() - began
    found = attack(settings, groups, data, network, on_eps=partial(_say_radii, args, len(config.eps)),
                   parts=parts)  # fmt: skip
    results = analyse(found, config.severities)
    session = {
        "command": list(command),
        "seconds": parts.seconds_before + time.perf_counter() - began,
        "seconds_training": training,
        "n_runs": n_runs,
        "n_epochs": fit.n_epochs,
        "num_threads": args.num_threads,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    drawings = pictures(results)
    write_report(args.out, settings, results, data=data, drawings=drawings, session=session)
    if tracking.track:
        table = group_table(results)
        track_comparison(
            args.out,
            tracking,
            settings.shown | {"seeds": args.seeds},
            tables={"groups": (table.header, [row.cells for row in table.rows])},
            figures={picture.name: picture.svg for picture in drawings},
            summary={"verdict": " ".join(verdict(results)),
                     **{f"accuracy/{g.name}/{eps:g}": float(g.accuracy["strongest"][k].mean())
                        for g in results.groups for k, eps in enumerate(results.eps)}},
        )  # fmt: skip
    print_report(results, settings, session, args.out)


def _say(args: argparse.Namespace, text: str) -> None:
    if args.progress:
        print(text, file=sys.stderr, flush=True)


def _say_radii(args: argparse.Namespace, n_radii: int, done: int) -> None:
    _say(args, f"attacked within {done} of {n_radii} radii")
