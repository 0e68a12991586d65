"""The entropy of Stable-Baselines3's policies: exact also where it has none itself, and its weight over a training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution, StateDependentNoiseDistribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from entropic_rl.coefficients import EntropyCoefficient, ProportionalIntegral
from entropic_rl.entropy import tanh_gaussian_entropy
from entropic_rl.errors import ConfigError
from entropic_rl.families import check_entropy, default_target
from entropic_rl.sb3.model import action_units
from entropic_rl.sb3.policy import recent_obs, rollout_obs
from entropic_rl.schedules import Schedule, TargetEntropy, parse_coefficient
from entropic_rl.spaces import ActionSpec, action_spec

__all__ = ["DumpClock", "EntropyCallback", "use_exact_entropy"]

_AT_ONCE = 1024  # observations in one forward pass
_RECENT = 256  # observations over which the entropy of an off-policy agent is averaged


class _StateDependentNoise(StateDependentNoiseDistribution):  # type: ignore[misc]  # SB3 publishes no types
    def entropy(self) -> Tensor:
        return _squashed_entropy(self)


class _SquashedGaussian(SquashedDiagGaussianDistribution):  # type: ignore[misc]  # as above
    def entropy(self) -> Tensor:
        return _squashed_entropy(self)


_EXACT = {
    StateDependentNoiseDistribution: _StateDependentNoise,
    SquashedDiagGaussianDistribution: _SquashedGaussian,
}


def use_exact_entropy(model: Any) -> Any:
    """Give the policy of PPO or A2C the exact entropy where it has none: for squashed actions (gSDE).

    There Stable-Baselines3 takes ``-mean(log_prob)`` of the actions in the buffer. The expected gradient of that is 0
    whatever the policy, since ``E[grad log pi(a)] = 0``: ``ent_coef`` adds noise to the loss and no bonus. The
    quadrature that replaces it is differentiable, and ``train/entropy_loss`` becomes its negative mean. Other policies
    are left as they are. To be called again after a model was loaded from a file.

    Returns:
        the same model.

    Raises:
        ConfigError: it is another algorithm.
    """
    if not isinstance(model, OnPolicyAlgorithm):
        raise ConfigError(
            f"use_exact_entropy: expected PPO or A2C, got {type(model).__name__}; SAC's own estimate draws a fresh "
            "action for each state, and its gradient is right"
        )
    distribution = model.policy.action_dist
    if getattr(distribution, "bijector", distribution) is not None:  # gSDE without one has a closed form
        distribution.__class__ = _EXACT.get(type(distribution), type(distribution))
    return model


class DumpClock:
    """Foretells when Stable-Baselines3 writes its logger out, so that what costs time is measured only then."""

    def __init__(self) -> None:
        self._n_rollouts = 0

    def start(self) -> None:
        """A training begins."""
        self._n_rollouts = 0

    def after_rollout(self, known: dict[str, Any]) -> bool:
        """Of an on-policy algorithm, which counts its rollouts; ``known`` are the callback's ``locals``."""
        self._n_rollouts += 1
        interval = known.get("log_interval")
        return interval is not None and self._n_rollouts % interval == 0

    def after_step(self, model: Any, known: dict[str, Any]) -> bool:
        """Of an off-policy algorithm, which counts its episodes."""
        interval, before = known.get("log_interval"), model._episode_num
        return interval is not None and (before + int(np.sum(known["dones"]))) // interval > before // interval


class EntropyCallback(BaseCallback):  # type: ignore[misc]  # SB3 publishes no types
    """Moves the entropy weight of Stable-Baselines3's PPO, A2C or SAC over a training.

    A number or a schedule (``linear:0.01:0``, ``cosine:...``, ``exponential:...``) is clocked by env steps done of
    all, as the learning rate is. A target (``target:NATS[:START]``, ``auto[:START]``) is kept by our controller on PPO
    and A2C, from the exact entropy of the policy that made the rollout; it begins with START, else with the model's
    own ``ent_coef``, or 0.01 if that is 0. Squashed policies get :func:`use_exact_entropy`: without it no weight has
    an effect. On SAC a target needs a learned coefficient (``ent_coef="auto"``), a schedule one that is not.

    Nats are those of Stable-Baselines3's ``train/entropy_loss``: of Box actions in the environment's own units, or
    between -1 and 1 where they are squashed. ``auto`` is half the highest entropy; for Box actions -1 per dimension
    where the bounds are -1 and 1.

    Written to the logger: ``train/ent_coef``, what the last update used, and ``train/entropy``, exact: of the policy
    that made the rollout; for SAC of the present one at the last observations in the replay buffer.

    Args:
        ent_coef: number >= 0, schedule or target.
        verbose: as in Stable-Baselines3; nothing is printed.

    Raises:
        ConfigError: at once for what is no coefficient; from ``learn`` for an algorithm that has none, a target that
            no policy reaches, or a SAC whose coefficient is (not) learned.
    """

    def __init__(self, ent_coef: float | str, verbose: int = 0) -> None:
        super().__init__(verbose)
        self._spec = _parsed(ent_coef)
        self._of: Any = None
        self._clock = DumpClock()
        self._has_set = False

    def _init_callback(self) -> None:
        if self._of is self.model:  # a further training goes on with what was found so far
            return
        model = self.model
        if not isinstance(model, PPO | A2C | SAC):
            raise ConfigError(
                f"ent_coef: Stable-Baselines3's PPO, A2C and SAC take an entropy coefficient from this callback, got "
                f"{type(model).__name__}"
            )
        self._on_policy = not isinstance(model, SAC)
        target = _target(self._spec, model)
        if self._on_policy:
            use_exact_entropy(model)
            self._coefficient = EntropyCoefficient(
                [str(self._spec)],
                target=target,
                controller=ProportionalIntegral,
                initial=float(model.ent_coef) or 0.01,
                dtype=torch.float64,
            )
        else:
            self._prepare_sac(target)
        self._of = model

    def _prepare_sac(self, target: float) -> None:
        model, spec, learned = self.model, self._spec, self.model.log_ent_coef is not None
        if isinstance(spec, Schedule) and learned:
            raise ConfigError(
                f"ent_coef: this SAC learns its coefficient (ent_coef={model.ent_coef!r}) and {spec} would be "
                "overwritten; make it with a number"
            )
        if isinstance(spec, TargetEntropy) and not learned:
            raise ConfigError(f'ent_coef: {spec} needs a SAC that learns its coefficient; make it with ent_coef="auto"')
        if isinstance(spec, TargetEntropy):
            model.target_entropy = target
            if spec.initial is not None:
                with torch.no_grad():
                    model.log_ent_coef.fill_(float(np.log(spec.initial)))

    def _on_training_start(self) -> None:
        self._clock.start()
        self._has_set = False
        self._set()

    def _on_rollout_start(self) -> None:
        self._record_coefficient()

    def _on_step(self) -> bool:
        if not self._on_policy and self._clock.after_step(self.model, self.locals):
            self._record_entropy()
        return True

    def _on_rollout_end(self) -> None:
        """Between collecting and learning."""
        if self._on_policy:
            is_read = self._clock.after_rollout(self.locals)
            if is_read or isinstance(self._spec, TargetEntropy):
                entropy = self._record_entropy()
                self._coefficient.steer(torch.tensor([entropy], dtype=torch.float64), torch.ones(1))
        self._set()
        self._has_set = True

    def _on_training_end(self) -> None:
        self._record_coefficient()
        if not self._on_policy:
            self._record_entropy()

    def _set(self) -> None:
        """Give the model the coefficient for where the training is."""
        progress = self.model.num_timesteps / self.model._total_timesteps
        if self._on_policy:
            self.model.ent_coef = float(self._coefficient.at(progress))
        elif isinstance(self._spec, Schedule):
            self.model.ent_coef_tensor.fill_(self._spec.at(progress))

    def _record_coefficient(self) -> None:
        if self._on_policy and self._has_set:  # SAC tells its own
            self.logger.record("train/ent_coef", self.model.ent_coef)

    def _record_entropy(self) -> float:
        model = self.model
        if not self._on_policy and model.replay_buffer.size() == 0:
            return float("nan")
        entropy = _mean_entropy(model, rollout_obs(model) if self._on_policy else recent_obs(model, _RECENT))
        self.logger.record("train/entropy", entropy)
        return entropy


def _parsed(ent_coef: float | str) -> Schedule | TargetEntropy:
    try:
        spec = parse_coefficient(ent_coef)
    except ValueError as error:
        raise ConfigError(f"ent_coef: {error}") from None
    if isinstance(spec, Schedule) and min(spec.start, spec.end) < 0.0:
        raise ConfigError(f"ent_coef: expected >= 0, got {ent_coef}")
    return spec


def _target(spec: Schedule | TargetEntropy, model: Any) -> float:
    """Nats that a target aims at; NaN for what is none."""
    if isinstance(spec, Schedule):
        return float("nan")
    space = model.action_space
    action = action_spec(space, squash_output=isinstance(model, SAC) or model.policy.squash_output)
    if spec.nats is None:
        return default_target(action) + _own_units(action, space)
    if action.kind != "gaussian":  # SB3 sets no bounds to the standard deviations of those
        check_entropy(SimpleNamespace(entropy="shannon", ent_coef=str(spec), entropy_in="loss"), action)
    return spec.nats


def _own_units(action: ActionSpec, space: spaces.Space[Any]) -> float:
    """Nats by which entropies of unsquashed actions are higher in the environment's units than in half-ranges."""
    if action.kind != "gaussian" or not isinstance(space, spaces.Box):
        return 0.0
    return float(np.log(action_units(space)[1]).sum())


@torch.no_grad()
def _mean_entropy(model: Any, obs: Any) -> float:
    """Over observations ``[N, ...]`` as the policy sees them."""
    n = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
    total = 0.0
    for start in range(0, n, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        some = {key: value[part] for key, value in obs.items()} if isinstance(obs, dict) else obs[part]
        total += float(_entropy(model, obs_as_tensor(some, model.device)).sum())
    return total / n


def _entropy(model: Any, obs: Any) -> Tensor:
    """``[N]``."""
    if isinstance(model, SAC):
        actor = model.actor
        mean, log_std, more = actor.get_action_dist_params(obs)
        return _squashed_entropy(actor.action_dist.proba_distribution(mean, log_std, **more))
    entropy = model.policy.get_distribution(obs).entropy()
    if entropy is None:
        kind = type(model.policy.action_dist).__name__
        raise ConfigError(f"ent_coef: a policy with {kind} has no exact entropy; leave EntropyCallback out")
    return entropy


def _squashed_entropy(distribution: Any) -> Tensor:
    """Of ``tanh`` of what a distribution of Stable-Baselines3 has inside, ``[N]``."""
    normal = distribution.distribution
    return tanh_gaussian_entropy(normal.mean, normal.stddev.log())
