"""Settings of Stable-Baselines3's agents as cells of a comparison, ``sb3:PPO``, ``sb3:SAC`` and so on; free of torch.

PPO and A2C take this toolkit's own settings, whose names and defaults are Stable-Baselines3's: presets apply, and both
implementations can be given the same numbers. The settings of every other algorithm are read off its constructor.
"""

from __future__ import annotations

import inspect
import math
from functools import cache, reduce
from importlib.util import find_spec
from operator import or_
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field
from typing_extensions import Doc

from entropic_rl.agents.config import A2CConfig, PPOConfig, Widths
from entropic_rl.config import (
    Count,
    Finite,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveScheduled,
    settings,
    suggestion,
)
from entropic_rl.errors import ConfigError

__all__ = ["check_sb3_settings", "sb3_settings"]

_SUFFIX = "Settings"
_SHARED: dict[str, type[Any]] = {"PPO": PPOConfig, "A2C": A2CConfig}
_NO_COUNTERPART = ("share_features", "squash_output")
_PLAIN = {
    "entropy": ("shannon",),
    "entropy_in": ("loss",),
    "ent_coef_unit": ("auto",),
    "recurrent": ("none",),
    "features": ("auto", "flat"),
}
_SCALARS = (bool, int, float, str)

# The comparison's business, or neither a number, a switch nor a text.
_LEFT_OUT = {
    "policy", "env", "seed", "device", "verbose", "tensorboard_log", "policy_kwargs", "stats_window_size",
    "monitor_wrapper", "_init_setup_model",
    "optimize_memory_usage",  # cannot be on without replay_buffer_kwargs
}  # fmt: skip


def sb3_settings(algorithm: str) -> type[Any]:
    """The settings class of ``sb3:ALGORITHM``; for PPO and A2C Stable-Baselines3 is not even imported.

    Raises:
        ConfigError: there is no such algorithm, or Stable-Baselines3 is not installed.
    """
    if find_spec("stable_baselines3") is None:
        raise ConfigError(
            f'sb3:{algorithm} needs Stable-Baselines3, which is not installed; run: pip install "entropic-rl[sb3]"'
        )
    return _SHARED[algorithm] if algorithm in _SHARED else _generated(algorithm)


def check_sb3_settings(agent: str, config: Any) -> None:
    """Refuse what our settings can say and Stable-Baselines3's agent cannot do.

    Args:
        agent: ``sb3:PPO`` and so on.
        config: its settings.

    Raises:
        ConfigError: naming every such setting.
    """
    flaws = [
        f"{name}: Stable-Baselines3 has no counterpart to compare with; leave it off"
        for name in _NO_COUNTERPART
        if getattr(config, name, False)
    ]
    flaws += [
        f"{name}: Stable-Baselines3 has no counterpart to compare with; leave it at {plain[0]}"
        for name, plain in _PLAIN.items()
        if getattr(config, name, plain[0]) not in plain
    ]
    if isinstance(config, PPOConfig | A2CConfig) and isinstance(config.ent_coef, str):
        flaws.append(
            f"ent_coef: expected a number, got {config.ent_coef!r}; Stable-Baselines3 neither schedules nor steers it"
        )
    if flaws:
        raise ConfigError(f"{agent}: {'; '.join(flaws)}")


def __getattr__(name: str) -> Any:
    """``SACSettings`` and the like, made when asked for: a process that unpickles settings asks by name."""
    if name.endswith(_SUFFIX) and not name.startswith("_"):
        try:
            return _generated(name.removesuffix(_SUFFIX))
        except ConfigError:
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check_ent_coef(value: float | str) -> float | str:
    """A number >= 0, or ``auto`` with the number to start from."""
    learned = isinstance(value, str) and value.startswith("auto")
    number = 1.0 if value == "auto" else _number(str(value).removeprefix("auto_"))
    if not 0.0 <= number < math.inf or (learned and number == 0.0):
        raise ValueError(f"expected a number >= 0, auto, or auto_X to start from X > 0, got {value!r}")
    return value if learned else number


def _check_target_entropy(value: float | str) -> float | str:
    if value != "auto" and not math.isfinite(_number(value)):
        raise ValueError(f"expected auto or a number, got {value!r}")
    return value if value == "auto" else _number(value)


def _number(text: float | str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# Ranges and help of the constructors' parameters; one that is not here is taken as it is declared.
_KNOWN: dict[str, Any] = {
    "learning_rate": Annotated[PositiveScheduled, Doc("step size of every optimizer, > 0")],
    "buffer_size": Annotated[Count, Doc("transitions that the replay buffer holds")],
    "learning_starts": Annotated[Natural, Doc("env steps of uniform actions before learning begins")],
    "batch_size": Annotated[Count, Doc("transitions per gradient step")],
    "tau": Annotated[Fraction, Doc("share of the way that target networks go per update of theirs, in [0, 1]")],
    "gamma": Annotated[Fraction, Doc("discount per step, in [0, 1]")],
    "train_freq": Annotated[Count, Doc("env steps per environment between updates")],
    "gradient_steps": Annotated[int, Field(ge=-1), Doc("gradient steps per update; -1 = one per env step")],
    "n_steps": Annotated[Count, Doc("rewards that are added up before the bootstrap value")],
    "ent_coef": Annotated[
        float | str,
        AfterValidator(_check_ent_coef),
        Doc("entropy weight, >= 0, in reward units per nat; auto or auto_0.1 learns it, from 1 or 0.1 on"),
    ],
    "target_entropy": Annotated[
        float | str,
        AfterValidator(_check_target_entropy),
        Doc("nats that a learned ent_coef aims at; auto = minus the number of action dimensions"),
    ],
    "target_update_interval": Annotated[
        Count, Doc("between updates of the target networks: env steps for DQN, gradient steps for SAC")
    ],
    "use_sde": Annotated[bool, Doc("state-dependent exploration noise (gSDE)")],
    "sde_sample_freq": Annotated[int, Field(ge=-1), Doc("env steps between draws of that noise; -1 = per update")],
    "use_sde_at_warmup": Annotated[bool, Doc("that noise instead of uniform actions before learning begins")],
    "exploration_fraction": Annotated[
        float, Field(gt=0, le=1), Doc("share of the training over which the share of random actions falls, in (0, 1]")
    ],
    "exploration_initial_eps": Annotated[Fraction, Doc("share of random actions at the start, in [0, 1]")],
    "exploration_final_eps": Annotated[Fraction, Doc("share of random actions in the end, in [0, 1]")],
    "max_grad_norm": Annotated[Positive, Doc("2-norm at which the gradient is clipped, > 0")],
    "policy_delay": Annotated[Count, Doc("updates of the critics per update of the actor")],
    "target_policy_noise": Annotated[NonNegative, Doc("std of the noise on target actions, in half-ranges, >= 0")],
    "target_noise_clip": Annotated[NonNegative, Doc("where that noise is clipped, in half-ranges, >= 0")],
}

_ADDED: dict[str, tuple[Any, Any]] = {
    "net_arch": (Annotated[Widths | None, Doc("hidden layer widths of every network; none = the policy's own")], None),
    "normalize_obs": (Annotated[bool, Doc("observations by running mean and std")], False),
    "normalize_reward": (Annotated[bool, Doc("rewards by the running std of the return")], False),
}


@cache
def _generated(algorithm: str) -> type[Any]:
    """A settings class with the scalar parameters of an algorithm's constructor, and ours."""
    known = _algorithms()
    if algorithm not in known:
        expected = ", ".join(f"sb3:{name}" for name in known)
        close = suggestion(f"sb3:{algorithm.upper()}", [f"sb3:{name}" for name in known])
        raise ConfigError(f"AGENT: expected one of {expected}, got 'sb3:{algorithm}'{close}")
    parameters = inspect.signature(known[algorithm]).parameters.values()
    fields = {p.name: (hint, p.default) for p in parameters if (hint := _hint(p)) is not None} | _ADDED
    namespace: dict[str, Any] = {name: default for name, (_, default) in fields.items()}
    namespace |= {
        "__annotations__": {name: hint for name, (hint, _) in fields.items()},
        "__doc__": f"Stable-Baselines3's {algorithm}; names and defaults are its constructor's.",
        "__module__": __name__,
    }
    return settings(type(f"{algorithm}{_SUFFIX}", (), namespace))


def _algorithms() -> dict[str, type[Any]]:
    """What Stable-Baselines3 exports that learns, by name."""
    import stable_baselines3
    from stable_baselines3.common.base_class import BaseAlgorithm

    exported = {name: getattr(stable_baselines3, name) for name in stable_baselines3.__all__}
    return {
        name: value for name, value in exported.items() if isinstance(value, type) and issubclass(value, BaseAlgorithm)
    }


def _hint(parameter: inspect.Parameter) -> Any:
    """The annotation of a settings field for a constructor's parameter; None if it is none of ours."""
    name, default = parameter.name, parameter.default
    if name in _LEFT_OUT or default is parameter.empty:
        return None
    declared = get_args(parameter.annotation) or (parameter.annotation,)
    kinds = [kind for kind in _SCALARS if kind in declared]
    if name in _KNOWN or not kinds:
        return _KNOWN.get(name)
    alternatives: list[Any] = [
        *(Finite if kind is float else kind for kind in kinds),
        *([None] if default is None else []),
    ]
    return Annotated[reduce(or_, alternatives), Doc(f"Stable-Baselines3's {name}")]
