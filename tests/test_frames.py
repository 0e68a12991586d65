"""Windows of the latest observations, against Gymnasium's wrapper and by hand."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import FrameStackObservation

from entropic_rl.environments import make_vector_env
from entropic_rl.frames import FrameStack
from entropic_rl.spaces import ObservationSpec, action_spec, observation_spec
from entropic_rl.vector import EnvBatch

IMAGES = "entropic_rl/Catch-v0"


def windows_of(*frames):
    return torch.tensor([[list(map(float, frames))]])


def test_windows_fill_up_from_the_newest_and_begin_anew_with_an_episode():
    stack, nothing = FrameStack(ObservationSpec.vector(1).stacked(3)), torch.nan
    steps = [(stack.begin(windows_of(1)), (nothing, nothing, 1))]
    steps += [(stack.push(windows_of(2)), (nothing, 1, 2)), (stack.push(windows_of(3)), (1, 2, 3))]
    steps += [(stack.peek(windows_of(9)), (2, 3, 9)), (stack.push(windows_of(4)), (2, 3, 4))]
    steps += [(stack.push(windows_of(5), torch.tensor([[True]])), (nothing, nothing, 5))]
    steps += [(stack.push(windows_of(6), torch.tensor([[False]])), (nothing, 5, 6))]
    for found, expected in steps:
        torch.testing.assert_close(found, windows_of(*expected), rtol=0.0, atol=0.0, equal_nan=True)


def test_only_what_begins_begins_anew():
    stack = FrameStack(ObservationSpec.vector(2).stacked(2))
    stack.begin(torch.ones(1, 2, 2))
    window = stack.push(torch.full((1, 2, 2), 2.0), torch.tensor([[False, True]]))
    expected = torch.tensor([[[1.0, 1.0, 2.0, 2.0], [torch.nan, torch.nan, 2.0, 2.0]]])
    torch.testing.assert_close(window, expected, equal_nan=True)


def test_one_observation_is_passed_on_as_it_is():
    stack, obs = FrameStack(ObservationSpec.vector(3)), torch.ones(1, 1, 3)
    assert stack.begin(obs) is obs
    assert stack.push(obs, torch.tensor([[True]])) is obs
    assert stack.peek(obs) is obs


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
@pytest.mark.parametrize("env_id", [IMAGES, "CartPole-v1"])
def test_windows_are_those_of_gymnasiums_wrapper(env_id, mode):
    frames, n_steps = 3, 120
    envs = make_vector_env(env_id, 1, backend="sync", autoreset_mode=mode)
    spec = observation_spec(envs.single_observation_space).stacked(frames)
    batch = EnvBatch(envs, 1, observation=spec, action=action_spec(envs.single_action_space))
    single = FrameStackObservation(gym.make(env_id), frames, padding_type="zero")
    seen = batch.reset([[7]])
    shown, _ = single.reset(seed=7)
    scale = 255.0 if env_id == IMAGES else 1.0

    def equal(window, frames):
        expected = np.asarray(frames, np.float32).reshape(-1) / scale
        np.testing.assert_array_equal(window.nan_to_num(0.0).numpy().reshape(-1), expected)

    generator, resets = np.random.default_rng(0), 0
    for _ in range(n_steps):
        equal(seen, shown)
        action = int(generator.integers(2))
        transition = batch.step(torch.tensor([[action]]))
        seen = transition.next_obs
        shown, _, terminated, truncated, _ = single.step(action)
        if terminated or truncated:
            equal(transition.final_obs, shown)
            resets += 1
            if mode is AutoresetMode.NEXT_STEP:
                assert transition.starts is None or not transition.starts.any()
                seen = batch.step(torch.tensor([[0]])).next_obs
            shown, _ = single.reset()
    assert resets >= 1
    batch.close()
    single.close()


def test_starts_are_the_observations_at_which_episodes_begin():
    found = {}
    for mode in AutoresetMode:
        envs = make_vector_env("CartPole-v1", 4, backend="sync", autoreset_mode=mode)
        spec, action = observation_spec(envs.single_observation_space), action_spec(envs.single_action_space)
        batch = EnvBatch(envs, 2, observation=spec, action=action)
        batch.reset([[0, 1], [2, 3]])
        starts = []
        for _ in range(60):
            transition = batch.step(torch.ones(2, 2, dtype=torch.int64))
            none = torch.zeros(2, 2, dtype=torch.bool)
            starts.append(none if transition.starts is None else transition.starts)
            small = transition.next_obs.abs().amax(-1) <= 0.05  # as CartPole starts, and never is again
            assert torch.equal(starts[-1], small)
        batch.close()
        found[mode] = torch.stack(starts)
    assert torch.equal(found[AutoresetMode.SAME_STEP], found[AutoresetMode.DISABLED])
    assert found[AutoresetMode.NEXT_STEP].sum() > 0
