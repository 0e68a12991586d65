"""One forward pass of a torch module under observation: which layers compute, in which order, what their units do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from entropic_rl.diagnostics.copies import random_state_kept
from entropic_rl.diagnostics.units import unit_signals
from entropic_rl.errors import ConfigError, first_line

__all__ = ["Pass", "check_precision", "check_trainable", "layers_of", "observed_pass"]

_CHANNELS_FIRST = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.GroupNorm,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.PReLU,
)  # fmt: skip
_ACTIVATIONS: dict[Any, str] = {
    function: name
    for name, functions in {
        "relu": (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
        "tanh": (F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_),
        "sigmoid": (F.sigmoid, torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_),
        "gelu": (F.gelu,),
        "silu": (F.silu,),
        "elu": (F.elu,),
    }.items()
    for function in functions
}


class Pass:
    """What a forward pass gave.

    Attributes:
        output: of the module, one tensor.
        order: names of the layers in the order in which they computed first.
        units: layer -> signal -> ``[1]`` (:func:`entropic_rl.diagnostics.units.unit_signals`).
    """

    def __init__(self) -> None:
        self.output: Tensor
        self.order: list[str] = []
        self.units: dict[str, dict[str, Tensor]] = {}
        self._latest: tuple[str, nn.Module] | None = None

    def begins(self, name: str) -> None:
        """A layer is about to compute."""
        if name not in self.order:
            self.order.append(name)

    def ends(self, name: str, layer: nn.Module, output: Any) -> None:
        """It has; what holds other layers has no outputs of its own."""
        first = next(_tensors(output), None)
        if first is not None and not any(True for _ in layer.children()):
            self._latest = (name, layer)
            self.units[name] = unit_signals(_units_last(layer, first))

    def saw_activation(self, name: str, output: Tensor) -> None:
        """An activation has; it belongs to the layer before it."""
        if self._latest is not None and output.is_floating_point():
            layer, module = self._latest
            self.units[layer] = unit_signals(_units_last(module, output), name)


class _Activations(TorchFunctionMode):
    """Tells of every activation, as a module or as a function."""

    def __init__(self, tell: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._tell = tell

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _ACTIVATIONS:
            self._tell(_ACTIVATIONS[func], output)
        return output


def observed_pass(module: nn.Module, inputs: tuple[Any, ...]) -> Pass:
    """The module's output for ``inputs`` and what its layers did; buffers and random generators stay as they are.

    Raises:
        ConfigError: the module fails, or its output is not one tensor of numbers.
    """
    seen = Pass()
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with ExitStack() as stack:
        stack.enter_context(random_state_kept(module))
        for name, layer in layers_of(module).items():
            stack.callback(layer.register_forward_pre_hook(_beginning(seen, name)).remove)
            stack.callback(layer.register_forward_hook(_ending(seen, name)).remove)
        stack.enter_context(_Activations(seen.saw_activation))
        stack.enter_context(torch.enable_grad())
        try:
            copies = tuple(x.detach().clone() if isinstance(x, Tensor) else x for x in inputs)
            output = torch.func.functional_call(module, buffers, copies)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            raise ConfigError(
                f"module: expected to take the inputs, got {first_line(error)!r}; pass what it is called with, work "
                "in place on clones"
            ) from error
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = str(output.dtype) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(f"module: expected one tensor of numbers as its output, got {kind}; wrap the module so that "
                          "it returns what the loss needs")  # fmt: skip
    seen.output = output
    return seen


def layers_of(module: nn.Module) -> dict[str, nn.Module]:
    """The parts that have parameters of their own, by name; a module that is itself one is called as its class is."""
    return {
        name or type(module).__name__: layer
        for name, layer in module.named_modules()
        if any(True for _ in layer.parameters(recurse=False))
    }


def check_precision(tensors: Iterable[tuple[str, Tensor]], what: str) -> None:
    """Refuse half precision and complex numbers.

    Raises:
        ConfigError: naming the tensor.
    """
    for name, tensor in tensors:
        if tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype.itemsize < 4):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ConfigError(f"{what}: expected float32 or float64, got {kind} in {name!r}; convert it with .float()")


def check_trainable(module: Any) -> None:
    """Refuse what cannot be trained.

    Raises:
        ConfigError: no module, none of its parameters is trained, or one has no shape yet or too few digits.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"module: expected a torch.nn.Module, got {type(module).__name__}; wrap functions in one")
    lazy = [name for name, p in module.named_parameters() if isinstance(p, nn.UninitializedParameter)]
    if lazy:
        raise ConfigError(
            f"module: expected parameters that have a shape, got the lazy {lazy[0]!r}; call it once first"
        )
    if not any(p.requires_grad for p in module.parameters()):
        what = "only frozen ones" if any(True for _ in module.parameters()) else "none"
        raise ConfigError(
            f"module: expected parameters that are trained, got {what} in {type(module).__name__}; pass the layers "
            "that learn"
        )
    check_precision(module.named_parameters(), "module")


def _beginning(seen: Pass, name: str) -> Callable[[nn.Module, Any], None]:
    def tell(layer: nn.Module, _: Any) -> None:
        seen.begins(name)

    return tell


def _ending(seen: Pass, name: str) -> Callable[[nn.Module, Any, Any], None]:
    def tell(layer: nn.Module, _: Any, output: Any) -> None:
        seen.ends(name, layer, output)

    return tell


def _units_last(layer: nn.Module, output: Tensor) -> Tensor:
    """``[1, samples ..., units]`` of the outputs of one run's layer."""
    if isinstance(layer, _CHANNELS_FIRST) and output.ndim > 2:
        output = output.movedim(1, -1)
    return output.unsqueeze(0) if output.ndim > 1 else output.view(1, 1, -1)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _tensors(part)
