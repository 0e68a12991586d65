"""Dense layers on columns: ``[units, B]``, a minibatch side by side in memory, so that every loop runs along it.

A network is a table of layers, ``[L, 8]``: see :class:`Layer`. Everything is compiled by Numba, releases the GIL, and
works on the numbers of one run.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from entropic_rl.fused.compilation import Floats, Integers, compiled
from entropic_rl.fused.products import product, product_with_turned

__all__ = ["ACTIVATIONS", "Layer", "activate", "backward", "backward_to_inputs", "forward"]


ACTIVATIONS = ("none", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid")
_TANH, _RELU, _LEAKY_RELU, _ELU, _GELU, _SILU, _SIGMOID = range(1, 8)
_WIDE = 16  # units from which a product in blocks is faster than a loop
_LEAK = np.float32(0.01)  # of torch's leaky_relu
_ONE, _EDGE = np.float32(1.0), np.float32(8.0)
_P1, _P2 = np.float32(0.13444547487595285), np.float32(0.0035716563934193126)
_P3, _P4 = np.float32(2.1895605784129368e-05), np.float32(1.5231695771241447e-08)
_Q1, _Q2 = np.float32(0.4677787483382875), np.float32(0.026164666108585543)
_Q3, _Q4 = np.float32(0.00034113867426089375), np.float32(8.522975936237542e-07)
_ROOT_HALF, _ROOT_TAU = math.sqrt(0.5), math.sqrt(2.0 * math.pi)


class Layer(NamedTuple):
    """A row of the table: ``activation(W^T x + b)``.

    Attributes:
        weight: where ``W [n_in, n_out]`` begins among the parameters of a run.
        bias: where ``b [n_out]`` begins.
        source: the first of the rows in which x lies, among those of all units.
        n_in: their number.
        target: the first of the rows where the result goes.
        n_out: their number.
        activation: index into ``ACTIVATIONS``.
        shares: whether another layer has the same source, and comes earlier on the way back; -1 if x is the input.
    """

    weight: int
    bias: int
    source: int
    n_in: int
    target: int
    n_out: int
    activation: int
    shares: int


@compiled
def forward(layers: Integers, params: Floats, units: Floats, slopes: Floats) -> None:
    """Fill ``units [U, B]`` from observations in its first rows, ``slopes [U, B]`` with activations' derivatives."""
    for i in range(len(layers)):
        weight, bias, source, n_in, target, n_out, activation, _ = layers[i]
        w = params[weight : weight + n_in * n_out].reshape(n_in, n_out)
        x, y = units[source : source + n_in], units[target : target + n_out]
        for j in range(n_out):
            shift = params[bias + j]
            for b in range(y.shape[1]):
                y[j, b] = shift
        if n_out >= _WIDE:
            product(y, w.T, x, True)
        else:
            for j in range(n_out):
                for k in range(n_in):
                    scale = w[k, j]
                    for b in range(y.shape[1]):
                        y[j, b] += scale * x[k, b]
        activate(activation, y.reshape(-1), slopes[target : target + n_out].reshape(-1))


@compiled
def backward(layers: Integers, params: Floats, units: Floats, slopes: Floats, back: Floats, grads: Floats) -> None:
    """Add gradients of all parameters to ``grads [P]``, given those of the loss by the outputs, in ``back [U, B]``."""
    for i in range(len(layers) - 1, -1, -1):
        weight, bias, source, n_in, target, n_out, activation, shares = layers[i]
        w = params[weight : weight + n_in * n_out].reshape(n_in, n_out)
        dw = grads[weight : weight + n_in * n_out].reshape(n_in, n_out)
        x, dy = units[source : source + n_in], back[target : target + n_out]
        n = x.shape[1]
        if activation:
            _through_activation(slopes[target : target + n_out], dy)
        for j in range(n_out):
            total = np.float32(0.0)
            for b in range(n):
                total += dy[j, b]
            grads[bias + j] += total
        if _is_wide(n_in, n_out):
            product_with_turned(dw, x, dy, True)
        else:
            for k in range(n_in):
                for j in range(n_out):
                    total = np.float32(0.0)
                    for b in range(n):
                        total += x[k, b] * dy[j, b]
                    dw[k, j] += total
        if shares >= 0:
            _to_inputs(w, dy, back[source : source + n_in], shares > 0)


@compiled
def backward_to_inputs(layers: Integers, params: Floats, slopes: Floats, back: Floats, first: int) -> None:
    """Set the gradients by inputs from the ``first`` on, in the first rows of ``back [U, B]``, and those on the way.

    Of layers in a row, none of which shares its source.
    """
    for i in range(len(layers) - 1, -1, -1):
        weight, _, source, n_in, target, n_out, activation, _ = layers[i]
        w, dy = params[weight : weight + n_in * n_out].reshape(n_in, n_out), back[target : target + n_out]
        if activation:
            _through_activation(slopes[target : target + n_out], dy)
        start = first if i == 0 else 0
        _to_inputs(w[start:], dy, back[source + start : source + n_in], False)


@compiled
def _is_wide(n_in: int, n_out: int) -> bool:
    return n_in >= _WIDE and n_out >= _WIDE


@compiled
def _through_activation(slope: Floats, dy: Floats) -> None:
    for j in range(len(dy)):
        for b in range(dy.shape[1]):
            dy[j, b] *= slope[j, b]


@compiled
def _to_inputs(w: Floats, dy: Floats, dx: Floats, add: bool) -> None:
    """``dx [n_in, B] = W dy``, or add it."""
    n_in, n = dx.shape
    if _is_wide(n_in, len(dy)):
        product(dx, w, dy, add)
    else:
        for k in range(n_in):
            if not add:
                dx[k] = np.float32(0.0)
            for j in range(len(dy)):
                scale = w[k, j]
                for b in range(n):
                    dx[k, b] += scale * dy[j, b]


@compiled
def activate(kind: int, y: Floats, slope: Floats) -> None:  # noqa: PLR0912 - one branch per activation
    """An activation in place, and its derivative."""
    one, half = _ONE, np.float32(0.5)
    if kind == _TANH:
        for i in range(len(y)):
            value = _tanh(y[i])
            y[i], slope[i] = value, one - value * value
    elif kind in (_RELU, _LEAKY_RELU):
        leak = _LEAK if kind == _LEAKY_RELU else np.float32(0.0)
        for i in range(len(y)):
            factor = leak if y[i] <= 0 else one  # what is not a number stays so
            y[i] *= factor
            slope[i] = factor
    elif kind == _ELU:
        for i in range(len(y)):
            x = y[i]
            if x <= 0:
                y[i] = math.expm1(x)
            slope[i] = one if x > 0 else y[i] + one
    elif kind == _GELU:
        for i in range(len(y)):
            x = y[i]
            below = half * np.float32(1.0 + math.erf(x * _ROOT_HALF))
            y[i] = x * below
            slope[i] = below + x * np.float32(math.exp(-half * x * x) / _ROOT_TAU)
    elif kind == _SILU:
        for i in range(len(y)):
            x = y[i]
            open_ = half + half * _tanh(half * x)
            y[i] = x * open_
            slope[i] = open_ * (one + x * (one - open_))
    elif kind == _SIGMOID:
        for i in range(len(y)):
            value = half + half * _tanh(half * y[i])
            y[i], slope[i] = value, value * (one - value)


@compiled
def _tanh(x: np.float32) -> np.float32:
    """In float32 with an error below 4e-7 of it, several at a time in a loop: ``x P(x^2) / Q(x^2)``.

    Fitted over [-8, 8] by least squares with weights that even out the relative error.
    """
    x = _EDGE if x > _EDGE else x
    x = -_EDGE if x < -_EDGE else x
    s = x * x
    p = (((_P4 * s + _P3) * s + _P2) * s + _P1) * s + _ONE
    q = (((_Q4 * s + _Q3) * s + _Q2) * s + _Q1) * s + _ONE
    return x * p / q
