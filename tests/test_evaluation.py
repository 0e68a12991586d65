"""Evaluation: a fixed number of episodes per environment, the same starts for all, nothing learned on the way."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.environments import make_env, make_vector_env
from entropic_rl.errors import RunDirectoryError
from entropic_rl.evaluation import Evaluation, evaluate, summary
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.policy_files import load_policy, save_policy
from entropic_rl.spaces import ObservationSpec, action_spec, observation_spec
from entropic_rl.streams import Stream


def policy_for(env_id, seeds=(0,), *, scale=1.0, squash_output=False, kwargs=None, frames=1, **network):
    """A policy of len(seeds) runs with random weights, and what evaluation needs beside it."""
    make_envs = partial(make_vector_env, env_id, kwargs=kwargs or {}, autoreset_mode=AutoresetMode.DISABLED)
    env = make_envs(1)
    observation = observation_spec(env.single_observation_space).stacked(frames)
    action = action_spec(env.single_action_space, squash_output=squash_output)
    policy = ActorCritic(NetworkConfig(net_arch=(8,), **network), observation, action, seeds)
    policy.params.values.mul_(scale)
    return policy, make_envs, observation


def lengths_by_hand(episodes, seed=10_000):
    """Episode lengths of the lottery, one seed per episode."""
    env = make_env("test/Lottery-v0")
    return tuple(int(env.reset(seed=k)[0][0]) for k in Stream([seed], "evaluation episode").seeds(episodes)[0])


@pytest.mark.parametrize(("episodes", "n_envs"), [(12, 4), (12, 5), (7, 4), (6, 100), (1, 25)])
def test_every_episode_has_a_seed_of_its_own_on_however_many_environments(episodes, n_envs):
    policy, make_envs, observation = policy_for("test/Lottery-v0")
    [result] = evaluate(policy, make_envs, observation, episodes=episodes, n_envs=n_envs)
    assert result.lengths == lengths_by_hand(episodes)
    assert result.returns == tuple(map(float, result.lengths))


@pytest.mark.parametrize("deterministic", [True, False])
def test_number_of_environments_changes_no_episode(deterministic):
    # Blackjack draws cards while it is played: a later episode may not depend on how the earlier ones went.
    policy, make_envs, observation = policy_for("Blackjack-v1", seeds=(3, 4), scale=30.0)
    run = partial(evaluate, policy, make_envs, observation, episodes=40, deterministic=deterministic)
    assert run(n_envs=1) == run(n_envs=7) == run(n_envs=40)


PAST = {
    "gru": {"recurrent": "gru", "normalize_obs": True},
    "lstm": {"recurrent": "lstm"},
    "stack": {"frames": 3, "normalize_obs": True},
    "attention": {"frames": 4, "features": "attention"},
    "attention and gru": {"frames": 2, "features": "attention", "recurrent": "gru"},
}


@pytest.mark.parametrize("case", PAST)
def test_the_past_is_that_of_each_episode_alone(case):
    """On however many environments, beside any other runs: nothing is left over from the episode before."""
    policy, make_envs, observation = policy_for("CartPole-v1", seeds=(3, 4), scale=5.0, **PAST[case])
    run = partial(evaluate, policy, make_envs, observation, episodes=6, deterministic=False)
    assert run(n_envs=1) == run(n_envs=4) == run(n_envs=6)


@pytest.mark.parametrize("case", PAST)
def test_an_episode_is_played_as_its_steps_one_by_one_say(case):
    policy, make_envs, observation = policy_for("CartPole-v1", scale=5.0, **PAST[case])
    [found] = evaluate(policy, partial(make_envs, backend="sync"), observation, episodes=3)
    lengths, state = [], None
    for seed in Stream([10_000], "evaluation episode").seeds(3)[0]:
        env = make_env("CartPole-v1")
        seen, ended = [env.reset(seed=seed)[0]], False
        while not ended:
            window = [np.full(4, np.nan)] * (observation.frames - len(seen)) + seen[-observation.frames :]
            obs = torch.tensor(np.concatenate(window), dtype=torch.float32).view(1, 1, -1)
            state = policy.initial_state(1) if len(seen) == 1 else state
            distribution, state = policy.step(policy.normalize(obs), None, state)
            next_obs, _, terminated, truncated, _ = env.step(int(distribution.mode()))
            seen.append(next_obs)
            ended = terminated or truncated
        lengths.append(len(seen) - 1)
    assert list(found.lengths) == lengths


@pytest.mark.parametrize("case", PAST)
def test_a_policy_with_a_past_is_the_same_from_disk(case, tmp_path):
    policy, make_envs, observation = policy_for("CartPole-v1", scale=5.0, **PAST[case])
    save_policy(policy, 0, tmp_path)
    loaded = load_policy(tmp_path, observation, policy.action)
    assert evaluate(loaded, make_envs, observation, episodes=4) == evaluate(policy, make_envs, observation, episodes=4)
    with pytest.raises(RunDirectoryError, match="observations at once"):
        load_policy(tmp_path, observation.stacked(observation.frames + 1), policy.action)


def test_episodes_are_cut_off_where_nothing_else_ends_them():
    policy, make_envs, observation = policy_for("CliffWalking-v1")  # it has no time limit
    [result] = evaluate(policy, make_envs, observation, episodes=3, max_steps=17)
    assert result.lengths == (17, 17, 17)


def test_short_episodes_are_not_counted_more_often():
    # Taking the first 200 episodes to finish would favour short ones; the mean of 1 ... 20 is 10.5.
    policy, make_envs, observation = policy_for("test/Lottery-v0")
    [result] = evaluate(policy, make_envs, observation, episodes=200)
    assert result.mean == pytest.approx(10.5, abs=4 * 5.77 / 200**0.5)


@pytest.mark.parametrize("deterministic", [True, False])
def test_all_runs_start_alike_and_draw_the_same_noise(deterministic):
    policy, make_envs, observation = policy_for("CartPole-v1", seeds=(3, 3, 4), scale=30.0)
    first, twin, other = evaluate(policy, make_envs, observation, episodes=6, deterministic=deterministic)
    assert first == twin
    assert first != other


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluation_repeats_exactly_and_its_seed_matters(deterministic):
    policy, make_envs, observation = policy_for("CartPole-v1", scale=3.0)
    run = partial(evaluate, policy, make_envs, observation, episodes=5, deterministic=deterministic)
    assert run(seed=1) == run(seed=1)
    assert run(seed=1) != run(seed=2)


@pytest.mark.parametrize("deterministic", [True, False])
def test_run_evaluates_the_same_alone_and_beside_many_others(deterministic):
    policy, make_envs, observation = policy_for("CartPole-v1", seeds=range(12), scale=3.0)
    alone, _, _ = policy_for("CartPole-v1", seeds=(4,), scale=3.0)
    options = {"episodes": 30, "deterministic": deterministic, "max_steps": 60}  # some end sooner, some there
    together = evaluate(policy, make_envs, observation, **options)
    assert len(set(together[4].lengths)) > 2
    assert evaluate(alone, make_envs, observation, **options) == [together[4]]


MAZE = ("entropic_rl/PointMaze-v0", {"stride": 0.9, "limit": 80})
BATCHED = {
    "discrete observations, mode": ("entropic_rl/RiverSwim-v0", {"limit": 10}),
    "discrete observations, samples": ("entropic_rl/RiverSwim-v0", {"limit": 10}),
    "noisy rewards, mode": ("entropic_rl/DeepSea-v0", {"size": 4, "stochastic": True}),
    "noisy rewards, samples": ("entropic_rl/DeepSea-v0", {"size": 4, "stochastic": True}),
    "box actions, samples": MAZE,
    "box actions, squashed samples": MAZE,
}


def on_backend(case, backend, **options):
    """Evaluations of two runs on a backend."""
    env_id, kwargs = BATCHED[case]
    squash_output, scale = "squashed" in case, 5.0 if "mode" in case else 0.3
    policy, make_envs, observation = policy_for(
        env_id, seeds=(3, 4), scale=scale, kwargs=kwargs, squash_output=squash_output
    )
    make_envs = partial(make_envs, backend=backend)
    return evaluate(policy, make_envs, observation, episodes=8, deterministic="mode" in case, **options)


@pytest.mark.parametrize("case", BATCHED)
def test_batched_environments_give_the_evaluation_of_single_ones(case):
    batched, single = (on_backend(case, backend, n_envs=3, seed=6) for backend in ("batched", "sync"))
    assert batched == single
    assert "mode" in case or len({*zip(batched[0].returns, batched[0].lengths, strict=True)}) > 2  # episodes do differ


@pytest.mark.parametrize("case", ["discrete observations, samples", "noisy rewards, mode", "box actions, samples"])
def test_number_of_batched_environments_changes_no_episode(case):
    one, some, all_at_once = (on_backend(case, "batched", n_envs=n) for n in (1, 3, 8))
    assert one == some == all_at_once


def test_stochastic_evaluation_samples_actions():
    policy, make_envs, observation = policy_for("test/Bandit-v0", kwargs={"rewards": (0.0, 1.0)})
    policy.params.values.zero_()  # both arms alike: the mode is the first, samples are half and half
    [mode] = evaluate(policy, make_envs, observation, episodes=200)
    [sample] = evaluate(policy, make_envs, observation, episodes=200, deterministic=False)
    assert mode.mean == 0.0
    assert sample.mean == pytest.approx(0.5, abs=4 * 0.5 / 200**0.5)


def test_evaluation_leaves_normalisation_statistics_alone():
    policy, make_envs, observation = policy_for("CartPole-v1", normalize_obs=True)
    policy.normalize(torch.randn(1, 10, 4), update=True)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    evaluate(policy, make_envs, observation, episodes=4)
    evaluate(policy, make_envs, observation, episodes=4, deterministic=False)
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_observations_are_normalised_during_evaluation():
    policy, make_envs, observation = policy_for("CartPole-v1", scale=3.0, normalize_obs=True)
    raw = evaluate(policy, make_envs, observation, episodes=8)
    policy.normalizer.statistics.mean.fill_(5.0)
    assert evaluate(policy, make_envs, observation, episodes=8) != raw


def test_environments_are_closed_even_if_stepping_fails(monkeypatch):
    policy, make_envs, observation = policy_for("CartPole-v1")
    made = []

    def make(n):
        env = make_envs(n)
        close = env.close
        monkeypatch.setattr(env, "step", lambda actions: 1 / 0)
        monkeypatch.setattr(env, "close", lambda: made.append("closed") or close())
        return env

    with pytest.raises(ZeroDivisionError):
        evaluate(policy, make, observation, episodes=2)
    assert made == ["closed"]


def test_mean_and_standard_deviation_are_those_over_episodes():
    result = Evaluation((1.0, 2.0, 6.0), (1, 2, 6))
    assert result.mean == pytest.approx(3.0)
    assert result.std == pytest.approx((14 / 3) ** 0.5)  # ((-2)^2 + (-1)^2 + 3^2) / 3


def test_interval_holds_the_mean_is_fixed_and_shrinks_with_episodes():
    rng = np.random.default_rng(0)
    few, many = (Evaluation(tuple(rng.normal(0, 1, n)), (1,) * n) for n in (20, 2000))
    for result in (few, many):
        low, high = result.interval()
        assert low < result.mean < high
        assert result.interval() == (low, high)
    # 95 % of a normal mean lies within 1.96 / sqrt(2000) on either side
    low, high = many.interval()
    assert high - low == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.1)
    assert few.interval()[1] - few.interval()[0] > 5 * (high - low)


def test_interval_of_equal_returns_is_a_point():
    assert Evaluation((5.0,) * 4, (1,) * 4).interval() == (5.0, 5.0)


def test_summary_names_are_those_of_the_record():
    values = summary("eval/", Evaluation((1.0, 3.0), (1, 3)))
    assert values["eval/mean_reward"] == 2.0
    assert values["eval/std_reward"] == 1.0
    assert values["eval/mean_ep_length"] == 2.0
    assert values["eval/mean_reward_low"] <= 2.0 <= values["eval/mean_reward_high"]


# Policies on disk


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("CartPole-v1", {"normalize_obs": True}),
        ("CartPole-v1", {"share_features": True, "activation": "relu"}),
        ("Pendulum-v1", {"log_std_init": -0.5}),
        ("Pendulum-v1", {"squash_output": True}),
    ],
)
@pytest.mark.parametrize("deterministic", [True, False])
def test_loaded_policy_evaluates_exactly_like_the_one_in_memory(tmp_path, env_id, options, deterministic):
    policy, make_envs, observation = policy_for(env_id, seeds=(1, 2), scale=3.0, **options)
    if policy.normalizer is not None:
        policy.normalize(torch.randn(2, 10, observation.size), update=True)
    save_policy(policy, 1, tmp_path)
    loaded = load_policy(tmp_path, observation, policy.action)
    how = {"episodes": 3, "deterministic": deterministic, "max_steps": 60}
    run = partial(evaluate, make_envs=make_envs, observation=observation, **how)
    in_memory = run(policy)[1]
    [from_disk] = run(loaded)
    assert from_disk.lengths == in_memory.lengths
    assert from_disk.returns == pytest.approx(in_memory.returns, rel=1e-5)
    single, _, _ = policy_for(env_id, seeds=(7,), **options)
    single.load_state_dict({name: tensor[1:2] for name, tensor in policy.state_dict().items()})
    assert run(single) == [from_disk]


def test_saving_leaves_no_temporary_files(tmp_path):
    policy, _, _ = policy_for("CartPole-v1")
    save_policy(policy, 0, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"policy.json", "policy.safetensors"}


def spaces_of(env_id, **kwargs):
    env = make_env(env_id, kwargs)
    return observation_spec(env.observation_space), action_spec(env.action_space)


def test_policy_for_other_spaces_is_refused_with_both_described(tmp_path):
    policy, _, _ = policy_for("CartPole-v1")
    save_policy(policy, 0, tmp_path)
    with pytest.raises(RunDirectoryError, match=r"trained for 4 observation numbers .* but the env has 6 .*; evaluate"):
        load_policy(tmp_path, *spaces_of("Acrobot-v1"))


def test_policy_for_other_choices_per_component_is_refused(tmp_path):
    import gymnasium as gym

    box = gym.spaces.Box(0.0, 1.0, (2,))
    observation = observation_spec(box)
    made_for, offered = (action_spec(gym.spaces.MultiDiscrete(nvec)) for nvec in ([2, 4], [3, 3]))
    policy = ActorCritic(NetworkConfig(net_arch=(8,)), ObservationSpec.vector(2), made_for, [0])
    save_policy(policy, 0, tmp_path)
    with pytest.raises(RunDirectoryError, match="trained for"):
        load_policy(tmp_path, observation, offered)


def test_missing_policy_files_are_named(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"no policy\.json"):
        load_policy(tmp_path, *spaces_of("CartPole-v1"))
    policy, _, _ = policy_for("CartPole-v1")
    save_policy(policy, 0, tmp_path)
    (tmp_path / "policy.safetensors").unlink()
    with pytest.raises(RunDirectoryError, match=r"no policy\.safetensors"):
        load_policy(tmp_path, *spaces_of("CartPole-v1"))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"network": 3, "obs_size": 4}', ""])
def test_damaged_description_is_an_error_of_one_line(tmp_path, content):
    policy, _, _ = policy_for("CartPole-v1")
    save_policy(policy, 0, tmp_path)
    (tmp_path / "policy.json").write_text(content)
    with pytest.raises(RunDirectoryError) as caught:
        load_policy(tmp_path, *spaces_of("CartPole-v1"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["torn", "empty", "other shape"])
def test_damaged_numbers_are_an_error_of_one_line(tmp_path, damage):
    policy, _, _ = policy_for("CartPole-v1")
    save_policy(policy, 0, tmp_path)
    path = tmp_path / "policy.safetensors"
    if damage == "other shape":
        description = json.loads((tmp_path / "policy.json").read_text())
        description["network"]["net_arch"] = [9]
        (tmp_path / "policy.json").write_text(json.dumps(description))
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "torn" else b"")
    with pytest.raises(RunDirectoryError) as caught:
        load_policy(tmp_path, *spaces_of("CartPole-v1"))
    assert "\n" not in str(caught.value)
