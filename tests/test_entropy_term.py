"""The entropy term: its families, its places, its units; in PPO's loss and in its rewards."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import A2C, PPO, A2CConfig, PPOConfig
from entropic_rl.coefficients import DualAscent
from entropic_rl.distributions import Categorical, TanhGaussian
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import ConfigError
from entropic_rl.on_policy import normalize_advantage, prepare
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

CHOICE = action_spec(spaces.Discrete(3))
SQUASHED = action_spec(spaces.Box(-1.0, 1.0, (2,)), squash_output=True)
PLACES = ("loss", "reward", "both")
LOGITS = torch.tensor([[[0.5, -1.0, 0.2], [2.0, 0.0, -2.0]]] * 3, dtype=torch.float64)


def term_of(*settings, action=CHOICE, **options):
    """One run per mapping of settings."""
    defaults = {"ent_coef": 0.3, "ent_coef_unit": "auto", "entropy": "shannon", "entropy_in": "loss"}
    configs = [SimpleNamespace(**{**defaults, **changes}) for changes in settings]
    return EntropyTerm(configs, action, dtype=torch.float64, **options)


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# Places and units


def test_loss_weighs_once_or_twice_and_values_once_or_never():
    term, one = term_of(*[{"entropy_in": place} for place in PLACES]), vector(1.0, 1.0, 1.0)
    assert term.loss_coef(one).tolist() == pytest.approx([0.3, 0.3, 0.6])
    assert term.value_coef(one).tolist() == pytest.approx([0.0, 0.3, 0.3])
    assert term.actor_coef().tolist() == pytest.approx([0.3, 0.3, 0.6])
    assert term.critic_coef().tolist() == pytest.approx([0.0, 0.3, 0.3])


def test_coefficient_in_units_of_the_reward_is_divided_as_advantages_are():
    settings = [
        {"ent_coef_unit": "auto"},
        {"ent_coef_unit": "advantage"},
        {"ent_coef_unit": "reward"},
        {"ent_coef_unit": "auto", "entropy_in": "reward"},
        {"ent_coef_unit": "reward", "entropy_in": "both"},
    ]
    term, unit = term_of(*settings), torch.full((5,), 4.0, dtype=torch.float64)
    assert term.loss_coef(unit).tolist() == pytest.approx([0.3, 0.3, 0.075, 0.075, 0.15])
    assert term.value_coef(unit).tolist() == pytest.approx([0.0, 0.0, 0.0, 0.075, 0.075])
    assert term.effective_temperature(unit).tolist() == pytest.approx([1.2, 1.2, 0.3, 0.3, 0.3])


def test_each_run_is_divided_by_its_own_unit():
    term, unit = term_of(*[{"ent_coef_unit": "reward"}] * 2), vector(2.0, 0.5)
    assert term.loss_coef(unit).tolist() == pytest.approx([0.15, 0.6])


@pytest.mark.parametrize(("places", "expected"), [(("loss",), False), (("loss", "reward"), True), (("both",), True)])
def test_values_hold_entropy_if_any_run_has_it_there(places, expected):
    assert term_of(*[{"entropy_in": place} for place in places]).in_values is expected


def test_weight_of_critics_can_be_set_apart_where_values_hold_entropy():
    term = term_of(*[{"entropy_in": place, "critic_ent_coef": 0.05} for place in PLACES])
    assert term.critic_coef().tolist() == pytest.approx([0.0, 0.05, 0.05])
    assert term.actor_coef().tolist() == pytest.approx([0.3, 0.3, 0.6])


def test_weights_follow_the_coefficient():
    term = term_of({"ent_coef": "linear:1:0"}, {"ent_coef": "linear:1:0", "entropy_in": "both"})
    term.coefficient.at(0.75)
    assert term.actor_coef().tolist() == pytest.approx([0.25, 0.5])
    assert term.critic_coef().tolist() == pytest.approx([0.0, 0.25])


def test_impossible_term_is_refused_when_it_is_built():
    with pytest.raises(ConfigError, match="expected 3 weights, one per action, got 2"):
        term_of({"entropy": "kl-to-prior:1,2"})
    with pytest.raises(ConfigError, match=r"below 1\.099 nats"):
        term_of({}, {"ent_coef": "target:1.2"})


# Families

p = LOGITS.softmax(-1)
FAMILIES = {
    "shannon": lambda: -(p * p.log()).sum(-1),
    "tsallis:1": lambda: -(p * p.log()).sum(-1),
    "tsallis:2": lambda: 1.0 - p.square().sum(-1),
    "tsallis:0.5": lambda: 2.0 * (p.sqrt().sum(-1) - 1.0),
    "renyi:2": lambda: -p.square().sum(-1).log(),
    "renyi:inf": lambda: -p.amax(-1).log(),
    "kl-to-uniform": lambda: -(p * (p * 3.0).log()).sum(-1),
    "kl-to-prior:1,2,5": lambda: -(p * (p / vector(0.125, 0.25, 0.625)).log()).sum(-1),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_bonus_of_a_choice_has_its_definition(family):
    torch.testing.assert_close(term_of({"entropy": family}).bonus(Categorical(LOGITS)), FAMILIES[family]())


@pytest.mark.parametrize("family", ["shannon", "tsallis:2", "renyi:2", "kl-to-uniform", "kl-to-prior:0.5"])
def test_bonus_of_a_box_has_its_definition(family):
    head = TanhGaussian(LOGITS[..., :2], LOGITS[..., 1:])
    expected = {
        "shannon": head.entropy,
        "tsallis:2": lambda: 1.0 - (-head.renyi_entropy(2.0)).exp(),
        "renyi:2": lambda: head.renyi_entropy(2.0),
        "kl-to-uniform": lambda: head.entropy() - 2 * math.log(2.0),
        "kl-to-prior:0.5": lambda: -head.kl_to_prior(vector(0.5)),
    }[family]()
    torch.testing.assert_close(term_of({"entropy": family}, action=SQUASHED).bonus(head), expected)


def test_record_tells_shannons_entropy_whatever_is_weighed():
    head = Categorical(LOGITS)
    for family in FAMILIES:
        term = term_of({"entropy": family})
        metrics = term.metrics(head, term.bonus(head))
        torch.testing.assert_close(metrics["train/entropy"], FAMILIES["shannon"]())
        assert ("train/bonus" in metrics) == (family not in ("shannon", "tsallis:1"))


def test_target_is_of_shannons_entropy_whatever_is_weighed():
    settings = {"entropy": "tsallis:2", "ent_coef": "target:0.7:0.1"}
    term = term_of(settings, settings, controller=DualAscent)
    metrics = {"train/entropy": vector(0.6, 0.8), "train/bonus": vector(9.0, -9.0)}
    term.steer(metrics, vector(0.01, 0.01))
    below, above = term.coefficient.at(0.0).tolist()
    assert below > 0.1 > above


@pytest.mark.parametrize("family", ["kl-to-uniform", "kl-to-prior:1,1,1"])
def test_target_of_a_divergence_is_of_the_divergence(family):
    settings = {"entropy": family, "ent_coef": "target:0.2:0.1"}
    term = term_of(settings, settings)
    metrics = {"train/entropy": vector(0.0, 0.0), "train/bonus": vector(-0.3, -0.1)}
    term.steer(metrics, vector(0.01, 0.01))
    too_far, near = term.coefficient.at(0.0).tolist()
    assert too_far > 0.1 > near


# In PPO

SMALL = PPOConfig(n_steps=6, batch_size=12, n_epochs=2, net_arch=(8,), gamma=0.9, gae_lambda=0.8)
A2C_SMALL = A2CConfig(n_steps=6, net_arch=(8,), gamma=0.9, gae_lambda=0.8)


def fresh(*configs, seeds, env_id="test/Clock-v0", n_envs=2, mode=AutoresetMode.SAME_STEP, **kwargs):
    vector_env = make_vector_env(env_id, len(seeds) * n_envs, kwargs, autoreset_mode=mode)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space, squash_output=configs[0].squash_output)
    envs = EnvBatch(vector_env, len(seeds), observation=observation, action=action, dtype=torch.float64)
    agent_class = A2C if isinstance(configs[0], A2CConfig) else PPO
    agent = agent_class(configs, seeds, observation=observation, action=action, n_envs=n_envs, dtype=torch.float64)
    noise = torch.randn(agent.policy.params.values.shape[1], generator=torch.Generator().manual_seed(0))
    agent.policy.params.values.add_(0.5 * noise)  # so that states differ in entropy
    return agent, envs


def build(*configs, seeds=None, **options):
    """An agent with a full rollout."""
    seeds = seeds or [0] * len(configs)
    agent, envs = fresh(*configs, seeds=seeds, **options)
    obs = envs.reset(Stream(seeds, "environment").seeds(envs.n_envs))
    for _ in range(agent.steps_per_update):
        transition = envs.step(agent.act(obs, envs.mask))
        agent.observe(transition)
        obs = transition.next_obs
    return agent


def samples_of(agent):
    c = agent._coefficients.at(0.0)
    return prepare(agent._collector, agent._entropy, gamma=c["gamma"], gae_lambda=c["gae_lambda"])


def naive_targets(agent, run, coef):
    """Advantage plus value by a loop over every environment, every step earning ``coef`` times its state's entropy."""
    rollout, policy = agent._collector.rollout, agent.policy
    n_steps, _, n_envs = rollout.reward.shape

    @torch.no_grad()
    def ask(obs):
        distribution, value = policy.evaluate(obs.expand(len(policy.params.values), 1, -1))
        return float(distribution.entropy()[run, 0]), float(value[run, 0])

    final = {}
    for t, ended, obs in rollout.cut_obs:
        final |= {(t, env): obs[run, env] for env in range(n_envs) if ended[run, env]}
    targets = torch.zeros(n_steps, n_envs, dtype=torch.float64)
    for env in range(n_envs):
        trace = 0.0
        for t in reversed(range(n_steps)):
            entropy, value = ask(rollout.obs[t, run, env])
            reached = final.get((t, env), rollout.obs[t + 1, run, env])
            next_value = 0.0 if rollout.terminated[t, run, env] else ask(reached)[1]
            trace = 0.0 if (t, env) in final else trace
            earned = float(rollout.reward[t, run, env]) + coef * entropy
            trace = earned + 0.9 * next_value - value + 0.9 * 0.8 * trace
            targets[t, env] = trace + value
    return targets.flatten()


@pytest.mark.parametrize("base", [SMALL, A2C_SMALL], ids=["ppo", "a2c"])
@pytest.mark.parametrize("cut", [True, False], ids=["truncated", "terminated"])
def test_every_step_earns_the_entropy_of_its_state_and_none_after_termination(base, cut):
    # Trap T9. Episodes of 4 steps in rollouts of 6.
    agent = build(*[replace(base, ent_coef=0.7, entropy_in=place) for place in PLACES], cut=cut)
    targets = samples_of(agent).value_target
    for run, coef in enumerate((0.0, 0.7, 0.7)):
        torch.testing.assert_close(targets[run], naive_targets(agent, run, coef))


def test_entropy_in_the_reward_of_a_last_step_is_all_that_termination_leaves():
    agent = build(replace(SMALL, ent_coef=0.7, entropy_in="reward"), env_id="test/Bandit-v0")
    samples, rollout = samples_of(agent), agent._collector.rollout
    entropy = agent.policy.distribution(samples.obs).entropy()
    reward = rollout.reward.transpose(0, 1).flatten(1)
    torch.testing.assert_close(samples.value_target, (reward + 0.7 * entropy).detach())


def test_normalised_rewards_hold_the_entropy_in_their_units():
    config = replace(SMALL, ent_coef=0.7, entropy_in="reward", normalize_reward=True)
    agent = build(config, env_id="test/Bandit-v0")
    samples, rollout = samples_of(agent), agent._collector.rollout
    scale = agent._collector.reward_normalizer.scale
    assert abs(float(scale) - 1.0) > 0.1
    entropy = agent.policy.distribution(samples.obs).entropy()
    reward = rollout.reward.transpose(0, 1).flatten(1)
    torch.testing.assert_close(samples.value_target, (reward + 0.7 / scale * entropy).detach())


@pytest.mark.parametrize("place", ["reward", "both"])
def test_raw_returns_hold_no_entropy(place):
    agent, envs = fresh(replace(SMALL, ent_coef=5.0, entropy_in=place), seeds=[0])
    *_, record = train(agent, envs, total_timesteps=48, seeds=[0], log_interval=100)
    assert record.rows[0]["rollout/ep_rew_mean"] == 4.0


def losses(*configs, **options):
    agent = build(*configs, **options)
    samples = samples_of(agent)
    parts, metrics = agent._loss(samples, agent._coefficients.at(0.0))
    return agent, samples, parts.total, metrics


@pytest.mark.parametrize("base", [SMALL, A2C_SMALL], ids=["ppo", "a2c"])
def test_loss_holds_the_bonus_once_or_twice(base):
    base = replace(base, normalize_advantage=False)
    weights = {"loss": 0.7, "reward": 0.7, "both": 1.4}
    for place, weight in weights.items():
        _, _, loss, metrics = losses(replace(base, ent_coef=0.7, entropy_in=place))
        rest = metrics["train/policy_gradient_loss"] + 0.5 * metrics["train/value_loss"]
        torch.testing.assert_close(loss.detach(), rest - weight * metrics["train/entropy"])


@pytest.mark.parametrize("base", [SMALL, A2C_SMALL], ids=["ppo", "a2c"])
def test_coefficient_in_units_of_the_reward_is_divided_by_the_std_of_advantages(base):
    base = replace(base, normalize_advantage=True, ent_coef=0.7)
    configs = [replace(base, ent_coef_unit=unit) for unit in ("auto", "advantage", "reward")]
    _, samples, loss, metrics = losses(*configs)
    _, std = normalize_advantage(samples.advantage, None)
    torch.testing.assert_close(std, samples.advantage.std(1), rtol=1e-6, atol=0.0)
    assert abs(float(std[0]) - 1.0) > 0.05
    rest = metrics["train/policy_gradient_loss"] + 0.5 * metrics["train/value_loss"]
    weights = torch.stack([vector(0.7)[0], vector(0.7)[0], 0.7 / std[2]])
    torch.testing.assert_close(loss.detach(), rest - weights * metrics["train/entropy"])


def test_units_are_the_same_where_nothing_is_normalised():
    base = replace(SMALL, normalize_advantage=False, ent_coef=0.7)
    _, _, loss, _ = losses(replace(base, ent_coef_unit="advantage"), replace(base, ent_coef_unit="reward"))
    assert float(loss[0].detach()) == float(loss[1].detach())


def test_effective_temperature_is_the_coefficient_in_units_of_the_reward():
    base = replace(SMALL, ent_coef=0.7, normalize_advantage=True)
    settings = [{"ent_coef_unit": "advantage"}, {"ent_coef_unit": "reward"}, {"entropy_in": "reward"}]
    agent = build(*[replace(base, **changes) for changes in settings])
    std = samples_of(agent).advantage.std(1, correction=0)
    found = agent.update(0.1)["train/effective_temperature"]
    assert found.tolist() == pytest.approx([0.7 * float(std[0]), 0.7, 0.7])


def gradients(*configs, **options):
    agent, _, loss, _ = losses(*configs, **options)
    agent.policy.params.backward(loss)
    return agent.policy.params.grads.clone()


@pytest.mark.parametrize("family", ["tsallis:1", "renyi:1"])
@pytest.mark.parametrize("place", PLACES)
def test_order_one_equals_shannon_bit_for_bit(family, place):
    options = {"env_id": "CartPole-v1", "seeds": [3]}
    base = replace(SMALL, ent_coef=0.3, entropy_in=place)
    trained = []
    for name in ("shannon", family):
        agent, envs = fresh(replace(base, entropy=name), **options)
        *_, record = train(agent, envs, total_timesteps=60, seeds=[3], log_interval=100)
        row = {key: x for key, x in record.rows[0].items() if not key.startswith("time/")}
        trained.append((agent.policy.params.values, row))
    assert torch.equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_divergence_from_the_uniform_policy_has_the_gradient_of_the_entropy(env_id):
    # They differ by log A, or by D log 2: a constant. With entropy in the loss only, values do not see it either.
    base = replace(SMALL, ent_coef=0.3, squash_output=env_id == "Pendulum-v1")
    ours, theirs = (gradients(replace(base, entropy=name), env_id=env_id) for name in ("kl-to-uniform", "shannon"))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_divergence_from_the_uniform_policy_in_the_reward_moves_returns_by_a_constant():
    # Every step earns c (H - log 2) instead of c H: one-step episodes differ by c log 3.
    configs = [replace(SMALL, ent_coef=0.7, entropy_in="reward", entropy=f) for f in ("kl-to-uniform", "shannon")]
    ours, theirs = (samples_of(build(config, env_id="test/Bandit-v0")).value_target for config in configs)
    torch.testing.assert_close(ours + 0.7 * math.log(3.0), theirs)


@pytest.mark.parametrize("base", [SMALL, A2C_SMALL], ids=["ppo", "a2c"])
def test_runs_with_different_places_and_units_share_a_batch(base):
    base = replace(base, ent_coef=0.3, normalize_advantage=True)
    settings = [
        {"entropy_in": "loss"},
        {"entropy_in": "reward"},
        {"entropy_in": "both", "ent_coef": "auto"},
        {"ent_coef_unit": "reward", "ent_coef": "target:0.5:0.1"},
    ]
    configs = [replace(base, **changes) for changes in settings]

    def trained(configs):
        seeds = [7] * len(configs)
        agent, envs = fresh(*configs, env_id="CartPole-v1", seeds=seeds)
        *_, record = train(agent, envs, total_timesteps=48, seeds=seeds, log_interval=100)
        return agent.policy.params.values, [row["train/ent_coef"] for row in record.rows]

    values, coefs = trained(configs)
    for run, config in enumerate(configs):
        alone, coef = trained([config])
        torch.testing.assert_close(alone[0], values[run], rtol=0, atol=1e-9)
        assert coef == pytest.approx([coefs[run]], rel=1e-9)


@pytest.mark.parametrize("base", [SMALL, A2C_SMALL], ids=["ppo", "a2c"])
def test_steered_coefficient_rises_below_its_target_and_falls_above_it(base):
    agent = build(*[replace(base, ent_coef=f"target:{nats}:0.1") for nats in (0.69, 0.1)])
    metrics = agent.update(0.1)
    assert 0.1 < float(metrics["train/entropy"][0]) < 0.69
    low, high = agent._entropy.coefficient.at(0.1).tolist()
    assert low > 0.1 > high
