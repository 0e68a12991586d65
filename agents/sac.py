"""Soft actor-critic for Box actions, for R runs at once.

Paper: Haarnoja et al. (2018), https://arxiv.org/abs/1812.05905: a tanh-Gaussian actor, twin critics whose smaller value
counts, an entropy coefficient found by dual gradient ascent. Details as Stable-Baselines3 has them: one step of the
coefficient, the critics and the actor, in this order, per batch; Adam with eps 1e-8.

Differs from the paper: returns may run over ``n_steps`` rewards, uncorrected for the change of the policy; the entropy
may be of another family, in the loss only, weighed differently by actor and critics, or exact instead of sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from entropic_rl.agents.config import SACConfig
from entropic_rl.buffers import Batch
from entropic_rl.coefficients import Coefficients, DualAscent
from entropic_rl.critics import Critics
from entropic_rl.distributions import Distribution, TanhGaussian
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.fused import fused_sac_step
from entropic_rl.health import Health
from entropic_rl.loss_parts import Part, flat, of_distribution, unflat
from entropic_rl.losses import entropic_loss, value_loss
from entropic_rl.off_policy import Collector, Draws, inspect_policy, mean_over_steps
from entropic_rl.optimizers import Adam
from entropic_rl.policies import ActorCritic, NetworkConfig, draw_noise
from entropic_rl.ranks import ALONE
from entropic_rl.reductions import masked_mean
from entropic_rl.returns import td_target
from entropic_rl.shares import part_of_batch
from entropic_rl.spaces import ActionSpec, ObservationSpec
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch, Transition
from entropic_rl.watching import UNWATCHED, Terms

if TYPE_CHECKING:  # Numba takes a second to import
    from entropic_rl.fused.sac_learner import FusedSACStep

__all__ = ["SAC", "SACConfig"]

Inputs = Callable[[], dict[str, Tensor]]


class SAC:
    """SAC agents of R runs: same network shape and batch size, each run its own seed, memory and coefficients.

    Args:
        configs: one per run; they may differ in their ``BATCHABLE`` fields only.
        seeds: one per run.
        observation: what the agent sees, D numbers.
        action: the policy head, a tanh-Gaussian.
        n_envs: E, environments per run.
        device: where everything lives.
        dtype: of parameters and data.
    """

    Config = SACConfig
    MACHINE_CODE = "step_networks"
    ranks = ALONE

    def __init__(
        self,
        configs: Sequence[SACConfig],
        seeds: Sequence[int],
        *,
        observation: ObservationSpec,
        action: ActionSpec,
        n_envs: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config = config = configs[0]
        self.steps_per_update = config.train_freq
        self._gradient_steps = config.gradient_steps if config.gradient_steps > 0 else config.train_freq * n_envs
        self._coefficients = Coefficients(configs, config.NUMBERS, device=device, dtype=dtype)
        self._entropy = EntropyTerm(configs, action, controller=DualAscent, initial=1.0, device=device, dtype=dtype)
        network = NetworkConfig.of(config, critic=False, state_dependent_std=True, initialisation="uniform")
        self.policy = ActorCritic(network, observation, action, seeds, device=device, dtype=dtype)
        self.critics = Critics(network, observation, action.n_outputs, 1, seeds, device=device, dtype=dtype)
        self.health = Health(len(seeds), device=device)
        self._actor_optimizer = Adam(self.policy.params.values, eps=1e-8, health=self.health)
        self._critic_optimizer = Adam(self.critics.params.values, eps=1e-8, health=self.health)
        self.watcher = UNWATCHED
        self._collector = Collector(self.policy, config, n_envs, seeds)
        self._noise = Draws(
            Stream(seeds, "update", device=device),
            lambda stream, n: draw_noise(action, stream, n, 2, config.batch_size).to(dtype),
        )
        self._fused: FusedSACStep | None = None

    def use_fused_kernel(self, envs: EnvBatch | None = None) -> None:
        """Learn by machine code made for these networks.

        Raises:
            ConfigError: there is none for them; saying why.
        """
        self._fused = fused_sac_step(
            self.policy,
            self.critics,
            self._entropy,
            self._actor_optimizer,
            self._critic_optimizer,
            self.health,
            config=self.config,
        )

    def act(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions before squashing, ``[R, E, D]``, for raw observations ``[R, E, D]``; uniform ones at first."""
        return self._collector.act(obs, mask)

    def observe(self, transition: Transition) -> None:
        """Take in what the environments answered."""
        self._collector.observe(transition)

    def update(self, progress: float) -> dict[str, Tensor]:
        """Learn from memory; ``progress`` is the fraction of env steps done. Returns metrics ``[R]``, none at first."""
        if not self._collector.is_ready:
            return {}
        c = self._coefficients.at(progress)
        history = [self._step(progress, c) for _ in range(self._gradient_steps)]
        return mean_over_steps(history) | {"train/learning_rate": c["learning_rate"].clone()}

    def inspect(self) -> dict[str, Tensor]:
        """How random the policy is at the latest observations, exactly."""
        return inspect_policy(self._collector)

    def state(self) -> dict[str, Tensor]:
        """What a loss is computed from beside a batch, ``[R, ...]`` or ``[R K, ...]`` each; not copies."""
        critics = {"trained": self.critics.params.named(), "following": self.critics.target.named()}
        return flat(policy=self.policy.state_dict(), critics=critics, ent_coef=self._entropy.coefficient.value)

    def loss_parts(self, network: str, inputs: Mapping[str, Tensor]) -> Iterator[Part]:
        """What the loss of a step of ``network`` is made of, the loss ``[R]`` last; ``inputs`` as its health keeps."""
        batch, noise, next_noise = unflat(Batch, "batch", inputs), inputs["noise"], inputs["next_noise"]
        distribution = self.policy.distribution(batch.obs)
        action, bonus = self._act_and_bonus(distribution, noise)
        yield from of_distribution(distribution)
        yield "fresh action", action
        yield "entropy bonus", bonus
        if network == "critics":
            yield "value target", self._soft_target(batch, next_noise)
            yield "values", self.critics(batch.obs, batch.action)
            yield "loss", self._critic_loss(batch, next_noise)
        else:
            yield "values of fresh action", self.critics(batch.obs, action)
            yield "loss", self._actor_loss(batch, action, bonus)

    def _step(self, progress: float, c: dict[str, Tensor]) -> dict[str, Tensor]:
        """One gradient step of the coefficient, the critics and the actor of every run."""
        ent_coef = self._entropy.coefficient.at(progress).clone()
        batch, drawn, weight = part_of_batch(self._collector.batch(c["gamma"]), self._noise.next(), self.ranks)

        def inputs() -> dict[str, Tensor]:
            noise, next_noise = drawn.unbind(1)
            return flat(batch=batch, coefficient=c, noise=noise, next_noise=next_noise, state=self.state())

        if self._fused is None:
            metrics = self._learn(batch, drawn, weight, c, inputs)
        else:
            metrics = self._fused(batch, drawn, c, inputs)
        self._entropy.steer(metrics, c["learning_rate"])
        return metrics | {
            "train/ent_coef": ent_coef,
            "train/effective_temperature": ent_coef,
        }

    def _learn(
        self, batch: Batch, drawn: Tensor, weight: Tensor | None, c: dict[str, Tensor], inputs: Inputs
    ) -> dict[str, Tensor]:
        """The critics' step and the actor's, by autograd; what is watched, ``[R]`` each."""
        noise, next_noise = drawn.unbind(1)
        distribution = self.policy.distribution(batch.obs)
        action, bonus = self._act_and_bonus(distribution, noise)
        with torch.no_grad():
            entropies = self._entropy.metrics(distribution, bonus)
            metrics = {name: masked_mean(values, batch.valid) for name, values in entropies.items()}
        critic_loss = self._critic_loss(batch, next_noise)
        critic, actor = self.critics.params, self.policy.params
        critic.backward(critic_loss)
        metrics["train/critic_loss"] = critic_loss.detach()
        metrics = self.ranks.average_gradient(critic.grads, weight, metrics)
        learning_rates = self.critics.per_row(c["learning_rate"])
        terms = partial(self._critic_terms, batch, next_noise)
        with self.watcher.step("critics", critic, self._critic_optimizer, terms):
            self._critic_optimizer.step(critic.values, critic.grads, learning_rates)
        self.health.look("critics", inputs)

        actor_loss = self._actor_loss(batch, action, bonus)
        actor.backward(actor_loss)
        metrics |= self.ranks.average_gradient(actor.grads, weight, {"train/actor_loss": actor_loss.detach()})
        terms = partial(self._actor_terms, batch, noise)
        with self.watcher.step("policy", actor, self._actor_optimizer, terms):
            self._actor_optimizer.step(actor.values, actor.grads, c["learning_rate"])
        self.health.look("policy", inputs)
        self.critics.follow(c["tau"])
        return metrics

    def _act_and_bonus(self, distribution: Distribution, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Differentiable actions in [-1, 1], ``[R, B, D]``, and what the coefficient weighs, ``[R, B]``."""
        if self._entropy.family.is_shannon and self.config.entropy_estimate == "sample":
            unsquashed, log_prob = cast(TanhGaussian, distribution).sample_and_log_prob(noise)
            return unsquashed.tanh(), -log_prob
        return distribution.sample(noise).tanh(), self._entropy.bonus(distribution)

    def _critic_loss(self, batch: Batch, next_noise: Tensor) -> Tensor:
        """Half the squared errors of both critics, ``[R]``."""
        target = self._soft_target(batch, next_noise)
        q_value = self.critics(batch.obs, batch.action).squeeze(-1)  # [R, K, B]
        errors = value_loss(q_value, target.unsqueeze(1).expand_as(q_value)).sum(1)
        return 0.5 * masked_mean(errors, batch.valid)

    @torch.no_grad()
    def _soft_target(self, batch: Batch, next_noise: Tensor) -> Tensor:
        """Rewards and the soft value of what followed, ``[R, B]``."""
        next_action, next_bonus = self._act_and_bonus(self.policy.distribution(batch.next_obs), next_noise)
        next_q = self.critics.lowest_target(batch.next_obs, next_action).squeeze(-1)
        next_value = next_q + self._entropy.critic_coef().unsqueeze(1) * next_bonus
        return td_target(batch.reward, next_value, batch.terminated, discount=batch.discount)

    def _critic_terms(self, batch: Batch, next_noise: Tensor) -> Terms:
        """The critics' loss in two; the entropy is in what they learn, not beside it."""
        return Terms(self._critic_loss(batch, next_noise), None)

    def _actor_terms(self, batch: Batch, noise: Tensor) -> Terms:
        """The actor's loss in two."""
        action, bonus = self._act_and_bonus(self.policy.distribution(batch.obs), noise)
        nothing = torch.zeros_like(bonus)
        entropy = entropic_loss(nothing, bonus, ent_coef=self._entropy.actor_coef().unsqueeze(1))
        return Terms(self._actor_loss(batch, action, nothing), masked_mean(entropy, batch.valid))

    def _actor_loss(self, batch: Batch, action: Tensor, bonus: Tensor) -> Tensor:
        """The negative of the smaller value and of the weighted entropy, ``[R]``."""
        q_value = self.critics(batch.obs, action).squeeze(-1).amin(1)
        loss = entropic_loss(-q_value, bonus, ent_coef=self._entropy.actor_coef().unsqueeze(1))
        return masked_mean(loss, batch.valid)
