"""Action-value networks of R runs: several per run, with slowly following targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from entropic_rl.features import make_features
from entropic_rl.networks import MLP, ParameterRows
from entropic_rl.policies import NetworkConfig
from entropic_rl.spaces import ObservationSpec
from entropic_rl.streams import Stream

__all__ = ["Critics"]


class Critics:
    """K independent Q-networks per run, stacked as rows: critic k of run r is row ``r K + k``.

    Args:
        network: layer widths, activation and features.
        observation: what goes in.
        n_action: numbers of an action that goes in as well; 0 if values come out for all actions.
        n_outputs: values that come out: one, or one per action.
        seeds: one per run, for the initialisation.
        n_critics: K; the smallest of two values is what curbs overestimation (Fujimoto et al. 2018,
            https://arxiv.org/abs/1802.09477).
        device: where parameters live.
        dtype: their type.

    Attributes:
        mlp: the layers of each, after the features.
        params: ``[R K, P]``, trained.
        target: ``[R K, P]``, following.
    """

    def __init__(
        self,
        network: NetworkConfig,
        observation: ObservationSpec,
        n_action: int,
        n_outputs: int,
        seeds: Sequence[int],
        *,
        n_critics: int = 2,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n_critics = n_critics
        self._obs_size = observation.size
        self._features = make_features(network.features, observation, network.features_dim)
        n_features = observation.size if self._features is None else self._features.n_outputs
        self.mlp = MLP("critic", (n_features + n_action, *network.net_arch, n_outputs), network.activation)
        shapes = self.mlp.shapes() | ({} if self._features is None else self._features.shapes())
        n_rows = len(seeds) * n_critics
        self.params = ParameterRows(shapes, n_rows, device=device, dtype=dtype)
        self.target = ParameterRows(shapes, n_rows, device=device, dtype=dtype)
        stream = Stream([seed for run in Stream(seeds, "critics").seeds(n_critics) for seed in run], "initialisation")
        self.mlp.initialise_uniform(self.params, stream)
        if self._features is not None:
            self._features.initialise(self.params, stream)
        self.target.values.copy_(self.params.values)

    def __call__(self, obs: Tensor, action: Tensor | None = None) -> Tensor:
        """``obs [R, B, D]``, ``action [R, B, n_action]`` -> ``[R, K, B, n_outputs]``."""
        return self._evaluate(self.params, obs, action)

    def lowest_target(self, obs: Tensor, action: Tensor | None = None) -> Tensor:
        """The smallest of the K following values, ``[R, B, n_outputs]``."""
        return self._evaluate(self.target, obs, action).amin(1)

    @torch.no_grad()
    def follow(self, tau: Tensor) -> None:
        """Move the targets the share ``tau [R]`` of the way to the trained parameters."""
        self.target.values.lerp_(self.params.values, self.per_row(tau).unsqueeze(1))

    def per_row(self, per_run: Tensor) -> Tensor:
        """A number per run ``[R]`` as one per critic, ``[R K]``."""
        return per_run.unsqueeze(1).expand(-1, self.n_critics).flatten()

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        return {"params": self.params.values, "target": self.target.values}

    def _evaluate(self, params: ParameterRows, obs: Tensor, action: Tensor | None) -> Tensor:
        inputs = obs if action is None else torch.cat([obs, action], -1)
        rows = inputs.unsqueeze(1).expand(-1, self.n_critics, -1, -1).flatten(0, 1)
        if self._features is not None:
            seen, done = rows.tensor_split([self._obs_size], -1)
            rows = torch.cat([self._features(params, seen), done], -1)
        return self.mlp(params, rows).unflatten(0, (len(obs), self.n_critics))
