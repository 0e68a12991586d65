"""The names that Stable-Baselines3's policies have for the layers of ours, and the units of their actions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["ACTOR", "CRITIC", "SAC_ACTOR", "layers", "rescale"]

ACTOR, CRITIC, SAC_ACTOR = "mlp_extractor.policy_net", "mlp_extractor.value_net", "actor.latent_pi"
"""Where the hidden layers are."""


def layers(ours: str, hidden: str, last: str, n: int) -> dict[str, str]:
    """Our layers -> Stable-Baselines3's, for ``n`` hidden ones; every other of its modules is an activation."""
    return {f"{ours}.{i}": f"{hidden}.{2 * i}" for i in range(n)} | ({f"{ours}.{n}": last} if last else {})


def rescale(ours: dict[str, Tensor], n: int, centre: np.ndarray, half: np.ndarray, *, inward: bool) -> None:
    """A Gaussian head from half-ranges to the environment's own units, or ``inward`` from those, in place."""
    device = ours["log_std"].device
    scale, shift = torch.as_tensor(half, device=device), torch.as_tensor(centre, device=device)
    weight, bias, log_std = (
        ours[name].to(torch.float64) for name in (f"actor.{n}.weight", f"actor.{n}.bias", "log_std")
    )
    if inward:
        weight, bias, log_std = weight / scale, (bias - shift) / scale, log_std - scale.log()
    else:
        weight, bias, log_std = weight * scale, bias * scale + shift, log_std + scale.log()
    ours |= {f"actor.{n}.weight": weight.float(), f"actor.{n}.bias": bias.float(), "log_std": log_std.float()}
