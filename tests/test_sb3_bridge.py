"""The bridge to Stable-Baselines3: moving coefficients, exact entropies and meters there, policies both ways."""

import copy
import io
import math
import pickle
import subprocess
import sys
import warnings
import zipfile
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize

from entropic_rl import agents
from entropic_rl.agents.config import action_head
from entropic_rl.agents.sb3 import EntropyCallback, ExplorationCallback, from_sb3, to_sb3, use_exact_entropy
from entropic_rl.cell import Cell
from entropic_rl.config import RunConfig
from entropic_rl.entropy import tanh_gaussian_entropy
from entropic_rl.environments import make_env
from entropic_rl.errors import ConfigError, EnvError, RunDirectoryError
from entropic_rl.exploration import Cells
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.policy_files import load_policy
from entropic_rl.runs import train_cells
from entropic_rl.spaces import action_spec, observation_spec

pytestmark = pytest.mark.usefixtures("no_figures")

SMALL = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}
ROLLOUT = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 500}


@pytest.fixture(autouse=True)
def _sb3_may_warn():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="stable_baselines3")
        yield


class Written(KVWriter):
    """An output of SB3's logger that keeps what is written."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


class Coefficients(BaseCallback):
    """The coefficient at each training and the exact entropy of the rollout, for PPO and A2C."""

    def __init__(self):
        super().__init__()
        self.ent_coef, self.entropy = [], []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.ent_coef.append(self.model.ent_coef)
        obs = torch.as_tensor(self.model.rollout_buffer.observations).flatten(0, 1)
        self.entropy.append(float(self.model.policy.get_distribution(obs).entropy().mean().detach()))


def model_of(algorithm, env="CartPole-v1", **settings):
    """A small model whose written rows are in ``model.written``."""
    if isinstance(env, str):
        env = gym.make(env)
    model = getattr(sb3, algorithm)("MlpPolicy", env, **copy.deepcopy(SMALL) | settings)
    written = Written()
    model.set_logger(Logger(None, [written]))
    model.written = written.rows
    return model


def copies(env_id, n):
    return make_vec_env(lambda: make_env(env_id), n, seed=0)


def squashed_model(algorithm="PPO", **settings):
    policy_kwargs = {"net_arch": [8], "squash_output": True, "log_std_init": -1.0}
    return model_of(algorithm, "Pendulum-v1", use_sde=True, policy_kwargs=policy_kwargs, **settings)


def one_line(function, *args, error=ConfigError, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal(ent_coef, model):
    return one_line(model.learn, 32, callback=EntropyCallback(ent_coef))


# The entropy coefficient of PPO and A2C


def test_schedule_is_clocked_by_env_steps_done_of_all():
    model, seen = model_of("PPO", **ROLLOUT), Coefficients()
    model.learn(64, callback=[EntropyCallback("linear:0.4:0"), seen])
    assert seen.ent_coef == pytest.approx([0.3, 0.2, 0.1, 0.0])


def test_schedule_begins_anew_with_a_new_training_and_goes_on_with_a_continued_one():
    model, seen, callback = model_of("PPO", **ROLLOUT), Coefficients(), EntropyCallback("linear:0.4:0")
    model.learn(32, callback=[callback, seen])
    model.learn(32, callback=[callback, seen])
    model.learn(32, callback=[callback, seen], reset_num_timesteps=False)
    assert seen.ent_coef == pytest.approx([0.2, 0.0, 0.2, 0.0, 0.1, 0.0])


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
def test_constant_coefficient_trains_as_stock_sb3_does(algorithm):
    settings = ROLLOUT if algorithm == "PPO" else {"n_steps": 8}
    ours = model_of(algorithm, **settings)
    ours.learn(64, callback=EntropyCallback(0.03))
    stock = model_of(algorithm, ent_coef=0.03, **settings)  # not earlier: both draw from one generator
    stock.learn(64)
    state = stock.policy.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.policy.state_dict().items())


def test_target_steers_from_the_entropy_of_the_policy_that_made_the_rollout():
    model, seen = model_of("PPO", **ROLLOUT), Coefficients()
    model.learn(48, callback=[EntropyCallback("target:0.5:0.02"), seen])
    integral, expected = math.log(0.02), []
    for entropy in seen.entropy:  # log c = I + 3 e, I <- I + e / 2, e = (target - entropy) / target
        error = max(-1.0, min(1.0, (0.5 - entropy) / 0.5))
        integral += 0.5 * error
        expected.append(math.exp(integral + 3.0 * error))
    assert seen.ent_coef == pytest.approx(expected, rel=1e-5)
    assert len(set(seen.ent_coef)) == 3


@pytest.mark.slow
def test_target_is_reached_and_kept():
    env = copies("test/Bandit-v0", 8)
    model, seen = model_of("A2C", env, n_steps=16, learning_rate=0.01), Coefficients()
    model.learn(128 * 120, callback=[EntropyCallback("target:0.6"), seen])
    assert np.mean(seen.entropy[-50:]) == pytest.approx(0.6, abs=0.1)
    assert seen.entropy[0] == pytest.approx(math.log(3.0), abs=0.01)


@pytest.mark.parametrize(("own", "begin"), [(0.0, 0.01), (0.2, 0.2)])
def test_target_without_a_start_begins_with_the_models_own_coefficient(own, begin):
    model, callback = model_of("PPO", ent_coef=own, **ROLLOUT), EntropyCallback("target:0.5")
    callback.init_callback(model)
    assert float(callback._coefficient.at(0.0)) == pytest.approx(begin)


def test_auto_aims_at_half_the_highest_entropy_of_discrete_actions():
    callback = EntropyCallback("auto")
    callback.init_callback(model_of("PPO", **ROLLOUT))
    assert float(callback._coefficient.target) == pytest.approx(0.5 * math.log(2.0))


def test_auto_is_in_half_ranges_where_actions_are_in_the_environments_units():
    callback = EntropyCallback("auto")
    callback.init_callback(model_of("PPO", "Pendulum-v1", **ROLLOUT))  # torque in [-2, 2]
    assert float(callback._coefficient.target) == pytest.approx(-1.0 + math.log(2.0))


def test_written_rows_tell_the_entropy_of_their_rollout_and_the_coefficient_of_the_update_before():
    model, seen = model_of("PPO", **ROLLOUT), Coefficients()
    model.learn(64, callback=[EntropyCallback("linear:0.4:0"), seen])
    rows = model.written
    assert [row["train/entropy"] for row in rows] == pytest.approx(seen.entropy, rel=1e-5)
    assert "train/ent_coef" not in rows[0]
    assert [row["train/ent_coef"] for row in rows[1:]] == pytest.approx([0.3, 0.2, 0.1])
    assert model.logger.name_to_value["train/ent_coef"] == 0.0  # the last update's is written by nobody


def test_first_row_of_a_further_training_tells_the_last_update_of_the_one_before():
    model, callback = model_of("PPO", **ROLLOUT), EntropyCallback("linear:0.4:0.1")
    model.learn(32, callback=callback)
    model.learn(32, callback=callback)
    told = [row.get("train/ent_coef") for row in model.written]
    assert told == [None, pytest.approx(0.25), pytest.approx(0.1), pytest.approx(0.25)]


def test_dict_observations_are_steered_too():
    env = gym.make("test/Identity-v0", observation="dict", action="multi-discrete")
    model = sb3.PPO("MultiInputPolicy", env, **copy.deepcopy(SMALL), **ROLLOUT)
    model.set_logger(Logger(None, []))
    model.learn(32, callback=EntropyCallback("target:1:0.05"))
    assert model.ent_coef != 0.05


def test_unreachable_target_is_told_with_the_maximum():
    assert "below 0.6931 nats, the maximum for these actions, got 0.7" in refusal(
        "target:0.7", model_of("PPO", **ROLLOUT)
    )
    assert "below 0.6931 nats" in refusal("target:1", squashed_model(**ROLLOUT))
    assert "below 0.6931 nats" in refusal("target:1", model_of("SAC", "Pendulum-v1", **OFF_POLICY))


def test_gaussian_has_no_highest_entropy():
    model_of("PPO", "Pendulum-v1", **ROLLOUT).learn(16, callback=EntropyCallback("target:9"))


@pytest.mark.parametrize(("algorithm", "env"), [("DQN", "CartPole-v1"), ("TD3", "Pendulum-v1")])
def test_algorithm_without_entropy_is_told_with_what_can_take_it(algorithm, env):
    assert f"PPO, A2C and SAC take an entropy coefficient from this callback, got {algorithm}" in refusal(
        0.1, model_of(algorithm, env, buffer_size=100)
    )


@pytest.mark.parametrize("wrong", [-1, "linear:0.1:-1", "half", "target", "nan"])
def test_what_is_no_coefficient_is_refused_at_once(wrong):
    assert one_line(EntropyCallback, wrong).startswith("ent_coef: ")


# The entropy coefficient of SAC


class SacCoefficients(BaseCallback):
    def __init__(self):
        super().__init__()
        self.ent_coef = []

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.ent_coef.append(float(self.model.ent_coef_tensor))


def test_sac_with_a_fixed_coefficient_follows_a_schedule():
    model, seen = model_of("SAC", "Pendulum-v1", ent_coef=0.5, **OFF_POLICY), SacCoefficients()
    model.learn(40, callback=[EntropyCallback("linear:0.4:0"), seen])
    assert seen.ent_coef == pytest.approx([0.4 * (1 - i / 40) for i in range(1, 41)], abs=1e-7)
    assert model.logger.name_to_value["train/ent_coef"] == pytest.approx(0.0, abs=1e-7)


def test_sac_with_a_learned_coefficient_takes_a_target_and_a_start():
    model = model_of("SAC", "Pendulum-v1", **OFF_POLICY)
    model.learn(10, callback=EntropyCallback("target:-2.5:0.1"))
    assert model.target_entropy == -2.5
    assert float(model.log_ent_coef.detach().exp()) == pytest.approx(0.1)


def test_auto_on_sac_is_that_of_sb3():
    model = model_of("SAC", "Pendulum-v1", target_entropy=-3.0, **OFF_POLICY)
    model.learn(10, callback=EntropyCallback("auto"))
    assert model.target_entropy == -1.0


def test_sac_entropy_is_exact_at_the_last_observations():
    model = model_of("SAC", "Pendulum-v1", **OFF_POLICY)
    model.learn(40, callback=EntropyCallback("auto"))
    with torch.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(torch.as_tensor(model.replay_buffer.observations[:40, 0]))
        expected = float(tanh_gaussian_entropy(mean, log_std).mean())
    assert model.logger.name_to_value["train/entropy"] == pytest.approx(expected, rel=1e-5)


def test_sac_writes_the_entropy_where_sb3_writes_its_rows():
    env = gym.wrappers.TimeLimit(gym.make("Pendulum-v1").unwrapped, 10)
    model = model_of("SAC", env, **OFF_POLICY)
    model.learn(40, callback=EntropyCallback("auto"), log_interval=2)
    assert ["train/entropy" in row for row in model.written] == [True, True]


def test_sac_refuses_a_schedule_if_its_coefficient_is_learned():
    message = refusal("linear:0.1:0", model_of("SAC", "Pendulum-v1", **OFF_POLICY))
    assert "this SAC learns its coefficient (ent_coef='auto')" in message


def test_sac_refuses_a_target_if_its_coefficient_is_fixed():
    message = refusal("target:-1", model_of("SAC", "Pendulum-v1", ent_coef=0.1, **OFF_POLICY))
    assert 'make it with ent_coef="auto"' in message


# The exact entropy of squashed policies


def exact_by_trapezoid(policy, obs):
    """Entropy ``[N]`` of tanh of the policy's Gaussian, one dimension, float64, on a grid over the noise."""
    normal = policy.get_distribution(obs).distribution
    mean, std = normal.mean.double(), normal.stddev.double()
    z = torch.linspace(-9.0, 9.0, 8001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    x = mean + std * z
    slope = 2.0 * (math.log(2.0) - x - torch.nn.functional.softplus(-2.0 * x))
    return 0.5 * math.log(2 * math.pi * math.e) + std.log()[:, 0] + torch.trapezoid(density * slope, z)


def numeric_gradient(policy, parameter, index, obs, step=1e-3):
    """Of the mean entropy, by central differences."""
    values = []
    with torch.no_grad():
        for sign in (1.0, -1.0):
            parameter.view(-1)[index] += sign * step
            values.append(float(exact_by_trapezoid(policy, obs).mean()))
            parameter.view(-1)[index] -= sign * step
    return (values[0] - values[1]) / (2 * step)


@pytest.fixture
def visited():
    """A squashed policy away from its beginning, 4 observations, and 4000 of its own actions at each."""
    model = squashed_model(**ROLLOUT)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        obs = torch.randn(4, 3).repeat(4000, 1)
        model.policy.reset_noise(len(obs))  # another noise matrix for each
        actions, _, _ = model.policy(obs)
    return model, obs, actions


def entropy_gradient(model, obs, actions):
    """Of what SB3's train() takes for the mean entropy, with respect to log_std and to the mean's bias."""
    _, log_prob, entropy = model.policy.evaluate_actions(obs, actions)
    bonus = -log_prob.mean() if entropy is None else entropy.mean()
    return torch.autograd.grad(bonus, [model.policy.log_std, model.policy.action_net.bias])


def test_sb3s_own_entropy_gradient_is_zero_in_expectation(visited):
    model, obs, actions = visited
    log_std, bias = entropy_gradient(model, obs, actions)
    truth = [numeric_gradient(model.policy, model.policy.log_std, i, obs[:4]) for i in range(8)]
    largest = int(np.argmax(np.abs(truth)))
    assert abs(truth[largest]) > 0.1
    assert abs(float(log_std[largest])) < 0.2 * abs(truth[largest])  # noise around 0
    wanted = numeric_gradient(model.policy, model.policy.action_net.bias, 0, obs[:4])
    assert abs(float(bias)) < 0.2 * abs(wanted)


def test_exact_entropy_has_the_numeric_gradient(visited):
    model, obs, actions = visited
    log_std, bias = entropy_gradient(use_exact_entropy(model), obs, actions)
    truth = [numeric_gradient(model.policy, model.policy.log_std, i, obs[:4]) for i in range(8)]
    assert log_std.flatten().tolist() == pytest.approx(truth, abs=2e-3)
    wanted = numeric_gradient(model.policy, model.policy.action_net.bias, 0, obs[:4])
    assert float(bias) == pytest.approx(wanted, abs=2e-3)


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
def test_train_uses_the_exact_entropy(algorithm):
    settings = {"n_steps": 16, "vf_coef": 0.0, "ent_coef": 1.0, "max_grad_norm": 1e9, "learning_rate": 1e-9}
    settings |= {"batch_size": 16, "n_epochs": 1} if algorithm == "PPO" else {}
    model = use_exact_entropy(squashed_model(algorithm, **settings))

    class WithoutRewards(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            self.model.rollout_buffer.advantages[:] = 0.0

    model.learn(16, callback=WithoutRewards())
    obs = torch.as_tensor(model.rollout_buffer.observations).reshape(-1, 3)
    truth = [numeric_gradient(model.policy, model.policy.log_std, i, obs) for i in range(8)]
    assert (-model.policy.log_std.grad).flatten().tolist() == pytest.approx(truth, abs=2e-3)
    expected = -float(exact_by_trapezoid(model.policy, obs).detach().mean())
    assert model.logger.name_to_value["train/entropy_loss"] == pytest.approx(expected, abs=1e-4)


def test_entropy_callback_makes_squashed_policies_exact():
    model = squashed_model(**ROLLOUT)
    model.learn(16, callback=EntropyCallback("target:0.3"))
    obs = torch.as_tensor(model.rollout_buffer.observations).reshape(-1, 3)
    assert model.policy.get_distribution(obs).entropy().shape == (16,)


def test_policies_with_a_closed_form_are_left_as_they_are():
    for model in (model_of("PPO", **ROLLOUT), model_of("A2C", "Pendulum-v1", use_sde=True)):
        kind = type(model.policy.action_dist)
        assert type(use_exact_entropy(model).policy.action_dist) is kind


def test_exact_entropy_is_asked_for_again_after_loading(tmp_path):
    obs = torch.zeros(1, 3)
    saved(use_exact_entropy(squashed_model(**ROLLOUT)), tmp_path / "model")
    loaded = sb3.PPO.load(tmp_path / "model", device="cpu")
    assert loaded.policy.get_distribution(obs).entropy() is None
    assert use_exact_entropy(loaded).policy.get_distribution(obs).entropy() is not None


def test_sac_needs_no_exact_entropy_and_is_told_why():
    message = one_line(use_exact_entropy, model_of("SAC", "Pendulum-v1", **OFF_POLICY))
    assert "expected PPO or A2C, got SAC" in message


# Exploration


class Visits(BaseCallback):
    """Counts the states of a Discrete or one-hot space from what SB3 shows, one by one."""

    def __init__(self, state):
        super().__init__()
        self.visits, self.state = {}, state

    def meet(self, obs):
        for one in obs:
            self.visits[self.state(one)] = self.visits.get(self.state(one), 0) + 1

    def _on_training_start(self):
        if not self.visits:
            self.meet(self.model._last_obs)

    def _on_step(self):
        self.meet([i["terminal_observation"] for i in self.locals["infos"] if "terminal_observation" in i])
        self.meet(self.locals["new_obs"])
        return True


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_every_state_that_was_met_is_counted_once_over_trainings_that_go_on(algorithm):
    settings = ROLLOUT if algorithm == "PPO" else {"learning_starts": 8, "buffer_size": 100}
    model = model_of(algorithm, copies("test/Clock-v0", 2), **settings)
    callback, naive = ExplorationCallback(), Visits(lambda one: int(one.argmax()))
    model.learn(32, callback=[callback, naive])
    model.learn(32, callback=[callback, naive], reset_num_timesteps=False)
    counts = callback.meter.visits[0]
    assert sorted(counts[counts > 0].tolist()) == sorted(naive.visits.values())
    assert model.logger.name_to_value["explore/n_states"] == 5


def test_finite_environment_counts_its_states():
    model = model_of("A2C", copies("entropic_rl/Chain-v0", 2), n_steps=8)
    callback = ExplorationCallback()
    model.learn(64, callback=callback)
    written = model.logger.name_to_value
    met = int((callback.meter.visits > 0).sum())
    assert written["explore/n_states"] == met
    assert written["explore/coverage"] == pytest.approx(met / 5)
    assert 0.0 < written["explore/visitation_entropy"] <= math.log(met)


def test_rows_hold_the_meters_numbers_where_sb3_writes_them():
    model = model_of("PPO", copies("test/Clock-v0", 2), **ROLLOUT)
    model.learn(64, callback=ExplorationCallback(success_return=4.0))
    names = {"explore/coverage", "explore/n_states", "explore/visitation_entropy", "explore/action_entropy"}
    assert all(names | {"explore/first_reward", "explore/first_success"} <= set(row) for row in model.written)
    assert model.written[0]["explore/first_reward"] == 2.0
    assert model.written[0]["explore/first_success"] == 8.0  # the fourth step of both


def test_meter_sees_raw_observations_under_vecnormalize():
    envs = VecNormalize(copies("test/Clock-v0", 2))
    model = model_of("A2C", envs, n_steps=8)
    callback = ExplorationCallback(Cells(5, lambda obs: (obs > 0.5).to(torch.int64).argmax(-1)))
    model.learn(16 * 5, callback=callback)
    # 40 steps of each: ten episodes of four, whose end is met and then their next beginning; and the first beginning
    assert callback.meter.visits[0].tolist() == [22, 20, 20, 20, 20]


def test_box_actions_are_counted_in_half_ranges():
    model = model_of("SAC", "Pendulum-v1", learning_starts=1000)  # uniform actions
    model.learn(600, callback=ExplorationCallback(), log_interval=None)
    # 32 bins of a uniform density 1/2; the estimate is low by about 31 / (2 * 600)
    found = model.logger.name_to_value["explore/action_entropy"]
    assert found == pytest.approx(math.log(2.0) - 31 / 1200, abs=0.03)


def test_evaluation_callback_still_finds_its_environments_the_same():
    envs, others = (VecNormalize(copies("test/Clock-v0", 1)) for _ in range(2))
    model = model_of("A2C", envs, n_steps=8)
    evaluation = EvalCallback(others, eval_freq=16, n_eval_episodes=1, verbose=0)
    model.learn(32, callback=[ExplorationCallback(), evaluation])
    assert evaluation.last_mean_reward == 4.0


def test_environments_are_left_as_they_were():
    envs = VecNormalize(copies("test/Clock-v0", 1))
    model = model_of("A2C", envs, n_steps=8)
    model.learn(16, callback=ExplorationCallback())
    assert model.get_env() is envs
    assert "step_wait" not in vars(envs.venv)


def test_training_is_the_same_with_the_meter():
    watched = model_of("PPO", **ROLLOUT)
    watched.learn(64, callback=ExplorationCallback())
    stock = model_of("PPO", **ROLLOUT)
    stock.learn(64)
    state = stock.policy.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in watched.policy.state_dict().items())


def test_coverage_that_cannot_be_found_is_told():
    message = one_line(
        model_of("PPO", **ROLLOUT).learn, 16, callback=ExplorationCallback("nowhere:cells"), error=EnvError
    )
    assert "expected MODULE:NAME" in message


# Our policies as theirs

OURS = {
    "cartpole": ("CartPole-v1", {}),
    "pendulum-ppo": ("Pendulum-v1", {}),
    "pendulum-sac": ("Pendulum-v1", {"critic": False, "state_dependent_std": True, "initialisation": "uniform"}),
}


def policy_of(env, *, net_arch=(16, 8), n_runs=1, squash=False, **network):
    """A policy of ours for an environment, with parameters far from their beginning."""
    squash = squash or network.get("state_dependent_std", False)
    config = NetworkConfig(net_arch=net_arch, **network)
    action = action_spec(env.action_space, squash_output=squash)
    policy = ActorCritic(config, observation_spec(env.observation_space), action, range(n_runs))
    generator = torch.Generator().manual_seed(0)
    policy.params.values.add_(0.3 * torch.randn(policy.params.values.shape, generator=generator))
    if policy.normalizer is not None:
        policy.normalize(
            3.0 + 2.0 * torch.randn(n_runs, 500, policy.observation.size, generator=generator), update=True
        )
    return policy


def our_actions(policy, env, obs):
    numbers = torch.as_tensor(observation_spec(env.observation_space).flatten(obs), dtype=torch.float32)
    with torch.no_grad():
        distribution = policy.distribution(policy.normalize(numbers.unsqueeze(0)))
    return policy.action.to_env(distribution.mode()[0].numpy())


def thousand(space):
    space.seed(0)
    if isinstance(space, spaces.Dict):
        samples = [space.sample() for _ in range(1000)]
        return {key: np.stack([sample[key] for sample in samples]) for key in space}
    if isinstance(space, spaces.Box):
        return np.random.default_rng(0).normal(size=(1000, *space.shape)).astype(np.float32)
    return np.stack([space.sample() for _ in range(1000)])


@pytest.mark.parametrize("case", OURS)
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_exported_policy_takes_the_same_actions(case, activation):
    env_id, network = OURS[case]
    env = gym.make(env_id)
    policy = policy_of(env, activation=activation, **network)
    model, obs = to_sb3(policy, env, buffer_size=10) if "sac" in case else to_sb3(policy, env), None
    obs = thousand(env.observation_space)
    theirs, ours = model.predict(obs, deterministic=True)[0], our_actions(policy, env, obs)
    assert len(np.unique(ours)) > 1
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize("observation", ["multi-discrete", "multi-binary", "dict"])
@pytest.mark.parametrize("action", ["multi-discrete", "multi-binary", "box"])
def test_every_kind_of_space_is_exported_with_its_order(observation, action):
    env = gym.make("test/Identity-v0", observation=observation, action=action)
    policy = policy_of(env)
    obs = thousand(env.observation_space)
    model = to_sb3(policy, env)
    np.testing.assert_allclose(model.predict(obs, deterministic=True)[0], our_actions(policy, env, obs), atol=1e-5)


def test_exported_values_and_probabilities_are_the_same():
    env = gym.make("Pendulum-v1")
    policy, obs = policy_of(env, log_std_init=-0.5), thousand(gym.make("Pendulum-v1").observation_space)
    model, numbers = to_sb3(policy, env), torch.as_tensor(obs).unsqueeze(0)
    distribution, value = policy.evaluate(numbers)
    theirs = model.policy.get_distribution(torch.as_tensor(obs))
    unit = torch.full((1000, 1), 0.3)
    torch.testing.assert_close(model.policy.predict_values(torch.as_tensor(obs))[:, 0], value[0])
    expected = distribution.log_prob(unit.unsqueeze(0))[0] - math.log(
        2.0
    )  # torque is twice that: a density in its units
    torch.testing.assert_close(theirs.log_prob(2.0 * unit), expected)


@pytest.mark.parametrize("agent", ["a2c", "sac"])
def test_exported_policy_is_that_of_a_run_directory(agent, tmp_path):
    run = RunConfig(env="Pendulum-v1", total_timesteps=64, n_envs=2, eval_episodes=1, eval_max_steps=5, device="cpu")
    config = {
        "a2c": agents.A2CConfig(n_steps=8, net_arch=(8,), normalize_obs=True),
        "sac": agents.SACConfig(learning_starts=20, batch_size=8, net_arch=(8,)),
    }[agent]
    train_cells(agents.agent_class(agent), [Cell(agent, run, config, tmp_path)])
    model, env = to_sb3(tmp_path, learning_rate=0.5), gym.make("Pendulum-v1")
    assert (type(model).__name__, model.learning_rate, model.n_envs) == (agent.upper(), 0.5, 1)
    policy = load_policy(tmp_path, observation_spec(env.observation_space), action_head(config, env.action_space))
    obs, normalizer = thousand(env.observation_space), model.get_vec_normalize_env()
    assert (normalizer is None) == (agent == "sac")
    seen = obs if normalizer is None else normalizer.normalize_obs(obs)
    np.testing.assert_allclose(model.predict(seen, deterministic=True)[0], our_actions(policy, env, obs), atol=1e-5)


def test_exported_observation_statistics_are_those_of_a_vecnormalize():
    env = gym.make("CartPole-v1")
    policy = policy_of(env, normalize_obs=True)
    model, obs = to_sb3(policy, env), 3.0 + thousand(env.observation_space)
    seen = model.get_vec_normalize_env().normalize_obs(obs)
    assert np.array_equal(model.predict(seen, deterministic=True)[0], our_actions(policy, env, obs))


def test_exported_sac_can_be_trained_on():
    env = gym.make("Pendulum-v1")
    policy = policy_of(env, **OURS["pendulum-sac"][1])
    to_sb3(policy, env, **OFF_POLICY, seed=0).learn(30)


def test_what_has_no_counterpart_is_refused_in_one_line():
    cartpole, pendulum = gym.make("CartPole-v1"), gym.make("Pendulum-v1")
    assert "share_features" in one_line(to_sb3, policy_of(cartpole, share_features=True), cartpole)
    assert "squash only with gSDE" in one_line(to_sb3, policy_of(pendulum, squash=True), pendulum)
    assert "no soft actor-critic for Discrete" in one_line(to_sb3, policy_of(cartpole, critic=False), cartpole)
    assert "a policy of one run, got 3" in one_line(to_sb3, policy_of(cartpole, n_runs=3), cartpole)
    assert "one of PPO, got 'SAC'" in one_line(to_sb3, policy_of(cartpole), cartpole, algorithm="SAC")
    assert "env: expected" in one_line(to_sb3, policy_of(cartpole))
    assert "takes 4 numbers to 2 categorical outputs" in one_line(to_sb3, policy_of(cartpole), pendulum)
    assert "cannot be made" in one_line(to_sb3, policy_of(cartpole), cartpole, n_stepz=3)
    identity = gym.make("test/Identity-v0", observation="multi-binary", action="multi-binary")
    assert "normalize_obs" in one_line(to_sb3, policy_of(identity, normalize_obs=True), identity)
    started = gym.make("test/Identity-v0", observation="discrete")
    assert "does not start at 0" in one_line(to_sb3, policy_of(started), started)


def test_directory_without_a_run_is_told(tmp_path):
    assert "no run directory" in one_line(to_sb3, tmp_path / "none", error=RunDirectoryError)


# Their policies as ours


def saved(model, path):
    if hasattr(model, "written"):
        del model.written
    model.save(path)
    return path


def randomised(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "SAC"])
def test_imported_policy_takes_the_same_actions(algorithm, env_id, tmp_path):
    if (algorithm, env_id) == ("SAC", "CartPole-v1"):
        env_id = "MountainCarContinuous-v0"
    settings = {"buffer_size": 10} if algorithm == "SAC" else {}
    model = randomised(model_of(algorithm, env_id, **settings))
    env = gym.make(env_id)
    policy = from_sb3(saved(model, tmp_path / "model.zip"), env)
    obs = thousand(env.observation_space)
    ours = our_actions(policy, env, obs)
    assert len(np.unique(ours)) > 1
    np.testing.assert_allclose(ours, model.predict(obs, deterministic=True)[0], atol=1e-5)


def test_imported_density_is_that_of_sb3_in_half_ranges(tmp_path):
    model = randomised(model_of("PPO", "Pendulum-v1"))
    policy = from_sb3(saved(model, tmp_path / "model"), "Pendulum-v1")  # SB3 adds .zip
    obs, unit = torch.randn(1, 50, 3), torch.full((1, 50, 1), -0.4)
    expected = model.policy.get_distribution(obs[0]).log_prob(2.0 * unit[0]) + math.log(2.0)
    torch.testing.assert_close(policy.distribution(obs).log_prob(unit)[0], expected)


def test_activation_is_taken_as_it_is_given(tmp_path):
    kwargs = {"net_arch": [8], "activation_fn": torch.nn.ELU}
    model = randomised(model_of("PPO", policy_kwargs=kwargs))
    env, path = gym.make("CartPole-v1"), saved(model, tmp_path / "model.zip")
    obs = thousand(env.observation_space)
    expected = model.predict(obs, deterministic=True)[0]
    assert np.array_equal(our_actions(from_sb3(path, env, activation="elu"), env, obs), expected)
    assert "activation: expected one of tanh" in one_line(from_sb3, path, env, activation="swish")


def test_there_and_back_gives_the_same_parameters(tmp_path):
    for env_id, network in OURS.values():
        env = gym.make(env_id)
        policy = policy_of(env, **network)
        model = to_sb3(policy, env, **({"buffer_size": 10} if network else {}))
        back = from_sb3(saved(model, tmp_path / "model.zip"), env, activation="tanh")
        for name, tensor in policy.state_dict().items():
            torch.testing.assert_close(back.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)


def test_statistics_of_a_vecnormalize_become_ours(tmp_path):
    envs = VecNormalize(copies("CartPole-v1", 2))
    model = randomised(model_of("A2C", envs, n_steps=8))
    model.learn(64)
    policy = from_sb3(saved(model, tmp_path / "model.zip"), envs)
    env = gym.make("CartPole-v1")
    obs = thousand(env.observation_space)
    expected = model.predict(envs.normalize_obs(obs), deterministic=True)[0]
    assert np.array_equal(our_actions(policy, env, obs), expected)


def test_critic_of_another_shape_is_left_out(tmp_path):
    model = model_of("PPO", policy_kwargs={"net_arch": {"pi": [8], "vf": [8, 8]}})
    policy = from_sb3(saved(model, tmp_path / "model.zip"), "CartPole-v1")
    assert (policy.network.net_arch, policy.network.critic) == ((8,), False)


def test_box_actions_stay_in_their_own_units_without_an_env(tmp_path):
    model = randomised(model_of("PPO", "Pendulum-v1"))
    policy = from_sb3(saved(model, tmp_path / "model.zip"))
    obs = torch.randn(1, 20, 3)
    torch.testing.assert_close(policy.distribution(obs).mode()[0], model.policy.get_distribution(obs[0]).mode())


def test_discrete_actions_cannot_be_told_apart_without_an_env(tmp_path):
    path = saved(model_of("PPO"), tmp_path / "model.zip")
    assert "2 outputs are of a Discrete, MultiDiscrete or MultiBinary space; give the env" in one_line(from_sb3, path)


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def zipped(path, **parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def torched(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_nothing_but_the_policys_tensors_is_read(tmp_path):
    bomb = pickle.dumps(Bomb(tmp_path / "ran"))
    path = zipped(
        tmp_path / "model.zip",
        data=bomb,
        pytorch_variables__pth=bomb,
        policy__optimizer__pth=bomb,
        policy__pth=torched(model_of("PPO").policy.state_dict()),
    )
    assert from_sb3(path, "CartPole-v1").observation.size == 4
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["raw", "torch"])
def test_policy_that_would_need_unpickling_is_refused_in_one_line(content, tmp_path):
    bomb = Bomb(tmp_path / "ran")
    pth = pickle.dumps(bomb) if content == "raw" else torched({"action_net.weight": bomb})
    message = one_line(from_sb3, zipped(tmp_path / "model.zip", policy__pth=pth), "CartPole-v1")
    assert "would need unpickling" in message
    assert not (tmp_path / "ran").exists()


def test_file_that_is_none_of_sb3s_is_refused_in_one_line(tmp_path):
    assert "no file" in one_line(from_sb3, tmp_path / "model")
    (tmp_path / "text.zip").write_text("no zip")
    assert "cannot be read as a zip file" in one_line(from_sb3, tmp_path / "text.zip")
    assert "holds no policy.pth" in one_line(from_sb3, zipped(tmp_path / "a.zip", data="{}"))
    assert "tensors by name, got a list" in one_line(from_sb3, zipped(tmp_path / "b.zip", policy__pth=torched([1])))
    state = model_of("PPO").policy.state_dict()
    for i, wrong in enumerate((torch.zeros(2, 5), torch.tensor(1.0))):
        path = zipped(tmp_path / f"{i}.zip", policy__pth=torched(state | {"action_net.weight": wrong}))
        assert "is damaged" in one_line(from_sb3, path, "CartPole-v1")


@pytest.mark.parametrize(
    ("algorithm", "env", "settings", "words"),
    [
        ("DQN", "CartPole-v1", {"buffer_size": 10}, "no tensor 'action_net.bias'"),
        ("TD3", "Pendulum-v1", {"buffer_size": 10}, "'actor.log_std.bias'"),
        ("PPO", "Pendulum-v1", {"use_sde": True}, "the log_std of gSDE"),
        ("SAC", "Pendulum-v1", {"use_sde": True, "buffer_size": 10}, "a tensor 'actor.log_std'"),
    ],
)
def test_policy_that_is_none_of_ours_is_refused_in_one_line(algorithm, env, settings, words, tmp_path):
    path = saved(model_of(algorithm, env, **settings), tmp_path / "model.zip")
    message = one_line(from_sb3, path, env)
    assert "expected an MlpPolicy of PPO, A2C or SAC without gSDE" in message
    assert words in message


def test_policy_for_other_spaces_is_refused_in_one_line(tmp_path):
    path = saved(model_of("PPO"), tmp_path / "model.zip")
    assert "takes 4 numbers as observations" in one_line(from_sb3, path, "Pendulum-v1")
    sac = saved(model_of("SAC", "Pendulum-v1", buffer_size=10), tmp_path / "sac.zip")
    for file, size, n in ((path, 4, 3), (sac, 3, 1)):
        other = SimpleNamespace(observation_space=spaces.Box(-1.0, 1.0, (size,)), action_space=spaces.Discrete(n))
        assert f"which do not fit the env's Discrete({n})" in one_line(from_sb3, file, other)


def test_missing_sb3_is_told_with_the_command_that_installs_it():
    code = "import sys; sys.modules['stable_baselines3'] = None\nimport entropic_rl.agents.sb3"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'run: pip install "entropic-rl[sb3]"' in result.stderr.splitlines()[-1]
