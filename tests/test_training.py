"""The interaction loop: what it counts, when it reports, what it reports."""

import math

import numpy as np
import pytest
import torch

from entropic_rl.agents import A2C, PPO, A2CConfig, PPOConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch


def start(config, seeds=(0,), *, env_id="CartPole-v1", n_envs=2, **kwargs):
    """A fresh agent and its environments."""
    vector_env = make_vector_env(env_id, len(seeds) * n_envs, kwargs)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space)
    agent_class = {PPOConfig: PPO, A2CConfig: A2C}[type(config)]
    agent = agent_class([config] * len(seeds), seeds, observation=observation, action=action, n_envs=n_envs)
    return agent, EnvBatch(vector_env, len(seeds), observation=observation, action=action)


def records_of(total_timesteps, config=None, seeds=(0,), log_interval=1, **options):
    config = config or A2CConfig(n_steps=4, net_arch=(4,))
    agent, envs = start(config, seeds, **options)
    return list(train(agent, envs, total_timesteps=total_timesteps, seeds=seeds, log_interval=log_interval))


def test_global_step_counts_steps_of_all_environments_of_a_run():
    assert [record.global_step for record in records_of(24, n_envs=2)] == [8, 16, 24]
    assert [record.global_step for record in records_of(24, n_envs=3)] == [12, 24]


def test_global_step_counts_each_run_alone():
    assert [record.global_step for record in records_of(16, seeds=(0, 1, 2))] == [8, 16]


def test_total_is_rounded_up_to_whole_rollouts():
    assert records_of(17)[-1].global_step == 24
    assert records_of(1)[-1].global_step == 8


def test_log_interval_counts_updates_and_the_end_is_always_reported():
    records = records_of(56, log_interval=3)
    assert [record.global_step for record in records] == [24, 48, 56]
    assert [record.rows[0]["train/n_updates"] for record in records] == [3, 6, 7]


def test_only_the_final_record_is_last():
    assert [record.last for record in records_of(24)] == [False, False, True]


def test_every_run_has_a_row_of_finite_numbers_under_the_common_names():
    config = PPOConfig(n_steps=8, batch_size=8, n_epochs=1, net_arch=(4,))
    record = records_of(200, config, seeds=(0, 1))[-1]
    assert len(record.rows) == 2
    names = {
        "global_step", "time/time_elapsed", "time/fps", "train/n_updates", "rollout/ep_rew_mean", "rollout/ep_len_mean",
        "rollout/n_episodes", "train/loss", "train/policy_gradient_loss", "train/value_loss", "train/entropy",
        "train/approx_kl", "train/clip_fraction", "train/grad_norm", "train/ent_coef", "train/effective_temperature",
        "train/explained_variance", "train/learning_rate", "train/clip_range", "explore/policy_entropy",
        "explore/policy_entropy_q10", "explore/policy_entropy_q50", "explore/policy_entropy_q90",
    }  # fmt: skip
    for row in record.rows:
        assert set(row) == names
        assert all(type(value) is float and math.isfinite(value) for value in row.values())


def test_steps_per_second_are_steps_over_elapsed_training_time():
    row = records_of(24)[-1].rows[0]
    assert row["time/fps"] == pytest.approx(24 / row["time/time_elapsed"])


def test_time_that_the_caller_takes_is_not_training_time(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("entropic_rl.training.time.perf_counter", lambda: clock[0])
    agent, envs = start(A2CConfig(n_steps=4, net_arch=(4,)))
    update = agent.update

    def slow_update(progress):
        clock[0] += 1.0
        return update(progress)

    agent.update = slow_update
    elapsed = []
    for record in train(agent, envs, total_timesteps=24, seeds=[0]):
        elapsed.append(record.rows[0]["time/time_elapsed"])
        clock[0] += 100.0
    assert elapsed == [1.0, 2.0, 3.0]


def test_return_is_absent_until_an_episode_ends_and_exact_after():
    rows = [record.rows[0] for record in records_of(32, env_id="test/Clock-v0", limit=6)]
    assert "rollout/ep_rew_mean" not in rows[0]
    assert [row["rollout/n_episodes"] for row in rows] == [0, 2, 4, 4]
    assert {row["rollout/ep_rew_mean"] for row in rows[1:]} == {6.0}


def test_progress_given_to_the_agent_is_the_fraction_of_steps_done():
    agent, envs = start(A2CConfig(n_steps=4, net_arch=(4,)))
    seen, update = [], agent.update

    def recording(progress):
        seen.append(progress)
        return update(progress)

    agent.update = recording
    list(train(agent, envs, total_timesteps=20, seeds=[0]))
    assert seen == pytest.approx([0.4, 0.8, 1.2])  # the last rollout ends past the total; schedules clamp


def test_episodes_start_from_the_streams_of_their_run():
    # The same seed begins the same episode, whatever runs beside it.
    agent, envs = start(A2CConfig(n_steps=1, net_arch=(4,)), seeds=(4, 9))
    first = []
    act = agent.act
    agent.act = lambda obs, mask: first.append(obs.clone()) or act(obs, mask)
    list(train(agent, envs, total_timesteps=2, seeds=[4, 9]))
    seeds = Stream([9], "environment").seeds(2)[0]
    env = make_vector_env("CartPole-v1", 2)
    expected, _ = env.reset(seed=seeds)
    np.testing.assert_array_equal(first[0][1].numpy(), expected)


def test_loop_trains_anything_that_acts_observes_and_updates():
    class Still:
        steps_per_update = 5

        def __init__(self):
            self.observed = 0

        def act(self, obs, mask=None):
            return torch.zeros(obs.shape[:2], dtype=torch.int64)

        def observe(self, transition):
            self.observed += transition.reward.numel()

        def update(self, progress):
            return {"train/nothing": torch.zeros(1)}

        def inspect(self):
            return {"train/seen": torch.ones(1)}

    _, envs = start(A2CConfig(net_arch=(4,)))
    agent = Still()
    [record] = train(agent, envs, total_timesteps=10, seeds=[0])
    assert agent.observed == 10
    assert (record.rows[0]["train/nothing"], record.rows[0]["train/seen"]) == (0.0, 1.0)
