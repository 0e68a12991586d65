"""A small network with the path of one weight to the loss and to the entropy, and the factors along it."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from entropic_rl.diagnostics.chain_rule import Chain, ChainRule
from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import COLOURS, figure

__all__ = ["plot_chain_rule"]

_TASK, _ENTROPY, _TRACED = COLOURS[0], COLOURS[2], COLOURS[1]
_GREY, _FAINT = "#555555", "#c9c9c9"
_DARK, _PALE = "#333333", "#8a8a8a"
_WHITE = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"}  # keeps lines off numbers
_MOST = 5  # units of a layer that can be drawn so that numbers stay legible
_RADIUS = 0.23
_STEP = 2.6  # between columns


def plot_chain_rule(file: Path | IO[str], trace: ChainRule, *, title: str = "") -> None:
    """Units and weights: the traced weight in orange, what leads from it to the loss in black, with the factors.

    Below, the two products. The loss hangs on the logits by dL/dy (blue), the entropy by dH/dy = dH/dp dp/dy (green).

    Args:
        file: where to; SVG, or PNG if a path ends so.
        trace: of a network with at most 5 units in a layer.
        title: above all.

    Raises:
        ConfigError: a layer has more units than can be told apart.
    """
    layers = [trace.values[name] for name in _shown(trace)]
    widest = max(len(layer) for layer in layers)
    if widest > _MOST:
        raise ConfigError(f"trace: expected at most {_MOST} units in a layer, got {widest}; trace a smaller network")
    places = _places([len(layer) for layer in layers])
    right, top, bottom = _STEP * (len(layers) - 1) + 2.5, 0.62 * widest + 0.6, -0.62 * widest - 1.2
    width, height = 0.98 * (right + 0.7), 0.98 * (top - bottom) + (0.35 if title else 0.0)
    with figure(file, title, width=width, height=height, steps=False) as (axes,):
        axes.set(xlim=(-0.7, right), ylim=(bottom, top), aspect="equal")
        axes.set_axis_off()
        _edges(axes, trace, places)
        _nodes(axes, trace, places)
        _ends(axes, trace, places[-1])
        _product(axes, bottom + 0.72, trace.task, _TASK)
        _product(axes, bottom + 0.27, trace.entropy, _ENTROPY)


def _shown(trace: ChainRule) -> list[str]:
    """Names of the layers: z only where no activation follows."""
    names = [name for name in trace.values if name not in ("p", "L", "H")]
    return [name for name in names if not (name.startswith("z") and name.replace("z", "h") in names)]


def _places(widths: list[int]) -> list[list[tuple[float, float]]]:
    return [[(_STEP * i, 1.25 * ((n - 1) / 2 - k)) for k in range(n)] for i, n in enumerate(widths)]


def _edges(axes: Any, trace: ChainRule, places: list[list[tuple[float, float]]]) -> None:
    traced_unit = _shown(trace)[trace.depth + 1]
    by_unit = next((f.symbol for f in trace.task.factors if f.symbol.endswith(f"/d{traced_unit}")), "")
    for i, weight in enumerate(trace.weights):
        for row, end in enumerate(places[i + 1]):
            for column, start in enumerate(places[i]):
                traced = i == trace.depth and (row, column) == (trace.row, trace.column)
                # The path goes by the weight's own unit, then by all units.
                after = i > trace.depth + 1 or (i == trace.depth + 1 and column == trace.row)
                colour, width = (_TRACED, 2.6) if traced else (_DARK, 1.5) if after else (_FAINT, 1.0)
                axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, lw=width, zorder=2 if width > 1 else 1)
                text, share = f"{float(weight[row, column]):.2g}", 0.2
                if traced:
                    by_weight = trace.task.factors[-1]
                    text = f"w = {text}\n{by_weight.symbol} = {float(by_weight.value[row]):.3g}"
                    share = 0.47
                elif i == trace.depth + 1 and after:
                    text, share = f"{by_unit} = {text}", 0.36
                x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
                look = {"color": colour if width > 1 else _PALE, "fontweight": "bold" if traced else "normal"}
                zorder = 3.5 if traced else 3
                axes.text(x, y, text, ha="center", va="center", fontsize=9.5, zorder=zorder, bbox=_WHITE, **look)


def _nodes(axes: Any, trace: ChainRule, places: list[list[tuple[float, float]]]) -> None:
    shown = _shown(trace)
    for i, (name, column) in enumerate(zip(shown, places, strict=True)):
        for k, (x, y) in enumerate(column):
            on_path = (i == trace.depth and k == trace.column) or (i == trace.depth + 1 and k == trace.row)
            on_path |= i > trace.depth + 1
            axes.plot(x, y, "o", ms=31, mfc="white", mec=_DARK if on_path else _FAINT, mew=1.6, zorder=4)
            axes.text(x, y, f"{float(trace.values[name][k]):.2f}", ha="center", va="center", fontsize=9.5, zorder=5)
        head = {"x": "input x", "y": "logits y"}.get(name, f"hidden {name}")
        axes.text(column[0][0], column[0][1] + 0.68, head, ha="center", va="bottom", color=_GREY, fontsize=10)
    slopes = {factor.symbol: factor.value for factor in trace.task.factors}
    for i, name in enumerate(shown[1:-1], 1):
        slope = slopes.get(f"d{name}/d{name.replace('h', 'z')}")
        if slope is None:  # no activation, or before the weight
            continue
        for k in range(len(places[i])):
            if i > trace.depth + 1 or k == trace.row:
                x, y = places[i][k]
                axes.text(x, y + _RADIUS + 0.07, f"d{name}/d{name.replace('h', 'z')} = {float(slope[k, k]):.3g}",
                          ha="center", va="bottom", fontsize=9.5, color=_DARK, zorder=6, bbox=_WHITE)  # fmt: skip


def _ends(axes: Any, trace: ChainRule, logits: list[tuple[float, float]]) -> None:
    by_loss, by_entropy = trace.task.factors[0].value, trace.entropy_by_logits.value
    x = logits[0][0] + 0.42
    for k, (_, y) in enumerate(logits):
        texts = ((f"p = {float(trace.values['p'][k]):.3f}", _GREY), (f"dL/dy = {float(by_loss[k]):+.4f}", _TASK),
                 (f"dH/dy = {float(by_entropy[k]):+.4f}", _ENTROPY))  # fmt: skip
        for n, (text, colour) in enumerate(texts):
            axes.text(x, y + 0.27 - 0.27 * n, text, va="center", fontsize=9.5, color=colour)
        if k == trace.target:
            axes.text(x + 0.95, y + 0.27, "target", va="center", fontsize=9.5, color=_GREY, fontstyle="italic")
    x_top, y_top = x, logits[0][1] + 0.68
    axes.text(x_top, y_top, f"L = {float(trace.values['L']):.3f}", color=_TASK, fontsize=10, va="bottom")
    axes.text(x_top + 1.0, y_top, f"H = {float(trace.values['H']):.3f}", color=_ENTROPY, fontsize=10, va="bottom")


def _product(axes: Any, y: float, chain: Chain, colour: str) -> None:
    names = "  ·  ".join(factor.symbol for factor in chain.factors)
    axes.text(-0.3, y, f"{chain.symbol}  =  {names}  =  {chain.product:.4g}", color=colour, fontsize=11, va="center")
