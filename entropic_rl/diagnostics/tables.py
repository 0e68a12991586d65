"""Traces and checks as text: numbers at four digits, errors only as far as they say something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

__all__ = ["error_text", "number_text", "table", "trace_table"]

_WELL = 1e-6
_EXACT = 1e-12


def trace_table(trace: Any) -> str:
    """A traced weight (:class:`entropic_rl.diagnostics.chain_rule.ChainRule`) as a table for a terminal."""
    x, p = _tuple(trace.values["x"]), _tuple(trace.values["p"])
    weight = trace.weights[trace.depth][trace.row, trace.column]
    lines = [
        f"w = network[{trace.layer}].weight[{trace.row}, {trace.column}] = {number_text(weight)}, "
        f"x = {x}, target {trace.target}",
        f"p = {p}, cross-entropy L = {number_text(trace.values['L'])}, "
        f"entropy H = {number_text(trace.values['H'])} nats",
        "",
    ]
    shared = trace.task.factors[1:]
    rows = [_factor_row(factor) for factor in trace.task.factors] + [_chain_row(trace.task), []]
    own = trace.entropy.factors[: -len(shared)]
    rows += [_factor_row(factor) for factor in own]
    rows.append(_factor_row(trace.entropy_by_logits))
    again = " ".join(factor.symbol for factor in shared)
    rows += [[again, "as above"], _chain_row(trace.entropy)]
    lines.append(table(["factor", "what it is", "value", "finite difference", "relative error"], rows))
    autograd = max(abs(c.product - c.autograd) / max(abs(c.autograd), 1e-300) if c.product != c.autograd else 0.0
                   for c in (trace.task, trace.entropy))  # fmt: skip
    lines += [
        "",
        f"dL/dw - ent_coef dH/dw = {number_text(trace.task.product)} - {trace.ent_coef:g} x "
        f"{number_text(trace.entropy.product)} = {number_text(trace.total)}; "
        f"autograd of the entropic loss: {number_text(trace.total_autograd)}",
        f"products beside autograd: relative error {error_text(autograd, _EXACT)}",
    ]
    if any(f.extrapolated for f in (*trace.task.factors, *own, trace.entropy_by_logits, trace.task, trace.entropy)):
        lines.append("* two steps, extrapolated (Richardson): one step alone would err by more than 1e-7")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, as wide as they need to be; an empty row is an empty line."""
    full = [list(head), *([*row, *[""] * (len(head) - len(row))] for row in rows)]
    widths = [max(len(row[i]) for row in full) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in full]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def number_text(number: Tensor | float) -> str:
    """Four digits, and never a negative zero."""
    return f"{float(number):.4g}" if float(number) else "0"


def error_text(error: float, enough: float = _WELL) -> str:
    """An error, or only that it is small enough: what rounding leaves differs between machines."""
    return f"< {enough:.0e}".replace("e-0", "e-") if error < enough else f"{error:.1e}"


def _factor_row(factor: Any) -> list[str]:
    mark = "*" if factor.extrapolated else ""
    value, difference = _tensor_text(factor.value), _tensor_text(factor.difference, like=factor.value)
    return [factor.symbol, factor.meaning, value, difference + mark, error_text(factor.relative_error)]


def _chain_row(chain: Any) -> list[str]:
    mark = "*" if chain.extrapolated else ""
    return [chain.symbol, "their product", number_text(chain.product), number_text(chain.difference) + mark,
            error_text(chain.relative_error)]  # fmt: skip


def _tuple(vector: Tensor) -> str:
    return f"({', '.join(number_text(v) for v in vector)})"


def _tensor_text(tensor: Tensor, like: Tensor | None = None) -> str:
    """``(1, 2)``, ``[1 2; 3 4]``, ``diag(1, 2)``; large ones by their shape. ``like`` decides which zeros are noise."""
    like = tensor if like is None else like
    tensor = tensor.where((like != 0) | (tensor.abs() > 1e-9), 0.0)
    if tensor.numel() > 16:
        return f"{' x '.join(map(str, tensor.shape))} numbers"
    if tensor.ndim == 1:
        return _tuple(tensor)
    if tensor.shape[0] == tensor.shape[1] > 1 and not bool((tensor - tensor.diagonal().diag()).any()):
        return f"diag{_tuple(tensor.diagonal())}"
    return f"[{'; '.join(' '.join(number_text(v) for v in row) for row in tensor)}]"


def flow_table(series: Any) -> str:
    """The last quarter of the looks (:class:`entropic_rl.diagnostics.record.Series`) and what is wrong, in words."""
    head = ["layer", "task", "entropy", "cosine", "entropy/task", "share of step", "update/weight", "dead",
            "saturated", "verdict"]  # fmt: skip
    columns = ("task_norm", "entropy_norm", "cosine", "ratio", "entropy_share", "update_ratio", "dead", "saturated")
    typical = series.typical()
    rows = [
        [layer, *(_known(typical[name][i], name) for name in columns), verdict.state]
        for i, (layer, verdict) in enumerate(zip(series.layers, series.verdicts, strict=True))
    ]
    used = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [table([head[i] for i in used], [[row[i] for i in used] for row in rows])]
    unwell = [str(verdict) for verdict in series.verdicts if verdict.state != "healthy"]
    return "\n".join([*lines, "", *(unwell or [f"all {len(series.layers)} layers are healthy"])])


def _known(number: float, name: str) -> str:
    if math.isnan(number):
        return ""
    if name in ("dead", "saturated", "entropy_share"):
        return f"{number:.0%}"
    return f"{number:.2f}" if name == "cosine" else f"{number:.1e}"
