"""Gradient flow of agents and of classifiers of our own: a watcher of their gradient steps, for R runs at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from entropic_rl.diagnostics.record import DEFAULT_EVERY, FlowRecord, Rhythm, Series
from entropic_rl.diagnostics.signals import Layer, gradient_signals, stack_units, step_signals
from entropic_rl.diagnostics.units import unit_signals
from entropic_rl.diagnostics.verdicts import Way
from entropic_rl.networks import ParameterRows
from entropic_rl.optimizers import Optimizer
from entropic_rl.watching import Terms

__all__ = ["BatchFlow", "layers_of"]

_SHARED = ("features", "memory", "trunk")  # groups of layers that work for those after them
_WORKING = ("actor", "critic", "")
_COMMON = ("task_norm", "entropy_norm", "cosine", "entropy_share", "update_ratio")  # what curves are kept of


class BatchFlow:
    """Looks at gradient steps of whoever announces them (:class:`entropic_rl.watching.Watcher`).

    A look repeats the forward pass of the step, splits its loss into task and entropy, and differentiates both: two
    backward passes, the entropy's from the closed form of its gradient at the outputs. Nothing of the learner is
    written to, and nothing is drawn: the training is the same bit by bit. Penalties on weights are no part of it.

    Args:
        every: gradient steps between two looks at first; they become rarer in long trainings.

    Attributes:
        global_step: env steps so far, or what else counts time, for the record; whoever trains keeps it up to date.
        seconds: that looking has taken.
    """

    def __init__(self, every: int = DEFAULT_EVERY) -> None:
        self._every = every
        self._records: dict[str, FlowRecord] = {}
        self._rhythms: dict[str, Rhythm] = {}
        self.global_step, self.seconds = 0, 0.0

    @contextmanager
    def step(
        self, network: str, params: ParameterRows, optimizer: Optimizer, terms: Callable[[], Terms]
    ) -> Iterator[None]:
        """Around a step of ``optimizer`` on the ``params`` of ``network``; every so often with a look."""
        rhythm = self._rhythms.setdefault(network, Rhythm(self._every))
        if not rhythm.is_due():
            yield
            return
        started = time.perf_counter()
        layers, ways = layers_of(params)
        units, task, entropy = _look(params, terms)
        before = params.values.clone()
        self.seconds += time.perf_counter() - started
        yield
        started = time.perf_counter()
        with torch.no_grad():
            signals = gradient_signals(layers, before, task, entropy)
            after = {"after": params.values, "scale": optimizer.preconditioner()}
            signals |= step_signals(layers, before, task=task, entropy=entropy, **after)
            signals |= stack_units(layers, units, signals["task_norm"])
        names = tuple(layer.name for layer in layers)
        record = self._records.setdefault(network, FlowRecord(names, ways, rhythm))
        record.add(self.global_step, signals)
        self.seconds += time.perf_counter() - started

    def series(self, run: int, n_runs: int) -> dict[str, Series]:
        """What was seen of ``run`` of ``n_runs``, by network; of several critics per run the first."""
        found = {}
        for network, record in self._records.items():
            rows = len(record.latest()["task_norm"])
            series = record.series(run * (rows // n_runs))
            if series is not None:
                found[network] = series
        return found

    def row(self, run: int, n_runs: int) -> dict[str, float]:
        """The last look at ``run`` as metrics, ``flow/LAYER/SIGNAL``."""
        row: dict[str, float] = {}
        for record in self._records.values():
            latest = record.latest()
            place = run * (len(latest["task_norm"]) // n_runs)
            for i, layer in enumerate(record.layers):
                row |= {f"flow/{layer}/{name}": float(latest[name][place, i]) for name in _COMMON}
        return {name: value for name, value in row.items() if not math.isnan(value)}


def layers_of(params: ParameterRows) -> tuple[list[Layer], list[Way]]:
    """The layers of a network in the order in which they compute, and their ways to the outputs."""
    stretches: dict[str, slice] = {}
    start = 0
    for name, shape in params.shapes.items():
        layer, stop = name.rsplit(".", 1)[0], start + torch.Size(shape).numel()
        stretches[layer] = slice(stretches[layer].start if layer in stretches else start, stop)
        start = stop
    names = sorted(stretches, key=lambda name: [*_SHARED, _group(name)].index(_group(name)))
    ends = {_group(name): i for i, name in enumerate(names)}  # the last layer of each group
    outputs = [i for group, i in ends.items() if group in _WORKING]
    ways = []
    for i, name in enumerate(names):
        group = _group(name)
        own_outputs = outputs if group in _SHARED else [ends[group]]
        below = range(i + 1, max(own_outputs) + 1)
        ways.append(Way(tuple(below), tuple(own_outputs)) if below else Way())
    return [Layer(name, stretches[name]) for name in names], ways


def _group(layer: str) -> str:
    """``actor`` of ``actor.0``; layers that have numbers for names are one network."""
    first = layer.split(".", maxsplit=1)[0]
    return "" if first.isdecimal() else first


def _look(
    params: ParameterRows, terms: Callable[[], Terms]
) -> tuple[dict[str, dict[str, Tensor]], Tensor, Tensor | None]:
    """Signals of units by layer, and the gradients of task and entropy, ``[R, P]`` each."""
    units: dict[str, dict[str, Tensor]] = {}

    def observe(layer: str, outputs: Tensor, activation: str | None) -> None:
        units[layer] = unit_signals(outputs, activation)

    params.observer = observe
    try:
        found = terms()
    finally:
        params.observer = None
    task = params.gradient(found.task, retain_graph=found.entropy is not None)
    return units, task, None if found.entropy is None else params.gradient(found.entropy)
