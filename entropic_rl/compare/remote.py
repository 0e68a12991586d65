"""Jobs on other machines, from where they are asked for: handed out, listened to, tried again when one is lost."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from entropic_rl.compare.jobs import Job
from entropic_rl.compare.parcels import Sender, folders_of, put_down
from entropic_rl.compare.pool import Ended

__all__ = ["Cluster", "Order", "run_remotely"]

_PATIENCE_S = 90.0  # for jobs that were asked to stop, write their checkpoints and send them


@dataclass(frozen=True, slots=True)
class Order:
    """A job as another machine gets it: plain values.

    Attributes:
        number: of the job.
        attempt: 0 at first; what earlier attempts still say is not listened to.
        job: as its process reads it, with absolute paths.
        out: the comparison's directory, where this was asked for.
        cwd: where it was asked for; modules of the user's own lie there.
        parcel: files to begin with, for a machine that does not see ``out``.
    """

    number: int
    attempt: int
    job: dict[str, Any]
    out: str
    cwd: str
    parcel: dict[str, bytes]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


class Cluster(Protocol):
    """Machines that take orders.

    What they say are mappings with ``rows`` or ``note``, as workers do; ``files``, a parcel; ``warnings``, lines;
    ``ended``, an :class:`Ended` as a mapping, or None of a job that was asked to stop; ``lost``, why one has to be
    tried again.
    """

    sends_files: bool
    """Whether orders carry files."""

    def submit(self, orders: Sequence[Order]) -> None:
        """Have them begun when there is room."""

    def poll(self) -> list[tuple[int, int, dict[str, Any]]]:
        """Number and attempt of jobs, and what they said since the last time; waits a moment."""

    def stop(self) -> None:
        """Ask all jobs to stop; they go on saying things until they have."""


def run_remotely(
    cluster: Cluster,
    jobs: Sequence[Job],
    *,
    out: Path,
    width: int,
    retries: int,
    job_type: str,
    tell: Callable[[Job, Mapping[str, Any]], None],
) -> list[Ended]:
    """Train every job on a cluster and return how each ended.

    Args:
        cluster: trains them.
        jobs: started in this order.
        out: the comparison's directory.
        width: orders at a time.
        retries: times a job that was lost is begun again, from its newest checkpoint if there is one.
        job_type: of the runs in Weights & Biases.
        tell: called with each event of a job: ``rows`` or ``note``.
    """
    book = _Book(cluster, jobs, out.absolute(), job_type=job_type, tell=tell, retries=retries)
    try:
        while book.is_open:
            book.hand_out(width)
            book.listen()
    except BaseException:  # whatever stopped this, nothing goes on elsewhere
        book.stop()
        raise
    return [book.ended[number] for number in range(len(jobs))]


class _Book:
    """Which jobs wait, are at work, have ended."""

    def __init__(
        self, cluster: Cluster, jobs: Sequence[Job], out: Path, *, job_type: str, tell: Any, retries: int
    ) -> None:
        self._cluster, self._jobs, self._out, self._tell = cluster, jobs, out, tell
        self._moved = [_absolute(job) for job in jobs]
        self._folders = [folders_of(job, out) for job in self._moved]
        self._job_type, self._retries = job_type, retries
        self._attempts = dict.fromkeys(range(len(jobs)), 0)
        self._waiting, self._working = deque(range(len(jobs))), set[int]()
        self.ended: dict[int, Ended] = {}

    @property
    def is_open(self) -> bool:
        """Whether there is a job that has not ended."""
        return len(self.ended) < len(self._jobs)

    def hand_out(self, width: int) -> None:
        """Have as many at work as are allowed at a time."""
        chosen = [self._waiting.popleft() for _ in range(min(width - len(self._working), len(self._waiting)))]
        if chosen:
            self._cluster.submit([self._order(number) for number in chosen])
            self._working |= {*chosen}

    def listen(self) -> None:
        """Take in what jobs have said."""
        for number, attempt, event in self._cluster.poll():
            if number in self._working and attempt == self._attempts[number]:
                self._take(number, event)

    def stop(self) -> None:
        """Ask all to stop, and take in what they leave; a further interrupt ends the waiting."""
        until = time.monotonic() + _PATIENCE_S
        self._tell = lambda job, event: None  # nobody looks any more
        self._cluster.stop()
        while self._working and time.monotonic() < until:
            self.listen()

    def _order(self, number: int) -> Order:
        job = self._moved[number]
        # A first attempt goes on, too, if there is something: a machine may begin an order a second time by itself.
        told = {**job.to_json(), "resume": job.checkpoints is not None, "job_type": self._job_type}
        parcel = Sender(self._out, self._folders[number]).parcel() if self._cluster.sends_files else {}
        return Order(number, self._attempts[number], told, str(self._out), str(Path.cwd()), parcel)

    def _take(self, number: int, event: dict[str, Any]) -> None:
        job = self._jobs[number]
        if "files" in event:
            put_down(event["files"], self._out, self._folders[number])
        elif "warnings" in event:
            print(*event["warnings"], sep="\n", file=sys.stderr)
        elif "lost" in event:
            self._lose(number, event["lost"])
        elif "ended" in event:
            self._working.discard(number)
            stopped = Ended("its process was asked to stop; resume goes on with it")
            self.ended[number] = stopped if event["ended"] is None else Ended(**event["ended"])
        else:
            self._tell(job, event)

    def _lose(self, number: int, why: str) -> None:
        """Try a job again, or give it up."""
        self._working.discard(number)
        if self._attempts[number] < self._retries:
            self._attempts[number] += 1
            self._waiting.append(number)
            print(f"{len(self._jobs[number].cells)} runs were lost ({why}); they go on elsewhere", file=sys.stderr)
            self._tell(self._jobs[number], {"note": f"lost, try {self._attempts[number] + 1}"})
        else:
            self.ended[number] = Ended(f"{why}; it was tried {self._retries + 1} times, resume goes on with it")
            with suppress(Exception):
                self._tell(self._jobs[number], {"note": "failed"})


def _absolute(job: Job) -> Job:
    """The same, wherever its process is started."""
    cells = tuple(replace(cell, directory=cell.directory.absolute()) for cell in job.cells)
    return replace(job, cells=cells, checkpoints=None if job.checkpoints is None else job.checkpoints.absolute())
