"""Running statistics per run, and the observation and reward normalisation built on them, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from entropic_rl.networks import copy_exactly

__all__ = ["ObservationNormalizer", "RewardNormalizer", "RunningMeanVar"]


class RunningMeanVar:
    """Mean and variance per run of everything seen, ``mean, var [R, D]``, ``count [R]``.

    Batches are merged exactly. Source: Chan, Golub & LeVeque (1979), eq. 2.1.
    """

    def __init__(self, n_runs: int, size: int, *, device: torch.device | str = "cpu") -> None:
        self.mean = torch.zeros(n_runs, size, dtype=torch.float64, device=device)
        self.var = torch.ones_like(self.mean)
        self.count = torch.full((n_runs,), 1e-4, dtype=torch.float64, device=device)

    def update(self, x: Tensor, valid: Tensor | None = None) -> None:
        """Take in ``x [R, N, D]``; rows where ``valid [R, N]`` is False do not count."""
        x = x.to(torch.float64)
        if valid is not None:
            x = x.masked_fill(~valid.unsqueeze(-1), 0.0)  # whatever stands there, NaN included
        weight = torch.ones_like(x[..., 0]) if valid is None else valid.to(torch.float64)
        n = weight.sum(1)
        weight = weight.unsqueeze(-1)
        mean = (x * weight).sum(1) / n.clamp(min=1.0).unsqueeze(-1)
        spread = ((x - mean.unsqueeze(1)).square() * weight).sum(1)
        total = self.count + n
        delta = mean - self.mean
        share = (n / total).unsqueeze(-1)
        self.var = (
            self.var * self.count.unsqueeze(-1) + spread + delta.square() * self.count.unsqueeze(-1) * share
        ) / total.unsqueeze(-1)
        self.mean = self.mean + delta * share
        self.count = total

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        return {"mean": self.mean, "var": self.var, "count": self.count}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        copy_exactly(self.state_dict(), state)


class ObservationNormalizer:
    """``clip((obs - mean) / std, -10, 10)`` per run; the statistics freeze when updates stop (evaluation).

    Args:
        n_runs: R.
        size: D, of ``frames`` observations side by side, which have their statistics in common.
        frames: of these the last is new, and is what the statistics take in.
        device: where they are kept.
    """

    def __init__(self, n_runs: int, size: int, frames: int = 1, *, device: torch.device | str = "cpu") -> None:
        self._frames = frames
        self.statistics = RunningMeanVar(n_runs, size // frames, device=device)

    def __call__(self, obs: Tensor, *, update: bool = False, valid: Tensor | None = None) -> Tensor:
        """``[R, N, D] -> [R, N, D]``; with ``update`` the statistics take the ``valid`` observations in first."""
        if update:
            self.statistics.update(obs[..., -self.statistics.mean.shape[1] :], valid)
        mean, var = (x.repeat(1, self._frames).unsqueeze(1) for x in (self.statistics.mean, self.statistics.var))
        return ((obs - mean) / (var + 1e-8).sqrt()).clamp(-10.0, 10.0).to(obs.dtype)

    def take(self, rows: Tensor) -> ObservationNormalizer:
        """Copies of ``rows [T]`` of the runs, as often as they are named."""
        own = self.statistics
        twin = ObservationNormalizer(len(rows), own.mean.shape[1] * self._frames, self._frames, device=own.mean.device)
        twin.statistics.load_state_dict({name: x[rows] for name, x in own.state_dict().items()})
        return twin


class RewardNormalizer:
    """Rewards divided by the running standard deviation of the discounted return, clipped to [-10, 10], per run.

    The reward's mean is left alone: moving it would change which episodes are worth ending. As Stable-Baselines3's
    VecNormalize.
    """

    def __init__(self, n_runs: int, n_envs: int, gamma: Tensor) -> None:
        self._gamma = gamma.to(torch.float64).reshape(-1, 1)
        self.statistics = RunningMeanVar(n_runs, 1, device=gamma.device)
        self.running_return = torch.zeros(n_runs, n_envs, dtype=torch.float64, device=gamma.device)

    @property
    def scale(self) -> Tensor:
        """What rewards are divided by, ``[R]``."""
        return (self.statistics.var.squeeze(1) + 1e-8).sqrt()

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor needed to continue exactly."""
        return {"running_return": self.running_return, **self.statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        copy_exactly(self.state_dict(), state)

    def __call__(self, reward: Tensor, ended: Tensor, valid: Tensor | None = None) -> Tensor:
        """Take in and normalise ``reward [R, E]``; ``ended [R, E]`` starts those returns anew."""
        if valid is not None:
            reward = reward.masked_fill(~valid, 0.0)
        self.running_return = self.running_return * self._gamma + reward
        self.statistics.update(self.running_return.unsqueeze(-1), valid)
        self.running_return = self.running_return.masked_fill(ended, 0.0)
        scaled = reward / self.scale.unsqueeze(1)
        return scaled.clamp(-10.0, 10.0).to(reward.dtype)
