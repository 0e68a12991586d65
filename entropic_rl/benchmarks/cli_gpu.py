"""Command line of the measurements that need a GPU."""

from __future__ import annotations

from argparse import Namespace
from importlib.util import find_spec
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["MEASUREMENTS", "add"]


def add(choices: Any) -> None:
    """Add the parser."""
    gpu = choices.add_parser("gpu", help="batches of runs, LeanRL's settings and the entropy operator on a GPU")
    gpu.add_argument("--runs", nargs="+", type=int, default=[1, 2048], metavar="N", help="of a batch [1 2048]")
    gpu.add_argument("--updates", type=int, default=10, metavar="N", help="that are timed, after five [10]")
    gpu.add_argument("--classes", nargs="+", type=int, default=[2, 1024, 50_257], metavar="N",
                     help="of the operator's logits [2 1024 50257]")  # fmt: skip
    gpu.add_argument("--megabytes", type=int, default=1024, metavar="N", help="of them [1024]")


def _gpu(args: Namespace) -> int:
    if min(*args.runs, *args.classes, args.updates, args.megabytes) < 1:
        raise ConfigError("every number: expected at least 1")
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"gpu: expected a CUDA device, there is none here (torch {torch.__version__})")
    from entropic_rl.benchmarks.gpu import batch_table, leanrl_table, operator_table

    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    shapes = [(max(args.megabytes * 2**18 // n, 1), n) for n in args.classes]
    for table in (
        batch_table(args.runs, args.updates, device, _sb3_rate()),
        leanrl_table(args.updates, device),
        operator_table(shapes, device),
    ):
        for line in table:
            print(line, flush=True)
        print()
    return 0


def _sb3_rate() -> float | None:
    """Env steps per second of Stable-Baselines3's PPO on CartPole, RL Zoo's settings, on one core; None without it."""
    if find_spec("stable_baselines3") is None:
        return None
    from entropic_rl.benchmarks.peers.processes import train
    from entropic_rl.benchmarks.peers.tasks import TASKS

    return train("sb3", TASKS["ppo"].job({}, seed=0), threads=1).rate


MEASUREMENTS = {"gpu": _gpu}
