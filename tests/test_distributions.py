"""Policy distributions against torch.distributions, their own samples, and exact gradients."""

import itertools
import math

import pytest
import torch
from scipy import integrate, stats
from torch import distributions as td
from torch.autograd import grad

from entropic_rl import entropy as entropies
from entropic_rl.distributions import Bernoulli, Categorical, Gaussian, MultiDiscrete, TanhGaussian
from entropic_rl.streams import Stream

LOGITS = torch.tensor([[0.5, -1.0, 0.2, 1.4, -0.3], [2.0, 0.0, -2.0, 0.1, 0.1]], dtype=torch.float64)
MASK = torch.tensor([True, False, True, True, True])
NVEC = (2, 3)


def gaussian_parameters():
    mean = torch.tensor([[0.3, -1.2, 0.0], [2.0, 0.1, -0.4]], dtype=torch.float64)
    return mean, torch.tensor([[0.1, -0.7, 0.4], [-2.0, 0.0, 0.9]], dtype=torch.float64)


def samples_of(distribution, draw, n, shape):
    """``[n, *shape]`` samples, noise of one run."""
    return distribution.sample(getattr(Stream([11], "test"), draw)(n, *shape)[0])


def test_categorical_samples_have_its_probabilities_and_respect_the_mask():
    for mask in (None, MASK):
        actions = samples_of(Categorical(LOGITS[0], mask), "gumbel", 20_000, (5,))
        expected = 20_000 * LOGITS[0].masked_fill(~(MASK if mask is not None else MASK | True), -math.inf).softmax(-1)
        counts = torch.bincount(actions, minlength=5)
        assert counts[expected == 0].eq(0).all()
        assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-3


def test_categorical_log_prob_equals_torch():
    action = torch.tensor([3, 0])
    torch.testing.assert_close(Categorical(LOGITS).log_prob(action), td.Categorical(logits=LOGITS).log_prob(action))


def test_masked_categorical_renormalises_and_gives_masked_logits_no_gradient():
    logits, action = LOGITS.clone().requires_grad_(), torch.tensor([1, 0])  # indices among the allowed: 2 and 0
    log_prob = Categorical(logits, MASK).log_prob(torch.tensor([2, 0]))
    torch.testing.assert_close(log_prob.detach(), td.Categorical(logits=LOGITS[:, MASK]).log_prob(action))
    gradient = grad(log_prob.sum(), logits)[0]
    assert gradient.isfinite().all()
    assert gradient[:, ~MASK].eq(0.0).all()


def test_categorical_mode_is_the_likeliest_allowed_action():
    assert Categorical(LOGITS).mode().tolist() == [3, 0]
    assert Categorical(LOGITS, torch.tensor([True, True, True, False, True])).mode().tolist() == [0, 0]


def test_all_masked_row_is_refused_when_acting():
    for method in ("mode", "entropy"):
        with pytest.raises(ValueError, match="allows none"):
            getattr(Categorical(LOGITS, torch.zeros(5, dtype=torch.bool)), method)()


def test_multi_discrete_samples_each_part_from_its_own_probabilities():
    actions = samples_of(MultiDiscrete(LOGITS[0], NVEC), "gumbel", 20_000, (5,))
    joint = torch.bincount(actions[:, 0] * 3 + actions[:, 1], minlength=6)
    p, q = (part.softmax(-1) for part in LOGITS[0].split(NVEC))
    assert stats.chisquare(joint, 20_000 * torch.outer(p, q).flatten()).pvalue > 1e-3


def test_multi_discrete_sums_over_its_parts():
    action = torch.tensor([[1, 2], [0, 0]])
    parts = [td.Categorical(logits=z) for z in LOGITS.split(NVEC, -1)]
    ours = MultiDiscrete(LOGITS, NVEC)
    torch.testing.assert_close(ours.log_prob(action), sum(p.log_prob(action[:, i]) for i, p in enumerate(parts)))
    torch.testing.assert_close(ours.entropy(), sum(p.entropy() for p in parts))
    assert ours.mode().tolist() == [[0, 1], [0, 1]]


def test_multi_discrete_mask_covers_the_parts_side_by_side():
    ours = MultiDiscrete(LOGITS, NVEC, MASK.expand_as(LOGITS))
    assert samples_of(ours, "gumbel", 100, (2, 5))[..., 0].eq(0).all()
    torch.testing.assert_close(ours.entropy(), td.Categorical(logits=LOGITS[:, 2:]).entropy())


def test_bernoulli_samples_have_its_probabilities():
    share = samples_of(Bernoulli(LOGITS[0]), "uniform", 20_000, (5,)).double().mean(0)
    torch.testing.assert_close(share, LOGITS[0].sigmoid(), rtol=0.0, atol=4 * 0.5 / 20_000**0.5)


def test_bernoulli_sums_over_dimensions_as_torch_does():
    action, oracle = torch.tensor([[1, 0, 0, 1, 1], [0, 0, 1, 1, 0]]), td.Independent(td.Bernoulli(logits=LOGITS), 1)
    torch.testing.assert_close(Bernoulli(LOGITS).log_prob(action), oracle.log_prob(action.double()))
    torch.testing.assert_close(Bernoulli(LOGITS).entropy(), oracle.entropy())
    assert Bernoulli(LOGITS).mode().tolist() == [[1, 0, 1, 1, 0], [1, 0, 0, 1, 1]]


def test_gaussian_equals_torch_and_sums_over_dimensions():
    mean, log_std = gaussian_parameters()
    oracle, action = td.Independent(td.Normal(mean, log_std.exp()), 1), mean + 0.7
    torch.testing.assert_close(Gaussian(mean, log_std).log_prob(action), oracle.log_prob(action))
    torch.testing.assert_close(Gaussian(mean, log_std).entropy(), oracle.entropy())
    assert torch.equal(Gaussian(mean, log_std).mode(), mean)


def test_gaussian_samples_have_its_moments():
    mean, log_std = (x[0] for x in gaussian_parameters())
    samples = samples_of(Gaussian(mean, log_std), "normal", 5_000, (3,))
    assert all(stats.kstest(samples[:, i], stats.norm(mean[i], log_std[i].exp()).cdf).pvalue > 1e-3 for i in range(3))


def test_tanh_gaussian_log_prob_equals_the_transformed_torch_distribution():
    mean, log_std = gaussian_parameters()
    u = mean + 0.3
    transformed = td.TransformedDistribution(td.Normal(mean, log_std.exp()), td.TanhTransform(cache_size=1))
    log_prob = td.Normal(mean, log_std.exp()).log_prob(u) - td.TanhTransform().log_abs_det_jacobian(u, u.tanh())
    torch.testing.assert_close(TanhGaussian(mean, log_std).log_prob(u), log_prob.sum(-1))
    torch.testing.assert_close(TanhGaussian(mean, log_std).log_prob(u), transformed.log_prob(u.tanh()).sum(-1))


def test_tanh_gaussian_sample_and_log_prob_are_those_taken_one_by_one_gradients_included():
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 40, 2, generator=generator, dtype=torch.float64).unbind()
    mean, log_std = mean.requires_grad_(), log_std.requires_grad_()
    distribution = TanhGaussian(mean, log_std)
    action = distribution.sample(noise)
    apart, together = (action, distribution.log_prob(action)), distribution.sample_and_log_prob(noise)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad((a.sin().sum(-1) * p).sum(), (mean, log_std)) for a, p in (together, apart)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)


def test_tanh_gaussian_density_over_its_actions_integrates_to_one():
    ours = TanhGaussian(torch.tensor([[0.4]]).double(), torch.tensor([[0.2]]).double())
    total, _ = integrate.quad(lambda a: ours.log_prob(torch.atanh(torch.tensor([[a]]).double())).exp().item(), -1, 1)
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("u", [20.0, -20.0, 100.0])
def test_tanh_gaussian_log_prob_is_finite_far_in_the_tails(u):
    # log N(u; u, 1) - 2 (log 2 - |u|) up to exp(-2|u|): float32 tanh is exactly 1 there.
    mean = torch.tensor([[u]], requires_grad=True)
    action = torch.tensor([[u]])
    log_prob = TanhGaussian(mean, torch.zeros(1, 1)).log_prob(action)
    assert log_prob.item() == pytest.approx(-0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - abs(u)), rel=1e-6)
    assert grad(log_prob.sum(), mean)[0].isfinite().all()


def test_tanh_gaussian_entropy_is_the_mean_of_minus_log_prob():
    mean, log_std = gaussian_parameters()
    ours = TanhGaussian(mean, log_std)
    minus_log_prob = -ours.log_prob(samples_of(ours, "normal", 20_000, (2, 3)))
    error = minus_log_prob.std(0) / 20_000**0.5
    assert ((ours.entropy() - minus_log_prob.mean(0)).abs() < 4 * error).all()


def test_shared_log_std_broadcasts_over_a_batch():
    mean, log_std = torch.zeros(4, 5, 3), torch.tensor([0.1, 0.2, -1.0])
    ours = TanhGaussian(mean, log_std)
    assert ours.entropy().shape == ours.log_prob(mean).shape == (4, 5)


@pytest.mark.parametrize(
    "make",
    [
        Categorical,
        lambda x: Categorical(x, MASK),
        lambda x: MultiDiscrete(x, NVEC),
        Bernoulli,
        lambda x: Gaussian(x[..., :2], x[..., 2:4]),
        lambda x: TanhGaussian(x[..., :2], x[..., 2:4]),
    ],
    ids=["categorical", "masked", "multi-discrete", "bernoulli", "gaussian", "tanh-gaussian"],
)
def test_entropy_bonus_has_the_gradient_of_the_entropy(make):
    # Trap T3: the gradient of the bonus, against finite differences of the entropy.
    outputs = LOGITS.clone().requires_grad_()
    (gradient,) = grad(make(outputs).entropy().sum(), outputs)
    h, numeric = 1e-6, torch.zeros_like(LOGITS)
    for index in range(LOGITS.numel()):
        step = torch.zeros_like(LOGITS).view(-1).index_fill(0, torch.tensor(index), h).view_as(LOGITS)
        numeric.view(-1)[index] = (make(LOGITS + step).entropy() - make(LOGITS - step).entropy()).sum() / (2 * h)
    torch.testing.assert_close(gradient, numeric, rtol=1e-6, atol=1e-8)
    assert gradient.abs().max() > 0.1


def test_minus_log_prob_of_stored_actions_is_no_entropy_bonus():
    # Its expected gradient under the policy itself, sum_a p_a d(-log p_a)/dz = -sum_a dp_a/dz, is zero.
    logits = LOGITS[0].clone().requires_grad_()
    log_prob = Categorical(logits.expand(5, 5)).log_prob(torch.arange(5))
    (gradient,) = grad((LOGITS[0].softmax(-1) * -log_prob).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(5, dtype=torch.float64), rtol=0.0, atol=1e-15)


# Renyi entropies and divergences, against sums over all actions and integrals over a grid

HEADS = {
    "categorical": Categorical(LOGITS),
    "masked": Categorical(LOGITS, MASK),
    "multi-discrete": MultiDiscrete(LOGITS, NVEC),
    "masked-multi-discrete": MultiDiscrete(LOGITS, NVEC, MASK),
    "bernoulli": Bernoulli(LOGITS),
}


def joint_log_probs(name):
    """Log-probabilities ``[2, N]`` of all N actions that are possible, by the distribution's own ``log_prob``."""
    head = HEADS[name]
    if "multi" in name:
        actions = [torch.tensor(pair) for pair in itertools.product(range(2), range(3))]
    elif name == "bernoulli":
        actions = [torch.tensor(bits) for bits in itertools.product(range(2), repeat=5)]
    else:
        actions = [torch.tensor(a) for a in range(5)]
    log_probs = torch.stack([head.log_prob(a.expand(2, *a.shape)) for a in actions], 1)
    return log_probs[:, log_probs.isfinite().all(0)]


every_head = pytest.mark.parametrize("name", HEADS)


@every_head
@pytest.mark.parametrize("order", [0.5, 2.0, 3.0])
def test_renyi_entropy_is_that_of_the_joint_distribution(name, order):
    powers = (order * joint_log_probs(name)).exp().sum(1)
    torch.testing.assert_close(HEADS[name].renyi_entropy(order), powers.log() / (1.0 - order))


@every_head
def test_renyi_entropy_of_order_one_is_the_entropy(name):
    torch.testing.assert_close(HEADS[name].renyi_entropy(1.0), HEADS[name].entropy())


@every_head
def test_divergence_from_the_uniform_distribution_is_over_all_joint_actions(name):
    log_probs = joint_log_probs(name)
    oracle = (log_probs.exp() * (log_probs + math.log(log_probs.shape[1]))).sum(1)
    torch.testing.assert_close(HEADS[name].kl_to_uniform(), oracle)


@pytest.mark.parametrize("name", ["categorical", "masked"])
def test_divergence_from_a_prior_is_over_the_allowed_actions(name):
    prior, log_probs = torch.tensor([3.0, 1.0, 0.5, 2.0, 0.1], dtype=torch.float64), joint_log_probs(name)
    weights = prior if name == "categorical" else prior[MASK]
    oracle = (log_probs.exp() * (log_probs - (weights / weights.sum()).log())).sum(1)
    torch.testing.assert_close(HEADS[name].kl_to_prior(prior), oracle)


@pytest.mark.parametrize("name", ["multi-discrete", "bernoulli"])
def test_several_choices_at_once_have_no_prior(name):
    with pytest.raises(ValueError, match="not for several choices at once"):
        HEADS[name].kl_to_prior(torch.ones(5))


def on_a_grid(head, low, high, n=200_001):
    """Log-density and spacing ``[n, 1]`` at n points of one dimension, of each row of ``head``."""
    u = torch.linspace(low, high, n, dtype=torch.float64).view(n, 1, 1)
    return u, head.log_prob(u.expand(n, *head.mean.shape)), (high - low) / (n - 1)


def one_dimensional():
    return torch.tensor([[0.3], [-1.2]], dtype=torch.float64), torch.tensor([[0.1], [-0.7]], dtype=torch.float64)


@pytest.mark.parametrize("order", [0.5, 2.0, 3.0])
def test_gaussian_renyi_entropies_are_integrals_over_actions(order):
    parameters = one_dimensional()
    for head in (Gaussian(*parameters), TanhGaussian(*parameters)):
        u, log_density, spacing = on_a_grid(head, -30.0, 30.0)
        log_det = entropies.log_one_minus_tanh_squared(u[..., 0]) if isinstance(head, TanhGaussian) else 0.0  # da / du
        power = (order * log_density + log_det).exp().sum(0) * spacing
        torch.testing.assert_close(head.renyi_entropy(order), power.log() / (1.0 - order), rtol=1e-6, atol=1e-6)


def test_tanh_gaussian_divergence_from_the_uniform_distribution_is_an_integral_over_actions():
    head = TanhGaussian(*one_dimensional())
    u, log_density, spacing = on_a_grid(head, -30.0, 30.0)
    log_det = entropies.log_one_minus_tanh_squared(u[..., 0])
    oracle = ((log_density + log_det).exp() * (log_density + math.log(2.0))).sum(0) * spacing
    torch.testing.assert_close(head.kl_to_uniform(), oracle, rtol=1e-6, atol=1e-6)


def test_squashing_leaves_the_divergence_from_a_prior_as_it_is():
    mean, log_std = gaussian_parameters()
    prior = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    oracle = td.kl_divergence(td.Normal(mean, log_std.exp()), td.Normal(torch.zeros_like(mean), prior)).sum(-1)
    for head in (Gaussian(mean, log_std), TanhGaussian(mean, log_std)):
        torch.testing.assert_close(head.kl_to_prior(prior), oracle)


def test_unbounded_gaussian_has_no_divergence_from_a_uniform_distribution():
    with pytest.raises(ValueError, match="squash it"):
        Gaussian(*gaussian_parameters()).kl_to_uniform()


def test_shared_log_std_broadcasts_in_every_family():
    mean, log_std = torch.zeros(4, 5, 3), torch.tensor([0.1, 0.2, -1.0])
    ours, whole = TanhGaussian(mean, log_std), TanhGaussian(mean, log_std.expand(4, 5, 3))
    for name, *arguments in (("renyi_entropy", 2.0), ("kl_to_uniform",), ("kl_to_prior", torch.tensor([0.5]))):
        found = getattr(ours, name)(*arguments)
        assert found.shape == (4, 5)
        assert torch.equal(found, getattr(whole, name)(*arguments))
