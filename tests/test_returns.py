"""Advantages and returns against naive loops over single trajectories, known fixed points and Stable-Baselines3."""

import numpy as np
import pytest
import torch

from entropic_rl.returns import gae, n_step_returns


def random_rollout(*shape, seed=0, p_end=0.15):
    g = torch.Generator().manual_seed(seed)
    reward, value, next_value = (torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(3))
    terminated, truncated = (torch.rand(*shape, generator=g) < p_end for _ in range(2))
    return reward, value, next_value, terminated, truncated


def naive_advantage(rollout, gamma, lam):
    """Eq. 16 on one trajectory: A_t = sum_l (gamma lambda)^l delta_{t+l}, up to the end of the episode."""
    reward, value, next_value, terminated, truncated = rollout
    advantages = []
    for t in range(len(reward)):
        total, weight = 0.0, 1.0
        for i in range(t, len(reward)):
            bootstrap = 0.0 if terminated[i] else next_value[i]
            total += weight * (reward[i] + gamma * bootstrap - value[i])
            if terminated[i] or truncated[i]:
                break
            weight *= gamma * lam
        advantages.append(total)
    return advantages


def naive_return(rollout, gamma, t):
    """Discounted rewards from t to the end of the episode or rollout, and what the bootstrap adds there."""
    reward, next_value, terminated, truncated = rollout
    total, weight = 0.0, 1.0
    for i in range(t, len(reward)):
        total += weight * reward[i]
        weight *= gamma
        if terminated[i]:
            return total
        if truncated[i]:
            break
    return total + weight * next_value[i]


def test_three_steps_by_hand():
    # gamma .5, lambda .5; delta = (1 + .5*4 - 2, 2 + .5*2 - 4, 3 + 0 - 2) = (1, -1, 1); A_2 = 1, A_1 = -1 + .25 = -.75,
    # A_0 = 1 + .25 * -.75 = .8125.
    reward, value, next_value = (torch.tensor(x) for x in ([1.0, 2.0, 3.0], [2.0, 4.0, 2.0], [4.0, 2.0, 9.0]))
    terminated, truncated = torch.tensor([False, False, True]), torch.zeros(3, dtype=torch.bool)
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=0.5, gae_lambda=0.5)
    assert advantage.tolist() == [0.8125, -0.75, 1.0]


def test_gae_equals_a_naive_loop_over_each_trajectory_with_its_own_gamma_and_lambda():
    rollout = random_rollout(25, 3, 4)
    gammas, lambdas = [0.9, 0.99, 1.0], [0.8, 0.0, 1.0]
    gamma, gae_lambda = (torch.tensor(x, dtype=torch.float64).view(3, 1) for x in (gammas, lambdas))
    advantage = gae(*rollout, gamma=gamma, gae_lambda=gae_lambda)
    for r in range(3):
        for e in range(4):
            trajectory = [x[:, r, e].tolist() for x in rollout]
            assert advantage[:, r, e].tolist() == pytest.approx(naive_advantage(trajectory, gammas[r], lambdas[r]))


def test_n_step_returns_equal_a_naive_loop_over_each_trajectory():
    reward, _, *rest = random_rollout(20, 5)
    returns = n_step_returns(reward, *rest, gamma=0.9)
    for e in range(5):
        trajectory = [x[:, e].tolist() for x in (reward, *rest)]
        assert returns[:, e].tolist() == pytest.approx([naive_return(trajectory, 0.9, t) for t in range(20)])


def test_lambda_one_gives_return_minus_value():
    reward, value, _, terminated, truncated = random_rollout(20, 6)
    next_value = torch.cat([value[1:], torch.ones(1, 6, dtype=torch.float64)])  # consistent values telescope
    ends = terminated | truncated
    next_value = torch.where(ends, 5.0, next_value)  # at an end it is another observation's value
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=0.97, gae_lambda=1.0)
    returns = n_step_returns(reward, next_value, terminated, truncated, gamma=0.97)
    torch.testing.assert_close(advantage + value, returns)


def test_lambda_zero_gives_the_one_step_error():
    reward, value, next_value, terminated, truncated = random_rollout(10, 2)
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=0.9, gae_lambda=0.0)
    torch.testing.assert_close(advantage, reward + 0.9 * next_value * ~terminated - value)


def test_termination_drops_the_bootstrap_and_truncation_keeps_it():
    one = torch.ones(1)
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert gae(one, 2 * one, 10 * one, yes, no, gamma=0.5, gae_lambda=0.9).item() == -1.0  # 1 - 2
    assert gae(one, 2 * one, 10 * one, no, yes, gamma=0.5, gae_lambda=0.9).item() == 4.0  # 1 + 5 - 2
    assert gae(one, 2 * one, 10 * one, yes, yes, gamma=0.5, gae_lambda=0.9).item() == -1.0  # termination wins


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_nothing_flows_back_across_an_end(end):
    rollout = dict(
        zip(("reward", "value", "next_value", "terminated", "truncated"), random_rollout(6, p_end=0.0), strict=True)
    )
    rollout[end][2] = True
    before = gae(**rollout, gamma=0.9, gae_lambda=0.9)
    rollout["reward"][3:] += 100.0
    after = gae(**rollout, gamma=0.9, gae_lambda=0.9)
    assert torch.equal(before[:3], after[:3])
    assert (after[3:] > before[3:]).all()


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_constant_reward_under_a_time_limit_has_the_value_of_the_endless_task(gae_lambda):
    # Trap T1: V = r / (1 - gamma) although episodes are cut every 4 steps; counting the cut as an end gives less.
    gamma, reward = 0.9, torch.full((12,), 2.0, dtype=torch.float64)
    truncated, never = torch.arange(1, 13) % 4 == 0, torch.zeros(12, dtype=torch.bool)
    value = torch.zeros(12, dtype=torch.float64)
    for _ in range(300):
        value_next = torch.full_like(value, value.mean())
        value = value + gae(reward, value, value_next, never, truncated, gamma=gamma, gae_lambda=gae_lambda)
    torch.testing.assert_close(value, torch.full_like(value, 2.0 / (1.0 - gamma)))


def test_gae_agrees_with_the_buffer_of_stable_baselines3():
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    T, E, gamma, lam = 32, 3, 0.97, 0.9
    reward, value, _, terminated, truncated = random_rollout(T, E)
    truncated &= ~terminated
    ended = terminated | truncated
    final_value = torch.randn(T, E, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    last_value = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    next_value = torch.where(ended, final_value, torch.cat([value[1:], last_value.unsqueeze(0)]))
    box = spaces.Box(-1.0, 1.0, (1,))
    buffer = RolloutBuffer(T, box, box, device="cpu", gae_lambda=lam, gamma=gamma, n_envs=E)
    start = np.ones(E)
    for t in range(T):
        # Stable-Baselines3 adds the bootstrap of a truncation to the reward.
        shaped = reward[t] + gamma * final_value[t] * truncated[t]
        buffer.add(np.zeros((E, 1)), np.zeros((E, 1)), shaped.numpy(), start, value[t], torch.zeros(E))
        start = ended[t].numpy()
    buffer.compute_returns_and_advantage(last_value, start)
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=gamma, gae_lambda=lam)
    np.testing.assert_allclose(advantage.numpy(), buffer.advantages, rtol=1e-6, atol=1e-6)


def test_arguments_that_do_not_agree_are_refused():
    rollout = random_rollout(5, 2)
    with pytest.raises(ValueError, match=r"shapes must agree, .*truncated \(5, 1\)"):
        gae(*rollout[:-1], rollout[-1][:, :1], gamma=0.9, gae_lambda=0.9)
