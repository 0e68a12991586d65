"""Milliseconds of a PPO minibatch update on CartPole, RL Zoo's settings: by autograd, and compiled."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from entropic_rl.agents import PPO, PPOConfig
from entropic_rl.agents.config import action_head
from entropic_rl.environments import make_vector_env
from entropic_rl.spaces import observation_spec
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch

__all__ = ["kernel_row"]

_N_ENVS = 8
_CONFIG = PPOConfig(n_steps=32, batch_size=256, n_epochs=20, gae_lambda=0.8, gamma=0.98, learning_rate=1e-3)


def kernel_row(n_runs: int, rounds: int) -> str:
    """Update ``n_runs`` in turn by both, ``rounds`` times, on the threads that torch is set to.

    Returns:
        A Markdown row: runs, ms per minibatch update of all of them (median), and the ratio within a round (median,
        lowest to highest).
    """
    plain, fused = _Learner(n_runs), _Learner(n_runs)
    fused.agent.use_fused_kernel()
    for learner in (plain, fused):
        learner.update()  # compiles, and takes its memory
    seconds = np.array([[plain.update(), fused.update()] for _ in range(rounds)])
    each = np.median(seconds, 0) / _CONFIG.n_epochs * 1000.0
    ratio = seconds[:, 0] / seconds[:, 1]
    spread = f"{np.median(ratio):.1f} ({ratio.min():.1f} to {ratio.max():.1f})"
    return f"| {n_runs} | {each[0]:.2f} | {each[1]:.2f} | {spread} |"


@dataclass
class _Learner:
    n_runs: int

    def __post_init__(self) -> None:
        vector_env = make_vector_env("CartPole-v1", self.n_runs * _N_ENVS, backend="batched")
        observation = observation_spec(vector_env.single_observation_space)
        action = action_head(_CONFIG, vector_env.single_action_space)
        seeds = list(range(self.n_runs))
        self._envs = EnvBatch(vector_env, self.n_runs, observation=observation, action=action)
        self.agent = PPO([_CONFIG] * self.n_runs, seeds, observation=observation, action=action, n_envs=_N_ENVS)
        self._obs = self._envs.reset(Stream(seeds, "environment").seeds(_N_ENVS))

    def update(self) -> float:
        """Seconds of an update after a rollout; the rollout does not count."""
        for _ in range(_CONFIG.n_steps):
            transition = self._envs.step(self.agent.act(self._obs))
            self.agent.observe(transition)
            self._obs = transition.next_obs
        started = time.perf_counter()
        self.agent.update(0.5)
        return time.perf_counter() - started
