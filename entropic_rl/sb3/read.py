"""Policies of Stable-Baselines3 as ours: their tensors out of the file that it saved, and nothing else."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor

from entropic_rl.environments import make_env
from entropic_rl.errors import ConfigError
from entropic_rl.networks import ACTIVATIONS
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.sb3.model import action_units, one_line
from entropic_rl.sb3.names import ACTOR, CRITIC, SAC_ACTOR, layers, rescale
from entropic_rl.sb3.tensors import read_member, read_tensors
from entropic_rl.spaces import ObservationSpec, action_spec, is_pixels, observation_spec

__all__ = ["from_sb3"]


def from_sb3(path: str | Path, env: Any = None, *, activation: str | None = None) -> ActorCritic:
    """The policy in a file that Stable-Baselines3's PPO, A2C or SAC saved, as one of ours of one run.

    Only ``policy.pth`` is read, as tensors: nothing of the file is unpickled. What its other parts say is therefore not
    known, the activation above all. Layer widths come from the tensors. If actor and critic have other widths than each
    other, there is no critic; SAC's critics are left out. Gaussian standard deviations are used within our bounds.

    Args:
        path: of the zip file, with or without ``.zip``.
        env: environment, Gymnasium id or ``VecEnv`` with the spaces that it was trained on. Without it Box actions stay
            in the units that the tensors have (SAC: between -1 and 1), and other actions cannot be told apart. The
            statistics of a ``VecNormalize`` around it become ours.
        activation: between layers; None for the default of Stable-Baselines3, tanh for PPO and A2C, relu for SAC.

    Raises:
        ConfigError: the file would need unpickling, or holds something else.
    """
    path = Path(path)
    tensors = _read_policy(path if path.exists() else path.with_name(path.name + ".zip"))
    squashed = any(name.startswith("actor.") for name in tensors)
    activation = activation or ("relu" if squashed else "tanh")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    actor = {name: x for name, x in tensors.items() if name.startswith("actor.")} if squashed else tensors
    params, widths = _our_names(actor, path)
    sizes = params["actor.0.weight"].shape[1], params[f"actor.{len(widths)}.bias"].shape[-1] // (2 if squashed else 1)
    observation, space, normalizer = _spaces(env, squashed, "log_std" in params, sizes[1], path)
    action = action_spec(space, squash_output=squashed)
    if observation is not None and (is_pixels(observation) or observation_spec(observation).size != sizes[0]):
        raise ConfigError(f"{path}: its policy takes {sizes[0]} numbers as observations, but the env has {observation}")
    if action.n_outputs != sizes[1] or action.is_continuous != (squashed or "log_std" in params):
        raise ConfigError(f"{path}: its policy has {sizes[1]} outputs, which do not fit the env's {space}")
    network = NetworkConfig(
        net_arch=widths,
        activation=activation,
        critic="critic.0.weight" in params,
        state_dependent_std=squashed,
        normalize_obs=normalizer is not None,
    )
    policy = ActorCritic(network, ObservationSpec.vector(sizes[0]), action, [0])
    try:
        if "log_std" in params:
            rescale(params, len(widths), *action_units(space), inward=True)
        policy.params.load(params)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    if policy.normalizer is not None:
        _take_statistics(policy, normalizer)
    return policy


def _read_policy(path: Path) -> dict[str, Tensor]:
    """``policy.pth`` of a zip file as tensors by name; nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = read_member(archive, "policy.pth")
    except FileNotFoundError:
        raise ConfigError(f"no file {path}: expected one that Stable-Baselines3's model.save wrote") from None
    except KeyError:
        raise ConfigError(f"{path} holds no policy.pth: expected a zip file of Stable-Baselines3 >= 1.0") from None
    except Exception as error:  # zipfile raises many kinds for damaged files
        raise ConfigError(f"{path} cannot be read as a zip file of Stable-Baselines3: {one_line(error)}") from None
    try:
        loaded = read_tensors(content)
    except Exception:  # as above
        raise ConfigError(
            f"{path}: policy.pth holds more than tensors or is damaged; it would need unpickling"
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(x, Tensor) for x in loaded.values()):
        raise ConfigError(f"{path}: expected policy.pth to hold tensors by name, got a {type(loaded).__name__}")
    return {str(name): x.detach().float() for name, x in loaded.items()}


def _our_names(theirs: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """Parameters ``[1, ...]`` under our names, and the widths of the actor's hidden layers."""
    squashed = any(name.startswith("actor.") for name in theirs)
    widths = _widths(theirs, SAC_ACTOR if squashed else ACTOR)
    critic = () if squashed else _widths(theirs, CRITIC)
    n = len(widths)
    if squashed:
        pairs = layers("actor", SAC_ACTOR, "", n) | {"mean": "actor.mu", "std": "actor.log_std"}
    else:
        pairs = layers("actor", ACTOR, "action_net", n) | layers("critic", CRITIC, "value_net", len(critic))
    expected = {f"{name}.{part}" for name in pairs.values() for part in ("weight", "bias")}
    odd = sorted((expected ^ theirs.keys()) - {"log_std"})
    if odd or theirs.get("log_std", torch.zeros(1)).ndim != 1:
        what = f"{'no' if odd[0] in expected else 'a'} tensor {odd[0]!r}" if odd else "the log_std of gSDE"
        raise ConfigError(f"{path}: expected an MlpPolicy of PPO, A2C or SAC without gSDE, got one with {what}")
    if any(theirs[name].ndim != (2 if name.endswith("weight") else 1) for name in expected):
        raise ConfigError(f"{path} is damaged: expected weights of 2 dimensions and biases of 1")
    ours = {f"{own}.weight": theirs[f"{name}.weight"].mT.unsqueeze(0) for own, name in pairs.items()}
    ours |= {f"{own}.bias": theirs[f"{name}.bias"].reshape(1, 1, -1) for own, name in pairs.items()}
    if squashed:
        for part in ("weight", "bias"):
            ours[f"actor.{n}.{part}"] = torch.cat([ours.pop(f"mean.{part}"), ours.pop(f"std.{part}")], -1)
    if "log_std" in theirs:
        ours["log_std"] = theirs["log_std"].reshape(1, 1, -1).clone()
    if critic != widths:
        ours = {name: x for name, x in ours.items() if not name.startswith("critic.")}
    return ours, widths


def _widths(theirs: dict[str, Tensor], prefix: str) -> tuple[int, ...]:
    found: list[int] = []
    while (bias := theirs.get(f"{prefix}.{2 * len(found)}.bias")) is not None:
        found.append(bias.numel())
    return tuple(found)


def _spaces(env: Any, squashed: bool, gaussian: bool, size: int, path: Path) -> tuple[Any, Any, Any]:
    """Observation and action space, and the ``VecNormalize`` with statistics of observations, if there is one."""
    if env is None and not (squashed or gaussian):
        raise ConfigError(
            f"{path}: its tensors do not say whether {size} outputs are of a Discrete, MultiDiscrete or MultiBinary "
            "space; give the env"
        )
    if env is None:
        bound = 1.0 if squashed else np.inf
        return None, spaces.Box(-bound, bound, (size,), np.float32), None
    if isinstance(env, str):
        with make_env(env) as made:
            return made.observation_space, made.action_space, None
    normalizer = unwrap_vec_normalize(env) if isinstance(env, VecEnv) else None
    if normalizer is None or not normalizer.norm_obs:
        return env.observation_space, env.action_space, None
    if not isinstance(env.observation_space, spaces.Box) or (normalizer.epsilon, normalizer.clip_obs) != (1e-8, 10.0):
        raise ConfigError("env: expected a VecNormalize of Box observations with epsilon 1e-8 and clip_obs 10")
    return env.observation_space, env.action_space, normalizer


def _take_statistics(policy: ActorCritic, normalizer: Any) -> None:
    """Those of a ``VecNormalize``."""
    rms = normalizer.obs_rms
    found = {"mean": rms.mean.reshape(1, -1), "var": rms.var.reshape(1, -1), "count": np.array([rms.count])}
    if policy.normalizer is not None:
        policy.normalizer.statistics.load_state_dict({name: torch.as_tensor(x) for name, x in found.items()})
