"""What withstands attacks: entropy coefficients and adversarial training, on equal networks, seeds and epochs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from entropic_rl.compare.words import p_value
from entropic_rl.robustness.analysis import CUSTOMARY, Results, analyse, percent, verdict
from entropic_rl.robustness.config import AttackConfig, RobustnessConfig, Settings
from entropic_rl.robustness.curves import STRONGEST
from entropic_rl.robustness.experiment import attack, groups_of, sample, train
from entropic_rl.supervised.config import FitConfig

__all__ = ["CASES", "withstanding_table"]


@dataclass(frozen=True, slots=True)
class Case:
    """Data and radii, the coefficients compared on them, and the training."""

    config: dict[str, Any]
    ent_coefs: tuple[float, ...] = (0.0, 0.1, 0.5, 1.0)
    fit: dict[str, Any] | None = None


CASES = {
    "digits, L-infinity": Case(
        {"data": "digits", "norm": "linf", "eps": (0.0, 0.05, 0.1, 0.2, 0.3), "adversarial": (0.1,)}
    ),
    "digits, L-infinity, 20 epochs": Case(
        {"data": "digits", "norm": "linf", "eps": (0.0, 0.05, 0.1, 0.2, 0.3), "adversarial": (0.1,)},
        fit={"n_epochs": 20, "batch_size": 64},
    ),
    "digits, L2": Case({"data": "digits", "norm": "l2", "eps": (0.0, 0.25, 0.5, 1.0, 1.5), "adversarial": (0.5,)}),
}


def withstanding_table(name: str, n_seeds: int) -> str:
    """One case over so many paired seeds, as Markdown tables of accuracies and differences, and what they say."""
    case = CASES[name]
    config, how, fit = RobustnessConfig(**case.config), AttackConfig(), FitConfig(**(case.fit or {}))
    settings = Settings(config, how, fit, list(case.ent_coefs), n_seeds, {})
    began = time.perf_counter()
    data, groups = sample(config, n_seeds), groups_of(case.ent_coefs, config)
    network = train(settings, groups, data)
    trained = time.perf_counter()
    results = analyse(attack(settings, groups, data, network), config.severities)
    attacked = time.perf_counter()
    cost = f"{len(groups) * n_seeds} trainings: {trained - began:.0f} s; attacks: {attacked - trained:.0f} s."
    said = "\n".join(f"- {sentence}" for sentence in verdict(results))
    return "\n\n".join(
        [_accuracies(results), _by_attack(results), _differences(results), _corruptions(results), said, cost]
    )


def _accuracies(results: Results) -> str:
    """Under all attacks together, by radius."""
    head = [f"{results.norm}: training", *(f"{eps:g}" for eps in results.eps), "flagged"]
    n, radii = results.n_seeds, range(len(results.eps))
    rows = [[g.name, *(percent(g.estimate(k)) for k in radii), f"{g.n_flagged} of {n}"] for g in results.groups]
    return _markdown(head, rows)


def _by_attack(results: Results) -> str:
    """At the radius where most is told."""
    k = results.middle
    shown = ("noise", "random search", "transfer", "fgsm", CUSTOMARY, "pgd margin", "pgd dlr", STRONGEST)
    rows = [
        [group.name, *(f"{100 * group.accuracy[name][k].mean():.1f}" for name in shown)] for group in results.groups
    ]
    return _markdown([f"within {results.eps[k]:g}", *shown], rows)


def _differences(results: Results) -> str:
    """To the first group, paired, at the radius where most is told."""
    k, rows = results.middle, []
    for group in results.groups[1:]:
        cells = [group.name]
        for attack_name in (CUSTOMARY, STRONGEST):
            against = results.against(group, k, attack_name)
            low, value, high = (
                100 * v for v in (against.difference.low, against.difference.value, against.difference.high)
            )
            cells += [
                f"{value:+.1f} [{low:+.1f}, {high:+.1f}]",
                f"{against.wins} of {results.n_seeds}",
                p_value(against.p),
            ]
        rows.append(cells)
    head = [f"within {results.eps[k]:g}, beside {results.reference.name}", f"{CUSTOMARY}, points", "higher in", "p"]
    return _markdown([*head, "all attacks, points", "higher in", "p"], rows)


def _corruptions(results: Results) -> str:
    """At the middle severity."""
    s = len(results.severities) // 2
    kinds = list(results.reference.corrupted)
    rows = [
        [group.name, *(f"{100 * group.corrupted[kind][s].mean():.1f}" for kind in kinds)] for group in results.groups
    ]
    return _markdown([f"severity {results.severities[s]:g}", *kinds], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
