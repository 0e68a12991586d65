"""Minibatches divided between processes, so that the sum of what they learn is what one alone would have learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from entropic_rl.buffers import Batch
from entropic_rl.ranks import Ranks

if TYPE_CHECKING:
    from entropic_rl.on_policy import Samples

__all__ = [
    "Share",
    "average",
    "average_gradient",
    "normalize_advantage",
    "normalized_advantage",
    "part",
    "part_of_batch",
]


@dataclass(frozen=True, slots=True)
class Share:
    """A process's part of a minibatch.

    Attributes:
        mean: ``[R, 1]``, of the advantages of the whole minibatch.
        std: ``[R, 1]``, what they are divided by.
        weight: ``[R]``, the part's share of the samples that count.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor


def part(samples: Samples, ranks: Ranks) -> Samples:
    """The share of one of several processes; all of them have all, if there is too little to divide."""
    if ranks.size == 1:
        return samples
    advantage, sequences = samples.advantage, samples.sequences
    moments = _moments(advantage, samples.valid)
    n = advantage.shape[1] if sequences is None else sequences.state.shape[1]
    if n < ranks.size:
        return replace(samples, share=Share(*moments, torch.full_like(advantage[:, 0], 1.0 / ranks.size)))
    start, stop = ranks.part(n)
    if sequences is None:
        own = samples.slice(start, stop)
    else:
        own = samples.pick(torch.arange(start, stop, device=advantage.device).expand(len(advantage), -1))
    return replace(own, share=Share(*moments, _share(own.advantage, own.valid, advantage, samples.valid)))


def part_of_batch(batch: Batch, noise: Tensor, ranks: Ranks) -> tuple[Batch, Tensor, Tensor | None]:
    """The same of transitions, and of noise ``[R, 2, B, ...]`` for them; with its weight ``[R]``, None if undivided."""
    n = batch.reward.shape[1]
    if ranks.size == 1:
        return batch, noise, None
    if n < ranks.size:
        return batch, noise, torch.full_like(batch.reward[:, 0], 1.0 / ranks.size)
    own = slice(*ranks.part(n))
    names = ("obs", "action", "reward", "next_obs", "terminated", "discount", "valid", "mask", "next_mask")
    given = {name: getattr(batch, name) for name in names}
    parts: dict[str, Any] = {name: None if x is None else x[:, own] for name, x in given.items()}
    divided = Batch(**parts)
    return divided, noise[:, :, own], _share(divided.reward, divided.valid, batch.reward, batch.valid)


def average(ranks: Ranks, samples: Samples, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """Metrics ``[R]`` of the minibatch that ``samples`` are a part of, from those of the part."""
    if samples.share is None:
        return metrics
    return dict(zip(metrics, ranks.average([*metrics.values()], samples.share.weight), strict=True))


def average_gradient(ranks: Ranks, samples: Samples, grads: Tensor) -> None:
    """The same of gradients ``[R, P]``, in place."""
    ranks.average_gradient(grads, None if samples.share is None else samples.share.weight, {})


def normalized_advantage(samples: Samples) -> tuple[Tensor, Tensor]:
    """As :func:`normalize_advantage` over the minibatch that the samples are, or of which they are a part."""
    if samples.share is None:
        return normalize_advantage(samples.advantage, samples.valid)
    mean, std = samples.share.mean, samples.share.std
    return (samples.advantage - mean) / std, std.squeeze(1)


def normalize_advantage(advantage: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """``(A - mean) / (std + 1e-8)`` per run, ``[R, B]``, and the divisor, ``[R]``; a lone sample stays as it is."""
    mean, std = _moments(advantage, valid)
    return (advantage - mean) / std, std.squeeze(1)


def _moments(advantage: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """What advantages ``[R, B]`` are normalised by, ``[R, 1]`` each: their mean, and a divisor."""
    if advantage.shape[1] < 2:
        return torch.zeros_like(advantage[:, :1]), torch.ones_like(advantage[:, :1])
    if valid is None:
        std, mean = torch.std_mean(advantage, 1, keepdim=True)
    else:
        weight = valid.to(advantage.dtype)
        n = weight.sum(1, keepdim=True)
        lone = n < 2
        mean = (advantage * weight).sum(1, keepdim=True) / n.clamp(min=1.0)
        std = (((advantage - mean) * weight).square().sum(1, keepdim=True) / (n - 1.0).clamp(min=1.0)).sqrt()
        mean, std = mean.masked_fill(lone, 0.0), std.masked_fill(lone, 1.0)
    return mean, std + 1e-8


def _share(own: Tensor, own_valid: Tensor | None, whole: Tensor, valid: Tensor | None) -> Tensor:
    """Which share of the samples ``[R, B]`` that count are one's own, ``[R]``."""
    if own_valid is None or valid is None:
        return torch.full_like(whole[:, 0], own.shape[1] / whole.shape[1])
    return own_valid.sum(1) / valid.sum(1).clamp(min=1).to(whole.dtype)
