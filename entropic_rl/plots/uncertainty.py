"""Where a classifier of two features is unsure, on a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import figure, series_look

__all__ = ["plot_uncertainty"]

_MARKERS = "o^sDvP*X"
_WHITE, _DARK = "#ffffff", "#333333"
# White to slate, of evenly falling lightness: leaves hue to the classes, and does without black.
_CERTAIN_TO_UNSURE = LinearSegmentedColormap.from_list("unsure", mpl.colormaps["bone_r"](np.linspace(0.0, 0.8, 256)))


def plot_uncertainty(
    file: Path | IO[str],
    predict: Callable[[np.ndarray], ArrayLike],
    x: ArrayLike,
    y: ArrayLike,
    *,
    truth: Callable[[np.ndarray], ArrayLike] | None = None,
    features: Sequence[str] = ("first feature", "second feature"),
    classes: Sequence[str] | None = None,
    resolution: int = 160,
    max_points: int = 200,
) -> None:
    """Predictive entropy over the plane, dark where unsure; white: where the likeliest class changes.

    With the true posterior there are three maps: the model's, the true one, and the model's entropy less the true one,
    positive where the model is less sure than anyone need be, with both boundaries, the true one dotted.

    Args:
        file: where to; SVG, or PNG if a path ends so.
        predict: probabilities of points, ``[M, 2] -> [M, C]``.
        x: ``[N, 2]``, data; their range is the map's.
        y: ``[N]``, their classes, from 0 to C - 1.
        truth: the true posterior, ``[M, 2] -> [M, C]``.
        features: names of the axes.
        classes: names of the C classes.
        resolution: points of the map along each axis.
        max_points: how many of the data are drawn, evenly picked.

    Raises:
        ConfigError: a shape is another, a number is not finite, or there is a probability that is none.
    """
    points, labels = _data(x, y)
    if resolution < 2:
        raise ConfigError(f"resolution: expected at least 2, got {resolution}")
    if len(features) != 2:
        raise ConfigError(f"features: expected 2 names, got {len(features)}")
    margin = 0.06 * np.ptp(points, axis=0) + 1e-9
    low, high = points.min(0) - margin, points.max(0) + margin
    axis = [np.linspace(low[k], high[k], resolution) for k in range(2)]
    plane = np.stack(np.meshgrid(*axis), -1)  # [rows, columns, 2]
    own = _probabilities("predict", predict, plane)
    names = [str(name) for name in (range(own.shape[-1]) if classes is None else classes)]
    if len(names) != own.shape[-1] or labels.max() >= own.shape[-1]:
        raise ConfigError(
            f"expected names and labels of the {own.shape[-1]} classes that predict gives, got {names} and labels up "
            f"to {labels.max()}"
        )
    maps = [("model", own)]
    if truth is not None:
        maps.append(("true posterior", _probabilities("truth", truth, plane)))
        if maps[1][1].shape != own.shape:
            raise ConfigError(f"truth: expected {own.shape[-1]} classes as predict, got {maps[1][1].shape[-1]}")
    n = 1 if truth is None else 3
    shown = np.unique(np.linspace(0, len(points) - 1, min(max_points, len(points))).astype(int))
    width, height = (5.4, 4.3) if n == 1 else (8.6, 3.1)
    most = math.log(own.shape[-1])
    with figure(file, "", n_axes=n, width=width, height=height, steps=False) as all_axes:
        entropies = []
        for axes, (title, p) in zip(all_axes, maps, strict=False):
            entropies.append(_entropy(p))
            image = _paint(axes, entropies[-1], (low, high), cmap=_CERTAIN_TO_UNSURE, vmin=0.0, vmax=most)
            _draw_boundary(axes, axis, p)
            if n > 1:
                axes.set_title(title, fontsize=10.5)
        _draw_points(all_axes[0], points[shown], labels[shown], len(names), size=4.2 if n == 1 else 3.3)
        bar = all_axes[0].figure.colorbar(image, ax=list(all_axes[: len(maps)]), aspect=28, pad=0.02)
        bar.set_label("predictive entropy (nats)", fontsize=9)
        ticks = [tick for tick in bar.get_ticks() if 0.0 <= tick < 0.92 * most]
        bar.set_ticks([*ticks, most], labels=[*(f"{tick:g}" for tick in ticks), f"log {own.shape[-1]}"])
        if n > 1:
            _draw_difference(all_axes[2], entropies[0] - entropies[1], (low, high))
            for (_, p), style in zip(maps, ("-", ":"), strict=True):
                _draw_boundary(all_axes[2], axis, p, colours=((_DARK, 1.4),), style=style)
        for axes in all_axes:
            axes.set(xlabel=features[0], xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        all_axes[0].set_ylabel(features[1])
        handles = [_handle(k, len(names)) for k in range(len(names))]
        all_axes[0].figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), fontsize=9,
                                  handletextpad=0.3)  # fmt: skip


def _paint(axes: Any, values: np.ndarray, corners: tuple[np.ndarray, np.ndarray], **colours: Any) -> Any:
    axes.grid(visible=False)
    (left, bottom), (right, top) = corners
    return axes.imshow(values, origin="lower", extent=(left, right, bottom, top), aspect="auto",
                       interpolation="bilinear", **colours)  # fmt: skip


def _draw_difference(axes: Any, gap: np.ndarray, corners: tuple[np.ndarray, np.ndarray]) -> None:
    largest = max(float(np.abs(gap).max()), 1e-3)
    image = _paint(axes, gap, corners, cmap="PuOr_r", vmin=-largest, vmax=largest)
    axes.set_title("difference", fontsize=10.5)
    bar = axes.figure.colorbar(image, ax=axes, aspect=28, pad=0.04)
    bar.set_label("too sure (−)     too unsure (+), nats", fontsize=9)  # noqa: RUF001 - the sign that people read


def _draw_boundary(
    axes: Any,
    axis: Sequence[np.ndarray],
    p: np.ndarray,
    *,
    colours: Sequence[tuple[str, float]] = ((_DARK, 2.8), (_WHITE, 1.5)),
    style: str = "-",
) -> None:
    """Where each class's lead over the best of the others is 0: white in a dark edge, to be seen on both."""
    leads = [p[..., k] - np.delete(p, k, -1).max(-1) for k in range(p.shape[-1])]
    for colour, width in colours:
        for lead in leads:
            if lead.min() < 0.0 < lead.max():
                axes.contour(*axis, lead, levels=[0.0], colors=[colour], linewidths=width, linestyles=style)


def _draw_points(axes: Any, points: np.ndarray, labels: np.ndarray, n: int, *, size: float) -> None:
    for k in range(n):
        (dots,) = axes.plot(*points[labels == k].T, **_marker(k, n), ms=size, alpha=0.85)
        dots.set_gid(f"class{k}-points")  # no series that a page switches


def _marker(k: int, n: int) -> dict[str, Any]:
    return {"marker": _MARKERS[k % len(_MARKERS)], "ls": "", "color": series_look(k, n)["color"], "mec": "white",
            "mew": 0.6}  # fmt: skip


def _handle(k: int, n: int) -> Line2D:
    return Line2D([], [], ms=6, **_marker(k, n))


def _entropy(p: np.ndarray) -> np.ndarray:
    import torch

    from entropic_rl.entropy import categorical_entropy

    return categorical_entropy(torch.from_numpy(p).log()).numpy()


def _probabilities(name: str, function: Callable[[np.ndarray], ArrayLike], plane: np.ndarray) -> np.ndarray:
    """``[rows, columns, C]``."""
    from entropic_rl.calibration.checks import labels_and_probabilities

    flat = plane.reshape(-1, 2)
    found = np.asarray(function(flat))
    if found.ndim != 2 or len(found) != len(flat) or found.shape[1] < 2:
        raise ConfigError(f"{name}: expected a function [M, 2] -> [M, C], C >= 2, got {flat.shape} -> {found.shape}")
    try:
        _, p = labels_and_probabilities(np.zeros(len(flat), dtype=int), found)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return p.reshape(*plane.shape[:2], -1)


def _data(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    points, labels = np.asarray(x, dtype=float), np.asarray(y)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or labels.shape != points.shape[:1]:
        raise ConfigError(f"expected points x [N, 2] and classes y [N], N >= 1, got {points.shape} and {labels.shape}")
    if not np.isfinite(points).all():
        raise ConfigError(f"x: expected finite numbers, got {int((~np.isfinite(points)).sum())} that are not")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ConfigError(f"y: expected classes as integers from 0, got {labels.dtype} from {labels.min()}")
    return points, labels
