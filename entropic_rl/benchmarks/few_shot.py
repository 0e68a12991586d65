"""Digits that were never seen, from one or five examples each: what bodies from other digits, and unlabelled rows, add.

Of each split five digits teach the body, tasks are of the other five. All methods get the same tasks of a split. Tasks
are drawn from one half of the rows, so that settings can be chosen on the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor

from entropic_rl.compare.statistics import Estimate, bootstrap, mean, paired_difference, sign_flip_test
from entropic_rl.compare.words import p_value
from entropic_rl.few_labels import Episodes, EpisodeSampler, episode_accuracies
from entropic_rl.few_labels.config import UnlabeledConfig
from entropic_rl.few_labels.fine_tuning import fine_tuned_logits
from entropic_rl.few_labels.meta import reptile, train_prototypical
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["BASELINE", "METHODS", "Setting", "above", "comparison_row", "setting"]

N_WAY, N_QUERY, N_UNLABELED = 5, 15, 30
HALF = 900
BASELINE = "nearest mean of pixels"
_WIDTH = 128
_PRETRAINING: dict[str, Any] = {"n_epochs": 20, "batch_size": 32}
_TUNING: dict[str, Any] = {"n_epochs": 100, "batch_size": None, "learning_rate": 0.01}
_META_RATE = 0.1
_TASKS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Setting:
    """Splits of the digits into taught and held-out ones, and tasks of the latter.

    Attributes:
        x: ``[n, 64]``, all digits / 16.
        y: ``[n]``.
        taught: ``[R, 5]``, classes.
        seeds: R.
        n_shot: rows of each class with a label.
        episodes: whose rows are of ``x``.
        unlabeled: ``[R, T, 5, U]``, rows of the same classes that are neither support nor query.
    """

    x: Tensor
    y: Tensor
    taught: Tensor
    seeds: Sequence[int]
    n_shot: int
    episodes: Episodes
    unlabeled: Tensor
    bodies: dict[Any, Perceptrons] = field(default_factory=dict)

    def flat(self, rows: Tensor) -> Tensor:
        """Pixels of ``rows [R, T, N, K]`` task after task, ``[R T, N K, 64]``."""
        return self.x[rows.flatten(0, 1).flatten(1)]


@cache
def _digits() -> tuple[Tensor, Tensor]:
    X, y = load_digits(return_X_y=True)
    return torch.from_numpy(X / 16.0).float(), torch.from_numpy(y)


def setting(n_shot: int, n_splits: int, n_tasks: int, *, half: str = "second") -> Setting:
    """Draw splits and tasks, the latter from the first or the second half of the rows (each has splits of its own)."""
    x, y = _digits()
    first = 0 if half == "first" else HALF
    seeds = range(100, 100 + n_splits) if half == "first" else range(n_splits)
    order = Stream(seeds, "held-out classes").permutation(10)
    numbers = {"n_way": N_WAY, "n_shot": n_shot, "n_query": N_QUERY + N_UNLABELED}
    sampler = EpisodeSampler(y[first : first + HALF], order[:, N_WAY:], seeds=seeds, **numbers)
    drawn = sampler.draw(n_tasks)
    query, unlabeled = (drawn.query + first).split([N_QUERY, N_UNLABELED], -1)
    episodes = Episodes(drawn.classes, drawn.support + first, query)
    return Setting(x, y, order[:, :N_WAY], seeds, n_shot, episodes, unlabeled)


def comparison_row(name: str, scores: Tensor, baseline: Tensor) -> str:
    """A Markdown row of accuracies ``[R, T]``: the mean, and its difference from the baseline's, paired by split.

    Splits are resampled, each with all of its tasks, whose noise is therefore within the interval.
    """
    rng = np.random.default_rng(0)
    own, theirs = _by_split(scores), _by_split(baseline)
    cells = [name, _percent(bootstrap(own, mean, rng))]
    if name != BASELINE:
        cells += [_percent(above(scores, baseline), "+"), f"{(own > theirs).sum()} of {len(own)}"]
        cells.append(p_value(sign_flip_test(own - theirs, rng)))
    return "| " + " | ".join(cells + ["-"] * (5 - len(cells))) + " |"


def above(scores: Tensor, baseline: Tensor) -> Estimate:
    """By how many points accuracies ``[R, T]`` are above the baseline's, with the interval over splits."""
    return paired_difference(_by_split(scores), _by_split(baseline), np.random.default_rng(0))


def _by_split(scores: Tensor) -> NDArray[np.float64]:
    """Accuracy in per cent, ``[R, T] -> [R]``."""
    return 100.0 * scores.mean(1).numpy()


def _percent(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.value:{sign}.1f} [{estimate.low:{sign}.1f}, {estimate.high:{sign}.1f}]"


def _body(case: Setting, ent_coef: float) -> Perceptrons:
    """A classifier of the taught digits of each split, all as one batch; made once."""
    if ent_coef not in case.bodies:
        columns = torch.full((len(case.taught), 10), -1).scatter(
            1, case.taught, torch.arange(N_WAY).expand_as(case.taught)
        )
        target = columns[:, case.y]  # [R, n], -1 where the digit is held out
        found = [(own >= 0).nonzero().flatten() for own in target]
        fewest = min(map(len, found))
        order = Stream(case.seeds, "rows of taught digits")
        rows = torch.stack([own[pick[:fewest]] for own, pick in zip(found, _orders(order, found), strict=True)])
        below = rows + len(case.y) * torch.arange(len(rows)).unsqueeze(1)
        network = Perceptrons((64, _WIDTH, N_WAY), case.seeds)
        table = Table(case.x.repeat(len(rows), 1), target.clamp(min=0).flatten())
        Fitting(network, Classification(), FitConfig(**_PRETRAINING), case.seeds, [ent_coef] * len(rows)).run(
            table, below
        )
        case.bodies[ent_coef] = network
    return case.bodies[ent_coef]


def _orders(stream: Stream, found: Sequence[Tensor]) -> list[Tensor]:
    """A random order of each list of rows."""
    keys = stream.uniform(max(map(len, found)))
    return [own[: len(rows)].argsort() for own, rows in zip(keys, found, strict=True)]


def _pixels(case: Setting) -> Tensor:
    return episode_accuracies(case.x, case.episodes)


def _nearest(case: Setting, ent_coef: float) -> Tensor:
    body = _body(case, ent_coef)
    with torch.no_grad():
        hidden = body.hidden(case.x.expand(len(case.seeds), -1, -1))
    return episode_accuracies(hidden, case.episodes)


def _prototypical(case: Setting, hidden: tuple[int, ...]) -> Tensor:
    network = Perceptrons((64, *hidden, 64), case.seeds)
    network.params[f"{len(hidden)}.weight"].detach().mul_(10.0)  # orthonormal: distances begin as those of its inputs
    numbers = {"n_way": N_WAY, "n_shot": case.n_shot, "n_query": N_QUERY}
    train_prototypical(network, case.x, EpisodeSampler(case.y, case.taught, seeds=case.seeds, **numbers), n_steps=100)
    with torch.no_grad():
        return episode_accuracies(network(case.x.expand(len(case.seeds), -1, -1)), case.episodes)


def _tuned(case: Setting, ent_coef: float, n_frozen: int) -> Tensor:
    return _judge(case, _body(case, ent_coef), FitConfig(ent_coef=ent_coef, **_TUNING), n_frozen=n_frozen)


def _reptile(case: Setting) -> Tensor:
    network = Perceptrons((64, _WIDTH, N_WAY), case.seeds)
    sampler = EpisodeSampler(case.y, case.taught, n_way=N_WAY, n_shot=10, n_query=1, seeds=case.seeds)
    reptile(network, case.x, sampler, n_iterations=200, n_tasks=3, inner_rate=_META_RATE)
    config = FitConfig(n_epochs=50, batch_size=None, optimizer="sgd", momentum=0.0, learning_rate=_META_RATE)
    return _judge(case, network, config, head="body")


def _from_pixels(case: Setting, unlabeled: UnlabeledConfig | None, *, counts: Sequence[int] | None = None) -> Tensor:
    """The prototypes of pixels, trained on; ``counts``: unlabelled rows of each class, all if None."""
    network = Perceptrons((64, N_WAY), case.seeds)
    rows = case.unlabeled
    if counts is not None:
        rows = torch.cat([rows[:, :, way, :n] for way, n in enumerate(counts)], -1).unsqueeze(2)
    return _judge(case, network, FitConfig(**_TUNING), head="prototypes", unlabeled=unlabeled, rows=rows)


def _from_body(case: Setting, ent_coef: float) -> Tensor:
    """The same in a frozen body."""
    settings: dict[str, Any] = {"head": "prototypes", "n_frozen": 1, "unlabeled": _BOTH, "rows": case.unlabeled}
    return _judge(case, _body(case, ent_coef), FitConfig(**_TUNING), **settings)


def _judge(
    case: Setting,
    network: Perceptrons,
    config: FitConfig,
    *,
    unlabeled: UnlabeledConfig | None = None,
    rows: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    """Accuracies ``[R, T]`` of networks that are trained on each task."""
    shape = case.episodes.support.shape[:2]
    runs = torch.arange(shape[0]).repeat_interleave(shape[1])
    support, query = case.flat(case.episodes.support), case.flat(case.episodes.query)
    found = []
    for part in torch.arange(len(runs)).split(_TASKS_AT_ONCE):
        if unlabeled is not None and rows is not None:
            settings |= {"unlabeled": case.flat(rows)[part], "unlabeled_config": unlabeled}
        logits = fine_tuned_logits(
            network, runs[part], support[part], query[part], n_way=N_WAY, config=config, seeds=part.tolist(), **settings
        )
        found.append((logits.argmax(-1) == case.episodes.ways(case.episodes.query)).double().mean(-1))
    return torch.cat(found).view(shape)


def _spreading(case: Setting) -> Tensor:
    """scikit-learn's LabelSpreading of each task's support over its unlabelled rows, judged by its queries."""
    support, query, unlabeled = (
        case.flat(rows).numpy() for rows in (case.episodes.support, case.episodes.query, case.unlabeled)
    )
    known, asked = (case.episodes.ways(rows).numpy() for rows in (case.episodes.support, case.episodes.query))
    y: NDArray[np.int64] = np.concatenate([known, np.full(unlabeled.shape[1], -1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it divides by rows without neighbours
        scores = [
            LabelSpreading(kernel="knn", max_iter=1000).fit(np.concatenate([s, u]), y).score(q, asked)
            for s, q, u in zip(support, query, unlabeled, strict=True)
        ]
    return torch.tensor(scores, dtype=torch.float64).view(case.episodes.support.shape[:2])


_BOTH = UnlabeledConfig(unlabeled_batch_size=None)
_SURE = UnlabeledConfig(unlabeled_batch_size=None, marginal_coef=0.0)

METHODS: dict[str, Callable[[Setting], Tensor]] = {
    BASELINE: _pixels,
    "nearest mean in a body, ent_coef 0": partial(_nearest, ent_coef=0.0),
    "nearest mean in a body, ent_coef 0.5": partial(_nearest, ent_coef=0.5),
    "prototypical network": partial(_prototypical, hidden=(_WIDTH,)),
    "prototypical network, linear": partial(_prototypical, hidden=()),
    "body fine-tuned, ent_coef 0": partial(_tuned, ent_coef=0.0, n_frozen=0),
    "body fine-tuned, ent_coef 0.1": partial(_tuned, ent_coef=0.1, n_frozen=0),
    "body fine-tuned, ent_coef 0.5": partial(_tuned, ent_coef=0.5, n_frozen=0),
    "body frozen, ent_coef 0": partial(_tuned, ent_coef=0.0, n_frozen=1),
    "body frozen, ent_coef 0.1": partial(_tuned, ent_coef=0.1, n_frozen=1),
    "body frozen, ent_coef 0.5": partial(_tuned, ent_coef=0.5, n_frozen=1),
    "Reptile": _reptile,
    "pixels fine-tuned, labelled rows alone": partial(_from_pixels, unlabeled=None),
    "pixels, entropy minimisation, no marginal term": partial(_from_pixels, unlabeled=_SURE),
    "pixels, entropy minimisation": partial(_from_pixels, unlabeled=_BOTH),
    "the same, classes unlike often": partial(_from_pixels, unlabeled=_BOTH, counts=(30, 30, 6, 6, 6)),
    "body frozen, ent_coef 0.5, entropy minimisation": partial(_from_body, ent_coef=0.5),
    "LabelSpreading, 7 neighbours": _spreading,
}
