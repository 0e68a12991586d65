"""The pictures of docs/environments.md: each environment, and what randomness does in it.

Finite environments are solved exactly, over temperatures. The others are played by policies that know nothing: discrete
actions drawn uniformly and held for some steps, continuous ones drawn from a normal distribution of some width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from entropic_rl import envs
from entropic_rl.environments import make_env, make_vector_env
from entropic_rl.envs.oracle import soft_value_iteration
from entropic_rl.plots import plot_environment
from entropic_rl.streams import Stream

__all__ = ["draw_environments"]

_TEMPERATURES = np.logspace(-3, 1, 41)
_HOLDS = (1, 2, 4, 8, 16, 32, 64)
_WIDTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
_GAMMA = 0.99
_COPIES = 2000
_GOALS = {  # returns that only episodes which reached the goal have
    "MountainCar-v0": -199.5,
    "MountainCarContinuous-v0": 0.0,
    "MountainCarSparse-v0": 1.0,
    "CartPoleSwingUp-v0": 100.0,
    "PointMaze-v0": 1.0,
}


def draw_environments(folder: Path, ids: Sequence[str]) -> None:
    """Write one SVG per environment into ``folder``, and print what it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for env_id in ids or [spec for spec in gym.registry if spec.startswith(envs.NAMESPACE + "/")]:
        vector_env: Any = make_vector_env(env_id, _COPIES, backend="batched")
        name = env_id.rpartition("/")[2]
        if vector_env.metadata["n_states"]:
            shown = _exact(vector_env.dynamics)
        elif isinstance(vector_env.single_action_space, gym.spaces.Box):
            shown = _played(env_id, vector_env, _WIDTHS, "standard deviation of the noise, in units of the bounds")
        else:
            shown = _played(env_id, vector_env, _HOLDS, "steps for which a random action is held")
        plot_environment(_frame(env_id), folder / f"env_{name}.svg", title=name, **shown)
        for label, (x, y) in shown["curves"].items():
            points = [f"{a:.3g} -> {b:.3g}" for a, b in zip(x, y, strict=True)][:: 1 + len(x) // 12]
            print(f"{name}: {label}: {', '.join(points)}", flush=True)


def _frame(env_id: str) -> np.ndarray:
    """A picture of the environment a little way into an episode."""
    env = make_env(env_id, render_mode="rgb_array")
    env.reset(seed=4)
    env.action_space.seed(4)
    for _ in range(4):
        _, _, terminated, _, _ = env.step(env.action_space.sample())
        if terminated:
            env.reset()
    frame: Any = env.render()
    env.close()
    return np.asarray(frame)


def _exact(dynamics: Any) -> dict[str, Any]:
    """Return and entropy of the exact regularised optimum, as shares, by temperature."""
    mdp = dynamics.mdp
    best = soft_value_iteration(mdp, 0.0, _GAMMA).expected_return
    solutions = [soft_value_iteration(mdp, float(t), _GAMMA) for t in _TEMPERATURES]
    returns = [solution.expected_return / best for solution in solutions]
    entropies = [float(s.visitation @ s.entropy) / math.log(mdp.n_actions) for s in solutions]
    return {
        "curves": {"return / best return": (_TEMPERATURES, returns), "entropy / log A": (_TEMPERATURES, entropies)},
        "xlabel": "temperature: entropy weight in reward units",
        "ylabel": "share",
    }


def _played(env_id: str, env: Any, settings: Sequence[float], xlabel: str) -> dict[str, Any]:
    """How ignorant policies fare: the share of episodes that reach the goal, if there is one, else the mean return."""
    returns = [_returns(env, setting) for setting in settings]
    goal = _GOALS.get(env_id.rpartition("/")[2])
    values = [float(r.mean() if goal is None else (r >= goal).mean()) for r in returns]
    ylabel = "mean return" if goal is None else "share of episodes that reach the goal"
    return {"curves": {"ignorant policy": (np.array(settings), values)}, "xlabel": xlabel, "ylabel": ylabel}


@torch.no_grad()
def _returns(env: Any, setting: float) -> np.ndarray:
    """Returns of the first episode of every copy."""
    stream = Stream([0], "ignorant policy")
    env.reset(seed=0)
    total, running = torch.zeros(_COPIES, dtype=torch.float64), torch.ones(_COPIES, dtype=torch.bool)
    space, step = env.single_action_space, 0
    while bool(running.any()):
        if isinstance(space, gym.spaces.Box):
            half = torch.as_tensor(space.high)
            action = stream.normal(_COPIES, *space.shape)[0].to(torch.float32) * setting * half
            action = torch.minimum(torch.maximum(action, -half), half)
        elif step % int(setting) == 0:
            action = (stream.uniform(_COPIES)[0] * int(space.n)).to(torch.int64)
        _, reward, terminated, truncated, _ = env.step(action)
        total += reward * running
        running &= ~(terminated | truncated)
        step += 1
    return total.numpy()
