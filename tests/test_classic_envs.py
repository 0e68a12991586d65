"""The five batched classics against Gymnasium's own, step for step."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats

from entropic_rl.envs import _CLASSIC

every_classic = pytest.mark.parametrize("name", _CLASSIC)

# Gymnasium's id and arguments that both take.
ARGUMENTS = [
    ("CartPole-v1", {}),
    ("CartPole-v1", {"sutton_barto_reward": True}),
    ("Acrobot-v1", {}),
    ("MountainCar-v0", {}),
    ("MountainCar-v0", {"goal_velocity": 0.03}),
    ("MountainCarContinuous-v0", {}),
    ("MountainCarContinuous-v0", {"goal_velocity": 0.03}),
    ("Pendulum-v1", {}),
    ("Pendulum-v1", {"g": 3.7}),
]
every_argument = pytest.mark.parametrize(("name", "arguments"), ARGUMENTS, ids=str)

# States anywhere, from the walls to beyond the ends.
LOW_HIGH = {
    "CartPole-v1": ([-2.5, -3.0, -0.25, -3.0], [2.5, 3.0, 0.25, 3.0]),
    "Acrobot-v1": ([-math.pi, -math.pi, -4 * math.pi, -9 * math.pi], [math.pi, math.pi, 4 * math.pi, 9 * math.pi]),
    "MountainCar-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "MountainCarContinuous-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "Pendulum-v1": ([-10.0, -8.0], [10.0, 8.0]),
}
# Of each number of the state: the lowest and highest at the start; equal where it is fixed.
STARTS = {
    "CartPole-v1": [(-0.05, 0.05)] * 4,
    "Acrobot-v1": [(-0.1, 0.1)] * 4,
    "MountainCar-v0": [(-0.6, -0.4), (0.0, 0.0)],
    "MountainCarContinuous-v0": [(-0.6, -0.4), (0.0, 0.0)],
    "Pendulum-v1": [(-math.pi, math.pi), (-1.0, 1.0)],
}


def build(name, num_envs, **options):
    return gym.make_vec(f"entropic_rl/{name}", num_envs, vectorization_mode="vector_entry_point", **options)


class Pair:
    """Our copies and as many of Gymnasium's environments in the same states."""

    def __init__(self, name, n_copies, arguments):
        self.ours = build(name, n_copies, autoreset_mode="Disabled", **arguments)
        self.theirs = [gym.make(name, disable_env_checker=True, **arguments) for _ in range(n_copies)]
        self.name = name
        self.ours.reset(seed=3)
        self.copy_states(torch.ones(n_copies, dtype=torch.bool))

    def copy_states(self, mask):
        for copy in mask.nonzero().flatten().tolist():
            self.theirs[copy].reset(seed=0)
            state = self.ours.state[:, copy].numpy().copy()
            self.theirs[copy].unwrapped.state = state.astype(np.float32) if self.name == "Acrobot-v1" else state

    def step(self, actions):
        """Act in both, compare everything, reset what ended; returns what ended."""
        obs, reward, terminated, truncated, _ = self.ours.step(actions)
        outcomes = [env.step(action) for env, action in zip(self.theirs, actions, strict=True)]
        np.testing.assert_allclose(obs.numpy(), np.stack([out[0] for out in outcomes]), rtol=0.0, atol=1e-5)
        np.testing.assert_allclose(reward.numpy(), [out[1] for out in outcomes], rtol=0.0, atol=1e-5)
        assert terminated.tolist() == [out[2] for out in outcomes]
        assert truncated.tolist() == [out[3] for out in outcomes]
        ended = terminated | truncated
        self.reset(ended)
        return terminated, truncated

    def reset(self, mask):
        if mask.any():
            self.ours.reset(options={"reset_mask": mask})
            self.copy_states(mask)


def random_actions(env, rng, scale):
    if isinstance(env.single_action_space, spaces.Discrete):
        return rng.integers(0, env.single_action_space.n, env.num_envs)
    return (scale * env.action_space.high * rng.uniform(-1.0, 1.0, env.action_space.shape)).astype(np.float32)


@every_classic
def test_spaces_are_those_of_gymnasium(name):
    ours, theirs = build(name, 1), gym.make(name)
    assert ours.single_observation_space == theirs.observation_space
    assert ours.single_action_space == theirs.action_space


@every_classic
def test_limits_are_those_of_gymnasium(name):
    assert build(name, 1).max_episode_steps == gym.spec(name).max_episode_steps


@every_argument
def test_episodes_from_the_start_equal_gymnasiums(name, arguments):
    pair, rng, n_ends = Pair(name, 2, arguments), np.random.default_rng(0), 0
    for _ in range(500):
        terminated, truncated = pair.step(random_actions(pair.ours, rng, scale=1.3))
        n_ends += int((terminated | truncated).sum())
    assert n_ends >= (0 if name == "MountainCarContinuous-v0" else 2)  # its episodes are longer


@every_argument
def test_steps_from_states_anywhere_equal_gymnasiums(name, arguments):
    pair, rng, n_terminated = Pair(name, 16, arguments), np.random.default_rng(1), 0
    low, high = (np.array(bounds)[:, None] for bounds in LOW_HIGH[name])
    everywhere = torch.ones(16, dtype=torch.bool)
    for _ in range(20):
        pair.ours.reset()
        state = rng.uniform(low, high, (len(low), 16)).astype(np.float32)  # what Gymnasium's float32 states can hold
        pair.ours.state = torch.from_numpy(state).to(pair.ours.state.dtype)
        pair.copy_states(everywhere)
        for _ in range(3):
            n_terminated += int(pair.step(random_actions(pair.ours, rng, scale=1.3))[0].sum())
    assert (n_terminated > 0) is (name != "Pendulum-v1")


@pytest.mark.parametrize("name", ["MountainCar-v0", "MountainCarContinuous-v0"])
@pytest.mark.parametrize("goal_velocity", [0.0, 0.02])
def test_drives_to_the_flag_equal_gymnasiums(name, goal_velocity):
    pair, rng, n_terminated = Pair(name, 2, {"goal_velocity": goal_velocity}), np.random.default_rng(2), 0
    for _ in range(500):
        forward = pair.ours.state[1].numpy() >= 0.0  # pushing the way it goes gets a car out of the valley
        if name == "MountainCar-v0":
            actions = np.where(rng.random(2) < 0.1, rng.integers(0, 3, 2), 2 * forward)
        else:
            actions = (2.0 * forward - 1.0 + rng.normal(0.0, 0.3, 2)).astype(np.float32)[:, None]
        n_terminated += int(pair.step(actions)[0].sum())
    assert n_terminated >= 4


def test_sutton_barto_reward_charges_the_fall_only():
    env = build("CartPole-v1", 2, sutton_barto_reward=True)
    env.reset(seed=0)
    for _ in range(100):
        _, reward, terminated, _, _ = env.step(torch.tensor([0, 1]))
        assert torch.equal(reward, -terminated.float())


def test_goal_velocity_lets_slow_cars_roll_past_the_flag():
    # At 0.495 with velocity 0.02 the car passes 0.5 a little slower than 0.02, as the slope there is still uphill.
    for name, push in (("MountainCar-v0", torch.tensor([1])), ("MountainCarContinuous-v0", torch.zeros(1, 1))):
        for goal_velocity, reached in ((0.0, True), (0.019, True), (0.02, False)):
            env = build(name, 1, goal_velocity=goal_velocity, autoreset_mode="Disabled")
            env.reset(seed=0)
            env.state = torch.tensor([[0.495], [0.02]], dtype=env.state.dtype)
            assert env.step(push)[2].tolist() == [reached]


def test_gravity_pulls_the_pendulum():
    # One step from the horizontal at rest: omega = 3 g / 2 * sin(pi / 2) * 0.05 = 0.075 g.
    for g in (10.0, 3.7, 0.0):
        env = build("Pendulum-v1", 1, g=g)
        env.reset(seed=0)
        env.state = torch.tensor([[math.pi / 2], [0.0]], dtype=torch.float64)
        assert env.step(torch.zeros(1, 1))[0][0, 2].item() == pytest.approx(0.075 * g, abs=1e-7)


def test_torque_beyond_the_bounds_is_clipped_with_its_price():
    env = build("Pendulum-v1", 4)
    env.reset(seed=[1, 1, 2, 2])
    obs, reward, *_ = env.step(torch.tensor([[2.0], [50.0], [-2.0], [-2.1]]))
    assert torch.equal(obs[0], obs[1])
    assert torch.equal(obs[2], obs[3])
    assert reward[0] == reward[1]
    assert reward[2] == reward[3]


def test_push_beyond_the_bounds_is_clipped_but_its_price_is_not():
    env = build("MountainCarContinuous-v0", 4)
    env.reset(seed=[1, 1, 2, 2])
    obs, reward, *_ = env.step(torch.tensor([[1.0], [3.0], [-1.0], [-2.0]]))
    assert torch.equal(obs[0], obs[1])
    assert torch.equal(obs[2], obs[3])
    # -0.1 * action^2, as Gymnasium charges
    assert reward.tolist() == pytest.approx([-0.1, -0.9, -0.1, -0.4], abs=1e-7)


@every_classic
def test_starts_are_uniform_over_their_range(name):
    n_copies = 20_000
    env = build(name, n_copies, autoreset_mode="Disabled")  # which makes no starts ahead
    env.reset(seed=0)
    for numbers, (low, high) in zip(env.state.double().numpy(), STARTS[name], strict=True):
        assert numbers.min() >= low - 1e-7
        assert numbers.max() <= high + 1e-7
        if low == high:
            continue
        error = (high - low) / math.sqrt(12 * n_copies)  # standard error of a uniform number's mean
        assert numbers.mean() == pytest.approx((low + high) / 2, abs=4 * error)
        assert stats.kstest(numbers, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@every_classic
def test_gymnasium_starts_in_the_same_range(name):
    env = gym.make(name)
    for seed in range(100):
        env.reset(seed=seed)
        for number, (low, high) in zip(env.unwrapped.state, STARTS[name], strict=True):
            assert low - 1e-7 <= number <= high + 1e-7


@every_classic
def test_numbers_of_the_start_are_independent(name):
    env = build(name, 20_000, autoreset_mode="Disabled")
    env.reset(seed=0)
    moving = env.state.double()[[low < high for low, high in STARTS[name]]]
    if len(moving) > 1:
        correlation = torch.corrcoef(moving) - torch.eye(len(moving))
        assert correlation.abs().max() < 4 / 20_000**0.5
