"""Losses by hand-derived numbers; what is constant gets no gradient."""

import math

import pytest
import torch
from torch.autograd import grad, gradcheck

from entropic_rl.entropy import categorical_entropy
from entropic_rl.losses import (
    check_same_shape,
    clipped_surrogate_loss,
    clipped_value_loss,
    entropic_loss,
    policy_gradient_loss,
    value_loss,
)


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_entropic_loss_subtracts_the_weighted_entropy():
    loss = entropic_loss(leaf(1.0, 2.0), leaf(0.5, 0.25), ent_coef=0.1)
    assert loss.tolist() == pytest.approx([0.95, 1.975])


def test_zero_coefficient_gives_the_plain_loss():
    data_loss = leaf(1.0, -2.0)
    assert torch.equal(entropic_loss(data_loss, leaf(0.5, 0.25), ent_coef=0.0), data_loss)


def test_coefficient_of_each_run_broadcasts_over_its_batch():
    loss = entropic_loss(torch.zeros(2, 3), torch.ones(2, 3), ent_coef=torch.tensor([[0.1], [0.2]]))
    torch.testing.assert_close(loss, torch.tensor([[-0.1] * 3, [-0.2] * 3]))


def test_entropic_loss_sends_gradient_to_loss_entropy_and_coefficient():
    assert gradcheck(lambda x, h, c: entropic_loss(x, h, ent_coef=c), (leaf(1.0, 2.0), leaf(0.5, 0.2), leaf(0.1)))


def test_entropic_bandit_objective_is_stationary_at_softmax_of_reward_over_coefficient():
    # E_p[r] + c H(p) is maximal at p = softmax(r / c), where it is c logsumexp(r / c).
    reward, coefficient = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64), 0.4
    logits = (reward / coefficient).requires_grad_()
    data_loss = -(logits.softmax(-1) * reward).sum(-1)
    loss = entropic_loss(data_loss, categorical_entropy(logits), ent_coef=coefficient)
    assert loss.item() == pytest.approx(
        -coefficient * math.log(sum(math.exp(r / coefficient) for r in reward.tolist()))
    )
    torch.testing.assert_close(grad(loss, logits)[0], torch.zeros(3, dtype=torch.float64))


def test_bandit_gradient_equals_finite_differences_of_the_objective():
    reward = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64)

    def objective(z):
        p = z.softmax(-1)
        return -(p * reward).sum().item() + 0.3 * (p * p.log()).sum().item()

    logits = leaf(0.3, -0.4, 0.9)
    # Enumerating the actions makes the policy-gradient estimate exact: sum_a p_a (-log p_a r_a) under a constant p_a.
    surrogate = (logits.detach().softmax(-1) * policy_gradient_loss(logits.log_softmax(-1), reward)).sum()
    (gradient,) = grad(entropic_loss(surrogate, categorical_entropy(logits), ent_coef=0.3), logits)
    h, z = 1e-6, logits.detach()
    numeric = [(objective(z + h * e) - objective(z - h * e)) / (2 * h) for e in torch.eye(3, dtype=torch.float64)]
    assert gradient.tolist() == pytest.approx(numeric, abs=1e-8)


def test_policy_gradient_loss_by_hand_with_constant_advantage():
    log_prob, advantage = leaf(-0.5, -2.0), leaf(3.0, -1.0)
    loss = policy_gradient_loss(log_prob, advantage)
    assert loss.tolist() == [1.5, -2.0]
    gradients = grad(loss.sum(), (log_prob, advantage), allow_unused=True)
    assert gradients[0].tolist() == [-3.0, 1.0]
    assert gradients[1] is None


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        # clip range .2; loss = -min(r A, clip(r, .8, 1.2) A); d loss / d log_prob = -r A where r A is the smaller.
        (1.1, 2.0, -2.2, -2.2),  # inside
        (1.1, -2.0, 2.2, 2.2),
        (1.5, 2.0, -2.4, 0.0),  # good action, already much likelier: stop
        (1.5, -2.0, 3.0, 3.0),  # bad action, likelier: push back without limit
        (0.5, 2.0, -1.0, -1.0),  # good action, less likely: push back without limit
        (0.5, -2.0, 1.6, 0.0),  # bad action, already much less likely: stop
    ],
)
def test_clipped_surrogate_in_every_quadrant(ratio, advantage, loss, slope):
    log_prob = leaf(math.log(ratio) - 1.3)
    value = clipped_surrogate_loss(log_prob, leaf(-1.3), leaf(advantage), clip_range=0.2)
    assert value.item() == pytest.approx(loss)
    assert grad(value.sum(), log_prob)[0].item() == pytest.approx(slope)


def test_clipped_surrogate_at_the_old_policy_has_the_policy_gradient():
    log_prob, advantage = leaf(-1.0, -0.2, -3.0), torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    loss = clipped_surrogate_loss(log_prob, log_prob, advantage, clip_range=0.2)
    assert loss.tolist() == [-2.0, 1.0, -0.5]
    assert grad(loss.sum(), log_prob)[0].tolist() == [-2.0, 1.0, -0.5]


def test_clipped_surrogate_treats_old_policy_and_advantage_as_constants():
    old_log_prob, advantage = leaf(-1.0), leaf(2.0)
    loss = clipped_surrogate_loss(leaf(-0.9), old_log_prob, advantage, clip_range=0.2)
    assert grad(loss.sum(), (old_log_prob, advantage), allow_unused=True) == (None, None)


def test_clip_range_of_each_run_broadcasts():
    log_prob = torch.full((2, 1), math.log(1.5))
    clip_range = torch.tensor([[0.1], [0.4]])
    loss = clipped_surrogate_loss(log_prob, torch.zeros(2, 1), torch.ones(2, 1), clip_range=clip_range)
    torch.testing.assert_close(loss, torch.tensor([[-1.1], [-1.4]]))


def test_value_loss_is_the_plain_square_of_the_distance_to_a_constant_target():
    value, target = leaf(1.0, 3.0), leaf(2.0, 1.0)
    loss = value_loss(value, target)
    assert loss.tolist() == [1.0, 4.0]
    gradients = grad(loss.sum(), (value, target), allow_unused=True)
    assert gradients[0].tolist() == [-2.0, 4.0]
    assert gradients[1] is None


def test_clipped_value_loss_by_hand():
    # old 1, target 3, range .5: 1.2 -> (1.2 - 3)^2; 2.5 is read as 1.5 -> (1.5 - 3)^2 without gradient; 0 as .5.
    value, old, target = leaf(1.2, 2.5, 0.0), leaf(1.0, 1.0, 1.0), leaf(3.0, 3.0, 3.0)
    loss = clipped_value_loss(value, old, target, clip_range_vf=0.5)
    assert loss.tolist() == pytest.approx([3.24, 2.25, 6.25])
    gradients = grad(loss.sum(), (value, old, target), allow_unused=True)
    assert gradients[0].tolist() == pytest.approx([-3.6, 0.0, 0.0])
    assert gradients[1:] == (None, None)


@pytest.mark.parametrize(
    ("loss", "n_inputs"),
    [
        (lambda *x: entropic_loss(*x, ent_coef=0.1), 2),
        (policy_gradient_loss, 2),
        (lambda *x: clipped_surrogate_loss(*x, clip_range=0.2), 3),
        (value_loss, 2),
        (lambda *x: clipped_value_loss(*x, clip_range_vf=0.2), 3),
    ],
)
def test_every_loss_refuses_to_broadcast(loss, n_inputs):
    assert loss(*[torch.zeros(4, 3)] * n_inputs).shape == (4, 3)
    with pytest.raises(ValueError, match=r"shapes must agree, got .*\(4, 3\).*\(4, 1\)"):
        loss(*[torch.zeros(4, 3)] * (n_inputs - 1), torch.zeros(4, 1))


def test_shape_error_names_every_argument():
    with pytest.raises(ValueError, match=r"^shapes must agree, got reward \(2,\), value \(2, 1\)$"):
        check_same_shape(reward=torch.zeros(2), value=torch.zeros(2, 1))
