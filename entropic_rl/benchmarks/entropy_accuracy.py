"""How accurate float32 entropies are, ours and the two customary forms, against 50-digit arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from entropic_rl.entropy import categorical_entropy

__all__ = ["accuracy_table", "worst_errors"]

FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "lse - sum p z": lambda z: z.logsumexp(-1) - (z.softmax(-1) * z).sum(-1),
    "-sum p log p": lambda z: -(z.softmax(-1) * z.log_softmax(-1)).sum(-1),
    "torch.distributions": lambda z: torch.distributions.Categorical(logits=z).entropy(),
    "entropic_rl": categorical_entropy,
}


def accuracy_table(n_classes: int = 1000) -> str:
    """Relative errors at ``n_classes``, by logit offset and gap of the top logit, as a Markdown table."""
    cases = [(0.0, 12.0), (0.0, 25.0), (30.0, 17.0), (30.0, 25.0), (1000.0, 17.0), (-1000.0, 40.0)]
    lines = ["| offset / gap | true H | " + " | ".join(FORMS) + " |", "| --- " * (2 + len(FORMS)) + "|"]
    for offset, gap in cases:
        z = torch.randn(n_classes, generator=torch.Generator().manual_seed(0)) * 0.5 + offset
        z[0] = z.max() + gap
        exact = _exact(z)
        errors = [_relative_error(form(z), exact) for form in FORMS.values()]
        lines.append(f"| {offset:g} / {gap:g} | {float(exact):.1e} | " + " | ".join(f"{e:.1e}" for e in errors) + " |")
    return "\n".join(lines)


def worst_errors(n_rows: int = 3000) -> dict[str, Any]:
    """Largest relative errors over random float32 rows with H in [1e-20, log A], offsets up to +-1e3."""
    generator = torch.Generator().manual_seed(1)
    worst = dict.fromkeys(FORMS, 0.0)
    negative = dict.fromkeys(FORMS, 0)
    counted = 0
    while counted < n_rows:
        n_classes, kind = int(torch.randint(2, 65, (), generator=generator)), counted % 3
        draw = torch.rand(3, generator=generator).tolist()
        z = torch.randn(n_classes, generator=generator) * 10 ** (3 * draw[0] - 1.5)
        z[0] += 48 * draw[1]
        z = z + (2000 * draw[2] - 1000) * (kind > 0)
        exact = _exact(z)
        if exact < 1e-20:
            continue
        counted += 1
        for name, form in FORMS.items():
            value = form(z)
            worst[name] = max(worst[name], _relative_error(value, exact))
            negative[name] += int(value < 0)
    return {"rows": counted, "worst": worst, "negative": negative}


def _exact(z: Tensor) -> Any:
    import mpmath

    mpmath.mp.dps = 50
    values = [mpmath.mpf(x) for x in z.tolist()]
    top = max(values)
    weights = [mpmath.e ** (x - top) for x in values]
    total = sum(weights)
    return mpmath.log(total) + sum(w * (top - x) for w, x in zip(weights, values, strict=True)) / total


def _relative_error(value: Tensor, exact: Any) -> float:
    return float(abs(value.item() - exact) / exact) if math.isfinite(value.item()) else math.inf
