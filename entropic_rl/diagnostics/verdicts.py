"""One word per layer (healthy, vanishing, exploding, dead, frozen, not finite) with a cause and a remedy.

Layers are compared by their *pull*, the norm of the gradient times the norm of the parameters: the change of the loss
when a layer is scaled. Unlike the gradient itself it does not depend on how a network spreads its scale over its
layers: a policy head that begins a hundredth as large as others has a gradient a hundred times as large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["DEAD", "EXPLODING", "GROWTH", "STATES", "VANISHING", "Verdict", "Way", "judge"]

STATES = ("healthy", "vanishing", "exploding", "dead", "frozen", "not finite")
VANISHING = 1e-3
"""Of the strongest pull between a layer and the output: below this share a layer hardly learns while others do."""
EXPLODING = 1e3
"""Times the pull of the output layer."""
GROWTH = 50.0
"""Times the size of the first outputs that those of a hidden layer may have."""
DEAD = 0.9
"""Share of units that are 0 for every sample."""
_SATURATED = 0.5

_REMEDY = {
    "shallow": "use relu or gelu, normalise layers, add ways past them, or take fewer layers",
    "smaller": "begin with smaller weights (gain sqrt 2 for relu, 5/3 for tanh), normalise layers, or clip gradients",
    "saturated": "scale inputs, begin with smaller weights, normalise layers, or use relu",
    "dead": "lower the learning rate, begin with zero biases, or use leaky_relu or gelu",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a layer.

    Attributes:
        layer: its name.
        state: one of :data:`STATES`.
        cause: what shows it; empty if it is healthy.
        remedy: what to try; empty if it is healthy.
    """

    layer: str
    state: str
    cause: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.layer}: {self.state}" + (f"; {self.cause}; {self.remedy}" if self.cause else "")


@dataclass(frozen=True, slots=True)
class Way:
    """From a layer to the outputs that it works for.

    Attributes:
        below: places of the layers on the way, outputs included; empty for an output layer.
        outputs: places of the output layers.
    """

    below: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()


def judge(
    layers: Sequence[str],
    signals: Mapping[str, np.ndarray],
    ways: Sequence[Way],
    notes: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """A verdict for each of L layers, in the order in which they compute.

    Args:
        layers: names.
        signals: ``[L]`` of each of :data:`entropic_rl.diagnostics.signals.SIGNALS`, NaN where unknown.
        ways: of each layer.
        notes: layer -> why it cannot learn, where that is known (frozen on purpose, not part of the loss).
    """
    bad_outputs = signals["finite"] == 0.0
    bad = bad_outputs | ~np.isfinite(signals["total_norm"]) | ~np.isfinite(signals["weight_norm"])
    if bad.any():
        return _not_finite(layers, bad_outputs, bad)
    return [_verdict(i, layers, signals, ways[i], (notes or {}).get(layer, "")) for i, layer in enumerate(layers)]


def _verdict(i: int, layers: Sequence[str], signals: Mapping[str, np.ndarray], way: Way, note: str) -> Verdict:
    layer, total, dead = layers[i], signals["total_norm"][i], signals["dead"][i]
    if note:
        return Verdict(layer, "frozen", note, "unfreeze it, or leave it so if that is meant")
    if dead >= DEAD:
        return Verdict(layer, "dead", f"{dead:.0%} of its units are 0 for every sample", _REMEDY["dead"])
    found = _flow(i, layers, signals, way)
    if found.state == "healthy" and total > 0.0 and signals["update_ratio"][i] == 0.0:
        return Verdict(layer, "frozen", "it has a gradient, but steps leave it as it is",
                       "hand its parameters to the optimizer, with a learning rate above 0")  # fmt: skip
    return found


def _flow(i: int, layers: Sequence[str], signals: Mapping[str, np.ndarray], way: Way) -> Verdict:
    """Of a layer that learns: how strongly, beside the others."""
    layer, pull = layers[i], signals["total_norm"] * signals["weight_norm"]
    grown = _growth(i, signals["rms"])
    if way.below and grown > GROWTH:
        return Verdict(layer, "exploding", f"its outputs are {grown:.0e} times as large as those of the first layer",
                       _REMEDY["smaller"])  # fmt: skip
    at_outputs = max((pull[j] for j in way.outputs), default=math.nan)
    if at_outputs > 0.0 and pull[i] > EXPLODING * at_outputs:
        return Verdict(layer, "exploding", f"its pull on the loss is {pull[i] / at_outputs:.0e} times that of the "
                       "output layer", _REMEDY["smaller"])  # fmt: skip
    strongest = max((pull[j] for j in way.below), default=math.nan)
    if pull[i] < VANISHING * strongest:
        return _vanishing(layer, layers, signals, way, float(pull[i] / strongest))
    return Verdict(layer, "healthy")


def _vanishing(layer: str, layers: Sequence[str], signals: Mapping[str, np.ndarray], way: Way, share: float) -> Verdict:
    how = "it has no gradient" if share == 0.0 else f"its pull on the loss is {share:.0e} of what layers after it have"
    dead = next((j for j in way.below if signals["dead"][j] >= DEAD), None)
    if dead is not None:
        return Verdict(layer, "vanishing", f"{how}: {layers[dead]} after it is dead", f"mend {layers[dead]}")
    flat = [j for j in way.below if signals["saturated"][j] >= _SATURATED]
    if flat:
        worst = max(flat, key=lambda j: float(signals["saturated"][j]))
        return Verdict(layer, "vanishing", f"{how}: {signals['saturated'][worst]:.0%} of the outputs of "
                       f"{layers[worst]} are saturated", _REMEDY["saturated"])  # fmt: skip
    return Verdict(layer, "vanishing", f"{how}: {len(way.below)} layers shrink it on its way", _REMEDY["shallow"])


def _growth(i: int, rms: np.ndarray) -> float:
    """Size of the outputs of layer ``i`` over that of the first that were seen."""
    seen = rms[: i + 1][np.isfinite(rms[: i + 1])]
    return float(rms[i] / max(seen[0], 1.0)) if len(seen) and np.isfinite(rms[i]) else 0.0


def _not_finite(layers: Sequence[str], bad_outputs: np.ndarray, bad: np.ndarray) -> list[Verdict]:
    """The source is the first layer whose outputs are not finite; without one, the last whose gradient is not."""
    forwards = bool(bad_outputs.any())
    source = int(bad_outputs.argmax()) if forwards else int(np.flatnonzero(bad)[-1])
    if forwards:
        cause = "its outputs are not finite" + (f", those of {layers[source - 1]} before it are" if source else "")
        remedy = (
            "look for log, sqrt or a division of 0 at what goes into it, for inputs or weights that are not finite, "
            "and for too high a learning rate"
        )
    else:
        cause = "its gradient is not finite, though all outputs are"
        remedy = "look for sqrt, log or a norm of 0 between it and the loss: their slopes there are infinite"
    found = []
    for i, layer in enumerate(layers):
        if i == source:
            found.append(Verdict(layer, "not finite", cause, remedy))
        elif bad[i]:
            found.append(Verdict(layer, "not finite", f"since {layers[source]} is", f"mend {layers[source]}"))
        else:
            found.append(Verdict(layer, "healthy"))
    return found
