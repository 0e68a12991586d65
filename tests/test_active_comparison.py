"""The comparison of query strategies: pairing, curves, what is said of them, and the command line."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from entropic_rl.active.analysis import analyse, as_json, caveats, verdict
from entropic_rl.active.batched import run_together
from entropic_rl.active.comparison_cli import compare_strategies
from entropic_rl.active.config import ComparisonConfig
from entropic_rl.active.experiment import Curve, Trial, n_labels, run_alone, starts_of, trials_of
from entropic_rl.active.score import Score, score_of
from entropic_rl.active.stopping import Round
from entropic_rl.calibration import calibration_report
from entropic_rl.errors import ConfigError
from entropic_rl.supervised.config import FitConfig

WINE = ComparisonConfig(data="wine", initial=6, batch=5, budget=20, n_members=3)
FIT = FitConfig(net_arch=(8,), n_epochs=8, batch_size=None, learning_rate=0.02)


@pytest.fixture(scope="module")
def starts():
    return starts_of(WINE, range(2))[0]


@pytest.fixture(scope="module")
def curves(starts):
    return run_together(WINE, FIT, trials_of(["random", "margin", "bald", "badge"], [0.0, 0.5], [0, 1]), starts)


def test_pool_and_test_share_no_row(starts):
    for start in starts.values():
        assert len(start.X) + len(start.X_test) == 178
        assert not {tuple(row) for row in start.X} & {tuple(row) for row in start.X_test}
        np.testing.assert_allclose(start.X.mean(0), 0.0, atol=1e-12)  # scaled by the pool alone


def test_strategies_of_a_seed_begin_alike_and_ask_each_row_once(curves, starts):
    first = {}
    for curve in curves:
        key = (curve.trial.ent_coef, curve.trial.seed)
        assert first.setdefault(key, curve.scores[0]) == curve.scores[0]
        asked = [*starts[curve.trial.seed].initial.tolist(), *curve.asked]
        assert len(set(asked)) == len(asked) == 20
        assert [score.n_labels for score in curve.scores] == [6, 11, 16, 20]
    assert len(set(first.values())) == 4


def test_a_trial_in_a_batch_is_the_trial_alone(curves, starts):
    chosen = curves[5]
    [alone] = run_together(WINE, FIT, [chosen.trial], {chosen.trial.seed: starts[chosen.trial.seed]})
    assert alone.asked == chosen.asked
    for a, b in zip(alone.scores, chosen.scores, strict=True):
        assert a.accuracy == b.accuracy
        assert a.nll == pytest.approx(b.nll, rel=1e-5)


def test_dropout_stands_for_members(starts):
    config = ComparisonConfig(data="wine", initial=6, batch=5, budget=12, mc_samples=6)
    fit = FitConfig(net_arch=(8,), n_epochs=8, dropout=0.3)
    [curve] = run_together(config, fit, [Trial("bald", 0.0, 0)], starts)
    assert len(set(curve.asked)) == 6


def test_the_proper_read_out_is_surer():
    fit = FitConfig(net_arch=(8,), n_epochs=60, learning_rate=0.02)
    gaps = {}
    for readout in ("raw", "proper"):
        own = ComparisonConfig(data="wine", initial=20, batch=5, budget=22, readout=readout)
        begun, _ = starts_of(own, [0])
        [curve] = run_together(own, fit, [Trial("random", 1.0, 0)], begun)
        gaps[readout] = curve.scores[-1].signed_gap
    assert gaps["raw"] < gaps["proper"] - 0.02


@pytest.mark.parametrize("model", ["logistic-regression", "svm", "random-forest", "label-spreading"])
def test_classifiers_of_scikit_learn_are_compared(model):
    config = ComparisonConfig(data="wine", initial=6, batch=8, budget=22, model=model)
    begun, _ = starts_of(config, [0])
    curve = run_alone(config, Trial("margin", 0.0, 0), begun[0])
    assert [score.n_labels for score in curve.scores] == [6, 14, 22]
    assert curve.scores[-1].accuracy > 0.7
    assert len(set(curve.asked)) == 16


def test_labels_run_to_the_budget_or_the_pool():
    assert n_labels(WINE, 125) == [6, 11, 16, 20]
    assert n_labels(ComparisonConfig(data="wine", initial=20, batch=50, budget=None), 125) == [20, 70, 120, 125]


def test_first_labels_can_be_balanced():
    config = ComparisonConfig(data="wine", initial=9, initial_per_class=True, budget=20)
    for start in starts_of(config, range(3))[0].values():
        assert np.bincount(start.y[start.initial]).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget": 126}, "at most the 125 rows"),
        ({"initial": 200, "budget": None}, "fewer than the 125"),
        ({"initial": 7, "initial_per_class": True, "budget": 20}, "multiple of the 3 classes"),
        ({"initial": 1, "budget": 20}, "two classes among the first 1"),
    ],
)
def test_what_the_pool_has_not_is_said(settings, said):
    with pytest.raises(ConfigError, match=said):
        starts_of(ComparisonConfig(data="wine", **settings), [0])


# --- scores and sums ------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_calibration_report():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 200)
    y = rng.integers(0, 3, 200)
    score, report = score_of(7, torch.from_numpy(p).log(), y), calibration_report(y, p)
    assert score.accuracy == pytest.approx(report.measures["accuracy"].value)
    assert score.nll == pytest.approx(report.measures["nll"].value)
    assert score.signed_gap == pytest.approx(report.measures["signed_gap"].value)


def test_a_class_that_was_never_seen_costs_no_more_than_it_says():
    log_p = torch.tensor([[0.0, -torch.inf]], dtype=torch.float64)
    assert score_of(1, log_p, np.array([1])).nll == pytest.approx(-math.log(1e-12), rel=1e-6)


def made_up(accuracies, strategy, seed, coef=0.0):
    scores = [Score(10 * (k + 1), a, 1.0 - a, 0.0, 0.1) for k, a in enumerate(accuracies)]
    rounds = [Round(10 * (k + 1), 0.9 + 0.05 * k, a, 0.1) for k, a in enumerate(accuracies)]
    return Curve(Trial(strategy, coef, seed), scores, rounds)


@pytest.fixture
def results():
    curves = []
    for seed in range(8):
        wobble = 0.01 * (seed % 3)
        curves.append(made_up([0.5, 0.6, 0.7 + wobble], "random", seed))
        curves.append(made_up([0.5, 0.8, 0.9 + wobble], "margin", seed))
        curves.append(made_up([0.5, 0.4, 0.7 + wobble], "entropy", seed))
    return analyse(curves, target=0.8, tie=0.002, stopping=["stable:1:1", "labels:20"])


def test_areas_are_trapezoids_over_labels(results):
    random, margin, entropy = results.groups
    assert random.areas[0] == pytest.approx((0.55 + 0.65) / 2)
    assert margin.against.area.value == pytest.approx(0.15)
    assert margin.against.record == (8, 0, 0)
    assert entropy.against.record == (0, 0, 8)
    assert results.record(entropy, margin) == (0, 0, 8)
    assert margin.against.p == pytest.approx(2 * 2 / 2**8)  # Holm: the smaller of two, doubled
    assert random.against is None


def test_labels_to_the_target_are_the_first_that_meet_it(results):
    random, margin, _ = results.groups
    assert margin.median_to_target == 20
    assert math.isinf(random.median_to_target)


def test_rules_are_judged_by_what_they_lose(results):
    stable, labels = results.groups[1].stops
    assert (stable.stopped, stable.n_labels, stable.lost) == (8, 30, 0.0)
    assert (labels.stopped, labels.n_labels) == (8, 20)
    assert labels.lost == pytest.approx(np.mean([0.1 + 0.01 * (seed % 3) for seed in range(8)]))


def test_the_verdict_names_winners_and_losers(results):
    said = " ".join(verdict(results))
    assert "margin learns fastest" in said
    assert "won 8, tied 0, lost 0 of 8 seeds, p = .016" in said
    assert "20 labels in the median seed; chance does not get there" in said
    assert "Worse than chance, beyond what seeds explain: entropy (-10.00" in said
    assert "decision values" in " ".join(caveats(results, model="svm"))
    assert json.loads(json.dumps(as_json(results), allow_nan=False))["groups"][0]["labels_to_target"] == [None] * 8


def test_chance_may_win():
    curves = [made_up([0.5, a], s, seed) for seed in range(3) for s, a in (("random", 0.9), ("entropy", 0.7))]
    results = analyse(curves, target=0.8, tie=0.002)
    assert "Nothing beats chance here" in verdict(results)[0]
    assert "it takes 6" in caveats(results, model="entropic")[0]


def test_coefficients_are_compared_with_their_own_chance():
    curves = [
        made_up([0.5, a], s, seed, coef)
        for seed in range(3)
        for s, coef, a in (("random", 0.0, 0.6), ("margin", 0.0, 0.7), ("random", 0.5, 0.8), ("margin", 0.5, 0.7))
    ]
    groups = {group.name: group for group in analyse(curves, target=0.8, tie=0.002).groups}
    assert groups["margin, 0"].against.area.value == pytest.approx(0.05)
    assert groups["margin, 0.5"].against.area.value == pytest.approx(-0.05)


# --- the command line -----------------------------------------------------------------------------------------------

QUICK = ["--data", "wine", "--initial", "6", "--batch", "5", "--budget", "16", "--n-epochs", "5", "--seeds", "2",
         "--no-progress"]  # fmt: skip


def test_a_comparison_leaves_a_page_and_its_numbers(tmp_path, capsys):
    out = tmp_path / "out"
    command = [*QUICK, "--strategies", "margin", "tsallis:2", "--ent-coef", "0", "0.3", "--stop", "stable", "labels:10"]
    assert compare_strategies("active_learning.py", [*command, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "learns fastest" in printed.out or "Nothing beats chance" in printed.out
    assert "it takes 6" in printed.out
    content = json.loads((out / "active_learning.json").read_text())
    assert [g["strategy"] for g in content["groups"]] == ["random"] * 2 + ["margin"] * 2 + ["tsallis:2"] * 2
    assert content["n_labels"] == [6, 11, 16]
    rows = list(csv.DictReader((out / "curves.csv").read_text().splitlines()))
    assert len(rows) == 6 * 2 * 3
    assert {"pool_agreement", "ece_debiased"} <= set(rows[0])
    assert len((out / "asked.csv").read_text().splitlines()) == 1 + 6 * 2 * 10
    page = (out / "report.html").read_text()
    for expected in (
        "Wins, ties, losses",
        "When to stop",
        "stable:0.99:3",
        "labels:10",
        "margin, 0.3",
        "Beside chance",
    ):
        assert expected in page
    assert {path.name for path in (out / "figures").iterdir()} == {"curves.svg", "areas.svg", "calibration.svg"}


def test_the_same_comparison_gives_the_same_numbers(curves, starts):
    again = run_together(WINE, FIT, [curve.trial for curve in curves], starts)
    assert [(c.asked, c.scores) for c in again] == [(c.asked, c.scores) for c in curves]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budget", "5"], "more labels than --initial 6"),
        (["--strategies", "magin"], "did you mean 'margin'"),
        (["--model", "svm", "--ent-coef", "0.1"], "--model entropic"),
        (["--strategies", "skactiveml:CoreSet"], "fits a scikit-learn classifier"),
        (["--model", "svm", "--strategies", "skactiveml:CoreSets"], "expected one of RandomSampling"),
        (["--model", "label-spreading", "--strategies", "bald"], "has none"),
        (["--strategies", "bald", "--n-members", "1"], "at least 2 members"),
        (["--mc-samples", "5"], "--dropout 0"),
        (["--stop", "soon"], "stopping: expected"),
        (["--seeds", "0"], "at least 1"),
        (["--ent-coef", "0.1", "0.1"], "different coefficients"),
        (["--ent-coef", "-1"], "ent_coef"),
        (["--target-accuracy", "90"], "target_accuracy"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(flags, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        compare_strategies("active_learning.py", [*QUICK, "--out", str(tmp_path / "out"), *flags])
    assert not (tmp_path / "out").exists()


def test_settings_are_shown_as_they_would_be(capsys):
    assert compare_strategies("active_learning.py", [*QUICK, "--strategies", "bald", "--show-config"]) == 0
    shown = capsys.readouterr().out
    assert "n_members: 5" in shown
    assert "learning_rate: 0.01" in shown
    assert "- random" in shown
