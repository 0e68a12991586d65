"""Wrappers put around environments: how they are written, where they come to lie, what they change."""

import json
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from entropic_rl.cell import Cell, read_cell, settings_class
from entropic_rl.cli import main
from entropic_rl.config import RunConfig, build
from entropic_rl.environments import choose_backend, make_env, make_vector_env
from entropic_rl.errors import ConfigError, EnvError
from entropic_rl.spaces import observation_spec
from entropic_rl.wrappers import parse_wrapper, put_around

pytestmark = pytest.mark.usefixtures("no_figures")

TINY = [
    "--preset", "none", "--total-timesteps", "64", "--n-envs", "2", "--eval-episodes", "2", "--eval-max-steps", "20",
    "--no-progress", "--num-threads", "1", "--net-arch", "8", "--n-steps", "16", "--batch-size", "16",
    "--n-epochs", "1",
]  # fmt: skip
OWN = """
import gymnasium

class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2.0 * reward

class Plus(gymnasium.RewardWrapper):
    def __init__(self, env, amount):
        super().__init__(env)
        self.amount = amount

    def reward(self, reward):
        return reward + self.amount

def function(env):
    return env
"""
CLOCK = "test/Clock-v0"  # pays 1 per step


@pytest.fixture
def own(monkeypatch, tmp_path):
    """The name of a module of wrappers that lies where the command is run."""
    (tmp_path / "wrappers_of_mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "wrappers_of_mine"
    sys.modules.pop("wrappers_of_mine", None)


def first_reward(env):
    env.reset(seed=0)
    return env.step(0)[1]


# How they are written


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.b:C", ("a.b", "C", {})),
        (" a:C() ", ("a", "C", {})),
        ("a:C(x=1, y=-2.5, z='(=)')", ("a", "C", {"x": 1, "y": -2.5, "z": "(=)"})),
        ("a:C(x=(1, 2), y=[True, None], z={'k': 1},)", ("a", "C", {"x": (1, 2), "y": [True, None], "z": {"k": 1}})),
    ],
)
def test_text_of_a_wrapper_is_read(text, parts):
    assert parse_wrapper(text) == parts


MALFORMED = [
    "", "C", "a:", ":C", "a:b:C", "a:C.D", "a:C(", "a:C)", "a:C(1)", "a:C(x)", "a:C(x=)", "a:C(*[1])", "a:C(x=1, x=2)",
    "a:C(**{'x': 1})", "a:C(x=1)(y=2)", "a:C(x=1)+(2)", "a:C(x=open('f'))", "a:C(x=__import__('os'))", "a:C(x=y)",
    "a b:C", "a:C(x=1) if a else b()", f"a:C(x={'(' * 300}{')' * 300})",
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_text_is_refused(text):
    with pytest.raises(ConfigError, match=r"expected MODULE:CLASS or MODULE:CLASS\(name=value, \.\.\.\)"):
        parse_wrapper(text)


def test_settings_check_the_text_of_wrappers():
    assert build(RunConfig, {"env": "-", "env_wrappers": [" a:B ", "a:C(x=1)"]}).env_wrappers == ("a:B", "a:C(x=1)")
    with pytest.raises(ConfigError, match=r"^env_wrappers: expected MODULE:CLASS .*, got 'nonsense'$"):
        build(RunConfig, {"env": "-", "env_wrappers": ["a:B", "nonsense"]})


# Where they come to lie


def test_the_first_wrapper_is_the_innermost(own):
    assert first_reward(make_env(CLOCK, wrappers=[f"{own}:Plus(amount=3)", f"{own}:Doubled"])) == 8.0
    assert first_reward(make_env(CLOCK, wrappers=[f"{own}:Doubled", f"{own}:Plus(amount=3)"])) == 5.0


@pytest.mark.parametrize(
    ("backend", "kind"), [("auto", SyncVectorEnv), ("sync", SyncVectorEnv), ("async", AsyncVectorEnv)]
)
def test_every_copy_of_a_vector_environment_is_wrapped(own, backend, kind):
    env = make_vector_env("CartPole-v1", 2, backend=backend, wrappers=[f"{own}:Plus(amount=3)"])
    try:
        assert isinstance(env, kind)
        env.reset(seed=[0, 1])
        assert env.step(np.zeros(2, np.int64))[1].tolist() == [4.0, 4.0]
    finally:
        env.close()


def test_what_is_put_around_each_copy_lies_outside_of_its_wrappers(own):
    seen = []
    make_vector_env(CLOCK, 1, wrappers=[f"{own}:Doubled"], wrap=lambda env: seen.append(env) or env)
    assert [type(env).__name__ for env in seen] == ["CheckedEnv"]
    assert [type(env.env).__name__ for env in seen] == ["Doubled"]


def test_backend_of_wrapped_environments_is_sync(own):
    assert choose_backend("CartPole-v1") == "batched"
    assert choose_backend("CartPole-v1", wrappers=[f"{own}:Doubled"]) == "sync"


def test_batched_environments_take_no_wrappers(own):
    with pytest.raises(EnvError, match=r"'CartPole-v1': batched .* use --env-backend sync or async"):
        make_vector_env("CartPole-v1", 2, backend="batched", wrappers=[f"{own}:Doubled"])


# What they change


@pytest.mark.parametrize(("wrappers", "known"), [((), True), (("Doubled",), True), (("Flat",), False)])
def test_states_of_finite_environments_are_no_longer_told_where_observations_have_another_space(own, wrappers, known):
    names = {"Doubled": f"{own}:Doubled", "Flat": "gymnasium.wrappers:FlattenObservation"}
    chain = gym.make("entropic_rl/Chain-v0")
    wrapped = put_around(chain, [names[name] for name in wrappers])
    assert {"n_states", "layout"} <= set(chain.metadata)
    assert ({"n_states", "layout"} <= set(wrapped.metadata)) is known
    assert wrapped.metadata["render_modes"] == chain.metadata["render_modes"]
    assert make_vector_env("entropic_rl/Chain-v0", 1, wrappers=[names[name] for name in wrappers]).metadata.get(
        "n_states"
    ) == (chain.metadata["n_states"] if known else None)


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_such_wrappers:C", r"--env-wrappers: cannot import 'no_such_wrappers': .*; install it or fix the name"),
        ("minigrid.wrapper:C", r"cannot import 'minigrid\.wrapper': No module named .*; install it or fix the name"),
        ("OWN:Nope", r"--env-wrappers: expected a class 'Nope' in 'wrappers_of_mine', which has none of that name"),
        ("OWN:function", r"expected a class derived from gymnasium\.Wrapper, got <function"),
        ("gymnasium:Env", r"expected a class derived from gymnasium\.Wrapper, got <class 'gymnasium\.core\.Env'>"),
        ("OWN:Plus", r"OWN:Plus: cannot be put around env 'test/Clock-v0': TypeError: .*'amount'; check its arguments"),
        ("OWN:Plus(size=1)", r"cannot be put around env 'test/Clock-v0': TypeError: .*'size'"),
        ("gymnasium.wrappers:RescaleAction(min_action=0, max_action=1)", r"'test/Clock-v0': .*; check its arguments"),
    ],
)
@pytest.mark.parametrize("make", [make_env, lambda env_id, **options: make_vector_env(env_id, 2, **options)])
def test_wrapper_that_cannot_be_put_around_is_an_error_of_one_line(own, make, text, message):
    with pytest.raises(EnvError, match=message.replace("OWN", own)) as caught:
        make(CLOCK, wrappers=[text.replace("OWN", own)])
    assert "\n" not in str(caught.value)


def test_module_that_fails_on_import_is_an_error_of_one_line(own):
    Path("wrappers_that_fail.py").write_text("raise RuntimeError('no\\nluck')")
    with pytest.raises(EnvError, match=r"^--env-wrappers: cannot import 'wrappers_that_fail': no; install it"):
        make_env(CLOCK, wrappers=["wrappers_that_fail:C"])


def test_wrappers_of_a_missing_extra_give_its_pip_install(monkeypatch):
    def missing(module):  # what an import says where the package is not installed
        raise ModuleNotFoundError("No module named 'minigrid'", name="minigrid")

    monkeypatch.setattr("entropic_rl.wrappers.import_user_module", missing)
    with pytest.raises(EnvError, match=r"'minigrid\.wrappers': it needs MiniGrid, .*\"entropic-rl\[minigrid\]\""):
        make_env(CLOCK, wrappers=["minigrid.wrappers:ImgObsWrapper"])


def test_wrapper_that_misses_a_package_gives_its_pip_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EnvError, match=r"AtariPreprocessing needs OpenCV, .*\"entropic-rl\[atari\]\""):
        make_env(CLOCK, wrappers=["gymnasium.wrappers:AtariPreprocessing"])


def test_environment_is_closed_where_a_wrapper_refuses_it():
    class Closing(gym.Wrapper):
        closed = False

        def close(self):
            self.closed = True

    env = Closing(gym.make(CLOCK))
    with pytest.raises(EnvError):
        put_around(env, ["gymnasium.wrappers:RescaleAction(min_action=0, max_action=1)"])
    assert env.closed


REFUSED = {
    "malformed": (["--env-wrappers", "nonsense"], ["env_wrappers: expected MODULE:CLASS", "got 'nonsense'"]),
    "no module": (["--env-wrappers", "no_such:C"], ["--env-wrappers: cannot import 'no_such'"]),
    "no wrapper": (["--env-wrappers", "math:pi"], ["expected a class derived from gymnasium.Wrapper, got 3.14"]),
    "refusing": (["--env-wrappers", "gymnasium.wrappers:DtypeObservation"], ["cannot be put around", "'dtype'"]),
    "batched": (
        ["--env-backend", "batched", "--env-wrappers", "gymnasium.wrappers:FlattenObservation"],
        ["batched environments have no copies to put --env-wrappers around", "use --env-backend sync or async"],
    ),
}


@pytest.mark.parametrize("verb", ["train", "compare"])
@pytest.mark.parametrize("case", REFUSED)
def test_bad_wrappers_are_one_line_on_the_command_line_and_leave_nothing(capsys, monkeypatch, tmp_path, verb, case):
    monkeypatch.chdir(tmp_path)
    flags, words = REFUSED[case]
    rest = ["--run-dir", "run"] if verb == "train" else ["--ent-coef", "0", "0.1", "--out", "run"]
    assert main([verb, "ppo", "--env", "CartPole-v1", *TINY, *flags, *rest]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words)
    assert list(Path().iterdir()) == []


# Whole trainings


def evaluated(capsys, *arguments):
    assert main(["evaluate", *arguments, "--episodes", "2", "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_training_and_evaluation_are_wrapped(own, capsys):
    flags = ["--env-wrappers", "gymnasium.wrappers:TimeAwareObservation(flatten=True)", f"{own}:Plus(amount=3)"]
    limit = ["--env-kwargs", "max_episode_steps=9"]  # TimeAwareObservation asks for one
    assert main(["train", "ppo", "--env", CLOCK, *limit, *TINY, *flags, "--run-dir", "run"]) == 0
    assert read_cell(Path("run")).run.env_wrappers == tuple(flags[1:])
    assert read_cell(Path("run")).run.env_backend == "sync"
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["rollout/ep_rew_mean"] == summary["eval/mean_reward"] == 4 * (1.0 + 3.0)
    capsys.readouterr()
    result = evaluated(capsys, "run")
    assert (result["mean_reward"], result["mean_ep_length"]) == (16.0, 4.0)


def test_evaluation_elsewhere_has_the_wrappers_of_the_training(own, capsys):
    flags = ["--env-wrappers", f"{own}:Plus(amount=3)"]
    assert main(["train", "ppo", "--env", CLOCK, *TINY, *flags, "--run-dir", "run"]) == 0
    capsys.readouterr()
    gym.register("test/LongClock-v0", gym.spec(CLOCK).entry_point, kwargs={"limit": 4, "cut": False})
    try:
        assert evaluated(capsys, "run", "--env", "test/LongClock-v0")["mean_reward"] == 16.0
    finally:
        del gym.registry["test/LongClock-v0"]


def test_comparisons_are_wrapped_and_know_no_optimum_of_the_unwrapped_problem(own, trained_here):
    flags = ["--env-wrappers", f"{own}:Plus(amount=100)", "--ent-coef", "0", "0.1", "--seeds", "1", "--workers", "1"]
    assert main(["compare", "ppo", "--env", "entropic_rl/Bandit-v0", *TINY, *flags, "--out", "out"]) == 0
    summaries = [json.loads(path.read_text()) for path in Path("out/cells").glob("*/summary.json")]
    assert len(summaries) == 2
    for summary in summaries:
        assert_wrapped_bandit(summary)


def test_stable_baselines3_agents_are_wrapped_and_know_no_optimum_of_the_unwrapped_problem(own, tmp_path):
    from entropic_rl.sb3.cell import train_sb3_cell

    wrappers = (f"{own}:Plus(amount=100)",)
    run = RunConfig(env="entropic_rl/Bandit-v0", total_timesteps=64, n_envs=2, eval_episodes=2, env_wrappers=wrappers)
    assert_wrapped_bandit(train_sb3_cell(Cell("sb3:A2C", run, settings_class("sb3:A2C")(n_steps=16), tmp_path / "run")))


def assert_wrapped_bandit(summary):
    assert summary["rollout/ep_rew_mean"] > 90.0
    assert summary["eval/mean_reward"] > 90.0
    assert summary["explore/n_states"] == 2  # observations are those of the bandit
    assert not [name for name in summary if name.startswith("optimum/")]


def test_stable_baselines3_takes_a_policy_of_wrapped_environments(own):
    from entropic_rl.sb3.convert import to_sb3

    flags = ["--env-wrappers", "gymnasium.wrappers:TimeAwareObservation(flatten=True)"]
    assert main(["train", "ppo", "--env", "CartPole-v1", *TINY, *flags, "--run-dir", "run"]) == 0
    assert to_sb3("run").observation_space.shape == (5,)
    assert to_sb3("run", "CartPole-v0").observation_space.shape == (5,)


# MiniGrid and Atari

IMAGE = ["minigrid.wrappers:ImgObsWrapper"]
EMPTY = ["--env", "MiniGrid-Empty-5x5-v0", "--gym-packages", "minigrid", "--env-kwargs", "max_steps=8"]


def test_minigrid_without_wrappers_suggests_one(capsys, tmp_path):
    assert main(["train", "ppo", *EMPTY, *TINY, "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unsupported observation space MissionSpace" in error
    assert "--env-wrappers" in error
    assert IMAGE[0] in error


@pytest.mark.parametrize(
    ("wrappers", "size"), [(IMAGE, 147), (["minigrid.wrappers:RGBImgPartialObsWrapper(tile_size=2)", *IMAGE], 588)]
)
def test_minigrid_trains_in_its_wrappers(capsys, tmp_path, wrappers, size):
    run = str(tmp_path / "run")
    assert main(["train", "ppo", *EMPTY, *TINY, "--env-wrappers", *wrappers, "--run-dir", run]) == 0
    capsys.readouterr()
    assert observation_spec(make_env("MiniGrid-Empty-5x5-v0", wrappers=wrappers).observation_space).size == size
    assert evaluated(capsys, run)["mean_ep_length"] <= 8


def test_atari_trains_in_its_preprocessing(capsys, tmp_path):
    pytest.importorskip("ale_py")
    pytest.importorskip("cv2")
    run = str(tmp_path / "run")
    flags = [
        "--env",
        "ALE/Pong-v5",
        "--gym-packages",
        "ale_py",
        "--env-wrappers",
        "gymnasium.wrappers:AtariPreprocessing",
    ]
    assert main(["train", "ppo", *flags, *TINY, "--run-dir", run]) == 2
    assert "Disable frame-skipping in the original env" in capsys.readouterr().err
    assert main(["train", "ppo", *flags, *TINY, "--env-kwargs", "frameskip=1", "--run-dir", run]) == 0
    capsys.readouterr()
    assert evaluated(capsys, run, "--max-steps", "20")["mean_ep_length"] == 20
