"""Figures of classifiers: the bins behind a reliability diagram, what is drawn of whom, and what is refused."""

import io
import math
import re
import sys
import xml.etree.ElementTree as ET
from subprocess import run

import numpy as np
import pytest

from entropic_rl.calibration import calibration_report
from entropic_rl.calibration.metrics import Meter, equal_mass_bins, equal_width_bins
from entropic_rl.errors import ConfigError
from entropic_rl.page import Picture
from entropic_rl.plots import calibration as drawing
from entropic_rl.plots import (
    plot_coefficient_response,
    plot_entropies,
    plot_reliability,
    plot_uncertainty,
    uncertainty,
)
from entropic_rl.plots.labelling import plot_labelling
from entropic_rl.plots.style import log_positions, series_look

SVG = "{http://www.w3.org/2000/svg}"
COEFS = [0.0, 0.1, 0.5, 1.0]


def drawn(plot, *arguments, **options):
    """The figure as an XML tree; that it is one is half of every test here."""
    file = io.StringIO()
    plot(file, *arguments, **options)
    return ET.fromstring(file.getvalue())


def texts(root):
    return ["".join(element.itertext()) for element in root.iter(SVG + "text")]


def said(root):
    return " ".join(texts(root))


def tagged(root):
    """Series -> what is drawn for it."""
    found = {}
    for element in root.iter():
        if match := re.match(r"s(\d+)-", element.get("id") or ""):
            found.setdefault(int(match[1]), []).append(element)
    return found


def markers(element):
    """Where the markers of a line lie, ``[K, 2]`` in points, y downwards."""
    return np.array([[float(use.get("x")), float(use.get("y"))] for use in element.iter(SVG + "use")])


def path(element):
    numbers = re.findall(r"[-\d.]+", element.find(SVG + "path").get("d"))
    return np.array(numbers, dtype=float).reshape(-1, 2)


def world(n=400, n_classes=3, seed=0, honest=True):
    """Labels and probabilities: of a calibrated model, or of one that is far too sure."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet(np.ones(n_classes), size=n)
    labels = (rng.random((n, 1)) > truth.cumsum(1)).sum(1).clip(max=n_classes - 1)
    shown = truth if honest else truth**4 / (truth**4).sum(1, keepdims=True)
    return labels, shown


def report(y, proba, **options):
    return calibration_report(y, proba, **({"n_resamples": 50} | options))


@pytest.fixture(scope="module")
def reports():
    return {"raw": report(*world(honest=False)), "proper": report(*world())}


# The bins


def test_bins_are_those_of_a_loop():
    y, proba = world(n=100)
    confidence, right = proba.max(1), proba.argmax(1) == y
    found = report(y, proba, n_bins=7).reliability
    for scheme, bins in (("width", equal_width_bins(confidence, 7)), ("mass", equal_mass_bins(confidence, 7))):
        rows = [bins == k for k in range(7) if (bins == k).any()]
        assert found[scheme].counts.tolist() == [chosen.sum() for chosen in rows]
        np.testing.assert_allclose(found[scheme].confidence, [confidence[chosen].mean() for chosen in rows])
        np.testing.assert_allclose(found[scheme].accuracy, [right[chosen].mean() for chosen in rows])
    assert found["mass"].left[0] == confidence.min()
    assert found["mass"].right[-1] == confidence.max()


@pytest.mark.parametrize("scheme", ["width", "mass"])
def test_gaps_of_the_bins_add_up_to_the_error_of_the_report(scheme):
    found = report(*world(honest=False), n_bins=10)
    bins = found.reliability[scheme]
    error = (bins.counts * np.abs(bins.accuracy - bins.confidence)).sum() / found.n
    assert error == pytest.approx(found[{"width": "ece", "mass": "ece_mass"}[scheme]].value, abs=1e-12)
    assert bins.density.sum() == pytest.approx(1.0)
    assert (bins.left <= bins.confidence).all()
    assert (bins.confidence <= bins.right).all()


def bins_of(y, proba, n_bins, n_worlds):
    return Meter(proba, n_bins).reliability(y, n_worlds, np.random.default_rng(0))


def test_band_is_the_binomial_one_where_confidences_are_equal():
    # 100 answers of confidence .8: 95 % of Binomial(100, .8) lie from 72 to 87, by its distribution function
    bins = bins_of(np.zeros(100, int), np.tile([0.8, 0.2], (100, 1)), 15, 4000)["width"]
    assert bins.low.tolist() == pytest.approx([0.72], abs=0.0101)
    assert bins.high.tolist() == pytest.approx([0.87], abs=0.0101)


def test_band_holds_a_calibrated_model_as_often_as_it_says():
    inside = []
    for seed in range(100):
        bins = bins_of(*world(n=300, seed=seed), 5, 200)["mass"]
        inside += ((bins.low <= bins.accuracy) & (bins.accuracy <= bins.high)).tolist()
    assert 0.92 <= np.mean(inside) <= 0.985


def test_band_does_not_hold_a_model_that_is_too_sure():
    bins = report(*world(honest=False)).reliability["mass"]
    assert (bins.accuracy < bins.low).mean() > 0.5


# Reliability


def test_perfect_model_lies_on_the_diagonal():
    # Of 20 answers of confidence .7, 14 are right, and so on: each bin's accuracy is its confidence.
    confidence = np.repeat([0.55, 0.7, 0.85, 0.95], 20)
    y = np.concatenate([np.arange(20) >= 20 * c for c in (0.55, 0.7, 0.85, 0.95)]).astype(int)
    found = report(y, np.stack([confidence, 1 - confidence], 1))
    root = drawn(plot_reliability, {"perfect": found})
    points = next(markers(part) for part in tagged(root)[0] if len(markers(part)))
    assert len(points) == 4
    diagonal = re.findall(r'<path d="([^"]*)"[^>]*stroke: #777777', ET.tostring(root, "unicode").replace("ns0:", ""))
    (x0, y0), (x1, y1) = np.array(re.findall(r"[-\d.]+", diagonal[0]), dtype=float).reshape(-1, 2)[[0, -1]]
    np.testing.assert_allclose(points[:, 1], y0 + (points[:, 0] - x0) * (y1 - y0) / (x1 - x0), atol=0.01)


def test_every_model_has_points_bands_density_and_its_numbers(reports):
    root = drawn(plot_reliability, reports)
    parts = tagged(root)
    assert set(parts) == {0, 1}
    for i, found in enumerate(reports.values()):
        bins = found.reliability["width"]
        assert len(parts[i]) == len(bins.counts) + 3  # boxes, a line, its numbers, a density
        assert max(len(markers(part)) for part in parts[i]) == len(bins.counts)
        assert f"ECE {100 * found['ece_debiased'].value:.1f} %, debiased" in said(root)
        assert f"noise floor {100 * found['ece'].floor:.1f} %" in said(root)
    assert {"raw", "proper", "confidence (%)", "accuracy (%)", "answers (%)", "95 % if calibrated"} <= set(texts(root))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)


def test_box_of_a_bin_holds_the_point_of_a_model_within_its_band(reports):
    bins = reports["proper"].reliability["width"]
    *boxes, line, _, _ = tagged(drawn(plot_reliability, {"proper": reports["proper"]}))[0]
    points = markers(line)
    assert len(points) == len(boxes)
    for k, box in enumerate(boxes):
        left, top = path(box).min(0)
        right, bottom = path(box).max(0)
        assert left - 0.01 <= points[k, 0] <= right + 0.01
        within = bins.low[k] <= bins.accuracy[k] <= bins.high[k]
        assert within == (top - 0.01 <= points[k, 1] <= bottom + 0.01)


def test_more_models_than_fit_side_by_side_are_drawn(reports):
    many = {f"model {i}": reports["raw"] for i in range(4)}
    assert set(tagged(drawn(plot_reliability, many, bins="mass"))) == {0, 1, 2, 3}


@pytest.mark.parametrize("certain", [True, False])
def test_models_of_one_confidence_are_drawn(certain):
    proba = np.tile([1.0, 0.0] if certain else [0.5, 0.5], (5, 1))
    root = drawn(plot_reliability, {"a": report([0, 0, 1, 0, 1], proba)}, bins="mass")
    assert len(tagged(root)[0]) == 4  # one box, one point, the numbers, one density


def test_picture_is_a_png_where_the_path_says_so(tmp_path):
    for name in ("a.png", "a.svg"):
        plot_entropies(tmp_path / name, {"a": ([0.1, 0.2], [True, False])}, n_classes=2)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert ET.parse(tmp_path / "a.svg").getroot().tag == SVG + "svg"


# The response to the coefficient


def response(measures=None, **options):
    rng = np.random.default_rng(0)
    measures = measures or {"NLL (nats)": {name: rng.random((4, 5)) for name in ("raw", "proper", "temperature")}}
    return drawn(plot_coefficient_response, COEFS, measures, **options)


def line_of(root, i, n_points=4):
    return next(found for part in tagged(root)[i] if len(found := markers(part)) == n_points)


def test_zero_lies_apart_on_a_logarithmic_axis():
    root = response()
    assert {"0", "0.1", "0.5", "1", "entropy coefficient", "NLL (nats)"} <= set(texts(root))
    gaps = np.diff(line_of(root, 0)[:, 0])
    assert gaps[1] / gaps[2] == pytest.approx(math.log(5) / math.log(2), rel=1e-3)
    assert gaps[0] > 0


@pytest.mark.parametrize(("coefs", "shown"), [([0.0, 1.0], ["0", "1"]), ([0.3], ["0.3"]), ([-0.1, 0.0, 0.1], ["-0.1"])])
def test_coefficients_without_a_logarithmic_scale_are_drawn_in_order(coefs, shown):
    root = drawn(plot_coefficient_response, coefs, {"y": {"raw": np.ones(len(coefs))}})
    assert set(shown) <= set(texts(root)) | {text.replace("\N{MINUS SIGN}", "-") for text in texts(root)}


def test_order_of_the_coefficients_does_not_matter():
    values = np.random.default_rng(1).random((4, 3))
    mixed = [2, 0, 3, 1]
    first = drawn(plot_coefficient_response, COEFS, {"y": {"raw": values}})
    second = drawn(plot_coefficient_response, [COEFS[i] for i in mixed], {"y": {"raw": values[mixed]}})
    np.testing.assert_allclose(line_of(first, 0), line_of(second, 0))


def test_line_is_the_mean_and_its_band_the_interval_over_seeds():
    values = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 4.0], [5.0, 5.0]])
    root = response({"y": {"raw": values}})
    points = line_of(root, 0)
    scale = (points[3, 1] - points[0, 1]) / (5.0 - 2.0)  # by the means of the first and the last
    np.testing.assert_allclose(points[:, 1], points[0, 1] + (values.mean(1) - 2.0) * scale, atol=0.01)
    band = next(part for part in tagged(root)[0] if part.find(f"{SVG}defs/{SVG}path") is not None and "fill" in (
        part.find(f".//{SVG}use").get("style") or ""))  # fmt: skip
    edge = np.array(re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", band.find(f".//{SVG}path").get("d")), dtype=float)
    heights = (edge[:, 1] + float(band.find(f".//{SVG}use").get("y")) - points[0, 1]) / scale + 2.0
    for x, seeds in zip(points[:, 0], values, strict=True):
        at = heights[np.isclose(edge[:, 0], x, atol=0.01)]
        assert at.min() == pytest.approx(seeds.min(), abs=1e-3)  # of two seeds, a resample is one of them twice
        assert at.max() == pytest.approx(seeds.max(), abs=1e-3)


def test_one_seed_has_lines_without_bands():
    several, one = response({"y": {"raw": np.ones((4, 2))}}), response({"y": {"raw": np.ones(4)}})
    assert len(tagged(several)[0]) == len(tagged(one)[0]) + 1


def test_lines_are_named_at_their_ends_in_their_colours_without_overlap():
    names = ("raw", "proper", "temperature")
    root = response({"y": {name: np.array([1.0, 1.0, 1.0, 1.0 + 1e-6 * i]) for i, name in enumerate(names)}})
    heights = []
    for i, name in enumerate(names):
        [label] = [part for part in tagged(root)[i] if name in "".join(part.itertext())]
        assert series_look(i, 3)["color"].lower() in ET.tostring(label, "unicode").lower()
        heights.append(float(label.find(SVG + "text").get("y")))
    assert np.diff(sorted(heights)).min() > 9


def test_lines_that_coincide_are_said_to_be_alike():
    values, others = np.random.default_rng(0).random((2, 4, 5))
    same = {"accuracy (%)": {"raw": values, "proper": values}}
    root = response({"NLL (nats)": {"raw": values, "proper": others}, **same})
    assert [texts(root).count(word) for word in ("raw", "proper", "all alike")] == [1, 1, 1]
    assert "all alike" not in texts(response(same))  # where no other panel says who they are


def test_least_validation_loss_wears_a_ring_in_every_panel():
    rng = np.random.default_rng(0)
    panels = {label: {name: rng.random((4, 5)) for name in ("raw", "proper")} for label in ("NLL", "ECE")}
    loss = {"raw": np.array([[3.0], [1.0], [2.0], [4.0]]), "proper": np.array([4.0, 3.0, 2.0, 1.0])}
    root = response(panels, validation=loss)
    for i, best in ((0, 1), (1, 3)):
        lines = [markers(part) for part in tagged(root)[i] if len(markers(part)) == 4]
        rings = [markers(part)[0] for part in tagged(root)[i] if len(markers(part)) == 1]
        assert len(lines) == len(panels)
        found = [any(np.allclose(ring, line[best]) for ring in rings) for line in lines]
        assert found == [True, True]
    assert "least validation loss" in texts(root)
    assert "least validation loss" not in texts(response(panels))


def test_crowded_coefficients_keep_room_between_their_labels():
    places = log_positions([0.0, 0.1, 0.11, 0.12, 0.13, 0.9, 1.0])
    kept = drawing._spaced(places)
    assert kept[0] == 0
    assert kept[-1] == 6
    assert np.diff(np.array(places)[kept]).min() >= 0.08 * (places[-1] - places[0])


# Entropies of right and wrong answers


def test_histograms_of_right_and_wrong_answers_show_their_shares_and_the_maximum():
    entropy, right = np.array([0.0, 0.1, 0.2, 1.0]), [True, True, True, False]
    root = drawn(plot_entropies, {"a": (entropy, right)}, n_classes=3)
    assert {"right, 75.0 %", "wrong, 25.0 %", "log 3", "predictive entropy (nats)"} <= set(texts(root))
    assert len(tagged(root)[0]) == 4


def test_histograms_of_both_have_the_same_area():
    rng = np.random.default_rng(0)
    right = np.arange(500) < 450
    entropy = np.where(right, 0.3, 0.8) * rng.random(500)
    _, of_right, _, of_wrong = tagged(drawn(plot_entropies, {"a": (entropy, right)}, n_classes=3))[0]
    area = [abs(np.trapezoid(path(line)[:, 1] - path(line)[0, 1], path(line)[:, 0])) for line in (of_right, of_wrong)]
    assert area[0] == pytest.approx(area[1], rel=1e-3)
    assert area[0] > 100


@pytest.mark.parametrize("right", [[True, True], [False, False]])
def test_answers_of_one_kind_are_drawn(right):
    root = drawn(plot_entropies, {"a": ([0.1, math.log(2)], right), "b": ([0.0, 0.0], right)}, n_classes=2)
    assert set(tagged(root)) == {0, 1}
    assert {"a", "b"} <= set(texts(root))


# The map


def two_blobs(points):
    """The posterior of Gaussians around (-1, 0) and (1, 0): the boundary is the line x = 0."""
    p = 1.0 / (1.0 + np.exp(-2.0 * points[:, 0]))
    return np.stack([1.0 - p, p], 1)


def points_of(root):
    """Where the points of each class lie."""
    found = {element.get("id"): element for element in root.iter() if "-points" in (element.get("id") or "")}
    return [markers(found[name]) for name in sorted(found)]


def test_map_grows_evenly_darker_with_entropy():
    rgb = uncertainty._CERTAIN_TO_UNSURE(np.linspace(0.0, 1.0, 18))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # L* of CIELAB, above its linear foot
    steps = -np.diff(lightness)
    assert steps.min() > 0.75 * steps.mean()
    assert steps.max() < 1.25 * steps.mean()


def test_map_shows_entropy_points_and_the_boundary_where_it_is():
    rng = np.random.default_rng(0)
    x = np.concatenate([[[-2.0, -1.0], [2.0, 1.0]], rng.uniform(-1, 1, (38, 2))])
    root = drawn(plot_uncertainty, two_blobs, x, (x[:, 0] > 0).astype(int), classes=["left", "right"])
    assert {"left", "right", "log 2", "predictive entropy (nats)", "first feature", "second feature"} <= set(
        texts(root)
    )
    assert len(points_of(root)[0]) == (x[:, 0] <= 0).sum()
    contours = [element for element in root.iter(SVG + "g") if "QuadContourSet" in (element.get("id") or "")]
    assert contours
    places = np.array(re.findall(r"[ML] ([-\d.]+) ", contours[0].find(f".//{SVG}path").get("d")), dtype=float)
    clip = root.find(f".//{SVG}clipPath/{SVG}rect")
    middle = float(clip.get("x")) + float(clip.get("width")) / 2
    np.testing.assert_allclose(places, middle, atol=1.5)


def test_map_beside_the_truth_shows_the_difference():
    x = np.array([[-2.0, -1.0], [2.0, 1.0]])
    root = drawn(plot_uncertainty, lambda z: 0.5 * two_blobs(z) + 0.25, x, [0, 1], truth=two_blobs, resolution=20)
    assert {"model", "true posterior", "difference"} <= set(texts(root))
    assert "too unsure (+)" in said(root)
    assert len(list(root.iter(SVG + "image"))) >= 3


def test_map_of_one_class_everywhere_has_no_boundary():
    root = drawn(plot_uncertainty, lambda z: np.tile([1.0, 0.0, 0.0], (len(z), 1)), [[0.0, 0.0]], [2], resolution=5)
    assert not [element for element in root.iter() if "QuadContourSet" in (element.get("id") or "")]


def test_map_draws_no_more_points_than_asked_for():
    x = np.random.default_rng(0).normal(size=(500, 2))
    root = drawn(plot_uncertainty, two_blobs, x, np.arange(500) % 2, resolution=5, max_points=50)
    assert sum(map(len, points_of(root))) == 50


# What is refused

ONES = np.ones((4, 2))
RAW = {"y": {"raw": ONES}}


@pytest.mark.parametrize(
    ("coefs", "measures", "validation", "words"),
    [
        (COEFS, {}, None, "measures: expected at least one"),
        (COEFS, {"y": {}}, None, "measures, y: expected at least one"),
        (COEFS, {"y": {"raw": ONES}, "z": {}}, None, "measures, z: expected at least one"),
        (COEFS, {"y": {"raw": ONES[:3]}}, None, r"y, raw: expected numbers \[4 coefficients, seeds\], .*\(3, 2\)"),
        (COEFS, {"y": {"raw": ONES * np.nan}}, None, "y, raw: expected finite numbers, got 8 that are not"),
        ([0.1, 0.1, 0.2, 0.3], RAW, None, "ent_coef: expected different finite coefficients"),
        (["a", "b"], RAW, None, "ent_coef: expected an array of numbers, got list"),
        (COEFS, {"y": {"raw": [[1.0], [1.0, 2.0], [1.0], [1.0]]}}, None, "y, raw: expected an array of numbers"),
        (COEFS, RAW, {"row": ONES}, r"validation: expected read-outs among \['raw'\], got 'row'"),
        (COEFS, RAW, {"raw": 1.0}, r"validation, raw: expected numbers .* \(\)"),
    ],
)
def test_response_of_other_shapes_is_refused_in_a_sentence(coefs, measures, validation, words):
    refused(words, plot_coefficient_response, coefs, measures, validation=validation)


@pytest.mark.parametrize(
    ("answers", "n_classes", "words"),
    [
        ({}, 2, "answers: expected at least one"),
        ({"a": ([0.1], [True, False])}, 2, r"a: expected entropies .*\(1,\) and \(2,\)"),
        ({"a": ([0.8], [True])}, 2, "a: expected entropies from 0 to log C = 0.6931 nats, got 0.8 to 0.8"),
        ({"a": ([math.nan], [True])}, 2, "a: expected entropies from 0"),
        ({"a": ([0.0], [True])}, 1, "n_classes: expected at least 2, got 1"),
    ],
)
def test_entropies_that_are_none_are_refused_in_a_sentence(answers, n_classes, words):
    refused(words, plot_entropies, answers, n_classes=n_classes)


def three_classes(points):
    return np.full((len(points), 3), 1 / 3)


X, Y = np.zeros((3, 2)), [0, 1, 1]


@pytest.mark.parametrize(
    ("predict", "x", "y", "options", "words"),
    [
        (two_blobs, X[:, :1], Y, {}, r"x \[N, 2\].*got \(3, 1\) and \(3,\)"),
        (two_blobs, X + math.inf, Y, {}, "x: expected finite numbers, got 6"),
        (two_blobs, X, [0.0, 1.0, 1.0], {}, "y: expected classes as integers from 0, got float64"),
        (two_blobs, X, [0, 1, 2], {}, "2 classes that predict gives, .* labels up to 2"),
        (two_blobs, X, Y, {"classes": ["a"]}, r"2 classes that predict gives, got \['a'\]"),
        (two_blobs, X, Y, {"truth": three_classes}, "truth: expected 2 classes as predict, got 3"),
        (two_blobs, X, Y, {"resolution": 1}, "resolution: expected at least 2, got 1"),
        (two_blobs, X, Y, {"features": ["a"]}, "features: expected 2 names, got 1"),
        (lambda z: z[:5], X, Y, {}, r"predict: expected a function .*\(5, 2\)"),
        (lambda z: z + 9.0, X, Y, {}, "predict: proba: expected numbers in"),
    ],
)
def test_map_of_other_shapes_is_refused_in_a_sentence(predict, x, y, options, words):
    refused(words, plot_uncertainty, predict, x, y, **options)


def test_reliability_of_nothing_or_of_other_bins_is_refused_in_a_sentence(reports):
    refused("reports: expected at least one", plot_reliability, {})
    refused("bins: expected 'width' or 'mass', got 'log'", plot_reliability, reports, bins="log")


def refused(words, plot, *arguments, **options):
    file = io.StringIO()
    with pytest.raises(ConfigError, match=words) as caught:
        plot(file, *arguments, **options)
    assert "\n" not in str(caught.value)
    assert not file.getvalue()


# On a page


def test_pictures_on_a_page_are_switched_by_model_and_refer_to_their_own_parts(reports):
    blank = {"title": "", "caption": ""}
    for name, plot in {
        "reliability": lambda file: plot_reliability(file, reports),
        "map": lambda file: plot_uncertainty(file, two_blobs, X, Y, resolution=5),
    }.items():
        file = io.StringIO()
        plot(file)
        svg = Picture(name=name, svg=file.getvalue(), **blank).inline
        ET.fromstring(svg)
        own, used = set(re.findall(r' id="([^"]*)"', svg)), set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
        assert used <= own
        assert set(re.findall(r'data-series="(\d+)"', svg)) == ({"0", "1"} if name == "reliability" else set())


def test_importing_the_plots_loads_no_torch():
    code = "import sys, entropic_rl.plots; print('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_curve_of_a_labelling_session_draws_accuracy_likelihood_and_gap():
    scores = [{"n_labels": n, "accuracy": 0.5 + n / 100, "nll": 1 - n / 100, "signed_gap": -0.1} for n in (10, 20, 40)]
    root = drawn(plot_labelling, scores, title="svm, measured on t.csv")
    words = said(root)
    assert all(word in words for word in ("accuracy", "negative log-likelihood", "too sure", "too cautious", "labels"))
    assert "svm, measured on t.csv" in words
