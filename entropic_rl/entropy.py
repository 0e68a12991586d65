"""Entropies and divergences of policies and classifiers, in nats, from logits or parameters.

The only module that meets ``0 log 0``. Every function is right in value *and* gradient at the edges: peaked,
uniform, shifted and masked distributions, float16 to float64. Notation: logits z, p = softmax(z), k = argmax z,
gaps d = z_k - z >= 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from entropic_rl.continuous_entropy import (
    gaussian_entropy,
    gaussian_kl,
    gaussian_renyi_entropy,
    log_one_minus_tanh_squared,
    tanh_gaussian_entropy,
    tanh_gaussian_renyi_entropy,
)
from entropic_rl.entropy_operator.choice import Choice, log_prob_and_entropy
from entropic_rl.entropy_operator.masks import masked_logits
from entropic_rl.quadrature import gauss_legendre

__all__ = [
    "Choice",
    "bernoulli_entropy",
    "categorical_entropy",
    "categorical_entropy_gradient",
    "categorical_entropy_hvp",
    "categorical_kl",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_renyi_entropy",
    "kl_to_uniform",
    "log_one_minus_tanh_squared",
    "log_prob_and_entropy",
    "log_probs_entropy",
    "masked_logits",
    "multi_discrete_entropy",
    "mutual_information",
    "renyi_entropy",
    "tanh_gaussian_entropy",
    "tanh_gaussian_renyi_entropy",
    "tsallis_entropy",
    "tsallis_from_renyi",
]

_NEG_INF = float("-inf")
_LOWEST = torch.finfo(torch.float64).min
_LOG_OF_NOTHING = -1e4  # of a probability that is 0 in every format, finite so that 0 times it is 0
_GAP_OF_NOTHING = 800.0  # exp(-800) is 0 in every format, and 0 * 800 is 0 where 0 * inf is not


def categorical_entropy(logits: Tensor, *, mask: Tensor | None = None, temperature: float | Tensor = 1.0) -> Tensor:
    """Shannon entropy of softmax(logits / temperature), ``[..., A] -> [...]``.

    With the argmax k left out of the sums, ``s = sum_{j != k} exp(-d_j)`` and
    ``H = log1p(s) + sum_j exp(-d_j) d_j / (1 + s)``: both terms are >= 0, so nothing cancels. The relative error stays
    below 3e-7 in float32 down to H = 1e-20, where ``-sum p log p`` and ``lse(z) - sum p z`` lose every digit.
    Gradient: ``dH/dz = p (d - E_p d)`` (= -p (log p + H)); double backward is exact.

    Args:
        logits: ``[..., A]``, A >= 1; ``-inf`` means impossible and gets value 0 and gradient 0.
        mask: boolean, broadcastable to ``logits``; True = allowed.
        temperature: > 0, a number or a tensor broadcastable to ``[..., 1]``; differentiable, dH/dT = Var_p(z) / T^3.

    Raises:
        ValueError: a row of ``mask`` allows nothing, the mask is not boolean, or there is no action axis.
    """
    z = masked_logits(logits, mask)
    if isinstance(temperature, Tensor) or temperature != 1.0:
        z = _tempered(_at_least_float32(z), temperature)
    return _CategoricalEntropy.apply(z).to(logits.dtype)  # type: ignore[no-untyped-call]


def categorical_entropy_gradient(logits: Tensor) -> Tensor:
    """``dH/dz = p (d - E_p d)`` (= -p (log p + H)), ``[..., A] -> [..., A]``; 0 where ``-inf``."""
    p, centred = _centred_gaps(logits)
    return p * centred


def categorical_entropy_hvp(logits: Tensor, v: Tensor) -> Tensor:
    """Product of the Hessian of :func:`categorical_entropy` by the logits with ``v``, ``[..., A] -> [..., A]``.

    With the centred gaps ``c = d - E_p d``: ``p [(v - E_p v) (c - 1) - E_p(c v)]``. Where p is uniform the Hessian is
    ``-(diag(p) - p p^T)``, Fisher's information with a minus; elsewhere it is indefinite.

    Args:
        logits: ``[..., A]``; ``-inf`` means impossible and gets 0.
        v: the same shape.
    """
    p, centred = _centred_gaps(logits)
    drift = v - (p * v).sum(-1, keepdim=True)
    return p * (drift * (centred - 1.0) - (p * centred * v).sum(-1, keepdim=True))


def _centred_gaps(logits: Tensor) -> tuple[Tensor, Tensor]:
    """p and ``d - E_p d``, which is the surprise of each class beyond the mean one, ``[..., A]`` each."""
    gaps, allowed, _ = _gaps(logits)
    p = (-gaps).exp().where(allowed, torch.zeros_like(gaps))
    p = p / p.sum(-1, keepdim=True)
    return p, gaps - (p * gaps).sum(-1, keepdim=True)


def log_probs_entropy(log_p: Tensor) -> Tensor:
    """Shannon entropy of log-probabilities that are normalised already, ``[..., C] -> [...]``.

    ``-sum p log p`` in their own precision, a fourth of the time of :func:`categorical_entropy`: for ranking many rows.
    The error is absolute, about the rounding of 1; small entropies lose their digits.

    Args:
        log_p: ``[..., C]``; ``-inf`` is impossible.
    """
    return -(log_p.exp() * log_p.clamp(min=_LOG_OF_NOTHING)).sum(-1)


def multi_discrete_entropy(logits: Tensor, nvec: Sequence[int], *, mask: Tensor | None = None) -> Tensor:
    """Joint Shannon entropy of independent categoricals laid side by side, ``[..., sum(nvec)] -> [...]``."""
    masks = [None] * len(nvec) if mask is None else mask.split(list(nvec), -1)
    parts = logits.split(list(nvec), -1)
    return torch.stack([categorical_entropy(z, mask=m) for z, m in zip(parts, masks, strict=True)]).sum(0)


def bernoulli_entropy(logits: Tensor) -> Tensor:
    """Entropy of independent Bernoulli variables per element, ``[...] -> [...]``.

    ``H = log1p(exp(-|z|)) + |z| sigmoid(-|z|)``, both terms >= 0; gradient ``-z sigmoid(z) sigmoid(-z)``.
    """
    # A Bernoulli variable is a categorical one with logits (z, 0): one formula, one set of edge cases.
    return categorical_entropy(torch.stack([logits, torch.zeros_like(logits)], -1))


def categorical_kl(logits: Tensor, prior: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """KL(softmax(logits) || prior over the allowed actions), ``[..., A] -> [...]``.

    Args:
        logits: ``[..., A]``.
        prior: ``[A]``, weights > 0; they need not sum to 1.
        mask: as in :func:`categorical_entropy`; the prior is confined to what is allowed.
    """
    z = _at_least_float32(masked_logits(logits, mask))
    log_prior = masked_logits(prior.log().to(z.dtype).expand_as(z), mask).log_softmax(-1)
    log_p = z.log_softmax(-1)
    possible = log_p > _NEG_INF
    gap = log_p.masked_fill(~possible, 0.0) - log_prior.masked_fill(~possible, 0.0)
    return (log_p.exp() * gap).sum(-1).to(logits.dtype)


def renyi_entropy(logits: Tensor, alpha: float, *, mask: Tensor | None = None) -> Tensor:
    """Renyi entropy of order ``alpha`` >= 0, ``[..., A] -> [...]``; 1 is Shannon's, inf the min-entropy.

    ``R_a = log(sum p^a) / (1 - a)``. With s_a = sum_{j != k} exp(-a d_j) it is
    ``(log1p(s_a) - a log1p(s_1)) / (1 - a)``; near a = 1 that is 0/0 and the identity
    ``R_a = log1p(s_1) + mean over t in [a, 1] of E_t[d]`` (E_t under softmax(t z)) is used instead, by Gauss-Legendre.

    Raises:
        ValueError: ``alpha`` is negative or NaN, or a row of ``mask`` allows nothing.
    """
    if not alpha >= 0.0:
        raise ValueError(f"alpha must be >= 0, got {alpha}; 1 gives the Shannon entropy")
    if alpha == 1.0:
        return categorical_entropy(logits, mask=mask)
    z = _at_least_float32(masked_logits(logits, mask))
    gaps, allowed, is_top = _gaps(z)
    log_partition = torch.log1p(_rest(gaps, allowed & ~is_top, 1.0))
    if math.isinf(alpha):
        value = log_partition
    elif abs(alpha - 1.0) < 0.1:
        value = log_partition + _mean_gap_between(gaps, allowed, alpha)
    else:
        value = torch.log1p(_rest(gaps, allowed & ~is_top, alpha)) - alpha * log_partition
        value = value / (1.0 - alpha)
    return value.to(logits.dtype)


def tsallis_entropy(logits: Tensor, q: float, *, mask: Tensor | None = None) -> Tensor:
    """Tsallis entropy ``(1 - sum p^q) / (q - 1)`` of order ``q`` >= 0, ``[..., A] -> [...]``; 1 is Shannon's.

    Computed from the Renyi entropy of the same order, ``expm1((1 - q) R_q) / (1 - q)``, which keeps every digit near
    q = 1 and on peaked rows.

    Raises:
        ValueError: ``q`` is negative, NaN or infinite, or a row of ``mask`` allows nothing.
    """
    if not 0.0 <= q < math.inf:
        raise ValueError(f"q must be in [0, inf), got {q}; 1 gives the Shannon entropy")
    return tsallis_from_renyi(renyi_entropy(logits, q, mask=mask), q)


def tsallis_from_renyi(renyi: Tensor, q: float) -> Tensor:
    """Tsallis entropy of order ``q`` from the Renyi entropy of the same order, per element, ``[...] -> [...]``.

    ``S_q = expm1((1 - q) R_q) / (1 - q)``, for discrete and continuous variables alike. Renyi entropies of independent
    variables add up; Tsallis entropies do not, and are taken of the sum.
    """
    return renyi if q == 1.0 else torch.expm1((1.0 - q) * renyi) / (1.0 - q)


def kl_to_uniform(logits: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """KL(softmax(logits) || uniform over the allowed actions), ``[..., A] -> [...]``; equals log|A_valid| - H.

    That difference loses its digits for near-uniform rows, so with u = p |A| - 1 the sum of the non-negative terms
    ``((1 + u) log(1 + u) - u) / |A|`` is taken, u itself from expm1 of the gaps.
    """
    z = _at_least_float32(masked_logits(logits, mask))
    gaps, allowed, _ = _gaps(z)
    n_allowed = allowed.sum(-1, keepdim=True)
    deficit = torch.expm1(-gaps).where(allowed, torch.zeros_like(gaps))
    mean_deficit = deficit.sum(-1, keepdim=True) / n_allowed
    u = (deficit - mean_deficit) / (1.0 + mean_deficit)
    terms = _x_log_x_excess(u).where(allowed, torch.zeros_like(u))
    return (terms.sum(-1) / n_allowed.squeeze(-1)).to(logits.dtype)


def mutual_information(log_p: Tensor) -> Tensor:
    """Between class and member of K distributions, all as likely, ``[..., K, C] -> [...]``, nats, in [0, log K].

    ``I = H(mean_k p_k) - mean_k H(p_k)``, the generalised Jensen-Shannon divergence. That difference loses its digits
    where members nearly agree, so with m the mean and d = log(p_k / m) the mean over k of the sum over classes of the
    non-negative terms ``p_k d - m expm1(d)`` is taken.

    Args:
        log_p: log-probabilities, normalised; ``-inf`` is impossible.
    """
    wide = _at_least_float32(log_p)
    p = wide.exp()
    mean = p.mean(-2, keepdim=True)
    d = wide.clamp(min=_LOG_OF_NOTHING).sub_(mean.log().clamp_(min=_LOG_OF_NOTHING))
    d = d.clamp_(max=math.log(log_p.shape[-2]))  # which it is, unless all members have so little that m rounds to 0
    terms = (p * d).addcmul_(mean, torch.expm1(d), value=-1.0)
    return (terms.sum((-1, -2)) / log_p.shape[-2]).clamp(min=0.0).to(log_p.dtype)


def _tempered(z: Tensor, temperature: float | Tensor) -> Tensor:
    """``z / temperature``, shifted first so that an offset costs no digits, and safe where z is ``-inf``."""
    impossible = z == _NEG_INF
    top = z.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(z.dtype).min)
    return ((z.masked_fill(impossible, 0.0) - top) / temperature).masked_fill(impossible, _NEG_INF)


class _CategoricalEntropy(torch.autograd.Function):
    """Shannon entropy with its closed-form gradient (see :func:`categorical_entropy`)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        # Twice the digits inside: exp(-d) would inherit the rounding of d, 2e-6 at d = 50.
        wide = z.to(torch.float64)
        top, index = wide.max(-1, keepdim=True)
        # The clamp of the top makes a row without any possible entry worth 0, as are its gradients.
        gaps = (top.clamp(min=_LOWEST) - wide).clamp_(max=_GAP_OF_NOTHING)
        weights = (-gaps).exp_()
        rest = weights.scatter(-1, index, 0.0).sum(-1)
        total = 1.0 + rest
        mean_gap = (weights * gaps).sum(-1) / total
        ctx.save_for_backward(z, gaps, weights, total, mean_gap)
        return (torch.log1p(rest) + mean_gap).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        z, gaps, weights, total, mean_gap = ctx.saved_tensors
        if not torch.is_grad_enabled():
            slope = weights * (gaps - mean_gap.unsqueeze(-1))
            return (slope * (grad / total).unsqueeze(-1)).to(z.dtype)
        # A second derivative is wanted: the same formula as a function of z. It does not depend on the reference point,
        # so the maximum is a constant.
        impossible = z == _NEG_INF
        wide = z.to(torch.float64).masked_fill(impossible.all(-1, keepdim=True), 0.0)
        gaps = (wide.detach().amax(-1, keepdim=True) - wide).masked_fill(impossible, 0.0)
        p = wide.softmax(-1).masked_fill(impossible, 0.0)
        return (grad.unsqueeze(-1) * p * (gaps - (p * gaps).sum(-1, keepdim=True))).to(z.dtype)


def _at_least_float32(z: Tensor) -> Tensor:
    return z.to(torch.promote_types(z.dtype, torch.float32))


def _gaps(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiable gaps d = z_k - z (0 where impossible), and where rows are possible and where their top is."""
    allowed = z != _NEG_INF
    index = z.argmax(-1, keepdim=True)
    is_top = torch.zeros_like(allowed).scatter(-1, index, True)
    top = z.gather(-1, index)
    return top - torch.where(allowed, z, top.detach()), allowed, is_top


def _rest(gaps: Tensor, counted: Tensor, order: float) -> Tensor:
    """``sum over counted of exp(-order * gap)``, ``[..., A] -> [...]``."""
    return (-order * gaps).exp().where(counted, torch.zeros_like(gaps)).sum(-1)


def _mean_gap_between(gaps: Tensor, allowed: Tensor, alpha: float) -> Tensor:
    """Mean over t in [alpha, 1] of the expected gap under softmax(t z), ``[..., A] -> [...]``."""
    nodes, weights = gauss_legendre(12)
    total = torch.zeros_like(gaps[..., 0])
    for node, weight in zip(nodes, weights, strict=True):
        t = 0.5 * (1.0 + alpha) + 0.5 * (1.0 - alpha) * node
        powers = (-t * gaps).exp().where(allowed, torch.zeros_like(gaps))
        total = total + 0.5 * weight * (powers * gaps).sum(-1) / powers.sum(-1)
    return total


def _x_log_x_excess(u: Tensor) -> Tensor:
    """``(1 + u) log(1 + u) - u`` for u >= -1, by its series sum (-u)^k / (k (k - 1)) where that cancels."""
    small = u.abs() < 0.05
    tame = torch.where(small, u, torch.zeros_like(u))
    series = torch.zeros_like(u)
    for k in range(11, 1, -1):
        series = (1.0 / (k * (k - 1)) - tame * series) if k > 2 else 0.5 - tame * series
    wild = torch.where(small | (u <= -1.0), torch.ones_like(u), u)
    exact = (1.0 + wild) * torch.log1p(wild) - wild
    exact = torch.where(u <= -1.0, torch.ones_like(u), exact)
    return torch.where(small, tame.square() * series, exact)
