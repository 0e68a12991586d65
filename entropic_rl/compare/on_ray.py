"""``--engine ray``: jobs as Ray tasks, on as many nodes as there are.

A task runs the same worker process as the local pool does. What it says goes through one actor beside the driver. Ray
itself retries nothing: the driver does, because it knows the newest checkpoint.
"""

from __future__ import annotations

import platform
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from entropic_rl.compare.jobs import Job
from entropic_rl.compare.pool import Ended
from entropic_rl.compare.remote import Order, run_remotely
from entropic_rl.compare.station import sees, work
from entropic_rl.errors import ConfigError, first_line
from entropic_rl.extras import missing_package
from entropic_rl.interruption import Stopped

__all__ = ["RayEngine"]

T = TypeVar("T")
_SHARE = 0.8  # of a node's memory that is used
_POLL_S = 0.2
_TOKEN = ".seen-by-engine"


class Mailbox:
    """What jobs say, until the driver takes it; and whether they are to stop. An actor."""

    def __init__(self) -> None:
        self._said: list[tuple[int, int, dict[str, Any]]] = []
        self._stopping = False

    def say(self, number: int, attempt: int, event: dict[str, Any]) -> None:
        """Keep what a job said."""
        self._said.append((number, attempt, event))

    def take(self) -> list[tuple[int, int, dict[str, Any]]]:
        """Everything said since the last time."""
        said, self._said = self._said, []
        return said

    def stop(self) -> None:
        """Jobs are to stop."""
        self._stopping = True

    def is_stopping(self) -> bool:
        """Whether they are."""
        return self._stopping


class RayEngine:
    """Ray tasks; see :class:`entropic_rl.compare.engines.Engine`."""

    def __init__(self, ray: Any, options: Mapping[str, Any], out: Path) -> None:
        self._ray, self._options, self._out = ray, options, out
        self._resources = {"num_cpus": options["cpus"], "num_gpus": options["gpus"], "max_retries": 0}

    @classmethod
    @contextmanager
    def opened(cls, options: Mapping[str, Any], out: Path) -> Iterator[RayEngine]:
        """Connected to the cluster, or to a new one on this machine.

        Raises:
            ConfigError: Ray is not installed, or the cluster does not answer.
        """
        try:
            import ray
        except ImportError as error:
            raise ConfigError(f"--engine ray needs {missing_package(error) or error}") from None
        _check_address(options["address"])
        handler = signal.getsignal(signal.SIGTERM)  # which Ray takes for itself
        try:
            ray.init(
                address=options["address"] or None, include_dashboard=False if not options["address"] else None,
                log_to_driver=False, logging_level="ERROR",
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = options["address"] or "this machine"
            raise _no_cluster(where, first_line(error)) from None
        finally:
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGTERM, handler)
        try:
            yield cls(ray, options, out)
        finally:
            ray.shutdown()

    def capacity(self, n_workers: int | None) -> tuple[int, int]:
        """Jobs at a time, and bytes for all of them: what the node with the least for a job has."""
        slots = [_slots(node["Resources"], self._options) for node in self._ray.nodes() if node["Alive"]]
        slots = [(n, memory) for n, memory in slots if n > 0]
        if not slots:
            raise ConfigError(
                f"--engine ray: expected a node with {self._options['cpus']} cores and {self._options['gpus']:g} GPUs, "
                "got none; ask for less with --engine-option, or add nodes"
            )
        n = n_workers or sum(n for n, _ in slots)
        return n, int(min(memory / n for n, memory in slots) * n)

    def run_jobs(
        self, jobs: Sequence[Job], n_workers: int, *, job_type: str, tell: Callable[[Job, Mapping[str, Any]], None]
    ) -> list[Ended]:
        """As :func:`entropic_rl.compare.pool.run_jobs`."""
        token = secrets.token_hex(16)
        path = (self._out / _TOKEN).absolute()
        path.write_text(token)
        try:
            cluster = _RayCluster(
                self._ray, self._resources, {"path": str(path), "text": token}, self._options["files"]
            )
            retries = self._options["retries"]
            return run_remotely(
                cluster, jobs, out=self._out, width=n_workers, retries=retries, job_type=job_type, tell=tell
            )
        finally:
            path.unlink(missing_ok=True)


def _check_address(address: str) -> None:
    """Whether anybody is there: Ray itself takes a minute to say no.

    Raises:
        ConfigError: nobody is.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10.0).close()
        except (OSError, OverflowError) as error:
            raise _no_cluster(address, first_line(error)) from None


def _no_cluster(where: str, why: str) -> ConfigError:
    return ConfigError(
        f"--engine ray: expected a Ray cluster at {where}, got: {why}; start one with: ray start --head, and give "
        "--engine-option address=HOST:PORT"
    )


def _slots(resources: Mapping[str, float], options: Mapping[str, Any]) -> tuple[int, float]:
    """How many jobs fit onto a node, and the bytes it has."""
    n = int(resources.get("CPU", 0) // options["cpus"])
    if options["gpus"]:
        n = min(n, int(resources.get("GPU", 0) / options["gpus"]))
    return n, _SHARE * resources.get("memory", 0)


class _RayCluster:
    """See :class:`entropic_rl.compare.remote.Cluster`."""

    def __init__(self, ray: Any, resources: Mapping[str, Any], token: Mapping[str, str], files: str) -> None:
        self._ray, self._token, self._files = ray, token, files
        self.sends_files = files != "shared"
        self._task = ray.remote(**resources)(_run_order)
        here = ray.get_runtime_context().get_node_id()
        beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=here, soft=False)
        self._mailbox = ray.remote(num_cpus=0, scheduling_strategy=beside)(Mailbox).remote()
        self._orders: dict[Any, tuple[int, int]] = {}  # by what Ray gives for a task

    def submit(self, orders: Sequence[Order]) -> None:
        for order in orders:
            ref = self._task.remote(order.to_json(), self._mailbox, self._token, self._files)
            self._orders[ref] = order.number, order.attempt

    def poll(self) -> list[tuple[int, int, dict[str, Any]]]:
        ray, orders = self._ray, [*self._orders]
        over, _ = _interruptible(lambda: ray.wait(orders, num_returns=len(orders), timeout=_POLL_S))
        said: list[tuple[int, int, dict[str, Any]]] = _interruptible(lambda: ray.get(self._mailbox.take.remote()))
        for ref in over:  # after what it said
            event = self._end_of(ref)
            number, attempt = self._orders.pop(ref)
            said += [] if event is None else [(number, attempt, event)]
        if not self._orders:
            time.sleep(_POLL_S)
        return said

    def stop(self) -> None:
        _interruptible(lambda: self._ray.get(self._mailbox.stop.remote()))

    def _end_of(self, ref: Any) -> dict[str, Any] | None:
        """What there is to say of a task that is over; nothing, if it has said it itself."""
        errors = self._ray.exceptions
        try:
            self._ray.get(ref)
        except errors.RayTaskError as error:  # of ours, or it cannot import this package
            return {"ended": {"error": f"a Ray task failed: {str(error).strip().splitlines()[-1]}"}}
        except errors.RayError as error:
            return {"lost": f"its node or its process was lost ({type(error).__name__})"}
        return None


def _interruptible(call: Callable[[], T]) -> T:
    """What a call of Ray's gives; what a signal raised in it comes out of its compiled code as something else."""
    try:
        return call()
    except SystemError as error:
        if isinstance(error.__cause__, Stopped | KeyboardInterrupt):
            raise error.__cause__ from None
        raise


class _Wire:
    """A :class:`entropic_rl.compare.station.Line` to the mailbox."""

    def __init__(self, mailbox: Any, number: int, attempt: int) -> None:
        self._mailbox, self._name = mailbox, (number, attempt)

    def say(self, event: Mapping[str, Any]) -> None:
        import ray

        said = self._mailbox.say.remote(*self._name, dict(event))
        if event.keys() & {"ended", "files"}:
            ray.get(said)

    def asked_to_stop(self) -> bool:
        import ray

        try:
            return bool(ray.get(self._mailbox.is_stopping.remote()))
        except ray.exceptions.RayError:  # nobody is there any more
            return True


def _run_order(order: dict[str, Any], mailbox: Any, token: Mapping[str, str], files: str) -> None:
    """The task."""
    wire = _Wire(mailbox, order["number"], order["attempt"])
    is_shared = files != "sent" and sees(**token)
    if files == "shared" and not is_shared:
        error = (
            f"node {platform.node()} does not see {order['out']}: expected a folder that all nodes share; choose "
            "another --out, or --engine-option files=sent"
        )
        wire.say({"ended": {"error": error, "users": True}})
        return
    work(order, wire, is_shared=is_shared)
