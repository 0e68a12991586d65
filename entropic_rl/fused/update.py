"""All minibatch updates of a run after a rollout, without returning in between: gradient, clipping, step."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from entropic_rl.fused.compilation import Booleans, Floats, Floats64, Integers, compiled
from entropic_rl.fused.heads import Head, Slopes, choose, draw
from entropic_rl.fused.layers import backward, forward

__all__ = ["METRICS", "Data", "Numbers", "Plan", "Scratch", "State", "update_runs"]

METRICS = (
    "train/loss",
    "train/policy_gradient_loss",
    "train/value_loss",
    "train/entropy",
    "train/bonus",
    "train/approx_kl",
    "train/clip_fraction",
    "train/grad_norm",
)
_LOSS, _POLICY, _VALUE, _ENTROPY, _BONUS, _KL, _CLIPPED, _NORM = range(len(METRICS))
_TILE = 128  # samples that go through the network together: what it keeps of them stays in the cache


class Plan(NamedTuple):
    """What is the same for all runs and updates.

    Attributes:
        layers: ``[L, 8]``, rows of :class:`entropic_rl.fused.layers.Layer`.
        n_units: U, rows that inputs and outputs of all layers take.
        outputs: the first row of the actor's outputs.
        value: the row of the critic's.
        n_outputs: of the actor.
        head: the policy head and the entropy bonus.
        is_gaussian: whether it is one of numbers.
        is_clipped: whether the policy loss is PPO's; else A2C's.
        normalize: whether advantages are normalised per minibatch.
        clip_range_vf: how far values may move; infinite for no limit.
        max_kl: divergence above which a run's updates end.
        adam: whether steps are Adam's; else RMSprop's.
        decay: of the mean of gradients, and of their squares.
        eps: of the optimizer.
    """

    layers: Integers
    n_units: int
    outputs: int
    value: int
    n_outputs: int
    head: Head
    is_gaussian: bool
    is_clipped: bool
    normalize: bool
    clip_range_vf: float
    max_kl: float
    adam: bool
    decay: tuple[float, float]
    eps: float


class State(NamedTuple):
    """What is changed: parameters ``params``, running means ``mean, square [R, P]``, and ``steps [R, 1]``.

    Attributes:
        frozen: ``[R]``, runs that are not stepped: read, and set where a gradient is not finite.
        broken_at: ``[R]``, number of the minibatch whose gradient was the first that was not, or -1.
    """

    params: Floats
    mean: Floats
    square: Floats
    steps: Floats
    frozen: Booleans
    broken_at: Integers


class Data(NamedTuple):
    """N samples of R runs; ``valid`` and ``mask`` have no entries if all count and all is allowed.

    Attributes:
        obs: ``[R, N, D]``.
        choices: ``[R, N, C]`` taken, int64.
        numbers: ``[R, N, D]`` taken, of a Gaussian head.
        log_prob, value, advantage, target: ``[R, N]``.
        valid: ``[R, N]``.
        mask: ``[R, N, A]``.
        orders: ``[R, n_epochs, N]``, in which samples are taken.
    """

    obs: Floats
    choices: Integers
    numbers: Floats
    log_prob: Floats
    value: Floats
    advantage: Floats
    target: Floats
    valid: Booleans
    mask: Booleans
    orders: Integers


class Numbers(NamedTuple):
    """Of this update, ``[R]`` each.

    Attributes:
        learning_rate, clip_range, vf_coef, max_grad_norm: settings.
        ent_coef: weight of the bonus in the loss.
        in_reward_units: whether it is divided by what advantages were.
        reward_scale: what rewards were divided by.
    """

    learning_rate: Floats
    clip_range: Floats
    vf_coef: Floats
    max_grad_norm: Floats
    ent_coef: Floats
    in_reward_units: Booleans
    reward_scale: Floats


class Scratch(NamedTuple):
    """Room for what is computed on the way.

    Attributes:
        units, slopes, back: as :func:`entropic_rl.fused.layers.forward` and ``backward`` use them, for one tile.
        spare: for the largest product of matrices.
        grads: ``[P]`` of the minibatch.
        head: what the head makes of a tile.
        found: ``[M]``, metrics of the minibatch.
    """

    units: Floats
    slopes: Floats
    back: Floats
    spare: Floats
    grads: Floats
    head: Slopes
    found: Floats64


@compiled
def update_runs(
    plan: Plan, state: State, data: Data, numbers: Numbers, batch_size: int, metrics: Floats64, start: int, stop: int
) -> None:
    """Update runs ``start`` to ``stop``; ``metrics [R, M]`` are means over the minibatches that counted."""
    n, scratch = data.obs.shape[1], _scratch(plan, state.params.shape[1], min(_TILE, batch_size))
    for run in range(start, stop):
        n_batches, ended = 0, False
        metrics[run] = 0.0
        for epoch in range(data.orders.shape[1]):
            for first in range(0, n, batch_size):
                order = data.orders[run, epoch, first : min(first + batch_size, n)]
                _gradient(plan, state.params[run], data, numbers, run, order, scratch)
                total, norm = _clip(scratch.grads, numbers.max_grad_norm[run])
                scratch.found[_NORM] = norm
                for m in range(len(METRICS)):
                    metrics[run, m] += scratch.found[m]
                ended = scratch.found[_KL] > plan.max_kl
                if not (state.frozen[run] or math.isfinite(total)):
                    state.frozen[run], state.broken_at[run] = True, n_batches
                if not (ended or state.frozen[run]):
                    _step(plan, state, numbers.learning_rate[run], run, scratch.grads)
                n_batches += 1
                if ended:
                    break
            if ended:
                break
        metrics[run] /= max(n_batches, 1)


@compiled
def _scratch(plan: Plan, n_params: int, width: int) -> Scratch:
    size = plan.n_units * width
    largest = size
    for i in range(len(plan.layers)):
        largest = max(largest, plan.layers[i, 3] * plan.layers[i, 5])
    return Scratch(
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(largest, np.float32),
        np.empty(n_params, np.float32),
        Slopes(
            np.empty(width, np.float64),
            np.empty(width, np.float64),
            np.empty(width, np.float64),
            np.empty((plan.n_outputs, width), np.float64),
            np.empty((plan.n_outputs, width), np.float64),
            np.empty((plan.n_outputs, width), np.float64),
            np.empty((plan.n_outputs, width), np.float64),
        ),
        np.empty(len(METRICS), np.float64),
    )


@compiled
def _gradient(
    plan: Plan, params: Floats, data: Data, numbers: Numbers, run: int, order: Integers, scratch: Scratch
) -> None:
    """``scratch.grads`` and ``scratch.found`` of a minibatch, tile by tile."""
    spread, width = _spread(plan, data, run, order), min(_TILE, len(order))
    scratch.found[:] = 0.0
    scratch.grads[:] = np.float32(0.0)
    for first in range(0, len(order), width):
        samples = order[first : first + width]
        shape, size = (plan.n_units, len(samples)), plan.n_units * len(samples)
        units, slopes = scratch.units[:size].reshape(shape), scratch.slopes[:size].reshape(shape)
        back = scratch.back[:size].reshape(shape)
        for b in range(len(samples)):
            for d in range(data.obs.shape[2]):
                units[d, b] = data.obs[run, samples[b], d]
        forward(plan.layers, params, units, slopes)
        _loss(plan, params, data, numbers, run, samples, spread, units, back, scratch)
        backward(plan.layers, params, units, slopes, back, scratch.grads, scratch.spare)


@compiled
def _spread(plan: Plan, data: Data, run: int, order: Integers) -> tuple[float, float, int]:
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
def _loss(
    plan: Plan,
    params: Floats,
    data: Data,
    numbers: Numbers,
    run: int,
    samples: Integers,
    spread: tuple[float, float, int],
    units: Floats,
    back: Floats,
    scratch: Scratch,
) -> None:
    """Add the loss of a tile and what is watched to ``found``, and set its gradients by outputs and values."""
    mean, divisor, n_valid = spread
    share, found, head, first = 1.0 / n_valid, scratch.found, scratch.head, plan.outputs
    log_std, outputs = plan.head.log_std, units[first : first + plan.n_outputs]
    if plan.is_gaussian:
        draw(plan.head, outputs, samples, params[log_std : log_std + plan.n_outputs], data.numbers[run], head)
    else:
        choose(plan.head, outputs, samples, data.mask[run], data.choices[run], head)
    ent_coef, vf_coef = float(numbers.ent_coef[run]), float(numbers.vf_coef[run])
    if numbers.in_reward_units[run]:
        ent_coef /= numbers.reward_scale[run] * (divisor if plan.normalize else 1.0)
    clip_range, all_valid = float(numbers.clip_range[run]), data.valid.shape[1] == 0
    for b in range(len(samples)):
        i = samples[b]
        weight = share if all_valid or data.valid[run, i] else 0.0
        advantage = (data.advantage[run, i] - mean) / divisor
        policy_loss, slope = -head.log_prob[b] * advantage, -advantage
        if plan.is_clipped:
            log_ratio = head.log_prob[b] - data.log_prob[run, i]
            policy_loss, slope, excess = _surrogate(log_ratio, advantage, clip_range)
            found[_KL] += (excess - log_ratio) * weight
            found[_CLIPPED] += weight if abs(excess) > clip_range else 0.0
        moved, inside = float(units[plan.value, b]) - data.value[run, i], 1.0
        if abs(moved) > plan.clip_range_vf:
            moved, inside = math.copysign(plan.clip_range_vf, moved), 0.0
        error = data.value[run, i] + moved - data.target[run, i]
        found[_POLICY] += policy_loss * weight
        found[_VALUE] += error * error * weight
        found[_ENTROPY] += head.entropy[b] * weight
        found[_BONUS] += head.bonus[b] * weight
        found[_LOSS] += (policy_loss - ent_coef * head.bonus[b] + vf_coef * error * error) * weight
        back[plan.value, b] = 2.0 * vf_coef * error * inside * weight
        for a in range(plan.n_outputs):
            back[first + a, b] = (slope * head.d_log_prob[a, b] - ent_coef * head.d_bonus[a, b]) * weight
        if plan.is_gaussian:
            for a in range(plan.n_outputs):
                by_std = slope * head.d_log_prob_by_std[a, b] - ent_coef * head.d_bonus_by_std[a, b]
                scratch.grads[log_std + a] += by_std * weight


@compiled
def _surrogate(log_ratio: float, advantage: float, clip_range: float) -> tuple[float, float, float]:
    """PPO's loss, its derivative by the log-probability, and the ratio minus 1."""
    excess = math.expm1(log_ratio)
    ratio = 1.0 + excess
    clipped = min(max(ratio, 1.0 - clip_range), 1.0 + clip_range)
    slope = -ratio * advantage if clipped == ratio or ratio * advantage < clipped * advantage else 0.0
    return -min(ratio * advantage, clipped * advantage), slope, excess


@compiled
def _clip(grads: Floats, max_norm: float) -> tuple[float, float]:
    """Scale to a 2-norm of at most ``max_norm``; returns the sum afterwards, and the norm before."""
    squares, total = np.float32(0.0), np.float32(0.0)
    for i in range(len(grads)):
        squares += grads[i] * grads[i]
    norm = math.sqrt(squares)
    scale = np.float32(min(max_norm / (norm + 1e-6), 1.0))
    if math.isnan(norm):
        scale = np.float32(np.nan)
    for i in range(len(grads)):
        grads[i] *= scale
        total += grads[i]
    return float(total), norm


@compiled
def _step(plan: Plan, state: State, learning_rate: float, run: int, grads: Floats) -> None:
    """Adam, or RMSprop, as :mod:`entropic_rl.optimizers` has them."""
    params, mean, square = state.params[run], state.mean[run], state.square[run]
    one = np.float32(1.0)
    decay, share = np.float32(plan.decay[0]), np.float32(1.0 - plan.decay[0])
    decay_of_squares, share_of_squares = np.float32(plan.decay[1]), np.float32(1.0 - plan.decay[1])
    eps, scale = np.float32(plan.eps), one
    rate = np.float32(learning_rate)
    if plan.adam:
        state.steps[run, 0] += one
        t = state.steps[run, 0]
        rate = np.float32(learning_rate / (1.0 - plan.decay[0] ** t))
        scale = np.float32(1.0 / math.sqrt(1.0 - plan.decay[1] ** t))
    for i in range(len(grads)):
        g = grads[i]
        square[i] = decay_of_squares * square[i] + share_of_squares * g * g
        if plan.adam:
            mean[i] = decay * mean[i] + share * g
            g = mean[i]
        params[i] -= rate * g / (np.sqrt(square[i]) * scale + eps)
