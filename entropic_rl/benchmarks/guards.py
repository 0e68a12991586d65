"""What it costs to look at every answer of an environment, every number and every gradient: whole trainings in turn."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from entropic_rl.agents import agent_class
from entropic_rl.cell import Cell
from entropic_rl.env_checks import CheckedEnv
from entropic_rl.health import Health, NumberWatch
from entropic_rl.resolve import layered
from entropic_rl.runs import train_cells

__all__ = ["CASES", "guard_row"]

_ROLLOUT = {"n_envs": 8, "n_steps": 128, "batch_size": 256}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "PPO, CartPole-v1, batched": ("ppo", {"env": "CartPole-v1", "total_timesteps": 20_480, **_ROLLOUT}),
    "PPO, CartPole-v1, one by one": (
        "ppo",
        {"env": "CartPole-v1", "env_backend": "sync", "total_timesteps": 20_480, **_ROLLOUT},
    ),
    "PPO, LunarLander-v3": ("ppo", {"env": "LunarLander-v3", "total_timesteps": 20_480, **_ROLLOUT}),
    "SAC, Pendulum-v1": ("sac", {"env": "Pendulum-v1", "total_timesteps": 800}),
}
"""What is trained: agent, settings."""


def guard_row(agent: str, settings: Mapping[str, Any], rounds: int) -> list[str]:
    """Seconds of a training without guards, and what they add to its CPU time, in turn and ``rounds`` times."""
    pairs = []
    for _ in range(rounds):
        with _unguarded():
            without = _seconds(agent, settings)
        pairs.append((without, _seconds(agent, settings)))
    added = [100.0 * (guarded / without - 1.0) for without, guarded in pairs]
    median = statistics.median(without for without, _ in pairs)
    return [f"{median:.2f}", f"{statistics.median(added):+.1f} % ({min(added):+.1f} to {max(added):+.1f})"]


def _seconds(agent: str, settings: Mapping[str, Any]) -> float:
    """CPU seconds of a training, its short evaluation included."""
    fixed = {"coverage": "off", "eval_episodes": 1, "checkpoint_seconds": 0.0, "device": "cpu"}
    run, config = layered(agent, {**settings, **fixed}, "none")
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        train_cells(agent_class(agent), [Cell(agent, run, config, Path(folder) / "run")])
        return time.process_time() - started


@contextmanager
def _unguarded() -> Iterator[None]:
    """Nothing is looked at."""
    with (
        patch.object(Health, "active", lambda self, grads, active=None: active),
        patch.object(Health, "look", lambda self, network, inputs: None),
        patch.object(NumberWatch, "__call__", lambda self, obs, reward, final_obs, **beside: (obs, reward, final_obs)),
        patch.object(CheckedEnv, "step", lambda self, action: self.env.step(action)),
    ):
        yield
