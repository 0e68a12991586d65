"""The compiled update of on-policy agents: for which it is there, and the way from tensors to it and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.collector import Collector
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.errors import ConfigError
from entropic_rl.fused.heads import FAMILIES, Head
from entropic_rl.fused.plan import METRICS, Data, Numbers, Plan, State
from entropic_rl.fused.random import draw_words, order_words
from entropic_rl.fused.recalling import recall
from entropic_rl.fused.tables import (
    array,
    choices_of,
    parameter_offsets,
    policy_table,
    rows_of,
    rule_of,
    unfit,
)
from entropic_rl.fused.threads import on_threads
from entropic_rl.fused.update import update_runs
from entropic_rl.health import Health
from entropic_rl.on_policy import Samples
from entropic_rl.optimizers import Adam, RMSprop
from entropic_rl.policies import ActorCritic
from entropic_rl.streams import Stream

__all__ = ["FusedUpdate"]

Work = tuple[Plan, State, Data, Numbers, int]
_NEAR_SHANNON = 1e-3  # orders this near to 1 need other formulas


class FusedUpdate:
    """All minibatch updates of a rollout in one call, every run on its own: the same bits whatever runs beside it.

    Args:
        policy: whose parameters are learned.
        term: the entropy term.
        optimizer: Adam or RMSprop of the policy's parameters.
        health: which runs learn no more.
        config: PPO's or A2C's settings.
        stream: of the orders in which PPO takes samples.

    Raises:
        ConfigError: there is no such update for this device, network, head or entropy; saying which.
    """

    NO_STATE = ("_policy", "_term", "_optimizer", "_health", "_config", "_stream", "_plan")  # all of it is the agent's

    def __init__(
        self,
        policy: ActorCritic,
        term: EntropyTerm,
        optimizer: Adam | RMSprop,
        health: Health,
        *,
        config: Any,
        stream: Stream | None = None,
    ) -> None:
        if (reason := _unfit(policy, term)) is not None:
            raise ConfigError(f"kernel: fused serves {reason}; use --kernel autograd")
        self._policy, self._term, self._optimizer, self._health = policy, term, optimizer, health
        self._config, self._stream = config, stream
        self._plan = _plan(policy, term, optimizer, config)
        if stream is not None:
            stream.generate, stream.order = draw_words, order_words

    def __call__(
        self, samples: Samples, c: dict[str, Tensor], inputs: Callable[[Samples], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Learn from ``samples``, and return means of metrics over minibatches, ``[R]`` each.

        Args:
            samples: N of each run.
            c: coefficients ``[R]`` by name.
            inputs: what :meth:`~entropic_rl.health.Health.look` is to keep of a minibatch that breaks a run.
        """
        n_runs, n = samples.advantage.shape
        batch_size = min(getattr(self._config, "batch_size", n), n)
        orders = self._orders(n_runs, n, shuffled=batch_size < n)
        metrics, broken_at = np.empty((n_runs, len(METRICS))), np.full(n_runs, -1)
        data, numbers = self._data(samples, orders), self._numbers(samples, c)
        work = (self._plan, self._state(broken_at), data, numbers, batch_size)
        on_threads(partial(update_runs, *work, metrics), n_runs)
        for run in np.flatnonzero(broken_at >= 0).tolist():
            at = int(broken_at[run])
            self._health.freeze(run, at)
            self._health.look("policy", partial(_inputs_at, at, samples, orders, batch_size, inputs))
        named = dict(zip(METRICS, torch.from_numpy(metrics).to(samples.obs.dtype).unbind(1), strict=True))
        return {name: values for name, values in named.items() if self._tells(name)}

    def prepare(self, collector: Collector, term: EntropyTerm, *, gamma: Tensor, gae_lambda: Tensor) -> Samples:
        """As :func:`entropic_rl.on_policy.prepare`, for a policy without memory."""
        rollout, reward_scale = collector.rollout, collector.reward_scale
        bonus_coef = term.value_coef(reward_scale) if term.in_values else torch.zeros_like(reward_scale)
        return recall(self._plan, self._policy, rollout, reward_scale, gamma, gae_lambda, bonus_coef)

    def _orders(self, n_runs: int, n: int, *, shuffled: bool) -> Tensor:
        """The order of samples in each epoch, ``[R, n_epochs, N]``, as :func:`entropic_rl.on_policy.minibatches`."""
        n_epochs = getattr(self._config, "n_epochs", 1)
        if self._stream is None or not shuffled:
            return torch.arange(n).expand(n_runs, n_epochs, n)
        return self._stream.permutations(n_epochs, n)

    def _tells(self, name: str) -> bool:
        if name == "train/bonus":
            return not self._term.family.is_shannon
        return self._plan.is_clipped or name not in ("train/approx_kl", "train/clip_fraction")

    def _state(self, broken_at: NDArray[np.int64]) -> State:
        return State(rows_of(self._policy.params, self._optimizer), self._health.stopped.numpy(), broken_at)

    def _data(self, samples: Samples, orders: Tensor) -> Data:
        n_runs, n = samples.advantage.shape
        action, nothing = samples.action.reshape(n_runs, n, -1), torch.zeros(n_runs, 0, 1)
        return Data(
            obs=array(samples.obs),
            choices=array(nothing.long() if self._plan.is_gaussian else action),
            numbers=array(action if self._plan.is_gaussian else nothing),
            log_prob=array(samples.log_prob),
            value=array(samples.value),
            advantage=array(samples.advantage),
            target=array(samples.value_target),
            valid=array(nothing[..., 0].bool() if samples.valid is None else samples.valid),
            mask=array(nothing.bool() if samples.mask is None else samples.mask),
            orders=array(orders),
        )

    def _numbers(self, samples: Samples, c: dict[str, Tensor]) -> Numbers:
        weight, in_reward_units = self._term.loss_weight()
        return Numbers(
            learning_rate=array(c["learning_rate"]),
            clip_range=array(c.get("clip_range", weight)),
            vf_coef=array(c["vf_coef"]),
            max_grad_norm=array(c["max_grad_norm"]),
            ent_coef=array(weight),
            in_reward_units=array(in_reward_units),
            reward_scale=array(samples.reward_scale),
        )


def _inputs_at(
    number: int, samples: Samples, orders: Tensor, batch_size: int, inputs: Callable[[Samples], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What is kept of the minibatch with this number."""
    return inputs(samples.pick(_minibatch(orders, batch_size, number)))


def _minibatch(orders: Tensor, batch_size: int, number: int) -> Tensor:
    """Which samples the minibatch with this number has, ``[R, B]``."""
    parts = [part for epoch in orders.unbind(1) for part in epoch.split(batch_size, 1)]
    return parts[number]


def _unfit(policy: ActorCritic, term: EntropyTerm) -> str | None:
    """What the compiled update asks for that is not so."""
    family = term.family
    is_ordered = not family.is_shannon and family.kind in ("tsallis", "renyi")
    if is_ordered and not _NEAR_SHANNON <= abs(family.order - 1.0) < math.inf:
        return f"finite orders of entropies that are not within {_NEAR_SHANNON:g} of 1, got {family}"
    return unfit(policy)


def _plan(policy: ActorCritic, term: EntropyTerm, optimizer: Adam | RMSprop, config: Any) -> Plan:
    layers, first_row, n_units = policy_table(policy)
    action, family = policy.action, term.family
    head = Head(
        nvec=choices_of(policy),
        family=FAMILIES.index("shannon" if family.is_shannon else family.kind),
        order=float(family.order),
        prior=np.array(family.prior, dtype=np.float64),
        log_std=parameter_offsets(policy.params).get("log_std", 0),
    )
    clip_range_vf, target_kl = getattr(config, "clip_range_vf", None), getattr(config, "target_kl", None)
    return Plan(
        layers=layers,
        n_units=n_units,
        outputs=first_row["actor"],
        value=first_row["critic"],
        n_outputs=action.n_outputs,
        head=head,
        is_gaussian=action.kind == "gaussian",
        is_clipped=hasattr(config, "clip_range"),
        normalize=config.normalize_advantage,
        clip_range_vf=math.inf if clip_range_vf is None else float(clip_range_vf),
        max_kl=math.inf if target_kl is None else 1.5 * target_kl,
        rule=rule_of(optimizer),
    )
