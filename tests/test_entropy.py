"""Entropies against 50-digit arithmetic, closed forms, torch.distributions and finite differences."""

import math
from itertools import pairwise

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import distributions as td
from torch.autograd import grad, gradcheck, gradgradcheck

from entropic_rl import entropy as entropies
from entropic_rl.entropy import (
    categorical_entropy,
    categorical_kl,
    gaussian_entropy,
    gaussian_kl,
    gaussian_renyi_entropy,
    kl_to_uniform,
    log_probs_entropy,
    renyi_entropy,
    tanh_gaussian_entropy,
    tanh_gaussian_renyi_entropy,
    tsallis_entropy,
    tsallis_from_renyi,
)

MP = mpmath.MPContext()
MP.dps = 50
INF = math.inf
FAMILIES = {
    "shannon": categorical_entropy,
    "renyi-0": lambda z, **kw: renyi_entropy(z, 0.0, **kw),
    "renyi-.5": lambda z, **kw: renyi_entropy(z, 0.5, **kw),
    "renyi-1.05": lambda z, **kw: renyi_entropy(z, 1.05, **kw),
    "renyi-inf": lambda z, **kw: renyi_entropy(z, INF, **kw),
    "tsallis-2": lambda z, **kw: tsallis_entropy(z, 2.0, **kw),
    "kl": kl_to_uniform,
}
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def exact_probabilities(logits, temperature=1.0):
    scaled = [MP.mpf(z) / MP.mpf(temperature) for z in logits]
    top = max(scaled)
    weights = [MP.exp(z - top) for z in scaled]
    total = sum(weights)
    return [w / total for w in weights]


def exact_entropy(logits, temperature=1.0):
    return float(-sum(p * MP.log(p) for p in exact_probabilities(logits, temperature)))


def exact_renyi(logits, order):
    return float(MP.log(sum(p ** MP.mpf(order) for p in exact_probabilities(logits))) / (1 - MP.mpf(order)))


def random_logits(*shape, seed=0, dtype=torch.float64, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def relative_error(value, truth):
    return (value.double() / torch.as_tensor(truth, dtype=torch.float64) - 1.0).abs().max().item()


@pytest.mark.parametrize(("n_actions", "n_rows"), [(2, 120), (3, 100), (17, 60), (200, 12), (1000, 4)])
def test_float32_entropy_agrees_with_50_digits_down_to_1e_20(n_actions, n_rows):
    g = torch.Generator().manual_seed(n_actions)
    spread = 10 ** torch.linspace(-3.0, math.log10(51.0 + math.log(n_actions)), n_rows).unsqueeze(1)
    offset = torch.tensor([0.0, 30.0, -1000.0, 1000.0])[torch.randint(4, (n_rows, 1), generator=g)]
    logits = offset - spread * (1.0 - 0.1 * torch.rand(n_rows, n_actions, generator=g))
    logits.scatter_(1, torch.randint(n_actions, (n_rows, 1), generator=g), offset)  # one action stands out by ~ spread
    truth = [exact_entropy(row) for row in logits.tolist()]
    assert min(truth) < 1e-16
    assert relative_error(categorical_entropy(logits), truth) <= 2e-6


@pytest.mark.parametrize(
    ("offset", "gap", "published"),
    [(0, 12, 7.9e-2), (0, 25, 3.6e-7), (30, 17, 7.5e-4), (30, 25, 3.6e-7), (1000, 17, 7.5e-4)],
)
def test_published_table_of_peaked_rows(offset, gap, published):
    logits = torch.full((1000,), float(offset - gap))
    logits[123] = offset
    rest = 999 * math.exp(-gap)  # H = log(1 + s) + gap s / (1 + s) with s = 999 exp(-gap)
    truth = math.log1p(rest) + gap * rest / (1.0 + rest)
    assert truth == pytest.approx(published, rel=0.02)
    assert relative_error(categorical_entropy(logits), truth) <= 1e-6


def test_two_actions_by_hand():
    # p = (3/4, 1/4): H = 3/4 log(4/3) + 1/4 log 4 = log 4 - 3/4 log 3.
    assert categorical_entropy(torch.tensor([math.log(3.0), 0.0])).item() == pytest.approx(
        math.log(4) - 0.75 * math.log(3)
    )


@pytest.mark.parametrize("n_actions", [2, 7, 1000])
def test_uniform_row_has_log_n(n_actions):
    logits = torch.full((n_actions,), 12.5)
    for family in (categorical_entropy, FAMILIES["renyi-.5"], FAMILIES["renyi-1.05"], FAMILIES["renyi-inf"]):
        assert family(logits).item() == pytest.approx(math.log(n_actions), rel=2e-6)
    assert kl_to_uniform(logits).item() == 0.0


@every_family
def test_one_action_has_zero_value_and_gradient(family):
    logits = torch.tensor([[3.0], [-1e4]], requires_grad=True)
    value = family(logits)
    assert value.tolist() == [0.0, 0.0]
    assert grad(value.sum(), logits)[0].tolist() == [[0.0], [0.0]]


@settings(max_examples=60)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=6))
def test_entropy_lies_between_zero_and_log_n(logits):
    entropy = categorical_entropy(torch.tensor(logits)).item()
    assert 0.0 <= entropy <= math.log(len(logits)) + 1e-6


@every_family
def test_adding_a_constant_to_the_logits_changes_nothing(family):
    logits = (random_logits(20, 5, dtype=torch.float32) * 64).round() / 64  # so that the shifted logits are exact
    assert torch.equal(family(logits + 1024.0), family(logits))


@every_family
def test_masked_row_equals_reduced_row(family):
    logits = random_logits(8, 5).requires_grad_()
    mask = torch.tensor([True, False, True, True, False])
    reduced = logits.detach()[:, mask].requires_grad_()
    value, truth = family(logits, mask=mask), family(reduced)
    (gradient,), (gradient_truth,) = grad(value.sum(), logits), grad(truth.sum(), reduced)
    torch.testing.assert_close(value, truth, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(gradient[:, mask], gradient_truth, rtol=1e-12, atol=1e-14)
    assert gradient[:, ~mask].eq(0.0).all()


@every_family
def test_minus_infinite_logit_counts_as_masked(family):
    logits = torch.tensor([0.3, -INF, -0.2], requires_grad=True)
    value = family(logits)
    assert value.item() == pytest.approx(family(torch.tensor([0.3, -0.2])).item(), rel=1e-6)
    assert grad(value, logits)[0][1].item() == 0.0


@every_family
def test_lone_possible_action_has_zero_gradient(family):
    logits = torch.tensor([-INF, 2.0, -INF], requires_grad=True)
    value = family(logits)
    assert value.item() == 0.0
    assert grad(value, logits)[0].tolist() == [0.0, 0.0, 0.0]


@every_family
def test_row_with_everything_masked_is_refused_by_name(family):
    with pytest.raises(ValueError, match=r"row \[1\] allows none"):
        family(torch.zeros(2, 3), mask=torch.tensor([[True, True, False], [False, False, False]]))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 3), "must be a boolean tensor .* use mask.bool"),
        (torch.ones(2, 4, dtype=torch.bool), r"broadcast to the logits \(2, 3\), got \(2, 4\)"),
        (torch.ones(5, 3, dtype=torch.bool), "mask"),
        (torch.tensor(True), "mask"),
    ],
)
def test_mask_of_the_wrong_type_or_shape_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        entropies.masked_logits(torch.zeros(2, 3), mask)


@every_family
@pytest.mark.parametrize("shape", [(), (2, 0)])
def test_logits_without_actions_are_refused(family, shape):
    with pytest.raises(ValueError, match="A >= 1"):
        family(torch.zeros(shape))


@every_family
def test_nan_logit_is_not_hidden_and_stays_in_its_row(family):
    value = family(torch.tensor([[0.0, math.nan, 1.0], [0.0, 0.5, 1.0], [math.nan, -INF, 1.0]]))
    assert value.isnan().tolist() == [True, False, True]


@every_family
def test_extreme_logits_have_finite_values_and_gradients(family):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], requires_grad=True)
    value = family(logits)
    assert value.isfinite().all()
    assert grad(value.sum(), logits)[0].isfinite().all()


@every_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_returned_in_half(family, dtype):
    logits = (random_logits(10, 6) * 10).to(dtype)
    value = family(logits)
    assert value.dtype == dtype
    torch.testing.assert_close(value, family(logits.float()).to(dtype), rtol=torch.finfo(dtype).eps, atol=0.0)


@every_family
def test_empty_batch_gives_empty_value_and_gradient(family):
    logits = torch.zeros(0, 4, requires_grad=True)
    value = family(logits)
    assert value.shape == (0,)
    assert grad(value.sum(), logits)[0].shape == (0, 4)


def test_gradient_is_minus_p_times_log_p_plus_entropy():
    logits = random_logits(30, 6).requires_grad_()
    entropy = categorical_entropy(logits)
    log_p = logits.detach().log_softmax(-1)
    (gradient,) = grad(entropy.sum(), logits)
    torch.testing.assert_close(gradient, -log_p.exp() * (log_p + entropy.detach().unsqueeze(-1)))
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(30, dtype=torch.float64), rtol=0.0, atol=1e-15)


def test_gradient_is_the_textbook_chain():
    logits = random_logits(7).requires_grad_()
    p = logits.detach().softmax(-1)
    d_entropy_d_p, d_p_d_logits = -(p.log() + 1.0), torch.diag(p) - torch.outer(p, p)
    torch.testing.assert_close(grad(categorical_entropy(logits), logits)[0], d_entropy_d_p @ d_p_d_logits)


def test_float32_gradient_of_a_peaked_row_keeps_its_digits():
    logits = torch.tensor([1000.0, 975.0, 970.0], requires_grad=True)
    p = exact_probabilities([1000, 975, 970])
    entropy = -sum(x * MP.log(x) for x in p)
    (gradient,) = grad(categorical_entropy(logits), logits)
    assert relative_error(gradient, [float(-x * (MP.log(x) + entropy)) for x in p]) < 5e-6


def test_hessian_vector_product_has_its_closed_form():
    # -p [(v - E v)(1 + z - E z) - Cov(z, v)]: the derivative of -p (z - E z) along v, since dp = p (v - E v).
    z, v = random_logits(6).requires_grad_(), random_logits(6, seed=1)
    (gradient,) = grad(categorical_entropy(z), z, create_graph=True)
    p = z.detach().softmax(-1)
    dz, dv = z.detach() - p @ z.detach(), v - p @ v
    torch.testing.assert_close(grad(gradient @ v, z)[0], -p * (dv * (1.0 + dz) - p @ (dz * dv)))


def test_temperature_derivative_is_the_variance_over_temperature_cubed():
    z, temperature = random_logits(5), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    p = (z / 0.7).softmax(-1)
    (gradient,) = grad(categorical_entropy(z, temperature=temperature), temperature)
    assert gradient.item() == pytest.approx((p @ (z - p @ z).square()).item() / 0.7**3)


def test_temperature_tensor_broadcasts_to_rows():
    logits, temperature = random_logits(3, 4, 5), torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    together = categorical_entropy(logits, temperature=temperature.view(3, 1, 1))
    alone = torch.stack(
        [categorical_entropy(z, temperature=t.item()) for z, t in zip(logits, temperature, strict=True)]
    )
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_temperature_keeps_the_float32_accuracy(offset):
    logits = random_logits(40, 6, dtype=torch.float32) * 3 + offset
    truth = [exact_entropy(row, 0.7) for row in logits.tolist()]
    assert relative_error(categorical_entropy(logits, temperature=0.7), truth) <= 2e-6


def test_temperature_does_not_overflow_half_precision():
    logits = torch.tensor([40000.0, 39968.0], dtype=torch.float16)
    assert categorical_entropy(logits, temperature=0.5).item() == pytest.approx(0.0, abs=1e-6)


def test_temperature_derivative_ignores_masked_actions():
    z, temperature = random_logits(4), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, False, True, True])
    (gradient,) = grad(categorical_entropy(z, mask=mask, temperature=temperature), temperature)
    (reduced,) = grad(categorical_entropy(z[mask], temperature=temperature), temperature)
    assert gradient.item() == pytest.approx(reduced.item())


def test_shannon_entropy_passes_gradcheck_twice_with_temperature():
    logits = torch.cat([random_logits(4, 5), torch.zeros(1, 5, dtype=torch.float64)]).requires_grad_()
    temperature = torch.full((5, 1), 0.8, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z, t: categorical_entropy(z, temperature=t), (logits, temperature))
    assert gradgradcheck(lambda z, t: categorical_entropy(z, temperature=t), (logits, temperature))


def test_shannon_entropy_passes_gradcheck_twice_with_a_mask():
    logits, mask = random_logits(3, 4).requires_grad_(), torch.tensor([True, True, False, True])
    assert gradcheck(lambda z: categorical_entropy(z, mask=mask), logits)
    assert gradgradcheck(lambda z: categorical_entropy(z, mask=mask), logits)


def test_bernoulli_equals_torch_distributions():
    logits = random_logits(50)
    torch.testing.assert_close(entropies.bernoulli_entropy(logits), td.Bernoulli(logits=logits).entropy())


def test_bernoulli_tail_and_gradient_by_hand():
    # H = log1p(e^-|z|) + |z| sigmoid(-|z|) ~ (1 + z) e^-z for large z; dH/dz = -z sigmoid(z) sigmoid(-z).
    logits = torch.tensor([40.0, -40.0, 1e4, 0.0, 1.5], requires_grad=True)
    entropy = entropies.bernoulli_entropy(logits)
    assert entropy[:3].tolist() == pytest.approx([41 * math.exp(-40), 41 * math.exp(-40), 0.0], rel=1e-6)
    torch.testing.assert_close(grad(entropy.sum(), logits)[0], -logits * logits.sigmoid() * (-logits).sigmoid())


def test_multi_discrete_is_the_sum_of_its_parts():
    logits, mask = random_logits(9, 7), torch.tensor([True, True, True, False, True, False, True])
    parts = [(logits[:, :2], mask[:2]), (logits[:, 2:3], mask[2:3]), (logits[:, 3:], mask[3:])]
    oracle = sum(td.Categorical(logits=z[:, m]).entropy() for z, m in parts)
    torch.testing.assert_close(entropies.multi_discrete_entropy(logits, (2, 1, 4), mask=mask), oracle)


def test_gaussian_sums_over_dimensions_as_torch_does():
    log_std = random_logits(4, 3)
    oracle = td.Independent(td.Normal(torch.zeros_like(log_std), log_std.exp()), 1).entropy()
    torch.testing.assert_close(entropies.gaussian_entropy(log_std), oracle)


def test_log_one_minus_tanh_squared_far_beyond_where_tanh_rounds_to_one():
    u = torch.tensor([0.0, 0.5, -3.0, 20.0, -20.0, 500.0], requires_grad=True)
    value = entropies.log_one_minus_tanh_squared(u)
    truth = [float(-2 * MP.log(MP.cosh(x))) for x in u.tolist()]  # 1 - tanh^2 = 1 / cosh^2
    torch.testing.assert_close(value.detach(), torch.tensor(truth), rtol=1e-6, atol=2e-7)
    torch.testing.assert_close(grad(value.sum(), u)[0], -2.0 * u.detach().tanh())


def tanh_gaussian_by_quad(mean, std):
    """E over t ~ N(0, 1) of log(1 - tanh(mean + std t)^2) by adaptive quadrature, pieces cut around the kink of |x|."""
    context = mpmath.MPContext()
    context.dps = 20
    mean, std = context.mpf(mean), context.mpf(std)

    def integrand(t):
        x = abs(mean + std * t)
        return context.npdf(t) * 2 * (context.log(2) - x - context.log1p(context.exp(-2 * x)))

    cuts = [-10, 0, 10] + [c for c in ((d - mean) / std for d in (-20, -4, 0, 4, 20)) if abs(c) < 10]
    return float(context.log(std) + context.log(2 * context.pi * context.e) / 2 + context.quad(integrand, sorted(cuts)))


@pytest.mark.parametrize("std", [1e-6, 1e-2, 0.3, 0.99, 1.01, 3.0, 40.0, 1e3])
def test_tanh_gaussian_agrees_with_adaptive_quadrature(std):
    means = [0.0, -0.7, 4.0, 25.0]
    mean = torch.tensor(means, dtype=torch.float64).unsqueeze(1)
    entropy = tanh_gaussian_entropy(mean, torch.full_like(mean, math.log(std)))
    assert entropy.tolist() == pytest.approx([tanh_gaussian_by_quad(m, std) for m in means], rel=0, abs=1e-7)


def test_tanh_gaussian_never_exceeds_the_uniform_density_on_its_interval():
    mean, log_std = torch.meshgrid(torch.linspace(-6, 6, 25), torch.linspace(-8, 6, 57), indexing="ij")
    entropy = tanh_gaussian_entropy(mean.unsqueeze(-1), log_std.unsqueeze(-1))
    assert entropy.max().item() <= math.log(2.0)
    double = tanh_gaussian_entropy(mean.double().unsqueeze(-1), log_std.double().unsqueeze(-1))
    torch.testing.assert_close(entropy.double(), double, rtol=1e-5, atol=1e-5)


def test_tanh_gaussian_passes_gradcheck_twice_on_both_sides_of_std_one():
    mean = torch.tensor([[0.0, 0.4], [-2.0, 15.0]], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([[-3.0, -0.1], [0.2, 2.0]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(tanh_gaussian_entropy, (mean, log_std))
    assert gradgradcheck(tanh_gaussian_entropy, (mean, log_std))


def test_tanh_gaussian_gradient_is_finite_at_the_extremes():
    mean = torch.tensor([[0.0, 1e3, -1e3, 0.0, 5.0]], requires_grad=True)
    log_std = torch.tensor([[-20.0, -20.0, 5.0, 10.0, 0.0]], requires_grad=True)
    entropy = tanh_gaussian_entropy(mean, log_std)
    assert all(g.isfinite().all() for g in (entropy, *grad(entropy.sum(), (mean, log_std))))


def test_tanh_gaussian_refuses_to_broadcast():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3,\); expand log_std first"):
        tanh_gaussian_entropy(torch.zeros(2, 3), torch.zeros(3))


@pytest.mark.parametrize("order", [0.5, 0.8, 1.2, 2.0, 7.0])
def test_renyi_and_tsallis_have_their_definitions_away_from_one(order):
    logits = random_logits(20, 6)
    powers = logits.softmax(-1).pow(order).sum(-1)
    torch.testing.assert_close(renyi_entropy(logits, order), powers.log() / (1.0 - order))
    torch.testing.assert_close(tsallis_entropy(logits, order), (1.0 - powers) / (order - 1.0))


@pytest.mark.parametrize("order", [0.9001, 0.9999, 1.0001, 1.0999])
def test_renyi_and_tsallis_near_one_agree_with_50_digits(order):
    logits = torch.cat([random_logits(5, 6, dtype=torch.float32), torch.tensor([[30.0, 0, 0, 0, 0, 1]])])
    renyi = [exact_renyi(row, order) for row in logits.tolist()]
    tsallis = [float(MP.expm1((1 - MP.mpf(order)) * r) / (1 - MP.mpf(order))) for r in renyi]
    assert relative_error(renyi_entropy(logits, order), renyi) < 3e-6
    assert relative_error(tsallis_entropy(logits, order), tsallis) < 3e-6


@pytest.mark.parametrize("order", [0.5, 2.0, 30.0])
def test_renyi_of_a_peaked_float32_row_keeps_its_digits(order):
    logits = torch.tensor([1000.0, 978.0, 976.0])
    assert relative_error(renyi_entropy(logits, order), exact_renyi([1000, 978, 976], order)) < 2e-6


def test_renyi_order_zero_counts_the_support_and_infinity_is_the_min_entropy():
    logits, mask = random_logits(4, 6), torch.tensor([True, True, False, True, True, False])
    torch.testing.assert_close(renyi_entropy(logits, 0.0, mask=mask), torch.full((4,), math.log(4)).double())
    torch.testing.assert_close(tsallis_entropy(logits, 0.0, mask=mask), torch.full((4,), 3.0).double())
    torch.testing.assert_close(renyi_entropy(logits, INF), -logits.softmax(-1).amax(-1).log())


def test_order_one_is_shannon():
    logits = random_logits(3, 4)
    assert torch.equal(renyi_entropy(logits, 1.0), categorical_entropy(logits))
    assert torch.equal(tsallis_entropy(logits, 1.0), categorical_entropy(logits))


def test_renyi_falls_with_its_order():
    logits = random_logits(10, 5)
    values = torch.stack([renyi_entropy(logits, a) for a in (0.0, 0.5, 0.95, 1.0, 1.05, 1.2, 3.0, INF)])
    assert (values.diff(dim=0) <= 0.0).all()


@pytest.mark.parametrize("order", [0.4, 0.95, 2.5])
def test_renyi_gradient_is_the_difference_of_two_softmaxes(order):
    logits = random_logits(5, 4).requires_grad_()
    (gradient,) = grad(renyi_entropy(logits, order).sum(), logits)
    z = logits.detach()
    torch.testing.assert_close(gradient, order / (1.0 - order) * ((order * z).softmax(-1) - z.softmax(-1)))


@pytest.mark.parametrize("order", [0.5, 1.05, 2.0])
def test_renyi_and_tsallis_pass_gradcheck_twice(order):
    logits, mask = random_logits(3, 4).requires_grad_(), torch.tensor([True, True, False, True])
    for family in (renyi_entropy, tsallis_entropy):
        assert gradcheck(lambda z, f=family: f(z, order, mask=mask), logits)
        assert gradgradcheck(lambda z, f=family: f(z, order, mask=mask), logits)


@pytest.mark.parametrize(
    ("family", "order"), [(renyi_entropy, -0.5), (renyi_entropy, math.nan), (tsallis_entropy, INF)]
)
def test_impossible_order_is_refused(family, order):
    with pytest.raises(ValueError, match=f"got {order}; 1 gives the Shannon entropy"):
        family(torch.zeros(3), order)


def test_kl_to_uniform_is_log_n_minus_entropy():
    logits, mask = random_logits(30, 6), torch.tensor([True, False, True, True, True, True])
    torch.testing.assert_close(kl_to_uniform(logits), math.log(6) - categorical_entropy(logits))
    torch.testing.assert_close(kl_to_uniform(logits, mask=mask), math.log(5) - categorical_entropy(logits, mask=mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_to_uniform_of_a_nearly_uniform_row_keeps_its_digits(dtype):
    # p = 1/2 +- x/4 to first order, so KL = 2 (x/4)^2 / (1/2) / 2 * 1 = x^2 / 8 = 1.25e-13 for x = 1e-6.
    assert kl_to_uniform(torch.tensor([0.0, 1e-6], dtype=dtype)).item() == pytest.approx(1.25e-13, rel=1e-6)


def test_kl_to_uniform_is_exact_and_differentiable_across_its_series():
    logits = torch.stack([torch.tensor([0.0, x], dtype=torch.float64) for x in (0.09, 0.1, 0.11, 3.0, 60.0)])
    truth = [float(MP.log(2) - MP.mpf(exact_entropy(row))) for row in logits.tolist()]
    assert relative_error(kl_to_uniform(logits), truth) < 1e-12
    assert gradcheck(kl_to_uniform, random_logits(3, 4).requires_grad_())


# Gaussians: Renyi and Tsallis

ORDERS = [0.5, 0.9, 1.5, 2.0, 3.0]


@pytest.mark.parametrize("order", ORDERS)
def test_gaussian_renyi_is_the_logarithm_of_an_integral_of_its_density(order):
    for std in (0.1, 1.0, 5.0):
        normal = td.Normal(torch.tensor(0.3).double(), std)
        power, _ = integrate.quad(
            lambda x, n=normal: math.exp(order * n.log_prob(torch.tensor(x).double()).item()), -12 * std, 12 * std
        )
        found = gaussian_renyi_entropy(torch.tensor([math.log(std)]).double(), order).item()
        assert found == pytest.approx(math.log(power) / (1.0 - order), rel=1e-6, abs=1e-6)


def test_gaussian_renyi_sums_over_dimensions_and_is_shannon_at_one():
    log_std = random_logits(4, 3)
    assert torch.equal(gaussian_renyi_entropy(log_std, 1.0), gaussian_entropy(log_std))
    parts = sum(gaussian_renyi_entropy(log_std[:, i : i + 1], 2.0) for i in range(3))
    torch.testing.assert_close(gaussian_renyi_entropy(log_std, 2.0), parts)


@pytest.mark.parametrize("order", [1.0 - 1e-9, 1.0 + 1e-9])
def test_gaussian_renyi_is_continuous_at_one(order):
    log_std = random_logits(4, 3)
    torch.testing.assert_close(gaussian_renyi_entropy(log_std, order), gaussian_entropy(log_std), rtol=0, atol=1e-6)


def test_gaussian_renyi_of_infinite_order_is_the_min_entropy():
    log_std = random_logits(3)
    peak = td.Normal(0.0, log_std.exp()).log_prob(torch.zeros(3)).sum().item()
    assert gaussian_renyi_entropy(log_std, INF).item() == pytest.approx(-peak)


def log_tanh_gaussian_power_by_quad(mean, std, order):
    """log integral over a in (-1, 1) of p(a)^order, in u = atanh(a): p^(order - 1) under the normal itself."""

    def exponent(u):
        log_normal = -0.5 * ((u - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)
        log_det = 2.0 * (math.log(2.0) - abs(u) - math.log1p(math.exp(-2.0 * abs(u))))
        return order * log_normal + (1.0 - order) * log_det

    reach = 12.0 * std / math.sqrt(order) + 2.0 * abs(order - 1.0) * std**2 / order
    grid = [mean + reach * i / 400 for i in range(-400, 401)]
    top = max(grid, key=exponent)
    peak = exponent(top)
    pieces = sorted({mean - reach, -20.0, -3.0, 0.0, 3.0, 20.0, -top, top, mean, mean + reach})
    pieces = [x for x in pieces if mean - reach <= x <= mean + reach]
    parts = [
        integrate.quad(lambda u: math.exp(exponent(u) - peak), a, b, limit=200, epsabs=1e-12, epsrel=1e-12)[0]
        for a, b in pairwise(pieces)
    ]
    return peak + math.log(sum(parts))


@pytest.mark.parametrize("order", [*ORDERS, 0.2, 6.0])
@pytest.mark.parametrize("std", [1e-3, 0.1, 0.5, 1.0, 2.0, 5.0, math.exp(2.0)])  # the last is the widest head
def test_tanh_gaussian_renyi_agrees_with_adaptive_quadrature(std, order):
    means = [0.0, -0.7, 2.0, 6.0]
    mean = torch.tensor(means, dtype=torch.float64).unsqueeze(1)
    found = tanh_gaussian_renyi_entropy(mean, torch.full_like(mean, math.log(std)), order)
    truth = [log_tanh_gaussian_power_by_quad(m, std, order) / (1.0 - order) for m in means]
    tolerance = 5e-3 if order < 0.5 and std > 2.0 else 1e-5 if std > 5.0 else 1e-6
    assert found.tolist() == pytest.approx(truth, rel=0, abs=tolerance)


@pytest.mark.parametrize("order", [1.0 - 1e-5, 1.0 + 1e-5])
def test_tanh_gaussian_renyi_is_continuous_at_one(order):
    mean, log_std = random_logits(6, 2), random_logits(6, 2, seed=1, scale=0.7)
    torch.testing.assert_close(
        tanh_gaussian_renyi_entropy(mean, log_std, order), tanh_gaussian_entropy(mean, log_std), rtol=0, atol=1e-3
    )
    assert torch.equal(tanh_gaussian_renyi_entropy(mean, log_std, 1.0), tanh_gaussian_entropy(mean, log_std))


def test_tanh_gaussian_renyi_falls_with_its_order():
    mean, log_std = random_logits(10, 2), random_logits(10, 2, seed=1, scale=0.7)
    values = [tanh_gaussian_renyi_entropy(mean, log_std, order) for order in (0.2, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0)]
    assert (torch.stack(values).diff(dim=0) < 0.0).all()


@pytest.mark.parametrize("order", ORDERS)
def test_tanh_gaussian_renyi_passes_gradcheck(order):
    mean = torch.tensor([[0.0, 0.4], [-2.0, 5.0]], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([[-3.0, -0.1], [0.2, 1.5]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda m, s: tanh_gaussian_renyi_entropy(m, s, order), (mean, log_std))


@pytest.mark.parametrize("order", ORDERS)
def test_tanh_gaussian_renyi_is_finite_at_the_extremes(order):
    mean = torch.tensor([[0.0, 50.0, -50.0, 0.0, 5.0]], requires_grad=True)
    log_std = torch.tensor([[-20.0, -20.0, 2.0, 2.0, 0.0]], requires_grad=True)
    entropy = tanh_gaussian_renyi_entropy(mean, log_std, order)
    assert all(g.isfinite().all() for g in (entropy, *grad(entropy.sum(), (mean, log_std))))


@pytest.mark.parametrize("order", [0.5, 2.0])
def test_tanh_gaussian_renyi_in_float32_keeps_its_digits(order):
    mean, log_std = random_logits(20, 3), random_logits(20, 3, seed=1, scale=1.0)
    truth = tanh_gaussian_renyi_entropy(mean, log_std, order)
    found = tanh_gaussian_renyi_entropy(mean.float(), log_std.float(), order)
    torch.testing.assert_close(found.double(), truth, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("order", [0.0, -1.0, INF, math.nan])
def test_impossible_order_of_a_tanh_gaussian_is_refused(order):
    with pytest.raises(ValueError, match=rf"in \(0, inf\) for a tanh-Gaussian, got {order}"):
        tanh_gaussian_renyi_entropy(torch.zeros(1), torch.zeros(1), order)


@pytest.mark.parametrize("order", [0.5, 2.0, 3.0])
def test_tsallis_of_independent_variables_is_that_of_their_joint_distribution(order):
    p, q = random_logits(4).softmax(-1), random_logits(3, seed=1).softmax(-1)
    joint = torch.outer(p, q).flatten()
    renyi = renyi_entropy(p.log(), order) + renyi_entropy(q.log(), order)
    assert tsallis_from_renyi(renyi, order).item() == pytest.approx(((1 - joint.pow(order).sum()) / (order - 1)).item())


def test_tsallis_of_order_one_is_shannon_bit_for_bit():
    values = random_logits(5)
    assert tsallis_from_renyi(values, 1.0) is values


# Divergences from a prior


def test_gaussian_kl_equals_torch_distributions():
    mean, log_std, prior = random_logits(5, 3), random_logits(5, 3, seed=1), torch.tensor([0.2, 1.0, 3.0]).double()
    oracle = td.kl_divergence(td.Normal(mean, log_std.exp()), td.Normal(torch.zeros(3).double(), prior)).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_std, prior), oracle)
    one = td.kl_divergence(td.Normal(mean, log_std.exp()), td.Normal(0.0, 0.7)).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_std, torch.tensor([0.7]).double()), one)


def test_gaussian_kl_is_zero_at_the_prior_and_nowhere_else():
    prior = torch.tensor([0.5, 2.0]).double()
    assert gaussian_kl(torch.zeros(2).double(), prior.log(), prior).item() == pytest.approx(0.0, abs=1e-15)
    mean, log_std = random_logits(50, 2), random_logits(50, 2, seed=1)
    assert (gaussian_kl(mean, log_std, prior) > 0.0).all()


def test_gaussian_kl_passes_gradcheck_twice():
    inputs = random_logits(3, 2).requires_grad_(), random_logits(3, 2, seed=1, scale=1.0).requires_grad_()
    prior = torch.tensor([0.5, 2.0]).double()
    assert gradcheck(lambda m, s: gaussian_kl(m, s, prior), inputs)
    assert gradgradcheck(lambda m, s: gaussian_kl(m, s, prior), inputs)


PRIOR = torch.tensor([3.0, 1.0, 0.5, 2.0, 0.1], dtype=torch.float64)


def test_categorical_kl_equals_torch_distributions_and_needs_no_normalised_prior():
    logits = random_logits(20, 5)
    oracle = td.kl_divergence(td.Categorical(logits=logits), td.Categorical(probs=PRIOR))
    torch.testing.assert_close(categorical_kl(logits, PRIOR), oracle)
    torch.testing.assert_close(categorical_kl(logits, 7.0 * PRIOR), oracle)


def test_categorical_kl_with_a_mask_is_that_of_the_allowed_actions():
    logits, mask = random_logits(20, 5).requires_grad_(), torch.tensor([True, False, True, True, False])
    value = categorical_kl(logits, PRIOR, mask=mask)
    reduced = td.Categorical(logits=logits.detach()[:, mask]), td.Categorical(probs=PRIOR[mask])
    torch.testing.assert_close(value, td.kl_divergence(*reduced))
    gradient = grad(value.sum(), logits)[0]
    assert gradient.isfinite().all()
    assert gradient[:, ~mask].eq(0.0).all()


def test_categorical_kl_of_an_impossible_action_counts_nothing_but_leaves_the_prior_whole():
    # p = (1/2, 1/2, 0), prior (1/4, 1/4, 1/2): sum p log(p / prior) = log 2; a mask would have given 0.
    logits = torch.tensor([0.0, 0.0, -INF], requires_grad=True)
    value = categorical_kl(logits, torch.tensor([1.0, 1.0, 2.0]))
    assert value.item() == pytest.approx(math.log(2.0))
    assert grad(value, logits)[0].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-7)
    assert categorical_kl(logits, torch.tensor([1.0, 1.0, 2.0]), mask=torch.tensor([True, True, False])).item() == 0.0


def test_categorical_kl_to_equal_weights_is_that_to_the_uniform_distribution():
    logits, mask = random_logits(20, 5), torch.tensor([True, False, True, True, True])
    for m in (None, mask):
        torch.testing.assert_close(
            categorical_kl(logits, torch.ones(5).double(), mask=m), kl_to_uniform(logits, mask=m)
        )


def test_categorical_kl_passes_gradcheck_twice():
    logits, mask = random_logits(3, 5).requires_grad_(), torch.tensor([True, True, False, True, True])
    for m in (None, mask):
        assert gradcheck(lambda z, m=m: categorical_kl(z, PRIOR, mask=m), logits)
        assert gradgradcheck(lambda z, m=m: categorical_kl(z, PRIOR, mask=m), logits)


def test_categorical_kl_of_extreme_logits_is_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4]], requires_grad=True)
    value = categorical_kl(logits, torch.tensor([1e-6, 1.0, 1.0]))
    assert value[0].item() == pytest.approx(
        math.log(2e6 + 1), rel=1e-6
    )  # all on an action of probability 1 / (2e6 + 1)
    assert grad(value.sum(), logits)[0].isfinite().all()


def test_entropy_of_log_probabilities_is_that_of_the_logits_and_knows_the_impossible():
    z = 3.0 * torch.randn(500, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z[0, 1:] = z[1, 2] = -INF
    expected = categorical_entropy(z)
    torch.testing.assert_close(log_probs_entropy(z.log_softmax(-1)), expected, rtol=0.0, atol=1e-14)
    torch.testing.assert_close(log_probs_entropy(z.float().log_softmax(-1)), expected.float(), rtol=0.0, atol=2e-6)
