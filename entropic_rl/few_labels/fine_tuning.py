"""Training of many tasks' own networks as one batch, each from a pretrained body or from the prototypes of its task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from entropic_rl.few_labels.config import UnlabeledConfig
from entropic_rl.few_labels.prototypical import prototype_layer
from entropic_rl.few_labels.unlabeled import UnlabeledTerm
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["fine_tuned_logits"]


def fine_tuned_logits(
    body: Perceptrons,
    runs: Tensor,
    support: Tensor,
    query: Tensor,
    *,
    n_way: int,
    config: FitConfig,
    seeds: Sequence[int],
    n_frozen: int = 0,
    head: Literal["new", "body", "prototypes"] = "new",
    unlabeled: Tensor | None = None,
    unlabeled_config: UnlabeledConfig | None = None,
) -> Tensor:
    """What T tasks' own networks say of their queries, ``[T, Q, N]``.

    Each task has a copy of the body of its run, of which the first layers may be frozen (and are computed once), and
    is trained by the entropic cross-entropy of its support, and by the terms of its unlabelled rows if there are any.

    Args:
        body: R pretrained perceptrons without batch normalisation; without hidden layers for the features themselves.
        runs: ``[T]``, whose body each task begins from.
        support: ``[T, N K, D]``, K rows of each class, class after class.
        query: ``[T, Q, D]``.
        n_way: N.
        config: of the training, its entropy weight among it; layers are the body's.
        seeds: T, of new layers and minibatches.
        n_frozen: hidden layers, from the first on, that stay as they are.
        head: how the last layer begins: small and random, as the body's (after meta-learning), or as the prototypes of
            the support.
        unlabeled: ``[T, U, D]``, rows of the same classes; none of the query unless it may be seen.
        unlabeled_config: weights of their terms; the defaults if None.
    """
    start = body.take(runs)
    with torch.no_grad():
        support, query = (start.hidden(x, n_frozen) for x in (support, query))
        unlabeled = None if unlabeled is None else start.hidden(unlabeled, n_frozen)
    network = _trainable(start, n_frozen, n_way, seeds, keep_head=head == "body")
    n_tasks, n_rows = support.shape[:2]
    if head == "prototypes":
        _begin_at_prototypes(network, support, n_way)
    extra = None
    if unlabeled is not None:
        settings = unlabeled_config or UnlabeledConfig()
        extra = UnlabeledTerm(unlabeled.flatten(0, 1), _own_rows(unlabeled), settings, seeds)
    target = torch.arange(n_way, device=support.device).repeat_interleave(n_rows // n_way)
    table = Table(support.flatten(0, 1), target.repeat(n_tasks))
    Fitting(network, Classification(config.label_smoothing), config, seeds, extra=extra).run(table, _own_rows(support))
    with torch.no_grad():
        return network(query)


def _own_rows(x: Tensor) -> Tensor:
    """``[T, n]``: where the rows of each task of ``x [T, n, D]`` are once tasks lie below each other."""
    return torch.arange(x.shape[0] * x.shape[1], device=x.device).view(x.shape[:2])


def _trainable(start: Perceptrons, n_frozen: int, n_way: int, seeds: Sequence[int], *, keep_head: bool) -> Perceptrons:
    """The layers of ``start`` from ``n_frozen`` on, the last one new unless it is kept."""
    here: dict[str, Any] = {"device": start.values.device, "dtype": start.values.dtype}
    sizes = (*start.sizes[n_frozen:-1], n_way)
    network = Perceptrons(sizes, seeds, activation=start.activation, **here)
    own, theirs = network.state_dict(), start.state_dict()
    for i in range(len(sizes) - (1 if keep_head else 2)):
        for name in [name for name in own if name.startswith(f"{i}.")]:
            own[name] = theirs[f"{i + n_frozen}.{name.partition('.')[2]}"]
    network.load_state_dict(own)
    return network


@torch.no_grad()
def _begin_at_prototypes(network: Perceptrons, support: Tensor, n_way: int) -> None:
    """Set the last layer to the prototypes of ``support [T, N K, D]`` in the last hidden layer."""
    hidden = network.hidden(support)
    weight, bias = prototype_layer(hidden.unflatten(1, (n_way, -1)).mean(2))
    last = len(network.sizes) - 2
    network.params[f"{last}.weight"].copy_(weight)
    network.params[f"{last}.bias"].copy_(bias.unsqueeze(1))
