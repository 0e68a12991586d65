"""Run directories as Weights & Biases runs; the only place that knows wandb.

``python -m entropic_rl.wandb_mirror MODE PID`` is the process that follows the trainings of process PID: it is told on
its standard input what to follow, and says on its standard output what went wrong, once per kind. :func:`push` makes
one clean run of a directory.

A directory keeps one id, in ``wandb.json``. A run that is taken up again begins after the last step the server has;
an offline run cannot be taken up, so it is written anew from the record and takes the place of the older one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from filelock import FileLock

from entropic_rl.errors import RunDirectoryError, UserError, first_line
from entropic_rl.run_directory import read_json, write_json

__all__ = ["MirroredRun", "push"]

_INIT_S = 30.0  # for a server to answer at all
_FINISH_S = 90.0  # for it to take in what is left when the training has ended
_POLL_S = 1.0


class MirroredRun:
    """One run directory as a W&B run.

    Args:
        directory: with ``config.json``.
        options: of ``wandb.init``: project, entity, group, tags, job_type.
        mode: online or offline.
        warn: told why if there is no server, and the run is kept offline.
        pid: whose use of the machine is shown.
    """

    def __init__(
        self,
        directory: Path,
        options: Mapping[str, Any],
        mode: str,
        *,
        warn: Callable[[str], None],
        pid: int | None = None,
    ) -> None:
        self._directory, self._offset = directory, 0
        self._lock = FileLock(directory / ".wandb.lock")
        self._lock.acquire(timeout=_INIT_S + _FINISH_S)  # who followed it before may still be sending
        identity = wandb_id(directory)
        config = read_json(directory / "config.json")
        self._older = [*directory.glob(f"wandb/offline-run-*-{identity}")]
        self._run = _start(directory, config, {**options, "id": identity}, mode, warn=warn, pid=pid)
        known = self._run.summary.get("global_step") if self._run.resumed else None
        self._last = -1.0 if known is None else float(known)

    @property
    def folder(self) -> Path:
        """Where wandb keeps it."""
        return Path(self._run.dir).parent

    def catch_up(self) -> None:
        """Log the rows of the record that W&B does not have."""
        for row in self._new_rows():
            if row["global_step"] > self._last:
                self._last = row["global_step"]
                self._run.log(row)

    def finish(self, exit_code: int = 0) -> None:
        """Log the rest, the pictures and the summary of the directory, and end the run."""
        import wandb

        self.catch_up()
        figures = {f"figure/{path.stem}": wandb.Html(path.read_text(), inject=False)
                   for path in sorted(self._directory.glob("*.svg"))}  # fmt: skip
        if figures:
            self._run.log(figures)
        if (self._directory / "summary.json").exists():
            self._run.summary.update(read_json(self._directory / "summary.json"))
        self._run.finish(exit_code=exit_code)
        if self._run.offline:
            for folder in self._older:  # the new one holds all that they did
                shutil.rmtree(folder, ignore_errors=True)
        self._lock.release()

    def _new_rows(self) -> Iterator[dict[str, float]]:
        """Rows since the last time, without what is no number; a line that is still being written waits."""
        with suppress(FileNotFoundError), (self._directory / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, self._offset - 1))
            if self._offset and file.read(1) != b"\n":  # cut back and written on meanwhile: known rows are skipped
                self._offset = 0
                file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                with suppress(ValueError):
                    yield {name: value for name, value in json.loads(line).items() if value is not None}


def wandb_id(directory: Path) -> str:
    """The id of a run directory: that of ``wandb.json``, which is written if there is none.

    A sweep chooses the id of the process's first run (``WANDB_RUN_ID``).
    """
    path = directory / "wandb.json"
    if path.exists():
        known = read_json(path).get("id")
        if not isinstance(known, str) or not known.isalnum():
            raise RunDirectoryError(
                f"{path} is damaged: expected an id of letters and digits, got {known!r}; delete it"
            )
        return known
    identity = os.environ.pop("WANDB_RUN_ID", None) or secrets.token_hex(4)
    write_json(path, {"id": identity})
    return identity


def push(directory: Path, mode: str, options: Mapping[str, Any]) -> Path:
    """Make one clean W&B run of a run directory, under the id it has; returns the folder that wandb made of it.

    Args:
        directory: of a training, finished or not.
        mode: ``offline`` leaves the folder for ``wandb sync``, in the place of older ones; ``online`` sends it, too.
        options: in place of what the training said: project, entity, group, tags.

    Raises:
        RunDirectoryError: it is no run directory, or cannot be written, or the server does not take it.
    """
    config = read_json(directory / "config.json")
    if not (directory / "metrics.jsonl").is_file():
        raise RunDirectoryError(f"no metrics.jsonl in {directory}: expected a run directory of a training")
    said = {name: config.get(f"wandb_{name}") for name in ("project", "entity", "group", "tags")}
    said |= {name: value for name, value in options.items() if value is not None}

    def refuse(reason: str) -> None:
        raise RunDirectoryError(
            f"{directory}: Weights & Biases does not take it ({reason}); push it with --mode offline"
        )

    try:
        run = MirroredRun(directory, {**said, "job_type": "train"}, mode, warn=refuse)
        run.finish(exit_code=0 if (directory / "summary.json").exists() else 1)
    except UserError:
        raise
    except Exception as error:  # wandb raises many kinds
        raise RunDirectoryError(f"{directory}: Weights & Biases failed ({first_line(error)}); try it again") from None
    return run.folder


def _start(
    directory: Path,
    config: Mapping[str, Any],
    options: Mapping[str, Any],
    mode: str,
    *,
    warn: Callable[[str], None],
    pid: int | None = None,
) -> Any:
    """A W&B run; offline if no server answers; ``warn`` is told why."""
    import wandb

    settings = wandb.Settings(console="off", silent=True, init_timeout=_INIT_S)
    settings.finish_timeout, settings.finish_timeout_raises = _FINISH_S, True
    if pid is not None:
        settings.x_stats_pid = pid
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            run = wandb.init(
                **options,
                name=directory.name,
                dir=str(directory),
                config=dict(config),
                mode=attempt,  # type: ignore[arg-type]
                resume="allow" if attempt == "online" and "id" in options else None,
                allow_val_change=True,  # a run may be resumed for longer
                reinit="create_new",
                settings=settings,
            )
            run.define_metric("global_step")
            run.define_metric("*", step_metric="global_step")
            return run
        except Exception as error:  # wandb raises many kinds
            if attempt == "offline":
                raise
            warn(first_line(error))
    raise RuntimeError(mode)


class _Follower:
    """Follows run directories until it is told to end, or whoever told it has died."""

    def __init__(self, mode: str, pid: int, say: Callable[[str], None]) -> None:
        self._mode, self._pid, self._say, self._said = mode, pid, say, set[str]()
        self._runs: dict[str, MirroredRun | None] = {}

    def obey(self, message: Mapping[str, Any]) -> bool:
        """Do what a message says; whether there is more to come."""
        if "follow" in message:
            self._runs[message["follow"]] = self._guarded(lambda: self._open(message))
        elif "leave" in message:
            self._finish(message["leave"], message["exit_code"])
        elif "summarize" in message:
            self._guarded(lambda: self._summarize(Path(message["directory"]), Path(message["summarize"])))
        return "end" not in message

    def catch_up(self) -> None:
        """Log what is new everywhere."""
        for name, run in self._runs.items():
            if run is not None and self._guarded(lambda run=run: run.catch_up() or True) is None:  # type: ignore[misc]
                self._runs[name] = None

    def abandon(self) -> None:
        """The training died: end what is left."""
        for name in [*self._runs]:
            self._finish(name, 1)

    def _open(self, message: Mapping[str, Any]) -> MirroredRun:
        directory = Path(message["follow"])
        return MirroredRun(directory, message["options"], self._mode, warn=self._go_offline, pid=self._pid)

    def _finish(self, name: str, exit_code: int) -> None:
        run = self._runs.pop(name, None)
        if run is not None:
            self._guarded(lambda: run.finish(exit_code))

    def _summarize(self, directory: Path, file: Path) -> None:
        import wandb

        content = json.loads(file.read_text())
        file.unlink()
        run = _start(directory, content["config"], content["options"], self._mode, warn=self._go_offline)
        shown: dict[str, Any] = {
            f"table/{name}": wandb.Table(columns=columns, data=rows)
            for name, (columns, rows) in content["tables"].items()
        }
        run.log(shown | {f"figure/{name}": wandb.Html(svg, inject=False) for name, svg in content["figures"].items()})
        run.summary.update(content["summary"])
        run.finish()

    def _go_offline(self, reason: str) -> None:
        self._mode = "offline"  # the next runs do not wait for the same server
        self._warn("offline", f"Weights & Biases cannot be started, tracking offline instead ({reason})")

    def _guarded(self, act: Callable[[], Any]) -> Any:
        """What it returns; None if it fails, whatever it was: the record is on the disk."""
        try:
            return act()
        except Exception as error:
            self._warn("failed", f"tracking failed, the run goes on without Weights & Biases ({first_line(error)})")
            return None

    def _warn(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(text)


def _serve(mode: str, pid: int) -> None:
    """Follow what standard input names; leave nothing behind that does not end."""
    heard: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def listen() -> None:
        message: dict[str, Any] = {}
        while "end" not in message and (line := sys.stdin.readline()):
            heard.put(message := json.loads(line))
        _die_in(_INIT_S + _FINISH_S)
        heard.put(None)

    threading.Thread(target=listen, daemon=True).start()
    spoken, sys.stdout = os.fdopen(os.dup(1), "w"), open(os.devnull, "w")  # noqa: SIM115 - until the end

    def say(text: str) -> None:
        with suppress(OSError):
            print(" ".join(text.split()), file=spoken, flush=True)

    follower = _Follower(mode, pid, say)
    while True:
        try:
            message = heard.get(timeout=_POLL_S)
        except Empty:
            follower.catch_up()
            continue
        if message is None:
            return follower.abandon()
        if not follower.obey(message):
            return None


def _die_in(seconds: float) -> None:
    """Kill this process and wandb's beside it after so long, if they are still there."""

    def die() -> None:
        time.sleep(seconds)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=die, daemon=True).start()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
