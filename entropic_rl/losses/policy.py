"""Losses of agents, per element. Each detaches what its paper treats as a constant and says so."""

from __future__ import annotations

from torch import Tensor

from entropic_rl.losses.core import check_same_shape

__all__ = ["clipped_surrogate_loss", "clipped_value_loss", "policy_gradient_loss", "value_loss"]


def policy_gradient_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """``-log_prob * advantage`` per step, ``[...] -> [...]``; the advantage is a constant.

    Source: Mnih et al. (2016), section 4, https://arxiv.org/abs/1602.01783.
    """
    check_same_shape(log_prob=log_prob, advantage=advantage)
    return -log_prob * advantage.detach()


def clipped_surrogate_loss(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, *, clip_range: float | Tensor
) -> Tensor:
    """PPO's policy loss per step, ``[...] -> [...]``; old log-probabilities and advantages are constants.

    ``-min(r A, clip(r, 1 - c, 1 + c) A)`` with ``r = exp(log_prob - old_log_prob)``.

    Args:
        log_prob: ``[...]`` of the taken action under the policy being trained.
        old_log_prob: ``[...]`` under the policy that acted.
        advantage: ``[...]``.
        clip_range: c > 0, a number or a tensor that broadcasts, such as ``[R, 1]``.

    Source: Schulman et al. (2017), eq. 7, https://arxiv.org/abs/1707.06347.
    """
    check_same_shape(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
    ratio = (log_prob - old_log_prob.detach()).exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)  # type: ignore[arg-type] # both are numbers or tensors
    advantage = advantage.detach()
    return -(ratio * advantage).minimum(clipped * advantage)


def value_loss(value: Tensor, value_target: Tensor) -> Tensor:
    """Squared error ``(value - target)^2`` per element, ``[...] -> [...]``; the target is a constant.

    No factor 1/2: ``vf_coef`` means what it means in Stable-Baselines3.
    """
    check_same_shape(value=value, value_target=value_target)
    return (value - value_target.detach()).square()


def clipped_value_loss(
    value: Tensor, old_value: Tensor, value_target: Tensor, *, clip_range_vf: float | Tensor
) -> Tensor:
    """Squared error of the value moved at most ``clip_range_vf`` from the old one, per element, ``[...] -> [...]``.

    Old values and targets are constants. Differs: the maximum with the unclipped error that OpenAI's baselines take
    is left out, as Stable-Baselines3 does, so that the field means the same in both.
    """
    check_same_shape(value=value, old_value=old_value, value_target=value_target)
    old_value = old_value.detach()
    moved = (value - old_value).clamp(-clip_range_vf, clip_range_vf)  # type: ignore[arg-type] # both are numbers or tensors
    return value_loss(old_value + moved, value_target)
