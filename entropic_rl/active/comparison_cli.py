"""Command line of the comparison of query strategies."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from entropic_rl.active.config import (
    STRATEGIES,
    WITH_MEMBERS,
    ComparisonConfig,
    parse_stopping,
    parse_strategy,
)
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
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings
from entropic_rl.resumable import ask
from entropic_rl.supervised.config import FitConfig

if TYPE_CHECKING:
    from entropic_rl.parts import Parts

__all__ = ["compare_strategies"]

_ENT_COEFS = ("0",)
_STRATEGIES = ("random", "margin", "entropy", "bald", "badge")
_STOPPING = ("stable", "confident")
_NOT_OURS = {"device", "early_stopping", "n_epochs_no_change", "tol"}  # no rows are held out of so few labels
_FIT: dict[str, Any] = {
    "batch_size": None,
    "learning_rate": 0.01,
    "n_epochs": 100,
}  # few rows: all of them at every step


def compare_strategies(prog: str, arguments: Sequence[str]) -> int:
    """Learn with every strategy and seed, and report which asks best."""
    asked = ask("active-learning", prog, arguments, _parser(prog).parse)
    args = asked.args
    chosen = _FIT | chosen_settings(args, (ComparisonConfig, FitConfig), left_out=_NOT_OURS)
    listed = coefficients(args, chosen, _ENT_COEFS)
    strategies = _strategies(args.strategies)
    config: ComparisonConfig = built(ComparisonConfig, _with_members(chosen, strategies))
    coefs = [built(FitConfig, {**chosen, "ent_coef": coef}).ent_coef for coef in listed]
    check_comparison(args, coefs)
    _check(args, config, strategies)
    fit: FitConfig = built(FitConfig, {**chosen, "ent_coef": coefs[0]})
    if config.mc_samples and not fit.dropout:
        raise ConfigError("mc_samples: expected dropout to sample, got --dropout 0; give 0.2, say")
    settings = jsonable(config) | {"strategies": strategies, "stopping": list(args.stop)}
    if config.model == "entropic":
        trained = {name: value for name, value in jsonable(fit).items() if name not in _NOT_OURS}
        settings |= trained | {"ent_coef": coefs}
    tracking = tracking_of(args, config.data)
    if not is_to_run(prog, args, settings, is_resumed=asked.is_resumed):
        return 0
    run = partial(_run, asked.command, args, config, fit, settings=settings, tracking=tracking)
    return asked.work(settings, run)


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Compare query strategies on labelled data: learning curves of the same pools, test rows and first "
        "labels, always beside chance, with intervals, calibration along the curve, pictures and a page.",
        epilog=f"example: {prog} --data digits --strategies random margin entropy bald badge --seeds 20 --budget 300 "
        f"--batch 10 --out DIR   or: {prog} --data my.csv --target label --model random-forest --out DIR",
    )
    parser.add_argument("--strategies", nargs="+", default=_STRATEGIES, metavar="NAME",
                        help=f"{', '.join(STRATEGIES)}, tsallis:ORDER, renyi:ORDER, or skactiveml:CLASS; random is "
                        f"always among them [{' '.join(_STRATEGIES)}]")  # fmt: skip
    parser.add_argument("--stop", nargs="*", default=_STOPPING, metavar="RULE",
                        help="stopping rules to try along the curves: labels:N, stable:KAPPA:ROUNDS, "
                        f"confident:P:ROUNDS, entropy:NATS:ROUNDS [{' '.join(_STOPPING)}]")  # fmt: skip
    add_comparison_flags(parser, ent_coefs=_ENT_COEFS, seeds=10, seeds_are="splits, first labels and first weights")
    add_settings(parser, ComparisonConfig, "data and questions")
    add_settings(parser, FitConfig, "training of the entropic model", skip=("ent_coef", *_NOT_OURS), defaults=_FIT)
    add_tracking_flags(parser)
    return parser


def _strategies(names: Sequence[str]) -> list[str]:
    """With ``random``, each once.

    Raises:
        ConfigError: one is unknown.
    """
    for name in names:
        parse_strategy(name)
    return list(dict.fromkeys(["random", *names]))


def _with_members(chosen: dict[str, Any], strategies: Sequence[str]) -> dict[str, Any]:
    """An ensemble where one is asked and the user has not said how large."""
    asked = any(name in WITH_MEMBERS for name in strategies)
    if chosen.get("n_members") is not None or chosen.get("mc_samples"):
        return chosen
    networks = chosen.get("model", "entropic") == "entropic"
    return chosen | {"n_members": (5 if asked else 1) if networks else 20}


def _check(args: argparse.Namespace, config: ComparisonConfig, strategies: Sequence[str]) -> None:
    for rule in args.stop:
        parse_stopping(rule)
    if config.model != "entropic" and args.ent_coefs:
        raise ConfigError(f"--ent-coef: expected --model entropic, which has one, got {config.model}")
    peers = [name for name in strategies if name.startswith("skactiveml:")]
    if config.model == "entropic" and peers:
        raise ConfigError(f"--strategies: {peers[0]} fits a scikit-learn classifier: expected --model "
                          "logistic-regression, svm or random-forest, got entropic")  # fmt: skip
    members = [name for name in strategies if name in WITH_MEMBERS]
    if members and config.model == "label-spreading":
        raise ConfigError(f"--strategies: {members[0]} asks members, which label-spreading has none of; take margin "
                          "or entropy")  # fmt: skip
    if members and config.n_members == 1 and not config.mc_samples:
        raise ConfigError(f"--n-members: {members[0]} expects at least 2 members, got 1")


def _run(
    command: Sequence[str],
    args: argparse.Namespace,
    config: ComparisonConfig,
    fit: FitConfig,
    parts: Parts,
    *,
    settings: dict[str, Any],
    tracking: RunConfig,
) -> None:
    import torch

    from entropic_rl.active.analysis import analyse, verdict
    from entropic_rl.active.batched import run_together
    from entropic_rl.active.experiment import n_labels, run_alone, starts_of, trials_of
    from entropic_rl.active.report import group_table, pictures, print_report, record_table, write_report
    from entropic_rl.active.strategies import find_strategy
    from entropic_rl.allocation import keep_freed_memory
    from entropic_rl.progress import CountProgress
    from entropic_rl.tracking import track_comparison

    keep_freed_memory()
    torch.set_num_threads(args.num_threads)
    for name in settings["strategies"]:
        find_strategy(name)
    began = time.perf_counter()
    starts, summary = starts_of(config, range(args.seeds))
    trials = trials_of(settings["strategies"], settings.get("ent_coef", [0.0]), range(args.seeds))
    counts = n_labels(config, min(len(start.X) for start in starts.values()))
    together = config.model == "entropic"
    if args.progress:
        print(f"{summary}; {len(trials)} curves to {counts[-1]} labels", file=sys.stderr)
    total = len(counts) * (1 if together else len(trials))
    with CountProgress(total, config.data, "error", enabled=args.progress) as bar:
        if together:
            curves = run_together(config, fit, trials, starts, on_query=bar.advance, parts=parts)
        else:
            alone = partial(run_alone, config, on_query=bar.advance, parts=parts)
            curves = [alone(trial, starts[trial.seed]) for trial in trials]
    results = analyse(curves, target=config.target_accuracy, tie=config.tie, stopping=args.stop)
    session = {
        "command": list(command),
        "seconds": parts.seconds_before + time.perf_counter() - began,
        "n_trials": len(trials),
        "n_queries": len(counts) - 1,
        "num_threads": args.num_threads,
    }
    drawings = pictures(results)
    args.out.mkdir(parents=True, exist_ok=True)
    write_report(
        args.out, config, settings, results, curves=curves, drawings=drawings, summary=summary, session=session
    )
    if tracking.track:
        shown = {"strategies": group_table(results), "record": record_table(results)}
        track_comparison(
            args.out,
            tracking,
            settings | {"seeds": args.seeds},
            tables={name: (table.header, [row.cells for row in table.rows]) for name, table in shown.items()},
            figures={picture.name: picture.svg for picture in drawings},
            summary={"verdict": " ".join(verdict(results)), **{f"area/{g.name}": g.area.value for g in results.groups}},
        )
    print_report(results, config, session, args.out)
