"""Comparisons as files, written without training anything: what a report reads, with numbers that a test chooses."""

import json
import math
from functools import partial
from unittest import mock

import numpy as np

from entropic_rl.compare import report
from entropic_rl.compare.grid import label, make_plan
from entropic_rl.compare.outcomes import Outcome
from entropic_rl.config import jsonable
from entropic_rl.run_directory import strict, write_json

SESSION = {
    "started": "2026-01-01T00:00:00Z", "seconds": 90.0, "n_cells": 4, "env_steps": 4000, "n_workers": 2,
    "batches": [2, 2], "memory_estimate": 2**30, "memory_peak": 3 * 2**28,
    "command": ["compare.py", "ppo", "--env", "CartPole-v1", "--ent-coef", "0", "0.1"],
}  # fmt: skip


def write_plan(out, n_seeds=2, *, agents=("ppo",), threshold=None, baseline=None, together=False, **chosen):
    """A plan as ``plan.json``: by default of coefficients 0 and 0.1 on an environment with two actions."""
    out.mkdir(parents=True, exist_ok=True)
    values = {"env": "CartPole-v1", "ent_coef": [0.0, 0.1], "total_timesteps": 1000, **chosen}
    plan = make_plan(
        agents,
        {name: value for name, value in values.items() if value is not None},
        n_seeds=n_seeds,
        preset_choice="none",
        threshold=threshold,
        baseline=baseline,
        together=together,
    )
    plan.write(out)
    return plan


def row(step, mean=None, n_episodes=100, /, **metrics):
    """A row of the record; ``entropy=...`` and the like stand for the names below, others for themselves."""
    said = {"global_step": float(step), "rollout/ep_rew_mean": mean, "rollout/n_episodes": float(n_episodes)}
    return said | long_names(metrics)


def long_names(metrics):
    """``explore/policy_entropy`` for ``entropy``, and so on."""
    return {_LONG.get(name, name): value for name, value in metrics.items()}


_LONG = {
    "entropy": "explore/policy_entropy",
    "q10": "explore/policy_entropy_q10",
    "q50": "explore/policy_entropy_q50",
    "q90": "explore/policy_entropy_q90",
    "n_states": "explore/n_states",
    "coverage": "explore/coverage",
    "saturation": "explore/saturation",
    "first_success": "explore/first_success",
    "first_reward": "explore/first_reward",
    "temperature": "train/effective_temperature",
    "loss": "train/loss",
    "score": "eval/mean_reward",
    "sampled": "eval/stochastic_mean_reward",
    "gap": "eval/stochastic_gap",
    "max_entropy": "explore/max_entropy",
    "fps": "time/fps",
    "kl": "optimum/kl",
    "loss_only_kl": "optimum/loss_only_kl",
}


def record_of(cell, score=0.0, *, rows=None, **metrics):
    """Rows and summary of a finished run: the summary is the last row, the score, and ``metrics``.

    A metric that is said to be ``...`` was not recorded; NaN becomes None, as in a real record.
    """
    rows = [row(500, score, entropy=0.5), row(1000, score, entropy=0.4)] if rows is None else rows
    ended = {
        "eval/mean_reward": score,
        "eval/stochastic_mean_reward": score,
        "eval/stochastic_gap": 0.0,
        "explore/policy_entropy": rows[-1].get("explore/policy_entropy", 0.4),
        "train/loss": 0.1,
        "time/fps": 1000.0,
    }
    ended = rows[-1] | ended | {name: value for name, value in long_names(metrics).items() if "/" in name}
    summary = {
        "env": cell.run.env,
        "seed": cell.run.seed,
        "ent_coef": getattr(cell.config, "ent_coef", None),
        "success_return": None,
        "explore/max_entropy": math.log(2),
        **ended,
        "global_step": int(rows[-1]["global_step"]),
        **long_names(metrics),
    }
    return [strict(_recorded(one)) for one in [*rows[:-1], ended]], strict(_recorded(summary))


def write_run(cell, score=0.0, *, tables=None, **record):
    """The directory of a finished run; see :func:`record_of`."""
    cell.directory.mkdir(parents=True)
    rows, summary = record_of(cell, score, **record)
    write_json(cell.directory / "config.json", {"agent": cell.agent, **jsonable(cell.run), **jsonable(cell.config)})
    lines = [json.dumps(one, allow_nan=False) + "\n" for one in rows]
    (cell.directory / "metrics.jsonl").write_text("".join(lines))
    write_json(cell.directory / "summary.json", summary)
    if tables is not None:
        np.savez_compressed(cell.directory / "exploration.npz", **tables)


def outcome_of(plan, cell, score=0.0, *, tables=None, error=None, **record):
    """A run as :func:`~entropic_rl.compare.outcomes.read_outcomes` gives it, without files."""
    rows, summary = record_of(cell, score, **record)
    rows = [{name: value for name, value in one.items() if value is not None} for one in rows]
    found = ({}, [], {}) if error else (summary, rows, tables or {})
    return Outcome(cell, plan.group(cell), *found, error)


def _recorded(values):
    return {name: value for name, value in values.items() if value is not ...}


def write_failure(cell, error="a worker died"):
    """A run that did not finish."""
    cell.directory.mkdir(parents=True)
    write_json(cell.directory / "failed.json", {"error": error})


def numbers_of(plan, out):
    """The report of what is there, without its figures, which take seconds."""
    with mock.patch.object(report, "pictures", return_value=[]):
        return report.read_report(plan, out)


def compared(out, scores, *, write=write_run, **options):
    """The numbers of coefficient -> its scores by seed; None is a run that was not trained.

    Args:
        out: of the comparison.
        scores: as above; all of the same length.
        write: writes a run, given its cell and score.
        options: of :func:`write_plan`.
    """
    plan = write_plan(out, len(next(iter(scores.values()))), ent_coef=list(scores), **options)
    by_group = {label(coef): list(values) for coef, values in scores.items()}
    for cell in plan.cells(out):
        score = by_group[label(cell.config.ent_coef)][plan.seeds.index(cell.run.seed)]
        if score is not None:
            write(cell, score)
    return numbers_of(plan, out)


def section_of(out, scores, **options):
    """The numbers of a comparison of one environment; a mapping ``run`` of options goes to :func:`write_run`."""
    run = options.pop("run", None)
    if run is not None:
        options["write"] = partial(write_run, **run)
    [section] = compared(out, scores, **options).sections
    return section


def write_everything(out, n_seeds=3, coefs=(0.0, 0.1, 0.5), *, n_rows=6, **options):
    """A comparison whose record allows every figure: a threshold, maps of visits, exact policies and the rest."""
    plan = write_plan(out, n_seeds, ent_coef=list(coefs), env="entropic_rl/Chain-v0", threshold=2.5, **options)
    rng = np.random.default_rng(0)
    for cell in plan.cells(out):
        level = coefs.index(cell.config.ent_coef) / len(coefs)
        noise = 0.05 * rng.standard_normal(n_rows)
        rows = [
            row(
                1000 * (i + 1) // n_rows, 3.0 * (i + 1) / n_rows - level + noise[i], 100,
                entropy=0.6 * level + 0.05, q10=0.4 * level, q50=0.6 * level, q90=0.6 * level + 0.09,
                n_states=2.0 + i + cell.run.seed * level, temperature=level * (1.0 + noise[i]), saturation=0.1 * level,
                first_success=400.0 + 100 * cell.run.seed, score=3.0 - level + noise[i],
            )
            for i in range(n_rows)
        ]  # fmt: skip
        right = np.clip(np.linspace(0.2, 0.8, 5) + noise[0], 0.01, 0.99)
        policy = np.stack([1.0 - right, right], 1)
        visits = rng.integers(0, 50, 5) * (np.arange(5) < 4)  # the last state was never met
        tables = {"visits": visits, "first_visit": np.arange(5), "layout": np.array([[0, 1, 2, 3, 4, -1]])}
        tables |= {"policy": policy, "optimum": policy[::-1], "loss_only": policy * 0.0 + 0.5}
        measured = {"kl": 0.1, "loss_only_kl": 0.05 * level, "sampled": 2.9 - level}
        write_run(cell, 3.0 - level + noise[-1], rows=rows, tables=tables, success_return=2.5, **measured)
    (out / "sessions.jsonl").write_text(json.dumps(SESSION) + "\n")
    return plan


EVERY_FIGURE = {
    "returns", "entropy", "response", "policies", "coverage", "times", "profiles", "evaluations", "states", "visits",
    "temperature", "saturation",
}  # fmt: skip
