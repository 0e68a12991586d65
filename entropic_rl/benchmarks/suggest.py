"""How near suggested coefficients come to the best of a grid: agents by return, classifiers by likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import PPO, PPOConfig
from entropic_rl.calibration import EntropicClassifier
from entropic_rl.compare import statistics as st
from entropic_rl.compare.statistics import Estimate
from entropic_rl.datasets import load, with_label_noise
from entropic_rl.environments import make_vector_env
from entropic_rl.evaluation import evaluate
from entropic_rl.policies import ActorCritic
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.suggest import suggest_ent_coef
from entropic_rl.suggest.evidence import suggestion
from entropic_rl.suggest.runs import measure_policy
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

__all__ = ["CASES", "GRID", "NOISE", "agent_rows", "classifier_rows"]

GRID = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
NOISE = (0.0, 0.3)
CASES = {
    "CartPole": ("CartPole-v1", 20_480),
    "RiverSwim": ("entropic_rl/RiverSwim-v0", 20_480),
    "FourRooms": ("entropic_rl/FourRooms-v0", 20_480),
}
_CONFIG = PPOConfig(n_steps=128, batch_size=256, n_epochs=4, learning_rate=1e-3)
_ENVS, _EPISODES, _ROLLOUTS = 8, 20, 4
_EPOCHS, _FOLDS = 30, 3


def agent_rows(case: str, seeds: int, shares: Sequence[float], grid: Sequence[float] = GRID) -> list[str]:
    """Rows of a table: PPO, trained at suggestions that were measured after training without entropy, by share.

    Each seed has a suggestion of its own, from its own policy. The score is the return of the policy as it acts.
    """
    every = list(range(seeds))
    scores, policies = _trained(case, [c for c in grid for _ in every], every * len(grid))
    unit = np.array([_suggested(case, policies, grid.index(0.0) * seeds + seed) for seed in every])
    own, _ = _trained(case, [share * c for share in shares for c in unit], every * len(shares))
    pairs = zip(shares, own.reshape(len(shares), seeds), strict=True)
    table = scores.reshape(len(grid), seeds)
    return [_row(case, share, unit=unit, own=found, scores=table, grid=grid) for share, found in pairs]


def classifier_rows(noise: float, seeds: int, shares: Sequence[float], grid: Sequence[float] = GRID) -> list[str]:
    """The same of classifiers of digits; a share of the labels they learn from is wrong.

    The score is the mean log-likelihood of clean labels, of rows that took no part.
    """
    scores, own = np.zeros((len(grid), seeds)), np.zeros((len(shares), seeds))
    unit = np.zeros(seeds)
    for seed in range(seeds):
        data = load("digits")
        order = np.random.default_rng(seed).permutation(len(data.y))
        train_rows, test_rows = np.split(order, 2) if len(order) % 2 == 0 else np.split(order[1:], 2)
        learned, test = with_label_noise(data.take(train_rows), noise, seed=seed), data.take(test_rows)
        score = partial(_likelihood, seed, learned, test)
        scores[:, seed] = [score(c) for c in grid]
        found = suggest_ent_coef(
            _classifier(seed, 0.0), learned.X / 16.0, learned.y, share=1.0, n_batches=_FOLDS, seed=seed
        )
        unit[seed] = found.ent_coef
        own[:, seed] = [score(share * unit[seed]) for share in shares]
    name = f"digits, {noise:.0%} wrong labels"
    pairs = zip(shares, own, strict=True)
    return [_row(name, share, unit=unit, own=found, scores=scores, grid=grid) for share, found in pairs]


def _trained(case: str, ent_coefs: Sequence[float], seeds: Sequence[int]) -> tuple[np.ndarray, ActorCritic]:
    """Mean returns of runs that are trained as one batch, and their policies."""
    env_id, steps = CASES[case]
    envs = _envs(env_id, len(seeds))
    configs = [replace(_CONFIG, ent_coef=float(c)) for c in ent_coefs]
    observation, action = _specs(env_id)
    agent = PPO(configs, seeds, observation=observation, action=action, n_envs=_ENVS)
    for _ in train(agent, envs, total_timesteps=steps, seeds=seeds, log_interval=10**9):
        pass
    make = partial(make_vector_env, env_id, backend="batched", autoreset_mode=AutoresetMode.DISABLED)
    found = evaluate(agent.policy, make, observation, episodes=_EPISODES, deterministic=False, n_envs=_EPISODES)
    return np.array([result.mean for result in found]), agent.policy


def _suggested(case: str, policies: ActorCritic, run: int) -> float:
    """The coefficient of one of the policies for a share of 1."""
    policy = policies.take(torch.full((_ROLLOUTS,), run))
    norms = measure_policy(policy, _CONFIG, _envs(CASES[case][0], _ROLLOUTS), range(_ROLLOUTS))
    return suggestion(norms, 1.0, _CONFIG.ent_coef, case).ent_coef


def _envs(env_id: str, n_runs: int) -> EnvBatch:
    observation, action = _specs(env_id)
    return EnvBatch(make_vector_env(env_id, n_runs * _ENVS, backend="batched"), n_runs, observation=observation,
                    action=action)  # fmt: skip


def _specs(env_id: str) -> tuple[Any, Any]:
    env = make_vector_env(env_id, 1, backend="batched")
    return observation_spec(env.single_observation_space), action_spec(env.single_action_space)


def _likelihood(seed: int, learned: Any, test: Any, ent_coef: float) -> float:
    fitted = _classifier(seed, float(ent_coef)).fit(learned.X / 16.0, learned.y)
    p = fitted.predict_proba(test.X / 16.0)
    return float(np.log(np.maximum(p[np.arange(len(test.y)), test.y], 1e-12)).mean())


def _classifier(seed: int, ent_coef: float) -> EntropicClassifier:
    return EntropicClassifier(ent_coef, net_arch=(64,), n_epochs=_EPOCHS, batch_size=64, learning_rate=3e-3,
                              random_state=seed)  # fmt: skip


def _row(
    case: str, share: float, *, unit: np.ndarray, own: np.ndarray, scores: np.ndarray, grid: Sequence[float]
) -> str:
    """Suggestion, its score, the grid's best and worst, regret to the best, and the rank that it would have."""
    coefficients, means = share * unit, scores.mean(1)
    best, worst = int(means.argmax()), int(means.argmin())
    cells = [
        f"{np.median(coefficients):.2g} ({coefficients.min():.2g} to {coefficients.max():.2g})",
        _text(own),
        f"{grid[best]:g}: {_text(scores[best])}",
        _text(scores[grid.index(0.0)]),
        f"{grid[worst]:g}: {means[worst]:.3g}",
        _text(scores[best] - own),
        f"{1 + int((means > own.mean()).sum())} of {len(grid) + 1}",
    ]
    return f"| {case} | {share:g} | {' | '.join(cells)} |"


def _text(values: np.ndarray) -> str:
    e: Estimate = st.bootstrap(values, st.mean, np.random.default_rng(0))
    return f"{e.value:.3g} [{e.low:.3g}, {e.high:.3g}]"
