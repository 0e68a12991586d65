"""How an entropy term bends a loss: eigenvalues and trace of ``loss - ent_coef * entropy`` over coefficients.

The Hessian is linear in the coefficient, ``H(c) = H_task - c H_entropy``, and so is its trace. The largest eigenvalue
is convex in c and the smallest concave: neither is the sum of the parts' own. A learning rate above
``2 / (largest eigenvalue)`` makes plain gradient descent diverge along that eigenvector, near a minimum
(LeCun, Simard & Pearlmutter 1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from entropic_rl.diagnostics.hessians import EntropyHessian, LossHessian, SymmetricProduct
from entropic_rl.diagnostics.spectrum import Eigenvalue, extreme_eigenvalues, probe_traces
from entropic_rl.diagnostics.tables import number_text, table
from entropic_rl.errors import ConfigError

__all__ = ["Combined", "Curvature", "CurvatureAt", "curvature"]


@dataclass(frozen=True, slots=True)
class Combined:
    """``task - ent_coef * entropy`` as one matrix."""

    task: SymmetricProduct
    entropy: SymmetricProduct
    ent_coef: float

    @property
    def n(self) -> int:
        """Parameters."""
        return self.task.n

    def __call__(self, v: Tensor) -> Tensor:
        """The product with ``v [n]``, ``[n]``."""
        product = self.task(v)
        return product - self.ent_coef * self.entropy(v) if self.ent_coef else product


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvatureAt:
    """The Hessian at one coefficient."""

    ent_coef: float
    largest: tuple[Eigenvalue, ...]
    smallest: Eigenvalue
    trace: float
    trace_error: float
    """Standard error of the trace; 0 where it is exact."""
    gradient_norm: float
    """Of ``loss - ent_coef * entropy``: away from 0 this is no minimum, whatever the curvature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curvature:
    """What was found, by coefficient; ``print`` shows it."""

    n_parameters: int
    task: float
    """The loss without its entropy term."""
    entropy: float
    """Mean entropy, nats."""
    entropy_trace: tuple[float, float, float]
    """Trace of the Hessian of the entropy, its standard error, and the share of it that is the Gauss-Newton part's."""
    by_coefficient: tuple[CurvatureAt, ...]

    def __str__(self) -> str:
        rows = [
            [f"{at.ent_coef:g}", ", ".join(number_text(e.value) for e in at.largest), number_text(at.smallest.value),
             _with_error(at.trace, at.trace_error), number_text(at.gradient_norm)]
            for at in self.by_coefficient
        ]  # fmt: skip
        trace, error, share = self.entropy_trace
        return (
            f"{self.n_parameters:,} parameters, loss {number_text(self.task)}, "
            f"entropy {number_text(self.entropy)} nats\n\n"
            f"{table(['ent_coef', 'largest eigenvalue', 'smallest', 'trace', 'gradient'], rows)}\n\n"
            f"trace of the entropy's Hessian: {_with_error(trace, error)}, of which {number_text(share)} Gauss-Newton"
        )


def curvature(
    module: nn.Module,
    loss: Callable[[Tensor], Tensor],
    *inputs: Any,
    ent_coefs: Sequence[float] = (0.0, 0.01, 0.1, 1.0),
    n_eigenvalues: int = 1,
    n_probes: int = 12,
    seed: int = 0,
) -> Curvature:
    """Eigenvalues and trace of ``loss(logits) - ent_coef * mean entropy of softmax(logits)``, by coefficient.

    ``logits = module(*inputs)``, of the module in its present mode; works on a copy in float64, so that the module, its
    gradients and buffers, the inputs and all generators stay as they are. Costs about 20 to 60 pairs of backward passes
    per coefficient, on all inputs at once: give it a batch of the size whose curvature you ask for.

    Args:
        module: its output is logits ``[..., A]``.
        loss: of the logits, a scalar without its entropy term.
        inputs: of the module.
        ent_coefs: coefficients of the entropy, nats of loss per nat.
        n_eigenvalues: how many of the largest.
        n_probes: of the trace, the same for all coefficients; 6 or more.
        seed: of the probes, and of the vector that Lanczos's method begins with.

    Raises:
        ConfigError: as :class:`entropic_rl.diagnostics.hessians.LossHessian`, or a coefficient is not finite.
    """
    if not ent_coefs or not all(math.isfinite(c) for c in ent_coefs):
        raise ConfigError(
            f"ent_coefs: expected one or more finite coefficients, got {list(ent_coefs)}; 0 is no entropy"
        )
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed: expected an integer from 0 to 2^64 - 1, got {seed}; 0 is the default")
    task, entropy = LossHessian(module, loss, *inputs), EntropyHessian(module, *inputs)
    probes = probe_traces((task, entropy, _GaussNewton(entropy)), n_probes, seed=seed)
    found = []
    for c in ent_coefs:
        hessian = Combined(task, entropy, c)
        trace, error = probes.trace((1.0, -c, 0.0))
        [smallest] = extreme_eigenvalues(hessian, 1, largest=False, seed=seed)
        found.append(CurvatureAt(
            ent_coef=c, largest=tuple(extreme_eigenvalues(hessian, n_eigenvalues, seed=seed)), smallest=smallest,
            trace=trace, trace_error=error, gradient_norm=float((task.gradient - c * entropy.gradient).norm()),
        ))  # fmt: skip
    trace, error = probes.trace((0.0, 1.0, 0.0))
    share = probes.trace((0.0, 0.0, 1.0))[0] / trace if trace else math.nan
    return Curvature(
        n_parameters=task.n, task=task.value, entropy=entropy.value, entropy_trace=(trace, error, share),
        by_coefficient=tuple(found),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _GaussNewton:
    """The Gauss-Newton part of an entropy's Hessian, as a matrix of its own."""

    entropy: EntropyHessian

    @property
    def n(self) -> int:
        """Parameters."""
        return self.entropy.n

    def __call__(self, v: Tensor) -> Tensor:
        """The product with ``v [n]``, ``[n]``."""
        return self.entropy.gauss_newton(v)


def _with_error(value: float, error: float) -> str:
    return f"{number_text(value)} +- {error:.2g}" if error else number_text(value)
