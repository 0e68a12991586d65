"""Soft actor-critic for Discrete actions, for R runs at once.

Paper: Christodoulou (2019), https://arxiv.org/abs/1910.07207: soft actor-critic whose critics tell the values of all
actions, so that every expectation over actions, the entropy's included, is exact. Order of the steps and optimizers as
in :mod:`entropic_rl.agents.sac`.

Differs from the paper: ``auto`` aims at half the highest entropy instead of 98 % of it; returns may run over
``n_steps`` rewards; the entropy may be of another family, in the loss only, or weighed differently by actor and
critics, whose coupling Asad et al. (2025), https://arxiv.org/abs/2509.09838, find to be the main cause of failures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from entropic_rl.agents.config import DiscreteSACConfig
from entropic_rl.buffers import Batch
from entropic_rl.coefficients import Coefficients, DualAscent
from entropic_rl.critics import Critics
from entropic_rl.distributions import Categorical, Distribution
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.health import Health
from entropic_rl.loss_parts import Part, flat, of_distribution, unflat
from entropic_rl.losses import entropic_loss, value_loss
from entropic_rl.off_policy import Collector, inspect_policy, mean_over_steps
from entropic_rl.optimizers import Adam
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.reductions import masked_mean
from entropic_rl.returns import td_target
from entropic_rl.spaces import ActionSpec, ObservationSpec
from entropic_rl.vector import Transition
from entropic_rl.watching import UNWATCHED, Terms

__all__ = ["DiscreteSAC", "DiscreteSACConfig"]


class DiscreteSAC:
    """Discrete SAC agents of R runs: same network shape and batch size, each run its own seed, memory and coefficients.

    Args:
        configs: one per run; they may differ in their ``BATCHABLE`` fields only.
        seeds: one per run.
        observation: what the agent sees, D numbers.
        action: the policy head, a categorical.
        n_envs: E, environments per run.
        device: where everything lives.
        dtype: of parameters and data.
    """

    Config = DiscreteSACConfig

    def __init__(
        self,
        configs: Sequence[DiscreteSACConfig],
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
        network = NetworkConfig.of(config, critic=False, initialisation="uniform")
        self.policy = ActorCritic(network, observation, action, seeds, device=device, dtype=dtype)
        self.critics = Critics(network, observation, 0, action.n_outputs, seeds, device=device, dtype=dtype)
        self.health = Health(len(seeds), device=device)
        self._actor_optimizer = Adam(self.policy.params.values, eps=1e-8, health=self.health)
        self._critic_optimizer = Adam(self.critics.params.values, eps=1e-8, health=self.health)
        self.watcher = UNWATCHED
        self._collector = Collector(self.policy, config, n_envs, seeds)

    def act(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions ``[R, E]`` for raw observations ``[R, E, D]``, of those that are allowed; uniform ones at first."""
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
        batch = unflat(Batch, "batch", inputs)
        distribution = self.policy.distribution(batch.obs, batch.mask)
        bonus = self._entropy.bonus(distribution)
        yield from of_distribution(distribution)
        yield "entropy bonus", bonus
        if network == "critics":
            yield "value target", self._soft_target(batch)
        yield "values", self.critics(batch.obs)
        if network == "critics":
            yield "loss", self._critic_loss(batch)
        else:
            yield "loss", self._actor_loss(batch, distribution, bonus)

    def _step(self, progress: float, c: dict[str, Tensor]) -> dict[str, Tensor]:
        """One gradient step of the coefficient, the critics and the actor of every run."""
        ent_coef = self._entropy.coefficient.at(progress).clone()
        batch = self._collector.batch(c["gamma"])
        distribution = self.policy.distribution(batch.obs, batch.mask)
        bonus = self._entropy.bonus(distribution)
        with torch.no_grad():
            entropies = self._entropy.metrics(distribution, bonus)
            metrics = {name: masked_mean(values, batch.valid) for name, values in entropies.items()}
        self._entropy.steer(metrics, c["learning_rate"])

        def inputs() -> dict[str, Tensor]:
            return flat(batch=batch, coefficient=c, state=self.state())

        critic_loss = self._critic_loss(batch)
        critic, actor = self.critics.params, self.policy.params
        critic.backward(critic_loss)
        learning_rates = self.critics.per_row(c["learning_rate"])
        with self.watcher.step("critics", critic, self._critic_optimizer, partial(self._critic_terms, batch)):
            self._critic_optimizer.step(critic.values, critic.grads, learning_rates)
        self.health.look("critics", inputs)

        actor_loss = self._actor_loss(batch, distribution, bonus)
        actor.backward(actor_loss)
        with self.watcher.step("policy", actor, self._actor_optimizer, partial(self._actor_terms, batch)):
            self._actor_optimizer.step(actor.values, actor.grads, c["learning_rate"])
        self.health.look("policy", inputs)
        self.critics.follow(c["tau"])
        return metrics | {
            "train/ent_coef": ent_coef,
            "train/effective_temperature": ent_coef,
            "train/critic_loss": critic_loss.detach(),
            "train/actor_loss": actor_loss.detach(),
        }

    def _critic_loss(self, batch: Batch) -> Tensor:
        """Half the squared errors of both critics, ``[R]``."""
        target = self._soft_target(batch)
        values = self.critics(batch.obs)  # [R, K, B, A]
        taken = batch.action.unsqueeze(1).unsqueeze(-1).expand(*values.shape[:3], 1)
        q_value = values.gather(-1, taken).squeeze(-1)  # [R, K, B]
        errors = value_loss(q_value, target.unsqueeze(1).expand_as(q_value)).sum(1)
        return 0.5 * masked_mean(errors, batch.valid)

    @torch.no_grad()
    def _soft_target(self, batch: Batch) -> Tensor:
        """Rewards and the soft value of what followed, ``[R, B]``."""
        following = self.policy.distribution(batch.next_obs, batch.next_mask)
        next_q = _expected(following, self.critics.lowest_target(batch.next_obs))
        next_value = next_q + self._entropy.critic_coef().unsqueeze(1) * self._entropy.bonus(following)
        return td_target(batch.reward, next_value, batch.terminated, discount=batch.discount)

    def _critic_terms(self, batch: Batch) -> Terms:
        """The critics' loss in two; the entropy is in what they learn, not beside it."""
        return Terms(self._critic_loss(batch), None)

    def _actor_terms(self, batch: Batch) -> Terms:
        """The actor's loss in two."""
        distribution = self.policy.distribution(batch.obs, batch.mask)
        bonus = self._entropy.bonus(distribution)
        nothing = torch.zeros_like(bonus)
        entropy = entropic_loss(nothing, bonus, ent_coef=self._entropy.actor_coef().unsqueeze(1))
        return Terms(self._actor_loss(batch, distribution, nothing), masked_mean(entropy, batch.valid))

    def _actor_loss(self, batch: Batch, distribution: Distribution, bonus: Tensor) -> Tensor:
        """The negative of the expected smaller value and of the weighted entropy, ``[R]``."""
        with torch.no_grad():
            q_value = self.critics(batch.obs).amin(1)  # [R, B, A]
        loss = entropic_loss(-_expected(distribution, q_value), bonus, ent_coef=self._entropy.actor_coef().unsqueeze(1))
        return masked_mean(loss, batch.valid)


def _expected(distribution: Distribution, q_value: Tensor) -> Tensor:
    """``sum_a pi(a) Q(a)``, ``[R, B, A] -> [R, B]``."""
    return (cast(Categorical, distribution).probs * q_value).sum(-1)
