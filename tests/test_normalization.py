"""Running statistics against NumPy on everything seen, and the semantics of Stable-Baselines3's VecNormalize."""

import numpy as np
import pytest
import torch

from entropic_rl.normalization import ObservationNormalizer, RewardNormalizer, RunningMeanVar


def batches(*sizes, n_runs=2, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(5.0, 3.0, (n_runs, n, dim))) for n in sizes]


def sb3_statistics(rows):
    """Mean and variance of ``rows [N, D]`` and of the prior: 1e-4 rows of mean 0 and variance 1 (RunningMeanStd)."""
    n, prior = len(rows), 1e-4
    mean = rows.sum(0) / (n + prior)
    second = (prior + (rows**2).sum(0)) / (n + prior)
    return mean, second - mean**2


def test_statistics_equal_those_of_all_rows_at_once():
    statistics = RunningMeanVar(2, 3)
    seen = batches(1, 7, 20, 3)
    for batch in seen:
        statistics.update(batch)
    for r in range(2):
        mean, var = sb3_statistics(torch.cat(seen, 1)[r].numpy())
        np.testing.assert_allclose(statistics.mean[r], mean, rtol=1e-12)
        np.testing.assert_allclose(statistics.var[r], var, rtol=1e-9)
    assert statistics.count.tolist() == pytest.approx([31.0001] * 2, rel=1e-12)


def test_statistics_equal_those_of_stable_baselines3():
    from stable_baselines3.common.running_mean_std import RunningMeanStd

    ours, theirs = RunningMeanVar(1, 3), RunningMeanStd(shape=(3,))
    for batch in batches(4, 1, 9, n_runs=1):
        ours.update(batch)
        theirs.update(batch[0].numpy())
    np.testing.assert_allclose(ours.mean[0], theirs.mean, rtol=1e-12)
    np.testing.assert_allclose(ours.var[0], theirs.var, rtol=1e-12)


def test_statistics_of_a_run_do_not_depend_on_the_other_runs():
    together, alone = RunningMeanVar(2, 3), RunningMeanVar(1, 3)
    for batch in batches(5, 6):
        together.update(batch)
        alone.update(batch[1:])
    assert torch.equal(together.mean[1:], alone.mean)
    assert torch.equal(together.var[1:], alone.var)


def test_statistics_keep_their_digits_far_from_zero():
    rows = 1e8 + torch.tensor([[[0.0], [1.0], [2.0], [3.0]]], dtype=torch.float64)  # variance 1.25
    statistics = RunningMeanVar(1, 1)
    statistics.mean += 1e8
    for _ in range(50):
        statistics.update(rows)
    assert statistics.var.item() == pytest.approx(1.25, rel=1e-5)


@pytest.mark.parametrize("garbage", [0.0, 1e6, float("inf"), float("nan")])
def test_invalid_rows_do_not_count_whatever_they_hold(garbage):
    (rows,) = batches(6)
    valid = torch.tensor([[True, False, True, True, False, True], [True] * 6])
    filled = rows.masked_fill(~valid.unsqueeze(-1), garbage)
    masked, plain = RunningMeanVar(2, 3), RunningMeanVar(1, 3)
    masked.update(filled, valid)
    plain.update(rows[:1, valid[0]])
    torch.testing.assert_close(masked.mean[:1], plain.mean)
    torch.testing.assert_close(masked.var[:1], plain.var)
    assert masked.count.tolist() == pytest.approx([4.0001, 6.0001])


def test_batch_without_valid_rows_changes_nothing():
    statistics = RunningMeanVar(2, 3)
    first, second = batches(5, 4)
    statistics.update(first)
    before = [tensor.clone() for tensor in statistics.state_dict().values()]
    statistics.update(second, torch.zeros(2, 4, dtype=torch.bool))
    statistics.update(second[:, :0])
    torch.testing.assert_close(list(statistics.state_dict().values()), before, rtol=1e-15, atol=0.0)


def test_saved_statistics_continue_exactly():
    statistics, resumed = RunningMeanVar(2, 3), RunningMeanVar(2, 3)
    first, second = batches(5, 4)
    statistics.update(first)
    resumed.load_state_dict({name: tensor.clone() for name, tensor in statistics.state_dict().items()})
    statistics.update(second)
    resumed.update(second)
    assert torch.equal(statistics.var, resumed.var)


def test_observations_are_centred_scaled_and_clipped():
    normalizer = ObservationNormalizer(1, 2)
    normalizer.statistics.mean[:] = torch.tensor([1.0, -2.0])
    normalizer.statistics.var[:] = torch.tensor([4.0, 0.25])
    obs = torch.tensor([[[3.0, -1.0], [1.0, 1e6], [-1e6, -2.0]]])
    torch.testing.assert_close(normalizer(obs), torch.tensor([[[1.0, 2.0], [0.0, 10.0], [-10.0, 0.0]]]))


def test_observation_statistics_move_only_on_update():
    normalizer = ObservationNormalizer(2, 3)
    (obs,) = batches(10)
    normalizer(obs)
    assert normalizer.statistics.count.tolist() == [1e-4, 1e-4]
    normalizer(obs, update=True)
    assert normalizer.statistics.count.tolist() == pytest.approx([10.0001] * 2)


def test_constant_observation_gives_zero_not_nan():
    normalizer = ObservationNormalizer(1, 1)
    for _ in range(200):
        out = normalizer(torch.full((1, 8, 1), 7.0), update=True)
    assert out.abs().max() < 0.2
    assert out.dtype == torch.float32


def test_reward_is_scaled_as_stable_baselines3_does():
    rng = np.random.default_rng(0)
    gamma, n_envs = 0.9, 4
    normalizer = RewardNormalizer(1, n_envs, torch.tensor([gamma]))
    discounted, history = np.zeros(n_envs), []
    for _ in range(30):
        reward, ended = rng.normal(1.0, 2.0, n_envs), rng.random(n_envs) < 0.2
        discounted = discounted * np.float64(np.float32(gamma)) + reward
        history.extend(discounted)
        _, var = sb3_statistics(np.array(history)[:, None])
        expected = np.clip(reward / np.sqrt(var + 1e-8), -10.0, 10.0)
        discounted[ended] = 0.0
        ours = normalizer(torch.from_numpy(reward).unsqueeze(0), torch.from_numpy(ended).unsqueeze(0))
        np.testing.assert_allclose(ours[0], expected, rtol=1e-9)


def test_reward_agrees_with_vecnormalize():
    from gymnasium import spaces
    from stable_baselines3.common.vec_env import VecNormalize
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv

    class Scripted(VecEnv):
        """Two envs that replay given rewards and ends."""

        def __init__(self, rewards, dones):
            self.script = iter(zip(rewards, dones, strict=True))
            super().__init__(2, spaces.Box(-1.0, 1.0, (1,)), spaces.Discrete(2))

        def step_wait(self):
            reward, done = next(self.script)
            return np.zeros((2, 1), np.float32), reward, done, [{"terminal_observation": np.zeros(1)}] * 2

        def reset(self):
            return np.zeros((2, 1), np.float32)

        def step_async(self, actions): ...
        def close(self): ...
        def get_attr(self, name, indices=None):
            return [None, None]

        def set_attr(self, name, value, indices=None): ...
        def env_method(self, name, *args, indices=None, **kwargs): ...
        def env_is_wrapped(self, wrapper, indices=None):
            return [False, False]

    rng = np.random.default_rng(3)
    rewards, dones = rng.normal(0.0, 50.0, (40, 2)), rng.random((40, 2)) < 0.15
    theirs = VecNormalize(Scripted(rewards, dones), gamma=0.875)
    theirs.reset()
    ours = RewardNormalizer(1, 2, torch.tensor([0.875]))
    for reward, done in zip(rewards, dones, strict=True):
        expected = theirs.step(np.zeros(2))[1]
        scaled = ours(torch.from_numpy(reward).unsqueeze(0), torch.from_numpy(done).unsqueeze(0))
        np.testing.assert_allclose(scaled[0], expected, rtol=1e-6)


def test_each_run_discounts_with_its_own_gamma():
    normalizer = RewardNormalizer(2, 1, torch.tensor([0.0, 0.5], dtype=torch.float64))
    for _ in range(2):
        normalizer(torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.bool))
    assert normalizer.running_return.tolist() == [[1.0], [1.5]]


def test_reset_rows_leave_the_reward_statistics_alone():
    normalizer = RewardNormalizer(1, 2, torch.tensor([0.9]))
    normalizer(torch.tensor([[1.0, 2.0]]), torch.tensor([[False, True]]))
    normalizer(torch.tensor([[1.0, 0.0]]), torch.tensor([[False, False]]), torch.tensor([[True, False]]))
    assert normalizer.statistics.count.item() == pytest.approx(3.0001)
    torch.testing.assert_close(normalizer.running_return, torch.tensor([[1.9, 0.0]]).double())
