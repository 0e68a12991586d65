"""Schedules: hand-derived values, ends that hold, texts that parse and texts that do not."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.schedules import Schedule


@pytest.mark.parametrize(
    ("text", "start", "quarter", "half", "end"),
    [
        ("0.01", 0.01, 0.01, 0.01, 0.01),
        ("constant:3", 3.0, 3.0, 3.0, 3.0),
        ("linear:1:0", 1.0, 0.75, 0.5, 0.0),
        ("linear:0.2:1", 0.2, 0.4, 0.6, 1.0),
        ("linear:2", 2.0, 1.5, 1.0, 0.0),
        ("cosine:1:0", 1.0, 0.5 * (1 + math.sqrt(0.5)), 0.5, 0.0),  # cos(pi / 4) = sqrt(1 / 2)
        ("exponential:1:0.0001", 1.0, 0.1, 0.01, 0.0001),
    ],
)
def test_values_by_hand(text, start, quarter, half, end):
    schedule = Schedule.parse(text)
    assert [schedule.at(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([start, quarter, half, end], abs=1e-15)


@pytest.mark.parametrize("number", [0, 1, 0.5, "5e-1", "-0.5"])
def test_number_is_a_constant(number):
    assert Schedule.parse(number) == Schedule("constant", float(number), float(number))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(["linear", "cosine", "exponential"]), *[st.floats(1e-6, 1e3)] * 2, st.floats(-1.0, 3.0))
def test_value_stays_between_start_and_end_at_any_progress(kind, start, end, progress):
    value = Schedule(kind, start, end).at(progress)
    rounding = 1e-14 * max(start, end)
    assert min(start, end) - rounding <= value <= max(start, end) + rounding


@pytest.mark.parametrize("kind", ["linear", "cosine", "exponential"])
def test_schedule_holds_its_ends_outside_of_training(kind):
    schedule = Schedule(kind, 0.3, 0.1)
    assert schedule.at(-0.5) == schedule.at(0.0) == pytest.approx(0.3)
    assert schedule.at(7.0) == schedule.at(1.0) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_schedule_to_zero_ends_exactly_there_and_is_never_negative(kind):
    schedule = Schedule(kind, 0.1, 0.0)
    assert schedule.at(1.0) == 0.0
    assert min(schedule.at(i / 1000) for i in range(1001)) == 0.0


@pytest.mark.parametrize("text", ["0.01", "linear:0.01:0", "cosine:1:0.1", "exponential:0.1:0.001"])
def test_text_of_a_schedule_reads_back(text):
    assert str(Schedule.parse(text)) == text
    assert Schedule.parse(str(Schedule.parse(text))) == Schedule.parse(text)


def test_text_of_a_schedule_keeps_every_digit():
    schedule = Schedule.parse("linear:0.00031234567:0.1")
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize(
    "text", ["", "fast", "linear", "linear:a:b", "linear:1:0:2", "constant:1:2", "linear:", ":1:2", "nan"]
)
def test_text_that_is_no_schedule_is_quoted(text):
    with pytest.raises(ValueError, match=r"expected|finite"):
        Schedule.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sine:1:0", "expected a schedule of kind constant, linear, cosine, exponential, got 'sine'"),
        ("linear:inf:0", "finite numbers, got inf and 0.0"),
        ("exponential:0.1", "two numbers > 0, got 0.1 and 0.0"),
    ],
)
def test_error_says_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message):
        Schedule.parse(text)
