"""Verbs that compare classifiers, begun and gone on with: until they are done, their directory says what was asked for.

``OUT/unfinished.json`` has the command line, the file of ``--config`` and the settings that came of them,
``OUT/checkpoints`` the parts that are done; both go when everything else has been written. No torch here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entropic_rl.config import RunConfig, build, field_docs
from entropic_rl.errors import ConfigError, NotResumableError, RunDirectoryError
from entropic_rl.flags import Parser, add_settings, given
from entropic_rl.interruption import EXIT_CODE, Stopped, stopping_on_signals
from entropic_rl.run_directory import (
    CHECKPOINTS,
    UNFINISHED,
    check_links,
    check_run_directory,
    locked,
    read_json,
    replace_file,
    strict,
    write_json,
)

if TYPE_CHECKING:
    from entropic_rl.parts import Parts

__all__ = ["Asked", "add_checkpoint_flags", "ask"]

_CHANGEABLE = ("checkpoint_seconds",)  # when work is resumed
_CONFIG = "config.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command line, or the one that a directory was begun with.

    Attributes:
        verb: what is done.
        prog: how it is called.
        args: what was said.
        content: what ``unfinished.json`` has, or is to have, beside the settings.
        settings: those that it was begun with; None if it is begun now.
    """

    verb: str
    prog: str
    args: argparse.Namespace
    content: dict[str, Any]
    settings: dict[str, Any] | None = None

    @property
    def command(self) -> list[str]:
        """Program and words, as they were typed when it was begun."""
        return list(self.content["command"])

    @property
    def is_resumed(self) -> bool:
        """Whether it goes on."""
        return self.settings is not None

    def work(self, settings: Mapping[str, Any], do: Callable[[Parts], None]) -> int:
        """Do it, with signals that ask to stop and nobody else in the directory; the exit code.

        Args:
            settings: what came of the command line, as it is shown.
            do: trains what it needs by the parts that it is given, and writes everything down.

        Raises:
            RunDirectoryError: somebody else is at work there, the disk is full, or parts there are of other work.
        """
        out: Path = self.args.out
        flags = {name: value for name, value in given(self.args, RunConfig).items() if name in _CHANGEABLE}
        every_seconds = build(RunConfig, {"env": "-", **flags}).checkpoint_seconds
        whole = json.dumps(self.content | {"settings": strict(settings)}, sort_keys=True)
        if self.is_resumed and whole != json.dumps(self.content | {"settings": self.settings}, sort_keys=True):
            raise NotResumableError(
                f"{out} was begun with other settings than these words give today; resume it with the version that "
                "began it, or begin anew"
            )
        from entropic_rl.kept_parts import KeptParts

        with locked(out), stopping_on_signals() as stop:
            if not self.is_resumed:
                check_run_directory(out)  # which somebody may have come to since
            parts = KeptParts(
                out / CHECKPOINTS,
                settings=whole,
                every_seconds=every_seconds,
                should_stop=stop,
                begin=partial(write_json, out / UNFINISHED, self.content | {"settings": settings}),
            )
            try:
                do(parts)
            except Stopped:
                print(f"{self.prog}: stopped by {stop.signal}; go on with: {self.prog} --resume {out}", file=sys.stderr)
                return EXIT_CODE
            except ConfigError:
                if not self.is_resumed:  # it would fail again
                    _forget(out)
                raise
            _forget(out)
        return 0


def add_checkpoint_flags(parser: Parser) -> None:
    """How often the state is saved, and how to go on from it."""
    parser.add_argument("--resume", type=Path, metavar="DIR",
                        help="go on with the work in DIR that was stopped or killed, with its settings; stands alone, "
                        "or beside --checkpoint-seconds and --no-progress")  # fmt: skip
    skipped = [name for name in field_docs(RunConfig) if name not in _CHANGEABLE]
    add_settings(parser, RunConfig, "saved states", skip=skipped)


def ask(verb: str, prog: str, arguments: Sequence[str], parse: Callable[[Sequence[str]], argparse.Namespace]) -> Asked:
    """Read a command line; with ``--resume DIR``, that which the directory was begun with.

    Raises:
        ConfigError: a flag is unknown, or may not stand beside ``--resume``.
        RunDirectoryError: there is nothing in the directory to go on with.
    """
    words = list(arguments)
    if any(word.split("=", 1)[0] == "--resume" for word in words):
        return _resumed(verb, prog, words, parse)
    args = parse(words)
    content = {"verb": verb, "command": [*prog.split(), *words], "words": words, "config": _text(args.config)}
    return Asked(verb=verb, prog=prog, args=args, content=content)


def _text(path: Path | None) -> str | None:
    """What a file says; None of one that cannot be read, which its reader complains of."""
    try:
        return None if path is None else path.read_text("utf-8", errors="replace")
    except OSError:
        return None


def _resumed(verb: str, prog: str, words: Sequence[str], parse: Callable[[Sequence[str]], argparse.Namespace]) -> Asked:
    parser = Parser(
        prog=prog,
        description="Go on with work that was stopped or killed: what it comes to has the same bits as if nothing had "
        "happened. All settings are those that it was begun with.",
    )
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")
    add_checkpoint_flags(parser)
    try:
        now = parser.parse(words)
    except ConfigError as error:
        raise ConfigError(
            f"{error}; beside --resume DIR, whose settings count, only --checkpoint-seconds may stand"
        ) from None
    stored = _stored(verb, now.resume)
    settings = stored.pop("settings")
    check_links(now.resume)
    args = parse(stored["words"])
    if stored["config"] is not None:
        args.config = now.resume / CHECKPOINTS / _CONFIG
        if args.config.parent.is_file():
            raise RunDirectoryError(f"{args.config.parent} is a file: expected a folder; delete it")
        args.config.parent.mkdir(exist_ok=True)
        replace_file(args.config, stored["config"])
    args.out, args.progress = now.resume, now.progress
    vars(args).update({name: value for name, value in vars(now).items() if name in _CHANGEABLE})
    return Asked(verb=verb, prog=prog, args=args, content=stored, settings=settings)


def _stored(verb: str, out: Path) -> dict[str, Any]:
    """What a directory was begun with."""
    if (out / "report.html").exists() and not (out / UNFINISHED).exists():
        raise RunDirectoryError(f"{out} is finished: expected unfinished work to go on with; see {out / 'report.html'}")
    stored = read_json(out / UNFINISHED, expected=f"a directory of a {verb} that was stopped or killed")
    texts, config = (stored.get(name) for name in ("words", "command")), stored.get("config")
    is_sound = all(isinstance(own, list) and all(isinstance(word, str) for word in own) for own in texts)
    if not is_sound or not isinstance(stored.get("settings"), dict) or not isinstance(config, str | None):
        raise RunDirectoryError(f"{out / UNFINISHED} is damaged: expected words and settings; begin anew")
    if stored.get("verb") != verb:
        raise RunDirectoryError(
            f"{out} was begun by {str(stored.get('verb'))[:40]}: expected {verb}; resume it by that"
        )
    return stored


def _forget(out: Path) -> None:
    """Remove what only unfinished work needs."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    (out / UNFINISHED).unlink(missing_ok=True)
