"""Command line of ``study``; free of torch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from entropic_rl.classifier_flags import add_run_flags, built, check_counts, chosen_settings, is_to_run
from entropic_rl.config import jsonable, suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings
from entropic_rl.resumable import ask
from entropic_rl.studies.catalogue import STUDIES
from entropic_rl.studies.config import StudyConfig
from entropic_rl.studies.study import Request, Study, Value
from entropic_rl.supervised.config import FitConfig

if TYPE_CHECKING:
    from entropic_rl.parts import Parts

__all__ = ["study"]

_NOT_OURS = ("device",)  # studies train on the CPU


def study(prog: str, arguments: Sequence[str]) -> int:
    """Vary one setting of training over seeds, and say what it does."""
    words = list(arguments)
    if words and not words[0].startswith("-") and words[0] not in STUDIES:
        raise ConfigError(
            f"study: expected one of {', '.join(STUDIES)}, got {words[0]!r}{suggestion(words[0], STUDIES)}"
        )
    asked = ask("study", prog, words, _parser(prog).parse)
    args = asked.args
    request, settings = _request(STUDIES[args.study], args)
    if not is_to_run(prog, args, settings, is_resumed=asked.is_resumed):
        return 0
    return asked.work(settings, partial(_run, asked.command, args, request, settings))


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="One setting of training, varied over seeds as one batch: what it does, in one picture, one table "
        "and one sentence.",
        epilog=f"example: {prog} learning-rate --data digits --values 0.001 0.01 0.1 1 --seeds 10 --out DIR   "
        f"({prog} learning-rate --help lists every setting)   {prog} --resume DIR goes on with one that was stopped or "
        "killed",
    )
    choices = parser.add_subparsers(dest="study", required=True, metavar="STUDY", parser_class=Parser)
    for asked in STUDIES.values():
        _add(choices, asked)
    return parser


def _add(choices: Any, asked: Study) -> None:
    sub = choices.add_parser(asked.name, help=asked.question, description=f"{asked.question} {asked.description}")
    shown = "; ".join(
        [" ".join(asked.values), *(f"of {data}: {' '.join(own)}" for data, own in asked.values_on.items())]
    )
    sub.add_argument("--values", nargs="+", metavar="X",
                     help=f"{asked.setting}: values to compare [{shown}]".replace("%", "%%"))  # fmt: skip
    if asked.may_be_tuned:
        rates = " ".join(f"{rate:g}" for rate in asked.rates) or "that of --learning-rate"
        sub.add_argument("--rates", nargs="+", metavar="X",
                         help=f"learning rates among which validation chooses for each value [{rates}]")  # fmt: skip
    for flag, options in asked.flags.items():
        sub.add_argument(flag, **options)
    add_run_flags(sub, seeds=10, seeds_are="splits, first weights and minibatches")
    add_settings(sub, StudyConfig, "data", defaults=asked.fit)
    add_settings(sub, FitConfig, "training", skip=(*asked.sets, *_NOT_OURS), defaults=asked.fit)


def _request(asked: Study, args: argparse.Namespace) -> tuple[Request, dict[str, Any]]:
    """What was asked for, checked, and its settings as they are shown."""
    check_counts(args)
    hidden = {*asked.sets, *_NOT_OURS}
    lists = ("values", "rates") if asked.may_be_tuned else ("values",)
    chosen = {**asked.fit, **chosen_settings(args, (StudyConfig, FitConfig), left_out=hidden, more=lists)}
    config: StudyConfig = built(StudyConfig, chosen)
    defaults = {"values": asked.values_on.get(config.data, asked.values), "rates": asked.rates}
    listed = {name: _listed(args, name, chosen, defaults[name]) for name in lists}
    fit: FitConfig = built(FitConfig, chosen)
    values = _values(asked, listed["values"], chosen)
    if listed.get("rates"):
        values = [_at_rates(asked, value, listed["rates"]) for value in values]
    flags = asked.flags_of(args)
    request = Request(asked, tuple(values), config, fit, args.seeds, flags, args.progress, args.num_threads)
    listed = {name: texts for name, texts in listed.items() if texts}
    shown = {name: value for name, value in jsonable(fit).items() if name not in hidden}
    return request, jsonable(config) | shown | listed


def _listed(args: argparse.Namespace, name: str, chosen: dict[str, Any], default: Sequence[Any]) -> list[str]:
    """Several values of flag or file, which are taken out of ``chosen``, as text."""
    asked = chosen.pop(name, default)
    found = getattr(args, name) or (asked if isinstance(asked, list | tuple) else [asked])
    return [text if isinstance(text, str) else f"{text:g}" for text in found]


def _values(asked: Study, texts: Sequence[str], chosen: Mapping[str, Any]) -> list[Value]:
    """The values that are compared.

    Raises:
        ConfigError: one is out of range, or they are not at least two different ones.
    """
    values = [Value(text, _number(text), (built(FitConfig, {**chosen, **asked.changes(text)}),)) for text in texts]
    if len(values) < 2:
        raise ConfigError(f"--values: expected at least two to compare, got {' '.join(texts) or 'none'}")
    met: dict[Any, str] = {}
    for value in values:
        twin = met.setdefault((value.fits[0], None if asked.changes(value.text) else value.number), value.text)
        if twin is not value.text:
            raise ConfigError(f"--values: expected different ones, got {twin} and {value.text}")
    return values


def _at_rates(asked: Study, value: Value, rates: Sequence[str]) -> Value:
    """A value with every learning rate that it may choose from.

    Raises:
        ConfigError: one is out of range, or there are two alike.
    """
    fits = [built(FitConfig, {**jsonable(value.fits[0]), **asked.at_rate(value.text, rate)}) for rate in rates]
    if len(set(fits)) < len(fits):
        raise ConfigError(f"--rates: expected different ones, got {' '.join(rates)}")
    return Value(value.text, value.number, tuple(fits))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _run(
    command: Sequence[str], args: argparse.Namespace, request: Request, settings: Mapping[str, Any], parts: Parts
) -> None:
    import torch

    from entropic_rl.allocation import keep_freed_memory
    from entropic_rl.studies.report import print_report, write_report

    keep_freed_memory()
    torch.set_num_threads(request.num_threads)
    found = request.study.program(replace(request, parts=parts))
    write_report(args.out, request, found, settings, command)
    print_report(args.out, request, found)
