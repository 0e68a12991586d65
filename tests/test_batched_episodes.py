"""Episodes of batched environments: a copy is its seed, whatever lies beside it, and where episodes end."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.envs import _CLASSIC
from tests.batched_cases import (
    CASES,
    LIMIT,
    alone,
    build,
    equal,
    every_case,
    every_mode,
    one_action,
    random_actions,
    roll,
    to_the_brink,
)

# A copy is its seed


@every_case
def test_copy_is_the_single_environment_with_its_seed_bit_for_bit(case):
    batch = build(case, 3, max_episode_steps=LIMIT)
    obs, _ = batch.reset(seed=20)
    single, single_obs = alone(case, 21, LIMIT)
    assert np.array_equal(obs[1].numpy(), single_obs)
    actions, n_ends = random_actions(case, 150, 3), 0  # beyond the 64 steps that are drawn ahead
    for t, action in enumerate(actions):
        if t % 25 == 15:
            to_the_brink(case, batch, 1), to_the_brink(case, single)
        obs, reward, terminated, truncated, info = batch.step(action)
        last, single_reward, *ends, _ = single.step(one_action(actions, t, 1))
        assert (float(reward[1]), [bool(terminated[1]), bool(truncated[1])]) == (single_reward, ends)
        if any(ends):
            assert np.array_equal(info["final_obs"][1].numpy(), last)
            last, _ = single.reset()
            n_ends += 1
        assert np.array_equal(obs[1].numpy(), last)
    assert n_ends >= 7


@every_case
def test_copy_does_not_depend_on_how_many_lie_beside_it_nor_on_the_order(case):
    # 37 leaves a rest whatever the width of vector instructions; reversed, other copies are that rest.
    actions = random_actions(case, 60, 37)
    full = build(case, 37, max_episode_steps=20)
    first = full.reset(seed=range(100, 137))[0]
    outcome = roll(full, actions)
    for which in ([0], [36], [3, 36], [9, 8, 7, 6, 5], list(range(36, -1, -1))):
        part = build(case, len(which), max_episode_steps=20)
        assert torch.equal(part.reset(seed=[100 + i for i in which])[0], first[which])
        assert equal(roll(part, actions[:, which]), [whole[:, which] for whole in outcome])


@every_case
@every_mode
def test_copy_does_not_feel_resets_of_others(case, mode):
    actions, generator = random_actions(case, 50, 4), torch.Generator().manual_seed(1)
    solo = build(case, 1, max_episode_steps=20, autoreset_mode=mode)
    batch = build(case, 4, max_episode_steps=20, autoreset_mode=mode)
    assert torch.equal(solo.reset(seed=7)[0][0], batch.reset(seed=[5, 6, 7, 8])[0][2])
    for t, action in enumerate(actions):
        *expected, _ = solo.step(action[2:3])
        *outcome, _ = batch.step(action)
        assert equal([part[2:3] for part in outcome], expected)
        reset = torch.rand(4, generator=generator) < 0.3
        reset[2] = False
        if mode is AutoresetMode.DISABLED:
            reset |= outcome[2] | outcome[3]
        seeds = [1000 * t + copy for copy in range(4)] if t % 5 == 4 else None  # others get new seeds, too
        batch.reset(seed=seeds, options={"reset_mask": reset})
        if reset[2]:
            solo.reset(seed=seeds and seeds[2:3])
        assert torch.equal(batch.state[:, 2], solo.state[:, 0])


@every_case
def test_masked_reset_with_a_seed_begins_those_copies_anew_and_no_others(case):
    env = build(case, 3)
    env.reset(seed=5)
    roll(env, random_actions(case, 10, 3))
    before = env.state
    env.reset(seed=[90, 91, 92], options={"reset_mask": torch.tensor([False, True, False])})
    assert torch.equal(env.state[:, [0, 2]], before[:, [0, 2]])
    fresh = build(case, 1)
    fresh.reset(seed=91)
    actions = random_actions(case, 20, 3, seed=1)
    assert equal([part[:, 1:2] for part in roll(env, actions)], roll(fresh, actions[:, 1:2]))


@every_case
def test_integer_seed_gives_copy_i_the_seed_plus_i(case):
    by_list, by_integer = build(case, 3), build(case, 3)
    assert torch.equal(by_list.reset(seed=[50, 51, 52])[0], by_integer.reset(seed=50)[0])
    actions = random_actions(case, 20, 3)
    assert equal(roll(by_list, actions), roll(by_integer, actions))


def test_numpy_integers_are_seeds():
    env = build("CartPole-v1", 2)
    first, _ = env.reset(seed=np.int64(3))
    assert torch.equal(env.reset(seed=3)[0], first)


@every_case
def test_same_seed_twice_gives_the_same_bits(case):
    env, actions = build(case, 3, max_episode_steps=15), random_actions(case, 40, 3)
    first_obs, _ = env.reset(seed=8)
    first = roll(env, actions)
    assert torch.equal(env.reset(seed=8)[0], first_obs)
    assert equal(roll(env, actions), first)


@pytest.mark.parametrize("case", _CLASSIC)
def test_seeds_and_episodes_each_change_the_start(case):
    env = build(case, 2)
    first, _ = env.reset(seed=8)
    later, _ = env.reset()
    assert len({*map(tuple, first.tolist()), *map(tuple, later.tolist())}) == 4


def test_first_reset_without_a_seed_draws_one():
    one, other = build("CartPole-v1", 2), build("CartPole-v1", 2)
    starts = torch.cat([one.reset()[0], other.reset()[0]])
    assert len(starts.unique(dim=0)) == 4


@every_case
@every_mode
def test_reset_without_a_seed_goes_on_with_the_next_episode(case, mode):
    env, actions = build(case, 2, autoreset_mode=mode), random_actions(case, 5, 2)
    single, _ = alone(case, 31)
    env.reset(seed=30)
    for round_ in range(3):  # the action does not end what has a horizon of two steps or more
        env.step(actions[round_]), single.step(one_action(actions, round_, 1))
        obs, _ = env.reset()
        expected, _ = single.reset()
        if mode is AutoresetMode.SAME_STEP and CASES[case][0].__name__ == "Bandit":
            continue  # ended and began another one already
        assert np.array_equal(obs[1].numpy(), expected)


# Numbers are made 64 episodes and 64 steps ahead


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_step_draws_beyond_the_look_ahead_are_those_of_the_single_environment(mode):
    batch = build("Bandit-v0, noisy", 3, autoreset_mode=mode)
    batch.reset(seed=4)
    single, _ = alone("Bandit-v0, noisy", 5)
    rewards = []
    for _ in range(140):
        reward = batch.step(torch.tensor([0, 1, 2]))[1]
        rewards.append(float(reward[1]))
        assert rewards[-1] == single.step(1)[1]
        if mode == "Disabled":
            batch.reset()
        single.reset()
    assert len(set(rewards)) == 140


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
@pytest.mark.parametrize("asks", [True, False])
def test_starts_beyond_the_look_ahead_are_those_of_the_single_environment(mode, asks):
    batch = build("CartPole-v1", 3, max_episode_steps=1, autoreset_mode=mode)
    batch._asks = asks
    single, expected = alone("CartPole-v1", 5)
    obs, _ = batch.reset(seed=4)
    starts = []
    for _ in range(140):
        assert np.array_equal(obs[1].numpy(), expected)
        starts.append(tuple(expected))
        obs, *_ = batch.step(torch.tensor([0, 1, 0]))
        if mode == "Disabled":
            obs, _ = batch.reset()
        expected, _ = single.reset()
    assert len(set(starts)) == 140


@pytest.mark.slow
def test_copies_use_up_their_starts_at_paces_of_their_own():
    batch, silent, actions = build("CartPole-v1", 3), build("CartPole-v1", 3), random_actions("CartPole-v1", 2200, 3)
    actions[:, 0] = 0  # falls in about 10 steps, the others in about 22
    silent._asks = False
    batch.reset(seed=4), silent.reset(seed=4)
    outcome = roll(batch, actions)
    assert equal(roll(silent, actions), outcome)
    n_episodes = outcome[2].sum(0)
    assert n_episodes[0] > 3 * 64
    assert n_episodes[1:].min() > 64
    for copy in (0, 2):
        single, _ = alone("CartPole-v1", 4 + copy)
        for t in range(2200):
            obs, _, terminated, _, _ = single.step(int(actions[t, copy]))
            assert terminated == bool(outcome[2][t, copy])
            if terminated:
                obs, _ = single.reset()
            assert np.array_equal(outcome[0][t, copy].numpy(), obs)


# Ends


@pytest.mark.parametrize("case", [c for c in CASES if build(c, 1).max_episode_steps is not None])
def test_truncation_comes_exactly_at_the_own_limit(case):
    env = build(case, 2)
    env.reset(seed=0)
    start, action = env.state, random_actions(case, 1, 2)[0]
    for _ in range(env.max_episode_steps - 1):
        *_, terminated, truncated, _ = env.step(action)
        assert not bool((terminated | truncated).any())
        env.state = start  # so that nothing terminates
    *_, terminated, truncated, _ = env.step(action)
    assert truncated.tolist() == [True, True]
    assert terminated.tolist() == [False, False]


@pytest.mark.parametrize("case", ["CartPole-v1", "PointMaze-v0", "Chain-v0", "DeepSea-v0", "Pendulum-v1"])
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_max_episode_steps_truncates_before_the_own_limit(case, limit):
    env = build(case, 3, max_episode_steps=limit)
    env.reset(seed=0)
    truncated = roll(env, random_actions(case, 3 * limit, 3))[3]
    at_limit = torch.arange(1, 3 * limit + 1) % limit == 0
    assert torch.equal(truncated, at_limit.unsqueeze(1).expand(-1, 3))


def test_limit_of_the_rules_comes_first_if_it_is_shorter():
    env = build("Chain-v0", 1, max_episode_steps=25)
    env.reset(seed=0)
    assert roll(env, torch.zeros(10, 1, dtype=torch.int64))[3].flatten().tolist() == [False] * 9 + [True]


def test_step_that_terminates_at_the_limit_is_both():
    env = build("DeepSea-v0", 2, max_episode_steps=10)
    env.reset(seed=0)
    *_, terminated, truncated, _ = [env.step(torch.zeros(2, dtype=torch.int64)) for _ in range(10)][-1]
    assert terminated.tolist() == truncated.tolist() == [True, True]


def test_limit_counts_from_each_copys_own_start():
    env = build("Pendulum-v1", 3, max_episode_steps=10, autoreset_mode="Disabled")
    env.reset(seed=0)
    ends, actions = [], torch.zeros(3, 1)
    for t in range(1, 25):
        truncated = env.step(actions)[3]
        ends += [(t, copy) for copy in truncated.nonzero().flatten().tolist()]
        if t in (3, 6):
            truncated[t // 3] = True  # copies 1 and 2 begin again after 3 and 6 steps
        env.reset(options={"reset_mask": truncated})
    assert ends == [(10, 0), (13, 1), (16, 2), (20, 0), (23, 1)]


@every_case
@settings(max_examples=8)
@given(
    history=st.lists(st.sampled_from(["step", "end", "reset"]), max_size=12),
    seed=st.integers(0, 2**63),
    asks=st.booleans(),
)
def test_ended_episode_leaves_nothing_to_the_next(case, history, seed, asks):
    batch = build(case, 3, max_episode_steps=8)
    batch._asks = asks
    batch.reset(seed=[1, seed, 2])
    single, _ = alone(case, seed, 8)  # lives through episodes of the same lengths, always with the same action
    actions = random_actions(case, 20, 3, seed=len(history))
    idle = one_action(torch.zeros_like(actions), 0, 0)

    def step(t):
        obs, _, terminated, truncated, _ = batch.step(actions[t % 20])
        single.step(idle)
        ended = bool(terminated[1] | truncated[1])
        return (obs[1], single.reset()[0], ended) if ended else (obs[1], None, ended)

    for t, event in enumerate(history):
        if event == "reset":
            batch.reset(options={"reset_mask": [False, True, False]}), single.reset()
            continue
        if event == "end":
            to_the_brink(case, batch, 1)
        step(t)
    ended, t = False, 0
    while not ended:  # the eighth step at the latest
        to_the_brink(case, batch, 1)
        obs, expected, ended = step(t)
        t += 1
    assert np.array_equal(obs.numpy(), expected)
    for t in range(8):
        obs, reward, terminated, truncated, info = batch.step(actions[t])
        last, single_reward, *ends, _ = single.step(one_action(actions, t, 1))
        assert (float(reward[1]), [bool(terminated[1]), bool(truncated[1])]) == (single_reward, ends)
        if any(ends):
            assert np.array_equal(info["final_obs"][1].numpy(), last)
            break
        assert np.array_equal(obs[1].numpy(), last)
