"""Hyper-parameters of the agents, under Stable-Baselines3's names and with its defaults; free of torch.

Kept beside the agents rather than inside their files because the command line shows and checks them before torch,
which takes seconds to import, is needed.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import Doc

from entropic_rl.config import Count, Finite, Fraction, NonNegative, Positive, PositiveScheduled, Scheduled, settings
from entropic_rl.errors import ConfigError

if __name__ != "entropic_rl.agents.config":
    raise ImportError(f"import entropic_rl.agents.config, not {__name__}")

__all__ = ["AGENT_CONFIGS", "A2CConfig", "PPOConfig"]

Activation = Literal["tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid"]
Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=16)]


@settings
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017)."""

    BATCHABLE: ClassVar[tuple[str, ...]] = (
        "learning_rate", "gamma", "gae_lambda", "clip_range", "ent_coef", "vf_coef", "max_grad_norm",
    )  # fmt: skip
    """Fields in which runs of one batch may differ."""

    learning_rate: Annotated[PositiveScheduled, Doc("Adam's step size, > 0")] = 3e-4
    n_steps: Annotated[Count, Doc("env steps per environment between updates")] = 2048
    batch_size: Annotated[Count, Doc("transitions per minibatch, at most n_steps * n_envs")] = 64
    n_epochs: Annotated[Count, Doc("passes over each rollout")] = 10
    gamma: Annotated[Fraction, Doc("discount per step, in [0, 1]")] = 0.99
    gae_lambda: Annotated[Fraction, Doc("trace decay of the advantage estimate, in [0, 1]")] = 0.95
    clip_range: Annotated[PositiveScheduled, Doc("how far the probability ratio may leave 1, > 0")] = 0.2
    clip_range_vf: Annotated[Positive | None, Doc("how far a value may move per update, in reward units")] = None
    normalize_advantage: Annotated[bool, Doc("advantages to mean 0, std 1 per minibatch")] = True
    ent_coef: Annotated[Scheduled, Doc("entropy weight, >= 0, in units of the (normalised) advantage per nat")] = 0.0
    vf_coef: Annotated[NonNegative, Doc("weight of the value loss, >= 0")] = 0.5
    max_grad_norm: Annotated[Positive, Doc("2-norm at which a run's gradient is clipped, > 0")] = 0.5
    target_kl: Annotated[Positive | None, Doc("nats; stop an update's epochs when the KL passes 1.5 times this")] = None
    net_arch: Annotated[Widths, Doc("hidden layer widths, of actor and critic each")] = (64, 64)
    activation: Annotated[Activation, Doc("between layers")] = "tanh"
    share_features: Annotated[bool, Doc("one trunk of hidden layers for actor and critic")] = False
    log_std_init: Annotated[Finite, Doc("initial log standard deviation of Box actions, in half-ranges")] = 0.0
    squash_output: Annotated[bool, Doc("tanh-Gaussian instead of clipped Gaussian Box actions")] = False
    normalize_obs: Annotated[bool, Doc("observations by running mean and std")] = False
    normalize_reward: Annotated[bool, Doc("rewards by the running std of the return")] = False


@settings
class A2CConfig:
    """Synchronous advantage actor-critic (Mnih et al. 2016)."""

    BATCHABLE: ClassVar[tuple[str, ...]] = (
        "learning_rate",
        "gamma",
        "gae_lambda",
        "ent_coef",
        "vf_coef",
        "max_grad_norm",
    )
    """Fields in which runs of one batch may differ."""

    learning_rate: Annotated[PositiveScheduled, Doc("RMSprop's step size, > 0")] = 7e-4
    n_steps: Annotated[Count, Doc("env steps per environment between updates")] = 5
    gamma: Annotated[Fraction, Doc("discount per step, in [0, 1]")] = 0.99
    gae_lambda: Annotated[Fraction, Doc("trace decay of the advantage estimate, in [0, 1]")] = 1.0
    normalize_advantage: Annotated[bool, Doc("advantages to mean 0, std 1 per update")] = False
    ent_coef: Annotated[Scheduled, Doc("entropy weight, >= 0, in units of the advantage per nat")] = 0.0
    vf_coef: Annotated[NonNegative, Doc("weight of the value loss, >= 0")] = 0.5
    max_grad_norm: Annotated[Positive, Doc("2-norm at which a run's gradient is clipped, > 0")] = 0.5
    net_arch: Annotated[Widths, Doc("hidden layer widths, of actor and critic each")] = (64, 64)
    activation: Annotated[Activation, Doc("between layers")] = "tanh"
    share_features: Annotated[bool, Doc("one trunk of hidden layers for actor and critic")] = False
    log_std_init: Annotated[Finite, Doc("initial log standard deviation of Box actions, in half-ranges")] = 0.0
    squash_output: Annotated[bool, Doc("tanh-Gaussian instead of clipped Gaussian Box actions")] = False
    normalize_obs: Annotated[bool, Doc("observations by running mean and std")] = False
    normalize_reward: Annotated[bool, Doc("rewards by the running std of the return")] = False


AGENT_CONFIGS = {"ppo": PPOConfig, "a2c": A2CConfig}


def check_batch_size(batch_size: int, n_steps: int, n_envs: int) -> None:
    """Refuse a minibatch larger than a rollout.

    Raises:
        ConfigError: stating both sizes.
    """
    rollout = n_steps * n_envs
    if batch_size > rollout:
        raise ConfigError(
            f"batch_size: expected at most n_steps * n_envs = {n_steps} * {n_envs} = {rollout}, got {batch_size}; "
            f"lower --batch-size or raise --n-steps"
        )
