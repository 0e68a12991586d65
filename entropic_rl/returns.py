"""Advantages and returns over time; ``terminated`` (the task ended) and ``truncated`` (the clock ended) kept apart.

Termination zeroes the bootstrap; either one cuts the trace. ``next_value`` is the value of the observation that the
action led to, which at an episode's end is the *final* observation, never the one after the reset. Time is axis 0,
any axes may follow; ``gamma`` and ``gae_lambda`` are numbers or tensors that broadcast against one time step, such as
``[R, 1]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.losses import check_same_shape

__all__ = ["gae", "n_step_returns", "td_target"]


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float | Tensor,
    gae_lambda: float | Tensor,
) -> Tensor:
    """Generalised advantage estimates, ``[T, ...] -> [T, ...]``; the value target is ``advantage + value``.

    ``delta_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t)``,
    ``A_t = delta_t + gamma lambda (1 - terminated_t or truncated_t) A_{t+1}``.

    Args:
        reward: ``[T, ...]``.
        value: ``[T, ...]``, V(s_t).
        next_value: ``[T, ...]``, V of the observation reached, before any reset.
        terminated: ``[T, ...]`` boolean.
        truncated: ``[T, ...]`` boolean.
        gamma: discount per step, in [0, 1].
        gae_lambda: trace decay in [0, 1]; 1 gives the discounted return minus the value, 0 the one-step error.

    Source: Schulman et al. (2016), eq. 11 and 16, https://arxiv.org/abs/1506.02438.
    """
    check_same_shape(reward=reward, value=value, next_value=next_value, terminated=terminated, truncated=truncated)
    delta = reward + gamma * next_value.masked_fill(terminated, 0.0) - value
    carried = gamma * gae_lambda * (~(terminated | truncated)).to(reward.dtype)
    trace = torch.zeros_like(delta[0])
    advantages = []
    for delta_t, carried_t in zip(reversed(delta.unbind()), reversed(carried.unbind()), strict=True):
        trace = torch.addcmul(delta_t, carried_t, trace)
        advantages.append(trace)
    return torch.stack(advantages[::-1])


def n_step_returns(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, *, gamma: float | Tensor
) -> Tensor:
    """Discounted returns to the end of the rollout, bootstrapped there and at truncations, ``[T, ...] -> [T, ...]``.

    ``G_t = r_t + gamma G_{t+1}`` inside an episode; at its end, and at the last row, ``r_t + gamma V(s'_t)`` with the
    value left out if the task terminated. Equals ``gae(..., gae_lambda=1) + value``. Arguments as in :func:`gae`.

    Source: Mnih et al. (2016), algorithm S3, https://arxiv.org/abs/1602.01783.
    """
    return gae(
        reward,
        torch.zeros_like(reward),
        # With V(s_t) taken as 0 the trace alone carries the return; only ends and the last row bootstrap.
        _bootstrap_at_ends(next_value, terminated | truncated),
        terminated,
        truncated,
        gamma=gamma,
        gae_lambda=1.0,
    )


def td_target(reward: Tensor, next_value: Tensor, terminated: Tensor, *, discount: float | Tensor) -> Tensor:
    """``reward + discount * V(s')``, without the value where the task terminated, per element, ``[...] -> [...]``.

    Args:
        reward: ``[...]``, of one step or of several, discounted and added up.
        next_value: ``[...]``, of the state reached; a soft value holds that state's entropy, so that none is counted
            after termination.
        terminated: ``[...]`` boolean.
        discount: gamma, or gamma^n after n steps; a number or broadcastable.

    Source: Haarnoja et al. (2018), eq. 3, https://arxiv.org/abs/1812.05905.
    """
    check_same_shape(reward=reward, next_value=next_value, terminated=terminated)
    return reward + discount * next_value.masked_fill(terminated, 0.0)


def _bootstrap_at_ends(next_value: Tensor, ended: Tensor) -> Tensor:
    at_ends = next_value.masked_fill(~ended, 0.0)
    at_ends[-1] = next_value[-1]
    return at_ends
