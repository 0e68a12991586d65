"""Exact answers to the entropy-regularised problem on finite MDPs, to compare trained policies with.

The problem: maximise ``E sum_t gamma^t (r_t + temperature * H(pi(.|s_t)))``, no entropy after termination. Conventions:
Q excludes the entropy of the current state, V includes it: ``V = sum_a pi Q + temperature * H(pi)``,
``Q = r + gamma P V``. Everything is float64 and right to about 1e-12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from entropic_rl.envs.tabular import TabularMDP

__all__ = [
    "Comparison",
    "Entropy",
    "Solution",
    "bandit_optimum",
    "compare",
    "evaluate_policy",
    "loss_only_fixed_point",
    "soft_value_iteration",
    "visitation",
]

Entropy = Literal["shannon", "tsallis"]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """The optimum of the regularised problem.

    Attributes:
        value: ``[S]``, soft state values.
        q_value: ``[S, A]``, soft action values.
        policy: ``[S, A]``, the optimal policy.
        entropy: ``[S]``, its entropy in nats (or in the units of the family).
        expected_return: its plain discounted return from the start distribution, without entropy.
        visitation: ``[S]``, its discounted state visitation, summing to 1 over non-terminal states.
    """

    value: Tensor
    q_value: Tensor
    policy: Tensor
    entropy: Tensor
    expected_return: float
    visitation: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """How far a policy is from the regularised optimum.

    Attributes:
        kl_by_state: ``[S]``, KL(policy || optimum) in nats.
        kl: its mean under the optimum's visitation.
        soft_regret: what the policy loses of the regularised objective, from the start distribution; >= 0.
        return_regret: what it loses of the plain return against the best deterministic policy; >= 0.
    """

    kl_by_state: Tensor
    kl: float
    soft_regret: float
    return_regret: float


def soft_value_iteration(
    mdp: TabularMDP, temperature: float, gamma: float, *, entropy: Entropy = "shannon", index: float = 2.0
) -> Solution:
    """Solve the regularised problem exactly; temperature 0 gives the ordinary optimum.

    Policies are improved greedily against their own soft values, which are found by a linear solve. This is Newton's
    method on the soft Bellman equation, so a handful of rounds reaches the last digit where plain value iteration needs
    thousands of sweeps.

    Args:
        mdp: the problem.
        temperature: weight of the entropy in reward units, >= 0.
        gamma: discount in [0, 1); 1 is allowed where every policy terminates.
        entropy: the family, Shannon's or Tsallis's.
        index: q > 0 of the Tsallis entropy; 2 gives sparse policies.

    Source: Geist, Scherrer & Pietquin (2019), https://arxiv.org/abs/1901.11275.

    Raises:
        ValueError: temperature, gamma or index out of range.
    """
    _check_range(temperature, gamma, index)
    policy = torch.full_like(mdp.reward, 1.0 / mdp.n_actions)
    value = torch.full_like(mdp.start, -torch.inf)
    for _ in range(1000):
        improved = evaluate_policy(mdp, policy, gamma, temperature=temperature, entropy=entropy, index=index)
        gain = (improved - value).abs().max()
        value = improved
        q_value = _q(mdp, value, gamma)
        policy = _greedy(q_value, temperature, entropy, index)
        if gain <= 1e-13 * (1.0 + value.abs().max()):
            break
    return Solution(
        value=value,
        q_value=q_value,
        policy=policy,
        entropy=_entropy(policy, entropy, index),
        expected_return=float(mdp.start @ evaluate_policy(mdp, policy, gamma)),
        visitation=visitation(mdp, policy, gamma),
    )


def loss_only_fixed_point(mdp: TabularMDP, temperature: float, gamma: float, *, max_rounds: int = 20_000) -> Solution:
    """Where entropy in the loss only, not in the reward, comes to rest: ``pi = softmax(Q^pi / temperature)``.

    ``Q^pi`` is the plain action value of the policy itself, without entropy, so this is another policy than the
    regularised optimum: it does not seek states in which it can stay random. Found by damped iteration in the logits
    from the uniform policy; some problems have several such policies.

    Args:
        mdp: the problem.
        temperature: weight of the entropy in reward units, > 0.
        gamma: discount in [0, 1); 1 is allowed where every policy terminates.
        max_rounds: of the iteration.

    Raises:
        ValueError: temperature or gamma out of range.
    """
    _check_range(temperature, gamma, 2.0)
    if temperature == 0.0:
        raise ValueError("temperature must be > 0: without entropy every greedy policy is a fixed point")
    logits = torch.zeros_like(mdp.reward)
    for _ in range(max_rounds):
        policy = logits.softmax(1)
        value = evaluate_policy(mdp, policy, gamma)
        q_value = _q(mdp, value, gamma)
        change = 0.3 * ((q_value - q_value.amax(1, keepdim=True)) / temperature - logits)
        logits = logits + change
        if float(change.abs().max()) <= 1e-11 * (1.0 + float(logits.abs().max())):
            break
    return Solution(
        value=value,
        q_value=q_value,
        policy=policy,
        entropy=_entropy(policy, "shannon", 1.0),
        expected_return=float(mdp.start @ value),
        visitation=visitation(mdp, policy, gamma),
    )


def evaluate_policy(
    mdp: TabularMDP,
    policy: Tensor,
    gamma: float,
    *,
    temperature: float = 0.0,
    entropy: Entropy = "shannon",
    index: float = 2.0,
) -> Tensor:
    """State values ``[S]`` of ``policy [S, A]`` by a linear solve; soft ones if ``temperature`` > 0.

    Raises:
        ValueError: the policy has another shape or does not hold probabilities.
    """
    policy = _checked_policy(mdp, policy)
    reward = (policy * mdp.earned).sum(1)
    if temperature > 0.0:
        reward = reward + temperature * _entropy(policy, entropy, index).masked_fill(mdp.terminal, 0.0)
    return torch.linalg.solve(_identity(mdp) - gamma * _state_transition(mdp, policy), reward)


def visitation(mdp: TabularMDP, policy: Tensor, gamma: float) -> Tensor:
    """Discounted visitation ``[S]`` of the states acted in, summing to 1: ``d ~ sum_t gamma^t P(s_t = s)``."""
    policy = _checked_policy(mdp, policy)
    start = mdp.start.masked_fill(mdp.terminal, 0.0)
    visits = torch.linalg.solve(_identity(mdp) - gamma * _state_transition(mdp, policy).T, start)
    return visits / visits.sum()


def compare(
    policy: Tensor, mdp: TabularMDP, temperature: float, gamma: float = 0.99, *, solution: Solution | None = None
) -> Comparison:
    """Measure ``policy [S, A]`` against the Shannon-regularised optimum at ``temperature`` > 0.

    Args:
        policy: probabilities.
        mdp: the problem.
        temperature: of the optimum, in reward units.
        gamma: discount.
        solution: the optimum, if it is at hand already.
    """
    solution = solution or soft_value_iteration(mdp, temperature, gamma)
    policy = _checked_policy(mdp, policy)
    kl_by_state = (torch.xlogy(policy, policy) - torch.xlogy(policy, solution.policy)).sum(1)
    best = soft_value_iteration(mdp, 0.0, gamma).value
    soft = evaluate_policy(mdp, policy, gamma, temperature=temperature)
    plain = evaluate_policy(mdp, policy, gamma)
    return Comparison(
        kl_by_state=kl_by_state,
        kl=float(solution.visitation @ kl_by_state),
        soft_regret=float(mdp.start @ (solution.value - soft)),
        return_regret=float(mdp.start @ (best - plain)),
    )


def bandit_optimum(reward: Tensor, temperature: float) -> Tensor:
    """Optimal policy of a bandit, ``softmax(reward / temperature)``, ``[..., A] -> [..., A]``, in float64."""
    return (reward.to(torch.float64) / temperature).softmax(-1)


def _q(mdp: TabularMDP, value: Tensor, gamma: float) -> Tensor:
    return mdp.earned + gamma * (mdp.continuation @ value)


def _greedy(q_value: Tensor, temperature: float, entropy: Entropy, index: float) -> Tensor:
    """The policy that maximises ``sum pi Q + temperature * H(pi)`` in each state."""
    if temperature == 0.0:
        return torch.nn.functional.one_hot(q_value.argmax(1), q_value.shape[1]).to(torch.float64)
    if entropy == "shannon" or index == 1.0:
        return (q_value / temperature).softmax(1)
    return _tsallis_greedy(q_value / temperature, index)


def _tsallis_greedy(x: Tensor, index: float) -> Tensor:
    """Maximiser of ``sum pi x + S_q(pi)`` per row, by bisection on the multiplier of ``sum pi = 1``.

    Stationarity gives ``pi = [(q - 1)(x - m) / q]_+ ^ (1 / (q - 1))``, decreasing in m.
    """
    q, n = index, x.shape[1]
    top = x.amax(1, keepdim=True)
    # At the top entry pi lies between 1/n and 1, which brackets the multiplier.
    low, high = (top - q / (q - 1.0) * share ** (q - 1.0) for share in (1.0, 1.0 / n))
    for _ in range(200):
        middle = 0.5 * (low + high)
        too_much = _tsallis_policy(x, middle, q).sum(1, keepdim=True) > 1.0
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    policy = _tsallis_policy(x, 0.5 * (low + high), q)
    return policy / policy.sum(1, keepdim=True)


def _tsallis_policy(x: Tensor, multiplier: Tensor, q: float) -> Tensor:
    return ((q - 1.0) / q * (x - multiplier)).clamp(min=0.0) ** (1.0 / (q - 1.0))


def _entropy(policy: Tensor, entropy: Entropy, index: float) -> Tensor:
    if entropy == "shannon" or index == 1.0:
        return -torch.xlogy(policy, policy).sum(1)
    return (1.0 - (policy**index).sum(1)) / (index - 1.0)


def _state_transition(mdp: TabularMDP, policy: Tensor) -> Tensor:
    return torch.einsum("sa,sat->st", policy, mdp.continuation)


def _identity(mdp: TabularMDP) -> Tensor:
    return torch.eye(mdp.n_states, dtype=torch.float64)


def _checked_policy(mdp: TabularMDP, policy: Tensor) -> Tensor:
    if policy.shape != mdp.reward.shape:
        raise ValueError(f"policy must have shape {tuple(mdp.reward.shape)}, got {tuple(policy.shape)}")
    policy = policy.to(torch.float64)
    if bool((policy < 0).any()) or float((policy.sum(1) - 1.0).abs().max()) > 1e-5:
        raise ValueError("policy must hold probabilities that sum to 1 in every state")
    return policy


def _check_range(temperature: float, gamma: float, index: float) -> None:
    if not temperature >= 0.0:
        raise ValueError(f"temperature must be >= 0, got {temperature}")
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
    if not index > 0.0:
        raise ValueError(f"index must be > 0, got {index}; 1 is the Shannon entropy")
