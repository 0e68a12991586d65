"""Learning from rows without labels: its loss, its term in training, and the estimator around them."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from entropic_rl.benchmarks import few_labels
from entropic_rl.calibration import EntropicClassifier
from entropic_rl.entropy import mutual_information
from entropic_rl.errors import ConfigError
from entropic_rl.few_labels import SemiSupervisedEntropicClassifier
from entropic_rl.few_labels.config import UnlabeledConfig
from entropic_rl.few_labels.unlabeled import UnlabeledTerm
from entropic_rl.losses import unlabeled_loss
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

LOGITS = 3.0 * torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
X, LABELS = make_blobs(120, centers=[[-3.0, 0.0], [3.0, 0.0], [0.0, 4.0]], cluster_std=1.0, random_state=1)
NAMES = np.array(["ash", "birch", "cedar"])
FEW = np.isin(np.arange(120), [np.flatnonzero(c == LABELS)[i] for c in range(3) for i in range(2)])
Y = np.where(FEW, LABELS, -1)
QUICK = {"dtype": "float64", "learning_rate": 0.05, "n_epochs": 25, "net_arch": (16,), "random_state": 0}


def classifier(**settings):
    return SemiSupervisedEntropicClassifier(**{**QUICK, **settings})


# The loss


def test_loss_is_the_mean_entropy_less_the_entropy_of_the_mean():
    p = LOGITS.softmax(-1).numpy()
    entropy = lambda q: -(q * np.log(q)).sum(-1)  # noqa: E731
    expected = 0.7 * entropy(p).mean(1) - 0.4 * entropy(p.mean(1))
    found = unlabeled_loss(LOGITS, entropy_coef=0.7, marginal_coef=0.4)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_loss_with_both_weights_one_is_minus_the_mutual_information():
    logits = LOGITS.clone().requires_grad_()
    loss, information = unlabeled_loss(logits), mutual_information(logits.log_softmax(-1))
    torch.testing.assert_close(loss, -information, rtol=0.0, atol=1e-12)
    gradients = [torch.autograd.grad(value.sum(), logits, retain_graph=True)[0] for value in (loss, -information)]
    torch.testing.assert_close(*gradients, rtol=0.0, atol=1e-12)


def test_loss_has_the_gradient_of_its_differences():
    weights = {"entropy_coef": torch.tensor([0.5, 2.0], dtype=torch.float64), "marginal_coef": 0.3}
    assert torch.autograd.gradcheck(lambda z: unlabeled_loss(z, **weights), LOGITS.clone().requires_grad_())


def test_loss_of_sure_answers_is_least_where_classes_are_alike_often():
    sure = 1e4 * torch.eye(3, dtype=torch.float64)
    assert float(unlabeled_loss(sure)) == pytest.approx(-np.log(3.0))
    collapsed = sure[:1].expand(3, 3)
    assert float(unlabeled_loss(collapsed)) == 0.0
    assert float(unlabeled_loss(torch.zeros(4, 3))) == pytest.approx(0.0, abs=1e-7)


def test_loss_and_gradient_are_finite_at_the_edges():
    logits = torch.tensor([[1e4, 0.0, -torch.inf], [0.0, 1e4, -torch.inf]], requires_grad=True)
    loss = unlabeled_loss(logits)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-np.log(2.0))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(3,), (0, 3)])
def test_loss_without_rows_is_refused(shape):
    with pytest.raises(ValueError, match="at least one row"):
        unlabeled_loss(torch.zeros(shape))


# The term in training


def term(seeds, rows, **settings):
    x = torch.from_numpy(X)
    return UnlabeledTerm(x, rows, UnlabeledConfig(**settings), seeds)


def test_weights_rise_over_the_ramp():
    rising = term([0], torch.arange(120)[None], ramp=0.5)
    assert [rising.share(progress) for progress in (0.0, 0.25, 0.5, 0.9)] == [0.0, 0.5, 1.0, 1.0]
    assert term([0], torch.arange(120)[None], ramp=0.0).share(0.0) == 1.0


def test_term_of_all_rows_is_the_loss_of_all_rows():
    network = Perceptrons((2, 4, 3), [1, 2], dtype=torch.float64)
    rows = torch.stack([torch.arange(60), torch.arange(60, 120)])
    found = term([1, 2], rows, unlabeled_batch_size=None)(network, 0.25, Stream([1, 2], "dropout"))
    expected = 0.5 * unlabeled_loss(network(torch.from_numpy(X)[rows]))
    torch.testing.assert_close(found, expected)


def test_rows_are_taken_without_repetition_until_too_few_are_left():
    seen = []

    class Watch(Perceptrons):
        def __call__(self, x, **_):
            seen.append(x[0, :, 0].tolist())
            return super().__call__(x)

    x = torch.arange(10.0)[:, None]
    taken = UnlabeledTerm(x, torch.arange(10)[None], UnlabeledConfig(unlabeled_batch_size=4), [0])
    for _ in range(4):
        taken(Watch((1, 2), [0]), 0.5, Stream([0], "dropout"))
    assert [len(set(a + b)) for a, b in (seen[:2], seen[2:])] == [8, 8]
    assert seen[:2] != seen[2:]


def test_run_with_unlabelled_rows_in_a_batch_is_the_run_alone():
    table, config = Table(torch.from_numpy(X), torch.from_numpy(LABELS)), FitConfig(n_epochs=4, batch_size=4)
    seeds = [3, 4]
    labelled = torch.stack([torch.arange(10), torch.arange(10, 20)])
    unlabelled = torch.stack([torch.arange(20, 70), torch.arange(70, 120)])

    def trained(part):
        own = seeds[part]
        network = Perceptrons((2, 8, 3), own, dtype=torch.float64, dropout=0.2)
        extra = term(own, unlabelled[part], unlabeled_batch_size=15)
        Fitting(network, Classification(), config, own, extra=extra).run(table, labelled[part])
        return network.values

    together = trained(slice(None))
    for run in range(2):
        torch.testing.assert_close(together[run : run + 1], trained(slice(run, run + 1)), rtol=0.0, atol=1e-9)


def test_step_adds_the_term_to_the_loss_as_torch_would():
    network = Perceptrons((2, 8, 3), [0], dtype=torch.float64)
    x, target = torch.from_numpy(X), torch.from_numpy(LABELS)
    labelled, unlabelled = torch.arange(10)[None], torch.arange(10, 120)[None]
    loss = torch.nn.functional.cross_entropy(network(x[labelled])[0], target[:10])
    loss = loss - mutual_information(network(x[unlabelled]).log_softmax(-1))[0]
    network.backward(loss[None])
    expected = network.values - 0.1 * network.grads
    config = FitConfig(optimizer="sgd", learning_rate=0.1, n_epochs=1, batch_size=None, dtype="float64")
    extra = term([0], unlabelled, ramp=0.0, unlabeled_batch_size=None)
    Fitting(network, Classification(), config, [0], extra=extra).run(Table(x, target), labelled)
    torch.testing.assert_close(network.values, expected)


# The estimator


# One check has a class that is called -1, which scikit-learn does not give to semi-supervised classifiers of its own.
@parametrize_with_checks([classifier()], expected_failed_checks=lambda _: {"check_classifiers_classes": "-1 is a mark"})
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_unlabelled_rows_help():
    supervised = EntropicClassifier(**QUICK, batch_size=None).fit(X[FEW], LABELS[FEW])
    found = classifier(n_epochs=100).fit(X, Y)
    assert (found.n_labeled_, found.n_unlabeled_) == (6, 114)
    assert found.score(X, LABELS) >= max(supervised.score(X, LABELS), 0.99)
    entropy = lambda p: -(p * np.log(p)).sum(1).mean()  # noqa: E731
    assert entropy(found.predict_proba(X)) < entropy(supervised.predict_proba(X))


def test_without_unlabelled_rows_it_is_the_supervised_classifier():
    settings = {**QUICK, "ent_coef": 0.3, "n_members": 2}
    supervised = EntropicClassifier(**settings, batch_size=None).fit(X, LABELS)
    found = SemiSupervisedEntropicClassifier(**settings).fit(X, LABELS)
    np.testing.assert_array_equal(found.predict_proba(X), supervised.predict_proba(X))
    assert found.n_unlabeled_ == 0


def test_without_weights_it_is_the_supervised_classifier_of_the_labelled_rows():
    supervised = EntropicClassifier(**QUICK, batch_size=None).fit(X[FEW], LABELS[FEW])
    found = classifier(unlabeled_coef=0.0, marginal_coef=0.0).fit(X, Y)
    np.testing.assert_allclose(found.predict_proba(X), supervised.predict_proba(X), atol=1e-12)


def test_marginal_term_keeps_classes_alike_often():
    settings = {"unlabeled_coef": 20.0, "ramp": 0.0, "n_epochs": 60, "learning_rate": 0.01}
    shares = [classifier(marginal_coef=weight, **settings).fit(X, Y).predict_proba(X).mean(0) for weight in (0.0, 40.0)]
    assert np.abs(shares[0] - 1 / 3).max() > 0.5
    assert np.abs(shares[1] - 1 / 3).max() < 0.05


@pytest.mark.parametrize(
    "marks",
    [
        np.where(FEW, NAMES[LABELS].astype(object), None),
        np.where(FEW, NAMES[LABELS].astype(object), -1),
        np.where(FEW, NAMES[LABELS].astype(object), np.nan),
    ],
    ids=["None", "-1", "NaN"],
)
def test_labels_may_be_text(marks):
    found = classifier().fit(X, marks)
    np.testing.assert_array_equal(found.classes_, NAMES)
    numbers = classifier().fit(X, Y)
    np.testing.assert_array_equal(found.predict_proba(X), numbers.predict_proba(X))
    assert set(found.predict(X)) <= set(NAMES)


@pytest.mark.parametrize("dtype", [float, np.int8, object])
def test_labels_may_be_any_numbers(dtype):
    numbers = classifier().fit(X, Y)
    np.testing.assert_array_equal(classifier().fit(X, Y.astype(dtype)).predict(X), numbers.predict(X))


def test_truth_values_may_be_missing():
    found = classifier().fit(X, np.where(FEW, (LABELS == 0).astype(object), None))
    assert found.classes_.tolist() == [False, True]


def test_works_among_the_tools_of_scikit_learn():
    pipeline = make_pipeline(StandardScaler(), classifier())
    grid = GridSearchCV(
        pipeline, {"semisupervisedentropicclassifier__unlabeled_coef": [0.0, 1.0]}, cv=2, scoring="accuracy"
    )
    grid.fit(X, LABELS)
    assert grid.best_score_ > 0.9
    fitted = make_pipeline(StandardScaler(), classifier(readout="proper", ent_coef=0.1)).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(clone(fitted).fit(X, Y).predict_proba(X), fitted.predict_proba(X))


def test_temperature_is_fitted_on_labelled_rows():
    found = classifier(readout="temperature", validation_fraction=0.5).fit(X, Y)
    assert found.temperature_ != 1.0
    np.testing.assert_allclose(found.predict_proba(X).sum(1), 1.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"unlabeled_coef": -1.0}, "unlabeled_coef: .*greater than or equal to 0, got -1"),
        ({"marginal_coef": -0.5}, "marginal_coef: .*greater than or equal to 0"),
        ({"ramp": 2.0}, "ramp: .*less than or equal to 1"),
        ({"unlabeled_batch_size": 0}, "unlabeled_batch_size"),
        ({"readout": "best"}, "readout: expected one of"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        classifier(**settings).fit(X, Y)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(120, -1), "expected at least 2 rows with a label, got none among 120"),
        (np.full(120, None), "expected at least 2 rows with a label"),
        (np.where(FEW, 1, -1), "expected at least 2 classes among 6 rows with a label, got 1 class, 1; -1 marks"),
        (np.where(FEW, NAMES[LABELS], ""), "got the text '', which may be either"),
        (np.where(FEW, NAMES[LABELS], "-1"), "got the text '-1', which may be either"),
        (np.where(LABELS > 0, NAMES[LABELS].astype(object), 7), "labels of one kind, .*got numbers and text"),
        (np.where(LABELS > 0, (LABELS > 1).astype(object), 7), "got numbers and truth values"),
    ],
)
def test_labels_that_are_none_are_refused(labels, words):
    with pytest.raises(ConfigError, match=words):
        classifier().fit(X, labels)


@pytest.mark.slow
def test_forty_labelled_digits_are_worth_more_with_the_others():
    methods = [few_labels.SUPERVISED, "entropy minimisation"]
    supervised, minimised = few_labels.accuracies(40, 10, methods).values()
    assert (minimised - supervised).mean() >= 0.03
    assert (minimised > supervised).sum() >= 8
