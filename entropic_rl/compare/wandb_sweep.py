"""The grid of a comparison as a Weights & Biases sweep, for ``wandb agent`` on other machines; free of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from entropic_rl.compare.grid import Plan
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.run_directory import replace_file

__all__ = ["sweep", "write_sweep"]


def write_sweep(plan: Plan, path: Path) -> None:
    """Write the grid as YAML; ``wandb sweep FILE`` takes it.

    Raises:
        ConfigError: the grid is no product, or not one of our agents alone.
        RunDirectoryError: the file cannot be written.
    """
    content = yaml.safe_dump(sweep(plan), sort_keys=False)
    if path.is_dir():
        raise RunDirectoryError(f"--emit-wandb-sweep: cannot write {path}: it is a directory; choose another")
    try:
        replace_file(path, content)
    except OSError as error:
        raise RunDirectoryError(f"--emit-wandb-sweep: cannot write {path}: {error.strerror}; choose another") from None
    print(f"wrote {path}; start it with: wandb sweep {path}")


def sweep(plan: Plan) -> dict[str, Any]:
    """The sweep as W&B describes them: every run is one call of ``scripts/train.py`` with the same settings."""
    agents = {agent for agent, _ in plan.bases}
    if len(agents) > 1 or any(agent.startswith("sb3:") for agent in agents):
        raise ConfigError("--emit-wandb-sweep: expected one agent of this toolkit; compare others without it")
    if plan.together and len(plan.sweep) > 1:
        raise ConfigError("--emit-wandb-sweep: expected every combination, got --together, which a W&B grid cannot say")
    if len(plan.bases) > 1:
        raise ConfigError(
            "--emit-wandb-sweep: expected one environment, since each has settings of its own; write one each"
        )
    for name, values in plan.sweep.items():
        if None in values:
            raise ConfigError(f"--{_dashed(name)}: expected values that a flag can say, got one that is unset")
    [agent], (run, config) = agents, next(iter(plan.bases.values()))
    fixed = [
        word
        for settings in (run, config)
        for name, value in jsonable(settings).items()
        if name not in plan.sweep and name not in ("seed", "track") and value != _default(type(settings), name)
        for word in _words(name, value)
    ]
    parameters = {_dashed(name): {"values": list(values)} for name, values in plan.sweep.items()}
    return {
        "program": "scripts/train.py",
        "method": "grid",
        "metric": {"name": "eval/mean_reward", "goal": "maximize"},
        "parameters": {**parameters, "seed": {"values": list(plan.seeds)}},
        "command": ["${env}", "python", "${program}", agent, "--preset", "none", *fixed, "--track", "${args}"],
    }


def _default(cls: Any, name: str) -> Any:
    """A field's default as plain JSON; of required ones, nothing that a value could equal."""
    if name == "env":
        return None
    plain = jsonable(RunConfig(env="-")) if cls is RunConfig else jsonable(cls())
    return plain[name]


def _words(name: str, value: Any) -> list[str]:
    """A setting as words of a command line."""
    flag = f"--{_dashed(name)}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{_dashed(name)}"]
    if isinstance(value, dict):
        return [flag, *(f"{key}={_one_line(item)}" for key, item in value.items())]
    return [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]


class _OneLine(yaml.SafeDumper):
    """YAML whose texts are quoted, line ends included."""


_OneLine.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def _one_line(value: Any) -> str:
    """A value as YAML in a line, as ``--env-kwargs`` reads it."""
    text = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _dashed(name: str) -> str:
    return name.replace("_", "-")
