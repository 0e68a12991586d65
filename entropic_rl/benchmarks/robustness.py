"""Attacks by the numbers: what they must satisfy, how often planted masks are found, and what foolbox finds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from entropic_rl.errors import ConfigError
from entropic_rl.robustness.attacks import fgsm, pgd
from entropic_rl.robustness.curves import robustness_curve
from entropic_rl.robustness.masking import MaskingFlags, masking_flags
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["MASKS", "exactness_table", "foolbox_table", "masking_table", "planted"]

Logits = Callable[[Tensor], Tensor]

_BOX = (0.0, 1.0)
_EPOCHS = 60
_NOISE = 0.5  # of the planted random answers, in logits
_LEVELS = 8.0  # that the planted layer without a gradient rounds pixels to


def planted(seeds: Sequence[int], *, n_epochs: int | None = None) -> tuple[Perceptrons, Logits, Tensor, Tensor]:
    """Plain networks on digits, as surrogates those of other seeds, and test rows ``[R, 360, 64]`` with labels.

    Each has a split, first weights and minibatches of its own.
    """
    X, y = load_digits(return_X_y=True)
    x, target = torch.from_numpy(X / 16.0).float(), torch.from_numpy(y)
    order = Stream(seeds, "split").permutation(len(x))
    networks = []
    for shift in (0, 1000):
        own = [seed + shift for seed in seeds]
        network = Perceptrons((64, 64, 10), own)
        config = FitConfig(n_epochs=n_epochs or _EPOCHS, batch_size=64, learning_rate=3e-3)
        Fitting(network, Classification(), config, own).run(Table(x, target), order[:, 360:])
        networks.append(network)
    return networks[0], networks[1], x[order[:, :360]], target[order[:, :360]]


def _rounded(network: Logits) -> Logits:
    return lambda x: network((x * _LEVELS).round() / _LEVELS)


def _noisy(network: Logits) -> Logits:
    return lambda x: (logits := network(x)) + _NOISE * torch.randn_like(logits)


MASKS: dict[str, Callable[[Logits], Logits]] = {
    "plain": lambda network: network,
    "logits x 100": lambda network: lambda x: 100.0 * network(x),
    "zero-gradient layer": _rounded,
    "random noise": _noisy,
}


def masking_table(n_trials: int, eps: Sequence[float]) -> str:
    """How many networks of each kind are flagged, and by which flags, as Markdown rows."""
    network, surrogate, x, y = planted(range(n_trials))
    lines = []
    for name, mask in MASKS.items():
        curve = robustness_curve(mask(network), x, y, eps=eps, box=_BOX, surrogate=surrogate)
        flags = [masking_flags(curve, run) for run in range(n_trials)]
        caught = sum(bool(own.raised) for own in flags)
        k = len(curve.eps) // 2
        accuracy = [
            f"{100 * float(curve.accuracy(attack)[k].mean()):.1f}" for attack in ("pgd cross-entropy", "strongest")
        ]
        each = [f"{sum(flag.raised for flag in same)}" for same in zip(*flags, strict=True)]
        lines.append(f"| {name} | **{caught} of {n_trials}** | {' | '.join(each)} | {' / '.join(accuracy)} |")
    head = [flag.name for flag in _some_flags(network, x, y)]
    at = sorted(set(eps))[len(set(eps)) // 2]
    header = f"| networks | flagged | {' | '.join(head)} | accuracy at {at:g}: PGD on cross-entropy / strongest, % |"
    return "\n".join([header, "|" + " --- |" * (len(head) + 3), *lines])


def _some_flags(network: Logits, x: Tensor, y: Tensor) -> MaskingFlags:
    return masking_flags(robustness_curve(network, x, y, eps=[0.0]))


def exactness_table(n_seeds: int) -> str:
    """What attacks must satisfy, counted over networks, radii, norms and losses."""
    network, _, x, y = planted(range(n_seeds))
    clean = (network(x).argmax(-1) == y).double().mean(-1).detach()
    kept = {"radius 0 has the clean accuracy, exactly": [0, 0], "PGD has at most FGSM's accuracy": [0, 0],
            "accuracy falls over the radius": [0, 0]}  # fmt: skip
    for norm, radii in {"linf": (0.02, 0.05, 0.1, 0.2, 0.3), "l2": (0.1, 0.3, 0.6, 1.2, 2.0)}.items():
        curve = robustness_curve(network, x, y, eps=(0.0, *radii), norm=norm, box=_BOX)
        for attack in curve.fooled:
            accuracy = curve.accuracy(attack)
            _count(kept["radius 0 has the clean accuracy, exactly"], accuracy[0] == clean)
            _count(kept["accuracy falls over the radius"], accuracy.diff(dim=0) <= 0.0)
        for loss in ("cross-entropy", "margin", "dlr"):
            for eps in radii:
                same: dict[str, Any] = {"eps": eps, "norm": norm, "loss": loss, "box": _BOX}
                single, many = fgsm(network, x, y, **same), pgd(network, x, y, **same, n_steps=10)
                _count(kept["PGD has at most FGSM's accuracy"], many.accuracy <= single.accuracy)
    lines = [f"| {name} | {held} of {asked} |" for name, (held, asked) in kept.items()]
    return "\n".join(["| what must hold | held |", "| --- | --- |", *lines])


def _count(kept: list[int], held: Tensor) -> None:
    kept[0] += int(held.sum())
    kept[1] += held.numel()


def foolbox_table(n_seeds: int) -> str:
    """PGD beside foolbox's, from the rows themselves, with equal steps; both on networks of torch's own layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SciPy's former names
        try:
            import foolbox
        except ImportError:
            raise ConfigError('foolbox is not installed; run: pip install "entropic-rl[test]"') from None
    network, _, x, y = planted(range(n_seeds))
    attacks = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}
    lines = []
    for norm, radii in {"linf": (0.05, 0.1, 0.2), "l2": (0.3, 0.6, 1.2)}.items():
        for eps in radii:
            found: dict[str, list[float]] = {"ours": [], "theirs": []}
            seconds = {"ours": 0.0, "theirs": 0.0}
            for run in range(n_seeds):
                model = _as_module(network, run)
                began = time.perf_counter()
                theirs = attacks[norm](rel_stepsize=0.05, steps=40, random_start=False)
                _, _, fooled = theirs(foolbox.PyTorchModel(model, bounds=_BOX), x[run], y[run], epsilons=eps)
                found["theirs"].append(float((~fooled).double().mean()))
                seconds["theirs"] += time.perf_counter() - began
                began = time.perf_counter()
                own = pgd(model, x[run], y[run], eps=eps, norm=norm, step_size=0.05, random_start=False, box=_BOX,
                          with_fgsm=False)  # fmt: skip
                found["ours"].append(float(own.accuracy))
                seconds["ours"] += time.perf_counter() - began
            gaps = [100 * (a - b) for a, b in zip(found["ours"], found["theirs"], strict=True)]
            means = [f"{100 * sum(found[name]) / n_seeds:.2f}" for name in found]
            lines.append(f"| {norm} | {eps:g} | {' | '.join(means)} | {min(gaps):+.2f} to {max(gaps):+.2f} "
                         f"| {seconds['ours']:.1f} | {seconds['theirs']:.1f} |")  # fmt: skip
    header = "| norm | radius | ours, % | foolbox, % | difference by network, points | ours, s | foolbox, s |"
    return "\n".join([header, "|" + " --- |" * 7, *lines])


def _as_module(network: Perceptrons, run: int) -> nn.Module:
    """One run in torch's own layers."""
    state = {name: rows[run] for name, rows in network.state_dict().items()}
    layers: list[nn.Module] = []
    for i in range(len(state) // 2):
        layer = nn.Linear(*state[f"{i}.weight"].shape)
        layer.load_state_dict({"weight": state[f"{i}.weight"].T, "bias": state[f"{i}.bias"][0]})
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()
