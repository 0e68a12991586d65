"""Measures of calibration against scikit-learn, torchmetrics, naive loops, and models whose truth is known."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn import metrics as theirs
from torchmetrics.functional.classification import multiclass_calibration_error

from entropic_rl.benchmarks.calibration_metrics import simulate
from entropic_rl.calibration import (
    CalibrationReport,
    calibration_report,
    detection,
    ood_report,
    ood_scores,
    risk_coverage,
)
from entropic_rl.calibration.metrics import MEASURES, Meter, debiased, equal_mass_bins, equal_width_bins
from entropic_rl.errors import ConfigError, UserError


def example(n=300, n_classes=4, seed=0, sharpness=0.5):
    """Probabilities, and labels of a world that is less sure than they are."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(n_classes, sharpness), size=n)
    truth = 0.8 * proba + 0.2 / n_classes
    return (rng.random((n, 1)) > truth.cumsum(1)).sum(1).clip(max=n_classes - 1), proba


def report(y, proba, **options):
    return calibration_report(y, proba, **({"n_resamples": 40} | options))


def naive_bins(p, hits, n_bins):
    """Sum over bins of share * |mean p - mean hit|, and the largest gap, with bins (a, b]."""
    total, largest = 0.0, 0.0
    for k in range(n_bins):
        a, b = k / n_bins, (k + 1) / n_bins
        rows = [i for i in range(len(p)) if a < p[i] <= b or (k == 0 and p[i] == 0)]
        if rows:
            gap = abs(sum(p[i] for i in rows) / len(rows) - sum(hits[i] for i in rows) / len(rows))
            total, largest = total + gap * len(rows) / len(p), max(largest, gap)
    return total, largest


# Each measure


def test_scores_are_scikit_learns():
    y, proba = example()
    found = report(y, proba)
    assert found["accuracy"].value == pytest.approx(theirs.accuracy_score(y, proba.argmax(1)), abs=1e-12)
    assert found["nll"].value == pytest.approx(theirs.log_loss(y, proba), abs=1e-6)
    assert found["brier"].value == pytest.approx(theirs.brier_score_loss(y, proba, scale_by_half=False), abs=1e-12)


@pytest.mark.parametrize("n_bins", [5, 15, 30])
def test_ece_and_largest_error_are_torchmetrics(n_bins):
    y, proba = example()
    tensors = torch.from_numpy(proba), torch.from_numpy(y)
    found = report(y, proba, n_bins=n_bins)
    for name, norm in (("ece", "l1"), ("max_error", "max")):
        value = multiclass_calibration_error(*tensors, num_classes=4, n_bins=n_bins, norm=norm).item()
        assert found[name].value == pytest.approx(value, abs=1e-6)


def test_certainty_belongs_to_the_last_bin():
    # Nine rows at .95 of which five are right, one sure row that is wrong: one bin, |9.55 / 10 - 5 / 10| = .455.
    # A bin of its own for certainty would give (9 (.95 - 5/9) + 1) / 10 = .455 too, unless the gaps have two signs:
    # let nine of nine be right: |9.55 - 9| / 10 = .055, where two bins give (9 * .05 + 1) / 10 = .145.
    proba = np.array([[0.05, 0.95]] * 9 + [[0.0, 1.0]])
    y = np.array([1] * 9 + [0])
    assert report(y, proba, n_bins=10)["ece"].value == pytest.approx(0.055, abs=1e-12)
    phantom = multiclass_calibration_error(torch.from_numpy(proba), torch.from_numpy(y), num_classes=2, n_bins=10)
    assert phantom.item() == pytest.approx(0.145, abs=1e-6)


def test_binned_errors_are_those_of_a_loop_with_ties_and_ends():
    rng = np.random.default_rng(3)
    proba = rng.multinomial(10, [0.2, 0.3, 0.5], size=200) / 10.0
    proba[:3] = [[0, 0, 1], [1, 0, 0], [0.5, 0.5, 0]]
    y = rng.integers(3, size=200)
    found = report(y, proba, n_bins=7)
    p, hits = proba.max(1), proba.argmax(1) == y
    ece, largest = naive_bins(p, hits, 7)
    assert found["ece"].value == pytest.approx(ece, abs=1e-12)
    assert found["max_error"].value == pytest.approx(largest, abs=1e-12)
    assert found["signed_gap"].value == pytest.approx(p.mean() - hits.mean(), abs=1e-12)
    by_class = [naive_bins(proba[:, c], y == c, 7)[0] for c in range(3)]
    assert found["ece_classwise"].value == pytest.approx(np.mean(by_class), abs=1e-12)


def test_equal_mass_error_is_that_of_a_loop():
    y, proba = example(n=120)
    p, hits = proba.max(1), (proba.argmax(1) == y).astype(float)
    order = np.argsort(p)
    parts = [order[k * 12 : (k + 1) * 12] for k in range(10)]
    expected = sum(abs(p[part].sum() - hits[part].sum()) for part in parts) / 120
    assert report(y, proba, n_bins=10)["ece_mass"].value == pytest.approx(expected, abs=1e-12)


def test_ties_stay_in_one_bin_of_equal_mass():
    bins = equal_mass_bins(np.array([0.5] * 7 + [0.9, 0.95, 1.0]), 5)
    assert len(set(bins[:7].tolist())) == 1
    assert bins.max() <= 4
    assert equal_mass_bins(np.arange(3.0), 10).tolist() == sorted(equal_mass_bins(np.arange(3.0), 10).tolist())


def test_bins_of_equal_width_hold_their_upper_end():
    assert equal_width_bins(np.array([0.0, 0.25, 0.2500001, 0.5, 1.0]), 4).tolist() == [0, 0, 1, 1, 3]


def test_split_of_the_brier_score_is_murphys_where_forecasts_take_one_value_per_bin():
    rng = np.random.default_rng(5)
    forecast = rng.choice([0.1, 0.35, 0.6, 0.85], size=400)
    y = (rng.random(400) < forecast**1.5).astype(int)
    found = report(y, forecast, n_bins=10)
    reliability = resolution = 0.0
    for value in np.unique(forecast):
        rows = forecast == value
        reliability += rows.mean() * (value - y[rows].mean()) ** 2
        resolution += rows.mean() * (y[rows].mean() - y.mean()) ** 2
    # of both classes, which are mirror images
    assert found["reliability"].value == pytest.approx(2 * reliability, abs=1e-12)
    assert found["resolution"].value == pytest.approx(2 * resolution, abs=1e-12)
    assert found["uncertainty"].value == pytest.approx(2 * y.mean() * (1 - y.mean()), abs=1e-12)


def naive_smooth_error(p, hits):
    """The fixed point of Blasiok & Nakkiran's error, kernel by kernel, reflections by images."""
    t = (np.arange(2000) + 0.5) / 2000

    def error(width):
        kernel = sum(
            np.exp(-((t[:, None] - sign * p - shift) ** 2) / (2 * width**2)) for sign in (1, -1) for shift in (-2, 0, 2)
        )
        return np.abs(kernel @ (p - hits) / (len(p) * width * math.sqrt(2 * math.pi))).mean()

    return brentq(lambda width: error(width) - width, 1e-3, 0.6, xtol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_smooth_error_is_the_fixed_point_of_the_smoothed_gap(seed):
    y, proba = example(seed=seed, sharpness=0.2)
    expected = naive_smooth_error(proba.max(1), (proba.argmax(1) == y).astype(float))
    assert report(y, proba)["ece_smooth"].value == pytest.approx(expected, abs=2e-4)


def test_smooth_error_of_a_constant_gap_is_near_it():
    # All at .7 of which half are right: smoothing keeps the integral .2 of |gap|, so that the fixed point is .2.
    y = np.tile([0, 1], 500)
    assert report(y, np.full(1000, 0.7))["ece_smooth"].value == pytest.approx(0.2, abs=2e-3)


def test_variants_are_measured_as_if_each_were_alone():
    y, proba = example(n=60)
    meter, rng = Meter(proba, 15), np.random.default_rng(0)
    rows = rng.integers(60, size=(5, 60))
    together = meter.measure(y[rows], rows)
    assert set(together) == set(MEASURES)
    for i in range(5):
        for name, value in meter.measure(y[rows[i : i + 1]], rows[i : i + 1]).items():
            assert value[0] == pytest.approx(together[name][i], abs=1e-14)
    alone = Meter(proba[rows[0]], 15).measure(y[rows[0]][None])
    for name in set(MEASURES) - {"ece_mass"}:  # whose bins stay those of the whole data
        assert together[name][0] == pytest.approx(alone[name][0], abs=1e-12)


# How sure


@pytest.mark.slow
@pytest.mark.parametrize(("gap", "plain"), [(0.0, 1.1), pytest.param(0.02, 2.4, marks=pytest.mark.slow), (0.05, 5.25)])
def test_debiased_error_reads_the_truth_where_the_plain_one_reads_chance_too(gap, plain):
    reports = simulate(gap, 360, 100, n_resamples=40)
    assert 100 * np.mean([found["ece"].value for found in reports]) == pytest.approx(plain, abs=0.25)
    assert 100 * np.mean([found["ece_debiased"].value for found in reports]) == pytest.approx(100 * gap, abs=0.3)
    rejected = np.mean([found.p_value < 0.05 for found in reports])
    assert rejected <= 0.11 if gap == 0 else rejected >= (0.5 if gap < 0.05 else 0.97)
    assert np.mean([found["ece"].low <= gap <= found["ece"].high for found in reports]) >= 0.88


def test_noise_floor_is_the_published_one():
    # Calibrated, with Beta(20, .5) confidences: 1.10 points on average at n = 360, 2.0 at the 95th percentile.
    confidence = np.random.default_rng(1).beta(20, 0.5, 360)
    found = calibration_report(np.ones(360, dtype=int), confidence)["ece"]
    assert 100 * found.floor == pytest.approx(1.1, abs=0.25)
    assert 100 * found.floor_high == pytest.approx(2.0, abs=0.4)


def test_debiased_error_by_hand():
    assert debiased(0.05, 0.03) == pytest.approx(0.04)
    assert debiased(0.03, 0.05) == pytest.approx(-0.04)
    assert debiased(0.03, 0.03) == 0.0


def test_interval_of_the_accuracy_is_the_binomial_one():
    y, proba = example(n=900)
    found = calibration_report(y, proba)["accuracy"]
    width = 1.96 * math.sqrt(found.value * (1 - found.value) / 900)
    assert found.low == pytest.approx(found.value - width, abs=0.15 * width)
    assert found.high == pytest.approx(found.value + width, abs=0.15 * width)


def test_intervals_hold_the_value():
    y, proba = example(n=400)
    found = calibration_report(y, proba, n_resamples=300)
    for name in ("accuracy", "nll", "brier", "reliability", "resolution", "ece", "ece_classwise", "signed_gap"):
        assert found[name].low <= found[name].value <= found[name].high


def test_floor_of_the_likelihood_is_the_mean_entropy():
    y, proba = example(n=900)
    found = calibration_report(y, proba, n_resamples=300)
    assert found["nll"].floor == pytest.approx(found.mean_entropy, abs=0.01)
    assert found["accuracy"].floor == pytest.approx(found.mean_confidence, abs=0.01)
    assert found.mean_entropy == pytest.approx(-(proba * np.log(proba)).sum(1).mean(), abs=1e-9)


def test_large_data_are_measured_in_pieces_of_the_same_result(monkeypatch):
    _, proba = example(n=50)
    whole = Meter(proba, 15).calibrated(30, np.random.default_rng(1))
    monkeypatch.setattr("entropic_rl.calibration.metrics._ENTRIES", 7 * proba.size)
    pieces = Meter(proba, 15).calibrated(30, np.random.default_rng(1))
    for name in MEASURES:
        np.testing.assert_allclose(pieces[name], whole[name], atol=1e-12)


def test_same_data_give_the_same_report_and_another_generator_other_intervals():
    y, proba = example(n=80)
    first, second, other = report(y, proba), report(y, proba), report(y, proba, rng=np.random.default_rng(9))
    assert first.measures == second.measures
    assert first["ece"].floor != other["ece"].floor
    assert first["ece"].value == other["ece"].value


# The report


def test_report_prints_every_measure_with_its_floor_and_size():
    y, proba = example(n=80)
    lines = str(report(y, proba)).splitlines()
    assert len(lines) == 1 + len(MEASURES) + 1 + 2
    assert len({len(line) for line in lines[:-2]}) == 1
    assert "95 % interval  if calibrated" in lines[0]
    assert "80 rows, 4 classes, 15 bins, 40 resamples" in lines[-2]


def test_report_becomes_json():
    y, proba = example(n=80)
    found = report(y, proba)
    again = json.loads(json.dumps(found.to_dict()))
    assert again["measures"]["ece"]["value"] == found["ece"].value
    assert again["p_value"] == found.p_value == found["ece"].p_value
    assert len(again["selective"]["risk"]) == again["n"] == 80


def test_report_cannot_be_changed():
    found = report(*example(n=20))
    assert isinstance(found, CalibrationReport)
    with pytest.raises(AttributeError):
        found.n = 3


def test_labels_are_found_by_name():
    y, proba = example(n=80)
    names = np.array(["red", "blue", "green", "amber"])
    assert report(names[y], proba, classes=names).measures == report(y, proba).measures


def test_probability_of_the_second_class_is_enough():
    y, proba = example(n=80, n_classes=2)
    assert report(y == 1, proba[:, 1]).measures.keys() == report(y, proba).measures.keys()
    assert report(y, proba[:, 1])["nll"].value == pytest.approx(report(y, proba)["nll"].value)


@pytest.mark.parametrize("y", [[0], [1]])
def test_one_row_and_certainty_are_measured(y):
    found = report(y, [[1.0, 0.0]])
    assert found["accuracy"].value == 1 - y[0]
    assert math.isfinite(found["nll"].value)  # log 0 counts as the smallest normal number's
    assert found["ece"].value == y[0]


OK = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("y", "proba", "options", "words"),
    [
        (
            [0, 1, 1],
            OK,
            {},
            r"expected labels y \[N\] and probabilities proba \[N, C\], C >= 2, got \(3,\) and \(2, 2\)",
        ),
        ([0, 2], OK, {}, r"^y: expected columns of proba, 0 to 1, got 0 to 2; name the columns by classes$"),
        (["a", "b"], OK, {}, r"^y: expected columns of proba as integers, got <U1; name the columns by classes$"),
        (
            ["a", "c"],
            OK,
            {"classes": ["a", "b"]},
            r"expected labels among \['a', 'b'\], got \['c'\]; proba has no column",
        ),
        ([0, 1], OK, {"classes": [0]}, r"^classes: expected 2 different labels, one per column of proba, got \[0\]$"),
        ([0, 1], [[0.5, 0.5], [0.2, 0.7]], {}, r"rows that sum to 1, got 0.9 in row 1; were these logits\?$"),
        ([0, 1], [[0.5, 0.5], [math.nan, 0.7]], {}, r"^proba: expected probabilities, got NaN in row 1$"),
        ([0, 1], [[0.5, 0.5], [-0.2, 1.2]], {}, r"^proba: expected numbers in \[0, 1\], got -0.2 to 1.2 in row 1$"),
        ([], np.zeros((0, 2)), {}, r"^y: expected at least one label, got none$"),
        ([0, 1], "no", {}, r"^proba: expected an array of numbers, got str$"),
        ([0, 1], OK, {"n_bins": 0}, r"^n_bins: expected at least 1, got 0$"),
        ([0, 1], OK, {"n_resamples": 0}, r"^n_resamples: expected at least 1, got 0$"),
    ],
)
def test_bad_input_is_one_clear_sentence(y, proba, options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        calibration_report(y, proba, **options)
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ValueError)


# What confidence is good for


def test_risk_coverage_by_hand():
    # Confident first: right, wrong, right, wrong -> risks 0, 1/2, 1/3, 1/2; best order: 0, 0, 1/3, 1/2.
    curve = risk_coverage([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6])
    assert curve.risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.area == pytest.approx(1 / 3)
    assert curve.excess == pytest.approx(1 / 8)
    assert curve.at(0.5) == 0.5
    assert curve.at(0.6) == pytest.approx(1 / 3)


def test_ties_count_as_the_mean_over_their_orders():
    curve = risk_coverage([1, 0, 0, 1], [0.5, 0.5, 0.5, 0.9])
    assert curve.risk.tolist() == pytest.approx([0, 1 / 3, 4 / 9, 1 / 2])


def test_detection_is_scikit_learns_with_ties():
    rng = np.random.default_rng(0)
    inside, outside = np.round(rng.normal(size=200), 1), np.round(rng.normal(1.0, 1.0, size=150), 1)
    truth, scores = np.repeat([0, 1], [200, 150]), np.concatenate([inside, outside])
    found = detection(inside, outside)
    assert found.auroc == pytest.approx(theirs.roc_auc_score(truth, scores), abs=1e-12)
    # insiders as positives, scored by the negative: the first threshold that keeps 95 % of them
    false, true, _ = theirs.roc_curve(1 - truth, -scores, drop_intermediate=False)
    assert found.fpr95 == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-12)


def test_scores_tell_flat_logits_from_peaked_ones():
    g = torch.Generator().manual_seed(0)
    inside, outside = 8 * torch.randn(200, 5, generator=g), 0.3 * torch.randn(100, 5, generator=g)
    found = ood_report(inside, outside)
    assert set(found) == {"max_probability", "entropy", "energy"}
    assert all(score.auroc > 0.9 and score.fpr95 < 0.7 for score in found.values())
    scores = ood_scores(inside)
    np.testing.assert_allclose(scores["energy"], -inside.double().logsumexp(1))
    entropy = torch.distributions.Categorical(logits=inside.double()).entropy()
    np.testing.assert_allclose(scores["entropy"], entropy, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: risk_coverage([1, 0], [0.5]), r"^expected one confidence per answer, got 1 and 2$"),
        (lambda: detection([], [1.0]), r"^inside: expected one finite number per row, got an array \(0,\)"),
        (lambda: detection([1.0], [math.nan]), r"^outside: expected one finite number .* with 1 that are not finite$"),
        (lambda: ood_scores([[0.0, math.inf]]), r"^logits: expected finite numbers \[N, C\], got \(1, 2\)$"),
    ],
)
def test_bad_scores_are_refused(call, words):
    with pytest.raises(ConfigError, match=words):
        call()
