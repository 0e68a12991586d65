"""Actions that an environment forbids: read from it, never taken, remembered for the update."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import distributions as td

from entropic_rl.agents import A2C, PPO, A2CConfig, DiscreteSAC, DiscreteSACConfig, PPOConfig, SoftQ, SoftQConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import EnvError
from entropic_rl.evaluation import evaluate
from entropic_rl.on_policy import prepare
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

every_mode = pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
A = 4


class Choosy(gym.Env):
    """Shows its step t, allows the actions (t + number) % 4 and (t + number + 1) % 4, and refuses all others.

    Ends after ``limit`` steps; ``told`` says how masks are told: ``info``, ``method`` or not at all; ``last`` is what
    is allowed where the episode has ended, ``none`` for nothing at all.
    """

    observation_space = spaces.Box(0.0, 100.0, (2,))
    action_space = spaces.Discrete(A)

    def __init__(self, number=0, limit=3, told="info", last="usual", cut=False):
        self.number, self.limit, self.last, self.cut = number, limit, last, cut
        self.in_info = told == "info"
        if told == "method":
            self.action_masks = self.mask

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), self.info()

    def step(self, action):
        assert self.allowed()[action], f"action {action} is forbidden at step {self.steps}"
        self.steps += 1
        ended = self.steps == self.limit
        return (
            self.observe(),
            float(action == (self.steps + self.number) % A),
            ended and not self.cut,
            ended and self.cut,
            self.info(),
        )

    def allowed(self):
        first = self.steps + self.number
        return np.isin(np.arange(A), [first % A, (first + 1) % A])

    def mask(self):
        if self.last == "none" and self.steps == self.limit:
            return np.zeros(A, np.int8)
        return self.allowed().astype(np.int8)

    def info(self):
        return {"action_mask": self.mask()} if self.in_info else {}

    def observe(self):
        return np.array([self.steps, self.number], np.float32)


class WithMethod(Choosy):
    """The same with a method that a class has, as wrappers look for it."""

    def __init__(self, number=0, limit=3):
        super().__init__(number, limit, told="not at all")

    def action_masks(self):
        return self.mask()


class Odd(Choosy):
    """Tells what no agent can make sense of."""

    def __init__(self, mask, number=0):
        super().__init__()
        self.odd = mask if number == 1 else np.ones_like(mask)

    def mask(self):
        return self.odd


gym.register("test/Choosy-v0", Choosy)
gym.register("test/ChoosyMethod-v0", WithMethod)


def allowed_at(obs):
    """The mask ``[..., A]`` that Choosy has at its observations ``[..., 2]``."""
    first = obs.sum(-1, keepdim=True).long()
    action = torch.arange(A)
    return (action == first % A) | (action == (first + 1) % A)


def batch_of(makers, mode=AutoresetMode.SAME_STEP, n_runs=1):
    env = SyncVectorEnv(makers, autoreset_mode=mode)
    specs = {
        "observation": observation_spec(env.single_observation_space),
        "action": action_spec(env.single_action_space),
    }
    return EnvBatch(env, n_runs, **specs)


def copies(told="info", limits=(3, 2, 4, 5), **options):
    return [partial(Choosy, number, limit, told, **options) for number, limit in enumerate(limits)]


def first_allowed(mask):
    return mask.to(torch.int8).argmax(-1)


# Reading


@every_mode
@pytest.mark.parametrize("told", ["info", "method"])
def test_masks_belong_to_the_observations_they_come_with(told, mode):
    envs = batch_of(copies(told), mode, n_runs=2)
    obs = envs.reset([[0, 1], [2, 3]])
    for _ in range(12):
        assert torch.equal(envs.mask, allowed_at(obs))
        step = envs.step(first_allowed(envs.mask))
        assert step.next_mask is envs.mask
        obs = step.next_obs
    assert envs.episodes.n_finished.min() >= 2


@every_mode
def test_masks_of_ended_episodes_are_told_where_they_ended(mode):
    envs, n_ends = batch_of(copies(), mode, n_runs=2), 0
    envs.reset([[0, 1], [2, 3]])
    for _ in range(8):
        step = envs.step(first_allowed(envs.mask))
        ended = step.terminated | step.truncated
        n_ends += int(ended.sum())
        if ended.any():
            assert torch.equal(step.final_mask[ended], allowed_at(step.final_obs)[ended])
    assert n_ends >= 6


@every_mode
@pytest.mark.parametrize("told", ["info", "method"])
def test_environment_may_allow_nothing_where_an_episode_has_ended(told, mode):
    envs = batch_of(copies(told, last="none"), mode, n_runs=2)
    envs.reset([[0, 1], [2, 3]])
    for _ in range(8):
        assert envs.mask.any(-1).all()
        step = envs.step(first_allowed(envs.mask))
        ended = step.terminated | step.truncated
        going_on = ended.logical_not() if mode is AutoresetMode.NEXT_STEP else torch.ones_like(ended)
        assert torch.equal(step.next_mask[going_on], allowed_at(step.next_obs)[going_on])


@pytest.mark.parametrize("env_id", ["test/Choosy-v0", "test/ChoosyMethod-v0"])
def test_masks_come_from_other_processes_too(env_id):
    vector_env = make_vector_env(env_id, 2, backend="async")
    try:
        envs = EnvBatch(
            vector_env,
            2,
            observation=observation_spec(vector_env.single_observation_space),
            action=action_spec(vector_env.single_action_space),
        )
        obs = envs.reset([[0], [1]])
        for _ in range(5):
            assert torch.equal(envs.mask, allowed_at(obs))
            obs = envs.step(first_allowed(envs.mask)).next_obs
    finally:
        vector_env.close()


def test_method_of_a_class_is_found_behind_wrappers():
    vector_env = make_vector_env("test/ChoosyMethod-v0", 2, backend="sync")
    envs = EnvBatch(
        vector_env,
        1,
        observation=observation_spec(vector_env.single_observation_space),
        action=action_spec(vector_env.single_action_space),
    )
    assert torch.equal(allowed_at(envs.reset([[0, 1]])), envs.mask)


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_environment_that_forbids_nothing_has_no_masks(backend):
    vector_env = make_vector_env("test/Bandit-v0", 2, backend=backend)
    try:
        envs = EnvBatch(
            vector_env,
            1,
            observation=observation_spec(vector_env.single_observation_space),
            action=action_spec(vector_env.single_action_space),
        )
        envs.reset([[0, 1]])
        assert envs.mask is None
        step = envs.step(torch.zeros(1, 2, dtype=torch.int64))
        assert step.next_mask is step.final_mask is None
    finally:
        vector_env.close()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones(3, np.int8), r"^an action mask has to have 4 entries, one per action, got \(3,\)$"),
        (np.zeros(4, np.int8), "^the action mask of environment 1 allows no action; end the episode instead$"),
    ],
    ids=["narrow", "empty"],
)
def test_odd_mask_is_refused_in_one_line(mask, message):
    envs = batch_of([partial(Odd, mask, number) for number in range(2)])
    with pytest.raises(EnvError, match=message):
        envs.reset([[0, 1]])


def test_mask_that_allows_nothing_in_the_middle_of_an_episode_names_the_environment():
    class Stuck(Choosy):
        def mask(self):
            return np.zeros(A, np.int8) if (self.steps, self.number) == (1, 1) else super().mask()

    envs = batch_of([partial(Stuck, number) for number in range(2)])
    envs.reset([[0, 1]])
    with pytest.raises(EnvError, match="environment 1 allows no action"):
        envs.step(first_allowed(envs.mask))


@every_mode
def test_mask_that_allows_nothing_at_the_start_of_an_episode_is_refused_in_every_mode(mode):
    class Stuck(Choosy):
        episodes = 0

        def reset(self, **options):
            self.episodes += 1
            return super().reset(**options)

        def mask(self):
            return np.zeros(A, np.int8) if (self.episodes, self.steps) == (2, 0) else super().mask()

    envs = batch_of([partial(Stuck, limit=2)], mode)
    envs.reset([[0]])
    for _ in range(2 if mode is AutoresetMode.NEXT_STEP else 1):
        envs.step(first_allowed(envs.mask))
    with pytest.raises(EnvError, match="environment 0 allows no action"):
        envs.step(first_allowed(envs.mask))


def test_masks_for_continuous_actions_are_refused():
    class Box(Choosy):
        action_space = spaces.Box(-1.0, 1.0, (A,))

    with pytest.raises(EnvError, match="need Discrete or MultiDiscrete actions, got gaussian ones"):
        batch_of([Box]).reset([[0]])


class Pairs(gym.Env):
    """Two choices side by side, of 2 and 3; where an episode has ended one of them is left."""

    observation_space, action_space = spaces.Box(0.0, 1.0, (1,)), spaces.MultiDiscrete([2, 3])

    def __init__(self, mask=(1, 0, 0, 1, 1), limit=3):
        self.mask, self.limit = np.array(mask, np.int8), limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.ones(1, np.float32), {"action_mask": self.mask}

    def step(self, action):
        assert self.mask[action[0]]
        assert self.mask[2 + action[1]]
        self.steps += 1
        ended = self.steps == self.limit
        mask = self.mask * (np.arange(5) < 2) if ended else self.mask
        return np.ones(1, np.float32), 0.0, ended, False, {"action_mask": mask}


gym.register("test/Pairs-v0", Pairs)


def test_every_choice_of_several_needs_something_allowed():
    with pytest.raises(EnvError, match="environment 0 allows no action"):
        batch_of([partial(Pairs, (1, 1, 0, 0, 0))]).reset([[0]])


# Learning with them

SETTINGS = {
    PPO: PPOConfig(n_steps=8, batch_size=16, n_epochs=2, net_arch=(8,)),
    A2C: A2CConfig(n_steps=8, net_arch=(8,)),
    DiscreteSAC: DiscreteSACConfig(net_arch=(8,), learning_starts=20, batch_size=16, buffer_size=64),
    SoftQ: SoftQConfig(net_arch=(8,), learning_starts=20, batch_size=16, buffer_size=64, munchausen=0.5),
}
every_agent = pytest.mark.parametrize("agent_class", SETTINGS, ids=lambda cls: cls.__name__)


def build(agent_class, env_id, *, seeds=(0, 1), n_envs=2, mode=AutoresetMode.SAME_STEP, config=None, **kwargs):
    vector_env = make_vector_env(env_id, len(seeds) * n_envs, kwargs, autoreset_mode=mode)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space)
    envs = EnvBatch(vector_env, len(seeds), observation=observation, action=action, dtype=torch.float64)
    config = config or SETTINGS[agent_class]
    agent = agent_class(
        [config] * len(seeds), seeds, observation=observation, action=action, n_envs=n_envs, dtype=torch.float64
    )
    return agent, envs


@every_mode
@pytest.mark.parametrize("last", ["usual", "none"])
@every_agent
def test_forbidden_actions_are_never_taken(agent_class, last, mode):
    agent, envs = build(agent_class, "test/Choosy-v0", mode=mode, last=last, cut=True)  # which asserts it
    *_, record = train(agent, envs, total_timesteps=160, seeds=[0, 1], log_interval=100)
    assert all(row["explore/policy_entropy"] <= np.log(2.0) + 1e-9 for row in record.rows)
    assert all(row["explore/policy_entropy"] > 0.05 for row in record.rows)


@every_mode
@pytest.mark.parametrize("agent_class", [PPO, A2C], ids=["PPO", "A2C"])
def test_forbidden_actions_of_several_choices_are_never_taken(agent_class, mode):
    agent, envs = build(agent_class, "test/Pairs-v0", mode=mode)
    *_, record = train(agent, envs, total_timesteps=64, seeds=[0, 1], log_interval=100)
    assert all(row["train/entropy"] == pytest.approx(np.log(2.0), abs=0.01) for row in record.rows)  # 1 x 2 choices


def filled(agent, envs):
    obs = envs.reset(Stream([0, 1], "environment").seeds(envs.n_envs))
    for _ in range(agent.steps_per_update):
        transition = envs.step(agent.act(obs, envs.mask))
        agent.observe(transition)
        obs = transition.next_obs
    c = agent._coefficients.at(0.0)
    return prepare(agent._collector, agent._entropy, gamma=c["gamma"], gae_lambda=c["gae_lambda"])


@every_mode
def test_masks_are_those_of_the_stored_observations(mode):
    samples = filled(*build(PPO, "test/Choosy-v0", mode=mode))
    assert torch.equal(samples.mask, allowed_at(samples.obs))


def test_probability_ratio_is_one_before_the_first_step():
    agent, envs = build(PPO, "test/Choosy-v0")
    samples = filled(agent, envs)
    _, metrics = agent._loss(samples, agent._coefficients.at(0.0))
    assert metrics["train/approx_kl"].abs().max() < 1e-12
    assert metrics["train/clip_fraction"].tolist() == [0.0, 0.0]
    logits = agent.policy.distribution(samples.obs).logits
    oracle = td.Categorical(logits=logits.masked_fill(~samples.mask, -torch.inf)).log_prob(samples.action)
    torch.testing.assert_close(samples.log_prob, oracle.detach())


def test_entropy_is_over_allowed_actions_only():
    agent, envs = build(PPO, "test/Choosy-v0")
    samples = filled(agent, envs)
    _, metrics = agent._loss(samples, agent._coefficients.at(0.0))
    logits = agent.policy.distribution(samples.obs).logits
    two = logits[samples.mask].view(*samples.action.shape, 2)
    torch.testing.assert_close(metrics["train/entropy"], td.Categorical(logits=two).entropy().mean(1).detach())


def test_masks_shuffle_with_their_samples():
    agent, envs = build(PPO, "test/Choosy-v0")
    samples = filled(agent, envs)
    index = Stream([0, 1], "test").permutation(16)
    picked = samples.pick(index)
    assert torch.equal(picked.mask, allowed_at(picked.obs))


def test_masks_of_the_replay_are_those_of_its_observations():
    agent, envs = build(DiscreteSAC, "test/Choosy-v0", cut=True)
    obs = envs.reset([[0, 1], [2, 3]])
    for _ in range(14):
        transition = envs.step(agent.act(obs, envs.mask))
        agent.observe(transition)
        obs = transition.next_obs
    batch = agent._collector.batch(agent._coefficients.at(0.0)["gamma"])
    assert torch.equal(batch.mask, allowed_at(batch.obs))
    assert torch.equal(batch.next_mask, allowed_at(batch.next_obs))
    assert (batch.next_obs[..., 0] == 3).any()  # where episodes were cut


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("last", ["usual", "none"])
@pytest.mark.parametrize("env_id", ["test/Choosy-v0", "test/ChoosyMethod-v0"])
def test_evaluation_respects_masks(env_id, last, deterministic):
    agent, _ = build(PPO, env_id)
    kwargs = {"last": last} if env_id == "test/Choosy-v0" else {}
    make_envs = partial(make_vector_env, env_id, kwargs=kwargs, autoreset_mode=AutoresetMode.DISABLED)
    observation = observation_spec(make_envs(1).single_observation_space)
    results = evaluate(agent.policy, make_envs, observation, episodes=7, n_envs=3, deterministic=deterministic)
    assert [len(result.returns) for result in results] == [7, 7]
    assert all(set(result.lengths) == {3} for result in results)


# A stock environment that tells its masks in info

TAXI = max(name for name in gym.registry if name.startswith("Taxi-v"))


@every_agent
def test_taxi_is_driven_by_allowed_actions_only(agent_class, monkeypatch):
    def checked(self, action, step=TaxiEnv.step):
        assert self.action_mask(self.s)[action]
        return step(self, action)

    monkeypatch.setattr(TaxiEnv, "step", checked)
    agent, envs = build(agent_class, TAXI)
    *_, record = train(agent, envs, total_timesteps=96, seeds=[0, 1], log_interval=100)
    assert all(0.0 < row["explore/policy_entropy"] <= np.log(6.0) for row in record.rows)
