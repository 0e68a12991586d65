"""Policies on disk: safetensors for the numbers, JSON for the rest; loading never runs code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from entropic_rl.errors import RunDirectoryError, first_line
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.run_directory import read_json, write_json
from entropic_rl.spaces import ActionSpec, ObservationSpec

__all__ = ["check_widths", "load_policy", "save_policy"]

_FORMAT = 1


def save_policy(policy: ActorCritic, run: int, directory: Path) -> None:
    """Write run ``run`` of a batch as ``policy.safetensors`` and ``policy.json``, a policy of one run."""
    tensors = {name: tensor[run : run + 1].contiguous().cpu() for name, tensor in policy.state_dict().items()}
    content = save(tensors)
    temporary = directory / "policy.safetensors.tmp"
    temporary.write_bytes(content)
    os.replace(temporary, directory / "policy.safetensors")
    description = {
        "format": _FORMAT,
        "sha256": hashlib.sha256(content).hexdigest(),
        "network": asdict(policy.network),
        "obs_size": policy.observation.size,
        "frames": policy.observation.frames,
        "image": policy.observation.image,
        "action": {"kind": policy.action.kind, "n_outputs": policy.action.n_outputs, "nvec": policy.action.nvec},
        "dtype": str(policy.params.values.dtype).removeprefix("torch."),
    }
    write_json(directory / "policy.json", description | {"description_sha256": _digest(description)})


def load_policy(
    directory: Path, observation: ObservationSpec, action: ActionSpec, *, device: torch.device | str = "cpu"
) -> ActorCritic:
    """Read a policy back for an environment with these spaces.

    Raises:
        RunDirectoryError: the files are missing or damaged, or the policy was made for other spaces.
    """
    description = read_json(directory / "policy.json")
    try:
        network = dict(description["network"])
        network["net_arch"] = tuple(network["net_arch"])
        seen = (description[key] for key in ("obs_size", "frames", "image"))
        made_for = (*seen, *(description["action"][key] for key in ("kind", "n_outputs", "nvec")))
        dtype = {"float32": torch.float32, "float64": torch.float64}[description["dtype"]]
        network_config = NetworkConfig(**network)
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(f"{directory / 'policy.json'} is damaged ({error}); train again") from None
    image = None if observation.image is None else list(observation.image)
    offered = (observation.size, observation.frames, image, action.kind, action.n_outputs, list(action.nvec))
    if made_for != offered:
        raise RunDirectoryError(
            f"the policy in {directory} was trained for {_spaces(*made_for)}, but the env has {_spaces(*offered)}; "
            "evaluate it on the env it was trained on"
        )
    noted = description.pop("description_sha256", None)  # policies from before have none
    if noted is not None and noted != _digest(description):
        raise RunDirectoryError(f"{directory / 'policy.json'} is damaged: it is not what its digest says; train again")
    tensors = _tensors(directory / "policy.safetensors", description.get("sha256"))
    try:
        check_widths(network_config, sum(tensor.numel() for tensor in tensors.values()))
        policy = ActorCritic(network_config, observation, action, [0], device=device, dtype=dtype)
        policy.load_state_dict(tensors)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise RunDirectoryError(
            f"policy.safetensors and policy.json in {directory} do not belong together: {first_line(error)}"
        ) from None
    return policy


def _digest(description: Mapping[str, Any]) -> str:
    """Of what a policy is said to be, however the text is laid out."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def check_widths(network: NetworkConfig, n_stored: int) -> None:
    """Refuse layers with more weights than are stored, before memory is taken for them.

    Raises:
        ValueError: there are.
    """
    widths = network.net_arch
    memory = network.recurrent_size**2 if network.recurrent != "none" else 0
    needed = max([*widths, *(a * b for a, b in pairwise(widths)), network.features_dim or 0, memory], default=0)
    if min(widths, default=1) < 1 or needed > n_stored:
        raise ValueError(f"expected layers of at most {n_stored} weights, got net_arch {list(widths)[:10]} or more")


def _tensors(path: Path, digest: str | None) -> dict[str, Tensor]:
    """Numbers by name; ``digest`` is what the file's SHA-256 has to be, None for policies from before it was noted."""
    try:
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if digest is not None and found != digest:
            raise RunDirectoryError(
                f"{path} is damaged: expected the SHA-256 that policy.json notes, got {found[:12]}...; train again"
            )
        return load(content)
    except FileNotFoundError:
        raise RunDirectoryError(f"no {path.name} in {path.parent}: the training did not finish") from None
    except (OSError, SafetensorError) as error:
        raise RunDirectoryError(f"cannot read {path}: {error}; train again") from None


def _spaces(obs_size: int, frames: int, image: Sequence[int] | None, *action: Any) -> str:
    kind, n_outputs, nvec = action
    seen = f"{obs_size} observation numbers" + (f" of images {list(image)}" if image else "")
    seen += f" ({frames} observations at once)" if frames > 1 else ""
    choices = f" (choices {list(nvec)})" if nvec else ""
    return f"{seen} and a {kind} action of {n_outputs} outputs{choices}"
