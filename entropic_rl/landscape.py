"""The policy objective around a policy: slices of ``E sum gamma^t (r_t + ent_coef H(pi(.|s_t)))`` along two directions.

The objective is linear in the coefficient, so a slice holds the return and the entropy apart and shows every
coefficient at the cost of one. The points of a slice are runs of one batch: a policy network with T rows of parameters.
On finite environments the objective is exact, by one linear solve per point; elsewhere it is the mean of the same
episodes for all points (common random numbers), which takes most of the noise out of differences between points.

Sources: Ahmed, Le Roux, Norouzi & Schuurmans (2019), https://arxiv.org/abs/1811.11214, for the question; Li, Xu,
Taylor, Studer & Goldstein (2018), https://arxiv.org/abs/1712.09913, section 4, for directions that compare between
networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from entropic_rl.distributions import Categorical
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.errors import ConfigError
from entropic_rl.policies import ActorCritic, draw_noise
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch

__all__ = [
    "Plane",
    "Slice",
    "changes_along",
    "direction_to",
    "exact_objective",
    "filter_directions",
    "moved",
    "plane_through",
    "policy_slice",
    "sampled_objective",
]

_SOLVED = 2**23  # numbers of the matrices that are solved together
_CHECK = 16  # steps between looks at whether every episode has ended

Objective = Callable[[ActorCritic], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """The objective on a grid around a policy, which lies in the middle.

    Attributes:
        offsets: ``[K]``, how far along either direction.
        returns: ``[K, K]``, discounted return; row i is offset i along the second direction.
        entropies: ``[K, K]``, discounted sum of the policy's entropies, nats.
    """

    offsets: np.ndarray
    returns: np.ndarray
    entropies: np.ndarray

    def objective(self, ent_coef: float) -> np.ndarray:
        """``return + ent_coef * entropy``, ``[K, K]``."""
        return self.returns + ent_coef * self.entropies


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """A plane of parameters.

    Attributes:
        centre: a policy of one run.
        directions: ``[2, P]``, orthogonal, one as long as the other; 1 is the distance of the farthest policy.
        marks: ``[n, 2]``, where the policies are.
    """

    centre: ActorCritic
    directions: Tensor
    marks: np.ndarray


def policy_slice(
    policy: ActorCritic, directions: Tensor, objective: Objective, *, radius: float = 1.0, n_points: int = 21
) -> Slice:
    """Evaluate a grid around a policy of one run.

    Args:
        policy: of one run; it stays as it is.
        directions: ``[2, P]``, in units of ``offsets``.
        objective: gives returns and entropies ``[T]`` of a policy of T runs: :func:`exact_objective` or
            :func:`sampled_objective` with what they need.
        radius: largest offset either way.
        n_points: K, odd so that the policy itself is among them.

    Raises:
        ConfigError: the number of points is even or below 3, the radius is not above 0, or there are several runs.
    """
    if n_points < 3 or n_points % 2 == 0 or not 0.0 < radius < float("inf"):
        raise ConfigError(
            f"n_points and radius: expected an odd number from 3 and a number above 0, got {n_points} and {radius}; "
            "21 and 1 are the defaults"
        )
    offsets = torch.linspace(-radius, radius, n_points, dtype=torch.float64)
    x, y = (grid.reshape(-1, 1) for grid in torch.meshgrid(offsets, offsets, indexing="xy"))
    returns, entropies = objective(moved(policy, x * directions[0] + y * directions[1]))
    shaped = (part.detach().cpu().numpy().reshape(n_points, n_points) for part in (returns, entropies))
    return Slice(offsets.numpy(), *shaped)


def moved(policy: ActorCritic, shifts: Tensor) -> ActorCritic:
    """T copies of a policy of one run, each with a row of ``shifts [T, P]`` added to its parameters.

    Raises:
        ConfigError: the policy has several runs, or the shifts are not as long as its parameters.
    """
    n_runs, n_parameters = policy.params.values.shape
    if n_runs != 1 or shifts.ndim != 2 or shifts.shape[1] != n_parameters:
        raise ConfigError(
            f"policy and shifts: expected one run and rows of {n_parameters} numbers, got {n_runs} and shape "
            f"{tuple(shifts.shape)}; take one run by policy.take"
        )
    twins = policy.take(torch.zeros(len(shifts), dtype=torch.int64, device=policy.params.values.device))
    twins.params.values.add_(shifts.to(twins.params.values))
    return twins


def plane_through(policies: Sequence[ActorCritic], *, seed: int = 0) -> Plane:
    """The plane of three policies' parameters; of fewer, filter-normalised random directions take the missing places.

    Args:
        policies: one to three, of one run each and of one network.
        seed: of random directions.

    Source: Garipov et al. (2018), https://arxiv.org/abs/1802.10026, for planes through what was trained.

    Raises:
        ConfigError: none or more than three are given, or their networks differ.
    """
    if not 1 <= len(policies) <= 3:
        raise ConfigError(f"policies: expected one to three, got {len(policies)}; a plane has no room for more")
    first = policies[0]
    steps = torch.stack([direction_to(first, other) for other in policies])  # [n, P], the first is 0
    centre = steps.mean(0)
    points = steps - centre
    spans = [span for span in (*steps[1:], *filter_directions(first, 2, seed=seed)) if span.any()]
    along = spans[0] / spans[0].norm()
    left = ((span, span - (span @ along) * along) for span in spans[1:])
    across = next(rest for span, rest in left if rest.norm() > 1e-9 * span.norm())
    basis = torch.stack([along, across / across.norm()])
    farthest = float(points.norm(dim=1).max())
    scale = farthest if farthest > 0.0 else float(spans[0].norm())
    marks = (points @ basis.T / scale).cpu().numpy()
    return Plane(moved(first, centre.unsqueeze(0)), scale * basis, marks)


def filter_directions(policy: ActorCritic, n: int = 2, *, seed: int = 0) -> Tensor:
    """``n`` random directions ``[n, P]`` of a policy of one run, as long as its weights, unit by unit.

    Each unit's incoming weights are given a normal direction of the length that they have themselves: a step of 1
    turns each weight vector into one of its own size again, whatever the scale of the layer. What only the critic uses
    is left alone, since it is no part of the objective.

    Source: Li et al. (2018), section 4. Differs: biases are one more unit, of their layer's length, instead of 0.
    """
    stream = Stream([seed], "landscape directions")
    parts = []
    for name, tensor in policy.params.named().items():
        weight = tensor[0].to(torch.float64)  # [in, out], or [1, out]
        drawn = stream.normal(n, *weight.shape)[0].to(weight.device)
        dims = 0 if len(weight) > 1 else (0, 1)
        length = weight.norm(dim=dims, keepdim=True)
        drawn = drawn / drawn.norm(dim=1 if len(weight) > 1 else (1, 2), keepdim=True) * length
        parts.append((torch.zeros_like(drawn) if name.startswith("critic.") else drawn).flatten(1))
    return torch.cat(parts, 1)


def direction_to(policy: ActorCritic, other: ActorCritic) -> Tensor:
    """From one policy's parameters to another's, ``[P]``: offset 1 is the other.

    Raises:
        ConfigError: their networks differ, or either has several runs.
    """
    ends = [one.params.values for one in (policy, other)]
    if policy.network != other.network or ends[0].shape != ends[1].shape or len(ends[0]) != 1:
        raise ConfigError("policies: expected two single ones of one network, got others; train both with one net_arch")
    return (ends[1] - ends[0])[0].to(torch.float64)


def exact_objective(policy: ActorCritic, rules: FiniteDynamics, gamma: float) -> tuple[Tensor, Tensor]:
    """Discounted return and discounted sum of entropies ``[R]`` of R policies on tables, float64, differentiable.

    With the discounted visits ``d = (1 - gamma P_pi^T)^-1 start`` they are ``sum_s d r_pi`` and ``sum_s d H(pi)``;
    their sum with ``ent_coef`` is the oracle's value (:func:`entropic_rl.envs.oracle.evaluate_policy`).

    Args:
        policy: without memory, seeing one observation at a time.
        rules: the environment; its time limit is no part of the problem.
        gamma: discount; below 1 where episodes may not end.
    """
    mdp, values = rules.mdp, policy.params.values
    states = torch.arange(rules.n_states, device=values.device).unsqueeze(0)
    shown = policy.observation.flatten(rules.observe(states).cpu().numpy())
    obs = torch.from_numpy(shown).to(values).expand(len(values), -1, -1)  # [R, S, D]
    distribution = cast(Categorical, policy.distribution(policy.normalize(obs)))
    probs, entropy = distribution.probs.to(torch.float64).cpu(), distribution.entropy().to(torch.float64).cpu()
    start = mdp.start.masked_fill(mdp.terminal, 0.0)
    identity, continuation, earned = torch.eye(mdp.n_states, dtype=torch.float64), mdp.continuation, mdp.earned
    visits = []
    for block in probs.split(max(1, _SOLVED // mdp.n_states**2)):
        transition = torch.einsum("rsa,sat->rst", block, continuation)
        visits.append(torch.linalg.solve(identity - gamma * transition.mT, start.expand(len(block), -1)))
    d = torch.cat(visits)
    return (d * (probs * earned).sum(2)).sum(1), (d * entropy).sum(1)


@torch.no_grad()
def sampled_objective(
    policy: ActorCritic,
    make_envs: Callable[[int], VectorEnv[Any, Any, Any]],
    gamma: float,
    *,
    episodes: int = 16,
    seed: int = 30_000,
    max_steps: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Discounted return and discounted sum of entropies ``[R]`` of R policies: means over the same first episodes.

    Episode k has one start, one sequence of the environment's draws and one of sampling noise for all policies.

    Args:
        policy: with memory or without.
        make_envs: builds a vector env of n copies.
        gamma: discount.
        episodes: per policy.
        seed: of all episodes.
        max_steps: longer ones are cut off there.

    Raises:
        ConfigError: fewer than one episode or step.
    """
    if episodes < 1 or max_steps < 1:
        raise ConfigError(f"episodes and max_steps: expected at least 1, got {episodes} and {max_steps}")
    values = policy.params.values
    n_runs = len(values)
    env = make_envs(n_runs * episodes)
    try:
        envs = EnvBatch(env, n_runs, observation=policy.observation, action=policy.action, device=values.device)
        seeds = Stream([seed], "landscape episode").seeds(episodes)[0]
        noise = Stream([seed], "landscape action", device=values.device)
        obs, state = envs.reset([seeds] * n_runs), policy.initial_state(episodes)
        totals = values.new_zeros(2, n_runs, episodes, dtype=torch.float64)
        weight = torch.ones_like(totals[0])  # gamma^t while the episode goes on
        for t in range(max_steps):
            distribution, state = policy.step(policy.normalize(obs), envs.mask, state)
            totals[1] += weight * distribution.entropy()
            drawn = draw_noise(policy.action, noise, episodes).to(values).expand(n_runs, -1, -1)
            transition = envs.step(distribution.sample(drawn))
            totals[0] += weight * transition.reward
            weight = gamma * weight.masked_fill(transition.terminated | transition.truncated, 0.0)
            obs = transition.next_obs
            if t % _CHECK == 0 and not bool(weight.any()):
                break
    finally:
        env.close()
    returns, entropies = totals.mean(2)
    return returns, entropies


def changes_along(
    policy: ActorCritic, directions: Tensor, objective: Objective, *, radius: float, ent_coefs: Sequence[float]
) -> np.ndarray:
    """Changes of the objective to both ends of directions, ``[C, N, 2]``: ``J(w + r d) - J(w)``, ``J(w - r d) - J(w)``.

    Their sum over ``r^2`` is the curvature along d, half their difference over r the slope: the plots of Ahmed et al.
    (2019), section 3.2.

    Args:
        policy: of one run.
        directions: ``[N, P]``.
        objective: as in :func:`policy_slice`.
        radius: r.
        ent_coefs: C coefficients.
    """
    zero = torch.zeros(1, directions.shape[1], dtype=torch.float64)
    shifts = torch.cat([zero, radius * directions, -radius * directions])
    returns, entropies = (part.detach().cpu().numpy() for part in objective(moved(policy, shifts)))
    n = len(directions)
    changes = []
    for c in ent_coefs:
        value = returns + c * entropies
        changes.append(np.stack([value[1 : n + 1] - value[0], value[n + 1 :] - value[0]], 1))
    return np.stack(changes)
