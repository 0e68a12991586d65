"""What ``--diagnose`` adds to a training: looks at its gradients, kept in the run directory as numbers and pictures.

``gradient_flow.npz`` holds every look, ``gradient_flow.json`` the verdicts, ``gradient_flow.svg`` the heat maps of the
policy's network (``gradient_flow_critics.svg`` those of separate critics).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from entropic_rl.cell import Cell
from entropic_rl.diagnostics.batch_flow import BatchFlow
from entropic_rl.diagnostics.record import Series
from entropic_rl.diagnostics.signals import SIGNALS
from entropic_rl.diagnostics.verdicts import Verdict
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.run_directory import read_json, replace_file, write_json

__all__ = ["Diagnosis", "Undiagnosed", "sentences"]


class Diagnosis:
    """Watches an agent of R runs and leaves what it saw in their directories.

    Args:
        agent: that announces its gradient steps (:class:`entropic_rl.watching.Watcher`).
        cells: its runs.

    Raises:
        ConfigError: it does not announce them.
    """

    def __init__(self, agent: Any, cells: Sequence[Cell]) -> None:
        if not hasattr(agent, "watcher"):
            raise ConfigError(
                f"--diagnose: expected an agent that announces its gradient steps (attribute watcher), got "
                f"{type(agent).__name__}, which has none; leave --diagnose out"
            )
        self._cells = cells
        self._flow = agent.watcher = BatchFlow(cells[0].run.diagnose_every)

    def at(self, global_step: int) -> None:
        """The env steps that looks from now on belong to."""
        self._flow.global_step = global_step

    def row(self, run: int) -> dict[str, float]:
        """What the record of a run gets of the last look."""
        return self._flow.row(run, len(self._cells))

    def save(self) -> None:
        """Write each run's files."""
        for run, cell in enumerate(self._cells):
            self._save(run, cell)

    def _save(self, run: int, cell: Cell) -> None:
        from entropic_rl.page import drawn
        from entropic_rl.plots import plot_flow

        arrays: dict[str, np.ndarray] = {}
        verdicts: dict[str, list[dict[str, str]]] = {}
        figures = {}
        for network, series in self._flow.series(run, len(self._cells)).items():
            arrays |= _arrays(network, series)
            verdicts[network] = [asdict(verdict) for verdict in series.verdicts]
            title = f"{cell.agent} on {cell.run.env}, seed {cell.run.seed}: gradient flow of the {network}"
            states = [verdict.state for verdict in series.verdicts]
            name = "gradient_flow" if network == "policy" else f"gradient_flow_{network}"
            figures[name] = drawn(
                lambda file, s=series, t=title, v=states: plot_flow(  # type: ignore[misc]
                    file, s.layers, s.steps, s.signals, title=t, states=v
                )
            )
        if arrays:
            np.savez_compressed(cell.directory / "gradient_flow.npz", allow_pickle=False, **arrays)
            write_json(
                cell.directory / "gradient_flow.json",
                {"verdicts": verdicts, "seconds": self._flow.seconds, "signals": SIGNALS},
            )
        for name, svg in figures.items():
            replace_file(cell.directory / f"{name}.svg", svg)


class Undiagnosed:
    """In the place of a :class:`Diagnosis` that nobody asked for."""

    def at(self, global_step: int) -> None:
        """Nothing."""

    def row(self, run: int) -> dict[str, float]:
        """Nothing."""
        return {}

    def save(self) -> None:
        """Nothing."""


def sentences(directory: Path) -> list[str]:
    """The verdicts of a run directory in words: of each layer that is not healthy one, or one of all.

    Raises:
        RunDirectoryError: it has none, or others than ours.
    """
    path = directory / "gradient_flow.json"
    found = read_json(path, expected="a run with --diagnose")
    try:
        verdicts = [Verdict(**verdict) for network in found["verdicts"].values() for verdict in network]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunDirectoryError(f"{path} is damaged ({error}); train again") from None
    return [str(v) for v in verdicts if v.state != "healthy"] or [f"all {len(verdicts)} layers are healthy"]


def _arrays(network: str, series: Series) -> dict[str, np.ndarray]:
    named = {f"{network}/{name}": values for name, values in series.signals.items()}
    return {f"{network}/layers": np.array(series.layers), f"{network}/steps": series.steps, **named}
