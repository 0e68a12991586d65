"""What agents learn where one observation does not tell enough, and from images."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from entropic_rl.benchmarks.trained import train_grid

__all__ = ["CASES", "observation_row"]

_CATCH = "entropic_rl/Catch-v0"
_POSITIONS = "entropic_rl/CartPolePositions-v1"
_STACKED = {
    "recurrent": "none", "frame_stack": 4, "n_steps": 128, "n_epochs": 10, "gamma": 0.99, "gae_lambda": 0.95,
    "learning_rate": "linear:0.0005:0", "clip_range": 0.2,
}  # fmt: skip
_ATTENTION = {**_STACKED, "features": "attention", "total_timesteps": 300_000}

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "positions, one observation": ("ppo", _POSITIONS, {"recurrent": "none"}),
    "positions, four observations": ("ppo", _POSITIONS, _STACKED),
    "positions, GRU": ("ppo", _POSITIONS, {}),
    "positions, LSTM": ("ppo", _POSITIONS, {"recurrent": "lstm"}),
    "positions, attention": ("ppo", _POSITIONS, _ATTENTION),
    "catch, convolutions of one image, straight balls": (
        "ppo",
        _CATCH,
        {"frame_stack": 1, "env_kwargs": {"drift": False}},
    ),
    "catch, convolutions of two images": ("ppo", _CATCH, {}),
    "catch, convolutions of one image": ("ppo", _CATCH, {"frame_stack": 1}),
    "catch, two images as one vector": ("ppo", _CATCH, {"features": "flat"}),
}


def observation_row(case: str, seeds: int) -> str:
    """Train one case from its preset, all seeds as one batch.

    Returns:
        A Markdown row: env steps, deterministic returns, median first; seconds of training and evaluation together.
    """
    agent, env, settings = CASES[case]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        chosen = {"env": env, "coverage": "off", **settings}
        [summaries] = train_grid(agent, chosen, [{}], seeds=seeds, folder=Path(folder), preset="auto")
    returns = sorted(summary["eval/mean_reward"] for summary in summaries)
    steps = int(summaries[0]["global_step"])
    every = ", ".join(f"{x:.1f}" for x in returns)
    return f"| {case} | {steps:,} | {np.median(returns):.1f} ({every}) | {time.perf_counter() - began:.0f} |"
