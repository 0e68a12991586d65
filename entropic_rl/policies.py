"""Actor-critic networks of R runs with their policy head and observation normalisation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from entropic_rl.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiDiscrete,
    TanhGaussian,
)
from entropic_rl.families import MAX_LOG_STD, MIN_LOG_STD
from entropic_rl.features import make_features
from entropic_rl.networks import MLP, ParameterRows, copy_exactly
from entropic_rl.normalization import ObservationNormalizer
from entropic_rl.sequences import Recurrent, Sequences, make_memory
from entropic_rl.spaces import ActionSpec, FeatureKind, ObservationSpec
from entropic_rl.streams import Stream

__all__ = ["ActorCritic", "NetworkConfig", "draw_noise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The shape of an actor-critic.

    Attributes:
        net_arch: hidden layer widths, of the actor and of the critic each.
        activation: between layers, a key of ``networks.ACTIVATIONS``.
        share_features: one trunk of hidden layers for both, with two linear heads.
        log_std_init: initial log standard deviation of Gaussian heads.
        normalize_obs: whether observations are normalised by running statistics.
        critic: whether there is a state-value network; off-policy agents have critics of their own.
        state_dependent_std: Gaussian heads compute their log standard deviations; else one is learned for all states.
        initialisation: ``orthogonal``, or ``uniform`` as ``torch.nn.Linear`` has it.
        features: what is computed of observations before the hidden layers, for actor and critic together.
        features_dim: number of features; None for a default that depends on the kind.
        recurrent: memory between features and hidden layers.
        recurrent_size: numbers that the memory gives.
        tempered: whether what the actor gives are values of actions, whose softmax at a temperature is the policy.
    """

    net_arch: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    share_features: bool = False
    log_std_init: float = 0.0
    normalize_obs: bool = False
    critic: bool = True
    state_dependent_std: bool = False
    initialisation: str = "orthogonal"
    features: FeatureKind = "auto"
    features_dim: int | None = None
    recurrent: Recurrent = "none"
    recurrent_size: int = 64
    tempered: bool = False

    @classmethod
    def of(cls, config: Any, **given: Any) -> NetworkConfig:
        """The part of an agent's settings that shapes its networks, and what the agent itself has ``given``."""
        names = [field.name for field in fields(cls) if hasattr(config, field.name)]
        return cls(**{name: getattr(config, name) for name in names} | given)


class ActorCritic:
    """Policy and value networks of R runs; every method works on ``[R, B, D]`` *normalised* observations.

    With memory, B samples are sequences (:class:`entropic_rl.sequences.Sequences`) or single steps that follow a state.

    Args:
        network: layer widths and the like.
        observation: what an agent sees.
        action: the head.
        seeds: one per run, for the initialisation.
        device: where parameters live.
        dtype: their type.

    Attributes:
        params: all parameters; row r is run r.
        normalizer: running observation statistics; None if observations are used raw.
        temperature: ``[R]``, what values of actions are divided by; None if the actor gives logits as they are.

    Raises:
        ConfigError: the features do not fit the observations.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation: ObservationSpec,
        action: ActionSpec,
        seeds: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.network, self.observation, self.action = network, observation, action
        hidden, activation = network.net_arch, network.activation
        n_outputs = action.n_outputs * (2 if network.state_dependent_std else 1)
        self._features = make_features(network.features, observation, network.features_dim)
        n_inputs = observation.size if self._features is None else self._features.n_outputs
        self._memory = make_memory(network.recurrent, n_inputs, network.recurrent_size)
        if self._memory is not None:
            n_inputs = self._memory.n_outputs
        if network.share_features:
            self._trunk = MLP("trunk", (n_inputs, *hidden), activation, activate_last=True)
            width = hidden[-1] if hidden else n_inputs
            self._actor = MLP("actor", (width, n_outputs), activation)
            self._critic = MLP("critic", (width, 1), activation)
        else:
            self._trunk = MLP("trunk", (n_inputs,))
            self._actor = MLP("actor", (n_inputs, *hidden, n_outputs), activation)
            self._critic = MLP("critic", (n_inputs, *hidden, 1), activation)
        shapes = self._trunk.shapes() | self._actor.shapes() | (self._critic.shapes() if network.critic else {})
        for part in (self._features, self._memory):
            shapes |= {} if part is None else part.shapes()
        self._has_log_std = action.is_continuous and not network.state_dependent_std
        if self._has_log_std:
            shapes["log_std"] = (1, action.n_outputs)
        self.params = ParameterRows(shapes, len(seeds), device=device, dtype=dtype)
        self.normalizer = None
        if network.normalize_obs:
            self.normalizer = ObservationNormalizer(len(seeds), observation.size, observation.frames, device=device)
        self.temperature = self.params.values.new_ones(len(seeds)) if network.tempered else None
        self._initialise(Stream(seeds, "initialisation"))

    @property
    def is_recurrent(self) -> bool:
        """Whether what it does depends on what it saw before."""
        return self._memory is not None

    @property
    def is_dense(self) -> bool:
        """Whether it is made of :meth:`parts` alone."""
        return self._features is None and self._memory is None

    def parts(self) -> tuple[MLP, MLP, MLP]:
        """Trunk, which may have no layer, and actor and critic on top of it."""
        return self._trunk, self._actor, self._critic

    def initial_state(self, n_envs: int) -> Tensor | None:
        """The empty memory of ``n_envs`` environments of each run, ``[R, E, n_state]``; None without memory."""
        values = self.params.values
        return None if self._memory is None else values.new_zeros(len(values), n_envs, self._memory.n_state)

    def normalize(self, obs: Tensor, *, update: bool = False, valid: Tensor | None = None) -> Tensor:
        """Raw observations to the networks' input, ``[R, N, D]``; ``update`` takes the ``valid`` ones into account."""
        return obs if self.normalizer is None else self.normalizer(obs, update=update, valid=valid)

    def distribution(self, obs: Tensor, mask: Tensor | None = None) -> Distribution:
        """Policy without memory at ``obs [R, B, D]``, over the actions that ``mask [R, B, A]`` allows."""
        return self.head(self.outputs(obs), mask)

    def outputs(self, obs: Tensor) -> Tensor:
        """What the actor makes of ``obs [R, B, D]`` without memory, ``[R, B, n_outputs]``."""
        return self._actor(self.params, self._trunk(self.params, self._seen(obs)))

    def head(self, outputs: Tensor, mask: Tensor | None = None) -> Distribution:
        """The policy that ``outputs [R, B, n_outputs]`` stand for, over the actions that ``mask [R, B, A]`` allows."""
        if self.temperature is not None:
            outputs = outputs / self.temperature.view(-1, 1, 1)
        kind = self.action.kind
        if kind == "categorical":
            return Categorical(outputs, mask)
        if kind == "multi-discrete":
            return MultiDiscrete(outputs, self.action.nvec, mask)
        if kind == "bernoulli":
            return Bernoulli(outputs)
        if self._has_log_std:
            mean, log_std = outputs, self.log_std.expand_as(outputs)
        else:
            mean, log_std = outputs.chunk(2, -1)
            log_std = log_std.clamp(MIN_LOG_STD, MAX_LOG_STD)
        return Gaussian(mean, log_std) if kind == "gaussian" else TanhGaussian(mean, log_std)

    def step(
        self, obs: Tensor, mask: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Distribution, Tensor | None]:
        """Policy at ``obs [R, B, D]`` after a ``state [R, B, n_state]`` of the memory, and the state after it."""
        if self._memory is None or state is None:
            return self.distribution(obs, mask), None
        features, state = self._memory.step(self.params, self._seen(obs), state)
        return self.head(self._actor(self.params, self._trunk(self.params, features)), mask), state

    def value(self, obs: Tensor, state: Tensor | None = None) -> Tensor:
        """State values ``[R, B]`` at ``obs [R, B, D]``, after a ``state [R, B, n_state]`` of the memory."""
        features = self._seen(obs)
        if self._memory is not None and state is not None:
            features, _ = self._memory.step(self.params, features, state)
        return self._critic(self.params, self._trunk(self.params, features)).squeeze(-1)

    def evaluate(
        self, obs: Tensor, mask: Tensor | None = None, sequences: Sequences | None = None
    ) -> tuple[Distribution, Tensor]:
        """Policy and values at once, what they share computed once; with memory, of samples in ``sequences``."""
        distribution, values, _ = self.recall(obs, mask, sequences)
        return distribution, values

    def recall(
        self, obs: Tensor, mask: Tensor | None = None, sequences: Sequences | None = None
    ) -> tuple[Distribution, Tensor, Tensor | None]:
        """As :meth:`evaluate`, with the states of the memory after each step, ``[R, L, S, n_state]``."""
        features, states = self._seen(obs), None
        if self._memory is not None and sequences is not None:
            by_step, starts = sequences.by_step(features), sequences.by_step(sequences.starts)
            outputs, states = self._memory(self.params, by_step, sequences.state, starts)
            features = self.params.saw("memory.state", outputs.flatten(1, 2))
        features = self._trunk(self.params, features)
        values = self._critic(self.params, features).squeeze(-1)
        return self.head(self._actor(self.params, features), mask), values, states

    @property
    def log_std(self) -> Tensor:
        """Log standard deviations ``[R, 1, D]``, within [-20, 2]: an entropy bonus alone has no ceiling."""
        return self.params["log_std"].clamp(MIN_LOG_STD, MAX_LOG_STD)

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters, statistics and temperature, ``[R, ...]`` each."""
        state = {f"params.{name}": tensor for name, tensor in self.params.named().items()}
        if self.temperature is not None:
            state["temperature"] = self.temperature
        if self.normalizer is not None:
            statistics = self.normalizer.statistics.state_dict()
            state |= {f"obs_statistics.{name}": tensor for name, tensor in statistics.items()}
        return state

    def take(self, rows: Tensor) -> ActorCritic:
        """Copies of ``rows [T]`` of the runs, as often as they are named, a policy of T runs."""
        twin = copy.copy(self)
        twin.params = self.params.take(rows, self.params.values.dtype)
        twin.normalizer = None if self.normalizer is None else self.normalizer.take(rows)
        twin.temperature = None if self.temperature is None else self.temperature[rows]
        return twin

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ValueError: names or shapes are not those of this network.
        """
        copy_exactly(self.state_dict(), state)

    def _seen(self, obs: Tensor) -> Tensor:
        return obs if self._features is None else self._features(self.params, obs)

    def _initialise(self, stream: Stream) -> None:
        """Orthogonal, gains sqrt 2 (hidden), .01 (policy head), 1 (value head); or uniform.

        Source: Andrychowicz et al. (2021), section 3.2, https://arxiv.org/abs/2006.05990.
        """
        parts = [(self._trunk, 2**0.5), (self._actor, 0.01), *([(self._critic, 1.0)] if self.network.critic else [])]
        for part, last_gain in parts:
            if self.network.initialisation == "orthogonal":
                part.initialise(self.params, stream, gain=2**0.5, last_gain=last_gain)
            else:
                part.initialise_uniform(self.params, stream)
        for extra in (self._features, self._memory):
            if extra is not None:
                extra.initialise(self.params, stream)
        if self._has_log_std:
            with torch.no_grad():
                self.params["log_std"].fill_(self.network.log_std_init)


def draw_noise(action: ActionSpec, stream: Stream, *shape: int) -> Tensor:
    """Standard noise for ``shape`` actions of each run, ``[R, *shape, n_outputs]``, of the head's kind."""
    draw: dict[str, Any] = {
        "categorical": stream.gumbel,
        "multi-discrete": stream.gumbel,
        "bernoulli": stream.uniform,
        "gaussian": stream.normal,
        "tanh-gaussian": stream.normal,
    }
    return draw[action.kind](*shape, action.n_outputs)
