"""From the command line to settings: the flags every training has, the layers of settings, checks before torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from entropic_rl.agents.config import PPOConfig, action_head, check_batch_size
from entropic_rl.cell import settings_class
from entropic_rl.config import RunConfig, build, field_docs, jsonable, load_yaml, suggestion
from entropic_rl.errors import ConfigError
from entropic_rl.flags import given
from entropic_rl.presets import PRESETS, preset
from entropic_rl.sb3.settings import check_sb3_settings

__all__ = [
    "add_common_flags",
    "check_device",
    "check_environment",
    "check_together",
    "layered",
    "preset_for",
    "resolve",
    "say_preset",
    "show_config",
]


def add_common_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of every verb that trains."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings; flags win over it")
    parser.add_argument(
        "--preset",
        default="auto",
        metavar="NAME",
        help="published settings to start from: auto (those of --env, if any), none, or an env id that has some [auto]",
    )
    parser.add_argument("--show-config", action="store_true", help="print the resolved settings as YAML and stop")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")


def resolve(agent: str, args: argparse.Namespace) -> tuple[RunConfig, Any]:
    """The settings of a single training: defaults < preset < file < flags.

    Raises:
        ConfigError: anything unknown, out of range or contradictory.
    """
    agent_class = settings_class(agent)
    known = {**field_docs(RunConfig), **field_docs(agent_class)}
    from_file = load_yaml(args.config, known) if args.config else {}
    return layered(agent, {**from_file, **given(args, RunConfig), **given(args, agent_class)}, args.preset)


def layered(agent: str, chosen: Mapping[str, Any], preset_choice: str) -> tuple[RunConfig, Any]:
    """What was ``chosen`` over the preset over the defaults, as settings of the run and of the agent.

    Raises:
        ConfigError: naming everything that is out of range or contradictory.
    """
    values = {**preset_for(agent, preset_choice, chosen.get("env")), **chosen}
    problems: list[str] = []
    built: list[Any] = []
    for cls in (RunConfig, settings_class(agent)):
        names = field_docs(cls)
        try:
            built.append(build(cls, {name: value for name, value in values.items() if name in names}))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    run, config = built
    check_together(agent, run, config)
    return run, config


def check_together(agent: str, run: RunConfig, config: Any) -> None:
    """Refuse settings of a run and of its agent that do not fit each other."""
    if agent.startswith("sb3:"):
        check_sb3_settings(agent, config)
        if run.diagnose:
            raise ConfigError(f"{agent}: diagnose: expected no, got yes; only our agents announce their gradient steps")
        if run.frame_stack > 1:
            raise ConfigError(f"{agent}: frame_stack: expected 1, got {run.frame_stack}; only our agents see several")
    if isinstance(config, PPOConfig):
        check_batch_size(config.batch_size, config.n_steps, run.n_envs)


def preset_for(agent: str, choice: str, env: str | None) -> dict[str, Any]:
    """The preset that ``--preset`` means: that of the env, none, or another env's."""
    if choice == "none" or (choice == "auto" and env is None):
        return {}
    agent = agent.removeprefix("sb3:").lower()
    known = PRESETS.get(agent, {})
    if choice != "auto" and choice not in known:
        raise ConfigError(
            f"--preset: expected auto, none or one of {', '.join(known)}, got {choice!r}{suggestion(choice, known)}"
        )
    return preset(agent, str(env) if choice == "auto" else choice)


def check_environment(run: RunConfig, config: Any) -> float | None:
    """Make the environment once, without torch, so that a mistake in it is told before anything is written.

    Returns:
        The return from which its authors call it solved, if they said so.
    """
    from entropic_rl.environments import check_backend, import_gym_packages, make_env
    from entropic_rl.families import check_entropy
    from entropic_rl.spaces import check_features, observation_spec

    import_gym_packages(run.gym_packages)
    check_backend(run.env, run.env_kwargs, run.env_backend, wrappers=run.env_wrappers)
    env = make_env(run.env, run.env_kwargs, wrappers=run.env_wrappers)
    try:
        observation = observation_spec(env.observation_space).stacked(run.frame_stack)
        check_features(getattr(config, "features", "auto"), observation)
        action = action_head(config, env.action_space)
        if hasattr(config, "entropy"):
            check_entropy(config, action)
        return None if env.spec is None else env.spec.reward_threshold
    finally:
        env.close()


def check_device(device: str) -> None:
    """Refuse what is no device, and CUDA on a CPU build of torch, without importing it; the rest is checked on loading.

    Raises:
        ConfigError: in one line.
    """
    build(RunConfig, {"env": "-", "device": device})
    version = metadata.version("torch")
    if device.startswith("cuda") and version.endswith("+cpu"):
        raise ConfigError(f"--device {device} is not available here (torch {version} is a CPU build); use --device cpu")


def say_preset(args: argparse.Namespace, run: RunConfig) -> None:
    """A line that says where the settings came from, if from a preset."""
    if args.progress and preset_for(args.agent, args.preset, run.env):
        name = run.env if args.preset == "auto" else args.preset
        print(f"starting from the preset for {name}; --preset none for the plain defaults", file=sys.stderr)


def show_config(agent: str, run: RunConfig, config: Any, swept: Mapping[str, Any] | None = None) -> int:
    """Print the settings as a file that ``--config`` reads, lists for what is swept."""
    import yaml

    print(f"# {agent}: the resolved settings; save them and pass the file as --config")
    print(yaml.safe_dump(jsonable(run) | jsonable(config) | dict(swept or {}), sort_keys=False), end="")
    return 0
