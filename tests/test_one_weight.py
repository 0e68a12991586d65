"""One weight: autograd and the row optimizer against the closed form of gradient descent on a parabola."""

import json

import numpy as np
import pytest
import torch

from entropic_rl.cli import main
from entropic_rl.studies.one_weight import descend, line

RATES = np.array([0.01, 0.1, 0.5, 1.0])


def test_curvature_and_optimum_are_those_of_the_loss():
    problem = line(3)
    weight = problem.optimum.unsqueeze(0).clone().requires_grad_()
    (slope,) = torch.autograd.grad(problem.loss(weight).sum(), weight, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), weight)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(bend, torch.full_like(bend, problem.curvature))
    assert (problem.optimum - 3.0).abs().max() < 0.6


def test_a_step_multiplies_the_distance_by_one_less_rate_times_curvature():
    problem = line(4)
    descent = descend(problem, RATES, 25)
    steps = np.arange(26)
    expected = (1.0 - RATES * problem.curvature)[:, None, None] ** steps * descent.distances[..., :1]
    np.testing.assert_allclose(descent.distances, expected, rtol=1e-9, atol=1e-12)


def test_rates_are_too_slow_right_swinging_and_too_large():
    descent = descend(line(4), np.array([0.01, 0.1, 0.7, 0.82, 1.0]), 30)
    assert [descent.outcome(k) for k in range(5)] == [
        "is too slow", "arrives", "oscillates and arrives", "oscillates and is too slow", "oscillates and diverges"
    ]  # fmt: skip


def test_rate_of_two_over_the_curvature_swings_for_ever():
    problem = line(2)
    descent = descend(problem, np.array([2.0 / problem.curvature]), 30)
    np.testing.assert_allclose(descent.left, 1.0, rtol=1e-9)
    assert descent.outcome(0) == "oscillates and never arrives"


def test_weight_that_diverges_leaves_the_others_alone():
    problem = line(2)
    together, alone = descend(problem, np.array([0.1, 1e200]), 5), descend(problem, np.array([0.1]), 5)
    np.testing.assert_array_equal(together.paths[:1], alone.paths)
    assert not np.isfinite(together.paths[1, :, -1]).any()
    assert together.outcome(1) == "oscillates and diverges"


def run(out, *flags):
    return main(["learning-rate", "--data", "one-weight", "--no-progress", "--out", str(out), *flags], verb="study")


def test_study_draws_and_says_it(tmp_path):
    assert run(tmp_path / "x") == 0
    numbers = json.loads((tmp_path / "x" / "study.json").read_text())
    assert "a rate of 0.01 is too slow" in numbers["sentence"]
    assert "1 oscillates and diverges" in numbers["sentence"]
    assert np.shape(numbers["paths"]) == (3, 10, 31)
    assert (tmp_path / "x" / "figures" / "one-weight.svg").exists()
    assert "Paths of the weight" in (tmp_path / "x" / "report.html").read_text()


def test_study_goes_on_where_a_weight_is_lost(tmp_path):
    assert run(tmp_path / "x", "--values", "0.1", "1e200", "--seeds", "1") == 0


@pytest.mark.parametrize("values", [["0.1", "linear:1:0"], ["0.1", "0"]])
def test_values_that_are_no_rates_are_refused(values, tmp_path, capsys):
    assert run(tmp_path / "x", "--values", *values) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
