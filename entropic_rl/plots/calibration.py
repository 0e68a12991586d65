"""Figures of classifiers: how honest they are, over what coefficient, and how sure of which answers.

Everything drawn for model or read-out i has an SVG id that begins with ``si-``, to be switched by, as in comparisons.
Files are SVG; a path that ends in ``.png`` becomes one.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from entropic_rl.errors import ConfigError
from entropic_rl.plots.style import BESIDE, figure, log_positions, name_ends, series_look, tag

if TYPE_CHECKING:
    from entropic_rl.calibration import CalibrationReport

__all__ = ["plot_coefficient_response", "plot_entropies", "plot_reliability"]

_File: TypeAlias = Path | IO[str]

_WIDTH = 5.4  # inches; small, so that text stays legible on a phone
_COLUMNS = 3
_GREY, _SOFT = "#777777", "#555555"
_LIGHT = 0.18
_ENTROPY_BINS = 30
_RESAMPLES, _SEED = 1000, 20_000


def plot_reliability(file: _File, reports: Mapping[str, CalibrationReport], *, bins: str = "width") -> None:
    """Reliability diagrams side by side: accuracy over confidence by bin, the density of confidences below.

    The boxes are consistency bands: where 95 % of calibrated models lie in that bin, with as many rows. They answer
    what the picture is looked at for: is a point further off the diagonal than chance, even in a bin of one row? An
    interval around the accuracy would leave that to the eye. In the corner stands the ECE of bins of equal width,
    debiased, with its interval, and the plain ECE that a calibrated model shows, the noise floor.
    Source: Brocker & Smith (2007), https://doi.org/10.1175/WAF993.1.

    Args:
        file: where to.
        reports: of each model, by name, of :func:`entropic_rl.calibration.calibration_report`.
        bins: of equal ``width`` or equal ``mass``; the latter for models that are sure of most answers.

    Raises:
        ConfigError: there are no reports, or the kind of bins is another.
    """
    _check_some("reports", reports)
    if bins not in ("width", "mass"):
        raise ConfigError(f"bins: expected 'width' or 'mass', got {bins!r}")
    n = len(reports)
    columns = min(n, _COLUMNS)
    rows = math.ceil(n / columns)
    limits = _reliability_limits([report.reliability[bins] for report in reports.values()])
    width = _WIDTH if columns == 1 else 2.6 * columns + 0.4
    height = (4.9 if columns == 1 else 3.9) * rows + 0.3
    ratios = (3.6, 1.0) * rows
    with figure(file, "", n_axes=2 * rows * columns, n_rows=2 * rows, width=width, height=height, steps=False,
                height_ratios=ratios) as axes:  # fmt: skip
        grid = np.array(axes).reshape(rows, 2, columns).transpose(0, 2, 1).reshape(-1, 2)
        for i, ((name, report), (upper, lower)) in enumerate(zip(reports.items(), grid, strict=False)):
            upper.set(xlim=limits[0], ylim=limits[1])
            _draw_reliability(upper, i, n, report, bins)
            _draw_density(lower, i, n, report)
            upper.tick_params(labelbottom=False)
            lower.set(xlim=limits[0], xlabel="confidence (%)")
            if n > 1:
                upper.set_title(name, fontsize=10.5)
            if i % columns == 0:
                upper.set_ylabel("accuracy (%)")
                lower.set_ylabel("answers (%)")
            for axis in (upper.xaxis, upper.yaxis, lower.xaxis, lower.yaxis):
                axis.set_major_formatter(lambda value, _: f"{100 * value:g}")
        for ax in grid[n:].flatten():
            ax.set_axis_off()
        handles = [
            Line2D([], [], color=_SOFT, marker="o", ms=5, lw=1.4),
            Patch(color=_SOFT, alpha=2 * _LIGHT, lw=0),
            Line2D([], [], color=_GREY, lw=1.2, ls=":"),
        ]
        names = ["model", "95 % if calibrated", "accuracy = confidence"]
        axes[0].figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=9, columnspacing=1.4)


def plot_coefficient_response(
    file: _File,
    ent_coef: Sequence[float],
    measures: Mapping[str, Mapping[str, ArrayLike]],
    *,
    validation: Mapping[str, ArrayLike] | None = None,
    xlabel: str = "entropy coefficient",
) -> None:
    """Measures over the entropy coefficient, below each other: a line per read-out, its band over seeds.

    Lines are means over seeds, bands their 95 % bootstrap interval. Coefficients lie on a logarithmic scale, with 0
    apart, as in comparisons. For example ``{"NLL (nats)": {"raw": raw, "proper": proper}, "ECE, debiased (%)": ...}``.

    Args:
        file: where to.
        ent_coef: ``[K]``, in any order.
        measures: label with its unit -> read-out -> ``[K, S]``, a number per coefficient and seed, or ``[K]``.
        validation: read-out -> ``[K, S]``, its loss on validation data: the coefficient at which the mean is least
            wears a ring in every panel.
        xlabel: of the last panel.

    Raises:
        ConfigError: shapes differ, a number is not finite, or a read-out has no line.
    """
    _check_some("measures", measures)
    coefs = _numbers("ent_coef", ent_coef).reshape(-1).tolist()
    if not coefs or len(set(coefs)) < len(coefs) or not np.isfinite(coefs).all():
        raise ConfigError(f"ent_coef: expected different finite coefficients, got {coefs}")
    order = np.argsort(coefs)
    panels = {label: {name: _by_seed(f"{label}, {name}", values, len(coefs))[order] for name, values in lines.items()}
              for label, lines in measures.items()}  # fmt: skip
    for label, lines in panels.items():
        _check_some(f"measures, {label}", lines)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    best = {}
    for name, values in (validation or {}).items():
        if name not in names:
            raise ConfigError(f"validation: expected read-outs among {names}, got {name!r}")
        best[name] = int(_by_seed(f"validation, {name}", values, len(coefs))[order].mean(1).argmin())
    coefs.sort()
    places = log_positions(coefs) or [float(i) for i in range(len(coefs))]
    coincide = {label for label, lines in panels.items() if _coincide(list(lines.values()))}  # accuracies, as a rule
    height = (1.85 if len(panels) > 1 else 2.9) * len(panels) + 0.5 + 0.3 * bool(best)
    with figure(file, "", n_axes=len(panels), n_rows=len(panels), width=_WIDTH, height=height, steps=False) as all_axes:
        for k, (axes, (label, lines)) in enumerate(zip(all_axes, panels.items(), strict=True)):
            alike = label in coincide
            for j, (name, values) in enumerate(lines.items()):
                own, with_band = names.index(name), not (alike and j)
                _draw_response(axes, own, len(names), places, values, best=best.get(name), band=with_band)
            axes.margins(x=0.03, y=0.1)
            axes.set_ylabel(textwrap.fill(label, 22 if len(panels) > 1 else 40))
            kept = _spaced(places)
            axes.set_xticks([places[i] for i in kept], [f"{coefs[i]:g}" for i in kept])
            axes.set_xticks(places, minor=True)
            axes.tick_params(labelbottom=k == len(panels) - 1)
            if alike:
                text = "all alike" if len(coincide) < len(panels) else "\n".join(lines)
                axes.annotate(text, (1, next(iter(lines.values()))[-1].mean()), (5, 0), color=_SOFT, **BESIDE)
            else:
                ends = {names.index(name): (name, values[-1].mean()) for name, values in lines.items()}
                name_ends(axes, ends, len(names), gap=0.2 * len(panels) / height)
        all_axes[-1].set_xlabel(xlabel)
        all_axes[0].figure.align_ylabels(all_axes)
        if best:
            ring = Line2D([], [], marker="o", ms=10, mfc="none", mec=_SOFT, mew=1.4, lw=0)
            all_axes[0].figure.legend([ring], ["least validation loss"], loc="outside lower center", fontsize=9)


def plot_entropies(file: _File, answers: Mapping[str, tuple[ArrayLike, ArrayLike]], *, n_classes: int) -> None:
    """Histograms of the predictive entropy of right and of wrong answers, each of its own total, side by side by model.

    The further wrong answers lie to the right of right ones, the better the entropy says which to trust.

    Args:
        file: where to.
        answers: name of a model -> entropies ``[N]`` in nats, and whether the likeliest class was right, ``[N]``.
        n_classes: C; log C is the most that an entropy can be, marked.

    Raises:
        ConfigError: lengths differ, or an entropy is not between 0 and log C.
    """
    _check_some("answers", answers)
    if n_classes < 2:
        raise ConfigError(f"n_classes: expected at least 2, got {n_classes}")
    most = math.log(n_classes)
    pairs = [_answers(name, entropy, right, most) for name, (entropy, right) in answers.items()]
    n = len(pairs)
    columns = min(n, _COLUMNS)
    rows = math.ceil(n / columns)
    width, height = (_WIDTH, 3.5) if n == 1 else (2.6 * columns + 0.4, 2.9 * rows)
    with figure(file, "", n_axes=n, n_rows=rows, width=width, height=height, steps=False) as all_axes:
        for i, (axes, name, (entropy, right)) in enumerate(zip(all_axes, answers, pairs, strict=True)):
            edges = np.linspace(0.0, most, _ENTROPY_BINS + 1)
            for kind, chosen in enumerate((right, ~right)):
                share = np.histogram(entropy[chosen], edges)[0] / max(chosen.sum(), 1)
                look = series_look(kind, 2)
                # Outlines on top of both, so that neither hides the other.
                fill = axes.stairs(share, edges, fill=True, color=look["color"], alpha=_LIGHT, lw=0)
                told = f"{('right', 'wrong')[kind]}, {100 * chosen.mean():.1f} %"
                line = axes.stairs(share, edges, color=look["color"], ls=look["ls"], lw=1.6, label=told, zorder=3)
                tag(axes, i, fill, line)
            axes.axvline(most, color=_GREY, lw=1, ls=":")
            axes.annotate(f"log {n_classes}", (most, 1), (0, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="center", va="bottom", fontsize=9, color=_SOFT)  # fmt: skip
            axes.set(xlabel="predictive entropy (nats)", xlim=(0, 1.01 * most))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_ylim(0, 1.3 * axes.dataLim.ymax)  # room for the legend
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
            axes.legend(loc="upper center", fontsize=9)
            if n > 1:
                axes.set_title(name, fontsize=10.5)
        for axes in all_axes[::columns]:
            axes.set_ylabel("share of right, of wrong (%)")


def _draw_reliability(axes: Any, i: int, n: int, report: CalibrationReport, scheme: str) -> None:
    found, colour = report.reliability[scheme], series_look(i, n)["color"]
    axes.plot([0, 1], [0, 1], color=_GREY, lw=1.2, ls=":", zorder=1)
    width = np.maximum(found.right - found.left, 0.004)  # a bin of equal confidences still has a box
    boxes = axes.bar((found.left + found.right) / 2, found.high - found.low, width, found.low, color=colour,
                     alpha=_LIGHT, lw=0)  # fmt: skip
    (line,) = axes.plot(found.confidence, found.accuracy, "o-", color=colour, ms=5, mec="white", mew=0.7, lw=1.4)
    ece = report["ece_debiased"]
    words = (
        f"ECE {100 * ece.value:.1f} %, debiased\n95 %: {100 * ece.low:.1f} to {100 * ece.high:.1f}\n"
        f"noise floor {100 * report['ece'].floor:.1f} %\nn = {report.n}"
    )
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    lowest = np.minimum(found.accuracy, found.low)[found.right > (left + right) / 2].min(initial=1.0)
    below = lowest > bottom + 0.37 * (top - bottom)  # as a rule: there are few points far below the diagonal
    text = axes.annotate(
        words, (0.98, 0.03) if below else (0.03, 0.98), xycoords="axes fraction", fontsize=9, color="#333333",
        ha="right" if below else "left", va="bottom" if below else "top", linespacing=1.35,
        bbox={"boxstyle": "square,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.75},
    )  # fmt: skip
    tag(axes, i, *boxes, line, text)


def _draw_density(axes: Any, i: int, n: int, report: CalibrationReport) -> None:
    density, colour = report.reliability["width"].density, series_look(i, n)["color"]
    edges = np.linspace(0.0, 1.0, len(density) + 1)
    tag(axes, i, axes.stairs(density, edges, fill=True, color=colour, alpha=0.75, lw=0))
    axes.set_ylim(bottom=0)


def _reliability_limits(found: Sequence[Any]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The smallest round window that holds all bins and their bands; both axes end at 1."""
    left = math.floor(10 * min(bins.left.min() for bins in found) + 1e-9) / 10
    lowest = min(min(bins.low.min(), bins.accuracy.min()) for bins in found)
    bottom = min(math.floor(10 * lowest + 1e-9) / 10, left)
    left = min(left, 0.9)
    return (left - 0.01, 1.01), (bottom - 0.02, 1.02)


def _draw_response(
    axes: Any, i: int, n: int, places: Sequence[float], values: np.ndarray, *, best: int | None, band: bool
) -> None:
    look, mean = series_look(i, n), values.mean(1)
    (line,) = axes.plot(places, mean, marker="o", ms=3.5, lw=1.8, **look)
    drawn = [line]
    if band and values.shape[1] > 1:
        picks = np.random.default_rng(_SEED).integers(values.shape[1], size=(_RESAMPLES, values.shape[1]))
        low, high = np.quantile(values[:, picks].mean(2), (0.025, 0.975), axis=1)
        drawn.append(axes.fill_between(places, low, high, color=look["color"], alpha=_LIGHT, lw=0))
    if best is not None:
        drawn += axes.plot([places[best]], [mean[best]], "o", ms=10, mfc="none", mec=look["color"], mew=1.6)
    tag(axes, i, *drawn)


def _coincide(lines: Sequence[np.ndarray]) -> bool:
    return len(lines) > 1 and all(np.array_equal(lines[0], other) for other in lines[1:])


def _spaced(places: Sequence[float]) -> list[int]:
    """Of places in order, those that leave room for their labels; the ends always."""
    least = 0.08 * (places[-1] - places[0])
    kept = [0]
    for i in range(1, len(places) - 1):
        if places[i] - places[kept[-1]] >= least and places[-1] - places[i] >= least:
            kept.append(i)
    return kept if len(places) == 1 else [*kept, len(places) - 1]


def _check_some(name: str, values: Any) -> None:
    if not len(values):
        raise ConfigError(f"{name}: expected at least one, got none")


def _numbers(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: expected an array of numbers, got {type(values).__name__}") from None


def _by_seed(name: str, values: ArrayLike, n_coefs: int) -> np.ndarray:
    """``[K, S]``."""
    table = _numbers(name, values)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or len(table) != n_coefs or not table.shape[1]:
        raise ConfigError(f"{name}: expected numbers [{n_coefs} coefficients, seeds], got an array {table.shape}")
    if not np.isfinite(table).all():
        raise ConfigError(f"{name}: expected finite numbers, got {int((~np.isfinite(table)).sum())} that are not")
    return table


def _answers(name: str, entropy: ArrayLike, right: ArrayLike, most: float) -> tuple[np.ndarray, np.ndarray]:
    nats, hits = _numbers(name, entropy), np.asarray(right)
    if nats.ndim != 1 or not len(nats) or hits.shape != nats.shape:
        raise ConfigError(f"{name}: expected entropies [N] and whether each answer was right [N], N >= 1, got "
                          f"{nats.shape} and {hits.shape}")  # fmt: skip
    if not ((nats >= -1e-6) & (nats <= most * (1 + 1e-5))).all():
        raise ConfigError(f"{name}: expected entropies from 0 to log C = {most:.4g} nats, got {nats.min():.4g} to "
                          f"{nats.max():.4g}")  # fmt: skip
    return nats.clip(0.0, most), hits.astype(bool)
