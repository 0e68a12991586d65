"""Statistics of comparisons against hand-derived numbers, rliable, scipy, loops and simulations of known truth."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from rliable import library, metrics

from entropic_rl.compare.statistics import (
    Estimate,
    area_under_curve,
    bootstrap,
    explained_variance_share,
    holm,
    iqm,
    kaplan_meier,
    mean,
    median,
    paired_difference,
    performance_profile,
    performance_profile_interval,
    probability_of_improvement,
    probability_of_improvement_interval,
    restricted_mean,
    robust_range,
    seed_median,
    sign_flip_test,
)

nan, inf = math.nan, math.inf
RLIABLE = {iqm: metrics.aggregate_iqm, mean: metrics.aggregate_mean, median: metrics.aggregate_median}
sizes = pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 1), (7, 1), (8, 1), (1, 4), (5, 3), (10, 26)], ids=str)
holds_for_all = settings(max_examples=60)
whole_numbers = st.lists(st.integers(-4, 4), min_size=1, max_size=9)
event_times = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=12)


def rng(seed=0):
    return np.random.default_rng(seed)


def rliable_interval(scores, function, reps):
    """rliable 1.2 draws from numpy's global generator, whatever ``random_state`` it is given."""
    np.random.seed(0)
    values, bounds = library.get_interval_estimates({"it": scores}, lambda *x: np.array([function(*x)]), reps=reps)
    return values["it"][0], bounds["it"][:, 0]


def agrees(estimate, value, bounds, reps):
    """Equal values, and bounds that differ by less than 4 standard errors of two bootstraps with ``reps`` resamples.

    The 2.5 % quantile of B normal draws has standard error ``sqrt(.025 * .975 / B) / .0584`` deviations, of which the
    interval is 3.92 wide: ``.68 / sqrt(B)`` widths, times ``sqrt(2)`` for two of them.
    """
    assert estimate.value == pytest.approx(value, rel=1e-9)
    tolerance = 4 * 0.96 / math.sqrt(reps) * (bounds[1] - bounds[0])
    assert [estimate.low, estimate.high] == pytest.approx(list(bounds), abs=tolerance)


# Aggregates


def test_iqm_leaves_out_a_quarter_at_each_end():
    # 8 scores: 2 at each end go; (2 + 3 + 4 + 6) / 4 = 3.75, whatever the order and the split into tasks.
    scores = np.array([100.0, 3.0, 0.0, 6.0, 1.0, 7.0, 2.0, 4.0])
    assert iqm(scores[:, None]) == iqm(scores.reshape(4, 2)) == 3.75


def test_iqm_rounds_what_it_leaves_out_down():
    assert iqm([[0.0], [1.0], [8.0]]) == 3.0  # floor(3 / 4) = 0: the mean
    assert iqm([[0.0], [1.0], [2.0], [3.0], [90.0]]) == 2.0  # floor(5 / 4) = 1


@sizes
@pytest.mark.parametrize("statistic", RLIABLE, ids=lambda f: f.__name__)
def test_aggregates_equal_those_of_rliable(statistic, size):
    scores = rng().normal(5.0, 2.0, size)
    assert statistic(scores) == pytest.approx(RLIABLE[statistic](scores), rel=1e-12)


@sizes
def test_iqm_equals_the_trimmed_mean_of_scipy(size):
    scores = rng(1).normal(size=size)
    assert iqm(scores) == pytest.approx(scipy.stats.trim_mean(scores.ravel(), 0.25), rel=1e-12)


def test_median_is_over_tasks_and_seed_median_over_everything():
    scores = [[0.0, 10.0, 5.0], [2.0, 30.0, 6.0], [100.0, 20.0, 7.0]]  # means over runs 34, 20, 6
    assert median(scores) == pytest.approx(20.0)
    assert seed_median(scores) == 7.0
    assert median([[0.0], [2.0], [100.0]]) == pytest.approx(34.0)  # one task
    assert seed_median([[0.0], [2.0], [100.0]]) == 2.0


@pytest.mark.parametrize("statistic", [iqm, mean, median, seed_median])
def test_leading_axes_of_aggregates_are_a_batch(statistic):
    scores = rng().normal(size=(2, 3, 6, 5))
    together = statistic(scores)
    assert together.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert together[i, j] == statistic(scores[i, j])


# Bootstrap


@pytest.mark.parametrize("statistic", RLIABLE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", [(8, 1), (6, 5)], ids=str)
def test_bootstrap_agrees_with_rliable(statistic, size):
    scores = rng(3).gamma(2.0, 1.0, size)
    estimate = bootstrap(scores, statistic, rng())
    agrees(estimate, *rliable_interval(scores, RLIABLE[statistic], 2000), 2000)


def test_bootstrap_of_one_success_in_four_has_the_percentiles_of_the_binomial():
    # The resampled mean is Binomial(4, 1/4) / 4 with distribution .316, .738, .949, .996, 1 at 0, 1/4, 1/2, 3/4, 1.
    scores = [0.0, 0.0, 1.0, 0.0]
    assert bootstrap(scores, mean, rng()) == Estimate(0.25, 0.0, 0.75)
    assert bootstrap(scores, mean, rng(), confidence=0.2) == Estimate(0.25, 0.25, 0.25)
    assert bootstrap(scores, mean, rng(), confidence=0.6) == Estimate(0.25, 0.0, 0.5)


def test_tasks_are_resampled_on_their_own():
    # Runs resampled whole would leave the mean of (x, -x) at 0; tasks mixed would move the mean of (0, 1).
    x = np.arange(6.0)
    assert bootstrap(np.stack([x, -x], axis=1), mean, rng()).high > 0.5
    assert bootstrap(np.tile([0.0, 1.0], (6, 1)), mean, rng()) == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize(("n_runs", "low", "high"), [(5, 0.80, 0.88), (20, 0.91, 0.96)])
def test_bootstrap_covers_a_known_mean_as_often_as_its_normal_theory_says(n_runs, low, high):
    # Percentile bounds are about 1.96 sqrt((N - 1) / N) standard errors: P(|t_4| < 1.75) = .85, P(|t_19| < 1.91) = .93.
    g = rng(7)
    hits = 0
    for _ in range(500):
        estimate = bootstrap(g.normal(3.0, 2.0, n_runs), mean, g, n_resamples=500)
        hits += estimate.low <= 3.0 <= estimate.high
    assert low <= hits / 500 <= high


def test_more_confidence_is_a_wider_interval():
    scores = rng(2).normal(size=9)
    wide, narrow = (bootstrap(scores, iqm, rng(), confidence=confidence) for confidence in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_equal_generators_give_equal_intervals_and_numpys_own_is_left_alone():
    scores = rng(2).normal(size=(5, 2))
    np.random.seed(1)
    before = np.random.random()
    np.random.seed(1)
    assert bootstrap(scores, iqm, rng(5)) == bootstrap(scores, iqm, rng(5)) != bootstrap(scores, iqm, rng(6))
    assert np.random.random() == before


def test_one_run_has_no_interval():
    x, y = [[3.0, 4.0]], [[1.0, 2.0], [5.0, 9.0]]
    for estimate in (
        bootstrap([3.0], iqm, rng()),
        paired_difference([3.0], [0.0], rng()),
        probability_of_improvement_interval(x, y, rng()),
        probability_of_improvement_interval(y, x, rng()),
    ):
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
    assert np.isnan(performance_profile_interval(x, [0.0, 3.5, 5.0], rng())).all()


def test_two_runs_have_the_interval_between_them():
    # A quarter of all resamples is the first run twice, a quarter the second.
    assert bootstrap([3.0, 4.0], mean, rng()) == Estimate(3.5, 3.0, 4.0)


def test_equal_runs_have_an_interval_of_no_width():
    estimate = bootstrap(np.full((4, 3), 0.1), iqm, rng())
    assert [estimate.value, estimate.low, estimate.high] == pytest.approx([0.1] * 3)


# Performance profiles


def test_profile_is_the_share_strictly_above_each_threshold():
    scores = [[1.0, 2.0], [3.0, 4.0]]
    assert performance_profile(scores, [0.0, 1.0, 2.0, 3.5, 4.0]).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_profile_and_its_interval_agree_with_rliable():
    scores, thresholds = rng(4).normal(size=(8, 3)), np.linspace(-1.0, 1.0, 5)
    np.random.seed(0)
    values, bounds = library.create_performance_profile({"it": scores}, thresholds)
    assert performance_profile(scores, thresholds) == pytest.approx(values["it"], rel=1e-9)
    low, high = performance_profile_interval(scores, thresholds, rng())
    # Resampled shares are multiples of 1/24, so a bound may be off by one of these.
    assert low == pytest.approx(bounds["it"][0], abs=1.01 / 24)
    assert high == pytest.approx(bounds["it"][1], abs=1.01 / 24)


def test_profile_interval_of_one_in_four_has_the_percentiles_of_the_binomial():
    low, high = performance_profile_interval([0.0, 0.0, 1.0, 0.0], [0.5, 1.0], rng())  # as for the bootstrap above
    assert low.tolist() == [0.0, 0.0]
    assert high.tolist() == [0.75, 0.0]
    low, high = performance_profile_interval([0.0, 0.0, 1.0, 0.0], [0.5], rng(), confidence=0.6)
    assert (low.item(), high.item()) == (0.0, 0.5)


@holds_for_all
@given(whole_numbers)
def test_profile_falls_from_one_to_zero(scores):
    profile = performance_profile(scores, np.arange(-5, 6))
    assert profile[0] == 1.0
    assert profile[-1] == 0.0
    assert (np.diff(profile) <= 0.0).all()


# Probability of improvement


def test_probability_of_improvement_counts_ties_as_halves():
    # 1 against 2, 3: loses twice; 3 against 2, 3: a win and a tie; 1.5 of 4.
    assert probability_of_improvement([1.0, 3.0], [2.0, 3.0]) == 0.375


def test_probability_of_improvement_equals_rliable_and_mann_whitney():
    g = rng(5)
    x, y = g.integers(0, 6, (7, 3)).astype(float), g.integers(1, 7, (9, 3)).astype(float)  # with ties
    assert probability_of_improvement(x, y) == pytest.approx(metrics.probability_of_improvement(x, y), rel=1e-9)
    u = [scipy.stats.mannwhitneyu(x[:, m], y[:, m]).statistic / (7 * 9) for m in range(3)]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(u), rel=1e-9)


@pytest.mark.parametrize("sizes", [((8, 1), (5, 1)), ((6, 3), (9, 3))], ids=str)
def test_interval_of_the_probability_of_improvement_agrees_with_rliable(sizes):
    g = rng(6)
    x, y = g.normal(0.4, 1.0, sizes[0]), g.normal(0.0, 1.5, sizes[1])
    estimate = probability_of_improvement_interval(x, y, rng(), n_resamples=500)
    agrees(estimate, *rliable_interval([x, y], metrics.probability_of_improvement, 500), 500)


def test_both_sides_of_the_probability_of_improvement_are_resampled():
    # Against four equal runs of .5, wins are the Binomial(4, 1/4) / 4 of the bootstrap above, or 1 minus it.
    one_in_four, fixed = [0.0, 0.0, 1.0, 0.0], [0.5] * 4
    assert probability_of_improvement_interval(one_in_four, fixed, rng()) == Estimate(0.25, 0.0, 0.75)
    assert probability_of_improvement_interval(fixed, one_in_four, rng()) == Estimate(0.75, 0.25, 1.0)


def test_both_sides_of_the_probability_of_improvement_are_resampled_per_task():
    # Runs resampled whole would win exactly one of the two tasks each.
    either, fixed = np.array([[0.0, 1.0], [1.0, 0.0]] * 3), np.full((6, 2), 0.5)
    for x, y in ((either, fixed), (fixed, either)):
        estimate = probability_of_improvement_interval(x, y, rng())
        assert estimate.low < estimate.value == 0.5 < estimate.high


@holds_for_all
@given(whole_numbers, whole_numbers)
def test_either_side_is_the_better_one(x, y):
    assert probability_of_improvement(x, y) + probability_of_improvement(y, x) == pytest.approx(1.0)


# Pairs


def test_paired_difference_sees_through_what_seeds_share():
    luck = rng(8).normal(0.0, 100.0, 6)
    estimate = paired_difference(luck + np.repeat([3.0, 1.0], 3), luck, rng())
    # The mean of 6 draws of 1 or 3: 1 + 2 Binomial(6, 1/2) / 6, whose 2.5 % and 97.5 % quantiles are 1/6 and 5/6.
    assert [estimate.value, estimate.low, estimate.high] == pytest.approx([2.0, 1 + 2 / 6, 3 - 2 / 6])


def test_sign_flips_by_hand():
    assert sign_flip_test([1.0, 2.0, 3.0], rng()) == 0.25  # |sum| = 6 for +++ and --- of 8
    assert sign_flip_test([1.0, -2.0, 4.0], rng()) == 0.75  # sums +-7, +-5, +-3, +-1: all but two reach 3
    assert sign_flip_test([1.0] * 6, rng()) == 2 / 64
    assert sign_flip_test([1000.0, 0.001], rng()) == 0.5  # 999.999 is no tie


@pytest.mark.parametrize("n", [2, 5, 14])
def test_exact_sign_flips_equal_the_permutation_test_of_scipy(n):
    differences = rng(n).normal(0.5, 1.0, n)
    result = scipy.stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=inf)
    assert sign_flip_test(differences, rng()) == pytest.approx(result.pvalue, rel=1e-9)


@holds_for_all
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=7))
def test_sign_flips_count_sums_that_differ_by_rounding_as_ties(differences):
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    p = Fraction(sum(s >= abs(sum(differences)) for s in sums), len(sums))  # in integers
    assert sign_flip_test(np.array(differences) / 10, rng()) == float(p)  # .1 + .2 - .3 is not 0
    assert sign_flip_test(-np.array(differences[::-1]) * 1e6, rng()) == float(p)


def test_drawn_sign_flips_agree_with_enumerated_ones():
    differences = rng(1).normal(0.1, 1.0, 16)
    exact = sign_flip_test(differences, rng(), max_exact=16)
    assert 0.05 < exact < 0.95
    assert sign_flip_test(differences, rng()) == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(20000))


def test_drawn_sign_flips_never_give_zero():
    assert sign_flip_test(np.ones(60), rng(), n_draws=999) == 1 / 1000


def test_no_differences_are_no_evidence():
    assert sign_flip_test(np.zeros(5), rng()) == 1.0
    assert sign_flip_test(np.zeros(20), rng()) == 1.0
    assert sign_flip_test([2.0], rng()) == 1.0


# Holm


def test_holm_by_hand():
    # Sorted .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04, and the last is raised to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_stops_at_one_and_leaves_nan_out_of_the_count():
    assert holm([0.04, nan, 0.6, 0.7]) == pytest.approx([0.12, nan, 1.0, 1.0], nan_ok=True)
    assert np.isnan(holm([nan, nan])).all()
    assert holm([]).shape == (0,)


@holds_for_all
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_adjusted_p_values_decide_as_holms_steps_do(p_values, alpha):
    # Step down: reject the smallest while p_(i) <= alpha / (K - i + 1).
    rejected = set()
    for left, i in zip(range(len(p_values), 0, -1), np.argsort(p_values), strict=True):
        if p_values[i] * left > alpha:
            break
        rejected.add(i)
    assert set(np.flatnonzero(holm(p_values) <= alpha)) == rejected


# Learning curves


def test_area_under_curve_by_hand():
    steps, values = [0, 10, 20], [0.0, 10.0, 10.0]
    assert area_under_curve(steps, values) == 7.5  # (50 + 100) / 20
    assert area_under_curve(steps, values, start=5, stop=15) == 8.75  # (5 * 7.5 + 5 * 10) / 10
    assert area_under_curve(steps, values, start=-10, stop=30) == 6.25  # (0 + 50 + 100 + 100) / 40
    assert area_under_curve(steps, values, start=2, stop=4) == 3.0  # inside one piece
    assert area_under_curve(steps, values, start=30, stop=40) == 10.0  # held after the end


def test_area_of_no_width_is_the_value_there():
    assert area_under_curve([5], [3.0]) == 3.0
    assert area_under_curve([0, 10], [0.0, 1.0], start=4, stop=4) == pytest.approx(0.4)


@holds_for_all
@given(st.lists(st.floats(-5.0, 5.0), min_size=2, max_size=6), st.floats(0.1, 0.9))
def test_area_is_the_limit_of_a_mean_and_adds_up(values, cut):
    steps = np.cumsum(1.0 + np.arange(len(values)))
    whole, middle = area_under_curve(steps, values), steps[0] + cut * (steps[-1] - steps[0])
    parts = area_under_curve(steps, values, stop=middle), area_under_curve(steps, values, start=middle)
    assert cut * parts[0] + (1.0 - cut) * parts[1] == pytest.approx(whole, abs=1e-9)
    fine = steps[0] + (np.arange(4000) + 0.5) / 4000 * (steps[-1] - steps[0])
    assert np.interp(fine, steps, values).mean() == pytest.approx(whole, abs=1e-3)


# Survival


def test_kaplan_meier_by_hand():
    # 1 of 5 at t = 1: 4/5. At t = 2 the censored run still counts: 1 of 4, 4/5 * 3/4 = 3/5. At t = 3 1 of 2: 3/10.
    curve = kaplan_meier([3.0, 2.0, 5.0, 1.0, 2.0], np.array([True, False, False, True, True]))
    assert curve.times.tolist() == [1.0, 2.0, 3.0]
    assert curve.at_risk.tolist() == [5, 4, 2]
    assert curve.survival == pytest.approx([0.8, 0.6, 0.3])
    # At t = 1, se^2 = 1/20, log S = -.22314, exp(1.95996 * .22361 / .22314) = 7.1278: .8^7.1278 and .8^(1/7.1278).
    assert [curve.low[0], curve.high[0]] == pytest.approx([0.2038, 0.9692], abs=1e-4)
    assert curve.at([0.0, 0.99, 1.0, 2.5, 4.9, 5.0]) == pytest.approx([1.0, 1.0, 0.8, 0.6, 0.3, 0.3])
    assert curve.end == 5.0


@pytest.mark.parametrize("confidence", [0.95, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_kaplan_meier_and_its_band_equal_those_of_scipy(seed, confidence):
    g = rng(seed)
    times, observed = g.integers(1, 15, 30).astype(float), g.random(30) < 0.6  # ties of both kinds
    observed[times == times.max()] = False  # at S = 0 scipy warns of the band
    curve = kaplan_meier(times, observed, confidence=confidence)
    sf = scipy.stats.ecdf(scipy.stats.CensoredData(times[observed], right=times[~observed])).sf
    band = sf.confidence_interval(confidence, method="log-log")
    events = np.isin(sf.quantiles, curve.times)  # scipy also lists the times of censorings
    assert len(curve.times) == events.sum()
    assert curve.survival == pytest.approx(sf.probabilities[events], rel=1e-9)
    assert curve.low == pytest.approx(band.low.probabilities[events], rel=1e-9)
    assert curve.high == pytest.approx(band.high.probabilities[events], rel=1e-9)


@holds_for_all
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_without_censoring_survival_is_the_share_still_to_come(times):
    curve = kaplan_meier(times, np.ones(len(times), bool))
    grid = np.arange(-1, 12)
    assert curve.at(grid) == pytest.approx([(np.array(times) > t).mean() for t in grid])
    assert curve.survival[-1] == 0.0
    assert restricted_mean(curve, 6.5) == pytest.approx(np.minimum(times, 6.5).mean())
    assert restricted_mean(curve, 100.0) == pytest.approx(np.mean(times))


@holds_for_all
@given(event_times)
def test_survival_equals_the_redistribution_of_censored_runs_to_the_right(runs):
    # Efron (1967): a censored run passes its weight on to those that come after it in equal shares.
    runs = sorted(runs, key=lambda run: (run[0], not run[1]))
    weights, survival, total = np.full(len(runs), 1.0 / len(runs)), {}, 1.0
    for i, (time, observed) in enumerate(runs):
        if observed:
            total -= weights[i]
            survival[time] = total
        elif i + 1 < len(runs):
            weights[i + 1 :] += weights[i] / (len(runs) - i - 1)
    times, observed = zip(*runs, strict=True)
    curve = kaplan_meier(times, np.array(observed))
    assert dict(zip(curve.times, curve.survival, strict=True)) == pytest.approx(survival)


@holds_for_all
@given(event_times)
def test_survival_falls_within_its_band(runs):
    times, observed = zip(*runs, strict=True)
    curve = kaplan_meier(times, np.array(observed))
    inside = curve.survival > 0.0
    assert (np.diff(curve.survival) < 0.0).all()
    assert (np.isnan(curve.low) == ~inside).all()
    assert (np.isnan(curve.high) == ~inside).all()
    assert ((curve.low > 0.0) & (curve.low < curve.survival) & (curve.survival < curve.high))[inside].all()
    assert (curve.high[inside] < 1.0).all()


def test_without_events_survival_stays_at_one_and_has_no_band():
    curve = kaplan_meier([10.0, 10.0, 12.0], np.zeros(3, bool))
    assert len(curve.times) == len(curve.low) == 0
    assert curve.at(12.0) == 1.0
    assert restricted_mean(curve, 11.0) == 11.0
    assert curve.median().value == inf
    assert math.isnan(curve.median().low)


def test_after_the_end_survival_is_unknown_unless_it_is_zero():
    open_end = kaplan_meier([2.0, 8.0], np.array([True, False]))
    assert open_end.at([8.0, 9.0]) == pytest.approx([0.5, nan], nan_ok=True)
    assert restricted_mean(open_end, 8.0) == 5.0  # 2 * 1 + 6 * .5
    assert math.isnan(restricted_mean(open_end, 9.0))
    closed = kaplan_meier([8.0, 2.0], np.array([True, False]))
    assert closed.at(9.0) == 0.0
    assert restricted_mean(closed, 9.0) == 8.0


def test_restricted_mean_by_hand():
    curve = kaplan_meier([3.0, 2.0, 5.0, 1.0, 2.0], np.array([True, False, False, True, True]))
    assert restricted_mean(curve, 4.0) == pytest.approx(1.0 + 0.8 + 0.6 + 0.3)
    assert restricted_mean(curve, 2.5) == pytest.approx(1.0 + 0.8 + 0.6 / 2)
    assert restricted_mean(curve, 0.5) == 0.5


@pytest.mark.parametrize("n", range(1, 60))
def test_median_is_when_half_of_the_runs_are_through(n):
    curve = kaplan_meier(np.arange(1, n + 1), np.ones(n, bool))
    assert curve.median().value == math.ceil(n / 2)  # for even n, S is 1/2 but for rounding


def test_interval_of_the_median_is_where_the_band_crosses_one_half():
    times, observed = np.arange(1.0, 21.0), np.arange(20) % 4 != 3
    curve = kaplan_meier(times, observed)
    low, high = (curve.times[np.flatnonzero(bound <= 0.5)[0]] for bound in (curve.low, curve.high))
    assert curve.median() == Estimate(curve.times[np.flatnonzero(curve.survival <= 0.5)[0]], low, high)
    assert low < curve.median().value < high


def test_a_median_that_is_not_reached_is_infinite():
    few = kaplan_meier([1.0, 9.0, 9.0, 9.0, 9.0, 9.0], np.array([True, False, False, False, False, False]))
    assert few.median() == Estimate(inf, 1.0, inf)  # S = 5/6 with low .27
    half = kaplan_meier([1.0, 2.0, 3.0, 4.0, 4.0], np.array([True, True, True, False, False]))
    assert half.median() == Estimate(3.0, 1.0, inf)  # 3/5 at 2, 2/5 at 3 with high .75


def test_all_runs_at_once_have_a_median_without_interval():
    for n in (1, 7):
        estimate = kaplan_meier(np.full(n, 5.0), np.ones(n, bool)).median()
        assert estimate.value == 5.0
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)


def test_a_drop_to_zero_ends_the_lower_bound_of_the_median_and_not_the_upper_one():
    curve = kaplan_meier([1.0] + [2.0] * 29, np.ones(30, bool))  # S = 29/30 with low .79, then 0
    assert curve.median() == Estimate(2.0, 2.0, inf)


# Shares of variance, and the best


def test_omega_squared_by_hand():
    # Means 2 and 4 about 3: SSB = 3 + 3 = 6; SSW = 2 + 2 = 4, MSW = 4 / 4 = 1; (6 - 1) / (10 + 1).
    assert explained_variance_share([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]) == pytest.approx(5 / 11)


def test_omega_squared_follows_from_the_f_of_scipy():
    # omega^2 = df_b (F - 1) / (df_b (F - 1) + N)
    groups = [rng(i).normal(i, 2.0, n) for i, n in enumerate((3, 7, 5, 1))]
    f = scipy.stats.f_oneway(*groups).statistic
    assert explained_variance_share(groups) == pytest.approx(3 * (f - 1) / (3 * (f - 1) + 16), rel=1e-9)
    moved = [1e6 - 3.0 * group for group in groups]
    assert explained_variance_share(moved) == pytest.approx(explained_variance_share(groups), rel=1e-6)


def test_explained_share_at_its_ends():
    assert explained_variance_share([[0.1] * 3, [0.1] * 3]) == 0.0
    assert explained_variance_share([[0.0, 1.0], [1.0, 0.0]]) == 0.0  # the formula gives less
    assert explained_variance_share([[1.0, 1.0], [2.0, 2.0]]) == 1.0


def test_explained_share_needs_two_groups_and_a_group_of_two():
    assert math.isnan(explained_variance_share([[1.0, 2.0]]))
    assert math.isnan(explained_variance_share([]))
    assert math.isnan(explained_variance_share([[1.0], [2.0], [3.0]]))
    assert math.isfinite(explained_variance_share([[1.0], [2.0], [3.0, 3.5]]))


def test_robust_range_is_what_overlaps_the_best():
    estimates = [
        Estimate(5.0, 1.0, 8.0),
        Estimate(7.0, 6.0, 7.9),  # ends just below
        Estimate(10.0, 8.0, 12.0),  # the best
        Estimate(nan, 0.0, 20.0),
        Estimate(9.0, nan, nan),  # a point inside
        Estimate(7.0, nan, nan),
    ]
    assert robust_range(estimates) == [0, 2, 4]


def test_robust_range_without_intervals_is_the_best_alone():
    assert robust_range([Estimate(1.0, nan, nan), Estimate(3.0, nan, nan), Estimate(2.0, nan, nan)]) == [1]
    assert robust_range([Estimate(1.0, 0.0, 2.0), Estimate(3.0, 2.5, 4.0)]) == [1]
    assert robust_range([Estimate(1.0, 5.0, 6.0), Estimate(3.0, 2.5, 4.0)]) == [1]  # wholly above, which is no overlap
    assert robust_range([Estimate(nan, nan, nan)]) == robust_range([]) == []


# All


@holds_for_all
@given(whole_numbers, st.randoms(use_true_random=False))
def test_the_order_of_runs_does_not_matter(scores, random):
    mixed = random.sample(scores, len(scores))
    for statistic in (iqm, mean, median, seed_median):
        assert statistic(np.array(mixed)[:, None]) == pytest.approx(statistic(np.array(scores)[:, None]))
    assert performance_profile(mixed, [0.0, 2.0]).tolist() == performance_profile(scores, [0.0, 2.0]).tolist()
    assert probability_of_improvement(mixed, scores) == 0.5
    assert sign_flip_test(mixed, rng()) == sign_flip_test(scores, rng())
    curve, same = (kaplan_meier(np.abs(x), np.array(x) > 0) for x in (scores, mixed))
    assert curve.survival.tolist() == same.survival.tolist()


@pytest.mark.parametrize("bad", [nan, inf, None])
def test_scores_that_are_no_numbers_are_refused(bad):
    scores = [1.0, bad, 2.0]
    for call in (
        lambda: iqm([scores]),
        lambda: mean([scores]),
        lambda: median([scores]),
        lambda: seed_median([scores]),
        lambda: bootstrap(scores, mean, rng()),
        lambda: performance_profile(scores, [0.0]),
        lambda: performance_profile([0.0], scores),
        lambda: probability_of_improvement([1.0], scores),
        lambda: paired_difference([1.0, 2.0, 3.0], scores, rng()),
        lambda: sign_flip_test(scores, rng()),
        lambda: area_under_curve([0, 1, 2], scores),
        lambda: kaplan_meier(scores, np.ones(3, bool)),
        lambda: explained_variance_share([scores, [1.0]]),
    ):
        with pytest.raises(ValueError, match=r"must be finite, got (nan|inf) among 3 numbers"):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm([1.0, 2.0]), r"scores must be \[..., N, M\] and not empty, got shape \(2,\)"),
        (lambda: mean(np.ones((0, 3))), r"got shape \(0, 3\)"),
        (lambda: bootstrap(np.ones((2, 2, 2)), mean, rng()), r"scores must be \[N\] or \[N, M\]"),
        (lambda: bootstrap([], mean, rng()), r"not empty, got shape \(0,\)"),
        (lambda: bootstrap([1.0, 2.0], np.mean, rng()), r"must map \[B, N, M\] to \[B\], got \(\)"),
        (lambda: bootstrap([1.0, 2.0], mean, rng(), confidence=95), r"0 < confidence < 1 .* got 95 and 2000"),
        (lambda: bootstrap([1.0, 2.0], mean, rng(), n_resamples=0), r"n_resamples >= 1, got 0.95 and 0"),
        (lambda: performance_profile_interval([1.0], [0.0], rng(), n_resamples=0), "n_resamples >= 1"),
        (lambda: probability_of_improvement_interval([1.0], [0.0], rng(), confidence=1.0), "confidence < 1"),
        (lambda: performance_profile([1.0], [[0.0]]), r"thresholds must be one-dimensional"),
        (lambda: probability_of_improvement(np.ones((2, 3)), np.ones((2, 1))), "same tasks, got 3 and 1 columns"),
        (lambda: paired_difference([1.0, 2.0], [1.0], rng()), "as many x as y, got 2 and 1"),
        (lambda: sign_flip_test([[1.0]], rng()), r"one-dimensional and not empty, got shape \(1, 1\)"),
        (lambda: holm([0.5, 1.5]), r"\[0, 1\] or NaN, got \[0.5 1.5\]"),
        (lambda: holm([-0.1]), r"\[0, 1\] or NaN, got \[-0.1\]"),
        (lambda: holm([[0.5]]), r"\[K\] numbers"),
        (lambda: area_under_curve([0, 1], [1.0]), "one increasing step for each of 1 values"),
        (lambda: area_under_curve([0, 0], [1.0, 2.0]), "increasing step"),
        (lambda: area_under_curve([0, 1], [1.0, 2.0], start=3), "finite start, not after stop, got 3 and 1.0"),
        (lambda: area_under_curve([0, 1], [1.0, 2.0], stop=nan), "finite start, not after stop"),
        (lambda: area_under_curve([0, 1], [1.0, 2.0], start=-inf), "finite start, not after stop"),
        (lambda: kaplan_meier([1.0, 2.0], [1, 0]), "a boolean for each"),
        (lambda: kaplan_meier([1.0, 2.0], [True]), "a boolean for each"),
        (lambda: kaplan_meier([-1.0], [True]), "times >= 0"),
        (lambda: kaplan_meier([], np.ones(0, bool)), "times must be one-dimensional and not empty"),
        (lambda: kaplan_meier([1.0], [True], confidence=0.0), "0 < confidence"),
        (lambda: restricted_mean(kaplan_meier([1.0], [True]), 0.0), "a finite time above 0, got 0.0"),
        (lambda: restricted_mean(kaplan_meier([1.0], [True]), inf), "a finite time above 0, got inf"),
        (lambda: explained_variance_share([[1.0], []]), "each group must be one-dimensional and not empty"),
    ],
)
def test_what_would_be_silently_wrong_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
