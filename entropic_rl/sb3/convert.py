"""Our policies as models of Stable-Baselines3: the same networks under other names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, unwrap_vec_normalize
from torch import Tensor

from entropic_rl.agents.config import action_head
from entropic_rl.cell import read_cell
from entropic_rl.environments import import_gym_packages, make_env
from entropic_rl.errors import ConfigError
from entropic_rl.policies import ActorCritic
from entropic_rl.policy_files import load_policy
from entropic_rl.sb3.model import ACTIVATIONS, action_units, has_start, one_line
from entropic_rl.sb3.names import ACTOR, CRITIC, SAC_ACTOR, layers, rescale
from entropic_rl.spaces import ActionSpec, action_spec, is_pixels, observation_spec

__all__ = ["to_sb3"]

_ALGORITHMS = {"ppo": "PPO", "a2c": "A2C", "sac": "SAC"}


def to_sb3(source: ActorCritic | str | Path, env: Any = None, *, algorithm: str | None = None, **settings: Any) -> Any:
    """A model of Stable-Baselines3 that acts as one of our policies does, to go on with or to save.

    Its actor and, for PPO and A2C, its critic are ours; SAC's critics are not in a checkpoint, and new, as are
    optimizers. Stable-Baselines3's Gaussians act in the environment's own units, so the head is scaled to them; log
    standard deviations are taken within our bounds. Our observation statistics become those of a ``VecNormalize``
    around the environments: what is given to ``predict`` has to go through its ``normalize_obs`` first.

    Args:
        source: a run directory of ``ppo``, ``a2c`` or ``sac``, or such a policy of one run.
        env: Gymnasium environment, its id, or a ``VecEnv``; that of the training, if ``source`` is a run directory,
            whose wrappers are put around an id, too.
        algorithm: ``PPO``, ``A2C`` or ``SAC``; else that of the run directory, or the one that the policy's shape says.
        settings: of the constructor: ``learning_rate``, ``n_steps``, ``seed``, ...; they are not taken from the run.

    Raises:
        ConfigError: Stable-Baselines3 has no counterpart.
        RunDirectoryError: ``source`` holds no policy, or one for other spaces.
    """
    if isinstance(source, ActorCritic):
        if env is None:
            raise ConfigError("env: expected the environment of the policy, a Gymnasium id or object, got none")
        return _closing(env, {}, (), lambda envs: _model(source, envs, algorithm or _algorithm(source), settings))
    cell = read_cell(Path(source))
    import_gym_packages(cell.run.gym_packages)

    def build(envs: Any) -> Any:
        head = action_head(cell.config, envs.action_space)
        policy = load_policy(Path(source), observation_spec(envs.observation_space), head)
        return _model(policy, envs, algorithm or _ALGORITHMS.get(cell.agent, "PPO"), settings)

    place, kwargs = (cell.run.env, cell.run.env_kwargs) if env is None else (env, {})
    return _closing(place, kwargs, cell.run.env_wrappers, build)


def _closing(env: Any, kwargs: dict[str, Any], wrappers: Sequence[str], build: Callable[[Any], Any]) -> Any:
    """What ``build`` makes of an environment; one that was made here is closed if it fails."""
    if not isinstance(env, str):
        return build(env)
    made = make_env(env, kwargs, wrappers=wrappers)
    try:
        return build(made)
    except BaseException:
        made.close()
        raise


def _algorithm(policy: ActorCritic) -> str:
    return "SAC" if policy.network.state_dependent_std else "PPO"


def _model(policy: ActorCritic, envs: Any, algorithm: str, settings: dict[str, Any]) -> Any:
    """A new model with the policy's parameters."""
    _check(policy, envs, algorithm)
    network, device = policy.network, policy.params.values.device
    widths = list(network.net_arch)
    kwargs = {
        **settings.pop("policy_kwargs", {}),
        "net_arch": {"pi": widths, "qf" if algorithm == "SAC" else "vf": widths},
        "activation_fn": ACTIVATIONS[network.activation],
    }
    if policy.normalizer is not None:
        envs = _normalized(policy, envs)
    name = "MultiInputPolicy" if isinstance(envs.observation_space, spaces.Dict) else "MlpPolicy"
    try:
        make = getattr(stable_baselines3, algorithm)
        model = make(name, envs, policy_kwargs=kwargs, **{"device": device, **settings})
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(f"{algorithm} of Stable-Baselines3 cannot be made: {one_line(error)}") from error
    parameters = model.get_parameters()
    parameters["policy"] |= _their_names(policy, envs.action_space)
    model.set_parameters(parameters, exact_match=True, device=model.device)
    return model


def _check(policy: ActorCritic, envs: Any, algorithm: str) -> None:
    """Refuse what has no counterpart, all at once."""
    network, action, own = policy.network, policy.action, _algorithm(policy)
    observation, space = envs.observation_space, envs.action_space
    flaws = []
    if (n_runs := len(policy.params.values)) != 1:
        flaws.append(f"expected a policy of one run, got {n_runs}")
    if network.share_features:
        flaws.append("share_features: Stable-Baselines3 has separate networks for actor and critic")
    if own == "PPO" and action.kind == "tanh-gaussian":
        flaws.append("squash_output: Stable-Baselines3's PPO and A2C squash only with gSDE")
    elif own == "PPO" and not network.critic:
        flaws.append(
            "Stable-Baselines3 has no soft actor-critic for Discrete actions, nor soft Q-learning, and its PPO needs "
            "a critic"
        )
    elif algorithm not in (("SAC",) if own == "SAC" else ("PPO", "A2C")):
        flaws.append(f"algorithm: this policy is one of {own}, got {algorithm!r}")
    if network.recurrent != "none" or network.features == "attention" or policy.observation.frames > 1:
        flaws.append("memory, attention and stacked observations are not Stable-Baselines3's")
    if is_pixels(observation):
        flaws.append("images: Stable-Baselines3 orders their numbers otherwise")
    elif policy.normalizer is not None and not isinstance(observation, spaces.Box):
        flaws.append(
            f"normalize_obs: VecNormalize has such statistics for Box observations only, not for {observation}"
        )
    elif policy.normalizer is not None and isinstance(envs, VecEnv) and unwrap_vec_normalize(envs) is not None:
        flaws.append("normalize_obs: give the environments without VecNormalize, the policy brings its statistics")
    if has_start(observation) or has_start(space):
        flaws.append("Stable-Baselines3 takes no space that does not start at 0")
    offered = _described(action_spec(space, squash_output=action.kind == "tanh-gaussian"))
    if observation_spec(observation).size != policy.observation.size or offered != _described(action):
        flaws.append(
            f"the policy takes {policy.observation.size} numbers to {_described(action)}, unlike {observation}, {space}"
        )
    if flaws:
        raise ConfigError(f"to_sb3: {'; '.join(flaws)}")


def _described(action: ActionSpec) -> str:
    return f"{action.n_outputs} {action.kind} outputs" + (f" {list(action.nvec)}" if action.nvec else "")


def _normalized(policy: ActorCritic, envs: Any) -> Any:
    """The environments in a ``VecNormalize`` with the policy's statistics."""
    if policy.normalizer is None:
        return envs
    if not isinstance(envs, VecEnv):
        single = envs
        envs = DummyVecEnv([lambda: Monitor(single)])
    envs = VecNormalize(envs, norm_reward=False)
    shape, found = envs.observation_space.shape, policy.normalizer.statistics
    envs.obs_rms.mean = found.mean[0].cpu().numpy().reshape(shape).copy()
    envs.obs_rms.var = found.var[0].cpu().numpy().reshape(shape).copy()
    envs.obs_rms.count = float(found.count[0])
    return envs


def _their_names(policy: ActorCritic, space: spaces.Space[Any]) -> dict[str, Tensor]:
    """The parameters of a policy of one run as Stable-Baselines3 has them."""
    ours, n = {name: x.clone() for name, x in policy.params.named().items()}, len(policy.network.net_arch)
    if _algorithm(policy) == "SAC":
        pairs = layers("actor", SAC_ACTOR, "", n)
        for part in ("weight", "bias"):
            mean, log_std = ours.pop(f"actor.{n}.{part}").chunk(2, -1)
            ours |= {f"mean.{part}": mean, f"std.{part}": log_std}
        pairs |= {"mean": "actor.mu", "std": "actor.log_std"}
    else:
        pairs = layers("actor", ACTOR, "action_net", n) | layers("critic", CRITIC, "value_net", n)
    theirs = {}
    if "log_std" in ours and isinstance(space, spaces.Box):
        ours["log_std"] = policy.log_std.detach().clone()
        rescale(ours, n, *action_units(space), inward=False)
        theirs["log_std"] = ours["log_std"].reshape(-1)
    for own, name in pairs.items():
        theirs[f"{name}.weight"] = ours[f"{own}.weight"][0].T.contiguous()
        theirs[f"{name}.bias"] = ours[f"{own}.bias"].reshape(-1)
    return theirs
