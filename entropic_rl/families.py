"""Which entropy a coefficient weighs, as people write it: ``shannon``, ``tsallis:1.5``, ``kl-to-prior:0.7,0.3``.

No torch here: the command line reads and checks families before anything heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entropic_rl.errors import ConfigError
from entropic_rl.schedules import TargetEntropy, parse_coefficient, shortest

if TYPE_CHECKING:  # importing it takes a while, and a command line's help needs only the parser
    from entropic_rl.spaces import ActionSpec

__all__ = ["MAX_LOG_STD", "MIN_LOG_STD", "EntropyFamily", "check_entropy", "default_target", "highest_entropy"]

_ORDERED = ("tsallis", "renyi")
_PLAIN = ("shannon", "kl-to-uniform")
_EXPECTED = "shannon, tsallis:Q, renyi:ALPHA, kl-to-uniform or kl-to-prior:P1,P2,..."
MIN_LOG_STD, MAX_LOG_STD = -20.0, 2.0
"""Bounds of a Gaussian head's log standard deviation: an entropy bonus alone has no ceiling."""


@dataclass(frozen=True, slots=True)
class EntropyFamily:
    """An entropy to seek, or a divergence to avoid.

    Attributes:
        kind: ``shannon``, ``tsallis``, ``renyi``, ``kl-to-uniform`` or ``kl-to-prior``.
        order: of Tsallis (q) and Renyi (alpha), >= 0; 1 is Shannon's.
        prior: of ``kl-to-prior``: weights of the actions, or for Box actions the standard deviation of a Gaussian
            around 0 (one for all dimensions, or one each), in units where the bounds are -1 and 1.
    """

    kind: str = "shannon"
    order: float = 1.0
    prior: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> EntropyFamily:
        """Read a family with its parameter.

        Raises:
            ValueError: it is none, or its parameter is out of range.
        """
        kind, colon, parameter = str(text).partition(":")
        if kind in _PLAIN and not colon:
            return cls(kind)
        if kind in _ORDERED and colon:
            return cls(kind, order=_order(kind, parameter))
        if kind == "kl-to-prior" and colon:
            return cls(kind, prior=_prior(parameter))
        raise ValueError(f"expected {_EXPECTED}, got {text!r}")

    @property
    def is_divergence(self) -> bool:
        """Whether it is something to stay small, of which the coefficient weighs the negative."""
        return self.kind.startswith("kl-")

    @property
    def is_shannon(self) -> bool:
        """Whether it is Shannon's entropy."""
        return self.kind == "shannon" or (self.kind in _ORDERED and self.order == 1.0)

    def __str__(self) -> str:
        if self.kind in _ORDERED:
            return f"{self.kind}:{shortest(self.order)}"
        return self.kind + (":" + ",".join(map(shortest, self.prior)) if self.prior else "")


def default_target(action: ActionSpec) -> float:
    """Nats that ``auto`` aims at: half the maximum for discrete actions, -1 per dimension for Box actions.

    Half the maximum rather than 98 % of it, as in Christodoulou (2019), https://arxiv.org/abs/1910.07207: with few
    actions that is next to unreachable, and the coefficient grows without end.
    """
    return -float(action.n_outputs) if action.max_entropy is None else 0.5 * action.max_entropy


def highest_entropy(action: ActionSpec) -> float:
    """Nats that no policy of this head exceeds: of the uniform policy, or of the widest Gaussian there may be."""
    if action.max_entropy is not None:
        return action.max_entropy
    per_dimension = {
        "tanh-gaussian": math.log(2.0),  # uniform between the bounds
        "gaussian": MAX_LOG_STD + 0.5 * math.log(2.0 * math.pi * math.e),
    }
    return action.n_outputs * per_dimension[action.kind]


def check_entropy(config: Any, action: ActionSpec) -> None:
    """Refuse a family that the actions have not, a target that no policy reaches, and a unit that means nothing.

    Args:
        config: an agent's settings.
        action: the policy head.

    Raises:
        ConfigError: saying what is possible.
    """
    family, spec = EntropyFamily.parse(config.entropy), parse_coefficient(config.ent_coef)
    if config.entropy_in != "loss" and config.ent_coef_unit == "advantage":
        raise ConfigError(
            f"ent_coef_unit: entropy in the reward (--entropy-in {config.entropy_in}) is weighed in units of the "
            "reward, got advantage; use --ent-coef-unit reward"
        )
    if family.kind == "kl-to-uniform" and action.kind == "gaussian":
        raise ConfigError(
            "entropy: kl-to-uniform needs actions between bounds, and an unsquashed Gaussian's have none; "
            "add --squash-output"
        )
    if family.order == math.inf and action.kind == "tanh-gaussian":
        raise ConfigError("entropy: renyi:inf has no form for squashed actions; use a finite order, such as renyi:8")
    if family.kind == "kl-to-prior":
        _check_prior(family.prior, action)
    if isinstance(spec, TargetEntropy) and spec.nats is not None:
        _check_target(family, spec.nats, action)
    if isinstance(spec, TargetEntropy) and spec.nats is None and family.is_divergence:
        raise ConfigError(f"ent_coef: auto aims at an entropy, and {family} is a divergence; give it as target:NATS")


def _check_prior(prior: Sequence[float], action: ActionSpec) -> None:
    if action.is_continuous:
        if len(prior) not in (1, action.n_outputs):
            raise ConfigError(
                f"entropy: kl-to-prior expected 1 or {action.n_outputs} standard deviations, got {len(prior)}"
            )
    elif action.kind != "categorical":
        raise ConfigError(f"entropy: kl-to-prior needs Discrete or Box actions, got {action.kind} ones")
    elif len(prior) != action.n_outputs:
        raise ConfigError(f"entropy: kl-to-prior expected {action.n_outputs} weights, one per action, got {len(prior)}")


def _check_target(family: EntropyFamily, nats: float, action: ActionSpec) -> None:
    highest, lowest = highest_entropy(action), -math.inf if action.is_continuous else 0.0
    if family.is_divergence:
        lowest, highest = 0.0, math.inf if family.kind == "kl-to-prior" or action.is_continuous else highest
    if lowest < nats < highest:
        return
    name = "divergence" if family.is_divergence else "entropy"
    between = f"below {highest:.4g}" if lowest == -math.inf else f"> 0 and below {highest:.4g}"
    raise ConfigError(
        f"ent_coef: the target {name} has to be {between} nats, the maximum for these actions, got {nats:g}"
        if math.isfinite(highest)
        else f"ent_coef: the target {name} has to be > 0 nats, got {nats:g}"
    )


def _order(kind: str, text: str) -> float:
    order = _number(text)
    highest_is_open = kind == "renyi"  # infinity gives the min-entropy
    if not (order > 0.0 and (highest_is_open or order < math.inf)):
        raise ValueError(f"expected {kind}:X with X > 0 (1 is Shannon's entropy), got {kind}:{text}")
    return order


def _prior(text: str) -> tuple[float, ...]:
    numbers = tuple(_number(part) for part in text.split(","))
    if not all(0.0 < number < math.inf for number in numbers):
        raise ValueError(f"expected kl-to-prior:P1,P2,... with numbers > 0, got kl-to-prior:{text}")
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
