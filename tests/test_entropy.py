"""Entropies against 50-digit arithmetic, closed forms, torch.distributions and finite differences."""

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as td
from torch.autograd import grad, gradcheck, gradgradcheck

from entropic_rl import entropy as entropies
from entropic_rl.entropy import (
    categorical_entropy,
    kl_to_uniform,
    renyi_entropy,
    tanh_gaussian_entropy,
    tsallis_entropy,
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


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
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
