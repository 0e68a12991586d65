"""Gymnasium wrappers as people write them: ``MODULE:CLASS`` or ``MODULE:CLASS(name=value, ...)``; free of torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from entropic_rl.errors import ConfigError, EnvError, first_line
from entropic_rl.extras import missing_package
from entropic_rl.user_modules import import_user_module

if TYPE_CHECKING:  # settings are read before it is imported
    import gymnasium as gym

__all__ = ["WrapperError", "parse_wrapper", "put_around"]

_FORM = re.compile(r"(\w+(?:\.\w+)*):(\w+)(\(.*\))?", re.DOTALL)
_OF_STATES = ("n_states", "layout")  # what the metadata of a finite environment tells of its observations


class WrapperError(EnvError):
    """A wrapper is none, or refuses its environment; the text says whose fault it is."""


def parse_wrapper(text: str) -> tuple[str, str, dict[str, Any]]:
    """Module, class and arguments of a wrapper; the arguments are Python literals, nothing is evaluated.

    Raises:
        ConfigError: the text has another form.
    """
    matched = _FORM.fullmatch(text.strip())
    arguments = _literals(matched[3] or "()") if matched else None
    if matched is None or arguments is None:
        raise ConfigError(f"expected MODULE:CLASS or MODULE:CLASS(name=value, ...) with plain values, got {text!r}")
    return matched[1], matched[2], arguments


def put_around(env: gym.Env[Any, Any], wrappers: Sequence[str]) -> gym.Env[Any, Any]:
    """The environment with wrappers around it, the first one innermost.

    Where they give observations another space, what the environment tells of its states is no longer so and left out.

    Raises:
        WrapperError: one cannot be imported, is none, or refuses; the environment is closed then.
    """
    wrapped = env
    try:
        for text in wrappers:
            wrapped = _put_one_around(wrapped, text)
    except BaseException:
        env.close()
        raise
    if wrapped.observation_space != env.observation_space:
        wrapped.metadata = {name: value for name, value in wrapped.metadata.items() if name not in _OF_STATES}
    return wrapped


def _put_one_around(env: gym.Env[Any, Any], text: str) -> gym.Env[Any, Any]:
    from gymnasium.error import DependencyNotInstalled

    cls, arguments = _load(text)
    try:
        return cls(env, **arguments)
    except Exception as error:  # a wrapper may raise anything
        if isinstance(error, ImportError | DependencyNotInstalled) and (missing := missing_package(error)):
            raise WrapperError(f"--env-wrappers {text} needs {missing}") from None
        env_id = "it" if env.spec is None else repr(env.spec.id)
        raise WrapperError(
            f"--env-wrappers {text}: cannot be put around env {env_id}: {type(error).__name__}: {first_line(error)}; "
            "check its arguments, the wrappers before it and --env-kwargs"
        ) from error


def _load(text: str) -> tuple[type[gym.Wrapper[Any, Any, Any, Any]], dict[str, Any]]:
    """The class of a wrapper and its arguments."""
    from gymnasium import Wrapper

    module, name, arguments = parse_wrapper(text)
    try:
        found = getattr(import_user_module(module), name, None)
    except Exception as error:  # a module may raise anything
        missing = isinstance(error, ImportError) and missing_package(error)
        reason = f"it needs {missing}" if missing else f"{first_line(error)}; install it or fix the name"
        raise WrapperError(f"--env-wrappers: cannot import {module!r}: {reason}") from None
    if found is None:
        raise WrapperError(f"--env-wrappers: expected a class {name!r} in {module!r}, which has none of that name")
    if not (isinstance(found, type) and issubclass(found, Wrapper)):
        raise WrapperError(f"--env-wrappers {text}: expected a class derived from gymnasium.Wrapper, got {found!r}")
    return found, arguments


def _literals(text: str) -> dict[str, Any] | None:
    """The arguments in ``(name=value, ...)``; None if they are anything else."""
    try:
        call = ast.parse(f"f{text}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None
        values = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return values if len(values) == len(call.keywords) else None
