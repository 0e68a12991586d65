"""The numbers of a comparison, derived by hand from records that were written for them."""

import json
import math
from functools import partial

import numpy as np
import pytest

from entropic_rl.compare.analysis import analyse, band, steps_to_threshold, to_json
from entropic_rl.compare.outcomes import read_outcomes
from entropic_rl.errors import RunDirectoryError
from entropic_rl.run_directory import strict
from tests.synthetic import compared, numbers_of, row, section_of, write_failure, write_plan, write_run

nan = math.nan


def climbing(*times, horizon=1000):
    """Writes runs whose mean return reaches 10 after ``times`` by seed; None: never."""

    def write(cell, score):
        time = times[cell.run.seed]
        rows = [row(time, 10.0)] if time is not None and time < horizon else []
        write_run(cell, score, rows=[row(1, 0.0), *rows, row(horizon, 10.0 if time is not None else 9.9)])

    return write


# One group


def test_score_is_the_interquartile_mean_of_the_final_returns(tmp_path):
    section = section_of(tmp_path, {0.1: [1000.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]})
    [group] = section.groups
    assert group.score.value == 35.0  # (20 + 30 + 40 + 50) / 4: the lowest and the highest two of eight left out
    assert group.seed_median.value == 35.0
    assert group.returns.tolist() == [1000.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
    assert 0.0 < group.score.low < 35.0 < group.score.high < 1000.0


def test_measures_are_means_over_seeds_of_the_end_of_training(tmp_path):
    def write(cell, score):
        write_run(cell, score, entropy=0.1 * cell.run.seed, n_states=3.0, coverage=0.75, sampled=score - 1, gap=1.0)

    [group] = section_of(tmp_path, {0.1: [4.0, 6.0, 11.0]}, write=write).groups
    values = {name: estimate.value for name, estimate in group.measures.items()}
    expected = {"return": 7.0, "stochastic_return": 6.0, "gap": 1.0, "entropy": 0.1, "n_states": 3.0, "coverage": 0.75}
    assert values == pytest.approx(expected)
    assert (group.measures["n_states"].low, group.measures["n_states"].high) == (3.0, 3.0)


def test_measure_that_one_run_lacks_is_left_out_for_its_group_alone(tmp_path):
    def write(cell, score):
        lacking = {"saturation": 0.5} if score != 2.0 else {"saturation": nan}
        write_run(cell, score, **lacking)

    first, second = section_of(tmp_path, {0.0: [1.0, 2.0], 0.1: [3.0, 4.0]}, write=write).groups
    assert "saturation" not in first.measures
    assert second.measures["saturation"].value == 0.5


def test_area_under_the_learning_curve_holds_its_first_value_from_step_zero(tmp_path):
    rows = [row(500, 10.0), row(1000, 20.0)]
    [group] = section_of(tmp_path, {0.1: [1.0, 1.0]}, run={"rows": rows}).groups
    assert group.auc.value == 12.5  # (500 * 10 + 500 * 15) / 1000


def test_interval_of_the_same_record_is_the_same_every_time(tmp_path):
    scores = {0.0: [1.0, 5.0, 2.0, 9.0], 0.1: [3.0, 3.5, 8.0, 1.0]}
    assert section_of(tmp_path / "a", scores).groups[1].score == section_of(tmp_path / "b", scores).groups[1].score


def test_one_seed_has_a_value_and_no_interval(tmp_path):
    first, second = section_of(tmp_path, {0.0: [4.0], 0.1: [6.0]}).groups
    assert second.score.value == 6.0
    assert math.isnan(second.score.low)
    assert math.isnan(second.measures["entropy"].high)
    assert second.difference.value == 2.0
    assert math.isnan(second.difference.low)
    assert math.isnan(second.p_value)
    assert first.difference is None


# Times


def test_threshold_is_reached_at_the_first_row_whose_mean_is_high_enough():
    assert steps_to_threshold([row(10, 1.0), row(20, 5.0), row(30, 4.0), row(40, 9.0)], 4.5) == 20
    assert steps_to_threshold([row(10, 4.5)], 4.5) == 10


def test_threshold_that_is_never_reached_is_none():
    assert steps_to_threshold([row(10, 4.4), row(20, 4.49)], 4.5) is None
    assert steps_to_threshold([], 4.5) is None


def test_few_lucky_episodes_do_not_reach_a_threshold():
    assert steps_to_threshold([row(10, 9.0, 99), row(20, 5.0, 100)], 4.5) == 20


@pytest.mark.parametrize(
    ("times", "median", "n"),
    [
        ((100, 200, 300), 200.0, 3),  # S = 2/3, 1/3, 0
        ((100, 200, None, None), 200.0, 2),  # S = 3/4, 1/2
        ((100, None, None), math.inf, 1),  # S = 2/3 to the end
        ((None, None), math.inf, 0),
        ((1000, 100), 100.0, 2),  # reached in the last row of all
    ],
)
def test_median_time_to_the_threshold_counts_runs_that_never_got_there_as_later(tmp_path, times, median, n):
    scores = {0.1: [0.0] * len(times)}
    [group] = section_of(tmp_path, scores, threshold=10.0, write=climbing(*times)).groups
    assert (group.learned.survival.median().value, group.learned.n) == (median, n)


def test_runs_fail_that_end_below_the_threshold_whenever_they_had_reached_it(tmp_path):
    [group] = section_of(tmp_path, {0.1: [9.9, 10.0, 12.0]}, threshold=10.0, write=climbing(10, 20, 30)).groups
    assert group.n_failed == 1
    assert group.learned.n == 3


def test_first_successes_and_rewards_are_censored_at_the_end_of_a_run(tmp_path):
    def write(cell, score):
        first = [400.0, nan, 200.0][cell.run.seed]
        write_run(cell, score, first_success=first, first_reward=first / 2, success_return=5.0)

    [group] = section_of(tmp_path, {0.1: [0.0, 0.0, 0.0]}, write=write).groups
    assert (group.first_success.n, group.first_success.survival.median().value) == (2, 400.0)
    assert (group.first_reward.n, group.first_reward.survival.median().value) == (2, 200.0)
    assert group.first_success.survival.end == 1000.0


def test_threshold_is_that_of_the_environment_unless_another_is_given(tmp_path):
    scores, run = {0.1: [4.0, 6.0]}, {"success_return": 5.0}
    own = section_of(tmp_path / "own", scores, run=run)
    given = section_of(tmp_path / "given", scores, run=run, threshold=3.0)
    assert (own.threshold, own.groups[0].n_failed) == (5.0, 1)
    assert (given.threshold, given.groups[0].n_failed) == (3.0, 0)


def test_without_a_success_signal_nothing_is_said_of_learning_or_success(tmp_path):
    section = section_of(tmp_path, {0.0: [1.0, 2.0], 0.1: [3.0, 4.0]})
    assert section.threshold is None
    assert [(g.learned, g.first_success, g.n_failed) for g in section.groups] == [(None, None, None)] * 2


def test_threshold_of_a_reader_does_not_make_a_success_signal(tmp_path):
    section = section_of(tmp_path, {0.0: [1.0, 2.0]}, threshold=1.5)
    assert section.groups[0].learned is not None
    assert section.groups[0].first_success is None


# Against the baseline


def test_difference_is_paired_by_seed_and_its_p_value_is_exact(tmp_path):
    baseline, other = section_of(tmp_path, {0.0: [10.0, 20.0, 30.0], 0.1: [11.0, 22.0, 33.0]}).groups
    assert baseline.difference is None
    assert math.isnan(baseline.p_value)
    assert other.difference.value == pytest.approx(2.0)
    assert 1.0 <= other.difference.low <= 2.0 <= other.difference.high <= 3.0
    assert other.p_value == 0.25  # of the four sums |1 +- 2 +- 3|, one is as large as 6


def test_p_values_are_adjusted_together_by_holm(tmp_path):
    base = [0.0] * 6
    # Six differences of one sign: p = 2 / 64. Five of one and one of the other, all 1: |sum| >= 4 for 14 of 64.
    scores = {0.0: base, 0.1: [1.0] * 6, 0.2: [1.0] * 5 + [-1.0], 0.3: [-1.0] * 6}
    p = [group.p_value for group in section_of(tmp_path, scores).groups]
    assert math.isnan(p[0])
    assert p[1:] == pytest.approx([3 * 2 / 64, 14 / 64, 3 * 2 / 64])  # 3 p, then 2 p and not less, then p


def test_only_seeds_that_both_have_are_compared(tmp_path):
    _, other = section_of(tmp_path, {0.0: [10.0, None, 30.0, 5.0], 0.1: [11.0, 22.0, 33.0, None]}).groups
    assert other.difference.value == pytest.approx(2.0)  # (1 + 3) / 2
    assert other.p_value == 0.5  # of |1 + 3| and |1 - 3| one is as large as 4
    # All runs count there: 11 beats 10 and 5, 22 beats 10 and 5, 33 beats all: 7 of 9.
    assert other.improvement.value == pytest.approx(7 / 9)


def test_groups_without_a_common_seed_have_no_difference(tmp_path):
    _, other = section_of(tmp_path, {0.0: [10.0, None], 0.1: [None, 22.0]}).groups
    assert other.difference is None
    assert math.isnan(other.p_value)
    assert other.improvement.value == 1.0


def test_probability_of_improvement_counts_ties_as_half(tmp_path):
    _, other = section_of(tmp_path, {0.0: [1.0, 2.0], 0.1: [2.0, 3.0]}).groups
    assert other.improvement.value == 3.5 / 4


def test_groups_account_for_the_variance_that_omega_squared_says(tmp_path):
    section = section_of(tmp_path, {0.0: [1.0, 3.0], 0.1: [5.0, 7.0]})
    # Between 16, within 4, noise 4 / 2: (16 - 2) / (16 + 4 + 2).
    assert section.explained == pytest.approx(14 / 22)


@pytest.mark.parametrize(
    ("scores", "options", "baseline"),
    [
        ({0.1: [1.0], 0.0: [1.0], 0.2: [1.0]}, {}, "0"),
        ({0.1: [1.0], 0.2: [1.0]}, {}, "0.1"),
        ({0.1: [1.0], 0.0: [1.0], 0.2: [1.0]}, {"baseline": "0.2"}, "0.2"),
        ({0.1: [1.0], 0.0: [None], 0.2: [1.0]}, {}, "0.1"),  # the baseline would have been 0, which did not finish
        ({"linear:0.1:0": [1.0], 0.0: [1.0]}, {}, "0"),
        ({0.1: [1.0], 0.2: [1.0]}, {"gamma": [0.9, 0.99]}, "ent_coef 0.1, gamma 0.9"),
        ({0.1: [1.0], 0.0: [1.0]}, {"gamma": [0.9, 0.99]}, "ent_coef 0, gamma 0.9"),
    ],
)
def test_baseline_is_the_one_asked_for_or_coefficient_zero_or_the_first(tmp_path, scores, options, baseline):
    section = section_of(tmp_path, scores, **options)
    assert section.baseline == baseline
    assert [group.name for group in section.groups if group.difference is None] == [baseline]


# All groups together


def test_robust_groups_are_those_whose_interval_meets_that_of_the_best(tmp_path):
    scores = {0.0: [0.0, 1.0, 2.0, 3.0], 0.01: [7.0, 8.0, 9.0, 9.0], 0.1: [8.0, 9.0, 9.0, 10.0]}
    section = section_of(tmp_path, scores)
    assert section.best == "0.1"
    assert section.robust == ("0.01", "0.1")


def test_uniform_groups_have_at_least_95_per_cent_of_the_largest_entropy(tmp_path):
    shares = {0.0: 0.5, 0.1: 0.949, 0.2: 0.951, 0.3: 1.0}

    def write(cell, score):
        write_run(cell, score, entropy=shares[cell.config.ent_coef] * math.log(3), max_entropy=math.log(3))

    section = section_of(tmp_path, {coef: [1.0, 1.0] for coef in shares}, write=write)
    assert section.uniform == ("0.2", "0.3")
    assert section.max_entropy == pytest.approx(math.log(3))


def test_continuous_actions_have_no_largest_entropy_and_no_uniform_group(tmp_path):
    section = section_of(tmp_path, {0.0: [1.0, 2.0]}, run={"max_entropy": None, "entropy": 3.0, "saturation": 0.1})
    assert section.max_entropy is None
    assert section.uniform == ()
    assert section.groups[0].measures["entropy"].value == 3.0


def test_groups_keep_the_order_in_which_they_were_asked_for(tmp_path):
    section = section_of(tmp_path, {0.1: [1.0], 0.0: [1.0], "linear:0.1:0": [1.0], 0.05: [1.0]})
    assert [group.name for group in section.groups] == ["0.1", "0", "linear:0.1:0", "0.05"]
    assert [group.point["ent_coef"] for group in section.groups] == [0.1, 0.0, "linear:0.1:0", 0.05]


def test_horizon_is_that_of_the_longest_run(tmp_path):
    def write(cell, score):
        write_run(cell, score, rows=[row(500, 1.0), row(1000 + cell.run.seed, 1.0)])

    assert section_of(tmp_path, {0.0: [1.0, 1.0, 1.0]}, write=write).horizon == 1002


# Runs that do not count


def test_broken_runs_are_named_and_in_no_number(tmp_path):
    plan = write_plan(tmp_path, 4, ent_coef=[0.0, 0.1])
    *cells, last = plan.cells(tmp_path)
    for cell in cells[:4]:
        write_run(cell, 1.0, entropy=0.1)
    write_run(cells[4], 5.0, entropy=0.2)
    write_run(cells[5], nan, entropy=0.6)
    write_failure(cells[6], "killed")
    assert not last.directory.exists()
    [section] = numbers_of(plan, tmp_path).sections
    group = section.group("0.1")
    assert [outcome.cell.run.seed for outcome in group.outcomes] == [0]
    assert (group.score.value, group.auc.value, group.measures["entropy"].value) == (5.0, 5.0, 0.2)
    assert group.difference.value == 4.0
    errors = {outcome.cell.directory.name: outcome.error for outcome in group.broken}
    assert errors == {
        "ent_coef_0.1__seed_1": "diverged: eval/mean_reward is not a finite number",
        "ent_coef_0.1__seed_2": "killed",
        "ent_coef_0.1__seed_3": "not trained yet",
    }
    assert section.group("0").broken == ()


def test_group_in_which_nothing_finished_is_no_group(tmp_path):
    report = compared(tmp_path, {0.0: [1.0, 2.0], 0.1: [None, None]})
    assert [group.name for group in report.sections[0].groups] == ["0"]
    assert len(report.outcomes) == 4


def test_comparison_in_which_nothing_finished_is_refused_with_the_reasons(tmp_path):
    plan = write_plan(tmp_path)
    write_failure(plan.cells(tmp_path)[1], "out of memory")
    with pytest.raises(RunDirectoryError, match="not trained yet; out of memory"):
        numbers_of(plan, tmp_path)
    assert (
        analyse("CartPole-v1", {"0": read_outcomes(plan, tmp_path)}, ["ent_coef"], threshold=None, baseline=None)
        is None
    )


def test_run_in_which_no_episode_ended_has_no_learning_curve_and_still_counts(tmp_path):
    rows = [row(500, nan, 0, entropy=0.5), row(1000, nan, 0, entropy=0.5)]
    section = section_of(tmp_path, {0.0: [1.0, 3.0]}, threshold=2.0, run={"rows": rows})
    assert section.groups[0].score.value == 2.0
    assert math.isnan(section.groups[0].auc.value)
    assert section.groups[0].learned.n == 0


# Agents and settings of other kinds


def test_agents_without_an_entropy_have_no_uniform_group(tmp_path):
    run = {"rows": [row(500, 1.0), row(1000, 2.0)], "entropy": ...}  # as of DQN, on a problem with two actions
    section = section_of(tmp_path, {0.0: [1.0, 2.0], 0.1: [1.0, 2.0]}, run=run)
    assert section.uniform == ()
    assert "entropy" not in section.groups[0].measures


def test_agent_that_has_no_coefficient_is_compared_over_what_it_has(tmp_path):
    plan = write_plan(tmp_path, 2, agents=("sb3:DQN",), ent_coef=None, learning_rate=[1e-3, 1e-4])
    for cell in plan.cells(tmp_path):
        assert not hasattr(cell.config, "ent_coef")
        write_run(cell, 1.0 + cell.run.seed, max_entropy=None, rows=[row(1000, 1.0)], entropy=...)
    [section] = numbers_of(plan, tmp_path).sections
    assert [group.name for group in section.groups] == ["0.001", "0.0001"]
    assert (section.field, section.baseline) == ("learning_rate", "0.001")


def test_several_environments_make_a_section_each(tmp_path):
    plan = write_plan(tmp_path, 2, env=["CartPole-v1", "Acrobot-v1"], ent_coef=[0.0, 0.1])
    for cell in plan.cells(tmp_path):
        write_run(cell, -100.0 if cell.run.env == "Acrobot-v1" else 500.0)
    report = numbers_of(plan, tmp_path)
    assert [section.env for section in report.sections] == ["CartPole-v1", "Acrobot-v1"]
    acrobot = report.sections[1]
    assert [group.point for group in acrobot.groups] == [{"env": "Acrobot-v1", "ent_coef": c} for c in (0.0, 0.1)]
    assert (acrobot.baseline, acrobot.field) == (acrobot.groups[0].name, "ent_coef")
    assert len({group.name for section in report.sections for group in section.groups}) == 4
    assert {outcome.cell.run.env for outcome in report.of(acrobot)} == {"Acrobot-v1"}
    assert acrobot.groups[0].score.value == -100.0


def test_environment_in_which_nothing_finished_has_no_section(tmp_path):
    plan = write_plan(tmp_path, 1, env=["CartPole-v1", "Acrobot-v1"], ent_coef=[0.0])
    write_run(plan.cells(tmp_path)[0], 1.0)
    assert [section.env for section in numbers_of(plan, tmp_path).sections] == ["CartPole-v1"]


@pytest.mark.parametrize(
    ("swept", "field"),
    [
        ({"ent_coef": [0.0, 0.1], "gamma": [0.9, 0.95, 0.99]}, "ent_coef"),
        ({"ent_coef": [0.1], "gamma": [0.9, 0.95, 0.99]}, "gamma"),
        ({"ent_coef": [0.1], "gamma": [0.9, 0.95], "learning_rate": [1e-4, 1e-3, 1e-2]}, "learning_rate"),
        ({"ent_coef": ["linear:0.1:0", "linear:0.2:0"], "gamma": [0.9, 0.99]}, "gamma"),
        ({"ent_coef": ["linear:0.1:0", "linear:0.2:0"]}, "ent_coef"),
    ],
)
def test_axis_is_the_swept_number_with_the_most_values_and_the_coefficient_first(tmp_path, swept, field):
    plan = write_plan(tmp_path, 1, **swept)
    for cell in plan.cells(tmp_path):
        write_run(cell, 1.0)
    [section] = numbers_of(plan, tmp_path).sections
    assert section.field == field


def test_settings_that_change_together_make_a_group_per_pair(tmp_path):
    plan = write_plan(tmp_path, 1, ent_coef=[0.0, 0.1], gamma=[0.9, 0.99], together=True)
    for cell in plan.cells(tmp_path):
        write_run(cell, cell.config.gamma)
    [section] = numbers_of(plan, tmp_path).sections
    assert [group.point for group in section.groups] == [
        {"ent_coef": 0.0, "gamma": 0.9},
        {"ent_coef": 0.1, "gamma": 0.99},
    ]


# As curves and as JSON


def test_band_is_the_mean_over_seeds_where_all_have_a_curve(tmp_path):
    def write(cell, score):
        steps = (100, 300, 500) if cell.run.seed == 0 else (200, 400)
        write_run(cell, score, rows=[row(step, score * step) for step in steps])

    [group] = section_of(tmp_path, {0.1: [1.0, 3.0]}, write=write).groups
    steps, mean, low, high = band(group.outcomes, "rollout/ep_rew_mean")
    assert steps.tolist() == [200.0, 300.0, 400.0]
    assert mean.tolist() == [400.0, 600.0, 800.0]  # (1 + 3) / 2 times the steps, between the rows on straight lines
    assert low.tolist() == steps.tolist()  # of two seeds a resample holds the lower one twice with probability 1/4
    assert high.tolist() == (3 * steps).tolist()
    assert band(group.outcomes, "train/unheard_of") is None


def test_band_of_curves_that_never_overlap_is_none(tmp_path):
    def write(cell, score):
        write_run(cell, score, rows=[row(100 + 500 * cell.run.seed, 1.0)])

    [group] = section_of(tmp_path, {0.1: [1.0, 3.0]}, write=write).groups
    assert band(group.outcomes, "rollout/ep_rew_mean") is None


def test_band_thins_long_curves_and_keeps_their_ends(tmp_path):
    run = {"rows": [row(step, float(step)) for step in range(1, 1001)]}
    [group] = section_of(tmp_path, {0.1: [1.0]}, run=run).groups
    steps, mean, *_ = band(group.outcomes, "rollout/ep_rew_mean", n_points=50)
    assert len(steps) == 50
    assert (steps[0], steps[-1]) == (1.0, 1000.0)
    assert np.array_equal(steps, mean)


@pytest.mark.parametrize(("n_seeds", "threshold"), [(1, None), (3, 2.0), (2, None)])
def test_json_holds_every_number_and_nothing_that_json_has_not(tmp_path, n_seeds, threshold):
    scores = {0.0: [1.0, 2.0, 3.0][:n_seeds], "linear:0.1:0": [2.0, 4.0, 9.0][:n_seeds]}
    section = section_of(tmp_path, scores, threshold=threshold, run={"kl": 0.5, "loss_only_kl": 0.25})
    found = json.loads(json.dumps(strict(to_json(section)), allow_nan=False))
    for key in ("env", "baseline", "threshold", "max_entropy", "horizon", "field", "best"):
        assert found[key] == getattr(section, key)
    assert found["robust"] == list(section.robust)
    for own, group in zip(found["groups"], section.groups, strict=True):
        assert own["name"] == group.name
        assert own["point"] == group.point
        assert own["n_seeds"] == n_seeds
        assert own["iqm"]["value"] == group.score.value
        assert own["area_under_curve"]["value"] == group.auc.value
        assert own["median"]["value"] == group.seed_median.value
        assert {name: own[name]["value"] for name in group.measures} == {n: e.value for n, e in group.measures.items()}
        assert own["std"] == (pytest.approx(np.std(group.returns, ddof=1)) if n_seeds > 1 else None)
        assert own["n_failed"] == group.n_failed
        assert own["p_value_holm"] == (None if math.isnan(group.p_value) else group.p_value)
        assert (own["difference_to_baseline"] is None) == (group.name == section.baseline)


def test_json_names_the_runs_that_do_not_count(tmp_path):
    section = section_of(tmp_path, {0.0: [1.0, None]}, write=partial(write_run))
    [group] = to_json(section)["groups"]
    assert group["not_counted"] == [{"directory": "ent_coef_0__seed_1", "error": "not trained yet"}]
