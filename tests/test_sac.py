"""Soft actor-critic, for Box and for Discrete actions: against Stable-Baselines3, naive loops, and known answers."""

import math
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from scipy import stats

from entropic_rl.agents import SAC, DiscreteSAC, DiscreteSACConfig, SACConfig
from entropic_rl.buffers import Batch
from entropic_rl.environments import make_vector_env
from entropic_rl.families import EntropyFamily
from entropic_rl.spaces import ObservationSpec, action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch, Transition

R, B, D = 2, 12, 3
BOX = action_spec(spaces.Box(-2.0, 2.0, (2,)), squash_output=True)
CHOICE = action_spec(spaces.Discrete(4))
SMALL = {"net_arch": (8, 8), "batch_size": B, "buffer_size": 64}
AGENTS = {"sac": (SAC, SACConfig(**SMALL), BOX), "discrete-sac": (DiscreteSAC, DiscreteSACConfig(**SMALL), CHOICE)}
both_agents = pytest.mark.parametrize("name", AGENTS)
both_envs = pytest.mark.parametrize(("name", "env_id"), [("sac", "Pendulum-v1"), ("discrete-sac", "CartPole-v1")])


def agent_of(name, *settings, n_envs=2, seeds=None, dtype=torch.float64):
    """One run per mapping of settings, parameters away from those at the beginning."""
    agent_class, config, action = AGENTS[name]
    settings = settings or ({}, {})
    agent = agent_class(
        [replace(config, **changes) for changes in settings],
        seeds or range(len(settings)),
        observation=ObservationSpec.vector(D),
        action=action,
        n_envs=n_envs,
        dtype=dtype,
    )
    generator = torch.Generator().manual_seed(1)
    for values in (agent.policy.params.values, agent.critics.params.values, agent.critics.target.values):
        values.add_(0.3 * torch.randn(values.shape[1], generator=generator, dtype=dtype))
    return agent


def batch_of(name, *, n_runs=R, masked=False, seed=0):
    """Made-up transitions; some end the task."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(n_runs, B, *shape, generator=g, dtype=torch.float64)

    discrete = name == "discrete-sac"
    mask, next_mask = normal(4) > 0.0, normal(4) > 0.0
    mask[..., 1] = next_mask[..., 2] = True
    return Batch(
        obs=normal(D),
        action=torch.ones(n_runs, B, dtype=torch.int64) if discrete else normal(2).tanh(),
        reward=normal(),
        next_obs=normal(D),
        terminated=normal() > 0.5,
        discount=torch.full((n_runs, B), 0.9, dtype=torch.float64),
        valid=None,
        mask=mask if masked else None,
        next_mask=next_mask if masked else None,
    )


def noise_of(n_runs=R, seed=5):
    return torch.randn(n_runs, B, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def forward(rows, row, name, x):
    """What a network of one row answers to one input, layer by layer."""
    tensors, i = {key: tensor[row] for key, tensor in rows.named().items()}, 0
    while f"{name}.{i}.weight" in tensors:
        x = (x.relu() if i else x) @ tensors[f"{name}.{i}.weight"] + tensors[f"{name}.{i}.bias"][0]
        i += 1
    return x


def critic_loss(agent, batch):
    return agent._critic_loss(batch, *([noise_of(len(batch.obs))] if isinstance(agent, SAC) else [])).detach()


def actor_loss(agent, batch):
    distribution = agent.policy.distribution(batch.obs, batch.mask)
    if isinstance(agent, SAC):
        return agent._actor_loss(batch, *agent._act_and_bonus(distribution, noise_of(len(batch.obs)))).detach()
    return agent._actor_loss(batch, distribution, agent._entropy.bonus(distribution)).detach()


# Stable-Baselines3 as the oracle

SHARED = {"learning_rate": 3e-3, "tau": 0.05, "gamma": 0.9, "batch_size": B}
CASES = {
    "auto": {"ent_coef": "auto"},
    "auto-from": {"ent_coef": "auto:0.3"},
    "constant": {"ent_coef": 0.2},
}


def sb3_model(seed, ent_coef):
    """A stock SAC, its replay memory and its optimizers made to tell what they do."""
    from stable_baselines3 import SAC as SB3SAC
    from stable_baselines3.common.logger import Logger

    env = gym.make("test/Identity-v0", action="box")
    model = SB3SAC(
        "MlpPolicy",
        env,
        seed=seed,
        device="cpu",
        ent_coef=str(ent_coef).replace(":", "_") if isinstance(ent_coef, str) else ent_coef,
        policy_kwargs={"net_arch": [16, 16]},
        buffer_size=10,
        **SHARED,
    )
    model.set_logger(Logger(None, []))
    model.told = {}
    for name in ("actor", "critic"):
        remember_gradients(model, name, getattr(model, name))
    return model


def remember_gradients(model, name, module):
    step = module.optimizer.step

    def telling(*args, **kwargs):
        model.told[name] = {key: parameter.grad.clone() for key, parameter in module.named_parameters()}
        return step(*args, **kwargs)

    module.optimizer.step = telling


def in_our_names(actors, critics):
    """Tensors of R models' actors and critics, under our names and in our layout."""

    def layer(tensors, name):
        return tensors[f"{name}.weight"].T, tensors[f"{name}.bias"].unsqueeze(0)

    rows = []
    for tensors in actors:
        last = [torch.cat(pair, -1) for pair in zip(layer(tensors, "mu"), layer(tensors, "log_std"), strict=True)]
        rows.append([layer(tensors, "latent_pi.0"), layer(tensors, "latent_pi.2"), last])
    q_rows = [[layer(tensors, f"qf{k}.{i}") for i in (0, 2, 4)] for tensors in critics for k in (0, 1)]

    def stacked(name, rows):
        parts = [("weight", 0), ("bias", 1)]
        return {f"{name}.{i}.{p}": torch.stack([row[i][j] for row in rows]) for i in range(3) for p, j in parts}

    return stacked("actor", rows), stacked("critic", q_rows)


def states_of(models, critic="critic"):
    return in_our_names([m.actor.state_dict() for m in models], [getattr(m, critic).state_dict() for m in models])


def named_grads(rows):
    parts = rows.grads.split([tensor[0].numel() for tensor in rows.named().values()], 1)
    return {name: part.view_as(t) for (name, t), part in zip(rows.named().items(), parts, strict=True)}


@pytest.fixture
def twins(request, monkeypatch):
    """Two models of Stable-Baselines3, our agent of two runs with their weights, and a step of all three."""
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    settings = CASES[request.param]
    models = [sb3_model(seed, **settings) for seed in (1, 2)]
    config = SACConfig(**SHARED, **settings, net_arch=(16, 16), buffer_size=10)
    action = action_spec(models[0].action_space, squash_output=True)
    agent = SAC([config] * 2, [0, 1], observation=ObservationSpec.vector(2), action=action, n_envs=1)
    (actor, critic), (_, target) = states_of(models), states_of(models, "critic_target")
    agent.policy.params.load(actor)
    agent.critics.params.load(critic)
    agent.critics.target.load(target)
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape):  # moderate: Stable-Baselines3 takes log(1 - a^2 + 1e-6), we the logarithm itself
        return torch.rand(*shape, generator=generator)

    def step():
        obs, next_obs, reward, taken = uniform(2, B, 2), uniform(2, B, 2), uniform(2, B), 1.6 * uniform(2, B, 2) - 0.8
        terminated, noise = uniform(2, B) < 0.3, 1.2 * uniform(2, 2, B, 2) - 0.6  # [R, now or next, B, D]
        for run, model in enumerate(models):
            left = deque(noise[run])
            monkeypatch.setattr(
                torch.distributions.Normal, "rsample", lambda self, left=left: self.loc + self.scale * left.popleft()
            )
            data = ReplayBufferSamples(
                obs[run], taken[run], next_obs[run], terminated[run, :, None].float(), reward[run, :, None]
            )
            model.replay_buffer = SimpleNamespace(sample=lambda *args, data=data, **kwargs: data)
            model.train(gradient_steps=1, batch_size=B)
            assert not left
        monkeypatch.undo()
        c = agent._coefficients.at(0.0)
        batch = Batch(obs, taken, reward, next_obs, terminated, torch.full((2, B), 0.9), None, None, None)
        agent._collector.batch = lambda gamma: batch
        agent._noise.next = lambda: noise
        before = agent._entropy.coefficient.controller.log_coefficient().clone()
        return agent._step(0.0, c), before

    return models, agent, step


sb3_cases = pytest.mark.parametrize("twins", CASES, indirect=True)


def assert_close(ours, theirs, tolerance=1e-5):
    assert ours.keys() == theirs.keys()
    largest = max(float(tensor.abs().max()) for tensor in theirs.values())
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name], expected, rtol=tolerance, atol=tolerance * largest, msg=lambda m, n=name: f"{n}: {m}"
        )


@sb3_cases
def test_gradients_equal_those_of_stable_baselines3(twins):
    models, agent, step = twins
    step()
    actor, critic = in_our_names([m.told["actor"] for m in models], [m.told["critic"] for m in models])
    assert_close(named_grads(agent.policy.params), actor)
    assert_close(named_grads(agent.critics.params), critic)


@sb3_cases
def test_losses_equal_those_of_stable_baselines3(twins):
    models, _, step = twins
    for _ in range(2):  # at the second, what one step did to the coefficient counts, too
        metrics, log_coef = step()
    for run, model in enumerate(models):
        logged = model.logger.name_to_value
        for name in ("critic_loss", "actor_loss", "ent_coef"):
            assert float(metrics[f"train/{name}"][run]) == pytest.approx(logged[f"train/{name}"], rel=1e-5, abs=1e-6)
        if "train/ent_coef_loss" in logged:
            ours = log_coef[run] * (metrics["train/entropy"][run] - model.target_entropy)
            assert float(ours) == pytest.approx(logged["train/ent_coef_loss"], rel=1e-4, abs=1e-7)


@sb3_cases
def test_parameters_after_several_steps_equal_those_of_stable_baselines3(twins):
    models, agent, step = twins
    for _ in range(8):
        step()
    (actor, critic), (_, target) = states_of(models), states_of(models, "critic_target")
    assert_close(agent.policy.params.named(), actor, 1e-4)
    assert_close(agent.critics.params.named(), critic, 1e-4)
    assert_close(agent.critics.target.named(), target, 1e-4)
    if models[0].log_ent_coef is not None:
        theirs = [model.log_ent_coef.item() for model in models]
        assert agent._entropy.coefficient.controller.log_coefficient().tolist() == pytest.approx(theirs, rel=1e-4)


def test_target_entropy_is_that_of_stable_baselines3():
    assert agent_of("sac")._entropy.coefficient.target.tolist() == [-2.0, -2.0]  # -1 per dimension of the action
    assert sb3_model(0, "auto").target_entropy == -2.0


# Naive loops


@pytest.mark.parametrize("place", ["loss", "reward", "both"])
def test_sac_critic_loss_is_half_the_squared_error_to_the_soft_value(place):
    agent, batch, coef = (
        agent_of("sac", *[{"ent_coef": c, "entropy_in": place} for c in (0.3, 0.7)]),
        batch_of("sac"),
        0,
    )
    noise, expected = noise_of(), [0.0, 0.0]
    for r in range(R):
        coef = 0.0 if place == "loss" else (0.3, 0.7)[r]
        for b in range(B):
            mean, log_std = forward(agent.policy.params, r, "actor", batch.next_obs[r, b]).chunk(2)
            u = mean + log_std.exp() * noise[r, b]
            density = torch.distributions.Normal(mean, log_std.exp()).log_prob(u) - (1.0 - u.tanh() ** 2).log()
            following = torch.cat([batch.next_obs[r, b], u.tanh()])
            q = min(float(forward(agent.critics.target, 2 * r + k, "critic", following)) for k in range(2))
            soft_value = q - coef * float(density.sum())
            target = float(batch.reward[r, b]) + (0.0 if batch.terminated[r, b] else 0.9 * soft_value)
            now = torch.cat([batch.obs[r, b], batch.action[r, b]])
            for k in range(2):
                expected[r] += 0.5 * (float(forward(agent.critics.params, 2 * r + k, "critic", now)) - target) ** 2 / B
    assert critic_loss(agent, batch).tolist() == pytest.approx(expected)


def test_sac_actor_loss_is_the_weighted_log_density_minus_the_smaller_value():
    agent, batch, noise = agent_of("sac", {"ent_coef": 0.3}, {"ent_coef": 0.7}), batch_of("sac"), noise_of()
    expected = [0.0, 0.0]
    for r in range(R):
        for b in range(B):
            mean, log_std = forward(agent.policy.params, r, "actor", batch.obs[r, b]).chunk(2)
            u = mean + log_std.exp() * noise[r, b]
            density = torch.distributions.Normal(mean, log_std.exp()).log_prob(u) - (1.0 - u.tanh() ** 2).log()
            now = torch.cat([batch.obs[r, b], u.tanh()])
            q = min(float(forward(agent.critics.params, 2 * r + k, "critic", now)) for k in range(2))
            expected[r] += ((0.3, 0.7)[r] * float(density.sum()) - q) / B
    assert actor_loss(agent, batch).tolist() == pytest.approx(expected)


def probabilities(agent, r, obs, mask):
    logits = forward(agent.policy.params, r, "actor", obs)
    return (logits if mask is None else logits.masked_fill(~mask, -math.inf)).softmax(-1).tolist()


def shannon(p):
    return -sum(x * math.log(x) for x in p if x > 0.0)


@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
@pytest.mark.parametrize("place", ["loss", "reward", "both"])
def test_discrete_sac_critic_loss_takes_exact_expectations(place, masked):
    agent = agent_of("discrete-sac", *[{"ent_coef": c, "entropy_in": place} for c in (0.3, 0.7)])
    batch, expected = batch_of("discrete-sac", masked=masked), [0.0, 0.0]
    for r in range(R):
        coef = 0.0 if place == "loss" else (0.3, 0.7)[r]
        for b in range(B):
            p = probabilities(agent, r, batch.next_obs[r, b], batch.next_mask[r, b] if masked else None)
            values = [forward(agent.critics.target, 2 * r + k, "critic", batch.next_obs[r, b]) for k in range(2)]
            soft_value = sum(x * float(q) for x, q in zip(p, torch.minimum(*values), strict=True)) + coef * shannon(p)
            target = float(batch.reward[r, b]) + (0.0 if batch.terminated[r, b] else 0.9 * soft_value)
            for k in range(2):
                q = forward(agent.critics.params, 2 * r + k, "critic", batch.obs[r, b])[batch.action[r, b]]
                expected[r] += 0.5 * (float(q) - target) ** 2 / B
    assert critic_loss(agent, batch).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
def test_discrete_sac_actor_loss_takes_exact_expectations(masked):
    agent = agent_of("discrete-sac", {"ent_coef": 0.3}, {"ent_coef": 0.7})
    batch, expected = batch_of("discrete-sac", masked=masked), [0.0, 0.0]
    for r in range(R):
        for b in range(B):
            p = probabilities(agent, r, batch.obs[r, b], batch.mask[r, b] if masked else None)
            values = [forward(agent.critics.params, 2 * r + k, "critic", batch.obs[r, b]) for k in range(2)]
            value = sum(x * float(q) for x, q in zip(p, torch.minimum(*values), strict=True))
            expected[r] -= (value + (0.3, 0.7)[r] * shannon(p)) / B
    assert actor_loss(agent, batch).tolist() == pytest.approx(expected)


# The place and the weight of the entropy


@both_agents
def test_entropy_in_the_loss_leaves_the_value_targets_alone(name):
    batch = batch_of(name)
    plain = critic_loss(agent_of(name, *[{"ent_coef": 0.0}] * 2), batch)
    assert torch.equal(critic_loss(agent_of(name, *[{"ent_coef": 5.0, "entropy_in": "loss"}] * 2), batch), plain)
    assert not torch.equal(critic_loss(agent_of(name, *[{"ent_coef": 5.0, "entropy_in": "reward"}] * 2), batch), plain)


@both_agents
def test_entropy_in_both_doubles_the_weight_of_the_actor_only(name):
    batch = batch_of(name)
    both = agent_of(name, *[{"ent_coef": 0.4, "entropy_in": "both"}] * 2)
    once, twice = (agent_of(name, *[{"ent_coef": c, "entropy_in": "reward"}] * 2) for c in (0.4, 0.8))
    torch.testing.assert_close(actor_loss(both, batch), actor_loss(twice, batch), rtol=1e-12, atol=1e-12)
    assert torch.equal(critic_loss(both, batch), critic_loss(once, batch))


@both_agents
def test_runs_with_different_places_share_a_batch(name):
    places = ("loss", "reward", "both")
    batch = batch_of(name, n_runs=3)
    together = agent_of(name, *[{"ent_coef": 0.4, "entropy_in": place} for place in places], seeds=[0, 0, 0])
    for loss in (critic_loss, actor_loss):
        for run, place in enumerate(places):
            alone = agent_of(name, {"ent_coef": 0.4, "entropy_in": place}, seeds=[0])
            one = Batch(*[None if part is None else part[run : run + 1] for part in parts_of(batch)])
            ours = loss_with_the_noise_of(run, loss, alone, one)
            torch.testing.assert_close(ours[0], loss(together, batch)[run], rtol=1e-12, atol=1e-12)


def parts_of(batch):
    return [getattr(batch, name) for name in Batch.__dataclass_fields__]


def loss_with_the_noise_of(run, loss, agent, batch):
    if not isinstance(agent, SAC):
        return loss(agent, batch)
    noise = noise_of(3)[run : run + 1]
    if loss is critic_loss:
        return agent._critic_loss(batch, noise).detach()
    return agent._actor_loss(batch, *agent._act_and_bonus(agent.policy.distribution(batch.obs), noise)).detach()


@both_agents
def test_critic_ent_coef_overrides_the_weight_in_the_value_targets(name):
    batch = batch_of(name)
    apart = agent_of(name, *[{"ent_coef": 0.4, "critic_ent_coef": 0.1}] * 2)
    actors, critics = (agent_of(name, *[{"ent_coef": c}] * 2) for c in (0.4, 0.1))
    assert torch.equal(actor_loss(apart, batch), actor_loss(actors, batch))
    torch.testing.assert_close(critic_loss(apart, batch), critic_loss(critics, batch), rtol=1e-12, atol=1e-12)


@both_agents
def test_critic_ent_coef_of_zero_takes_the_entropy_out_of_the_values(name):
    batch = batch_of(name)
    apart = agent_of(name, *[{"ent_coef": "auto", "critic_ent_coef": 0.0}] * 2)
    assert torch.equal(critic_loss(apart, batch), critic_loss(agent_of(name, *[{"ent_coef": 0.0}] * 2), batch))


@both_agents
@pytest.mark.parametrize("family", ["tsallis:2", "renyi:0.5", "kl-to-uniform", "kl-to-prior:0.5"])
def test_every_family_is_what_the_actor_is_rewarded_for(name, family):
    if name == "discrete-sac" and family.startswith("kl-to-prior"):
        family = "kl-to-prior:0.1,0.2,0.3,0.4"
    batch, spec = batch_of(name), EntropyFamily.parse(family)
    weighed, plain = (agent_of(name, *[{"ent_coef": c, "entropy": family}] * 2) for c in (0.4, 0.0))
    distribution = weighed.policy.distribution(batch.obs)
    bonus = {
        "tsallis": lambda: torch.expm1(-distribution.renyi_entropy(2.0)) / -1.0,
        "renyi": lambda: distribution.renyi_entropy(0.5),
        "kl-to-uniform": lambda: -distribution.kl_to_uniform(),
        "kl-to-prior": lambda: -distribution.kl_to_prior(torch.tensor(spec.prior, dtype=torch.float64)),
    }[spec.kind]()
    expected = actor_loss(plain, batch) - 0.4 * bonus.mean(1).detach()
    torch.testing.assert_close(actor_loss(weighed, batch), expected)


# The temperature


@both_agents
def test_temperature_rises_below_the_target_entropy_and_falls_above_it(name):
    # Trap T10. Adam's first step is the learning rate in the direction of the error, on the logarithm.
    high, low = {"sac": (1.3, -40.0), "discrete-sac": (1.38, 0.001)}[name]
    agent = agent_of(name, {"ent_coef": f"target:{high}:0.5"}, {"ent_coef": f"target:{low}:0.5"})
    agent._collector.batch = lambda gamma: batch_of(name)
    metrics = agent._step(0.0, agent._coefficients.at(0.0))
    assert low < metrics["train/entropy"][1]
    assert metrics["train/entropy"][0] < high
    assert metrics["train/ent_coef"].tolist() == pytest.approx([0.5, 0.5])  # as it was in this step
    after = agent._entropy.coefficient.at(0.0)
    assert after.tolist() == pytest.approx([0.5 * math.exp(3e-4), 0.5 * math.exp(-3e-4)], rel=1e-7)


@both_agents
def test_constant_and_steered_temperatures_share_a_batch(name):
    agent = agent_of(name, {"ent_coef": 0.25}, {"ent_coef": "auto:0.5"})
    agent._collector.batch = lambda gamma: batch_of(name)
    for _ in range(3):
        agent._step(0.0, agent._coefficients.at(0.0))
    constant, steered = agent._entropy.coefficient.at(0.0).tolist()
    assert constant == 0.25
    assert steered != pytest.approx(0.5, rel=1e-5)


def test_exact_entropy_is_the_mean_of_the_sampled_one():
    agent, obs = agent_of("sac", {}), torch.full((1, 20_000, D), 0.4, dtype=torch.float64)
    noise = torch.randn(1, 20_000, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    distribution = agent.policy.distribution(obs)
    _, sampled = agent._act_and_bonus(distribution, noise)
    _, exact = agent_of("sac", {"entropy_estimate": "exact"})._act_and_bonus(distribution, noise)
    assert exact.std().item() < 1e-12
    assert (sampled.mean() - exact[0, 0]).abs().item() < 4 * sampled.std().item() / 20_000**0.5


def test_exact_and_sampled_entropy_have_the_same_expected_gradient():
    agent, obs = agent_of("sac", {}), torch.full((1, 20_000, D), 0.4, dtype=torch.float64)
    noise = torch.randn(1, 20_000, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gradients = []
    for estimate in ("sample", "exact"):
        agent.config = replace(agent.config, entropy_estimate=estimate)
        _, bonus = agent._act_and_bonus(agent.policy.distribution(obs), noise)
        agent.policy.params.backward(bonus.mean(1))
        gradients.append(agent.policy.params.grads.clone())
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert error < 0.05


# Memory, warm-up, n steps


def fill(agent, n_rows, *, seed=0, n_runs=R, n_envs=2, ends=()):
    """Made-up steps; ``ends`` are (row, env, "terminated" or "truncated")."""
    g = torch.Generator().manual_seed(seed)
    told = []
    for row in range(n_rows):
        obs = torch.randn(n_runs, n_envs, D, generator=g, dtype=torch.float64)
        action = agent.act(obs)
        flags = {kind: torch.zeros(n_runs, n_envs, dtype=torch.bool) for kind in ("terminated", "truncated")}
        for at, env, kind in ends:
            flags[kind][:, env] |= at == row
        final = torch.randn(n_runs, n_envs, D, generator=g, dtype=torch.float64)
        transition = Transition(
            next_obs=torch.randn(n_runs, n_envs, D, generator=g, dtype=torch.float64),
            reward=torch.randn(n_runs, n_envs, generator=g, dtype=torch.float64),
            final_obs=final if any(flag.any() for flag in flags.values()) else None,
            valid=None,
            **flags,
        )
        agent.observe(transition)
        told.append((obs, action, transition))
    return told


@both_agents
def test_nothing_is_learned_before_learning_starts(name):
    agent = agent_of(name, *[{"learning_starts": 10}] * 2)
    before = agent.policy.params.values.clone(), agent.critics.params.values.clone()
    for row in range(1, 8):  # two environments: after row 5 there are 10 steps, after row 6 more than that
        fill(agent, 1)
        metrics = agent.update(0.1)
        learned = not torch.equal(agent.policy.params.values, before[0])
        assert bool(metrics) == learned == (row >= 6)
        assert learned != torch.equal(agent.critics.params.values, before[1])


def test_warm_up_actions_of_sac_are_uniform_between_the_bounds():
    agent = agent_of("sac", *[{"learning_starts": 10**6}] * 2, n_envs=2000)
    action = agent.act(torch.zeros(2, 2000, D, dtype=torch.float64)).tanh()
    for run in range(2):
        for dimension in range(2):
            assert stats.kstest(action[run, :, dimension], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert not torch.equal(action[0], action[1])


def test_warm_up_actions_of_discrete_sac_are_uniform_over_what_is_allowed():
    agent = agent_of("discrete-sac", *[{"learning_starts": 10**6}] * 2, n_envs=4000)
    mask = torch.tensor([[True, False, True, True], [False, True, True, False]]).unsqueeze(1).expand(2, 4000, 4)
    action = agent.act(torch.zeros(2, 4000, D, dtype=torch.float64), mask)
    for run, allowed in enumerate(([0, 2, 3], [1, 2])):
        counts = torch.bincount(action[run], minlength=4)
        assert int(counts[allowed].sum()) == 4000
        assert stats.chisquare(counts[allowed]).pvalue > 1e-3


@both_agents
def test_after_warm_up_actions_follow_the_policy(name):
    agent = agent_of(name, *[{"learning_starts": 0}] * 2, n_envs=4000)
    with torch.no_grad():
        agent.policy.params[f"actor.{2}.bias"][..., 0] += 3.0
    action = agent.act(torch.zeros(2, 4000, D, dtype=torch.float64))
    head = agent.policy.distribution(torch.zeros(2, 1, D, dtype=torch.float64))
    if name == "sac":
        expected = head.mean[:, 0]
        error = (action.mean(1) - expected).abs() / (head.log_std[:, 0].exp() / 4000**0.5)
        assert (error < 4).all()
    else:
        expected = head.probs[:, 0, 0]
        found = (action == 0).double().mean(1)
        assert ((found - expected).abs() < 4 * (expected * (1 - expected) / 4000).sqrt()).all()


def test_memory_of_sac_holds_squashed_actions():
    agent = agent_of("sac")
    for row, (_, action, _) in enumerate(fill(agent, 4)):
        assert torch.equal(agent._collector.replay.action[:, row], action.tanh())


@both_agents
@pytest.mark.parametrize("n_steps", [1, 3])
def test_batches_hold_the_returns_of_a_naive_loop(name, n_steps):
    agent = agent_of(name, *[{"n_steps": n_steps, "gamma": gamma} for gamma in (0.9, 0.5)])
    ends = [(2, 0, "terminated"), (3, 1, "truncated"), (8, 0, "truncated")]
    told = fill(agent, 10, ends=ends)
    batch = agent._collector.batch(agent._coefficients.at(0.0)["gamma"])
    seen = set()
    for r, gamma in enumerate((0.9, 0.5)):
        for b in range(B):
            at = [(t, e) for t in range(10) for e in range(2) if torch.equal(told[t][0][r, e], batch.obs[r, b])]
            [(start, env)] = at
            total, discount, t = 0.0, 1.0, start
            while True:
                step = told[t][2]
                total, discount = total + discount * float(step.reward[r, env]), discount * gamma
                ended = bool(step.terminated[r, env] | step.truncated[r, env])
                if ended or t + 1 == start + n_steps or t == 9:
                    break
                t += 1
            reached = step.final_obs[r, env] if ended else step.next_obs[r, env]
            assert float(batch.reward[r, b]) == pytest.approx(total)
            assert float(batch.discount[r, b]) == pytest.approx(discount)
            assert torch.equal(batch.next_obs[r, b], reached)
            assert bool(batch.terminated[r, b]) == bool(step.terminated[r, env])
            seen.add((start, env))
    assert len(seen) > 8


@both_agents
def test_gradient_steps_of_minus_one_are_one_per_env_step(name):
    agent = agent_of(name, *[{"learning_starts": 0, "train_freq": 3, "gradient_steps": -1}] * 2)
    fill(agent, 3)
    agent.update(0.1)
    assert agent._critic_optimizer.step_count.unique().tolist() == [6.0]  # 3 steps of 2 environments
    assert agent.steps_per_update == 3


# Learning, with the environments


def build(name, configs, seeds, env_id, *, n_envs=2, dtype=torch.float64, mode=AutoresetMode.SAME_STEP, **kwargs):
    vector_env = make_vector_env(env_id, len(seeds) * n_envs, kwargs, autoreset_mode=mode)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space, squash_output=name == "sac")
    envs = EnvBatch(vector_env, len(seeds), observation=observation, action=action, dtype=dtype)
    agent_class = AGENTS[name][0]
    agent = agent_class(configs, seeds, observation=observation, action=action, n_envs=n_envs, dtype=dtype)
    return agent, envs


def learn(name, configs, seeds, env_id, *, total_timesteps, **options):
    """A trained agent and its last rows."""
    agent, envs = build(name, configs, seeds, env_id, **options)
    *_, last = train(agent, envs, total_timesteps=total_timesteps, seeds=seeds, log_interval=10**6)
    envs.close()
    return agent, last.rows


@both_envs
@pytest.mark.parametrize("extra", [{}, {"n_steps": 3, "normalize_obs": True}], ids=["plain", "n-step"])
def test_run_alone_equals_the_same_run_inside_a_batch(name, env_id, extra):
    base = replace(AGENTS[name][1], learning_starts=20, **extra)
    configs = [
        base,
        replace(base, ent_coef=0.1, gamma=0.9, tau=0.1),
        replace(base, ent_coef="linear:0.3:0", learning_rate=1e-2, entropy_in="loss"),
        base,
    ]
    seeds = [5, 6, 5, 7]
    together, rows = learn(name, configs, seeds, env_id, total_timesteps=50)
    for run in range(4):
        alone, alone_rows = learn(name, [configs[run]], [seeds[run]], env_id, total_timesteps=50)
        torch.testing.assert_close(alone.policy.params.values[0], together.policy.params.values[run], rtol=0, atol=1e-9)
        for rows_of in ("params", "target"):
            ours, theirs = (getattr(agent.critics, rows_of).values for agent in (alone, together))
            torch.testing.assert_close(ours, theirs[2 * run : 2 * run + 2], rtol=0, atol=1e-9)
        expected = {k: v for k, v in alone_rows[0].items() if not k.startswith("time/")}
        assert {k: rows[run][k] for k in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


@both_envs
def test_equal_seeds_give_equal_runs_and_others_do_not(name, env_id):
    config = replace(AGENTS[name][1], learning_starts=20)
    agent, _ = learn(name, [config] * 3, [1, 1, 2], env_id, total_timesteps=60)
    values = agent.policy.params.values
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-12)
    assert not torch.allclose(values[0], values[2])


VALUES = DiscreteSACConfig(
    ent_coef=0.0, gamma=0.5, tau=0.2, learning_rate="linear:0.04:0", net_arch=(), batch_size=16, learning_starts=16
)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_truncation_bootstraps(mode):
    # 1 per step for ever, cut every 4 steps and the clock hidden: Q = 1 / (1 - gamma) = 2. Trap T1.
    agent, _ = learn(
        "discrete-sac", [VALUES], [0], "test/Clock-v0", total_timesteps=400, cut=True, hidden=True, mode=mode
    )
    obs = torch.eye(5, dtype=torch.float64)[:1].unsqueeze(0)
    assert agent.critics(obs).flatten().tolist() == pytest.approx([2.0] * 4, abs=0.02)


def test_termination_does_not_bootstrap():
    # Two steps and a clock to see: Q = 1 at the second, 1 + gamma at the first.
    agent, _ = learn("discrete-sac", [VALUES], [0], "test/Clock-v0", total_timesteps=700, cut=False, limit=2)
    values = agent.critics(torch.eye(3, dtype=torch.float64)[:2].unsqueeze(0))[0]  # [K, B, A]
    assert values[:, 0].flatten().tolist() == pytest.approx([1.5] * 4, abs=0.02)
    assert values[:, 1].flatten().tolist() == pytest.approx([1.0] * 4, abs=0.02)


@pytest.mark.slow
def test_discrete_sac_learns_the_softmax_policy_of_a_bandit_and_keeps_a_target_entropy():
    # One choice, then the end: Q = r, and pi = softmax(r / c) whatever else is random.
    config = DiscreteSACConfig(
        gamma=0.9, learning_rate="linear:0.03:0", net_arch=(), batch_size=32, learning_starts=32, buffer_size=512
    )
    agent, rows = learn(
        "discrete-sac",
        [replace(config, ent_coef=c) for c in (0.2, 0.5, 2.0, "target:0.8:0.3")],
        [0, 1, 2, 3],
        "entropic_rl/Bandit-v0",
        total_timesteps=1200,
        n_envs=1,
    )
    weights = torch.tensor([row["train/ent_coef"] for row in rows], dtype=torch.float64)
    assert weights[:3].tolist() == pytest.approx([0.2, 0.5, 2.0])
    found = agent.policy.distribution(torch.tensor([[[1.0, 0.0]]] * 4, dtype=torch.float64))
    expected = (torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64) / weights.unsqueeze(1)).softmax(-1)
    assert (found.probs[:, 0] - expected).abs().max() < 0.02
    assert found.entropy()[3].item() == pytest.approx(0.8, abs=0.02)


@pytest.mark.slow
def test_sac_finds_the_best_action_of_a_box():
    # Rewards are highest at a = 2 bits - 1 of [-2, 2]: a half of the range, tanh(u) = bits - 1/2.
    config = SACConfig(
        ent_coef=0.01,
        gamma=0.0,
        learning_rate="linear:0.02:0",
        net_arch=(16,),
        batch_size=64,
        learning_starts=64,
        tau=1.0,
    )
    agent, _ = learn(
        "sac", [config], [0], "test/Identity-v0", total_timesteps=1000, n_envs=2, action="box", dtype=torch.float32
    )
    corners = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]])
    best = agent.policy.distribution(corners).mode().tanh()
    assert (best - (corners - 0.5)).abs().max() < 0.15


def test_reset_rows_of_the_next_step_mode_teach_nothing():
    name, base = "discrete-sac", replace(AGENTS["discrete-sac"][1], learning_starts=4)
    agent, envs = build(name, [base], [0], "test/Clock-v0", mode=AutoresetMode.NEXT_STEP, limit=2)
    obs = envs.reset(Stream([0], "environment").seeds(2))
    for _ in range(6):
        transition = envs.step(agent.act(obs))
        agent.observe(transition)
        obs = transition.next_obs
    batch = agent._collector.batch(agent._coefficients.at(0.0)["gamma"])
    assert 0 < int(batch.valid.sum()) < B
    spoiled = replace(batch, reward=torch.where(batch.valid, batch.reward, 1e6))
    assert torch.equal(critic_loss(agent, spoiled), critic_loss(agent, batch))
    row = int((~batch.valid[0]).nonzero()[0])
    obs = batch.obs.clone()
    obs[0, row] = 1e3
    assert torch.equal(actor_loss(agent, replace(batch, obs=obs)), actor_loss(agent, batch))


def test_inspection_tells_the_exact_entropy_at_the_latest_observations():
    agent = agent_of("sac")
    assert agent.inspect() == {}
    told = fill(agent, 6)
    seen = torch.cat([obs for obs, _, _ in told], 1)
    metrics = agent.inspect()
    expected = agent.policy.distribution(seen).entropy().mean(1).detach()
    torch.testing.assert_close(metrics["explore/policy_entropy"], expected)
    actions = torch.cat([action for _, action, _ in told], 1).tanh()
    found = metrics["explore/saturation"]
    torch.testing.assert_close(found, (actions.abs() >= 0.995).double().mean((1, 2)))
    assert np.isfinite(metrics["train/std"].numpy()).all()


@pytest.mark.parametrize(("name", "kind"), [("sac", "box"), ("discrete-sac", "discrete")])
def test_inspection_leaves_reset_rows_out(name, kind):
    # Trap T2.
    config = replace(AGENTS[name][1], learning_starts=10**6)
    agent, envs = build(name, [config], [0], "test/Identity-v0", mode=AutoresetMode.NEXT_STEP, action=kind)
    obs, entropies = envs.reset([[0, 1]]), []
    for _ in range(20):  # episodes of 8 steps: rows 8 and 17 only reset
        transition = envs.step(agent.act(obs))
        agent.observe(transition)
        if transition.valid is None or bool(transition.valid.all()):
            entropies.append(agent.policy.distribution(obs).entropy())
        obs = transition.next_obs
    assert len(entropies) == 18
    expected = torch.stack(entropies).mean().item()
    assert agent.inspect()["explore/policy_entropy"].tolist() == pytest.approx([expected], rel=1e-12)
