"""Classifiers over entropy coefficients, seeds and folds, trained as one batch, and their answers read out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from entropic_rl.calibrate.config import CalibrationConfig
from entropic_rl.calibration.readout import proper_readout
from entropic_rl.calibration.temperature import TemperatureScaler
from entropic_rl.datasets import Dataset, folds, load, split
from entropic_rl.parts import ALONE, Parts
from entropic_rl.schedules import shortest
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["READOUTS", "Answers", "Model", "Share", "datasets_of", "shares_of", "train"]

READOUTS = ("raw", "proper", "temperature")
_TOGETHER = 160  # runs of a batch: more gain no time and cost memory
_ROWS = 4096  # that are predicted together

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Share:
    """Rows of one seed and fold.

    Attributes:
        seed: of data, split and training.
        fold: number of it, 0 where there is one split.
        train: rows to learn from.
        validation: rows for temperature, early stopping and choices.
        test: rows to be measured on.
    """

    seed: int
    fold: int
    train: Ints
    validation: Ints
    test: Ints


@dataclass(frozen=True, slots=True)
class Model:
    """One trained network, with what it needs to answer.

    Attributes:
        network: of one run, float64.
        scaler: of the features; None if they go in as they are.
        ent_coef: entropy weight at the end of training.
        temperature: fitted on the validation rows.
        n_epochs: trained.
        floor: of the proper read-out's factor.
    """

    network: Perceptrons
    scaler: StandardScaler | None
    ent_coef: float
    temperature: float
    n_epochs: int
    floor: float

    def proba(self, X: Array, readout: str) -> Array:
        """Probabilities of raw features, ``[N, D] -> [N, C]``."""
        return self.read(self.logits(X), readout)

    @torch.no_grad()
    def logits(self, X: Array) -> Tensor:
        """Logits of raw features, ``[N, D] -> [N, C]``."""
        x = torch.from_numpy(_scaled(self.scaler, X))
        return torch.cat([self.network(rows.unsqueeze(0))[0] for rows in x.split(_ROWS)])

    def read(self, logits: Tensor, readout: str) -> Array:
        """Logits ``[N, C]`` as probabilities."""
        if readout == "proper":
            return proper_readout(logits, ent_coef=self.ent_coef, floor=self.floor).numpy()
        return (logits / (self.temperature if readout == "temperature" else 1.0)).softmax(-1).numpy()


@dataclass(frozen=True, slots=True)
class Answers:
    """What models of one coefficient and seed say of rows that they were not trained on, folds pooled.

    Attributes:
        ent_coef: as it was asked for.
        seed: theirs.
        rows: ``[M]``, of the seed's dataset.
        proba: ``[M, C]`` by read-out.
        validation_nll: of the validation rows, by read-out; nats.
        models: one per fold.
    """

    ent_coef: float | str
    seed: int
    rows: Ints
    proba: dict[str, Array]
    validation_nll: dict[str, float]
    models: list[Model]

    @property
    def name(self) -> str:
        """The coefficient as text."""
        return self.ent_coef if isinstance(self.ent_coef, str) else shortest(self.ent_coef)


def datasets_of(config: CalibrationConfig, seeds: Sequence[int]) -> dict[int, Dataset]:
    """The data of each seed: drawn anew, or with label noise of its own."""
    names = ("target", "group", "n", "noise", "label_noise", "label_noise_kind", "imbalance")
    chosen: dict[str, Any] = {name: getattr(config, name) for name in names}
    return {seed: load(config.data, **chosen, seed=seed) for seed in seeds}


def shares_of(config: CalibrationConfig, dataset: Dataset, seed: int) -> list[Share]:
    """Who learns from what, who is measured on what."""
    v, t = config.validation_fraction, config.test_fraction
    if not config.folds:
        sides = split(dataset, ((1.0 - t) * (1.0 - v), (1.0 - t) * v, t), seed=seed)
        return [Share(seed, 0, *sides)]
    found = []
    for fold, (others, test) in enumerate(folds(dataset, config.folds, seed=seed)):
        inner = split(dataset.take(others), (1.0 - v, v, 0.0), seed=seed)
        found.append(Share(seed, fold, others[inner.train], others[inner.validation], test))
    return found


def train(
    config: CalibrationConfig,
    fit: FitConfig,
    ent_coefs: Sequence[float | str],
    datasets: dict[int, Dataset],
    shares: Sequence[Share],
    *,
    on_epoch: Callable[[int, Tensor], None] | None = None,
    parts: Parts = ALONE,
) -> list[Answers]:
    """Train every coefficient on every share, and let each model answer on its test rows.

    Networks of one seed begin with the same weights and see the same minibatches, whatever their coefficient: results
    are paired. ``on_epoch`` hears the number of all epochs so far; every batch is one of the ``parts``.
    """
    jobs = [(coef, share) for coef in ent_coefs for share in shares]
    done = 0
    models: dict[tuple[float | str, int, int], tuple[Model, Tensor, dict[str, float]]] = {}
    for batch in _batches(jobs):
        heard = None if on_epoch is None else _counting(on_epoch, done)
        trained = _fit(config, fit, batch, datasets, on_epoch=heard, parts=parts)
        for (coef, share), model in zip(batch, trained, strict=True):
            dataset = datasets[share.seed]
            logits, y = model.logits(dataset.X[share.validation]), dataset.y[share.validation]
            losses = {name: _nll(model.read(logits, name), y) for name in READOUTS}
            models[coef, share.seed, share.fold] = (model, model.logits(dataset.X[share.test]), losses)
        done += fit.n_epochs
    return [_pooled(coef, seed, shares, models) for coef in ent_coefs for seed in datasets]


def n_batches(n_jobs: int) -> int:
    """Batches that so many runs are trained in, if all train on as many rows."""
    return -(-n_jobs // _TOGETHER)


def _fit(
    config: CalibrationConfig,
    fit: FitConfig,
    batch: Sequence[tuple[float | str, Share]],
    datasets: dict[int, Dataset],
    *,
    on_epoch: Callable[[int, Tensor], None] | None,
    parts: Parts,
) -> list[Model]:
    """Train runs that have equally many rows as one batch."""
    shares = {(share.seed, share.fold): share for _, share in batch}
    scalers = {key: _scaler(config, datasets[share.seed], share) for key, share in shares.items()}
    # One table of all shares below each other: each has its own data and its own scale.
    scaled = [_scaled(scalers[key], datasets[share.seed].X) for key, share in shares.items()]
    offsets = dict(zip(shares, np.cumsum([0, *map(len, scaled)]).tolist(), strict=False))
    dtype = getattr(torch, fit.dtype)
    targets = np.concatenate([datasets[share.seed].y for share in shares.values()])
    table = Table(torch.from_numpy(np.concatenate(scaled)).to(dtype), torch.from_numpy(targets))

    def rows(side: str) -> Tensor:
        own = [getattr(share, side) + offsets[share.seed, share.fold] for _, share in batch]
        return torch.from_numpy(np.stack(own))

    n_classes = len(datasets[batch[0][1].seed].classes)
    seeds = [1000 * share.seed + share.fold for _, share in batch]
    network = Perceptrons.of(fit, table.x.shape[1], n_classes, seeds)
    fitting = Fitting(network, Classification(fit.label_smoothing), fit, seeds, [coef for coef, _ in batch])
    parts.fit(fitting, table, rows("train"), rows("validation") if fit.early_stopping else None, on_epoch)
    models = []
    for run, (_, share) in enumerate(batch):
        coef, n_epochs = float(fitting.ent_coef[run]), int(fitting.n_epochs[run])
        model = Model(network.double(run), scalers[share.seed, share.fold], coef, 1.0, n_epochs, config.floor)
        dataset = datasets[share.seed]
        scaler = TemperatureScaler(prior_precision=config.temperature_prior)
        scaler.fit(model.logits(dataset.X[share.validation]), dataset.y[share.validation])
        models.append(replace(model, temperature=scaler.temperature))
    return models


def _pooled(
    coef: float | str,
    seed: int,
    shares: Sequence[Share],
    models: dict[tuple[float | str, int, int], tuple[Model, Tensor, dict[str, float]]],
) -> Answers:
    own = [share for share in shares if share.seed == seed]
    found = [models[coef, seed, share.fold] for share in own]
    return Answers(
        coef,
        seed,
        np.concatenate([share.test for share in own]),
        {name: np.concatenate([model.read(logits, name) for model, logits, _ in found]) for name in READOUTS},
        {name: float(np.mean([losses[name] for *_, losses in found])) for name in READOUTS},
        [model for model, *_ in found],
    )


def _batches(jobs: Sequence[tuple[float | str, Share]]) -> Iterator[list[tuple[float | str, Share]]]:
    """Jobs with equally many rows on every side, so many at a time."""
    by_size: dict[tuple[int, int], list[tuple[float | str, Share]]] = {}
    for job in jobs:
        by_size.setdefault((len(job[1].train), len(job[1].validation)), []).append(job)
    for alike in by_size.values():
        for start in range(0, len(alike), _TOGETHER):
            yield alike[start : start + _TOGETHER]


def _counting(on_epoch: Callable[[int, Tensor], None], done: int) -> Callable[[int, Tensor], None]:
    return lambda epoch, losses: on_epoch(done + epoch, losses)


def _scaler(config: CalibrationConfig, dataset: Dataset, share: Share) -> StandardScaler | None:
    return StandardScaler().fit(dataset.X[share.train]) if config.standardize else None


def _scaled(scaler: StandardScaler | None, X: Array) -> Array:
    return X if scaler is None else scaler.transform(X)


def _nll(p: Array, y: Ints) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], np.finfo(np.float64).tiny)).mean())
