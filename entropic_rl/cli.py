"""The command line: ``train``, ``compare`` and ``evaluate``; ``scripts/*.py`` are doors to the same verbs.

Settings are read and checked before torch is imported, so that ``--help`` and every mistake answer at once. Exit codes:
0 done, 2 a mistake of the user's (one line says which), 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS, PPOConfig, check_batch_size
from entropic_rl.config import RunConfig, build, field_docs, jsonable, load_yaml, suggestion
from entropic_rl.errors import ConfigError, UserError
from entropic_rl.flags import Parser, add_settings, given
from entropic_rl.presets import PRESETS, preset
from entropic_rl.run_directory import check_run_directory
from entropic_rl.schedules import Schedule

__all__ = ["add_common_flags", "main", "resolve"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, *, verb: str | None = None) -> int:
    """Run one verb and return the exit code.

    Args:
        arguments: the command line; None reads ``sys.argv``.
        verb: fixed for the scripts; None takes it from the first argument.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prog = "entropic-rl" if verb is None else f"{verb}.py"
    try:
        if verb is None:
            verb, arguments = _choose_verb(arguments)
            prog = f"entropic-rl {verb}"
        return _VERBS[verb](prog, arguments)
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def train(prog: str, arguments: Sequence[str]) -> int:
    """Train one agent and leave a run directory."""
    parser = _agent_parser(
        prog,
        "Train an actor-critic agent with an entropy term on a Gymnasium environment.",
        "%(prog)s ppo --env CartPole-v1 --ent-coef 0.01",
    )
    for name, sub in parser.subparsers.items():
        sub.add_argument("--run-dir", type=Path, help="where the record goes [runs/ENV__AGENT__SEED__TIME]")
        add_common_flags(sub)
        add_settings(sub, RunConfig, "run")
        add_settings(sub, AGENT_CONFIGS[name], f"{name} hyper-parameters")
    args = parser.parse(arguments)
    run, config = resolve(args.agent, args)
    if args.show_config:
        return _show_config(args.agent, run, config)
    directory = args.run_dir or _default_directory(args.agent, run)
    check_run_directory(directory)
    _check_environment(run, config)
    check_device(run.device)

    import torch

    from entropic_rl import agents
    from entropic_rl.progress import print_summary
    from entropic_rl.runs import Cell, train_cells

    agent_class = getattr(agents, args.agent.upper())
    _say_preset(args, run)
    torch.set_num_threads(run.num_threads)
    [summary] = train_cells(args.agent, agent_class, [Cell(run, config, directory)], progress=args.progress)
    print_summary(summary, directory)
    return 0


def compare(prog: str, arguments: Sequence[str]) -> int:
    """Train coefficients x seeds as one batch and lay the results side by side."""
    parser = _agent_parser(
        prog,
        "Compare exploration across entropy coefficients: coefficients x seeds train as one batch.",
        "%(prog)s ppo --env CartPole-v1 --ent-coef 0 0.01 0.1 --seeds 4 --out DIR",
    )
    for name, sub in parser.subparsers.items():
        sub.add_argument("--ent-coef", nargs="+", required=True, metavar="X", dest="ent_coefs",
                         help=field_docs(AGENT_CONFIGS[name])["ent_coef"])  # fmt: skip
        sub.add_argument("--seeds", type=int, default=4, metavar="N", help="runs per coefficient: --seed, +1, ... [4]")
        sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything goes; new or empty")
        sub.add_argument("--threshold", type=float, metavar="X",
                         help="return that counts as learned [the env's own reward threshold]")  # fmt: skip
        add_common_flags(sub)
        add_settings(sub, RunConfig, "run")
        add_settings(sub, AGENT_CONFIGS[name], f"{name} hyper-parameters", skip=("ent_coef",))
    args = parser.parse(arguments)
    run, config = resolve(args.agent, args)
    if args.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {args.seeds}")
    build(RunConfig, {"env": run.env, "seed": run.seed + args.seeds - 1})  # the last seed has to be one, too
    if args.seeds < 2:
        print(f"{prog}: warning: one seed shows no spread; give --seeds 4 or more", file=sys.stderr)
    configs = [build(type(config), jsonable(config) | {"ent_coef": coef}) for coef in args.ent_coefs]
    coefs = [c.ent_coef for c in configs]
    if repeated := {coef for coef in coefs if coefs.count(coef) > 1}:
        raise ConfigError(
            f"--ent-coef: expected different coefficients, got {Schedule.parse(repeated.pop())} more than once"
        )
    if args.show_config:
        return _show_config(args.agent, run, configs[0])
    check_run_directory(args.out)
    env_threshold = _check_environment(run, config)
    check_device(run.device)
    threshold = env_threshold if args.threshold is None else args.threshold

    import torch

    from entropic_rl import agents
    from entropic_rl.compare.grid import make_cells
    from entropic_rl.compare.report import write_report
    from entropic_rl.runs import train_cells

    run = replace(run, wandb_group=run.wandb_group or args.out.name)
    cells = make_cells(run, configs, args.seeds, args.out)
    started = time.perf_counter()
    _say_preset(args, run)
    torch.set_num_threads(run.num_threads)
    summaries = train_cells(args.agent, getattr(agents, args.agent.upper()), cells, progress=args.progress)
    seconds = time.perf_counter() - started
    write_report(args.agent, cells, summaries, args.out, threshold=threshold, seconds=seconds)
    return 0


def evaluate(prog: str, arguments: Sequence[str]) -> int:
    """Evaluate the policy of a run directory on fresh episodes."""
    parser = Parser(prog=prog, description="Evaluate a trained policy on whole fresh episodes; returns are raw.")
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="directory of a finished training")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="episodes to run [100]")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    parser.add_argument("--seed", type=int, default=20_000, metavar="N", help="seed of starts and noise [20000]")
    parser.add_argument("--env", metavar="ID", help="another environment with the same spaces [the training's]")
    parser.add_argument("--gym-packages", nargs="*", default=(), metavar="NAME",
                        help="packages that register environments, to import first [the training's]")  # fmt: skip
    parser.add_argument("--max-steps", type=int, default=10_000, metavar="N", help="cut episodes off there [10000]")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="auto, cpu, cuda or cuda:N [cpu]")
    parser.add_argument("--render", action="store_true", help="show the episodes in a window")
    parser.add_argument("--video", type=Path, metavar="DIR", help="write one mp4 per episode into DIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse(arguments)
    if args.episodes < 1:
        raise ConfigError(f"--episodes: expected at least 1, got {args.episodes}")
    if args.max_steps < 1:
        raise ConfigError(f"--max-steps: expected at least 1, got {args.max_steps}")
    if args.seed < 0:
        raise ConfigError(f"--seed: expected at least 0, got {args.seed}")
    if args.seed >= 2**63:
        raise ConfigError(f"--seed: expected less than 2^63, got {args.seed}")
    check_device(args.device)
    if args.render and args.video:
        raise ConfigError("--render and --video: expected one of them, got both; record first, watch later")

    from entropic_rl.evaluate_run import evaluate_directory

    result = evaluate_directory(
        args.run_dir,
        episodes=args.episodes,
        deterministic=not args.stochastic,
        seed=args.seed,
        env=args.env,
        max_steps=args.max_steps,
        device=args.device,
        render=args.render,
        video=args.video,
        gym_packages=args.gym_packages,
    )
    if args.json:
        print(json.dumps(result))
    else:
        low, high = result["interval"]
        print(
            f"{result['env']}: {result['mean_reward']:.2f} +- {result['std_reward']:.2f} over {result['episodes']} "
            f"{'stochastic' if args.stochastic else 'deterministic'} episodes "
            f"(95 % interval of the mean [{low:.2f}, {high:.2f}])"
        )
    return 0


_VERBS: dict[str, Callable[[str, Sequence[str]], int]] = {"train": train, "compare": compare, "evaluate": evaluate}


def _agent_parser(prog: str, description: str, example: str) -> Parser:
    """A parser with one sub-parser per agent, so that ``VERB AGENT --help`` shows that agent's own flags."""
    parser = Parser(
        prog=prog,
        description=description,
        epilog=f"example: {example}   ({prog} ppo --help lists every setting)",
    )
    choices = parser.add_subparsers(dest="agent", required=True, metavar="AGENT", parser_class=Parser)
    parser.subparsers = {
        name: choices.add_parser(name, help=str(cls.__doc__), description=f"{description} {cls.__doc__}")
        for name, cls in AGENT_CONFIGS.items()
    }
    return parser


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


def _choose_verb(arguments: list[str]) -> tuple[str, list[str]]:
    parser = Parser(
        prog="entropic-rl", description="Entropy-regularised learning.", usage="%(prog)s {train,compare,evaluate} ..."
    )
    parser.add_argument("--version", action="version", version=metadata.version("entropic-rl"))
    parser.add_argument("verb", choices=list(_VERBS), help="what to do; each has its own --help")
    if arguments and arguments[0] in _VERBS:
        return arguments[0], arguments[1:]
    return parser.parse(arguments[:1]).verb, arguments[1:]


def resolve(agent: str, args: argparse.Namespace) -> tuple[RunConfig, Any]:
    """The settings: defaults < preset < file < flags.

    Raises:
        ConfigError: anything unknown, out of range or contradictory.
    """
    agent_class = AGENT_CONFIGS[agent]
    run_fields, agent_fields = field_docs(RunConfig), field_docs(agent_class)
    from_file = load_yaml(args.config, {**run_fields, **agent_fields}) if args.config else {}
    flags = given(args, RunConfig) | given(args, agent_class)
    env = flags.get("env", from_file.get("env"))
    values = {**preset_for(agent, args.preset, env), **from_file, **flags}
    problems: list[str] = []
    built: list[Any] = []
    for cls, names in ((RunConfig, run_fields), (agent_class, agent_fields)):
        try:
            built.append(build(cls, {name: value for name, value in values.items() if name in names}))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    run, config = built
    if isinstance(config, PPOConfig):
        check_batch_size(config.batch_size, config.n_steps, run.n_envs)
    return run, config


def preset_for(agent: str, choice: str, env: str | None) -> dict[str, Any]:
    """The preset that ``--preset`` means: that of the env, none, or another env's."""
    if choice == "none" or (choice == "auto" and env is None):
        return {}
    if choice == "auto":
        return preset(agent, str(env))
    if choice not in PRESETS[agent]:
        known = ", ".join(PRESETS[agent])
        raise ConfigError(
            f"--preset: expected auto, none or one of {known}, got {choice!r}{suggestion(choice, PRESETS[agent])}"
        )
    return preset(agent, choice)


def _check_environment(run: RunConfig, config: Any) -> float | None:
    """Make the environment once, without torch, so that a mistake in it is told before anything is written.

    Returns:
        The return from which its authors call it solved, if they said so.
    """
    from entropic_rl.environments import import_gym_packages, make_env
    from entropic_rl.spaces import action_spec, observation_spec

    import_gym_packages(run.gym_packages)
    env = make_env(run.env, run.env_kwargs)
    try:
        observation_spec(env.observation_space)
        action_spec(env.action_space, squash_output=config.squash_output)
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


def _say_preset(args: argparse.Namespace, run: RunConfig) -> None:
    if args.progress and preset_for(args.agent, args.preset, run.env):
        name = run.env if args.preset == "auto" else args.preset
        print(f"starting from the preset for {name}; --preset none for the plain defaults", file=sys.stderr)


def _default_directory(agent: str, run: RunConfig) -> Path:
    name = f"{run.env.replace('/', '-')}__{agent}__{run.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    return Path("runs") / name


def _show_config(agent: str, run: RunConfig, config: Any) -> int:
    import yaml

    print(f"# {agent}: the resolved settings; save them and pass the file as --config")
    print(yaml.safe_dump(jsonable(run) | jsonable(config), sort_keys=False), end="")
    return 0
