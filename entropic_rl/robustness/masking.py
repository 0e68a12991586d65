"""Flags of masked gradients: signs that an attack fails where the model does not withstand.

Source: Athalye et al. (2018), section 3, https://arxiv.org/abs/1802.00420; Carlini et al. (2019),
https://arxiv.org/abs/1902.06705.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from torch import Tensor

from entropic_rl.robustness.curves import Curve

__all__ = ["Flag", "MaskingFlags", "masking_flags"]

_MARGIN, _LOSS_MARGIN = 0.01, 0.05  # losses differ a little on every model
_ROWS = 2.5  # by fewer than three rows attacks may differ by chance, however few there are
_DEAD, _UNSTEADY = 0.01, 0.0


@dataclass(frozen=True, slots=True)
class Flag:
    """One sign.

    Attributes:
        name: in words.
        measured: what it goes by, a share of rows; NaN where it was not looked for.
        limit: it is raised above.
        sentence: what was found.
    """

    name: str
    measured: float
    limit: float
    sentence: str

    @property
    def raised(self) -> bool:
        """Whether it says that gradients are masked."""
        return self.measured > self.limit


@dataclass(frozen=True, slots=True)
class MaskingFlags:
    """All signs, of one model.

    Attributes:
        dead_gradients: rows have a gradient of exactly zero, or none.
        fgsm_beats_pgd: one step does better than many.
        far_accuracy: there is accuracy left where a row may become any other.
        black_box_beats_white_box: noise or random search does better than gradients of the cross-entropy.
        transfer_beats_white_box: rows made for another model do better than gradients of this one's cross-entropy.
        cross_entropy_is_weak: PGD on the margin or on DLR does better than on the cross-entropy.
        unsteady_answers: the model answers at random.
    """

    dead_gradients: Flag
    fgsm_beats_pgd: Flag
    far_accuracy: Flag
    black_box_beats_white_box: Flag
    transfer_beats_white_box: Flag
    cross_entropy_is_weak: Flag
    unsteady_answers: Flag

    def __iter__(self) -> Iterator[Flag]:
        return (getattr(self, field.name) for field in fields(self))

    @property
    def raised(self) -> list[Flag]:
        """Those that are."""
        return [flag for flag in self if flag.raised]


def masking_flags(curve: Curve, run: int = 0) -> MaskingFlags:
    """The flags of one of the curve's runs; differences are the largest over its radii.

    Attacks are compared with PGD on the cross-entropy, the attack that most people report.
    """
    evidence, chance = curve.evidence, _ROWS / curve.fooled["fgsm"].shape[-1]
    margin, loss_margin = max(_MARGIN, chance), max(_LOSS_MARGIN, chance)
    dead, far, unsteady = (float(v[run]) for v in (evidence.dead, evidence.far, evidence.unsteady))
    white = _accuracy(curve, "pgd cross-entropy", run)
    alone, single = _accuracy(curve, "pgd iterates", run), _accuracy(curve, "fgsm", run)
    stronger = [_accuracy(curve, name, run) for name in ("pgd margin", "pgd dlr")]
    searched = [_accuracy(curve, name, run) for name in ("noise", "random search") if name in curve.fooled]
    lent = [_accuracy(curve, "transfer", run)] if "transfer" in curve.fooled else []
    by, at = {}, {}
    pairs = {
        "fgsm": (alone, [single]),
        "black": (white, searched),
        "transfer": (white, lent),
        "loss": (white, stronger),
    }
    for name, (own, others) in pairs.items():
        by[name], at[name] = _largest_gap(curve, own, others)
    return MaskingFlags(
        Flag("dead gradients", dead, _DEAD,
             f"{_percent(dead)} of the rows have a gradient of the cross-entropy that is zero or not finite"),
        Flag("FGSM beats PGD", by["fgsm"], margin,
             f"one step fools {_points(by['fgsm'])} more rows than PGD's iterates{at['fgsm']}"),
        Flag("accuracy far away", far, margin,
             f"PGD on the cross-entropy leaves {_percent(far)} accuracy at {evidence.far_eps:.3g}, where any row can "
             "become any other"),
        Flag("black box beats white box", by["black"], margin,
             f"noise or random search fools {_points(by['black'])} more than PGD on the cross-entropy{at['black']}"),
        Flag("transfer beats white box", by["transfer"], margin,
             f"rows made for another model fool {_points(by['transfer'])} more than PGD on the cross-entropy"
             f"{at['transfer']}" if lent else "no other model was given"),
        Flag("cross-entropy is weak", by["loss"], loss_margin,
             f"PGD on the margin or DLR fools {_points(by['loss'])} more rows than on the cross-entropy{at['loss']}"),
        Flag("unsteady answers", unsteady, _UNSTEADY,
             f"{_percent(unsteady)} of the rows get other logits when asked for again"),
    )  # fmt: skip


def _accuracy(curve: Curve, attack: str, run: int) -> Tensor:
    return curve.accuracy(attack)[:, run]


def _largest_gap(curve: Curve, own: Tensor, others: list[Tensor]) -> tuple[float, str]:
    """The most by which another attack leaves less accuracy, ``[K]`` each, and at which radius, in words."""
    if not others:
        return math.nan, ""
    gaps = [(float(own[k] - min(float(other[k]) for other in others)), eps) for k, eps in enumerate(curve.eps)]
    gap, eps = max(gaps)
    return gap, f" (at {eps:g})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"
