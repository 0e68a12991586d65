"""Rollouts as samples to learn from, by machine code: the way from tensors to it and back."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.buffers import Rollout
from entropic_rl.fused.plan import Plan
from entropic_rl.fused.recall import Recalled, Rolled, recall_runs
from entropic_rl.fused.threads import on_threads
from entropic_rl.on_policy import Samples
from entropic_rl.policies import ActorCritic
from entropic_rl.reductions import mean_and_quantiles

__all__ = ["recall"]


def recall(
    plan: Plan,
    policy: ActorCritic,
    rollout: Rollout,
    reward_scale: Tensor,
    gamma: Tensor,
    gae_lambda: Tensor,
    bonus_coef: Tensor,
) -> Samples:
    """Values, log-probabilities and advantages of a full rollout.

    Args:
        plan: of the update.
        policy: what acted.
        rollout: T steps of R x E environments.
        reward_scale: ``[R]``, what rewards were divided by.
        gamma, gae_lambda: ``[R]``.
        bonus_coef: ``[R]``, of the entropy bonus in rewards.
    """
    n_steps, n_runs, n_envs = rollout.reward.shape
    n = n_steps * n_envs
    rolled = _rolled(plan, rollout, gamma, gae_lambda, bonus_coef)
    rows: Any = [np.empty((n_runs, n, x.shape[3]), x.dtype) for x in (rolled.obs, rolled.choices, rolled.numbers)]
    n_masked = n if rollout.mask is not None else 0
    mask = np.empty((n_runs, n_masked, rolled.mask.shape[3]), np.bool_)
    per_sample: Any = [np.empty((n_runs, n), np.float32) for _ in range(5)]
    recalled = Recalled._make([*rows, mask, *per_sample])
    on_threads(partial(recall_runs, plan, policy.params.values.numpy(), rolled, recalled), n_runs)
    valid = None if rollout.all_valid else rollout.valid.transpose(0, 1).flatten(1, 2)
    action = torch.from_numpy(recalled.numbers if plan.is_gaussian else recalled.choices)
    return Samples(
        obs=torch.from_numpy(recalled.obs),
        action=action.squeeze(-1) if policy.action.kind == "categorical" else action,
        log_prob=torch.from_numpy(recalled.log_prob),
        value=torch.from_numpy(recalled.value),
        advantage=torch.from_numpy(recalled.advantage),
        value_target=torch.from_numpy(recalled.target),
        valid=valid,
        mask=None if rollout.mask is None else torch.from_numpy(recalled.mask),
        reward_scale=reward_scale,
        entropy=mean_and_quantiles(torch.from_numpy(recalled.entropy), valid),
    )


def _rolled(plan: Plan, rollout: Rollout, gamma: Tensor, gae_lambda: Tensor, bonus_coef: Tensor) -> Rolled:
    n_steps, n_runs, n_envs = rollout.reward.shape
    action = rollout.action.view(n_steps, n_runs, n_envs, -1).numpy()
    times, _, cut_obs = zip(*rollout.cut_obs, strict=True) if rollout.cut_obs else ((), (), ())
    lead = (n_steps, n_runs, n_envs, 0)
    return Rolled(
        obs=rollout.obs.numpy(),
        choices=np.empty(lead, np.int64) if plan.is_gaussian else action,
        numbers=action if plan.is_gaussian else np.empty(lead, np.float32),
        mask=np.empty((0, n_runs, n_envs, 1), np.bool_) if rollout.mask is None else rollout.mask.numpy(),
        reward=rollout.reward.numpy(),
        terminated=rollout.terminated.numpy(),
        truncated=rollout.truncated.numpy(),
        cut_times=np.array(times, dtype=np.int64),
        cut_obs=torch.stack(cut_obs).numpy() if cut_obs else np.empty((0, *rollout.obs.shape[1:]), np.float32),
        gamma=_numbers(gamma),
        gae_lambda=_numbers(gae_lambda),
        bonus_coef=_numbers(bonus_coef),
    )


def _numbers(x: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(x.detach().numpy(), dtype=np.float32)
