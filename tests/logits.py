"""Logits and classes for tests, and what the entropy operator says of them by log_softmax in float64."""

import math

import torch


def random_logits(*shape, seed=0, scale=3.0, dtype=torch.float32):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def random_index(n, n_classes, seed=1):
    return torch.randint(n_classes, (n,), generator=torch.Generator().manual_seed(seed))


def plain(z, index, mask=None, temperature=1.0):
    """The same by log_softmax in float64."""
    u = z.double() / temperature
    u = u if mask is None else u.masked_fill(~mask, -math.inf)
    log_p = u.log_softmax(-1)
    chosen = log_p.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    return chosen, -(log_p.exp() * log_p.clamp(min=-1e9)).sum(-1), u.logsumexp(-1)
