"""Our environments among Gymnasium's: registration, checkers, vector modes, docstrings and refused actions."""

import importlib
import inspect
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import entropic_rl.envs
from entropic_rl.envs import _CLASSIC, _OWN
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError

HEADINGS = [
    "Description",
    "Action Space",
    "Observation Space",
    "Starting State",
    "Rewards",
    "Episode End",
    "Arguments",
    "Version History",
]
# Velocities without a bound, in Gymnasium's CartPole and in ours.
UNBOUNDED = ("CartPole-v1", "CartPoleSwingUp-v0")

every_id = pytest.mark.parametrize("name", [*_CLASSIC, *_OWN])
own_ids = pytest.mark.parametrize("name", _OWN)


def make(name, **arguments):
    return gym.make(f"entropic_rl/{name}", **arguments)


def make_vec(name, num_envs=3, mode="vector_entry_point", **arguments):
    return gym.make_vec(f"entropic_rl/{name}", num_envs=num_envs, vectorization_mode=mode, **arguments)


def ignore_expected_warnings(name):
    if name in UNBOUNDED:
        warnings.filterwarnings("ignore", ".*A Box observation space m(in|ax)imum value is -?infinity", UserWarning)
    if name == "Catch-v0":  # smaller than Stable-Baselines3's convolutions of three layers can take
        warnings.filterwarnings("ignore", "The minimal resolution for an image is 36x36", UserWarning)
    if name == "Pendulum-v1":  # Gymnasium's own, with its own bounds of 2
        warnings.filterwarnings("ignore", ".*we recommend using a symmetric and normalized space", UserWarning)
        warnings.filterwarnings("ignore", "We recommend you to use a symmetric and normalized Box action", UserWarning)


# Checkers


@every_id
def test_gymnasiums_checker_has_no_complaint(name):
    with warnings.catch_warnings():
        ignore_expected_warnings(name)
        check_gymnasium_env(make(name).unwrapped)


@every_id
def test_stable_baselines3_checker_has_no_complaint(name):
    with warnings.catch_warnings():
        ignore_expected_warnings(name)
        check_sb3_env(make(name).unwrapped)


@own_ids
def test_texts_are_drawn_through_gymnasiums_wrappers(name):
    if "ansi" in gym.make(f"entropic_rl/{name}").metadata["render_modes"]:
        env = make(name, render_mode="ansi")
        env.reset(seed=0)
        assert "@" in env.render()


@own_ids
def test_steps_return_plain_python_numbers_and_numpy_observations(name):
    env = make(name).unwrapped
    env.action_space.seed(0)
    env.reset(seed=0)
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert isinstance(obs, np.ndarray | np.int64)
    assert [type(part) for part in (reward, terminated, truncated)] == [float, bool, bool]
    assert info == {}


@own_ids
def test_pickled_copy_goes_on_the_same(name):
    env = make(name)
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    twin = pickle.loads(pickle.dumps(env))
    for _ in range(5):
        env.reset(), twin.reset()
        action = env.action_space.sample()
        one, other = env.step(action), twin.step(action)
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]


# Registration


@every_id
@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
def test_both_vector_modes_make_reset_and_step(name, mode):
    env = make_vec(name, mode=mode)
    obs, _ = env.reset(seed=0)
    assert np.asarray(obs) in env.observation_space
    env.action_space.seed(0)
    obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert np.asarray(obs) in env.observation_space
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert isinstance(env.unwrapped, BatchedEnv if mode == "vector_entry_point" else SyncVectorEnv)
    env.close()


@every_id
def test_batched_environment_is_what_gymnasium_makes_by_default(name):
    assert isinstance(gym.make_vec(f"entropic_rl/{name}", num_envs=2).unwrapped, BatchedEnv)


@every_id
def test_single_and_batched_spaces_agree(name):
    single, batch = make(name), make_vec(name)
    assert batch.single_observation_space == single.observation_space
    assert batch.single_action_space == single.action_space


@own_ids
def test_made_environment_equals_the_copy_with_its_seed(name):
    single, batch = make(name), make_vec(name, num_envs=2)
    single.action_space.seed(0)
    obs, _ = single.reset(seed=6)
    assert np.array_equal(obs, batch.reset(seed=5)[0][1].numpy())
    action = single.action_space.sample()
    obs, reward, terminated, truncated, _ = single.step(action)
    batch_obs, *batch_outcome, info = batch.step(np.stack([action, action]))
    assert np.array_equal(obs, info.get("final_obs", batch_obs)[1].numpy())
    assert [reward, terminated, truncated] == [part[1].item() for part in batch_outcome]


@pytest.mark.parametrize("name", _CLASSIC)
def test_classics_are_gymnasiums_with_a_vector_entry_point(name):
    ours, theirs = gym.spec(f"entropic_rl/{name}"), gym.spec(name)
    assert type(make(name).unwrapped) is type(gym.make(name).unwrapped)
    for field in ("entry_point", "max_episode_steps", "reward_threshold"):
        assert getattr(ours, field) == getattr(theirs, field)


@every_id
@pytest.mark.parametrize("mode", ["vector_entry_point", "sync"])
def test_limit_can_be_set_in_both_vector_modes(name, mode):
    env = make_vec(name, mode=mode, max_episode_steps=1)
    env.reset(seed=0)
    env.action_space.seed(0)
    assert np.asarray(env.step(env.action_space.sample())[3]).all()


@every_id
def test_autoreset_mode_is_in_the_metadata(name):
    assert make_vec(name).metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert make_vec(name, autoreset_mode="Disabled").metadata["autoreset_mode"] is AutoresetMode.DISABLED


@own_ids
def test_arguments_reach_single_and_batched_environments(name):
    arguments = {
        "Bandit-v0": ({"rewards": (0.0, 1.0)}, "n_actions", 2),
        "Chain-v0": ({"length": 8}, "n_states", 8),
        "RiverSwim-v0": ({"length": 9}, "n_states", 9),
        "DeepSea-v0": ({"size": 3}, "size", 3),
        "FourRooms-v0": ({"limit": 3}, "max_episode_steps", 3),
        "MountainCarSparse-v0": ({"limit": 3}, "max_episode_steps", 3),
        "CartPoleSwingUp-v0": ({"limit": 3}, "max_episode_steps", 3),
        "PointMaze-v0": ({"limit": 3}, "max_episode_steps", 3),
        "CartPolePositions-v1": ({"limit": 3}, "max_episode_steps", 3),
        "Catch-v0": ({"balls": 3}, "balls", 3),
    }
    given, attribute, value = arguments[name]
    for env in (make(name, **given), make_vec(name, **given), make_vec(name, mode="sync", **given).envs[0]):
        assert getattr(env.unwrapped.dynamics, attribute) == value


@own_ids
def test_docstring_of_the_unwrapped_environment_has_the_headings(name):
    for env in (make(name).unwrapped, make_vec(name).unwrapped):
        found = [
            line.strip().removeprefix("## ") for line in env.__doc__.splitlines() if line.strip().startswith("## ")
        ]
        assert found == HEADINGS


@own_ids
def test_docstring_names_every_argument_and_its_default(name):
    rules = type(make(name).unwrapped.dynamics)
    section = rules.__doc__.split("## Arguments")[1].split("## Version History")[0]
    parameters = inspect.signature(rules).parameters
    documented = [line.split("`")[1] for line in section.splitlines() if line.strip().startswith("- `")]
    assert documented == list(parameters)
    for argument, parameter in parameters.items():
        default = parameter.default
        text = ", ".join(f"{part:g}" for part in default) if isinstance(default, tuple) else str(default)
        shown = f'"{default}"' if isinstance(default, str) else text
        assert f"`{argument}` (" in section
        assert f"default {shown})" in section.split(f"`{argument}` (")[1].split(":")[0]


def test_importing_the_environments_does_not_import_torch():
    code = "import sys, entropic_rl.envs, gymnasium; print('torch' in sys.modules, len(gymnasium.registry))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded, n_registered = result.stdout.split()
    assert loaded == "False"
    assert int(n_registered) > 15


def test_registering_twice_is_harmless():
    before = {key: spec for key, spec in gym.registry.items() if key.startswith("entropic_rl/")}
    importlib.reload(entropic_rl.envs)
    assert {key: spec for key, spec in gym.registry.items() if key.startswith("entropic_rl/")} == before
    assert len(before) == 15


@every_id
def test_unknown_argument_is_named(name):
    with pytest.raises(TypeError, match="unexpected keyword argument 'sise'"):
        make(name, sise=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sise'"):
        make_vec(name, sise=3)


def test_refused_argument_reaches_the_caller_of_make():
    with pytest.raises(EnvError, match="size: expected a whole number of at least 2, got 1"):
        make("DeepSea-v0", size=1)
    with pytest.raises(EnvError, match="size: expected a whole number of at least 2, got 1"):
        make_vec("DeepSea-v0", size=1)


# Actions that are refused

WHOLE, NUMBERS = (
    "expected an integer from 0 to {}, got",
    r"expected finite floating-point numbers of shape \({},\), got",
)


@own_ids
def test_step_before_reset_is_refused_by_a_single_environment(name):
    env = make(name).unwrapped
    with pytest.raises(EnvError, match=r"step before reset: call reset\(seed=...\) first"):
        env.step(env.action_space.sample())


@every_id
def test_step_before_reset_is_refused_by_a_batch(name):
    env = make_vec(name).unwrapped
    with pytest.raises(EnvError, match=r"step before reset: call reset\(seed=...\) first"):
        env.step(env.action_space.sample())


@pytest.mark.parametrize(
    ("name", "action", "words"),
    [
        ("Chain-v0", 2, WHOLE.format(1) + " 2"),
        ("Chain-v0", -1, WHOLE.format(1) + " -1"),
        ("Chain-v0", 0.0, WHOLE.format(1) + r" 0\.0"),
        ("Chain-v0", np.nan, WHOLE.format(1) + " nan"),
        ("Chain-v0", True, WHOLE.format(1) + " True"),
        ("Chain-v0", None, WHOLE.format(1) + " None"),
        ("Chain-v0", "left", WHOLE.format(1) + " 'left'"),
        ("Chain-v0", [1], WHOLE.format(1) + r" \[1\]"),
        ("FourRooms-v0", np.int64(4), WHOLE.format(3) + r" np.int64\(4\)"),
        ("PointMaze-v0", np.array([0.1, np.nan], np.float32), NUMBERS.format(2) + ".*nan"),
        ("PointMaze-v0", np.array([np.inf, 0.0], np.float32), NUMBERS.format(2) + ".*inf"),
        ("PointMaze-v0", np.array([0.1], np.float32), NUMBERS.format(2) + ".*0.1"),
        ("PointMaze-v0", np.zeros((1, 2), np.float32), NUMBERS.format(2) + r" array\(\[\[0"),
        ("PointMaze-v0", np.array([0, 1]), NUMBERS.format(2) + r" array\(\[0, 1\]\)"),
        ("PointMaze-v0", 0.5, NUMBERS.format(2) + " 0.5"),
        ("PointMaze-v0", None, NUMBERS.format(2) + " None"),
    ],
    ids=str,
)
def test_action_outside_the_space_is_refused_by_a_single_environment(name, action, words):
    env = make(name).unwrapped
    env.reset(seed=0)
    with pytest.raises(EnvError, match=words):
        env.step(action)


@pytest.mark.parametrize(
    ("name", "actions", "words"),
    [
        ("Chain-v0", [0, 1, 2], "actions: expected 0 to 1, got 0 to 2"),
        ("Chain-v0", [0, 1, -1], "actions: expected 0 to 1, got -1 to 1"),
        ("Chain-v0", [0.0, 1.0, 0.0], "actions: expected integers from 0 to 1, got torch.float32"),
        ("Chain-v0", [np.nan] * 3, "actions: expected integers from 0 to 1, got torch.float32"),
        ("Chain-v0", [True, False, True], "actions: expected integers from 0 to 1, got torch.bool"),
        ("Chain-v0", [0, 1], r"actions: expected shape \(3,\) for 3 copies, got \(2,\)"),
        ("Chain-v0", [[0], [1], [1]], r"actions: expected shape \(3,\) for 3 copies, got \(3, 1\)"),
        ("Chain-v0", 1, r"actions: expected shape \(3,\) for 3 copies, got \(\)"),
        ("CartPole-v1", [0, 1, 2], "actions: expected 0 to 1, got 0 to 2"),
        ("PointMaze-v0", [[0.0, 0.0]] * 2 + [[0.0, np.nan]], "actions: expected finite numbers, got NaN or infinity"),
        ("PointMaze-v0", [[0.0, 0.0]] * 2 + [[np.inf, 0.0]], "actions: expected finite numbers, got NaN or infinity"),
        ("PointMaze-v0", [[0, 0]] * 3, "actions: expected floating-point numbers, got torch.int64"),
        ("PointMaze-v0", [0.0, 0.0], r"actions: expected shape \(3, 2\) for 3 copies, got \(2,\)"),
        ("PointMaze-v0", [[0.0]] * 3, r"actions: expected shape \(3, 2\) for 3 copies, got \(3, 1\)"),
        ("Pendulum-v1", [0.0, 0.0, 0.0], r"actions: expected shape \(3, 1\) for 3 copies, got \(3,\)"),
    ],
    ids=str,
)
def test_actions_outside_the_space_are_refused_by_a_batch(name, actions, words):
    env = make_vec(name).unwrapped
    env.reset(seed=0)
    with pytest.raises(EnvError, match=words):
        env.step(torch.tensor(actions))


@pytest.mark.parametrize("actions", [torch.zeros(2, dtype=torch.int64), torch.zeros(3)], ids=["shape", "dtype"])
def test_shapes_and_dtypes_are_checked_even_without_validation(actions):
    env = make_vec("Chain-v0", validate=False).unwrapped
    env.reset(seed=0)
    with pytest.raises(EnvError, match="actions: expected"):
        env.step(actions)


def test_numbers_beyond_the_bounds_are_clipped_rather_than_refused():
    env, seen = make("PointMaze-v0").unwrapped, []
    for push in (1.0, 9.0, 0.5):
        env.reset(seed=0)
        seen.append(env.step(np.array([push, 0.0], np.float32))[0].tolist())
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("made", [make, make_vec], ids=["single", "batch"])
def test_refused_action_uses_up_no_random_numbers(made):
    outcomes = []
    for tries in (0, 3):
        env = made("Bandit-v0", noise=1.0).unwrapped
        env.reset(seed=0)
        for _ in range(tries):
            with pytest.raises(EnvError):
                env.step(7 if isinstance(env, SingleEnv) else np.array([7, 7, 7]))
        outcomes.append(np.asarray(env.step(1 if isinstance(env, SingleEnv) else np.array([1, 1, 1]))[1]).tolist())
    assert outcomes[0] == outcomes[1]
