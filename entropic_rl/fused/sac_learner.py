"""The compiled gradient step of soft actor-critic: for which it is there, and the way from tensors to it and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from entropic_rl.buffers import Batch
from entropic_rl.critics import Critics
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.errors import ConfigError
from entropic_rl.fused.sac_plan import METRICS, N_PHASES, NETWORKS, Numbers, Plan, State, Transitions, Work, part_width
from entropic_rl.fused.sac_update import step_networks
from entropic_rl.fused.tables import array, layer_table, policy_table, rows_of, rule_of, unfit
from entropic_rl.fused.threads import together
from entropic_rl.health import Health
from entropic_rl.optimizers import Adam
from entropic_rl.policies import ActorCritic

__all__ = ["FusedSACStep"]


class FusedSACStep:
    """A gradient step of critics and actor, every run on its own: the same bits whatever runs beside it.

    Args:
        policy: the actor.
        critics: its critics and their targets.
        term: the entropy term.
        actor_optimizer, critic_optimizer: with the same settings.
        health: which runs learn no more.
        config: SAC's settings.

    Raises:
        ConfigError: there is no such step for this device, network or entropy; saying which.
    """

    NO_STATE = ("_policy", "_critics", "_term", "_optimizers", "_health", "_plan", "_work")  # all of it is the agent's

    def __init__(
        self,
        policy: ActorCritic,
        critics: Critics,
        term: EntropyTerm,
        actor_optimizer: Adam,
        critic_optimizer: Adam,
        health: Health,
        *,
        config: Any,
    ) -> None:
        if (reason := _unfit(policy, term, config)) is not None:
            raise ConfigError(f"kernel: fused serves {reason}; use --kernel autograd")
        self._policy, self._critics, self._term, self._health = policy, critics, term, health
        self._optimizers = actor_optimizer, critic_optimizer
        self._plan = _plan(policy, critics, actor_optimizer, config.batch_size)
        self._work = _work(policy, critics, -(-config.batch_size // self._plan.width))

    def __call__(
        self, batch: Batch, noise: Tensor, c: dict[str, Tensor], inputs: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Learn from ``batch``, and return what is watched, ``[R]`` each.

        Args:
            batch: B transitions of each run.
            noise: ``[R, 2, B, D]``, of fresh actions at ``obs`` and at ``next_obs``.
            c: coefficients ``[R]`` by name.
            inputs: what :meth:`~entropic_rl.health.Health.look` is to keep of a batch that breaks a run.
        """
        plan, state, work = self._plan, self._state(), self._work
        transitions, numbers = _transitions(batch, noise), self._numbers(c)
        n_runs, n_parts = len(state.frozen), work.actor.shape[1]
        work.claimed[:], work.done[:], work.broken[:] = 0, 0, -1
        together(partial(step_networks, plan, state, transitions, numbers, work), n_runs * n_parts)
        for number, network in enumerate(NETWORKS):
            for run in np.flatnonzero(work.broken == number).tolist():
                self._health.freeze(run, self._health.n_steps)
            self._health.look(network, inputs)
        for run in np.flatnonzero(work.broken >= 0).tolist():  # of the others they have followed
            rows = slice(run * plan.n_critics, (run + 1) * plan.n_critics)
            state.target[rows] += numbers.tau[run] * (state.critic.params[rows] - state.target[rows])
        totals = torch.from_numpy(work.metrics.sum(1)).to(noise.dtype)
        return dict(zip(METRICS, totals.unbind(1), strict=True))

    def _state(self) -> State:
        actor, critic = self._optimizers
        return State(
            actor=rows_of(self._policy.params, actor),
            critic=rows_of(self._critics.params, critic),
            target=self._critics.target.values.numpy(),
            frozen=self._health.stopped.numpy(),
        )

    def _numbers(self, c: dict[str, Tensor]) -> Numbers:
        return Numbers(
            learning_rate=array(c["learning_rate"]),
            tau=array(c["tau"]),
            actor_coef=array(self._term.actor_coef()),
            critic_coef=array(self._term.critic_coef()),
        )


def _transitions(batch: Batch, noise: Tensor) -> Transitions:
    all_valid = torch.zeros(len(noise), 0, dtype=torch.bool)
    return Transitions(
        obs=array(batch.obs),
        action=array(batch.action),
        reward=array(batch.reward),
        next_obs=array(batch.next_obs),
        terminated=array(batch.terminated),
        discount=array(batch.discount),
        valid=array(all_valid if batch.valid is None else batch.valid),
        noise=array(noise),
    )


def _unfit(policy: ActorCritic, term: EntropyTerm, config: Any) -> str | None:
    """What the compiled step asks for that is not so."""
    if not term.family.is_shannon:
        return f"Shannon's entropy of squashed actions, got {term.family}"
    if config.entropy_estimate != "sample":
        return f"the entropy of squashed actions by one sample, got --entropy-estimate {config.entropy_estimate}"
    return unfit(policy, ("tanh-gaussian",))


def _plan(policy: ActorCritic, critics: Critics, optimizer: Adam, batch_size: int) -> Plan:
    actor, actor_rows, actor_units = policy_table(policy)
    mlp = critics.mlp
    critic, critic_rows, critic_units = layer_table(critics.params, mlp.sizes[0], [(mlp, "input")])
    return Plan(
        actor=actor,
        critic=critic,
        actor_units=actor_units,
        critic_units=critic_units,
        outputs=actor_rows["actor"],
        value=critic_rows[mlp.name],
        n_actions=policy.action.n_outputs,
        n_critics=critics.n_critics,
        width=part_width(batch_size),
        rule=rule_of(optimizer),
    )


def _work(policy: ActorCritic, critics: Critics, n_parts: int) -> Work:
    n_runs, n_params = policy.params.values.shape
    return Work(
        actor=np.empty((n_runs, n_parts, n_params), np.float32),
        critic=np.empty((n_runs, critics.n_critics, n_parts, critics.params.values.shape[1]), np.float32),
        totals=np.empty((n_runs, critics.n_critics, n_parts)),
        metrics=np.empty((n_runs, n_parts, len(METRICS))),
        broken=np.empty(n_runs, np.int64),
        claimed=np.empty(N_PHASES, np.int64),
        done=np.empty(N_PHASES, np.int64),
    )
