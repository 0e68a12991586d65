"""Activations and their derivatives, a panel each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from numpy.typing import ArrayLike

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import COLOURS, figure

__all__ = ["Curve", "plot_activations"]

_PER_ROW = 4


@dataclass(frozen=True, slots=True)
class Curve:
    """One activation.

    Attributes:
        name: above its panel.
        inputs: ``[N]``.
        outputs: ``[N]``.
        slopes: derivatives, ``[N]``.
    """

    name: str
    inputs: ArrayLike
    outputs: ArrayLike
    slopes: ArrayLike


def plot_activations(file: Path | IO[str], curves: Sequence[Curve]) -> None:
    """Outputs and derivatives over inputs, all on the same axes.

    Args:
        file: where to; SVG, or PNG if it ends so.
        curves: at least one.

    Raises:
        ConfigError: there are none.
    """
    if not curves:
        raise ConfigError("curves: expected at least one activation, got none")
    n_rows = -(-len(curves) // _PER_ROW)
    n_columns = -(-len(curves) // n_rows)
    size = {"width": 2.7 * n_columns, "height": 0.6 + 2.3 * n_rows}
    with figure(file, "", n_axes=len(curves), n_rows=n_rows, **size, steps=False, share_y=True) as all_axes:  # type: ignore[arg-type]
        for i, (axes, curve) in enumerate(zip(all_axes, curves, strict=True)):
            axes.axhline(0.0, color="#999999", lw=0.8, zorder=1)
            axes.axvline(0.0, color="#999999", lw=0.8, zorder=1)
            own = {"label": "output"} if i == 0 else {}
            axes.plot(curve.inputs, curve.outputs, color=COLOURS[0], lw=2.0, **own)
            own = {"label": "derivative"} if i == 0 else {}
            axes.plot(curve.inputs, curve.slopes, color=COLOURS[1], lw=1.8, ls="--", **own)
            axes.set_title(curve.name, fontsize=10.5, loc="left")
            axes.set(ylim=(-1.35, 2.6), yticks=(-1, 0, 1, 2))
            if i >= len(curves) - n_columns:
                axes.set_xlabel("input")
        all_axes[0].figure.legend(loc="outside lower center", ncols=2, fontsize=9.5, handlelength=2.6)
