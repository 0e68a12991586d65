"""Making Gymnasium environments by id, with errors that say what to do.

No torch here: an unknown id or a missing extra is reported at once.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from entropic_rl.errors import EnvError

__all__ = ["import_gym_packages", "make_env", "make_vector_env"]

_PACKAGES = {"ALE": "ale_py", "MiniGrid": "minigrid", "BabyAI": "minigrid"}
_EXTRAS = {"box2d": "box2d", "mujoco": "mujoco", "ale_py": "atari", "atari": "atari", "minigrid": "minigrid"}


def import_gym_packages(packages: Sequence[str]) -> None:
    """Import packages that register environments on import.

    Raises:
        EnvError: a package cannot be imported.
    """
    if packages and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own my_envs.py lies where the command is run
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise EnvError(f"--gym-packages: cannot import {package!r} ({error}); install it or fix the name") from None


def make_env(env_id: str, kwargs: Mapping[str, Any] | None = None, **options: Any) -> gym.Env[Any, Any]:
    """One environment by id.

    Raises:
        EnvError: unknown id (with a suggestion), missing extra (with the ``pip install``), or unsuitable arguments.
    """
    with _clear_errors(env_id, kwargs):
        return gym.make(env_id, **(kwargs or {}), **options)


def make_vector_env(
    env_id: str,
    n: int,
    kwargs: Mapping[str, Any] | None = None,
    *,
    vectorization: Literal["sync", "async"] = "sync",
    autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    wrap: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None = None,
) -> VectorEnv[Any, Any, Any]:
    """``n`` copies of an environment, each with a random generator of its own.

    Env-specific vector entry points are not used: they share one generator among the copies, and a run would then
    depend on the runs beside it. ``wrap`` is put around each copy.

    Raises:
        EnvError: as :func:`make_env`.
    """
    with _clear_errors(env_id, kwargs):
        makers = [partial(_make_one, env_id, kwargs or {}, wrap)] * n
        backend = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}[vectorization]
        return backend(makers, autoreset_mode=autoreset_mode)


def _make_one(
    env_id: str, kwargs: Mapping[str, Any], wrap: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None
) -> gym.Env[Any, Any]:
    env = gym.make(env_id, disable_env_checker=True, **kwargs)
    return env if wrap is None else wrap(env)


@contextmanager
def _clear_errors(env_id: str, kwargs: Mapping[str, Any] | None) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is out of date.*")
            yield
    except gym.error.DependencyNotInstalled as error:
        raise EnvError(_missing_dependency(env_id, error)) from None
    except gym.error.UnregisteredEnv as error:
        raise EnvError(_unknown_id(env_id, error)) from None
    except gym.error.Error as error:
        raise EnvError(f"cannot make env {env_id!r}: {_first_line(error)}") from None
    except TypeError as error:
        cause = _first_line(error).partition(" was raised")[0]
        raise EnvError(
            f"env {env_id!r} does not take the arguments {dict(kwargs or {})}: {cause}; check --env-kwargs"
        ) from None
    except ModuleNotFoundError as error:
        raise EnvError(_missing_dependency(env_id, error)) from None
    except Exception as error:  # an environment may raise anything
        raise EnvError(
            f"env {env_id!r} cannot be made with the arguments {dict(kwargs or {})}: {type(error).__name__}: "
            f"{_first_line(error)}; check --env-kwargs"
        ) from error


def _unknown_id(env_id: str, error: Exception) -> str:
    namespace = env_id.rpartition("/")[0]
    known = [name for name in gym.registry if name.rpartition("/")[0] == namespace]
    close = difflib.get_close_matches(env_id, known, n=1, cutoff=0.6)
    if not known and namespace not in _PACKAGES:
        close = difflib.get_close_matches(env_id.rpartition("/")[2], list(gym.registry), n=1, cutoff=0.6)
    hint = (
        f"did you mean {close[0]!r}?"
        if close
        else "list ids with python -c 'import gymnasium; gymnasium.pprint_registry()'"
    )
    package = _PACKAGES.get(namespace or env_id.partition("-")[0], "PACKAGE")
    packages = f"ids of other packages need --gym-packages {package}"
    return f"unknown env id {env_id!r}: expected a registered Gymnasium id; {hint} ({packages})"


def _missing_dependency(env_id: str, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, ModuleNotFoundError) and error.name:
        text += error.name.lower()
    extra = next((extra for key, extra in _EXTRAS.items() if key in text), None)
    if extra == "box2d":
        return f'env {env_id!r} needs Box2D, which is not installed; run: pip install "entropic-rl[box2d]"'
    if extra:
        return f'env {env_id!r} needs an extra that is not installed; run: pip install "gymnasium[{extra}]"'
    return f"env {env_id!r} needs a package that is not installed: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
