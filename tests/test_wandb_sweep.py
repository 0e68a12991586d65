"""The grid as a Weights & Biases sweep: what an agent on another machine trains is what the comparison would."""

import contextlib
import io
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from entropic_rl.cell import settings_class
from entropic_rl.cli import main
from entropic_rl.compare.grid import make_plan
from entropic_rl.compare.wandb_sweep import sweep, write_sweep
from entropic_rl.config import RunConfig, build, field_docs
from entropic_rl.errors import ConfigError, RunDirectoryError

OUT = Path("out")


def commands(content):
    """The words that ``wandb agent`` gives to the program for every run of a grid."""
    parameters = content["parameters"]
    before, after = ["${env}", "python", "${program}"], ["${args}"]
    assert content["command"][:3] == before
    assert content["command"][-1:] == after
    fixed = [str(word) for word in content["command"][3:-1]]
    assert not {f"--{name}" for name in parameters} & {*fixed}
    for values in itertools.product(*(parameter["values"] for parameter in parameters.values())):
        yield [*fixed, *(f"--{name}={value}" for name, value in zip(parameters, values, strict=True))]


def trained(content):
    """What ``train.py`` makes of each run of a sweep."""
    found = []
    for words in commands(content):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            assert main([*words, "--show-config"], verb="train") == 0
        values = yaml.safe_load(shown.getvalue())
        parts = [
            build(cls, {name: values.pop(name) for name in field_docs(cls)})
            for cls in (RunConfig, settings_class(words[0]))
        ]
        assert values == {}
        found.append((words[0], *parts))
    return found


def expected(plan):
    """What each cell of the plan trains with, tracked."""
    return [(cell.agent, replace(cell.run, track=True), cell.config) for cell in plan.cells(OUT)]


PLANS = {
    "a preset": lambda: make_plan(["ppo"], {"env": "CartPole-v1", "ent_coef": [0, 1e-3, "linear:0.1:0"]}, n_seeds=3),
    "several settings": lambda: make_plan(
        ["a2c"],
        {"env": "CartPole-v1", "ent_coef": [0.0, 0.1], "gamma": [0.9, 1.0], "n_steps": [5, 8], "n_envs": 2},
        n_seeds=2,
        preset_choice="none",
    ),
    "texts": lambda: make_plan(
        ["ppo"], {"env": "entropic_rl/Chain-v0", "activation": ["tanh", "relu"], "seed": 7}, n_seeds=1
    ),
    "one coefficient": lambda: make_plan(["ppo"], {"env": "CartPole-v1", "ent_coef": [0.1]}, n_seeds=1),
    "every other setting": lambda: make_plan(
        ["ppo"],
        {
            "env": "entropic_rl/Bandit-v0", "total_timesteps": 77, "n_envs": 4, "seed": 11, "env_kwargs": ODD,
            "gym_packages": ["a.b", "c"], "env_wrappers": ["a.b:C", "d:E(f='g h', i=(1, -2))"],
            "env_backend": "sync", "env_timeout": 2.5, "device": "cpu", "num_threads": 2, "kernel": "autograd",
            "cuda_graphs": True, "bf16": True,
            "eval_episodes": 3,
            "eval_max_steps": 5, "eval_freq": 6, "eval_seed": 8, "success_return": -1.5, "coverage": "a.b:C",
            "log_interval": 2, "checkpoint_every": 3, "checkpoint_seconds": 4.5, "diagnose": True, "diagnose_every": 7,
            "track": True, "wandb_mode": "offline", "wandb_project": "p", "wandb_entity": "e",
            "wandb_group": "g", "wandb_tags": ["t", "u v"], "tensorboard": True, "learning_rate": "cosine:0.001:1e-05",
            "n_steps": 16, "batch_size": 8, "n_epochs": 2, "gamma": 0.5, "gae_lambda": 0.25, "clip_range": 0.125,
            "clip_range_vf": 3.0, "normalize_advantage": False, "ent_coef": [0.0, 0.1], "vf_coef": 0.75,
            "frame_stack": 2, "features": "flat", "features_dim": 8, "recurrent": "lstm", "recurrent_size": 9,
            "sequence_length": 4, "entropy": "tsallis:2", "entropy_in": "reward", "ent_coef_unit": "reward",
            "max_grad_norm": 2.0, "target_kl": 0.01, "net_arch": [], "activation": "relu", "share_features": True,
            "log_std_init": -1.0, "squash_output": True, "normalize_obs": True, "normalize_reward": True,
        },
        n_seeds=2,
    ),
}  # fmt: skip
ODD = {
    "number": 1.5, "text": "a b", "like a number": "1", "like a switch": "yes", "none": None, "empty": "",
    "list": [1, [2]], "pairs": {"a": "b: c"}, "equals": "x=y", "sign": -3, "quotes": "'\"",
}  # fmt: skip


@pytest.mark.parametrize("case", PLANS)
def test_every_run_of_the_sweep_has_the_settings_of_a_cell(case):
    plan = PLANS[case]()
    content = yaml.safe_load(yaml.safe_dump(sweep(plan), sort_keys=False))
    assert trained(content) == expected(plan)


def test_all_settings_are_tried_above():
    plan = PLANS["every other setting"]()
    run, config = plan.bases["ppo", "entropic_rl/Bandit-v0"]
    plain_run, plain_config = RunConfig(env="-"), settings_class("ppo")()
    same = [name for name in RunConfig.__slots__ if getattr(run, name) == getattr(plain_run, name)]
    same += [name for name in plain_config.__slots__ if getattr(config, name) == getattr(plain_config, name)]
    assert same == ["ent_coef"]  # the first of its values is its default


@pytest.mark.parametrize(
    "value",
    [
        [i / 100 for i in range(40)], "long words " * 20, "two\nlines", "\u00e9\u4e2d",
        1e-05,
        "\U0001f600",
    ],
)  # fmt: skip
def test_odd_arguments_of_an_environment_are_whole(value):
    plan = make_plan(
        ["ppo"], {"env": "entropic_rl/Bandit-v0", "ent_coef": [0.1], "env_kwargs": {"x": value}}, n_seeds=1
    )
    assert trained(sweep(plan)) == expected(plan)


def test_value_that_no_flag_can_say_is_refused():
    plan = make_plan(["ppo"], {"env": "CartPole-v1", "target_kl": [None, 0.1]}, n_seeds=1)
    with pytest.raises(ConfigError, match="--target-kl"):
        sweep(plan)


def test_sweep_is_a_grid_that_maximises_the_return():
    content = sweep(PLANS["several settings"]())
    assert (content["program"], content["method"]) == ("scripts/train.py", "grid")
    assert content["metric"] == {"name": "eval/mean_reward", "goal": "maximize"}
    assert list(content["parameters"]) == ["ent-coef", "gamma", "n-steps", "seed"]
    assert content["parameters"]["gamma"] == {"values": [0.9, 1.0]}


@pytest.mark.parametrize(
    ("agents", "chosen", "together", "words"),
    [
        (["ppo", "a2c"], {"ent_coef": [0, 0.1]}, False, "expected one agent of this toolkit"),
        (["sb3:PPO"], {"ent_coef": [0, 0.1]}, False, "expected one agent of this toolkit"),
        (["ppo"], {"ent_coef": [0, 0.1], "gamma": [0.9, 1]}, True, "expected every combination, got --together"),
        (["ppo"], {"ent_coef": [0, 0.1], "env": ["CartPole-v1", "Acrobot-v1"]}, False, "expected one environment"),
    ],
)
def test_grid_that_no_sweep_can_say_is_refused(agents, chosen, together, words):
    plan = make_plan(agents, {"env": "CartPole-v1", **chosen}, n_seeds=1, together=together)
    with pytest.raises(ConfigError, match=rf"^--emit-wandb-sweep: {words}"):
        sweep(plan)


def test_one_setting_goes_together_with_itself():
    plan = make_plan(["ppo"], {"env": "CartPole-v1", "ent_coef": [0, 0.1]}, n_seeds=1, together=True)
    assert trained(sweep(plan)) == expected(plan)


# As a file


def test_command_writes_the_sweep_of_its_grid_and_nothing_else(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--env", "CartPole-v1", "--ent-coef", "0", "1e-2", "--seeds", "3", "--seed", "5"]
    assert main(["compare", "ppo", *words, "--emit-wandb-sweep", "sweep.yaml"]) == 0
    assert capsys.readouterr() == ("wrote sweep.yaml; start it with: wandb sweep sweep.yaml\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]
    plan = make_plan(["ppo"], {"env": "CartPole-v1", "ent_coef": [0, 0.01], "seed": 5}, n_seeds=3)
    assert yaml.safe_load(Path("sweep.yaml").read_text()) == sweep(plan)


@pytest.mark.parametrize(
    "path",
    [
        "nowhere/sweep.yaml",
        "folder",
        ".",
    ],
)
def test_file_that_cannot_be_written_is_told_and_leaves_nothing(monkeypatch, tmp_path, path):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(RunDirectoryError, match=r"^--emit-wandb-sweep: cannot write .*; choose another$"):
        write_sweep(PLANS["one coefficient"](), Path(path))
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]
