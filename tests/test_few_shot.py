"""Classes known by few examples: prototypes, tasks drawn from classes, bodies from other classes, meta-learning."""

import pickle

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from entropic_rl.benchmarks import few_shot
from entropic_rl.calibration import EntropicClassifier
from entropic_rl.errors import ConfigError
from entropic_rl.few_labels import (
    EpisodeSampler,
    PrototypicalClassifier,
    SemiSupervisedEntropicClassifier,
    episode_accuracies,
    pretrained_body,
    prototype_logits,
)
from entropic_rl.few_labels.config import UnlabeledConfig
from entropic_rl.few_labels.fine_tuning import fine_tuned_logits
from entropic_rl.few_labels.meta import reptile, train_prototypical
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.networks import Perceptrons

X, Y = load_digits(return_X_y=True)
X = X / 16.0
DIGITS = torch.from_numpy(X), torch.from_numpy(Y)
FIVES = torch.tensor([[0, 1, 2, 3, 4], [9, 7, 5, 3, 1]])


@pytest.fixture(scope="module")
def source():
    """A classifier of the digits below 5."""
    settings = {"net_arch": (16, 8), "n_epochs": 10, "dtype": "float64", "random_state": 0}
    return EntropicClassifier(**settings).fit(X[Y < 5], Y[Y < 5])


def nearest_mean(rows, labels):
    """The nearest neighbour among class means: NearestCentroid, without its warning of pixels that are always 0."""
    classes = np.unique(labels)
    return KNeighborsClassifier(1).fit([rows[labels == c].mean(0) for c in classes], classes)


def sampler(n_way=5, n_shot=2, n_query=3, seeds=(0, 1), classes=FIVES):
    return EpisodeSampler(DIGITS[1], classes, n_way=n_way, n_shot=n_shot, n_query=n_query, seeds=seeds)


# Prototypes


def test_logits_are_negative_squared_distances():
    generator = torch.Generator().manual_seed(0)
    query, prototypes = (torch.randn(2, n, 4, generator=generator, dtype=torch.float64) for n in (5, 3))
    expected = -(query.unsqueeze(2) - prototypes.unsqueeze(1)).square().sum(-1)
    torch.testing.assert_close(prototype_logits(query, prototypes), expected)


@parametrize_with_checks([PrototypicalClassifier()])
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_labels_are_those_of_the_nearest_centroid():
    found, peer = PrototypicalClassifier().fit(X[:300], Y[:300]), nearest_mean(X[:300], Y[:300])
    np.testing.assert_allclose(found.prototypes_, peer._fit_X, atol=1e-12)
    np.testing.assert_array_equal(found.predict(X[300:]), peer.predict(X[300:]))
    distances = ((X[300:310, None] - peer._fit_X) ** 2).sum(2)
    expected = log_softmax(-distances / 0.3, axis=1)
    np.testing.assert_allclose(found.set_params(temperature=0.3).predict_log_proba(X[300:310]), expected, atol=1e-12)


def test_prototypes_are_a_linear_layer():
    found = PrototypicalClassifier(temperature=0.5).fit(X[:50], Y[:50])
    with torch.no_grad():
        p = found.as_module()(DIGITS[0]).softmax(-1)
    np.testing.assert_allclose(p, found.predict_proba(X), atol=1e-12)
    with pytest.raises(ConfigError, match="embed the rows first"):
        PrototypicalClassifier(nn.Linear(64, 3)).fit(X, Y).as_module()


def test_body_may_be_a_module_or_a_function():
    module = nn.Sequential(nn.Linear(64, 5), nn.Dropout(0.5), nn.Tanh()).double()
    weight, bias = (p.detach().numpy() for p in module[0].parameters())
    by_module = PrototypicalClassifier(module).fit(X, Y)
    by_function = PrototypicalClassifier(lambda rows: np.tanh(rows @ weight.T + bias)).fit(X, Y)
    np.testing.assert_allclose(by_module.predict_proba(X), by_function.predict_proba(X), atol=1e-12)
    assert module.training
    copied = clone(make_pipeline(StandardScaler(), PrototypicalClassifier(module))).fit(X, Y)
    assert pickle.loads(pickle.dumps(copied)).score(X, Y) == copied.score(X, Y)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            nn.Unflatten(1, (8, 8)),
            r"body: expected numbers \[1797, width\] for 1797 rows, got ndarray of shape \(1797, 8, 8\)",
        ),
        (lambda rows: rows[0], r"got ndarray of shape \(64,\)"),
        (lambda rows: rows * np.nan, "expected finite embeddings"),
        (lambda rows: [["a"]] * len(rows), "got list"),
        (EntropicClassifier(), r"got EntropicClassifier; .* pretrained_body\(classifier\)"),
        ("resnet", "expected a torch.nn.Module or a callable on arrays, got str"),
    ],
    ids=["cube", "vector", "nan", "text", "estimator", "name"],
)
def test_body_that_does_not_fit_is_refused(body, words):
    with pytest.raises(ConfigError, match=words):
        PrototypicalClassifier(body).fit(X, Y)


def test_other_bad_input_of_prototypes_is_refused():
    with pytest.raises(ConfigError, match="temperature: expected a number above 0, got 0"):
        PrototypicalClassifier(temperature=0).fit(X, Y)
    with pytest.raises(ConfigError, match="at least 2 classes, got 1 class, 3"):
        PrototypicalClassifier().fit(X[Y == 3], Y[Y == 3])
    widths = iter((4, 5))
    changing = PrototypicalClassifier(lambda rows: rows[:, : next(widths)]).fit(X, Y)
    with pytest.raises(ConfigError, match="width 4, as in fit, got 5"):
        changing.predict(X)


# Tasks


def test_tasks_hold_different_rows_of_different_classes():
    episodes = sampler(n_way=3).draw(50)
    assert episodes.support.shape == (2, 50, 3, 2)
    assert episodes.query.shape == (2, 50, 3, 3)
    for run in range(2):
        assert set(episodes.classes[run].unique().tolist()) == set(FIVES[run].tolist())
        for task in range(50):
            assert len(set(episodes.classes[run, task].tolist())) == 3
    rows = torch.cat([episodes.support, episodes.query], -1)
    assert bool((DIGITS[1][rows] == episodes.classes.unsqueeze(-1)).all())
    assert all(len(set(task.flatten().tolist())) == 15 for task in rows.flatten(0, 1))


def test_tasks_of_a_run_do_not_depend_on_the_runs_beside_it():
    together, alone = sampler().draw(4), sampler(seeds=(1,), classes=FIVES[1:]).draw(4)
    assert bool((together.support[1:] == alone.support).all())
    assert not bool((sampler(seeds=(5, 6)).draw(4).support == together.support).all())


def test_every_row_of_a_class_is_drawn_alike_often():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    draws = EpisodeSampler(labels, torch.tensor([[0, 1]]), n_way=2, n_shot=1, n_query=1, seeds=[0]).draw(6000)
    share = torch.bincount(draws.support.flatten(), minlength=10) / 6000
    expected = torch.tensor([1 / 4] * 4 + [1 / 6] * 6)
    assert float((share - expected).abs().max()) < 4 * (0.25 * 0.75 / 6000) ** 0.5


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"n_way": 6}, "n_way: expected at most 5, as many classes as there are to draw from, got 6"),
        ({"n_shot": 172}, r"n_shot \+ n_query: expected at most 177 rows, which class 2 has"),
        ({"n_shot": 0}, "n_shot and n_query of at least 1, got 5, 0 and 3"),
        ({"n_way": 1}, "n_way of at least 2"),
    ],
)
def test_tasks_larger_than_the_data_are_refused(numbers, words):
    if numbers.get("n_shot"):
        numbers = {**numbers, "n_query": 10, "classes": FIVES[:1], "seeds": (0,)}
    with pytest.raises(ConfigError, match=words):
        sampler(**numbers)


def test_accuracy_of_tasks_is_that_of_the_classifier():
    episodes = sampler().draw(3)
    found = episode_accuracies(DIGITS[0], episodes)
    for run in range(2):
        for task in range(3):
            support, query = (rows[run, task].flatten() for rows in (episodes.support, episodes.query))
            peer = nearest_mean(X[support], Y[support])
            assert float(found[run, task]) == pytest.approx(peer.score(X[query], Y[query]))
    torch.testing.assert_close(episode_accuracies(torch.stack([DIGITS[0]] * 2), episodes), found)


# Transfer


def test_body_is_the_classifier_without_its_last_layer(source):
    body = pretrained_body(source)
    embedded = body(X)
    assert embedded.shape == (1797, 8)
    last = source._network.params
    logits = embedded @ last["2.weight"][0].detach().numpy() + last["2.bias"][0].detach().numpy()
    np.testing.assert_allclose(log_softmax(logits, axis=1), source.predict_log_proba(X), atol=1e-9)
    copied = clone(PrototypicalClassifier(body)).fit(X, Y)
    np.testing.assert_array_equal(copied.prototypes_, PrototypicalClassifier(body).fit(X, Y).prototypes_)


@pytest.mark.parametrize("n_frozen", [0, 1, 2])
def test_frozen_layers_stay_and_the_others_learn(source, n_frozen):
    body = pretrained_body(source)
    rows = Y >= 5
    tuned = EntropicClassifier(module=body.with_head(n_frozen), n_epochs=3, ent_coef=0.1, random_state=0)
    layers = [layer for layer in tuned.fit(X[rows], Y[rows])._network.modules[0] if isinstance(layer, nn.Linear)]
    for i, layer in enumerate(layers[:2]):
        before = source._network.params[f"{i}.weight"][0].detach().mT
        assert torch.allclose(layer.weight, before, atol=1e-6) == (i < n_frozen)


def test_many_tasks_are_trained_as_each_by_itself(source):
    network = source._network
    x, episodes = DIGITS[0], sampler(n_way=3, n_query=6).draw(2)
    support, query = (rows.flatten(0, 1).flatten(1) for rows in (episodes.support, episodes.query))
    config = FitConfig(n_epochs=5, batch_size=None, ent_coef=0.2, learning_rate=0.01, dtype="float64")
    settings = {"n_way": 3, "config": config, "n_frozen": 1}
    together = fine_tuned_logits(network, torch.zeros(4).long(), x[support], x[query], seeds=range(4), **settings)
    for task in (0, 3):
        own = slice(task, task + 1)
        alone = fine_tuned_logits(
            network, torch.zeros(1).long(), x[support[own]], x[query[own]], seeds=[task], **settings
        )
        torch.testing.assert_close(together[own], alone, rtol=0.0, atol=1e-9)


def test_head_of_prototypes_or_of_the_body_is_where_training_begins(source):
    x, episodes = DIGITS[0], sampler(seeds=(0,), classes=FIVES[:1]).draw(2)
    support, query = x[episodes.support[0].flatten(1)], x[episodes.query[0].flatten(1)]
    still = FitConfig(n_epochs=1, batch_size=None, learning_rate=1e-30, dtype="float64")
    runs, settings = torch.zeros(2).long(), {"n_way": 5, "config": still, "seeds": [0, 1]}
    prototypes = fine_tuned_logits(source._network, runs, support, query, head="prototypes", n_frozen=1, **settings)
    embedded = torch.from_numpy(pretrained_body(source)(X))
    accuracy = (prototypes.argmax(-1) == episodes.ways(episodes.query)).double().mean(-1)
    torch.testing.assert_close(accuracy, episode_accuracies(embedded, episodes)[0])
    kept = fine_tuned_logits(source._network, runs, support, query, head="body", **settings)
    expected = source.predict_log_proba(query[0].numpy())
    np.testing.assert_allclose(kept[0].log_softmax(-1), expected, atol=1e-9)


def test_unlabelled_rows_of_a_task_are_used_as_the_estimator_uses_them():
    x, labels = DIGITS
    few = torch.cat([(labels == c).nonzero()[:2, 0] for c in range(3)])
    others = torch.cat([(labels == c).nonzero()[2:20, 0] for c in range(3)])
    proto = PrototypicalClassifier().fit(X[few], Y[few])
    settings = {"n_epochs": 20, "learning_rate": 0.01, "ent_coef": 0.1, "dtype": "float64"}
    estimator = SemiSupervisedEntropicClassifier(module=proto.as_module(), unlabeled_batch_size=None, **settings)
    marked = np.concatenate([Y[few], np.full(len(others), -1)])
    estimator.fit(np.concatenate([X[few], X[others]]), marked)
    blank = Perceptrons((64, 3), [0], dtype=torch.float64)
    logits = fine_tuned_logits(
        blank,
        torch.zeros(1).long(),
        x[few][None],
        x[None],
        n_way=3,
        config=FitConfig(batch_size=None, **settings),
        seeds=[0],
        head="prototypes",
        unlabeled=x[others][None],
        unlabeled_config=UnlabeledConfig(unlabeled_batch_size=None),
    )
    np.testing.assert_allclose(logits[0].log_softmax(-1), estimator.predict_log_proba(X), atol=1e-6)


def test_bad_input_of_transfer_is_refused(source):
    with pytest.raises(NotFittedError):
        pretrained_body(EntropicClassifier())
    with pytest.raises(ConfigError, match="expected a fitted EntropicClassifier, got NearestCentroid"):
        pretrained_body(NearestCentroid())
    with pytest.raises(ConfigError, match="of a module of your own pass its layers"):
        pretrained_body(EntropicClassifier(module=nn.Linear, n_epochs=1).fit(X, Y))
    with pytest.raises(ConfigError, match="no prelu"):
        pretrained_body(EntropicClassifier(activation="prelu", n_epochs=1).fit(X, Y))
    body = pretrained_body(source)
    with pytest.raises(ConfigError, match="n_frozen: expected 0 to 2, the hidden layers of the body, got 3"):
        body.with_head(3)
    with pytest.raises(ConfigError, match="expected 64 features, as the body was trained on, got 3"):
        EntropicClassifier(module=body.with_head()).fit(X[:, :3], Y)
    with pytest.raises(ConfigError, match="expected 64 features"):
        body(X[:, :3])


# Meta-learning


def test_episodes_teach_an_embedding_its_classes():
    network, judge = Perceptrons((64, 32, 8), [0, 1]), sampler(n_query=10, seeds=(7, 8)).draw(20)
    x = DIGITS[0].float()
    with torch.no_grad():
        before = episode_accuracies(network(x.expand(2, -1, -1)), judge).mean(1)
    losses = train_prototypical(network, x, sampler(n_query=10), n_steps=60)
    with torch.no_grad():
        after = episode_accuracies(network(x.expand(2, -1, -1)), judge).mean(1)
    assert losses.shape == (60, 2)
    assert bool((losses[-10:].mean(0) < 0.7 * losses[:10].mean(0)).all())
    assert bool((after > before).all())


def test_reptile_with_one_step_and_one_task_is_gradient_descent():
    network = Perceptrons((64, 8, 3), [0], dtype=torch.float64)
    twin, draws = network.take(torch.tensor([0])), sampler(n_way=3, seeds=(0,), classes=FIVES[:1])
    same = sampler(n_way=3, seeds=(0,), classes=FIVES[:1])
    reptile(network, DIGITS[0], draws, n_iterations=1, n_tasks=1, inner_steps=1, inner_rate=0.1)
    support = same.draw(1).support[0].flatten(1)
    target = torch.arange(3).repeat_interleave(2)
    twin.backward(nn.functional.cross_entropy(twin(DIGITS[0][support])[0], target)[None])
    torch.testing.assert_close(network.values, twin.values - 0.1 * twin.grads)


def test_reptile_moves_to_the_mean_of_its_tasks_and_runs_are_independent():
    def learned(seeds, classes):
        network = Perceptrons((64, 8, 3), seeds, dtype=torch.float64)
        draws = sampler(n_way=3, seeds=seeds, classes=classes)
        losses = reptile(network, DIGITS[0], draws, n_iterations=40, n_tasks=2, inner_rate=0.3)
        return network.values, losses

    together, losses = learned((3, 4), FIVES)
    alone, _ = learned((4,), FIVES[1:])
    torch.testing.assert_close(together[1:], alone, rtol=0.0, atol=1e-9)
    assert bool((losses[-5:].mean(0) < losses[:5].mean(0)).all())


@pytest.mark.slow
@pytest.mark.parametrize("n_shot", [1, 5])
def test_unlabelled_rows_beat_the_nearest_mean_of_pixels(n_shot):
    case = few_shot.setting(n_shot, 6, 20)
    found, baseline = (few_shot.METHODS[name](case) for name in ("pixels, entropy minimisation", few_shot.BASELINE))
    assert few_shot.above(found, baseline).low > 2.0
    assert bool((found.mean(1) > baseline.mean(1)).all())
