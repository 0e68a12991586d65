"""A training in a process of its own, by whichever peer.

``python -m entropic_rl.benchmarks.peers.worker PEER`` reads ``{"job", "started", "cores", "threads"}`` as JSON from its
input and prints what :meth:`Clock.read` gives, with ``returns``: the mean return of each run's last 100 episodes.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from entropic_rl.allocation import keep_freed_memory
from entropic_rl.benchmarks.peers.clock import Clock
from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.errors import UserError

_TRAIN = {
    ("ours", "ppo"): ("toolkits", "train_ours"),
    ("ours", "sac"): ("toolkits", "train_ours"),
    ("sb3", "ppo"): ("toolkits", "train_sb3"),
    ("sb3", "sac"): ("toolkits", "train_sb3"),
    ("sbx", "ppo"): ("toolkits", "train_sbx"),
    ("sbx", "sac"): ("toolkits", "train_sbx"),
    ("cleanrl", "ppo"): ("cleanrl_ppo", "train"),
    ("cleanrl", "sac"): ("cleanrl_sac", "train"),
    ("jax", "ppo"): ("jax_ppo", "train"),
}


def main() -> None:
    """Read the job, train, print what was measured."""
    peer, task = sys.argv[1], json.load(sys.stdin)
    clock, job = Clock(task["started"]), Job.from_json(task["job"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task["cores"])  # JAX takes as many threads as there are cores
    keep_freed_memory()
    if peer != "jax":
        import torch

        torch.set_num_threads(task["threads"])
    module, function = _TRAIN[peer, job.agent]
    train = getattr(import_module(f"entropic_rl.benchmarks.peers.{module}"), function)
    last_step, returns = train(job, clock)
    print(json.dumps({**clock.read(len(job.seeds), last_step), "returns": returns}))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
