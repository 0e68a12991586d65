"""``--engine submitit``: jobs as tasks of Slurm's job arrays; on this machine alone with ``cluster=local``, to try it.

Slurm's machines share a file system, so driver and jobs speak through files in ``OUT/engine``: what a job says is a
line each, and the driver's file tells jobs by its changing that somebody is there.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from entropic_rl.compare.jobs import Job
from entropic_rl.compare.memory import available_memory, n_cores
from entropic_rl.compare.pool import Ended
from entropic_rl.compare.remote import Order, run_remotely
from entropic_rl.compare.station import work
from entropic_rl.errors import ConfigError, RunDirectoryError, first_line
from entropic_rl.extras import missing_package

__all__ = ["SubmititEngine"]

_FOLDER, _DRIVER, _BUSY = "engine", "driver", "busy-"
_BEAT_S = 5.0  # between two signs of life of the driver
_ALONE_S = 120.0  # without one, after which a job stops: nobody would note how it ends
_POLL_S = 0.5
_SHARE = 0.8  # of the memory


class SubmititEngine:
    """Jobs of Slurm by way of submitit; see :class:`entropic_rl.compare.engines.Engine`."""

    def __init__(self, submitit: Any, options: Mapping[str, Any], out: Path) -> None:
        self._submitit, self._options, self._out = submitit, options, out

    @classmethod
    @contextmanager
    def opened(cls, options: Mapping[str, Any], out: Path) -> Iterator[SubmititEngine]:
        """Ready; jobs of a driver that died here before have stopped.

        Raises:
            ConfigError: submitit is not installed, or there is no Slurm.
            RunDirectoryError: jobs of before are still at work.
        """
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(f"--engine submitit needs {missing_package(error) or error}") from None
        if options["cluster"] == "slurm" and shutil.which("sbatch") is None:
            raise ConfigError(
                "--engine submitit: expected Slurm's sbatch on this machine, got none; run the command on a login "
                "node, or try it with --engine-option cluster=local"
            )
        folder = out.absolute() / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        _await_former(folder)
        try:
            yield cls(submitit, options, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def capacity(self, n_workers: int | None) -> tuple[int, int]:
        """Jobs at a time, and bytes for all of them."""
        options = self._options
        here = options["cluster"] != "slurm"
        if n_workers is None and not here:
            raise ConfigError(
                "--workers is missing: Slurm does not say how many jobs run at a time; give --workers N, of which each "
                "trains its share of the runs"
            )
        n = n_workers or max(1, n_cores() // options["cpus"])
        if options["mem_gb"]:
            return n, int(_SHARE * options["mem_gb"] * 2**30) * n
        return n, int(_SHARE * available_memory()) if here else 2**62

    def run_jobs(
        self, jobs: Sequence[Job], n_workers: int, *, job_type: str, tell: Callable[[Job, Mapping[str, Any]], None]
    ) -> list[Ended]:
        """As :func:`entropic_rl.compare.pool.run_jobs`."""
        folder = self._out.absolute() / _FOLDER
        cluster = _Submitit(self._submitit, folder, self._options, n_workers)
        # Slurm itself holds back what is too many; on this machine nobody else does.
        width = len(jobs) if self._options["cluster"] == "slurm" else n_workers
        retries = self._options["retries"]
        return run_remotely(cluster, jobs, out=self._out, width=width, retries=retries, job_type=job_type, tell=tell)


class _Submitit:
    """See :class:`entropic_rl.compare.remote.Cluster`."""

    sends_files = False

    def __init__(self, submitit: Any, folder: Path, options: Mapping[str, Any], n_workers: int) -> None:
        self._submitit, self._folder, self._session = submitit, folder, secrets.token_hex(8)
        self._jobs: dict[tuple[int, int], Any] = {}
        self._read: dict[tuple[int, int], int] = {}  # bytes of what they said
        self._silent: set[tuple[int, int]] = set()  # ended, and not heard of why
        self._beaten, self._beats = 0.0, 0
        self._alone_s = math.inf if options["cluster"] == "debug" else _ALONE_S  # that runs jobs in place of the driver
        self._executor = submitit.AutoExecutor(folder=folder / "submitit", cluster=options["cluster"])
        self._executor.update_parameters(**_parameters(options, n_workers))
        self._beat()

    def submit(self, orders: Sequence[Order]) -> None:
        try:
            with warnings.catch_warnings(), self._executor.batch():
                warnings.simplefilter("ignore")
                jobs = [
                    self._executor.submit(_Task(self._alone_s), order.to_json(), str(self._folder), self._session)
                    for order in orders
                ]
        except (self._submitit.core.utils.FailedJobError, self._submitit.core.utils.FailedSubmissionError) as error:
            raise ConfigError(f"--engine submitit: Slurm refused the jobs: {first_line(error)}") from None
        for order, job in zip(orders, jobs, strict=True):
            self._jobs[order.number, order.attempt] = job

    def poll(self) -> list[tuple[int, int, dict[str, Any]]]:
        self._beat()
        time.sleep(_POLL_S)
        over = {name for name, job in self._jobs.items() if job.done()}
        said: list[tuple[int, int, dict[str, Any]]] = []
        for name in [*self._jobs]:
            events = self._news(name)
            said += [(*name, event) for event in events]
            if any("ended" in event for event in events):
                del self._jobs[name]
            elif name in over and name in self._silent:  # for the second time: files may come late
                said.append((*name, self._why(self._jobs.pop(name))))
            elif name in over:
                self._silent.add(name)
        return said

    def stop(self) -> None:
        self._beat("stop")
        for job in self._jobs.values():
            if getattr(job, "state", "") == "PENDING":  # it would begin in order to stop
                job.cancel(check=False)

    def _beat(self, word: str = "go on") -> None:
        """A sign of life, or the word to stop, which stays."""
        if word == "stop" or (self._beats >= 0 and time.monotonic() - self._beaten >= _BEAT_S):
            self._beaten, self._beats = time.monotonic(), -1 if word == "stop" else self._beats + 1
            (self._folder / _DRIVER).write_text(f"{self._session} {self._beats}")

    def _news(self, name: tuple[int, int]) -> list[dict[str, Any]]:
        """Whole lines that a job has added to its file."""
        path = _events(self._folder, self._session, *name)
        try:
            with path.open("rb") as file:
                file.seek(self._read.get(name, 0))
                text = file.read()
        except FileNotFoundError:
            return []
        text = text[: text.rfind(b"\n") + 1]
        self._read[name] = self._read.get(name, 0) + len(text)
        return [json.loads(line) for line in text.splitlines()]

    def _why(self, job: Any) -> dict[str, Any]:
        """Of a job that said no end."""
        with suppress(Exception):
            error = job.exception()
            if isinstance(error, self._submitit.core.utils.FailedJobError):  # ours, or it cannot import this package
                lines = [line for line in str(error).strip().splitlines() if line.strip(" -")]
                return {"ended": {"error": f"a Slurm job failed: {lines[-1] if lines else 'it did not say why'}"}}
        return {"lost": "its job ended before it had finished"}


class _Task:
    """What a job of Slurm runs; before its time is up, or it has to make room, submitit asks for what comes next."""

    def __init__(self, alone_s: float) -> None:
        self._alone_s = alone_s

    def __call__(self, order: dict[str, Any], folder: str, session: str) -> None:
        """Train the job of an order."""
        name = order["number"], order["attempt"]
        busy = Path(folder) / f"{_BUSY}{session}-{name[0]}"
        busy.touch()
        try:
            work(order, _File(Path(folder), session, *name, alone_s=self._alone_s), is_shared=True)
        finally:
            busy.unlink(missing_ok=True)

    def checkpoint(self, order: dict[str, Any], folder: str, session: str) -> Any:
        """The same again: it goes on from its newest checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, order, folder, session)


class _File:
    """A :class:`entropic_rl.compare.station.Line` by files."""

    def __init__(self, folder: Path, session: str, number: int, attempt: int, *, alone_s: float) -> None:
        self._alone_s = alone_s
        self._path, self._driver = _events(folder, session, number, attempt), folder / _DRIVER
        self._session, self._seen, self._seen_at = session, "", time.monotonic()

    def say(self, event: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def asked_to_stop(self) -> bool:
        """The driver says so, there is another one, or it is gone."""
        try:
            text = self._driver.read_text()
        except FileNotFoundError:
            return True
        except OSError:  # of a file system that is away for a moment
            text = self._seen
        if text and text != self._seen:
            self._seen, self._seen_at = text, time.monotonic()
            session, _, beats = text.partition(" ")
            return session != self._session or beats == "-1"
        return time.monotonic() - self._seen_at > self._alone_s


def _events(folder: Path, session: str, number: int, attempt: int) -> Path:
    return folder / f"said-{session}-{number}-{attempt}.jsonl"


def _await_former(folder: Path) -> None:
    """Have jobs of a driver that died stopped before others begin in their place."""
    (folder / _DRIVER).write_text(f"{secrets.token_hex(8)} -1")
    until = time.monotonic() + _ALONE_S
    while left := [*folder.glob(f"{_BUSY}*")]:
        if time.monotonic() > until:
            names = ", ".join(path.name for path in left[:4])
            raise RunDirectoryError(
                f"jobs of a former driver have not stopped within {_ALONE_S:.0f} s: expected none at work; look with "
                f"squeue, and where they are gone remove {folder} ({names})"
            )
        time.sleep(_POLL_S)


def _parameters(options: Mapping[str, Any], n_workers: int) -> dict[str, Any]:
    """As ``AutoExecutor.update_parameters`` has them."""
    asked = {
        "name": "entropic-rl",
        "timeout_min": options["minutes"],
        "cpus_per_task": options["cpus"],
        "gpus_per_node": options["gpus"],
        "nodes": 1,
        "tasks_per_node": 1,
        "mem_gb": options["mem_gb"] or None,
        "slurm_partition": options["partition"] or None,
        "slurm_account": options["account"] or None,
        "slurm_array_parallelism": n_workers,
    }
    return {name: value for name, value in asked.items() if value is not None}
