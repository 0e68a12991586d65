"""Weights & Biases beside a training, never in its way: a process of its own follows the run directories.

That process (:mod:`entropic_rl.wandb_mirror`) reads the record from the disk, so the training neither waits for a
server nor can be hurt by one. At its end it waits a moment for what is still to be sent; the rest is sent without it.
Imports neither torch nor wandb.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Literal, cast

from entropic_rl.config import RunConfig
from entropic_rl.user_modules import safe_path

__all__ = ["Mirrored", "summarize", "wandb_mode", "wandb_options"]

LEAST_WAIT_S, MOST_WAIT_S, SHARE = 1.0, 30.0, 0.02
"""At its end a training waits for a server for this share of its time, within these bounds."""

_LEFT_BEHIND: list[subprocess.Popen[str]] = []  # still sending; a forgotten Popen would warn


def wandb_mode(run: RunConfig) -> Literal["online", "offline", "disabled"]:
    """What was asked for; else online with an API key, offline without."""
    return run.wandb_mode or ("online" if _has_api_key() else "offline")


def wandb_options(run: RunConfig) -> dict[str, Any]:
    """Where a run belongs, as ``wandb.init`` calls it."""
    return {
        "project": run.wandb_project,
        "entity": run.wandb_entity,
        "group": run.wandb_group,
        "tags": list(run.wandb_tags),
    }


class Mirrored:
    """A run directory that is followed until :meth:`close`; its runs share one process.

    Args:
        directory: with ``config.json``; rows are read from ``metrics.jsonl`` as they come.
        run: where it belongs, and the mode, which is not ``disabled``.
        job_type: W&B's.
    """

    def __init__(self, directory: Path, run: RunConfig, job_type: str) -> None:
        self._directory = directory.absolute()
        self._process = _shared(wandb_mode(run))
        self._process.follow(self._directory, {**wandb_options(run), "job_type": job_type})

    def complain(self) -> None:
        """Warn of what has gone wrong since the last time, if anything."""
        self._process.complain()

    def close(self, exit_code: int) -> None:
        """The record is complete. Whoever closes the last one waits a moment for what is still to be sent."""
        self._process.leave(self._directory, exit_code)


def summarize(directory: Path, run: RunConfig, content: Mapping[str, Any]) -> None:
    """A run of its own that sums up a comparison; trouble with it is a warning.

    Args:
        directory: of the comparison.
        run: where it belongs, and the mode, which is not ``disabled``.
        content: ``config``, ``tables`` (name -> columns and rows), ``figures`` (name -> SVG), ``summary``.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:  # the reader deletes it
        json.dump({"options": {**wandb_options(run), "job_type": "compare"}, **content}, file, default=str)
    process = _Process(wandb_mode(run))
    process.tell(summarize=file.name, directory=str(directory.absolute()))
    process.end(directory)


class _Process:
    """The process at work, and what it says."""

    def __init__(self, mode: str) -> None:
        self._online, self._started = mode == "online", time.monotonic()
        self._followed: set[Path] = set()
        self._heard: SimpleQueue[str] = SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "entropic_rl.wandb_mirror", mode, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **safe_path()},
            start_new_session=True,  # Ctrl-C is for the training
        )
        self._stdin = cast(IO[str], self._process.stdin)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is followed."""
        return not self._followed

    def follow(self, directory: Path, options: Mapping[str, Any]) -> None:
        self._followed.add(directory)
        self.tell(follow=str(directory), options=dict(options))

    def leave(self, directory: Path, exit_code: int) -> None:
        self.tell(leave=str(directory), exit_code=exit_code)
        self._followed.discard(directory)
        if self.is_idle:
            self.end(directory)

    def tell(self, **message: Any) -> None:
        with suppress(OSError, ValueError):  # it died, which is told at the end
            print(json.dumps(message), file=self._stdin, flush=True)

    def complain(self) -> None:
        with suppress(Empty):
            while True:
                warnings.warn(self._heard.get_nowait(), stacklevel=4)

    def end(self, directory: Path) -> None:
        """Wait until everything is sent, for a moment."""
        self.tell(end=True)
        spent = time.monotonic() - self._started
        wait = min(MOST_WAIT_S, max(LEAST_WAIT_S, SHARE * spent)) if self._online else MOST_WAIT_S
        again = f"to write it anew: entropic-rl wandb-push {directory}"
        try:
            code = self._process.wait(wait)
            self._listener.join()
            with suppress(OSError):
                self._stdin.close()
            if code:
                self._heard.put(f"Weights & Biases' process died (exit code {code}), the record is complete; {again}")
        except subprocess.TimeoutExpired:
            _LEFT_BEHIND.append(self._process)
            self._heard.put(f"Weights & Biases has not taken everything yet and is left to go on alone; {again}")
        self.complain()

    def _listen(self) -> None:
        with cast(IO[str], self._process.stdout) as lines:
            for line in lines:
                self._heard.put(line.rstrip("\n"))


_SHARED: dict[str, _Process] = {}  # by mode: what follows the runs of this process, as long as there are any


def _shared(mode: str) -> _Process:
    if mode not in _SHARED or _SHARED[mode].is_idle:
        _SHARED[mode] = _Process(mode)
    return _SHARED[mode]


def _has_api_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False
