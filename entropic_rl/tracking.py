"""The record of a run, and its mirrors.

``metrics.jsonl`` in the run directory is the record: one line per interval, flushed at once. Weights & Biases and
TensorBoard are views of it, and trouble with them never costs the run: Weights & Biases is served by a process of its
own (:mod:`entropic_rl.mirroring`).
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.mirroring import Mirrored, summarize, wandb_mode
from entropic_rl.run_directory import read_metrics, write_json

__all__ = ["Recorder", "track_comparison", "versions"]


class Recorder:
    """Writes one run's record and its mirrors.

    Args:
        directory: the run directory, made if need be.
        config: what goes to ``config.json`` and to the trackers' configuration.
        run: which mirrors to keep.
        job_type: W&B's job type.
        resume: go on with the record that is there; :meth:`cut_back` says from where, and must come first.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        run: RunConfig,
        *,
        job_type: str = "train",
        resume: bool = False,
    ) -> None:
        self.directory, self._run, self._job_type = directory, run, job_type
        self._mirrored: Mirrored | None = None
        self._tensorboard: Any = None
        self._summary_writer = _tensorboard_writer() if run.tensorboard else None
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot make run directory {directory}: {error.strerror}; choose another"
            ) from None
        if not (resume and (directory / "config.json").exists()):
            write_json(directory / "config.json", config)
        self._metrics: TextIO = (directory / "metrics.jsonl").open("a" if resume else "w", buffering=1)
        if not resume:
            self._open_mirrors()

    def log(self, row: Mapping[str, float]) -> None:
        """Append a row; ``row["global_step"]`` is the axis of every curve."""
        numbers = {name: x if math.isfinite(x) else None for name, x in row.items()}
        self._metrics.write(json.dumps(numbers) + "\n")
        if self._mirrored is not None:
            self._mirrored.complain()
        if self._tensorboard is not None:
            self._mirror(lambda: self._log_tensorboard(row))

    def offset(self) -> int:
        """Bytes of the record so far, which are on the disk then."""
        if not self._metrics.closed:
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
        return (self.directory / "metrics.jsonl").stat().st_size

    def cut_back(self, offset: int) -> None:
        """Forget rows after the first ``offset`` bytes: they are written again, and the mirrors go on there."""
        self._metrics.truncate(offset)
        self._open_mirrors()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json`` and close everything."""
        write_json(self.directory / "summary.json", summary)
        self.close()

    def close(self, exit_code: int = 0) -> None:
        """Close files and mirrors; twice does no harm."""
        self._metrics.close()
        if self._mirrored is not None:
            self._mirrored.close(exit_code)
            self._mirrored = None
        if self._tensorboard is not None:
            self._mirror(self._tensorboard.close)
            self._tensorboard = None

    def _open_mirrors(self) -> None:
        """After the last row that is kept."""
        if self._run.track and wandb_mode(self._run) != "disabled":
            self._mirrored = Mirrored(self.directory, self._run, self._job_type)
        if self._summary_writer is not None:
            rows = read_metrics(self.directory)
            following = int(rows[-1]["global_step"]) + 1 if rows else 0  # what was shown from there on is forgotten
            self._tensorboard = self._summary_writer(str(self.directory / "tensorboard"), purge_step=following)

    def _log_tensorboard(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "global_step" and math.isfinite(value):
                self._tensorboard.add_scalar(name, value, int(row["global_step"]))

    def _mirror(self, write: Callable[[], Any]) -> None:
        """Write to TensorBoard; if that fails, say so once and go on without it."""
        try:
            write()
        except Exception as error:  # whatever it is, the record is in metrics.jsonl
            self._tensorboard = None
            warnings.warn(f"tracking failed, the run goes on without TensorBoard ({error})", stacklevel=3)


def track_comparison(
    directory: Path,
    run: RunConfig,
    config: Mapping[str, Any],
    *,
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]],
    figures: Mapping[str, str],
    summary: Mapping[str, Any],
) -> None:
    """A Weights & Biases run that sums up a comparison, in the group of its cells; trouble with it is a warning.

    Args:
        directory: of the comparison.
        run: with the group and the mode of tracking.
        config: what was compared.
        tables: name -> (columns, rows).
        figures: name -> SVG.
        summary: single numbers and sentences.
    """
    if not run.track or wandb_mode(run) == "disabled":
        return
    shown = {"tables": dict(tables), "figures": dict(figures)}
    summarize(directory, run, {"config": dict(config), "summary": dict(summary), **shown})


@cache
def versions() -> dict[str, str]:
    """What a result depends on beside the settings: package versions, Python, platform, the commit if in a checkout."""
    packages = ("entropic-rl", "torch", "numpy", "gymnasium", "wandb")
    found = {name: metadata.version(name) for name in packages}
    found |= {"python": platform.python_version(), "platform": platform.platform()}
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
        found["git"] = described.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass  # no git, or no checkout
    return found


def _tensorboard_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            '--tensorboard needs a package that is not installed; run: pip install "entropic-rl[tensorboard]"'
        ) from None
    return SummaryWriter
