"""Soft Q-learning for Discrete actions, for R runs at once; with ``munchausen`` it is Munchausen DQN.

Papers: Haarnoja et al. (2017), https://arxiv.org/abs/1702.08165: values hold the entropy to come, and their softmax is
the policy. Vieillard et al. (2020), https://arxiv.org/abs/2007.14430, add a share m of the scaled log-policy to the
reward. With following values q', a temperature t, the entropy's coefficient, and ``pi' = softmax(q' / t)``:

    target = r + m max(t log pi'(a|s), -clip) + gamma sum_b pi'(b|s') (q'(s',b) - t log pi'(b|s'))

Where nothing is clipped the optimum is that of the temperature ``(1 - m) t``. There is no actor: the network that is
trained gives values, and :class:`~entropic_rl.policies.ActorCritic`, which makes a policy of them, holds the
temperature, so that it is saved with them.

Differs from the papers: targets follow slowly instead of being copied now and then; nothing explores but the policy;
squared errors, which are least at the mean that a soft value is, where Munchausen DQN has Huber's; returns may run over
``n_steps`` rewards, of whose states the first alone lends its log-policy and the last its entropy; entropy may be left
out of the values (``--entropy-in loss``), which then are the plain ones of their softmax policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from entropic_rl.agents.config import SoftQConfig
from entropic_rl.buffers import Batch
from entropic_rl.coefficients import Coefficients, DualAscent
from entropic_rl.distributions import Categorical
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.health import Health
from entropic_rl.loss_parts import Part, flat, of_distribution, unflat
from entropic_rl.losses import value_loss
from entropic_rl.off_policy import Collector, inspect_policy, mean_over_steps
from entropic_rl.optimizers import Adam
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.reductions import masked_mean
from entropic_rl.returns import td_target
from entropic_rl.spaces import ActionSpec, ObservationSpec
from entropic_rl.vector import Transition
from entropic_rl.watching import UNWATCHED, Terms

__all__ = ["SoftQ", "SoftQConfig"]

_LOWEST = 1e-6  # temperature, in reward units, of a coefficient of 0: the best action, or any of those that tie


class SoftQ:
    """Soft Q-learning agents of R runs: same network shape and batch size, each its own seed, memory and coefficients.

    Args:
        configs: one per run; they may differ in their ``BATCHABLE`` fields only.
        seeds: one per run.
        observation: what the agent sees, D numbers.
        action: the policy head, a categorical.
        n_envs: E, environments per run.
        device: where everything lives.
        dtype: of parameters and data.

    Attributes:
        target: the network with the following values.
    """

    Config = SoftQConfig

    def __init__(
        self,
        configs: Sequence[SoftQConfig],
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
        self._is_munchausen = any(config.munchausen > 0.0 for config in configs)
        self._entropy = EntropyTerm(configs, action, controller=DualAscent, initial=1.0, device=device, dtype=dtype)
        network = NetworkConfig.of(config, critic=False, initialisation="uniform", tempered=True)
        self.policy = ActorCritic(network, observation, action, seeds, device=device, dtype=dtype)
        network = replace(network, normalize_obs=False)  # it sees what the policy has normalised
        self.target = ActorCritic(network, observation, action, seeds, device=device, dtype=dtype)
        self._temperature = self.target.temperature = cast(Tensor, self.policy.temperature)  # one tensor, both heads'
        self._temper(0.0)
        self.health = Health(len(seeds), device=device)
        self._optimizer = Adam(self.policy.params.values, eps=1e-8, health=self.health)
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
        """What a loss is computed from beside a batch, ``[R, ...]`` each; not copies."""
        following, ent_coef = self.target.state_dict(), self._entropy.coefficient.value
        return flat(policy=self.policy.state_dict(), following=following, ent_coef=ent_coef)

    def loss_parts(self, network: str, inputs: Mapping[str, Tensor]) -> Iterator[Part]:
        """What the loss of a step of ``network`` is made of, the loss ``[R]`` last; ``inputs`` as its health keeps."""
        batch = unflat(Batch, "batch", inputs)
        values = self.policy.outputs(batch.obs)
        yield "values", values
        with torch.no_grad():
            distribution = self.policy.head(values, batch.mask)
            yield from of_distribution(distribution)
            yield "entropy bonus", self._entropy.bonus(distribution)
            target, _ = self._target(batch, {name: inputs[f"coefficient.{name}"] for name in self.config.NUMBERS})
        yield "value target", target
        yield "loss", self._loss(values, target, batch)

    def _step(self, progress: float, c: dict[str, Tensor]) -> dict[str, Tensor]:
        """One gradient step of the coefficient and the values of every run."""
        ent_coef = self._temper(progress)
        batch = self._collector.batch(c["gamma"])
        values = self.policy.outputs(batch.obs)  # [R, B, A]
        with torch.no_grad():
            distribution = self.policy.head(values, batch.mask)
            entropies = self._entropy.metrics(distribution, self._entropy.bonus(distribution))
            metrics = {name: masked_mean(values, batch.valid) for name, values in entropies.items()}
            target, is_clipped = self._target(batch, c)
            if is_clipped is not None:
                metrics["train/munchausen_clipped"] = masked_mean(is_clipped.to(target.dtype), batch.valid)
        self._entropy.steer(metrics, c["learning_rate"])

        loss = self._loss(values, target, batch)
        params = self.policy.params
        params.backward(loss)
        with self.watcher.step("policy", params, self._optimizer, lambda: self._terms(target, batch)):
            self._optimizer.step(params.values, params.grads, c["learning_rate"])
        self.health.look("policy", lambda: flat(batch=batch, coefficient=c, state=self.state()))
        self.target.params.values.lerp_(self.policy.params.values, c["tau"].unsqueeze(1))
        return metrics | {
            "train/ent_coef": ent_coef,
            "train/effective_temperature": (1.0 - c["munchausen"]) * ent_coef,
            "train/critic_loss": loss.detach(),
        }

    def _temper(self, progress: float) -> Tensor:
        """Make the coefficient the temperature of both networks' policies; returns it, ``[R]``."""
        ent_coef = self._entropy.coefficient.at(progress).clone()
        self._temperature.copy_(ent_coef.clamp(min=_LOWEST))
        return ent_coef

    def _target(self, batch: Batch, c: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """What values are to become, ``[R, B]``, and where a log-policy in it was clipped, if there is one."""
        target = self._soft_target(batch)
        if not self._is_munchausen:
            return target, None
        log_policy, is_clipped = self._log_policy(batch)
        return target + c["munchausen"].unsqueeze(1) * log_policy, is_clipped

    def _soft_target(self, batch: Batch) -> Tensor:
        """Rewards and the soft value of what followed, ``[R, B]``: expectations over its policy are exact."""
        next_q = self.target.outputs(batch.next_obs)
        following = cast(Categorical, self.target.head(next_q, batch.next_mask))
        entropy = self._entropy.critic_coef().unsqueeze(1) * self._entropy.bonus(following)
        next_value = (following.probs * next_q).sum(-1) + entropy
        return td_target(batch.reward, next_value, batch.terminated, discount=batch.discount)

    def _log_policy(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is added to rewards, ``[R, B]``, before its weight, and where it was clipped."""
        log_prob = self.target.distribution(batch.obs, batch.mask).log_prob(batch.action)
        scaled = self._temperature.unsqueeze(1) * log_prob
        lowest = -self.config.munchausen_clip
        return scaled.clamp(min=lowest), scaled < lowest

    def _loss(self, values: Tensor, target: Tensor, batch: Batch) -> Tensor:
        """Half the squared error of the values of what was done, ``[R]``."""
        q_value = values.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        return 0.5 * masked_mean(value_loss(q_value, target), batch.valid)

    def _terms(self, target: Tensor, batch: Batch) -> Terms:
        """The loss in two; the entropy is in what is learned, not beside it."""
        return Terms(self._loss(self.policy.outputs(batch.obs), target, batch), None)
