"""Action-value networks of R runs: several per run, with slowly following targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from entropic_rl.networks import MLP, ParameterRows
from entropic_rl.policies import NetworkConfig
from entropic_rl.streams import Stream

__all__ = ["Critics"]


class Critics:
    """K independent Q-networks per run, stacked as rows: critic k of run r is row ``r K + k``.

    Args:
        network: layer widths and activation.
        n_inputs: numbers that go in: an observation, with or without an action.
        n_outputs: values that come out: one, or one per action.
        seeds: one per run, for the initialisation.
        n_critics: K; the smallest of two values is what curbs overestimation (Fujimoto et al. 2018,
            https://arxiv.org/abs/1802.09477).
        device: where parameters live.
        dtype: their type.

    Attributes:
        params: ``[R K, P]``, trained.
        target: ``[R K, P]``, following.
    """

    def __init__(
        self,
        network: NetworkConfig,
        n_inputs: int,
        n_outputs: int,
        seeds: Sequence[int],
        *,
        n_critics: int = 2,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.n_critics = n_critics
        self._mlp = MLP("critic", (n_inputs, *network.net_arch, n_outputs), network.activation)
        n_rows = len(seeds) * n_critics
        self.params = ParameterRows(self._mlp.shapes(), n_rows, device=device, dtype=dtype)
        self.target = ParameterRows(self._mlp.shapes(), n_rows, device=device, dtype=dtype)
        row_seeds = [seed for run in Stream(seeds, "critics").seeds(n_critics) for seed in run]
        self._mlp.initialise_uniform(self.params, Stream(row_seeds, "initialisation"))
        self.target.values.copy_(self.params.values)

    def __call__(self, inputs: Tensor) -> Tensor:
        """``[R, B, n_inputs] -> [R, K, B, n_outputs]``."""
        return self._evaluate(self.params, inputs)

    def lowest_target(self, inputs: Tensor) -> Tensor:
        """The smallest of the K following values, ``[R, B, n_inputs] -> [R, B, n_outputs]``."""
        return self._evaluate(self.target, inputs).amin(1)

    @torch.no_grad()
    def follow(self, tau: Tensor) -> None:
        """Move the targets the share ``tau [R]`` of the way to the trained parameters."""
        self.target.values.lerp_(self.params.values, self.per_row(tau).unsqueeze(1))

    def per_row(self, per_run: Tensor) -> Tensor:
        """A number per run ``[R]`` as one per critic, ``[R K]``."""
        return per_run.repeat_interleave(self.n_critics)

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        return {"params": self.params.values, "target": self.target.values}

    def _evaluate(self, params: ParameterRows, inputs: Tensor) -> Tensor:
        rows = inputs.repeat_interleave(self.n_critics, 0)
        return self._mlp(params, rows).unflatten(0, (len(inputs), self.n_critics))
