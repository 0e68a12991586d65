"""Asking and teaching: classifiers of every kind, what is kept on disk, and when to stop."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from entropic_rl.active.config import STRATEGIES, parse_stopping, parse_strategy
from entropic_rl.active.labels import LabelFile
from entropic_rl.active.laplace import posterior
from entropic_rl.active.learner import ActiveLearner
from entropic_rl.active.models import committee, embeddings, log_proba, members_log_proba
from entropic_rl.active.stopping import Round, kappa, should_stop
from entropic_rl.calibration import EntropicClassifier
from entropic_rl.errors import ConfigError

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(m, 1.0, (40, 3)) for m in (-2.0, 0.0, 2.0)])
Y = np.repeat(["a", "b", "c"], 40)
FIRST = [0, 1, 40, 41, 80, 81]


def learner(estimator=None, *, rows=FIRST, **settings):
    made = ActiveLearner(
        LogisticRegression() if estimator is None else estimator, X, classes=["a", "b", "c"], **settings
    )
    made.teach(rows, Y[rows])
    return made


@pytest.mark.parametrize("strategy", [*STRATEGIES, "tsallis:2", "renyi:0.5"])
def test_every_strategy_asks_different_unlabelled_rows(strategy):
    asked = learner(strategy=strategy).query(12)
    assert len(set(asked.tolist())) == 12
    assert not set(asked.tolist()) & set(FIRST)


@pytest.mark.parametrize("strategy", ["margin", "bald", "badge"])
@pytest.mark.parametrize(
    "estimator",
    [
        EntropicClassifier(n_epochs=5, net_arch=(8,), n_members=3),
        EntropicClassifier(n_epochs=5, net_arch=(8,), dropout=0.5, mc_samples=4),
        EntropicClassifier(n_epochs=5, module=lambda d, c: torch.nn.Sequential(torch.nn.Linear(d, c))),
        RandomForestClassifier(5),
        BaggingClassifier(DecisionTreeClassifier(max_depth=3), 4, max_features=2),
        VotingClassifier([("a", GaussianNB()), ("b", LogisticRegression())], voting="soft"),
        GaussianNB(),
        make_pipeline(StandardScaler(), SVC()),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda e: type(e[-1] if hasattr(e, "steps") else e).__name__,
)
def test_every_kind_of_classifier_can_be_asked(estimator, strategy):
    made = learner(estimator, strategy=strategy, n_members=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of estimators of others on six rows
        asked = made.query(5)
        made.teach(asked, Y[asked])
        assert 0.0 <= made.score(X, Y).accuracy <= 1.0
    assert len(made.labelled) == 11


def test_the_same_question_comes_until_it_is_answered():
    made = learner(strategy="badge")
    first = made.query(4)
    np.testing.assert_array_equal(first, made.query(4))
    made.teach(first[:1], Y[first[:1]])
    assert first[0] not in made.query(4)


def test_what_is_asked_depends_on_pool_labels_strategy_and_seed_alone():
    asked = [learner(RandomForestClassifier(4), strategy="bald", seed=seed).query(6) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(asked[0], asked[1])
    assert set(asked[0].tolist()) != set(asked[2].tolist())


def test_it_asks_at_random_until_two_classes_are_known():
    made = ActiveLearner(LogisticRegression(), X, classes=["a", "b", "c"])
    assert len(made.query(5)) == 5
    made.teach([0, 1], ["a", "a"])
    assert not made.is_ready
    assert not set(made.query(100).tolist()) & {0, 1}
    with pytest.raises(ConfigError, match="labels of at least 2 classes"):
        _ = made.model


def test_classes_that_were_not_met_have_probability_zero():
    made = learner(rows=[0, 1, 40, 41])
    log_p = made.log_proba(X)
    assert log_p.shape == (120, 3)
    assert torch.isinf(log_p[:, 2]).all()
    assert len(made.query(3)) == 3
    assert made.score(X, Y).nll > 5.0


def test_a_session_goes_on_where_it_was(tmp_path):
    straight = learner(GaussianNB(), stopping=["stable:0.5:2"])
    broken = learner(GaussianNB(), stopping=["stable:0.5:2"], directory=tmp_path)
    for _ in range(4):
        for one in (straight, broken):
            asked = one.query(3)
            one.teach(asked, Y[asked])
        broken = ActiveLearner(GaussianNB(), X, classes=["a", "b", "c"], directory=tmp_path, stopping=["stable:0.5:2"])
    np.testing.assert_array_equal(straight.labelled, broken.labelled)
    np.testing.assert_array_equal(straight.query(5), broken.query(5))
    assert [repr(r) for r in straight.rounds] == [repr(r) for r in broken.rounds]
    assert straight.should_stop() == broken.should_stop() == "stable:0.5:2"


def test_a_folder_of_something_else_is_refused(tmp_path):
    learner(directory=tmp_path)
    with pytest.raises(ConfigError, match="another strategy, margin, got entropy"):
        learner(directory=tmp_path, strategy="entropy")
    with pytest.raises(ConfigError, match="another pool"):
        ActiveLearner(LogisticRegression(), X[:-1], classes=["a", "b", "c"], directory=tmp_path)


@pytest.mark.parametrize(
    ("rows", "labels", "said"),
    [
        ([0], ["b"], "row 0 has the label a already, got b"),
        ([7, 7], ["a", "b"], "row 7 has the label a already, got b"),
        ([120], ["a"], "rows 0 to 119"),
        ([-1], ["a"], "rows 0 to 119"),
        ([7], ["d"], "among the classes"),
        ([7, 8], ["a"], "one label per row"),
        ([7.5], ["a"], "whole numbers"),
    ],
)
def test_wrong_labels_are_refused_and_nothing_is_taken(rows, labels, said, tmp_path):
    made = learner(directory=tmp_path)
    with pytest.raises(ConfigError, match=said):
        made.teach(rows, labels)
    assert made.labelled.tolist() == FIRST
    assert len(LabelFile(tmp_path / "labels.csv").read()) == len(FIRST)


def test_labels_may_be_said_again():
    made = learner()
    made.teach([0, 5, 5], ["a", "a", "a"])
    assert made.labelled.tolist() == [*FIRST, 5]


@pytest.mark.parametrize("n", [0, 115])
def test_more_rows_than_there_are_cannot_be_asked(n):
    with pytest.raises(ConfigError, match="between 1 and the 114 rows"):
        learner().query(n)


@pytest.mark.parametrize("peer", ["UncertaintySampling", "QueryByCommittee", "CoreSet", "DiscriminativeAL", "Quire"])
def test_strategies_of_scikit_activeml_ask_too(peer):
    made = learner(LogisticRegression(), strategy=f"skactiveml:{peer}", seed=1)
    asked = made.query(3)
    assert len(set(asked.tolist())) == 3
    assert not set(asked.tolist()) & set(FIRST)
    np.testing.assert_array_equal(asked, made.query(3))


def test_its_uncertainty_is_least_confidence():
    ours, theirs = (learner(strategy=name).query(1) for name in ("least-confidence", "skactiveml:UncertaintySampling"))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("peer", "said"), [("Uncertain", "expected one of RandomSampling"), ("GreedySamplingTarget", "for classifiers")]
)
def test_what_scikit_activeml_has_not_is_said(peer, said):
    with pytest.raises(ConfigError, match=said):
        learner(strategy=f"skactiveml:{peer}")


def test_label_spreading_is_given_the_pool_and_asked_what_it_spread():
    made = learner(LabelSpreading(gamma=0.5), strategy="entropy")
    p = made.model.label_distributions_
    left = made.unlabelled
    entropy = -(p[left] * np.log(np.maximum(p[left], 1e-300))).sum(1)
    expected = left[np.argsort(-entropy)[:3]]
    assert set(made.query(3).tolist()) == set(expected.tolist())
    with pytest.raises(ConfigError, match="expected an estimator with members"):
        learner(LabelSpreading(), strategy="bald").query(1)


# --- what models say -----------------------------------------------------------------------------------------------


def test_members_average_to_the_forest():
    forest = RandomForestClassifier(7, random_state=0).fit(X, Y)
    members = members_log_proba(forest, X)
    assert members.shape == (120, 7, 3)
    np.testing.assert_allclose(members.exp().mean(1).numpy(), forest.predict_proba(X), atol=1e-12)


def test_members_of_torch_modules_are_samples_of_their_dropout_and_leave_them_as_they_were():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 4))
    module.train()
    state = torch.random.get_rng_state()
    members = members_log_proba(module, X, mc_samples=6, seed=1)
    assert members.shape == (120, 6, 4)
    assert (members.exp().std(1) > 1e-4).any()
    torch.testing.assert_close(members, members_log_proba(module, X, mc_samples=6, seed=1))
    assert module.training
    assert module[2].training
    assert torch.equal(state, torch.random.get_rng_state())
    plain = module.eval()(torch.from_numpy(X).float()).double().log_softmax(-1)
    torch.testing.assert_close(log_proba(module.train(), X), plain.detach())
    hidden = torch.relu(module[0](torch.from_numpy(X).float())).double().detach()
    torch.testing.assert_close(embeddings(module, X), hidden)


def test_what_the_last_layer_sees_gives_the_logits():
    clf = EntropicClassifier(n_epochs=3, net_arch=(8, 5), random_state=0).fit(X, Y)
    hidden = embeddings(clf, X).numpy()
    assert hidden.shape == (120, 5)
    design = np.concatenate([hidden, np.ones((120, 1))], 1)
    log_p = clf.predict_log_proba(X)
    logits = log_p[:, 1:] - log_p[:, :1]
    fitted = design @ np.linalg.lstsq(design, logits, rcond=None)[0]
    np.testing.assert_allclose(fitted, logits, atol=1e-9)


def test_the_posterior_of_a_logistic_regression_is_that_of_its_loss():
    clf = LogisticRegression(C=2.0, tol=1e-8).fit(X, Y)
    drawn = posterior(clf, X, 20_000, seed=0)
    weights = np.stack([one.weight for one in drawn]).reshape(len(drawn), -1)
    mean = np.concatenate([clf.coef_, clf.intercept_[:, None]], 1)
    np.testing.assert_allclose(weights.mean(0), mean.ravel(), atol=0.15)  # intercepts have a free direction

    w = torch.tensor(mean, requires_grad=True)
    rows = torch.from_numpy(np.concatenate([X, np.ones((120, 1))], 1))
    target = torch.from_numpy(np.searchsorted(clf.classes_, Y))

    def loss(w):
        ridge = (w[:, :-1].square().sum() / clf.C + 1e-2 * w[:, -1].square().sum()) / 2
        return torch.nn.functional.cross_entropy(rows @ w.T, target, reduction="sum") + ridge

    hessian = torch.autograd.functional.hessian(loss, w).reshape(w.numel(), w.numel()).detach().numpy()
    white = np.linalg.cholesky(hessian).T @ (weights - mean.ravel()).T  # identity covariance if the Hessian is right
    np.testing.assert_allclose(np.cov(white), np.eye(w.numel()), atol=0.05)


def test_two_classes_have_one_row_of_weights():
    rows = Y != "c"
    clf = LogisticRegression().fit(X[rows], Y[rows])
    members = committee(clf, X[rows], Y[rows], 500, seed=0)
    mean = members_log_proba(members, X[rows]).exp().mean(1).numpy()
    assert mean.shape == (80, 2)
    assert np.abs(mean - clf.predict_proba(X[rows])).max() < 0.1
    few = committee(clf, X[rows][[0, 1, 40, 41]], Y[rows][[0, 1, 40, 41]], 500, seed=0)
    spread, narrow = (members_log_proba(m, X[rows]).exp().std(1).mean() for m in (few, members))
    assert narrow < spread


def test_bootstrap_members_have_seen_every_class():
    rows = FIRST
    for member in committee(GaussianNB().fit(X[rows], Y[rows]), X[rows], Y[rows], 20, seed=0):
        assert member.classes_.tolist() == ["a", "b", "c"]


def test_decision_functions_rank_rows():
    clf = SVC().fit(X[:80], Y[:80])
    p = log_proba(clf, X[:80])
    order = np.argsort(np.abs(clf.decision_function(X[:80])))
    margin = (p[:, 0] - p[:, 1]).abs().numpy()
    np.testing.assert_array_equal(np.argsort(margin), order)


def test_models_without_probabilities_are_refused():
    with pytest.raises(ConfigError, match="predict_proba or decision_function"):
        log_proba(object(), X)


# --- when to stop ---------------------------------------------------------------------------------------------------


def test_kappa_is_scikit_learns():
    a, b = RNG.integers(0, 4, 200), RNG.integers(0, 4, 200)
    b[:120] = a[:120]
    assert kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert kappa(np.zeros(5, int), np.zeros(5, int)) == 1.0


@pytest.mark.parametrize(
    ("rule", "held"),
    [("labels:30", True), ("labels:31", False), ("stable:0.9:2", True), ("stable:0.9:3", False), ("stable", False),
     ("confident:0.8", True), ("confident:0.8:2", False), ("entropy:0.2", True), ("entropy:0.1", False)],
)  # fmt: skip
def test_rules_look_at_the_last_rounds(rule, held):
    rounds = [Round(10, float("nan"), 0.5, 0.9), Round(20, 0.95, 0.7, 0.5), Round(30, 0.97, 0.9, 0.15)]
    assert should_stop(parse_stopping(rule), rounds) is held


@pytest.mark.parametrize(
    "spec", ["labels", "labels:0", "stable:2", "stable:0.9:0", "sure:1", "entropy:x", "stable:1:1:1"]
)
def test_rules_out_of_range_are_refused(spec):
    with pytest.raises(ConfigError, match="stopping: expected"):
        parse_stopping(spec)


@pytest.mark.parametrize("name", ["magin", "tsallis:-1", "renyi:x", "margin:2", "skactiveml:"])
def test_strategies_that_are_none_are_refused(name):
    with pytest.raises(ConfigError, match="strategy: expected"):
        parse_strategy(name)


# --- labels on disk -------------------------------------------------------------------------------------------------


def test_labels_are_kept_line_by_line_whatever_is_cut_off(tmp_path):
    file = LabelFile(tmp_path / "deep" / "labels.csv")
    assert file.read() == []
    file.append([3, 1], ["a, b", "c"])
    file.append([2], ["a"])
    whole = file.path.read_bytes()
    assert file.read() == [("3", "a, b"), ("1", "c"), ("2", "a")]
    for cut in (b"7", b"7,", b"\xc3"):
        file.path.write_bytes(whole + cut)
        assert len(file.read()) == 3
        file.append([9], ["z"])
        assert file.read()[-1] == ("9", "z")
        assert len(file.read()) == 4
    file.path.write_bytes(whole.rstrip())  # of an editor that leaves the end out
    assert len(file.read()) == 3
    file.append([9], ["z"])
    assert len(file.read()) == 4


def test_labels_with_commas_survive_a_crash_in_their_middle(tmp_path):
    file = LabelFile(tmp_path / "labels.csv", "id")
    file.append(["a, b"], ["x"])
    place = file.append(["c"], ["y, z"])
    whole = file.path.read_bytes()
    for end in range(place, len(whole)):
        file.path.write_bytes(whole[:end])
        assert file.read()[0] == ("a, b", "x")
    file.path.write_bytes(whole)
    file.cut(place)
    assert file.read() == [("a, b", "x")]


@pytest.mark.parametrize(("text", "said"), [("id,y\n1,a\n", "heading"), ("row,label\n1\n2,a\n", "line 2")])
def test_files_that_are_no_labels_are_refused(tmp_path, text, said):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        LabelFile(path).read()


@pytest.mark.slow
def test_margin_needs_fewer_labels_than_chance_on_digits():
    images, y = load_digits(return_X_y=True)
    images = images / 16
    reached = {}
    for strategy in ("random", "margin"):
        made = ActiveLearner(LogisticRegression(max_iter=500), images[:1200], classes=range(10), strategy=strategy)
        made.teach(range(20), y[:20])
        while made.score(images[1200:], y[1200:]).accuracy < 0.87:
            asked = made.query(10)
            made.teach(asked, y[asked])
        reached[strategy] = len(made.labelled)
    assert reached["margin"] < 0.8 * reached["random"]
