"""Jobs in processes of their own, several at a time; one that dies takes nothing else with it. Free of torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import IO, Any, cast

from entropic_rl.compare.jobs import Job
from entropic_rl.interruption import EXIT_CODE
from entropic_rl.user_modules import safe_path

__all__ = ["Ended", "run_jobs"]

_PATIENCE_S = 60.0  # for a worker that was asked to stop, and writes its checkpoint
_BEAT_S = 0.5

# Freed memory is kept for the next step instead of being given back to the system and faulted in again: a quarter of
# the time of an update. glibc reads these once, at start; other systems ignore them.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(2**26),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended.

    Attributes:
        error: one line; None if all is well.
        users: whether the user can mend it.
        peak: bytes of memory its process held at most; None if it did not live to tell.
    """

    error: str | None = None
    users: bool = False
    peak: int | None = None


@dataclass(slots=True)
class _Worker:
    job: Job
    process: subprocess.Popen[str]
    complaints: IO[str]
    last: dict[str, Any] = field(default_factory=dict)  # the event that says how it ended


def run_jobs(
    jobs: Sequence[Job],
    n_workers: int,
    *,
    job_type: str,
    tell: Callable[[Job, Mapping[str, Any]], None],
    beat: Callable[[], None] | None = None,
) -> list[Ended]:
    """Train every job, ``n_workers`` at a time, and return how each ended.

    Args:
        jobs: started in this order.
        n_workers: processes at a time.
        job_type: of the runs in Weights & Biases.
        tell: called with each event of a job: ``rows`` or ``note``.
        beat: called all the time, at least twice a second, if given; what it raises stops all.
    """
    waiting, running = deque(enumerate(jobs)), dict[int, _Worker]()
    ended: dict[int, Ended] = {}
    events: Queue[tuple[int, dict[str, Any] | None]] = Queue()
    try:
        while waiting or running:
            while waiting and len(running) < n_workers:
                number, job = waiting.popleft()
                running[number] = _start(number, job, job_type, events)
            number, event = _next(events, beat)
            worker = running[number]
            if event is None:
                ended[number] = _conclude(running.pop(number))
                tell(worker.job, {"note": "failed" if ended[number].error else "finished"})
            elif event.keys() & {"rows", "note"}:
                tell(worker.job, event)
            else:
                worker.last = event
    finally:  # whatever stopped this, no process is left behind
        _stop([*running.values()])
    return [ended[number] for number in range(len(jobs))]


def _next(
    events: Queue[tuple[int, dict[str, Any] | None]], beat: Callable[[], None] | None
) -> tuple[int, dict[str, Any] | None]:
    while beat is not None:
        beat()
        with suppress(Empty):
            return events.get(timeout=_BEAT_S)
    return events.get()


def _start(number: int, job: Job, job_type: str, events: Queue[tuple[int, dict[str, Any] | None]]) -> _Worker:
    threads = str(job.cells[0].run.num_threads)
    complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when the worker is concluded
    process = subprocess.Popen(
        [sys.executable, "-m", "entropic_rl.compare.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        env={**_MALLOC, **os.environ, **safe_path(), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
    )
    told, heard = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
    try:
        json.dump({**job.to_json(), "job_type": job_type}, told)
        told.close()
    except BrokenPipeError:  # it died at once; its end says why
        with suppress(BrokenPipeError):
            told.close()
    threading.Thread(target=_listen, args=(number, heard, events), daemon=True).start()
    return _Worker(job, process, complaints)


def _listen(number: int, lines: IO[str], events: Queue[tuple[int, dict[str, Any] | None]]) -> None:
    with lines:  # nobody else closes them, as nobody else knows when they have been read
        for line in lines:
            try:
                events.put((number, json.loads(line)))
            except ValueError:
                break  # torn: it was killed while it wrote
    events.put((number, None))


def _conclude(worker: _Worker) -> Ended:
    """How a worker ended whose output has ended; what it complained of is passed on."""
    code = _await(worker)
    worker.complaints.seek(0)
    lines = [line.rstrip() for line in worker.complaints if line.strip()]
    worker.complaints.close()
    if code == 0:
        for line in dict.fromkeys(lines):
            print(line, file=sys.stderr)
        return Ended(peak=worker.last.get("peak"))
    if "error" in worker.last:
        return Ended(worker.last["error"], users=True)
    if code == EXIT_CODE:
        return Ended("its process was asked to stop; resume goes on with it")
    if code < 0:
        likely = " (out of memory?)" if -code == signal.SIGKILL else ""
        return Ended(f"its process was killed by {signal.Signals(-code).name}{likely}")
    return Ended(f"its process ended with exit code {code}: {lines[-1] if lines else 'it did not say why'}")


def _stop(workers: Sequence[_Worker]) -> None:
    """Ask workers to stop and wait for them; a second interrupt while waiting kills them."""
    try:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _await(worker)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            worker.complaints.close()


def _await(worker: _Worker) -> int:
    try:
        return worker.process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        return worker.process.wait()
