"""Command line of ``calibrate``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from entropic_rl.calibrate.config import CalibrationConfig
from entropic_rl.config import RunConfig, build, field_docs, jsonable, load_yaml
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings, given
from entropic_rl.run_directory import check_run_directory
from entropic_rl.supervised.config import FitConfig

__all__ = ["calibrate"]

_ENT_COEFS = ("0", "0.05", "0.1", "0.3", "1")
_NOT_OURS = {"device"}  # comparisons train on the CPU
_TRACKING = ("track", "wandb_mode", "wandb_project", "wandb_entity", "wandb_group", "wandb_tags")


def calibrate(prog: str, arguments: Sequence[str]) -> int:
    """Train classifiers over entropy coefficients and seeds, and report how honest each is."""
    args = _parser(prog).parse(arguments)
    known = [name for name in (*field_docs(CalibrationConfig), *field_docs(FitConfig)) if name not in _NOT_OURS]
    chosen = load_yaml(args.config, known) if args.config else {}
    chosen |= given(args, CalibrationConfig) | given(args, FitConfig)
    asked = chosen.pop("ent_coef", _ENT_COEFS)
    listed = args.ent_coefs or (asked if isinstance(asked, list | tuple) else [asked])
    config: CalibrationConfig = _built(CalibrationConfig, chosen)
    coefs = [_built(FitConfig, {**chosen, "ent_coef": coef}).ent_coef for coef in listed]
    _check(args, coefs)
    fit: FitConfig = _built(FitConfig, {**chosen, "ent_coef": coefs[0]})
    shown = {name: value for name, value in jsonable(fit).items() if name not in _NOT_OURS}
    settings = jsonable(config) | shown | {"ent_coef": coefs}
    tracked = {name: value for name, value in given(args, RunConfig).items() if name in _TRACKING}
    tracking = build(RunConfig, {"env": config.data, **tracked})
    if args.show_config:
        import yaml

        print(yaml.safe_dump(settings, sort_keys=False), end="")
        return 0
    if args.out is None:
        raise ConfigError("--out is missing: give a new or empty directory, where everything goes")
    check_run_directory(args.out)
    if args.seeds < 6:
        print(f"{prog}: warning: no paired test over {args.seeds} seeds can fall under 0.05; give --seeds 10",
              file=sys.stderr)  # fmt: skip
    command = [*prog.split(), *arguments]
    _run(command, args, config, fit, settings=settings, tracking=tracking)
    return 0


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Classifiers over entropy coefficients and seeds, trained as one batch: accuracy, likelihood and "
        "calibration of three read-outs, with intervals, pictures and a page.",
        epilog=f"example: {prog} --data digits --ent-coef 0 0.05 0.1 0.3 1 --seeds 10 --out DIR   "
        f"or: {prog} --data my.csv --target label --ent-coef 0 0.5 --seeds 10 --out DIR",
    )
    parser.add_argument("--ent-coef", nargs="+", dest="ent_coefs",
                        metavar="X", help="entropy weights to compare, each a number, a schedule such as linear:1:0, "
                        "or target:NATS, steered to keep that entropy [0 0.05 0.1 0.3 1]")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=10, metavar="N",
                        help="splits, first weights and minibatches to repeat it with [10]")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="new directory for the page and its numbers")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings; flags win over it")
    parser.add_argument("--show-config", action="store_true", help="print the resolved settings as YAML and stop")
    parser.add_argument("--num-threads", type=int, default=1, metavar="N", help="CPU threads of torch [1]")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")
    add_settings(parser, CalibrationConfig, "data and read-outs")
    add_settings(parser, FitConfig, "training", skip=("ent_coef", *_NOT_OURS))
    add_settings(parser, RunConfig, "tracking", skip=[name for name in field_docs(RunConfig) if name not in _TRACKING])
    return parser


def _built(cls: type[Any], chosen: dict[str, Any]) -> Any:
    names = field_docs(cls)
    return build(cls, {name: value for name, value in chosen.items() if name in names})


def _check(args: argparse.Namespace, coefs: Sequence[float | str]) -> None:
    if args.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {args.seeds}")
    if args.num_threads < 1:
        raise ConfigError(f"--num-threads: expected at least 1, got {args.num_threads}")
    if not coefs:
        raise ConfigError("--ent-coef: expected at least one coefficient, got none")
    if len(set(coefs)) < len(coefs):
        raise ConfigError(f"--ent-coef: expected different coefficients, got {' '.join(map(str, coefs))}")


def _run(
    command: Sequence[str],
    args: argparse.Namespace,
    config: CalibrationConfig,
    fit: FitConfig,
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
        answers = train(config, fit, coefs, datasets, shares, on_epoch=bar.update)
    records = measure(answers, datasets, config.n_bins)
    results = analyse(records)
    session = {
        "command": list(command),
        "seconds": time.perf_counter() - began,
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
