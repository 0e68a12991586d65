"""Command line of the measurements of environments."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS, PPOConfig
from entropic_rl.config import RunConfig, build, field_docs, jsonable
from entropic_rl.errors import ConfigError
from entropic_rl.flags import add_settings
from entropic_rl.resolve import add_common_flags, resolve

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parsers of this group."""
    environments = choices.add_parser("environments", help="steps/s of the batched environments beside Gymnasium's")
    environments.add_argument("--envs", nargs="+", metavar="ID", default=["CartPole-v1", "Pendulum-v1"],
                              help="[CartPole-v1 Pendulum-v1]")  # fmt: skip
    environments.add_argument("--copies", nargs="+", type=int, metavar="N", default=[1, 8, 64, 512, 4096],
                              help="[1 8 64 512 4096]")  # fmt: skip
    environments.add_argument("--rounds", type=int, default=5, metavar="N", help="measurements of each, in turn [5]")
    environments.add_argument("--no-compile", dest="compile", action="store_false", help="leave the compiled one out")
    environments.add_argument("--no-peers", dest="peers", action="store_false", help="leave Gymnasium out")
    deep_sea = choices.add_parser(
        "deepsea", help="bsuite's DeepSea score by coefficient; --agent random for the 2^N law"
    )
    deep_sea.add_argument("--agent", choices=(*AGENT_CONFIGS, "random"), default="ppo", help="[ppo]")
    deep_sea.add_argument("--ent-coef", nargs="+", metavar="X", dest="ent_coefs", default=["0"], help="[0]")
    deep_sea.add_argument("--sizes", nargs="+", type=int, metavar="N",
                          help="grid sizes [10 12 ... 50; for --agent random 4 6 8 10]")  # fmt: skip
    deep_sea.add_argument("--seeds", type=int, default=1, metavar="N", help="runs per coefficient and size [1]")
    deep_sea.add_argument("--runs", type=int, default=2000, metavar="N", help="runs of --agent random [2000]")
    deep_sea.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    add_common_flags(deep_sea)
    unused = [name for name in field_docs(RunConfig) if name not in ("seed", "n_envs")]
    add_settings(deep_sea, RunConfig, "run", skip=unused)
    add_settings(deep_sea, PPOConfig, "hyper-parameters", skip=("ent_coef",))
    checkpoints = choices.add_parser("checkpoints", help="what checkpoints, and episodes that can be replayed, cost")
    checkpoints.add_argument("--envs", nargs="*", metavar="ID", default=["CartPole-v1", "LunarLander-v3", "Hopper-v5"],
                             help="[CartPole-v1 LunarLander-v3 Hopper-v5]")  # fmt: skip
    checkpoints.add_argument("--steps", type=int, default=5000, metavar="N", help="env steps per round [5000]")
    checkpoints.add_argument("--rounds", type=int, default=9, metavar="N", help="measurements of each [9]")
    guards = choices.add_parser("guards", help="what looking at every answer, number and gradient costs a training")
    guards.add_argument("--rounds", type=int, default=7, metavar="N", help="pairs of trainings of each [7]")
    pictures = choices.add_parser("pictures", help="draw the environments and what randomness does in them")
    pictures.add_argument("--envs", nargs="*", metavar="ID", default=[], help="[all that are batched]")
    pictures.add_argument("--out", type=Path, default=Path("docs/images"), metavar="DIR", help="[docs/images]")


def _environments(args: Namespace) -> int:
    import gymnasium as gym
    import torch

    from entropic_rl.benchmarks.environments import measure, speed_table
    from entropic_rl.environments import choose_backend

    if min(args.copies) < 1 or args.rounds < 1:
        raise ConfigError("--copies and --rounds: expected at least 1")
    torch.set_num_threads(1)
    for env_id in args.envs:
        if choose_backend(env_id) != "batched":
            raise ConfigError(f"--envs: {env_id} has no batched version to measure")
        peers = ["batched"] + ["batched, compiled"] * args.compile
        if args.peers and not env_id.startswith("entropic_rl/"):  # of those Gymnasium has none of its own
            peers.append("Gymnasium sync")
            peers += ["Gymnasium vector"] * (gym.spec(env_id).vector_entry_point is not None)
        results = {n: measure(env_id, n, peers, rounds=args.rounds) for n in args.copies}
        print(speed_table(env_id, results), end="\n\n", flush=True)
    return 0


def _deep_sea(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks import deep_sea

    torch.set_num_threads(1)
    sizes = args.sizes or ([4, 6, 8, 10] if args.agent == "random" else list(range(10, 51, 2)))
    if min(sizes) < 2 or args.seeds < 1 or args.runs < 2:
        raise ConfigError("--sizes and --runs: expected at least 2, --seeds: at least 1")
    if args.agent == "random":
        if max(sizes) > 16:
            raise ConfigError(f"--sizes: chance takes 2^N episodes; expected at most 16 for it, got {max(sizes)}")
        for size in sizes:
            print(deep_sea.uniform_law(size, deep_sea.first_successes(size, args.runs)), flush=True)
        return 0
    from entropic_rl import agents

    args.env, args.ent_coef = "entropic_rl/DeepSea-v0", args.ent_coefs[0]
    run, config = resolve(args.agent, args)
    configs = [build(type(config), jsonable(config) | {"ent_coef": coef}) for coef in args.ent_coefs]
    results = []
    for size in sizes:
        results += deep_sea.play(getattr(agents, args.agent.upper()), run, configs, size, args.seeds)
        print(deep_sea.score_table(results[-len(configs) * args.seeds :]), end="\n\n", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps({"n_envs": run.n_envs, "configs": [jsonable(c) for c in configs], "results": results}, indent=1)
        )
    if len(sizes) > 1:
        print(deep_sea.score_table(results))
    return 0


def _pictures(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.pictures import draw_environments

    torch.set_num_threads(1)
    draw_environments(args.out, args.envs)
    return 0


def _checkpoints(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.checkpoints import CASES, DEFAULT_SECONDS, checkpoint_rows, tape_row

    if args.rounds < 1:
        raise ConfigError(f"--rounds: expected at least 1, got {args.rounds}")
    torch.set_num_threads(1)
    print(f"| training | MB on disk | one checkpoint, ms (range) | share at one per {DEFAULT_SECONDS:.0f} s |")
    print("| --- | --- | --- | --- |")
    for row in checkpoint_rows(CASES, n=args.rounds, kept_seconds=DEFAULT_SECONDS):
        print("|", " | ".join(row), "|", flush=True)
    print("\n| environment | us per step | with a tape | added (range) |\n| --- | --- | --- | --- |")
    for env_id in args.envs:
        print("|", " | ".join(tape_row(env_id, steps=args.steps, rounds=args.rounds)), "|", flush=True)
    return 0


def _guards(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.guards import CASES, guard_row

    if args.rounds < 1:
        raise ConfigError(f"--rounds: expected at least 1, got {args.rounds}")
    torch.set_num_threads(1)
    print("| training | CPU seconds without | guards add (range) |\n| --- | --- | --- |")
    for name, (agent, settings) in CASES.items():
        print("|", " | ".join([name, *guard_row(agent, settings, args.rounds)]), "|", flush=True)
    return 0


MEASUREMENTS = {
    "environments": _environments,
    "deepsea": _deep_sea,
    "pictures": _pictures,
    "checkpoints": _checkpoints,
    "guards": _guards,
}
