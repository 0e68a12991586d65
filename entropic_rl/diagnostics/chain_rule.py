"""The chain rule for one weight of a small classifier, factor by factor, each checked by finite differences.

A network of Linear and activation layers makes logits y of an input x, ``z1 = W1 x + b1, h1 = act(z1), ..., y``, and
``p = softmax(y)``. From the loss ``L - ent_coef H``, L the cross-entropy and H the entropy of p, two chains lead back
to a weight w and share all but their beginnings:

    dL/dw = dL/dy           . dy/dh . dh/dz . ... . dz/dw      dL/dy = p - onehot(target)
    dH/dw = dH/dp . dp/dy   . dy/dh . dh/dz . ... . dz/dw      dH/dp = -(log p + 1),  dp/dy = diag(p) - p p^T

The product of the first two factors of the entropy is the closed form ``-p (log p + H)`` of :mod:`entropic_rl.entropy`.

Source: Rumelhart, Hinton, Williams (1986), https://doi.org/10.1038/323533a0.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from entropic_rl.diagnostics.copies import double_copy, random_state_kept
from entropic_rl.diagnostics.differences import STEP, central_difference, jacobian_difference, relative_error
from entropic_rl.diagnostics.layers import Stage, stages_of
from entropic_rl.diagnostics.tables import trace_table
from entropic_rl.entropy import categorical_entropy
from entropic_rl.errors import ConfigError
from entropic_rl.losses import entropic_cross_entropy

__all__ = ["Chain", "ChainRule", "Factor", "trace_weight"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factor:
    """One derivative of a chain: ``value`` of the formula, ``difference`` without it; rows are what is derived."""

    symbol: str
    meaning: str
    value: Tensor
    difference: Tensor
    relative_error: float
    extrapolated: bool
    """Whether the finite difference combines two steps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """A derivative by the weight: its factors, their product, and what autograd and finite differences say."""

    symbol: str
    factors: tuple[Factor, ...]
    product: float
    autograd: float
    difference: float
    relative_error: float
    """Of the product, to the finite difference."""
    extrapolated: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChainRule:
    """One weight traced through the task and the entropy; ``print`` shows the table."""

    layer: int
    row: int
    column: int
    target: int
    ent_coef: float
    values: dict[str, Tensor]
    """Of one forward pass, in order: x, z1, h1, ..., y, p, each ``[units]``; then L and H, numbers in nats."""
    weights: tuple[Tensor, ...]
    """Of each Linear layer, ``[out, in]``."""
    depth: int
    """Which of them the traced weight belongs to, from 0."""
    task: Chain
    entropy: Chain
    entropy_by_logits: Factor
    """``dH/dy`` in closed form, the product of the entropy's first two factors."""
    total_autograd: float
    """Of the project's entropic loss, by autograd."""

    @property
    def total(self) -> float:
        """``dL/dw - ent_coef dH/dw`` from the products."""
        return self.task.product - self.ent_coef * self.entropy.product

    @property
    def worst(self) -> Factor:
        """The factor farthest from its finite difference."""
        factors = [*self.task.factors, *self.entropy.factors, self.entropy_by_logits]
        return max(factors, key=lambda factor: factor.relative_error)

    def __str__(self) -> str:
        return trace_table(self)


def trace_weight(
    network: nn.Sequential,
    x: Sequence[float] | Tensor,
    target: int,
    *,
    layer: int,
    row: int,
    column: int,
    ent_coef: float = 0.0,
    step: float = STEP,
) -> ChainRule:
    """Follow ``network[layer].weight[row, column]`` to the task loss and to the entropy, in float64, on a CPU copy.

    Factors are closed forms; of activations without one here, autograd's derivative. A finite difference across the
    kink of a ReLU (z within two steps of 0) is not its derivative, and the table shows it.

    Args:
        network: Linear layers with at most one activation after each but the last, whose outputs are the logits.
        x: ``[inputs]``, one row.
        target: class index.
        layer: place of a Linear layer in ``network``.
        row: output unit of the layer.
        column: input unit of the layer.
        ent_coef: nats of cross-entropy that a nat of entropy is worth.
        step: of the central differences.

    Raises:
        ConfigError: the network, the input, the target or the weight is not as above, the forward pass is random or not
            finite, or a probability rounds to 0.
    """
    with random_state_kept(), torch.enable_grad():
        stages, linear_places = stages_of(network)
        start = _input(x, stages[0].weight)
        values = _forward(stages, start)
        y, p = values["y"], values["y"].softmax(-1)
        _check(stages, values, target, ent_coef, step)
        depth = _depth(network, linear_places, layer, row, column)
        shared = _shared_factors(stages, values, linear_places[layer], row=row, column=column, step=step)
        label = torch.tensor(target)
        first = _difference("dL/dy", "p - onehot(target)", p - F.one_hot(label, len(p)),
                            of=lambda y: F.cross_entropy(y, label), at=y, step=step, size=y.abs().amax())  # fmt: skip
        gaps = y.max() - y  # -p (log p + H) = p (d - E_p d) keeps its digits where p is nearly 0 or 1
        by_p = _difference("dH/dp", "-(log p + 1)", -(p.log() + 1.0), of=lambda p: -p * p.log(), at=p,
                           step=(0.01 * p).clamp(max=step))  # fmt: skip
        by_y = _difference(
            "dp/dy", "diag(p) - p p^T", p.diag() - p.outer(p), of=lambda y: y.softmax(-1), at=y, step=step
        )
        by_logits = _difference("dH/dy", "both: -p (log p + H)", p * (gaps - p @ gaps), of=categorical_entropy, at=y,
                                step=step)  # fmt: skip
        gradients = _Gradients(network, start, target, ent_coef=ent_coef, layer=layer, row=row,
                               column=column, step=step)  # fmt: skip
        return ChainRule(
            layer=layer, row=row, column=column, target=target, ent_coef=ent_coef,
            values={**values, "p": p, "L": F.cross_entropy(y, label), "H": categorical_entropy(y)},
            weights=tuple(stage.weight for stage in stages if stage.weight is not None), depth=depth,
            task=gradients.chain("dL/dw", (first, *shared)),
            entropy=gradients.chain("dH/dw", (by_p, by_y, *shared)),
            entropy_by_logits=by_logits, total_autograd=gradients.total(),
        )  # fmt: skip


class _Gradients:
    """Derivatives of whole losses by the weight: autograd's, and finite differences."""

    def __init__(
        self, network: nn.Sequential, x: Tensor, target: int, *, ent_coef: float, layer: int, row: int, column: int,
        step: float,
    ) -> None:  # fmt: skip
        self._network, self._x, self._step, self._ent_coef = double_copy(network, "network").cpu(), x, step, ent_coef
        self._target, self._place = torch.tensor(target), (row, column)
        linear = self._network[layer]
        self._weight: Tensor = linear.get_parameter("weight").requires_grad_()

    def chain(self, symbol: str, factors: tuple[Factor, ...]) -> Chain:
        loss = self._cross_entropy if symbol == "dL/dw" else categorical_entropy
        product = reduce(operator.matmul, [factor.value for factor in factors])
        with torch.no_grad():
            size = loss(self._logits()).abs()
            difference, extrapolated = central_difference(lambda t: loss(self._logits(t)), self._step)
        return Chain(
            symbol=symbol, factors=factors, product=float(product), autograd=self._gradient(loss),
            difference=float(difference), extrapolated=extrapolated,
            relative_error=relative_error(difference, product, size=size),
        )  # fmt: skip

    def total(self) -> float:
        return self._gradient(lambda y: entropic_cross_entropy(y, self._target, ent_coef=self._ent_coef))

    def _cross_entropy(self, y: Tensor) -> Tensor:
        return F.cross_entropy(y, self._target)

    def _gradient(self, loss: Callable[[Tensor], Tensor]) -> float:
        (gradient,) = torch.autograd.grad(loss(self._logits()), self._weight)
        return float(gradient[self._place])

    def _logits(self, shift: float = 0.0) -> Tensor:
        if not shift:
            return self._network(self._x.clone())
        kept = self._weight.data[self._place].clone()
        self._weight.data[self._place] += shift
        y = self._network(self._x.clone())
        self._weight.data[self._place] = kept
        return y


def _shared_factors(
    stages: Sequence[Stage], values: dict[str, Tensor], place: int, *, row: int, column: int, step: float
) -> tuple[Factor, ...]:
    """From the logits back to the weight, which is in the stage at ``place``."""
    names = list(values)
    factors = []
    for i in range(len(stages) - 1, place, -1):
        stage, x = stages[i], values[names[i]]
        value = stage.weight if stage.weight is not None else stage.slope(x)
        if value is None:
            value = jacobian(stage.function, x)
        symbol = f"d{stage.name}/d{names[i]}"
        factors.append(_difference(symbol, stage.meaning, value, of=stage.function, at=x, step=step))
    stage, x, z = stages[place], values[names[place]], values[stages[place].name]
    weights = torch.zeros(len(z), len(x), dtype=z.dtype) if stage.weight is None else stage.weight
    entry = torch.zeros_like(weights)
    entry[row, column] = 1.0
    difference, extrapolated = central_difference(lambda t: F.linear(x, weights + t * entry), step)
    value = x[column] * F.one_hot(torch.tensor(row), len(z))
    error = relative_error(difference, value, size=z.abs().amax())
    meaning = f"{names[place]} at the weight"
    factors.append(Factor(symbol=f"d{stage.name}/dw", meaning=meaning, value=value, difference=difference,
                          relative_error=error, extrapolated=extrapolated))  # fmt: skip
    return tuple(factors)


def _difference(
    symbol: str,
    meaning: str,
    value: Tensor,
    *,
    of: Callable[[Tensor], Tensor],
    at: Tensor,
    step: float | Tensor,
    size: Tensor | float = 0.0,
) -> Factor:
    """``size``: of what ``of`` rounds on its way, where that is more than its values."""
    with torch.no_grad():
        steps = torch.as_tensor(step, dtype=at.dtype).expand(len(at))
        difference, extrapolated = jacobian_difference(of, at, steps)
        if difference.ndim > value.ndim:  # terms of a sum, taken apart so that large ones do not hide small ones
            difference = difference.sum(0)
        error = relative_error(difference, value, size=max(float(of(at).abs().amax()), float(size)))
    return Factor(symbol=symbol, meaning=meaning, value=value, difference=difference, relative_error=error,
                  extrapolated=extrapolated)  # fmt: skip


def _forward(stages: Sequence[Stage], x: Tensor) -> dict[str, Tensor]:
    values = {"x": x}
    with torch.no_grad():
        for stage in stages:
            x = stage.function(x)
            values[stage.name] = x
    return values


def _input(x: Sequence[float] | Tensor, first: Tensor | None) -> Tensor:
    n = 0 if first is None else first.shape[1]
    try:
        row = torch.as_tensor(x, dtype=torch.float64).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"x: expected one row of {n} finite numbers, got {x!r}; pass one row of the data") from error
    if row.shape != (n,) or not bool(row.isfinite().all()):
        raise ConfigError(f"x: expected one row of {n} finite numbers, got {row.tolist()}; pass one row of the data")
    return row


def _depth(network: nn.Sequential, linear_places: dict[int, int], layer: int, row: int, column: int) -> int:
    if layer not in linear_places:
        kind = type(network[layer]).__name__ if 0 <= layer < len(network) else "nothing"
        raise ConfigError(
            f"layer: expected the place of a Linear layer, one of {', '.join(map(str, linear_places))}, "
            f"got {layer}, which is {kind}; choose one of these"
        )
    rows, columns = network[layer].get_parameter("weight").shape
    if not (0 <= row < rows and 0 <= column < columns):
        raise ConfigError(
            f"row and column: expected a weight of network[{layer}], rows 0 to {rows - 1} and columns 0 to "
            f"{columns - 1}, got [{row}, {column}]; choose one in that range"
        )
    return list(linear_places).index(layer)


def _check(stages: Sequence[Stage], values: dict[str, Tensor], target: int, ent_coef: float, step: float) -> None:
    y = values["y"]
    if target not in range(len(y)):
        raise ConfigError(f"target: expected a class from 0 to {len(y) - 1}, got {target}; pass an index of the logits")
    if not (0.0 < step < 0.1 and math.isfinite(ent_coef)):
        raise ConfigError(
            f"step and ent_coef: expected 0 < step < 0.1 and a finite coefficient, got {step} and {ent_coef}; 1e-4 is "
            "the customary step"
        )
    if not bool(y.isfinite().all()):
        raise ConfigError(f"network: expected finite logits, got {y.tolist()}; look for weights that are not finite")
    if not torch.equal(_forward(stages, values["x"])["y"], y):
        raise ConfigError("network: expected the same logits twice, got others the second time; call network.eval()")
    if not bool((y.softmax(-1) > 0.0).all()):
        raise ConfigError("network: expected probabilities > 0, got one that rounds to 0; take smaller weights")
