"""Policy distributions over actions: pure views of network outputs, any leading shape.

Each takes its randomness as an argument (``noise`` from :mod:`entropic_rl.streams`), sums over action dimensions, and
gives entropies by closed form or quadrature, never by ``-log_prob`` of stored actions, whose expected gradient is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl import entropy as entropies

__all__ = ["Bernoulli", "Categorical", "Distribution", "Gaussian", "MultiDiscrete", "TanhGaussian"]

_NO_PRIOR = "a prior can be given for a Discrete or a Box action, not for several choices at once"


class Distribution(Protocol):
    """What an agent asks of a policy: ``[...]`` leading axes, actions ``[..., *event]``."""

    def sample(self, noise: Tensor) -> Tensor:
        """An action from standard noise of the kind and shape that the head asks for."""

    def mode(self) -> Tensor:
        """The most likely action (for tanh-Gaussian: the squashed mean)."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability or density, ``[...]``, summed over action dimensions."""

    def entropy(self) -> Tensor:
        """Entropy in nats, ``[...]``, summed over action dimensions."""

    def renyi_entropy(self, alpha: float) -> Tensor:
        """Renyi entropy of order ``alpha`` > 0 in nats, ``[...]``."""

    def kl_to_uniform(self) -> Tensor:
        """Divergence in nats from the uniform distribution over all (allowed) actions, ``[...]``.

        Raises:
            ValueError: there is none, because the actions are unbounded.
        """

    def kl_to_prior(self, prior: Tensor) -> Tensor:
        """Divergence in nats from ``prior [n]``: weights of the actions, or standard deviations around 0, ``[...]``.

        Raises:
            ValueError: this kind of distribution has no such prior.
        """


@dataclass(frozen=True, slots=True)
class Categorical:
    """One choice of A; ``logits, mask [..., A]`` (True = allowed), actions int64 ``[...]``, Gumbel noise."""

    logits: Tensor
    mask: Tensor | None = None

    def sample(self, noise: Tensor) -> Tensor:
        return (self._masked() + noise).argmax(-1)

    def mode(self) -> Tensor:
        return self._masked().argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self._masked().log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return entropies.categorical_entropy(self.logits, mask=self.mask)

    def renyi_entropy(self, alpha: float) -> Tensor:
        return entropies.renyi_entropy(self.logits, alpha, mask=self.mask)

    def kl_to_uniform(self) -> Tensor:
        return entropies.kl_to_uniform(self.logits, mask=self.mask)

    def kl_to_prior(self, prior: Tensor) -> Tensor:
        return entropies.categorical_kl(self.logits, prior, mask=self.mask)

    @property
    def probs(self) -> Tensor:
        """Probabilities ``[..., A]``."""
        return self._masked().softmax(-1)

    def _masked(self) -> Tensor:
        return entropies.masked_logits(self.logits, self.mask)


@dataclass(frozen=True, slots=True)
class MultiDiscrete:
    """Independent choices; ``logits [..., sum(nvec)]``, actions int64 ``[..., len(nvec)]``, Gumbel noise."""

    logits: Tensor
    nvec: tuple[int, ...]
    mask: Tensor | None = None

    def sample(self, noise: Tensor) -> Tensor:
        parts = zip(self._parts(), noise.split(self.nvec, -1), strict=True)
        return torch.stack([part.sample(part_noise) for part, part_noise in parts], -1)

    def mode(self) -> Tensor:
        return torch.stack([part.mode() for part in self._parts()], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        parts = zip(self._parts(), action.unbind(-1), strict=True)
        return torch.stack([part.log_prob(choice) for part, choice in parts]).sum(0)

    def entropy(self) -> Tensor:
        return entropies.multi_discrete_entropy(self.logits, self.nvec, mask=self.mask)

    def renyi_entropy(self, alpha: float) -> Tensor:
        return torch.stack([part.renyi_entropy(alpha) for part in self._parts()]).sum(0)

    def kl_to_uniform(self) -> Tensor:
        return torch.stack([part.kl_to_uniform() for part in self._parts()]).sum(0)

    def kl_to_prior(self, prior: Tensor) -> Tensor:
        raise ValueError(_NO_PRIOR)

    def _parts(self) -> list[Categorical]:
        logits = self.logits.split(self.nvec, -1)
        masks = [None] * len(self.nvec) if self.mask is None else self.mask.split(self.nvec, -1)
        return [Categorical(z, m) for z, m in zip(logits, masks, strict=True)]


@dataclass(frozen=True, slots=True)
class Bernoulli:
    """Independent yes/no choices; ``logits [..., D]``, actions int64 0/1 ``[..., D]``, uniform noise."""

    logits: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        return (noise < self.logits.sigmoid()).long()

    def mode(self) -> Tensor:
        return (self.logits > 0).long()

    def log_prob(self, action: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(self.logits, action.to(self.logits.dtype), reduction="none").sum(-1)

    def entropy(self) -> Tensor:
        return entropies.bernoulli_entropy(self.logits).sum(-1)

    def renyi_entropy(self, alpha: float) -> Tensor:
        return self._choices().renyi_entropy(alpha).sum(-1)

    def kl_to_uniform(self) -> Tensor:
        return self._choices().kl_to_uniform().sum(-1)

    def kl_to_prior(self, prior: Tensor) -> Tensor:
        raise ValueError(_NO_PRIOR)

    def _choices(self) -> Categorical:
        return Categorical(torch.stack([self.logits, torch.zeros_like(self.logits)], -1))


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Diagonal Gaussian; ``mean, log_std [..., D]``, actions ``[..., D]``, normal noise.

    Actions may leave the env's bounds, where they are clipped on the way out; density and entropy are those of the
    unclipped normal.
    """

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        standardised = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * standardised.square() - self.log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        return entropies.gaussian_entropy(self.log_std)

    def renyi_entropy(self, alpha: float) -> Tensor:
        return entropies.gaussian_renyi_entropy(self.log_std, alpha)

    def kl_to_uniform(self) -> Tensor:
        raise ValueError("an unbounded distribution has no divergence from a uniform one; squash it")

    def kl_to_prior(self, prior: Tensor) -> Tensor:
        return entropies.gaussian_kl(self.mean, self.log_std, prior)


@dataclass(frozen=True, slots=True)
class TanhGaussian:
    """Gaussian squashed by tanh into (-1, 1); ``mean, log_std [..., D]``, normal noise.

    Actions are kept *before* squashing, u ``[..., D]`` (the env adapter applies tanh): ``atanh`` of a float32 action
    cannot be undone near the bounds. ``log_prob(u) = log N(u) - sum log(1 - tanh(u)^2)``; the entropy is exact
    (quadrature).
    """

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        log_det = entropies.log_one_minus_tanh_squared(action).sum(-1)
        return Gaussian(self.mean, self.log_std).log_prob(action) - log_det

    def sample_and_log_prob(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`sample` and its :meth:`log_prob`, with the gradients of both in fewer steps.

        A sample standardised is the noise itself, which neither mean nor deviation moves.
        """
        action = self.sample(noise)
        log_density = torch.addcmul(-self.log_std, noise, noise, value=-0.5) - 0.5 * math.log(2.0 * math.pi)
        return action, (log_density - entropies.log_one_minus_tanh_squared(action)).sum(-1)

    def entropy(self) -> Tensor:
        return entropies.tanh_gaussian_entropy(self.mean, self.log_std.expand_as(self.mean))

    def renyi_entropy(self, alpha: float) -> Tensor:
        return entropies.tanh_gaussian_renyi_entropy(self.mean, self.log_std.expand_as(self.mean), alpha)

    def kl_to_uniform(self) -> Tensor:
        return self.mean.shape[-1] * math.log(2.0) - self.entropy()  # the uniform density on (-1, 1) is 1/2

    def kl_to_prior(self, prior: Tensor) -> Tensor:
        return entropies.gaussian_kl(self.mean, self.log_std.expand_as(self.mean), prior)
