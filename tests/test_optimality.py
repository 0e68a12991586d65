"""How policies are laid beside the exact ones: which environments are tables, what a policy does in each state."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import PPO, PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.config import RunConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.envs import oracle
from entropic_rl.envs.bandit import Bandit
from entropic_rl.envs.chain import Chain
from entropic_rl.envs.deep_sea import DeepSea
from entropic_rl.envs.oracle import bandit_optimum, loss_only_fixed_point, soft_value_iteration
from entropic_rl.families import EntropyFamily
from entropic_rl.optimality import find_rules, measure_optimality, tabular_policy
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.runs import train_cells
from entropic_rl.spaces import action_spec, observation_spec

SEEDS = [3, 4]
NAMES = {"kl", "loss_only_kl", "entropy", "policy_entropy", "soft_regret", "return_regret"}


def random_policies(rules, seeds=SEEDS, **network):
    """Networks whose policies are far from uniform, and what makes their observations."""
    observation = observation_spec(rules.observation_space)
    config = NetworkConfig(net_arch=(8,), **network)
    policy = ActorCritic(config, observation, action_spec(rules.action_space), seeds)
    noise = torch.randn(policy.params.values.shape, generator=torch.Generator().manual_seed(0))
    policy.params.values.copy_(noise)
    return policy, observation


def measured(policy, mdp, temperature, gamma=0.9):
    [found] = measure_optimality(policy[None], mdp, [temperature], [gamma])
    return {name.removeprefix("optimum/"): value for name, value in found.metrics.items()}, found.tables


# Which environments are tables


@pytest.mark.parametrize("backend", ["batched", "sync"])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED], ids=lambda mode: mode.name)
def test_rules_are_found_behind_both_ways_of_stepping(backend, mode):
    env = make_vector_env("entropic_rl/Chain-v0", 2, {"length": 4}, backend=backend, autoreset_mode=mode)
    rules = find_rules(env)
    assert isinstance(rules, Chain)
    assert rules.n_states == 4
    env.close()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "entropic_rl/PointMaze-v0", "test/Bandit-v0"])
@pytest.mark.parametrize("backend", ["auto", "sync"])
def test_environments_that_are_no_tables_have_no_rules(env_id, backend):
    env = make_vector_env(env_id, 2, backend=backend)
    assert find_rules(env) is None
    env.close()


@pytest.mark.parametrize(("size", "known"), [(16, True), (17, False)])  # 136 and 153 cells, and the end
def test_tables_that_are_too_large_to_solve_are_left_alone(size, known):
    env = make_vector_env("entropic_rl/DeepSea-v0", 1, {"size": size})
    assert (find_rules(env) is not None) == known
    env.close()


# What a policy does in each state


@pytest.mark.parametrize("rules", [Chain(length=4), Bandit(), DeepSea(size=3)], ids=lambda rules: type(rules).__name__)
def test_tabular_policy_is_what_the_network_does_in_each_state(rules):
    policy, observation = random_policies(rules)
    found = tabular_policy(policy, rules, observation)
    assert found.dtype == torch.float64
    assert found.shape == (2, rules.n_states, rules.n_actions)
    for state in range(rules.n_states):
        shown = rules.observe(torch.tensor([[state]])).numpy()
        obs = torch.from_numpy(observation.flatten(shown)).expand(2, 1, -1)
        logits = policy.distribution(obs).logits.detach()
        torch.testing.assert_close(found[:, state], logits[:, 0].double().softmax(-1), rtol=1e-6, atol=1e-7)


def test_tabular_policy_sees_states_as_the_network_does_in_training():
    rules = Chain(length=4)
    policy, observation = random_policies(rules, normalize_obs=True)
    seen = torch.from_numpy(observation.flatten(np.array([0, 0, 0, 1]))).expand(2, -1, -1)
    policy.normalize(seen, update=True)
    every_state = torch.eye(4).expand(2, -1, -1)
    expected = policy.distribution(policy.normalize(every_state)).probs.double()
    torch.testing.assert_close(tabular_policy(policy, rules, observation), expected, rtol=0.0, atol=1e-7)
    assert not torch.allclose(expected, policy.distribution(every_state).probs.double(), atol=1e-3)


# The numbers


@pytest.mark.parametrize("rules", [Chain(), Bandit(), DeepSea(size=3)], ids=lambda rules: type(rules).__name__)
@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_optimum_is_at_no_distance_from_itself(rules, temperature):
    optimum = soft_value_iteration(rules.mdp, temperature, 0.9)
    found, tables = measured(optimum.policy, rules.mdp, temperature)
    assert set(found) == NAMES
    assert found["kl"] == pytest.approx(0.0, abs=1e-12)
    assert found["soft_regret"] == pytest.approx(0.0, abs=1e-10)
    assert found["entropy"] == pytest.approx(found["policy_entropy"], rel=1e-12)
    np.testing.assert_allclose(tables["policy"], tables["optimum"], rtol=0.0, atol=1e-12)


def test_fixed_point_of_entropy_in_the_loss_is_at_no_distance_from_itself():
    mdp = Chain().mdp
    fixed_point = loss_only_fixed_point(mdp, 0.2, 0.9)
    found, tables = measured(fixed_point.policy, mdp, 0.2)
    assert found["loss_only_kl"] == pytest.approx(0.0, abs=1e-12)
    assert found["kl"] > 0.01
    assert found["soft_regret"] > 0.001
    assert tables["loss_only"].tolist() == fixed_point.policy.tolist()


def test_numbers_of_the_uniform_policy_on_a_bandit_are_the_hand_derived_ones():
    rewards = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    found, _ = measured(torch.full((2, 3), 1 / 3, dtype=torch.float64), Bandit().mdp, 0.5)
    optimum = bandit_optimum(rewards, 0.5)  # softmax(0, 1, 2)
    kl = -math.log(3) - float(optimum.log().mean())
    assert found["kl"] == pytest.approx(kl, rel=1e-12)
    assert found["loss_only_kl"] == pytest.approx(kl, rel=1e-9)  # one decision: both kinds of entropy are the same
    assert found["entropy"] == pytest.approx(-float((optimum * optimum.log()).sum()), rel=1e-12)
    assert found["policy_entropy"] == pytest.approx(math.log(3), rel=1e-12)
    # Soft value of the optimum: t log sum exp(r / t); of the uniform policy: 1/2 + t log 3.
    value = 0.5 * math.log(1 + math.e + math.e**2)
    assert found["soft_regret"] == pytest.approx(value - 0.5 - 0.5 * math.log(3), rel=1e-10)
    assert found["return_regret"] == pytest.approx(0.5, rel=1e-12)


def test_at_temperature_zero_only_the_lost_return_is_measured():
    mdp = Chain().mdp
    uniform = torch.full((5, 2), 0.5, dtype=torch.float64)
    found, tables = measured(uniform, mdp, 0.0)
    assert set(found) == {"return_regret"}
    assert found["return_regret"] == pytest.approx(measured(uniform, mdp, 0.1)[0]["return_regret"], rel=1e-12)
    assert set(tables) == {"policy", "optimum"}
    assert set(tables["optimum"].ravel()) == {0.0, 1.0}
    assert measured(torch.from_numpy(tables["optimum"]), mdp, 0.0)[0]["return_regret"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("temperature", [1e-30, 1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize("kind", ["uniform", "deterministic", "optimal", "wrong"])
def test_numbers_at_tiny_temperatures_are_finite_or_absent(monkeypatch, temperature, kind):
    hasty = partial(oracle.loss_only_fixed_point, max_rounds=200)  # where it has converged or will not, see test_oracle
    monkeypatch.setattr(oracle, "loss_only_fixed_point", hasty)
    for rules in (Chain(), Bandit(), DeepSea(size=3)):
        mdp = rules.mdp
        policies = {
            "uniform": torch.full_like(mdp.reward, 1.0 / mdp.n_actions),
            "deterministic": torch.eye(mdp.n_actions, dtype=torch.float64)[0].expand_as(mdp.reward),
            "optimal": soft_value_iteration(mdp, temperature, 0.9).policy,
            "wrong": (-soft_value_iteration(mdp, temperature, 0.9).q_value).softmax(1),
        }
        found, tables = measured(policies[kind], mdp, temperature)
        assert all(math.isfinite(value) for value in found.values())
        assert {"return_regret", "entropy", "policy_entropy"} <= set(found)
        assert all(np.isfinite(table).all() for table in tables.values())


@pytest.mark.parametrize("temperature", [math.nan, math.inf])
def test_temperature_that_is_no_number_measures_nothing(temperature):
    assert measured(torch.full((5, 2), 0.5, dtype=torch.float64), Chain().mdp, temperature) == ({}, {})


def test_policy_that_is_no_number_measures_nothing():
    assert measured(torch.full((5, 2), math.nan, dtype=torch.float64), Chain().mdp, 0.1) == ({}, {})


def test_every_run_is_measured_at_its_own_temperature_and_discount():
    mdp = Chain().mdp
    pairs = [(0.1, 0.9), (0.4, 0.9), (0.1, 0.5), (0.1, 0.9)]
    optima = torch.stack([soft_value_iteration(mdp, *pair).policy for pair in pairs])
    temperatures, gammas = zip(*pairs, strict=True)
    for found in measure_optimality(optima, mdp, temperatures, gammas):
        assert found.metrics["optimum/kl"] == pytest.approx(0.0, abs=1e-12)
    others = measure_optimality(optima, mdp, temperatures[1:] + temperatures[:1], gammas[1:] + gammas[:1])
    assert [found.metrics["optimum/kl"] > 1e-4 for found in others] == [True, True, True, False]


def test_exact_policies_are_solved_once_for_equal_temperatures(monkeypatch):
    solved, solve = [], oracle.loss_only_fixed_point

    def counting(mdp, *pair):
        solved.append(pair)
        return solve(mdp, *pair)

    monkeypatch.setattr(oracle, "loss_only_fixed_point", counting)
    uniform = torch.full((3, 5, 2), 0.5, dtype=torch.float64)
    measure_optimality(uniform, Chain().mdp, [0.1, 0.2, 0.1], [0.9] * 3)
    assert solved == [(0.1, 0.9), (0.2, 0.9)]


# Learning with a known answer

COEFFICIENTS = (0.05, 0.1, 0.2, 0.4)
N_SEEDS = 2
PROBLEMS = {"entropic_rl/Bandit-v0": (Bandit(), 20_000), "entropic_rl/Chain-v0": (Chain(), 30_000)}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * ("Chain" in name)) for name in PROBLEMS]
)
def trained(request, tmp_path_factory):
    """Policies of PPO by coefficient ``[C, N, S, A]``, exact ones ``[C, S, A]``, and summaries, of one batch of runs.

    Advantages stay in reward units, so that the coefficient is the temperature. With these settings, over 24 seeds, the
    entropy of a run (mean over states) was within 0.071 of the exact one, and its policy within 0.02 nats.
    """
    rules, total_timesteps = PROBLEMS[request.param]
    out = tmp_path_factory.mktemp("trained")
    run = RunConfig(
        env=request.param,
        total_timesteps=total_timesteps,
        n_envs=16,
        eval_episodes=1,
        device="cpu",
        log_interval=10_000,
    )
    config = PPOConfig(
        learning_rate="linear:0.01:0", n_steps=32, batch_size=512, n_epochs=10, gamma=0.9, normalize_advantage=False,
        max_grad_norm=10.0, net_arch=(16,),
    )  # fmt: skip
    cells = [
        Cell("ppo", replace(run, seed=seed), replace(config, ent_coef=coef), out / f"{coef}-{seed}")
        for coef in COEFFICIENTS
        for seed in range(N_SEEDS)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("entropic_rl.plots.RunFigures.draw", lambda *_, **__: None)  # half of the time
        summaries = train_cells(PPO, cells)
    policies = [np.load(cell.directory / "exploration.npz")["policy"] for cell in cells]
    exact = [loss_only_fixed_point(rules.mdp, coef, 0.9).policy.numpy() for coef in COEFFICIENTS]
    acting = ~rules.mdp.terminal.numpy()
    return SimpleNamespace(
        env=request.param,
        own=np.stack(policies).reshape(len(COEFFICIENTS), N_SEEDS, *policies[0].shape)[:, :, acting],
        exact=np.stack(exact)[:, acting],
        summaries=summaries,
    )


def mean_entropy(policy):
    """Nats, mean over states."""
    return -(policy * np.log(policy)).sum(-1).mean(-1)


def test_larger_coefficients_give_larger_entropies_by_as_much_as_the_exact_policies_have(trained):
    own, exact = mean_entropy(trained.own), mean_entropy(trained.exact)
    assert (np.diff(exact) > 0).all()
    assert (np.diff(own.mean(1)) > 0).all()
    np.testing.assert_allclose(own, np.broadcast_to(exact[:, None], own.shape), rtol=0.0, atol=0.1)


def test_policies_come_to_rest_where_the_exact_solution_says(trained):
    distance = (trained.own * (np.log(trained.own) - np.log(trained.exact)[:, None])).sum(-1).mean(-1)
    assert distance.max() < 0.04
    if "Bandit" in trained.env:  # one decision: softmax(rewards / coefficient)
        for coef, policies in zip(COEFFICIENTS, trained.own[:, :, 0], strict=True):
            softmax = bandit_optimum(torch.tensor([0.0, 0.5, 1.0]), coef).expand(N_SEEDS, -1).numpy()
            np.testing.assert_allclose(policies, softmax, rtol=0.0, atol=0.05)


def test_agents_seek_the_fixed_point_of_the_loss_where_the_regularised_optimum_is_another(trained):
    at = COEFFICIENTS.index(0.2) * N_SEEDS
    for summary in trained.summaries[at : at + N_SEEDS]:
        assert summary["train/effective_temperature"] == pytest.approx(0.2)
        assert summary["optimum/loss_only_kl"] < 0.01
        assert (summary["optimum/kl"] > 0.02) == ("Chain" in trained.env)


def test_sparse_optimum_of_tsallis_entropy_is_that_family_s_own():
    mdp = Chain().mdp
    exact = soft_value_iteration(mdp, 0.2, 0.9, entropy="tsallis", index=1.5).policy
    [found] = measure_optimality(exact.unsqueeze(0), mdp, [0.2], [0.9], EntropyFamily.parse("tsallis:1.5"))
    assert found.metrics["optimum/kl"] == pytest.approx(0.0, abs=1e-9)
    assert "optimum/loss_only_kl" not in found.metrics


@pytest.mark.parametrize("family", ["renyi:2", "kl-to-prior:1,2"])
def test_families_without_an_exact_solution_are_told_the_plain_regret_only(family):
    uniform = torch.full((1, 5, 2), 0.5, dtype=torch.float64)
    [found] = measure_optimality(uniform, Chain().mdp, [0.2], [0.9], EntropyFamily.parse(family))
    assert found.metrics.keys() == {"optimum/return_regret"}
