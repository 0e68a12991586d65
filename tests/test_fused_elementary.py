"""Elementary functions of machine code against many digits."""

import math

import mpmath
import numpy as np
import pytest

pytest.importorskip("numba")
from entropic_rl.fused import elementary
from entropic_rl.fused.compilation import compiled


@compiled
def exps(x, y):
    for i in range(len(x)):
        y[i] = elementary.exp(x[i])


@compiled
def expm1s(x, y):
    for i in range(len(x)):
        y[i] = elementary.expm1(x[i])


@compiled
def log1ps(x, y):
    for i in range(len(x)):
        y[i] = elementary.log1p(x[i])


def of(function, x):
    """In a loop, where several are computed at a time."""
    y = np.empty_like(x)
    function(x, y)
    return y


def spread(low, high, n=1500):
    return 10.0 ** np.random.default_rng(0).uniform(low, high, n)


@pytest.mark.parametrize(
    ("function", "exact", "x"),
    [
        (exps, mpmath.exp, np.concatenate([-spread(-20, 2.85), spread(-20, 2.85)])),
        (expm1s, mpmath.expm1, np.concatenate([-spread(-300, 1.5), spread(-300, 2.85)])),
        (log1ps, mpmath.log1p, spread(-300, 300)),
        (log1ps, mpmath.log1p, np.random.default_rng(1).uniform(0.0, 3.0, 1500)),
    ],
)
def test_errors_are_a_few_units_in_the_last_place(function, exact, x):
    expected = [exact(mpmath.mpf(float(value))) for value in x]
    errors = [abs((mpmath.mpf(float(y)) - true) / true) for y, true in zip(of(function, x), expected, strict=True)]
    assert max(errors) < 5e-16


def test_ends_of_the_line():
    x = np.array([0.0, -800.0, 800.0, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(of(exps, x), [1.0, 0.0, np.inf, np.nan, np.inf, 0.0])
    np.testing.assert_array_equal(of(expm1s, x), [0.0, -1.0, np.inf, np.nan, np.inf, -1.0])
    np.testing.assert_array_equal(of(log1ps, np.array([0.0, 5e-324, np.nan])), [0.0, 5e-324, np.nan])
    assert math.isclose(of(log1ps, np.array([1.0]))[0], math.log(2.0), rel_tol=3e-16)
