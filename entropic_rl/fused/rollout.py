"""Rollouts as machine code: policies act and environments answer, without returning in between."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from entropic_rl.fused.acting import Actor, act
from entropic_rl.fused.compilation import Booleans, Floats, Floats64, Integers, compiled, put

__all__ = ["Counts", "Taken", "World", "roll_runs"]


class World(NamedTuple):
    """Environments of all runs, N = R E copies side by side.

    Attributes:
        tables: of a :class:`entropic_rl.fused.programs.Program`.
        state: ``[S, N]``.
        age: ``[N]``, steps of the episodes so far.
        starts: ``[S, N * K]``, states that the next episodes begin in, K of each copy.
        next: ``[N]``, the column of the next one.
        last: ``[N]``, the last column that is the copy's; -1 if all episodes begin in the same state.
        u: ``[T', draws, N]``, random numbers of steps, from the current one on.
        limit: steps after which an episode is truncated.
        centre, half: ``[D]`` of the action space's bounds; empty for choices.
        first_choice: the number of the first one.
    """

    tables: Floats64
    state: Floats64
    age: Integers
    starts: Floats64
    next: Integers
    last: Integers
    u: Floats64
    limit: int
    centre: Floats64
    half: Floats64
    first_choice: int


class Taken(NamedTuple):
    """What is filled, ``[T, R, E, ...]`` each: see :class:`entropic_rl.buffers.Rollout`.

    Attributes:
        noise: ``[R, T, E, n_outputs]``, which is read.
        obs: ``[T + 1, R, E, D]``, of which the first row is read.
        choices: ``[T, R, E, C]``.
        numbers: ``[T, R, E, D]``.
        reward, terminated, truncated: as they came.
        starts: ``[T + 1, R, E]``.
        final_obs: ``[T, R, E, D]``, right where an episode ended.
    """

    noise: Floats
    obs: Floats
    choices: Integers
    numbers: Floats
    reward: Floats
    terminated: Booleans
    truncated: Booleans
    starts: Booleans
    final_obs: Floats


class Counts(NamedTuple):
    """Statistics of episodes, which go on: see :class:`entropic_rl.episodes.Episodes`.

    Attributes:
        total, length: ``[R, E]``, of episodes that have not ended.
        totals, lengths: ``[R, W + 1]``, of the W latest ones.
        n_finished, n_succeeded, first_success: ``[R]``.
        success: return from which an episode counts as a success; NaN if none does.
        n_steps: env steps of each run before the rollout.
    """

    total: Floats64
    length: Integers
    totals: Floats64
    lengths: Integers
    n_finished: Integers
    n_succeeded: Integers
    first_success: Integers
    success: float
    n_steps: int


@compiled
def roll_runs(
    step: Any,
    observe: Any,
    actor: Actor,
    params: Floats,
    world: World,
    taken: Taken,
    counts: Counts,
    times: Integers,
    begin: int,
    stop: int,
    first: int,
    last: int,
) -> None:
    """Let runs ``first`` to ``last`` act from the times in ``times [R]`` on, until ``stop`` or before.

    ``step`` and ``observe`` are the rules of their environments, a :class:`entropic_rl.fused.programs.Program`.
    ``begin`` is the time of the first numbers in ``world.u``. A run whose copies may need more first states than there
    are is left where it is; ``times`` tells where.
    """
    n = taken.obs.shape[2]
    units, reward = np.empty((n, actor.n_units), np.float32), np.empty(n, np.float32)
    terminated, action = np.empty(n, np.bool_), np.empty((n, max(len(world.centre), 1)))
    for run in range(first, last):
        column = run * n
        for t in range(times[run], stop):
            if _is_short(world, column, n):
                break
            obs, next_obs = taken.obs[t, run], taken.obs[t + 1, run]
            for b in range(n):
                put(units[b], obs[b])
            choices, numbers = taken.choices[t, run], taken.numbers[t, run]
            everything = np.empty((0, 0), np.bool_)
            act(actor, params[run], units, taken.noise[run, t], everything, choices, numbers)
            _to_env(world, choices, numbers, action)
            step(world.state, action, world.u[t - begin], world.tables, column, n, reward, terminated)
            observe(world.state, world.tables, column, n, next_obs)
            _end(observe, world, taken, t, run, reward, terminated)
            _count(counts, taken, t, run)
            times[run] = t + 1


@compiled
def _is_short(world: World, column: int, n: int) -> bool:
    """Whether there is a copy that has no first state beyond the next one."""
    n_short = 0
    for c in range(column, column + n):
        n_short += world.last[c] >= 0 and world.next[c] >= world.last[c]
    return n_short > 0


@compiled
def _to_env(world: World, choices: Integers, numbers: Floats, action: Floats64) -> None:
    """Actions as the environment takes them, in float64."""
    for b in range(len(action)):
        if len(world.centre) == 0:
            action[b, 0] = choices[b, 0] + world.first_choice
        for d in range(len(world.centre)):
            unit = float(numbers[b, d])
            unit = 0.0 if np.isnan(unit) else min(max(unit, -1.0), 1.0)  # of parameters that broke
            action[b, d] = float(np.float32(world.centre[d] + world.half[d] * unit))


@compiled
def _end(observe: Any, world: World, taken: Taken, t: int, run: int, reward: Floats, terminated: Booleans) -> None:
    """Write down what came of a step, and begin new episodes where one has ended."""
    n = len(reward)
    for b in range(n):
        c = run * n + b
        world.age[c] += 1
        truncated = world.age[c] >= world.limit
        ended = terminated[b] or truncated
        taken.reward[t, run, b], taken.terminated[t, run, b] = reward[b], terminated[b]
        taken.truncated[t, run, b], taken.starts[t + 1, run, b] = truncated, ended
        if not ended:
            continue
        put(taken.final_obs[t, run, b], taken.obs[t + 1, run, b])
        for s in range(len(world.state)):
            world.state[s, c] = world.starts[s, world.next[c]]
        if world.last[c] >= 0:
            world.next[c] += 1
        world.age[c] = 0
        observe(world.state, world.tables, c, 1, taken.obs[t + 1, run, b : b + 1])


@compiled
def _count(counts: Counts, taken: Taken, t: int, run: int) -> None:
    """Add a step to the statistics of a run."""
    n, window = counts.total.shape[1], counts.totals.shape[1] - 1
    for b in range(n):
        counts.total[run, b] += taken.reward[t, run, b]
        counts.length[run, b] += 1
        if not taken.starts[t + 1, run, b]:
            continue
        if counts.total[run, b] >= counts.success:
            counts.n_succeeded[run] += 1
            if counts.first_success[run] < 0:
                counts.first_success[run] = counts.n_steps + (t + 1) * n
        place = counts.n_finished[run] % window
        counts.totals[run, place], counts.lengths[run, place] = counts.total[run, b], counts.length[run, b]
        counts.n_finished[run] += 1
        counts.total[run, b], counts.length[run, b] = 0.0, 0
