"""Batched networks against plain torch.nn, one run at a time."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from entropic_rl.networks import ACTIVATIONS, MLP, ParameterRows, linear, tanh
from entropic_rl.streams import Stream

SIZES = (3, 8, 5, 2)
SEEDS = [10, 20, 30]


def build(seeds=SEEDS, activation="tanh", activate_last=False, dtype=torch.float64):
    mlp = MLP("net", SIZES, activation, activate_last)
    params = ParameterRows(mlp.shapes(), len(seeds), dtype=dtype)
    mlp.initialise(params, Stream(seeds, "initialisation"), gain=2**0.5, last_gain=0.01)
    return mlp, params


def inputs(batch=6):
    return torch.randn(len(SEEDS), batch, SIZES[0], generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def plain_network(params, run, activation="tanh", activate_last=False):
    """The same run as torch.nn.Linear layers."""
    module = {"tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU}
    module |= {"silu": nn.SiLU, "sigmoid": nn.Sigmoid}
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(SIZES)):
        linear = nn.Linear(n_in, n_out, dtype=torch.float64)
        linear.weight.data = params.named()[f"net.{i}.weight"][run].T.clone()
        linear.bias.data = params.named()[f"net.{i}.bias"][run, 0].clone()
        layers += [linear, module[activation]()]
    return nn.Sequential(*(layers if activate_last else layers[:-1]))


def randomise(params):
    params.values.copy_(torch.randn(params.values.shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("activate_last", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_run_computes_what_a_plain_network_computes(activation, activate_last):
    mlp, params = build(activation=activation, activate_last=activate_last)
    randomise(params)
    x = inputs()
    looped = [plain_network(params, r, activation, activate_last)(x[r]) for r in range(len(SEEDS))]
    torch.testing.assert_close(mlp(params, x), torch.stack(looped))


def test_gradients_land_in_the_rows_of_grads_as_in_plain_networks():
    mlp, params = build()
    randomise(params)
    x = inputs()
    params.backward(mlp(params, x).square().sum((1, 2)))
    for r in range(len(SEEDS)):
        plain = plain_network(params, r)
        plain(x[r]).square().sum().backward()
        flat = torch.cat([p.grad.t().reshape(-1) for p in plain.parameters()])  # rows keep weights as [in, out]
        torch.testing.assert_close(params.grads[r], flat)


def test_gradient_of_a_run_does_not_depend_on_the_other_runs():
    mlp, params = build()
    x = inputs()
    params.backward(mlp(params, x)[1].sum((0, 1)))
    assert params.grads[1].ne(0.0).any()
    assert params.grads[[0, 2]].eq(0.0).all()


def test_run_alone_equals_run_in_a_batch_bitwise():
    (mlp, together), (_, alone) = build(), build(SEEDS[1:2])
    assert torch.equal(together.values[1:2], alone.values)
    torch.testing.assert_close(mlp(together, inputs())[1:2], mlp(alone, inputs()[1:2]))


def test_backward_writes_the_same_gradients_however_often_it_is_called():
    mlp, params = build()
    held = params.grads
    params.backward(mlp(params, inputs()).sum((1, 2)))
    once = params.grads.clone()
    params.backward(mlp(params, inputs()).sum((1, 2)))
    assert params.grads is held
    torch.testing.assert_close(held, once, rtol=0.0, atol=0.0)


def test_parameters_the_loss_does_not_use_get_a_zero_gradient():
    _, params = build()
    first, *others = params.named()
    params.backward(params[first].sum((1, 2)))
    n = params[first][0].numel()
    assert params.grads[:, :n].eq(1.0).all()
    assert others
    assert params.grads[:, n:].eq(0.0).all()


def test_writing_to_a_row_changes_what_the_network_computes():
    mlp, params = build()
    before = mlp(params, inputs())
    params.values[1] += 1.0
    changed = (mlp(params, inputs()) != before).flatten(1).any(1)
    assert changed.tolist() == [False, True, False]


def test_initial_weights_are_orthogonal_with_their_gain_and_biases_zero():
    _, params = build()
    for i, gain in enumerate((2**0.5, 2**0.5, 0.01)):
        weight = params.named()[f"net.{i}.weight"]
        n_in, n_out = weight.shape[1:]
        gram = weight.mT @ weight if n_in >= n_out else weight @ weight.mT
        identity = gain**2 * torch.eye(min(n_in, n_out), dtype=torch.float64).expand_as(gram)
        torch.testing.assert_close(gram, identity, rtol=1e-12, atol=1e-12)
        assert params.named()[f"net.{i}.bias"].eq(0.0).all()


def test_initial_weights_have_no_preferred_sign():
    mlp = MLP("net", (4, 4))
    params = ParameterRows(mlp.shapes(), 2000)
    mlp.initialise(params, Stream(range(2000), "initialisation"), gain=1.0, last_gain=1.0)
    weight = params.named()["net.0.weight"]
    # Entries of a uniform orthogonal 4 x 4 matrix have mean 0 and variance 1/4; so does their determinant's sign.
    assert weight.mean(0).abs().max() < 5 * 0.5 / 2000**0.5
    torch.testing.assert_close(weight.square().mean(0), torch.full((4, 4), 0.25), rtol=0.0, atol=0.03)
    assert torch.linalg.det(weight).sign().mean().abs() < 5 / 2000**0.5


def test_layers_and_runs_start_differently():
    _, params = build()
    assert len({tuple(row) for row in params.values.tolist()}) == len(SEEDS)


def test_names_and_shapes_of_the_parameters():
    mlp, params = build()
    assert mlp.shapes()["net.0.weight"] == (3, 8)
    assert {name: tuple(t.shape) for name, t in params.named().items()} == {
        "net.0.weight": (3, 3, 8),
        "net.0.bias": (3, 1, 8),
        "net.1.weight": (3, 8, 5),
        "net.1.bias": (3, 1, 5),
        "net.2.weight": (3, 5, 2),
        "net.2.bias": (3, 1, 2),
    }


def test_network_without_layers_is_the_identity():
    mlp = MLP("trunk", (3,))
    assert mlp.shapes() == {}
    assert torch.equal(mlp(ParameterRows({}, 3), inputs()), inputs())


def test_parameters_load_by_name():
    (_, params), (_, other) = build(), build([1, 2, 3])
    params.load({name: tensor.clone() for name, tensor in other.named().items()})
    assert torch.equal(params.values, other.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("net.0.bias"), r"net.0.bias should have shape \(3, 1, 8\), got none \(1 differ\)"),
        (lambda t: t.update(extra=torch.zeros(2)), r"extra should have shape none, got \(2,\)"),
        (lambda t: t.update({"net.0.bias": torch.zeros(1, 1, 8)}), r"should have shape \(3, 1, 8\), got \(1, 1, 8\)"),
    ],
)
def test_parameters_of_another_network_are_refused_and_nothing_is_changed(change, message):
    _, params = build()
    before = params.values.clone()
    tensors = {name: tensor + 1.0 for name, tensor in params.named().items()}
    change(tensors)
    with pytest.raises(ValueError, match=message):
        params.load(tensors)
    assert torch.equal(params.values, before)


# The hyperbolic tangent


@pytest.fixture
def large(monkeypatch):
    """Every tensor is long enough for the toolkit's own tanh."""
    monkeypatch.setattr("entropic_rl.networks._LARGE", 0)


def test_small_tensors_get_the_tanh_of_torch():
    x = torch.linspace(-3.0, 3.0, 101)
    assert torch.equal(tanh(x), torch.tanh(x))


@pytest.mark.usefixtures("large")
def test_tanh_is_within_two_units_in_the_last_place_of_one():
    x = torch.cat(
        [torch.linspace(-30.0, 30.0, 1_000_001), torch.logspace(-38, 1, 10_001), -torch.logspace(-38, 1, 10_001)]
    )
    error = (tanh(x).double() - x.double().tanh()).abs()
    assert error.max() <= 2e-7
    assert tanh(x).abs().max() <= 1.0


@pytest.mark.usefixtures("large")
def test_tanh_in_float64_is_that_of_torch():
    x = torch.linspace(-30.0, 30.0, 100_001, dtype=torch.float64)
    torch.testing.assert_close(tanh(x), x.tanh(), rtol=0.0, atol=4e-16)


@pytest.mark.usefixtures("large")
def test_tanh_rises_is_odd_and_ends_at_one():
    x = torch.linspace(-4.0, 4.0, 100_001, dtype=torch.float64)
    assert (tanh(x).diff() >= 0).all()
    torch.testing.assert_close(tanh(-x), -tanh(x), rtol=0.0, atol=4e-16)
    ends = torch.tensor([0.0, -math.inf, math.inf, 1e4, -1e4, 3e38])
    assert tanh(ends).tolist() == [0.0, -1.0, 1.0, 1.0, -1.0, 1.0]


@pytest.mark.usefixtures("large")
def test_tanh_of_nan_is_nan_alone():
    assert tanh(torch.tensor([math.nan, 0.0])).isnan().tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_of_tanh_is_finite_and_right_everywhere(dtype):
    x = torch.tensor([-math.inf, -1e4, -3.0, 0.0, 0.5, 20.0, 1e4, math.inf], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(tanh(x).sum(), x)
    assert gradient.dtype == dtype
    assert gradient.tolist() == pytest.approx((1.0 - x.detach().double().tanh() ** 2).tolist(), abs=3e-7)


def test_derivatives_of_tanh_of_both_orders_are_those_of_finite_differences():
    x = torch.linspace(-3.0, 3.0, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh, x)
    assert torch.autograd.gradgradcheck(tanh, x)


def test_gradient_of_tanh_is_the_same_whether_or_not_it_can_be_differentiated_again():
    x = torch.linspace(-3.0, 3.0, 101, requires_grad=True)
    (once,) = torch.autograd.grad(tanh(x).sum(), x)
    (again,) = torch.autograd.grad(tanh(x).sum(), x, create_graph=True)
    torch.testing.assert_close(once, again.detach(), rtol=0.0, atol=1e-7)
    assert again.requires_grad
    assert not once.requires_grad


@pytest.mark.usefixtures("large")
def test_tanh_leaves_its_argument_alone():
    x = torch.linspace(-3.0, 3.0, 7)
    before = x.clone()
    with torch.no_grad():
        y = tanh(x)
    assert torch.equal(x, before)
    assert not y.requires_grad
    assert torch.equal(y, tanh(x.clone().requires_grad_()).detach())


@pytest.mark.usefixtures("large")
def test_tanh_maps_over_batches():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.func.vmap(tanh)(x), tanh(x))
    gradient = torch.func.vmap(torch.func.grad(lambda row: tanh(row).sum()))(x)
    torch.testing.assert_close(gradient, 1.0 - x.tanh() ** 2)


def head_inputs(batch, n_out):
    """Two runs of 256 inputs, layers wide enough to take the other path from 256 samples on."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, batch, 256), (2, 256, n_out), (2, 1, n_out))
    return [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]


@pytest.mark.parametrize("n_out", [1, 2, 6, 8, 9])
def test_product_of_a_large_input_with_few_columns_is_that_of_the_definition(n_out):
    x, weight, bias = tensors = head_inputs(256, n_out)
    given, wanted = linear(x, weight, bias), torch.einsum("rbi,rio->rbo", x, weight) + bias
    torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-12)
    upstream = torch.randn(given.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = [torch.autograd.grad(y, tensors, upstream, create_graph=True) for y in (given, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    second = [torch.autograd.grad(sum(g.square().sum() for g in first), (x, weight)) for first in gradients]
    torch.testing.assert_close(*second, rtol=1e-9, atol=1e-9)


def test_product_with_few_columns_hardly_depends_on_the_size_of_the_batch():
    x, weight, bias = head_inputs(256, 4)
    torch.testing.assert_close(linear(x, weight, bias)[:, :3], linear(x[:, :3], weight, bias), rtol=1e-13, atol=1e-12)


def in_bfloat16(params):
    params.inner_dtype = torch.bfloat16
    return params


def test_products_between_hidden_layers_are_rounded_and_all_others_are_not():
    mlp, params = build(dtype=torch.float32)
    x = inputs().float()
    hidden = torch.tanh(linear(x, params["net.0.weight"], params["net.0.bias"]))
    rounded = [part.bfloat16() for part in (hidden, params["net.1.weight"], params["net.1.bias"])]
    expected = linear(
        torch.tanh(torch.baddbmm(rounded[2], *rounded[:2])).float(), params["net.2.weight"], params["net.2.bias"]
    )
    exact, found = mlp(params, x), mlp(in_bfloat16(params), x)
    assert torch.equal(found, expected)
    assert found.dtype is torch.float32
    assert 0.0 < float(((found - exact).abs().max() / exact.abs().max()).detach()) < 2.0**-6


def test_a_network_with_one_hidden_layer_has_no_such_product():
    mlp = MLP("net", (3, 8, 2))
    params = ParameterRows(mlp.shapes(), len(SEEDS))
    mlp.initialise(params, Stream(SEEDS, "initialisation"), gain=2**0.5, last_gain=0.01)
    x = inputs().float()
    assert torch.equal(mlp(params, x), mlp(in_bfloat16(params), x))


def test_gradients_of_rounded_products_are_those_of_exact_ones_but_for_the_rounding():
    mlp, params = build(dtype=torch.float32)
    exact = params.gradient(mlp(params, inputs().float()).square().sum((1, 2)))
    found = params.gradient(mlp(in_bfloat16(params), inputs().float()).square().sum((1, 2)))
    assert found.dtype is torch.float32
    assert float((found - exact).norm() / exact.norm()) < 0.02


def test_copies_of_rows_are_rounded_as_they_are():
    mlp, params = build(dtype=torch.float32)
    twin = in_bfloat16(params).take(torch.tensor([2, 0]), torch.float32)
    x = inputs().float()
    assert torch.equal(mlp(twin, x[[2, 0]]), mlp(params, x)[[2, 0]])
