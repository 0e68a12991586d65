"""Slices of the policy objective: beside the oracle, at points and by differences; directions of the right length."""

import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from entropic_rl.cell import Cell
from entropic_rl.cli import main
from entropic_rl.compare.landscape import landscape_picture
from entropic_rl.environments import make_vector_env
from entropic_rl.envs import oracle
from entropic_rl.errors import ConfigError
from entropic_rl.landscape import (
    changes_along,
    direction_to,
    exact_objective,
    filter_directions,
    moved,
    plane_through,
    policy_slice,
    sampled_objective,
)
from entropic_rl.page import drawn
from entropic_rl.plots.landscape import LandscapePanel, plot_landscapes
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.policy_files import save_policy
from entropic_rl.resolve import layered
from entropic_rl.spaces import action_spec, observation_spec

GAMMA = 0.9


def setting(env_id="entropic_rl/Chain-v0", *, seeds=(0,), dtype=torch.float64, **kwargs):
    """A policy with weights that mean something, and the rules of its environment."""
    network = NetworkConfig(net_arch=(8,), **kwargs)
    env = make_vector_env(env_id, 1, backend="batched")
    observation, action = observation_spec(env.single_observation_space), action_spec(env.single_action_space)
    policy = ActorCritic(network, observation, action, seeds, dtype=dtype)
    policy.params["actor.1.weight"].data.mul_(100.0)
    return policy, getattr(env, "dynamics", None)


def exact(rules):
    return partial(exact_objective, rules=rules, gamma=GAMMA)


@pytest.mark.parametrize("env_id", ["entropic_rl/Chain-v0", "entropic_rl/RiverSwim-v0", "entropic_rl/DeepSea-v0"])
def test_objective_is_the_oracles_at_every_coefficient(env_id):
    policy, rules = setting(env_id, seeds=(0, 1, 2))
    returns, entropies = exact_objective(policy, rules, GAMMA)
    obs = torch.from_numpy(policy.observation.flatten(rules.observe(torch.arange(rules.n_states)[None]).numpy()))
    probs = policy.distribution(obs.double().expand(3, -1, -1)).probs.detach()
    for c in (0.0, 0.3):
        for run in range(3):
            value = oracle.evaluate_policy(rules.mdp, probs[run], GAMMA, temperature=c)
            expected = float(rules.mdp.start.masked_fill(rules.mdp.terminal, 0.0) @ value)
            assert float((returns + c * entropies)[run].detach()) == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_objective_is_a_difference_of_it():
    policy, rules = setting()
    views = [policy.params[name] for name in policy.params.named()]
    returns, entropies = exact_objective(policy, rules, GAMMA)
    gradients = torch.autograd.grad((returns + 0.2 * entropies).sum(), views, allow_unused=True, materialize_grads=True)
    gradient = torch.cat([g.flatten(1) for g in gradients], 1)[0]
    [direction] = filter_directions(policy, 1)
    [[up, down]] = changes_along(policy, direction[None], exact(rules), radius=1e-5, ent_coefs=[0.2])[0:1, 0]
    assert (up - down) / 2e-5 == pytest.approx(float(gradient @ direction), rel=1e-6)


def test_a_slice_has_the_policy_in_its_middle_and_its_rows_along_the_second_direction():
    policy, rules = setting()
    directions = filter_directions(policy)
    found = policy_slice(policy, directions, exact(rules), n_points=5, radius=0.5)
    assert found.offsets.tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]
    at = [part.detach() for part in exact_objective(policy, rules, GAMMA)]
    assert found.returns[2, 2] == pytest.approx(float(at[0]))
    assert found.entropies[2, 2] == pytest.approx(float(at[1]))
    [there] = exact_objective(moved(policy, 0.5 * directions[1:]), rules, GAMMA)[0].detach().tolist()
    assert found.returns[4, 2] == pytest.approx(there)
    np.testing.assert_allclose(found.objective(0.3), found.returns + 0.3 * found.entropies)


def test_many_points_are_the_points_one_by_one():
    policy, rules = setting("entropic_rl/FourRooms-v0")
    shifts = filter_directions(policy, 7)
    together = exact_objective(moved(policy, shifts), rules, GAMMA)[0]
    alone = [float(exact_objective(moved(policy, s[None]), rules, GAMMA)[0].detach()) for s in shifts]
    np.testing.assert_allclose(together.detach().numpy(), alone, rtol=1e-10)


def test_directions_have_the_length_of_each_units_weights_and_leave_the_critic():
    policy, _ = setting()
    directions = filter_directions(policy, 3, seed=5)
    twin = moved(policy, directions)
    for name, weight in policy.params.named().items():
        shift = (twin.params.named()[name] - weight)[1]
        if name.startswith("critic."):
            assert not shift.any()
        elif len(weight[0]) > 1:
            torch.testing.assert_close(shift.norm(dim=0), weight[0].norm(dim=0))
    assert torch.equal(directions, filter_directions(policy, 3, seed=5))
    assert not torch.equal(directions, filter_directions(policy, 3, seed=6))


def test_offset_one_towards_another_policy_is_that_policy():
    policy, rules = setting()
    other, _ = setting(seeds=(1,))
    there = moved(policy, direction_to(policy, other)[None])
    torch.testing.assert_close(there.params.values, other.params.values)
    assert exact_objective(there, rules, GAMMA)[0].item() == pytest.approx(
        exact_objective(other, rules, GAMMA)[0].item()
    )


def test_a_plane_through_three_policies_holds_them():
    policies = [setting(seeds=(seed,))[0] for seed in (0, 1, 2)]
    plane = plane_through(policies)
    shifts = torch.from_numpy(plane.marks) @ plane.directions
    for policy, twin in zip(policies, moved(plane.centre, shifts).params.values, strict=True):
        torch.testing.assert_close(twin, policy.params.values[0])
    assert np.linalg.norm(plane.marks, axis=1).max() == pytest.approx(1.0)
    first, second = plane.directions
    assert abs(float(first @ second)) < 1e-9 * float(first @ first)
    assert float(first.norm()) == pytest.approx(float(second.norm()))


def test_planes_of_fewer_policies_have_random_directions():
    first, second = (setting(seeds=(seed,))[0] for seed in (0, 1))
    two = plane_through([first, second])
    np.testing.assert_allclose(two.marks, [[-1, 0], [1, 0]], atol=1e-9)
    one = plane_through([first])
    np.testing.assert_allclose(one.marks, [[0, 0]])
    assert torch.equal(one.centre.params.values, first.params.values)
    assert plane_through([first, first, first]).directions.isfinite().all()
    with pytest.raises(ConfigError, match="one to three"):
        plane_through([])


def test_the_policy_stays_as_it_is():
    policy, rules = setting(normalize_obs=True)
    kept = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    policy_slice(policy, filter_directions(policy), exact(rules), n_points=3)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in policy.state_dict().items())


def test_copies_of_runs_are_those_runs():
    policy, _ = setting(seeds=(0, 1), normalize_obs=True)
    policy.normalize(torch.rand(2, 4, 5, dtype=torch.float64), update=True)
    twin = policy.take(torch.tensor([1, 1, 0]))
    for name, tensor in policy.state_dict().items():
        assert torch.equal(twin.state_dict()[name], tensor[[1, 1, 0]])


# Episodes


def test_sampled_objective_is_the_exact_one_within_its_error():
    policy, rules = setting("entropic_rl/DeepSea-v0", dtype=torch.float32)
    make = partial(make_vector_env, "entropic_rl/DeepSea-v0", backend="batched")
    found = sampled_objective(policy, make, GAMMA, episodes=4000)
    for got, expected in zip(found, exact_objective(policy, rules, GAMMA), strict=True):
        assert got.item() == pytest.approx(expected.item(), abs=0.02 * abs(expected.item()) + 5e-4)


def test_equal_policies_play_equal_episodes_beside_any_others():
    policy, _ = setting("entropic_rl/CartPole-v1", dtype=torch.float32)
    make = partial(make_vector_env, "entropic_rl/CartPole-v1", backend="batched")
    shifts = torch.zeros(3, policy.params.values.shape[1])
    shifts[1] = filter_directions(policy, 1)[0]
    returns, entropies = sampled_objective(moved(policy, shifts), make, 0.99, episodes=4)
    assert returns[0] == returns[2] != returns[1]
    assert entropies[0] == entropies[2]


def test_a_policy_of_one_action_each_step_earns_what_its_episode_lasts():
    policy, _ = setting("entropic_rl/CartPole-v1", dtype=torch.float32)
    policy.params.values.zero_()
    make = partial(make_vector_env, "entropic_rl/CartPole-v1", backend="batched")
    returns, entropies = sampled_objective(policy, make, 1.0, episodes=8)
    assert entropies.item() == pytest.approx(np.log(2) * returns.item())  # one reward and log 2 nats per step


# In pictures and reports


def test_panels_are_drawn_with_their_ranges_and_marks():
    offsets = np.linspace(-1, 1, 5)
    values = np.add.outer(offsets, offsets) * 3
    panels = [LandscapePanel("c 0", offsets, values, [(0.0, 0.0, "A", True), (0.5, 0.5, "B", False)]),
              LandscapePanel("flat", offsets, np.zeros((5, 5)))]  # fmt: skip
    svg = drawn(lambda file: plot_landscapes(file, panels))
    for text in ("c 0", "-6 to 6", "flat", "0 to 0", ">A<", ">B<"):
        assert text in svg
    with pytest.raises(ConfigError, match="square grids"):
        plot_landscapes(io.StringIO(), [])


def compared(tmp_path, env, *, net_archs=((8,), (8,), (8,))):
    """What a comparison's section says of trained runs, with policies on disk."""
    groups = []
    for seed, arch in enumerate(net_archs):
        run, config = layered("ppo", {"env": env, "net_arch": arch, "total_timesteps": 256}, "none")
        cell = Cell("ppo", run, config, tmp_path / str(seed))
        cell.directory.mkdir()
        space = make_vector_env(env, 1, backend="batched")
        specs = observation_spec(space.single_observation_space), action_spec(space.single_action_space)
        save_policy(ActorCritic(NetworkConfig.of(config), *specs, [seed]), 0, cell.directory)
        outcome = SimpleNamespace(cell=cell, rows=[{"train/effective_temperature": 0.1 * seed}])
        groups.append(SimpleNamespace(name=f"group {seed}", outcomes=(outcome,)))
    return SimpleNamespace(groups=groups)


def test_the_picture_of_a_comparison_has_a_panel_for_every_group(tmp_path):
    picture = landscape_picture(compared(tmp_path, "entropic_rl/Chain-v0"), "e0-")
    assert picture.name == "e0-landscape"
    assert "(exact)" in picture.caption
    assert all(f"group {i}" in picture.svg for i in range(3))


def test_groups_of_other_networks_are_left_out_of_the_plane(tmp_path):
    picture = landscape_picture(compared(tmp_path, "entropic_rl/Chain-v0", net_archs=((8,), (4,))))
    assert "group 0" in picture.svg
    assert "group 1" not in picture.svg


def test_where_no_tables_are_the_landscape_is_that_of_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.compare.landscape._SAMPLED_POINTS", 3)
    assert "same 8 episodes" in landscape_picture(compared(tmp_path, "CartPole-v1")).caption


CHAIN = ["--env", "entropic_rl/Chain-v0", "--ent-coef", "0", "0.01", "0.1", "--seeds", "2", "--total-timesteps", "256"]
SMALL = ["--n-envs", "2", "--n-steps", "32", "--batch-size", "64", "--eval-episodes", "2", "--workers", "1"]


@pytest.mark.slow
def test_a_comparison_shows_the_landscape_of_its_policies(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["ppo", *CHAIN, *SMALL, "--out", str(out), "--landscape"], verb="compare") == 0
    picture = (out / "figures" / "landscape.svg").read_text()
    assert ">0.01<" in picture
    assert "The objective around the policies" in (out / "report.html").read_text()
    assert main(["summary", str(out)], verb="compare") == 0
    assert not (out / "figures" / "landscape.svg").exists()  # asked for each time
    capsys.readouterr()


@pytest.mark.slow
def test_a_comparison_on_an_environment_without_tables_plays_episodes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("entropic_rl.compare.landscape._SAMPLED_POINTS", 3)
    out = tmp_path / "out"
    words = [
        "ppo",
        "--env",
        "CartPole-v1",
        "--ent-coef",
        "0",
        "0.1",
        "--seeds",
        "2",
        "--total-timesteps",
        "256",
        *SMALL,
        "--preset",
        "none",
    ]
    assert main([*words, "--out", str(out), "--landscape"], verb="compare") == 0
    assert "same 8 episodes" in (out / "report.html").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["ppo", "--env", "FrozenLake-v1", "--ent-coef", "0", "1"], "batched"),
        (["sb3:PPO", "--env", "CartPole-v1", "--ent-coef", "0", "1"], "expected one of ppo"),
    ],
)
def test_landscapes_that_cannot_be_drawn_are_refused_before_training(words, text, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*words, "--out", str(out), "--landscape"], verb="compare") == 2
    assert text in capsys.readouterr().err
    assert not out.exists()


# What is refused


@pytest.mark.parametrize(
    ("options", "text"),
    [({"n_points": 4}, "odd"), ({"n_points": 1}, "odd"), ({"radius": 0.0}, "radius"), ({"radius": np.inf}, "radius")],
)
def test_grids_without_a_middle_or_a_size_are_refused(options, text):
    policy, rules = setting()
    with pytest.raises(ConfigError, match=text):
        policy_slice(policy, filter_directions(policy), exact(rules), **options)


def test_several_runs_and_other_networks_are_refused():
    policy, _ = setting(seeds=(0, 1))
    with pytest.raises(ConfigError, match=r"policy\.take"):
        moved(policy, torch.zeros(1, policy.params.values.shape[1]))
    with pytest.raises(ConfigError, match="one network"):
        direction_to(setting()[0], setting(activation="relu")[0])
    with pytest.raises(ConfigError, match="at least 1"):
        sampled_objective(setting()[0], None, 0.9, episodes=0)
