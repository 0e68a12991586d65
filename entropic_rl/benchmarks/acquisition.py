"""How long scores of a large pool take, one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from entropic_rl.active.acquisition import bald, entropy, least_confidence, margin

__all__ = ["SCORES", "acquisition_row"]

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "least confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
    "BALD": bald,
}


def acquisition_row(name: str, n: int, *, members: int, classes: int, rounds: int) -> str:
    """A Markdown row: milliseconds of a score of ``n`` rows in float32, median and range of ``rounds``."""
    shape = (n, members, classes) if name == "BALD" else (n, classes)
    log_p = (2.0 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    SCORES[name](log_p)
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        SCORES[name](log_p)
        found.append(1e3 * (time.perf_counter() - began))
    sizes = " x ".join(f"{size:,}" for size in shape)
    return f"| {name} | {sizes} | {statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f}) |"
