"""Eigenvalues and traces of symmetric matrices that are known by their products alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from entropic_rl.diagnostics.hessians import SymmetricProduct, dense
from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

__all__ = ["Eigenvalue", "TraceProbes", "extreme_eigenvalues", "probe_traces"]

_SMALL = 64  # rows up to which the whole matrix costs no more than Lanczos's steps


@dataclass(frozen=True, slots=True)
class Eigenvalue:
    """An eigenvalue, and how far from one it can be at most: the residual ``|M v - value v|`` of its unit vector."""

    value: float
    residual: float


def extreme_eigenvalues(
    product: SymmetricProduct, n_eigenvalues: int = 1, *, largest: bool = True, seed: int = 0, tolerance: float = 1e-6
) -> list[Eigenvalue]:
    """The algebraically largest (or smallest) eigenvalues, the outermost first, by Lanczos's method.

    Args:
        product: the matrix.
        n_eigenvalues: how many; all where there are no more.
        largest: which end of the spectrum.
        seed: of the vector it begins with.
        tolerance: relative, where it stops.

    Source: Lehoucq, Sorensen & Yang (1998), ARPACK, by ``scipy.sparse.linalg.eigsh``.

    Raises:
        ConfigError: fewer than one is asked for, or Lanczos's method comes to no end.
    """
    if n_eigenvalues < 1:
        raise ConfigError(f"n_eigenvalues: expected at least 1, got {n_eigenvalues}; 1 gives the outermost")
    n = product.n
    if n <= max(_SMALL, 3 * n_eigenvalues):
        matrix = dense(product)
        values = torch.linalg.eigvalsh(0.5 * (matrix + matrix.T)).tolist()
        found = values[::-1] if largest else values
        return [Eigenvalue(float(value), 0.0) for value in found[:n_eigenvalues]]
    start = Stream([seed], "Lanczos").normal(n)[0].numpy()
    operator = LinearOperator((n, n), matvec=lambda v: _times(product, v), dtype=np.float64)
    try:
        values, vectors = eigsh(operator, n_eigenvalues, which="LA" if largest else "SA", v0=start, tol=tolerance)
    except ArpackNoConvergence as error:
        raise ConfigError(
            f"n_eigenvalues: expected Lanczos's method to find {n_eigenvalues}, got {len(error.eigenvalues)}; ask for "
            f"fewer, or with a larger tolerance than {tolerance:g}"
        ) from None
    order = np.argsort(values)[:: -1 if largest else 1]
    residuals = [float(np.linalg.norm(_times(product, vectors[:, i]) - values[i] * vectors[:, i])) for i in order]
    return [Eigenvalue(float(values[i]), residual) for i, residual in zip(order, residuals, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class TraceProbes:
    """What probes saw of K matrices, for the traces of all that are combined from them.

    Attributes:
        exact: ``[K]``, traces within the space that was looked at exactly.
        rest: ``[K, M]``, estimates of what is left by M independent probes; no columns where nothing is left.
    """

    exact: Tensor
    rest: Tensor

    def trace(self, weights: Sequence[float]) -> tuple[float, float]:
        """Of the sum of the K matrices with these ``weights``: an unbiased estimate, and its standard error."""
        w = torch.tensor(weights, dtype=torch.float64)
        each = w @ self.rest  # [M]
        value = float(w @ self.exact)
        if not len(each):
            return value, 0.0
        error = float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else math.nan
        return value + float(each.mean()), error


def probe_traces(products: Sequence[SymmetricProduct], n_probes: int = 12, *, seed: int = 0) -> TraceProbes:
    """Traces of K matrices by the same probes (Hutch++), so that they can be combined afterwards.

    A third of the probes spans a space Q by what the matrices make of it; the trace within Q is exact, that of the rest
    is estimated by the others, two thirds: ``tr M = tr Q^T M Q + E g^T (1 - Q Q^T) M (1 - Q Q^T) g``, g random signs.

    Args:
        products: the matrices, of one size.
        n_probes: products with each matrix that is spent on probes, >= 6 (and one per direction of Q besides).
        seed: of the probes.

    Source: Meyer, Musco, Musco & Woodruff (2021), https://arxiv.org/abs/2010.09649, algorithm 1. Differs: a third of
        the probes instead of a third of the products, and one Q for all K matrices.
    """
    if n_probes < 6:
        raise ConfigError(f"n_probes: expected at least 6, got {n_probes}; 12 is the default")
    n, n_sketch = products[0].n, n_probes // 3
    stream = Stream([seed], "trace probes")
    if n <= max(_SMALL, n_sketch * len(products)):
        exact = torch.stack([dense(product).diagonal().sum() for product in products])
        return TraceProbes(exact, exact.new_zeros(len(products), 0))
    sketch = _signs(stream, n_sketch, n)
    images = torch.stack([product(g) for product in products for g in sketch], 1)  # [n, K * n_sketch]
    basis = _basis(images)  # [n, q]
    exact = torch.stack([_quadratic(product, basis.T).sum() for product in products])
    probes = _signs(stream, n_probes - n_sketch, n)
    probes = probes - (probes @ basis) @ basis.T
    rest = torch.stack([_quadratic(product, probes) for product in products])
    return TraceProbes(exact, rest)


def _quadratic(product: SymmetricProduct, rows: Tensor) -> Tensor:
    """``g^T M g`` of each of the rows ``[m, n]``, ``[m]``."""
    return torch.stack([g @ product(g) for g in rows]) if len(rows) else rows.new_zeros(0)


def _basis(images: Tensor) -> Tensor:
    """Orthonormal columns of the space that ``images [n, q]`` span; images that are 0 count for none."""
    size = images.norm(dim=0)
    seen = images[:, size > 0.0]
    if not seen.shape[1]:
        return seen
    u, s, _ = torch.linalg.svd(seen / seen.norm(dim=0), full_matrices=False)
    return u[:, s > 1e-10 * s[0]]


def _signs(stream: Stream, n: int, width: int) -> Tensor:
    return (stream.bits(n, width)[0] & 1).to(torch.float64) * 2.0 - 1.0


def _times(product: SymmetricProduct, v: np.ndarray) -> np.ndarray:
    return np.asarray(product(torch.from_numpy(np.ascontiguousarray(v.reshape(-1)))))
