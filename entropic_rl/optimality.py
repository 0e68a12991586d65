"""How far trained policies are from the exact optimum, on environments that are tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from entropic_rl.distributions import Categorical
from entropic_rl.envs import oracle
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.envs.tabular import TabularMDP
from entropic_rl.families import EntropyFamily
from entropic_rl.policies import ActorCritic
from entropic_rl.spaces import ObservationSpec

__all__ = ["Optimality", "find_rules", "measure_optimality", "tabular_policy"]

_MAX_STATES = 150  # beyond, the linear solves cost more than what they tell


def find_rules(env: VectorEnv[Any, Any, Any]) -> FiniteDynamics | None:
    """The tables behind a vector environment, if it is finite, small, and one of ours."""
    copies = getattr(env, "envs", None)  # stepped one by one
    inner: Any = copies[0].unwrapped if copies else env
    rules = getattr(inner, "dynamics", None)
    return rules if isinstance(rules, FiniteDynamics) and rules.n_states <= _MAX_STATES else None


@torch.no_grad()
def tabular_policy(policy: ActorCritic, rules: FiniteDynamics, observation: ObservationSpec) -> Tensor:
    """Probabilities ``[R, S, A]`` of R policies in every state, float64."""
    states = torch.arange(rules.n_states).unsqueeze(0)
    values = policy.params.values
    shown = observation.flatten(rules.observe(states.to(values.device)).cpu().numpy())
    obs = torch.from_numpy(shown).to(values).expand(len(values), -1, -1)  # [R, S, D]
    distribution = policy.distribution(policy.normalize(obs))
    return cast(Categorical, distribution).probs.to(torch.float64).cpu()  # finite environments have Discrete actions


@dataclass(frozen=True, slots=True)
class Optimality:
    """How a policy compares with the exact ones: numbers for the record, and ``[S, A]`` policies as arrays."""

    metrics: dict[str, float]
    tables: dict[str, np.ndarray]


def measure_optimality(
    policies: Tensor,
    mdp: TabularMDP,
    temperatures: Sequence[float],
    gammas: Sequence[float],
    family: EntropyFamily = EntropyFamily(),  # noqa: B008 # frozen
) -> list[Optimality]:
    """How each of R policies compares with what its temperature (in reward units) and discount ask for.

    Metrics:

    - ``optimum/kl``: nats from the policy to the entropy-regularised optimum, mean over the states that visits;
    - ``optimum/loss_only_kl``: the same to the fixed point of entropy in the loss only;
    - ``optimum/entropy``, ``optimum/policy_entropy``: of the optimum and of the policy, over the same states;
    - ``optimum/soft_regret``: what the policy loses of the regularised objective;
    - ``optimum/return_regret``: what it loses of the plain discounted return.

    At temperature 0 the optimum is deterministic, and only the last is given, as it is for the families that have no
    exact solution here (Renyi's entropy, a prior). With Tsallis's the optimum is that family's, and what is told of
    Shannon's entropy and of the loss alone is left out.

    Args:
        policies: ``[R, S, A]``.
        mdp: the problem.
        temperatures: R.
        gammas: R.
        family: which entropy the temperature weighs.
    """
    if not (family.is_shannon or family.kind in ("kl-to-uniform", "tsallis")):
        temperatures = [0.0] * len(policies)
    if family.kind == "tsallis" and not family.is_shannon:
        pairs = zip(policies, temperatures, gammas, strict=True)
        return [_beside_tsallis(own, mdp, temperature, gamma, family.order) for own, temperature, gamma in pairs]
    exact = cache(lambda temperature, gamma: _solve(mdp, temperature, gamma))
    return [
        _compared(own, mdp, temperature, gamma, exact)
        for own, temperature, gamma in zip(policies, temperatures, gammas, strict=True)
    ]


def _solve(mdp: TabularMDP, temperature: float, gamma: float) -> tuple[oracle.Solution, oracle.Solution | None]:
    loss_only = oracle.loss_only_fixed_point(mdp, temperature, gamma) if temperature > 0.0 else None
    return oracle.soft_value_iteration(mdp, temperature, gamma), loss_only


def _beside_tsallis(own: Tensor, mdp: TabularMDP, temperature: float, gamma: float, order: float) -> Optimality:
    if not (math.isfinite(temperature) and bool(own.isfinite().all())):
        return Optimality({}, {})
    optimum = oracle.soft_value_iteration(mdp, temperature, gamma, entropy="tsallis", index=order)
    best = oracle.soft_value_iteration(mdp, 0.0, gamma).value
    kl = (torch.xlogy(own, own) - torch.xlogy(own, optimum.policy)).sum(1)
    metrics = {
        "optimum/kl": float(torch.where(optimum.visitation > 0.0, optimum.visitation * kl, 0.0).sum()),
        "optimum/return_regret": float(mdp.start @ (best - oracle.evaluate_policy(mdp, own, gamma))),
    }
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}  # it may give actions nothing
    return Optimality(finite, {"policy": own.numpy(), "optimum": optimum.policy.numpy()})


def _compared(own: Tensor, mdp: TabularMDP, temperature: float, gamma: float, exact: Any) -> Optimality:
    if not (math.isfinite(temperature) and bool(own.isfinite().all())):
        return Optimality({}, {})
    optimum, loss_only = exact(temperature, gamma)
    tables = {"policy": own.numpy(), "optimum": optimum.policy.numpy()}
    if loss_only is None:
        plain = oracle.evaluate_policy(mdp, own, gamma)
        return Optimality({"optimum/return_regret": float(mdp.start @ (optimum.value - plain))}, tables)
    distance = oracle.compare(own, mdp, temperature, gamma, solution=optimum)
    entropy = -torch.xlogy(own, own).sum(1)
    metrics = {
        "optimum/kl": distance.kl,
        "optimum/loss_only_kl": oracle.compare(own, mdp, temperature, gamma, solution=loss_only).kl,
        "optimum/entropy": float(optimum.visitation @ optimum.entropy),
        "optimum/policy_entropy": float(optimum.visitation @ entropy),
        "optimum/soft_regret": distance.soft_regret,
        "optimum/return_regret": distance.return_regret,
    }
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}  # not at temperatures near 0
    return Optimality(finite, {**tables, "loss_only": loss_only.policy.numpy()})
