"""Coefficients of R runs in one tensor that never moves."""

from types import SimpleNamespace

import pytest
import torch

from entropic_rl.coefficients import Coefficients, ScheduledValue


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
    configs = [SimpleNamespace(ent_coef=0.1, gamma=0.9), SimpleNamespace(ent_coef="linear:0.2:0", gamma=0.99)]
    values = Coefficients(configs, ["ent_coef", "gamma"], dtype=torch.float64).at(0.5)
    assert {name: value.tolist() for name, value in values.items()} == {"ent_coef": [0.1, 0.1], "gamma": [0.9, 0.99]}
