"""What the verbs that compare classifiers share on the command line: coefficients, seeds, where to, tracking."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from entropic_rl.config import RunConfig, build, field_docs, load_yaml
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings, given
from entropic_rl.resumable import add_checkpoint_flags
from entropic_rl.run_directory import check_run_directory

__all__ = ["add_comparison_flags", "add_run_flags", "add_tracking_flags", "built", "check_comparison", "check_counts",
           "chosen_settings", "coefficients", "is_to_run", "tracking_of"]  # fmt: skip

_TRACKING = ("track", "wandb_mode", "wandb_project", "wandb_entity", "wandb_group", "wandb_tags")
_LEAST_SEEDS = 6  # with which a sign-flip test can fall under 0.05


def add_comparison_flags(parser: Parser, *, ent_coefs: Sequence[str], seeds: int, seeds_are: str) -> None:
    """Coefficients, seeds, and where everything goes; defaults as they are shown."""
    parser.add_argument("--ent-coef", nargs="+", dest="ent_coefs", metavar="X",
                        help="entropy weights to compare, each a number, a schedule such as linear:1:0, or "
                        f"target:NATS, steered to keep that entropy [{' '.join(ent_coefs)}]")  # fmt: skip
    add_run_flags(parser, seeds=seeds, seeds_are=seeds_are)


def add_run_flags(parser: Parser, *, seeds: int, seeds_are: str) -> None:
    """Seeds, and where everything goes; defaults as they are shown."""
    parser.add_argument(
        "--seeds", type=int, default=seeds, metavar="N", help=f"{seeds_are} to repeat it with [{seeds}]"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="new directory for the page and its numbers")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings; flags win over it")
    parser.add_argument("--show-config", action="store_true", help="print the resolved settings as YAML and stop")
    parser.add_argument("--num-threads", type=int, default=1, metavar="N", help="CPU threads of torch [1]")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")
    add_checkpoint_flags(parser)


def add_tracking_flags(parser: Parser) -> None:
    """Weights & Biases."""
    add_settings(parser, RunConfig, "tracking", skip=[name for name in field_docs(RunConfig) if name not in _TRACKING])


def chosen_settings(
    args: argparse.Namespace,
    classes: Sequence[type[Any]],
    *,
    left_out: Collection[str] = (),
    more: Collection[str] = (),
) -> dict[str, Any]:
    """What file and flags say of the settings of ``classes``, flags first; a file may hold ``more`` beside them."""
    known = [name for cls in classes for name in field_docs(cls) if name not in left_out]
    chosen = load_yaml(args.config, [*known, *more]) if args.config else {}
    for cls in classes:
        chosen |= given(args, cls)
    return chosen


def coefficients(args: argparse.Namespace, chosen: dict[str, Any], default: Sequence[Any]) -> list[Any]:
    """The coefficients of flag or file, which are taken out of ``chosen``; still unchecked.

    Raises:
        ConfigError: there are none.
    """
    asked = chosen.pop("ent_coef", default)
    listed = list(args.ent_coefs or (asked if isinstance(asked, list | tuple) else [asked]))
    if not listed:
        raise ConfigError("--ent-coef: expected at least one coefficient, got none")
    return listed


def built(cls: type[Any], chosen: Mapping[str, Any]) -> Any:
    """The settings of one class among those chosen."""
    names = field_docs(cls)
    return build(cls, {name: value for name, value in chosen.items() if name in names})


def check_comparison(args: argparse.Namespace, ent_coefs: Sequence[float | str]) -> None:
    """Seeds, threads, and coefficients as they were built.

    Raises:
        ConfigError: one is out of range, or two coefficients are the same.
    """
    check_counts(args)
    if len(set(ent_coefs)) < len(ent_coefs):
        raise ConfigError(f"--ent-coef: expected different coefficients, got {' '.join(map(str, ent_coefs))}")


def check_counts(args: argparse.Namespace) -> None:
    """Seeds and threads.

    Raises:
        ConfigError: there are none.
    """
    for flag, value in {"--seeds": args.seeds, "--num-threads": args.num_threads}.items():
        if value < 1:
            raise ConfigError(f"{flag}: expected at least 1, got {value}")


def tracking_of(args: argparse.Namespace, data: str) -> RunConfig:
    """The flags of Weights & Biases as settings."""
    tracked = {name: value for name, value in given(args, RunConfig).items() if name in _TRACKING}
    return build(RunConfig, {"env": data, **tracked})


def is_to_run(prog: str, args: argparse.Namespace, settings: Mapping[str, Any], *, is_resumed: bool = False) -> bool:
    """Whether there is more to do than to show the settings; warns of few seeds.

    Raises:
        ConfigError: there is nowhere to write to.
    """
    if is_resumed:
        return True
    if args.show_config:
        import yaml

        print(yaml.safe_dump(dict(settings), sort_keys=False), end="")
        return False
    if args.out is None:
        raise ConfigError("--out is missing: give a new or empty directory, where everything goes")
    check_run_directory(args.out)
    if args.seeds < _LEAST_SEEDS:
        print(f"{prog}: warning: no paired test over {args.seeds} seeds can fall under 0.05; give --seeds 10",
              file=sys.stderr)  # fmt: skip
    return True
