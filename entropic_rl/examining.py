"""What a training has learned so far, measured between its steps: episodes, and distances from exact solutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from entropic_rl.cell import Cell
from entropic_rl.environments import copies_at_once
from entropic_rl.evaluation import Evaluation, evaluate
from entropic_rl.families import EntropyFamily
from entropic_rl.optimality import find_rules, measure_optimality, tabular_policy
from entropic_rl.policies import ActorCritic
from entropic_rl.recording import evaluation_row
from entropic_rl.training import Record
from entropic_rl.vector import EnvBatch

__all__ = ["Examiner"]


class Examiner:
    """Measures what a training has learned so far, between its steps.

    Args:
        policy: what learns.
        cells: its runs.
        make_envs: builds a vector env of n copies.
        envs: what it is trained in.
        computed_by: what computes evaluations, as keywords of :func:`entropic_rl.evaluation.evaluate`.
    """

    NO_STATE = ("_run", "_make_envs", "_rules", "_family", "_gammas", "_computed_by")

    def __init__(
        self,
        policy: ActorCritic,
        cells: Sequence[Cell],
        make_envs: Any,
        envs: EnvBatch,
        computed_by: Mapping[str, Any],
    ) -> None:
        self._policy, self._run, self._computed_by = policy, cells[0].run, computed_by
        self._make_envs = partial(make_envs, autoreset_mode=AutoresetMode.DISABLED)
        self._observation = policy.observation
        # Wrappers make another problem of it, and the exact solutions are for policies that see one state at a time.
        is_other = self._run.env_wrappers or policy.is_recurrent or policy.observation.frames > 1
        self._rules = None if is_other else find_rules(envs.env)
        self._family = EntropyFamily.parse(getattr(cells[0].config, "entropy", "shannon"))
        self._gammas = [cell.config.gamma for cell in cells]
        self._tables: list[dict[str, np.ndarray]] = [{} for _ in cells]
        self._next = self._run.eval_freq or math.inf

    def is_due(self, record: Record) -> bool:
        """Whether it is time for an evaluation, the last record's always."""
        if not (record.last or record.global_step >= self._next):
            return False
        self._next += self._run.eval_freq
        return True

    def __call__(self, rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """Every run's evaluations, and on small finite environments its distance from the exact optimum."""
        found = [evaluation_row(*both) for both in zip(self._evaluate(True), self._evaluate(False), strict=True)]
        if self._rules is not None:
            temperatures = [row.get("train/effective_temperature", math.nan) for row in rows]
            own = tabular_policy(self._policy, self._rules, self._observation)
            exact = measure_optimality(own, self._rules.mdp, temperatures, self._gammas, self._family)
            found = [row | optimality.metrics for row, optimality in zip(found, exact, strict=True)]
            self._tables = [optimality.tables for optimality in exact]
        return found

    def tables(self) -> list[dict[str, np.ndarray]]:
        """Policies of the last time as tables, beside the exact ones; empty where there are none."""
        return self._tables

    def _evaluate(self, deterministic: bool) -> list[Evaluation]:
        run = self._run
        return evaluate(
            self._policy,
            self._make_envs,
            self._observation,
            episodes=run.eval_episodes,
            deterministic=deterministic,
            seed=run.eval_seed,
            max_steps=run.eval_max_steps,
            n_envs=copies_at_once(run.env_backend),
            **self._computed_by,
        )
