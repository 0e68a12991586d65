"""Read-outs by the optimum that they invert, and temperatures by scikit-learn's and by scipy's minimiser."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from torch.autograd import grad
from torch.nn import functional as F

from entropic_rl.calibration import TemperatureScaler, gaussian_readout, proper_readout, readout_limit
from entropic_rl.errors import ConfigError
from entropic_rl.losses import entropic_cross_entropy

F64 = torch.float64


def normal(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# The proper read-out


@pytest.mark.parametrize(("ent_coef", "fitted"), [(0.1, 0.7783), (0.25, 0.7487), (0.5, 0.7083), (1.0, 0.6551)])
def test_published_fits_read_as_four_fifths(ent_coef, fitted):
    q = proper_readout(torch.tensor([fitted, 1 - fitted], dtype=F64).log(), ent_coef=ent_coef)
    assert q[0].item() == pytest.approx(0.8, abs=3e-4)


@pytest.mark.parametrize(("n_classes", "ent_coef", "cap"), [(2, 0.5, 0.90183), (3, 1.0, 0.68350), (10, 2.0, 0.33288)])
def test_capped_confidence_reads_as_certainty(n_classes, ent_coef, cap):
    p = torch.full((n_classes,), (1 - cap) / (n_classes - 1), dtype=F64)
    p[0] = cap
    assert proper_readout(p.log(), ent_coef=ent_coef, floor=0.0)[0].item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("ent_coef", [0.0, 0.1, 0.5, 1.0])
def test_readout_is_where_the_loss_is_stationary(ent_coef):
    logits = normal(200, 4, scale=0.2).requires_grad_()
    q = proper_readout(logits.detach(), ent_coef=ent_coef, floor=None)
    loss = entropic_cross_entropy(logits, q, ent_coef=ent_coef)
    assert grad(loss.sum(), logits)[0].abs().max() <= 1e-12


def test_weighted_loss_is_stationary_at_the_reweighted_posterior():
    weight, posterior = torch.tensor([0.5, 1.0, 4.0], dtype=F64), torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    logits = torch.zeros(3, dtype=F64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-13, tolerance_change=0.0)

    def closure():
        optimizer.zero_grad()
        loss = sum(
            posterior[c] * entropic_cross_entropy(logits, torch.tensor(c), ent_coef=0.4, weight=weight)
            for c in range(3)
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    reweighted = posterior * weight / (posterior * weight).sum()
    torch.testing.assert_close(proper_readout(logits.detach(), ent_coef=0.4), reweighted, rtol=0, atol=1e-6)


def test_readout_without_coefficient_is_softmax():
    logits = normal(5, 3)
    torch.testing.assert_close(proper_readout(logits, ent_coef=0.0), logits.softmax(-1))


@pytest.mark.parametrize("floor", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("scale", [1.0, 10.0, 1e4])
def test_readout_is_a_distribution_with_the_same_winner_however_far_from_the_optimum(scale, floor):
    logits = normal(300, 5, scale=scale)
    q = proper_readout(logits, ent_coef=3.0, floor=floor)
    torch.testing.assert_close(q.sum(-1), torch.ones(300, dtype=F64))
    assert (q >= 0).all()
    assert torch.equal(q.argmax(-1), logits.argmax(-1))
    if floor and scale == 1.0:
        assert (q > 0).all()


def test_map_to_posteriors_is_one_to_one_where_they_are_posteriors():
    # The Jacobian dq/dz on vectors with E_p v = 0 is sum p v^2 (f + c), f the factor: positive wherever f >= 0.
    checked = 0
    for seed in range(200):
        ent_coef = 0.05 * 1.04**seed
        z = normal(4, seed=seed, scale=2.0 / (1.0 + ent_coef))
        if ent_coef > readout_limit(z):
            continue
        p = z.softmax(-1)
        jacobian = torch.autograd.functional.jacobian(
            lambda z, c=ent_coef: proper_readout(z, ent_coef=c, floor=None), z
        )
        basis = torch.linalg.svd(p.unsqueeze(0))[2][1:].T  # of the vectors with E_p v = 0
        eigenvalues = torch.linalg.eigvalsh(basis.T @ (jacobian + jacobian.T) @ basis)
        assert (eigenvalues > 0).all()
        checked += 1
    assert checked >= 50


def test_masked_classes_stay_impossible():
    logits, mask = normal(4, 3), torch.tensor([True, True, False])
    q = proper_readout(logits, ent_coef=0.3, mask=mask)
    assert q[:, 2].tolist() == [0.0] * 4
    torch.testing.assert_close(q[:, :2], proper_readout(logits[:, :2], ent_coef=0.3))


def test_error_names_the_coefficient_from_which_on_the_readout_is_ill_posed():
    # p = (.9, .1): H = .325083, the rare class gets 1 + c (log .1 + H) = 1 - 1.977502 c < 0 from c = .505688 on.
    logits = torch.tensor([0.9, 0.1], dtype=F64).log()
    assert readout_limit(logits) == pytest.approx(0.505688, abs=1e-6)
    assert readout_limit(logits, floor=0.1) == pytest.approx(0.9 * 0.505688, abs=1e-6)
    assert proper_readout(logits, ent_coef=0.5, floor=None)[1] > 0
    with pytest.raises(ConfigError, match=r"ill-posed from 0\.5057 on, .* got 0\.6; train to the optimum"):
        proper_readout(logits, ent_coef=0.6, floor=None)


def test_uniform_rows_have_no_limit():
    assert readout_limit(torch.zeros(3, 7)) == math.inf


@pytest.mark.parametrize("ent_coef", [-0.1, math.nan, math.inf])
def test_bad_coefficients_are_refused(ent_coef):
    with pytest.raises(ConfigError, match=r"^ent_coef: the proper read-out needs a coefficient >= 0, got"):
        proper_readout(torch.zeros(3), ent_coef=ent_coef)


def test_bad_floor_is_refused():
    with pytest.raises(ConfigError, match=r"^floor: expected a number in \[0, 1\), or None, got 1.0$"):
        proper_readout(torch.zeros(3), ent_coef=0.1, floor=1.0)


def test_gaussian_readout_takes_the_inflation_back_and_ends_at_one():
    fitted = torch.tensor([0.5 * math.log(4.0 / 0.7)], dtype=F64)
    assert gaussian_readout(fitted, ent_coef=0.3).item() == pytest.approx(math.log(2.0))
    with pytest.raises(ConfigError, match=r"ill-posed from 1 on, where the loss has no minimum, got 1$"):
        gaussian_readout(fitted, ent_coef=1.0)


# Temperature


def nll(logits, target):
    return F.cross_entropy(logits, target).item()


def problem(seed):
    """Logits of random size, classes and scale with labels that follow them, oppose them, or are separated by them."""
    g = torch.Generator().manual_seed(seed)
    n, n_classes = (int(torch.randint(low, high, (), generator=g)) for low, high in ((1, 60), (2, 8)))
    scale = 10 ** (4 * torch.rand((), generator=g).item() - 2)
    logits = scale * torch.randn(n, n_classes, generator=g, dtype=F64)
    kind = seed % 4
    if kind == 0:
        target = logits.argmax(1)  # separable
    elif kind == 1:
        target = torch.randint(n_classes, (n,), generator=g)
    elif kind == 2:
        target = logits.argmin(1)  # the hotter the better
    else:
        target = torch.multinomial((logits / 3).softmax(1), 1, generator=g).squeeze(1)
    return logits, target


@pytest.mark.slow
def test_a_thousand_random_problems_never_get_worse():
    for seed in range(1000):
        logits, target = problem(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bounds
            scaler = TemperatureScaler(prior_precision=seed % 5 / 4).fit(logits, target)
        assert 0.0 < scaler.temperature < math.inf
        assert nll(scaler.transform(logits), target) <= nll(logits, target)


@pytest.mark.parametrize("precision", [0.0, 5.0])
def test_temperature_is_the_minimum_that_scipy_finds(precision):
    for seed in range(8):
        logits = normal(80, 4, seed=seed, scale=3.0)
        target = torch.multinomial((logits / (0.4 + seed)).softmax(1), 1, generator=torch.Generator().manual_seed(seed))
        target = target.squeeze(1)
        fitted = TemperatureScaler(prior_precision=precision).fit(logits, target).temperature

        def loss(u, logits=logits, target=target):
            return nll(logits * math.exp(-u), target) * len(target) + 0.5 * precision * u * u

        best = minimize_scalar(loss, bounds=(-4.6, 4.6), method="bounded", options={"xatol": 1e-8})
        assert math.log(fitted) == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_equals_scikit_learns(scale):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = (X @ rng.normal(size=(3, 4)) + rng.gumbel(size=(400, 4))).argmax(1)
    model = LogisticRegression().fit(X[:200], y[:200])
    model.coef_, model.intercept_ = scale * model.coef_, scale * model.intercept_
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature", cv=2, ensemble=False)
    theirs.fit(X[200:], y[200:])
    beta = theirs.calibrated_classifiers_[0].calibrators[0].beta_
    ours = TemperatureScaler().fit(model.decision_function(X[200:]), y[200:])
    assert 1.0 / ours.temperature == pytest.approx(beta, rel=1e-3)
    probabilities = ours.predict_proba(torch.from_numpy(model.decision_function(X))).numpy()
    np.testing.assert_allclose(probabilities, theirs.predict_proba(X), atol=1e-3)


def test_rows_count_by_their_weight_in_the_temperature():
    logits, target = normal(60, 3, scale=3.0), torch.arange(60) % 3
    weight = torch.arange(60) % 3
    rows = torch.arange(60).repeat_interleave(weight)
    weighed = TemperatureScaler(prior_precision=2.0).fit(logits, target, weight)
    assert weighed.temperature == pytest.approx(
        TemperatureScaler(prior_precision=2.0).fit(logits[rows], target[rows]).temperature
    )
    with pytest.raises(ConfigError, match="expected a weight >= 0 for each of 60 rows"):
        TemperatureScaler().fit(logits, target, -weight)


def test_true_temperature_is_found():
    logits = normal(20000, 5, scale=3.0)
    target = torch.multinomial((logits / 2.5).softmax(1), 1, generator=torch.Generator().manual_seed(1)).squeeze(1)
    assert TemperatureScaler().fit(logits, target).temperature == pytest.approx(2.5, rel=0.03)


def test_separable_data_take_the_bound_and_say_so():
    logits = normal(20, 3)
    with pytest.warns(UserWarning, match="^the temperature is at its bound"):
        scaler = TemperatureScaler(bounds=(0.2, 5.0)).fit(logits, logits.argmax(1))
    assert scaler.temperature == pytest.approx(0.2)


def test_prior_keeps_few_separable_points_from_the_bound_and_fades_with_data():
    logits, target = normal(20, 3), normal(20, 3).argmax(1)
    assert 0.05 < TemperatureScaler(prior_precision=1.0).fit(logits, target).temperature < 1.0
    many = normal(20000, 3, scale=3.0)
    labels = torch.multinomial((many / 2).softmax(1), 1, generator=torch.Generator().manual_seed(1)).squeeze(1)
    plain, pulled = (TemperatureScaler(prior_precision=x).fit(many, labels).temperature for x in (0.0, 10.0))
    assert pulled == pytest.approx(plain, rel=1e-2)


def test_the_winner_stays_and_the_input_is_not_kept():
    logits = normal(50, 4).float().requires_grad_()
    target = torch.randint(4, (50,), generator=torch.Generator().manual_seed(3))
    scaler = TemperatureScaler(prior_precision=1.0).fit(logits, target)
    assert torch.equal(scaler.transform(logits).argmax(1), logits.argmax(1))
    assert isinstance(scaler.temperature, float)


@pytest.mark.parametrize(
    ("logits", "target", "words"),
    [
        (
            torch.zeros(3, 2),
            [0, 1],
            r"expected logits \[N, C\] and class indices \[N\], got \(3, 2\) and \(2,\) of int64",
        ),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), r"expected at least one row"),
        (torch.full((1, 2), math.nan), [0], r"expected finite logits"),
        (torch.zeros(2, 2), [0, 2], r"expected class indices from 0 to 1, got 0 to 2$"),
        (torch.zeros(2, 2), [0.0, 1.0], r"of float32$"),
    ],
)
def test_bad_calibration_data_are_refused_in_a_sentence(logits, target, words):
    with pytest.raises(ConfigError, match=words):
        TemperatureScaler().fit(logits, target)


@pytest.mark.parametrize("options", [{"bounds": (0.0, 5.0)}, {"bounds": (2.0, 5.0)}, {"prior_precision": -1.0}])
def test_bad_settings_are_refused(options):
    with pytest.raises(ConfigError, match=r"^(bounds|prior_precision): expected"):
        TemperatureScaler(**options)
