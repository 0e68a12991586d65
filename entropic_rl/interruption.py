"""Signals that ask work to stop: it ends its step, writes a checkpoint, and can be resumed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["EXIT_CODE", "Stop", "Stopped", "die_with_parent", "raising_on_signals", "stopping_on_signals"]

EXIT_CODE = 75
"""Of a process that was asked to stop and can be resumed: EX_TEMPFAIL of sysexits.h, "try again later"."""
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))


class Stopped(Exception):  # noqa: N818 - it was asked for
    """Work was asked to stop; it stands between two steps."""


class Stop:
    """Whether somebody asked to stop.

    Attributes:
        signal: the name of the signal that asked; None if none has.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.signal: str | None = None
        self._quiet = quiet
        self._process = os.getpid()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """A signal has come: the first one asks, a further SIGINT stops at once.

        Raises:
            KeyboardInterrupt: for that.
        """
        if os.getpid() != self._process:
            _in_child(number)
            return
        if self.signal is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.signal = signal.Signals(number).name
        if self._quiet:
            return
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, self._answer())

    def _answer(self) -> bytes:
        return f"\n{self.signal}: a checkpoint is written at the next step; Ctrl-C stops at once\n".encode()


def _in_child(number: int) -> None:
    """What a forked child does, such as an environment's process: SIGTERM ends it, the others are for its parent."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@contextmanager
def stopping_on_signals(*, quiet: bool = False) -> Iterator[Stop]:
    """Within it SIGINT, SIGTERM and SIGUSR1 only ask to stop; outside the main thread nothing changes.

    Args:
        quiet: do not answer; another process does.
    """
    stop = Stop(quiet=quiet)
    with _handled_by(stop.ask):
        yield stop


@contextmanager
def raising_on_signals() -> Iterator[None]:
    """The same for whoever waits for others: the first signal raises :class:`Stopped` with its name."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        is_first = stop.signal is None
        stop.ask(number, frame)
        if is_first:
            raise Stopped(stop.signal)

    with _handled_by(ask):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def die_with_parent(parent: int | None = None) -> None:
    """From now on this process is killed when the one that started it ends, however that ends; on Linux alone.

    A process that outlived it would go on writing where another one may soon begin.

    Args:
        parent: id of that process, if it is known: it may have ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent not in (None, os.getppid()):
            os._exit(1)
