"""One training as settings: which agent, on what, with which numbers, and where its record goes; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.config import RunConfig, build, field_docs, jsonable, suggestion
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.run_directory import read_json
from entropic_rl.user_modules import is_user_agent, load_user_agent

__all__ = ["Cell", "read_cell", "settings_class"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One training.

    Attributes:
        agent: ``ppo``, ``a2c``, or ``sb3:ALGORITHM`` for Stable-Baselines3's.
        run: what to train on.
        config: the agent's settings.
        directory: the run directory.
    """

    agent: str
    run: RunConfig
    config: Any
    directory: Path

    def value(self, field: str) -> Any:
        """A setting by name, whichever class it belongs to."""
        if field == "agent":
            return self.agent
        return getattr(self.run, field) if field in field_docs(RunConfig) else getattr(self.config, field)

    def to_json(self) -> dict[str, Any]:
        """The cell as plain JSON values."""
        return {
            "agent": self.agent,
            "run": jsonable(self.run),
            "config": jsonable(self.config),
            "directory": str(self.directory),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Cell:
        """What :meth:`to_json` gave."""
        config = build(settings_class(stored["agent"]), stored["config"])
        return cls(stored["agent"], build(RunConfig, stored["run"]), config, Path(stored["directory"]))


def settings_class(agent: str) -> Any:
    """The settings class of an agent.

    Raises:
        ConfigError: there is no such agent.
    """
    if agent.startswith("sb3:"):
        from entropic_rl.sb3.settings import sb3_settings

        return sb3_settings(agent.removeprefix("sb3:"))
    if is_user_agent(agent):
        return load_user_agent(agent).Config
    if agent not in AGENT_CONFIGS:
        known = [*AGENT_CONFIGS, "sb3:ALGORITHM", "MODULE:CLASS"]
        raise ConfigError(f"AGENT: expected one of {', '.join(known)}, got {agent!r}{suggestion(agent, known)}")
    return AGENT_CONFIGS[agent]


def read_cell(directory: Path) -> Cell:
    """The settings a run directory was made with.

    Raises:
        RunDirectoryError: it is none.
    """
    if not directory.is_dir():
        raise RunDirectoryError(f"no run directory {directory}: expected the --run-dir of a finished training")
    stored = read_json(directory / "config.json")
    agent = stored.get("agent")
    if not isinstance(agent, str) or not (agent in AGENT_CONFIGS or is_user_agent(agent)):
        raise RunDirectoryError(
            f"{directory / 'config.json'}: expected an agent of {list(AGENT_CONFIGS)}, got {agent!r}"
        )

    def part(cls: type[Any]) -> Any:
        return build(cls, {name: stored[name] for name in field_docs(cls) if name in stored})

    return Cell(agent, part(RunConfig), part(settings_class(agent)), directory)
