"""The contract of every batched environment: copies and seeds, episodes and their ends, in every way of stepping."""

import functools
import importlib
import math
import shutil

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.envs import _CLASSIC, _OWN
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError
from tests.device_manners import good_manners


def load(place):
    module, name = place.split(":")
    return getattr(importlib.import_module(f"entropic_rl.envs.{module}"), name)


OWN = {name: (load(place), {}) for name, (place, _) in _OWN.items()}
NOISY = {
    "Bandit-v0, noisy": (load("bandit:Bandit"), {"noise": 1.0}),
    "DeepSea-v0, stochastic": (load("deep_sea:DeepSea"), {"size": 4, "stochastic": True}),
    "FourRooms-v0, slippery": (load("four_rooms:FourRooms"), {"slip": 0.3, "start": "uniform"}),
}
DRAWN = [name if name != "DeepSea-v0" else "DeepSea-v0, stochastic" for name in OWN]  # the smaller one
CASES = {name: (load(place), {}) for name, place in _CLASSIC.items()} | OWN | NOISY

# A state whose next step ends the episode: nearly surely, or at least now and then.
BRINKS = {
    "CartPole": (2.39, 3.0, 0.0, 0.0),
    "Acrobot": (math.pi, 0.0, 0.0, 0.0),
    "MountainCar": (0.49, 0.07),
    "MountainCarContinuous": (0.44, 0.07),
    "MountainCarSparse": (0.49, 0.07),
    "CartPoleSwingUp": (2.99, 5.0, math.pi, 0.0),
    "PointMaze": (1.5, 3.5),
    "CartPolePositions": (2.39, 3.0, 0.0, 0.0),
    "Catch": (8, 4, 0, 4, 4),  # the last ball above the last row
    "FourRooms": (102,),  # beside the goal
}
LIMIT = 20

every_case = pytest.mark.parametrize("case", CASES)
every_mode = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED], ids=lambda m: m.name)
ending_cases = pytest.mark.parametrize("case", [c for c, (rules, _) in CASES.items() if rules.__name__ in BRINKS])


def build(case, num_envs, **options):
    rules, arguments = CASES[case]
    return BatchedEnv(rules, num_envs, **arguments, **options)


def alone(case, seed, limit=None):
    rules, arguments = CASES[case]
    env = SingleEnv(rules, **arguments)
    if limit is not None:
        env.dynamics.max_episode_steps = min(limit, env.dynamics.max_episode_steps or limit)
    return env, env.reset(seed=seed)[0]


def random_actions(case, n_steps, n_copies, seed=0):
    """``[T, N]`` integers or ``[T, N, D]`` numbers, some beyond the bounds."""
    space, generator = build(case, 1).single_action_space, torch.Generator().manual_seed(seed)
    if isinstance(space, spaces.Discrete):
        return torch.randint(int(space.n), (n_steps, n_copies), generator=generator)
    return 1.2 * float(space.high[0]) * (2 * torch.rand(n_steps, n_copies, *space.shape, generator=generator) - 1)


def to_the_brink(case, env, copy=0):
    """Put one copy where the next step may end its episode; where nothing terminates, leave it."""
    if CASES[case][0].__name__ in BRINKS:
        state = env.state.clone()
        state[:, copy] = torch.tensor(BRINKS[CASES[case][0].__name__], dtype=state.dtype)
        env.state = state


def roll(env, actions):
    """Observations, rewards, terminated and truncated, each ``[T, N, ...]``."""
    return [torch.stack(parts) for parts in zip(*[env.step(action)[:4] for action in actions], strict=True)]


def equal(these, those):
    return all(torch.equal(a, b) for a, b in zip(these, those, strict=True))


def one_action(actions, t, copy):
    action = actions[t, copy].numpy()
    return action if action.shape else int(action)


# Shapes, dtypes, spaces


@every_case
@every_mode
def test_observations_are_in_the_space(case, mode):
    env = build(case, 3, autoreset_mode=mode, max_episode_steps=LIMIT)
    obs, info = env.reset(seed=0)
    assert info == {}
    assert obs.numpy() in env.observation_space
    assert obs.numpy().dtype == env.single_observation_space.dtype
    for action in random_actions(case, 30, 3):
        obs, _, terminated, truncated, _ = env.step(action)
        assert obs.numpy() in env.observation_space
        assert obs[1].numpy() in env.single_observation_space
        if mode is AutoresetMode.DISABLED:
            env.reset(options={"reset_mask": terminated | truncated})


@every_case
def test_steps_return_one_number_per_copy_in_fixed_dtypes(case):
    env = build(case, 5)
    env.reset(seed=0)
    _, reward, terminated, truncated, _ = env.step(random_actions(case, 1, 5)[0])
    assert reward.shape == terminated.shape == truncated.shape == (5,)
    assert reward.dtype is torch.float32
    assert terminated.dtype is truncated.dtype is torch.bool


@every_case
def test_sampled_numpy_actions_are_taken(case):
    env = build(case, 4)
    env.reset(seed=0)
    env.action_space.seed(0)
    assert env.step(env.action_space.sample())[0].shape == env.observation_space.shape


@every_case
def test_what_was_returned_is_not_written_to_later(case):
    env = build(case, 3, max_episode_steps=3)
    kept = [env.reset(seed=0)[0]]
    kept += [part for action in random_actions(case, 3, 3) for part in env.step(action)[:4]]
    copies = [part.clone() for part in kept]
    roll(env, random_actions(case, 8, 3))
    env.reset()
    assert equal(kept, copies)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_integers_of_any_width_mean_the_same(dtype):
    wide, narrow = build("CartPole-v1", 3), build("CartPole-v1", 3)
    wide.reset(seed=0), narrow.reset(seed=0)
    action = torch.tensor([0, 1, 1])
    assert equal(wide.step(action)[:4], narrow.step(action.to(dtype))[:4])


# One kind of episode in either mode


@every_case
def test_same_step_is_disabled_with_resets_done_by_hand(case):
    same = build(case, 5, max_episode_steps=LIMIT)
    by_hand = build(case, 5, max_episode_steps=LIMIT, autoreset_mode="Disabled")
    assert torch.equal(same.reset(seed=11)[0], by_hand.reset(seed=11)[0])
    n_ends = 0
    for t, action in enumerate(random_actions(case, 65, 5)):
        if t % 12 == 5:
            to_the_brink(case, same, copy=2), to_the_brink(case, by_hand, copy=2)
        obs, *outcome, info = same.step(action)
        expected_obs, *expected, no_info = by_hand.step(action)
        assert no_info == {}
        assert equal(outcome, expected)
        ended = outcome[1] | outcome[2]
        if ended.any():
            assert torch.equal(info["final_obs"][ended], expected_obs[ended])
            assert torch.equal(info["_final_obs"], ended)
            expected_obs, _ = by_hand.reset(options={"reset_mask": ended})
        assert torch.equal(obs, expected_obs)
        n_ends += int(ended.sum())
    assert n_ends >= 15


@every_case
def test_final_observations_are_there_exactly_in_steps_that_end_something(case):
    env = build(case, 4, max_episode_steps=LIMIT)
    env.reset(seed=0)
    for t, action in enumerate(random_actions(case, 30, 4)):
        if t == 10:
            to_the_brink(case, env)
        *_, terminated, truncated, info = env.step(action)
        assert set(info) == ({"final_obs", "_final_obs"} if bool((terminated | truncated).any()) else set())


@ending_cases
def test_brinks_of_these_tests_end_episodes(case):
    env = build(case, 20)
    env.reset(seed=0)
    for copy in range(20):
        to_the_brink(case, env, copy)
    assert bool(env.step(random_actions(case, 1, 20)[0])[2].any())


@every_case
@every_mode
def test_path_that_never_asks_the_device_equals_the_one_that_does(case, mode):
    asking, silent = (build(case, 5, max_episode_steps=LIMIT, autoreset_mode=mode) for _ in range(2))
    silent._asks = False
    assert torch.equal(asking.reset(seed=3)[0], silent.reset(seed=3)[0])
    for t, action in enumerate(random_actions(case, 50, 5)):
        if t % 12 == 5:
            to_the_brink(case, asking, copy=1), to_the_brink(case, silent, copy=1)
        *outcome, info = asking.step(action)
        *silent_outcome, silent_info = silent.step(action)
        assert equal(outcome, silent_outcome)
        ended = outcome[2] | outcome[3]
        if mode is AutoresetMode.SAME_STEP:
            assert torch.equal(silent_info["_final_obs"], ended)
            if ended.any():
                assert torch.equal(info["final_obs"][ended], silent_info["final_obs"][ended])
        elif ended.any():
            options = {"reset_mask": ended}
            assert torch.equal(asking.reset(options=options)[0], silent.reset(options=options)[0])
    assert torch.equal(asking.state, silent.state)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch's own import
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPU")
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_compiled_steps_equal_eager_ones(case):
    eager, compiled = build(case, 5, max_episode_steps=30), build(case, 5, max_episode_steps=30, compile=True)
    torch.testing.assert_close(eager.reset(seed=3)[0], compiled.reset(seed=3)[0], rtol=0.0, atol=0.0)
    actions = random_actions(case, 200, 5)
    for part, expected in zip(roll(compiled, actions), roll(eager, actions), strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)


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
@settings(max_examples=8, deadline=None, derandomize=True, database=None)
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


# What is refused


def test_stepping_a_copy_after_its_end_is_refused_where_resets_are_the_callers():
    env = build("Chain-v0", 3, max_episode_steps=4, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(torch.zeros(3, dtype=torch.int64))
    env.reset(options={"reset_mask": [True, False, True]})
    for _ in range(3):
        env.step(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(EnvError, match="step after the end: copy 1 is over; reset it"):
        env.step(torch.zeros(3, dtype=torch.int64))
    env.reset(options={"reset_mask": [False, True, False]})
    env.step(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_envs": 0}, "num_envs: expected a whole number of at least 1, got 0"),
        ({"num_envs": -3}, "num_envs: expected a whole number of at least 1, got -3"),
        ({"max_episode_steps": 0}, "max_episode_steps: expected a whole number of at least 1, got 0"),
        ({"autoreset_mode": AutoresetMode.NEXT_STEP}, "autoreset_mode: expected SAME_STEP or DISABLED, got NEXT_STEP"),
        ({"render_mode": "ansi"}, r"render_mode: expected None or one of \['rgb_array'\], got 'ansi'"),
        ({"render_mode": "human"}, r"render_mode: expected None or one of \['rgb_array'\], got 'human'"),
    ],
)
def test_arguments_out_of_range_are_refused(options, words):
    with pytest.raises(EnvError, match=words):
        build("Chain-v0", **({"num_envs": 2} | options))


def test_seeds_of_another_number_than_the_copies_are_refused():
    with pytest.raises(EnvError, match="reset: expected one seed or 3, got 2"):
        build("Chain-v0", 3).reset(seed=[1, 2])


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ([True, False], r"booleans of shape \(3,\), got torch.bool of \(2,\)"),
        ([1, 0, 1], r"booleans of shape \(3,\), got torch.int64 of \(3,\)"),
    ],
)
def test_reset_masks_of_another_shape_or_dtype_are_refused(mask, words):
    with pytest.raises(EnvError, match=words):
        build("Chain-v0", 3).reset(seed=0, options={"reset_mask": mask})


# Pictures


@functools.cache
def pictures(case):
    """Of two copies a cell or a unit of length apart, and of the single environment in the state of the second."""
    rules, arguments = CASES[case]
    batch, single = build(case, 2, render_mode="rgb_array"), SingleEnv(rules, render_mode="rgb_array", **arguments)
    batch.reset(seed=0), single.reset(seed=0)
    batch.state = torch.zeros_like(batch.state)
    batch.state[0, 1] = 1
    single.state = batch.state[:, 1:]
    return *batch.render(), single.render()


@pytest.mark.parametrize("case", DRAWN)
def test_pictures_are_bytes_of_one_shape(case):
    here, there, _ = pictures(case)
    assert here.dtype == there.dtype == np.uint8
    assert here.shape == there.shape
    assert here.ndim == 3
    assert here.shape[2] == 3
    assert min(here.shape[:2]) >= 8


@pytest.mark.parametrize("case", DRAWN)
def test_single_environment_draws_the_same_picture(case):
    _, there, single = pictures(case)
    assert np.array_equal(there, single)


@pytest.mark.parametrize("case", [case for case in DRAWN if case != "Bandit-v0"])
def test_pictures_show_the_state(case):
    here, there, _ = pictures(case)
    assert not np.array_equal(here, there)


@every_case
def test_without_render_mode_there_is_no_picture(case):
    batch, (single, _) = build(case, 2), alone(case, 0)
    batch.reset(seed=0)
    assert batch.render() is None
    assert single.render() is None


@pytest.mark.parametrize("case", [case for case in OWN if "ansi" in CASES[case][0].render_modes])
def test_texts_hold_one_agent_in_rows_of_one_length(case):
    env = SingleEnv(CASES[case][0], render_mode="ansi")
    env.reset(seed=0)
    actions, places = random_actions(case, 60, 1), set()
    for action in actions:
        text = env.render()
        assert text.count("@") == 1
        assert len({len(line) for line in text.splitlines()}) == 1
        places.add((text.index("@"), int(env.state[0])))
        if any(env.step(int(action))[2:4]):
            env.reset()
    assert len({place for place, _ in places}) > 3
    if env.dynamics.n_states is None:
        return  # more than the agent's place belongs to the state
    # The place tells the state: none is drawn at two places, nor two at one.
    assert len({place for place, _ in places}) == len({state for _, state in places}) == len(places)


@pytest.mark.parametrize("case", [*_CLASSIC, "Bandit-v0"])
def test_drawings_that_do_not_exist_are_refused(case):
    mode = "ansi" if case == "Bandit-v0" else "rgb_array"
    with pytest.raises(EnvError, match=f"render_mode: expected .*got '{mode}'"):
        SingleEnv(CASES[case][0], render_mode=mode)


@every_case
def test_no_number_changes_when_all_that_are_drawn_ahead_are_drawn_again(case):
    plain, restocked = (build(case, 5, max_episode_steps=LIMIT) for _ in range(2))
    assert torch.equal(plain.reset(seed=3)[0], restocked.reset(seed=3)[0])
    for i, action in enumerate(random_actions(case, 90, 5)):
        if i % 7 == 3:
            restocked.draws.restock()
        for ours, theirs in zip(plain.step(action)[:4], restocked.step(action)[:4], strict=True):
            assert torch.equal(ours, theirs)


@every_case
def test_steps_on_a_device_have_nothing_to_do_with_the_host(case):
    env = build(case, 5, device="meta")
    env.reset(seed=3)
    action = random_actions(case, 1, 5)[0].to("meta")
    env.step(action)
    with good_manners(alone=True):
        env.draws.restock()
        for _ in range(3):
            env.step(action)


@pytest.mark.gpu
@every_case
def test_copies_play_the_same_on_cuda(case):
    here, there = build(case, 5, max_episode_steps=LIMIT), build(case, 5, max_episode_steps=LIMIT, device="cuda")
    torch.testing.assert_close(there.reset(seed=3)[0].cpu(), here.reset(seed=3)[0])
    for action in random_actions(case, 30, 5):
        expected, got = here.step(action), there.step(action.cuda())
        for ours, theirs in zip(expected[:4], got[:4], strict=True):
            torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-4, atol=1e-4)
