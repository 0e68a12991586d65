"""Gradient steps per second of soft actor-critic on Pendulum: Stable-Baselines3's, ours alone, ours in a batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from entropic_rl.agents import SAC, SACConfig
from entropic_rl.agents.config import action_head
from entropic_rl.environments import make_vector_env
from entropic_rl.spaces import observation_spec
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch

__all__ = ["sac_updates", "update_table"]

_ENV = "Pendulum-v1"
_WARM_UP = 300  # env steps before the clock starts


def update_table(widths: tuple[int, ...], n_runs: int, n_updates: int, rounds: int) -> str:
    """Measure all three in turn, ``rounds`` times, on the threads that torch is set to.

    Returns:
        A Markdown row: gradient steps/s (median), and the ratios within a round (median, lowest to highest).
    """
    update = {"sb3": _sb3(widths), "alone": sac_updates(widths, 1), "batch": sac_updates(widths, n_runs)}
    found: dict[str, list[float]] = {name: [] for name in update}
    for _ in range(rounds):
        for name, run in update.items():
            started = time.perf_counter()
            run(n_updates)
            found[name].append(n_updates / (time.perf_counter() - started))
    speed = {name: np.array(values) for name, values in found.items()}
    beside = _ratio(speed["alone"] / speed["sb3"])
    gained = _ratio(n_runs * speed["batch"] / speed["alone"])
    medians = [f"{np.median(speed[name]):.0f}" for name in ("sb3", "alone")]
    return f"| {'x'.join(map(str, widths))} | {' | '.join(medians)} | {beside} | {gained} |"


def _ratio(values: np.ndarray) -> str:
    return f"{np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})"


def _sb3(widths: tuple[int, ...]) -> Callable[[int], Any]:
    import gymnasium as gym
    import stable_baselines3

    model = stable_baselines3.SAC(
        "MlpPolicy", gym.make(_ENV), device="cpu", seed=0, policy_kwargs={"net_arch": list(widths)}
    )
    model.learn(_WARM_UP)
    return lambda n: model.train(n, model.batch_size)


def sac_updates(widths: tuple[int, ...], n_runs: int, *, fused: bool = False) -> Callable[[int], Any]:
    """What takes n gradient steps of so many runs with some memory, by torch or by machine code."""
    config, seeds = SACConfig(net_arch=widths), list(range(n_runs))
    vector_env = make_vector_env(_ENV, n_runs)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_head(config, vector_env.single_action_space)
    envs = EnvBatch(vector_env, n_runs, observation=observation, action=action)
    agent = SAC([config] * n_runs, seeds, observation=observation, action=action, n_envs=1)
    if fused:
        agent.use_fused_kernel(envs)
    obs = envs.reset(Stream(seeds, "environment").seeds(1))
    for _ in range(_WARM_UP):
        transition = envs.step(agent.act(obs))
        agent.observe(transition)
        obs = transition.next_obs
    return lambda n: [agent.update(0.0) for _ in range(n)]
