"""Accuracy over the radius of the attack, by every attack there is: the least of them is what a model is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from entropic_rl.errors import ConfigError
from entropic_rl.parts import ALONE, Parts
from entropic_rl.robustness.attacks import Best, climb, pgd, single_step
from entropic_rl.robustness.balls import Ball, Box, as_box, check_eps, check_norm
from entropic_rl.robustness.black_box import noise, random_search
from entropic_rl.robustness.config import AttackConfig
from entropic_rl.robustness.losses import LOSSES, cross_entropy, margin
from entropic_rl.robustness.victims import Rows, Victim, at_rest, fooled_by
from entropic_rl.snapshots import Snapshot
from entropic_rl.streams import Stream

__all__ = ["STRONGEST", "Curve", "Evidence", "robustness_curve"]

STRONGEST = "strongest"
_REACH = 2.5  # as in attacks.py
_ALONE = "pgd iterates"  # of the cross-entropy, without the point of FGSM among them


@dataclass(frozen=True, slots=True)
class Evidence:
    """What tells a masked gradient from a robust model, ``[R]`` each.

    Attributes:
        dead: share of rows whose gradient of the cross-entropy is zero or not finite.
        unsteady: share of rows whose logits are others when they are asked for again.
        far: accuracy under PGD on the cross-entropy in a ball as wide as the box, or as the rows where there is none.
        far_eps: its radius.
    """

    dead: Tensor
    unsteady: Tensor
    far: Tensor
    far_eps: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Which rows are fooled by which attack within which radius.

    Attributes:
        eps: ``[K]`` radii, increasing.
        norm: of the balls.
        fooled: by attack, ``[K, R, N]``; what is fooled in a ball is fooled in those around it.
        evidence: for :func:`entropic_rl.robustness.masking.masking_flags`.
    """

    eps: tuple[float, ...]
    norm: str
    fooled: dict[str, Tensor]
    evidence: Evidence

    def accuracy(self, attack: str = STRONGEST) -> Tensor:
        """Share of rows that withstand, ``[K, R]``.

        Raises:
            ConfigError: there is no such attack.
        """
        if attack not in self.fooled:
            raise ConfigError(f"attack: expected one of {', '.join(self.fooled)}, got {attack!r}")
        return (~self.fooled[attack]).double().mean(-1)


def robustness_curve(
    model: Any,
    x: Tensor,
    y: Tensor,
    *,
    eps: Sequence[float],
    norm: str = "linf",
    box: Sequence[float] | None = None,
    config: AttackConfig | None = None,
    stream: Stream | None = None,
    surrogate: Any = None,
    on_eps: Callable[[int], None] | None = None,
    parts: Parts = ALONE,
) -> Curve:
    """Attack rows by noise, FGSM, PGD on three losses, random search and, given a surrogate, by transfer.

    ``strongest`` is fooled by any of them. At radius 0 all have the clean accuracy, exactly; ``pgd cross-entropy`` has
    FGSM's point among its own.

    Args:
        model: see :func:`entropic_rl.robustness.victims.at_rest`.
        x: ``[N, ...]``, or ``[R, N, ...]`` for a model that answers for R runs.
        y: classes, ``[N]`` or ``[R, N]``.
        eps: K radii >= 0, in the units of the features.
        norm: ``linf`` or ``l2``.
        box: least and largest value of the features; no bounds if None.
        config: how hard; the defaults if None.
        stream: of R runs, or of one for all.
        surrogate: a model, as ``model`` is, whose adversarial rows are tried on the other.
        on_eps: hears how many radii are done.
        parts: who keeps what a radius comes to.

    Raises:
        ConfigError: as :func:`entropic_rl.robustness.attacks.pgd`.
    """
    radii = sorted({check_eps(value) for value in eps})
    if not radii:
        raise ConfigError("eps: expected at least one radius, got none")
    check_norm(norm)
    config = config or AttackConfig()
    rows = Rows(x, y)
    limits = as_box(box, rows.x)
    stream = stream or Stream([0], "attack", device=rows.x.device)
    with at_rest(model, rows) as victim:
        clean = fooled_by(victim.logits(rows.x), rows.y)
        attack = _Attack(victim, rows, norm, limits, config, stream)
        found: dict[str, list[Tensor]] = {}
        for k, radius in enumerate(radii):

            def attacked(radius: float = radius) -> dict[str, Tensor]:
                borrowed = None if surrogate is None or radius == 0.0 else attack.borrowed(surrogate, x, y, radius)
                return attack.within(radius, clean, borrowed, transfer=surrogate is not None)

            for name, fooled in _kept(parts, stream, attacked, radius, rows.x, rows.y, clean).items():
                nested = fooled | found[name][-1] if name in found else fooled
                found.setdefault(name, []).append(nested)
            if on_eps is not None:
                on_eps(k + 1)
        evidence = attack.evidence()
    return Curve(tuple(radii), norm, {name: torch.stack(values) for name, values in found.items()}, evidence)


def _kept(parts: Parts, stream: Stream, find: Callable[[], dict[str, Tensor]], *made_of: Any) -> dict[str, Tensor]:
    """What is found by draws of a stream, now or before; the stream is behind them in any case."""

    def make() -> Snapshot:
        found = {name: tensor.clone() for name, tensor in find().items()}  # files hold no tensor twice
        return Snapshot({"names": list(found)}, found | {"position": torch.as_tensor(stream.position)})

    def read(made: Snapshot) -> tuple[Tensor, dict[str, Tensor]]:
        return made.tensors["position"], {name: made.tensors[name] for name in made.tree["names"]}

    position, found = parts.part(make, read, *made_of)
    stream.position = position if position.ndim else int(position)
    return found


@dataclass(frozen=True, slots=True)
class _Attack:
    """Everything that is tried on some rows."""

    victim: Victim
    rows: Rows
    norm: str
    box: Box
    config: AttackConfig
    stream: Stream

    def within(self, eps: float, clean: Tensor, borrowed: Tensor | None, *, transfer: bool) -> dict[str, Tensor]:
        """Who is fooled within a radius, ``[R, N]`` by attack; ``clean`` without any."""
        names = [f"pgd {name}" for name in LOSSES]
        if eps == 0.0:
            searched = ["random search"] * bool(self.config.n_queries) + ["transfer"] * transfer
            return dict.fromkeys(("noise", "fgsm", _ALONE, *names, *searched, STRONGEST), clean)
        found = {"noise": self._noise(eps), "fgsm": self._single(eps, "cross-entropy")}
        for name in LOSSES:
            iterates = self._pgd(eps, name)
            if name == "cross-entropy":
                found[_ALONE] = iterates
            found[f"pgd {name}"] = iterates | self._single(eps, name)
        if self.config.n_queries:
            found["random search"] = self._search(eps)
        if borrowed is not None:
            found["transfer"] = fooled_by(self.victim.logits(borrowed), self.rows.y)
        found = {name: fooled | clean for name, fooled in found.items()}
        return {**found, STRONGEST: torch.stack(list(found.values())).any(0)}

    def evidence(self) -> Evidence:
        gradient, _, logits = self.victim.ascend(self.rows.x, cross_entropy)
        largest = gradient.abs().amax(-1)
        dead = (largest == 0.0) | ~largest.isfinite()
        unsteady = (self.victim.logits(self.rows.x) != logits).any(-1)  # NaN is no steady answer either
        low, high = self.box
        spans = self.rows.x.amax((0, 1)) - self.rows.x.amin((0, 1)) if high - low == torch.inf else high - low
        widest = torch.as_tensor(spans, dtype=torch.float64).expand(self.rows.x.shape[-1])
        far = float(widest.max() if self.norm == "linf" else widest.norm())
        fooled = self._pgd(far, "cross-entropy")
        return Evidence(dead.double().mean(-1), unsteady.double().mean(-1), (~fooled).double().mean(-1), far)

    def _untouched(self) -> Best:
        """Nothing found yet."""
        nobody = torch.zeros_like(self.rows.y, dtype=torch.bool)
        return Best(self.rows.x, nobody, torch.full_like(self.rows.x[..., 0], -torch.inf))

    def _ball(self, eps: float) -> Ball:
        return Ball(eps, self.norm, self.box)

    def _noise(self, eps: float) -> Tensor:
        best = self._untouched()
        noise(self.victim, self.rows, best, self.stream, ball=self._ball(eps), loss=margin, n=self.config.n_noise)
        return best.fooled

    def _single(self, eps: float, loss: str) -> Tensor:
        return single_step(self.victim, self.rows, self._ball(eps), LOSSES[loss]).fooled

    def _pgd(self, eps: float, loss: str) -> Tensor:
        best, ball, n_steps = self._untouched(), self._ball(eps), self.config.n_steps
        step = eps * (_REACH / n_steps if self.config.step_size is None else self.config.step_size)
        for _ in range(self.config.n_restarts):
            start = ball.random_point(self.rows.x, self.stream)
            climb(self.victim, self.rows, best, start, ball=ball, loss=LOSSES[loss], n_steps=n_steps, step=step)
        return best.fooled

    def _search(self, eps: float) -> Tensor:
        best, n_queries = self._untouched(), self.config.n_queries
        random_search(self.victim, self.rows, best, self.stream, ball=self._ball(eps), loss=margin, n_queries=n_queries)
        return best.fooled

    def borrowed(self, surrogate: Any, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Adversarial rows ``[R, N, D]`` of another model, given ours as they came."""
        steps: dict[str, Any] = {"n_steps": self.config.n_steps, "step_size": self.config.step_size}
        moved = pgd(surrogate, x, y, eps=eps, norm=self.norm, box=self.box, stream=self.stream, **steps)
        return moved.x.reshape(self.rows.x.shape)
