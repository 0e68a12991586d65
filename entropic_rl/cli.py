"""The command line: ``train``, ``compare``, ``evaluate``, ``calibrate``, ``active-learning``, ``robustness``,
``study``, ``wandb-push``.

``scripts/*.py`` are doors to the same verbs.

Settings are read and checked before torch is imported, so that ``--help`` and every mistake answer at once. Exit codes:
0 done, 2 a mistake of the user's or a full disk (one line says which), 75 stopped by a signal and ready to be resumed,
130 interrupted.
"""

from __future__ import annotations

import errno
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from entropic_rl.allocation import search_rarely
from entropic_rl.errors import ConfigError, UserError
from entropic_rl.flags import Parser
from entropic_rl.resolve import check_device

__all__ = ["main"]

_INTERRUPTED = 130
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # full, or failing


def main(arguments: Sequence[str] | None = None, *, verb: str | None = None) -> int:
    """Run one verb and return the exit code.

    Args:
        arguments: the command line; None reads ``sys.argv``.
        verb: fixed for the scripts; None takes it from the first argument.
    """
    if arguments is None:  # the process is ours
        search_rarely()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prog = "entropic-rl" if verb is None else f"{verb.replace('-', '_')}.py"
    try:
        if verb is None:
            verb, arguments = _choose_verb(arguments)
            prog = f"entropic-rl {verb}"
        return _VERBS[verb](prog, arguments)
    except UserError as error:
        line = " ".join(str(error).splitlines())  # a name may hold a line break
        print(f"{prog}: error: {line}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = f" {error.filename}" if error.filename else ""
        print(f"{prog}: error: cannot write{where}: {error.strerror}; make room and go on", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return _INTERRUPTED


def train(prog: str, arguments: Sequence[str]) -> int:
    """Train one agent and leave a run directory."""
    from entropic_rl.training_cli import train as run_training

    return run_training(prog, arguments)


def compare(prog: str, arguments: Sequence[str]) -> int:
    """Train a grid of settings x seeds and lay the results side by side."""
    from entropic_rl.compare.cli import compare as run_comparison

    return run_comparison(prog, arguments)


def evaluate(prog: str, arguments: Sequence[str]) -> int:
    """Evaluate the policy of a run directory on fresh episodes."""
    parser = Parser(prog=prog, description="Evaluate a trained policy on whole fresh episodes; returns are raw.")
    parser.add_argument("run_dir", type=Path, nargs="?", metavar="RUN_DIR", help="directory of a finished training")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="episodes to run [100]")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the likeliest")
    parser.add_argument("--seed", type=int, default=20_000, metavar="N", help="seed of starts and noise [20000]")
    parser.add_argument("--env", metavar="ID",
                        help="another environment with the same spaces, wrapped alike [the training's]")  # fmt: skip
    parser.add_argument("--gym-packages", nargs="*", default=(), metavar="NAME",
                        help="packages that register environments, to import first [the training's]")  # fmt: skip
    parser.add_argument("--max-steps", type=int, default=10_000, metavar="N", help="cut episodes off there [10000]")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="auto, cpu, cuda or cuda:N [cpu]")
    parser.add_argument("--render", action="store_true", help="show the episodes in a window")
    parser.add_argument("--video", type=Path, metavar="DIR", help="write one mp4 per episode into DIR")
    parser.add_argument("--suggest-ent-coef", nargs="?", type=float, const=0.03, metavar="SHARE",
                        help="propose a coefficient instead: that at which the entropy's gradient is SHARE of the "
                        "task's [0.03]")  # fmt: skip
    parser.add_argument("--replay", type=Path, metavar="FILE",
                        help="show instead what the numbers of a run broke on; FILE may be its directory")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse(arguments)
    if (args.run_dir is None) == (args.replay is None):
        raise ConfigError("expected RUN_DIR, or --replay FILE, and not both; see --help")
    if args.replay is not None:
        return _replay(args)
    if args.suggest_ent_coef is not None:
        return _suggest(args)
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


def _suggest(args: Namespace) -> int:
    """Print the coefficient that the gradients of a run propose."""
    if args.render or args.video or args.env or args.stochastic:
        raise ConfigError(
            "--suggest-ent-coef: expected no --env, --stochastic, --render or --video beside it; it samples actions on "
            "the environment of the training"
        )
    from entropic_rl.suggest import suggest_ent_coef

    found = suggest_ent_coef(args.run_dir, share=args.suggest_ent_coef, seed=args.seed)
    print(json.dumps(asdict(found)) if args.json else found)
    return 0


def _replay(args: Namespace) -> int:
    """Print every number on the way to a gradient that was not finite."""
    from entropic_rl.replay import replay

    found = replay(args.replay)
    print(json.dumps(found.to_json()) if args.json else found)
    return 0


def calibrate(prog: str, arguments: Sequence[str]) -> int:
    """Train classifiers over entropy coefficients, and report how honest their probabilities are."""
    from entropic_rl.calibrate.cli import calibrate as run_calibration

    return run_calibration(prog, arguments)


def robustness(prog: str, arguments: Sequence[str]) -> int:
    """Train classifiers over entropy coefficients, attack them, and report what withstands."""
    from entropic_rl.robustness.cli import robustness as run_attacks

    return run_attacks(prog, arguments)


def active_learning(prog: str, arguments: Sequence[str]) -> int:
    """Label a pool of one's own, the rows first that a classifier learns most from; or compare ways to choose them."""
    from entropic_rl.active.cli import active_learning as run_active_learning

    return run_active_learning(prog, arguments)


def study(prog: str, arguments: Sequence[str]) -> int:
    """Vary one setting of training over seeds, and say what it does."""
    from entropic_rl.studies.cli import study as run_study

    return run_study(prog, arguments)


def wandb_push(prog: str, arguments: Sequence[str]) -> int:
    """Write run directories as clean Weights & Biases runs."""
    from entropic_rl.wandb_push_cli import wandb_push as push_runs

    return push_runs(prog, arguments)


_VERBS: dict[str, Callable[[str, Sequence[str]], int]] = {
    "train": train,
    "compare": compare,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "active-learning": active_learning,
    "robustness": robustness,
    "study": study,
    "wandb-push": wandb_push,
}


def _choose_verb(arguments: list[str]) -> tuple[str, list[str]]:
    parser = Parser(
        prog="entropic-rl",
        description="Entropy-regularised learning.",
        usage=f"%(prog)s {{{','.join(_VERBS)}}} ...",
    )
    parser.add_argument("--version", action="version", version=metadata.version("entropic-rl"))
    parser.add_argument("verb", choices=list(_VERBS), help="what to do; each has its own --help")
    if arguments and arguments[0] in _VERBS:
        return arguments[0], arguments[1:]
    return parser.parse(arguments[:1]).verb, arguments[1:]
