"""Where the jobs of a comparison are trained: processes here, Ray, Slurm; free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from entropic_rl.compare.jobs import Job
from entropic_rl.compare.pool import Ended
from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError

__all__ = ["ENGINES", "Engine", "Option", "opened", "read_options"]


class Engine(Protocol):
    """Trains jobs on machines that may be others."""

    def capacity(self, n_workers: int | None) -> tuple[int, int]:
        """How many jobs run at a time, ``n_workers`` if that is given, and bytes of memory for all of them."""

    def run_jobs(
        self, jobs: Sequence[Job], n_workers: int, *, job_type: str, tell: Callable[[Job, Mapping[str, Any]], None]
    ) -> list[Ended]:
        """As :func:`entropic_rl.compare.pool.run_jobs`."""


@dataclass(frozen=True, slots=True)
class Option:
    """One ``--engine-option KEY=VALUE``.

    Attributes:
        help: what it says, with its unit.
        default: also its type, unless that is None.
        least: smallest number.
        choices: what it may be, if that is not free.
    """

    help: str
    default: str | int | float
    least: float = 0
    choices: tuple[str, ...] = ()


_RETRIES = Option("times a job goes on elsewhere after its machine was lost", 3)
ENGINES: dict[str, dict[str, Option]] = {
    "local": {},
    "ray": {
        "address": Option("of the cluster, HOST:PORT; without, the one of this machine, or a new one on it", ""),
        "cpus": Option("cores of a job", 1, least=1),
        "gpus": Option("GPUs of a job; may be a fraction", 0.0),
        "files": Option(
            "shared: every node sees --out; sent: results and checkpoints travel through Ray; auto: whichever it is",
            "auto",
            choices=("auto", "shared", "sent"),
        ),
        "retries": _RETRIES,
    },
    "submitit": {
        "cluster": Option("slurm; local or debug to try it without", "slurm", choices=("slurm", "local", "debug")),
        "partition": Option("of Slurm", ""),
        "account": Option("of Slurm", ""),
        "minutes": Option("of a job at most; then it is requeued and goes on", 1440, least=1),
        "cpus": Option("cores of a job", 1, least=1),
        "gpus": Option("GPUs of a job", 0),
        "mem_gb": Option("GB of memory of a job; 0 for the cluster's default", 0),
        "retries": _RETRIES,
    },
}
"""Engine -> its options by name."""


def read_options(engine: str, words: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE ...`` as values of all options of an engine.

    Raises:
        ConfigError: there is no such engine or option, or a value is not what it can be.
    """
    if engine not in ENGINES:
        known = ", ".join(ENGINES)
        raise ConfigError(f"--engine: expected one of {known}, got {engine!r}{suggestion(engine, [*ENGINES])}")
    options, values = ENGINES[engine], dict[str, Any]()
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"--engine-option: expected KEY=VALUE, got {word!r}")
        if key not in options:
            known = ", ".join(options) or "none; they are for --engine ray and --engine submitit"
            hint = suggestion(key, [*options])
            raise ConfigError(f"--engine-option of {engine}: expected one of {known}, got {key!r}{hint}")
        if key in values:
            raise ConfigError(f"--engine-option {key}: expected one value, got several")
        values[key] = _value(key, options[key], text)
    return {key: option.default for key, option in options.items()} | values


def _value(key: str, option: Option, text: str) -> Any:
    if isinstance(option.default, str):
        if option.choices and text not in option.choices:
            raise ConfigError(f"--engine-option {key}: expected one of {', '.join(option.choices)}, got {text!r}")
        return text
    kind = type(option.default)
    what = "a whole number" if kind is int else "a number"
    try:
        value = kind(text)
    except ValueError:
        raise ConfigError(f"--engine-option {key}: expected {what}, got {text!r}") from None
    if not option.least <= value < 2**31:  # NaN is not, either
        raise ConfigError(f"--engine-option {key}: expected {what} of at least {option.least}, got {text}")
    return value


@contextmanager
def opened(engine: str, options: Mapping[str, Any], out: Path) -> Iterator[Engine | None]:
    """The engine, ready for jobs of the comparison in ``out``; None for processes on this machine.

    Raises:
        ConfigError: a package is missing, or there is no cluster.
    """
    if engine == "local":
        yield None
    elif engine == "ray":
        from entropic_rl.compare.on_ray import RayEngine

        with RayEngine.opened(options, out) as ray:
            yield ray
    else:
        from entropic_rl.compare.on_slurm import SubmititEngine

        with SubmititEngine.opened(options, out) as slurm:
            yield slurm
