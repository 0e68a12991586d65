"""Command line of the measurements behind ``docs/benchmarks.md``; ``benchmark.py --help`` lists them."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS, PPOConfig
from entropic_rl.allocation import keep_freed_memory
from entropic_rl.benchmarks import cli_active as active
from entropic_rl.benchmarks import cli_cost as cost
from entropic_rl.benchmarks import cli_curvature as curvature
from entropic_rl.benchmarks import cli_environments as environments
from entropic_rl.benchmarks import cli_few_labels as few_labels
from entropic_rl.benchmarks import cli_gpu as gpu
from entropic_rl.benchmarks import cli_kernel as kernel
from entropic_rl.benchmarks import cli_mathematics as mathematics
from entropic_rl.benchmarks import cli_peers as peers
from entropic_rl.benchmarks import cli_robustness as robustness
from entropic_rl.benchmarks import cli_studies as studies
from entropic_rl.benchmarks import cli_tracking as tracking
from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError, UserError
from entropic_rl.flags import Parser, add_settings
from entropic_rl.resolve import add_common_flags, resolve, show_config

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement and return the exit code."""
    parser = Parser(prog="benchmark.py", description="Measurements behind docs/benchmarks.md.")
    choices = parser.add_subparsers(dest="measurement", required=True, metavar="MEASUREMENT", parser_class=Parser)
    words = list(sys.argv[1:] if arguments is None else arguments)
    settings = _settings_of(words)
    _add_scores(choices, settings)
    environments.add(choices)
    _add_comparisons(choices, settings)
    mathematics.add(choices)
    active.add(choices)
    robustness.add(choices)
    few_labels.add(choices)
    studies.add(choices)
    curvature.add(choices)
    kernel.add(choices)
    gpu.add(choices)
    cost.add(choices)
    tracking.add(choices)
    peers.add(choices)
    try:
        args = parser.parse(words)
        if getattr(args, "show_config", False):
            agent = getattr(args, "agent", "ppo")
            return show_config(agent, *resolve(agent, args))
        return _MEASUREMENTS[args.measurement](args)
    except UserError as error:
        print(f"benchmark.py: error: {error}", file=sys.stderr)
        return 2


def _settings_of(words: Sequence[str]) -> type[Any]:
    """The settings class of the agent that is chosen among the words of a command line, PPO's if none is."""
    named = [word.partition("=")[2] or following for word, following in zip(words, [*words[1:], ""], strict=True)
             if word.partition("=")[0] == "--agent"]  # fmt: skip
    return AGENT_CONFIGS.get(named[-1], PPOConfig) if named else PPOConfig


def _add_scores(choices: Any, settings: type[Any]) -> None:
    sb3 = choices.add_parser("sb3", help="train beside Stable-Baselines3 with equal settings, one thread each, A B A B")
    sb3.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of each [5]")
    sb3.add_argument("--only", choices=("ours", "sb3"), help="leave the other one out")
    sb3.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time; 1 for speed [1]")
    sb3.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    sb3.add_argument("--agent", choices=tuple(AGENT_CONFIGS), default="ppo", help="[ppo]")
    add_common_flags(sb3)
    add_settings(sb3, RunConfig, "run")
    add_settings(sb3, settings, "hyper-parameters (of PPO unless --agent comes before --help)")
    scores = choices.add_parser("scores", help="print the files that sb3 --json wrote as one table of returns")
    scores.add_argument("files", nargs="+", type=Path, metavar="FILE")


def _add_comparisons(choices: Any, settings: type[Any]) -> None:
    meters = choices.add_parser("meters", help="what meters, record and --track add to the training time")
    meters.add_argument("--agent", choices=tuple(AGENT_CONFIGS), default="ppo", help="[ppo]")
    meters.add_argument("--runs", type=int, default=8, metavar="N", help="runs of the batch [8]")
    meters.add_argument("--rounds", type=int, default=5, metavar="N", help="pairs of trainings [5]")
    add_common_flags(meters)
    add_settings(meters, RunConfig, "run")
    add_settings(meters, settings, "hyper-parameters (of PPO unless --agent comes before --help)")
    comparison = choices.add_parser("comparison", help="8 coefficients x seeds, start to report, beside SB3's time")
    comparison.add_argument("--seeds", type=int, default=4, metavar="N", help="runs per coefficient [4]")
    comparison.add_argument("--sb3-rounds", type=int, default=4, metavar="N",
                            help="rounds of SB3 that are timed and scaled to all runs [4]")  # fmt: skip
    comparison.add_argument("--workers", type=int, default=2, metavar="N", help="processes at a time, of both [2]")
    add_common_flags(comparison)
    add_settings(comparison, RunConfig, "run", skip=("seed", "n_envs"))
    batch = choices.add_parser("batch", help="steps/s of a whole batch over its number of runs")
    batch.add_argument("--runs", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], metavar="N", help="[1 2 ... 32]")
    batch.add_argument("--rounds", type=int, default=3, metavar="N", help="trainings of each, in turn [3]")
    add_common_flags(batch)
    add_settings(batch, RunConfig, "run")
    add_settings(batch, PPOConfig, "hyper-parameters")
    optimality = choices.add_parser(
        "optimality", help="KL of trained policies to the exact solutions of two objectives"
    )
    optimality.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of each [5]")
    optimality.add_argument("--cases", nargs="+", metavar="NAME", help="[all]")
    observations = choices.add_parser("observations", help="returns with memory, several observations and pictures")
    observations.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each [3]")
    observations.add_argument("--cases", nargs="+", metavar="NAME", help="[all]")
    targets = choices.add_parser("targets", help="how well a target entropy is kept, by initial coefficient")
    targets.add_argument("--agent", choices=tuple(AGENT_CONFIGS), default="ppo", help="[ppo]")
    targets.add_argument("--env", default="CartPole-v1", metavar="ID", help="[CartPole-v1]")
    targets.add_argument("--target", type=float, default=0.5, metavar="NATS", help="[0.5]")
    targets.add_argument("--initial", nargs="+", type=float, default=[1e-4, 3e-3, 1e-1], metavar="X",
                         help="coefficients to begin with [0.0001 0.003 0.1]")  # fmt: skip
    targets.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of each [5]")
    updates = choices.add_parser("updates", help="gradient steps/s of SAC: SB3's, ours, ours in a batch; one thread")
    updates.add_argument("--widths", nargs="+", type=int, default=[64, 256], metavar="N",
                         help="of both hidden layers [64 256]")  # fmt: skip
    updates.add_argument("--runs", type=int, default=8, metavar="N", help="runs of the batch [8]")
    updates.add_argument("--updates", type=int, default=100, metavar="N", help="gradient steps per round [100]")
    updates.add_argument("--rounds", type=int, default=5, metavar="N", help="[5]")
    choices.add_parser("memory", help="estimated and measured memory of batches of several shapes")


def _sb3(args: Namespace) -> int:
    from entropic_rl.benchmarks.side_by_side import describe, run_side_by_side

    peers = (args.only,) if args.only else ("ours", "sb3")
    if "sb3" in peers and find_spec("stable_baselines3") is None:
        raise ConfigError('Stable-Baselines3 is not installed; run: pip install "entropic-rl[sb3]"')
    if args.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {args.seeds}")
    run, config = resolve(args.agent, args)
    seeds = range(run.seed, run.seed + args.seeds)
    print(f"{args.agent} on {run.env}, {run.total_timesteps:,} steps, seeds {seeds.start} to {seeds.stop - 1}")
    outcome = run_side_by_side(args.agent, run, config, seeds, peers=peers, jobs=args.jobs)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(outcome, indent=1) + "\n")
    print(describe(outcome))
    return 0


def _scores(args: Namespace) -> int:
    from entropic_rl.benchmarks.side_by_side import score_table

    try:
        print(score_table(json.loads(path.read_text()) for path in args.files))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"scores: expected files written by benchmark.py sb3 --json; {error!r}") from None
    return 0


def _meters(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.meters import meter_cost

    torch.set_num_threads(1)
    run, config = resolve(args.agent, args)
    print(meter_cost(args.agent, run, config, args.runs, args.rounds))
    return 0


def _comparison(args: Namespace) -> int:
    from entropic_rl.benchmarks.comparison import beside_sb3

    run, config = resolve("ppo", args)
    if min(args.seeds, args.sb3_rounds, args.workers) < 1:
        raise ConfigError("--seeds, --sb3-rounds and --workers: expected at least 1")
    print(beside_sb3(run, config, n_seeds=args.seeds, n_pairs=args.sb3_rounds, n_workers=args.workers))
    return 0


def _batch(args: Namespace) -> int:
    import torch

    from entropic_rl.benchmarks.comparison import batch_speed

    torch.set_num_threads(1)
    run, config = resolve("ppo", args)
    if min(*args.runs, args.rounds) < 1:
        raise ConfigError("--runs and --rounds: expected at least 1")
    print(batch_speed(run, config, args.runs, args.rounds))
    return 0


def _one_thread() -> None:
    """What a training's own process would do first."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(1)


def _optimality(args: Namespace) -> int:
    from entropic_rl.benchmarks.soft_optimality import CASES, optimality_table

    cases = _chosen_cases(args, CASES)
    _one_thread()
    print("largest (median) KL over the seeds, in nats, to\n")
    print("| case | temperature | entropy in | the regularised optimum | softmax(Q / temperature), its plain Q |")
    print("| --- | --- | --- | --- | --- |")
    for case in cases:
        print(optimality_table(case, args.seeds), flush=True)
    return 0


def _observations(args: Namespace) -> int:
    from entropic_rl.benchmarks.observations import CASES, observation_row

    cases = _chosen_cases(args, CASES)
    _one_thread()
    print("| case | env steps | return: median (every seed) | seconds |")
    print("| --- | --- | --- | --- |")
    for case in cases:
        print(observation_row(case, args.seeds), flush=True)
    return 0


def _chosen_cases(args: Namespace, known: Collection[str]) -> list[str]:
    unknown = sorted(set(args.cases or ()) - set(known))
    if unknown:
        raise ConfigError(f"--cases: expected some of {', '.join(map(repr, known))}; got {unknown[0]!r}")
    return list(args.cases or known)


def _targets(args: Namespace) -> int:
    from entropic_rl.benchmarks.target_entropy import target_table

    _one_thread()
    print(target_table(args.agent, {"env": args.env}, args.target, args.initial, args.seeds))
    return 0


def _updates(args: Namespace) -> int:
    from entropic_rl.benchmarks.updates import update_table

    _one_thread()
    print("| hidden layers | SB3, steps/s | ours, steps/s | ours / SB3 | a batch of runs / as many alone |")
    print("| --- | --- | --- | --- | --- |")
    for width in args.widths:
        print(update_table((width, width), args.runs, args.updates, args.rounds), flush=True)
    return 0


def _memory(_: Namespace) -> int:
    from entropic_rl.benchmarks.comparison import memory_table

    print(memory_table())
    return 0


_MEASUREMENTS = {
    **environments.MEASUREMENTS,
    **curvature.MEASUREMENTS,
    **few_labels.MEASUREMENTS,
    **kernel.MEASUREMENTS,
    **gpu.MEASUREMENTS,
    **cost.MEASUREMENTS,
    **mathematics.MEASUREMENTS,
    **peers.MEASUREMENTS,
    **active.MEASUREMENTS,
    **robustness.MEASUREMENTS,
    **studies.MEASUREMENTS,
    **tracking.MEASUREMENTS,
    "comparison": _comparison,
    "batch": _batch,
    "memory": _memory,
    "sb3": _sb3,
    "scores": _scores,
    "meters": _meters,
    "observations": _observations,
    "optimality": _optimality,
    "targets": _targets,
    "updates": _updates,
}
