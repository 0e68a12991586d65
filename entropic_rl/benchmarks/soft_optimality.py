"""How near trained policies come to the exact solution of their own objective, on problems that are tables."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from entropic_rl.benchmarks.trained import train_grid

__all__ = ["CASES", "optimality_table"]

TEMPERATURES = (0.05, 0.2, 1.0)
_ON_POLICY = {"n_steps": 64, "batch_size": 2048, "n_epochs": 4, "learning_rate": "linear:0.05:0"}
_TABLE = {"net_arch": (), "max_grad_norm": 10.0, "normalize_advantage": False}
_CHAIN = {"gamma": 0.9, "gae_lambda": 0.95}
_MEMORY = {"learning_rate": "linear:0.01:0", "batch_size": 256, "tau": 0.02, "net_arch": (), "learning_starts": 500}

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo, bandit": (
        "ppo",
        "entropic_rl/Bandit-v0",
        {**_ON_POLICY, **_TABLE, "n_envs": 32, "total_timesteps": 400_000},
    ),
    "a2c, bandit": (
        "a2c",
        "entropic_rl/Bandit-v0",
        {**_TABLE, "n_steps": 16, "learning_rate": "linear:0.02:0", "n_envs": 32, "total_timesteps": 400_000},
    ),
    "discrete-sac, bandit": (
        "discrete-sac",
        "entropic_rl/Bandit-v0",
        {**_MEMORY, "n_envs": 8, "total_timesteps": 40_000},
    ),
    "soft-q, bandit": (
        "soft-q",
        "entropic_rl/Bandit-v0",
        {**_MEMORY, "n_envs": 8, "total_timesteps": 40_000},
    ),
    "ppo, chain": (
        "ppo",
        "entropic_rl/Chain-v0",
        {**_ON_POLICY, **_TABLE, **_CHAIN, "n_envs": 32, "total_timesteps": 400_000},
    ),
    "ppo, chain, normalised advantages": (
        "ppo",
        "entropic_rl/Chain-v0",
        {
            **_ON_POLICY, **_TABLE, **_CHAIN, "normalize_advantage": True, "ent_coef_unit": "reward", "n_envs": 32,
            "total_timesteps": 400_000,
        },
    ),
    "ppo, chain, MLP": (
        "ppo",
        "entropic_rl/Chain-v0",
        {
            **_ON_POLICY, **_TABLE, **_CHAIN, "net_arch": (64, 64), "learning_rate": "linear:0.003:0", "n_envs": 32,
            "total_timesteps": 400_000,
        },
    ),
    "a2c, chain": (
        "a2c",
        "entropic_rl/Chain-v0",
        {**_TABLE, **_CHAIN, "n_steps": 16, "learning_rate": "linear:0.02:0", "n_envs": 32, "total_timesteps": 400_000},
    ),
    "discrete-sac, chain": (
        "discrete-sac",
        "entropic_rl/Chain-v0",
        {**_MEMORY, "gamma": 0.9, "n_envs": 8, "total_timesteps": 80_000},
    ),
    "soft-q, chain": (
        "soft-q",
        "entropic_rl/Chain-v0",
        {**_MEMORY, "gamma": 0.9, "n_envs": 8, "total_timesteps": 80_000},
    ),
    "soft-q, chain, munchausen 0.9, clip 1": (
        "soft-q",
        "entropic_rl/Chain-v0",
        {**_MEMORY, "gamma": 0.9, "n_envs": 8, "total_timesteps": 80_000, "munchausen": 0.9},
    ),
    "soft-q, chain, munchausen 0.9, clip 100": (
        "soft-q",
        "entropic_rl/Chain-v0",
        {**_MEMORY, "gamma": 0.9, "n_envs": 8, "total_timesteps": 80_000, "munchausen": 0.9, "munchausen_clip": 100.0},
    ),
    "ppo, chain from state 0, limit 50": (
        "ppo",
        "entropic_rl/Chain-v0",
        {
            **_ON_POLICY, **_TABLE, **_CHAIN, "n_envs": 32, "total_timesteps": 400_000,
            "env_kwargs": {"start": 0, "limit": 50},
        },
    ),
}  # fmt: skip


def optimality_table(case: str, seeds: int, temperatures: Sequence[float] = TEMPERATURES) -> str:
    """Train every temperature, with entropy in the reward and in the loss only, and lay it beside both solutions.

    A Munchausen term leaves its share of the temperature in both solutions, and goes with entropy in the reward alone.

    Returns:
        Markdown rows: largest (median) KL over the seeds, in nats, weighted by the states that the solution visits.
    """
    agent, env, settings = CASES[case]
    places = ("reward",) if "munchausen" in settings else ("reward", "loss")
    points = [{"ent_coef": t, "entropy_in": place} for t in temperatures for place in places]
    with tempfile.TemporaryDirectory() as folder:
        chosen = {"env": env, "coverage": "off", "eval_episodes": 1, **settings}
        groups = train_grid(agent, chosen, points, seeds=seeds, folder=Path(folder))
    lines = []
    for point, summaries in zip(points, groups, strict=True):
        cells = []
        for name in ("optimum/kl", "optimum/loss_only_kl"):
            found = [max(summary[name], 0.0) for summary in summaries]  # not below, but for rounding
            cells.append(f"{max(found):.4f} ({np.median(found):.4f})")
        lines.append(f"| {case} | {point['ent_coef']:g} | {point['entropy_in']} | {' | '.join(cells)} |")
    return "\n".join(lines)
