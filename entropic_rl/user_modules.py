"""Modules of the user's own, found where the command is run; free of torch."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from entropic_rl.errors import ConfigError
from entropic_rl.run_directory import is_record

__all__ = ["check_place", "import_user_module", "is_user_agent", "load_user_agent", "safe_path"]


def import_user_module(name: str) -> ModuleType:
    """A module that a user named; their own ones lie where the command is run.

    Raises:
        ImportError: there is none, or it lies where :func:`check_place` forbids it.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    check_place(name)
    return importlib.import_module(name)


def check_place(name: str) -> None:
    """Refuse a module that lies in a run directory.

    Those go from hand to hand, and their ``config.json`` names modules: what comes with it is data, and never run.

    Raises:
        ImportError: saying where it lies; or it has no name that a module can have.
    """
    package = name.partition(".")[0]
    if not package.isidentifier():
        raise ImportError(f"{name!r} is no name of a module")
    if package in sys.modules:
        return
    found = importlib.util.find_spec(package)
    places = [] if found is None else [found.origin, *(found.submodule_search_locations or ())]
    for folder in (Path(place).parent for place in places if place is not None):
        if is_record(folder) or is_record(folder.parent):
            raise ImportError(f"it lies in {folder}, a directory of runs, from which nothing is imported")


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
    if not dataclasses.is_dataclass(getattr(found, "Config", None)):
        raise ConfigError(
            f"AGENT: {agent} needs a class attribute Config, a dataclass of its settings; see docs/adding-an-agent.md"
        )
    return found


def safe_path() -> dict[str, str]:
    """Environment of our own processes: unless this one does, they take no modules out of the current folder first.

    ``python -m`` would: a file that is called like a module of the standard library would be run in its place.
    """
    return {} if sys.path[0] in ("", os.getcwd()) else {"PYTHONSAFEPATH": "1"}
