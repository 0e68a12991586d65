"""Making environments: what is made, and errors that say what to do."""

import sys

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode

from entropic_rl.environments import import_gym_packages, make_env, make_vector_env
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
        (gym.error.DependencyNotInstalled("MuJoCo is not installed"), r'pip install "gymnasium\[mujoco\]"'),
        (ModuleNotFoundError("No module named 'ale_py'", name="ale_py"), r'pip install "gymnasium\[atari\]"'),
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


def test_missing_gym_package_is_named():
    with pytest.raises(EnvError, match=r"--gym-packages: cannot import 'no_such_envs' .*; install it or fix the name"):
        import_gym_packages(["json", "no_such_envs"])


def test_outdated_version_of_an_env_does_not_warn():
    assert make_env("CartPole-v0").spec.id == "CartPole-v0"
