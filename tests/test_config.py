"""Settings: layers, ranges, YAML, presets, and messages that say what to do."""

import dataclasses

import pytest

from entropic_rl.agents.config import AGENT_CONFIGS, A2CConfig, PPOConfig, check_batch_size
from entropic_rl.config import RunConfig, build, field_docs, jsonable, load_yaml, suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings
from entropic_rl.presets import PRESETS, preset
from entropic_rl.resolve import resolve
from entropic_rl.schedules import parse_coefficient

CLASSES = [RunConfig, *AGENT_CONFIGS.values()]
every_class = pytest.mark.parametrize("cls", CLASSES)


def resolved(agent, *flags, preset="auto", config=None):
    """What the command line makes of flags, a preset and a file."""
    parser = Parser()
    parser.add_argument("--config")
    parser.add_argument("--preset")
    add_settings(parser, RunConfig, "run")
    add_settings(parser, AGENT_CONFIGS[agent], "agent")
    args = parser.parse([*flags, "--preset", preset, *(["--config", str(config)] if config else [])])
    return resolve(agent, args)


def yaml_file(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


# Fields


@every_class
def test_every_field_has_help(cls):
    docs = field_docs(cls)
    assert docs.keys() == {field.name for field in dataclasses.fields(cls)}
    assert [name for name, doc in docs.items() if len(doc) < 5] == []


@every_class
def test_settings_are_frozen(cls):
    config = cls(env="CartPole-v1") if cls is RunConfig else cls()
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, getattr(config, name))


@every_class
def test_settings_survive_json_and_back(cls):
    config = cls(env="CartPole-v1") if cls is RunConfig else cls()
    assert build(cls, jsonable(config)) == config


def test_defaults_are_those_of_stable_baselines3():
    assert PPOConfig() == PPOConfig(
        learning_rate=3e-4, n_steps=2048, batch_size=64, n_epochs=10, gamma=0.99, gae_lambda=0.95, clip_range=0.2,
        clip_range_vf=None, normalize_advantage=True, ent_coef=0.0, vf_coef=0.5, max_grad_norm=0.5, target_kl=None,
        net_arch=(64, 64), activation="tanh", share_features=False,
    )  # fmt: skip
    assert A2CConfig() == A2CConfig(
        learning_rate=7e-4, n_steps=5, gamma=0.99, gae_lambda=1.0, normalize_advantage=False, ent_coef=0.0,
        vf_coef=0.5, max_grad_norm=0.5, net_arch=(64, 64), activation="tanh", share_features=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ent_coef", -0.1, "ent_coef: expected >= 0, got -0.1"),
        ("ent_coef", "nan", "ent_coef: .*'nan'"),
        ("ent_coef", float("nan"), "ent_coef: .*nan"),
        ("ent_coef", float("inf"), "ent_coef: .*inf"),
        ("ent_coef", "linear:0.1:-0.1", "ent_coef: expected >= 0, got linear:0.1:-0.1"),
        ("ent_coef", "linear:0.1:nan", "ent_coef: .*expected a|finite"),
        ("ent_coef", "ramp:0.1:0", "ent_coef: .*linear.*'?ramp"),
        (
            "ent_coef",
            "much",
            "ent_coef: expected a number, a schedule such as linear:0.01:0, target:NATS or auto, got 'much'",
        ),
        ("learning_rate", 0.0, "learning_rate: expected > 0, got 0"),
        ("gamma", 1.01, "gamma: expected less than or equal to 1, got 1.01"),
        ("gamma", float("nan"), "gamma: .* got NaN"),
        ("n_steps", 0, "n_steps: expected greater than or equal to 1, got 0"),
        ("n_steps", 2.5, "n_steps: expected a valid integer.* got 2.5"),
        ("max_grad_norm", "big", "max_grad_norm: expected a valid number.* got 'big'"),
        ("target_kl", -1, "target_kl: expected greater than 0, got -1"),
        ("activation", "tan", "activation: expected 'tanh', .* got 'tan'"),
        ("net_arch", [64, 0], "net_arch: expected greater than or equal to 1, got 0"),
        ("log_std_init", float("inf"), "log_std_init: expected a finite number, got inf"),
        ("n_step", 3, r"unknown setting 'n_step'; did you mean 'n_steps'\?"),
    ],
)
def test_wrong_value_is_named_with_what_was_expected_and_what_came(name, value, words):
    with pytest.raises(ConfigError, match=words) as caught:
        build(PPOConfig, {name: value})
    assert "\n" not in str(caught.value)


def test_every_violation_is_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        build(PPOConfig, {"gamma": 2.0, "n_steps": 0, "entcoef": 1.0})
    assert all(name in str(caught.value) for name in ("gamma", "n_steps", "'entcoef'"))


def test_settings_built_in_python_are_checked_too():
    with pytest.raises(ValueError, match="ent_coef"):
        PPOConfig(ent_coef=-1.0)


def test_replacing_a_field_checks_it():
    with pytest.raises(ValueError, match="ent_coef"):
        dataclasses.replace(PPOConfig(), ent_coef=-1.0)


@pytest.mark.parametrize("name", ["env", "device", "seed", "env_backend", "wandb_mode"])
def test_wrong_run_settings_are_named(name):
    values = {"env": "CartPole-v1"} | {name: {"env": "", "seed": -1}.get(name, "nonsense")}
    with pytest.raises(ConfigError, match=f"^{name}: .*got"):
        build(RunConfig, values)


def test_missing_env_says_which_flag_to_give():
    with pytest.raises(ConfigError, match="env is missing: give --env"):
        build(RunConfig, {})


def test_constant_schedules_become_numbers_and_others_stay_text():
    assert PPOConfig(ent_coef="0.5").ent_coef == 0.5
    assert PPOConfig(ent_coef="constant:0.5").ent_coef == 0.5
    assert PPOConfig(ent_coef="linear:0.5:0").ent_coef == "linear:0.5:0"


def test_batch_larger_than_a_rollout_is_refused_with_both_sizes_and_both_remedies():
    check_batch_size(64, 32, 2)
    with pytest.raises(
        ConfigError, match=r"n_steps \* n_envs = 32 \* 2 = 64, got 65; lower --batch-size or raise --n-steps"
    ):
        check_batch_size(65, 32, 2)


def test_suggestion_names_the_closest_and_is_silent_about_the_rest():
    assert suggestion("gama", ["gamma", "seed"]) == "; did you mean 'gamma'?"
    assert suggestion("xyz", ["gamma", "seed"]) == ""


# YAML


def test_yaml_reads_scientific_notation_as_numbers(tmp_path):
    path = yaml_file(tmp_path, "learning_rate: 1e-3\nent_coef: 5e-2\nmax_grad_norm: 1e9\n")  # text to YAML 1.1
    _, config = resolved("ppo", "--env", "test/Bandit-v0", config=path)
    assert (config.learning_rate, config.ent_coef, config.max_grad_norm) == (1e-3, 5e-2, 1e9)


def test_yaml_keys_may_be_spelled_like_flags(tmp_path):
    assert load_yaml(yaml_file(tmp_path, "ent-coef: 0.1\nn_steps: 8"), ["ent_coef", "n_steps"]) == {
        "ent_coef": 0.1,
        "n_steps": 8,
    }


def test_empty_yaml_changes_nothing(tmp_path):
    assert load_yaml(yaml_file(tmp_path, "# nothing\n"), ["ent_coef"]) == {}


def test_env_may_come_from_the_file_and_brings_its_preset(tmp_path):
    run, config = resolved(
        "ppo", config=yaml_file(tmp_path, "env: CartPole-v1\nenv_kwargs: {sutton_barto_reward: true}")
    )
    assert (run.env, run.n_envs, run.env_kwargs) == ("CartPole-v1", 8, {"sutton_barto_reward": True})
    assert config.n_steps == 32


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ent_coeff: 1", r"unknown key 'ent_coeff'; did you mean 'ent_coef'\?"),
        ("- 1\n- 2", "must hold settings as NAME: VALUE, got a list"),
        ("just words", "must hold settings as NAME: VALUE, got a str"),
        ("a: [1", "is not YAML"),
        ("ent_coef: -1", "ent_coef: expected >= 0, got -1"),
        ("n_envs: many", "n_envs: expected a valid integer.*got 'many'"),
        ("env: null", "env: expected .*got None"),
        ("net_arch: 64", "net_arch: expected .*got 64"),
    ],
)
def test_bad_yaml_is_told_in_one_line(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        resolved("ppo", *([] if "env:" in text else ["--env", "CartPole-v1"]), config=yaml_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_yaml_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--config: cannot read .*nope\.yaml: No such file"):
        load_yaml(tmp_path / "nope.yaml", [])


def test_binary_yaml_file_is_told_in_one_line(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match=r"--config: .* is not YAML") as caught:
        load_yaml(path, [])
    assert "\n" not in str(caught.value)


# Layers


def test_layers_are_defaults_then_preset_then_file_then_flags(tmp_path):
    path = yaml_file(tmp_path, "n_epochs: 7\ngamma: 0.5\nseed: 9")
    run, config = resolved("ppo", "--env", "CartPole-v1", "--gamma", "0.25", config=path)
    assert config.vf_coef == 0.5  # default, not in the preset
    assert config.gae_lambda == 0.8  # preset over default
    assert config.n_epochs == 7  # file over preset
    assert config.gamma == 0.25  # flag over file and preset
    assert (run.n_envs, run.seed) == (8, 9)


def test_preset_none_leaves_the_defaults():
    run, config = resolved("ppo", "--env", "CartPole-v1", preset="none")
    assert run == RunConfig(env="CartPole-v1")
    assert config == PPOConfig()


def test_preset_of_another_env_can_be_asked_for():
    run, config = resolved("ppo", "--env", "test/Bandit-v0", preset="CartPole-v1")
    assert (run.env, run.n_envs, config.n_steps) == ("test/Bandit-v0", 8, 32)


def test_env_without_preset_gets_the_defaults():
    assert resolved("a2c", "--env", "test/Bandit-v0")[1] == A2CConfig()


def test_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"--preset: expected auto, none or one of .*got 'CartPole-v2'; did you mean"):
        resolved("ppo", "--env", "CartPole-v1", preset="CartPole-v2")


def test_a_flag_equal_to_the_default_still_wins_over_the_preset():
    assert resolved("ppo", "--env", "CartPole-v1", "--gamma", "0.99")[1].gamma == 0.99


def test_mistakes_in_run_and_agent_settings_are_told_together():
    with pytest.raises(ConfigError, match=r"n_envs: .*gamma: "):
        resolved("ppo", "--env", "CartPole-v1", "--n-envs", "0", "--gamma", "3")


# Presets

ALL_PRESETS = [(agent, env) for agent, by_env in PRESETS.items() for env in by_env]


@pytest.mark.parametrize(("agent", "env"), ALL_PRESETS)
def test_every_preset_resolves(agent, env):
    run, config = resolved(agent, "--env", env)
    for name, value in preset(agent, env).items():
        kept = getattr(run if hasattr(run, name) else config, name)
        assert kept == value
        if name in {"learning_rate", "clip_range", "ent_coef"}:
            parse_coefficient(value)


@pytest.mark.parametrize(("agent", "env"), ALL_PRESETS)
def test_every_preset_is_for_a_registered_env(agent, env):
    import gymnasium as gym

    import entropic_rl.envs  # noqa: F401 - registers its ids

    assert env in gym.registry


def test_batched_version_of_an_id_has_the_same_preset():
    assert preset("ppo", "entropic_rl/CartPole-v1") == preset("ppo", "CartPole-v1") != {}


def test_classic_control_and_box2d_ids_have_ppo_presets():
    assert {
        "CartPole-v1",
        "Acrobot-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Pendulum-v1",
        "LunarLander-v3",
    } <= set(PRESETS["ppo"])


def test_preset_is_a_copy():
    preset("ppo", "CartPole-v1")["gamma"] = 0.0
    assert preset("ppo", "CartPole-v1")["gamma"] == 0.98


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x 1\nb: *x", "aliases (*NAME) are not read"),
        ("env_kwargs: " + "[" * 2000 + "]" * 2000, "it is nested too deeply"),
        ("seed: 2001-99-99", "month must be in 1..12"),
        ("seed: " + "1" * 5000, "Exceeds the limit"),
        ("seed: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_yaml_that_says_more_than_plain_values_is_refused_in_one_line(tmp_path, text, words):
    with pytest.raises(ConfigError, match="is not YAML") as error:
        load_yaml(yaml_file(tmp_path, text), ["seed", "env_kwargs", "a", "b"])
    assert words in str(error.value)
    assert "\n" not in str(error.value)
