"""Losses of classifiers and regressors against torch's, closed forms, published tables and finite differences."""

import math

import pytest
import torch
from torch import nn
from torch.autograd import grad, gradcheck
from torch.nn import functional as F

from entropic_rl.entropy import categorical_entropy
from entropic_rl.losses import (
    EntropicCrossEntropy,
    confidence_penalty_loss,
    entropic_binary_cross_entropy,
    entropic_cross_entropy,
    entropic_gaussian_nll,
    focal_loss,
    supervised,
)

F64 = torch.float64
SHAPES = [(5,), (7, 5), (7, 5, 3), (4, 5, 3, 2)]


def normal(*shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def classes(*shape, n=5, seed=1):
    return torch.randint(n, shape, generator=torch.Generator().manual_seed(seed))


def without_classes(shape):
    return shape[:1] + shape[2:] if len(shape) > 1 else ()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["indices", "ignored", "soft"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_coefficient_it_is_torch_cross_entropy(shape, reduction, kind, weighted, smoothing):
    logits = normal(*shape).requires_grad_()
    weight = torch.tensor([0.5, 1.0, 2.0, 0.0, 1.5], dtype=F64) if weighted else None
    axis = min(1, len(shape) - 1)
    target = normal(*shape, seed=2).softmax(axis) if kind == "soft" else classes(*without_classes(shape))
    if kind == "ignored" and target.ndim:
        target.view(-1)[::3] = 3
    options = {"weight": weight, "label_smoothing": smoothing, "ignore_index": 3 if kind == "ignored" else -100}
    ours = EntropicCrossEntropy(reduction=reduction, **options)(logits, target)
    theirs = F.cross_entropy(logits, target, reduction=reduction, **options)
    assert (ours - theirs).abs().nan_to_num(0.0).max() <= 1e-7
    assert torch.equal(ours.isnan(), theirs.isnan())  # a mean over nothing
    if not theirs.isnan().any():
        ours_slope, their_slope = (grad(loss.sum(), logits)[0] for loss in (ours, theirs))
        assert (ours_slope - their_slope).abs().max() <= 1e-7


def test_in_single_precision_it_is_torch_cross_entropy_to_rounding():
    logits, target = normal(500, 5).float(), classes(500)
    torch.testing.assert_close(
        entropic_cross_entropy(logits, target), F.cross_entropy(logits, target, reduction="none"), rtol=1e-6, atol=1e-7
    )


def test_module_is_a_cross_entropy_loss_with_its_names():
    module = EntropicCrossEntropy(torch.ones(3), ent_coef=0.1)
    assert isinstance(module, nn.CrossEntropyLoss)
    assert "ent_coef=0.1" in repr(module)
    assert list(module.state_dict()) == ["weight"]
    with pytest.raises(ValueError, match=r"^reduction must be mean, sum or none, got 'average'$"):
        EntropicCrossEntropy(reduction="average")


def test_module_subtracts_the_mean_entropy():
    logits, target = normal(6, 4), classes(6, n=4)
    loss = EntropicCrossEntropy(ent_coef=0.3)(logits, target)
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    assert loss.item() == pytest.approx((F.cross_entropy(logits, target) - 0.3 * entropy.mean()).item(), abs=1e-12)


@pytest.mark.parametrize("soft", [False, True])
def test_gradient_is_the_closed_form(soft):
    # dL/dz_j = p_j - y_j + c p_j (log p_j + H)
    logits = normal(50, 6, scale=4.0).requires_grad_()
    target = normal(50, 6, seed=3).softmax(-1) if soft else classes(50, n=6)
    y = target if soft else F.one_hot(target, 6)
    p, log_p = logits.softmax(-1), logits.log_softmax(-1)
    entropy = -(p * log_p).sum(-1, keepdim=True)
    expected = p - y + 0.7 * p * (log_p + entropy)
    loss = entropic_cross_entropy(logits, target, ent_coef=0.7)
    assert (grad(loss.sum(), logits)[0] - expected).abs().max() <= 1e-10


def test_first_and_second_derivatives_agree_with_finite_differences():
    target = classes(3, n=4)
    assert gradcheck(lambda z: entropic_cross_entropy(z, target, ent_coef=0.4), normal(3, 4).requires_grad_())
    assert torch.autograd.gradgradcheck(
        lambda z: entropic_cross_entropy(z, target, ent_coef=0.4), normal(3, 4).requires_grad_()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: entropic_cross_entropy(z, y, ent_coef=0.5, label_smoothing=0.1),
        lambda z, y: confidence_penalty_loss(z, y, ent_coef=0.5, max_entropy=0.3),
        lambda z, y: focal_loss(z, y, focusing=0.5),
        lambda z, y: entropic_binary_cross_entropy(z, F.one_hot(y, 3).to(z.dtype), ent_coef=0.5).sum(-1),
    ],
    ids=["cross-entropy", "penalty", "focal", "binary"],
)
def test_extreme_logits_have_finite_value_and_gradient(loss, dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, 0.0], [1e4, 1e4, 1e4]], dtype=dtype)
    logits.requires_grad_()
    for label in range(3):
        value = loss(logits, torch.full((4,), label))
        assert value.isfinite().all()
        assert grad(value.sum(), logits)[0].isfinite().all()


def test_weight_weighs_the_entropy_too():
    logits, target, weight = normal(6, 3), classes(6, n=3), torch.tensor([0.5, 1.0, 3.0], dtype=F64)
    plain = entropic_cross_entropy(logits, target, ent_coef=0.2)
    torch.testing.assert_close(
        entropic_cross_entropy(logits, target, ent_coef=0.2, weight=weight), weight[target] * plain
    )


def test_ignored_elements_have_no_value_and_no_gradient():
    logits = normal(4, 3).requires_grad_()
    target = torch.tensor([0, -100, 2, -100])
    loss = entropic_cross_entropy(logits, target, ent_coef=0.2)
    slope = grad(loss.sum(), logits)[0]
    assert loss[[1, 3]].tolist() == [0.0, 0.0]
    assert slope[[1, 3]].abs().max() == 0.0
    assert slope[[0, 2]].abs().min() > 0.0


def test_masked_classes_are_as_if_they_were_not_there():
    logits = normal(5, 4).requires_grad_()
    mask = torch.tensor([True, False, True, True])
    target = torch.tensor([0, 2, 3, 0, 2])
    renamed = torch.tensor([0, 9, 1, 2])[target]
    loss = entropic_cross_entropy(logits, target, ent_coef=0.3, label_smoothing=0.1, mask=mask)
    alone = entropic_cross_entropy(logits[:, mask], renamed, ent_coef=0.3, label_smoothing=0.1)
    torch.testing.assert_close(loss, alone)
    assert grad(loss.sum(), logits)[0][:, 1].abs().max() == 0.0


def test_mask_is_laid_out_as_the_logits():
    logits, target = normal(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[0, 2, 1] = False
    loss = entropic_cross_entropy(logits, target, ent_coef=0.3, mask=mask)
    assert loss[0, 1] == entropic_cross_entropy(logits[:1, :2, 1], target[:1, 1], ent_coef=0.3)[0]


def test_runs_have_their_own_coefficient():
    logits, target, coefficients = normal(3, 6, 4), classes(3, 6, n=4), torch.tensor([[0.0], [0.1], [1.0]])
    loss = entropic_cross_entropy(logits, target, ent_coef=coefficients, dim=-1)
    for run in range(3):
        alone = entropic_cross_entropy(logits[run], target[run], ent_coef=coefficients[run].item())
        torch.testing.assert_close(loss[run], alone)


def test_label_smoothing_is_a_mixture_with_the_cross_entropy_to_uniform():
    logits, target = normal(6, 4), classes(6, n=4)
    uniform = torch.full((6, 4), 0.25, dtype=F64)
    mixture = 0.9 * entropic_cross_entropy(logits, target) + 0.1 * entropic_cross_entropy(logits, uniform)
    torch.testing.assert_close(entropic_cross_entropy(logits, target, label_smoothing=0.1), mixture)


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (torch.tensor([0, 3]), {}, r"^target: expected class indices from 0 to 2, which element \[1\] does not hold$"),
        (torch.tensor([0, 1, 2]), {}, r"target must have shape \(2,\) .* or \(2, 3\) .* got \(3,\) of torch.int64"),
        (torch.ones(2, 2), {}, r"shapes must agree, got logits \(2, 3\), target \(2, 2\)"),
        (torch.tensor([0, 1]), {"mask": torch.tensor([True, False, True])}, r"expected classes that the mask allows"),
        (torch.tensor([0, 1]), {"label_smoothing": 1.5}, r"^label_smoothing must be in \[0, 1\], got 1.5$"),
    ],
)
def test_bad_targets_are_refused_in_a_sentence(target, options, words):
    with pytest.raises(ValueError, match=words):
        entropic_cross_entropy(torch.zeros(2, 3), target, **options)


# The optimum


def fit(target_probs, ent_coef, steps=60):
    """Logits at the minimum of the expected loss, by L-BFGS."""
    logits = torch.zeros_like(target_probs).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], lr=1.0, max_iter=steps, tolerance_grad=1e-14, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = entropic_cross_entropy(logits, target_probs, ent_coef=ent_coef).sum()
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    return logits.detach()


CAPS = {
    2: [0.99995, 0.98318, 0.90183, 0.78219, 0.67674],
    3: [0.99991, 0.96880, 0.84287, 0.68350, 0.55269],
    10: [0.99959, 0.90309, 0.67890, 0.47596, 0.33288],
}


@pytest.mark.parametrize("n_classes", CAPS)
def test_confidence_on_separable_data_is_capped_as_published(n_classes):
    for ent_coef, cap in zip([0.1, 0.25, 0.5, 1.0, 2.0], CAPS[n_classes], strict=True):
        p = fit(F.one_hot(torch.tensor([0]), n_classes).to(F64), ent_coef).softmax(-1)
        assert p[0, 0].item() == pytest.approx(cap, abs=1e-3)


@pytest.mark.parametrize(("ent_coef", "fitted"), [(0.1, 0.7783), (0.25, 0.7487), (0.5, 0.7083), (1.0, 0.6551)])
def test_a_posterior_of_four_fifths_is_fitted_as_published(ent_coef, fitted):
    p = fit(torch.tensor([[0.8, 0.2]], dtype=F64), ent_coef).softmax(-1)
    assert p[0, 0].item() == pytest.approx(fitted, abs=1e-3)


# Neighbours


def test_confidence_penalty_without_threshold_is_the_entropic_loss():
    logits, target = normal(6, 4), classes(6, n=4)
    torch.testing.assert_close(
        confidence_penalty_loss(logits, target, ent_coef=0.1), entropic_cross_entropy(logits, target, ent_coef=0.1)
    )


def test_confidence_penalty_is_the_published_hinge_less_a_constant():
    logits, target = normal(40, 4), classes(40, n=4)
    hinge = F.cross_entropy(logits, target, reduction="none") + 0.1 * F.relu(0.8 - categorical_entropy(logits))
    ours = confidence_penalty_loss(logits, target, ent_coef=0.1, max_entropy=0.8)
    torch.testing.assert_close(ours, hinge - 0.1 * 0.8)


@pytest.mark.parametrize("focusing", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_focal_loss_is_the_literal_form(focusing):
    logits, target = normal(30, 4).requires_grad_(), classes(30, n=4)
    p = logits.softmax(-1).gather(1, target.unsqueeze(1)).squeeze(1)
    literal = -((1 - p) ** focusing) * p.log()
    ours = focal_loss(logits, target, focusing=focusing)
    torch.testing.assert_close(ours, literal)
    torch.testing.assert_close(grad(ours.sum(), logits)[0], grad(literal.sum(), logits)[0])


def test_focal_loss_is_finite_where_the_probability_rounds_to_one():
    # There (1 - p_y)^.5 is 0 with an infinite slope, and the literal form's gradient NaN.
    logits = torch.tensor([[40.0, 0.0]], dtype=F64, requires_grad=True)
    value = focal_loss(logits, torch.tensor([0]), focusing=0.5)
    assert 0.0 <= value.item() < 1e-25  # exp(-60) is 9e-27
    assert grad(value.sum(), logits)[0].abs().max() < 1e-20


def test_focal_loss_is_an_upper_bound_of_the_entropic_loss():
    logits, target = normal(500, 5, scale=3.0), classes(500)
    for focusing in (1.0, 2.0, 5.0):
        bound = focal_loss(logits, target, focusing=focusing)
        assert (bound >= entropic_cross_entropy(logits, target, ent_coef=focusing) - 1e-12).all()


def test_focal_loss_takes_layouts_and_ignored_elements():
    logits, target = normal(2, 3, 4), classes(2, 4, n=3)
    target[0, 0] = -100
    loss = focal_loss(logits, target)
    assert loss[0, 0] == 0.0
    torch.testing.assert_close(loss[:, 1], focal_loss(logits[:, :, 1], target[:, 1]))
    with pytest.raises(ValueError, match="class indices"):
        focal_loss(logits, logits)
    with pytest.raises(ValueError, match=r"^focusing must be in \[0, inf\), got -1.0$"):
        focal_loss(logits, target, focusing=-1.0)


# Multi-label and regression


def test_binary_loss_without_coefficient_is_torch_binary_cross_entropy():
    logits, target, weight = normal(6, 4), classes(6, 4, n=2).to(F64), torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=F64)
    theirs = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weight)
    torch.testing.assert_close(entropic_binary_cross_entropy(logits, target, pos_weight=weight), theirs)


def test_binary_loss_is_the_two_class_loss():
    logits, target = normal(8).requires_grad_(), classes(8, n=2)
    pos_weight = torch.tensor(2.5, dtype=F64)
    weight = torch.stack([torch.ones_like(pos_weight), pos_weight])
    both = torch.stack([torch.zeros_like(logits), logits], -1)
    pair = entropic_cross_entropy(both, target, ent_coef=0.3, weight=weight)
    ours = entropic_binary_cross_entropy(logits, target.to(F64), ent_coef=0.3, pos_weight=pos_weight)
    torch.testing.assert_close(ours, pair)
    torch.testing.assert_close(grad(ours.sum(), logits)[0], grad(pair.sum(), logits)[0])


def test_gaussian_loss_is_torch_gaussian_log_likelihood_less_the_entropy():
    mean, log_std, target = (
        normal(5, 3).requires_grad_(),
        normal(5, 3, seed=1, scale=0.5).requires_grad_(),
        normal(5, 3),
    )
    law = torch.distributions.Normal(mean, log_std.exp())
    expected = (-law.log_prob(target) - 0.2 * law.entropy()).sum(-1)
    torch.testing.assert_close(entropic_gaussian_nll(mean, log_std, target, ent_coef=0.2), expected)


@pytest.mark.parametrize("ent_coef", [0.0, 0.3, 0.9])
def test_gaussian_loss_is_stationary_at_the_inflated_variance(ent_coef):
    # residuals +-2: variance 4, fitted variance 4 / (1 - c)
    target = torch.tensor([[-2.0], [2.0]], dtype=F64)
    mean = torch.zeros(2, 1, dtype=F64, requires_grad=True)
    log_std = torch.full((2, 1), 0.5 * math.log(4 / (1 - ent_coef)), dtype=F64, requires_grad=True)
    slopes = grad(entropic_gaussian_nll(mean, log_std, target, ent_coef=ent_coef).sum(), (mean, log_std))
    assert slopes[0].sum().item() == pytest.approx(0.0, abs=1e-12)
    assert slopes[1].abs().max().item() == pytest.approx(0.0, abs=1e-12)


def test_module_follows_a_schedule_in_training_alone():
    module = EntropicCrossEntropy(ent_coef="linear:1:0", n_steps=4)
    logits, target = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.arange(5) % 3
    seen = []
    for _ in range(5):
        module(logits, target)
        seen.append(module.ent_coef)
        with torch.no_grad():
            module(logits, target)
    assert seen == [1.0, 0.75, 0.5, 0.25, 0.0]
    module.eval()
    torch.testing.assert_close(module(logits, target), F.cross_entropy(logits, target))


@pytest.mark.slow
def test_module_steers_to_its_target_and_goes_on_from_its_state():
    def train(module, steps, logits):
        for _ in range(steps):
            module(logits, target).backward()
            with torch.no_grad():
                logits -= 2.0 * logits.grad
            logits.grad = None
        return categorical_entropy(logits.detach()).mean().item()

    target = torch.arange(6) % 3
    module, logits = (
        EntropicCrossEntropy(ent_coef="target:0.6"),
        torch.zeros(6, 3, dtype=torch.float64, requires_grad=True),
    )
    assert train(module, 1500, logits) == pytest.approx(0.6, abs=0.01)
    again, copy = EntropicCrossEntropy(ent_coef="target:0.6"), logits.detach().clone().requires_grad_()
    again.load_state_dict(module.state_dict())
    train(module, 5, logits)
    train(again, 5, copy)
    assert again.ent_coef == module.ent_coef
    assert copy.equal(logits)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ent_coef": "linear:1:0"}, "n_steps must say"),
        ({"ent_coef": "auto"}, "no target is everyone's"),
        ({"ent_coef": "half"}, "expected a number, a schedule"),
    ],
)
def test_module_refuses_what_is_no_coefficient(options, words):
    with pytest.raises(ValueError, match=words):
        EntropicCrossEntropy(**options)


# Many logits, which go through the operator


def many(n_rows=700, n_classes=100):
    g = torch.Generator().manual_seed(0)
    logits, target = 4.0 * torch.randn(n_rows, n_classes, generator=g), torch.randint(n_classes, (n_rows,), generator=g)
    target[::7] = -100
    return logits, target


@pytest.mark.parametrize("ent_coef", [0.0, 0.3])
@pytest.mark.parametrize("options", [{}, {"weight": torch.linspace(0.0, 2.0, 100)}, {"mask": True}, {"dim": -1}])
def test_many_logits_at_once_are_those_of_a_few_at_a_time(ent_coef, options):
    logits, target = many()
    logits = logits.requires_grad_()
    if "mask" in options:
        allowed = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.5
        allowed.scatter_(1, target.clamp(min=0).unsqueeze(1), True)
        options = {"mask": allowed}
    together = entropic_cross_entropy(logits, target, ent_coef=ent_coef, **options)
    parts = []
    for rows in torch.arange(len(target)).split(50):
        own = {"mask": options["mask"][rows]} if "mask" in options else options
        parts.append(entropic_cross_entropy(logits[rows], target[rows], ent_coef=ent_coef, **own))
    assert logits.numel() >= supervised._LARGE > 50 * 100
    torch.testing.assert_close(together, torch.cat(parts), rtol=2e-6, atol=2e-6)
    own, other = (torch.autograd.grad(x.sum(), logits)[0] for x in (together, torch.cat(parts)))
    torch.testing.assert_close(own, other, rtol=1e-5, atol=2e-6)
    assert own[::7].eq(0.0).all()


def test_many_logits_without_machine_code(monkeypatch):
    logits, target = many()
    own = entropic_cross_entropy(logits, target, ent_coef=0.3)
    monkeypatch.setattr(supervised, "has_machine_code", lambda: False)
    torch.testing.assert_close(own, entropic_cross_entropy(logits, target, ent_coef=0.3), rtol=2e-6, atol=2e-6)


def test_a_class_that_is_not_there_is_refused_among_many():
    logits, target = many()
    target[3] = 100
    with pytest.raises(ValueError, match="expected class indices from 0 to 99"):
        entropic_cross_entropy(logits, target)


def test_compilers_take_the_loss_of_many_logits():
    logits, target = many()
    f = torch.compile(lambda z: log_prob_of(z, target), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(f(logits), log_prob_of(logits, target))


def log_prob_of(logits, target):
    return supervised._log_prob_and_entropy(logits, target.clamp(min=0))[0]
