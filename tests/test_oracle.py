"""Exact solutions against brute force, closed forms and limits."""

import itertools
import math

import pytest
import torch

from entropic_rl.envs import oracle
from entropic_rl.envs.chain import Chain
from entropic_rl.envs.four_rooms import FourRooms
from entropic_rl.envs.oracle import (
    bandit_optimum,
    compare,
    evaluate_policy,
    loss_only_fixed_point,
    soft_value_iteration,
    visitation,
)
from entropic_rl.envs.tabular import TabularMDP

FAMILIES = [("shannon", 1.0), ("tsallis", 2.0), ("tsallis", 1.5), ("tsallis", 0.5)]


def random_mdp(seed, n_states=5, n_actions=3):
    generator = torch.Generator().manual_seed(seed)
    transition = torch.rand(n_states, n_actions, n_states, generator=generator, dtype=torch.float64) ** 4
    reward = torch.randn(n_states, n_actions, generator=generator, dtype=torch.float64)
    start = torch.rand(n_states, generator=generator, dtype=torch.float64)
    start[-1] = 0.0  # the last state is terminal
    terminal = torch.zeros(n_states, dtype=torch.bool)
    terminal[-1] = True
    return TabularMDP(transition / transition.sum(-1, keepdim=True), reward, start / start.sum(), terminal)


def bandit(rewards):
    """One decision, then the end."""
    n = len(rewards)
    transition = torch.zeros(2, n, 2)
    transition[:, :, 1] = 1.0
    reward = torch.tensor([rewards, [0.0] * n], dtype=torch.float64)
    return TabularMDP(transition, reward, torch.tensor([1.0, 0.0]), torch.tensor([False, True]))


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_bandit_optimum_is_the_softmax_of_reward_over_temperature(temperature):
    solution = soft_value_iteration(bandit([0.0, 0.5, 1.0]), temperature, 0.9)
    exact = bandit_optimum(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), temperature)
    torch.testing.assert_close(solution.policy[0], exact, rtol=1e-12, atol=1e-14)
    # V = temperature * log sum exp(r / temperature)
    expected = temperature * math.log(sum(math.exp(r / temperature) for r in (0.0, 0.5, 1.0)))
    assert solution.value[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0])
def test_shannon_optimum_equals_plain_soft_value_iteration(seed, temperature):
    mdp = random_mdp(seed)
    value = torch.zeros(5, dtype=torch.float64)
    for _ in range(600):  # .9^600 = 3e-28
        going_on = (~mdp.terminal).double()
        q_value = mdp.reward + 0.9 * (mdp.transition @ (value * going_on))
        value = temperature * (q_value / temperature).logsumexp(1)
    solution = soft_value_iteration(mdp, temperature, 0.9)
    torch.testing.assert_close(solution.value[:-1], value[:-1], rtol=0.0, atol=1e-10)
    torch.testing.assert_close(solution.policy[:-1], (q_value / temperature).softmax(1)[:-1], rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(("entropy", "index"), FAMILIES)
@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_no_policy_beats_the_optimum_in_any_state(entropy, index, temperature):
    mdp = random_mdp(7)
    options = {"temperature": temperature, "entropy": entropy, "index": index}
    best = soft_value_iteration(mdp, temperature, 0.9, entropy=entropy, index=index)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 1e-3, 0.1, 1.0):
        noise = torch.rand(200, 5, 3, generator=generator, dtype=torch.float64)
        noise = noise / noise.sum(-1, keepdim=True)
        for policy in (1 - scale) * best.policy + scale * noise:
            value = evaluate_policy(mdp, policy, 0.9, **options)
            assert (value <= best.value + 1e-10).all()


@pytest.mark.parametrize("seed", range(4))
def test_temperature_zero_gives_the_best_deterministic_policy(seed):
    mdp = random_mdp(seed, n_states=4)
    solution = soft_value_iteration(mdp, 0.0, 0.95)
    returns = []
    for choice in itertools.product(range(3), repeat=4):
        policy = torch.nn.functional.one_hot(torch.tensor(choice), 3).double()
        returns.append(float(mdp.start @ evaluate_policy(mdp, policy, 0.95)))
    assert solution.expected_return == pytest.approx(max(returns), abs=1e-10)


def test_large_temperature_gives_the_uniform_policy_where_actions_do_not_change_how_long_it_lasts():
    policy = soft_value_iteration(bandit([0.0, 0.5, 1.0]), 1e6, 0.9).policy
    torch.testing.assert_close(policy, torch.full_like(policy, 1 / 3), rtol=1e-5, atol=0.0)


def test_tsallis_entropy_of_index_two_gives_sparse_policies():
    policy = soft_value_iteration(bandit([0.0, 0.9, 1.0]), 0.2, 0.9, entropy="tsallis", index=2.0).policy[0]
    # Sparsemax of r / (2 temperature) = (0, 2.25, 2.5): support {2.25, 2.5}, threshold (4.75 - 1) / 2 = 1.875.
    torch.testing.assert_close(policy, torch.tensor([0.0, 0.375, 0.625], dtype=torch.float64), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 0.4])
def test_policy_values_equal_long_sums_over_time(temperature):
    mdp = random_mdp(3)
    policy = torch.rand(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    policy = policy / policy.sum(1, keepdim=True)
    state, total = mdp.start.clone(), 0.0
    for t in range(500):
        state = state.masked_fill(mdp.terminal, 0.0)
        bonus = temperature * -(policy * policy.log()).sum(1)
        total += 0.9**t * float(state @ ((policy * mdp.reward).sum(1) + bonus))
        state = torch.einsum("s,sa,sat->t", state, policy, mdp.transition)
    value = evaluate_policy(mdp, policy, 0.9, temperature=temperature)
    assert float(mdp.start @ value) == pytest.approx(total, abs=1e-10)


def test_visitation_is_the_discounted_share_of_time_in_each_state():
    mdp = random_mdp(5)
    policy = torch.full((5, 3), 1 / 3, dtype=torch.float64)
    state, visits = mdp.start.clone(), torch.zeros(5, dtype=torch.float64)
    for t in range(500):
        state = state.masked_fill(mdp.terminal, 0.0)
        visits += 0.9**t * state
        state = torch.einsum("s,sa,sat->t", state, policy, mdp.transition)
    torch.testing.assert_close(visitation(mdp, policy, 0.9), visits / visits.sum(), rtol=0.0, atol=1e-10)


def test_optimum_compared_with_itself_has_no_divergence_and_no_soft_regret():
    mdp = random_mdp(2)
    found = compare(soft_value_iteration(mdp, 0.3, 0.9).policy, mdp, 0.3, 0.9)
    assert found.kl == pytest.approx(0.0, abs=1e-12)
    assert found.soft_regret == pytest.approx(0.0, abs=1e-10)
    assert found.return_regret > 0.0  # the entropy costs plain return


def test_divergence_of_the_uniform_policy_on_a_bandit_is_the_hand_computed_one():
    found = compare(torch.full((2, 2), 0.5), bandit([0.0, 1.0]), 1.0, 0.9)
    # Optimum (1 / (1 + e), e / (1 + e)); KL(uniform || optimum) = -log 2 - (log p0 + log p1) / 2.
    p = math.e / (1 + math.e)
    assert found.kl == pytest.approx(-math.log(2) - 0.5 * (math.log(p) + math.log(1 - p)), rel=1e-12)
    assert found.return_regret == pytest.approx(0.5, rel=1e-12)


def test_terminal_states_are_worth_nothing_whatever_their_row_says():
    mdp = bandit([0.0, 1.0])
    paid_after_the_end = TabularMDP(mdp.transition, mdp.reward + 5.0, mdp.start, mdp.terminal)
    solution = soft_value_iteration(paid_after_the_end, 0.1, 1.0)
    assert solution.value[1].item() == 0.0
    assert solution.visitation[1].item() == 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": torch.ones(3) / 3}, r"start must have shape \(2,\)"),
        ({"start": torch.tensor([0.5, 0.4])}, "start must hold probabilities"),
        ({"transition": torch.zeros(2, 2, 2)}, "transition must hold probabilities"),
        ({"terminal": torch.zeros(1, dtype=torch.bool)}, r"terminal must have shape \(2,\)"),
    ],
)
def test_impossible_tables_are_refused(change, words):
    mdp = bandit([0.0, 1.0])
    parts = {name: getattr(mdp, name) for name in ("transition", "reward", "start", "terminal")}
    with pytest.raises(ValueError, match=words):
        TabularMDP(**(parts | change))


@pytest.mark.parametrize(("temperature", "gamma", "index"), [(-1.0, 0.9, 2.0), (0.1, 1.1, 2.0), (0.1, 0.9, 0.0)])
def test_arguments_out_of_range_are_refused(temperature, gamma, index):
    with pytest.raises(ValueError, match="must be"):
        soft_value_iteration(bandit([0.0, 1.0]), temperature, gamma, index=index)


def test_policy_of_another_shape_or_sum_is_refused():
    with pytest.raises(ValueError, match="shape"):
        evaluate_policy(bandit([0.0, 1.0]), torch.full((2, 3), 1 / 3), 0.9)
    with pytest.raises(ValueError, match="probabilities"):
        evaluate_policy(bandit([0.0, 1.0]), torch.full((2, 2), 0.4), 0.9)


# Entropy in the loss only


def action_values(mdp, policy, gamma, rounds=3000):
    """Plain ``Q^pi`` by sweeping."""
    going_on = (~mdp.terminal).double()
    q_value = torch.zeros_like(mdp.reward)
    for _ in range(rounds):
        value = (policy * q_value).sum(1) * going_on
        q_value = (mdp.reward + gamma * (mdp.transition @ value)) * going_on.unsqueeze(1)
    return q_value


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_loss_only_fixed_point_is_the_softmax_of_its_own_plain_action_values(seed, temperature):
    mdp = random_mdp(seed)
    found = loss_only_fixed_point(mdp, temperature, 0.9)
    q_value = action_values(mdp, found.policy, 0.9)
    torch.testing.assert_close(found.policy, (q_value / temperature).softmax(1), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(found.q_value, q_value, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(found.value, (found.policy * q_value).sum(1), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(found.visitation, visitation(mdp, found.policy, 0.9), rtol=0.0, atol=1e-9)
    assert found.expected_return == pytest.approx(float(mdp.start @ found.value), abs=1e-10)
    torch.testing.assert_close(found.entropy, -(found.policy * found.policy.log()).sum(1), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_on_a_bandit_it_does_not_matter_where_the_entropy_is(temperature):
    exact = bandit_optimum(torch.tensor([0.0, 0.5, 1.0]), temperature)
    found = loss_only_fixed_point(bandit([0.0, 0.5, 1.0]), temperature, 0.9).policy[0]
    torch.testing.assert_close(found, exact, rtol=0.0, atol=1e-10)


def test_without_a_future_it_does_not_matter_where_the_entropy_is():
    mdp = random_mdp(1)
    soft, loss_only = soft_value_iteration(mdp, 0.3, 0.0).policy, loss_only_fixed_point(mdp, 0.3, 0.0).policy
    torch.testing.assert_close(loss_only[:-1], soft[:-1], rtol=0.0, atol=1e-10)


def test_on_the_chain_entropy_in_the_loss_and_in_the_reward_ask_for_different_policies():
    mdp = Chain().mdp
    loss_only = loss_only_fixed_point(mdp, 0.2, 0.9)
    distance = compare(loss_only.policy, mdp, 0.2, 0.9)
    assert 0.045 < distance.kl < 0.06
    assert distance.soft_regret > 0.01
    # What it keeps of the plain return it loses in entropy: it does not seek states in which it can stay random.
    assert loss_only.expected_return > soft_value_iteration(mdp, 0.2, 0.9).expected_return


@pytest.mark.parametrize("seed", range(4))
def test_loss_only_fixed_point_is_no_better_than_the_optimum_in_any_state(seed):
    mdp = random_mdp(seed)
    policy = loss_only_fixed_point(mdp, 0.3, 0.9).policy
    value = evaluate_policy(mdp, policy, 0.9, temperature=0.3)
    assert (value <= soft_value_iteration(mdp, 0.3, 0.9).value + 1e-10).all()


def test_loss_only_fixed_point_is_uniform_at_a_large_temperature_and_greedy_at_a_small_one():
    mdp = bandit([0.0, 0.5, 1.0])
    uniform = loss_only_fixed_point(mdp, 1e6, 0.9).policy
    torch.testing.assert_close(uniform, torch.full_like(uniform, 1 / 3), rtol=1e-5, atol=0.0)
    assert loss_only_fixed_point(mdp, 1e-3, 0.9).policy[0].tolist() == pytest.approx([0.0, 0.0, 1.0], abs=1e-12)


def test_loss_only_fixed_point_of_a_grid_world_is_one():
    mdp = FourRooms().mdp
    found = loss_only_fixed_point(mdp, 0.01, 0.99)
    q_value = mdp.earned + 0.99 * (mdp.continuation @ evaluate_policy(mdp, found.policy, 0.99))
    torch.testing.assert_close(found.policy, (q_value / 0.01).softmax(1), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("temperature", [1e-6, 1e-9])
def test_loss_only_fixed_point_at_a_tiny_temperature_takes_no_longer_than_at_others(monkeypatch, temperature):
    """Where advantages are normalised the effective temperature of a settled policy is that small."""
    rounds, evaluate = [], oracle.evaluate_policy

    def counted(*arguments):
        rounds.append(arguments)
        if len(rounds) > 1000:
            raise RuntimeError("more than 1000 rounds")
        return evaluate(*arguments)

    monkeypatch.setattr(oracle, "evaluate_policy", counted)
    policy = loss_only_fixed_point(bandit([0.0, 0.5, 1.0]), temperature, 0.9).policy[0]
    assert policy.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("temperature", "gamma", "words"),
    [(0.0, 0.9, "temperature must be > 0"), (-1.0, 0.9, "temperature must be"), (0.1, 1.1, "gamma must be"),
     (math.nan, 0.9, "temperature must be")],
)  # fmt: skip
def test_loss_only_fixed_point_refuses_arguments_out_of_range(temperature, gamma, words):
    with pytest.raises(ValueError, match=words):
        loss_only_fixed_point(bandit([0.0, 1.0]), temperature, gamma)
