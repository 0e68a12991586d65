"""Numbers as people write them."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.compare.statistics import Estimate
from entropic_rl.compare.words import duration, enumeration, first_few, interval, memory, number, p_value, steps

nan, inf = math.nan, math.inf
holds_for_all = settings(max_examples=300)


def read(text):
    """A number back from its text."""
    match = re.fullmatch(r"(-?[\d.,]+(?:e[+-]?\d+)?)([kM]?)", text)
    assert match, text
    return float(match[1].replace(",", "")) * {"": 1.0, "k": 1e3, "M": 1e6}[match[2]]


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0, "0"), (1.0, "1"), (-2.5, "-2.5"), (0.042113, "0.0421"), (41.26, "41.3"), (475.0, "475"), (100.0, "100"),
        (999.4, "999"), (1000.0, "1,000"), (1234.4, "1,234"), (-1234567.0, "-1,234,567"), (0.0001, "0.0001"),
        (nan, "-"), (inf, "never"), (-inf, "-inf"),
    ],
)  # fmt: skip
def test_number_has_three_digits_and_no_exponent_where_people_write_none(x, text):
    assert number(x) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.12345, "0.12"), (150.0, "150"), (100.0, "100"), (99.96, "100"), (9.96, "10"), (475.3, "475"), (0.0996, "0.1")],
)
def test_number_of_digits_can_be_chosen_and_costs_no_whole_number(x, text):
    assert number(x, 2) == text


@pytest.mark.parametrize("x", [999.5, 999.6, 999.99, 100.0, 10.0, -999.7, 0.1, 0.0999999])
def test_number_just_below_a_power_of_ten_keeps_its_size(x):
    assert read(number(x)) == pytest.approx(x, rel=0.001)


@pytest.mark.parametrize("x", [2e-5, 1.5e-6, 9.99e-5])
def test_small_number_is_not_written_as_zero(x):
    assert read(number(x)) == pytest.approx(x, rel=0.01)


def test_negative_zero_has_no_sign():
    assert number(-0.0) == "0"


@holds_for_all
@given(st.floats(1e-3, 1e9) | st.floats(-1e9, -1e-3))
def test_number_reads_back_within_half_a_per_cent(x):
    assert read(number(x)) == pytest.approx(x, rel=0.0051)


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0, "0"), (500.0, "500"), (1000.0, "1k"), (41234.0, "41.2k"), (1_300_000.0, "1.3M"), (inf, "never"), (nan, "-")],
)
def test_steps_are_counted_in_thousands_and_millions(x, text):
    assert steps(x) == text


@pytest.mark.parametrize("x", [999_936.0, 999_500.0, 1_000_000.0 - 1.0])
def test_steps_just_below_a_million_have_no_exponent(x):
    assert "e" not in steps(x)


@holds_for_all
@given(st.integers(1, 999_499_000))
def test_steps_read_back_within_half_a_per_cent(n):
    assert read(steps(float(n))) == pytest.approx(n, rel=0.0051)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(41.26, 38.0, 47.44), "41.3 [38, 47.4]"),
        (Estimate(5.0, nan, nan), "5"),
        (Estimate(5.0, 4.0, nan), "5"),
        (Estimate(0.0, -1.5, 2.0), "0 [-1.5, 2]"),
    ],
)
def test_interval_stands_in_brackets_and_is_left_out_where_there_is_none(estimate, text):
    assert interval(estimate) == text


def test_interval_takes_the_form_of_its_numbers():
    assert interval(Estimate(41_200.0, 38_000.0, inf), steps) == "41.2k [38k, never]"


@pytest.mark.parametrize(
    ("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_enumeration_has_commas_and_one_and(words, text):
    assert enumeration(words) == text


@pytest.mark.parametrize(("n", "text"), [(1, "0"), (3, "0, 1 and 2"), (4, "0, 1, 2 and 3"), (9, "0, 1, 2 and 6 more")])
def test_of_many_words_the_first_few_are_told_and_the_rest_is_counted(n, text):
    assert first_few([str(i) for i in range(n)], 3) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.03125, ".031"), (0.001, ".001"), (0.00099, "< .001"), (0.5, ".500"), (1.0, "1"), (nan, "-"), (0.0, "< .001")],
)
def test_p_values_have_three_decimals_and_no_zero_in_front(p, text):
    assert p_value(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (42.0, "42 s"), (60.0, "1 min 0 s"), (200.4, "3 min 20 s"), (3600.0, "1 h 0 min"),
     (7500.0, "2 h 5 min"), (119.7, "2 min 0 s")],
)  # fmt: skip
def test_durations_have_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_duration_that_rounds_to_a_minute_is_a_minute():
    assert duration(59.7) == "1 min 0 s"


def test_memory_is_told_in_binary_units():
    assert memory(512 * 2**20) == "512 MiB"
    assert memory(1.5 * 2**30) == "1.50 GiB"
