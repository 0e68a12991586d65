"""The chain rule over random networks, and the worked example as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from entropic_rl.diagnostics.chain_rule import ChainRule, trace_weight
from entropic_rl.plots.chain_rule import plot_chain_rule
from entropic_rl.streams import Stream

__all__ = ["ACTIVATIONS", "chain_rule_row", "draw", "worked_example"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "leaky ReLU": nn.LeakyReLU,
    "ELU": nn.ELU,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "softplus": nn.Softplus,
}
_WIDTHS = (3, 5, 4, 3)
_NOTHING = 1e-6  # of derivatives: errors of smaller ones are taken relative to this


def chain_rule_row(activation: str, n_networks: int) -> str:
    """One weight of each layer of random networks of 3, 5, 4 and 3 units, as a row of a table."""
    traces = [trace for seed in range(n_networks) for trace in _traces(ACTIVATIONS[activation], seed)]
    products = [_apart(chain.product, chain.autograd) for t in traces for chain in (t.task, t.entropy)]
    factors = [f for t in traces for f in (*t.task.factors, *t.entropy.factors[:2], t.entropy_by_logits)]
    cells = [
        activation,
        f"{len(traces)}",
        f"{max(trace.worst.relative_error for trace in traces):.1e}",
        f"{max(products):.1e}",
        f"{max(_apart(trace.total, trace.total_autograd) for trace in traces):.1e}",
        f"{sum(factor.extrapolated for factor in factors)} of {len(factors)}",
    ]
    return f"| {' | '.join(cells)} |"


def worked_example() -> ChainRule:
    """Input (1, 1), target 0, two sigmoid units: the weights of docs/notebooks/chain_rule.ipynb."""
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Sigmoid(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        for linear, rows in ((network[0], [[0.5, -0.25], [1.0, 0.5]]), (network[2], [[1.0, -1.0], [0.5, 0.25]])):
            linear.get_parameter("weight").copy_(torch.tensor(rows))
    return trace_weight(network, (1.0, 1.0), 0, layer=0, row=0, column=1, ent_coef=0.1)


def draw(path: Path) -> None:
    """The picture of docs/backpropagation.md."""
    plot_chain_rule(path, worked_example())


def _traces(activation: Callable[[], nn.Module], seed: int) -> list[ChainRule]:
    stream = Stream([seed], "chain rule")
    network = nn.Sequential()
    for i, (n, m) in enumerate(pairwise(_WIDTHS)):
        linear = nn.Linear(n, m).double()
        with torch.no_grad():
            linear.weight.copy_(stream.normal(m, n)[0] / math.sqrt(n))
            linear.bias.copy_(0.5 * stream.normal(m)[0])
        network.append(linear)
        if i < len(_WIDTHS) - 2:
            network.append(activation())
    x, where = stream.normal(_WIDTHS[0])[0], stream.uniform(3, 2)[0]
    found = []
    for i in range(3):
        row, column = int(where[i, 0] * _WIDTHS[i + 1]), int(where[i, 1] * _WIDTHS[i])
        trace = trace_weight(network, x, seed % 3, layer=2 * i, row=row, column=column, ent_coef=0.3)
        found.append(trace)
    return found


def _apart(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b), _NOTHING)
