"""Figures of numbers with their intervals: what is drawn where, in what colour, and what is refused."""

import io
import re
import xml.etree.ElementTree as ET

import pytest

from entropic_rl.compare.statistics import Estimate
from entropic_rl.errors import ConfigError
from entropic_rl.plots import plot_estimate_curves, plot_estimates
from entropic_rl.plots.style import COLOURS

SVG = "{http://www.w3.org/2000/svg}"
CURVES = {"few": [Estimate(1, 0, 2), Estimate(3, 2, 4)], "many": [Estimate(5, 4, 6), Estimate(6, 5, 7)]}
PANEL = {"better": Estimate(3, 1, 5), "worse": Estimate(-3, -5, -1), "alike": Estimate(1, -1, 3)}


def drawn(plot, *arguments, **options):
    file = io.StringIO()
    plot(file, *arguments, **options)
    return ET.fromstring(file.getvalue())


def texts(root):
    return ["".join(element.itertext()) for element in root.iter(SVG + "text")]


def tagged(root):
    """Ids of what belongs to each series -> its SVG."""
    found = [e for e in root.iter() if re.match(r"s\d+-", e.get("id") or "")]
    return {e.get("id"): ET.tostring(e, encoding="unicode") for e in found}


def test_curves_have_a_line_a_band_and_a_name_each():
    root = drawn(plot_estimate_curves, [20, 40], CURVES, xlabel="rows", ylabel="accuracy (%)")
    assert {"few", "many", "rows", "accuracy (%)", "20", "40"} <= set(texts(root))
    series = [name.split("-")[0] for name in tagged(root)]
    assert series.count("s0") == series.count("s1") == 2


def test_estimates_are_coloured_by_where_their_interval_lies():
    root = drawn(plot_estimates, {"left": PANEL, "right": PANEL}, xlabel="points")
    assert {"left", "right", "better", "worse", "alike", "points"} <= set(texts(root))
    found = tagged(root)
    for i, colour in enumerate((COLOURS[0], COLOURS[1], "#777777")):
        own = [text for name, text in found.items() if name.startswith(f"s{i}-")]
        assert len(own) == 4
        assert all(colour.lower() in text.lower() for text in own)


def test_picture_may_be_a_png(tmp_path):
    plot_estimates(tmp_path / "picture.png", {"one": PANEL}, xlabel="points")
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="curves: expected 3 numbers each"):
        drawn(plot_estimate_curves, [1, 2, 3], CURVES, xlabel="", ylabel="")
    with pytest.raises(ConfigError, match="panels: expected the same names in each"):
        drawn(plot_estimates, {"one": PANEL, "two": {"better": Estimate(1, 0, 2)}}, xlabel="")
    with pytest.raises(ConfigError, match="panels: expected the same names"):
        drawn(plot_estimates, {}, xlabel="")
