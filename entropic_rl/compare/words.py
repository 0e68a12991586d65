"""Numbers as people write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from entropic_rl.compare.statistics import Estimate

__all__ = ["duration", "enumeration", "first_few", "interval", "memory", "number", "p_value", "steps"]


def number(x: float, digits: int = 3) -> str:
    """``0.0421``, ``41.3``, ``1,234``; a dash for NaN."""
    if math.isnan(x):
        return "-"
    if math.isinf(x):
        return "never" if x > 0 else "-inf"
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    text = f"{x + 0.0:.{digits}g}"  # -0 is 0
    if "e" not in text or abs(x) < 1e-6:
        return text
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(x))))
    fixed = f"{x:.{decimals}f}"
    return fixed.rstrip("0").rstrip(".") if decimals else fixed


def steps(x: float) -> str:
    """Environment steps: ``41.2k``, ``1.3M``."""
    if math.isnan(x) or math.isinf(x):
        return "never" if x > 0 else "-"
    if x >= 999_500:
        return f"{x / 1e6:.3g}M"
    return f"{x / 1e3:.3g}k" if x >= 1000 else f"{x:.0f}"


def interval(estimate: Estimate, form: object = number) -> str:
    """``41 [38, 47]``; without the brackets where there is no interval."""
    shown = form if callable(form) else number
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return str(shown(estimate.value))
    return f"{shown(estimate.value)} [{shown(estimate.low)}, {shown(estimate.high)}]"


def enumeration(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def first_few(words: Sequence[str], limit: int = 4) -> str:
    """The same of at most ``limit`` words, the rest counted: ``a, b, c, d and 7 more``."""
    return enumeration(words if len(words) <= limit + 1 else [*words[:limit], f"{len(words) - limit} more"])


def p_value(p: float) -> str:
    """``p = .031``, ``p < .001``."""
    return "-" if math.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def memory(n_bytes: float) -> str:
    """``512 MiB``, ``1.4 GiB``."""
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.2f} GiB"
