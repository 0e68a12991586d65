"""What it costs to be able to resume: seconds per checkpoint, and per env step that can be played again."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entropic_rl.agents import agent_class
from entropic_rl.cell import Cell
from entropic_rl.checkpointing import Checkpointer
from entropic_rl.config import RunConfig
from entropic_rl.environments import make_env
from entropic_rl.episode_tape import EpisodeTape
from entropic_rl.resolve import layered
from entropic_rl.runs import train_cells

__all__ = ["checkpoint_rows", "tape_row"]

CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "PPO, CartPole-v1": ("ppo", 1, {"env": "CartPole-v1"}),
    "PPO, CartPole-v1, 16 runs": ("ppo", 16, {"env": "CartPole-v1"}),
    "PPO, LunarLander-v3, 8 copies": ("ppo", 1, {"env": "LunarLander-v3", "n_envs": 8, "n_steps": 256}),
    "SAC, Pendulum-v1, memory of 1e6": ("sac", 1, {"env": "Pendulum-v1", "buffer_size": 1_000_000}),
}
"""What is trained: agent, runs side by side, settings."""


def checkpoint_rows(cases: Mapping[str, Any], *, n: int, kept_seconds: float) -> list[list[str]]:
    """Case, MB on disk, median seconds (range) of ``n`` checkpoints, share of the time at one per ``kept_seconds``."""
    rows = []
    for name, (agent, n_runs, settings) in cases.items():
        size, seconds = _measure(agent, n_runs, settings, n)
        median = statistics.median(seconds)
        spread = f"{1000 * median:.0f} ({1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})"
        rows.append([name, f"{size / 1e6:.2f}", spread, f"{100 * median / (kept_seconds + median):.3f} %"])
    return rows


class _Enough(Exception):  # noqa: N818 - as many checkpoints as asked for
    pass


def _measure(agent: str, n_runs: int, settings: Mapping[str, Any], n: int) -> tuple[int, list[float]]:
    """Bytes on disk and seconds of each of ``n`` checkpoints of one training."""
    own: dict[str, Any] = {"total_timesteps": 2**62, "coverage": "off", "checkpoint_every": 1, "log_interval": 2**30}
    seconds: list[float] = []
    save = Checkpointer.save

    def timed(self: Checkpointer, **options: Any) -> None:
        started = time.perf_counter()
        save(self, **options)
        seconds.append(time.perf_counter() - started)
        if len(seconds) == n:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        cells = []
        for seed in range(n_runs):
            run, config = layered(agent, {**settings, **own, "seed": seed}, "none")
            cells.append(Cell(agent, run, config, Path(folder) / str(seed)))
        Checkpointer.save = timed  # type: ignore[method-assign]
        try:
            train_cells(agent_class(agent), cells, checkpoints=Path(folder) / "checkpoints")
        except _Enough:
            pass
        finally:
            Checkpointer.save = save  # type: ignore[method-assign]
        newest = max((Path(folder) / "checkpoints").iterdir())
        return sum(path.stat().st_size for path in newest.iterdir()), seconds


def tape_row(env_id: str, *, steps: int, rounds: int) -> list[str]:
    """Env id, microseconds per step without and with a tape around it, and what that adds (range over rounds)."""
    plain, taped = make_env(env_id), EpisodeTape(make_env(env_id))
    actions = [plain.action_space.sample() for _ in range(steps)]
    pairs = [(_seconds(plain, actions), _seconds(taped, actions)) for _ in range(rounds)]
    costs = [100.0 * (with_tape / without - 1.0) for without, with_tape in pairs]
    each = [1e6 * statistics.median(column) / steps for column in zip(*pairs, strict=True)]
    for env in (plain, taped):
        env.close()
    added = f"{statistics.median(costs):+.1f} % ({min(costs):+.1f} to {max(costs):+.1f})"
    return [env_id, f"{each[0]:.1f}", f"{each[1]:.1f}", added]


def _seconds(env: Any, actions: Sequence[Any]) -> float:
    env.reset(seed=0)
    started = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return time.perf_counter() - started


DEFAULT_SECONDS = RunConfig(env="-").checkpoint_seconds
"""Wall-clock seconds between two checkpoints, if nothing else is said."""
