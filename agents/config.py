"""Hyper-parameters of the agents, under Stable-Baselines3's names and with its defaults; free of torch.

Kept beside the agents rather than inside their files because the command line shows and checks them before torch,
which takes seconds to import, is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Doc

from entropic_rl.config import (
    Coefficient,
    Count,
    Finite,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveScheduled,
    settings,
)
from entropic_rl.errors import ConfigError, EnvError
from entropic_rl.families import EntropyFamily
from entropic_rl.spaces import FeatureKind

if TYPE_CHECKING:
    from gymnasium import spaces

    from entropic_rl.spaces import ActionSpec

if __name__ != "entropic_rl.agents.config":
    raise ImportError(f"import entropic_rl.agents.config, not {__name__}")

__all__ = ["AGENT_CONFIGS", "A2CConfig", "DiscreteSACConfig", "PPOConfig", "SACConfig", "SoftQConfig", "action_head"]


def _gradient_steps(n: int) -> int:
    if n == -1 or n >= 1:
        return n
    raise ValueError(f"expected at least 1, or -1 for one per env step, got {n}")


def _shannon(text: str) -> str:
    family = EntropyFamily.parse(text)
    if family.is_shannon:
        return str(family)
    raise ValueError(f"expected shannon, whose optimum is the softmax of the values, got {family}; use discrete-sac")


Activation = Literal["tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid"]
Family = Annotated[
    str,
    AfterValidator(lambda text: str(EntropyFamily.parse(text))),
    Doc(
        "what the coefficient weighs: shannon, tsallis:Q, renyi:ALPHA (orders > 0), kl-to-uniform, or "
        "kl-to-prior:P1,P2,... (weights of the actions; for Box actions standard deviations around 0, in half-ranges)"
    ),
]
Place = Annotated[
    Literal["loss", "reward", "both"],
    Doc(
        "loss: the policy is rewarded for its entropy where it acts; reward: values hold the entropy to come as well "
        "(maximum-entropy RL); both: as reward, and once more in the loss"
    ),
]
Unit = Annotated[
    Literal["auto", "advantage", "reward"],
    Doc(
        "what ent_coef is in: advantage, normalised or not, or reward, whatever rewards and advantages are divided by; "
        "auto: reward for entropy in the reward, else advantage"
    ),
]
_ENT_COEF = (
    "entropy weight, >= 0, per nat (unit: --ent-coef-unit); or target:NATS[:START], steered to keep that entropy "
    "(a weight >= 0 cannot lower it), auto[:START] for "
)
_ENT_COEF_IN_REWARD = (
    "entropy weight, >= 0, in reward units per nat; or target:NATS[:START], steered to keep that entropy, "
    "auto[:START] for "
)
_HALF = "half the highest entropy"
_CRITIC_ENT_COEF = "entropy weight in the value targets, >= 0, in reward units per nat; none = that of the actor"
GradientSteps = Annotated[int, AfterValidator(_gradient_steps)]
_ON_POLICY_TARGET = "half the highest entropy (Box actions: -1 nat per dimension)"
Features = Annotated[
    FeatureKind,
    Doc(
        "what is computed of observations before the hidden layers: flat (nothing), cnn (images), attention "
        "(vectors, with --frame-stack); auto: cnn for images, else flat"
    ),
]
FeaturesDim = Annotated[
    Count | None,
    Doc("features of cnn or attention; none = 512 for images, 128 for those below 36 pixels, 32 for attention"),
]
Memory = Annotated[
    Literal["none", "gru", "lstm"],
    Doc("memory of the policy and the critic: a recurrent layer between features and hidden layers"),
]
MemorySize = Annotated[Count, Doc("outputs of the recurrent layer")]
SequenceLength = Annotated[Count, Doc("env steps that gradients flow back through a recurrent layer")]
Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=16)]


@settings
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017)."""

    NUMBERS: ClassVar[tuple[str, ...]] = (
        "learning_rate", "gamma", "gae_lambda", "clip_range", "vf_coef", "max_grad_norm",
    )  # fmt: skip
    BATCHABLE: ClassVar[tuple[str, ...]] = (*NUMBERS, "ent_coef", "ent_coef_unit", "entropy_in")
    """Fields in which runs of one batch may differ; the first of them are numbers and schedules."""
    HEADS: ClassVar[tuple[str, ...]] = ("categorical", "multi-discrete", "bernoulli", "gaussian", "tanh-gaussian")
    """Kinds of policy heads that it has a loss for."""

    learning_rate: Annotated[PositiveScheduled, Doc("Adam's step size, > 0")] = 3e-4
    n_steps: Annotated[Count, Doc("env steps per environment between updates")] = 2048
    batch_size: Annotated[Count, Doc("transitions per minibatch, at most n_steps * n_envs")] = 64
    n_epochs: Annotated[Count, Doc("passes over each rollout")] = 10
    gamma: Annotated[Fraction, Doc("discount per step, in [0, 1]")] = 0.99
    gae_lambda: Annotated[Fraction, Doc("trace decay of the advantage estimate, in [0, 1]")] = 0.95
    clip_range: Annotated[PositiveScheduled, Doc("how far the probability ratio may leave 1, > 0")] = 0.2
    clip_range_vf: Annotated[Positive | None, Doc("how far a value may move per update, in reward units")] = None
    normalize_advantage: Annotated[bool, Doc("advantages to mean 0, std 1 per minibatch")] = True
    ent_coef: Annotated[Coefficient, Doc(_ENT_COEF + _ON_POLICY_TARGET)] = 0.0
    ent_coef_unit: Unit = "auto"
    entropy: Family = "shannon"
    entropy_in: Place = "loss"
    vf_coef: Annotated[NonNegative, Doc("weight of the value loss, >= 0")] = 0.5
    max_grad_norm: Annotated[Positive, Doc("2-norm at which a run's gradient is clipped, > 0")] = 0.5
    target_kl: Annotated[Positive | None, Doc("nats; stop an update's epochs when the KL passes 1.5 times this")] = None
    net_arch: Annotated[Widths, Doc("hidden layer widths, of actor and critic each")] = (64, 64)
    activation: Annotated[Activation, Doc("between layers")] = "tanh"
    share_features: Annotated[bool, Doc("one trunk of hidden layers for actor and critic")] = False
    log_std_init: Annotated[Finite, Doc("initial log standard deviation of Box actions, in half-ranges")] = 0.0
    squash_output: Annotated[bool, Doc("tanh-Gaussian instead of clipped Gaussian Box actions")] = False
    features: Features = "auto"
    features_dim: FeaturesDim = None
    recurrent: Memory = "none"
    recurrent_size: MemorySize = 64
    sequence_length: SequenceLength = 16
    normalize_obs: Annotated[bool, Doc("observations by running mean and std")] = False
    normalize_reward: Annotated[bool, Doc("rewards by the running std of the return")] = False


@settings
class A2CConfig:
    """Synchronous advantage actor-critic (Mnih et al. 2016)."""

    NUMBERS: ClassVar[tuple[str, ...]] = ("learning_rate", "gamma", "gae_lambda", "vf_coef", "max_grad_norm")
    BATCHABLE: ClassVar[tuple[str, ...]] = (*NUMBERS, "ent_coef", "ent_coef_unit", "entropy_in")
    """Fields in which runs of one batch may differ; the first of them are numbers and schedules."""
    HEADS: ClassVar[tuple[str, ...]] = ("categorical", "multi-discrete", "bernoulli", "gaussian", "tanh-gaussian")
    """Kinds of policy heads that it has a loss for."""

    learning_rate: Annotated[PositiveScheduled, Doc("RMSprop's step size, > 0")] = 7e-4
    n_steps: Annotated[Count, Doc("env steps per environment between updates")] = 5
    gamma: Annotated[Fraction, Doc("discount per step, in [0, 1]")] = 0.99
    gae_lambda: Annotated[Fraction, Doc("trace decay of the advantage estimate, in [0, 1]")] = 1.0
    normalize_advantage: Annotated[bool, Doc("advantages to mean 0, std 1 per update")] = False
    ent_coef: Annotated[Coefficient, Doc(_ENT_COEF + _ON_POLICY_TARGET)] = 0.0
    ent_coef_unit: Unit = "auto"
    entropy: Family = "shannon"
    entropy_in: Place = "loss"
    vf_coef: Annotated[NonNegative, Doc("weight of the value loss, >= 0")] = 0.5
    max_grad_norm: Annotated[Positive, Doc("2-norm at which a run's gradient is clipped, > 0")] = 0.5
    net_arch: Annotated[Widths, Doc("hidden layer widths, of actor and critic each")] = (64, 64)
    activation: Annotated[Activation, Doc("between layers")] = "tanh"
    share_features: Annotated[bool, Doc("one trunk of hidden layers for actor and critic")] = False
    log_std_init: Annotated[Finite, Doc("initial log standard deviation of Box actions, in half-ranges")] = 0.0
    squash_output: Annotated[bool, Doc("tanh-Gaussian instead of clipped Gaussian Box actions")] = False
    features: Features = "auto"
    features_dim: FeaturesDim = None
    recurrent: Memory = "none"
    recurrent_size: MemorySize = 64
    sequence_length: SequenceLength = 16
    normalize_obs: Annotated[bool, Doc("observations by running mean and std")] = False
    normalize_reward: Annotated[bool, Doc("rewards by the running std of the return")] = False


@settings
class SACConfig:
    """Soft actor-critic for Box actions (Haarnoja et al. 2018)."""

    NUMBERS: ClassVar[tuple[str, ...]] = ("learning_rate", "gamma", "tau")
    BATCHABLE: ClassVar[tuple[str, ...]] = (*NUMBERS, "ent_coef", "entropy_in")
    """Fields in which runs of one batch may differ; the first of them are numbers and schedules."""
    HEADS: ClassVar[tuple[str, ...]] = ("tanh-gaussian",)
    """Kinds of policy heads that it has a loss for."""
    squash_output: ClassVar[bool] = True
    ent_coef_unit: ClassVar[str] = "reward"

    learning_rate: Annotated[PositiveScheduled, Doc("Adam's step size for actor, critics and coefficient, > 0")] = 3e-4
    buffer_size: Annotated[Count, Doc("transitions remembered")] = 1_000_000
    learning_starts: Annotated[Natural, Doc("env steps of uniform actions before learning begins")] = 100
    batch_size: Annotated[Count, Doc("transitions per gradient step")] = 256
    tau: Annotated[Fraction, Doc("share of the way that target critics go per gradient step, in [0, 1]")] = 0.005
    gamma: Annotated[Fraction, Doc("discount per step, in [0, 1]")] = 0.99
    warmup_hold: Annotated[Count, Doc("env steps for which each uniform action is held before learning begins")] = 1
    train_freq: Annotated[Count, Doc("env steps per environment between updates")] = 1
    gradient_steps: Annotated[GradientSteps, Doc("gradient steps per update; -1 = one per env step")] = 1
    n_steps: Annotated[Count, Doc("rewards added up before the bootstrap value")] = 1
    ent_coef: Annotated[Coefficient, Doc(_ENT_COEF_IN_REWARD + "-1 nat per action dimension, in half-ranges")] = "auto"
    critic_ent_coef: Annotated[NonNegative | None, Doc(_CRITIC_ENT_COEF)] = None
    entropy: Family = "shannon"
    entropy_in: Place = "reward"
    entropy_estimate: Annotated[
        Literal["sample", "exact"],
        Doc("of Shannon's entropy: -log pi of one action, or quadrature; other families are always exact"),
    ] = "sample"
    net_arch: Annotated[Widths, Doc("hidden layer widths, of actor and critics each")] = (256, 256)
    activation: Annotated[Activation, Doc("between layers")] = "relu"
    features: Features = "auto"
    features_dim: FeaturesDim = None
    normalize_obs: Annotated[bool, Doc("observations by running mean and std")] = False


@settings
class DiscreteSACConfig:
    """Soft actor-critic for Discrete actions (Christodoulou 2019)."""

    NUMBERS: ClassVar[tuple[str, ...]] = ("learning_rate", "gamma", "tau")
    BATCHABLE: ClassVar[tuple[str, ...]] = (*NUMBERS, "ent_coef", "entropy_in")
    """Fields in which runs of one batch may differ; the first of them are numbers and schedules."""
    HEADS: ClassVar[tuple[str, ...]] = ("categorical",)
    """Kinds of policy heads that it has a loss for."""
    squash_output: ClassVar[bool] = False
    ent_coef_unit: ClassVar[str] = "reward"

    learning_rate: Annotated[PositiveScheduled, Doc("Adam's step size for actor, critics and coefficient, > 0")] = 3e-4
    buffer_size: Annotated[Count, Doc("transitions remembered")] = 1_000_000
    learning_starts: Annotated[Natural, Doc("env steps of uniform actions before learning begins")] = 1000
    batch_size: Annotated[Count, Doc("transitions per gradient step")] = 64
    tau: Annotated[Fraction, Doc("share of the way that target critics go per gradient step, in [0, 1]")] = 0.005
    gamma: Annotated[Fraction, Doc("discount per step, in [0, 1]")] = 0.99
    warmup_hold: Annotated[Count, Doc("env steps for which each uniform action is held before learning begins")] = 1
    train_freq: Annotated[Count, Doc("env steps per environment between updates")] = 1
    gradient_steps: Annotated[GradientSteps, Doc("gradient steps per update; -1 = one per env step")] = 1
    n_steps: Annotated[Count, Doc("rewards added up before the bootstrap value")] = 1
    ent_coef: Annotated[Coefficient, Doc(_ENT_COEF_IN_REWARD + _HALF)] = "auto"
    critic_ent_coef: Annotated[NonNegative | None, Doc(_CRITIC_ENT_COEF)] = None
    entropy: Family = "shannon"
    entropy_in: Place = "reward"
    net_arch: Annotated[Widths, Doc("hidden layer widths, of actor and critics each")] = (64, 64)
    activation: Annotated[Activation, Doc("between layers")] = "relu"
    features: Features = "auto"
    features_dim: FeaturesDim = None
    normalize_obs: Annotated[bool, Doc("observations by running mean and std")] = False


@settings
class SoftQConfig:
    """Soft Q-learning for Discrete actions (Haarnoja et al. 2017); Munchausen DQN (Vieillard et al. 2020)."""

    NUMBERS: ClassVar[tuple[str, ...]] = ("learning_rate", "gamma", "tau", "munchausen")
    BATCHABLE: ClassVar[tuple[str, ...]] = (*NUMBERS, "ent_coef", "entropy_in")
    """Fields in which runs of one batch may differ; the first of them are numbers and schedules."""
    HEADS: ClassVar[tuple[str, ...]] = ("categorical",)
    """Kinds of policy heads that it has a loss for."""
    squash_output: ClassVar[bool] = False
    ent_coef_unit: ClassVar[str] = "reward"

    learning_rate: Annotated[PositiveScheduled, Doc("Adam's step size for values and coefficient, > 0")] = 3e-4
    buffer_size: Annotated[Count, Doc("transitions remembered")] = 1_000_000
    learning_starts: Annotated[Natural, Doc("env steps of uniform actions before learning begins")] = 1000
    batch_size: Annotated[Count, Doc("transitions per gradient step")] = 64
    tau: Annotated[Fraction, Doc("share of the way that target values go per gradient step, in [0, 1]")] = 0.005
    gamma: Annotated[Fraction, Doc("discount per step, in [0, 1]")] = 0.99
    warmup_hold: Annotated[Count, Doc("env steps for which each uniform action is held before learning begins")] = 1
    train_freq: Annotated[Count, Doc("env steps per environment between updates")] = 1
    gradient_steps: Annotated[GradientSteps, Doc("gradient steps per update; -1 = one per env step")] = 1
    n_steps: Annotated[Count, Doc("rewards added up before the bootstrap value")] = 1
    ent_coef: Annotated[Coefficient, Doc("temperature of the policy: " + _ENT_COEF_IN_REWARD + _HALF)] = "auto"
    munchausen: Annotated[
        float,
        Field(ge=0, lt=1),
        Doc("share of ent_coef * log pi(a|s) added to rewards, in [0, 1); Munchausen DQN: 0.9"),
    ] = 0.0
    munchausen_clip: Annotated[Positive, Doc("ent_coef * log pi(a|s) counts no less than minus this, > 0")] = 1.0
    entropy: Annotated[str, AfterValidator(_shannon), Doc("what the coefficient weighs: shannon alone")] = "shannon"
    entropy_in: Annotated[
        Literal["loss", "reward"],
        Doc(
            "reward: values hold the entropy to come (soft Q-learning); loss: plain ones of the policy (expected SARSA)"
        ),
    ] = "reward"
    net_arch: Annotated[Widths, Doc("hidden layer widths")] = (64, 64)
    activation: Annotated[Activation, Doc("between layers")] = "relu"
    features: Features = "auto"
    features_dim: FeaturesDim = None
    normalize_obs: Annotated[bool, Doc("observations by running mean and std")] = False

    @model_validator(mode="after")
    def _munchausen_needs_entropy_in_the_reward(self) -> Self:
        if self.munchausen > 0.0 and self.entropy_in == "loss":
            raise ValueError(
                f"munchausen: takes back entropy from the reward, so it has to be 0 with --entropy-in loss, "
                f"got {self.munchausen:g}"
            )
        return self


AGENT_CONFIGS: dict[str, Any] = {
    "ppo": PPOConfig,
    "a2c": A2CConfig,
    "sac": SACConfig,
    "discrete-sac": DiscreteSACConfig,
    "soft-q": SoftQConfig,
}


def action_head(config: Any, space: spaces.Space[Any]) -> ActionSpec:
    """The policy head that an agent with these settings has for an action space.

    Raises:
        EnvError: it has none; saying which agents have.
    """
    from entropic_rl.spaces import action_spec

    plain = action_spec(space)
    is_bounded = plain.kind == "gaussian" and all(plain.bounded)
    kinds = {plain.kind, "tanh-gaussian"} if is_bounded else {plain.kind}
    if kinds & set(getattr(config, "HEADS", kinds)):
        return action_spec(space, squash_output=getattr(config, "squash_output", False))
    able = [name for name, cls in AGENT_CONFIGS.items() if kinds & set(cls.HEADS)]
    needed = " or ".join(_SPACES_OF_HEADS[kind] for kind in config.HEADS)
    raise EnvError(f"this agent needs {needed} actions, got {space}; use {' or '.join(able)}")


_SPACES_OF_HEADS = {"categorical": "Discrete", "tanh-gaussian": "bounded Box"}


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
