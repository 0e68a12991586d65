"""Figures of studies: what is drawn where, and what is refused."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from entropic_rl.compare.statistics import Estimate
from entropic_rl.errors import ConfigError
from entropic_rl.plots.range_test import plot_range_test
from entropic_rl.plots.studies import Series, plot_study

SVG = "{http://www.w3.org/2000/svg}"
NOTHING = Estimate(np.nan, np.nan, np.nan)
GOOD = Series("0.1", {"error (%)": [2.0, 3.0]}, {"error (%)": Estimate(2.5, 2.0, 3.0)}, [1.0, 0.1, 0.01])
GONE = Series("1", {"error (%)": [np.nan, np.nan]}, {"error (%)": NOTHING}, [], 2)


def drawn(*arguments, **options):
    file = io.StringIO()
    plot_study(file, *arguments, **options)
    return ET.fromstring(file.getvalue())


def texts(root):
    return ["".join(element.itertext()) for element in root.iter(SVG + "text")]


@pytest.mark.parametrize("numbers", [None, [0.1, 1.0]])
def test_values_measures_and_what_diverged_are_named(numbers):
    root = drawn([GOOD, GONE], setting="rate", numbers=numbers, chosen=0, levels={"error (%)": (9.0, "chance")})
    shown = texts(root)
    assert {"0.1", "1", "rate", "error (%)", "all diverged", "chance", "training loss (nats)"} <= set(shown)
    series = {e.get("id").split("-")[0] for e in root.iter() if re.match(r"s\d+-", e.get("id") or "")}
    assert series == {"s0", "s1"}


def test_level_that_would_squash_what_is_shown_is_left_out():
    assert "chance" not in texts(drawn([GOOD, GONE], setting="rate", levels={"error (%)": (90.0, "chance")}))


def test_nothing_that_ended_can_be_drawn():
    assert texts(drawn([GONE, GONE], setting="rate")).count("all diverged") == 2


def test_some_that_diverged_are_counted():
    half = Series("1", {"error (%)": [5.0, np.nan]}, {"error (%)": Estimate(5.0, 5.0, 5.0)}, [1.0], 1)
    assert "1 of 2 diverged" in texts(drawn([GOOD, half], setting="rate"))


def test_rates_that_were_read_off_are_marked():
    file, curve = io.StringIO(), (np.geomspace(1e-3, 1, 5), np.linspace(2.0, 1.0, 5))
    plot_range_test(file, [curve], {"falls fastest": Estimate(0.1, 0.05, 0.2), "lowest": Estimate(0.5, np.nan, np.nan)})
    assert {"falls fastest", "0.1", "lowest", "0.5"} <= {
        text.strip() for label in texts(ET.fromstring(file.getvalue())) for text in label.split("\n")
    }
    with pytest.raises(ConfigError, match="curves: expected at least one run"):
        plot_range_test(file, [], {})


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="expected the same panels in each"):
        drawn([GOOD, Series("2", {}, {}, [])], setting="rate")
    with pytest.raises(ConfigError, match="expected the same panels"):
        drawn([], setting="rate")
