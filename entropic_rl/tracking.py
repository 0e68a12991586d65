"""The record of a run, and its mirrors.

``metrics.jsonl`` in the run directory is the record: one line per interval, flushed at once. Weights & Biases and
TensorBoard are views of it, and trouble with them never costs the run.
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
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal, TextIO

from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.run_directory import strict, write_json

__all__ = ["Recorder", "track_comparison", "versions"]


class Recorder:
    """Writes one run's record and its mirrors.

    Args:
        directory: the run directory, made if need be.
        config: what goes to ``config.json`` and to the trackers' configuration.
        run: which mirrors to keep.
        job_type: W&B's job type.
        resume: go on with the record that is there; see :meth:`cut_back`.
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
        self.directory = directory
        tensorboard = _tensorboard_writer() if run.tensorboard else None
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot make run directory {directory}: {error.strerror}; choose another"
            ) from None
        if not (resume and (directory / "config.json").exists()):
            write_json(directory / "config.json", config)
        self._metrics: TextIO = (directory / "metrics.jsonl").open("a" if resume else "w", buffering=1)
        self._wandb: Any = _start_wandb(directory, config, run, job_type) if run.track else None
        self._tensorboard: Any = tensorboard and tensorboard(str(directory / "tensorboard"))

    def log(self, row: Mapping[str, float]) -> None:
        """Append a row; ``row["global_step"]`` is the axis of every curve."""
        self._metrics.write(json.dumps(strict(row), allow_nan=False) + "\n")
        if self._wandb is not None:
            self._mirror(lambda: self._wandb.log(dict(row)))
        if self._tensorboard is not None:
            self._mirror(lambda: self._log_tensorboard(row))

    def show(self, figures: Mapping[str, str]) -> None:
        """Figures, name -> SVG text, for Weights & Biases; in the directory they are already."""
        if self._wandb is not None and figures:
            import wandb

            drawn = {f"figure/{name}": wandb.Html(svg, inject=False) for name, svg in figures.items()}
            self._mirror(lambda: self._wandb.log(drawn))

    def offset(self) -> int:
        """Bytes of the record so far, which are on the disk then."""
        if not self._metrics.closed:
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
        return (self.directory / "metrics.jsonl").stat().st_size

    def cut_back(self, offset: int) -> None:
        """Forget rows after the first ``offset`` bytes: what is to come writes them again."""
        self._metrics.truncate(offset)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write ``summary.json`` and close everything."""
        write_json(self.directory / "summary.json", summary)
        if self._wandb is not None:
            self._mirror(lambda: self._wandb.summary.update(dict(summary)))
        self.close()

    def close(self, exit_code: int = 0) -> None:
        """Close files and mirrors; twice does no harm."""
        self._metrics.close()
        if self._wandb is not None:
            self._mirror(lambda: self._wandb.finish(exit_code=exit_code))
            self._wandb = None
        if self._tensorboard is not None:
            self._mirror(self._tensorboard.close)
            self._tensorboard = None

    def _log_tensorboard(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "global_step" and math.isfinite(value):
                self._tensorboard.add_scalar(name, value, int(row["global_step"]))

    def _mirror(self, write: Callable[[], Any]) -> None:
        """Write to the mirrors; if that fails, say so once and go on without them."""
        try:
            write()
        except Exception as error:  # whatever it is, the record is in metrics.jsonl
            self._wandb = self._tensorboard = None
            warnings.warn(f"tracking failed, the run goes on without its mirrors ({error})", stacklevel=3)


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
    tracked = _start_wandb(directory, config, run, "compare")
    if tracked is None:
        return
    try:
        import wandb

        shown: dict[str, Any] = {
            f"table/{name}": wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            for name, (columns, rows) in tables.items()
        }
        shown |= {f"figure/{name}": wandb.Html(svg, inject=False) for name, svg in figures.items()}
        tracked.log(shown)
        tracked.summary.update(dict(summary))
        tracked.finish()
    except Exception as error:  # the report is in the directory
        warnings.warn(f"tracking the comparison failed ({error})", stacklevel=2)


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


def _start_wandb(directory: Path, config: Mapping[str, Any], run: RunConfig, job_type: str) -> Any:
    import wandb

    mode = run.wandb_mode or ("online" if _has_api_key() else "offline")

    def start(mode: Literal["online", "offline", "disabled"]) -> Any:
        return wandb.init(
            project=run.wandb_project,
            entity=run.wandb_entity,
            group=run.wandb_group,
            tags=run.wandb_tags,
            job_type=job_type,
            name=directory.name,
            dir=str(directory),
            config=dict(config),
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, init_timeout=30),
        )

    for attempt in dict.fromkeys((mode, "offline")):
        try:
            tracked = start(attempt)
            tracked.define_metric("global_step")
            tracked.define_metric("*", step_metric="global_step")
            return tracked
        except Exception as error:  # wandb raises many kinds; none may cost the run
            further = "tracking offline instead" if attempt == "online" else "the run goes on without it"
            warnings.warn(f"Weights & Biases cannot be started, {further} ({error})", stacklevel=3)
    return None


def _has_api_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc().authenticators("api.wandb.ai") is not None
    except (OSError, NetrcParseError):
        return False


def _tensorboard_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            '--tensorboard needs a package that is not installed; run: pip install "entropic-rl[tensorboard]"'
        ) from None
    return SummaryWriter
