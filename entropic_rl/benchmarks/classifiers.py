"""What the entropic loss makes of classifiers: honesty beside cross-entropy, and the speed of a batch of trainings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from entropic_rl.calibrate.analysis import Results, analyse, percent
from entropic_rl.calibrate.config import CalibrationConfig
from entropic_rl.calibrate.experiment import datasets_of, shares_of, train
from entropic_rl.calibrate.measures import measure
from entropic_rl.compare.statistics import Estimate, bootstrap, mean, sign_flip_test
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

__all__ = ["CASES", "honesty_table", "speed_row"]

_WIDE = {"net_arch": (128,), "batch_size": 64, "n_epochs": 60}


@dataclass(frozen=True, slots=True)
class Case:
    """Data, training, and the coefficients that are compared on it."""

    data: dict[str, Any]
    ent_coefs: Sequence[float]
    fit: dict[str, Any] = field(default_factory=lambda: dict(_WIDE))


CASES = {
    "blobs": Case({"data": "blobs", "n": 20_000}, (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0),
                  {"net_arch": (64,), "batch_size": 128, "n_epochs": 30, "learning_rate": "cosine:0.01:0"}),
    "digits": Case({"data": "digits", "folds": 5}, (0.0, 0.1, 0.5, 1.0)),
    "digits, 20 % label noise": Case({"data": "digits", "folds": 5, "label_noise": 0.2}, (0.0, 1.0, 2.0, 4.0)),
    "digits, 40 % label noise": Case({"data": "digits", "folds": 5, "label_noise": 0.4}, (0.0, 1.0, 2.0, 4.0)),
}  # fmt: skip


def honesty_table(name: str, n_seeds: int) -> str:
    """One case over so many paired seeds, as a Markdown table, and what its last columns say in a sentence."""
    case = CASES[name]
    config, fit = CalibrationConfig(**case.data), FitConfig(**case.fit)
    began = time.perf_counter()
    datasets = datasets_of(config, range(n_seeds))
    shares = [share for seed, dataset in datasets.items() for share in shares_of(config, dataset, seed)]
    answers = train(config, fit, case.ent_coefs, datasets, shares)
    seconds = time.perf_counter() - began
    results = analyse(measure(answers, datasets, config.n_bins))
    return "\n".join(
        [*_rows(results), "", _picked(results), f"{len(answers) * max(config.folds, 1)} trainings: {seconds:.0f} s."]
    )


def speed_row(width: int, batch_size: int, n_runs: int, *, n_epochs: int, rounds: int) -> str:
    """Seconds per epoch of ``n_runs`` trainings on digits: one batch, one after another, and torch's own layers.

    Medians of ``rounds`` rounds in turn; one training stands for all of them where they are done one after another.
    """
    ways = {"batch": n_runs, "alone": 1, "torch": 1}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, n in ways.items():
            seconds = _torch_fit if way == "torch" else _our_fit
            found[way].append(n_runs / n * seconds(width, batch_size, n, n_epochs) / n_epochs)
    batch, alone, plain = (statistics.median(found[way]) for way in ways)
    each = [a / b for a, b in zip(found["alone"], found["batch"], strict=True)]
    return (
        f"| {width} | {batch_size} | {n_runs} | {batch:.2f} | {alone:.2f} | {plain:.2f} "
        f"| **{alone / batch:.1f}** ({min(each):.1f} to {max(each):.1f}) | {plain / batch:.1f} |"
    )


def _rows(results: Results) -> list[str]:
    known = "true_error" in results.groups[0].measures
    noisy = "clean_nll" in results.groups[0].measures
    head = ["ent_coef", "read-out", "accuracy, %", "NLL, nats", "ECE debiased, %"]
    head += ["true error, points", "distance to the posterior"] * known + ["NLL of clean labels"] * noisy
    head += ["NLL lower than that of coefficient 0 raw, with T, in"]
    plain = results.of(results.reference.ent_coef, "raw").scores["nll"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for group in results.groups:
        if group.ent_coef == "0" and group.readout == "proper":
            continue  # the raw one
        m = group.measures
        cells = [group.ent_coef, group.readout, percent(m["accuracy"]), _nats(m["nll"]), percent(m["ece_debiased"])]
        cells += [percent(m["true_error"]), _nats(m["distance"])] if known else []
        cells += [_nats(m["clean_nll"])] if noisy else []
        with_t = "-" if group.against is None else group.against.wins
        cells.append(f"{(group.scores['nll'] < plain).sum()}, {with_t} of {len(plain)}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _picked(results: Results) -> str:
    """Each seed picks its coefficient by validation rows, all with a temperature; beside coefficient 0."""
    coefs = results.ent_coefs
    validation = np.stack([results.of(coef, "temperature").scores["validation_nll"] for coef in coefs])
    test = np.stack([results.of(coef, "temperature").scores["nll"] for coef in coefs])
    picks = validation.argmin(0)
    own, theirs = test[picks, np.arange(test.shape[1])], results.reference.scores["nll"]
    rng = np.random.default_rng(0)
    gap: Estimate = bootstrap(own - theirs, mean, rng)
    counts = ", ".join(f"{coef} in {(picks == i).sum()}" for i, coef in enumerate(coefs))
    return (
        f"With a temperature and the coefficient that each seed's validation rows choose ({counts}): NLL "
        f"{own.mean():.4f} against {theirs.mean():.4f} of coefficient 0, difference {gap.value:+.4f} "
        f"[{gap.low:+.4f}, {gap.high:+.4f}], lower in {(own < theirs).sum()} of {len(own)} "
        f"seeds (p = {sign_flip_test(own - theirs, rng):.3f})."
    )


def _nats(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    X, y = load_digits(return_X_y=True)
    return torch.from_numpy(X / 16.0).float()[:1437], torch.from_numpy(y)[:1437]


def _our_fit(width: int, batch_size: int, n_runs: int, n_epochs: int) -> float:
    X, y = _digits()
    config = FitConfig(net_arch=(width,), batch_size=batch_size, n_epochs=n_epochs)
    seeds = list(range(n_runs))
    coefs = [(0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)[seed % 8] for seed in seeds] if n_runs > 1 else [0.5]
    fitting = Fitting(Perceptrons((64, width, 10), seeds), Classification(), config, seeds, coefs)
    rows = torch.arange(len(X)).expand(n_runs, -1)
    began = time.perf_counter()
    fitting.run(Table(X, y), rows)
    return time.perf_counter() - began


def _torch_fit(width: int, batch_size: int, n_runs: int, n_epochs: int) -> float:
    """The same training as most people write it, with the fastest of torch's Adams."""
    X, y = _digits()
    model = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    began = time.perf_counter()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X)).split(batch_size):
            logits = model(X[rows])
            log_p = logits.log_softmax(-1)
            entropy = -(log_p.exp() * log_p).sum(-1).mean()
            loss = torch.nn.functional.nll_loss(log_p, y[rows]) - 0.5 * entropy
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - began
