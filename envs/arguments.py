"""Checks of environments' arguments: an error that states the rule and the value."""

from __future__ import annotations

from typing import Any

import numpy as np

from entropic_rl.errors import EnvError

__all__ = ["check_count", "check_number"]


def check_count(name: str, value: Any, *, minimum: int, maximum: float = np.inf) -> None:
    """Refuse what is no whole number within the bounds.

    Raises:
        EnvError: with the name, the rule and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not minimum <= value <= maximum:
        most = "" if maximum == np.inf else f" and at most {maximum}"
        raise EnvError(f"{name}: expected a whole number of at least {minimum}{most}, got {value!r}")


def check_number(name: str, value: Any, *, minimum: float = -np.inf, maximum: float = np.inf) -> None:
    """Refuse what is no finite number within the bounds.

    Raises:
        EnvError: with the name, the rule and the value.
    """
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or not minimum <= value <= maximum:
        raise EnvError(f"{name}: expected a finite number from {minimum:g} to {maximum:g}, got {value!r}")
