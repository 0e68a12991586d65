"""Networks without some of their weights: masks of R runs, by magnitude or at random, and training that keeps them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream
from entropic_rl.supervised.networks import Network

__all__ = ["Pruned", "magnitude_mask", "random_mask"]


def magnitude_mask(values: Tensor, is_weight: Tensor, sparsity: Sequence[float]) -> Tensor:
    """Keep the largest weights of each layer and run, and all that are no weights.

    Layers lose equal shares: their weights may be of sizes of their own, and a layer without any would end the network.
    Weights without another parameter between them count as one layer. Source: Han et al. (2015), section 3,
    https://arxiv.org/abs/1506.02626.

    Args:
        values: ``[R, P]``.
        is_weight: ``[P]``, bool.
        sparsity: R, the shares of weights that go, in [0, 1].

    Returns:
        ``[R, P]``, bool: what stays. Of the W weights of a layer ``round(sparsity W)`` go.

    Raises:
        ConfigError: a share is out of range, or there are not R.
    """
    return _smallest_out(values.abs(), is_weight, sparsity)


def random_mask(stream: Stream, is_weight: Tensor, sparsity: Sequence[float]) -> Tensor:
    """Keep weights drawn at random; the rest as in :func:`magnitude_mask`."""
    return _smallest_out(stream.uniform(len(is_weight)).to(is_weight.device), is_weight, sparsity)


def _smallest_out(scores: Tensor, is_weight: Tensor, sparsity: Sequence[float]) -> Tensor:
    if len(sparsity) != len(scores) or not all(0.0 <= share <= 1.0 for share in sparsity):
        raise ConfigError(f"sparsity: expected {len(scores)} shares from 0 to 1, got {list(sparsity)}")
    mask = torch.ones_like(scores, dtype=torch.bool)
    for layer in _layers(is_weight):
        ranks = scores[:, layer].argsort(dim=1, stable=True).argsort(dim=1)
        n_out = torch.tensor([round(share * ranks.shape[1]) for share in sparsity], device=ranks.device)
        mask[:, layer] = ranks >= n_out.unsqueeze(1)
    return mask


def _layers(is_weight: Tensor) -> list[slice]:
    """Stretches of weights."""
    edges = torch.diff(is_weight.int(), prepend=is_weight.new_zeros(1).int(), append=is_weight.new_zeros(1).int())
    starts, stops = (edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist()
    return [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]


class Pruned:
    """R networks some of whose parameters are 0 and stay so, whatever trains them (see :class:`Network`).

    Gradients of what is gone are 0; an optimizer that begins with them never moves a parameter that is 0 already.

    Args:
        network: R runs; it is pruned in place.
        mask: ``[R, P]``, bool: what stays.
    """

    def __init__(self, network: Network, mask: Tensor) -> None:
        if mask.shape != network.values.shape:
            raise ConfigError(f"mask: expected {tuple(network.values.shape)}, got {tuple(mask.shape)}")
        self.network, self.mask, self.is_weight = network, mask, network.is_weight
        with torch.no_grad():
            network.values.mul_(mask)

    @property
    def values(self) -> Tensor:
        """``[R, P]``."""
        return self.network.values

    @property
    def grads(self) -> Tensor:
        """``[R, P]``."""
        return self.network.grads

    def __call__(self, x: Tensor, *, training: bool = False, noise: Stream | None = None) -> Tensor:
        """Outputs of the network."""
        return self.network(x, training=training, noise=noise)

    def embed(self, x: Tensor) -> Tensor:
        """What the last layer sees."""
        return self.network.embed(x)

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss [R]`` by what stays."""
        self.network.backward(loss)
        self.network.grads.mul_(self.mask)

    def state_dict(self) -> dict[str, Tensor]:
        """Of the network."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.network.load_state_dict(state)

    def double(self) -> Pruned:
        """A copy in float64."""
        return Pruned(self.network.double(), self.mask)
