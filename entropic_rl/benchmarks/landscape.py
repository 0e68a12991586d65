"""Whether entropy smooths the policy objective: exactly, on finite environments, around policies of PPO."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropic_rl.benchmarks.trained import train_grid
from entropic_rl.compare import statistics as st
from entropic_rl.compare.statistics import Estimate
from entropic_rl.environments import make_vector_env
from entropic_rl.envs import oracle
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.landscape import (
    changes_along,
    direction_to,
    exact_objective,
    filter_directions,
    moved,
    plane_through,
    policy_slice,
)
from entropic_rl.plots.landscape import LandscapePanel, plot_landscapes
from entropic_rl.policies import ActorCritic
from entropic_rl.policy_files import load_policy
from entropic_rl.spaces import action_spec, observation_spec

__all__ = ["CASES", "draw_landscapes", "landscape_rows", "policies_of"]

CASES: dict[str, dict[str, Any]] = {
    "Chain": {"env": "entropic_rl/Chain-v0", "gamma": 0.9},
    "RiverSwim": {"env": "entropic_rl/RiverSwim-v0", "gamma": 0.99},
    "DeepSea 8": {"env": "entropic_rl/DeepSea-v0", "env_kwargs": {"size": 8}, "gamma": 0.99},
    "FourRooms": {"env": "entropic_rl/FourRooms-v0", "gamma": 0.97},
}
_PPO = {"n_envs": 8, "n_steps": 64, "batch_size": 128, "n_epochs": 4, "total_timesteps": 40_000, "coverage": "off",
        "eval_episodes": 1, "ent_coef": 0.0, "learning_rate": 1e-3}  # fmt: skip
_LINE = 41  # points between two policies


def policies_of(case: str, seeds: int) -> tuple[dict[str, list[ActorCritic]], FiniteDynamics, float]:
    """Policies before and after PPO's training without entropy, in float64; their environment and its discount."""
    chosen = {**_PPO, **CASES[case]}
    env = make_vector_env(chosen["env"], 1, chosen.get("env_kwargs"), backend="batched")
    observation, action = observation_spec(env.single_observation_space), action_spec(env.single_action_space)
    with tempfile.TemporaryDirectory() as folder:
        train_grid("ppo", chosen, [{}], seeds=seeds, folder=Path(folder))
        trained = [load_policy(Path(folder) / f"0_{seed}", observation, action) for seed in range(seeds)]
    begun = ActorCritic(trained[0].network, observation, action, range(seeds))
    single = [begun.take(torch.tensor([seed])) for seed in range(seeds)]
    points = {"before training": [_double(p) for p in single], "after training": [_double(p) for p in trained]}
    return points, env.dynamics, chosen["gamma"]  # type: ignore[attr-defined]


def landscape_rows(
    case: str, seeds: int, ent_coefs: Sequence[float], *, n_directions: int = 200, radius: float = 0.5
) -> list[str]:
    """Rows of a table: per point and coefficient, means over policies with 95 % intervals (bootstrap over policies)."""
    points, rules, gamma = policies_of(case, seeds)
    objective = partial(exact_objective, rules=rules, gamma=gamma)
    rows = []
    for point, policies in points.items():
        found = [
            _around(p, objective, ent_coefs, n_directions=n_directions, radius=radius, seed=seed)
            for seed, p in enumerate(policies)
        ]
        measures = np.stack(found)  # [policies, C, 3]
        barriers = _barriers(policies, objective, rules, gamma, ent_coefs)  # [pairs, C]
        for i, c in enumerate(ent_coefs):
            cells = [_percent(measures[:, i, 0]), _percent(measures[:, i, 1]), _plain(measures[:, i, 2]),
                     _percent(barriers[:, i])]  # fmt: skip
            rows.append(f"| {case} | {point} | {c:g} | {' | '.join(cells)} |")
    return rows


def draw_landscapes(path: Path, case: str, ent_coefs: Sequence[float], *, seeds: int = 2) -> None:
    """The plane through two trained policies and one before training, at several coefficients."""
    points, rules, gamma = policies_of(case, seeds)
    trained, begun = points["after training"], points["before training"]
    plane = plane_through([trained[0], trained[1], begun[0]])
    found = policy_slice(plane.centre, plane.directions, partial(exact_objective, rules=rules, gamma=gamma),
                         radius=1.5, n_points=61)  # fmt: skip
    marks = [(float(x), float(y), name, False) for (x, y), name in zip(plane.marks, "ABC", strict=True)]
    panels = [LandscapePanel(f"ent_coef {c:g}", found.offsets, found.objective(c), marks) for c in ent_coefs]
    plot_landscapes(path, panels)


def _around(
    policy: ActorCritic, objective: Any, ent_coefs: Sequence[float], *, n_directions: int, radius: float, seed: int
) -> np.ndarray:
    """Share of directions in which both ends are lower, share that curve up, and the cosine of the gradient's turn."""
    directions = filter_directions(policy, n_directions, seed=seed)
    changes = changes_along(policy, directions, objective, radius=radius, ent_coefs=ent_coefs)  # [C, N, 2]
    both_lower, up = (changes < 0).all(2).mean(1), (changes.sum(2) > 0).mean(1)
    here, there = (_gradients(moved(policy, s * directions[:50]), objective) for s in (0.0, radius))
    cosines = [
        float(torch.cosine_similarity(here[0] + c * here[1], there[0] + c * there[1], dim=1).mean()) for c in ent_coefs
    ]
    return np.stack([both_lower, up, np.array(cosines)], 1)


def _gradients(policy: ActorCritic, objective: Any) -> tuple[Tensor, Tensor]:
    """Of return and entropy by the parameters, ``[T, P]`` each."""
    views = [policy.params[name] for name in policy.params.named()]
    returns, entropies = objective(policy)
    found = []
    for part in (returns, entropies):
        parts = torch.autograd.grad(part.sum(), views, retain_graph=True, allow_unused=True, materialize_grads=True)
        found.append(torch.cat([g.flatten(1) for g in parts], 1))
    return found[0], found[1]


def _barriers(
    policies: Sequence[ActorCritic], objective: Any, rules: FiniteDynamics, gamma: float, ent_coefs: Sequence[float]
) -> np.ndarray:
    """How far the straight way between two policies dips below both, by optimum less uniform policy, ``[pairs, C]``."""
    t = torch.linspace(0.0, 1.0, _LINE, dtype=torch.float64).unsqueeze(1)
    lines = []
    for a, b in zip(policies[::2], policies[1::2], strict=False):
        with torch.no_grad():
            lines.append([part.numpy() for part in objective(moved(a, t * direction_to(a, b)))])
    uniform = torch.full_like(rules.mdp.reward, 1.0 / rules.mdp.n_actions)
    found = []
    for c in ent_coefs:
        best = oracle.soft_value_iteration(rules.mdp, c, gamma).value
        span = float(rules.mdp.start @ (best - oracle.evaluate_policy(rules.mdp, uniform, gamma, temperature=c)))
        ways = [returns + c * entropies for returns, entropies in lines]
        found.append([(min(way[0], way[-1]) - way.min()) / span for way in ways])
    return np.array(found).T


def _double(policy: ActorCritic) -> ActorCritic:
    twin = policy.take(torch.tensor([0]))
    twin.params = policy.params.take(torch.tensor([0]), torch.float64)
    return twin


def _estimate(values: np.ndarray) -> Estimate:
    return st.bootstrap(values, st.mean, np.random.default_rng(0))


def _percent(values: np.ndarray) -> str:
    e = _estimate(100.0 * values)
    return f"{e.value:.0f} [{e.low:.0f}, {e.high:.0f}]"


def _plain(values: np.ndarray) -> str:
    e = _estimate(values)
    return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"
