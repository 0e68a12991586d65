"""The contract of every batched environment: what steps take and return, in every way of stepping."""

import shutil

import pytest
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.errors import EnvError
from tests.batched_cases import (
    CASES,
    LIMIT,
    build,
    ending_cases,
    equal,
    every_case,
    every_mode,
    random_actions,
    roll,
    to_the_brink,
)
from tests.device_manners import good_manners

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
