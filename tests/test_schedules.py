"""Schedules: hand-derived values, ends that hold, texts that parse and texts that do not."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.schedules import Schedule, TargetEntropy, parse_coefficient


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
        ("step:1:0.0001", 1.0, 1.0, 0.01, 0.0001),
        ("warmup:1:0", 0.0, 0.5 * (1 + math.cos(math.pi / 6)), 0.5 * (1 + math.cos(math.pi * 4 / 9)), 0.0),
        # .25 of training is 5/6 of the rise, .5 is 2/7 of the fall
        ("onecycle:1:0", 0.04, 1 - 0.48 * (1 + math.cos(math.pi * 5 / 6)), 0.5 * (1 + math.cos(math.pi * 2 / 7)), 0.0),
    ],
)
def test_values_by_hand(text, start, quarter, half, end):
    schedule = Schedule.parse(text)
    assert [schedule.at(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([start, quarter, half, end], abs=1e-15)


def test_onecycle_is_that_of_torch():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=101, final_div_factor=1e9)
    for step in range(101):
        # torch's rise ends at step .3 * 101 - 1 and its fall at 100
        rise = 0.3 * 101 - 1
        p = 0.3 * step / rise if step <= rise else 0.3 + 0.7 * (step - rise) / (100 - rise)
        assert Schedule.parse("onecycle:0.3:0").at(p) == pytest.approx(cycle.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        if step < 100:
            cycle.step()


@pytest.mark.parametrize("number", [0, 1, 0.5, "5e-1", "-0.5"])
def test_number_is_a_constant(number):
    assert Schedule.parse(number) == Schedule("constant", float(number), float(number))


@settings(max_examples=100)
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


@pytest.mark.parametrize("text", ["0.01", "linear:0.01:0", "cosine:1:0.1", "exponential:0.1:0.001", "onecycle:1:0"])
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
        (
            "sine:1:0",
            "expected a schedule of kind constant, linear, cosine, exponential, step, warmup, onecycle, got 'sine'",
        ),
        ("linear:inf:0", "finite numbers, got inf and 0.0"),
        ("step:0.1", "a step schedule needs two numbers > 0, got 0.1 and 0.0"),
        ("exponential:0.1", "two numbers > 0, got 0.1 and 0.0"),
    ],
)
def test_error_says_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message):
        Schedule.parse(text)


# Targets

TARGETS = {
    "auto": TargetEntropy(),
    "auto:0.1": TargetEntropy(None, 0.1),
    "target:0.5": TargetEntropy(0.5),
    "target:-2:0.01": TargetEntropy(-2.0, 0.01),
    "target:0": TargetEntropy(0.0),
}


@pytest.mark.parametrize("text", TARGETS)
def test_target_entropy_is_read_and_reads_back(text):
    assert TargetEntropy.parse(text) == parse_coefficient(text) == TARGETS[text]
    assert str(TARGETS[text]) == text


def test_text_of_a_target_keeps_every_digit():
    target = TargetEntropy(0.1234567891234, 1 / 3)
    assert parse_coefficient(str(target)) == target


@pytest.mark.parametrize(
    "text", ["auto:", "auto:a", "auto:1:2", "target", "target:", "target:a", "target:1:2:3", "target:1:b", "0.1", ""]
)
def test_text_that_is_no_target_is_quoted(text):
    with pytest.raises(ValueError, match="expected target:NATS, target:NATS:INITIAL, auto or auto:INITIAL") as caught:
        TargetEntropy.parse(text)
    assert str(caught.value).endswith(f"got {text!r}")


@pytest.mark.parametrize("text", ["target:nan", "target:inf", "target:-inf"])
def test_target_has_to_be_finite(text):
    with pytest.raises(ValueError, match=f"has to be finite, got {text.removeprefix('target:')}"):
        parse_coefficient(text)


@pytest.mark.parametrize("text", ["auto:0", "auto:-1", "target:1:0", "target:1:inf", "auto:nan"])
def test_weight_to_begin_with_has_to_be_positive(text):
    with pytest.raises(ValueError, match="begins with has to be > 0"):
        parse_coefficient(text)


@pytest.mark.parametrize("spec", [0.1, "0.1", "linear:0.1:0", "constant:2", "exponential:1:0.1"])
def test_coefficient_that_is_no_target_is_a_schedule(spec):
    assert parse_coefficient(spec) == Schedule.parse(spec)


@pytest.mark.parametrize("spec", ["much", "", "automatic"])
def test_word_that_is_no_coefficient_is_told_all_kinds(spec):
    with pytest.raises(ValueError, match=r"expected a number, a schedule such as linear:0.01:0, target:NATS or auto"):
        parse_coefficient(spec)


@pytest.mark.parametrize("spec", ["sine:1:0", "linear:1:2:3", "exponential:1:0"])
def test_bad_schedule_of_a_coefficient_is_told_as_such(spec):
    with pytest.raises(ValueError, match=r"schedule|KIND:START:END"):
        parse_coefficient(spec)
