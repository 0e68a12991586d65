"""What confidence is good for: answering only when sure, and noticing what does not belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from entropic_rl.calibration.checks import Array, as_scores
from entropic_rl.errors import ConfigError

__all__ = ["Detection", "RiskCoverage", "detection", "ood_report", "ood_scores", "risk_coverage"]


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """The error rate among the most confident answers.

    Attributes:
        coverage: ``[N]``, share of rows that are answered, ascending.
        risk: ``[N]``, share of wrong answers among them; expected over random orders of ties.
        area: mean risk over all coverages.
        excess: that less the area of the same errors in the best order.
    """

    coverage: Array
    risk: Array
    area: float
    excess: float

    def at(self, coverage: float) -> float:
        """The risk when (at least) this share is answered."""
        answered = int(np.searchsorted(self.coverage, coverage - 1e-12))
        return float(self.risk[min(answered, len(self.risk) - 1)])


@dataclass(frozen=True, slots=True)
class Detection:
    """How well a score tells what does not belong: 0.5 and 0.95 by chance, 1 and 0 at best.

    Attributes:
        auroc: probability that an outsider scores higher than an insider, ties half.
        fpr95: share of the outsiders that pass at the threshold that lets (at least) 95 % of the insiders pass.
    """

    auroc: float
    fpr95: float


def risk_coverage(correct: ArrayLike, confidence: ArrayLike) -> RiskCoverage:
    """The risk-coverage curve of answers ``correct [N]`` with ``confidence [N]``.

    Source: Geifman & El-Yaniv (2017), https://arxiv.org/abs/1705.08500; the excess: Geifman et al. (2019),
    https://arxiv.org/abs/1805.08206.

    Raises:
        ConfigError: lengths differ, or a number is not finite.
    """
    wrong, scores = 1.0 - as_scores(correct, "correct"), as_scores(confidence, "confidence")
    if wrong.shape != scores.shape:
        raise ConfigError(f"expected one confidence per answer, got {len(scores)} and {len(wrong)}")
    n = len(scores)
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    share = np.bincount(group, wrong) / sizes  # of errors among equally confident rows
    count = np.arange(1, n + 1)
    risk = np.repeat(share, sizes).cumsum() / count
    best = np.maximum(wrong.sum() - (n - count), 0.0) / count
    return RiskCoverage(count / n, risk, float(risk.mean()), float((risk - best).mean()))


def detection(inside: ArrayLike, outside: ArrayLike) -> Detection:
    """How well scores, higher for what does not belong, tell ``inside [N]`` from ``outside [M]``.

    Raises:
        ConfigError: a score is not finite, or one side is empty.
    """
    ins, outs = np.sort(as_scores(inside, "inside")), as_scores(outside, "outside")
    below = np.searchsorted(ins, outs, side="left") + np.searchsorted(ins, outs, side="right")
    threshold = ins[int(np.ceil(0.95 * len(ins) - 1e-9)) - 1]
    return Detection(float(below.mean() / (2 * len(ins))), float((outs <= threshold).mean()))


def ood_scores(logits: Any) -> dict[str, Array]:
    """Scores of logits ``[N, C]``, ``[N]`` each, higher for what does not belong.

    ``max_probability`` is its negative, ``entropy`` nats, ``energy`` ``-logsumexp``. Source: Hendrycks & Gimpel (2017),
    https://arxiv.org/abs/1610.02136; Liu et al. (2020), https://arxiv.org/abs/2010.03759.

    Raises:
        ConfigError: they are no finite ``[N, C]``.
    """
    import torch

    from entropic_rl.entropy import categorical_entropy

    z = torch.as_tensor(logits).detach().to(torch.float64)
    if z.ndim != 2 or not z.isfinite().all():
        raise ConfigError(f"logits: expected finite numbers [N, C], got {tuple(z.shape)}")
    scores = {"max_probability": -z.softmax(1).amax(1), "entropy": categorical_entropy(z), "energy": -z.logsumexp(1)}
    return {name: score.cpu().numpy() for name, score in scores.items()}


def ood_report(inside: Any, outside: Any) -> dict[str, Detection]:
    """AUROC and FPR95 of every score of :func:`ood_scores`, for logits ``[N, C]`` of test data, ``[M, C]`` of others.

    Choose nothing by it: a detector that has seen the outsiders is another task.
    """
    ins, outs = ood_scores(inside), ood_scores(outside)
    return {name: detection(ins[name], outs[name]) for name in ins}
