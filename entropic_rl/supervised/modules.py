"""Anyone's torch modules as networks of classifiers and regressors, called one after another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream

__all__ = ["Modules", "last_inputs"]


class Modules:
    """R modules of anyone's as one network, called one after another; their parameters are views of ``values``.

    Args:
        make: gives a module from ``[B, n_inputs]`` to ``[B, n_outputs]``; called once per run, under its seed, as
            torch's global generator has it (which is left as it was).
        n_inputs: D.
        n_outputs: numbers that come out.
        seeds: one per run.
        device: where parameters live.
        dtype: their type.

    Raises:
        ConfigError: what was made is no module, has no parameters or those of another run; when called, its outputs are
            not ``[B, n_outputs]``.
    """

    def __init__(
        self,
        make: Callable[[int, int], nn.Module],
        n_inputs: int,
        n_outputs: int,
        seeds: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._n_outputs, self.modules = n_outputs, list[nn.Module]()
        with torch.random.fork_rng():
            for seed in seeds:
                torch.manual_seed(seed % 2**63)
                self.modules.append(_checked(make(n_inputs, n_outputs)).to(device=device, dtype=dtype))
        self._tie()

    def _tie(self) -> None:
        """Make the parameters views of one tensor."""
        self._parameters = [[p for p in module.parameters() if p.requires_grad] for module in self.modules]
        owners = [id(p) for own in self._parameters for p in own]
        if len(set(owners)) < len(owners):
            raise ConfigError("module: expected new parameters for each member, got those of another member again")
        self.values = torch.stack([torch.cat([p.detach().flatten() for p in own]) for own in self._parameters])
        self.grads = torch.zeros_like(self.values)
        self.is_weight = torch.cat(
            [torch.full_like(p.detach().flatten(), p.ndim > 1).bool() for p in self._parameters[0]]
        )
        for row, own in zip(self.values, self._parameters, strict=True):
            nn.utils.vector_to_parameters(row, own)

    def __getstate__(self) -> tuple[int, list[nn.Module]]:
        """For copies and pickles, which would not keep parameters the views that they are."""
        return self._n_outputs, self.modules

    def __setstate__(self, state: tuple[int, list[nn.Module]]) -> None:
        self._n_outputs, self.modules = state
        self._tie()

    def __call__(self, x: Tensor, *, training: bool = False, noise: Stream | None = None) -> Tensor:
        """``x [R, B, in] -> [R, B, out]``; see :class:`Network`."""
        if noise is None:
            return self._stacked(
                [module.train(training)(rows) for module, rows in zip(self.modules, x, strict=True)], x
            )
        outputs = []
        with torch.random.fork_rng():
            for (seed,), module, rows in zip(noise.seeds(1), self.modules, x, strict=True):
                torch.manual_seed(seed)
                outputs.append(_with_dropout(module.train(training))(rows))
        return self._stacked(outputs, x)

    def embed(self, x: Tensor) -> Tensor:
        """What the last linear layer of each sees, ``[R, B, in] -> [R, B, width]``; see :func:`last_inputs`."""
        return torch.stack([last_inputs(module.eval(), rows) for module, rows in zip(self.modules, x, strict=True)])

    def _stacked(self, outputs: Sequence[Tensor], x: Tensor) -> Tensor:
        """What modules gave for ``x [R, B, in]``, ``[R, B, out]``."""
        expected = (x.shape[1], self._n_outputs)
        for output in outputs:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            if found != expected:
                raise ConfigError(f"module: expected outputs {expected} for {x.shape[1]} rows, got {found}")
        return torch.stack(list(outputs))

    def backward(self, loss: Tensor) -> None:
        """Differentiate ``loss [R]`` into ``grads``."""
        flat = [parameter for parameters in self._parameters for parameter in parameters]
        parts = torch.autograd.grad(loss.sum(), flat, allow_unused=True, materialize_grads=True)
        torch.cat([part.flatten() for part in parts], out=self.grads.view(-1))

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers, a run per row."""
        states = [module.state_dict() for module in self.modules]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave; parameters stay the views that they are."""
        for run, module in enumerate(self.modules):
            module.load_state_dict({name: rows[run] for name, rows in state.items()})

    def double(self) -> Modules:
        """A copy in float64."""
        twin = copy.deepcopy(self)
        for module in twin.modules:
            module.double()
        twin._tie()
        return twin


def last_inputs(module: nn.Module, x: Tensor) -> Tensor:
    """What the last ``nn.Linear`` that ``module`` calls is given for rows ``x [B, ...]``, ``[B, D]``.

    Where no layer is linear, ``x`` itself.
    """
    seen = [x]
    hooks = [
        part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for part in module.modules()
        if isinstance(part, nn.Linear)
    ]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[-1].flatten(1)


def _checked(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise ConfigError(f"module: expected a torch.nn.Module, or what makes one, got {type(module).__name__}")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(f"module: expected parameters to train, got {type(module).__name__} without any")
    return module


def _with_dropout(module: nn.Module) -> nn.Module:
    """With its dropout layers, and only those, as in training."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.train()
    return module
