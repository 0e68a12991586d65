"""Trainings in processes of their own, as every measurement of several toolkits starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from entropic_rl.errors import UserError

__all__ = ["COMPARE", "train_apart"]

COMPARE = (sys.executable, "-c", "import sys; from entropic_rl.cli import main; sys.exit(main(verb='compare'))")
"""What ``python scripts/compare.py`` is, wherever the package is installed."""


def train_apart(worker: str, peer: str, task: Mapping[str, Any], *, threads: int) -> dict[str, Any]:
    """Have ``python -m WORKER PEER`` do a task; what it says of it.

    Args:
        worker: a module that reads the task as JSON from its input and prints its result as JSON, in one line, last.
        peer: who trains: a name that the worker knows.
        task: what to train.
        threads: of the process, for all libraries that ask the environment for a number.

    Raises:
        UserError: it failed.
    """
    process = subprocess.run(
        [sys.executable, "-m", worker, peer],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
    )
    if process.returncode != 0:
        raise UserError(f"the training by {peer} failed: {' '.join(process.stderr.strip().splitlines()[-1:])}")
    return json.loads(process.stdout.splitlines()[-1])
