"""The plan of a comparison: what may be swept, which cells that makes, what they are called, how a plan grows."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.agents.config import A2CConfig, PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.compare.grid import label, make_plan, read_plan, sweepable
from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.flags import scalar_fields
from entropic_rl.resolve import layered
from entropic_rl.schedules import Schedule

OUT = Path("out")
BASE = {"env": "CartPole-v1", "n_envs": 2, "n_steps": 32, "batch_size": 32}


def plan_of(
    agents=("ppo",), *, n_seeds=2, preset_choice="none", together=False, threshold=None, baseline=None, **chosen
):
    return make_plan(
        agents,
        {**BASE, **chosen},
        n_seeds=n_seeds,
        preset_choice=preset_choice,
        together=together,
        threshold=threshold,
        baseline=baseline,
    )


def names(plan):
    return [cell.directory.name for cell in plan.cells(OUT)]


def refusal(make, *arguments, **options):
    """The one line in which something is refused."""
    with pytest.raises(ConfigError) as caught:
        make(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Cells


def test_every_combination_of_values_meets_every_seed():
    plan = plan_of(gamma=[0.9, 0.99], ent_coef=["0", "0.1", "0.3"], seed=5, n_seeds=3)
    found = [(cell.config.ent_coef, cell.config.gamma, cell.run.seed) for cell in plan.cells(OUT)]
    assert found == list(itertools.product((0.0, 0.1, 0.3), (0.9, 0.99), (5, 6, 7)))  # the coefficient leads


def test_together_the_first_values_meet_the_first_and_the_second_the_second():
    plan = plan_of(gamma=[0.9, 0.99], ent_coef=["0", "0.1"], together=True)
    found = [(cell.config.ent_coef, cell.config.gamma, cell.run.seed) for cell in plan.cells(OUT)]
    assert found == [(0.0, 0.9, 0), (0.0, 0.9, 1), (0.1, 0.99, 0), (0.1, 0.99, 1)]


def test_every_group_has_the_same_seeds():
    plan = plan_of(["ppo", "a2c"], ent_coef=[0, 0.1], env=["CartPole-v1", "Acrobot-v1"], seed=3, n_seeds=4)
    seeds = {}
    for cell in plan.cells(OUT):
        seeds.setdefault(plan.group(cell), []).append(cell.run.seed)
    assert len(seeds) == 8
    assert set(map(tuple, seeds.values())) == {(3, 4, 5, 6)}


def test_directories_are_named_by_what_is_swept_and_the_seed():
    # Pinned: a comparison is continued by these names, so a new version of the code must find those of the old one.
    assert names(plan_of(ent_coef=["0", "1e-2", "linear:0.1"], seed=7)) == [
        "ent_coef_0__seed_7", "ent_coef_0__seed_8", "ent_coef_0.01__seed_7", "ent_coef_0.01__seed_8",
        "ent_coef_linear-0.1-0__seed_7", "ent_coef_linear-0.1-0__seed_8",
    ]  # fmt: skip
    assert names(
        plan_of(["ppo", "sb3:PPO"], ent_coef=["0.1"], env=["CartPole-v1", "entropic_rl/Chain-v0"], n_seeds=1)
    ) == [
        "agent_ppo__env_CartPole-v1__ent_coef_0.1__seed_0",
        "agent_ppo__env_entropic_rl-Chain-v0__ent_coef_0.1__seed_0",
        "agent_sb3-PPO__env_CartPole-v1__ent_coef_0.1__seed_0",
        "agent_sb3-PPO__env_entropic_rl-Chain-v0__ent_coef_0.1__seed_0",
    ]
    assert {cell.directory.parent for cell in plan_of(ent_coef=[0]).cells(OUT)} == {OUT / "cells"}


NUMBERS = st.floats(1e-9, 1e9, allow_nan=False)
SCHEDULES = st.builds("{}:{}:{}".format, st.sampled_from(["linear", "cosine", "exponential"]), NUMBERS, NUMBERS)


@given(st.lists(NUMBERS | SCHEDULES, min_size=1, max_size=8, unique_by=label), st.integers(1, 4))
@settings(max_examples=25)
def test_directories_differ_and_are_plain_names(coefficients, n_seeds):
    found = names(plan_of(ent_coef=coefficients, n_seeds=n_seeds))
    assert len(set(found)) == len(coefficients) * n_seeds
    assert not [name for name in found if set(name) & set('/\\:*?"<>| ')]


def test_ids_that_would_share_a_directory_are_refused():
    assert "directory" in refusal(plan_of, ent_coef=[0], env=["test/A-v0", "test-A-v0"])


def test_cells_have_the_settings_of_a_single_training_with_their_values():
    plan = plan_of(ent_coef=[0, "linear:0.1:0"], n_steps=[32, 64], vf_coef=[0.25], log_interval=[3])
    assert len(plan.cells(OUT)) == 8
    for cell in plan.cells(OUT):
        chosen = {name: cell.value(name) for name in ("ent_coef", "n_steps", "seed")}
        assert (cell.run, cell.config) == layered("ppo", {**BASE, "vf_coef": 0.25, "log_interval": 3, **chosen}, "none")


def test_each_agent_and_environment_starts_from_its_own_preset():
    envs = ["CartPole-v1", "Pendulum-v1"]
    plan = make_plan(["ppo", "a2c"], {"env": envs, "ent_coef": [0, 0.1], "gamma": 0.5}, n_seeds=1)
    for cell in plan.cells(OUT):
        assert (cell.run, cell.config) == layered(
            cell.agent, {"env": cell.run.env, "ent_coef": cell.config.ent_coef, "gamma": 0.5}, "auto"
        )
    assert len({cell.run.n_envs for cell in plan.cells(OUT)}) > 1


def test_setting_of_one_agent_goes_to_it_alone():
    plan = plan_of(["ppo", "a2c", "sb3:PPO"], ent_coef=[0, 0.1], clip_range=[0.3], n_seeds=1)
    found = [(cell.agent, type(cell.config), getattr(cell.config, "clip_range", None)) for cell in plan.cells(OUT)[::2]]
    assert found == [("ppo", PPOConfig, 0.3), ("a2c", A2CConfig, None), ("sb3:PPO", PPOConfig, 0.3)]


# What may be swept

VALUES = {
    "env": ["CartPole-v1", "Acrobot-v1"], "n_envs": [2, 3], "learning_rate": [1e-3, "linear:0.001:0"],
    "n_steps": [32, 64], "batch_size": [16, 32], "n_epochs": [1, 2], "gamma": [0.9, 0.99], "gae_lambda": [0.0, 1.0],
    "clip_range": [0.1, "linear:0.2:0"], "clip_range_vf": [0.2, 10], "ent_coef": [0.0, "exponential:0.1:0.001"],
    "vf_coef": [0.0, 0.5], "max_grad_norm": [0.5, 1e9], "target_kl": [0.01, 0.1], "activation": ["tanh", "relu"],
    "log_std_init": [-1.0, 0.0], "entropy": ["shannon", "tsallis:1.5"], "entropy_in": ["loss", "both"],
    "ent_coef_unit": ["auto", "reward"], "frame_stack": [1, 2], "features": ["auto", "flat"], "features_dim": [8, 16],
    "recurrent": ["none", "gru"], "recurrent_size": [8, 16], "sequence_length": [8, 16],
}  # fmt: skip


@pytest.mark.parametrize("field", VALUES)
def test_every_setting_with_one_value_may_be_swept(field):
    plan = plan_of(**{field: VALUES[field]})
    assert [cell.value(field) for cell in plan.cells(OUT)] == [value for value in VALUES[field] for _ in range(2)]
    assert plan.varying == (field,)
    assert len(set(names(plan))) == 4


def test_all_that_may_be_swept_is_tried_above():
    assert sweepable(["ppo"]) == VALUES.keys()
    assert sweepable(["ppo", "a2c"]) == VALUES.keys() - {
        "batch_size", "n_epochs", "clip_range", "clip_range_vf", "target_kl"
    }  # fmt: skip


def test_coefficient_counts_as_swept_with_one_value():
    for coefficient in (["0.1"], 0.1, "1e-1"):
        plan = plan_of(ent_coef=coefficient)
        assert (plan.sweep, names(plan)) == ({"ent_coef": (0.1,)}, ["ent_coef_0.1__seed_0", "ent_coef_0.1__seed_1"])


def test_one_value_of_another_setting_is_not_swept():
    assert plan_of(ent_coef=[0, 0.1], gamma=[0.5]).sweep.keys() == {"ent_coef"}
    assert plan_of(clip_range=[0.1, 0.2], gamma=[0.5]).sweep.keys() == {"clip_range"}


def test_several_agents_are_compared_without_any_other_setting():
    plan = plan_of(["ppo", "a2c"], n_seeds=1)
    assert [(cell.agent, plan.group(cell)) for cell in plan.cells(OUT)] == [("ppo", "ppo"), ("a2c", "a2c")]


@pytest.mark.parametrize("field", sorted(scalar_fields(RunConfig) - {"env", "n_envs", "frame_stack"}))
def test_settings_of_the_whole_comparison_are_not_swept(field):
    line = refusal(plan_of, ent_coef=[0, 0.1], **{field: [1, 2]})
    flag = f"--{field.replace('_', '-')}"
    assert line == f"{flag}: expected one value, got 2; it cannot be swept: it belongs to the whole comparison"


def test_setting_that_not_every_agent_has_is_not_swept():
    line = refusal(plan_of, ["ppo", "a2c"], clip_range=[0.1, 0.2])
    assert line == "--clip-range: expected one value, got 2; it cannot be swept: not every agent has it"


@pytest.mark.parametrize("field", ["normalize_obs", "env_kwargs"])
def test_switches_and_mappings_are_not_swept(field):
    assert refusal(plan_of, ent_coef=[0, 0.1], **{field: [True, False]}).startswith(f"{field}: expected a valid ")


def test_layer_widths_are_one_value():
    plan = plan_of(ent_coef=[0, 0.1], net_arch=[8, 8])
    assert {cell.config.net_arch for cell in plan.cells(OUT)} == {(8, 8)}
    assert plan.sweep.keys() == {"ent_coef"}


# Values that are refused


@pytest.mark.parametrize(
    ("field", "values", "shown"),
    [
        ("ent_coef", ["0.1", "1e-1"], "0.1"),
        ("ent_coef", [0, "0.0", "0.1"], "0"),
        ("ent_coef", ["constant:0.1", 0.1], "0.1"),
        ("ent_coef", ["linear:0.1", "linear:1e-1:0"], "linear:0.1:0"),
        ("n_steps", [64, "64"], "64"),
        ("n_steps", ["1e2", 100], "100"),
        ("activation", ["tanh", "relu", "tanh"], "tanh"),
        ("env", ["CartPole-v1", "CartPole-v1"], "CartPole-v1"),
        pytest.param("ent_coef", ["0", "-0.0"], "0"),
    ],
)  # fmt: skip
def test_values_that_are_equal_are_refused_however_they_are_written(field, values, shown):
    flag = f"--{field.replace('_', '-')}"
    assert refusal(plan_of, **{field: values}) == f"{flag}: expected different values, got {shown} more than once"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"ent_coef": []}, "--ent-coef: expected at least one value, got none"),
        ({"ent_coef": [0], "gamma": []}, "--gamma: expected at least one value, got none"),
        ({"ent_coef": ["0", "-0.1"]}, "ent_coef: expected >= 0, got -0.1"),
        ({"ent_coef": ["0", "nan"]}, "ent_coef: expected a number, a schedule such as linear:0.01:0, target"),
        ({"ent_coef": [0, float("nan")]}, "ent_coef: a schedule needs finite numbers, got nan and nan"),
        ({"ent_coef": [0, float("inf")]}, "ent_coef: a schedule needs finite numbers, got inf and inf"),
        ({"ent_coef": ["0", "linear:0.1:-1"]}, "ent_coef: expected >= 0, got linear:0.1:-1"),
        ({"ent_coef": ["0", "much"]}, "ent_coef: expected a number, a schedule such as linear:0.01:0, target"),
        ({"ent_coef": [None, 1]}, "ent_coef: expected a valid number, got None"),
        ({"gamma": [0.9, 1.5]}, "gamma: expected less than or equal to 1, got 1.5"),
        ({"n_steps": [32, 0]}, "n_steps: expected greater than or equal to 1, got 0"),
        ({"n_steps": [64, 8], "batch_size": 64}, "batch_size: expected at most n_steps * n_envs = 8 * 2 = 16, got 64"),
        ({"n_envs": [2, 0]}, "n_envs: expected greater than or equal to 1, got 0"),
        ({"env": ["CartPole-v1", 3]}, "env: expected a valid string, got 3"),
        ({"env": ["CartPole-v1", ""]}, "env: "),
        ({}, "--ent-coef is missing: give the coefficients to compare, such as --ent-coef 0 0.01 0.1"),
        ({"ent_coef": [0, 0.1], "gamma": 2.0, "n_envs": 0}, "gamma: expected less than or equal to 1, got 2.0"),
    ],
)  # fmt: skip
def test_value_that_no_training_could_have_is_refused(chosen, words):
    assert words in refusal(plan_of, **chosen)


def test_uneven_numbers_of_values_do_not_go_together():
    line = refusal(plan_of, ent_coef=[0, 0.1], gamma=[0.9, 0.95, 0.99], together=True)
    assert line == "--together: expected as many values of each swept field, got --ent-coef 2, --gamma 3"


@pytest.mark.parametrize("n_seeds", [0, -1])
def test_fewer_than_one_seed_is_refused(n_seeds):
    assert refusal(plan_of, ent_coef=[0], n_seeds=n_seeds) == f"--seeds: expected at least 1, got {n_seeds}"


def test_last_seed_has_to_be_one_too():
    plan_of(ent_coef=[0], seed=2**63 - 2, n_seeds=2)
    assert f"got {2**63}" in refusal(plan_of, ent_coef=[0], seed=2**63 - 2, n_seeds=3)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_threshold_has_to_be_a_number(threshold):
    assert "--threshold" in refusal(plan_of, ent_coef=[0, 0.1], threshold=threshold)


def test_baseline_has_to_be_a_group():
    assert plan_of(ent_coef=[0, 0.1], baseline="0.1").baseline == "0.1"
    line = refusal(plan_of, ent_coef=[0, 0.1], baseline="0.10")
    assert line == "--baseline: expected one of 0, 0.1, got '0.10'"


# Names of groups


def test_group_is_named_by_the_value_of_what_varies():
    plan = plan_of(ent_coef=["0", "1e-2", "linear:0.1"], gamma=[0.5])
    assert [plan.group(cell) for cell in plan.cells(OUT)[::2]] == ["0", "0.01", "linear:0.1:0"]
    assert plan.varying == ("ent_coef",)
    plan = plan_of(ent_coef=[0.1], gamma=[0.9, 0.99])  # the coefficient counts as swept, but does not vary
    assert [plan.group(cell) for cell in plan.cells(OUT)[::2]] == ["0.9", "0.99"]


def test_group_is_named_by_all_that_varies():
    plan = plan_of(ent_coef=[0, 0.1], n_envs=[2, 3])
    assert [plan.group(cell) for cell in plan.cells(OUT)[::2]] == [
        "ent_coef 0, n_envs 2", "ent_coef 0, n_envs 3", "ent_coef 0.1, n_envs 2", "ent_coef 0.1, n_envs 3",
    ]  # fmt: skip


def test_groups_are_as_many_as_combinations():
    plan = plan_of(["ppo", "a2c"], env=["CartPole-v1", "Acrobot-v1"], ent_coef=[0, 0.1], gamma=[0.9, 0.99])
    assert len({plan.group(cell) for cell in plan.cells(OUT)}) == len(list(plan.points())) == 16


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0, "0"), (1e-4, "0.0001"), (1e-05, "1e-05"), ("1e-3", "0.001"), ("linear:0.01", "linear:0.01:0"),
        (64, "64"), ("tanh", "tanh"), ("sb3:PPO", "sb3:PPO"), ("entropic_rl/Chain-v0", "entropic_rl/Chain-v0"),
        ("module:Env-v0", "module:Env-v0"), (None, "None"), ("auto_0.1", "auto_0.1"),
    ],
)  # fmt: skip
def test_values_are_labelled_as_people_write_them(value, text):
    assert label(value) == text


@given(NUMBERS | SCHEDULES)
def test_label_reads_back_as_the_same_value(value):
    assert Schedule.parse(label(value)) == Schedule.parse(value)


# On disk

PLANS = {
    "one coefficient": lambda: plan_of(ent_coef=[0.1]),
    "schedules": lambda: plan_of(ent_coef=[0, "linear:0.1"], learning_rate=["cosine:0.001:0", 1e-3], threshold=3.5),
    "together": lambda: plan_of(ent_coef=[0, 0.1], gamma=[0.9, 0.99], together=True, baseline="ent_coef 0, gamma 0.9"),
    "agents and environments": lambda: make_plan(
        ["ppo", "a2c", "sb3:PPO"], {"env": ["CartPole-v1", "Acrobot-v1"], "ent_coef": [0, 0.1]}, n_seeds=3
    ),
    "mappings and lists": lambda: plan_of(
        ent_coef=[0], env_kwargs={"a": [1, 2], "b": None, "c": {"d": "e"}}, gym_packages=["x"], net_arch=[]
    ),
    "a setting that may be left out": lambda: plan_of(target_kl=[None, 0.1]),
    "large seeds": lambda: plan_of(ent_coef=[0], seed=2**63 - 2),
}


@pytest.mark.parametrize("case", PLANS)
def test_plan_is_read_as_it_was_written(tmp_path, case):
    plan = PLANS[case]()
    plan.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert read_plan(tmp_path) == plan
    assert read_plan(tmp_path).cells(OUT) == plan.cells(OUT)


def test_directory_without_a_plan_is_told(tmp_path):
    with pytest.raises(RunDirectoryError, match=r"no plan\.json in .*: expected the --out of a comparison"):
        read_plan(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", "{}", '{"bases": []}',
    ],
)  # fmt: skip
def test_damaged_plan_is_told_in_one_line(tmp_path, content):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"plan\.json") as caught:
        read_plan(tmp_path)
    assert "\n" not in str(caught.value)


def test_plan_with_a_setting_that_is_gone_is_told(tmp_path):
    plan_of(ent_coef=[0]).write(tmp_path)
    stored = json.loads((tmp_path / "plan.json").read_text())
    stored["bases"][0]["config"]["entropy_bonus"] = 1
    (tmp_path / "plan.json").write_text(json.dumps(stored))
    assert "unknown setting 'entropy_bonus'" in refusal(read_plan, tmp_path)


# Growing


def cells_by_name(plan):
    return {cell.directory.name: cell for cell in plan.cells(OUT)}


@pytest.mark.parametrize("case", [case for case in PLANS if case != "large seeds"])
def test_further_seeds_leave_every_cell_as_it_was(case):
    old = PLANS[case]()
    new = old.extended({}, 2)
    last = old.seeds[-1]
    assert new.seeds == (*old.seeds, last + 1, last + 2)
    assert cells_by_name(new).items() >= cells_by_name(old).items()
    assert len(new.cells(OUT)) == len(list(old.points())) * len(new.seeds)


def test_further_values_leave_every_cell_as_it_was():
    old = plan_of(ent_coef=[0, 0.1], gamma=[0.9, 0.99])
    new = old.extended({"ent_coef": ["3e-1", "linear:1"], "gamma": [".95"]}, 1)
    assert new.sweep == {"ent_coef": (0.0, 0.1, 0.3, "linear:1"), "gamma": (0.9, 0.95, 0.99)}  # numbers in order
    assert cells_by_name(new).items() >= cells_by_name(old).items()
    assert len(new.cells(OUT)) == 4 * 3 * 3


def test_further_values_are_trained_with_every_old_seed_too():
    plan = plan_of(ent_coef=[0]).extended({"ent_coef": ["1"]}, 1)
    assert names(plan) == [f"ent_coef_{value}__seed_{seed}" for value in (0, 1) for seed in (0, 1, 2)]


def test_further_seeds_leave_the_order_of_the_groups():
    plan = plan_of(gamma=[0.99, 0.9])
    assert plan.extended({}, 1).sweep == plan.sweep


def test_values_that_go_together_grow_together():
    old = plan_of(ent_coef=[0, 0.1], gamma=[0.9, 0.99], together=True)
    new = old.extended({"ent_coef": ["1"], "gamma": ["0.5"]}, 0)
    assert names(new) == [*names(old), "ent_coef_1__gamma_0.5__seed_0", "ent_coef_1__gamma_0.5__seed_1"]


def test_further_environment_and_agent_have_the_settings_of_the_old_ones():
    old = plan_of(["ppo", "a2c"], env=["CartPole-v1", "Acrobot-v1"], ent_coef=[0, 0.1], gamma=0.5, total_timesteps=77)
    new = old.extended({"agent": ["sb3:A2C"], "env": ["MountainCar-v0"]}, 0)
    assert cells_by_name(new).items() >= cells_by_name(old).items()
    assert len(new.cells(OUT)) == 3 * 3 * 2 * 2
    for cell in new.cells(OUT):
        assert (cell.run.total_timesteps, cell.run.n_envs, cell.config.gamma, cell.config.n_steps) == (77, 2, 0.5, 32)


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"gamma": ["0.5"]}, "--gamma: expected one of what this comparison sweeps (--ent-coef); start another"),
        ({"n_steps": ["64"]}, "--n-steps: expected one of what this comparison sweeps"),
        ({"nonsense": ["1"]}, "--nonsense: expected one of what this comparison sweeps"),
        ({"ent_coef": ["1e-1"]}, "--ent-coef: expected different values, got 0.1 more than once"),
        ({"ent_coef": ["0.3", "0.30"]}, "--ent-coef: expected different values, got 0.3 more than once"),
        ({"ent_coef": ["-1"]}, "ent_coef: expected >= 0, got -1"),
        ({"ent_coef": ["nan"]}, "ent_coef: "),
    ],
)
def test_extension_that_makes_no_sense_is_refused(sweep, words):
    assert words in refusal(plan_of(ent_coef=[0, 0.1]).extended, sweep, 0)


@pytest.mark.parametrize(("agents", "words"), [(["sarsa"], "got 'sarsa'"), (["ppo"], "got ppo more than once")])
def test_further_agent_has_to_be_one_and_new(agents, words):
    plan = plan_of(["ppo", "a2c"], ent_coef=[0])
    assert words in refusal(plan.extended, {"agent": agents}, 0)


def test_extension_of_one_of_two_that_go_together_is_refused():
    plan = plan_of(ent_coef=[0, 0.1], gamma=[0.9, 0.99], together=True)
    with pytest.raises(ConfigError, match="together"):
        plan.extended({"ent_coef": ["1"]}, 0)


def test_further_agent_has_to_have_what_is_swept():
    plan = plan_of(["ppo", "sb3:PPO"], clip_range=[0.1, 0.2])
    with pytest.raises(ConfigError, match="clip"):
        plan.extended({"agent": ["a2c"]}, 0)


def test_further_seeds_end_where_seeds_do():
    assert "seed" in refusal(plan_of(ent_coef=[0], seed=2**63 - 2).extended, {}, 1)


def test_baseline_stays_the_same_group_when_another_field_begins_to_vary():
    old = plan_of(ent_coef=[0.1], gamma=[0.9, 0.99], baseline="0.9")
    new = old.extended({"ent_coef": ["1"]}, 0)
    assert new.baseline == "ent_coef 0.1, gamma 0.9"


@pytest.mark.parametrize("case", PLANS)
def test_cells_reach_a_worker_as_they_are(case):
    for cell in PLANS[case]().cells(OUT):
        assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell
