"""The estimators keep scikit-learn's contract, and read out what they say they do."""

import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from torch import nn

from entropic_rl.calibration import EntropicClassifier, EntropicRegressor, proper_readout
from entropic_rl.errors import ConfigError

FULL_BATCH = {"batch_size": None, "dtype": "float64", "learning_rate": 0.01, "random_state": 0}
X, LABELS = make_blobs(150, centers=3, cluster_std=3.0, random_state=3)
X = (X - X.mean(0)) / X.std(0)
NAMES = np.array(["ash", "birch", "cedar"])
Y = NAMES[LABELS]


def classifier(**settings):
    return EntropicClassifier(**{**FULL_BATCH, "n_epochs": 60, "net_arch": (16,), **settings})


QUICK = {**FULL_BATCH, "learning_rate": 0.05, "n_epochs": 25, "net_arch": (16,)}


@parametrize_with_checks([EntropicClassifier(**QUICK), EntropicRegressor(**QUICK)])
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [EntropicClassifier(random_state=0), EntropicRegressor(random_state=0)], ids=repr)
def test_contract_of_scikit_learn_with_minibatches(estimator):
    # Minibatches are drawn from rows: rows that count twice are drawn otherwise than two rows (as in SGDClassifier).
    failing = {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}
    for _, check in estimator_checks_generator(estimator, expected_failed_checks=dict.fromkeys(failing, "drawn")):
        name = check.func.__name__ if hasattr(check, "func") else check.__name__
        if name not in failing and name != "check_array_api_input":
            check(clone(estimator))


def test_works_among_the_tools_of_scikit_learn():
    pipeline = make_pipeline(StandardScaler(), classifier())
    grid = GridSearchCV(pipeline, {"entropicclassifier__ent_coef": [0.0, 0.5]}, cv=3, scoring="neg_log_loss")
    grid.fit(X, Y)
    assert grid.best_score_ > -0.8
    calibrated = CalibratedClassifierCV(classifier(), cv=3).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (150, 3)


@pytest.mark.parametrize("settings", [{}, {"batch_norm": True, "n_members": 2}, {"module": "factory"}], ids=str)
def test_pickled_estimator_predicts_the_same(settings):
    if "module" in settings:
        settings = {"module": nn.Linear}
    fitted = classifier(n_epochs=3, **settings).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    continued = [clone(classifier(n_epochs=3, **settings)).fit(X, Y).partial_fit(X, Y) for _ in range(2)]
    np.testing.assert_array_equal(continued[0].predict_proba(X), continued[1].predict_proba(X))
    np.testing.assert_allclose(again.partial_fit(X, Y).predict_proba(X), continued[0].predict_proba(X), atol=1e-12)


def test_members_are_classifiers_of_their_seeds_and_are_averaged():
    three = classifier(n_members=3).fit(X, Y)
    members = three.member_proba(X)
    assert members.shape == (3, 150, 3)
    np.testing.assert_allclose(three.predict_proba(X), members.mean(0), atol=1e-12)
    np.testing.assert_allclose(classifier(n_members=2).fit(X, Y).member_proba(X), members[:2], atol=1e-9)
    assert np.abs(members[0] - members[1]).max() > 1e-3


def test_dropout_is_sampled_as_often_as_asked_and_always_the_same():
    settings = {"dropout": 0.5, "n_members": 2, "n_epochs": 10}
    plain, sampled = classifier(**settings).fit(X, Y), classifier(mc_samples=5, **settings).fit(X, Y)
    assert sampled.member_proba(X).shape == (10, 150, 3)
    np.testing.assert_array_equal(sampled.predict_proba(X), sampled.predict_proba(X))
    assert np.abs(sampled.predict_proba(X) - plain.predict_proba(X)).max() > 1e-3
    np.testing.assert_allclose(sampled.predict_proba(X[::-1])[::-1], sampled.predict_proba(X), atol=1e-12)
    many = np.tile(X, (40, 1))
    np.testing.assert_allclose(sampled.predict_proba(many)[-150:], sampled.predict_proba(X), atol=1e-12)
    sampled.set_params(mc_samples=0)
    np.testing.assert_allclose(sampled.predict_proba(X), plain.predict_proba(X), atol=1e-12)


def test_proper_readout_is_of_the_coefficient_that_was_trained_with():
    raw, proper = (classifier(ent_coef="linear:0:0.5", readout=r, n_epochs=5).fit(X, Y) for r in ("raw", "proper"))
    log_p = torch.from_numpy(raw.predict_log_proba(X))
    expected = proper_readout(log_p, ent_coef=raw.ent_coef_[0])
    np.testing.assert_allclose(proper.predict_proba(X), expected, atol=1e-12)
    assert 0.3 < raw.ent_coef_[0] < 0.5


def test_temperature_is_fitted_on_rows_that_training_never_saw():
    fitted = classifier(readout="temperature", n_epochs=300).fit(X, Y)
    assert fitted.temperature_ != 1.0
    raw = clone(fitted).set_params(readout="raw", n_epochs=300)
    rows, held_out = fitted._rows(150, LABELS, hold_out=True)
    raw.fit(X[rows], Y[rows])
    np.testing.assert_allclose(raw.member_proba(X), fitted.member_proba(X), atol=1e-9)
    assert not set(rows.tolist()) & set(held_out.tolist())
    scaled = raw.predict_log_proba(X) / fitted.temperature_
    expected = np.exp(scaled - np.logaddexp.reduce(scaled, 1, keepdims=True))
    np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-9)


def test_rows_of_weight_zero_have_no_part_in_the_temperature():
    fitted = classifier(readout="temperature")
    _, held_out = fitted._rows(150, LABELS, hold_out=True)
    weight, strange = np.ones(150), X.copy()
    weight[held_out[::2]] = 0.0
    strange[held_out[::2]] *= -10.0
    temperatures = [fitted.fit(rows, Y, sample_weight=weight).temperature_ for rows in (X, strange)]
    assert temperatures[0] == pytest.approx(temperatures[1])


def test_readout_may_change_after_training_but_a_temperature_has_to_be_fitted():
    raw, fitted = (classifier(readout=r, ent_coef=0.3, n_epochs=100).fit(X, Y) for r in ("raw", "temperature"))
    expected = proper_readout(torch.from_numpy(raw.predict_log_proba(X)), ent_coef=0.3)
    np.testing.assert_allclose(raw.set_params(readout="proper").predict_proba(X), expected, atol=1e-7)
    fitted.set_params(readout="proper")
    np.testing.assert_allclose(fitted.predict_proba(X), fitted.member_proba(X)[0], atol=1e-12)
    fitted.set_params(readout="raw")
    np.testing.assert_allclose(fitted.predict_proba(X), fitted.member_proba(X)[0], atol=1e-12)
    fitted.set_params(readout="temperature")
    assert np.abs(fitted.predict_proba(X) - fitted.member_proba(X)[0]).max() > 1e-3
    with pytest.raises(ConfigError, match="no temperature was fitted; call fit again"):
        raw.set_params(readout="temperature").predict_proba(X)
    with pytest.raises(ConfigError, match="readout: expected one of"):
        raw.set_params(readout="best").predict_proba(X)


def test_rows_may_be_read_backwards():
    weight = np.linspace(0.5, 1.5, 150)
    turned, copied = (
        classifier(n_epochs=3).fit(rows, Y, sample_weight=counts)
        for rows, counts in ((X[::-1], weight[::-1]), (X[::-1].copy(), weight[::-1].copy()))
    )
    np.testing.assert_array_equal(turned.predict_proba(X[::-1]), copied.predict_proba(X)[::-1])


def test_settings_that_change_after_training_wait_for_the_next_fit():
    fitted = classifier(n_members=2, n_epochs=3).fit(X, Y)
    before = fitted.predict_proba(X)
    fitted.set_params(n_members=3, dtype="float32", ent_coef=0.5)
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    other = classifier(n_members=2, n_epochs=3).fit(X, Y).partial_fit(X, Y)
    np.testing.assert_array_equal(fitted.partial_fit(X, Y).predict_proba(X), other.predict_proba(X))
    assert len(fitted.fit(X, Y).n_epochs_) == 3


def test_target_entropy_is_kept():
    fitted = classifier(ent_coef="target:0.8", n_epochs=300).fit(X, Y)
    p = fitted.predict_proba(X)
    assert -(p * np.log(p)).sum(1).mean() == pytest.approx(0.8, abs=0.03)


def test_classes_can_be_weighed():
    counts = {name: 10.0 if name == "cedar" else 1.0 for name in NAMES}
    weighted = classifier(class_weight=counts).fit(X, Y).predict(X)
    assert (weighted == "cedar").sum() > (classifier().fit(X, Y).predict(X) == "cedar").sum()
    sample_weight = np.array([counts[label] for label in Y])
    by_rows = classifier().fit(X, Y, sample_weight=sample_weight)
    np.testing.assert_array_equal(by_rows.predict(X), weighted)


def test_partial_fit_continues_and_may_meet_a_class_later():
    fitted = classifier(batch_size=16, n_epochs=10)
    some = Y != "cedar"
    fitted.partial_fit(X[some], Y[some], classes=NAMES)
    assert fitted.predict_proba(X).shape == (150, 3)
    for _ in range(30):
        fitted.partial_fit(X, Y)
    assert fitted.n_epochs_ == [31]
    assert fitted.score(X, Y) > 0.7


def test_any_module_will_do():
    module = nn.Sequential(nn.Linear(2, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.1), nn.Linear(9, 3))
    before = [p.clone() for p in module.parameters()]
    fitted = classifier(module=module, batch_size=32, mc_samples=3, n_epochs=20).fit(X, Y)
    assert fitted.score(X, Y) > 0.7
    assert all(p.equal(q) for p, q in zip(module.parameters(), before, strict=True))
    clone(fitted).fit(X, Y)


def test_progress_is_shown_when_asked(capsys):
    classifier(n_epochs=2).fit(X, Y)
    assert capsys.readouterr().err == ""
    classifier(n_epochs=2, verbose=True).fit(X, Y)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.slow
def test_regressor_knows_its_noise_and_takes_back_the_bias_of_the_loss():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (600, 1))
    y = 5.0 * x[:, 0] + 30.0 + (1.0 + x[:, 0] * 0.5) * rng.normal(size=600)
    settings = {**FULL_BATCH, "n_epochs": 400, "ent_coef": 0.5}
    raw, proper = (EntropicRegressor(readout=r, **settings).fit(x, y) for r in ("raw", "proper"))
    mean, std = proper.predict(x, return_std=True)
    assert np.abs(mean - 5.0 * x[:, 0] - 30.0).max() < 0.4
    assert np.abs(std / (1.0 + 0.5 * x[:, 0]) - 1.0).mean() < 0.1
    np.testing.assert_allclose(raw.predict(x, return_std=True)[1], std * 2.0**0.5, rtol=1e-9)
    assert proper.score_nll(x, y) < raw.score_nll(x, y)


def test_likelihood_of_a_column_of_targets_is_that_of_its_numbers():
    fitted = EntropicRegressor(**FULL_BATCH, n_epochs=2).fit(X, X[:, 0])
    assert fitted.score_nll(X, X[:, :1]) == fitted.score_nll(X, X[:, 0])


def test_disagreement_of_regressors_adds_to_their_deviation():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 1)), rng.normal(size=(40, 2))
    fitted = EntropicRegressor(n_members=4, **FULL_BATCH).fit(x, y)
    far = np.array([[30.0]])
    mean, std = fitted.predict(far, return_std=True)
    assert mean.shape == std.shape == (1, 2)
    means = [EntropicRegressor(**FULL_BATCH).set_params(random_state=s).fit(x, y).predict(far)[0] for s in range(3)]
    assert (std[0] > 0.3 * np.std(means, axis=0)).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"readout": "best"}, "readout: expected one of raw, proper, temperature, got 'best'"),
        ({"n_members": 0}, "n_members: expected a whole number from 1 on, got 0"),
        ({"validation_fraction": 1.5}, "validation_fraction: expected a number between 0 and 1"),
        ({"validation_fraction": "0.2"}, "validation_fraction: expected a number between 0 and 1, got '0.2'"),
        ({"temperature_prior": -1.0}, "prior_precision: expected a number >= 0"),
        ({"net_arch": (64.5,)}, "net_arch"),
        ({"module": nn.GRU}, "module: expected outputs (150, 3) for 150 rows, got tuple"),
        ({"ent_coef": -0.1}, "ent_coef"),
        ({"ent_coef": "auto"}, "no target is everyone's"),
        ({"module": nn.Linear(2, 3), "n_members": 2}, "2 members would all start from the same one"),
        ({"device": "gpu"}, "device: expected auto, cpu, cuda or cuda:N, got 'gpu'"),
        (
            {"module": lambda n_in, _: nn.Linear(n_in, 1)},
            "module: expected outputs (150, 3) for 150 rows, got (150, 1)",
        ),
        ({"module": 7}, "expected a torch.nn.Module"),
    ],
)
def test_bad_settings_are_one_clear_line(settings, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        classifier(**settings).fit(X, Y)
    assert "\n" not in str(caught.value)


def test_a_first_fit_that_failed_is_none():
    failed = classifier()
    with pytest.raises(ConfigError):
        failed.partial_fit(X, Y, classes=["a", "b"])
    with pytest.raises(NotFittedError):
        failed.predict(X)


def test_bad_data_are_one_clear_line():
    with pytest.raises(ConfigError, match="expected at least 2 classes to tell apart, got 1 class, 'ash'"):
        classifier().fit(X, np.full(150, "ash"))
    with pytest.raises(ConfigError, match="150 rows are too few"):
        classifier(early_stopping=True).fit(X, np.arange(150) // 2)
    with pytest.raises(ConfigError, match=r"expected labels among classes \['a', 'b'\], got \['ash'"):
        classifier().partial_fit(X, Y, classes=["a", "b"])
    with pytest.raises(ConfigError, match="expected all labels at the first call"):
        classifier().partial_fit(X, Y)
    with pytest.raises(ConfigError, match="partial_fit holds out no rows"):
        classifier(readout="temperature").partial_fit(X, Y, classes=NAMES)
    with pytest.raises(
        ConfigError, match=r"expected those of before, \['ash', 'birch', 'cedar'\], got \['ash', 'birch'\]"
    ):
        classifier(n_epochs=1).fit(X, Y).partial_fit(X, Y, classes=["ash", "birch"])
    for bad in (-1.0, 0.0):
        with pytest.raises(ConfigError, match=r"class_weight: expected weights >= 0, not all 0 of rows, got \{"):
            classifier(class_weight=dict.fromkeys(NAMES, bad)).fit(X, Y)
    with pytest.raises(ConfigError, match="cannot balance rows to come"):
        classifier(class_weight="balanced").partial_fit(X, Y, classes=NAMES)
    with pytest.raises(ConfigError, match="got zeros alone"):
        classifier().fit(X, Y, sample_weight=np.zeros(150))
    with pytest.raises(ConfigError, match="expected rows that count on both sides"):
        classifier(early_stopping=True).fit(X, Y, sample_weight=np.arange(150) == 0)
    with pytest.raises(ConfigError, match="from 1 on the Gaussian loss has no minimum"):
        EntropicRegressor(ent_coef=1.0).fit(X, LABELS)
    with pytest.raises(ConfigError, match="steering to a target entropy may ask for 1 and more"):
        EntropicRegressor(ent_coef="target:0.5").fit(X, LABELS)
    with pytest.raises(ValueError, match="NaN"):
        classifier().fit(np.where(X > 0, np.nan, X), Y)


def test_separable_data_do_not_break_the_temperature():
    features, target = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the temperature is at its bound
        fitted = classifier(readout="temperature", ent_coef=0.5).fit(StandardScaler().fit_transform(features), target)
    assert 0.01 <= fitted.temperature_ <= 100.0
