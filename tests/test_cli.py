"""The command line: what the verbs leave and print; every mistake is one line, exit code 2, nothing written."""

import json
import runpy
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml

from entropic_rl.cli import main

ROOT = Path(__file__).parents[1]
TINY = [
    "--preset", "none", "--total-timesteps", "128", "--n-envs", "2", "--eval-episodes", "4", "--no-progress",
    "--num-threads", "1", "--net-arch", "8", "--n-steps", "32",
]  # fmt: skip
PPO = [*TINY, "--batch-size", "32", "--n-epochs", "1"]
TRAIN = ["train", "ppo", "--env", "CartPole-v1", *PPO]
COMPARE = ["compare", "ppo", "--env", "CartPole-v1", *PPO]
FILES = {
    ".lock",
    "checkpoints",
    "config.json", "metrics.jsonl", "summary.json", "policy.json", "policy.safetensors", "learning_curve.svg",
    "entropy.svg", "exploration.npz",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_an_empty_directory(monkeypatch, tmp_path):
    place = tmp_path / "cwd"
    place.mkdir()
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished training."""
    directory = tmp_path_factory.mktemp("train") / "run"
    assert main([*TRAIN, "--ent-coef", "0.01", "--seed", "5", "--run-dir", str(directory)]) == 0
    return directory


def assert_refused(capsys, arguments, *words, verb=None):
    """One line on stderr that has the words; exit code 2; nothing on stdout; nothing written."""
    before = set(Path().rglob("*"))
    assert main(arguments, verb=verb) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert set(Path().rglob("*")) == before
    return err


# train


def test_train_leaves_a_run_directory(run_dir):
    assert {path.name for path in run_dir.iterdir()} == FILES
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["seed"], summary["ent_coef"], summary["global_step"]) == (5, 0.01, 128)


def test_train_prints_its_result_and_where_the_record_is(capsys):
    assert main([*TRAIN, "--run-dir", "here"]) == 0
    out, err = capsys.readouterr()
    for word in ("CartPole-v1", "return", "entropy", "states met", "first success", "none yet", "per second", "here"):
        assert word in out
    assert err == ""


def test_train_without_a_run_directory_makes_one_under_runs(capsys):
    assert main(["train", "a2c", "--env", "CartPole-v1", *TINY, "--seed", "4"]) == 0
    [directory] = Path("runs").iterdir()
    assert directory.name.startswith("CartPole-v1__a2c__4__")
    assert {path.name for path in directory.iterdir()} == FILES


def test_train_takes_a_new_or_an_empty_directory(capsys):
    Path("empty").mkdir()
    assert main([*TRAIN, "--run-dir", "empty"]) == 0
    assert {path.name for path in Path("empty").iterdir()} == FILES


@pytest.mark.usefixtures("no_figures")
def test_progress_goes_to_stderr(capsys):
    arguments = [argument for argument in TRAIN if argument != "--no-progress"]
    assert main([*arguments, "--run-dir", "run"]) == 0
    out, err = capsys.readouterr()
    assert "steps/s" in err
    assert "steps/s" not in out


def test_show_config_prints_settings_that_can_be_given_back(capsys):
    arguments = ["train", "ppo", "--env", "CartPole-v1", "--ent-coef", "0.02", "--show-config"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    settings = yaml.safe_load(text)
    assert settings["env"] == "CartPole-v1"
    assert (settings["ent_coef"], settings["n_steps"], settings["clip_range"]) == (0.02, 32, "linear:0.2:0")
    assert not list(Path().iterdir())
    Path("settings.yaml").write_text(text)
    assert main(["train", "ppo", "--preset", "none", "--config", "settings.yaml", "--show-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == settings


@pytest.mark.parametrize(
    ("agent", "env", "flags"),
    [
        ("ppo", "entropic_rl/CartPolePositions-v1", ["--recurrent", "lstm", "--sequence-length", "12"]),
        ("a2c", "entropic_rl/CartPolePositions-v1", ["--recurrent", "gru", "--normalize-obs"]),
        ("ppo", "entropic_rl/Catch-v0", ["--frame-stack", "2"]),
        ("a2c", "CartPole-v1", ["--frame-stack", "3", "--features", "attention", "--features-dim", "8"]),
        ("discrete-sac", "entropic_rl/Catch-v0", ["--learning-starts", "60", "--train-freq", "32"]),
        ("sac", "Pendulum-v1", ["--frame-stack", "2", "--features", "attention", "--learning-starts", "100"]),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_what_an_agent_sees_and_remembers_is_trained_and_evaluated(capsys, agent, env, flags):
    small = [flag for flag in TINY if flag not in ("--n-steps", "32")] if "sac" in agent else TINY
    small = [*small, *{"ppo": ["--batch-size", "32", "--n-epochs", "1"], "a2c": []}.get(agent, ["--batch-size", "16"])]
    small = [*small, "--eval-episodes", "2"]
    assert main(["train", agent, "--env", env, *small, *flags, "--run-dir", "run", "--eval-seed", "3"]) == 0
    capsys.readouterr()
    trained = json.loads(Path("run/summary.json").read_text())
    assert main(["evaluate", "run", "--episodes", "2", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean_reward"] == trained["eval/mean_reward"]
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert all(row.get("explore/n_states", 1) > 0 for row in rows)
    assert not [name for name in trained if name.startswith("optimum/")]


@pytest.mark.usefixtures("no_figures")
def test_agents_that_see_differently_are_compared(capsys, trained_here):
    views = ["--together", "--frame-stack", "1", "2", "--recurrent", "gru", "none"]
    assert main([*COMPARE, *views, "--seeds", "1", "--parallel", "batch", "--out", "out"]) == 0
    summaries = [json.loads(path.read_text()) for path in Path("out/cells").glob("*/summary.json")]
    assert len(summaries) == 2


@pytest.mark.usefixtures("no_figures")
def test_exact_optima_are_not_told_of_policies_that_remember(capsys):
    chain = [flag if flag != "CartPole-v1" else "entropic_rl/Chain-v0" for flag in TRAIN]
    for flags, told in (([], True), (["--recurrent", "gru"], False), (["--frame-stack", "2"], False)):
        directory = Path("run" + "".join(flags))
        assert main([*chain, *flags, "--ent-coef", "0.1", "--run-dir", str(directory)]) == 0
        assert ("optimum/kl" in json.loads((directory / "summary.json").read_text())) is told


def test_interrupted_training_says_so_and_exits_with_130(capsys, monkeypatch):
    def interrupted(self, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr("entropic_rl.agents.ppo.PPO.update", interrupted)
    assert main([*TRAIN, "--run-dir", "run"]) == 130
    assert capsys.readouterr().err == "entropic-rl train: interrupted\n"


@pytest.mark.usefixtures("no_figures")
def test_environments_of_other_packages_are_found(capsys, monkeypatch):
    Path("my_envs.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "gym.register('mine/Pole-v0', CartPoleEnv, max_episode_steps=20)\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    try:
        arguments = ["train", "ppo", "--env", "mine/Pole-v0", "--gym-packages", "my_envs", *PPO, "--run-dir", "run"]
        assert main(arguments) == 0
        assert main(["evaluate", "run", "--episodes", "3", "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean_reward"] <= 20
    finally:
        gym.registry.pop("mine/Pole-v0", None)
        sys.modules.pop("my_envs", None)


# Batched environments and exploration

DEEP_SEA = ["train", "ppo", "--env", "entropic_rl/DeepSea-v0", "--env-kwargs", "size=4", *PPO]
ENTROPY = {f"explore/policy_entropy{which}" for which in ("", "_q10", "_q50", "_q90")}
EXPLORE = {
    "explore/coverage", "explore/n_states", "explore/visitation_entropy", "explore/action_entropy", *ENTROPY,
}  # fmt: skip


@pytest.fixture(scope="module")
def deep_sea(tmp_path_factory):
    """A finished training on a batched environment with exact states."""
    directory = tmp_path_factory.mktemp("deep-sea") / "run"
    assert main([*DEEP_SEA, "--run-dir", str(directory)]) == 0
    return directory


def metric_names(directory, prefix="explore/"):
    """Of all rows, those in every row."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    return set.intersection(*({name for name in row if name.startswith(prefix)} for row in rows))


def test_training_records_exploration(deep_sea):
    # the first reward and the first success may not have happened in so short a run
    assert metric_names(deep_sea) - {"explore/first_reward", "explore/first_success"} == EXPLORE
    last = json.loads((deep_sea / "metrics.jsonl").read_text().splitlines()[-1])
    # 128 steps are 32 dives of 4 steps; there are 4 + 3 + 2 + 1 cells and the end
    assert last["rollout/n_episodes"] == 32
    assert last["explore/coverage"] == last["explore/n_states"] / 11
    assert 5 <= last["explore/n_states"] <= 11
    assert json.loads((deep_sea / "summary.json").read_text()).items() >= {name: last[name] for name in EXPLORE}.items()


def test_visits_of_each_state_are_kept(deep_sea):
    last = json.loads((deep_sea / "summary.json").read_text())
    with np.load(deep_sea / "exploration.npz") as kept:
        visits, first_visit = kept["visits"], kept["first_visit"]
    # both environments' first states, then one per step and one more per end of a dive
    assert visits.sum() == 2 + 128 + 32
    assert (visits > 0).sum() == last["explore/n_states"]
    assert ((first_visit >= 0) == (visits > 0)).all()


def test_what_the_environment_settles_is_in_the_settings_of_the_run(deep_sea):
    settings = json.loads((deep_sea / "config.json").read_text())
    assert (settings["env_backend"], settings["success_return"]) == ("batched", 0.9)
    assert settings["env_kwargs"] == {"size": 4}


def test_evaluate_plays_the_environment_of_the_training(deep_sea, capsys):
    assert main(["evaluate", str(deep_sea), "--episodes", "3", "--stochastic", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["env"], len(result["returns"])) == ("entropic_rl/DeepSea-v0", 3)
    assert result["mean_ep_length"] == 4.0


@pytest.mark.usefixtures("no_figures")
def test_backend_changes_no_training_on_an_environment_of_ours(deep_sea):
    assert main([*DEEP_SEA, "--env-backend", "sync", "--run-dir", "run"]) == 0
    own, other = ((place / "metrics.jsonl").read_text().splitlines() for place in (deep_sea, Path("run")))
    for line, expected in zip(own, other, strict=True):
        row, same = json.loads(line), json.loads(expected)
        assert {k: v for k, v in row.items() if "time/" not in k} == {k: v for k, v in same.items() if "time/" not in k}


@pytest.mark.usefixtures("no_figures")
def test_coverage_off_leaves_the_entropy_of_the_policy_alone(capsys):
    assert main([*DEEP_SEA, "--coverage", "off", "--run-dir", "run"]) == 0
    assert metric_names(Path("run")) == ENTROPY | {"explore/first_success"}
    with np.load("run/exploration.npz") as kept:  # its policy beside the exact one, which needs no counting
        assert not {"visits", "first_visit"} & set(kept)


@pytest.mark.usefixtures("no_figures")
def test_own_cells_of_a_module_where_the_command_is_run_are_counted(capsys, monkeypatch):
    Path("cells_beside_the_command.py").write_text(
        "from entropic_rl.exploration import Cells\nALL_ONE = Cells(1, lambda obs: obs[..., 0].long() * 0)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert main([*DEEP_SEA, "--coverage", "cells_beside_the_command:ALL_ONE", "--run-dir", "run"]) == 0
    finally:
        sys.modules.pop("cells_beside_the_command", None)
    assert json.loads(Path("run/summary.json").read_text())["explore/n_states"] == 1


# evaluate


def test_evaluate_prints_mean_deviation_and_interval(run_dir, capsys):
    assert main(["evaluate", str(run_dir), "--episodes", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("CartPole-v1: ")
    assert "over 3 deterministic episodes (95 % interval of the mean [" in out


@pytest.mark.parametrize("flags", [[], ["--stochastic"]])
def test_evaluate_json_is_one_object(run_dir, capsys, flags):
    assert main(["evaluate", str(run_dir), "--episodes", "3", "--json", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["episodes"] == len(result["returns"]) == 3
    assert result["mean_reward"] == pytest.approx(sum(result["returns"]) / 3)
    assert result["std_reward"] >= 0
    assert result["deterministic"] is not bool(flags)


def test_evaluate_repeats_exactly_by_seed(run_dir, capsys):
    outputs = []
    for seed in ("1", "1", "2"):
        assert main(["evaluate", str(run_dir), "--episodes", "8", "--stochastic", "--seed", seed, "--json"]) == 0
        outputs.append(json.loads(capsys.readouterr().out)["returns"])
    assert outputs[0] == outputs[1] != outputs[2]


def test_evaluate_needs_no_more_than_the_run_directory(run_dir, capsys):
    (Path("copy")).mkdir()
    for name in ("config.json", "policy.json", "policy.safetensors"):
        (Path("copy") / name).write_bytes((run_dir / name).read_bytes())
    assert main(["evaluate", "copy", "--episodes", "2"]) == 0


def test_evaluate_refuses_a_policy_for_another_env(run_dir, capsys):
    arguments = ["evaluate", str(run_dir), "--env", "Acrobot-v1"]
    assert_refused(capsys, arguments, "trained for 4 observation", "6 observation", "evaluate it on the env")


def test_evaluate_refuses_directories_without_a_policy(run_dir, capsys):
    assert_refused(capsys, ["evaluate", "nowhere"], "no run directory nowhere", "expected")
    Path("empty").mkdir()
    assert_refused(capsys, ["evaluate", "empty"], "no config.json in empty", "expected a run directory")
    (Path("empty") / "config.json").write_text('{"agent": "sarsa"}')
    assert_refused(
        capsys,
        ["evaluate", "empty"],
        "expected an agent of ['ppo', 'a2c', 'sac', 'discrete-sac', 'soft-q'], got 'sarsa'",
    )
    (Path("empty") / "config.json").write_bytes((run_dir / "config.json").read_bytes())
    assert_refused(capsys, ["evaluate", "empty"], "no policy.json in empty")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--episodes", "0"], ["--episodes: expected at least 1, got 0"]),
        (["--episodes", "x"], ["--episodes", "'x'"]),
        (["--seed", "-1"], ["--seed: expected at least 0, got -1"]),
        (["--seed", str(2**70)], ["seed", str(2**70), "expected"]),
        (["--device", "abacus"], ["device", "abacus", "expected"]),
        (["--device", "cuda:x"], ["device", "cuda:x", "expected"]),
        (["--render", "--video", "films"], ["--render and --video"]),
        (["--episode", "3"], ["unknown argument '--episode'; did you mean '--episodes'?"]),
        (["--env", "CartPoole-v1"], ["unknown env id 'CartPoole-v1'", "did you mean 'CartPole-v1'?"]),
    ],
)
def test_evaluate_refuses_bad_flags(run_dir, capsys, flags, words):
    assert_refused(capsys, ["evaluate", str(run_dir), *flags], *words)


def test_video_without_moviepy_names_the_pip_install(run_dir, capsys, monkeypatch):
    monkeypatch.setattr("entropic_rl.evaluate_run.find_spec", lambda name: None)
    arguments = ["evaluate", str(run_dir), "--video", "films"]
    assert_refused(capsys, arguments, "--video needs moviepy", "pip install", "entropic-rl[video]")


# Bad input

BAD = {
    "unknown env": (["--env", "CartPoole-v1"], ["'CartPoole-v1'", "expected", "did you mean 'CartPole-v1'?"]),
    "negative coefficient": (["--ent-coef", "-0.5"], ["ent_coef: expected >= 0, got -0.5"]),
    "NaN coefficient": (["--ent-coef", "nan"], ["ent_coef: ", "expected", "nan"]),
    "infinite coefficient": (["--ent-coef", "inf"], ["ent_coef: ", "expected", "inf"]),
    "negative schedule": (["--ent-coef", "linear:0.1:-1"], ["ent_coef: expected >= 0, got linear:0.1:-1"]),
    "batch": (["--batch-size", "999"], ["batch_size: expected at most", "got 999", "lower --batch-size or raise"]),
    "unknown flag": (["--ent-coeff", "0"], ["unknown argument '--ent-coeff'; did you mean '--ent-coef'?"]),
    "abbreviated flag": (["--total", "5"], ["unknown argument '--total'"]),
    "no number": (["--n-steps", "many"], ["n_steps: expected a valid integer", "got 'many'"]),
    "zero steps": (["--total-timesteps", "0"], ["total_timesteps: expected", "got 0"]),
    "negative seed": (["--seed", "-1"], ["seed: expected", "got -1"]),
    "unknown device": (["--device", "abacus"], ["device: expected auto, cpu, cuda or cuda:N, got 'abacus'"]),
    "unknown argument of the env": (["--env-kwargs", "gravitas=9"], ["'gravitas'", "check --env-kwargs"]),
    "missing package": (["--gym-packages", "no_such_pkg"], ["--gym-packages: cannot import 'no_such_pkg'", "install"]),
    "unsupported action space": (["--env", "test/Oddity-v0"], ["unsupported action space Text", "expected Discrete"]),
    "unsupported observation space": (
        ["--env", "test/Oddity-v0", "--env-kwargs", "odd=observation"],
        ["unsupported observation space Text", "expected Box"],
    ),
    "no batched version": (
        ["--env", "FrozenLake-v1", "--env-backend", "batched"],
        ["'FrozenLake-v1'", "no batched version", "entropic_rl/DeepSea-v0", "use --env-backend sync"],
    ),
    "unknown backend": (["--env-backend", "threads"], ["--env-backend", "'threads'", "'batched'"]),
    "argument out of range": (
        ["--env", "entropic_rl/DeepSea-v0", "--env-kwargs", "size=1"],
        ["size: expected a whole number of at least 2, got 1", "check --env-kwargs"],
    ),
    "coverage": (["--coverage", "nonsense"], ["coverage: expected", "'nonsense'"]),
    "coverage of no module": (
        ["--coverage", "no_such_module:CELLS"],
        ["--coverage no_such_module:CELLS: cannot be imported", "expected MODULE:NAME"],
    ),
    "coverage of a relative module": (["--coverage", ".cells:CELLS"], ["coverage", ".cells:CELLS", "expected"]),
    "coverage by something else": (["--coverage", "math:pi"], ["--coverage math:pi: expected", "Cells, got float"]),
    "convolutions of vectors": (["--features", "cnn"], ["features: cnn needs images, got 4 numbers", "flat"]),
    "attention to one observation": (["--features", "attention"], ["features: attention", "--frame-stack 8"]),
    "no observation": (["--frame-stack", "0"], ["frame_stack: expected", "got 0"]),
    "unknown memory": (["--recurrent", "rnn"], ["--recurrent", "'rnn'", "'gru'"]),
    "unknown preset": (["--preset", "nowhere"], ["--preset: expected auto, none or one of", "got 'nowhere'"]),
    "missing yaml": (["--config", "nope.yaml"], ["--config: cannot read nope.yaml"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_of_train_is_one_line_and_leaves_nothing(capsys, case):
    flags, words = BAD[case]
    err = assert_refused(capsys, [*TRAIN, *flags, "--run-dir", "run"], *words)
    assert err.startswith("entropic-rl train: error: ")


@pytest.mark.parametrize("case", [case for case in BAD if "--ent-coef" not in BAD[case][0]])
def test_bad_input_of_compare_is_one_line_and_leaves_nothing(capsys, request, stand_in, case):
    flags, words = BAD[case]
    processes = []
    if case == "coverage of no module":  # to import a module may take torch: a worker finds it, here a real one
        flags = [*flags, "--parallel", "batch"]
    elif case == "coverage by something else":
        request.getfixturevalue("trained_here")
    else:
        processes = stand_in("")
    err = assert_refused(capsys, [*COMPARE, "--ent-coef", "0", "1", *flags, "--out", "out"], *words)
    assert err.startswith("entropic-rl compare: error: ")
    assert processes == []


def test_unknown_key_in_a_yaml_file_is_refused_with_a_suggestion(capsys):
    Path("settings.yaml").write_text("ent_koef: 0.1\n")
    words = ["settings.yaml has unknown key 'ent_koef'; did you mean 'ent_coef'?"]
    assert_refused(capsys, [*TRAIN, "--config", "settings.yaml", "--run-dir", "run"], *words)


def test_missing_extra_names_the_pip_install(capsys):
    def make():
        raise gym.error.DependencyNotInstalled("Box2D is not installed")

    gym.register("test/NeedsBox2D-v0", make)
    try:
        arguments = ["train", "ppo", "--env", "test/NeedsBox2D-v0", *PPO, "--run-dir", "run"]
        assert_refused(capsys, arguments, 'pip install "entropic-rl[box2d]"')
    finally:
        del gym.registry["test/NeedsBox2D-v0"]


def test_env_that_fails_on_its_arguments_is_told_in_one_line(capsys):
    arguments = ["train", "ppo", "--env", "FrozenLake-v1", "--env-kwargs", "map_name=nope", *PPO, "--run-dir", "run"]
    assert_refused(capsys, arguments, "FrozenLake-v1", "nope", "--env-kwargs")


def test_full_run_directory_is_refused_and_left_as_it_is(capsys):
    Path("full").mkdir()
    (Path("full") / "notes.txt").write_text("mine")
    words = ["run directory full is not empty", "expected a new or empty one", "choose another"]
    assert_refused(capsys, [*TRAIN, "--run-dir", "full"], *words)
    assert_refused(capsys, [*COMPARE, "--ent-coef", "0", "1", "--out", "full"], *words)
    assert (Path("full") / "notes.txt").read_text() == "mine"


def test_run_directory_under_a_file_is_refused(capsys):
    Path("file").touch()
    assert_refused(capsys, [*TRAIN, "--run-dir", "file"], "file", "is a file", "choose another")
    assert_refused(capsys, [*TRAIN, "--run-dir", "file/run"], "is a file", "choose another")


def test_run_directory_that_cannot_be_written_is_refused(capsys, monkeypatch):
    Path("closed").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    assert_refused(capsys, [*TRAIN, "--run-dir", "closed"], "closed cannot be written", "choose another")
    assert_refused(capsys, [*TRAIN, "--run-dir", "closed/run"], "cannot be written", "choose another")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no directories")
def test_run_directory_that_the_system_refuses_to_make_is_told_in_one_line(capsys):
    assert_refused(capsys, [*TRAIN, "--run-dir", "/proc/run"], "/proc/run", "choose another")


@pytest.mark.parametrize("device", ["cuda", "cuda:99"])
def test_unavailable_device_is_refused(capsys, monkeypatch, device):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = [f"--device {device} is not available here", "use --device cpu"]
    assert_refused(capsys, [*TRAIN, "--device", device, "--run-dir", "run"], *words)


def test_missing_env_is_told(capsys):
    assert_refused(capsys, ["train", "ppo", "--run-dir", "run"], "env is missing: give --env")


@pytest.mark.parametrize("arguments", [[], ["dance"], ["train"], ["train", "sarsa"], ["compare", "resume"]])
def test_incomplete_commands_are_told(capsys, arguments):
    err = assert_refused(capsys, arguments, "error: ")
    assert err.rstrip().endswith("--help)")


def test_scripts_name_themselves_in_errors(capsys):
    err = assert_refused(capsys, ["ppo", "--env", "CartPoole-v1"], "CartPoole", verb="train")
    assert err.startswith("train.py: error: ")


# Help, version, scripts


@pytest.mark.parametrize("agent", ["ppo", "a2c"])
@pytest.mark.parametrize("verb", ["train", "compare"])
def test_help_of_an_agent_lists_its_settings(capsys, verb, agent):
    with pytest.raises(SystemExit) as caught:
        main([verb, agent, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--env", "--total-timesteps", "--ent-coef", "--seed", "--learning-rate", "--wandb-mode", "--preset"):
        assert flag in text
    assert ("--clip-range" in text) is (agent == "ppo")


def test_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == metadata.version("entropic-rl")


def test_help_and_config_errors_load_nothing_heavy():
    code = """
import contextlib, io, json, sys
from entropic_rl.cli import main
commands = [[]]
for verb in ("train", "compare"):
    commands += [[verb, "--help"], [verb, "ppo", "--help"], [verb, "a2c", "--help"]]
for agent in ("ppo", "a2c"):
    for flags in (["--env", "CartPoole-v1"], ["--env", "CartPole-v1", "--gamma", "7"], ["--nope"], ["--device", "gpu"],
                  ["--env", "CartPole-v1", "--config", "nope.yaml"], ["--env", "CartPole-v1", "--show-config"]):
        commands += [["train", agent, *flags], ["compare", agent, "--ent-coef", "0", "--out", "x", *flags]]
for verb in ("resume", "add", "summary"):
    commands += [["compare", verb, "--help"], ["compare", verb, "nowhere"], ["compare", verb]]
commands += [["compare", *words, "--help"] for words in (["ppo", "a2c"], ["ppo", "sb3:PPO"], ["--agent", "sb3:A2C"])]
commands += [["compare"], ["compare", "sarsa"], ["compare", "ppo", "--env", "CartPole-v1"], ["compare", "--agent"]]
commands += [["compare", "ppo", "--env", "CartPole-v1", "--ent-coef", "0", "--emit-wandb-sweep", "nowhere/x"]]
commands += [["evaluate", "--help"], ["evaluate", "nowhere"], ["--version"]]
pool = ["active-learning", "--pool"]
commands += [pool[:1], [*pool, "--help"], [*pool, "no.csv", "--labels", "x"], [*pool, "no.csv", "--ask"]]
codes = []
for command in commands:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            codes.append(main(command))
        except SystemExit as stop:
            codes.append(stop.code)
heavy = {"torch", "stable_baselines3", "wandb", "matplotlib", "tensorboard"} & set(sys.modules)
print(json.dumps({"heavy": sorted(heavy), "codes": sorted(set(codes))}))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == {"heavy": [], "codes": [0, 2]}


def run_script(monkeypatch, name, *arguments):
    """Run a script in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / name), *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    return stop.value.code


@pytest.mark.usefixtures("no_figures")
def test_scripts_train_compare_and_evaluate(capsys, monkeypatch, trained_here):
    assert run_script(monkeypatch, "train.py", *TRAIN[1:], "--run-dir", "run") == 0
    flags = ["--ent-coef", "1", "--seeds", "1", "--out", "out"]
    assert run_script(monkeypatch, "compare.py", *COMPARE[1:], *flags) == 0
    capsys.readouterr()
    assert run_script(monkeypatch, "evaluate.py", "out/cells/ent_coef_1__seed_0", "--episodes", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert json.loads(Path("run/config.json").read_text())["command"] == ["train.py", *TRAIN[1:], "--run-dir", "run"]
    assert json.loads(Path("out/sessions.jsonl").read_text())["command"] == ["compare.py", *COMPARE[1:], *flags]


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.py")))
def test_every_script_has_help_and_refuses_nonsense(capsys, monkeypatch, script):
    assert run_script(monkeypatch, script, "--help") == 0
    assert script in capsys.readouterr().out
    assert run_script(monkeypatch, script, "--nonsense") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("*.py")))
def test_scripts_are_thin(script):
    assert len((ROOT / "scripts" / script).read_text().splitlines()) < 80
