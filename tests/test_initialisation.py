"""First weights: their moments are the published ones, those of torch's layers, and a run's are its own."""

from typing import get_args, get_type_hints

import pytest
import torch
from torch import nn

from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.initialisation import INITIALISATIONS
from entropic_rl.supervised.networks import Perceptrons

N_IN, N_OUT = 300, 200


def drawn(name, seeds=(3, 4), *, is_last=False):
    return INITIALISATIONS[name](Stream(seeds, "initialisation"), N_IN, N_OUT, is_last)


def test_settings_name_all_of_them():
    assert set(get_args(get_type_hints(FitConfig)["initialisation"])) == set(INITIALISATIONS)


@pytest.mark.parametrize(
    ("name", "begin"),
    {
        "glorot": nn.init.xavier_uniform_,
        "he": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
        "uniform": lambda weight: nn.Linear(N_IN, N_OUT).weight.detach(),
    }.items(),
)
def test_distributions_are_those_of_torch(name, begin):
    torch.manual_seed(0)
    own = drawn(name)[0][0].flatten().sort().values
    theirs = begin(torch.empty(N_OUT, N_IN)).double().flatten().sort().values
    scale = float(theirs.std())
    bulk = slice(len(own) // 100, -len(own) // 100)  # quantiles; extremes of a normal are noise
    assert float((own - theirs)[bulk].abs().max()) < 0.05 * scale


@pytest.mark.parametrize(("name", "gain", "last"), [("orthogonal", 2**0.5, 0.1), ("small", 0.1, 0.1), ("large", 4, 4)])
def test_orthogonal_ones_stretch_by_their_gain(name, gain, last):
    for is_last, expected in ((False, gain), (True, last)):
        stretch = torch.linalg.svdvals(drawn(name, is_last=is_last)[0])
        torch.testing.assert_close(stretch, torch.full_like(stretch, expected), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_a_run_begins_as_it_does_alone_and_biases_are_zero_but_for_torchs(name):
    weight, bias = drawn(name)
    alone, _ = drawn(name, seeds=(4,))
    assert torch.equal(weight[1:], alone)
    assert bool(bias.any()) == (name == "uniform")
    assert bool((weight[0] == weight[1]).all()) == (name == "zeros")
    network = Perceptrons((5, 4, 3), [1, 2], initialisation=name, dtype=torch.float64)
    one = Perceptrons((5, 4, 3), [2], initialisation=name, dtype=torch.float64)
    torch.testing.assert_close(network.values[1:], one.values, rtol=0.0, atol=0.0)


def test_zeros_never_leave_their_symmetry():
    network = Perceptrons((5, 4, 3), [1], initialisation="zeros", dtype=torch.float64)
    network.backward(network(torch.randn(1, 7, 5, dtype=torch.float64))[..., 0].mean(1))
    assert network.grads.count_nonzero() == 1  # of the last bias alone
