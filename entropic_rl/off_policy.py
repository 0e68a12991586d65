"""What off-policy agents share around their losses: acting, remembering, drawing batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from entropic_rl.buffers import Batch, Replay
from entropic_rl.distributions import Categorical, TanhGaussian
from entropic_rl.policies import ActorCritic, draw_noise
from entropic_rl.reductions import entropy_metrics, masked_mean, mean_and_quantiles
from entropic_rl.streams import Stream
from entropic_rl.vector import Transition

__all__ = ["Collector", "Draws", "inspect_policy", "mean_over_steps"]

_BLOCK = 64  # draws made at once: the generator costs as much for one number as for thousands
_SATURATED = 0.995  # = tanh(3), of a bound at 1
_RECENT = 1024  # observations at which a policy is inspected


class Draws:
    """One draw at a time from blocks of draws of a stream; ``draw(stream, n)`` has to give ``[R, n, ...]``."""

    def __init__(self, stream: Stream, draw: Callable[[Stream, int], Tensor]) -> None:
        self._stream, self._draw, self._used = stream, draw, _BLOCK

    def next(self) -> Tensor:
        """``[R, ...]``."""
        if self._used == _BLOCK:
            self._block, self._used = self._draw(self._stream, _BLOCK), 0
        self._used += 1
        return self._block[:, self._used - 1]


class Collector:
    """Acts, uniformly at first, and remembers everything.

    Args:
        policy: the networks that act.
        config: of the agent: ``buffer_size``, ``learning_starts``, ``warmup_hold``, ``batch_size``, ``n_steps``.
            Uniform actions that are held push further than a new one at every step, whose walk stays where it began
            (Dabney et al. 2021, https://arxiv.org/abs/2006.01782); where actions are masked none is held.
        n_envs: E, environments per run.
        seeds: one per run, for the action noise and for the draws from memory.

    Attributes:
        replay: what is remembered; actions of Box spaces lie in [-1, 1].
    """

    def __init__(self, policy: ActorCritic, config: Any, n_envs: int, seeds: Sequence[int]) -> None:
        values = policy.params.values
        self.policy, self._n_envs = policy, n_envs
        self._learning_starts, self._warmup_hold = config.learning_starts, config.warmup_hold
        self._n_steps = config.n_steps
        self.replay = Replay(
            config.buffer_size,
            len(seeds),
            n_envs,
            policy.observation,
            policy.action,
            device=values.device,
            dtype=values.dtype,
        )
        self._valid: Tensor | None = None  # [R, E], which observations about to be acted on start a real step
        streams = [Stream(seeds, use, device=values.device) for use in ("action", "replay")]
        head, dtype, batch_size = policy.action, values.dtype, config.batch_size
        self._noise = Draws(streams[0], lambda stream, n: draw_noise(head, stream, n, n_envs).to(dtype))
        self._places = Draws(streams[1], lambda stream, n: stream.uniform(n, batch_size))

    @property
    def is_ready(self) -> bool:
        """Whether there is enough to learn from."""
        return self.replay.n_added * self._n_envs > self._learning_starts

    @torch.no_grad()
    def act(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions ``[R, E, *event]`` for raw observations ``[R, E, D]``, of those that ``mask [R, E, A]`` allows."""
        noise = self._noise.next()
        self._obs, self._mask = obs.clone(), mask  # the env may reuse its buffers
        seen = self.policy.normalize(obs, update=True, valid=self._valid)
        if self.replay.n_added * self._n_envs < self._learning_starts:
            if self.replay.n_added % self._warmup_hold == 0 or mask is not None:
                self._action = _uniform(noise, mask, continuous=self.policy.action.is_continuous)
        else:
            self._action = self.policy.distribution(seen, mask).sample(noise)
        return self._action

    def observe(self, transition: Transition) -> None:
        """What the environments answered to the last actions."""
        action = self._action.tanh() if self.policy.action.kind == "tanh-gaussian" else self._action
        self._valid = transition.next_valid
        self.replay.add(self._obs, action, self._mask, transition)

    def batch(self, gamma: Tensor) -> Batch:
        """Transitions of each run to learn from, observations normalised."""
        batch = self.replay.sample(self._places.next(), n_steps=self._n_steps, gamma=gamma)
        if self.policy.normalizer is None:
            return batch
        seen, following = self.policy.normalize(batch.obs), self.policy.normalize(batch.next_obs)
        return Batch(seen, batch.action, batch.reward, following, batch.terminated, batch.discount, batch.valid,
                     batch.mask, batch.next_mask)  # fmt: skip


def mean_over_steps(history: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Metrics ``[R]`` of several gradient steps as their means, ``[R]`` each, in one reduction."""
    if len(history) == 1:
        return history[0]
    stacked = torch.stack([torch.stack(list(metrics.values())) for metrics in history])  # [steps, metrics, R]
    return dict(zip(history[0], stacked.mean(0).unbind(), strict=True))


@torch.no_grad()
def inspect_policy(collector: Collector) -> dict[str, Tensor]:
    """How random the policy is at the latest observations, ``[R]`` each; nothing before there are any."""
    if collector.replay.n_added == 0:
        return {}
    obs, action, mask, valid = collector.replay.latest(_RECENT)
    distribution = collector.policy.distribution(collector.policy.normalize(obs), mask)
    metrics = entropy_metrics(mean_and_quantiles(distribution.entropy(), valid))
    if isinstance(distribution, TanhGaussian):
        metrics["train/std"] = masked_mean(distribution.log_std.exp().mean(2), valid)
        metrics["explore/saturation"] = masked_mean((action.abs() >= _SATURATED).to(obs.dtype).mean(2), valid)
    return metrics


def _uniform(noise: Tensor, mask: Tensor | None, *, continuous: bool) -> Tensor:
    """Actions that are uniform between the bounds, or over what is allowed, from the noise of the policy's head."""
    if not continuous:
        return Categorical(torch.zeros_like(noise), mask).sample(noise)
    return torch.special.ndtr(noise).mul(2.0).sub(1.0).clamp(-1.0 + 1e-6, 1.0 - 1e-6).atanh()
