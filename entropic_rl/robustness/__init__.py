"""Attacks, corruptions, adversarial training, and what tells a robust classifier from one that looks so.

Names are loaded when they are first asked for: importing torch takes seconds, and the verb's settings need none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entropic_rl.robustness.attacks import Attacked, fgsm, pgd
    from entropic_rl.robustness.config import AttackConfig
    from entropic_rl.robustness.corruptions import corrupt, corruption_curve
    from entropic_rl.robustness.curves import Curve, robustness_curve
    from entropic_rl.robustness.masking import Flag, MaskingFlags, masking_flags
    from entropic_rl.robustness.training import AdversarialRows

__all__ = [
    "AdversarialRows",
    "AttackConfig",
    "Attacked",
    "Curve",
    "Flag",
    "MaskingFlags",
    "corrupt",
    "corruption_curve",
    "fgsm",
    "masking_flags",
    "pgd",
    "robustness_curve",
]

_HOMES = {
    "AdversarialRows": "training",
    "AttackConfig": "config",
    "Attacked": "attacks",
    "Curve": "curves",
    "Flag": "masking",
    "MaskingFlags": "masking",
    "corrupt": "corruptions",
    "corruption_curve": "corruptions",
    "fgsm": "attacks",
    "masking_flags": "masking",
    "pgd": "attacks",
    "robustness_curve": "curves",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
