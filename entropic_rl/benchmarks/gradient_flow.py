"""Gradient flow put to the test: planted faults, healthy networks, what looking costs, sums of terms."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from entropic_rl.benchmarks.architectures import HEALTHY, ByPixel, accuracy, batches, fit, perceptron
from entropic_rl.diagnostics.flow import GradientFlow, split_gradient
from entropic_rl.diagnostics.parts import gradient_over_time, gradient_per_head
from entropic_rl.diagnostics.record import DEFAULT_EVERY
from entropic_rl.losses import entropic_cross_entropy
from entropic_rl.plots.flow import plot_flow
from entropic_rl.plots.gradient_parts import plot_parts

__all__ = ["FAULTS", "architecture_row", "cost_row", "draw_deep", "draw_parts", "fault_row"]

_ENT_COEF = 0.05


class _Between(nn.Module):
    """Three layers, and a function between the second and the third."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 64] -> [B, 10]``."""
        return self.c(self.function(self.b(torch.tanh(self.a(x)))))


def _dead() -> nn.Module:
    module = perceptron([64, 64, 64, 10])
    module[2].get_parameter("bias").data.fill_(-50.0)
    return module


def _frozen() -> nn.Module:
    module = perceptron([64, 64, 64, 10])
    module[2].requires_grad_(False)
    return module


FAULTS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "20 sigmoid layers": (lambda: perceptron([64] + [64] * 20 + [10], nn.Sigmoid), "0", "vanishing"),
    "gain 4, 20 tanh layers": (lambda: perceptron([64] + [64] * 20 + [10], nn.Tanh, gain=4.0), "0", "exploding"),
    "gain 4, 8 ReLU layers": (lambda: perceptron([64] + [64] * 8 + [10], gain=4.0), "14", "exploding"),
    "a dead ReLU layer": (_dead, "2", "dead"),
    "a frozen layer": (_frozen, "2", "frozen"),
    "NaN of a logarithm": (lambda: _Between(torch.log), "c", "not finite"),
    "NaN in the backward pass alone": (lambda: _Between(lambda x: x + (0.0 * x).abs().sqrt()), "b", "not finite"),
}
"""Name -> the network, the layer that is to be named, and as what."""


def fault_row(name: str, n_seeds: int) -> str:
    """How often the planted fault is named at the first step, with its cause, as a row of a table."""
    make, layer, state = FAULTS[name]
    named, cause = 0, ""
    for seed in range(n_seeds):
        torch.manual_seed(seed)
        flow = fit(make(), 1, seed=seed, every=1)
        found = {v.layer: v for v in flow.verdicts} if flow is not None else {}
        if found[layer].state == state:
            named, cause = named + 1, cause or found[layer].cause
    return f"| {name} | `{layer}` {state} | {named} of {n_seeds} | {cause} |"


def architecture_row(name: str, n_seeds: int, n_steps: int) -> str:
    """A healthy network trained and watched: alarms, how well terms sum, accuracy, as a row of a table."""
    alarms, n_layers, errors, scores = 0, 0, [], []
    for seed in range(n_seeds):
        for steps in (1, n_steps // 10, n_steps):
            torch.manual_seed(seed)
            module = HEALTHY[name]()
            flow = fit(module, steps, seed=seed, ent_coef=_ENT_COEF, every=10)
            verdicts = () if flow is None else flow.verdicts
            alarms += sum(v.state != "healthy" for v in verdicts)
            n_layers += len(verdicts)
        scores.append(100.0 * accuracy(module))
        errors.append(_sum_error(module, seed))
    return (
        f"| {name} | {alarms} of {n_layers} | {max(errors):.1e} | {statistics.fmean(scores):.1f} "
        f"[{min(scores):.1f}, {max(scores):.1f}] |"
    )


def cost_row(name: str, n_rounds: int) -> str:
    """CPU time of training under observation over that without, at the default interval; whether bits agree.

    Many short trainings of four looks each, in turn: what others do on the machine disturbs both alike.
    """
    ratios, same, n_steps = [], True, 4 * (DEFAULT_EVERY | 1)
    for seed in range(n_rounds):
        times, weights = {}, {}
        for every in (None, DEFAULT_EVERY) if seed % 2 else (DEFAULT_EVERY, None):
            torch.manual_seed(seed)
            module = HEALTHY[name]()
            started = time.process_time()
            fit(module, n_steps, seed=seed, every=every)
            times[every] = time.process_time() - started
            weights[every] = torch.cat([t.flatten().double() for t in module.state_dict().values()])
        ratios.append(100.0 * (times[DEFAULT_EVERY] / times[None] - 1.0))
        same &= torch.equal(weights[DEFAULT_EVERY], weights[None])
    return (
        f"| {name} | {statistics.median(ratios):+.1f} % | [{min(ratios):+.1f}, {max(ratios):+.1f}] | "
        f"{'yes' if same else 'NO'} |"
    )


def draw_deep(path: Path, *, n_steps: int) -> None:
    """Twenty sigmoid layers while they are trained: docs/images/gradient_flow_deep.svg."""
    torch.manual_seed(0)
    flow = fit(perceptron([64] + [64] * 20 + [10], nn.Sigmoid), n_steps, every=5)
    series = flow.series() if isinstance(flow, GradientFlow) else None
    if series is None:
        return
    shown = {name: series.signals[name] for name in ("task_norm", "entropy_norm")}
    plot_flow(path, series.layers, series.steps, shown, title="Twenty sigmoid layers on digits",
              states=[v.state for v in series.verdicts], xlabel="gradient steps")  # fmt: skip


def draw_parts(path: Path, *, n_steps: int) -> None:
    """Gradients over time and over heads, before and after training: docs/images/gradient_parts.svg."""
    x, y = next(iter(batches(1, 0)))
    arguments = {"loss": lambda z: F.cross_entropy(z, y), "ent_coef": _ENT_COEF}
    over_time: dict[str, np.ndarray] = {}
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        torch.manual_seed(0)
        module = ByPixel(kind)
        over_time[f"{kind.__name__} at first"] = _time(module, x, arguments)
        fit(module, n_steps)
        over_time[f"{kind.__name__} trained"] = _time(module, x, arguments)
    torch.manual_seed(0)
    attention = HEALTHY["transformer"]()
    fit(attention, n_steps)
    heads = gradient_per_head(attention.eval(), x, **arguments)  # type: ignore[arg-type]
    by_head = {name.removeprefix("body.").removesuffix(".self_attn"): (p.task.numpy(), np.asarray(p.entropy))
               for name, p in heads.items()}  # fmt: skip
    plot_parts(path, over_time, by_head)


def _time(module: nn.Module, x: Tensor, arguments: dict[str, object]) -> np.ndarray:
    return gradient_over_time(module, x, **arguments)["memory"].task.numpy()  # type: ignore[arg-type]


def _sum_error(module: nn.Module, seed: int) -> float:
    """Largest relative difference, over layers, of task plus entropy gradient to that of the whole loss; float64."""
    x, y = next(iter(batches(1, seed)))
    module = module.double().eval()
    module.zero_grad()
    split = split_gradient(module, (x.double(),), lambda z: F.cross_entropy(z, y), ent_coef=_ENT_COEF)
    entropic_cross_entropy(module(x.double()), y, ent_coef=_ENT_COEF).mean().backward()
    whole = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in split.parameters])
    parts = split.task if split.entropy is None else split.task + split.entropy
    errors = [
        float((parts[0, layer.columns] - whole[layer.columns]).norm() / whole[layer.columns].norm())
        for layer in split.layers
    ]
    return max(errors)
