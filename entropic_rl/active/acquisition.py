"""How much each unlabelled row is worth a label: pure functions of log-probabilities; higher is more wanted.

Scores take ``log_p [N, C]`` of one model, or ``[N, K, C]`` of K members or samples of dropout, which are averaged; what
needs the K apart says so. Everything is computed on detached tensors, in blocks that fit a cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from entropic_rl.entropy import log_probs_entropy, mutual_information, renyi_entropy, tsallis_entropy
from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

__all__ = [
    "bald",
    "density_weighted",
    "entropy",
    "expected_entropy_reduction",
    "least_confidence",
    "margin",
    "mixture",
    "random",
    "top",
]

_BLOCK = 2**18  # numbers that are worked on together


def random(n: int, stream: Stream) -> Tensor:
    """Uniform scores ``[n]``: the baseline that everything has to beat."""
    return stream.uniform(n)[0]


def least_confidence(log_p: Tensor) -> Tensor:
    """``1 - max p``, ``[N]``. Source: Lewis & Gale (1994), https://arxiv.org/abs/cmp-lg/9407020."""
    return -torch.expm1(mixture(log_p).amax(-1))


def margin(log_p: Tensor) -> Tensor:
    """The second largest probability less the largest, ``[N]``. Source: Scheffer et al. (2001), section 3."""
    columns = mixture(log_p).T.contiguous()
    best, second = torch.maximum(columns[0], columns[1]), torch.minimum(columns[0], columns[1])
    for column in columns[2:]:  # on a CPU several times as fast as a partial sort of every row
        second = torch.maximum(second, torch.minimum(best, column))
        best = torch.maximum(best, column)
    return second.exp() - best.exp()


def entropy(log_p: Tensor, family: str = "shannon", order: float = 1.0) -> Tensor:
    """Entropy of the averaged probabilities in nats, ``[N]``.

    Args:
        log_p: ``[N, C]`` or ``[N, K, C]``.
        family: ``shannon``, ``tsallis`` or ``renyi``.
        order: of the latter two, >= 0; 1 is Shannon's.

    Raises:
        ConfigError: there is no such family.
    """
    if family == "shannon":
        return _by_block(log_probs_entropy, mixture(log_p))
    if family not in ("tsallis", "renyi"):
        raise ConfigError(f"family: expected shannon, tsallis or renyi, got {family!r}")
    return (tsallis_entropy if family == "tsallis" else renyi_entropy)(mixture(log_p), order)


def bald(log_p: Tensor) -> Tensor:
    """What a label would tell about which of the K is right, ``[N, K, C] -> [N]``, nats, >= 0.

    ``I(y; k) = H(mean_k p) - mean_k H(p_k)``, computed as the mean divergence from the mean, of which nothing cancels.
    Source: Houlsby et al. (2011), eq. 2, https://arxiv.org/abs/1112.5745.

    Raises:
        ConfigError: there is no axis of members, or one member, which cannot disagree with itself.
    """
    _check_members("bald", log_p)
    return _by_block(mutual_information, log_p.detach())


def density_weighted(score: Tensor, embeddings: Tensor, *, beta: float = 1.0) -> Tensor:
    """``score * (mean similarity to the pool)^beta``, ``[N]``: uncertain rows that stand for many others.

    The similarity is half of one plus the cosine, between 0 and 1. Source: Settles & Craven (2008), eq. 13.

    Args:
        score: ``[N]``, >= 0.
        embeddings: ``[N, D]``, features of the pool.
        beta: how much density counts; 0 is none.
    """
    if score.shape != embeddings.shape[:1]:
        raise ConfigError(f"embeddings: expected one row per score, got {len(embeddings)} for {len(score)}")
    unit = embeddings.detach() / embeddings.detach().norm(dim=1, keepdim=True).clamp(min=1e-12)
    return score * (0.5 + 0.5 * unit @ unit.mean(0)).clamp(min=0.0) ** beta


def expected_entropy_reduction(log_p: Tensor, pool: Tensor | None = None) -> Tensor:
    """How much lower the mean entropy of the pool is expected to be once a row has its label, ``[N]``, nats.

    Nothing is trained again: a label reweighs the K members by how likely each had it, and the pool is answered by the
    mixture with those weights. The Bayesian form of Roy & McCallum (2001), "Toward optimal active learning through
    sampling estimation of error reduction".

    Args:
        log_p: ``[N, K, C]``, of the candidates.
        pool: ``[M, K, C]``, of the rows whose entropy counts; the candidates themselves if None. The cost is
            ``N C M K C``: a few hundred rows that stand for the others will do.

    Raises:
        ConfigError: there is no axis of members, or one member.
    """
    _check_members("expected_entropy_reduction", log_p)
    log_p = log_p.detach()
    rows = log_p if pool is None else pool.detach()
    before = log_probs_entropy(mixture(rows)).mean()
    members = rows.exp().transpose(0, 1)  # [K, M, C]

    def after(block: Tensor) -> Tensor:
        weights = block.transpose(1, 2).softmax(-1)  # [B, C, K], P(member | label)
        mixed = torch.einsum("bck,kmd->bcmd", weights, members)
        expected = log_probs_entropy(mixed.log()).mean(-1)  # [B, C]
        return (mixture(block).exp() * expected).sum(-1)

    size = max(1, 8 * _BLOCK // (rows.shape[0] * rows.shape[2] * log_p.shape[2]))
    return before - torch.cat([after(block) for block in log_p.split(size)])


def mixture(log_p: Tensor) -> Tensor:
    """Log-probabilities with members averaged, ``[N, C]``.

    Raises:
        ConfigError: the shape is another.
    """
    if log_p.ndim not in (2, 3) or log_p.shape[-1] < 2:
        raise ConfigError(f"log_p: expected [N, C] or [N, K, C] with C >= 2, got {tuple(log_p.shape)}")
    log_p = log_p.detach()
    if log_p.ndim == 2:
        return log_p
    return _by_block(lambda block: block.logsumexp(1) - math.log(block.shape[1]), log_p)


def top(score: Tensor, n: int, stream: Stream) -> Tensor:
    """The ``n`` rows of the highest ``score [N]``, best first, ``[n]``; ties in an order that the stream draws.

    Raises:
        ConfigError: more rows are wanted than there are, or a score is NaN.
    """
    if not 0 <= n <= len(score):
        raise ConfigError(f"expected at most the {len(score)} rows of the pool to be asked for, got {n}")
    if score.isnan().any():
        raise ConfigError(f"score: expected numbers, got NaN in row {int(score.isnan().int().argmax())}")
    shuffled = stream.permutation(len(score))[0].to(score.device)
    return shuffled[score[shuffled].argsort(descending=True, stable=True)[:n]]


def _check_members(name: str, log_p: Tensor) -> None:
    if log_p.ndim != 3 or log_p.shape[1] < 2:
        raise ConfigError(
            f"{name}: expected [N, K, C] of K >= 2 members or samples of dropout, got {tuple(log_p.shape)}; give "
            "n_members or mc_samples"
        )


def _by_block(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function`` of blocks of rows, joined."""
    size = max(1, _BLOCK // max(1, x[0].numel())) if len(x) else 1
    return torch.cat([function(block) for block in x.split(size)])
