"""Trials of entropic networks, all strategies, weights, seeds and members as one batch, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropic_rl.active.acquisition import mixture
from entropic_rl.active.config import ComparisonConfig
from entropic_rl.active.experiment import Curve, Start, Trial, n_labels
from entropic_rl.active.score import score_of
from entropic_rl.active.stopping import describe_round
from entropic_rl.active.strategies import Source, find_strategy
from entropic_rl.calibration.readout import proper_readout
from entropic_rl.errors import ConfigError
from entropic_rl.parts import ALONE, Parts
from entropic_rl.snapshots import Snapshot
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["run_together"]


def run_together(
    config: ComparisonConfig,
    fit: FitConfig,
    trials: Sequence[Trial],
    starts: dict[int, Start],
    *,
    on_query: Callable[[float], None] | None = None,
    parts: Parts = ALONE,
) -> list[Curve]:
    """Curves of all trials.

    After every query networks begin anew from the same first weights, member by member the same for all trials of a
    seed: what differs is what was asked. ``on_query`` hears the mean error of a round; every round is one of the
    ``parts``.
    """
    curves = [Curve(trial) for trial in trials]
    before: list[Any] = [None] * len(trials)
    counts = n_labels(config, min(len(start.X) for start in starts.values()))
    for now, following in zip(counts, [*counts[1:], None], strict=True):
        labelled = [[*starts[curve.trial.seed].initial.tolist(), *curve.asked] for curve in curves]
        asking = partial(_round, config, fit, trials, starts, labelled=labelled, before=before, now=now,
                         following=following, check=parts.check)  # fmt: skip
        numbers = (own for start in starts.values() for own in start.numbers)
        before = parts.part(asking, partial(_extend, curves), now, labelled, *numbers)
        if on_query is not None:
            on_query(1.0 - float(np.mean([curve.scores[-1].accuracy for curve in curves])))
    return curves


def _extend(curves: Sequence[Curve], found: Snapshot) -> list[Any]:
    """Add what a round found to the curves, and give the answers of its models."""
    for curve, own in zip(curves, found.tree["curves"], strict=True):
        curve.extend(own)
    return [found.tensors[str(i)].numpy() for i in range(len(found.tensors))]


def _round(
    config: ComparisonConfig,
    fit: FitConfig,
    trials: Sequence[Trial],
    starts: dict[int, Start],
    *,
    labelled: Sequence[Sequence[int]],
    before: Sequence[Any],
    now: int,
    following: int | None,
    check: Callable[[], None],
) -> Snapshot:
    """What is added to the curve of every trial by ``now`` labels, and what models answer; asks up to ``following``."""
    networks = _fitted(config, fit, trials, starts, labelled, check=check)
    found, answers = [], {}
    for i, (trial, network) in enumerate(zip(trials, networks, strict=True)):
        start, curve = starts[trial.seed], Curve(trial)
        found.append(curve)
        test = network.log_proba(start.X_test)
        curve.scores.append(score_of(now, mixture(test), start.y_test, seed=trial.seed))
        if following is None:
            continue
        check()
        left = np.setdiff1d(np.arange(len(start.X)), labelled[i])
        view = _NetworkView(network, start, left, np.array(labelled[i]))
        answers[str(i)] = view.whole.argmax(-1)
        curve.rounds.append(describe_round(now, view.log_p, answers[str(i)].numpy(), before[i]))
        stream = Stream([trial.seed], f"query {trial.strategy}")
        stream.position = now << 20
        curve.asked += left[find_strategy(trial.strategy).select(view, following - now, stream).numpy()].tolist()
    return Snapshot({"curves": [curve.as_plain() for curve in found]}, answers)


@dataclass(frozen=True, slots=True)
class _Networks:
    """The members of one trial."""

    members: list[Perceptrons]
    ent_coefs: list[float]
    readout: str
    mc_samples: int
    seed: int

    @torch.no_grad()
    def log_proba(self, X: np.ndarray) -> Tensor:
        """Of each member or sample of dropout, ``[N, D] -> [N, K, C]``."""
        x = torch.from_numpy(X).unsqueeze(0)
        found = []
        for number, (network, coef) in enumerate(zip(self.members, self.ent_coefs, strict=True)):
            noise = Stream([self.seed], f"mc-dropout {number}") if self.mc_samples else None
            for _ in range(max(1, self.mc_samples)):
                logits = network(x, noise=noise)[0]
                proper = self.readout == "proper"
                found.append(proper_readout(logits, ent_coef=coef).log() if proper else logits.log_softmax(-1))
        return torch.stack(found, 1)

    @torch.no_grad()
    def embed(self, X: np.ndarray) -> Tensor:
        """What the last layer of the first member sees, ``[N, D']``."""
        return self.members[0].embed(torch.from_numpy(X).unsqueeze(0))[0]


class _NetworkView:
    """What networks say of the rows that are left."""

    def __init__(self, networks: _Networks, start: Start, left: np.ndarray, labelled: np.ndarray) -> None:
        self._networks, self._start, self._left, self._labelled = networks, start, left, labelled

    @cached_property
    def _everything(self) -> Tensor:
        return self._networks.log_proba(self._start.X)

    @cached_property
    def whole(self) -> Tensor:
        """Of the whole pool, ``[P, C]``."""
        return mixture(self._everything)

    @property
    def log_p(self) -> Tensor:
        return self.whole[torch.from_numpy(self._left)]

    @property
    def members(self) -> Tensor:
        return self._everything[torch.from_numpy(self._left)]

    @cached_property
    def embeddings(self) -> Tensor:
        return self._networks.embed(self._start.X[self._left])

    @cached_property
    def labelled_embeddings(self) -> Tensor:
        return self._networks.embed(self._start.X[self._labelled])

    @property
    def source(self) -> Source:
        raise ConfigError("skactiveml strategies fit a scikit-learn classifier: expected --model logistic-regression, "
                          "svm or random-forest, got entropic")  # fmt: skip


def _fitted(
    config: ComparisonConfig,
    fit: FitConfig,
    trials: Sequence[Trial],
    starts: dict[int, Start],
    labelled: Sequence[Sequence[int]],
    *,
    check: Callable[[], None],
) -> list[_Networks]:
    """Networks trained on the labelled rows of every trial."""
    n_members = 1 if config.mc_samples else config.n_members or 1
    dtype = getattr(torch, fit.dtype)
    offsets = dict(zip(starts, np.cumsum([0, *(len(start.X) for start in starts.values())]).tolist(), strict=False))
    table = Table(
        torch.from_numpy(np.concatenate([start.X for start in starts.values()])).to(dtype),
        torch.from_numpy(np.concatenate([start.y for start in starts.values()])),
    )
    runs = [(i, trial, member) for i, trial in enumerate(trials) for member in range(n_members)]
    rows = torch.tensor([[offsets[trial.seed] + row for row in labelled[i]] for i, trial, _ in runs])
    seeds = [1000 * trial.seed + member for _, trial, member in runs]
    start = next(iter(starts.values()))
    network = Perceptrons.of(fit, start.X.shape[1], start.n_classes, seeds)
    fitting = Fitting(
        network, Classification(fit.label_smoothing), fit, seeds, [trial.ent_coef for _, trial, _ in runs]
    )
    fitting.run(table, rows, on_epoch=lambda *_: check())
    coefs = fitting.ent_coef.tolist()
    found = []
    for i, trial in enumerate(trials):
        own = range(i * n_members, (i + 1) * n_members)
        members = [network.double(run) for run in own]
        found.append(_Networks(members, [coefs[run] for run in own], config.readout, config.mc_samples, trial.seed))
    return found
