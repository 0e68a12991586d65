"""What was measured of two gradients, and the coefficient that follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropic_rl.diagnostics.tables import number_text, table
from entropic_rl.errors import ConfigError

__all__ = ["GradientNorms", "LayerNorms", "Norms", "Suggestion", "gathered", "norms_of", "suggestion"]

Norms = tuple[tuple[str, ...], Tensor, Tensor, Tensor]
"""Layers; of R runs by layer, norms of the task's and of the entropy's gradient ``[R, L]``; their cosine ``[R]``."""

_N_RESAMPLES = 2000
_NOTHING = 1e-10  # of the task's gradient, below which an entropy gradient is none


@dataclass(frozen=True, slots=True, eq=False)
class GradientNorms:
    """Norms of both gradients, of B minibatches from G independent rollouts or folds.

    Attributes:
        layers: names of L parts of the network.
        task: ``[B, L]``.
        entropy: ``[B, L]``, per unit of the coefficient.
        cosine: ``[B]``, between the descent of the task and the ascent of the entropy, over all layers.
        group: ``[B]``, which rollout or fold each came from.
        level: mean entropy, nats.
        highest: entropy of the uniform distribution; None for continuous actions.
    """

    layers: tuple[str, ...]
    task: np.ndarray
    entropy: np.ndarray
    cosine: np.ndarray
    group: np.ndarray
    level: float
    highest: float | None


def gathered(parts: Sequence[Norms], group: np.ndarray, *, level: float, highest: float | None) -> GradientNorms:
    """Minibatches one after another; ``group [B]`` says where each came from."""
    tensors = [torch.cat(own).cpu().numpy() for own in zip(*[part[1:] for part in parts], strict=True)]
    task, entropy, cosine = tensors
    return GradientNorms(parts[0][0], task, entropy, cosine, group, level, highest)


@dataclass(frozen=True, slots=True)
class LayerNorms:
    """Mean norms over minibatches, and what the coefficient would be if this layer were all."""

    name: str
    task: float
    entropy: float
    ent_coef: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A coefficient and its evidence; ``print`` shows both."""

    ent_coef: float
    low: float
    high: float
    """95 % interval over rollouts or folds: of what was measured, not of what is best."""
    share: float
    current: Any
    """The setting it would replace."""
    layers: tuple[LayerNorms, ...]
    """The last one is the whole network."""
    cosine: float
    """Mean, between what the task and what the entropy ask for: -1 where they pull against each other."""
    entropy: float
    highest: float | None
    n_batches: int
    source: str

    def __str__(self) -> str:
        rows = [
            [layer.name, number_text(layer.task), number_text(layer.entropy),
             number_text(layer.task / layer.entropy) if layer.entropy else "-", number_text(layer.ent_coef)]
            for layer in self.layers
        ]  # fmt: skip
        of_uniform = "" if self.highest is None else f" ({self.entropy / self.highest:.0%} of uniform)"
        head = ["layer", "|task gradient|", "|entropy gradient|", "ratio", f"ent_coef for a share of {self.share:g}"]
        return (
            f"{self.source}: {self.n_batches} minibatches, entropy {number_text(self.entropy)} nats{of_uniform}, "
            f"cosine of the gradients {self.cosine:.2f}\n\n{table(head, rows)}\n\n"
            f"ent_coef {number_text(self.ent_coef)} [{number_text(self.low)}, {number_text(self.high)}], in place of "
            f"{self.current}: a place to begin a search, such as --ent-coef 0 "
            f"{' '.join(number_text(self.ent_coef * factor) for factor in (0.1, 1.0, 10.0))}"
        )


def suggestion(norms: GradientNorms, share: float, current: Any, source: str) -> Suggestion:
    """The coefficient at which the entropy's gradient is ``share`` of the task's, with its evidence.

    Args:
        norms: what was measured.
        share: above 0.
        current: the setting it would replace.
        source: what was measured, for people.

    Raises:
        ConfigError: a gradient is not finite, or there is none of the entropy.
    """
    task, entropy = (np.sqrt((part**2).sum(1)) for part in (norms.task, norms.entropy))  # [B]
    if not (np.isfinite(task).all() and np.isfinite(entropy).all() and task.mean() > 0.0):
        raise ConfigError(f"source: expected finite gradients above 0, got a mean of {task.mean():g} for the task and "
                          f"{entropy.mean():g} for the entropy; look at the run's metrics")  # fmt: skip
    if entropy.mean() <= _NOTHING * task.mean():
        raise ConfigError(
            f"source: expected an entropy with a gradient, got {entropy.mean():g} at {norms.level:.3g} nats; measure a "
            "policy that is neither uniform nor settled"
        )
    groups = np.unique(norms.group)
    by_group = np.array([[part[norms.group == g].mean() for part in (task, entropy)] for g in groups])  # [G, 2]
    picks = np.random.default_rng(0).integers(len(groups), size=(_N_RESAMPLES, len(groups)))
    draws = by_group[picks].mean(1)
    value = share * by_group[:, 0].mean() / by_group[:, 1].mean()
    low, high = np.quantile(share * draws[:, 0] / draws[:, 1], [0.025, 0.975])
    columns = [*norms.task.T, task], [*norms.entropy.T, entropy]
    layers = [
        LayerNorms(name, float(t.mean()), float(h.mean()), float(share * t.mean() / h.mean()) if h.any() else math.inf)
        for name, t, h in zip((*norms.layers, "all"), *columns, strict=True)
    ]
    return Suggestion(
        ent_coef=float(value), low=float(low), high=float(high), share=share, current=current, layers=tuple(layers),
        cosine=float(norms.cosine.mean()), entropy=norms.level, highest=norms.highest, n_batches=len(task),
        source=source,
    )  # fmt: skip


def norms_of(layers: Sequence[str], task: Sequence[Tensor], entropy: Sequence[Tensor]) -> Norms:
    """Names of L layers, norms of both gradients by layer ``[R, L]``, and the cosine of descent and ascent ``[R]``.

    Args:
        layers: which one each parameter belongs to.
        task: gradients by parameter, ``[R, n]`` each.
        entropy: the same.
    """
    names = tuple(dict.fromkeys(layers))
    pairs = [
        [torch.cat([g for layer, g in zip(layers, own, strict=True) if layer == name], 1) for name in names]
        for own in (task, entropy)
    ]
    norms = [torch.stack([g.norm(dim=1) for g in own], 1) for own in pairs]  # [R, L]
    whole = [torch.cat(own, 1) for own in pairs]
    return names, norms[0], norms[1], torch.cosine_similarity(-whole[0], whole[1], dim=1)
