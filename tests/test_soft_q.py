"""Soft Q-learning and Munchausen DQN: against naive loops, in batches, saved and read back, and on known answers."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import SoftQ, SoftQConfig
from entropic_rl.buffers import Batch
from entropic_rl.cli import main
from entropic_rl.config import build
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import ConfigError
from entropic_rl.policy_files import load_policy, save_policy
from entropic_rl.spaces import ObservationSpec, action_spec, observation_spec
from entropic_rl.testing import check_agent
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

pytestmark = pytest.mark.usefixtures("no_figures")

R, B, D, A = 2, 12, 3, 4
CHOICE = action_spec(spaces.Discrete(A))
SMALL = SoftQConfig(net_arch=(8, 8), batch_size=B, buffer_size=64, munchausen_clip=0.7)
TEMPERATURES, WEIGHTS = (0.3, 0.7), (0.4, 0.9)
masked_or_not = pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])


def agent_of(*settings, seeds=None, base=SMALL):
    """One run per mapping of settings; parameters away from the first ones, the following ones from those."""
    settings = settings or [{"ent_coef": t, "munchausen": m} for t, m in zip(TEMPERATURES, WEIGHTS, strict=True)]
    agent = SoftQ(
        [replace(base, **changes) for changes in settings],
        seeds or range(len(settings)),
        observation=ObservationSpec.vector(D),
        action=CHOICE,
        n_envs=2,
        dtype=torch.float64,
    )
    generator = torch.Generator().manual_seed(1)
    for values in (agent.policy.params.values, agent.target.params.values):
        values.add_(0.5 * torch.randn(values.shape[1], generator=generator, dtype=torch.float64))
    return agent


def batch_of(*, masked=False, n_runs=R):
    """Made-up transitions; some end the task."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(n_runs, B, *shape, generator=g, dtype=torch.float64)

    mask, next_mask = normal(A) > 0.0, normal(A) > 0.0
    mask[..., 1] = next_mask[..., 2] = True
    return Batch(
        obs=normal(D),
        action=torch.ones(n_runs, B, dtype=torch.int64) if masked else torch.arange(B).remainder(A).expand(n_runs, B),
        reward=normal(),
        next_obs=normal(D),
        terminated=normal() > 0.5,
        discount=torch.full((n_runs, B), 0.9, dtype=torch.float64),
        valid=None,
        mask=mask if masked else None,
        next_mask=next_mask if masked else None,
    )


def layers(rows, run):
    """Weights and biases of one run, to differentiate."""
    tensors = {name: tensor[run].clone().requires_grad_() for name, tensor in rows.named().items()}
    return [(tensors[f"actor.{i}.weight"], tensors[f"actor.{i}.bias"][0]) for i in range(len(tensors) // 2)]


def forward(net, x):
    for i, (weight, bias) in enumerate(net):
        x = (x.relu() if i else x) @ weight + bias
    return x


def log_softmax(values, temperature, mask):
    """Log-probabilities of the allowed actions, by number."""
    allowed = [a for a in range(A) if mask is None or bool(mask[a])]
    total = sum(math.exp(values[a] / temperature) for a in allowed)
    return {a: values[a] / temperature - math.log(total) for a in allowed}


def expected_loss(agent, batch, run, *, weight, clip=0.7, in_values=True):
    """The loss of one run as the papers have it, one transition and one action after the other."""
    temperature = TEMPERATURES[run]
    online, following = layers(agent.policy.params, run), layers(agent.target.params, run)
    loss = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        action = int(batch.action[run, b])
        target, mask = float(batch.reward[run, b]), None if batch.mask is None else batch.mask[run, b]
        log_policy = log_softmax(forward(following, batch.obs[run, b]).tolist(), temperature, mask)[action]
        target += weight * min(max(temperature * log_policy, -clip), 0.0)
        if not batch.terminated[run, b]:
            values = forward(following, batch.next_obs[run, b]).tolist()
            mask = None if batch.next_mask is None else batch.next_mask[run, b]
            for a, log_p in log_softmax(values, temperature, mask).items():
                target += 0.9 * math.exp(log_p) * (values[a] - temperature * in_values * log_p)
        loss = loss + 0.5 * (forward(online, batch.obs[run, b])[action] - target) ** 2 / B
    return loss, online


def step(agent, batch):
    agent._collector.batch = lambda gamma: batch
    return agent._step(0.0, agent._coefficients.at(0.0))


@masked_or_not
def test_loss_and_gradient_are_those_of_a_naive_loop(masked):
    agent, batch = agent_of(), batch_of(masked=masked)
    found = [expected_loss(agent, batch, run, weight=WEIGHTS[run]) for run in range(R)]
    metrics = step(agent, batch)
    assert 0.1 < float(metrics["train/munchausen_clipped"].min()) < 0.9  # both sides of the bound were tried
    assert metrics["train/critic_loss"].tolist() == pytest.approx([loss.item() for loss, _ in found], rel=1e-12)
    for run, (loss, online) in enumerate(found):
        grads = torch.autograd.grad(loss, [tensor for layer in online for tensor in layer])
        flat = torch.cat([grad.flatten() for grad in grads])
        torch.testing.assert_close(agent.policy.params.grads[run], flat, rtol=1e-10, atol=1e-12)


@masked_or_not
def test_entropy_in_the_loss_leaves_the_values_plain(masked):
    agent, batch = agent_of(*[{"ent_coef": t, "entropy_in": "loss"} for t in TEMPERATURES]), batch_of(masked=masked)
    found = [expected_loss(agent, batch, run, weight=0.0, in_values=False)[0] for run in range(R)]
    assert step(agent, batch)["train/critic_loss"].tolist() == pytest.approx([loss.item() for loss in found])


@masked_or_not
def test_soft_value_is_the_scaled_log_of_the_sum_of_exponentials(masked):
    agent, batch = agent_of({"ent_coef": 0.3}, {"ent_coef": 0.7}), batch_of(masked=masked)
    scale = torch.tensor([[[0.3]], [[0.7]]], dtype=torch.float64)
    values = agent.target.outputs(batch.next_obs)
    allowed = values if batch.next_mask is None else values.masked_fill(~batch.next_mask, -math.inf)
    soft_value = (scale * (allowed / scale).logsumexp(-1, keepdim=True)).squeeze(-1)
    target = batch.reward + 0.9 * soft_value.masked_fill(batch.terminated, 0.0)
    torch.testing.assert_close(agent._soft_target(batch), target, rtol=1e-12, atol=1e-12)


def test_without_a_temperature_it_is_greedy_q_learning():
    agent, batch = agent_of({"ent_coef": 0.0}, {"ent_coef": "linear:0:0"}), batch_of(masked=True)
    best = agent.target.outputs(batch.next_obs).masked_fill(~batch.next_mask, -math.inf).amax(-1)
    target = batch.reward + 0.9 * best.masked_fill(batch.terminated, 0.0)
    torch.testing.assert_close(agent._soft_target(batch), target, rtol=0.0, atol=1e-5)
    metrics = step(agent, batch)
    assert metrics["train/ent_coef"].tolist() == metrics["train/entropy"].tolist() == [0.0, 0.0]
    assert agent.policy.params.grads.isfinite().all()


def test_values_of_the_first_and_the_following_network_begin_equal_and_the_latter_follow():
    agent = SoftQ(
        [replace(SMALL, tau=tau, ent_coef=0.3) for tau in (0.1, 1.0)],
        [0, 1],
        observation=ObservationSpec.vector(D),
        action=CHOICE,
        n_envs=1,
        dtype=torch.float64,
    )
    before = agent.policy.params.values.clone()
    assert torch.equal(agent.target.params.values, before)
    step(agent, batch_of())
    expected = before + torch.tensor([[0.1], [1.0]], dtype=torch.float64) * (agent.policy.params.values - before)
    torch.testing.assert_close(agent.target.params.values, expected, rtol=0.0, atol=1e-15)


# The temperature


def test_policy_acts_by_the_softmax_of_its_values_at_each_run_s_temperature():
    agent, obs = agent_of(), batch_of().obs
    scale = torch.tensor(TEMPERATURES, dtype=torch.float64).view(-1, 1, 1)
    expected = (agent.policy.outputs(obs) / scale).softmax(-1)
    torch.testing.assert_close(agent.policy.distribution(obs).probs, expected)


def test_temperature_rises_below_the_target_entropy_and_falls_above_it():
    # Trap T10. Adam's first step is the learning rate in the direction of the error, on the logarithm.
    agent = agent_of({"ent_coef": "target:1.38:0.5"}, {"ent_coef": "target:0.001:0.5"}, {"ent_coef": 0.5})
    metrics = step(agent, batch_of(n_runs=3))
    assert metrics["train/ent_coef"].tolist() == pytest.approx([0.5] * 3)  # as it was in this step
    step(agent, batch_of(n_runs=3))
    after = agent.policy.temperature.tolist()
    assert after == pytest.approx([0.5 * math.exp(3e-4), 0.5 * math.exp(-3e-4), 0.5], rel=1e-7)


def test_effective_temperature_is_what_the_munchausen_share_leaves_of_it():
    metrics = step(agent_of(), batch_of())
    assert metrics["train/effective_temperature"].tolist() == pytest.approx([0.3 * 0.6, 0.7 * 0.1])


def test_policy_is_saved_with_its_temperature(tmp_path):
    agent, obs = agent_of(base=replace(SMALL, normalize_obs=True)), batch_of().obs
    agent.policy.normalize(obs, update=True)
    for run, temperature in enumerate(TEMPERATURES):
        save_policy(agent.policy, run, tmp_path)
        again = load_policy(tmp_path, ObservationSpec.vector(D), CHOICE)
        assert again.temperature.tolist() == [temperature]
        ours = agent.policy.distribution(agent.policy.normalize(obs)).probs[run]
        theirs = again.distribution(again.normalize(obs[run : run + 1])).probs[0]
        torch.testing.assert_close(theirs, ours)


# Runs of a batch


@pytest.mark.parametrize(
    "changes",
    [{}, {"munchausen": 0.9, "n_steps": 3, "normalize_obs": True, "gradient_steps": -1}],
    ids=["plain", "Munchausen"],
)
def test_contract(changes):
    config = SoftQConfig(net_arch=(8,), learning_starts=8, batch_size=8, buffer_size=64, **changes)
    check_agent(SoftQ, config, n_updates=20)


def learn(configs, seeds, env_id, *, total_timesteps, n_envs=2, mode=AutoresetMode.SAME_STEP, **kwargs):
    """A trained agent and its last rows."""
    vector_env = make_vector_env(env_id, len(seeds) * n_envs, kwargs, autoreset_mode=mode)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space)
    envs = EnvBatch(vector_env, len(seeds), observation=observation, action=action, dtype=torch.float64)
    agent = SoftQ(configs, seeds, observation=observation, action=action, n_envs=n_envs, dtype=torch.float64)
    *_, last = train(agent, envs, total_timesteps=total_timesteps, seeds=seeds, log_interval=10**6)
    envs.close()
    return agent, last.rows


def test_run_alone_equals_the_same_run_inside_a_batch():
    base = replace(SMALL, learning_starts=20)
    configs = [
        base,
        replace(base, ent_coef=0.1, gamma=0.9, tau=0.1, munchausen=0.9),
        replace(base, ent_coef="linear:0.3:0", learning_rate=1e-2, entropy_in="loss"),
        base,
    ]
    seeds = [5, 6, 5, 7]
    together, rows = learn(configs, seeds, "CartPole-v1", total_timesteps=80)
    for run in range(4):
        alone, alone_rows = learn([configs[run]], [seeds[run]], "CartPole-v1", total_timesteps=80)
        for network in ("policy", "target"):
            ours, theirs = (getattr(agent, network).params.values for agent in (alone, together))
            torch.testing.assert_close(ours[0], theirs[run], rtol=0, atol=1e-9)
        expected = {k: v for k, v in alone_rows[0].items() if not k.startswith("time/")}
        assert {k: rows[run][k] for k in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


# Known answers

VALUES = SoftQConfig(
    ent_coef=0.0, gamma=0.5, tau=0.2, learning_rate="linear:0.04:0", net_arch=(), batch_size=16, learning_starts=16
)


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_truncation_bootstraps(mode):
    # 1 per step for ever, cut every 4 steps and the clock hidden: Q = 1 / (1 - gamma) = 2, and with a temperature of 1
    # and two actions that are equal (1 + gamma log 2) / (1 - gamma). A greedy policy learns of the action that it
    # takes. Trap T1; in NEXT_STEP mode trap T2, too.
    configs = [VALUES, replace(VALUES, ent_coef=1.0)]
    agent, _ = learn(configs, [0, 1], "test/Clock-v0", total_timesteps=400, mode=mode, cut=True, hidden=True)
    values = agent.policy.outputs(torch.eye(5, dtype=torch.float64)[:1].expand(2, 1, 5))
    assert values[0].max().item() == pytest.approx(2.0, abs=0.02)
    assert values[1].flatten().tolist() == pytest.approx([2.0 + math.log(2.0)] * 2, abs=0.02)


def test_termination_does_not_bootstrap_and_has_no_entropy():
    # Two steps and a clock to see: Q = 1 at the second; at the first 1 + gamma, and log 2 of entropy at the second.
    configs = [VALUES, replace(VALUES, ent_coef=1.0)]
    agent, _ = learn(configs, [0, 1], "test/Clock-v0", total_timesteps=400, cut=False, limit=2)
    values = agent.policy.outputs(torch.eye(3, dtype=torch.float64)[:2].expand(2, 2, 3))
    assert values[0].amax(-1).tolist() == pytest.approx([1.5, 1.0], abs=0.02)
    expected = [1.0 + 0.5 * (1.0 + math.log(2.0))] * 2 + [1.0] * 2
    assert values[1].flatten().tolist() == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
def test_bandit_is_played_by_the_softmax_of_its_rewards_and_keeps_a_target_entropy():
    # One choice, then the end: pi = softmax(r / ((1 - m) t)), whatever else is random.
    config = replace(VALUES, learning_rate="linear:0.06:0", batch_size=32, buffer_size=512, munchausen_clip=100.0)
    points = [{"ent_coef": c} for c in (0.05, 0.5, "target:0.8:0.3")] + [{"ent_coef": 0.4, "munchausen": 0.5}]
    agent, rows = learn(
        [replace(config, **point) for point in points],
        range(4),
        "entropic_rl/Bandit-v0",
        total_timesteps=800,
        n_envs=1,
    )
    scale = torch.tensor([row["train/effective_temperature"] for row in rows], dtype=torch.float64).unsqueeze(1)
    found = agent.policy.distribution(torch.tensor([[[1.0, 0.0]]] * 4, dtype=torch.float64))
    expected = (torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64) / scale).softmax(-1)
    assert (found.probs[:, 0] - expected).abs().max() < 0.02
    assert found.entropy()[2].item() == pytest.approx(0.8, abs=0.02)


def test_reset_rows_of_the_next_step_mode_teach_nothing():
    batch = batch_of()
    valid = torch.arange(B).remainder(3).ne(0).expand(R, B)
    spoiled = replace(
        batch,
        valid=valid,
        reward=torch.where(valid, batch.reward, 1e6),
        obs=torch.where(valid.unsqueeze(-1), batch.obs, 1e3),
    )
    agents = agent_of(), agent_of()
    losses = [
        step(agent, b)["train/critic_loss"]
        for agent, b in zip(agents, (spoiled, replace(batch, valid=valid)), strict=True)
    ]
    assert torch.equal(*losses)
    assert torch.equal(agents[0].policy.params.values, agents[1].policy.params.values)


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"entropy": "tsallis:2"}, "entropy: expected shannon, whose optimum is the softmax of the values, got tsal"),
        ({"entropy": "kl-to-uniform"}, "got kl-to-uniform; use discrete-sac"),
        ({"entropy_in": "both"}, "entropy_in: expected 'loss' or 'reward', got 'both'"),
        ({"munchausen": 0.9, "entropy_in": "loss"}, "it has to be 0 with --entropy-in loss, got 0.9"),
        ({"munchausen": 1.0}, "munchausen: expected less than 1, got 1.0"),
        ({"munchausen_clip": 0.0}, "munchausen_clip: expected greater than 0, got 0.0"),
    ],
)  # fmt: skip
def test_settings_without_a_meaning_are_refused_in_one_line(settings, words):
    with pytest.raises(ConfigError) as error:
        build(SoftQConfig, settings)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_tsallis_entropy_of_order_1_is_shannon_s():
    assert build(SoftQConfig, {"entropy": "tsallis:1"}).entropy == "tsallis:1"


# The command line

QUICK = ["--net-arch", "8", "--learning-starts", "32", "--batch-size", "8", "--eval-episodes", "4", "--no-progress"]
CHAIN = ["--env", "entropic_rl/Chain-v0", "--gamma", "0.9", "--total-timesteps", "96", *QUICK]


def test_train_and_evaluate_at_the_temperature_that_was_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "soft-q", *CHAIN, "--ent-coef", "0.2", "--munchausen", "0.5", "--run-dir", "run"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["train/effective_temperature"] == pytest.approx(0.1)
    assert summary["optimum/kl"] > 0.0
    capsys.readouterr()
    assert main(["evaluate", "run", "--stochastic", "--episodes", "4", "--seed", "10000", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    sampled = summary["eval/mean_reward"] - summary["eval/stochastic_gap"]
    assert any(value == pytest.approx(sampled) for value in again.values() if isinstance(value, float))


@pytest.mark.slow
def test_it_is_compared_with_discrete_sac(tmp_path, monkeypatch, trained_here):
    monkeypatch.chdir(tmp_path)
    flags = [*CHAIN, "--ent-coef", "0.2", "--seeds", "1", "--parallel", "batch", "--out", "both"]
    assert main(["compare", "discrete-sac", "soft-q", *flags]) == 0
    assert "soft-q" in (tmp_path / "both" / "report.html").read_text()


def test_families_it_has_not_are_refused_before_torch(capsys):
    assert main(["train", "soft-q", "--env", "CartPole-v1", "--entropy", "renyi:2"]) == 2
    assert "use discrete-sac" in capsys.readouterr().err
    assert main(["train", "soft-q", "--env", "Pendulum-v1"]) == 2
    assert "this agent needs Discrete actions" in capsys.readouterr().err


def test_pictures_and_stacked_observations_are_seen_as_other_agents_see_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--total-timesteps", "48", *QUICK]
    assert main(["train", "soft-q", "--env", "entropic_rl/Catch-v0", *few, "--run-dir", "pictures"]) == 0
    stacked = ["--frame-stack", "3", "--features", "attention", "--features-dim", "8"]
    assert (
        main(["train", "soft-q", "--env", "CartPole-v1", "--preset", "none", *few, *stacked, "--run-dir", "past"]) == 0
    )
    assert main(["evaluate", "past", "--episodes", "2"]) == 0


def test_networks_are_of_the_widths_that_were_asked_for():
    shapes = [tuple(layer[0].shape) for layer in layers(agent_of().policy.params, 0)]
    assert shapes == list(pairwise((D, 8, 8, A)))
