"""This toolkit and Stable-Baselines3 on the same task with the same settings, in turn, one thread each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from entropic_rl.benchmarks.fresh_process import train_apart
from entropic_rl.config import RunConfig, jsonable

__all__ = ["describe", "mean_interval", "run_side_by_side", "score_table"]


def run_side_by_side(
    agent: str,
    run: RunConfig,
    config: Any,
    seeds: Sequence[int],
    *,
    peers: Sequence[str] = ("ours", "sb3"),
    jobs: int = 1,
) -> dict[str, Any]:
    """Train every peer with every seed, A B A B ..., each in a fresh single-threaded process.

    Args:
        agent: ``ppo`` or ``a2c``.
        run: what to train on; its seed is replaced.
        config: the agent's settings.
        seeds: one training each.
        peers: ``ours`` and ``sb3``, or one of them.
        jobs: processes at a time; more than 1 is for scores, not for speed.

    Returns:
        Settings and, by peer, one result per seed.
    """
    turns = [(peer, seed) for seed in seeds for peer in peers]

    def train(turn: tuple[str, int]) -> dict[str, Any]:
        peer, seed = turn
        settings = {**jsonable(run), "seed": seed, "num_threads": 1, "device": "cpu"}
        task = {"agent": agent, "run": settings, "config": jsonable(config)}
        result = train_apart("entropic_rl.benchmarks.worker", peer, task, threads=1)
        print(
            f"  {peer:5} seed {seed}: return {np.mean(result['returns']):9.2f}  {result['fps']:8,.0f} steps/s",
            flush=True,
        )
        return {"seed": seed, **result}

    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(train, turns))
    by_peer = {
        peer: [result for (name, _), result in zip(turns, results, strict=True) if name == peer] for peer in peers
    }
    return {"agent": agent, "run": jsonable(run), "config": jsonable(config), "seeds": list(seeds), "results": by_peer}


def describe(outcome: dict[str, Any]) -> str:
    """The outcome as a Markdown table: return over seeds, its interval, steps/s, and the ratio seed by seed."""
    lines = [
        "| | return: median of seeds | mean +- 95 % interval | lowest, highest seed | steps/s: median |",
        "| --- | --- | --- | --- | --- |",
    ]
    for peer, results in outcome["results"].items():
        means = [float(np.mean(result["returns"])) for result in results]
        speed = float(np.median([result["fps"] for result in results]))
        lines.append(
            f"| {peer} | {np.median(means):.1f} | {mean_interval(means)} "
            f"| {min(means):.1f}, {max(means):.1f} | {speed:,.0f} |"
        )
    text = "\n".join(lines)
    if len(outcome["results"]) == 2:
        pairs = zip(*outcome["results"].values(), strict=True)
        ratios = [ours["fps"] / theirs["fps"] for ours, theirs in pairs]
        text += f"\n\nsteps/s, ratio pair by pair: median {np.median(ratios):.2f}"
        text += f" (lowest {min(ratios):.2f}, highest {max(ratios):.2f}, {len(ratios)} pairs)"
    return text


def score_table(outcomes: Iterable[dict[str, Any]]) -> str:
    """Returns of many outcomes as one Markdown table, a row per agent, environment and length; peers side by side."""
    rows: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for outcome in outcomes:
        key = (outcome["agent"], outcome["run"]["env"], outcome["run"]["total_timesteps"])
        for peer, results in outcome["results"].items():
            rows.setdefault(key, {})[peer] = [float(np.mean(result["returns"])) for result in results]
    lines = ["| agent | environment | env steps | entropic_rl | Stable-Baselines3 |", "| --- | --- | --- | --- | --- |"]
    for (agent, env, steps), peers in sorted(rows.items(), key=lambda item: (item[0][0] != "ppo", item[0])):
        cells = [_score(peers.get(peer)) for peer in ("ours", "sb3")]
        lines.append(f"| {agent.upper()} | {env} | {steps:,} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _score(means: list[float] | None) -> str:
    """Median, mean with its interval, and range over seeds."""
    if not means:
        return "not run"
    return (
        f"**{np.median(means):.1f}** ({mean_interval(means)}; {min(means):.1f} to {max(means):.1f}; n = {len(means)})"
    )


def mean_interval(values: Sequence[float]) -> str:
    """Mean over seeds with its 95 % Student-t interval: with few seeds a bootstrap would promise too much."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:.1f}, one seed"
    half = float(t.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / n**0.5
    return f"{mean:.1f} +- {half:.1f}"
