"""Modules of the user's own, found where the command is run; free of torch."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["import_user_module", "is_user_agent", "load_user_agent"]


def import_user_module(name: str) -> ModuleType:
    """A module that a user named; their own ones lie where the command is run."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def is_user_agent(agent: str) -> bool:
    """Whether an agent is named as ``MODULE:CLASS``."""
    return ":" in agent and not agent.startswith("sb3:")


def load_user_agent(agent: str) -> Any:
    """The class that ``MODULE:CLASS`` names.

    Raises:
        ConfigError: there is no such module or class, or the class has no settings.
    """
    module, _, name = agent.partition(":")
    try:
        found = getattr(import_user_module(module), name, None)
    except ImportError as error:
        raise ConfigError(
            f"AGENT: cannot import {module!r} ({error}); run the command where {module}.py lies"
        ) from None
    if found is None:
        raise ConfigError(f"AGENT: expected a class {name!r} in {module!r}, which has none of that name")
    if not hasattr(found, "Config"):
        raise ConfigError(f"AGENT: {agent} needs a class attribute Config, its settings; see docs/adding-an-agent.md")
    return found
