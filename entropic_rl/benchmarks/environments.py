"""Speed of the batched environments beside Gymnasium's own ways of stepping many copies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from entropic_rl.environments import make_vector_env

__all__ = ["PEERS", "measure", "speed_table"]

Maker = Callable[[str, int], Any]

PEERS: Mapping[str, Maker] = {
    "batched": lambda env_id, n: make_vector_env(env_id, n, backend="batched"),
    "batched, compiled": lambda env_id, n: make_vector_env(env_id, n, {"compile": True}, backend="batched"),
    "Gymnasium sync": lambda env_id, n: gym.make_vec(env_id, n, vectorization_mode="sync"),
    "Gymnasium vector": lambda env_id, n: gym.make_vec(env_id, n, vectorization_mode="vector_entry_point"),
}


def measure(
    env_id: str, n: int, peers: Sequence[str], *, rounds: int = 5, seconds: float = 0.4
) -> dict[str, dict[str, Any]]:
    """Env steps per second with random actions, the peers in turn, A B A B ...

    Args:
        env_id: Gymnasium id.
        n: copies.
        peers: keys of :data:`PEERS`.
        rounds: measurements of each peer.
        seconds: length of one measurement.

    Returns:
        By peer, ``rates``, one per round, and their ``median``.
    """
    envs = {peer: PEERS[peer](env_id, n) for peer in peers}
    space = next(iter(envs.values())).action_space
    actions = [space.sample() for _ in range(64)]
    steps = {}
    for peer, env in envs.items():
        env.reset(seed=0)
        rate = _steps_per_second(env, _for_peer(peer, actions), 5)  # the first steps compile and fill caches
        rate = _steps_per_second(env, _for_peer(peer, actions), 5)
        steps[peer] = max(5, int(rate * seconds))
    rates: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer, env in envs.items():
            rates[peer].append(n * _steps_per_second(env, _for_peer(peer, actions), steps[peer]))
    for env in envs.values():
        env.close()
    return {peer: {"rates": values, "median": statistics.median(values)} for peer, values in rates.items()}


def speed_table(env_id: str, results: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
    """Results by number of copies as a Markdown table: steps/s, time per step of the batch, ratios round by round."""
    peers = list(next(iter(results.values())))
    base = "Gymnasium sync"
    lines = [f"| {env_id}, copies | " + " | ".join(peers) + " |", "| --- " * (1 + len(peers)) + "|"]
    for n, result in results.items():
        cells = []
        for peer in peers:
            cell = f"{_short(result[peer]['median'])}/s ({n / result[peer]['median'] * 1e6:,.0f} us)"
            if base in result and peer != base:
                ratios = [a / b for a, b in zip(result[peer]["rates"], result[base]["rates"], strict=True)]
                cell += f", **{statistics.median(ratios):.1f}x** ({min(ratios):.1f} to {max(ratios):.1f})"
            cells.append(cell)
        lines.append(f"| {n:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _steps_per_second(env: Any, actions: Sequence[Any], steps: int) -> float:
    """Batch steps per second."""
    started = time.perf_counter()
    for t in range(steps):
        env.step(actions[t % len(actions)])
    return steps / (time.perf_counter() - started)


def _for_peer(peer: str, actions: Sequence[np.ndarray]) -> Sequence[Any]:
    """Each peer gets its actions in its own language."""
    return [torch.from_numpy(a) for a in actions] if peer.startswith("batched") else actions


def _short(rate: float) -> str:
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate / 1e3:.1f} k"
