"""Labelled data: posteriors against simulation and quadrature, noise and imbalance against counts, errors in words."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from entropic_rl.datasets import (
    SOURCES,
    Population,
    class_shares,
    from_arrays,
    load,
    thinned,
    transition_matrix,
    with_label_noise,
)
from entropic_rl.errors import ConfigError

CORNERS = np.array([[0.0, 1.0], [-math.sqrt(0.75), -0.5], [math.sqrt(0.75), -0.5]])


def calibration_z(posterior, y, n_bins=12):
    """How many standard errors the frequency of each class is from the posterior, in each of its bins."""
    z = []
    for column in range(posterior.shape[1]):
        p, hit = posterior[:, column], y == column
        edges = np.quantile(p, np.linspace(0, 1, n_bins + 1)[1:-1])
        bins = np.searchsorted(edges, p)
        for b in range(n_bins):
            inside = bins == b
            spread = math.sqrt((p[inside] * (1 - p[inside])).sum())
            if spread > 3.0:  # enough rows for a normal approximation
                z.append((hit[inside].sum() - p[inside].sum()) / spread)
    return np.array(z)


# What is bundled


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1797, 64), tuple(range(10))),
        ("breast_cancer", (569, 30), ("malignant", "benign")),
        ("wine", (178, 13), ("class_0", "class_1", "class_2")),
    ],
)
def test_bundled_data_is_scikit_learns(name, shape, classes):
    from sklearn import datasets

    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    data = load(name)
    assert data.X.shape == shape
    assert data.X.dtype == np.float64
    assert data.y.dtype == np.int64
    assert data.classes == classes
    assert len(set(data.feature_names)) == shape[1]
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.y, y)
    assert data.posterior is None
    assert data.bayes_error is None


@pytest.mark.parametrize("name", SOURCES)
def test_summary_is_one_line_with_rows_and_shares(name):
    data = load(name)
    text = data.summary()
    assert "\n" not in text
    assert text.startswith(f"{name}: {len(data)} rows, {data.X.shape[1]} columns, {len(data.classes)} classes (")
    assert text.count("%") == len(data.classes) + (data.bayes_error is not None)


def test_take_keeps_everything_that_is_known_of_the_rows():
    data = load("blobs", n=60, label_noise=0.3)
    part = data.take([5, 3])
    for name in ("X", "y", "clean_y", "posterior", "clean_posterior"):
        np.testing.assert_array_equal(getattr(part, name), getattr(data, name)[[5, 3]])
    assert len(data.take(data.y == 1)) == (data.y == 1).sum()
    assert part.bayes_error == data.bayes_error


# Known posteriors


def test_posterior_of_blobs_is_bayes_rule():
    population = Population("blobs", 0.78, (0.5, 0.3, 0.2))
    points = np.random.default_rng(0).normal(size=(50, 2)) * 2
    joint = np.stack(
        [s * stats.multivariate_normal(c, 0.78**2).pdf(points) for s, c in zip((0.5, 0.3, 0.2), CORNERS, strict=True)],
        1,
    )
    np.testing.assert_allclose(population.posterior(points), joint / joint.sum(1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3, 1.5])
def test_posterior_of_moons_is_the_integral_over_the_half_circles(noise):
    rng = np.random.default_rng(1)
    angle = rng.random(12) * math.pi
    points = np.concatenate(
        [
            np.stack([np.cos(angle), np.sin(angle)], 1) + noise * rng.normal(size=(12, 2)),
            [[0.5, 0.25], [1, -0.6], [3, 2]],
        ]
    )

    def log_density(point, sign):
        """Of the outer moon; the inner one is the same, turned by 180 degrees around (0.5, 0.25)."""
        x, y = point if sign > 0 else (1.0 - point[0], 0.5 - point[1])
        peak = math.atan2(y, x) % (2 * math.pi)
        peak = peak if peak <= math.pi else (math.pi if x < 0 else 0.0)

        def exponent(t):
            return -((x - math.cos(t)) ** 2 + (y - math.sin(t)) ** 2) / (2 * noise**2)

        top = exponent(peak)
        cuts = sorted({min(max(peak + d * noise, 0.0), math.pi) for d in (-30, -9, -3, 0, 3, 9, 30)} | {0.0, math.pi})
        pieces = [
            integrate.quad(lambda t: math.exp(exponent(t) - top), *ends, epsabs=0.0, epsrel=1e-11)[0]
            for ends in itertools.pairwise(cuts)
        ]
        return math.log(sum(pieces)) + top

    expected = [1 / (1 + math.exp(min(log_density(p, 1) - log_density(p, -1), 700.0))) for p in points]
    np.testing.assert_allclose(Population("moons", noise, (0.5, 0.5)).posterior(points)[:, 1], expected, atol=1e-8)


def test_posterior_far_away_stays_a_probability():
    posterior = Population("moons", 0.02, (0.5, 0.5)).posterior([[1e4, -1e4], [-1e4, 0.0]])
    np.testing.assert_allclose(posterior.sum(1), 1.0)


def test_moons_lie_where_scikit_learn_puts_them():
    from sklearn.datasets import make_moons

    data = load("moons", n=4000, noise=0.02)
    X, y = make_moons(2000, random_state=0)
    for column in range(2):
        distance = np.linalg.norm(data.X[data.y == column][:, None] - X[y == column], axis=2).min(1)
        assert distance.max() < 0.12


@pytest.mark.parametrize("source", ["blobs", "moons"])
@pytest.mark.parametrize("kind", ["symmetric", "pair"])
@pytest.mark.parametrize(("label_noise", "imbalance"), [(0.0, 1.0), (0.3, 1.0), (0.2, 6.0)])
def test_posterior_is_how_often_labels_come(source, kind, label_noise, imbalance):
    options = {"label_noise": label_noise, "label_noise_kind": kind, "imbalance": imbalance}
    data = load(source, n=20_000, seed=2, **options)
    z = calibration_z(data.posterior, data.y)
    assert len(z) > 8
    assert np.abs(z).max() < 4.0
    assert (z**2).mean() < 1.9
    assert np.abs(calibration_z(data.clean_posterior, data.clean_y)).max() < 4.0
    wrong = data.posterior.argmax(1) != data.y
    assert wrong.mean() == pytest.approx(data.bayes_error, abs=4 * math.sqrt(data.bayes_error / 20_000))


def test_noisy_labels_do_not_follow_the_clean_posterior():
    data = load("blobs", n=40_000, label_noise=0.3)
    assert np.abs(calibration_z(data.clean_posterior, data.y)).max() > 20.0


def test_bayes_error_of_blobs_by_integration_over_angles():
    # By symmetry, the mass of one class in its own sector of 120 degrees, in polar coordinates around the origin.
    noise = 0.78

    def density(r, angle):
        square = (r * math.cos(angle) - 1.0) ** 2 + (r * math.sin(angle)) ** 2
        return r * math.exp(-square / (2 * noise**2)) / (2 * math.pi * noise**2)

    right, _ = integrate.dblquad(density, -math.pi / 3, math.pi / 3, 0.0, 10.0)
    population = Population("blobs", noise, (1 / 3, 1 / 3, 1 / 3))
    assert population.bayes_error() == pytest.approx(1.0 - right, abs=1e-5)
    assert load("blobs").bayes_error == pytest.approx(0.218, abs=5e-4)
    # Symmetric noise e leaves the best prediction in place: it is wrong with e + (1 - e - e / 2) times the error.
    noisy = load("blobs", label_noise=0.2)
    assert noisy.bayes_error == pytest.approx(0.2 + 0.7 * (1.0 - right), abs=1e-5)
    assert noisy.clean_bayes_error == load("blobs").bayes_error


@pytest.mark.parametrize(("noise", "shares"), [(0.15, (0.5, 0.5)), (0.3, (0.8, 0.2)), (0.7, (0.5, 0.5))])
def test_bayes_error_of_moons_is_the_mean_of_the_smaller_posterior(noise, shares):
    population = Population("moons", noise, shares)
    rng = np.random.default_rng(3)
    X, _ = population.draw(20_000, rng, rng)
    smaller = population.posterior(X).min(1)
    assert population.bayes_error() == pytest.approx(smaller.mean(), abs=4 * smaller.std() / math.sqrt(20_000))


def test_posterior_at_gives_maps_and_agrees_with_the_rows():
    data = load("moons", n=200, label_noise=0.1, label_noise_kind="pair")
    np.testing.assert_array_equal(data.posterior_at(data.X), data.posterior)
    np.testing.assert_array_equal(data.posterior_at(data.X, clean=True), data.clean_posterior)
    assert data.posterior_at(np.zeros((0, 2))).shape == (0, 2)
    with pytest.raises(ConfigError, match=r"points: expected finite numbers \[M, 2\], got \(3,\)"):
        data.posterior_at([1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="digits: expected data with a known posterior, which blobs and moons have"):
        load("digits").posterior_at(np.zeros((1, 64)))


# Label noise


def test_transition_matrices_by_hand():
    np.testing.assert_allclose(transition_matrix(3, 0.2), [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(transition_matrix(3, 0.2, "pair"), [[0.8, 0.2, 0], [0, 0.8, 0.2], [0.2, 0, 0.8]])


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_labels_change_as_often_as_the_matrix_says(kind):
    data = load("blobs", n=60_000, label_noise=0.3, label_noise_kind=kind)
    counts = np.zeros((3, 3))
    np.add.at(counts, (data.clean_y, data.y), 1)
    rows = counts.sum(1, keepdims=True)
    spread = np.sqrt(data.transition * (1 - data.transition) / rows)
    assert (np.abs(counts / rows - data.transition) <= 4 * spread).all()


@pytest.mark.parametrize("source", ["digits", "blobs"])
def test_label_noise_changes_labels_only_and_more_of_it_changes_more(source):
    few, more, none = (load(source, seed=4, label_noise=share) for share in (0.1, 0.4, 0.0))
    for noisy in (few, more):
        np.testing.assert_array_equal(noisy.X, none.X)
        np.testing.assert_array_equal(noisy.clean_y, none.y)
    changed = few.y != few.clean_y
    assert changed.any()
    np.testing.assert_array_equal(more.y[changed], few.y[changed])
    assert (more.y != more.clean_y).sum() > changed.sum()


def test_noise_on_noise_is_refused():
    with pytest.raises(ConfigError, match="wine: expected clean labels, got labels that are noisy already"):
        with_label_noise(load("wine", label_noise=0.1), 0.1)


def test_class_that_loses_its_rows_to_noise_is_named():
    data = from_arrays(np.zeros((4, 1)), ["rare", "b", "b", "b"])
    with pytest.raises(
        ConfigError, match=r"label_noise: expected every class to keep a row, got none of \['(rare|b)'\]"
    ):
        [with_label_noise(data, 0.5, seed=seed) for seed in range(100)]


# Imbalance and size


def test_shares_fall_geometrically():
    np.testing.assert_allclose(class_shares(3, 9.0), np.array([9, 3, 1]) / 13)
    np.testing.assert_allclose(class_shares(4, 1.0), 0.25)


def test_thinning_reaches_the_ratio_and_keeps_as_many_rows_as_it_can():
    data = load("digits", imbalance=10.0)
    counts = np.sort(np.bincount(data.y))[::-1]
    whole = np.sort(np.bincount(load("digits").y))[::-1]
    np.testing.assert_allclose(counts / counts[0], 10.0 ** -(np.arange(10) / 9), atol=0.01)
    assert counts[0] == whole[0]
    assert counts[0] / counts[-1] == pytest.approx(10.0, rel=0.06)


def test_imbalance_of_two_classes_thins_the_rarer_one():
    assert np.bincount(load("breast_cancer", imbalance=7.0).y).tolist() == [51, 357]


def test_generated_data_is_drawn_with_the_shares():
    data = load("blobs", n=30_000, imbalance=9.0)
    np.testing.assert_allclose(np.bincount(data.y) / 30_000, np.array([9, 3, 1]) / 13, atol=0.01)
    assert len(data) == 30_000


def test_fewer_rows_keep_the_shares_and_the_order():
    data, whole = load("wine", n=89), load("wine")
    assert np.bincount(data.y).sum() == 89
    np.testing.assert_allclose(np.bincount(data.y), np.bincount(whole.y) / 2, atol=1)
    rows = [np.flatnonzero((x == whole.X).all(1))[0] for x in data.X]
    assert (np.diff(rows) > 0).all()


def test_imbalance_comes_before_noise_and_with_generation():
    with pytest.raises(ConfigError, match="wine: expected imbalance when data is loaded, got it after its label noise"):
        thinned(load("wine", label_noise=0.1), imbalance=2.0)
    with pytest.raises(ConfigError, match="blobs: expected imbalance when data is loaded, got it after its posterior"):
        thinned(load("blobs"), imbalance=2.0)
    assert len(thinned(load("blobs", n=100), n=50)) == 50


# Seeds


@pytest.mark.parametrize("source", SOURCES)
def test_same_seed_same_data_another_seed_other_data(source):
    options = {"n": 100, "label_noise": 0.2, "imbalance": 2.0}
    np.random.seed(0)
    one = load(source, seed=1, **options)
    np.random.seed(99)
    again, other = load(source, seed=1, **options), load(source, seed=2, **options)
    np.testing.assert_array_equal(one.X, again.X)
    np.testing.assert_array_equal(one.y, again.y)
    assert (one.X != other.X).any()


def test_no_global_generator_moves():
    before = np.random.get_state()[1].tolist()
    load("moons", label_noise=0.1)
    load("wine", n=50)
    assert np.random.get_state()[1].tolist() == before


# Arrays


def test_arrays_with_labels_of_any_kind():
    X = np.arange(8.0).reshape(4, 2, 1)
    data = from_arrays(X, ["b", "a", "b", "a"], groups=["u", "u", "v", "v"])
    assert data.classes == ("a", "b")
    assert data.y.tolist() == [1, 0, 1, 0]
    assert data.groups.tolist() == [0, 0, 1, 1]
    assert data.X.shape == (4, 2)
    assert data.feature_names == ("x0", "x1")
    assert from_arrays(X, np.array([2.0, 0.0, 2.0, 0.0])).classes == (0, 2)
    assert from_arrays(X, np.array([True, False, True, True])).classes == (False, True)
    assert from_arrays(X, np.array([np.int64(3), 1, 1, 3], dtype=object)).classes == (1, 3)
    assert from_arrays(X, [0, 1, 0, 1], classes=np.array([1, 0])).y.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        ([[1.0], [math.nan], [2.0], [math.inf]], "abab", {}, "expected finite numbers, got nan in column 'x0', row 2 "
         "(the "
         "first is 1), and 1 more; fill or drop them"),
        ([[1.0]] * 3, "aaa", {}, "expected at least two classes, got ['a'] alone"),
        ([[1.0]] * 3, "abc", {}, "expected at least two rows per class on average, got 3 different labels in 3 rows"),
        ([[1.0]] * 4, "abab", {"classes": ["a", "b", "c"]}, "expected rows of every class, got none of ['c'] in 4 "
         "rows"),
        ([[1.0]] * 2, "ab", {"classes": ["a", "b", "c"]}, "expected rows of every class, got none of ['c'] in 2 rows"),
        ([[1.0]] * 4, "abax", {"classes": ["a", "b"]}, "expected labels among the classes ['a', 'b'], got ['x']"),
        ([[1.0]] * 4, "abab", {"classes": ["a", "a"]}, "expected different classes, got ['a', 'a']"),
        ([[1.0]] * 4, "aba", {}, "expected one label per row, y [N], got (3,) for features (4, 1)"),
        ([1.0] * 4, "abab", {}, "expected features X [N, D] with at least one row and column, got (4,)"),
        (np.zeros((0, 3)), "", {}, "expected features X [N, D] with at least one row and column, got (0, 3)"),
        ([["1", "z"]] * 4, "abab", {}, "expected numbers, got the text '1' in column 'x0', row 1"),
        (np.array([[1, 2], [3, "z"]], dtype=object), "ab", {"feature_names": ["u", "v"]}, "got the text 'z' in column "
         "'v', row 2"),
        ([[1.0]] * 4, [1, "a", 1, "a"], {}, None),
        (np.zeros((4, 1)), np.array([1, "a", 1, "a"], dtype=object), {}, "expected labels that are all texts or all "
         "numbers, "
         "got int and str"),
        ([[1.0]] * 4, [1, 0, math.nan, 1], {}, "expected a label in every row, got nan in row 3 (the first is 1)"),
        ([[1.0]] * 4, [1, 0, math.inf, 1], {}, "expected a label in every row, got inf in row 3 (the first is 1)"),
        ([[1.0], [1.0, 2.0]], "ab", {}, "expected features X [N, D], got rows of different lengths"),
        ([[1.0]] * 4, "abab", {"groups": [1, 2]}, "expected one group per row, got (2,) for 4 rows"),
        ([[1.0]] * 4, "abab", {"groups": [1, math.nan, 2, 1]}, "expected a group for every row, got none in row 2"),
        ([[1.0]] * 4, "abab", {"feature_names": ["a", "b"]}, "expected 1 feature names, got 2"),
        ([[1.0, 2.0]] * 4, "abab", {"feature_names": ["a", "a"]}, "expected a name of its own for each column, got "
         "'a' more"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused_in_one_sentence(X, y, options, message):
    labels = list(y) if isinstance(y, str) else y
    if message is None:  # NumPy itself makes texts of both
        assert from_arrays(X, labels, **options).classes == ("1", "a")
        return
    with pytest.raises(ConfigError) as error:
        from_arrays(X, labels, name="mine", **options)
    assert str(error.value).startswith("mine: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# Arguments of load


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digit", {}, "expected one of digits, breast_cancer, wine, blobs, moons or a file ending in .csv, .tsv, .npz, "
         ".parquet, got 'digit'; did you mean 'digits'?"),
        ("digits", {"target": "y"}, "target: expected a file whose column it names, got 'y' with digits"),
        ("blobs", {"group": "g"}, "group: expected a file whose column it names, got 'g' with blobs"),
        ("digits", {"noise": 0.1}, "noise: expected blobs or moons, whose width it is, got digits; label_noise "
         "changes"),
        ("moons", {"noise": 0.0}, "noise: expected a standard deviation of at least 0.02 (the classes of moons must"),
        ("moons", {"noise": math.nan}, "must overlap), got nan"),
        ("wine", {"n": 1000}, "n: expected 1 to 178 rows, as many as wine has, got 1000"),
        ("wine", {"n": 170, "imbalance": 3.0}, "rows, as many as wine has at imbalance 3, got 170"),
        ("wine", {"n": 2}, "wine: expected rows of all 3 classes, got none of"),
        ("wine", {"n": 0}, "n: expected a whole number of rows, at least 1, got 0"),
        ("wine", {"n": 2.5}, "n: expected a whole number of rows, at least 1, got 2.5"),
        ("wine", {"imbalance": 1000.0}, "got none of ['class_2'] among"),
        ("wine", {"imbalance": 0.5}, "imbalance: expected the largest class over the smallest, at least 1, got 0.5"),
        ("blobs", {"imbalance": math.inf}, "at least 1, got inf"),
        ("blobs", {"n": 2}, "n: expected rows of all 3 classes, got none of ["),
        ("wine", {"label_noise": 1.0}, "label_noise: expected a share of labels in [0, 1), got 1.0"),
        ("wine", {"label_noise": -0.1}, "label_noise: expected a share of labels in [0, 1), got -0.1"),
        ("wine", {"label_noise": math.nan}, "label_noise: expected a share of labels in [0, 1), got nan"),
        ("wine", {"label_noise_kind": "pairs"}, "expected one of symmetric, pair, got 'pairs'; did you mean 'pair'?"),
        ("wine", {"n": "ten"}, "n: expected a number, got 'ten'"),
        ("blobs", {"noise": "x"}, "noise: expected a number, got 'x'"),
        ("wine", {"label_noise": "x"}, "label_noise: expected a number, got 'x'"),
        ("blobs", {"imbalance": "x"}, "imbalance: expected a number, got 'x'"),
        ("blobs", {"seed": -1}, "seed: expected an integer in [0, 2^64), got -1"),
        ("wine", {"n": 50, "seed": 0.5}, "seed: expected an integer in [0, 2^64), got 0.5"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_in_one_sentence(source, options, message):
    with pytest.raises(ConfigError) as error:
        load(source, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
