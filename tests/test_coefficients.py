"""Coefficients of R runs in one tensor that never moves."""

import math
from types import SimpleNamespace

import pytest
import torch

from entropic_rl.coefficients import (
    Coefficients,
    DualAscent,
    EntropyCoefficient,
    ProportionalIntegral,
    ScheduledValue,
)
from entropic_rl.entropy import categorical_entropy


def test_each_run_follows_its_own_schedule():
    value = ScheduledValue([0.1, "linear:1:0", "cosine:2:0"])
    assert value.at(0.0).tolist() == pytest.approx([0.1, 1.0, 2.0])
    assert value.at(0.5).tolist() == pytest.approx([0.1, 0.5, 1.0])
    assert value.at(2.0).tolist() == pytest.approx([0.1, 0.0, 0.0])


def test_value_is_overwritten_in_place():
    value = ScheduledValue(["linear:1:0"])
    held = value.at(0.0)
    value.at(0.75)
    assert held.tolist() == [0.25]
    assert value.at(0.9) is held


def test_value_holds_the_start_before_the_first_update():
    assert ScheduledValue(["linear:1:0", 3]).value.tolist() == [1.0, 3.0]


def test_dtype_is_kept():
    assert ScheduledValue([0.1, "linear:1:0"], dtype=torch.float64).at(0.3).tolist() == [0.1, 0.7]


def test_text_that_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match="got 'sine'"):
        ScheduledValue([0.1, "sine:1:0"])


def test_coefficients_read_named_fields_of_every_run():
    configs = [SimpleNamespace(vf_coef=0.1, gamma=0.9), SimpleNamespace(vf_coef="linear:0.2:0", gamma=0.99)]
    values = Coefficients(configs, ["vf_coef", "gamma"], dtype=torch.float64).at(0.5)
    assert {name: value.tolist() for name, value in values.items()} == {"vf_coef": [0.1, 0.1], "gamma": [0.9, 0.99]}


# The entropy weight


def coefficient_of(*specs, controller=ProportionalIntegral, target=0.5, initial=0.1, **options):
    return EntropyCoefficient(
        specs, target=target, controller=controller, initial=initial, dtype=torch.float64, **options
    )


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def steered(coefficient, *levels, learning_rate=0.01):
    """The values after one measured level per run."""
    coefficient.steer(vector(*levels), vector(learning_rate).expand(len(levels)))
    return coefficient.at(0.5).tolist()


both_controllers = pytest.mark.parametrize("controller", [DualAscent, ProportionalIntegral])


@both_controllers
def test_constants_schedules_and_targets_share_a_batch(controller):
    specs = (0.3, "linear:1:0", "auto", "target:0.7", "target:0.7:2", "auto:3")
    coefficient = coefficient_of(*specs, controller=controller)
    assert coefficient.at(0.0).tolist() == pytest.approx([0.3, 1.0, 0.1, 0.1, 2.0, 3.0])
    assert coefficient.target.tolist() == pytest.approx([math.nan, math.nan, 0.5, 0.7, 0.7, 0.5], nan_ok=True)
    after = steered(coefficient, *[0.6] * 6)  # above .5 and below .7
    assert after[:2] == [0.3, 0.5]
    assert after[2] < 0.1 < after[3]
    assert after[4] > 2.0
    assert after[5] < 3.0


@both_controllers
def test_value_of_steered_coefficients_stays_in_its_tensor(controller):
    coefficient = coefficient_of("auto", 0.2, controller=controller)
    held = coefficient.value
    steered(coefficient, 0.1, 0.1)
    assert coefficient.at(1.0) is coefficient.value is held


@both_controllers
def test_nothing_is_steered_where_nothing_has_a_target(controller):
    coefficient = coefficient_of(0.3, "linear:1:0", controller=controller)
    before = {name: tensor.clone() for name, tensor in coefficient.controller.state_dict().items()}
    assert steered(coefficient, 0.0, 9.0) == [0.3, 0.5]
    assert all(torch.equal(tensor, before[name]) for name, tensor in coefficient.controller.state_dict().items())


@both_controllers
def test_coefficient_of_a_divergence_rises_above_its_target(controller):
    coefficient = coefficient_of("target:0.3", "target:0.3", controller=controller, divergence=True)
    assert coefficient.target.tolist() == [-0.3, -0.3]
    large, small = steered(coefficient, -0.8, -0.1)  # levels are negative divergences
    assert large > 0.1 > small


@both_controllers
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_broken_level_leaves_the_coefficient_as_it_began(controller, broken):
    coefficient = coefficient_of("auto", "auto", controller=controller)
    first, second = steered(coefficient, broken, 0.1)
    assert first == pytest.approx(0.1, rel=1e-12)
    assert second > 0.1
    assert math.isfinite(steered(coefficient, 0.1, broken)[1])


@both_controllers
def test_continuing_from_a_state_is_going_on(controller):
    going_on, restored = (coefficient_of("auto", "target:1", controller=controller) for _ in range(2))
    for level in (0.2, 0.9, 0.4):
        steered(going_on, level, level)
    restored.controller.load_state_dict({k: v.clone() for k, v in going_on.controller.state_dict().items()})
    assert restored.at(0.0).tolist() == going_on.at(0.0).tolist()
    assert steered(restored, 0.3, 0.3) == steered(going_on, 0.3, 0.3)


def test_controller_by_hand():
    # Target .5, level .4: e = .1 / .5 = .2, I = log .1 + .5 * .2, log c = I + 3 * .2; then e = -.2: I back, -.6.
    coefficient = coefficient_of("auto")
    assert steered(coefficient, 0.4) == pytest.approx([0.1 * math.exp(0.1 + 0.6)])
    assert steered(coefficient, 0.6) == pytest.approx([0.1 * math.exp(-0.6)])
    assert steered(coefficient, 0.5) == pytest.approx([0.1])


def test_errors_count_relative_to_the_target_but_no_less_than_a_tenth_of_a_nat():
    coefficient = coefficient_of("target:2", "target:-2", "target:0.01")
    after = steered(coefficient, 1.0, -3.0, -0.04)  # errors of 1, 1 and .05 nats: e = .5 each
    assert after == pytest.approx([0.1 * math.exp(0.25 + 1.5)] * 3)


def test_error_is_clamped_to_the_whole_target():
    far, further = steered(coefficient_of("auto", "auto"), -0.5, -100.0)
    assert far == pytest.approx(further) == pytest.approx(0.1 * math.exp(3.5))


def test_integral_is_clamped_and_recovers_at_once():
    # However long the level was out of reach, the way back begins with the first level on the other side.
    coefficient = coefficient_of("auto", "auto")
    for _ in range(300):
        steered(coefficient, -9.0, 9.0)
    integral = coefficient.controller.state_dict()["integral"]
    assert integral.tolist() == pytest.approx([math.log(1e2), math.log(1e-6)])
    high, low = steered(coefficient, 0.5, 0.5)
    assert (high, low) == pytest.approx((1e2, 1e-6))
    for _ in range(4):
        before, (high, low) = (high, low), steered(coefficient, 9.0, -9.0)
        assert high < before[0]
        assert low > before[1]
    assert high == pytest.approx(1e2 * math.exp(-4 * 0.5 - 3.0))


def test_controller_reaches_its_target_with_a_policy_that_follows_by_a_fifth_per_update():
    # Of a bandit, whose best logits are rewards / c. One that followed at once would make it swing for ever.
    coefficient = coefficient_of("target:0.8", "target:0.3", initial=0.01)
    logits, rewards = torch.zeros(2, 3, dtype=torch.float64), vector(0.0, 0.5, 1.0)
    for _ in range(100):
        steered(coefficient, *categorical_entropy(logits).tolist())
        logits = logits.lerp(rewards / coefficient.value.unsqueeze(1), 0.2)
    assert categorical_entropy(logits).tolist() == pytest.approx([0.8, 0.3], abs=1e-3)


def test_dual_ascent_is_adam_on_the_temperature_loss_of_stable_baselines3():
    levels = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coefficient = coefficient_of("auto:0.3", "target:-1:2", controller=DualAscent)
    log_coef = vector(0.3, 2.0).log().requires_grad_()
    optimizer = torch.optim.Adam([log_coef], lr=0.01)
    for level in levels:
        found = steered(coefficient, *level.tolist())
        optimizer.zero_grad()
        log_prob = -level  # one sample each, so that the level is its entropy
        (-(log_coef * (log_prob + vector(0.5, -1.0)).detach())).sum().backward()
        optimizer.step()
        assert found == pytest.approx(log_coef.exp().tolist(), rel=1e-12)


def test_dual_ascent_steps_by_the_learning_rate_of_each_run():
    coefficient = coefficient_of("auto", "auto", controller=DualAscent)
    coefficient.steer(vector(0.0, 0.0), vector(0.01, 0.1))
    assert coefficient.at(0.0).tolist() == pytest.approx([0.1 * math.exp(0.01), 0.1 * math.exp(0.1)], rel=1e-6)
