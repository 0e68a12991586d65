"""Flags made from settings classes."""

import dataclasses

import pytest

from entropic_rl.agents.config import AGENT_CONFIGS, PPOConfig
from entropic_rl.config import RunConfig, build, field_docs
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings, given, scalar_fields
from entropic_rl.supervised.config import FitConfig


def parse(*arguments, cls=RunConfig, skip=(), several=False):
    """The settings given as flags."""
    parser = Parser(prog="prog")
    add_settings(parser, cls, "settings", skip=skip, several=several)
    return given(parser.parse(arguments), cls)


@pytest.mark.parametrize("cls", [RunConfig, *AGENT_CONFIGS.values()])
def test_every_field_is_a_flag_with_its_help_and_default(cls):
    parser = Parser(prog="prog")
    add_settings(parser, cls, "settings")
    text = " ".join(parser.format_help().split())
    for field in dataclasses.fields(cls):
        assert f"--{field.name.replace('_', '-')}" in text
        assert " ".join(field_docs(cls)[field.name].split()) in text
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert f"[{field.default}]" in text


def test_flags_that_are_not_given_leave_no_trace():
    assert parse() == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "3"], {"seed": 3}),
        (["--total-timesteps", "1e5"], {"total_timesteps": "1e5"}),  # the settings class reads it
        (["--track"], {"track": True}),
        (["--no-track"], {"track": False}),
        (["--wandb-tags", "a", "b"], {"wandb_tags": ["a", "b"]}),
        (["--wandb-tags"], {"wandb_tags": []}),
        (["--wandb-mode", "offline"], {"wandb_mode": "offline"}),
        (["--env=CartPole-v1"], {"env": "CartPole-v1"}),
        (
            ["--env-kwargs", "a=1", "b=0.5", "c=true", "d=[1, 2]", "e=text", "f=x=y"],
            {"env_kwargs": {"a": 1, "b": 0.5, "c": True, "d": [1, 2], "e": "text", "f": "x=y"}},
        ),
    ],
)
def test_run_flags_are_read(arguments, expected):
    assert parse(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--learning-rate", "1e-3"], {"learning_rate": 1e-3}),
        (["--ent-coef", "linear:0.1:0"], {"ent_coef": "linear:0.1:0"}),
        (["--ent-coef", "0.1"], {"ent_coef": 0.1}),
        (["--net-arch", "32", "16"], {"net_arch": (32, 16)}),
        (["--net-arch"], {"net_arch": ()}),
        (["--target-kl", "0.02"], {"target_kl": 0.02}),
        (["--no-normalize-advantage", "--share-features"], {"normalize_advantage": False, "share_features": True}),
    ],
)
def test_agent_flags_build_the_settings(arguments, expected):
    assert build(PPOConfig, parse(*arguments, cls=PPOConfig)) == PPOConfig(**expected)


def test_skipped_fields_have_no_flag():
    with pytest.raises(ConfigError, match="unknown argument '--ent-coef'"):
        parse("--ent-coef", "0", cls=PPOConfig, skip=("ent_coef",))


def test_unknown_flag_suggests_the_closest():
    with pytest.raises(
        ConfigError, match=r"unknown argument '--n-step'; did you mean '--n-steps'\? \(see prog --help\)"
    ):
        parse("--n-step", "3", cls=PPOConfig)


def test_flags_may_not_be_abbreviated():
    with pytest.raises(ConfigError, match="unknown argument '--total'"):
        parse("--total", "3")


@pytest.mark.parametrize("pair", ["gravity", "=3", "a=[1"])
def test_malformed_pair_is_told(pair):
    with pytest.raises(ConfigError, match="--env-kwargs: "):
        parse("--env-kwargs", pair)


def test_choice_outside_the_list_is_told_with_the_list():
    with pytest.raises(ConfigError, match=r"wandb-mode.*'sometimes'.*online"):
        parse("--wandb-mode", "sometimes")


def test_missing_value_is_told():
    with pytest.raises(ConfigError, match="--seed: expected one argument"):
        parse("--seed")


def test_number_that_does_not_parse_is_left_to_the_settings_class():
    assert parse("--seed", "many") == {"seed": "many"}
    with pytest.raises(ConfigError, match=r"seed: expected a valid integer.*got 'many'"):
        build(RunConfig, {"env": "CartPole-v1", **parse("--seed", "many")})


def test_large_seeds_are_read_exactly():
    assert parse("--seed", "9007199254740993") == {"seed": 9007199254740993}  # 2^53 + 1 has no float


# Several values


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ent-coef", "0", "linear:0.1:0"], {"ent_coef": ["0", "linear:0.1:0"]}),
        (["--ent-coef", "0"], {"ent_coef": ["0"]}),
        (["--gamma", "0.9", "1"], {"gamma": [0.9, 1.0]}),
        (["--n-steps", "5", "many"], {"n_steps": [5, "many"]}),
        (["--activation", "tanh", "relu"], {"activation": ["tanh", "relu"]}),
        (["--net-arch", "8", "8"], {"net_arch": [8, 8]}),
        (["--no-normalize-obs"], {"normalize_obs": False}),
        ([], {}),
    ],
)
def test_flags_of_single_values_take_several(arguments, expected):
    assert parse(*arguments, cls=PPOConfig, several=True) == expected


def test_flag_that_takes_several_values_needs_one():
    with pytest.raises(ConfigError, match="--ent-coef: expected at least one argument"):
        parse("--ent-coef", cls=PPOConfig, several=True)


def test_choice_outside_the_list_is_told_among_several():
    with pytest.raises(ConfigError, match=r"activation.*'tan'.*tanh"):
        parse("--activation", "relu", "tan", cls=PPOConfig, several=True)


@pytest.mark.parametrize("cls", [RunConfig, *AGENT_CONFIGS.values()])
def test_fields_of_single_values_are_neither_switches_nor_lists(cls):
    plain = cls(env="CartPole-v1") if cls is RunConfig else cls()
    others = {field.name for field in dataclasses.fields(cls)} - scalar_fields(cls)
    assert others == {
        field.name for field in dataclasses.fields(cls) if isinstance(getattr(plain, field.name), bool | tuple | dict)
    }


@pytest.mark.parametrize("text", ["none", "None"])
def test_none_is_read_where_it_is_a_value(text):
    assert parse("--batch-size", text, cls=FitConfig) == {"batch_size": None}
    assert build(FitConfig, parse("--batch-size", text, cls=FitConfig)).batch_size is None
    assert parse("--n-epochs", text, cls=FitConfig) == {"n_epochs": text}  # the settings class says what it expects


def test_defaults_of_a_verb_are_shown_in_place_of_the_classs():
    parser = Parser(prog="prog")
    add_settings(parser, FitConfig, "training", defaults={"batch_size": None, "learning_rate": 0.01})
    shown = " ".join(parser.format_help().split())
    assert "none = all of them [none]" in shown
    assert "cosine:0.01:0 [0.01]" in shown
