"""Milliseconds by torch and by machine code: of a PPO update and a rollout on CartPole, RL Zoo's settings, and of a
gradient step of SAC on Pendulum.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from entropic_rl.agents import PPO, PPOConfig
from entropic_rl.agents.config import action_head
from entropic_rl.benchmarks.updates import sac_updates
from entropic_rl.environments import make_vector_env
from entropic_rl.spaces import observation_spec
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch

__all__ = ["compilation", "floor", "kernel_row", "sac_row"]

_N_ENVS = 8
_N_STEPS = 20  # gradient steps of SAC in a round
_LARGE = 1024  # rows and columns
_CONFIG = PPOConfig(n_steps=32, batch_size=256, n_epochs=20, gae_lambda=0.8, gamma=0.98, learning_rate=1e-3)


def kernel_row(n_runs: int, rounds: int) -> str:
    """Train ``n_runs`` in turn by both, ``rounds`` times, on the threads that torch is set to.

    Returns:
        A Markdown row: runs, ms per minibatch update of all of them (median), ratio within a round (median, lowest to
        highest); and the same of a rollout.
    """
    learners = (_Learner(n_runs, fused=False), _Learner(n_runs, fused=True))
    for learner in learners:
        learner.iterate()  # compiles, and takes its memory
    seconds = np.array([[learner.iterate() for learner in learners] for _ in range(rounds)])  # [rounds, 2, 2]
    rollouts, updates = seconds[:, :, 0], seconds[:, :, 1] / _CONFIG.n_epochs
    return f"| {n_runs} | {_cells(updates)} | {_cells(rollouts)} |"


def floor(rounds: int) -> str:
    """A sentence: what products a minibatch update of PPO needs, and how fast large ones are on torch's threads."""
    weights = _Learner(1, fused=False).weights()
    # Forward, back to weights and, but for the first layer, back to inputs.
    n_multiplications = sum((2 if ".0." in name else 3) * x.numel() for name, x in weights.items())
    x = torch.randn(_LARGE, _LARGE)
    seconds = float(np.median([_clocked(lambda _: x @ x) for _ in range(max(rounds, 3))]))
    return (
        f"products of a minibatch update of one run: {2e-6 * n_multiplications * _CONFIG.batch_size:.1f} MFLOP; "
        f"torch multiplies matrices of {_LARGE:,} x {_LARGE:,} at {2e-9 * _LARGE**3 / seconds:.0f} GFLOP/s"
    )


def sac_row(n_runs: int, rounds: int) -> str:
    """The same of a gradient step of SAC: batches of 256, two hidden layers of 256."""
    learners = [sac_updates((256, 256), n_runs, fused=fused) for fused in (False, True)]
    for learn in learners:
        learn(_N_STEPS)
    seconds = np.array([[_clocked(learn) for learn in learners] for _ in range(rounds)])
    return f"| {n_runs} | {_cells(seconds / _N_STEPS)} |"


def _clocked(work: Callable[[int], Any]) -> float:
    started = time.perf_counter()
    work(_N_STEPS)
    return time.perf_counter() - started


def _cells(seconds: NDArray[np.float64]) -> str:
    """Of both, ``[rounds, 2]``."""
    each, ratio = np.median(seconds, 0) * 1000.0, seconds[:, 0] / seconds[:, 1]
    return f"{each[0]:.2f} | {each[1]:.2f} | {np.median(ratio):.1f} ({ratio.min():.1f} to {ratio.max():.1f})"


@dataclass
class _Learner:
    n_runs: int
    fused: bool

    def __post_init__(self) -> None:
        vector_env = make_vector_env("CartPole-v1", self.n_runs * _N_ENVS, backend="batched")
        observation = observation_spec(vector_env.single_observation_space)
        action = action_head(_CONFIG, vector_env.single_action_space)
        seeds = list(range(self.n_runs))
        self._envs = EnvBatch(vector_env, self.n_runs, observation=observation, action=action)
        self._agent = PPO([_CONFIG] * self.n_runs, seeds, observation=observation, action=action, n_envs=_N_ENVS)
        self._obs = self._envs.reset(Stream(seeds, "environment").seeds(_N_ENVS))
        if self.fused:
            self._agent.use_fused_kernel(self._envs)

    def weights(self) -> dict[str, torch.Tensor]:
        """Of all layers."""
        return {name: x for name, x in self._agent.policy.params.named().items() if name.endswith(".weight")}

    def iterate(self) -> tuple[float, float]:
        """Seconds of a rollout and of the update after it."""
        started = time.perf_counter()
        if self._agent.roll is None:
            for _ in range(_CONFIG.n_steps):
                transition = self._envs.step(self._agent.act(self._obs))
                self._agent.observe(transition)
                self._obs = transition.next_obs
        else:
            self._obs = self._agent.roll(self._obs).obs[-1]
        rolled = time.perf_counter()
        self._agent.update(0.5)
        return rolled - started, time.perf_counter() - rolled


def compilation() -> str:
    """A sentence: what making machine code takes, and what loading it does."""
    with tempfile.TemporaryDirectory() as cache:
        plain, cold, warm = (_seconds(kernel, cache) for kernel in ("autograd", "fused", "fused"))
    return f"making machine code: {cold - plain:.1f} s, once; loading it: {warm - plain:.1f} s"


def _seconds(kernel: str, cache: str) -> float:
    """Of a training of one rollout in a process of its own, with its start."""
    words = f"ppo --env CartPole-v1 --kernel {kernel} --n-steps 32 --total-timesteps 32 --eval-episodes 1 --no-progress"
    with tempfile.TemporaryDirectory() as folder:
        train = (
            f"from entropic_rl.cli import main; main({[*words.split(), '--run-dir', f'{folder}/run']!r}, verb='train')"
        )
        command = [sys.executable, "-c", train]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "XDG_CACHE_HOME": cache})
        return time.perf_counter() - started
