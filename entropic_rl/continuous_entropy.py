"""Differential entropies and divergences of Gaussians and squashed Gaussians, in nats, summed over dimensions.

Closed forms where there are any, quadrature elsewhere; nothing is estimated from samples.
:mod:`entropic_rl.entropy` is the door to them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.quadrature import gauss_legendre, normal_trapezoid, on_device

__all__ = [
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_renyi_entropy",
    "log_one_minus_tanh_squared",
    "tanh_gaussian_entropy",
    "tanh_gaussian_renyi_entropy",
]


def gaussian_entropy(log_std: Tensor) -> Tensor:
    """Differential entropy of a diagonal Gaussian, ``[..., D] -> [...]``: sum of ``log std + log(2 pi e) / 2``."""
    return (log_std + 0.5 * math.log(2.0 * math.pi * math.e)).sum(-1)


def log_one_minus_tanh_squared(u: Tensor) -> Tensor:
    """``log(1 - tanh(u)^2)`` per element, without the cancellation of the literal form.

    ``2 (log 2 - |u| - softplus(-2|u|))``; at |u| = 20 the literal form returns -inf in float32.
    """
    magnitude = u.abs()
    return 2.0 * (math.log(2.0) - magnitude - F.softplus(-2.0 * magnitude))


def tanh_gaussian_entropy(mean: Tensor, log_std: Tensor) -> Tensor:
    """Differential entropy of ``tanh(mean + std * N(0, I))``, ``[..., D] -> [...]``, by quadrature.

    ``H = sum_d H_gauss(std_d) + E[log(1 - tanh(x)^2)]`` factorises over dimensions. With
    ``log(1 - tanh^2 x) = 2 log 2 - 2|x| - 2 softplus(-2|x|)`` the first two terms have closed forms (E|x| is the
    folded normal's mean) and only the last, which lives within |x| < 20, is integrated: over the standard normal for
    narrow policies, over x for wide ones. Absolute error < 1e-7 for every std from 1e-6 to 1e3, against a
    standard deviation of 0.2-5.8 nats for one Monte Carlo sample.
    """
    if mean.shape != log_std.shape:
        raise ValueError(
            f"mean and log_std must have the same shape, got {tuple(mean.shape)} and {tuple(log_std.shape)}; "
            "expand log_std first"
        )
    work = torch.promote_types(mean.dtype, torch.float32)
    mu, std = mean.to(work), log_std.to(work).exp()
    ratio = mu / (std * math.sqrt(2.0))
    mean_abs = std * math.sqrt(2.0 / math.pi) * (-ratio.square()).exp() + mu * torch.erf(ratio)
    log_det = 2.0 * (math.log(2.0) - mean_abs - _expected_softplus(mu, std))
    return (gaussian_entropy(log_std.to(work)) + log_det.sum(-1)).to(mean.dtype)


def gaussian_renyi_entropy(log_std: Tensor, alpha: float) -> Tensor:
    """Renyi entropy of order ``alpha`` > 0 of a diagonal Gaussian, ``[..., D] -> [...]``.

    Per dimension ``log std + log(2 pi) / 2 + log(alpha) / (2 (alpha - 1))``: Shannon's, but for a constant.
    Source: Gil, Alajaji & Linder (2013), table 2, https://doi.org/10.1016/j.ins.2013.06.018.
    """
    if alpha == 1.0:
        return gaussian_entropy(log_std)
    slope = 0.0 if math.isinf(alpha) else math.log(alpha) / (alpha - 1.0)
    return (log_std + 0.5 * math.log(2.0 * math.pi) + 0.5 * slope).sum(-1)


def tanh_gaussian_renyi_entropy(mean: Tensor, log_std: Tensor, alpha: float) -> Tensor:
    """Renyi entropy of order ``alpha`` in (0, inf) of ``tanh(mean + std * N(0, I))``, ``[..., D] -> [...]``.

    The density's power is that of a narrower Gaussian, so that per dimension ``log integral p^alpha = (1 - alpha)
    (log std + log(2 pi) / 2) - log(alpha) / 2 + log E[cosh(u)^(2 (alpha - 1))]`` with
    ``u ~ N(mean, std^2 / alpha)``, an expectation that the trapezoid rule takes in logarithms, on nodes wide enough for
    the mass that ``cosh`` moves outwards.

    Raises:
        ValueError: ``alpha`` is out of range.
    """
    if not 0.0 < alpha < math.inf:
        raise ValueError(f"alpha must be in (0, inf) for a tanh-Gaussian, got {alpha}")
    if alpha == 1.0:
        return tanh_gaussian_entropy(mean, log_std)
    work = torch.promote_types(mean.dtype, torch.float32)
    mu, log_std = mean.to(work), log_std.to(work)
    narrow = log_std.exp() / math.sqrt(alpha)
    reach = (8.5 + 2.0 * max(alpha - 1.0, 0.0) * narrow).detach().unsqueeze(-1)  # where the integrand is over
    node = torch.linspace(-1.0, 1.0, 257, dtype=work, device=mu.device)
    t = reach * node
    log_cosh = -0.5 * log_one_minus_tanh_squared(mu.unsqueeze(-1) + narrow.unsqueeze(-1) * t)
    exponent = 2.0 * (alpha - 1.0) * log_cosh - 0.5 * t.square()
    step = reach.squeeze(-1) * (2.0 / 256)
    log_mean = exponent.logsumexp(-1) + step.log() - 0.5 * math.log(2.0 * math.pi)
    log_power = (1.0 - alpha) * (log_std + 0.5 * math.log(2.0 * math.pi)) - 0.5 * math.log(alpha) + log_mean
    return (log_power / (1.0 - alpha)).sum(-1).to(mean.dtype)


def gaussian_kl(mean: Tensor, log_std: Tensor, prior_std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, prior_std^2)) summed over dimensions, ``[..., D] -> [...]``.

    With ``x = 2 (log std - log prior_std)`` it is the sum of ``(expm1(x) - x + (mean / prior_std)^2) / 2``. A bijection
    leaves it as it is: it is the divergence of the squashed distributions, too.
    """
    x = 2.0 * (log_std - prior_std.log())
    return 0.5 * (torch.expm1(x) - x + (mean / prior_std).square()).sum(-1)


_WIDE = 1.0  # standard deviation from which the integral over x is the smoother of the two


def _expected_softplus(mu: Tensor, std: Tensor) -> Tensor:
    """``E[softplus(-2|x|)]`` for x ~ N(mu, std^2), per element.

    The integrand has a kink at 0, so each half line is integrated by itself: over x in [0, 20] with the normal density
    where std is large, and there the substitution is smooth; where std is small the smooth function
    ``log1p(exp(-2x))`` is averaged over the normal by the trapezoid rule after the kink is taken out,
    ``softplus(-2|x|) = softplus(-2x) + 2 min(x, 0)``.
    """
    return torch.where(std < _WIDE, _softplus_narrow(mu, std), _softplus_wide(mu, std.clamp(min=_WIDE)))


def _softplus_narrow(mu: Tensor, std: Tensor) -> Tensor:
    t, weight = on_device(normal_trapezoid(49), mu.dtype, mu.device)
    std = std.clamp(max=_WIDE)
    x = mu.unsqueeze(-1) + std.unsqueeze(-1) * t
    smooth = (F.softplus(-2.0 * x) * weight).sum(-1)
    # E[min(x, 0)] in closed form.
    ratio = mu / std
    density = (-0.5 * ratio.square()).exp() / math.sqrt(2.0 * math.pi)
    return smooth + 2.0 * (mu * torch.special.ndtr(-ratio) - std * density)


def _softplus_wide(mu: Tensor, std: Tensor) -> Tensor:
    node, weight = on_device(gauss_legendre(40), mu.dtype, mu.device)
    x = 10.0 * (node + 1.0)
    mu, std = mu.unsqueeze(-1), std.unsqueeze(-1)
    right, left = (x - mu) / std, (-x - mu) / std
    density = ((-0.5 * right.square()).exp() + (-0.5 * left.square()).exp()) / (std * math.sqrt(2.0 * math.pi))
    return (10.0 * weight * F.softplus(-2.0 * x) * density).sum(-1)
