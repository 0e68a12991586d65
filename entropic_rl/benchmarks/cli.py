"""Command line of the measurements: ``sb3`` (side by side), ``scores`` (their table), ``entropy`` (accuracy)."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from entropic_rl.agents.config import AGENT_CONFIGS, PPOConfig
from entropic_rl.cli import add_common_flags, resolve
from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError, UserError
from entropic_rl.flags import Parser, add_settings

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement and return the exit code."""
    parser = Parser(prog="benchmark.py", description="Measurements behind docs/benchmarks.md.")
    choices = parser.add_subparsers(dest="measurement", required=True, metavar="MEASUREMENT", parser_class=Parser)
    sb3 = choices.add_parser("sb3", help="train beside Stable-Baselines3 with equal settings, one thread each, A B A B")
    sb3.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of each [5]")
    sb3.add_argument("--only", choices=("ours", "sb3"), help="leave the other one out")
    sb3.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings at a time; 1 for speed [1]")
    sb3.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    sb3.add_argument("--agent", choices=tuple(AGENT_CONFIGS), default="ppo", help="[ppo]")
    add_common_flags(sb3)
    add_settings(sb3, RunConfig, "run")
    add_settings(sb3, PPOConfig, "hyper-parameters (A2C has the same but for minibatches, epochs and clipping)")
    scores = choices.add_parser("scores", help="print the files that sb3 --json wrote as one table of returns")
    scores.add_argument("files", nargs="+", type=Path, metavar="FILE")
    entropy = choices.add_parser("entropy", help="accuracy of float32 entropies against 50-digit arithmetic")
    entropy.add_argument("--rows", type=int, default=3000, metavar="N", help="random rows [3000]")
    try:
        args = parser.parse(sys.argv[1:] if arguments is None else arguments)
        return {"sb3": _sb3, "scores": _scores, "entropy": _entropy}[args.measurement](args)
    except UserError as error:
        print(f"benchmark.py: error: {error}", file=sys.stderr)
        return 2


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


def _entropy(args: Namespace) -> int:
    from entropic_rl.benchmarks.entropy_accuracy import accuracy_table, worst_errors

    print(accuracy_table())
    found = worst_errors(args.rows)
    print(f"\nlargest relative error over {found['rows']} random rows (negative values):")
    for name, error in found["worst"].items():
        print(f"  {name:22} {error:.1e}  ({found['negative'][name]} negative)")
    return 0
