"""Forward and backward of log-probabilities and entropies of logits: the operator, and what people write instead."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from entropic_rl.entropy import categorical_entropy, log_prob_and_entropy

__all__ = ["LARGE", "SMALL", "error_row", "has_compiler", "memory_row", "speed_row"]

Form = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
_SLICE = 2e-3  # seconds that a round gives to a form at least


def _of_log_softmax(z: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    log_p = z.log_softmax(-1)
    return log_p.gather(-1, index.unsqueeze(-1)).squeeze(-1), -(log_p.exp() * log_p).sum(-1)


def _of_entropy_module(z: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    return z.log_softmax(-1).gather(-1, index.unsqueeze(-1)).squeeze(-1), categorical_entropy(z)


def _of_categorical(z: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    distribution = torch.distributions.Categorical(logits=z)
    return distribution.log_prob(index), distribution.entropy()


def _of_cross_entropy(z: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    return (-F.cross_entropy(z, index, reduction="none"),)


def _compiled(z: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    return _compiler()(z, index)


@cache
def _compiler() -> Form:
    return torch.compile(_of_log_softmax, dynamic=False)


def _of_operator(z: Tensor, index: Tensor) -> tuple[Tensor, ...]:
    return log_prob_and_entropy(z, index)[:2]


SMALL: dict[str, Form] = {
    "operator": _of_operator,
    "log_softmax": _of_log_softmax,
    "categorical_entropy": _of_entropy_module,
    "Categorical": _of_categorical,
    "F.cross_entropy": _of_cross_entropy,
}
"""The operator, and the others: the last computes log-probabilities alone."""
LARGE: dict[str, Form] = {**SMALL, "torch.compile": _compiled}


def has_compiler() -> bool:
    """Whether ``torch.compile`` finds what it needs."""
    return any(shutil.which(name) for name in ("g++", "clang++"))


def speed_row(shape: tuple[int, int], forms: Sequence[str], rounds: int) -> str:
    """Forward and backward, gradients of both results given, in turn; on the threads that torch is set to.

    Returns:
        A Markdown row: shape, microseconds of the operator (median), and how many times as long each of the others took
        in the same round (median, lowest to highest).
    """
    z, index = _logits(shape)
    z.requires_grad_()
    given = torch.randn(shape[0], generator=torch.Generator().manual_seed(1))
    torch.compiler.reset()
    found = np.empty((rounds, len(forms)))
    calls = [_calls(LARGE[name], z, index, given) for name in forms]
    for i in range(rounds):
        for j, name in enumerate(forms):
            started = time.perf_counter()
            for _ in range(calls[j]):
                _both_ways(LARGE[name], z, index, given)
            found[i, j] = (time.perf_counter() - started) / calls[j]
    ratios = found[:, 1:] / found[:, :1]
    cells = [f"{np.median(r):.1f} ({r.min():.1f} to {r.max():.1f})" for r in ratios.T]
    return f"| {shape[0]:,} x {shape[1]:,} | {np.median(found[:, 0]) * 1e6:,.0f} | {' | '.join(cells)} |"


def _logits(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3.0 * torch.randn(shape, generator=generator), torch.randint(shape[1], shape[:1], generator=generator)


def _both_ways(form: Form, z: Tensor, index: Tensor, given: Tensor) -> Tensor:
    """Forward, and back with ``given [N]`` for the gradient of a loss by either result."""
    said = form(z, index)
    return torch.autograd.grad(said, z, (given,) * len(said))[0]


def _calls(form: Form, z: Tensor, index: Tensor, given: Tensor) -> int:
    """How many a round takes, after two that compile and take their memory."""
    for _ in range(2):
        _both_ways(form, z, index, given)
    started = time.perf_counter()
    _both_ways(form, z, index, given)
    return max(int(_SLICE / (time.perf_counter() - started)), 1)


def error_row(n_classes: int, forms: Sequence[str], n_rows: int = 256) -> str:
    """Largest relative errors over rows that are more and more peaked, against float64 and the operator's formulas.

    An error of a gradient is relative to the largest element of its row.

    Returns:
        A Markdown row: classes, and ``log-probability / entropy / gradient of both`` of each form.
    """
    z, index = _logits((n_rows, n_classes))
    gaps = torch.linspace(0.0, 35.0 + float(np.log(n_classes)), n_rows)
    best = torch.arange(n_rows) % n_classes
    z[torch.arange(n_rows), best] = z.amax(-1) + gaps  # what stands out more and more
    index[::2] = best[::2]
    torch.compiler.reset()
    wide = z.double().requires_grad_()
    exact = [x.detach() for x in _of_operator(wide, index)]
    given = torch.ones(n_rows)
    slope = _both_ways(_of_operator, wide, index, given.double())
    cells = []
    for name in forms:
        leaf = z.clone().requires_grad_()
        found = [x.detach().double() for x in LARGE[name](leaf, index)]
        errors = [float(((a - b).abs() / b.abs()).max()) for a, b in zip(found, exact, strict=False)]
        if len(found) == 2:
            off = (_both_ways(LARGE[name], leaf, index, given).double() - slope).abs().amax(-1)
            errors.append(float((off / slope.abs().amax(-1)).max()))
        cells.append(" / ".join(f"{error:.0e}" for error in errors))
    return f"| {n_classes:,} | {' | '.join(cells)} |"


def memory_row(shape: tuple[int, int], forms: Sequence[str]) -> str:
    """Memory beyond logits and indices at its peak, in units of the gradient; each form in a process of its own.

    Returns:
        A Markdown row: shape, and a number for each form.
    """
    context = multiprocessing.get_context("spawn")
    cells = []
    for name in forms:
        with context.Pool(1) as pool:
            cells.append(f"{pool.apply(_peak_beyond, (name, shape)) / (4 * shape[0] * shape[1]):.2f}")
    return f"| {shape[0]:,} x {shape[1]:,} | {' | '.join(cells)} |"


def _peak_beyond(name: str, shape: tuple[int, int]) -> int:
    """Bytes by which the process grows in a second call; the first is of two rows."""
    torch.set_num_threads(1)
    z, index = _logits(shape)
    given = torch.ones(shape[0])
    for rows in (slice(0, 2), slice(0, 2)):
        _both_ways(LARGE[name], z[rows].clone().requires_grad_(), index[rows], given[rows])
    torch.compiler.reset()
    z.requires_grad_()
    if name == "torch.compile":
        _both_ways(LARGE[name], z, index, given)
    # The peak so far is brought back, so that what comes on top is seen.
    missing = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - psutil.Process().memory_info().rss
    ballast = torch.ones(max(missing, 0) // 4 + 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _both_ways(LARGE[name], z, index, given)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before + 0 * len(ballast)
