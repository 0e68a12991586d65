"""What a process of a measurement is to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.config import RunConfig, build, jsonable

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """Runs that are trained by one process.

    Attributes:
        agent: its name.
        run: what all of them train on; the seed is that of the first.
        configs: the settings of each.
        seeds: of each.
    """

    agent: str
    run: RunConfig
    configs: Sequence[Any]
    seeds: Sequence[int]

    @property
    def config(self) -> Any:
        """The settings of the first run."""
        return self.configs[0]

    @classmethod
    def of(cls, agent: str, run: RunConfig, config: Any, cases: Sequence[tuple[float | str, int]]) -> Job:
        """A job of one run for each coefficient and seed of ``cases``."""
        configs = [replace(config, ent_coef=coefficient) for coefficient, _ in cases]
        return cls(agent, replace(run, seed=cases[0][1]), configs, [seed for _, seed in cases])

    def to_json(self) -> dict[str, Any]:
        """The job as plain JSON values."""
        configs = [jsonable(config) for config in self.configs]
        return {"agent": self.agent, "run": jsonable(self.run), "configs": configs, "seeds": list(self.seeds)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Job:
        """What :meth:`to_json` gave."""
        configs = [build(AGENT_CONFIGS[stored["agent"]], config) for config in stored["configs"]]
        return cls(stored["agent"], build(RunConfig, stored["run"]), configs, stored["seeds"])
