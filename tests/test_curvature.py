"""Curvature: products beside dense Hessians and differences of gradients, spectra beside LAPACK."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from entropic_rl.diagnostics.curvature import Combined, curvature
from entropic_rl.diagnostics.hessians import EntropyHessian, LossHessian, dense
from entropic_rl.diagnostics.spectrum import extreme_eigenvalues, probe_traces
from entropic_rl.entropy import categorical_entropy, categorical_entropy_gradient, categorical_entropy_hvp
from entropic_rl.errors import ConfigError

TARGET = torch.arange(12) % 4


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classifier(activation=nn.Tanh, width=6, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, width), activation(), nn.Linear(width, 4)).to(dtype)


def cross_entropy(y):
    return F.cross_entropy(y, TARGET)


def entropy(y):
    return categorical_entropy(y).mean()


def dense_by_jacobian(module, loss, x):
    """The whole Hessian by torch.func, for an oracle."""
    names = [name for name, _ in module.named_parameters()]
    start = torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def of(flat):
        parts = flat.split([p.numel() for p in module.parameters()])
        shaped = {n: part.view_as(p) for n, part, p in zip(names, parts, module.parameters(), strict=True)}
        return loss(torch.func.functional_call(module, shaped, (x,)))

    return torch.autograd.functional.hessian(of, start)


class Matrix:
    def __init__(self, m):
        self.m, self.n = m, len(m)

    def __call__(self, v):
        return self.m @ v


def symmetric(n, rank=None, seed=0):
    g = rows(n, rank or n, seed=seed)
    return g @ torch.diag(rows(rank or n, seed=seed + 1)) @ g.T / n


# At the logits


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_closed_form_of_the_entropy_at_logits_is_the_hessian_that_autograd_finds(scale):
    z, v = scale * rows(5, 7), rows(5, 7, seed=1)
    expected = [torch.autograd.functional.hessian(categorical_entropy, row) @ u for row, u in zip(z, v, strict=True)]
    torch.testing.assert_close(categorical_entropy_hvp(z, v), torch.stack(expected), rtol=1e-9, atol=1e-13)


def test_closed_form_gradient_is_that_of_the_entropy():
    z = rows(5, 7).requires_grad_()
    (expected,) = torch.autograd.grad(categorical_entropy(z).sum(), z)
    torch.testing.assert_close(categorical_entropy_gradient(z.detach()), expected)


def test_impossible_actions_have_no_curvature_and_change_none():
    z, v = rows(4, 3), rows(4, 3, seed=1)
    wide = torch.cat([z, torch.full((4, 1), -math.inf, dtype=z.dtype)], 1)
    found = categorical_entropy_hvp(wide, torch.cat([v, torch.ones(4, 1, dtype=z.dtype)], 1))
    torch.testing.assert_close(found[:, :3], categorical_entropy_hvp(z, v))
    assert not found[:, 3].any()


def test_uniform_logits_have_the_negative_of_fishers_information():
    n = 5
    p = torch.full((n,), 1 / n, dtype=torch.float64)
    found = torch.stack(
        [categorical_entropy_hvp(torch.zeros(n, dtype=torch.float64), e) for e in torch.eye(n).double()]
    )
    torch.testing.assert_close(found, -(p.diag() - p.outer(p)))


# Through a module


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_products_are_those_of_the_dense_hessian(activation):
    module, x = classifier(activation), rows(12, 3)
    expected = dense_by_jacobian(module, cross_entropy, x)
    torch.testing.assert_close(dense(LossHessian(module, cross_entropy, x)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_closed_form_of_the_entropy_is_the_dense_hessian_in_two_parts(activation):
    module, x = classifier(activation), rows(12, 3)
    product = EntropyHessian(module, x)
    expected = dense_by_jacobian(module, entropy, x)
    torch.testing.assert_close(dense(product), expected, rtol=1e-9, atol=1e-12)
    assert product.value == pytest.approx(float(entropy(module(x)).detach()))


def test_a_linear_model_has_no_residual_part():
    product = EntropyHessian(nn.Linear(3, 4).double(), rows(12, 3))
    v = rows(16)
    assert not product.residual(v).any()
    assert product.gauss_newton(v).norm() > 0.01


def test_products_are_differences_of_the_gradient():
    module, x, step = classifier(), rows(12, 3), 1e-5
    v = rows(LossHessian(module, cross_entropy, x).n, seed=2)
    for build in (lambda m: LossHessian(m, cross_entropy, x), lambda m: EntropyHessian(m, x)):
        gradients = []
        for sign in (1, -1):
            moved = copy.deepcopy(module)
            with torch.no_grad():
                parts = v.split([p.numel() for p in moved.parameters()])
                for p, part in zip(moved.parameters(), parts, strict=True):
                    p.add_(sign * step * part.view_as(p))
            gradients.append(build(moved).gradient)
        difference = (gradients[0] - gradients[1]) / (2 * step)
        assert float((build(module)(v) - difference).norm() / difference.norm()) < 1e-6


def test_batch_norm_and_recurrent_modules_have_products():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.GRU(3, 5, batch_first=True), nn.Linear(5, 4)

        def forward(self, x):
            return self.head(self.body(x)[0][:, -1])

    normed = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)).double()
    for module, x in ((normed, rows(12, 3)), (Last(), rows(12, 4, 3))):
        both = LossHessian(module, entropy, x), EntropyHessian(module, x)
        v = rows(both[0].n)
        torch.testing.assert_close(both[0](v), both[1](v), rtol=1e-8, atol=1e-12)


def test_hessian_is_linear_in_the_coefficient():
    module, x = classifier(), rows(12, 3)
    task, term = LossHessian(module, cross_entropy, x), EntropyHessian(module, x)
    whole = LossHessian(module, lambda y: cross_entropy(y) - 0.3 * entropy(y), x)
    v = rows(task.n)
    torch.testing.assert_close(Combined(task, term, 0.3)(v), whole(v), rtol=1e-10, atol=1e-14)


# Spectra


@pytest.mark.parametrize("n", [20, 150])
def test_extreme_eigenvalues_are_lapacks(n):
    m = symmetric(n)
    expected = torch.linalg.eigvalsh(m)
    top, bottom = extreme_eigenvalues(Matrix(m), 3), extreme_eigenvalues(Matrix(m), 2, largest=False)
    assert [e.value for e in top] == pytest.approx(expected.flip(0)[:3].tolist(), rel=1e-5)
    assert [e.value for e in bottom] == pytest.approx(expected[:2].tolist(), rel=1e-5)
    for e in (*top, *bottom):
        assert float((expected - e.value).abs().min()) <= e.residual + 1e-12


def test_trace_of_a_low_rank_matrix_is_exact():
    m = symmetric(200, rank=3)
    value, error = probe_traces([Matrix(m)], 12).trace([1.0])
    assert value == pytest.approx(float(m.diagonal().sum()), rel=1e-9)
    assert error < 1e-9


def test_trace_of_a_small_matrix_is_exact():
    m = symmetric(30)
    assert probe_traces([Matrix(m)]).trace([2.0]) == (pytest.approx(2 * float(m.diagonal().sum())), 0.0)


def test_trace_estimates_are_unbiased_and_err_as_they_say():
    m = symmetric(120, rank=None)
    truth = float(m.diagonal().sum())
    found = [probe_traces([Matrix(m)], 24, seed=seed).trace([1.0]) for seed in range(100)]
    values, errors = np.array(found).T
    assert abs(values.mean() - truth) < 4 * values.std() / 10
    assert 0.8 < np.sqrt((errors**2).mean()) / values.std() < 1.25


def test_traces_combine_as_their_matrices_do():
    a, b = symmetric(100), symmetric(100, seed=5)
    probes = probe_traces([Matrix(a), Matrix(b)], 12)
    both, first, second = (probes.trace(w)[0] for w in ((1.0, -0.3), (1.0, 0.0), (0.0, 1.0)))
    assert both == pytest.approx(first - 0.3 * second, rel=1e-12)


# By coefficient


def test_report_agrees_with_dense_hessians_at_every_coefficient():
    module, x = classifier(width=12), rows(12, 3)
    found = curvature(module, cross_entropy, x, ent_coefs=(0.0, 0.3, 1.0), n_probes=60)
    for at in found.by_coefficient:
        matrix = dense_by_jacobian(module, lambda y, c=at.ent_coef: cross_entropy(y) - c * entropy(y), x)
        values = torch.linalg.eigvalsh(matrix)
        assert at.largest[0].value == pytest.approx(float(values[-1]), rel=1e-5)
        assert at.smallest.value == pytest.approx(float(values[0]), rel=1e-4)
        assert abs(at.trace - float(values.sum())) < 4 * at.trace_error + 1e-9
    assert "ent_coef" in str(found)
    assert "Gauss-Newton" in str(found)


def test_largest_eigenvalue_is_convex_and_the_trace_linear_in_the_coefficient():
    found = curvature(classifier(width=12), cross_entropy, rows(12, 3), ent_coefs=(0.0, 0.5, 1.0)).by_coefficient
    top, trace = ([getattr(at, name) for at in found] for name in ("largest", "trace"))
    assert top[1][0].value <= 0.5 * (top[0][0].value + top[2][0].value) + 1e-9
    assert trace[1] == pytest.approx(0.5 * (trace[0] + trace[2]), rel=1e-9)


def test_nothing_is_left_changed():
    module = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4))
    x = rows(12, 3).float()
    module(x).sum().backward()
    kept = copy.deepcopy(module.state_dict()), [p.grad.clone() for p in module.parameters()]
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    curvature(module, cross_entropy, x, ent_coefs=(0.1,))
    assert all(torch.equal(a, b) for a, b in zip(kept[0].values(), module.state_dict().values(), strict=True))
    assert all(torch.equal(a, p.grad) for a, p in zip(kept[1], module.parameters(), strict=True))
    assert torch.equal(generators[0], torch.get_rng_state())
    assert (generators[1] == np.random.get_state()[1]).all()
    assert generators[2] == random.getstate()


def test_two_calls_say_the_same():
    first, second = (str(curvature(classifier(width=16), cross_entropy, rows(12, 3))) for _ in range(2))
    assert first == second


# What is refused


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1 - x.tanh() ** 2)


class Smooth(nn.Module):
    def forward(self, x):
        return Once.apply(x)


class InPlace(nn.Module):
    def forward(self, x):
        return x.exp().add_(1.0).mul_(x.exp()).sigmoid_().mul_(2.0)


def unused():
    module = classifier()
    module.register_parameter("spare", nn.Parameter(torch.zeros(2, dtype=torch.float64)))
    return module


@pytest.mark.parametrize(
    ("module", "loss", "options", "text"),
    [
        (nn.Tanh(), cross_entropy, {}, "expected parameters"),
        (classifier(), lambda y: F.cross_entropy(y, TARGET, reduction="none"), {}, "one real number"),
        (unused(), cross_entropy, {}, "'spare'"),
        (classifier(dtype=torch.float16), cross_entropy, {}, "float16"),
        (nn.Sequential(nn.Linear(3, 4), Smooth()).double(), cross_entropy, {}, "once_differentiable"),
        (nn.Sequential(nn.Linear(3, 4), InPlace()).double(), cross_entropy, {}, "in place"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout()).double(), cross_entropy, {}, "dropout"),
        (abs, cross_entropy, {}, "torch.nn.Module"),
        (classifier(), cross_entropy, {"ent_coefs": ()}, "ent_coefs"),
        (classifier(), cross_entropy, {"ent_coefs": (math.nan,)}, "finite"),
        (classifier(), cross_entropy, {"n_probes": 2}, "at least 6"),
        (classifier(), cross_entropy, {"n_eigenvalues": 0}, "at least 1"),
        (classifier(), cross_entropy, {"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(module, loss, options, text):
    with pytest.raises(ConfigError, match=text) as caught:
        curvature(module, loss, rows(12, 3), **options)
    assert "\n" not in str(caught.value)


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ConfigError, match="44 numbers"):
        LossHessian(classifier(width=5), cross_entropy, rows(12, 3))(rows(45))
