"""What happens to features without an enemy: noise, drift, loss. Rows are ``[R, N, D]``, severities in their units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from entropic_rl.config import suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.robustness.balls import as_box
from entropic_rl.robustness.victims import Rows, at_rest, fooled_by
from entropic_rl.streams import Stream

__all__ = ["CORRUPTIONS", "corrupt", "corruption_curve", "dropped", "gaussian", "on_sphere", "scaled", "shifted"]


def gaussian(x: Tensor, severity: float, stream: Stream) -> Tensor:
    """Independent normal noise of that standard deviation on every feature."""
    return x + severity * stream.normal(*x.shape[1:]).to(x.dtype)


def on_sphere(x: Tensor, severity: float, stream: Stream) -> Tensor:
    """A uniform point of the L2 sphere of that radius around each row."""
    direction = stream.normal(*x.shape[1:]).to(x.dtype)
    return x + severity * direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)


def shifted(x: Tensor, severity: float, stream: Stream) -> Tensor:
    """Every feature moved by that much, up or down, the same for all rows of a run: sensors that have drifted."""
    return x + severity * _signs(x, stream)


def scaled(x: Tensor, severity: float, stream: Stream) -> Tensor:
    """Every feature multiplied by ``1 + severity`` or divided by it, the same for all rows of a run."""
    return x * (1.0 + severity) ** _signs(x, stream)


def dropped(x: Tensor, severity: float, stream: Stream) -> Tensor:
    """That share of the features set to 0, others in each row; all of them from 1 on."""
    return x.masked_fill(stream.uniform(*x.shape[1:]) < severity, 0.0)


CORRUPTIONS: dict[str, Callable[[Tensor, float, Stream], Tensor]] = {
    "gaussian noise": gaussian,
    "noise on a sphere": on_sphere,
    "features shifted": shifted,
    "features scaled": scaled,
    "features dropped": dropped,
}


def corrupt(x: Tensor, kind: str, severity: float, stream: Stream, *, box: Sequence[float] | None = None) -> Tensor:
    """Corrupted rows ``[R, N, D]``, cut to the box.

    Raises:
        ConfigError: the kind is unknown, the severity negative, or a row outside the box.
    """
    if kind not in CORRUPTIONS:
        raise ConfigError(
            f"kind: expected one of {', '.join(CORRUPTIONS)}, got {kind!r}{suggestion(kind, CORRUPTIONS)}"
        )
    if not 0.0 <= severity < torch.inf:
        raise ConfigError(f"severity: expected a finite number >= 0, got {severity}")
    limits = as_box(box, x)
    return x.clone() if severity == 0.0 else CORRUPTIONS[kind](x, severity, stream).clamp(*limits)


def corruption_curve(
    model: Any,
    x: Tensor,
    y: Tensor,
    severities: Sequence[float],
    *,
    box: Sequence[float] | None = None,
    seeds: Sequence[int] = (0,),
) -> dict[str, Tensor]:
    """Accuracy by kind over S severities, ``[S, R]``; the random numbers are the same at every severity.

    Args:
        model: see :func:`entropic_rl.robustness.victims.at_rest`.
        x: ``[N, ...]`` or ``[R, N, ...]``.
        y: classes, ``[N]`` or ``[R, N]``.
        severities: >= 0.
        box: least and largest value of the features; no bounds if None.
        seeds: of R runs, or one for all.

    Raises:
        ConfigError: as :func:`corrupt`.
    """
    rows = Rows(x, y)
    found = {}
    with at_rest(model, rows) as victim:
        for kind in CORRUPTIONS:
            moved = [
                corrupt(rows.x, kind, severity, Stream(seeds, kind, device=rows.x.device), box=box)
                for severity in severities
            ]
            found[kind] = torch.stack([(~fooled_by(victim.logits(z), rows.y)).double().mean(-1) for z in moved])
    return found


def _signs(x: Tensor, stream: Stream) -> Tensor:
    return (2.0 * stream.uniform(1, x.shape[-1]) - 1.0).sign().to(x.dtype)
