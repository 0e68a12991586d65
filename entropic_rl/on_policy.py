"""What on-policy agents share around their loss: advantages, minibatches, means per run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from entropic_rl.buffers import Rollout
from entropic_rl.collector import Collector
from entropic_rl.devices import brought
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.losses import entropic_loss
from entropic_rl.policies import ActorCritic
from entropic_rl.ranks import ALONE, Ranks
from entropic_rl.reductions import entropy_metrics, explained_variance, masked_mean, mean_and_quantiles, variance
from entropic_rl.returns import gae
from entropic_rl.sequences import Chunks, Sequences
from entropic_rl.shares import Share, normalize_advantage, part
from entropic_rl.streams import Stream
from entropic_rl.watching import Terms

__all__ = [
    "LossParts",
    "Samples",
    "minibatches",
    "normalize_advantage",
    "prepare",
    "rollout_metrics",
]


@dataclass(frozen=True, slots=True)
class Samples:
    """A rollout as N samples per run, ready for learning.

    Attributes:
        obs: ``[R, N, D]``.
        action: ``[R, N, *event]``.
        log_prob: ``[R, N]`` under the policy that acted.
        value: ``[R, N]`` under the critic before the update.
        advantage: ``[R, N]``.
        value_target: ``[R, N]``.
        valid: ``[R, N]`` boolean; None if every sample counts.
        mask: ``[R, N, A]`` boolean, the actions that were allowed; None if all always are.
        entropy: ``[R, 4]`` of the policy that acted, in nats: mean, 10 %, 50 % and 90 % quantile over the states met.
        reward_scale: ``[R]``, what rewards were divided by.
        sequences: how samples follow each other, if the policy has memory; what is padded there is not valid.
        share: of what minibatch these are a part, if several processes divide it.
    """

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    value_target: Tensor
    valid: Tensor | None
    mask: Tensor | None
    entropy: Tensor
    reward_scale: Tensor
    sequences: Sequences | None = None
    share: Share | None = None

    def pick(self, index: Tensor) -> Samples:
        """Samples ``index [R, B]`` of each run; with memory, sequences."""
        if self.sequences is None:
            return self._map(lambda x: _take(x, index))
        chosen = self.sequences.samples_of(index)
        starts, state = _take(self.sequences.starts, chosen), _take(self.sequences.state, index)
        return replace(self._map(lambda x: _take(x, chosen)), sequences=Sequences(state, starts))

    def slice(self, start: int, stop: int) -> Samples:
        """Samples start ... stop of each run, without copying."""
        return self._map(lambda x: x[:, start:stop])

    def in_sequences(self, chunks: Chunks, sequences: Sequences) -> Samples:
        """The same samples, one after the other in time, cut into sequences."""
        valid = torch.ones_like(self.advantage, dtype=torch.bool) if self.valid is None else self.valid
        cut = replace(self, valid=valid)._map(chunks.cut)
        if cut.mask is None or cut.valid is None:
            return replace(cut, sequences=sequences)
        return replace(cut, mask=cut.mask | ~cut.valid.unsqueeze(-1), sequences=sequences)  # padding allows all

    def _map(self, change: Callable[[Tensor], Tensor]) -> Samples:
        names = ("obs", "action", "log_prob", "value", "advantage", "value_target", "valid", "mask")
        parts = {name: getattr(self, name) for name in names}
        changed: dict[str, Any] = {name: None if part is None else change(part) for name, part in parts.items()}
        return replace(self, **changed)


@torch.no_grad()
def prepare(collector: Collector, term: EntropyTerm, *, gamma: Tensor, gae_lambda: Tensor) -> Samples:
    """Values, log-probabilities and advantages of a full rollout.

    Args:
        collector: holds T steps of R x E environments, and the networks that acted.
        term: the entropy term; where it is in the reward, every step earns that of the state it acted in. A step that
            ends an episode earns no more than that: there is no entropy after termination.
        gamma: ``[R]`` discount.
        gae_lambda: ``[R]`` trace decay.
    """
    rollout, policy, reward_scale = collector.rollout, collector.policy, collector.reward_scale
    n_steps, _, n_envs = rollout.reward.shape
    obs = _by_run(rollout.obs)
    mask = None if rollout.mask is None else _by_run(rollout.mask)
    whole = None if rollout.state is None else Sequences(rollout.state, _by_run(rollout.starts))
    distribution, value, states = policy.recall(obs, mask, whole)
    values = value.unflatten(1, (n_steps + 1, n_envs)).transpose(0, 1)  # [T + 1, R, E]
    next_values = _replace_at_ends(values[1:].clone(), rollout, policy, states)
    reward = rollout.reward
    if term.in_values:
        bonus = term.bonus(distribution).unflatten(1, (n_steps + 1, n_envs)).transpose(0, 1)[:-1]  # [T, R, E]
        reward = reward + term.value_coef(reward_scale).unsqueeze(1) * bonus
    advantage = gae(
        reward,
        values[:-1],
        next_values,
        rollout.terminated,
        rollout.truncated,
        gamma=gamma.unsqueeze(1),
        gae_lambda=gae_lambda.unsqueeze(1),
    )
    n_samples = n_steps * n_envs
    action = _by_run(rollout.action)
    padded = torch.cat([action, action[:, :n_envs]], 1)  # the rows after the rollout have no action; any will do
    log_prob = distribution.log_prob(padded)[:, :n_samples]
    value = value[:, :n_samples]
    advantage = _by_run(advantage)
    valid = None if rollout.all_valid else _by_run(rollout.valid)
    samples = Samples(
        obs=obs[:, :n_samples],
        action=action,
        log_prob=log_prob,
        value=value,
        advantage=advantage,
        value_target=advantage + value,
        valid=valid,
        mask=None if mask is None else mask[:, :n_samples],
        reward_scale=reward_scale,
        entropy=mean_and_quantiles(distribution.entropy()[:, :n_samples], valid),
    )
    chunks = collector.chunks
    if chunks is None or rollout.state is None or states is None:
        return samples
    starts = chunks.cut(_by_run(rollout.starts[:-1]))
    return samples.in_sequences(chunks, Sequences(chunks.first_states(rollout.state, states), starts))


@dataclass(frozen=True)
class LossParts:
    """The loss of an actor-critic, before samples are averaged.

    Attributes:
        policy: ``[R, B]``, of the actor.
        bonus: ``[R, B]``, what the coefficient weighs.
        critic: ``[R, B]``, of the values.
        ent_coef: ``[R]``.
        vf_coef: ``[R]``.
        valid: ``[R, B]`` boolean; None if every sample counts.
    """

    policy: Tensor
    bonus: Tensor
    critic: Tensor
    ent_coef: Tensor
    vf_coef: Tensor
    valid: Tensor | None

    @cached_property
    def total(self) -> Tensor:
        """The loss of each run, ``[R]``."""
        actor = entropic_loss(self.policy, self.bonus, ent_coef=self.ent_coef.unsqueeze(1))
        return masked_mean(actor + self.vf_coef.unsqueeze(1) * self.critic, self.valid)

    def terms(self) -> Terms:
        """The same in two: actor and critic, and the entropy."""
        task = self.policy + self.vf_coef.unsqueeze(1) * self.critic
        entropy = entropic_loss(torch.zeros_like(self.policy), self.bonus, ent_coef=self.ent_coef.unsqueeze(1))
        return Terms(masked_mean(task, self.valid), masked_mean(entropy, self.valid))


def minibatches(samples: Samples, batch_size: int, stream: Stream, ranks: Ranks = ALONE) -> Iterator[Samples]:
    """One pass over the samples in random order, each run in its own; the last minibatch may be smaller.

    Several processes get their parts of the same minibatches. With memory, minibatches hold as many whole sequences as
    have ``batch_size`` samples, at least one.
    """
    sequences = samples.sequences
    if sequences is not None:
        n, size = sequences.state.shape[1], max(1, batch_size // sequences.n_steps)
    else:
        n, size = samples.advantage.shape[1], batch_size
    if size >= n:
        yield part(samples, ranks)  # the mean over all samples does not depend on their order
        return
    order = stream.permutation(n)
    if sequences is not None:
        yield from (part(samples.pick(index), ranks) for index in order.split(size, 1))
        return
    shuffled = samples.pick(order)
    for start in range(0, n, size):
        yield part(shuffled.slice(start, min(start + size, n)), ranks)


def rollout_metrics(
    samples: Samples, collector: Collector, term: EntropyTerm, *, normalized: bool
) -> dict[str, Tensor]:
    """What a rollout and its policy tell about exploration and the critic, ``[R]`` each.

    ``effective_temperature`` is the entropy weight in reward units: where advantages or rewards are normalised, the
    coefficient times what they were divided by, which drifts during training and differs between settings.
    """
    valid, action, ent_coef = samples.valid, collector.policy.action, term.coefficient.value
    unit = samples.reward_scale * (variance(samples.advantage, valid).sqrt() if normalized else 1.0)
    metrics = {
        "train/ent_coef": ent_coef.clone(),
        "train/effective_temperature": term.effective_temperature(unit),
        "train/explained_variance": explained_variance(samples.value, samples.value_target, valid),
        **entropy_metrics(samples.entropy),
    }
    if action.is_continuous:
        metrics["train/std"] = collector.policy.log_std.detach().exp().mean((1, 2))
    if any(action.bounded):
        bound = 1.0 if action.kind == "gaussian" else 3.0  # tanh(3) = .995
        parts = [part for part, is_bounded in zip(samples.action.unbind(-1), action.bounded, strict=True) if is_bounded]
        bounded = torch.stack(parts, -1)  # an index would have to be brought to the device
        metrics["explore/saturation"] = masked_mean((bounded.abs() >= bound).to(ent_coef.dtype).mean(2), valid)
    return metrics


def _replace_at_ends(next_values: Tensor, rollout: Rollout, policy: ActorCritic, states: Tensor | None) -> Tensor:
    """Where an episode ended, the value of what it ended in instead of the value of the next episode's start."""
    if not rollout.cut_obs:
        return next_values
    times, ended, final_obs = zip(*rollout.cut_obs, strict=True)
    everywhere = len(times) == len(next_values)  # as on devices that are not asked where
    index: Any = slice(None) if everywhere else brought(times, next_values.device)
    before = None if states is None else states[:, :-1][:, index].flatten(1, 2)  # of the memory, [R, K * E, n_state]
    final_values = policy.value(_by_run(torch.stack(final_obs)), before)  # [R, K * E]
    final_values = final_values.unflatten(1, (len(times), -1)).transpose(0, 1)  # [K, R, E]
    next_values[index] = torch.where(torch.stack(ended), final_values, next_values[index])
    return next_values


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Entries ``index [R, B]`` along the second axis of ``x [R, N, ...]``."""
    return x.take_along_dim(index.reshape(*index.shape, *[1] * (x.ndim - 2)), 1)


def _by_run(x: Tensor) -> Tensor:
    """``[T, R, E, ...] -> [R, T * E, ...]``."""
    return x.transpose(0, 1).flatten(1, 2)
