"""Making Gymnasium environments by id, with errors that say what to do.

No torch here: an unknown id or a missing extra is reported at once.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Literal

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import entropic_rl.envs as own  # registers its ids
from entropic_rl.env_checks import CheckedEnv
from entropic_rl.env_workers import WatchedAsyncVectorEnv
from entropic_rl.errors import EnvError, first_line
from entropic_rl.extras import missing_package
from entropic_rl.user_modules import check_place, import_user_module
from entropic_rl.wrappers import WrapperError, put_around

__all__ = [
    "Backend",
    "check_backend",
    "choose_backend",
    "copies_at_once",
    "import_gym_packages",
    "make_env",
    "make_vector_env",
    "reward_threshold",
]

Backend = Literal["auto", "batched", "sync", "async"]
"""How copies are stepped: all at once by one program (batched), one by one here (sync), in a process each (async)."""

_PACKAGES = {"ALE": "ale_py", "MiniGrid": "minigrid", "BabyAI": "minigrid"}


def import_gym_packages(packages: Sequence[str]) -> None:
    """Import packages that register environments on import.

    Raises:
        EnvError: a package cannot be imported.
    """
    for package in packages:
        try:
            import_user_module(package)
        except ImportError as error:
            if missing := missing_package(error):
                raise EnvError(f"--gym-packages: {package!r} needs {missing}") from None
            raise EnvError(f"--gym-packages: cannot import {package!r} ({error}); install it or fix the name") from None


def make_env(
    env_id: str, kwargs: Mapping[str, Any] | None = None, *, wrappers: Sequence[str] = (), **options: Any
) -> gym.Env[Any, Any]:
    """One environment by id, with wrappers put around it, the first one innermost.

    Raises:
        EnvError: unknown id (with a suggestion), missing extra (with the ``pip install``), unsuitable arguments, or
            a wrapper that is none or refuses.
    """
    with _clear_errors(env_id, kwargs):
        return put_around(gym.make(env_id, **(kwargs or {}), **options), wrappers)


def _require_batched(env_id: str, wrappers: Sequence[str]) -> str:
    """The id of an environment's batched version.

    Raises:
        gymnasium.error.Error: the id is unknown, or has none, or there are wrappers.
    """
    gym.spec(env_id)  # an unknown id is told as such
    if wrappers:
        raise gym.error.Error(
            "batched environments have no copies to put --env-wrappers around; use --env-backend sync or async"
        )
    if (batched := _batched_id(env_id)) is None:
        known = ", ".join(name for name in gym.registry if name == _batched_id(name))
        raise gym.error.Error(f"it has no batched version, these have: {known}; use --env-backend sync")
    return batched


def check_backend(env_id: str, kwargs: Mapping[str, Any], backend: Backend, *, wrappers: Sequence[str] = ()) -> None:
    """Refuse a backend that the environment does not have, without making one.

    Raises:
        EnvError: in one line.
    """
    if backend == "batched":
        with _clear_errors(env_id, kwargs):
            _require_batched(env_id, wrappers)


def make_vector_env(
    env_id: str,
    n: int,
    kwargs: Mapping[str, Any] | None = None,
    *,
    backend: Backend = "auto",
    wrappers: Sequence[str] = (),
    autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    device: Any = "cpu",
    wrap: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None = None,
    timeout: float = 60.0,
) -> VectorEnv[Any, Any, Any]:
    """``n`` copies of an environment, each with a random generator of its own.

    Vector entry points other than this toolkit's are not used: they share one generator among the copies, and a run
    would then depend on the runs beside it.

    Args:
        env_id: Gymnasium id.
        n: copies.
        kwargs: arguments of the environment.
        backend: how copies are stepped; ``auto`` as :func:`choose_backend`, unless the other arguments need ``sync``.
        wrappers: put around each copy, the first one innermost, as :mod:`entropic_rl.wrappers` reads them.
        autoreset_mode: what happens at the end of an episode.
        device: of a batched environment.
        wrap: put around each copy and its wrappers; there are none to put it around in a batched environment.
        timeout: seconds that a copy in a process of its own may take to answer.

    Raises:
        EnvError: as :func:`make_env`; ``batched`` for an id without a batched version, or with wrappers.
    """
    if backend == "auto":
        needs_copies = wrap is not None or autoreset_mode is AutoresetMode.NEXT_STEP
        backend = "sync" if needs_copies else choose_backend(env_id, kwargs, wrappers=wrappers)
    with _clear_errors(env_id, kwargs):
        if backend == "batched":
            return gym.make_vec(
                _require_batched(env_id, wrappers),
                n,
                vectorization_mode="vector_entry_point",
                autoreset_mode=autoreset_mode,
                device=device,
                **(kwargs or {}),
            )
        makers = [partial(_make_one, env_id, kwargs or {}, wrappers, wrap, index) for index in range(n)]
        if backend == "sync":
            return SyncVectorEnv(makers, autoreset_mode=autoreset_mode)
        vector_env = WatchedAsyncVectorEnv(makers, autoreset_mode=autoreset_mode, timeout=timeout)
        with closing(makers[0]()) as copy:  # asking one in another process for what it has not would end that process
            vector_env.offers_action_masks = copy.has_wrapper_attr("action_masks")  # type: ignore[attr-defined]
        return vector_env


def reward_threshold(env_id: str) -> float | None:
    """The return from which its authors call an environment solved, if they said so."""
    spec = gym.registry.get(env_id.rpartition(":")[2])
    return None if spec is None else spec.reward_threshold


def choose_backend(
    env_id: str, kwargs: Mapping[str, Any] | None = None, *, wrappers: Sequence[str] = ()
) -> Literal["batched", "sync"]:
    """``batched`` if this toolkit has the environment batched and that version takes these arguments, else ``sync``.

    ``CartPole-v1`` and the like are stepped by the batched version of the same rules, ``entropic_rl/CartPole-v1``.
    """
    if wrappers or _batched_id(env_id) is None:
        return "sync"
    try:
        make_vector_env(env_id, 1, kwargs, backend="batched").close()
    except EnvError:
        return "sync"
    return "batched"


def copies_at_once(backend: Backend) -> int:
    """Copies that are worth stepping together where any number will do: of one program many cost little more."""
    return 100 if backend == "batched" else 25


def _batched_id(env_id: str) -> str | None:
    """Where the batched version of an id is registered; None if there is none, or it is not the same environment."""
    name = f"{own.NAMESPACE}/{env_id.removeprefix(own.NAMESPACE + '/')}"
    batched, asked = gym.registry.get(name), gym.registry.get(env_id)
    return name if batched and asked and batched.entry_point == asked.entry_point else None


def _make_one(
    env_id: str,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[str],
    wrap: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None,
    index: int,
) -> gym.Env[Any, Any]:
    env = CheckedEnv(put_around(gym.make(env_id, disable_env_checker=True, **kwargs), wrappers), index)
    return env if wrap is None else wrap(env)


@contextmanager
def _clear_errors(env_id: str, kwargs: Mapping[str, Any] | None) -> Iterator[None]:
    try:
        if ":" in env_id:  # MODULE:ID, which Gymnasium imports
            check_place(env_id.partition(":")[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is out of date.*")
            yield
    except WrapperError:
        raise
    except EnvError as error:  # one of our own refuses its arguments
        raise EnvError(f"env {env_id!r}: {error}; check --env-kwargs") from None
    except gym.error.DependencyNotInstalled as error:
        raise EnvError(_missing_dependency(env_id, error)) from None
    except gym.error.UnregisteredEnv as error:
        raise EnvError(_unknown_id(env_id, error)) from None
    except gym.error.Error as error:
        raise EnvError(f"cannot make env {env_id!r}: {first_line(error)}") from None
    except TypeError as error:
        cause = first_line(error).partition(" was raised")[0]
        raise EnvError(
            f"env {env_id!r} does not take the arguments {dict(kwargs or {})}: {cause}; check --env-kwargs"
        ) from None
    except ModuleNotFoundError as error:
        raise EnvError(_missing_dependency(env_id, error)) from None
    except ImportError as error:
        raise EnvError(f"env {env_id!r} cannot be made: {first_line(error)}; install its package") from None
    except Exception as error:  # an environment may raise anything
        raise EnvError(
            f"env {env_id!r} cannot be made with the arguments {dict(kwargs or {})}: {type(error).__name__}: "
            f"{first_line(error)}; check --env-kwargs"
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
    missing = missing_package(error) or f"a package that is not installed: {first_line(error)}"
    return f"env {env_id!r} needs {missing}"
