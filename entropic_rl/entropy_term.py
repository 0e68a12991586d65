"""The entropy term of an agent's objective: its family, its place and its coefficient, for R runs.

Place says what the coefficient c multiplies beside the policy's own loss:

- ``loss``: the policy is rewarded for its entropy where it acts; values are those of the reward alone. What PPO and A2C
  are usually given. Its fixed point is ``softmax(Q / c)`` with the plain Q of the policy itself.
- ``reward``: the maximum-entropy objective, ``E sum gamma^t (r_t + c H(pi(.|s_t)))``: values hold the entropy to
  come, and the policy is drawn to states in which it can stay random. Its gradient has the entropy of the present
  state in it, too, which is taken in closed form in the loss (a reward ``-c log pi(a|s)`` has the same expected
  gradient, with noise).
- ``both``: as ``reward``, and once more in the loss, as code does that adds a bonus to a maximum-entropy reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from entropic_rl.coefficients import DualAscent, EntropyCoefficient, ProportionalIntegral
from entropic_rl.distributions import Distribution
from entropic_rl.entropy import tsallis_from_renyi
from entropic_rl.families import EntropyFamily, check_entropy, default_target
from entropic_rl.spaces import ActionSpec

__all__ = ["EntropyTerm"]

_LOSS_SHARE = {"loss": 1.0, "reward": 1.0, "both": 2.0}
_VALUE_SHARE = {"loss": 0.0, "reward": 1.0, "both": 1.0}


class EntropyTerm:
    """What R runs add to their objective, ``coefficient * bonus``.

    Args:
        configs: one per run, with ``ent_coef``, ``ent_coef_unit``, ``entropy`` and ``entropy_in``.
        action: the policy head.
        controller: what steers coefficients with a target.
        initial: coefficient that a steered one begins with if it does not say.
        device: where everything lives.
        dtype: of the numbers.

    Attributes:
        family: the same for all runs.
        in_values: whether any run has the bonus in its values.
        coefficient: ``[R]``, read after ``coefficient.at(progress)``.

    Raises:
        ConfigError: the actions do not have this entropy, or no policy reaches the target.
    """

    def __init__(
        self,
        configs: Sequence[Any],
        action: ActionSpec,
        *,
        controller: type[DualAscent] | type[ProportionalIntegral] = ProportionalIntegral,
        initial: float = 0.01,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        for config in configs:
            check_entropy(config, action)
        self.family = EntropyFamily.parse(configs[0].entropy)
        self._prior = torch.tensor(self.family.prior, dtype=dtype, device=device)
        self.coefficient = EntropyCoefficient(
            [config.ent_coef for config in configs],
            target=default_target(action),
            controller=controller,
            initial=initial,
            divergence=self.family.is_divergence,
            device=device,
            dtype=dtype,
        )
        places = [config.entropy_in for config in configs]
        in_reward_units = [config.ent_coef_unit == "reward" or config.entropy_in != "loss" for config in configs]
        self._in_reward_units = torch.tensor(in_reward_units, device=device)
        self._loss_share = torch.tensor([_LOSS_SHARE[place] for place in places], dtype=dtype, device=device)
        self._value_share = torch.tensor([_VALUE_SHARE[place] for place in places], dtype=dtype, device=device)
        apart = getattr(configs[0], "critic_ent_coef", None)
        self._apart = None if apart is None else self._value_share * apart
        self.in_values = any(_VALUE_SHARE[place] for place in places)

    def bonus(self, distribution: Distribution) -> Tensor:
        """What the coefficient weighs, ``[...]``: an entropy, or the negative of a divergence."""
        kind = self.family.kind
        if self.family.is_shannon:
            return distribution.entropy()
        if kind == "kl-to-uniform":
            return -distribution.kl_to_uniform()
        if kind == "kl-to-prior":
            return -distribution.kl_to_prior(self._prior)
        renyi = distribution.renyi_entropy(self.family.order)
        return renyi if kind == "renyi" else tsallis_from_renyi(renyi, self.family.order)

    def metrics(self, distribution: Distribution, bonus: Tensor) -> dict[str, Tensor]:
        """Shannon's entropy and, where it is something else, the bonus, ``[...]`` each."""
        if self.family.is_shannon:
            return {"train/entropy": bonus}
        return {"train/entropy": distribution.entropy(), "train/bonus": bonus}

    def steer(self, metrics: dict[str, Tensor], learning_rate: Tensor) -> None:
        """Take in the means ``[R]`` of :meth:`metrics`; a target is of Shannon's entropy, or of the divergence."""
        level = metrics["train/bonus" if self.family.is_divergence else "train/entropy"]
        self.coefficient.steer(level, learning_rate)

    def loss_coef(self, unit: Tensor) -> Tensor:
        """Weight of the bonus in a policy loss whose advantages were divided by ``unit [R]``, ``[R]``."""
        weight, in_reward_units = self.loss_weight()
        return torch.where(in_reward_units, weight / unit, weight)

    def loss_weight(self) -> tuple[Tensor, Tensor]:
        """The parts of :meth:`loss_coef`: the weight, and where it is divided by the unit, ``[R]`` each."""
        return self.coefficient.value * self._loss_share, self._in_reward_units

    def value_coef(self, unit: Tensor) -> Tensor:
        """Weight of the bonus beside rewards that were divided by ``unit [R]``, ``[R]``."""
        return self.coefficient.value * self._value_share / unit

    def actor_coef(self) -> Tensor:
        """Weight of the bonus in the loss of an actor whose values are in units of the reward, ``[R]``."""
        return self.coefficient.value * self._loss_share

    def critic_coef(self) -> Tensor:
        """Weight of the bonus in the values of such an agent, ``[R]``, as it was set apart or the same."""
        if self._apart is not None:
            return self._apart
        return self.coefficient.value * self._value_share

    def effective_temperature(self, unit: Tensor) -> Tensor:
        """The coefficient in units of the reward, where advantages were divided by ``unit [R]``, ``[R]``."""
        value = self.coefficient.value
        return torch.where(self._in_reward_units, value, value * unit)
