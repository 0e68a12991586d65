"""Policies as machine code: those that act take few samples at a time, so that loops run along units instead."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from entropic_rl.families import MAX_LOG_STD, MIN_LOG_STD
from entropic_rl.fused.blocks import WIDTH
from entropic_rl.fused.compilation import Booleans, Floats, Integers, compiled, put
from entropic_rl.fused.layers import activate, forward
from entropic_rl.fused.plan import TILE
from entropic_rl.fused.products import product

__all__ = ["Actor", "act", "act_runs", "outputs_of_runs"]


class Actor(NamedTuple):
    """What acts.

    Attributes:
        layers: ``[L, 8]``, rows of :class:`entropic_rl.fused.layers.Layer`: trunk and actor alone.
        n_units: inputs and outputs of all layers.
        outputs: the first of the actor's outputs among them.
        n_outputs: their number.
        nvec: ``[C]`` choices per component, empty for a Gaussian head.
        log_std: where the log standard deviations begin among the parameters.
    """

    layers: Integers
    n_units: int
    outputs: int
    n_outputs: int
    nvec: Integers
    log_std: int


@compiled
def act_runs(
    actor: Actor,
    params: Floats,
    obs: Floats,
    noise: Floats,
    allowed: Booleans,
    choices: Integers,
    numbers: Floats,
    start: int,
    stop: int,
) -> None:
    """Actions of runs ``start`` to ``stop``.

    Args:
        actor: what acts.
        params: ``[R, P]``.
        obs: ``[R, E, D]``.
        noise: ``[R, E, n_outputs]``, of the head's kind.
        allowed: ``[R, E, A]``; without entries if everything is.
        choices: ``[R, E, C]``, filled if choices are made.
        numbers: ``[R, E, D]``, filled by a Gaussian head.
    """
    units = np.empty((obs.shape[1], actor.n_units), np.float32)
    for run in range(start, stop):
        for b in range(len(units)):
            put(units[b], obs[run, b])
        act(actor, params[run], units, noise[run], allowed[run], choices[run], numbers[run])


@compiled
def outputs_of_runs(actor: Actor, params: Floats, obs: Floats, outputs: Floats, start: int, stop: int) -> None:
    """What the actors of runs ``start`` to ``stop`` make of many observations, tile by tile.

    Args:
        actor: whose layers they are.
        params: ``[R, P]``.
        obs: ``[R, B, D]``.
        outputs: ``[R, B, n_outputs]``, filled.
    """
    room, slopes = np.empty(actor.n_units * TILE, np.float32), np.empty(actor.n_units * TILE, np.float32)
    for run in range(start, stop):
        for first in range(0, obs.shape[1], TILE):
            n = min(TILE, obs.shape[1] - first)
            shape, size = (actor.n_units, n), actor.n_units * n
            units = room[:size].reshape(shape)
            for d in range(obs.shape[2]):
                for b in range(n):
                    units[d, b] = obs[run, first + b, d]
            forward(actor.layers, params[run], units, slopes[:size].reshape(shape))
            for a in range(actor.n_outputs):
                for b in range(n):
                    outputs[run, first + b, a] = units[actor.outputs + a, b]


@compiled
def act(
    actor: Actor,
    params: Floats,
    units: Floats,
    noise: Floats,
    allowed: Booleans,
    choices: Integers,
    numbers: Floats,
) -> None:
    """Actions of one run on the observations in the first columns of ``units [E, U]``, whose others are filled."""
    _forward(actor.layers, params, units)
    for b in range(len(units)):
        outputs = units[b, actor.outputs : actor.outputs + actor.n_outputs]
        if len(actor.nvec) == 0:
            for d in range(actor.n_outputs):
                log_std = min(max(float(params[actor.log_std + d]), MIN_LOG_STD), MAX_LOG_STD)
                numbers[b, d] = outputs[d] + np.float32(math.exp(log_std)) * noise[b, d]
            continue
        start = 0
        for c in range(len(actor.nvec)):
            choices[b, c] = _largest(outputs, noise[b], allowed[b : b + 1], start, start + actor.nvec[c])
            start += actor.nvec[c]


@compiled
def _largest(logits: Floats, noise: Floats, allowed: Booleans, start: int, stop: int) -> int:
    """Which of the logits from ``start`` to ``stop`` is largest, with its noise, of those that are allowed."""
    best, top = start, np.float32(-np.inf)
    for a in range(start, stop):
        if len(allowed) == 0 or allowed[0, a]:
            value = logits[a] + noise[a]
            if value > top or (np.isnan(value) and not np.isnan(top)):  # what is not a number is largest
                best, top = a, value
    return best - start


@compiled
def _forward(layers: Integers, params: Floats, units: Floats) -> None:
    """Fill ``units [B, U]`` from observations in its first columns."""
    slope = np.empty(units.shape[1], np.float32)
    for i in range(len(layers)):
        weight, bias, source, n_in, target, n_out, activation, _ = layers[i]
        w = params[weight : weight + n_in * n_out].reshape(n_in, n_out)
        shift = params[bias : bias + n_out]
        x, y = units[:, source : source + n_in], units[:, target : target + n_out]
        for b in range(len(units)):
            for j in range(n_out):
                y[b, j] = shift[j]
        if n_out >= WIDTH:
            product(y, x, w, True)
        else:
            for b in range(len(units)):
                for k in range(n_in):
                    for j in range(n_out):
                        y[b, j] += x[b, k] * w[k, j]
        for b in range(len(units)):
            activate(activation, units[b, target : target + n_out], slope[:n_out])
