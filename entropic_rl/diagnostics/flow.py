"""Gradient flow of a torch module: what task and entropy do to every layer while it is trained, and what is wrong.

    flow = GradientFlow(module, optimizer)
    for x, labels in batches:
        flow.look(x, loss=lambda logits: F.cross_entropy(logits, labels), ent_coef=0.01)
        ...  # the step as always
    print(flow)

The gradient of ``loss - ent_coef * mean H`` is taken apart at the outputs z: the task's ``dL/dz`` and the entropy's in
closed form, ``dH/dz = -p (log p + H)``; each then goes back through the layers. Agents of this package have a watcher
of their own, :class:`entropic_rl.diagnostics.batch_flow.BatchFlow`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from entropic_rl.diagnostics.forward import Pass, check_precision, check_trainable, layers_of, observed_pass
from entropic_rl.diagnostics.record import DEFAULT_EVERY, FlowRecord, Rhythm, Series
from entropic_rl.diagnostics.signals import Layer, gradient_signals, stack_units, step_signals
from entropic_rl.diagnostics.tables import flow_table
from entropic_rl.diagnostics.verdicts import Verdict, Way
from entropic_rl.entropy import categorical_entropy
from entropic_rl.errors import ConfigError, first_line

__all__ = ["GradientFlow", "Split", "output_gradients", "split_gradient"]

_NO_PART = "it has no part in the loss"
_FROZEN = "its parameters do not require gradients"


class Split(NamedTuple):
    """The gradient of a loss at one batch, taken apart.

    Attributes:
        names: of the layers, in the order in which they compute.
        layers: where their parameters are in the rows below.
        parameters: in this order.
        task: ``[1, P]``.
        entropy: ``[1, P]``; None without an entropy term.
        seen: the forward pass.
        notes: layer -> why it has no gradient.
    """

    names: tuple[str, ...]
    layers: list[Layer]
    parameters: list[nn.Parameter]
    task: Tensor
    entropy: Tensor | None
    seen: Pass
    notes: dict[str, str]


class GradientFlow:
    """Watches a module being trained, by a look at every 40th step or so.

    A look computes the module once more, on copies of its buffers and with the random numbers that the step itself
    will have, and differentiates twice. Parameters, gradients, buffers, optimizer and generators stay as they are: the
    training is the same bit by bit. (State that a module keeps elsewhere, in a Python number say, does not.)

    Args:
        module: any, in either mode.
        optimizer: of its parameters; without it nothing is known of steps.
        every: steps between looks at first; in long trainings they become rarer.

    Raises:
        ConfigError: the module has nothing to train, or half precision.
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer | None = None, *, every: int = DEFAULT_EVERY) -> None:
        check_trainable(module)
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ConfigError(
                f"every: expected a whole number of steps from 1 on, got {every!r}; {DEFAULT_EVERY} is the default"
            )
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise ConfigError(f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}; leave it "
                              "out if there is none")  # fmt: skip
        self._module, self._optimizer = module, optimizer
        self._rhythm, self._step = Rhythm(every), -1
        self._record: FlowRecord | None = None
        self._pending: tuple[Split, Tensor] | None = None
        if optimizer is not None:
            optimizer.register_step_post_hook(lambda *_: self._finish())

    def look(
        self,
        *inputs: Any,
        loss: Callable[[Tensor], Tensor],
        ent_coef: float = 0.0,
        entropy: Callable[[Tensor], Tensor] = categorical_entropy,
        step: int | None = None,
    ) -> bool:
        """Call once per step, before the module is; returns whether it was looked at.

        Args:
            inputs: what the module is called with.
            loss: of the module's output, without the entropy; one number.
            ent_coef: weight of the mean entropy, which is subtracted from the loss.
            entropy: of the module's output, one number or one per sample; that of a softmax over the last axis.
            step: place on the time axis; by default looks are numbered by calls.

        Raises:
            ConfigError: the module does not take the inputs, the loss is no finite number's tensor or does not depend
                on the module, an input has half precision.
        """
        self._step += 1
        if not self._rhythm.is_due():
            return False
        split = split_gradient(self._module, inputs, loss, ent_coef=ent_coef, entropy=entropy)
        self._pending = (split, _flat(split.parameters))
        self._at = self._step if step is None else step
        if self._optimizer is None:
            self._finish()
        return True

    def series(self) -> Series:
        """All that was seen, and the verdicts.

        Raises:
            ConfigError: nothing was looked at.
        """
        if self._pending is not None:
            self._finish(stepped=False)
        series = None if self._record is None else self._record.series(0)
        if series is None:
            raise ConfigError("flow: expected a look, got none; call look(...) before the steps of the training")
        return series

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One per layer."""
        return self.series().verdicts

    def __str__(self) -> str:
        return flow_table(self.series())

    @torch.no_grad()
    def _finish(self, *, stepped: bool = True) -> None:
        """The look that is under way, after its step."""
        if self._pending is None:
            return
        (split, before), self._pending = self._pending, None
        signals = gradient_signals(split.layers, before, split.task, split.entropy)
        if self._optimizer is not None and stepped:
            after, scale = _flat(split.parameters), _scale(self._optimizer, split.parameters)
            signals |= step_signals(split.layers, before, after, task=split.task, entropy=split.entropy, scale=scale)
        else:
            unknown = torch.full_like(signals["task_norm"], torch.nan)
            signals |= {"update_ratio": unknown, "entropy_share": unknown}
        signals |= stack_units(split.layers, split.seen.units, signals["task_norm"])
        if self._record is None or self._record.layers != split.names:
            last = len(split.names) - 1
            ways = [Way(tuple(range(i + 1, last + 1)), (last,)) for i in range(last)]
            self._record = FlowRecord(split.names, [*ways, Way()], self._rhythm, split.notes)
        self._record.add(self._at, signals)


def split_gradient(
    module: nn.Module,
    inputs: tuple[Any, ...],
    loss: Callable[[Tensor], Tensor],
    *,
    ent_coef: float = 0.0,
    entropy: Callable[[Tensor], Tensor] = categorical_entropy,
) -> Split:
    """The gradients of ``loss(output)`` and of ``-ent_coef * mean entropy(output)`` by every parameter of a module.

    Nothing of the module is changed. See :meth:`GradientFlow.look` for arguments and errors.
    """
    check_trainable(module)
    check_precision([(f"input {i}", x) for i, x in enumerate(inputs) if isinstance(x, Tensor)], "inputs")
    seen = observed_pass(module, inputs)
    names, layers, parameters = _layers(module, seen.order)
    at_output, of_entropy = output_gradients(seen.output, loss, ent_coef=ent_coef, entropy=entropy)
    trained = [p for p in parameters if p.requires_grad]
    task = _backward(seen.output, at_output, trained, keep=of_entropy is not None)
    notes = _notes(module, names, trained, task)
    if all(part is None for part in task):
        raise ConfigError("loss: expected to depend on the module's output, got a gradient of None for every "
                          "parameter; compute the output with them")  # fmt: skip
    by_entropy = None
    if of_entropy is not None:
        by_entropy = _row(_backward(seen.output, of_entropy, trained, keep=False), trained, parameters)
    return Split(tuple(names), layers, parameters, _row(task, trained, parameters), by_entropy, seen, notes)


def output_gradients(
    output: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    ent_coef: float,
    entropy: Callable[[Tensor], Tensor] = categorical_entropy,
) -> tuple[Tensor, Tensor | None]:
    """Where the backward passes begin: gradients of the task and of ``-ent_coef * mean entropy`` by a module's output.

    Both have the shape of ``output``; the second is None for a coefficient of 0.
    """
    if not output.requires_grad:
        raise ConfigError("module: expected an output that depends on its parameters, got one that does not; do not "
                          "detach it, nor compute it under no_grad")  # fmt: skip
    by_task = _by_output(output, loss)
    if not ent_coef:
        return by_task, None
    return by_task, _by_output(output, lambda z: -ent_coef * entropy(z).mean(), "entropy")


def _by_output(output: Tensor, loss: Callable[[Tensor], Tensor], what: str = "loss") -> Tensor:
    """Its gradient by the output, in the output's shape."""
    at = output.detach().clone().requires_grad_()
    with torch.enable_grad():
        try:
            value = loss(at)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{what}: expected to take the module's output {tuple(output.shape)}, got "
                              f"{first_line(error)!r}; give a function of the output alone") from error  # fmt: skip
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{what}: expected one real number as a tensor, got {got}; take the mean or the sum")
        if not value.requires_grad:
            raise ConfigError(f"{what}: expected to depend on the module's output, got a constant; compute it from "
                              "the argument, without detach or .item()")  # fmt: skip
        (gradient,) = torch.autograd.grad(value.reshape(()), at, allow_unused=True)
    return torch.zeros_like(at) if gradient is None else gradient


def _backward(
    output: Tensor, at_output: Tensor, parameters: list[nn.Parameter], *, keep: bool
) -> tuple[Tensor | None, ...]:
    try:
        return torch.autograd.grad(output, parameters, at_output, allow_unused=True, retain_graph=keep)
    except RuntimeError as error:
        raise ConfigError(f"module: expected a backward pass, got {first_line(error)!r}; leave out work in place on "
                          "what gradients need") from error  # fmt: skip


def _layers(module: nn.Module, order: list[str]) -> tuple[list[str], list[Layer], list[nn.Parameter]]:
    """Names of layers as they compute (those that nobody called after the one before them), their parameters."""
    own = {name: list(layer.parameters(recurse=False)) for name, layer in layers_of(module).items()}
    names, registered = list(order), list(own)
    for i, name in enumerate(registered):
        if name not in names:
            names.insert(names.index(registered[i - 1]) + 1 if i else 0, name)
    layers, parameters, start = list[Layer](), list[nn.Parameter](), 0
    known: set[int] = set()
    for name in names:
        new = [p for p in own[name] if id(p) not in known]
        known |= {id(p) for p in new}
        stop = start + sum(p.numel() for p in new)
        layers.append(Layer(name, slice(start, stop)))
        parameters += new
        start = stop
    kept = [(layer.name, layer) for layer in layers if layer.n_parameters]  # tied ones belong to the first
    return [name for name, _ in kept], [layer for _, layer in kept], parameters


def _notes(
    module: nn.Module, names: list[str], trained: list[nn.Parameter], gradients: tuple[Tensor | None, ...]
) -> dict[str, str]:
    """Why layers have no gradient, of those that have none."""
    without = {id(p) for p, gradient in zip(trained, gradients, strict=True) if gradient is None}
    learning = {id(p) for p in trained} - without
    notes = {}
    for name, layer in layers_of(module).items():
        own = {id(p) for p in layer.parameters(recurse=False)}
        if not learning & own:
            notes[name] = _NO_PART if own & without else _FROZEN
    return {name: note for name, note in notes.items() if name in names}


def _row(gradients: tuple[Tensor | None, ...], trained: list[nn.Parameter], parameters: list[nn.Parameter]) -> Tensor:
    """Gradients of all parameters side by side, ``[1, P]``; 0 where there is none."""
    found = {id(p): gradient for p, gradient in zip(trained, gradients, strict=True)}
    parts = [found.get(id(p)) for p in parameters]
    filled = [torch.zeros_like(p) if part is None else part for p, part in zip(parameters, parts, strict=True)]
    return torch.cat([part.detach().flatten() for part in filled]).unsqueeze(0)


def _flat(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters]).unsqueeze(0)


def _scale(optimizer: Optimizer, parameters: list[nn.Parameter]) -> Tensor:
    """What the last step multiplied gradients by, but for a number common to a group: ``[1, P]``."""
    parts = []
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for p in parameters:
        group, state = groups.get(id(p), {}), optimizer.state.get(p, {})
        second, correction = state.get("square_avg"), 1.0
        if "exp_avg_sq" in state:
            second = state.get("max_exp_avg_sq", state["exp_avg_sq"])
            correction = 1.0 - group["betas"][1] ** float(state["step"])
        rate = float(group.get("lr", 0.0))
        plain = torch.full_like(p, rate)
        parts.append(plain if second is None else rate / ((second / correction).sqrt() + group["eps"]))
    return torch.cat([part.detach().flatten() for part in parts]).unsqueeze(0)
