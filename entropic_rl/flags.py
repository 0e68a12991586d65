"""Command-line flags made from settings classes: one flag per field, under its own name, with its own help."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
import types
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

import yaml

from entropic_rl.config import annotations_of, field_docs, read_yaml, suggestion
from entropic_rl.errors import ConfigError

__all__ = ["Parser", "add_settings", "given", "scalar_fields"]

_UNSET: Any = argparse.SUPPRESS


class Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`ConfigError` with one line and a suggestion instead of exiting.

    Attributes:
        subparsers: parsers by agent name, where the flags depend on the agent.
    """

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", _HelpFormatter)
        super().__init__(allow_abbrev=False, **options)
        self.subparsers: dict[str, Parser] = {}

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into one line."""
        raise ConfigError(f"{message} (see {self.prog} --help)")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse, naming the closest flag for an unknown one, and the flag after which a word is one too many."""
        namespace, unknown = self.parse_known_args(arguments)
        if unknown:
            places = [at for at, word in enumerate(arguments) if word == unknown[0]]
            before = arguments[places[-1] - 1] if places and places[-1] else ""
            if before.startswith("--") and not unknown[0].startswith("--"):
                self.error(f"{before}: unexpected {unknown[0]!r} after it")
            name = unknown[0].split("=", 1)[0]
            chosen = self.subparsers.get(getattr(namespace, "agent", ""), self)
            flags = [flag for action in chosen._actions for flag in action.option_strings]
            self.error(f"unknown argument {name!r}{suggestion(name, flags)}")
        return namespace


def add_settings(
    parser: argparse.ArgumentParser,
    cls: type[Any],
    title: str,
    *,
    skip: Container[str] = (),
    several: bool = False,
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Add a flag for every field of a settings class; a flag that is not given leaves no trace in the namespace.

    With ``several``, flags of single values (:func:`scalar_fields`) take any number of them and give a list. Where a
    verb begins with other ``defaults`` than the class, they are shown.
    """
    lists = scalar_fields(cls) if several else ()
    group = parser.add_argument_group(title)
    docs = field_docs(cls)
    hints = annotations_of(cls)
    for field in dataclasses.fields(cls):
        if field.name in skip:
            continue
        flag = "--" + field.name.replace("_", "-")
        default = str(defaults[field.name]).lower() if field.name in defaults else _shown_default(field)
        group.add_argument(
            flag,
            dest=field.name,
            default=_UNSET,
            help=docs[field.name].replace("%", "%%") + (f" [{default}]" if default else ""),
            **(_options(hints[field.name]) | ({"nargs": "+"} if field.name in lists else {})),
        )


def scalar_fields(cls: type[Any]) -> set[str]:
    """Fields that hold one number or text: not the switches, nor what is a list or mapping itself."""
    hints = annotations_of(cls)
    kinds = {field.name: _bare(hints[field.name]) for field in dataclasses.fields(cls)}
    return {name for name, kind in kinds.items() if kind is not bool and get_origin(kind) not in (dict, tuple)}


def given(namespace: argparse.Namespace, cls: type[Any]) -> dict[str, Any]:
    """The settings of ``cls`` that were given as flags."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in vars(namespace).items() if name in names}


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)

    def _split_lines(self, text: str, width: int) -> list[str]:
        """As argparse does, but for names with hyphens, which stay whole."""
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class _Pairs(argparse.Action):
    """``NAME=VALUE ...`` as a mapping; values are read as YAML (numbers, true, lists)."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        pairs = {}
        for item in values:
            name, equals, text = item.partition("=")
            if not equals or not name:
                parser.error(f"{option_string}: expected NAME=VALUE, got {item!r}")
            try:
                pairs[name] = read_yaml(text)
            except yaml.YAMLError:
                parser.error(f"{option_string}: cannot read the value in {item!r}")
        setattr(namespace, self.dest, pairs)


def _options(hint: Any) -> dict[str, Any]:
    """What argparse needs to know about a field's type; ranges are the settings class's business."""
    kind = _bare(hint)
    origin = get_origin(kind)
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is dict:
        return {"action": _Pairs, "nargs": "+", "metavar": "NAME=VALUE"}
    if origin is tuple:
        item = _bare(get_args(kind)[0])
        return {"nargs": "*", "type": _reader(item), "metavar": _metavar(item)}
    if origin is Literal:
        return {"choices": get_args(kind), "metavar": "{" + ",".join(map(str, get_args(kind))) + "}"}
    return {"type": _reader(kind, or_none=_may_be_none(hint)), "metavar": _metavar(kind)}


def _may_be_none(hint: Any) -> bool:
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return type(None) in get_args(hint)


def _bare(hint: Any) -> Any:
    """A type without its annotations and without ``None``; a number-or-text union is text."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        members = [_bare(member) for member in get_args(hint) if member is not type(None)]
        return members[0] if len(members) == 1 else str
    return hint


def _reader(kind: Any, *, or_none: bool = False) -> Callable[[str], Any]:
    """Numbers are left as text if they do not parse, so that the settings class reports them with their range."""
    if kind not in (int, float):
        return str

    def read(text: str) -> Any:
        if or_none and text.lower() == "none":
            return None
        try:
            return kind(text)
        except ValueError:
            return text

    return read


def _metavar(kind: Any) -> str:
    return {int: "N", float: "X"}.get(kind, "TEXT")


def _shown_default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING or field.default is None or field.default == ():
        return ""
    if field.default is dataclasses.MISSING:
        return "required"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return " ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
