"""How well agents keep a target entropy, from several initial coefficients."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entropic_rl.benchmarks.trained import train_grid
from entropic_rl.run_directory import read_metrics

__all__ = ["target_table"]


def target_table(
    agent: str, chosen: Mapping[str, Any], target: float, initials: Sequence[float], seeds: int, *, preset: str = "auto"
) -> str:
    """Train, and tell per initial coefficient the entropy's mean over the second half of training, worst seed first.

    Returns:
        A Markdown table: initial coefficient, second-half means, largest error, coefficients met, greedy returns; the
        first row is of no entropy term at all, for a target below what is kept then does not bind.
    """
    points: list[dict[str, Any]] = [{"ent_coef": 0.0}]
    points += [{"ent_coef": f"target:{target:g}:{initial:g}"} for initial in initials]
    lines = [
        "| initial coefficient | entropy, mean of the second half | largest error | coefficient then | greedy return |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"coverage": "off", "log_interval": 1, **chosen}
        groups = train_grid(agent, settings, points, seeds=seeds, folder=Path(folder), preset=preset)
        labels = ["no term", *(f"{initial:g}" for initial in initials)]
        for i, (label, summaries) in enumerate(zip(labels, groups, strict=True)):
            halves = [_second_half(Path(folder) / f"{i}_{seed}") for seed in range(seeds)]
            means = [float(np.mean(entropy)) for entropy, _ in halves]
            worst = max(abs(mean - target) for mean in means)
            met = np.concatenate([coefficient for _, coefficient in halves])
            returns = [summary["eval/mean_reward"] for summary in summaries]
            lines.append(
                f"| {label} | {min(means):.4f} to {max(means):.4f} nats "
                f"| {worst:.4f} nats ({100 * worst / abs(target):.1f} %) | {met.min():.2g} to {met.max():.2g} "
                f"| {min(returns):.1f} to {max(returns):.1f} (n = {seeds}) |"
            )
    return "\n".join(lines)


def _second_half(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Entropy and coefficient of every update in the second half of a training."""
    rows = read_metrics(directory)
    rows = rows[len(rows) // 2 :]
    return tuple(np.array([row[name] for row in rows]) for name in ("train/entropy", "train/ent_coef"))  # type: ignore[return-value]
