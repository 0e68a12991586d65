"""What is attacked: anything that gives differentiable logits, at rest while it is looked at, and left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from entropic_rl.errors import ConfigError
from entropic_rl.robustness.losses import AttackLoss

__all__ = ["Rows", "Victim", "at_rest", "fooled_by"]

Logits: TypeAlias = Callable[[Tensor], Tensor]

_SEED = 20_000  # of models that draw numbers of torch's when they answer


class Rows:
    """Rows and labels as an attack has them, ``[R, N, D]`` and ``[R, N]``, whatever shape they came in.

    Args:
        x: ``[N, ...]``, or ``[R, N, ...]`` for R models at once.
        y: classes of the rows, ``[N]`` or ``[R, N]``, which says how many axes of ``x`` are features.

    Raises:
        ConfigError: shapes do not go together, or labels are no whole numbers from 0 on.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        for name, value in {"x": x, "y": y}.items():
            if not isinstance(value, Tensor):
                raise ConfigError(f"{name}: expected a tensor, got {type(value).__name__}; use torch.as_tensor")
        if y.ndim not in (1, 2) or x.ndim <= y.ndim or x.shape[: y.ndim] != y.shape or not x.numel():
            raise ConfigError(
                f"expected rows x [N, ...] and labels y [N], or [R, N, ...] and [R, N], got {tuple(x.shape)} and "
                f"{tuple(y.shape)}"
            )
        if not x.is_floating_point():
            raise ConfigError(f"x: expected floating-point features, which gradients exist for, got {x.dtype}")
        if y.is_floating_point() or y.dtype == torch.bool or int(y.min()) < 0:
            raise ConfigError(f"y: expected classes as whole numbers from 0 on, got {y.dtype}, least {y.min().item()}")
        n_runs = y.shape[0] if y.ndim == 2 else 1
        self._x_shape, self._y_shape = x.shape, y.shape
        self.x = x.detach().reshape(n_runs, y.shape[-1], -1)
        self.y = y.detach().to(torch.int64).reshape(n_runs, -1)

    def features(self, x: Tensor) -> Tensor:
        """``[R, N, D]`` in the shape that rows came in."""
        return x.reshape(self._x_shape)

    def per_row(self, values: Tensor) -> Tensor:
        """``[R, N, ...]`` in the shape that labels came in."""
        return values.reshape(*self._y_shape, *values.shape[2:])


class Victim:
    """Logits of rows ``[R, N, D] -> [R, N, C]``, and gradients of losses of them with respect to the rows alone."""

    def __init__(self, logits: Logits, rows: Rows) -> None:
        self._logits, self._rows = logits, rows

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Logits of ``x [R, N, D]``."""
        return self._checked(x)

    def ascend(self, x: Tensor, loss: AttackLoss) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient ``[R, N, D]`` of each row's loss, the loss ``[R, N]`` and the logits ``[R, N, C]``.

        Raises:
            ConfigError: logits do not depend on the rows in a way that torch can differentiate.
        """
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._checked(x)
            value = loss(logits, self._rows.y)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
        if gradient is None:
            raise ConfigError(
                "model: expected logits that can be differentiated with respect to the rows, got some that do not "
                "depend on them; drop .detach(), torch.no_grad() and NumPy between the two"
            )
        return gradient, value.detach(), logits.detach()

    def _checked(self, x: Tensor) -> Tensor:
        try:
            logits = self._logits(self._rows.features(x))
        except RuntimeError as error:
            if "requires grad" not in str(error):
                raise
            raise ConfigError(
                "model: expected logits that can be differentiated with respect to the rows; it turns them into NumPy"
            ) from None
        shape = tuple(self._rows.per_row(self._rows.y).shape)
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or logits.shape[:-1] != shape or logits.shape[-1] < 2:
            raise ConfigError(f"model: expected logits [{', '.join(map(str, shape))}, C >= 2] as a tensor, got {found}")
        n_classes = logits.shape[-1]
        if int(self._rows.y.max()) >= n_classes:
            largest = int(self._rows.y.max())
            raise ConfigError(
                f"y: expected classes 0 to {n_classes - 1}, which the model has logits for, got {largest}"
            )
        return logits.reshape(*self._rows.y.shape, n_classes)


@contextmanager
def at_rest(model: Any, rows: Rows) -> Iterator[Victim]:
    """A model as a victim: in evaluation mode, its random numbers the same every time; afterwards all is as before.

    Args:
        model: a ``torch.nn.Module``, any function from rows (all of them, in the shape of ``x``) to logits, or what has
            a differentiable ``log_proba``, such as :class:`entropic_rl.calibration.EntropicClassifier`.
        rows: that it will be asked about.

    Raises:
        ConfigError: it is nothing of these.
    """
    logits = getattr(model, "log_proba", model)
    if not callable(logits):
        raise ConfigError(
            f"model: expected a torch module, an EntropicClassifier or a function from rows to logits, got "
            f"{type(model).__name__}"
        )
    modes = {part: part.training for part in model.modules()} if isinstance(model, nn.Module) else {}
    device = rows.x.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(_SEED)
        try:
            for part in modes:
                part.training = False
            yield Victim(logits, rows)
        finally:
            for part, mode in modes.items():
                part.training = mode


def fooled_by(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the likeliest class is not the label, or an answer is NaN; ``[..., C]`` and ``[...]`` to ``[...]``."""
    return (logits.argmax(-1) != labels) | logits.isnan().any(-1)
