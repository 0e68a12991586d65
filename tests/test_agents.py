"""PPO and A2C: against Stable-Baselines3, against themselves in a batch, and on tasks with a known answer."""

import math
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import A2C, PPO, A2CConfig, PPOConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import ConfigError
from entropic_rl.evaluation import evaluate
from entropic_rl.on_policy import Samples, prepare
from entropic_rl.optimizers import Adam, RMSprop
from entropic_rl.reductions import mean_and_quantiles
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

CONFIGS = {PPO: PPOConfig, A2C: A2CConfig}
both_agents = pytest.mark.parametrize("agent_class", [PPO, A2C])
every_mode = pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)


def build(
    agent_class, configs, seeds, env_id, *, n_envs=2, dtype=torch.float32, mode=AutoresetMode.SAME_STEP, **kwargs
):
    """An agent of len(seeds) runs and its environments."""
    vector_env = make_vector_env(env_id, len(seeds) * n_envs, kwargs, autoreset_mode=mode)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space, squash_output=getattr(configs[0], "squash_output", False))
    envs = EnvBatch(vector_env, len(seeds), observation=observation, action=action, dtype=dtype)
    agent = agent_class(configs, seeds, observation=observation, action=action, n_envs=n_envs, dtype=dtype)
    return agent, envs


def learn(agent_class, configs, seeds, env_id, *, total_timesteps, **options):
    """A trained agent and the rows of its records."""
    agent, envs = build(agent_class, configs, seeds, env_id, **options)
    records = list(train(agent, envs, total_timesteps=total_timesteps, seeds=seeds))
    envs.close()
    return agent, [record.rows for record in records]


def score(agent, env_id, episodes=16, **kwargs):
    """Mean deterministic return of every run."""
    make_envs = partial(make_vector_env, env_id, kwargs=kwargs)
    observation = observation_spec(make_envs(1).single_observation_space)
    return [result.mean for result in evaluate(agent.policy, make_envs, observation, episodes=episodes)]


def filled(agent, envs, seeds):
    """Fill the agent's rollout from fresh episodes."""
    obs = envs.reset(Stream(seeds, "environment").seeds(envs.n_envs))
    for _ in range(agent.steps_per_update):
        transition = envs.step(agent.act(obs))
        agent.observe(transition)
        obs = transition.next_obs
    return agent._collector.rollout


def samples_of(agent):
    c = agent._coefficients.at(0.0)
    return prepare(agent._collector, agent._entropy, gamma=c["gamma"], gae_lambda=c["gae_lambda"])


def gradient(agent, samples):
    """The gradient of every run's loss, ``[R, P]``, before clipping."""
    parts, metrics = agent._loss(samples, agent._coefficients.at(0.0))
    agent.policy.params.backward(parts.total)
    return agent.policy.params.grads.clone(), metrics


# Stable-Baselines3 as the oracle

SB3_NAMES = {
    "actor.0": "mlp_extractor.policy_net.0",
    "actor.1": "mlp_extractor.policy_net.2",
    "actor.2": "action_net",
    "critic.0": "mlp_extractor.value_net.0",
    "critic.1": "mlp_extractor.value_net.2",
    "critic.2": "value_net",
}
SHARED = {"ent_coef": 0.03, "vf_coef": 0.7, "max_grad_norm": 1e9, "learning_rate": 1e-3}
CASES = {
    "ppo": (PPO, {**SHARED, "n_steps": 48, "batch_size": 48, "n_epochs": 1}),
    "ppo-value-clip": (PPO, {**SHARED, "n_steps": 48, "batch_size": 48, "n_epochs": 1, "clip_range_vf": 0.1}),
    "ppo-clipped": (PPO, {**SHARED, "n_steps": 48, "batch_size": 48, "n_epochs": 1, "max_grad_norm": 0.5}),
    "a2c": (A2C, {**SHARED, "n_steps": 48}),
    "a2c-normalised": (A2C, {**SHARED, "n_steps": 48, "normalize_advantage": True}),
}


def in_our_names(tensor_of):
    """Tensors of an SB3 policy under our names and in our layout, one run."""
    ours = {}
    for name, theirs in SB3_NAMES.items():
        ours[f"{name}.weight"] = tensor_of(f"{theirs}.weight").T.unsqueeze(0).contiguous()
        ours[f"{name}.bias"] = tensor_of(f"{theirs}.bias").reshape(1, 1, -1)
    with suppress(KeyError):  # discrete actions have none
        ours["log_std"] = tensor_of("log_std").reshape(1, 1, -1)
    return ours


def twins(case, env_id):
    """An SB3 model with a full random rollout buffer, our agent with its weights, and our view of that buffer."""
    import stable_baselines3
    from stable_baselines3.common.logger import Logger

    agent_class, settings = CASES[case]
    env = gym.make(env_id)
    n = settings["n_steps"]
    model = getattr(stable_baselines3, agent_class.__name__)("MlpPolicy", env, seed=1, device="cpu", **settings)
    model.set_logger(Logger(None, []))
    rng = np.random.default_rng(0)
    with torch.no_grad():  # away from the initial near-uniform head, so that gradients say something
        for parameter in model.policy.parameters():
            parameter.add_(torch.as_tensor(rng.normal(0, 0.1, parameter.shape), dtype=torch.float32))
    model.rollout_buffer.reset()
    for _ in range(n):
        obs = env.observation_space.low.clip(-1) + rng.random(env.observation_space.shape)
        action = np.asarray(env.action_space.sample())
        obs_tensor = torch.as_tensor(obs, dtype=torch.float32)[None]
        with torch.no_grad():
            value, log_prob, _ = model.policy.evaluate_actions(obs_tensor, torch.as_tensor(action)[None])
        noise = rng.normal(0, 0.2, 2)  # ratios on both sides of the clip range, values that moved
        model.rollout_buffer.add(
            obs[None], action[None], rng.normal(size=1), np.zeros(1), value + noise[0], log_prob + noise[1]
        )
    model.rollout_buffer.compute_returns_and_advantage(torch.zeros(1), np.zeros(1))
    buffer = model.rollout_buffer
    agent = agent_class(
        [CONFIGS[agent_class](**settings)],
        [0],
        observation=observation_spec(env.observation_space),
        action=action_spec(env.action_space),
        n_envs=1,
    )
    agent.policy.params.load(in_our_names(model.policy.state_dict().__getitem__))
    discrete = isinstance(env.action_space, gym.spaces.Discrete)
    actions = torch.as_tensor(buffer.actions[:, 0])

    def flat(array):
        return torch.as_tensor(array).reshape(1, n)

    samples = Samples(
        obs=torch.as_tensor(buffer.observations[:, 0]).unsqueeze(0),
        action=actions.reshape(1, n).long() if discrete else actions.unsqueeze(0),
        log_prob=flat(buffer.log_probs),
        value=flat(buffer.values),
        advantage=flat(buffer.advantages),
        value_target=flat(buffer.returns),
        valid=None,
        mask=None,
        entropy=torch.zeros(1),
        reward_scale=torch.ones(1),
    )
    return model, agent, samples


def assert_equal_parameters(ours, theirs):
    assert ours.keys() == theirs.keys()
    largest = max(float(tensor.abs().max()) for tensor in theirs.values())
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-5, atol=1e-5 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )


sb3_cases = pytest.mark.parametrize("case", CASES)
sb3_envs = pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])


@sb3_envs
@sb3_cases
def test_gradients_equal_those_of_stable_baselines3(case, env_id):
    model, agent, samples = twins(case, env_id)
    grads, _ = gradient(agent, samples)
    limit = CASES[case][1]["max_grad_norm"]
    grads *= min(1.0, limit / (float(grads.norm()) + 1e-6))  # SB3 leaves the clipped gradient
    named = agent.policy.params.named()
    parts = grads.split([tensor[0].numel() for tensor in named.values()], 1)
    ours = {name: part.view_as(tensor) for (name, tensor), part in zip(named.items(), parts, strict=True)}
    model.train()
    parameters = dict(model.policy.named_parameters())
    assert_equal_parameters(ours, in_our_names(lambda name: parameters[name].grad))


@sb3_envs
@sb3_cases
def test_losses_equal_those_of_stable_baselines3(case, env_id):
    model, agent, samples = twins(case, env_id)
    _, metrics = gradient(agent, samples)
    model.train()
    logged = model.logger.name_to_value
    policy_loss = logged.get("train/policy_gradient_loss", logged.get("train/policy_loss"))
    # abs: with normalised advantages, terms of order 1 nearly cancel, down to what float32 can tell apart.
    assert float(metrics["train/policy_gradient_loss"]) == pytest.approx(policy_loss, rel=1e-5, abs=1e-6)
    assert float(metrics["train/value_loss"]) == pytest.approx(logged["train/value_loss"], rel=1e-5)
    assert float(metrics["train/entropy"]) == pytest.approx(-logged["train/entropy_loss"], rel=1e-5)
    if "train/loss" in logged:
        assert float(metrics["train/loss"]) == pytest.approx(logged["train/loss"], rel=1e-5)
        assert float(metrics["train/approx_kl"]) == pytest.approx(logged["train/approx_kl"], rel=1e-4)
        assert float(metrics["train/clip_fraction"]) == pytest.approx(logged["train/clip_fraction"], rel=1e-5)


@sb3_envs
@sb3_cases
def test_parameters_after_three_steps_equal_those_of_stable_baselines3(case, env_id):
    model, agent, samples = twins(case, env_id)
    for _ in range(3):
        model.train()
        parts, _ = agent._loss(samples, agent._coefficients.at(0.0))
        extra = (None,) if isinstance(agent, PPO) else ()
        agent._step(samples, parts, agent._coefficients.at(0.0), *extra)
    assert_equal_parameters(agent.policy.params.named(), in_our_names(model.policy.state_dict().__getitem__))


# A run alone is the same run inside a batch

SMALL = {
    PPO: {"n_steps": 16, "batch_size": 10, "n_epochs": 3, "net_arch": (16, 16)},
    A2C: {"n_steps": 8, "net_arch": (16, 16)},
}


def variants(agent_class):
    base = CONFIGS[agent_class](**SMALL[agent_class])
    return [
        replace(base, ent_coef=0.0),
        replace(base, ent_coef=0.1, gamma=0.9),
        replace(base, ent_coef="linear:0.3:0", vf_coef=0.1, learning_rate=1e-2, max_grad_norm=0.1),
        replace(base, ent_coef=0.0),
    ]


def record_actions(agent):
    """Every action the agent takes from now on, in a list."""
    taken, act = [], agent.act

    def recording(obs, mask=None):
        taken.append(act(obs, mask))
        return taken[-1]

    agent.act = recording
    return taken


def run_batch(agent_class, configs, seeds, env_id="CartPole-v1", *, iterations=5):
    """Final parameters, every action and every row of a training in float64."""
    n_envs = 2
    agent, envs = build(agent_class, configs, seeds, env_id, n_envs=n_envs, dtype=torch.float64)
    actions = record_actions(agent)
    steps = iterations * agent.steps_per_update * n_envs
    rows = [record.rows for record in train(agent, envs, total_timesteps=steps, seeds=seeds)]
    return agent.policy.params.values, torch.stack(actions), rows


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@both_agents
def test_run_alone_equals_the_same_run_inside_a_batch(agent_class, env_id):
    configs, seeds = variants(agent_class), [5, 6, 5, 7]
    values, actions, rows = run_batch(agent_class, configs, seeds, env_id)
    for run in range(4):
        alone, actions_alone, rows_alone = run_batch(agent_class, [configs[run]], [seeds[run]], env_id)
        torch.testing.assert_close(alone[0], values[run], rtol=0, atol=1e-9)
        if env_id == "CartPole-v1":  # discrete: the same random numbers give the same actions exactly
            assert torch.equal(actions_alone[:, 0], actions[:, run])
        torch.testing.assert_close(actions_alone[:, 0], actions[:, run], rtol=0, atol=1e-9)
        expected = {k: v for k, v in rows_alone[-1][0].items() if not k.startswith("time/")}
        assert {k: rows[-1][run][k] for k in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


@both_agents
def test_normalisation_statistics_do_not_mix_runs(agent_class):
    base = CONFIGS[agent_class](**SMALL[agent_class], normalize_obs=True, normalize_reward=True)
    configs = [base, replace(base, ent_coef=0.2)]
    together, _, _ = run_batch(agent_class, configs, [1, 2])
    alone, _, _ = run_batch(agent_class, configs[1:], [2])
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-9)


@both_agents
def test_equal_seeds_and_coefficients_give_equal_rows(agent_class):
    config = CONFIGS[agent_class](**SMALL[agent_class], ent_coef=0.01)
    values, actions, _ = run_batch(agent_class, [config, replace(config, ent_coef=0.5), config], [3, 3, 3])
    torch.testing.assert_close(values[0], values[2], rtol=0, atol=1e-12)
    assert torch.equal(actions[:, 0], actions[:, 2])
    assert not torch.allclose(values[0], values[1])


@both_agents
def test_different_seeds_give_different_runs(agent_class):
    config = CONFIGS[agent_class](**SMALL[agent_class])
    values, actions, _ = run_batch(agent_class, [config, config], [3, 4], iterations=1)
    assert not torch.equal(actions[:, 0], actions[:, 1])
    assert not torch.allclose(values[0], values[1])


# target_kl

STOPPING = PPOConfig(**{**SMALL[PPO], "n_epochs": 8}, target_kl=0.003)
EAGER, SHY = replace(STOPPING, learning_rate=2e-2), replace(STOPPING, learning_rate=1e-5)


def test_target_kl_stops_a_run_without_touching_its_neighbours():
    together, _, _ = run_batch(PPO, [EAGER, SHY], [1, 2])
    alone, _, _ = run_batch(PPO, [SHY], [2])
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-9)


def test_run_that_target_kl_stops_is_the_same_alone_and_beside_one_that_goes_on():
    together, actions, _ = run_batch(PPO, [EAGER, SHY], [1, 2])
    alone, actions_alone, _ = run_batch(PPO, [EAGER], [1])
    assert torch.equal(actions_alone[:, 0], actions[:, 0])
    torch.testing.assert_close(alone[0], together[0], rtol=0, atol=1e-9)


def test_metrics_of_a_stopped_run_are_the_same_alone_and_beside_one_that_goes_on():
    _, _, rows = run_batch(PPO, [EAGER, SHY], [1, 2], iterations=1)
    _, _, rows_alone = run_batch(PPO, [EAGER], [1], iterations=1)
    expected = {k: v for k, v in rows_alone[0][0].items() if not k.startswith("time/")}
    assert {k: rows[0][0][k] for k in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


def test_stopped_run_does_not_coast_on_its_momentum():
    agent, envs = build(PPO, [EAGER, SHY], [1, 2], "CartPole-v1")
    filled(agent, envs, [1, 2])
    history, step = [], agent._optimizer.step

    def recording(*args, **kwargs):
        step(*args, **kwargs)
        history.append(torch.cat([agent.policy.params.values, agent._optimizer.exp_avg], 1))

    agent._optimizer.step = recording
    agent.update(0.0)
    moved = [(now != before).any(1).tolist() for before, now in pairwise(history)]
    eager, shy = zip(*moved, strict=True)
    stop = eager.index(False)
    assert not any(eager[stop:])
    assert all(shy)


# The sign and size of the entropy term

BANDIT = {
    PPO: {"n_steps": 8, "batch_size": 128, "n_epochs": 4, "learning_rate": 2e-2, "net_arch": (8,), "gamma": 0.0},
    A2C: {"n_steps": 4, "learning_rate": "linear:0.02:0.0001", "net_arch": (8,), "gamma": 0.0},
}


def bandit_policies(agent_class, coefs, updates=40, **settings):
    """Action probabilities ``[R, 3]`` after training on rewards 0, 0.5 and 1."""
    base = CONFIGS[agent_class](**{**BANDIT[agent_class], **settings})
    configs = [replace(base, ent_coef=coef) for coef in coefs]
    steps = updates * base.n_steps * 16
    agent, rows = learn(agent_class, configs, [0] * len(coefs), "test/Bandit-v0", n_envs=16, total_timesteps=steps)
    logits = agent.policy.distribution(torch.ones(len(coefs), 1, 1)).logits[:, 0]
    return logits.detach().softmax(-1), rows


@both_agents
def test_large_coefficient_gives_the_uniform_policy_and_zero_the_greedy_one(agent_class):
    (uniform, greedy), rows = bandit_policies(agent_class, [50.0, 0.0])
    torch.testing.assert_close(uniform, torch.full((3,), 1 / 3), rtol=0, atol=0.05)
    assert greedy[2] > 0.9
    assert rows[-1][0]["train/entropy"] > 0.99 * math.log(3) > rows[-1][1]["train/entropy"]


@pytest.mark.slow
def test_a2c_without_advantage_normalisation_converges_to_softmax_of_reward_over_coefficient():
    # One state, one step: the policy that maximises E[r] + c H is softmax(r / c).
    coefs = [0.25, 0.5, 1.0]
    policies, _ = bandit_policies(A2C, coefs, updates=250, max_grad_norm=100.0)
    for policy, coef in zip(policies, coefs, strict=True):
        target = (torch.tensor([0.0, 0.5, 1.0]) / coef).softmax(-1)
        assert float((target * (target / policy).log()).sum()) < 0.01


# Truncation is not termination


CLOCK = {"n_steps": 16, "vf_coef": 1.0, "max_grad_norm": 100.0, "net_arch": (16,), "gamma": 0.8, "gae_lambda": 0.9}
CLOCK_LEARNING = {
    PPO: {**CLOCK, "learning_rate": "linear:0.03:0", "batch_size": 32, "n_epochs": 4},
    A2C: {**CLOCK, "learning_rate": "linear:0.03:0"},
}


def clock_values(agent_class, mode, updates, **kwargs):
    """Values of the four observations that are acted on."""
    config = CONFIGS[agent_class](**CLOCK_LEARNING[agent_class])
    steps = updates * config.n_steps * 4
    agent, _ = learn(agent_class, [config], [0], "test/Clock-v0", n_envs=4, total_timesteps=steps, mode=mode, **kwargs)
    return agent.policy.value(torch.eye(5)[None, :4])[0].detach()


@every_mode
@pytest.mark.parametrize(("agent_class", "updates"), [(PPO, 20), pytest.param(A2C, 1000, marks=pytest.mark.slow)])
def test_value_under_a_time_limit_is_that_of_the_endless_task(agent_class, updates, mode):
    # The clock is hidden and is not the task: 1 + gamma + gamma^2 + ... = 1 / (1 - 0.8).
    value = clock_values(agent_class, mode, updates, cut=True, hidden=True)[0]
    assert float(value) == pytest.approx(5.0, rel=0.03)


@every_mode
@pytest.mark.parametrize(("agent_class", "updates"), [(PPO, 20), pytest.param(A2C, 1000, marks=pytest.mark.slow)])
def test_value_before_a_termination_is_the_finite_sum(agent_class, updates, mode):
    value = clock_values(agent_class, mode, updates, cut=False)
    # 1 + 0.8 + 0.64 + 0.512 with four steps to go, then three, two, one
    assert value.tolist() == pytest.approx([2.952, 2.44, 1.8, 1.0], rel=0.05)


@every_mode
def test_target_at_a_truncation_bootstraps_from_the_final_observation(mode):
    config = A2CConfig(n_steps=7, gamma=0.5, gae_lambda=0.0)
    agent, envs = build(A2C, [config], [0], "test/Clock-v0", n_envs=1, mode=mode, limit=3)
    filled(agent, envs, [0])
    samples = samples_of(agent)
    value = agent.policy.value(torch.eye(4).unsqueeze(0))[0].detach()
    steps = [1, 2, 3, 1, 2, 3, 1] if mode != AutoresetMode.NEXT_STEP else [1, 2, 3, None, 1, 2, 3]
    expected = [1.0 + 0.5 * float(value[step]) for step in steps if step is not None]  # r + gamma V(s reached)
    kept = [i for i, step in enumerate(steps) if step is not None]
    assert samples.value_target[0, kept].tolist() == pytest.approx(expected, rel=1e-5)


# Tasks that are learned in seconds

QUICK = {
    PPO: {"n_steps": 16, "batch_size": 64, "n_epochs": 6, "learning_rate": 1e-2, "gamma": 0.0, "net_arch": (32,)},
    A2C: {"n_steps": 4, "learning_rate": 1e-2, "gamma": 0.0, "net_arch": (32,), "normalize_advantage": True},
}
BUDGET = {PPO: 10 * 16 * 16, A2C: 120 * 4 * 16}


def identity_score(agent_class, observation="box", action="discrete", **settings):
    config = CONFIGS[agent_class](**{**QUICK[agent_class], **settings})
    spaces = {"observation": observation, "action": action}
    agent, _ = learn(
        agent_class, [config], [0], "test/Identity-v0", n_envs=16, total_timesteps=BUDGET[agent_class], **spaces
    )
    return score(agent, "test/Identity-v0", **spaces)[0]


@pytest.mark.parametrize("action", ["discrete", "multi-discrete", "multi-binary", "box"])
@both_agents
def test_identity_is_learned_with_every_kind_of_action(agent_class, action):
    settings = {"log_std_init": -1.0} if action == "box" else {}
    assert identity_score(agent_class, action=action, **settings) > 0.9 * 8


@pytest.mark.parametrize("observation", ["discrete", "multi-discrete", "multi-binary", "dict"])
def test_identity_is_learned_from_every_kind_of_observation(observation):
    assert identity_score(PPO, observation=observation) > 0.9 * 8


@pytest.mark.parametrize(
    ("action", "settings"),
    [
        ("discrete", {"normalize_obs": True, "normalize_reward": True}),
        ("discrete", {"share_features": True}),
        ("discrete", {"net_arch": ()}),
        ("multi-binary", {"target_kl": 0.1, "clip_range_vf": 1.0}),
        ("box", {"squash_output": True, "ent_coef": 0.001}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_identity_is_learned_with_every_option(action, settings):
    learning = {"n_epochs": 10} if settings.get("net_arch") == () else {}
    assert identity_score(PPO, action=action, **{**settings, **learning}) > 0.85 * 8


@pytest.mark.parametrize(
    ("agent_class", "mode"),
    [(PPO, AutoresetMode.NEXT_STEP), *((A2C, mode) for mode in AutoresetMode)],
    ids=lambda value: value.__name__ if isinstance(value, type) else value.name,
)
def test_every_autoreset_mode_trains(agent_class, mode):
    config = CONFIGS[agent_class](**QUICK[agent_class])
    agent, rows = learn(
        agent_class, [config], [0], "test/Identity-v0", n_envs=16, total_timesteps=BUDGET[agent_class], mode=mode
    )
    assert score(agent, "test/Identity-v0")[0] > 0.9 * 8
    assert rows[-1][0]["rollout/ep_len_mean"] == 8.0


# NEXT_STEP: rows in which an env only reset


def garbled(agent):
    """Change everything in the rows of the rollout that are no transitions."""
    rollout = agent._collector.rollout
    garbage = ~rollout.valid
    assert garbage.any()
    rollout.obs[:-1][garbage] = 7.0
    rollout.reward[garbage] = -1e3
    rollout.action[garbage] = 1 - rollout.action[garbage] if rollout.action.dtype == torch.int64 else 3.0


@pytest.mark.parametrize("normalize_advantage", [True, False])
@both_agents
def test_reset_rows_do_not_influence_loss_gradient_or_entropy(agent_class, normalize_advantage):
    config = CONFIGS[agent_class](**SMALL[agent_class], ent_coef=0.1, normalize_advantage=normalize_advantage)
    agent, envs = build(agent_class, [config], [0], "test/Clock-v0", mode=AutoresetMode.NEXT_STEP, limit=3)
    filled(agent, envs, [0])
    before, metrics = gradient(agent, samples_of(agent))
    garbled(agent)
    after, garbled_metrics = gradient(agent, samples_of(agent))
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert {k: float(v) for k, v in garbled_metrics.items()} == {k: float(v) for k, v in metrics.items()}


def test_reset_rows_do_not_influence_what_an_update_learns():
    results = []
    for change in (lambda agent: None, garbled):
        config = PPOConfig(**SMALL[PPO], ent_coef=0.1)
        agent, envs = build(PPO, [config], [0], "test/Clock-v0", mode=AutoresetMode.NEXT_STEP, limit=3)
        filled(agent, envs, [0])
        change(agent)
        metrics = agent.update(0.0)
        results.append((agent.policy.params.values.clone(), {k: float(v) for k, v in metrics.items()}))
    (plain, metrics), (changed, garbled_metrics) = results
    torch.testing.assert_close(changed, plain, rtol=0, atol=1e-7)
    assert garbled_metrics == pytest.approx(metrics, rel=1e-5, nan_ok=True)


def test_reset_rows_do_not_influence_the_saturation_metric():
    config = PPOConfig(n_steps=16, batch_size=16)
    agent, envs = build(
        PPO, [config], [0], "test/Identity-v0", mode=AutoresetMode.NEXT_STEP, observation="box", action="box"
    )
    saturation = []
    for change in (lambda agent: None, garbled):
        filled(agent, envs, [0])
        before = agent._collector.rollout.valid.clone()
        change(agent)
        actions = agent._collector.rollout.action[before]
        expected = float((actions.abs() >= 1.0).float().mean())
        saturation.append((float(agent.update(0.0)["explore/saturation"]), expected))
    for reported, expected in saturation:
        assert reported == pytest.approx(expected, rel=1e-5)


def test_observation_statistics_are_the_same_in_every_autoreset_mode():
    # Same actions cannot be forced through resets, but this env's observations do not depend on them: after whole
    # episodes the statistics must count each acted-on observation once, and no observation twice.
    means = []
    for mode in AutoresetMode:
        n_steps = 12 if mode is not AutoresetMode.NEXT_STEP else 16  # four episodes of three steps, and their resets
        config = A2CConfig(n_steps=n_steps, normalize_obs=True)
        agent, envs = build(A2C, [config], [0], "test/Clock-v0", n_envs=1, mode=mode, limit=3)
        filled(agent, envs, [0])
        means.append(agent.policy.normalizer.statistics.mean)
    for mean in means[1:]:
        torch.testing.assert_close(mean, means[0], rtol=1e-6, atol=1e-9)


# Metrics and edges


@both_agents
def test_entropy_metric_is_positive_nats_of_the_policy(agent_class):
    _, rows = learn(agent_class, [CONFIGS[agent_class](**SMALL[agent_class])], [0], "CartPole-v1", total_timesteps=64)
    assert rows[0][0]["train/entropy"] == pytest.approx(math.log(2), rel=1e-2)  # nearly uniform over two actions


@both_agents
def test_effective_temperature_is_the_coefficient_times_the_spread_of_normalised_advantages(agent_class):
    config = CONFIGS[agent_class](**SMALL[agent_class], ent_coef=0.02, normalize_advantage=True)
    agent, envs = build(agent_class, [config], [0], "CartPole-v1")
    filled(agent, envs, [0])
    spread = float(samples_of(agent).advantage.std(correction=0))
    assert float(agent.update(0.0)["train/effective_temperature"]) == pytest.approx(0.02 * spread, rel=1e-5)


@both_agents
def test_effective_temperature_is_the_coefficient_where_advantages_stay_as_they_are(agent_class):
    config = CONFIGS[agent_class](**SMALL[agent_class], ent_coef=0.02, normalize_advantage=False)
    agent, envs = build(agent_class, [config], [0], "CartPole-v1")
    filled(agent, envs, [0])
    assert float(agent.update(0.0)["train/effective_temperature"]) == pytest.approx(0.02)


@both_agents
def test_scheduled_coefficients_follow_progress_and_stay_at_their_end(agent_class):
    config = CONFIGS[agent_class](**SMALL[agent_class], ent_coef="linear:0.4:0.1", learning_rate="linear:0.001:0")
    agent, envs = build(agent_class, [config], [0], "CartPole-v1")
    for progress, ent_coef, learning_rate in ((0.0, 0.4, 1e-3), (0.5, 0.25, 5e-4), (1.0, 0.1, 0.0), (1.5, 0.1, 0.0)):
        filled(agent, envs, [0])
        metrics = agent.update(progress)
        assert float(metrics["train/ent_coef"]) == pytest.approx(ent_coef)
        assert float(metrics["train/learning_rate"]) == pytest.approx(learning_rate)


@pytest.mark.parametrize(("n_steps", "batch_size"), [(4, 1), (9, 4), (1, 1)])
def test_minibatch_of_one_with_advantage_normalisation_is_finite(n_steps, batch_size):
    config = PPOConfig(n_steps=n_steps, batch_size=batch_size, n_epochs=2, net_arch=(4,), normalize_advantage=True)
    agent, rows = learn(PPO, [config], [0], "CartPole-v1", n_envs=1, total_timesteps=3 * n_steps)
    assert agent.policy.params.values.isfinite().all()
    assert math.isfinite(rows[-1][0]["train/loss"])


@both_agents
def test_gradient_norm_is_clipped_per_run(agent_class):
    base = CONFIGS[agent_class](**SMALL[agent_class], ent_coef=1e4)
    configs = [replace(base, max_grad_norm=0.1), replace(base, max_grad_norm=1e9)]
    agent, envs = build(agent_class, configs, [0, 0], "Pendulum-v1")
    filled(agent, envs, [0, 0])
    norms, step = [], agent._optimizer.step

    def recording(params, grads, *rest, **kwargs):
        norms.append(grads.norm(dim=1))
        step(params, grads, *rest, **kwargs)

    agent._optimizer.step = recording
    agent.update(0.0)
    assert float(norms[0][0]) == pytest.approx(0.1, rel=1e-4)
    assert norms[0][1] > 1.0


@both_agents
def test_agents_use_the_optimizer_of_their_paper(agent_class):
    agent, _ = build(agent_class, [CONFIGS[agent_class]()], [0], "CartPole-v1")
    assert isinstance(agent._optimizer, {PPO: Adam, A2C: RMSprop}[agent_class])


@both_agents
def test_same_settings_and_seed_give_bit_identical_parameters_and_metrics(agent_class):
    config = CONFIGS[agent_class](**SMALL[agent_class], ent_coef=0.01)
    results = []
    for _ in range(2):
        agent, rows = learn(agent_class, [config], [11], "CartPole-v1", total_timesteps=160)
        metrics = [{k: repr(v) for k, v in row[0].items() if not k.startswith("time/")} for row in rows]
        results.append((agent.policy.params.values, metrics))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_minibatch_larger_than_a_rollout_is_refused():
    with pytest.raises(
        (ValueError, ConfigError), match=r"batch_size: expected at most n_steps \* n_envs = 8 \* 2 = 16, got 64"
    ):
        build(PPO, [PPOConfig(n_steps=8, batch_size=64)], [0], "CartPole-v1", n_envs=2)


def test_effective_temperature_is_in_reward_units_when_rewards_are_normalised():
    agent, envs = build(A2C, [A2CConfig(n_steps=16, ent_coef=0.3, normalize_reward=True)], [0], "Pendulum-v1")
    filled(agent, envs, [0])
    scale = float(agent._collector.reward_normalizer.scale)
    assert scale != pytest.approx(1.0, rel=0.1)  # Pendulum's rewards are not of unit size
    assert float(agent.update(0.0)["train/effective_temperature"]) == pytest.approx(0.3 * scale, rel=1e-5)


# The policy's entropy from state to state


def naive_quantiles(entropies):
    """Mean, and the values of rank ``round((n - 1) q)`` of n, of one run's entropies."""
    ordered = sorted(entropies)
    ranks = [round((len(ordered) - 1) * q) for q in (0.1, 0.5, 0.9)]
    return [sum(ordered) / len(ordered), *(ordered[rank] for rank in ranks)]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 11, 100])
def test_entropy_quantiles_are_those_of_a_sorted_list(n):
    x = torch.rand(3, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    expected = [naive_quantiles(row) for row in x.tolist()]
    torch.testing.assert_close(mean_and_quantiles(x, None), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_entropy_quantiles_leave_out_samples_that_do_not_count(share):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 60, generator=generator, dtype=torch.float64)
    valid = torch.rand(4, 60, generator=generator) < share
    valid[:, 7] = True  # another number of them in every run, and one at least
    assert len(set(valid.sum(1).tolist())) > 1
    expected = [naive_quantiles(row[mask].tolist()) for row, mask in zip(x, valid, strict=True)]
    torch.testing.assert_close(mean_and_quantiles(x, valid), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP], ids=lambda mode: mode.name)
@both_agents
def test_entropy_quantiles_in_the_record_are_those_of_the_states_met(agent_class, mode):
    config = CONFIGS[agent_class](**SMALL[agent_class])
    agent, envs = build(agent_class, [config] * 2, [0, 1], "test/Lottery-v0", n_envs=3, mode=mode, dtype=torch.float64)
    noise = torch.randn(agent.policy.params.values.shape, generator=torch.Generator().manual_seed(0))
    agent.policy.params.values.copy_(0.3 * noise)  # so that some states leave less choice than others
    filled(agent, envs, [0, 1])
    rollout = agent._collector.rollout
    met = rollout.obs[:-1].transpose(0, 1).flatten(1, 2)
    valid = rollout.valid.transpose(0, 1).flatten(1)
    assert bool(valid.all()) == (mode is AutoresetMode.SAME_STEP)
    entropy = agent.policy.distribution(met).entropy().detach()
    metrics = agent.update(0.0)
    names = ["explore/policy_entropy", *(f"explore/policy_entropy_q{q}" for q in (10, 50, 90))]
    found = torch.stack([metrics[name] for name in names], 1)
    expected = [naive_quantiles(row[mask].tolist()) for row, mask in zip(entropy, valid, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert (found[:, 3] > 1.01 * found[:, 1]).all()
