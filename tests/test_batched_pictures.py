"""What environments of this package draw."""

import functools

import numpy as np
import pytest
import torch

from entropic_rl.envs import _CLASSIC
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError
from tests.batched_cases import CASES, DRAWN, OWN, alone, build, every_case, random_actions


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
