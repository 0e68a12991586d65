"""Command line of ``robustness``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from entropic_rl.config import RunConfig, build, field_docs, jsonable, load_yaml
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings, given
from entropic_rl.robustness.config import AttackConfig, RobustnessConfig, Settings
from entropic_rl.run_directory import check_run_directory
from entropic_rl.supervised.config import FitConfig

__all__ = ["robustness"]

_ENT_COEFS = ("0", "0.1", "0.5", "1")
# Networks are attacked as they end, in the type and on the device they train in.
_NOT_OURS = {"device", "dtype", "early_stopping", "n_epochs_no_change", "tol"}
_TRACKING = ("track", "wandb_mode", "wandb_project", "wandb_entity", "wandb_group", "wandb_tags")


def robustness(prog: str, arguments: Sequence[str]) -> int:
    """Train classifiers over entropy coefficients and seeds, attack them, and report what withstands."""
    args = _parser(prog).parse(arguments)
    settings = _settings(args)
    tracked = {name: value for name, value in given(args, RunConfig).items() if name in _TRACKING}
    tracking = build(RunConfig, {"env": settings.config.data, **tracked})
    if args.show_config:
        import yaml

        print(yaml.safe_dump(settings.shown, sort_keys=False), end="")
        return 0
    if args.out is None:
        raise ConfigError("--out is missing: give a new or empty directory, where everything goes")
    check_run_directory(args.out)
    if args.seeds < 6:
        print(f"{prog}: warning: no paired test over {args.seeds} seeds can fall under 0.05; give --seeds 10",
              file=sys.stderr)  # fmt: skip
    _run([*prog.split(), *arguments], args, settings, tracking)
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    """File and flags together, checked."""
    classes = (RobustnessConfig, AttackConfig, FitConfig)
    known = [name for cls in classes for name in field_docs(cls) if name not in _NOT_OURS]
    chosen = load_yaml(args.config, known) if args.config else {}
    for cls in classes:
        chosen |= given(args, cls)
    asked = chosen.pop("ent_coef", _ENT_COEFS)
    listed = args.ent_coefs or (asked if isinstance(asked, list | tuple) else [asked])
    config, attack = _built(RobustnessConfig, chosen), _built(AttackConfig, chosen)
    coefs = [_built(FitConfig, {**chosen, "ent_coef": coef}).ent_coef for coef in listed]
    for name, least in (("seeds", 1), ("num_threads", 1)):
        if getattr(args, name) < least:
            raise ConfigError(f"--{name.replace('_', '-')}: expected at least {least}, got {getattr(args, name)}")
    if not coefs or len(set(coefs)) < len(coefs):
        raise ConfigError(f"--ent-coef: expected different coefficients, at least one, got {' '.join(map(str, coefs))}")
    fit = _built(FitConfig, {**chosen, "ent_coef": coefs[0]})
    trained = {name: value for name, value in jsonable(fit).items() if name not in _NOT_OURS}
    shown = jsonable(config) | jsonable(attack) | trained | {"ent_coef": coefs}
    return Settings(config, attack, fit, coefs, args.seeds, shown)


def _built(cls: type[Any], chosen: dict[str, Any]) -> Any:
    names = field_docs(cls)
    return build(cls, {name: value for name, value in chosen.items() if name in names})


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Classifiers over entropy coefficients and seeds, trained and attacked as one batch: accuracy over "
        "the radius by every attack, flags of masked gradients, corruptions, pictures and a page.",
        epilog=f"example: {prog} --data digits --ent-coef 0 0.1 0.5 1 --seeds 5 --norm linf --eps 0 0.05 0.1 0.2 0.3 "
        f"--out DIR   or, beside adversarial training: {prog} --data digits --adversarial 0.1 --out DIR",
    )
    parser.add_argument("--ent-coef", nargs="+", dest="ent_coefs", metavar="X",
                        help="entropy weights to compare, each a number, a schedule such as linear:1:0, or "
                        "target:NATS, steered to keep that entropy [0 0.1 0.5 1]")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5, metavar="N",
                        help="splits, first weights and minibatches to repeat it with [5]")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="new directory for the page and its numbers")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings; flags win over it")
    parser.add_argument("--show-config", action="store_true", help="print the resolved settings as YAML and stop")
    parser.add_argument("--num-threads", type=int, default=1, metavar="N", help="CPU threads of torch [1]")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")
    add_settings(parser, RobustnessConfig, "data, radii and corruptions")
    add_settings(parser, AttackConfig, "attacks")
    add_settings(parser, FitConfig, "training", skip=("ent_coef", *_NOT_OURS))
    add_settings(parser, RunConfig, "tracking", skip=[name for name in field_docs(RunConfig) if name not in _TRACKING])
    return parser


def _run(command: Sequence[str], args: argparse.Namespace, settings: Settings, tracking: RunConfig) -> None:
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
        network = train(settings, groups, data, on_epoch=bar.update)
    trained = time.perf_counter()
    found = attack(settings, groups, data, network, on_eps=partial(_say_radii, args, len(config.eps)))
    results = analyse(found, config.severities)
    session = {
        "command": list(command),
        "seconds": time.perf_counter() - began,
        "seconds_training": trained - began,
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
