"""What a comparison costs: beside Stable-Baselines3, over the number of runs, and in memory."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from entropic_rl.benchmarks.fresh_process import COMPARE, train_apart
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.errors import UserError

__all__ = ["batch_speed", "beside_sb3", "compare", "memory_table"]

_COEFFICIENTS = ("0", "0.0001", "0.001", "0.003", "0.01", "0.03", "0.1", "0.3")

# Each a case that another part of the memory dominates.
_SHAPES: dict[str, list[str]] = {
    "2 runs, CartPole preset": ["ppo", "--seeds", "2"],
    "32 runs, CartPole preset": ["ppo", "--seeds", "32"],
    "256 runs, CartPole preset": ["ppo", "--seeds", "256"],
    "32 runs, rollouts of 16,384": ["ppo", "--seeds", "32", "--preset", "none", "--n-envs", "8", "--n-epochs", "1",
                                    "--total-timesteps", "16384"],
    "64 runs, wide networks": ["ppo", "--seeds", "64", "--preset", "none", "--n-envs", "4", "--n-steps", "512",
                               "--batch-size", "512", "--n-epochs", "1", "--net-arch", "256", "256"],
    "8 runs, 512 x 512": ["ppo", "--seeds", "8", "--net-arch", "512", "512"],
    "64 runs of A2C": ["a2c", "--seeds", "64"],
}  # fmt: skip


def beside_sb3(run: RunConfig, config: Any, *, n_seeds: int, n_pairs: int, n_workers: int) -> str:
    """The whole comparison, process start to report, and Stable-Baselines3's time for the same runs, as text.

    Stable-Baselines3 trains ``n_workers`` processes at a time; ``n_pairs`` such rounds are timed, spread over the
    coefficients, and scaled to all runs.
    """
    n_runs = len(_COEFFICIENTS) * n_seeds
    rounds = -(-n_runs // n_workers)
    theirs = [_sb3_round(run, config, i, n_workers) for i in range((n_pairs + 1) // 2)]
    numbers = {"--seeds": n_seeds, "--workers": n_workers, "--total-timesteps": run.total_timesteps}
    flags = [word for flag, value in numbers.items() for word in (flag, str(value))]
    seconds, session = _session(["ppo", "--env", run.env, "--ent-coef", *_COEFFICIENTS, *flags])
    theirs += [_sb3_round(run, config, i, n_workers) for i in range(len(theirs), n_pairs)]
    whole = statistics.mean(theirs) * rounds
    peak, estimate = session["memory_peak"], session["memory_estimate"]
    return "\n".join(
        [
            f"{n_runs} runs ({len(_COEFFICIENTS)} coefficients x {n_seeds} seeds), {run.total_timesteps:,} steps each, "
            f"{n_workers} processes:",
            f"  entropic_rl        {seconds:7.1f} s, process start to report, "
            f"{session['env_steps'] / seconds:,.0f} steps/s",
            f"  Stable-Baselines3  {whole:7.1f} s, from {n_pairs} rounds of {n_workers} at a time "
            f"({min(theirs):.1f} to {max(theirs):.1f} s each) x {rounds / n_pairs:g}; without evaluation and report",
            f"  ratio {whole / seconds:.2f};  memory {peak / 2**20:.0f} MiB at the peak, {estimate / 2**20:.0f} "
            f"estimated ({estimate / peak - 1:+.0%})",
        ]
    )


def batch_speed(run: RunConfig, config: Any, sizes: Sequence[int], rounds: int) -> str:
    """Env steps/s of a whole batch over its number of runs, in one process of one thread, as a Markdown table."""
    from entropic_rl.agents import agent_class
    from entropic_rl.cell import Cell
    from entropic_rl.runs import train_cells

    def speed(n_runs: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            cells = [Cell("ppo", replace(run, seed=i), config, Path(folder) / str(i)) for i in range(n_runs)]
            return n_runs * float(train_cells(agent_class("ppo"), cells)[0]["time/fps"])

    found: dict[int, list[float]] = {n: [] for n in sizes}
    for _ in range(rounds):
        for n_runs in sizes:
            found[n_runs].append(speed(n_runs))
    first = statistics.median(found[sizes[0]])
    lines = ["| runs | steps/s of all together: median (lowest, highest) | of one run |", "| --- | --- | --- |"]
    for n_runs, speeds in found.items():
        middle = statistics.median(speeds)
        lines.append(f"| {n_runs} | {middle:,.0f} ({min(speeds):,.0f}, {max(speeds):,.0f}) | {middle / first:.2f} x |")
    return "\n".join(lines)


def memory_table() -> str:
    """Estimated and measured memory of batches of several shapes, as a Markdown table."""
    lines = ["| batch | estimate (MiB) | peak (MiB) | |", "| --- | --- | --- | --- |"]
    for name, flags in _SHAPES.items():
        length = [] if "--total-timesteps" in flags else ["--total-timesteps", "2048"]
        _, session = _session([*flags, "--env", "CartPole-v1", "--ent-coef", "0", *length, "--parallel", "batch"])
        estimate, peak = session["memory_estimate"] / 2**20, session["memory_peak"] / 2**20
        lines.append(f"| {name} | {estimate:,.0f} | {peak:,.0f} | {estimate / peak - 1:+.0%} |")
    return "\n".join(lines)


def compare(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds of a comparison as a user starts it, to its report, and the MiB (or NaN) of its workers at most."""
    seconds, session = _session(arguments)
    return seconds, (session["memory_peak"] or math.nan) / 2**20


def _session(arguments: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Seconds of a comparison as a user starts it, and what it says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        started = time.perf_counter()
        command = [*COMPARE, *arguments, "--out", str(out), "--no-progress"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            raise UserError(f"the comparison failed: {done.stderr.strip().splitlines()[-1:]}")
        return seconds, json.loads((out / "sessions.jsonl").read_text().splitlines()[-1])


def _sb3_round(run: RunConfig, config: Any, number: int, n_workers: int) -> float:
    """Seconds until so many trainings by Stable-Baselines3, begun together in processes of one thread, have ended."""
    coefficient = float(_COEFFICIENTS[number * 3 % len(_COEFFICIENTS)])

    def train(seed: int) -> None:
        settings = {**jsonable(run), "seed": seed, "num_threads": 1, "device": "cpu", "eval_episodes": 1}
        task = {"agent": "ppo", "run": settings, "config": {**jsonable(config), "ent_coef": coefficient}}
        train_apart("entropic_rl.benchmarks.worker", "sb3", task, threads=1)

    started = time.perf_counter()
    with ThreadPoolExecutor(n_workers) as pool:
        list(pool.map(train, range(number * n_workers, (number + 1) * n_workers)))
    return time.perf_counter() - started
