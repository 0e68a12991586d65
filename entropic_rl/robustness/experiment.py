"""Networks over entropy coefficients and seeds, and adversarially trained ones, as one batch; and their attack, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from entropic_rl.datasets import Dataset, load, split
from entropic_rl.errors import ConfigError
from entropic_rl.parts import ALONE, Parts
from entropic_rl.robustness.balls import Box
from entropic_rl.robustness.config import RobustnessConfig, Settings
from entropic_rl.robustness.corruptions import corruption_curve
from entropic_rl.robustness.curves import Curve, robustness_curve
from entropic_rl.robustness.masking import MaskingFlags, masking_flags
from entropic_rl.robustness.training import AdversarialRows
from entropic_rl.schedules import shortest
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["Found", "Group", "Sample", "attack", "groups_of", "sample", "train"]

_BOXES: dict[str, Box] = {"digits": (0.0, 16.0)}  # of data whose makers say so
_NO_BOX: Box = (-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Group:
    """Networks that differ by their seeds alone.

    Attributes:
        ent_coef: as it was asked for.
        eps: radius of the adversarial training; 0 for none.
    """

    ent_coef: float | str
    eps: float = 0.0

    @property
    def name(self) -> str:
        """What is particular about the training, in words."""
        if self.eps:
            return f"adversarial {self.eps:g}"
        return f"ent_coef {self.ent_coef if isinstance(self.ent_coef, str) else shortest(self.ent_coef)}"


@dataclass(frozen=True, slots=True)
class Sample:
    """Data of S seeds, each split and scaled on its own.

    Attributes:
        x: ``[S, N, D]``, float32, as networks see it.
        y: ``[S, N]``.
        n_train: the first so many rows of each seed are learned from, the others attacked.
        n_classes: C.
        box: of the features.
        summary: of the data, in words.
        unit: what a radius of 1 is, in words.
    """

    x: Tensor
    y: Tensor
    n_train: int
    n_classes: int
    box: Box
    summary: str
    unit: str


@dataclass(frozen=True, slots=True)
class Found:
    """What attacks and corruptions found, for the runs of all groups: ``R = G S``, a group's seeds side by side.

    Attributes:
        groups: G.
        n_seeds: S.
        curve: of all runs.
        flags: R.
        corruptions: accuracy by kind, ``[severities, R]``.
    """

    groups: list[Group]
    n_seeds: int
    curve: Curve
    flags: list[MaskingFlags]
    corruptions: dict[str, Tensor]


def groups_of(ent_coefs: Sequence[float | str], config: RobustnessConfig) -> list[Group]:
    """Every coefficient, and plain networks of every adversarial training."""
    return [*(Group(coef) for coef in ent_coefs), *(Group(0.0, eps) for eps in config.adversarial)]


def sample(config: RobustnessConfig, n_seeds: int) -> Sample:
    """Data of so many seeds, split with all classes on both sides.

    Raises:
        ConfigError: features lie outside the box, or the scale needs a box and there is none.
    """
    box = config.box or _BOXES.get(config.data, ())
    scale = config.scale if config.scale != "auto" else "box" if box else "standard"
    if scale == "box" and not box:
        raise ConfigError(f"box: expected LOW HIGH of the features of {config.data}, which scale box maps to 0 and 1")
    if scale == "standard" and config.box:
        raise ConfigError(
            "box: expected scale box or none beside it; standardised features have a box of their own each"
        )
    inside: Box = (box[0], box[1]) if box and scale != "standard" else _NO_BOX
    parts = [_of_seed(config, seed, scale, inside) for seed in range(n_seeds)]
    n_train, n_test = min(len(part[0][1]) for part in parts), min(len(part[1][1]) for part in parts)
    rows = [[np.concatenate([train[i][:n_train], test[i][:n_test]]) for i in (0, 1)] for train, test, _ in parts]
    x, y = (np.stack([row[i] for row in rows]) for i in (0, 1))
    dataset = parts[0][2]
    units = {"box": f"the width of the box, {inside[1] - inside[0]:g} in the data", "none": "1 in the data",
             "standard": "a standard deviation of each feature"}  # fmt: skip
    limits = (0.0, 1.0) if scale == "box" else inside
    return Sample(
        torch.from_numpy(x).float().clamp(*limits),  # which rounding may leave
        torch.from_numpy(y),
        n_train,
        len(dataset.classes),
        limits,
        dataset.summary(),
        units[scale],
    )


def train(
    settings: Settings,
    groups: Sequence[Group],
    data: Sample,
    *,
    on_epoch: Callable[[int, Tensor], None] | None = None,
    parts: Parts = ALONE,
) -> Perceptrons:
    """Train every group on every seed; networks of one seed have the same rows, first weights and minibatches.

    Ordinary and adversarial ones train one after the other, as ``parts``; ``on_epoch`` hears the number of all epochs
    so far.
    """
    config, fit = settings.config, settings.fit
    n_seeds, n_rows = data.y.shape
    table = Table(data.x.flatten(0, 1), data.y.flatten())
    own = torch.arange(data.n_train) + n_rows * torch.arange(n_seeds).unsqueeze(1)  # [S, n_train]
    states: list[dict[str, Tensor]] = []
    for adversarial in (False, True):
        some = [group for group in groups if bool(group.eps) is adversarial]
        if not some:
            continue
        seeds = list(range(n_seeds)) * len(some)
        network = _network(fit, data, seeds)
        perturb = None
        if adversarial:
            radii = [group.eps for group in some for _ in range(n_seeds)]
            perturb = AdversarialRows(
                network, seeds, radii, norm=config.norm, n_steps=config.adversarial_steps, box=data.box
            )
        coefs = [group.ent_coef for group in some for _ in range(n_seeds)]
        fitting = Fitting(network, Classification(fit.label_smoothing), fit, seeds, coefs, perturb=perturb)
        done = len(states) * fit.n_epochs
        heard = None if on_epoch is None else _counting(on_epoch, done)
        parts.fit(fitting, table, own.repeat(len(some), 1), None, heard)
        states.append(network.state_dict())
    return _with_state(fit, data, {name: torch.cat([state[name] for state in states]) for name in states[0]})


def attack(
    settings: Settings,
    groups: Sequence[Group],
    data: Sample,
    network: Perceptrons,
    *,
    on_eps: Callable[[int], None] | None = None,
    parts: Parts = ALONE,
) -> Found:
    """Attack and corrupt the test rows of every run; rows made for the first group's other seeds are tried as well."""
    config, fit, n_seeds = settings.config, settings.fit, len(data.y)
    seeds = list(range(n_seeds)) * len(groups)
    x, y = (rows[:, data.n_train :].repeat(len(groups), *[1] * (rows.ndim - 1)) for rows in (data.x, data.y))
    others = [(seed + 1) % n_seeds for seed in seeds]
    lender = _with_state(fit, data, {name: rows[others] for name, rows in network.state_dict().items()})
    curve = robustness_curve(
        network, x, y, eps=config.eps, norm=config.norm, box=data.box, config=settings.attack, surrogate=lender,
        stream=Stream(seeds, "attack"), on_eps=on_eps,
        parts=parts,
    )  # fmt: skip
    corrupted = corruption_curve(network, x, y, config.severities, box=data.box, seeds=seeds)
    return Found(list(groups), n_seeds, curve, [masking_flags(curve, run) for run in range(len(seeds))], corrupted)


def _of_seed(
    config: RobustnessConfig, seed: int, scale: str, box: Box
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], Dataset]:
    """Features and labels to learn from and to attack."""
    dataset = load(config.data, target=config.target, n=config.n, seed=seed)
    low, high = box
    least, most = dataset.X.min(), dataset.X.max()
    if not low <= least <= most <= high:
        raise ConfigError(
            f"box: expected features from {low:g} to {high:g}, got {least:g} to {most:g}; declare the box that they "
            "lie in by --box LOW HIGH"
        )
    sides = split(dataset, (1.0 - config.test_fraction, 0.0, config.test_fraction), seed=seed)
    X = dataset.X
    if scale == "standard":
        X = StandardScaler().fit(X[sides.train]).transform(X)
    elif scale == "box":
        X = (X - low) / (high - low)
    return (X[sides.train], dataset.y[sides.train]), (X[sides.test], dataset.y[sides.test]), dataset


def _network(fit: FitConfig, data: Sample, seeds: Sequence[int]) -> Perceptrons:
    return Perceptrons.of(fit, data.x.shape[-1], data.n_classes, seeds, dtype=torch.float32)


def _with_state(fit: FitConfig, data: Sample, state: dict[str, Tensor]) -> Perceptrons:
    """A network of the runs whose rows are given."""
    network = _network(fit, data, [0] * len(next(iter(state.values()))))
    network.load_state_dict(state)
    return network


def _counting(on_epoch: Callable[[int, Tensor], None], done: int) -> Callable[[int, Tensor], None]:
    return lambda epoch, losses: on_epoch(done + epoch, losses)
