"""Pruning: the smallest go, as many as asked, and nothing that is gone comes back."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.pruning import Pruned, magnitude_mask, random_mask
from entropic_rl.supervised.tasks import Classification

SIZES, SHARES = (5, 8, 3), [0.0, 0.5, 0.9, 1.0]


def begun(seeds=range(4)):
    network = Perceptrons(SIZES, list(seeds), initialisation="uniform", dtype=torch.float64)
    return network, magnitude_mask(network.values, network.is_weight, SHARES[: len(network.values)])


def test_the_smallest_weights_go_as_torch_prunes():
    network, mask = begun()
    twin = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    for run, share in enumerate(SHARES):
        state = network.state_dict()
        with torch.no_grad():
            for i, layer in ((0, twin[0]), (1, twin[2])):
                layer.weight.copy_(state[f"{i}.weight"][run].T)
        for layer in (twin[0], twin[2]):
            prune.l1_unstructured(layer, "weight", amount=round(share * layer.weight.numel()))
        theirs = torch.cat([twin[0].weight_mask.T.flatten(), twin[2].weight_mask.T.flatten()])
        assert torch.equal(mask[run, network.is_weight], theirs.bool())
        for layer in (twin[0], twin[2]):
            prune.remove(layer, "weight")
    assert mask[:, ~network.is_weight].all()


def test_a_random_mask_is_the_runs_own_and_takes_as_many():
    network, _ = begun()
    mask = random_mask(Stream(range(4), "mask"), network.is_weight, SHARES)
    alone = random_mask(Stream([2], "mask"), network.is_weight, SHARES[2:3])
    assert torch.equal(mask[2:3], alone)
    assert (~mask).sum(1).tolist() == [round(share * 5 * 8) + round(share * 8 * 3) for share in SHARES]


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd", "l1": 0.01, "l2": 0.01}, {"optimizer": "adamw"}], ids=str)
def test_what_is_gone_stays_gone_and_a_run_is_as_it_is_alone(changes):
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = Table(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())
    fit = FitConfig(net_arch=(8,), n_epochs=3, dtype="float64", **changes)

    def trained(places):
        network, mask = begun()
        pruned = Pruned(network.take(torch.tensor(places)), mask[places])
        before = pruned.values.clone()
        Fitting(pruned, Classification(), fit, places).run(table, torch.arange(40).expand(len(places), 40))
        assert not pruned.values[~pruned.mask].any()
        assert (pruned.values != before).any(1).all()
        return pruned.values

    torch.testing.assert_close(trained([0, 1, 2, 3])[2:3], trained([2]), rtol=1e-9, atol=1e-12)


def test_without_sparsity_it_is_the_network_itself():
    network, mask = begun([0])
    x = torch.ones(1, 2, 5, dtype=torch.float64)
    pruned = Pruned(network, mask)
    assert torch.equal(pruned(x), network(x))
    assert torch.equal(pruned.double().embed(x), network.embed(x))
    pruned.load_state_dict({name: 2.0 * value for name, value in pruned.state_dict().items()})
    assert torch.equal(pruned.values, network.values)


@pytest.mark.parametrize("shares", [[0.5], [0.0, 0.5, 1.0, 1.5], [-0.1] * 4])
def test_shares_that_are_none_are_refused(shares):
    network, mask = begun()
    with pytest.raises(ConfigError, match="sparsity: expected 4 shares from 0 to 1"):
        magnitude_mask(network.values, network.is_weight, shares)
    with pytest.raises(ConfigError, match="mask: expected"):
        Pruned(network, mask[:2])
