"""Proximal policy optimisation with an entropy bonus, for R runs at once.

Paper: Schulman et al. (2017), https://arxiv.org/abs/1707.06347; the details that make it work are those of
Engstrom et al. (2020) and Andrychowicz et al. (2021) as Stable-Baselines3 has them: generalised advantages,
orthogonal initialisation, advantage normalisation per minibatch, gradient clipping, Adam with eps 1e-5.

Differs from the paper: no adaptive KL penalty; the value function is trained on the advantage plus the old value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from entropic_rl.agents.config import PPOConfig, check_batch_size
from entropic_rl.coefficients import Coefficients
from entropic_rl.collector import Collector
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.fused import fused_rollout, fused_update
from entropic_rl.health import Health
from entropic_rl.loss_parts import Part, flat, of_actor_critic, unflat
from entropic_rl.losses import clipped_surrogate_loss, clipped_value_loss, value_loss
from entropic_rl.normalization import RewardNormalizer
from entropic_rl.on_policy import (
    LossParts,
    Samples,
    minibatches,
    prepare,
    rollout_metrics,
)
from entropic_rl.optimizers import Adam, clip_grad_norm_
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.ranks import ALONE
from entropic_rl.reductions import masked_mean, masked_means
from entropic_rl.shares import average, average_gradient, normalized_advantage
from entropic_rl.spaces import ActionSpec, ObservationSpec
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch, Transition
from entropic_rl.watching import UNWATCHED, Terms

if TYPE_CHECKING:  # Numba takes a second to import
    from entropic_rl.fused.collecting import FusedRollout
    from entropic_rl.fused.learner import FusedUpdate

__all__ = ["PPO", "PPOConfig"]


class PPO:
    """PPO agents of R runs: same network shape and rollout size, each run its own seed and coefficients.

    Args:
        configs: one per run; they may differ in their ``BATCHABLE`` fields only.
        seeds: one per run.
        observation: what the agent sees, D numbers.
        action: the policy head.
        n_envs: E, environments per run.
        device: where everything lives.
        dtype: of parameters and data.

    Raises:
        ConfigError: a minibatch does not fit into a rollout.
    """

    Config = PPOConfig
    MACHINE_CODE = "update_runs"
    ranks = ALONE

    def __init__(
        self,
        configs: Sequence[PPOConfig],
        seeds: Sequence[int],
        *,
        observation: ObservationSpec,
        action: ActionSpec,
        n_envs: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config = config = configs[0]
        check_batch_size(config.batch_size, config.n_steps, n_envs)
        self.steps_per_update = config.n_steps
        self._coefficients = Coefficients(configs, config.NUMBERS, device=device, dtype=dtype)
        self._entropy = EntropyTerm(configs, action, device=device, dtype=dtype)
        self.policy = ActorCritic(NetworkConfig.of(config), observation, action, seeds, device=device, dtype=dtype)
        self.health = Health(len(seeds), device=device)
        self._optimizer = Adam(self.policy.params.values, eps=1e-5, health=self.health)
        self.watcher = UNWATCHED
        self._fused: FusedUpdate | None = None
        self.roll: FusedRollout | None = None
        self._minibatch_stream = Stream(seeds, "minibatch", device=device)
        gamma = self._coefficients.at(0.0)["gamma"]
        normalizer = RewardNormalizer(len(seeds), n_envs, gamma) if config.normalize_reward else None
        self._collector = Collector(
            self.policy, config.n_steps, n_envs, seeds, normalizer, sequence_length=config.sequence_length
        )

    def use_fused_kernel(self, envs: EnvBatch | None = None) -> None:
        """Act and learn by machine code made for this network, and roll through ``envs`` by it where that is possible.

        Raises:
            ConfigError: there is none for it; saying why.
        """
        self._fused = fused_update(
            self.policy, self._entropy, self._optimizer, self.health, config=self.config, stream=self._minibatch_stream
        )
        self.roll = fused_rollout(self._collector, envs)

    def act(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions ``[R, E, *event]`` for raw observations ``[R, E, D]``, remembered for the update."""
        return self._collector.act(obs, mask)

    def observe(self, transition: Transition) -> None:
        """Take in what the environments answered."""
        self._collector.observe(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        """Learn from the full rollout; ``progress`` is the fraction of env steps done. Returns metrics ``[R]``."""
        self.schedule(progress)
        return self.learn()

    def schedule(self, progress: float) -> None:
        """Set every coefficient to what it is once the fraction ``progress`` of the env steps is done."""
        self._coefficients.at(progress)
        self._entropy.coefficient.at(progress)

    def learn(self) -> dict[str, Tensor]:
        """Learn from the full rollout by the coefficients as they are. Returns metrics ``[R]``."""
        c = self._coefficients.now
        recall = prepare if self._fused is None else self._fused.prepare
        samples = recall(self._collector, self._entropy, gamma=c["gamma"], gae_lambda=c["gae_lambda"])
        first_order = self._minibatch_stream.position
        if self._fused is None:
            metrics = self._learn(samples, c)
        else:
            metrics = self._fused(samples, c, lambda batch: self._inputs(batch, c))
        # However many epochs were run: a run's next orders may not depend on when its neighbours stopped.
        self._minibatch_stream.position = first_order + self.config.n_epochs
        self._collector.rollout.clear()
        self._entropy.steer(metrics, c["learning_rate"])
        return {
            **metrics,
            **rollout_metrics(samples, self._collector, self._entropy, normalized=self.config.normalize_advantage),
            "train/learning_rate": c["learning_rate"].clone(),
            "train/clip_range": c["clip_range"].clone(),
        }

    def inspect(self) -> dict[str, Tensor]:
        """Metrics for a record only: none, an update tells them all."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a loss is computed from beside a batch, ``[R, ...]`` each; not copies."""
        return flat(policy=self.policy.state_dict(), ent_coef=self._entropy.coefficient.value)

    def loss_parts(self, network: str, inputs: Mapping[str, Tensor]) -> Iterator[Part]:
        """What the loss of a step of ``network`` is made of, the loss ``[R]`` last; ``inputs`` as its health keeps."""
        batch = unflat(Samples, "batch", inputs)
        c = {name: inputs[f"coefficient.{name}"] for name in self.config.NUMBERS}
        normalize = self.config.normalize_advantage
        return of_actor_critic(self.policy, batch, lambda: self._loss(batch, c)[0], normalize=normalize)

    def _learn(self, samples: Samples, c: dict[str, Tensor]) -> dict[str, Tensor]:
        """All epochs over the samples, by autograd; means of metrics over minibatches."""
        target_kl = self.config.target_kl
        active = torch.ones_like(c["gamma"], dtype=torch.bool)  # [R], runs that have not passed target_kl
        history: list[dict[str, Tensor]] = []
        counted: list[Tensor] = []
        for _ in range(self.config.n_epochs):
            for batch in minibatches(samples, self.config.batch_size, self._minibatch_stream, self.ranks):
                parts, metrics = self._loss(batch, c)
                metrics = average(self.ranks, batch, metrics)
                counted.append(active)
                if target_kl is not None:
                    active = active & (metrics["train/approx_kl"] <= 1.5 * target_kl)
                metrics["train/grad_norm"] = self._step(batch, parts, c, None if target_kl is None else active)
                history.append(metrics)
            if target_kl is not None and not active.any():
                break
        weight = torch.stack(counted, 1)
        return {name: masked_mean(torch.stack([m[name] for m in history], 1), weight) for name in history[0]}

    def _loss(self, batch: Samples, c: dict[str, Tensor]) -> tuple[LossParts, dict[str, Tensor]]:
        """The loss of each run, differentiable, and what practitioners watch, detached."""
        config, valid = self.config, batch.valid
        distribution, value = self.policy.evaluate(batch.obs, batch.mask, batch.sequences)
        log_prob, bonus = distribution.log_prob(batch.action), self._entropy.bonus(distribution)
        advantage, unit = batch.advantage, batch.reward_scale
        if config.normalize_advantage:
            advantage, std = normalized_advantage(batch)
            unit = unit * std
        clip = c["clip_range"].unsqueeze(1)
        policy_loss = clipped_surrogate_loss(log_prob, batch.log_prob, advantage, clip_range=clip)
        if config.clip_range_vf is None:
            critic_loss = value_loss(value, batch.value_target)
        else:
            critic_loss = clipped_value_loss(value, batch.value, batch.value_target, clip_range_vf=config.clip_range_vf)
        parts = LossParts(policy_loss, bonus, critic_loss, self._entropy.loss_coef(unit), c["vf_coef"], valid)
        loss = parts.total.detach()
        with torch.no_grad():
            log_ratio = log_prob - batch.log_prob
            excess = log_ratio.expm1()  # the probability ratio minus 1
            per_sample = {
                "train/policy_gradient_loss": policy_loss,
                "train/value_loss": critic_loss,
                **self._entropy.metrics(distribution, bonus),
                "train/approx_kl": excess - log_ratio,
                "train/clip_fraction": (excess.abs() > clip).to(excess.dtype),
            }
            metrics = {"train/loss": loss, **masked_means(per_sample, valid)}
        return parts, metrics

    def _terms(self, batch: Samples, c: dict[str, Tensor]) -> Terms:
        """The loss in two, for whoever watches."""
        return self._loss(batch, c)[0].terms()

    def _step(self, batch: Samples, parts: LossParts, c: dict[str, Tensor], active: Tensor | None) -> Tensor:
        """One clipped gradient step of every active run; returns the gradient norms before clipping, ``[R]``."""
        params = self.policy.params
        params.backward(parts.total)
        average_gradient(self.ranks, batch, params.grads)
        norm = clip_grad_norm_(params.grads, c["max_grad_norm"])
        with self.watcher.step("policy", params, self._optimizer, partial(self._terms, batch, c)):
            self._optimizer.step(params.values, params.grads, c["learning_rate"], active)
        self.health.look("policy", lambda: self._inputs(batch, c))
        return norm

    def _inputs(self, batch: Samples, c: dict[str, Tensor]) -> dict[str, Tensor]:
        """All that the loss of a minibatch is computed from."""
        return flat(rollout=self._collector.rollout.seen(), batch=batch, coefficient=c, state=self.state())
