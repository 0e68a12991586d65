"""All minibatch updates of a run after a rollout, without returning in between: gradient, clipping, step."""

from __future__ import annotations

import math

import numpy as np

from entropic_rl.fused.compilation import Floats, Floats64, Integers, compiled
from entropic_rl.fused.layers import backward, forward
from entropic_rl.fused.loss import loss, spread
from entropic_rl.fused.plan import METRICS, TILE, Data, Numbers, Plan, Scratch, State, make_scratch
from entropic_rl.fused.stepping import step

__all__ = ["update_runs"]

_KL, _NORM = METRICS.index("train/approx_kl"), METRICS.index("train/grad_norm")


@compiled
def update_runs(
    plan: Plan, state: State, data: Data, numbers: Numbers, batch_size: int, metrics: Floats64, start: int, stop: int
) -> None:
    """Update runs ``start`` to ``stop``; ``metrics [R, M]`` are means over the minibatches that counted."""
    n, scratch = data.obs.shape[1], make_scratch(plan, state.rows.params.shape[1], min(TILE, batch_size))
    for run in range(start, stop):
        n_batches, ended = 0, False
        metrics[run] = 0.0
        for epoch in range(data.orders.shape[1]):
            for first in range(0, n, batch_size):
                order = data.orders[run, epoch, first : min(first + batch_size, n)]
                _gradient(plan, state.rows.params[run], data, numbers, run, order, scratch)
                total, norm = _clip(scratch.grads, numbers.max_grad_norm[run])
                scratch.found[_NORM] = norm
                for m in range(len(METRICS)):
                    metrics[run, m] += scratch.found[m]
                ended = scratch.found[_KL] > plan.max_kl
                if not (state.frozen[run] or math.isfinite(total)):
                    state.frozen[run], state.broken_at[run] = True, n_batches
                if not (ended or state.frozen[run]):
                    step(plan.rule, state.rows, run, numbers.learning_rate[run], scratch.grads)
                n_batches += 1
                if ended:
                    break
            if ended:
                break
        metrics[run] /= max(n_batches, 1)


@compiled
def _gradient(
    plan: Plan, params: Floats, data: Data, numbers: Numbers, run: int, order: Integers, scratch: Scratch
) -> None:
    """``scratch.grads`` and ``scratch.found`` of a minibatch, tile by tile."""
    moments, width = spread(plan, data, run, order), min(TILE, len(order))
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
        loss(plan, params, data, numbers, run, samples, moments, units, back, scratch)
        backward(plan.layers, params, units, slopes, back, scratch.grads)


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
