"""Attacks: exact where they can be, never weaker than they must be, and of models that stay as they were."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs
from torch import nn

from entropic_rl.calibration import EntropicClassifier
from entropic_rl.errors import ConfigError
from entropic_rl.robustness import AdversarialRows, AttackConfig, corrupt, corruption_curve, fgsm, pgd, robustness_curve
from entropic_rl.robustness.balls import Ball
from entropic_rl.robustness.corruptions import CORRUPTIONS
from entropic_rl.robustness.losses import LOSSES, difference_of_logits_ratio, margin
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

QUICK = AttackConfig(n_steps=10, n_restarts=1, n_queries=30, n_noise=3)


def fitted(seeds=(0, 1), coefs=None, *, eps=None, n_epochs=15):
    """Networks on digits, R runs."""
    X, y = load_digits(return_X_y=True)
    x, target = torch.from_numpy(X / 16).float(), torch.from_numpy(y)
    network = Perceptrons((64, 32, 10), seeds)
    perturb = None if eps is None else AdversarialRows(network, list(seeds), list(eps), box=(0.0, 1.0), n_steps=3)
    config = FitConfig(n_epochs=n_epochs, batch_size=64, learning_rate=0.005)
    fitting = Fitting(network, Classification(), config, seeds, coefs, perturb=perturb)
    fitting.run(Table(x, target), torch.arange(1400).expand(len(seeds), -1))
    rows = torch.arange(1400, 1600).expand(len(seeds), -1)
    return network, x[rows], target[rows]


@pytest.fixture(scope="module")
def digits():
    return fitted()


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def blobs():
    X, y = make_blobs(200, n_features=5, centers=2, cluster_std=3.0, random_state=0)
    x, y = torch.from_numpy(X), torch.from_numpy(y)
    direction = x[y == 1].mean(0) - x[y == 0].mean(0)
    bias = -(direction * x.mean(0)).sum()
    weight = torch.stack([torch.zeros(5, dtype=torch.float64), direction])
    return linear(weight, torch.stack([bias * 0, bias])), x, y, direction


# Losses


def test_losses_are_what_their_equations_say():
    logits, y = torch.tensor([[2.0, 1.0, -1.0, 0.5], [0.0, 3.0, 1.0, 2.0]]), torch.tensor([0, 2])
    # own - best other: 2 - 1; 1 - 3. First less third: 2 - .5; 3 - 1.
    torch.testing.assert_close(margin(logits, y), torch.tensor([-1.0, 2.0]))
    torch.testing.assert_close(difference_of_logits_ratio(logits, y), torch.tensor([-1 / 1.5, 2 / 2.0]))


@pytest.mark.parametrize("scale", [1e-3, 100.0])
def test_dlr_knows_neither_shift_nor_scale(scale):
    logits = torch.randn(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(50) % 10
    torch.testing.assert_close(
        difference_of_logits_ratio(scale * logits + 7.0, y), difference_of_logits_ratio(logits, y)
    )


def test_dlr_of_two_classes_is_the_margin():
    logits, y = torch.tensor([[1.0, 3.0]]), torch.tensor([0])
    torch.testing.assert_close(difference_of_logits_ratio(logits, y), margin(logits, y))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses_are_right(name):
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, torch.arange(6) % 4), logits)


# Balls


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_points_stay_in_ball_and_box(norm):
    centre = torch.rand(2, 30, 7, generator=torch.Generator().manual_seed(0))
    order = torch.inf if norm == "linf" else 2.0
    for surface in (False, True):
        x = Ball(0.3, norm, (0.0, 1.0)).random_point(centre, Stream([0, 1], "t"), surface=surface)
        assert torch.linalg.vector_norm(x - centre, order, dim=-1).max() <= 0.3 + 1e-6
        assert x.min() >= 0.0
        assert x.max() <= 1.0
    far = Ball(0.3, norm, (-9.0, 9.0)).project(centre + 9.0, centre)
    torch.testing.assert_close(torch.linalg.vector_norm(far - centre, order, dim=-1), torch.full((2, 30), 0.3))


def test_random_points_fill_the_ball_evenly():
    x = Ball(2.0, "l2", (-9.0, 9.0)).random_point(torch.zeros(1, 20_000, 3), Stream([0], "t"))[0]
    inner = (x.norm(dim=-1) < 1.0).double().mean()  # half the radius holds an eighth of the volume
    assert abs(inner - 0.125) < 4 * (0.125 * 0.875 / 20_000) ** 0.5


def test_steepest_is_the_dual_direction_however_small_the_gradient():
    gradient = torch.tensor([[[3e-30, -4e-30], [0.0, 0.0], [torch.nan, 1.0]]])
    expected = torch.tensor([[[0.6, -0.8], [0.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(Ball(1.0, "l2", (-9.0, 9.0)).steepest(gradient), expected)
    torch.testing.assert_close(Ball(1.0, "linf", (-9.0, 9.0)).steepest(gradient), expected.sign())


# Attacks


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", LOSSES)
def test_linear_models_are_fooled_exactly_where_the_ball_reaches_the_boundary(norm, loss):
    model, x, y, direction = blobs()
    gap = model(x)[:, 1] * (2 * y - 1)
    reach = gap / (direction.abs().sum() if norm == "linf" else direction.norm())
    for attack in (fgsm, pgd):
        found = attack(model, x, y, eps=1.0, norm=norm, loss=loss)
        sure = (reach - 1.0).abs() > 1e-6
        torch.testing.assert_close(found.fooled[sure], (reach < 1.0)[sure])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_radius_zero_is_clean_accuracy_and_leaves_rows_alone(digits, norm):
    network, x, y = digits
    clean = (network(x).argmax(-1) == y).double().mean(-1)
    found = pgd(network, x, y, eps=0.0, norm=norm, box=(0.0, 1.0))
    assert torch.equal(found.accuracy, clean.detach())
    assert torch.equal(found.x, x)
    curve = robustness_curve(network, x, y, eps=[0.0], norm=norm, config=QUICK, surrogate=network)
    assert all(torch.equal(curve.accuracy(name)[0], clean) for name in curve.fooled)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5)])
@pytest.mark.parametrize("loss", LOSSES)
def test_pgd_is_never_weaker_than_fgsm(digits, norm, eps, loss):
    network, x, y = digits
    ours = {"eps": eps, "norm": norm, "loss": loss, "box": (0.0, 1.0)}
    single, many = fgsm(network, x, y, **ours), pgd(network, x, y, **ours, n_steps=1)
    assert not (single.fooled & ~many.fooled).any()
    assert (pgd(network, x, y, **ours).accuracy < single.accuracy).all()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5)])
def test_what_is_returned_is_in_ball_and_box_and_does_what_it_says(digits, norm, eps):
    network, x, y = digits
    found = pgd(network, x, y, eps=eps, norm=norm, box=(0.0, 1.0), n_restarts=2)
    order = torch.inf if norm == "linf" else 2.0
    assert torch.linalg.vector_norm(found.x - x, order, dim=-1).max() <= eps + 1e-6
    assert found.x.min() >= 0.0
    assert found.x.max() <= 1.0
    assert torch.equal(network(found.x).argmax(-1) != y, found.fooled)
    loss = LOSSES["cross-entropy"](network(found.x), y)
    torch.testing.assert_close(loss.detach(), found.loss)
    assert (found.loss >= LOSSES["cross-entropy"](network(x), y) - 1e-5)[~found.fooled].all()


def test_curves_fall_and_the_strongest_is_below_all(digits):
    network, x, y = digits
    curve = robustness_curve(network, x, y, eps=[0.2, 0.0, 0.05, 0.1], box=(0, 1), config=QUICK, surrogate=network)
    assert curve.eps == (0.0, 0.05, 0.1, 0.2)
    for name in curve.fooled:
        accuracy = curve.accuracy(name)
        assert (accuracy.diff(dim=0) <= 0.0).all()
        assert (curve.accuracy() <= accuracy).all()
    assert (curve.accuracy("pgd cross-entropy") <= curve.accuracy("fgsm")).all()
    assert (curve.accuracy("pgd cross-entropy") <= curve.accuracy("pgd iterates")).all()
    assert (curve.accuracy()[-1] < curve.accuracy("noise")[-1]).all()


def test_a_run_in_a_batch_is_the_run_alone(digits):
    network, x, y = digits
    double = network.double()
    together = pgd(double, x.double(), y, eps=0.1, box=(0, 1), n_steps=5, stream=Stream([3, 4], "t"))
    alone = pgd(network.double(1), x[1:].double(), y[1:], eps=0.1, box=(0, 1), n_steps=5, stream=Stream([4], "t"))
    torch.testing.assert_close(together.x[1], alone.x[0])


def test_equal_streams_give_equal_attacks(digits):
    network, x, y = digits
    first, second = (pgd(network, x, y, eps=0.1, n_steps=3, stream=Stream([5], "t")).x for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, pgd(network, x, y, eps=0.1, n_steps=3, stream=Stream([6], "t")).x)


def test_images_keep_their_shape():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 36, 4))
    x = torch.rand(6, 1, 8, 8)
    found = pgd(model, x, torch.arange(6) % 4, eps=0.1, box=(0, 1), n_steps=3)
    assert found.x.shape == x.shape
    assert found.fooled.shape == (6,)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    model[1].eval()
    x, y = torch.randn(20, 4), torch.arange(20) % 3
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before, state, modes = (
        copy.deepcopy(model.state_dict()),
        torch.get_rng_state(),
        [m.training for m in model.modules()],
    )
    first = pgd(model, x, y, eps=0.5)
    robustness_curve(model, x, y, eps=[0.5], config=QUICK)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert model[4].weight.grad is None
    assert not x.requires_grad
    assert torch.equal(first.fooled, pgd(model.eval(), x, y, eps=0.5).fooled)


@pytest.mark.parametrize("settings", [{"readout": "proper"}, {"readout": "temperature"}, {"n_members": 3}])
def test_entropic_classifiers_are_attacked_through_their_read_out(settings):
    X, y = make_blobs(120, centers=3, cluster_std=2.0, random_state=0)
    model = EntropicClassifier(0.3, n_epochs=20, random_state=0, **settings).fit(X, np.array(["a", "b", "c"])[y])
    x = torch.from_numpy(X).requires_grad_()
    log_p = model.log_proba(x)
    np.testing.assert_allclose(log_p.detach(), model.predict_log_proba(X))
    weights = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((log_p @ weights).sum(), x)
    step = 1e-5 * torch.eye(2)[0].numpy()
    ahead, behind = (model.predict_log_proba(X + sign * step) @ weights.numpy() for sign in (1, -1))
    np.testing.assert_allclose(gradient[:, 0], (ahead - behind) / 2e-5, atol=1e-4)
    found = pgd(model, torch.from_numpy(X), torch.from_numpy(y), eps=1.0)
    assert found.accuracy < (model.predict(X) == np.array(["a", "b", "c"])[y]).mean()
    assert (np.searchsorted(model.classes_, model.predict(found.x.numpy())) == y).mean() == found.accuracy
    with pytest.raises(ConfigError, match=r"expected rows \[N, 2\]"):
        model.log_proba(torch.zeros(3, 5))


# Corruptions


def test_corruptions_are_what_they_say():
    x, stream = torch.full((2, 400, 50), 4.0), lambda: Stream([0, 1], "t")
    noisy = corrupt(x, "gaussian noise", 0.5, stream()) - x
    assert abs(noisy.std() - 0.5) < 4 * 0.5 / (2 * 40_000) ** 0.5
    sphere = corrupt(x, "noise on a sphere", 0.5, stream()) - x
    torch.testing.assert_close(sphere.norm(dim=-1), torch.full((2, 400), 0.5))
    shift = corrupt(x, "features shifted", 0.5, stream()) - x
    assert torch.equal(shift.abs(), torch.full_like(x, 0.5))
    assert torch.equal(shift, shift[:, :1].expand_as(shift))
    assert set(corrupt(x, "features scaled", 1.0, stream()).unique().tolist()) == {2.0, 8.0}
    lost = corrupt(x, "features dropped", 0.25, stream()) == 0.0
    assert abs(lost.double().mean() - 0.25) < 4 * (0.25 * 0.75 / 40_000) ** 0.5
    assert (corrupt(x, "features dropped", 1.0, stream()) == 0.0).all()
    assert all(corrupt(x, kind, 0.9, stream(), box=(0.0, 4.5)).max() <= 4.5 for kind in CORRUPTIONS)


def test_corruption_curves_begin_at_clean_accuracy(digits):
    network, x, y = digits
    curves = corruption_curve(network, x, y, [0.0, 0.3, 1.0], box=(0, 1), seeds=[0, 1])
    clean = (network(x).argmax(-1) == y).double().mean(-1)
    for accuracy in curves.values():
        assert torch.equal(accuracy[0], clean)
    assert (curves["gaussian noise"].diff(dim=0) < 0.0).all()


# Adversarial training


def test_adversarial_training_leaves_runs_of_radius_zero_alone_and_hardens_the_others():
    plain, x, y = fitted(seeds=(0, 0), n_epochs=6)
    mixed, _, _ = fitted(seeds=(0, 0), eps=(0.0, 0.1), n_epochs=6)
    torch.testing.assert_close(mixed.values[0], plain.values[0], atol=1e-4, rtol=0.0)
    before, after = pgd(mixed, x, y, eps=0.1, box=(0, 1)).accuracy
    assert after > before + 0.05


# Bad input


def bad(**changes):
    model, x, y, _ = blobs()
    return {"model": model, "x": x, "y": y, "eps": 0.1, **changes}


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()[:, :2] * torch.ones(2, dtype=x.dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eps": -0.1}, "eps: expected a finite radius >= 0, in the units of the features, got -0.1"),
        ({"eps": float("nan")}, "got nan"),
        ({"norm": "l3"}, "norm: expected linf or l2, got 'l3'"),
        ({"loss": "cross_entropy"}, "got 'cross_entropy'; did you mean 'cross-entropy'"),
        ({"box": (0.0, 1.0)}, "box: expected features from 0 to 1, got"),
        ({"box": (1.0, 0.0)}, "expected a least and a larger value"),
        ({"x": torch.full((200, 5), torch.nan)}, "x: expected finite features"),
        ({"y": torch.full((200,), 2)}, "y: expected classes 0 to 1, which the model has logits for, got 2"),
        ({"y": torch.full((200,), -1)}, "whole numbers from 0 on"),
        ({"y": torch.zeros(7, dtype=torch.int64)}, "expected rows x [N, ...] and labels y [N]"),
        ({"y": np.zeros(200)}, "y: expected a tensor, got ndarray"),
        ({"x": torch.zeros(200, 5, dtype=torch.int64)}, "x: expected floating-point features"),
        ({"model": Detached()}, "expected logits that can be differentiated"),
        ({"model": lambda x: torch.from_numpy(x.numpy()[:, :2])}, "it turns them into NumPy"),
        ({"model": lambda x: torch.zeros(200, 2)}, "expected logits that can be differentiated"),
        ({"model": lambda x: x[:, 0]}, "expected logits [200, C >= 2] as a tensor, got (200,)"),
        ({"model": 3}, "expected a torch module, an EntropicClassifier or a function"),
        ({"n_steps": 0}, "expected at least 1, got 0 and 1"),
        ({"n_restarts": 2, "random_start": False}, "where all are the same"),
        ({"step_size": 0.0}, "expected a share of eps above 0"),
    ],
)
def test_bad_input_is_one_sentence(changes, words):
    arguments = bad(**changes)
    with pytest.raises(ConfigError) as caught:
        pgd(arguments.pop("model"), arguments.pop("x"), arguments.pop("y"), **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_bad_input_is_one_sentence():
    model, x, y, _ = blobs()
    with pytest.raises(ConfigError, match="at least one radius"):
        robustness_curve(model, x, y, eps=[])
    with pytest.raises(ConfigError, match="did you mean 'gaussian noise'"):
        corrupt(x[None], "gaussian", 0.1, Stream([0], "t"))
    with pytest.raises(ConfigError, match="severity: expected a finite number >= 0, got -1"):
        corrupt(x[None], "gaussian noise", -1.0, Stream([0], "t"))
    with pytest.raises(ConfigError, match="expected one of noise, fgsm"):
        robustness_curve(model, x, y, eps=[0.0]).accuracy("autoattack")
    with pytest.raises(ConfigError, match="radius >= 0"):
        AdversarialRows(Perceptrons((5, 4, 2), [0]), [0], [-1.0], box=(0.0, 1.0))
