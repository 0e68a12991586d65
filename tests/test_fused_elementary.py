"""Elementary functions and products of machine code against many digits."""

import math

import mpmath
import numpy as np
import pytest
import torch

pytest.importorskip("numba")
from entropic_rl import streams
from entropic_rl.fused import compilation, elementary
from entropic_rl.fused.blocks import turn_over
from entropic_rl.fused.compilation import compiled
from entropic_rl.fused.products import product, product_with_turned
from entropic_rl.fused.random import draw_words, order_words
from entropic_rl.streams import Stream


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


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [(64, 64, 128), (7, 5, 19), (1, 3, 16), (13, 100, 33), (2, 1, 1), (3, 0, 20)])
def test_products_of_any_size_are_right(size, turned, transposed, add):
    rng, (m, k, n) = np.random.default_rng(0), size
    a = rng.standard_normal((k, m) if transposed else (m, k)).astype(np.float32)
    b = rng.standard_normal((n, k) if turned else (k, n)).astype(np.float32)
    a = a.T if transposed else a
    around = rng.standard_normal((m + 2, n)).astype(np.float32)  # what lies before and after is not touched
    before = around.copy()
    (product_with_turned if turned else product)(around[1:-1], a, b, add)
    expected = a.astype(np.float64) @ (b.T if turned else b) + (before[1:-1] if add else 0.0)
    np.testing.assert_allclose(around[1:-1], expected, rtol=0.0, atol=3e-6 * max(k, 1))
    np.testing.assert_array_equal(around[[0, -1]], before[[0, -1]])


@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 18])
@pytest.mark.parametrize("n", [1, 3, 8, 13, 16])
def test_turning_over_reads_and_writes_no_more_than_there_is(n, k):
    numbers = np.random.default_rng(0).standard_normal(n * k + 2).astype(np.float32)
    a, around = numbers[1:-1].reshape(n, k), np.full((k + 2, n + 3), np.nan, np.float32)
    turn_over(around[1:-1], a)
    np.testing.assert_array_equal(around[1:-1, :n], a.T)
    assert np.isnan(around[[0, -1]]).all()
    assert np.isnan(around[:, n:]).all()


def test_a_number_that_is_not_one_stays_in_its_row_and_column():
    a, b, c = (np.ones((8, 8), np.float32), np.ones((8, 32), np.float32), np.empty((8, 32), np.float32))
    a[3, 2] = np.nan
    product(c, a, b, False)
    assert np.isnan(c).any(1).tolist() == [row == 3 for row in range(8)]


@pytest.mark.parametrize("position", [0, 5, 2**32 - 1, 2**40])
def test_words_of_streams_are_the_same_bits(position):
    plain, fused = Stream([0, 7, 2**64 - 1], "action"), Stream([0, 7, 2**64 - 1], "action")
    fused.generate = draw_words
    plain.position = fused.position = position
    assert torch.equal(plain.gumbel(3, 5, 2), fused.gumbel(3, 5, 2))
    assert torch.equal(plain.ahead(4, 7), fused.ahead(4, 7))
    plain.position = fused.position = torch.tensor([1, 2, position])
    assert torch.equal(plain.permutation(9), fused.permutation(9))
    assert plain.ahead(2, 0).shape == fused.ahead(2, 0).shape


def test_orders_of_words_are_the_same_and_equal_words_stay_in_order():
    words = torch.tensor([[[7, 2**32 - 1, 0, 7, 2**32 - 1, 7, 0]], [[3, 3, 2, 2, 1, 1, 0]]])
    assert torch.equal(order_words(words), streams.order_words(words))
    assert order_words(words)[0, 0].tolist() == [2, 6, 0, 3, 5, 1, 4]


def test_the_same_sources_in_another_place_have_machine_code_of_their_own(tmp_path):
    one, other = (compilation.cache_directory(tmp_path / name) for name in ("one", "other"))
    assert one.parent == other.parent
    assert one != other


def test_machine_code_is_made_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path / prefix))
    assert compilation._home.__wrapped__() == tmp_path / "entropic_rl-"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
    assert compilation._home.__wrapped__() == tmp_path / "new" / "entropic_rl"
