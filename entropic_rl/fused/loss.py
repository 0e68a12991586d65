"""The loss of an actor-critic on a tile of samples, as machine code, with its gradients by outputs and values."""

from __future__ import annotations

import math

from entropic_rl.fused.compilation import Floats, Floats64, Integers, compiled
from entropic_rl.fused.elementary import expm1
from entropic_rl.fused.heads import Slopes, choose, draw
from entropic_rl.fused.plan import Data, Numbers, Plan, Scratch

__all__ = ["loss", "spread"]

_LOSS, _POLICY, _VALUE, _ENTROPY, _BONUS, _KL, _CLIPPED = range(7)  # of plan.METRICS


@compiled
def spread(plan: Plan, data: Data, run: int, order: Integers) -> tuple[float, float, int]:
    """Mean and divisor of a minibatch's advantages, and how many of its samples count."""
    n, total = 0, 0.0
    for i in order:
        if data.valid.shape[1] == 0 or data.valid[run, i]:
            n += 1
            total += data.advantage[run, i]
    if not plan.normalize or len(order) < 2:
        return 0.0, 1.0, max(n, 1)
    if n < 2:
        return 0.0, 1.0 + 1e-8, max(n, 1)
    mean, squares = total / n, 0.0
    for i in order:
        if data.valid.shape[1] == 0 or data.valid[run, i]:
            squares += (data.advantage[run, i] - mean) ** 2
    return mean, math.sqrt(squares / (n - 1)) + 1e-8, n


@compiled
def loss(
    plan: Plan,
    params: Floats,
    data: Data,
    numbers: Numbers,
    run: int,
    samples: Integers,
    moments: tuple[float, float, int],
    units: Floats,
    back: Floats,
    scratch: Scratch,
) -> None:
    """Add the loss of a tile and what is watched to ``found``, and set its gradients by outputs and values."""
    mean, divisor, n_valid = moments
    share, found, head, first = 1.0 / n_valid, scratch.found, scratch.head, plan.outputs
    log_std, outputs = plan.head.log_std, units[first : first + plan.n_outputs]
    if plan.is_gaussian:
        draw(plan.head, outputs, samples, params[log_std : log_std + plan.n_outputs], data.numbers[run], head)
    else:
        choose(plan.head, outputs, samples, data.mask[run], data.choices[run], head)
    ent_coef, vf_coef = float(numbers.ent_coef[run]), float(numbers.vf_coef[run])
    if numbers.in_reward_units[run]:
        ent_coef /= numbers.reward_scale[run] * (divisor if plan.normalize else 1.0)
    weight, slope = scratch.weight, scratch.slope
    all_valid = data.valid.shape[1] == 0
    for b in range(len(samples)):
        i = samples[b]
        weight[b] = share if all_valid or data.valid[run, i] else 0.0
        slope[b] = (data.advantage[run, i] - mean) / divisor
        head.top[b] = data.log_prob[run, i]
    _policy_loss(plan, float(numbers.clip_range[run]), head, weight, slope, found, len(samples))
    _value_loss(plan, data, run, samples, vf_coef, units[plan.value], weight, back[plan.value], found)
    entropy, bonus = 0.0, 0.0
    for b in range(len(samples)):
        entropy += head.entropy[b] * weight[b]
        bonus += head.bonus[b] * weight[b]
    found[_ENTROPY] += entropy
    found[_BONUS] += bonus
    found[_LOSS] -= ent_coef * bonus
    for a in range(plan.n_outputs):
        for b in range(len(samples)):
            by_output = slope[b] * head.d_log_prob[a, b] - ent_coef * head.d_bonus[a, b]
            back[first + a, b] = by_output * weight[b]
    if plan.is_gaussian:
        for a in range(plan.n_outputs):
            total = 0.0
            for b in range(len(samples)):
                by_std = slope[b] * head.d_log_prob_by_std[a, b] - ent_coef * head.d_bonus_by_std[a, b]
                total += by_std * weight[b]
            scratch.grads[log_std + a] += total


@compiled
def _policy_loss(
    plan: Plan, clip_range: float, head: Slopes, weight: Floats64, slope: Floats64, found: Floats64, n: int
) -> None:
    """Add PPO's loss or A2C's to ``found``, given advantages ``[B]``, which become its slopes by log-probabilities."""
    loss, kl, clipped = 0.0, 0.0, 0.0
    if plan.is_clipped:
        low, high = 1.0 - clip_range, 1.0 + clip_range
        for b in range(n):
            advantage, log_ratio = slope[b], head.log_prob[b] - head.top[b]
            excess = expm1(log_ratio)
            ratio = 1.0 + excess
            inside = low if ratio < low else ratio
            inside = high if inside > high else inside
            gain, held = ratio * advantage, inside * advantage
            loss -= (held if held < gain else gain) * weight[b]
            kl += (excess - log_ratio) * weight[b]
            clipped += weight[b] if abs(excess) > clip_range else 0.0
            slope[b] = -gain if inside == ratio or gain < held else 0.0
    else:
        for b in range(n):
            loss -= head.log_prob[b] * slope[b] * weight[b]
            slope[b] = -slope[b]
    found[_POLICY] += loss
    found[_LOSS] += loss
    found[_KL] += kl
    found[_CLIPPED] += clipped


@compiled
def _value_loss(
    plan: Plan,
    data: Data,
    run: int,
    samples: Integers,
    vf_coef: float,
    value: Floats,
    weight: Floats64,
    back: Floats,
    found: Floats64,
) -> None:
    """Add the critic's loss to ``found``, and set its gradient by values ``[B]``."""
    total, limit = 0.0, plan.clip_range_vf
    for b in range(len(samples)):
        i = samples[b]
        moved, inside = float(value[b]) - data.value[run, i], 1.0
        if abs(moved) > limit:
            moved, inside = math.copysign(limit, moved), 0.0
        error = data.value[run, i] + moved - data.target[run, i]
        total += error * error * weight[b]
        back[b] = 2.0 * vf_coef * error * inside * weight[b]
    found[_VALUE] += total
    found[_LOSS] += vf_coef * total
