"""Rounds in which every peer has its turn, and the tables they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

import numpy as np

from entropic_rl.benchmarks.comparison import compare
from entropic_rl.benchmarks.peers.processes import Measured, first_update, train, train_at_once
from entropic_rl.benchmarks.peers.tasks import COEFFICIENTS, PEERS, TASKS, kernel_of_long_runs

__all__ = ["comparison_table", "in_turn", "make_machine_code", "spread", "start_table", "training_table"]

T = TypeVar("T")
_N_SEEDS, _N_PROCESSES = 4, 2
_TWO_UPDATES = {"ppo": 512, "sac": 102}  # env steps that they take


def make_machine_code(own: Mapping[str, Any]) -> str:
    """Let ours be made, if it may be used, before anything is measured: it is kept. What was done, as a sentence."""
    if kernel_of_long_runs(own) == "autograd":
        return "Ours without machine code."
    short = {"kernel": "fused", "log_interval": 1}
    jobs = [TASKS[name].job({"total_timesteps": n, **short}, seed=0) for name, n in _TWO_UPDATES.items()]
    whole = sum(train("ours", job, threads=1).whole for job in jobs)
    return f"Our machine code was there before; trainings of two updates that make or load it took {whole:.0f} s."


def in_turn(peers: Sequence[str], rounds: int, measure: Callable[[str, int], T]) -> dict[str, list[T]]:
    """``measure(peer, round)`` of every peer, A B A B ..."""
    found: dict[str, list[T]] = {peer: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            found[peer].append(measure(peer, number))
    return found


def training_table(name: str, peers: Sequence[str], rounds: int, own: Mapping[str, Any]) -> str:
    """Trainings of a task by every peer, as a Markdown table."""
    task = TASKS[name]
    able = [peer for peer in task.peers if peer in peers]

    def measure(peer: str, number: int) -> Measured:
        return train(peer, task.job(_for(peer, own), seed=number * task.n_runs), threads=task.threads)

    found = in_turn(able, rounds, measure)
    lines = [
        "| | env steps/s of all runs | ours is faster by | first update after, s | peak memory, MiB | return |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for peer, each in found.items():
        ratios = [mine.rate / theirs.rate for mine, theirs in zip(found.get("ours", each), each, strict=True)]
        faster = "" if peer == "ours" else spread(ratios, ".2f")
        columns = [spread([m.rate for m in each], ",.0f"), faster, spread([m.start for m in each], ".1f"),
                   f"{max(m.peak for m in each):,.0f}", _returns(each)]  # fmt: skip
        lines.append(f"| {PEERS[peer][0]} | {' | '.join(columns)} |")
    return "\n".join(lines)


def comparison_table(peers: Sequence[str], rounds: int, own: Mapping[str, Any]) -> str:
    """All runs of a comparison by every peer, from the start of the first process to the end of the last."""
    task = TASKS["comparison"]
    cases = [(coefficient, seed) for coefficient in COEFFICIENTS for seed in range(_N_SEEDS)]
    shares = -(-len(cases) // _N_PROCESSES)

    def measure(peer: str, number: int) -> tuple[float, float]:
        """Seconds, and MiB of all processes together."""
        if peer == "ours":
            return compare([task.agent, *_words(own), "--ent-coef", *map(str, COEFFICIENTS),
                            "--seeds", str(_N_SEEDS), "--workers", str(_N_PROCESSES)])  # fmt: skip
        settings = _for(peer, own)
        if peer == "jax":
            jobs = [task.job(settings, 0, cases[i::_N_PROCESSES]) for i in range(_N_PROCESSES)]
            seconds, found = train_at_once(peer, jobs)
            return seconds, sum(m.peak for m in found)
        two = [cases[(number * 3 * _N_SEEDS + i) % len(cases)] for i in range(_N_PROCESSES)]
        seconds, found = train_at_once(peer, [task.job(settings, 0, [case]) for case in two])
        return shares * seconds, sum(m.peak for m in found)

    found = in_turn([peer for peer in task.peers if peer in peers], rounds, measure)
    lines = ["| | seconds for all runs | ours needs, of that | peak memory, MiB |", "| --- | --- | --- | --- |"]
    for peer, each in found.items():
        shares_of = [mine[0] / theirs[0] for mine, theirs in zip(found.get("ours", each), each, strict=True)]
        share = "" if peer == "ours" else spread(shares_of, ".2f")
        scaled = f" (two runs, x {shares})" if peer == "sb3" else ""
        memory = f"{max(memory for _, memory in each):,.0f}"
        lines.append(f"| {PEERS[peer][0]}{scaled} | {spread([s for s, _ in each], '.1f')} | {share} | {memory} |")
    return "\n".join(lines)


def start_table(rounds: int, own: Mapping[str, Any]) -> str:
    """Seconds until ``compare.py`` has done its first update."""
    words = [TASKS["start"].agent, *_words({"total_timesteps": 2048, **own}), "--ent-coef", "0", "0.01", "--seeds", "2",
             "--log-interval", "1", "--eval-episodes", "1"]  # fmt: skip
    seconds = [first_update(words) for _ in range(rounds)]
    return f"| | first update after, s |\n| --- | --- |\n| scripts/compare.py | {spread(seconds, '.1f')} |"


def spread(values: Sequence[float], form: str) -> str:
    """``median (lowest to highest)``."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _for(peer: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that concern a peer: the kernel is ours, that of long runs where they are cut short for the clock."""
    shared = {name: value for name, value in own.items() if name != "kernel"}
    return {**shared, "kernel": kernel_of_long_runs(own)} if peer == "ours" else shared


def _words(own: Mapping[str, Any]) -> list[str]:
    """Settings as flags of ``compare.py``."""
    chosen = {**TASKS["comparison"].chosen, **own}
    return [word for name, value in chosen.items() for word in ("--" + name.replace("_", "-"), str(value))]


def _returns(each: Sequence[Measured]) -> str:
    """Mean of all runs of all rounds, and the lowest and highest."""
    returns = np.concatenate([m.returns for m in each])
    if np.isnan(returns).all():
        return "no episode ended"
    return f"{np.nanmean(returns):.0f} ({np.nanmin(returns):.0f} to {np.nanmax(returns):.0f})"
