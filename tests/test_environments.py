"""Making environments: what is made, and errors that say what to do."""

import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from entropic_rl.environments import (
    choose_backend,
    import_gym_packages,
    make_env,
    make_vector_env,
    reward_threshold,
)
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.errors import EnvError, UserError


def test_env_is_made_with_its_arguments():
    assert make_env("MountainCar-v0", {"goal_velocity": 0.02}).unwrapped.goal_velocity == 0.02
    assert make_env("CartPole-v1", render_mode="rgb_array").render_mode == "rgb_array"


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_env_has_the_asked_size_and_autoreset_mode(mode):
    env = make_vector_env("CartPole-v1", 3, autoreset_mode=mode)
    assert env.num_envs == 3
    assert env.metadata["autoreset_mode"] is mode


def test_vector_env_gives_every_copy_its_arguments_and_its_own_generator():
    env = make_vector_env("MountainCar-v0", 2, {"goal_velocity": 0.02}, backend="sync")
    env.reset(seed=[5, 5])
    assert [copy.unwrapped.goal_velocity for copy in env.envs] == [0.02, 0.02]
    generators = [copy.unwrapped.np_random for copy in env.envs]
    assert generators[0] is not generators[1]
    assert generators[0].random() == generators[1].random()  # the same seed, drawn from independently


def test_unknown_id_suggests_the_closest():
    with pytest.raises(EnvError, match=r"unknown env id 'CartPoole-v1': .* did you mean 'CartPole-v1'\?"):
        make_env("CartPoole-v1")


def test_unknown_id_of_a_missing_namespace_suggests_by_its_name():
    with pytest.raises(EnvError, match=r"did you mean 'Acrobot-v1'\?"):
        make_vector_env("a-package-not-imported/Acrobott-v1", 2)


def test_unknown_id_like_nothing_says_where_the_ids_are():
    with pytest.raises(EnvError, match=r"'Zzzzqqqq-v0': .*pprint_registry.* need --gym-packages PACKAGE"):
        make_env("Zzzzqqqq-v0")


@pytest.mark.parametrize("make", [make_env, lambda env_id, kwargs: make_vector_env(env_id, 2, kwargs)])
def test_unknown_argument_is_named_with_the_flag_to_check(make):
    with pytest.raises(
        EnvError, match=r"'CartPole-v1' does not take the arguments \{'gravitas': 9\}.*check --env-kwargs"
    ):
        make("CartPole-v1", {"gravitas": 9})


def test_malformed_id_is_a_user_error_of_one_line():
    with pytest.raises(UserError) as caught:
        make_env("not an id!")
    assert "not an id!" in str(caught.value)
    assert "\n" not in str(caught.value)


def raising(error):
    def make(**kwargs):
        raise error

    return make


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (gym.error.DependencyNotInstalled("Box2D is not installed, run `pip install swig`"), r"entropic-rl\[box2d\]"),
        (gym.error.DependencyNotInstalled("MuJoCo is not installed"), r'pip install "entropic-rl\[mujoco\]"'),
        (ModuleNotFoundError("No module named 'ale_py'", name="ale_py"), r'pip install "entropic-rl\[atari\]"'),
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), r'OpenCV, .*pip install "entropic-rl\[atari\]"'),
        (ModuleNotFoundError("No module named 'minigrid'", name="minigrid"), r'"entropic-rl\[minigrid\]"'),
        (ModuleNotFoundError("No module named 'minigrid.x'", name="minigrid.x"), "a package .*: .*'minigrid.x'"),
        (ModuleNotFoundError("No module named 'rocket'", name="rocket"), "package that is not installed: .*'rocket'"),
    ],
)
def test_missing_extra_gives_its_pip_install(error, message):
    gym.register("MissingExtra-v0", raising(error))
    try:
        with pytest.raises(EnvError, match=f"'MissingExtra-v0' needs .*{message}"):
            make_env("MissingExtra-v0")
    finally:
        del gym.registry["MissingExtra-v0"]


def test_gym_packages_are_imported_from_the_current_folder_too(monkeypatch, tmp_path):
    (tmp_path / "some_envs_of_mine.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_gym_packages(["some_envs_of_mine"])
    assert sys.modules.pop("some_envs_of_mine").__file__ == str(tmp_path / "some_envs_of_mine.py")


@pytest.mark.parametrize(("package", "extra"), [("ale_py", "atari"), ("minigrid", "minigrid")])
def test_missing_gym_package_of_an_extra_gives_its_pip_install(monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(EnvError, match=rf'--gym-packages: \'{package}\' needs .*pip install "entropic-rl\[{extra}\]"'):
        import_gym_packages([package])


def test_missing_gym_package_is_named():
    with pytest.raises(EnvError, match=r"--gym-packages: cannot import 'no_such_envs' .*; install it or fix the name"):
        import_gym_packages(["json", "no_such_envs"])


def test_outdated_version_of_an_env_does_not_warn():
    assert make_env("CartPole-v0").spec.id == "CartPole-v0"


# Backends


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("CartPole-v1", {}),
        ("Pendulum-v1", {"g": 9.0}),
        ("CartPole-v1", {"max_episode_steps": 20}),
        ("entropic_rl/DeepSea-v0", {}),
        ("entropic_rl/DeepSea-v0", {"size": 4, "stochastic": True}),
        ("entropic_rl/CartPole-v1", {}),
    ],
)
def test_auto_is_batched_where_this_toolkit_has_the_environment_batched(env_id, kwargs):
    assert choose_backend(env_id, kwargs) == "batched"
    assert isinstance(make_vector_env(env_id, 2, kwargs), BatchedEnv)


@pytest.mark.parametrize(
    "env_id", ["LunarLander-v3", "test/Clock-v0", "Blackjack-v1", "CartPole-v0", "CartPole", "no/such-v0"]
)
def test_auto_is_sync_for_ids_without_a_batched_version(env_id):
    assert choose_backend(env_id) == "sync"


def test_auto_makes_copies_of_ids_without_a_batched_version():
    env = make_vector_env("test/Clock-v0", 2, {"limit": 7})
    assert isinstance(env, SyncVectorEnv)
    assert [copy.unwrapped.limit for copy in env.envs] == [7, 7]


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("CartPole-v1", {"render_mode": "human"}),
        ("CartPole-v1", {"render_mode": "rgb_array"}),
        ("CartPole-v1", {"disable_env_checker": True}),
        ("MountainCar-v0", {"gravitas": 9}),
        ("entropic_rl/DeepSea-v0", {"render_mode": "ansi"}),
        ("entropic_rl/DeepSea-v0", {"size": 1}),
    ],
)
def test_auto_is_sync_for_arguments_that_the_batched_version_does_not_take(env_id, kwargs):
    assert choose_backend(env_id, kwargs) == "sync"


def test_auto_makes_copies_for_arguments_that_the_batched_version_does_not_take():
    env = make_vector_env("entropic_rl/DeepSea-v0", 2, {"render_mode": "ansi"})
    assert isinstance(env, SyncVectorEnv)


def test_auto_makes_copies_where_something_is_to_be_put_around_them():
    wrapped = []
    env = make_vector_env("CartPole-v1", 3, wrap=lambda env: wrapped.append(env) or env)
    assert isinstance(env, SyncVectorEnv)
    assert wrapped == list(env.envs)


def test_auto_makes_copies_for_next_step_mode_which_batched_environments_do_not_have():
    env = make_vector_env("CartPole-v1", 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    assert isinstance(env, SyncVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("env_id", ["CartPole-v1", "entropic_rl/DeepSea-v0"])
def test_sync_is_sync_for_ids_with_a_batched_version_too(env_id):
    assert isinstance(make_vector_env(env_id, 2, backend="sync"), SyncVectorEnv)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_batched_environment_has_the_asked_size_and_autoreset_mode(mode):
    env = make_vector_env("Acrobot-v1", 5, backend="batched", autoreset_mode=mode)
    assert env.num_envs == 5
    assert env.metadata["autoreset_mode"] is mode


def test_batched_for_an_id_without_it_is_refused_with_the_ids_that_have_it():
    with pytest.raises(
        EnvError, match=r"'test/Clock-v0': it has no batched version, .*use --env-backend sync"
    ) as caught:
        make_vector_env("test/Clock-v0", 2, backend="batched")
    message = str(caught.value)
    assert "\n" not in message
    own = [name for name in gym.registry if name.startswith("entropic_rl/")]
    assert len(own) >= 13
    assert all(name in message for name in own)


@pytest.mark.parametrize(
    ("kwargs", "mode", "message"),
    [
        (
            {"gravitas": 9},
            AutoresetMode.SAME_STEP,
            r"does not take the arguments \{'gravitas': 9\}.*check --env-kwargs",
        ),
        (
            {"size": 1},
            AutoresetMode.SAME_STEP,
            "size: expected a whole number of at least 2, got 1; check --env-kwargs",
        ),
        ({}, AutoresetMode.NEXT_STEP, "expected SAME_STEP or DISABLED, got NEXT_STEP"),
    ],
)
def test_what_the_batched_version_cannot_do_is_an_error_of_one_line(kwargs, mode, message):
    with pytest.raises(EnvError, match=f"'entropic_rl/DeepSea-v0'.*{message}") as caught:
        make_vector_env("entropic_rl/DeepSea-v0", 2, kwargs, backend="batched", autoreset_mode=mode)
    assert "\n" not in str(caught.value)


def test_arguments_reach_the_batched_environment():
    env = make_vector_env("entropic_rl/DeepSea-v0", 2, {"size": 4}, backend="batched")
    assert env.single_observation_space.shape == (16,)
    assert make_vector_env("entropic_rl/Chain-v0", 2, {"length": 9}).single_observation_space.n == 9


@pytest.mark.parametrize(
    ("env_id", "kwargs", "length"),
    [
        ("entropic_rl/Chain-v0", {}, 10),
        ("entropic_rl/Chain-v0", {"limit": 7}, 7),
        ("entropic_rl/Chain-v0", {"max_episode_steps": 4}, 4),
        ("entropic_rl/Chain-v0", {"max_episode_steps": 25}, None),
        ("entropic_rl/Chain-v0", {"limit": 12, "max_episode_steps": 25}, None),
        ("Pendulum-v1", {"max_episode_steps": 4}, 4),
        ("Pendulum-v1", {"max_episode_steps": 250}, 250),
    ],
)
def test_episodes_are_as_long_in_every_backend(env_id, kwargs, length):
    lengths = []
    for backend in ("batched", "sync"):
        env = make_vector_env(env_id, 1, kwargs, backend=backend)
        env.reset(seed=[0])
        action, steps, ended = np.zeros_like(env.action_space.sample()), 0, False
        while not ended:
            *_, terminated, truncated, _ = env.step(action)
            steps, ended = steps + 1, bool(terminated.any() or truncated.any())
        lengths.append(steps)
    assert lengths[0] == lengths[1]
    assert length in (None, lengths[0])


@pytest.mark.parametrize(
    ("env_id", "threshold"),
    [
        ("CartPole-v1", 475.0),
        ("gymnasium.envs.classic_control:CartPole-v1", 475.0),
        ("entropic_rl/CartPole-v1", 475.0),
        ("entropic_rl/DeepSea-v0", 0.9),
        ("entropic_rl/Chain-v0", None),
        ("test/Clock-v0", None),
        ("no/such-v0", None),
    ],
)
def test_reward_threshold_is_that_of_the_registered_id(env_id, threshold):
    assert reward_threshold(env_id) == threshold


def test_id_that_only_has_the_name_of_a_batched_one_is_not_taken_for_it():
    gym.register("FourRooms-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    try:
        assert choose_backend("FourRooms-v0") == "sync"
        assert make_vector_env("FourRooms-v0", 2).single_observation_space.shape == (4,)
    finally:
        del gym.registry["FourRooms-v0"]


def test_unknown_id_is_told_as_such_for_the_batched_backend_too():
    with pytest.raises(EnvError, match="unknown env id 'Nope-v3'"):
        make_vector_env("Nope-v3", 2, backend="batched")
