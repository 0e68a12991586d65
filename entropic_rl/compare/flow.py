"""Where the entropy's gradient stands against the task's, in every layer and over training, setting by setting."""

from __future__ import annotations

from collections import Counter

import numpy as np

from entropic_rl.compare.analysis import Group, Section
from entropic_rl.compare.outcomes import Outcome
from entropic_rl.errors import RunDirectoryError
from entropic_rl.page import Picture, drawn
from entropic_rl.plots.flow import plot_flows
from entropic_rl.run_directory import read_json

__all__ = ["flow_picture"]

_COLUMNS = 40  # of a heat map


def flow_picture(section: Section) -> Picture | None:
    """Heat maps of a section whose runs were diagnosed; None if they were not, or have no entropy term."""
    layers = _layers(section)
    if not layers:
        return None
    last = max(o.rows[-1]["global_step"] for group in section.groups for o in group.outcomes)
    edges = np.linspace(0.0, last, _COLUMNS + 1)
    maps = {group.name: _maps(group, layers, edges) for group in section.groups}
    maps = {name: found for name, found in maps.items() if np.nansum(found["ratio"]) > 0.0}  # without those of 0
    caption = (
        "Above: norm of the entropy's gradient over that of the task's, by layer, over environment steps. Below: the "
        f"cosine between them; where it is negative the entropy pulls back what the task pulls. Medians over seeds. "
        f"{_health(section)}"
    )
    svg = drawn(lambda file: plot_flows(file, layers, edges, maps, header=section.field))
    return Picture("gradient-flow", "Gradients of entropy and task", caption, svg, wide=True)


def _layers(section: Section) -> list[str]:
    """Those in which the entropy has a gradient, in the order of the record."""
    found = {
        name.split("/")[1]: None
        for group in section.groups
        for outcome in group.outcomes
        for row in outcome.rows
        for name, value in row.items()
        if name.startswith("flow/") and name.endswith("/entropy_norm") and value > 0.0
    }
    return list(found)


def _maps(group: Group, layers: list[str], edges: np.ndarray) -> dict[str, np.ndarray]:
    """Ratio and cosine of a group, ``[columns, L]`` each."""
    found = {}
    for name in ("ratio", "cosine"):
        by_seed = [np.stack([_binned(o, layer, name, edges) for layer in layers], 1) for o in group.outcomes]
        found[name] = _median(np.stack(by_seed))
    return found


def _binned(outcome: Outcome, layer: str, name: str, edges: np.ndarray) -> np.ndarray:
    """The signal's median in each stretch of steps, ``[columns]``; what was last seen where nothing was."""
    if name == "ratio":
        steps, entropy = outcome.curve(f"flow/{layer}/entropy_norm")
        task = outcome.curve(f"flow/{layer}/task_norm")[1]
        values = entropy / np.where(task > 0.0, task, np.nan)
    else:
        steps, values = outcome.curve(f"flow/{layer}/{name}")
    places = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, _COLUMNS - 1)
    found = np.full(_COLUMNS, np.nan)
    for place in np.unique(places):
        found[place] = np.median(values[places == place])
    for i in range(1, _COLUMNS):
        found[i] = found[i - 1] if np.isnan(found[i]) else found[i]
    return found


def _median(values: np.ndarray) -> np.ndarray:
    """Over the first axis, without what is unknown."""
    known = np.isfinite(values).any(0)
    found = np.full(values.shape[1:], np.nan)
    found[known] = np.nanmedian(values[:, known], 0)
    return found


def _health(section: Section) -> str:
    """What the verdicts say, in a sentence."""
    unwell: Counter[str] = Counter()
    n_runs = 0
    for group in section.groups:
        for outcome in group.outcomes:
            try:
                verdicts = read_json(outcome.cell.directory / "gradient_flow.json")["verdicts"]
            except RunDirectoryError:
                continue
            n_runs += 1
            for network in verdicts.values():
                unwell.update(f"{group.name}: {v['layer']} {v['state']}" for v in network if v["state"] != "healthy")
    if not unwell:
        return f"All layers of all {n_runs} runs are healthy."
    named = "; ".join(f"{what} in {n} {'run' if n == 1 else 'runs'}" for what, n in unwell.most_common(6))
    return f"Not healthy: {named}{' and others' if len(unwell) > 6 else ''}."
